// SPDX-License-Identifier: Apache-2.0
#ifndef TESTS_BPF_ON_CPU_H
#define TESTS_BPF_ON_CPU_H

#include <sched.h>

namespace flowxlate::test {

// Keeps the calling thread on the 'n'th CPU that it may use, while this lives.
class OnCpu {
public:
    explicit OnCpu(int n) {
        sched_getaffinity(0, sizeof all_, &all_);
        const int count = CPU_COUNT(&all_);
        cpu_set_t one;
        CPU_ZERO(&one);
        for (int cpu = 0, seen = 0; cpu < CPU_SETSIZE; cpu++) {
            if (CPU_ISSET(cpu, &all_) && seen++ == n % count) {
                CPU_SET(cpu, &one);
            }
        }
        sched_setaffinity(0, sizeof one, &one);
    }
    ~OnCpu() { sched_setaffinity(0, sizeof all_, &all_); }

private:
    cpu_set_t all_;
};

}  // namespace flowxlate::test

#endif
