// SPDX-License-Identifier: Apache-2.0
// The one thread of our own: it has the parts follow what happens, each in its
// turn, and gives retired slots back after a grace period.
//
// What only this thread does needs 'worker_role'; it holds no lock but for
// what a part does under one.
#ifndef FLOWXLATE_WORKER_H
#define FLOWXLATE_WORKER_H

#include <chrono>
#include <cstdint>
#include <thread>

#include "base/guarded.h"
#include "engine/attachments.h"
#include "engine/captures.h"
#include "engine/comeback.h"
#include "engine/core.h"
#include "engine/device_watch.h"
#include "engine/evictor.h"
#include "engine/hooks.h"
#include "engine/loss_watch.h"
#include "engine/shaping_watch.h"
#include "engine/takeover.h"

namespace flowxlate {

class Worker {
public:
    // Those that have something to do in each round.
    struct Parts {
        Takeover &takeover;
        DeviceWatch &devices;
        Comeback &comeback;
        Hooks &hooks;
        Attachments &attachments;
        Captures &captures;
        Evictor &evictor;
        ShapingWatch &shaping;
        LossWatch &losses;
    };

    Worker(Core &core, const Parts &parts) : core_(core), parts_(parts) {}
    ~Worker();  // Ends the thread, if it was started.
    Worker(const Worker &) = delete;
    Worker &operator=(const Worker &) = delete;

    void start();

private:
    void run();
    // Groups need device maps, each of which takes a grace period: they are
    // made at first, one in each round.
    bool is_preparing() const REQUIRES(worker_role) {
        return n_groups_prepared_ < XF_MAX_GROUPS;
    }
    int poll_timeout(std::chrono::steady_clock::time_point next_full) const
        REQUIRES(worker_role);
    void work(bool full) REQUIRES(worker_role);
    void prepare_group() REQUIRES(worker_role);
    void reclaim() REQUIRES(worker_role);

    Core &core_;
    const Parts parts_;
    uint16_t n_groups_prepared_ GUARDED_BY(worker_role) =
        1;  // Slot 0 needs none.
    bool stop_ GUARDED_BY(state_lock) = false;
    std::thread thread_;
};

}  // namespace flowxlate

#endif
