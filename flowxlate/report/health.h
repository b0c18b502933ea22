// SPDX-License-Identifier: Apache-2.0
// Is all well?  In one line, which begins as the output of a monitoring
// plug-in does, and what is to be mended.
#ifndef FLOWXLATE_HEALTH_H
#define FLOWXLATE_HEALTH_H

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/ports.h"

namespace flowxlate {

// Why nothing is executed.
constexpr const char *kSwitchedOff =
    "the offload is switched off (\"ovs-vsctl set Open_vSwitch . "
    "other_config:hw-offload=true\" switches it on)";

enum class Level { kOk, kWarning, kCritical };

struct Problem {
    Level level = Level::kWarning;
    std::string text;
};

// What is wrong with a port that is served, or left out; the worst of it.
std::optional<Problem> problem_of(const Port &);

struct Health {
    size_t n_ports = 0, n_served = 0;
    size_t n_flows = 0;               // In XDP.
    uint64_t in_xdp = 0, passed = 0;  // Packets since the start.
    std::vector<Problem> problems;
};

// "OK: 4 of 4 ports, 12,345 flows, 99.2 % of packets in XDP since start".
std::string verdict(const Health &);

// "12,345".
std::string grouped(uint64_t);

// "99.2 %", rounded down, or "-" if there is nothing to have a share of.
std::string share(uint64_t part, uint64_t rest);

}  // namespace flowxlate

#endif
