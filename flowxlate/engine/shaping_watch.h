// SPDX-License-Identifier: Apache-2.0
// Which of the kernel's limits (kernel/shaping.h) concern the ports: warns
// where OVS would have kept to one that XDP does not know.
//
// The worker looks; what it finds is the ports', which state_lock guards.
#ifndef FLOWXLATE_SHAPING_WATCH_H
#define FLOWXLATE_SHAPING_WATCH_H

#include "base/guarded.h"
#include "engine/core.h"
#include "kernel/shaping.h"

namespace flowxlate {

class ShapingWatch {
public:
    explicit ShapingWatch(Core &core) : core_(core) {}

    Failure open() REQUIRES(worker_role) { return queries_.open(); }
    void look() REQUIRES(worker_role);

private:
    Core &core_;
    ShapingQueries queries_ GUARDED_BY(worker_role);
};

}  // namespace flowxlate

#endif
