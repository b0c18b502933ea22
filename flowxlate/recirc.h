// SPDX-License-Identifier: Apache-2.0
// What several flows share by number: recirculation ids, which OVS numbers
// with 32 bits and a packet's key with 16, and groups of output ports.
#ifndef FLOWXLATE_RECIRC_H
#define FLOWXLATE_RECIRC_H

#include "shared_slots.h"

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

}  // namespace flowxlate

#endif
