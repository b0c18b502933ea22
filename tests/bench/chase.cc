// SPDX-License-Identifier: Apache-2.0
#include "chase.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <stdexcept>
#include <vector>

#include "measure.h"

namespace flowxlate::bench {

Chase::Chase(size_t bytes) {
    const Fd file(memfd_create("chase", MFD_CLOEXEC));  // No huge pages.
    if (!file || ftruncate(file.get(), static_cast<off_t>(bytes))) {
        throw std::runtime_error("no memory to walk through");
    }
    memory_ = Mapping(file.get(), bytes);
    if (!memory_) {
        throw std::runtime_error("no memory to walk through");
    }
    const auto lines = memory_.as<Line>(bytes / sizeof(Line));
    std::vector<size_t> order(lines.size());
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), std::mt19937_64(bytes));
    for (size_t i = 0; i < order.size(); i++) {
        lines[order[i]].next = &lines[order[(i + 1) % order.size()]];
    }
    here_ = &lines[order[0]];
}

double Chase::ns_per_step() {
    constexpr int kSteps = 1 << 18;
    auto walk = [&] {
        for (int i = 0; i < kSteps; i++) {
            here_ = *const_cast<Line *volatile *>(&here_->next);
        }
    };
    walk();  // What was in the caches goes.
    return elapsed_us(walk) * 1000 / kSteps;
}

}  // namespace flowxlate::bench
