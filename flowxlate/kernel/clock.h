// SPDX-License-Identifier: Apache-2.0
// From the kernel's jiffies, in which the XDP program notes a flow's last use,
// to CLOCK_MONOTONIC.
//
// The kernel derives jiffies from the monotonic clock, a fixed number of
// nanoseconds each, and tells user space neither their number nor their
// length.  A BPF program can read both clocks: the first reading is taken
// before any flow is used, another one whenever a later time is asked for, and
// the time is interpolated between the two.  The result is exact to a tick or
// two (at most 20 ms, for 100 ticks per second).
//
// Not thread-safe: the caller serializes the calls.
#ifndef FLOWXLATE_CLOCK_H
#define FLOWXLATE_CLOCK_H

#include <cstdint>
#include <memory>

#include "base/resource.h"
#include "base/types.h"
#include "bpf/abi/counters.h"

struct clock_bpf;  // The skeleton of bpf/clock.bpf.c.

namespace flowxlate {

// The time of 'jiffies' on the line through two readings; if both are of one
// tick, the time of the second.
uint64_t monotonic_ns(const xf_time &first, const xf_time &second,
                      uint64_t jiffies);

class Clock {
public:
    Clock();
    ~Clock();

    // Loads the program and takes the first reading.  Needs CAP_BPF.
    Failure open();

    // The CLOCK_MONOTONIC time in ns at which the kernel counted 'jiffies'; 0
    // for 0.  Costs a system call if this is later than all that it was asked
    // for, else a few ns.
    uint64_t monotonic_ns(uint64_t jiffies);

    // What the kernel will count, to some percent, at that CLOCK_MONOTONIC
    // time in the future.  Too late while both readings are of one tick.
    uint64_t jiffies_at(uint64_t monotonic_ns);

private:
    Failure read(xf_time *) const;

    struct Deleter {
        void operator()(clock_bpf *) const;
    };
    std::unique_ptr<clock_bpf, Deleter> skeleton_;
    xf_time first_{}, latest_{};
};

}  // namespace flowxlate

#endif
