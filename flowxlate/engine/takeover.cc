// SPDX-License-Identifier: Apache-2.0
#include "engine/takeover.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <optional>

#include "kernel/ingress_filter.h"

namespace flowxlate {
namespace {

constexpr auto kOrphanInterval = std::chrono::seconds(5);
constexpr std::chrono::seconds kNotKept(10);

}  // namespace

Takeover::Takeover(Core &core) : core_(core) {
    handover_.set_sampling(core.settings.handover);
}

void Takeover::open() {
    note_port(std::chrono::steady_clock::now());
    // What was kept before is taken over also if nothing will be kept.
    auto f = core_.settings.inherit
               ? core_.pins.open()
               : Pins::NotKept{ECANCELED,
                               "other_config:xdp-offload-inherit=false",
                               "remove that key"};
    if (!core_.settings.persist) {
        f = {ECANCELED, "other_config:xdp-offload-persist=false",
             "remove that key"};
    }
    persists_ = !f;
    if (persists_) {
        return;
    }
    why_flows_end_ =
        f.reason + "; what to do: " + f.remedy + ", then restart ovs-vswitchd";
    if (core_.settings.persist) {
        // Without a BPF file system, as in many a container, that is how it
        // is; anything else somebody should mend.
        core_.log(
            f.error == ENOENT ? OVS_OFFLOAD_LOG_INFO : OVS_OFFLOAD_LOG_WARN,
            "flows in XDP end with this process: " + why_flows_end_);
    }
}

void Takeover::keep_attached(Port &port) {
    if (port.attachment->is_taking_over()) {
        core_.log(OVS_OFFLOAD_LOG_INFO,
            port.name + ": flows of an earlier ovs-vswitchd are executed until "
                        "this one has taken over");
        connections_.inherit(port);
        core_.wake_worker();
    }
    if (!persists_) {
        port.attachment->do_not_persist();
    } else if (auto f = port.attachment->persist(core_.pins)) {
        core_.log(OVS_OFFLOAD_LOG_WARN, port.name + ": " + f.message);
    }
}

std::vector<Port *> Takeover::ports() const {
    std::vector<Port *> ports;
    for (auto &[ifindex, port] : core_.ports.by_ifindex()) {
        if (port->attachment && port->attachment->is_taking_over()) {
            ports.push_back(port);
        }
    }
    return ports;
}

// Called with attach_lock, which keeps the ports and their attachments.
void Takeover::advance(std::span<Port *const> ports, Handover::Phase phase) {
    for (auto *port : ports) {
        Failure f;
        if (phase == Handover::Phase::kSampling) {
            f = port->attachment->begin_sampling();
        } else if (phase == Handover::Phase::kOver) {
            f = port->attachment->finish_take_over();
        }
        // It is tried again and again.
        if (f && f.message != port->last_trouble) {
            core_.log(OVS_OFFLOAD_LOG_WARN, port->name + ": " + f.message);
        }
        port->last_trouble = f.message;
    }
}

void Takeover::go_on() {
    AttachLock attaching(core_);
    std::optional<Handover::Phase> begun;
    Handover::Phase phase;
    std::vector<Port *> ports;
    const auto host = ask_host();
    {
        StateLock lock(core_);
        begun = handover_.tick(std::chrono::steady_clock::now(), host);
        phase = handover_.phase();
        ports = this->ports();
        if (phase == Handover::Phase::kOver) {
            copies_.clear();  // From now on packets miss.
        }
    }
    if (begun == Handover::Phase::kOver) {
        // What ours does now begins where the old one is.
        connections_.hurry();
    }
    connections_.follow();
    advance(ports, phase);
    if (phase == Handover::Phase::kOver && ports.empty()) {
        connections_.forget();
    }
    if (begun == Handover::Phase::kOver && !ports.empty()) {
        core_.log(
            host.has_rules ? OVS_OFFLOAD_LOG_INFO : OVS_OFFLOAD_LOG_WARN,
            "taken over from the earlier ovs-vswitchd, ports: "
                + std::to_string(ports.size())
                + (host.has_rules ? ""
                                  : ", without OpenFlow rules (a bridge has "
                                    "none, or no controller is connected)"));
    }
    going_on_ = !ports.empty();
}

// Called with attach_lock.
void Takeover::hurry_now() {
    std::vector<Port *> ports;
    Handover::Phase phase;
    const auto host = ask_host();
    {
        StateLock lock(core_);
        ports = this->ports();
        if (!ports.empty()) {
            handover_.hurry();
            (void)handover_.tick(std::chrono::steady_clock::now(), host);
        }
        phase = handover_.phase();
    }
    advance(ports, phase);
}

// For each of them: the time is asked for only if it matters.
void Takeover::note_flow() {
    if (handover_.phase() == Handover::Phase::kSampling) {
        handover_.flow_changed(std::chrono::steady_clock::now());
    }
}

Handover::Host Takeover::ask_host() const {
    return {.handles_misses = core_.host.notify.handles_misses(),
            .has_rules = core_.host.notify.has_rules()};
}

void Takeover::collect_copies() {
    auto copies = core_.maps.take_copies();
    if (copies.empty()) {
        return;
    }
    copies_.leave_out_repeated(&copies);
    {
        StateLock lock(core_);
        if (handover_.phase() == Handover::Phase::kSampling) {
            copies_.add(copies);
        }
    }
    core_.host.notify.copies_ready();
}

void Takeover::say_that_we_live() {
    const std::chrono::nanoseconds now(
        std::chrono::steady_clock::now().time_since_epoch());
    AttachLock attaching(core_);
    StateLock lock(core_);
    // What is not kept ends with us, but for filters of TC, which stay.
    const auto left = core_.settings.persist
                        ? core_.settings.orphan_timeout
                        : std::min(core_.settings.orphan_timeout, kNotKept);
    const uint64_t deadline = core_.clock.jiffies_at((now + left).count());
    core_.maps.set_deadline(now.count(), deadline);
    for (auto *port : ports()) {
        port->attachment->tend_old(now.count(), deadline);
    }
}

// Programs on devices that are no ports any more, of a process that is gone.
void Takeover::remove_orphans() {
    const auto now = std::chrono::steady_clock::now();
    {
        StateLock lock(core_);
        if (handover_.phase() != Handover::Phase::kOver
            || now < next_orphans_) {
            return;
        }
    }
    next_orphans_ = now + kOrphanInterval;
    if (const size_t n = core_.pins.remove_orphans() + remove_filters()) {
        core_.log(
            OVS_OFFLOAD_LOG_INFO,
            "removed programs of an earlier ovs-vswitchd from devices that "
            "are no ports any more: "
                + std::to_string(n));
    }
}

size_t Takeover::remove_filters() {
    size_t n_left = 0;
    if (core_.kernel.has_tcx() || !has_left_filters_
        || !core_.settings.inherit) {
        return 0;
    }
    const size_t n = remove_orphaned_filters(
        [this](Ifindex ifindex) {
            StateLock lock(core_);
            return core_.ports.find(ifindex) != nullptr;
        },
        &n_left);
    has_left_filters_ = n_left != 0;
    return n;
}

}  // namespace flowxlate
