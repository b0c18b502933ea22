// SPDX-License-Identifier: Apache-2.0
// Parks the flows of idle masks while masks are scarce (eviction.h).  Nothing
// of that is on flow_put()'s way, but for a mark, and the state is locked for
// some flows at a time.
#ifndef FLOWXLATE_EVICTOR_H
#define FLOWXLATE_EVICTOR_H

#include <chrono>
#include <cstddef>
#include <cstdint>

#include "base/guarded.h"
#include "engine/core.h"
#include "engine/eviction.h"

namespace flowxlate {

class Evictor {
public:
    explicit Evictor(Core &core) : core_(core) {}

    // A flow was put under this mask.
    void put(SubtableSlot mask) REQUIRES(state_lock) { masks_.put(mask); }

    void evict_idle_masks() REQUIRES(worker_role);

    // Since the start.
    uint64_t n_masks() const REQUIRES(state_lock) { return n_masks_; }
    uint64_t n_flows() const REQUIRES(state_lock) { return n_flows_; }

private:
    MaskSet find_idle_masks() REQUIRES(worker_role);
    void log(size_t n_masks) REQUIRES(worker_role);

    Core &core_;
    IdleMasks masks_ GUARDED_BY(state_lock);
    uint64_t n_masks_ GUARDED_BY(state_lock) = 0;
    uint64_t n_flows_ GUARDED_BY(state_lock) = 0;
    std::chrono::steady_clock::time_point next_log_ GUARDED_BY(worker_role);
};

}  // namespace flowxlate

#endif
