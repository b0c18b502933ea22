// SPDX-License-Identifier: Apache-2.0
// A FlowTable that is driven by an arbitrary program of operations, with flows
// that decode_match() has made of attributes.
//
// An input is kHeaderSize bytes of sizes and then one operation per kOpSize
// bytes (see Op).  A model knows the flows by slot and what each has counted;
// after each operation the memory must be consistent, and what the reader of
// tests/unit/tables.h finds in it must be what the model says.  The table is
// small, so that it is often full in each of the ways in which it can be.
#include "bpf/abi/counters.h"
#include "bpf/abi/hash.h"
#include "flowxlate/tables/flow_table.h"
#include "flowxlate/translate/match.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <map>
#include <random>
#include <set>

#include "tests/fuzz/fuzz.h"
#include "tests/unit/tables.h"

namespace flowxlate::fuzz {
namespace {

constexpr size_t kCpus = 2;
constexpr size_t kMaxOps = 50;
constexpr size_t kHeaderSize = 4, kOpSize = 6;

// 'what' chooses the operation and how often it is done.  The others are what
// it needs: a flow to be made, or one of the flows there are, an output port,
// bits of a packet.
struct Op {
    uint8_t what, kind, fields, value, pick, noise;
};
static_assert(sizeof(Op) == kOpSize);

// -- Flows -------------------------------------------------------------------

// Few values, so that flows of different masks overlap and equal ones occur.
std::string hex(uint8_t value, size_t size, const char *mask) {
    std::string s(2 * size, '0');
    s.back() = "0123456789abcdef"[value % 16];
    return s + "/" + mask;
}

void add_ipv4(const Op &op, unit::Flow *f) {
    const auto type = OVS_KEY_ATTR_IPV4;
    if (op.fields & 0x04) {
        f->match(type, &ovs_key_ipv4::ipv4_src,
                 hex(op.value, 4, op.fields & 0x08 ? "ffffffff" : "fffffffc"));
    }
    if (op.fields & 0x10) {
        f->match(type, &ovs_key_ipv4::ipv4_tos, hex(op.value, 1, "03"));
    }
    if (op.fields & 0x20) {
        f->match(type, &ovs_key_ipv4::ipv4_proto, "11/ff");
        f->match(OVS_KEY_ATTR_UDP, &ovs_key_udp::udp_dst,
                 hex(op.value >> 4, 2, "ffff"));
    }
}

void add_ipv6(const Op &op, unit::Flow *f) {
    const auto type = OVS_KEY_ATTR_IPV6;
    const std::string bits(30, 'f');
    if (op.fields & 0x04) {
        f->match(type, &ovs_key_ipv6::ipv6_dst,
                 hex(op.value, 16,
                     (bits + (op.fields & 0x08 ? "ff" : "fc")).c_str()));
    }
    if (op.fields & 0x10) {
        f->match(type, &ovs_key_ipv6::ipv6_hlimit, hex(op.value, 1, "03"));
    }
    if (op.fields & 0x20) {  // A longer key.
        f->match(type, &ovs_key_ipv6::ipv6_proto, "3a/ff");
        f->match(OVS_KEY_ATTR_ICMPV6, "8700/ffff");
        f->match(OVS_KEY_ATTR_ND, &ovs_key_nd::nd_sll,
                 hex(op.value >> 4, 6, "ffffffffffff"));
    }
}

void add_arp(const Op &op, unit::Flow *f) {
    if (op.fields & 0x04) {
        f->match(OVS_KEY_ATTR_ARP, &ovs_key_arp::arp_tip,
                 hex(op.value, 4, op.fields & 0x08 ? "ffffffff" : "fffffffc"));
    }
    if (op.fields & 0x10) {
        f->match(OVS_KEY_ATTR_ARP, &ovs_key_arp::arp_tha,
                 hex(op.value, 6, "ffffffffffff"));
    }
}

// What ct() has found.
void add_connection(const Op &op, unit::Flow *f) {
    f->match(OVS_KEY_ATTR_RECIRC_ID, "05000000/ffffffff");
    if (op.kind & 0x08) {
        f->match(OVS_KEY_ATTR_CT_STATE,
                 op.value & 1 ? "22000000/23000000" : "2a000000/2b000000");
    }
    if (op.kind & 0x10) {
        f->match(OVS_KEY_ATTR_CT_MARK, hex(op.value, 4, "0000000f"));
    }
    if (op.kind & 0x20) {
        const std::string mask = std::string(31, '0') + "3";
        f->match(OVS_KEY_ATTR_CT_LABELS, hex(op.value, 16, mask.c_str()));
    }
}

Match make_match(const Op &op) {
    unit::Flow f;
    switch (op.kind % 5) {
        case 0:
            f = unit::l2();
            break;
        case 1:
            f = unit::arp();
            add_arp(op, &f);
            break;
        case 2:
            f = unit::ipv4();
            add_ipv4(op, &f);
            break;
        case 3:
            f = unit::on_port1("8847");
            f.match(OVS_KEY_ATTR_MPLS, hex(op.value, 4, "fffff1ff"));
            break;
        default:
            f = unit::ipv6();
            add_ipv6(op, &f);
    }
    if (op.kind >= 64 && (op.kind % 5 == 2 || op.kind % 5 == 4)) {
        add_connection(op, &f);
    }
    if (op.fields & 0x01) {
        f.match(OVS_KEY_ATTR_ETHERNET, &ovs_key_ethernet::eth_dst,
                hex(op.value, 6, "ffffffffffff"));
    }
    if (op.fields & 0x02) {
        f.match(OVS_KEY_ATTR_ETHERNET, &ovs_key_ethernet::eth_src,
                hex(op.value >> 4, 6, "00000000000f"));
    }
    if (op.fields & 0x40) {
        f.in_vlan(op.fields & 0x80 ? "1005/ffff" : "1000/1000");
    }
    if (op.fields & 0x80) {
        f.in_vlan("1006/1fff", "88a8/ffff");
    }
    Match m;
    CHECK(!decode_match(unit::Flow::encode(f.key).bytes(),
                        unit::Flow::encode(f.mask).bytes(), &m));
    m.key.in_port = index(m.in_port);
    m.key.recirc = op.kind / 64;
    m.mask.in_port = m.mask.recirc = UINT16_MAX;
    return m;
}

// A walk, which is that of a recirculation slot and a class, has each mask
// once.
using Walk = std::pair<size_t, size_t>;
using Mask = std::pair<Walk, std::array<__u64, XF_KEY_WORDS>>;

Walk walk_of(const Match &m) { return {m.key.recirc, m.cls}; }

Mask mask_of(const Match &m) {
    return {walk_of(m), std::to_array(m.mask.word)};
}

// Words 6 to 8, 9 to 12, 13, 14 to 15, and 16 to 21.
uint32_t segments_of(const xf_key &mask) {
    auto any = [&](int from, int to) {
        return std::any_of(mask.word + from, mask.word + to,
                           [](__u64 w) { return w != 0; });
    };
    return any(6, 9) | any(9, 13) << 1 | any(13, 14) << 2 | any(14, 16) << 3
         | any(16, 22) << 4;
}

bool covers(const Match &m, xf_class cls, const xf_key &packet) {
    bool all = m.cls == cls;
    for (uint32_t i = 0; i < XF_KEY_WORDS; i++) {
        all = all && (packet.word[i] & m.mask.word[i]) == m.key.word[i];
    }
    return all;
}

// What a flow does: one of a few ports, and one of a few rewrites or none.
FlowAction make_action(uint8_t port, uint8_t rewrite) {
    FlowAction a(unit::output_to(port));
    switch (rewrite % 4) {
        case 0:
            break;
        case 1:
            a.rewrite.max_len = 100;
            break;
        case 2:
            a.rewrite.ct[0].flags = XF_CT_TRACK;
            a.rewrite.ct[0].zone = 7;
            break;
        default:
            a.rewrite.mask[XF_SET_WORDS - 1] = 0xff;
            a.rewrite.value[XF_SET_WORDS - 1] = rewrite % 4;
    }
    return a;
}

using Rewrite = std::array<std::byte, sizeof(xf_rewrite)>;

Rewrite bytes_of(const xf_rewrite &r) { return std::bit_cast<Rewrite>(r); }

// A packet that 'm' covers; all other bits of its class are up to 'noise'.
xf_key packet_of(const Match &m, uint8_t noise) {
    std::minstd_rand random(noise);
    xf_key k{};
    for (uint32_t i = 0; i < XF_KEY_WORDS; i++) {
        // Mostly the values that other flows match.
        const uint64_t bits = noise < 0x80 ? noise * 0x0100000000000001ULL
                                           : random() * 0x9e3779b97f4a7c15ULL;
        k.word[i] = m.key.word[i] | (bits & ~m.mask.word[i]);
    }
    return k;
}

// -- The model ---------------------------------------------------------------

struct ModelFlow {
    Match match;
    FlowAction action{xf_action{}};
    uint64_t packets = 0;
};

class Machine {
public:
    Machine(uint8_t buckets, uint8_t flows, uint8_t subtables, uint8_t seed)
        : tables_({.buckets = size_t{1} << buckets % 4,
                   .flows = 2 + flows % 63u,
                   .subtables = 2 + subtables % 15u,
                   .rewrites = 2 + seed / 4 % 4u,
                   .cpus = kCpus,
                   .seed = seed % 4u,
                   .cpus_have_run = false}) {}

