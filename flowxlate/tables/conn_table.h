// SPDX-License-Identifier: Apache-2.0
// Where connections live: the writer's side of what bpf/abi/conn.h describes
// under "Connections".
//
// OVS has the connections and says what becomes of them (ovs_offload_abi.h);
// here is a copy of each, in memory that the programs read.
//
// Ownership and threads
// ---------------------
// The memory belongs to somebody else, as a FlowTable's does.  All functions
// may be called from any thread.  'mutex_' guards what is known of slots and
// all that is written but for what the programs write; nobody waits under it,
// because OVS holds locks of its connection tracker.  use() takes no lock.
//
// Handles
// -------
// A handle is a slot and its generation, which each connection that gets the
// slot increments: one that OVS has deleted is not found by it any more.  A
// connection for which there is no room has a handle without a slot, and gets
// one with the first change after there is room again.
//
// What is complete
// ----------------
// The program may say "there is no such connection" of a zone of which all
// connections are here.  'incomplete_' counts by zone those that are not; the
// zone's bit in xf_zones is set before OVS may find the connection, which is
// when put() returns.
//
// Those of an earlier process
// ---------------------------
// inherit() brings tables that programs of earlier processes go on executing
// by (old_conns.h).  restore() tells OVS of what is in them, and what OVS
// makes of that is linked to where it came from ('origins_'): use() adds what
// the old program has seen, follow_old() notes it here, and if OVS changes or
// ends the connection, the old program lets go of it.  When the old programs
// are gone, forget_old() notes the last of it.
//
// Reclamation
// -----------
// A program may hold on to a slot for as long as it runs.  A slot that was
// freed is retired (slot_pool.h): the caller says when a grace period begins
// and when it is over.
#ifndef FLOWXLATE_CONN_TABLE_H
#define FLOWXLATE_CONN_TABLE_H

#include <array>
#include <atomic>
#include <bit>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "base/guarded.h"
#include "base/types.h"
#include "bpf/abi/conn.h"
#include "tables/old_conns.h"
#include "tables/slot_pool.h"

namespace flowxlate {

// Memory that the writer and the programs share.
struct ConnMemory {
    std::span<xf_bucket> buckets;      // A power of 2 of them.
    std::span<xf_conn> conns;          // Two to a slot; slot 0 is not used.
    std::span<xf_conn_use> uses;       // The same.
    std::span<xf_zones> zones;         // One.
    std::span<xf_settings> settings;   // One, of which 'ct' is ours.
    std::span<const uint64_t> secret;  // For xf_conn_hash().
};

class ConnTable {
public:
    // 'memory' is zeroed and must outlive the table.
    explicit ConnTable(const ConnMemory &memory);

    // The operations of struct ovs_offload_ops, with its contracts.
    int open(const ovs_offload_ct_settings &) EXCLUDES(mutex_);
    void close() EXCLUDES(mutex_);
    void set(const ovs_offload_ct_settings &) EXCLUDES(mutex_);
    int put(const ovs_offload_ct &, uint64_t *handle) EXCLUDES(mutex_);
    void del(uint64_t handle) EXCLUDES(mutex_);
    bool use(uint64_t handle, ovs_offload_ct_use *) const EXCLUDES(mutex_);
    bool restore(ovs_offload_ct *) EXCLUDES(mutex_);

    // Takes a table of an earlier process, unless it was taken before, even if
    // it has been forgotten since.  Those that come together are read in the
    // order of their ids: if a connection is in an older and in a newer one,
    // they tell the same of it but for what packets have done.
    bool has_inherited(uint32_t id) const EXCLUDES(mutex_);
    void inherit(OldConns) EXCLUDES(mutex_);
    bool has_old() const { return has_old_; }
    // Notes what the old programs have seen.  Often enough for TCP not to send
    // 2 GiB in between: more of it would look like less.
    void follow_old() EXCLUDES(mutex_);
    // The old programs have gone from all ports: notes the last of what they
    // have seen, takes the connections from those that are elsewhere, and
    // forgets the tables.
    void forget_old() EXCLUDES(mutex_);

    // What has become of the connections in the tables that restore() has read
    // to their ends; once.
    struct Restored {
        size_t n = 0;          // Go on.
        size_t n_refused = 0;  // By OVS.
        size_t n_no_room = 0;
        std::array<size_t, OldConns::kN> left_out{};
    };
    std::optional<Restored> take_restored() EXCLUDES(mutex_);

    // Does OVS tell of its connections?
    bool is_open() const EXCLUDES(mutex_);

    // How many slots, that no packet finds any more, wait for the grace period
    // that begins.  One thread calls this and end_grace().
    size_t begin_grace() EXCLUDES(mutex_);
    void end_grace() EXCLUDES(mutex_);
    // Slots that wait for the next one.
    size_t n_retired() const EXCLUDES(mutex_);

    struct Figures {
        size_t n = 0;           // Connections that have a slot.
        size_t n_unplaced = 0;  // Those for which there was no room.
        size_t max = 0;
        size_t n_zones_incomplete = 0;
    };
    Figures figures() const EXCLUDES(mutex_);

