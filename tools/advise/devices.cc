// SPDX-License-Identifier: Apache-2.0
#include <net/if.h>

#include "flowxlate/kernel/devices.h"
#include "flowxlate/kernel/realtime.h"
#include "tools/advise/judge.h"

namespace flowxlate::advise {
namespace {

// Texts say why not, and what helps; they are empty if all is well.
nlohmann::json judge_device(Devices &devices, const std::string &name) {
    const Ifindex ifindex{static_cast<int>(if_nametoindex(name.c_str()))};
    DeviceState s;
    if (!index(ifindex)) {
        return {{"exists", false}};
    }
    if (auto failed = devices.query(ifindex, {.as_the_kernels = true}, &s)) {
        return {{"exists", true}, {"unknown", failed.message}};
    }
    return {{"exists", s.exists},
            {"up", s.up},
            {"max_frame_bytes", s.max_frame},
            {"queues", Devices::count_queues(name)},
            {"is_veth", index(s.peer) != 0 && s.figures.has_value()},
            {"why_unsuited", devices.why_unsuited(ifindex)},
            {"why_no_transmit", s.why_not},
            {"why_no_tags", s.why_no_tags},
            {"handled_before_ovs", s.entrance.others},
            {"vlan_devices", to_string(s.entrance.vlans)}};
}

}  // namespace

nlohmann::json judge_devices(std::span<const std::string> names) {
    Devices devices;
    auto by_name = nlohmann::json::object();
    KernelFeatures kernel;
    auto failed = KernelFeatures::probe(&kernel);
    if (!failed) {
        failed = devices.open(kernel);
    }
    if (failed) {
        return {{"why_unknown", failed.message}};
    }
    devices.look_at_entrances();
    for (auto &name : names) {
        by_name[name] = judge_device(devices, name);
    }
    return {{"why_programs_overlap", why_programs_overlap()},
            {"devices", by_name}};
}

}  // namespace flowxlate::advise