    void run(Op op);
    void finish();

private:
    using Flows = std::map<FlowSlot, ModelFlow>;

    void step(const Op &);
    void insert(const Op &);
    void check_refusal(const Reject &, const Match &, const FlowAction &);
    bool has_room_for(const FlowAction &) const;
    void use(const FlowAction &);
    void leave(const FlowAction &);
    void replace(const Op &);
    void remove(Flows::iterator);
    void send(const Op &);
    void send_late(const Op &);
    void begin_grace();
    void end_grace();

    Flows::iterator pick(const Op &op) {
        return std::next(flows_.begin(), op.pick % flows_.size());
    }
    FlowSlot look_up(xf_class, const xf_key &packet, FlowSlot predicted);
    void count(size_t cpu, FlowSlot);
    void check_memory();
    void check_walks();
    static void check_rewrite(xf_rewrite stored, const xf_rewrite &asked);
    void check_flows();
    void check_capacity();
    ByteVector shared_memory() const;

    const TableMemory &mem() const { return tables_.mem(); }
    FlowTable &table() { return tables_.table; }

    unit::Tables tables_;
    Flows flows_;
    std::map<Mask, size_t> masks_;  // Of how many flows.
    // Out of the table, and not given back yet: with what they have counted.
    std::map<FlowSlot, uint64_t> retired_;
    size_t retired_masks_ = 0;
    std::map<Rewrite, size_t> rewrites_;  // Of how many flows.
    size_t retired_rewrites_ = 0;
    // Of what was given up, that which waits for the end of a grace period.
    std::vector<FlowSlot> waiting_;
    size_t waiting_masks_ = 0, waiting_rewrites_ = 0;
};

void Machine::run(Op op) {
    for (int n = 1 + op.what / 16; n > 0; n--) {
        step(op);
        op.value++;
    }
    check_memory();
}

void Machine::step(const Op &op) {
    switch (op.what % 16) {
        case 0:
            if (!flows_.empty()) {
                remove(pick(op));
            }
            break;
        case 1:
            replace(op);
            break;
        case 2:
            begin_grace();
            break;
        case 3:
            end_grace();
            break;
        case 4:
            send_late(op);
            break;
        case 5:
        case 6:
        case 7:
            send(op);
            break;
        default:
            insert(op);
    }
}

// What a program can get at.
ByteVector Machine::shared_memory() const {
    ByteVector all;
    for (const Bytes b :
         {std::as_bytes(mem().buckets), std::as_bytes(mem().walks)}) {
        all.insert(all.end(), b.begin(), b.end());
    }
    return all;
}

void Machine::insert(const Op &op) {
    const Match m = make_match(op);
    const FlowAction action = make_action(op.pick, op.noise);
    const ByteVector before = shared_memory();
    FlowSlot slot{};
    if (auto r = table().insert(m.cls, m.key, m.mask, action, &slot)) {
        CHECK(shared_memory() == before);
        check_refusal(r, m, action);
        return;
    }
    CHECK(index(slot) > 0 && index(slot) < mem().flows.size());
    CHECK(!flows_.contains(slot) && !retired_.contains(slot));
    CHECK(table().stats(slot).packets == 0);
    flows_[slot] = {m, action, 0};
    masks_[mask_of(m)]++;
    use(action);
    CHECK(table().has_match(slot, m.cls, m.key, m.mask));
    CHECK(table().has_action(slot, action));
    CHECK(look_up(m.cls, packet_of(m, op.noise), FlowSlot::kNone)
          != FlowSlot::kNone);
}

// Was it true that there was no room?
void Machine::check_refusal(const Reject &r, const Match &m,
                            const FlowAction &action) {
    CHECK(r.error == ENOSPC);
    const bool known_mask = masks_.contains(mask_of(m));
    const bool no_flows =
        flows_.size() + retired_.size() == mem().flows.size() - 1;
    const bool no_masks =
        masks_.size() + retired_masks_ == mem().subtables.size() - 1;
    CHECK((r.name() == "table/flows") == no_flows);
    if (no_flows) {
        return;
    }
    CHECK((r.name() == "table/masks") == (!known_mask && no_masks));
    if (r.name() == "table/masks") {
        return;
    }
    // The subtable was taken for a moment, and waits for a grace period.
    retired_masks_ += known_mask ? 0 : 1;
    CHECK((r.name() == "table/rewrites") == !has_room_for(action));
    if (r.name() == "table/rewrites") {
        return;
    }
    CHECK(r.name() == "table/buckets");
    CHECK(std::ranges::any_of(mem().buckets, [](const xf_bucket &b) {
        return std::ranges::count(b.entry, 0u) == 0;
    }));
    use(action);  // So was the rewrite.
    leave(action);
}

bool Machine::has_room_for(const FlowAction &a) const {
    return !a.rewrites() || rewrites_.contains(bytes_of(a.rewrite))
        || rewrites_.size() + retired_rewrites_ < mem().rewrites.size() - 1;
}

void Machine::use(const FlowAction &a) {
    if (a.rewrites()) {
        rewrites_[bytes_of(a.rewrite)]++;
    }
}

void Machine::leave(const FlowAction &a) {
    if (a.rewrites() && --rewrites_[bytes_of(a.rewrite)] == 0) {
        rewrites_.erase(bytes_of(a.rewrite));
        retired_rewrites_++;
    }
}

void Machine::replace(const Op &op) {
    if (flows_.empty()) {
        return;
    }
    const auto it = pick(op);
    FlowSlot slot = it->first;
    const FlowAction action = make_action(op.value, op.noise);
    const bool room = flows_.size() + retired_.size() < mem().flows.size() - 1;
    if (auto r = table().replace(&slot, action)) {
        CHECK(r.name() == (room ? "table/rewrites" : "table/flows"));
        CHECK(!room || !has_room_for(action));
        CHECK(slot == it->first);
        return;
    }
    CHECK(room && has_room_for(action));
    use(action);
    leave(it->second.action);
    CHECK(!flows_.contains(slot) && !retired_.contains(slot));
    CHECK(table().stats(slot).packets == 0);
    ModelFlow f = it->second;
    retired_[it->first] = f.packets;
    flows_.erase(it);
    f.action = action;
    f.packets = 0;
    flows_[slot] = f;
}

void Machine::remove(Flows::iterator it) {
    table().remove(it->first);
    const auto mask = masks_.find(mask_of(it->second.match));
    if (--mask->second == 0) {
        masks_.erase(mask);
        retired_masks_++;
    }
    leave(it->second.action);
    retired_[it->first] = it->second.packets;
    flows_.erase(it);
}

// The program counts a packet.
void Machine::count(size_t cpu, FlowSlot slot) {
    mem().cpus[cpu].seq++;
    xf_stats &s = tables_.stats(cpu, slot);
    s.packets++;
    s.bytes += 60;
    mem().cpus[cpu].seq++;
}

void Machine::send(const Op &op) {
    const Match m = flows_.empty() ? make_match(op) : pick(op)->second.match;
    // A flow cache predicts anything.
    const FlowSlot predicted{op.fields % uint32_t(mem().flows.size())};
    const FlowSlot hit = look_up(m.cls, packet_of(m, op.noise), predicted);
    if (hit != FlowSlot::kNone) {
        count(op.value % kCpus, hit);
        flows_[hit].packets++;
    }
}

// A program that has found a flow before it was removed counts now.
void Machine::send_late(const Op &op) {
    if (!retired_.empty()) {
        const auto it = std::next(retired_.begin(), op.pick % retired_.size());
        count(op.value % kCpus, it->first);
        it->second++;
    }
}

void Machine::begin_grace() {
    CHECK(table().quiesce());
    waiting_.clear();
    for (const auto &[slot, n] : retired_) {
        waiting_.push_back(slot);
    }
    waiting_masks_ = retired_masks_;
    waiting_rewrites_ = retired_rewrites_;
    CHECK(table().begin_grace()
          == (!waiting_.empty() || waiting_masks_ || waiting_rewrites_));
    CHECK(!table().has_retired());
}

// If none has begun, nothing is over.
void Machine::end_grace() {
    table().end_grace();
    for (const FlowSlot slot : waiting_) {
        CHECK(retired_.erase(slot) == 1);
    }
    retired_masks_ -= waiting_masks_;
    retired_rewrites_ -= waiting_rewrites_;
    waiting_.clear();
    waiting_masks_ = waiting_rewrites_ = 0;
}

// Which of several flows that cover a packet it finds is not defined; that it
// finds one of them is.
FlowSlot Machine::look_up(xf_class cls, const xf_key &packet,
                          FlowSlot predicted) {
    const FlowSlot slot = unit::find(mem(), cls, packet, predicted);
    if (slot == FlowSlot::kNone) {
        for (const auto &[_, f] : flows_) {
            CHECK(!covers(f.match, cls, packet));
        }
    } else {
        CHECK(flows_.contains(slot));
        CHECK(covers(flows_[slot].match, cls, packet));
    }
    return slot;
}

void Machine::check_memory() {
    size_t n_entries = 0, overflow = 0, elsewhere = 0;
    for (const xf_bucket &b : mem().buckets) {
        for (uint32_t i = 0; i < XF_BUCKET_ENTRIES; i++) {
            const FlowSlot slot{b.entry[i] & slot_mask(mem().flows.size())};
            if (!b.entry[i]) {
                continue;
            }
            n_entries++;
            CHECK(i < b.used && flows_.contains(slot));
            const SubtableSlot st = table().subtable_of(slot);
            const uint64_t h = table().hash(st, flows_[slot].match.key);
            const size_t first =
                xf_hash_bucket1(h) & (mem().buckets.size() - 1);
            elsewhere += &b != &mem().buckets[first];
        }
        CHECK(!b.used || b.entry[b.used - 1]);
        overflow += b.overflow;
    }
    CHECK(n_entries == flows_.size() && overflow == elsewhere);
    CHECK(table().n_flows() == flows_.size());
    check_walks();
}

// Each mask is in the walk of its class and recirculation slot, once.
void Machine::check_walks() {
    std::map<uint32_t, Walk> walked;  // By subtable.
    for (size_t recirc = 0; recirc < mem().walks.size(); recirc++) {
        for (size_t cls = 0; cls < XF_WALK_CLASSES; cls++) {
            uint32_t next = mem().walks[recirc].first[cls];
            for (; next; next = mem().subtables[next].next) {
                CHECK(walked.emplace(next, Walk{recirc, cls}).second);
            }
        }
    }
    CHECK(walked.size() == masks_.size());
    CHECK(masks_.size() == table().n_subtables());
    CHECK(rewrites_.size() == table().n_rewrites());
    std::set<uint32_t> used;
    for (const auto &[slot, f] : flows_) {
        const uint32_t subtable = xf_subtable_of(&mem().flows[index(slot)]);
        const xf_subtable &st = mem().subtables[subtable];
        CHECK(!std::memcmp(st.mask, &f.match.mask, sizeof st.mask));
        CHECK(st.segments == segments_of(f.match.mask));
        CHECK(walked.contains(subtable));
        CHECK(walked[subtable] == walk_of(f.match));
        used.insert(subtable);
    }
    CHECK(used.size() == walked.size());
}

// What the table stores is what was asked for, and whether it sets fields.
void Machine::check_rewrite(xf_rewrite stored, const xf_rewrite &asked) {
    bool sets = false;
    for (const uint64_t word : asked.mask) {
        sets = sets || word;
    }
    CHECK(stored.sets == sets);
    stored.sets = 0;
    CHECK(bytes_of(stored) == bytes_of(asked));
}

void Machine::check_flows() {
    for (const auto &[slot, f] : flows_) {
        const xf_flow &flow = mem().flows[index(slot)];
        CHECK((flow.subtable & XF_FLOW_LIVE)
              && flow.action.to == f.action.action.to);
        CHECK(table().has_action(slot, f.action));
        check_rewrite(mem().rewrites[flow.action.rewrite], f.action.rewrite);
        CHECK(table().has_match(slot, f.match.cls, f.match.key, f.match.mask));
        CHECK(table().stats(slot).packets == f.packets);
        CHECK(table().stats(slot).bytes == 60 * f.packets);
        look_up(f.match.cls, packet_of(f.match, 0), FlowSlot::kNone);
        // As the newest prediction says.
        CHECK(look_up(f.match.cls, packet_of(f.match, 1), slot) == slot);
    }
    for (const auto &[slot, packets] : retired_) {
        CHECK(table().stats(slot).packets == packets);
        CHECK(!(mem().flows[index(slot)].subtable & XF_FLOW_LIVE));
    }
}

// Nothing is lost: all flows go, and then all room is there again.
void Machine::finish() {
    check_flows();
    while (!flows_.empty()) {
        remove(flows_.begin());
    }
    check_memory();
    check_flows();
    for (const std::byte b : shared_memory()) {
        CHECK(b == std::byte{0});
    }
    begin_grace();
    end_grace();
    CHECK(retired_.empty() && retired_masks_ == 0);
    CHECK(rewrites_.empty() && retired_rewrites_ == 0);
    CHECK(table().n_subtables() == 0);
    check_capacity();
}

// An empty table has as much room as a new one.
void Machine::check_capacity() {
    const Op op{};
    const size_t flows = table().max_flows();
    const size_t masks = mem().subtables.size() - 1;
    // Each takes a slot and a subtable, which nobody gives back.
    for (size_t i = 0; i < std::min(flows, masks); i++) {
        insert(op);
        CHECK(flows_.size() == 1);
        remove(flows_.begin());
    }
    begin_grace();
    end_grace();
    // Beside a flow that stays, each takes just a slot.
    for (size_t i = 0; i < flows; i++) {
        insert(op);
        CHECK(flows_.size() == (i == 0 ? 1 : 2));
        if (i > 0) {
            remove(std::prev(flows_.end()));
        }
    }
    insert(op);  // Finds no room.
    CHECK(flows_.size() == 1);
}

}  // namespace
}  // namespace flowxlate::fuzz

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    using namespace flowxlate::fuzz;
    uint8_t header[kHeaderSize] = {};
    std::copy_n(data, std::min(size, kHeaderSize), header);
    Machine machine(header[0], header[1], header[2], header[3]);
    for (size_t n = 0, at = kHeaderSize; n < kMaxOps && at + kOpSize <= size;
         n++, at += kOpSize) {
        Op op;
        std::memcpy(&op, data + at, sizeof op);
        machine.run(op);
    }
    machine.finish();
    return 0;
}
