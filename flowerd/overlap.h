// SPDX-License-Identifier: Apache-2.0
// Which filters of a device may run in XDP: those whose packets no earlier
// filter could take.
//
// TC walks a chain's preferences in their order.  In one preference flower
// walks its masks, in the order in which each was first used, and looks the
// packet up in the hash table of each.  The first filter that matches decides.
// XDP's tables have no order at all.  So a filter is "clear", and may be
// executed before TC sees the packet, if no other one that comes before it
// overlaps it: matches, by what the two compare, a packet that it matches too.
//
// The order of masks cannot be asked: it is known of those that were first
// used while we were listening.  Those that a dump has told of have one rank,
// 0, and overlapping filters of equal rank are before each other, so that
// neither is clear.  A filter of which is not known what it compares has rank
// 0 too, and overlaps all of its protocol.
//
// What can match one packet is asked of what a filter compares and of what
// follows from that: the states of a connection exclude each other, and ports
// of a range have bits in common.
//
// Each filter counts its blockers, the filters that come before and overlap.
// A change of one filter visits all that overlap it, and no others: for each
// mask that there is, those with the same bits where both masks have bits are
// found by one hash probe, in a projection of the mask's filters on these
// bits.  Projections are made when they are first needed; masks with few
// filters, and those with many projections, are walked instead.  With M
// masks and K overlapping filters a change costs O(M + K), and each filter is
// in at most kMaxProjections projections.
//
// The caller serializes all calls.
#ifndef FLOWERD_OVERLAP_H
#define FLOWERD_OVERLAP_H

#include <compare>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <unordered_map>
#include <utility>
#include <vector>

#include "flowerd/fields.h"
#include "flowerd/filter.h"

namespace flowerd {

// Where a filter comes in TC's walk.
struct Position {
    uint16_t preference = 0;
    uint32_t rank = 0;  // Of its mask in the preference.

    auto operator<=>(const Position &) const = default;
};

struct FilterIdHash {
    size_t operator()(const FilterId &id) const noexcept {
        return (uint64_t{id.preference} << 32 | id.handle) * 0x9e3779b97f4a7c15
             ^ id.chain;
    }
};

class Overlaps {
public:
    Overlaps() = default;
    Overlaps(Overlaps &&) = default;
    Overlaps &operator=(Overlaps &&) = default;

    // Both store in '*touched' the filters that have gained their first
    // blocker, or lost the last one.
    using Touched = std::set<FilterId>;
    void insert(const FilterId &, const Match &, Position, Touched *touched);
    void remove(const FilterId &, Touched *touched);

    bool is_clear(const FilterId &) const;
    // One of those that come before the filter and overlap it.
    std::optional<FilterId> blocker_of(const FilterId &);
    size_t n_masks() const { return groups_.size(); }

private:
    static constexpr size_t kWalked = 8;           // Filters of a mask.
    static constexpr size_t kMaxProjections = 64;  // Of a mask.

    struct Entry {
        FilterId id;
        Match match;
        Position position;
        size_t n_blockers = 0;
    };
    using Entries = std::vector<Entry *>;
    using Projection = std::unordered_map<Fields, Entries, FieldsHash>;
    // The filters of one mask, whatever their preference.
    struct Group {
        Entries all;
        std::unordered_map<Fields, Projection, FieldsHash> projections;
    };

    static void erase(Entry *, Entries *);
    static const Projection *projection(Group *, const Fields &bits);
    template <typename Fn>
    static void visit_group(const Entry &, const Fields &mask, Group *, Fn);
    template <typename Fn>
    void visit_overlapping(const Entry &, Fn);

    std::unordered_map<FilterId, Entry, FilterIdHash> entries_;
    std::unordered_map<Fields, Group, FieldsHash> groups_;  // By mask.
};

// The filters of a device in TC's order, as the kernel tells of them.  A
// packet is in one chain at a time, so those of different ones never overlap.
class FilterTable {
public:
    using Touched = Overlaps::Touched;

    // All filters, in any order; there were none.
    void fill(std::vector<Filter>, Touched *);
    // Adds a filter or replaces the one with its id.
    void put(Filter, Touched *);
    void remove(const FilterId &, Touched *);
    void remove_preference(uint32_t chain, uint16_t preference, Touched *);

    const Filter *find(const FilterId &) const;
    // May its packets be executed before TC sees them?
    bool may_run(const FilterId &) const;
    std::optional<FilterId> blocker_of(const FilterId &id) {
        return overlaps_.blocker_of(id);
    }
    const std::map<FilterId, Filter> &all() const { return filters_; }
    size_t n_masks() const { return overlaps_.n_masks(); }

private:
    struct MaskUse {
        uint32_t rank = 0;
        size_t n_filters = 0;
    };
    struct Preference {
        std::unordered_map<Fields, MaskUse, FieldsHash> masks;
        uint32_t next_rank = 1;
        size_t n_filters = 0;
    };

    void insert(Filter, bool order_is_known, Touched *);
    uint32_t use_mask(const Filter &, bool order_is_known);
    void unuse_mask(const Filter &);

    std::map<FilterId, Filter> filters_;
    using Place = std::pair<uint32_t, uint16_t>;  // Chain and preference.
    static Place place_of(const FilterId &id) {
        return {id.chain, id.preference};
    }
    std::map<Place, Preference> preferences_;
    Overlaps overlaps_;
};

}  // namespace flowerd

#endif
