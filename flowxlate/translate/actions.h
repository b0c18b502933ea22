// SPDX-License-Identifier: Apache-2.0
// Decoding a megaflow's actions: OVS_ACTION_ATTR_* attributes in, what the
// program does out.
//
// A list is taken as a whole or refused: the program must be able to complete
// every action of it before it changes the packet.  The table in actions.cc
// has all actions; the reason for which one is refused begins with "action/".
//
// Fields are set only where the match says that each packet has them: those of
// IP if the flow matches its Ethernet type, ports if it matches TCP or UDP
// exactly.  Fail closed, as in match.h: a mask bit that is not encoded refuses
// the flow, with the field's name ("set/sctp_src", see fields.h).  All sets
// are one in the end; bits that the match shows to be right already are left
// out of it, so that flows which differ in those share a rewrite.
#ifndef FLOWXLATE_ACTIONS_H
#define FLOWXLATE_ACTIONS_H

#include <boost/container/static_vector.hpp>

#include "base/netlink_attr.h"
#include "base/types.h"
#include "bpf/abi/tunnel.h"
#include "translate/match.h"

namespace flowxlate {

struct Actions {
    xf_verdict verdict = XF_DROP;
    unsigned n_pop = 0;  // VLAN tags taken off.
    boost::container::static_vector<xf_tag, XF_MAX_TAGS>
        push;  // Then put on, the innermost first.
    // For XF_OUTPUT (one of them) and XF_GROUP.  One port less than a group
    // has, for the input port.
    boost::container::static_vector<OdpPort, XF_GROUP_PORTS - 1> out_ports;
    uint32_t recirc_id = 0;  // For XF_RECIRC and XF_HASH_RECIRC.
    OdpPort pop{};           // For XF_POP: the tunnel port.
    bool tracks = false;     // Has a ct().
    xf_tunnel tunnel{};      // Headers put before the packet at last, if any.
    OdpPort tunnel_port{};   // The tunnel port whose headers these are.
    xf_rewrite rewrite{};
};

// Decodes 'actions' of a flow that matches 'match'.  On success fills in
// '*out'.
Reject decode_actions(Bytes actions, const Match &match, Actions *out);

// In the layout of the tables.  'to' is the slot of what the verdict names: a
// port, a group or a recirculation id.
xf_action to_xf_action(const Actions &, uint16_t to);

// One row of docs/supported.md.
struct ActionSupport {
    const char *name;
    bool supported;
    const char *remark;
};
std::span<const ActionSupport> action_support();

}  // namespace flowxlate

#endif
