// SPDX-License-Identifier: Apache-2.0
// Which masks go when they are scarce: a story of looks per test.
#include "flowxlate/engine/eviction.h"

#include <gtest/gtest.h>

#include <vector>

namespace flowxlate::unit {
namespace {

// What a look sees of one flow.
struct Seen {
    uint32_t mask;
    uint64_t used;
    bool may_go = true;
};

struct Step {
    std::vector<uint32_t> put;  // Before the look, flows under these masks.
    std::vector<Seen> seen;
    size_t wanted;
    std::vector<uint32_t> evicted;
};

struct Story {
    const char *name;
    std::vector<Step> steps;
};

void PrintTo(const Story &s, std::ostream *os) { *os << s.name; }

const Story kStories[] = {
    {"AMaskThatIsNewIsGivenOneTick",
     {{{1}, {{1, 0}}, 1, {}}, {{}, {{1, 0}}, 1, {1}}}},
    {"AMaskThatIsUsedStays",
     {{{1}, {{1, 0}}, 1, {}},
      {{}, {{1, 10}}, 1, {}},
      {{}, {{1, 11}}, 1, {}},
      {{}, {{1, 11}}, 1, {1}}}},
    {"OneFlowThatIsUsedKeepsTheMask",
     {{{1, 1}, {{1, 5}, {1, 6}}, 1, {}},
      {{}, {{1, 5}, {1, 7}}, 1, {}},
      {{}, {{1, 7}, {1, 5}}, 1, {1}}}},
    {"AnotherFlowIsUse",
     {{{1}, {{1, 5}}, 1, {}},
      {{1}, {{1, 5}, {1, 0}}, 1, {}},
      {{}, {{1, 5}, {1, 0}}, 1, {1}}}},
    {"AFlowThatGoesIsNoUse",
     {{{1, 1}, {{1, 5}, {1, 9}}, 1, {}}, {{}, {{1, 5}}, 1, {1}}}},
    {"LongestIdleFirst",
     {{{1, 2, 3}, {{1, 0}, {2, 0}, {3, 0}}, 0, {}},
      {{}, {{1, 20}, {2, 0}, {3, 10}}, 0, {}},
      {{}, {{1, 30}, {2, 0}, {3, 10}}, 0, {}},
      {{}, {{1, 30}, {2, 0}, {3, 10}}, 2, {2, 3}},
      {{}, {{1, 30}}, 2, {1}}}},
    {"OfThoseEquallyLongTheOneUsedFirst",
     {{{1, 2, 3}, {{1, 7}, {2, 5}, {3, 6}}, 0, {}},
      {{}, {{1, 7}, {2, 5}, {3, 6}}, 2, {2, 3}}}},
    {"NoMoreThanWanted",
     {{{1, 2}, {{1, 4}, {2, 3}}, 0, {}},
      {{}, {{1, 4}, {2, 3}}, 0, {}},
      {{}, {{1, 4}, {2, 3}}, 1, {2}}}},
    {"NotIfAFlowIsNowhereElse",
     {{{1, 2}, {{1, 0}, {1, 0, false}, {2, 0}}, 2, {}},
      {{}, {{1, 0}, {1, 0, false}, {2, 0}}, 2, {2}},
      {{}, {{1, 0}, {1, 0}}, 2, {1}}}},
    {"ASlotThatIsAnothersIsNew",
     {{{1}, {{1, 50}}, 1, {}},
      {{}, {{1, 50}}, 1, {1}},
      {{1}, {{1, 0}}, 1, {}},
      {{}, {{1, 0}}, 1, {1}}}},
    {"WhatWasPutDuringALookAfterItsFlowsWereSeen",
     {{{1}, {}, 1, {}}, {{}, {{1, 0}}, 1, {}}, {{}, {{1, 0}}, 1, {1}}}},
    {"AnIncompleteLookMakesNothingIdle",
     {{{1, 1}, {{1, 5}, {1, 9}}, 0, {}},
      {{}, {{1, 5}}, 0, {}},
      {{}, {{1, 5}, {1, 9}}, 1, {}},
      {{}, {{1, 5}, {1, 9}}, 1, {1}}}},
    {"TheLastSlot",
     {{{XF_MAX_MASKS}, {{XF_MAX_MASKS, 0}}, 1, {}},
      {{}, {{XF_MAX_MASKS, 0}}, 1, {XF_MAX_MASKS}}}},
};

class Eviction : public testing::TestWithParam<Story> {};

TEST_P(Eviction, Story) {
    IdleMasks masks;
    size_t n = 0;
    for (const Step &step : GetParam().steps) {
        n++;
        for (const uint32_t mask : step.put) {
            masks.put(SubtableSlot{mask});
        }
        masks.begin_look();
        for (const Seen &s : step.seen) {
            masks.see(SubtableSlot{s.mask}, s.used, s.may_go);
        }
        MaskSet expected;
        for (const uint32_t mask : step.evicted) {
            expected.set(mask);
        }
        EXPECT_EQ(masks.end_look(step.wanted), expected) << "look " << n;
    }
}

INSTANTIATE_TEST_SUITE_P(Table, Eviction, testing::ValuesIn(kStories),
                         [](const auto &info) {
                             return std::string(info.param.name);
                         });

// A tick of the attack: all free slots are filled with masks that are used by
// one packet, and the established ones go on.
TEST(EvictionUnderAttack, EstablishedMasksStay) {
    constexpr uint32_t kEstablished = 20;
    IdleMasks masks;
    MaskSet in_use;
    size_t n_evicted = 0;

    for (uint64_t tick = 1; tick <= 100; tick++) {
        for (uint32_t i = 1; i <= XF_MAX_MASKS; i++) {
            if (!in_use[i]) {
                in_use.set(i);
                masks.put(SubtableSlot{i});
            }
        }
        masks.begin_look();
        for (uint32_t i = 1; i <= XF_MAX_MASKS; i++) {
            masks.see(SubtableSlot{i}, i <= kEstablished ? tick : 0, true);
        }
        const MaskSet gone = masks.end_look(IdleMasks::kKeptFree);
        for (uint32_t i = 1; i <= kEstablished; i++) {
            EXPECT_FALSE(gone[i]) << "tick " << tick;
        }
        EXPECT_EQ(gone.count(), tick == 1 ? 0 : IdleMasks::kKeptFree);
        n_evicted += gone.count();
        in_use &= ~gone;
    }
    EXPECT_EQ(n_evicted, 99 * IdleMasks::kKeptFree);
}

}  // namespace
}  // namespace flowxlate::unit
