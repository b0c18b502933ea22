// SPDX-License-Identifier: Apache-2.0
// The JSON that docs/operating.md promises to programs.
#include <gtest/gtest.h>

#include <cstdint>
#include <nlohmann/json.hpp>
#include <set>

#include "bpf/abi/counters.h"
#include "flowxlate/report/stats_json.h"
#include "flowxlate/translate/reasons.h"

namespace flowxlate::test {
namespace {

using nlohmann::json;

Stats some_stats() {
    PortStats port;
    port.name = "p1";
    port.ifindex = 4;
    port.type = "afxdp";
    port.datapath = "netdev";
    port.mode = "native";
    port.attached = "link";
    port.misses_to = "af_xdp";
    port.left_out = true;
    port.limits = "QoS (htb)";
    port.up = true;
    port.why_no_transmit = "the veth peer has neither GRO nor a program";
    port.max_frame = 1514;
    port.enters = true;
    port.flows = 2;
    port.waiting = 1;
    port.executed = {10, 1000, 5, 0, 3, 4};
    port.hits = 10;
    port.passed[XF_MISS_NO_FLOW] = 7;
    port.passed[XF_MISS_TRUNCATED] = 100;
    port.searches = 8;
    port.lost = {{"ENETDOWN", 9}};
    port.lost_to_ovs = CountsByErrno{};
    Stats s;
    s.start_ms = 1000;
    s.now_ms = 2500;
    s.ports = {port};
    s.tables.flows = 2;
    s.tables.masks_by_class[XF_CLASS_IPV6] = 1;
    s.executed = {UINT64_MAX, 1ULL << 53, 0, 0, 1, 2};
    s.placed = 3;
    s.refused = {{"table/masks", 5}};
    s.plugin_version = "1.2.3";
    s.unexecuted = {{"waiting/cannot_transmit", 4}};
    s.handover_phase = "sampling";
    s.handover_ports = 2;
    return s;
}

// Every member, where it is and what type it has.
TEST(StatsJson, Schema) {
    const auto j = json::parse(to_json(some_stats()));
    const struct {
        const char *path;
        json value;
    } rows[] = {
        {"/version", 1},
        {"/plugin_version", "1.2.3"},
        {"/start_ms", 1000},
        {"/now_ms", 2500},
        {"/ports/0/name", "p1"},
        {"/ports/0/ifindex", 4},
        {"/ports/0/type", "afxdp"},
        {"/ports/0/datapath", "netdev"},
        {"/ports/0/mode", "native"},
        {"/ports/0/attached", "link"},
        {"/ports/0/misses_to", "af_xdp"},
        {"/ports/0/left_out", true},
        {"/ports/0/limits_passed_by", "QoS (htb)"},
        {"/ports/0/up", true},
        {"/ports/0/transmits", false},
        {"/ports/0/why_no_transmit",
         "the veth peer has neither GRO nor a program"},
        {"/ports/0/max_frame_bytes", 1514},
        {"/ports/0/enters", true},
        {"/ports/0/why_no_enter", ""},
        {"/ports/0/flows", 2},
        {"/ports/0/waiting", 1},
        {"/ports/0/executed/packets", 10},
        {"/ports/0/executed/bytes", 1000},
        {"/ports/0/executed/dropped_packets", 3},
        {"/ports/0/executed/tracked_packets", 4},
        {"/ports/0/passed/no-flow", 7},
        {"/ports/0/passed/internal", 0},
        {"/ports/0/flow_cache/lookups", 17},
        {"/ports/0/flow_cache/searches", 8},
        {"/ports/0/redirect_errors/ENETDOWN", 9},
        {"/ports/0/redirect_errors_to_ovs", json::object()},
        {"/tables/flows", 2},
        {"/tables/max_flows", 0},
        {"/tables/parked_flows", 0},
        {"/tables/refused_flows", 0},
        {"/tables/masks", 0},
        {"/tables/max_masks", 512},
        {"/tables/masks_by_class/ipv6", 1},
        {"/tables/buckets", 0},
        {"/tables/bucket_entries", 15},
        {"/tables/rewrites", 0},
        {"/tables/memory_bytes", 0},
        {"/tables/rows", 0},
        {"/tables/sharing_cpus", 0},
        {"/since_start/executed/packets", UINT64_MAX},  // As it is.
        {"/since_start/executed/bytes", 1ULL << 53},
        {"/since_start/executed/dropped_packets", 1},
        {"/since_start/executed/tracked_packets", 2},
        {"/since_start/placed_flows", 3},
        {"/since_start/evicted_masks", 0},
        {"/since_start/evicted_flows", 0},
        {"/since_start/late_removals", 0},
        {"/since_start/refused/table~1masks", 5},
        {"/unexecuted_flows/waiting~1cannot_transmit", 4},
        {"/handover/phase", "sampling"},
        {"/handover/ports", 2},
        {"/why_redirect_errors_unknown", ""},
    };
    std::set<std::string> known;
    for (auto &row : rows) {
        EXPECT_EQ(j.at(json::json_pointer(row.path)), row.value) << row.path;
        known.insert(row.path);
    }
    // No member without a row, but for those that are one for each of many.
    const auto flat = j.flatten();
    for (auto &[path, value] : flat.items()) {
        if (!path.starts_with("/ports/0/passed/")
            && !path.starts_with("/tables/masks_by_class/")) {
            EXPECT_TRUE(known.count(path)) << path;
        }
    }
}

TEST(StatsJson, EveryReasonIsThere) {
    const auto j = json::parse(to_json(some_stats()));
    const auto &passed = j["ports"][0]["passed"];
    EXPECT_EQ(passed.size(), size_t{XF_N_MISSES});
    for (int reason = 0; reason < XF_N_MISSES; reason++) {
        EXPECT_TRUE(passed.contains(miss_name(xf_miss(reason))))
            << miss_name(xf_miss(reason));
    }
}

// Packets that do not parse are never looked up.
TEST(StatsJson, Lookups) {
    const std::set<xf_miss> not_parsed = {
        XF_MISS_TRUNCATED, XF_MISS_ETHERTYPE,  XF_MISS_ARP,
        XF_MISS_IP_HEADER, XF_MISS_IP_OPTIONS, XF_MISS_ND_OPTIONS};
    for (int reason = 0; reason < XF_N_MISSES; reason++) {
        PortStats port;
        port.hits = 1;
        port.passed[reason] = 10;
        EXPECT_EQ(lookups(port), not_parsed.count(xf_miss(reason)) ? 1U : 11U)
            << miss_name(xf_miss(reason));
    }
}

// Not known is null, which is not {}.
TEST(StatsJson, LossesThatNobodyCounts) {
    Stats s = some_stats();
    s.ports[0].lost = s.ports[0].lost_to_ovs = std::nullopt;
    s.why_losses_unknown = "no BTF";
    const auto j = json::parse(to_json(s));
    EXPECT_EQ(j["ports"][0]["redirect_errors"], nullptr);
    EXPECT_EQ(j["ports"][0]["redirect_errors_to_ovs"], nullptr);
    EXPECT_EQ(j["why_redirect_errors_unknown"], "no BTF");
}

TEST(StatsJson, NothingYet) {
    const auto j = json::parse(to_json(Stats{}));
    EXPECT_EQ(j["ports"], json::array());
    EXPECT_EQ(j["since_start"]["refused"], json::object());
    EXPECT_EQ(json::parse(to_json(TopFlows{}))["flows"], json::array());
}

// The kernel lets a device have any name without a space or a slash.
TEST(StatsJson, StrangeNames) {
    const struct {
        const char *name, *back;
    } rows[] = {
        {"a\"b\\c", "a\"b\\c"},
        {"caf\xc3\xa9", "caf\xc3\xa9"},
        {"\xff\xfe", "\xef\xbf\xbd\xef\xbf\xbd"},  // Not UTF-8: replaced.
        {"\x01", "\x01"},
    };
    for (auto &row : rows) {
        Stats s = some_stats();
        s.ports[0].name = row.name;
        EXPECT_EQ(json::parse(to_json(s))["ports"][0]["name"], row.back);
    }
}

TEST(StatsJson, TopFlows) {
    FlowReport f;
    f.ufid.bytes.fill(0xab);
    f.in_port = "p1";
    f.state = "waiting";
    f.stats = {3, 180, 77, 0, 0};
    f.growth = {1, 60};
    f.used_ms = 1234;
    f.text = "in_port(p1), actions:drop";
    EXPECT_EQ(to_json(TopFlows{1, 2, {f}}),
              R"({"version":1,"since_ms":1,"now_ms":2,"flows":[)"
              R"({"ufid":"abababab-abab-abab-abab-abababababab",)"
              R"("in_port":"p1","state":"waiting","packets":3,"bytes":180,)"
              R"("new_packets":1,"new_bytes":60,"used_ms":1234,)"
              R"("text":"in_port(p1), actions:drop"}]})"
              "\n");
}

}  // namespace
}  // namespace flowxlate::test
