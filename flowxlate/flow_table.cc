// SPDX-License-Identifier: Apache-2.0
#include "flow_table.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>

namespace flowxlate {
namespace {

Reject full(const char *what) { return {"table", what, ENOSPC}; }

// The programs read these words while they change.
template <typename T>
void publish(T &word, std::type_identity_t<T> value) {
    std::atomic_ref(word).store(value, std::memory_order_release);
}
template <typename T>
T peek(T &word) {
    return std::atomic_ref(word).load(std::memory_order_acquire);
}

uint64_t entry_of(uint64_t hash, FlowSlot slot) {
    return uint64_t{xf_hash_signature(hash)} << 32 | index(slot);
}

}  // namespace

FlowStats &FlowStats::operator+=(const FlowStats &o) {
    packets += o.packets;
    bytes += o.bytes;
    used = std::max(used, o.used);
    tcp_flags |= o.tcp_flags;
    return *this;
}

FlowTable::FlowTable(TableMemory memory)
    : mem_(memory),
      n_cpus_(memory.cpus.size()),
      subtables_(memory.subtables.size()) {
    // Downwards, so that the low slots, close together, are used first.
    for (size_t i = mem_.flows.size(); --i > 0;) {
        free_flows_.push_back(FlowSlot{static_cast<uint32_t>(i)});
    }
    for (size_t i = mem_.subtables.size(); --i > 0;) {
        free_subtables_.push_back(SubtableSlot{static_cast<uint32_t>(i)});
    }
    by_mask_.reserve(mem_.subtables.size());
    retired_.flows.reserve(mem_.flows.size());
    retired_.subtables.reserve(mem_.subtables.size());
}

FlowTable::Retired FlowTable::take_retired() {
    Retired batch = retired_;
    retired_.flows.clear();
    retired_.subtables.clear();
    return batch;
}

FlowTable::MaskId FlowTable::mask_id(xf_class cls, const xf_key &mask) {
    MaskId id{cls, {}};
    std::copy(std::begin(mask.word), std::end(mask.word), id.mask.begin());
    return id;
}

xf_bucket &FlowTable::bucket1(uint64_t hash) {
    return mem_.buckets[xf_hash_bucket1(hash) & (mem_.buckets.size() - 1)];
}

xf_bucket &FlowTable::bucket2(uint64_t hash) {
    return mem_.buckets[xf_hash_bucket2(hash) & (mem_.buckets.size() - 1)];
}

uint64_t FlowTable::hash(SubtableSlot subtable, const xf_key &masked) const {
    uint64_t sum = xf_hash_word(index(subtable), mem_.secret[XF_KEY_WORDS]);
    const uint32_t n = xf_class_words(subtables_[index(subtable)].id.cls);

    for (uint32_t i = 0; i < n; i++) {
        sum += xf_hash_word(masked.word[i], mem_.secret[i]);
    }
    return xf_hash_finish(sum);
}

Reject FlowTable::get_subtable(const MaskId &id, SubtableSlot *slot,
                               bool *is_new) {
    auto it = by_mask_.find(id);
    *is_new = it == by_mask_.end();
    if (!*is_new) {
        *slot = it->second;
        return {};
    }
    // A walk holds as many subtables as there are, so it cannot be full.
    if (free_subtables_.empty()) {
        return full("masks");
    }
    *slot = free_subtables_.back();
    by_mask_.emplace(id, *slot);
    free_subtables_.pop_back();
    subtables_[index(*slot)] = {id, 0};
    std::copy(id.mask.begin(), id.mask.end(),
              mem_.subtables[index(*slot)].mask);
    mem_.subtables[index(*slot)].n_words = xf_class_words(id.cls);
    return {};
}

void FlowTable::publish_subtable(SubtableSlot slot) {
    auto &walk = mem_.walks[subtables_[index(slot)].id.cls];
    publish(walk.subtable[walk.n], index(slot));
    publish(walk.n, walk.n + 1);
}

// Takes an empty subtable away.  Its place in the walk goes to the last one; a
// reader that is between the two places misses that one once, which is safe.
void FlowTable::put_subtable(SubtableSlot slot) {
    const auto &id = subtables_[index(slot)].id;
    auto &walk = mem_.walks[id.cls];
    auto *end = walk.subtable + walk.n;
    auto *place = std::find(walk.subtable, end, index(slot));

    retired_.subtables.push_back(slot);
    by_mask_.erase(id);
    if (place != end) {
        publish(*place, end[-1]);
        publish(walk.n, walk.n - 1);
        publish(end[-1], 0);
    }
}

// Takes a free slot, which the caller knows to exist, and fills it in.
FlowSlot FlowTable::fill_slot(SubtableSlot subtable, const xf_key &key,
                              const xf_action &action) {
    const FlowSlot slot = free_flows_.back();
    free_flows_.pop_back();

    for (size_t cpu = 0; cpu < n_cpus_; cpu++) {
        if (has_run(cpu)) {
            mem_.stats[cpu * mem_.flows.size() + index(slot)] = {};
        }
    }
    xf_flow &flow = mem_.flows[index(slot)];
    flow.subtable = index(subtable);
    flow.action = action;
    std::copy(std::begin(key.word), std::end(key.word), flow.key);
    return slot;
}

void FlowTable::set_live(FlowSlot slot, bool live) {
    publish(mem_.flows[index(slot)].live, live);
}

bool FlowTable::publish_entry(uint64_t hash, FlowSlot slot) {
    auto &first = bucket1(hash);
    auto &second = bucket2(hash);

    for (auto &entry : first.entry) {
        if (!entry) {
            publish(entry, entry_of(hash, slot));
            return true;
        }
    }
    for (auto &entry : second.entry) {
        if (!entry && &first != &second) {
            publish(first.overflow, first.overflow + 1);
            publish(entry, entry_of(hash, slot));
            return true;
        }
    }
    return false;
}

__u64 *FlowTable::find_entry(uint64_t hash, FlowSlot slot, bool *overflowed) {
    auto find_in = [&](xf_bucket &b) {
        auto *end = std::end(b.entry);
        auto *e = std::find(std::begin(b.entry), end, entry_of(hash, slot));
        return e == end ? nullptr : e;
    };
    auto *e = find_in(bucket1(hash));
    *overflowed = !e;
    return e ? e : find_in(bucket2(hash));
}

Reject FlowTable::insert(xf_class cls, const xf_key &key, const xf_key &mask,
                         const xf_action &action, FlowSlot *slot) {
    SubtableSlot subtable;
    bool is_new;

    if (free_flows_.empty()) {
        return full("flows");
    }
    if (auto r = get_subtable(mask_id(cls, mask), &subtable, &is_new)) {
        return r;
    }

    const FlowSlot filled = fill_slot(subtable, key, action);
    if (!publish_entry(hash(subtable, key), filled)) {
        free_flows_.push_back(filled);
        if (is_new) {
            put_subtable(subtable);
        }
        return full("buckets");
    }
    if (is_new) {
        publish_subtable(subtable);
    }
    set_live(filled, true);
    subtables_[index(subtable)].n_flows++;
    n_flows_++;
    *slot = filled;
    return {};
}

Reject FlowTable::replace(FlowSlot *slot, const xf_action &action) {
    const xf_flow &old = mem_.flows[index(*slot)];
    const SubtableSlot subtable{old.subtable};
    xf_key key;
    bool overflowed;

    if (free_flows_.empty()) {
        return full("flows");
    }
    std::copy(std::begin(old.key), std::end(old.key), key.word);
    const uint64_t h = hash(subtable, key);
    const FlowSlot filled = fill_slot(subtable, key, action);
    if (auto *entry = find_entry(h, *slot, &overflowed)) {
        publish(*entry, entry_of(h, filled));
    }
    set_live(filled, true);
    set_live(*slot, false);
    retired_.flows.push_back(*slot);
    *slot = filled;
    return {};
}

void FlowTable::remove(FlowSlot slot) {
    const xf_flow &flow = mem_.flows[index(slot)];
    const SubtableSlot subtable{flow.subtable};
    xf_key key;
    bool overflowed;

    set_live(slot, false);
    if (--subtables_[index(subtable)].n_flows == 0) {
        put_subtable(subtable);
    }
    std::copy(std::begin(flow.key), std::end(flow.key), key.word);
    const uint64_t h = hash(subtable, key);
    if (auto *entry = find_entry(h, slot, &overflowed)) {
        publish(*entry, 0);
        if (overflowed) {
            auto &first = bucket1(h);
            publish(first.overflow, first.overflow - 1);
        }
    }
    retired_.flows.push_back(slot);
    n_flows_--;
}

bool FlowTable::has_match(FlowSlot slot, xf_class cls, const xf_key &key,
                          const xf_key &mask) const {
    const xf_flow &flow = mem_.flows[index(slot)];
    return subtables_[flow.subtable].id == mask_id(cls, mask)
        && std::equal(std::begin(flow.key), std::end(flow.key), key.word);
}

bool FlowTable::has_action(FlowSlot slot, const xf_action &action) const {
    return !std::memcmp(&mem_.flows[index(slot)].action, &action,
                        sizeof action);
}

bool FlowTable::quiesce() const {
    using namespace std::chrono;
    // The program announces itself with a plain store, which may still be on
    // its way to us when the program's loads have been done.  No CPU holds a
    // store back for microseconds.
    constexpr auto kStoreVisible = microseconds(5);
    const auto start = steady_clock::now();
    // A full barrier; the thread sanitizer knows no fences.
    std::atomic<int> barrier{0};
    barrier.exchange(1, std::memory_order_seq_cst);
    while (steady_clock::now() - start < kStoreVisible) {
    }

    for (auto &cpu : mem_.cpus) {
        const uint64_t seq = peek(cpu.seq);
        while ((seq & 1) && peek(cpu.seq) == seq) {
            if (steady_clock::now() - start
                > microseconds(kQuiesceTimeoutUs)) {
                return false;
            }
            std::this_thread::yield();
        }
    }
    return true;
}

bool FlowTable::has_run(size_t cpu) const {
    return peek(mem_.cpus[cpu].seq) != 0;
}

FlowStats FlowTable::stats(FlowSlot slot) const {
    FlowStats sum;
    for (size_t cpu = 0; cpu < n_cpus_; cpu++) {
        if (!has_run(cpu)) {
            continue;
        }
        auto &s = mem_.stats[cpu * mem_.flows.size() + index(slot)];
        sum += {peek(s.packets), peek(s.bytes), peek(s.used),
                static_cast<uint16_t>(peek(s.tcp_flags))};
    }
    return sum;
}

void FlowTable::retire_again(const Retired &r) {
    retired_.flows.insert(retired_.flows.end(), r.flows.begin(),
                          r.flows.end());
    retired_.subtables.insert(retired_.subtables.end(), r.subtables.begin(),
                              r.subtables.end());
}

void FlowTable::release(const Retired &r) {
    free_flows_.insert(free_flows_.end(), r.flows.begin(), r.flows.end());
    free_subtables_.insert(free_subtables_.end(), r.subtables.begin(),
                           r.subtables.end());
}

}  // namespace flowxlate
