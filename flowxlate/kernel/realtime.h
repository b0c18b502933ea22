// SPDX-License-Identifier: Apache-2.0
// Kernels on which two programs may run on one CPU at a time.
//
// An XDP program has memory for each CPU that nobody else may use meanwhile:
// its scratch, and the sequence number that tells whether it is running
// (bpf/abi/flow.h).  That holds where softirqs do not interrupt each
// other.  With CONFIG_PREEMPT_RT they run in threads, which one lock for each
// CPU kept apart; since Linux 6.18 it is there only with
// CONFIG_PREEMPT_RT_NEEDS_BH_LOCK, and by default it is not.
#ifndef FLOWXLATE_REALTIME_H
#define FLOWXLATE_REALTIME_H

#include <string>

namespace flowxlate {

// Why programs must not run on a kernel whose uname(2) has this 'release' and
// 'version'; empty if they may.  'root' is where its files are looked for.
std::string why_programs_overlap(const std::string &release,
                                 const std::string &version,
                                 const std::string &root = "");

// The same of the kernel that is running.
std::string why_programs_overlap();

}  // namespace flowxlate

#endif
