// SPDX-License-Identifier: Apache-2.0
// Programs beside TC's filters, by BPF links (tcx).
#ifndef FLOWXLATE_TCX_H
#define FLOWXLATE_TCX_H

#include <cstdint>

#include "base/types.h"

namespace flowxlate {

// Counts those at the ingress of a device.  Returns 0 or a positive errno
// value: ENODEV if there is no such device, EINVAL if the kernel has no tcx.
int count_tcx_programs(Ifindex, uint32_t *n);

}  // namespace flowxlate

#endif
