// SPDX-License-Identifier: Apache-2.0
#include "engine/wanted.h"

#include <algorithm>
#include <iterator>
#include <string_view>

#include "engine/offload.h"

namespace flowxlate {
namespace {

// For so long after a port was added OVS may not have known its device.
constexpr auto kSettling = std::chrono::seconds(1);

constexpr struct {
    std::string_view group, what;
    Ends ends;
} kEnds[] = {
    {"input", "not_an_xdp_port", Ends::kWithPort},
    {"input", "left_out", Ends::kWithPort},
    {"input", "no_device", Ends::kWithPort},
    {"output", "left_out", Ends::kWithPort},
    {"output", "not_an_xdp_port", Ends::kWithPort},
    {"parked", "left_out", Ends::kWithPort},
    {"parked", "port_removed", Ends::kWithPort},
    {"parked", "no_device", Ends::kWithPort},
    {"parked", "mask_evicted", Ends::kWithRoom},
    {"parked", "no_memory", Ends::kAtOnce},
    {"parked", "flushed", Ends::kAtOnce},
    {"action", "ct_not_told", Ends::kPerhaps},
    {"table", "flows", Ends::kWithRoom},
    {"table", "masks", Ends::kWithRoom},
    {"table", "buckets", Ends::kPerhaps},
    {"table", "groups", Ends::kPerhaps},
    {"table", "recirc_ids", Ends::kPerhaps},
    {"table", "rewrites", Ends::kPerhaps},
    {"table", "tunnels", Ends::kPerhaps},
};

}  // namespace

Ends ends_of(const Reject &why) {
    if (!why) {
        return Ends::kAtOnce;
    }
    const auto *row = std::find_if(
        std::begin(kEnds), std::end(kEnds),
        [&](auto &r) { return r.group == why.group && r.what == why.what; });
    return row == std::end(kEnds) ? Ends::kNever : row->ends;
}

std::chrono::seconds pause_after(uint64_t n) {
    constexpr uint64_t kMaxDoublings = 5;
    return std::chrono::seconds(1U << std::min(n ? n - 1 : 0, kMaxDoublings));
}

// -- The offload's part -----------------------------------------------------

// Some of the masks that eviction keeps free are for flows that are new.
bool Offload::has_room_for(const Reject &why) const {
    constexpr size_t kForNewFlows = IdleMasks::kKeptFree / 2;
    return std::string_view(why.what) == "flows"
             ? core_.table->n_flows() < core_.table->max_flows()
             : core_.table->n_subtables() + kForNewFlows < XF_MAX_MASKS;
}

// Has a port come since the flow was refused, or so shortly before that OVS
// may not have known its device yet?
bool Offload::port_has_come(const Refusal &refusal) const {
    return core_.ports.n_events() != refusal.port_events
        || refusal.last < core_.ports.last_event() + kSettling;
}

// The kernel datapath has only the flows that it is left with, and nobody asks
// us about those, so what they were refused for is remembered instead.
void Offload::note_what_is_missing(const ovs_offload_flow &f, const Rule &rule,
                                   const Reject &why) {
    constexpr size_t kMaxMissing = 256;
    if (f.dpif_type != std::string_view(kKernelDatapath)) {
        return;
    }
    const auto ends = ends_of(why);
    StateLock lock(core_);
    refused_for_room_ |= ends == Ends::kWithRoom;
    if (ends == Ends::kWithPort && missing_ports_.size() < kMaxMissing) {
        missing_ports_.insert(rule.unknown.begin(), rule.unknown.end());
    }
}

// After a port was added: was it the one that flows were refused for?  The
// host may be asked in a thread of OVS only, and knows the port some time
// later than we do.
void Offload::look_for_missing_ports(const char *dpif_type) {
    std::vector<OdpPort> missing;
    if (dpif_type != std::string_view(kKernelDatapath)
        || looked_for_ports_ == n_port_events()) {
        return;
    }
    {
        StateLock lock(core_);
        const auto now = std::chrono::steady_clock::now();
        if (now < core_.ports.last_event() + kSettling) {
            return;
        }
        looked_for_ports_ = core_.ports.n_events();
        missing.assign(missing_ports_.begin(), missing_ports_.end());
        missing_ports_.clear();
    }
    const size_t n_found = std::erase_if(missing, [&](OdpPort port) {
        return index(core_.ask().port_ifindex(dpif_type, port)) > 0;
    });
    StateLock lock(core_);
    missing_ports_.insert(missing.begin(), missing.end());
    offer_.wanted |= n_found > 0;
}

// Enough for more than the next flow: OVS will offer all of them.
bool Offload::has_room_again() const {
    return core_.table->n_flows() < core_.table->max_flows() / 8 * 7
        && core_.table->n_subtables() + IdleMasks::kKeptFree < XF_MAX_MASKS;
}

bool Offload::flow_wanted(const Ufid &ufid) {
    if (leaving_) {
        return false;
    }
    const auto now = std::chrono::steady_clock::now();
    StateLock lock(core_);
    const Flow *flow = core_.flows->find(ufid);
    const Refusal *refusal = core_.refusals.find(ufid);
    if (flow && flow->is_placed()) {
        return false;  // It waits for its output port.
    }
    const Reject why = refusal ? refusal->reason
                     : flow    ? flow->parked
                               : Reject{};
    switch (ends_of(why)) {
        case Ends::kNever:
            return false;
        case Ends::kWithPort:
            return refusal ? port_has_come(*refusal)
                           : core_.ports.n_events() != flow->port_events;
        case Ends::kWithRoom:
            return has_room_for(why) && turns_.take(now);
        case Ends::kPerhaps:
            return (!refusal || now >= refusal->last + pause_after(refusal->n))
                && turns_.take(now);
        case Ends::kAtOnce:
            return turns_.take(now);
    }
    return false;
}

}  // namespace flowxlate
