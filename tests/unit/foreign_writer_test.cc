// SPDX-License-Identifier: Apache-2.0
// FlowTable when somebody else writes to the memory that it shares with the
// programs: it stays within its bounds, which the address sanitizer watches,
// and counts what it has given out.  What programs make of such memory is in
// tests/bpf/corruption_fuzz_test.cc.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "tests/unit/tables.h"

namespace flowxlate::unit {
namespace {

using Random = std::mt19937_64;

// Any bytes in a tenth of the elements.
template <typename T>
void corrupt(std::span<T> part, Random &random) {
    for (auto &element : part) {
        if (random() % 10 == 0) {
            auto bytes = std::as_writable_bytes(std::span(&element, 1));
            std::ranges::generate(bytes, [&] {
                return std::byte(random() % 2 ? random() : 0xff);
            });
        }
    }
}

void corrupt_all(const TableMemory &mem, Random &random) {
    corrupt(mem.buckets, random);
    corrupt(mem.flows, random);
    corrupt(mem.key_rests, random);
    corrupt(mem.subtables, random);
    corrupt(mem.walks, random);
    corrupt(mem.rewrites, random);
    corrupt(mem.stats, random);
}

void put(Tables *t, const Megaflow &m, const FlowAction &action,
         std::vector<FlowSlot> *slots) {
    FlowSlot slot;
    const auto r = t->table.insert(m.cls, m.key(), m.mask(), action, &slot);
    ASSERT_TRUE(!r || r.error == ENOSPC);
    if (!r) {
        slots->push_back(slot);
    }
}

TEST(FlowTableForeignWriter, StaysWithinItsBounds) {
    const uint64_t seed = test_seed();
    SCOPED_TRACE("TEST_SEED=" + std::to_string(seed));
    Random random(seed);
    for (int round = 0; round < 100; round++) {
        Tables t;
        std::vector<FlowSlot> slots;
        for (uint32_t i = 0; i < 400; i++) {
            const Megaflow m{xf_class(random() % XF_N_CLASSES),
                             static_cast<uint32_t>(random() % 20), i};
            put(&t, m, rewriting(1, random() % 12), &slots);
            if (i % 20 == 19) {
                corrupt_all(t.mem(), random);
            }
            if (slots.size() > 60) {
                t.table.remove(slots.back());
                slots.pop_back();
                (void)t.table.replace(&slots[random() % slots.size()],
                                      rewriting(2, random() % 12));
                (void)t.table.has_match(slots[0], m.cls, m.key(), m.mask());
                (void)t.table.has_action(slots[0], rewriting(2, 3));
                pass_grace(&t.table);
            }
        }
        for (auto slot : slots) {
            t.table.remove(slot);
        }
        EXPECT_EQ(t.table.n_flows(), 0u);
        EXPECT_EQ(t.table.n_subtables(), 0u);
        EXPECT_EQ(t.table.n_rewrites(), 0u);
    }
}

// What a walk is published as repairs what was written there.
TEST(FlowTableForeignWriter, WalkIsTheWritersOwn) {
    Tables t;
    std::vector<FlowSlot> slots;
    auto &first = t.mem().walks[0].first[XF_CLASS_IPV4];
    put(&t, {XF_CLASS_IPV4, 1, 1}, output_to(1), &slots);
    put(&t, {XF_CLASS_IPV4, 2, 2}, output_to(1), &slots);
    first = UINT16_MAX;
    put(&t, {XF_CLASS_IPV4, 3, 3}, output_to(1), &slots);
    EXPECT_EQ(walk_of(t.mem(), XF_CLASS_IPV4).size(), 3u);
    for (xf_subtable &st : t.mem().subtables) {
        st.next = UINT16_MAX;
    }
    t.table.remove(slots[1]);
    EXPECT_EQ(walk_of(t.mem(), XF_CLASS_IPV4),
              (std::vector{index(t.table.subtable_of(slots[2])),
                           index(t.table.subtable_of(slots[0]))}));
}

}  // namespace
}  // namespace flowxlate::unit
