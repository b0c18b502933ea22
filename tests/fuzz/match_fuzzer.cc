// SPDX-License-Identifier: Apache-2.0
// decode_match() on arbitrary bytes.
//
// Whatever it accepts must be what the attributes say:
//
// - place() below says, by the members' names, where each field belongs; key
//   and mask must be exactly that.
// - Every bit of the mask decides: a key that differs in it is refused or
//   becomes another key.  So nothing that was asked for is left out, whatever
//   the rules for it are.
// - No other bit of the key decides.
#include "flowxlate/translate/match.h"

#include <linux/if_ether.h>
#include <netinet/in.h>

#include <algorithm>
#include <map>
#include <optional>

#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/match_input.h"

namespace flowxlate::fuzz {
namespace {

Reject decode(Bytes key, Bytes mask, Match *match) {
    // Whatever was there before must not shine through.
    std::memset(static_cast<void *>(match), 0xee, sizeof *match);
    const Reject r = decode_match(key, mask, match);
    if (r) {
        const bool invalid = std::string_view(r.group) == "malformed";
        CHECK(invalid || std::string_view(r.group) == "match");
        CHECK(r.error == (invalid ? EINVAL : EOPNOTSUPP));
        CHECK(r.what && *r.what);
    }
    return r;
}

bool same(const xf_key &a, const xf_key &b) {
    return !std::memcmp(&a, &b, sizeof a);
}
bool same(const Match &a, const Match &b) {
    return a.cls == b.cls && a.in_port == b.in_port
        && a.recirc_id == b.recirc_id && a.n_tags == b.n_tags
        && same(a.key, b.key) && same(a.mask, b.mask);
}

// The attributes of an accepted flow's key or mask, at all levels of ENCAP.
// The Ethernet type is the innermost one; those around it are of the tags.
class Attrs {
public:
    struct Tag {
        __be16 tpid, tci;
    };

    explicit Attrs(Bytes bytes) {
        for (std::optional<Bytes> level = bytes; level;) {
            level = add_level(*level);
        }
    }

    const std::vector<Tag> &tags() const { return tags_; }
    const std::map<uint16_t, Bytes> &by_type() const { return by_type_; }
    bool has(uint16_t type) const { return by_type_.contains(type); }

    // Zeros if there is no such attribute.
    template <typename T>
    T get(uint16_t type) const {
        T value{};
        if (has(type)) {
            CHECK(read_exactly(by_type_.at(type), &value));
        }
        return value;
    }

private:
    // Returns what is behind the level's tag, if it has one.
    std::optional<Bytes> add_level(Bytes level) {
        std::optional<Bytes> behind;
        AttrReader reader(level);
        while (auto a = reader.next()) {
            if (a->type == OVS_KEY_ATTR_ENCAP) {
                behind = a->payload;
            } else {
                by_type_[a->type] = a->payload;
            }
        }
        if (behind) {
            tags_.push_back({get<__be16>(OVS_KEY_ATTR_ETHERTYPE),
                             get<__be16>(OVS_KEY_ATTR_VLAN)});
            by_type_.erase(OVS_KEY_ATTR_ETHERTYPE);
            by_type_.erase(OVS_KEY_ATTR_VLAN);
        }
        return behind;
    }

