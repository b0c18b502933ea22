// SPDX-License-Identifier: Apache-2.0
// Which filters may run in XDP: stories by hand, and random ones against a
// walk as TC does it.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "tests/unit/flower_walk.h"

namespace flowerd::unit {
namespace {

// Stories
// -------

constexpr __be16 kIpv4 = 0x0008, kIpv6 = 0xdd86;

struct Spec {
    uint16_t preference;
    uint32_t handle;
    uint16_t address, mask;  // Of the destination's first two bytes.
    __be16 protocol = kIpv4;
    bool is_opaque = false;
    bool in_software = true;
    uint8_t ip_proto = 0;  // 0: any.
    uint32_t chain = 0;
    uint16_t state = 0, state_mask = 0;  // Of the connection.
    PortRange ports{};

    Filter filter() const {
        Filter f;
        f.id = {preference, handle, chain};
        f.match.key.chain = chain;
        f.match.mask.chain = UINT32_MAX;
        f.kind = is_opaque ? "u32" : "flower";
        f.has_options = true;
        f.is_opaque = is_opaque;
        f.in_software = in_software;
        f.match.key.protocol = protocol;
        f.match.mask.protocol = protocol ? 0xffff : 0;
        if (is_opaque) {
            f.why_not = {"kind", "not_flower", EOPNOTSUPP};
            return f;
        }
        if (!in_software) {
            f.why_not = {"flags", "skip_sw", EOPNOTSUPP};
        }
        f.match.mask.dst[0] = mask >> 8;
        f.match.mask.dst[1] = mask & 0xff;
        f.match.key.dst[0] = (address & mask) >> 8;
        f.match.key.dst[1] = address & mask & 0xff;
        f.match.key.ip_proto = ip_proto;
        f.match.mask.ip_proto = ip_proto ? 0xff : 0;
        f.match.key.ct_state = state;
        f.match.mask.ct_state = state_mask;
        f.match.dst_ports = ports;
        f.match.mask.ranges = ports == PortRange{} ? 0 : kDestinationRange;
        return f;
    }
};

struct Step {
    enum { kFill, kPut, kRemove } what;
    std::vector<Spec> filters;
    std::vector<FilterId> may_run;  // After it.
};

struct Story {
    const char *name;
    std::vector<Step> steps;
};

constexpr Spec kHost{10, 1, 0x0a01, 0xffff};
constexpr Spec kOtherHost{10, 2, 0x0a02, 0xffff};
constexpr Spec kNet{20, 1, 0x0a00, 0xff00};
constexpr Spec kOtherNet{20, 2, 0x0b00, 0xff00};
constexpr Spec kNetAtTen{10, 3, 0x0a00, 0xff00};
constexpr Spec kU32{5, 1, 0, 0, kIpv4, true};
constexpr Spec kU32OfIpv6{5, 1, 0, 0, kIpv6, true};
constexpr Spec kU32OfAll{5, 1, 0, 0, 0, true};
constexpr Spec kNetInHardware{5, 1, 0x0a00, 0xff00, kIpv4, false, false};
constexpr Spec kUdp{30, 1, 0, 0, kIpv4, false, true, 17};
constexpr Spec kTcp{30, 2, 0, 0, kIpv4, false, true, 6};
constexpr Spec kU32OfChain{5, 1, 0, 0, kIpv4, true, true, 0, 3};
constexpr Spec kHostOfChain{10, 1, 0x0a01, 0xffff, kIpv4, false, true, 0, 3};
constexpr Spec kEveryPacket{99, 1, 0, 0, 0};

// Of connections: what "tc" calls +trk+new and so on.
constexpr uint16_t kTrk = 8, kNew = 1, kEst = 2, kInv = 0x10, kRpl = 0x20;
constexpr Spec of_state(uint32_t handle, uint16_t state, uint16_t mask) {
    return {40, handle, 0, 0, kIpv4, false, true, 0, 0, state, mask, {}};
}
constexpr Spec kPorts10{50, 1, 0, 0, kIpv4, false, true, 6, 0, 0, 0, {10, 20}};
constexpr Spec kPorts21{50, 2, 0, 0, kIpv4, false, true, 6, 0, 0, 0, {21, 30}};
constexpr Spec kPorts20{50, 3, 0, 0, kIpv4, false, true, 6, 0, 0, 0, {20, 25}};
constexpr Spec kPortsInHardware{49,    1, 0, 0, kIpv4, false,
                                false, 6, 0, 0, 0,     {10, 12}};
constexpr Spec kOfNew = of_state(1, kTrk | kNew, kTrk | kNew);
constexpr Spec kOfEst = of_state(2, kTrk | kEst, kTrk | kEst);
constexpr Spec kOfInv = of_state(3, kTrk | kInv, kTrk | kInv);
constexpr Spec kOfReplies =
    of_state(4, kTrk | kEst | kRpl, kTrk | kEst | kRpl);
constexpr Spec kOfNone = of_state(5, 0, kTrk);
constexpr Spec kOfAny = of_state(6, kTrk, kTrk);
constexpr Spec kOfEstNotNew = of_state(7, kTrk | kEst, kTrk | kEst | kNew);

const Story kStories[] = {
    {"apart",
     {{Step::kPut,
       {kHost, kOtherHost, kOtherNet},
       {{10, 1}, {10, 2}, {20, 2}}}}},
    {"the earlier preference wins",
     {{Step::kPut, {kNet, kHost}, {{10, 1}}},
      {Step::kRemove, {kHost}, {{20, 1}}},
      {Step::kPut, {kHost}, {{10, 1}}}}},
    {"the mask that was first used wins",
     {{Step::kPut, {kHost, kNetAtTen}, {{10, 1}}},
      {Step::kRemove, {kHost}, {{10, 3}}},
      {Step::kPut, {kHost}, {{10, 3}}}}},
    {"a mask keeps its place while it has a filter",
     {{Step::kPut, {kHost, kOtherHost, kNetAtTen}, {{10, 1}, {10, 2}}},
      {Step::kRemove, {kHost}, {{10, 2}}},
      {Step::kPut, {kHost}, {{10, 1}, {10, 2}}}}},
    {"the order of masks is not in a dump",
     {{Step::kFill, {kHost, kNetAtTen, kOtherNet}, {{20, 2}}},
      {Step::kRemove, {kHost}, {{10, 3}, {20, 2}}},
      {Step::kPut, {kHost}, {{10, 3}, {20, 2}}}}},
    {"a mask after a dump",
     {{Step::kFill, {kHost}, {{10, 1}}},
      {Step::kPut, {kNetAtTen}, {{10, 1}}}}},
    {"an unknown filter takes its protocol",
     {{Step::kPut, {kHost, kU32}, {}}, {Step::kRemove, {kU32}, {{10, 1}}}}},
    {"and no other one", {{Step::kPut, {kHost, kU32OfIpv6}, {{10, 1}}}}},
    {"or all", {{Step::kPut, {kHost, kU32OfAll}, {}}}},
    {"what is not in software takes nothing",
     {{Step::kPut, {kHost, kNetInHardware}, {{10, 1}}}}},
    {"masks without a common bit overlap",
     {{Step::kPut, {kHost, kUdp}, {{10, 1}}}}},
    {"different values of a common bit do not",
     {{Step::kPut, {kUdp, kTcp}, {{30, 1}, {30, 2}}}}},
    {"of another chain",
     {{Step::kPut, {kHost, kU32OfChain}, {{10, 1}}},
      {Step::kPut, {kHostOfChain}, {{10, 1}}},
      {Step::kRemove, {kU32OfChain}, {{10, 1}, {10, 1, 3}}}}},
    {"a connection is new, established or invalid",
     {{Step::kPut,
       {kOfNew, kOfEst, kOfInv, kOfNone},
       {{40, 1}, {40, 2}, {40, 3}, {40, 5}}}}},
    {"or any of that",
     {{Step::kPut, {kOfAny, kOfEst, kOfNone}, {{40, 5}, {40, 6}}}}},
    {"replies are established",
     {{Step::kPut, {kOfEst, kOfReplies}, {{40, 2}}}}},
    {"ranges that have no port in common",
     {{Step::kPut, {kPorts10, kPorts21}, {{50, 1}, {50, 2}}}}},
    {"ranges in one list, whose order is not known",
     {{Step::kPut, {kPorts10, kPorts20}, {}},
      {Step::kRemove, {kPorts10}, {{50, 3}}}}},
    {"what is not in software ends the search in a list of ranges",
     {{Step::kPut, {kPortsInHardware, kPorts10}, {}}}},
    {"what is said twice is another mask",
     {{Step::kPut, {kOfEst, kOfReplies, kOfEstNotNew}, {{40, 2}}},
      {Step::kRemove, {kOfEst}, {{40, 4}}}}},
    {"the last one gets what is left",
     {{Step::kPut, {kEveryPacket, kHost}, {{10, 1}}},
      {Step::kRemove, {kHost}, {{99, 1}}}}},
};

TEST(FlowerdOverlap, Stories) {
    for (const Story &story : kStories) {
        FilterTable table;
        int n = 0;
        for (const Step &step : story.steps) {
            SCOPED_TRACE(std::string(story.name) + ", step "
                         + std::to_string(n++));
            FilterTable::Touched touched;
            std::vector<Filter> filters;
            for (const Spec &s : step.filters) {
                filters.push_back(s.filter());
            }
            if (step.what == Step::kFill) {
                table.fill(filters, &touched);
            }
            for (const Filter &f : filters) {
                if (step.what == Step::kPut) {
                    table.put(f, &touched);
                } else if (step.what == Step::kRemove) {
                    table.remove(f.id, &touched);
                }
            }
            std::vector<FilterId> may_run;
            for (const auto &[id, f] : table.all()) {
                if (table.may_run(id)) {
                    may_run.push_back(id);
                }
                EXPECT_TRUE(table.may_run(id) || table.blocker_of(id)
                            || f.why_not)
                    << to_string(id);
            }
            EXPECT_EQ(may_run, step.may_run);
        }
    }
}

// Random filters
// --------------

// What is known of the order in which masks were first used: of each
// preference, those that a dump has told of, and then the others.
class KnownOrder {
public:
    void fill(const std::map<FilterId, Filter> &filters) {
        preferences_.clear();
        for (const auto &[id, f] : filters) {
            preferences_[id.preference].dumped.push_back(f.match.mask);
        }
    }
    void put(const Filter &f) {
        auto &[dumped, later] = preferences_[f.id.preference];
        if (!contains(dumped, f.match.mask)
            && !contains(later, f.match.mask)) {
            later.push_back(f.match.mask);
        }
    }
    // Forgets masks that no filter has any more.
    void follow(const std::map<FilterId, Filter> &filters) {
        for (auto &[preference, known] : preferences_) {
            auto is_unused = [&](const Fields &mask) {
                return std::ranges::none_of(filters, [&](const auto &f) {
                    return f.first.preference == preference
                        && f.second.match.mask == mask;
                });
            };
            std::erase_if(known.dumped, is_unused);
            std::erase_if(known.later, is_unused);
        }
    }
    bool may_come_before(const Filter &a, const Filter &b) const {
        if (a.id.preference != b.id.preference) {
            return a.id.preference < b.id.preference;
        }
        return place_of(a) <= place_of(b);
    }

private:
    struct Known {
        std::vector<Fields> dumped, later;
    };
    static bool contains(const std::vector<Fields> &masks,
                         const Fields &mask) {
        return std::ranges::find(masks, mask) != masks.end();
    }
    size_t place_of(const Filter &f) const {
        const auto &[dumped, later] = preferences_.at(f.id.preference);
        return f.is_opaque || contains(dumped, f.match.mask)
                 ? 0
                 : 1
                       + (std::ranges::find(later, f.match.mask)
                          - later.begin());
    }

