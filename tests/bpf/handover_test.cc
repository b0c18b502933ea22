// SPDX-License-Identifier: Apache-2.0
// A program and its successor on the same port, and a program that is left
// alone (flowxlate/handover.h).
#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <gtest/gtest.h>

#include <chrono>

#include "flowxlate/clock.h"
#include "on_cpu.h"
#include "packet.h"
#include "program.h"
#include "xdp_offload.skel.h"

namespace flowxlate::test {
namespace {

constexpr uint64_t kRuns = 4 * XF_SAMPLE_EVERY;

// Of the first 'n' packets of a program with a successor, on one CPU.
uint64_t samples_of(uint64_t n) {
    uint64_t samples = 0;
    for (uint64_t i = 0; i < n; i++) {
        samples += xf_is_sampled(2 * i) != 0;
    }
    return samples;
}
const uint64_t kSampled = samples_of(kRuns);

const Frame kUdp =
    Packet().eth(0x0800).ipv4(IPPROTO_UDP).udp(1000, 53).payload(18).bytes();

FlowSpec udp_flow() { return FlowSpec::ipv4().proto(IPPROTO_UDP); }

void set_successor(Program &old, const Program *successor) {
    const uint32_t key = 0;
    const int next = bpf_map__fd(old.skeleton().maps.xf_next);
    const int fd = successor ? successor->fd() : -1;
    if (successor) {
        ASSERT_EQ(bpf_map_update_elem(next, &key, &fd, BPF_ANY), 0);
    } else {
        (void)bpf_map_delete_elem(next, &key);
    }
}

// How many of kRuns packets each of the two has executed, or let pass.
struct Outcome {
    uint64_t old_hits, old_misses, new_hits, new_misses;
    bool operator==(const Outcome &) const = default;
};

std::ostream &operator<<(std::ostream &s, const Outcome &o) {
    return s << "old " << o.old_hits << " hits, " << o.old_misses
             << " misses, new " << o.new_hits << " hits, " << o.new_misses
             << " misses";
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
    {"The successor has no flow yet, and gets samples",
     true,
     true,
     false,
     {kRuns - kSampled, 0, 0, kSampled}},
    {"The successor has the flow as well",
     true,
     true,
     true,
     {kRuns - kSampled, 0, kSampled, 0}},
    {"What misses goes to the successor, which has a flow",
     false,
     true,
     true,
     {0, kRuns - kSampled, kRuns, 0}},
    {"Nobody has a flow",
     false,
     true,
     false,
     {0, kRuns - kSampled, 0, kRuns}},
    {"The old flow's time is over: all go to the successor",
     true,
     true,
     true,
     {0, kRuns - kSampled, kRuns, 0},
     1},
};

TEST(Successor, GetsSamplesAndMisses) {
    const OnCpu pinned(0);
    ASSERT_GT(kSampled, 0u);
    for (const Row &row : kRows) {
        SCOPED_TRACE(row.name);
        Program old, young;
        FlowSlot old_slot{}, new_slot{};
        if (row.old_flow) {
            old_slot = old.add(udp_flow().drop());
        }
        if (row.new_flow) {
            new_slot = young.add(udp_flow().drop());
        }
        old.maps().set_deadline(0, row.old_deadline);
        set_successor(old, row.successor ? &young : nullptr);
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
            young.total_misses()};
        EXPECT_EQ(is, row.expected);
        EXPECT_EQ(dropped, is.old_hits + is.new_hits);
    }
}

// Senders who take turns are all met, as often as they should.
TEST(Successor, MeetsAllSenders) {
    const OnCpu pinned(0);
    for (const size_t n : {2, 3, 5, 8, 13, 55, 61, 64}) {
        SCOPED_TRACE(n);
        Program old, young;
        set_successor(old, &young);
        std::vector<FlowSlot> slots;
        std::vector<Frame> frames;
        for (size_t i = 0; i < n; i++) {
            const auto port = static_cast<uint16_t>(1000 + i);
            old.add(udp_flow().tp_src(port).drop());
            slots.push_back(young.add(udp_flow().tp_src(port).drop()));
            frames.push_back(Packet()
                                 .eth(0x0800)
                                 .ipv4(IPPROTO_UDP)
                                 .udp(port, 53)
                                 .payload(18)
                                 .bytes());
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

// Also those that are in the middle of it when the kernel takes it away.
TEST(Successor, Goes) {
    const OnCpu pinned(0);
    Program old, young;
    const FlowSlot slot = old.add(udp_flow().drop());
    set_successor(old, &young);
    for (uint64_t i = 0; i < kRuns; i++) {
        old.run(kUdp);
    }
    set_successor(old, nullptr);
    for (uint64_t i = 0; i < kRuns; i++) {
        EXPECT_EQ(old.run(kUdp).verdict, uint32_t{XDP_DROP});
    }
    EXPECT_EQ(old.table().stats(slot).packets, 2 * kRuns - kSampled);
    EXPECT_EQ(young.total_misses(), kSampled);
}

// At the deadline flows are executed no more, and with a new one again.
TEST(Deadline, EndsFlows) {
    using std::chrono::nanoseconds;
    const OnCpu pinned(0);
    Program program;
    Clock clock;
    ASSERT_FALSE(clock.open());
    const FlowSlot slot = program.add(udp_flow().drop());
    const auto now = nanoseconds(
        std::chrono::steady_clock::now().time_since_epoch());
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
