// SPDX-License-Identifier: Apache-2.0
// A foreign writer: any bytes at all, in every map, while packets run.
//
// Between two packets ("Between"), the tables stand still while a packet runs,
// so all that is promised can be checked:
//
// - A packet that is passed on is as it came, and no flow has counted it.
// - A packet is dropped only if a flow that has counted it says so, and
//   redirected only if one says so and its port or group can take it.
// - What leaves is an Ethernet frame, and no longer than two tags more.
// - Restored tables work as before, whatever is left in the maps that the
//   program itself writes.
//
// Beside running packets ("Beside"), what a packet is checked against may be
// gone when it is changed, so a packet may be mangled; but it is passed on,
// dropped or redirected, and then all is as before.
//
// Out of reach are the constants, which the kernel has frozen, and the device
// maps, whose entries are devices, not bytes.
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/if_ether.h>
#include <sched.h>

#include <algorithm>
#include <chrono>
#include <random>
#include <thread>

#include "bpf/abi/counters.h"
#include "on_cpu.h"
#include "row.h"
#include "xdp_offload.skel.h"

namespace flowxlate::test {
namespace {

using Random = std::mt19937_64;
using Clock = std::chrono::steady_clock;

constexpr uint32_t kFlows = 16;  // Slots that may be in use, from 0.
constexpr GroupSlot kGroup{1}, kUnfilled{2};

// Some elements of a map, and what they hold.
struct Part {
    const bpf_map *map;
    std::vector<uint32_t> elements;
    // False: the program itself writes it, and gets along with what it finds.
    bool restored = true;
    std::vector<Frame> good = {};

    Frame read(uint32_t element) const {
        Frame value(bpf_map__value_size(map));
        EXPECT_FALSE(
            bpf_map_lookup_elem(bpf_map__fd(map), &element, value.data()));
        return value;
    }
    void write(uint32_t element, const Frame &value) const {
        EXPECT_FALSE(bpf_map_update_elem(bpf_map__fd(map), &element,
                                         value.data(), BPF_ANY));
    }
    void note() {
        for (auto element : elements) {
            good.push_back(read(element));
        }
    }
    void restore() const {
        for (size_t i = 0; restored && i < elements.size(); i++) {
            write(elements[i], good[i]);
        }
    }
};

std::vector<uint32_t> first(uint32_t n) {
    std::vector<uint32_t> elements(n);
    for (uint32_t i = 0; i < n; i++) {
        elements[i] = i;
    }
    return elements;
}

// One of the ways to be wrong: a byte, a small number, another's element, and
// all of an element.
void corrupt(const Part &part, Random &random) {
    const auto any = [&] {
        return part.elements[random() % part.elements.size()];
    };
    const uint32_t element = any();
    Frame value = part.read(element);
    // What is interesting is often where an element begins.
    const size_t n =
        random() % 2 ? value.size() : std::min<size_t>(value.size(), 16);
    uint8_t &byte = value[random() % n];
    switch (random() % 8) {
        case 0:
            std::generate(value.begin(), value.end(), random);
            break;
        case 1:
            std::fill(value.begin(), value.end(), random() % 2 ? 0xff : 0);
            break;
        case 2:
            value = part.read(any());
            break;
        case 3:
        case 4:
            byte = random();
            break;
        case 5:
            byte ^= 1U << random() % 8;
            break;
        default:
            byte = random() % 8;
    }
    part.write(element, value);
}

FlowSpec to_group(FlowSpec f, GroupSlot group) {
    f.action.verdict = XF_GROUP;
    f.action.to = index(group);
    return f;
}

// What became of a packet.
struct Outcome {
    Run run;
    std::vector<uint64_t> packets;  // That each flow has counted.
};

class ForeignWriter : public ::testing::Test {
protected:
    ForeignWriter() {
        fill_groups();
        add_flows();
        for (auto &packet : packets_) {
            (void)p_.run(packet);  // The flow cache knows it from now on.
        }
        list_parts();
        for (auto &packet : packets_) {
            expected_.push_back(outcome(packet));
        }
    }

