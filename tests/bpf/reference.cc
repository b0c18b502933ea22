// SPDX-License-Identifier: Apache-2.0
#include "reference.h"

#include <arpa/inet.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <map>

#include "row.h"

namespace flowxlate::test {
namespace {

uint16_t get16(const Frame &f, size_t at) {
    return f.at(at) << 8 | f.at(at + 1);
}

void put16(Frame &f, size_t at, uint16_t v) {
    f.at(at) = v >> 8;
    f.at(at + 1) = v;
}

template <typename T>
void copy(const Frame &f, size_t at, T *to) {
    std::copy_n(&f.at(at), sizeof *to, reinterpret_cast<uint8_t *>(to));
}

bool is_tag(uint16_t type) { return type == kVlan || type == kQinq; }

bool is_extension(uint8_t proto) {
    return proto == 0 || proto == 43 || proto == 44 || proto == 51
        || proto == 60;
}

// Reads the headers of one frame, from the outside to the inside.  Each
// function returns false for what the program passes on.
class Parser {
public:
    Parser(const Frame &f, uint32_t max_tags) : f_(f), max_tags_(max_tags) {}

    bool ethernet() {
        if (f_.size() < 14) {
            return false;
        }
        p.key.in_port = index(kIn);
        copy(f_, 0, &p.key.eth_dst);
        copy(f_, 6, &p.key.eth_src);
        size_t at = 12;
        for (uint32_t n = 0; is_tag(get16(f_, at)) && n < max_tags_; n++) {
            if (f_.size() < at + 6) {
                return false;
            }
            if (get16(f_, at) == kQinq) {
                p.key.tpids |= 1 << n;
            }
            (n ? p.key.vlan2_tci : p.key.vlan_tci) =
                htons(get16(f_, at + 2) | XF_VLAN_PRESENT);
            at += 4;
        }
        const uint16_t type = get16(f_, at);
        p.key.eth_type = htons(type);
        p.l3 = at + 2;
        return type >= 0x600 && network(type);
    }

    Parsed p;

private:
    bool has(size_t at, size_t n) const { return at + n <= f_.size(); }

    bool network(uint16_t type) {
        switch (type) {
            case kIpv4:
                p.cls = XF_CLASS_IPV4;
                return ipv4();
            case kIpv6:
                p.cls = XF_CLASS_IPV6;
                return ipv6();
            case kArp:
                p.cls = XF_CLASS_ARP;
                return arp();
            case kMpls:
            case 0x8848:
                p.cls = XF_CLASS_MPLS;
                if (has(p.l3, 4)) {
                    copy(f_, p.l3, &p.key.mpls_lse);
                }
                return has(p.l3, 4);
            default:
                return true;
        }
    }

    bool arp() {
        const size_t at = p.l3;
        if (!has(at, 28)
            || Frame(&f_[at], &f_[at] + 7) != Frame{0, 1, 8, 0, 6, 4, 0}) {
            return false;
        }
        p.key.nw_proto = f_[at + 7];
        copy(f_, at + 8, &p.key.arp_sha);
        copy(f_, at + 14, &p.key.ipv4_src);
        copy(f_, at + 18, &p.key.arp_tha);
        copy(f_, at + 24, &p.key.ipv4_dst);
        return true;
    }

    // Frames are no longer than their packet and a few bytes of padding.
    bool ends_at(size_t end) {
        p.end = end;
        return end <= f_.size() && f_.size() - end <= 255;
    }

    bool ipv4() {
        const size_t at = p.l3;
        if (!has(at, 20) || f_[at] != 0x45 || get16(f_, at + 2) < 20
            || !ends_at(at + get16(f_, at + 2))) {
            return false;
        }
        p.key.nw_tos = f_[at + 1];
        p.key.nw_ttl = f_[at + 8];
        p.key.nw_proto = f_[at + 9];
        copy(f_, at + 12, &p.key.ipv4_src);
        copy(f_, at + 16, &p.key.ipv4_dst);
        const uint16_t frag = get16(f_, at + 6) & 0x3fff;
        return fragment(frag & 0x1fff, frag & 0x2000, at + 20, f_[at + 9]);
    }

