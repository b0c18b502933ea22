// SPDX-License-Identifier: Apache-2.0
// Decoding a megaflow's match: OVS_KEY_ATTR_* attributes in, masked key out.
//
// Fail closed.  Every bit of the mask that is encoded is cleared from a copy
// of the mask.  What is left over at the end was not understood, and refuses
// the flow with the name of the field.  The table 'kFields' in match.cc says
// which bytes of which attribute go where; to add a match field, add a row
// there and the parsing of it in bpf/parse.h.
//
// A field that a packet does not have never matches as if it were zero: a
// field of a protocol is only encoded if the flow matches that protocol
// exactly (its Ethernet type, and its IP protocol where the field is above
// IP).
#ifndef FLOWXLATE_MATCH_H
#define FLOWXLATE_MATCH_H

#include "netlink_attr.h"
#include "types.h"

namespace flowxlate {

struct Match {
    xf_class cls{};
    xf_key key{};   // Masked, except in_port, which is 0: see in_port.
    xf_key mask{};  // in_port is 0 too.
    OdpPort in_port{};

    bool tagged() const { return key.vlan_tci != 0; }
};

// Decodes a flow's 'key' and 'mask'.  On success fills in '*match'; on failure
// its contents are unspecified.
Reject decode_match(Bytes key, Bytes mask, Match *match);

// Encodes those bytes of one attribute that are plain fields of every packet
// which 'match' matches into '*to_key' and '*to_mask', and clears them in
// 'left', a copy of the attribute's mask.
void encode_fields(const Match &match, uint16_t attr, Bytes key, Bytes mask,
                   xf_key *to_key, xf_key *to_mask, std::span<std::byte> left);

}  // namespace flowxlate

#endif
