// SPDX-License-Identifier: Apache-2.0
// A program and its successor on the same port, and a program that is left
// alone (flowxlate/engine/handover.h).
#include <bpf/bpf.h>

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <utility>
#include <vector>

#include "bpf/abi/handover.h"
#include "flowxlate/kernel/clock.h"
#include "on_cpu.h"
#include "packet.h"
#include "program.h"
#include "skb_program.h"

namespace flowxlate::test {
namespace {

constexpr uint64_t kRuns = 64 * XF_SAMPLE_EVERY;

// How many samples a program that has a flow for all of kRuns packets lets its
// successor see, on one CPU.  One that comes back may be sampled again.
uint64_t count_samples() {
    uint64_t samples = 0, seq = 0;
    for (uint64_t i = 0; i < kRuns; i++) {
        while (xf_is_sampled(++seq)) {
            samples++;
        }
        seq++;
    }
    return samples;
}
const uint64_t kSamples = count_samples();

Frame udp_frame(uint16_t source, size_t payload) {
    return Packet()
        .eth(0x0800)
        .ipv4(IPPROTO_UDP)
        .udp(source, 53)
        .payload(payload)
        .bytes();
}
const Frame kUdp = udp_frame(1000, 18);

FlowSpec udp_flow() { return FlowSpec::ipv4().proto(IPPROTO_UDP); }

void set_successor(const Program &old, const Program &successor) {
    const int next = old.calls().next;
    const auto theirs = successor.calls();
    const std::pair<uint32_t, int> calls[] = {
        {XF_NEXT_SAMPLE, theirs.sample},
        {XF_NEXT_MISS, theirs.main},
        {XF_NEXT_OLD, old.calls().main}};
    for (auto [i, fd] : calls) {
        ASSERT_EQ(bpf_map_update_elem(next, &i, &fd, BPF_ANY), 0);
    }
}

// The programs of two processes at one hook.
struct Pair {
    std::unique_ptr<Program> old, young;
};

Pair pair_in_xdp() {
    auto old = std::make_unique<Program>();
    auto young = std::make_unique<Program>(XF_PORT_TX_NATIVE, old.get());
    return {std::move(old), std::move(young)};
}

Pair pair_at_skb() {
    auto old = std::make_unique<SkbProgram>();
    auto young = std::make_unique<SkbProgram>(false, BpfMaps::Config{}, old.get());
    return {std::move(old), std::move(young)};
}

class Successor : public testing::TestWithParam<Pair (*)()> {};
INSTANTIATE_TEST_SUITE_P(Hook, Successor, testing::Values(pair_in_xdp, pair_at_skb),
                         [](const auto &info) { return info.index ? "Skb" : "Xdp"; });

// How many of kRuns packets each of the two has counted as executed, or let
// pass, and how many were copied.
struct Outcome {
    uint64_t old_hits, old_misses, new_hits, new_misses, copies = 0;
    bool operator==(const Outcome &) const = default;
};

std::ostream &operator<<(std::ostream &s, const Outcome &o) {
    return s << "old " << o.old_hits << " hits, " << o.old_misses
             << " misses, new " << o.new_hits << " hits, " << o.new_misses
             << " misses, " << o.copies << " copies";
}

struct Row {
    const char *name;
    bool old_flow, successor, new_flow;
    Outcome expected;
    uint64_t old_deadline = 0;
};

const Row kRows[] = {
    {"Nobody follows", true, false, false, {kRuns, 0, 0, 0}},
    {"Nobody follows, no flow", false, false, false, {0, kRuns, 0, 0}},
    {"The successor has no flow yet, and gets copies of samples",
     true,
     true,
     false,
     {kRuns, 0, 0, 0, kSamples}},
    {"The successor has the flow as well, and counts samples",
     true,
     true,
     true,
     {kRuns, 0, kSamples, 0}},
    {"What misses goes to the successor, which has a flow",
     false,
     true,
     true,
     {0, kRuns, kRuns, 0}},
    {"Nobody has a flow: nothing is copied, as it is passed on itself",
     false,
     true,
     false,
     {0, kRuns, 0, kRuns}},
    {"The old flow's time is over: all go to the successor",
     true,
     true,
     true,
     {0, kRuns, kRuns, 0},
     1},
};

TEST_P(Successor, GetsSamplesAndMisses) {
    const OnCpu pinned(0);
    ASSERT_GT(kSamples, 0u);
    for (const Row &row : kRows) {
        SCOPED_TRACE(row.name);
        const Pair pair = GetParam()();
        Program &old = *pair.old, &young = *pair.young;
        FlowSlot old_slot{}, new_slot{};
        if (row.old_flow) {
            old_slot = old.add(udp_flow().drop());
        }
        if (row.new_flow) {
            new_slot = young.add(udp_flow().drop());
        }
        old.maps().set_deadline(0, row.old_deadline);
        if (row.successor) {
            set_successor(old, young);
        }
        uint64_t dropped = 0;
        for (uint64_t i = 0; i < kRuns; i++) {
            const auto run = old.run(kUdp);
            dropped += run.verdict == XDP_DROP;
            ASSERT_EQ(run.out, kUdp);
        }
        const Outcome is = {
            row.old_flow ? old.table().stats(old_slot).packets : 0,
            old.total_misses(),
            row.new_flow ? young.table().stats(new_slot).packets : 0,
            young.total_misses(), young.maps().take_copies().size()};
        EXPECT_EQ(is, row.expected);
        EXPECT_EQ(dropped, row.old_flow && !row.old_deadline ? is.old_hits
                                                             : is.new_hits);
        EXPECT_TRUE(old.maps().take_copies().empty());
    }
}

// What the successor would do is not done, however different it is.
TEST_P(Successor, DecidesNothingYet) {
    struct {
        const char *name;
        std::vector<FlowSpec> flows;  // Of the successor.
        uint64_t copies;
    } const rows[] = {
        {"it drops, having no rules yet", {udp_flow().drop()}, 0},
        {"it drops all", {FlowSpec::ipv4().drop()}, 0},
        {"it sends elsewhere", {udp_flow().to(kIn)}, 0},
        {"it changes the packet", {udp_flow().push(5).to(kOut)}, 0},
        {"to where nothing can be sent", {udp_flow().to(kDown)}, 0},
        {"it recirculates to a flow",
         {udp_flow().recirc_to(7), udp_flow().recirc(7).drop()},
         0},
        {"it recirculates to what it has not learned",
         {udp_flow().recirc_to(7)},
         kSamples},
    };
    const OnCpu pinned(0);
    for (const auto &row : rows) {
        SCOPED_TRACE(row.name);
        const Pair pair = GetParam()();
        Program &old = *pair.old, &young = *pair.young;
        const FlowSlot slot = old.add(udp_flow().to(kOut));
        std::vector<FlowSlot> learned;
        for (const FlowSpec &flow : row.flows) {
            learned.push_back(young.add(flow));
        }
        set_successor(old, young);
        for (uint64_t i = 0; i < kRuns; i++) {
            const auto run = old.run(kUdp);
            ASSERT_EQ(run.verdict, uint32_t{XDP_REDIRECT});
            ASSERT_EQ(run.out, kUdp);
        }
        EXPECT_EQ(old.table().stats(slot).packets, kRuns);
        EXPECT_EQ(young.maps().take_copies().size(), row.copies);
        for (FlowSlot flow : learned) {
            EXPECT_EQ(young.table().stats(flow).packets,
                      row.copies ? 0 : kSamples);
        }
        EXPECT_EQ(young.total_misses(), 0u);
    }
}

// Copies are of the packet as it came, so far as they go.
TEST_P(Successor, GetsCopies) {
    const OnCpu pinned(0);
    for (const size_t payload : {0, 18, 214, 215, 1400}) {
        SCOPED_TRACE(payload);
        const Frame frame = udp_frame(1000, payload);
        const Pair pair = GetParam()();
        Program &old = *pair.old, &young = *pair.young;
        old.add(udp_flow().drop());
        set_successor(old, young);
        for (uint64_t i = 0; i < kRuns; i++) {
            ASSERT_EQ(old.run(frame).verdict, uint32_t{XDP_DROP});
        }
        const auto copies = young.maps().take_copies();
        ASSERT_EQ(copies.size(), kSamples);
        for (const xf_copy &copy : copies) {
            const size_t n = std::min(frame.size(), sizeof copy.data);
            EXPECT_EQ(copy.in_port, index(kIn));
            EXPECT_EQ(copy.hash, copies[0].hash);
            EXPECT_EQ(copy.frame_len, frame.size());
            EXPECT_EQ(Frame(copy.data, copy.data + n),
                      Frame(frame.begin(), frame.begin() + n));
        }
    }
}

// A copy has the tag that is beside the frame.
TEST_P(Successor, GetsCopiesWithTags) {
    const OnCpu pinned(0);
    for (const size_t payload : {18, 214, 1400}) {
        SCOPED_TRACE(payload);
        const Frame frame =
            Packet().eth(0x8100).vlan(0xa005, 0x0800).ipv4(IPPROTO_UDP).udp(1000, 53).payload(payload).bytes();
        const Pair pair = GetParam()();
        pair.old->add(udp_flow().tag(0x8100, 5).drop());
        set_successor(*pair.old, *pair.young);
        for (uint64_t i = 0; i < kRuns; i++) {
            ASSERT_EQ(pair.old->run(frame).verdict, uint32_t{XDP_DROP});
        }
        const auto copies = pair.young->maps().take_copies();
        ASSERT_EQ(copies.size(), kSamples);
        const size_t n = std::min(frame.size(), sizeof copies[0].data);
        EXPECT_EQ(copies[0].frame_len, frame.size());
        EXPECT_EQ(Frame(copies[0].data, copies[0].data + n), Frame(frame.begin(), frame.begin() + n));
    }
}

// Samples that nobody reads: packets are executed all the same.
TEST_P(Successor, IsFull) {
    const OnCpu pinned(0);
    const Pair pair = GetParam()();
    Program &old = *pair.old, &young = *pair.young;
    const FlowSlot slot = old.add(udp_flow().drop());
    set_successor(old, young);
    constexpr uint64_t kMany = 2000 * XF_SAMPLE_EVERY;
    for (uint64_t i = 0; i < kMany; i++) {
        ASSERT_EQ(old.run(kUdp).verdict, uint32_t{XDP_DROP});
    }
    EXPECT_EQ(old.table().stats(slot).packets, kMany);
    const size_t n = young.maps().take_copies().size();
    EXPECT_GT(n, 500u);
    EXPECT_LT(n, 1500u);
}

// Senders who take turns are all met, as often as they should.
TEST_P(Successor, MeetsAllSenders) {
    const OnCpu pinned(0);
    for (const size_t n : {2, 3, 5, 8, 13, 55, 61, 64}) {
        SCOPED_TRACE(n);
        const Pair pair = GetParam()();
        Program &old = *pair.old, &young = *pair.young;
        set_successor(old, young);
        std::vector<FlowSlot> slots;
        std::vector<Frame> frames;
        for (size_t i = 0; i < n; i++) {
            const auto port = static_cast<uint16_t>(1000 + i);
            old.add(udp_flow().tp_src(port).drop());
            slots.push_back(young.add(udp_flow().tp_src(port).drop()));
            frames.push_back(udp_frame(port, 18));
        }
        constexpr size_t kRounds = 20 * XF_SAMPLE_EVERY;
        for (size_t i = 0; i < kRounds * n; i++) {
            old.run(frames[i % n]);
        }
        for (FlowSlot slot : slots) {
            const uint64_t met = young.table().stats(slot).packets;
            EXPECT_GE(met, 5u);
            EXPECT_LE(met, 60u);
        }
    }
}

// What the kernel takes away when the successor's process ends, in the order
// in which it does: no sample is lost.
TEST_P(Successor, Goes) {
    const OnCpu pinned(0);
    const Pair pair = GetParam()();
    Program &old = *pair.old, &young = *pair.young;
    const FlowSlot slot = old.add(udp_flow().drop());
    set_successor(old, young);
    const auto run_all = [&] {
        for (uint64_t i = 0; i < kRuns; i++) {
            EXPECT_EQ(old.run(kUdp).verdict, uint32_t{XDP_DROP});
        }
    };
    run_all();
    const int next = old.calls().next;
    for (uint32_t i : {XF_NEXT_SAMPLE, XF_NEXT_MISS, XF_NEXT_OLD}) {
        ASSERT_EQ(bpf_map_delete_elem(next, &i), 0);
        run_all();
    }
    EXPECT_EQ(old.table().stats(slot).packets, 4 * kRuns);
    EXPECT_EQ(young.total_misses(), 0u);
}

// At the deadline flows are executed no more, and with a new one again.
TEST(Deadline, EndsFlows) {
    using std::chrono::nanoseconds;
    const OnCpu pinned(0);
    Program program;
    Clock clock;
    ASSERT_FALSE(clock.open());
    const FlowSlot slot = program.add(udp_flow().drop());
    const auto now =
        nanoseconds(std::chrono::steady_clock::now().time_since_epoch());
    const uint64_t jiffies = clock.jiffies_at(now.count());
    struct {
        const char *name;
        uint64_t deadline;
        uint32_t verdict;
    } const rows[] = {
        {"none", 0, XDP_DROP},
        {"long ago", 1, XDP_PASS},
        {"a while ago", jiffies - 10, XDP_PASS},
        {"in a while", jiffies + 100000, XDP_DROP},
    };
    uint64_t n = 0;
    for (const auto &row : rows) {
        program.maps().set_deadline(now.count(), row.deadline);
        EXPECT_EQ(program.run(kUdp).verdict, row.verdict) << row.name;
        n += row.verdict == XDP_DROP;
        EXPECT_EQ(program.table().stats(slot).packets, n) << row.name;
    }
}

}  // namespace
}  // namespace flowxlate::test
