// SPDX-License-Identifier: Apache-2.0
#include "engine/port_operations.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <functional>
#include <string_view>
#include <utility>

#include "bpf/abi/tunnel.h"

namespace flowxlate {
namespace {

constexpr const char *kTooManyPorts = "too many ports";

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
std::string PortOperations::why_unwanted(const ovs_offload_port &p) const {
    const bool is_system = !std::strcmp(p.netdev_type, "system");
    const bool in_kernel = !std::strcmp(p.dpif_type, kKernelDatapath)
                        || !std::strcmp(p.dpif_type, kTcDatapath);
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
int PortOperations::reject(const ovs_offload_port &p, const Failure &why) {
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

std::string PortOperations::status(std::string_view name, const char **mode) {
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

int PortOperations::add_tunnel(const ovs_offload_port &p, uint32_t kind,
                               Port **out) {
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
    return reject(p, {ENOSPC, kTooManyPorts});
}

// Gives a new port a slot and, if it needs one, a program.
Failure PortOperations::equip(Port &port) {
    {
        StateLock lock(core_);
        if (core_.ports.find(port.ifindex)) {
            return {EEXIST, "the device is a port already"};
        }
        if (auto r = core_.ports.new_slot(&port.slot)) {
            return {r.error, kTooManyPorts};
        }
    }
    if (!needs_program(port)) {
        return {};
    }
    std::unique_ptr<Attachment> attachment;
    auto failed = attachments_.attach(port, &attachment);
    if (!failed) {
        port.attach(std::move(attachment));
    }
    return failed;
}

int PortOperations::add(const ovs_offload_port &p, Port **out) {
    if (const uint32_t kind = tunnel_kind(p)) {
        return add_tunnel(p, kind, out);
    }
    if (auto why = why_unwanted(p); !why.empty()) {
        return reject(p, {EOPNOTSUPP, why});
    }
    auto port = std::make_unique<Port>();
    port->name = p.name;
    port->type = p.netdev_type;
    port->ifindex = Ifindex{p.ifindex};
    port->in_kernel_datapath = !std::strcmp(p.dpif_type, kKernelDatapath);
    port->of_tc = !std::strcmp(p.dpif_type, kTcDatapath);
    port->left_out = is_left_out(p) ? kUserLeavesOut : "";
    if (auto failed = equip(*port)) {
        core_.log(OVS_OFFLOAD_LOG_WARN,
                  port->name + ": not offloaded: " + failed.message);
        {
            StateLock lock(core_);
            core_.ports.retire(port->slot);
        }
        return reject(p, failed);
    }
    if (port->attachment) {
        if (!port->is_left_out()) {
            attachments_.log_mode(*port);
        }
        attachments_.start(*port);
    }
    losses_.watch(port->ifindex);
    DeviceState state;
    if (auto f =
            core_.devices.query(port->ifindex, port->question(), &state)) {
        state.why_not = f.message;  // The worker asks again.
    }

    StateLock lock(core_);
    devices_.apply(*port, state, {.changed = false, .was_away = true});
    const auto now = std::chrono::steady_clock::now();
    takeover_.note_port(now);
    *out = port.get();
    core_.unserved.remove(port->name);
    core_.ports.add(std::move(port), now);
    return 0;
}

void PortOperations::del(Port *p) {
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
    losses_.forget(port->ifindex);
    captures_.forget_names();
    attaching.unlock();
    attachments_.put_tags_beside(*port);
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

void PortOperations::set_left_out(Port *port, bool left_out) {
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

void PortOperations::leave_out(Port &port) {
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
    attachments_.put_tags_beside(port);
}

// If that fails it stays left out, for that reason.
Failure PortOperations::take_in(Port &port) {
    const bool has_program = port.is_tunnel() || port.attachment;
    if (!has_program) {
        std::unique_ptr<Attachment> attachment;
        auto f = attachments_.attach(port, &attachment);
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
        attachments_.log_mode(port);
        attachments_.start(port);
        is_known = !core_.devices.query(port.ifindex, port.question(), &state);
    }
    StateLock lock(core_);
    core_.ports.take_in(port, std::chrono::steady_clock::now());
    if (is_known) {
        devices_.apply(port, std::move(state),
                       {.changed = false, .was_away = true});
    }
    return {};
}

}  // namespace flowxlate
