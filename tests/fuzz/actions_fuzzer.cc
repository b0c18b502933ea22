// SPDX-License-Identifier: Apache-2.0
// decode_actions() on arbitrary bytes, for packets of several kinds, with none
// to two tags.
//
// A model carries out the list on a packet's stack of tags, on its fields and
// on what ct() has found.  What is accepted must do the same, and everything
// that the program can do must be accepted.
#include "flowxlate/translate/actions.h"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <map>
#include <optional>
#include <random>

#include "flowxlate/tables/flow_table.h"
#include "tests/fuzz/fuzz.h"

namespace flowxlate::fuzz {
namespace {

// -- Packets -----------------------------------------------------------------

// Bytes of an attribute that can be set, and where struct xf_key has them.
struct Place {
    uint16_t attr;
    size_t from, size, to;
};
struct Kind {
    Match match;
    std::vector<Place> places;
};

#define TO(MEMBER) offsetof(xf_key, MEMBER)
const std::vector<Place> kEthernetPlaces = {
    {OVS_KEY_ATTR_ETHERNET, 0, 6, TO(eth_src)},
    {OVS_KEY_ATTR_ETHERNET, 6, 6, TO(eth_dst)}};
const std::vector<Place> kArpPlaces = {{OVS_KEY_ATTR_ARP, 0, 4, TO(ipv4_src)},
                                       {OVS_KEY_ATTR_ARP, 4, 4, TO(ipv4_dst)},
                                       {OVS_KEY_ATTR_ARP, 9, 1, TO(nw_proto)},
                                       {OVS_KEY_ATTR_ARP, 10, 6, TO(arp_sha)},
                                       {OVS_KEY_ATTR_ARP, 16, 6, TO(arp_tha)}};
// Of later fragments no more than this.
const std::vector<Place> kTosAndTtl = {{OVS_KEY_ATTR_IPV4, 9, 1, TO(nw_tos)},
                                       {OVS_KEY_ATTR_IPV4, 10, 1, TO(nw_ttl)}};
const std::vector<Place> kUdpPlaces = {{OVS_KEY_ATTR_IPV4, 0, 4, TO(ipv4_src)},
                                       {OVS_KEY_ATTR_IPV4, 4, 4, TO(ipv4_dst)},
                                       {OVS_KEY_ATTR_UDP, 0, 2, TO(tp_src)},
                                       {OVS_KEY_ATTR_UDP, 2, 2, TO(tp_dst)}};
const std::vector<Place> kNdPlaces = {
    {OVS_KEY_ATTR_IPV6, 0, 16, TO(ipv6_src)},
    {OVS_KEY_ATTR_IPV6, 16, 16, TO(ipv6_dst)},
    {OVS_KEY_ATTR_IPV6, 32, 4, TO(ipv6_label)},
    {OVS_KEY_ATTR_IPV6, 37, 1, TO(nw_tos)},
    {OVS_KEY_ATTR_IPV6, 38, 1, TO(nw_ttl)},
    {OVS_KEY_ATTR_ICMPV6, 0, 1, TO(tp_src) + 1},
    {OVS_KEY_ATTR_ICMPV6, 1, 1, TO(tp_dst) + 1},
    {OVS_KEY_ATTR_ND, 0, 16, TO(nd_target)},
    {OVS_KEY_ATTR_ND, 16, 6, TO(nd_sll)},
    {OVS_KEY_ATTR_ND, 22, 6, TO(nd_tll)}};
#undef TO

Match match_of(xf_class cls, uint16_t eth_type, uint8_t proto) {
    Match m;
    m.cls = cls;
    m.key.eth_type = htons(eth_type);
    m.mask.eth_type = 0xffff;
    m.key.nw_proto = proto;
    m.mask.nw_proto = proto ? 0xff : 0;
    return m;
}

Kind kind_of(const Match &m, std::initializer_list<std::vector<Place>> all) {
    Kind kind{m, kEthernetPlaces};
    for (const auto &places : all) {
        kind.places.insert(kind.places.end(), places.begin(), places.end());
    }
    return kind;
}

std::vector<Kind> make_kinds() {
    Match udp = match_of(XF_CLASS_IPV4, ETH_P_IP, IPPROTO_UDP);
    udp.mask.nw_frag = XF_FRAG_LATER;
    udp.key.nw_ttl = 0x40;
    udp.mask.nw_ttl = 0xf0;
    Match later = match_of(XF_CLASS_IPV4, ETH_P_IP, IPPROTO_UDP);
    later.mask.nw_frag = 0xff;
    later.key.nw_frag = XF_FRAG_LATER;
    Match nd = match_of(XF_CLASS_IPV6, ETH_P_IPV6, IPPROTO_ICMPV6);
    nd.mask.nw_frag = 0xff;
    nd.key.tp_src = htons(135);
    nd.mask.tp_src = nd.mask.tp_dst = htons(0xff);
    // Whose addresses and ports a translation may change.
    Match again = udp;
    again.recirc_id = 4;
    again.key.ipv4_src = htonl(0x0a000001);
    again.mask.ipv4_src = 0xffffffff;
    again.key.tp_dst = htons(80);
    again.mask.tp_dst = 0xffff;
    Match arp_again = match_of(XF_CLASS_ARP, ETH_P_ARP, 0);
    arp_again.recirc_id = 4;
    return {
        kind_of(match_of(XF_CLASS_L2, 0x88b5, 0), {}),
        kind_of(match_of(XF_CLASS_ARP, ETH_P_ARP, 0), {kArpPlaces}),
        kind_of(udp, {kTosAndTtl, kUdpPlaces}),
        kind_of(later, {kTosAndTtl}),
        kind_of(nd, {kNdPlaces}),
        kind_of(again, {kTosAndTtl, kUdpPlaces}),
        kind_of(arp_again, {kArpPlaces}),
    };
}

// -- The model ---------------------------------------------------------------

// A tag that the packet came with has a TPID of 0 here: nobody can push it.
struct Tag {
    uint16_t tpid, tci;  // Host order.
    bool operator==(const Tag &) const = default;
};
using Tags = std::vector<Tag>;

// What becomes of a packet that is not dropped.
struct Outcome {
    Tags tags;
    std::vector<uint32_t> ports;
    std::optional<uint32_t> recirc, hash_basis, max_len, popped;
    ByteVector pushed;  // Outer headers; with a checksum or without.
    bool has_checksum = false;
    bool operator==(const Outcome &) const = default;
};

Tags tags_before(unsigned n_tags) { return Tags(n_tags, Tag{0, 0}); }

// Sizes of attributes; others may have any.
size_t size_of(uint16_t attr) {
    static const std::map<uint16_t, size_t> kSizes = {
        {OVS_KEY_ATTR_PRIORITY, 4},   {OVS_KEY_ATTR_IN_PORT, 4},
        {OVS_KEY_ATTR_ETHERNET, 12},  {OVS_KEY_ATTR_VLAN, 2},
        {OVS_KEY_ATTR_ETHERTYPE, 2},  {OVS_KEY_ATTR_IPV4, 12},
        {OVS_KEY_ATTR_IPV6, 40},      {OVS_KEY_ATTR_TCP, 4},
        {OVS_KEY_ATTR_UDP, 4},        {OVS_KEY_ATTR_ICMP, 2},
        {OVS_KEY_ATTR_ICMPV6, 2},     {OVS_KEY_ATTR_ARP, 24},
        {OVS_KEY_ATTR_ND, 28},        {OVS_KEY_ATTR_SKB_MARK, 4},
        {OVS_KEY_ATTR_SCTP, 4},       {OVS_KEY_ATTR_TCP_FLAGS, 2},
        {OVS_KEY_ATTR_DP_HASH, 4},    {OVS_KEY_ATTR_RECIRC_ID, 4},
        {OVS_KEY_ATTR_CT_STATE, 4},   {OVS_KEY_ATTR_CT_ZONE, 2},
        {OVS_KEY_ATTR_CT_MARK, 4},    {OVS_KEY_ATTR_CT_LABELS, 16},
        {OVS_KEY_ATTR_PACKET_TYPE, 4}};
    const auto it = kSizes.find(attr);
    return it == kSizes.end() ? 0 : it->second;
}

// What ct() sees of a packet, if a translation swaps some bits.
struct Seen {
    xf_ct_step ct;
    bool cleared;  // What had been found before was forgotten.
    std::array<uint64_t, 5> tuple;

