// SPDX-License-Identifier: Apache-2.0
// What ports and groups of ports need of the kernel when they change: how the
// program sees a port, and the device maps.  (Flows need only memory, see
// TableMemory.)  BpfMaps is the real one; unit tests have one of their own.
#ifndef FLOWXLATE_DATAPATH_H
#define FLOWXLATE_DATAPATH_H

#include <span>

#include "base/resource.h"
#include "base/types.h"
#include "bpf/abi/tunnel.h"
#include "tables/recirc.h"
#include "tables/tunnels.h"

namespace flowxlate {

class Datapath {
public:
    virtual ~Datapath() = default;

    virtual xf_port &port(PortSlot) = 0;

    // Where the program finds outer headers.
    virtual xf_tunnel &tunnel(TunnelSlot) = 0;

    // Points 'slot' of the device map at a device.
    virtual Failure set_tx_port(PortSlot slot, Ifindex) = 0;

    // Lets the group in 'slot', whose device map is 'devices', have these
    // ports and their devices.  For groups that no program uses, or to write
    // the same again after a device has come back.
    virtual Failure set_group(GroupSlot slot, const Fd &devices, const Group &,
                              std::span<const Ifindex>) = 0;
};

}  // namespace flowxlate

#endif
