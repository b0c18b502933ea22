// SPDX-License-Identifier: Apache-2.0
// Programs beside TC's filters, by BPF links (tcx).
#ifndef FLOWXLATE_TCX_H
#define FLOWXLATE_TCX_H

#include <cstdint>
#include <vector>

#include "base/resource.h"
#include "base/types.h"

namespace flowxlate {

// BPF_LINK_TYPE_TCX of <linux/bpf.h>, since Linux 6.6.
constexpr uint32_t kLinkTypeTcx = 11;

// Finds the ids of those at the ingress of a device, in the order in which
// they run.  Returns 0 or a positive errno value: ENODEV if there is no such
// device, EINVAL if the kernel has no tcx.
int find_tcx_programs(Ifindex, std::vector<uint32_t> *ids);

// Links a program there, behind those that are there.
Failure link_at_tcx(int prog_fd, Ifindex, Fd *link);

}  // namespace flowxlate

#endif
