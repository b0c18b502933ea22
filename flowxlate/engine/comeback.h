// SPDX-License-Identifier: Apache-2.0
// Which flows come back to XDP, and when OVS is asked to offer them
// (wanted.h says when a reason ends).
//
// A flow of the userspace datapath that is parked, or was refused, comes back
// when the reason has ended: OVS asks about it, and puts it again.  The kernel
// datapath keeps nothing that could be asked about, so it is asked to offer
// all of its flows again, seldom: when a port has come, or room, for want of
// which some were refused.  And when ports' changes have made flows wrong, OVS
// is told that it has lost them.
//
// state_lock guards what is remembered.
#ifndef FLOWXLATE_COMEBACK_H
#define FLOWXLATE_COMEBACK_H

#include <atomic>
#include <chrono>
#include <cstdint>

#include <boost/container/flat_set.hpp>

#include "base/damping.h"
#include "base/guarded.h"
#include "engine/core.h"
#include "engine/wanted.h"

namespace flowxlate {

class Comeback {
public:
    // Between two requests, whatever the ports do.  To be offered all flows
    // again costs OVS all its flows in the kernel datapath; flows that were
    // lost are found by the revalidators' regular rounds as well.
    static constexpr auto kOfferInterval = std::chrono::seconds(5);
    static constexpr auto kFlowsLostInterval = std::chrono::milliseconds(500);

    explicit Comeback(Core &core) : core_(core) {}

    // Shall OVS put the flow again?
    bool is_wanted(const Ufid &);

    // A flow was refused: what it was refused for is remembered, if OVS does
    // not ask about it.
    void note_what_is_missing(const ovs_offload_flow &, const Rule &,
                              const Reject &);
    // After a port was added: was it the one that flows were refused for?
    // Called by threads of OVS only.
    void look_for_missing_ports(const char *dpif_type);

    // Asks of OVS what ports' changes, and room, make necessary, as often as
    // that may be.
    void make_requests() REQUIRES(worker_role);

private:
    bool has_room_for(const Reject &) const REQUIRES(state_lock);
    bool has_room_again() const REQUIRES(state_lock);
    bool port_has_come(const Refusal &) const REQUIRES(state_lock);

    Core &core_;
    Turns turns_ GUARDED_BY(state_lock);  // Of is_wanted().
    // Ports for want of which flows of the kernel datapath were refused.
    boost::container::flat_set<OdpPort> missing_ports_ GUARDED_BY(state_lock);
    // Core::n_port_events() when they were looked for last.
    std::atomic<uint64_t> looked_for_ports_ = 0;
    // Were flows of the kernel datapath refused for want of room?
    bool refused_for_room_ GUARDED_BY(state_lock) = false;
    // OVS is asked to offer all flows again, as there is such a port, or room.
    Request offer_ GUARDED_BY(state_lock);
    // How often OVS is asked for all requests together.
    Backoff flows_lost_pace_ GUARDED_BY(state_lock){kFlowsLostInterval,
                                                    kFlowsLostInterval};
    Backoff offer_pace_ GUARDED_BY(state_lock){kOfferInterval, kOfferInterval};
};

}  // namespace flowxlate

#endif
