// SPDX-License-Identifier: Apache-2.0
// ct() in the program: connections as OVS tells of them, a packet, and what
// becomes of all three.
//
// Each row is what OVS's lib/conntrack.c does with the packet, or a miss.  What a
// row does not name stays as it was: a miss changes nothing but 'closing', and a
// hit nothing but the lines of the directions in which it was.
#include <arpa/inet.h>
#include <linux/openvswitch.h>

#include <algorithm>
#include <cstring>
#include <optional>

#include "bpf/abi/conn.h"
#include "bpf/abi/counters.h"
#include "ct_flows.h"
#include "flowxlate/tables/buckets.h"
#include "flowxlate/tables/conn_table.h"
#include "row.h"
#include "tests/oracle/ct_packets.h"

namespace flowxlate::test {
namespace {

using oracle::Tuple;

constexpr uint8_t kTcp = IPPROTO_TCP, kUdp = IPPROTO_UDP, kIcmp = IPPROTO_ICMP;
constexpr int64_t kLong = 1000'000;

// -- Connections ------------------------------------------------------------

// Of host 1, port 1000, to host 2, port 80, in zone 1; both directions are
// established, and TCP windows are wide open.
struct Conn {
    explicit Conn(uint8_t proto, bool v6 = false) : v6(v6) {
        orig = {host(v6, 1), host(v6, 2), 1000, 80};
        if (proto == kIcmp || proto == kIcmpv6) {
            orig.sport = orig.dport = 7;
        }
        reply = orig.reversed();
        c.size = sizeof c;
        c.zone = 1;
        c.l3 = v6 ? 6 : 4;
        c.proto = proto;
        c.timeout_ms = kLong;
        c.expires_ms = now_ms() + kLong;
        states(kEst, kRpl);
        window(0, 1000, 100'000, 60'000);
        window(1, 9000, 100'000, 60'000);
    }
    Conn &zone(uint16_t zone) { return c.zone = zone, *this; }
    Conn &mark(uint32_t mark) { return c.mark = mark, *this; }
    Conn &label(uint8_t at, uint8_t value) { return c.label[at] = value, *this; }
    Conn &states(uint16_t original, uint16_t replies) {
        c.dir[0].state = original;
        c.dir[1].state = replies;
        return *this;
    }
    Conn &ports(uint16_t src, uint16_t dst) {
        orig.sport = reply.dport = src;
        orig.dport = reply.sport = dst;
        return *this;
    }
    Conn &hosts(uint8_t src, uint8_t dst) {
        orig.src = reply.dst = host(v6, src);
        orig.dst = reply.src = host(v6, dst);
        return *this;
    }
    Conn &snat(uint8_t n, uint16_t port) { return translate(&reply.dst, &reply.dport, n, port, kSrc, kDst); }
    Conn &dnat(uint8_t n, uint16_t port) { return translate(&reply.src, &reply.sport, n, port, kDst, kSrc); }
    Conn &translate(Address *address, uint16_t *port, uint8_t n, uint16_t to, uint16_t there, uint16_t back) {
        *address = host(v6, n);
        *port = c.proto == kTcp || c.proto == kUdp ? to : *port;
        c.dir[0].nat_state = there;
        c.dir[1].nat_state = back;
        return *this;
    }
    Conn &window(int d, uint32_t seq_end, uint32_t ack_win, uint32_t max_win, uint8_t wscale = 0) {
        c.dir[d].seq_end = seq_end;
        c.dir[d].ack_win = ack_win;
        c.dir[d].max_win = max_win;
        c.dir[d].wscale = wscale;
        return *this;
    }
    Conn &expires_at(int64_t ms, uint32_t timeout) {
        c.expires_ms = ms;
        c.timeout_ms = timeout;
        return *this;
    }

    ovs_offload_ct told() const {
        ovs_offload_ct told = c;
        const Tuple *tuples[] = {&orig, &reply};
        for (int d = 0; d < 2; d++) {
            const size_t n = v6 ? 16 : 4;
            auto &dir = told.dir[d];
            std::memcpy(dir.src, tuples[d]->src.data(), n);
            std::memcpy(dir.dst, tuples[d]->dst.data(), n);
            dir.tp_src = htons(tuples[d]->sport);
            dir.tp_dst = htons(tuples[d]->dport);
            if (c.proto == kIcmp || c.proto == kIcmpv6) {
                const uint8_t types[] = {uint8_t(v6 ? 128 : 8), uint8_t(v6 ? 129 : 0)};
                dir.tp_dst = 0;
                std::memcpy(&dir.tp_dst, &types[d], 1);
            }
        }
        return told;
    }
    // A packet of the original direction, or of the reply, as it arrives.
    Segment packet(bool is_reply = false) const {
        Segment s;
        s.v6 = v6;
        s.proto = c.proto;
        s.tuple = is_reply ? reply : orig;
        s.flags = kAck;
        s.seq = c.dir[is_reply].seq_end;
        s.ack = c.dir[!is_reply].seq_end;
        s.win = 500;
        s.icmp_type = v6 ? (is_reply ? 129 : 128) : (is_reply ? 0 : 8);
        s.payload = 40;
        return s;
    }

