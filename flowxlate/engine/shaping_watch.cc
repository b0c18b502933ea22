// SPDX-License-Identifier: Apache-2.0
#include "engine/shaping_watch.h"

#include <vector>

namespace flowxlate {

void ShapingWatch::look() {
    std::vector<Ifindex> limited;  // Those that the kernel may limit.
    {
        StateLock lock(core_);
        for (auto &[ifindex, port] : core_.ports.by_ifindex()) {
            if (port->is_left_out()) {
                port->shaping = {};  // XDP executes none of its packets.
            } else if (port->in_kernel_datapath || port->type == "system") {
                limited.push_back(ifindex);
            }
        }
    }
    if (limited.empty() || queries_.look()) {
        return;
    }
    for (auto ifindex : limited) {
        auto shaping = queries_.query(ifindex);
        StateLock lock(core_);
        auto *port = core_.ports.find(ifindex);
        if (!port || port->is_left_out()) {
            continue;
        }
        // A filter of ours comes behind that of OVS which polices.
        shaping.polices &=
            port->in_kernel_datapath
            && !(port->attachment && port->attachment->is_filter());
        if (shaping != port->shaping && !shaping.to_string().empty()) {
            core_.changes.log(OVS_OFFLOAD_LOG_WARN,
                              port->name
                                  + ": packets executed in XDP pass by its "
                                  + shaping.to_string() + " (\""
                                  + port->command_to_leave_out()
                                  + "\" leaves the port out of XDP)");
        }
        port->shaping = shaping;
    }
}

}  // namespace flowxlate
