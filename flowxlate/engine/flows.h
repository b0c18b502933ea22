// SPDX-License-Identifier: Apache-2.0
// The flows that OVS has put and not deleted, by ufid, with their figures.
//
// A flow is in the tables, or "parked": it has lost its place, and its figures
// are kept until remove().  Nothing that a program has counted for a flow gets
// lost, nor is anything told twice: what take() hands out until then and what
// remove() hands out add up to it, however often the flow was modified, parked
// and put again.  (tests/unit/flows_test.cc)
//
// Needs no kernel: the tables are memory, and what the ports and groups need
// is a Datapath.  The caller serializes all calls.
#ifndef FLOWXLATE_FLOWS_H
#define FLOWXLATE_FLOWS_H

#include <cstdint>
#include <span>
#include <unordered_map>

#include "base/types.h"
#include "engine/binder.h"
#include "engine/changes.h"
#include "engine/ports.h"
#include "tables/flow_table.h"

namespace flowxlate {

struct Flow {
    FlowSlot slot{};  // kNone: parked.
    PortSlot in{};
    PortSlots out;                    // Empty: drop, or recirculation.
    PortSlot into = PortSlot::kNone;  // The tunnel port of its outer headers.
    // What it uses while it is in the tables (Binding).
    RecircIds::Use recirc, next;
    Groups::Use group;
    Tunnels::Use tunnel;
    // OVS forwards its packets if XDP does not: it may be evicted.
    bool ovs_forwards_too = false;
    // Its packets have passed no other flow of their port before: each packet
    // that XDP executes counts in one such flow of each port that it enters,
    bool enters = false;
    // and in one of a device: tunnels' have come through that.
    bool is_first = false;
    FlowStats past;            // From slots that it has left.
    FlowStats taken;           // What take() has handed out.
    Growth looked_at;          // What top-flows has seen.
    Reject parked;             // Why it is parked, if it is.
    uint64_t port_events = 0;  // Ports::n_events() when it was parked.

    bool is_placed() const { return slot != FlowSlot::kNone; }
};

class Flows {
public:
    using ByUfid = std::unordered_map<Ufid, Flow, UfidHash>;

    Flows(FlowTable *table, Ports *ports, Binder *binder, Changes *changes)
        : table_(*table),
          ports_(*ports),
          binder_(*binder),
          changes_(*changes) {}

    // Puts a flow in the tables, or modifies it.  Stores its mask's subtable
    // in '*mask', or kNone if nothing was changed, since it is there already.
    // One that is refused remains as it was, see refuse().
    Reject put(const Ufid &, Rule *, SubtableSlot *mask);

    // It was refused: what it was before must not be executed any more.
    // Forgets it if there is nothing to remember.
    void refuse(const Ufid &, const Reject &why);

    // Takes flows out of the tables.  Needs no memory.
    void park(const Ufid &, const Reject &why);
    void park(std::span<Flow *const>, const Reject &why);
    void park_entering(PortSlot, const Reject &why);
    void park_all_of(PortSlot, const Reject &why);  // Those that leave, too.

    // The port's flows have been parked, and its slot will be another's.
    void forget_port(PortSlot);

    // What the flow has counted since the last call.  ENODATA: it is not
    // executed now; ENOENT: not known.
    int take(const Ufid &, FlowStats *delta);
    // Deletes the flow; '*remaining' is what take() would have returned.
    int remove(const Ufid &, FlowStats *remaining);

    Flow *find(const Ufid &);  // Null if it is not known.
    // Is the flow in the tables, and can its output ports transmit?
    bool is_executed(const Flow &flow) const {
        return flow.is_placed()
            && ports_.reaches(flow.in, {flow.out.data(), flow.out.size()});
    }
    // All that it has counted.
    FlowStats total(const Flow &) const;
    SubtableSlot mask_of(const Flow &flow) const {
        return table_.subtable_of(flow.slot);
    }

    ByUfid &by_ufid() { return flows_; }
    const ByUfid &by_ufid() const { return flows_; }

    uint64_t n_placed() const { return n_placed_; }
    // quiesce() gave up this often.
    uint64_t n_late_removals() const { return n_late_removals_; }
    const FlowStats &past() const { return past_; }  // Of those removed.
    // Of packets, which count once, however many flows they pass.
    Growth entered() const;

private:
    Reject place(const Ufid &, Rule *, Flow *, SubtableSlot *mask);
    template <typename Fn>
    void park_those(Fn is_one, const Reject &why);

    FlowTable &table_;
    Ports &ports_;
    Binder &binder_;
    Changes &changes_;
    ByUfid flows_;
    uint64_t n_placed_ = 0;
    uint64_t n_late_removals_ = 0;
    FlowStats past_;
    Growth past_entered_;  // Of entered(), those of flows removed.
};

}  // namespace flowxlate

#endif