    std::map<uint16_t, Known> preferences_;
};

class RandomFilters {
public:
    explicit RandomFilters(const FlowerDraw &draw) : draw_(draw) {}

    void change() {
        FilterTable::Touched touched;
        if (draw_.one_in(60)) {
            known_.fill(truth_.all());
            std::vector<Filter> filters;
            for (const auto &[id, f] : truth_.all()) {
                filters.push_back(f);
            }
            table_ = {};
            table_.fill(filters, &touched);
            runs_.clear();
        } else if (draw_.one_in(4)) {
            const FilterId id = draw_.id();
            truth_.remove(id);
            table_.remove(id, &touched);
        } else if (const Filter f = draw_.filter(); truth_.put(f)) {
            known_.put(f);
            table_.put(f, &touched);
        }
        known_.follow(truth_.all());
        for (const FilterId &id : touched) {
            runs_[id] = table_.may_run(id);
        }
    }

    // Whatever was not touched is as it was.
    void expect_all_touched() {
        for (const auto &[id, f] : table_.all()) {
            EXPECT_EQ(runs_[id], table_.may_run(id)) << to_string(id);
        }
    }

    void expect_exact() {
        for (const auto &[id, f] : truth_.all()) {
            const bool is_blocked =
                std::ranges::any_of(truth_.all(), [&, &f = f](const auto &g) {
                    return g.first != f.id && hides(g.second)
                        && known_.may_come_before(g.second, f)
                        && overlap(g.second.match, f.match);
                });
            EXPECT_EQ(table_.may_run(id), !is_blocked && !f.why_not)
                << to_string(id);
        }
    }

