// SPDX-License-Identifier: Apache-2.0
// The writer's side of buckets (bpf/abi/flow.h): where an entry of a hash
// goes, and in which order words are stored, so that a reader never misses one
// that was there before it began.
//
// The caller serializes changes.  Entries are compared as a whole, so that
// what somebody else has written there is never followed.
#ifndef FLOWXLATE_BUCKETS_H
#define FLOWXLATE_BUCKETS_H

#include <algorithm>
#include <bit>
#include <cstdint>
#include <span>

#include "base/types.h"
#include "bpf/abi/hash.h"
#include "tables/shared_words.h"

namespace flowxlate {

// The bits of a bucket's entry that are one of 'n_slots' slots.
constexpr uint32_t slot_mask(size_t n_slots) {
    return std::bit_ceil(static_cast<uint32_t>(n_slots)) - 1;
}

// The two buckets of a hash.
class BucketPair {
public:
    BucketPair(xf_bucket &first, xf_bucket &second)
        : first_(first), second_(second) {}

    // Returns false, with nothing changed, if both are full.
    bool insert(uint32_t entry) {
        if (insert_in(first_, entry)) {
            return true;
        }
        if (&first_ == &second_) {
            return false;
        }
        publish(first_.overflow, first_.overflow + 1);
        if (insert_in(second_, entry)) {
            return true;
        }
        publish(first_.overflow, first_.overflow - 1);
        return false;
    }

    void erase(uint32_t entry) {
        const Place place = find(entry);
        if (!place.entry) {
            return;  // Somebody else has written to the bucket.
        }
        publish(*place.entry, 0);
        auto used = std::min<uint32_t>(place.bucket->used, XF_BUCKET_ENTRIES);
        while (used && !place.bucket->entry[used - 1]) {
            used--;
        }
        publish(place.bucket->used, used);
        if (place.bucket != &first_) {
            publish(first_.overflow, first_.overflow - 1);
        }
    }

    void replace(uint32_t entry, uint32_t by) {
        if (auto *e = find(entry).entry) {
            publish(*e, by);
        }
    }

    // Reads the second one only if there is something of the first in it.
    template <typename Fn>
    void for_each(Fn fn) const {
        for_each_in(first_, fn);
        if (first_.overflow) {
            for_each_in(second_, fn);
        }
    }

    // For an insert() that comes soon.
    void prefetch() const { __builtin_prefetch(&first_, 1); }

private:
    struct Place {
        xf_bucket *bucket = nullptr;
        __u32 *entry = nullptr;
    };

    // Stores an entry in a free place of the bucket, if there is one.
    static bool insert_in(xf_bucket &bucket, uint32_t entry) {
        auto *end = std::end(bucket.entry);
        auto *place = std::find(bucket.entry, end, 0);
        if (place == end) {
            return false;
        }
        publish(*place, entry);
        if (place - bucket.entry >= bucket.used) {
            publish(bucket.used,
                    static_cast<uint32_t>(place - bucket.entry + 1));
        }
        return true;
    }

    template <typename Fn>
    static void for_each_in(const xf_bucket &bucket, Fn &fn) {
        for (uint32_t entry : bucket.entry) {
            if (entry) {
                fn(entry);
            }
        }
    }

    Place find(uint32_t entry) const {
        for (auto *bucket : {&first_, &second_}) {
            auto *end = std::end(bucket->entry);
            auto *e = std::find(bucket->entry, end, entry);
            if (e != end) {
                return {bucket, e};
            }
        }
        return {};
    }

    xf_bucket &first_, &second_;
};

// Of 'buckets', a power of 2 of them.
inline BucketPair bucket_pair(std::span<xf_bucket> buckets, uint64_t hash) {
    const uint32_t mask = buckets.size() - 1;
    return {buckets[xf_hash_bucket1(hash) & mask],
            buckets[xf_hash_bucket2(hash) & mask]};
}

}  // namespace flowxlate

#endif
