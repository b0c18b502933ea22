// SPDX-License-Identifier: Apache-2.0
// Numbers ("slots") that stand for things which several flows share.
//
// A slot belongs to a key as long as somebody uses it.  Without users it is
// retired, and given to another key only after a grace period (slot_pool.h).
// The caller serializes calls.
#ifndef FLOWXLATE_SHARED_SLOTS_H
#define FLOWXLATE_SHARED_SLOTS_H

#include <cerrno>
#include <utility>
#include <vector>

#include <boost/container/flat_map.hpp>

#include "base/types.h"
#include "tables/slot_pool.h"

namespace flowxlate {

// 'Slot' is an enumeration whose 0, kNone, is the slot of Key{}.
template <typename Key, typename Slot>
class SharedSlots {
public:
    // One user of a slot, who leaves with this object.  Must not outlive the
    // SharedSlots.
    class Use {
    public:
        Use() = default;
        Use(Use &&other) noexcept { swap(other); }
        Use &operator=(Use &&other) noexcept {
            Use(std::move(other)).swap(*this);
            return *this;
        }
        ~Use() {
            if (slots_) {
                slots_->put(slot_);
            }
        }

        Slot slot() const { return slot_; }

    private:
        friend class SharedSlots;
        Use(SharedSlots *slots, Slot slot) : slots_(slots), slot_(slot) {}
        void swap(Use &other) noexcept {
            std::swap(slots_, other.slots_);
            std::swap(slot_, other.slot_);
        }

        SharedSlots *slots_ = nullptr;
        Slot slot_ = Slot::kNone;
    };

    // 'n' slots, numbered from 1.  'what' names them where they run out:
    // "table/WHAT" (ENOSPC).
    SharedSlots(size_t n, const char *what)
        : what_(what), entries_(n + 1), slots_(n) {}

    // Adds a user to 'key' and stores it in '*use'.  '*is_new' tells, if
    // nonnull, whether the key had no slot before.
    Reject get(const Key &key, Use *use, bool *is_new = nullptr) {
        *use = {};
        if (is_new) {
            *is_new = false;
        }
        if (key == Key{}) {
            return {};
        }
        auto it = by_key_.find(key);
        if (it == by_key_.end()) {
            if (slots_.empty()) {
                return {"table", what_, ENOSPC};
            }
            Key copy = key;  // First all that can fail.
            it = by_key_.emplace(key, slots_.next()).first;
            (void)slots_.take();
            entries_[index(it->second)].key = std::move(copy);
            if (is_new) {
                *is_new = true;
            }
        }
        entries_[index(it->second)].n_users++;
        *use = Use(this, it->second);
        return {};
    }

    // Slots without users, before a grace period and in one (slot_pool.h).
    SlotPool<Slot> &pool() { return slots_; }

    // The key that has 'slot', of any number; Key{} if none has.  Valid until
    // the next call that is not const.
    const Key &key(Slot slot) const {
        return entries_[index(slot) < entries_.size() ? index(slot) : 0].key;
    }

    size_t size() const { return by_key_.size(); }
    auto begin() const { return by_key_.begin(); }  // Pairs of key and slot.
    auto end() const { return by_key_.end(); }

private:
    struct Entry {
        Key key{};
        uint32_t n_users = 0;
    };

    void put(Slot slot) {
        auto &entry = entries_[index(slot)];
        if (--entry.n_users == 0) {
            by_key_.erase(entry.key);
            entry.key = {};
            slots_.retire(slot);
        }
    }

    const char *what_;
    std::vector<Entry> entries_;  // That of slot 0 is always empty.
    SlotPool<Slot> slots_;
    boost::container::flat_map<Key, Slot> by_key_;
};

}  // namespace flowxlate

#endif
