// SPDX-License-Identifier: Apache-2.0
// The offload as a whole: ports and flows in, packets executed in XDP.
//
// All public functions may be called from any thread; core.h has the locks.
// Which function needs which lock, and which are the worker's alone, the
// declarations say and the compiler checks (guarded.h).
//
// One thread of our own, the worker, follows the devices' changes and gives
// retired slots back after a grace period.
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
//
// A port's program may be in XDP or at TC's ingress, as the user wishes, also
// at run time (hooks.cc).
//
// A port may be captured: what enters it is copied for ovs-offload-dump, by
// another instance of its program (captures.cc).
//
// When masks are scarce, the worker parks the flows of those that are idle
// (eviction.h).  Nothing of that is on flow_put()'s way, and state_lock is
// held for some flows at a time.
#ifndef FLOWXLATE_OFFLOAD_H
#define FLOWXLATE_OFFLOAD_H

#include <array>
#include <atomic>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "base/damping.h"
#include "base/guarded.h"
#include "base/types.h"
#include "bpf/abi/counters.h"
#include "engine/binder.h"
#include "engine/captures.h"
#include "engine/comeback.h"
#include "engine/core.h"
#include "engine/evictor.h"
#include "engine/flows.h"
#include "engine/host.h"
#include "engine/loss_watch.h"
#include "engine/ports.h"
#include "engine/reclaimer.h"
#include "engine/refusals.h"
#include "engine/settings.h"
#include "engine/shaping_watch.h"
#include "engine/stats.h"
#include "engine/takeover.h"
#include "engine/view.h"
#include "kernel/attach.h"
#include "kernel/tag_offload.h"
#include "kernel/trace_program.h"
#include "tables/conn_table.h"
#include "tables/flow_table.h"

namespace flowxlate {

struct Health;  // Of report/health.h.
struct Problem;

class Offload {
public:
    // Sets everything up.  On failure the reason is in the result.
    static Failure create(const ovs_offload_host &,
                          std::span<const ovs_offload_option>,
                          std::unique_ptr<Offload> *);
    ~Offload();

    // The operations of struct ovs_offload_ops, with its contracts.
    int port_add(const ovs_offload_port &, Port **);
    void port_del(Port *);
    void port_set_left_out(Port *, bool);
    std::string port_status(std::string_view name, const char **mode);
    void options_changed(std::span<const ovs_offload_option>);
    int flow_put(const ovs_offload_flow &);
    int flow_del(const Ufid &, ovs_offload_stats *remaining);
    int flow_stats(const Ufid &, ovs_offload_stats *);
    int flow_take(const Ufid &, ovs_offload_stats *delta);
    int flow_flush(Port *);
    uint64_t n_flows(Port *);
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

    // What the commands xdp-offload/status, show, stats, top-flows, rejects,
    // explain, trace and connections print.  Arguments are not trusted.
    std::string status();
    std::string show();
    std::string stats();
    std::string top_flows(size_t n, Order);
    std::string rejects();
    std::string explain(const std::string &filter);
    std::string trace(const std::string &port, const std::string &packet);
    std::string connections(const std::string &filter);

    // xdp-offload/capture.
    std::string begin_capture(const std::string &port,
                              const CaptureSizes &sizes) {
        return captures_.begin(port, sizes);
    }
    std::string end_capture(const std::string &port) {
        return captures_.end(port);
    }

private:
    View view() const REQUIRES(state_lock) {
        return {core_.ports,        core_.binder,      *core_.table,
                *core_.flows,       core_.refusals,    core_.refused,
                evictor_.n_masks(), evictor_.n_flows()};
    }

    Offload(const ovs_offload_host &, const Settings &);
    Failure init() NOT_CHECKED;  // Nobody else has it yet.

    Reject translate(const ovs_offload_flow &, Rule *)
        EXCLUDES(state_lock, attach_lock);
    Reject put(const Ufid &, Rule *, uint32_t vlan_limit);
    void refuse(const ovs_offload_flow &, const Reject &why,
                uint64_t port_events);
    Reject check_connections(const ovs_offload_flow &, const Rule &) const;
    void prepare_group() REQUIRES(worker_role);
    void follow_vlan_limit(uint32_t) REQUIRES(state_lock);
    void to_abi(const FlowStats &, ovs_offload_stats *) REQUIRES(state_lock);

    std::string why_unwanted(const ovs_offload_port &) const;
    int reject_port(const ovs_offload_port &, const Failure &);
    int add_tunnel(const ovs_offload_port &, uint32_t kind, Port **);
    Attachment::Options attach_options(const Port &);
    Failure attach_device(const Port &, std::unique_ptr<Attachment> *);
    void log_mode(const Port &);
    void start_port(Port &);
    void put_tags_in_frame(Port &);
    void put_tags_beside(Port &);
    void leave_out(Port &) REQUIRES(attach_lock);
    Failure take_in(Port &) REQUIRES(attach_lock);
    void check_identity(Ifindex, DeviceState *);
    // How a port's state was learned.
    struct Heard {
        bool changed = false;   // The kernel has said that it has changed.
        bool was_away = false;  // It may have forgotten the device meanwhile.
    };
    void apply_device_state(Port &, DeviceState, Heard) REQUIRES(state_lock);

