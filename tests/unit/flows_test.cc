// SPDX-License-Identifier: Apache-2.0
// Flows are put, modified, parked, asked and deleted, on tables in heap
// memory: what is in the tables then, and that each packet that the program
// has counted is told once.
#include "flowxlate/engine/flows.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <map>
#include <optional>
#include <random>

#include "tests/unit/alloc.h"
#include "tests/unit/engine.h"

namespace flowxlate::unit {
namespace {

constexpr Reject kGone{"parked", "flushed", ENODEV};

// Stories of one flow
// -------------------

enum class Do { kPut, kExecute, kTake, kPark, kRefuse, kRemove };

struct Step {
    Do what;
    Shape shape = Shape::kOutput;
    uint64_t packets = 0;  // Executed, or what is told.
    int error = 0;         // For kExecute: ENOENT, it is not in the tables.
};

Step put(Shape s) { return {Do::kPut, s}; }
Step execute(Shape s, uint64_t n, int error = 0) {
    return {Do::kExecute, s, n, error};
}
Step take(uint64_t n, int error = 0) {
    return {Do::kTake, Shape::kOutput, n, error};
}
Step park() { return {Do::kPark}; }
Step refuse() { return {Do::kRefuse}; }
Step remove(uint64_t n, int error = 0) {
    return {Do::kRemove, Shape::kOutput, n, error};
}

struct Story {
    const char *name;
    std::vector<Step> steps;
};
void PrintTo(const Story &s, std::ostream *os) { *os << s.name; }

using enum Shape;
const Story kStories[] = {
    {"PutAndRemoved",
     {execute(kOutput, 1, ENOENT), take(0, ENOENT), remove(0, ENOENT),
      put(kOutput), execute(kOutput, 3), take(3), take(0), execute(kOutput, 2),
      remove(2), execute(kOutput, 1, ENOENT), take(0, ENOENT)}},
    {"PutTwice",
     {put(kOutput), execute(kOutput, 3), put(kOutput), execute(kOutput, 4),
      take(7), remove(0)}},
    {"Modified",
     {put(kOutput), execute(kOutput, 3), put(kOtherOutput),
      execute(kOutput, 4), take(7), put(kRewrite), execute(kOutput, 1),
      put(kGroup), execute(kOutput, 1), put(kRecirc), execute(kOutput, 1),
      remove(3)}},
    {"AnotherMatch",
     {put(kOutput), execute(kOutput, 3), put(kOtherMask),
      execute(kOutput, 1, ENOENT), execute(kOtherMask, 4), take(7), remove(0),
      execute(kOtherMask, 1, ENOENT)}},
    {"Parked",
     {put(kOutput), execute(kOutput, 3), take(3), execute(kOutput, 4), park(),
      execute(kOutput, 1, ENOENT), take(4, ENODATA), take(0, ENODATA), park(),
      remove(0)}},
    {"ParkedAndPutAgain",
     {put(kOutput), execute(kOutput, 3), park(), put(kOtherMask),
      execute(kOtherMask, 4), take(7), remove(0)}},
    {"RefusedAfterPackets",
     {put(kOutput), execute(kOutput, 3), take(3), refuse(),
      execute(kOutput, 1, ENOENT), take(0, ENODATA), put(kOutput),
      execute(kOutput, 2), remove(2)}},
    {"RefusedBeforePackets", {put(kOutput), refuse(), take(0, ENOENT)}},
    {"RemovedWhileParked",
     {put(kOutput), execute(kOutput, 3), park(), remove(3), put(kOutput),
      take(0), remove(0)}},
};

class FlowStories : public testing::TestWithParam<Story> {};

TEST_P(FlowStories, EachPacketIsToldOnce) {
    constexpr uint32_t kId = 1;
    const Ufid ufid = Engine::ufid(kId);
    Engine e;
    size_t n = 0;
    for (const Step &step : GetParam().steps) {
        SCOPED_TRACE("step " + std::to_string(n++));
        FlowStats told;
        switch (step.what) {
            case Do::kPut:
                EXPECT_FALSE(e.put(kId, step.shape));
                break;
            case Do::kExecute:
                EXPECT_EQ(e.execute(kId, step.shape, step.packets),
                          !step.error);
                break;
            case Do::kTake:
                EXPECT_EQ(e.flows.take(ufid, &told), step.error);
                break;
            case Do::kPark:
                e.flows.park(ufid, kGone);
                break;
            case Do::kRefuse:
                e.flows.refuse(ufid, kGone);
                break;
            case Do::kRemove:
                EXPECT_EQ(e.flows.remove(ufid, &told), step.error);
                break;
        }
        if (step.what == Do::kTake || step.what == Do::kRemove) {
            EXPECT_EQ(told.packets, step.packets);
            EXPECT_EQ(told.bytes, step.packets * 100);
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Table, FlowStories, testing::ValuesIn(kStories),
                         [](const auto &info) {
                             return std::string(info.param.name);
                         });

// Failures at each step
// ---------------------

constexpr uint32_t kFirstFiller = 1000;

struct Fault {
    const char *name;
    Sizes sizes;
    Shape shape;  // That meets it.
    // Makes it so.
    std::function<void(Engine *)> arrange;
    const char *reason;
};
void PrintTo(const Fault &f, std::ostream *os) { *os << f.name; }

void fill(Engine *e, const std::function<Reject(uint32_t id)> &put) {
    uint32_t id = kFirstFiller;
    while (!put(id)) {
        id++;
    }
    e->flows.refuse(Engine::ufid(id), kGone);
}

// Flows of other masks, until there are no more.
Reject put_another_mask(Engine *e, uint32_t id) {
    Rule r = Engine::rule(id, kOutput);
    const Megaflow m{XF_CLASS_IPV4, 2 + id - kFirstFiller, id};
    SubtableSlot mask;
    r.match.key = m.key();
    r.match.mask = m.mask();
    return e->flows.put(Engine::ufid(id), &r, &mask);
}

void use_all_recirc_ids(Engine *e) {
    for (uint32_t id = kFirstFiller;; id++) {
        Rule r = Engine::rule(id, kRecirc);
        e->others.push_back(std::make_unique<Binding>());
        if (e->binder.bind(&r, e->others.back().get())) {
            return;
        }
    }
}

const Fault kFaults[] = {
    {"NoFlow",
     {.flows = 8},
     kOutput,
     [](Engine *e) { fill(e, [=](auto id) { return e->put(id, kOutput); }); },
     "table/flows"},
    {"NoFlowForAnotherMatch",
     {.flows = 8},
     kOtherMask,
     [](Engine *e) { fill(e, [=](auto id) { return e->put(id, kOutput); }); },
     "table/flows"},
    {"NoBucket",
     {.buckets = 1, .flows = 64},
     kOtherMask,
     [](Engine *e) { fill(e, [=](auto id) { return e->put(id, kOutput); }); },
     "table/buckets"},
    {"NoMask",
     {.subtables = 5},
     kOtherMask,
     [](Engine *e) {
         fill(e, [=](auto id) { return put_another_mask(e, id); });
     },
     "table/masks"},
    {"NoRewrite",
     {.rewrites = 4},
     kRewrite,
     [](Engine *e) { fill(e, [=](auto id) { return e->put(id, kRewrite); }); },
     "table/rewrites"},
    {"NoGroup",
     {},
     kGroup,
     [](Engine *e) { e->datapath.takes_groups = false; },
     "table/groups"},
    {"NoGroupsDevices",
     {},
     kGroup,
     [](Engine *e) {
         for (uint16_t i = 1; i < XF_MAX_GROUPS; i++) {
             e->binder.add_devices(GroupSlot{i}, Fd());
         }
     },
     "table/groups"},
    {"NoRecircId", {}, kRecirc, use_all_recirc_ids, "table/recirc_ids"},
    {"NoOutput",
     {},
     kOtherOutput,
     [](Engine *e) { (void)e->ports.remove(*e->ports.find(kOther)); },
     "output/not_an_xdp_port"},
    {"NoInput",
     {},
     kOtherOutput,
     [](Engine *e) { e->ports.find(kIn)->device.exists = false; },
     "input/no_device"},
};

class FlowFaults : public testing::TestWithParam<Fault> {};

// A flow that is refused leaves no trace.
TEST_P(FlowFaults, NewFlow) {
    const Fault &fault = GetParam();
    Engine e(fault.sizes);
    fault.arrange(&e);
    const size_t n_flows = e.tables.table.n_flows();
    const size_t n_masks = e.tables.table.n_subtables();

    const Reject r = e.put(1, fault.shape);
    ASSERT_TRUE(r);
    EXPECT_EQ(r.name(), fault.reason);
    EXPECT_EQ(e.find(1, fault.shape), FlowSlot::kNone);
    e.flows.refuse(Engine::ufid(1), r);
    FlowStats told;
    EXPECT_EQ(e.flows.take(Engine::ufid(1), &told), ENOENT);
    EXPECT_EQ(e.tables.table.n_flows(), n_flows);
    EXPECT_EQ(e.tables.table.n_subtables(), n_masks);
}

// One whose modification is refused goes on as it was, until it is parked.
TEST_P(FlowFaults, Modification) {
    const Fault &fault = GetParam();
    const Ufid ufid = Engine::ufid(1);
    const Shape before = fault.shape == kOutput ? kOtherOutput : kOutput;
    Engine e(fault.sizes);
    ASSERT_FALSE(e.put(1, before));
    EXPECT_TRUE(e.execute(1, before, 3));
    const Port *in = e.ports.find(kIn);
    fault.arrange(&e);
    const size_t n_flows = e.tables.table.n_flows();

    const Reject r = e.put(1, fault.shape);
    ASSERT_TRUE(r);
    EXPECT_EQ(r.name(), fault.reason);
    EXPECT_EQ(e.tables.table.n_flows(), n_flows);
    EXPECT_TRUE(e.execute(1, before, 4));
    FlowStats told;
    EXPECT_EQ(e.flows.take(ufid, &told), 0);
    EXPECT_EQ(told.packets, 7u);

    EXPECT_TRUE(e.execute(1, before, 5));
    e.flows.refuse(ufid, r);
    EXPECT_EQ(e.find(1, before), FlowSlot::kNone);
    EXPECT_EQ(e.find(1, fault.shape), FlowSlot::kNone);
    EXPECT_EQ(e.tables.table.n_flows(), n_flows - 1);
    EXPECT_EQ(in->n_flows, n_flows - 1);
    EXPECT_EQ(e.flows.remove(ufid, &told), 0);
    EXPECT_EQ(told.packets, 5u);
    EXPECT_EQ(e.flows.past().packets, 12u);
}

INSTANTIATE_TEST_SUITE_P(Table, FlowFaults, testing::ValuesIn(kFaults),
                         [](const auto &info) {
                             return std::string(info.param.name);
                         });

// A new one for which there is no memory is not known afterwards, whichever
// allocation has failed.
TEST(Flows, NewFlowWithoutMemory) {
    size_t nth = 1;
    for (bool failed = true; failed; nth++) {
        ASSERT_LT(nth, 50u);
        Engine e;
        failed = false;
        Rule rule = Engine::rule(1, Shape::kGroup);
        SubtableSlot mask;
        {
            FailAllocation fail(nth);
            try {
                (void)e.flows.put(Engine::ufid(1), &rule, &mask);
            } catch (const std::bad_alloc &) {
                failed = true;
            }
        }
        EXPECT_EQ(e.flows.by_ufid().size(), failed ? 0u : 1u) << nth;
        EXPECT_EQ(e.tables.table.n_flows(), failed ? 0u : 1u) << nth;
    }
    EXPECT_GT(nth, 2u) << "nothing has failed";
}

// The program has a walk for each slot that a recirculation id can get.
TEST(Binder, RecirculationSlotsFit) {
    Engine e;
    std::vector<Binding> bindings;
    Reject r;
    for (uint32_t id = 1; !r; id++) {
        Rule rule = Engine::rule(id, Shape::kRecirc);
        r = e.binder.bind(&rule, &bindings.emplace_back());
    }
    EXPECT_EQ(r.name(), "table/recirc_ids");
    uint32_t highest = 0;
    for (auto &b : bindings) {
        highest = std::max<uint32_t>(highest, index(b.next.slot()));
    }
    EXPECT_EQ(highest, XF_MAX_RECIRCS - 1U);
}

// Many flows
// ----------

// What the program has counted for a flow that is known, and what of it has
// been told.
struct Books {
    uint64_t counted = 0, told = 0;
};

// A packet counts once in packets(), whether its flows are there still or not,
// and however many it passes.
TEST(Flows, PacketsCountOnce) {
    Engine e;
    ASSERT_FALSE(e.put(1, kRecirc));
    ASSERT_FALSE(e.put(2, kOutput));
    Rule behind = Engine::rule(3, kOutput);
    behind.match.recirc_id = 1;
    SubtableSlot mask;
    ASSERT_FALSE(e.flows.put(Engine::ufid(3), &behind, &mask));
    EXPECT_TRUE(e.execute(1, kRecirc, 5));
    EXPECT_TRUE(e.execute(2, kOutput, 3));
    Flow *second = e.flows.find(Engine::ufid(3));
    e.tables.stats(0, second->slot).packets += 5;
    EXPECT_EQ(e.flows.entered().packets, 8U);
    EXPECT_FALSE(second->enters);  // Nor does its port count them twice.
    EXPECT_TRUE(e.flows.find(Engine::ufid(1))->enters);

    FlowStats told;
    EXPECT_EQ(e.flows.remove(Engine::ufid(3), &told), 0);
    EXPECT_EQ(told.packets, 5U);
    EXPECT_EQ(e.flows.entered().packets, 8U);
    EXPECT_EQ(e.flows.remove(Engine::ufid(1), &told), 0);
    EXPECT_EQ(e.flows.entered().packets, 8U);
    e.flows.park(Engine::ufid(2), kGone);
    EXPECT_EQ(e.flows.entered().packets, 8U);
}

TEST(Flows, RandomStoriesAddUp) {
    constexpr uint32_t kFlows = 12;
    constexpr int kSteps = 20'000;
    constexpr Shape kShapes[] = {kOutput, kOtherOutput, kRewrite,
                                 kGroup,  kRecirc,      kOtherMask};
    std::mt19937_64 random(test_seed());
    // As scarce as can be.
    Engine e({.buckets = 1, .flows = 10, .subtables = 3, .rewrites = 3});
    std::map<uint32_t, Books> books;
    std::map<uint32_t, Shape> shapes;  // Of those in the tables.
    uint64_t n_refused = 0, removed = 0;

    for (int i = 0; i < kSteps; i++) {
        const auto id = static_cast<uint32_t>(1 + random() % kFlows);
        const Ufid ufid = Engine::ufid(id);
        const Shape shape = kShapes[random() % std::size(kShapes)];
        FlowStats told;
        e.datapath.takes_groups = random() % 4;
        switch (random() % 8) {
            case 0:
            case 1:
                if (auto r = e.put(id, shape)) {
                    n_refused++;
                    e.flows.refuse(ufid, r);
                    shapes.erase(id);
                } else {
                    shapes[id] = shape;
                }
                break;
            case 2:
                e.flows.park(ufid, kGone);
                shapes.erase(id);
                break;
            case 3:
                (void)e.flows.take(ufid, &told);
                books[id].told += told.packets;
                break;
            case 4:
                if (!e.flows.remove(ufid, &told)) {
                    EXPECT_EQ(books[id].told + told.packets,
                              books[id].counted);
                    removed += books[id].counted;
                    books.erase(id);
                }
                shapes.erase(id);
                break;
            case 5:
                e.reclaim();
                break;
            default:
                if (shapes.contains(id)) {
                    EXPECT_TRUE(e.execute(id, shapes[id], i));
                    books[id].counted += i;
                }
        }
        ASSERT_EQ(e.tables.table.n_flows(), shapes.size());
        ASSERT_EQ(e.ports.find(kIn)->n_flows, shapes.size());
    }
    for (auto &[ufid, flow] : e.flows.by_ufid()) {
        uint32_t id;
        std::memcpy(&id, ufid.bytes.data(), sizeof id);
        EXPECT_EQ(e.flows.total(flow).packets, books[id].counted);
    }
    EXPECT_EQ(e.flows.past().packets, removed);
    EXPECT_EQ(e.ports.find(kIn)->past.packets, removed);
    EXPECT_GT(n_refused, 100u);  // Or nothing was tested.
    EXPECT_GT(removed, 100u);
}

TEST(Flows, OfAPortThatGoes) {
    Engine e;
    ASSERT_FALSE(e.put(1, kOutput));
    ASSERT_FALSE(e.put(2, kOtherOutput));
    EXPECT_TRUE(e.execute(1, kOutput, 3));
    EXPECT_TRUE(e.execute(2, kOtherOutput, 4));

    const PortSlot slot = e.ports.find(kOther)->slot;
    e.flows.park_all_of(slot, kGone);
    e.flows.forget_port(slot);
    (void)e.ports.remove(*e.ports.at(slot));
    EXPECT_NE(e.find(1, kOutput), FlowSlot::kNone);
    EXPECT_EQ(e.find(2, kOtherOutput), FlowSlot::kNone);
    FlowStats told;
    EXPECT_EQ(e.flows.take(Engine::ufid(1), &told), 0);
    EXPECT_EQ(e.flows.take(Engine::ufid(2), &told), ENODATA);
    EXPECT_EQ(told.packets, 4u);

    const PortSlot in = e.ports.find(kIn)->slot;
    e.flows.park_entering(in, kGone);
    e.flows.forget_port(in);
    (void)e.ports.remove(*e.ports.at(in));
    EXPECT_EQ(e.tables.table.n_flows(), 0u);
    EXPECT_EQ(e.flows.remove(Engine::ufid(1), &told), 0);
    EXPECT_EQ(e.flows.remove(Engine::ufid(2), &told), 0);
    EXPECT_EQ(e.flows.past().packets, 7u);
}

// Waiting for an output port is no parking.
TEST(Flows, WhoseOutputCannotTransmit) {
    Engine e;
    ASSERT_FALSE(e.put(1, kOutput));
    Port *out = e.ports.find(kOut);
    DeviceState down = device_that_transmits();
    down.up = false;
    EXPECT_TRUE(e.ports.apply(*out, down, true, {}).no_output);
    FlowStats told;
    EXPECT_EQ(e.flows.take(Engine::ufid(1), &told), ENODATA);
    EXPECT_EQ(e.tables.table.n_flows(), 1u);
    (void)e.ports.apply(*out, device_that_transmits(), true, {});
    EXPECT_EQ(e.flows.take(Engine::ufid(1), &told), 0);
}

// What XDP would pass on has no other copy there.
TEST(Flows, OfTheKernelDatapath) {
    Engine e;
    e.ports.find(kIn)->in_kernel_datapath = true;
    SubtableSlot mask;
    Rule up_to_100 = Engine::rule(1, kOutput);
    up_to_100.actions.rewrite.max_in = 100;
    EXPECT_EQ(e.flows.put(Engine::ufid(1), &up_to_100, &mask).name(),
              "action/check_pkt_len");
    EXPECT_EQ(e.put(2, Shape::kRecirc).name(), "action/recirc");
    EXPECT_FALSE(e.put(3, kOutput));
    e.ports.find(kIn)->in_kernel_datapath = false;
    up_to_100 = Engine::rule(1, kOutput);
    up_to_100.actions.rewrite.max_in = 100;
    EXPECT_FALSE(e.flows.put(Engine::ufid(1), &up_to_100, &mask));
}

// TC has the flows too, so what the kernel datapath refuses can be put; but
// tags must be in the frame, and nobody may come before TC.
TEST(Flows, OfTc) {
    Engine e;
    Port &in = *e.ports.find(kIn);
    in.of_tc = true;
    e.ports.find(kOut)->device.xdp_xmit = false;
    const struct {
        const char *name;
        bool tags_in_frame;
        const char *others;
        const char *refused;
    } kRows[] = {
        {"as it should be", true, "", ""},
        {"tags beside the frame", false, "",
         "input/vlan_tags_beside_the_frame"},
        {"a program before TC", true, "tcx", "input/handled_before_ovs"},
    };
    uint32_t id = 1;
    for (const auto &row : kRows) {
        SCOPED_TRACE(row.name);
        in.device.tags_in_frame = row.tags_in_frame;
        in.device.why_no_tags = row.tags_in_frame ? "" : "tags are beside it";
        in.device.entrance.others = row.others;
        const Reject r = e.put(id++, kOutput);
        EXPECT_EQ(r ? r.name() : "", row.refused);
        EXPECT_EQ(in.why_no_entry().empty(), !*row.refused);
    }
}

// A flow puts packets into a tunnel, and leaves by another port.
TEST(Flows, TunnelThatIsLeftOut) {
    Engine e;
    Port *tunnel = e.add_tunnel(Ifindex{-5});
    auto put = [&] {
        Rule r = Engine::rule(1, Shape::kOutput);
        r.into = tunnel->ifindex;
        SubtableSlot mask;
        return e.flows.put(Engine::ufid(1), &r, &mask);
    };
    ASSERT_FALSE(put());
    ASSERT_NE(e.find(1, Shape::kOutput), FlowSlot::kNone);

    e.ports.leave_out(*tunnel, "the user says so", {});
    e.flows.park_all_of(tunnel->slot, {"parked", "left_out", ENODEV});
    EXPECT_EQ(e.find(1, Shape::kOutput), FlowSlot::kNone);
    EXPECT_EQ(put().name(), "output/left_out");

    e.ports.take_in(*tunnel, {});
    EXPECT_FALSE(put());
    EXPECT_NE(e.find(1, Shape::kOutput), FlowSlot::kNone);
}

}  // namespace
}  // namespace flowxlate::unit
