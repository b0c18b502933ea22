// SPDX-License-Identifier: Apache-2.0
#include "recirc.h"

#include <cerrno>

namespace flowxlate {

RecircUse::~RecircUse() {
    if (ids_) {
        ids_->put(slot_);
    }
}

RecircIds::RecircIds(uint16_t max) : slots_(max + 1U) {
    for (uint16_t i = max; i > 0; i--) {
        free_.push_back(RecircSlot{i});
    }
    retired_.reserve(max);  // put() must not fail.
}

Reject RecircIds::get(uint32_t id, RecircUse *use) {
    *use = {};
    if (!id) {
        return {};
    }
    auto it = by_id_.find(id);
    if (it == by_id_.end()) {
        if (free_.empty()) {
            return {"table", "recirc_ids", ENOSPC};
        }
        it = by_id_.emplace(id, free_.back()).first;
        free_.pop_back();
        slots_[index(it->second)].id = id;
    }
    slots_[index(it->second)].n_users++;
    *use = RecircUse(this, it->second);
    return {};
}

void RecircIds::put(RecircSlot slot) {
    if (--slots_[index(slot)].n_users == 0) {
        by_id_.erase(slots_[index(slot)].id);
        retired_.push_back(slot);
    }
}

std::vector<RecircSlot> RecircIds::take_retired() {
    auto batch = retired_;
    retired_.clear();  // Keeps its room.
    return batch;
}

void RecircIds::release(const std::vector<RecircSlot> &slots) {
    free_.insert(free_.end(), slots.begin(), slots.end());
}

void RecircIds::retire_again(const std::vector<RecircSlot> &slots) {
    retired_.insert(retired_.end(), slots.begin(), slots.end());
}

}  // namespace flowxlate
