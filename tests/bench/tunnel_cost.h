// SPDX-License-Identifier: Apache-2.0
// What tunnels cost in the XDP program: a packet of Geneve is taken out of one
// tunnel and put into another, so that each run finds what the one before has
// left.
//
//   tunnel.relay           without outer UDP checksums
//   tunnel.relay_checksum  with them: verified and computed from headers alone
//
// Both are one look-up of the outer packet and one of what is in it, a parse
// of each, and the headers twice.
#ifndef TESTS_BENCH_TUNNEL_COST_H
#define TESTS_BENCH_TUNNEL_COST_H

#include <memory>
#include <vector>

#include "program_cases.h"
#include "tests/bpf/program.h"

namespace flowxlate::bench {

// Owns what the cases run; must outlive them.
class TunnelCost {
public:
    void add(ProgramCases *);

private:
    void add_relay(const char *metric, bool has_checksum, ProgramCases *);

    std::vector<std::unique_ptr<test::Program>> ours_;
};

}  // namespace flowxlate::bench

#endif
