// SPDX-License-Identifier: Apache-2.0
// Where megaflows live: the writer's side of the tables that bpf/abi/flow.h
// describes.
//
// Ownership and threads
// ---------------------
// A FlowTable does not own the memory it writes (it is mapped from BPF arrays,
// or comes from a test), only the knowledge of what is in it.  It has one
// writer: the caller serializes all calls.  XDP programs on any CPU read the
// memory at any time, without a lock.
//
// Order of stores (invariant 3)
// -----------------------------
// insert():  statistics zeroed, slot filled in, then the bucket entry with one
//            release store, then, for a new mask, its subtable at the walk's
//            begin; then the slot is "live": programs that remember it (the
//            flow cache) do not ask the bucket.
// replace(): another slot filled in, then the same bucket entry overwritten
//            with one release store, then the new slot live and the old one
//            not: a reader sees the old flow or the new one.
// remove():  the reverse of insert().
//
// Header fields to rewrite
// ------------------------
// Flows that write the same bits share one entry of 'rewrites', which is found
// by its contents ('by_rewrite_', sorted by them) and counts its users.  It is
// filled before the flow is published and retired with its last user.
//
// Reclamation
// -----------
// A reader may hold on to a slot, subtable or rewrite for as long as it runs.
// remove() and replace() therefore only retire them (slot_pool.h): the caller
// says when a grace period begins and when it is over.
#ifndef FLOWXLATE_FLOW_TABLE_H
#define FLOWXLATE_FLOW_TABLE_H

#include <array>
#include <bit>
#include <cstdint>
#include <span>
#include <vector>

#include <boost/container/flat_map.hpp>

#include "base/types.h"
#include "bpf/abi/capture.h"
#include "bpf/abi/counters.h"
#include "bpf/abi/handover.h"
#include "tables/buckets.h"
#include "tables/cpu_rows.h"
#include "tables/recirc.h"
#include "tables/slot_pool.h"

namespace flowxlate {

// The memory that the writer and the programs share.  Whoever has CAP_BPF may
// write there, so the writer never reads an index or a length back, but keeps
// its own; what it does read back (keys, contents of rewrites, buckets) may
// then be wrong, and never leads out of bounds.
struct TableMemory {
    std::span<xf_bucket> buckets;      // A power of 2 of them.
    std::span<xf_flow> flows;          // Slot 0 is not used.
    std::span<xf_key_rest> key_rests;  // By flow slot.
    std::span<xf_subtable> subtables;  // Slot 0 is not used.
    std::span<xf_walk> walks;          // By recirculation slot.
    std::span<xf_rewrite> rewrites;    // Slot 0 is not used.
    std::span<xf_stats> stats;         // [row][flow slot].
    std::span<xf_cpu> cpus;            // By CPU number.
    CpuRows rows;  // What each of them has been told of its row.
    std::array<uint64_t, XF_KEY_WORDS + 1> secret{};  // For xf_hash_word().
};

// Index of an entry in xf_rewrites.
enum class RewriteSlot : uint16_t { kNone = 0 };

// What a flow does.  'action.rewrite' is the table's to fill in.
struct FlowAction {
    // All zero in 'r': nothing is rewritten.
    FlowAction(const xf_action &a, const xf_rewrite &r = {})  // NOLINT
        : action(a), rewrite(r) {}

    bool rewrites() const;

    xf_action action;
    xf_rewrite rewrite;
};

// A flow's counters, summed over all CPUs.
struct FlowStats {
    uint64_t packets = 0;
    uint64_t bytes = 0;
    uint64_t used = 0;       // The kernel's jiffies (clock.h), 0 = never.
    uint16_t tcp_flags = 0;  // Host order.
    uint64_t dropped = 0;    // Of 'packets', those that the flow has dropped.
    uint64_t tracked = 0;    // The same for ct().

    FlowStats &operator+=(const FlowStats &);
};

// What a flow has counted from one look at it to the next.
struct Growth {
    uint64_t packets = 0, bytes = 0;

    Growth &operator+=(const FlowStats &s) {
        packets += s.packets;
        bytes += s.bytes;
        return *this;
    }
};

class FlowTable {
public:
    // 'memory' is zeroed and must outlive the table.
    explicit FlowTable(const TableMemory &memory);

    // Publishes a flow that matches 'key' under 'mask' (the key is masked
    // already) and does what 'action' says.  Stores its slot in '*slot'.
    // Refuses, changing nothing, if there is no room: table/flows,
    // table/buckets, table/masks, table/rewrites or table/recirc_ids (ENOSPC).
    // 'ufid' is for those who read names().
    Reject insert(xf_class cls, const xf_key &key, const xf_key &mask,
                  const FlowAction &action, FlowSlot *slot,
                  const Ufid &ufid = {});

    // Replaces what the flow in '*slot' does.  Its counters start from 0 in
    // the new slot, which is stored in '*slot'; those of the old one stay
    // readable until the end of a grace period.
    Reject replace(FlowSlot *slot, const FlowAction &action);

    void remove(FlowSlot slot);

