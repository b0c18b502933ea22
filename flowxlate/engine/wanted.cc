// SPDX-License-Identifier: Apache-2.0
#include "engine/wanted.h"

#include <algorithm>
#include <iterator>
#include <string_view>

namespace flowxlate {
namespace {

constexpr struct {
    std::string_view group, what;
    Ends ends;
} kEnds[] = {
    {"input", "not_an_xdp_port", Ends::kWithPort},
    {"input", "left_out", Ends::kWithPort},
    {"input", "no_device", Ends::kWithPort},
    {"output", "left_out", Ends::kWithPort},
    {"output", "not_an_xdp_port", Ends::kWithPort},
    {"parked", "left_out", Ends::kWithPort},
    {"parked", "port_removed", Ends::kWithPort},
    {"parked", "no_device", Ends::kWithPort},
    {"parked", "mask_evicted", Ends::kWithRoom},
    {"parked", "no_memory", Ends::kAtOnce},
    {"parked", "flushed", Ends::kAtOnce},
    {"action", "ct_not_told", Ends::kPerhaps},
    {"table", "flows", Ends::kWithRoom},
    {"table", "masks", Ends::kWithRoom},
    {"table", "buckets", Ends::kPerhaps},
    {"table", "groups", Ends::kPerhaps},
    {"table", "recirc_ids", Ends::kPerhaps},
    {"table", "rewrites", Ends::kPerhaps},
    {"table", "tunnels", Ends::kPerhaps},
};

}  // namespace

Ends ends_of(const Reject &why) {
    if (!why) {
        return Ends::kAtOnce;
    }
    const auto *row = std::find_if(
        std::begin(kEnds), std::end(kEnds),
        [&](auto &r) { return r.group == why.group && r.what == why.what; });
    return row == std::end(kEnds) ? Ends::kNever : row->ends;
}

std::chrono::seconds pause_after(uint64_t n) {
    constexpr uint64_t kMaxDoublings = 5;
    return std::chrono::seconds(1U << std::min(n ? n - 1 : 0, kMaxDoublings));
}

}  // namespace flowxlate
