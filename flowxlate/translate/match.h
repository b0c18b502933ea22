// SPDX-License-Identifier: Apache-2.0
// Decoding a megaflow's match: OVS_KEY_ATTR_* attributes in, masked key out.
//
// Fail closed.  Every bit of the mask that is encoded is cleared from a copy
// of the mask.  What is left over at the end was not understood, and refuses
// the flow with the name of the field.  The table in fields.h says which bytes
// of which attribute go where.
//
// A field that a packet does not have never matches as if it were zero: a
// field of a protocol is only encoded if the flow matches that protocol
// exactly (its Ethernet type, and its IP protocol where the field is above
// IP).  Two cases differ: an absent link-layer address option of Neighbour
// Discovery is zero, because it is for OVS; and a flow that does not care
// whether a packet is a later fragment, which has no transport header, gets
// all packets but those.  (OVS always cares.)
#ifndef FLOWXLATE_MATCH_H
#define FLOWXLATE_MATCH_H

#include "base/netlink_attr.h"
#include "base/types.h"

namespace flowxlate {

struct Match {
    xf_class cls{};
    xf_key key{};   // Masked, except in_port and recirc, which are 0 here.
    xf_key mask{};  // in_port and recirc are 0 too.
    OdpPort in_port{};
    uint32_t recirc_id = 0;
    unsigned n_tags = 0;  // VLAN tags that the flow knows of.
    // Are they matched, on zero?  Only the kernel datapath has any other.
    bool skb_mark = false, skb_priority = false;
};

// Does OVS look at "don't fragment" of what comes out of a tunnel over IPv4?
// Where it does not, it matches the flag all the same, as one that is never
// set.
enum class DontFragment : bool { kIsIgnored, kIsFound };

// Decodes a flow's 'key' and 'mask'.  On success fills in '*match'; on failure
// its contents are unspecified.
Reject decode_match(Bytes key, Bytes mask, Match *match,
                    DontFragment = DontFragment::kIsIgnored);

// Encodes those bytes of one attribute that are plain fields of every packet
// which 'match' matches into '*to_key' and '*to_mask', and clears them in
// 'left', a copy of the attribute's mask.
void encode_fields(const Match &match, uint16_t attr, Bytes key, Bytes mask,
                   xf_key *to_key, xf_key *to_mask, std::span<std::byte> left);

}  // namespace flowxlate

#endif
