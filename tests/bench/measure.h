// SPDX-License-Identifier: Apache-2.0
// Measuring: cases that take turns, and the figures they leave.
//
// A Case takes one sample each time it is called.  interleave() calls them in
// rounds, A B C A B C, so that what disturbs the machine for a while disturbs
// all of them.  Results collects samples by metric, in the order in which the
// metrics first came, and writes one line of JSON for each:
//
//   {"metric": "program_ns.bare", "unit": "ns", "samples": [28.1, 28.3]}
//
// or, of what cannot be measured here,
//
//   {"metric": "program_ns.x", "unit": "ns", "unavailable": "no such kfunc"}
#ifndef TESTS_BENCH_MEASURE_H
#define TESTS_BENCH_MEASURE_H

#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "tests/bpf/packet.h"

namespace flowxlate::bench {

using test::Frame;
using Clock = std::chrono::steady_clock;

struct Options {
    bool quick = false;  // Fewer repetitions in a sample.
    int rounds = 7;
    std::string out;  // File for the results; empty = none.
};

// Ends the process with a usage message if the arguments are wrong.
Options parse_options(int argc, char **argv);

// Both need at least one value.
double median(std::vector<double>);
double percentile(std::vector<double>, double percent);

class Results {
public:
    void add(const std::string &metric, const char *unit, double sample);
    // Says why there is no sample of it.
    void add_unavailable(const std::string &metric, const char *unit,
                         const std::string &why);
    double median_of(const std::string &metric) const;
    void write(const std::string &path) const;
    // Medians with their spreads, for people.
    void print() const;

private:
    struct Series {
        std::string metric;
        const char *unit;
        std::vector<double> samples;
        std::string unavailable = {};
    };
    std::vector<Series> series_;
};

struct Case {
    std::string metric;
    const char *unit;
    std::function<double()> sample;
};

void interleave(const std::vector<Case> &, int rounds, Results *);

// What the XDP program 'fd' says of 'in', and a failure that names 'what' if
// that is not 'expected'; of the last one of 'repeat' runs, each on what the
// one before has made of 'in'.
uint32_t run_once(int fd, const Frame &in);
void expect_verdict(const std::string &what, int fd, const Frame &in,
                    uint32_t expected, uint32_t repeat = 1);

// Times the XDP program 'fd' on one packet, in CPU time of this thread: the
// kernel's own figure is rounded to whole nanoseconds.
//
// The kernel patches its XDP dispatcher when the first of several runs of an
// unattached program begins and when the last ends.  That takes as long as
// thousands of packets, so the constructor measures it, to be subtracted.  It
// is the same for all programs, and each try waits for some 20 ms, so it is
// not tried anew for each.
class ProgramTimer {
public:
    ProgramTimer(int fd, Frame in);

    // Nanoseconds per run, of 'repeat' runs (many) in one system call.
    double ns_per_run(uint32_t repeat) const;
    // How many runs take about 'duration'.
    uint32_t runs_in(std::chrono::nanoseconds duration) const;

private:
    static constexpr uint32_t kFewRuns = 2;  // One run patches nothing.
    double cpu_ns(uint32_t repeat) const;

    int fd_;
    Frame in_;
    double overhead_ns_;
};

// The time that a run of 'fn' takes.
template <typename Fn>
double elapsed_us(Fn fn) {
    const auto begin = Clock::now();
    fn();
    return std::chrono::duration<double, std::micro>(Clock::now() - begin)
        .count();
}

template <typename Fn>
double elapsed_ms(Fn fn) {
    return elapsed_us(fn) / 1000;
}

// Runs this thread on one CPU, the 'nth' of those that the process may use.
// False if there are fewer.
bool pin_to_cpu(int nth);

// This process moves to a new, silent network namespace.
void enter_namespace();

// libbpf remarks on libxdp's own sections each time our program is opened; not
// from now on.
void quieten_libbpf();

// Runs a benchmark's main(): options, results, and what goes wrong in words.
int run_main(int argc, char **argv,
             const std::function<void(const Options &, Results *)> &);

}  // namespace flowxlate::bench

#endif
