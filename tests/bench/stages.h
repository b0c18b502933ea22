// SPDX-License-Identifier: Apache-2.0
// The program cut off after each of its steps (stages.bpf.c), on the tables of
// a test::Program.
#ifndef TESTS_BENCH_STAGES_H
#define TESTS_BENCH_STAGES_H

#include <cstdint>
#include <memory>

#include "tests/bpf/program.h"

struct stages_bpf;  // The skeleton of stages.bpf.c.

namespace flowxlate::bench {

class Stages {
public:
    // 'program' must outlive this.
    explicit Stages(const test::Program &program);
    ~Stages();

    int enter_fd() const;  // Finds its CPU's state, and redirects.
    int parse_fd() const;  // Parses before that,
    int hash_fd() const;   // and hashes the key for the flow cache,
    int find_fd() const;   // and looks the flow up.

    // What the whole does for a packet of IPv4 and UDP that the flow cache
    // knows, in a straight line, without any of its code.
    int shortest_fd() const;

    // The program 'fd', made slower by some steps.
    int detour_fd(int fd) const;
    void set_detour(uint32_t steps) const;

private:
    struct Deleter {
        void operator()(stages_bpf *) const;
    };
    std::unique_ptr<stages_bpf, Deleter> skeleton_;
};

}  // namespace flowxlate::bench

#endif