    bool v6;
    Tuple orig, reply;
    ovs_offload_ct c{};
};

Conn tcp() { return Conn(kTcp); }
Conn udp() { return Conn(kUdp); }
Conn ping() { return Conn(kIcmp); }
Conn tcp_6() { return Conn(kTcp, true); }
Conn udp_6() { return Conn(kUdp, true); }
Conn ping_6() { return Conn(kIcmpv6, true); }

// -- Packets ----------------------------------------------------------------

Segment empty(Segment s) { return s.flags = 0, s.payload = 0, s; }
Segment between(Segment s, Tuple tuple) { return s.tuple = tuple, s; }
Segment on_ports(Segment s, uint16_t src, uint16_t dst) { return s.tuple.sport = src, s.tuple.dport = dst, s; }
Segment of_type(Segment s, uint8_t type, uint8_t code = 0) { return s.icmp_type = type, s.icmp_code = code, s; }

Frame poke(Frame f, size_t at, uint8_t value) { return f[at] = value, f; }
Frame without_udp_sum(Frame f, bool v6 = false) { return poke(poke(f, v6 ? 60 : 40, 0), v6 ? 61 : 41, 0); }
Frame bad_ip_sum(Frame f) { return poke(f, 25, f[25] ^ 1); }
Frame tag(Frame f) { return with_tag(std::move(f), kVlan, 5); }

// -- Flows ------------------------------------------------------------------

std::vector<FlowSpec> look(uint16_t state, bool v6 = false) { return {first({ct(1)}, v6), then(1, state, 1, 0, v6)}; }
std::vector<FlowSpec> look_nat(uint16_t state, bool v6 = false) { return {first({nat(1)}, v6), then(1, state, 1, 0, v6)}; }

// -- Rows -------------------------------------------------------------------

struct CtRow {
    const char *name;
    std::vector<FlowSpec> flows;  // The packet passes all of them.
    std::vector<Conn> conns;
    Frame in;
    int miss = kNone;  // enum xf_miss.
    Frame out = {};    // Empty: the bytes that went in.
    // Directions that were used: 2 * connection, + 1 for the reply.
    std::vector<int> used = {};
    std::vector<int> closing = {};  // Connections.
    uint32_t verdict = XDP_REDIRECT;
    bool check_windows = true, expects = false;
};

CtRow hit(const char *name, const std::vector<FlowSpec> &flows, const std::vector<Conn> &conns, const Segment &in, const std::vector<int> &used, std::optional<Segment> out = {}) {
    return {name, flows, conns, in.frame(), kNone, out ? out->frame() : Frame{}, used};
}
CtRow hit(const char *name, const std::vector<FlowSpec> &flows, const std::vector<Conn> &conns, const Frame &in, const std::vector<int> &used, const Frame &out = {}) {
    return {name, flows, conns, in, kNone, out, used};
}
CtRow miss(const char *name, const std::vector<FlowSpec> &flows, const std::vector<Conn> &conns, const Frame &in, xf_miss why) {
    return {name, flows, conns, in, why};
}
CtRow miss(const char *name, const std::vector<FlowSpec> &flows, const std::vector<Conn> &conns, const Segment &in, xf_miss why) {
    return miss(name, flows, conns, in.frame(), why);
}
// Takes the connections' packets to OVS until that has seen this one.
CtRow closes(const char *name, const std::vector<Conn> &conns, const Segment &in) {
    CtRow row = miss(name, look(kEst), conns, in, XF_MISS_CT_STATE);
    row.closing = {0};
    return row;
}
CtRow while_expected(CtRow row) { return row.expects = true, row; }
CtRow without_windows(CtRow row) { return row.check_windows = false, row; }
CtRow dropped(CtRow row) { return row.verdict = XDP_DROP, row; }

void PrintTo(const CtRow &row, std::ostream *os) { *os << row.name; }  // NOLINT: gtest's name

// A port of the kernel datapath whose program cannot ask the kernel: what the userspace
// datapath knows of a connection is none of its business.
TEST(Conntrack, KernelDatapathDoesNotAskTheUserspaceTracker) {
    const Conn conn = udp();
    const auto in = conn.packet().frame();
    for (bool in_kernel_datapath : {false, true}) {
        SCOPED_TRACE(in_kernel_datapath);
        Program p(XF_PORT_TX_NATIVE, nullptr, {.in_kernel_datapath = in_kernel_datapath});
        ConnTable table(p.maps().connections());
        uint64_t handle = 0;
        table.open({sizeof(ovs_offload_ct_settings), true, false});
        table.put(conn.told(), &handle);
        for (auto &flow : look(kEst)) {
            p.add(flow);
        }
        EXPECT_EQ(p.run(in).verdict, in_kernel_datapath ? XDP_PASS : XDP_REDIRECT);
        EXPECT_EQ(p.misses(XF_MISS_CT_UNKNOWN), in_kernel_datapath ? 1U : 0U);
    }
}

class Bench {
public:
    explicit Bench(const CtRow &row) : p_(empty_program()), table_(p_.maps().connections()), row_(row) {
        table_.open({sizeof(ovs_offload_ct_settings), row.check_windows, row.expects});
        for (auto &conn : row.conns) {
            handles_.push_back(0);
            table_.put(conn.told(), &handles_.back());
        }
        for (auto &flow : row.flows) {
            slots_.push_back(p_.add(flow));
        }
    }
    ~Bench() {
        table_.close();
        p_.remove_all();
    }
    Bench(const Bench &) = delete;
    Bench &operator=(const Bench &) = delete;

    Run run(const Frame &in) { return p_.run(in); }
    uint64_t packets(size_t flow) const { return p_.table().stats(slots_[flow]).packets; }
    Program &program() { return p_; }
    ConnTable &table() { return table_; }
    uint64_t &handle(size_t i) { return handles_[i]; }
    xf_conn_use &line(int direction) {
        const uint32_t slot = static_cast<uint32_t>(handles_[direction / 2]);
        return p_.maps().connections().uses[2 * slot + direction % 2];
    }

    void check() {
        std::vector<xf_conn_use> before;
        for (size_t i = 0; i < 2 * row_.conns.size(); i++) {
            before.push_back(line(i));
        }
        const Run run = p_.run(row_.in);
        const bool is_hit = row_.miss == kNone;
        EXPECT_EQ(run.verdict, is_hit ? row_.verdict : uint32_t{XDP_PASS});
        if (run.verdict != XDP_DROP) {
            EXPECT_EQ(hex(run.out), hex(row_.out.empty() ? row_.in : row_.out));
        }
        for (size_t i = 0; i < slots_.size(); i++) {
            EXPECT_EQ(packets(i), is_hit) << "flow " << i;
        }
        for (int r = 0; r < XF_N_MISSES; r++) {
            EXPECT_EQ(p_.misses(static_cast<xf_miss>(r)), r == row_.miss) << "miss reason " << r;
        }
        for (int i = 0; i < static_cast<int>(before.size()); i++) {
            check_line(before[i], i);
        }
    }

private:
    static bool contains(const std::vector<int> &list, int i) { return std::find(list.begin(), list.end(), i) != list.end(); }

    void check_line(const xf_conn_use &before, int i) {
        const xf_conn_use &now = line(i);
        EXPECT_EQ(now.closing, contains(row_.closing, i / 2)) << "direction " << i;
        EXPECT_EQ(now.used_ms != 0, contains(row_.used, i)) << "direction " << i;
        if (!contains(row_.used, i)) {
            EXPECT_EQ(now.seq_end, before.seq_end) << "direction " << i;
            EXPECT_EQ(now.ack_win, before.ack_win) << "direction " << i;
            EXPECT_EQ(now.max_win, before.max_win) << "direction " << i;
        }
    }

