// SPDX-License-Identifier: Apache-2.0
// Recirculation: packets that pass several flows, and truncation.
#include <arpa/inet.h>

#include <algorithm>

#include "bpf/abi/counters.h"
#include "bpf/abi/packet.h"
#include "reference.h"
#include "row.h"
#include "skb_program.h"

namespace flowxlate::test {
namespace {

#define AT(MEMBER) offsetof(xf_key, MEMBER)
const Frame kMac = {2, 9, 9, 9, 9, 9}, kOnes(6, 0xff);

Packet echo6() { return Packet().eth(kIpv6).ipv6(kIcmpv6).icmp(128, 0).payload(24); }
Packet two_tags() { return Packet().eth(kQinq).vlan(5, kVlan).vlan(6, kIpv4).ipv4(6).tcp(1000, 80).payload(30); }
Packet three_tags() { return Packet().eth(kQinq).vlan(5, kVlan).vlan(6, kVlan).vlan(7, kIpv4).ipv4(17).udp(1, 2); }
FlowSpec first() { return FlowSpec::ipv4().recirc_to(7); }
FlowSpec second() { return FlowSpec::ipv4().recirc(7).to(kOut); }

// 'f' with a TTL of 63 and the checksum for that, or with kMac as destination.
Frame with_ttl63(Frame f) {
    f[22] = 63;
    f[24]++;  // RFC 1624: what goes from one word goes to the other.
    return f;
}
Frame to_mac(Frame f) {
    std::copy(kMac.begin(), kMac.end(), f.begin());
    return f;
}
FlowSpec set_ttl63(FlowSpec flow) { return flow.set(AT(nw_ttl), {63}, {0xff}); }
FlowSpec set_mac(FlowSpec flow) { return flow.set(AT(eth_dst), kMac, kOnes); }

const Row kRecircRows[] = {
    Row{"two flows", {first(), second()}, tcp4(), 0, XDP_REDIRECT, kNone, {}, 0x10}.passing({84, 84}),
    Row{"dropped by the second", {first(), second().drop()}, tcp4(0x12), 0, XDP_DROP, kNone, {}, 0x12}.passing({84, 84}),
    missing("no second flow", {first()}, tcp4(), XF_MISS_RECIRC),
    missing("second flow of another id", {first(), second().recirc(8)}, tcp4(), XF_MISS_RECIRC),
    missing("second flow of another class", {first(), FlowSpec::ipv6().recirc(7).to(kOut)}, tcp4(), XF_MISS_RECIRC),
    missing("second flow is for new packets", {first(), FlowSpec::ipv4().proto(6).tcp_flags(1, 1).to(kOut)}, tcp4(), XF_MISS_RECIRC),
    missing("set, then no second flow", {set_mac(set_ttl63(first())).push(9)}, tcp4().partial(), XF_MISS_RECIRC),
    missing("set, then no way out", {set_mac(set_ttl63(first())).push(9), second().vid(9).to(kDown)}, tcp4().partial(), XF_MISS_TX_PORT),
    missing("pushed until it is too long", {FlowSpec::ipv4().recirc_to(7).push(9), second().vid(9).to(kNarrow)}, tcp4().payload(17), XF_MISS_TX_LENGTH),
    Row{"pushed, as long as can be", {first().push(9), second().vid(9).to(kNarrow)}, tcp4().payload(16), 0, XDP_REDIRECT, kNone, with_tag(tcp4().payload(16).bytes(), kVlan, 9), 0x10}.passing({100, 104}),
    Row{"the second matches what the first has set", {set_ttl63(first()), set_mac(second().ttl(63))}, tcp4(), 0, XDP_REDIRECT, kNone, to_mac(with_ttl63(tcp4().bytes())), 0x10}.passing({84, 84}),
    missing("the second does not match what was", {set_ttl63(first()), second().ttl(64)}, tcp4(), XF_MISS_RECIRC),
    Row{"set and set back", {set_ttl63(first()), second().ttl(63).set(AT(nw_ttl), {64}, {0xff})}, tcp4(), 0, XDP_REDIRECT, kNone, {}, 0x10}.passing({84, 84}),
    Row{"set in the second, partial", {first(), set_ttl63(second())}, tcp4().partial(), 0, XDP_REDIRECT, kNone, with_ttl63(tcp4().bytes()), 0x10}.passing({84, 84}),
    Row{"pushed, then matched", {first().push(0x6009, kQinq), second().tag(kQinq, 9)}, tcp4(), 0, XDP_REDIRECT, kNone, with_tag(tcp4().bytes(), kQinq, 0x6009), 0x10}.passing({84, 88}),
    missing("pushed, then not matched as untagged", {first().push(9), second()}, tcp4(), XF_MISS_RECIRC),
    missing("pushed 802.1ad, then not matched as 802.1Q", {first().push(9, kQinq), second().tag(kVlan, 9)}, tcp4(), XF_MISS_RECIRC),
    Row{"popped, then matched", {first().vid(5).pop(), second()}, tagged_udp4(5), 0, XDP_REDIRECT, kNone, without_tag(tagged_udp4(5).bytes())}.passing({68, 64}),
    Row{"pushed and popped", {first().push(9), second().vid(9).pop()}, tcp4(), 0, XDP_REDIRECT, kNone, {}, 0x10}.passing({84, 88}),
    Row{"popped and pushed again", {first().vid(5).pop(), second().push(8)}, tagged_udp4(5), 0, XDP_REDIRECT, kNone, with_tag(without_tag(tagged_udp4(5).bytes()), kVlan, 8)}.passing({68, 64}),
    Row{"outer popped, inner matched", {first().tag(kQinq, 5).tag2(kVlan, 6).pop(), second().tag(kVlan, 6)}, two_tags(), 0, XDP_REDIRECT, kNone, without_tag(two_tags().bytes()), 0x10}.passing({92, 88}).tags(2),
    Row{"both replaced one after the other", {first().any_tags().pop(), second().vid(6).replace(8)}, two_tags(), 0, XDP_REDIRECT, kNone, with_tag(tcp4().bytes(), kVlan, 8), 0x10}.passing({92, 88}).tags(2),
    missing("a third tag would be pushed", {first().any_tags().push(9), second().any_tags()}, two_tags(), XF_MISS_INTERNAL).tags(2),
    missing("vlan-limit 1: a second tag would be payload", {first().vid(5).push(9), second().any_tags()}, tagged_udp4(5), XF_MISS_RECIRC),
    missing("vlan-limit 1: what is below the popped one was payload", {FlowSpec::l2(kVlan).vid(5).pop().recirc_to(7), FlowSpec::l2(kVlan).any_tags().recirc(7).to(kOut), second().any_tags()}, Packet().eth(kVlan).vlan(5, kVlan).vlan(6, kIpv4).ipv4(17).udp(1, 2), XF_MISS_RECIRC),
    missing("vlan-limit 1: replaced in front of payload", {FlowSpec::l2(kVlan).vid(5).replace(8).recirc_to(7), FlowSpec::l2(kVlan).any_tags().recirc(7).to(kOut)}, Packet().eth(kVlan).vlan(5, kVlan).vlan(6, kIpv4).ipv4(17).udp(1, 2), XF_MISS_RECIRC),
    Row{"vlan-limit 1: payload that stays where it is", {FlowSpec::l2(kVlan).vid(5).recirc_to(7), FlowSpec::l2(kVlan).vid(5).recirc(7).to(kOut)}, Packet().eth(kVlan).vlan(5, kVlan).vlan(6, kIpv4).ipv4(17).udp(1, 2), 0, XDP_REDIRECT, kNone}.passing({50, 50}),
    missing("vlan-limit 2: what is below the popped ones was payload", {FlowSpec::l2(kVlan).any_tags().pop().recirc_to(7), FlowSpec::l2(kVlan).any_tags().recirc(7).to(kOut), second().any_tags()}, three_tags(), XF_MISS_RECIRC).tags(2),
    Row{"eight flows", {FlowSpec::ipv4().recirc_to(1), FlowSpec::ipv4().recirc(1).recirc_to(2), FlowSpec::ipv4().recirc(2).recirc_to(3), FlowSpec::ipv4().recirc(3).recirc_to(4), FlowSpec::ipv4().recirc(4).recirc_to(5), FlowSpec::ipv4().recirc(5).recirc_to(6), FlowSpec::ipv4().recirc(6).recirc_to(7), FlowSpec::ipv4().recirc(7).to(kOut)}, tcp4(), 0, XDP_REDIRECT, kNone, {}, 0x10}.passing({84, 84, 84, 84, 84, 84, 84, 84}),
    missing("nine flows", {FlowSpec::ipv4().recirc_to(1), FlowSpec::ipv4().recirc(1).recirc_to(2), FlowSpec::ipv4().recirc(2).recirc_to(3), FlowSpec::ipv4().recirc(3).recirc_to(4), FlowSpec::ipv4().recirc(4).recirc_to(5), FlowSpec::ipv4().recirc(5).recirc_to(6), FlowSpec::ipv4().recirc(6).recirc_to(7), FlowSpec::ipv4().recirc(7).recirc_to(8), FlowSpec::ipv4().recirc(8).to(kOut)}, tcp4(), XF_MISS_RECIRC),
    missing("four flows, the last missing", {set_mac(FlowSpec::ipv4().recirc_to(1)), FlowSpec::ipv4().recirc(1).recirc_to(2), FlowSpec::ipv4().recirc(2).recirc_to(3)}, tcp4(), XF_MISS_RECIRC),
    missing("in a loop", {set_mac(first()), FlowSpec::ipv4().recirc(7).recirc_to(7).set(AT(nw_tos), {4}, {0xff})}, tcp4(), XF_MISS_RECIRC),
    missing("an unknown verdict between", {first(), [] { auto f = second(); f.action.verdict = 77; return f; }()}, tcp4(), XF_MISS_INTERNAL),
};

// The type says what is in an ICMPv6 packet, but the key was read before.
const Row kRecircNdRows[] = {
    missing("made a solicitation: its target is not known", {FlowSpec::ipv6().recirc_to(7).set(AT(tp_src) + 1, {kSolicit}, {0xff}), FlowSpec::ipv6().recirc(7).proto(kIcmpv6).tp_src(kSolicit).tp_dst(0).match(AT(nd_target), Frame(16, 0)).to(kOut)}, echo6(), XF_MISS_RECIRC),
    missing("made a solicitation by its code", {FlowSpec::ipv6().recirc_to(7).set(AT(tp_dst) + 1, {0}, {0xff}), FlowSpec::ipv6().recirc(7).proto(kIcmpv6).tp_src(kSolicit).tp_dst(0).match(AT(nd_target), Frame(16, 0)).to(kOut)}, Packet().eth(kIpv6).ipv6(kIcmpv6).nd(kSolicit, 1), XF_MISS_RECIRC),
    Row{"made another message without a target", {FlowSpec::ipv6().recirc_to(7).set(AT(tp_src) + 1, {129}, {0xff}), FlowSpec::ipv6().recirc(7).tp_src(129).drop()}, echo6(), 0, XDP_DROP, kNone}.passing({86, 86}),
    Row{"a target that is set", {FlowSpec::ipv6().recirc_to(7).set(AT(nd_target) + 15, {8}, {0xff}), FlowSpec::ipv6().recirc(7).tp_src(kSolicit).match(AT(nd_target) + 15, {8}).drop()}, Packet().eth(kIpv6).ipv6(kIcmpv6).nd(kSolicit), 0, XDP_DROP, kNone}.passing({78, 78}),
    Row{"an option that is not there is not set", {FlowSpec::ipv6().recirc_to(7).set(AT(nd_sll), kMac, kOnes), FlowSpec::ipv6().recirc(7).match(AT(nd_sll), Frame(6, 0)).drop()}, Packet().eth(kIpv6).ipv6(kIcmpv6).nd(kSolicit).nd_option(kTll), 0, XDP_DROP, kNone}.passing({86, 86}),
};

// -- Truncation -------------------------------------------------------------

Packet long_udp() { return Packet().eth(kIpv4).ipv4(17).udp(1, 2).payload(158); }  // 200 bytes.
FlowSpec cut_to(uint32_t n) { return FlowSpec::ipv4().trunc(n).to(kOut); }

const Row kTruncRows[] = {
    {"longer", {cut_to(100)}, long_udp(), 0, XDP_REDIRECT, kNone, cut(long_udp().bytes(), 100)},
    {"by one byte", {cut_to(199)}, long_udp(), 0, XDP_REDIRECT, kNone, cut(long_udp().bytes(), 199)},
    {"as long", {cut_to(200)}, long_udp(), 0, XDP_REDIRECT, kNone},
    {"shorter", {cut_to(201)}, long_udp(), 0, XDP_REDIRECT, kNone},
    {"shorter than any can be", {cut_to(0xffffffff)}, long_udp(), 0, XDP_REDIRECT, kNone},
    {"2^31 and pushed", {cut_to(0x80000000).push(5)}, long_udp(), 0, XDP_REDIRECT, kNone, with_tag(long_udp().bytes(), kVlan, 5)},
    {"2^32 - 1 and set", {set_mac(cut_to(0xffffffff))}, long_udp(), 0, XDP_REDIRECT, kNone, to_mac(long_udp().bytes())},
    {"to an Ethernet header", {cut_to(14)}, long_udp(), 0, XDP_REDIRECT, kNone, cut(long_udp().bytes(), 14)},
    missing("to less than an Ethernet header", {cut_to(13)}, long_udp(), XF_MISS_INTERNAL),
    {"the tag counts", {cut_to(100).push(5)}, long_udp(), 0, XDP_REDIRECT, kNone, cut(with_tag(long_udp().bytes(), kVlan, 5), 100)},
    {"longer only with the tag", {cut_to(200).push(5)}, long_udp(), 0, XDP_REDIRECT, kNone, cut(with_tag(long_udp().bytes(), kVlan, 5), 200)},
    {"no longer without the tag", {cut_to(64).vid(5).pop()}, tagged_udp4(5), 0, XDP_REDIRECT, kNone, without_tag(tagged_udp4(5).bytes())},
    {"longer without the tag", {cut_to(63).vid(5).pop()}, tagged_udp4(5), 0, XDP_REDIRECT, kNone, cut(without_tag(tagged_udp4(5).bytes()), 63)},
    {"two pushed, nothing else left", {cut_to(22).push(5).push(6)}, long_udp(), 0, XDP_REDIRECT, kNone, cut(with_tag(with_tag(long_udp().bytes(), kVlan, 5), kVlan, 6), 22)},
    {"partial: completed as a whole", {cut_to(60)}, long_udp().partial(), 0, XDP_REDIRECT, kNone, cut(long_udp().bytes(), 60)},
    {"partial, pushed", {cut_to(60).push(5)}, long_udp().partial(), 0, XDP_REDIRECT, kNone, cut(with_tag(long_udp().bytes(), kVlan, 5), 60)},
    {"set: the checksum is the whole packet's", {set_ttl63(cut_to(50))}, tcp4(), 0, XDP_REDIRECT, kNone, cut(with_ttl63(tcp4().bytes()), 50), 0x10},
    {"set where the packet is cut off", {set_ttl63(cut_to(16))}, tcp4(), 0, XDP_REDIRECT, kNone, cut(tcp4().bytes(), 16), 0x10},
    {"below the MTU", {cut_to(100).to(kNarrow)}, long_udp(), 0, XDP_REDIRECT, kNone, cut(long_udp().bytes(), 100)},
    missing("not below the MTU", {cut_to(101).to(kNarrow)}, long_udp(), XF_MISS_TX_LENGTH),
    {"with a tag below the MTU", {cut_to(104).to(kNarrow).push(5)}, long_udp(), 0, XDP_REDIRECT, kNone, cut(with_tag(long_udp().bytes(), kVlan, 5), 104)},
    missing("with a tag not below the MTU", {cut_to(105).to(kNarrow).push(5)}, long_udp(), XF_MISS_TX_LENGTH),
    missing("and no way out", {cut_to(50).to(kDown)}, long_udp().partial(), XF_MISS_TX_PORT),
    Row{"by the second flow", {first(), second().trunc(50)}, tcp4(), 0, XDP_REDIRECT, kNone, cut(tcp4().bytes(), 50), 0x10}.passing({84, 84}),
    {"ARP", {FlowSpec::arp().trunc(20).to(kOut)}, Packet().eth(kArp).arp(1), 0, XDP_REDIRECT, kNone, cut(Packet().eth(kArp).arp(1).bytes(), 20)},
};

// In generic mode the kernel completes a partial checksum after the cut, and
// drops what has lost its checksum field.
TEST(Trunc, GenericMode) {
    const Row rows[] = {
        {"whole", {cut_to(60)}, long_udp(), 0, XDP_REDIRECT, kNone, cut(long_udp().bytes(), 60)},
        {"partial, no longer", {cut_to(200)}, long_udp().partial(), 0, XDP_REDIRECT, kNone},
        missing("partial", {cut_to(199)}, long_udp().partial(), XF_MISS_TX_CHECKSUM),
        missing("partial, longer with a tag", {cut_to(203).push(5)}, long_udp().partial(), XF_MISS_TX_CHECKSUM),
        {"partial, with a tag", {cut_to(204).push(5)}, long_udp().partial(), 0, XDP_REDIRECT, kNone, with_tag(long_udp().partial().bytes(), kVlan, 5)},
        missing("SCTP without CRC", {cut_to(60)}, Packet().eth(kIpv4).ipv4(kSctp).sctp(1, 2, 0).payload(40), XF_MISS_TX_CHECKSUM),
        {"SCTP with CRC", {cut_to(60)}, Packet().eth(kIpv4).ipv4(kSctp).sctp(1, 2).payload(40), 0, XDP_REDIRECT, kNone, cut(Packet().eth(kIpv4).ipv4(kSctp).sctp(1, 2).payload(40).bytes(), 60)},
    };
    Program p(XF_PORT_TX_GENERIC);
    for (auto &row : rows) {
        SCOPED_TRACE(row.name);
        check(p, row);
    }
}

// -- Packet lengths ---------------------------------------------------------

// TCP and ARP of 84 and 60 bytes, UDP of 64 and a tag, with padding or without; and
// later fragments.
Packet padded_tcp() { return tcp4().padding(9); }
Packet padded_arp() { return Packet().eth(kArp).arp(1).padding(18); }
Packet padded_udp() { return tagged_udp4(5).padding(9); }
Packet fragment4() { return Packet().eth(kIpv4).ipv4(6, 9).payload(50).padding(9); }
Packet fragment6() { return Packet().eth(kIpv6).ipv6(kFragment).ipv6_fragment(6, 9).payload(50).padding(9); }
FlowSpec tcp_up_to(uint16_t n) { return FlowSpec::ipv4().up_to(n).to(kOut); }

const Row kLengthRows[] = {
    {"shorter", {tcp_up_to(85)}, tcp4(), 0, XDP_REDIRECT, kNone, {}, 0x10},
    {"as long", {tcp_up_to(84)}, tcp4(), 0, XDP_REDIRECT, kNone, {}, 0x10},
    missing("longer", {tcp_up_to(83)}, tcp4(), XF_MISS_PACKET_LENGTH),
    missing("any packet", {tcp_up_to(14)}, tcp4(), XF_MISS_PACKET_LENGTH),
    {"the longest", {tcp_up_to(65535)}, tcp4(), 0, XDP_REDIRECT, kNone, {}, 0x10},
    {"padding does not count", {tcp_up_to(84)}, padded_tcp(), 0, XDP_REDIRECT, kNone, {}, 0x10},
    missing("padding, longer", {tcp_up_to(83)}, padded_tcp(), XF_MISS_PACKET_LENGTH),
    {"padding of a later fragment", {tcp_up_to(84)}, fragment4(), 0, XDP_REDIRECT, kNone},
    missing("a later fragment", {tcp_up_to(83)}, fragment4(), XF_MISS_PACKET_LENGTH),
    {"padding of an IPv6 fragment", {FlowSpec::ipv6().up_to(112).to(kOut)}, fragment6(), 0, XDP_REDIRECT, kNone},
    missing("an IPv6 fragment", {FlowSpec::ipv6().up_to(111).to(kOut)}, fragment6(), XF_MISS_PACKET_LENGTH),
    {"IPv6", {FlowSpec::ipv6().up_to(uint16_t(tcp6().bytes().size())).to(kOut)}, tcp6().padding(3), 0, XDP_REDIRECT, kNone, {}, 0x10},
    missing("IPv6, longer", {FlowSpec::ipv6().up_to(uint16_t(tcp6().bytes().size() - 1)).to(kOut)}, tcp6().padding(3), XF_MISS_PACKET_LENGTH),
    {"padding of ARP counts", {FlowSpec::arp().up_to(60).to(kOut)}, padded_arp(), 0, XDP_REDIRECT, kNone},
    missing("ARP with padding", {FlowSpec::arp().up_to(59).to(kOut)}, padded_arp(), XF_MISS_PACKET_LENGTH),
    {"a tag counts", {tcp_up_to(68).vid(5)}, padded_udp(), 0, XDP_REDIRECT, kNone},
    missing("longer with a tag", {tcp_up_to(67).vid(5)}, padded_udp(), XF_MISS_PACKET_LENGTH),
    {"also one that is taken off then", {tcp_up_to(68).vid(5).pop()}, padded_udp(), 0, XDP_REDIRECT, kNone, without_tag(padded_udp().bytes())},
    missing("longer with the tag that is taken off then", {tcp_up_to(67).vid(5).pop()}, padded_udp(), XF_MISS_PACKET_LENGTH),
    {"not one that is put on then", {tcp_up_to(84).push(9)}, tcp4(), 0, XDP_REDIRECT, kNone, with_tag(tcp4().bytes(), kVlan, 9), 0x10},
    {"dropped", {FlowSpec::ipv4().up_to(84).drop()}, tcp4(), 0, XDP_DROP, kNone, {}, 0x10},
    missing("not dropped", {FlowSpec::ipv4().up_to(83).drop()}, tcp4(), XF_MISS_PACKET_LENGTH),
    missing("set and longer", {set_mac(set_ttl63(tcp_up_to(83))).push(9)}, tcp4().partial(), XF_MISS_PACKET_LENGTH),
    {"cut to less", {tcp_up_to(84).trunc(50)}, tcp4(), 0, XDP_REDIRECT, kNone, cut(tcp4().bytes(), 50), 0x10},
    missing("cut, but longer before", {tcp_up_to(83).trunc(50)}, tcp4(), XF_MISS_PACKET_LENGTH),
    Row{"by the second flow", {first(), second().up_to(84)}, tcp4(), 0, XDP_REDIRECT, kNone, {}, 0x10}.passing({84, 84}),
    missing("longer for the second", {set_ttl63(first()), second().up_to(83)}, tcp4(), XF_MISS_PACKET_LENGTH),
    missing("longer for the first", {first().up_to(83), second()}, tcp4(), XF_MISS_PACKET_LENGTH),
    Row{"a tag of the first counts", {first().push(9), second().vid(9).up_to(88)}, padded_tcp(), 0, XDP_REDIRECT, kNone, with_tag(padded_tcp().bytes(), kVlan, 9), 0x10}.passing({93, 97}),
    missing("longer with a tag of the first", {first().push(9), second().vid(9).up_to(87)}, padded_tcp(), XF_MISS_PACKET_LENGTH),
    Row{"a tag that the first takes off does not", {first().vid(5).pop(), second().up_to(64)}, padded_udp(), 0, XDP_REDIRECT, kNone, without_tag(padded_udp().bytes())}.passing({77, 73}),
    missing("longer without a tag", {first().vid(5).pop(), second().up_to(63)}, padded_udp(), XF_MISS_PACKET_LENGTH),
};

// -- Random chains ----------------------------------------------------------

// A packet on its way through a chain: bytes as they are there, checksums
// aside.  Each flow matches every bit that the reference reads in it.
struct Chain {
    Frame frame;
    FlowSpec flow;
    std::vector<FlowSpec> flows = {};
    std::vector<size_t> lengths = {};
    bool is_known = true;  // The program still knows what is in it.

