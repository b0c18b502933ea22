// SPDX-License-Identifier: Apache-2.0
// The header fields of a megaflow, one table for all: which bytes of which
// OVS_KEY_ATTR_* attribute are which bytes of struct xf_key, which packets
// have the field, and whether the program can write it.
//
// Matches and set actions are decoded from it, reasons take their names from
// it, and docs/supported.md is generated from it.  To add a field, add a row
// here and its parsing in bpf/packet/parse.h, and, to make it settable, its
// writing in bpf/act/fields.h.
#ifndef FLOWXLATE_FIELDS_H
#define FLOWXLATE_FIELDS_H

#include <linux/openvswitch.h>
#include <netinet/in.h>

#include <cstdint>
#include <span>

#include "base/types.h"

namespace flowxlate {

constexpr unsigned bit(xf_class c) { return 1U << c; }

// Which packets of its classes have a field.
enum class Has : uint8_t {
    kAll,
    kTcp,
    kUdp,
    kSctp,
    kIcmp,
    kIcmpv6,
    kNd,      // ICMPv6 neighbour solicitation or advertisement.
    kTunnel,  // Out of a tunnel, or of one over IPv4, or over IPv6.
    kTunnelIpv4,
    kTunnelIpv6,
};

// The IP protocol of these packets; 0 if it may be any.  Not all ICMPv6
// packets are kNd.
constexpr uint8_t ip_proto(Has has) {
    switch (has) {
        case Has::kAll:
        case Has::kTunnel:
        case Has::kTunnelIpv4:
        case Has::kTunnelIpv6:
            return 0;
        case Has::kTcp:
            return IPPROTO_TCP;
        case Has::kUdp:
            return IPPROTO_UDP;
        case Has::kSctp:
            return IPPROTO_SCTP;
        case Has::kIcmp:
            return IPPROTO_ICMP;
        case Has::kIcmpv6:
        case Has::kNd:
            return IPPROTO_ICMPV6;
    }
    return 0;
}

// Has a packet these fields that came out of a tunnel of 'family'
// (XF_TUNNEL_IPV4..., 0: out of none)?  True of fields that are of no tunnel.
constexpr bool may_have(Has has, uint8_t family) {
    return has == Has::kTunnel     ? family != 0
         : has == Has::kTunnelIpv4 ? family == XF_TUNNEL_IPV4
         : has == Has::kTunnelIpv6 ? family == XF_TUNNEL_IPV6
                                   : true;
}

// The 'size' bytes at 'attr_off' of the attribute are those at 'key_off' of
// struct xf_key.
struct Field {
    const char *name;
    uint16_t attr;  // OVS_KEY_ATTR_*, or in_tunnel().
    uint16_t attr_off;
    uint16_t size;
    int16_t key_off;   // kNotInKey: a flow that matches the field is refused.
    unsigned classes;  // bit() of the classes whose packets have the field.
    Has has = Has::kAll;
    bool settable = false;
};
constexpr int16_t kNotInKey = -1;

// 'attr' of what is in OVS_KEY_ATTR_TUNNEL: OVS_TUNNEL_KEY_ATTR_*, apart from
// the attributes of the outer level.
constexpr uint16_t in_tunnel(uint16_t type) { return 0x100 + type; }

// By attribute, then by offset.
std::span<const Field> fields();

// The field that has byte 'offset' of 'attr', or null.
const Field *field_at(uint16_t attr, size_t offset);

// What an attribute is called in a reason, how long it must be (0: any), and
// whether its bits are zero in every packet that enters the pipeline, so that
// a match on zero is fulfilled and needs no encoding.
struct AttrRule {
    const char *name = "unknown_attribute";
    uint16_t size = 0;
    bool zero_at_ingress = false;
};

// Attributes up to this one have a rule.
constexpr uint16_t kMaxAttr = OVS_KEY_ATTR_IPV6_EXTHDRS;
const AttrRule &rule_of(uint16_t attr);  // Of any number.

// The name of byte 'offset' of 'attr' in a reason: its field's, else the
// attribute's.
const char *name_at(uint16_t attr, size_t offset);

}  // namespace flowxlate

#endif
