// SPDX-License-Identifier: Apache-2.0
// The part of ovs-offload-advise that uses the library: what it says of
// devices and flows, without loading a program or changing anything.
#ifndef TOOLS_ADVISE_JUDGE_H
#define TOOLS_ADVISE_JUDGE_H

#include <iosfwd>
#include <nlohmann/json.hpp>
#include <span>
#include <string>

namespace flowxlate::advise {

// What can be said of network devices of this namespace, by name: see
// devices.cc.
nlohmann::json judge_devices(std::span<const std::string> names);

// Takes the ports and flows of a host from 'in' into tables of memory alone.
// A line of 'in' is one of these, with tabs between:
//
//   port NUMBER TYPE      TYPE as OVS has it: of Geneve and VXLAN a tunnel
//   flow KEY MASK ACTIONS in hexadecimal digits, as a plugin gets them
//
// Ports that are to execute nothing are left out.  The answer has for each
// flow the reason for which it is refused, empty if it is not; what these
// reasons mean; and how much room the flows take.  'type' is that of the
// datapath, "netdev" or "system".  Throws std::invalid_argument.
nlohmann::json judge_flows(std::istream &in, const std::string &type);

}  // namespace flowxlate::advise

#endif
