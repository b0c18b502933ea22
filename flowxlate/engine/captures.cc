// SPDX-License-Identifier: Apache-2.0
#include "engine/captures.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace flowxlate {

// Finds the port, or says why nobody can look at its packets here.
std::string Captures::find(const std::string &name, Port **out) {
    StateLock lock(core_);
    Port *port = core_.ports.find_any(name);
    if (!port) {
        const Unserved *unserved = core_.unserved.find(name);
        return unserved ? name + " is not in XDP: " + unserved->why
                        : "no such port in XDP (xdp-offload/show lists them)";
    }
    if (port->is_tunnel()) {
        return name
             + " is a tunnel, which has no device: capture the port where "
               "its packets enter";
    }
    if (!port->attachment) {
        return name + " is left out of XDP (" + port->left_out
             + "): tcpdump sees all its packets";
    }
    *out = port;
    return "";
}

// Has the ufids of flows be there, by slot.
Failure Captures::name_flows(std::shared_ptr<const FlowNames> *out) {
    if (!names_) {
        auto names = std::make_shared<FlowNames>();
        if (auto f = core_.maps.create_names(names.get())) {
            return f;
        }
        StateLock lock(core_);
        core_.table->set_names(names->by_slot);
        for (auto &[ufid, flow] : core_.flows->by_ufid()) {
            if (flow.is_placed()) {
                core_.table->set_name(flow.slot, ufid);
            }
        }
        names_ = std::move(names);
    }
    *out = names_;
    return {};
}

void Captures::forget_names() {
    if (names_ && names_.use_count() == 1) {
        StateLock lock(core_);
        core_.table->set_names({});
        names_.reset();
    }
}

std::string Captures::begin(const std::string &name,
                            const CaptureSizes &sizes) {
    AttachLock attaching(core_);
    Port *port;
    if (auto why = find(name, &port); !why.empty()) {
        return why + "\n";
    }
    Attachment &a = *port->attachment;
    if (a.is_captured() && a.capture().has_reader()) {
        return name
             + " is captured already, by another ovs-offload-dump; if that "
               "was killed, its capture ends within seconds\n";
    }
    std::shared_ptr<const FlowNames> names;
    Failure f = a.end_capture();
    if (!f) {
        f = name_flows(&names);
    }
    if (!f) {
        f = a.begin_capture(core_.maps, port->slot, sizes, std::move(names));
    }
    if (f) {
        forget_names();
        return name + " cannot be captured: " + f.message + "\n";
    }
    const auto program = std::to_string(a.capture().prog_id());
    core_.log(
        OVS_OFFLOAD_LOG_INFO,
        name + ": what enters is copied for who looks, by program " + program);
    return "capturing " + name + ": program " + program + ", link "
         + std::to_string(a.link_id()) + "\n";
}

// Returns what has gone wrong.
std::string Captures::stop(Port &port) {
    if (auto f = port.attachment->end_capture()) {
        return port.name + ": " + f.message;
    }
    core_.log(OVS_OFFLOAD_LOG_INFO,
              port.name + ": what enters is copied no longer");
    return "";
}

std::string Captures::end(const std::string &name) {
    AttachLock attaching(core_);
    Port *port;
    if (auto why = find(name, &port); !why.empty()) {
        return why + "\n";
    }
    if (!port->attachment->is_captured()) {
        return name + " is not captured\n";
    }
    const auto wrong = stop(*port);
    forget_names();
    return wrong.empty() ? name + " is captured no longer\n" : wrong + "\n";
}

void Captures::end_before_change(Port &port) {
    if (port.attachment->is_captured()) {
        (void)stop(port);
        forget_names();
    }
}

void Captures::end_unread() {
    auto is_captured = [](auto &p) {
        return p.second->attachment && p.second->attachment->is_captured();
    };
    {
        StateLock lock(core_);
        const auto &ports = core_.ports.by_ifindex();
        if (std::none_of(ports.begin(), ports.end(), is_captured)) {
            return;
        }
    }
    AttachLock attaching(core_);
    std::vector<Port *> captured;
    {
        StateLock lock(core_);
        for (auto &[ifindex, port] : core_.ports.by_ifindex()) {
            if (port->attachment && port->attachment->is_captured()) {
                captured.push_back(port);
            }
        }
    }
    for (Port *port : captured) {
        if (!port->attachment->capture().has_reader()) {
            if (auto wrong = stop(*port); !wrong.empty()) {
                core_.log(OVS_OFFLOAD_LOG_WARN, wrong);
            }
        }
    }
    forget_names();
}

}  // namespace flowxlate
