// SPDX-License-Identifier: Apache-2.0
// What those read of the engine who tell operators and programs of it
// (report/).
#ifndef FLOWXLATE_SOURCES_H
#define FLOWXLATE_SOURCES_H

#include "engine/core.h"
#include "engine/evictor.h"
#include "engine/loss_watch.h"
#include "engine/port_operations.h"
#include "engine/takeover.h"

namespace flowxlate {

struct Sources {
    Core &core;
    LossWatch &loss_watch;
    const Takeover &takeover;
    const Evictor &evictor;
    const PortOperations &ports;
};

}  // namespace flowxlate

#endif
