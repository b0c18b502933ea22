// SPDX-License-Identifier: Apache-2.0
// Slots are used again after a grace period, and not before.
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "flowxlate/engine/reclaimer.h"
#include "flowxlate/tables/slot_pool.h"
#include "tests/unit/alloc.h"
#include "tests/unit/conns.h"
#include "tests/unit/engine.h"

namespace flowxlate::unit {
namespace {

using Slots = std::vector<uint32_t>;

Slots take_all(SlotPool<uint32_t> *pool) {
    Slots taken;
    while (!pool->empty()) {
        EXPECT_EQ(pool->next(), pool->next());
        taken.push_back(pool->take());
    }
    return taken;
}

TEST(SlotPool, LowSlotsFirst) {
    SlotPool<uint32_t> pool(3);
    EXPECT_EQ(take_all(&pool), (Slots{1, 2, 3}));
    pool.give_back(2);
    pool.give_back(1);
    EXPECT_EQ(take_all(&pool), (Slots{1, 2}));
}

TEST(SlotPool, NoSlots) {
    SlotPool<uint32_t> pool(0);
    EXPECT_TRUE(pool.empty());
    EXPECT_TRUE(pool.begin_grace().empty());
    pool.end_grace();
    EXPECT_TRUE(pool.empty());
}

// What is retired while a period lasts waits for the next one.
TEST(SlotPool, PeriodsFollowEachOther) {
    SlotPool<uint32_t> pool(3);
    take_all(&pool);
    pool.retire(1);
    EXPECT_TRUE(pool.empty()) << "before a period";
    EXPECT_EQ(pool.begin_grace().size(), 1u);
    pool.retire(2);
    EXPECT_TRUE(pool.empty()) << "in it";
    pool.end_grace();
    EXPECT_EQ(take_all(&pool), Slots{1});
    EXPECT_EQ(pool.retired(), Slots{2});
    EXPECT_EQ(pool.begin_grace().size(), 1u);
    pool.end_grace();
    EXPECT_EQ(take_all(&pool), Slots{2});
}

// What could not be waited for waits on, with what has come since.
TEST(SlotPool, PeriodThatFails) {
    SlotPool<uint32_t> pool(3);
    take_all(&pool);
    pool.retire(3);
    EXPECT_EQ(pool.begin_grace().size(), 1u);
    pool.retire(1);
    const auto waiting = pool.begin_grace();
    EXPECT_EQ(Slots(waiting.begin(), waiting.end()), (Slots{3, 1}));
    EXPECT_TRUE(pool.empty());
    pool.end_grace();
    EXPECT_EQ(take_all(&pool), (Slots{1, 3}));
    pool.end_grace();
    EXPECT_TRUE(pool.empty()) << "over once only";
}

TEST(SlotPool, OnlyTheConstructorAllocates) {
    SlotPool<uint32_t> pool(100);
    FailAllocation count(0);
    for (int round = 0; round < 3; round++) {
        while (!pool.empty()) {
            pool.retire(pool.take());
            (void)pool.begin_grace();
        }
        pool.end_grace();
    }
    EXPECT_EQ(count.n_allocations(), 0u);
}

// -- All that has slots -----------------------------------------------------

struct World {
    World() { EXPECT_EQ(conns.table.open({}), 0); }

    Engine engine;
    Conns conns;
    Reclaimer reclaimer{&engine.tables.table, &engine.ports, &engine.binder,
                        &conns.table};
};

struct Kind {
    std::string what;
    std::function<void(World *)> use_and_leave;
};

void bind_and_leave(World *w, Shape shape) {
    Binding binding;
    Rule rule = Engine::rule(1, shape);
    ASSERT_FALSE(w->engine.binder.bind(&rule, &binding));
}

const Kind kKinds[] = {
    {"flow and subtable",
     [](World *w) {
         FlowSlot slot;
         const Megaflow m{XF_CLASS_IPV4, 0, 1};
         auto &table = w->engine.tables.table;
         ASSERT_FALSE(
             table.insert(m.cls, m.key(), m.mask(), output_to(1), &slot));
         table.remove(slot);
     }},
    {"port",
     [](World *w) {
         PortSlot slot;
         ASSERT_FALSE(w->engine.ports.new_slot(&slot));
         w->engine.ports.retire(slot);
     }},
    {"recirculation id", [](World *w) { bind_and_leave(w, Shape::kRecirc); }},
    {"group", [](World *w) { bind_and_leave(w, Shape::kGroup); }},
    {"connection",
     [](World *w) {
         const uint64_t handle = w->conns.put(connection(1));
         ASSERT_NE(handle, 0u);
         w->conns.table.del(handle);
     }},
};

TEST(Reclaimer, WaitsForEachKind) {
    for (auto &kind : kKinds) {
        SCOPED_TRACE(kind.what);
        World w;
        EXPECT_FALSE(w.reclaimer.begin()) << "nothing was retired";
        kind.use_and_leave(&w);
        EXPECT_TRUE(w.reclaimer.begin());
        EXPECT_TRUE(w.reclaimer.begin()) << "the first period has failed";
        w.reclaimer.end();
        EXPECT_FALSE(w.reclaimer.begin()) << "it is over";
    }
}

// Each kind is free again, and what was retired meanwhile is not.
TEST(Reclaimer, FreesWhatHasWaited) {
    World w;
    std::vector<PortSlot> ports;
    for (PortSlot slot; !w.engine.ports.new_slot(&slot);) {
        ports.push_back(slot);
    }
    w.engine.ports.retire(ports[0]);
    EXPECT_TRUE(w.reclaimer.begin());
    w.engine.ports.retire(ports[1]);
    w.reclaimer.end();
    PortSlot slot;
    ASSERT_FALSE(w.engine.ports.new_slot(&slot));
    EXPECT_EQ(slot, ports[0]);
    EXPECT_TRUE(w.engine.ports.new_slot(&slot));
}

}  // namespace
}  // namespace flowxlate::unit