    bool operator==(const Seen &o) const {
        return !std::memcmp(&ct, &o.ct, sizeof ct) && cleared == o.cleared
            && tuple == o.tuple;
    }
};

// A packet on its way through the list.
class Packet {
public:
    Packet(const xf_key &key, bool recirculated)
        : key_(key), is_dirty_(recirculated) {}

    void set(const __u64 *value, const __u64 *mask) {
        for (size_t i = 0; i < XF_SET_WORDS; i++) {
            key_.word[i] = (key_.word[i] & ~mask[i]) | value[i];
        }
    }
    void clear() { cleared_ = is_dirty_; }
    void track(xf_ct_step ct) {
        if (ct.flags & XF_CT_CLEAR) {
            clear();
        }
        ct.flags &= ~XF_CT_CLEAR;
        seen_.push_back({ct,
                         cleared_,
                         {key_.word[3] >> 32, key_.word[5], key_.word[6],
                          key_.word[7], key_.word[8]}});
        is_dirty_ = true;
        cleared_ = false;
        if (ct.flags & XF_CT_NAT) {
            key_.tp_src ^= 0x5555;
            key_.tp_dst ^= 0x5555;
            for (size_t i = 5; i < XF_ND_WORD; i++) {
                key_.word[i] ^= 0x5555555555555555;
            }
        }
    }

    const std::vector<Seen> &seen() const { return seen_; }
    const xf_key &key() const { return key_; }
    bool cleared() const { return cleared_; }

private:
    xf_key key_;
    bool is_dirty_, cleared_ = false;
    std::vector<Seen> seen_;
};

class Model {
public:
    Model(const Kind &kind, unsigned n_tags) : kind_(kind), n_tags_(n_tags) {
        done_.tags = tags_before(n_tags);
    }

