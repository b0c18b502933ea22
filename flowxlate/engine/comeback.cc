// SPDX-License-Identifier: Apache-2.0
#include "engine/comeback.h"

#include <string_view>
#include <vector>

#include "engine/eviction.h"

namespace flowxlate {
namespace {

// For so long after a port was added OVS may not have known its device.
constexpr auto kSettling = std::chrono::seconds(1);

}  // namespace

// Some of the masks that eviction keeps free are for flows that are new.
bool Comeback::has_room_for(const Reject &why) const {
    constexpr size_t kForNewFlows = IdleMasks::kKeptFree / 2;
    return std::string_view(why.what) == "flows"
             ? core_.table->n_flows() < core_.table->max_flows()
             : core_.table->n_subtables() + kForNewFlows < XF_MAX_MASKS;
}

// Has a port come since the flow was refused, or so shortly before that OVS
// may not have known its device yet?
bool Comeback::port_has_come(const Refusal &refusal) const {
    return core_.ports.n_events() != refusal.port_events
        || refusal.last < core_.ports.last_event() + kSettling;
}

// The kernel datapath has only the flows that it is left with, and nobody asks
// us about those, so what they were refused for is remembered instead.
void Comeback::note_what_is_missing(const ovs_offload_flow &f,
                                    const Rule &rule, const Reject &why) {
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

// The host may be asked in a thread of OVS only, and knows the port some time
// later than we do.
void Comeback::look_for_missing_ports(const char *dpif_type) {
    std::vector<OdpPort> missing;
    if (dpif_type != std::string_view(kKernelDatapath)
        || looked_for_ports_ == core_.n_port_events()) {
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
bool Comeback::has_room_again() const {
    return core_.table->n_flows() < core_.table->max_flows() / 8 * 7
        && core_.table->n_subtables() + IdleMasks::kKeptFree < XF_MAX_MASKS;
}

bool Comeback::is_wanted(const Ufid &ufid) {
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

void Comeback::make_requests() {
    const auto now = std::chrono::steady_clock::now();
    std::vector<Request *> lost, offers;
    StateLock lock(core_);
    for (auto &[ifindex, port] : core_.ports.by_ifindex()) {
        lost.push_back(&port->flows_lost);
        offers.push_back(&port->offer);
    }
    if (refused_for_room_ && has_room_again()) {
        refused_for_room_ = false;
        offer_.wanted = true;
    }
    offers.push_back(&offer_);
    core_.changes.flows_lost = grant(lost, &flows_lost_pace_, now);
    core_.changes.offer_again = grant(offers, &offer_pace_, now);
}

}  // namespace flowxlate
