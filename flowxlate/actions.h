// SPDX-License-Identifier: Apache-2.0
// Decoding a megaflow's actions: OVS_ACTION_ATTR_* attributes in, what the
// program does out.
//
// A list is taken as a whole or refused: the program must be able to complete
// every action of it before it changes the packet.
#ifndef FLOWXLATE_ACTIONS_H
#define FLOWXLATE_ACTIONS_H

#include "netlink_attr.h"
#include "types.h"

namespace flowxlate {

struct Actions {
    xf_verdict verdict = XF_DROP;
    xf_vlan_op vlan_op = XF_VLAN_NONE;
    __be16 vlan_tpid = 0;  // For PUSH and REPLACE.
    __be16 vlan_tci = 0;
    OdpPort out_port{};  // For XF_OUTPUT.
};

// Decodes 'actions' of a flow that matches packets with a VLAN tag if
// 'tagged', without one otherwise.  On success fills in '*out'.
Reject decode_actions(Bytes actions, bool tagged, Actions *out);

}  // namespace flowxlate

#endif
