// SPDX-License-Identifier: Apache-2.0
// Asking a device for its XDP program.
//
// libbpf's bpf_xdp_query() has the kernel tell of all devices, and looks for
// the one, which takes the longer the more ports there are.
#ifndef FLOWXLATE_XDP_QUERY_H
#define FLOWXLATE_XDP_QUERY_H

#include <cstdint>

#include "base/types.h"

namespace flowxlate {

struct XdpOnDevice {
    uint8_t mode = 0;  // XDP_ATTACHED_NONE...
    uint32_t prog_id = 0;
};

// Returns 0 or a positive errno value.
int query_xdp(Ifindex, XdpOnDevice *);

}  // namespace flowxlate

#endif
