// SPDX-License-Identifier: Apache-2.0
#include "churn.h"

#include <stdexcept>

namespace flowxlate::bench {

using namespace std::chrono_literals;

void Churn::run(const std::stop_token &stop) noexcept {
    try {
        pin_to_cpu(0);
        us_ = elapsed_us([&] { work(stop); });
    } catch (...) {
        error_ = std::current_exception();
    }
}

void Churn::work(const std::stop_token &stop) {
    constexpr auto kTick = 1ms;
    constexpr uint32_t kPerTick = kChurnPerS / 1000;
    static uint32_t next = 1U << 30;  // No number comes twice.
    for (auto tick = Clock::now(); !stop.stop_requested(); tick += kTick) {
        for (uint32_t i = 0; i < kPerTick; i++) {
            target_.put(next + i);
        }
        for (uint32_t i = 0; i < kPerTick; i++) {
            target_.del(next + i);
        }
        next += kPerTick;
        n_ += kPerTick;
        std::this_thread::sleep_until(tick + kTick);
    }
}

double forwarding_rate(int program, const Frame &in,
                       std::chrono::nanoseconds duration) {
    // Short enough that grace periods, which wait for the end, are not held up
    // for longer than by a driver.
    constexpr uint32_t kBatch = 512;
    if (!pin_to_cpu(1)) {
        throw std::runtime_error("churn needs two CPUs");
    }
    const ProgramTimer timer(program, in);
    double ns = 0, batches = 0;
    for (auto end = Clock::now() + duration; Clock::now() < end; batches++) {
        ns += timer.ns_per_run(kBatch);
    }
    pin_to_cpu(0);
    return 1e9 * batches / ns;
}

}  // namespace flowxlate::bench
