// SPDX-License-Identifier: Apache-2.0
// What xdp-offload/status says in its first line.
#include "flowxlate/report/health.h"
#include "bpf/abi/tunnel.h"

#include <gtest/gtest.h>

#include <functional>

#include "tests/unit/engine.h"

namespace flowxlate::unit {
namespace {

Port port_that_is_well() {
    Port port;
    port.name = "p1";
    port.device = device_that_transmits();
    return port;
}

TEST(Health, OfAPort) {
    struct Row {
        const char *name;
        std::function<void(Port *)> arrange;
        Level level;  // kOk: no problem.
        const char *text;
    };
    const Row rows[] = {
        {"well", [](Port *) {}, Level::kOk, ""},
        {"left out", [](Port *p) { p->left_out = kUserLeavesOut; }, Level::kOk,
         ""},
        {"left out, but not by the user",
         [](Port *p) { p->left_out = "the device is taken"; }, Level::kWarning,
         "p1: not offloaded: the device is taken"},
        {"without sockets", [](Port *p) { p->lost_sockets = true; },
         Level::kCritical,
         "p1: its device was away, and OVS receives nothing: remove the port "
         "from OVS and add it again"},
        {"without a device", [](Port *p) { p->device = {}; }, Level::kWarning,
         "p1: there is no such device"},
        {"link down", [](Port *p) { p->device.up = false; }, Level::kOk, ""},
        {"takes nothing",
         [](Port *p) {
             p->device.xdp_xmit = false;
             p->device.why_not = "GRO is off";
         },
         Level::kWarning, "p1: takes no frames from XDP: GRO is off"},
        {"nothing enters",
         [](Port *p) {
             p->in_kernel_datapath = true;
             p->device.tags_in_frame = false;
             p->device.why_no_tags = "tags are beside the frame";
         },
         Level::kWarning,
         "p1: no flow enters in XDP: tags are beside the frame"},
        {"limited", [](Port *p) { p->shaping.qdisc = "htb"; }, Level::kWarning,
         "p1: packets executed in XDP pass by its QoS (htb)"},
        {"loses frames",
         [](Port *p) {
             p->losses.look({{{false, ENETDOWN, 1200}}}, {});
         },
         Level::kWarning,
         "p1: redirected frames are lost: 1,200 with errno ENETDOWN, its "
         "device was down (\"ip link set DEVICE up\" helps)"},
        {"loses frames in several ways",
         [](Port *p) {
             p->losses.look({{{true, EIO, 2}, {false, ENETDOWN, 1}}}, {});
         },
         Level::kWarning,
         "p1: redirected frames to OVS are lost: 2 with errno EIO, OVS's "
         "socket refused them: Input/output error, and in other "
         "ways (xdp-offload/show)"},
        {"has lost none", [](Port *p) { p->losses.look({{}}, {}); },
         Level::kOk, ""},
        {"has lost frames while its link is down",
         [](Port *p) {
             p->losses.look({{{false, ENETDOWN, 1}}}, {});
             p->device.up = false;
         },
         Level::kOk, ""},
        {"a tunnel",
         [](Port *p) {
             p->device = {};
             p->device.exists = true;
             p->tunnel = XF_TUNNEL_GENEVE;
         },
         Level::kOk, ""},
    };
    for (auto &row : rows) {
        Port port = port_that_is_well();
        row.arrange(&port);
        const auto problem = problem_of(port);
        ASSERT_EQ(problem.has_value(), row.level != Level::kOk) << row.name;
        if (problem) {
            EXPECT_EQ(problem->level, row.level) << row.name;
            EXPECT_EQ(problem->text, row.text) << row.name;
        }
    }
}

TEST(Health, Verdict) {
    const Problem small{Level::kWarning, "a"}, large{Level::kCritical, "b"};
    const struct {
        Health health;
        const char *line;
    } rows[] = {
        {{4, 4, 12345, 992, 8, {}},
         "OK: 4 of 4 ports, 12,345 flows, 99.2 % of packets in XDP since "
         "start"},
        {{2, 1, 1, 0, 0, {}},
         "OK: 1 of 2 ports, 1 flow, no packets since start"},
        {{1, 0, 0, 0, 5, {small}},
         "WARNING: a; 0 of 1 port, 0 flows, 0.0 % of packets in XDP since "
         "start"},
        {{1, 1, 0, 5, 0, {small, large, small}},
         "CRITICAL: b (and 2 more); 1 of 1 port, 0 flows, 100.0 % of packets "
         "in XDP since start"},
    };
    for (auto &row : rows) {
        EXPECT_EQ(verdict(row.health), row.line);
    }
}

TEST(Health, SharesAreNotRoundedUp) {
    const struct {
        uint64_t part, rest;
        const char *text;
    } rows[] = {
        {0, 0, "-"},           {1, 0, "100.0 %"},
        {0, 1, "0.0 %"},       {999999, 1, "99.9 %"},
        {1, 2, "33.3 %"},      {UINT64_MAX, UINT64_MAX, "50.0 %"},
        {1, 1999999, "0.0 %"},
    };
    for (auto &row : rows) {
        EXPECT_EQ(share(row.part, row.rest), row.text);
    }
}

TEST(Health, NumbersAreGrouped) {
    const std::pair<uint64_t, const char *> rows[] = {
        {0, "0"},
        {999, "999"},
        {1000, "1,000"},
        {1234567, "1,234,567"},
        {UINT64_MAX, "18,446,744,073,709,551,615"}};
    for (auto [n, text] : rows) {
        EXPECT_EQ(grouped(n), text);
    }
}

// Ports that are not served: the last that were offered, each once.
TEST(Health, UnservedPorts) {
    UnservedPorts ports;
    ports.add({"p1", "system", "netdev", "first", false});
    ports.add({"p2", "system", "netdev", "another", true});
    ports.add({"p1", "system", "netdev", "second", true});
    ASSERT_EQ(ports.all().size(), 2U);
    EXPECT_EQ(ports.find("p1")->why, "second");
    ports.remove("p2");
    EXPECT_EQ(ports.find("p2"), nullptr);
    for (size_t i = 0; i < UnservedPorts::kMax; i++) {
        ports.add({"q" + std::to_string(i), "", "", "", false});
    }
    EXPECT_EQ(ports.all().size(), UnservedPorts::kMax);
    EXPECT_EQ(ports.find("p1"), nullptr);
}

}  // namespace
}  // namespace flowxlate::unit
