// SPDX-License-Identifier: Apache-2.0
// What several flows share by number: recirculation ids, which OVS numbers
// with 32 bits and a packet's key with 16, and groups of output ports.
#ifndef FLOWXLATE_RECIRC_H
#define FLOWXLATE_RECIRC_H

#include <algorithm>
#include <span>

#include "tables/shared_slots.h"

namespace flowxlate {

// Value of struct xf_key's 'recirc'; kNone is recirculation id 0.
enum class RecircSlot : uint16_t { kNone = 0 };
using RecircIds = SharedSlots<uint32_t, RecircSlot>;

// Index into xf_groups.
enum class GroupSlot : uint16_t { kNone = 0 };

// Ports that get the same frame, sorted; one that is named twice gets it
// twice.
struct Group {
    std::vector<PortSlot> ports;
    bool keep_ingress = false;                        // See struct xf_group.
    auto operator<=>(const Group &) const = default;  // NOLINT: clang 14
};
using Groups = SharedSlots<Group, GroupSlot>;

// The group for a flow from port 'in' to the ports 'out'.  It has the input
// port as well, which does not get the frame unless 'out' has it: then the
// floods of a bridge's ports are one group.
//
// A flow from a tunnel port excludes none: that port has no device, and the
// one through which the outer packet came is an output like the others.
inline Group make_group(std::span<const PortSlot> out, PortSlot in,
                        bool in_is_tunnel = false) {
    Group group{{out.begin(), out.end()}, false};
    group.keep_ingress =
        in_is_tunnel || std::find(out.begin(), out.end(), in) != out.end();
    if (!group.keep_ingress) {
        group.ports.push_back(in);
    }
    std::sort(group.ports.begin(), group.ports.end());
    return group;
}

}  // namespace flowxlate

#endif
