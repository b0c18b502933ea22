// SPDX-License-Identifier: Apache-2.0
#include "engine/hooks.h"

#include <utility>
#include <vector>

namespace flowxlate {

void Hooks::follow(std::span<const ovs_offload_option> options) {
    HookWishes wishes;
    for (auto &option : options) {
        if (!HookWishes::is_one(option.key)) {
            continue;
        }
        if (auto r = wishes.set(option)) {
            core_.changes.log(OVS_OFFLOAD_LOG_WARN,
                              refused_in_words(option, r));
        }
    }
    attachments_.set_wishes(std::move(wishes));
    wishes_changed_ = true;
}

bool Hooks::is_where_wished(Port &port) {
    if (!port.device.exists) {
        return true;  // Until it is back.
    }
    const HookWish wish = attachments_.wish_for(port);
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
    return port.refused_wish || attachments_.wants_tc(port) == port.is_at_tc();
}

void Hooks::choose(bool all) {
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
        change(ifindex);
    }
}

// Not while an earlier process's program is there: its flows would end before
// ours are known.  It is tried again when they are.
bool Hooks::may_change(Ifindex ifindex, Port **port,
                       Attachment::Options *options) {
    {
        StateLock lock(core_);
        *port = core_.ports.find(ifindex);
        if (!*port || !(*port)->attachment || is_where_wished(**port)) {
            return false;
        }
        if ((*port)->attachment->is_taking_over()) {
            wishes_changed_ = true;
            return false;
        }
    }
    *options = attachments_.options_for(**port);
    options->pins = nullptr;  // What is pinned is our own.
    return true;
}

// Loads and attaches the other program, and asks how the port is with it.
Failure Hooks::attach_elsewhere(Port &port, const Attachment::Options &options,
                                std::unique_ptr<Attachment> *program,
                                DeviceState *state) {
    if (!options.at_tc) {
        attachments_.put_tags_in_frame(port);
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
void Hooks::change(Ifindex ifindex) {
    AttachLock attaching(core_);
    Port *port;
    Attachment::Options options;
    if (!may_change(ifindex, &port, &options)) {
        return;
    }
    captures_.end_before_change(*port);
    std::unique_ptr<Attachment> program;
    DeviceState state;
    if (auto f = attach_elsewhere(*port, options, &program, &state)) {
        if (!options.at_tc) {
            attachments_.put_tags_beside(*port);
        }
        StateLock lock(core_);
        port->refused_wish = attachments_.wish_for(*port);
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
        devices_.apply(*port, std::move(state), {});
    }
    program.reset();  // The old one, and its pin.
    takeover_.keep_attached(*port);
    if (options.at_tc) {
        attachments_.put_tags_beside(*port);
    }
    attachments_.log_mode(*port);
}

}  // namespace flowxlate
