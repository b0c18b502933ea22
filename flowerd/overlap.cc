// SPDX-License-Identifier: Apache-2.0
#include "flowerd/overlap.h"

#include <linux/pkt_cls.h>

#include <algorithm>
#include <bit>
#include <utility>

namespace flowerd {

// -- Overlaps ---------------------------------------------------------------

void Overlaps::erase(Entry *entry, Entries *from) {
    const auto it = std::ranges::find(*from, entry);
    *it = from->back();
    from->pop_back();
}

// Null: the group is better walked.
const Overlaps::Projection *Overlaps::projection(Group *group,
                                                 const Fields &bits) {
    if (group->all.size() <= kWalked) {
        return nullptr;
    }
    if (const auto it = group->projections.find(bits);
        it != group->projections.end()) {
        return &it->second;
    }
    if (group->projections.size() == kMaxProjections) {
        return nullptr;
    }
    Projection &made = group->projections[bits];
    for (Entry *e : group->all) {
        made[e->match.key & bits].push_back(e);
    }
    return &made;
}

template <typename Fn>
void Overlaps::visit_group(const Entry &entry, const Fields &mask,
                           Group *group, Fn visit) {
    const Fields bits = mask & entry.match.mask;
    const Projection *projected = projection(group, bits);
    if (!projected) {
        for (Entry *e : group->all) {
            if (e != &entry && e->match.overlaps(entry.match)) {
                visit(e);
            }
        }
        return;
    }
    const auto found = projected->find(entry.match.key & bits);
    if (found == projected->end()) {
        return;
    }
    for (Entry *e : found->second) {
        if (e != &entry && e->match.shares_ports(entry.match)) {
            visit(e);
        }
    }
}

template <typename Fn>
void Overlaps::visit_overlapping(const Entry &entry, Fn visit) {
    for (auto &[mask, group] : groups_) {
        visit_group(entry, mask, &group, visit);
    }
}

void Overlaps::insert(const FilterId &id, const Match &match,
                      Position position, Touched *touched) {
    Entry &entry = entries_[id] = {id, match, position};
    Group &group = groups_[match.mask];
    group.all.push_back(&entry);
    for (auto &[bits, projected] : group.projections) {
        projected[match.key & bits].push_back(&entry);
    }
    visit_overlapping(entry, [&](Entry *other) {
        entry.n_blockers += other->position <= position;
        if (position <= other->position && other->n_blockers++ == 0) {
            touched->insert(other->id);
        }
    });
    touched->insert(id);
}

void Overlaps::remove(const FilterId &id, Touched *touched) {
    const auto it = entries_.find(id);
    if (it == entries_.end()) {
        return;
    }
    Entry &entry = it->second;
    visit_overlapping(entry, [&](Entry *other) {
        if (entry.position <= other->position && --other->n_blockers == 0) {
            touched->insert(other->id);
        }
    });
    const auto group = groups_.find(entry.match.mask);
    erase(&entry, &group->second.all);
    for (auto &[bits, projected] : group->second.projections) {
        const auto same = projected.find(entry.match.key & bits);
        erase(&entry, &same->second);
        if (same->second.empty()) {
            projected.erase(same);
        }
    }
    if (group->second.all.empty()) {
        groups_.erase(group);
    }
    entries_.erase(it);
    touched->insert(id);
}

bool Overlaps::is_clear(const FilterId &id) const {
    const auto it = entries_.find(id);
    return it != entries_.end() && it->second.n_blockers == 0;
}

std::optional<FilterId> Overlaps::blocker_of(const FilterId &id) {
    const auto it = entries_.find(id);
    std::optional<FilterId> found;
    if (it == entries_.end()) {
        return found;
    }
    visit_overlapping(it->second, [&](Entry *other) {
        if (other->position <= it->second.position
            && (!found || other->id < *found)) {
            found = other->id;
        }
    });
    return found;
}

// -- FilterTable ------------------------------------------------------------

// A mask that has filters keeps its place in the kernel's list, and one that
// has none is taken off it.
uint32_t FilterTable::use_mask(const Filter &f, bool order_is_known) {
    Preference &p = preferences_[place_of(f.id)];
    p.n_filters++;
    if (f.is_opaque) {
        return 0;
    }
    MaskUse &use = p.masks[f.match.mask];
    if (use.n_filters++ == 0 && order_is_known) {
        use.rank = p.next_rank++;
    }
    return use.rank;
}

void FilterTable::unuse_mask(const Filter &f) {
    const auto p = preferences_.find(place_of(f.id));
    if (!f.is_opaque) {
        const auto use = p->second.masks.find(f.match.mask);
        if (--use->second.n_filters == 0) {
            p->second.masks.erase(use);
        }
    }
    if (--p->second.n_filters == 0) {
        preferences_.erase(p);
    }
}

// What a packet's connection may be: none, or one of these.
constexpr uint16_t kTracked = TCA_FLOWER_KEY_CT_FLAGS_TRACKED;
constexpr uint16_t kReply = TCA_FLOWER_KEY_CT_FLAGS_REPLY;
constexpr uint16_t kStates[] = {
    0,
    kTracked | TCA_FLOWER_KEY_CT_FLAGS_INVALID,
    kTracked | TCA_FLOWER_KEY_CT_FLAGS_NEW,
    kTracked | TCA_FLOWER_KEY_CT_FLAGS_ESTABLISHED,
    kTracked | TCA_FLOWER_KEY_CT_FLAGS_ESTABLISHED | kReply,
    kTracked | TCA_FLOWER_KEY_CT_FLAGS_RELATED,
    kTracked | TCA_FLOWER_KEY_CT_FLAGS_RELATED | kReply,
};

// Compares what follows from that, too: what is established is not new.
static Match with_implied_state(Match m) {
    if (!m.mask.ct_state) {
        return m;
    }
    uint16_t ones = UINT16_MAX, any = 0;
    for (const uint16_t state : kStates) {
        if ((state & m.mask.ct_state) == m.key.ct_state) {
            ones &= state;
            any |= state;
        }
    }
    if (ones & ~any) {
        return m;  // It matches nothing.
    }
    m.mask.ct_state = static_cast<uint16_t>(ones | ~any);
    m.key.ct_state = ones;
    return m;
}

// The bits that all ports of a range have, and the range of one port.
static void imply_ports(__be16 *key, __be16 *mask, PortRange *range) {
    if (*mask == 0xffff) {
        range->first = range->last = ntohs(*key);
        return;
    }
    if (*mask || *range == PortRange{}) {
        return;
    }
    const auto same =
        std::countl_zero(static_cast<uint16_t>(range->first ^ range->last));
    *mask = htons(static_cast<uint16_t>(~(0xffffU >> same)));
    *key = htons(range->first) & *mask;
}

// What the match compares, and what follows from that.
static Match with_what_follows(const Match &match) {
    Match m = with_implied_state(match);
    imply_ports(&m.key.tp_src, &m.mask.tp_src, &m.src_ports);
    imply_ports(&m.key.tp_dst, &m.mask.tp_dst, &m.dst_ports);
    return m;
}

// One that no packet meets in software blocks none, but its mask keeps its
// place.  (One with a range does: flower looks for no other one of the mask.)
void FilterTable::insert(Filter f, bool order_is_known, Touched *touched) {
    const FilterId id = f.id;
    const uint32_t rank = use_mask(f, order_is_known);
    if (f.in_software || f.match.mask.ranges) {
        overlaps_.insert(id, with_what_follows(f.match), {id.preference, rank},
                         touched);
    }
    touched->insert(id);
    filters_[id] = std::move(f);
}

void FilterTable::fill(std::vector<Filter> filters, Touched *touched) {
    for (Filter &f : filters) {
        if (filters_.contains(f.id)) {
            remove(f.id, touched);
        }
        insert(std::move(f), false, touched);
    }
}

// The new one is there before the old one goes, so a mask of both keeps its
// place.
void FilterTable::put(Filter f, Touched *touched) {
    const auto old = filters_.find(f.id);
    if (old == filters_.end()) {
        insert(std::move(f), true, touched);
        return;
    }
    const Filter replaced = std::move(old->second);
    overlaps_.remove(f.id, touched);
    insert(std::move(f), true, touched);
    unuse_mask(replaced);
}

void FilterTable::remove(const FilterId &id, Touched *touched) {
    const auto it = filters_.find(id);
    if (it == filters_.end()) {
        return;
    }
    overlaps_.remove(id, touched);
    unuse_mask(it->second);
    filters_.erase(it);
    touched->insert(id);
}

void FilterTable::remove_preference(uint32_t chain, uint16_t preference,
                                    Touched *touched) {
    auto it = filters_.lower_bound({preference, 0, 0});
    while (it != filters_.end() && it->first.preference == preference) {
        const FilterId id = it->first;
        ++it;
        if (id.chain == chain) {
            remove(id, touched);
        }
    }
}

const Filter *FilterTable::find(const FilterId &id) const {
    const auto it = filters_.find(id);
    return it == filters_.end() ? nullptr : &it->second;
}

bool FilterTable::may_run(const FilterId &id) const {
    const Filter *f = find(id);
    return f && !f->why_not && overlaps_.is_clear(id);
}

}  // namespace flowerd