    Program &p_;
    ConnTable table_;
    const CtRow &row_;
    std::vector<uint64_t> handles_;
    std::vector<FlowSlot> slots_;
};

class CtTest : public testing::TestWithParam<CtRow> {};

TEST_P(CtTest, Row) { Bench(GetParam()).check(); }

std::string ct_row_name(const testing::TestParamInfo<CtRow> &info) { return as_test_name(info.param.name); }

// ct() of what is known, in both directions.
std::vector<CtRow> look_rows() {
    const auto bidir = udp(), once = udp().states(0, 0), many = udp().states(kNew, 0);
    return {
        hit("TCP", look(kEst), {tcp()}, tcp().packet(), {0}),
        hit("TCP reply", look(kRpl), {tcp()}, tcp().packet(true), {1}),
        hit("TCP v6", look(kEst, true), {tcp_6()}, tcp_6().packet(), {0}),
        hit("TCP v6 reply", look(kRpl, true), {tcp_6()}, tcp_6().packet(true), {1}),
        hit("UDP", look(kEst), {bidir}, bidir.packet(), {0}),
        hit("UDP reply", look(kRpl), {bidir}, bidir.packet(true), {1}),
        hit("UDP v6 reply", look(kRpl, true), {udp_6()}, udp_6().packet(true), {1}),
        hit("UDP of one direction", look(kNew), {many}, many.packet(), {0}),
        miss("UDP of one direction, the first reply", look(kRpl), {many}, many.packet(true), XF_MISS_CT_STATE),
        miss("UDP, the second packet", look(kNew), {once}, once.packet(), XF_MISS_CT_STATE),
        hit("UDP without a checksum", look(kEst), {bidir}, without_udp_sum(bidir.packet().frame()), {0}),
        hit("ICMP", look(kEst), {ping()}, ping().packet(), {0}),
        hit("ICMP reply", look(kRpl), {ping()}, ping().packet(true), {1}),
        hit("ICMPv6", look(kEst, true), {ping_6()}, ping_6().packet(), {0}),
        hit("ICMPv6 reply", look(kRpl, true), {ping_6()}, ping_6().packet(true), {1}),
        hit("ICMP without an answer", look(kNew), {ping().states(kNew, 0)}, ping().packet(), {0}),
        hit("TCP with a tag", {first({ct(1)}).any_tag(), then(1, kEst).any_tag()}, {tcp()}, tag(tcp().packet().frame()), {0}),
        hit("an urgent segment", look(kEst), {tcp()}, with_flags(tcp().packet(), kAck | kUrg | kPsh), {0}),
        dropped(hit("then dropped", {first({ct(1)}), then(1, kEst).drop()}, {tcp()}, tcp().packet(), {0})),
        dropped(hit("dropped at once", {doing(FlowSpec::ipv4().drop(), {ct(1)})}, {tcp()}, tcp().packet(), {0})),
        hit("sent at once", {doing(FlowSpec::ipv4().to(kOut), {ct(1)})}, {tcp()}, tcp().packet(), {0}),
        miss("then no flow", {first({ct(1)})}, {tcp()}, tcp().packet(), XF_MISS_RECIRC),
        miss("then a flow of another state", {first({ct(1)}), then(1, kRpl)}, {tcp()}, tcp().packet(), XF_MISS_RECIRC),
        miss("then no way out", {first({ct(1)}), then(1, kEst).to(kDown)}, {tcp()}, tcp().packet(), XF_MISS_TX_PORT),
        hit("the identifier tells of ICMP", look(kNew), {ping()}, on_ports(ping().packet(), 8, 8), {}),
        hit("the zone tells of TCP", look(kNew), {tcp().zone(2)}, tcp().packet(), {}),
        hit("the highest zone", {first({ct(0xffff)}), then(1, kEst, 0xffff)}, {tcp().zone(0xffff)}, tcp().packet(), {0}),
        hit("zone 0", {first({ct(0)}), then(1, kEst, 0)}, {tcp().zone(0)}, tcp().packet(), {0}),
        // Who answers itself.
        hit("to itself, on one port", look(kEst), {udp().hosts(1, 1).ports(5, 5)}, udp().hosts(1, 1).ports(5, 5).packet(), {0}),
        hit("to itself, on two ports", look(kRpl), {udp().hosts(1, 1).ports(5, 6)}, udp().hosts(1, 1).ports(6, 5).packet(), {1}),
    };
}

// What OVS must see as it came.
std::vector<CtRow> packet_rows() {
    const auto t = tcp().packet();
    const auto sctp = Packet().eth(kIpv4).ipv4(kSctp).sctp(1, 2).payload(20).bytes();
    const Frame frag = Packet().eth(kIpv4).ipv4(kUdp, 0x2000).udp(1000, 80).payload(20).bytes();
    return {
        miss("bad IPv4 header checksum", look(kEst), {tcp()}, bad_ip_sum(t.frame()), XF_MISS_CT_PACKET),
        miss("SCTP", look(kNew), {}, sctp, XF_MISS_CT_PACKET),
        miss("GRE", look(kNew), {}, Packet().eth(kIpv4).ipv4(47).payload(20).bytes(), XF_MISS_CT_PACKET),
        miss("ICMP over IPv6", look(kNew, true), {}, Packet().eth(kIpv6).ipv6(1).payload(20).bytes(), XF_MISS_CT_PACKET),
        miss("first fragment", look(kNew), {}, frag, XF_MISS_CT_PACKET),
        miss("later fragment", look(kNew), {}, Packet().eth(kIpv4).ipv4(kUdp, 5).payload(20).bytes(), XF_MISS_CT_PACKET),
        miss("UDP v6 without a checksum", look(kEst, true), {udp_6()}, without_udp_sum(udp_6().packet().frame(), true), XF_MISS_CT_PACKET),
        miss("UDP length above that of IP", look(kEst), {udp()}, poke(udp().packet().frame(), 39, 49), XF_MISS_CT_PACKET),
        miss("UDP length below a header", look(kEst), {udp()}, poke(udp().packet().frame(), 39, 7), XF_MISS_CT_PACKET),
        miss("TCP source port 0", look(kNew), {}, on_ports(t, 0, 80), XF_MISS_CT_PACKET),
        miss("TCP destination port 0", look(kNew), {}, on_ports(t, 1000, 0), XF_MISS_CT_PACKET),
        miss("UDP source port 0", look(kNew), {}, on_ports(udp().packet(), 0, 80), XF_MISS_CT_PACKET),
        miss("UDP destination port 0", look(kNew), {}, on_ports(udp().packet(), 1000, 0), XF_MISS_CT_PACKET),
        miss("FTP", look(kNew), {}, on_ports(t, 1000, 21), XF_MISS_CT_PACKET),
        miss("FTP, the reply", look(kNew), {}, on_ports(t, 21, 1000), XF_MISS_CT_PACKET),
        miss("TFTP", look(kNew), {}, on_ports(udp().packet(), 1000, 69), XF_MISS_CT_PACKET),
        hit("from TFTP's port", look(kNew), {}, on_ports(udp().packet(), 69, 1000), {}),
        hit("UDP to FTP's port", look(kNew), {}, on_ports(udp().packet(), 1000, 21), {}),
        miss("ICMP of another type", look(kNew), {}, of_type(ping().packet(), 13), XF_MISS_CT_PACKET),
        miss("ICMP error", look(kNew), {}, of_type(ping().packet(), 3), XF_MISS_CT_PACKET),
        miss("ICMP echo with a code", look(kEst), {ping()}, of_type(ping().packet(), 8, 1), XF_MISS_CT_PACKET),
        miss("ICMPv6 solicitation of a router", look(kNew, true), {}, of_type(ping_6().packet(), 133), XF_MISS_CT_PACKET),
        miss("ICMPv6's type over IPv4", look(kNew), {}, of_type(ping().packet(), 128), XF_MISS_CT_PACKET),
    };
}

// What is of no connection.
std::vector<CtRow> unknown_rows() {
    const auto t = tcp().packet();
    auto flags = [&](const char *name, uint8_t f, bool valid) {
        return valid ? hit(name, look(kNew), {}, with_flags(t, f), {}) : miss(name, look(kNew), {}, with_flags(t, f), XF_MISS_CT_UNKNOWN);
    };
    return {
        hit("TCP", look(kNew), {}, t, {}),
        hit("UDP", look(kNew), {}, udp().packet(), {}),
        hit("UDP v6", look(kNew, true), {}, udp_6().packet(), {}),
        hit("ICMP request", look(kNew), {}, ping().packet(), {}),
        hit("ICMPv6 request", look(kNew, true), {}, ping_6().packet(), {}),
        miss("ICMP reply", look(kNew), {}, ping().packet(true), XF_MISS_CT_UNKNOWN),
        miss("ICMPv6 reply", look(kNew, true), {}, ping_6().packet(true), XF_MISS_CT_UNKNOWN),
        flags("SYN", kSyn, true),
        flags("SYN ACK", kSyn | kAck, false),
        flags("SYN FIN", kSyn | kFin, false),
        flags("SYN RST", kSyn | kRst, false),
        flags("SYN PSH", kSyn | kPsh, false),
        flags("SYN URG", kSyn | kUrg, false),
        flags("no flag", 0, false),
        flags("FIN", kFin, false),
        flags("FIN ACK", kFin | kAck, true),
        flags("RST", kRst, true),
        flags("RST ACK", kRst | kAck, true),
        flags("RST FIN", kRst | kFin, false),
        flags("RST PSH", kRst | kPsh, false),
        flags("RST URG", kRst | kUrg, false),
        flags("PSH", kPsh, false),
        flags("all with ACK", kAck | kPsh | kUrg | kFin, true),
        miss("commit", {first({commit(1)}), then(1, kNew)}, {}, t, XF_MISS_CT_UNKNOWN),
        hit("with translation", look_nat(kNew), {}, t, {}),
        while_expected(miss("while there is an expectation", look(kNew), {}, t, XF_MISS_CT_UNKNOWN)),
        while_expected(hit("known while there is an expectation", look(kEst), {tcp()}, t, {0})),
        hit("the state of another zone is forgotten", {first({ct(1), ct(2)}), then(1, kNew, 2)}, {tcp().mark(7)}, t, {0}),
        miss("a mark asked of nothing", {first({marking(commit(1), 1, 1)}), then(1, kNew)}, {}, t, XF_MISS_CT_UNKNOWN),
    };
}

// What ends or may end a connection.
std::vector<CtRow> closing_rows() {
    constexpr int kFarOut = (1 << 20) + 1;
    auto off = [](int by) {
        Segment s = tcp().packet();
        s.seq += by;
        return s;
    };
    return {
        closes("FIN", {tcp()}, with_flags(tcp().packet(), kFin | kAck)),
        closes("FIN, the reply", {tcp()}, with_flags(tcp().packet(true), kFin | kAck)),
        closes("RST", {tcp()}, with_flags(tcp().packet(), kRst)),
        closes("RST ACK, the reply", {tcp()}, with_flags(tcp().packet(true), kRst | kAck)),
        closes("SYN", {tcp()}, with_flags(tcp().packet(), kSyn)),
        closes("SYN ACK, the reply", {tcp()}, with_flags(tcp().packet(true), kSyn | kAck)),
        closes("RST almost far", {tcp()}, with_flags(off(1 << 20), kRst)),
        closes("RST almost far behind", {tcp()}, with_flags(off(-(1 << 20)), kRst)),
        miss("RST with a forged number", look(kEst), {tcp()}, with_flags(off(kFarOut), kRst), XF_MISS_CT_WINDOW),
        miss("RST behind", look(kEst), {tcp()}, with_flags(off(-kFarOut), kRst | kAck), XF_MISS_CT_WINDOW),
        without_windows(closes("RST with a forged number, all are valid", {tcp()}, with_flags(off(kFarOut), kRst))),
        miss("FIN with a forged number", look(kEst), {tcp()}, with_flags(off(1 << 30), kFin | kAck), XF_MISS_CT_WINDOW),
        miss("FIN behind", look(kEst), {tcp()}, with_flags(off(-(1 << 30)), kFin | kAck), XF_MISS_CT_WINDOW),
        miss("SYN with a forged number", look(kEst), {tcp()}, with_flags(off(1 << 30), kSyn), XF_MISS_CT_WINDOW),
        // OVS finds it invalid whatever its number is (tcp_invalid_flags()), so
        // nothing need wait for it.
        miss("no flag", look(kEst), {tcp()}, with_flags(tcp().packet(), 0), XF_MISS_CT_PACKET),
        miss("no flag while it is opened", look(kEst), {tcp().states(0, 0)}, with_flags(tcp().packet(), 0), XF_MISS_CT_PACKET),
        miss("PSH", look(kEst), {tcp()}, with_flags(tcp().packet(), kPsh), XF_MISS_CT_PACKET),
        miss("FIN without ACK", look(kEst), {tcp()}, with_flags(tcp().packet(), kFin), XF_MISS_CT_PACKET),
        miss("SYN FIN", look(kEst), {tcp()}, with_flags(tcp().packet(), kSyn | kFin | kAck), XF_MISS_CT_PACKET),
        miss("SYN RST", look(kEst), {tcp()}, with_flags(tcp().packet(), kSyn | kRst), XF_MISS_CT_PACKET),
        miss("RST PSH without ACK", look(kEst), {tcp()}, with_flags(tcp().packet(), kRst | kPsh), XF_MISS_CT_PACKET),
        miss("no flag and no data, with a forged number", look(kEst), {tcp()}, empty(off(1 << 30)), XF_MISS_CT_PACKET),
        miss("PSH and no data, with a forged number", look(kEst), {tcp()}, with_flags(empty(off(1 << 30)), kPsh), XF_MISS_CT_PACKET),
        closes("RST with a forged number while it is opened", {tcp().states(0, 0)}, with_flags(off(1 << 30), kRst)),
        closes("SYN while it is opened", {tcp().states(0, 0)}, with_flags(tcp().packet(), kSyn)),
        miss("data while it is opened", look(kEst), {tcp().states(0, 0)}, tcp().packet(), XF_MISS_CT_STATE),
    };
}

// Translation; the bytes are those of the packet made anew.
std::vector<CtRow> nat_rows() {
    const auto t_s = tcp().snat(9, 5000), t_d = tcp().dnat(8, 8080), u_s = udp().snat(9, 5000), u_d = udp().dnat(8, 8080),
               p_s = ping().snat(9, 0), p_d = ping().dnat(8, 0);
    const auto t6_s = tcp_6().snat(9, 5000), t6_d = tcp_6().dnat(8, 8080), u6_s = udp_6().snat(9, 5000), p6_s = ping_6().snat(9, 0);
    const auto same = tcp().snat(1, 1000);  // nat(src) without an address.
    auto there = [](const Conn &c) { return between(c.packet(), c.reply.reversed()); };
    auto back = [](const Conn &c) { return between(c.packet(true), c.orig.reversed()); };
    return {
        hit("TCP source", look_nat(kEst | kSrc), {t_s}, t_s.packet(), {0}, there(t_s)),
        hit("TCP source, back", look_nat(kRpl | kDst), {t_s}, t_s.packet(true), {1}, back(t_s)),
        hit("TCP destination", look_nat(kEst | kDst), {t_d}, t_d.packet(), {0}, there(t_d)),
        hit("TCP destination, back", look_nat(kRpl | kSrc), {t_d}, t_d.packet(true), {1}, back(t_d)),
        hit("UDP source", look_nat(kEst | kSrc), {u_s}, u_s.packet(), {0}, there(u_s)),
        hit("UDP destination, back", look_nat(kRpl | kSrc), {u_d}, u_d.packet(true), {1}, back(u_d)),
        hit("UDP without a checksum", look_nat(kEst | kSrc), {u_s}, without_udp_sum(u_s.packet().frame()), {0}, without_udp_sum(there(u_s).frame())),
        hit("ICMP source", look_nat(kEst | kSrc), {p_s}, p_s.packet(), {0}, there(p_s)),
        hit("ICMP destination, back", look_nat(kRpl | kSrc), {p_d}, p_d.packet(true), {1}, back(p_d)),
        hit("TCP v6 source", look_nat(kEst | kSrc, true), {t6_s}, t6_s.packet(), {0}, there(t6_s)),
        hit("TCP v6 destination, back", look_nat(kRpl | kSrc, true), {t6_d}, t6_d.packet(true), {1}, back(t6_d)),
        hit("UDP v6 source", look_nat(kEst | kSrc, true), {u6_s}, u6_s.packet(), {0}, there(u6_s)),
        hit("ICMPv6 source", look_nat(kEst | kSrc, true), {p6_s}, p6_s.packet(), {0}, there(p6_s)),
        hit("ICMPv6 source, back", look_nat(kRpl | kDst, true), {p6_s}, p6_s.packet(true), {1}, back(p6_s)),
        hit("not asked for", look(kEst), {t_s}, t_s.packet(), {0}),
        hit("none to be done", look_nat(kEst), {tcp()}, tcp().packet(), {0}),
        hit("to what is there already", look_nat(kEst | kSrc), {same}, same.packet(), {0}),
        hit("asked for twice", {first({nat(1), nat(1)}), then(1, kEst | kSrc)}, {t_s}, t_s.packet(), {0}, there(t_s)),
        hit("asked for twice, back", {first({nat(1), nat(1)}), then(1, kRpl | kDst)}, {t_s}, t_s.packet(true), {1}, back(t_s)),
        hit("found, then asked for", {first({ct(1), nat(1)}), then(1, kEst | kSrc)}, {t_s}, t_s.packet(), {0}, there(t_s)),
        hit("asked for again by the next flow", {on(first({nat(1)}), 1), doing(on(then(1, kEst | kSrc), 2), {nat(1)}), then(2, kEst | kSrc)}, {t_s}, t_s.packet(), {0}, there(t_s)),
        hit("one after the other", {first({nat(1), nat(2)}), then(1, kEst | kDst, 2)}, {t_d, tcp().zone(2).hosts(1, 8).ports(1000, 8080).dnat(7, 70)}, t_d.packet(), {0, 2}, to(t_d.packet(), 7, 70)),
        hit("source and destination", {first({nat(1), nat(2)}), then(1, kEst | kSrc, 2)}, {t_d, tcp().zone(2).hosts(1, 8).ports(1000, 8080).snat(9, 90)}, t_d.packet(), {0, 2}, from(there(t_d), 9, 90)),
        hit("with a tag", {first({nat(1)}).any_tag(), then(1, kEst | kSrc).any_tag()}, {t_s}, tag(t_s.packet().frame()), {0}, tag(there(t_s).frame())),
        hit("and sent at once", {doing(FlowSpec::ipv4().to(kOut), {nat(1)})}, {t_s}, t_s.packet(), {0}, there(t_s)),
        dropped(hit("and dropped", {first({nat(1)}), then(1, kEst | kSrc).drop()}, {t_s}, t_s.packet(), {0})),
        miss("then no flow", {first({nat(1)})}, {t_s}, t_s.packet(), XF_MISS_RECIRC),
        miss("forgotten, and not found any more with translation", {first({nat(1), ct(1)}), then(1, kEst | kSrc)}, {}, t_s.packet(), XF_MISS_RECIRC),
        hit("translated, forgotten: of none", {first({nat(1), cleared(ct(1))}), then(1, kNew)}, {t_s}, t_s.packet(), {0}, there(t_s)),
        hit("hairpin: the same zone for the way in and out", {first({nat(1), ct(2), nat(1)}), then(1, kNew)}, {t_d}, t_d.packet(), {0}, there(t_d)),
        miss("translated, its address set, of none", {doing(setting_source(FlowSpec::ipv4().recirc_to(1), 5), {nat(1), ct(1)}, 1), then(1, kEst | kSrc)}, {t_s}, t_s.packet(), XF_MISS_CT_UNKNOWN),
    };
}

// Marks, labels, and what they are asked to be.
std::vector<CtRow> mark_rows() {
    const auto marked = tcp().mark(0xf5), labelled = tcp().label(0, 1).label(9, 2);
    const FlowSpec five = then(1, kEst, 1, 0xf5), is_labelled = with_label(with_label(then(1, kEst), 0, 1), 9, 2);
    auto asked = [](const xf_ct_step &step, const FlowSpec &flow) { return std::vector<FlowSpec>{first({step}), flow}; };
    auto label = [](uint64_t lo, uint64_t lo_mask, uint64_t hi, uint64_t hi_mask) { return labelling(commit(1), lo, lo_mask, hi, hi_mask); };
    return {
        hit("mark", {first({ct(1)}), five}, {marked}, tcp().packet(), {0}),
        miss("another mark", {first({ct(1)}), five}, {tcp().mark(0xf4)}, tcp().packet(), XF_MISS_RECIRC),
        hit("label", {first({ct(1)}), is_labelled}, {labelled}, tcp().packet(), {0}),
        miss("another label", {first({ct(1)}), is_labelled}, {tcp().label(0, 1).label(9, 3)}, tcp().packet(), XF_MISS_RECIRC),
        miss("another label below", {first({ct(1)}), is_labelled}, {tcp().label(0, 2).label(9, 2)}, tcp().packet(), XF_MISS_RECIRC),
        hit("commit", asked(commit(1), five), {marked}, tcp().packet(), {0}),
        hit("commit by the reply", asked(commit(1), then(1, kRpl, 1, 0xf5)), {marked}, tcp().packet(true), {1}),
        hit("the mark that it has", asked(marking(commit(1), 0xf5, 0xffffffff), five), {marked}, tcp().packet(), {0}),
        hit("the bits that it has", asked(marking(commit(1), 0x5, 0xf), five), {marked}, tcp().packet(), {0}),
        hit("no bit", asked(marking(commit(1), 0, 0), five), {marked}, tcp().packet(), {0}),
        miss("a bit that it has not", asked(marking(commit(1), 0x2, 0x2), five), {marked}, tcp().packet(), XF_MISS_CT_CHANGE),
        miss("the highest bit", asked(marking(commit(1), 0x80000000, 0x80000000), five), {marked}, tcp().packet(), XF_MISS_CT_CHANGE),
        miss("not a bit that it has", asked(marking(commit(1), 0, 0x1), five), {marked}, tcp().packet(), XF_MISS_CT_CHANGE),
        hit("the label that it has", asked(label(1, ~0ULL, 0x200, ~0ULL), is_labelled), {labelled}, tcp().packet(), {0}),
        hit("bits of the label that it has", asked(label(1, 3, 0x200, 0x300), is_labelled), {labelled}, tcp().packet(), {0}),
        miss("another bit of the lower half", asked(label(2, 2, 0, 0), is_labelled), {labelled}, tcp().packet(), XF_MISS_CT_CHANGE),
        miss("another bit of the upper half", asked(label(0, 0, 0x100, 0x100), is_labelled), {labelled}, tcp().packet(), XF_MISS_CT_CHANGE),
        miss("the mark right, the label not", asked(labelling(marking(commit(1), 0xf5, 0xff), 1, 1), five), {marked}, tcp().packet(), XF_MISS_CT_CHANGE),
        miss("the second of two", {first({commit(1), marking(commit(2), 1, 1)}), then(1, kEst, 2)}, {tcp(), tcp().zone(2)}, tcp().packet(), XF_MISS_CT_CHANGE),
        miss("of one that was found before", {first({ct(1), marking(commit(1), 1, 1)}), then(1, kEst)}, {tcp()}, tcp().packet(), XF_MISS_CT_CHANGE),
    };
}

// Several ct(), and what is between.
std::vector<CtRow> chain_rows() {
    const std::vector<Conn> two = {tcp().mark(1), tcp().zone(2).mark(2)};
    std::vector<FlowSpec> nine;
    std::vector<Conn> zones;
    for (uint16_t i = 0; i < 3; i++) {
        FlowSpec f = i == 0 ? FlowSpec::ipv4() : any(then(i, 0));
        nine.push_back(doing(on(f, i + 1), {ct(3 * i), ct(3 * i + 1), ct(3 * i + 2)}));
        for (uint16_t z = 0; z < 3; z++) {
            zones.push_back(tcp().zone(3 * i + z));
        }
    }
    std::vector<FlowSpec> eight = nine;
    eight[2].rewrite.ct[2] = {};
    nine.push_back(then(3, kEst, 8));
    eight.push_back(then(3, kEst, 7));
    const std::vector<int> all_eight = {0, 2, 4, 6, 8, 10, 12, 14};
    const auto moved = tcp().hosts(5, 2);
    const FlowSpec plain = FlowSpec::ipv4().recirc_to(1);
    return {
        hit("two zones", {first({ct(1), ct(2)}), then(1, kEst, 2, 2)}, two, tcp().packet(), {0, 2}),
        hit("the other way round", {first({ct(2), ct(1)}), then(1, kEst, 1, 1)}, two, tcp().packet(), {0, 2}),
        hit("the same zone twice", {first({ct(1), ct(1)}), then(1, kEst, 1, 1)}, two, tcp().packet(), {0}),
        hit("the same zone in two flows", {on(first({ct(1)}), 1), doing(on(then(1, kEst, 1, 1), 2), {ct(1)}), then(2, kEst, 1, 1)}, two, tcp().packet(), {0}),
        hit("back to the first zone", {first({ct(1), ct(2), ct(1)}), then(1, kEst, 1, 1)}, two, tcp().packet(), {0, 2}),
        hit("forgotten", {first({ct(1), cleared()}), then(1, 0, 0)}, two, tcp().packet(), {0}),
        hit("forgotten by the next flow", {first({ct(1)}), doing(on(then(1, kEst, 1, 1), 2), {cleared()}), then(2, 0, 0)}, two, tcp().packet(), {0}),
        hit("forgotten, then found again", {first({ct(1), cleared(ct(1))}), then(1, kEst, 1, 1)}, two, tcp().packet(), {0}),
        hit("known, then of none", {first({ct(1), ct(3)}), then(1, kNew, 3)}, two, tcp().packet(), {0}),
        hit("of none, then known", {first({ct(3), ct(1)}), then(1, kEst, 1, 1)}, two, tcp().packet(), {0}),
        miss("the second is being opened", {first({ct(1), ct(2)}), then(1, kEst, 2)}, {tcp(), tcp().zone(2).states(0, 0)}, tcp().packet(), XF_MISS_CT_STATE),
        hit("fields set before", {setting_ttl(first({ct(1)})), then(1, kEst)}, {tcp()}, tcp().packet(), {0}),
        hit("address set before", {doing(setting_source(plain, 5), {ct(1)}), then(1, kEst)}, {moved}, tcp().packet(), {0}, moved.packet()),
        hit("address set behind", {doing(setting_source(plain, 5), {ct(1)}, 1), then(1, kEst)}, {tcp()}, tcp().packet(), {0}, moved.packet()),
        hit("address set between, of another connection", {doing(setting_source(plain, 5), {ct(1), ct(1)}, 1), then(1, kEst, 1, 9)}, {tcp(), tcp().hosts(5, 2).mark(9)}, tcp().packet(), {0, 2}, moved.packet()),
        hit("address set between, of none", {doing(setting_source(plain, 5), {ct(1), ct(1)}, 1), then(1, kNew)}, {tcp()}, tcp().packet(), {0}, moved.packet()),
        hit("address set by the first flow, ct by the second", {setting_source(plain, 5), doing(on(any(then(1, 0)), 2), {ct(1)}), then(2, kEst)}, {moved}, tcp().packet(), {0}, moved.packet()),
        hit("eight connections", eight, zones, tcp().packet(), all_eight),
        miss("nine connections", nine, zones, tcp().packet(), XF_MISS_RECIRC),
        // The reply of one that it has been the original packet of.
        miss("in both directions of a connection", {doing(plain, {ct(1), cleared()}), doing(on(any(then(1, 0)).set(AT(ipv4_src), {10, 0, 0, 2, 10, 0, 0, 1}, Frame(8, 0xff)).set(AT(tp_src), {0, 80, 3, 232}, Frame(4, 0xff)), 2), {ct(1)}), then(2, kRpl)}, {tcp()}, tcp().packet(), XF_MISS_CT_STATE),
    };
}

INSTANTIATE_TEST_SUITE_P(CtLook, CtTest, testing::ValuesIn(look_rows()), ct_row_name);
INSTANTIATE_TEST_SUITE_P(CtPacket, CtTest, testing::ValuesIn(packet_rows()), ct_row_name);
INSTANTIATE_TEST_SUITE_P(CtUnknown, CtTest, testing::ValuesIn(unknown_rows()), ct_row_name);
INSTANTIATE_TEST_SUITE_P(CtClosing, CtTest, testing::ValuesIn(closing_rows()), ct_row_name);
INSTANTIATE_TEST_SUITE_P(CtNat, CtTest, testing::ValuesIn(nat_rows()), ct_row_name);
INSTANTIATE_TEST_SUITE_P(CtMark, CtTest, testing::ValuesIn(mark_rows()), ct_row_name);
INSTANTIATE_TEST_SUITE_P(CtChain, CtTest, testing::ValuesIn(chain_rows()), ct_row_name);

// -- TCP's window -----------------------------------------------------------

// In tcp_conn_update()'s words: the sender's seqlo is 1000000, its seqhi 1005000,
// the receiver's max_win 3000 and seqlo 9000.
constexpr uint32_t kLo = 1000'000, kHi = 1005'000, kWin = 3000, kAcked = 9000, kSkew = 0xffff + 1500;

struct Window {
    const char *name;
    uint32_t seq, len, ack;
    bool good;
    uint8_t self_scale = 0, other_scale = 0;
    uint32_t offset = 0;  // Of all sequence numbers of the sender.
    uint32_t high = kHi;
};

const Window kWindows[] = {
    {"next", kLo, 100, kAcked, true},
    {"one below the end", kHi - 101, 100, kAcked, true},
    {"at the end", kHi - 100, 100, kAcked, true},
    {"one above the end", kHi - 99, 100, kAcked, false},
    {"one above the beginning", kLo - kWin + 1, 100, kAcked, true},
    {"at the beginning", kLo - kWin, 100, kAcked, true},
    {"one below the beginning", kLo - kWin - 1, 100, kAcked, false},
    {"scaled, at the beginning", kLo - 8 * kWin, 100, kAcked, true, 0, 3},
    {"scaled, one below the beginning", kLo - 8 * kWin - 1, 100, kAcked, false, 0, 3},
    {"the sender's scale is not the receiver's", kLo - kWin - 1, 100, kAcked, false, 3, 0},
    {"one below the highest acknowledgement", kLo, 100, kAcked + kSkew - 1, true},
    {"the highest acknowledgement", kLo, 100, kAcked + kSkew, true},
    {"one above", kLo, 100, kAcked + kSkew + 1, false},
    {"which no scale changes", kLo, 100, kAcked + kSkew + 1, false, 3, 3},
    {"one above the lowest acknowledgement", kLo, 100, kAcked - kSkew + 1, true},
    {"the lowest acknowledgement", kLo, 100, kAcked - kSkew, true},
    {"one below", kLo, 100, kAcked - kSkew - 1, false},
    {"scaled, the lowest acknowledgement", kLo, 100, kAcked - 4 * kSkew, true, 2, 0},
    {"scaled, one below", kLo, 100, kAcked - 4 * kSkew - 1, false, 2, 0},
    {"the receiver's scale is not the sender's", kLo, 100, kAcked - kSkew - 1, false, 0, 2},
    {"without data, anywhere", kLo + 12345678, 0, kAcked, true},
    {"without data, the window is full", kLo, 0, kAcked, true, 0, 0, 0, kLo},
    {"without data, behind a window that is full", kLo, 0, kAcked, false, 0, 0, 0, kLo - 1},
    {"around 2^32", kLo, 100, kAcked, true, 0, 0, 0U - kLo - 50},
    {"around 2^32, one above the end", kHi - 99, 100, kAcked, false, 0, 0, 0U - kHi},
    {"around 2^32, one below the beginning", kLo - kWin - 1, 100, kAcked, false, 0, 0, 0U - kLo + kWin},
    {"around 2^31", kLo, 100, kAcked, true, 0, 0, (1U << 31) - kLo - 50},
};

TEST(CtWindow, Bounds) {
    for (auto &w : kWindows) {
        for (const bool reply : {false, true}) {
            SCOPED_TRACE(std::string(w.name) + (reply ? ", reply" : ""));
            Conn c = tcp();
            c.window(reply, kLo + w.offset, kAcked + 50'000, 100, w.self_scale);
            c.window(!reply, kAcked, w.high + w.offset, kWin, w.other_scale);
            Segment s = c.packet(reply);
            s.seq = w.seq + w.offset;
            s.payload = w.len;
            s.ack = w.ack;
            const auto flows = look(reply ? kRpl : kEst);
            Bench(w.good ? hit("", flows, {c}, s, {reply}) : miss("", flows, {c}, s, XF_MISS_CT_WINDOW)).check();
            if (!w.good) {
                Bench(without_windows(hit("", flows, {c}, s, {reply}))).check();
            }
        }
    }
}

// What a packet that passes moves.
TEST(CtWindow, Moves) {
    static const struct {
        const char *name;
        uint32_t seq, len, ack;
        uint16_t win;
        uint8_t scale;
        uint32_t seq_end, ack_win, max_win;
    } kRows[] = {
        {"data", kLo, 100, kAcked, 500, 0, kLo + 100, kAcked + 500, 500},
        {"data, scaled", kLo, 100, kAcked, 500, 4, kLo + 100, kAcked + 8000, 500},
        {"old data", kLo - 100, 50, kAcked, 500, 0, kLo, kAcked + 500, 500},
        {"no data", kLo + 700, 0, kAcked, 500, 0, kLo, kAcked + 500, 500},
        {"a smaller window", kLo, 100, kAcked, 99, 0, kLo + 100, kAcked + 100, 100},
        {"a window of 0", kLo, 100, kAcked + 100, 0, 0, kLo + 100, kAcked + 101, 100},
        {"as far as it was", kLo, 100, kAcked, 100, 0, kLo + 100, kAcked + 100, 100},
        {"not as far", kLo, 100, kAcked - 1, 100, 0, kLo + 100, kAcked + 100, 100},
    };
    for (auto &r : kRows) {
        SCOPED_TRACE(r.name);
        Conn c = tcp();
        c.window(0, kLo, kAcked + 100, 100, r.scale).window(1, kAcked, kHi, kWin);
        Segment s = c.packet();
        s.seq = r.seq;
        s.payload = r.len;
        s.ack = r.ack;
        s.win = r.win;
        const CtRow row = hit("", look(kEst), {c}, s, {0});
        Bench b(row);
        b.check();
        EXPECT_EQ(b.line(0).seq_end, r.seq_end);
        EXPECT_EQ(b.line(0).ack_win, r.ack_win);
        EXPECT_EQ(b.line(0).max_win, r.max_win);
        // OVS learns of it.
        ovs_offload_ct_use use{};
        EXPECT_TRUE(b.table().use(b.handle(0), &use));
        EXPECT_EQ(use.dir[0].seq_end, r.seq_end);
        EXPECT_EQ(use.dir[0].ack_win, r.ack_win);
        EXPECT_EQ(use.dir[0].max_win, r.max_win);
        EXPECT_EQ(use.expires_ms, use.used_ms + kLong);
    }
}

// OVS judges a packet that it finds a second time by what that has moved: one
// with more data than the receiver's largest window would be too old then.
TEST(CtWindow, TwiceTheSamePacket) {
    Conn c = tcp();
    c.window(0, kLo, kAcked + 100, 100).window(1, kAcked, kHi, 10);
    Segment s = c.packet();
    s.seq = kLo;
    s.ack = kAcked;
    for (const size_t len : {10, 11}) {
        s.payload = len;
        const std::vector<FlowSpec> flows = {first({ct(1), cleared(ct(1))}), then(1, kEst)};
        Bench(len <= 10 ? hit("", flows, {c}, s, {0}) : miss("", flows, {c}, s, XF_MISS_CT_WINDOW)).check();
    }
}

// -- Time -------------------------------------------------------------------

// Runs a packet until after 'end', and expects that it is executed to the
// millisecond; before each, 'prepare' makes the lines as if no other had been.
template <typename Fn>
void expect_until(Bench *b, const Frame &in, int64_t end, Fn prepare) {
    uint64_t n_before = 0, n_after = 0;
    while (now_ms() < end + 20) {
        prepare();
        const uint64_t n = b->packets(0);
        const int64_t before = now_ms();
        b->run(in);
        const int64_t after = now_ms();
        const bool was_hit = b->packets(0) != n;
        if (after < end) {
            EXPECT_TRUE(was_hit) << end - after << " ms before";
            n_before++;
        } else if (before >= end) {
            EXPECT_FALSE(was_hit) << before - end << " ms after";
            n_after++;
        }
    }
    EXPECT_GT(n_before, 0U);
    EXPECT_GT(n_after, 0U);
}

TEST(CtTime, ExpiresAsOvsSays) {
    const int64_t end = now_ms() + 60;
    const CtRow row = hit("", look(kEst), {udp().expires_at(end, 1)}, udp().packet(), {0});
    Bench b(row);
    expect_until(&b, row.in, end, [&] { b.line(0).used_ms = b.line(1).used_ms = 0; });
}

// A packet of either direction keeps both.
TEST(CtTime, LastsAsLongAsItIsUsed) {
    for (const int used : {0, 1}) {
        SCOPED_TRACE(used);
        const CtRow row = hit("", look(kEst), {udp().expires_at(now_ms() - 1, 50)}, udp().packet(), {0});
        Bench b(row);
        const int64_t end = now_ms() + 60;
        expect_until(&b, row.in, end, [&] {
            b.line(!used).used_ms = 1;
            b.line(used).used_ms = end - 50;
        });
    }
}

TEST(CtTime, IsUsedNow) {
    const CtRow row = hit("", look(kEst), {udp()}, udp().packet(), {0});
    Bench b(row);
    const int64_t before = now_ms();
    b.check();
    EXPECT_GE(static_cast<int64_t>(b.line(0).used_ms), before);
    EXPECT_LE(static_cast<int64_t>(b.line(0).used_ms), now_ms());
}

// -- What OVS tells of, and when --------------------------------------------

// After a packet that may close it, none is executed until OVS has seen one.
TEST(CtChange, ClosingEnds) {
    const Conn c = tcp();
    const CtRow row = hit("", {first({ct(1)}), any(then(1, 0))}, {c}, c.packet(), {0});
    Bench b(row);
    b.run(with_flags(c.packet(), kFin | kAck).frame());
    for (const bool reply : {false, true}) {
        b.run(c.packet(reply).frame());
        EXPECT_EQ(b.packets(0), 0U);
    }
    EXPECT_EQ(b.table().put(c.told(), &b.handle(0)), 0);
    EXPECT_EQ(b.line(0).closing, 0U);
    EXPECT_EQ(b.line(1).closing, 0U);
    b.run(c.packet(true).frame());
    EXPECT_EQ(b.packets(0), 1U);
}

TEST(CtChange, IsNotReadWhileItIsWritten) {
    const Conn c = tcp();
    const CtRow row = hit("", look(kEst), {c}, c.packet(), {0});
    Bench b(row);
    auto &conn = b.program().maps().connections().conns[2 * static_cast<uint32_t>(b.handle(0))];
    conn.change++;
    b.run(row.in);
    EXPECT_EQ(b.packets(0), 0U);
    EXPECT_EQ(b.program().misses(XF_MISS_CT_STATE), 1U);
    conn.change++;
    b.run(row.in);
    EXPECT_EQ(b.packets(0), 1U);
}

// One whose entry is there but that is not found now, since another one of the same
// tuple is about to take its place or has just ended, is not of none.
TEST(CtChange, IsNotUnknownWhileItIsHidden) {
    const Conn c = tcp();
    const CtRow row = hit("", look(kNew), {c}, c.packet(), {});
    Bench b(row);
    auto &conn = b.program().maps().connections().conns[2 * static_cast<uint32_t>(b.handle(0))];
    conn.live = 0;
    b.run(row.in);
    conn.live = 1;
    EXPECT_EQ(b.packets(1), 0U);
    EXPECT_EQ(b.program().misses(XF_MISS_CT_UNKNOWN), 1U);
}

TEST(CtChange, Ends) {
    const Conn c = tcp();
    const CtRow row = hit("", look(kNew), {c}, c.packet(), {});
    Bench b(row);
    b.table().del(b.handle(0));
    b.run(row.in);
    EXPECT_EQ(b.packets(1), 1U);
    EXPECT_EQ(b.table().put(c.told(), &b.handle(0)), ENOENT);
}

// Without anybody who tells of connections nothing is known, not even that there
// are none.
TEST(CtChange, Closed) {
    const CtRow row = hit("", look(kNew), {}, tcp().packet(), {});
    Bench b(row);
    b.table().close();
    b.run(row.in);
    EXPECT_EQ(b.packets(0), 0U);
    EXPECT_EQ(b.program().misses(XF_MISS_CT_UNKNOWN), 1U);
}

// Of a zone that is not complete, the zone beside it is.
TEST(CtChange, IncompleteZone) {
    for (const uint16_t incomplete : {0, 1, 63, 64, 0xffff}) {
        for (const uint16_t asked : {0, 1, 63, 64, 65, 0xffff}) {
            SCOPED_TRACE(std::to_string(incomplete) + ", asked for " + std::to_string(asked));
            const CtRow row = hit("", {first({ct(asked)}), any(then(1, 0))}, {}, tcp().packet(), {});
            Bench b(row);
            auto &word = b.program().maps().connections().zones[0].incomplete[incomplete / 64];
            word |= 1ULL << incomplete % 64;
            b.run(row.in);
            word = 0;
            EXPECT_EQ(b.packets(0), asked != incomplete);
            EXPECT_EQ(b.program().misses(XF_MISS_CT_UNKNOWN), asked == incomplete);
        }
    }
}

// Tuples with the same hash, but for what differs: here an entry of the one leads to
// the other.
TEST(CtChange, SignatureIsNotEnough) {
    const struct {
        const char *what;
        Conn asked, other;
    } kRows[] = {
        {"ports", tcp(), tcp().ports(1001, 80)},
        {"zone", tcp(), tcp().zone(2)},
        {"protocol", udp(), tcp()},
        {"source", tcp(), tcp().hosts(3, 2)},
        {"destination", tcp(), tcp().hosts(1, 3)},
        {"v6 source", tcp_6(), tcp_6().hosts(3, 2)},
        {"v6 destination", tcp_6(), tcp_6().hosts(1, 3)},
    };
    for (auto &r : kRows) {
        SCOPED_TRACE(r.what);
        const bool v6 = r.asked.v6;
        const CtRow row = hit("", {first({ct(1)}, v6), then(1, kNew, 1, 0, v6), then(1, kEst, 1, 0, v6)}, {r.asked, r.other}, r.asked.packet(), {});
        Bench b(row);
        const auto &mem = b.program().maps().connections();
        const uint32_t mask = slot_mask(mem.conns.size());
        auto index = [&](size_t i) { return 2 * static_cast<uint32_t>(b.handle(i)); };
        uint32_t *entry = nullptr;
        for (auto &bucket : mem.buckets) {
            const auto it = std::ranges::find_if(bucket.entry, [&](uint32_t e) { return e && (e & mask) == index(0); });
            entry = it != std::end(bucket.entry) ? it : entry;
        }
        ASSERT_NE(entry, nullptr);
        const uint32_t good = *entry;
        *entry = (good & ~mask) | index(1);
        b.run(row.in);
        EXPECT_EQ(b.packets(1), 1U);
        *entry = good;
        b.run(row.in);
        EXPECT_EQ(b.packets(2), 1U);
    }
}

// An answer comes as that of two connections: OVS finds the younger one, and the
// older one when that has ended.
TEST(CtChange, TwoWithTheSameAnswer) {
    const Conn older = tcp().hosts(1, 9).dnat(2, 80).mark(1), younger = tcp().mark(2);
    const CtRow row = hit("", {first({nat(1)}), then(1, kRpl, 1, 2), then(1, kRpl | kSrc, 1, 1)}, {older, younger}, younger.packet(true), {});
    Bench b(row);
    b.run(row.in);
    EXPECT_EQ(b.packets(1), 1U);
    b.table().del(b.handle(1));
    const Frame out = b.run(row.in).out;
    EXPECT_EQ(b.packets(2), 1U);
    EXPECT_EQ(hex(out), hex(from(younger.packet(true), 9, 80).frame()));
}

}  // namespace
}  // namespace flowxlate::test
