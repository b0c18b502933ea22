// SPDX-License-Identifier: Apache-2.0
// A device: its filters, and which of them are in XDP.
//
// What is in XDP follows from the filters alone: those that may run by their
// order (overlap.h), can be translated (rules.h) and are taken by the library.
// After each change, flows that are wrong now are removed before others are
// put.  Meanwhile their packets go to TC, which has the new filters already;
// so each packet is treated as the old filters say, or the new ones.
//
// What a filter's flow has counted stays with the filter when the flow loses
// its place, and goes to 'past' when the filter goes.  Totals are of the
// filters of chain 0, where packets begin.
//
// For one thread.
#ifndef FLOWERD_DEVICE_H
#define FLOWERD_DEVICE_H

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "flowerd/overlap.h"
#include "flowerd/rules.h"
#include "flowerd/xdp.h"

namespace flowerd {

// What becomes of a filter.
struct Verdict {
    bool in_xdp = false;
    std::string why_not;  // "order/overlap: pref 1 handle 0x1 comes first".
};

class Device {
public:
    Device(std::string name, Ifindex ifindex, flowerd::Flows *xdp)
        : name_(std::move(name)), ifindex_(ifindex), xdp_(*xdp) {}

    const std::string &name() const { return name_; }
    Ifindex ifindex() const { return ifindex_; }

    // The filters are these.  'refused': why none of them may be in XDP, if so
    // ("block/shared").
    void fill(std::vector<Filter>, const Reject &refused);
    // Are these what there is?
    bool has(const std::vector<Filter> &) const;
    // One has changed.
    void put(Filter);
    void remove(const FilterId &);
    // All of a preference go.  TC tells of each preference that goes at once
    // with others, while it has all of them: so none that has become clear is
    // put before settle() says that TC has them no more.
    void remove_preference(uint32_t chain, uint16_t preference);
    bool is_settled() const { return unsettled_.empty(); }
    void settle();

    // No packet may be sent there from XDP, or again: TC has filters at its
    // egress.
    bool has_egress_filters() const { return has_egress_filters_; }
    void set_egress_filters(bool has) { has_egress_filters_ = has; }

    // What filters are translated by has changed.
    void follow(Surroundings);
    // Puts what should be in XDP and is not, if it is wanted there now;
    // 'try_all': without asking.
    void put_missing(bool try_all);
    // Adds up what flows have counted since the last time.
    void take_stats();

    Verdict verdict_of(const FilterId &);
    // The filter of which a flow has that name, and the name of a filter's
    // first flow, or of another one.
    std::optional<FilterId> filter_of(const Ufid &) const;
    Ufid ufid_of(const FilterId &, size_t part = 0) const;
    Stats stats_of(const FilterId &) const;
    Stats total() const;
    size_t n_in_xdp() const;
    const FilterTable &filters() const { return table_; }

private:
    struct Flow {
        Ufid ufid;
        Rule rule;
        bool in_xdp = false;  // Else the library has refused it, or let go.
        int error = 0;        // That it has refused it with.
    };
    // Of one filter, which is in XDP if all of them are.
    using Flows = std::vector<Flow>;
    using Rules = std::vector<Rule>;

    bool is_wanted(const FilterId &, Rules *, Reject *why) const;
    using ToPut = std::vector<std::pair<FilterId, Rules>>;
    void apply(const FilterTable::Touched &);
    ToPut drop_wrong(const FilterTable::Touched &);
    void forget_gone(const FilterTable::Touched &);
    static bool is_in_xdp(const Flows &);
    static std::string why_missing(const Flows &);
    void put_flows(const FilterId &, Rules);
    void put_flow(Flow *);
    void drop_flows(const FilterId &);

    const std::string name_;
    const Ifindex ifindex_;
    flowerd::Flows &xdp_;
    Surroundings surroundings_;
    FilterTable table_;
    FilterTable::Touched unsettled_;
    Reject refused_;
    bool has_egress_filters_ = false;
    std::map<FilterId, Flows> flows_;
    std::map<FilterId, Stats> stats_;
    Stats past_;
};

}  // namespace flowerd

#endif
