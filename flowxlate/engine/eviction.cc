// SPDX-License-Identifier: Apache-2.0
#include "engine/eviction.h"

#include <algorithm>
#include <tuple>
#include <vector>

namespace flowxlate {

void IdleMasks::begin_look() {
    n_looks_++;
    for (Mask &mask : masks_) {
        mask.is_seen = false;
        mask.may_go = true;
        mask.used = 0;
    }
}

void IdleMasks::see(SubtableSlot slot, uint64_t used, bool may_go) {
    Mask &mask = masks_[index(slot)];
    mask.is_seen = true;
    mask.may_go &= may_go;
    mask.used = std::max(mask.used, used);
}

MaskSet IdleMasks::end_look(size_t n) {
    std::vector<size_t> idle;
    for (size_t i = 0; i < masks_.size(); i++) {
        Mask &mask = masks_[i];
        if (!mask.is_seen) {
            continue;
        }
        if (mask.is_put || mask.used > mask.used_before) {
            mask.last_busy = n_looks_;
        } else if (mask.may_go) {
            idle.push_back(i);
        }
        mask.used_before = mask.used;
        mask.is_put = false;
    }
    const auto end =
        idle.begin() + static_cast<ptrdiff_t>(std::min(n, idle.size()));
    std::partial_sort(idle.begin(), end, idle.end(),
                      [this](size_t a, size_t b) {
                          const Mask &x = masks_[a], &y = masks_[b];
                          return std::tie(x.last_busy, x.used)
                               < std::tie(y.last_busy, y.used);
                      });
    MaskSet chosen;
    std::for_each(idle.begin(), end, [&](size_t i) { chosen.set(i); });
    return chosen;
}

}  // namespace flowxlate