    // Can the program tell for which packets the second list of a
    // check_pkt_len is, and are there any?
    bool check_length(Bytes payload, Bytes *list) {
        AttrReader reader(payload);
        const auto size = reader.next(), longer = reader.next(),
                   others = reader.next();
        uint16_t limit;
        if (!others || reader.next() || reader.malformed() || size->type != 1
            || longer->type != 2 || others->type != 3
            || !read_exactly(size->payload, &limit) || done_.popped
            || done_.recirc || done_.max_len || !done_.pushed.empty()) {
            return false;
        }
        *list = others->payload;
        if (!std::ranges::equal(longer->payload, others->payload)) {
            limits_.push_back(limit - added_tags());
        }
        return takes(ETH_HLEN);
    }
    // Is a packet of 'len' bytes for the program?
    bool takes(int len) const {
        return std::ranges::all_of(limits_,
                                   [len](int limit) { return len <= limit; });
    }
    const std::vector<int> &limits() const { return limits_; }

    // Can the program do this action, after the previous ones?
    bool step(uint16_t type, Bytes payload) {
        const bool output = type == OVS_ACTION_ATTR_OUTPUT;
        const bool recirc = type == OVS_ACTION_ATTR_RECIRC;
        const bool tags = type == OVS_ACTION_ATTR_PUSH_VLAN;
        if (done_.popped || (!done_.pushed.empty() && !output && !tags)) {
            return false;
        }
        if (done_.recirc || (done_.max_len && !output)
            || (!done_.ports.empty() && (!output || done_.max_len))
            || (done_.hash_basis && !recirc)) {
            return false;
        }
        switch (type) {
            case OVS_ACTION_ATTR_OUTPUT:
                return add_port(payload);
            case OVS_ACTION_ATTR_RECIRC:
                return read(payload, &done_.recirc) && *done_.recirc
                    && !sets_icmpv6_;
            case OVS_ACTION_ATTR_TRUNC:
                return read(payload, &done_.max_len)
                    && *done_.max_len >= ETH_HLEN;
            case OVS_ACTION_ATTR_HASH:
                return hash(payload);
            case OVS_ACTION_ATTR_PUSH_VLAN:
                return push(payload);
            case OVS_ACTION_ATTR_POP_VLAN:
                return pop();
            case OVS_ACTION_ATTR_SET:
            case OVS_ACTION_ATTR_SET_MASKED:
                return set(payload, type == OVS_ACTION_ATTR_SET_MASKED);
            case OVS_ACTION_ATTR_CT:
                return track(payload);
            case OVS_ACTION_ATTR_CT_CLEAR:
                return clear();
            case OVS_OFFLOAD_ACTION_TUNNEL_PUSH:
                return push_headers(payload);
            case OVS_OFFLOAD_ACTION_TUNNEL_POP:
                return pop_headers(payload);
            default:
                return false;
        }
    }

    std::optional<Outcome> outcome() const {
        return !done_.ports.empty() || done_.recirc || done_.popped
                 ? std::optional(done_)
                 : std::nullopt;
    }
    bool tracks() const { return tracks_; }
    bool translates() const { return translates_; }
    // What has become of a packet with 'key'.
    Packet carry_out(const xf_key &key) const {
        Packet p(key, kind_.match.recirc_id != 0);
        for (const Change &c : changes_) {
            if (c.ct.flags & XF_CT_TRACK) {
                p.track(c.ct);
            } else if (c.ct.flags) {
                p.clear();
            } else {
                p.set(c.value.word, c.mask.word);
            }
        }
        return p;
    }

private:
    // In bytes.
    int added_tags() const {
        return 4
             * (static_cast<int>(done_.tags.size())
                - static_cast<int>(n_tags_));
    }

    static bool read(Bytes payload, std::optional<uint32_t> *to) {
        uint32_t value;
        if (!read_exactly(payload, &value)) {
            return false;
        }
        *to = value;
        return true;
    }

    bool add_port(Bytes payload) {
        std::optional<uint32_t> port;
        if (!read(payload, &port)) {
            return false;
        }
        done_.ports.push_back(*port);
        return done_.ports.size() < XF_GROUP_PORTS;
    }

    bool hash(Bytes payload) {
        ovs_action_hash h;
        if (!read_exactly(payload, &h)) {
            return false;
        }
        done_.hash_basis = h.hash_basis;
        return h.hash_alg == 1;  // Symmetric.
    }

    // Ethernet, IPv4 without options or IPv6, UDP, and 8 bytes at least.
    bool push_headers(Bytes payload) {
        uint32_t len, kind;
        if (payload.size() < 16 || payload.size() > 16 + 128) {
            return false;
        }
        (void)read_exactly(payload.subspan(8, 4), &len);
        (void)read_exactly(payload.subspan(12, 4), &kind);
        ByteVector h(payload.begin() + 16, payload.end());
        auto at = [&](size_t i) { return std::to_integer<unsigned>(h[i]); };
        if (len != h.size() || (kind != 4 && kind != 5) || len < 50) {
            return false;
        }
        const bool v4 = at(12) == 8 && at(13) == 0;
        const bool v6 = at(12) == 0x86 && at(13) == 0xdd;
        const size_t udp = v4 ? 34 : 54;
        const size_t length = v4 ? 16 : 18, proto = v4 ? 23 : 20;
        if ((!v4 && !v6) || at(14) >> 4 != (v4 ? 4 : 6)
            || (v4 && at(14) != 0x45) || at(length) || at(length + 1)
            || at(proto) != IPPROTO_UDP || h.size() < udp + 16 || at(udp + 4)
            || at(udp + 5)) {
            return false;
        }
        done_.has_checksum = at(udp + 6) || at(udp + 7);
        for (const size_t i : {udp, udp + 1, udp + 6, udp + 7}) {
            h[i] = std::byte{0};
        }
        if (v4) {
            put_ipv4_sum(&h);
        }
        done_.pushed = h;
        return true;
    }