    // What runs is what TC would have chosen.
    void expect_as_tc() {
        for (const auto &[id, f] : truth_.all()) {
            const Fields packet = draw_.packet(draw_.one_in(4) ? nullptr : &f);
            for (const auto &[other, g] : truth_.all()) {
                if (table_.may_run(other) && g.match.matches(packet)) {
                    EXPECT_EQ(truth_.first(packet), &truth_.all().at(other))
                        << to_string(other);
                    n_executed_++;
                }
            }
        }
    }

    size_t n_executed() const { return n_executed_; }

private:
    // With a range it does so even where it is not for software.
    static bool hides(const Filter &f) {
        return f.in_software || f.match.mask.ranges;
    }

    // Is there a packet that both match?  Not all states are there.
    static bool overlap(Match a, Match b) {
        const bool has_state =
            std::ranges::any_of(FlowerDraw::kStates, [&](uint16_t s) {
                return (s & a.mask.ct_state) == a.key.ct_state
                    && (s & b.mask.ct_state) == b.key.ct_state;
            });
        a.mask.ct_state = a.key.ct_state = 0;
        for (Match *m : {&a, &b}) {
            if (m->mask.tp_dst == 0xffff) {
                m->dst_ports.first = m->dst_ports.last = ntohs(m->key.tp_dst);
            }
        }
        return has_state && a.overlaps(b);
    }

