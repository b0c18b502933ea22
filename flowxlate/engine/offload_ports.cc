// SPDX-License-Identifier: Apache-2.0
// Ports come and go, are left out and taken in.
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <functional>
#include <string_view>
#include <utility>

#include "bpf/abi/tunnel.h"
#include "engine/offload.h"

namespace flowxlate {
namespace {

constexpr const char *kTooManyPorts = "too many ports";

bool is_afxdp(const std::string &type) {
    return type == "afxdp" || type == "afxdp-nonpmd";
}

// A host without this member leaves out none.
bool is_left_out(const ovs_offload_port &p) {
    return p.size >= sizeof p && p.left_out;
}

// What is left out has no program, but for AF_XDP: there OVS's own would take
// its place, which does not complete checksums.
bool needs_program(const Port &port) {
    return !port.is_left_out() || is_afxdp(port.type);
}

// XF_TUNNEL_GENEVE..., if the port is one of the tunnels that the program
// takes packets out of.
uint32_t tunnel_kind(const ovs_offload_port &p) {
    const std::string_view type = p.netdev_type;
    if (p.ifindex >= -1
        || p.dpif_type != std::string_view(kUserspaceDatapath)) {
        return XF_TUNNEL_NONE;
    }
    return type == "geneve" ? XF_TUNNEL_GENEVE
         : type == "vxlan"  ? XF_TUNNEL_VXLAN
                            : XF_TUNNEL_NONE;
}

}  // namespace

// Ports whose packets come from, and go to, a network device of their name.
// Others (tap, internal, dpdk) have no place for XDP; tunnels need none.
// Empty if it is wanted.
std::string Offload::why_unwanted(const ovs_offload_port &p) const {
    const bool is_system = !std::strcmp(p.netdev_type, "system");
    const bool in_kernel = !std::strcmp(p.dpif_type, kKernelDatapath);
    if (p.ifindex > 0 && is_system && !in_kernel
        && !core_.settings.system_ports) {
        return "type system of the userspace datapath is served only with "
               "other_config:xdp-offload-system-ports=true";
    }
    return p.ifindex > 0
                && (is_system || (!in_kernel && is_afxdp(p.netdev_type)))
             ? ""
             : std::string("ports of type ") + p.netdev_type
                   + " are not for XDP in this datapath";
}

// Remembers why the port is not served, for those who ask.
int Offload::reject_port(const ovs_offload_port &p, const Failure &why) {
    const bool can_be = why_unwanted(p).empty();
    const bool user_will_not = can_be && is_left_out(p);
    StateLock lock(core_);
    core_.unserved.add({.name = p.name,
                        .type = p.netdev_type,
                        .dpif_type = p.dpif_type,
                        .why = user_will_not ? kUserLeavesOut : why.message,
                        .should_be = can_be && !user_will_not});
    return why.error;
}

// A word, and why not better, for OVS's database.
std::string Offload::port_status(std::string_view name, const char **mode) {
    Ifindex asked{};
    {
        StateLock lock(core_);
        const Port *port = core_.ports.find_any(name);
        const Unserved *unserved = core_.unserved.find(name);
        *mode = port || unserved ? "none" : nullptr;
        if (!port) {
            return unserved ? unserved->why : "";
        }
        if (port->is_left_out()) {
            return port->left_out;
        }
        *mode = port->is_tunnel() ? "tunnel" : name_of(port->mode);
        if (port->is_tunnel() || port->mode != AttachMode::kGeneric) {
            return "";
        }
        asked = port->ifindex;
    }
    return core_.devices.why_generic(asked);
}

int Offload::add_tunnel(const ovs_offload_port &p, uint32_t kind, Port **out) {
    auto port = std::make_unique<Port>();
    port->name = p.name;
    port->type = p.netdev_type;
    port->ifindex = Ifindex{p.ifindex};
    port->tunnel = kind;
    port->device.exists = true;
    port->left_out = is_left_out(p) ? kUserLeavesOut : "";
    const auto line =
        port->name
        + (port->is_left_out() ? ": left out of XDP, " + port->left_out
                               : ": executing flows of its tunnels");

    {
        StateLock lock(core_);
        if (!core_.ports.new_slot(&port->slot)) {
            core_.changes.log(OVS_OFFLOAD_LOG_INFO, line);
            *out = port.get();
            core_.unserved.remove(port->name);
            core_.ports.add(std::move(port), std::chrono::steady_clock::now());
            return 0;
        }
    }
    core_.log(OVS_OFFLOAD_LOG_WARN,
              port->name + ": not offloaded: " + kTooManyPorts);
    return reject_port(p, {ENOSPC, kTooManyPorts});
}

int Offload::port_add(const ovs_offload_port &p, Port **out) {
    if (const uint32_t kind = tunnel_kind(p)) {
        return add_tunnel(p, kind, out);
    }
    if (auto why = why_unwanted(p); !why.empty()) {
        return reject_port(p, {EOPNOTSUPP, why});
    }
    auto port = std::make_unique<Port>();
    port->name = p.name;
    port->type = p.netdev_type;
    port->ifindex = Ifindex{p.ifindex};
    port->in_kernel_datapath = !std::strcmp(p.dpif_type, kKernelDatapath);
    port->left_out = is_left_out(p) ? kUserLeavesOut : "";
    Failure failed;
    {
        StateLock lock(core_);
        if (core_.ports.find(port->ifindex)) {
            failed = {EEXIST, "the device is a port already"};
        } else if (auto r = core_.ports.new_slot(&port->slot)) {
            failed = {r.error, kTooManyPorts};
        }
    }
    if (!failed && needs_program(*port)) {
        std::unique_ptr<Attachment> attachment;
        failed = attach_device(*port, &attachment);
        if (!failed) {
            port->attach(std::move(attachment));
        }
    }
    if (failed) {
        core_.log(OVS_OFFLOAD_LOG_WARN,
                  port->name + ": not offloaded: " + failed.message);
        {
            StateLock lock(core_);
            core_.ports.retire(port->slot);
        }
        return reject_port(p, failed);
    }
    if (port->attachment) {
        if (!port->is_left_out()) {
            log_mode(*port);
        }
        start_port(*port);
    }
    loss_watch_.watch(port->ifindex);
    DeviceState state;
    if (auto f =
            core_.devices.query(port->ifindex, port->question(), &state)) {
        state.why_not = f.message;  // The worker asks again.
    }

    StateLock lock(core_);
    apply_device_state(*port, state, {.changed = false, .was_away = true});
    const auto now = std::chrono::steady_clock::now();
    takeover_.note_port(now);
    *out = port.get();
    core_.unserved.remove(port->name);
    core_.ports.add(std::move(port), now);
    return 0;
}

Attachment::Options Offload::attach_options(const Port &port) {
    StateLock lock(core_);
    return {.allow_generic = core_.settings.allow_generic,
            .is_afxdp = is_afxdp(port.type),
            .only_join = false,
            .at_tc = wants_tc(port),
            .has_tcx = core_.kernel.has_tcx(),
            .pins = &core_.pins};
}

// The kernel datapath gets from a device what XDP sees on some only.
Failure Offload::attach_device(const Port &port,
                               std::unique_ptr<Attachment> *attachment) {
    if (port.in_kernel_datapath) {
        if (auto why = core_.devices.why_unsuited(port.ifindex);
            !why.empty()) {
            return {EOPNOTSUPP, why};
        }
        core_.devices.look_at_entrances();
    }
    if (auto f = core_.maps.set_tx_port(port.slot, port.ifindex)) {
        return f;
    }
    auto f = Attachment::attach(core_.maps, port.slot, port.ifindex,
                                attach_options(port), attachment);
    if (f) {
        (void)core_.maps.clear_tx_port(port.slot);
    }
    return f;
}

void Offload::log_mode(const Port &port) {
    const auto &a = *port.attachment;
    core_.log(OVS_OFFLOAD_LOG_INFO,
              port.name + ": executing flows "
                  + (a.is_filter()                 ? "at TC's ingress (clsact)"
                     : a.mode() == AttachMode::kTc ? "at TC's ingress (tcx)"
                     : a.mode() == AttachMode::kNative
                         ? "in native XDP"
                         : "in generic XDP: "
                               + core_.devices.why_generic(port.ifindex)));
}

// The port's program has just been attached.
void Offload::start_port(Port &port) {
    if (port.in_kernel_datapath && !port.is_at_tc()) {
        put_tags_in_frame(port);
    }
    takeover_.keep_attached(port);
}

void Offload::put_tags_in_frame(Port &port) {
    port.switched_off = core_.devices.put_tags_in_frame(port.ifindex);
    if (!port.switched_off.empty()) {
        core_.log(OVS_OFFLOAD_LOG_INFO,
            port.name + ": switched off " + to_string(port.switched_off)
                + " of the device or its veth peer, for XDP to see VLAN "
                  "tags");
    }
}

// Undoes that.
void Offload::put_tags_beside(Port &port) {
    if (!port.switched_off.empty()) {
        core_.devices.put_tags_beside(port.ifindex,
                                      std::exchange(port.switched_off, {}));
    }
}

void Offload::port_del(Port *p) {
    if (takeover_.is_leaving()) {
        return;
    }
    std::unique_ptr<Port> port;
    AttachLock attaching(core_);
    takeover_.hurry_now();  // An old flow may send there, or take packets out.
    {
        StateLock lock(core_);
        core_.flows->park_all_of(p->slot, {"parked", "port_removed", ENODEV});
        core_.flows->forget_port(p->slot);
        takeover_.drop_copies_of(*p);
        port = core_.ports.remove(*p);
    }
    port->attachment.reset();  // A tunnel has none.
    loss_watch_.forget(port->ifindex);
    captures_.forget_names();
    attaching.unlock();
    put_tags_beside(*port);
    if (auto f = core_.maps.clear_tx_port(port->slot)) {
        core_.log(OVS_OFFLOAD_LOG_WARN, port->name + ": " + f.message);
    }
    core_.log(OVS_OFFLOAD_LOG_INFO, port->name + ": no longer offloaded");
    StateLock lock(core_);
    const auto misses = core_.misses_of(*port);
    std::transform(misses.begin(), misses.end(), past_misses_.begin(),
                   past_misses_.begin(), std::plus<>());
    core_.maps.clear_misses(port->slot);
    core_.ports.retire(port->slot);
}

void Offload::options_changed(std::span<const ovs_offload_option> options) {
    StateLock lock(core_);
    options_now_.clear();
    hook_wishes_ = {};
    wishes_changed_ = true;
    for (auto &option : options) {
        options_now_.emplace_back(option.key, option.value);
        if (!HookWishes::is_one(option.key)) {
            continue;
        }
        if (auto r = hook_wishes_.set(option)) {
            core_.changes.log(OVS_OFFLOAD_LOG_WARN,
                              refused_in_words(option, r));
        }
    }
    core_.changes.wakes_worker = true;
}

void Offload::port_set_left_out(Port *port, bool left_out) {
    AttachLock attaching(core_);
    if (takeover_.is_leaving() || (!left_out && !port->is_left_out())) {
        return;
    }
    if (left_out) {
        leave_out(*port);  // Or only for another reason than before.
    } else if (auto f = take_in(*port)) {
        core_.log(OVS_OFFLOAD_LOG_WARN,
                  port->name + ": not offloaded: " + f.message);
    }
}

void Offload::leave_out(Port &port) {
    takeover_.hurry_now();  // An old flow may enter there, or send there.
    std::unique_ptr<Attachment> attachment;
    {
        StateLock lock(core_);
        core_.ports.leave_out(port, kUserLeavesOut,
                              std::chrono::steady_clock::now());
        core_.flows->park_all_of(port.slot, {"parked", "left_out", ENODEV});
        takeover_.drop_copies_of(port);
        if (!needs_program(port)) {
            attachment = std::move(port.attachment);
        }
    }
    attachment.reset();
    captures_.forget_names();
    put_tags_beside(port);
}

// If that fails it stays left out, for that reason.
Failure Offload::take_in(Port &port) {
    const bool has_program = port.is_tunnel() || port.attachment;
    if (!has_program) {
        std::unique_ptr<Attachment> attachment;
        auto f = attach_device(port, &attachment);
        StateLock lock(core_);
        if (f) {
            port.left_out = f.message;
            return f;
        }
        port.attach(std::move(attachment));
    }
    // Its tags are in the frame, and its state is known, before flows enter.
    DeviceState state;
    bool is_known = false;
    if (!port.is_tunnel()) {
        log_mode(port);
        start_port(port);
        is_known = !core_.devices.query(port.ifindex, port.question(), &state);
    }
    StateLock lock(core_);
    core_.ports.take_in(port, std::chrono::steady_clock::now());
    if (is_known) {
        apply_device_state(port, std::move(state),
                           {.changed = false, .was_away = true});
    }
    return {};
}

// Does what a device's new state makes necessary.
void Offload::apply_device_state(Port &port, DeviceState state, Heard heard) {
    if (state.exists && heard.was_away) {
        state.exists = core_.ports.restore_output(port);
        core_.binder.refill_groups(port.slot);
    }
    const auto effect =
        core_.ports.apply(port, std::move(state), heard.changed,
                          std::chrono::steady_clock::now());
    // Deleted, or moved to another network namespace with our program on it.
    // What enters there now takes the miss path, as it does without us: to
    // AF_XDP sockets that the kernel has unbound, or to the stack that the
    // device belongs to now.
    if (effect.no_device) {
        core_.flows->park_entering(port.slot, {"parked", "no_device", ENODEV});
    }
    if (effect.flush) {
        core_.flows->park_entering(port.slot, {"parked", "flushed", ENODEV});
    }
    if (effect.no_output) {
        takeover_.hurry();  // An old program would go on sending there.
    }
}

}  // namespace flowxlate
