// SPDX-License-Identifier: Apache-2.0
// What the user has chosen, by other_config:xdp-offload-*.  But for where
// programs are to be it is constant once the plugin has been set up.
#ifndef FLOWXLATE_SETTINGS_H
#define FLOWXLATE_SETTINGS_H

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/types.h"

namespace flowxlate {

// "other_config:KEY=VALUE: why": the line of the log about an option that is
// ignored.
std::string refused_in_words(const ovs_offload_option &, const Reject &);

// Where the program of a port is to be.
enum class HookWish { kAuto, kXdp, kTc };

// The only options that are followed at run time: xdp-offload-hook, for all
// ports, and xdp-offload-hook-NAME, for one.
class HookWishes {
public:
    static bool is_one(std::string_view key);

    // Takes one option, or refuses it as Settings::set() does.
    Reject set(const ovs_offload_option &);
    HookWish of(std::string_view port) const;

private:
    HookWish all_ = HookWish::kAuto;
    std::map<std::string, HookWish, std::less<>> ports_;
};

struct Settings {
    uint32_t max_flows = 65536;
    uint32_t max_connections = 65536;
    uint32_t max_memory_mib = 0;  // BpfMaps::Config's.
    bool allow_generic = false;   // Generic XDP where there is no native mode.
    bool system_ports = false;    // Of the userspace datapath.
    bool persist = true;          // Flows survive this process.
    bool inherit = true;          // Those of an earlier one are taken over.
    bool tap_tso = true;          // Guests leave segmentation to us.
    std::chrono::seconds handover{5};  // Handover::set_sampling().
    std::chrono::seconds orphan_timeout{300};

    // Takes one option.  If it is refused, which changes nothing, the reason's
    // 'what' says in words what is wrong.
    Reject set(const ovs_offload_option &);

    // All of them, "xdp-offload-max-flows=65536", in a fixed order.
    std::vector<std::string> in_words() const;
};

}  // namespace flowxlate

#endif
