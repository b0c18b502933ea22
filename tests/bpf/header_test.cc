// SPDX-License-Identifier: Apache-2.0
// Headers that not every packet has: IPv6 labels, fragments, MPLS, ARP and
// Neighbour Discovery.  What a packet does not have never matches as if it were
// zero.
#include <iostream>

#include "bpf/abi/counters.h"
#include "reference.h"
#include "row.h"
#include "skb_program.h"

namespace flowxlate::test {
namespace {

#define AT(MEMBER) offsetof(xf_key, MEMBER)
const Frame kNoMac(6, 0), kOldMac = {2, 0, 0, 0, 0, 9};
const Frame kTarget = {0xfc, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7};

// -- IPv6 labels and fragments ----------------------------------------------

Packet frag4(uint8_t proto, uint16_t frag) { return Packet().eth(kIpv4).ipv4(proto, frag); }
Packet frag6(uint8_t proto, uint16_t offset) { return Packet().eth(kIpv6).ipv6(kFragment).ipv6_fragment(proto, offset); }
FlowSpec to_udp6() { return FlowSpec::ipv6().proto(IPPROTO_UDP).to(kOut); }
constexpr uint16_t kMore6 = 1, kLater6 = 8;

const Row kFragmentRows[] = {
    {"label", {FlowSpec::ipv6().label(0x12345).to(kOut)}, udp6(), 0, XDP_REDIRECT, kNone},
    missing("other label", {FlowSpec::ipv6().label(0x12344).to(kOut)}, udp6()),
    {"label, not the traffic class beside it", {FlowSpec::ipv6().label(0x12345).to(kOut)}, udp6().poke(14, 0x6f).poke(15, 0xf1), 0, XDP_REDIRECT, kNone},
    {"traffic class, not the label beside it", {FlowSpec::ipv6().tos(0xff).to(kOut)}, udp6().poke(14, 0x6f).poke(15, 0xf1), 0, XDP_REDIRECT, kNone},
    {"part of a label", {FlowSpec::ipv6().match(AT(ipv6_label), {0, 0, 0x23, 0}, {0, 0, 0xff, 0}).to(kOut)}, udp6(), 0, XDP_REDIRECT, kNone},
    {"IPv4: first fragment of TCP has flags", {FlowSpec::ipv4().frag(1).proto(IPPROTO_TCP).tcp_flags(0x10, 0xfff).to(kOut)}, frag4(IPPROTO_TCP, 0x2000).tcp(1, 2).payload(40), 0, XDP_REDIRECT, kNone, {}, 0x10},
    {"IPv4: last fragment", {FlowSpec::ipv4().frag(2).proto(17).to(kOut)}, frag4(IPPROTO_UDP, 0x0003).payload(40), 0, XDP_REDIRECT, kNone},
    {"IPv4: later fragment shorter than a header", {FlowSpec::ipv4().frag(2).proto(IPPROTO_TCP).to(kOut)}, frag4(IPPROTO_TCP, 3).payload(1), 0, XDP_REDIRECT, kNone},
    {"IPv4: later fragment is not the header it looks like", {FlowSpec::ipv4().frag(2).tp_dst(0).match(AT(tcp_flags), {0, 0}).to(kOut)}, frag4(IPPROTO_TCP, 3).tcp(1, 2).payload(9), 0, XDP_REDIRECT, kNone},
    {"IPv6: first fragment has ports", {to_udp6().frag(1).tp_src(1).tp_dst(53)}, frag6(17, kMore6).udp(1, 53).payload(40), 0, XDP_REDIRECT, kNone},
    {"IPv6: first fragment of TCP has flags", {FlowSpec::ipv6().frag(1).proto(6).tcp_flags(2, 0xfff).to(kOut)}, frag6(6, kMore6).tcp(1, 53, 2).payload(40), 0, XDP_REDIRECT, kNone, {}, 2},
    {"IPv6: first fragment of ICMPv6 has a type", {FlowSpec::ipv6().frag(1).proto(kIcmpv6).tp_src(128).to(kOut)}, frag6(kIcmpv6, kMore6).icmp(128, 0).payload(40), 0, XDP_REDIRECT, kNone},
    missing("IPv6: first fragment, flow for whole packets", {to_udp6().frag(0)}, frag6(17, kMore6).udp(1, 53).payload(40)),
    missing("IPv6: first fragment, flow for later ones", {FlowSpec::ipv6().frag(2).to(kOut)}, frag6(17, kMore6).udp(1, 53).payload(40)),
    {"IPv6: later fragment has protocol 44", {FlowSpec::ipv6().frag(2).proto(kFragment).to(kOut)}, frag6(17, kLater6 | kMore6).udp(1, 53).payload(40), 0, XDP_REDIRECT, kNone},
    {"IPv6: last fragment", {FlowSpec::ipv6().frag(2).proto(kFragment).to(kOut)}, frag6(17, kLater6).payload(40), 0, XDP_REDIRECT, kNone},
    {"IPv6: later fragment with nothing behind its header", {FlowSpec::ipv6().frag(2).to(kOut)}, frag6(17, kLater6), 0, XDP_REDIRECT, kNone},
    {"IPv6: later fragment of an extension header", {FlowSpec::ipv6().frag(2).proto(kFragment).to(kOut)}, frag6(60, kLater6).payload(16), 0, XDP_REDIRECT, kNone},
    missing("IPv6: later fragment does not have its protocol", {to_udp6()}, frag6(17, kLater6).udp(1, 53).payload(40)),
    missing("IPv6: later fragment does not have its ports", {FlowSpec::ipv6().tp_dst(53).to(kOut)}, frag6(17, kLater6).udp(1, 53).payload(40)),
    missing("IPv6: atomic fragment", {FlowSpec::ipv6().to(kOut)}, frag6(17, 0).udp(1, 53).payload(40), XF_MISS_IP_OPTIONS),
    missing("IPv6: reserved bits, which OVS takes for a fragment's", {FlowSpec::ipv6().to(kOut)}, frag6(17, 4).udp(1, 53).payload(40), XF_MISS_IP_OPTIONS),
    missing("IPv6: destination options in a first fragment", {FlowSpec::ipv6().to(kOut)}, frag6(60, kMore6).ipv6_hop_by_hop(17).udp(1, 2), XF_MISS_IP_OPTIONS),
    missing("IPv6: fragment of a fragment", {FlowSpec::ipv6().to(kOut)}, frag6(kFragment, kMore6).payload(40), XF_MISS_IP_OPTIONS),
    missing("IPv6: fragment behind options", {FlowSpec::ipv6().to(kOut)}, Packet().eth(kIpv6).ipv6(0).ipv6_hop_by_hop(kFragment).ipv6_fragment(17, kLater6).payload(40), XF_MISS_IP_OPTIONS),
    missing("IPv6: first fragment, TCP header cut off", {FlowSpec::ipv6().to(kOut)}, frag6(6, kMore6).payload(19), XF_MISS_TRUNCATED),
    missing("IPv6: first fragment, UDP header cut off", {FlowSpec::ipv6().to(kOut)}, frag6(17, kMore6).payload(7), XF_MISS_TRUNCATED),
    missing("IPv6: fragment header in the padding", {FlowSpec::ipv6().to(kOut)}, Packet().eth(kIpv6).ipv6(kFragment).payload(4).padding(40), XF_MISS_TRUNCATED),
    {"IPv6: first fragment looks partial and is left alone", {to_udp6()}, frag6(17, kMore6).udp(1, 53).payload(40).partial(), 0, XDP_REDIRECT, kNone},
};

// -- MPLS and ARP -----------------------------------------------------------

const Row kMplsAndArpRows[] = {
    {"MPLS label stack entry", {FlowSpec::mpls().match(AT(mpls_lse), {0x00, 0x06, 0x41, 0x40}).to(kOut)}, Packet().eth(kMpls).mpls(0x00064140).payload(9), 0, XDP_REDIRECT, kNone},
    {"MPLS label alone", {FlowSpec::mpls().match(AT(mpls_lse), {0x00, 0x06, 0x40, 0}, {0xff, 0xff, 0xf0, 0}).to(kOut)}, Packet().eth(kMpls).mpls(0x00064e3f).mpls(0x100).payload(9), 0, XDP_REDIRECT, kNone},
    missing("MPLS other label", {FlowSpec::mpls().match(AT(mpls_lse), {0x00, 0x07, 0x40, 0}, {0xff, 0xff, 0xf0, 0}).to(kOut)}, Packet().eth(kMpls).mpls(0x00064140).payload(9)),
    missing("MPLS inner entry is not the outer one", {FlowSpec::mpls().match(AT(mpls_lse), {0, 0, 0x10, 0}, {0xff, 0xff, 0xf0, 0}).to(kOut)}, Packet().eth(kMpls).mpls(0x00064040).mpls(0x1140).payload(9)),
    {"MPLS multicast", {FlowSpec(XF_CLASS_MPLS, 0x8848).match(AT(mpls_lse), {0, 6, 0x41, 0x40}).to(kOut)}, Packet().eth(0x8848).mpls(0x00064140), 0, XDP_REDIRECT, kNone},
    missing("MPLS multicast, flow for unicast", {FlowSpec::mpls().to(kOut)}, Packet().eth(0x8848).mpls(0x00064140)),
    {"MPLS behind a tag", {FlowSpec::mpls().vid(5).match(AT(mpls_lse), {0, 6, 0x41, 0x40}).to(kOut)}, Packet().eth(kVlan).vlan(5, kMpls).mpls(0x00064140), 0, XDP_REDIRECT, kNone},
    missing("MPLS without an entry", {FlowSpec::mpls().to(kOut)}, Packet().eth(kMpls), XF_MISS_TRUNCATED),
    missing("MPLS entry cut off", {FlowSpec::mpls().to(kOut)}, Packet().eth(kMpls).payload(3), XF_MISS_TRUNCATED),
    {"ARP addresses and opcode", {FlowSpec::arp().proto(2).match(AT(arp_sha), {2, 0, 0, 0, 0, 1}).match(AT(ipv4_src), {10, 0, 0, 1}).match(AT(arp_tha), kNoMac).match(AT(ipv4_dst), {10, 0, 0, 2}).to(kOut)}, Packet().eth(kArp).arp(2), 0, XDP_REDIRECT, kNone},
    {"ARP target hardware address", {FlowSpec::arp().match(AT(arp_tha), {6, 5, 4, 3, 2, 1}).to(kOut)}, Packet().eth(kArp).arp(2).poke(32, 6).poke(33, 5).poke(34, 4).poke(35, 3).poke(36, 2).poke(37, 1), 0, XDP_REDIRECT, kNone},
    missing("ARP other sender hardware address", {FlowSpec::arp().match(AT(arp_sha), {2, 0, 0, 0, 0, 2}).to(kOut)}, Packet().eth(kArp).arp(2)),
    missing("ARP other sender address", {FlowSpec::arp().match(AT(ipv4_src), {10, 0, 0, 2}).to(kOut)}, Packet().eth(kArp).arp(2)),
    missing("ARP other target hardware address", {FlowSpec::arp().match(AT(arp_tha), {0, 0, 0, 0, 0, 1}).to(kOut)}, Packet().eth(kArp).arp(2)),
    missing("ARP other target address", {FlowSpec::arp().match(AT(ipv4_dst), {10, 0, 0, 1}).to(kOut)}, Packet().eth(kArp).arp(2)),
    {"ARP opcode 255", {FlowSpec::arp().proto(255).to(kOut)}, Packet().eth(kArp).arp(255), 0, XDP_REDIRECT, kNone},
    missing("ARP cut off", {FlowSpec::arp().to(kOut)}, Packet().eth(kArp).payload(27), XF_MISS_TRUNCATED),
};

// -- Neighbour Discovery ----------------------------------------------------

Packet icmp6() { return Packet().eth(kIpv6).ipv6(kIcmpv6); }
FlowSpec nd(uint8_t type) { return FlowSpec::ipv6().proto(kIcmpv6).tp_src(type).tp_dst(0).to(kOut); }

const Row kNdRows[] = {
    {"solicitation without option", {nd(kSolicit).match(AT(nd_target), kTarget).match(AT(nd_sll), kNoMac).match(AT(nd_tll), kNoMac)}, icmp6().nd(kSolicit), 0, XDP_REDIRECT, kNone},
    {"solicitation with source", {nd(kSolicit).match(AT(nd_target), kTarget).match(AT(nd_sll), kOldMac).match(AT(nd_tll), kNoMac)}, icmp6().nd(kSolicit).nd_option(kSll), 0, XDP_REDIRECT, kNone},
    {"advertisement with target", {nd(kAdvert).match(AT(nd_target), kTarget).match(AT(nd_tll), kOldMac).match(AT(nd_sll), kNoMac)}, icmp6().nd(kAdvert).nd_option(kTll), 0, XDP_REDIRECT, kNone},
    {"advertisement with source", {nd(kAdvert).match(AT(nd_sll), kOldMac)}, icmp6().nd(kAdvert).nd_option(kSll), 0, XDP_REDIRECT, kNone},
    missing("other target", {nd(kSolicit).match(AT(nd_target), Frame(16, 7))}, icmp6().nd(kSolicit)),
    missing("last bit of the target", {nd(kSolicit).match(AT(nd_target) + 15, {6})}, icmp6().nd(kSolicit)),
    missing("other source", {nd(kSolicit).match(AT(nd_sll), kNoMac)}, icmp6().nd(kSolicit).nd_option(kSll)),
    missing("the source is not the target's", {nd(kSolicit).match(AT(nd_tll), kOldMac)}, icmp6().nd(kSolicit).nd_option(kSll)),
    {"an option that is no address", {nd(kAdvert).match(AT(nd_target), kTarget).match(AT(nd_sll), kNoMac).match(AT(nd_tll), kNoMac)}, icmp6().nd(kAdvert).nd_option(14), 0, XDP_REDIRECT, kNone},
    {"padding is no option", {nd(kSolicit).match(AT(nd_sll), kNoMac)}, icmp6().nd(kSolicit).padding(8), 0, XDP_REDIRECT, kNone},
    missing("two options", {nd(kAdvert)}, icmp6().nd(kAdvert).nd_option(kSll).nd_option(kTll), XF_MISS_ND_OPTIONS),
    missing("an option of 16 bytes", {nd(kAdvert)}, icmp6().nd(kAdvert).nd_option(kSll, 2), XF_MISS_ND_OPTIONS),
    missing("an option that says 16 bytes", {nd(kAdvert)}, icmp6().nd(kAdvert).nd_option(kSll).poke(54 + 25, 2), XF_MISS_ND_OPTIONS),
    missing("an option that says 0 bytes", {nd(kAdvert)}, icmp6().nd(kAdvert).nd_option(kTll, 0), XF_MISS_ND_OPTIONS),
    missing("an option cut off", {nd(kAdvert)}, icmp6().nd(kAdvert).payload(7), XF_MISS_ND_OPTIONS),
    missing("the target cut off", {nd(kAdvert)}, icmp6().icmp(kAdvert, 0).payload(15), XF_MISS_TRUNCATED),
    missing("the target in the padding", {nd(kAdvert)}, icmp6().icmp(kAdvert, 0).padding(16), XF_MISS_TRUNCATED),
    {"code 1: no Neighbour Discovery", {FlowSpec::ipv6().proto(kIcmpv6).tp_src(kAdvert).tp_dst(1).match(AT(nd_target), Frame(16, 0)).to(kOut)}, icmp6().nd(kAdvert, 1).nd_option(kTll), 0, XDP_REDIRECT, kNone},
    {"router advertisement: no target", {nd(134).match(AT(nd_target), Frame(16, 0))}, icmp6().nd(134).nd_option(kSll), 0, XDP_REDIRECT, kNone},
    {"router advertisement with many options", {nd(134)}, icmp6().nd(134).nd_option(kSll).nd_option(3, 4).nd_option(5), 0, XDP_REDIRECT, kNone},
    missing("in a first fragment", {FlowSpec::ipv6().to(kOut)}, frag6(kIcmpv6, kMore6).nd(kSolicit), XF_MISS_ND_OPTIONS),
    {"in a later fragment: unknown", {FlowSpec::ipv6().proto(kFragment).match(AT(nd_target), Frame(16, 0)).to(kOut)}, frag6(kIcmpv6, kLater6).nd(kSolicit), 0, XDP_REDIRECT, kNone},
    {"behind two tags", {nd(kSolicit).any_tags().match(AT(nd_sll), kOldMac)}, Packet().eth(kQinq).vlan(5, kVlan).vlan(6, kIpv6).ipv6(kIcmpv6).nd(kSolicit).nd_option(kSll), 0, XDP_REDIRECT, kNone, {}, 0, {}, {}, 2},
};

// As flowxlate encodes them, with the fields that say that they are there.
const Row kAbsentHeaderRows[] = {
    missing("port 0, later fragment", {FlowSpec::ipv4().proto(17).frag(0).tp_src(0).tp_dst(0).to(kOut)}, frag4(17, 8).payload(40)),
    missing("port 0, first fragment with ports", {FlowSpec::ipv4().proto(17).frag(1).tp_dst(0).to(kOut)}, frag4(17, 0x2000).udp(1, 2).payload(40)),
    missing("port 0, later IPv6 fragment", {FlowSpec::ipv6().proto(17).tp_src(0).tp_dst(0).to(kOut)}, frag6(17, kLater6).payload(40)),
    missing("ICMPv6 type 0, later fragment of ICMPv6", {FlowSpec::ipv6().proto(kIcmpv6).tp_src(0).to(kOut)}, frag6(kIcmpv6, kLater6).payload(40)),
    missing("TCP flags 0, later fragment", {FlowSpec::ipv4().proto(6).frag(0).tcp_flags(0, 0xfff).to(kOut)}, frag4(6, 8).payload(40)),
    missing("ND target 0, echo request", {nd(kSolicit).match(AT(nd_target), Frame(16, 0))}, icmp6().icmp(128, 0).payload(24)),
    missing("ND target 0, UDP", {nd(kSolicit).match(AT(nd_target), Frame(16, 0))}, udp6()),
    missing("ND source 0, advertisement", {nd(kSolicit).match(AT(nd_sll), kNoMac)}, icmp6().nd(kAdvert).nd_option(kTll)),
    missing("MPLS entry 0, LLDP", {FlowSpec::mpls().match(AT(mpls_lse), {0, 0, 0, 0}).to(kOut)}, Packet().eth(kLldp).payload(40)),
    missing("MPLS entry 0, IPv4 from 0.0.0.0", {FlowSpec::mpls().match(AT(mpls_lse), {0, 0, 0, 0}).to(kOut)}, udp4().poke(26, 0).poke(29, 0)),
    missing("IPv6 label 0, IPv4", {FlowSpec::ipv6().label(0).to(kOut)}, udp4()),
    missing("ARP address 0, RARP", {FlowSpec::arp().match(AT(arp_tha), kNoMac).to(kOut)}, Packet().eth(0x8035).arp(3)),
    missing("ARP opcode 0, IPv4 with protocol 0", {FlowSpec::arp().proto(0).to(kOut)}, Packet().eth(kIpv4).ipv4(0).payload(9)),
    missing("inner tag 0, one tag", {FlowSpec::ipv4().vid(5).tag2(kVlan, 0).to(kOut)}, tagged_udp4(5)).tags(2),
    missing("inner tag 0, none", {FlowSpec::ipv4().any_tags().tag2(kVlan, 0).to(kOut)}, udp4()).tags(2),
    missing("recirculated, new packet", {FlowSpec::ipv4().recirc(1).to(kOut)}, udp4()),
    missing("recirculated with hash 0, new packet", {FlowSpec::ipv4().recirc(1).dp_hash(0, 0xff).to(kOut)}, udp4()),
};

// -- The reference ----------------------------------------------------------

// 'in' hits the flow that has all its headers, as the reference reads them,
// exact, or is passed on if the reference says so.
void check_against_reference(const Frame &in, uint32_t max_tags) {
    const auto parsed = parse(in, max_tags);
    auto &p = program();
    static int n = 0;
    if (n++ % (XF_MAX_MASKS - 1) == 0) {
        p.remove_all();  // Each has used a subtable up.
    }
    p.maps().set_max_tags(max_tags);
    auto flow = parsed ? exact(*parsed) : FlowSpec::ipv4();
    const auto slot = p.add(flow.drop());
    p.maps().clear_misses(kIn);
    const auto run = p.run(in);
    EXPECT_EQ(run.verdict, parsed ? XDP_DROP : XDP_PASS) << hex(in);
    EXPECT_EQ(p.misses(XF_MISS_NO_FLOW), 0U) << hex(in);
    p.table().remove(slot);
    p.forget(slot);
    p.maps().set_max_tags(1);
}

TEST(Reference, ParsesEachKindOfPacketAndItsTruncations) {
    for (auto &s : subjects(12)) {
        for (int n_tags = 0; n_tags <= 3; n_tags++) {
            Frame in = s.in;
            for (int i = 0; i < n_tags; i++) {
                in = with_tag(in, i % 2 ? kQinq : kVlan, 0x7000 + i);
            }
            SCOPED_TRACE(s.name + " behind " + std::to_string(n_tags));
            EXPECT_TRUE(parse(in, 2));
            for (size_t n = 14; n <= in.size(); n++) {
                check_against_reference(cut(in, n), 1 + n % 2);
                check_against_reference(cut(in, n), 2 - n % 2);
            }
            if (HasFailure()) {
                return;
            }
        }
    }
}

TEST(Reference, ParsesDamagedPackets) {
    const auto first = seed();
    std::mt19937 random(first);
    const auto all = subjects(20);
    int n_parsed = 0;
    for (int i = 0; i < 20000; i++) {
        Frame in = all[random() % all.size()].in;
        for (unsigned n = random() % 3; n > 0; n--) {
            in = with_tag(in, random() % 2 ? kVlan : kQinq, random());
        }
        // Mostly in the headers, where it changes how the rest is read.
        for (unsigned n = random() % 8; n > 0; n--) {
            in[12 + random() % std::min<size_t>(in.size() - 12, 80)] = random();
        }
        SCOPED_TRACE("TEST_SEED=" + std::to_string(first));
        const uint32_t max_tags = 1 + random() % 2;
        n_parsed += parse(in, max_tags).has_value();
        check_against_reference(in, max_tags);
        if (HasFailure()) {
            return;
        }
    }
    std::cout << n_parsed << " parse\n";
    EXPECT_GT(n_parsed, 5000);
    EXPECT_LT(n_parsed, 19000);
}

}  // namespace

INSTANTIATE_TEST_SUITE_P(Fragment, ProgramTest, testing::ValuesIn(kFragmentRows), row_name);
INSTANTIATE_TEST_SUITE_P(MplsAndArp, ProgramTest, testing::ValuesIn(kMplsAndArpRows), row_name);
INSTANTIATE_TEST_SUITE_P(NeighbourDiscovery, ProgramTest, testing::ValuesIn(kNdRows), row_name);
INSTANTIATE_TEST_SUITE_P(AbsentHeader, ProgramTest, testing::ValuesIn(kAbsentHeaderRows), row_name);
INSTANTIATE_TEST_SUITE_P(Fragment, SkbTest, testing::ValuesIn(at_skb(kFragmentRows)), row_name);
INSTANTIATE_TEST_SUITE_P(MplsAndArp, SkbTest, testing::ValuesIn(at_skb(kMplsAndArpRows)), row_name);
INSTANTIATE_TEST_SUITE_P(NeighbourDiscovery, SkbTest, testing::ValuesIn(at_skb(kNdRows)), row_name);
INSTANTIATE_TEST_SUITE_P(AbsentHeader, SkbTest, testing::ValuesIn(at_skb(kAbsentHeaderRows)), row_name);

}  // namespace flowxlate::test
