// SPDX-License-Identifier: Apache-2.0
// TC's walk over a device's filters, the slow and obvious way: preferences in
// their order (those of the packet's chain), in each one flower's masks in the
// order in which they were first used, and in each mask the filter with the
// packet's masked key.
//
// It says what is true.  What xdp-flowerd makes of it is compared with this.
#ifndef TESTS_UNIT_FLOWER_WALK_H
#define TESTS_UNIT_FLOWER_WALK_H

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <random>
#include <utility>
#include <vector>

#include "flowerd/overlap.h"

namespace flowerd::unit {

class FlowerWalk {
public:
    // False: the kernel would refuse it, as there is one with that mask and
    // key, or the mask of the filter that it replaces is another one, or the
    // preference has another protocol.
    bool put(const Filter &f) {
        Preference &p = preferences_[place_of(f.id)];
        const auto old = filters_.find(f.id);
        const bool fits = p.filters.empty()
                       || (same_protocol(p, f)
                           && (old == filters_.end()
                               || old->second.match.mask == f.match.mask));
        const bool is_taken =
            std::ranges::any_of(p.filters, [&](const FilterId &id) {
                const Filter &other = filters_[id];
                return id != f.id && other.match == f.match;
            });
        if (!fits || is_taken) {
            return false;
        }
        remove_id(f.id, &p, false);
        if (std::ranges::find(p.masks, f.match.mask) == p.masks.end()) {
            p.masks.push_back(f.match.mask);
        }
        p.filters.push_back(f.id);
        filters_[f.id] = f;
        return true;
    }

    void remove(const FilterId &id) {
        const auto p = preferences_.find(place_of(id));
        if (p != preferences_.end()) {
            remove_id(id, &p->second, true);
            if (p->second.filters.empty()) {
                preferences_.erase(p);
            }
        }
    }

    // What may decide about the packet: the first filter that matches, which
    // an opaque one of its protocol does.
    const Filter *first(const Fields &packet) const {
        for (const auto &[place, p] : preferences_) {
            for (const Fields &mask : p.masks) {
                if (const Filter *f = find(p, mask, packet)) {
                    return f;
                }
            }
        }
        return nullptr;
    }

    const std::map<FilterId, Filter> &all() const { return filters_; }

private:
    struct Preference {
        std::vector<Fields> masks;
        std::vector<FilterId> filters;
    };

    bool same_protocol(const Preference &p, const Filter &f) const {
        const Match &m = filters_.at(p.filters[0]).match;
        return m.key.protocol == f.match.key.protocol
            && m.mask.protocol == f.match.mask.protocol;
    }

    const Filter *find(const Preference &p, const Fields &mask,
                       const Fields &packet) const {
        for (const FilterId &id : p.filters) {
            const Filter &f = filters_.at(id);
            if (f.match.mask == mask && f.match.matches(packet)) {
                if (f.in_software) {
                    return &f;
                }
                if (mask.ranges) {
                    return nullptr;
                }
            }
        }
        return nullptr;
    }

    void remove_id(const FilterId &id, Preference *p, bool with_mask) {
        const auto f = filters_.find(id);
        if (f == filters_.end()) {
            return;
        }
        const Fields mask = f->second.match.mask;
        filters_.erase(f);
        std::erase(p->filters, id);
        const bool is_used =
            std::ranges::any_of(p->filters, [&](const FilterId &other) {
                return filters_.at(other).match.mask == mask;
            });
        if (with_mask && !is_used) {
            std::erase(p->masks, mask);
        }
    }

    using Place = std::pair<uint32_t, uint16_t>;  // Chain and preference.
    static Place place_of(const FilterId &id) {
        return {id.chain, id.preference};
    }
    std::map<Place, Preference> preferences_;
    std::map<FilterId, Filter> filters_;
};

// Filters and packets that overlap often: few values, of few fields.  With few
// handles most filters have a mask of their own; with many, few masks have
// many filters each.
class FlowerDraw {
public:
    FlowerDraw(uint64_t seed, uint32_t n_handles, bool few_masks)
        : random_(seed), n_handles_(n_handles), few_masks_(few_masks) {}

    uint32_t below(uint32_t n) {
        return std::uniform_int_distribution<uint32_t>(0, n - 1)(random_);
    }
    bool one_in(uint32_t n) { return below(n) == 0; }

