// SPDX-License-Identifier: Apache-2.0
#include "engine/worker.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <exception>
#include <utility>
#include <vector>

namespace flowxlate {
namespace {

// For poll(), rounded up, so that the moment has come then.
int ms_until(std::chrono::steady_clock::time_point moment) {
    using std::chrono::ceil, std::chrono::milliseconds;
    const auto left = moment - std::chrono::steady_clock::now();
    return std::max(0, static_cast<int>(ceil<milliseconds>(left).count()));
}

}  // namespace

Worker::~Worker() {
    if (thread_.joinable()) {
        {
            StateLock lock(core_);
            stop_ = true;
        }
        core_.wake_worker();
        thread_.join();
    }
}

void Worker::start() {
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);  // Signals are the host's.
    thread_ = std::thread([this] { run(); });
    pthread_sigmask(SIG_SETMASK, &old, nullptr);
    pthread_setname_np(thread_.native_handle(), "xdp-offload");
}

// In ms.
int Worker::poll_timeout(
    std::chrono::steady_clock::time_point next_full) const {
    constexpr int kHandoverIntervalMs = 10;  // Copies wait so long.
    constexpr int kFilterIntervalMs = 20;
    if (is_preparing()) {
        return 0;
    }
    if (parts_.takeover.is_going_on()) {
        return kHandoverIntervalMs;
    }
    return parts_.attachments.watches_filters()
             ? std::min(kFilterIntervalMs, ms_until(next_full))
             : ms_until(next_full);
}

void Worker::run() {
    worker_role.assume();
    // Notifications may be missing (for peers in other namespaces) or lost.
    constexpr int kPollIntervalMs = 1000;
    std::vector<pollfd> fds{{core_.wake_fd.get(), POLLIN, 0}};
    for (int fd : core_.devices.event_fds()) {
        fds.push_back({fd, POLLIN, 0});
    }
    auto next_full = std::chrono::steady_clock::now();

    for (;;) {
        poll(fds.data(), fds.size(), poll_timeout(next_full));
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
            if (is_preparing()) {
                prepare_group();
            }
            work(full);
        } catch (const std::exception &e) {
            // Out of memory; try later.
            core_.log(OVS_OFFLOAD_LOG_ERR, e.what());
        }
    }
}

void Worker::work(bool full) {
    if (full) {
        // First: what follows may take long.
        parts_.takeover.say_that_we_live();
    }
    parts_.devices.look(full);
    parts_.comeback.make_requests();
    parts_.takeover.go_on();
    parts_.takeover.collect_copies();
    parts_.hooks.choose(full);
    parts_.attachments.restore(full);
    if (full) {
        parts_.takeover.remove_orphans();
        parts_.captures.end_unread();
        parts_.evictor.evict_idle_masks();
        parts_.shaping.look();
        parts_.losses.look();
        StateLock lock(core_);
        core_.refusals.forget_old(std::chrono::steady_clock::now());
    }
    reclaim();
}

// Makes the device map of one more group, which takes a grace period.
void Worker::prepare_group() {
    Fd devices;
    const auto failed =
        core_.maps.create_group(GroupSlot{n_groups_prepared_}, &devices);
    StateLock lock(core_);
    if (failed) {
        core_.changes.log(OVS_OFFLOAD_LOG_WARN,
                          "flows with several outputs: " + failed.message);
        n_groups_prepared_ = XF_MAX_GROUPS;
        return;
    }
    core_.binder.add_devices(GroupSlot{n_groups_prepared_++},
                             std::move(devices));
}

// Gives back what was retired before a grace period.
void Worker::reclaim() {
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
