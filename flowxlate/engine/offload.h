// SPDX-License-Identifier: Apache-2.0
// The offload as a whole: ports and flows in, packets executed in XDP.
//
// Offload owns the engine's parts, sets them up, and hands calls on to them.
// All of its functions may be called from any thread; the locks are Core's
// (core.h).  Which function of a part needs which lock, and which are the
// worker's alone, the declarations say and the compiler checks (guarded.h).
//
// A flow's life
// -------------
// flow_put() puts it in the tables.  It is "in the fast path" while it is
// there and its output port can transmit; the program checks the latter for
// each packet.  A flow that loses its place (a port goes, a modification is
// refused, its mask is evicted) is "parked": known, out of the tables, its
// figures kept until flow_del().  A flow that was refused is not known, but
// remembered with the reason (refusals.h) for those who ask why.
//
// What is parked, or was refused, comes back when the reason has ended
// (comeback.h).
//
// A flow whose output port cannot transmit waits in the tables if OVS's
// userspace datapath has it too.  The kernel datapath has not: there it is
// refused, and when a port loses the ability, OVS is told and takes its flows
// back.  When a port gains it and flows were refused for its sake, OVS is
// asked to offer its flows again.
//
// When this process ends, its programs and flows stay, until the next one
// takes them over (takeover.h).
#ifndef FLOWXLATE_OFFLOAD_H
#define FLOWXLATE_OFFLOAD_H

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/guarded.h"
#include "base/types.h"
#include "engine/attachments.h"
#include "engine/captures.h"
#include "engine/comeback.h"
#include "engine/core.h"
#include "engine/device_watch.h"
#include "engine/evictor.h"
#include "engine/flow_operations.h"
#include "engine/hooks.h"
#include "engine/loss_watch.h"
#include "engine/port_operations.h"
#include "engine/settings.h"
#include "engine/shaping_watch.h"
#include "engine/sources.h"
#include "engine/takeover.h"
#include "engine/worker.h"

namespace flowxlate {

class Offload {
public:
    // Sets everything up.  On failure the reason is in the result.
    static Failure create(const ovs_offload_host &,
                          std::span<const ovs_offload_option>,
                          std::unique_ptr<Offload> *);

    // The operations of struct ovs_offload_ops, with its contracts.
    int port_add(const ovs_offload_port &port, Port **added) {
        return ports_.add(port, added);
    }
    void port_del(Port *port) { ports_.del(port); }
    void port_set_left_out(Port *port, bool left_out) {
        ports_.set_left_out(port, left_out);
    }
    std::string port_status(std::string_view name, const char **mode) {
        return ports_.status(name, mode);
    }
    void options_changed(std::span<const ovs_offload_option>);
    int flow_put(const ovs_offload_flow &flow) { return flows_.put(flow); }
    int flow_del(const Ufid &ufid, ovs_offload_stats *remaining) {
        return flows_.del(ufid, remaining);
    }
    int flow_stats(const Ufid &ufid, ovs_offload_stats *stats) {
        return flows_.stats(ufid, stats);
    }
    int flow_take(const Ufid &ufid, ovs_offload_stats *delta) {
        return flows_.take(ufid, delta);
    }
    int flow_flush(Port *port) { return flows_.flush(port); }
    uint64_t n_flows(Port *port) { return flows_.count(port); }
    void leave() { takeover_.leave(); }
    bool flow_wanted(const Ufid &ufid) {
        return !takeover_.is_leaving() && comeback_.is_wanted(ufid);
    }
    int take_copy(std::string_view dpif_type, ovs_offload_copy *copy) {
        return takeover_.take_copy(dpif_type, copy);
    }
    ConnTable &connections() { return *core_.connections; }
    bool restore_connection(ovs_offload_ct *ct) {
        return takeover_.restore_connection(ct);
    }
    bool is_leaving() const { return takeover_.is_leaving(); }

    // xdp-offload/capture.
    std::string begin_capture(const std::string &port,
                              const CaptureSizes &sizes) {
        return captures_.begin(port, sizes);
    }
    std::string end_capture(const std::string &port) {
        return captures_.end(port);
    }

    // For those who tell of it (report/).
    Sources sources() {
        return {core_, loss_watch_, takeover_, evictor_, ports_};
    }

private:
    Offload(const ovs_offload_host &, const Settings &);
    Failure init() NOT_CHECKED;  // Nobody else has it yet.

    Core core_;
    Captures captures_{core_};
    Evictor evictor_{core_};
    Comeback comeback_{core_};
    LossWatch loss_watch_{core_};
    Takeover takeover_{core_};
    Attachments attachments_{core_, takeover_};
    DeviceWatch device_watch_{core_, takeover_};
    Hooks hooks_{core_, takeover_, captures_, attachments_, device_watch_};
    PortOperations ports_{core_,        takeover_,     captures_,
                          attachments_, device_watch_, loss_watch_};
    ShapingWatch shaping_watch_{core_};
    FlowOperations flows_;
    Worker worker_{core_,
                   {takeover_, device_watch_, comeback_, hooks_, attachments_,
                    captures_, evictor_, shaping_watch_, loss_watch_}};
};

}  // namespace flowxlate

#endif
