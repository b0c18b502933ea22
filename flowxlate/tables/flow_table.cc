// SPDX-License-Identifier: Apache-2.0
#include "tables/flow_table.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>

#include "bpf/abi/hash.h"
#include "tables/buckets.h"
#include "tables/shared_words.h"

namespace flowxlate {
namespace {

Reject full(const char *what) { return {"table", what, ENOSPC}; }

bool is_less(const xf_rewrite &a, const xf_rewrite &b) {
    return std::memcmp(&a, &b, sizeof a) < 0;
}

bool is_equal(const xf_rewrite &a, const xf_rewrite &b) {
    return !std::memcmp(&a, &b, sizeof a);
}

// As it is in the table.
xf_rewrite stored(xf_rewrite r) {
    r.sets = std::any_of(std::begin(r.mask), std::end(r.mask),
                         [](auto word) { return word != 0; });
    return r;
}

bool tracks(const xf_rewrite &r) {
    return std::ranges::any_of(
        r.ct, [](auto &step) { return (step.flags & XF_CT_TRACK) != 0; });
}

uint32_t segments_of(const std::array<uint64_t, XF_KEY_WORDS> &mask) {
    uint32_t segments = 0;
    for (uint32_t i = 0; i < XF_KEY_WORDS; i++) {
        segments |= mask[i] ? xf_segment_of(i) : 0;
    }
    return segments;
}

}  // namespace

bool FlowAction::rewrites() const { return !is_equal(rewrite, {}); }

FlowStats &FlowStats::operator+=(const FlowStats &o) {
    packets += o.packets;
    bytes += o.bytes;
    used = std::max(used, o.used);
    tcp_flags |= o.tcp_flags;
    dropped += o.dropped;
    tracked += o.tracked;
    return *this;
}

FlowTable::FlowTable(const TableMemory &memory)
    : mem_(memory),
      slot_mask_(slot_mask(memory.flows.size())),
      n_rows_(memory.rows.n_rows()),
      flow_slots_(memory.flows.size() - 1),
      subtable_slots_(memory.subtables.size() - 1),
      subtables_(memory.subtables.size()),
      used_by_(memory.flows.size()),
      first_(memory.walks.size()),
      rewrite_slots_(memory.rewrites.size() - 1),
      rewrite_users_(memory.rewrites.size()) {
    by_mask_.reserve(mem_.subtables.size());
    by_rewrite_.reserve(mem_.rewrites.size());
}

bool FlowTable::has_retired() const {
    return !flow_slots_.retired().empty() || !subtable_slots_.retired().empty()
        || !rewrite_slots_.retired().empty();
}

bool FlowTable::begin_grace() {
    const size_t n = flow_slots_.begin_grace().size()
                   + subtable_slots_.begin_grace().size()
                   + rewrite_slots_.begin_grace().size();
    return n != 0;
}

void FlowTable::end_grace() {
    flow_slots_.end_grace();
    subtable_slots_.end_grace();
    rewrite_slots_.end_grace();
}

FlowTable::MaskId FlowTable::mask_id(xf_class cls, const xf_key &key,
                                     const xf_key &mask) {
    MaskId id{cls, key.recirc, {}};
    std::copy(std::begin(mask.word), std::end(mask.word), id.mask.begin());
    return id;
}

xf_key FlowTable::mask_of(SubtableSlot slot) const {
    xf_key mask{};
    const auto &bits = subtables_[index(slot)].id.mask;
    std::copy(bits.begin(), bits.end(), std::begin(mask.word));
    return mask;
}

size_t FlowTable::n_subtables(xf_class cls) const {
    return std::count_if(by_mask_.begin(), by_mask_.end(),
                         [=](auto &entry) { return entry.first.cls == cls; });
}

std::vector<SubtableSlot> FlowTable::walk(RecircSlot recirc,
                                          xf_class cls) const {
    std::vector<SubtableSlot> slots;
    for (auto s = first_[index(recirc)][cls]; s != SubtableSlot::kNone;
         s = subtables_[index(s)].next) {
        slots.push_back(s);
    }
    return slots;
}

uint64_t FlowTable::hash(SubtableSlot subtable, const xf_key &masked) const {
    uint64_t sum = xf_hash_word(index(subtable), mem_.secret[XF_KEY_WORDS]);
    const uint32_t has = segments_of(subtables_[index(subtable)].id.mask);

    for (uint32_t i = 0; i < XF_KEY_WORDS; i++) {
        if (i < XF_SHORT_KEY_WORDS || (xf_segment_of(i) & has)) {
            sum += xf_hash_word(masked.word[i], mem_.secret[i]);
        }
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
    if (id.recirc >= first_.size()) {
        return full("recirc_ids");
    }
    if (subtable_slots_.empty()) {
        return full("masks");
    }
    by_mask_.emplace(id, subtable_slots_.next());
    *slot = subtable_slots_.take();
    subtables_[index(*slot)] = {.id = id};
    xf_subtable &shared = mem_.subtables[index(*slot)];
    std::copy(id.mask.begin(), id.mask.end(), shared.mask);
    shared.segments = segments_of(id.mask);
    shared.cls = id.cls;
    return {};
}

// Puts a subtable at the beginning of its walk.
void FlowTable::publish_subtable(SubtableSlot slot) {
    Subtable &self = subtables_[index(slot)];
    self.next = first_[self.id.recirc][self.id.cls];
    self.is_published = true;
    if (self.next != SubtableSlot::kNone) {
        subtables_[index(self.next)].previous = slot;
    }
    publish(mem_.subtables[index(slot)].next, index(self.next));
    lead_to(slot, self.id, SubtableSlot::kNone);
}

// Makes what is behind 'previous' in the walk of 'id', or what it begins with,
// be 'slot'.
void FlowTable::lead_to(SubtableSlot slot, const MaskId &id,
                        SubtableSlot previous) {
    if (previous == SubtableSlot::kNone) {
        first_[id.recirc][id.cls] = slot;
        publish(mem_.walks[id.recirc].first[id.cls], index(slot));
    } else {
        subtables_[index(previous)].next = slot;
        publish(mem_.subtables[index(previous)].next, index(slot));
    }
}

// Takes an empty subtable away.  Readers that are there go on to those behind
// it, since nothing changes in it before a grace period has passed.
void FlowTable::put_subtable(SubtableSlot slot) {
    const Subtable &self = subtables_[index(slot)];

    subtable_slots_.retire(slot);
    by_mask_.erase(self.id);
    if (!self.is_published) {
        return;
    }
    lead_to(self.next, self.id, self.previous);
    if (self.next != SubtableSlot::kNone) {
        subtables_[index(self.next)].previous = self.previous;
    }
}

// Adds a user to the entry of these contents, which is a new one if need be.
Reject FlowTable::get_rewrite(const FlowAction &action, RewriteSlot *slot) {
    *slot = RewriteSlot::kNone;
    if (!action.rewrites()) {
        return {};
    }
    const xf_rewrite wanted = stored(action.rewrite);
    auto place =
        std::lower_bound(by_rewrite_.begin(), by_rewrite_.end(), wanted,
                         [this](RewriteSlot s, const xf_rewrite &r) {
                             return is_less(mem_.rewrites[index(s)], r);
                         });
    if (place == by_rewrite_.end()
        || !is_equal(mem_.rewrites[index(*place)], wanted)) {
        if (rewrite_slots_.empty()) {
            return full("rewrites");
        }
        const RewriteSlot taken = rewrite_slots_.take();
        mem_.rewrites[index(taken)] = wanted;
        place = by_rewrite_.insert(place, taken);
    }
    *slot = *place;
    rewrite_users_[index(*slot)]++;
    return {};
}

void FlowTable::put_rewrite(RewriteSlot slot) {
    if (slot == RewriteSlot::kNone || --rewrite_users_[index(slot)]) {
        return;
    }
    rewrite_slots_.retire(slot);
    std::erase(by_rewrite_, slot);
}

// Takes a free slot, which the caller knows to exist, and fills it in.
FlowSlot FlowTable::fill_slot(SubtableSlot subtable, const xf_key &key,
                              const xf_action &action, RewriteSlot rewrite) {
    const FlowSlot slot = flow_slots_.take();

    for (size_t row = 0; row < n_rows_; row++) {
        if (has_run(row)) {
            mem_.stats[row * mem_.flows.size() + index(slot)] = {};
        }
    }
    used_by_[index(slot)] = {subtable, rewrite};
    xf_flow &flow = mem_.flows[index(slot)];
    // Whoever has this slot from the flow cache looks whether it is live.
    publish(flow.subtable, index(subtable));
    flow.action = action;
    flow.action.rewrite = index(rewrite);
    const auto *rest = key.word + XF_SHORT_KEY_WORDS;
    std::copy(key.word, rest, flow.key);
    std::copy(rest, std::end(key.word), mem_.key_rests[index(slot)].word);
    return slot;
}

void FlowTable::set_name(FlowSlot slot, const Ufid &ufid) {
    static_assert(sizeof(xf_ufid) == sizeof ufid.bytes);
    if (!names_.empty()) {
        std::memcpy(names_[index(slot)].word, ufid.bytes.data(),
                    sizeof ufid.bytes);
    }
}

xf_key FlowTable::key_in(FlowSlot slot) const {
    const auto &begin = mem_.flows[index(slot)].key;
    const auto &rest = mem_.key_rests[index(slot)].word;
    xf_key key;
    auto *next = std::copy(std::begin(begin), std::end(begin), key.word);
    std::copy(std::begin(rest), std::end(rest), next);
    return key;
}

uint32_t FlowTable::entry_of(uint64_t hash, FlowSlot slot) const {
    return (xf_hash_signature(hash) & ~slot_mask_) | index(slot);
}

void FlowTable::set_live(FlowSlot slot, bool live) {
    publish(mem_.flows[index(slot)].subtable,
            index(subtable_of(slot)) | (live ? XF_FLOW_LIVE : 0));
}

Reject FlowTable::insert(xf_class cls, const xf_key &key, const xf_key &mask,
                         const FlowAction &action, FlowSlot *slot,
                         const Ufid &ufid) {
    SubtableSlot subtable;
    RewriteSlot rewrite;
    bool is_new;

    if (flow_slots_.empty()) {
        return full("flows");
    }
    if (auto r = get_subtable(mask_id(cls, key, mask), &subtable, &is_new)) {
        return r;
    }
    if (auto r = get_rewrite(action, &rewrite)) {
        if (is_new) {
            put_subtable(subtable);
        }
        return r;
    }

    const FlowSlot filled = fill_slot(subtable, key, action.action, rewrite);
    set_name(filled, ufid);
    const uint64_t h = hash(subtable, key);
    if (!bucket_pair(mem_.buckets, h).insert(entry_of(h, filled))) {
        flow_slots_.give_back(filled);
        put_rewrite(rewrite);
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

Reject FlowTable::replace(FlowSlot *slot, const FlowAction &action) {
    const auto [subtable, old] = used_by_[index(*slot)];
    RewriteSlot rewrite;
    const xf_key key = key_in(*slot);

    if (flow_slots_.empty()) {
        return full("flows");
    }
    if (auto r = get_rewrite(action, &rewrite)) {
        return r;
    }
    const uint64_t h = hash(subtable, key);
    const FlowSlot filled = fill_slot(subtable, key, action.action, rewrite);
    if (!names_.empty()) {
        names_[index(filled)] = names_[index(*slot)];
    }
    bucket_pair(mem_.buckets, h)
        .replace(entry_of(h, *slot), entry_of(h, filled));
    set_live(filled, true);
    set_live(*slot, false);
    put_rewrite(old);
    flow_slots_.retire(*slot);
    *slot = filled;
    return {};
}

void FlowTable::remove(FlowSlot slot) {
    const auto [subtable, rewrite] = used_by_[index(slot)];

    set_live(slot, false);
    if (--subtables_[index(subtable)].n_flows == 0) {
        put_subtable(subtable);
    }
    const uint64_t h = hash(subtable, key_in(slot));
    bucket_pair(mem_.buckets, h).erase(entry_of(h, slot));
    put_rewrite(rewrite);
    flow_slots_.retire(slot);
    n_flows_--;
}

bool FlowTable::has_match(FlowSlot slot, xf_class cls, const xf_key &key,
                          const xf_key &mask) const {
    const xf_key mine = key_in(slot);
    return subtables_[index(subtable_of(slot))].id == mask_id(cls, key, mask)
        && std::equal(std::begin(key.word), std::end(key.word), mine.word);
}

bool FlowTable::has_action(FlowSlot slot, const FlowAction &action) const {
    const RewriteSlot rewrite = used_by_[index(slot)].rewrite;
    const xf_action &mine = mem_.flows[index(slot)].action;
    xf_action wanted = action.action;
    wanted.rewrite = index(rewrite);
    return !std::memcmp(&mine, &wanted, sizeof mine)
        && (rewrite != RewriteSlot::kNone ? is_equal(
                mem_.rewrites[index(rewrite)], stored(action.rewrite))
                                          : !action.rewrites());
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

bool FlowTable::has_run(size_t row) const {
    return std::ranges::any_of(mem_.rows.cpus_of(row), [this](uint32_t cpu) {
        return peek(mem_.cpus[cpu].seq) != 0;
    });
}

FlowStats FlowTable::stats(FlowSlot slot) const {
    FlowStats sum;
    for (size_t row = 0; row < n_rows_; row++) {
        if (!has_run(row)) {
            continue;
        }
        auto &s = mem_.stats[row * mem_.flows.size() + index(slot)];
        sum += {peek(s.packets),
                peek(s.bytes),
                peek(s.used),
                static_cast<uint16_t>(peek(s.tcp_flags)),
                0,
                0};
    }
    const xf_action &action = mem_.flows[index(slot)].action;
    sum.dropped = action.verdict == XF_DROP ? sum.packets : 0;
    // Shared memory: an index in it is checked, whoever has written it.
    const bool is_tracked = action.rewrite < mem_.rewrites.size()
                         && tracks(mem_.rewrites[action.rewrite]);
    sum.tracked = is_tracked ? sum.packets : 0;
    return sum;
}

}  // namespace flowxlate
