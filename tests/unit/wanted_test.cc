// SPDX-License-Identifier: Apache-2.0
#include "flowxlate/engine/wanted.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

#include "flowxlate/translate/reasons.h"

namespace flowxlate {
namespace {

Ends ends_of(const std::string &name) {
    const auto slash = name.find('/');
    const auto group = name.substr(0, slash), what = name.substr(slash + 1);
    return flowxlate::ends_of({group.c_str(), what.c_str(), EOPNOTSUPP});
}

TEST(Wanted, FlowsComeBackWhenTheReasonEnds) {
    // Ports, not flows, are refused for it.
    const std::set<std::string> of_others = {"table/ports"};
    for (const Reason &r : reasons()) {
        const bool may_end =
            r.name.starts_with("parked/") || r.name.starts_with("table/");
        if (may_end && !of_others.contains(r.name)) {
            EXPECT_NE(ends_of(r.name), Ends::kNever) << r.name;
        }
    }
    const std::pair<const char *, Ends> rows[] = {
        {"input/no_device", Ends::kWithPort},
        {"input/not_an_xdp_port", Ends::kWithPort},
        {"output/not_an_xdp_port", Ends::kWithPort},
        {"input/left_out", Ends::kWithPort},
        {"output/left_out", Ends::kWithPort},
        {"parked/port_removed", Ends::kWithPort},
        {"parked/mask_evicted", Ends::kWithRoom},
        {"table/flows", Ends::kWithRoom},
        {"table/groups", Ends::kPerhaps},
        {"action/userspace", Ends::kNever},
        {"match/tunnel", Ends::kNever},
        // Of the kernel datapath, which puts flows again by itself.
        {"output/cannot_transmit_now", Ends::kNever},
    };
    for (auto [name, ends] : rows) {
        EXPECT_EQ(ends_of(name), ends) << name;
    }
    EXPECT_EQ(flowxlate::ends_of(Reject{}), Ends::kAtOnce);
}

TEST(Wanted, PausesGrowUpToABound) {
    EXPECT_EQ(pause_after(0).count(), 1);
    EXPECT_EQ(pause_after(1).count(), 1);
    EXPECT_EQ(pause_after(2).count(), 2);
    EXPECT_EQ(pause_after(6).count(), 32);
    EXPECT_EQ(pause_after(UINT64_MAX).count(), 32);
}

TEST(Wanted, TurnsAreSoManyASecond) {
    const Turns::Time begin{std::chrono::hours(1)};
    Turns turns;
    for (unsigned i = 0; i < Turns::kPerSecond; i++) {
        EXPECT_TRUE(turns.take(begin));
    }
    EXPECT_FALSE(turns.take(begin));
    EXPECT_FALSE(turns.take(begin + std::chrono::milliseconds(999)));
    EXPECT_TRUE(turns.take(begin + std::chrono::seconds(1)));
}

}  // namespace
}  // namespace flowxlate
