// SPDX-License-Identifier: Apache-2.0
// Keys that collide under one secret: who knows it fills a pair of buckets,
// who does not (a secret is drawn at each start) fills none.
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "bpf/abi/hash.h"
#include "tables.h"

namespace flowxlate::unit {
namespace {

constexpr SubtableSlot kFirstSubtable{1};
constexpr Sizes kSizes = {.buckets = 64, .flows = 512};
constexpr size_t kFlood = 200;
constexpr size_t kRoom = 2 * XF_BUCKET_ENTRIES;  // Of a pair of buckets.

Sizes with_secret(uint64_t seed) {
    Sizes sizes = kSizes;
    sizes.seed = seed;
    return sizes;
}

// Megaflows of one mask that have both buckets in common in 'table'.
std::vector<Megaflow> colliding(const FlowTable &table) {
    const uint32_t bucket_mask = table.memory().buckets.size() - 1;
    std::vector<Megaflow> flows;
    for (uint32_t id = 0; flows.size() < kFlood; id++) {
        const Megaflow m{XF_CLASS_IPV4, 0, id};
        const uint64_t hash = table.hash(kFirstSubtable, m.key());
        if ((xf_hash_bucket1(hash) & bucket_mask) == 5
            && (xf_hash_bucket2(hash) & bucket_mask) == 8) {
            flows.push_back(m);
        }
    }
    return flows;
}

// hash() asks for the mask of the subtable.
void insert_first(Tables *t) {
    FlowSlot slot;
    ASSERT_FALSE(insert(&t->table, {XF_CLASS_IPV4, 0, 0xffffffff}, 1, &slot));
    ASSERT_EQ(t->table.subtable_of(slot), kFirstSubtable);
}

struct Outcome {
    size_t accepted = 0, overflows = 0;
    uint16_t fullest = 0;
};

Outcome flood(Tables *t, const std::vector<Megaflow> &flows) {
    Outcome o;
    for (const Megaflow &m : flows) {
        FlowSlot slot;
        const auto refused = insert(&t->table, m, 1, &slot);
        EXPECT_TRUE(!refused || refused.name() == "table/buckets");
        o.accepted += !refused;
    }
    for (const xf_bucket &bucket : t->mem().buckets) {
        o.overflows += bucket.overflow;
        o.fullest = std::max(o.fullest, bucket.used);
    }
    return o;
}

TEST(Flooding, OnlyWhoKnowsTheSecretFillsABucket) {
    Tables known(with_secret(1));
    insert_first(&known);
    const auto flows = colliding(known.table);
    const Outcome aimed = flood(&known, flows);
    // The first flow may have taken a place.
    EXPECT_LE(aimed.accepted, kRoom);
    EXPECT_GE(aimed.accepted, kRoom - 1);
    EXPECT_EQ(aimed.fullest, XF_BUCKET_ENTRIES);

    for (uint64_t seed = 2; seed < 12; seed++) {
        Tables other(with_secret(seed));
        insert_first(&other);
        const Outcome blind = flood(&other, flows);
        EXPECT_EQ(blind.accepted, flows.size()) << "seed " << seed;
        EXPECT_EQ(blind.overflows, 0U) << "seed " << seed;
        EXPECT_LT(blind.fullest, XF_BUCKET_ENTRIES) << "seed " << seed;
    }
}

}  // namespace
}  // namespace flowxlate::unit
