// SPDX-License-Identifier: Apache-2.0
#include "engine/loss_watch.h"

#include <chrono>
#include <vector>

namespace flowxlate {

void LossWatch::open() {
    if (auto f = errors_.open(core_.kernel)) {
        why_unknown_ = f.message;
        core_.log(OVS_OFFLOAD_LOG_INFO,
                  "it is not known whether redirected frames are lost: "
                      + f.message);
    }
}

void LossWatch::look() {
    std::vector<Ifindex> ports;
    {
        StateLock lock(core_);
        for (auto &[ifindex, port] : core_.ports.by_ifindex()) {
            ports.push_back(ifindex);
        }
    }
    for (auto ifindex : ports) {
        const auto errors = errors_.read(ifindex);
        StateLock lock(core_);
        if (auto *port = core_.ports.find(ifindex)) {
            port->losses.look(errors, std::chrono::steady_clock::now());
        }
    }
}

}  // namespace flowxlate
