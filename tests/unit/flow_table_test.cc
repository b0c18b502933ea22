// SPDX-License-Identifier: Apache-2.0
// FlowTable, seen by a reader that looks flows up as the XDP program does.
#include "flowxlate/tables/flow_table.h"
#include "bpf/abi/capture.h"
#include "bpf/abi/hash.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <chrono>
#include <map>
#include <set>
#include <thread>

#include "tests/unit/alloc.h"
#include "tests/unit/attrs.h"
#include "tests/unit/tables.h"

namespace flowxlate::unit {
namespace {

constexpr xf_class kAllClasses[] = {XF_CLASS_L2, XF_CLASS_ARP, XF_CLASS_IPV4,
                                    XF_CLASS_IPV6, XF_CLASS_MPLS};

// What a packet of 'm' finds: the flow's output port, or 0.
uint32_t port_of(const Tables &t, const Megaflow &m, uint64_t noise = 0) {
    const FlowSlot slot = find(t.mem(), m.cls, m.packet(noise));
    return slot == FlowSlot::kNone ? 0 : t.mem().flows[index(slot)].action.to;
}

std::string put(Tables *t, const Megaflow &m, uint32_t port, FlowSlot *slot) {
    const Reject r = insert(&t->table, m, port, slot);
    EXPECT_TRUE(!r || r.error == ENOSPC);
    return r ? r.name() : "";
}
std::string put(Tables *t, const Megaflow &m, uint32_t port = 1) {
    FlowSlot slot;
    return put(t, m, port, &slot);
}

// Everything in the memory that a program can get at: buckets and walks, and
// the slots and subtables to which they refer.
ByteVector visible(const TableMemory &mem) {
    ByteVector all;
    auto add = [&](Bytes b) { all.insert(all.end(), b.begin(), b.end()); };
    add(std::as_bytes(mem.buckets));
    add(std::as_bytes(mem.walks));
    for (const xf_bucket &bucket : mem.buckets) {
        for (const __u32 entry : bucket.entry) {
            if (const auto slot = entry & slot_mask(mem.flows.size())) {
                add(bytes_of(mem.flows[slot]));
                add(bytes_of(mem.key_rests[slot]));
                add(bytes_of(mem.rewrites[mem.flows[slot].action.rewrite]));
                for (size_t cpu = 0; cpu < mem.cpus.size(); cpu++) {
                    add(bytes_of(mem.stats[cpu * mem.flows.size() + slot]));
                }
            }
        }
    }
    for (uint16_t recirc = 0; recirc < mem.walks.size(); recirc++) {
        for (const xf_class cls : kAllClasses) {
            for (const uint32_t subtable : walk_of(mem, cls, recirc)) {
                add(bytes_of(mem.subtables[subtable]));
            }
        }
    }
    return all;
}

bool nothing_published(const TableMemory &mem) {
    auto zero = [](Bytes b) {
        return std::all_of(b.begin(), b.end(),
                           [](std::byte x) { return x == std::byte{0}; });
    };
    return zero(std::as_bytes(mem.buckets)) && zero(std::as_bytes(mem.walks));
}

uint32_t sum_of_overflows(const TableMemory &mem) {
    uint32_t sum = 0;
    for (const xf_bucket &bucket : mem.buckets) {
        sum += bucket.overflow;
    }
    return sum;
}

TEST(FlowTable, InsertFindRemove) {
    for (const xf_class cls : kAllClasses) {
        SCOPED_TRACE(cls);
        Tables t;
        const Megaflow a{cls, 0, 7}, b{cls, 0, 8}, c{cls, 1, 7};
        FlowSlot sa, sb, sc;

        EXPECT_EQ(port_of(t, a), 0u);
        EXPECT_EQ(put(&t, a, 100, &sa), "");
        EXPECT_EQ(port_of(t, a), 100u);
        EXPECT_EQ(port_of(t, a, 12345), 100u) << "bits that are not matched";
        EXPECT_EQ(port_of(t, b), 0u);
        EXPECT_EQ(port_of(t, c), 0u);

        EXPECT_EQ(put(&t, b, 200, &sb), "");
        EXPECT_EQ(put(&t, c, 300, &sc), "");
        EXPECT_EQ(port_of(t, a), 100u);
        EXPECT_EQ(port_of(t, b), 200u);
        EXPECT_EQ(port_of(t, c), 300u);
        EXPECT_EQ(t.table.n_flows(), 3u);
        EXPECT_EQ(t.table.n_subtables(), 2u);
        EXPECT_NE(index(sa), 0u);
        EXPECT_EQ((std::set{sa, sb, sc}.size()), 3u);

        t.table.remove(sa);
        EXPECT_EQ(port_of(t, a), 0u);
        EXPECT_EQ(port_of(t, b), 200u);
        EXPECT_EQ(port_of(t, c), 300u);
        t.table.remove(sb);
        EXPECT_EQ(port_of(t, c), 300u);
        EXPECT_EQ(t.table.n_subtables(), 1u);
        t.table.remove(sc);
        EXPECT_EQ(port_of(t, c), 0u);
        EXPECT_EQ(t.table.n_flows(), 0u);
        EXPECT_EQ(t.table.n_subtables(), 0u);
        EXPECT_TRUE(nothing_published(t.mem()));
    }
}

// Which words of a key are hashed and compared: those that all masks have, and
// those of the segments that the mask has a bit in.
TEST(FlowTable, Segments) {
    const uint32_t segments[XF_KEY_WORDS] = {0,  0,  0,  0,  0,  0, 1, 1,
                                             1,  2,  2,  2,  2,  4, 8, 8,
                                             16, 16, 16, 16, 16, 16};
    for (uint32_t word = 0; word < XF_KEY_WORDS; word++) {
        for (const uint64_t bit : {1ULL, 1ULL << 63}) {
            Tables t;
            xf_key mask{};
            mask.word[0] = 1;
            mask.word[word] |= bit;
            FlowSlot slot;
            ASSERT_FALSE(t.table.insert(XF_CLASS_IPV6, mask, mask,
                                        output_to(1), &slot));
            const auto st = index(t.table.subtable_of(slot));
            EXPECT_EQ(t.mem().subtables[st].segments, segments[word]) << word;
        }
    }
    Tables t;
    FlowSlot slot;
    ASSERT_FALSE(t.table.insert(XF_CLASS_L2, {}, {}, output_to(1), &slot));
    EXPECT_EQ(t.mem().subtables[1].segments, 0u) << "no bit at all";
}

// Each word of the key that the mask has decides, with each set of segments.
TEST(FlowTable, EveryBitOfTheKeyIsCompared) {
    for (uint32_t segments = 0; segments < 32; segments++) {
        Tables t({.buckets = 1, .flows = 4, .recircs = 1 << 16});
        xf_key key{}, mask{};
        auto counts = [&](uint32_t i) {
            return i < XF_SHORT_KEY_WORDS || (segments & xf_segment_of(i));
        };
        for (uint32_t i = 0; i < XF_KEY_WORDS; i++) {
            mask.word[i] = counts(i) ? ~0ULL : 0;
            key.word[i] = (0x0123456789abcdef * (i + 1)) & mask.word[i];
        }
        FlowSlot slot;
        const xf_class cls = XF_CLASS_IPV6;
        ASSERT_FALSE(t.table.insert(cls, key, mask, output_to(1), &slot));
        ASSERT_EQ(find(t.mem(), cls, key), slot);
        for (uint32_t bit = 0; bit < 64 * XF_KEY_WORDS; bit++) {
            xf_key other = key;
            other.word[bit / 64] ^= 1ULL << bit % 64;
            EXPECT_EQ(find(t.mem(), cls, other),
                      counts(bit / 64) ? FlowSlot::kNone : slot)
                << "segments " << segments << ", bit " << bit;
        }
    }
}

// What FlowTable::hash() says is what the reader computes, or nothing would be
// found; and each word that counts, and the subtable, changes it.
TEST(FlowTable, Hash) {
    for (const xf_class cls : kAllClasses) {
        Tables t;
        const Megaflow m{cls, 0, 7};
        ASSERT_EQ(put(&t, m), "");
        ASSERT_EQ(put(&t, {cls, 1, 7}), "");
        const auto walk = walk_of(t.mem(), cls);
        const SubtableSlot st{walk[1]}, other{walk[0]};
        const xf_key key = m.key();
        const uint64_t hash = t.table.hash(st, key);
        EXPECT_EQ(hash, packet_hash(t.mem(), m.packet(99), index(st)));
        EXPECT_NE(hash, t.table.hash(other, key));
        for (uint32_t i = 0; i < XF_KEY_WORDS; i++) {
            xf_key changed = key;
            changed.word[i] ^= 1ULL << 40;
            EXPECT_EQ(hash != t.table.hash(st, changed),
                      has_word(t.mem().subtables[index(st)], i))
                << "word " << i;
        }
    }
}

TEST(FlowTable, ActionIsStored) {
    Tables t;
    const Megaflow m{XF_CLASS_IPV4, 0, 1};
    xf_action action = output_to(77);
    action.n_pop = 1;
    action.n_push = 2;
    action.tag[0] = {htons(0x88a8), htons(6)};
    action.tag[1] = {htons(0x8100), htons(5)};
    FlowSlot slot;
    ASSERT_FALSE(t.table.insert(m.cls, m.key(), m.mask(), action, &slot));
    ASSERT_EQ(find(t.mem(), m.cls, m.packet()), slot);
    const xf_flow &flow = t.mem().flows[index(slot)];
    EXPECT_EQ(flow.action.to, 77u);
    EXPECT_EQ(flow.action.verdict, XF_OUTPUT);
    EXPECT_EQ(flow.action.n_pop, 1);
    EXPECT_EQ(flow.action.n_push, 2);
    EXPECT_EQ(flow.action.tag[0].tpid, htons(0x88a8));
    EXPECT_EQ(flow.action.tag[0].tci, htons(6));
    EXPECT_EQ(flow.action.tag[1].tpid, htons(0x8100));
    EXPECT_EQ(flow.action.tag[1].tci, htons(5));
    EXPECT_EQ(flow.subtable, t.mem().walks[0].first[m.cls] | XF_FLOW_LIVE);

    EXPECT_TRUE(t.table.has_action(slot, action));
    const struct {
        const char *what;
        void (*change)(xf_action *);
    } rows[] = {
        {"port", [](xf_action *a) { a->to++; }},
        {"verdict", [](xf_action *a) { a->verdict = XF_DROP; }},
        {"recirculation", [](xf_action *a) { a->verdict = XF_RECIRC; }},
        {"tags taken off", [](xf_action *a) { a->n_pop++; }},
        {"tags put on", [](xf_action *a) { a->n_push--; }},
        {"TPID", [](xf_action *a) { a->tag[0].tpid++; }},
        {"TCI", [](xf_action *a) { a->tag[0].tci++; }},
        {"second TPID", [](xf_action *a) { a->tag[1].tpid++; }},
        {"second TCI", [](xf_action *a) { a->tag[1].tci++; }},
    };
    for (const auto &row : rows) {
        xf_action other = action;
        row.change(&other);
        EXPECT_FALSE(t.table.has_action(slot, other)) << row.what;
    }
}

TEST(FlowTable, HasMatch) {
    Tables t;
    const Megaflow m{XF_CLASS_IPV4, 0, 1};
    FlowSlot slot, replaced;
    ASSERT_EQ(put(&t, m, 1, &slot), "");
    auto has = [&](FlowSlot s, const Megaflow &o) {
        return t.table.has_match(s, o.cls, o.key(), o.mask());
    };
    EXPECT_TRUE(has(slot, m));
    EXPECT_FALSE(has(slot, {XF_CLASS_IPV4, 0, 2})) << "another key";
    EXPECT_FALSE(has(slot, {XF_CLASS_IPV4, 1, 1})) << "another mask";
    // The same bytes in another class, and one bit less in the mask.
    EXPECT_FALSE(t.table.has_match(slot, XF_CLASS_L2, m.key(), m.mask()));
    xf_key mask = m.mask();
    mask.nw_tos = 0x7f;
    EXPECT_FALSE(t.table.has_match(slot, m.cls, m.key(), mask));
    replaced = slot;
    ASSERT_FALSE(t.table.replace(&replaced, output_to(2)));
    EXPECT_TRUE(has(replaced, m));
}

// A table of the size that the program has.
TEST(FlowTable, ManyFlows) {
    constexpr uint32_t kFlows = 64 * 1024;
    Tables t({.buckets = 32 * 1024, .flows = kFlows + 1, .cpus = 1});
    std::vector<Megaflow> flows;
    std::vector<FlowSlot> slots(kFlows);
    for (uint32_t i = 0; i < kFlows; i++) {
        flows.push_back({kAllClasses[i % 5], i % 3, i / 8});
        flows.back().id = i;
    }
    EXPECT_EQ(t.table.max_flows(), kFlows);
    for (uint32_t i = 0; i < kFlows; i++) {
        ASSERT_EQ(put(&t, flows[i], 1 + i % 10'000, &slots[i]), "") << i;
    }
    EXPECT_EQ(t.table.n_flows(), kFlows);
    EXPECT_EQ(t.table.n_subtables(), 15u);
    EXPECT_EQ(put(&t, {XF_CLASS_L2, 0, kFlows}), "table/flows");
    for (uint32_t i = 0; i < kFlows; i++) {
        ASSERT_EQ(port_of(t, flows[i], i), 1 + i % 10'000);
    }
    for (uint32_t i = 0; i < kFlows; i += 2) {
        t.table.remove(slots[i]);
    }
    for (uint32_t i = 0; i < kFlows; i++) {
        ASSERT_EQ(port_of(t, flows[i]), i % 2 ? 1 + i % 10'000 : 0);
    }
    for (uint32_t i = 1; i < kFlows; i += 2) {
        t.table.remove(slots[i]);
    }
    EXPECT_TRUE(nothing_published(t.mem()));
}

// Two buckets: each flow has both of them, so the first XF_BUCKET_ENTRIES of
// one fill it and the next ones overflow.
TEST(FlowTable, Overflow) {
    Tables t({.buckets = 2, .flows = 64});
    std::map<uint32_t, FlowSlot> slots;
    uint32_t id = 0;
    for (; slots.size() < 2 * XF_BUCKET_ENTRIES; id++) {
        FlowSlot slot;
        ASSERT_EQ(put(&t, {XF_CLASS_IPV4, 0, id}, id + 1, &slot), "");
        slots[id] = slot;
    }
    EXPECT_EQ(put(&t, {XF_CLASS_IPV4, 0, id}), "table/buckets");
    // By the pigeon hole principle.  It is also what makes a reader look.
    EXPECT_GT(sum_of_overflows(t.mem()), 0u);
    for (const auto &[i, slot] : slots) {
        EXPECT_EQ(port_of(t, {XF_CLASS_IPV4, 0, i}), i + 1);
    }
    // Whatever the order of removal, the others stay.
    std::mt19937 random(3);
    while (!slots.empty()) {
        auto it = std::next(slots.begin(), random() % slots.size());
        t.table.remove(it->second);
        EXPECT_EQ(port_of(t, {XF_CLASS_IPV4, 0, it->first}), 0u);
        slots.erase(it);
        for (const auto &[i, slot] : slots) {
            EXPECT_EQ(port_of(t, {XF_CLASS_IPV4, 0, i}), i + 1);
        }
    }
    EXPECT_EQ(sum_of_overflows(t.mem()), 0u);
    EXPECT_TRUE(nothing_published(t.mem()));
}

// Flows whose hashes are equal are told apart by their keys, when they are
// looked up and when they are removed.  With a secret of zeros, the hash of a
// word of which one half is zero is zero: those of all IPv4 flows here.
TEST(FlowTable, EqualHashes) {
    Tables t({.buckets = 64, .seed = 0});
    std::map<uint32_t, FlowSlot> slots;
    for (uint32_t i = 0; i < 2 * XF_BUCKET_ENTRIES; i++) {
        ASSERT_EQ(put(&t, {XF_CLASS_IPV4, 0, i}, i + 1, &slots[i]), "");
    }
    const SubtableSlot st{t.mem().walks[0].first[XF_CLASS_IPV4]};
    ASSERT_EQ(t.table.hash(st, Megaflow{XF_CLASS_IPV4, 0, 1}.key()),
              t.table.hash(st, Megaflow{XF_CLASS_IPV4, 0, 2}.key()));
    EXPECT_EQ(put(&t, {XF_CLASS_IPV4, 0, 100}), "table/buckets");
    EXPECT_EQ(sum_of_overflows(t.mem()), uint32_t{XF_BUCKET_ENTRIES});

    std::mt19937 random(5);
    while (!slots.empty()) {
        auto it = std::next(slots.begin(), random() % slots.size());
        ASSERT_FALSE(t.table.replace(&it->second, output_to(1000)));
        EXPECT_EQ(port_of(t, {XF_CLASS_IPV4, 0, it->first}), 1000u);
        t.table.remove(it->second);
        EXPECT_EQ(port_of(t, {XF_CLASS_IPV4, 0, it->first}), 0u);
        slots.erase(it);
        for (const auto &[i, slot] : slots) {
            ASSERT_EQ(find(t.mem(), XF_CLASS_IPV4,
                           Megaflow{XF_CLASS_IPV4, 0, i}.packet()),
                      slot);
        }
    }
    EXPECT_TRUE(nothing_published(t.mem()));
}

// The counter is exactly the number of a bucket's entries that are elsewhere.
TEST(FlowTable, OverflowCountsEntries) {
    Tables t({.buckets = 4, .flows = 64});
    std::vector<FlowSlot> slots;
    std::mt19937 random(4);
    for (uint32_t i = 0; i < 500; i++) {
        FlowSlot slot;
        if (slots.size() < 20 || random() % 2) {
            if (put(&t, {XF_CLASS_IPV6, 0, i}, 1, &slot).empty()) {
                slots.push_back(slot);
            }
        } else {
            std::swap(slots[random() % slots.size()], slots.back());
            if (random() % 4 == 0) {
                (void)t.table.replace(&slots.back(), output_to(2));
            } else {
                t.table.remove(slots.back());
                slots.pop_back();
            }
        }
        pass_grace(&t.table);

        std::vector<uint32_t> expected(t.mem().buckets.size());
        for (size_t b = 0; b < t.mem().buckets.size(); b++) {
            for (const __u32 entry : t.mem().buckets[b].entry) {
                if (!entry) {
                    continue;
                }
                const uint32_t slot = entry & slot_mask(t.mem().flows.size());
                xf_key key;
                for (uint32_t i = 0; i < XF_KEY_WORDS; i++) {
                    key.word[i] = key_word(t.mem(), slot, i);
                }
                const uint64_t hash = t.table.hash(
                    SubtableSlot{xf_subtable_of(&t.mem().flows[slot])}, key);
                const size_t first = xf_hash_bucket1(hash) & 3;
                if (first != b) {
                    EXPECT_EQ(xf_hash_bucket2(hash) & 3, b);
                    expected[first]++;
                }
            }
        }
        for (size_t b = 0; b < expected.size(); b++) {
            ASSERT_EQ(t.mem().buckets[b].overflow, expected[b]);
        }
    }
}

// Full tables
// -----------

TEST(FlowTable, OneBucketHasNoSecond) {
    Tables t({.buckets = 1, .flows = 32});
    for (uint32_t i = 0; i < XF_BUCKET_ENTRIES; i++) {
        ASSERT_EQ(put(&t, {XF_CLASS_L2, 0, i}, i + 1), "");
    }
    EXPECT_EQ(put(&t, {XF_CLASS_L2, 0, 100}), "table/buckets");
    EXPECT_EQ(sum_of_overflows(t.mem()), 0u);
    for (uint32_t i = 0; i < XF_BUCKET_ENTRIES; i++) {
        EXPECT_EQ(port_of(t, {XF_CLASS_L2, 0, i}), i + 1);
    }
}

// A refused insert() or replace() changes nothing that is visible, takes no
// slot, and leaves its argument alone.
TEST(FlowTable, FullChangesNothing) {
    std::vector<Megaflow> full_bucket;
    for (uint32_t i = 1; i <= XF_BUCKET_ENTRIES; i++) {
        full_bucket.push_back({XF_CLASS_L2, 0, i});
    }
    const struct {
        const char *what;
        Sizes sizes;
        std::vector<Megaflow> flows;  // These fit.
        Megaflow refused;
        const char *reason;
    } rows[] = {
        {"no slot, new mask",
         {.flows = 3},
         {{XF_CLASS_L2, 0, 1}, {XF_CLASS_L2, 0, 2}},
         {XF_CLASS_ARP, 1, 3},
         "table/flows"},
        {"no slot, known mask",
         {.flows = 3},
         {{XF_CLASS_L2, 0, 1}, {XF_CLASS_L2, 0, 2}},
         {XF_CLASS_L2, 0, 3},
         "table/flows"},
        {"no subtable, in the same class",
         {.subtables = 3},
         {{XF_CLASS_L2, 0, 1}, {XF_CLASS_L2, 1, 1}},
         {XF_CLASS_L2, 2, 1},
         "table/masks"},
        {"no subtable, in another class",
         {.subtables = 3},
         {{XF_CLASS_L2, 0, 1}, {XF_CLASS_L2, 1, 1}},
         {XF_CLASS_ARP, 0, 1},
         "table/masks"},
        {"no room in the bucket, known mask",
         {.buckets = 1},
         full_bucket,
         {XF_CLASS_L2, 0, 80},
         "table/buckets"},
        {"no room in the bucket, new mask",
         {.buckets = 1},
         full_bucket,
         {XF_CLASS_L2, 1, 80},
         "table/buckets"},
    };
    for (const auto &row : rows) {
        SCOPED_TRACE(row.what);
        Tables t(row.sizes);
        std::vector<FlowSlot> slots;
        for (const Megaflow &m : row.flows) {
            FlowSlot slot;
            ASSERT_EQ(put(&t, m, m.id, &slot), "");
            t.stats(0, slot).packets = m.id;
            slots.push_back(slot);
        }
        const ByteVector before = visible(t.mem());
        const size_t n_flows = t.table.n_flows();
        const size_t n_subtables = t.table.n_subtables();

        // Often, so that it would be seen if each one lost a slot.
        for (int i = 0; i < 300; i++) {
            FlowSlot slot{4711};
            ASSERT_EQ(put(&t, row.refused, 1, &slot), row.reason);
            ASSERT_EQ(index(slot), 4711u);
            ASSERT_EQ(visible(t.mem()), before);
            ASSERT_EQ(t.table.n_flows(), n_flows);
            ASSERT_EQ(t.table.n_subtables(), n_subtables);
            pass_grace(&t.table);
        }
        EXPECT_EQ(port_of(t, row.refused), 0u);

        // With one flow less, it fits.
        t.table.remove(slots.back());
        pass_grace(&t.table);
        EXPECT_EQ(put(&t, row.refused, 99), "");
        EXPECT_EQ(port_of(t, row.refused), 99u);
    }
}

// Without a grace period in between, too: a refused insert() of a new mask may
// use subtables up, but then says so.
TEST(FlowTable, FullBucketsWithoutRelease) {
    Tables t({.buckets = 1, .flows = 32, .subtables = 8});
    for (uint32_t i = 0; i < XF_BUCKET_ENTRIES; i++) {
        ASSERT_EQ(put(&t, {XF_CLASS_L2, 0, i}, i + 1), "");
    }
    const ByteVector before = visible(t.mem());
    for (int i = 0; i < 100; i++) {
        const std::string reason = put(&t, {XF_CLASS_L2, 1, 8});
        EXPECT_TRUE(reason == "table/buckets" || reason == "table/masks")
            << reason;
        ASSERT_EQ(visible(t.mem()), before);
    }
    pass_grace(&t.table);
    for (uint32_t variant = 1; variant < 7; variant++) {
        EXPECT_EQ(put(&t, {XF_CLASS_L2, variant, 8}), "table/buckets");
    }
}

// Who looks at packets gets ufids by slot: of flows that are put then, and of
// one that is replaced, which has another slot.
TEST(FlowTable, Names) {
    Tables t;
    std::vector<xf_ufid> names(t.mem().flows.size());
    const auto ufid = [](uint8_t n) {
        Ufid u;
        u.bytes.fill(n);
        return u;
    };
    const auto name_of = [&](FlowSlot slot) {
        return Ufid::from(
            reinterpret_cast<const uint8_t *>(&names[index(slot)]));
    };
    const auto insert_named = [&](const Megaflow &m, uint8_t n) {
        FlowSlot slot;
        EXPECT_FALSE(t.table.insert(m.cls, m.key(), m.mask(), output_to(1),
                                    &slot, ufid(n)));
        return slot;
    };
    const FlowSlot early = insert_named({XF_CLASS_ARP, 0, 1}, 1);
    t.table.set_names(names);
    EXPECT_EQ(name_of(early), Ufid{});
    t.table.set_name(early, ufid(1));
    EXPECT_EQ(name_of(early), ufid(1));
    const FlowSlot late = insert_named({XF_CLASS_ARP, 0, 2}, 2);
    EXPECT_EQ(name_of(late), ufid(2));
    FlowSlot replaced = early;
    ASSERT_FALSE(t.table.replace(&replaced, output_to(2)));
    ASSERT_NE(replaced, early);
    EXPECT_EQ(name_of(replaced), ufid(1));
    t.table.set_names({});
    const FlowSlot unnamed = insert_named({XF_CLASS_ARP, 0, 3}, 3);
    EXPECT_EQ(name_of(unnamed), Ufid{});
}

TEST(FlowTable, ReplaceWithoutRoom) {
    Tables t({.flows = 2});
    const Megaflow m{XF_CLASS_ARP, 0, 1};
    FlowSlot slot;
    ASSERT_EQ(put(&t, m, 5, &slot), "");
    t.stats(0, slot).packets = 3;
    const FlowSlot old = slot;
    const ByteVector before = visible(t.mem());
    const Reject r = t.table.replace(&slot, output_to(6));
    EXPECT_EQ(r.name(), "table/flows");
    EXPECT_EQ(r.error, ENOSPC);
    EXPECT_EQ(slot, old);
    EXPECT_EQ(visible(t.mem()), before);
    EXPECT_EQ(port_of(t, m), 5u);
    EXPECT_EQ(t.table.stats(slot).packets, 3u);
    EXPECT_FALSE(t.table.has_retired());
}

// Memory that cannot be had at any step of an operation: nothing is visible of
// it, and the table can still be used.  (As of today, none of these operations
// allocates, and remove() and what follows it must not: they cannot fail.)
TEST(FlowTable, AllocationFails) {
    Tables t({.flows = 128});
    std::vector<FlowSlot> slots(40);
    for (uint32_t i = 0; i < slots.size(); i++) {
        // New and known masks, at either end of those that are there.
        const Megaflow m{kAllClasses[i % 4], (i * 7) % 20, i};
        for (size_t nth = 1;; nth++) {
            ASSERT_LT(nth, 10u);
            const ByteVector before = visible(t.mem());
            const size_t n_subtables = t.table.n_subtables();
            bool threw = false;
            Reject r;
            try {
                FailAllocation fail(nth);
                r = t.table.insert(m.cls, m.key(), m.mask(),
                                   rewriting(i + 1, 1 + i % 15), &slots[i]);
            } catch (const std::bad_alloc &) {
                threw = true;
            }
            if (!threw) {
                ASSERT_FALSE(r) << r.name();
                break;
            }
            ASSERT_EQ(visible(t.mem()), before);
            ASSERT_EQ(t.table.n_subtables(), n_subtables);
        }
        ASSERT_EQ(port_of(t, m), i + 1);
    }
    EXPECT_EQ(t.table.n_flows(), slots.size());

    size_t n = 0;
    for (FlowSlot &slot : slots) {
        FailAllocation count(0);
        (void)t.table.replace(&slot, output_to(1));
        t.table.remove(slot);
        n += count.n_allocations();
    }
    EXPECT_EQ(n, 0u);
    EXPECT_TRUE(nothing_published(t.mem()));

    {
        FailAllocation count(0);
        EXPECT_TRUE(t.table.begin_grace());
        t.table.end_grace();
        n = count.n_allocations();
    }
    EXPECT_EQ(n, 0u);
}

// Replacing and reclamation
// -------------------------

TEST(FlowTable, Replace) {
    Tables t;
    const Megaflow m{XF_CLASS_IPV6, 0, 1}, other{XF_CLASS_IPV6, 0, 2};
    FlowSlot slot;
    ASSERT_EQ(put(&t, other, 50), "");
    ASSERT_EQ(put(&t, m, 5, &slot), "");
    t.stats(0, slot) = {10, 1000, 123, 0x12};
    t.stats(1, slot) = {1, 100, 456, 0x01};
    const FlowSlot old = slot;

    // What is in the slot that it will get must not show.
    for (size_t i = 1; i < t.mem().flows.size(); i++) {
        const FlowSlot s{static_cast<uint32_t>(i)};
        if (s != old && find(t.mem(), other.cls, other.packet()) != s) {
            t.stats(0, s) = t.stats(1, s) = {7, 7, 7, 7};
        }
    }
    ASSERT_FALSE(t.table.replace(&slot, output_to(6)));
    EXPECT_NE(slot, old);
    EXPECT_EQ(port_of(t, m), 6u);
    EXPECT_EQ(find(t.mem(), m.cls, m.packet()), slot);
    EXPECT_EQ(port_of(t, other), 50u);
    EXPECT_EQ(t.table.n_flows(), 2u);
    EXPECT_EQ(t.table.n_subtables(), 1u);

    EXPECT_EQ(t.table.stats(slot).packets, 0u);
    EXPECT_EQ(t.table.stats(slot).bytes, 0u);
    EXPECT_EQ(t.table.stats(slot).used, 0u);
    EXPECT_EQ(t.table.stats(slot).tcp_flags, 0u);
    // The old one is as it was, for programs that still use it.
    EXPECT_EQ(t.mem().flows[index(old)].action.to, 5u);
    EXPECT_EQ(t.table.stats(old).packets, 11u);

    EXPECT_EQ(t.table.retired_flows(), std::vector{old});

    t.table.remove(slot);
    EXPECT_EQ(port_of(t, m), 0u);
}

// A flow knows what it has dropped, and what it did before it was replaced.
TEST(FlowTable, StatsOfDroppingFlows) {
    Tables t;
    const Megaflow m{XF_CLASS_L2, 0, 1};
    xf_action drop{};
    drop.verdict = XF_DROP;
    FlowSlot slot;
    ASSERT_EQ(put(&t, m, 5, &slot), "");
    t.stats(0, slot) = {10, 1000, 123, 0};
    FlowStats sum = t.table.stats(slot);
    EXPECT_EQ(sum.dropped, 0u);

    ASSERT_FALSE(t.table.replace(&slot, drop));
    EXPECT_EQ(t.table.stats(slot).dropped, 0u);
    t.stats(0, slot) = {3, 180, 124, 0};
    t.stats(1, slot) = {4, 240, 125, 0};
    EXPECT_EQ(t.table.stats(slot).dropped, 7u);
    sum += t.table.stats(slot);

    const FlowSlot dropping = slot;
    ASSERT_FALSE(t.table.replace(&slot, output_to(5)));
    EXPECT_EQ(t.table.stats(dropping).dropped, 7u) << "until it is released";
    sum += t.table.stats(slot);
    EXPECT_EQ(sum.packets, 17u);
    EXPECT_EQ(sum.dropped, 7u);
}

// A flow knows what ct() has handled.  ct_clear alone looks for no connection.
TEST(FlowTable, StatsOfTrackingFlows) {
    Tables t;
    const Megaflow m{XF_CLASS_L2, 0, 1};
    FlowAction clears(output_to(5)), tracks(output_to(5));
    clears.rewrite.ct[0].flags = XF_CT_CLEAR;
    tracks.rewrite.ct[0].flags = XF_CT_CLEAR;
    tracks.rewrite.ct[1].flags = XF_CT_TRACK;
    FlowSlot slot;
    ASSERT_EQ(put(&t, m, 5, &slot), "");
    FlowStats sum;
    for (const auto &[action, tracked] :
         {std::pair{clears, 0u}, {tracks, 3u}, {clears, 0u}}) {
        ASSERT_FALSE(t.table.replace(&slot, action));
        t.stats(0, slot) = {1, 60, 123, 0};
        t.stats(1, slot) = {2, 120, 124, 0};
        EXPECT_EQ(t.table.stats(slot).tracked, tracked);
        sum += t.table.stats(slot);
    }
    EXPECT_EQ(sum.packets, 9u);
    EXPECT_EQ(sum.tracked, 3u);
}

TEST(FlowTable, InsertStartsWithZeroStats) {
    Tables t({.flows = 2, .cpus = 4});
    FlowSlot slot;
    for (uint32_t i = 0; i < 3; i++) {
        ASSERT_EQ(put(&t, {XF_CLASS_L2, 0, i}, 1, &slot), "");
        EXPECT_EQ(t.table.stats(slot).packets, 0u);
        EXPECT_EQ(t.table.stats(slot).bytes, 0u);
        EXPECT_EQ(t.table.stats(slot).used, 0u);
        EXPECT_EQ(t.table.stats(slot).tcp_flags, 0u);
        for (size_t cpu = 0; cpu < 4; cpu++) {
            t.stats(cpu, slot) = {1, 2, 3, 4};
        }
        t.table.remove(slot);
        pass_grace(&t.table);
    }
}

TEST(FlowTable, StatsOfAllCpus) {
    Tables t({.cpus = 3});
    FlowSlot slot, neighbour;
    ASSERT_EQ(put(&t, {XF_CLASS_L2, 0, 1}, 1, &slot), "");
    ASSERT_EQ(put(&t, {XF_CLASS_L2, 0, 2}, 1, &neighbour), "");
    t.stats(0, slot) = {1, 60, 300, 0x02};
    t.stats(1, slot) = {1ULL << 40, 1ULL << 50, 500, 0x10};
    t.stats(2, slot) = {3, 1500, 400, 0x800};
    for (size_t cpu = 0; cpu < 3; cpu++) {
        t.stats(cpu, neighbour) = {1000, 1000, 1000, 0x1};
    }
    const FlowStats s = t.table.stats(slot);
    EXPECT_EQ(s.packets, (1ULL << 40) + 4);
    EXPECT_EQ(s.bytes, (1ULL << 50) + 1560);
    EXPECT_EQ(s.used, 500u);
    EXPECT_EQ(s.tcp_flags, 0x812);

    FlowStats sum = {10, 20, 600, 0x1};
    sum += s;
    EXPECT_EQ(sum.packets, (1ULL << 40) + 14);
    EXPECT_EQ(sum.used, 600u);
    EXPECT_EQ(sum.tcp_flags, 0x813);
}

// A CPU counts from the first time that it runs the program, whenever this is.
TEST(FlowTable, StatsOfCpusThatHaveNotRun) {
    Tables t({.flows = 3, .cpus = 3, .cpus_have_run = false});
    FlowSlot slot;
    ASSERT_EQ(put(&t, {XF_CLASS_L2, 0, 1}, 1, &slot), "");
    EXPECT_EQ(t.table.stats(slot).packets, 0u);
    for (const size_t cpu : {1, 0, 2}) {
        t.mem().cpus[cpu].seq = 1;  // Is running its first one.
        t.stats(cpu, slot).packets = 10 + cpu;
    }
    EXPECT_EQ(t.table.stats(slot).packets, 33u);
    ASSERT_FALSE(t.table.replace(&slot, output_to(2)));
    EXPECT_EQ(t.table.stats(slot).packets, 0u);
    t.stats(2, slot).packets = 5;
    pass_grace(&t.table);
    // Twice, to come back to the first slot.
    ASSERT_FALSE(t.table.replace(&slot, output_to(3)));
    EXPECT_EQ(t.table.stats(slot).packets, 0u);
}

// CPUs 0 and 2 have row 0, CPU 1 has row 1: each row counts once, and as soon
// as any of its CPUs has run.
TEST(FlowTable, StatsOfSharedRows) {
    for (const size_t first : {0, 2}) {
        SCOPED_TRACE(first);
        Tables t(
            {.flows = 2, .cpus = 3, .cpus_have_run = false, .max_rows = 2});
        FlowSlot slot;
        ASSERT_EQ(put(&t, {XF_CLASS_L2, 0, 1}, 1, &slot), "");
        EXPECT_EQ(&t.stats(0, slot), &t.stats(2, slot));
        t.mem().cpus[first].seq = 1;
        t.stats(first, slot) = {5, 300, 7, 0x2};
        EXPECT_EQ(t.table.stats(slot).packets, 5u);
        t.mem().cpus[2 - first].seq = 1;
        EXPECT_EQ(t.table.stats(slot).packets, 5u);
        t.mem().cpus[1].seq = 1;
        t.stats(1, slot) = {1, 60, 9, 0x10};
        EXPECT_EQ(t.table.stats(slot).packets, 6u);
        EXPECT_EQ(t.table.stats(slot).bytes, 360u);
        t.table.remove(slot);
        pass_grace(&t.table);
        ASSERT_EQ(put(&t, {XF_CLASS_L2, 0, 2}, 1, &slot), "");
        EXPECT_EQ(t.table.stats(slot).packets, 0u);
    }
}

TEST(FlowTable, SlotsAreReusedOnlyAfterRelease) {
    Tables t({.flows = 2});
    const Megaflow a{XF_CLASS_L2, 0, 1}, b{XF_CLASS_L2, 0, 2};
    FlowSlot slot;
    ASSERT_EQ(put(&t, a, 5, &slot), "");
    EXPECT_FALSE(t.table.has_retired());
    t.stats(0, slot).packets = 9;
    const FlowSlot old = slot;
    t.table.remove(slot);
    EXPECT_TRUE(t.table.has_retired());
    EXPECT_EQ(put(&t, b), "table/flows");
    // As it was, for programs that still use it, and for the final figures.
    EXPECT_EQ(t.mem().flows[index(old)].action.to, 5u);
    EXPECT_EQ(t.table.stats(old).packets, 9u);

    EXPECT_EQ(t.table.retired_flows(), std::vector{old});
    EXPECT_TRUE(t.table.begin_grace());
    EXPECT_FALSE(t.table.has_retired());
    EXPECT_EQ(put(&t, b), "table/flows");
    EXPECT_EQ(t.mem().flows[index(old)].action.to, 5u);
    t.table.end_grace();
    EXPECT_EQ(put(&t, b, 6, &slot), "");
    EXPECT_EQ(slot, old);
    EXPECT_EQ(port_of(t, b), 6u);
    EXPECT_EQ(port_of(t, a), 0u);
}

TEST(FlowTable, SubtablesAreReusedOnlyAfterRelease) {
    Tables t({.subtables = 2});
    const Megaflow a{XF_CLASS_L2, 0, 1}, b{XF_CLASS_ARP, 1, 2};
    FlowSlot slot;
    ASSERT_EQ(put(&t, a, 1, &slot), "");
    const xf_walk &walk = t.mem().walks[0];
    const SubtableSlot st{walk.first[XF_CLASS_L2]};
    ASSERT_NE(st, SubtableSlot::kNone);
    const xf_subtable mask = t.mem().subtables[index(st)];

    t.table.remove(slot);
    EXPECT_EQ(walk.first[XF_CLASS_L2], 0u);
    EXPECT_EQ(put(&t, b), "table/masks");
    EXPECT_EQ(put(&t, a), "table/masks") << "nor for the same mask";
    EXPECT_TRUE(t.table.begin_grace());
    EXPECT_EQ(put(&t, b), "table/masks");
    EXPECT_EQ(bytes_of(t.mem().subtables[index(st)]).size(), sizeof mask);
    EXPECT_EQ(std::memcmp(&t.mem().subtables[index(st)], &mask, sizeof mask),
              0);
    t.table.end_grace();
    EXPECT_EQ(put(&t, b, 2), "");
    EXPECT_EQ(port_of(t, b), 2u);
    EXPECT_EQ(walk.first[XF_CLASS_ARP], index(st));
}

// Rewrites
// --------

Reject put(Tables *t, uint32_t id, const FlowAction &a, FlowSlot *slot) {
    const Megaflow m{XF_CLASS_IPV4, 0, id};
    return t->table.insert(m.cls, m.key(), m.mask(), a, slot);
}

// What a program finds written to do in 'slot'; 0: nothing.
uint64_t rewritten(const Tables &t, FlowSlot slot) {
    const auto i = t.mem().flows[index(slot)].action.rewrite;
    return i ? t.mem().rewrites[i].value[4] : 0;
}

TEST(FlowTableRewrites, EqualOnesAreShared) {
    Tables t;
    FlowSlot plain, a, b, c;
    ASSERT_FALSE(put(&t, 1, output_to(1), &plain));
    EXPECT_EQ(t.table.n_rewrites(), 0u);
    EXPECT_EQ(t.mem().flows[index(plain)].action.rewrite, 0);
    ASSERT_FALSE(put(&t, 2, rewriting(1, 7), &a));
    ASSERT_FALSE(put(&t, 3, rewriting(2, 7), &b));
    ASSERT_FALSE(put(&t, 4, rewriting(1, 8), &c));
    EXPECT_EQ(t.table.n_rewrites(), 2u);
    EXPECT_EQ(rewritten(t, a), 7u);
    EXPECT_EQ(rewritten(t, c), 8u);
    auto number = [&](FlowSlot s) {
        return t.mem().flows[index(s)].action.rewrite;
    };
    EXPECT_EQ(number(a), number(b));
    EXPECT_NE(number(a), number(c));
    EXPECT_EQ(t.mem().rewrites[0].mask[4], 0u);

    // It stays as long as there is a flow that has it.
    t.table.remove(a);
    EXPECT_TRUE(t.table.retired_rewrites().empty());
    EXPECT_EQ(rewritten(t, b), 7u);
    const RewriteSlot of_b{number(b)};
    t.table.remove(b);
    EXPECT_EQ(t.table.retired_rewrites(), std::vector{of_b});
    EXPECT_EQ(t.table.n_rewrites(), 1u);
    t.table.remove(c);
    EXPECT_EQ(t.table.n_rewrites(), 0u);
}

// In whichever order they come and go.
TEST(FlowTableRewrites, FoundByContents) {
    Tables t({.flows = 1024, .rewrites = 300});
    std::mt19937 random(1);
    std::map<uint32_t, FlowSlot> slots;  // By rewrite.
    std::vector<FlowSlot> others;
    for (uint32_t i = 0; i < 3000; i++) {
        const uint32_t id = 1 + random() % 200;
        if (const auto it = slots.find(id); it != slots.end()) {
            FlowSlot second;
            ASSERT_FALSE(put(&t, 10'000, rewriting(1, id), &second));
            EXPECT_EQ(t.mem().flows[index(second)].action.rewrite,
                      t.mem().flows[index(it->second)].action.rewrite);
            t.table.remove(second);
            if (random() % 2) {
                t.table.remove(it->second);
                slots.erase(it);
            }
        } else {
            ASSERT_FALSE(put(&t, id, rewriting(1, id), &slots[id]));
        }
        pass_grace(&t.table);
        ASSERT_EQ(t.table.n_rewrites(), slots.size());
    }
    for (auto [id, slot] : slots) {
        EXPECT_EQ(rewritten(t, slot), id);
    }
}

TEST(FlowTableRewrites, HasAction) {
    Tables t;
    FlowSlot plain, slot;
    ASSERT_FALSE(put(&t, 1, output_to(1), &plain));
    ASSERT_FALSE(put(&t, 2, rewriting(1, 7), &slot));
    FlowAction bit = rewriting(1, 7), word = rewriting(1, 7);
    FlowAction cut = rewriting(1, 7), hashed = rewriting(1, 7);
    bit.rewrite.mask[4] = 0x7fffffff;
    word.rewrite.mask[3] = 1;
    cut.rewrite.max_len = 100;
    hashed.rewrite.hash_basis = 1;
    const struct {
        const char *what;
        FlowAction action;
        bool plain, slot;
    } rows[] = {
        {"nothing", output_to(1), true, false},
        {"the same", rewriting(1, 7), false, true},
        {"another value", rewriting(1, 6), false, false},
        {"another port", rewriting(2, 7), false, false},
        {"one bit less", bit, false, false},
        {"one field more", word, false, false},
        {"shorter", cut, false, false},
        {"hashed", hashed, false, false},
    };
    for (const auto &row : rows) {
        EXPECT_EQ(t.table.has_action(plain, row.action), row.plain)
            << row.what;
        EXPECT_EQ(t.table.has_action(slot, row.action), row.slot) << row.what;
    }
}

// What is more than the fields is shared, or not, like these.
TEST(FlowTableRewrites, WithoutFields) {
    const auto cut = [](uint32_t max_len) {
        FlowAction a(output_to(1));
        a.rewrite.max_len = max_len;
        return a;
    };
    FlowAction hashed(output_to(1));
    hashed.rewrite.hash_basis = 100;
    EXPECT_TRUE(cut(100).rewrites());
    EXPECT_TRUE(hashed.rewrites());
    EXPECT_FALSE(cut(0).rewrites());

    Tables t({.rewrites = 4});
    FlowSlot a, b, longer, basis, full;
    ASSERT_FALSE(put(&t, 1, cut(100), &a));
    ASSERT_FALSE(put(&t, 2, cut(100), &b));
    ASSERT_FALSE(put(&t, 3, cut(101), &longer));
    ASSERT_FALSE(put(&t, 4, hashed, &basis));
    EXPECT_EQ(t.table.n_rewrites(), 3u);
    EXPECT_EQ(put(&t, 5, cut(102), &full).name(), "table/rewrites");
    auto entry = [&](FlowSlot s) {
        return t.mem().rewrites[t.mem().flows[index(s)].action.rewrite];
    };
    EXPECT_EQ(entry(a).max_len, 100u);
    EXPECT_EQ(entry(b).max_len, 100u);
    EXPECT_EQ(entry(longer).max_len, 101u);
    EXPECT_EQ(entry(basis).max_len, 0u);
    EXPECT_EQ(entry(basis).hash_basis, 100u);
    EXPECT_TRUE(t.table.has_action(a, cut(100)));
    EXPECT_FALSE(t.table.has_action(a, cut(101)));
    EXPECT_FALSE(t.table.has_action(a, output_to(1)));
    ASSERT_FALSE(t.table.replace(&a, output_to(1)));
    EXPECT_EQ(t.table.n_rewrites(), 3u);
    t.table.remove(b);
    EXPECT_EQ(t.table.n_rewrites(), 2u);
}

TEST(FlowTableRewrites, AreReusedOnlyAfterRelease) {
    for (const bool by_replace : {false, true}) {
        SCOPED_TRACE(by_replace);
        Tables t({.rewrites = 2});
        FlowSlot slot, other;
        ASSERT_FALSE(put(&t, 1, rewriting(1, 7), &slot));
        const RewriteSlot taken{t.mem().flows[index(slot)].action.rewrite};
        if (by_replace) {
            ASSERT_FALSE(t.table.replace(&slot, output_to(2)));
            EXPECT_EQ(rewritten(t, slot), 0u);
        } else {
            t.table.remove(slot);
        }
        // As it was, for programs that still use it.
        const xf_rewrite &entry = t.mem().rewrites[index(taken)];
        EXPECT_EQ(put(&t, 2, rewriting(1, 8), &other).name(),
                  "table/rewrites");
        EXPECT_EQ(put(&t, 2, rewriting(1, 7), &other).name(),
                  "table/rewrites");
        EXPECT_EQ(entry.value[4], 7u);
        EXPECT_EQ(t.table.retired_rewrites(), std::vector{taken});
        EXPECT_TRUE(t.table.begin_grace());
        EXPECT_TRUE(t.table.begin_grace());  // The first one has failed.
        EXPECT_EQ(put(&t, 2, rewriting(1, 8), &other).name(),
                  "table/rewrites");
        EXPECT_EQ(entry.value[4], 7u);
        t.table.end_grace();
        ASSERT_FALSE(put(&t, 2, rewriting(1, 8), &other));
        EXPECT_EQ(entry.value[4], 8u);
    }
}

// A rewrite that both the old and the new action have stays where it is.
TEST(FlowTableRewrites, ReplaceKeepsWhatIsTheSame) {
    Tables t({.rewrites = 2});
    FlowSlot slot;
    ASSERT_FALSE(put(&t, 1, rewriting(1, 7), &slot));
    ASSERT_FALSE(t.table.replace(&slot, rewriting(2, 7)));
    EXPECT_EQ(rewritten(t, slot), 7u);
    EXPECT_TRUE(t.table.retired_rewrites().empty());
    EXPECT_EQ(t.table.replace(&slot, rewriting(2, 8)).name(),
              "table/rewrites");
    EXPECT_EQ(rewritten(t, slot), 7u);
    t.table.remove(slot);
    EXPECT_EQ(t.table.n_rewrites(), 0u);
}

// A refused insert() or replace() changes nothing, and leaves no user behind.
TEST(FlowTableRewrites, FullChangesNothing) {
    Tables t({.buckets = 1, .flows = 32, .subtables = 3, .rewrites = 3});
    FlowSlot a, b, slot{4711};
    ASSERT_FALSE(put(&t, 1, rewriting(1, 7), &a));
    ASSERT_FALSE(put(&t, 2, rewriting(1, 8), &b));
    const Megaflow new_mask{XF_CLASS_IPV4, 1, 3};
    const ByteVector before = visible(t.mem());
    for (int i = 0; i < 300; i++) {
        ASSERT_EQ(put(&t, 3, rewriting(1, 9), &slot).error, ENOSPC);
        ASSERT_EQ(t.table
                      .insert(new_mask.cls, new_mask.key(), new_mask.mask(),
                              rewriting(1, 9), &slot)
                      .name(),
                  "table/rewrites");
        ASSERT_EQ(t.table.replace(&a, rewriting(1, 9)).name(),
                  "table/rewrites");
        ASSERT_EQ(index(slot), 4711u);
        ASSERT_EQ(visible(t.mem()), before);
        pass_grace(&t.table);
    }
    // Refused for another reason.
    t.table.remove(b);
    for (uint32_t id = 10; put(&t, id, output_to(1), &slot).error == 0; id++) {
    }
    pass_grace(&t.table);
    for (int i = 0; i < 300; i++) {
        ASSERT_EQ(put(&t, 3, rewriting(1, 9), &slot).name(), "table/buckets");
        ASSERT_EQ(t.table.n_rewrites(), 1u);
        pass_grace(&t.table);
    }
    ASSERT_FALSE(t.table.replace(&a, rewriting(1, 9)));
    EXPECT_EQ(rewritten(t, a), 9u);
}

// The walk holds each of the class's subtables once, whichever is removed.
TEST(FlowTable, WalkWithoutHoles) {
    constexpr uint32_t kN = 5;
    for (uint32_t removed = 0; removed < kN; removed++) {
        Tables t;
        std::vector<FlowSlot> slots(kN);
        for (uint32_t i = 0; i < kN; i++) {
            ASSERT_EQ(put(&t, {XF_CLASS_IPV4, i, 1}, i + 1, &slots[i]), "");
        }
        auto expected = walk_of(t.mem(), XF_CLASS_IPV4);
        EXPECT_EQ(expected.size(), kN);
        std::erase(expected, index(t.table.subtable_of(slots[removed])));
        t.table.remove(slots[removed]);
        EXPECT_EQ(walk_of(t.mem(), XF_CLASS_IPV4), expected);
        EXPECT_EQ(t.table.n_subtables(XF_CLASS_IPV4), kN - 1);
        for (uint32_t i = 0; i < kN; i++) {
            EXPECT_EQ(port_of(t, {XF_CLASS_IPV4, i, 1}),
                      i == removed ? 0 : i + 1);
        }
    }
}

// A reader that has come to a subtable which is then taken out goes on to all
// that stay, also if its neighbours are taken out after it.
TEST(FlowTable, ReadersLeaveASubtableThatIsTakenOut) {
    constexpr uint32_t kN = 5;
    Tables t;
    std::vector<FlowSlot> slots(kN);
    for (uint32_t i = 0; i < kN; i++) {
        ASSERT_EQ(put(&t, {XF_CLASS_IPV4, i, 1}, i + 1, &slots[i]), "");
    }
    const auto walk = walk_of(t.mem(), XF_CLASS_IPV4);  // 4, 3, 2, 1, 0.
    for (const uint32_t removed : {3, 2, 4}) {
        t.table.remove(slots[removed]);
    }
    std::vector<uint32_t> behind;
    for (uint32_t s = walk[1]; (s = t.mem().subtables[s].next);) {
        behind.push_back(s);
    }
    EXPECT_EQ(behind.back(), walk[4]);
    EXPECT_EQ(behind[behind.size() - 2], walk[3]);
    EXPECT_EQ(walk_of(t.mem(), XF_CLASS_IPV4),
              (std::vector{walk[3], walk[4]}));
}

// Each recirculation slot has its own subtables, also of the same mask.
TEST(FlowTable, WalksOfRecirculationSlots) {
    Tables t({.recircs = 3});
    const Megaflow m{XF_CLASS_IPV4, 0, 1};
    std::array<FlowSlot, 3> slots;
    for (uint16_t recirc = 0; recirc < slots.size(); recirc++) {
        xf_key key = m.key();
        key.recirc = recirc;
        ASSERT_FALSE(t.table.insert(m.cls, key, m.mask(),
                                    output_to(recirc + 1), &slots[recirc]));
    }
    EXPECT_EQ(t.table.n_subtables(), 3u);
    for (uint16_t recirc = 0; recirc < slots.size(); recirc++) {
        xf_key packet = m.packet();
        packet.recirc = recirc;
        const auto walk = walk_of(t.mem(), m.cls, recirc);
        EXPECT_EQ(walk.size(), 1u);
        EXPECT_EQ(walk,
                  (std::vector{index(t.table.subtable_of(slots[recirc]))}));
        EXPECT_EQ(find(t.mem(), m.cls, packet), slots[recirc]);
    }
    xf_key key = m.key();
    key.recirc = 3;
    FlowSlot slot;
    EXPECT_EQ(t.table.insert(m.cls, key, m.mask(), output_to(1), &slot).name(),
              "table/recirc_ids");
    EXPECT_EQ(t.table.n_flows(), 3u);
    EXPECT_EQ(t.table.n_subtables(), 3u);
}

TEST(FlowTable, AllSubtables) {
    Tables t({.buckets = 128, .flows = 1024});
    std::vector<FlowSlot> slots(XF_MAX_MASKS);
    for (uint32_t i = 0; i < slots.size(); i++) {
        ASSERT_EQ(put(&t, {XF_CLASS_L2, i, 1}, i + 1, &slots[i]), "");
    }
    EXPECT_EQ(put(&t, {XF_CLASS_L2, XF_MAX_MASKS, 1}), "table/masks");
    EXPECT_EQ(put(&t, {XF_CLASS_L2, 0, 2}), "") << "of a known mask";
    for (uint32_t i = 0; i < slots.size(); i++) {
        EXPECT_EQ(port_of(t, {XF_CLASS_L2, i, 1}), i + 1);
    }
}

TEST(FlowTable, SameMaskInTwoClasses) {
    Tables t;
    const Megaflow a{XF_CLASS_L2, 0, 1}, b{XF_CLASS_IPV4, 0, 1};
    const xf_key mask_a = a.mask(), mask_b = b.mask();
    ASSERT_EQ(std::memcmp(&mask_a, &mask_b, sizeof mask_a), 0);
    FlowSlot sa, sb;
    ASSERT_EQ(put(&t, a, 1, &sa), "");
    ASSERT_EQ(put(&t, b, 2, &sb), "");
    EXPECT_EQ(t.table.n_subtables(), 2u);
    const auto l2 = walk_of(t.mem(), XF_CLASS_L2),
               ipv4 = walk_of(t.mem(), XF_CLASS_IPV4);
    ASSERT_EQ(l2.size(), 1u);
    ASSERT_EQ(ipv4.size(), 1u);
    EXPECT_NE(l2, ipv4);
    EXPECT_EQ(port_of(t, a), 1u);
    EXPECT_EQ(port_of(t, b), 2u);
    t.table.remove(sa);
    EXPECT_EQ(t.table.n_subtables(), 1u);
    EXPECT_EQ(port_of(t, b), 2u);
}

// quiesce()
// ---------

TEST(Quiesce, NoProgramRuns) {
    Tables t({.cpus = 4});
    t.mem().cpus[2].seq = 8;
    EXPECT_TRUE(t.table.quiesce());
}

TEST(Quiesce, GivesUp) {
    for (size_t cpu = 0; cpu < 3; cpu++) {
        Tables t({.cpus = 3});
        t.mem().cpus[cpu].seq = 7;
        const auto start = std::chrono::steady_clock::now();
        EXPECT_FALSE(t.table.quiesce()) << "CPU " << cpu;
        const auto took = std::chrono::steady_clock::now() - start;
        EXPECT_GE(took,
                  std::chrono::microseconds(FlowTable::kQuiesceTimeoutUs));
        EXPECT_LT(took, std::chrono::seconds(5));
    }
}

// Waits for the program that runs, and for no longer: that the next one has
// begun already is as good as that none runs.
TEST(Quiesce, Waits) {
    for (const uint64_t next : {8, 9}) {
        int n_true = 0;
        for (int i = 0; i < 100 && n_true < 3; i++) {
            Tables t({.cpus = 2});
            std::atomic<bool> left = false;
            t.mem().cpus[1].seq = 7;
            std::thread program([&] {
                std::this_thread::sleep_for(std::chrono::milliseconds(2));
                left = true;
                std::atomic_ref(t.mem().cpus[1].seq).store(next);
            });
            // False if the thread does not get a CPU in time.
            const bool quiet = t.table.quiesce();
            const bool had_left = left;
            program.join();
            if (quiet) {
                n_true++;
                ASSERT_TRUE(had_left);
            }
        }
        EXPECT_GT(n_true, 0) << "to " << next;
    }
}

// Model
// -----

// Random operations, beside a model of what has to be in the table.
TEST(FlowTableModel, RandomOperations) {
    const uint64_t seed = test_seed();
    SCOPED_TRACE("TEST_SEED=" + std::to_string(seed));
    std::mt19937_64 random(seed);

    struct Entry {
        FlowSlot slot;
        uint32_t port;
        uint64_t packets;
    };
    size_t n_refused = 0, n_overflows = 0;
    for (int round = 0; round < 8; round++) {
        // Tight in different ways: the buckets, or what else there is.
        const bool few_buckets = round % 4 == 0;
        const Sizes sizes = {.buckets = size_t{2} << round % 4,
                             .flows = 32 + random() % 256,
                             .subtables = few_buckets ? 24 : 4 + random() % 20,
                             .cpus = 1 + random() % 3,
                             .seed = random()};
        Tables t(sizes);
        std::map<Megaflow, Entry> model;
        std::map<Megaflow, int> known;  // All that were ever tried.
        std::set<FlowSlot> retired;     // And not free yet;
        std::set<FlowSlot>
            waiting;  // of these, for the end of a grace period.

        auto any = [&] {
            return std::next(model.begin(), random() % model.size());
        };
        for (int op = 0; op < 4000; op++) {
            switch (random() % 16) {
                default: {
                    const Megaflow m{kAllClasses[random() % 5],
                                     static_cast<uint32_t>(random() % 4),
                                     static_cast<uint32_t>(random() % 100)};
                    known[m]++;
                    if (model.contains(m)) {
                        break;
                    }
                    const auto port = static_cast<uint16_t>(random() | 1);
                    const ByteVector before = visible(t.mem());
                    FlowSlot slot;
                    const std::string reason = put(&t, m, port, &slot);
                    const bool no_slot =
                        model.size() + retired.size() == sizes.flows - 1;
                    ASSERT_EQ(reason == "table/flows", no_slot);
                    if (reason.empty()) {
                        ASSERT_FALSE(retired.contains(slot));
                        ASSERT_EQ(t.table.stats(slot).packets, 0u);
                        model[m] = {slot, port, 0};
                    } else {
                        n_refused++;
                        ASSERT_EQ(visible(t.mem()), before) << reason;
                    }
                    break;
                }
                case 0:
                case 1:
                    if (!model.empty()) {
                        Entry &e = any()->second;
                        const FlowSlot old = e.slot;
                        const auto port = static_cast<uint16_t>(random() | 1);
                        const bool no_slot =
                            model.size() + retired.size() == sizes.flows - 1;
                        const Reject r =
                            t.table.replace(&e.slot, output_to(port));
                        ASSERT_EQ(static_cast<bool>(r), no_slot);
                        if (!r) {
                            ASSERT_FALSE(retired.contains(e.slot));
                            ASSERT_EQ(t.table.stats(old).packets, e.packets);
                            retired.insert(old);
                            e.port = port;
                            e.packets = 0;
                        }
                    }
                    break;
                case 2:
                case 3:
                case 4:
                case 5:
                    if (!model.empty()) {
                        const auto it = any();
                        t.table.remove(it->second.slot);
                        ASSERT_EQ(t.table.stats(it->second.slot).packets,
                                  it->second.packets);
                        retired.insert(it->second.slot);
                        model.erase(it);
                    }
                    break;
                case 6:
                    (void)t.table.begin_grace();
                    ASSERT_FALSE(t.table.has_retired());
                    waiting = retired;
                    break;
                case 7:
                    t.table.end_grace();
                    for (FlowSlot s : waiting) {
                        ASSERT_EQ(retired.erase(s), 1u);
                    }
                    waiting.clear();
                    break;
                case 8:
                    if (!model.empty()) {
                        Entry &e = any()->second;
                        t.stats(random() % sizes.cpus, e.slot).packets++;
                        e.packets++;
                    }
                    break;
            }
            if (op % 64) {
                continue;
            }

            ASSERT_EQ(t.table.n_flows(), model.size());
            std::set<std::pair<xf_class, uint32_t>> masks;
            n_overflows += sum_of_overflows(t.mem());
            for (const auto &[m, times] : known) {
                const auto it = model.find(m);
                const FlowSlot predicted{
                    static_cast<uint32_t>(random() % sizes.flows)};
                const FlowSlot slot =
                    find(t.mem(), m.cls, m.packet(random()), predicted);
                if (it == model.end()) {
                    ASSERT_EQ(slot, FlowSlot::kNone);
                    continue;
                }
                const Entry &e = it->second;
                ASSERT_EQ(slot, e.slot);
                ASSERT_EQ(t.mem().flows[index(slot)].action.to, e.port);
                ASSERT_EQ(t.table.stats(slot).packets, e.packets);
                ASSERT_TRUE(t.table.has_match(slot, m.cls, m.key(), m.mask()));
                masks.insert({m.cls, m.variant});
            }
            ASSERT_EQ(t.table.n_subtables(), masks.size());
        }
        for (const auto &[m, e] : model) {
            t.table.remove(e.slot);
        }
        ASSERT_TRUE(nothing_published(t.mem()));
        ASSERT_EQ(t.table.n_flows(), 0u);
        ASSERT_EQ(t.table.n_subtables(), 0u);
    }
    // Or the sizes above are not tight.
    EXPECT_GT(n_refused, 0u);
    EXPECT_GT(n_overflows, 0u);
}

}  // namespace
}  // namespace flowxlate::unit