    FlowerDraw draw_;
    FlowerWalk truth_;
    KnownOrder known_;
    FilterTable table_;
    std::map<FilterId, bool> runs_;
    size_t n_executed_ = 0;
};

TEST(FlowerdOverlap, Random) {
    const char *s = std::getenv("TEST_SEED");
    const uint64_t seed =
        s ? std::strtoull(s, nullptr, 0) : std::random_device()();
    std::cout << "TEST_SEED=" << seed << "\n";
    for (bool few_masks : {false, true}) {
        RandomFilters filters({seed, few_masks ? 60U : 6U, few_masks});
        const int n = few_masks ? 800 : 4000;
        for (int i = 0; i < n && !testing::Test::HasFailure(); i++) {
            SCOPED_TRACE("change " + std::to_string(i)
                         + (few_masks ? ", few masks" : ""));
            filters.change();
            filters.expect_all_touched();
            filters.expect_exact();
            filters.expect_as_tc();
        }
        EXPECT_GT(filters.n_executed(), 1000U);
    }
}

// A table of 10,000 filters with 20 masks, and one at the end that overlaps
// all; how long a change takes.
TEST(FlowerdOverlap, TenThousand) {
    using Clock = std::chrono::steady_clock;
    constexpr uint32_t kFilters = 10'000, kMasks = 20;
    FilterTable table;
    FilterTable::Touched touched;
    auto spec = [](uint32_t i) {
        Filter f = Spec{10, i + 1, 0, 0}.filter();
        const uint32_t mask = i % kMasks;
        f.match.mask.tp_dst = f.match.mask.tp_src = 0xffff;
        f.match.mask.src[mask % 16] = 0xff;
        f.match.mask.ip_ttl = mask / 16 ? 0xff : 0;
        f.match.key.tp_dst = i;
        f.match.key.tp_src = i >> 16;
        return f;
    };
    table.put(kEveryPacket.filter(), &touched);
    const auto start = Clock::now();
    for (uint32_t i = 0; i < kFilters; i++) {
        table.put(spec(i), &touched);
    }
    const auto filled = Clock::now();
    for (uint32_t i = 0; i < 1000; i++) {
        table.remove(spec(i * 7).id, &touched);
        table.put(spec(i * 7), &touched);
    }
    const auto changed = Clock::now();
    table.put(kU32.filter(), &touched);
    table.remove(kU32.filter().id, &touched);
    const auto blocked = Clock::now();
    auto us = [](auto d) {
        return std::chrono::duration<double, std::micro>(d).count();
    };
    std::cout << "us per insert " << us(filled - start) / kFilters
              << ", per change " << us(changed - filled) / 2000
              << ", of one that overlaps all " << us(blocked - changed) / 2
              << "\n";
    EXPECT_EQ(table.n_masks(), kMasks + 1);
    EXPECT_FALSE(table.may_run(kEveryPacket.filter().id));
    EXPECT_TRUE(table.may_run(spec(1).id));
    // Hundreds of times what it takes; what is quadratic takes more.
    EXPECT_LT(us(changed - filled) / 2000, 10'000);
}

}  // namespace
}  // namespace flowerd::unit
