// SPDX-License-Identifier: Apache-2.0
#include "engine/evictor.h"

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <string>
#include <vector>

namespace flowxlate {

// The masks that have to go, if any.  Before their flows are parked, one of
// these may go by itself, and its slot to another mask.
MaskSet Evictor::find_idle_masks() {
    {
        StateLock lock(core_);
        if (XF_MAX_MASKS - core_.table->n_subtables()
            >= IdleMasks::kKeptFree) {
            return {};
        }
        masks_.begin_look();
    }
    const bool complete =
        core_.visit_placed([this](auto flows) REQUIRES(state_lock) {
            for (const Flow *flow : flows) {
                masks_.see(core_.flows->mask_of(*flow),
                           core_.flows->total(*flow).used,
                           flow->ovs_forwards_too);
            }
        });
    StateLock lock(core_);
    const size_t n_free = XF_MAX_MASKS - core_.table->n_subtables();
    // What an incomplete look has seen must not make a busy mask idle.
    return masks_.end_look(complete && n_free < IdleMasks::kKeptFree
                               ? IdleMasks::kKeptFree - n_free
                               : 0);
}

void Evictor::evict_idle_masks() {
    const MaskSet masks = find_idle_masks();
    if (masks.none()) {
        return;
    }
    log(masks.count());
    // Flows that are left over, because there are more of them, are found next
    // time.
    (void)core_.visit_placed([&](auto flows) REQUIRES(state_lock) {
        std::vector<Flow *> doomed;
        std::copy_if(flows.begin(), flows.end(), std::back_inserter(doomed),
                     [&](auto *f) REQUIRES(state_lock) {
                         return masks[index(core_.flows->mask_of(*f))]
                             && f->ovs_forwards_too;
                     });
        const size_t before = core_.table->n_subtables();
        core_.flows->park(doomed, {"parked", "mask_evicted", ENOSPC});
        n_masks_ += before - core_.table->n_subtables();
        n_flows_ += doomed.size();
    });
}

void Evictor::log(size_t n_masks) {
    constexpr auto kInterval = std::chrono::minutes(1);
    const auto now = std::chrono::steady_clock::now();
    if (now < next_log_) {
        return;
    }
    next_log_ = now + kInterval;
    core_.log(OVS_OFFLOAD_LOG_WARN,
        "masks are scarce: the flows of " + std::to_string(n_masks)
            + " masks without traffic go back to OVS (xdp-offload/show "
              "counts them)");
}

}  // namespace flowxlate
