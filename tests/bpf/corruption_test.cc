// SPDX-License-Identifier: Apache-2.0
// Maps that hold nonsense, and packets that are nonsense: whatever is in them,
// a packet that is passed on is as it came and counts nowhere.
#include <linux/if_ether.h>

#include <algorithm>
#include <functional>
#include <random>

#include "on_cpu.h"
#include "reference.h"
#include "row.h"

namespace flowxlate::test {
namespace {

// -- Maps that hold nonsense ------------------------------------------------

// A corrupted entry leads to the miss path.  corruption_fuzz_test.cc has any
// entries.
class CorruptedTables : public ::testing::Test {
protected:
    // A packet that the flow matches and the flow cache does not know.
    Frame fresh() {
        return Packet().eth(kIpv4).ipv4(IPPROTO_UDP).udp(++source_port_, 53).payload(22).bytes();
    }

    void expect_miss(const Frame &in, const char *what) {
        const uint64_t before = counted();
        const flowxlate::test::Run run = p_.run(in);
        EXPECT_EQ(run.verdict, XDP_PASS) << what;
        EXPECT_EQ(run.out, in) << what;
        EXPECT_EQ(counted(), before) << what;
    }

    // By the flows that there are, in the first slots.
    uint64_t counted() const {
        uint64_t n = 0;
        for (uint32_t slot = 0; slot < kFlows; slot++) {
            const auto stats = p_.table().stats(FlowSlot{slot});
            n += stats.packets + stats.bytes + stats.tcp_flags;
        }
        return n;
    }