    // Shows each connection of a zone, or of all if that is negative, in the
    // order of the slots.  What is shown is copied before, some at a time:
    // OVS waits for the lock.
    struct Shown {
        xf_conn dir[2];
        xf_conn_use use[2];
    };
    std::vector<Shown> list(int zone, size_t max) const EXCLUDES(mutex_);

private:
    // What a connection comes from.
    struct Origin {
        const OldConns *table;
        uint32_t slot;
        // By direction: when the last packet came that follow() has noted.
        std::array<uint64_t, 2> followed{};
        bool released = false;
        int n_followed = 0;  // Calls of follow() since it was released.
    };

    void write_settings(const ovs_offload_ct_settings &) REQUIRES(mutex_);
    int put_unplaced(const ovs_offload_ct &, uint64_t birth, uint64_t *handle)
        REQUIRES(mutex_);
    bool place(const ovs_offload_ct &, uint64_t birth, uint64_t *handle)
        REQUIRES(mutex_);
    void prefetch_next() const REQUIRES(mutex_);
    void fill(uint32_t slot, const ovs_offload_ct &) REQUIRES(mutex_);
    void change(uint32_t index, const ovs_offload_ct &,
                const ovs_offload_ct_dir &, const ovs_offload_ct_dir &peer)
        REQUIRES(mutex_);
    void follow_windows(uint32_t slot, const ovs_offload_ct &)
        REQUIRES(mutex_);
    void remove(uint32_t slot) REQUIRES(mutex_);
    void forget_unplaced(uint64_t handle) REQUIRES(mutex_);
    void count_unplaced(uint16_t zone, int change) REQUIRES(mutex_);
    // 'hash' is that of the connection's tuple.
    bool publish_entry(uint32_t index, uint64_t hash) REQUIRES(mutex_);
    void clear_entry(uint32_t index, uint64_t hash) REQUIRES(mutex_);
    template <typename Fn>
    void for_each_of(const xf_conn &tuple, uint64_t hash, Fn fn) const;
    void show_youngest(uint32_t index, uint64_t hash) REQUIRES(mutex_);
    void hide(const xf_conn &tuple) REQUIRES(mutex_);
    bool restore_from(const OldConns &, uint32_t slot, uint64_t now_ms,
                      ovs_offload_ct *) REQUIRES(mutex_);
    uint32_t find_same(const ovs_offload_ct &) const REQUIRES(mutex_);
    const OldConns *table_of(uint64_t origin) const REQUIRES(mutex_);
    void unlink(uint32_t slot) REQUIRES(mutex_);
    void leave_if_changed(uint32_t slot, const ovs_offload_ct &)
        REQUIRES(mutex_);
    void add_old_use(uint32_t slot, ovs_offload_ct_use *, uint64_t *used) const
        EXCLUDES(mutex_);
    bool is_history(uint32_t slot, const Origin &, int d,
                    uint64_t used_ms) const REQUIRES(mutex_);
    void follow(uint32_t slot, Origin *) REQUIRES(mutex_);
    template <typename Fn>
    void for_each_origin(Fn fn) EXCLUDES(mutex_);
    bool is_current(uint64_t handle) const;
    uint64_t hash_of(const xf_conn &) const;
    bool is_executable(uint32_t slot) const;

    const ConnMemory mem_;
    const uint32_t mask_;
    mutable Mutex mutex_;
    bool is_open_ GUARDED_BY(mutex_) = false;
    // Two connection trackers wanted to be told of: flows do not say of which
    // one they are.
    bool conflict_ GUARDED_BY(mutex_) = false;
    SlotPool<uint32_t> slots_ GUARDED_BY(mutex_);
    // There was no memory to take note of a connection: until close() "there
    // is no such connection" is not said of any.
    bool forgot_ GUARDED_BY(mutex_) = false;
    // A connection without a slot.
    struct Unplaced {
        uint16_t zone;
        uint64_t birth;
    };
    std::unordered_map<uint64_t, Unplaced> unplaced_
        GUARDED_BY(mutex_);  // By handle.
    // Slots of connections that are not found, as one without a slot is the
    // youngest of their tuple.
    std::unordered_set<uint32_t> hidden_ GUARDED_BY(mutex_);
    // By zone: how many unplaced and hidden connections it has.
    std::unordered_map<uint16_t, size_t> incomplete_ GUARDED_BY(mutex_);
    // By slot, when OVS told of the connection first.
    std::vector<uint64_t> births_ GUARDED_BY(mutex_);
    uint64_t last_birth_ GUARDED_BY(mutex_) = 0;
    size_t n_ GUARDED_BY(mutex_) = 0;
    // Tables of earlier processes.
    std::vector<std::unique_ptr<const OldConns>> old_ GUARDED_BY(mutex_);
    // restore() goes on in this one of them, with this slot.
    size_t next_old_ GUARDED_BY(mutex_) = 0;
    uint32_t next_old_slot_ GUARDED_BY(mutex_) = 1;
    std::vector<uint32_t> old_ids_ GUARDED_BY(mutex_);  // Of all ever taken.
    // By slot: what connections come from.
    std::multimap<uint32_t, Origin> origins_ GUARDED_BY(mutex_);
    Restored restored_ GUARDED_BY(mutex_);
    bool has_restored_ GUARDED_BY(mutex_) = false;
    std::atomic<bool> has_old_ = false;  // Written with mutex_ held.
    // By slot: odd while a connection has it.  Written with mutex_ held.
    const std::unique_ptr<std::atomic<uint32_t>[]> generations_;
};

}  // namespace flowxlate

#endif
