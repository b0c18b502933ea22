// SPDX-License-Identifier: Apache-2.0
// decode_actions() on arbitrary bytes, for packets of several kinds, with none
// to two tags.
//
// A model carries out the list on a packet's stack of tags and on its fields.
// What is accepted must do the same, and everything that the program can do
// must be accepted.
#include "flowxlate/actions.h"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <netinet/in.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <optional>
#include <random>

#include "flowxlate/flow_table.h"
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
    return {
        kind_of(match_of(XF_CLASS_L2, 0x88b5, 0), {}),
        kind_of(match_of(XF_CLASS_ARP, ETH_P_ARP, 0), {kArpPlaces}),
        kind_of(udp, {kTosAndTtl, kUdpPlaces}),
        kind_of(later, {kTosAndTtl}),
        kind_of(nd, {kNdPlaces}),
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
    std::optional<uint32_t> recirc, hash_basis, max_len;
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

class Model {
public:
    Model(const Kind &kind, unsigned n_tags) : kind_(kind) {
        done_.tags = tags_before(n_tags);
    }

    // Can the program do this action, after the previous ones?
    bool step(uint16_t type, Bytes payload) {
        const bool output = type == OVS_ACTION_ATTR_OUTPUT;
        const bool recirc = type == OVS_ACTION_ATTR_RECIRC;
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
            default:
                return false;
        }
    }

    std::optional<Outcome> outcome() const {
        return !done_.ports.empty() || done_.recirc ? std::optional(done_)
                                                    : std::nullopt;
    }
    // Its fields as they are then, if they were 'key'.
    xf_key fields(const xf_key &key) const {
        xf_key k;
        for (size_t i = 0; i < XF_KEY_WORDS; i++) {
            k.word[i] = (key.word[i] & ~mask_.word[i]) | value_.word[i];
        }
        return k;
    }

private:
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

    bool push(Bytes payload) {
        ovs_action_push_vlan p;
        if (!read_exactly(payload, &p)) {
            return false;
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
        for (size_t i = 0; i < size; i++) {
            const std::byte mask = masked             ? a->payload[size + i]
                                 : is_set(a->type, i) ? std::byte{0xff}
                                                      : std::byte{0};
            if (mask != std::byte{0}
                && !set_byte(a->type, i, a->payload[i], mask)) {
                return false;
            }
        }
        return true;
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

    const Kind &kind_;
    Outcome done_;
    xf_key value_{}, mask_{};
    bool sets_icmpv6_ = false;
};

// What the program makes of a packet for 'a'; nothing if it drops it.
std::optional<Outcome> carry_out(const Actions &a, unsigned n_tags) {
    Outcome o;
    if (a.verdict == XF_DROP) {
        CHECK(a.n_pop == 0 && a.push.empty());
        CHECK(a.out_ports.empty() && a.recirc_id == 0);
        CHECK(!FlowAction(xf_action{}, a.rewrite).rewrites());
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
    return o;
}

// Packets of the flow, with zeros, ones and something else in all other bits.
void check_fields(const Kind &kind, const Model &model, const xf_rewrite &r) {
    const Match &m = kind.match;
    for (const uint64_t noise : {0ULL, ~0ULL, 0x5a3c96f00f69c3a5ULL}) {
        xf_key before, after;
        for (size_t i = 0; i < XF_KEY_WORDS; i++) {
            before.word[i] = m.key.word[i] | (noise & ~m.mask.word[i]);
            after.word[i] = (before.word[i] & ~r.mask[i]) | r.value[i];
        }
        const xf_key wanted = model.fields(before);
        CHECK(!std::memcmp(&after, &wanted, sizeof after));
    }
    for (size_t i = 0; i < XF_KEY_WORDS; i++) {
        CHECK(!(r.value[i] & ~r.mask[i]));
        // Bits that are right already are not written.
        CHECK(!(r.mask[i] & m.mask.word[i] & ~(r.value[i] ^ m.key.word[i])));
    }
}

void check(const ByteVector &list, const Kind &kind, unsigned n_tags) {
    Model model(kind, n_tags);
    bool possible = true;
    AttrReader reader(list);
    for (auto a = reader.next(); a && possible; a = reader.next()) {
        possible = model.step(a->type, a->payload);
    }
    possible = possible && !reader.malformed();

    Actions out, again;
    // Whatever was there before must not shine through.
    out.n_pop = 7;
    out.push = {{1, 1}, {1, 1}};
    out.recirc_id = 7;
    std::memset(&out.rewrite, 0xee, sizeof out.rewrite);
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
    if (model.outcome()) {
        check_fields(kind, model, out.rewrite);
    }
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

void put_any(unit::AttrList *list, std::minstd_rand *random) {
    const auto word = static_cast<uint32_t>((*random)());
    const bool fits = word & 0x700;
    const uint16_t tpid = word & 0x800 ? ETH_P_8021Q : ETH_P_8021AD;
    switch (word % 12) {
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
