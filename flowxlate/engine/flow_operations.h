// SPDX-License-Identifier: Apache-2.0
// What OVS does with flows: it puts them, changes them, asks for their
// figures, and removes them.  The contracts are those of struct
// ovs_offload_ops.
//
// state_lock is held while a flow is placed or read; OVS is asked before and
// after that.
#ifndef FLOWXLATE_FLOW_OPERATIONS_H
#define FLOWXLATE_FLOW_OPERATIONS_H

#include <cstdint>

#include "base/guarded.h"
#include "engine/comeback.h"
#include "engine/core.h"
#include "engine/evictor.h"
#include "engine/takeover.h"

namespace flowxlate {

class FlowOperations {
public:
    // 'can_hash': as OVS does.
    FlowOperations(Core &core, Takeover &takeover, Evictor &evictor,
                   Comeback &comeback, bool can_hash)
        : core_(core),
          takeover_(takeover),
          evictor_(evictor),
          comeback_(comeback),
          can_hash_(can_hash) {}

    int put(const ovs_offload_flow &);
    int del(const Ufid &, ovs_offload_stats *remaining);
    int stats(const Ufid &, ovs_offload_stats *);
    int take(const Ufid &, ovs_offload_stats *delta);
    int flush(Port *);
    uint64_t count(Port *);

private:
    Reject translate(const ovs_offload_flow &, Rule *)
        EXCLUDES(state_lock, attach_lock);
    Reject check_connections(const ovs_offload_flow &, const Rule &) const;
    Reject place(const Ufid &, Rule *, uint32_t vlan_limit);
    void follow_vlan_limit(uint32_t) REQUIRES(state_lock);
    void to_abi(const FlowStats &, ovs_offload_stats *) REQUIRES(state_lock);

    // Of a flow that is not executed in XDP.
    void refuse(const ovs_offload_flow &, const Reject &why,
                uint64_t port_events);
    Ifindex entrance_of(const ovs_offload_flow &) const
        EXCLUDES(state_lock, attach_lock);
    uint64_t remember_refusal(const ovs_offload_flow &, const Reject &,
                              Ifindex in, uint64_t port_events)
        REQUIRES(state_lock);
    void log_refusal(const ovs_offload_flow &, const Reject &,
                     uint64_t n) const EXCLUDES(state_lock, attach_lock);

    Core &core_;
    Takeover &takeover_;
    Evictor &evictor_;
    Comeback &comeback_;
    const bool can_hash_;
    uint32_t vlan_limit_ GUARDED_BY(state_lock) = 1;  // OVS's.
};

}  // namespace flowxlate

#endif
