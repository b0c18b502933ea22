// SPDX-License-Identifier: Apache-2.0
// Guards what makes the program fast: that a packet's cost does not grow with
// masks, and less with flows than the rival's, in the same run.
//
// All bounds are ratios of medians of interleaved rounds.  A bound that is
// missed is measured again, because the machine may have been busy.
#include <gtest/gtest.h>
#include <linux/bpf.h>

#include "measure.h"
#include "rivals.h"
#include "rivals_abi.h"

namespace flowxlate::bench {
namespace {

// "Excess" is what a program costs beyond one that only redirects.
// Measured: 1.0, 1.9, 11, 0.6.
constexpr double kMaxMasksExcessRatio = 1.25;  // Most masks to one,
constexpr double kMaxMasksExcessNs = 2;        // and this on top.
constexpr double kMaxRatioToBare = 2.5;        // One mask to bare.
constexpr double kMinHashWalkRatio = 6;        // The walk of 16 to ours.
constexpr double kMaxFlowsRatioToWalk = 0.9;   // Ours, 65536 flows.

constexpr int kAttempts = 3;
constexpr int kRounds = 7;
constexpr uint32_t kRepeat = 100'000;
constexpr uint32_t kManyFlows = 65536;

using test::Program;

// Measures, and measures again while 'holds' does not.
template <typename Holds>
bool holds_in_time(const std::vector<Case> &cases, Holds holds) {
    for (int i = 0; i < kAttempts; i++) {
        Results results;
        interleave(cases, kRounds, &results);
        results.print();
        if (holds([&](const char *m) { return results.median_of(m); })) {
            return true;
        }
    }
    return false;
}

template <typename Target>
void add_all(Target *target, const std::vector<FlowSpec> &specs) {
    for (auto &spec : specs) {
        target->add(spec);
    }
}

Case hit_case(const char *name, int fd) {
    const auto in = hit_packet();
    expect_verdict(name, fd, in, XDP_REDIRECT);
    const ProgramTimer timer(fd, in);
    return {name, "ns", [=] { return timer.ns_per_run(kRepeat); }};
}

Case flows_case(const char *name, Vary *vary, int fd) {
    const auto in = varied_packet();
    vary->set_program(fd);
    expect_verdict(name, vary->fd(), in, XDP_REDIRECT);
    const ProgramTimer timer(vary->fd(), in);
    auto sample = [=] {
        vary->set_program(fd);
        timer.ns_per_run(RIVAL_SEQUENCE);  // What was in the caches goes.
        return timer.ns_per_run(RIVAL_SEQUENCE);
    };
    return {name, "ns", sample};
}

TEST(Cost, DoesNotGrowWithMasks) {
    Program one, some, most;
    add_all(&one, specs_of_masks(1));
    add_all(&some, specs_of_masks(16));
    add_all(&most, specs_of_masks(kMostMasks));
    const Bare bare(one.tx_ports_fd());
    HashWalk walk(one.tx_ports_fd(), 1);
    add_all(&walk, specs_of_masks(16));

    const std::vector<Case> cases = {
        hit_case("bare", bare.fd()), hit_case("ours, 1 mask", one.fd()),
        hit_case("ours, 16 masks", some.fd()),
        hit_case("ours, most masks", most.fd()),
        hit_case("hash walk, 16 masks", walk.fd())};
    EXPECT_TRUE(holds_in_time(cases, [](auto ns) {
        const double excess_of_one = ns("ours, 1 mask") - ns("bare");
        const double excess_of_most = ns("ours, most masks") - ns("bare");
        return excess_of_most
                <= kMaxMasksExcessRatio * excess_of_one + kMaxMasksExcessNs
            && ns("ours, 1 mask") <= kMaxRatioToBare * ns("bare")
            && ns("hash walk, 16 masks")
                   >= kMinHashWalkRatio * ns("ours, 16 masks");
    }));
}

// Memory decides here, and what else uses it, so only the rival is a measure.
TEST(Cost, GrowsLessWithFlowsThanTheRivals) {
    Program many;
    HashWalk walk(many.tx_ports_fd(), kManyFlows);
    for (uint32_t i = 0; i < kManyFlows; i++) {
        many.add(flow_spec(i));
        walk.add(flow_spec(i));
    }
    Vary vary(uniform_sequence(kManyFlows));

    const std::vector<Case> cases = {
        flows_case("ours, 65536 flows", &vary, many.fd()),
        flows_case("hash walk, 65536 flows", &vary, walk.fd())};
    EXPECT_TRUE(holds_in_time(cases, [](auto ns) {
        return ns("ours, 65536 flows")
            <= kMaxFlowsRatioToWalk * ns("hash walk, 65536 flows");
    }));
}

}  // namespace
}  // namespace flowxlate::bench
