// SPDX-License-Identifier: Apache-2.0
// The flows that OVS has offered and that were refused: why, and how often.
//
// OVS does not say when it deletes a flow that was refused.  But while a flow
// is there, OVS asks for its statistics again and again (each revalidator
// round, at most a second unless it was configured otherwise), so one that it
// has not asked for in kForgetAfter is taken to be gone.
//
// Bounded: of more than kMax flows, those that OVS has asked for least
// recently are dropped, and counted.  The caller serializes calls.
#ifndef FLOWXLATE_REFUSALS_H
#define FLOWXLATE_REFUSALS_H

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <boost/multi_index/hashed_index.hpp>
#include <boost/multi_index/member.hpp>
#include <boost/multi_index/sequenced_index.hpp>
#include <boost/multi_index_container.hpp>

#include "base/netlink_attr.h"
#include "base/types.h"

namespace flowxlate {

// A flow's attributes as OVS has offered them, so that OVS can be asked for
// their text.
struct FlowCopy {
    std::string dpif_type;
    std::vector<std::byte> key, mask, actions;
};

struct Refusal {
    using Time = std::chrono::steady_clock::time_point;

    Ufid ufid;
    Reject reason;
    uint64_t n = 0;  // So often.
    Time last;       // When it was refused last.
    Time seen;       // When OVS has asked for it last, or offered it.
    uint64_t port_events = 0;  // Ports::n_events() when it was offered.
    Ifindex in{};              // Where it enters; 0 = not known.
    FlowCopy flow;
};

// How often flows were refused since the start, by reason.
class RefusalCounts {
public:
    static constexpr auto kLogInterval = std::chrono::minutes(1);
    using Reason = std::pair<std::string, std::string>;  // Group and rest.
    struct Count {
        uint64_t n = 0;
        Ufid last;
        uint64_t n_logged = 0;  // 'n' at the last line in the log.
        Refusal::Time logged;   // When that line was logged.
    };

    // Returns how many refusals for this reason a line in the log should now
    // speak of; 0 = none, as there was a line not long ago.
    uint64_t note(const Reject &, const Ufid &, Refusal::Time now);

    bool has(const Reject &why) const {
        return counts_.contains({why.group, why.what});
    }
    uint64_t total() const;
    auto begin() const { return counts_.begin(); }
    auto end() const { return counts_.end(); }

private:
    std::map<Reason, Count> counts_;
};

class Refusals {
public:
    static constexpr size_t kMax = 65536;
    static constexpr auto kForgetAfter = std::chrono::seconds(30);

    // 'r' with 'last' is news; 'n' and 'seen' are ours to fill in.
    void add(Refusal r);
    // OVS has the flow still.
    void see(const Ufid &, Refusal::Time now);
    void remove(const Ufid &);
    void forget_old(Refusal::Time now);

    size_t size() const { return all_.size(); }
    uint64_t n_dropped() const { return n_dropped_; }
    bool has(const Ufid &u) const { return all_.get<ByUfid>().count(u); }
    const Refusal *find(const Ufid &u) const;    // Null if there is none.
    auto begin() const { return all_.begin(); }  // By 'seen'.
    auto end() const { return all_.end(); }

private:
    struct ByUfid {};
    using All = boost::multi_index_container<
        Refusal,
        boost::multi_index::indexed_by<
            boost::multi_index::sequenced<>,
            boost::multi_index::hashed_unique<
                boost::multi_index::tag<ByUfid>,
                boost::multi_index::member<Refusal, Ufid, &Refusal::ufid>,
                UfidHash>>>;

    All all_;
    uint64_t n_dropped_ = 0;
};

}  // namespace flowxlate

#endif