    // Whatever OVS has put there, and without the length (RFC 1071).
    static void put_ipv4_sum(ByteVector *h) {
        constexpr size_t kAt = 24;
        uint32_t sum = 0;
        for (size_t i = 14; i < 34; i += 2) {
            sum += i == kAt ? 0
                            : std::to_integer<uint32_t>((*h)[i]) << 8
                                  | std::to_integer<uint32_t>((*h)[i + 1]);
        }
        sum = (sum & 0xffff) + (sum >> 16);
        sum = ~((sum & 0xffff) + (sum >> 16));
        (*h)[kAt] = std::byte(sum >> 8 & 0xff);
        (*h)[kAt + 1] = std::byte(sum & 0xff);
    }

    bool pop_headers(Bytes payload) {
        if (!limits_.empty()) {
            return false;
        }
        const bool sets = std::ranges::any_of(changes_, [](const Change &c) {
            return std::ranges::any_of(c.mask.word,
                                       [](auto w) { return w != 0; });
        });
        return read(payload, &done_.popped) && is_ip() && !sets && !n_steps_
            && !kind_.match.recirc_id && done_.tags.empty();
    }

    bool push_outer(const Tag &tag) {
        auto &h = done_.pushed;
        const uint16_t words[] = {htons(tag.tpid), htons(tag.tci)};
        const auto bytes = std::as_bytes(std::span(words));
        const bool first =
            !(h[12] == std::byte{0x81} && h[13] == std::byte{0})
            && !(h[12] == std::byte{0x88} && h[13] == std::byte{0xa8});
        h.insert(h.begin() + 12, bytes.begin(), bytes.end());
        return (tag.tpid == ETH_P_8021Q || tag.tpid == ETH_P_8021AD) && first
            && h.size() <= 128;
    }

    bool push(Bytes payload) {
        ovs_action_push_vlan p;
        if (!read_exactly(payload, &p)) {
            return false;
        }
        if (!done_.pushed.empty()) {
            return push_outer(
                {ntohs(p.vlan_tpid),
                 static_cast<uint16_t>(ntohs(p.vlan_tci) & ~XF_VLAN_PRESENT)});
        }
        const Tag tag{
            ntohs(p.vlan_tpid),
            static_cast<uint16_t>(ntohs(p.vlan_tci) & ~XF_VLAN_PRESENT)};
        done_.tags.push_back(tag);
        return (tag.tpid == ETH_P_8021Q || tag.tpid == ETH_P_8021AD)
            && done_.tags.size() <= 2;
    }

    bool pop() {
        if (done_.tags.empty()) {
            return false;
        }
        done_.tags.pop_back();
        return true;
    }

    bool set(Bytes payload, bool masked) {
        AttrReader reader(payload);
        const auto a = reader.next();
        if (!a || reader.next() || reader.malformed()) {
            return false;
        }
        const size_t size = a->payload.size() / (masked ? 2 : 1);
        if (!size || (masked && a->payload.size() % 2)
            || (size_of(a->type) && size != size_of(a->type))) {
            return false;
        }
        value_ = mask_ = {};
        for (size_t i = 0; i < size; i++) {
            const std::byte mask = masked             ? a->payload[size + i]
                                 : is_set(a->type, i) ? std::byte{0xff}
                                                      : std::byte{0};
            if (mask != std::byte{0}
                && !set_byte(a->type, i, a->payload[i], mask)) {
                return false;
            }
        }
        changes_.push_back({value_, mask_, {}});
        return !is_of_tuple(mask_) || place_set();
    }

    static bool is_of_tuple(const xf_key &mask) {
        return mask.tp_src || mask.tp_dst || mask.word[5] || mask.word[6]
            || mask.word[7] || mask.word[8];
    }

    // The program sets once, before some of the ct().
    bool place_set() {
        const size_t place = n_steps_ - ends_with_clear_;
        if (!place_) {
            place_ = place;
        }
        return *place_ == place;
    }

    bool is_ip() const {
        return kind_.match.cls == XF_CLASS_IPV4
            || kind_.match.cls == XF_CLASS_IPV6;
    }

    bool clear() {
        const bool nothing = !n_steps_ && !kind_.match.recirc_id;
        if (nothing || ends_with_clear_) {
            return true;
        }
        xf_ct_step step{};
        step.flags = XF_CT_CLEAR;
        changes_.push_back({{}, {}, step});
        ends_with_clear_ = true;
        return is_ip() && ++n_steps_ <= XF_MAX_CT_STEPS;
    }

    bool track(Bytes payload) {
        xf_ct_step step{};
        step.flags = XF_CT_TRACK;
        AttrReader reader(payload);
        while (auto a = reader.next()) {
            if (!add_to(&step, *a)) {
                return false;
            }
        }
        changes_.push_back({{}, {}, step});
        tracks_ = true;
        translates_ |= (step.flags & XF_CT_NAT) != 0;
        n_steps_ += !ends_with_clear_;
        ends_with_clear_ = false;
        return !reader.malformed() && is_ip() && n_steps_ <= XF_MAX_CT_STEPS;
    }

