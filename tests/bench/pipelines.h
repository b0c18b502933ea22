// SPDX-License-Identifier: Apache-2.0
// The work of the conntrack benchmark: pipelines of flows, of which some do
// ct() before they recirculate, connections for them, and packets of these.
//
// Each ct() is in a zone of its own, as OVN has one for each logical port and
// one or two for each router, so each is a look-up; and each flow has a mask
// of its own, as the tables of a pipeline look at different fields.
#ifndef TESTS_BENCH_PIPELINES_H
#define TESTS_BENCH_PIPELINES_H

#include <cstdint>
#include <string>
#include <vector>

#include "tests/bpf/program.h"

namespace flowxlate::bench {

struct Pipeline {
    uint8_t proto = IPPROTO_TCP;
    int n_flows = 1;       // All but the last one recirculate.
    int n_cts = 0;         // So many of these do ct() before that,
    bool has_nat = false;  // the first one ct(nat), which changes the source.

    std::string name() const;  // "tcp.4_flows.3_ct".
};

std::vector<test::FlowSpec> specs_of(const Pipeline &);

// A packet from this host, and the connections that are established when it
// comes: one in each zone.
constexpr uint32_t kPipelineSource = 0x0a000001;  // 10.0.0.1.
test::Frame pipeline_packet(const Pipeline &);
std::vector<ovs_offload_ct> connections_of(const Pipeline &,
                                           uint32_t source = kPipelineSource);

}  // namespace flowxlate::bench

#endif
