// SPDX-License-Identifier: Apache-2.0
// How match_fuzzer's inputs change: half of the time attribute by attribute,
// so that most inputs are nearly valid flows, otherwise byte by byte.
#include <linux/if_ether.h>
#include <netinet/in.h>

#include <cstring>
#include <random>

#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/match_input.h"

namespace flowxlate::fuzz {
namespace {

using Level = unit::Flow::Level;

// Attributes and the sizes that they must have; 0: any.
struct Kind {
    uint16_t type;
    uint16_t size;
};
constexpr Kind kKinds[] = {
    {OVS_KEY_ATTR_ENCAP, 0},
    {OVS_KEY_ATTR_PRIORITY, 4},
    {OVS_KEY_ATTR_IN_PORT, 4},
    {OVS_KEY_ATTR_ETHERNET, sizeof(ovs_key_ethernet)},
    {OVS_KEY_ATTR_VLAN, 2},
    {OVS_KEY_ATTR_ETHERTYPE, 2},
    {OVS_KEY_ATTR_IPV4, sizeof(ovs_key_ipv4)},
    {OVS_KEY_ATTR_IPV6, sizeof(ovs_key_ipv6)},
    {OVS_KEY_ATTR_TCP, sizeof(ovs_key_tcp)},
    {OVS_KEY_ATTR_UDP, sizeof(ovs_key_udp)},
    {OVS_KEY_ATTR_ICMP, sizeof(ovs_key_icmp)},
    {OVS_KEY_ATTR_ICMPV6, sizeof(ovs_key_icmpv6)},
    {OVS_KEY_ATTR_ARP, sizeof(ovs_key_arp)},
    {OVS_KEY_ATTR_ND, sizeof(ovs_key_nd)},
    {OVS_KEY_ATTR_SKB_MARK, 4},
    {OVS_KEY_ATTR_TUNNEL, 0},
    {OVS_KEY_ATTR_SCTP, sizeof(ovs_key_sctp)},
    {OVS_KEY_ATTR_TCP_FLAGS, 2},
    {OVS_KEY_ATTR_DP_HASH, 4},
    {OVS_KEY_ATTR_RECIRC_ID, 4},
    {OVS_KEY_ATTR_MPLS, 4},
    {OVS_KEY_ATTR_CT_STATE, 4},
    {OVS_KEY_ATTR_CT_ZONE, 2},
    {OVS_KEY_ATTR_CT_MARK, 4},
    {OVS_KEY_ATTR_CT_LABELS, 16},
    {OVS_KEY_ATTR_CT_ORIG_TUPLE_IPV4, sizeof(ovs_key_ct_tuple_ipv4)},
    {OVS_KEY_ATTR_CT_ORIG_TUPLE_IPV6, sizeof(ovs_key_ct_tuple_ipv6)},
    {OVS_KEY_ATTR_NSH, 0},
    {OVS_KEY_ATTR_PACKET_TYPE, 4},
    {OVS_KEY_ATTR_ND_EXTENSIONS, 0},
    {OVS_KEY_ATTR_IPV6_EXTHDRS, 2},
};

Level parse(Bytes bytes) {
    Level level;
    AttrReader reader(bytes);
    while (auto a = reader.next()) {
        level[a->type] = copy_of(a->payload);
    }
    return level;
}

ByteVector encode(const Level &level) {
    return copy_of(unit::Flow::encode(level).bytes());
}

// One mutation of a flow, or of what is behind its VLAN tag.
class Mutation {
public:
    explicit Mutation(unsigned seed) : random_(seed) {}

    void apply(unit::Flow *f) {
        if (f->key.contains(OVS_KEY_ATTR_ENCAP)
            && f->mask.contains(OVS_KEY_ATTR_ENCAP) && below(2)) {
            unit::Flow inner;
            inner.key = parse(f->key[OVS_KEY_ATTR_ENCAP]);
            inner.mask = parse(f->mask[OVS_KEY_ATTR_ENCAP]);
            if (below(8) == 0) {
                move_out(&inner, f);
            } else {
                apply(&inner);  // There may be a second tag.
            }
            f->key[OVS_KEY_ATTR_ENCAP] = encode(inner.key);
            f->mask[OVS_KEY_ATTR_ENCAP] = encode(inner.mask);
        } else {
            apply_here(f);
        }
    }

    uint32_t below(uint32_t n) { return random_() % n; }

private:
    void apply_here(unit::Flow *f) {
        switch (below(21)) {
            case 19:
            case 20:
                set_tunnel(f);
                break;
            case 0:
                *f = fresh();
                break;
            case 1:
                f->in_vlan(below(2) ? "1005/ffff" : "1000/1000",
                           below(2) ? "8100/ffff" : "88a8/ffff");
                break;
            case 2:
                remove(f);
                break;
            case 3:
            case 4:
                add(f);
                break;
            case 5:
                set_protocol(f);
                break;
            case 6:
                resize(f);
                break;
            case 7:
                set_fragment_type(f);
                break;
            case 8:
                change(&f->key);
                break;
            case 9:
                recirculate(f);
                break;
            case 11:
            case 12:
                track(f);
                break;
            case 10:
                f->match(OVS_KEY_ATTR_ETHERTYPE, "8847/ffff");
                f->match(OVS_KEY_ATTR_MPLS, below(2) ? "00064140/fffff1ff"
                                                     : "0006404000011140/"
                                                       "fffff00000000000");
                break;
            default:
                change(&f->mask);
        }
    }

