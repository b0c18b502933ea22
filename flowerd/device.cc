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

constexpr const char *kWaiting = "xdp/waiting";

// A packet that goes from chain to chain has entered once.
Stats entered(const std::pair<const FilterId, Stats> &s) {
    return s.first.chain == 0 ? s.second : Stats{};
}

}  // namespace

// The first word is spread as a hash is, and gives chain and handle back to
// who knows the second.
Ufid Device::ufid_of(const FilterId &id, size_t part) const {
    const auto device = static_cast<uint32_t>(index(ifindex_));
    const uint64_t where =
        uint64_t{part} << 48 | uint64_t{id.preference} << 32 | device;
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
        if (std::ranges::find(flow->second, ufid, &Flow::ufid)
            != flow->second.end()) {
            return flow->first;
        }
    }
    return {};
}

bool Device::is_wanted(const FilterId &id, Rules *rules, Reject *why) const {
    const Filter *f = table_.find(id);
    if (!f) {
        return false;
    }
    *why = refused_ ? refused_ : translate(*f, surroundings_, rules);
    return !*why && table_.may_run(id);
}

bool Device::is_in_xdp(const Flows &flows) {
    return std::ranges::all_of(flows, &Flow::in_xdp);
}

size_t Device::n_in_xdp() const {
    return std::ranges::count_if(
        flows_, [](const auto &f) { return is_in_xdp(f.second); });
}

// In the place of those that there are, if they match the same.
void Device::put_flows(const FilterId &id, Rules rules) {
    Flows &flows = flows_[id];
    flows.resize(rules.size());
    for (size_t i = 0; i < rules.size(); i++) {
        Flow &flow = flows[i];
        flow.ufid = ufid_of(id, i);
        flow.rule = std::move(rules[i]);
        put_flow(&flow);
    }
}

void Device::put_flow(Flow *flow) {
    flow->error = xdp_.put(flow->ufid, flow->rule);
    flow->in_xdp = !flow->error;
}

void Device::drop_flows(const FilterId &id) {
    const auto flows = flows_.find(id);
    if (flows == flows_.end()) {
        return;
    }
    for (const Flow &flow : flows->second) {
        xdp_.del(flow.ufid, &stats_[id]);
    }
    flows_.erase(flows);
}

// Returns what is to be there and is not, or is otherwise.
Device::ToPut Device::drop_wrong(const FilterTable::Touched &touched) {
    ToPut to_put;
    for (const FilterId &id : touched) {
        Rules rules;
        Reject why;
        const bool wanted = is_wanted(id, &rules, &why);
        const auto old = flows_.find(id);
        const bool is_there = wanted && old != flows_.end();
        auto same_match = [](const Flow &flow, const Rule &rule) {
            return flow.rule.key == rule.key && flow.rule.mask == rule.mask;
        };
        const bool all_match =
            is_there && std::ranges::equal(old->second, rules, same_match);
        const bool is_same =
            all_match
            && std::ranges::equal(old->second, rules, {}, &Flow::rule);
        if (!all_match) {
            drop_flows(id);
        }
        if (wanted && !is_same) {
            to_put.emplace_back(id, std::move(rules));
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
    for (auto &[id, rules] : to_put) {
        put_flows(id, std::move(rules));
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
    for (auto &[id, flows] : flows_) {
        for (Flow &flow : flows) {
            if (!flow.in_xdp && (try_all || xdp_.wants(flow.ufid))) {
                put_flow(&flow);
            }
        }
    }
}

void Device::take_stats() {
    for (auto &[id, flows] : flows_) {
        for (Flow &flow : flows) {
            flow.in_xdp = xdp_.take(flow.ufid, &stats_[id]);
        }
    }
}

Verdict Device::verdict_of(const FilterId &id) {
    Verdict v;
    Rules rules;
    Reject why;
    const bool wanted = is_wanted(id, &rules, &why);
    const auto flows = flows_.find(id);
    v.in_xdp = flows != flows_.end() && is_in_xdp(flows->second);
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
        v.why_not =
            flows == flows_.end() ? kWaiting : why_missing(flows->second);
    }
    return v;
}

// Of one that is wanted.
std::string Device::why_missing(const Flows &flows) {
    const auto refused = std::ranges::find_if(flows, &Flow::error);
    return refused == flows.end()
             ? kWaiting
             : std::string("xdp/refused: ") + std::strerror(refused->error);
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
