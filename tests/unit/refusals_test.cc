// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>

#include "flowxlate/engine/refusals.h"

namespace flowxlate::test {
namespace {

using std::chrono::seconds;

constexpr Reject kFull{"table", "flows", ENOSPC};
constexpr Reject kUserspace{"action", "userspace", EOPNOTSUPP};
constexpr Refusal::Time kStart{seconds(1000)};

Ufid ufid(uint32_t n) {
    Ufid u;
    std::memcpy(u.bytes.data(), &n, sizeof n);
    return u;
}

Refusal refusal(uint32_t n, Refusal::Time when, const Reject &why = kFull) {
    Refusal r;
    r.ufid = ufid(n);
    r.reason = why;
    r.last = when;
    return r;
}

TEST(Refusals, CountsAndKeepsTheLastReason) {
    Refusals all;
    all.add(refusal(1, kStart));
    all.add(refusal(2, kStart));
    all.add(refusal(1, kStart + seconds(1), kUserspace));
    ASSERT_EQ(all.size(), 2U);
    const auto &last = *std::prev(all.end());
    EXPECT_EQ(last.ufid, ufid(1));
    EXPECT_EQ(last.n, 2U);
    EXPECT_EQ(last.reason.name(), "action/userspace");
    EXPECT_EQ(last.seen, kStart + seconds(1));
}

TEST(Refusals, RemovesWhatIsAccepted) {
    Refusals all;
    all.add(refusal(1, kStart));
    all.remove(ufid(2));
    EXPECT_TRUE(all.has(ufid(1)));
    all.remove(ufid(1));
    EXPECT_FALSE(all.has(ufid(1)));
    EXPECT_EQ(all.size(), 0U);
}

TEST(Refusals, ForgetsWhatOvsDoesNotAskFor) {
    Refusals all;
    const auto later = kStart + Refusals::kForgetAfter;
    for (uint32_t n : {1, 2, 3}) {
        all.add(refusal(n, kStart));
    }
    all.see(ufid(2), later);
    all.see(ufid(4), later);  // Not known: nothing happens.
    all.forget_old(later);
    EXPECT_EQ(all.size(), 3U);
    all.forget_old(later + seconds(1));
    EXPECT_EQ(all.size(), 1U);
    EXPECT_TRUE(all.has(ufid(2)));
    EXPECT_EQ(all.n_dropped(), 0U);
    all.forget_old(later + Refusals::kForgetAfter + seconds(1));
    EXPECT_EQ(all.size(), 0U);
}

TEST(Refusals, DropsThoseThatWereNotAskedForLongest) {
    Refusals all;
    for (uint32_t n = 0; n < Refusals::kMax; n++) {
        all.add(refusal(n, kStart));
    }
    EXPECT_EQ(all.n_dropped(), 0U);
    all.see(ufid(0), kStart + seconds(1));
    all.add(refusal(Refusals::kMax, kStart + seconds(1)));
    EXPECT_EQ(all.size(), Refusals::kMax);
    EXPECT_EQ(all.n_dropped(), 1U);
    EXPECT_TRUE(all.has(ufid(0)));
    EXPECT_FALSE(all.has(ufid(1)));
}

}  // namespace
}  // namespace flowxlate::test