    unit::Flow fresh() {
        static constexpr const char *kTypes[] = {
            "0800", "86dd", "0806", "88b5", "0805", "8100", "8847"};
        return unit::on_port1(kTypes[below(std::size(kTypes))]);
    }

    uint16_t any_type_of(const Level &level) {
        return std::next(level.begin(), below(level.size()))->first;
    }

    // From where it belongs, behind the VLAN tag, to where it does not.
    void move_out(unit::Flow *inner, unit::Flow *outer) {
        if (inner->mask.empty()) {
            return;
        }
        const uint16_t type = any_type_of(inner->mask);
        outer->mask[type] = inner->mask[type];
        outer->key[type] = inner->key[type];
        inner->mask.erase(type);
        inner->key.erase(type);
    }

    void remove(unit::Flow *f) {
        const Level &from = below(2) ? f->key : f->mask;
        if (from.empty()) {
            return;
        }
        const uint16_t type = any_type_of(from);
        const uint32_t where = below(3);
        if (where != 1) {
            f->mask.erase(type);
        }
        if (where != 0) {
            f->key.erase(type);
        }
    }

    void add(unit::Flow *f) {
        const Kind kind = kKinds[below(std::size(kKinds))];
        const size_t size = kind.size ? kind.size : 4 * below(6);
        const uint32_t where = below(4);
        if (where != 0) {
            f->mask[kind.type] = filled(size);
        }
        if (where != 1) {
            f->key[kind.type] = filled(size);
        }
    }

    ByteVector filled(size_t size) {
        ByteVector b(size);
        switch (below(4)) {
            case 0:
                b.assign(size, std::byte{0xff});
                break;
            case 1:
                for (std::byte &x : b) {
                    x = std::byte(below(256));
                }
                break;
            default:
                break;
        }
        return b;
    }

    // A flow of an IP protocol, with the ports' attribute that it should have.
    void set_protocol(unit::Flow *f) {
        static constexpr struct {
            const char *proto;
            uint16_t type, size;
        } kProtos[] = {
            {"06", OVS_KEY_ATTR_TCP, 4},  {"06", OVS_KEY_ATTR_TCP_FLAGS, 2},
            {"11", OVS_KEY_ATTR_UDP, 4},  {"84", OVS_KEY_ATTR_SCTP, 4},
            {"01", OVS_KEY_ATTR_ICMP, 2}, {"3a", OVS_KEY_ATTR_ICMPV6, 2},
            {"3a", OVS_KEY_ATTR_ND, 28}};
        const auto &p = kProtos[below(std::size(kProtos))];
        const std::string proto = std::string(p.proto) + "/ff";
        if (below(2)) {
            f->match(OVS_KEY_ATTR_ETHERTYPE, "0800/ffff");
            f->match(OVS_KEY_ATTR_IPV4, &ovs_key_ipv4::ipv4_proto, proto);
        } else {
            f->match(OVS_KEY_ATTR_ETHERTYPE, "86dd/ffff");
            f->match(OVS_KEY_ATTR_IPV6, &ovs_key_ipv6::ipv6_proto, proto);
        }
        f->key[p.type] = filled(p.size);
        f->mask[p.type] = filled(p.size);
        if (p.type == OVS_KEY_ATTR_ND) {
            static constexpr const char *kMessages[] = {
                "8700/ffff", "8800/ffff", "8500/ffff", "8700/feff"};
            f->match(OVS_KEY_ATTR_ICMPV6, kMessages[below(4)]);
        }
    }

    // A flow of packets that came out of a tunnel, mostly one that OVS makes.
    void set_tunnel(unit::Flow *f) {
        unit::AttrList key, mask;
        auto put = [&](uint16_t type, size_t size) {
            const uint32_t where = below(8);
            if (where != 0) {
                key.put_bytes(type, filled(size));
            }
            if (where != 1) {
                mask.put_bytes(type, filled(size));
            }
        };
        auto maybe = [&](uint16_t type, size_t size) {
            if (below(2)) {
                put(type, size);
            }
        };
        maybe(OVS_TUNNEL_KEY_ATTR_ID, 8);
        if (below(2)) {
            put(OVS_TUNNEL_KEY_ATTR_IPV4_SRC, 4);
            put(OVS_TUNNEL_KEY_ATTR_IPV4_DST, 4);
        } else {
            put(OVS_TUNNEL_KEY_ATTR_IPV6_SRC, 16);
            put(OVS_TUNNEL_KEY_ATTR_IPV6_DST, 16);
        }
        maybe(OVS_TUNNEL_KEY_ATTR_TOS, 1);
        maybe(OVS_TUNNEL_KEY_ATTR_TTL, 1);
        maybe(OVS_TUNNEL_KEY_ATTR_CSUM, 0);
        maybe(OVS_TUNNEL_KEY_ATTR_OAM, 0);
        maybe(OVS_TUNNEL_KEY_ATTR_DONT_FRAGMENT, 0);
        if (below(2)) {
            ByteVector option = filled(below(4) ? 8 : 12);
            option[3] = std::byte(below(4) ? 1 : 2);
            key.put_bytes(OVS_TUNNEL_KEY_ATTR_GENEVE_OPTS, option);
            mask.put_bytes(OVS_TUNNEL_KEY_ATTR_GENEVE_OPTS,
                           filled(option.size()));
        }
        if (below(8) == 0) {
            put(static_cast<uint16_t>(below(20)), below(9));
        }
        f->key[OVS_KEY_ATTR_TUNNEL] = copy_of(key.bytes());
        f->mask[OVS_KEY_ATTR_TUNNEL] = copy_of(mask.bytes());
    }

