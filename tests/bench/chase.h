// SPDX-License-Identifier: Apache-2.0
// A walk through memory in random order, each step a cache line whose address
// is read from the one before: the latency of as much memory, with pages of
// 4 KiB, as the kernel maps BPF arrays.
#ifndef TESTS_BENCH_CHASE_H
#define TESTS_BENCH_CHASE_H

#include <cstddef>

#include "flowxlate/base/resource.h"

namespace flowxlate::bench {

class Chase {
public:
    explicit Chase(size_t bytes);
    double ns_per_step();

private:
    struct Line {
        Line *next;
        char pad[56];
    };
    Mapping memory_;
    Line *here_;
};

}  // namespace flowxlate::bench

#endif
