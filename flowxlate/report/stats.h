// SPDX-License-Identifier: Apache-2.0
// What the offload tells programs by xdp-offload/stats and
// xdp-offload/top-flows.  docs/operating.md describes it.
//
// These are copies of what was read with the state locked, so they may be
// written down without that.
#ifndef FLOWXLATE_STATS_H
#define FLOWXLATE_STATS_H

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/types.h"
#include "bpf/abi/counters.h"
#include "tables/flow_table.h"

namespace flowxlate {

// Incremented when a member changes its meaning or goes; members may be added.
constexpr int kStatsVersion = 1;

enum class Order { kByPackets, kByBytes };
constexpr size_t kMaxTopFlows = 256;

// Frames by the name of an errno value.
using CountsByErrno = std::map<std::string, uint64_t>;

struct PortStats {
    std::string name;
    int ifindex = 0;
    std::string type, datapath;   // As OVS names them.
    std::string mode;             // "native" or "generic" XDP, "tunnel", or
                                  // "none".
    std::string attached;         // "dispatcher", "link" or "none".
    std::string misses_to;        // "af_xdp", "kernel", or "none".
    bool left_out = false;        // By the user.
    std::string limits;           // Of OVS, that XDP passes by; may be empty.
    bool up = false;              // With carrier.
    bool transmits = false;       // Takes redirected frames now.
    std::string why_no_transmit;  // Empty if it does.
    uint32_t max_frame = 0;
    bool enters = false;       // Flows may enter here.
    std::string why_no_enter;  // Empty if they may.
    size_t flows = 0;          // In the tables, that enter here.
    size_t waiting = 0;        // Of these, for their output port.
    FlowStats executed;        // By flows that enter here; packets count once.
    uint64_t hits = 0;         // Packets count in each flow that they pass.
    std::array<uint64_t, XF_N_MISSES> passed{};  // By reason.
    uint64_t searches = 0;  // Look-ups past the flow cache.
    // Frames lost after they were redirected, to this port and to OVS from
    // here; none: nobody knows.
    std::optional<CountsByErrno> lost, lost_to_ovs;
};

struct TableStats {
    size_t flows = 0, max_flows = 0;
    size_t parked = 0;   // Flows that are known, but not in the tables.
    size_t refused = 0;  // Flows that were refused and that OVS has.
    size_t masks = 0;
    std::array<size_t, XF_N_CLASSES> masks_by_class{};
    size_t buckets = 0;
    size_t rewrites = 0;
    size_t memory_bytes = 0;  // Shared by all ports.
    // Of figures and predictions, and the CPUs that share one (CpuRows).
    uint32_t rows = 0, sharing_cpus = 0;
};

struct Stats {
    std::string plugin_version;
    int64_t start_ms = 0, now_ms = 0;  // CLOCK_MONOTONIC.
    std::vector<PortStats> ports;
    TableStats tables;
    // Since the start, also by flows and ports that are gone.
    FlowStats executed;
    uint64_t placed = 0;  // Flows that were put in XDP.
    uint64_t evicted_masks = 0, evicted_flows = 0;
    uint64_t late_removals = 0;
    std::map<std::string, uint64_t> refused;  // How often, by reason.
    // Not executed in XDP now, by reason.
    std::map<std::string, size_t> unexecuted;
    // From an earlier process: "holding", "sampling" or "over" (handover.h),
    // and the ports on which its programs still execute its flows.
    std::string handover_phase;
    size_t handover_ports = 0;
    std::string why_losses_unknown;  // Empty if they are known.
};

struct FlowReport {
    Ufid ufid;
    std::string in_port;     // Its name, "?" if it is gone.
    const char *state = "";  // "xdp", "waiting" or "parked".
    FlowStats stats;         // Since the flow came to XDP.
    Growth growth;           // Of that, since the last look.
    int64_t used_ms = 0;     // CLOCK_MONOTONIC, 0 = never.
    std::string text;        // Match and actions; empty if it is parked.
};

struct TopFlows {
    int64_t since_ms = 0, now_ms = 0;  // CLOCK_MONOTONIC: last look, this one.
    std::vector<FlowReport> flows;     // The busiest first.
};

}  // namespace flowxlate

#endif
