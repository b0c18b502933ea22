// SPDX-License-Identifier: Apache-2.0
#include "kernel/clock.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <cerrno>
#include <chrono>

#include "clock.skel.h"

namespace flowxlate {

uint64_t monotonic_ns(const xf_time &first, const xf_time &second,
                      uint64_t jiffies) {
    if (second.jiffies == first.jiffies) {
        return second.monotonic_ns;
    }
    const double tick =
        static_cast<double>(second.monotonic_ns - first.monotonic_ns)
        / static_cast<double>(second.jiffies - first.jiffies);
    // Signed: the time asked for may be on either side of the second reading.
    const auto ticks = static_cast<int64_t>(jiffies - second.jiffies);
    return second.monotonic_ns
         + static_cast<int64_t>(static_cast<double>(ticks) * tick);
}

Clock::Clock() = default;
Clock::~Clock() = default;

void Clock::Deleter::operator()(clock_bpf *s) const { clock_bpf::destroy(s); }

Failure Clock::open() {
    skeleton_.reset(clock_bpf::open_and_load());
    if (!skeleton_) {
        return failure(errno, "cannot load the program that reads the clock");
    }
    if (auto f = read(&first_)) {
        return f;
    }
    latest_ = first_;
    return {};
}

Failure Clock::read(xf_time *now) const {
    LIBBPF_OPTS(bpf_test_run_opts, opts, .ctx_in = now,
                .ctx_size_in = sizeof *now);
    const int fd = bpf_program__fd(skeleton_->progs.xf_read_clock);
    if (bpf_prog_test_run_opts(fd, &opts)) {
        return failure(errno, "cannot read the clock");
    }
    return {};
}

uint64_t Clock::monotonic_ns(uint64_t jiffies) {
    if (!jiffies) {
        return 0;
    }
    if (jiffies > latest_.jiffies && read(&latest_)) {
        // It cannot be told how long ago, but later than all that is known:
        // a flow in use must not seem idle.
        return std::chrono::nanoseconds(
                   std::chrono::steady_clock::now().time_since_epoch())
            .count();
    }
    return flowxlate::monotonic_ns(first_, latest_, jiffies);
}

uint64_t Clock::jiffies_at(uint64_t monotonic_ns) {
    constexpr double kShortestTickNs = 1e6;  // CONFIG_HZ=1000.
    (void)read(&latest_);
    double tick = kShortestTickNs;
    if (latest_.jiffies != first_.jiffies) {
        tick = static_cast<double>(latest_.monotonic_ns - first_.monotonic_ns)
             / static_cast<double>(latest_.jiffies - first_.jiffies);
    }
    const auto ns = static_cast<int64_t>(monotonic_ns - latest_.monotonic_ns);
    return latest_.jiffies
         + static_cast<int64_t>(static_cast<double>(ns) / tick);
}

}  // namespace flowxlate
