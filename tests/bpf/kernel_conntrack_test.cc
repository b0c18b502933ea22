// SPDX-License-Identifier: Apache-2.0
// ct() of the kernel datapath, at each hook: connections of nf_conntrack, made by
// conntrack(8) in a namespace of the test's own, a packet, and what becomes of it.
//
// Each row is what openvswitch.ko does with the packet, or a miss.  A connection gets a
// miss first (ct-refresh): that is openvswitch.ko's packet, for the time-out.
#include <linux/netfilter/nf_conntrack_common.h>

#include <chrono>
#include <optional>
#include <thread>

#include "ct_flows.h"
#include "flowxlate/kernel/features.h"
#include "namespace.h"
#include "row.h"
#include "skb_program.h"

namespace flowxlate::test {
namespace {

constexpr const char *kAssured = " -u SEEN_REPLY,ASSURED";

// -- Packets ----------------------------------------------------------------

// From host 1, port 1000, to host 2, port 80.
Segment packet(uint8_t proto, bool v6 = false) {
    Segment s;
    s.v6 = v6;
    s.proto = proto;
    s.tuple = {host(v6, 1), host(v6, 2), 1000, 80};
    s.flags = kAck;
    s.seq = s.ack = 1000;
    s.win = 500;
    s.payload = 40;
    return s;
}
Segment tcp() { return packet(IPPROTO_TCP); }
Segment udp() { return packet(IPPROTO_UDP); }
Segment back(Segment s) { return s.tuple = s.tuple.reversed(), s; }

// -- Connections ------------------------------------------------------------

// What conntrack(8) is told.  A mark must be behind the status, or it is another one.
std::string of_tcp(const std::string &more = {}, const char *state = "ESTABLISHED") {
    return std::string("-p tcp -s 10.0.0.1 -d 10.0.0.2 --sport 1000 --dport 80 -t 1000 --state ") + state + " -w 1 " + more;
}
std::string of_udp(const std::string &more = {}) { return "-p udp -s 10.0.0.1 -d 10.0.0.2 --sport 1000 --dport 80 -t 1000 -w 1 " + more; }
std::string of_tcp6(const std::string &more = {}) {
    return "-p tcp -s fc00:0:0:1::1 -d fc00:0:0:2::2 --sport 1000 --dport 80 -t 1000 --state ESTABLISHED -w 1 " + more;
}

// -- Rows -------------------------------------------------------------------

struct KernelCtRow {
    const char *name;
    std::vector<FlowSpec> flows;  // The packet passes all of them.
    std::vector<std::string> conns;
    Segment in;
    int miss = kNone;                 // enum xf_miss.
    std::optional<Segment> out = {};  // None: as it went in.
};

std::vector<FlowSpec> look(uint16_t state, bool v6 = false) { return {first({ct(1)}, v6), then(1, state, 1, 0, v6)}; }
std::vector<FlowSpec> look_nat(uint16_t state, bool v6 = false) { return {first({nat(1)}, v6), then(1, state, 1, 0, v6)}; }
std::vector<FlowSpec> asked(const xf_ct_step &step, uint32_t mark) { return {first({step}), then(1, kEst, 1, mark)}; }

std::vector<KernelCtRow> look_rows() {
    const std::string yes = kAssured;
    return {
        {"TCP", look(kEst), {of_tcp(yes)}, tcp()},
        {"TCP, the reply", look(kRpl), {of_tcp(yes)}, back(tcp())},
        {"TCP over IPv6", look(kEst, true), {of_tcp6(yes)}, packet(IPPROTO_TCP, true)},
        {"TCP over IPv6, the reply", look(kRpl, true), {of_tcp6(yes)}, back(packet(IPPROTO_TCP, true))},
        {"UDP", look(kEst), {of_udp(yes)}, udp()},
        {"UDP, the reply", look(kRpl), {of_udp(yes)}, back(udp())},
        {"none", look(kEst), {}, tcp(), XF_MISS_CT_UNKNOWN},
        {"of another zone", {first({ct(2)}), then(1, kEst, 2)}, {of_tcp(yes)}, tcp(), XF_MISS_CT_UNKNOWN},
        {"of another port", look(kEst), {of_tcp(yes)}, from(tcp(), 1, 1001), XF_MISS_CT_UNKNOWN},
        {"of another protocol", look(kEst), {of_tcp(yes)}, udp(), XF_MISS_CT_UNKNOWN},
        {"not assured", look(kEst), {of_tcp(" -u SEEN_REPLY")}, tcp(), XF_MISS_CT_STATE},
        {"without an answer", look(kEst), {of_udp()}, udp(), XF_MISS_CT_STATE},
        {"TCP that is opened", look(kEst), {of_tcp(yes, "SYN_RECV")}, tcp(), XF_MISS_CT_STATE},
        {"TCP that is closed", look(kEst), {of_tcp(yes, "FIN_WAIT")}, tcp(), XF_MISS_CT_STATE},
        {"SYN", look(kEst), {of_tcp(yes)}, with_flags(tcp(), kSyn), XF_MISS_CT_STATE},
        {"FIN", look(kEst), {of_tcp(yes)}, with_flags(tcp(), kAck | kFin), XF_MISS_CT_STATE},
        {"RST", look(kEst), {of_tcp(yes)}, with_flags(tcp(), kRst), XF_MISS_CT_STATE},
        {"flags that are invalid", look(kEst), {of_tcp(yes)}, with_flags(tcp(), kUrg), XF_MISS_CT_STATE},
        {"ICMP", look(kEst), {of_tcp(yes)}, packet(IPPROTO_ICMP), XF_MISS_CT_PACKET},
        {"another state", look(kRpl), {of_tcp(yes)}, tcp(), XF_MISS_RECIRC},
        {"new", look(kNew), {}, tcp(), XF_MISS_CT_UNKNOWN},
    };
}

std::vector<KernelCtRow> nat_rows() {
    const std::string yes = kAssured, src = yes + " -n 10.0.0.9:5000", dst = yes + " -g 10.0.0.8:8080";
    const Segment there = from(tcp(), 9, 5000), at = to(tcp(), 8, 8080);
    const xf_ct_step new_nat = ct(1, XF_CT_NAT | XF_CT_NEW_NAT);
    return {
        {"source", look_nat(kEst | kSrc), {of_tcp(src)}, tcp(), kNone, there},
        {"source, back", look_nat(kRpl | kDst), {of_tcp(src)}, back(there), kNone, back(tcp())},
        // openvswitch.ko takes the source for translated as well (nf_ct_nat()).
        {"destination", look_nat(kEst | kDst | kSrc), {of_tcp(dst)}, tcp(), kNone, at},
        {"destination, back", look_nat(kRpl | kSrc), {of_tcp(dst)}, back(at), kNone, back(tcp())},
        {"UDP source", look_nat(kEst | kSrc), {of_udp(src)}, udp(), kNone, from(udp(), 9, 5000)},
        {"UDP destination, back", look_nat(kRpl | kSrc), {of_udp(dst)}, back(to(udp(), 8, 8080)), kNone, back(udp())},
        {"source and destination", look_nat(kEst | kSrc | kDst), {of_tcp(src + " -g 10.0.0.8:8080")}, tcp(), kNone, to(there, 8, 8080)},
        {"IPv6 source", look_nat(kEst | kSrc, true), {of_tcp6(yes + " -n [fc00:0:0:9::9]:5000")}, packet(IPPROTO_TCP, true), kNone, from(packet(IPPROTO_TCP, true), 9, 5000)},
        {"not asked for", look(kEst), {of_tcp(src)}, tcp()},
        {"none to be done", look_nat(kEst), {of_tcp(yes)}, tcp()},
        // openvswitch.ko says +snat or +dnat all the same.
        {"none, one for new ones", {first({new_nat}), then(1, kEst)}, {of_tcp(yes)}, tcp(), XF_MISS_CT_STATE},
        {"source, one for new ones", {first({new_nat}), then(1, kEst | kSrc)}, {of_tcp(src)}, tcp(), kNone, there},
        {"done, then one for new ones", {first({nat(1), new_nat}), then(1, kEst | kSrc)}, {of_tcp(src)}, tcp(), kNone, there},
        {"asked for twice", {first({nat(1), nat(1)}), then(1, kEst | kSrc)}, {of_tcp(src)}, tcp(), kNone, there},
        {"found, then asked for", {first({ct(1), nat(1)}), then(1, kEst | kSrc)}, {of_tcp(src)}, tcp(), kNone, there},
        {"asked for by the next flow", {on(first({ct(1)}), 1), doing(on(then(1, kEst), 2), {nat(1)}), then(2, kEst | kSrc)}, {of_tcp(src)}, tcp(), kNone, there},
        {"and sent at once", {doing(FlowSpec::ipv4().to(kOut), {nat(1)})}, {of_tcp(src)}, tcp(), kNone, there},
        {"then of none in another zone", {first({nat(1), ct(2)}), then(1, kEst, 2)}, {of_tcp(src)}, tcp(), XF_MISS_CT_UNKNOWN},
    };
}

// Asks for the connection once more when it has set what it sets.
FlowSpec changed(FlowSpec f) { return doing(on(f, 2), {ct(1)}); }
FlowSpec setting_port(FlowSpec f) { return f.set(AT(tp_dst), {0x1f, 0x90}, {0xff, 0xff}); }

std::vector<KernelCtRow> step_rows() {
    const std::string yes = kAssured, marked = yes + " -m 0xf5";
    const std::string second = "-p tcp -s 10.0.0.1 -d 10.0.0.2 --sport 1000 --dport 80 -t 1000 --state ESTABLISHED -w 2" + yes + " -m 2";
    return {
        {"mark", asked(ct(1), 0xf5), {of_tcp(marked)}, tcp()},
        {"another mark", asked(ct(1), 0xf4), {of_tcp(marked)}, tcp(), XF_MISS_RECIRC},
        {"commit", asked(commit(1), 0xf5), {of_tcp(marked)}, tcp()},
        {"the mark that it has", asked(marking(commit(1), 0xf5, 0xffffffff), 0xf5), {of_tcp(marked)}, tcp()},
        {"a bit that it has not", asked(marking(commit(1), 0x2, 0x2), 0xf5), {of_tcp(marked)}, tcp(), XF_MISS_CT_CHANGE},
        {"a label that it has not", asked(labelling(commit(1), 1, 1), 0xf5), {of_tcp(marked)}, tcp(), XF_MISS_CT_CHANGE},
        // Made without openvswitch.ko, it has no room for one, and openvswitch.ko drops.
        {"no bit of a label, and no room", asked(labelling(commit(1), 0, 1), 0xf5), {of_tcp(marked)}, tcp(), XF_MISS_CT_CHANGE},
        {"none of a label's bits", asked(labelling(commit(1), 0, 0), 0xf5), {of_tcp(marked)}, tcp()},
        {"two zones", {first({ct(1), ct(2)}), then(1, kEst, 2, 2)}, {of_tcp(marked), second}, tcp()},
        {"back to the first zone", {first({ct(1), ct(2), ct(1)}), then(1, kEst, 1, 0xf5)}, {of_tcp(marked), second}, tcp()},
        {"time-outs of its own", asked(ct(1, XF_CT_TIMEOUT), 0xf5), {of_tcp(marked)}, tcp()},
        {"known, then time-outs of its own", {first({ct(1), ct(1, XF_CT_TIMEOUT)}), then(1, kEst, 1, 0xf5)}, {of_tcp(marked)}, tcp(), XF_MISS_CT_STATE},
        {"time-outs in another zone", {first({ct(1), ct(2, XF_CT_TIMEOUT)}), then(1, kEst, 2, 2)}, {of_tcp(marked), second}, tcp()},
        // openvswitch.ko looks for the connection of what is set then.
        {"known, then another source", {on(first({ct(1)}), 1), changed(setting_source(then(1, kEst, 1, 0xf5), 9)), then(2, kEst, 1, 0xf5)}, {of_tcp(marked)}, tcp(), XF_MISS_CT_STATE},
        {"known, then another port", {on(first({ct(1)}), 1), changed(setting_port(then(1, kEst, 1, 0xf5))), then(2, kEst, 1, 0xf5)}, {of_tcp(marked)}, tcp(), XF_MISS_CT_STATE},
        {"known, then another port and NAT", {on(first({ct(1)}), 1), doing(on(setting_port(then(1, kEst, 1, 0xf5)), 2), {nat(1)}), then(2, kEst | kSrc, 1, 0xf5)}, {of_tcp(marked + " -n 10.0.0.9:5000")}, tcp(), XF_MISS_CT_STATE},
        {"known, then another TTL", {on(first({ct(1)}), 1), changed(setting_ttl(then(1, kEst, 1, 0xf5))), then(2, kEst, 1, 0xf5)}, {of_tcp(marked)}, tcp()},
        {"forgotten", {first({ct(1), cleared()}), then(1, 0, 0)}, {of_tcp(marked)}, tcp()},
        {"forgotten, then found again", {first({ct(1), cleared(ct(1))}), then(1, kEst, 1, 0xf5)}, {of_tcp(marked)}, tcp()},
    };
}

void PrintTo(const KernelCtRow &row, std::ostream *os) { *os << row.name; }  // NOLINT: gtest's name

constexpr PortTraits kAsksTheKernel{.in_kernel_datapath = true, .kernel_ct = true};

// The programs, with ports in the namespace that they are run in.
struct Home {
    Namespace ns;
    std::unique_ptr<Program> xdp;
    std::unique_ptr<SkbProgram> skb;

