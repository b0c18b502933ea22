// SPDX-License-Identifier: Apache-2.0
// The offload's state for those who only read it, to tell operators and
// programs.  Whoever has a View holds the state's lock: what is to be used
// longer has to be copied.
#ifndef FLOWXLATE_VIEW_H
#define FLOWXLATE_VIEW_H

#include <map>
#include <string>
#include <vector>

#include "base/guarded.h"
#include "engine/binder.h"
#include "engine/flows.h"
#include "engine/ports.h"
#include "engine/refusals.h"
#include "engine/sources.h"
#include "tables/flow_table.h"

namespace flowxlate {

struct View {
    const Ports &ports;
    const Binder &binder;
    const FlowTable &table;
    const Flows &flows;
    const Refusals &refusals;
    const RefusalCounts &refused;
    uint64_t n_evicted_masks, n_evicted_flows;

    static View of(const Sources &from) REQUIRES(state_lock) {
        return {from.core.ports,        from.core.binder,
                *from.core.table,       *from.core.flows,
                from.core.refusals,     from.core.refused,
                from.evictor.n_masks(), from.evictor.n_flows()};
    }

    // What the flows that enter through a port add up to, by slot.
    struct Sum {
        FlowStats stats;     // Packets count in each flow that they pass,
        Growth entered;      // or once.
        size_t waiting = 0;  // For their output port.

        // With what flows that are gone have counted.
        Growth entered_since_start(const Port &port) const {
            return {port.past_entered.packets + entered.packets,
                    port.past_entered.bytes + entered.bytes};
        }
    };
    std::vector<Sum> sum_by_port() const;

    // "MATCH, actions:ACTIONS" of a flow in the tables, and where its packets
    // go (trace.cc).
    std::string describe_flow(FlowSlot) const;
    std::string describe_target(const xf_action &) const;
    const Ufid *find_ufid(FlowSlot) const;  // Null if it has none any more.

    // How many flows are not executed in XDP, by reason (explain.cc).
    std::map<std::string, size_t> count_unexecuted() const;
};

}  // namespace flowxlate

#endif