    // What is only of new connections does not matter.
    static bool add_to(xf_ct_step *step, const Attr &a) {
        switch (a.type) {
            case OVS_CT_ATTR_COMMIT:
                step->flags |= XF_CT_COMMIT;
                return true;
            case OVS_CT_ATTR_NAT:
                step->flags |= XF_CT_NAT;
                return add_nat(step, a.payload);
            case OVS_CT_ATTR_ZONE:
                return read_exactly(a.payload, &step->zone);
            case OVS_CT_ATTR_MARK:
                step->flags |= XF_CT_MARK;
                return a.payload.size() == 8
                    && read_exactly(a.payload.first(4), &step->mark)
                    && read_exactly(a.payload.last(4), &step->mark_mask)
                    && !(step->mark & ~step->mark_mask);
            case OVS_CT_ATTR_LABELS:
                step->flags |= XF_CT_LABEL;
                return a.payload.size() == 32
                    && read_exactly(a.payload.first(16), &step->label)
                    && read_exactly(a.payload.last(16), &step->label_mask)
                    && !(step->label[0] & ~step->label_mask[0])
                    && !(step->label[1] & ~step->label_mask[1]);
            default:
                step->flags |=
                    a.type == OVS_CT_ATTR_TIMEOUT ? XF_CT_TIMEOUT : 0;
                return a.type == OVS_CT_ATTR_TIMEOUT
                    || a.type == OVS_CT_ATTR_EVENTMASK;
        }
    }

    static bool add_nat(xf_ct_step *step, Bytes payload) {
        AttrReader reader(payload);
        while (const auto a = reader.next()) {
            const bool is_given =
                a->type == OVS_NAT_ATTR_SRC || a->type == OVS_NAT_ATTR_DST;
            step->flags |= is_given ? XF_CT_NEW_NAT : 0;
        }
        return !reader.malformed();
    }

    // Without a mask, all but the IP protocol and the fragment type.
    static bool is_set(uint16_t attr, size_t i) {
        return !(attr == OVS_KEY_ATTR_IPV4 && (i == 8 || i == 11))
            && !(attr == OVS_KEY_ATTR_IPV6 && (i == 36 || i == 39));
    }

    bool set_byte(uint16_t attr, size_t i, std::byte value, std::byte mask) {
        for (const Place &p : kind_.places) {
            if (p.attr != attr || i < p.from || i >= p.from + p.size) {
                continue;
            }
            const size_t to = p.to + i - p.from;
            auto *v = reinterpret_cast<std::byte *>(&value_) + to;
            *v = (*v & ~mask) | (value & mask);
            reinterpret_cast<std::byte *>(&mask_)[to] |= mask;
            sets_icmpv6_ |= attr == OVS_KEY_ATTR_ICMPV6;
            return !(value_.ipv6_label & ~htonl(0xfffff))
                || kind_.match.cls != XF_CLASS_IPV6;
        }
        // The high byte of an ARP opcode is and stays zero.
        return kind_.match.cls == XF_CLASS_ARP && attr == OVS_KEY_ATTR_ARP
            && i == 8 && value == std::byte{0};
    }

    // A set; or a ct(), or a ct_clear.
    struct Change {
        xf_key value, mask;
        xf_ct_step ct;
    };