    // From now on the ufids of flows are there, by slot, before a flow is
    // published; the caller fills in those that are in the tables.  With an
    // empty 'names' they are nowhere.
    void set_names(std::span<xf_ufid> names) { names_ = names; }
    void set_name(FlowSlot, const Ufid &);

    // Whether the flow in 'slot' has this match.
    bool has_match(FlowSlot slot, xf_class cls, const xf_key &key,
                   const xf_key &mask) const;

    // Whether the flow in 'slot' does what 'action' says.
    bool has_action(FlowSlot slot, const FlowAction &action) const;

    // Waits until no program that may have seen what was published before this
    // call is still running: then the counters of a removed flow are final.
    // Takes some microseconds.  Relies on x86's order of stores.  Returns
    // false if a CPU stayed in the program for 'kQuiesceTimeoutUs', say
    // because the hypervisor took it away.
    bool quiesce() const;
    static constexpr int kQuiesceTimeoutUs = 10'000;

    FlowStats stats(FlowSlot slot) const;

    // Slots that were given up become free in grace periods (slot_pool.h).
    bool has_retired() const;  // Since begin_grace().
    // Returns false if nothing waits for the period that begins.
    bool begin_grace();
    void end_grace();
    // Those that wait for the next one, in the order in which they came.
    const std::vector<RewriteSlot> &retired_rewrites() const {
        return rewrite_slots_.retired();
    }
    const std::vector<FlowSlot> &retired_flows() const {
        return flow_slots_.retired();
    }

    // The hash of a masked key in a subtable.  The program's masked_hash()
    // must compute the same.
    uint64_t hash(SubtableSlot, const xf_key &masked) const;

    // That of the flow in 'slot'.
    SubtableSlot subtable_of(FlowSlot slot) const {
        return used_by_[index(slot)].subtable;
    }

    // Of a subtable that has flows.
    xf_class class_of(SubtableSlot slot) const {
        return subtables_[index(slot)].id.cls;
    }
    xf_key mask_of(SubtableSlot slot) const;
    // The subtables that packets of this class are looked up in, in the order
    // in which they are tried.
    std::vector<SubtableSlot> walk(RecircSlot, xf_class) const;
    // The IP protocol that a flow matches, if any.
    uint8_t proto_of(FlowSlot slot) const { return key_in(slot).nw_proto; }

    size_t n_flows() const { return n_flows_; }
    size_t max_flows() const { return mem_.flows.size() - 1; }
    size_t n_subtables() const { return by_mask_.size(); }
    size_t n_subtables(xf_class) const;
    size_t n_rewrites() const { return by_rewrite_.size(); }
    const TableMemory &memory() const { return mem_; }

private:
    struct MaskId {
        xf_class cls;
        uint16_t recirc;  // Slot.
        std::array<uint64_t, XF_KEY_WORDS> mask;
        auto operator<=>(const MaskId &) const = default;  // NOLINT: clang 14
    };
    struct Subtable {
        MaskId id;
        size_t n_flows = 0;
        // Neighbours in the walk, as it is published.
        SubtableSlot previous{}, next{};
        bool is_published = false;
    };

    // What a flow uses besides its slot.
    struct Uses {
        SubtableSlot subtable;
        RewriteSlot rewrite;
    };
    // Has the program ever run on a CPU of this row?  If not, no counter of
    // it is used: a machine may have many CPUs that get no packets.
    bool has_run(size_t row) const;
    static MaskId mask_id(xf_class cls, const xf_key &key, const xf_key &mask);
    Reject get_subtable(const MaskId &, SubtableSlot *, bool *is_new);
    void put_subtable(SubtableSlot);
    void publish_subtable(SubtableSlot);
    void lead_to(SubtableSlot, const MaskId &, SubtableSlot previous);
    Reject get_rewrite(const FlowAction &, RewriteSlot *);
    void put_rewrite(RewriteSlot);
    FlowSlot fill_slot(SubtableSlot, const xf_key &, const xf_action &,
                       RewriteSlot);
    void set_live(FlowSlot, bool);
    xf_key key_in(FlowSlot) const;
    uint32_t entry_of(uint64_t hash, FlowSlot) const;

    TableMemory mem_;
    std::span<xf_ufid> names_;
    uint32_t slot_mask_;
    size_t n_rows_;
    size_t n_flows_ = 0;
    SlotPool<FlowSlot> flow_slots_;
    SlotPool<SubtableSlot> subtable_slots_;
    std::vector<Subtable> subtables_;  // By slot.
    std::vector<Uses> used_by_;        // By flow slot.
    // Where walks begin: by recirculation slot and class.
    std::vector<std::array<SubtableSlot, XF_N_CLASSES>> first_;
    boost::container::flat_map<MaskId, SubtableSlot> by_mask_;
    SlotPool<RewriteSlot> rewrite_slots_;
    std::vector<RewriteSlot> by_rewrite_;  // Those in use, by contents.
    std::vector<uint32_t> rewrite_users_;  // By slot.
};

}  // namespace flowxlate

#endif
