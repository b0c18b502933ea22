// SPDX-License-Identifier: Apache-2.0
// When the phases of taking over from an earlier process begin.
#include "flowxlate/engine/handover.h"

#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

namespace flowxlate::unit {
namespace {

using std::chrono::milliseconds;
using Phase = Handover::Phase;

// What happens at a time, in ms, and the phase that begins then.
struct Step {
    int at;
    enum { kTick, kNotReady, kNoRules, kPort, kFlow, kHurry } what;
    std::optional<Phase> begins;
};

struct Row {
    const char *name;
    std::vector<Step> steps;
};

const Row kRows[] = {
    {"One port, at once ready",
     {{0, Step::kPort, {}},
      {249, Step::kTick, {}},
      {250, Step::kTick, Phase::kSampling},
      {251, Step::kTick, {}},
      {5249, Step::kTick, {}},
      {5250, Step::kTick, Phase::kOver},
      {99999, Step::kTick, {}}}},
    {"Each port begins the quiet time again",
     {{0, Step::kPort, {}},
      {200, Step::kPort, {}},
      {400, Step::kPort, {}},
      {649, Step::kTick, {}},
      {650, Step::kTick, Phase::kSampling}}},
    {"Holds for as long as OVS does not handle misses",
     {{0, Step::kPort, {}},
      {3000, Step::kNotReady, {}},
      {600000, Step::kNotReady, {}},
      {600001, Step::kTick, Phase::kSampling}}},
    {"A port that comes while others are sampled",
     {{0, Step::kPort, {}},
      {2000, Step::kTick, Phase::kSampling},
      {6900, Step::kPort, {}},
      {7000, Step::kTick, Phase::kOver}}},
    {"Samples for as long as new flows come",
     {{0, Step::kPort, {}},
      {1000, Step::kTick, Phase::kSampling},
      {5000, Step::kFlow, {}},
      {6000, Step::kTick, {}},
      {9000, Step::kFlow, {}},
      {13999, Step::kTick, {}},
      {14000, Step::kTick, Phase::kOver}}},
    {"But not for ever",
     {{0, Step::kPort, {}},
      {1000, Step::kTick, Phase::kSampling},
      {60000, Step::kFlow, {}},
      {60999, Step::kTick, {}},
      {61000, Step::kTick, Phase::kOver}}},
    {"A port is removed while holding: OVS must handle misses first",
     {{0, Step::kPort, {}},
      {10, Step::kHurry, {}},
      {5000, Step::kNotReady, {}},
      {5001, Step::kTick, Phase::kOver},
      {5002, Step::kTick, {}}}},
    {"A port is removed while sampling",
     {{0, Step::kPort, {}},
      {1000, Step::kTick, Phase::kSampling},
      {1001, Step::kHurry, {}},
      {1002, Step::kNotReady, Phase::kOver}}},
    {"Samples for as long as OVS has no rules, and some seconds more",
     {{0, Step::kPort, {}},
      {1000, Step::kNoRules, Phase::kSampling},
      {6000, Step::kNoRules, {}},
      {11000, Step::kNoRules, {}},
      {15999, Step::kTick, {}},
      {16000, Step::kTick, Phase::kOver}}},
    {"Rules that are there only for a moment",
     {{0, Step::kPort, {}},
      {1000, Step::kTick, Phase::kSampling},
      {5000, Step::kNoRules, {}},
      {6000, Step::kTick, {}},
      {10000, Step::kTick, Phase::kOver}}},
    {"But rules are not waited for for ever",
     {{0, Step::kPort, {}},
      {1000, Step::kNoRules, Phase::kSampling},
      {60999, Step::kNoRules, {}},
      {61000, Step::kNoRules, Phase::kOver}}},
    {"A port is removed while rules are missing",
     {{0, Step::kPort, {}},
      {1000, Step::kNoRules, Phase::kSampling},
      {2000, Step::kHurry, {}},
      {2001, Step::kNoRules, Phase::kOver}}},
    {"Late ticks",
     {{0, Step::kPort, {}},
      {60000, Step::kTick, Phase::kSampling},
      {120000, Step::kTick, Phase::kOver}}},
};

TEST(Handover, Phases) {
    for (const Row &row : kRows) {
        SCOPED_TRACE(row.name);
        Handover handover;
        for (const Step &step : row.steps) {
            const Handover::Time now{milliseconds(step.at)};
            SCOPED_TRACE(step.at);
            if (step.what == Step::kPort) {
                handover.port_added(now);
            } else if (step.what == Step::kFlow) {
                handover.flow_changed(now);
            } else if (step.what == Step::kHurry) {
                handover.hurry();
            } else {
                const Handover::Host host = {
                    .handles_misses = step.what != Step::kNotReady,
                    .has_rules = step.what != Step::kNoRules};
                EXPECT_EQ(handover.tick(now, host), step.begins);
            }
            if (step.begins) {
                EXPECT_EQ(handover.phase(), *step.begins);
            }
        }
    }
}

TEST(Handover, SamplingTimeIsConfigured) {
    Handover handover;
    handover.set_sampling(milliseconds(0));
    handover.port_added({});
    const Handover::Time quiet = Handover::Time{} + Handover::kQuiet;
    // Without any time, rules are not waited for either.
    const Handover::Host host = {.handles_misses = true, .has_rules = false};
    EXPECT_EQ(handover.tick(quiet, host), Phase::kSampling);
    EXPECT_EQ(handover.tick(quiet, host), Phase::kOver);
}

// One that is longer than what is the longest by default is the longest.
TEST(Handover, LongSamplingTime) {
    using std::chrono::seconds;
    Handover handover;
    handover.set_sampling(seconds(600));
    handover.port_added({});
    const Handover::Time quiet = Handover::Time{} + Handover::kQuiet;
    const Handover::Host host = {.handles_misses = true, .has_rules = false};
    EXPECT_EQ(handover.tick(quiet, host), Phase::kSampling);
    EXPECT_EQ(handover.tick(quiet + seconds(599), host), std::nullopt);
    EXPECT_EQ(handover.tick(quiet + seconds(600), host), Phase::kOver);
}

}  // namespace
}  // namespace flowxlate::unit
