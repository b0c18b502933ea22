// SPDX-License-Identifier: Apache-2.0
#include "report/stats_json.h"

#include <nlohmann/json.hpp>

#include "bpf/abi/counters.h"
#include "translate/describe.h"
#include "translate/reasons.h"

namespace flowxlate {
namespace {

using Json = nlohmann::ordered_json;

// Names of devices need not be UTF-8, JSON must be.
std::string json_text(const Json &json) {
    return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

// Packets that could not be parsed are not looked up.
bool is_looked_up(int reason) {
    switch (xf_miss(reason)) {
        case XF_MISS_TRUNCATED:
        case XF_MISS_ETHERTYPE:
        case XF_MISS_ARP:
        case XF_MISS_IP_HEADER:
        case XF_MISS_IP_OPTIONS:
        case XF_MISS_ND_OPTIONS:
            return false;
        default:
            return true;
    }
}

Json to_object(const FlowStats &s) {
    return {{"packets", s.packets},
            {"bytes", s.bytes},
            {"dropped_packets", s.dropped},
            {"tracked_packets", s.tracked}};
}

Json to_object(const std::optional<CountsByErrno> &counts) {
    return counts ? Json(*counts) : Json();
}

Json to_object(const PortStats &p) {
    Json passed = Json::object();
    for (int reason = 0; reason < XF_N_MISSES; reason++) {
        passed[miss_name(xf_miss(reason))] = p.passed[reason];
    }
    return {
        {"name", p.name},
        {"ifindex", p.ifindex},
        {"type", p.type},
        {"datapath", p.datapath},
        {"mode", p.mode},
        {"attached", p.attached},
        {"misses_to", p.misses_to},
        {"left_out", p.left_out},
        {"limits_passed_by", p.limits},
        {"up", p.up},
        {"transmits", p.transmits},
        {"why_no_transmit", p.why_no_transmit},
        {"max_frame_bytes", p.max_frame},
        {"enters", p.enters},
        {"why_no_enter", p.why_no_enter},
        {"flows", p.flows},
        {"waiting", p.waiting},
        {"executed", to_object(p.executed)},
        {"passed", passed},
        {"flow_cache", {{"lookups", lookups(p)}, {"searches", p.searches}}},
        {"redirect_errors", to_object(p.lost)},
        {"redirect_errors_to_ovs", to_object(p.lost_to_ovs)}};
}

Json to_object(const TableStats &t) {
    Json masks = Json::object();
    for (int cls = 0; cls < XF_N_CLASSES; cls++) {
        masks[class_name(cls)] = t.masks_by_class[cls];
    }
    return {{"flows", t.flows},
            {"max_flows", t.max_flows},
            {"parked_flows", t.parked},
            {"refused_flows", t.refused},
            {"masks", t.masks},
            {"max_masks", XF_MAX_MASKS},
            {"masks_by_class", masks},
            {"buckets", t.buckets},
            {"bucket_entries", XF_BUCKET_ENTRIES},
            {"rewrites", t.rewrites},
            {"memory_bytes", t.memory_bytes},
            {"rows", t.rows},
            {"sharing_cpus", t.sharing_cpus}};
}

Json to_object(const FlowReport &f) {
    return {{"ufid", f.ufid.to_string()},
            {"in_port", f.in_port},
            {"state", f.state},
            {"packets", f.stats.packets},
            {"bytes", f.stats.bytes},
            {"new_packets", f.growth.packets},
            {"new_bytes", f.growth.bytes},
            {"used_ms", f.used_ms},
            {"text", f.text}};
}

}  // namespace

uint64_t lookups(const PortStats &p) {
    uint64_t sum = p.hits;
    for (int reason = 0; reason < XF_N_MISSES; reason++) {
        sum += is_looked_up(reason) ? p.passed[reason] : 0;
    }
    return sum;
}

std::string to_json(const Stats &s) {
    Json ports = Json::array();
    for (auto &port : s.ports) {
        ports.push_back(to_object(port));
    }
    return json_text(
        {{"version", kStatsVersion},
         {"plugin_version", s.plugin_version},
         {"start_ms", s.start_ms},
         {"now_ms", s.now_ms},
         {"ports", ports},
         {"tables", to_object(s.tables)},
         {"since_start",
          {{"executed", to_object(s.executed)},
           {"placed_flows", s.placed},
           {"evicted_masks", s.evicted_masks},
           {"evicted_flows", s.evicted_flows},
           {"late_removals", s.late_removals},
           {"refused", Json(s.refused)}}},
         {"unexecuted_flows", Json(s.unexecuted)},
         {"handover",
          {{"phase", s.handover_phase}, {"ports", s.handover_ports}}},
         {"why_redirect_errors_unknown", s.why_losses_unknown}});
}

std::string to_json(const TopFlows &top) {
    Json flows = Json::array();
    for (auto &flow : top.flows) {
        flows.push_back(to_object(flow));
    }
    return json_text({{"version", kStatsVersion},
                      {"since_ms", top.since_ms},
                      {"now_ms", top.now_ms},
                      {"flows", flows}});
}

}  // namespace flowxlate
