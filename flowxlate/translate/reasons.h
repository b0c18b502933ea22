// SPDX-License-Identifier: Apache-2.0
// Every reason for which a flow or a packet stays in OVS: its stable name,
// what it means and what can be done about it.
//
// A name is "group/what".  The groups:
//
//   match/, set/, action/  what the program cannot do, by field or action
//   input/, output/        where the flow enters or leaves
//   table/                 no room for the flow
//   malformed/             OVS handed over what is not well-formed
//   parked/                the flow was in XDP and has lost its place
//   waiting/               the flow is in XDP's tables, but its output port
//                          takes no frames now
//   miss/                  of packets: why one was passed to OVS
//
// docs/reasons.md is this table; tests/unit/reasons_test.cc keeps it so, and
// looks for reasons that the code gives and the table lacks.
#ifndef FLOWXLATE_REASONS_H
#define FLOWXLATE_REASONS_H

#include <span>
#include <string>
#include <string_view>

#include "base/types.h"
#include "bpf/abi/counters.h"

namespace flowxlate {

struct Reason {
    std::string name;
    std::string meaning;  // A sentence.
    std::string remedy;   // What the operator can do.
    // To paste; may be empty.  PORT stands for the flow's input port, OUTPORT
    // for the output port that the reason is about, FLOW for its match, N for
    // twice the room that there is for flows.
    std::string command;
};

// What is known of a flow for its reason's command; empty: not known.
struct Blanks {
    std::string port, out_port, flow;
    size_t max_flows = 0;
};

// The command with what is known filled in.
std::string fill_in(const std::string &command, const Blanks &);

// All of them, sorted by name.
std::span<const Reason> reasons();

// Null if there is none of this name.
const Reason *find_reason(std::string_view name);

// "no-flow", as xdp-offload/show has it; its reason is "miss/no-flow".
const char *miss_name(xf_miss);

}  // namespace flowxlate

#endif
