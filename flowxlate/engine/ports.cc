// SPDX-License-Identifier: Apache-2.0
#include "engine/ports.h"

#include <algorithm>
#include <cerrno>
#include <utility>

namespace flowxlate {
namespace {

// The rest says which frames.
constexpr uint32_t kTakesFrames =
    XF_PORT_TX_NATIVE | XF_PORT_TX_GENERIC | XF_PORT_TX_SKB;

constexpr const char *kFramesAreLost =
    "redirected frames do not arrive, as the veth peer has neither GRO nor an "
    "XDP program, though the kernel announces that it has (\"ethtool -K PEER "
    "gro on\", then \"ethtool -K PEER gro off\" and \"ethtool -K PEER gro "
    "on\" again in its namespace help)";

}  // namespace

const char *name_of(AttachMode mode) {
    return mode == AttachMode::kNative  ? "native"
         : mode == AttachMode::kGeneric ? "generic"
                                        : "tc";
}

std::unique_ptr<Attachment> Port::attach(std::unique_ptr<Attachment> a) {
    std::swap(attachment, a);
    mode = attachment->mode();
    has_sockets = attachment->has_sockets();
    attached_at = std::chrono::steady_clock::now();
    return a;
}

bool Port::takes_frames_from(const Port &in) const {
    if (is_tunnel() || is_left_out()) {
        return !is_left_out();
    }
    return device.up && (device.xdp_xmit || in.mode != AttachMode::kNative);
}

bool Port::shows_tags() const {
    // In the userspace datapath OVS itself sees no more than XDP does, or the
    // user has been told (xdp-offload-system-ports).
    return !is_the_kernels() || device.tags_in_frame;
}

std::string Port::state_in_words() const {
    if (is_left_out()) {
        return "left out of XDP, all its packets are OVS's: " + left_out;
    }
    const auto why_not = why_no_output();
    std::string s = why_not.empty()
                      ? "takes redirected frames"
                      : "flows to this port stay in OVS: " + why_not;
    if (auto why = why_no_entry(); !why.empty()) {
        s += "; flows from this port stay in OVS: " + why;
    }
    if (!device.entrance.vlans.empty()) {
        s += "; flows of VLANs that devices on top of it take stay in OVS: "
           + to_string(device.entrance.vlans);
    }
    return s;
}

std::string Port::why_no_output() const {
    if (is_left_out()) {
        return "left out, " + left_out;
    }
    if (!device.exists) {
        return device.why_not.empty() ? "there is no such device"
                                      : device.why_not;
    }
    if (!device.up) {
        return "the link is down";
    }
    return is_at_tc() ? std::string() : why_not_from_xdp();
}

std::string Port::why_not_from_xdp() const {
    return device.xdp_xmit ? std::string() : device.why_not;
}

Devices::Question Port::question() const {
    return {.as_the_kernels = is_the_kernels(),
            .before_tc = of_tc,
            .at_tc = is_at_tc(),
            .own = attachment ? attachment->own_program() : OwnProgram{}};
}

bool Port::comes_first() const {
    return !is_the_kernels() || device.entrance.others.empty();
}

std::string Port::why_no_entry() const {
    return is_left_out()  ? "left out, " + left_out
         : !shows_tags()  ? device.why_no_tags
         : !comes_first() ? device.entrance.others + ", and comes before OVS"
                          : std::string();
}

void UnservedPorts::add(Unserved port) {
    remove(port.name);
    all_.push_back(std::move(port));
    if (all_.size() > kMax) {
        all_.pop_front();
    }
}

void UnservedPorts::remove(std::string_view name) {
    std::erase_if(all_, [=](const Unserved &u) { return u.name == name; });
}

const Unserved *UnservedPorts::find(std::string_view name) const {
    auto it = std::find_if(all_.begin(), all_.end(),
                           [=](const Unserved &u) { return u.name == name; });
    return it == all_.end() ? nullptr : &*it;
}

Ports::Ports(Datapath *datapath, bool tap_tso, Changes *changes)
    : datapath_(*datapath), tap_tso_(tap_tso), changes_(*changes) {}

Port *Ports::find(Ifindex ifindex) const {
    const ByIfindex &among = index(ifindex) < 0 ? tunnels_ : by_ifindex_;
    auto it = among.find(ifindex);
    return it == among.end() ? nullptr : it->second;
}

Port *Ports::find(std::string_view name) const {
    auto it = std::find_if(by_ifindex_.begin(), by_ifindex_.end(),
                           [&](auto &p) { return p.second->name == name; });
    return it == by_ifindex_.end() ? nullptr : it->second;
}

Port *Ports::find_any(std::string_view name) const {
    auto it = std::find_if(tunnels_.begin(), tunnels_.end(),
                           [&](auto &p) { return p.second->name == name; });
    return it == tunnels_.end() ? find(name) : it->second;
}

// -- Slots ------------------------------------------------------------------

Reject Ports::new_slot(PortSlot *slot) {
    if (slots_.empty()) {
        return {"table", "ports", ENOSPC};
    }
    *slot = slots_.take();
    return {};
}

void Ports::add(std::unique_ptr<Port> port, Time now) {
    (port->is_tunnel() ? tunnels_ : by_ifindex_)[port->ifindex] = port.get();
    std::atomic_ref(datapath_.port(port->slot).tunnel)
        .store(port->tunnel, std::memory_order_relaxed);
    auto &name = datapath_.port(port->slot).name;
    *std::copy_n(port->name.data(),
                 std::min(port->name.size(), std::size(name) - 1), name) = 0;
    note_event(now);
    by_slot_[index(port->slot)] = std::move(port);
}

std::unique_ptr<Port> Ports::remove(const Port &port) {
    datapath_.port(port.slot).flags = 0;
    datapath_.port(port.slot).tunnel = XF_TUNNEL_NONE;
    (port.is_tunnel() ? tunnels_ : by_ifindex_).erase(port.ifindex);
    return std::move(by_slot_[index(port.slot)]);
}

void Ports::retire(PortSlot slot) {
    if (slot != PortSlot::kNone) {
        slots_.retire(slot);
        changes_.wakes_worker = true;
    }
}

// -- Devices ----------------------------------------------------------------

bool Ports::reaches(PortSlot in, std::span<const PortSlot> out) const {
    const Port &from = *at(in);
    return std::all_of(out.begin(), out.end(), [&](PortSlot slot) {
        return at(slot)->takes_frames_from(from);
    });
}

void Ports::note_event(Time now) {
    n_events_++;
    last_event_ = now;
}

// The device of a port is there, for the first time or again.
void Ports::came(const Port &port, Time now) {
    note_event(now);
    if (port.lost_sockets) {
        changes_.log(OVS_OFFLOAD_LOG_WARN,
                     port.name
                         + ": the device is back, but OVS's AF_XDP sockets "
                           "are not: remove the port from OVS and add it "
                           "again");
    }
}

// A port goes on with the device that it was added with.
void Ports::follow_name(const Port &port, const DeviceState &state) {
    const std::string &old = port.device.exists ? port.device.name : port.name;
    if (state.exists && state.name != old) {
        changes_.log(OVS_OFFLOAD_LOG_INFO,
                     port.name + ": its device (ifindex "
                         + std::to_string(index(port.ifindex)) + ") is called "
                         + state.name + " now");
    }
}

void Ports::publish(const Port &port, const DeviceState &state) {
    auto &shared = datapath_.port(port.slot);
    std::atomic_ref(shared.max_partial)
        .store(state.is_tap && tap_tso_ ? XF_TAP_MAX_PARTIAL : 0,
               std::memory_order_relaxed);
    std::atomic_ref(shared.is_no_nic)
        .store(!state.is_nic, std::memory_order_relaxed);
    std::atomic_ref(shared.max_frame)
        .store(state.max_frame, std::memory_order_relaxed);
    const bool takes = state.up && !port.is_left_out();
    std::atomic_ref(shared.flags)
        .store((takes && state.xdp_xmit ? XF_PORT_TX_NATIVE : 0)
                   | (takes ? XF_PORT_TX_GENERIC | XF_PORT_TX_SKB : 0)
                   | (takes && state.makes_sums ? XF_PORT_TX_SUMS : 0),
               std::memory_order_release);
}

void Ports::log_state(Port &port, Time now) {
    if (auto line = port.news.look(port.state_in_words(), now)) {
        changes_.log(OVS_OFFLOAD_LOG_INFO, port.name + ": " + *line);
    }
}

void Ports::leave_out(Port &port, std::string why, Time now) {
    port.left_out = std::move(why);
    if (!port.is_tunnel()) {
        publish(port, port.device);
    }
    if (port.in_kernel_datapath) {
        port.flows_lost.wanted = true;
        changes_.wakes_worker = true;
    }
    log_state(port, now);
}

void Ports::change_hook(Port &port, Time now) {
    port.flows_lost.wanted = port.offer.wanted = true;
    changes_.wakes_worker = true;
    note_event(now);
}

void Ports::take_in(Port &port, Time now) {
    port.left_out.clear();
    if (!port.is_tunnel()) {
        publish(port, port.device);
    }
    if (port.in_kernel_datapath) {
        port.offer.wanted = true;
        changes_.wakes_worker = true;
    }
    note_event(now);
}

Ports::Effect Ports::apply(Port &port, DeviceState state, bool changed,
                           Time now) {
    const uint32_t old_flags = datapath_.port(port.slot).flags;
    Effect effect;
    effect.no_device = port.device.exists && !state.exists;
    if (effect.no_device) {
        port.lost_sockets = port.has_sockets;
    } else if (!port.device.exists && state.exists) {
        came(port, now);
    }
    follow_name(port, state);
    state.up &= state.exists;
    if (state.figures) {
        port.arrivals.look(*state.figures, state.up && state.xdp_xmit, changed,
                           now);
    }
    if (state.xdp_xmit && port.arrivals.are_lost()) {
        state.xdp_xmit = false;
        state.why_not = kFramesAreLost;
    }
    publish(port, state);
    effect.no_output =
        old_flags & ~datapath_.port(port.slot).flags & kTakesFrames;
    const DeviceState old = std::exchange(port.device, std::move(state));
    if (port.is_the_kernels()) {
        effect.flush = tell_kernel_datapath(port, old_flags, old);
    }
    log_state(port, now);
    return effect;
}

// The port's state has changed, from 'old' and 'old_flags' (XF_PORT_TX_*).
// Returns whether its flows have to go, as which may enter is asked again of
// each.
bool Ports::tell_kernel_datapath(Port &port, uint32_t old_flags,
                                 const DeviceState &old) {
    const uint32_t flags = datapath_.port(port.slot).flags;
    const bool entrance_changed =
        old.tags_in_frame != port.device.tags_in_frame
        || old.entrance != port.device.entrance;
    // Those of a device that is gone go anyway.
    const bool flush = entrance_changed && port.device.exists && port.n_flows;
    if (old_flags & ~flags & kTakesFrames || flush) {
        port.flows_lost.wanted = true;
        port.was_wanted |= std::exchange(port.offer.wanted, false);
    }
    if (port.was_wanted && (flags & ~old_flags || entrance_changed)) {
        port.was_wanted = false;
        port.offer.wanted = true;
    }
    if (port.flows_lost.wanted || port.offer.wanted) {
        changes_.wakes_worker = true;
    }
    return flush;
}

}  // namespace flowxlate
