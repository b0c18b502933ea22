// SPDX-License-Identifier: Apache-2.0
// From a flow in OVS's terms to one in the tables': its ports, recirculation
// ids and groups of outputs become slots, if it can be executed here.
//
// The caller serializes all calls.
#ifndef FLOWXLATE_BINDER_H
#define FLOWXLATE_BINDER_H

#include <array>
#include <vector>

#include <boost/container/small_vector.hpp>

#include "base/resource.h"
#include "base/types.h"
#include "bpf/abi/tunnel.h"
#include "engine/ports.h"
#include "kernel/datapath.h"
#include "kernel/entrance.h"
#include "tables/flow_table.h"
#include "tables/recirc.h"
#include "tables/tunnels.h"
#include "translate/actions.h"
#include "translate/match.h"

namespace flowxlate {

using PortSlots = boost::container::small_vector<PortSlot, 1>;

// A flow as OVS wants it.
struct Rule {
    Match match;
    Actions actions;
    Ifindex in{};
    std::vector<Ifindex> out;      // XF_POP: the tunnel port.
    Ifindex into{};                // The tunnel port whose headers it puts on.
    std::vector<OdpPort> unknown;  // Those that are no ports of ours.
    bool has_twin = false;         // ovs_offload_flow's.
};

// Fills in 'in' and 'out' of the rule: the devices of the ports that its match
// and actions name.
template <typename Fn>
void find_devices(Rule *rule, Fn device_of) {
    rule->in = device_of(rule->match.in_port);
    for (auto port : rule->actions.out_ports) {
        rule->out.push_back(device_of(port));
    }
    if (rule->actions.verdict == XF_POP) {
        rule->out.push_back(device_of(rule->actions.pop));
    }
}

// What a flow uses while it is in the tables: its ports, the recirculation id
// that it matches and the one that it goes on with, its output ports if they
// are several, and the outer headers that it puts before packets.
struct Binding {
    Port *in = nullptr;
    PortSlots out;                    // Empty: drop, or recirculation.
    PortSlot into = PortSlot::kNone;  // A tunnel port.
    RecircIds::Use recirc, next;
    Groups::Use group;
    Tunnels::Use tunnel;
};

// Why OVS would not execute the flow on all frames that XDP would.  'generic':
// the program runs on sk_buffs, which whoever injected them, or a program
// before ours, may have marked.
Reject check_entrance(const Entrance &, bool generic, const Match &);

// Does the flow have to do with connections?
bool needs_connections(const Rule &);
// May ct() be executed in the kernel datapath?  'kernel_ct': programs can ask
// for its connections.
Reject check_kernel_tracking(const Rule &, bool kernel_ct);

// What is not executed as the kernel datapath would, at any hook.
Reject check_kernel_rule(const Rule &);

// What the hook where its packets enter does not execute.
Reject check_hook(const Rule &, AttachMode in);

class Binder {
public:
    Binder(Datapath *datapath, Ports *ports)
        : datapath_(*datapath), ports_(*ports) {}

    // Finds all that the rule needs, and writes what it matches of that into
    // 'rule->match'.
    Reject bind(Rule *rule, Binding *);

    // What a flow that is bound does.
    static FlowAction action_of(const Rule &, const Binding &);

    // Groups need device maps, which are made one after the other, as that
    // takes a grace period each.
    void add_devices(GroupSlot, Fd devices);
    // Writes a port's groups again, after its device has come back.
    void refill_groups(PortSlot);

    // Grace periods of slots (slot_pool.h): does one wait for it?
    bool begin_grace();
    void end_grace();

    const Group &group(GroupSlot slot) const { return groups_.key(slot); }
    const xf_tunnel &tunnel(TunnelSlot slot) const {
        return tunnels_.key(slot).tunnel;
    }
    uint32_t recirc_id(RecircSlot slot) const { return recirc_ids_.key(slot); }

private:
    Reject find_ports(const Rule &, Binding *);
    Reject check_left_out(const Binding &) const;
    Reject check_kernel_datapath(const Rule &, const Binding &);
    Reject get_group(const Binding &, Groups::Use *);
    Reject get_tunnel(const TunnelHeaders &, Tunnels::Use *);
    Failure fill_group(GroupSlot, const Group &);

    Datapath &datapath_;
    Ports &ports_;
    RecircIds recirc_ids_{XF_MAX_RECIRCS - 1, "recirc_ids"};
    Groups groups_{XF_MAX_GROUPS - 1, "groups"};
    Tunnels tunnels_{XF_MAX_TUNNELS - 1, "tunnels"};
    std::array<Fd, XF_MAX_GROUPS> group_devices_;  // By slot.
};

}  // namespace flowxlate

#endif