    const Kind &kind_;
    const unsigned n_tags_;    // At the beginning.
    std::vector<int> limits_;  // Longest packets, as they come to the flow.
    Outcome done_;
    std::vector<Change> changes_;
    xf_key value_{}, mask_{};  // Of one set.
    bool sets_icmpv6_ = false, tracks_ = false, translates_ = false;
    size_t n_steps_ = 0;  // A ct_clear and the ct() behind it are one.
    bool ends_with_clear_ = false;
    std::optional<size_t> place_;  // Steps before the sets.
};

// What the program makes of a packet for 'a'; nothing if it drops it.
std::optional<Outcome> carry_out(const Actions &a, unsigned n_tags) {
    Outcome o;
    if (a.verdict == XF_DROP) {
        CHECK(a.n_pop == 0 && a.push.empty());
        CHECK(a.out_ports.empty() && a.recirc_id == 0);
        CHECK(!a.rewrite.max_len && !a.rewrite.hash_basis && !a.tunnel.len);
        xf_rewrite rest = a.rewrite;
        rest.max_in = 0;  // See check_lengths().
        CHECK(a.tracks || !FlowAction(xf_action{}, rest).rewrites());
        return {};
    }
    CHECK(a.n_pop <= n_tags);
    o.tags = tags_before(n_tags - a.n_pop);
    for (const xf_tag &tag : a.push) {
        o.tags.push_back({ntohs(tag.tpid), ntohs(tag.tci)});
    }
    if (a.verdict == XF_OUTPUT || a.verdict == XF_GROUP) {
        CHECK((a.verdict == XF_OUTPUT) == (a.out_ports.size() == 1));
        for (auto port : a.out_ports) {
            o.ports.push_back(index(port));
        }
    } else if (a.verdict == XF_POP) {
        o.popped = index(a.pop);
        CHECK(!a.tunnel.len);
    } else {
        CHECK(a.verdict == XF_RECIRC || a.verdict == XF_HASH_RECIRC);
        o.recirc = a.recirc_id;
    }
    if (a.verdict == XF_HASH_RECIRC) {
        o.hash_basis = a.rewrite.hash_basis;
    } else {
        CHECK(!a.rewrite.hash_basis);
    }
    if (a.rewrite.max_len) {
        o.max_len = a.rewrite.max_len;
    }
    CHECK(a.tunnel.len <= sizeof a.tunnel.header);
    o.pushed = copy_of(bytes_of(a.tunnel.header, a.tunnel.len));
    o.has_checksum = a.tunnel.has_checksum;
    return o;
}

// What the program makes of a packet's fields and its connection.
Packet carry_out(const xf_rewrite &r, const xf_key &key, bool recirculated) {
    Packet p(key, recirculated);
    for (uint32_t i = 0; i <= XF_MAX_CT_STEPS; i++) {
        if (i == r.n_ct_first) {
            p.set(r.value, r.mask);
        }
        if (i == XF_MAX_CT_STEPS) {
            break;
        }
        if (r.ct[i].flags & XF_CT_TRACK) {
            p.track(r.ct[i]);
        } else if (r.ct[i].flags) {
            CHECK(r.ct[i].flags == XF_CT_CLEAR);
            p.clear();
        }
    }
    return p;
}

// The steps that there are come first.
void check_steps(const Actions &a, const Model &model) {
    const xf_ct_step none{};
    bool tracks = false;
    uint32_t n = 0;
    while (n < XF_MAX_CT_STEPS && a.rewrite.ct[n].flags) {
        tracks |= (a.rewrite.ct[n++].flags & XF_CT_TRACK) != 0;
    }
    CHECK(a.rewrite.n_ct_first <= n);
    CHECK(a.tracks == tracks && model.tracks() == tracks);
    for (; n < XF_MAX_CT_STEPS; n++) {
        CHECK(!std::memcmp(&a.rewrite.ct[n], &none, sizeof none));
    }
}

// Packets of the flow, with zeros, ones and something else in all other bits.
void check_fields(const Kind &kind, const Model &model, const Actions &a) {
    const Match &m = kind.match;
    const xf_rewrite &r = a.rewrite;
    for (const uint64_t noise : {0ULL, ~0ULL, 0x5a3c96f00f69c3a5ULL}) {
        xf_key before;
        for (size_t i = 0; i < XF_KEY_WORDS; i++) {
            before.word[i] = m.key.word[i] | (noise & ~m.mask.word[i]);
        }
        const Packet got = carry_out(r, before, m.recirc_id != 0);
        const Packet wanted = model.carry_out(before);
        CHECK(got.seen() == wanted.seen());
        CHECK(a.verdict == XF_DROP
              || !std::memcmp(&got.key(), &wanted.key(), sizeof(xf_key)));
        // Nobody looks at what was found of a packet that does not go on.
        CHECK(got.cleared() == (a.recirc_id && wanted.cleared()));
    }
    for (size_t i = 0; i < XF_SET_WORDS; i++) {
        CHECK(!(r.value[i] & ~r.mask[i]));
        // Bits that are right already are not written; but a translation may
        // change those of addresses and ports.
        if (!model.translates() || !(i == 3 || (i >= 5 && i < XF_ND_WORD))) {
            CHECK(
                !(r.mask[i] & m.mask.word[i] & ~(r.value[i] ^ m.key.word[i])));
        }
    }
}

// A clone or check_pkt_len that is the last action is like what is in it.
bool walk(Bytes list, int depth, Model *model) {
    AttrReader reader(list);
    while (auto a = reader.next()) {
        const bool checks = a->type == OVS_ACTION_ATTR_CHECK_PKT_LEN;
        Bytes inner = a->payload;
        if ((!checks && a->type != OVS_ACTION_ATTR_CLONE)
            || !reader.at_end()) {
            if (!model->step(a->type, a->payload)) {
                return false;
            }
        } else if (depth == 4
                   || (checks && !model->check_length(a->payload, &inner))
                   || !walk(inner, depth + 1, model)) {
            return false;
        }
    }
    return !reader.malformed();
}

// At the limits, and of the shortest and the longest packets.
void check_lengths(const Model &model, const Actions &a) {
    std::vector<int> lengths = {ETH_HLEN, UINT16_MAX};
    for (const int limit : model.limits()) {
        lengths.push_back(std::min<int>(limit, UINT16_MAX));
        lengths.push_back(std::min<int>(limit + 1, UINT16_MAX));
    }
    for (const int len : lengths) {
        const int max_in = a.rewrite.max_in;
        CHECK(model.takes(len) == (!max_in || len <= max_in));
    }
}

void check(const ByteVector &list, const Kind &kind, unsigned n_tags) {
    Model model(kind, n_tags);
    const bool possible = walk(list, 0, &model);

    Actions out, again;
    // Whatever was there before must not shine through.
    out.n_pop = 7;
    out.push = {{1, 1}, {1, 1}};
    out.recirc_id = 7;
    std::memset(&out.rewrite, 0xee, sizeof out.rewrite);
    std::memset(&out.tunnel, 0xee, sizeof out.tunnel);
    Match match = kind.match;
    match.n_tags = n_tags;
    const Reject r = decode_actions(list, match, &out);
    const Reject r2 = decode_actions(list, match, &again);
    CHECK(r.error == r2.error && r.group == r2.group && r.what == r2.what);
    CHECK(!r == possible);
    if (r) {
        const std::string_view group = r.group;
        const bool invalid = group == "malformed";
        CHECK(invalid || group == "action" || group == "set");
        CHECK(r.error == (invalid ? EINVAL : EOPNOTSUPP));
        return;
    }
    CHECK(carry_out(out, n_tags) == model.outcome());
    CHECK(carry_out(again, n_tags) == model.outcome());
    CHECK(!std::memcmp(&out.rewrite, &again.rewrite, sizeof out.rewrite));
    check_lengths(model, out);
    check_steps(out, model);
    check_fields(kind, model, out);
}

// -- Mutations: half of them of whole actions, the others of bytes. ----------

// A set of any field of an attribute; of others, too.
void put_set(unit::AttrList *list, std::minstd_rand *random) {
    constexpr struct {
        uint16_t type;
        size_t size;
    } kAttrs[] = {{OVS_KEY_ATTR_ETHERNET, 12}, {OVS_KEY_ATTR_IPV4, 12},
                  {OVS_KEY_ATTR_IPV6, 40},     {OVS_KEY_ATTR_UDP, 4},
                  {OVS_KEY_ATTR_TCP, 4},       {OVS_KEY_ATTR_ICMPV6, 2},
                  {OVS_KEY_ATTR_ARP, 24},      {OVS_KEY_ATTR_ND, 28}};
    const auto &attr = kAttrs[(*random)() % std::size(kAttrs)];
    const bool masked = (*random)() % 4;
    ByteVector payload(attr.size * (1 + masked));
    const auto one_in = 1 + (*random)() % 16;
    for (auto &byte : payload) {
        byte = static_cast<std::byte>((*random)() % one_in ? 0 : (*random)());
    }
    unit::AttrList nested;
    nested.put_bytes(attr.type, payload);
    list->put_bytes(masked ? OVS_ACTION_ATTR_SET_MASKED : OVS_ACTION_ATTR_SET,
                    nested.bytes());
}

// A value and its mask, which mostly has all bits of the value.
ByteVector masked(size_t size, std::minstd_rand *random) {
    ByteVector both(2 * size);
    for (size_t i = 0; i < size; i++) {
        both[size + i] = std::byte((*random)() % 2 ? 0xff : (*random)());
        both[i] = std::byte((*random)()) & both[size + i];
    }
    if ((*random)() % 8 == 0) {
        both[(*random)() % both.size()] ^= std::byte{1};
    }
    return both;
}

// A ct() of anything that there is in it, and now and then of more.
void put_ct(unit::AttrList *list, std::minstd_rand *random) {
    unit::AttrList ct;
    for (auto n = (*random)() % 5; n; n--) {
        const auto zone = static_cast<uint16_t>((*random)() % 3);
        switch ((*random)() % 16) {
            case 0:
            case 1:
            case 2:
                ct.put_bytes(OVS_CT_ATTR_COMMIT, {});
                break;
            case 3:
            case 4:
            case 5:
                ct.put(OVS_CT_ATTR_ZONE, zone);
                break;
            case 6:
            case 7:
                ct.put_bytes(OVS_CT_ATTR_MARK, masked(4, random));
                break;
            case 8:
            case 9:
                ct.put_bytes(OVS_CT_ATTR_LABELS, masked(16, random));
                break;
            case 10:
            case 11:
            case 12:
                ct.nest(OVS_CT_ATTR_NAT, [&](unit::AttrList &nat) {
                    if (zone) {
                        nat.put_bytes(OVS_NAT_ATTR_SRC, {});
                    }
                });
                break;
            case 13:
                ct.put(OVS_CT_ATTR_EVENTMASK, uint32_t{zone});
                break;
            default:
                ct.put((*random)() % 12, zone);
        }
    }
    list->put_bytes(OVS_ACTION_ATTR_CT, ct.bytes());
}

// Outer headers, mostly good ones.
void put_headers(unit::AttrList *list, std::minstd_rand *random) {
    const bool v6 = (*random)() % 2;
    ByteVector h((v6 ? 54 : 34) + 16 + 4 * ((*random)() % 25));
    auto set = [&](size_t i, int value) { h[i] = std::byte(value); };
    set(12, v6 ? 0x86 : 8);
    set(13, v6 ? 0xdd : 0);
    set(14, v6 ? 0x60 : 0x45);
    set(v6 ? 20 : 23, IPPROTO_UDP);
    set(h.size() - 1, static_cast<int>((*random)() % 256));
    if ((*random)() % 2) {
        set(v6 ? 60 : 40, 0xff);
    }
    if ((*random)() % 4 == 0) {
        set((*random)() % h.size(), static_cast<int>((*random)() % 256));
    }
    const auto len = static_cast<uint32_t>(h.size() - !((*random)() % 16));
    const uint32_t kind = 4 + (*random)() % 2;
    const ovs_offload_tunnel_push push{1, 2, len, kind};
    ByteVector payload = copy_of(unit::bytes_of(push));
    payload.insert(payload.end(), h.begin(), h.end());
    list->put_bytes(OVS_OFFLOAD_ACTION_TUNNEL_PUSH, payload);
}

// Headers and an output, in a clone or not; or a tunnel port.
void put_tunnel(unit::AttrList *list, std::minstd_rand *random) {
    const auto port = static_cast<uint32_t>((*random)() % 100);
    switch ((*random)() % 4) {
        case 0:
            list->put(OVS_OFFLOAD_ACTION_TUNNEL_POP, port);
            break;
        case 1:
            list->nest(OVS_ACTION_ATTR_CLONE, [&](unit::AttrList &inner) {
                put_headers(&inner, random);
                inner.put(OVS_ACTION_ATTR_OUTPUT, port);
            });
            break;
        default:
            put_headers(list, random);
    }
}

void put_any(unit::AttrList *list, std::minstd_rand *random);

// Lists for longer packets and for others, which may be the same.
void put_check(unit::AttrList *list, std::minstd_rand *random) {
    const auto size = static_cast<uint16_t>(
        (*random)() % 2 ? (*random)() : (*random)() % 32);
    unit::AttrList lists[2];
    for (auto &inner : lists) {
        for (auto n = (*random)() % 3; n; n--) {
            put_any(&inner, random);
        }
    }
    list->nest(OVS_ACTION_ATTR_CHECK_PKT_LEN, [&](unit::AttrList &check) {
        check.put(OVS_CHECK_PKT_LEN_ATTR_PKT_LEN, size);
        check.put_bytes(OVS_CHECK_PKT_LEN_ATTR_ACTIONS_IF_GREATER,
                        lists[0].bytes());
        check.put_bytes(OVS_CHECK_PKT_LEN_ATTR_ACTIONS_IF_LESS_EQUAL,
                        lists[(*random)() % 4 != 0].bytes());
    });
}

void put_any(unit::AttrList *list, std::minstd_rand *random) {
    const auto word = static_cast<uint32_t>((*random)());
    const bool fits = word & 0x700;
    const uint16_t tpid = word & 0x800 ? ETH_P_8021Q : ETH_P_8021AD;
    switch (word % 20) {
        case 18:
        case 19:
            put_check(list, random);
            break;
        case 16:
        case 17:
            put_tunnel(list, random);
            break;
        case 0:
        case 1:
            list->put(OVS_ACTION_ATTR_OUTPUT, word >> 16);
            break;
        case 2:
        case 3:
            list->put(OVS_ACTION_ATTR_PUSH_VLAN,
                      ovs_action_push_vlan{
                          htons(fits ? tpid : word >> 16),
                          htons(static_cast<uint16_t>(word >> 12))});
            break;
        case 4:
            list->put_bytes(OVS_ACTION_ATTR_POP_VLAN, {});
            break;
        case 5:
        case 6:
            put_set(list, random);
            break;
        case 7:
        case 8:
            list->put(OVS_ACTION_ATTR_RECIRC, word >> 20);
            break;
        case 9:
            list->put(OVS_ACTION_ATTR_HASH,
                      ovs_action_hash{fits ? 1 : word >> 28, word >> 16});
            break;
        case 10:
            list->put(OVS_ACTION_ATTR_TRUNC,
                      ovs_action_trunc{word >> (fits ? 4 : 26)});
            break;
        case 11:
        case 12:
        case 13:
            put_ct(list, random);
            break;
        case 14:
            list->put_bytes(OVS_ACTION_ATTR_CT_CLEAR, {});
            break;
        default:
            list->put_raw(fits ? 8 : word >> 28, (word >> 16) % 32,
                          unit::bytes_of(word));
    }
}

size_t mutate(uint8_t *data, size_t size, size_t max_size, unsigned seed) {
    std::minstd_rand random(seed);
    if (random() % 2) {
        return LLVMFuzzerMutate(data, size, max_size);
    }
    // Leaves one action out, or puts one in, or both.
    std::vector<Attr> actions;
    const ByteVector before = copy_of(bytes_at(data, size));
    AttrReader reader(before);
    while (auto a = reader.next()) {
        actions.push_back(*a);
    }
    const size_t place = random() % (actions.size() + 1);
    const bool leave_out = random() % 2, put_in = !leave_out || random() % 2;
    unit::AttrList list;
    for (size_t i = 0; i <= actions.size(); i++) {
        if (i == place && put_in) {
            put_any(&list, &random);
        }
        if (i < actions.size() && !(i == place && leave_out)) {
            list.put_bytes(actions[i].type, actions[i].payload);
        }
    }
    if (list.bytes().size() > max_size) {
        return size;
    }
    std::copy_n(reinterpret_cast<const uint8_t *>(list.bytes().data()),
                list.bytes().size(), data);
    return list.bytes().size();
}

}  // namespace
}  // namespace flowxlate::fuzz

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    using namespace flowxlate::fuzz;
    const ByteVector list = copy_of(bytes_at(data, size));
    static const std::vector<Kind> kKinds = make_kinds();
    for (const Kind &kind : kKinds) {
        for (const unsigned n_tags : {0, 1, 2}) {
            check(list, kind, n_tags);
        }
    }
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size,
                               unsigned seed) {
    return flowxlate::fuzz::mutate(data, size, max_size, seed);
}