    Home() {
        ns.in([this] {
            xdp = std::make_unique<Program>(XF_PORT_TX_NATIVE, nullptr, kAsksTheKernel);
            skb = std::make_unique<SkbProgram>(true);
        });
    }
    static Home &get() {
        static Home home;
        return home;
    }
};

// Whether this kernel can be asked.
bool has_ct_zones() {
    static const bool has = [] {
        KernelFeatures features;
        return !KernelFeatures::probe(&features) && features.has_ct_zones();
    }();
    return has;
}

class KernelCt : public testing::Test {
protected:
    void SetUp() override {
        if (!has_ct_zones()) {
            GTEST_SKIP() << "this kernel's connections cannot be asked for by zone (Linux 6.11)";
        }
    }
    void TearDown() override {
        if (has_ct_zones()) {
            home().ns.sh("conntrack -F");
        }
    }
    static Home &home() { return Home::get(); }

    template <typename Fn>
    static void at_each_hook_of_home(Fn check) {
        for (Program *p : {home().xdp.get(), static_cast<Program *>(home().skb.get())}) {
            SCOPED_TRACE(p->hook());
            p->remove_all();
            home().ns.in([&] { check(*p); });
            p->remove_all();
        }
    }
    static void make(const std::string &conn) { home().ns.sh("conntrack -I " + conn); }

