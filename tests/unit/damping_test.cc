// SPDX-License-Identifier: Apache-2.0
// How often we do what others can make us do.
#include "flowxlate/base/damping.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace flowxlate::unit {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

Backoff::Time at(milliseconds t) { return Backoff::Time(seconds(1000) + t); }

TEST(Backoff, WaitsTwiceAsLongEachTime) {
    Backoff backoff(seconds(5), seconds(60));
    std::vector<int64_t> uses;           // In seconds.
    for (int64_t t = 0; t < 300; t++) {  // Somebody who always wants to.
        if (backoff.is_ready(at(seconds(t)))) {
            backoff.use(at(seconds(t)));
            uses.push_back(t);
        }
    }
    EXPECT_EQ(uses, (std::vector<int64_t>{0, 5, 15, 35, 75, 135, 195, 255}));
}

TEST(Backoff, BeginsAnewAfterAPause) {
    Backoff backoff(seconds(5), seconds(60));
    backoff.use(at(seconds(0)));
    backoff.use(at(seconds(5)));
    EXPECT_FALSE(backoff.is_ready(at(milliseconds(14'999))));
    backoff.use(at(seconds(25)));
    EXPECT_FALSE(backoff.is_ready(at(milliseconds(29'999))));
    EXPECT_TRUE(backoff.is_ready(at(seconds(30))));
}

TEST(Backoff, MayKeepOnePace) {
    Backoff backoff(milliseconds(500), milliseconds(500));
    int n = 0;
    for (int t = 0; t < 10'000; t++) {
        if (backoff.is_ready(at(milliseconds(t)))) {
            backoff.use(at(milliseconds(t)));
            n++;
        }
    }
    EXPECT_EQ(n, 20);
}

// One port's state changes a hundred times a second for an hour; another one's
// changes once a minute.
TEST(Request, OnePortDoesNotFloodAndOthersNeedNotWait) {
    Request flapping, calm;
    Backoff pace(seconds(5), seconds(5));
    const std::vector<Request *> all{&flapping, &calm};
    int n_granted = 0;
    int64_t longest_wait = 0;
    int64_t calm_since = -1;
    for (int64_t t = 0; t < 3'600'000; t += 10) {
        flapping.wanted = true;
        if (t % 60'000 == 30'000) {
            calm.wanted = true;
            calm_since = t;
        }
        n_granted += grant(all, &pace, at(milliseconds(t)));
        if (calm_since >= 0 && !calm.wanted) {
            longest_wait = std::max(longest_wait, t - calm_since);
            calm_since = -1;
        }
    }
    EXPECT_LE(longest_wait, 5000);
    // 60 for the calm one; without damping it would be 720.
    EXPECT_LE(n_granted, 60 + 20);
    EXPECT_GE(n_granted, 60);
}

TEST(Request, IsAtOnceIfItIsTheFirst) {
    Request request;
    Backoff pace(seconds(5), seconds(5));
    const std::vector<Request *> all{&request};
    EXPECT_FALSE(grant(all, &pace, at(seconds(0))));
    request.wanted = true;
    EXPECT_TRUE(grant(all, &pace, at(seconds(0))));
    EXPECT_FALSE(grant(all, &pace, at(seconds(12))));
    request.wanted = true;
    EXPECT_TRUE(grant(all, &pace, at(seconds(12))));
}

struct Line {
    int64_t at;  // In seconds.
    std::string text;
    bool operator==(const Line &) const = default;
};
std::ostream &operator<<(std::ostream &s, const Line &line) {
    return s << line.at << " s: " << line.text;
}

std::string count(uint64_t n) {
    return " (" + std::to_string(n) + " changes since the last such line)";
}

TEST(News, AreToldAtOnceIfFew) {
    News news;
    std::vector<Line> lines;
    const std::vector<Line> changes = {
        {0, "down"}, {1, "up"}, {1, "down"}, {2, "up"}, {3, "down"}};
    for (auto &[t, state] : changes) {
        for (int i = 0; i < 3; i++) {  // Nothing new is nothing to tell.
            if (auto line = news.look(state, at(seconds(t)))) {
                lines.push_back({t, *line});
            }
        }
    }
    EXPECT_EQ(lines, changes);
}

TEST(News, AreDampedAndTheLastIsToldInTheEnd) {
    News news;
    std::vector<Line> lines;
    // A hundred changes a second for 70 s, then none.
    for (int t = 0; t < 200'000; t += 10) {
        const int change = std::min(t, 70'000) / 10;
        if (auto line =
                news.look(change % 2 ? "down" : "up", at(milliseconds(t)))) {
            lines.push_back({t / 1000, *line});
        }
    }
    EXPECT_EQ(lines, (std::vector<Line>{{0, "up"},
                                        {0, "down"},
                                        {0, "up"},
                                        {0, "down"},
                                        {0, "up"},
                                        {30, "up" + count(2996)},
                                        {60, "up" + count(3000)},
                                        {90, "up" + count(1000)}}));
}

TEST(News, MayBeManyAgainAfterAPause) {
    News news;
    int n = 0;
    auto change = [&](int64_t t) {
        static int number;
        n += news.look(std::to_string(number++), at(seconds(t))).has_value();
    };
    for (int i = 0; i < 20; i++) {
        change(0);
    }
    EXPECT_EQ(n, News::kBurst);
    for (int i = 0; i < 20; i++) {
        change(3600);
    }
    EXPECT_EQ(n, 2 * News::kBurst);
}

}  // namespace
}  // namespace flowxlate::unit
