// SPDX-License-Identifier: Apache-2.0
// Cases that time an XDP program, each after a look at whether the program
// does what is measured.  Their metrics are program_ns.NAME.
#ifndef TESTS_BENCH_PROGRAM_CASES_H
#define TESTS_BENCH_PROGRAM_CASES_H

#include <string>
#include <vector>

#include "measure.h"
#include "rivals.h"

namespace flowxlate::bench {

class ProgramCases {
public:
    explicit ProgramCases(const Options &options) : quick_(options.quick) {}

    void add(const std::string &name, int fd, const Frame &, uint32_t verdict);
    // The program is run by 'front', which must outlive this.
    void add_behind(Front *front, const std::string &name, int fd,
                    const Frame &);
    void add(const Case &c) { cases_.push_back(c); }
    const std::vector<Case> &all() const { return cases_; }

private:
    const bool quick_;
    std::vector<Case> cases_;
};

}  // namespace flowxlate::bench

#endif
