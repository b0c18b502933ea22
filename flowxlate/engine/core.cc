// SPDX-License-Identifier: Apache-2.0
#include "engine/core.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <new>
#include <thread>
#include <utility>
#include <vector>

namespace flowxlate {

StateLock::~StateLock() {
    const Changes changes = std::exchange(core_.changes, {});
    core_.state_mutex_.unlock();
    core_.tell(changes);
}

// What others wait for comes first: without memory, lines of the log may be
// missing, and nothing else.
void Core::tell(const Changes &changed) const noexcept {
    if (changed.wakes_worker) {
        wake_worker();
    }
    try {
        for (auto &line : changed.lines) {
            log(line.level, line.text);
        }
    } catch (const std::bad_alloc &) {
    }
    if (changed.flows_lost) {
        host.notify.flows_lost();
    }
    if (changed.offer_again) {
        host.notify.offer_again();
    }
}

void Core::log(ovs_offload_log_level level, const std::string &line) const {
    host.notify.log(level, line);
}

void Core::wake_worker() const {
    const uint64_t one = 1;
    // Cannot fail but for an overflow, which wakes as well.
    (void)!write(wake_fd.get(), &one, sizeof one);
}

bool Core::visit_placed(
    const std::function<void(std::span<Flow *const>)> &visit) {
    constexpr size_t kBucketsAtATime = 1024;
    constexpr auto kPause = std::chrono::microseconds(100);
    std::vector<Flow *> placed;
    size_t n_buckets = 0;

    for (size_t begin = 0; begin == 0 || begin < n_buckets;
         begin += kBucketsAtATime) {
        if (begin) {
            std::this_thread::sleep_for(kPause);
        }
        StateLock lock(*this);
        auto &all = flows->by_ufid();
        if (begin && all.bucket_count() != n_buckets) {
            return false;
        }
        n_buckets = all.bucket_count();
        placed.clear();
        for (size_t b = begin;
             b < std::min(begin + kBucketsAtATime, n_buckets); b++) {
            for (auto it = all.begin(b); it != all.end(b); ++it) {
                if (it->second.is_placed()) {
                    placed.push_back(&it->second);
                }
            }
        }
        visit(placed);
    }
    return true;
}

std::array<uint64_t, XF_N_MISSES> Core::misses_of(const Port &port) const {
    std::array<uint64_t, XF_N_MISSES> misses;
    for (int reason = 0; reason < XF_N_MISSES; reason++) {
        misses[reason] = maps.misses(port.slot, xf_miss(reason));
    }
    return misses;
}

}  // namespace flowxlate