    void fill_groups() {
        const Ifindex lo{static_cast<int>(if_nametoindex("lo"))};
        const Group group{{kIn, kOut}, false};
        const Ifindex devices[] = {lo, lo};
        for (auto slot : {kGroup, kUnfilled}) {
            EXPECT_FALSE(p_.maps().create_group(slot, &devices_[index(slot)]));
        }
        EXPECT_FALSE(p_.maps().set_group(kGroup, devices_[index(kGroup)],
                                         group, devices));
    }

    // No two match the same packet.
    void add_flows() {
        const Frame mac = {2, 9, 9, 9, 9, 9}, ones(6, 0xff), byte = {0xff};
        const auto set_mac = [&](FlowSpec f) {
            return f.set(offsetof(xf_key, eth_dst), mac, ones);
        };
        const auto ttl = [&](FlowSpec f) {
            return f.set(offsetof(xf_key, nw_ttl), {9}, byte);
        };
        for (const auto &f :
             {FlowSpec::ipv4().proto(17).tp_dst(53).to(kOut),
              FlowSpec::ipv4().proto(17).tp_dst(54).drop(),
              set_mac(FlowSpec::ipv4().proto(6).push(5).recirc_to(1)),
              set_mac(FlowSpec::ipv4().vid(5).recirc(1).pop().hash_to(3, 2)),
              ttl(FlowSpec::ipv4().any_tags().recirc(2).to(kOut)),
              ttl(FlowSpec::ipv4().vid(6).trunc(60).pop().to(kOut)),
              FlowSpec::ipv6()
                  .set(offsetof(xf_key, nd_target), {9}, byte)
                  .push(5)
                  .to(kOut),
              FlowSpec::arp()
                  .set(offsetof(xf_key, nw_proto), {2}, byte)
                  .to(kOut)}) {
            p_.add(f);
        }
        to_group_ =
            p_.add(to_group(FlowSpec::ipv4().proto(17).tp_dst(55), kGroup));
    }

    void list_parts() {
        const auto &maps = p_.skeleton().maps;
        const auto &mem = p_.table().memory();
        std::vector<uint32_t> buckets, sets, stats;
        for (uint32_t i = 0; i < mem.buckets.size(); i++) {
            if (mem.buckets[i].used) {
                buckets.push_back(i);
            }
        }
        const uint32_t n_sets = 1U << p_.maps().cache_bits();
        const Part cache{maps.xf_flow_cache, {}};
        for (uint32_t i = this_row_ * n_sets; i < (this_row_ + 1) * n_sets;
             i++) {
            const auto set = cache.read(i);
            if (set != Frame(set.size())) {
                sets.push_back(i);
            }
        }
        for (uint32_t i = 0; i < kFlows; i++) {
            stats.push_back(this_row_ * p_.maps().n_slots() + i);
        }
        ASSERT_FALSE(buckets.empty() || sets.empty());
        parts_ = {
            {maps.xf_flows, first(kFlows)},
            {maps.xf_key_rests, first(kFlows)},
            {maps.xf_subtables, first(kFlows)},
            {maps.xf_walks, first(8)},
            {maps.xf_buckets, buckets},
            {maps.xf_rewrites, first(8)},
            {maps.xf_groups, first(4)},
            {maps.xf_ports, first(6)},
            {maps.xf_settings, first(1)},
            {maps.xf_flow_cache, sets, false},
            {maps.xf_guesses, {this_row_}, false},
            {maps.xf_scratches, {this_cpu_}, false},
            {maps.xf_cpus, {this_cpu_}, false},
            {maps.xf_misses, {this_row_ * XF_MAX_PORTS + index(kIn)}, false},
            {maps.xf_stats, stats, false}};
        for (auto &part : parts_) {
            part.note();
        }
    }

    void corrupt_some(Random &random) {
        corrupt(parts_[random() % parts_.size()], random);
    }

    // Of all rows, since the CPU's own may be said to be any, and also if a
    // sequence number of 0 says that it has not run.
    std::vector<uint64_t> counters() const {
        const size_t n_slots = p_.maps().n_slots();
        std::vector<uint64_t> n(kFlows);
        for (uint32_t row = 0; row < p_.maps().rows().n_rows(); row++) {
            for (uint32_t slot = 0; slot < kFlows; slot++) {
                n[slot] += p_.table().memory().stats[row * n_slots + slot].packets;
            }
        }
        return n;
    }

