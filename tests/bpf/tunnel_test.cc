// SPDX-License-Identifier: Apache-2.0
// Tunnels: packets that are taken out of one, put into one, or both.
#include <arpa/inet.h>

#include <algorithm>
#include <cstring>

#include "bpf/abi/counters.h"
#include "bpf/abi/tunnel.h"
#include "flowxlate/translate/tunnel.h"
#include "row.h"

namespace flowxlate::test {
namespace {

#define AT(MEMBER) offsetof(xf_key, MEMBER)
constexpr uint16_t kGenevePort = 6081, kVxlanPort = 4789, kDf = 0x4000;
const Frame kOption = {0x01, 0x02, 0x80, 0x01, 0, 3, 0, 2};
const Frame kLongOption = {0x01, 0x02, 0x80, 0x02, 0, 3, 0, 2, 0, 0, 0, 0};
const Frame kVniBytes = {0, 0x01, 0x23, 0x45};
const Frame kMac = {2, 9, 9, 9, 9, 9}, kOnes(6, 0xff);

// -- Outer packets ----------------------------------------------------------

Frame joined(Frame a, const Frame &b) {
    a.insert(a.end(), b.begin(), b.end());
    return a;
}

Frame geneve_header(const Frame &options = {}) {
    const auto words = static_cast<uint8_t>(options.size() / 4);
    return joined({words, 0, 0x65, 0x58, 0x01, 0x23, 0x45, 0}, options);
}
const Frame kVxlanHeader = {8, 0, 0, 0, 0x01, 0x23, 0x45, 0};

Packet outer4(uint16_t port, uint16_t frag = 0) { return Packet().eth(kIpv4).ipv4(IPPROTO_UDP, frag).udp(40000, port); }
Packet outer6(uint16_t port) { return Packet().eth(kIpv6).ipv6(IPPROTO_UDP).udp(40000, port); }
Packet geneve4(const Packet &inner, const Frame &options = {}, uint16_t frag = 0) { return outer4(kGenevePort, frag).data(joined(geneve_header(options), inner.bytes())); }
Packet geneve6(const Packet &inner, const Frame &options = {}) { return outer6(kGenevePort).data(joined(geneve_header(options), inner.bytes())); }
Packet vxlan4(const Packet &inner) { return outer4(kVxlanPort).data(joined(kVxlanHeader, inner.bytes())); }
Packet arp() { return Packet().eth(kArp).arp(1); }
Packet ping4() { return Packet().eth(kIpv4).ipv4(IPPROTO_ICMP).icmp(8, 0).payload(20); }
Packet ping6() { return Packet().eth(kIpv6).ipv6(kIcmpv6).icmp(128, 0).payload(20); }
// UDP whose length and checksum leave the last 8 bytes out (RFC 9868).
Packet surplus() {
    const Frame shorter = Packet().eth(kIpv4).ipv4(17).udp(1, 2).payload(16).bytes();
    return Packet().eth(kIpv4).ipv4(17).udp(1, 2).payload(24).poke(39, 24).poke(40, shorter[40]).poke(41, shorter[41]);
}
Packet bad_tcp4() { return tcp4().poke(50, 0x77); }
// At a byte of the tunnel's header over IPv4.
constexpr size_t kTunnelAt = 42;

FlowSpec takes_out(PortSlot port) { return FlowSpec::ipv4().proto(IPPROTO_UDP).out_of_tunnel(port); }
FlowSpec takes_out6(PortSlot port) { return FlowSpec::ipv6().proto(IPPROTO_UDP).out_of_tunnel(port); }
FlowSpec inner(FlowSpec flow, PortSlot port) { return flow.from(port).match(AT(tun_id), kVniBytes).to(kOut); }
FlowSpec in_geneve(const FlowSpec &flow) { return inner(flow, kGeneve); }
FlowSpec in_vxlan(const FlowSpec &flow) { return inner(flow, kVxlan); }
const std::vector<FlowSpec> kGeneveFlows = {takes_out(kGeneve), in_geneve(FlowSpec::ipv4())};

// -- Out of a tunnel --------------------------------------------------------

// 'passing' has the length with outer headers, and that without.
Row popped(const char *name, const std::vector<FlowSpec> &flows, const Packet &outer, const Frame &inner_frame, uint16_t tcp_flags = 0) {
    Row row{name, flows, outer, 0, XDP_REDIRECT, kNone, inner_frame, tcp_flags};
    row.flags_from = 1;  // The outer one is UDP.
    return row.passing({outer.bytes().size(), inner_frame.size()});
}

const Row kPopRows[] = {
    popped("Geneve", kGeneveFlows, geneve4(udp4()), udp4().bytes()),
    popped("Geneve, no checksum", kGeneveFlows, geneve4(udp4()).no_checksum(), udp4().bytes()),
    popped("Geneve, partial outer checksum", kGeneveFlows, geneve4(udp4()).partial(), udp4().bytes()),
    popped("Geneve, partial inner checksum", kGeneveFlows, geneve4(tcp4().partial()).no_checksum(), tcp4().bytes(), 0x10),
    popped("an option", {takes_out(kGeneve), in_geneve(FlowSpec::ipv4()).match(AT(tun_option), kOption)}, geneve4(udp4(), kOption), udp4().bytes()),
    popped("an option under a mask", {takes_out(kGeneve), in_geneve(FlowSpec::ipv4()).match(AT(tun_option), {1, 2, 0x80, 1, 0, 0, 0, 2}, {0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0xff})}, geneve4(udp4(), kOption), udp4().bytes()),
    missing("another option", {takes_out(kGeneve), in_geneve(FlowSpec::ipv4()).match(AT(tun_option) + 7, {3})}, geneve4(udp4(), kOption), XF_MISS_TUNNEL_FLOW),
    missing("no option where one is matched", {takes_out(kGeneve), in_geneve(FlowSpec::ipv4()).match(AT(tun_option), kOption)}, geneve4(udp4()), XF_MISS_TUNNEL_FLOW),
    missing("an option where none is matched", {takes_out(kGeneve), in_geneve(FlowSpec::ipv4()).match(AT(tun_option), Frame(8, 0))}, geneve4(udp4(), kOption), XF_MISS_TUNNEL_FLOW),
    missing("a longer option", kGeneveFlows, geneve4(udp4(), kLongOption), XF_MISS_TUNNEL_HEADER),
    missing("two options", kGeneveFlows, geneve4(udp4(), joined(kOption, kOption)), XF_MISS_TUNNEL_HEADER),
    missing("reserved bits of the option", kGeneveFlows, geneve4(udp4(), kOption).no_checksum().poke(kTunnelAt + 8 + 3, 0x21), XF_MISS_TUNNEL_HEADER),
    missing("another version", kGeneveFlows, geneve4(udp4()).no_checksum().poke(kTunnelAt, 0x40), XF_MISS_TUNNEL_HEADER),
    missing("no Ethernet in it", kGeneveFlows, geneve4(udp4()).no_checksum().poke(kTunnelAt + 2, 0x08).poke(kTunnelAt + 3, 0), XF_MISS_TUNNEL_HEADER),
    popped("OAM", {takes_out(kGeneve), in_geneve(FlowSpec::ipv4()).match(AT(tun_flags), {XF_TUNNEL_OAM})}, geneve4(udp4()).no_checksum().poke(kTunnelAt + 1, 0x80), udp4().bytes()),
    popped("critical options: OVS does not look", kGeneveFlows, geneve4(udp4()).no_checksum().poke(kTunnelAt + 1, 0x40), udp4().bytes()),
    popped("the checksum's flag", {takes_out(kGeneve), in_geneve(FlowSpec::ipv4()).match(AT(tun_flags), {XF_TUNNEL_CSUM})}, geneve4(udp4()), udp4().bytes()),
    missing("no checksum where one is matched", {takes_out(kGeneve), in_geneve(FlowSpec::ipv4()).match(AT(tun_flags), {XF_TUNNEL_CSUM})}, geneve4(udp4()).no_checksum(), XF_MISS_TUNNEL_FLOW),
    popped("don't fragment", {takes_out(kGeneve), in_geneve(FlowSpec::ipv4()).match(AT(tun_flags), {XF_TUNNEL_DF})}, geneve4(udp4(), {}, kDf).no_checksum(), udp4().bytes()),
    popped("don't fragment where that is not matched", kGeneveFlows, geneve4(udp4(), {}, kDf), udp4().bytes()),
    popped("may be fragmented", {takes_out(kGeneve), in_geneve(FlowSpec::ipv4()).match(AT(tun_flags), {0}, {XF_TUNNEL_DF})}, geneve4(udp4()), udp4().bytes()),
    missing("don't fragment where that is matched as not set", {takes_out(kGeneve), in_geneve(FlowSpec::ipv4()).match(AT(tun_flags), {0}, {XF_TUNNEL_DF})}, geneve4(udp4(), {}, kDf), XF_MISS_TUNNEL_FLOW),
    missing("may be fragmented where that is matched as set", {takes_out(kGeneve), in_geneve(FlowSpec::ipv4()).match(AT(tun_flags), {XF_TUNNEL_DF}, {XF_TUNNEL_DF})}, geneve4(udp4()), XF_MISS_TUNNEL_FLOW),
    popped("IPv6 around has no such flag", {takes_out6(kGeneve), in_geneve(FlowSpec::ipv4()).match(AT(tun_flags), {0}, {XF_TUNNEL_DF})}, geneve6(udp4()), udp4().bytes()),
    popped("outer addresses, TOS and TTL", {takes_out(kGeneve), in_geneve(FlowSpec::ipv4()).match(AT(tun_ipv4_src), {10, 0, 0, 1}).match(AT(tun_ipv4_dst), {10, 0, 0, 2}).match(AT(tun_ttl), {64}).match(AT(tun_family), {4})}, geneve4(udp4()), udp4().bytes()),
    missing("another remote", {takes_out(kGeneve), in_geneve(FlowSpec::ipv4()).match(AT(tun_ipv4_src), {10, 0, 0, 3})}, geneve4(udp4()), XF_MISS_TUNNEL_FLOW),
    missing("another network", {takes_out(kGeneve), FlowSpec::ipv4().from(kGeneve).match(AT(tun_id), {0, 1, 0x23, 0x46}).to(kOut)}, geneve4(udp4()), XF_MISS_TUNNEL_FLOW),
    missing("a flow of another tunnel port", {takes_out(kGeneve), in_vxlan(FlowSpec::ipv4())}, geneve4(udp4()), XF_MISS_TUNNEL_FLOW),
    missing("a flow of the port where it came in", {takes_out(kGeneve), FlowSpec::ipv4().proto(6).to(kOut)}, geneve4(tcp4()), XF_MISS_TUNNEL_FLOW),
    popped("IPv6 around", {takes_out6(kGeneve), in_geneve(FlowSpec::ipv4()).match(AT(tun_ipv6_src), {0xfc, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}).match(AT(tun_tos), {0x10}).match(AT(tun_family), {6})}, geneve6(udp4()), udp4().bytes()),
    popped("IPv6 around, no checksum", {takes_out6(kGeneve), in_geneve(FlowSpec::ipv4())}, geneve6(udp4()).no_checksum(), udp4().bytes()),
    popped("VXLAN", {takes_out(kVxlan), in_vxlan(FlowSpec::ipv4())}, vxlan4(udp4()).no_checksum(), udp4().bytes()),
    popped("VXLAN, checksum", {takes_out(kVxlan), in_vxlan(FlowSpec::ipv4())}, vxlan4(tcp4()), tcp4().bytes(), 0x10),
    missing("VXLAN without a network", {takes_out(kVxlan), in_vxlan(FlowSpec::ipv4())}, vxlan4(udp4()).no_checksum().poke(kTunnelAt, 0), XF_MISS_TUNNEL_HEADER),
    missing("VXLAN with a reserved bit", {takes_out(kVxlan), in_vxlan(FlowSpec::ipv4())}, vxlan4(udp4()).no_checksum().poke(kTunnelAt + 7, 1), XF_MISS_TUNNEL_HEADER),
    popped("IPv6 in it", {takes_out(kGeneve), in_geneve(FlowSpec::ipv6())}, geneve4(udp6()), udp6().bytes()),
    popped("ICMP in it", kGeneveFlows, geneve4(ping4()), ping4().bytes()),
    popped("ICMPv6 in it", {takes_out(kGeneve), in_geneve(FlowSpec::ipv6())}, geneve4(ping6()), ping6().bytes()),
    popped("ARP in it: the whole is summed", {takes_out(kGeneve), in_geneve(FlowSpec::arp())}, geneve4(arp()), arp().bytes()),
    popped("UDP without a checksum in it: the whole is summed", kGeneveFlows, geneve4(udp4().no_checksum()), udp4().no_checksum().bytes()),
    popped("more than UDP counts in it: the whole is summed", kGeneveFlows, geneve4(surplus()), surplus().bytes()),
    popped("a fragment in it", kGeneveFlows, geneve4(Packet().eth(kIpv4).ipv4(IPPROTO_UDP, 0x2000).udp(1, 2).payload(32)), Packet().eth(kIpv4).ipv4(IPPROTO_UDP, 0x2000).udp(1, 2).payload(32).bytes()),
    popped("padding in it", kGeneveFlows, geneve4(tcp4().padding(6)), tcp4().padding(6).bytes(), 0x10),
    popped("a tag in it", {takes_out(kGeneve), in_geneve(FlowSpec::ipv4()).vid(5)}, geneve4(tagged_udp4(5)), tagged_udp4(5).bytes()),
    missing("a wrong checksum", kGeneveFlows, geneve4(udp4()).poke(40, 1), XF_MISS_TUNNEL_CHECKSUM),
    missing("a wrong identifier under a checksum", kGeneveFlows, geneve4(udp4()).poke(kTunnelAt + 6, 0x46), XF_MISS_TUNNEL_CHECKSUM),
    missing("a wrong checksum in it", kGeneveFlows, geneve4(bad_tcp4()), XF_MISS_TUNNEL_CHECKSUM),
    missing("a wrong checksum of ARP", {takes_out(kGeneve), in_geneve(FlowSpec::arp())}, geneve4(arp()).poke(40, 1), XF_MISS_TUNNEL_CHECKSUM),
    popped("a wrong checksum in it, none around", kGeneveFlows, geneve4(bad_tcp4()).no_checksum(), bad_tcp4().bytes(), 0x10),
    missing("a wrong checksum of the outer IPv4 header", kGeneveFlows, geneve4(udp4()).no_checksum().poke(24, 0x55), XF_MISS_TUNNEL_HEADER),
    missing("padding around", kGeneveFlows, geneve4(udp4()).padding(2), XF_MISS_TUNNEL_HEADER),
    missing("another length of UDP", kGeneveFlows, geneve4(udp4()).no_checksum().poke(39, 20), XF_MISS_TUNNEL_HEADER),
    missing("nothing in it", kGeneveFlows, outer4(kGenevePort).data(geneve_header()), XF_MISS_TUNNEL_HEADER),
    missing("less than a header", kGeneveFlows, outer4(kGenevePort).data({0, 0, 0x65, 0x58}), XF_MISS_TUNNEL_HEADER),
    missing("less than its option", kGeneveFlows, outer4(kGenevePort).data({2, 0, 0x65, 0x58, 1, 0x23, 0x45, 0, 1, 2}), XF_MISS_TUNNEL_HEADER),
    missing("less than Ethernet in it", kGeneveFlows, outer4(kGenevePort).data(joined(geneve_header(), Frame(13, 2))), XF_MISS_TUNNEL_HEADER),
    missing("cut off in it", kGeneveFlows, outer4(kGenevePort).data(joined(geneve_header(), cut(udp4().bytes(), 40))), XF_MISS_TRUNCATED),
    missing("options of IPv4 in it", kGeneveFlows, geneve4(Packet().eth(kIpv4).ipv4(17, 0, 4).udp(1, 2)), XF_MISS_IP_OPTIONS),
    missing("a flow of another tunnel's kind", {takes_out(kVxlan), in_vxlan(FlowSpec::ipv4())}, geneve4(udp4()).no_checksum(), XF_MISS_TUNNEL_HEADER),
    missing("no such tunnel port", {takes_out(kOut), in_geneve(FlowSpec::ipv4())}, geneve4(udp4()), XF_MISS_INTERNAL),
    missing("a tunnel in a tunnel", {takes_out(kGeneve), in_geneve(FlowSpec::ipv4()).out_of_tunnel(kGeneve)}, geneve4(geneve4(udp4())), XF_MISS_TUNNEL_HEADER),
    missing("a tag around that the flow leaves", {takes_out(kGeneve).vid(5), in_geneve(FlowSpec::ipv4())}, Packet().eth(kVlan).vlan(5, kIpv4).ipv4(17).udp(1, kGenevePort).data(joined(geneve_header(), udp4().bytes())), XF_MISS_TUNNEL_HEADER),
    popped("a tag around", {takes_out(kGeneve).vid(5).pop(), in_geneve(FlowSpec::ipv4())}, Packet().eth(kVlan).vlan(5, kIpv4).ipv4(17).udp(1, kGenevePort).data(joined(geneve_header(), udp4().bytes())), udp4().bytes()),
    Row{"dropped", {takes_out(kGeneve), in_geneve(FlowSpec::ipv4()).drop()}, geneve4(udp4()), 0, XDP_DROP, kNone, udp4().bytes()}.passing({geneve4(udp4()).bytes().size(), udp4().bytes().size()}),
    popped("a tag pushed", {takes_out(kGeneve), in_geneve(FlowSpec::ipv4()).push(9)}, geneve4(udp4()), with_tag(udp4().bytes(), kVlan, 9)).passing({geneve4(udp4()).bytes().size(), udp4().bytes().size()}),
    missing("no way out", {takes_out(kGeneve), in_geneve(FlowSpec::ipv4()).to(kDown)}, geneve4(udp4()), XF_MISS_TX_PORT),
    missing("set, and no way out", {takes_out(kGeneve), in_geneve(FlowSpec::ipv4()).set(AT(eth_dst), kMac, kOnes).to(kDown)}, geneve4(udp4().partial()).no_checksum(), XF_MISS_TX_PORT),
    popped("small enough without the headers", {takes_out(kGeneve), in_geneve(FlowSpec::ipv4()).to(kNarrow)}, geneve4(udp4()), udp4().bytes()),
};

class TunnelTest : public testing::TestWithParam<Row> {};
TEST_P(TunnelTest, Executes) { check(program(), GetParam()); }
INSTANTIATE_TEST_SUITE_P(Pop, TunnelTest, testing::ValuesIn(kPopRows), row_name);

// Metadata of a driver would be moved over the outer headers.
TEST(Tunnel, Metadata) {
    Program &p = program();
    for (auto &flow : kGeneveFlows) {
        p.add(flow);
    }
    bool ok;
    const auto run = p.run(geneve4(udp4()).bytes(), 0, 8, &ok);
    if (ok) {
        EXPECT_EQ(run.verdict, XDP_PASS);
        EXPECT_EQ(hex(run.out), hex(geneve4(udp4()).bytes()));
        EXPECT_EQ(p.misses(XF_MISS_TUNNEL_HEADER), 1u);
    }
    p.remove_all();
}

// -- Into a tunnel ----------------------------------------------------------

constexpr uint16_t kMinPort = 32768, kMaxPort = 61000;

// A tunnel's headers, as OVS gives them.
Frame with_lengths_zero(Frame f) {
    const bool is_ipv6 = f[12] == 0x86;
    f[is_ipv6 ? 18 : 16] = f[is_ipv6 ? 19 : 17] = 0;
    const size_t udp = is_ipv6 ? 54 : 34;
    std::fill_n(f.begin() + static_cast<ptrdiff_t>(udp), 2, 0);
    std::fill_n(f.begin() + static_cast<ptrdiff_t>(udp) + 4, 2, 0);
    if (!is_ipv6) {
        f[24] = f[25] = 0;
        const uint16_t sum = ~ones_complement_sum(&f[14], 20);
        f[24] = sum >> 8;
        f[25] = sum;
    }
    return f;
}

Frame header_of(const Packet &outer, bool has_checksum) {
    Frame f = with_lengths_zero(outer.bytes());
    const size_t at = f[12] == 0x86 ? 60 : 40;
    f[at] = f[at + 1] = has_checksum ? 0xff : 0;
    return f;
}

xf_tunnel tunnel_of(const Frame &header, uint32_t type) {
    const ovs_offload_tunnel_push push{9, 1, static_cast<uint32_t>(header.size()), type};
    Frame payload(reinterpret_cast<const uint8_t *>(&push), reinterpret_cast<const uint8_t *>(&push + 1));
    payload = joined(payload, header);
    xf_tunnel t;
    OdpPort port{};
    EXPECT_FALSE(decode_tunnel_push(bytes_of(payload.data(), payload.size()), &t, &port));
    t.port_min = kMinPort;
    t.n_ports = kMaxPort - kMinPort;
    return t;
}

struct Headers {
    const char *name;
    Packet outer;
    bool has_checksum;
    uint32_t type;
};
const Headers kHeaders[] = {
    {"Geneve with an option", outer4(kGenevePort).data(geneve_header(kOption)), true, OVS_OFFLOAD_TUNNEL_GENEVE},
    {"Geneve without checksum", outer4(kGenevePort).data(geneve_header()), false, OVS_OFFLOAD_TUNNEL_GENEVE},
    {"Geneve over IPv6", outer6(kGenevePort).data(geneve_header(joined(kOption, kLongOption))), true, OVS_OFFLOAD_TUNNEL_GENEVE},
    {"VXLAN", outer4(kVxlanPort).data(kVxlanHeader), false, OVS_OFFLOAD_TUNNEL_VXLAN},
    {"VXLAN over IPv6", outer6(kVxlanPort).data(kVxlanHeader), true, OVS_OFFLOAD_TUNNEL_VXLAN},
};

// What has to leave, by the slow way: the port is any of the range.
Frame expected(const Headers &h, const Frame &inner_frame, const Frame &out) {
    const bool is_ipv6 = h.outer.bytes()[12] == 0x86;
    const size_t udp = is_ipv6 ? 54 : 34;
    const Frame header = h.outer.bytes();
    Packet again = is_ipv6 ? Packet().eth(kIpv6).ipv6(IPPROTO_UDP)
                           : Packet().eth(kIpv4).ipv4(IPPROTO_UDP);
    const uint16_t port = out.at(udp) << 8 | out.at(udp + 1);
    EXPECT_GE(port, kMinPort);
    EXPECT_LT(port, kMaxPort);
    again.udp(port, header[udp + 2] << 8 | header[udp + 3]);
    again.data(joined(Frame(header.begin() + static_cast<ptrdiff_t>(udp) + 8, header.end()), inner_frame));
    return h.has_checksum ? again.bytes() : again.no_checksum().bytes();
}

struct PushRow {
    const char *name;
    FlowSpec flow;
    Packet packet;
    Frame inner_frame = {};  // Empty: the packet.
};
Frame natted() {  // tcp4() to 10.0.0.9.
    Frame f = Packet().eth(kIpv4).ipv4(IPPROTO_TCP).tcp(1000, 80).payload(30).poke(33, 9).bytes();
    f[24] = f[25] = 0;
    const uint16_t sum = ~ones_complement_sum(&f[14], 20);
    f[24] = sum >> 8;
    f[25] = sum;
    // RFC 1624: the address has grown by 7.
    const uint32_t tcp = (f[50] << 8 | f[51]) - 7;
    f[50] = tcp >> 8;
    f[51] = tcp;
    return f;
}
const PushRow kPushRows[] = {
    {"UDP", FlowSpec::ipv4().to(kOut), udp4()},
    {"UDP without checksum", FlowSpec::ipv4().to(kOut), udp4().no_checksum()},
    {"TCP over IPv6", FlowSpec::ipv6().to(kOut), tcp6()},
    {"partial", FlowSpec::ipv4().to(kOut), tcp4().partial(), tcp4().bytes()},
    {"ICMP", FlowSpec::ipv4().to(kOut), ping4()},
    {"ICMPv6", FlowSpec::ipv6().to(kOut), ping6()},
    {"ARP", FlowSpec::arp().to(kOut), arp()},
    {"more than UDP counts", FlowSpec::ipv4().to(kOut), surplus()},
    {"a fragment", FlowSpec::ipv4().to(kOut), Packet().eth(kIpv4).ipv4(17, 0x2000).udp(1, 2).payload(33)},
    {"padding", FlowSpec::ipv4().to(kOut), tcp4().padding(7)},
    {"an odd length", FlowSpec::ipv4().to(kOut), tcp4().payload(1)},
    {"a tag", FlowSpec::ipv4().vid(5).to(kOut), tagged_udp4(5)},
    {"a tag pushed", FlowSpec::ipv4().push(9).to(kOut), udp4(), with_tag(udp4().bytes(), kVlan, 9)},
    {"a tag popped", FlowSpec::ipv4().vid(5).pop().to(kOut), tagged_udp4(5), without_tag(tagged_udp4(5).bytes())},
    {"an address set", FlowSpec::ipv4().set(AT(ipv4_dst) + 3, {9}, {0xff}).to(kOut), tcp4(), natted()},
    {"an address set, partial", FlowSpec::ipv4().set(AT(ipv4_dst) + 3, {9}, {0xff}).to(kOut), tcp4().partial(), natted()},
};

TEST(Tunnel, Push) {
    Program &p = empty_program();
    for (auto &h : kHeaders) {
        p.maps().tunnel(TunnelSlot{1}) = tunnel_of(header_of(h.outer, h.has_checksum), h.type);
        for (auto &row : kPushRows) {
            SCOPED_TRACE(std::string(row.name) + ", " + h.name);
            FlowSpec flow = row.flow;
            const FlowSlot slot = p.add(flow.into_tunnel(1));
            const Frame in = row.packet.bytes();
            const auto run = p.run(in);
            const Frame inner_frame = row.inner_frame.empty() ? in : row.inner_frame;
            EXPECT_EQ(run.verdict, XDP_REDIRECT);
            if (run.out.size() > in.size()) {
                EXPECT_EQ(hex(run.out), hex(expected(h, inner_frame, run.out)));
            }
            EXPECT_EQ(p.table().stats(slot).packets, 1u);
            EXPECT_EQ(p.table().stats(slot).bytes, in.size());
            p.remove_all();
        }
    }
}

// Too long for the port, no such headers: nothing is changed.
TEST(Tunnel, PushMisses) {
    Program &p = empty_program();
    const Headers &h = kHeaders[0];
    p.maps().tunnel(TunnelSlot{1}) = tunnel_of(header_of(h.outer, true), h.type);
    const size_t growth = h.outer.bytes().size();
    constexpr size_t kNarrowFrame = 100;
    auto udp_of = [](size_t n) { return Packet().eth(kIpv4).ipv4(17).udp(1, 2).payload(n - 42); };
    check(p, missing("too long with the headers", {FlowSpec::ipv4().into_tunnel(1).to(kNarrow)}, udp_of(kNarrowFrame - growth + 1), XF_MISS_TX_LENGTH));
    check(p, missing("set, too long", {FlowSpec::ipv4().set(AT(nw_ttl), {63}, {0xff}).into_tunnel(1).to(kNarrow)}, udp_of(kNarrowFrame), XF_MISS_TX_LENGTH));
    check(p, missing("no such headers", {FlowSpec::ipv4().into_tunnel(2).to(kOut)}, udp4(), XF_MISS_INTERNAL));
    check(p, missing("no way out", {FlowSpec::ipv4().into_tunnel(1).to(kDown)}, udp4().partial(), XF_MISS_TX_PORT));
}

// A tag of the underlay counts as such for the MTU.
TEST(Tunnel, TaggedHeaders) {
    Program &p = empty_program();
    const Headers &h = kHeaders[3];
    xf_tunnel t = tunnel_of(header_of(h.outer, false), h.type);
    EXPECT_FALSE(push_outer_vlan({htons(kVlan), htons(7)}, &t));
    EXPECT_TRUE(push_outer_vlan({htons(kVlan), htons(8)}, &t));
    p.maps().tunnel(TunnelSlot{1}) = t;
    const Packet packet = Packet().eth(kIpv4).ipv4(17).udp(1, 2).payload(8);  // 50 + 50 bytes.
    p.add(FlowSpec::ipv4().into_tunnel(1).to(kNarrow));
    const auto run = p.run(packet.bytes());
    ASSERT_EQ(run.verdict, XDP_REDIRECT);
    EXPECT_EQ(hex(without_tag(run.out)), hex(expected(h, packet.bytes(), without_tag(run.out))));
    EXPECT_EQ(hex(run.out), hex(with_tag(without_tag(run.out), kVlan, 7)));
    p.remove_all();
}

// The source port is the connection's, whatever else differs.
TEST(Tunnel, SourcePort) {
    Program &p = empty_program();
    const Headers &h = kHeaders[1];
    p.maps().tunnel(TunnelSlot{1}) = tunnel_of(header_of(h.outer, false), h.type);
    p.add(FlowSpec::ipv4().into_tunnel(1).to(kOut));
    auto port_of = [&](const Packet &packet) {
        const auto run = p.run(packet.bytes());
        return run.out.at(34) << 8 | run.out.at(35);
    };
    EXPECT_EQ(port_of(tcp4()), port_of(tcp4(0x18).payload(100)));
    EXPECT_EQ(port_of(tcp4()), port_of(tcp4().poke(22, 63).poke(15, 4)));
    std::vector<int> ports;
    for (uint16_t port = 0; port < 64; port++) {
        ports.push_back(port_of(Packet().eth(kIpv4).ipv4(17).udp(port, 2)));
    }
    std::sort(ports.begin(), ports.end());
    ports.erase(std::unique(ports.begin(), ports.end()), ports.end());
    EXPECT_GT(ports.size(), 48u);
    p.remove_all();
}

// Also from one tunnel into another, where routers change the outer TOS and TTL.
TEST(Tunnel, SourcePortOfWhatCameOutOfATunnel) {
    Program &p = empty_program();
    const Headers &h = kHeaders[1];
    p.maps().tunnel(TunnelSlot{1}) = tunnel_of(header_of(h.outer, false), h.type);
    p.add(takes_out(kGeneve));
    p.add(in_geneve(FlowSpec::ipv4()).into_tunnel(1));
    auto port_of = [&](uint8_t tos, uint8_t ttl) {
        Frame f = geneve4(tcp4()).no_checksum().poke(15, tos).poke(22, ttl).bytes();
        f[24] = f[25] = 0;
        const uint16_t sum = ~ones_complement_sum(&f[14], 20);
        f[24] = sum >> 8;
        f[25] = sum;
        const auto run = p.run(f);
        EXPECT_EQ(run.verdict, XDP_REDIRECT);
        return run.out.at(34) << 8 | run.out.at(35);
    };
    EXPECT_EQ(port_of(0, 64), port_of(3, 64));
    EXPECT_EQ(port_of(0, 64), port_of(0, 60));
    p.remove_all();
}

// From one tunnel to another: the inner packet is the same.
TEST(Tunnel, FromOneToAnother) {
    Program &p = empty_program();
    const Headers &h = kHeaders[4];
    p.maps().tunnel(TunnelSlot{1}) = tunnel_of(header_of(h.outer, true), h.type);
    p.add(takes_out(kGeneve));
    p.add(in_geneve(FlowSpec::ipv4()).into_tunnel(1));
    const auto run = p.run(geneve4(tcp4()).bytes());
    ASSERT_EQ(run.verdict, XDP_REDIRECT);
    EXPECT_EQ(hex(run.out), hex(expected(h, tcp4().bytes(), run.out)));
    p.remove_all();
}

// The kernel would complete the outer checksum when the outer headers are off.
TEST(Generic, PartialOuterChecksumIsAMiss) {
    struct {
        const char *name;
        Packet packet;
        uint64_t misses;
    } const rows[] = {
        {"whole", geneve4(udp4()), 0},
        {"partial outside", geneve4(udp4()).partial(), 1},
    };
    for (auto &row : rows) {
        SCOPED_TRACE(row.name);
        Program p(XF_PORT_TX_GENERIC);
        for (auto &flow : kGeneveFlows) {
            p.add(flow);
        }
        const Frame in = row.packet.bytes();
        const auto run = p.run(in);
        EXPECT_EQ(run.verdict, row.misses ? XDP_PASS : XDP_REDIRECT);
        EXPECT_EQ(hex(run.out), hex(row.misses ? in : udp4().bytes()));
        EXPECT_EQ(p.misses(XF_MISS_TUNNEL_CHECKSUM), row.misses);
    }
}

}  // namespace
}  // namespace flowxlate::test
