// SPDX-License-Identifier: Apache-2.0
// Decoding a megaflow's actions: OVS_ACTION_ATTR_* attributes in, what the
// program does out.
//
// A list is taken as a whole or refused: the program must be able to complete
// every action of it before it changes the packet.
//
// Fields are set only where the match says that each packet has them: those of
// IP if the flow matches its Ethernet type, ports if it matches TCP or UDP
// exactly.  Fail closed, as in match.h: a mask bit that is not encoded refuses
// the flow, with the field's name ("set/ipv6_label", all in kFieldNames).  All
// sets are one in the end; bits that the match shows to be right already are
// left out of it, so that flows which differ in those share a rewrite.
#ifndef FLOWXLATE_ACTIONS_H
#define FLOWXLATE_ACTIONS_H

#include "match.h"
#include "netlink_attr.h"
#include "types.h"

namespace flowxlate {

struct Actions {
    xf_verdict verdict = XF_DROP;
    xf_vlan_op vlan_op = XF_VLAN_NONE;
    __be16 vlan_tpid = 0;  // For PUSH and REPLACE.
    __be16 vlan_tci = 0;
    OdpPort out_port{};    // For XF_OUTPUT.
    xf_rewrite rewrite{};  // Mask bits only for XF_OUTPUT.
};

// Decodes 'actions' of a flow that matches 'match'.  On success fills in
// '*out'.
Reject decode_actions(Bytes actions, const Match &match, Actions *out);

}  // namespace flowxlate

#endif
