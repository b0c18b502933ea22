// SPDX-License-Identifier: Apache-2.0
// decode_actions(): action lists in, what the program does out.
#include "flowxlate/actions.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <random>

#include "tests/unit/attrs.h"

namespace flowxlate::unit {
namespace {

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
    List &other(uint16_t type, std::string_view payload = "") {
        put_hex(type, payload);
        return *this;
    }
};

// From a heap block of exactly the list's size, for ASan.
Reject decode(Bytes list, const Match &match, Actions *out) {
    const ByteVector copy(list.begin(), list.end());
    return decode_actions(copy, match, out);
}

// "nw_ttl=3f/ff, " for each field of which bits are set.
std::string describe(const xf_rewrite &rewrite) {
    const struct {
        const char *name;
        size_t offset, size;
    } fields[] = {
        {"eth_dst", offsetof(xf_key, eth_dst), 6},
        {"eth_src", offsetof(xf_key, eth_src), 6},
        {"tos", offsetof(xf_key, nw_tos), 1},
        {"ttl", offsetof(xf_key, nw_ttl), 1},
        {"tp_src", offsetof(xf_key, tp_src), 2},
        {"tp_dst", offsetof(xf_key, tp_dst), 2},
        {"addr0", offsetof(xf_key, ipv4_src), 4},
        {"addr1", offsetof(xf_key, ipv4_src) + 4, 4},
        {"addr2", offsetof(xf_key, ipv4_src) + 8, 4},
        {"addr3", offsetof(xf_key, ipv4_src) + 12, 4},
        {"addr4", offsetof(xf_key, ipv4_src) + 16, 4},
        {"addr5", offsetof(xf_key, ipv4_src) + 20, 4},
        {"addr6", offsetof(xf_key, ipv4_src) + 24, 4},
        {"addr7", offsetof(xf_key, ipv4_src) + 28, 4},
    };
    const Bytes value = bytes_of(rewrite.value), mask = bytes_of(rewrite.mask);
    const auto is_set = [](std::byte b) { return b != std::byte{0}; };
    std::string s;
    size_t n_bytes = 0;
    for (auto &f : fields) {
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
    EXPECT_EQ(std::count_if(mask.begin(), mask.end(), is_set),
              static_cast<long>(n_bytes));
    return s;
}

// "drop", "output 2", "pop, output 2", "push 8100 0005, output 2", "ttl=3f/ff,
// output 2", or the reason of the refusal.
std::string describe(Bytes list, const Match &match) {
    Actions a;
    // Whatever was there before must not shine through.
    std::memset(static_cast<void *>(&a), 0xee, sizeof a);
    if (auto r = decode(list, match, &a)) {
        const bool invalid = std::string_view(r.group) == "malformed";
        EXPECT_EQ(r.error, invalid ? EINVAL : EOPNOTSUPP) << r.name();
        return r.name();
    }
    char tag[32];
    std::snprintf(tag, sizeof tag, "%04x %04x", ntohs(a.vlan_tpid),
                  ntohs(a.vlan_tci));
    std::string s = describe(a.rewrite);
    switch (a.vlan_op) {
        case XF_VLAN_NONE:
            break;
        case XF_VLAN_POP:
            s += "pop, ";
            break;
        case XF_VLAN_PUSH:
            s += std::string("push ") + tag + ", ";
            break;
        case XF_VLAN_REPLACE:
            s += std::string("replace ") + tag + ", ";
            break;
        default:
            s += "vlan_op?, ";
    }
    switch (a.verdict) {
        case XF_DROP:
            return s + "drop";
        case XF_OUTPUT:
            return s + "output " + std::to_string(index(a.out_port));
        default:
            return s + "verdict?";
    }
}

std::string describe(Bytes list, bool tagged) {
    Match match;
    match.key.vlan_tci = tagged ? htons(XF_VLAN_PRESENT) : 0;
    return describe(list, match);
}

struct Row {
    const char *what;
    List list;
    const char *untagged;  // Expected for a flow of untagged packets ...
    const char *tagged;    // ... and of tagged ones.
};

TEST(DecodeActions, Table) {
    const Row rows[] = {
        {"no action drops", List(), "drop", "drop"},
        {"output", List().output(2), "output 2", "output 2"},
        {"highest port", List().output(0xffffffff), "output 4294967295",
         "output 4294967295"},

        {"pop", List().pop().output(2), "malformed/pop_vlan", "pop, output 2"},
        {"push 802.1Q", List().push(0x8100, 0x1005).output(2),
         "push 8100 0005, output 2", "action/second_vlan"},
        {"push 802.1ad", List().push(0x88a8, 0x1fff).output(2),
         "push 88a8 0fff, output 2", "action/second_vlan"},
        {"push keeps the priority", List().push(0x8100, 0xf005).output(2),
         "push 8100 e005, output 2", "action/second_vlan"},
        {"pop and push is replace",
         List().pop().push(0x8100, 0x1007).output(2), "malformed/pop_vlan",
         "replace 8100 0007, output 2"},
        {"push and pop is nothing",
         List().push(0x8100, 0x1007).pop().output(2), "output 2",
         "action/second_vlan"},
        {"the last push counts",
         List().push(0x8100, 0x1007).pop().push(0x88a8, 0x1008).output(2),
         "push 88a8 0008, output 2", "action/second_vlan"},
        {"pop, push, pop is pop",
         List().pop().push(0x8100, 0x1007).pop().output(2),
         "malformed/pop_vlan", "pop, output 2"},
        {"two tags", List().push(0x8100, 0x1007).push(0x8100, 0x1008),
         "action/second_vlan", "action/second_vlan"},
        {"two tags after pop",
         List().pop().push(0x8100, 0x1007).push(0x8100, 0x1008),
         "malformed/pop_vlan", "action/second_vlan"},
        {"second pop", List().pop().pop().output(2), "malformed/pop_vlan",
         "malformed/pop_vlan"},
        {"one pop too many", List().push(0x8100, 0x1007).pop().pop(),
         "malformed/pop_vlan", "action/second_vlan"},
        {"nobody sees a tag that is dropped", List().pop(),
         "malformed/pop_vlan", "drop"},
        {"nor one that was pushed", List().push(0x8100, 0x1007), "drop",
         "action/second_vlan"},

        {"two outputs", List().output(2).output(3), "action/second_output",
         "action/second_output"},
        {"the same output twice", List().output(2).output(2),
         "action/second_output", "action/second_output"},
        {"push after output", List().output(2).push(0x8100, 0x1007),
         "action/after_output", "action/after_output"},
        {"pop after output", List().output(2).pop(), "action/after_output",
         "action/after_output"},
        {"ct_clear after output",
         List().output(2).other(OVS_ACTION_ATTR_CT_CLEAR),
         "action/after_output", "action/after_output"},
        {"unknown after output", List().output(2).other(4000),
         "action/after_output", "action/after_output"},
        {"unsupported before output",
         List().other(OVS_ACTION_ATTR_METER, "01000000").output(2),
         "action/meter", "action/meter"},

        {"TPID of neither kind", List().push(0x9100, 0x1007).output(2),
         "malformed/push_vlan", "malformed/push_vlan"},
        {"TPID 0", List().push(0, 0x1007).output(2), "malformed/push_vlan",
         "malformed/push_vlan"},
        {"TPID in host order", List().push(0x0081, 0x1007).output(2),
         "malformed/push_vlan", "malformed/push_vlan"},

        {"output too short", List().other(OVS_ACTION_ATTR_OUTPUT, "020000"),
         "malformed/output", "malformed/output"},
        {"output too long", List().other(OVS_ACTION_ATTR_OUTPUT, "0200000000"),
         "malformed/output", "malformed/output"},
        {"output empty", List().other(OVS_ACTION_ATTR_OUTPUT),
         "malformed/output", "malformed/output"},
        {"push too short", List().other(OVS_ACTION_ATTR_PUSH_VLAN, "810010"),
         "malformed/push_vlan", "malformed/push_vlan"},
        {"push too long",
         List().other(OVS_ACTION_ATTR_PUSH_VLAN, "8100100700"),
         "malformed/push_vlan", "malformed/push_vlan"},
    };
    for (const Row &row : rows) {
        EXPECT_EQ(describe(row.list.bytes(), false), row.untagged) << row.what;
        EXPECT_EQ(describe(row.list.bytes(), true), row.tagged)
            << row.what << " (tagged)";
    }
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
        {OVS_ACTION_ATTR_RECIRC, "action/recirc"},
        {OVS_ACTION_ATTR_HASH, "action/hash"},
        {OVS_ACTION_ATTR_PUSH_MPLS, "action/push_mpls"},
        {OVS_ACTION_ATTR_POP_MPLS, "action/pop_mpls"},
        {OVS_ACTION_ATTR_CT, "action/ct"},
        {OVS_ACTION_ATTR_TRUNC, "action/trunc"},
        {OVS_ACTION_ATTR_PUSH_ETH, "action/push_eth"},
        {OVS_ACTION_ATTR_POP_ETH, "action/pop_eth"},
        {OVS_ACTION_ATTR_CT_CLEAR, "action/ct_clear"},
        {OVS_ACTION_ATTR_PUSH_NSH, "action/push_nsh"},
        {OVS_ACTION_ATTR_POP_NSH, "action/pop_nsh"},
        {OVS_ACTION_ATTR_METER, "action/meter"},
        {OVS_ACTION_ATTR_CLONE, "action/clone"},
        {OVS_ACTION_ATTR_CHECK_PKT_LEN, "action/check_pkt_len"},
        {OVS_ACTION_ATTR_ADD_MPLS, "action/add_mpls"},
        {OVS_ACTION_ATTR_DEC_TTL, "action/dec_ttl"},
        {OVS_OFFLOAD_ACTION_PRIVATE, "action/ovs_private"},
    };
    std::map<uint16_t, const char *> names;
    for (const auto &row : rows) {
        names[row.type] = row.name;
    }
    for (uint16_t type = 0; type <= kMaxAttrType; type++) {
        if (type == OVS_ACTION_ATTR_OUTPUT || type == OVS_ACTION_ATTR_PUSH_VLAN
            || type == OVS_ACTION_ATTR_POP_VLAN || type == OVS_ACTION_ATTR_SET
            || type == OVS_ACTION_ATTR_SET_MASKED) {
            continue;
        }
        const auto it = names.find(type);
        const std::string expected =
            it == names.end() ? "action/unknown_action" : it->second;
        for (const char *payload : {"", "00000000", "0102030405060708"}) {
            ASSERT_EQ(describe(List().other(type, payload).bytes(), true),
                      expected)
                << "type " << type;
        }
    }
}

TEST(DecodeActions, IgnoresAttributeFlags) {
    const uint32_t port = 2;
    AttrList list;
    list.put(OVS_ACTION_ATTR_OUTPUT | NLA_F_NET_BYTEORDER, port);
    EXPECT_EQ(describe(list.bytes(), false), "output 2");
}

// Set
// ---

constexpr auto kEth = OVS_KEY_ATTR_ETHERNET;
constexpr auto kIpv4 = OVS_KEY_ATTR_IPV4;
constexpr auto kIpv6 = OVS_KEY_ATTR_IPV6;
constexpr auto kTcp = OVS_KEY_ATTR_TCP;
constexpr auto kUdp = OVS_KEY_ATTR_UDP;

struct SetRow {
    const char *what;
    Flow flow;
    List list;             // Without the output.
    const char *expected;  // Without the output, or the refusal.
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

constexpr char kMacs[] = "02aa000000010200bb000002";  // Source, destination.
constexpr char kOnes[] = "ffffffffffffffffffffffff";

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
    const auto src6 = &ovs_key_ipv6::ipv6_src, dst6 = &ovs_key_ipv6::ipv6_dst;
    const std::string a6 = "20010db8000000010000000200000003", ones(32, 'f');
    const SetRow rows[] = {
        {"TTL", ipv4(), List().set_masked(kIpv4, ttl4, "3f/ff"), "ttl=3f/ff"},
        {"dec_ttl", ipv4().match(kIpv4, ttl4, "40/ff"),
         List().set_masked(kIpv4, ttl4, "3f/ff"), "ttl=3f/7f"},
        {"DSCP", ipv4(), List().set_masked(kIpv4, tos4, "b9/fc"), "tos=b8/fc"},
        {"source", ipv4(), List().set_masked(kIpv4, src4, "0a000001/ffffffff"),
         "addr0=0a000001/ffffffff"},
        {"destination", ipv4(),
         List().set_masked(kIpv4, dst4, "0a000001/ffffff00"),
         "addr1=0a000000/ffffff00"},
        // OVS has to name the protocol and the fragment type here.
        {"all of IPv4", ipv4(), List().set(kIpv4, "0a0000010a00000211b83f01"),
         "tos=b8/ff, ttl=3f/ff, addr0=0a000001/ffffffff, "
         "addr1=0a000002/ffffffff"},
        {"addresses that are matched",
         ipv4().match(kIpv4, src4, "0a000001/ffffffff"),
         List().set(kIpv4, "0a0000010a00000211b83f00"),
         "tos=b8/ff, ttl=3f/ff, addr1=0a000002/ffffffff"},
        {"hop limit", ipv6(), List().set_masked(kIpv6, ttl6, "3f/ff"),
         "ttl=3f/ff"},
        {"traffic class", ipv6(), List().set_masked(kIpv6, tos6, "b9/ff"),
         "tos=b9/ff"},
        {"IPv6 source", ipv6(),
         List().set_masked(kIpv6, src6, a6 + "/" + ones),
         "addr0=20010db8/ffffffff, addr1=00000001/ffffffff, "
         "addr2=00000002/ffffffff, addr3=00000003/ffffffff"},
        {"IPv6 destination", ipv6().in_vlan("1005/1fff"),
         List().set_masked(kIpv6, dst6, a6 + "/" + ones),
         "addr4=20010db8/ffffffff, addr5=00000001/ffffffff, "
         "addr6=00000002/ffffffff, addr7=00000003/ffffffff"},

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
        {"label", ipv6(),
         List().set_masked(kIpv6, &ovs_key_ipv6::ipv6_label,
                           "00000001/00000001"),
         "set/ipv6_label"},
        {"all of IPv6, with the label", ipv6(),
         List().set(kIpv6, std::string(80, '0')), "set/ipv6_label"},
    };
    check(rows);
}

TEST(DecodeSet, Ports) {
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
    };
    check(rows);
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
         "eth_src=02aa00000001/ffffffffffff, ttl=3f/ff, tp_dst=1f90/ffff"},
        {"the later one wins", ipv4(),
         List()
             .set_masked(kIpv4, dst, "0a000001/ffffffff")
             .set_masked(kIpv4, dst, "00000022/000000ff"),
         "addr1=0a000022/ffffffff"},
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
    EXPECT_EQ(describe(List().set(kEth, kMacs).bytes(), false), "drop");
    EXPECT_EQ(describe(List().set(kTcp, "00501f90").bytes(), false),
              "set/tcp_src");
    EXPECT_EQ(describe(List().output(2).set(kEth, kMacs).bytes(), false),
              "action/after_output");
}

