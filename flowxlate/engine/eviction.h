// SPDX-License-Identifier: Apache-2.0
// Which masks make room for others.
//
// There are XF_MAX_MASKS masks, and a sender can make OVS use thousands:
// packets that miss an access list by one bit each leave a megaflow under
// another mask ("tuple space explosion", L. Csikor et al., CoNEXT '19).  The
// packets that make a mask do not have to come again, those of established
// flows do.  So while free masks are scarce the offload looks at all flows
// once per tick, and those masks go that nobody has used since the look
// before: the ones first that have not been used for most looks.  A mask that
// was made since the last look is as good as used.
//
// Only masks all of whose flows OVS forwards by itself may go.
//
// The caller serializes all calls.
#ifndef FLOWXLATE_EVICTION_H
#define FLOWXLATE_EVICTION_H

#include <array>
#include <bitset>
#include <cstddef>
#include <cstdint>

#include "base/types.h"

namespace flowxlate {

using MaskSet = std::bitset<XF_MAX_SUBTABLES>;  // By subtable slot.

class IdleMasks {
public:
    // So many are kept free for new ones, if there are idle ones.
    static constexpr size_t kKeptFree = 16;

    // A flow was put under this mask.
    void put(SubtableSlot mask) { masks_[index(mask)].is_put = true; }

    // A look: begin_look(), see() for each flow in the tables, end_look().
    void begin_look();
    // 'used' is the flow's last use; any clock that does not go back.
    void see(SubtableSlot mask, uint64_t used, bool may_go);
    // The 'n' masks that have been idle for longest, or all if fewer are.
    MaskSet end_look(size_t n);

private:
    struct Mask {
        bool is_put = false;   // Since the last look.
        bool is_seen = false;  // In this look, like the next two.
        bool may_go = false;
        uint64_t used = 0;
        uint64_t used_before = 0;  // At the last look.
        uint64_t last_busy = 0;    // The look that saw it used.
    };

    uint64_t n_looks_ = 0;
    std::array<Mask, XF_MAX_SUBTABLES> masks_{};  // By subtable slot.
};

}  // namespace flowxlate

#endif
