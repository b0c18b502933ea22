// SPDX-License-Identifier: Apache-2.0
#include "engine/flow_operations.h"

#include <linux/openvswitch.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cinttypes>
#include <string>
#include <utility>
#include <vector>

#include "base/netlink_attr.h"
#include "bpf/abi/tunnel.h"
#include "translate/describe.h"

namespace flowxlate {
namespace {

// A host without these members has no flow that pushes headers.
void set_source_ports(const ovs_offload_flow &flow, xf_tunnel *t) {
    if (flow.size < offsetof(ovs_offload_flow, has_twin)) {
        return;
    }
    t->port_min = flow.tunnel_port_min;
    t->n_ports = flow.tunnel_port_max > t->port_min
                   ? flow.tunnel_port_max - t->port_min
                   : 1;
}

// A host without this member has none.
bool has_twin(const ovs_offload_flow &flow) {
    return flow.size >= sizeof flow && flow.has_twin;
}

std::vector<std::byte> copy_of(const void *p, size_t n) {
    const auto b = bytes_of(p, n);
    return {b.begin(), b.end()};
}

}  // namespace

Reject FlowOperations::translate(const ovs_offload_flow &flow, Rule *w) {
    if (auto r = decode_match(bytes_of(flow.key, flow.key_len),
                              bytes_of(flow.mask, flow.mask_len), &w->match,
                              core_.host.dont_fragment())) {
        return r;
    }
    w->has_twin = has_twin(flow);
    if (auto r = decode_actions(bytes_of(flow.actions, flow.actions_len),
                                w->match, &w->actions)) {
        return r;
    }
    if (w->actions.verdict == XF_HASH_RECIRC && !can_hash_) {
        return {"action", "hash", EOPNOTSUPP};
    }
    if (auto r = check_connections(flow, *w)) {
        return r;
    }
    find_devices(w, [&](OdpPort port) {
        const auto ifindex = core_.ask().port_ifindex(flow.dpif_type, port);
        if (index(ifindex) == 0 || index(ifindex) == -1) {
            w->unknown.push_back(port);
        }
        return ifindex;
    });
    if (w->actions.tunnel.len) {
        w->into =
            core_.ask().port_ifindex(flow.dpif_type, w->actions.tunnel_port);
        set_source_ports(flow, &w->actions.tunnel);
    }
    return {};
}

// Connections are those that OVS tells of.
Reject FlowOperations::check_connections(const ovs_offload_flow &flow,
                                         const Rule &rule) const {
    if (flow.dpif_type != std::string_view(kUserspaceDatapath)) {
        return check_kernel_tracking(rule, core_.kernel_ct);
    }
    return !needs_connections(rule) || core_.connections->is_open()
             ? Reject{}
             : Reject{"action", "ct_not_told", EOPNOTSUPP};
}

// Tags that OVS begins or ceases to look behind change what packets match.  No
// flow gets wrong by that, since one for packets with a tag more or less does
// not match them: they take the miss path until OVS has made new flows.
void FlowOperations::follow_vlan_limit(uint32_t limit) {
    if (limit != vlan_limit_) {
        vlan_limit_ = limit;
        core_.maps.set_max_tags(std::clamp(limit, 1U, uint32_t{XF_MAX_TAGS}));
    }
}

int FlowOperations::put(const ovs_offload_flow &f) {
    if (takeover_.is_leaving()) {
        return EOPNOTSUPP;
    }
    const uint64_t port_events = core_.n_port_events();
    try {
        Rule rule;
        auto refused = translate(f, &rule);
        if (!refused) {
            refused = place(Ufid::from(f.ufid), &rule, f.vlan_limit);
        }
        if (refused) {
            refuse(f, refused, port_events);
            comeback_.note_what_is_missing(f, rule, refused);
        }
        comeback_.look_for_missing_ports(f.dpif_type);
        return refused.error;
    } catch (...) {
        // What it was before must not be executed any more.
        StateLock lock(core_);
        core_.flows->park(Ufid::from(f.ufid), {"parked", "no_memory", ENOMEM});
        throw;
    }
}

Reject FlowOperations::place(const Ufid &ufid, Rule *rule,
                             uint32_t vlan_limit) {
    StateLock lock(core_);
    follow_vlan_limit(vlan_limit);
    SubtableSlot mask;
    if (auto r = core_.flows->put(ufid, rule, &mask)) {
        return r;
    }
    if (mask != SubtableSlot::kNone) {
        takeover_.note_flow();
        evictor_.put(mask);
    }
    core_.refusals.remove(ufid);
    return {};
}

// Leaves the flow to OVS, and remembers why.
void FlowOperations::refuse(const ovs_offload_flow &f, const Reject &why,
                            uint64_t port_events) {
    const auto ufid = Ufid::from(f.ufid);
    const auto in = entrance_of(f);
    uint64_t n_unlogged;
    {
        StateLock lock(core_);
        follow_vlan_limit(f.vlan_limit);
        core_.flows->refuse(ufid, why);
        // It may flood what will be a flow of ours as soon as OVS has learned
        // the address.
        if (!core_.refusals.has(ufid)) {
            takeover_.note_flow();
        }
        n_unlogged = remember_refusal(f, why, in, port_events);
    }
    if (n_unlogged) {
        log_refusal(f, why, n_unlogged);
    }
}

Ifindex FlowOperations::entrance_of(const ovs_offload_flow &f) const {
    AttrReader reader(bytes_of(f.key, f.key_len));
    uint32_t port;
    while (auto a = reader.next()) {
        if (a->type == OVS_KEY_ATTR_IN_PORT
            && read_exactly(a->payload, &port)) {
            return core_.ask().port_ifindex(f.dpif_type, OdpPort{port});
        }
    }
    return {};
}

// Returns what RefusalCounts::note() does.
uint64_t FlowOperations::remember_refusal(const ovs_offload_flow &f,
                                          const Reject &why, Ifindex in,
                                          uint64_t port_events) {
    const auto now = std::chrono::steady_clock::now();
    const auto ufid = Ufid::from(f.ufid);
    Refusal refusal;
    refusal.ufid = ufid;
    refusal.reason = why;
    refusal.last = now;
    refusal.in = in;
    refusal.port_events = port_events;
    refusal.flow = {f.dpif_type, copy_of(f.key, f.key_len),
                    copy_of(f.mask, f.mask_len),
                    copy_of(f.actions, f.actions_len)};
    core_.refusals.add(std::move(refusal));

    return core_.refused.note(why, ufid, now);
}

void FlowOperations::log_refusal(const ovs_offload_flow &f, const Reject &why,
                                 uint64_t n) const {
    std::string line = "flow ufid:" + Ufid::from(f.ufid).to_string()
                     + " stays in OVS, " + why.name();
    if (n > 1) {
        append(&line, " (and %" PRIu64 " more since the last such line)",
               n - 1);
    }
    core_.log(OVS_OFFLOAD_LOG_INFO, line + ": " + core_.ask().flow_text(f));
}

void FlowOperations::to_abi(const FlowStats &from, ovs_offload_stats *to) {
    to->n_packets = from.packets;
    to->n_bytes = from.bytes;
    to->used_ms =
        static_cast<int64_t>(core_.clock.monotonic_ns(from.used) / 1'000'000);
    to->tcp_flags = from.tcp_flags;
}

int FlowOperations::stats(const Ufid &ufid, ovs_offload_stats *stats) {
    StateLock lock(core_);
    const Flow *flow = core_.flows->find(ufid);
    if (!flow || !core_.flows->is_executed(*flow)) {
        return ENOENT;
    }
    to_abi(core_.flows->total(*flow), stats);
    return 0;
}

int FlowOperations::take(const Ufid &ufid, ovs_offload_stats *delta) {
    StateLock lock(core_);
    FlowStats counted;
    const int error = core_.flows->take(ufid, &counted);
    if (error) {
        core_.refusals.see(ufid, std::chrono::steady_clock::now());
    }
    if (error != ENOENT) {
        to_abi(counted, delta);
    }
    return error;
}

int FlowOperations::del(const Ufid &ufid, ovs_offload_stats *remaining) {
    if (takeover_.is_leaving()) {
        return ENOENT;
    }
    StateLock lock(core_);
    FlowStats counted;
    const int error = core_.flows->remove(ufid, &counted);
    if (!error && remaining) {
        to_abi(counted, remaining);
    }
    return error;
}

int FlowOperations::flush(Port *port) {
    if (takeover_.is_leaving()) {
        return 0;
    }
    {
        AttachLock attaching(core_);
        takeover_.hurry_now();
    }
    StateLock lock(core_);
    core_.flows->park_entering(port->slot, {"parked", "flushed", ENODEV});
    return 0;
}

uint64_t FlowOperations::count(Port *port) {
    StateLock lock(core_);
    return port->n_flows;
}

}  // namespace flowxlate