    Outcome outcome(const Frame &in) {
        const auto before = counters();
        const auto run = p_.run(in);
        auto packets = counters();
        for (size_t i = 0; i < packets.size(); i++) {
            packets[i] -= before[i];
        }
        return {run, packets};
    }

    // One that the flow cache may not know.
    static Frame unknown(uint16_t source_port) {
        return Packet()
            .eth(kIpv4)
            .ipv4(17)
            .udp(source_port, 53)
            .payload(22)
            .bytes();
    }

    bool can_transmit(uint32_t port) const {
        return port < XF_MAX_PORTS
            && (p_.maps().port(PortSlot(port)).flags & XF_PORT_TX_NATIVE);
    }

    // Has somebody in the group been asked, and could he, and all others?
    bool can_take(const xf_group &group) const {
        uint32_t n_asked = 0;
        for (uint32_t i = 0; i < group.n_ports && i < XF_GROUP_PORTS; i++) {
            if (group.port[i] != index(kIn) || group.keep_ingress) {
                n_asked++;
                if (!can_transmit(group.port[i])) {
                    return false;
                }
            }
        }
        return n_asked > 0;
    }

    // Does the flow in 'slot' end with this verdict, and may it?
    bool asks_for(uint32_t slot, uint32_t verdict) {
        const xf_action &act = p_.table().memory().flows[slot].action;
        if (verdict == XDP_DROP) {
            return act.verdict == XF_DROP;
        }
        if (act.verdict == XF_OUTPUT) {
            const PortSlot has_device[] = {kIn, kOut, kDown, kNarrow};
            return std::ranges::count(has_device, PortSlot{act.to})
                && can_transmit(act.to);
        }
        xf_group group;
        const uint32_t key = act.to;
        return act.verdict == XF_GROUP
            && (key == index(kGroup) || key == index(kUnfilled))
            && !bpf_map_lookup_elem(bpf_map__fd(p_.skeleton().maps.xf_groups),
                                    &key, &group)
            && can_take(group);
    }

    // Those that have counted a packet, as OVS's flow dump would be.
    std::string counted_by(const Outcome &o) {
        std::string s;
        for (uint32_t slot = 0; slot < kFlows; slot++) {
            if (o.packets[slot]) {
                const auto &act = p_.table().memory().flows[slot].action;
                s += "flow " + std::to_string(slot) + " (verdict "
                   + std::to_string(act.verdict) + ", to "
                   + std::to_string(act.to) + ") ";
            }
        }
        return s;
    }

    void check(const Frame &in, const Outcome &o) {
        bool counted = false, asked_for = false;
        for (uint32_t slot = 0; slot < kFlows; slot++) {
            counted = counted || o.packets[slot];
            asked_for = asked_for
                     || (o.packets[slot] && asks_for(slot, o.run.verdict));
        }
        if (o.run.verdict == XDP_PASS) {
            ASSERT_EQ(hex(o.run.out), hex(in));
            ASSERT_FALSE(counted) << counted_by(o);
            return;
        }
        ASSERT_TRUE(o.run.verdict == XDP_DROP || o.run.verdict == XDP_REDIRECT)
            << o.run.verdict;
        ASSERT_TRUE(asked_for)
            << "verdict " << o.run.verdict << ", counted by " << counted_by(o);
        ASSERT_GE(o.run.out.size(), size_t{ETH_HLEN});
        ASSERT_LE(o.run.out.size(), in.size() + XF_MAX_TAGS * sizeof(xf_tag));
    }

    // Restores what the program only reads, and what user space writes again
    // once a second.
    void expect_recovery() {
        for (auto &part : parts_) {
            part.restore();
        }
        p_.maps().set_deadline(0, 0);
        for (size_t i = 0; i < packets_.size(); i++) {
            const auto o = outcome(packets_[i]);
            ASSERT_EQ(o.run.verdict, expected_[i].run.verdict) << i;
            ASSERT_EQ(hex(o.run.out), hex(expected_[i].run.out)) << i;
            ASSERT_EQ(o.packets, expected_[i].packets) << i;
        }
    }

