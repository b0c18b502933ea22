// SPDX-License-Identifier: Apache-2.0
// Asks the kernel which frames were lost at ports after they were redirected
// (losses.h), for those who read it.
//
// What it has learned is the ports', which state_lock guards; the kernel is
// asked without it.
#ifndef FLOWXLATE_LOSS_WATCH_H
#define FLOWXLATE_LOSS_WATCH_H

#include <string>

#include "base/guarded.h"
#include "engine/core.h"
#include "kernel/redirect_errors.h"

namespace flowxlate {

class LossWatch {
public:
    explicit LossWatch(Core &core) : core_(core) {}

    // Where the kernel cannot be asked, the offload does without.
    void open();

    // A device is a port, for which nothing is counted yet, or is none any
    // more.
    void watch(Ifindex port) { errors_.watch(port); }
    void forget(Ifindex port) { errors_.forget(port); }

    void look() EXCLUDES(state_lock);

    // Why nobody knows; empty if it is known.  Constant after open().
    const std::string &why_unknown() const { return why_unknown_; }

private:
    Core &core_;
    RedirectErrors errors_;
    std::string why_unknown_;
};

}  // namespace flowxlate

#endif
