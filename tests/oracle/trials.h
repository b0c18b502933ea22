// SPDX-License-Identifier: Apache-2.0
// What the oracles' runs have in common: how long they take and with which
// seed, and random sets one after the other.
#ifndef TESTS_ORACLE_TRIALS_H
#define TESTS_ORACLE_TRIALS_H

#include <chrono>
#include <functional>
#include <string>

#include "random.h"

namespace oracle {

// Of --packets, --seconds, --seed and --first.
struct RunOptions {
    uint64_t packets = 0;
    std::chrono::seconds time{0};  // Instead of packets, unless 0.
    uint64_t seed = std::random_device{}();
    uint64_t first = 0;  // Set.

    // Takes an option; false if it is none of these.  Throws if its value is
    // not a number.
    bool take(const std::string &name, const char *value);
};

// The whole of 'text'; throws if it is none.
uint64_t number(const char *text);

// Takes the command line, in which there must be no other options.
RunOptions parse(RunOptions defaults, int argc, char **argv);

// Runs 'trial' for one set after the other, until the end or until it returns
// what is wrong.  That is printed, with how to run the set again.
bool run_trials(const RunOptions &, unsigned packets_per_set,
                const std::function<uint64_t()> &n_packets,
                const std::function<std::string(Random *)> &trial);

// 100 n / of; 0 of nothing.
double percent(uint64_t n, uint64_t of);

}  // namespace oracle

#endif
