// SPDX-License-Identifier: Apache-2.0
// The JSON of xdp-offload/stats and xdp-offload/top-flows.
#ifndef FLOWXLATE_STATS_JSON_H
#define FLOWXLATE_STATS_JSON_H

#include <string>

#include "report/stats.h"

namespace flowxlate {

// Look-ups that the flow cache was asked for: of packets that have hit, once
// for each flow that they passed, and of those that were passed on although
// they could be parsed.
uint64_t lookups(const PortStats &);

// One JSON object each.
std::string to_json(const Stats &);
std::string to_json(const TopFlows &);

}  // namespace flowxlate

#endif
