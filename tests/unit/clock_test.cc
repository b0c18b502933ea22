// SPDX-License-Identifier: Apache-2.0
#include "flowxlate/kernel/clock.h"
#include "bpf/abi/counters.h"

#include <gtest/gtest.h>

namespace flowxlate {
namespace {

constexpr uint64_t kMs = 1'000'000;
// As the kernel starts them: 300 s before they wrap around 32 bits.
constexpr uint64_t kBoot = (1ULL << 32) - 300 * 250;

TEST(Clock, LineThroughTwoReadings) {
    const struct {
        const char *what;
        xf_time first, second;
        uint64_t jiffies, ns;
    } rows[] = {
        {"now, 250 Hz",
         {kBoot, 0},
         {kBoot + 100, 400 * kMs},
         kBoot + 100,
         400 * kMs},
        {"between",
         {kBoot, 0},
         {kBoot + 100, 400 * kMs},
         kBoot + 50,
         200 * kMs},
        {"before both",
         {kBoot + 100, 400 * kMs},
         {kBoot + 200, 800 * kMs},
         kBoot + 1,
         4 * kMs},
        {"after both",
         {kBoot, 0},
         {kBoot + 100, 400 * kMs},
         kBoot + 101,
         404 * kMs},
        {"1000 Hz",
         {kBoot, 5},
         {kBoot + 3000, 5 + 3000 * kMs},
         kBoot + 7,
         5 + 7 * kMs},
        {"100 Hz, past 32 bits",
         {kBoot, 0},
         {kBoot + 40000, 400'000 * kMs},
         kBoot + 39999,
         399'990 * kMs},
        {"both readings in one tick", {kBoot, 1}, {kBoot, 2}, kBoot, 2},
        {"one tick later than both", {kBoot, 1}, {kBoot, 2}, kBoot + 1, 2},
    };
    for (auto &row : rows) {
        EXPECT_EQ(monotonic_ns(row.first, row.second, row.jiffies), row.ns)
            << row.what;
    }
}

// After years the arithmetic is as exact as in the first minute.
TEST(Clock, Years) {
    constexpr uint64_t kTicks = 10ULL * 365 * 86400 * 1000;
    const xf_time first{kBoot, 0}, second{kBoot + kTicks, kTicks * kMs};
    for (uint64_t ago : {0, 1, 1000, 10'000'000}) {
        EXPECT_NEAR(static_cast<double>(
                        monotonic_ns(first, second, second.jiffies - ago)),
                    static_cast<double>((kTicks - ago) * kMs), kMs / 1000.);
    }
}

}  // namespace
}  // namespace flowxlate
