// SPDX-License-Identifier: Apache-2.0
// Programs and flows that outlive this process, and taking over those of an
// earlier one.  See handover.h for how, and pins.h for what stays.
//
// state_lock guards the handover's phase; attach_lock keeps the ports and
// their attachments, which is where programs are taken over.
#ifndef FLOWXLATE_TAKEOVER_H
#define FLOWXLATE_TAKEOVER_H

#include <atomic>
#include <chrono>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/guarded.h"
#include "engine/copies.h"
#include "engine/core.h"
#include "engine/handover.h"
#include "engine/inherited_connections.h"

namespace flowxlate {

class Takeover {
public:
    explicit Takeover(Core &);

    // Finds out whether programs can be kept, and what an earlier process has
    // left.
    void open() NOT_CHECKED;  // Nobody else has it yet.

    // OVS is about to end: what can be kept stays as it is from now on.
    void leave() { leaving_ = persists_; }
    bool is_leaving() const { return leaving_; }

    // What has to do with how far the handover is.
    void note_port(Handover::Time now) REQUIRES(state_lock) {  // Was added.
        handover_.port_added(now);
    }
    void note_flow() REQUIRES(state_lock);  // Is new, or changed.
    // A port can take no frames any more: it ends at the worker's next round.
    void hurry() REQUIRES(state_lock) { handover_.hurry(); }
    // The same, now: a port is about to go.
    void hurry_now() REQUIRES(attach_lock);

    // The port's program has just been attached, or is about to take over.
    void keep_attached(Port &);
    void drop_copies_of(const Port &port) REQUIRES(state_lock) {
        copies_.drop_of(port);
    }
    int take_copy(std::string_view dpif_type, ovs_offload_copy *copy) {
        return copies_.take(dpif_type, copy);
    }
    bool restore_connection(ovs_offload_ct *ct) {
        return connections_.restore(ct);
    }

    // The worker's rounds.
    void say_that_we_live() REQUIRES(worker_role);
    void go_on() REQUIRES(worker_role);
    bool is_going_on() const REQUIRES(worker_role) { return going_on_; }
    void collect_copies() REQUIRES(worker_role);
    void remove_orphans() REQUIRES(worker_role);

    // For readers: constant after open(), and how far it is.
    bool persists() const { return persists_; }
    const std::string &why_flows_end() const { return why_flows_end_; }
    Handover::Phase phase() const REQUIRES(state_lock) {
        return handover_.phase();
    }
    // Those on which programs of an earlier process execute its flows.
    std::vector<Port *> ports() const REQUIRES(state_lock);

private:
    Handover::Host ask_host() const EXCLUDES(state_lock);
    void advance(std::span<Port *const>, Handover::Phase)
        REQUIRES(attach_lock);
    size_t remove_filters() REQUIRES(worker_role);

    Core &core_;
    Copies copies_{core_};
    InheritedConnections connections_{core_};
    bool persists_ = false;
    std::string why_flows_end_;  // With us, and what to do about it.
    std::atomic<bool> leaving_ = false;
    Handover handover_ GUARDED_BY(state_lock);
    bool going_on_ GUARDED_BY(worker_role) = false;
    // Earlier processes may have left some.
    bool has_left_filters_ GUARDED_BY(worker_role) = true;
    std::chrono::steady_clock::time_point next_orphans_
        GUARDED_BY(worker_role);
};

}  // namespace flowxlate

#endif
