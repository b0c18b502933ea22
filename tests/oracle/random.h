// SPDX-License-Identifier: Apache-2.0
// Choices from a seed, the same on every machine.
#ifndef TESTS_ORACLE_RANDOM_H
#define TESTS_ORACLE_RANDOM_H

#include <cstddef>
#include <cstdint>
#include <random>

namespace oracle {

class Random {
public:
    explicit Random(uint64_t seed) : engine_(seed) {}

    uint64_t word() { return engine_(); }
    // 0 to n - 1.
    size_t below(size_t n) { return engine_() % n; }
    size_t between(size_t low, size_t high) {
        return low + below(high - low + 1);
    }
    bool percent(unsigned p) { return below(100) < p; }
    template <typename C>
    auto &pick(C &&from) {
        return from[below(std::size(from))];
    }
    // Values at which things break: 0, all ones, one bit; or any.
    uint64_t edge(unsigned bits) {
        const uint64_t ones = bits == 64 ? ~0ULL : (1ULL << bits) - 1;
        switch (below(4)) {
            case 0:
                return below(2) ? ones : 0;
            case 1:
                return 1ULL << below(bits);
            default:
                return word() & ones;
        }
    }

private:
    std::mt19937_64 engine_;
};

// Of set 'set' of a run, which can be made again alone.
inline uint64_t seed_of_set(uint64_t seed, uint64_t set) {
    return (seed ^ (set + 1) * 0x9e3779b97f4a7c15ULL) * 0xbf58476d1ce4e5b9ULL;
}

}  // namespace oracle

#endif
