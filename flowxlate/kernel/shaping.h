// SPDX-License-Identifier: Apache-2.0
// What limits the rate of a device's packets in the kernel, and what XDP
// executes passes by: OVS's ingress policing, which is a filter of TC's, and
// the queueing discipline that somebody (OVS's QoS, or tc) has chosen.
//
// Both hold in the kernel datapath.  In the userspace datapath packet sockets
// hear what enters before it is policed, but send through the queue, and
// AF_XDP sockets pass by either.
//
// Not thread-safe.
#ifndef FLOWXLATE_SHAPING_H
#define FLOWXLATE_SHAPING_H

#include <map>
#include <string>

#include "base/types.h"
#include "kernel/netlink.h"

namespace flowxlate {

struct Shaping {
    bool polices = false;  // What enters.
    std::string qdisc;     // For what leaves; empty: the kernel's default.

    bool operator==(const Shaping &) const = default;

    // "ingress policing and QoS (htb)"; empty if there is neither.
    std::string to_string() const;
};

class ShapingQueries {
public:
    Failure open();

    // Looks at the queueing disciplines of all devices, for what query()
    // answers from then on.
    Failure look();

    // Nothing is also what the kernel does not tell.
    Shaping query(Ifindex);

private:
    bool polices(Ifindex, uint16_t priority, const char *kind);

    NetlinkSocket socket_;
    uint32_t seq_ = 0;
    std::map<Ifindex, std::string> qdiscs_;
};

}  // namespace flowxlate

#endif
