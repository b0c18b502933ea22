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
             : attachments_.watches_filters()
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
    device_watch_.look(full);
    comeback_.make_requests();
    takeover_.go_on();
    takeover_.collect_copies();
    hooks_.choose(full);
    attachments_.restore(full);
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
