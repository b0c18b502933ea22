// SPDX-License-Identifier: Apache-2.0
// When a port's device is found to lose what it is sent, and tried again.
#include "flowxlate/kernel/arrivals.h"

#include <gtest/gtest.h>

#include <vector>

namespace flowxlate::unit {
namespace {

using std::chrono::milliseconds;
using Time = Arrivals::Time;

Time at(int64_t ms) { return Time(std::chrono::hours(1) + milliseconds(ms)); }

enum Says { kYes, kNo, kYesChanged };  // What the kernel says.

// A look, and what comes of it.  Whatever is suspect is condemned if frames
// were sent at 'sent' or later.
struct Step {
    int64_t at;  // In ms.
    Says says;
    uint64_t refused, taken;  // By the device, so far.
    std::optional<int64_t> sent;
    bool lost;
};

struct Row {
    const char *name;
    std::vector<Step> steps;
};

const Row kRows[] = {
    {"All is taken",
     {{0, kYes, 0, 0, {}, false},
      {1000, kYes, 0, 900, 999, false},
      {2000, kYes, 0, 1900, 1999, false}}},
    {"All is refused from the beginning",
     {{0, kYes, 0, 0, {}, false}, {1000, kYes, 900, 0, 999, true}}},
    {"Counters of an earlier life say nothing",
     {{0, kYes, 7, 9, {}, false}, {1000, kYes, 7, 9, 999, false}}},
    {"Refused since the link came back",
     {{0, kYes, 0, 0, {}, false},
      {1000, kYes, 0, 900, 999, false},
      {1500, kNo, 3, 1400, 1499, false},
      {1600, kYes, 4, 1400, 1499, false},
      {2000, kYes, 404, 1400, 1999, true}}},
    {"Refused in between, not seen: a second look is needed",
     {{0, kYes, 0, 0, {}, false},
      {1000, kYes, 400, 500, 999, false},
      {2000, kYes, 1400, 500, 1999, true}}},
    {"Some are refused: a full queue of the kernel's, OVS's own frames",
     {{0, kYes, 0, 0, {}, false},
      {1000, kYes, 50, 10, 999, false},
      {2000, kYes, 100, 20, 1999, false}}},
    {"Refused, but nothing was redirected",
     {{0, kYes, 0, 0, {}, false},
      {1000, kYes, 50, 0, {}, false},
      {2000, kYes, 50, 0, -100, false},
      {3000, kYes, 90, 0, 2999, true}}},
    {"Redirected before it last took some",
     {{0, kYes, 0, 0, {}, false},
      {1000, kYes, 0, 10, 900, false},
      {2000, kYes, 50, 10, 900, false}}},
    {"Nothing is tried while nothing changes",
     {{0, kYes, 0, 0, {}, false},
      {1000, kYes, 900, 0, 999, true},
      {99000, kYes, 900, 0, 999, true}}},
    {"A change is tried, not too soon, and again later and later",
     {{0, kYes, 0, 0, {}, false},
      {1000, kYes, 900, 0, 999, true},
      {2000, kYesChanged, 900, 0, 999, true},
      {5999, kYes, 900, 0, 999, true},
      {6000, kYes, 900, 0, 999, false},  // Tried.
      {7000, kYes, 1800, 0, 6999, true},
      {16999, kYesChanged, 1800, 0, 6999, true},
      {17000, kYes, 1800, 0, 6999, false},
      {18000, kYes, 1800, 900, 17999, false}}},
    {"The link down and up is a change; down is no time to try",
     {{0, kYes, 0, 0, {}, false},
      {1000, kYes, 900, 0, 999, true},
      {7000, kNo, 900, 0, 999, true},
      {8000, kNo, 900, 0, 999, true},
      {9000, kYes, 900, 0, 999, false},
      {9500, kYes, 900, 400, 9499, false}}},
    {"A change before it was found counts for nothing",
     {{0, kYes, 0, 0, {}, false},
      {500, kYesChanged, 0, 0, {}, false},
      {1000, kYes, 900, 0, 999, true},
      {99000, kYes, 900, 0, 999, true}}},
};

class ArrivalsRow : public testing::TestWithParam<Row> {};

TEST_P(ArrivalsRow, IsAsExpected) {
    Arrivals arrivals;
    for (auto &step : GetParam().steps) {
        arrivals.look({step.refused, step.taken}, step.says != kNo,
                      step.says == kYesChanged, at(step.at));
        const auto since = arrivals.suspect_since();
        if (since && step.sent && at(*step.sent) >= *since) {
            arrivals.condemn(at(step.at));
        }
        EXPECT_EQ(arrivals.are_lost(), step.lost) << "at " << step.at;
    }
}

INSTANTIATE_TEST_SUITE_P(Arrivals, ArrivalsRow, testing::ValuesIn(kRows),
                         [](auto &info) {
                             std::string name = info.param.name;
                             std::erase_if(name, [](unsigned char c) {
                                 return !std::isalnum(c);
                             });
                             return name;
                         });

}  // namespace
}  // namespace flowxlate::unit
