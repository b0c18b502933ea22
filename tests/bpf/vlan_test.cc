// SPDX-License-Identifier: Apache-2.0
// VLAN tags: which are looked behind, what flows match of them, and taking them
// off and putting them on.
#include <arpa/inet.h>

#include <algorithm>

#include "bpf/abi/counters.h"
#include "row.h"
#include "skb_program.h"

namespace flowxlate::test {
namespace {

Packet stacked(uint16_t outer, uint16_t inner) {
    return Packet().eth(outer).vlan(0x6005, inner).vlan(6, kIpv4).ipv4(IPPROTO_UDP).udp(1000, 53).payload(22);
}
Packet triple() {
    return Packet().eth(kQinq).vlan(5, kVlan).vlan(6, kVlan).vlan(7, kIpv4).ipv4(IPPROTO_UDP).udp(1000, 53).payload(22);
}
FlowSpec two_tags() { return FlowSpec::ipv4().vid(5).tag2(kVlan, 6).to(kOut); }

const Row kVlanRows[] = {
    {"tagged packet, flow for untagged", {to_udp4()}, tagged_udp4(5), kNone, XDP_PASS, XF_MISS_NO_FLOW},
    {"untagged packet, flow for VLAN 0", {FlowSpec::ipv4().vid(0).to(kOut)}, udp4(), kNone, XDP_PASS, XF_MISS_NO_FLOW},
    {"priority-tagged packet, flow for VLAN 0", {FlowSpec::ipv4().vid(0).to(kOut)}, tagged_udp4(0xe000), 0, XDP_REDIRECT, kNone},
    {"untagged packet, flow for any tag", {FlowSpec::ipv4().any_tag().to(kOut)}, udp4(), kNone, XDP_PASS, XF_MISS_NO_FLOW},
    {"VLAN id", {FlowSpec::ipv4().vid(5).to(kOut)}, tagged_udp4(5), 0, XDP_REDIRECT, kNone},
    {"VLAN id whatever the priority", {FlowSpec::ipv4().vid(5).to(kOut)}, tagged_udp4(0xe005), 0, XDP_REDIRECT, kNone},
    {"other VLAN id", {FlowSpec::ipv4().vid(6).to(kOut)}, tagged_udp4(5), kNone, XDP_PASS, XF_MISS_NO_FLOW},
    {"pop", {FlowSpec::ipv4().vid(5).pop().to(kOut)}, tagged_udp4(5), 0, XDP_REDIRECT, kNone, without_tag(tagged_udp4(5).bytes())},
    {"push", {to_udp4().push(0x6007)}, udp4(), 0, XDP_REDIRECT, kNone, with_tag(udp4().bytes(), kVlan, 0x6007)},
    {"push 802.1ad", {to_udp4().push(7, kQinq)}, udp4(), 0, XDP_REDIRECT, kNone, with_tag(udp4().bytes(), kQinq, 7)},
    {"replace", {FlowSpec::ipv4().vid(5).replace(0x2009).to(kOut)}, tagged_udp4(0x4005), 0, XDP_REDIRECT, kNone, with_tag(udp4().bytes(), kVlan, 0x2009)},
    {"pop of a short tagged frame", {FlowSpec::l2(kLldp).vid(5).pop().to(kOut)}, Packet().eth(kVlan).vlan(5, kLldp).payload(2), 0, XDP_REDIRECT, kNone, Packet().eth(kLldp).payload(2).bytes()},
    {"pop in a flow for untagged packets", {to_udp4().pop()}, udp4(), kNone, XDP_PASS, XF_MISS_INTERNAL},
    {"push on a tag", {FlowSpec::ipv4().vid(5).push(7).to(kOut)}, tagged_udp4(5), 0, XDP_REDIRECT, kNone, with_tag(tagged_udp4(5).bytes(), kVlan, 7)},
    {"push, then no way out", {to_udp4().push(7).to(kDown)}, udp4(), kNone, XDP_PASS, XF_MISS_TX_PORT},
    {"a second tag is payload", {FlowSpec::l2(kVlan).vid(5).to(kOut)}, Packet().eth(kVlan).vlan(5, kVlan).vlan(6, kIpv4).ipv4(17).udp(1, 53).payload(30), 0, XDP_REDIRECT, kNone},
};

const Row kTpidRows[] = {
    {"802.1Q", {FlowSpec::ipv4().tag(kVlan, 5).to(kOut)}, tagged_udp4(5), 0, XDP_REDIRECT, kNone},
    {"802.1ad", {FlowSpec::ipv4().tag(kQinq, 5).to(kOut)}, Packet().eth(kQinq).vlan(5, kIpv4).ipv4(17).udp(1, 2), 0, XDP_REDIRECT, kNone},
    missing("802.1ad, flow for 802.1Q", {FlowSpec::ipv4().tag(kVlan, 5).to(kOut)}, Packet().eth(kQinq).vlan(5, kIpv4).ipv4(17).udp(1, 2)),
    missing("802.1Q, flow for 802.1ad", {FlowSpec::ipv4().tag(kQinq, 5).to(kOut)}, tagged_udp4(5)),
    {"802.1ad, flow for either", {FlowSpec::ipv4().vid(5).to(kOut)}, Packet().eth(kQinq).vlan(5, kIpv4).ipv4(17).udp(1, 2), 0, XDP_REDIRECT, kNone},
    {"inner 802.1ad", {two_tags().tag2(kQinq, 6)}, stacked(kVlan, kQinq), 0, XDP_REDIRECT, kNone, {}, 0, {}, {}, 2},
    missing("inner 802.1Q, flow for inner 802.1ad", {two_tags().tag2(kQinq, 6)}, stacked(kQinq, kVlan)).tags(2),
    missing("inner 802.1ad, flow for inner 802.1Q", {two_tags()}, stacked(kQinq, kQinq)).tags(2),
    {"both 802.1ad", {two_tags().tag(kQinq, 5).tag2(kQinq, 6)}, stacked(kQinq, kQinq), 0, XDP_REDIRECT, kNone, {}, 0, {}, {}, 2},
    {"0x9100 is no tag", {FlowSpec::l2(0x9100).to(kOut)}, Packet().eth(0x9100).vlan(5, kIpv4).ipv4(17).udp(1, 2), 0, XDP_REDIRECT, kNone, {}, 0, {}, {}, 2},
};

const Row kTwoTagRows[] = {
    {"both matched", {two_tags()}, stacked(kQinq, kVlan), 0, XDP_REDIRECT, kNone, {}, 0, {}, {}, 2},
    missing("other inner id", {two_tags().tag2(kVlan, 7)}, stacked(kQinq, kVlan)).tags(2),
    missing("other outer id", {two_tags().vid(6)}, stacked(kQinq, kVlan)).tags(2),
    missing("two tags, flow for one", {FlowSpec::ipv4().vid(5).to(kOut)}, stacked(kVlan, kVlan)).tags(2),
    missing("one tag, flow for two", {two_tags()}, tagged_udp4(5)).tags(2),
    missing("one tag, flow for inner id 0", {two_tags().tag2(kVlan, 0)}, tagged_udp4(5)).tags(2),
    missing("untagged, flow for two with id 0", {FlowSpec::ipv4().vid(0).tag2(kVlan, 0).to(kOut)}, udp4()).tags(2),
    {"one tag, flow for one", {FlowSpec::ipv4().vid(5).to(kOut)}, tagged_udp4(5), 0, XDP_REDIRECT, kNone, {}, 0, {}, {}, 2},
    {"vlan-limit 1: the second is payload", {FlowSpec::l2(kVlan).vid(5).to(kOut)}, stacked(kQinq, kVlan), 0, XDP_REDIRECT, kNone},
    {"vlan-limit 1: the second 802.1ad is payload", {FlowSpec::l2(kQinq).vid(5).to(kOut)}, stacked(kVlan, kQinq), 0, XDP_REDIRECT, kNone},
    missing("vlan-limit 1: not looked behind", {two_tags(), FlowSpec::ipv4().vid(5).to(kOut)}, stacked(kVlan, kVlan)),
    missing("vlan-limit 2: not payload", {FlowSpec::l2(kVlan).vid(5).to(kOut)}, stacked(kVlan, kVlan)).tags(2),
    {"a third is payload", {FlowSpec::l2(kVlan).vid(5).tag2(kVlan, 6).to(kOut)}, triple(), 0, XDP_REDIRECT, kNone, {}, 0, {}, {}, 2},
    missing("a third is not looked behind", {FlowSpec::ipv4().any_tags().to(kOut)}, triple()).tags(2),
    {"pop of one in front of payload", {FlowSpec::l2(kVlan).vid(5).pop().to(kOut)}, stacked(kQinq, kVlan), 0, XDP_REDIRECT, kNone, without_tag(stacked(kQinq, kVlan).bytes())},
    {"pop both in front of a third", {FlowSpec::l2(kVlan).vid(5).tag2(kVlan, 6).pop().pop().to(kOut)}, triple(), 0, XDP_REDIRECT, kNone, without_tag(without_tag(triple().bytes())), 0, {}, {}, 2},
    {"802.3 length behind two tags", {FlowSpec::l2(0x26).any_tags().to(kOut)}, Packet().eth(kVlan).vlan(5, kVlan).vlan(6, 0x26).payload(40), kNone, XDP_PASS, XF_MISS_ETHERTYPE, {}, 0, {}, {}, 2},
};

// The limit is that of 802.1Q devices: four bytes more if there are tags at all.
Packet of_size(size_t n_tags, size_t untagged) {
    Packet p;
    p.eth(n_tags ? kVlan : kIpv4);
    for (size_t i = 0; i < n_tags; i++) {
        p.vlan(5, i + 1 < n_tags ? kVlan : kIpv4);
    }
    return p.ipv4(17).udp(1, 2).payload(untagged - 42);
}
FlowSpec to_narrow() { return FlowSpec::ipv4().any_tags().to(kNarrow); }

const Row kMtuRows[] = {
    {"one tag, as long as can be", {to_narrow()}, of_size(1, 100), 0, XDP_REDIRECT, kNone, {}, 0, {}, {}, 2},
    missing("one tag, too long", {to_narrow()}, of_size(1, 101), XF_MISS_TX_LENGTH).tags(2),
    {"two tags, as long as can be", {to_narrow()}, of_size(2, 96), 0, XDP_REDIRECT, kNone, {}, 0, {}, {}, 2},
    missing("two tags, too long", {to_narrow()}, of_size(2, 97), XF_MISS_TX_LENGTH).tags(2),
    {"one of two popped", {to_narrow().pop()}, of_size(2, 100), 0, XDP_REDIRECT, kNone, of_size(1, 100).bytes(), 0, {}, {}, 2},
    missing("one of two popped, too long", {to_narrow().pop()}, of_size(2, 101), XF_MISS_TX_LENGTH).tags(2),
    {"two of two popped", {to_narrow().pop().pop()}, of_size(2, 100), 0, XDP_REDIRECT, kNone, of_size(0, 100).bytes(), 0, {}, {}, 2},
    missing("two of two popped, too long", {to_narrow().pop().pop()}, of_size(2, 101), XF_MISS_TX_LENGTH).tags(2),
    {"two pushed", {to_narrow().push(5).push(5)}, of_size(0, 96), 0, XDP_REDIRECT, kNone, of_size(2, 96).bytes(), 0, {}, {}, 2},
    missing("two pushed, too long", {to_narrow().push(5).push(5)}, of_size(0, 97), XF_MISS_TX_LENGTH).tags(2),
};

// -- All combinations -------------------------------------------------------

struct Combination {
    int n_tags, n_pop, n_push;
    bool fits() const { return n_pop <= n_tags; }
    int n_after() const { return n_tags - n_pop + n_push; }
};

constexpr uint16_t kOuter = 0x6005, kInner = 0xb006;  // 0xb006 has the CFI bit.
struct Tag {
    uint16_t tpid, tci;
};
constexpr Tag kFirst = {kVlan, 0x2007}, kSecond = {kQinq, 0x4008};

// 'f' with tags as of a packet of 'c' that came or, if 'done', goes.
Frame tagged(Frame f, const Combination &c, bool done) {
    const int n_old = done ? c.n_tags - c.n_pop : c.n_tags;
    if (n_old >= 1) {
        f = with_tag(f, kVlan, c.n_tags == 2 ? kInner : kOuter);
    }
    if (n_old >= 2) {
        f = with_tag(f, kQinq, kOuter);
    }
    if (done && c.n_push >= 1) {
        f = with_tag(f, kFirst.tpid, kFirst.tci);
    }
    if (done && c.n_push >= 2) {
        f = with_tag(f, kSecond.tpid, kSecond.tci);
    }
    return f;
}

FlowSpec flow_of(const Combination &c) {
    auto flow = FlowSpec::ipv4().any_tags().to(kOut);
    for (int i = 0; i < c.n_pop; i++) {
        flow.pop();
    }
    if (c.n_push >= 1) {
        flow.push(kFirst.tci, kFirst.tpid);
    }
    if (c.n_push >= 2) {
        flow.push(kSecond.tci, kSecond.tpid);
    }
    return flow;
}

std::vector<Combination> combinations() {
    std::vector<Combination> all;
    for (int i = 0; i < 3 * 3 * 3; i++) {
        all.push_back({i % 3, i / 3 % 3, i / 9});
    }
    return all;
}

std::string name_of(const Combination &c) {
    return std::to_string(c.n_tags) + " tags, " + std::to_string(c.n_pop) + " popped, " + std::to_string(c.n_push) + " pushed";
}

// With the addresses set, a flow goes through the pipeline, which knows no more
// than two tags: such flows are refused before.
void check_combinations(Program &p) {
    const Frame mac = {2, 9, 9, 9, 9, 9};
    for (auto &c : combinations()) {
        for (bool sets : {false, true}) {
            for (bool partial : {false, p.completes()}) {
                SCOPED_TRACE(name_of(c) + (sets ? ", set" : "") + (partial ? ", partial" : ""));
                auto flow = flow_of(c);
                Frame body = tcp4().bytes();
                if (sets) {
                    flow.set(offsetof(xf_key, eth_dst), mac, Frame(6, 0xff));
                    std::copy(mac.begin(), mac.end(), body.begin());
                }
                const Frame in = tagged(partial ? tcp4().partial().bytes() : tcp4().bytes(), c, false);
                const bool in_pipeline = sets || !p.completes();
                const bool ok = c.fits() && !(in_pipeline && c.n_after() > 2);
                check_many(p, Row{"", {flow}, {}, ok ? 0 : kNone, ok ? XDP_REDIRECT : XDP_PASS, ok ? kNone : XF_MISS_INTERNAL, ok ? tagged(body, c, true) : Frame{}, uint16_t(ok ? 0x10 : 0), in}.tags(2));
            }
        }
    }
}

TEST(VlanCombinations, PopAndPush) { at_each_hook(check_combinations); }

// The same, one tag in each flow of a chain; the next sees what OVS would see.
TEST(VlanCombinations, OneInEachFlowOfAChain) {
    for (auto &c : combinations()) {
        if (!c.fits() || c.n_after() > 2 || c.n_pop + c.n_push > 3) {
            continue;
        }
        SCOPED_TRACE(name_of(c));
        std::vector<FlowSpec> flows;
        std::vector<size_t> lengths;
        const int n_steps = c.n_pop + c.n_push;
        for (int i = 0; i <= n_steps; i++) {
            const Combination before = {c.n_tags, std::min(i, c.n_pop), std::max(0, i - c.n_pop)};
            const Frame there = tagged(tcp4().bytes(), before, true);
            auto flow = FlowSpec::ipv4().any_tags().recirc(i);
            const int n = before.n_after();
            auto tag = [&](int which) {
                return n <= which ? Tag{} : Tag{uint16_t(there[12 + 4 * which] << 8 | there[13 + 4 * which]), uint16_t(there[14 + 4 * which] << 8 | there[15 + 4 * which])};
            };
            flow.mask.vlan_tci = flow.mask.vlan2_tci = 0xffff;
            flow.mask.tpids = 0xff;
            flow.key.vlan_tci = htons(n >= 1 ? tag(0).tci | XF_VLAN_PRESENT : 0);
            flow.key.vlan2_tci = htons(n >= 2 ? tag(1).tci | XF_VLAN_PRESENT : 0);
            flow.key.tpids = (tag(0).tpid == kQinq ? XF_TPID_OUTER_AD : 0) | (tag(1).tpid == kQinq ? XF_TPID_INNER_AD : 0);
            if (i == n_steps) {
                flow.to(kOut);
            } else if (i < c.n_pop) {
                flow.pop().recirc_to(i + 1);
            } else {
                const Tag t = i == c.n_pop ? kFirst : kSecond;
                flow.push(t.tci, t.tpid).recirc_to(i + 1);
            }
            flows.push_back(flow);
            lengths.push_back(there.size());
        }
        const Frame out = tagged(tcp4().bytes(), c, true);
        const Row row = Row{"", flows, {}, 0, XDP_REDIRECT, kNone, out, 0x10, tagged(tcp4().bytes(), c, false)}.passing(lengths).tags(2);
        at_each_hook([&](Program &p) { check_many(p, row); });
    }
}

// -- Headroom ---------------------------------------------------------------

// Of 256 bytes in front of a frame, the kernel keeps 40, and metadata takes what
// the test says: so many tags fit.
TEST(VlanHeadroom, NoRoomForATag) {
    const struct {
        uint32_t metadata;
        int n_fit;
    } rows[] = {{208, 2}, {212, 1}, {216, 0}};
    auto &p = program();
    for (auto &row : rows) {
        for (int n = 1; n <= 2; n++) {
            for (bool sets : {false, true}) {
                p.remove_all();
                auto flow = flow_of({0, 0, n});
                if (sets) {
                    flow.set(offsetof(xf_key, nw_ttl), {1}, {0xff});
                }
                const auto slot = p.add(flow);
                const Frame in = udp4().partial().bytes();
                bool ok;
                const auto run = p.run(in, 0, row.metadata, &ok);
                if (!ok) {
                    GTEST_SKIP() << "this kernel takes 32 bytes of metadata at most";
                }
                const bool fits = n <= row.n_fit;
                EXPECT_EQ(run.verdict, fits ? XDP_REDIRECT : XDP_PASS) << row.metadata << " " << n;
                EXPECT_EQ(p.misses(XF_MISS_HEADROOM), fits ? 0U : 1U);
                EXPECT_EQ(p.table().stats(slot).packets, fits ? 1U : 0U);
                if (!fits) {
                    EXPECT_EQ(hex(run.out), hex(in));
                } else if (!sets) {
                    EXPECT_EQ(hex(run.out), hex(tagged(udp4().bytes(), {0, 0, n}, true)));
                }
            }
        }
    }
}

}  // namespace

INSTANTIATE_TEST_SUITE_P(Vlan, ProgramTest, testing::ValuesIn(kVlanRows), row_name);
INSTANTIATE_TEST_SUITE_P(VlanTpid, ProgramTest, testing::ValuesIn(kTpidRows), row_name);
INSTANTIATE_TEST_SUITE_P(VlanTwo, ProgramTest, testing::ValuesIn(kTwoTagRows), row_name);
INSTANTIATE_TEST_SUITE_P(VlanMtu, ProgramTest, testing::ValuesIn(kMtuRows), row_name);
INSTANTIATE_TEST_SUITE_P(Vlan, SkbTest, testing::ValuesIn(at_skb(kVlanRows)), row_name);
INSTANTIATE_TEST_SUITE_P(VlanTpid, SkbTest, testing::ValuesIn(at_skb(kTpidRows)), row_name);
INSTANTIATE_TEST_SUITE_P(VlanTwo, SkbTest, testing::ValuesIn(at_skb(kTwoTagRows)), row_name);
INSTANTIATE_TEST_SUITE_P(VlanMtu, SkbTest, testing::ValuesIn(at_skb(kMtuRows)), row_name);

}  // namespace flowxlate::test
