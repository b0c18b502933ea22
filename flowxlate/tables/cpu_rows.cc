// SPDX-License-Identifier: Apache-2.0
#include "tables/cpu_rows.h"

#include <algorithm>

namespace flowxlate {

CpuRows::CpuRows(const std::vector<bool> &is_online, uint32_t max_rows)
    : row_of_(is_online.size()) {
    const auto n_online = static_cast<uint32_t>(
        std::count(is_online.begin(), is_online.end(), true));
    const uint32_t row_of_others = std::min(n_online, max_rows - 1);
    uint32_t next = 0;
    for (uint32_t cpu = 0; cpu < is_online.size(); cpu++) {
        const uint32_t row =
            is_online[cpu] ? next++ % max_rows : row_of_others;
        row_of_[cpu] = row;
        cpus_.resize(std::max<size_t>(cpus_.size(), row + 1));
        cpus_[row].push_back(cpu);
    }
}

uint32_t CpuRows::n_sharing() const {
    size_t n = 0;
    for (auto &cpus : cpus_) {
        n += cpus.size() > 1 ? cpus.size() : 0;
    }
    return static_cast<uint32_t>(n);
}

}  // namespace flowxlate
