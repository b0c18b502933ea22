// SPDX-License-Identifier: Apache-2.0
// A port's program may be in XDP or at TC's ingress, as the user wishes
// (HookWishes), also at run time: it is moved to the other hook.
//
// state_lock guards the wishes; attach_lock keeps the port while its program
// is replaced.
#ifndef FLOWXLATE_HOOKS_H
#define FLOWXLATE_HOOKS_H

#include <memory>
#include <span>

#include "base/guarded.h"
#include "engine/attachments.h"
#include "engine/captures.h"
#include "engine/core.h"
#include "engine/device_watch.h"
#include "engine/takeover.h"
#include "kernel/attach.h"

namespace flowxlate {

class Hooks {
public:
    Hooks(Core &core, Takeover &takeover, Captures &captures,
          Attachments &attachments, DeviceWatch &devices)
        : core_(core),
          takeover_(takeover),
          captures_(captures),
          attachments_(attachments),
          devices_(devices) {}

    // The options of the database are these now.
    void follow(std::span<const ovs_offload_option>) REQUIRES(state_lock);

    // Moves programs that are not where they are to be.  Ports are looked at
    // when the user wishes something else, and ('all') from time to time, as
    // one may have had to wait.
    void choose(bool all) REQUIRES(worker_role);

private:
    bool is_where_wished(Port &) REQUIRES(state_lock);
    void change(Ifindex) REQUIRES(worker_role);
    bool may_change(Ifindex, Port **, Attachment::Options *)
        REQUIRES(attach_lock);
    Failure attach_elsewhere(Port &, const Attachment::Options &,
                             std::unique_ptr<Attachment> *, DeviceState *)
        REQUIRES(attach_lock);

    Core &core_;
    Takeover &takeover_;
    Captures &captures_;
    Attachments &attachments_;
    DeviceWatch &devices_;
    // The user wishes programs elsewhere, perhaps.
    bool wishes_changed_ GUARDED_BY(state_lock) = false;
};

}  // namespace flowxlate

#endif
