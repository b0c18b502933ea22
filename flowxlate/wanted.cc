// SPDX-License-Identifier: Apache-2.0
#include "wanted.h"

#include <algorithm>
#include <iterator>
#include <string_view>

#include "offload.h"

namespace flowxlate {
namespace {

constexpr struct {
    std::string_view group, what;
    Ends ends;
} kEnds[] = {
    {"input", "not_an_xdp_port", Ends::kWithPort},
    {"input", "no_device", Ends::kWithPort},
    {"output", "not_an_xdp_port", Ends::kWithPort},
    {"parked", "port_removed", Ends::kWithPort},
    {"parked", "no_device", Ends::kWithPort},
    {"parked", "mask_evicted", Ends::kWithRoom},
    {"parked", "no_memory", Ends::kAtOnce},
    {"parked", "flushed", Ends::kAtOnce},
    {"table", "flows", Ends::kWithRoom},
    {"table", "masks", Ends::kWithRoom},
    {"table", "buckets", Ends::kPerhaps},
    {"table", "groups", Ends::kPerhaps},
    {"table", "recirc_ids", Ends::kPerhaps},
    {"table", "rewrites", Ends::kPerhaps},
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

// Called with mutex_.
void Offload::note_port_event() {
    port_events_++;
    last_port_event_ = std::chrono::steady_clock::now();
}

// Some of the masks that eviction keeps free are for flows that are new.
bool Offload::has_room_for(const Reject &why) const {
    constexpr size_t kForNewFlows = IdleMasks::kKeptFree / 2;
    return std::string_view(why.what) == "flows"
             ? table_->n_flows() < table_->max_flows()
             : table_->n_subtables() + kForNewFlows < XF_MAX_MASKS;
}

// Has a port come since the flow was refused, or so shortly before that OVS
// may not have known its device yet?
bool Offload::port_has_come(const Refusal &refusal) const {
    constexpr auto kSettling = std::chrono::seconds(1);
    return port_events_ != refusal.port_events
        || refusal.last < last_port_event_ + kSettling;
}

bool Offload::flow_wanted(const Ufid &ufid) {
    if (leaving_) {
        return false;
    }
    const auto now = std::chrono::steady_clock::now();
    std::lock_guard lock(mutex_);
    const auto it = flows_.find(ufid);
    const Flow *flow = it == flows_.end() ? nullptr : &it->second;
    const Refusal *refusal = refusals_.find(ufid);
    if (flow && flow->slot != FlowSlot::kNone) {
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
                           : port_events_ != flow->port_events;
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
