// SPDX-License-Identifier: Apache-2.0
// xdp-offload/show and xdp-offload/rejects: all that there is to tell.
#include <cinttypes>

#include "bpf/abi/counters.h"
#include "report/connections.h"
#include "report/losses_text.h"
#include "report/report.h"
#include "report/view.h"
#include "translate/describe.h"
#include "translate/reasons.h"

namespace flowxlate {
namespace {

// What is asked about a port without the mutex.
struct Asked {
    uint32_t n_queues = 1;
    std::string why_generic;
    bool has_rules = false;
    std::string why_losses_unknown;
};

// A tunnel port: it has no device, and what it could not take is counted where
// the outer packet came from.
void show_tunnel(const Port &port, const View::Sum &sum, std::string *s) {
    const Growth entered = sum.entered_since_start(port);
    append(s,
           "  %s: tunnel, type %s, slot %u\n    entered: packets:%" PRIu64
           ", bytes:%" PRIu64 " in XDP by %zu flows",
           port.name.c_str(), port.type.c_str(), index(port.slot),
           entered.packets, entered.bytes, port.n_flows);
    if (sum.waiting) {
        append(s, " (%zu of them wait for their output port)", sum.waiting);
    }
    *s += "\n";
    if (port.is_left_out()) {
        append(s, "    %s\n", port.why_no_entry().c_str());
    }
}

const char *hook_of(const Attachment &a) {
    return a.mode() == AttachMode::kTc     ? "TC's ingress"
         : a.mode() == AttachMode::kNative ? "native XDP"
                                           : "generic XDP";
}

void show_attachment(const Port &port, const Asked &asked, std::string *s) {
    if (!port.attachment) {
        *s += "    attached: no, all packets go to the kernel\n";
        return;
    }
    const auto &a = *port.attachment;
    append(
        s, "    attached: %s, %s, %u queue%s, %s go to %s\n", hook_of(a),
        a.in_dispatcher() ? "in libxdp's dispatcher"
        : a.is_filter()   ? "a filter, the last one"
        : a.mode() == AttachMode::kTc
            ? (a.is_persistent() ? "tcx (BPF link, pinned)" : "tcx (BPF link)")
        : a.is_persistent() ? "alone (BPF link, pinned)"
                            : "alone (BPF link)",
        asked.n_queues, asked.n_queues == 1 ? "" : "s",
        port.is_left_out() ? "all packets" : "misses",
        port.lost_sockets ? "nobody: the device was away, remove the port "
                            "from OVS and add it again"
        : a.has_sockets() ? "AF_XDP sockets"
                          : "the kernel");
    if (!asked.why_generic.empty()) {
        append(s, "    generic because: %s\n", asked.why_generic.c_str());
    }
    if (a.is_taking_over()) {
        append(s,
               "    taking over: flows of an earlier ovs-vswitchd are still "
               "executed%s\n",
               asked.has_rules ? "" : ", as OpenFlow rules are missing");
    }
}

void show_port(const Port &port, const View::Sum &sum, const Asked &asked,
               const std::array<uint64_t, XF_N_MISSES> &misses,
               std::string *s) {
    const Growth entered = sum.entered_since_start(port);

    append(s, "  %s: ifindex %d, type %s, slot %u\n", port.name.c_str(),
           index(port.ifindex), port.type.c_str(), index(port.slot));
    if (port.device.exists && port.device.name != port.name) {
        append(s, "    device: is called %s now\n", port.device.name.c_str());
    }
    show_attachment(port, asked, s);
    if (port.attachment && port.attachment->is_captured()) {
        append(s, "    captured: what enters is copied for who looks\n");
    }
    const auto why_not = port.why_no_output();
    if (!why_not.empty()) {
        append(s, "    transmit: no, %s\n", why_not.c_str());
    } else {
        const auto not_from_xdp = port.why_not_from_xdp();
        append(s, "    transmit: yes, frames of up to %u bytes%s%s\n",
               port.device.max_frame,
               not_from_xdp.empty() ? "" : "; none that enter in XDP: ",
               not_from_xdp.c_str());
    }
    if (auto why = port.why_no_entry(); !why.empty()) {
        append(s, "    enter: no flows, %s\n", why.c_str());
    } else if (!port.device.entrance.vlans.empty()) {
        append(s,
               "    enter: no flows of VLANs that devices on top of it take: "
               "%s\n",
               to_string(port.device.entrance.vlans).c_str());
    }
    if (!port.shaping.to_string().empty()) {
        append(s,
               "    limits: packets executed in XDP pass by its %s (\"%s\" "
               "leaves the port out)\n",
               port.shaping.to_string().c_str(),
               port.command_to_leave_out().c_str());
    }
    append(s,
           "    entered: packets:%" PRIu64 ", bytes:%" PRIu64
           " in XDP by %zu flows",
           entered.packets, entered.bytes, port.n_flows);
    if (sum.waiting) {
        append(s, " (%zu of them wait for their output port)", sum.waiting);
    }
    append(s, "\n    passed to %s:", port.of_tc ? "TC" : "OVS");
    for (int reason = 0; reason < XF_N_MISSES; reason++) {
        if (auto n = misses[reason]) {
            append(s, " %s:%" PRIu64, miss_name(xf_miss(reason)), n);
        }
    }
    append(s, "\n    redirect errors: %s", describe(port.losses).c_str());
    if (!asked.why_losses_unknown.empty()) {
        append(s, " (not known: %s)", asked.why_losses_unknown.c_str());
    }
    *s += "\n";
}

void show_tables(const View &view, size_t memory_bytes, std::string *s) {
    const auto &mem = view.table.memory();
    append(
        s,
        "tables:\n  flows: %zu of %zu, %zu more known but not in the tables\n",
        view.table.n_flows(), view.table.max_flows(),
        view.flows.by_ufid().size() - view.table.n_flows());
    append(s, "  subtables: %zu of %d (", view.table.n_subtables(),
           XF_MAX_MASKS);
    for (int cls = 0; cls < XF_N_CLASSES; cls++) {
        append(s, "%s%s %zu", cls ? ", " : "", class_name(cls),
               view.table.n_subtables(xf_class(cls)));
    }
    append(s,
           ")\n  evicted, idle while masks were scarce: masks:%" PRIu64
           ", flows:%" PRIu64 "\n",
           view.n_evicted_masks, view.n_evicted_flows);
    append(s, "  buckets: %zu of %d entries\n", mem.buckets.size(),
           XF_BUCKET_ENTRIES);
    append(s, "  memory: %zu KiB shared by all ports\n", memory_bytes / 1024);
    append(s, "  rows: %u for %u CPUs, of which %u share one\n",
           mem.rows.n_rows(), mem.rows.n_cpus(), mem.rows.n_sharing());
}

void show_unexecuted(const View &view, std::string *s) {
    const auto counts = view.count_unexecuted();
    size_t sum = 0;
    for (auto &[reason, n] : counts) {
        sum += n;
    }
    append(s, "flows not executed in XDP now: %zu (xdp-offload/explain)\n",
           sum);
    for (auto &[reason, n] : counts) {
        append(s, "  %s: %zu\n", reason.c_str(), n);
    }
}

}  // namespace

std::vector<View::Sum> View::sum_by_port() const {
    std::vector<Sum> sums(XF_MAX_PORTS);
    for (auto &[ufid, flow] : flows.by_ufid()) {
        auto &sum = sums[index(flow.in)];
        const FlowStats total = flows.total(flow);
        sum.stats += total;
        if (flow.enters) {
            sum.entered += total;
        }
        sum.waiting += flow.is_placed() && !flows.is_executed(flow);
    }
    return sums;
}

void show_persistence(const Sources &from, std::string *s) {
    if (is_tcs(from.core)) {
        *s += "restarts: flows end with this process, and TC goes on\n";
        return;
    }
    if (!from.takeover.persists()) {
        append(s, "restarts: flows end with this process: %s\n",
               from.takeover.why_flows_end().c_str());
        return;
    }
    std::string others;
    for (auto &[ifindex, port] : from.core.ports.by_ifindex()) {
        if (port->attachment && !port->attachment->is_persistent()) {
            others += (others.empty() ? "" : ", ") + port->name;
        }
    }
    append(s, "restarts: flows survive ovs-vswitchd (%s)%s%s\n",
           Pins::kDirectory,
           others.empty() ? "" : ", but those of ports that are not pinned: ",
           others.c_str());
}

std::string Report::show() {
    struct Question {
        std::string name;
        bool is_generic;
    };
    std::map<Ifindex, Question> questions;
    std::map<Ifindex, Asked> asked;
    {
        StateLock lock(from_.core);
        for (auto &[ifindex, port] : from_.core.ports.by_ifindex()) {
            questions[ifindex] = {
                port->device.name,
                port->attachment && port->mode == AttachMode::kGeneric};
        }
    }
    for (auto &[ifindex, question] : questions) {
        asked[ifindex] = {Devices::count_queues(question.name),
                          question.is_generic
                              ? from_.core.devices.why_generic(ifindex)
                              : std::string(),
                          from_.core.host.notify.has_rules(),
                          from_.loss_watch.why_unknown()};
    }
    from_.loss_watch.look();

    StateLock lock(from_.core);
    const View view = View::of(from_);
    const auto sums = view.sum_by_port();
    std::string s = "ports:\n";
    for (auto &port : from_.core.ports.by_slot()) {
        if (port && port->is_tunnel()) {
            show_tunnel(*port, sums[index(port->slot)], &s);
        } else if (port) {
            show_port(*port, sums[index(port->slot)], asked[port->ifindex],
                      from_.core.misses_of(*port), &s);
        }
    }
    show_tables(view, from_.core.maps.memory_bytes(), &s);
    show_connections(*from_.core.connections, &s);
    show_persistence(from_, &s);
    FlowStats all = from_.core.flows->past();
    for (auto &sum : sums) {
        all += sum.stats;
    }
    const Growth entered = from_.core.flows->entered();
    append(&s, "kernel: %s\n", from_.core.kernel.to_string().c_str());
    append(&s,
           "since start: flows put in XDP:%" PRIu64 ", packets:%" PRIu64
           ", bytes:%" PRIu64 ", by ct():%" PRIu64 "\n",
           from_.core.flows->n_placed(), entered.packets, entered.bytes,
           all.tracked);
    append(&s, "flows refused: %" PRIu64 " (xdp-offload/rejects says why)\n",
           from_.core.refused.total());
    show_unexecuted(view, &s);
    if (from_.core.flows->n_late_removals()) {
        append(&s, "removals that did not wait for a busy CPU: %" PRIu64 "\n",
               from_.core.flows->n_late_removals());
    }
    return s;
}

std::string Report::rejects() {
    StateLock lock(from_.core);
    std::string s;
    for (auto &[reason, count] : from_.core.refused) {
        append(&s, "%s/%s: %" PRIu64 " (last ufid:%s)\n", reason.first.c_str(),
               reason.second.c_str(), count.n, count.last.to_string().c_str());
    }
    return s.empty() ? "no flow was refused\n" : s;
}

}  // namespace flowxlate
