// SPDX-License-Identifier: Apache-2.0
// Partial checksums of packets that are in packets (bpf/packet/inside.h): a frame from a
// veth or a tap that has one is not sent on by XDP, and is completed on its way to
// AF_XDP.
#include <linux/if_ether.h>

#include <bpf/bpf.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "bpf/abi/counters.h"
#include "row.h"
#include "skb_program.h"
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

// With GRE's own checksum, which is 'right' or left to the device.
Packet gre_with_sum(const Packet &inner, bool right) {
    Frame f = joined({0x80, 0, 8, 0, 0, 0, 0, 0}, ip_of(inner));
    const uint16_t sum = right ? ~ones_complement_sum(f.data(), f.size()) : 0;
    f[4] = static_cast<uint8_t>(sum >> 8);
    f[5] = static_cast<uint8_t>(sum);
    return Packet().eth(kIpv4).ipv4(kGre).data(f);
}
// Destination options before 'next', as ip6tnl has them: eight bytes.
Frame destination_options(uint8_t next) { return {next, 0, 4, 1, 4, 1, 1, 0}; }
Packet in_labels(unsigned n, const Packet &inner) {
    Frame labels;
    for (unsigned i = 0; i < n; i++) {
        labels = joined(labels, {0, 1, static_cast<uint8_t>(i == n - 1), 64});
    }
    return behind(0x8847, labels, inner);
}

enum Kind {
    kCompleted,  // Partial: the kernel's, or completed on the way to AF_XDP.
    kUnknown,    // The kernel's in any case, and left alone.
    kWhole,      // Executed in any case.
};

struct Case {
    const char *name;
    // Of what is in it: partial, whole.
    Packet (*make)(Packet inner);
    Packet inner;
    Kind kind = kCompleted;
    bool is_lco = false;  // The outer checksum is right for the whole one.

    Frame whole() const { return make(inner).bytes(); }
    Frame partial() const {
        Frame f = make(Packet(inner).partial()).bytes();
        if (is_lco) {
            const Frame right = whole();
            std::copy_n(right.begin(), f.size() - inner.bytes().size(), f.begin());
        }
        return f;
    }
};

