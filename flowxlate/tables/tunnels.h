// SPDX-License-Identifier: Apache-2.0
// The outer headers that flows put before packets: those that are the same
// share an entry of xf_tunnels.
#ifndef FLOWXLATE_TUNNELS_H
#define FLOWXLATE_TUNNELS_H

#include <cstring>

#include "bpf/abi/tunnel.h"
#include "tables/shared_slots.h"

namespace flowxlate {

// Index of an entry in xf_tunnels.
enum class TunnelSlot : uint16_t { kNone = 0 };

struct TunnelHeaders {
    xf_tunnel tunnel{};  // All zero: none.
    bool operator==(const TunnelHeaders &o) const {
        return !std::memcmp(&tunnel, &o.tunnel, sizeof tunnel);
    }
    bool operator<(const TunnelHeaders &o) const {
        return std::memcmp(&tunnel, &o.tunnel, sizeof tunnel) < 0;
    }
};
using Tunnels = SharedSlots<TunnelHeaders, TunnelSlot>;

}  // namespace flowxlate

#endif
