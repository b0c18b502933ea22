// SPDX-License-Identifier: Apache-2.0
// Guards what makes the program fast: that a packet's cost does not grow with
// masks, and less with flows than the rival's, in the same run.
//
// All bounds are ratios of medians of interleaved rounds.  A bound that is
// missed is measured again, because the machine may have been busy.
#include <gtest/gtest.h>
#include <linux/bpf.h>

#include "flowxlate/kernel/shared_program.h"
#include "measure.h"
#include "rivals.h"
#include "rivals_abi.h"
#include "stages.h"

namespace flowxlate::bench {
namespace {

// Bounds of ratios, which hold on any processor because both sides do the same
// kind of work there.  Ours to the yardstick: 1.35 to 1.41 on an AMD EPYC, and
// 1.45 where each instruction takes the same time (tests/vm/run
// --count-instructions), though to a bare redirect it is 2.5 and 7.8.
constexpr double kMaxToShortest = 1.55;  // One mask to the yardstick.
// The others on that EPYC, quiet and beside other programs: 0.96 and 1.02,
// 0.09 and 0.09, and 0.5; memory, which decides the last one, differs most.
constexpr double kMaxMostToOne = 1.1;       // Most masks to one.
constexpr double kMaxToHashWalk = 1 / 6.0;  // 16 masks to the walk of 16.
constexpr double kMaxFlowsToWalk = 0.9;     // Ours to the walk, 65536 flows.

// One that is shared to one of a port's own.
constexpr double kMaxSharedToOwn = 1.1;
constexpr Ifindex kLoopback{1};  // Which a test run's packets enter by.

constexpr int kAttempts = 3;
constexpr int kRounds = 7;
constexpr uint32_t kManySteps = 64;
constexpr int kPairs = 40;
constexpr std::chrono::milliseconds kPairSample(3);
constexpr uint32_t kManyFlows = 65536;

using test::Program;

// A program on one packet.
struct Runs {
    Runs(const char *name, int fd) : timer(fd, hit_packet()) {
        expect_verdict(name, fd, hit_packet(), XDP_REDIRECT);
        repeat = timer.runs_in(kPairSample);
    }
    double ns() const { return timer.ns_per_run(repeat); }
    ProgramTimer timer;
    uint32_t repeat;
};

// What 'a' takes to what 'b' takes: the median of many short samples, side by
// side, in both orders.  What else the machine does is the same for both then,
// and a bound need not be wide for its sake.
double ratio(const char *what, const Runs &a, const Runs &b) {
    std::vector<double> ratios, ns_a, ns_b;
    for (int i = 0; i < kPairs; i++) {
        double first = a.ns();
        const double second = (b.ns() + b.ns()) / 2;
        first = (first + a.ns()) / 2;
        ratios.push_back(first / second);
        ns_a.push_back(first);
        ns_b.push_back(second);
    }
    std::fprintf(stderr, "%-36s %6.3f (%.3f to %.3f), %.1f to %.1f ns\n", what,
                 median(ratios), percentile(ratios, 10),
                 percentile(ratios, 90), median(ns_a), median(ns_b));
    return median(ratios);
}

// Is the ratio within its bound?  One that is not is measured again, because
// the machine may have been busy.
bool is_at_most(double bound, const char *what, const Runs &a, const Runs &b) {
    for (int i = 0; i < kAttempts; i++) {
        if (ratio(what, a, b) <= bound) {
            return true;
        }
    }
    return false;
}

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
    pin_to_cpu(0);  // The flow cache is the CPU's.
    Program one, some, most;
    add_all(&one, specs_of_masks(1));
    add_all(&some, specs_of_masks(16));
    add_all(&most, specs_of_masks(XF_MAX_MASKS));
    HashWalk walk(one.tx_ports_fd(), 1);
    add_all(&walk, specs_of_masks(16));

    const Runs ours("one", one.fd()), ours_16("16", some.fd()),
        ours_most("most", most.fd()), walk_16("walk", walk.fd());
    EXPECT_TRUE(
        is_at_most(kMaxMostToOne, "most masks / one", ours_most, ours));
    EXPECT_TRUE(is_at_most(kMaxToHashWalk, "16 masks / hash walk of 16",
                           ours_16, walk_16));
}

TEST(Cost, IsNearTheShortestProgram) {
    pin_to_cpu(0);
    Program one;
    add_all(&one, specs_of_masks(1));
    const Bare bare(one.tx_ports_fd());
    const Stages stages(one);
    const Runs ours("ours", one.fd()), redirect("bare", bare.fd());
    const Runs shortest("shortest", stages.shortest_fd());  // After ours.

    ratio("ours / bare redirect", ours, redirect);  // To be read, not judged.
    EXPECT_TRUE(is_at_most(kMaxToShortest, "ours / shortest", ours, shortest));
}

// A port that shares its program pays for being found by its device's index,
// and for a tail call.
TEST(Cost, ASharedProgramCostsLittleMore) {
    pin_to_cpu(0);
    Program one;
    add_all(&one, specs_of_masks(1));
    SharedPrograms programs(one.maps());
    std::shared_ptr<SharedProgram> shared;
    PortProgram port;
    ASSERT_FALSE(programs.find({}, -1, &shared));
    ASSERT_FALSE(shared->load_port(kLoopback, &port));

    const Runs own("own", one.fd()), of_port("shared", port.fd());
    const Runs called("called at once", shared->main_fd());
    ratio("shared, without the call / own", called, own);
    EXPECT_TRUE(is_at_most(kMaxSharedToOwn, "shared / own", of_port, own));
}

// Plants faults, and looks whether the bound above is so near that it is
// missed then.  It is by 15 % where ours takes 1.35 times the yardstick or
// more; by 25 % it must be on any processor.
TEST(Cost, ASlowdownIsSeen) {
    pin_to_cpu(0);
    Program one;
    add_all(&one, specs_of_masks(1));
    const Stages stages(one);
    const int fd = stages.detour_fd(one.fd());
    const Runs ours("ours", one.fd());
    const Runs shortest("shortest", stages.shortest_fd());
    const Runs slowed("slowed", fd);
    stages.set_detour(0);
    const double none = ratio("detour, no steps / ours", slowed, ours);
    stages.set_detour(kManySteps);
    const double many = ratio("detour, many steps / ours", slowed, ours);
    const double per_step = (many - none) / kManySteps;
    bool seen = false;
    for (double planted : {1.15, 1.25}) {
        const double guess = (planted - none) / per_step;
        auto steps = static_cast<uint32_t>(std::max(guess, 0.0));
        // The first steps may be cheaper than many.
        stages.set_detour(steps);
        while (ratio("slowed / ours", slowed, ours) < planted
               && steps < kManySteps) {
            stages.set_detour(steps += 4);
        }
        std::fprintf(stderr, "planted: %.0f %%\n", 100 * (planted - 1));
        seen |= ratio("slowed / shortest", slowed, shortest) > kMaxToShortest;
    }
    EXPECT_TRUE(seen);
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
            <= kMaxFlowsToWalk * ns("hash walk, 65536 flows");
    }));
}

}  // namespace
}  // namespace flowxlate::bench
