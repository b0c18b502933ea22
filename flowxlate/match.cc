// SPDX-License-Identifier: Apache-2.0
#include "match.h"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/openvswitch.h>
#include <netinet/in.h>

#include <algorithm>
#include <cerrno>

#include <boost/container/small_vector.hpp>
#include <boost/container/static_vector.hpp>

namespace flowxlate {
namespace {

// Attribute types up to this one have a name and a rule.
constexpr uint16_t kMaxAttr = OVS_KEY_ATTR_IPV6_EXTHDRS;

constexpr unsigned bit(xf_class c) { return 1U << c; }
constexpr unsigned kAnyClass = (1U << XF_N_CLASSES) - 1;
constexpr unsigned kIp = bit(XF_CLASS_IPV4) | bit(XF_CLASS_IPV6);

// One field: 'size' bytes at 'attr_off' of attribute 'attr' are 'size' bytes
// at 'key_off' of struct xf_key.  Only for packets of 'classes' and, unless it
// is 0, of IP protocol 'proto'.
struct Field {
    uint16_t attr;
    uint16_t attr_off;
    uint16_t size;
    uint16_t key_off;
    unsigned classes;
    uint8_t proto;
};

#define IN_ATTR(STRUCT, MEMBER)                             \
    static_cast<uint16_t>(offsetof(struct STRUCT, MEMBER)), \
        static_cast<uint16_t>(sizeof(STRUCT::MEMBER))
#define IN_KEY(MEMBER) static_cast<uint16_t>(offsetof(xf_key, MEMBER))

constexpr unsigned kArp = bit(XF_CLASS_ARP);
constexpr unsigned kIpv4 = bit(XF_CLASS_IPV4);
constexpr unsigned kIpv6 = bit(XF_CLASS_IPV6);

// Attributes that are not plain bytes (IN_PORT, VLAN, ETHERTYPE, fragments)
// are decoded by functions below.
// clang-format off
constexpr Field kFields[] = {
    {OVS_KEY_ATTR_ETHERNET, IN_ATTR(ovs_key_ethernet, eth_src),
     IN_KEY(eth_src), kAnyClass, 0},
    {OVS_KEY_ATTR_ETHERNET, IN_ATTR(ovs_key_ethernet, eth_dst),
     IN_KEY(eth_dst), kAnyClass, 0},

    {OVS_KEY_ATTR_ARP, IN_ATTR(ovs_key_arp, arp_sip), IN_KEY(ipv4_src), kArp,
     0},
    {OVS_KEY_ATTR_ARP, IN_ATTR(ovs_key_arp, arp_tip), IN_KEY(ipv4_dst), kArp,
     0},
    // The low byte; packets with a longer opcode take the miss path.
    {OVS_KEY_ATTR_ARP, offsetof(ovs_key_arp, arp_op) + 1, 1, IN_KEY(nw_proto),
     kArp, 0},
    {OVS_KEY_ATTR_ARP, IN_ATTR(ovs_key_arp, arp_sha), IN_KEY(arp_sha), kArp,
     0},
    {OVS_KEY_ATTR_ARP, IN_ATTR(ovs_key_arp, arp_tha), IN_KEY(arp_tha), kArp,
     0},

    {OVS_KEY_ATTR_IPV4, IN_ATTR(ovs_key_ipv4, ipv4_src), IN_KEY(ipv4_src),
     kIpv4, 0},
    {OVS_KEY_ATTR_IPV4, IN_ATTR(ovs_key_ipv4, ipv4_dst), IN_KEY(ipv4_dst),
     kIpv4, 0},
    {OVS_KEY_ATTR_IPV4, IN_ATTR(ovs_key_ipv4, ipv4_proto), IN_KEY(nw_proto),
     kIpv4, 0},
    {OVS_KEY_ATTR_IPV4, IN_ATTR(ovs_key_ipv4, ipv4_tos), IN_KEY(nw_tos),
     kIpv4, 0},
    {OVS_KEY_ATTR_IPV4, IN_ATTR(ovs_key_ipv4, ipv4_ttl), IN_KEY(nw_ttl),
     kIpv4, 0},

    {OVS_KEY_ATTR_IPV6, IN_ATTR(ovs_key_ipv6, ipv6_src), IN_KEY(ipv6_src),
     kIpv6, 0},
    {OVS_KEY_ATTR_IPV6, IN_ATTR(ovs_key_ipv6, ipv6_dst), IN_KEY(ipv6_dst),
     kIpv6, 0},
    {OVS_KEY_ATTR_IPV6, IN_ATTR(ovs_key_ipv6, ipv6_proto), IN_KEY(nw_proto),
     kIpv6, 0},
    {OVS_KEY_ATTR_IPV6, IN_ATTR(ovs_key_ipv6, ipv6_tclass), IN_KEY(nw_tos),
     kIpv6, 0},
    {OVS_KEY_ATTR_IPV6, IN_ATTR(ovs_key_ipv6, ipv6_hlimit), IN_KEY(nw_ttl),
     kIpv6, 0},

    {OVS_KEY_ATTR_TCP, IN_ATTR(ovs_key_tcp, tcp_src), IN_KEY(tp_src), kIp,
     IPPROTO_TCP},
    {OVS_KEY_ATTR_TCP, IN_ATTR(ovs_key_tcp, tcp_dst), IN_KEY(tp_dst), kIp,
     IPPROTO_TCP},
    {OVS_KEY_ATTR_TCP_FLAGS, 0, 2, IN_KEY(tcp_flags), kIp, IPPROTO_TCP},
    {OVS_KEY_ATTR_UDP, IN_ATTR(ovs_key_udp, udp_src), IN_KEY(tp_src), kIp,
     IPPROTO_UDP},
    {OVS_KEY_ATTR_UDP, IN_ATTR(ovs_key_udp, udp_dst), IN_KEY(tp_dst), kIp,
     IPPROTO_UDP},
    {OVS_KEY_ATTR_SCTP, IN_ATTR(ovs_key_sctp, sctp_src), IN_KEY(tp_src), kIp,
     IPPROTO_SCTP},
    {OVS_KEY_ATTR_SCTP, IN_ATTR(ovs_key_sctp, sctp_dst), IN_KEY(tp_dst), kIp,
     IPPROTO_SCTP},
    // The low bytes of the 16-bit ports.
    {OVS_KEY_ATTR_ICMP, IN_ATTR(ovs_key_icmp, icmp_type), IN_KEY(tp_src) + 1,
     kIpv4, IPPROTO_ICMP},
    {OVS_KEY_ATTR_ICMP, IN_ATTR(ovs_key_icmp, icmp_code), IN_KEY(tp_dst) + 1,
     kIpv4, IPPROTO_ICMP},
    {OVS_KEY_ATTR_ICMPV6, IN_ATTR(ovs_key_icmpv6, icmpv6_type),
     IN_KEY(tp_src) + 1, kIpv6, IPPROTO_ICMPV6},
    {OVS_KEY_ATTR_ICMPV6, IN_ATTR(ovs_key_icmpv6, icmpv6_code),
     IN_KEY(tp_dst) + 1, kIpv6, IPPROTO_ICMPV6},
};
// clang-format on

// What an attribute is called in a reason, how long it must be (0: any), and
// whether its bits are zero in every packet that enters the pipeline, so that
// a match on zero is fulfilled and needs no encoding.
struct AttrRule {
    const char *name;
    uint16_t size = 0;
    bool zero_at_ingress = false;
};

constexpr std::array<AttrRule, kMaxAttr + 1> make_rules() {
    std::array<AttrRule, kMaxAttr + 1> r{};
    r.fill({"unknown_attribute"});
    r[OVS_KEY_ATTR_ENCAP] = {"encap"};
    r[OVS_KEY_ATTR_PRIORITY] = {"skb_priority", 4, true};
    r[OVS_KEY_ATTR_IN_PORT] = {"in_port", 4};
    r[OVS_KEY_ATTR_ETHERNET] = {"eth", sizeof(ovs_key_ethernet)};
    r[OVS_KEY_ATTR_VLAN] = {"vlan", 2};
    r[OVS_KEY_ATTR_ETHERTYPE] = {"eth_type", 2};
    r[OVS_KEY_ATTR_IPV4] = {"ipv4", sizeof(ovs_key_ipv4)};
    r[OVS_KEY_ATTR_IPV6] = {"ipv6_label", sizeof(ovs_key_ipv6)};
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
    r[OVS_KEY_ATTR_DP_HASH] = {"dp_hash", 4, true};
    r[OVS_KEY_ATTR_RECIRC_ID] = {"recirc_id", 4, true};
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

Reject unsupported(const char *field) { return {"match", field, EOPNOTSUPP}; }
Reject malformed(const char *what) { return {"malformed", what, EINVAL}; }

bool all_zero(Bytes b) {
    return std::all_of(b.begin(), b.end(),
                       [](std::byte x) { return x == std::byte{0}; });
}

// The flow's attributes of one level of nesting, by type.
struct Attrs {
    std::array<std::optional<Bytes>, kMaxAttr + 1> by_type;

    const std::optional<Bytes> &operator[](uint16_t t) const {
        return by_type[t];
    }

    Reject parse(Bytes bytes) {
        AttrReader reader(bytes);
        while (auto a = reader.next()) {
            if (a->type > kMaxAttr) {
                return unsupported("unknown_attribute");
            }
            if (kRules[a->type].size
                && a->payload.size() != kRules[a->type].size) {
                return malformed(kRules[a->type].name);
            }
            if (by_type[a->type]) {
                return malformed("duplicate_attribute");
            }
            by_type[a->type] = a->payload;
        }
        return reader.malformed() ? malformed("attribute_length") : Reject{};
    }

    template <typename T>
    T value(uint16_t type, T otherwise = {}) const {
        T v = otherwise;
        if (by_type[type]) {
            read_exactly(*by_type[type], &v);
        }
        return v;
    }
};

// Is 'f' a field that every packet which 'm' can match has?
bool applies(const Field &f, const Match &m) {
    return (f.classes & bit(m.cls))
        && (!f.proto
            || (m.mask.nw_proto == 0xff && m.key.nw_proto == f.proto));
}

class Decoder {
public:
    explicit Decoder(Match *match) : m_(*match) { m_ = {}; }

    Reject decode(Bytes key, Bytes mask);

private:
    Reject decode_vlan();
    Reject decode_class();
    Reject decode_frag();
    Reject decode_level(const Attrs &key, const Attrs &mask);
    Reject decode_attr(uint16_t type, Bytes key, Bytes mask);
    void clear_special_bits(uint16_t type, Bytes key, std::byte *left) const;

    Match &m_;
    Attrs key_, mask_;              // Outer level.
    Attrs inner_key_, inner_mask_;  // In ENCAP, if the flow has a VLAN.
    bool tagged_ = false;

    // Where the Ethernet type and all above it is.
    const Attrs &payload_key() const { return tagged_ ? inner_key_ : key_; }
    const Attrs &payload_mask() const { return tagged_ ? inner_mask_ : mask_; }
};

// An attribute that decode_attr() need not look at again.
bool decoded_elsewhere(uint16_t type) {
    return type == OVS_KEY_ATTR_IN_PORT || type == OVS_KEY_ATTR_VLAN
        || type == OVS_KEY_ATTR_ETHERTYPE || type == OVS_KEY_ATTR_ENCAP;
}

Reject Decoder::decode(Bytes key, Bytes mask) {
    if (auto r = key_.parse(key)) {
        return r;
    }
    if (auto r = mask_.parse(mask)) {
        return r;
    }
    if (!key_[OVS_KEY_ATTR_IN_PORT]
        || mask_.value<uint32_t>(OVS_KEY_ATTR_IN_PORT) != UINT32_MAX) {
        return unsupported("in_port");
    }
    m_.in_port = OdpPort{key_.value<uint32_t>(OVS_KEY_ATTR_IN_PORT)};
    if (key_.value<uint32_t>(OVS_KEY_ATTR_PACKET_TYPE) != 0) {
        return unsupported("packet_type");  // Not Ethernet.
    }
    if (auto r = decode_vlan()) {
        return r;
    }
    if (auto r = decode_class()) {
        return r;
    }
    if (auto r = decode_level(key_, mask_)) {
        return r;
    }
    return tagged_ ? decode_level(inner_key_, inner_mask_) : Reject{};
}

// Without a VLAN attribute the flow matches packets without a tag: netlink
// cannot say otherwise (see dpif_netdev_flow_put()).  With one, the flow's TCI
// has the "present" bit, or the packet's tag was cut off.
Reject Decoder::decode_vlan() {
    if (!key_[OVS_KEY_ATTR_VLAN]) {
        if (!all_zero(mask_[OVS_KEY_ATTR_VLAN].value_or(Bytes{}))
            || key_[OVS_KEY_ATTR_ENCAP] || mask_[OVS_KEY_ATTR_ENCAP]) {
            return unsupported("vlan");
        }
        m_.mask.vlan_tci = 0xffff;
        return {};
    }

    const auto tci = key_.value<__be16>(OVS_KEY_ATTR_VLAN);
    const auto tci_mask = mask_.value<__be16>(OVS_KEY_ATTR_VLAN);
    const auto tpid = key_.value<__be16>(OVS_KEY_ATTR_ETHERTYPE);
    const auto tpid_mask = mask_.value<__be16>(OVS_KEY_ATTR_ETHERTYPE);
    if (tpid != htons(ETH_P_8021Q) || tpid_mask != 0xffff) {
        return unsupported("vlan_tpid");
    }
    if (!(tci & tci_mask & htons(XF_VLAN_PRESENT)) || !key_[OVS_KEY_ATTR_ENCAP]
        || !mask_[OVS_KEY_ATTR_ENCAP]) {
        return unsupported("vlan_tci");
    }
    if (auto r = inner_key_.parse(*key_[OVS_KEY_ATTR_ENCAP])) {
        return r;
    }
    if (auto r = inner_mask_.parse(*mask_[OVS_KEY_ATTR_ENCAP])) {
        return r;
    }
    if (inner_key_[OVS_KEY_ATTR_VLAN] || inner_mask_[OVS_KEY_ATTR_VLAN]) {
        return unsupported("second_vlan");
    }
    for (uint16_t type = 0; type <= kMaxAttr; type++) {
        if (type != OVS_KEY_ATTR_ETHERTYPE
            && (inner_key_[type] || inner_mask_[type])
            && (key_[type] || mask_[type])) {
            return malformed("duplicate_attribute");
        }
    }
    m_.key.vlan_tci = tci & tci_mask;
    m_.mask.vlan_tci = tci_mask;
    tagged_ = true;
    return {};
}

Reject Decoder::decode_class() {
    const auto &key = payload_key();
    const auto &mask = payload_mask();
    const auto type = key.value<__be16>(OVS_KEY_ATTR_ETHERTYPE);

    if (!key[OVS_KEY_ATTR_ETHERTYPE]
        || mask.value<__be16>(OVS_KEY_ATTR_ETHERTYPE) != 0xffff) {
        return unsupported("eth_type");
    }
    switch (ntohs(type)) {
        case ETH_P_IP:
            m_.cls = XF_CLASS_IPV4;
            break;
        case ETH_P_IPV6:
            m_.cls = XF_CLASS_IPV6;
            break;
        case ETH_P_ARP:
            m_.cls = XF_CLASS_ARP;
            break;
        case ETH_P_8021Q:
        case ETH_P_8021AD:
            return unsupported("second_vlan");
        default:
            m_.cls = XF_CLASS_L2;
    }
    m_.key.eth_type = type;
    m_.mask.eth_type = 0xffff;
    return decode_frag();
}

// The fragment type is an enumeration, so its mask is all or nothing.
Reject Decoder::decode_frag() {
    uint8_t frag, mask;
    if (m_.cls == XF_CLASS_IPV4) {
        frag = payload_key().value<ovs_key_ipv4>(OVS_KEY_ATTR_IPV4).ipv4_frag;
        mask = payload_mask().value<ovs_key_ipv4>(OVS_KEY_ATTR_IPV4).ipv4_frag;
    } else if (m_.cls == XF_CLASS_IPV6) {
        frag = payload_key().value<ovs_key_ipv6>(OVS_KEY_ATTR_IPV6).ipv6_frag;
        mask = payload_mask().value<ovs_key_ipv6>(OVS_KEY_ATTR_IPV6).ipv6_frag;
        // Fragments have an extension header, which is not parsed.
        if (mask && frag == OVS_FRAG_TYPE_FIRST) {
            return unsupported("ip_frag");
        }
    } else {
        return {};
    }
    if ((mask != 0 && mask != 0xff)
        || (mask && frag != XF_FRAG_NONE && frag != XF_FRAG_FIRST)) {
        return unsupported("ip_frag");
    }
    m_.key.nw_frag = frag & mask;
    m_.mask.nw_frag = mask;
    return {};
}

// In the order of the types, by which the IP protocol is decoded before the
// fields that depend on it.
Reject Decoder::decode_level(const Attrs &key, const Attrs &mask) {
    for (uint16_t type = 0; type <= kMaxAttr; type++) {
        if (decoded_elsewhere(type) || !mask[type]) {
            continue;
        }
        if (key[type] && key[type]->size() != mask[type]->size()
            && type != OVS_KEY_ATTR_TUNNEL) {
            return malformed(kRules[type].name);
        }
        if (auto r =
                decode_attr(type, key[type].value_or(Bytes{}), *mask[type])) {
            return r;
        }
    }
    return {};
}

// Clears from 'left' what is not a plain field: the fragment type, if
// decode_frag() has encoded this very one, and the high byte of an ARP opcode,
// which is zero in every packet of the class.
void Decoder::clear_special_bits(uint16_t type, Bytes key,
                                 std::byte *left) const {
    size_t frag = 0;
    if (type == OVS_KEY_ATTR_IPV4 && m_.cls == XF_CLASS_IPV4) {
        frag = offsetof(ovs_key_ipv4, ipv4_frag);
    } else if (type == OVS_KEY_ATTR_IPV6 && m_.cls == XF_CLASS_IPV6) {
        frag = offsetof(ovs_key_ipv6, ipv6_frag);
    } else if (type == OVS_KEY_ATTR_ARP && m_.cls == XF_CLASS_ARP
               && key[offsetof(ovs_key_arp, arp_op)] == std::byte{0}) {
        left[offsetof(ovs_key_arp, arp_op)] = std::byte{0};
    }
    if (frag && left[frag] == std::byte{m_.mask.nw_frag}) {
        left[frag] = std::byte{0};
    }
}

// Encodes one attribute; 'key' is empty if only the mask has it.
Reject Decoder::decode_attr(uint16_t type, Bytes key, Bytes mask) {
    boost::container::small_vector<std::byte, 64> left(mask.begin(),
                                                       mask.end());

    if (!key.empty()) {
        encode_fields(m_, type, key, mask, &m_.key, &m_.mask,
                      {left.data(), left.size()});
        clear_special_bits(type, key, left.data());
    }

    // No tunnel attribute in the key: not from a tunnel, like all our packets.
    if (type == OVS_KEY_ATTR_TUNNEL && key.empty()) {
        return {};
    }
    if (kRules[type].zero_at_ingress) {
        for (size_t i = 0; i < left.size(); i++) {
            if (key.empty() || (key[i] & left[i]) == std::byte{0}) {
                left[i] = std::byte{0};
            }
        }
    }
    return all_zero({left.data(), left.size()})
             ? Reject{}
             : unsupported(kRules[type].name);
}

}  // namespace

void encode_fields(const Match &match, uint16_t attr, Bytes key, Bytes mask,
                   xf_key *to_key, xf_key *to_mask,
                   std::span<std::byte> left) {
    auto *key_bytes = reinterpret_cast<std::byte *>(to_key);
    auto *mask_bytes = reinterpret_cast<std::byte *>(to_mask);

    for (const Field &f : kFields) {
        if (f.attr != attr || !applies(f, match)) {
            continue;
        }
        for (uint16_t i = 0; i < f.size; i++) {
            mask_bytes[f.key_off + i] = mask[f.attr_off + i];
            key_bytes[f.key_off + i] =
                key[f.attr_off + i] & mask[f.attr_off + i];
            left[f.attr_off + i] = std::byte{0};
        }
    }
}

Reject decode_match(Bytes key, Bytes mask, Match *match) {
    return Decoder(match).decode(key, mask);
}

}  // namespace flowxlate
