// SPDX-License-Identifier: Apache-2.0
#include "report/mask_usage.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "translate/describe.h"

namespace flowxlate {
namespace {

constexpr size_t kShownKinds = 8;
constexpr size_t kShownWays = 8;  // Masks of one field.

// Masks of one class that look at the same fields.
struct Kind {
    size_t n_masks = 0, n_flows = 0;
    std::vector<std::set<std::string>> ways;  // By field.
    std::string example;
};
using Fields = std::vector<std::string>;
using Kinds = std::map<std::pair<xf_class, Fields>, Kind>;

Kinds sort_by_kind(std::span<const UsedMask> masks) {
    Kinds kinds;
    for (auto &m : masks) {
        const auto described = describe_mask(m.cls, m.proto, m.mask);
        Fields names;
        for (auto &[name, bits] : described) {
            names.push_back(name);
        }
        Kind &kind = kinds[{m.cls, names}];
        kind.n_masks++;
        kind.n_flows += m.n_flows;
        kind.ways.resize(names.size());
        for (size_t i = 0; i < described.size(); i++) {
            kind.ways[i].insert(described[i].second);
        }
        kind.example = m.example;
    }
    return kinds;
}

void append_kind(const Fields &names, const Kind &kind, std::string *s) {
    for (size_t i = 0; i < names.size(); i++) {
        const auto &ways = kind.ways[i];
        *s += (i ? "," : "") + names[i];
        if (ways.size() == 1) {
            *s += *ways.begin();
            continue;
        }
        append(s, " in %zu ways (", ways.size());
        size_t n = 0;
        for (auto &way : ways) {
            *s += n++ ? " " : "";
            if (n > kShownWays) {
                *s += "...";
                break;
            }
            *s += way.empty() ? "all" : way;
        }
        *s += ")";
    }
}

}  // namespace

std::string describe_masks(std::span<const UsedMask> masks) {
    const Kinds kinds = sort_by_kind(masks);
    std::vector<const Kinds::value_type *> order;
    for (auto &kind : kinds) {
        order.push_back(&kind);
    }
    std::ranges::stable_sort(order, [](auto *a, auto *b) {
        return a->second.n_masks > b->second.n_masks;
    });
    std::string s;
    size_t left = masks.size();
    for (size_t i = 0; i < std::min(kShownKinds, order.size()); i++) {
        const auto &[of, kind] = *order[i];
        append(&s, "  %zu of %s, %zu flow%s: ", kind.n_masks,
               class_name(of.first), kind.n_flows,
               kind.n_flows == 1 ? "" : "s");
        append_kind(of.second, kind, &s);
        s += "\n    for example " + kind.example + "\n";
        left -= kind.n_masks;
    }
    if (left) {
        append(&s, "  %zu others\n", left);
    }
    return s;
}

}  // namespace flowxlate
