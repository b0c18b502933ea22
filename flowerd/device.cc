// SPDX-License-Identifier: Apache-2.0
#include "flowerd/device.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <set>
#include <utility>

#include "bpf/abi/hash.h"

namespace flowerd {
namespace {

// A packet that goes from chain to chain has entered once.
Stats entered(const std::pair<const FilterId, Stats> &s) {
    return s.first.chain == 0 ? s.second : Stats{};
}

}  // namespace

// The first word is spread as a hash is, and gives chain and handle back to
// who knows the second.
Ufid Device::ufid_of(const FilterId &id) const {
    const auto device = static_cast<uint32_t>(index(ifindex_));
    const uint64_t where = uint64_t{id.preference} << 32 | device;
    const uint64_t place = uint64_t{id.chain} << 32 | id.handle;
    const uint64_t words[] = {xf_hash_finish(where * XF_GOLDEN_RATIO ^ place),
                              where};
    Ufid ufid;
    static_assert(sizeof words == sizeof ufid.bytes);
    std::memcpy(ufid.bytes.data(), words, sizeof words);
    return ufid;
}

std::optional<FilterId> Device::filter_of(const Ufid &ufid) const {
    uint64_t where;
    std::memcpy(&where, ufid.bytes.data() + sizeof where, sizeof where);
    if (static_cast<uint32_t>(where)
        != static_cast<uint32_t>(index(ifindex_))) {
        return {};
    }
    const auto preference = static_cast<uint16_t>(where >> 32);
    for (auto flow = flows_.lower_bound({preference, 0, 0});
         flow != flows_.end() && flow->first.preference == preference;
         flow++) {
        if (flow->second.ufid == ufid) {
            return flow->first;
        }
    }
    return {};
}

bool Device::is_wanted(const FilterId &id, Rule *rule, Reject *why) const {
    const Filter *f = table_.find(id);
    if (!f) {
        return false;
    }
    *why = refused_ ? refused_ : translate(*f, surroundings_, rule);
    return !*why && table_.may_run(id);
}

void Device::set_in_xdp(Flow *flow, bool in_xdp) {
    n_in_xdp_ += in_xdp;
    n_in_xdp_ -= flow->in_xdp;
    flow->in_xdp = in_xdp;
}

void Device::put_flow(const FilterId &id, Rule rule) {
    Flow &flow = flows_[id];
    flow.ufid = ufid_of(id);
    flow.rule = std::move(rule);
    flow.error = xdp_.put(flow.ufid, flow.rule);
    set_in_xdp(&flow, !flow.error);
}

void Device::drop_flow(const FilterId &id) {
    const auto flow = flows_.find(id);
    if (flow == flows_.end()) {
        return;
    }
    xdp_.del(flow->second.ufid, &stats_[id]);
    set_in_xdp(&flow->second, false);
    flows_.erase(flow);
}

// Returns what is to be there and is not, or is otherwise.
Device::ToPut Device::drop_wrong(const FilterTable::Touched &touched) {
    ToPut to_put;
    for (const FilterId &id : touched) {
        Rule rule;
        Reject why;
        const bool wanted = is_wanted(id, &rule, &why);
        const auto old = flows_.find(id);
        const bool same_match = wanted && old != flows_.end()
                             && old->second.rule.key == rule.key
                             && old->second.rule.mask == rule.mask;
        if (!same_match) {
            drop_flow(id);
        }
        if (wanted && !(same_match && old->second.rule == rule)) {
            to_put.emplace_back(id, std::move(rule));
        }
    }
    return to_put;
}

void Device::forget_gone(const FilterTable::Touched &touched) {
    for (const FilterId &id : touched) {
        if (const auto s = stats_.find(id);
            s != stats_.end() && !table_.find(id)) {
            past_ += entered(*s);
            stats_.erase(s);
        }
    }
}

// First the flows that are wrong now, then the others.
void Device::apply(const FilterTable::Touched &touched) {
    ToPut to_put = drop_wrong(touched);
    if (!is_settled()) {
        unsettled_.insert(touched.begin(), touched.end());
        to_put.clear();
    }
    for (auto &[id, rule] : to_put) {
        put_flow(id, std::move(rule));
    }
    forget_gone(touched);
}

void Device::settle() { apply(std::exchange(unsettled_, {})); }

void Device::fill(std::vector<Filter> filters, const Reject &refused) {
    FilterTable::Touched touched;
    for (const auto &[id, f] : table_.all()) {
        touched.insert(id);
    }
    unsettled_.clear();
    refused_ = refused;
    table_ = {};
    table_.fill(std::move(filters), &touched);
    apply(touched);
}

bool Device::has(const std::vector<Filter> &filters) const {
    return filters.size() == table_.all().size()
        && std::ranges::all_of(filters, [&](const Filter &f) {
               const Filter *known = table_.find(f.id);
               return known && *known == f;
           });
}

void Device::put(Filter f) {
    FilterTable::Touched touched;
    table_.put(std::move(f), &touched);
    apply(touched);
}

void Device::remove(const FilterId &id) {
    FilterTable::Touched touched;
    table_.remove(id, &touched);
    apply(touched);
}

void Device::remove_preference(uint32_t chain, uint16_t preference) {
    FilterTable::Touched touched;
    table_.remove_preference(chain, preference, &touched);
    unsettled_.insert(touched.begin(), touched.end());
    apply(touched);
}

void Device::follow(Surroundings surroundings) {
    surroundings_ = std::move(surroundings);
    FilterTable::Touched all;
    for (const auto &[id, f] : table_.all()) {
        all.insert(id);
    }
    apply(all);
}

void Device::put_missing(bool try_all) {
    for (auto &[id, flow] : flows_) {
        if (!flow.in_xdp && (try_all || xdp_.wants(flow.ufid))) {
            flow.error = xdp_.put(flow.ufid, flow.rule);
            set_in_xdp(&flow, !flow.error);
        }
    }
}

void Device::take_stats() {
    for (auto &[id, flow] : flows_) {
        const bool in_xdp = xdp_.take(flow.ufid, &stats_[id]);
        set_in_xdp(&flow, in_xdp);
    }
}

Verdict Device::verdict_of(const FilterId &id) {
    Verdict v;
    Rule rule;
    Reject why;
    const bool wanted = is_wanted(id, &rule, &why);
    const auto flow = flows_.find(id);
    v.in_xdp = flow != flows_.end() && flow->second.in_xdp;
    if (v.in_xdp) {
        return v;
    }
    if (why) {
        v.why_not = why.name();
    } else if (!wanted) {
        const auto blocker = table_.blocker_of(id);
        v.why_not = "order/overlap";
        v.why_not += blocker ? ": " + to_string(*blocker) + " comes first"
                             : std::string();
    } else {
        v.why_not = flow != flows_.end() && flow->second.error
                      ? std::string("xdp/refused: ")
                            + std::strerror(flow->second.error)
                      : "xdp/waiting";
    }
    return v;
}

Stats Device::stats_of(const FilterId &id) const {
    const auto s = stats_.find(id);
    return s == stats_.end() ? Stats{} : s->second;
}

Stats Device::total() const {
    Stats sum = past_;
    for (const auto &s : stats_) {
        sum += entered(s);
    }
    return sum;
}

}  // namespace flowerd