    FilterId id() {
        return {static_cast<uint16_t>(1 + below(4)), 1 + below(n_handles_)};
    }

    Filter filter() {
        Filter f;
        f.id = id();
        f.kind = "flower";
        f.has_options = true;
        f.in_software = !one_in(12);
        f.match = match();
        if (one_in(few_masks_ ? 400 : 10)) {
            make_opaque(&f);
        } else if (!f.in_software) {
            f.why_not = {"flags", "skip_sw", EOPNOTSUPP};
        } else if (one_in(6)) {
            f.why_not = {"action", "ct", EOPNOTSUPP};
        }
        f.actions.resize(1);
        return f;
    }

    // One that the filter, if there is one, matches.
    Fields packet(const Filter *f) {
        Fields p = values();
        if (f) {
            const uint16_t state = state_for(f->match);
            for (size_t i = 0; i < kFieldWords; i++) {
                p.word[i] = (p.word[i] & ~f->match.mask.word[i])
                          | f->match.key.word[i];
            }
            p.ct_state = state;
            if (f->match.mask.ranges) {
                p.tp_dst = htons(f->match.dst_ports.first + below(2));
            }
        }
        return p;
    }

    // Of no connection, or as TCA_FLOWER_KEY_CT_FLAGS_* have them.
    static constexpr std::array<uint16_t, 7> kStates = {0,    0x18, 0x09, 0x0a,
                                                        0x2a, 0x0c, 0x2c};

private:
    // Such that each bit says more: -trk, +trk, +new, +est, +est+rpl, +inv.
    static constexpr std::pair<uint16_t, uint16_t> kStateMatches[] = {
        {0, 8}, {8, 8}, {9, 9}, {0xa, 0xa}, {0x2a, 0x2a}, {0x18, 0x18}};

    Fields values() {
        static constexpr __be16 kTypes[] = {0x0008, 0xdd86};  // IPv4, IPv6.
        Fields v;
        v.protocol = v.eth_type = kTypes[below(2)];
        v.ip_proto = one_in(2) ? 6 : 17;
        v.src[0] = below(256);
        v.dst[0] = below(256);
        v.tp_dst = htons(below(4));
        v.ct_state = kStates[below(kStates.size())];
        return v;
    }

    // One that connections have and the match lets pass.
    uint16_t state_for(const Match &m) {
        const size_t begin = below(kStates.size());
        for (size_t i = 0; i < kStates.size(); i++) {
            const uint16_t s = kStates[(begin + i) % kStates.size()];
            if ((s & m.mask.ct_state) == m.key.ct_state) {
                return s;
            }
        }
        return 0;
    }

    Match match() {
        static constexpr uint8_t kPrefixes[] = {0, 0x80, 0xc0, 0xf0, 0xff};
        Match m;
        m.mask.protocol = one_in(few_masks_ ? 400 : 8) ? 0 : 0xffff;
        m.mask.eth_type = 0xffff;
        m.mask.ip_proto = one_in(2) ? 0xff : 0;
        m.mask.src[0] = few_masks_ ? 0xff : kPrefixes[below(5)];
        m.mask.dst[0] = few_masks_ && !one_in(8) ? 0xff : kPrefixes[below(5)];
        m.mask.tp_dst = m.mask.ip_proto && one_in(2) ? 0xffff : 0;
        m.key = values() & m.mask;
        if (!few_masks_ && m.mask.ip_proto && !m.mask.tp_dst && one_in(2)) {
            m.mask.ranges = kDestinationRange;
            m.dst_ports.first = below(3);
            m.dst_ports.last = m.dst_ports.first + 1 + below(3);
        }
        if (!few_masks_ && one_in(3)) {
            const auto &[state, mask] = kStateMatches[below(6)];
            m.key.ct_state = state;
            m.mask.ct_state = mask;
        }
        return m;
    }

    static void make_opaque(Filter *f) {
        Match any;
        any.key.protocol = f->match.key.protocol;
        any.mask.protocol = f->match.mask.protocol;
        f->match = any;
        f->is_opaque = true;
        f->in_software = true;
        f->why_not = {"key", "ct", EOPNOTSUPP};
    }

    std::mt19937_64 random_;
    const uint32_t n_handles_;
    const bool few_masks_;
};

}  // namespace flowerd::unit

#endif
