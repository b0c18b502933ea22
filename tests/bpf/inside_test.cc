// SPDX-License-Identifier: Apache-2.0
// Partial checksums of packets that are in packets (bpf/inside.h): a frame from a
// veth or a tap that has one is not sent on by XDP, and is completed on its way to
// AF_XDP.
#include <linux/if_ether.h>

#include <bpf/bpf.h>

#include <cerrno>
#include <cstring>

#include "row.h"
#include "xdp_socket.h"

namespace flowxlate::test {
namespace {

constexpr uint16_t kPppoe = 0x8864, kNsh = 0x894f;
constexpr uint8_t kGre = 47, kIpip = 4, kSit = 41, kL2tp = 115;
const Frame kVxlanHeader = {8, 0, 0, 0, 0, 0, 7, 0};
const Frame kGeneveHeader = {0, 0, 0x65, 0x58, 0, 0, 7, 0};
const Frame kGeneveOption = {2, 0, 0x65, 0x58, 0, 0, 7, 0, 1, 2, 3, 1, 0, 0, 0, 0};

Frame joined(Frame a, const Frame &b) {
    a.insert(a.end(), b.begin(), b.end());
    return a;
}

Packet in_udp(uint16_t port, const Frame &header, const Packet &inner) { return Packet().eth(kIpv4).ipv4(IPPROTO_UDP).udp(40000, port).data(joined(header, inner.bytes())); }
Packet in_udp6(uint16_t port, const Frame &header, const Packet &inner) { return Packet().eth(kIpv6).ipv6(IPPROTO_UDP).udp(40000, port).data(joined(header, inner.bytes())); }
Packet vxlan(const Packet &inner) { return in_udp(4789, kVxlanHeader, inner).no_checksum(); }
// Without its Ethernet header.
Frame ip_of(const Packet &p) {
    const Frame f = p.bytes();
    return {f.begin() + ETH_HLEN, f.end()};
}
Packet gre(const Frame &header, const Frame &inner) { return Packet().eth(kIpv4).ipv4(kGre).data(joined(header, inner)); }
Packet behind(uint16_t type, const Frame &header, const Packet &inner) { return Packet().eth(type).data(joined(header, ip_of(inner))); }
Packet tcp_with_tag() { return Packet().eth(kVlan).vlan(5, kIpv4).ipv4(IPPROTO_TCP).tcp(1, 2).payload(9); }

struct Case {
    const char *name;
    // Of what is in it: partial, whole.
    Packet (*make)(Packet inner);
    Packet inner;
    bool is_known = true;  // Else it is left alone.
};

const Case kCases[] = {
    {"VXLAN, TCP", [](Packet p) { return vxlan(p); }, tcp4()},
    {"VXLAN, UDP", [](Packet p) { return vxlan(p); }, udp4()},
    {"VXLAN, TCP over IPv6", [](Packet p) { return vxlan(p); }, tcp6()},
    {"VXLAN, behind a tag", [](Packet p) { return vxlan(p); }, tcp_with_tag()},
    {"VXLAN on Linux's first port", [](Packet p) { return in_udp(8472, kVxlanHeader, p).no_checksum(); }, tcp4()},
    {"VXLAN over IPv6", [](Packet p) { return in_udp6(4789, kVxlanHeader, p).no_checksum(); }, tcp4()},
    {"VXLAN behind a tag", [](Packet p) { return Packet().eth(kVlan).vlan(5, kIpv4).ipv4(17).udp(1, 4789).data(joined(kVxlanHeader, p.bytes())).no_checksum(); }, udp4()},
    {"VXLAN-GPE", [](Packet p) { return in_udp(4790, {12, 0, 0, 3, 0, 0, 7, 0}, p).no_checksum(); }, tcp4(), false},
    {"VXLAN's port, a protocol extension", [](Packet p) { return in_udp(4789, {12, 0, 0, 3, 0, 0, 7, 0}, p).no_checksum(); }, tcp4(), false},
    {"Geneve", [](Packet p) { return in_udp(6081, kGeneveHeader, p).no_checksum(); }, tcp4()},
    {"Geneve with options", [](Packet p) { return in_udp(6081, kGeneveOption, p).no_checksum(); }, udp6()},
    {"Geneve, IP in it", [](Packet p) { return Packet().eth(kIpv4).ipv4(17).udp(1, 6081).data(joined({0, 0, 8, 0, 0, 0, 7, 0}, ip_of(p))).no_checksum(); }, tcp4()},
    {"VXLAN in Geneve", [](Packet p) { return in_udp(6081, kGeneveHeader, vxlan(p)).no_checksum(); }, tcp4()},
    {"GRE, IPv4 in it", [](Packet p) { return gre({0, 0, 8, 0}, ip_of(p)); }, tcp4()},
    {"GRE, IPv6 in it", [](Packet p) { return gre({0, 0, 0x86, 0xdd}, ip_of(p)); }, tcp6()},
    {"GRE with a key and a number, Ethernet in it", [](Packet p) { return gre({0x30, 0, 0x65, 0x58, 0, 0, 0, 7, 0, 0, 0, 1}, p.bytes()); }, udp4()},
    {"ERSPAN", [](Packet p) { return gre({0x10, 0, 0x88, 0xbe, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0}, p.bytes()); }, udp4(), false},
    {"IPv4 in IPv4", [](Packet p) { return Packet().eth(kIpv4).ipv4(kIpip).data(ip_of(p)); }, tcp4()},
    {"IPv6 in IPv4", [](Packet p) { return Packet().eth(kIpv4).ipv4(kSit).data(ip_of(p)); }, udp6()},
    {"IPv4 in IPv6", [](Packet p) { return Packet().eth(kIpv6).ipv6(kIpip).data(ip_of(p)); }, udp4()},
    {"IPv6 in IPv6", [](Packet p) { return Packet().eth(kIpv6).ipv6(kSit).data(ip_of(p)); }, tcp6()},
    {"L2TP", [](Packet p) { return Packet().eth(kIpv4).ipv4(kL2tp).data(joined({0, 0, 0, 7, 0, 0, 0, 0}, p.bytes())); }, udp4(), false},
    {"MPLS", [](Packet p) { return behind(0x8847, {0, 1, 0x01, 64}, p); }, tcp4()},
    {"MPLS, two labels", [](Packet p) { return behind(0x8847, {0, 1, 0, 64, 0, 1, 0x11, 64}, p); }, udp6()},
    {"MPLS, a pseudowire", [](Packet p) { return Packet().eth(0x8847).data(joined({0, 1, 0x01, 64, 0, 0, 0, 1}, p.bytes())); }, udp4(), false},
    {"PPPoE", [](Packet p) { return behind(kPppoe, {0x11, 0, 0, 1, 0, 99, 0, 0x21}, p); }, tcp4()},
    {"PPPoE, IPv6", [](Packet p) { return behind(kPppoe, {0x11, 0, 0, 1, 0, 99, 0, 0x57}, p); }, udp6()},
    {"NSH", [](Packet p) { return behind(kNsh, Frame(8, 0), p); }, tcp4(), false},
    {"tags that OVS does not look behind", [](Packet p) { return Packet().eth(kVlan).vlan(5, kVlan).vlan(6, kVlan).vlan(7, kIpv4).data(ip_of(p)); }, tcp4()},
};

class Inside : public testing::Test {
protected:
    Inside() {
        for (auto f : {FlowSpec::ipv4(), FlowSpec::ipv6(), FlowSpec::mpls(), FlowSpec::l2(kPppoe), FlowSpec::l2(kNsh), FlowSpec::ipv4().vid(5), FlowSpec::l2(kVlan).vid(5)}) {
            p_.add(f.to(kOut));
        }
        p_.maps().port(kIn).is_no_nic = 1;
        p_.maps().set_max_tags(1);
    }
    ~Inside() override {
        p_.maps().port(kIn).is_no_nic = 0;
        p_.maps().set_max_tags(XF_MAX_TAGS);
    }

