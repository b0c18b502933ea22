// SPDX-License-Identifier: Apache-2.0
// The program that also copies what enters (bpf/run/capture.h), beside the one that does
// not: it does the same to packets and figures, and tells how it was.
#include <algorithm>
#include <chrono>

#include "bpf/abi/capture.h"
#include "bpf/abi/counters.h"
#include "captured.h"
#include "on_cpu.h"
#include "row.h"

namespace flowxlate::test {
namespace {

Ufid ufid_of(size_t flow) {
    Ufid u;
    u.bytes.fill(static_cast<uint8_t>(flow + 1));
    return u;
}

constexpr int passed(xf_miss miss) { return -1 - miss; }

struct CaptureRow {
    const char *name;
    std::vector<FlowSpec> flows;
    Packet packet;
    int action;
    size_t n_flows;  // That it passes, of the first ones.
    xf_verdict verdict = XF_DROP;
    PortSlot to = PortSlot::kNone;
};

const FlowSpec kRecirc = FlowSpec::ipv4().recirc_to(7);
const FlowSpec kSecond = FlowSpec::ipv4().recirc(7).to(kOut);
const Frame kTtl = {63}, kOnes = {0xff};

const CaptureRow kCaptureRows[] = {
    {"output", {to_udp4()}, udp4(), XDP_REDIRECT, 1, XF_OUTPUT, kOut},
    {"with a tag pushed: as it came", {to_udp4().push(5)}, udp4(), XDP_REDIRECT, 1, XF_OUTPUT, kOut},
    {"with a field set: as it came", {to_udp4().set(offsetof(xf_key, nw_ttl), kTtl, kOnes)}, udp4(), XDP_REDIRECT, 1, XF_OUTPUT, kOut},
    {"cut off: as it came", {to_udp4().trunc(20)}, udp4(), XDP_REDIRECT, 1, XF_OUTPUT, kOut},
    {"partial checksum: as it came", {to_udp4().push(5)}, udp4().partial(), XDP_REDIRECT, 1, XF_OUTPUT, kOut},
    {"dropped", {FlowSpec::ipv4().drop()}, udp4(), XDP_DROP, 1, XF_DROP},
    {"an odd length", {to_udp4()}, udp4().payload(23), XDP_REDIRECT, 1, XF_OUTPUT, kOut},
    {"two flows", {kRecirc, kSecond}, tcp4(), XDP_REDIRECT, 2, XF_OUTPUT, kOut},
    {"dropped by the second", {kRecirc, FlowSpec::ipv4().recirc(7).drop()}, tcp4(), XDP_DROP, 2, XF_DROP},
    {"no flow", {}, udp4(), passed(XF_MISS_NO_FLOW), 0},
    {"another flow", {FlowSpec::ipv6().to(kOut)}, udp4(), passed(XF_MISS_NO_FLOW), 0},
    {"does not parse", {to_udp4()}, Packet().eth(kIpv4).data({0x46}), passed(XF_MISS_TRUNCATED), 0},
    {"no way out", {FlowSpec::ipv4().to(kDown)}, udp4(), passed(XF_MISS_TX_PORT), 1, XF_OUTPUT, kDown},
    {"no second flow", {kRecirc}, tcp4(), passed(XF_MISS_RECIRC), 1, XF_RECIRC, PortSlot{7}},
};

TEST(Capture, TellsOfEachPacket) {
    const OnCpu pinned(0);
    Program p;
    Captured captured(p);
    for (const CaptureRow &row : kCaptureRows) {
        SCOPED_TRACE(row.name);
        const Frame in = row.packet.bytes();
        for (size_t i = 0; i < row.flows.size(); i++) {
            p.table().set_name(p.add(row.flows[i]), ufid_of(i));
        }
        const auto plain = p.run(in), run = captured.run(in);
        EXPECT_EQ(run.verdict, plain.verdict);
        EXPECT_EQ(run.out, plain.out);
        const auto records = captured.take();
        ASSERT_EQ(records.size(), 1u);
        const Captured::Record &r = records[0];
        EXPECT_EQ(r.data, in);
        EXPECT_EQ(r.head.frame_len, in.size());
        EXPECT_EQ(r.head.action, row.action);
        EXPECT_EQ(xf_verdict(r.head.verdict), row.verdict);
        EXPECT_EQ(r.head.to, index(row.to));
        ASSERT_EQ(r.flows.size(), row.n_flows);
        for (size_t i = 0; i < row.n_flows; i++) {
            EXPECT_EQ(r.flows[i], ufid_of(i));
        }
        p.remove_all();
    }
}

// Figures are the same, with and without a capture.
TEST(Capture, CountsAsWithout) {
    const OnCpu pinned(0);
    Program p;
    Captured captured(p);
    const FlowSlot hit = p.add(to_udp4());
    const Frame in = udp4().bytes(), other = tcp4().bytes();
    for (int i = 0; i < 10; i++) {
        captured.run(in);
        captured.run(other);
    }
    EXPECT_EQ(p.table().stats(hit).packets, 10u);
    EXPECT_EQ(p.table().stats(hit).bytes, 10 * in.size());
    EXPECT_EQ(p.misses(XF_MISS_NO_FLOW), 10u);
    EXPECT_EQ(p.total_misses(), 10u);
    EXPECT_EQ(captured.take().size(), 20u);
}

TEST(Capture, Snaplen) {
    const OnCpu pinned(0);
    Program p;
    p.add(to_udp4());
    const Frame in = udp4().bytes();
    for (uint32_t bytes : {uint32_t{XF_MIN_CAPTURE}, 15U, 16U, 63U, 64U, uint32_t{XF_MAX_CAPTURE}}) {
        SCOPED_TRACE(bytes);
        Captured captured(p, {.packet = bytes, .ring = 4096});
        captured.run(in);
        const auto records = captured.take();
        ASSERT_EQ(records.size(), 1u);
        EXPECT_EQ(records[0].head.frame_len, in.size());
        EXPECT_EQ(records[0].data, Frame(in.begin(), in.begin() + std::min<size_t>(bytes, in.size())));
        EXPECT_EQ(records[0].flows.size(), 1u);
    }
}

// Nobody reads any more: nothing is copied, and packets go on.
TEST(Capture, EndsWithItsLease) {
    const OnCpu pinned(0);
    Program p;
    p.add(to_udp4());
    Captured captured(p);
    const auto now = std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
    captured.lease().until_ns = now - 1;
    EXPECT_EQ(captured.run(udp4().bytes()).verdict, XDP_REDIRECT);
    EXPECT_EQ(captured.take().size(), 0u);
    EXPECT_EQ(captured.lease().lost, 0u);
}

// What does not fit is counted, and nothing else happens to it.
TEST(Capture, CountsWhatIsLost) {
    const OnCpu pinned(0);
    constexpr uint64_t kRuns = 1000;
    Program p;
    const FlowSlot hit = p.add(to_udp4());
    Captured captured(p, {.packet = 64, .ring = 4096});
    for (uint64_t i = 0; i < kRuns; i++) {
        EXPECT_EQ(captured.run(udp4().bytes()).verdict, XDP_REDIRECT);
    }
    const auto n = captured.take().size();
    EXPECT_GT(n, 0u);
    EXPECT_LT(n, kRuns);
    EXPECT_EQ(n + captured.lease().lost, kRuns);
    EXPECT_EQ(p.table().stats(hit).packets, kRuns);
}

}  // namespace
}  // namespace flowxlate::test