    const OnCpu cpu_{0};  // Each CPU has a flow cache of its own.
    const uint32_t this_cpu_ = sched_getcpu();
    mutable Program p_;  // Unused flow slots are zero in a new one.
    const uint32_t this_row_ = p_.maps().rows().row_of(this_cpu_);
    Fd devices_[3];  // By group.
    FlowSlot to_group_{};
    const std::vector<Frame> packets_ = {
        udp4().bytes(),
        Packet().eth(kIpv4).ipv4(17).udp(1, 54).payload(30).bytes(),
        Packet().eth(kIpv4).ipv4(17).udp(1, 55).payload(30).bytes(),
        Packet().eth(kIpv4).ipv4(17).udp(1, 56).payload(30).bytes(),
        tcp4().bytes(),
        tcp4().partial().bytes(),
        tagged_udp4(6).partial().bytes(),
        Packet().eth(kIpv6).ipv6(kIcmpv6).nd(kSolicit).nd_option(kSll).bytes(),
        Packet().eth(kArp).arp(1).bytes()};
    std::vector<Part> parts_;
    std::vector<Outcome> expected_;  // By packet.
};

TEST_F(ForeignWriter, Between) {
    constexpr int kPackets = 50000;
    const auto first = seed();
    SCOPED_TRACE("TEST_SEED=" + std::to_string(first));
    Random random(first);
    uint64_t n_by_verdict[XDP_REDIRECT + 1] = {};

    for (int i = 0; i < kPackets; i++) {
        for (auto n = random() % 4; n > 0; n--) {
            corrupt_some(random);
        }
        const Frame in = random() % 4 ? packets_[random() % packets_.size()]
                                      : unknown(random());
        const auto o = outcome(in);
        ASSERT_NO_FATAL_FAILURE(check(in, o));
        n_by_verdict[o.run.verdict]++;
        if (i % 10 == 0) {
            ASSERT_NO_FATAL_FAILURE(expect_recovery());
        }
    }
    // All ends were reached, or nothing was tested.
    for (auto verdict : {XDP_PASS, XDP_DROP, XDP_REDIRECT}) {
        EXPECT_GT(n_by_verdict[verdict], uint64_t{kPackets / 100}) << verdict;
    }
}

TEST_F(ForeignWriter, Beside) {
    constexpr auto kDuration = std::chrono::seconds(1);
    constexpr auto kLongest = std::chrono::seconds(30);  // If it is slow.
    const auto first = seed();
    SCOPED_TRACE("TEST_SEED=" + std::to_string(first));
    std::jthread writer([&](const std::stop_token &stop) {
        const OnCpu other(1);
        Random any(first);
        while (!stop.stop_requested()) {
            corrupt_some(any);
        }
    });
    Random random(first + 1);
    uint64_t n_by_verdict[XDP_REDIRECT + 1] = {};
    constexpr xdp_action kVerdicts[] = {XDP_PASS, XDP_DROP, XDP_REDIRECT};
    const auto all_seen = [&] {
        return std::ranges::all_of(
            kVerdicts, [&](auto verdict) { return n_by_verdict[verdict] > 100; });
    };
    const auto begin = Clock::now();
    const auto elapsed = [begin] { return Clock::now() - begin; };
    while (elapsed() < kDuration || (!all_seen() && elapsed() < kLongest)) {
        const auto run = p_.run(packets_[random() % packets_.size()]);
        ASSERT_LE(run.verdict, uint32_t{XDP_REDIRECT});
        n_by_verdict[run.verdict]++;
        if (random() % 64 == 0) {
            for (auto &part : parts_) {
                part.restore();
            }
        }
    }
    writer.request_stop();
    writer.join();
    EXPECT_EQ(n_by_verdict[XDP_ABORTED] + n_by_verdict[XDP_TX], 0U);
    for (auto verdict : kVerdicts) {
        EXPECT_GT(n_by_verdict[verdict], 100U) << verdict;
    }
    expect_recovery();
}

// What the kernel would take and give to nobody, or to some.
TEST_F(ForeignWriter, Groups) {
    auto &to = p_.table().memory().flows[index(to_group_)].action.to;
    const struct {
        const char *what;
        uint16_t to;
        void (*corrupt)(xf_group *);
    } rows[] = {
        {"nobody", index(kGroup), [](xf_group *g) { g->n_ports = 0; }},
        {"the input port only", index(kGroup),
         [](xf_group *g) { g->n_ports = 1; }},
        {"a port that cannot", index(kGroup),
         [](xf_group *g) { g->port[1] = index(kDown); }},
        {"the last of several, which cannot", index(kGroup),
         [](xf_group *g) { g->port[g->n_ports++] = index(kDown); }},
        {"a port out of bounds", index(kGroup),
         [](xf_group *g) { g->port[1] = 0xffff; }},
        {"more than there is room for", index(kGroup),
         [](xf_group *g) { g->n_ports = 0xffffffff; }},
        {"not filled in", index(kUnfilled), nullptr},
        {"without devices", 3, nullptr},
        {"out of bounds", XF_MAX_GROUPS, nullptr},
    };
    const Part part{p_.skeleton().maps.xf_groups, {index(kGroup)}};
    const Frame good = part.read(index(kGroup)), in = packets_[2];
    for (auto &row : rows) {
        ASSERT_EQ(outcome(in).run.verdict, uint32_t{XDP_REDIRECT}) << row.what;
        Frame bad = good;
        if (row.corrupt) {
            row.corrupt(reinterpret_cast<xf_group *>(bad.data()));
        }
        part.write(index(kGroup), bad);
        to = row.to;
        const auto o = outcome(in);
        EXPECT_EQ(o.run.verdict, uint32_t{XDP_PASS}) << row.what;
        check(in, o);
        to = index(kGroup);
        part.write(index(kGroup), good);
    }
}

// The most that tables can make the program do: each walk has all masks there
// can be, each bucket is full and leads to a second one, and a flow
// recirculates to itself.
TEST_F(ForeignWriter, LongestWay) {
    constexpr int kRepeat = 100;
    constexpr uint32_t kMaxNs = 1'000'000, kMaxPackets = 2'000;
    const auto first = seed();
    SCOPED_TRACE("TEST_SEED=" + std::to_string(first));
    Random random(first);
    // An emulated machine takes some ten times as long for all of it.
    const uint32_t usual_ns = time_program(p_.fd(), packets_[3], 1000);
    auto loop = FlowSpec::ipv4().proto(17).tp_dst(56).recirc_to(3);
    loop.mask.recirc = 0;
    const auto slot = p_.add(loop);
    const auto &mem = p_.table().memory();
    const auto its_subtable = index(p_.table().subtable_of(slot));
    const auto another = its_subtable == 1 ? 2 : 1;

    for (auto &bucket : mem.buckets) {
        for (auto &entry : bucket.entry) {
            entry = entry ? entry : random();
        }
        bucket.used = XF_BUCKET_ENTRIES;
        bucket.overflow = 1;
    }
    // The flow cache does not know it; all subtables are in the walk, and the
    // flow's is the last one.
    mem.flows[index(slot)].subtable = its_subtable;
    uint16_t next = its_subtable;
    mem.subtables[next].next = 0;
    for (uint16_t s = 1; s < XF_MAX_SUBTABLES; s++) {
        if (s != its_subtable) {
            mem.subtables[s] = mem.subtables[another];
            mem.subtables[s].next = std::exchange(next, s);
        }
    }
    mem.walks[0].first[XF_CLASS_IPV4] = next;
    mem.walks[3].first[XF_CLASS_IPV4] = next;

    const auto before = p_.misses(XF_MISS_RECIRC);
    const Frame in = packets_[3];
    const auto o = outcome(in);
    EXPECT_EQ(o.run.verdict, uint32_t{XDP_PASS});
    EXPECT_EQ(hex(o.run.out), hex(in));
    EXPECT_EQ(p_.misses(XF_MISS_RECIRC), before + 1);
    // A packet that comes this way again is led to the right subtables.
    const Part guesses{p_.skeleton().maps.xf_guesses, {}};
    const Frame none(sizeof(xf_guesses));
    uint32_t ns = UINT32_MAX;
    for (int i = 0; i < kRepeat; i++) {
        guesses.write(this_cpu_, none);
        ns = std::min(ns, time_program(p_.fd(), in, 1));
    }
    std::printf("the longest way through corrupted tables: %u ns (usual: %u ns)\n", ns, usual_ns);
    EXPECT_LT(ns, std::max(kMaxNs, kMaxPackets * usual_ns));
}

}  // namespace
}  // namespace flowxlate::test
