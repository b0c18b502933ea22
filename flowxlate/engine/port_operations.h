// SPDX-License-Identifier: Apache-2.0
// What OVS does with ports: they come and go, are left out and taken in.  The
// contracts are those of struct ovs_offload_ops.
//
// attach_lock is held while a port's program is changed, state_lock while the
// port is; programs are attached without the latter.
#ifndef FLOWXLATE_PORT_OPERATIONS_H
#define FLOWXLATE_PORT_OPERATIONS_H

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/guarded.h"
#include "bpf/abi/counters.h"
#include "engine/attachments.h"
#include "engine/captures.h"
#include "engine/core.h"
#include "engine/device_watch.h"
#include "engine/loss_watch.h"
#include "engine/takeover.h"

namespace flowxlate {

class PortOperations {
public:
    PortOperations(Core &core, Takeover &takeover, Captures &captures,
                   Attachments &attachments, DeviceWatch &devices,
                   LossWatch &losses)
        : core_(core),
          takeover_(takeover),
          captures_(captures),
          attachments_(attachments),
          devices_(devices),
          losses_(losses) {}

    int add(const ovs_offload_port &, Port **);
    void del(Port *);
    void set_left_out(Port *, bool);
    // A word, and why not better, for OVS's database.
    std::string status(std::string_view name, const char **mode);

    // What programs have passed to OVS at ports that are gone, by reason.
    const std::array<uint64_t, XF_N_MISSES> &past_misses() const
        REQUIRES(state_lock) {
        return past_misses_;
    }

private:
    std::string why_unwanted(const ovs_offload_port &) const;
    int reject(const ovs_offload_port &, const Failure &);
    int add_tunnel(const ovs_offload_port &, uint32_t kind, Port **);
    Failure equip(Port &);
    void leave_out(Port &) REQUIRES(attach_lock);
    Failure take_in(Port &) REQUIRES(attach_lock);

    Core &core_;
    Takeover &takeover_;
    Captures &captures_;
    Attachments &attachments_;
    DeviceWatch &devices_;
    LossWatch &losses_;
    std::array<uint64_t, XF_N_MISSES> past_misses_ GUARDED_BY(state_lock){};
};

}  // namespace flowxlate

#endif