    bool ipv6() {
        const size_t at = p.l3;
        if (!has(at, 40) || f_[at] >> 4 != 6
            || !ends_at(at + 40 + get16(f_, at + 4))) {
            return false;
        }
        p.key.nw_tos = f_[at] << 4 | f_[at + 1] >> 4;
        p.key.ipv6_label =
            htonl((f_[at + 1] & 0xf) << 16 | get16(f_, at + 2));
        p.key.nw_ttl = f_[at + 7];
        copy(f_, at + 8, &p.key.ipv6_src);
        copy(f_, at + 24, &p.key.ipv6_dst);
        const size_t next = at + 40;
        const uint8_t proto = f_[at + 6];
        if (proto != kFragment) {
            p.key.nw_proto = proto;
            return !is_extension(proto) && transport(next, proto);
        }
        if (p.end < next + 8) {
            return false;
        }
        const uint16_t frag = get16(f_, next + 2);
        const uint8_t inner = f_[next];
        p.key.nw_proto = frag & 0xfff8 ? kFragment : inner;
        return frag & 0xfff8
                 ? fragment(true, false, next + 8, inner)
                 : (frag & 1) && !is_extension(inner)
                       && fragment(false, true, next + 8, inner);
    }

    bool fragment(bool is_later, bool is_first, size_t at, uint8_t proto) {
        p.is_fragment = is_later || is_first;
        p.key.nw_frag = is_later ? XF_FRAG_LATER
                      : is_first ? XF_FRAG_FIRST
                                 : XF_FRAG_NONE;
        return is_later || transport(at, proto);
    }

    bool transport(size_t at, uint8_t proto) {
        const uint8_t icmp =
            p.cls == XF_CLASS_IPV4 ? uint8_t{IPPROTO_ICMP} : kIcmpv6;
        const std::map<uint8_t, size_t> kHeaders = {
            {IPPROTO_TCP, 20}, {IPPROTO_UDP, 8}, {kSctp, 12}, {icmp, 8}};
        const auto header = kHeaders.find(proto);
        if (header == kHeaders.end()) {
            return true;
        }
        if (p.end < at + header->second) {
            return false;
        }
        p.l4 = at;
        p.proto = proto;
        if (proto == IPPROTO_ICMP || proto == kIcmpv6) {
            p.key.tp_src = htons(f_[at]);
            p.key.tp_dst = htons(f_[at + 1]);
            return !p.is_nd() || neighbour_discovery(at);
        }
        copy(f_, at, &p.key.tp_src);
        copy(f_, at + 2, &p.key.tp_dst);
        if (proto != IPPROTO_TCP) {
            return true;
        }
        p.key.tcp_flags = htons(get16(f_, at + 12) & 0xfff);
        const size_t length = (f_[at + 12] >> 4) * 4;
        return length >= 20 && at + length <= p.end;
    }

    bool neighbour_discovery(size_t at) {
        if (p.is_fragment || p.end < at + 24) {
            return false;
        }
        copy(f_, at + 8, &p.key.nd_target);
        if (p.end == at + 24) {
            return true;
        }
        if (p.end != at + 32 || f_[at + 25] != 1) {
            return false;
        }
        p.nd_option = f_[at + 24];
        if (p.nd_option == kSll) {
            copy(f_, at + 26, &p.key.nd_sll);
        } else if (p.nd_option == kTll) {
            copy(f_, at + 26, &p.key.nd_tll);
        }
        return true;
    }

