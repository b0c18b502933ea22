// SPDX-License-Identifier: Apache-2.0
#include "engine/device_watch.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <utility>

namespace flowxlate {

void DeviceWatch::apply(Port &port, DeviceState state, Heard heard) {
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

void DeviceWatch::look(bool all) {
    bool lost;
    std::vector<Ifindex> gone;
    const auto changed = core_.devices.drain_events(&lost, &gone);
    refresh(all, lost, changed, gone);
    if (all) {
        find_lost_frames();
    }
}

// A port is the device that it was added with, whatever has its index now: the
// one with our program on it.
void DeviceWatch::check_identity(Ifindex ifindex, DeviceState *state) {
    AttachLock attaching(core_);
    Port *port;
    {
        StateLock lock(core_);
        port = core_.ports.find(ifindex);
    }
    if (!port || !port->attachment) {
        return;  // One that is left out: its index is all that is known.
    }
    // A filter does not go along with its device, and others may take it off.
    const bool is_there = port->attachment->is_filter()
                            ? core_.maps.has_tx_port(port->slot, ifindex)
                            : port->attachment->is_attached();
    if (!(state->exists && is_there)) {
        *state = {};
        state->why_not = port->attachment->is_on_a_device()
                           ? "the device is in another network namespace"
                           : "there is no such device";
    }
}

void DeviceWatch::refresh(bool all, bool lost,
                          const std::vector<Devices::Changed> &changed,
                          const std::vector<Ifindex> &gone) {
    std::vector<Query> queries;
    bool any_is_the_kernels = false;
    {
        StateLock lock(core_);
        auto has_changed = [&](Ifindex ifindex, int netns_id) {
            return std::find(changed.begin(), changed.end(),
                             Devices::Changed{ifindex, netns_id})
                != changed.end();
        };
        for (auto &[ifindex, port] : core_.ports.by_ifindex()) {
            const auto &device = port->device;
            const bool news = has_changed(ifindex, kNoNetns)
                           || has_changed(device.peer, device.peer_netns);
            const bool was_away =
                lost || !device.exists
                || std::find(gone.begin(), gone.end(), ifindex) != gone.end();
            if (all || lost || news) {
                queries.push_back(
                    {ifindex, port->question(), {news, was_away}});
                any_is_the_kernels |= port->is_the_kernels();
            }
        }
    }
    if (any_is_the_kernels) {
        core_.devices.look_at_entrances();
    }
    query(queries);
}

void DeviceWatch::query(const std::vector<Query> &queries) {
    for (const auto &[ifindex, question, heard] : queries) {
        DeviceState state;
        if (auto f = core_.devices.query(ifindex, question, &state)) {
            continue;  // What was last known is better than nothing.
        }
        if (heard.was_away || !state.exists) {
            check_identity(ifindex, &state);
        }
        StateLock lock(core_);
        if (auto *port = core_.ports.find(ifindex)) {
            apply(*port, std::move(state), heard);
        }
    }
}

// Stops sending to ports where nothing arrives (arrivals.h).
void DeviceWatch::find_lost_frames() {
    {
        StateLock lock(core_);
        const auto &ports = core_.ports.by_ifindex();
        if (std::none_of(ports.begin(), ports.end(), [](auto &p) {
                return p.second->arrivals.suspect_since();
            })) {
            return;
        }
    }
    std::vector<Query> found;
    (void)core_.visit_placed([&](auto flows) REQUIRES(state_lock) {
        for (const Flow *flow : flows) {
            condemn_outputs(*flow, &found);
        }
    });
    query(found);
}

// Ports that are suspect, and that the flow has sent frames to, lose them.
void DeviceWatch::condemn_outputs(const Flow &flow,
                                  std::vector<Query> *found) {
    constexpr auto kTicks = std::chrono::milliseconds(50);  // clock.h, twice.
    using std::chrono::nanoseconds;
    if (core_.ports.at(flow.in)->mode != AttachMode::kNative) {
        return;  // The kernel's stack sends its frames.
    }
    for (auto slot : flow.out) {
        Port &port = *core_.ports.at(slot);
        const auto since = port.arrivals.suspect_since();
        if (!since) {
            continue;
        }
        const nanoseconds used(
            core_.clock.monotonic_ns(core_.flows->total(flow).used));
        if (used >= since->time_since_epoch() + kTicks) {
            port.arrivals.condemn(std::chrono::steady_clock::now());
            found->push_back({port.ifindex, port.question(), {}});
        }
    }
}

}  // namespace flowxlate
