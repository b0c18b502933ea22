// SPDX-License-Identifier: Apache-2.0
// From a filter of flower's to a flow of the library's: the attributes of
// <linux/openvswitch.h>, as struct ovs_offload_flow has them.
//
// The two differ in what a packet without a field does.  For flower the field
// is zero then, and a filter that wants zero matches; the library never
// matches a field that a packet does not have.  So a flow matches a part of
// what its filter matches, and the rest goes to TC, which executes it as ever:
//
//   - fragments, where ports, TCP flags or ICMP's type are compared: flower
//     looks at them in no fragment, and the flow takes none;
//   - later fragments, of any filter;
//   - what XDP does not parse: IP options, IPv6 extension headers, frames that
//     are cut off (docs/design.md); and MPLS in IP, which flower does not take
//     for IP;
//   - what follows ct, but for packets of connections that TC's own table of
//     them has (bpf/conn/kernel.h).
//
// Filters of other chains are flows with a recirculation id, the chain's
// number.
//
// A flow never matches what its filter does not.  The Ethernet type and the
// VLAN tags are matched exactly: "protocol ip" is of packets without a tag,
// and "protocol 802.1Q" of those with one or more, of which the flow takes
// those with one, or with two if the filter compares the type of a second one.
#ifndef FLOWERD_RULES_H
#define FLOWERD_RULES_H

#include <cerrno>
#include <cstddef>
#include <functional>
#include <vector>

#include "flowerd/filter.h"

namespace flowerd {

// As the library takes them.  Ports have the numbers of their devices.
struct Rule {
    std::vector<std::byte> key, mask, actions;

    bool operator==(const Rule &) const = default;
};

struct Surroundings {
    // Why XDP may not send to a device, if so.
    std::function<Reject(Ifindex)> check_output = [](Ifindex) {
        return Reject{"output", "not_ours", EOPNOTSUPP};
    };
    // Take filters of IP that compare no address for what they look like: see
    // filter.h.
    bool trusts_no_address = false;
    // Programs can ask nf_conntrack for connections.
    bool can_track = false;
};

// Refused is what XDP does not execute, with the reason.  One rule, or several
// that match a part each, where ports have ranges.
Reject translate(const Filter &, const Surroundings &, std::vector<Rule> *);

}  // namespace flowerd

#endif
