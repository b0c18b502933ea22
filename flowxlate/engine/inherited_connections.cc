// SPDX-License-Identifier: Apache-2.0
#include "engine/inherited_connections.h"

#include <string>
#include <utility>

#include "translate/describe.h"

namespace flowxlate {
namespace {

// TCP would have to send 2 GiB in the meantime (ConnTable::follow_old()).
constexpr auto kFollowInterval = std::chrono::milliseconds(100);

// What has become of an earlier process's connections; nothing if it had none.
std::string to_string(const ConnTable::Restored &r) {
    std::string others;
    const auto add = [&](size_t n, const char *why) {
        if (n) {
            append(&others, ", %zu do not (%s)", n, why);
        }
    };
    for (size_t i = 0; i < r.left_out.size(); i++) {
        const OldConns::LeftOut why{static_cast<uint8_t>(i)};
        add(why == OldConns::LeftOut::kUnused ? 0 : r.left_out[i],
            OldConns::name(why));
    }
    add(r.n_refused, "OVS has made another one, or takes no more");
    add(r.n_no_room, "no room");
    return r.n || !others.empty() ? std::to_string(r.n) + " go on" + others
                                  : "";
}

}  // namespace

void InheritedConnections::inherit(const Port &port) {
    const ConnMaps *maps = port.attachment->old_connections();
    if (!maps || core_.connections->has_inherited(maps->id)) {
        return;
    }
    if (auto old = map_connections(*maps)) {
        core_.connections->inherit(std::move(*old));
    } else {
        core_.log(
            OVS_OFFLOAD_LOG_WARN,
            "the connections of the earlier ovs-vswitchd cannot be read, and "
            "end with it");
    }
}

bool InheritedConnections::restore(ovs_offload_ct *ct) {
    if (core_.connections->restore(ct)) {
        return true;
    }
    const auto restored = core_.connections->take_restored();
    if (const auto s = restored ? to_string(*restored) : ""; !s.empty()) {
        core_.log(OVS_OFFLOAD_LOG_INFO,
                  "connections of the earlier ovs-vswitchd: " + s);
    }
    return false;
}

void InheritedConnections::follow() {
    const auto now = std::chrono::steady_clock::now();
    if (core_.connections->has_old() && now >= next_follow_) {
        core_.connections->follow_old();
        next_follow_ = now + kFollowInterval;
    }
}

// A packet may still be in that program.
void InheritedConnections::forget() {
    if (!core_.connections->has_old()) {
        return;
    }
    if (auto f = core_.maps.wait_for_programs()) {
        core_.log(OVS_OFFLOAD_LOG_WARN, f.message);
        return;  // Once more at the next tick.
    }
    core_.connections->forget_old();
}

}  // namespace flowxlate