    const Frame &f_;
    const uint32_t max_tags_;
};

// Where the transport checksum is, 0 = nowhere.
size_t checksum_at(const Parsed &p) {
    switch (p.l4 ? p.proto : 0) {
        case IPPROTO_TCP:
            return p.l4 + 16;
        case IPPROTO_UDP:
            return p.l4 + 6;
        case IPPROTO_ICMP:
        case kIcmpv6:
            return p.l4 + 2;
        default:
            return 0;
    }
}

uint16_t pseudo_sum(const Frame &f, const Parsed &p) {
    const bool v6 = p.cls == XF_CLASS_IPV6;
    return p.proto == IPPROTO_ICMP
             ? 0
             : ones_complement_sum(&f[p.l3 + (v6 ? 8 : 12)], v6 ? 32 : 8,
                                   (p.end - p.l4) + p.proto);
}

// The sum of all that the transport checksum covers, without itself.
uint32_t covered_sum(Frame f, const Parsed &p) {
    put16(f, checksum_at(p), 0);
    return ones_complement_sum(&f[p.l4], p.end - p.l4, pseudo_sum(f, p));
}

// RFC 1624 in whole numbers: the checksum that goes with the sum 'to' as 'old'
// went with 'from'.
uint16_t follow(uint16_t old, uint32_t from, uint32_t to) {
    constexpr uint32_t kOnes = 0xffff;
    return (old + from % kOnes + kOnes - to % kOnes) % kOnes;
}

// RFC 9260 appendix A, of a transport header and payload without the CRC.
uint32_t crc32c(Frame f, const Parsed &p) {
    uint32_t crc = ~0U;
    std::fill_n(&f[p.l4 + 8], 4, 0);
    for (size_t at = p.l4; at < p.end; at++) {
        crc ^= f[at];
        for (int bit = 0; bit < 8; bit++) {
            crc = (crc >> 1) ^ (crc & 1 ? 0x82f63b78 : 0);
        }
    }
    return ~crc;
}

void follow_crc(const Frame &from, const Parsed &a, Frame *to) {
    const uint32_t change = crc32c(from, a) ^ crc32c(*to, a);
    for (size_t i = 0; i < 4; i++) {
        (*to)[a.l4 + 8 + i] ^= change >> 8 * i;
    }
}

void follow_transport(const Frame &from, const Parsed &a, Frame *to) {
    if (a.l4 && a.proto == kSctp) {
        follow_crc(from, a, to);
        return;
    }
    const size_t at = checksum_at(a);
    if (!at || (a.proto == IPPROTO_UDP && !get16(from, at))) {
        return;
    }
    const uint32_t before = covered_sum(from, a), after = covered_sum(*to, a);
    const size_t addresses = a.l3 + (a.cls == XF_CLASS_IPV6 ? 8 : 12);
    const bool has_pseudo = a.proto != IPPROTO_ICMP;
    if (std::equal(&from[a.l4], &from[a.l4] + (a.end - a.l4), &(*to)[a.l4])
        && (!has_pseudo
            || std::equal(&from[addresses],
                          &from[addresses] + (a.cls == XF_CLASS_IPV6 ? 32 : 8),
                          &(*to)[addresses]))) {
        return;
    }
    const uint16_t sum = follow(get16(from, at), before, after);
    put16(*to, at, sum || a.proto != IPPROTO_UDP ? sum : 0xffff);
}

// Takes the tags that the program looks behind off.
Frame bare(Frame f, uint32_t max_tags) {
    for (uint32_t n = 0; is_tag(get16(f, 12)) && n < max_tags; n++) {
        f = without_tag(f);
    }
    return f;
}

}  // namespace

bool Parsed::is_nd() const {
    return cls == XF_CLASS_IPV6 && proto == kIcmpv6 && !key.tp_dst
        && (key.tp_src == htons(kSolicit) || key.tp_src == htons(kAdvert));
}

std::optional<Parsed> parse(const Frame &f, uint32_t max_tags) {
    Parser parser(f, max_tags);
    return parser.ethernet() ? std::optional(parser.p) : std::nullopt;
}

FlowSpec exact(const Parsed &p) {
    FlowSpec flow(p.cls, ntohs(p.key.eth_type));
    flow.key = p.key;
    std::memset(&flow.mask, 0xff, sizeof flow.mask);
    return flow;
}

bool has_field(const flowxlate::Field &field, const Parsed &p) {
    const uint8_t proto = p.l4 ? p.proto : p.key.nw_proto;
    if (!field.settable || field.key_off == kNotInKey
        || !(field.classes & bit(p.cls))) {
        return false;
    }
    switch (field.has) {
        case Has::kAll:
            return true;
        case Has::kTcp:
            return proto == IPPROTO_TCP;
        case Has::kUdp:
            return proto == IPPROTO_UDP;
        case Has::kSctp:
            return proto == kSctp;
        case Has::kIcmp:
            return proto == IPPROTO_ICMP;
        case Has::kIcmpv6:
            return proto == kIcmpv6;
        case Has::kNd:
            return p.is_nd();
        case Has::kTunnel:
        case Has::kTunnelIpv4:
        case Has::kTunnelIpv6:
            return false;  // Not settable.
    }
    return false;
}

std::optional<size_t> find_field(const flowxlate::Field &field,
                                 const Parsed &p) {
    const bool v6 = p.cls == XF_CLASS_IPV6;
    const std::string_view name = field.name;
    const std::map<std::string_view, size_t> kFixed = {
        {"eth_dst", 0},
        {"eth_src", 6},
        {"ip_tos", p.l3 + 1},
        {"ip_ttl", p.l3 + (v6 ? 7 : 8)},
        {"ipv4_src", p.l3 + 12},
        {"ipv4_dst", p.l3 + 16},
        {"ipv6_src", p.l3 + 8},
        {"ipv6_dst", p.l3 + 24},
        {"ipv6_label", p.l3},
        {"arp_op", p.l3 + 7},
        {"arp_sha", p.l3 + 8},
        {"arp_spa", p.l3 + 14},
        {"arp_tha", p.l3 + 18},
        {"arp_tpa", p.l3 + 24},
    };
    const std::map<std::string_view, size_t> kTransport = {
        {"tcp_src", 0},
        {"tcp_dst", 2},
        {"udp_src", 0},
        {"udp_dst", 2},
        {"icmp_type", 0},
        {"icmp_code", 1},
        {"icmpv6_type", 0},
        {"sctp_src", 0},
        {"sctp_dst", 2},
        {"icmpv6_code", 1},
        {"nd_target", 8},
        {"nd_sll", 26},
        {"nd_tll", 26},
    };
    if (auto i = kFixed.find(name); i != kFixed.end()) {
        return i->second;
    }
    if (!p.l4 || (name == "nd_sll" && p.nd_option != kSll)
        || (name == "nd_tll" && p.nd_option != kTll)) {
        return {};
    }
    return p.l4 + kTransport.at(name);
}

Frame with_field(Frame f, const flowxlate::Field &field, const Parsed &p,
                 const Frame &value, const Frame &mask) {
    const auto found = find_field(field, p);
    if (!found) {
        return f;
    }
    Frame v = value, m = mask;
    size_t at = *found;
    if (p.cls == XF_CLASS_IPV6 && field.name == std::string_view("ip_tos")) {
        at = p.l3;  // From the middle of a byte to the middle of the next.
        v = {uint8_t(value[0] >> 4), uint8_t(value[0] << 4)};
        m = {uint8_t(mask[0] >> 4), uint8_t(mask[0] << 4)};
    } else if (field.name == std::string_view("ipv6_label")) {
        m[0] = 0;  // Only the lower half of the next.
        m[1] &= 0xf;
    }
    for (size_t i = 0; i < v.size(); i++) {
        f.at(at + i) = (f[at + i] & ~m[i]) | (v[i] & m[i]);
    }
    return f;
}

Frame follow_checksums(const Frame &from, Frame to, uint32_t max_tags) {
    const Frame a = bare(from, max_tags);
    const size_t head = to.size() - a.size();
    Frame b(to.begin() + head, to.end());
    const auto p = parse(a, 0);
    if (p->cls == XF_CLASS_IPV4) {
        const size_t at = p->l3 + 10;
        auto sum = [&](Frame f) {
            put16(f, at, 0);
            return ones_complement_sum(&f[p->l3], 20);
        };
        if (!std::equal(&a[p->l3], &a[p->l3] + 20, &b[p->l3])) {
            put16(b, at, follow(get16(a, at), sum(a), sum(b)));
        }
    }
    follow_transport(a, *p, &b);
    std::copy(b.begin() + 12, b.end(), to.begin() + head + 12);
    return to;
}

Frame complete(Frame f, uint32_t max_tags) {
    const auto p = parse(f, max_tags);
    const size_t at = p ? checksum_at(*p) : 0;
    if (!at || p->is_fragment
        || (p->proto != IPPROTO_TCP && p->proto != IPPROTO_UDP)
        || get16(f, at) != pseudo_sum(f, *p)) {
        return f;
    }
    const uint16_t sum = ~covered_sum(f, *p);
    put16(f, at, sum ? sum : 0xffff);
    return f;
}

// -- Hash -------------------------------------------------------------------

namespace {

// MurmurHash3's 32-bit step and finalizer, of 32-bit words.
uint32_t murmur3(const std::vector<uint32_t> &words, uint32_t basis) {
    auto rotate = [](uint32_t x, unsigned n) {
        return (x << n) | (x >> (32U - n));
    };
    uint32_t hash = basis;
    for (uint32_t word : words) {
        word *= 0xcc9e2d51U;
        word = rotate(word, 15);
        word *= 0x1b873593U;
        hash ^= word;
        hash = rotate(hash, 13);
        hash = hash * 5 + 0xe6546b64U;
    }
    hash ^= basis;  // OVS's hash_finish() gets its basis for a length.
    hash ^= hash >> 16;
    hash *= 0x85ebca6bU;
    hash ^= hash >> 13;
    hash *= 0xc2b2ae35U;
    hash ^= hash >> 16;
    return hash;
}

// Four bytes as a word of this machine.
uint32_t word(const uint8_t *b) {
    return b[0] | b[1] << 8 | b[2] << 16 | static_cast<uint32_t>(b[3]) << 24;
}

}  // namespace

uint32_t symmetric_hash(const Parsed &p, uint32_t basis) {
    const auto &k = p.key;
    std::vector<uint32_t> words;
    if (p.cls == XF_CLASS_IPV4) {
        words = {k.ipv4_src ^ k.ipv4_dst};
    } else if (p.cls == XF_CLASS_IPV6) {
        for (int i = 0; i < 16; i += 4) {
            words.push_back(word(&k.ipv6_src[i]) ^ word(&k.ipv6_dst[i]));
        }
    } else {
        const uint16_t vids = htons((ntohs(k.vlan_tci) & 0xfff)
                                    ^ (ntohs(k.vlan2_tci) & 0xfff));
        uint8_t b[12] = {};
        std::memcpy(b, &k.eth_type, 2);
        std::memcpy(b + 2, &vids, 2);
        for (int i = 0; i < 6; i++) {
            b[4 + i] = k.eth_src[i] ^ k.eth_dst[i];
        }
        return murmur3({word(b), word(b + 4), word(b + 8)}, basis);
    }
    words.push_back(k.nw_proto);
    if (!p.is_fragment
        && (k.nw_proto == IPPROTO_TCP || k.nw_proto == kSctp)) {
        words.push_back(static_cast<uint16_t>(k.tp_src ^ k.tp_dst));
    }
    return murmur3(words, basis);
}

// -- Subjects ---------------------------------------------------------------

namespace {

void add_of_ip(bool v6, size_t n, std::vector<Subject> *all) {
    auto ip = [&](uint8_t proto) {
        return v6 ? Packet().eth(kIpv6).ipv6(proto)
                  : Packet().eth(kIpv4).ipv4(proto);
    };
    // With 1, more fragments follow; with 8, this is a later one.
    auto fragment = [&](uint8_t proto, uint16_t offset) {
        return v6 ? ip(kFragment).ipv6_fragment(proto, offset)
                  : Packet().eth(kIpv4).ipv4(proto, (offset & 1) << 13
                                                        | offset >> 3);
    };
    auto add = [&](const char *name, const Packet &p) {
        all->push_back({std::string(name) + (v6 ? " in IPv6" : " in IPv4"),
                        p.bytes()});
    };
    const uint8_t icmp = v6 ? kIcmpv6 : static_cast<uint8_t>(IPPROTO_ICMP);
    const Packet tcp = ip(IPPROTO_TCP).tcp(1000, 80).payload(n);
    const Packet udp = ip(IPPROTO_UDP).udp(1000, 53).payload(n);
    add("TCP", tcp);
    add("UDP", udp);
    add("UDP without checksum", Packet(udp).no_checksum());
    add("UDP with padding", Packet(udp).padding(7));
    add("partial TCP", Packet(tcp).partial());
    add("partial UDP", Packet(udp).partial());
    add("ICMP", ip(icmp).icmp(v6 ? 128 : 8, 0).payload(n));
    add("SCTP", ip(kSctp).sctp(8, 9).payload(n));
    add("unknown protocol", ip(99).payload(n));
    add("first fragment of TCP", fragment(IPPROTO_TCP, 1).tcp(1, 2).payload(n));
    add("first fragment of UDP", fragment(IPPROTO_UDP, 1).udp(1, 2).payload(n));
    add("first fragment of UDP without checksum", fragment(IPPROTO_UDP, 1).udp(1, 2).payload(n).no_checksum());
    add("first fragment of ICMP", fragment(icmp, 1).icmp(9, 0).payload(n));
    add("later fragment of TCP", fragment(IPPROTO_TCP, 9).payload(n + 20));
    add("last fragment of UDP", fragment(IPPROTO_UDP, 8).payload(n + 8));
    add("later fragment of ICMP", fragment(icmp, 9).payload(n));
}

}  // namespace

std::vector<Subject> subjects(size_t n) {
    std::vector<Subject> all;
    add_of_ip(false, n, &all);
    add_of_ip(true, n, &all);
    const Packet icmp6 = Packet().eth(kIpv6).ipv6(kIcmpv6);
    all.push_back({"ND without option", Packet(icmp6).nd(kSolicit).bytes()});
    all.push_back({"ND with source", Packet(icmp6).nd(kSolicit).nd_option(kSll).bytes()});
    all.push_back({"ND with target", Packet(icmp6).nd(kAdvert).nd_option(kTll).bytes()});
    all.push_back({"ND with other option", Packet(icmp6).nd(kAdvert).nd_option(14).bytes()});
    all.push_back({"not quite ND", Packet(icmp6).nd(kAdvert, 1).nd_option(kTll).bytes()});
    all.push_back({"ARP", Packet().eth(kArp).arp(1).padding(n % 30).bytes()});
    all.push_back({"MPLS", Packet().eth(kMpls).mpls(0x00064140).payload(n).bytes()});
    all.push_back({"LLDP", Packet().eth(kLldp).payload(n).bytes()});
    return all;
}

Frame random_bytes(std::mt19937 &random, size_t n) {
    Frame f(n);
    std::generate(f.begin(), f.end(), std::ref(random));
    return f;
}

}  // namespace flowxlate::test
