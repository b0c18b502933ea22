// SPDX-License-Identifier: Apache-2.0
// What the program makes of one packet: xdp-offload/trace PORT FLOW|HEX.
//
// trace_program.h runs the packet.  The flow that was hit, all that its
// actions do and why the packet is passed on are what the program itself has
// found; the subtables that it tried on the way follow from their order.
#include <linux/bpf.h>

#include <algorithm>
#include <cinttypes>
#include <sstream>

#include "bpf/abi/counters.h"
#include "bpf/abi/packet.h"
#include "kernel/trace_program.h"
#include "report/connections.h"
#include "report/report.h"
#include "report/view.h"
#include "translate/describe.h"
#include "translate/reasons.h"

namespace flowxlate {
namespace {

constexpr size_t kMinFrame = 14, kMaxFrame = 9000;
constexpr const char *kHexDigits = "0123456789abcdefABCDEF";

// Reads the packet; returns what is wrong with it, or nothing.
std::string parse_hex(const std::string &hex, std::vector<std::byte> *out) {
    constexpr size_t kDigits = 2;  // Of a byte.
    if (hex.size() < kMinFrame * kDigits || hex.size() > kMaxFrame * kDigits) {
        return "the packet has to have 14 to 9000 bytes, two digits each\n";
    }
    if (hex.size() % kDigits) {
        return "the packet ends in the middle of a byte\n";
    }
    return from_hex(hex, out) ? "" : "not hexadecimal digits\n";
}

std::string indented(const std::string &text) {
    std::string s;
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
        s += line.empty() ? "\n" : "    " + line + "\n";
    }
    return s;
}

// An element that shared memory names; the first one, which nothing uses, if
// there is none of this number.
template <typename T>
const T &element(std::span<T> of, size_t i) {
    return of[i < of.size() ? i : 0];
}

xf_key mask_bits(const xf_subtable &st) {
    xf_key mask{};
    std::copy(std::begin(st.mask), std::end(st.mask), mask.word);
    return mask;
}

xf_key masked(const xf_key &key, const xf_key &mask) {
    xf_key m{};
    for (size_t i = 0; i < XF_KEY_WORDS; i++) {
        m.word[i] = key.word[i] & mask.word[i];
    }
    return m;
}

}  // namespace

const Ufid *View::find_ufid(FlowSlot slot) const {
    for (auto &[ufid, flow] : flows.by_ufid()) {
        if (flow.slot == slot) {
            return &ufid;
        }
    }
    return nullptr;
}

// Where the packet goes.
std::string View::describe_target(const xf_action &act) const {
    std::string s;
    auto name = [&](uint32_t slot) {
        const Port *port = ports.at(PortSlot{slot});
        return port ? port->name : "?";
    };
    switch (act.verdict) {
        case XF_DROP:
            return "drop";
        case XF_OUTPUT:
            return "output:" + name(act.to);
        case XF_GROUP: {
            const Group &group = binder.group(GroupSlot{act.to});
            for (auto port : group.ports) {
                s += (s.empty() ? "output:" : ",") + name(index(port));
            }
            if (!s.empty() && !group.keep_ingress) {
                s += " (but for the one where it came from)";
            }
            return s;
        }
        case XF_POP:
            return "tnl_pop(" + name(act.to) + ")";
        default:
            append(&s, "%srecirc(0x%x)",
                   act.verdict == XF_HASH_RECIRC ? "hash," : "",
                   binder.recirc_id(RecircSlot{act.to}));
            return s;
    }
}

// "MATCH, actions:ACTIONS" of a flow in the tables.
std::string View::describe_flow(FlowSlot slot) const {
    const auto &mem = table.memory();
    const xf_flow &flow = mem.flows[index(slot)];
    const auto &subtable = element(mem.subtables, xf_subtable_of(&flow));
    const xf_key mask = mask_bits(subtable);
    const int cls = subtable.cls;
    xf_key key{};
    auto *rest = std::copy(std::begin(flow.key), std::end(flow.key), key.word);
    std::copy_n(mem.key_rests[index(slot)].word, XF_REST_WORDS, rest);
    const Port *in = ports.at(PortSlot{key.in_port});

    std::string s = "in_port(" + (in ? in->name : "?") + "),";
    if (key.recirc) {
        append(&s, "recirc_id=0x%x,",
               binder.recirc_id(RecircSlot{key.recirc}));
    }
    const auto &rewrite = element(mem.rewrites, flow.action.rewrite);
    const auto &tunnel = binder.tunnel(TunnelSlot{rewrite.tunnel});
    return s + describe_fields(cls, key.nw_proto, key, mask) + ", actions:"
         + describe_changes(cls, key.nw_proto, flow.action, rewrite)
         + describe_tunnel_push(tunnel) + describe_target(flow.action);
}

