// SPDX-License-Identifier: Apache-2.0
// RecircIds: slots that stand for recirculation ids.
#include "flowxlate/tables/recirc.h"
#include "tests/grace.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <map>
#include <new>
#include <random>
#include <set>

#include "tests/unit/alloc.h"

namespace flowxlate::unit {
namespace {

std::string get(RecircIds *ids, uint32_t id, RecircIds::Use *use) {
    const Reject r = ids->get(id, use);
    EXPECT_TRUE(!r || r.error == ENOSPC);
    return r ? r.name() : "";
}

TEST(RecircIds, OneSlotPerId) {
    RecircIds ids(4, "recirc_ids");
    RecircIds::Use a, again, b;
    EXPECT_EQ(get(&ids, 7, &a), "");
    EXPECT_EQ(get(&ids, 7, &again), "");
    EXPECT_EQ(get(&ids, UINT32_MAX, &b), "");
    EXPECT_EQ(a.slot(), again.slot());
    EXPECT_NE(a.slot(), b.slot());
    for (const RecircIds::Use *use : {&a, &b}) {
        EXPECT_GE(index(use->slot()), 1);
        EXPECT_LE(index(use->slot()), 4);
    }
    EXPECT_EQ(ids.size(), 2u);
}

// That of what has not been recirculated needs none.
TEST(RecircIds, IdZero) {
    RecircIds ids(1, "recirc_ids");
    RecircIds::Use zero, again, one;
    EXPECT_EQ(get(&ids, 0, &zero), "");
    EXPECT_EQ(get(&ids, 0, &again), "");
    EXPECT_EQ(zero.slot(), RecircSlot::kNone);
    EXPECT_EQ(ids.size(), 0u);
    EXPECT_EQ(get(&ids, 7, &one), "");
    EXPECT_EQ(RecircIds::Use().slot(), RecircSlot::kNone);
}

// A slot stays as long as somebody uses it.
TEST(RecircIds, CountsUsers) {
    RecircIds ids(1, "recirc_ids");
    RecircIds::Use first, other;
    ASSERT_EQ(get(&ids, 7, &first), "");
    {
        RecircIds::Use second;
        ASSERT_EQ(get(&ids, 7, &second), "");
    }
    EXPECT_TRUE(pass_grace(&ids.pool()).empty());
    EXPECT_EQ(get(&ids, 8, &other), "table/recirc_ids");
    EXPECT_EQ(other.slot(), RecircSlot::kNone);
    EXPECT_EQ(ids.size(), 1u);

    const RecircSlot slot = first.slot();
    first = {};
    EXPECT_EQ(first.slot(), RecircSlot::kNone);
    EXPECT_EQ(ids.size(), 0u);
    EXPECT_EQ(pass_grace(&ids.pool()), std::vector{slot});
    EXPECT_TRUE(pass_grace(&ids.pool()).empty()) << "once only";
}

// Of numbers that nobody has, too: a trace reads them from a packet's key.
TEST(RecircIds, KeyOfASlot) {
    RecircIds ids(2, "recirc_ids");
    RecircIds::Use a, b;
    ASSERT_EQ(get(&ids, 7, &a), "");
    ASSERT_EQ(get(&ids, 8, &b), "");
    const RecircSlot of_7 = a.slot(), of_8 = b.slot();
    a = {};
    EXPECT_EQ(ids.key(of_8), 8u);
    EXPECT_EQ(ids.key(of_7), 0u) << "nobody's any more";
    EXPECT_EQ(ids.key(RecircSlot::kNone), 0u);
    EXPECT_EQ(ids.key(RecircSlot{3}), 0u) << "out of bounds";
    pass_grace(&ids.pool());
    ASSERT_EQ(get(&ids, 9, &a), "");
    EXPECT_EQ(ids.key(a.slot()), 9u);
}

// A use is in one object: to move it is not to add or to lose one.
TEST(RecircIds, Move) {
    RecircIds ids(2, "recirc_ids");
    RecircIds::Use a, b;
    ASSERT_EQ(get(&ids, 7, &a), "");
    ASSERT_EQ(get(&ids, 8, &b), "");
    const RecircSlot of_7 = a.slot(), of_8 = b.slot();

    RecircIds::Use moved(std::move(a));
    EXPECT_EQ(moved.slot(), of_7);
    EXPECT_EQ(a.slot(), RecircSlot::kNone);  // NOLINT: is what is tested.
    EXPECT_TRUE(pass_grace(&ids.pool()).empty());

    b = std::move(moved);  // Leaves 8.
    EXPECT_EQ(b.slot(), of_7);
    EXPECT_EQ(moved.slot(), RecircSlot::kNone);  // NOLINT
    EXPECT_EQ(pass_grace(&ids.pool()), std::vector{of_8});
    EXPECT_EQ(ids.size(), 1u);

    RecircIds::Use &self = b;
    b = std::move(self);
    EXPECT_EQ(b.slot(), of_7);
    EXPECT_TRUE(pass_grace(&ids.pool()).empty());
    b = {};
    EXPECT_EQ(pass_grace(&ids.pool()), std::vector{of_7});
}

// get() replaces what the object used before.
TEST(RecircIds, GetAgain) {
    RecircIds ids(2, "recirc_ids");
    RecircIds::Use use;
    ASSERT_EQ(get(&ids, 7, &use), "");
    const RecircSlot of_7 = use.slot();
    ASSERT_EQ(get(&ids, 8, &use), "");
    EXPECT_EQ(pass_grace(&ids.pool()), std::vector{of_7});
    EXPECT_EQ(get(&ids, 0, &use), "");
    EXPECT_EQ(use.slot(), RecircSlot::kNone);
    EXPECT_EQ(ids.size(), 0u);
}

// Programs that are running may have a retired slot in a key.
TEST(RecircIds, AreReusedOnlyAfterRelease) {
    RecircIds ids(1, "recirc_ids");
    RecircIds::Use use;
    ASSERT_EQ(get(&ids, 7, &use), "");
    const RecircSlot slot = use.slot();
    use = {};
    EXPECT_EQ(get(&ids, 8, &use), "table/recirc_ids");
    EXPECT_EQ(get(&ids, 7, &use), "table/recirc_ids") << "nor for the same id";
    EXPECT_EQ(ids.pool().begin_grace().size(), 1u);
    EXPECT_EQ(get(&ids, 8, &use), "table/recirc_ids");
    EXPECT_EQ(ids.pool().begin_grace().size(), 1u) << "the first has failed";
    EXPECT_EQ(get(&ids, 8, &use), "table/recirc_ids");
    ids.pool().end_grace();
    EXPECT_EQ(get(&ids, 8, &use), "");
    EXPECT_EQ(use.slot(), slot);
}

TEST(RecircIds, Full) {
    constexpr uint16_t kMax = 200;
    RecircIds ids(kMax, "recirc_ids");
    std::vector<RecircIds::Use> uses(kMax);
    std::set<RecircSlot> slots;
    for (uint32_t i = 0; i < kMax; i++) {
        ASSERT_EQ(get(&ids, 1000 + i, &uses[i]), "");
        slots.insert(uses[i].slot());
    }
    EXPECT_EQ(slots.size(), kMax);
    EXPECT_FALSE(slots.contains(RecircSlot::kNone));
    RecircIds::Use more;
    EXPECT_EQ(get(&ids, 1, &more), "table/recirc_ids");
    EXPECT_EQ(get(&ids, 1000, &more), "") << "an id that has one";
    EXPECT_EQ(more.slot(), uses[0].slot());
    more = {};
    uses.clear();
    EXPECT_EQ(ids.size(), 0u);
    EXPECT_EQ(pass_grace(&ids.pool()).size(), kMax);
}

TEST(RecircIds, AllocationFails) {
    RecircIds ids(2, "recirc_ids");
    RecircIds::Use use, other;
    {
        FailAllocation fail(1);
        EXPECT_THROW((void)ids.get(7, &use), std::bad_alloc);
    }
    EXPECT_EQ(use.slot(), RecircSlot::kNone);
    EXPECT_EQ(ids.size(), 0u);
    EXPECT_EQ(get(&ids, 7, &use), "");
    EXPECT_EQ(get(&ids, 8, &other), "") << "no slot is lost";
}

// Nor does a slot keep what it was before: a flow would be sent there.
TEST(Groups, AllocationFails) {
    const Group group = make_group({{PortSlot{1}, PortSlot{2}}}, PortSlot{3});
    for (size_t nth = 1;; nth++) {
        SCOPED_TRACE(nth);
        Groups groups(1, "groups");
        Groups::Use use;
        bool failed = false;
        {
            FailAllocation fail(nth);
            try {
                (void)groups.get(group, &use);
            } catch (const std::bad_alloc &) {
                failed = true;
            }
        }
        if (!failed) {
            EXPECT_GT(nth, 1u);
            break;
        }
        EXPECT_EQ(groups.size(), 0u);
        bool is_new = false;
        EXPECT_FALSE(groups.get(group, &use, &is_new));
        EXPECT_TRUE(is_new);
        EXPECT_EQ(groups.key(use.slot()), group);
    }
}

// Uses end where nobody could handle a failure.
TEST(RecircIds, EndsWithoutMemory) {
    constexpr uint16_t kMax = 100;
    RecircIds ids(kMax, "recirc_ids");
    std::vector<RecircIds::Use> uses(kMax);
    for (uint32_t i = 0; i < kMax; i++) {
        ASSERT_EQ(get(&ids, 1 + i, &uses[i]), "");
    }
    {
        FailAllocation count(0);
        for (RecircIds::Use &use : uses) {
            use = {};
        }
        EXPECT_EQ(count.n_allocations(), 0u);
    }
    FailAllocation count(0);
    EXPECT_EQ(ids.pool().begin_grace().size(), kMax);
    ids.pool().end_grace();
    EXPECT_EQ(count.n_allocations(), 0u);
}

// Random operations, beside a model of who uses what.
TEST(RecircIds, Model) {
    std::mt19937 random(1);
    constexpr uint16_t kMax = 8;
    RecircIds ids(kMax, "recirc_ids");
    std::vector<std::pair<uint32_t, RecircIds::Use>> uses(30);
    std::set<RecircSlot> waiting;  // For the end of a grace period.
    size_t n_refused = 0;
    for (int i = 0; i < 20'000; i++) {
        auto &[id, use] = uses[random() % uses.size()];
        const uint32_t what = random() % 8;
        if (what == 0) {
            const auto slots = ids.pool().begin_grace();
            waiting = {slots.begin(), slots.end()};
        } else if (what == 1) {
            ids.pool().end_grace();
            waiting.clear();
        } else if (what < 4) {
            id = 0;
            use = {};
        } else {
            id = 1 + random() % 12;
            if (!get(&ids, id, &use).empty()) {
                id = 0;
                n_refused++;
            }
        }
        std::map<uint32_t, RecircSlot> by_id;
        std::map<RecircSlot, uint32_t> by_slot;
        for (const auto &[some_id, some] : uses) {
            ASSERT_EQ(some.slot() == RecircSlot::kNone, some_id == 0);
            if (some_id) {
                ASSERT_EQ(
                    by_id.try_emplace(some_id, some.slot()).first->second,
                    some.slot());
                ASSERT_EQ(
                    by_slot.try_emplace(some.slot(), some_id).first->second,
                    some_id);
                ASSERT_FALSE(waiting.contains(some.slot()));
            }
        }
        ASSERT_EQ(ids.size(), by_id.size());
    }
    EXPECT_GT(n_refused, 100u);
    uses.clear();
}

}  // namespace
}  // namespace flowxlate::unit
