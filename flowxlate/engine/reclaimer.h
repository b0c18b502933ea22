// SPDX-License-Identifier: Apache-2.0
// Gives back, in one grace period, every slot that programs may still use: of
// flows, subtables, rewrites, ports, recirculation ids, groups, tunnels and
// connections (slot_pool.h).
//
// Whoever calls begin() and end() holds the lock of flows, ports and bindings;
// connections have one of their own.  Between the two calls no lock is needed:
// that is where the grace period is waited for.  After one that could not be
// waited for begin() is called again, not end().
#ifndef FLOWXLATE_RECLAIMER_H
#define FLOWXLATE_RECLAIMER_H

#include "engine/binder.h"
#include "engine/ports.h"
#include "tables/conn_table.h"
#include "tables/flow_table.h"

namespace flowxlate {

class Reclaimer {
public:
    Reclaimer(FlowTable *flows, Ports *ports, Binder *binder, ConnTable *conns)
        : flows_(*flows), ports_(*ports), binder_(*binder), conns_(*conns) {}

    // Returns false if nothing waits for a grace period.
    bool begin() {
        const bool flows = flows_.begin_grace();
        const bool ports = ports_.begin_grace();
        const bool bindings = binder_.begin_grace();
        const bool conns = conns_.begin_grace() != 0;
        return flows || ports || bindings || conns;
    }

    void end() {
        flows_.end_grace();
        ports_.end_grace();
        binder_.end_grace();
        conns_.end_grace();
    }

private:
    FlowTable &flows_;
    Ports &ports_;
    Binder &binder_;
    ConnTable &conns_;
};

}  // namespace flowxlate

#endif
