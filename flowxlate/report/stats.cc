// SPDX-License-Identifier: Apache-2.0
// What the offload tells programs: xdp-offload/stats and
// xdp-offload/top-flows.
//
// What flow_take() hands out next is not changed by reading.  The mutex is
// held while all flows are visited, the JSON is written without it.  A reply
// names few flows: sending all of a large table keeps ovs-vswitchd's main
// thread for a second.
#include <algorithm>
#include <chrono>
#include <tuple>
#include <utility>

#include "bpf/abi/counters.h"
#include "report/losses_text.h"
#include "report/report.h"
#include "report/stats_json.h"
#include "report/view.h"

namespace flowxlate {
namespace {

int64_t to_ms(std::chrono::steady_clock::time_point t) {
    return std::chrono::duration_cast<std::chrono::milliseconds>(
               t.time_since_epoch())
        .count();
}

const char *name_of(Handover::Phase phase) {
    switch (phase) {
        case Handover::Phase::kHolding:
            return "holding";
        case Handover::Phase::kSampling:
            return "sampling";
        case Handover::Phase::kOver:
            break;
    }
    return "over";
}

// Of those that go to a port, or to OVS.
std::optional<CountsByErrno> by_errno(const Losses &losses, bool to_ovs) {
    if (!losses.are_known()) {
        return std::nullopt;
    }
    CountsByErrno counts;
    for (auto &e : losses.all()) {
        if (e.to_ovs == to_ovs) {
            counts[error_name(e.error)] += e.frames;
        }
    }
    return counts;
}

int64_t now_ms() { return to_ms(std::chrono::steady_clock::now()); }

// Of what flows have counted: the packets that have entered.
void count_once(FlowStats *executed, const Growth &entered) {
    executed->packets = entered.packets;
    executed->bytes = entered.bytes;
}

PortStats stats_of(const Core &core, const Port &port, const View::Sum &sum)
    REQUIRES(state_lock) {
    const auto &device = port.device;
    PortStats s;
    s.name = port.name;
    s.ifindex = port.is_tunnel() ? 0 : index(port.ifindex);
    s.type = port.type;
    s.datapath = port.of_tc              ? kTcDatapath
               : port.in_kernel_datapath ? kKernelDatapath
                                         : kUserspaceDatapath;
    s.flows = port.n_flows;
    s.waiting = sum.waiting;
    s.executed = port.past;
    s.executed += sum.stats;
    s.hits = s.executed.packets;
    count_once(&s.executed, sum.entered_since_start(port));
    s.why_no_enter = port.why_no_entry();
    s.enters = s.why_no_enter.empty();
    s.left_out = port.is_left_out();
    if (port.is_tunnel()) {
        s.mode = "tunnel";
        s.attached = s.misses_to = "none";
        s.up = true;
        s.why_no_transmit = "a tunnel has no device";
        return s;
    }
    s.limits = port.shaping.to_string();
    s.mode = s.attached = "none";
    s.misses_to = "kernel";
    if (const auto *a = port.attachment.get()) {
        s.mode = name_of(a->mode());
        s.attached = a->in_dispatcher() ? "dispatcher"
                   : a->is_filter()     ? "filter"
                                        : "link";
        s.misses_to = a->has_sockets() ? "af_xdp" : "kernel";
    }
    s.up = device.up;
    s.why_no_transmit = port.why_no_output();
    s.transmits = s.why_no_transmit.empty();
    s.max_frame = device.max_frame;
    s.passed = core.misses_of(port);
    s.searches = core.maps.searches(port.slot);
    s.lost = by_errno(port.losses, false);
    s.lost_to_ovs = by_errno(port.losses, true);
    return s;
}

TableStats table_stats(const Core &core) REQUIRES(state_lock) {
    const auto &mem = core.table->memory();
    TableStats t;
    t.flows = core.table->n_flows();
    t.max_flows = core.table->max_flows();
    t.parked = core.flows->by_ufid().size() - core.table->n_flows();
    t.refused = core.refusals.size();
    t.masks = core.table->n_subtables();
    for (int cls = 0; cls < XF_N_CLASSES; cls++) {
        t.masks_by_class[cls] = core.table->n_subtables(xf_class(cls));
    }
    t.buckets = mem.buckets.size();
    t.rewrites = core.table->n_rewrites();
    t.memory_bytes = core.maps.memory_bytes();
    t.rows = mem.rows.n_rows();
    t.sharing_cpus = mem.rows.n_sharing();
    return t;
}

FlowReport report_of(const Sources &from, const Ufid &ufid, const Flow &flow,
                     const FlowStats &stats) REQUIRES(state_lock) {
    const auto &in = from.core.ports.at(flow.in);
    FlowReport r;
    r.ufid = ufid;
    r.in_port = in ? in->name : "?";
    r.state = from.core.flows->is_executed(flow) ? "xdp"
            : flow.is_placed()                   ? "waiting"
                                                 : "parked";
    r.stats = stats;
    r.used_ms = static_cast<int64_t>(from.core.clock.monotonic_ns(stats.used)
                                     / 1'000'000);
    if (flow.is_placed()) {
        r.text = View::of(from).describe_flow(flow.slot);
    }
    return r;
}

}  // namespace

std::string Report::stats() {
    Stats s;
    s.plugin_version = FLOWXLATE_VERSION;
    s.why_losses_unknown = from_.loss_watch.why_unknown();
    from_.loss_watch.look();
    {
        StateLock lock(from_.core);
        const auto sums = View::of(from_).sum_by_port();
        s.start_ms = to_ms(from_.core.start);
        s.now_ms = now_ms();
        s.tables = table_stats(from_.core);
        for (auto &port : from_.core.ports.by_slot()) {
            if (port) {
                s.ports.push_back(
                    stats_of(from_.core, *port, sums[index(port->slot)]));
            }
        }
        s.executed = from_.core.flows->past();
        for (auto &sum : sums) {
            s.executed += sum.stats;
        }
        count_once(&s.executed, from_.core.flows->entered());
        s.placed = from_.core.flows->n_placed();
        s.evicted_masks = from_.evictor.n_masks();
        s.evicted_flows = from_.evictor.n_flows();
        s.late_removals = from_.core.flows->n_late_removals();
        for (auto &[reason, count] : from_.core.refused) {
            s.refused[reason.first + "/" + reason.second] = count.n;
        }
        s.unexecuted = View::of(from_).count_unexecuted();
        s.handover_phase = name_of(from_.takeover.phase());
        s.handover_ports = from_.takeover.ports().size();
    }
    return to_json(s);
}

// Several may look in turn: each gets what has grown since the last look,
// whoever's that was, and when it was.
std::string Report::top_flows(size_t n, Order order) {
    struct Seen {
        const Ufid *ufid;
        const Flow *flow;
        FlowStats stats;
        Growth growth;
    };
    auto is_busier = [=](const Seen &a, const Seen &b) {
        auto rank = [=](const Seen &s) {
            return order == Order::kByBytes
                     ? std::tuple(s.growth.bytes, s.stats.bytes)
                     : std::tuple(s.growth.packets, s.stats.packets);
        };
        return rank(a) > rank(b);
    };
    TopFlows top;
    {
        StateLock lock(from_.core);
        const auto now = std::chrono::steady_clock::now();
        top.since_ms = to_ms(std::exchange(last_look_, now));
        top.now_ms = to_ms(now);
        std::vector<Seen> all;
        all.reserve(from_.core.flows->by_ufid().size());
        for (auto &[ufid, flow] : from_.core.flows->by_ufid()) {
            const FlowStats stats = from_.core.flows->total(flow);
            const Growth growth{stats.packets - flow.looked_at.packets,
                                stats.bytes - flow.looked_at.bytes};
            flow.looked_at = {stats.packets, stats.bytes};
            all.push_back({&ufid, &flow, stats, growth});
        }
        n = std::min(n, all.size());
        std::partial_sort(all.begin(), all.begin() + static_cast<ptrdiff_t>(n),
                          all.end(), is_busier);
        for (auto &seen : std::span(all).first(n)) {
            top.flows.push_back(
                report_of(from_, *seen.ufid, *seen.flow, seen.stats));
            top.flows.back().growth = seen.growth;
        }
    }
    return to_json(top);
}

}  // namespace flowxlate
