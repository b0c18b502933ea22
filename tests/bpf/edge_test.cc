// SPDX-License-Identifier: Apache-2.0
// What does not fit the tables of program_test.cc: every truncation of a
// packet, AF_XDP sockets, generic mode, and many flows and masks.
#include <gtest/gtest.h>
#include <linux/if_ether.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <thread>

#include "bpf/abi/counters.h"
#include "bpf/abi/hash.h"
#include "flowxlate/base/resource.h"
#include "flowxlate/kernel/clock.h"
#include "on_cpu.h"
#include "row.h"
#include "xdp_offload.skel.h"
#include "xdp_socket.h"

namespace flowxlate::test {
namespace {

Packet udp4_to(uint16_t port) {
    return Packet().eth(kIpv4).ipv4(IPPROTO_UDP).udp(1000, port).payload(22);
}

// -- Truncation -------------------------------------------------------------

struct Truncation {
    const char *name;
    Packet packet;
    size_t whole;  // From this length on the packet parses.
};

// Ethernet II frames that would be hits if they were whole: cut off anywhere
// they pass, untouched, and nothing is counted as a hit.
TEST(Truncation, EveryLength) {
    const Truncation rows[] = {
        {"UDP", Packet().eth(kIpv4).ipv4(17).udp(1, 2).payload(20), 62},
        {"TCP", Packet().eth(kIpv4).ipv4(6).tcp(1, 2).payload(20), 74},
        {"SCTP", Packet().eth(kIpv4).ipv4(132).sctp(1, 2).payload(20), 66},
        {"ICMP", Packet().eth(kIpv4).ipv4(1).icmp(8, 0).payload(20), 62},
        {"ARP", Packet().eth(kArp).arp(1).padding(18), 42},
        {"UDP6", Packet().eth(kIpv6).ipv6(17).udp(1, 2).payload(20), 82},
        {"TCP6", Packet().eth(kIpv6).ipv6(6).tcp(1, 2).payload(20), 94},
        {"ICMPv6", Packet().eth(kIpv6).ipv6(58).icmp(128, 0).payload(20), 82},
        {"VLAN", Packet().eth(kVlan).vlan(5, kIpv4).ipv4(17).udp(1, 2).payload(20), 66},
        {"VLAN ARP", Packet().eth(kVlan).vlan(5, kArp).arp(1).padding(18), 46},
    };
    auto &p = empty_program();
    for (auto f : {FlowSpec::ipv4(), FlowSpec::ipv6(), FlowSpec::arp(),
                   FlowSpec::ipv4().any_tag(), FlowSpec::arp().any_tag()}) {
        p.add(f.to(kOut));
    }
    for (auto &row : rows) {
        const Frame whole = row.packet.bytes();
        for (size_t n = ETH_HLEN; n <= whole.size(); n++) {
            SCOPED_TRACE(std::string(row.name) + " cut to "
                         + std::to_string(n));
            const Frame in(whole.begin(), whole.begin() + n);
            const auto misses = p.total_misses();
            const flowxlate::test::Run run = p.run(in);
            EXPECT_EQ(run.verdict, n < row.whole ? XDP_PASS : XDP_REDIRECT);
            EXPECT_EQ(run.out, in);
            EXPECT_EQ(p.total_misses() - misses, n < row.whole ? 1U : 0U);
        }
    }
}

// -- AF_XDP -----------------------------------------------------------------

TEST(AfXdp, MissGoesToTheSocketOfItsQueueWithAWholeChecksum) {
    auto &p = empty_program();
    const uint32_t queue = 0;
    const XdpSocket &socket = the_socket();
    ASSERT_TRUE(socket.ok()) << std::strerror(errno);
    const int fd = socket.fd();
    ASSERT_EQ(bpf_map_update_elem(p.socket_map_fd(), &queue, &fd, BPF_ANY), 0);

    struct {
        const char *name;
        Packet in, out;
    } rows[] = {
        {"whole", udp4(), udp4()},
        {"partial UDP", udp4().partial(), udp4()},
        {"partial TCP", Packet().eth(kIpv4).ipv4(6).tcp(1, 2).payload(9).partial(), Packet().eth(kIpv4).ipv4(6).tcp(1, 2).payload(9)},
        {"partial TCP over IPv6", Packet().eth(kIpv6).ipv6(6).tcp(1, 2).payload(9).partial(), Packet().eth(kIpv6).ipv6(6).tcp(1, 2).payload(9)},
        {"partial behind IPv4 options", Packet().eth(kIpv4).ipv4(17, 0, 8).udp(1, 2).payload(9).partial(), Packet().eth(kIpv4).ipv4(17, 0, 8).udp(1, 2).payload(9)},
        {"partial behind a tag", Packet().eth(kVlan).vlan(5, kIpv4).ipv4(17).udp(1, 2).payload(9).partial(), Packet().eth(kVlan).vlan(5, kIpv4).ipv4(17).udp(1, 2).payload(9)},
        {"later fragment", Packet().eth(kIpv4).ipv4(17, 5).payload(40), Packet().eth(kIpv4).ipv4(17, 5).payload(40)},
        {"not IP", Packet().eth(0x88cc).payload(40), Packet().eth(0x88cc).payload(40)},
    };
    // Also by a program that nobody tends.
    for (const uint64_t deadline : {0, 1}) {
        p.maps().set_deadline(0, deadline);
        for (auto &row : rows) {
            SCOPED_TRACE(row.name);
            const flowxlate::test::Run run = p.run(row.in.bytes(), queue);
            EXPECT_EQ(run.verdict, XDP_REDIRECT);
            EXPECT_EQ(hex(run.out), hex(row.out.bytes()));
        }
    }
    p.maps().set_deadline(0, 0);

    ASSERT_EQ(bpf_map_delete_elem(p.socket_map_fd(), &queue), 0);
    const flowxlate::test::Run run = p.run(udp4().partial().bytes(), queue);
    EXPECT_EQ(run.verdict, XDP_PASS);
    EXPECT_EQ(hex(run.out), hex(udp4().partial().bytes()))
        << "without a socket the kernel completes the checksum";
}

// -- Checksums --------------------------------------------------------------

// RFC 768: a UDP checksum that comes out as zero is sent as all ones.
TEST(Checksum, UdpSumOfZeroIsAllOnes) {
    auto &p = empty_program();
    p.add(FlowSpec::ipv4().to(kOut));
    for (uint32_t port = 1; port < 65536; port++) {
        const auto packet = Packet().eth(kIpv4).ipv4(17).udp(port, 2).payload(6);
        const Frame whole = packet.bytes();
        if (whole[40] == 0xff && whole[41] == 0xff) {
            const auto run = p.run(Packet(packet).partial().bytes());
            EXPECT_EQ(hex(run.out), hex(whole));
            return;
        }
    }
    FAIL() << "no such packet";
}

// A tap's short segments of a long packet look like whole ones.
TEST(Tap, PassesOnWhatMayBeSegments) {
    auto &p = empty_program();
    p.add(FlowSpec::ipv4().to(kOut));
    auto &port = p.maps().port(kIn);
    const auto saved = port;
    port.max_partial = XF_TAP_MAX_PARTIAL;
    auto tcp = [](size_t payload) {
        return Packet().eth(0x0800).ipv4(IPPROTO_TCP).tcp(1, 2).payload(payload);
    };
    const struct {
        const char *name;
        Packet packet;
        uint32_t verdict;
    } rows[] = {
        {"partial, short", tcp(512).partial(), XDP_REDIRECT},
        {"partial, longer", tcp(513).partial(), XDP_PASS},
        {"whole", tcp(1400), XDP_REDIRECT},
    };
    for (const auto &row : rows) {
        SCOPED_TRACE(row.name);
        const Frame in = row.packet.bytes();
        const auto run = p.run(in);
        EXPECT_EQ(run.verdict, row.verdict);
        if (row.verdict == XDP_PASS) {
            EXPECT_EQ(hex(run.out), hex(in));
        }
    }
    EXPECT_EQ(p.misses(XF_MISS_TX_CHECKSUM), 1U);
    port = saved;
    EXPECT_EQ(p.run(tcp(513).partial().bytes()).verdict, XDP_REDIRECT);
}

// -- Generic mode -----------------------------------------------------------

TEST(Generic, NeedsLessOfTheOutputPortAndLeavesChecksumsAlone) {
    Program p(XF_PORT_TX_GENERIC);
    p.maps().port(kOut).flags = XF_PORT_TX_GENERIC | XF_PORT_TX_SUMS;
    const auto slot = p.add(FlowSpec::ipv4().to(kOut));
    const Frame partial = udp4().partial().bytes();

    const flowxlate::test::Run run = p.run(partial);
    EXPECT_EQ(run.verdict, XDP_REDIRECT);
    EXPECT_EQ(hex(run.out), hex(partial)) << "the sk_buff remembers";
    EXPECT_EQ(p.table().stats(slot).packets, 1U);

    p.maps().port(kOut).flags = XF_PORT_TX_NATIVE;
    EXPECT_EQ(p.run(partial).verdict, XDP_PASS);
    EXPECT_EQ(p.misses(XF_MISS_TX_PORT), 1U);
}

Packet sctp4(uint32_t crc) { return Packet().eth(kIpv4).ipv4(IPPROTO_SCTP).sctp(1, 2, crc).payload(20); }

Packet in_vxlan(const Packet &inner) {
    Frame f = {8, 0, 0, 0, 0, 0, 7, 0};
    const Frame bytes = inner.bytes();
    f.insert(f.end(), bytes.begin(), bytes.end());
    return Packet().eth(kIpv4).ipv4(IPPROTO_UDP).udp(40000, 4789).data(f).no_checksum();
}

// Nobody would complete it behind the program.
TEST(Generic, PartialChecksumNeedsADeviceThatMakesIt) {
    struct {
        const char *name;
        Packet packet;
        bool makes_sums, is_hit;
    } const rows[] = {
        {"whole", udp4(), true, true},
        {"partial", udp4().partial(), true, true},
        {"whole, a device that makes none", udp4(), false, true},
        {"partial, a device that makes none", udp4().partial(), false, false},
        {"SCTP", sctp4(1), true, true},
        {"SCTP without a CRC", sctp4(0), true, false},
        {"whole in VXLAN", in_vxlan(udp4()), true, true},
        {"partial in VXLAN", in_vxlan(udp4().partial()), true, false},
    };
    Program p(XF_PORT_TX_GENERIC);
    p.add(FlowSpec::ipv4().to(kOut));
    p.maps().port(kIn).is_no_nic = 1;
    for (auto &row : rows) {
        SCOPED_TRACE(row.name);
        p.maps().port(kOut).flags = XF_PORT_TX_GENERIC | (row.makes_sums ? XF_PORT_TX_SUMS : 0);
        const Frame in = row.packet.bytes();
        const uint64_t before = p.misses(XF_MISS_TX_CHECKSUM);
        const auto run = p.run(in);
        EXPECT_EQ(run.verdict, row.is_hit ? XDP_REDIRECT : XDP_PASS);
        EXPECT_EQ(hex(run.out), hex(in));
        EXPECT_EQ(p.misses(XF_MISS_TX_CHECKSUM) - before, row.is_hit ? 0U : 1U);
    }
}

// -- Ports that change while flows point at them ----------------------------

TEST(Output, FollowsThePortAtRunTime) {
    auto &p = empty_program();
    const auto slot = p.add(FlowSpec::ipv4().to(kOut));
    auto &port = p.maps().port(kOut);
    const auto saved = port;

    EXPECT_EQ(p.run(udp4().bytes()).verdict, XDP_REDIRECT);
    port.flags = 0;
    EXPECT_EQ(p.run(udp4().bytes()).verdict, XDP_PASS);
    port = saved;
    port.max_frame = 30;
    EXPECT_EQ(p.run(udp4().bytes()).verdict, XDP_PASS);
    port = saved;
    EXPECT_EQ(p.run(udp4().bytes()).verdict, XDP_REDIRECT);
    EXPECT_EQ(p.table().stats(slot).packets, 2U);
    EXPECT_EQ(p.misses(XF_MISS_TX_PORT), 1U);
    EXPECT_EQ(p.misses(XF_MISS_TX_LENGTH), 1U);
}

// -- Many flows and masks ---------------------------------------------------

// The program and the writer agree on hashes and buckets.
TEST(Lookup, FindsEveryOneOfManyFlows) {
    auto &p = empty_program();
    std::vector<FlowSlot> slots;
    for (uint32_t i = 0; i < 60000; i++) {
        slots.push_back(p.add(
            FlowSpec::ipv4().proto(IPPROTO_UDP).tp_dst(i).to(kOut)));
    }
    for (uint32_t i = 0; i < 60000; i++) {
        ASSERT_EQ(p.run(udp4_to(i).bytes()).verdict, XDP_REDIRECT) << i;
        ASSERT_EQ(p.table().stats(slots[i]).packets, 1U) << i;
    }
    EXPECT_EQ(p.run(udp4_to(60001).bytes()).verdict, XDP_PASS);
}

// More flows of one bucket than it holds: the program finds the rest in their
// second buckets.
TEST(Lookup, FindsFlowsThatOverflowTheirBucket) {
    constexpr size_t kOverflow = 3;
    auto &p = empty_program();
    auto spec = [](uint32_t ip) {
        return FlowSpec::ipv4().ipv4_dst(ip, ~0U).to(kOut);
    };
    auto packet = [](uint32_t ip) {
        return udp4().poke(30, ip >> 24).poke(31, ip >> 16).poke(32, ip >> 8).poke(33, ip).bytes();
    };
    auto &table = p.table();
    const auto &mem = table.memory();
    std::vector<std::pair<uint32_t, FlowSlot>> flows{{0, p.add(spec(0))}};
    const SubtableSlot subtable = table.subtable_of(flows[0].second);
    auto bucket_of = [&](uint32_t ip) -> xf_bucket & {
        const auto hash = table.hash(subtable, spec(ip).key);
        return mem.buckets[xf_hash_bucket1(hash) & (mem.buckets.size() - 1)];
    };

    auto &bucket = bucket_of(0);
    for (uint32_t ip = 1; flows.size() < XF_BUCKET_ENTRIES + kOverflow; ip++) {
        if (&bucket_of(ip) == &bucket) {
            flows.emplace_back(ip, p.add(spec(ip)));
        }
    }
    EXPECT_EQ(bucket.overflow, kOverflow);
    for (auto [ip, slot] : flows) {
        EXPECT_EQ(p.run(packet(ip)).verdict, XDP_REDIRECT) << ip;
        EXPECT_EQ(table.stats(slot).packets, 1U) << ip;
    }
}

// Every mask is found, first by the walk, then by the flow cache's prediction,
// also when the prediction is wrong.
TEST(Lookup, FindsEveryOneOfManyMasks) {
    auto &p = empty_program();
    constexpr int kMasks = XF_MAX_MASKS;
    std::vector<FlowSlot> slots;
    auto packet = [](int i) { return udp4().poke(26, i).poke(27, i >> 8).bytes(); };
    for (int i = 0; i < kMasks; i++) {
        auto f = FlowSpec::ipv4();
        f.mask.ipv4_src = 0xffff;  // The first two bytes of the address ...
        f.key.ipv4_src = i;
        f.mask.tp_src = i + 1;  // ... and a mask of its own.
        f.key.tp_src = __builtin_bswap16(1000) & (i + 1);
        slots.push_back(p.add(f.to(kOut)));
    }
    for (uint64_t round = 1; round <= 3; round++) {
        for (int i = 0; i < kMasks; i++) {
            ASSERT_EQ(p.run(packet(i)).verdict, XDP_REDIRECT) << i;
            ASSERT_EQ(p.table().stats(slots[i]).packets, round) << i;
        }
    }
}

// quiesce() gives up where a CPU is slow, say an emulated one.
void wait_until_quiet(Program &p) {
    while (!p.table().quiesce()) {
    }
}

// A mask is found at any time, also while the one before it in the walk goes.
TEST(Lookup, FindsAFlowWhileAMaskBeforeItGoes) {
    constexpr int kRounds = 150;
    auto &p = empty_program();
    auto other = [](int i) {
        auto f = FlowSpec::ipv4().proto(IPPROTO_TCP);
        f.mask.ipv4_src = i + 1;
        return f;
    };
    std::atomic<bool> stop = false;
    std::atomic<uint64_t> n_packets = 0;
    std::thread sender([&] {
        const OnCpu cpu(1);
        // A source each time that neither the flow cache nor a guess knows.
        for (Frame in = udp4().bytes(); !stop; n_packets++) {
            const auto source = static_cast<uint32_t>(n_packets);
            std::memcpy(&in[26], &source, sizeof source);
            time_program(p.fd(), in, 1);
        }
    });
    const OnCpu cpu(0);
    uint64_t n_lost = 0, n_seen = 0;
    for (int round = 0; round < kRounds; round++) {
        // The walk goes from the newest mask to the oldest one.
        p.add(FlowSpec::ipv4().proto(17).to(kOut));
        const auto first = p.add(other(0));
        for (int i = 1; i < 60 + round % 40; i++) {
            p.add(other(i));
        }
        wait_until_quiet(p);
        const uint64_t misses = p.misses(XF_MISS_NO_FLOW), n = n_packets;
        while (n_packets < n + 2 + round % 3) {
        }
        p.table().remove(first);
        while (n_packets < n + 8) {
        }
        wait_until_quiet(p);
        n_lost += p.misses(XF_MISS_NO_FLOW) - misses;
        n_seen += n_packets - n;
        p.forget(first);
        p.remove_all();
    }
    stop = true;
    sender.join();
    EXPECT_EQ(n_lost, 0U) << "of " << n_seen;
}

// -- Flow cache -------------------------------------------------------------

// A map of the program by its name.
Fd map_named(int program_fd, std::string_view name) {
    __u32 ids[32];
    bpf_prog_info info{};
    info.nr_map_ids = std::size(ids);
    info.map_ids = reinterpret_cast<uintptr_t>(ids);
    __u32 len = sizeof info;
    bpf_obj_get_info_by_fd(program_fd, &info, &len);
    for (__u32 i = 0; i < info.nr_map_ids; i++) {
        Fd fd(bpf_map_get_fd_by_id(ids[i]));
        bpf_map_info map{};
        len = sizeof map;
        if (!bpf_obj_get_info_by_fd(fd.get(), &map, &len)
            && name == map.name) {
            return fd;
        }
    }
    return {};
}

// Packets that differ as those of neighbouring hosts do find places of their
// own: of as many entries as there are packets, 93 % are used if the hash is as
// good as random (sets of four that are asked for two on average).
TEST(FlowCache, SpreadsWhatNeighbouringHostsSend) {
    const OnCpu cpu(0);
    const struct {
        const char *what;
        Frame (*packet)(uint32_t i);
    } rows[] = {
        {"IPv6, 256 hosts to 256 hosts, one pair of ports",
         [](uint32_t i) {
             return Packet().eth(kIpv6).ipv6(17).udp(2152, 2152).payload(9).poke(37, i).poke(53, i >> 8).bytes();
         }},
        {"IPv4, 64 hosts, 1024 source ports each",
         [](uint32_t i) {
             return Packet().eth(kIpv4).ipv4(17).udp(32768 + i / 64, 443).payload(9).poke(29, i % 64).bytes();
         }},
    };
    for (auto &row : rows) {
        constexpr uint32_t kPackets = 65536;
        Program p;
        p.add(FlowSpec::ipv4().to(kOut));
        p.add(FlowSpec::ipv6().to(kOut));
        for (uint32_t i = 0; i < kPackets; i++) {
            ASSERT_EQ(p.run(row.packet(i)).verdict, XDP_REDIRECT);
        }
        const Fd cache = map_named(p.fd(), "xf_flow_cache");
        uint32_t n_used = 0;
        xf_cache_set set;
        for (uint32_t i = 0; !bpf_map_lookup_elem(cache.get(), &i, &set); i++) {
            for (uint64_t ways : set.ways) {
                n_used += (ways & UINT32_MAX) != 0;
                n_used += ways >> XF_CACHE_WAY_BITS != 0;
            }
        }
        EXPECT_GT(n_used, kPackets * 9 / 10) << row.what;
    }
}

// What the flow cache says of the second flow is not believed either: the flow
// changes, is removed, and another one, with another mask, takes its place.
TEST(FlowCache, NextFlowIsVerified) {
    const OnCpu cpu(0);
    Program p;
    const auto first = p.add(FlowSpec::ipv4().recirc_to(7));
    auto second = p.add(FlowSpec::ipv4().recirc(7).tp_dst(53).to(kOut));
    const Frame in = udp4_to(53).bytes();
    auto expect = [&](const char *what, uint32_t verdict, FlowSlot counted) {
        const auto before = p.table().stats(counted).packets;
        EXPECT_EQ(p.run(in).verdict, verdict) << what;
        EXPECT_EQ(p.table().stats(counted).packets, before + 1) << what;
    };
    expect("searched", XDP_REDIRECT, second);
    expect("known", XDP_REDIRECT, second);
    ASSERT_FALSE(p.table().replace(&second, xf_action{}));
    expect("replaced by a drop", XDP_DROP, second);
    expect("the drop is known", XDP_DROP, second);
    p.table().remove(second);
    const auto before = p.table().stats(first).packets;
    EXPECT_EQ(p.run(in).verdict, uint32_t{XDP_PASS}) << "removed";
    EXPECT_EQ(p.table().stats(first).packets, before);
    const auto wide = p.add(FlowSpec::ipv4().recirc(7).to(kOut));
    expect("a wider one", XDP_REDIRECT, wide);
    expect("a wider one, known", XDP_REDIRECT, wide);
}

// Only what the flow cache cannot answer is counted as a search, and what cannot
// be parsed is not looked up.
TEST(FlowCache, CountsSearches) {
    const struct {
        const char *what;
        Frame frame;
        uint64_t searches;
    } rows[] = {
        {"the first packet of a flow", udp4_to(53).bytes(), 1},
        {"the same again", udp4_to(53).bytes(), 0},
        {"another packet of this flow", udp4_to(54).bytes(), 1},
        {"the first one is still known", udp4_to(53).bytes(), 0},
        {"no flow", udp6().bytes(), 1},
        {"no flow, again", udp6().bytes(), 1},
        {"not parsed", Packet().eth(0x0026).payload(50).bytes(), 0},
        {"known, and passed on", tcp4().bytes(), 1},
        {"known, and passed on, again", tcp4().bytes(), 0},
        {"two stages", Packet().eth(kArp).arp(1).bytes(), 2},
        {"two stages, both known", Packet().eth(kArp).arp(1).bytes(), 0},
        {"another packet, whose next flow is that of the others", Packet().eth(kArp).arp(2).bytes(), 1},
    };
    const OnCpu cpu(0);
    Program p;
    p.add(FlowSpec::ipv4().proto(IPPROTO_UDP).to(kOut));
    p.add(FlowSpec::ipv4().proto(IPPROTO_TCP).to(kDown));
    p.add(FlowSpec::arp().recirc_to(7));
    p.add(FlowSpec::arp().recirc(7).to(kOut));
    for (auto &row : rows) {
        const uint64_t before = p.maps().searches(kIn);
        p.run(row.frame);
        EXPECT_EQ(p.maps().searches(kIn) - before, row.searches) << row.what;
    }
    EXPECT_EQ(p.maps().searches(kOut), 0U) << "of another port";
    p.maps().clear_misses(kIn);
    EXPECT_EQ(p.maps().searches(kIn), 0U);
}

TEST(Lookup, RemovedAndReplacedFlows) {
    auto &p = empty_program();
    auto slot = p.add(FlowSpec::ipv4().proto(17).tp_dst(53).to(kOut));
    EXPECT_EQ(p.run(udp4().bytes()).verdict, XDP_REDIRECT);

    const auto old = slot;
    xf_action drop{};
    drop.verdict = XF_DROP;
    ASSERT_FALSE(p.table().replace(&slot, drop));
    EXPECT_EQ(p.run(udp4().bytes()).verdict, XDP_DROP);
    EXPECT_EQ(p.table().stats(old).packets, 1U);
    EXPECT_EQ(p.table().stats(slot).packets, 1U);

    p.table().remove(slot);
    EXPECT_EQ(p.run(udp4().bytes()).verdict, XDP_PASS);
    EXPECT_TRUE(p.table().quiesce());
    EXPECT_EQ(p.table().stats(slot).packets, 1U);
    p.forget(old);
}

// -- Last use ---------------------------------------------------------------

// The program's jiffies, converted, are the time of the packet.
TEST(LastUse, IsTheTimeOfThePacket) {
    using namespace std::chrono;
    constexpr auto kTicks = milliseconds(30);  // Some, at 100 Hz.
    auto now = [] { return steady_clock::now().time_since_epoch(); };
    auto &p = empty_program();
    const auto slot = p.add(FlowSpec::ipv4().drop());
    flowxlate::Clock clock;
    ASSERT_FALSE(clock.open());
    EXPECT_EQ(clock.monotonic_ns(p.table().stats(slot).used), 0u) << "never";

    for (int pause : {0, 5, 20, 50, 200}) {
        std::this_thread::sleep_for(milliseconds(pause));
        const auto before = now();
        ASSERT_EQ(p.run(udp4().bytes()).verdict, XDP_DROP);
        const auto after = now();
        std::this_thread::sleep_for(milliseconds(pause));
        const nanoseconds used(
            clock.monotonic_ns(p.table().stats(slot).used));
        EXPECT_GE(used, before - kTicks) << "pause " << pause;
        EXPECT_LE(used, after + kTicks) << "pause " << pause;
    }
}

// -- Cost -------------------------------------------------------------------

// A program that does nothing but redirect: the least that forwarding costs.
Fd bare_redirect(int devmap) {
    const bpf_insn code[] = {
        {BPF_LD | BPF_IMM | BPF_DW, BPF_REG_1, BPF_PSEUDO_MAP_FD, 0, devmap},
        {0, 0, 0, 0, 0},
        {BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_2, 0, 0, index(kOut)},
        {BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_3, 0, 0, XDP_PASS},
        {BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_redirect_map},
        {BPF_JMP | BPF_EXIT, 0, 0, 0, 0},
    };
    return Fd(bpf_prog_load(BPF_PROG_TYPE_XDP, "bare_redirect", "GPL", code,
                            std::size(code), nullptr));
}

// Of a million that a kernel allows.  Older kernels prune less: 6.1 verifies 111,035 where
// 6.18 does 92,950; and later compilers share less of the code: 143,113 with clang 19.
// docs/kernels.md has the figures of other kernels.
constexpr uint32_t kMaxVerified = 160000;

uint32_t median(std::vector<uint32_t> v) {
    std::nth_element(v.begin(), v.begin() + v.size() / 2, v.end());
    return v[v.size() / 2];
}

// The flow cache makes the cost of a packet independent of the number of masks.
// A walk over all of them costs tens of times as much, so the bound is far from
// noise on both sides.
TEST(Cost, DoesNotGrowWithMasks) {
    constexpr int kRounds = 7, kRepeat = 100000;
    const Frame in = udp4().bytes();
    Program one, many;
    const auto hit = FlowSpec::ipv4().proto(17).tp_dst(53).to(kOut);
    one.add(hit);
    for (int i = 1; i < XF_MAX_MASKS; i++) {
        auto f = FlowSpec::ipv4().proto(IPPROTO_TCP);
        f.mask.ipv4_src = i;
        many.add(f);
    }
    many.add(hit);
    const Fd bare = bare_redirect(one.tx_ports_fd());
    ASSERT_TRUE(bare) << std::strerror(errno);

    std::vector<uint32_t> bare_ns, one_ns, many_ns;
    for (int i = 0; i < kRounds; i++) {
        bare_ns.push_back(time_program(bare.get(), in, kRepeat));
        one_ns.push_back(time_program(one.fd(), in, kRepeat));
        many_ns.push_back(time_program(many.fd(), in, kRepeat));
    }
    std::printf("ns per packet: bare redirect %u, 1 mask %u, %d masks %u\n",
                median(bare_ns), median(one_ns), XF_MAX_MASKS,
                median(many_ns));
    EXPECT_LT(median(many_ns), 3 * median(one_ns));
}

// What the verifier has to walk through, each time a port is added.  Without
// bounds on what it tracks, this number explodes: it doubles with a branch.
TEST(Cost, Verification) {
    Program p;
    bpf_prog_info info{};
    __u32 len = sizeof info;
    ASSERT_FALSE(bpf_obj_get_info_by_fd(p.fd(), &info, &len));
    Skeleton again;
    ASSERT_FALSE(p.maps().open_port({kIn}, -1, &again));
    using namespace std::chrono;
    const auto begin = steady_clock::now();
    ASSERT_FALSE(xdp_offload_bpf::load(again.get()));
    const duration<double, std::milli> ms = steady_clock::now() - begin;
    std::printf(
        "instructions: %u verified, %u bytes of machine code, "
        "loaded in %.1f ms\n",
        info.verified_insns, info.jited_prog_len, ms.count());
    EXPECT_LT(info.verified_insns, kMaxVerified);
}

}  // namespace
}  // namespace flowxlate::test
