// SPDX-License-Identifier: Apache-2.0
// Follows the devices of the ports: what the kernel says of them becomes the
// ports' state, and flows that it has made wrong lose their place.
//
// state_lock guards the ports; the kernel is asked without it.
#ifndef FLOWXLATE_DEVICE_WATCH_H
#define FLOWXLATE_DEVICE_WATCH_H

#include <vector>

#include "base/guarded.h"
#include "engine/core.h"
#include "engine/takeover.h"
#include "kernel/devices.h"

namespace flowxlate {

class DeviceWatch {
public:
    // How a port's state was learned.
    struct Heard {
        bool changed = false;   // The kernel has said that it has changed.
        bool was_away = false;  // It may have forgotten the device meanwhile.
    };

    DeviceWatch(Core &core, Takeover &takeover)
        : core_(core), takeover_(takeover) {}

    // Does what a device's new state makes necessary.
    void apply(Port &, DeviceState, Heard) REQUIRES(state_lock);

    // Asks about the devices of which the kernel has told news, or about all.
    void look(bool all) REQUIRES(worker_role);

private:
    struct Query {
        Ifindex ifindex;
        Devices::Question question;
        Heard heard;
    };
    void refresh(bool all, bool lost,
                 const std::vector<Devices::Changed> &changed,
                 const std::vector<Ifindex> &gone) REQUIRES(worker_role);
    void query(const std::vector<Query> &) REQUIRES(worker_role);
    void check_identity(Ifindex, DeviceState *);
    void find_lost_frames() REQUIRES(worker_role);
    void condemn_outputs(const Flow &, std::vector<Query> *found)
        REQUIRES(state_lock);

    Core &core_;
    Takeover &takeover_;
};

}  // namespace flowxlate

#endif
