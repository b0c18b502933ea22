// SPDX-License-Identifier: Apache-2.0
// decode_actions(): action lists in, what the program does out.
#include "flowxlate/translate/actions.h"
#include "bpf/abi/tunnel.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <random>
#include <set>

#include "tests/unit/attrs.h"
#include "tests/unit/field_names.h"

namespace flowxlate::unit {
namespace {

// What is in a ct(), in the order of the calls.
class Ct : public AttrList {
public:
    explicit Ct(uint16_t zone = 7) { put(OVS_CT_ATTR_ZONE, zone); }
    Ct &commit() { return other(OVS_CT_ATTR_COMMIT); }
    Ct &nat(std::string_view what = "") {
        return other(OVS_CT_ATTR_NAT, what);
    }
    // Value, mask.
    Ct &mark(uint32_t value, uint32_t mask) {
        put(OVS_CT_ATTR_MARK, std::array{value, mask});
        return *this;
    }
    Ct &labels(std::string_view value_and_mask) {
        return other(OVS_CT_ATTR_LABELS, value_and_mask);
    }
    Ct &other(uint16_t type, std::string_view payload = "") {
        put_hex(type, payload);
        return *this;
    }
};

// A list of actions, in the order of the calls.
class List : public AttrList {
public:
    List &output(uint32_t port) {
        put(OVS_ACTION_ATTR_OUTPUT, port);
        return *this;
    }
    List &push(uint16_t tpid, uint16_t tci) {
        put(OVS_ACTION_ATTR_PUSH_VLAN,
            ovs_action_push_vlan{htons(tpid), htons(tci)});
        return *this;
    }
    List &pop() {
        put_bytes(OVS_ACTION_ATTR_POP_VLAN, {});
        return *this;
    }
    List &trunc(uint32_t max_len) {
        put(OVS_ACTION_ATTR_TRUNC, ovs_action_trunc{max_len});
        return *this;
    }
    List &hash(uint32_t algorithm, uint32_t basis) {
        put(OVS_ACTION_ATTR_HASH, ovs_action_hash{algorithm, basis});
        return *this;
    }
    List &recirc(uint32_t id) {
        put(OVS_ACTION_ATTR_RECIRC, id);
        return *this;
    }
    List &set(uint16_t attr, std::string_view value) {
        nest(OVS_ACTION_ATTR_SET,
             [&](AttrList &inner) { inner.put_hex(attr, value); });
        return *this;
    }
    // "value/mask".
    List &set_masked(uint16_t attr, std::string_view both) {
        const size_t slash = both.find('/');
        const std::string payload = std::string(both.substr(0, slash))
                                  + std::string(both.substr(slash + 1));
        nest(OVS_ACTION_ATTR_SET_MASKED,
             [&](AttrList &inner) { inner.put_hex(attr, payload); });
        return *this;
    }
    // One member of the attribute's structure.
    template <typename S, typename M>
    List &set_masked(uint16_t attr, M S::*member, std::string_view both) {
        const Flow f = Flow().match(attr, member, both);
        return set_masked(
            attr, to_hex(f.key.at(attr)) + "/" + to_hex(f.mask.at(attr)));
    }
    List &ct(const AttrList &what) {
        put_bytes(OVS_ACTION_ATTR_CT, what.bytes());
        return *this;
    }
    List &clone(const AttrList &list) {
        put_bytes(OVS_ACTION_ATTR_CLONE, list.bytes());
        return *this;
    }
    // 'longer' for packets of more than 'size' bytes.
    List &check_length(uint16_t size, const AttrList &longer,
                       const AttrList &others) {
        nest(OVS_ACTION_ATTR_CHECK_PKT_LEN, [&](AttrList &a) {
            a.put(OVS_CHECK_PKT_LEN_ATTR_PKT_LEN, size);
            a.put_bytes(OVS_CHECK_PKT_LEN_ATTR_ACTIONS_IF_GREATER,
                        longer.bytes());
            a.put_bytes(OVS_CHECK_PKT_LEN_ATTR_ACTIONS_IF_LESS_EQUAL,
                        others.bytes());
        });
        return *this;
    }
    List &ct_clear() {
        put_bytes(OVS_ACTION_ATTR_CT_CLEAR, {});
        return *this;
    }
    List &other(uint16_t type, std::string_view payload = "") {
        put_hex(type, payload);
        return *this;
    }
};

constexpr auto kEth = OVS_KEY_ATTR_ETHERNET;
constexpr auto kIpv4 = OVS_KEY_ATTR_IPV4;
constexpr auto kIpv6 = OVS_KEY_ATTR_IPV6;
constexpr auto kTcp = OVS_KEY_ATTR_TCP;
constexpr auto kUdp = OVS_KEY_ATTR_UDP;
constexpr auto kIcmp = OVS_KEY_ATTR_ICMP;
constexpr auto kIcmpv6 = OVS_KEY_ATTR_ICMPV6;
constexpr auto kArp = OVS_KEY_ATTR_ARP;
constexpr auto kNd = OVS_KEY_ATTR_ND;

constexpr char kMacs[] = "02aa000000010200bb000002";  // Source, destination.
constexpr char kOnes[] = "ffffffffffffffffffffffff";

// From a heap block of exactly the list's size, for ASan.
Reject decode(Bytes list, const Match &match, Actions *out) {
    const ByteVector copy(list.begin(), list.end());
    return decode_actions(copy, match, out);
}

// "nw_ttl=3f/ff, " for each field of which bits are set.
std::string describe_fields(const Match &match, const xf_rewrite &rewrite) {
    struct Member {
        const char *name;
        size_t offset, size;
    };
#define MEMBER(NAME) {#NAME, offsetof(xf_key, NAME), sizeof(xf_key::NAME)}
    std::vector<Member> members = {
        MEMBER(eth_dst), MEMBER(eth_src), MEMBER(nw_proto), MEMBER(nw_tos),
        MEMBER(nw_ttl),  MEMBER(tp_src),  MEMBER(tp_dst)};
    if (match.cls == XF_CLASS_IPV6) {
        const Member more[] = {MEMBER(ipv6_label), MEMBER(ipv6_src),
                               MEMBER(ipv6_dst),   MEMBER(nd_target),
                               MEMBER(nd_sll),     MEMBER(nd_tll)};
        members.insert(members.end(), std::begin(more), std::end(more));
    } else {
        const Member more[] = {MEMBER(ipv4_src), MEMBER(ipv4_dst),
                               MEMBER(arp_sha), MEMBER(arp_tha)};
        members.insert(members.end(), std::begin(more), std::end(more));
    }
#undef MEMBER
    const Bytes value = bytes_of(rewrite.value), mask = bytes_of(rewrite.mask);
    const auto is_set = [](std::byte b) { return b != std::byte{0}; };
    std::string s;
    long n_bytes = 0;
    for (auto &f : members) {
        const Bytes v = value.subspan(f.offset, f.size);
        const Bytes m = mask.subspan(f.offset, f.size);
        n_bytes += std::count_if(m.begin(), m.end(), is_set);
        if (std::any_of(m.begin(), m.end(), is_set)) {
            s +=
                std::string(f.name) + "=" + to_hex(v) + "/" + to_hex(m) + ", ";
        }
    }
    for (size_t i = 0; i < value.size(); i++) {
        EXPECT_EQ(value[i] & ~mask[i], std::byte{0}) << "byte " << i;
    }
    // Or there are bits which are no field.
    EXPECT_EQ(std::count_if(mask.begin(), mask.end(), is_set), n_bytes);
    return s;
}

// "ct_clear", "ct(clear zone 7 commit nat mark 1/f label ...)".
std::string describe_step(const xf_ct_step &step) {
    if (step.flags == XF_CT_CLEAR) {
        return "ct_clear";
    }
    EXPECT_TRUE(step.flags & XF_CT_TRACK);
    std::string s = step.flags & XF_CT_CLEAR ? "clear " : "";
    s += "zone " + std::to_string(step.zone);
    s += step.flags & XF_CT_COMMIT ? " commit" : "";
    s += step.flags & XF_CT_NAT ? " nat" : "";
    if (step.flags & XF_CT_MARK) {
        char text[32];
        std::snprintf(text, sizeof text, " mark %x/%x", step.mark,
                      step.mark_mask);
        s += text;
    }
    if (step.flags & XF_CT_LABEL) {
        s += " label " + to_hex(bytes_of(step.label)) + "/"
           + to_hex(bytes_of(step.label_mask));
    }
    return "ct(" + s + ")";
}

// Steps 'from' to 'to' - 1.
std::string describe_steps(const Actions &a, uint32_t from, uint32_t to) {
    std::string s;
    for (uint32_t i = from; i < to && a.rewrite.ct[i].flags; i++) {
        s += describe_step(a.rewrite.ct[i]) + ", ";
    }
    return s;
}

// What is behind the last step is as if it had never been there.
void check_steps(const Actions &a) {
    constexpr xf_ct_step kNone{};
    uint32_t n = 0;
    bool tracks = false;
    while (n < XF_MAX_CT_STEPS && a.rewrite.ct[n].flags) {
        tracks |= (a.rewrite.ct[n++].flags & XF_CT_TRACK) != 0;
    }
    EXPECT_EQ(a.tracks, tracks);
    EXPECT_LE(a.rewrite.n_ct_first, n);
    for (; n < XF_MAX_CT_STEPS; n++) {
        EXPECT_EQ(std::memcmp(&a.rewrite.ct[n], &kNone, sizeof kNone), 0) << n;
    }
}

// "tnl_push 58 ip 14 udp 34 csum sum 1234": what the program has to know
// beside the bytes, which are checked where they are not as in the list.
std::string describe_tunnel(const xf_tunnel &t) {
    char text[96];
    std::snprintf(text, sizeof text, "tnl_push %u ip%s %u udp %u%s sum %04x",
                  t.len, t.is_ipv6 ? "v6" : "", t.l3_off, t.l4_off,
                  t.has_checksum ? " csum" : "", ntohs(t.sum));
    const Bytes unused = bytes_of(t.header).subspan(t.len);
    EXPECT_TRUE(std::ranges::all_of(
        unused, [](std::byte b) { return b == std::byte{0}; }));
    return text;
}

std::string describe(const Match &match, const Actions &a) {
    const uint32_t n_first = a.rewrite.n_ct_first;
    check_steps(a);
    std::string s = a.rewrite.max_in
                      ? "up to " + std::to_string(a.rewrite.max_in) + ", "
                      : "";
    s += describe_steps(a, 0, n_first) + describe_fields(match, a.rewrite)
       + describe_steps(a, n_first, XF_MAX_CT_STEPS);
    for (unsigned i = 0; i < a.n_pop; i++) {
        s += "pop, ";
    }
    for (const xf_tag &tag : a.push) {
        char text[32];
        std::snprintf(text, sizeof text, "push %04x %04x, ", ntohs(tag.tpid),
                      ntohs(tag.tci));
        s += text;
    }
    if (a.rewrite.max_len) {
        s += "cut " + std::to_string(a.rewrite.max_len) + ", ";
    }
    if (a.verdict == XF_HASH_RECIRC) {
        s += "hash " + std::to_string(a.rewrite.hash_basis) + ", ";
    } else {
        EXPECT_EQ(a.rewrite.hash_basis, 0u);
    }
    if (a.verdict != XF_OUTPUT && a.verdict != XF_GROUP) {
        EXPECT_TRUE(a.out_ports.empty());
        EXPECT_EQ(a.tunnel.len, 0u);
    }
    if (a.tunnel.len) {
        s += describe_tunnel(a.tunnel) + ", ";
    }
    switch (a.verdict) {
        case XF_DROP:
            EXPECT_EQ(a.recirc_id, 0u);
            return s + "drop";
        case XF_OUTPUT:
        case XF_GROUP:
            EXPECT_EQ(a.recirc_id, 0u);
            EXPECT_EQ(a.out_ports.size() == 1, a.verdict == XF_OUTPUT);
            s += "output";
            for (auto port : a.out_ports) {
                s += " " + std::to_string(index(port));
            }
            return s;
        case XF_RECIRC:
        case XF_HASH_RECIRC:
            return s + "recirc " + std::to_string(a.recirc_id);
        case XF_POP:
            return s + "tnl_pop " + std::to_string(index(a.pop));
        default:
            return s + "verdict?";
    }
}

// "drop", "output 2", "pop, output 2", "push 8100 0005, output 2",
// "nw_ttl=3f/ff, output 2", "cut 100, output 2", "hash 7, recirc 5",
// "up to 1414, output 2", or the reason of the refusal.
std::string describe(Bytes list, const Match &match) {
    Actions a;
    // Whatever was there before must not shine through.
    a.verdict = XF_HASH_RECIRC;
    a.n_pop = 7;
    a.push = {xf_tag{1, 1}, xf_tag{1, 1}};
    a.out_ports = {OdpPort{77}, OdpPort{78}};
    a.recirc_id = 77;
    std::memset(&a.rewrite, 0xee, sizeof a.rewrite);
    std::memset(&a.tunnel, 0xee, sizeof a.tunnel);
    if (auto r = decode(list, match, &a)) {
        const bool invalid = std::string_view(r.group) == "malformed";
        EXPECT_EQ(r.error, invalid ? EINVAL : EOPNOTSUPP) << r.name();
        return r.name();
    }
    return describe(match, a);
}

std::string describe(Bytes list, unsigned n_tags) {
    Match match;
    match.n_tags = n_tags;
    return describe(list, match);
}

struct Row {
    const char *what;
    List list;
    const char *untagged;    // Expected for a flow of untagged packets, ...
    const char *tagged;      // ... of packets with one tag ...
    const char *two_tagged;  // ... and with two.
};

void check(std::span<const Row> rows) {
    for (const Row &row : rows) {
        EXPECT_EQ(describe(row.list.bytes(), 0u), row.untagged) << row.what;
        EXPECT_EQ(describe(row.list.bytes(), 1u), row.tagged)
            << row.what << " (tagged)";
        EXPECT_EQ(describe(row.list.bytes(), 2u), row.two_tagged)
            << row.what << " (two tags)";
    }
}

// A row whose packets' tags do not matter.
struct SameRow {
    const char *what;
    List list;
    std::string expected;
};

List outputs(size_t n) {
    List list;
    for (size_t i = 0; i < n; i++) {
        list.output(2);
    }
    return list;
}

std::string twos(size_t n) {
    std::string s;
    for (size_t i = 0; i < n; i++) {
        s += " 2";
    }
    return s;
}

void check(std::span<const SameRow> rows) {
    for (const SameRow &row : rows) {
        for (const unsigned n_tags : {0u, 1u, 2u}) {
            EXPECT_EQ(describe(row.list.bytes(), n_tags), row.expected)
                << row.what << ", " << n_tags << " tags";
        }
    }
}

TEST(DecodeActions, Output) {
    const SameRow rows[] = {
        {"no action drops", List(), "drop"},
        {"output", List().output(2), "output 2"},
        {"highest port", List().output(0xffffffff), "output 4294967295"},
        {"two outputs", List().output(3).output(2), "output 3 2"},
        {"the same output twice", List().output(2).output(2), "output 2 2"},
        {"as many as a group has room for", outputs(XF_GROUP_PORTS - 1),
         "output" + twos(XF_GROUP_PORTS - 1)},
        {"one more", outputs(XF_GROUP_PORTS), "action/too_many_outputs"},
        {"one cut, one not", List().trunc(100).output(2).output(3),
         "action/too_many_outputs"},
        {"output between changes",
         List().output(2).push(0x8100, 0x1007).output(3),
         "action/after_output"},
        {"push after output", List().output(2).push(0x8100, 0x1007),
         "action/after_output"},
        {"pop after output", List().output(2).pop(), "action/after_output"},
        {"trunc after output", List().output(2).trunc(100),
         "action/after_output"},
        {"recirc after output", List().output(2).recirc(1),
         "action/after_output"},
        {"ct_clear after output",
         List().output(2).other(OVS_ACTION_ATTR_CT_CLEAR),
         "action/after_output"},
        {"unknown after output", List().output(2).other(4000),
         "action/after_output"},
        {"unsupported before output",
         List().other(OVS_ACTION_ATTR_METER, "01000000").output(2),
         "action/meter"},
        {"too short", List().other(OVS_ACTION_ATTR_OUTPUT, "020000"),
         "malformed/output"},
        {"too long", List().other(OVS_ACTION_ATTR_OUTPUT, "0200000000"),
         "malformed/output"},
        {"empty", List().other(OVS_ACTION_ATTR_OUTPUT), "malformed/output"},
    };
    check(rows);
}

TEST(DecodeActions, Vlan) {
    const char *const kNone = "malformed/pop_vlan";
    const char *const kThird = "action/third_vlan";
    const Row rows[] = {
        {"pop", List().pop().output(2), kNone, "pop, output 2",
         "pop, output 2"},
        {"two pops", List().pop().pop().output(2), kNone, kNone,
         "pop, pop, output 2"},
        {"three pops", List().pop().pop().pop().output(2), kNone, kNone,
         kNone},
        {"push 802.1Q", List().push(0x8100, 0x1005).output(2),
         "push 8100 0005, output 2", "push 8100 0005, output 2", kThird},
        {"push 802.1ad", List().push(0x88a8, 0x1fff).output(2),
         "push 88a8 0fff, output 2", "push 88a8 0fff, output 2", kThird},
        {"push keeps the priority", List().push(0x8100, 0xf005).output(2),
         "push 8100 e005, output 2", "push 8100 e005, output 2", kThird},
        {"two pushes",
         List().push(0x8100, 0x1007).push(0x88a8, 0x1008).output(2),
         "push 8100 0007, push 88a8 0008, output 2", kThird, kThird},
        {"three pushes",
         List()
             .push(0x8100, 0x1007)
             .push(0x8100, 0x1008)
             .push(0x8100, 0x1009)
             .output(2),
         kThird, kThird, kThird},
        {"pop and push", List().pop().push(0x8100, 0x1007).output(2), kNone,
         "pop, push 8100 0007, output 2", "pop, push 8100 0007, output 2"},
        {"pop and two pushes",
         List().pop().push(0x8100, 0x1007).push(0x8100, 0x1008).output(2),
         kNone, "pop, push 8100 0007, push 8100 0008, output 2", kThird},
        {"two pops and two pushes",
         List()
             .pop()
             .pop()
             .push(0x8100, 0x1007)
             .push(0x8100, 0x1008)
             .output(2),
         kNone, kNone, "pop, pop, push 8100 0007, push 8100 0008, output 2"},
        {"push and pop is nothing",
         List().push(0x8100, 0x1007).pop().output(2), "output 2", "output 2",
         kThird},
        {"the last push counts",
         List().push(0x8100, 0x1007).pop().push(0x88a8, 0x1008).output(2),
         "push 88a8 0008, output 2", "push 88a8 0008, output 2", kThird},
        {"pop, push, pop is pop",
         List().pop().push(0x8100, 0x1007).pop().output(2), kNone,
         "pop, output 2", "pop, output 2"},
        {"a pop goes below what was pushed",
         List().push(0x8100, 0x1007).pop().pop().output(2), kNone,
         "pop, output 2", kThird},
        {"... and what was there before",
         List().pop().push(0x8100, 0x1007).pop().pop().output(2), kNone, kNone,
         "pop, pop, output 2"},
        {"one of two pushed",
         List().push(0x8100, 0x1007).push(0x8100, 0x1008).pop().output(2),
         "push 8100 0007, output 2", kThird, kThird},
        {"one pop too many", List().push(0x8100, 0x1007).pop().pop().pop(),
         kNone, kNone, kThird},
        {"nobody sees a tag that is dropped", List().pop(), kNone, "drop",
         "drop"},
        {"nor one that was pushed", List().push(0x8100, 0x1007), "drop",
         "drop", kThird},
        {"before recirculation", List().pop().push(0x88a8, 0x1007).recirc(5),
         kNone, "pop, push 88a8 0007, recirc 5",
         "pop, push 88a8 0007, recirc 5"},
    };
    check(rows);
    const SameRow malformed[] = {
        {"TPID of neither kind", List().push(0x9100, 0x1007).output(2),
         "malformed/push_vlan"},
        {"TPID 0", List().push(0, 0x1007).output(2), "malformed/push_vlan"},
        {"TPID in host order", List().push(0x0081, 0x1007).output(2),
         "malformed/push_vlan"},
        {"push too short", List().other(OVS_ACTION_ATTR_PUSH_VLAN, "810010"),
         "malformed/push_vlan"},
        {"push too long",
         List().other(OVS_ACTION_ATTR_PUSH_VLAN, "8100100700"),
         "malformed/push_vlan"},
    };
    check(malformed);
}

// Of the next output, which has to follow.
TEST(DecodeActions, Trunc) {
    const SameRow rows[] = {
        {"trunc", List().trunc(100).output(2), "cut 100, output 2"},
        {"to an Ethernet header", List().trunc(14).output(2),
         "cut 14, output 2"},
        {"to nothing shorter", List().trunc(UINT32_MAX).output(2),
         "cut 4294967295, output 2"},
        {"no output: dropped", List().trunc(100), "drop"},
        {"to less than an Ethernet header", List().trunc(13).output(2),
         "malformed/trunc"},
        {"to nothing", List().trunc(0).output(2), "malformed/trunc"},
        {"twice", List().trunc(100).trunc(100).output(2), "action/trunc"},
        {"before push", List().trunc(100).push(0x8100, 0x1007).output(2),
         "action/trunc"},
        {"before pop", List().trunc(100).pop().output(2), "action/trunc"},
        {"before set", List().trunc(100).set(kEth, kMacs).output(2),
         "action/trunc"},
        {"before hash", List().trunc(100).hash(1, 0).recirc(5),
         "action/trunc"},
        {"before recirc", List().trunc(100).recirc(5), "action/trunc"},
        {"before what is unsupported",
         List().trunc(100).other(OVS_ACTION_ATTR_CT_CLEAR), "action/trunc"},
        {"too short", List().other(OVS_ACTION_ATTR_TRUNC, "640000"),
         "malformed/trunc"},
        {"too long", List().other(OVS_ACTION_ATTR_TRUNC, "6400000000"),
         "malformed/trunc"},
        {"empty", List().other(OVS_ACTION_ATTR_TRUNC), "malformed/trunc"},
    };
    check(rows);
    EXPECT_EQ(describe(List()
                           .set(kEth, kMacs)
                           .push(0x8100, 0x1007)
                           .trunc(100)
                           .output(2)
                           .bytes(),
                       0u),
              "eth_dst=0200bb000002/ffffffffffff, "
              "eth_src=02aa00000001/ffffffffffff, push 8100 0007, cut 100, "
              "output 2");
}

TEST(DecodeActions, HashAndRecirc) {
    const SameRow rows[] = {
        {"recirc", List().recirc(5), "recirc 5"},
        {"highest id", List().recirc(UINT32_MAX), "recirc 4294967295"},
        {"id 0 is that of no recirculation", List().recirc(0),
         "malformed/recirc"},
        {"output after recirc", List().recirc(5).output(2),
         "action/after_output"},
        {"recirc twice", List().recirc(5).recirc(6), "action/after_output"},
        {"set after recirc", List().recirc(5).set(kEth, kMacs),
         "action/after_output"},
        {"recirc too short", List().other(OVS_ACTION_ATTR_RECIRC, "050000"),
         "malformed/recirc"},
        {"recirc too long", List().other(OVS_ACTION_ATTR_RECIRC, "0500000000"),
         "malformed/recirc"},

        {"symmetric hash", List().hash(1, 0).recirc(5), "hash 0, recirc 5"},
        {"basis", List().hash(1, UINT32_MAX).recirc(5),
         "hash 4294967295, recirc 5"},
        {"of the five-tuple", List().hash(OVS_HASH_ALG_L4, 0).recirc(5),
         "action/hash_l4"},
        {"no such algorithm", List().hash(2, 0).recirc(5), "action/hash"},
        {"highest algorithm", List().hash(UINT32_MAX, 0).recirc(5),
         "action/hash"},
        {"no recirculation: dropped", List().hash(1, 7), "drop"},
        {"hash before output", List().hash(1, 0).output(2), "action/hash"},
        {"twice", List().hash(1, 0).hash(1, 0).recirc(5), "action/hash"},
        {"before push", List().hash(1, 0).push(0x8100, 0x1007).recirc(5),
         "action/hash"},
        {"before set", List().hash(1, 0).set(kEth, kMacs).recirc(5),
         "action/hash"},
        {"before trunc", List().hash(1, 0).trunc(100).output(2),
         "action/hash"},
        {"recirc id 0 after hash", List().hash(1, 0).recirc(0),
         "malformed/recirc"},
        {"hash too short", List().other(OVS_ACTION_ATTR_HASH, "01000000"),
         "malformed/hash"},
        {"hash too long",
         List().other(OVS_ACTION_ATTR_HASH, "010000000000000000"),
         "malformed/hash"},
        {"hash empty", List().other(OVS_ACTION_ATTR_HASH), "malformed/hash"},

        {"set before", List().set(kEth, kMacs).hash(1, 7).recirc(5),
         "eth_dst=0200bb000002/ffffffffffff, "
         "eth_src=02aa00000001/ffffffffffff, hash 7, recirc 5"},
    };
    check(rows);
}

// Each action that the program cannot do is refused by its name, whatever its
// payload is, even if it would be the only one.
TEST(DecodeActions, RefusesAllOthersByName) {
    const struct {
        uint16_t type;
        const char *name;
    } rows[] = {
        {OVS_ACTION_ATTR_UNSPEC, "action/unspec"},
        {OVS_ACTION_ATTR_USERSPACE, "action/userspace"},
        {OVS_ACTION_ATTR_SAMPLE, "action/sample"},
        {OVS_ACTION_ATTR_PUSH_MPLS, "action/push_mpls"},
        {OVS_ACTION_ATTR_POP_MPLS, "action/pop_mpls"},
        {OVS_ACTION_ATTR_PUSH_ETH, "action/push_eth"},
        {OVS_ACTION_ATTR_POP_ETH, "action/pop_eth"},
        {OVS_ACTION_ATTR_PUSH_NSH, "action/push_nsh"},
        {OVS_ACTION_ATTR_POP_NSH, "action/pop_nsh"},
        {OVS_ACTION_ATTR_METER, "action/meter"},
        {OVS_ACTION_ATTR_ADD_MPLS, "action/add_mpls"},
        {OVS_ACTION_ATTR_DEC_TTL, "action/dec_ttl"},
        {OVS_OFFLOAD_ACTION_PRIVATE, "action/ovs_private"},
    };
    std::map<uint16_t, const char *> names;
    for (const auto &row : rows) {
        names[row.type] = row.name;
    }
    const std::set<uint16_t> supported = {
        OVS_ACTION_ATTR_OUTPUT,    OVS_ACTION_ATTR_SET,
        OVS_ACTION_ATTR_PUSH_VLAN, OVS_ACTION_ATTR_POP_VLAN,
        OVS_ACTION_ATTR_RECIRC,    OVS_ACTION_ATTR_HASH,
        OVS_ACTION_ATTR_TRUNC,     OVS_ACTION_ATTR_SET_MASKED,
        OVS_ACTION_ATTR_CT,        OVS_ACTION_ATTR_CT_CLEAR,
        OVS_ACTION_ATTR_CLONE,     OVS_ACTION_ATTR_CHECK_PKT_LEN};
    EXPECT_EQ(names.size() - 1 + supported.size(), action_support().size());
    for (size_t type = 0; type < action_support().size(); type++) {
        const ActionSupport &a = action_support()[type];
        EXPECT_EQ(a.supported, supported.contains(type)) << a.name;
        if (!a.supported) {
            EXPECT_EQ(std::string("action/") + a.name, names[type]);
        }
    }
    for (uint16_t type = 0; type <= kMaxAttrType; type++) {
        if (supported.contains(type) || type == OVS_OFFLOAD_ACTION_TUNNEL_PUSH
            || type == OVS_OFFLOAD_ACTION_TUNNEL_POP) {
            continue;
        }
        const auto it = names.find(type);
        const std::string expected =
            it == names.end() ? "action/unknown_action" : it->second;
        for (const char *payload : {"", "00000000", "0102030405060708"}) {
            ASSERT_EQ(describe(List().other(type, payload).bytes(), 1u),
                      expected)
                << "type " << type;
        }
    }
}

// Tunnels
// -------

constexpr char kOuterMacs[] = "0200000000020200000000010800";
constexpr char kOuterMacs6[] = "02000000000202000000000186dd";
constexpr char kOuterIpv4[] = "450000000000400040110000c0a80001c0a80002";
constexpr char kOuterIpv6[] =
    "6000000000001140fd000000000000000000000000000001"
    "fd000000000000000000000000000002";
constexpr char kGeneve[] = "000017c10000ffff0000655800000500";
constexpr char kVxlan[] = "000012b5000000000800000000000500";

// The payload of a tunnel_push of type 'type'.
std::string push_of(const std::string &header, uint32_t type,
                    uint32_t len = 0) {
    const ovs_offload_tunnel_push push{
        9, 1, len ? len : static_cast<uint32_t>(header.size() / 2), type};
    return to_hex(bytes_of(push)) + header;
}

List &tunnel_push(List &list, const std::string &header,
                  uint32_t type = OVS_OFFLOAD_TUNNEL_GENEVE) {
    return list.other(OVS_OFFLOAD_ACTION_TUNNEL_PUSH, push_of(header, type));
}

TEST(DecodeActions, TunnelPush) {
    const std::string geneve = std::string(kOuterMacs) + kOuterIpv4 + kGeneve;
    const std::string option = geneve + "0102800100030002";
    const std::string vxlan6 = std::string(kOuterMacs6) + kOuterIpv6 + kVxlan;
    auto pushed = [](const std::string &header,
                     uint32_t type = OVS_OFFLOAD_TUNNEL_GENEVE) {
        List list;
        return tunnel_push(list, header, type);
    };
    auto in_clone = [&](const std::string &header) {
        return List().other(OVS_ACTION_ATTR_CLONE,
                            to_hex(pushed(header).output(2).bytes()));
    };
    const char *kBoth = "tnl_push 50 ip 14 udp 34 csum sum 8165, output 2";
    auto with = [&](size_t at, const char *bytes) {
        std::string s = geneve;
        return s.replace(2 * at, std::strlen(bytes), bytes);
    };
    const Row rows[] = {
        {"Geneve", pushed(geneve).output(2), kBoth, kBoth, kBoth},
        {"in a clone that is the last action", in_clone(geneve), kBoth, kBoth,
         kBoth},
    };
    check(rows);
    const struct {
        const char *what;
        List list;
        const char *expected;
    } more[] = {
        {"an option", pushed(option).output(2),
         "tnl_push 58 ip 14 udp 34 csum sum 8165, output 2"},
        {"VXLAN over IPv6", pushed(vxlan6, OVS_OFFLOAD_TUNNEL_VXLAN).output(2),
         "tnl_push 70 ipv6 14 udp 54 sum fa15, output 2"},
        {"two ports", pushed(geneve).output(2).output(3),
         "tnl_push 50 ip 14 udp 34 csum sum 8165, output 2 3"},
        {"a tag of the underlay", pushed(geneve).push(0x8100, 7).output(2),
         "tnl_push 54 ip 18 udp 38 csum sum 8165, output 2"},
        {"two tags", pushed(geneve).push(0x8100, 7).push(0x8100, 8).output(2),
         "action/third_vlan"},
        {"a tag in it and one around",
         [&] {
             List list;
             list.push(0x8100, 5);
             return tunnel_push(list, geneve).push(0x8100, 7).output(2);
         }(),
         "push 8100 0005, tnl_push 54 ip 18 udp 38 csum sum 8165, output 2"},
        {"to nowhere", pushed(geneve), "drop"},
        {"cut before",
         [&] {
             List list;
             list.trunc(100);
             return tunnel_push(list, geneve).output(2);
         }(),
         "action/trunc"},
        {"set after", pushed(geneve).set(kEth, kMacs).output(2),
         "action/after_tnl_push"},
        {"recirculated after", pushed(geneve).recirc(5),
         "action/after_tnl_push"},
        {"twice",
         [&] {
             List list = pushed(geneve);
             return tunnel_push(list, geneve).output(2);
         }(),
         "action/after_tnl_push"},
        {"after an output",
         [&] {
             List list;
             list.output(1);
             return tunnel_push(list, geneve).output(2);
         }(),
         "action/after_output"},
        {"a clone that is not the last", in_clone(geneve).output(3),
         "action/clone"},
        {"a clone in a clone",
         List().other(OVS_ACTION_ATTR_CLONE, to_hex(in_clone(geneve).bytes())),
         kBoth},
        {"no header", pushed(""), "malformed/tnl_push"},
        {"less than its length",
         List().other(OVS_OFFLOAD_ACTION_TUNNEL_PUSH,
                      push_of(geneve, OVS_OFFLOAD_TUNNEL_GENEVE, 51)),
         "malformed/tnl_push"},
        {"less than a tunnel's header",
         pushed(geneve.substr(0, geneve.size() - 2)), "malformed/tnl_push"},
        {"GRE by its type", pushed(geneve, 3), "action/tnl_push_type"},
        {"GRE by its protocol", pushed(with(23, "2f")),
         "action/tnl_push_type"},
        {"ARP", pushed(with(12, "0806")), "malformed/tnl_push"},
        {"options of IPv4", pushed(with(14, "46")), "malformed/tnl_push"},
        {"a length of IPv4", pushed(with(16, "0001")), "malformed/tnl_push"},
        {"a length of UDP", pushed(with(38, "0001")), "malformed/tnl_push"},
        {"128 bytes", pushed(geneve + std::string(2 * 78, '1')).output(2),
         "tnl_push 128 ip 14 udp 34 csum sum 8165, output 2"},
        {"129 bytes", pushed(geneve + std::string(2 * 79, '1')),
         "action/tnl_push_length"},
        {"128 bytes and a tag",
         pushed(geneve + std::string(2 * 78, '1')).push(0x8100, 7),
         "action/tnl_push_length"},
    };
    for (const auto &row : more) {
        EXPECT_EQ(describe(row.list.bytes(), 0u), row.expected) << row.what;
    }
}

// Packet lengths
// --------------

List to_user() { return List().other(OVS_ACTION_ATTR_USERSPACE); }
List up_to(uint16_t size, const List &others) {
    return List().check_length(size, to_user(), others);
}

TEST(DecodeActions, CheckPacketLength) {
    const char *const kNone = "malformed/pop_vlan";
    const char *const kThird = "action/third_vlan";
    const Row rows[] = {
        {"others", up_to(1414, List().output(2)), "up to 1414, output 2",
         "up to 1414, output 2", "up to 1414, output 2"},
        {"a tag before",
         List().push(0x8100, 5).check_length(1414, to_user(),
                                             List().output(2)),
         "up to 1410, push 8100 0005, output 2",
         "up to 1410, push 8100 0005, output 2", kThird},
        {"a tag in it", up_to(1414, List().push(0x8100, 5).output(2)),
         "up to 1414, push 8100 0005, output 2",
         "up to 1414, push 8100 0005, output 2", kThird},
        {"no tag before",
         List().pop().check_length(1414, to_user(), List().output(2)), kNone,
         "up to 1418, pop, output 2", "up to 1418, pop, output 2"},
        {"another tag before",
         List().pop().push(0x8100, 5).check_length(1414, to_user(),
                                                   List().output(2)),
         kNone, "up to 1414, pop, push 8100 0005, output 2",
         "up to 1414, pop, push 8100 0005, output 2"},
    };
    check(rows);
    const SameRow same[] = {
        {"dropped", up_to(100, List()), "up to 100, drop"},
        {"recirculated", up_to(100, List().recirc(5)), "up to 100, recirc 5"},
        {"hashed before",
         List().hash(1, 7).check_length(100, to_user(), List().recirc(5)),
         "up to 100, hash 7, recirc 5"},
        {"cut in it", up_to(100, List().trunc(50).output(2)),
         "up to 100, cut 50, output 2"},
        {"cut before",
         List().trunc(50).check_length(100, to_user(), List().output(2)),
         "action/trunc"},
        {"an output before",
         List().output(3).check_length(100, to_user(), List().output(2)),
         "up to 100, output 3 2"},
        {"an output before, changed in it",
         List().output(3).check_length(100, to_user(),
                                       List().set(kEth, kMacs).output(2)),
         "action/after_output"},
        {"a recirculation before",
         List().recirc(5).check_length(100, to_user(), List()),
         "action/after_output"},
        {"a tunnel's end before",
         List()
             .other(OVS_OFFLOAD_ACTION_TUNNEL_POP, "07000000")
             .check_length(100, to_user(), List()),
         "action/tnl_pop"},
        {"the same for all",
         List().check_length(100, List().output(2), List().output(2)),
         "output 2"},
        {"nothing for all", List().check_length(100, List(), List()), "drop"},
        {"other ports for longer ones",
         List().check_length(100, List().output(3), List().output(2)),
         "up to 100, output 2"},
        {"userspace for others",
         List().check_length(100, List().output(2), to_user()),
         "action/userspace"},
        {"both are too much", List().check_length(100, to_user(), to_user()),
         "action/userspace"},
        {"twice, the second less", up_to(100, up_to(90, List().output(2))),
         "up to 90, output 2"},
        {"twice, the first less", up_to(90, up_to(100, List().output(2))),
         "up to 90, output 2"},
        {"in a clone", List().clone(up_to(100, List().output(2))),
         "up to 100, output 2"},
        {"a clone in it", up_to(100, List().clone(List().output(2))),
         "up to 100, output 2"},
        {"four deep",
         List().clone(
             List().clone(List().clone(up_to(100, List().output(2))))),
         "up to 100, output 2"},
        {"five deep",
         up_to(100, List().clone(List().clone(
                        List().clone(List().clone(List().output(2)))))),
         "action/nested"},
        {"not the last",
         List().check_length(100, to_user(), List().output(2)).output(3),
         "action/check_pkt_len"},
        {"not the last in it",
         up_to(100, up_to(90, List().output(2)).output(3)),
         "action/check_pkt_len"},
        {"the longest", up_to(65535, List().output(2)),
         "up to 65535, output 2"},
        {"an Ethernet header", up_to(14, List().output(2)),
         "up to 14, output 2"},
        {"no packet is so short", up_to(13, List().output(2)),
         "action/check_pkt_len"},
        {"empty", List().other(OVS_ACTION_ATTR_CHECK_PKT_LEN),
         "malformed/check_pkt_len"},
    };
    check(same);
    auto tagged_up_to = [](uint16_t size) {
        return List().push(0x8100, 5).check_length(size, to_user(),
                                                   List().output(2));
    };
    EXPECT_EQ(describe(tagged_up_to(18).bytes(), 0u),
              "up to 14, push 8100 0005, output 2");
    EXPECT_EQ(describe(tagged_up_to(17).bytes(), 0u), "action/check_pkt_len");
    EXPECT_EQ(describe(tagged_up_to(0).bytes(), 0u), "action/check_pkt_len");
    EXPECT_EQ(describe(List()
                           .pop()
                           .check_length(65535, to_user(), List().output(2))
                           .bytes(),
                       1u),
              "up to 65535, pop, output 2");
}

// The length and both lists, in this order.
TEST(DecodeActions, MalformedPacketLength) {
    auto make = [](std::initializer_list<uint16_t> types,
                   const char *size = "6400") {
        List inner;
        for (const uint16_t type : types) {
            inner.other(type,
                        type == OVS_CHECK_PKT_LEN_ATTR_PKT_LEN ? size : "");
        }
        List list;
        list.put_bytes(OVS_ACTION_ATTR_CHECK_PKT_LEN, inner.bytes());
        return list;
    };
    EXPECT_EQ(describe(make({1, 2, 3}).bytes(), 0u), "drop");
    const List rows[] = {make({1, 2}),
                         make({1, 3}),
                         make({2, 3}),
                         make({1, 3, 2}),
                         make({2, 1, 3}),
                         make({1, 2, 3, 4}),
                         make({1, 2, 2}),
                         make({1, 2, 3, 3}),
                         make({0, 2, 3}),
                         make({1, 2, 3}, "64"),
                         make({1, 2, 3}, "64000000")};
    for (const List &list : rows) {
        EXPECT_EQ(describe(list.bytes(), 0u), "malformed/check_pkt_len")
            << to_hex(list.bytes());
    }
}

TEST(DecodeActions, TunnelPushBytes) {
    const std::string before = "45000000000040004011";
    const std::string after = "c0a80001c0a80002";
    // OVS 3.5 leaves the checksum of IPv4 to the end, 3.1 does not.
    for (const char *sum : {"0000", "b999", "1234"}) {
        List list;
        tunnel_push(list,
                    std::string(kOuterMacs) + before + sum + after + kGeneve)
            .push(0x8100, 7)
            .output(2);
        Match match;
        Actions a;
        ASSERT_FALSE(decode(list.bytes(), match, &a));
        EXPECT_EQ(to_hex(bytes_of(a.tunnel.header).first(a.tunnel.len)),
                  std::string("020000000002020000000001" "81000007" "0800")
                      + before + "b999" + after
                      + "000017c10000" "0000" "0000655800000500")
            << sum;
    }
}

TEST(DecodeActions, TunnelPop) {
    const List pop = List().other(OVS_OFFLOAD_ACTION_TUNNEL_POP, "07000000");
    Match ip;
    ip.cls = XF_CLASS_IPV4;
    Match tagged = ip, again = ip, arp = ip;
    tagged.n_tags = 1;
    again.recirc_id = 5;
    arp.cls = XF_CLASS_ARP;
    auto then = [&](List list) {
        list.append(pop.bytes());
        return list;
    };
    const struct {
        const char *what;
        List list;
        const Match &match;
        const char *expected;
    } rows[] = {
        {"alone", pop, ip, "tnl_pop 7"},
        {"tagged", pop, tagged, "action/tnl_pop"},
        {"without its tag", then(List().pop()), tagged, "pop, tnl_pop 7"},
        {"recirculated", pop, again, "action/tnl_pop"},
        {"of ARP", pop, arp, "action/tnl_pop"},
        {"set before", then(List().set(kEth, kMacs)), ip, "action/tnl_pop"},
        {"tracked before", then(List().ct(Ct(7))), ip, "action/tnl_pop"},
        {"pushed before", then(List().push(0x8100, 5)), ip, "action/tnl_pop"},
        {"output before", then(List().output(2)), ip, "action/after_output"},
        {"twice", then(pop), ip, "action/after_output"},
        {"output after", List(pop).output(2), ip, "action/after_output"},
        {"no port", List().other(OVS_OFFLOAD_ACTION_TUNNEL_POP, "07"), ip,
         "malformed/tnl_pop"},
    };
    for (const auto &row : rows) {
        EXPECT_EQ(describe(row.list.bytes(), row.match), row.expected)
            << row.what;
    }
}

TEST(DecodeActions, IgnoresAttributeFlags) {
    const uint32_t port = 2;
    AttrList list;
    list.put(OVS_ACTION_ATTR_OUTPUT | NLA_F_NET_BYTEORDER, port);
    EXPECT_EQ(describe(list.bytes(), 0u), "output 2");
}

// Set
// ---

struct SetRow {
    const char *what;
    Flow flow;
    List list;             // Without the output.
    std::string expected;  // Without the output, or the refusal.
};

// The fields of 'list', or the reason of the refusal.
std::string describe_set(const Flow &flow, List list) {
    Match match;
    const auto key = Flow::encode(flow.key), mask = Flow::encode(flow.mask);
    if (auto r = decode_match(key.bytes(), mask.bytes(), &match)) {
        return r.name();
    }
    std::string s = describe(list.output(2).bytes(), match);
    const size_t end = s.rfind(", output 2");
    return s == "output 2" ? "" : s.substr(0, end);
}

void check(std::span<const SetRow> rows) {
    for (const SetRow &row : rows) {
        EXPECT_EQ(describe_set(row.flow, row.list), row.expected) << row.what;
    }
}

TEST(DecodeSet, Ethernet) {
    const auto src = &ovs_key_ethernet::eth_src;
    const auto dst = &ovs_key_ethernet::eth_dst;
    const char *both =
        "eth_dst=0200bb000002/ffffffffffff, "
        "eth_src=02aa00000001/ffffffffffff";
    const SetRow rows[] = {
        {"both", l2(), List().set(kEth, kMacs), both},
        {"both, masked", l2(),
         List().set_masked(kEth, std::string(kMacs) + "/" + kOnes), both},
        {"of ARP", arp(), List().set(kEth, kMacs), both},
        {"of IPv4", ipv4(), List().set(kEth, kMacs), both},
        {"of IPv6", ipv6(), List().set(kEth, kMacs), both},
        {"of a tagged packet", ipv4().in_vlan("1005/1fff"),
         List().set(kEth, kMacs), both},
        {"before a tag is pushed", l2(),
         List().set(kEth, kMacs).push(0x8100, 0x1005),
         "eth_dst=0200bb000002/ffffffffffff, "
         "eth_src=02aa00000001/ffffffffffff, push 8100 0005"},
        {"after a tag is popped", ipv4().in_vlan("1005/1fff"),
         List().pop().set(kEth, kMacs),
         "eth_dst=0200bb000002/ffffffffffff, "
         "eth_src=02aa00000001/ffffffffffff, pop"},
        {"source", l2(),
         List().set_masked(kEth, src, "020000000009/ffffffffffff"),
         "eth_src=020000000009/ffffffffffff"},
        {"destination", l2(),
         List().set_masked(kEth, dst, "020000000009/ffffffffffff"),
         "eth_dst=020000000009/ffffffffffff"},
        {"some bits; others in the value do not count", l2(),
         List().set_masked(kEth, dst, "ffffffffffff/0000000000f1"),
         "eth_dst=0000000000f1/0000000000f1"},
        {"no bits", l2(),
         List().set_masked(kEth, dst, "020000000009/000000000000"), ""},
        {"what is matched is right already",
         l2().match(kEth, dst, "020000000009/ffffffffffff"),
         List().set_masked(kEth, dst, "020000000009/ffffffffffff"), ""},
        {"the bits that are matched and right",
         l2().match(kEth, dst, "020000000009/00000000ffff"),
         List().set_masked(kEth, dst, "020000000008/ffffffffffff"),
         "eth_dst=020000000000/ffffffff0001"},
    };
    check(rows);
}

TEST(DecodeSet, Ip) {
    const auto tos4 = &ovs_key_ipv4::ipv4_tos, ttl4 = &ovs_key_ipv4::ipv4_ttl;
    const auto src4 = &ovs_key_ipv4::ipv4_src, dst4 = &ovs_key_ipv4::ipv4_dst;
    const auto tos6 = &ovs_key_ipv6::ipv6_tclass;
    const auto ttl6 = &ovs_key_ipv6::ipv6_hlimit;
    const auto label = &ovs_key_ipv6::ipv6_label;
    const auto src6 = &ovs_key_ipv6::ipv6_src, dst6 = &ovs_key_ipv6::ipv6_dst;
    const std::string a6 = "20010db8000000010000000200000003", ones(32, 'f');
    const SetRow rows[] = {
        {"TTL", ipv4(), List().set_masked(kIpv4, ttl4, "3f/ff"),
         "nw_ttl=3f/ff"},
        {"dec_ttl", ipv4().match(kIpv4, ttl4, "40/ff"),
         List().set_masked(kIpv4, ttl4, "3f/ff"), "nw_ttl=3f/7f"},
        {"DSCP", ipv4(), List().set_masked(kIpv4, tos4, "b9/fc"),
         "nw_tos=b8/fc"},
        {"source", ipv4(), List().set_masked(kIpv4, src4, "0a000001/ffffffff"),
         "ipv4_src=0a000001/ffffffff"},
        {"destination", ipv4(),
         List().set_masked(kIpv4, dst4, "0a000001/ffffff00"),
         "ipv4_dst=0a000000/ffffff00"},
        // OVS has to name the protocol and the fragment type here.
        {"all of IPv4", ipv4(), List().set(kIpv4, "0a0000010a00000211b83f01"),
         "nw_tos=b8/ff, nw_ttl=3f/ff, ipv4_src=0a000001/ffffffff, "
         "ipv4_dst=0a000002/ffffffff"},
        {"addresses that are matched",
         ipv4().match(kIpv4, src4, "0a000001/ffffffff"),
         List().set(kIpv4, "0a0000010a00000211b83f00"),
         "nw_tos=b8/ff, nw_ttl=3f/ff, ipv4_dst=0a000002/ffffffff"},
        {"hop limit", ipv6(), List().set_masked(kIpv6, ttl6, "3f/ff"),
         "nw_ttl=3f/ff"},
        {"traffic class", ipv6(), List().set_masked(kIpv6, tos6, "b9/ff"),
         "nw_tos=b9/ff"},
        {"IPv6 source", ipv6(),
         List().set_masked(kIpv6, src6, a6 + "/" + ones),
         "ipv6_src=" + a6 + "/" + ones},
        {"IPv6 destination", ipv6().in_vlan("1005/1fff"),
         List().set_masked(kIpv6, dst6, a6 + "/" + ones),
         "ipv6_dst=" + a6 + "/" + ones},

        {"IPv4 of IPv6", ipv6(), List().set_masked(kIpv4, ttl4, "3f/ff"),
         "set/ip_ttl"},
        {"IPv6 of IPv4", ipv4(), List().set_masked(kIpv6, tos6, "b9/ff"),
         "set/ip_tos"},
        {"IPv4 of ARP", arp(),
         List().set_masked(kIpv4, src4, "0a000001/ffffffff"), "set/ipv4_src"},
        {"IPv4 destination of LLDP", l2(),
         List().set_masked(kIpv4, dst4, "0a000001/00000001"), "set/ipv4_dst"},
        {"IPv6 source of LLDP", l2(),
         List().set_masked(kIpv6, src6, a6 + "/" + ones), "set/ipv6_src"},
        {"IPv6 destination of LLDP", l2(),
         List().set_masked(kIpv6, dst6, a6 + "/" + ones), "set/ipv6_dst"},
        {"nothing of what is not there", l2(),
         List().set_masked(kIpv4, ttl4, "3f/00"), ""},
        {"protocol", ipv4("06"),
         List().set_masked(kIpv4, &ovs_key_ipv4::ipv4_proto, "11/ff"),
         "set/ip_proto"},
        {"protocol, as it is", ipv4("06"),
         List().set_masked(kIpv4, &ovs_key_ipv4::ipv4_proto, "06/ff"),
         "set/ip_proto"},
        {"fragment type", ipv4(),
         List().set_masked(kIpv4, &ovs_key_ipv4::ipv4_frag, "00/01"),
         "set/ip_frag"},
        {"next header", ipv6("06"),
         List().set_masked(kIpv6, &ovs_key_ipv6::ipv6_proto, "11/ff"),
         "set/ip_proto"},
        {"IPv6 fragment type", ipv6(),
         List().set_masked(kIpv6, &ovs_key_ipv6::ipv6_frag, "00/01"),
         "set/ip_frag"},
        {"label", ipv6(), List().set_masked(kIpv6, label, "00012345/000fffff"),
         "ipv6_label=00012345/000fffff"},
        {"one bit of the label", ipv6(),
         List().set_masked(kIpv6, label, "00000001/00000001"),
         "ipv6_label=00000001/00000001"},
        {"the label that is matched",
         ipv6().match(kIpv6, label, "00012345/000fffff"),
         List().set_masked(kIpv6, label, "00012345/000fffff"), ""},
        {"a label of 21 bits", ipv6(),
         List().set_masked(kIpv6, label, "00100000/00100000"),
         "malformed/set"},
        {"... that are not set", ipv6(),
         List().set_masked(kIpv6, label, "fff12345/000fffff"),
         "ipv6_label=00012345/000fffff"},
        {"the highest bit of the label's word", ipv6(),
         List().set_masked(kIpv6, label, "80000000/ffffffff"),
         "malformed/set"},
        {"label of IPv4", ipv4(),
         List().set_masked(kIpv6, label, "00012345/000fffff"),
         "set/ipv6_label"},
        // OVS has to name the next header and the fragment type here.
        {"all of IPv6", ipv6(),
         List().set(kIpv6, a6 + a6 + "00012345" + "11b83f01"),
         "nw_tos=b8/ff, nw_ttl=3f/ff, ipv6_label=00012345/ffffffff, ipv6_src="
             + a6 + "/" + ones + ", ipv6_dst=" + a6 + "/" + ones},
        {"all of IPv6, of a later fragment",
         ipv6("2c").match(kIpv6, &ovs_key_ipv6::ipv6_frag, "02/ff"),
         List().set(kIpv6, a6 + a6 + "00012345" + "2cb83f02"),
         "nw_tos=b8/ff, nw_ttl=3f/ff, ipv6_label=00012345/ffffffff, ipv6_src="
             + a6 + "/" + ones + ", ipv6_dst=" + a6 + "/" + ones},
    };
    check(rows);
}

TEST(DecodeSet, Ports) {
    const auto frag = &ovs_key_ipv4::ipv4_frag;
    const SetRow rows[] = {
        {"TCP", ipv4("06"), List().set(kTcp, "00501f90"),
         "tp_src=0050/ffff, tp_dst=1f90/ffff"},
        {"TCP over IPv6", ipv6("06"), List().set(kTcp, "00501f90"),
         "tp_src=0050/ffff, tp_dst=1f90/ffff"},
        {"UDP", ipv4("11"), List().set_masked(kUdp, "00501f90/0000ffff"),
         "tp_dst=1f90/ffff"},
        {"UDP over IPv6 in a VLAN", ipv6("11").in_vlan("1005/1fff"),
         List().set_masked(kUdp, "00501f90/fff00000"), "tp_src=0050/fff0"},
        {"the port that is matched",
         ipv4("06").match(kTcp, "00500000/ffff0000"),
         List().set(kTcp, "00501f90"), "tp_dst=1f90/ffff"},
        {"TCP of any IPv4", ipv4(), List().set(kTcp, "00501f90"),
         "set/tcp_src"},
        {"TCP of UDP", ipv4("11"),
         List().set_masked(kTcp, "00501f90/0000ffff"), "set/tcp_dst"},
        {"UDP of TCP", ipv6("06"), List().set(kUdp, "00501f90"),
         "set/udp_src"},
        {"UDP of any IPv6", ipv6(),
         List().set_masked(kUdp, "00501f90/00000001"), "set/udp_dst"},
        {"TCP of TCP or UDP",
         ipv4().match(kIpv4, &ovs_key_ipv4::ipv4_proto, "06/e8"),
         List().set(kTcp, "00501f90"), "set/tcp_src"},
        {"TCP of LLDP", l2(), List().set(kTcp, "00501f90"), "set/tcp_src"},
        {"TCP of a first fragment", ipv4("06").match(kIpv4, frag, "01/ff"),
         List().set_masked(kTcp, "00501f90/ffff0000"), "tp_src=0050/ffff"},
        {"TCP of a later fragment", ipv4("06").match(kIpv4, frag, "02/ff"),
         List().set_masked(kTcp, "00501f90/ffff0000"), "set/tcp_src"},
        {"SCTP", ipv4("84"),
         List().set_masked(OVS_KEY_ATTR_SCTP, "00501f90/ffff0000"),
         "tp_src=0050/ffff"},
        {"SCTP of TCP", ipv4("06"),
         List().set_masked(OVS_KEY_ATTR_SCTP, "00501f90/ffff0000"),
         "set/sctp_src"},
    };
    check(rows);
}

TEST(DecodeSet, Icmp) {
    const SetRow rows[] = {
        {"type and code", ipv4("01"), List().set(kIcmp, "0301"),
         "tp_src=0003/00ff, tp_dst=0001/00ff"},
        {"type", ipv4("01"), List().set_masked(kIcmp, "0800/ff00"),
         "tp_src=0008/00ff"},
        {"code", ipv4("01"), List().set_masked(kIcmp, "0807/000f"),
         "tp_dst=0007/000f"},
        {"what is matched", ipv4("01").match(kIcmp, "0800/ff00"),
         List().set(kIcmp, "0801"), "tp_dst=0001/00ff"},
        {"ICMPv6", ipv6("3a"), List().set(kIcmpv6, "8101"),
         "tp_src=0081/00ff, tp_dst=0001/00ff"},

        {"of any protocol", ipv4(), List().set(kIcmp, "0301"),
         "set/icmp_type"},
        {"of TCP", ipv4("06"), List().set_masked(kIcmp, "0301/00ff"),
         "set/icmp_code"},
        {"of a later fragment",
         ipv4("01").match(kIpv4, &ovs_key_ipv4::ipv4_frag, "02/ff"),
         List().set(kIcmp, "0301"), "set/icmp_type"},
        {"ICMPv6 of ICMP", ipv4("01"), List().set(kIcmpv6, "8101"),
         "set/icmpv6_type"},
        {"ICMP of ICMPv6", ipv6("3a"), List().set(kIcmp, "0301"),
         "set/icmp_type"},
        {"ICMPv6 over IPv4", ipv4("3a"),
         List().set_masked(kIcmpv6, "8101/00ff"), "set/icmpv6_code"},
    };
    check(rows);
}

TEST(DecodeSet, Arp) {
    const SetRow rows[] = {
        {"a reply of a request",
         arp().match(kArp, &ovs_key_arp::arp_op, "0001/ffff"),
         List().set(kArp,
                    "0a000001"
                    "0a000002"
                    "0002"
                    "020000000001"
                    "020000000002"
                    "0000"),
         "set/arp"},
        {"opcode", arp(),
         List().set_masked(kArp, &ovs_key_arp::arp_op, "0002/ffff"),
         "nw_proto=02/ff"},
        {"opcode, of a request",
         arp().match(kArp, &ovs_key_arp::arp_op, "0001/ffff"),
         List().set_masked(kArp, &ovs_key_arp::arp_op, "0002/ffff"),
         "nw_proto=02/03"},
        {"low byte of the opcode", arp(),
         List().set_masked(kArp, &ovs_key_arp::arp_op, "0002/00ff"),
         "nw_proto=02/ff"},
        {"high byte of the opcode: is zero", arp(),
         List().set_masked(kArp, &ovs_key_arp::arp_op, "0002/ff00"), ""},
        {"addresses", arp(),
         List()
             .set_masked(kArp, &ovs_key_arp::arp_sip, "0a000001/ffffffff")
             .set_masked(kArp, &ovs_key_arp::arp_tip, "0a000002/ffffff00")
             .set_masked(kArp, &ovs_key_arp::arp_sha,
                         "020000000001/ffffffffffff")
             .set_masked(kArp, &ovs_key_arp::arp_tha,
                         "020000000002/00000000ffff"),
         "ipv4_src=0a000001/ffffffff, ipv4_dst=0a000000/ffffff00, "
         "arp_sha=020000000001/ffffffffffff, "
         "arp_tha=000000000002/00000000ffff"},

        {"opcode above 255", arp(),
         List().set_masked(kArp, &ovs_key_arp::arp_op, "0101/ffff"),
         "set/arp_op"},
        {"opcode of RARP", on_port1("8035"),
         List().set_masked(kArp, &ovs_key_arp::arp_op, "0002/00ff"),
         "set/arp_op"},
        {"high byte of it", on_port1("8035"),
         List().set_masked(kArp, &ovs_key_arp::arp_op, "0002/ff00"),
         "set/arp_op"},
        {"addresses of IPv4", ipv4(),
         List().set_masked(kArp, &ovs_key_arp::arp_sip, "0a000001/ffffffff"),
         "set/arp_spa"},
    };
    check(rows);
}

TEST(DecodeSet, Nd) {
    const auto target = &ovs_key_nd::nd_target;
    const auto sll = &ovs_key_nd::nd_sll, tll = &ovs_key_nd::nd_tll;
    const std::string a = "fe800000000000000000000000000001", ones(32, 'f');
    const char *mac = "020000000001", *all = "ffffffffffff";
    const std::string whole_mac = std::string(mac) + "/" + all;
    const auto icmpv6 = [](const char *type_and_code) {
        return ipv6("3a").match(kIcmpv6, type_and_code);
    };
    const SetRow rows[] = {
        {"all", icmpv6("8700/ffff"), List().set(kNd, a + mac + mac),
         "nd_target=" + a + "/" + ones + ", nd_sll=" + whole_mac
             + ", nd_tll=" + whole_mac},
        {"target", icmpv6("8800/ffff"),
         List().set_masked(kNd, target, a + "/" + ones),
         "nd_target=" + a + "/" + ones},
        {"source link-layer address", icmpv6("8700/ffff"),
         List().set_masked(kNd, sll, whole_mac), "nd_sll=" + whole_mac},
        {"target link-layer address", icmpv6("8800/ffff"),
         List().set_masked(kNd, tll, "020000000001/0000000000ff"),
         "nd_tll=000000000001/0000000000ff"},
        {"what is matched", icmpv6("8700/ffff").match(kNd, sll, whole_mac),
         List().set_masked(kNd, sll, whole_mac), ""},

        {"of another message", icmpv6("8500/ffff"),
         List().set_masked(kNd, target, a + "/" + ones), "set/nd_target"},
        {"of any message", ipv6("3a"), List().set_masked(kNd, sll, whole_mac),
         "set/nd_sll"},
        {"of any code", icmpv6("8700/ff00"),
         List().set_masked(kNd, tll, whole_mac), "set/nd_tll"},
        {"of what becomes one", icmpv6("8000/ffff"),
         List().set(kIcmpv6, "8700").set_masked(kNd, sll, whole_mac),
         "set/nd_sll"},
        {"of IPv4", ipv4("3a"), List().set_masked(kNd, sll, whole_mac),
         "set/nd_sll"},
    };
    check(rows);
}

// OVS 3.1 corrects the checksum of a later fragment, which is its payload, as
// if it were the first.
TEST(DecodeSet, LaterFragments) {
    const auto frag = &ovs_key_ipv4::ipv4_frag;
    const auto src = &ovs_key_ipv4::ipv4_src, dst = &ovs_key_ipv4::ipv4_dst;
    const auto set_ttl =
        List().set_masked(kIpv4, &ovs_key_ipv4::ipv4_ttl, "3f/ff");
    const auto set_src = List().set_masked(kIpv4, src, "0a000001/ffffffff");
    const auto set_dst = List().set_masked(kIpv4, dst, "0a000001/00000001");
    const auto fragment = [&](const char *match) {
        return ipv4("06").match(kIpv4, frag, match);
    };
    const SetRow rows[] = {
        {"source of none", fragment("00/ff"), set_src,
         "ipv4_src=0a000001/ffffffff"},
        {"of a first one", fragment("01/ff"), set_src,
         "ipv4_src=0a000001/ffffffff"},
        {"of all but later ones", fragment("02/00"), set_src,
         "ipv4_src=0a000001/ffffffff"},
        {"of a later one", fragment("02/ff"), set_src, "set/later_fragment"},
        {"destination of a later one", fragment("02/ff"), set_dst,
         "set/later_fragment"},
        {"no address of a later one", fragment("02/ff"), set_ttl,
         "nw_ttl=3f/ff"},
        {"all of a later one", fragment("02/ff"),
         List().set(kIpv4, "0a0000010a00000206b83f02"), "set/later_fragment"},
        {"IPv6 addresses of a later one",
         ipv6("2c").match(kIpv6, &ovs_key_ipv6::ipv6_frag, "02/ff"),
         List().set_masked(kIpv6, &ovs_key_ipv6::ipv6_src,
                           std::string(32, '1') + "/" + std::string(32, 'f')),
         "ipv6_src=" + std::string(32, '1') + "/" + std::string(32, 'f')},
    };
    check(rows);
}

// A recirculated packet is parsed again by OVS.  What is set must not be what
// decides which fields there are.
TEST(DecodeSet, BeforeRecirculation) {
    const struct {
        const char *what;
        Flow flow;
        List list;
        const char *expected;
    } rows[] = {
        {"TTL", ipv4(),
         List().set_masked(kIpv4, &ovs_key_ipv4::ipv4_ttl, "3f/ff").recirc(5),
         "nw_ttl=3f/ff, recirc 5"},
        {"ports", ipv4("06"),
         List().set_masked(kTcp, "00501f90/ffff0000").hash(1, 2).recirc(5),
         "tp_src=0050/ffff, hash 2, recirc 5"},
        {"ICMP type", ipv4("01"), List().set(kIcmp, "0300").recirc(5),
         "tp_src=0003/00ff, tp_dst=0000/00ff, recirc 5"},
        {"ICMPv6 type", ipv6("3a").match(kIcmpv6, "8000/ffff"),
         List().set(kIcmpv6, "8700").recirc(5), "set/icmpv6_type"},
        {"ICMPv6 code", ipv6("3a").match(kIcmpv6, "8701/ffff"),
         List().set_masked(kIcmpv6, "8700/00ff").hash(1, 0).recirc(5),
         "set/icmpv6_type"},
        {"no ICMPv6 type", ipv6("3a"),
         List().set_masked(kIcmpv6, "8700/0000").recirc(5), "recirc 5"},
    };
    for (const auto &row : rows) {
        Match match;
        ASSERT_FALSE(decode_match(Flow::encode(row.flow.key).bytes(),
                                  Flow::encode(row.flow.mask).bytes(),
                                  &match));
        EXPECT_EQ(describe(row.list.bytes(), match), row.expected) << row.what;
    }
}

TEST(DecodeSet, Combined) {
    const auto ttl = &ovs_key_ipv4::ipv4_ttl;
    const auto dst = &ovs_key_ipv4::ipv4_dst;
    const SetRow rows[] = {
        {"several attributes", ipv4("06"),
         List()
             .set(kEth, kMacs)
             .set_masked(kIpv4, ttl, "3f/ff")
             .set_masked(kTcp, "00501f90/0000ffff"),
         "eth_dst=0200bb000002/ffffffffffff, "
         "eth_src=02aa00000001/ffffffffffff, nw_ttl=3f/ff, tp_dst=1f90/ffff"},
        {"the later one wins", ipv4(),
         List()
             .set_masked(kIpv4, dst, "0a000001/ffffffff")
             .set_masked(kIpv4, dst, "00000022/000000ff"),
         "ipv4_dst=0a000022/ffffffff"},
        {"back to what it was", ipv4().match(kIpv4, ttl, "40/ff"),
         List()
             .set_masked(kIpv4, ttl, "3f/ff")
             .set_masked(kIpv4, ttl, "40/ff"),
         ""},
        {"one of them is refused", ipv4(),
         List().set(kEth, kMacs).set(kTcp, "00501f90"), "set/tcp_src"},
    };
    check(rows);
}

// What nobody sees is not written; a set behind the output is refused.
TEST(DecodeSet, OutputDecides) {
    EXPECT_EQ(describe(List().set(kEth, kMacs).bytes(), 0u), "drop");
    EXPECT_EQ(describe(List().set(kTcp, "00501f90").bytes(), 0u),
              "set/tcp_src");
    EXPECT_EQ(describe(List().output(2).set(kEth, kMacs).bytes(), 0u),
              "action/after_output");
}

// Each byte of each attribute, in flows of each kind: it is set, or refused by
// its name.  What the kinds below have in common cannot be set in any of them.
TEST(DecodeSet, EachByteOrItsName) {
    const struct {
        Flow flow;
        std::map<uint16_t, std::vector<std::pair<size_t, size_t>>>
            settable;  // By attribute: from, to.
    } kinds[] = {
        {l2(), {}},
        {on_port1("8847"), {}},
        {arp(), {{kArp, {{0, 8}, {9, 22}}}}},
        {ipv4(), {{kIpv4, {{0, 8}, {9, 11}}}}},
        {ipv4("01"), {{kIpv4, {{0, 8}, {9, 11}}}, {kIcmp, {{0, 2}}}}},
        {ipv4("06"), {{kIpv4, {{0, 8}, {9, 11}}}, {kTcp, {{0, 4}}}}},
        {ipv4("84"),
         {{kIpv4, {{0, 8}, {9, 11}}}, {OVS_KEY_ATTR_SCTP, {{0, 4}}}}},
        {ipv6("11"), {{kIpv6, {{0, 36}, {37, 39}}}, {kUdp, {{0, 4}}}}},
        {ipv6("3a"), {{kIpv6, {{0, 36}, {37, 39}}}, {kIcmpv6, {{0, 2}}}}},
        {ipv6("3a").match(kIcmpv6, "8800/ffff"),
         {{kIpv6, {{0, 36}, {37, 39}}},
          {kIcmpv6, {{0, 2}}},
          {kNd, {{0, 28}}}}},
    };
    const std::map<uint16_t, size_t> sizes = {
        {OVS_KEY_ATTR_UNSPEC, 4},
        {OVS_KEY_ATTR_ENCAP, 4},
        {OVS_KEY_ATTR_PRIORITY, 4},
        {OVS_KEY_ATTR_IN_PORT, 4},
        {kEth, 12},
        {OVS_KEY_ATTR_VLAN, 2},
        {OVS_KEY_ATTR_ETHERTYPE, 2},
        {kIpv4, 12},
        {kIpv6, 40},
        {kTcp, 4},
        {kUdp, 4},
        {kIcmp, 2},
        {kIcmpv6, 2},
        {kArp, 24},
        {kNd, 28},
        {OVS_KEY_ATTR_SKB_MARK, 4},
        {OVS_KEY_ATTR_TUNNEL, 12},
        {OVS_KEY_ATTR_SCTP, 4},
        {OVS_KEY_ATTR_TCP_FLAGS, 2},
        {OVS_KEY_ATTR_DP_HASH, 4},
        {OVS_KEY_ATTR_RECIRC_ID, 4},
        {OVS_KEY_ATTR_MPLS, 8},
        {OVS_KEY_ATTR_CT_MARK, 4},
        {OVS_KEY_ATTR_CT_LABELS, 16},
        {OVS_KEY_ATTR_NSH, 24},
        {OVS_KEY_ATTR_PACKET_TYPE, 4},
        {OVS_KEY_ATTR_ND_EXTENSIONS, 5},
        {4000, 1},
    };
    for (const auto &kind : kinds) {
        for (const auto &[attr, size] : sizes) {
            const auto it = kind.settable.find(attr);
            for (size_t i = 0; i < size; i++) {
                bool settable = attr == kEth;
                for (const auto &[from, to] : it == kind.settable.end()
                                                  ? decltype(it->second){}
                                                  : it->second) {
                    settable |= from <= i && i < to;
                }
                const std::string zeros(2 * size, '0');
                std::string bit = zeros;
                bit[2 * i + 1] = '1';
                const std::string got = describe_set(
                    kind.flow, List().set_masked(attr, bit + "/" + bit));
                const auto refused = "set/" + field_name(attr, i);
                if (settable && attr == kIpv6 && i == 32) {
                    EXPECT_EQ(got, "malformed/set") << "bit 24 of a label";
                } else if (settable) {
                    EXPECT_EQ(got.find("set/"), got.npos) << got;
                    EXPECT_NE(got, "") << refused;
                } else {
                    EXPECT_EQ(got, refused) << "byte " << i;
                }
                EXPECT_EQ(
                    describe_set(kind.flow,
                                 List().set_masked(attr, bit + "/" + zeros)),
                    "")
                    << refused;
            }
        }
    }
}

TEST(DecodeSet, Malformed) {
    const auto sizes = std::map<uint16_t, size_t>{
        {kEth, 12}, {kIpv4, 12}, {kIpv6, 40}, {kTcp, 4}, {kUdp, 4}};
    for (auto [attr, size] : sizes) {
        for (size_t n = 0; n <= 2 * size + 4; n++) {
            const std::string zeros(2 * n, '0');
            const std::string set =
                describe_set(l2(), List().set(attr, zeros));
            EXPECT_EQ(set == "malformed/set", n != size) << set << n;
            const std::string masked =
                describe_set(l2(), List().set_masked(attr, zeros + "/"));
            EXPECT_EQ(masked, n == 2 * size ? "" : "malformed/set") << n;
        }
    }
    for (uint16_t type : {OVS_ACTION_ATTR_SET, OVS_ACTION_ATTR_SET_MASKED}) {
        const struct {
            const char *what, *payload;
        } rows[] = {
            {"nothing", ""},
            {"half a header", "0800"},
            {"an empty attribute", "04000400"},
            {"a longer attribute than there is",
             "10000400"
             "00000000"},
            {"a shorter header than there is",
             "03000400"
             "00000000"},
            {"two attributes",
             "080003000000000008000300"
             "00000000"},
            {"an attribute and a half",
             "0800030000000000"
             "0800"},
        };
        for (auto &row : rows) {
            EXPECT_EQ(describe_set(ipv4(), List().other(type, row.payload)),
                      "malformed/set")
                << row.what;
        }
    }
    EXPECT_EQ(
        describe_set(l2(), List().set_masked(OVS_KEY_ATTR_MPLS, "0000/00")),
        "malformed/set")
        << "a value and half a mask";
}

// Random changes to a good list: no crash, and nothing but what can be
// written.
TEST(DecodeSet, Garbage) {
    std::mt19937 random(2);
    Match match;
    const auto flow = ipv4("06");
    const auto key = Flow::encode(flow.key), mask = Flow::encode(flow.mask);
    ASSERT_FALSE(decode_match(key.bytes(), mask.bytes(), &match));
    const List list = List()
                          .set(kEth, kMacs)
                          .set(kIpv4, "0a0000010a00000211b83f01")
                          .set_masked(kTcp, "00501f90/0000ffff")
                          .output(2);
    for (int i = 0; i < 100'000; i++) {
        ByteVector bytes(list.bytes().begin(), list.bytes().end());
        for (unsigned n = 1 + random() % 3; n; n--) {
            bytes[random() % bytes.size()] = std::byte(random());
        }
        const std::string s = describe(bytes, match);
        ASSERT_EQ(s.find('?'), s.npos) << s << ": " << to_hex(bytes);
        if (HasFailure()) {
            FAIL() << to_hex(bytes);
        }
    }
}

// Connections
// -----------

struct CtRow {
    const char *what;
    Flow flow;
    List list;
    std::string expected;
};

void check(std::span<const CtRow> rows) {
    for (const CtRow &row : rows) {
        Match match;
        ASSERT_FALSE(decode_match(Flow::encode(row.flow.key).bytes(),
                                  Flow::encode(row.flow.mask).bytes(), &match))
            << row.what;
        EXPECT_EQ(describe(row.list.bytes(), match), row.expected) << row.what;
    }
}

// Of packets that ct() may have seen.
Flow again(Flow f) {
    return f.match(OVS_KEY_ATTR_RECIRC_ID, "04000000/ffffffff");
}

TEST(DecodeCt, Attributes) {
    const std::string label = "01000000000000000000000000000080";
    const std::string ones(32, 'f');
    const auto is = [](const Ct &ct, const std::string &expected) {
        return CtRow{"", ipv4("06"), List().ct(ct).recirc(5),
                     expected + ", recirc 5"};
    };
    const CtRow rows[] = {
        is(Ct(7), "ct(zone 7)"),
        is(Ct(65535), "ct(zone 65535)"),
        is(Ct(7).commit(), "ct(zone 7 commit)"),
        is(Ct(7).nat(), "ct(zone 7 nat)"),
        is(Ct(7).mark(0x15, 0xff), "ct(zone 7 mark 15/ff)"),
        is(Ct(7).mark(0, 0), "ct(zone 7 mark 0/0)"),
        is(Ct(7).labels(label + ones),
           "ct(zone 7 label " + label + "/" + ones + ")"),
        is(Ct(7).commit().nat().mark(1, 1).labels(label + label),
           "ct(zone 7 commit nat mark 1/1 label " + label + "/" + label + ")"),
        // A range, a policy and events are for new connections.
        is(Ct(7).commit().nat("04000100080002000a000001"),
           "ct(zone 7 commit nat)"),
        is(Ct(7).commit().other(OVS_CT_ATTR_TIMEOUT, "706f6c00"),
           "ct(zone 7 commit)"),
        is(Ct(7).commit().other(OVS_CT_ATTR_EVENTMASK, "ffffffff"),
           "ct(zone 7 commit)"),
        {"no attribute: zone 0", ipv6("11"), List().ct(AttrList()).output(2),
         "ct(zone 0), output 2"},
        {"any protocol", ipv4(), List().ct(Ct(7)).output(2),
         "ct(zone 7), output 2"},
        {"before a hash", ipv4(), List().ct(Ct(7)).hash(1, 2).recirc(5),
         "ct(zone 7), hash 2, recirc 5"},
        {"of what is cut", ipv4(), List().ct(Ct(7)).trunc(99).output(2),
         "ct(zone 7), cut 99, output 2"},
        {"a tag", ipv4().in_vlan("1005/1fff"),
         List().pop().ct(Ct(7)).output(2), "ct(zone 7), pop, output 2"},
        {"its connection sees what is dropped", ipv4(), List().ct(Ct(7)),
         "ct(zone 7), drop"},
        {"... and nothing else of it", ipv4().in_vlan("1005/1fff"),
         List().pop().push(0x8100, 0x1006).ct(Ct(7)).hash(1, 2),
         "ct(zone 7), drop"},
        {"... nor that it would be cut", ipv4(), List().ct(Ct(7)).trunc(99),
         "ct(zone 7), drop"},
    };
    check(rows);
}

TEST(DecodeCt, Refused) {
    const std::string ones(32, 'f'), zeros(32, '0');
    const auto is = [](const AttrList &ct, const char *expected) {
        return CtRow{expected, ipv4("06"), List().ct(ct).recirc(5), expected};
    };
    const CtRow rows[] = {
        is(Ct(7).commit().other(OVS_CT_ATTR_HELPER, "66747000"),
           "action/ct_alg"),
        is(Ct(7).other(OVS_CT_ATTR_FORCE_COMMIT), "action/ct_force"),
        is(Ct(7).other(OVS_CT_ATTR_UNSPEC), "action/ct"),
        is(Ct(7).other(OVS_CT_ATTR_TIMEOUT + 1), "action/ct"),

        is(AttrList().put_hex(OVS_CT_ATTR_ZONE, ""), "malformed/ct"),
        is(AttrList().put_hex(OVS_CT_ATTR_ZONE, "07000000"), "malformed/ct"),
        is(Ct(7).other(OVS_CT_ATTR_MARK, "01000000"), "malformed/ct"),
        is(Ct(7).other(OVS_CT_ATTR_MARK, "01000000ffffffff00"),
           "malformed/ct"),
        is(Ct(7).mark(3, 1), "malformed/ct"),
        is(Ct(7).labels(ones), "malformed/ct"),
        is(Ct(7).labels(ones + ones + "00"), "malformed/ct"),
        is(Ct(7).labels("01" + zeros.substr(2) + "02" + zeros.substr(2)),
           "malformed/ct"),
        is(Ct(7).labels(zeros.substr(2) + "80" + zeros.substr(2) + "7f"),
           "malformed/ct"),
        is(AttrList().put_raw(9, OVS_CT_ATTR_ZONE, {}), "malformed/ct"),
        is(AttrList().put_raw(3, OVS_CT_ATTR_COMMIT, {}), "malformed/ct"),
        {"half a header", ipv4(), List().other(OVS_ACTION_ATTR_CT, "0400"),
         "malformed/ct"},

        {"of ARP", arp(), List().ct(Ct(7)).recirc(5), "action/ct"},
        {"of L2", l2(), List().ct(Ct(7)).recirc(5), "action/ct"},
        {"of MPLS", on_port1("8847"), List().ct(Ct(7)).recirc(5), "action/ct"},
        {"after the output", ipv4(), List().output(2).ct(Ct(7)),
         "action/after_output"},
        {"after recirc", ipv4(), List().recirc(5).ct(Ct(7)),
         "action/after_output"},
        {"after hash", ipv4(), List().hash(1, 2).ct(Ct(7)).recirc(5),
         "action/hash"},
        {"after trunc", ipv4(), List().trunc(99).ct(Ct(7)).output(2),
         "action/trunc"},
        {"four", ipv4(),
         List().ct(Ct(1)).ct(Ct(2)).ct(Ct(3)).ct(Ct(4)).recirc(5),
         "action/too_many_ct"},
        {"three and a clear", ipv4(),
         List().ct(Ct(1)).ct(Ct(2)).ct(Ct(3)).ct_clear().recirc(5),
         "action/too_many_ct"},
    };
    check(rows);
}

TEST(DecodeCt, Clear) {
    const CtRow rows[] = {
        {"nothing to clear", ipv4(), List().ct_clear().recirc(5), "recirc 5"},
        {"... nor to track again", ipv4(),
         List().ct_clear().ct(Ct(7)).recirc(5), "ct(zone 7), recirc 5"},
        {"... nor in ARP", arp(), List().ct_clear().output(2), "output 2"},
        {"what was found before", again(ipv4()), List().ct_clear().recirc(5),
         "ct_clear, recirc 5"},
        {"twice is once", again(ipv4()),
         List().ct_clear().ct_clear().ct_clear().recirc(5),
         "ct_clear, recirc 5"},
        {"one step with the ct() that follows", again(ipv6()),
         List().ct_clear().ct_clear().ct(Ct(7).nat()).recirc(5),
         "ct(clear zone 7 nat), recirc 5"},
        {"between two", ipv4(),
         List().ct(Ct(7)).ct_clear().ct(Ct(8)).recirc(5),
         "ct(zone 7), ct(clear zone 8), recirc 5"},
        {"as many as there are places", again(ipv4()),
         List()
             .ct_clear()
             .ct(Ct(1))
             .ct_clear()
             .ct(Ct(2))
             .ct_clear()
             .ct(Ct(3))
             .recirc(5),
         "ct(clear zone 1), ct(clear zone 2), ct(clear zone 3), recirc 5"},
        {"then two", ipv4(), List().ct(Ct(1)).ct(Ct(2)).ct_clear().recirc(5),
         "ct(zone 1), ct(zone 2), ct_clear, recirc 5"},
        {"nobody sees it in an output", again(ipv4()),
         List().ct_clear().output(2), "output 2"},
        {"... behind a ct()", ipv4(), List().ct(Ct(7)).ct_clear().output(2),
         "ct(zone 7), output 2"},
        {"nor in what is dropped", again(ipv4()), List().ct_clear(), "drop"},
        {"after the output", again(ipv4()), List().output(2).ct_clear(),
         "action/after_output"},
        {"of recirculated ARP", again(arp()), List().ct_clear().recirc(5),
         "action/ct"},
    };
    check(rows);
}

// By what ct() finds a connection is set before, after, or between two.
TEST(DecodeCt, AmongSets) {
    const auto src = &ovs_key_ipv4::ipv4_src, dst = &ovs_key_ipv4::ipv4_dst;
    const auto ttl = &ovs_key_ipv4::ipv4_ttl;
    const char *kSrc = "0a000001/ffffffff", *kDst = "0a000002/ffffffff";
    const CtRow rows[] = {
        {"before", ipv4("06"),
         List().set_masked(kIpv4, src, kSrc).ct(Ct(7)).recirc(5),
         "ipv4_src=0a000001/ffffffff, ct(zone 7), recirc 5"},
        {"after", ipv4("06"),
         List().ct(Ct(7)).set_masked(kIpv4, src, kSrc).recirc(5),
         "ct(zone 7), ipv4_src=0a000001/ffffffff, recirc 5"},
        {"between two", ipv4("06"),
         List()
             .ct(Ct(27).commit().nat())
             .set(kEth, kMacs)
             .set_masked(kIpv4, dst, kDst)
             .ct(Ct(20).nat())
             .recirc(5),
         "ct(zone 27 commit nat), "
         "eth_dst=0200bb000002/ffffffffffff, "
         "eth_src=02aa00000001/ffffffffffff, "
         "ipv4_dst=0a000002/ffffffff, ct(zone 20 nat), recirc 5"},
        {"two of them in one place", ipv4("06"),
         List()
             .ct(Ct(7))
             .set_masked(kIpv4, src, kSrc)
             .set_masked(kTcp, "00501f90/0000ffff")
             .ct(Ct(8))
             .recirc(5),
         "ct(zone 7), tp_dst=1f90/ffff, ipv4_src=0a000001/ffffffff, "
         "ct(zone 8), recirc 5"},
        {"in two places", ipv4("06"),
         List()
             .set_masked(kIpv4, src, kSrc)
             .ct(Ct(7))
             .set_masked(kIpv4, dst, kDst)
             .recirc(5),
         "action/set_after_ct"},
        {"... also if it is the same", ipv4("06"),
         List()
             .set_masked(kTcp, "00501f90/0000ffff")
             .ct(Ct(7))
             .set_masked(kTcp, "00501f90/0000ffff")
             .recirc(5),
         "action/set_after_ct"},
        {"... an ICMP type", ipv4("01"),
         List()
             .set_masked(kIcmp, "0800/ff00")
             .ct(Ct(7))
             .set_masked(kIcmp, "0000/ff00")
             .recirc(5),
         "action/set_after_ct"},
        {"... an IPv6 address", ipv6("06"),
         List()
             .set_masked(kTcp, "00501f90/0000ffff")
             .ct(Ct(7))
             .set_masked(kIpv6, &ovs_key_ipv6::ipv6_dst,
                         std::string(32, '1') + "/" + std::string(32, 'f'))
             .recirc(5),
         "action/set_after_ct"},
        {"what does not find it may be anywhere", ipv4("06"),
         List()
             .set_masked(kIpv4, src, kSrc)
             .ct(Ct(7))
             .set_masked(kIpv4, ttl, "3f/ff")
             .ct(Ct(8))
             .set(kEth, kMacs)
             .recirc(5),
         "eth_dst=0200bb000002/ffffffffffff, "
         "eth_src=02aa00000001/ffffffffffff, nw_ttl=3f/ff, "
         "ipv4_src=0a000001/ffffffff, ct(zone 7), ct(zone 8), recirc 5"},

        // A ct_clear asks for nothing that is set.
        {"between a clear and its ct()", again(ipv4("06")),
         List()
             .ct_clear()
             .set_masked(kIpv4, src, kSrc)
             .ct(Ct(7).nat())
             .recirc(5),
         "ipv4_src=0a000001/ffffffff, ct(clear zone 7 nat), recirc 5"},
        {"before a clear and behind", again(ipv4("06")),
         List()
             .set_masked(kIpv4, src, kSrc)
             .ct_clear()
             .set_masked(kIpv4, dst, kDst)
             .ct(Ct(7))
             .recirc(5),
         "ipv4_src=0a000001/ffffffff, ipv4_dst=0a000002/ffffffff, "
         "ct(clear zone 7), recirc 5"},
        {"behind a ct() and a clear", ipv4("06"),
         List().ct(Ct(7)).ct_clear().set_masked(kIpv4, src, kSrc).recirc(5),
         "ct(zone 7), ipv4_src=0a000001/ffffffff, ct_clear, recirc 5"},
        {"... that nobody sees", ipv4("06"),
         List().ct(Ct(7)).ct_clear().set_masked(kIpv4, src, kSrc).output(2),
         "ct(zone 7), ipv4_src=0a000001/ffffffff, output 2"},
        {"behind a clear that nobody sees", again(ipv4("06")),
         List().ct_clear().set_masked(kIpv4, src, kSrc).output(2),
         "ipv4_src=0a000001/ffffffff, output 2"},
    };
    check(rows);
}

// A translation may have changed what was matched.
TEST(DecodeCt, NatAndWhatIsRight) {
    const auto src = &ovs_key_ipv4::ipv4_src;
    const auto ttl = &ovs_key_ipv4::ipv4_ttl;
    const auto flow = [&] {
        return ipv4("06")
            .match(kEth, &ovs_key_ethernet::eth_dst,
                   "0200bb000002/ffffffffffff")
            .match(kIpv4, src, "0a000001/ffffffff")
            .match(kIpv4, ttl, "40/ff")
            .match(kTcp, "00501f90/ffffffff");
    };
    const auto set_all = [&](List list) {
        return list
            .set_masked(kEth, &ovs_key_ethernet::eth_dst,
                        "0200bb000002/ffffffffffff")
            .set_masked(kIpv4, src, "0a000001/ffffffff")
            .set_masked(kTcp, "00501f90/0000ffff")
            .recirc(5);
    };
    const std::string v6 = std::string(32, '1') + "/" + std::string(32, 'f');
    const CtRow rows[] = {
        {"right without", flow(), set_all(List().ct(Ct(7))),
         "ct(zone 7), recirc 5"},
        {"not with a translation", flow(), set_all(List().ct(Ct(7).nat())),
         "ct(zone 7 nat), tp_dst=1f90/ffff, ipv4_src=0a000001/ffffffff, "
         "recirc 5"},
        {"... of the other ct()", flow(),
         set_all(List().ct(Ct(7).nat()).ct(Ct(8))),
         "ct(zone 7 nat), ct(zone 8), tp_dst=1f90/ffff, "
         "ipv4_src=0a000001/ffffffff, recirc 5"},
        {"long addresses", ipv6().match(kIpv6, &ovs_key_ipv6::ipv6_dst, v6),
         List()
             .ct(Ct(7).nat())
             .set_masked(kIpv6, &ovs_key_ipv6::ipv6_dst, v6)
             .recirc(5),
         "ct(zone 7 nat), ipv6_dst=" + v6 + ", recirc 5"},
        {"a set before is right as ever", flow(),
         List()
             .set_masked(kEth, &ovs_key_ethernet::eth_dst,
                         "0200bb000002/ffffffffffff")
             .ct(Ct(7).nat())
             .recirc(5),
         "ct(zone 7 nat), recirc 5"},
    };
    check(rows);
}

// A list that ends within a ct(), and random changes: no crash, and nothing
// but what the program can do.
TEST(DecodeCt, Garbage) {
    std::mt19937 random(3);
    const auto flow = again(ipv4("06"));
    const auto key = Flow::encode(flow.key), mask = Flow::encode(flow.mask);
    Match match;
    ASSERT_FALSE(decode_match(key.bytes(), mask.bytes(), &match));
    const List list = List()
                          .ct_clear()
                          .ct(Ct(7).commit().nat().mark(1, 1))
                          .set_masked(kTcp, "00501f90/0000ffff")
                          .ct(Ct(8).labels(std::string(64, 'f')))
                          .recirc(5);
    for (int i = 0; i < 100'000; i++) {
        ByteVector bytes(list.bytes().begin(), list.bytes().end());
        bytes.resize(random() % 4 ? bytes.size() : random() % bytes.size());
        for (unsigned n = 1 + random() % 3; n && !bytes.empty(); n--) {
            bytes[random() % bytes.size()] = std::byte(random());
        }
        const std::string s = describe(bytes, match);
        ASSERT_EQ(s.find('?'), s.npos) << s << ": " << to_hex(bytes);
        if (HasFailure()) {
            FAIL() << to_hex(bytes);
        }
    }
}

// A list that ends within an action is refused; one that ends between two is
// the shorter list.
TEST(DecodeActions, Truncated) {
    const List list = List().pop().push(0x8100, 0x1007).output(2);
    const std::map<size_t, const char *> whole = {
        {0, "drop"},
        {4, "drop"},
        {12, "drop"},
        {20, "pop, push 8100 0007, output 2"},
    };
    ASSERT_EQ(list.bytes().size(), 20u);
    for (size_t n = 0; n <= 20; n++) {
        const auto it = whole.find(n);
        EXPECT_EQ(describe(list.bytes().first(n), 1u),
                  it == whole.end() ? "malformed/action_length" : it->second)
            << n << " bytes";
    }
}

TEST(DecodeActions, BadLengthField) {
    for (unsigned len = 0; len <= 0xffff; len++) {
        AttrList list;
        list.put_raw(static_cast<uint16_t>(len), OVS_ACTION_ATTR_OUTPUT,
                     from_hex("02000000"));
        const char *expected = len < 4 || len > 8 ? "malformed/action_length"
                             : len < 8            ? "malformed/output"
                                                  : "output 2";
        ASSERT_EQ(describe(list.bytes(), 0u), expected) << "nla_len " << len;
    }
}

// Random changes to a good list: no crash, and nothing half decoded.
TEST(DecodeActions, Garbage) {
    std::mt19937 random(1);
    const List list = List().pop().push(0x8100, 0x1007).output(2);
    for (int i = 0; i < 100'000; i++) {
        ByteVector bytes(list.bytes().begin(), list.bytes().end());
        for (unsigned n = 1 + random() % 3; n; n--) {
            bytes[random() % bytes.size()] = std::byte(random());
        }
        const std::string s =
            describe(bytes, static_cast<unsigned>(random() % 3));
        ASSERT_EQ(s.find('?'), s.npos) << s << ": " << to_hex(bytes);
    }
}

}  // namespace
}  // namespace flowxlate::unit
