// SPDX-License-Identifier: Apache-2.0
// Why flows are not executed in XDP: xdp-offload/explain, the totals in
// xdp-offload/show, and lines in the log.
//
// Four things can be the matter with a flow.  It was refused (refusals.h); it
// has lost its place (Flow::parked); it waits for its output port; or OVS has
// never offered it, because it enters through a port that is not ours, and
// then we do not know of it.
//
// Refused flows are shown as OVS prints them, by Host::Ask::flow_text(), which
// must not be called with the mutex; so flows are first copied, then written
// down.
#include <linux/openvswitch.h>
#include <net/if.h>

#include <algorithm>
#include <cinttypes>
#include <optional>

#include "report/health.h"
#include "report/mask_usage.h"
#include "report/report.h"
#include "report/view.h"
#include "translate/describe.h"
#include "translate/reasons.h"

namespace flowxlate {
namespace {

constexpr size_t kMaxFilter = 128;
constexpr size_t kMinUfidFilter = 8;       // As long as a UUID's first group.
constexpr size_t kShownOfAll = 10;         // Flows per reason, without a
constexpr size_t kShownIfFiltered = 1000;  // filter and with one.

long long seconds_since(Refusal::Time t) {
    const auto age = std::chrono::steady_clock::now() - t;
    return std::chrono::duration_cast<std::chrono::seconds>(age).count();
}

const char *plural(uint64_t n) { return n == 1 ? "" : "s"; }

// The flows of one reason, not all of which are shown.
struct Shown {
    Ufid ufid;
    std::string line, text;
    FlowCopy flow;  // If there is no text yet.
    Blanks blanks;  // But for the flow.
};
struct Section {
    size_t n = 0;
    std::vector<Shown> shown;
};
using Sections = std::map<std::string, Section>;

// The match of a flow's text, for xdp-offload/trace; empty if that cannot make
// a packet of it.
std::string traceable(const std::string &text) {
    const bool is_first = text.find("recirc_id(") == text.npos
                       || text.starts_with("recirc_id(0)");
    return is_first ? text.substr(0, text.find(", actions:")) : "";
}

// Filled in for the first of the flows.
std::string command_for(const Reason &reason, const Section &section) {
    if (section.shown.empty()) {
        return reason.command;
    }
    Blanks blanks = section.shown.front().blanks;
    blanks.flow = traceable(section.shown.front().text);
    return fill_in(reason.command, blanks);
}

void append_section(const std::string &name, const Section &section,
                    std::string *s) {
    append(s, "\n%s: %zu flow%s\n", name.c_str(), section.n,
           plural(section.n));
    if (const auto *reason = find_reason(name)) {
        append(s, "  What it means: %s\n  What to do: %s\n",
               reason->meaning.c_str(), reason->remedy.c_str());
        if (!reason->command.empty()) {
            append(s, "  Command: %s\n",
                   command_for(*reason, section).c_str());
        }
    }
    for (auto &shown : section.shown) {
        append(s, "  %s\n", shown.line.c_str());
        if (!shown.text.empty()) {
            append(s, "    %s\n", shown.text.c_str());
        }
    }
    if (section.n > section.shown.size()) {
        append(s, "  and %zu more (xdp-offload/explain %s)\n",
               section.n - section.shown.size(), name.c_str());
    }
}

std::string to_text(const Sections &sections) {
    std::string s;
    append(&s, "%-32s %s\n", "REASON", "FLOWS");
    for (auto &[name, section] : sections) {
        append(&s, "%-32s %zu\n", name.c_str(), section.n);
    }
    for (auto &[name, section] : sections) {
        append_section(name, section, &s);
    }
    return s;
}

// Why no flow can be in XDP now; empty if some can.
std::string why_none(const View &view, bool is_enabled) {
    const auto &ports = view.ports.by_ifindex();
    const bool has_port = std::ranges::any_of(
        ports, [](auto &p) { return !p.second->is_left_out(); });
    return !is_enabled
             ? std::string("no flow is in XDP: ") + kSwitchedOff + "\n"
         : !has_port ? "no flow is in XDP: no port is (\"ovs-appctl "
                       "xdp-offload/status\" says why)\n"
                     : "";
}

std::string nothing_found(const View &view, const std::string &filter) {
    if (filter.empty()) {
        return view.flows.by_ufid().empty()
                 ? "OVS has offered no flow: there was no packet lately for "
                   "which it made one\n"
                 : "every flow that OVS has offered is executed in XDP\n";
    }
    const bool is_reason =
        std::ranges::any_of(reasons(), [&](const Reason &r) {
            return r.name.find(filter) != std::string::npos;
        });
    return is_reason ? "no flow for that reason\n"
                     : "nothing known of this: no reason has it in its name, "
                       "and no flow that is not executed in XDP has it as its "
                       "input port or ufid\n";
}

// The beginning of a ufid, if the filter may be one.
std::optional<std::string> ufid_in(const std::string &filter) {
    const auto s = filter.starts_with("ufid:") ? filter.substr(5) : filter;
    return s.size() >= kMinUfidFilter ? std::optional(s) : std::nullopt;
}

std::string text_of(const Core &core, const Ufid &ufid, const FlowCopy &copy)
    EXCLUDES(state_lock, attach_lock) {
    ovs_offload_flow f{};
    f.size = sizeof f;
    f.ufid = ufid.bytes.data();
    f.dpif_type = copy.dpif_type.c_str();
    f.key = copy.key.data();
    f.key_len = copy.key.size();
    f.mask = copy.mask.data();
    f.mask_len = copy.mask.size();
    f.actions = copy.actions.data();
    f.actions_len = copy.actions.size();
    return core.ask().flow_text(f);
}

// -- Finding ----------------------------------------------------------------

// Of a port of ours, or of another device.
std::string port_name(const View &view, Ifindex ifindex) {
    char name[IF_NAMESIZE];
    if (const Port *port = view.ports.find(ifindex)) {
        return port->name;
    }
    return index(ifindex) > 0 && if_indextoname(index(ifindex), name) ? name
                                                                      : "?";
}

// The first output port that cannot transmit.
Reject why_waiting(const View &view, const Flow &flow, const Port **which) {
    const Port &in = *view.ports.at(flow.in);
    for (auto slot : flow.out) {
        const Port &out = *view.ports.at(slot);
        *which = &out;
        if (!out.device.exists) {
            return {"waiting", "no_device", ENODEV};
        }
        if (!out.device.up) {
            return {"waiting", "link_down", ENETDOWN};
        }
        if (!out.takes_frames_from(in)) {
            return {"waiting", "cannot_transmit", EOPNOTSUPP};
        }
    }
    return {};
}

// A flow that is not executed in XDP now.
struct Unexecuted {
    std::string reason;  // Its name.
    Ufid ufid;
    std::string port;      // Where it enters.
    std::string detail;    // What else there is to say.
    std::string out_port;  // Which one is at fault, if that is known.
    FlowSlot slot{};       // In the tables; kNone if it is not.
    const FlowCopy *flow;  // As OVS has offered it; null if not known.
};

// The port that is left out, if there is one, and only one.
std::string the_port_left_out(const View &view) {
    std::vector<std::string> names;
    for (auto &port : view.ports.by_slot()) {
        if (port && port->is_left_out()) {
            names.push_back(port->name);
        }
    }
    return names.size() == 1 ? names[0] : "";
}

// Calls fn(Unexecuted) for all.
template <typename Fn>
void for_each_unexecuted(const View &view, Fn fn) {
    const auto left_out = the_port_left_out(view);
    for (auto &r : view.refusals) {
        std::string detail;
        append(&detail, "refused %" PRIu64 " time%s, last %lld s ago", r.n,
               plural(r.n), seconds_since(r.last));
        fn(Unexecuted{r.reason.name(), r.ufid, port_name(view, r.in), detail,
                      left_out, FlowSlot::kNone, &r.flow});
    }
    for (auto &[ufid, flow] : view.flows.by_ufid()) {
        if (view.flows.is_executed(flow) || view.refusals.has(ufid)) {
            continue;
        }
        const auto &in = view.ports.at(flow.in);
        const std::string port = in ? in->name : "?";
        const Port *out = nullptr;
        if (!flow.is_placed()) {
            if (flow.parked) {
                fn(Unexecuted{flow.parked.name(), ufid, port,
                              "was in XDP until then", left_out,
                              FlowSlot::kNone, nullptr});
            }
        } else if (auto r = why_waiting(view, flow, &out)) {
            fn(Unexecuted{r.name(), ufid, port,
                          out->name + ": " + out->why_no_output(), out->name,
                          flow.slot, nullptr});
        }
    }
}

// -- Writing down -----------------------------------------------------------

// What explain says of a flow that is fine; empty if there is none such.
std::string explain_executed(const View &view, const std::string &ufid) {
    std::string s;
    for (auto &[u, flow] : view.flows.by_ufid()) {
        if (u.to_string().starts_with(ufid) && view.flows.is_executed(flow)) {
            append(&s, "ufid:%s is executed %s: packets:%" PRIu64 "\n    %s\n",
                   u.to_string().c_str(),
                   view.ports.at(flow.in)->is_at_tc() ? "at TC's ingress"
                                                      : "in XDP",
                   view.flows.total(flow).packets,
                   view.describe_flow(flow.slot).c_str());
        }
    }
    return s;
}

// Which masks there are, if they are scarce or have been, and it is of use to
// who asks with this filter.
std::string explain_masks(const View &view, const std::string &filter) {
    const bool is_of_masks =
        std::string("table/masks").find(filter) != std::string::npos
        || std::string("parked/mask_evicted").find(filter)
               != std::string::npos;
    const bool are_scarce =
        view.table.n_subtables() + IdleMasks::kKeptFree >= XF_MAX_MASKS;
    if (!is_of_masks
        || !(are_scarce || view.n_evicted_masks
             || view.refused.has({"table", "masks", ENOSPC}))) {
        return "";
    }
    std::map<SubtableSlot, UsedMask> used;
    for (auto &[ufid, flow] : view.flows.by_ufid()) {
        if (!flow.is_placed()) {
            continue;
        }
        const auto slot = view.flows.mask_of(flow);
        auto &mask = used[slot];
        if (!mask.n_flows++) {
            mask.cls = view.table.class_of(slot);
            mask.mask = view.table.mask_of(slot);
            mask.proto = view.table.proto_of(flow.slot);
            mask.example = view.describe_flow(flow.slot);
        }
    }
    std::vector<UsedMask> masks;
    masks.reserve(used.size());
    for (auto &[slot, mask] : used) {
        masks.push_back(std::move(mask));
    }
    std::string s;
    append(&s,
           "\nmasks in use: %zu of %d, which rules make OVS look at these "
           "fields:\n",
           masks.size(), XF_MAX_MASKS);
    return s + describe_masks(masks);
}

}  // namespace

std::map<std::string, size_t> View::count_unexecuted() const {
    std::map<std::string, size_t> counts;
    for_each_unexecuted(*this,
                        [&](const Unexecuted &u) { counts[u.reason]++; });
    return counts;
}

std::string Report::explain(const std::string &filter) {
    if (filter.size() > kMaxFilter) {
        return "the filter is too long\n";
    }
    const size_t max_shown = filter.empty() ? kShownOfAll : kShownIfFiltered;
    const auto ufid = ufid_in(filter);
    Sections sections;
    std::string s, executed, masks, none;
    {
        StateLock lock(from_.core);
        const View view = View::of(from_);
        for_each_unexecuted(view, [&](const Unexecuted &u) {
            const auto id = u.ufid.to_string();
            if (u.reason.find(filter) == std::string::npos && u.port != filter
                && !(ufid && id.starts_with(*ufid))) {
                return;
            }
            auto &section = sections[u.reason];
            if (section.n++ < max_shown) {
                section.shown.push_back(
                    {u.ufid,
                     "ufid:" + id + " in_port(" + u.port + "), " + u.detail,
                     u.slot != FlowSlot::kNone ? view.describe_flow(u.slot)
                                               : "",
                     u.flow ? *u.flow : FlowCopy{},
                     {.port = u.port,
                      .out_port = u.out_port,
                      .flow = "",
                      .max_flows = view.table.max_flows()}});
            }
        });
        executed = ufid ? explain_executed(view, *ufid) : "";
        masks = explain_masks(view, filter);
        s = why_none(view, from_.core.host.notify.is_enabled());
        none = s.empty() || !filter.empty() ? nothing_found(view, filter) : "";
        if (from_.core.refusals.n_dropped()) {
            append(&s,
                   "%" PRIu64
                   " refused flows are not listed: the list holds "
                   "%zu\n",
                   from_.core.refusals.n_dropped(), Refusals::kMax);
        }
    }
    for (auto &[name, section] : sections) {
        for (auto &shown : section.shown) {
            if (!shown.flow.key.empty()) {
                shown.text = text_of(from_.core, shown.ufid, shown.flow);
            }
        }
    }
    if (sections.empty()) {
        return s + (executed.empty() ? none : executed) + masks;
    }
    return s + to_text(sections) + executed + masks;
}

}  // namespace flowxlate
