// SPDX-License-Identifier: Apache-2.0
// What the engine's parts share: the state of ports, flows and bindings, what
// speaks to the kernel and to OVS, and the locks.
//
// One Offload owns the Core and the parts, each of which has a reference to it
// and, besides, state of its own that is private to it.
//
// Locks
// -----
// 'state_lock' guards the tables' writer side, the ports and the flows.
// Nothing slow happens under it: netlink, attaching and waiting for grace
// periods are done without.  'attach_lock' keeps ports and their attachments
// in place while that is done; whoever takes both takes it first.  OVS is
// asked with neither (Core::ask()).  'worker_role' is that of the worker's
// thread, for what only it does.
//
// These three are names, for the compiler's analysis (guarded.h): the parts
// reach the mutexes by different ways, but mean the same ones.  StateLock and
// AttachLock hold them.  The analysis takes it that there is one engine in a
// process; if there are more, each has its own mutexes nevertheless.
//
// What is guarded is in parts that know no lock and, but for a Datapath, no
// kernel: ports.h, binder.h and flows.h.  They note what others have to do
// (changes.h), which is done after the state has been unlocked.
#ifndef FLOWXLATE_CORE_H
#define FLOWXLATE_CORE_H

#include <array>
#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/guarded.h"
#include "base/resource.h"
#include "base/types.h"
#include "bpf/abi/counters.h"
#include "engine/binder.h"
#include "engine/changes.h"
#include "engine/flows.h"
#include "engine/host.h"
#include "engine/ports.h"
#include "engine/reclaimer.h"
#include "engine/refusals.h"
#include "engine/settings.h"
#include "kernel/bpf_maps.h"
#include "kernel/clock.h"
#include "kernel/devices.h"
#include "kernel/features.h"
#include "kernel/pins.h"
#include "kernel/shared_program.h"
#include "tables/conn_table.h"
#include "tables/flow_table.h"

namespace flowxlate {

inline constexpr LockName state_lock;
inline constexpr LockName attach_lock ACQUIRED_BEFORE(state_lock);
inline constexpr Role worker_role;

struct Core {
    Core(const ovs_offload_host &h, const Settings &s)
        : host(h), settings(s) {}
    Core(const Core &) = delete;
    Core &operator=(const Core &) = delete;

    const Host::Ask &ask() const EXCLUDES(state_lock, attach_lock) {
        return host.ask;
    }
    void log(ovs_offload_log_level, const std::string &) const
        EXCLUDES(state_lock);
    void wake_worker() const;
    // Tells others what has changed.
    void tell(const Changes &) const noexcept EXCLUDES(state_lock);

    // Calls 'visit' with all flows that are in the tables, some at a time,
    // with the state locked.  Others get the lock in between.  Returns false
    // if there are more flows meanwhile, so that the flows are no longer where
    // they were: some have not been visited.
    bool visit_placed(const std::function<void(std::span<Flow *const>)> &visit)
        REQUIRES(worker_role);

    // Ports::n_events() needs no lock.
    uint64_t n_port_events() const NOT_CHECKED { return ports.n_events(); }
    // What the port's program has passed to OVS, by reason.
    std::array<uint64_t, XF_N_MISSES> misses_of(const Port &) const;

    Changes changes GUARDED_BY(state_lock);

    const Host host;
    const Settings settings;
    const std::chrono::steady_clock::time_point start =
        std::chrono::steady_clock::now();

    KernelFeatures kernel;  // Constant once everything is set up.
    Devices devices;
    BpfMaps maps;
    SharedPrograms programs{maps};
    Pins pins;

    Clock clock GUARDED_BY(state_lock);
    Ports ports GUARDED_BY(state_lock){&maps, settings.tap_tso, &changes};
    UnservedPorts unserved GUARDED_BY(state_lock);
    // The options as the database has them.
    std::vector<std::pair<std::string, std::string>> options_now
        GUARDED_BY(state_lock);
    Binder binder GUARDED_BY(state_lock){&maps, &ports};
    std::unique_ptr<FlowTable> table GUARDED_BY(state_lock);
    std::unique_ptr<Flows> flows GUARDED_BY(state_lock);
    std::unique_ptr<ConnTable> connections;  // With a lock of its own.
    std::unique_ptr<Reclaimer> reclaimer GUARDED_BY(state_lock);
    Refusals refusals GUARDED_BY(state_lock);
    RefusalCounts refused GUARDED_BY(state_lock);

    // ct() of the kernel datapath may be executed (conntrack_rst.h).
    std::atomic<bool> kernel_ct = false;

    Fd wake_fd;  // The worker waits for it.

private:
    friend class StateLock;
    friend class AttachLock;
    std::mutex state_mutex_, attach_mutex_;
};

// Locks the state.  What has changed meanwhile is told to others after it has
// been unlocked.
class FLOWXLATE_LOCKING(scoped_lockable) StateLock {
public:
    explicit StateLock(Core &core) ACQUIRES(state_lock) : core_(core) {
        core_.state_mutex_.lock();
    }
    ~StateLock() RELEASES();
    StateLock(const StateLock &) = delete;
    StateLock &operator=(const StateLock &) = delete;

private:
    Core &core_;
};

// Keeps ports and their attachments in place, until the end of its scope or
// until unlock().
class FLOWXLATE_LOCKING(scoped_lockable) AttachLock {
public:
    explicit AttachLock(Core &core) ACQUIRES(attach_lock)
        : lock_(core.attach_mutex_) {}
    ~AttachLock() RELEASES() = default;
    void unlock() RELEASES() { lock_.unlock(); }

private:
    std::unique_lock<std::mutex> lock_;
};

}  // namespace flowxlate

#endif
