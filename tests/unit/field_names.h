// SPDX-License-Identifier: Apache-2.0
// The names that reasons have for the bytes of an attribute, once more and
// apart from flowxlate/translate/fields.cc: they are stable, since operators
// count them.
#ifndef TESTS_UNIT_FIELD_NAMES_H
#define TESTS_UNIT_FIELD_NAMES_H

#include <linux/openvswitch.h>

#include <cstdint>
#include <string>

namespace flowxlate::unit {

inline std::string field_name(uint16_t attr, size_t byte) {
    struct Name {
        uint16_t attr;
        size_t end;  // First byte that is no longer meant.
        const char *name;
    };
    constexpr size_t kRest = SIZE_MAX;
    static constexpr Name kNames[] = {
        {OVS_KEY_ATTR_ENCAP, kRest, "encap"},
        {OVS_KEY_ATTR_PRIORITY, kRest, "skb_priority"},
        {OVS_KEY_ATTR_IN_PORT, kRest, "in_port"},
        {OVS_KEY_ATTR_ETHERNET, 6, "eth_src"},
        {OVS_KEY_ATTR_ETHERNET, kRest, "eth_dst"},
        {OVS_KEY_ATTR_VLAN, kRest, "vlan"},
        {OVS_KEY_ATTR_ETHERTYPE, kRest, "eth_type"},
        {OVS_KEY_ATTR_IPV4, 4, "ipv4_src"},
        {OVS_KEY_ATTR_IPV4, 8, "ipv4_dst"},
        {OVS_KEY_ATTR_IPV4, 9, "ip_proto"},
        {OVS_KEY_ATTR_IPV4, 10, "ip_tos"},
        {OVS_KEY_ATTR_IPV4, 11, "ip_ttl"},
        {OVS_KEY_ATTR_IPV4, kRest, "ip_frag"},
        {OVS_KEY_ATTR_IPV6, 16, "ipv6_src"},
        {OVS_KEY_ATTR_IPV6, 32, "ipv6_dst"},
        {OVS_KEY_ATTR_IPV6, 36, "ipv6_label"},
        {OVS_KEY_ATTR_IPV6, 37, "ip_proto"},
        {OVS_KEY_ATTR_IPV6, 38, "ip_tos"},
        {OVS_KEY_ATTR_IPV6, 39, "ip_ttl"},
        {OVS_KEY_ATTR_IPV6, kRest, "ip_frag"},
        {OVS_KEY_ATTR_TCP, 2, "tcp_src"},
        {OVS_KEY_ATTR_TCP, kRest, "tcp_dst"},
        {OVS_KEY_ATTR_UDP, 2, "udp_src"},
        {OVS_KEY_ATTR_UDP, kRest, "udp_dst"},
        {OVS_KEY_ATTR_ICMP, 1, "icmp_type"},
        {OVS_KEY_ATTR_ICMP, kRest, "icmp_code"},
        {OVS_KEY_ATTR_ICMPV6, 1, "icmpv6_type"},
        {OVS_KEY_ATTR_ICMPV6, kRest, "icmpv6_code"},
        {OVS_KEY_ATTR_ARP, 4, "arp_spa"},
        {OVS_KEY_ATTR_ARP, 8, "arp_tpa"},
        {OVS_KEY_ATTR_ARP, 10, "arp_op"},
        {OVS_KEY_ATTR_ARP, 16, "arp_sha"},
        {OVS_KEY_ATTR_ARP, 22, "arp_tha"},
        {OVS_KEY_ATTR_ARP, kRest, "arp"},  // Padding.
        {OVS_KEY_ATTR_ND, 16, "nd_target"},
        {OVS_KEY_ATTR_ND, 22, "nd_sll"},
        {OVS_KEY_ATTR_ND, kRest, "nd_tll"},
        {OVS_KEY_ATTR_SKB_MARK, kRest, "skb_mark"},
        {OVS_KEY_ATTR_TUNNEL, kRest, "tunnel"},
        {OVS_KEY_ATTR_SCTP, 2, "sctp_src"},
        {OVS_KEY_ATTR_SCTP, kRest, "sctp_dst"},
        {OVS_KEY_ATTR_TCP_FLAGS, kRest, "tcp_flags"},
        {OVS_KEY_ATTR_DP_HASH, kRest, "dp_hash"},
        {OVS_KEY_ATTR_RECIRC_ID, kRest, "recirc_id"},
        {OVS_KEY_ATTR_MPLS, 4, "mpls_lse"},
        {OVS_KEY_ATTR_MPLS, kRest, "mpls"},  // Entries below.
        {OVS_KEY_ATTR_CT_STATE, kRest, "ct_state"},
        {OVS_KEY_ATTR_CT_ZONE, kRest, "ct_zone"},
        {OVS_KEY_ATTR_CT_MARK, kRest, "ct_mark"},
        {OVS_KEY_ATTR_CT_LABELS, kRest, "ct_labels"},
        {OVS_KEY_ATTR_CT_ORIG_TUPLE_IPV4, kRest, "ct_tuple4"},
        {OVS_KEY_ATTR_CT_ORIG_TUPLE_IPV6, kRest, "ct_tuple6"},
        {OVS_KEY_ATTR_NSH, kRest, "nsh"},
        {OVS_KEY_ATTR_PACKET_TYPE, kRest, "packet_type"},
        {OVS_KEY_ATTR_ND_EXTENSIONS, kRest, "nd_ext"},
    };
    for (const Name &n : kNames) {
        if (n.attr == attr && byte < n.end) {
            return n.name;
        }
    }
    return "unknown_attribute";
}

}  // namespace flowxlate::unit

#endif
