// SPDX-License-Identifier: Apache-2.0
// The worker's rounds: it follows devices, makes requests of OVS, and gives
// retired slots back.
#include <poll.h>
#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "engine/offload.h"

namespace flowxlate {

void Offload::start_worker() {
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);  // Signals are the host's.
    worker_ = std::thread([this] { run_worker(); });
    pthread_sigmask(SIG_SETMASK, &old, nullptr);
    pthread_setname_np(worker_.native_handle(), "xdp-offload");
}

// For poll(): rounded up, so that the moment has come then.
static int ms_until(std::chrono::steady_clock::time_point moment) {
    using std::chrono::ceil, std::chrono::milliseconds;
    const auto left = moment - std::chrono::steady_clock::now();
    return std::max(0, static_cast<int>(ceil<milliseconds>(left).count()));
}

void Offload::run_worker() {
    worker_role.assume();
    // Notifications may be missing (for peers in other namespaces) or lost.
    constexpr int kPollIntervalMs = 1000;
    constexpr int kHandoverIntervalMs = 10;  // Copies wait so long.
    constexpr int kFilterIntervalMs = 20;
    std::vector<pollfd> fds{{core_.wake_fd.get(), POLLIN, 0}};
    for (int fd : core_.devices.event_fds()) {
        fds.push_back({fd, POLLIN, 0});
    }
    auto next_full = std::chrono::steady_clock::now();

    for (;;) {
        const bool preparing = n_groups_prepared_ < XF_MAX_GROUPS;
        poll(fds.data(), fds.size(),
             preparing                 ? 0
             : takeover_.is_going_on() ? kHandoverIntervalMs
             : watches_filters_
                 ? std::min(kFilterIntervalMs, ms_until(next_full))
                 : ms_until(next_full));
        {
            StateLock lock(core_);
            if (stop_) {
                return;
            }
        }
        uint64_t count;
        (void)!read(core_.wake_fd.get(), &count, sizeof count);
        const auto now = std::chrono::steady_clock::now();
        const bool full = now >= next_full;
        if (full) {
            next_full = now + std::chrono::milliseconds(kPollIntervalMs);
        }
        try {
            if (preparing) {
                prepare_group();
            }
            work(full);
        } catch (const std::exception &e) {
            core_.log(OVS_OFFLOAD_LOG_ERR,
                      e.what());  // Out of memory; try later.
        }
    }
}

void Offload::work(bool full) {
    if (full) {
        takeover_.say_that_we_live();  // First: what follows may take long.
    }
    bool lost;
    std::vector<Ifindex> gone;
    const auto changed = core_.devices.drain_events(&lost, &gone);
    refresh_devices(full, lost, changed, gone);
    if (full) {
        find_lost_frames();
    }
    comeback_.make_requests();
    takeover_.go_on();
    takeover_.collect_copies();
    choose_hooks(full);
    restore_attachments(full);
    if (full) {
        takeover_.remove_orphans();
        captures_.end_unread();
        evictor_.evict_idle_masks();
        shaping_watch_.look();
        loss_watch_.look();
        StateLock lock(core_);
        core_.refusals.forget_old(std::chrono::steady_clock::now());
    }
    reclaim();
}

// A port is the device that it was added with, whatever has its index now: the
// one with our program on it.
void Offload::check_identity(Ifindex ifindex, DeviceState *state) {
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

void Offload::refresh_devices(bool all, bool lost,
                              const std::vector<Devices::Changed> &changed,
                              const std::vector<Ifindex> &gone) {
    std::vector<Query> queries;
    bool in_kernel_datapath = false;
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
                in_kernel_datapath |= port->in_kernel_datapath;
            }
        }
    }
    if (in_kernel_datapath) {
        core_.devices.look_at_entrances();
    }
    query_devices(queries);
}

void Offload::query_devices(const std::vector<Query> &queries) {
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
            apply_device_state(*port, std::move(state), heard);
        }
    }
}

// Stops sending to ports where nothing arrives (arrivals.h).
void Offload::find_lost_frames() {
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
    query_devices(found);
}

// Ports that are suspect, and that the flow has sent frames to, lose them.
void Offload::condemn_outputs(const Flow &flow, std::vector<Query> *found) {
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

// netdev-afxdp takes libxdp's dispatcher off the device, and ours with it,
// when it reconfigures a port.  Joins the new one when it is there; before
// that the device must be left to netdev-afxdp.  And OVS takes TC's filters
// off a port soon after it has added it.
void Offload::restore_attachments(bool all) {
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
        restore_attachment(ifindex);
    }
}

// Attaching is slow, so it is done without state_lock; attach_lock keeps the
// port and its attachment in place.
void Offload::restore_attachment(Ifindex ifindex) {
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
    auto options = attach_options(*port);
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

// Gives back what was retired before a grace period.
void Offload::reclaim() {
    {
        StateLock lock(core_);
        if (!core_.reclaimer->begin()) {
            return;
        }
    }
    Failure failed;
    try {
        failed = core_.maps.wait_for_programs();
    } catch (const std::bad_alloc &) {
        failed.error = ENOMEM;
    }
    StateLock lock(core_);
    if (failed) {  // Once more at the next tick.
        core_.changes.log(OVS_OFFLOAD_LOG_WARN, failed.message);
        return;
    }
    core_.reclaimer->end();
}

}  // namespace flowxlate
