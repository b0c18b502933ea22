// SPDX-License-Identifier: Apache-2.0
// Outer headers that OVS wants before a packet (tnl_push), in the layout of
// the tables.
//
// The program writes what depends on the packet, at places that it is told of;
// so it has to be known here which bytes are what.  Headers that are not
// plainly Ethernet, IPv4 without options or IPv6, and UDP are refused.
#ifndef FLOWXLATE_TUNNEL_H
#define FLOWXLATE_TUNNEL_H

#include "base/netlink_attr.h"
#include "base/types.h"
#include "bpf/abi/tunnel.h"

namespace flowxlate {

// Fills in '*tunnel', but for its source ports, and the datapath port whose
// headers these are, '*port', from the payload of an
// OVS_OFFLOAD_ACTION_TUNNEL_PUSH.  Refused: malformed/tnl_push,
// action/tnl_push_type, action/tnl_push_length.
Reject decode_tunnel_push(Bytes payload, xf_tunnel *tunnel, OdpPort *port);

// Puts a VLAN tag into the Ethernet header.  Refused if there is one already:
// action/third_vlan.
Reject push_outer_vlan(xf_tag, xf_tunnel *tunnel);

}  // namespace flowxlate

#endif
