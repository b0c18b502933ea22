// SPDX-License-Identifier: Apache-2.0
// Recirculation ids: OVS's 32-bit ones and the slots that stand for them in a
// packet's key.
//
// A slot belongs to an id as long as a flow matches it or recirculates to it
// (its users).  Without users it is retired: a program that is running may
// still have it in a key, so it is given to another id only after a grace
// period, between take_retired() and release().  The caller serializes calls.
#ifndef FLOWXLATE_RECIRC_H
#define FLOWXLATE_RECIRC_H

#include <utility>
#include <vector>

#include <boost/container/flat_map.hpp>

#include "types.h"

namespace flowxlate {

// Value of struct xf_key's 'recirc'; kNone is recirculation id 0.
enum class RecircSlot : uint16_t { kNone = 0 };

class RecircIds;

// One user of a slot, who leaves with this object.  Must not outlive its
// RecircIds.
class RecircUse {
public:
    RecircUse() = default;
    RecircUse(RecircUse &&other) noexcept { swap(other); }
    RecircUse &operator=(RecircUse &&other) noexcept {
        RecircUse(std::move(other)).swap(*this);
        return *this;
    }
    ~RecircUse();

    RecircSlot slot() const { return slot_; }

private:
    friend class RecircIds;
    RecircUse(RecircIds *ids, RecircSlot slot) : ids_(ids), slot_(slot) {}
    void swap(RecircUse &other) noexcept {
        std::swap(ids_, other.ids_);
        std::swap(slot_, other.slot_);
    }

    RecircIds *ids_ = nullptr;
    RecircSlot slot_ = RecircSlot::kNone;
};

class RecircIds {
public:
    // At most 'max' ids at a time, fewer than 65536.
    explicit RecircIds(uint16_t max);

    // Adds a user to 'id' and stores it in '*use'.  table/recirc_ids (ENOSPC):
    // there are too many.
    Reject get(uint32_t id, RecircUse *use);

    std::vector<RecircSlot> take_retired();
    void release(const std::vector<RecircSlot> &);
    // Takes back what take_retired() gave out, for another try.
    void retire_again(const std::vector<RecircSlot> &);

    size_t size() const { return by_id_.size(); }

private:
    friend class RecircUse;
    void put(RecircSlot);

    struct Slot {
        uint32_t id = 0;
        uint32_t n_users = 0;
    };
    std::vector<Slot> slots_;  // Slot 0 is not used.
    std::vector<RecircSlot> free_, retired_;
    boost::container::flat_map<uint32_t, RecircSlot> by_id_;
};

}  // namespace flowxlate

#endif