const Case kCases[] = {
    {"VXLAN, TCP", [](Packet p) { return vxlan(p); }, tcp4()},
    {"VXLAN, UDP", [](Packet p) { return vxlan(p); }, udp4()},
    {"VXLAN, TCP over IPv6", [](Packet p) { return vxlan(p); }, tcp6()},
    {"VXLAN, behind a tag", [](Packet p) { return vxlan(p); }, tcp_with_tag()},
    {"VXLAN on Linux's first port", [](Packet p) { return in_udp(8472, kVxlanHeader, p).no_checksum(); }, tcp4()},
    {"VXLAN over IPv6", [](Packet p) { return in_udp6(4789, kVxlanHeader, p).no_checksum(); }, tcp4()},
    {"VXLAN behind a tag", [](Packet p) { return Packet().eth(kVlan).vlan(5, kIpv4).ipv4(17).udp(1, 4789).data(joined(kVxlanHeader, p.bytes())).no_checksum(); }, udp4()},
    {"VXLAN with a checksum, which is right when the inner one is", [](Packet p) { return in_udp(4789, kVxlanHeader, p); }, tcp4(), kCompleted, true},
    {"VXLAN with remote checksum offload", [](Packet p) { return in_udp(4789, {8, 0x20, 0, 0, 0, 0, 7, 0x91}, p).no_checksum(); }, udp4(), kWhole},
    {"VXLAN's port, something else", [](Packet p) { return in_udp(4789, {0, 0, 0, 0, 0, 0, 7, 0}, p).no_checksum(); }, udp4(), kWhole},
    {"VXLAN, SCTP without a CRC", [](Packet) { return vxlan(Packet().eth(kIpv4).ipv4(kSctp).sctp(1, 2, 0).payload(20)); }, udp4(), kUnknown},
    {"VXLAN, SCTP", [](Packet) { return vxlan(Packet().eth(kIpv4).ipv4(kSctp).sctp(1, 2).payload(20)); }, udp4(), kWhole},
    {"VXLAN, a fragment", [](Packet p) { return vxlan(Packet().eth(kIpv4).ipv4(IPPROTO_TCP, 0x2000).data(joined(ip_of(p), Frame(4)))); }, tcp4(), kWhole},
    {"VXLAN, a wrong IPv4 header", [](Packet p) { return vxlan(p).poke(42 + 8 + ETH_HLEN + 10, 0x77); }, tcp4(), kUnknown},
    {"VXLAN, destination options", [](Packet p) { return vxlan(Packet().eth(kIpv6).ipv6(60).data(joined(destination_options(kIpip), ip_of(p)))); }, tcp4()},
    {"VXLAN-GPE", [](Packet p) { return in_udp(4790, {12, 0, 0, 3, 0, 0, 7, 0}, p).no_checksum(); }, tcp4(), kUnknown},
    {"VXLAN's port, a protocol extension", [](Packet p) { return in_udp(4789, {12, 0, 0, 3, 0, 0, 7, 0}, p).no_checksum(); }, tcp4(), kUnknown},
    {"Geneve", [](Packet p) { return in_udp(6081, kGeneveHeader, p).no_checksum(); }, tcp4()},
    {"Geneve with options", [](Packet p) { return in_udp(6081, kGeneveOption, p).no_checksum(); }, udp6()},
    {"Geneve, IP in it", [](Packet p) { return Packet().eth(kIpv4).ipv4(17).udp(1, 6081).data(joined({0, 0, 8, 0, 0, 0, 7, 0}, ip_of(p))).no_checksum(); }, tcp4()},
    {"VXLAN in Geneve", [](Packet p) { return in_udp(6081, kGeneveHeader, vxlan(p)).no_checksum(); }, tcp4()},
    {"GRE, IPv4 in it", [](Packet p) { return gre({0, 0, 8, 0}, ip_of(p)); }, tcp4()},
    {"GRE, IPv6 in it", [](Packet p) { return gre({0, 0, 0x86, 0xdd}, ip_of(p)); }, tcp6()},
    {"GRE with a key and a number, Ethernet in it", [](Packet p) { return gre({0x30, 0, 0x65, 0x58, 0, 0, 0, 7, 0, 0, 0, 1}, p.bytes()); }, udp4()},
    {"GRE with a routing header", [](Packet p) { return gre({0x40, 0, 8, 0, 0, 0, 0, 0}, ip_of(p)); }, udp4(), kUnknown},
    {"ERSPAN", [](Packet p) { return gre({0x10, 0, 0x88, 0xbe, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0}, p.bytes()); }, udp4(), kUnknown},
    {"IPv4 in IPv4", [](Packet p) { return Packet().eth(kIpv4).ipv4(kIpip).data(ip_of(p)); }, tcp4()},
    {"IPv6 in IPv4", [](Packet p) { return Packet().eth(kIpv4).ipv4(kSit).data(ip_of(p)); }, udp6()},
    {"IPv4 in IPv6", [](Packet p) { return Packet().eth(kIpv6).ipv6(kIpip).data(ip_of(p)); }, udp4()},
    {"IPv6 in IPv6", [](Packet p) { return Packet().eth(kIpv6).ipv6(kSit).data(ip_of(p)); }, tcp6()},
    {"L2TP", [](Packet p) { return Packet().eth(kIpv4).ipv4(kL2tp).data(joined({0, 0, 0, 7, 0, 0, 0, 0}, p.bytes())); }, udp4(), kUnknown},
    {"MPLS", [](Packet p) { return behind(0x8847, {0, 1, 0x01, 64}, p); }, tcp4()},
    {"MPLS, two labels", [](Packet p) { return behind(0x8847, {0, 1, 0, 64, 0, 1, 0x11, 64}, p); }, udp6()},
    {"MPLS, more labels than are looked behind", [](Packet p) { return in_labels(9, p); }, udp4(), kUnknown},
    {"MPLS, a pseudowire to an address that looks like IPv4", [](Packet p) { return Packet().eth(0x8847).data(joined({0, 1, 1, 64}, p.poke(0, 0x46).bytes())); }, udp4(), kUnknown},
    {"MPLS, a pseudowire", [](Packet p) { return Packet().eth(0x8847).data(joined({0, 1, 0x01, 64, 0, 0, 0, 1}, p.bytes())); }, udp4(), kUnknown},
    {"PPPoE", [](Packet p) { return behind(kPppoe, {0x11, 0, 0, 1, 0, 99, 0, 0x21}, p); }, tcp4()},
    {"PPPoE, IPv6", [](Packet p) { return behind(kPppoe, {0x11, 0, 0, 1, 0, 99, 0, 0x57}, p); }, udp6()},
    {"NSH", [](Packet p) { return behind(kNsh, Frame(8, 0), p); }, tcp4(), kUnknown},
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
        expect(c.partial(), c.kind == kWhole ? XDP_REDIRECT : XDP_PASS);
        expect(c.whole(), c.kind == kUnknown ? XDP_PASS : XDP_REDIRECT);
    }
}

// What a NIC has received has all its checksums.
TEST_F(Inside, NothingIsPartialBehindANic) {
    p_.maps().port(kIn).is_no_nic = 0;
    for (auto &c : kCases) {
        SCOPED_TRACE(c.name);
        expect(c.partial(), XDP_REDIRECT);
    }
}

// The kernel leaves GRE's own to the device if what is in it is whole.
TEST_F(Inside, AChecksumOfGre) {
    expect(gre_with_sum(tcp4(), true).bytes(), XDP_REDIRECT);
    expect(gre_with_sum(tcp4(), false).bytes(), XDP_PASS);
    expect(gre_with_sum(tcp4().partial(), true).bytes(), XDP_PASS);
}