// Fields that cannot be set, by name; nothing is nothing, of these too.
TEST(DecodeSet, RefusesByName) {
    const struct {
        uint16_t attr;
        size_t size, offset;
        const char *name;
    } rows[] = {
        {OVS_KEY_ATTR_UNSPEC, 4, 0, "set/unknown_field"},
        {OVS_KEY_ATTR_ENCAP, 4, 0, "set/encap"},
        {OVS_KEY_ATTR_PRIORITY, 4, 1, "set/skb_priority"},
        {OVS_KEY_ATTR_IN_PORT, 4, 2, "set/in_port"},
        {OVS_KEY_ATTR_VLAN, 2, 1, "set/vlan"},
        {OVS_KEY_ATTR_ETHERTYPE, 2, 0, "set/eth_type"},
        {OVS_KEY_ATTR_ICMP, 2, 0, "set/icmp_type"},
        {OVS_KEY_ATTR_ICMP, 2, 1, "set/icmp_code"},
        {OVS_KEY_ATTR_ICMPV6, 2, 0, "set/icmpv6_type"},
        {OVS_KEY_ATTR_ICMPV6, 2, 1, "set/icmpv6_code"},
        {OVS_KEY_ATTR_ARP, 24, 3, "set/arp_sip"},
        {OVS_KEY_ATTR_ARP, 24, 7, "set/arp_tip"},
        {OVS_KEY_ATTR_ARP, 24, 9, "set/arp_op"},
        {OVS_KEY_ATTR_ARP, 24, 10, "set/arp_sha"},
        {OVS_KEY_ATTR_ARP, 24, 16, "set/arp_tha"},
        {OVS_KEY_ATTR_ND, 28, 15, "set/nd_target"},
        {OVS_KEY_ATTR_ND, 28, 16, "set/nd_sll"},
        {OVS_KEY_ATTR_ND, 28, 22, "set/nd_tll"},
        {OVS_KEY_ATTR_SKB_MARK, 4, 3, "set/skb_mark"},
        {OVS_KEY_ATTR_TUNNEL, 12, 0, "set/tunnel"},
        {OVS_KEY_ATTR_SCTP, 4, 1, "set/sctp_src"},
        {OVS_KEY_ATTR_SCTP, 4, 3, "set/sctp_dst"},
        {OVS_KEY_ATTR_TCP_FLAGS, 2, 1, "set/tcp_flags"},
        {OVS_KEY_ATTR_DP_HASH, 4, 0, "set/dp_hash"},
        {OVS_KEY_ATTR_RECIRC_ID, 4, 0, "set/recirc_id"},
        {OVS_KEY_ATTR_MPLS, 4, 2, "set/mpls"},
        {OVS_KEY_ATTR_CT_MARK, 4, 2, "set/unknown_field"},
        {OVS_KEY_ATTR_NSH, 24, 20, "set/nsh"},
        {OVS_KEY_ATTR_ND_EXTENSIONS, 5, 4, "set/nd_ext"},
        {4000, 1, 0, "set/unknown_field"},
    };
    // Also of flows that match the protocol.
    const Flow flows[] = {l2(),       arp(),      ipv4("84"),
                          ipv4("01"), ipv6("3a"), ipv6("84")};
    for (auto &row : rows) {
        for (auto &flow : flows) {
            const std::string zeros(2 * row.size, '0');
            std::string bit = zeros;
            bit[2 * row.offset + 1] = '1';
            EXPECT_EQ(describe_set(
                          flow, List().set_masked(row.attr, bit + "/" + bit)),
                      row.name);
            EXPECT_EQ(describe_set(flow, List().set_masked(row.attr,
                                                           bit + "/" + zeros)),
                      "")
                << row.name;
            // Without a mask, the first field.
            const std::string whole =
                describe_set(flow, List().set(row.attr, bit));
            EXPECT_EQ(whole.substr(0, 4), "set/") << row.name;
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

// A list that ends within an action is refused; one that ends between two is
// the shorter list.
TEST(DecodeActions, Truncated) {
    const List list = List().pop().push(0x8100, 0x1007).output(2);
    const std::map<size_t, const char *> whole = {
        {0, "drop"},
        {4, "drop"},
        {12, "drop"},
        {20, "replace 8100 0007, output 2"},
    };
    ASSERT_EQ(list.bytes().size(), 20u);
    for (size_t n = 0; n <= 20; n++) {
        const auto it = whole.find(n);
        EXPECT_EQ(describe(list.bytes().first(n), true),
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
        ASSERT_EQ(describe(list.bytes(), false), expected)
            << "nla_len " << len;
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
        const std::string s = describe(bytes, random() % 2);
        ASSERT_EQ(s.find('?'), s.npos) << s << ": " << to_hex(bytes);
    }
}

}  // namespace
}  // namespace flowxlate::unit
