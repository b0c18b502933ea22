// SPDX-License-Identifier: Apache-2.0
#include "translate/match.h"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/openvswitch.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <boost/container/small_vector.hpp>
#include <boost/container/static_vector.hpp>

#include "translate/fields.h"

namespace flowxlate {
namespace {

constexpr uint8_t kNdSolicit = 135, kNdAdvert = 136;  // RFC 4861.
constexpr uint32_t kHashBits = 0xff;  // Those of dp_hash in struct xf_key.

Reject unsupported_match(const char *field) {
    return {"match", field, EOPNOTSUPP};
}

bool all_zero(Bytes b) {
    return std::all_of(b.begin(), b.end(),
                       [](std::byte x) { return x == std::byte{0}; });
}

bool is_vlan(__be16 type) {
    return type == htons(ETH_P_8021Q) || type == htons(ETH_P_8021AD);
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
                return unsupported_match(rule_of(a->type).name);
            }
            const auto &rule = rule_of(a->type);
            if (rule.size && a->payload.size() != rule.size) {
                return malformed(rule.name);
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

// Do all packets that 'm' matches have this IP protocol, and its header?
bool is_exactly(const Match &m, uint8_t proto) {
    return m.mask.nw_proto == 0xff && m.key.nw_proto == proto
        && (m.mask.nw_frag & XF_FRAG_LATER)
        && !(m.key.nw_frag & XF_FRAG_LATER);
}

// Of flows that match ICMPv6 exactly.
bool has_nd_type(const Match &m) {
    const uint16_t type = ntohs(m.key.tp_src);
    return m.mask.tp_src == htons(0xff)
        && (type == kNdSolicit || type == kNdAdvert);
}
bool is_nd(const Match &m) {
    return has_nd_type(m) && m.mask.tp_dst == htons(0xff) && m.key.tp_dst == 0;
}

// OVS from 3.3 on tells of the fields without the code.  A message with
// another one has none of them, and for OVS they are zero then; it is left to
// OVS.
void narrow_to_nd(Match *m) {
    if (is_exactly(*m, IPPROTO_ICMPV6) && has_nd_type(*m) && !m->mask.tp_dst) {
        m->mask.tp_dst = htons(0xff);
        m->key.tp_dst = 0;
    }
}

// Is 'f' a field that every packet which 'm' can match has?
bool applies(const Field &f, const Match &m) {
    if (f.key_off == kNotInKey || !(f.classes & bit(m.cls))
        || !may_have(f.has, m.key.tun_family)) {
        return false;
    }
    return !ip_proto(f.has)
        || (is_exactly(m, ip_proto(f.has)) && (f.has != Has::kNd || is_nd(m)));
}

// What decode_metadata() decodes, at the outer level, where it belongs.
bool is_metadata(uint16_t type) {
    return type == OVS_KEY_ATTR_IN_PORT || type == OVS_KEY_ATTR_RECIRC_ID
        || type == OVS_KEY_ATTR_DP_HASH;
}

// What ct() finds.
bool is_of_connection(uint16_t type) {
    return type == OVS_KEY_ATTR_CT_STATE || type == OVS_KEY_ATTR_CT_ZONE
        || type == OVS_KEY_ATTR_CT_MARK || type == OVS_KEY_ATTR_CT_LABELS
        || type == OVS_KEY_ATTR_CT_ORIG_TUPLE_IPV4
        || type == OVS_KEY_ATTR_CT_ORIG_TUPLE_IPV6;
}

// What decode_tags() and decode_class() decode.
bool nests(uint16_t type) {
    return type == OVS_KEY_ATTR_ETHERTYPE || type == OVS_KEY_ATTR_VLAN
        || type == OVS_KEY_ATTR_ENCAP;
}

// The attributes come in levels: the outer one, and one in the ENCAP attribute
// of each VLAN tag.  The Ethernet type and all above it is in the innermost.
class Decoder {
public:
    Decoder(Match *match, DontFragment dont_fragment)
        : m_(*match), dont_fragment_(dont_fragment) {
        m_ = {};
    }

    Reject decode(Bytes key, Bytes mask);

private:
    Reject decode_told(Bytes key, Bytes mask);

    struct Level {
        Attrs key, mask;
        bool has(uint16_t type) const { return key[type] || mask[type]; }
    };

    Reject decode_metadata();
    Reject decode_tags();
    Reject decode_tag(const Attrs &key, const Attrs &mask);
    Reject decode_class();
    Reject decode_frag();
    Reject decode_level(const Level &);
    Reject decode_attr(uint16_t type, Bytes key, Bytes mask);
    Reject decode_tunnel(Bytes key, Bytes mask);
    Reject decode_tunnel_attr(uint16_t type, std::optional<Bytes> key,
                              Bytes mask);
    Reject decode_tunnel_flag(uint16_t type, bool wanted);
    Reject decode_option(std::optional<Bytes> option);
    bool is_zero_in_all(uint16_t type) const;
    void clear_special_bits(uint16_t type, Bytes key, std::byte *left) const;

    Match &m_;
    const DontFragment dont_fragment_;
    boost::container::static_vector<Level, XF_MAX_TAGS + 1> levels_;
};

// The name of what OVS matches and does not tell (ovs_offload_abi.h), if there
// is such.  It is cut off 'key'.
std::optional<Bytes> cut_untold(Bytes *key) {
    AttrReader reader(*key);
    size_t told = 0;
    while (auto a = reader.next()) {
        if (a->type == OVS_OFFLOAD_KEY_UNTOLD) {
            *key = key->first(told);
            return a->payload;
        }
        told = a->payload.data() + NLA_ALIGN(a->payload.size()) - key->data();
    }
    return {};
}

// The field's name in reasons: OpenFlow's, if the field is known here.
const char *reason_name(Bytes openflow_name) {
    auto is_it = [&](const char *name) {
        const size_t n = std::strlen(name) + 1;
        return n == openflow_name.size()
            && !std::memcmp(name, openflow_name.data(), n);
    };
    for (const auto *name : {"nd_reserved", "nd_options_type", "igmp"}) {
        if (is_it(name)) {
            return name;
        }
    }
    const auto known = std::ranges::find_if(
        fields(), [&](const Field &f) { return is_it(f.name); });
    return known != fields().end() ? known->name : "untold_field";
}

Reject Decoder::decode(Bytes key, Bytes mask) {
    const auto untold = cut_untold(&key);
    if (auto r = decode_told(key, mask)) {
        return r;  // A reason that says more.
    }
    return untold ? unsupported_match(reason_name(*untold)) : Reject{};
}

Reject Decoder::decode_told(Bytes key, Bytes mask) {
    levels_.emplace_back();
    if (auto r = levels_[0].key.parse(key)) {
        return r;
    }
    if (auto r = levels_[0].mask.parse(mask)) {
        return r;
    }
    if (auto r = decode_metadata()) {
        return r;
    }
    if (auto r = decode_tags()) {
        return r;
    }
    if (auto r = decode_class()) {
        return r;
    }
    for (auto &level : levels_) {
        if (auto r = decode_level(level)) {
            return r;
        }
    }
    return {};
}

// The program knows the low bits of a dp_hash; it is 0 until the packet has
// been hashed, which is before it is recirculated.
Reject Decoder::decode_metadata() {
    const auto &[key, mask] = levels_[0];
    if (!key[OVS_KEY_ATTR_IN_PORT]
        || mask.value<uint32_t>(OVS_KEY_ATTR_IN_PORT) != UINT32_MAX) {
        return unsupported_match("in_port");
    }
    m_.in_port = OdpPort{key.value<uint32_t>(OVS_KEY_ATTR_IN_PORT)};
    if (key.value<uint32_t>(OVS_KEY_ATTR_PACKET_TYPE) != 0) {
        return unsupported_match("packet_type");  // Not Ethernet.
    }

    const auto recirc_mask = mask.value<uint32_t>(OVS_KEY_ATTR_RECIRC_ID);
    m_.recirc_id = key.value<uint32_t>(OVS_KEY_ATTR_RECIRC_ID) & recirc_mask;
    if (m_.recirc_id && recirc_mask != UINT32_MAX) {
        return unsupported_match("recirc_id");
    }
    const auto hash_mask = mask.value<uint32_t>(OVS_KEY_ATTR_DP_HASH);
    const auto hash = key.value<uint32_t>(OVS_KEY_ATTR_DP_HASH) & hash_mask;
    if ((hash | (m_.recirc_id ? hash_mask : 0)) & ~kHashBits) {
        return unsupported_match("dp_hash");
    }
    m_.key.dp_hash = hash & kHashBits;
    m_.mask.dp_hash = hash_mask & kHashBits;
    return {};
}

// A level without a VLAN attribute matches packets without a further tag:
// netlink cannot say otherwise (see dpif_netdev_flow_put()).
Reject Decoder::decode_tags() {
    while (levels_.back().key[OVS_KEY_ATTR_VLAN]) {
        const Level &outer = levels_.back();
        if (m_.n_tags == XF_MAX_TAGS) {
            return unsupported_match("third_vlan");
        }
        if (auto r = decode_tag(outer.key, outer.mask)) {
            return r;
        }
        Level inner;
        if (auto r = inner.key.parse(*outer.key[OVS_KEY_ATTR_ENCAP])) {
            return r;
        }
        if (auto r = inner.mask.parse(*outer.mask[OVS_KEY_ATTR_ENCAP])) {
            return r;
        }
        for (uint16_t type = 0; type <= kMaxAttr; type++) {
            for (auto &level : levels_) {
                if (!nests(type) && inner.has(type) && level.has(type)) {
                    return malformed("duplicate_attribute");
                }
            }
        }
        m_.n_tags++;
        levels_.push_back(inner);
    }
    const Level &payload = levels_.back();
    if (!all_zero(payload.mask[OVS_KEY_ATTR_VLAN].value_or(Bytes{}))
        || payload.has(OVS_KEY_ATTR_ENCAP)) {
        return unsupported_match("vlan");
    }
    if (m_.n_tags < 1) {
        m_.mask.vlan_tci = 0xffff;
    }
    if (m_.n_tags == 1) {
        m_.mask.vlan2_tci = 0xffff;  // Without a first tag, there is none.
    }
    return {};
}

// The flow's TCI has the "present" bit, or the packet's tag was cut off.  That
// there is a tag is always matched: netlink says so by the TPID, which OVS
// passes as exact also where a second tag does not matter to it.
Reject Decoder::decode_tag(const Attrs &key, const Attrs &mask) {
    const auto tci = key.value<__be16>(OVS_KEY_ATTR_VLAN);
    const __be16 tci_mask =
        mask.value<__be16>(OVS_KEY_ATTR_VLAN) | htons(XF_VLAN_PRESENT);
    const auto tpid = key.value<__be16>(OVS_KEY_ATTR_ETHERTYPE);
    const auto tpid_mask = mask.value<__be16>(OVS_KEY_ATTR_ETHERTYPE);
    const bool outer = m_.n_tags == 0;

    if (!is_vlan(tpid) || tpid_mask != 0xffff) {
        return unsupported_match("vlan_tpid");
    }
    if (!(tci & htons(XF_VLAN_PRESENT)) || !key[OVS_KEY_ATTR_ENCAP]
        || !mask[OVS_KEY_ATTR_ENCAP]) {
        return unsupported_match("vlan_tci");
    }
    (outer ? m_.key.vlan_tci : m_.key.vlan2_tci) = tci & tci_mask;
    (outer ? m_.mask.vlan_tci : m_.mask.vlan2_tci) = tci_mask;
    const uint8_t ad = outer ? XF_TPID_OUTER_AD : XF_TPID_INNER_AD;
    m_.mask.tpids |= ad;
    m_.key.tpids |= tpid == htons(ETH_P_8021AD) ? ad : 0;
    return {};
}

// The Ethernet type is that of a VLAN tag if OVS does not look behind that one
// (other_config:vlan-limit).
Reject Decoder::decode_class() {
    const auto &[key, mask] = levels_.back();
    const auto type = key.value<__be16>(OVS_KEY_ATTR_ETHERTYPE);

    if (!key[OVS_KEY_ATTR_ETHERTYPE]
        || mask.value<__be16>(OVS_KEY_ATTR_ETHERTYPE) != 0xffff
        || (is_vlan(type) && !m_.n_tags)) {
        return unsupported_match("eth_type");
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
        case ETH_P_MPLS_UC:
        case ETH_P_MPLS_MC:
            m_.cls = XF_CLASS_MPLS;
            break;
        default:
            m_.cls = XF_CLASS_L2;
    }
    m_.key.eth_type = type;
    m_.mask.eth_type = 0xffff;
    return decode_frag();
}

// The fragment type is an enumeration, so its mask is all or nothing.
Reject Decoder::decode_frag() {
    const auto &[key, mask] = levels_.back();
    uint8_t frag, frag_mask;
    if (m_.cls == XF_CLASS_IPV4) {
        frag = key.value<ovs_key_ipv4>(OVS_KEY_ATTR_IPV4).ipv4_frag;
        frag_mask = mask.value<ovs_key_ipv4>(OVS_KEY_ATTR_IPV4).ipv4_frag;
    } else if (m_.cls == XF_CLASS_IPV6) {
        frag = key.value<ovs_key_ipv6>(OVS_KEY_ATTR_IPV6).ipv6_frag;
        frag_mask = mask.value<ovs_key_ipv6>(OVS_KEY_ATTR_IPV6).ipv6_frag;
    } else {
        return {};
    }
    if ((frag_mask != 0 && frag_mask != 0xff)
        || (frag_mask && frag > XF_FRAG_LATER)) {
        return unsupported_match("ip_frag");
    }
    m_.key.nw_frag = frag & frag_mask;
    m_.mask.nw_frag = frag_mask ? frag_mask : XF_FRAG_LATER;
    return {};
}

// In the order of the types, by which the IP protocol is decoded before the
// fields that depend on it.
Reject Decoder::decode_level(const Level &level) {
    const auto &[key, mask] = level;
    const bool outermost = &level == &levels_[0];

    for (uint16_t type = 0; type <= kMaxAttr; type++) {
        if (!mask[type] || nests(type) || (outermost && is_metadata(type))) {
            continue;
        }
        // Of other attributes the sizes are known; NSH's depends on what is
        // in it, and OVS makes masks of another size.
        if (key[type] && key[type]->size() != mask[type]->size()
            && type != OVS_KEY_ATTR_TUNNEL) {
            return unsupported_match(rule_of(type).name);
        }
        if (auto r =
                decode_attr(type, key[type].value_or(Bytes{}), *mask[type])) {
            return r;
        }
    }
    return {};
}

// Clears from 'left' what is not a plain field: the fragment type, if
// decode_frag() has encoded it (there is one such attribute), and what is zero
// in every packet: the high byte of an ARP opcode in those of the class, and
// the upper half of a connection's state.
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
    if (type == OVS_KEY_ATTR_CT_STATE) {
        for (size_t i = sizeof(xf_key::ct_state); i < key.size(); i++) {
            left[i] &= key[i];
        }
    }
    if (frag && m_.mask.nw_frag == 0xff) {
        left[frag] = std::byte{0};
    }
}

// Is the attribute zero in every packet that may come to this flow?  What is
// of a connection is until ct() has seen the packet, which then is
// recirculated, and always where there is no ct().
bool Decoder::is_zero_in_all(uint16_t type) const {
    const bool is_ip = m_.cls == XF_CLASS_IPV4 || m_.cls == XF_CLASS_IPV6;
    return rule_of(type).zero_at_ingress
        && !(is_of_connection(type) && m_.recirc_id && is_ip);
}

// Encodes one attribute; 'key' is empty if only the mask has it, which then is
// zero in the packets.
Reject Decoder::decode_attr(uint16_t type, Bytes key, Bytes mask) {
    boost::container::small_vector<std::byte, 64> left(mask.begin(),
                                                       mask.end());
    boost::container::small_vector<std::byte, 64> zeros;

    if (key.empty() && is_of_connection(type)) {
        zeros.resize(mask.size());
        key = {zeros.data(), zeros.size()};
    }
    if (type == OVS_KEY_ATTR_ND && !key.empty() && !all_zero(mask)) {
        narrow_to_nd(&m_);
    }
    if (!key.empty() && !is_zero_in_all(type)) {
        encode_fields(m_, type, key, mask, &m_.key, &m_.mask,
                      {left.data(), left.size()});
        clear_special_bits(type, key, left.data());
    }

    // No tunnel attribute in the key: the flow is of a port that is none.
    if (type == OVS_KEY_ATTR_TUNNEL) {
        return key.empty() || all_zero(mask) ? Reject{}
                                             : decode_tunnel(key, mask);
    }
    if (is_zero_in_all(type)) {
        m_.skb_mark |= type == OVS_KEY_ATTR_SKB_MARK && !all_zero(mask);
        m_.skb_priority |= type == OVS_KEY_ATTR_PRIORITY && !all_zero(mask);
        for (size_t i = 0; i < left.size(); i++) {
            if (key.empty() || (key[i] & left[i]) == std::byte{0}) {
                left[i] = std::byte{0};
            }
        }
    }
    for (size_t i = 0; i < left.size(); i++) {
        if (left[i] != std::byte{0}) {
            return unsupported_match(name_at(type, i));
        }
    }
    return {};
}

// -- Tunnels ----------------------------------------------------------------

// The attributes of a tunnel, by type.
struct TunnelAttrs {
    std::array<std::optional<Bytes>, OVS_TUNNEL_KEY_ATTR_MAX + 1> by_type;

