// SPDX-License-Identifier: Apache-2.0
// Two CPUs at once, with a row of what programs write for each, or with one for both
// (flowxlate/tables/cpu_rows.h).
#include <bpf/bpf.h>
#include <sched.h>

#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <functional>
#include <iostream>
#include <latch>
#include <random>
#include <thread>
#include <vector>

#include "on_cpu.h"
#include "packet.h"
#include "program.h"
#include "skb_program.h"

namespace flowxlate::test {
namespace {

constexpr uint64_t kRuns = 1'000'000;  // So many that the two CPUs meet.

// Hosts, as the library is told of them.
struct Host {
    const char *what;
    BpfMaps::Config config;
    bool shares;
};
const Host kHosts[] = {
    {"a row each", {}, false},
    {"256 CPUs and memory for one row", {.memory = 1, .is_online = std::vector<bool>(256, true)}, true},
    {"of 256 CPUs none was online at first", {.is_online = std::vector<bool>(256)}, true},
};

bool has_two_cpus() {
    cpu_set_t all;
    return !sched_getaffinity(0, sizeof all, &all) && CPU_COUNT(&all) > 1;
}

// Does 'work' on two CPUs at once, each of which it is told the number of.
void on_two_cpus(const std::function<void(int)> &work) {
    std::latch start(2);
    auto run = [&](int n) {
        const OnCpu cpu(n);
        start.arrive_and_wait();
        work(n);
    };
    std::jthread first(run, 0), second(run, 1);
}

// What packets do that are counted, each at another place.
struct Way {
    const char *what;
    std::vector<FlowSpec> flows;  // That all packets pass.
    std::array<Frame, 2> in;      // By CPU, of one length.
    uint16_t tcp_flags;           // Of both.
};

Frame tcp_frame(uint8_t flags) {
    return Packet().eth(kIpv4).ipv4(IPPROTO_TCP).tcp(1000, 80, flags).payload(30).bytes();
}

std::vector<Way> ways() {
    const std::array<Frame, 2> acks_and_pushes = {tcp_frame(0x10), tcp_frame(0x08)};
    return {
        {"a hit", {FlowSpec::ipv4().proto(IPPROTO_TCP).to(kOut)}, acks_and_pushes, 0x18},
        {"two flows",
         {FlowSpec::ipv4().proto(IPPROTO_TCP).recirc_to(1), FlowSpec::ipv4().proto(IPPROTO_TCP).recirc(1).to(kOut)},
         acks_and_pushes,
         0x18},
        {"no flow", {}, acks_and_pushes, 0},
    };
}

void count_of_two_cpus(Program &p, int fd, const Way &way) {
    SCOPED_TRACE(way.what);
    std::vector<FlowSlot> slots;
    for (auto &spec : way.flows) {
        slots.push_back(p.add(spec));
    }
    std::array<uint32_t, 2> ns;
    on_two_cpus([&](int n) { ns[n] = time_program(fd, way.in[n], kRuns); });
    std::cout << way.what << ": " << ns[0] << " and " << ns[1] << " ns\n";
    for (auto slot : slots) {
        const auto before = p.table().stats(slot);
        p.table().remove(slot);
        p.forget(slot);
        EXPECT_TRUE(p.table().quiesce());
        for (const FlowStats &stats : {before, p.table().stats(slot)}) {
            EXPECT_EQ(stats.packets, 2 * kRuns);
            EXPECT_EQ(stats.bytes, 2 * kRuns * way.in[0].size());
            EXPECT_EQ(stats.tcp_flags, way.tcp_flags);
        }
    }
    EXPECT_EQ(p.misses(XF_MISS_NO_FLOW), slots.empty() ? 2 * kRuns : 0);
    if (slots.empty()) {
        EXPECT_EQ(p.maps().searches(kIn), 2 * kRuns);
    }
    p.remove_all();
}

TEST(Rows, CountsOfTwoCpusAreExact) {
    if (!has_two_cpus()) {
        GTEST_SKIP() << "there is one CPU";
    }
    for (const Host &host : kHosts) {
        SCOPED_TRACE(host.what);
        Program xdp(XF_PORT_TX_NATIVE, nullptr, {}, host.config);
        SkbProgram skb(false, host.config);
        EXPECT_EQ(xdp.maps().rows().n_sharing() != 0, host.shares);
        for (const Way &way : ways()) {
            std::cout << host.what << ", xdp, ";
            count_of_two_cpus(xdp, xdp.fd(), way);
            std::cout << host.what << ", skb, ";
            count_of_two_cpus(skb, skb.skb_fd(), way);
        }
    }
}

// While packets come, so each is counted by the flow or is a miss.
TEST(Rows, FiguresAreFinalAtDeletion) {
    if (!has_two_cpus()) {
        GTEST_SKIP() << "there is one CPU";
    }
    for (const Host &host : kHosts) {
        SCOPED_TRACE(host.what);
        Program p(XF_PORT_TX_NATIVE, nullptr, {}, host.config);
        const Way way = ways().front();
        const FlowSlot slot = p.add(way.flows.front());
        FlowStats last;
        std::jthread deletes([&] {
            std::this_thread::sleep_for(std::chrono::milliseconds(20));
            p.table().remove(slot);
            EXPECT_TRUE(p.table().quiesce());
            last = p.table().stats(slot);
        });
        on_two_cpus([&](int n) { time_program(p.fd(), way.in[n], kRuns); });
        deletes.join();
        p.forget(slot);
        EXPECT_EQ(last.packets + p.misses(XF_MISS_NO_FLOW), 2 * kRuns);
        EXPECT_EQ(last.bytes, last.packets * way.in[0].size());
        EXPECT_EQ(p.table().stats(slot).packets, last.packets);
    }
}

// Packets of many connections, of a few flows that are told apart by the port where
// they go, in a small flow cache: whatever the CPUs put into each other's sets, each
// packet is executed by its own flow.
TEST(Rows, FlowCacheOfTwoCpus) {
    if (!has_two_cpus()) {
        GTEST_SKIP() << "there is one CPU";
    }
    constexpr uint16_t kFlows = 16, kPackets = 40000, kSources = 4096;
    using Counts = std::array<uint64_t, kFlows + 1>;  // The last has no flow.
    for (const Host &host : kHosts) {
        SCOPED_TRACE(host.what);
        BpfMaps::Config config = host.config;
        config.max_flows = 64;
        Program p(XF_PORT_TX_NATIVE, nullptr, {}, config);
        std::vector<FlowSlot> slots;
        for (uint16_t i = 0; i < kFlows; i++) {
            slots.push_back(p.add(FlowSpec::ipv4().proto(IPPROTO_UDP).tp_dst(i).to(kOut)));
        }
        std::array<Counts, 2> sent{};
        on_two_cpus([&](int n) {
            std::minstd_rand random(n + 1);
            for (int i = 0; i < kPackets; i++) {
                const uint16_t flow = random() % (kFlows + 1);
                const uint16_t source = random() % kSources;
                p.run(Packet().eth(kIpv4).ipv4(IPPROTO_UDP).udp(source, flow).payload(18).bytes());
                sent[n][flow]++;
            }
        });
        for (uint16_t i = 0; i < kFlows; i++) {
            EXPECT_EQ(p.table().stats(slots[i]).packets, sent[0][i] + sent[1][i]) << i;
        }
        EXPECT_EQ(p.misses(XF_MISS_NO_FLOW), sent[0][kFlows] + sent[1][kFlows]);
    }
}

// Whoever may write to maps can say that a CPU has any row.  Of some the index of a flow's
// figures, of 32 bits, is another flow's.
TEST(Rows, OneThatThereIsNot) {
    const OnCpu pinned(0);
    const Way way = ways().front();
    Program xdp;  // In new ones the flow has the first slot.
    SkbProgram skb;
    for (Program *p : {&xdp, static_cast<Program *>(&skb)}) {
        SCOPED_TRACE(p->hook());
        const FlowSlot slot = p->add(way.flows.front());
        p->run(way.in[0]);  // The flow cache knows it then.
        auto &self = p->maps().tables().cpus[sched_getcpu()];
        for (const uint32_t row : {p->maps().rows().n_rows(), 0x20000U, 0x40000U, UINT32_MAX}) {
            self.row = row;
            EXPECT_EQ(p->run(way.in[0]).verdict, uint32_t{XDP_PASS}) << row;
        }
        EXPECT_EQ(p->table().stats(slot).packets, 1U);
        p->maps().set_deadline(0, 0);  // As once a second.
        EXPECT_EQ(p->run(way.in[0]).verdict, uint32_t{XDP_REDIRECT});
        EXPECT_EQ(p->table().stats(slot).packets, 2U);
    }
}

}  // namespace
}  // namespace flowxlate::test
