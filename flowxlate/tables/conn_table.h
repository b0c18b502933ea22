// SPDX-License-Identifier: Apache-2.0
// Where connections live: the writer's side of what xdp_flow_abi.h describes
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
// Reclamation
// -----------
// A program may hold on to a slot for as long as it runs.  A slot that was
// freed is retired, as in flow_table.h: the caller takes what is retired,
// waits until every CPU has left the program once, and gives it back.
#ifndef FLOWXLATE_CONN_TABLE_H
#define FLOWXLATE_CONN_TABLE_H

#include <atomic>
#include <bit>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "base/guarded.h"
#include "base/types.h"

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
    bool use(uint64_t handle, ovs_offload_ct_use *) const;

    // Does OVS tell of its connections?
    bool is_open() const EXCLUDES(mutex_);

    // Slots that no packet finds any more.
    std::vector<uint32_t> take_retired() EXCLUDES(mutex_);
    // Gives back what take_retired() gave out, after a grace period.
    void release(std::vector<uint32_t>) EXCLUDES(mutex_);
    // Takes it back, for another try.
    void retire_again(const std::vector<uint32_t> &) EXCLUDES(mutex_);

    struct Figures {
        size_t n = 0;           // Connections that are here,
        size_t n_unplaced = 0;  // those for which there was no room,
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
    std::vector<uint32_t> free_ GUARDED_BY(mutex_), retired_
        GUARDED_BY(mutex_);
    // There was no memory to take note of a connection: until close() "there
    // is no such connection" is not said of any.
    bool forgot_ GUARDED_BY(mutex_) = false;
    // Those without a slot, by handle; slots of those that cannot be found for
    // such a one; how many of both are in a zone.
    struct Unplaced {
        uint16_t zone;
        uint64_t birth;
    };
    std::unordered_map<uint64_t, Unplaced> unplaced_ GUARDED_BY(mutex_);
    std::unordered_set<uint32_t> hidden_ GUARDED_BY(mutex_);
    std::unordered_map<uint16_t, size_t> incomplete_ GUARDED_BY(mutex_);
    // By slot, when OVS told of the connection first.
    std::vector<uint64_t> births_ GUARDED_BY(mutex_);
    uint64_t last_birth_ GUARDED_BY(mutex_) = 0;
    size_t n_ GUARDED_BY(mutex_) = 0;
    // By slot: odd while a connection has it.  Written with mutex_ held.
    const std::unique_ptr<std::atomic<uint32_t>[]> generations_;
};

}  // namespace flowxlate

#endif