    const std::optional<Bytes> &operator[](uint16_t t) const {
        return by_type[t];
    }
    bool has(uint16_t t) const { return by_type[t].has_value(); }

    Reject parse(Bytes bytes) {
        AttrReader reader(bytes);
        while (auto a = reader.next()) {
            if (a->type > OVS_TUNNEL_KEY_ATTR_MAX) {
                return unsupported_match("tunnel");
            }
            if (by_type[a->type]) {
                return malformed("duplicate_attribute");
            }
            by_type[a->type] = a->payload;
        }
        return reader.malformed() ? unsupported_match("tunnel") : Reject{};
    }
};

// The program takes off Geneve and VXLAN, with at most one option.  Of which
// family the outer addresses are is always matched, and so is how long the
// option is: the tables have no length of it.
Reject Decoder::decode_tunnel(Bytes key, Bytes mask) {
    TunnelAttrs of_key, of_mask;
    if (auto r = of_key.parse(key)) {
        return r;
    }
    if (auto r = of_mask.parse(mask)) {
        return r;
    }
    const bool is_ipv4 = of_key.has(OVS_TUNNEL_KEY_ATTR_IPV4_DST);
    if (is_ipv4 == of_key.has(OVS_TUNNEL_KEY_ATTR_IPV6_DST)) {
        return unsupported_match("tunnel");
    }
    m_.key.tun_family = is_ipv4 ? XF_TUNNEL_IPV4 : XF_TUNNEL_IPV6;
    m_.mask.tun_family = 0xff;
    for (uint16_t type = 0; type <= OVS_TUNNEL_KEY_ATTR_MAX; type++) {
        if (!of_mask[type]) {
            continue;
        }
        if (auto r = decode_tunnel_attr(type, of_key[type], *of_mask[type])) {
            return r;
        }
    }
    return decode_option(of_key[OVS_TUNNEL_KEY_ATTR_GENEVE_OPTS]);
}

// 'key' is absent where it is zero.
Reject Decoder::decode_tunnel_attr(uint16_t type, std::optional<Bytes> key,
                                   Bytes mask) {
    boost::container::small_vector<std::byte, 16> left(mask.begin(),
                                                       mask.end());
    const boost::container::small_vector<std::byte, 16> zeros(mask.size());

    if (type == OVS_TUNNEL_KEY_ATTR_CSUM || type == OVS_TUNNEL_KEY_ATTR_OAM
        || type == OVS_TUNNEL_KEY_ATTR_DONT_FRAGMENT) {
        return decode_tunnel_flag(type, key.has_value());
    }
    const Field *first = field_at(in_tunnel(type), 0);
    if (first && !applies(*first, m_)) {
        // An address of the other family, zero in packets of this one.
        return key ? unsupported_match("tunnel") : Reject{};
    }
    const bool is_option = type == OVS_TUNNEL_KEY_ATTR_GENEVE_OPTS;
    const char *what = is_option ? "tun_metadata" : "tunnel";
    const Bytes value = key.value_or(Bytes(zeros.data(), zeros.size()));
    if (value.size() != mask.size()) {
        return unsupported_match(what);
    }
    encode_fields(m_, in_tunnel(type), value, mask, &m_.key, &m_.mask,
                  {left.data(), left.size()});
    for (size_t i = 0; i < left.size(); i++) {
        // The upper half of an identifier, and ports: zero in all packets, or
        // not matched.
        const bool is_zero = type == OVS_TUNNEL_KEY_ATTR_ID && i < 4
                          && (value[i] & left[i]) == std::byte{0};
        if (left[i] != std::byte{0} && !is_zero) {
            const Field *field = field_at(in_tunnel(type), i);
            return unsupported_match(field ? field->name : what);
        }
    }
    return {};
}

Reject Decoder::decode_tunnel_flag(uint16_t type, bool wanted) {
    const bool is_df = type == OVS_TUNNEL_KEY_ATTR_DONT_FRAGMENT;
    if (is_df && dont_fragment_ == DontFragment::kIsIgnored) {
        return wanted ? unsupported_match("tun_flags") : Reject{};
    }
    const uint8_t flag = is_df                            ? XF_TUNNEL_DF
                       : type == OVS_TUNNEL_KEY_ATTR_CSUM ? XF_TUNNEL_CSUM
                                                          : XF_TUNNEL_OAM;
    m_.mask.tun_flags |= flag;
    m_.key.tun_flags |= wanted ? flag : 0;
    return {};
}

Reject Decoder::decode_option(std::optional<Bytes> option) {
    constexpr size_t kLength = 3;  // Its place, and in units of 4 bytes.
    auto &key = m_.key.tun_option, &mask = m_.mask.tun_option;
    if (!option || option->empty()) {
        std::ranges::fill(key, 0);
        std::ranges::fill(mask, 0xff);
        return {};
    }
    if (option->size() != sizeof key || (*option)[kLength] != std::byte{1}) {
        return unsupported_match("tun_metadata");
    }
    key[kLength] = 1;
    mask[kLength] = 0xff;
    return {};
}

}  // namespace

void encode_fields(const Match &match, uint16_t attr, Bytes key, Bytes mask,
                   xf_key *to_key, xf_key *to_mask,
                   std::span<std::byte> left) {
    auto *key_bytes = reinterpret_cast<std::byte *>(to_key);
    auto *mask_bytes = reinterpret_cast<std::byte *>(to_mask);

    for (const Field &f : fields()) {
        // Of variable length: MPLS.
        if (f.attr != attr || !applies(f, match)
            || size_t{f.attr_off} + f.size > mask.size()) {
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

Reject decode_match(Bytes key, Bytes mask, Match *match,
                    DontFragment dont_fragment) {
    return Decoder(match, dont_fragment).decode(key, mask);
}

}  // namespace flowxlate