    static constexpr uint32_t kFlows = 16;
    const OnCpu cpu_{0};  // Each CPU has a flow cache of its own.
    Program &p_ = empty_program();
    const FlowSlot slot_ =
        p_.add(FlowSpec::ipv4().proto(17).tp_dst(53).to(kOut));
    const TableMemory &mem_ = p_.table().memory();
    xf_flow &flow_ = mem_.flows[index(slot_)];

private:
    static inline uint16_t source_port_ = 1000;
};

TEST_F(CorruptedTables, Flow) {
    const struct {
        const char *what;
        void (*corrupt)(xf_flow *);
    } rows[] = {
        {"unknown verdict", [](xf_flow *f) { f->action.verdict = 77; }},
        {"port out of bounds", [](xf_flow *f) { f->action.to = 0xffff; }},
        {"pop without a tag",
         [](xf_flow *f) { f->action.n_pop = 1; }},
        {"another subtable", [](xf_flow *f) { f->subtable = XF_FLOW_LIVE | 5; }},
        {"subtable out of bounds", [](xf_flow *f) { f->subtable = 0xffff; }},
        {"more tags than there are", [](xf_flow *f) { f->action.n_push = 3; }},
        {"rewrite out of bounds", [](xf_flow *f) { f->action.rewrite = 0xffff; }},
        {"recirculation to nowhere", [](xf_flow *f) { f->action.verdict = XF_RECIRC; }},
        {"another key", [](xf_flow *f) { f->key[3] ^= 1; }},
    };
    const Frame known = fresh();
    const auto good = flow_;
    for (auto &row : rows) {
        ASSERT_EQ(p_.run(known).verdict, XDP_REDIRECT) << row.what;
        row.corrupt(&flow_);
        expect_miss(known, row.what);
        expect_miss(fresh(), row.what);
        flow_ = good;
    }
}

TEST_F(CorruptedTables, Walk) {
    auto &first = mem_.walks[0].first[XF_CLASS_IPV4];
    const auto good = first;
    first = 0;
    expect_miss(fresh(), "empty walk");
    first = 0xffff;
    expect_miss(fresh(), "subtable out of bounds");
    first = 7;
    mem_.subtables[7].next = 7;
    expect_miss(fresh(), "endless walk");
    mem_.subtables[7].next = 0;
    first = good;
    EXPECT_EQ(p_.run(fresh()).verdict, XDP_REDIRECT) << "restored";
}

TEST_F(CorruptedTables, Buckets) {
    const Frame known = fresh();
    ASSERT_EQ(p_.run(known).verdict, XDP_REDIRECT);
    const uint32_t slots = slot_mask(mem_.flows.size());
    for (auto &b : mem_.buckets) {
        for (auto &e : b.entry) {
            e = e ? e | slots : 0;
        }
    }
    expect_miss(fresh(), "flow slot out of bounds");
    EXPECT_EQ(p_.run(known).verdict, XDP_REDIRECT) << "from the flow cache";
    flow_.subtable &= ~XF_FLOW_LIVE;
    expect_miss(known, "neither in a bucket nor live");
    for (auto &b : mem_.buckets) {
        for (auto &e : b.entry) {
            e = e ? (e & ~slots) | index(slot_) : 0;
        }
    }
    EXPECT_EQ(p_.run(known).verdict, XDP_REDIRECT) << "restored";
}

// A flow of a packet that recirculates or is rewritten.
TEST_F(CorruptedTables, Pipeline) {
    auto spec = FlowSpec::ipv4().proto(6).push(5).set(offsetof(xf_key, nw_ttl), {9}, {0xff}).trunc(60).to(kOut);
    auto &flow = mem_.flows[index(p_.add(spec))];
    auto &rewrite = mem_.rewrites[flow.action.rewrite];
    auto &none = mem_.rewrites[0];
    const struct {
        const char *what;
        std::function<void()> corrupt;
    } rows[] = {
        {"unknown verdict", [&] { flow.action.verdict = 4; }},
        {"port out of bounds", [&] { flow.action.to = 0xffff; }},
        {"pop without a tag", [&] { flow.action.n_pop = 1; }},
        {"pop of many tags", [&] { flow.action.n_pop = 15; }},
        {"more tags than there are", [&] { flow.action.n_push = 3; }},
        {"many more tags", [&] { flow.action.n_push = 15; }},
        {"rewrite out of bounds", [&] { flow.action.rewrite = XF_MAX_REWRITES; }},
        {"too short", [&] { rewrite.max_len = 13; }},
        {"recirculation to nowhere", [&] { flow.action.verdict = XF_RECIRC; }},
        {"with a hash", [&] { flow.action.verdict = XF_HASH_RECIRC; }},
        {"with no settings", [&] { flow.action.verdict = XF_RECIRC; p_.maps().set_max_tags(0); }},
        {"another key", [&] { flow.key[5] ^= 1; }},
    };
    const Frame known = tcp4().partial().bytes();
    const auto good_flow = flow;
    const auto good_rewrite = rewrite, good_none = none;
    for (auto &row : rows) {
        ASSERT_EQ(p_.run(known).verdict, XDP_REDIRECT) << row.what;
        row.corrupt();
        expect_miss(known, row.what);
        flow = good_flow;
        rewrite = good_rewrite;
        none = good_none;
        p_.maps().set_max_tags(1);
    }
}

// -- Random packets ---------------------------------------------------------

// Mutated packets never crash, change or get counted twice: every packet is
// either one hit or one miss, and a miss leaves its bytes alone.
TEST(Random, EveryPacketIsOneHitOrOneUntouchedMiss) {
    auto &p = empty_program();
    const auto first = seed();
    SCOPED_TRACE("TEST_SEED=" + std::to_string(first));
    std::mt19937 random(first);
    std::vector<FlowSlot> slots;
    for (auto f : {FlowSpec::ipv4(), FlowSpec::ipv6(), FlowSpec::arp(),
                   FlowSpec::ipv4().any_tag(), FlowSpec::l2(kLldp)}) {
        slots.push_back(p.add(f.to(kOut)));
    }
    const Packet seeds[] = {
        udp4(), Packet().eth(kIpv4).ipv4(6).tcp(1, 2).payload(9).partial(),
        Packet().eth(kIpv6).ipv6(17).udp(1, 2).payload(30),
        Packet().eth(kVlan).vlan(5, kIpv4).ipv4(17).udp(1, 2).payload(20),
        Packet().eth(kArp).arp(1), Packet().eth(0x88cc).payload(30)};
    uint64_t hits = 0, misses = 0;

    for (int i = 0; i < 200000; i++) {
        Frame in = seeds[random() % std::size(seeds)].bytes();
        for (int n = random() % 4; n > 0; n--) {
            in[12 + random() % (in.size() - 12)] = random();
        }
        if (random() % 4 == 0) {
            in.resize(ETH_HLEN + random() % (in.size() - ETH_HLEN + 1));
        }
        const flowxlate::test::Run run = p.run(in);
        if (run.verdict == XDP_REDIRECT) {
            hits++;
        } else {
            misses++;
            ASSERT_EQ(run.verdict, XDP_PASS);
            ASSERT_EQ(hex(run.out), hex(in));
        }
    }
    FlowStats sum;
    for (auto slot : slots) {
        sum += p.table().stats(slot);
    }
    EXPECT_EQ(sum.packets, hits);
    EXPECT_EQ(p.total_misses(), misses);
    EXPECT_GT(hits, 10000U);
    EXPECT_GT(misses, 10000U);
}

}  // namespace
}  // namespace flowxlate::test