    std::map<uint16_t, Bytes> by_type_;
    std::vector<Tag> tags_;  // The outermost first.
};

template <typename T, typename U>
void copy(T *to, const U &from) {
    static_assert(sizeof *to == sizeof from);
    std::memcpy(to, &from, sizeof from);
}

void place_arp(const Attrs &a, xf_key *k) {
    const auto arp = a.get<ovs_key_arp>(OVS_KEY_ATTR_ARP);
    k->ipv4_src = arp.arp_sip;
    k->ipv4_dst = arp.arp_tip;
    k->nw_proto = static_cast<__u8>(ntohs(arp.arp_op));
    copy(&k->arp_sha, arp.arp_sha);
    copy(&k->arp_tha, arp.arp_tha);
}

void place_ipv4(const Attrs &a, xf_key *k) {
    const auto ip = a.get<ovs_key_ipv4>(OVS_KEY_ATTR_IPV4);
    k->ipv4_src = ip.ipv4_src;
    k->ipv4_dst = ip.ipv4_dst;
    k->nw_proto = ip.ipv4_proto;
    k->nw_tos = ip.ipv4_tos;
    k->nw_ttl = ip.ipv4_ttl;
    k->nw_frag = ip.ipv4_frag;
}

void place_ipv6(const Attrs &a, xf_key *k) {
    const auto ip = a.get<ovs_key_ipv6>(OVS_KEY_ATTR_IPV6);
    copy(&k->ipv6_src, ip.ipv6_src);
    copy(&k->ipv6_dst, ip.ipv6_dst);
    k->ipv6_label = ip.ipv6_label;
    k->nw_proto = ip.ipv6_proto;
    k->nw_tos = ip.ipv6_tclass;
    k->nw_ttl = ip.ipv6_hlimit;
    k->nw_frag = ip.ipv6_frag;
}

template <typename T>
void place_ports(const Attrs &a, uint16_t type, xf_key *k) {
    const T ports = a.get<T>(type);
    std::memcpy(&k->tp_src, &ports, 4);  // All begin with the two ports.
}

// ICMP's type and code are in the low bytes of the ports.
template <typename T>
void place_icmp(const Attrs &a, uint16_t type, xf_key *k) {
    uint8_t type_and_code[2];
    copy(&type_and_code, a.get<T>(type));
    k->tp_src = htons(type_and_code[0]);
    k->tp_dst = htons(type_and_code[1]);
}

void place_nd(const Attrs &a, xf_key *k) {
    const auto nd = a.get<ovs_key_nd>(OVS_KEY_ATTR_ND);
    copy(&k->nd_target, nd.nd_target);
    copy(&k->nd_sll, nd.nd_sll);
    copy(&k->nd_tll, nd.nd_tll);
}

// The first of any number of entries.
void place_mpls(const Attrs &a, xf_key *k) {
    const auto it = a.by_type().find(OVS_KEY_ATTR_MPLS);
    if (it != a.by_type().end() && it->second.size() >= 4) {
        std::memcpy(&k->mpls_lse, it->second.data(), 4);
    }
}

void place_transport(const Attrs &a, xf_class cls, uint8_t proto, xf_key *k) {
    const bool v4 = cls == XF_CLASS_IPV4, v6 = cls == XF_CLASS_IPV6;
    if (!v4 && !v6) {
        return;
    }
    if (proto == IPPROTO_TCP) {
        place_ports<ovs_key_tcp>(a, OVS_KEY_ATTR_TCP, k);
        k->tcp_flags = a.get<__be16>(OVS_KEY_ATTR_TCP_FLAGS);
    } else if (proto == IPPROTO_UDP) {
        place_ports<ovs_key_udp>(a, OVS_KEY_ATTR_UDP, k);
    } else if (proto == IPPROTO_SCTP) {
        place_ports<ovs_key_sctp>(a, OVS_KEY_ATTR_SCTP, k);
    } else if (v4 && proto == IPPROTO_ICMP) {
        place_icmp<ovs_key_icmp>(a, OVS_KEY_ATTR_ICMP, k);
    } else if (v6 && proto == IPPROTO_ICMPV6) {
        place_icmp<ovs_key_icmpv6>(a, OVS_KEY_ATTR_ICMPV6, k);
        place_nd(a, k);
    }
}

// What ct() has found.
void place_connection(const Attrs &a, xf_key *k) {
    k->ct_state = static_cast<__u16>(a.get<uint32_t>(OVS_KEY_ATTR_CT_STATE));
    k->ct_zone = a.get<uint16_t>(OVS_KEY_ATTR_CT_ZONE);
    k->ct_mark = a.get<uint32_t>(OVS_KEY_ATTR_CT_MARK);
    copy(&k->ct_label, a.get<ovs_key_ct_labels>(OVS_KEY_ATTR_CT_LABELS));
}

// Where everything belongs that attributes 'a', a key or a mask, say of
// packets of class 'cls' and IP protocol 'proto', which ct() may have seen.
xf_key place(const Attrs &a, xf_class cls, uint8_t proto, bool tracked) {
    xf_key k{};
    const auto eth = a.get<ovs_key_ethernet>(OVS_KEY_ATTR_ETHERNET);
    copy(&k.eth_src, eth.eth_src);
    copy(&k.eth_dst, eth.eth_dst);
    k.eth_type = a.get<__be16>(OVS_KEY_ATTR_ETHERTYPE);
    k.vlan_tci = a.tags().size() > 0 ? a.tags()[0].tci : 0;
    k.vlan2_tci = a.tags().size() > 1 ? a.tags()[1].tci : 0;
    k.dp_hash = static_cast<__u8>(a.get<uint32_t>(OVS_KEY_ATTR_DP_HASH));
    if (cls == XF_CLASS_ARP) {
        place_arp(a, &k);
    } else if (cls == XF_CLASS_IPV4) {
        place_ipv4(a, &k);
    } else if (cls == XF_CLASS_IPV6) {
        place_ipv6(a, &k);
    } else if (cls == XF_CLASS_MPLS) {
        place_mpls(a, &k);
    }
    place_transport(a, cls, proto, &k);
    if (tracked) {
        place_connection(a, &k);
    }
    return k;
}

xf_class class_of(uint16_t eth_type) {
    switch (eth_type) {
        case ETH_P_ARP:
            return XF_CLASS_ARP;
        case ETH_P_IP:
            return XF_CLASS_IPV4;
        case ETH_P_IPV6:
            return XF_CLASS_IPV6;
        case ETH_P_MPLS_UC:
        case ETH_P_MPLS_MC:
            return XF_CLASS_MPLS;
        default:
            return XF_CLASS_L2;
    }
}

// The TPIDs: a bit of the mask per tag.
void place_tpids(const Attrs &key, xf_key *to_key, xf_key *to_mask) {
    const uint8_t bits[] = {XF_TPID_OUTER_AD, XF_TPID_INNER_AD};
    for (size_t i = 0; i < key.tags().size(); i++) {
        const uint16_t tpid = ntohs(key.tags()[i].tpid);
        CHECK(tpid == ETH_P_8021Q || tpid == ETH_P_8021AD);
        to_mask->tpids |= bits[i];
        to_key->tpids |= tpid == ETH_P_8021AD ? bits[i] : 0;
    }
}

bool is_all_zero(Bytes bytes) {
    return std::ranges::all_of(bytes,
                               [](std::byte b) { return b == std::byte{0}; });
}

// The attributes in that of a tunnel, each of which is there once.
std::map<uint16_t, Bytes> tunnel_of(const Attrs &a) {
    std::map<uint16_t, Bytes> all;
    AttrReader reader(a.by_type().at(OVS_KEY_ATTR_TUNNEL));
    while (auto nested = reader.next()) {
        CHECK(all.emplace(nested->type, nested->payload).second);
    }
    CHECK(!reader.malformed());
    return all;
}

// Bytes 'from' to 'from + size' of a tunnel's attribute, zero where the key
// has none, belong at 'to'.
void place_tunnel_bytes(const std::map<uint16_t, Bytes> &key, Bytes mask,
                        uint16_t type, size_t from, size_t size, size_t to,
                        xf_key *to_key, xf_key *to_mask) {
    if (mask.size() < from + size) {
        CHECK(mask.size() <= from || is_all_zero(mask.subspan(from)));
        return;  // No such field, and nothing asked of it.
    }
    CHECK(is_all_zero(mask.subspan(from + size)));
    for (size_t i = 0; i < size; i++) {
        const auto it = key.find(type);
        const bool has = it != key.end();
        CHECK(!has || it->second.size() == mask.size());
        reinterpret_cast<std::byte *>(to_mask)[to + i] = mask[from + i];
        reinterpret_cast<std::byte *>(to_key)[to + i] =
            has ? it->second[from + i] : std::byte{0};
    }
}

void check_upper_id(const std::map<uint16_t, Bytes> &key, Bytes mask) {
    const auto it = key.find(OVS_TUNNEL_KEY_ATTR_ID);
    const size_t n = std::min<size_t>(4, mask.size());
    for (size_t i = 0; i < n && it != key.end(); i++) {
        CHECK((it->second[i] & mask[i]) == std::byte{0});
    }
}

// Those of the other family are zero.
void place_address(const std::map<uint16_t, Bytes> &key, uint16_t type,
                   Bytes mask, xf_key *k, xf_key *m) {
    const struct {
        uint16_t type;
        bool is_ipv4;
        size_t to;
    } rows[] = {
        {OVS_TUNNEL_KEY_ATTR_IPV4_SRC, true, offsetof(xf_key, tun_ipv4_src)},
        {OVS_TUNNEL_KEY_ATTR_IPV4_DST, true, offsetof(xf_key, tun_ipv4_dst)},
        {OVS_TUNNEL_KEY_ATTR_IPV6_SRC, false, offsetof(xf_key, tun_ipv6_src)},
        {OVS_TUNNEL_KEY_ATTR_IPV6_DST, false, offsetof(xf_key, tun_ipv6_dst)}};
    const bool is_ipv4 = key.contains(OVS_TUNNEL_KEY_ATTR_IPV4_DST);
    for (const auto &row : rows) {
        if (row.type == type && row.is_ipv4 == is_ipv4) {
            place_tunnel_bytes(key, mask, type, 0, is_ipv4 ? 4 : 16, row.to, k,
                               m);
        } else if (row.type == type) {
            CHECK(!key.contains(type));
        }
    }
}

void place_tunnel_attr(const std::map<uint16_t, Bytes> &key, uint16_t type,
                       Bytes mask, xf_key *k, xf_key *m) {
    auto place = [&](size_t from, size_t size, size_t to) {
        place_tunnel_bytes(key, mask, type, from, size, to, k, m);
    };
    switch (type) {
        case OVS_TUNNEL_KEY_ATTR_ID:
            check_upper_id(key, mask);
            return place(4, 4, offsetof(xf_key, tun_id));
        case OVS_TUNNEL_KEY_ATTR_IPV4_SRC:
        case OVS_TUNNEL_KEY_ATTR_IPV4_DST:
        case OVS_TUNNEL_KEY_ATTR_IPV6_SRC:
        case OVS_TUNNEL_KEY_ATTR_IPV6_DST:
            return place_address(key, type, mask, k, m);
        case OVS_TUNNEL_KEY_ATTR_TOS:
            return place(0, 1, offsetof(xf_key, tun_tos));
        case OVS_TUNNEL_KEY_ATTR_TTL:
            return place(0, 1, offsetof(xf_key, tun_ttl));
        case OVS_TUNNEL_KEY_ATTR_GENEVE_OPTS:
            if (!mask.empty()) {
                place(0, 8, offsetof(xf_key, tun_option));
            }
            return;
        case OVS_TUNNEL_KEY_ATTR_DONT_FRAGMENT:
            CHECK(!key.contains(type));
            return;
        case OVS_TUNNEL_KEY_ATTR_CSUM:
        case OVS_TUNNEL_KEY_ATTR_OAM: {
            const uint8_t flag = type == OVS_TUNNEL_KEY_ATTR_CSUM
                                   ? XF_TUNNEL_CSUM
                                   : XF_TUNNEL_OAM;
            m->tun_flags |= flag;
            k->tun_flags |= key.contains(type) ? flag : 0;
            return;
        }
        default:
            CHECK(is_all_zero(mask));
    }
}

// What is matched of the tunnel that packets came out of.
void place_tunnel(const Attrs &key, const Attrs &mask, xf_key *k, xf_key *m) {
    if (!key.has(OVS_KEY_ATTR_TUNNEL) || !mask.has(OVS_KEY_ATTR_TUNNEL)
        || key.by_type().at(OVS_KEY_ATTR_TUNNEL).empty()
        || is_all_zero(mask.by_type().at(OVS_KEY_ATTR_TUNNEL))) {
        return;
    }
    const auto of_key = tunnel_of(key), of_mask = tunnel_of(mask);
    const bool is_ipv4 = of_key.contains(OVS_TUNNEL_KEY_ATTR_IPV4_DST);
    CHECK(is_ipv4 != of_key.contains(OVS_TUNNEL_KEY_ATTR_IPV6_DST));
    for (const auto &[type, bits] : of_mask) {
        place_tunnel_attr(of_key, type, bits, k, m);
    }
    k->tun_family = is_ipv4 ? 4 : 6;
    m->tun_family = 0xff;
    const auto option = of_key.find(OVS_TUNNEL_KEY_ATTR_GENEVE_OPTS);
    if (option == of_key.end() || option->second.empty()) {
        std::memset(k->tun_option, 0, 8);
        std::memset(m->tun_option, 0xff, 8);
        return;
    }
    CHECK(option->second.size() == 8 && option->second[3] == std::byte{1});
    k->tun_option[3] = 1;
    m->tun_option[3] = 0xff;
}

// Words 9 to 12 are of Neighbour Discovery alone.
bool matches_nd(const xf_key &mask) {
    return std::any_of(mask.word + XF_ND_WORD, mask.word + XF_INNER_WORD,
                       [](__u64 w) { return w != 0; });
}

// What is asked of Neighbour Discovery without ICMPv6's code is executed for
// code 0 alone: other messages have no such fields.
void place_nd_code(xf_key *key, xf_key *mask) {
    if (matches_nd(*mask) && !mask->tp_dst) {
        mask->tp_dst = htons(0xff);
        key->tp_dst = 0;
    }
}

// Recirculated or not, and hashed.
void check_metadata(const Attrs &key, const Attrs &mask, const Match &m) {
    const auto id_mask = mask.get<uint32_t>(OVS_KEY_ATTR_RECIRC_ID);
    const auto id = key.get<uint32_t>(OVS_KEY_ATTR_RECIRC_ID);
    CHECK(m.recirc_id == (id & id_mask));
    CHECK(m.recirc_id == 0 || id_mask == UINT32_MAX);

    // Higher bits of the hash are known only where it is zero.
    const auto hash_mask = mask.get<uint32_t>(OVS_KEY_ATTR_DP_HASH);
    const auto hash = key.get<uint32_t>(OVS_KEY_ATTR_DP_HASH) & hash_mask;
    CHECK((m.recirc_id ? hash_mask : hash) <= 0xff);
}

void check_placement(const Attrs &key, const Attrs &mask, const Match &m) {
    const auto eth_type = key.get<__be16>(OVS_KEY_ATTR_ETHERTYPE);
    CHECK(m.cls == class_of(ntohs(eth_type)));
    CHECK(index(m.in_port) == key.get<uint32_t>(OVS_KEY_ATTR_IN_PORT));

    const bool is_ip = m.cls == XF_CLASS_IPV4 || m.cls == XF_CLASS_IPV6;
    const bool tracked = is_ip && m.recirc_id;
    const uint8_t proto = place(key, m.cls, 0, false).nw_proto;
    xf_key expected_mask = place(mask, m.cls, proto, tracked);
    CHECK(m.n_tags == key.tags().size() && m.n_tags == mask.tags().size());
    CHECK(m.n_tags <= XF_MAX_TAGS);
    // That there is a tag, or none, or no second one, is always matched; a
    // packet without a first one has no second.
    const auto present = htons(XF_VLAN_PRESENT);
    expected_mask.vlan_tci |= m.n_tags < 1 ? 0xffff : present;
    expected_mask.vlan2_tci |= m.n_tags < 1 ? 0
                             : m.n_tags < 2 ? 0xffff
                                            : present;
    if (is_ip && !expected_mask.nw_frag) {
        expected_mask.nw_frag = XF_FRAG_LATER;  // All but later fragments.
    }
    xf_key expected_key = place(key, m.cls, proto, tracked);
    place_tpids(key, &expected_key, &expected_mask);
    place_tunnel(key, mask, &expected_key, &expected_mask);
    place_nd_code(&expected_key, &expected_mask);
    if (is_ip && expected_mask.nw_frag == XF_FRAG_LATER) {
        expected_key.nw_frag = XF_FRAG_NONE;
    }
    CHECK(same(m.mask, expected_mask));
    for (size_t i = 0; i < XF_KEY_WORDS; i++) {
        expected_key.word[i] &= expected_mask.word[i];
    }
    CHECK(same(m.key, expected_key));
}

// A fragment type is a number, not bits, but for "not a later one".
void check_fragments(const Match &m) {
    if (m.cls != XF_CLASS_IPV4 && m.cls != XF_CLASS_IPV6) {
        CHECK(m.mask.nw_frag == 0);
    } else if (m.mask.nw_frag == XF_FRAG_LATER) {
        CHECK(m.key.nw_frag == XF_FRAG_NONE);
    } else {
        CHECK(m.mask.nw_frag == 0xff && m.key.nw_frag <= XF_FRAG_LATER);
    }
}

bool matches_connection(const Match &m) {
    return m.mask.word[4] || m.mask.word[XF_LABEL_WORD]
        || m.mask.word[XF_LABEL_WORD + 1];
}

// What must hold for every match.
void check_shape(const Match &m) {
    CHECK(m.mask.eth_type == 0xffff);
    const auto present = htons(XF_VLAN_PRESENT);
    CHECK(m.mask.vlan_tci & present);
    CHECK(((m.mask.vlan2_tci & present) != 0) == (m.n_tags >= 1));
    CHECK((m.n_tags >= 1) == ((m.key.vlan_tci & present) != 0));
    CHECK((m.n_tags >= 2) == ((m.key.vlan2_tci & present) != 0));
    CHECK(m.key.in_port == 0 && m.mask.in_port == 0);
    CHECK(m.key.recirc == 0 && m.mask.recirc == 0);
    for (uint32_t i = 0; i < XF_KEY_WORDS; i++) {
        CHECK(!(m.key.word[i] & ~m.mask.word[i]));
    }
    check_fragments(m);
    // What is above IP only of packets that have it.
    if (m.mask.tp_src || m.mask.tp_dst || m.mask.tcp_flags
        || matches_nd(m.mask)) {
        CHECK(m.cls == XF_CLASS_IPV4 || m.cls == XF_CLASS_IPV6);
        CHECK(m.mask.nw_proto == 0xff);
        CHECK((m.mask.nw_frag & XF_FRAG_LATER)
              && m.key.nw_frag != XF_FRAG_LATER);
    }
    // What ct() finds only of packets that it may have seen.
    if (matches_connection(m)) {
        CHECK(m.cls == XF_CLASS_IPV4 || m.cls == XF_CLASS_IPV6);
        CHECK(m.recirc_id);
    }
    CHECK(!m.mask.tcp_flags || m.key.nw_proto == IPPROTO_TCP);
    if (matches_nd(m.mask)) {
        CHECK(m.cls == XF_CLASS_IPV6 && m.key.nw_proto == IPPROTO_ICMPV6);
        CHECK(m.mask.tp_src == htons(0xff) && m.mask.tp_dst == htons(0xff));
        CHECK(m.key.tp_src == htons(135) || m.key.tp_src == htons(136));
        CHECK(m.key.tp_dst == 0);
    }
}

// The original tuple is not in the key, and of a packet that ct() may have
// seen it is not zero.
void check_original_tuple(const Attrs &mask, const Match &m) {
    for (const uint16_t type :
         {OVS_KEY_ATTR_CT_ORIG_TUPLE_IPV4, OVS_KEY_ATTR_CT_ORIG_TUPLE_IPV6}) {
        if (mask.has(type) && m.recirc_id
            && (m.cls == XF_CLASS_IPV4 || m.cls == XF_CLASS_IPV6)) {
            CHECK(is_all_zero(mask.by_type().at(type)));
        }
    }
}

// An attribute that the mask has and the key has not may only ask for what is
// true of every packet that has just come in: no tunnel, no conntrack state...
void check_mask_only(uint16_t type, Bytes mask) {
    switch (type) {
        case OVS_KEY_ATTR_PRIORITY:
        case OVS_KEY_ATTR_SKB_MARK:
        case OVS_KEY_ATTR_TUNNEL:
        case OVS_KEY_ATTR_DP_HASH:
        case OVS_KEY_ATTR_RECIRC_ID:
        case OVS_KEY_ATTR_CT_STATE:
        case OVS_KEY_ATTR_CT_ZONE:
        case OVS_KEY_ATTR_CT_MARK:
        case OVS_KEY_ATTR_CT_LABELS:
        case OVS_KEY_ATTR_CT_ORIG_TUPLE_IPV4:
        case OVS_KEY_ATTR_CT_ORIG_TUPLE_IPV6:
        case OVS_KEY_ATTR_PACKET_TYPE:
            return;
        default:
            CHECK(is_all_zero(mask));
    }
}

// A byte of the key's attributes and what the mask says of it.
struct KeyByte {
    std::byte *key;
    std::byte mask;
};

// All bytes of payloads, at all levels, also of attributes that are not in the
// mask.  'bytes' is an accepted key, or what its ENCAP holds.
void collect(std::byte *bytes, size_t size, Bytes mask,
             std::vector<KeyByte> *all) {
    std::map<uint16_t, Bytes> masks;
    AttrReader mask_reader(mask), reader(Bytes(bytes, size));
    while (auto a = mask_reader.next()) {
        masks[a->type] = a->payload;
    }
    while (auto a = reader.next()) {
        std::byte *payload = bytes + (a->payload.data() - bytes);
        const auto m = masks.find(a->type);
        if (a->type == OVS_KEY_ATTR_ENCAP) {
            CHECK(m != masks.end());
            collect(payload, a->payload.size(), m->second, all);
            continue;
        }
        if (a->type == OVS_KEY_ATTR_TUNNEL) {
            continue;  // Nested, and of other lengths: place_tunnel().
        }
        for (size_t i = 0; i < a->payload.size(); i++) {
            const bool known = m != masks.end() && i < m->second.size();
            all->push_back({payload + i, known ? m->second[i] : std::byte{0}});
        }
    }
}

// Changes one bit of each byte of the key and looks what becomes of the match.
// Which bit is up to the input.
void check_every_bit_decides(const MatchInput &in, const Match &m) {
    ByteVector key = in.key;
    std::vector<KeyByte> all;
    collect(key.data(), key.size(), in.mask, &all);

    size_t n = in.bytes().size();
    for (const KeyByte &b : all) {
        const auto bit = std::byte{1} << (n++ % 8);
        Match other;
        *b.key ^= bit;
        const bool refused{decode(key, in.mask, &other)};
        *b.key ^= bit;
        if ((b.mask & bit) != std::byte{0}) {
            CHECK(refused || other.in_port != m.in_port
                  || other.recirc_id != m.recirc_id
                  || !same(other.key, m.key));
            // The two flows have no packet in common: they differ in a bit
            // that both match, or in the Ethernet type, which is matched
            // exactly, or only one is of packets that were recirculated.
            CHECK(refused || other.cls != m.cls
                  || !other.recirc_id != !m.recirc_id
                  || same(other.mask, m.mask));
        } else {
            CHECK(refused || same(other, m));
        }
    }
}

// Shorter keys and masks, each in a block of its own; some lengths, others
// come with other inputs.
void check_truncated(const MatchInput &in) {
    Match m;
    for (const size_t step : {1, 2, 3, 4, 5, 7, 8, 16, 29, 64}) {
        if (step <= in.key.size()) {
            const Bytes shorter = Bytes(in.key).first(in.key.size() - step);
            (void)decode(copy_of(shorter), in.mask, &m);
        }
        if (step <= in.mask.size()) {
            const Bytes shorter = Bytes(in.mask).first(in.mask.size() - step);
            (void)decode(in.key, copy_of(shorter), &m);
        }
    }
}

void check(const MatchInput &in) {
    Match m, again;
    const Reject r = decode(in.key, in.mask, &m);
    const Reject r2 = decode(in.key, in.mask, &again);
    CHECK(r.error == r2.error && r.group == r2.group && r.what == r2.what);
    check_truncated(in);
    if (r) {
        return;
    }
    CHECK(same(m, again));
    check_shape(m);

    const Attrs key(in.key), mask(in.mask);
    check_placement(key, mask, m);
    check_metadata(key, mask, m);
    check_original_tuple(mask, m);
    for (const auto &[type, payload] : mask.by_type()) {
        if (!key.has(type)) {
            check_mask_only(type, payload);
        }
    }
    check_every_bit_decides(in, m);
}

}  // namespace
}  // namespace flowxlate::fuzz

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    using namespace flowxlate::fuzz;
    check(MatchInput::from(bytes_at(data, size)));
    return 0;
}