    void set_fragment_type(unit::Flow *f) {
        static constexpr const char *kMatches[] = {"00/ff", "01/ff", "02/ff",
                                                   "01/00", "01/01", "00/fe"};
        const char *match = kMatches[below(std::size(kMatches))];
        if (below(2)) {
            f->match(OVS_KEY_ATTR_IPV4, &ovs_key_ipv4::ipv4_frag, match);
        } else {
            f->match(OVS_KEY_ATTR_IPV6, &ovs_key_ipv6::ipv6_frag, match);
        }
    }

    void recirculate(unit::Flow *f) {
        f->match(OVS_KEY_ATTR_RECIRC_ID,
                 below(4) ? "05000000/ffffffff" : "00000000/ffffffff");
        if (below(2)) {
            f->match(OVS_KEY_ATTR_DP_HASH,
                     below(2) ? "25000000/3f000000" : "00000000/ffffffff");
        }
    }

    // A flow of packets that ct() has seen, or may have seen.
    void track(unit::Flow *f) {
        static constexpr Kind kFound[] = {
            {OVS_KEY_ATTR_CT_STATE, 4},
            {OVS_KEY_ATTR_CT_ZONE, 2},
            {OVS_KEY_ATTR_CT_MARK, 4},
            {OVS_KEY_ATTR_CT_LABELS, 16},
            {OVS_KEY_ATTR_CT_ORIG_TUPLE_IPV4, sizeof(ovs_key_ct_tuple_ipv4)},
            {OVS_KEY_ATTR_CT_ORIG_TUPLE_IPV6, sizeof(ovs_key_ct_tuple_ipv6)}};
        if (below(4)) {
            f->match(OVS_KEY_ATTR_RECIRC_ID, "05000000/ffffffff");
        }
        if (below(2)) {
            f->match(OVS_KEY_ATTR_CT_STATE, "22000000/23000000");
            return;
        }
        const Kind found = kFound[below(std::size(kFound))];
        f->mask[found.type] = filled(found.size);
        if (below(4)) {
            f->key[found.type] = filled(found.size);
        } else {
            f->key.erase(found.type);
        }
    }

    void resize(unit::Flow *f) {
        if (f->mask.empty()) {
            return;
        }
        const uint16_t type = any_type_of(f->mask);
        const size_t size = below(2) ? below(48) : f->mask[type].size();
        f->mask[type].resize(size);
        if (below(4)) {
            f->key[type].resize(size);
        }
    }

    // Some bytes of one attribute.
    void change(Level *level) {
        if (level->empty()) {
            return;
        }
        ByteVector &b = (*level)[any_type_of(*level)];
        if (b.empty()) {
            return;
        }
        const size_t from = below(b.size());
        const size_t to = from + 1 + (below(2) ? 0 : below(b.size() - from));
        const uint32_t what = below(4);
        for (size_t i = from; i < to; i++) {
            b[i] = what == 0 ? std::byte{0xff}
                 : what == 1 ? std::byte{0}
                 : what == 2 ? b[i] ^ std::byte{1} << below(8)
                             : std::byte(below(256));
        }
    }

    std::minstd_rand random_;
};

size_t mutate(uint8_t *data, size_t size, size_t max_size, unsigned seed) {
    Mutation mutation(seed);
    if (mutation.below(2)) {
        return LLVMFuzzerMutate(data, size, max_size);
    }
    MatchInput in = MatchInput::from(bytes_at(data, size));
    unit::Flow flow;
    flow.key = parse(in.key);
    flow.mask = parse(in.mask);
    for (uint32_t n = 1 + mutation.below(4); n > 0; n--) {
        mutation.apply(&flow);
    }
    in.key = encode(flow.key);
    in.mask = encode(flow.mask);
    const ByteVector bytes = in.bytes();
    if (bytes.size() > max_size) {
        return size;
    }
    std::memcpy(data, bytes.data(), bytes.size());
    return bytes.size();
}

}  // namespace
}  // namespace flowxlate::fuzz

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size,
                               unsigned seed) {
    return flowxlate::fuzz::mutate(data, size, max_size, seed);
}
