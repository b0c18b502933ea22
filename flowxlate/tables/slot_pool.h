// SPDX-License-Identifier: Apache-2.0
// Numbered places ("slots") in memory that programs read: which are free, and
// which have to wait until they are.
//
// A slot that is retired may still be used by a program that runs.  It is free
// again after a grace period, in which every CPU has left the program once.
// There is one period at a time: what was retired before begin_grace() waits
// for its end, what is retired later for the end of the next one.  A period
// that could not be waited for is not ended; what waits for it is there when
// the next one begins.
//
// Only the constructor allocates: to take, to retire and to free cannot fail.
// The caller serializes all calls.
#ifndef FLOWXLATE_SLOT_POOL_H
#define FLOWXLATE_SLOT_POOL_H

#include <span>
#include <utility>
#include <vector>

namespace flowxlate {

// 'Slot' is an integer or an enumeration of one.
template <typename Slot>
class SlotPool {
public:
    // Slots 1 to 'n', of which the lowest is taken first.
    explicit SlotPool(size_t n) {
        free_.reserve(n);
        retired_.reserve(n);
        waiting_.reserve(n);
        for (size_t i = n; i > 0; i--) {
            free_.push_back(static_cast<Slot>(i));
        }
    }

    bool empty() const { return free_.empty(); }
    // The slot that take() takes.  There must be one, as for take().
    Slot next() const { return free_.back(); }
    // Last in, first out.
    Slot take() {
        const Slot slot = free_.back();
        free_.pop_back();
        return slot;
    }
    // Undoes take(), of a slot that no program has seen.
    void give_back(Slot slot) { free_.push_back(slot); }

    void retire(Slot slot) { retired_.push_back(slot); }
    const std::vector<Slot> &retired() const { return retired_; }

    // Returns what waits for the period that begins now.  Nobody but the
    // caller changes that before end_grace(), which may be called when it is
    // over.
    std::span<Slot> begin_grace() {
        waiting_.insert(waiting_.end(), retired_.begin(), retired_.end());
        retired_.clear();  // Keeps its room.
        return waiting_;
    }
    // Frees what begin_grace() has returned, the last of that to be the next.
    void end_grace() {
        free_.insert(free_.end(), waiting_.begin(), waiting_.end());
        waiting_.clear();
    }

private:
    std::vector<Slot> free_, retired_, waiting_;
};

}  // namespace flowxlate

#endif
