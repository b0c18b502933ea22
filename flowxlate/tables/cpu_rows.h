// SPDX-License-Identifier: Apache-2.0
// Which row of the arrays that are by row (bpf/abi/maps.def) a CPU has.
//
// A row of its own is what a CPU wants: nobody else writes there, so counting
// needs no atomic operations and no cache line wanders.  But the kernel
// allocates arrays whole, and a machine may announce hundreds of CPUs that it
// does not have.  So CPUs that are not online when the rows are given share
// one, and all take turns where there are not enough.  Rows stay as they are:
// a CPU that comes later has had its row all the time.
#ifndef FLOWXLATE_CPU_ROWS_H
#define FLOWXLATE_CPU_ROWS_H

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace flowxlate {

class CpuRows {
public:
    CpuRows() = default;
    // 'is_online' is by CPU number; 'max_rows' is 1 or more.
    CpuRows(const std::vector<bool> &is_online, uint32_t max_rows);
    // A row for each of 'n_cpus'.
    explicit CpuRows(uint32_t n_cpus)
        : CpuRows(std::vector<bool>(n_cpus, true), n_cpus) {}

    uint32_t n_cpus() const { return static_cast<uint32_t>(row_of_.size()); }
    uint32_t n_rows() const { return static_cast<uint32_t>(cpus_.size()); }
    uint32_t row_of(size_t cpu) const { return row_of_[cpu]; }
    std::span<const uint32_t> cpus_of(size_t row) const { return cpus_[row]; }
    bool shares(size_t cpu) const { return cpus_of(row_of(cpu)).size() > 1; }
    uint32_t n_sharing() const;  // CPUs.

private:
    std::vector<uint32_t> row_of_;             // By CPU number.
    std::vector<std::vector<uint32_t>> cpus_;  // By row.
};

}  // namespace flowxlate

#endif