// -- At TC's ingress --------------------------------------------------------

// The kernel knows that there is a partial checksum, and takes the one that is to follow a
// change for it: where it may be the other one, addresses and ports stay as they are.
TEST(InsideSkb, TheOuterChecksumIsNotTakenForThePartialOne) {
    const auto ttl = FlowSpec::ipv4().set(offsetof(xf_key, nw_ttl), {63}, {0xff}).to(kOut);
    const auto address = FlowSpec::ipv4().set(offsetof(xf_key, ipv4_src), {10, 0, 0, 7}, Frame(4, 0xff)).to(kOut);
    const auto port = FlowSpec::ipv4().set(offsetof(xf_key, tp_src), {1, 1}, Frame(2, 0xff)).to(kOut);
    const Packet with_sum = in_udp(4789, kVxlanHeader, tcp4().partial());
    const struct {
        const char *name;
        FlowSpec flow;
        Packet packet;
        bool from_nic = false;
        uint32_t verdict = XDP_REDIRECT;
    } rows[] = {
        {"nothing set", FlowSpec::ipv4().to(kOut), with_sum},
        {"what no outer checksum covers", ttl, with_sum},
        {"an address", address, with_sum, false, XDP_PASS},
        {"a port", port, with_sum, false, XDP_PASS},
        {"all whole", address, in_udp(4789, kVxlanHeader, tcp4())},
        {"no outer checksum", address, vxlan(tcp4().partial())},
        {"GRE, which has no ports", address, gre({0, 0, 8, 0}, ip_of(tcp4().partial()))},
        {"from a NIC", address, with_sum, true},
    };
    SkbProgram &p = skb_program();
    for (auto &row : rows) {
        SCOPED_TRACE(row.name);
        p.remove_all();
        p.add(row.flow);
        p.maps().port(kIn).is_no_nic = !row.from_nic;
        EXPECT_EQ(p.run(row.packet.bytes()).verdict, row.verdict);
        EXPECT_EQ(p.misses(XF_MISS_TX_CHECKSUM), row.verdict == XDP_PASS);
    }
    p.maps().port(kIn).is_no_nic = 0;
}

// -- On the way to AF_XDP ---------------------------------------------------

class InsideAfXdp : public Inside {
protected:
    InsideAfXdp() {
        p_.remove_all();
        const int fd = the_socket().fd();
        EXPECT_TRUE(the_socket().ok()) << std::strerror(errno);
        EXPECT_EQ(bpf_map_update_elem(p_.socket_map_fd(), &kQueue, &fd, BPF_ANY), 0);
    }
    ~InsideAfXdp() override { bpf_map_delete_elem(p_.socket_map_fd(), &kQueue); }

    void expect_out(const Frame &in, const Frame &out) {
        const auto misses = p_.total_misses();
        const auto run = p_.run(in, kQueue);
        EXPECT_EQ(run.verdict, XDP_REDIRECT);
        EXPECT_EQ(hex(run.out), hex(out));
        EXPECT_EQ(p_.total_misses() - misses, 1U);
    }

    static constexpr uint32_t kQueue = 0;
};

TEST_F(InsideAfXdp, Completed) {
    for (auto &c : kCases) {
        SCOPED_TRACE(c.name);
        expect_out(c.partial(), c.kind == kCompleted ? c.whole() : c.partial());
        expect_out(c.whole(), c.whole());
    }
    expect_out(gre_with_sum(tcp4(), false).bytes(), gre_with_sum(tcp4(), true).bytes());
}

// What does not parse has no key, but may have a checksum all the same.
TEST_F(InsideAfXdp, CompletedBehindOptions) {
    constexpr uint8_t kOptions = 60;
    auto outer6 = [](uint8_t next, const Packet &inner) {
        return Packet().eth(kIpv6).ipv6(kOptions).data(joined(destination_options(next), ip_of(inner))).bytes();
    };
    for (const auto &[next, inner] : {std::pair{kIpip, tcp4()}, {kSit, udp6()}}) {
        expect_out(outer6(next, Packet(inner).partial()), outer6(next, inner));
    }
    auto outer4 = [](const Packet &inner) {
        return Packet().eth(kIpv4).ipv4(IPPROTO_UDP, 0, 8).udp(40000, 4789).data(joined(kVxlanHeader, inner.bytes())).no_checksum().bytes();
    };
    expect_out(outer4(tcp4().partial()), outer4(tcp4()));
}

// Nothing is read or written behind the end of a frame, whose lengths say so.
TEST_F(InsideAfXdp, Truncated) {
    for (auto &c : kCases) {
        const Frame partial = c.partial();
        for (size_t n = ETH_HLEN; n < partial.size(); n++) {
            SCOPED_TRACE(std::string(c.name) + " cut to " + std::to_string(n));
            const Frame in(partial.begin(), partial.begin() + static_cast<ptrdiff_t>(n));
            expect_out(in, in);
        }
    }
}

}  // namespace
}  // namespace flowxlate::test
