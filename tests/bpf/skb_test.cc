// SPDX-License-Identifier: Apache-2.0
// What only an sk_buff has: segments that are not made yet, and tags beside the frame; and
// what the hook at TC's ingress does not do.  The rows of XDP's tests are tried at both
// hooks (SkbTest), and skb_veth_test.cc has real packets.
#include "skb_program.h"

#include <bpf/bpf.h>

#include <chrono>
#include <cstdio>

#include "bpf/abi/counters.h"
#include "flowxlate/kernel/clock.h"

namespace flowxlate::test {
namespace {

constexpr uint32_t kMaxVerified = 160000;  // As in edge_test.cc.

// -- Segments ---------------------------------------------------------------

// The MTU of kNarrow lets frames of 100 bytes pass, and tagged ones of 104.
struct GsoRow {
    const char *name;
    FlowSpec flow;
    Packet packet;
    uint32_t gso_size;
    int miss;  // enum xf_miss, or kNone.
};

FlowSpec narrow4() { return FlowSpec::ipv4().any_tags().to(kNarrow); }
FlowSpec narrow6() { return FlowSpec::ipv6().to(kNarrow); }
Packet long_tcp4() { return tcp4().payload(600); }  // Behind 54 bytes of headers.
Packet long_tcp6() { return tcp6().payload(600); }  // 74.
Packet long_udp4() { return udp4().payload(600); }  // 42.
Packet tagged_tcp4() { return Packet().eth(kVlan).vlan(5, kIpv4).ipv4(IPPROTO_TCP).tcp(1000, 80).payload(600); }
// A header of 24 bytes: the checksum is of no interest here.
Packet tcp4_with_option() { return long_tcp4().poke(46, 0x60); }

const GsoRow kGsoRows[] = {
    {"segments of TCP, as long as can be", narrow4(), long_tcp4(), 46, kNone},
    {"segments of TCP, too long", narrow4(), long_tcp4(), 47, XF_MISS_TX_LENGTH},
    {"TCP's options count", narrow4(), tcp4_with_option(), 42, kNone},
    {"too long with TCP's options", narrow4(), tcp4_with_option(), 43, XF_MISS_TX_LENGTH},
    {"segments of TCP over IPv6, as long as can be", narrow6(), long_tcp6(), 26, kNone},
    {"segments of TCP over IPv6, too long", narrow6(), long_tcp6(), 27, XF_MISS_TX_LENGTH},
    {"segments of UDP, which may carry packets", narrow4(), long_udp4(), 10, XF_MISS_TX_LENGTH},
    // openvswitch.ko takes it for the first fragment, if that is what is made of it.
    {"UDP that is dropped", FlowSpec::ipv4().drop(), long_udp4(), 10, XF_MISS_TX_LENGTH},
    {"tagged, as long as can be", narrow4(), tagged_tcp4(), 46, kNone},
    {"tagged, too long", narrow4(), tagged_tcp4(), 47, XF_MISS_TX_LENGTH},
    {"pushed, as long as can be", narrow4().push(9), long_tcp4(), 46, kNone},
    {"pushed, too long", narrow4().push(9), long_tcp4(), 47, XF_MISS_TX_LENGTH},
    {"two pushed, as long as can be", narrow4().push(9).push(8), long_tcp4(), 42, kNone},
    {"two pushed, too long", narrow4().push(9).push(8), long_tcp4(), 43, XF_MISS_TX_LENGTH},
    {"popped, as long as can be", narrow4().pop(), tagged_tcp4(), 46, kNone},
    {"popped, too long", narrow4().pop(), tagged_tcp4(), 47, XF_MISS_TX_LENGTH},
    {"what carries packets", narrow4(), Packet().eth(kIpv4).ipv4(47).payload(600), 10, XF_MISS_TX_LENGTH},
    {"fragments", narrow4(), Packet().eth(kIpv4).ipv4(IPPROTO_UDP, 0x2000).udp(1, 53).payload(600), 10, XF_MISS_TX_LENGTH},
    {"a whole packet as long", narrow4(), long_tcp4(), 0, XF_MISS_TX_LENGTH},
};

TEST(SkbGso, LongestSegmentIsWhatCounts) {
    SkbProgram &p = skb_program();
    for (auto &row : kGsoRows) {
        SCOPED_TRACE(row.name);
        p.remove_all();
        const FlowSlot slot = p.add(row.flow);
        const Frame in = row.packet.bytes();
        const auto run = p.run_with(in, {.gso_size = row.gso_size});
        EXPECT_EQ(run.verdict, row.miss == kNone ? XDP_REDIRECT : XDP_PASS);
        // It counts once, with all its bytes, as in openvswitch.ko.
        EXPECT_EQ(p.table().stats(slot).packets, row.miss == kNone ? 1U : 0U);
        EXPECT_EQ(p.table().stats(slot).bytes, row.miss == kNone ? in.size() : 0);
        EXPECT_EQ(p.total_misses(), row.miss == kNone ? 0U : 1U);
        if (row.miss != kNone) {
            EXPECT_EQ(p.misses(static_cast<xf_miss>(row.miss)), 1U);
            EXPECT_EQ(hex(run.out), hex(in));
        }
    }
}

// Fields of what is many segments are set once, in the headers that all will have.
TEST(SkbGso, FieldsAreSet) {
    SkbProgram &p = skb_program();
    const Row row{"", {FlowSpec::ipv4().set(offsetof(xf_key, nw_ttl), {63}, {0xff}).to(kOut)}, long_tcp4(), 0, XDP_REDIRECT, kNone};
    Frame out = row.in();
    out[22] = 63;
    out[24]++;  // RFC 1624: what goes from one word goes to the other.
    p.remove_all();
    p.add(row.flows[0]);
    EXPECT_EQ(hex(p.run_with(row.in(), {.gso_size = 500}).out), hex(out));
}

// -- Tags -------------------------------------------------------------------

// A driver may leave the tag where it is; the kernel does not.
TEST(SkbTag, MayBeInTheFrame) {
    SkbProgram &p = skb_program();
    const Frame in = with_tag(tagged_udp4(0x6005).bytes(), kQinq, 0x4007);
    const struct {
        const char *name;
        FlowSpec flow;
        Frame out;
    } rows[] = {
        {"kept", FlowSpec::ipv4().tag(kQinq, 7).tag2(kVlan, 5), in},
        {"popped", FlowSpec::ipv4().tag(kQinq, 7).tag2(kVlan, 5).pop(), without_tag(in)},
        {"both popped", FlowSpec::ipv4().tag(kQinq, 7).tag2(kVlan, 5).pop().pop(), without_tag(without_tag(in))},
        {"replaced", FlowSpec::ipv4().tag(kQinq, 7).tag2(kVlan, 5).replace(9), with_tag(without_tag(in), kVlan, 9)},
    };
    p.maps().set_max_tags(2);
    for (auto &row : rows) {
        for (bool keep_tag : {false, true}) {
            SCOPED_TRACE(std::string(row.name) + (keep_tag ? ", in the frame" : ", beside it"));
            p.remove_all();
            auto flow = row.flow;
            const FlowSlot slot = p.add(flow.to(kOut));
            const auto run = p.run_with(in, {.keep_tag = keep_tag});
            EXPECT_EQ(run.verdict, XDP_REDIRECT);
            EXPECT_EQ(hex(run.out), hex(row.out));
            EXPECT_EQ(p.table().stats(slot).bytes, in.size());
        }
    }
    p.maps().set_max_tags(1);
}

// -- What is not done here --------------------------------------------------

FlowSpec with_ct(uint16_t flags, bool first) {
    FlowSpec flow = FlowSpec::ipv4().to(kOut);
    flow.rewrite.ct[0].flags = flags;
    flow.rewrite.n_ct_first = first;
    return flow;
}
FlowSpec to_group() {
    FlowSpec flow = FlowSpec::ipv4();
    flow.action.verdict = XF_GROUP;
    flow.action.to = 1;
    return flow;
}
FlowSpec set_then(FlowSpec flow) { return flow.set(offsetof(xf_key, nw_ttl), {63}, {0xff}).push(9); }

const Row kNotHereRows[] = {
    missing("truncated", {FlowSpec::ipv4().trunc(50).to(kOut)}, tcp4(), XF_MISS_HOOK),
    missing("set and truncated", {set_then(FlowSpec::ipv4().trunc(50).to(kOut))}, tcp4(), XF_MISS_HOOK),
    missing("check_pkt_len", {FlowSpec::ipv4().up_to(1000).to(kOut)}, tcp4(), XF_MISS_HOOK),
    missing("ct()", {with_ct(XF_CT_TRACK, false)}, tcp4(), XF_MISS_HOOK),
    missing("ct() before fields are set", {with_ct(XF_CT_TRACK, true)}, tcp4(), XF_MISS_HOOK),
    missing("ct_clear", {with_ct(XF_CT_CLEAR, false)}, tcp4(), XF_MISS_HOOK),
    missing("into a tunnel", {FlowSpec::ipv4().into_tunnel(1).to(kOut)}, tcp4(), XF_MISS_HOOK),
    missing("out of a tunnel", {FlowSpec::ipv4().out_of_tunnel(kGeneve)}, udp4(), XF_MISS_HOOK),
    missing("to a group that is not there", {to_group()}, tcp4(), XF_MISS_INTERNAL),
    missing("in the second flow", {set_then(FlowSpec::ipv4().recirc_to(7)), FlowSpec::ipv4().any_tags().recirc(7).trunc(50).to(kOut)}, tcp4(), XF_MISS_HOOK),
    {"dropped, though truncated before", {FlowSpec::ipv4().trunc(50)}, tcp4(), kNone, XDP_PASS, XF_MISS_HOOK},
};

// -- The program itself -----------------------------------------------------

TEST(Skb, IsWhatIsInstalled) {
    SkbProgram &p = skb_program();
    p.remove_all();
    const FlowSlot slot = p.add(FlowSpec::ipv4().to(kOut));
    const Frame in = tcp4().bytes();
    LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = in.data(), .data_size_in = static_cast<uint32_t>(in.size()), .repeat = 3);
    ASSERT_EQ(bpf_prog_test_run_opts(p.skb_fd(), &opts), 0);
    EXPECT_EQ(opts.retval, 7U) << "TC_ACT_REDIRECT";
    EXPECT_EQ(p.table().stats(slot).packets, 3U);
}

// Every CPU is outside again, or user space would wait for it (FlowTable::wait...).
TEST(Skb, LeavesTheProgram) {
    SkbProgram &p = skb_program();
    p.remove_all();
    p.run(tcp4().bytes());
    p.run(udp6().bytes());
    for (auto &cpu : p.maps().tables().cpus) {
        EXPECT_EQ(cpu.seq % 2, 0U);
    }
}

TEST(Skb, FlowsEndWithTheirProcess) {
    SkbProgram &p = skb_program();
    Clock clock;
    ASSERT_FALSE(clock.open());
    const auto now = std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count();
    const uint64_t jiffies = clock.jiffies_at(now);
    const struct {
        const char *name;
        uint64_t deadline;
        uint32_t verdict;
    } rows[] = {{"in a while", jiffies + 100000, XDP_DROP}, {"a while ago", jiffies - 10, XDP_PASS}, {"none", 0, XDP_DROP}};
    p.remove_all();
    p.add(FlowSpec::ipv4().drop());
    for (auto &row : rows) {
        p.maps().set_deadline(now, row.deadline);
        EXPECT_EQ(p.run(tcp4().bytes()).verdict, row.verdict) << row.name;
    }
}

// A port that has no device any more, or another one.
TEST(Skb, FollowsThePortAtRunTime) {
    SkbProgram &p = skb_program();
    const Frame in = tcp4().bytes();
    p.remove_all();
    p.add(FlowSpec::ipv4().to(kOut));
    EXPECT_EQ(p.run(in).verdict, XDP_REDIRECT);
    const uint32_t flags = p.maps().port(kOut).flags;
    p.maps().port(kOut).flags = flags & ~uint32_t{XF_PORT_TX_SKB};
    EXPECT_EQ(p.run(in).verdict, XDP_PASS);
    p.maps().port(kOut).flags = flags;
    ASSERT_FALSE(p.maps().clear_tx_port(kOut));
    EXPECT_EQ(p.run(in).verdict, XDP_PASS);
    EXPECT_EQ(p.misses(XF_MISS_TX_PORT), 2U);
    ASSERT_FALSE(p.maps().set_tx_port(kOut, Ifindex{1}));
    EXPECT_EQ(p.run(in).verdict, XDP_REDIRECT);
}

// A link goes along with its device to another namespace, where the kernel has taken it
// out of the map, and the port's number may be another device's.
TEST(Skb, ExecutesNothingAwayFromItsDevice) {
    SkbProgram &p = skb_program();
    const Frame in = tcp4().bytes();
    p.remove_all();
    p.add(FlowSpec::ipv4().to(kOut));
    ASSERT_FALSE(p.maps().clear_tx_port(kIn));
    EXPECT_EQ(p.run(in).verdict, XDP_PASS);
    EXPECT_EQ(p.misses(XF_MISS_NO_FLOW), 1U);
    ASSERT_FALSE(p.maps().set_tx_port(kIn, Ifindex{1}));
    EXPECT_EQ(p.run(in).verdict, XDP_REDIRECT);
}

TEST(Cost, SkbVerification) {
    std::printf("instructions at TC's ingress: %u verified\n", skb_program().verified());
    EXPECT_LT(skb_program().verified(), kMaxVerified);
}

}  // namespace

INSTANTIATE_TEST_SUITE_P(NotHere, SkbTest, testing::ValuesIn(kNotHereRows), row_name);

}  // namespace flowxlate::test
