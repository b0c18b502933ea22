// SPDX-License-Identifier: Apache-2.0
// Copies of packets that flows of an earlier process have matched, from which
// OVS learns its own (handover.h).
//
// state_lock guards those that OVS has not taken yet.
#ifndef FLOWXLATE_COPIES_H
#define FLOWXLATE_COPIES_H

#include <chrono>
#include <cstdint>
#include <deque>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "base/guarded.h"
#include "bpf/abi/handover.h"
#include "engine/core.h"

namespace flowxlate {

class Copies {
public:
    explicit Copies(Core &core) : core_(core) {}

    // Leaves out those of a connection that was copied a moment ago.
    void leave_out_repeated(std::vector<xf_copy> *) REQUIRES(worker_role);
    // Keeps those that can be used, as many as there is room for.
    void add(const std::vector<xf_copy> &) REQUIRES(state_lock);
    void drop_of(const Port &) REQUIRES(state_lock);
    void clear() REQUIRES(state_lock) { waiting_.clear(); }

    // The next one for a datapath of this type; ENOENT: there is none.
    int take(std::string_view dpif_type, ovs_offload_copy *);

private:
    bool was_copied_lately(const xf_copy &) REQUIRES(worker_role);

    Core &core_;
    std::deque<xf_copy> waiting_ GUARDED_BY(state_lock);  // Of ports.
    std::unordered_set<uint64_t> copied_ GUARDED_BY(worker_role);
    std::chrono::steady_clock::time_point forget_copied_
        GUARDED_BY(worker_role);
};

}  // namespace flowxlate

#endif
