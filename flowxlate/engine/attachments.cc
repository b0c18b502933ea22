// SPDX-License-Identifier: Apache-2.0
#include "engine/attachments.h"

#include <chrono>
#include <string>
#include <vector>

#include "kernel/conntrack_rst.h"

namespace flowxlate {

namespace {

constexpr uint32_t kOwnPrograms = 16;

// A program that ports share takes a packet some instructions more than one of
// the port's own, which is loaded in tens of milliseconds.  TC forwards while
// its first ports wait for theirs.
bool shares_program(const Port &port) {
    return !is_afxdp(port.type)
        && (!port.of_tc || index(port.slot) > kOwnPrograms);
}

}  // namespace

bool is_afxdp(std::string_view type) {
    return type == "afxdp" || type == "afxdp-nonpmd";
}

// A container loses its TSO by a program in XDP (docs/design.md, "The second
// hook").  Where the kernel has no tcx a program there does not survive a
// restart of OVS, so that is the user's to choose.
bool Attachments::wants_tc(const Port &port) const {
    const HookWish wish = wishes_.of(port.name);
    return port.in_kernel_datapath
        && (wish == HookWish::kTc
            || (wish == HookWish::kAuto && port.device.is_containers
                && core_.kernel.has_tcx()));
}

Attachment::Options Attachments::options_for(const Port &port) {
    StateLock lock(core_);
    return {.allow_generic = core_.settings.allow_generic,
            .is_afxdp = is_afxdp(port.type),
            .only_join = false,
            .at_tc = wants_tc(port),
            .has_tcx = core_.kernel.has_tcx(),
            .traits = {.in_kernel_datapath = port.in_kernel_datapath,
                       .kernel_ct = port.is_the_kernels() && core_.kernel_ct,
                       .of_tc = port.of_tc},
            .programs = shares_program(port) ? &core_.programs : nullptr,
            .pins = &core_.pins};
}

// TC's own table of connections has RSTs end them, whatever nf_conntrack has
// seen (bpf/conn/kernel.h).
void Attachments::prepare_kernel_ct(const Port &port) {
    if (port.of_tc) {
        core_.kernel_ct = true;
        return;
    }
    bool changed;
    const auto f = let_old_rst_pass(&changed);
    core_.kernel_ct = !f;
    if (changed) {
        core_.log(OVS_OFFLOAD_LOG_INFO,
                  "set net.netfilter.nf_conntrack_tcp_ignore_invalid_rst=1, "
                  "since nf_conntrack does not see all packets of "
                  "connections whose ct() is executed here");
    }
    if (f && !has_complained_.exchange(true)) {
        core_.log(OVS_OFFLOAD_LOG_WARN,
                  "flows with ct() stay in openvswitch.ko: " + f.message
                      + "; what to do: set it with sysctl in the network "
                        "namespace of ovs-vswitchd, then restart that");
    }
}

// The kernel's stack gets from a device what XDP sees on some only.
Failure Attachments::attach(Port &port,
                            std::unique_ptr<Attachment> *attachment) {
    if (port.is_the_kernels()) {
        if (auto why = core_.devices.why_unsuited(port.ifindex);
            !why.empty()) {
            return {EOPNOTSUPP, why};
        }
        core_.devices.look_at_entrances();
        const bool is = core_.devices.is_containers(port.ifindex);
        StateLock lock(core_);
        port.device.is_containers = is;
    }
    if (port.is_the_kernels() && core_.kernel.has_ct_zones()
        && !core_.kernel_ct) {
        prepare_kernel_ct(port);
    }
    if (auto f = core_.maps.set_tx_port(port.slot, port.ifindex)) {
        return f;
    }
    auto f = Attachment::attach(core_.maps, port.slot, port.ifindex,
                                options_for(port), attachment);
    if (f) {
        (void)core_.maps.clear_tx_port(port.slot);
    }
    return f;
}

void Attachments::log_mode(const Port &port) {
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

void Attachments::start(Port &port) {
    if (port.is_the_kernels() && !port.is_at_tc()) {
        put_tags_in_frame(port);
    }
    takeover_.keep_attached(port);
}

void Attachments::put_tags_in_frame(Port &port) {
    port.switched_off = core_.devices.put_tags_in_frame(port.ifindex);
    if (!port.switched_off.empty()) {
        core_.log(OVS_OFFLOAD_LOG_INFO,
            port.name + ": switched off " + to_string(port.switched_off)
                + " of the device or its veth peer, for XDP to see VLAN "
                  "tags");
    }
}

void Attachments::put_tags_beside(Port &port) {
    if (!port.switched_off.empty()) {
        core_.devices.put_tags_beside(port.ifindex,
                                      std::exchange(port.switched_off, {}));
    }
}

// netdev-afxdp takes libxdp's dispatcher off the device, and ours with it,
// when it reconfigures a port.  Joins the new one when it is there; before
// that the device must be left to netdev-afxdp.  And OVS takes TC's filters
// off a port soon after it has added it.
void Attachments::restore(bool all) {
    constexpr auto kSoon = std::chrono::seconds(3);
    const auto now = std::chrono::steady_clock::now();
    std::vector<Ifindex> joined;
    watches_filters_ = false;
    {
        StateLock lock(core_);
        for (auto &[ifindex, port] : core_.ports.by_ifindex()) {
            const auto *a = port->attachment.get();
            const bool is_filter = a && a->is_filter();
            const bool is_new = is_filter && now < port->attached_at + kSoon;
            if (is_new || (all && a && (is_filter || a->in_dispatcher()))) {
                joined.push_back(ifindex);
            }
            watches_filters_ |= is_new;
        }
    }
    for (auto ifindex : joined) {
        restore_one(ifindex);
    }
}

void Attachments::restore_one(Ifindex ifindex) {
    AttachLock attaching(core_);
    Port *port;
    {
        StateLock lock(core_);
        port = core_.ports.find(ifindex);
    }
    if (!port || !port->attachment || port->attachment->is_attached()) {
        return;
    }
    if (port->attachment->is_filter()) {
        if (core_.maps.has_tx_port(port->slot, ifindex)) {
            const auto f = port->attachment->put_back();
            core_.log(
                OVS_OFFLOAD_LOG_DBG,
                port->name + ": " + (f ? f.message : "back at TC's ingress"));
        }
        return;
    }
    auto options = options_for(*port);
    options.only_join = true;
    std::unique_ptr<Attachment> again;
    if (auto f = Attachment::attach(core_.maps, port->slot, ifindex, options,
                                    &again)) {
        core_.log(OVS_OFFLOAD_LOG_DBG, port->name + ": " + f.message);
        return;
    }
    core_.log(OVS_OFFLOAD_LOG_INFO,
              port->name + ": XDP program attached again");
    StateLock lock(core_);
    again = port->attach(std::move(again));
}

}  // namespace flowxlate
