// SPDX-License-Identifier: Apache-2.0
#include "trials.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>

namespace oracle {

bool RunOptions::take(const std::string &name, const char *value) {
    if (name == "--packets") {
        packets = number(value);
        time = {};
    } else if (name == "--seconds") {
        time = std::chrono::seconds(number(value));
    } else if (name == "--seed") {
        seed = number(value);
    } else if (name == "--first") {
        first = number(value);
    } else {
        return false;
    }
    return true;
}

uint64_t number(const char *text) {
    char *end;
    const uint64_t n = std::strtoull(text, &end, 0);
    if (!*text || *end) {
        throw std::runtime_error(std::string(text) + ": not a number");
    }
    return n;
}

RunOptions parse(RunOptions o, int argc, char **argv) {
    for (int i = 1; i < argc; i += 2) {
        const std::string name = argv[i];
        if (i + 1 == argc || !o.take(name, argv[i + 1])) {
            throw std::runtime_error(name + ": unknown, or needs a value");
        }
    }
    return o;
}

bool run_trials(const RunOptions &o, unsigned packets_per_set,
                const std::function<uint64_t()> &n_packets,
                const std::function<std::string(Random *)> &trial) {
    using Clock = std::chrono::steady_clock;
    const auto begin = Clock::now();
    auto is_over = [&] {
        return o.time.count() ? Clock::now() - begin >= o.time
                              : n_packets() >= o.packets;
    };
    std::printf("seed %ju\n", static_cast<uintmax_t>(o.seed));
    for (uint64_t k = o.first; !is_over(); k++) {
        Random random(seed_of_set(o.seed, k));
        const std::string wrong = trial(&random);
        if (!wrong.empty()) {
            std::printf(
                "\nMISMATCH in set %ju: %s\nagain: --seed %ju --first "
                "%ju --packets %u\n",
                static_cast<uintmax_t>(k), wrong.c_str(),
                static_cast<uintmax_t>(o.seed), static_cast<uintmax_t>(k),
                packets_per_set);
            return false;
        }
    }
    return true;
}

double percent(uint64_t n, uint64_t of) {
    return 100.0 * static_cast<double>(n)
         / static_cast<double>(std::max<uint64_t>(of, 1));
}

}  // namespace oracle