namespace {

// How the first flow was found, or not.
void trace_lookup(const View &view, const TraceProgram::Outcome &o,
                  std::span<const uint32_t> cpus, std::string *s) {
    const auto &p = o.packet;
    const bool hit = o.first != FlowSlot::kNone;
    if (hit) {
        *s += "flow cache: ";
        for (auto cpu : cpus) {
            append(s, "%s%u",
                   cpu == cpus.front() ? "leads to the flow on CPU " : ",",
                   cpu);
        }
        *s += cpus.empty() ? "has not got this flow on any CPU\n" : "\n";
    }
    const auto walk =
        view.table.walk(RecircSlot::kNone, xf_class(p.cls % XF_N_CLASSES));
    append(s, "subtables: %zu for %s, in the order in which they are tried\n",
           walk.size(), class_name(static_cast<int>(p.cls)));
    for (auto subtable : walk) {
        const xf_key mask = view.table.mask_of(subtable);
        const bool here = hit && view.table.subtable_of(o.first) == subtable;
        append(s, "  %u: %s: %s\n", index(subtable),
               describe_fields(static_cast<int>(p.cls), p.key.nw_proto,
                               masked(p.key, mask), mask)
                   .c_str(),
               here ? "a flow" : "no flow");
        if (here) {
            break;
        }
    }
}

// The flows that the packet passes.
void trace_stages(const View &view, const TraceProgram::Outcome &o,
                  std::string *s) {
    const uint32_t n = std::clamp<uint32_t>(o.plan.n_stages, 1, XF_MAX_STAGES);
    for (uint32_t i = 0; i < n; i++) {
        const FlowSlot slot = i ? FlowSlot{o.plan.stage[i].slot} : o.first;
        if (slot == FlowSlot::kNone || index(slot) > view.table.max_flows()) {
            continue;
        }
        const auto *ufid = view.find_ufid(slot);
        append(s, "flow: ufid:%s\n    %s\n",
               ufid ? ufid->to_string().c_str() : "?",
               view.describe_flow(slot).c_str());
    }
}

// The flow that takes the packet out of a tunnel.
void trace_outer(const View &view, const TraceProgram::Outcome &o,
                 std::string *s) {
    if (o.outer == FlowSlot::kNone) {
        return;
    }
    const auto *ufid = view.find_ufid(o.outer);
    append(s, "tunnel: ufid:%s\n    %s\n",
           ufid ? ufid->to_string().c_str() : "?",
           view.describe_flow(o.outer).c_str());
}

// What can be done about it is told for OVS.
std::string explain_miss(xf_miss miss, bool of_tc) {
    std::string s;
    const auto *r = find_reason(std::string("miss/") + miss_name(miss));
    if (!r) {
        return s;
    }
    append(&s, "  What it means: %s\n", r->meaning.c_str());
    if (of_tc) {
        return s;
    }
    append(&s, "  What to do: %s\n", r->remedy.c_str());
    if (!r->command.empty()) {
        append(&s, "  Command: %s\n", r->command.c_str());
    }
    return s;
}

std::string trace_text(const View &view, const Port &port,
                       std::span<const std::byte> frame,
                       const TraceProgram::Outcome &o,
                       std::span<const uint32_t> cpus,
                       const ConnMemory &connections) {
    std::string s;
    const bool hit = o.first != FlowSlot::kNone;
    append(&s, "%zu bytes enter through %s%s\n", frame.size(),
           port.name.c_str(), port.is_at_tc() ? ", at TC's ingress" : "");
    if (o.n_seen < frame.size()) {
        append(&s,
               "note: the program sees the first %u bytes only, as much as "
               "the kernel shows one that does not support fragments\n",
               o.n_seen);
    }
    trace_outer(view, o, &s);
    const bool is_out = o.outer != FlowSlot::kNone;
    if (hit || is_out || !o.miss || *o.miss == XF_MISS_NO_FLOW) {
        append(&s, "parsed: %s packet, %s\n",
               class_name(static_cast<int>(o.packet.cls)),
               describe_packet(o.packet).c_str());
        trace_lookup(view, o, cpus, &s);
        trace_stages(view, o, &s);
        s += describe_connections(o.plan, connections);
    } else {
        s += "parsed: no\n";
    }

    const auto &last =
        o.plan.n_stages
            ? o.plan.act
            : element(view.table.memory().flows, index(o.first)).action;
    if (o.miss) {
        append(&s, "verdict: passed to %s as it came: %s%s%s\n",
               port.of_tc ? "TC" : "OVS", miss_name(*o.miss),
               hit ? ", of " : "",
               hit ? view.describe_target(last).c_str() : "");
        s += explain_miss(*o.miss, port.of_tc);
    } else if (o.verdict == XDP_REDIRECT) {
        const bool same = std::ranges::equal(frame, o.frame);
        append(&s, "verdict: XDP_REDIRECT, %s\n",
               view.describe_target(last).c_str());
        s += same ? "leaves: as it came\n"
                  : "leaves: " + to_hex(o.frame) + "\n";
    } else {
        append(&s, "verdict: %s\n",
               o.verdict == XDP_DROP ? "XDP_DROP" : "not known");
    }
    return s;
}

// Stores the type of the port's datapath in '*dpif_type' if all went well and
// its owner can tell what becomes of packets.
std::string trace_in_xdp(const Sources &from, const std::string &port_name,
                         std::span<const std::byte> frame,
                         std::string *dpif_type) {
    PortConstants constants;
    {
        StateLock lock(from.core);
        if (const Port *port = from.core.ports.find(port_name)) {
            if (!port->attachment) {
                return port_name + " is left out of XDP (" + port->left_out
                     + "): " + owner_name(from.core)
                     + " has all its packets\n";
            }
            constants = port->attachment->constants(port->slot);
        }
    }
    if (constants.slot == PortSlot::kNone) {
        return "no such port in XDP (xdp-offload/show lists them)\n";
    }
    TraceProgram program;
    if (auto f = TraceProgram::load(from.core.maps, constants, &program)) {
        return f.message + "\n";
    }

    StateLock lock(from.core);  // The tables stay as the program sees them.
    const Port *port = from.core.ports.find(port_name);
    TraceProgram::Outcome outcome;
    if (!port || port->slot != constants.slot) {
        return "the port has gone meanwhile\n";
    }
    if (auto f = program.run(from.core.maps, frame, &outcome)) {
        return f.message + "\n";
    }
    *dpif_type = port->of_tc              ? ""
               : port->in_kernel_datapath ? kKernelDatapath
                                          : kUserspaceDatapath;
    return trace_text(View::of(from), *port, frame, outcome,
                      from.core.maps.cpus_that_predict(outcome.cached),
                      from.core.maps.connections());
}

}  // namespace

std::string Report::trace(const std::string &port_name,
                          const std::string &packet) {
    std::vector<std::byte> frame;
    const bool is_flow =
        packet.find_first_not_of(kHexDigits) != std::string::npos;
    if (auto wrong = is_flow ? from_.core.ask().compose(packet, &frame)
                             : parse_hex(packet, &frame);
        !wrong.empty()) {
        return is_flow ? "neither the hexadecimal digits of a packet nor a "
                         "flow: "
                             + wrong + "\n"
                       : wrong;
    }
    std::string dpif_type;
    std::string text = trace_in_xdp(from_, port_name, frame, &dpif_type);
    if (dpif_type.empty()) {
        return text;
    }
    const auto hex = to_hex(frame);
    text += "what OVS would do (ovs-appctl ofproto/trace ovs-" + dpif_type
          + " 'in_port(" + port_name + ")' " + hex + "):\n";
    return text + indented(from_.core.ask().trace(dpif_type, port_name, hex));
}

}  // namespace flowxlate
