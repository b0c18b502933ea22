// SPDX-License-Identifier: Apache-2.0
// What tunnels cost in the XDP program: a packet of Geneve is taken out of one
// tunnel and put into another, so that each run finds what the one before has
// left.
//
//   tunnel.relay           without outer UDP checksums
//   tunnel.relay_checksum  with them: verified and computed from headers alone
//
//   tunnel.relay_of.N      each packet comes from the next of N remote ends,
//   in
//                          random order, with a flow and headers of its own;
//                          bare_tunnels.N is a redirect of the same packets
//
// Each is one look-up of the outer packet and one of what is in it, a parse of
// each, and the headers twice.
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
    explicit TunnelCost(int bare) : bare_(bare) {}
    void add(ProgramCases *);

private:
    void add_relay(const char *metric, bool has_checksum, ProgramCases *);
    void add_remotes(uint16_t n, ProgramCases *);

    const int bare_;
    std::vector<std::unique_ptr<test::Program>> ours_;
    std::vector<std::unique_ptr<Vary>> varies_;
};

}  // namespace flowxlate::bench

#endif
