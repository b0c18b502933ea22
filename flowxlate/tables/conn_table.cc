// SPDX-License-Identifier: Apache-2.0
#include "tables/conn_table.h"

#include <linux/openvswitch.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <functional>
#include <new>
#include <utility>

#include "bpf/abi/hash.h"
#include "tables/buckets.h"
#include "tables/shared_words.h"

namespace flowxlate {
namespace {

// Of a handle: the connection has no slot.
constexpr uint64_t kUnplaced = 1ULL << 63;
constexpr unsigned kGenerationShift = 32;
constexpr size_t kCacheLine = 64;

// Publishes all words of 'to': use() may still look at them, and finds out
// afterwards that the slot is another's.
template <typename T>
void publish_all(T &to, const T &from) {
    auto *words = reinterpret_cast<uint64_t *>(&to);
    std::array<uint64_t, sizeof(T) / sizeof *words> values;
    std::memcpy(values.data(), &from, sizeof from);
    for (size_t i = 0; i < values.size(); i++) {
        publish(words[i], values[i]);
    }
}

uint32_t slot_of(uint64_t handle) { return static_cast<uint32_t>(handle); }
uint32_t original(uint32_t slot) { return 2 * slot; }
uint32_t reply(uint32_t slot) { return 2 * slot + 1; }

bool is_ipv4(const ovs_offload_ct &c) { return c.l3 == 4; }

void put_tuple(const ovs_offload_ct &c, const uint8_t *src, const uint8_t *dst,
               __u64 addr[4]) {
    const size_t size = is_ipv4(c) ? 4 : 16;
    auto *to = reinterpret_cast<uint8_t *>(addr);
    std::memcpy(to, src, size);
    std::memcpy(to + size, dst, size);
}

uint32_t ports_of(uint16_t src, uint16_t dst) {
    return src | static_cast<uint32_t>(dst) << 16;
}

xf_conn_key key_of(const xf_conn &conn) {
    xf_conn_key key;
    std::copy(std::begin(conn.addr), std::end(conn.addr), key.addr);
    std::memcpy(&key.id, &conn.ports, sizeof key.id);
    return key;
}

bool has_same_tuple(const xf_conn &a, const xf_conn &b) {
    return !std::memcmp(&a, &b, offsetof(xf_conn, live));
}

// How packets of direction 'd' come, and what translation makes of them: the
// reverse of how the answers come.
xf_conn tuples_of(const ovs_offload_ct &c, int d) {
    const auto &mine = c.dir[d], &other = c.dir[1 - d];
    xf_conn conn{};
    put_tuple(c, mine.src, mine.dst, conn.addr);
    conn.ports = ports_of(mine.tp_src, mine.tp_dst);
    conn.zone = c.zone;
    conn.proto = c.proto;
    conn.cls = is_ipv4(c) ? XF_CLASS_IPV4 : XF_CLASS_IPV6;
    put_tuple(c, other.dst, other.src, conn.to_addr);
    conn.to_ports = ports_of(other.tp_dst, other.tp_src);
    return conn;
}

// Of something that will be written soon.
template <typename T>
void prefetch(const T &what) {
    for (size_t line = 0; line < sizeof what; line += kCacheLine) {
        __builtin_prefetch(reinterpret_cast<const char *>(&what) + line, 1);
    }
}

uint64_t now_ms() {
    timespec t{};
    clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<uint64_t>(t.tv_sec) * 1000 + t.tv_nsec / 1'000'000;
}

// Sequence numbers wrap around.
template <typename T>
void raise(T &word, std::type_identity_t<T> to) {
    std::atomic_ref ref(word);
    T now = ref.load(std::memory_order_relaxed);
    while (static_cast<std::make_signed_t<T>>(to - now) > 0
           && !ref.compare_exchange_weak(now, to)) {
    }
}

}  // namespace

ConnTable::ConnTable(const ConnMemory &memory)
    : mem_(memory),
      mask_(slot_mask(memory.conns.size())),
      slots_(memory.conns.size() / 2 - 1),
      births_(memory.conns.size() / 2),
      generations_(new std::atomic<uint32_t>[memory.conns.size() / 2] {}) {}

// -- Settings ---------------------------------------------------------------

void ConnTable::write_settings(const ovs_offload_ct_settings &s) {
    uint32_t bits = 0;
    if (is_open_ && !conflict_) {
        bits = XF_CT_OPEN | (s.tcp_seq_chk ? XF_CT_WINDOWS : 0)
             | (s.expects || forgot_ ? XF_CT_EXPECTS : 0);
    }
    publish(mem_.settings[0].ct, bits);
}

int ConnTable::open(const ovs_offload_ct_settings &s) {
    MutexLock lock(mutex_);
    conflict_ |= is_open_;
    is_open_ = true;
    write_settings(s);
    return conflict_ ? EBUSY : 0;
}

void ConnTable::close() {
    MutexLock lock(mutex_);
    is_open_ = forgot_ = false;
    write_settings({});
    for (uint32_t slot = 1; slot < mem_.conns.size() / 2; slot++) {
        if (generations_[slot] & 1) {
            remove(slot);
        }
    }
    unplaced_.clear();
    hidden_.clear();
    incomplete_.clear();
    std::ranges::fill(mem_.zones[0].incomplete, 0);
}

void ConnTable::set(const ovs_offload_ct_settings &s) {
    MutexLock lock(mutex_);
    write_settings(s);
}

bool ConnTable::is_open() const {
    MutexLock lock(mutex_);
    return is_open_ && !conflict_;
}

// -- Connections ------------------------------------------------------------

bool ConnTable::is_current(uint64_t handle) const {
    const uint32_t slot = slot_of(handle);
    return !(handle & kUnplaced) && slot && slot < mem_.conns.size() / 2
        && generations_[slot] == handle >> kGenerationShift;
}

int ConnTable::put(const ovs_offload_ct &c, uint64_t *handle) {
    MutexLock lock(mutex_);
    if (!is_open_) {
        return ENOENT;
    }
    if (*handle & kUnplaced) {
        const uint64_t old = *handle;
        const auto it = unplaced_.find(old);
        if (it == unplaced_.end()) {
            return ENOENT;
        }
        if (place(c, it->second.birth, handle)) {
            forget_unplaced(old);
        }
        return 0;
    }
    if (*handle) {
        if (!is_current(*handle)) {
            return ENOENT;
        }
        fill(slot_of(*handle), c);
        leave_if_changed(slot_of(*handle), c);
        return 0;
    }
    if (!c.origin) {
        for (const auto &table : old_) {
            table->doubt(c.zone);
        }
    }
    const OldConns *old = c.origin ? table_of(c.origin) : nullptr;
    const auto old_slot = static_cast<uint32_t>(c.origin);
    const uint64_t birth = ++last_birth_;
    if (!place(c, birth, handle)) {
        if (old) {  // OVS judges all of its packets.
            old->release(old_slot);
            old->doubt(c.zone);
        }
        return put_unplaced(c, birth, handle);
    }
    if (old) {
        origins_.emplace(slot_of(*handle), Origin{old, old_slot});
        restored_.n_refused--;
        restored_.n++;
    }
    return 0;
}

// OVS goes on with the connection in any case.
int ConnTable::put_unplaced(const ovs_offload_ct &c, uint64_t birth,
                            uint64_t *handle) {
    const uint64_t name = kUnplaced | birth;
    bool is_counted = false;
    try {
        count_unplaced(c.zone, 1);
        is_counted = true;
        unplaced_.emplace(name, Unplaced{c.zone, birth});
        hide(tuples_of(c, 0));
        hide(tuples_of(c, 1));
        *handle = name;
        return 0;
    } catch (const std::bad_alloc &) {
        if (is_counted) {
            unplaced_.erase(name);  // It may not be there.
            count_unplaced(c.zone, -1);
        }
        forgot_ = true;
        publish(mem_.settings[0].ct, mem_.settings[0].ct | XF_CT_EXPECTS);
        return ENOMEM;
    }
}

void ConnTable::forget_unplaced(uint64_t handle) {
    if (const auto it = unplaced_.find(handle); it != unplaced_.end()) {
        count_unplaced(it->second.zone, -1);
        unplaced_.erase(it);
    }
}

void ConnTable::count_unplaced(uint16_t zone, int change) {
    size_t &n = incomplete_[zone];
    n += change;
    auto &word = mem_.zones[0].incomplete[zone / 64];
    const uint64_t bit = 1ULL << zone % 64;
    publish(word, n ? word | bit : word & ~bit);
    if (!n) {
        incomplete_.erase(zone);
    }
}

// Returns false, changing nothing, if there is no room.
bool ConnTable::place(const ovs_offload_ct &c, uint64_t birth,
                      uint64_t *handle) {
    const xf_conn tuples[] = {tuples_of(c, 0), tuples_of(c, 1)};
    if (slots_.empty()) {
        return false;
    }
    const uint32_t slot = slots_.next();
    const uint64_t hashes[] = {hash_of(tuples[0]), hash_of(tuples[1])};
    for (const uint64_t hash : hashes) {
        bucket_pair(mem_.buckets, hash).prefetch();
    }
    for (int d = 0; d < 2; d++) {
        publish_all(mem_.conns[original(slot) + d], tuples[d]);
        publish_all(mem_.uses[original(slot) + d], {});
    }
    fill(slot, c);
    // OVS finds the original direction of one that answers itself.
    const bool is_own_reply = has_same_tuple(tuples[0], tuples[1]);
    if (!publish_entry(original(slot), hashes[0])) {
        return false;
    }
    if (!is_own_reply && !publish_entry(reply(slot), hashes[1])) {
        clear_entry(original(slot), hashes[0]);
        return false;
    }
    (void)slots_.take();
    prefetch_next();
    births_[slot] = birth;
    n_++;
    *handle =
        static_cast<uint64_t>(++generations_[slot]) << kGenerationShift | slot;
    show_youngest(original(slot), hashes[0]);
    if (!is_own_reply) {
        show_youngest(reply(slot), hashes[1]);
    }
    return true;
}

// The PMD thread waits while a connection is placed, and most of that is for
// memory: the next one's is on its way already.
void ConnTable::prefetch_next() const {
    if (slots_.empty()) {
        return;
    }
    const uint32_t slot = slots_.next();
    for (const uint32_t index : {original(slot), reply(slot)}) {
        prefetch(mem_.conns[index]);
        prefetch(mem_.uses[index]);
    }
}

bool ConnTable::is_executable(uint32_t slot) const {
    return mem_.conns[original(slot)].state || mem_.conns[reply(slot)].state;
}

// Sequences and time first: the state may make the connection executable.
void ConnTable::fill(uint32_t slot, const ovs_offload_ct &c) {
    follow_windows(slot, c);
    for (int d = 0; d < 2; d++) {
        publish(mem_.uses[original(slot) + d].expires_ms, c.expires_ms);
    }
    for (int d = 0; d < 2; d++) {
        change(original(slot) + d, c, c.dir[d], c.dir[!d]);
    }
    for (int d = 0; d < 2; d++) {
        publish(mem_.uses[original(slot) + d].closing, 0);
    }
}

void ConnTable::change(uint32_t index, const ovs_offload_ct &c,
                       const ovs_offload_ct_dir &d,
                       const ovs_offload_ct_dir &peer) {
    xf_conn &conn = mem_.conns[index];
    uint64_t label[2];
    static_assert(sizeof label == sizeof c.label);
    std::memcpy(label, c.label, sizeof label);

    publish(conn.change, conn.change + 1);
    publish(conn.wscale, d.wscale & 0xf);
    publish(conn.peer_wscale, peer.wscale & 0xf);
    publish(conn.state, d.state);
    publish(conn.nat_state, d.nat_state);
    publish(conn.mark, c.mark);
    publish(conn.timeout_ms, c.timeout_ms);
    publish(conn.l4_state, d.l4_state);
    publish(conn.l4_wscale, d.l4_wscale);
    publish(conn.has_label, (label[0] | label[1]) != 0);
    publish(conn.label[0], label[0]);
    publish(conn.label[1], label[1]);
    publish(conn.change, conn.change + 1);
}

// While packets are executed, the program may know more than OVS does, and
// moves on meanwhile.
void ConnTable::follow_windows(uint32_t slot, const ovs_offload_ct &c) {
    if (c.proto != IPPROTO_TCP) {
        return;
    }
    const bool is_shared = is_executable(slot);
    for (int d = 0; d < 2; d++) {
        xf_conn_use &use = mem_.uses[original(slot) + d];
        if (is_shared) {
            raise(use.seq_end, c.dir[d].seq_end);
            raise(use.ack_win, c.dir[d].ack_win);
            raise(use.max_win, c.dir[d].max_win);
        } else {
            publish(use.seq_end, c.dir[d].seq_end);
            publish(use.ack_win, c.dir[d].ack_win);
            publish(use.max_win, c.dir[d].max_win);
        }
    }
}

void ConnTable::del(uint64_t handle) {
    MutexLock lock(mutex_);
    if (handle & kUnplaced) {
        forget_unplaced(handle);
    } else if (is_current(handle)) {
        remove(slot_of(handle));
    }
}

void ConnTable::remove(uint32_t slot) {
    generations_[slot]++;
    unlink(slot);
    for (const uint32_t index : {original(slot), reply(slot)}) {
        const uint64_t hash = hash_of(mem_.conns[index]);
        if (mem_.conns[index].live) {
            show_youngest(index, hash);  // Of the others.
        }
        publish(mem_.conns[index].live, 0);
        clear_entry(index, hash);
        publish(mem_.conns[index].state, 0);
    }
    if (hidden_.erase(slot)) {
        count_unplaced(mem_.conns[original(slot)].zone, -1);
    }
    // No handle is given twice, nor has the bit of those without a slot.
    if (generations_[slot] < kUnplaced >> kGenerationShift) {
        slots_.retire(slot);
    }
    n_--;
}

bool ConnTable::use(uint64_t handle, ovs_offload_ct_use *out) const {
    if (!is_current(handle)) {
        return false;
    }
    const uint32_t slot = slot_of(handle);
    uint64_t used = 0;
    for (int d = 0; d < 2; d++) {
        auto &use = mem_.uses[original(slot) + d];
        used = std::max<uint64_t>(used, peek(use.used_ms));
        out->dir[d] = {peek(use.seq_end), peek(use.ack_win),
                       peek(use.max_win)};
    }
    if (has_old_) {
        add_old_use(slot, out, &used);
    }
    out->used_ms = static_cast<int64_t>(used);
    out->expires_ms = static_cast<int64_t>(
        used + peek(mem_.conns[original(slot)].timeout_ms));
    return used && is_current(handle);
}

// -- Connections of an earlier process --------------------------------------

bool ConnTable::has_inherited(uint32_t id) const {
    MutexLock lock(mutex_);
    return std::ranges::find(old_ids_, id) != old_ids_.end();
}

void ConnTable::inherit(OldConns table) {
    const uint32_t id = table.id();
    auto owned = std::make_unique<const OldConns>(std::move(table));
    MutexLock lock(mutex_);
    if (std::ranges::find(old_ids_, id) != old_ids_.end()) {
        return;
    }
    old_ids_.push_back(id);
    // Not before one that is being read.
    const size_t n_begun =
        std::min(next_old_ + (next_old_slot_ > 1 ? 1 : 0), old_.size());
    const auto place = std::find_if(
        old_.begin() + static_cast<ptrdiff_t>(n_begun), old_.end(),
        [=](const auto &other) { return other->id() > id; });
    old_.insert(place, std::move(owned));
    has_old_ = true;
}

bool ConnTable::restore(ovs_offload_ct *out) {
    constexpr int kAtOnce = 256;  // OVS waits for the lock.
    while (has_old_) {
        MutexLock lock(mutex_);
        for (int i = 0; i < kAtOnce; i++) {
            if (!is_open_ || next_old_ >= old_.size()) {
                return false;
            }
            const OldConns &table = *old_[next_old_];
            if (next_old_slot_ >= table.n_slots()) {
                next_old_++;
                next_old_slot_ = 1;
                has_restored_ = true;
            } else if (restore_from(table, next_old_slot_++, now_ms(), out)) {
                return true;
            }
        }
    }
    return false;
}

bool ConnTable::restore_from(const OldConns &table, uint32_t slot,
                             uint64_t now_ms, ovs_offload_ct *out) {
    const auto why = table.read(slot, now_ms, out);
    if (why != OldConns::LeftOut::kNot) {
        restored_.left_out[static_cast<size_t>(why)]++;
        return false;
    }
    if (const uint32_t here = find_same(*out)) {
        // Two processes have died before the second one had taken over.
        if (origins_.contains(here)) {
            origins_.emplace(here, Origin{&table, slot});
        }
        return false;
    }
    if (slots_.empty()) {
        restored_.n_no_room++;
        return false;
    }
    restored_.n_refused++;  // Until OVS puts it.
    out->origin = uint64_t{table.id()} << kGenerationShift | slot;
    return true;
}

// The slot of the connection that has these tuples; 0: there is none.
uint32_t ConnTable::find_same(const ovs_offload_ct &c) const {
    const xf_conn there = tuples_of(c, 0), back = tuples_of(c, 1);
    uint32_t slot = 0;
    for_each_of(there, hash_of(there), [&](uint32_t found) {
        if (has_same_tuple(mem_.conns[found ^ 1], back)) {
            slot = found / 2;
        }
    });
    return slot;
}

// Where restore() has found what it gave this 'origin'; null if nowhere.
const OldConns *ConnTable::table_of(uint64_t origin) const {
    const auto it = std::ranges::find_if(old_, [=](const auto &table) {
        return table->id() == origin >> kGenerationShift;
    });
    const bool is_there =
        it != old_.end() && static_cast<uint32_t>(origin) < (*it)->n_slots();
    return is_there ? it->get() : nullptr;
}

// The connection ends.
void ConnTable::unlink(uint32_t slot) {
    const auto [begin, end] = origins_.equal_range(slot);
    for (auto it = begin; it != end; ++it) {
        it->second.table->release(it->second.slot);
    }
    origins_.erase(begin, end);
}

// What the old program has seen still counts, also of the packet that it is
// just executing.
void ConnTable::leave_if_changed(uint32_t slot, const ovs_offload_ct &c) {
    const auto [begin, end] = origins_.equal_range(slot);
    for (auto it = begin; it != end; ++it) {
        if (!it->second.table->does_as(it->second.slot, c)) {
            it->second.table->release(it->second.slot);
            it->second.released = true;
        }
    }
}

// Does the old program see no packets of the direction any more, but we or OVS
// do?  What it saw then would look like more than is now, once 2 GiB have
// passed.
bool ConnTable::is_history(uint32_t slot, const Origin &o, int d,
                           uint64_t used_ms) const {
    // Twice the time from one follow_old() to the next.
    constexpr uint64_t kAheadMs = 200;
    const uint64_t own = peek(mem_.uses[original(slot) + d].used_ms);
    return used_ms <= o.followed[d]
        && (own > used_ms + kAheadMs || o.n_followed > 2);
}

void ConnTable::add_old_use(uint32_t slot, ovs_offload_ct_use *out,
                            uint64_t *used) const {
    MutexLock lock(mutex_);
    const uint64_t now = now_ms();
    const auto [begin, end] = origins_.equal_range(slot);
    for (auto it = begin; it != end; ++it) {
        for (int d = 0; d < 2; d++) {
            const auto seen = it->second.table->use(it->second.slot, d, now);
            if (!seen.used_ms
                || is_history(slot, it->second, d, seen.used_ms)) {
                continue;
            }
            *used = std::max(*used, seen.used_ms);
            raise(out->dir[d].seq_end, seen.seq_end);
            raise(out->dir[d].ack_win, seen.ack_win);
            raise(out->dir[d].max_win, seen.max_win);
        }
    }
}

void ConnTable::follow(uint32_t slot, Origin *o) {
    const uint64_t now = now_ms();
    for (int d = 0; d < 2; d++) {
        const auto seen = o->table->use(o->slot, d, now);
        xf_conn_use &use = mem_.uses[original(slot) + d];
        if (!seen.used_ms || is_history(slot, *o, d, seen.used_ms)) {
            continue;
        }
        o->followed[d] = seen.used_ms;
        raise(use.used_ms, seen.used_ms);
        if (mem_.conns[original(slot)].proto == IPPROTO_TCP) {
            raise(use.seq_end, seen.seq_end);
            raise(use.ack_win, seen.ack_win);
            raise(use.max_win, seen.max_win);
        }
    }
    o->n_followed += o->released;
}

// Calls 'fn' with each slot and what it comes from, some at a time.
template <typename Fn>
void ConnTable::for_each_origin(Fn fn) {
    constexpr int kAtOnce = 256;
    for (uint32_t next = 0;;) {
        MutexLock lock(mutex_);
        auto it = origins_.lower_bound(next);
        for (int i = 0; it != origins_.end(); ++it, i++) {
            if (i >= kAtOnce && it->first != next) {
                break;
            }
            next = it->first;
            fn(it->first, it->second);
        }
        if (it == origins_.end()) {
            return;
        }
        next = it->first;
    }
}

void ConnTable::follow_old() {
    for_each_origin([&](uint32_t slot, Origin &o)
                        REQUIRES(mutex_) { follow(slot, &o); });
}

void ConnTable::forget_old() {
    for_each_origin([&](uint32_t slot, Origin &o) REQUIRES(mutex_) {
        o.table->release(o.slot);
        follow(slot, &o);
    });
    decltype(old_) gone;  // Unmapped without the lock.
    MutexLock lock(mutex_);
    has_old_ = false;
    origins_.clear();
    gone = std::exchange(old_, {});
    next_old_ = 0;
    next_old_slot_ = 1;
}

std::optional<ConnTable::Restored> ConnTable::take_restored() {
    MutexLock lock(mutex_);
    if (!std::exchange(has_restored_, false)) {
        return {};
    }
    return std::exchange(restored_, {});
}

// -- Buckets ----------------------------------------------------------------

uint64_t ConnTable::hash_of(const xf_conn &conn) const {
    const xf_conn_key key = key_of(conn);
    return xf_conn_hash(
        &key, reinterpret_cast<const volatile __u64 *>(mem_.secret.data()));
}

bool ConnTable::publish_entry(uint32_t index, uint64_t hash) {
    return bucket_pair(mem_.buckets, hash)
        .insert((xf_hash_signature(hash) & ~mask_) | index);
}

void ConnTable::clear_entry(uint32_t index, uint64_t hash) {
    bucket_pair(mem_.buckets, hash)
        .erase((xf_hash_signature(hash) & ~mask_) | index);
}

// Calls 'fn' with the index of each connection of that tuple, which has that
// hash.  What the signature tells apart costs no access to the connection.
template <typename Fn>
void ConnTable::for_each_of(const xf_conn &tuple, uint64_t hash, Fn fn) const {
    const uint32_t signature = xf_hash_signature(hash) & ~mask_;
    bucket_pair(mem_.buckets, hash)
        .for_each(
            [&](uint32_t entry) NOT_CHECKED {  // 'fn' says what it needs.
                const uint32_t found = entry & mask_;
                if ((entry & ~mask_) == signature && found < mem_.conns.size()
                    && (generations_[found / 2] & 1)
                    && has_same_tuple(mem_.conns[found], tuple)) {
                    fn(found);
                }
            });
}

// Several connections may have the same tuple: one that has expired but has
// not been cleaned up, or one whose answers, by its translation, come as those
// of another that has none.  OVS finds the youngest, and the next one when
// that has ended.  The others are not found until then, and what goes the
// other way by another tuple OVS has to see once more.  One that is hidden is
// not found at all: OVS has a younger one, which has no place here.
void ConnTable::show_youngest(uint32_t index, uint64_t hash) {
    const xf_conn &tuple = mem_.conns[index];
    uint32_t youngest = 0;
    size_t n = 0;
    for_each_of(tuple, hash, [&](uint32_t found) REQUIRES(mutex_) {
        n++;
        if (!youngest || births_[found / 2] > births_[youngest / 2]) {
            youngest = found;
        }
    });
    if (!youngest) {
        return;
    }
    if (!hidden_.contains(youngest / 2)) {
        publish(mem_.conns[youngest].live, 1);
    }
    if (n == 1) {
        return;
    }
    for_each_of(tuple, hash, [&](uint32_t found) REQUIRES(mutex_) {
        if (found != youngest && mem_.conns[found].live) {
            publish(mem_.conns[found].live, 0);
            publish(mem_.conns[found ^ 1].state, 0);
        }
    });
}

// A younger one has that tuple, for which there was no room.  When that has
// ended, OVS may find the older one again, so as long as this is there not all
// connections of the zone can be found.
void ConnTable::hide(const xf_conn &tuple) {
    for_each_of(tuple, hash_of(tuple), [&](uint32_t found) REQUIRES(mutex_) {
        publish(mem_.conns[found].live, 0);
        publish(mem_.conns[found ^ 1].state, 0);
        if (hidden_.insert(found / 2).second) {
            count_unplaced(tuple.zone, 1);
        }
    });
}

// -- Slots ------------------------------------------------------------------

// Neighbours are used one after the other, which is what the CPU expects.
size_t ConnTable::begin_grace() {
    std::span<uint32_t> waiting;
    {
        MutexLock lock(mutex_);
        waiting = slots_.begin_grace();
    }
    std::ranges::sort(waiting, std::greater());  // Nobody else looks there.
    return waiting.size();
}

void ConnTable::end_grace() {
    MutexLock lock(mutex_);
    slots_.end_grace();
}

size_t ConnTable::n_retired() const {
    MutexLock lock(mutex_);
    return slots_.retired().size();
}

ConnTable::Figures ConnTable::figures() const {
    MutexLock lock(mutex_);
    return {n_, unplaced_.size(), mem_.conns.size() / 2 - 1,
            incomplete_.size()};
}

std::vector<ConnTable::Shown> ConnTable::list(int zone, size_t max) const {
    constexpr uint32_t kAtOnce = 256;
    const auto n_slots = static_cast<uint32_t>(mem_.conns.size() / 2);
    std::vector<Shown> all;
    all.reserve(std::min<size_t>(max, n_slots));
    for (uint32_t slot = 0; slot < n_slots && all.size() < max;) {
        const uint32_t end = std::min(slot + kAtOnce, n_slots);
        MutexLock lock(mutex_);
        for (; slot < end && all.size() < max; slot++) {
            const auto *conn = &mem_.conns[original(slot)];
            const auto *use = &mem_.uses[original(slot)];
            if ((generations_[slot] & 1) && (zone < 0 || conn->zone == zone)) {
                all.push_back({{conn[0], conn[1]}, {use[0], use[1]}});
            }
        }
    }
    return all;
}

}  // namespace flowxlate
