// SPDX-License-Identifier: Apache-2.0
#include "engine/eviction.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <functional>
#include <iterator>
#include <tuple>
#include <vector>

#include "engine/offload.h"

namespace flowxlate {

void IdleMasks::begin_look() {
    n_looks_++;
    for (Mask &mask : masks_) {
        mask.is_seen = false;
        mask.may_go = true;
        mask.used = 0;
    }
}

void IdleMasks::see(SubtableSlot slot, uint64_t used, bool may_go) {
    Mask &mask = masks_[index(slot)];
    mask.is_seen = true;
    mask.may_go &= may_go;
    mask.used = std::max(mask.used, used);
}

MaskSet IdleMasks::end_look(size_t n) {
    std::vector<size_t> idle;
    for (size_t i = 0; i < masks_.size(); i++) {
        Mask &mask = masks_[i];
        if (!mask.is_seen) {
            continue;
        }
        if (mask.is_put || mask.used > mask.used_before) {
            mask.last_busy = n_looks_;
        } else if (mask.may_go) {
            idle.push_back(i);
        }
        mask.used_before = mask.used;
        mask.is_put = false;
    }
    const auto end =
        idle.begin() + static_cast<ptrdiff_t>(std::min(n, idle.size()));
    std::partial_sort(idle.begin(), end, idle.end(),
                      [this](size_t a, size_t b) {
                          const Mask &x = masks_[a], &y = masks_[b];
                          return std::tie(x.last_busy, x.used)
                               < std::tie(y.last_busy, y.used);
                      });
    MaskSet chosen;
    std::for_each(idle.begin(), end, [&](size_t i) { chosen.set(i); });
    return chosen;
}

// -- The offload's part -----------------------------------------------------

// The masks that have to go, if any.  Before their flows are parked, one of
// these may go by itself, and its slot to another mask.
MaskSet Offload::find_idle_masks() {
    {
        StateLock lock(core_);
        if (XF_MAX_MASKS - core_.table->n_subtables()
            >= IdleMasks::kKeptFree) {
            return {};
        }
        idle_masks_.begin_look();
    }
    const bool complete =
        core_.visit_placed([this](auto flows) REQUIRES(state_lock) {
            for (const Flow *flow : flows) {
                idle_masks_.see(core_.flows->mask_of(*flow),
                                core_.flows->total(*flow).used,
                                flow->ovs_forwards_too);
            }
        });
    StateLock lock(core_);
    const size_t n_free = XF_MAX_MASKS - core_.table->n_subtables();
    // What an incomplete look has seen must not make a busy mask idle.
    return idle_masks_.end_look(complete && n_free < IdleMasks::kKeptFree
                                    ? IdleMasks::kKeptFree - n_free
                                    : 0);
}

void Offload::evict_idle_masks() {
    const MaskSet masks = find_idle_masks();
    if (masks.none()) {
        return;
    }
    log_eviction(masks.count());
    // Flows that are left over, because core_.flows grew, are found next time.
    (void)core_.visit_placed([&](auto flows) REQUIRES(state_lock) {
        std::vector<Flow *> doomed;
        std::copy_if(flows.begin(), flows.end(), std::back_inserter(doomed),
                     [&](auto *f) REQUIRES(state_lock) {
                         return masks[index(core_.flows->mask_of(*f))]
                             && f->ovs_forwards_too;
                     });
        const size_t before = core_.table->n_subtables();
        core_.flows->park(doomed, {"parked", "mask_evicted", ENOSPC});
        n_evicted_masks_ += before - core_.table->n_subtables();
        n_evicted_flows_ += doomed.size();
    });
}

void Offload::log_eviction(size_t n_masks) {
    constexpr auto kInterval = std::chrono::minutes(1);
    const auto now = std::chrono::steady_clock::now();
    if (now < next_eviction_log_) {
        return;
    }
    next_eviction_log_ = now + kInterval;
    core_.log(OVS_OFFLOAD_LOG_WARN,
        "masks are scarce: the flows of " + std::to_string(n_masks)
            + " masks without traffic go back to OVS (xdp-offload/show "
              "counts them)");
}

}  // namespace flowxlate
