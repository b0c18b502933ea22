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
#include "flowxlate/match.h"

#include <linux/if_ether.h>
#include <netinet/in.h>

#include <map>

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
    return a.cls == b.cls && a.in_port == b.in_port && same(a.key, b.key)
        && same(a.mask, b.mask);
}

// The attributes of an accepted flow's key or mask, outside and inside of
// ENCAP.  The Ethernet type is the inner one.
class Attrs {
public:
    explicit Attrs(Bytes bytes) {
        AttrReader outer(bytes);
        while (auto a = outer.next()) {
            by_type_[a->type] = a->payload;
        }
        if (auto encap = by_type_.find(OVS_KEY_ATTR_ENCAP);
            encap != by_type_.end()) {
            AttrReader inner(encap->second);
            while (auto a = inner.next()) {
                by_type_[a->type] = a->payload;
            }
        }
        by_type_.erase(OVS_KEY_ATTR_ENCAP);
    }

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
    std::map<uint16_t, Bytes> by_type_;
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
    }
}

// Where everything belongs that attributes 'a', a key or a mask, say of
// packets of class 'cls' and IP protocol 'proto'.
xf_key place(const Attrs &a, xf_class cls, uint8_t proto) {
    xf_key k{};
    const auto eth = a.get<ovs_key_ethernet>(OVS_KEY_ATTR_ETHERNET);
    copy(&k.eth_src, eth.eth_src);
    copy(&k.eth_dst, eth.eth_dst);
    k.eth_type = a.get<__be16>(OVS_KEY_ATTR_ETHERTYPE);
    k.vlan_tci = a.get<__be16>(OVS_KEY_ATTR_VLAN);
    if (cls == XF_CLASS_ARP) {
        place_arp(a, &k);
    } else if (cls == XF_CLASS_IPV4) {
        place_ipv4(a, &k);
    } else if (cls == XF_CLASS_IPV6) {
        place_ipv6(a, &k);
    }
    place_transport(a, cls, proto, &k);
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
        default:
            return XF_CLASS_L2;
    }
}

void check_placement(const Attrs &key, const Attrs &mask, const Match &m) {
    const auto eth_type = key.get<__be16>(OVS_KEY_ATTR_ETHERTYPE);
    CHECK(m.cls == class_of(ntohs(eth_type)));
    CHECK(index(m.in_port) == key.get<uint32_t>(OVS_KEY_ATTR_IN_PORT));

    const uint8_t proto = place(key, m.cls, 0).nw_proto;
    xf_key expected_mask = place(mask, m.cls, proto);
    if (!key.has(OVS_KEY_ATTR_VLAN)) {
        expected_mask.vlan_tci = 0xffff;  // Packets without a tag.
    }
    CHECK(same(m.mask, expected_mask));

    xf_key expected_key = place(key, m.cls, proto);
    for (size_t i = 0; i < XF_KEY_WORDS; i++) {
        expected_key.word[i] &= expected_mask.word[i];
    }
    CHECK(same(m.key, expected_key));
}

// What must hold for every match.
void check_shape(const Match &m) {
    CHECK(m.mask.eth_type == 0xffff);
    CHECK(m.mask.vlan_tci & htons(XF_VLAN_PRESENT));
    CHECK(m.tagged() == ((m.key.vlan_tci & htons(XF_VLAN_PRESENT)) != 0));
    CHECK(m.key.in_port == 0 && m.mask.in_port == 0);
    for (uint32_t i = 0; i < XF_KEY_WORDS; i++) {
        CHECK(!(m.key.word[i] & ~m.mask.word[i]));
        CHECK(i < xf_class_words(m.cls) || !m.mask.word[i]);
    }
    // A fragment type is a number, not bits; IPv6 has it in an extension.
    CHECK(m.mask.nw_frag == 0 || m.mask.nw_frag == 0xff);
    CHECK(m.key.nw_frag == XF_FRAG_NONE
          || (m.key.nw_frag == XF_FRAG_FIRST && m.cls == XF_CLASS_IPV4));
    // Ports and TCP flags only of packets that have them.
    if (m.mask.tp_src || m.mask.tp_dst || m.mask.tcp_flags) {
        CHECK(m.cls == XF_CLASS_IPV4 || m.cls == XF_CLASS_IPV6);
        CHECK(m.mask.nw_proto == 0xff);
    }
    CHECK(!m.mask.tcp_flags || m.key.nw_proto == IPPROTO_TCP);
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
            for (const std::byte b : mask) {
                CHECK(b == std::byte{0});
            }
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
                  || !same(other.key, m.key));
            // The two flows have no packet in common.
            CHECK(refused || same(other.mask, m.mask));
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
