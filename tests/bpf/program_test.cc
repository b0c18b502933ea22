// SPDX-License-Identifier: Apache-2.0
// Tables of packets for the XDP program: which flow they match, if any, and
// which packets are passed on although a flow matches.
#include "bpf/abi/counters.h"
#include "row.h"
#include "skb_program.h"

namespace flowxlate::test {
namespace {

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

}  // namespace

TEST_P(ProgramTest, Row) { check(program(), GetParam()); }
TEST_P(SkbTest, Row) { check(skb_program(), GetParam()); }
INSTANTIATE_TEST_SUITE_P(Match, ProgramTest, testing::ValuesIn(kMatchRows), row_name);
INSTANTIATE_TEST_SUITE_P(Absent, ProgramTest, testing::ValuesIn(kAbsentRows), row_name);
INSTANTIATE_TEST_SUITE_P(Malformed, ProgramTest, testing::ValuesIn(kMalformedRows), row_name);
INSTANTIATE_TEST_SUITE_P(Output, ProgramTest, testing::ValuesIn(kOutputRows), row_name);
INSTANTIATE_TEST_SUITE_P(Checksum, ProgramTest, testing::ValuesIn(kChecksumRows), row_name);
INSTANTIATE_TEST_SUITE_P(Match, SkbTest, testing::ValuesIn(at_skb(kMatchRows)), row_name);
INSTANTIATE_TEST_SUITE_P(Absent, SkbTest, testing::ValuesIn(at_skb(kAbsentRows)), row_name);
INSTANTIATE_TEST_SUITE_P(Malformed, SkbTest, testing::ValuesIn(at_skb(kMalformedRows)), row_name);
INSTANTIATE_TEST_SUITE_P(Output, SkbTest, testing::ValuesIn(at_skb(kOutputRows)), row_name);

}  // namespace flowxlate::test