    void start_worker();
    void run_worker();
    void work(bool full) REQUIRES(worker_role);
    void refresh_devices(bool all, bool lost,
                         const std::vector<Devices::Changed> &changed,
                         const std::vector<Ifindex> &gone)
        REQUIRES(worker_role);
    struct Query {
        Ifindex ifindex;
        Devices::Question question;
        Heard heard;
    };
    void query_devices(const std::vector<Query> &) REQUIRES(worker_role);
    void find_lost_frames() REQUIRES(worker_role);
    void condemn_outputs(const Flow &, std::vector<Query> *found)
        REQUIRES(state_lock);
    void restore_attachments(bool all) REQUIRES(worker_role);
    void restore_attachment(Ifindex) REQUIRES(worker_role);
    void reclaim();

    // Hooks (hooks.cc).
    bool wants_tc(const Port &) const REQUIRES(state_lock);
    bool is_where_wished(Port &) REQUIRES(state_lock);
    void choose_hooks(bool all) REQUIRES(worker_role);
    void change_hook(Ifindex) REQUIRES(worker_role);
    Failure attach_elsewhere(Port &, const Attachment::Options &,
                             std::unique_ptr<Attachment> *, DeviceState *)
        REQUIRES(attach_lock);
    bool may_change_hook(Ifindex, Port **, Attachment::Options *)
        REQUIRES(attach_lock);

    // Whether all is well (status.cc).
    void show_persistence(std::string *) const REQUIRES(state_lock);
    void forget_unserved();
    Health health(uint64_t n_passed) const REQUIRES(state_lock);
    std::vector<Problem> general_problems() const REQUIRES(state_lock);
    std::vector<std::string> pending_options() const REQUIRES(state_lock);
    std::string handover_in_words() const REQUIRES(state_lock);
    std::string losses_in_words() const REQUIRES(state_lock);
    std::array<uint64_t, XF_N_MISSES> all_misses() const REQUIRES(state_lock);
    void show_ports(std::string *) const REQUIRES(state_lock);

    // What is told programs (stats.cc).
    PortStats stats_of(const Port &, const View::Sum &) const
        REQUIRES(state_lock);
    TableStats table_stats() const REQUIRES(state_lock);
    FlowReport report_of(const Ufid &, const Flow &, const FlowStats &)
        REQUIRES(state_lock);

    // Of flows that are not executed in XDP (refusals.cc).
    uint64_t remember_refusal(const ovs_offload_flow &, const Reject &,
                              Ifindex in, uint64_t port_events)
        REQUIRES(state_lock);
    void log_refusal(const ovs_offload_flow &, const Reject &,
                     uint64_t n) const EXCLUDES(state_lock, attach_lock);
    Ifindex entrance_of(const ovs_offload_flow &) const
        EXCLUDES(state_lock, attach_lock);
    std::string text_of(const Ufid &, const FlowCopy &) const
        EXCLUDES(state_lock, attach_lock);
    std::string trace_in_xdp(const std::string &port,
                             std::span<const std::byte> frame,
                             std::string *dpif_type);

    Core core_;
    Captures captures_{core_};
    Evictor evictor_{core_};
    Comeback comeback_{core_};
    LossWatch loss_watch_{core_};
    Takeover takeover_{core_};
    ShapingWatch shaping_watch_{core_};
    const std::chrono::steady_clock::time_point start_ =
        std::chrono::steady_clock::now();
    std::chrono::steady_clock::time_point last_look_ GUARDED_BY(state_lock) =
        start_;
    const bool can_hash_;                             // As OVS does.
    uint32_t vlan_limit_ GUARDED_BY(state_lock) = 1;  // OVS's.
    std::array<uint64_t, XF_N_MISSES> past_misses_
        GUARDED_BY(state_lock){};  // Of ports that are gone.
    std::vector<std::pair<std::string, std::string>> options_now_
        GUARDED_BY(state_lock);  // As the database has them.
    HookWishes hook_wishes_ GUARDED_BY(state_lock);
    uint16_t n_groups_prepared_ GUARDED_BY(worker_role) =
        1;  // Slot 0 needs none.
    // The user wishes programs elsewhere, perhaps (hook_wishes_).
    bool wishes_changed_ GUARDED_BY(state_lock) = false;
    // Programs may be taken off that have just been put on.
    bool watches_filters_ GUARDED_BY(worker_role) = false;
    bool stop_ GUARDED_BY(state_lock) = false;
    std::thread worker_;
};

}  // namespace flowxlate

#endif
