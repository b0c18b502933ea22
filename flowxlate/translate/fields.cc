// SPDX-License-Identifier: Apache-2.0
#include "translate/fields.h"

#include <array>

namespace flowxlate {
namespace {

constexpr unsigned kArp = bit(XF_CLASS_ARP);
constexpr unsigned kIpv4 = bit(XF_CLASS_IPV4);
constexpr unsigned kIpv6 = bit(XF_CLASS_IPV6);
constexpr unsigned kMpls = bit(XF_CLASS_MPLS);
constexpr unsigned kIp = kIpv4 | kIpv6;
constexpr unsigned kAny = (1U << XF_N_CLASSES) - 1;
constexpr bool kSettable = true;

#define IN_ATTR(STRUCT, MEMBER)                             \
    static_cast<uint16_t>(offsetof(struct STRUCT, MEMBER)), \
        static_cast<uint16_t>(sizeof(STRUCT::MEMBER))
#define IN_KEY(MEMBER) static_cast<int16_t>(offsetof(xf_key, MEMBER))

// VLAN tags, recirc_id, dp_hash and fragment types are not plain bytes:
// match.cc has functions for them.  Of 16-bit ICMP "ports" and of an ARP
// opcode, the low byte counts: the high one is zero in all packets that parse.
// clang-format off
constexpr Field kFields[] = {
    {"eth_src", OVS_KEY_ATTR_ETHERNET, IN_ATTR(ovs_key_ethernet, eth_src),
     IN_KEY(eth_src), kAny, Has::kAll, kSettable},
    {"eth_dst", OVS_KEY_ATTR_ETHERNET, IN_ATTR(ovs_key_ethernet, eth_dst),
     IN_KEY(eth_dst), kAny, Has::kAll, kSettable},

    {"ipv4_src", OVS_KEY_ATTR_IPV4, IN_ATTR(ovs_key_ipv4, ipv4_src),
     IN_KEY(ipv4_src), kIpv4, Has::kAll, kSettable},
    {"ipv4_dst", OVS_KEY_ATTR_IPV4, IN_ATTR(ovs_key_ipv4, ipv4_dst),
     IN_KEY(ipv4_dst), kIpv4, Has::kAll, kSettable},
    {"ip_proto", OVS_KEY_ATTR_IPV4, IN_ATTR(ovs_key_ipv4, ipv4_proto),
     IN_KEY(nw_proto), kIpv4},
    {"ip_tos", OVS_KEY_ATTR_IPV4, IN_ATTR(ovs_key_ipv4, ipv4_tos),
     IN_KEY(nw_tos), kIpv4, Has::kAll, kSettable},
    {"ip_ttl", OVS_KEY_ATTR_IPV4, IN_ATTR(ovs_key_ipv4, ipv4_ttl),
     IN_KEY(nw_ttl), kIpv4, Has::kAll, kSettable},
    {"ip_frag", OVS_KEY_ATTR_IPV4, IN_ATTR(ovs_key_ipv4, ipv4_frag),
     kNotInKey, kIpv4},

    {"ipv6_src", OVS_KEY_ATTR_IPV6, IN_ATTR(ovs_key_ipv6, ipv6_src),
     IN_KEY(ipv6_src), kIpv6, Has::kAll, kSettable},
    {"ipv6_dst", OVS_KEY_ATTR_IPV6, IN_ATTR(ovs_key_ipv6, ipv6_dst),
     IN_KEY(ipv6_dst), kIpv6, Has::kAll, kSettable},
    {"ipv6_label", OVS_KEY_ATTR_IPV6, IN_ATTR(ovs_key_ipv6, ipv6_label),
     IN_KEY(ipv6_label), kIpv6, Has::kAll, kSettable},
    {"ip_proto", OVS_KEY_ATTR_IPV6, IN_ATTR(ovs_key_ipv6, ipv6_proto),
     IN_KEY(nw_proto), kIpv6},
    {"ip_tos", OVS_KEY_ATTR_IPV6, IN_ATTR(ovs_key_ipv6, ipv6_tclass),
     IN_KEY(nw_tos), kIpv6, Has::kAll, kSettable},
    {"ip_ttl", OVS_KEY_ATTR_IPV6, IN_ATTR(ovs_key_ipv6, ipv6_hlimit),
     IN_KEY(nw_ttl), kIpv6, Has::kAll, kSettable},
    {"ip_frag", OVS_KEY_ATTR_IPV6, IN_ATTR(ovs_key_ipv6, ipv6_frag),
     kNotInKey, kIpv6},

    {"tcp_src", OVS_KEY_ATTR_TCP, IN_ATTR(ovs_key_tcp, tcp_src),
     IN_KEY(tp_src), kIp, Has::kTcp, kSettable},
    {"tcp_dst", OVS_KEY_ATTR_TCP, IN_ATTR(ovs_key_tcp, tcp_dst),
     IN_KEY(tp_dst), kIp, Has::kTcp, kSettable},
    {"udp_src", OVS_KEY_ATTR_UDP, IN_ATTR(ovs_key_udp, udp_src),
     IN_KEY(tp_src), kIp, Has::kUdp, kSettable},
    {"udp_dst", OVS_KEY_ATTR_UDP, IN_ATTR(ovs_key_udp, udp_dst),
     IN_KEY(tp_dst), kIp, Has::kUdp, kSettable},

    {"icmp_type", OVS_KEY_ATTR_ICMP, IN_ATTR(ovs_key_icmp, icmp_type),
     IN_KEY(tp_src) + 1, kIpv4, Has::kIcmp, kSettable},
    {"icmp_code", OVS_KEY_ATTR_ICMP, IN_ATTR(ovs_key_icmp, icmp_code),
     IN_KEY(tp_dst) + 1, kIpv4, Has::kIcmp, kSettable},
    {"icmpv6_type", OVS_KEY_ATTR_ICMPV6, IN_ATTR(ovs_key_icmpv6, icmpv6_type),
     IN_KEY(tp_src) + 1, kIpv6, Has::kIcmpv6, kSettable},
    {"icmpv6_code", OVS_KEY_ATTR_ICMPV6, IN_ATTR(ovs_key_icmpv6, icmpv6_code),
     IN_KEY(tp_dst) + 1, kIpv6, Has::kIcmpv6, kSettable},

    {"arp_spa", OVS_KEY_ATTR_ARP, IN_ATTR(ovs_key_arp, arp_sip),
     IN_KEY(ipv4_src), kArp, Has::kAll, kSettable},
    {"arp_tpa", OVS_KEY_ATTR_ARP, IN_ATTR(ovs_key_arp, arp_tip),
     IN_KEY(ipv4_dst), kArp, Has::kAll, kSettable},
    {"arp_op", OVS_KEY_ATTR_ARP, offsetof(ovs_key_arp, arp_op), 1,
     kNotInKey, kArp, Has::kAll, kSettable},
    {"arp_op", OVS_KEY_ATTR_ARP, offsetof(ovs_key_arp, arp_op) + 1, 1,
     IN_KEY(nw_proto), kArp, Has::kAll, kSettable},
    {"arp_sha", OVS_KEY_ATTR_ARP, IN_ATTR(ovs_key_arp, arp_sha),
     IN_KEY(arp_sha), kArp, Has::kAll, kSettable},
    {"arp_tha", OVS_KEY_ATTR_ARP, IN_ATTR(ovs_key_arp, arp_tha),
     IN_KEY(arp_tha), kArp, Has::kAll, kSettable},

    {"nd_target", OVS_KEY_ATTR_ND, IN_ATTR(ovs_key_nd, nd_target),
     IN_KEY(nd_target), kIpv6, Has::kNd, kSettable},
    {"nd_sll", OVS_KEY_ATTR_ND, IN_ATTR(ovs_key_nd, nd_sll),
     IN_KEY(nd_sll), kIpv6, Has::kNd, kSettable},
    {"nd_tll", OVS_KEY_ATTR_ND, IN_ATTR(ovs_key_nd, nd_tll),
     IN_KEY(nd_tll), kIpv6, Has::kNd, kSettable},

    {"sctp_src", OVS_KEY_ATTR_SCTP, IN_ATTR(ovs_key_sctp, sctp_src),
     IN_KEY(tp_src), kIp, Has::kSctp, kSettable},
    {"sctp_dst", OVS_KEY_ATTR_SCTP, IN_ATTR(ovs_key_sctp, sctp_dst),
     IN_KEY(tp_dst), kIp, Has::kSctp, kSettable},
    {"tcp_flags", OVS_KEY_ATTR_TCP_FLAGS, 0, 2,
     IN_KEY(tcp_flags), kIp, Has::kTcp},
    // The outermost entry.
    {"mpls_lse", OVS_KEY_ATTR_MPLS, 0, 4, IN_KEY(mpls_lse), kMpls},
    // Of the connection; the upper bytes of the state are zero.
    {"ct_state", OVS_KEY_ATTR_CT_STATE, 0, 2, IN_KEY(ct_state), kIp},
    {"ct_zone", OVS_KEY_ATTR_CT_ZONE, 0, 2, IN_KEY(ct_zone), kIp},
    {"ct_mark", OVS_KEY_ATTR_CT_MARK, 0, 4, IN_KEY(ct_mark), kIp},
    {"ct_labels", OVS_KEY_ATTR_CT_LABELS, 0, 16, IN_KEY(ct_label), kIp},
    // Of the tunnel that the packet came out of; the identifier is 64 bits.
    {"tun_id", in_tunnel(OVS_TUNNEL_KEY_ATTR_ID), 4, 4,
     IN_KEY(tun_id), kAny, Has::kTunnel},
    {"tun_src", in_tunnel(OVS_TUNNEL_KEY_ATTR_IPV4_SRC), 0, 4,
     IN_KEY(tun_ipv4_src), kAny, Has::kTunnelIpv4},
    {"tun_dst", in_tunnel(OVS_TUNNEL_KEY_ATTR_IPV4_DST), 0, 4,
     IN_KEY(tun_ipv4_dst), kAny, Has::kTunnelIpv4},
    {"tun_tos", in_tunnel(OVS_TUNNEL_KEY_ATTR_TOS), 0, 1,
     IN_KEY(tun_tos), kAny, Has::kTunnel},
    {"tun_ttl", in_tunnel(OVS_TUNNEL_KEY_ATTR_TTL), 0, 1,
     IN_KEY(tun_ttl), kAny, Has::kTunnel},
    {"tun_metadata", in_tunnel(OVS_TUNNEL_KEY_ATTR_GENEVE_OPTS), 0, 8,
     IN_KEY(tun_option), kAny, Has::kTunnel},
    {"tun_ipv6_src", in_tunnel(OVS_TUNNEL_KEY_ATTR_IPV6_SRC), 0, 16,
     IN_KEY(tun_ipv6_src), kAny, Has::kTunnelIpv6},
    {"tun_ipv6_dst", in_tunnel(OVS_TUNNEL_KEY_ATTR_IPV6_DST), 0, 16,
     IN_KEY(tun_ipv6_dst), kAny, Has::kTunnelIpv6},
};
// clang-format on

constexpr std::array<AttrRule, kMaxAttr + 1> make_rules() {
    std::array<AttrRule, kMaxAttr + 1> r{};
    r[OVS_KEY_ATTR_ENCAP] = {"encap"};
    r[OVS_KEY_ATTR_PRIORITY] = {"skb_priority", 4, true};
    r[OVS_KEY_ATTR_IN_PORT] = {"in_port", 4};
    r[OVS_KEY_ATTR_ETHERNET] = {"eth", sizeof(ovs_key_ethernet)};
    r[OVS_KEY_ATTR_VLAN] = {"vlan", 2};
    r[OVS_KEY_ATTR_ETHERTYPE] = {"eth_type", 2};
    r[OVS_KEY_ATTR_IPV4] = {"ipv4", sizeof(ovs_key_ipv4)};
    r[OVS_KEY_ATTR_IPV6] = {"ipv6", sizeof(ovs_key_ipv6)};
    r[OVS_KEY_ATTR_TCP] = {"tcp", sizeof(ovs_key_tcp)};
    r[OVS_KEY_ATTR_UDP] = {"udp", sizeof(ovs_key_udp)};
    r[OVS_KEY_ATTR_ICMP] = {"icmp", sizeof(ovs_key_icmp)};
    r[OVS_KEY_ATTR_ICMPV6] = {"icmpv6", sizeof(ovs_key_icmpv6)};
    r[OVS_KEY_ATTR_ARP] = {"arp", sizeof(ovs_key_arp)};
    r[OVS_KEY_ATTR_ND] = {"nd", sizeof(ovs_key_nd)};
    r[OVS_KEY_ATTR_SKB_MARK] = {"skb_mark", 4, true};
    r[OVS_KEY_ATTR_TUNNEL] = {"tunnel"};
    r[OVS_KEY_ATTR_SCTP] = {"sctp", sizeof(ovs_key_sctp)};
    r[OVS_KEY_ATTR_TCP_FLAGS] = {"tcp_flags", 2};
    r[OVS_KEY_ATTR_DP_HASH] = {"dp_hash", 4};
    r[OVS_KEY_ATTR_RECIRC_ID] = {"recirc_id", 4};
    r[OVS_KEY_ATTR_MPLS] = {"mpls"};
    r[OVS_KEY_ATTR_CT_STATE] = {"ct_state", 4, true};
    r[OVS_KEY_ATTR_CT_ZONE] = {"ct_zone", 2, true};
    r[OVS_KEY_ATTR_CT_MARK] = {"ct_mark", 4, true};
    r[OVS_KEY_ATTR_CT_LABELS] = {"ct_labels", 16, true};
    r[OVS_KEY_ATTR_CT_ORIG_TUPLE_IPV4] = {"ct_tuple4", 0, true};
    r[OVS_KEY_ATTR_CT_ORIG_TUPLE_IPV6] = {"ct_tuple6", 0, true};
    r[OVS_KEY_ATTR_NSH] = {"nsh"};
    r[OVS_KEY_ATTR_PACKET_TYPE] = {"packet_type", 4, true};
    r[OVS_KEY_ATTR_ND_EXTENSIONS] = {"nd_ext"};
    return r;
}
constexpr auto kRules = make_rules();
constexpr AttrRule kUnknown{};

}  // namespace

std::span<const Field> fields() { return kFields; }

const Field *field_at(uint16_t attr, size_t offset) {
    for (auto &f : kFields) {
        if (f.attr == attr && f.attr_off <= offset
            && offset < size_t{f.attr_off} + f.size) {
            return &f;
        }
    }
    return nullptr;
}

const AttrRule &rule_of(uint16_t attr) {
    return attr <= kMaxAttr ? kRules[attr] : kUnknown;
}

const char *name_at(uint16_t attr, size_t offset) {
    const Field *field = field_at(attr, offset);
    return field ? field->name : rule_of(attr).name;
}

}  // namespace flowxlate