    // Runs the packet until the kernel has seen one of each connection.
    static test::Run run(Program &p, const Frame &in) {
        test::Run run;
        uint64_t refreshes;
        do {
            refreshes = p.misses(XF_MISS_CT_REFRESH);
            run = p.run(in);
        } while (p.misses(XF_MISS_CT_REFRESH) != refreshes);
        return run;
    }
};

class KernelCtRows : public KernelCt, public testing::WithParamInterface<KernelCtRow> {};

TEST_P(KernelCtRows, Row) {
    const KernelCtRow &row = GetParam();
    for (auto &conn : row.conns) {
        make(conn);
    }
    at_each_hook_of_home([&](Program &p) {
        std::vector<FlowSlot> slots;
        for (auto &flow : row.flows) {
            slots.push_back(p.add(flow));
        }
        const uint64_t before = p.total_misses();
        const auto out = run(p, row.in.frame());
        const bool is_hit = row.miss == kNone;
        EXPECT_EQ(out.verdict, is_hit ? uint32_t{XDP_REDIRECT} : uint32_t{XDP_PASS});
        EXPECT_EQ(hex(out.out), hex(row.out.value_or(row.in).frame()));
        for (size_t i = 0; i < slots.size(); i++) {
            EXPECT_EQ(p.table().stats(slots[i]).packets, is_hit) << "flow " << i;
        }
        if (!is_hit) {
            EXPECT_GE(p.misses(static_cast<xf_miss>(row.miss)), 1U);
        }
        EXPECT_GE(p.total_misses(), before);
    });
}

// openvswitch.ko's ct() takes off what is behind the IP packet.
TEST_F(KernelCt, PaddingIsCutOff) {
    constexpr size_t kPadding = 8;
    const Frame whole = tcp().frame();
    Frame padded = whole;
    padded.resize(whole.size() + kPadding, 0x55);
    make(of_tcp(kAssured));
    at_each_hook_of_home([&](Program &p) {
        const bool is_cut = p.hook() == std::string("xdp");
        const FlowSlot before = p.add(first({ct(1)})), behind = p.add(then(1, kEst));
        const auto out = run(p, padded);
        EXPECT_EQ(out.verdict, is_cut ? uint32_t{XDP_REDIRECT} : uint32_t{XDP_PASS});
        EXPECT_EQ(hex(out.out), hex(is_cut ? whole : padded));
        EXPECT_EQ(p.table().stats(before).bytes, is_cut ? padded.size() : 0);
        EXPECT_EQ(p.table().stats(behind).bytes, is_cut ? whole.size() : 0);
        EXPECT_EQ(p.misses(XF_MISS_CT_PACKET), is_cut ? 0U : 1U);
    });
}

// openvswitch.ko's check_pkt_len counts what is behind the IP packet, unless a ct() has
// taken it off.
TEST_F(KernelCt, PaddingCountsForPacketLength) {
    const Frame whole = tcp().frame();
    Frame padded = whole;
    padded.resize(whole.size() + 8, 0x55);
    const auto length = static_cast<uint16_t>(whole.size());
    struct {
        const char *name;
        std::vector<FlowSpec> flows;
        Frame in;
        bool is_hit;
    } const rows[] = {
        {"no padding", {FlowSpec::ipv4().up_to(length).drop()}, whole, true},
        {"padding", {FlowSpec::ipv4().up_to(length).drop()}, padded, false},
        {"padding, not longer", {FlowSpec::ipv4().up_to(static_cast<uint16_t>(length + 8)).drop()}, padded, true},
        {"padding that ct() takes off", {first({ct(1)}), then(1, kEst).up_to(length).drop()}, padded, true},
    };
    make(of_tcp(kAssured));
    Program &p = *home().xdp;
    for (auto &row : rows) {
        SCOPED_TRACE(row.name);
        p.remove_all();
        for (auto &flow : row.flows) {
            p.add(flow);
        }
        home().ns.in([&] {
            const uint64_t before = p.misses(XF_MISS_PACKET_LENGTH);
            EXPECT_EQ(run(p, row.in).verdict, row.is_hit ? uint32_t{XDP_DROP} : uint32_t{XDP_PASS});
            EXPECT_EQ(p.misses(XF_MISS_PACKET_LENGTH) - before, row.is_hit ? 0U : 1U);
        });
    }
    p.remove_all();
}

std::string kernel_ct_row_name(const testing::TestParamInfo<KernelCtRow> &info) { return as_test_name(info.param.name); }

INSTANTIATE_TEST_SUITE_P(Look, KernelCtRows, testing::ValuesIn(look_rows()), kernel_ct_row_name);
INSTANTIATE_TEST_SUITE_P(Nat, KernelCtRows, testing::ValuesIn(nat_rows()), kernel_ct_row_name);
INSTANTIATE_TEST_SUITE_P(Step, KernelCtRows, testing::ValuesIn(step_rows()), kernel_ct_row_name);

// Of TC's flows only those are executed whose connections act_ct has in its table, into
// which nobody else puts any (tests/vm/flowerd.py has those).
TEST_F(KernelCt, OthersThanTcsAreLeftToIt) {
    make(of_tcp(kAssured));
    home().ns.in([&] {
        Program p(XF_PORT_TX_NATIVE, nullptr, {.in_kernel_datapath = true, .kernel_ct = true, .of_tc = true});
        p.add(first({ct(1)}));
        p.add(then(1, kEst));
        Frame in = tcp().frame();
        EXPECT_EQ(run(p, in).verdict, uint32_t{XDP_PASS});
        EXPECT_EQ(p.misses(XF_MISS_CT_STATE), 1U);
        uint8_t *ttl = &in[ETH_HLEN + 8], *sum = ttl + 2;
        const uint32_t more = (sum[0] << 8 | sum[1]) + ((*ttl - 1) << 8);
        const uint32_t folded = (more & 0xffff) + (more >> 16);
        *ttl = 1;
        sum[0] = folded >> 8;
        sum[1] = folded;
        EXPECT_EQ(run(p, in).verdict, uint32_t{XDP_PASS});
        EXPECT_EQ(p.misses(XF_MISS_CT_PACKET), 1U);
    });
}

// What is done to a connection is seen by the next packet.
TEST_F(KernelCt, ChangesAreSeenAtOnce) {
    const Frame in = tcp().frame();
    at_each_hook_of_home([&](Program &p) {
        make(of_tcp(kAssured));
        p.add(first({ct(1)}));
        const FlowSlot unmarked = p.add(then(1, kEst)), marked = p.add(then(1, kEst, 1, 7));
        EXPECT_EQ(run(p, in).verdict, uint32_t{XDP_REDIRECT});
        EXPECT_EQ(p.table().stats(unmarked).packets, 1U);
        home().ns.sh("conntrack -D -p tcp -w 1");
        EXPECT_EQ(p.run(in).verdict, uint32_t{XDP_PASS});
        EXPECT_EQ(p.misses(XF_MISS_CT_UNKNOWN), 1U);
        make(of_tcp(std::string(kAssured) + " -m 7"));
        EXPECT_EQ(run(p, in).verdict, uint32_t{XDP_REDIRECT});
        EXPECT_EQ(p.table().stats(marked).packets, 1U);
        home().ns.sh("conntrack -F");
    });
}

// The kernel gets a packet each time that a sixteenth of the time-out has passed, and all
// others are executed.
TEST_F(KernelCt, TimeoutsAreRefreshed) {
    using Clock = std::chrono::steady_clock;
    constexpr int kTimeout = 8;
    const Frame in = udp().frame();
    at_each_hook_of_home([&](Program &p) {
        home().ns.sh("conntrack -D -p udp -w 1 || true");
        make("-p udp -s 10.0.0.1 -d 10.0.0.2 --sport 1000 --dport 80 -w 1 -t " + std::to_string(kTimeout) + kAssured);
        for (auto &flow : look(kEst)) {
            p.add(flow);
        }
        uint64_t executed = 0, passed = 0;
        const auto begin = Clock::now();
        while (Clock::now() < begin + std::chrono::milliseconds(1300)) {
            (p.run(in).verdict == XDP_REDIRECT ? executed : passed)++;
            std::this_thread::sleep_for(std::chrono::milliseconds(5));
        }
        // Each 500 ms, of a time-out that nobody renews here; and at once, unless the kernel
        // has put the connection where another one was that had passed.
        EXPECT_GE(passed, 2U);
        EXPECT_LE(passed, 4U);
        EXPECT_GT(executed, 20U);
    });
}

// Of data and acknowledgements the kernel sees few, and would end the connection after 300 s.
TEST_F(KernelCt, AcknowledgementsKeepTcpEstablished) {
    Segment ack = tcp();
    ack.payload = 0;
    at_each_hook_of_home([&](Program &p) {
        make("-p tcp -s 10.0.0.1 -d 10.0.0.2 --sport 1000 --dport 80 -t 300 --state ESTABLISHED -w 1" + std::string(kAssured));
        for (auto &flow : look(kEst)) {
            p.add(flow);
        }
        EXPECT_EQ(run(p, tcp().frame()).verdict, uint32_t{XDP_REDIRECT});
        home().ns.sh("conntrack -L -p tcp | grep -qE 'tcp +6 (29[0-9]|300) '");
        EXPECT_EQ(run(p, ack.frame()).verdict, uint32_t{XDP_REDIRECT});
        home().ns.sh("conntrack -L -p tcp | grep -qE 'tcp +6 (43199[0-9]|432000) '");
        home().ns.sh("conntrack -F");
    });
}

// More connections than ways in a set take turns, and none waits for ever.
TEST_F(KernelCt, SetsThatAreFull) {
    constexpr int kConns = 64;
    for (int i = 0; i < kConns; i++) {
        make("-p udp -s 10.0.0.1 -d 10.0.0.2 --sport " + std::to_string(1000 + i) + " --dport 80 -w 1 -t 1000" + kAssured);
    }
    at_each_hook_of_home([&](Program &p) {
        for (auto &flow : look(kEst)) {
            p.add(flow);
        }
        for (int i = 0; i < kConns; i++) {
            (void)run(p, from(udp(), 1, 1000 + i).frame());
        }
        int executed = 0;
        for (int i = 0; i < kConns; i++) {
            executed += p.run(from(udp(), 1, 1000 + i).frame()).verdict == XDP_REDIRECT;
        }
        EXPECT_EQ(executed, kConns);
    });
}

}  // namespace
}  // namespace flowxlate::test
