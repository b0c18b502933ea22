// SPDX-License-Identifier: Apache-2.0
#include "engine/flows.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include <boost/container/static_vector.hpp>

namespace flowxlate {

Flow *Flows::find(const Ufid &ufid) {
    auto it = flows_.find(ufid);
    return it == flows_.end() ? nullptr : &it->second;
}

FlowStats Flows::total(const Flow &flow) const {
    FlowStats sum = flow.past;
    if (flow.is_placed()) {
        sum += table_.stats(flow.slot);
    }
    return sum;
}

Growth Flows::entered() const {
    Growth sum = past_entered_;
    for (auto &[ufid, flow] : flows_) {
        if (flow.is_first) {
            sum += total(flow);
        }
    }
    return sum;
}

Reject Flows::put(const Ufid &ufid, Rule *rule, SubtableSlot *mask) {
    const auto [it, is_new] = flows_.try_emplace(ufid);
    try {
        return place(ufid, rule, &it->second, mask);
    } catch (...) {
        if (is_new) {
            flows_.erase(it);
        }
        throw;
    }
}

// Puts the flow in the tables, in place of what it was before.
Reject Flows::place(const Ufid &ufid, Rule *rule, Flow *flow,
                    SubtableSlot *mask) {
    *mask = SubtableSlot::kNone;
    Binding uses;
    if (auto r = binder_.bind(rule, &uses)) {
        return r;
    }
    const FlowAction does = Binder::action_of(*rule, uses);
    const Match &match = rule->match;
    FlowSlot slot = flow->slot;
    const bool same_match =
        flow->is_placed()
        && table_.has_match(slot, match.cls, match.key, match.mask);
    if (same_match && table_.has_action(slot, does)) {
        return {};  // OVS offers each PMD thread's copy of a megaflow.
    }
    if (auto r = same_match ? table_.replace(&slot, does)
                            : table_.insert(match.cls, match.key, match.mask,
                                            does, &slot, ufid)) {
        return r;
    }
    if (same_match) {
        n_late_removals_ += !table_.quiesce();
        flow->past += table_.stats(flow->slot);
        changes_.wakes_worker = true;
    } else {
        if (flow->is_placed()) {  // Its match has changed.
            // Programs that have not seen the new one find the old one still.
            n_late_removals_ += !table_.quiesce();
            park({{flow}}, {});
        }
        uses.in->n_flows++;
        n_placed_++;
    }
    flow->slot = slot;
    flow->ovs_forwards_too = !uses.in->in_kernel_datapath || rule->has_twin;
    flow->enters = !rule->match.recirc_id;
    flow->is_first = flow->enters && !uses.in->is_tunnel();
    flow->parked = {};
    flow->in = uses.in->slot;
    flow->out = std::move(uses.out);
    flow->into = uses.into;
    flow->recirc = std::move(uses.recirc);
    flow->next = std::move(uses.next);
    flow->group = std::move(uses.group);
    flow->tunnel = std::move(uses.tunnel);
    *mask = mask_of(*flow);
    return {};
}

// -- Parking ----------------------------------------------------------------

// Takes the flows out of the tables and keeps their final figures.
void Flows::park(std::span<Flow *const> flows, const Reject &why) {
    auto is_placed = [](auto *f) { return f->is_placed(); };
    if (std::none_of(flows.begin(), flows.end(), is_placed)) {
        return;
    }
    for (auto *flow : flows) {
        if (flow->is_placed()) {
            table_.remove(flow->slot);
        }
    }
    n_late_removals_ += !table_.quiesce();
    for (auto *flow : flows) {
        if (flow->is_placed()) {
            flow->past += table_.stats(flow->slot);
            flow->slot = FlowSlot::kNone;
            flow->parked = why;
            flow->port_events = ports_.n_events();
            flow->recirc = {};
            flow->next = {};
            flow->group = {};
            flow->tunnel = {};
            ports_.at(flow->in)->n_flows--;
        }
    }
    changes_.wakes_worker = true;
}

void Flows::park(const Ufid &ufid, const Reject &why) {
    if (Flow *flow = find(ufid)) {
        park({{flow}}, why);
    }
}

template <typename Fn>
void Flows::park_those(Fn is_one, const Reject &why) {
    // Some at a time: this must not need memory.
    boost::container::static_vector<Flow *, 256> doomed;
    for (auto &[ufid, flow] : flows_) {
        if (is_one(flow)) {
            doomed.push_back(&flow);
        }
        if (doomed.size() == doomed.capacity()) {
            park({doomed.data(), doomed.size()}, why);
            doomed.clear();
        }
    }
    park({doomed.data(), doomed.size()}, why);
}

void Flows::park_entering(PortSlot port, const Reject &why) {
    park_those([=](const Flow &flow) { return flow.in == port; }, why);
}

void Flows::park_all_of(PortSlot port, const Reject &why) {
    park_those(
        [=](const Flow &flow) {
            return flow.in == port || flow.into == port
                || std::find(flow.out.begin(), flow.out.end(), port)
                       != flow.out.end();
        },
        why);
}

void Flows::forget_port(PortSlot port) {
    for (auto &[ufid, flow] : flows_) {
        if (flow.in == port) {
            flow.in = PortSlot::kNone;
        }
    }
}

void Flows::refuse(const Ufid &ufid, const Reject &why) {
    auto it = flows_.find(ufid);
    if (it == flows_.end()) {
        return;
    }
    Flow *flow = &it->second;
    park({{flow}}, why);
    if (!total(*flow).packets && !flow->taken.packets) {
        flows_.erase(it);
    }
}

// -- Figures ----------------------------------------------------------------

namespace {

// 'now' has at least what 'taken' has.
FlowStats since(const FlowStats &taken, const FlowStats &now) {
    FlowStats delta = now;
    delta.packets -= taken.packets;
    delta.bytes -= taken.bytes;
    return delta;
}

}  // namespace

int Flows::take(const Ufid &ufid, FlowStats *delta) {
    Flow *flow = find(ufid);
    if (!flow) {
        return ENOENT;
    }
    const auto now = total(*flow);
    *delta = since(flow->taken, now);
    flow->taken = now;
    return is_executed(*flow) ? 0 : ENODATA;
}

int Flows::remove(const Ufid &ufid, FlowStats *remaining) {
    auto it = flows_.find(ufid);
    if (it == flows_.end()) {
        return ENOENT;
    }
    Flow *flow = &it->second;
    park({{flow}}, {});
    *remaining = since(flow->taken, flow->past);
    past_ += flow->past;
    if (flow->is_first) {
        past_entered_ += flow->past;
    }
    if (Port *in = ports_.at(flow->in)) {
        in->past += flow->past;
        if (flow->enters) {
            in->past_entered += flow->past;
        }
    }
    flows_.erase(it);
    return 0;
}

}  // namespace flowxlate
