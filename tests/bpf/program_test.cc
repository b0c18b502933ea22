// SPDX-License-Identifier: Apache-2.0
// Tables of packets for the XDP program: what goes in, which flows there are,
// and the verdict, the bytes and the statistics that must come out.
//
// What holds for every row is checked in check(): a hit counts the packet and
// its length once and counts no miss; a miss counts one miss for its reason,
// counts nothing else, and leaves every byte as it was.
#include <gtest/gtest.h>
#include <linux/bpf.h>

#include <cstdlib>
#include <iostream>
#include <random>

#include "program.h"

namespace flowxlate::test {
namespace {

constexpr uint16_t kIpv4 = 0x0800, kIpv6 = 0x86dd, kArp = 0x0806,
                   kVlan = 0x8100, kQinq = 0x88a8, kLldp = 0x88cc;
constexpr uint8_t kIcmpv6 = 58, kSctp = 132;
constexpr int kNone = -1;

struct Row {
    const char *name;
    std::vector<FlowSpec> flows;
    Packet packet;
    int hit;          // Index of the flow, or kNone.
    uint32_t verdict;
    int miss;         // enum xf_miss, or kNone.
    Frame out = {};   // Empty: the bytes that went in.
    uint16_t tcp_flags = 0;
    Frame raw = {};   // What goes in, if not 'packet'.