    void expect(const Frame &in, uint32_t verdict) {
        const auto misses = p_.misses(XF_MISS_TX_CHECKSUM);
        const auto run = p_.run(in);
        EXPECT_EQ(run.verdict, verdict);
        EXPECT_EQ(hex(run.out), hex(in));
        EXPECT_EQ(p_.misses(XF_MISS_TX_CHECKSUM) - misses, verdict == XDP_PASS);
    }

    Program &p_ = empty_program();
};

TEST_F(Inside, APartialChecksumIsTheKernels) {
    for (auto &c : kCases) {
        SCOPED_TRACE(c.name);
        expect(c.make(Packet(c.inner).partial()).bytes(), XDP_PASS);
        expect(c.make(c.inner).bytes(), c.is_known ? XDP_REDIRECT : XDP_PASS);
    }
}

// What a NIC has received has all its checksums.
TEST_F(Inside, NothingIsPartialBehindANic) {
    p_.maps().port(kIn).is_no_nic = 0;
    for (auto &c : kCases) {
        SCOPED_TRACE(c.name);
        expect(c.make(Packet(c.inner).partial()).bytes(), XDP_REDIRECT);
    }
}

// Nothing is read behind the end of a frame, and what is cut off is not there.
TEST_F(Inside, Truncated) {
    for (auto &c : kCases) {
        const Frame whole = c.make(c.inner).bytes();
        for (size_t n = ETH_HLEN; n < whole.size(); n++) {
            SCOPED_TRACE(std::string(c.name) + " cut to " + std::to_string(n));
            const Frame in(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(n));
            EXPECT_EQ(hex(p_.run(in).out), hex(in));
        }
    }
}

TEST_F(Inside, CompletedOnTheWayToAfXdp) {
    auto &p = empty_program();
    const uint32_t queue = 0;
    XdpSocket socket(queue);
    ASSERT_TRUE(socket.ok()) << std::strerror(errno);
    const int fd = socket.fd();
    ASSERT_EQ(bpf_map_update_elem(p.socket_map_fd(), &queue, &fd, BPF_ANY), 0);
    for (auto &c : kCases) {
        SCOPED_TRACE(c.name);
        const Frame in = c.make(Packet(c.inner).partial()).bytes();
        const auto run = p.run(in, queue);
        EXPECT_EQ(run.verdict, XDP_REDIRECT);
        EXPECT_EQ(hex(run.out), hex(c.is_known ? c.make(c.inner).bytes() : in));
    }
    ASSERT_EQ(bpf_map_delete_elem(p.socket_map_fd(), &queue), 0);
}

}  // namespace
}  // namespace flowxlate::test