    int n_tags() const { return !!parse(frame, 2)->key.vlan_tci + !!parse(frame, 2)->key.vlan2_tci; }

    void begin_flow(uint16_t recirc) {
        flow = exact(*parse(frame, 2));
        flow.recirc(recirc);
        lengths.push_back(frame.size());
    }

    void set(std::mt19937 &random) {
        const auto parsed = parse(frame, 2);
        for (auto &field : fields()) {
            // flowxlate refuses to set what may be a later fragment's.
            const bool refused = field.has != Has::kAll && !parsed->l4;
            if (!has_field(field, *parsed) || refused || random() % 3) {
                continue;
            }
            Frame mask = random() % 2 ? Frame(field.size, 0xff) : random_bytes(random, field.size);
            if (field.key_off == AT(ipv6_label)) {
                mask[0] = 0;
                mask[1] &= 0xf;
            }
            const Frame value = random_bytes(random, field.size);
            flow.set(field.key_off, value, mask);
            frame = with_field(frame, field, *parsed, value, mask);
        }
    }

    void change_tags(std::mt19937 &random) {
        for (unsigned n = random() % (n_tags() + 1); n > 0; n--) {
            flow.pop();
            frame = without_tag(frame);
        }
        for (unsigned n = random() % (3 - n_tags()); n > 0; n--) {
            const uint16_t tpid = random() % 2 ? kVlan : kQinq, tci = random() & ~XF_VLAN_PRESENT;
            flow.push(tci, tpid);
            frame = with_tag(frame, tpid, tci);
        }
    }
};

void check_random_chains(Program &p) {
    p.remove_all();  // Others leave flows that would match, too.
    const uint64_t seed_used = seed();
    std::mt19937 random(seed_used);
    int n_redirected = 0, n_unknown = 0;
    for (int i = 0; i < 6000; i++) {
        const auto all = subjects(random() % 200);
        const Subject &s = all[random() % all.size()];
        Frame in = s.in;
        for (unsigned n = random() % 3; n > 0; n--) {
            in = with_tag(in, random() % 2 ? kVlan : kQinq, random());
        }
        const Frame whole = p.completes() ? complete(in, 2) : in;
        const bool was_nd = parse(in, 2)->is_nd();
        Chain chain{whole, exact(*parse(in, 2))};
        const unsigned n_flows = 1 + random() % XF_MAX_STAGES;
        for (unsigned stage = 0; stage < n_flows && chain.is_known; stage++) {
            chain.begin_flow(stage);
            if (random() % 2) {
                chain.set(random);
            }
            const auto parsed = parse(chain.frame, 2);
            chain.is_known = stage + 1 == n_flows || (parsed && parsed->is_nd() == was_nd);
            if (parsed && random() % 2) {
                chain.change_tags(random);
            }
            stage + 1 == n_flows ? chain.flow.to(kOut) : chain.flow.recirc_to(stage + 1);
            chain.flows.push_back(chain.flow);
        }
        SCOPED_TRACE(s.name + " of round " + std::to_string(i) + ", TEST_SEED=" + std::to_string(seed_used));
        Row row{"", chain.flows, {}, 0, XDP_REDIRECT, kNone, {}, ntohs(parse(in, 2)->key.tcp_flags), in};
        row.lengths = chain.lengths;
        if (chain.is_known) {
            row.out = follow_checksums(whole, chain.frame, 2);
            n_redirected++;
        } else {
            row = Row{"", chain.flows, {}, kNone, XDP_PASS, XF_MISS_RECIRC, {}, 0, in};
            n_unknown++;
        }
        check_many(p, row.tags(2));
        if (testing::Test::HasFailure()) {
            return;
        }
    }
    EXPECT_GT(n_redirected, 5000);
    EXPECT_GT(n_unknown, 0);
}

TEST(Recirc, Random) { at_each_hook(check_random_chains); }

}  // namespace

INSTANTIATE_TEST_SUITE_P(Recirc, ProgramTest, testing::ValuesIn(kRecircRows), row_name);
INSTANTIATE_TEST_SUITE_P(RecircNd, ProgramTest, testing::ValuesIn(kRecircNdRows), row_name);
INSTANTIATE_TEST_SUITE_P(Recirc, SkbTest, testing::ValuesIn(at_skb(kRecircRows)), row_name);
INSTANTIATE_TEST_SUITE_P(RecircNd, SkbTest, testing::ValuesIn(at_skb(kRecircNdRows)), row_name);
INSTANTIATE_TEST_SUITE_P(PacketLength, ProgramTest, testing::ValuesIn(kLengthRows), row_name);
INSTANTIATE_TEST_SUITE_P(Trunc, ProgramTest, testing::ValuesIn(kTruncRows), row_name);

}  // namespace flowxlate::test