    Frame in() const { return raw.empty() ? packet.bytes() : raw; }
};

// Prints a row's name where the test fails.
void PrintTo(const Row &row, std::ostream *os) { *os << row.name; }

Program &program() {
    static Program p;
    return p;
}

// Runs a row on tables without a flow, and leaves them so.
void check_row(Program &p, const Row &row) {
    const Frame in = row.in();
    std::vector<FlowSlot> slots;

    p.maps().clear_misses(kIn);
    for (auto &f : row.flows) {
        slots.push_back(p.add(f));
    }
    const Run run = p.run(in);

    EXPECT_EQ(run.verdict, row.verdict);
    const Frame &expected = row.out.empty() ? in : row.out;
    if (row.verdict != XDP_DROP) {
        EXPECT_EQ(hex(run.out), hex(expected));
    }
    for (int i = 0; i < static_cast<int>(slots.size()); i++) {
        const auto stats = p.table().stats(slots[i]);
        const bool hit = i == row.hit;
        EXPECT_EQ(stats.packets, hit ? 1U : 0U) << "flow " << i;
        EXPECT_EQ(stats.bytes, hit ? in.size() : 0U) << "flow " << i;
        EXPECT_EQ(stats.used != 0, hit) << "flow " << i;
        EXPECT_EQ(stats.tcp_flags, hit ? row.tcp_flags : 0) << "flow " << i;
    }
    for (int r = 0; r < XF_N_MISSES; r++) {
        EXPECT_EQ(p.misses(static_cast<xf_miss>(r)), r == row.miss ? 1U : 0U)
            << "miss reason " << r;
    }
    for (auto slot : slots) {
        p.table().remove(slot);
        p.forget(slot);
    }
}

void check(Program &p, const Row &row) {
    p.remove_all();
    check_row(p, row);
}

Packet udp4() { return Packet().eth(kIpv4).ipv4(IPPROTO_UDP).udp(1000, 53).payload(22); }
Packet udp6() { return Packet().eth(kIpv6).ipv6(IPPROTO_UDP).udp(1000, 53).payload(22); }
Packet tcp4(uint16_t flags = 0x10) { return Packet().eth(kIpv4).ipv4(IPPROTO_TCP).tcp(1000, 80, flags).payload(30); }
Packet tcp6() { return Packet().eth(kIpv6).ipv6(IPPROTO_TCP).tcp(1000, 80).payload(30); }
Packet tagged_udp4(uint16_t tci) { return Packet().eth(kVlan).vlan(tci, kIpv4).ipv4(IPPROTO_UDP).udp(1000, 53).payload(22); }
FlowSpec to_udp4() { return FlowSpec::ipv4().proto(IPPROTO_UDP).tp_dst(53).to(kOut); }

// 'f' with a tag behind its addresses, or without it.
Frame with_tag(Frame f, uint16_t tpid, uint16_t tci) {
    f.insert(f.begin() + 12, {uint8_t(tpid >> 8), uint8_t(tpid), uint8_t(tci >> 8), uint8_t(tci)});
    return f;
}
Frame without_tag(Frame f) {
    f.erase(f.begin() + 12, f.begin() + 16);
    return f;
}

class ProgramTest : public testing::TestWithParam<Row> {};
TEST_P(ProgramTest, Row) { check(program(), GetParam()); }

const Row kMatchRows[] = {
    {"no flows: passed", {}, udp4(), kNone, XDP_PASS, XF_MISS_NO_FLOW},
    {"drop", {FlowSpec::ipv4().drop()}, udp4(), 0, XDP_DROP, kNone},
    {"output", {to_udp4()}, udp4(), 0, XDP_REDIRECT, kNone},
    {"other port: no hit", {FlowSpec::ipv4().proto(IPPROTO_UDP).tp_dst(54).to(kOut)}, udp4(), kNone, XDP_PASS, XF_MISS_NO_FLOW},
    {"other protocol, same ports: no hit", {FlowSpec::ipv4().proto(IPPROTO_TCP).tp_dst(53).to(kOut)}, udp4(), kNone, XDP_PASS, XF_MISS_NO_FLOW},
    {"second of two masks", {FlowSpec::ipv4().proto(IPPROTO_TCP).to(kOut), to_udp4()}, udp4(), 1, XDP_REDIRECT, kNone},
    {"prefix", {FlowSpec::ipv4().ipv4_dst(0x0a000000, 0xff000000).to(kOut)}, udp4(), 0, XDP_REDIRECT, kNone},
    {"other prefix", {FlowSpec::ipv4().ipv4_dst(0x0b000000, 0xff000000).to(kOut)}, udp4(), kNone, XDP_PASS, XF_MISS_NO_FLOW},
    {"ttl", {FlowSpec::ipv4().ttl(64).to(kOut)}, udp4(), 0, XDP_REDIRECT, kNone},
    {"other ttl", {FlowSpec::ipv4().ttl(63).to(kOut)}, udp4(), kNone, XDP_PASS, XF_MISS_NO_FLOW},
    {"tos", {FlowSpec::ipv4().tos(0x10).to(kOut)}, udp4(), 0, XDP_REDIRECT, kNone},
    {"traffic class", {FlowSpec::ipv6().tos(0x10).ttl(64).to(kOut)}, udp6(), 0, XDP_REDIRECT, kNone},
    {"IPv6 UDP", {FlowSpec::ipv6().proto(IPPROTO_UDP).tp_src(1000).tp_dst(53).to(kOut)}, udp6(), 0, XDP_REDIRECT, kNone},
    {"IPv6 flow, IPv4 packet", {FlowSpec::ipv6().proto(IPPROTO_UDP).tp_dst(53).to(kOut)}, udp4(), kNone, XDP_PASS, XF_MISS_NO_FLOW},
    {"TCP, flags counted", {FlowSpec::ipv4().proto(IPPROTO_TCP).to(kOut)}, tcp4(0x12), 0, XDP_REDIRECT, kNone, {}, 0x12},
    {"TCP flags matched", {FlowSpec::ipv4().proto(IPPROTO_TCP).tcp_flags(2, 0x17).to(kOut)}, tcp4(0x2), 0, XDP_REDIRECT, kNone, {}, 0x2},
    {"TCP flags not matched", {FlowSpec::ipv4().proto(IPPROTO_TCP).tcp_flags(2, 0x17).to(kOut)}, tcp4(0x12), kNone, XDP_PASS, XF_MISS_NO_FLOW},
    {"TCP reserved bits are part of the flags", {FlowSpec::ipv4().proto(IPPROTO_TCP).tcp_flags(0x802, 0xfff).to(kOut)}, tcp4(0x802), 0, XDP_REDIRECT, kNone, {}, 0x802},
    {"SCTP", {FlowSpec::ipv4().proto(kSctp).tp_dst(9).to(kOut)}, Packet().eth(kIpv4).ipv4(kSctp).sctp(8, 9).payload(20), 0, XDP_REDIRECT, kNone},
    {"ICMP type and code", {FlowSpec::ipv4().proto(IPPROTO_ICMP).tp_src(8).tp_dst(0).to(kOut)}, Packet().eth(kIpv4).ipv4(IPPROTO_ICMP).icmp(8, 0).payload(20), 0, XDP_REDIRECT, kNone},
    {"ICMP other code", {FlowSpec::ipv4().proto(IPPROTO_ICMP).tp_src(8).tp_dst(1).to(kOut)}, Packet().eth(kIpv4).ipv4(IPPROTO_ICMP).icmp(8, 0).payload(20), kNone, XDP_PASS, XF_MISS_NO_FLOW},
    {"ICMPv6", {FlowSpec::ipv6().proto(kIcmpv6).tp_src(128).tp_dst(0).to(kOut)}, Packet().eth(kIpv6).ipv6(kIcmpv6).icmp(128, 0).payload(20), 0, XDP_REDIRECT, kNone},
    {"ICMPv6's number in IPv4 has no type", {FlowSpec::ipv4().proto(kIcmpv6).tp_src(128).to(kOut)}, Packet().eth(kIpv4).ipv4(kIcmpv6).icmp(128, 0).payload(20), kNone, XDP_PASS, XF_MISS_NO_FLOW},
    {"unknown IP protocol", {FlowSpec::ipv4().proto(99).to(kOut)}, Packet().eth(kIpv4).ipv4(99).payload(20), 0, XDP_REDIRECT, kNone},
    {"ARP request", {FlowSpec::arp().proto(1).to(kOut)}, Packet().eth(kArp).arp(1), 0, XDP_REDIRECT, kNone},
    {"ARP reply, flow for requests", {FlowSpec::arp().proto(1).to(kOut)}, Packet().eth(kArp).arp(2), kNone, XDP_PASS, XF_MISS_NO_FLOW},
    {"LLDP", {FlowSpec::l2(kLldp).to(kOut)}, Packet().eth(kLldp).payload(50), 0, XDP_REDIRECT, kNone},
    {"MPLS matched by type alone", {FlowSpec(XF_CLASS_MPLS, 0x8847).to(kOut)}, Packet().eth(0x8847).payload(50), 0, XDP_REDIRECT, kNone},
    {"padding behind IP", {to_udp4()}, udp4().padding(10), 0, XDP_REDIRECT, kNone},
};

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

// A field that a packet does not have never matches as if it were zero.
const Row kAbsentRows[] = {
    {"ICMP type 0, UDP packet", {FlowSpec::ipv4().proto(IPPROTO_ICMP).tp_src(0).tp_dst(0).to(kOut)}, udp4(), kNone, XDP_PASS, XF_MISS_NO_FLOW},
    {"ICMP type 0, ICMP echo request", {FlowSpec::ipv4().proto(IPPROTO_ICMP).tp_src(0).to(kOut)}, Packet().eth(kIpv4).ipv4(IPPROTO_ICMP).icmp(8, 0), kNone, XDP_PASS, XF_MISS_NO_FLOW},
    {"UDP port 0, packet without ports", {FlowSpec::ipv4().proto(IPPROTO_UDP).tp_src(0).tp_dst(0).to(kOut)}, Packet().eth(kIpv4).ipv4(47).payload(20), kNone, XDP_PASS, XF_MISS_NO_FLOW},
    {"TCP flags 0, UDP packet", {FlowSpec::ipv4().proto(IPPROTO_TCP).tcp_flags(0, 0xfff).to(kOut)}, udp4(), kNone, XDP_PASS, XF_MISS_NO_FLOW},
    {"IPv4 address 0, ARP packet", {FlowSpec::ipv4().ipv4_dst(0, ~0U).to(kOut)}, Packet().eth(kArp).arp(1), kNone, XDP_PASS, XF_MISS_NO_FLOW},
    {"IPv4 address 0, LLDP packet", {FlowSpec::ipv4().ipv4_dst(0, ~0U).proto(0).to(kOut)}, Packet().eth(kLldp).payload(50), kNone, XDP_PASS, XF_MISS_NO_FLOW},
    {"any IPv4, IPv6 packet", {FlowSpec::ipv4().to(kOut)}, udp6(), kNone, XDP_PASS, XF_MISS_NO_FLOW},
    {"any IPv6, IPv4 packet", {FlowSpec::ipv6().to(kOut)}, udp4(), kNone, XDP_PASS, XF_MISS_NO_FLOW},
    {"VLAN 0 with priority 0, untagged packet", {FlowSpec::ipv4().vid(0).to(kOut)}, udp4(), kNone, XDP_PASS, XF_MISS_NO_FLOW},
};

// Invariant 2: what is not plainly well-formed is passed on, untouched.
const Row kMalformedRows[] = {
    {"802.3 length", {FlowSpec::l2(0x0026).to(kOut)}, Packet().eth(0x0026).payload(50), kNone, XDP_PASS, XF_MISS_ETHERTYPE},
    {"IP version 5", {FlowSpec::ipv4().to(kOut)}, udp4().poke(14, 0x55), kNone, XDP_PASS, XF_MISS_IP_HEADER},
    {"IP version 6 in IPv4", {FlowSpec::ipv4().to(kOut)}, udp4().poke(14, 0x65), kNone, XDP_PASS, XF_MISS_IP_HEADER},
    {"IPv4 header length 16", {FlowSpec::ipv4().to(kOut)}, udp4().poke(14, 0x44), kNone, XDP_PASS, XF_MISS_IP_HEADER},
    {"IPv4 header longer than packet", {FlowSpec::ipv4().to(kOut)}, udp4().poke(14, 0x4f), kNone, XDP_PASS, XF_MISS_IP_HEADER},
    {"IPv4 total length < header", {FlowSpec::ipv4().to(kOut)}, udp4().poke(17, 19), kNone, XDP_PASS, XF_MISS_IP_HEADER},
    {"IPv4 total length > frame", {FlowSpec::ipv4().to(kOut)}, udp4().poke(17, 0xff), kNone, XDP_PASS, XF_MISS_TRUNCATED},
    {"IPv4 padding of 256", {FlowSpec::ipv4().to(kOut)}, udp4().padding(256), kNone, XDP_PASS, XF_MISS_IP_HEADER},
    {"IPv4 options", {FlowSpec::ipv4().to(kOut)}, Packet().eth(kIpv4).ipv4(IPPROTO_UDP, 0, 4).udp(1, 53).payload(20), kNone, XDP_PASS, XF_MISS_IP_OPTIONS},
    {"IPv6 version 4", {FlowSpec::ipv6().to(kOut)}, udp6().poke(14, 0x41), kNone, XDP_PASS, XF_MISS_IP_HEADER},
    {"IPv6 payload > frame", {FlowSpec::ipv6().to(kOut)}, udp6().poke(19, 0xff), kNone, XDP_PASS, XF_MISS_TRUNCATED},
    {"IPv6 padding of 256", {FlowSpec::ipv6().to(kOut)}, udp6().padding(256), kNone, XDP_PASS, XF_MISS_IP_HEADER},
    {"IPv6 hop-by-hop", {FlowSpec::ipv6().to(kOut)}, Packet().eth(kIpv6).ipv6(0).ipv6_hop_by_hop(IPPROTO_UDP).udp(1, 53).payload(20), kNone, XDP_PASS, XF_MISS_IP_OPTIONS},
    {"IPv6 fragment header cut off", {FlowSpec::ipv6().to(kOut)}, Packet().eth(kIpv6).ipv6(44).payload(7), kNone, XDP_PASS, XF_MISS_TRUNCATED},
    {"IPv6 routing header", {FlowSpec::ipv6().to(kOut)}, Packet().eth(kIpv6).ipv6(43).payload(40), kNone, XDP_PASS, XF_MISS_IP_OPTIONS},
    {"IPv6 destination options", {FlowSpec::ipv6().to(kOut)}, Packet().eth(kIpv6).ipv6(60).payload(40), kNone, XDP_PASS, XF_MISS_IP_OPTIONS},
    {"IPv6 authentication header", {FlowSpec::ipv6().to(kOut)}, Packet().eth(kIpv6).ipv6(51).payload(40), kNone, XDP_PASS, XF_MISS_IP_OPTIONS},
    {"later fragment", {FlowSpec::ipv4().frag(2).to(kOut)}, Packet().eth(kIpv4).ipv4(IPPROTO_UDP, 0x0001).payload(40), 0, XDP_REDIRECT, kNone},
    {"later fragment, flow for first ones", {FlowSpec::ipv4().frag(1).to(kOut)}, Packet().eth(kIpv4).ipv4(IPPROTO_UDP, 0x2001).payload(40), kNone, XDP_PASS, XF_MISS_NO_FLOW},
    {"first fragment has ports", {FlowSpec::ipv4().frag(1).proto(IPPROTO_UDP).tp_dst(53).to(kOut)}, Packet().eth(kIpv4).ipv4(IPPROTO_UDP, 0x2000).udp(1, 53).payload(40), 0, XDP_REDIRECT, kNone},
    {"first fragment, flow for whole packets", {FlowSpec::ipv4().frag(0).to(kOut)}, Packet().eth(kIpv4).ipv4(IPPROTO_UDP, 0x2000).udp(1, 53).payload(40), kNone, XDP_PASS, XF_MISS_NO_FLOW},
    {"don't fragment is no fragment", {FlowSpec::ipv4().frag(0).to(kOut)}, Packet().eth(kIpv4).ipv4(IPPROTO_UDP, 0x4000).udp(1, 53).payload(40), 0, XDP_REDIRECT, kNone},
    {"UDP header cut off", {FlowSpec::ipv4().to(kOut)}, Packet().eth(kIpv4).ipv4(IPPROTO_UDP).payload(7), kNone, XDP_PASS, XF_MISS_TRUNCATED},
    {"UDP header in the padding", {FlowSpec::ipv4().to(kOut)}, Packet().eth(kIpv4).ipv4(IPPROTO_UDP).payload(4).padding(30), kNone, XDP_PASS, XF_MISS_TRUNCATED},
    {"TCP header cut off", {FlowSpec::ipv4().to(kOut)}, Packet().eth(kIpv4).ipv4(IPPROTO_TCP).payload(19), kNone, XDP_PASS, XF_MISS_TRUNCATED},
    {"TCP data offset 0", {FlowSpec::ipv4().to(kOut)}, tcp4().poke(46, 0x00), kNone, XDP_PASS, XF_MISS_TRUNCATED},
    {"TCP data offset 16", {FlowSpec::ipv4().to(kOut)}, tcp4().poke(46, 0x40), kNone, XDP_PASS, XF_MISS_TRUNCATED},
    {"TCP data offset behind the segment", {FlowSpec::ipv4().to(kOut)}, tcp4().poke(46, 0xe0), kNone, XDP_PASS, XF_MISS_TRUNCATED},
    {"TCP data offset at the end of the segment", {FlowSpec::ipv4().to(kOut)}, Packet().eth(kIpv4).ipv4(IPPROTO_TCP).tcp(1000, 80).payload(4).poke(46, 0x60), 0, XDP_REDIRECT, kNone, {}, 0x10},
    {"TCP data offset 0 over IPv6", {FlowSpec::ipv6().to(kOut)}, tcp6().poke(66, 0x00), kNone, XDP_PASS, XF_MISS_TRUNCATED},
    {"TCP data offset 0 in a first fragment", {FlowSpec::ipv4().to(kOut)}, Packet().eth(kIpv4).ipv4(IPPROTO_TCP, 0x2000).tcp(1000, 80).payload(40).poke(46, 0x00), kNone, XDP_PASS, XF_MISS_TRUNCATED},
    {"SCTP header cut off", {FlowSpec::ipv4().to(kOut)}, Packet().eth(kIpv4).ipv4(kSctp).payload(11), kNone, XDP_PASS, XF_MISS_TRUNCATED},
    {"ICMP header cut off", {FlowSpec::ipv4().to(kOut)}, Packet().eth(kIpv4).ipv4(IPPROTO_ICMP).payload(7), kNone, XDP_PASS, XF_MISS_TRUNCATED},
    {"ARP of other hardware", {FlowSpec::arp().to(kOut)}, Packet().eth(kArp).arp(1).poke(15, 6), kNone, XDP_PASS, XF_MISS_ARP},
    {"ARP of other protocol", {FlowSpec::arp().to(kOut)}, Packet().eth(kArp).arp(1).poke(16, 9), kNone, XDP_PASS, XF_MISS_ARP},
    {"ARP hardware length 8", {FlowSpec::arp().to(kOut)}, Packet().eth(kArp).arp(1).poke(18, 8), kNone, XDP_PASS, XF_MISS_ARP},
    {"ARP protocol length 16", {FlowSpec::arp().to(kOut)}, Packet().eth(kArp).arp(1).poke(19, 16), kNone, XDP_PASS, XF_MISS_ARP},
    {"ARP opcode 257 is not 1", {FlowSpec::arp().proto(1).to(kOut)}, Packet().eth(kArp).arp(257), kNone, XDP_PASS, XF_MISS_ARP},
};

// Invariant 5: no black hole.
const Row kOutputRows[] = {
    {"port that cannot transmit", {FlowSpec::ipv4().to(kDown)}, udp4(), kNone, XDP_PASS, XF_MISS_TX_PORT},
    {"port without a device", {FlowSpec::ipv4().to(kUnmapped)}, udp4(), kNone, XDP_PASS, XF_MISS_TX_PORT},
    {"port slot out of bounds", {FlowSpec::ipv4().to(PortSlot{XF_MAX_PORTS})}, udp4(), kNone, XDP_PASS, XF_MISS_INTERNAL},
    {"back out of the input port", {FlowSpec::ipv4().to(kIn)}, udp4(), 0, XDP_REDIRECT, kNone},
    {"frame as long as the MTU", {FlowSpec::ipv4().to(kNarrow)}, Packet().eth(kIpv4).ipv4(17).udp(1, 2).payload(100 - 42), 0, XDP_REDIRECT, kNone},
    {"frame longer than the MTU", {FlowSpec::ipv4().to(kNarrow)}, Packet().eth(kIpv4).ipv4(17).udp(1, 2).payload(101 - 42), kNone, XDP_PASS, XF_MISS_TX_LENGTH},
    {"tag does not count for the MTU", {FlowSpec::ipv4().push(5).to(kNarrow)}, Packet().eth(kIpv4).ipv4(17).udp(1, 2).payload(100 - 42), 0, XDP_REDIRECT, kNone, with_tag(Packet().eth(kIpv4).ipv4(17).udp(1, 2).payload(100 - 42).bytes(), kVlan, 5)},
    {"popped frame longer than the MTU", {FlowSpec::ipv4().vid(5).pop().to(kNarrow)}, Packet().eth(kVlan).vlan(5, kIpv4).ipv4(17).udp(1, 2).payload(101 - 42), kNone, XDP_PASS, XF_MISS_TX_LENGTH},
};

// Invariant 6: checksums.
const Row kChecksumRows[] = {
    {"partial UDP", {FlowSpec::ipv4().to(kOut)}, udp4().partial(), 0, XDP_REDIRECT, kNone, udp4().bytes()},
    {"partial UDP, odd length", {FlowSpec::ipv4().to(kOut)}, udp4().payload(1).partial(), 0, XDP_REDIRECT, kNone, udp4().payload(1).bytes()},
    {"partial UDP, no payload", {FlowSpec::ipv4().to(kOut)}, Packet().eth(kIpv4).ipv4(17).udp(1, 2).partial(), 0, XDP_REDIRECT, kNone, Packet().eth(kIpv4).ipv4(17).udp(1, 2).bytes()},
    {"partial TCP, no payload", {FlowSpec::ipv4().to(kOut)}, Packet().eth(kIpv4).ipv4(6).tcp(1, 2).partial(), 0, XDP_REDIRECT, kNone, Packet().eth(kIpv4).ipv4(6).tcp(1, 2).bytes(), 0x10},
    {"partial UDP with padding, which is not summed", {FlowSpec::ipv4().to(kOut)}, udp4().padding(9).partial(), 0, XDP_REDIRECT, kNone, udp4().padding(9).bytes()},
    {"partial UDP over IPv6", {FlowSpec::ipv6().to(kOut)}, udp6().partial(), 0, XDP_REDIRECT, kNone, udp6().bytes()},
    {"partial TCP", {FlowSpec::ipv4().to(kOut)}, tcp4().partial(), 0, XDP_REDIRECT, kNone, tcp4().bytes(), 0x10},
    {"partial TCP over IPv6", {FlowSpec::ipv6().to(kOut)}, tcp6().partial(), 0, XDP_REDIRECT, kNone, tcp6().bytes(), 0x10},
    {"partial, full-sized", {FlowSpec::ipv4().to(kOut)}, Packet().eth(kIpv4).ipv4(17).udp(1, 2).payload(1472).partial(), 0, XDP_REDIRECT, kNone, Packet().eth(kIpv4).ipv4(17).udp(1, 2).payload(1472).bytes()},
    {"partial, pushed", {FlowSpec::ipv4().push(5).to(kOut)}, tcp4().partial(), 0, XDP_REDIRECT, kNone, with_tag(tcp4().bytes(), kVlan, 5), 0x10},
    {"partial, popped", {FlowSpec::ipv4().vid(5).pop().to(kOut)}, tagged_udp4(5).partial(), 0, XDP_REDIRECT, kNone, without_tag(tagged_udp4(5).bytes())},
    {"partial, passed on: the kernel completes it", {}, tcp4().partial(), kNone, XDP_PASS, XF_MISS_NO_FLOW},
    {"no UDP checksum stays none", {FlowSpec::ipv4().to(kOut)}, udp4().no_checksum(), 0, XDP_REDIRECT, kNone},
    {"whole checksums stay as they are", {FlowSpec::ipv4().to(kOut)}, tcp4(), 0, XDP_REDIRECT, kNone, {}, 0x10},
    {"first fragment is left alone", {FlowSpec::ipv4().to(kOut)}, Packet().eth(kIpv4).ipv4(17, 0x2000).udp(1, 2).payload(40).partial(), 0, XDP_REDIRECT, kNone},
    {"SCTP without CRC", {FlowSpec::ipv4().to(kOut)}, Packet().eth(kIpv4).ipv4(kSctp).sctp(1, 2, 0).payload(20), kNone, XDP_PASS, XF_MISS_TX_CHECKSUM},
    {"dropped whatever the checksum", {FlowSpec::ipv4().drop()}, tcp4().partial(), 0, XDP_DROP, kNone, {}, 0x10},
};

std::string row_name(const testing::TestParamInfo<Row> &info) {
    std::string s;
    for (const char *c = info.param.name; *c; c++) {
        s += std::isalnum(static_cast<unsigned char>(*c)) ? *c : '_';
    }
    return s;
}

INSTANTIATE_TEST_SUITE_P(Match, ProgramTest, testing::ValuesIn(kMatchRows), row_name);
INSTANTIATE_TEST_SUITE_P(Vlan, ProgramTest, testing::ValuesIn(kVlanRows), row_name);
INSTANTIATE_TEST_SUITE_P(Absent, ProgramTest, testing::ValuesIn(kAbsentRows), row_name);
INSTANTIATE_TEST_SUITE_P(Malformed, ProgramTest, testing::ValuesIn(kMalformedRows), row_name);
INSTANTIATE_TEST_SUITE_P(Output, ProgramTest, testing::ValuesIn(kOutputRows), row_name);
INSTANTIATE_TEST_SUITE_P(Checksum, ProgramTest, testing::ValuesIn(kChecksumRows), row_name);

// -- Setting fields ---------------------------------------------------------
//
// What must come out is made from the packet as it came by writing the fields
// and then computing each checksum from all that it covers.

// A field that can be set: where it is in struct xf_key, and in untagged frames
// of IPv4 and IPv6.
struct Field {
    const char *name;
    size_t key_at, size;
    size_t at4, at6;
    size_t size6 = size;
};
#define FIELD(NAME) #NAME, offsetof(xf_key, NAME), sizeof(xf_key::NAME)
const Field kEthDst = {FIELD(eth_dst), 0, 0};
const Field kEthSrc = {FIELD(eth_src), 6, 6};
const Field kTos = {FIELD(nw_tos), 15, 14};  // IPv6: half of two bytes.
const Field kTtl = {FIELD(nw_ttl), 22, 21};
const Field kIpSrc = {FIELD(ipv4_src), 26, 22, 16};
const Field kIpDst = {FIELD(ipv4_dst), 30, 38, 16};
const Field kTpSrc = {FIELD(tp_src), 34, 54};
const Field kTpDst = {FIELD(tp_dst), 36, 56};
const Field kFields[] = {kEthDst, kEthSrc, kTos, kTtl, kIpSrc, kIpDst, kTpSrc, kTpDst};

bool is_v6(const Frame &f) { return f[12] == 0x86; }
bool is_port(const Field &f) { return f.at4 >= kTpSrc.at4; }
size_t size_in(const Field &field, const Frame &f) { return is_v6(f) ? field.size6 : field.size; }
uint8_t proto_of(const Frame &f) { return f[is_v6(f) ? 20 : 23]; }
size_t key_at(const Field &field, const Frame &f) {
    return is_v6(f) && field.at4 == kIpDst.at4 ? offsetof(xf_key, ipv6_dst) : field.key_at;
}

// Where an untagged frame has the checksum of its transport header, 0 = nowhere.
size_t sum_at(const Frame &f) {
    const size_t l4 = is_v6(f) ? 54 : 34;
    switch (proto_of(f)) {
        case IPPROTO_TCP:
            return l4 + 16;
        case IPPROTO_UDP:
            return l4 + 6;
        case kIcmpv6:
            return is_v6(f) ? l4 + 2 : 0;
        default:
            return 0;
    }
}

void put16(Frame &f, size_t at, uint16_t v) {
    f[at] = v >> 8;
    f[at + 1] = v;
}

Frame with_ip_checksum(Frame f) {
    if (!is_v6(f)) {
        put16(f, 24, 0);
        put16(f, 24, ~ones_complement_sum(&f[14], 20));
    }
    return f;
}

// 'f', a whole packet, with the checksums that it should have.  UDP's "none"
// stays.
Frame with_checksums(Frame f) {
    const size_t at = sum_at(f), l4 = is_v6(f) ? 54 : 34;
    const size_t end = is_v6(f) ? 54 + (f[18] << 8 | f[19]) : 14 + (f[16] << 8 | f[17]);
    const bool is_udp = proto_of(f) == IPPROTO_UDP;
    f = with_ip_checksum(f);
    if (!at || (is_udp && !f[at] && !f[at + 1])) {
        return f;
    }
    put16(f, at, 0);
    const uint16_t pseudo = ones_complement_sum(&f[is_v6(f) ? 22 : 26], is_v6(f) ? 32 : 8, (end - l4) + proto_of(f));
    const uint16_t sum = ~ones_complement_sum(&f[l4], end - l4, pseudo);
    put16(f, at, is_udp && !sum ? 0xffff : sum);
    return f;
}

// The bits of 'mask' of a field of 'f' become those of 'value'; nothing else.
Frame with_field(Frame f, const Field &field, const Frame &value, const Frame &mask) {
    if (is_v6(f) && field.at6 == kTos.at6) {
        const uint8_t old = f[14] << 4 | f[15] >> 4;
        const uint8_t tos = (old & ~mask[0]) | (value[0] & mask[0]);
        f[14] = 0x60 | tos >> 4;
        f[15] = (f[15] & 0xf) | tos << 4;
        return f;
    }
    const size_t at = is_v6(f) ? field.at6 : field.at4;
    for (size_t i = 0; i < value.size(); i++) {
        f[at + i] = (f[at + i] & ~mask[i]) | (value[i] & mask[i]);
    }
    return f;
}

// A packet without a tag, and what it is to look like if no field is set.
struct Subject {
    const char *name;
    Frame in;
    Frame whole;           // With a complete checksum.
    bool fragment = false; // Only the first fragment of both is sent.
};

Frame first_fragment(Frame f) {
    f.resize(14 + 20 + 40);
    put16(f, 16, 60);
    put16(f, 20, 0x2000);
    return with_ip_checksum(f);
}

Packet ip(bool v6, uint8_t proto) { return v6 ? Packet().eth(kIpv6).ipv6(proto) : Packet().eth(kIpv4).ipv4(proto); }

std::vector<Subject> subjects(bool v6, size_t n) {
    const Packet tcp = ip(v6, IPPROTO_TCP).tcp(1000, 80).payload(n);
    const Packet udp = ip(v6, IPPROTO_UDP).udp(1000, 53).payload(n);
    const uint8_t icmp_proto = v6 ? kIcmpv6 : static_cast<uint8_t>(IPPROTO_ICMP);
    const Packet icmp = ip(v6, icmp_proto).icmp(v6 ? 128 : 8, 0).payload(n);
    auto same = [](const char *name, const Packet &p) {
        return Subject{name, with_checksums(p.bytes()), with_checksums(p.bytes())};
    };
    std::vector<Subject> all = {
        same("TCP", tcp), same("UDP", udp),
        same("UDP without checksum", Packet(udp).no_checksum()),
        same("UDP with padding", Packet(udp).padding(7)),
        same("ICMP", icmp), same("SCTP", ip(v6, kSctp).sctp(8, 9).payload(n)),
        same("unknown protocol", ip(v6, 99)),
        {"partial TCP", Packet(tcp).partial().bytes(), with_checksums(tcp.bytes())},
        {"partial UDP", Packet(udp).partial().bytes(), with_checksums(udp.bytes())},
    };
    if (!v6) {
        all.push_back(same("first fragment of TCP", Packet(tcp).payload(60)));
        all.back().fragment = true;
        all.push_back(same("first fragment of UDP", Packet(udp).payload(60)));
        all.back().fragment = true;
    }
    return all;
}

enum class Tag { kNone, kKept, kPushed, kPopped, kReplaced };
constexpr Tag kTags[] = {Tag::kNone, Tag::kKept, Tag::kPushed, Tag::kPopped, Tag::kReplaced};

struct Setting {
    Field field;
    Frame value, mask;
};

bool can_set(const Field &f, const Frame &in) {
    const uint8_t proto = proto_of(in);
    return !is_port(f) || proto == IPPROTO_TCP || proto == IPPROTO_UDP;
}

Row set_row(const Subject &s, Tag tag, const std::vector<Setting> &settings) {
    auto flow = is_v6(s.in) ? FlowSpec::ipv6() : FlowSpec::ipv4();
    Frame in = s.in, out = s.whole;
    for (const auto &[field, value, mask] : settings) {
        flow.set(key_at(field, in), value, mask);
        out = with_field(out, field, value, mask);
    }
    flow.proto(proto_of(in)).to(kOut);
    out = with_checksums(out);
    if (s.fragment) {
        in = first_fragment(in);
        out = first_fragment(out);
    }
    if (tag == Tag::kKept || tag == Tag::kPopped || tag == Tag::kReplaced) {
        flow.vid(5);
        in = with_tag(in, kVlan, 0x6005);
    }
    if (tag == Tag::kPopped) {
        flow.pop();
    } else if (tag == Tag::kPushed || tag == Tag::kReplaced) {
        tag == Tag::kPushed ? flow.push(7) : flow.replace(7);
        out = with_tag(out, kVlan, 7);
    } else if (tag == Tag::kKept) {
        out = with_tag(out, kVlan, 0x6005);
    }
    const uint16_t tcp_flags = proto_of(s.in) == IPPROTO_TCP ? 0x10 : 0;
    return {s.name, {flow}, {}, 0, XDP_REDIRECT, kNone, out, tcp_flags, in};
}

// For thousands of rows: waits for a grace period after some, not after each.
void check_set(Program &p, const Row &row) {
    constexpr int kSome = 50;  // Each may use a subtable up.
    static int n = 0;
    if (n++ % kSome == 0) {
        p.remove_all();
    }
    check_row(p, row);
}

TEST(SetField, EachFieldOfEachPacket) {
    for (bool v6 : {false, true}) {
        for (auto &s : subjects(v6, 31)) {
            for (auto &field : kFields) {
                if (!can_set(field, s.in)) {
                    continue;
                }
                const size_t n = size_in(field, s.in);
                for (Tag tag : kTags) {
                    SCOPED_TRACE(std::string(s.name) + (v6 ? " over IPv6, " : " over IPv4, ") + field.name + ", tag " + std::to_string(static_cast<int>(tag)));
                    check_set(program(), set_row(s, tag, {{field, Frame(n, 0xa7), Frame(n, 0xff)}}));
                }
            }
        }
    }
}

// A mask writes its bits; the value that is there already changes nothing, not
// even the checksum.
TEST(SetField, MaskedAndSame) {
    for (bool v6 : {false, true}) {
        for (auto &s : subjects(v6, 30)) {
            for (auto &field : kFields) {
                if (!can_set(field, s.in)) {
                    continue;
                }
                SCOPED_TRACE(std::string(s.name) + (v6 ? " over IPv6, " : " over IPv4, ") + field.name);
                const size_t n = size_in(field, s.in);
                check_set(program(), set_row(s, Tag::kNone, {{field, Frame(n, 0xff), Frame(n, 0x81)}}));
                const size_t at = v6 ? field.at6 : field.at4;
                const Frame same = v6 && field.at6 == kTos.at6 ? Frame{0x10} : Frame(&s.in[at], &s.in[at] + n);
                check_set(program(), set_row(s, Tag::kNone, {{field, same, Frame(n, 0xff)}}));
            }
        }
    }
}

uint64_t seed() {
    const char *s = std::getenv("TEST_SEED");
    return s ? std::strtoull(s, nullptr, 0) : std::random_device()();
}

// Any fields of any packet: what comes out is a packet built anew.
TEST(SetField, Random) {
    const uint64_t first = seed();
    std::cout << "TEST_SEED=" << first << "\n";
    std::mt19937 random(first);
    auto bytes = [&](size_t n) {
        Frame f(n);
        std::generate(f.begin(), f.end(), std::ref(random));
        return f;
    };
    for (int i = 0; i < 5000; i++) {
        const auto all = subjects(random() % 2, random() % 1200);
        const Subject &s = all[random() % all.size()];
        std::vector<Setting> settings;
        for (auto &field : kFields) {
            const size_t n = size_in(field, s.in);
            if (can_set(field, s.in) && random() % 2) {
                settings.push_back({field, bytes(n), random() % 2 ? Frame(n, 0xff) : bytes(n)});
            }
        }
        SCOPED_TRACE(std::string(s.name) + " of round " + std::to_string(i) + ", TEST_SEED=" + std::to_string(first));
        check_set(program(), set_row(s, kTags[random() % 5], settings));
        if (HasFailure()) {
            return;
        }
    }
}

// A checksum that comes out as zero is sent as zero in TCP, as all ones in UDP.
TEST(SetField, ChecksumOfZero) {
    for (auto proto : {IPPROTO_UDP, IPPROTO_TCP}) {
        const Packet packet = proto == IPPROTO_UDP ? ip(false, proto).udp(1, 2).payload(20) : ip(false, proto).tcp(1, 2).payload(20);
        const Subject s{"", packet.bytes(), packet.bytes()};
        size_t n_zero = 0;
        // The port that makes up for all the rest, among others.
        const Frame whole = with_checksums(s.in);
        const uint32_t sum = whole[sum_at(whole)] << 8 | whole[sum_at(whole) + 1];
        for (uint32_t port = sum + 1 - 2; port <= sum + 1 + 2; port++) {
            const Frame value = {static_cast<uint8_t>(port >> 8), static_cast<uint8_t>(port)};
            const Row row = set_row(s, Tag::kNone, {{kTpSrc, value, {0xff, 0xff}}});
            check_set(program(), row);
            const size_t at = sum_at(s.in);
            const int got = row.out[at] << 8 | row.out[at + 1];
            n_zero += got == (proto == IPPROTO_UDP ? 0xffff : 0);
        }
        EXPECT_EQ(n_zero, 1U) << "no such packet";
    }
}

TEST(SetField, EthernetOfAnyClass) {
    const Frame mac = {0x02, 1, 2, 3, 4, 5}, ones(6, 0xff);
    const struct {
        const char *name;
        FlowSpec flow;
        Packet packet;
    } rows[] = {
        {"ARP", FlowSpec::arp(), Packet().eth(kArp).arp(1)},
        {"LLDP", FlowSpec::l2(kLldp), Packet().eth(kLldp).payload(2)},
        {"nothing behind the header", FlowSpec::l2(kLldp), Packet().eth(kLldp)},
    };
    for (auto &row : rows) {
        auto flow = row.flow;
        flow.set(kEthDst.key_at, mac, ones).set(kEthSrc.key_at, mac, {0xff, 0, 0, 0, 0, 0xf0}).to(kOut);
        const Frame in = row.packet.bytes();
        Frame out = with_field(in, kEthDst, mac, ones);
        out = with_field(out, kEthSrc, mac, {0xff, 0, 0, 0, 0, 0xf0});
        check_set(program(), {row.name, {flow}, row.packet, 0, XDP_REDIRECT, kNone, out});
    }
}

// What was wrong stays wrong: the packet is not blessed on its way.
TEST(SetField, WrongChecksumsStayWrong) {
    const Frame good = with_checksums(udp4().bytes());
    for (size_t at : {size_t{24}, sum_at(good)}) {
        Subject s{"", good, good};
        s.in[at] ^= 0x01;
        auto row = set_row(s, Tag::kNone, {{kIpDst, {10, 9, 8, 7}, Frame(4, 0xff)}});
        auto &p = program();
        p.remove_all();
        p.add(row.flows[0]);
        const flowxlate::test::Run run = p.run(row.in());
        EXPECT_EQ(run.verdict, XDP_REDIRECT);
        EXPECT_NE(hex(run.out), hex(row.out));
        EXPECT_NE(hex(run.out), hex(with_checksums(run.out)));
    }
}

TEST(SetField, NotWithoutAWayOut) {
    for (bool v6 : {false, true}) {
        for (auto &s : subjects(v6, 20)) {
            for (Tag tag : kTags) {
                auto row = set_row(s, tag, {{kTtl, {1}, {0xff}}, {kIpDst, Frame(v6 ? 16 : 4, 9), Frame(v6 ? 16 : 4, 0xff)}});
                row.flows[0].to(kDown);
                check_set(program(), {s.name, row.flows, {}, kNone, XDP_PASS, XF_MISS_TX_PORT, {}, 0, row.in()});
            }
        }
    }
}

// An index that no array has.
TEST(SetField, CorruptedIndex) {
    for (bool v6 : {false, true}) {
        for (auto &s : subjects(v6, 20)) {
            for (Tag tag : kTags) {
                const auto row = set_row(s, tag, {{kTtl, {1}, {0xff}}});
                auto &p = program();
                p.remove_all();
                auto &flow = p.table().memory().flows[index(p.add(row.flows[0]))];
                const auto good = flow.action.rewrite;
                flow.action.rewrite = XF_MAX_REWRITES;
                const flowxlate::test::Run run = p.run(row.in());
                flow.action.rewrite = good;
                EXPECT_EQ(run.verdict, XDP_PASS);
                EXPECT_EQ(hex(run.out), hex(row.in()));
                EXPECT_EQ(p.misses(XF_MISS_INTERNAL), 1U);
            }
        }
    }
}

// The kernel completes a partial checksum later, or there is none: nobody knows.
// What is not summed up can be set all the same.
TEST(SetField, GenericMode) {
    Program p(XF_PORT_TX_GENERIC);
    for (bool v6 : {false, true}) {
        for (auto &s : subjects(v6, 30)) {
            const bool partial = s.in != s.whole;
            for (auto &field : kFields) {
                if (!can_set(field, s.in)) {
                    continue;
                }
                SCOPED_TRACE(std::string(s.name) + (v6 ? " over IPv6, " : " over IPv4, ") + field.name);
                const size_t n = size_in(field, s.in);
                const bool summed = is_port(field) || field.at4 == kIpSrc.at4 || field.at4 == kIpDst.at4;
                const Setting setting{field, Frame(n, 0xa7), Frame(n, 0xff)};
                Row row = set_row(s, Tag::kNone, {setting});
                if (partial && summed) {
                    row = {s.name, row.flows, {}, kNone, XDP_PASS, XF_MISS_TX_CHECKSUM, {}, 0, row.in()};
                } else if (partial) {
                    row.out = with_ip_checksum(with_field(s.in, field, setting.value, setting.mask));
                }
                check_set(p, row);
            }
        }
    }
}

}  // namespace
}  // namespace flowxlate::test
