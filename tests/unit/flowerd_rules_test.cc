// SPDX-License-Identifier: Apache-2.0
// From filters to the attributes that the library takes: the match that it
// makes of them, and what it does.  tests/bpf/flowerd_test.cc runs packets
// through them.
#include "flowerd/rules.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <linux/if_ether.h>
#include <linux/openvswitch.h>
#include <linux/pkt_cls.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <functional>
#include <string>

#include "flowxlate/translate/actions.h"
#include "flowxlate/translate/match.h"

namespace flowerd::unit {
namespace {

using Rules = std::vector<Rule>;

constexpr Ifindex kIn{2}, kOut{3}, kOther{4}, kNotOurs{5};
constexpr Ifindex kWithEgressFilters{6};

Surroundings surroundings() {
    return {[](Ifindex out) {
                return out == kNotOurs
                         ? Reject{"output", "not_ours", EOPNOTSUPP}
                     : out == kWithEgressFilters
                         ? Reject{"output", "egress_filters", EOPNOTSUPP}
                         : Reject{};
            },
            false, true};
}

Action output(Action::Kind kind, Ifindex to) {
    Action a;
    a.kind = kind;
    a.ifindex = to;
    return a;
}
Action redirect(Ifindex to = kOut) { return output(Action::kRedirect, to); }
Action mirror(Ifindex to) { return output(Action::kMirror, to); }
Action simple(Action::Kind kind) { return output(kind, {}); }
Action push(uint16_t tpid, uint16_t id, uint8_t prio) {
    Action a = simple(Action::kPushVlan);
    a.tpid = htons(tpid);
    a.vlan_id = id;
    a.vlan_prio = prio;
    return a;
}

Action write(Header header, int32_t offset, std::array<uint8_t, 4> value,
             std::array<uint8_t, 4> mask = {0xff, 0xff, 0xff, 0xff}) {
    Action a = simple(Action::kSetBytes);
    a.header = header;
    a.offset = offset;
    a.value = value;
    a.mask = mask;
    return a;
}
Action add(int32_t offset, std::array<uint8_t, 4> value,
           std::array<uint8_t, 4> mask) {
    Action a = write(Header::kNetwork, offset, value, mask);
    a.kind = Action::kAddBytes;
    return a;
}
Action sum(uint32_t flags) {
    Action a = simple(Action::kSum);
    a.sums = flags;
    return a;
}
Action modify(uint16_t id) {
    Action a = push(ETH_P_8021Q, id, 0);
    a.kind = Action::kModifyVlan;
    a.keeps_prio = true;
    return a;
}

Action track(uint16_t zone, bool translates = false) {
    Action a = simple(Action::kTrack);
    a.ct.zone = zone;
    a.ct.translates = translates;
    return a;
}

Action go_to(uint32_t chain) {
    Action a = simple(Action::kGotoChain);
    a.chain = chain;
    return a;
}

// To 10.0.0.0/8, or fc00::/8, in packets with this tag, or none.
Filter filter(uint16_t type, uint16_t tpid, std::vector<Action> actions) {
    Filter f;
    f.ifindex = kIn;
    f.id = {10, 1};
    f.kind = "flower";
    f.has_options = true;
    Fields &key = f.match.key, &mask = f.match.mask;
    key.eth_type = htons(type);
    key.protocol = tpid ? htons(tpid) : key.eth_type;
    mask.eth_type = mask.protocol = 0xffff;
    if (tpid) {
        key.vlan_eth_type = key.eth_type;
        mask.vlan_eth_type = 0xffff;
        key.vlan_id = 5;
        mask.vlan_id = 0xfff;
    }
    if (type != ETH_P_ARP) {
        const bool v4 = type == ETH_P_IP;
        (v4 ? key.ipv4_dst[0] : key.dst[0]) = v4 ? 10 : 0xfc;
        (v4 ? mask.ipv4_dst[0] : mask.dst[0]) = 0xff;
    }
    f.actions = std::move(actions);
    return f;
}

// Edits a filter of IPv4.
struct Row {
    const char *name;
    std::function<void(Filter *)> edit;
    const char *refused;  // "": it is not.
};

const Row kRows[] = {
    {"as it is", [](Filter *) {}, ""},
    {"drop", [](Filter *f) { f->actions = {simple(Action::kDrop)}; }, ""},
    {"pass", [](Filter *f) { f->actions = {simple(Action::kPass)}; },
     "action/pass"},
    {"to a device that is none of ours",
     [](Filter *f) { f->actions = {redirect(kNotOurs)}; }, "output/not_ours"},
    {"to a device with filters at its egress",
     [](Filter *f) { f->actions = {redirect(kWithEgressFilters)}; },
     "output/egress_filters"},
    {"to where it came from", [](Filter *f) { f->actions = {redirect(kIn)}; },
     "output/same_device"},
    {"to two devices",
     [](Filter *f) {
         f->actions = {mirror(kOther), redirect()};
     },
     ""},
    {"to one device twice",
     [](Filter *f) {
         f->actions = {mirror(kOut), redirect()};
     },
     "output/twice"},
    {"to a device, and drop",
     [](Filter *f) {
         f->actions = {mirror(kOut), simple(Action::kDrop)};
     },
     ""},
    {"to a device, and up the stack",
     [](Filter *f) {
         f->actions = {mirror(kOut), simple(Action::kPass)};
     },
     "action/pass"},
    {"to one device without a tag and to the other with one",
     [](Filter *f) {
         f->actions = {mirror(kOther), push(ETH_P_8021Q, 7, 1), redirect()};
     },
     "action/after_mirror"},
    {"a tag of no known kind",
     [](Filter *f) {
         f->actions = {push(0x9100, 7, 1), redirect()};
     },
     "action/vlan_protocol"},
    {"a third tag",
     [](Filter *f) {
         const Action tag = push(ETH_P_8021Q, 7, 1);
         f->actions = {tag, tag, tag, redirect()};
     },
     "action/third_vlan"},
    {"any type",
     [](Filter *f) { f->match.key.protocol = f->match.mask.protocol = 0; },
     "key/any_eth_type"},
    {"any type behind the tag",
     [](Filter *f) {
         f->match.key.protocol = htons(ETH_P_8021Q);
         f->match.key.eth_type = f->match.mask.eth_type = 0;
     },
     "key/any_eth_type"},
    {"one type in the preference, another in the filter",
     [](Filter *f) { f->match.key.protocol = htons(ETH_P_IPV6); },
     "key/two_eth_types"},
    {"a type that has others inside",
     [](Filter *f) {
         f->match.key.protocol = f->match.key.eth_type = htons(0x8864);
     },
     "key/eth_type"},
    {"fragments",
     [](Filter *f) { f->match.key.flags = f->match.mask.flags = htonl(1); },
     "key/fragments"},
    {"one tag, where there is none",
     [](Filter *f) {
         f->match.key.n_tags = 1;
         f->match.mask.n_tags = 0xff;
     },
     "key/num_of_vlans"},
    {"no tag", [](Filter *f) { f->match.mask.n_tags = 0xff; }, ""},
    {"no fragments", [](Filter *f) { f->match.mask.flags = htonl(1); }, ""},
    {"no address",
     [](Filter *f) { f->match.key.ipv4_dst = f->match.mask.ipv4_dst = {}; },
     "key/no_address"},
    {"to another chain", [](Filter *f) { f->actions = {go_to(7)}; }, ""},
    {"to the first chain", [](Filter *f) { f->actions = {go_to(0)}; },
     "action/goto_chain"},
    {"to another chain, after a copy",
     [](Filter *f) {
         f->actions = {mirror(kOut), go_to(7)};
     },
     "action/goto_chain"},
    {"another priority than is known, kept",
     [](Filter *f) {
         f->match.key.protocol = htons(ETH_P_8021Q);
         f->match.key.vlan_eth_type = f->match.key.eth_type;
         f->match.mask.vlan_eth_type = 0xffff;
         f->actions = {modify(7), redirect()};
     },
     "action/vlan_modify"},
    {"what the filter itself says",
     [](Filter *f) {
         f->why_not = {"action", "ct", EOPNOTSUPP};
     },
     "action/ct"},
};

TEST(FlowerdRules, Refused) {
    for (const Row &row : kRows) {
        SCOPED_TRACE(row.name);
        Filter f = filter(ETH_P_IP, 0, {redirect()});
        row.edit(&f);
        Rules rules;
        const Reject r = translate(f, surroundings(), &rules);
        EXPECT_EQ(r ? r.name() : "", row.refused);
    }
}

TEST(FlowerdRules, NoAddressIsTrusted) {
    Filter f = filter(ETH_P_IP, 0, {redirect()});
    f.match.key.ipv4_dst = f.match.mask.ipv4_dst = {};
    Surroundings s = surroundings();
    s.trusts_no_address = true;
    Rules rules;
    EXPECT_FALSE(translate(f, s, &rules));
}

// What pedit writes in filters of these, and csum sums up.
const Action kMac = write(Header::kEthernet, 0, {2, 0, 0, 0});
const Action kTtl = write(Header::kNetwork, 8, {5}, {0xff});
const Action kSource = write(Header::kNetwork, 12, {10, 0, 0, 9});
const Action kDestination = write(Header::kNetwork, 16, {10, 0, 0, 9});
const Action kTcpPort =
    write(Header::kTcp, 0, {0, 0, 0, 81}, {0, 0, 0xff, 0xff});
const Action kCountDown = add(8, {0xff}, {0xff});
constexpr uint32_t kSumIp = 1, kSumIcmp = 2, kSumIgmp = 4, kSumTcp = 8,
                   kSumUdp = 16, kSumUdplite = 32, kSumSctp = 64;
constexpr uint8_t kAnyProto = 0, kTcp = IPPROTO_TCP, kUdp = IPPROTO_UDP;

struct EditRow {
    const char *name;
    uint16_t type;
    uint8_t proto;
    std::vector<Action> actions;  // Before a redirect.
    const char *refused;
    bool is_whole = false;  // Fragments are TC's.
};

const EditRow kEdits[] = {
    {"a MAC address", ETH_P_IP, kAnyProto, {kMac}, ""},
    {"that of ARP", ETH_P_ARP, kAnyProto, {kMac}, ""},
    {"and a sum that nothing changes",
     ETH_P_IP,
     kAnyProto,
     {kMac, sum(kSumTcp)},
     "action/csum"},
    {"the type",
     ETH_P_IP,
     kAnyProto,
     {write(Header::kEthernet, 12, {8}, {0xff})},
     "action/pedit_field"},
    {"what is nowhere",
     ETH_P_IP,
     kAnyProto,
     {write(Header::kNetwork, INT32_MAX, {1, 1, 1, 1})},
     "action/pedit_field"},
    {"TTL", ETH_P_IP, kAnyProto, {kTtl, sum(kSumIp)}, ""},
    {"TTL without the sum",
     ETH_P_IP,
     kAnyProto,
     {kTtl},
     "action/pedit_without_csum"},
    {"TTL, with a sum that is before",
     ETH_P_IP,
     kAnyProto,
     {kMac, sum(kSumIp), kTtl},
     "action/pedit_without_csum"},
    {"and once more",
     ETH_P_IP,
     kAnyProto,
     {kMac, sum(kSumIp), kTtl, sum(kSumIp)},
     ""},
    {"TTL, with a sum that it is not in",
     ETH_P_IP,
     kAnyProto,
     {kTtl, sum(kSumIp | kSumTcp)},
     "action/csum"},
    {"TTL, with one of another protocol",
     ETH_P_IP,
     kTcp,
     {kTtl, sum(kSumIp | kSumUdp | kSumSctp)},
     ""},
    {"TTL, of IPv6",
     ETH_P_IPV6,
     kAnyProto,
     {write(Header::kNetwork, 4, {0, 0, 0, 5}, {0, 0, 0, 0xff})},
     ""},
    {"TTL that is matched, one less",
     ETH_P_IP,
     kAnyProto,
     {kCountDown, sum(kSumIp)},
     "action/pedit_add"},
    {"an address, of any protocol",
     ETH_P_IP,
     kAnyProto,
     {kSource, sum(kSumIp | kSumTcp | kSumUdp)},
     "",
     true},
    {"ICMP's too, which does not change",
     ETH_P_IP,
     kAnyProto,
     {kSource, sum(kSumIp | kSumTcp | kSumUdp | kSumIcmp)},
     "",
     true},
    {"and not UDP's",
     ETH_P_IP,
     kAnyProto,
     {kSource, sum(kSumIp | kSumTcp)},
     "action/pedit_without_csum"},
    {"of UDP Lite, too",
     ETH_P_IP,
     kAnyProto,
     {kSource, sum(kSumIp | kSumTcp | kSumUdp | kSumUdplite)},
     "action/csum"},
    {"of SCTP, too",
     ETH_P_IP,
     kAnyProto,
     {kSource, sum(kSumIp | kSumTcp | kSumUdp | kSumSctp)},
     "action/csum"},
    {"of IGMP, too",
     ETH_P_IP,
     kAnyProto,
     {kSource, sum(kSumIp | kSumTcp | kSumUdp | kSumIgmp)},
     "action/csum"},
    {"of TCP",
     ETH_P_IP,
     kTcp,
     {kDestination, sum(kSumIp | kSumTcp)},
     "",
     true},
    {"of ICMP", ETH_P_IP, IPPROTO_ICMP, {kDestination, sum(kSumIp)}, "", true},
    {"of UDP Lite",
     ETH_P_IP,
     136,
     {kDestination, sum(kSumIp)},
     "action/pedit_without_csum"},
    {"of IPv6",
     ETH_P_IPV6,
     kAnyProto,
     {write(Header::kNetwork, 36, {0, 0, 0, 9}),
      sum(kSumTcp | kSumUdp | kSumIcmp)},
     "",
     true},
    {"of IPv6, without ICMPv6",
     ETH_P_IPV6,
     kAnyProto,
     {write(Header::kNetwork, 36, {0, 0, 0, 9}), sum(kSumTcp | kSumUdp)},
     "action/pedit_without_csum"},
    {"the address that it is",
     ETH_P_IP,
     kTcp,
     {write(Header::kNetwork, 16, {10}, {0xff}), sum(kSumIp)},
     "action/csum"},
    {"IPv6's label and class",
     ETH_P_IPV6,
     kAnyProto,
     {write(Header::kNetwork, 0, {2, 1, 0x23, 0x45}, {0xf, 0xff, 0xff, 0xff})},
     ""},
    {"and version",
     ETH_P_IPV6,
     kAnyProto,
     {write(Header::kNetwork, 0, {0x60}, {0xff})},
     "action/pedit_field"},
    {"a port", ETH_P_IP, kTcp, {kTcpPort, sum(kSumTcp)}, "", true},
    {"a port by its place",
     ETH_P_IP,
     kTcp,
     {write(Header::kNetwork, 20, {0, 0, 0, 81}), sum(kSumTcp)},
     "",
     true},
    {"a port without the sum",
     ETH_P_IP,
     kTcp,
     {kTcpPort, sum(kSumIp)},
     "action/pedit_without_csum"},
    {"TCP's port of UDP",
     ETH_P_IP,
     kUdp,
     {kTcpPort, sum(kSumUdp)},
     "action/pedit_field"},
    {"a port of any protocol",
     ETH_P_IP,
     kAnyProto,
     {kTcpPort, sum(kSumTcp | kSumUdp)},
     "action/pedit_field"},
    {"a sum alone", ETH_P_IP, kTcp, {sum(kSumIp | kSumTcp)}, "action/csum"},
    {"behind two tags",
     ETH_P_IP,
     kAnyProto,
     {push(ETH_P_8021Q, 7, 1), push(ETH_P_8021Q, 8, 1), kMac},
     "action/pedit_tags"},
    {"after a copy",
     ETH_P_IP,
     kAnyProto,
     {mirror(kOther), kMac},
     "action/after_mirror"},
};

TEST(FlowerdRules, Edits) {
    for (const EditRow &row : kEdits) {
        SCOPED_TRACE(row.name);
        Filter f = filter(row.type, 0, row.actions);
        f.actions.push_back(redirect());
        f.match.key.ip_proto = row.proto;
        f.match.mask.ip_proto = row.proto ? 0xff : 0;
        Surroundings s = surroundings();
        s.trusts_no_address = true;
        Rules rules;
        const Reject r = translate(f, s, &rules);
        EXPECT_EQ(r ? r.name() : "", row.refused);
        flowxlate::Match match;
        if (!r && row.type != ETH_P_ARP) {
            ASSERT_FALSE(
                flowxlate::decode_match(rules[0].key, rules[0].mask, &match));
            EXPECT_EQ(match.mask.nw_frag, row.is_whole ? 0xff : XF_FRAG_LATER);
        }
    }
}

struct Taken {
    flowxlate::Match match;
    flowxlate::Actions actions;
};

// As the library takes them.
std::vector<Taken> take_all(const Filter &f) {
    Rules rules;
    std::vector<Taken> all;
    EXPECT_FALSE(translate(f, surroundings(), &rules));
    for (const Rule &rule : rules) {
        Taken &t = all.emplace_back();
        const Reject m =
            flowxlate::decode_match(rule.key, rule.mask, &t.match);
        EXPECT_FALSE(m) << m.name();
        const Reject a =
            flowxlate::decode_actions(rule.actions, t.match, &t.actions);
        EXPECT_FALSE(a) << a.name();
    }
    return all;
}

// One that has no ranges.
Taken take(const Filter &f) {
    const std::vector<Taken> all = take_all(f);
    EXPECT_EQ(all.size(), 1U);
    return all.empty() ? Taken{} : all[0];
}

TEST(FlowerdRules, ExactPresence) {
    const struct {
        const char *name;
        uint16_t type, tpid;
        bool has_ports;
        uint16_t tci, tci_mask, tci2_mask;
        uint8_t frag_mask;
    } kPresence[] = {
        {"no tag", ETH_P_IP, 0, false, 0, 0xffff, 0, XF_FRAG_LATER},
        {"no tag, IPv6", ETH_P_IPV6, 0, false, 0, 0xffff, 0, XF_FRAG_LATER},
        {"no tag, ARP", ETH_P_ARP, 0, false, 0, 0xffff, 0, 0},
        {"a tag, and no second one", ETH_P_IP, ETH_P_8021Q, false, 0x1005,
         0x1fff, 0xffff, XF_FRAG_LATER},
        {"ports, of no fragment", ETH_P_IP, 0, true, 0, 0xffff, 0, 0xff},
        {"ports in IPv6, of no fragment", ETH_P_IPV6, ETH_P_8021AD, true,
         0x1005, 0x1fff, 0xffff, 0xff},
    };
    for (const auto &row : kPresence) {
        SCOPED_TRACE(row.name);
        Filter f = filter(row.type, row.tpid, {redirect()});
        if (row.has_ports) {
            f.match.key.ip_proto = IPPROTO_UDP;
            f.match.mask.ip_proto = 0xff;
            f.match.key.tp_dst = htons(53);
            f.match.mask.tp_dst = 0xffff;
        }
        const auto &[key, mask] =
            std::pair(take(f).match.key, take(f).match.mask);
        EXPECT_EQ(mask.eth_type, 0xffff);
        EXPECT_EQ(key.eth_type, htons(row.type));
        EXPECT_EQ(ntohs(key.vlan_tci), row.tci);
        EXPECT_EQ(ntohs(mask.vlan_tci), row.tci_mask);
        EXPECT_EQ(ntohs(mask.vlan2_tci), row.tci2_mask);
        EXPECT_EQ(key.vlan2_tci, 0);
        EXPECT_EQ(mask.nw_frag, row.frag_mask);
        EXPECT_EQ(key.nw_frag, XF_FRAG_NONE);
        EXPECT_EQ(ntohs(key.tp_dst), row.has_ports ? 53 : 0);
        EXPECT_EQ(mask.tp_dst, row.has_ports ? 0xffff : 0);
        EXPECT_EQ(mask.tp_src, 0);
    }
}

TEST(FlowerdRules, TwoTags) {
    Filter f = filter(ETH_P_IP, ETH_P_8021AD, {redirect()});
    f.match.key.vlan_eth_type = htons(ETH_P_8021Q);
    Rules rules;
    const Reject r = translate(f, surroundings(), &rules);
    ASSERT_TRUE(r);
    EXPECT_EQ(r.name(), "key/two_eth_types") << "what is behind is not said";
    f.match.key.cvlan_eth_type = htons(ETH_P_IP);
    f.match.mask.cvlan_eth_type = 0xffff;
    f.match.key.cvlan_id = 6;
    f.match.mask.cvlan_id = 0xfff;
    f.match.key.cvlan_prio = f.match.mask.cvlan_prio = 7;
    f.match.key.n_tags = 2;
    f.match.mask.n_tags = 0xff;
    const flowxlate::Match m = take(f).match;
    EXPECT_EQ(m.n_tags, 2U);
    EXPECT_EQ(ntohs(m.key.vlan_tci), 0x1005);
    EXPECT_EQ(ntohs(m.mask.vlan_tci), 0x1fff);
    EXPECT_EQ(ntohs(m.key.vlan2_tci), 0xf006);
    EXPECT_EQ(ntohs(m.mask.vlan2_tci), 0xffff);
    EXPECT_EQ(m.key.tpids, XF_TPID_OUTER_AD);
    EXPECT_EQ(m.key.eth_type, htons(ETH_P_IP));
    f.actions = {simple(Action::kPopVlan), modify(8), redirect()};
    EXPECT_EQ(take(f).actions.n_pop, 2U);
    EXPECT_EQ(ntohs(take(f).actions.push[0].tci), 0xe008) << "its priority";
    for (const Action &a : {kMac, track(7)}) {
        f.actions = {a, redirect()};
        EXPECT_TRUE(translate(f, surroundings(), &rules));
    }
}

TEST(FlowerdRules, Actions) {
    const struct {
        const char *name;
        uint16_t tpid;
        std::vector<Action> actions;
        xf_verdict verdict;
        unsigned n_pop, n_push, n_out;
    } kLists[] = {
        {"drop", 0, {simple(Action::kDrop)}, XF_DROP, 0, 0, 0},
        {"redirect", 0, {redirect()}, XF_OUTPUT, 0, 0, 1},
        {"a copy", 0, {mirror(kOther), redirect()}, XF_GROUP, 0, 0, 2},
        {"pop",
         ETH_P_8021Q,
         {simple(Action::kPopVlan), redirect()},
         XF_OUTPUT,
         1,
         0,
         1},
        {"pop of no tag",
         0,
         {simple(Action::kPopVlan), redirect()},
         XF_OUTPUT,
         0,
         0,
         1},
        {"push", 0, {push(ETH_P_8021Q, 7, 3), redirect()}, XF_OUTPUT, 0, 1, 1},
        {"a tag that is pushed, and modified",
         0,
         {push(ETH_P_8021Q, 8, 3), modify(7), redirect()},
         XF_OUTPUT,
         0,
         1,
         1},
        {"modify of no tag", 0, {modify(7), redirect()}, XF_OUTPUT, 0, 0, 1},
        {"another tag",
         ETH_P_8021Q,
         {simple(Action::kPopVlan), push(ETH_P_8021AD, 7, 3), redirect()},
         XF_OUTPUT,
         1,
         1,
         1},
    };
    for (const auto &row : kLists) {
        SCOPED_TRACE(row.name);
        const Taken t = take(filter(ETH_P_IP, row.tpid, row.actions));
        EXPECT_EQ(t.actions.verdict, row.verdict);
        EXPECT_EQ(t.actions.n_pop, row.n_pop);
        EXPECT_EQ(t.actions.push.size(), row.n_push);
        EXPECT_EQ(t.actions.out_ports.size(), row.n_out);
        if (row.n_push) {
            EXPECT_EQ(ntohs(t.actions.push[0].tci), 0x6007);
        }
    }
}

TEST(FlowerdRules, Arp) {
    const struct {
        const char *name;
        uint8_t op, op_mask;
        const char *refused;
    } kOperations[] = {
        {"a request", 1, 0xff, ""},
        {"a reply", 2, 0xff, ""},
        {"another, of which flower finds nothing", 3, 0xff, "key/arp"},
        {"any", 0, 0, "key/arp"},
        {"some", 1, 1, "key/arp"},
    };
    for (const auto &row : kOperations) {
        SCOPED_TRACE(row.name);
        Filter f = filter(ETH_P_ARP, 0, {redirect()});
        f.match.key.arp_tip = htonl(0x0a000002);
        f.match.mask.arp_tip = 0xffffffff;
        f.match.key.arp_op = row.op;
        f.match.mask.arp_op = row.op_mask;
        Rules rules;
        const Reject r = translate(f, surroundings(), &rules);
        EXPECT_EQ(r ? r.name() : "", row.refused);
        if (!r) {
            const flowxlate::Match m = take(f).match;
            EXPECT_EQ(m.key.ipv4_dst, htonl(0x0a000002));
            EXPECT_EQ(m.mask.ipv4_dst, 0xffffffff);
            EXPECT_EQ(m.mask.ipv4_src, 0U);
            EXPECT_EQ(m.key.nw_proto, row.op);
            EXPECT_EQ(m.mask.nw_proto, 0xff);
        }
    }
}

TEST(FlowerdRules, Chains) {
    Filter f =
        filter(ETH_P_IP, ETH_P_8021Q, {simple(Action::kPopVlan), go_to(7)});
    f.match.key.chain = 5;
    f.match.mask.chain = UINT32_MAX;
    const Taken t = take(f);
    EXPECT_EQ(t.match.recirc_id, 5U);
    EXPECT_EQ(t.actions.recirc_id, 7U);
    EXPECT_EQ(t.actions.verdict, XF_RECIRC);
    EXPECT_EQ(t.actions.n_pop, 1U);
}

Filter with_ports(PortRange src, PortRange dst) {
    Filter f = filter(ETH_P_IP, 0, {redirect()});
    f.match.key.ip_proto = kUdp;
    f.match.mask.ip_proto = 0xff;
    f.match.mask.ranges = (src == PortRange{} ? 0 : kSourceRange)
                        | (dst == PortRange{} ? 0 : kDestinationRange);
    f.match.src_ports = src;
    f.match.dst_ports = dst;
    return f;
}

// Each port of the range is in one part, and no other one is in any.
TEST(FlowerdRules, PortRanges) {
    const struct {
        PortRange range;
        size_t n_parts;
    } kRanges[] = {
        {{10, 20}, 4},    {{0, 1}, 1},       {{1, 2}, 2},
        {{80, 80}, 1},    {{1024, 2047}, 1}, {{0, 65534}, 16},
        {{1, 65535}, 16}, {{1, 65534}, 30},  {{32768, 60999}, 7},
    };
    for (const auto &[range, n_parts] : kRanges) {
        SCOPED_TRACE(std::to_string(range.first) + "-"
                     + std::to_string(range.last));
        const auto parts = take_all(with_ports({}, range));
        EXPECT_EQ(parts.size(), n_parts);
        for (uint32_t port = 0; port <= UINT16_MAX; port++) {
            const __be16 wire = htons(port);
            const auto n = std::ranges::count_if(parts, [&](const Taken &t) {
                return (wire & t.match.mask.tp_dst) == t.match.key.tp_dst;
            });
            ASSERT_EQ(n, range.has(wire)) << port;
        }
        for (const Taken &t : parts) {
            EXPECT_EQ(t.match.mask.tp_src, 0);
            EXPECT_EQ(t.match.mask.nw_frag, 0xff);
        }
    }
}

TEST(FlowerdRules, TwoPortRanges) {
    const auto parts = take_all(with_ports({10, 20}, {100, 103}));
    ASSERT_EQ(parts.size(), 4U);
    EXPECT_EQ(parts[0].match.key.tp_src, htons(10));
    EXPECT_EQ(parts[0].match.mask.tp_src, htons(0xfffe));
    EXPECT_EQ(parts[0].match.key.tp_dst, htons(100));
    EXPECT_EQ(parts[0].match.mask.tp_dst, htons(0xfffc));
    Rules rules;
    const Reject r =
        translate(with_ports({1, 65534}, {10, 20}), surroundings(), &rules);
    ASSERT_TRUE(r);
    EXPECT_EQ(r.name(), "key/port_range");
}

// Behind a ct, in another chain than the first.
Filter with_state(Filter f, uint16_t state, uint16_t mask) {
    f.match.key.chain = 5;
    f.match.mask.chain = UINT32_MAX;
    f.match.key.ct_state = state;
    f.match.mask.ct_state = mask;
    return f;
}

TEST(FlowerdRules, ConnectionStates) {
    const struct {
        uint16_t flowers, ovs;
    } kBits[] = {
        {TCA_FLOWER_KEY_CT_FLAGS_NEW, OVS_CS_F_NEW},
        {TCA_FLOWER_KEY_CT_FLAGS_ESTABLISHED, OVS_CS_F_ESTABLISHED},
        {TCA_FLOWER_KEY_CT_FLAGS_RELATED, OVS_CS_F_RELATED},
        {TCA_FLOWER_KEY_CT_FLAGS_TRACKED, OVS_CS_F_TRACKED},
        {TCA_FLOWER_KEY_CT_FLAGS_INVALID, OVS_CS_F_INVALID},
        {TCA_FLOWER_KEY_CT_FLAGS_REPLY, OVS_CS_F_REPLY_DIR},
    };
    const Filter f = filter(ETH_P_IP, 0, {redirect()});
    for (const auto &bit : kBits) {
        const flowxlate::Match set =
            take(with_state(f, bit.flowers, bit.flowers)).match;
        EXPECT_EQ(set.key.ct_state, bit.ovs);
        EXPECT_EQ(set.mask.ct_state, bit.ovs);
        const flowxlate::Match clear =
            take(with_state(f, 0, bit.flowers)).match;
        EXPECT_EQ(clear.key.ct_state, 0);
        EXPECT_EQ(clear.mask.ct_state, bit.ovs);
    }
    EXPECT_EQ(take(f).match.mask.ct_state, 0);
}

// Packets that enter have none, nor has ARP.
TEST(FlowerdRules, ConnectionsBeforeAnyCt) {
    const uint16_t tracked = TCA_FLOWER_KEY_CT_FLAGS_TRACKED;
    const struct {
        uint16_t type;
        uint32_t chain;
        uint16_t state;
        const char *refused;
    } kRows[] = {
        {ETH_P_IP, 0, 0, ""},
        {ETH_P_IP, 0, tracked, "key/ct_before_ct"},
        {ETH_P_IP, 5, tracked, ""},
        {ETH_P_ARP, 5, tracked, "key/ct_before_ct"},
        {ETH_P_ARP, 5, 0, ""},
    };
    for (const auto &row : kRows) {
        Filter f =
            with_state(filter(row.type, 0, {redirect()}), row.state, tracked);
        f.match.key.chain = row.chain;
        Rules rules;
        const Reject r = translate(f, surroundings(), &rules);
        EXPECT_EQ(r ? r.name() : "", row.refused);
        if (!r) {
            take(f);
        }
    }
}

TEST(FlowerdRules, WhatAConnectionHas) {
    Filter f = with_state(filter(ETH_P_IP, 0, {redirect()}), 0, 0);
    f.match.key.ct_zone = 7;
    f.match.mask.ct_zone = 0xffff;
    f.match.key.ct_mark = 5;
    f.match.mask.ct_mark = 0xf;
    f.match.key.ct_labels[15] = 1;
    f.match.mask.ct_labels[15] = 3;
    const flowxlate::Match m = take(f).match;
    EXPECT_EQ(m.key.ct_zone, 7);
    EXPECT_EQ(m.mask.ct_zone, 0xffff);
    EXPECT_EQ(m.key.ct_mark, 5U);
    EXPECT_EQ(m.mask.ct_mark, 0xfU);
    EXPECT_EQ(m.key.ct_label[15], 1);
    EXPECT_EQ(m.mask.ct_label[15], 3);
    EXPECT_EQ(m.mask.ct_label[0], 0);
    EXPECT_EQ(m.mask.ct_state, 0);
}

TEST(FlowerdRules, Tracking) {
    Action commit = track(7, true);
    commit.ct.commits = true;
    commit.ct.mark = 1;
    commit.ct.mark_mask = 3;
    commit.ct.labels[0] = commit.ct.labels_mask[0] = 1;
    const auto taken =
        take(filter(ETH_P_IP, 0, {commit, track(8), go_to(9)})).actions;
    EXPECT_TRUE(taken.tracks);
    EXPECT_EQ(taken.recirc_id, 9U);
    const xf_ct_step &first = taken.rewrite.ct[0];
    EXPECT_EQ(first.flags, XF_CT_TRACK | XF_CT_COMMIT | XF_CT_NAT | XF_CT_MARK
                               | XF_CT_LABEL);
    EXPECT_EQ(first.zone, 7);
    EXPECT_EQ(first.mark, 1U);
    EXPECT_EQ(first.mark_mask, 3U);
    EXPECT_EQ(first.label[0], 1U);
    EXPECT_EQ(first.label_mask[0], 1U);
    EXPECT_EQ(taken.rewrite.ct[1].flags, XF_CT_TRACK);
    EXPECT_EQ(taken.rewrite.ct[1].zone, 8);
    const Filter f = with_state(
        filter(ETH_P_IP, 0, {simple(Action::kUntrack), go_to(9)}), 0, 0);
    EXPECT_EQ(take(f).actions.rewrite.ct[0].flags, XF_CT_CLEAR);
}

TEST(FlowerdRules, TrackingAndWhatElseIsDone) {
    const struct {
        const char *name;
        uint16_t type;
        std::vector<Action> actions;
        const char *refused;
    } kLists[] = {
        {"and sent", ETH_P_IP, {track(7)}, ""},
        {"ARP", ETH_P_ARP, {track(7)}, "action/ct_protocol"},
        {"ARP of no connection", ETH_P_ARP, {simple(Action::kUntrack)}, ""},
        {"behind two tags",
         ETH_P_IP,
         {push(ETH_P_8021Q, 7, 1), push(ETH_P_8021Q, 8, 1), track(7)},
         "action/ct_tags"},
        {"behind one", ETH_P_IP, {push(ETH_P_8021Q, 7, 1), track(7)}, ""},
        {"after a copy",
         ETH_P_IP,
         {mirror(kOther), track(7)},
         "action/after_mirror"},
        {"forgotten after a copy",
         ETH_P_IP,
         {mirror(kOther), simple(Action::kUntrack)},
         "action/after_mirror"},
        {"written, then tracked", ETH_P_IP, {kTtl, sum(kSumIp), track(7)}, ""},
        {"without the sum",
         ETH_P_IP,
         {kTtl, track(7), sum(kSumIp)},
         "action/pedit_without_csum"},
        {"tracked, then written", ETH_P_IP, {track(7), kTtl, sum(kSumIp)}, ""},
        {"on both sides",
         ETH_P_IP,
         {kMac, track(7), kTtl, sum(kSumIp)},
         "action/pedit_after_ct"},
        {"translated, then written",
         ETH_P_IP,
         {track(7, true), kTtl, sum(kSumIp)},
         "action/pedit_after_ct"},
        {"translated, then its address", ETH_P_IP, {track(7, true), kMac}, ""},
    };
    for (const auto &row : kLists) {
        SCOPED_TRACE(row.name);
        Filter f = filter(row.type, 0, row.actions);
        f.actions.push_back(redirect());
        Rules rules;
        const Reject r = translate(f, surroundings(), &rules);
        EXPECT_EQ(r ? r.name() : "", row.refused);
        if (!r) {
            take(f);
        }
    }
}

// What is written before ct is what it finds the connection by.
TEST(FlowerdRules, TheOrderOfTracking) {
    const Action sums = sum(kSumIp | kSumTcp);
    Filter f = filter(ETH_P_IP, 0, {kDestination, sums, track(7), redirect()});
    f.match.key.ip_proto = kTcp;
    f.match.mask.ip_proto = 0xff;
    EXPECT_EQ(take(f).actions.rewrite.n_ct_first, 0);
    f.actions = {track(7), kDestination, sums, redirect()};
    EXPECT_EQ(take(f).actions.rewrite.n_ct_first, 1);
}

TEST(FlowerdRules, NobodyToAskForConnections) {
    Surroundings s = surroundings();
    s.can_track = false;
    Rules rules;
    const Reject act =
        translate(filter(ETH_P_IP, 0, {track(7), redirect()}), s, &rules);
    ASSERT_TRUE(act);
    EXPECT_EQ(act.name(), "action/ct");
    const Reject key =
        translate(with_state(filter(ETH_P_IP, 0, {redirect()}), 0,
                             TCA_FLOWER_KEY_CT_FLAGS_TRACKED),
                  s, &rules);
    ASSERT_TRUE(key);
    EXPECT_EQ(key.name(), "key/ct");
}

// The bits that the library sets, by the fields' places.
TEST(FlowerdRules, SetFields) {
    Filter f = filter(ETH_P_IP, 0,
                      {kMac, kCountDown, kDestination, kTcpPort,
                       sum(kSumIp | kSumTcp), redirect()});
    f.match.key.ip_proto = kTcp;
    f.match.mask.ip_proto = 0xff;
    f.match.key.ip_ttl = 64;
    f.match.mask.ip_ttl = 0xff;
    const flowxlate::Actions taken = take(f).actions;
    xf_key value{}, mask{};
    static_assert(sizeof taken.rewrite.value <= sizeof value.word);
    std::memcpy(&value, taken.rewrite.value, sizeof taken.rewrite.value);
    std::memcpy(&mask, taken.rewrite.mask, sizeof taken.rewrite.mask);
    EXPECT_EQ(value.eth_dst[0], 2);
    EXPECT_EQ(mask.eth_dst[3], 0xff);
    EXPECT_EQ(mask.eth_dst[4], 0);
    EXPECT_EQ(value.nw_ttl, 63 & mask.nw_ttl);
    EXPECT_EQ(mask.nw_ttl, 63 ^ 64);
    EXPECT_EQ(ntohl(value.ipv4_dst), 9U);
    EXPECT_EQ(ntohs(value.tp_dst), 81);
    EXPECT_EQ(mask.tp_dst, 0xffff);
    EXPECT_EQ(mask.tp_src, 0);
}

}  // namespace
}  // namespace flowerd::unit
