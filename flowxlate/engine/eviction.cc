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

// Calls 'visit' with all flows that are in the tables, some at a time, under
// mutex_.  Others get the mutex in between.  Returns false if there are more
// flows meanwhile, so that the flows are no longer where they were: some have
// not been visited.
bool Offload::visit_placed(
    const std::function<void(std::span<Flow *const>)> &visit) {
    constexpr size_t kBucketsAtATime = 1024;
    constexpr auto kPause = std::chrono::microseconds(100);
    std::vector<Flow *> flows;
    size_t n_buckets = 0;

    for (size_t begin = 0; begin == 0 || begin < n_buckets;
         begin += kBucketsAtATime) {
        if (begin) {
            std::this_thread::sleep_for(kPause);
        }
        StateLock lock(this);
        auto &all = flows_->by_ufid();
        if (begin && all.bucket_count() != n_buckets) {
            return false;
        }
        n_buckets = all.bucket_count();
        flows.clear();
        for (size_t b = begin;
             b < std::min(begin + kBucketsAtATime, n_buckets); b++) {
            for (auto it = all.begin(b); it != all.end(b); ++it) {
                if (it->second.is_placed()) {
                    flows.push_back(&it->second);
                }
            }
        }
        visit(flows);
    }
    return true;
}

// The masks that have to go, if any.  Before their flows are parked, one of
// these may go by itself, and its slot to another mask.
MaskSet Offload::find_idle_masks() {
    {
        StateLock lock(this);
        if (XF_MAX_MASKS - table_->n_subtables() >= IdleMasks::kKeptFree) {
            return {};
        }
        idle_masks_.begin_look();
    }
    const bool complete = visit_placed([this](auto flows) REQUIRES(mutex_) {
        for (const Flow *flow : flows) {
            idle_masks_.see(flows_->mask_of(*flow), flows_->total(*flow).used,
                            flow->ovs_forwards_too);
        }
    });
    StateLock lock(this);
    const size_t n_free = XF_MAX_MASKS - table_->n_subtables();
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
    // Flows that are left over, because flows_ grew, are found next time.
    (void)visit_placed([&](auto flows) REQUIRES(mutex_) {
        std::vector<Flow *> doomed;
        std::copy_if(flows.begin(), flows.end(), std::back_inserter(doomed),
                     [&](auto *f) REQUIRES(mutex_) {
                         return masks[index(flows_->mask_of(*f))]
                             && f->ovs_forwards_too;
                     });
        const size_t before = table_->n_subtables();
        flows_->park(doomed, {"parked", "mask_evicted", ENOSPC});
        n_evicted_masks_ += before - table_->n_subtables();
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
    log(OVS_OFFLOAD_LOG_WARN,
        "masks are scarce: the flows of " + std::to_string(n_masks)
            + " masks without traffic go back to OVS (xdp-offload/show "
              "counts them)");
}

}  // namespace flowxlate
