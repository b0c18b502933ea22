// SPDX-License-Identifier: Apache-2.0
#include "program_cases.h"

#include <linux/bpf.h>

#include "rivals_abi.h"

namespace flowxlate::bench {

using namespace std::chrono_literals;

namespace {
constexpr uint32_t kFewRuns = 3;
}

void ProgramCases::add(const std::string &name, int fd, const Frame &in,
                       uint32_t verdict) {
    const std::string metric = "program_ns." + name;
    expect_verdict(metric, fd, in, verdict);
    expect_verdict(metric, fd, in, verdict, kFewRuns);
    const ProgramTimer timer(fd, in);
    const auto repeat = timer.runs_in(quick_ ? 5ms : 30ms);
    add({metric, "ns", [=] { return timer.ns_per_run(repeat); }});
}

void ProgramCases::add_behind(Front *front, const std::string &name, int fd,
                              const Frame &in) {
    const std::string metric = "program_ns." + name;
    front->set_program(fd);
    for (int i = 0; i < 1000; i++) {
        expect_verdict(metric, front->fd(), in, XDP_REDIRECT);
    }
    expect_verdict(metric, front->fd(), in, XDP_REDIRECT, kFewRuns);
    const uint32_t repeat = RIVAL_SEQUENCE * (quick_ ? 1 : 2);
    const ProgramTimer timer(front->fd(), in);
    auto sample = [=] {
        front->set_program(fd);
        // What the case before has left in the caches goes.
        timer.ns_per_run(RIVAL_SEQUENCE);
        return timer.ns_per_run(repeat);
    };
    add({metric, "ns", sample});
}

}  // namespace flowxlate::bench
