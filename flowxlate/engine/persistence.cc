// SPDX-License-Identifier: Apache-2.0
// Programs and flows that outlive this process, and taking over those of an
// earlier one.  See handover.h for how, and pins.h for what stays.
#include <linux/if_ether.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>

#include "bpf/abi/handover.h"
#include "engine/offload.h"
#include "kernel/ingress_filter.h"
#include "translate/describe.h"

namespace flowxlate {
namespace {

constexpr auto kOrphanInterval = std::chrono::seconds(5);
// TCP would have to send 2 GiB in the meantime (ConnTable::follow_old()).
constexpr auto kFollowInterval = std::chrono::milliseconds(100);
// More than OVS handles while it is busy with others would be old.
constexpr size_t kMaxCopies = 4096;
constexpr std::chrono::seconds kNotKept(10);
constexpr auto kCopyInterval = std::chrono::milliseconds(250);

// What a program writes is not trusted: it may be another's, that has got hold
// of the map.
bool is_plausible(const xf_copy &copy) {
    constexpr uint32_t kMaxFrame = 65535;
    return copy.in_port < XF_MAX_PORTS && copy.frame_len >= ETH_HLEN
        && copy.frame_len <= kMaxFrame;
}

// What has become of an earlier process's connections; nothing if it had none.
std::string to_string(const ConnTable::Restored &r) {
    std::string others;
    const auto add = [&](size_t n, const char *why) {
        if (n) {
            append(&others, ", %zu do not (%s)", n, why);
        }
    };
    for (size_t i = 0; i < r.left_out.size(); i++) {
        const OldConns::LeftOut why{static_cast<uint8_t>(i)};
        add(why == OldConns::LeftOut::kUnused ? 0 : r.left_out[i],
            OldConns::name(why));
    }
    add(r.n_refused, "OVS has made another one, or takes no more");
    add(r.n_no_room, "no room");
    return r.n || !others.empty() ? std::to_string(r.n) + " go on" + others
                                  : "";
}

}  // namespace

void Offload::open_pins() {
    handover_.port_added(std::chrono::steady_clock::now());
    auto f = core_.pins.open();
    // What was kept before is taken over nevertheless.
    if (!core_.settings.persist) {
        f = {ECANCELED, "other_config:xdp-offload-persist=false",
             "remove that key"};
    }
    persists_ = !f;
    if (persists_) {
        return;
    }
    ends_with_us_ =
        f.reason + "; what to do: " + f.remedy + ", then restart ovs-vswitchd";
    if (core_.settings.persist) {
        // Without a BPF file system, as in many a container, that is how it
        // is; anything else somebody should mend.
        core_.log(
            f.error == ENOENT ? OVS_OFFLOAD_LOG_INFO : OVS_OFFLOAD_LOG_WARN,
            "flows in XDP end with this process: " + ends_with_us_);
    }
}

// Called with the state locked.
void Offload::show_persistence(std::string *s) const {
    if (!persists_) {
        append(s, "restarts: flows end with this process: %s\n",
               ends_with_us_.c_str());
        return;
    }
    std::string others;
    for (auto &[ifindex, port] : core_.ports.by_ifindex()) {
        if (port->attachment && !port->attachment->is_persistent()) {
            others += (others.empty() ? "" : ", ") + port->name;
        }
    }
    append(s, "restarts: flows survive ovs-vswitchd (%s)%s%s\n",
           Pins::kDirectory,
           others.empty() ? "" : ", but those of ports that are not pinned: ",
           others.c_str());
}

// The port's program has just been attached, or is about to take over.
void Offload::keep_attached(Port &port) {
    if (port.attachment->is_taking_over()) {
        core_.log(OVS_OFFLOAD_LOG_INFO,
            port.name + ": flows of an earlier ovs-vswitchd are executed until "
                        "this one has taken over");
        inherit_connections(port);
        core_.wake_worker();
    }
    if (!persists_) {
        port.attachment->do_not_persist();
    } else if (auto f = port.attachment->persist(core_.pins)) {
        core_.log(OVS_OFFLOAD_LOG_WARN, port.name + ": " + f.message);
    }
}

// The port has just been added, and OVS asks for them before it handles the
// first miss (ct_restore in ovs_offload_abi.h).
void Offload::inherit_connections(const Port &port) {
    const ConnMaps *maps = port.attachment->old_connections();
    if (!maps || core_.connections->has_inherited(maps->id)) {
        return;
    }
    if (auto old = map_connections(*maps)) {
        core_.connections->inherit(std::move(*old));
    } else {
        core_.log(
            OVS_OFFLOAD_LOG_WARN,
            "the connections of the earlier ovs-vswitchd cannot be read, and "
            "end with it");
    }
}

bool Offload::restore_connection(ovs_offload_ct *ct) {
    if (core_.connections->restore(ct)) {
        return true;
    }
    const auto restored = core_.connections->take_restored();
    if (const auto s = restored ? to_string(*restored) : ""; !s.empty()) {
        core_.log(OVS_OFFLOAD_LOG_INFO,
                  "connections of the earlier ovs-vswitchd: " + s);
    }
    return false;
}

void Offload::follow_connections() {
    const auto now = std::chrono::steady_clock::now();
    if (core_.connections->has_old() && now >= next_follow_) {
        core_.connections->follow_old();
        next_follow_ = now + kFollowInterval;
    }
}

// Its program is on no port any more.  A packet may still be in it.
void Offload::forget_old_connections() {
    if (!core_.connections->has_old()) {
        return;
    }
    if (auto f = core_.maps.wait_for_programs()) {
        core_.log(OVS_OFFLOAD_LOG_WARN,
                  f.message);  // Once more at the next tick.
        return;
    }
    core_.connections->forget_old();
}

std::vector<Port *> Offload::taking_over() const {
    std::vector<Port *> ports;
    for (auto &[ifindex, port] : core_.ports.by_ifindex()) {
        if (port->attachment && port->attachment->is_taking_over()) {
            ports.push_back(port);
        }
    }
    return ports;
}

// Called with attach_lock, which keeps the ports and their attachments.
void Offload::advance(std::span<Port *const> ports, Handover::Phase phase) {
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

void Offload::continue_handover() {
    AttachLock attaching(core_);
    std::optional<Handover::Phase> begun;
    Handover::Phase phase;
    std::vector<Port *> ports;
    const auto host = ask_host();
    {
        StateLock lock(core_);
        begun = handover_.tick(std::chrono::steady_clock::now(), host);
        phase = handover_.phase();
        ports = taking_over();
        if (phase == Handover::Phase::kOver) {
            copies_.clear();  // From now on packets miss.
        }
    }
    if (begun == Handover::Phase::kOver) {
        next_follow_ = {};  // What ours does now begins where the old one is.
    }
    follow_connections();
    advance(ports, phase);
    if (phase == Handover::Phase::kOver && ports.empty()) {
        forget_old_connections();
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
    handing_over_ = !ports.empty();
}

// Called with attach_lock.
void Offload::hurry_handover() {
    std::vector<Port *> ports;
    Handover::Phase phase;
    const auto host = ask_host();
    {
        StateLock lock(core_);
        ports = taking_over();
        if (!ports.empty()) {
            handover_.hurry();
            (void)handover_.tick(std::chrono::steady_clock::now(), host);
        }
        phase = handover_.phase();
    }
    advance(ports, phase);
}

// Called with the state locked, for each flow that is new or changed: the time
// is asked for only if it matters.
void Offload::note_flow() {
    if (handover_.phase() == Handover::Phase::kSampling) {
        handover_.flow_changed(std::chrono::steady_clock::now());
    }
}

Handover::Host Offload::ask_host() const {
    return {.handles_misses = core_.host.notify.handles_misses(),
            .has_rules = core_.host.notify.has_rules()};
}

// A connection's packets would all be copied until it has a flow, which it may
// never get.
bool Offload::was_copied_lately(const xf_copy &copy) {
    const auto now = std::chrono::steady_clock::now();
    if (now >= forget_copied_) {
        copied_.clear();
        forget_copied_ = now + kCopyInterval;
    }
    return !copied_.insert(copy.hash ^ copy.in_port).second;
}

void Offload::collect_copies() {
    auto taken = core_.maps.take_copies();
    if (taken.empty()) {
        return;
    }
    std::erase_if(taken, [&](const xf_copy &copy) REQUIRES(worker_role) {
        return was_copied_lately(copy);
    });
    {
        StateLock lock(core_);
        for (const xf_copy &copy : taken) {
            if (handover_.phase() == Handover::Phase::kSampling
                && is_plausible(copy) && core_.ports.at(PortSlot{copy.in_port})
                && copies_.size() < kMaxCopies) {
                copies_.push_back(copy);
            }
        }
    }
    core_.host.notify.copies_ready();
}

int Offload::take_copy(std::string_view dpif_type, ovs_offload_copy *out) {
    const bool of_kernel = dpif_type == kKernelDatapath;
    StateLock lock(core_);
    const auto it = std::ranges::find_if(
        copies_, [&](const xf_copy &copy) REQUIRES(state_lock) {
            return core_.ports.at(PortSlot{copy.in_port})->in_kernel_datapath
                == of_kernel;
        });
    if (it == copies_.end()) {
        return ENOENT;
    }
    out->ifindex = index(core_.ports.at(PortSlot{it->in_port})->ifindex);
    out->frame_len = it->frame_len;
    out->data_len = std::min<uint32_t>(it->frame_len, sizeof it->data);
    std::memcpy(out->data, it->data, out->data_len);
    copies_.erase(it);
    return 0;
}

// Called with the state locked.
void Offload::drop_copies_of(const Port &port) {
    std::erase_if(copies_, [&](const xf_copy &copy) {
        return copy.in_port == index(port.slot);
    });
}

void Offload::say_that_we_live() {
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
    for (auto *port : taking_over()) {
        port->attachment->tend_old(now.count(), deadline);
    }
}

// Programs on devices that are no ports any more, of a process that is gone.
void Offload::remove_orphans() {
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
            "are "
            "no ports any more: "
                + std::to_string(n));
    }
}

size_t Offload::remove_filters() {
    size_t n_left = 0;
    if (core_.kernel.has_tcx() || !has_left_filters_) {
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

void Offload::leave() { leaving_ = persists_; }

}  // namespace flowxlate
