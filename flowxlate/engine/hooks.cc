// SPDX-License-Identifier: Apache-2.0
// Where ports' programs are, in XDP or at TC's ingress, as the user wishes
// (HookWishes), also at run time.
#include <utility>

#include "engine/offload.h"

namespace flowxlate {

// "auto" is XDP: which hook is right for a veth has yet to be tried with all
// that the kernel datapath's tests do (docs/design.md, "The second hook").
bool Offload::wants_tc(const Port &port) const {
    return port.in_kernel_datapath
        && hook_wishes_.of(port.name) == HookWish::kTc;
}

bool Offload::is_where_wished(Port &port) {
    const HookWish wish = hook_wishes_.of(port.name);
    if (port.refused_wish == wish) {
        return true;
    }
    port.refused_wish.reset();
    if (wish == HookWish::kTc && !port.in_kernel_datapath) {
        port.refused_wish = wish;
        core_.changes.log(
            OVS_OFFLOAD_LOG_WARN,
            port.name
                + ": stays in XDP, though xdp-offload-hook=tc is set: in the "
                  "userspace datapath OVS gets packets from before TC's "
                  "ingress, so each would be handled twice");
    }
    return port.refused_wish || wants_tc(port) == port.is_at_tc();
}

// Ports are looked at when the user wishes something else, and ('all') from
// time to time, as one may have had to wait.
void Offload::choose_hooks(bool all) {
    std::vector<Ifindex> elsewhere;
    {
        StateLock lock(core_);
        if (!std::exchange(wishes_changed_, false) && !all) {
            return;
        }
        for (auto &[ifindex, port] : core_.ports.by_ifindex()) {
            if (port->attachment && !is_where_wished(*port)) {
                elsewhere.push_back(ifindex);
            }
        }
    }
    for (auto ifindex : elsewhere) {
        change_hook(ifindex);
    }
}

// Not while an earlier process's program is there: its flows would end before
// ours are known.
bool Offload::may_change_hook(Ifindex ifindex, Port **port,
                              Attachment::Options *options) {
    takeover_.hurry_now();
    {
        StateLock lock(core_);
        *port = core_.ports.find(ifindex);
        if (!*port || !(*port)->attachment || is_where_wished(**port)
            || (*port)->attachment->is_taking_over()) {
            return false;
        }
    }
    *options = attach_options(**port);
    options->pins = nullptr;  // What is pinned is our own.
    return true;
}

// Loads and attaches the other program, and asks how the port is with it.
Failure Offload::attach_elsewhere(Port &port,
                                  const Attachment::Options &options,
                                  std::unique_ptr<Attachment> *program,
                                  DeviceState *state) {
    if (!options.at_tc) {
        put_tags_in_frame(port);
    }
    auto f = Attachment::attach(core_.maps, port.slot, port.ifindex, options,
                                program);
    if (!f) {
        OwnProgram own = (*program)->own_program();
        if (!options.at_tc) {
            own = port.attachment->own_program();
            own.is_leaving = true;
        }
        f = core_.devices.query(port.ifindex,
                                {.as_the_kernels = port.in_kernel_datapath,
                                 .at_tc = options.at_tc,
                                 .own = own},
                                state);
    }
    if (f) {
        program->reset();
    }
    return f;
}

// The new program is there before the old one goes, and both know the same
// flows: a packet that the first one executes does not come to the second.
void Offload::change_hook(Ifindex ifindex) {
    AttachLock attaching(core_);
    Port *port;
    Attachment::Options options;
    if (!may_change_hook(ifindex, &port, &options)) {
        return;
    }
    captures_.end_before_change(*port);
    std::unique_ptr<Attachment> program;
    DeviceState state;
    if (auto f = attach_elsewhere(*port, options, &program, &state)) {
        if (!options.at_tc) {
            put_tags_beside(*port);
        }
        StateLock lock(core_);
        port->refused_wish = hook_wishes_.of(port->name);
        core_.changes.log(
            OVS_OFFLOAD_LOG_WARN,
            port->name + ": stays "
                + (options.at_tc ? "in XDP: " : "at TC's ingress: ")
                + f.message);
        return;
    }
    {
        StateLock lock(core_);
        program = port->attach(std::move(program));
        core_.flows->park_entering(port->slot, {"parked", "flushed", ENODEV});
        core_.ports.change_hook(*port, std::chrono::steady_clock::now());
        apply_device_state(*port, std::move(state), {});
    }
    program.reset();  // The old one, and its pin.
    takeover_.keep_attached(*port);
    if (options.at_tc) {
        put_tags_beside(*port);
    }
    log_mode(*port);
}

}  // namespace flowxlate
