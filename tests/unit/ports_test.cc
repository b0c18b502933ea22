// SPDX-License-Identifier: Apache-2.0
// What a port's device means for flows, the program, the worker and OVS.
#include "flowxlate/engine/ports.h"
#include "bpf/abi/tunnel.h"

#include <gtest/gtest.h>

#include "tests/unit/engine.h"

namespace flowxlate::unit {
namespace {

DeviceState gone() { return {}; }
DeviceState down() {
    auto s = device_that_transmits();
    s.up = false;
    return s;
}
DeviceState only_generic() {
    auto s = device_that_transmits();
    s.xdp_xmit = false;
    s.why_not = "GRO is off";
    return s;
}
DeviceState tags_beside() {
    auto s = device_that_transmits();
    s.tags_in_frame = false;
    s.why_no_tags = "they are beside the frame";
    return s;
}

DeviceState veth() {
    auto s = device_that_transmits();
    s.is_nic = false;
    return s;
}

DeviceState makes_sums() {
    auto s = device_that_transmits();
    s.makes_sums = true;
    return s;
}

constexpr uint32_t kBoth =
    XF_PORT_TX_NATIVE | XF_PORT_TX_GENERIC | XF_PORT_TX_SKB;

struct Row {
    const char *name;
    bool in_kernel_datapath;
    DeviceState before, after;
    bool was_wanted;  // Flows were refused for its state.
    uint32_t flags;   // Then.
    Ports::Effect effect;
    bool flows_lost, offer;  // Of OVS is asked.
};
void PrintTo(const Row &r, std::ostream *os) { *os << r.name; }

using Effect = Ports::Effect;
const auto kGood = device_that_transmits();
const Row kRows[] = {
    {"Nothing", false, kGood, kGood, true, kBoth, {}, false, false},
    {"Veth", false, kGood, veth(), true, kBoth, {}, false, false},
    {"Down",
     false,
     kGood,
     down(),
     false,
     0,
     {.no_output = true},
     false,
     false},
    {"Up", false, down(), kGood, true, kBoth, {}, false, false},
    {"OnlyGeneric",
     false,
     kGood,
     only_generic(),
     false,
     XF_PORT_TX_GENERIC | XF_PORT_TX_SKB,
     {.no_output = true},
     false,
     false},
    {"Gone",
     false,
     kGood,
     gone(),
     false,
     0,
     {.no_device = true, .no_output = true},
     false,
     false},
    {"GoneWhileDown",
     false,
     down(),
     gone(),
     false,
     0,
     {.no_device = true},
     false,
     false},
    {"Back", false, gone(), kGood, true, kBoth, {}, false, false},
    {"TagsBeside",
     false,
     kGood,
     tags_beside(),
     false,
     kBoth,
     {},
     false,
     false},
    {"KernelNothing", true, kGood, kGood, true, kBoth, {}, false, false},
    {"KernelDown",
     true,
     kGood,
     down(),
     false,
     0,
     {.no_output = true},
     true,
     false},
    {"KernelMakesNoSums",
     true,
     makes_sums(),
     kGood,
     true,
     kBoth,
     {},
     false,
     false},
    {"KernelUp", true, down(), kGood, false, kBoth, {}, false, false},
    {"KernelUpAndWanted", true, down(), kGood, true, kBoth, {}, false, true},
    {"KernelTagsBeside",
     true,
     kGood,
     tags_beside(),
     false,
     kBoth,
     {.flush = true},
     true,
     false},
    {"KernelTagsInFrame",
     true,
     tags_beside(),
     kGood,
     true,
     kBoth,
     {.flush = true},
     true,
     true},
    {"KernelGone",
     true,
     kGood,
     gone(),
     false,
     0,
     {.no_device = true, .no_output = true},
     true,
     false},
};

class PortStates : public testing::TestWithParam<Row> {};

TEST_P(PortStates, Change) {
    const Row &row = GetParam();
    FakeDatapath datapath;
    Changes changes;
    Ports ports(&datapath, true, &changes);
    Port port;
    EXPECT_FALSE(ports.new_slot(&port.slot));
    port.in_kernel_datapath = row.in_kernel_datapath;
    (void)ports.apply(port, row.before, true, {});
    port.flows_lost.wanted = port.offer.wanted = false;
    port.was_wanted = row.was_wanted;
    port.n_flows = 3;
    changes = {};

    const auto effect = ports.apply(port, row.after, true, {});
    EXPECT_EQ(effect.no_device, row.effect.no_device);
    EXPECT_EQ(effect.flush, row.effect.flush);
    EXPECT_EQ(effect.no_output, row.effect.no_output);
    EXPECT_EQ(datapath.port(port.slot).flags, row.flags);
    EXPECT_EQ(datapath.port(port.slot).is_no_nic, !row.after.is_nic);
    EXPECT_EQ(port.flows_lost.wanted, row.flows_lost);
    EXPECT_EQ(port.offer.wanted, row.offer);
    EXPECT_EQ(changes.wakes_worker, row.flows_lost || row.offer);
}

INSTANTIATE_TEST_SUITE_P(Table, PortStates, testing::ValuesIn(kRows),
                         [](const auto &info) {
                             return std::string(info.param.name);
                         });

// A port that the user leaves out: no flow enters or leaves, whatever its
// device says meanwhile, and the kernel datapath takes its flows back.
TEST(Ports, LeftOut) {
    for (const bool in_kernel : {false, true}) {
        FakeDatapath datapath;
        Changes changes;
        Ports ports(&datapath, true, &changes);
        Port port, in;
        port.in_kernel_datapath = in_kernel;
        EXPECT_FALSE(ports.new_slot(&port.slot));
        (void)ports.apply(port, kGood, true, {});
        const auto flags = [&] { return datapath.port(port.slot).flags; };
        EXPECT_TRUE(port.takes_frames_from(in));

        ports.leave_out(port, "the user says so", {});
        EXPECT_EQ(port.flows_lost.wanted, in_kernel);
        EXPECT_EQ(flags(), 0);
        EXPECT_FALSE(port.takes_frames_from(in));
        EXPECT_EQ(port.why_no_entry(), "left out, the user says so");
        EXPECT_EQ(port.why_no_output(), "left out, the user says so");
        (void)ports.apply(port, down(), true, {});
        (void)ports.apply(port, kGood, true, {});
        EXPECT_EQ(flags(), 0);
        EXPECT_FALSE(port.offer.wanted);

        const auto events = ports.n_events();
        ports.take_in(port, {});
        EXPECT_GT(ports.n_events(), events);
        EXPECT_EQ(port.offer.wanted, in_kernel);
        EXPECT_EQ(flags(), kBoth);
        EXPECT_TRUE(port.takes_frames_from(in));
        EXPECT_EQ(port.why_no_entry(), "");
        EXPECT_EQ(port.why_no_output(), "");
    }
}

// A flow out of a tunnel, or into one, of which the tunnel is left out.
TEST(Ports, LeftOutTunnel) {
    Port tunnel, in;
    tunnel.tunnel = XF_TUNNEL_GENEVE;
    EXPECT_TRUE(tunnel.takes_frames_from(in));
    tunnel.left_out = "the user says so";
    EXPECT_FALSE(tunnel.takes_frames_from(in));
}

TEST(Ports, SlotsComeBackAfterAGracePeriod) {
    FakeDatapath datapath;
    Changes changes;
    Ports ports(&datapath, true, &changes);
    PortSlot slot;
    for (size_t i = 1; i < XF_MAX_PORTS; i++) {
        ASSERT_FALSE(ports.new_slot(&slot));
        ASSERT_EQ(index(slot), i);
    }
    EXPECT_EQ(ports.new_slot(&slot).name(), "table/ports");

    ports.retire(PortSlot{5});
    EXPECT_TRUE(changes.wakes_worker);
    EXPECT_TRUE(ports.new_slot(&slot));
    EXPECT_TRUE(ports.begin_grace());
    EXPECT_TRUE(ports.new_slot(&slot));
    pass_grace(&ports);
    ASSERT_FALSE(ports.new_slot(&slot));
    EXPECT_EQ(slot, PortSlot{5});
    EXPECT_TRUE(ports.new_slot(&slot));
}

TEST(Ports, SlotsThatAProgramNames) {
    FakeDatapath datapath;
    Changes changes;
    const Ports ports(&datapath, true, &changes);
    for (uint32_t slot :
         {0U, 1U, XF_MAX_PORTS - 1U, XF_MAX_PORTS + 0U, UINT32_MAX}) {
        EXPECT_EQ(ports.at(PortSlot{slot}), nullptr) << slot;
    }
}

}  // namespace
}  // namespace flowxlate::unit
