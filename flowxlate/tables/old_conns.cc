// SPDX-License-Identifier: Apache-2.0
#include "tables/old_conns.h"

#include <linux/openvswitch.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>

#include <algorithm>
#include <bit>
#include <utility>

#include "tables/shared_words.h"

namespace flowxlate {
namespace {

using LeftOut = OldConns::LeftOut;

constexpr uint16_t kNew = OVS_CS_F_TRACKED | OVS_CS_F_NEW;
constexpr uint16_t kEstablished = OVS_CS_F_TRACKED | OVS_CS_F_ESTABLISHED;
constexpr uint16_t kReply = kEstablished | OVS_CS_F_REPLY_DIR;

// Of struct ovs_offload_ct_dir's 'l4_state'.
constexpr uint8_t kTcpEstablished = 5, kTcpFinWait2 = 10, kTcpLast = 11;
constexpr uint8_t kUdpMultiple = 2, kUdpReplied = 3;
constexpr uint8_t kIcmpReplied = 2;

// What tells the packets of one direction.
struct Tuple {
    std::array<uint8_t, 16> src{}, dst{};
    uint16_t tp_src, tp_dst;
    bool operator==(const Tuple &) const = default;
};

Tuple make_tuple(const __u64 addr[4], uint32_t ports, bool ipv4) {
    const size_t size = ipv4 ? 4 : 16;
    const auto *bytes = reinterpret_cast<const uint8_t *>(addr);
    Tuple t{.tp_src = static_cast<uint16_t>(ports),
            .tp_dst = static_cast<uint16_t>(ports >> 16)};
    std::copy_n(bytes, size, t.src.begin());
    std::copy_n(bytes + size, size, t.dst.begin());
    return t;
}

Tuple reverse(const Tuple &t) {
    return {
        .src = t.dst, .dst = t.src, .tp_src = t.tp_dst, .tp_dst = t.tp_src};
}

bool is_ipv4(const xf_conn &c) { return c.cls == XF_CLASS_IPV4; }
bool is_icmp(const xf_conn &c) {
    const int icmp = is_ipv4(c) ? int{IPPROTO_ICMP} : int{IPPROTO_ICMPV6};
    return c.proto == icmp;
}
Tuple tuple_of(const xf_conn &c) {
    return make_tuple(c.addr, c.ports, is_ipv4(c));
}

uint16_t reverse_nat(uint16_t nat) {
    return nat == OVS_CS_F_SRC_NAT ? OVS_CS_F_DST_NAT
         : nat == OVS_CS_F_DST_NAT ? OVS_CS_F_SRC_NAT
                                   : nat;
}

// Of ICMP an echo and its answer, of others two ports.
bool has_sound_ports(const xf_conn &original, const Tuple &there,
                     const Tuple &back) {
    if (!is_icmp(original)) {
        return there.tp_src && there.tp_dst && back.tp_src && back.tp_dst;
    }
    const bool v4 = is_ipv4(original);
    return there.tp_src == back.tp_src
        && there.tp_dst == (v4 ? ICMP_ECHO : ICMP6_ECHO_REQUEST)
        && back.tp_dst == (v4 ? ICMP_ECHOREPLY : ICMP6_ECHO_REPLY);
}

// What the answers come from and go to, if nothing is translated, or of what
// is translated the address that is not.
bool has_sound_translation(uint16_t nat, bool icmp, const Tuple &there,
                           const Tuple &back) {
    switch (nat) {
        case 0:
            return back.src == there.dst && back.dst == there.src
                && (icmp || reverse(back) == there);
        case OVS_CS_F_SRC_NAT:
            return back.src == there.dst;
        case OVS_CS_F_DST_NAT:
            return back.dst == there.src;
        default:
            return false;
    }
}

bool has_sound_tuples(const std::array<xf_conn, 2> &dir) {
    const auto &[o, r] = dir;
    if (o.cls != r.cls || o.zone != r.zone || o.proto != r.proto
        || (o.cls != XF_CLASS_IPV4 && o.cls != XF_CLASS_IPV6)
        || (o.proto != IPPROTO_TCP && o.proto != IPPROTO_UDP && !is_icmp(o))) {
        return false;
    }
    for (int d = 0; d < 2; d++) {
        const bool has_more = dir[d].addr[1] | dir[d].addr[2] | dir[d].addr[3];
        const Tuple to =
            make_tuple(dir[d].to_addr, dir[d].to_ports, is_ipv4(o));
        if ((is_ipv4(o) && has_more) || to != reverse(tuple_of(dir[!d]))) {
            return false;
        }
    }
    const Tuple there = tuple_of(o), back = tuple_of(r);
    return has_sound_ports(o, there, back)
        && r.nat_state == reverse_nat(o.nat_state)
        && has_sound_translation(o.nat_state, is_icmp(o), there, back);
}

// The program's clock is coarse, and time passes while a table is read.
constexpr uint64_t kSkewMs = 1000;

bool is_steady(uint8_t a, uint8_t b) {
    return (a == kTcpEstablished
            && (b == kTcpEstablished || b == kTcpFinWait2))
        || (a == kTcpFinWait2 && b == kTcpEstablished);
}

// What OVS lets be executed when the protocol is in that state.
std::array<uint16_t, 2> executable(const std::array<xf_conn, 2> &dir) {
    const uint8_t a = dir[0].l4_state, b = dir[1].l4_state;
    const bool is_both = dir[0].proto == IPPROTO_TCP ? is_steady(a, b)
                       : dir[0].proto == IPPROTO_UDP ? a == kUdpReplied
                                                     : a == kIcmpReplied;
    if (is_both) {
        return {kEstablished, kReply};
    }
    const bool is_one =
        dir[0].proto == IPPROTO_UDP ? a == kUdpMultiple : is_icmp(dir[0]);
    return {is_one ? kNew : uint16_t{}, 0};
}

bool has_sound_states(const std::array<xf_conn, 2> &dir) {
    const auto &[o, r] = dir;
    const uint8_t last = o.proto == IPPROTO_TCP ? kTcpLast
                       : o.proto == IPPROTO_UDP ? kUdpReplied
                                                : kIcmpReplied;
    const auto may = executable(dir);
    return o.l4_state <= last && r.l4_state <= last
        && (o.proto == IPPROTO_TCP || o.l4_state == r.l4_state)
        && (!o.state || o.state == may[0]) && (!r.state || r.state == may[1])
        && o.mark == r.mark && o.timeout_ms == r.timeout_ms
        && std::ranges::equal(o.label, r.label);
}

bool has_sound_windows(const std::array<xf_conn, 2> &dir,
                       const std::array<xf_conn_use, 2> &use) {
    return std::ranges::all_of(
               use,
               [](const xf_conn_use &u) { return u.max_win <= UINT16_MAX; })
        && std::ranges::all_of(
               dir, [](const xf_conn &c) { return c.wscale <= 0xf; });
}

LeftOut judge_times(const xf_conn &conn, const std::array<xf_conn_use, 2> &use,
                    uint64_t now_ms, uint64_t *expires_ms) {
    uint64_t used = 0, expires = 0;
    for (const xf_conn_use &u : use) {
        used = std::max<uint64_t>(used, u.used_ms);
        expires = std::max<uint64_t>(expires, u.expires_ms);
    }
    const uint64_t latest = now_ms + kSkewMs;
    if (used > latest || expires > latest + conn.timeout_ms) {
        return LeftOut::kImplausible;
    }
    *expires_ms = std::max(expires, used ? used + conn.timeout_ms : 0);
    return *expires_ms > now_ms ? LeftOut::kNot : LeftOut::kExpired;
}

void fill_dir(const xf_conn &conn, const xf_conn_use &use,
              ovs_offload_ct_dir *out) {
    const Tuple tuple = tuple_of(conn);
    std::ranges::copy(tuple.src, out->src);
    std::ranges::copy(tuple.dst, out->dst);
    out->tp_src = tuple.tp_src;
    out->tp_dst = tuple.tp_dst;
    out->state = conn.state;
    out->nat_state = conn.nat_state;
    out->l4_state = conn.l4_state;
    if (conn.proto != IPPROTO_TCP) {
        return;
    }
    out->seq_end = use.seq_end;
    out->ack_win = use.ack_win;
    out->max_win = use.max_win;
    out->wscale = conn.wscale;
    out->l4_wscale = conn.l4_wscale;
}

// Whoever writes to the memory meanwhile, each word is read once.
template <typename T>
T copy_words(T &from) {
    constexpr size_t kWords = sizeof(T) / sizeof(uint64_t);
    auto *words = reinterpret_cast<uint64_t *>(&from);
    std::array<uint64_t, kWords> values;
    for (size_t i = 0; i < kWords; i++) {
        values[i] = peek(words[i]);
    }
    return std::bit_cast<T>(values);
}

}  // namespace

const char *OldConns::name(LeftOut why) {
    constexpr const char *kNames[kN] = {"",
                                        "unused",
                                        "another one has the same tuple",
                                        "being written",
                                        "needs OVS",
                                        "expired",
                                        "implausible"};
    return kNames[static_cast<size_t>(why)];
}

OldConns::OldConns(uint32_t id, const Memory &memory,
                   std::vector<Mapping> mappings)
    : id_(id),
      mappings_(std::move(mappings)),
      conns_(memory.conns),
      uses_(memory.uses),
      zones_(memory.zones),
      n_(std::min(memory.conns.size(), memory.uses.size())) {}

std::optional<OldConns::Record> OldConns::copy(uint32_t slot) const {
    Record r;
    for (size_t d = 0; d < 2; d++) {
        xf_conn &conn = conns_[2 * size_t{slot} + d];
        const uint32_t before = peek(conn.change);
        r.dir[d] = copy_words(conn);
        r.use[d] = copy_words(uses_[2 * size_t{slot} + d]);
        if (before & 1 || peek(conn.change) != before) {
            return {};
        }
    }
    return r;
}

LeftOut OldConns::read(uint32_t slot, uint64_t now_ms,
                       ovs_offload_ct *out) const {
    if (!peek(conns_[2 * size_t{slot}].live)
        && !peek(conns_[2 * size_t{slot} + 1].live)) {
        return LeftOut::kUnused;
    }
    const auto record = copy(slot);
    if (!record) {
        return LeftOut::kBeingWritten;
    }
    const auto &[dir, use] = *record;
    if (!dir[0].live || !dir[1].live) {
        return LeftOut::kHidden;
    }
    if (!dir[0].l4_state || !dir[1].l4_state) {
        return LeftOut::kUntold;
    }
    if (!has_sound_tuples(dir) || !has_sound_states(dir)
        || !has_sound_windows(dir, use)) {
        return LeftOut::kImplausible;
    }
    uint64_t expires_ms;
    if (const auto why = judge_times(dir[0], use, now_ms, &expires_ms);
        why != LeftOut::kNot) {
        return why;
    }
    *out = {};
    out->size = sizeof *out;
    out->zone = dir[0].zone;
    out->l3 = is_ipv4(dir[0]) ? 4 : 6;
    out->proto = dir[0].proto;
    out->mark = dir[0].mark;
    out->timeout_ms = dir[0].timeout_ms;
    out->expires_ms = static_cast<int64_t>(expires_ms);
    std::memcpy(out->label, dir[0].label, sizeof out->label);
    for (size_t d = 0; d < 2; d++) {
        fill_dir(dir[d], use[d], &out->dir[d]);
    }
    return LeftOut::kNot;
}

OldConns::Use OldConns::use(uint32_t slot, int d, uint64_t now_ms) const {
    xf_conn_use &use = uses_[2 * size_t{slot} + d];
    const uint64_t used = peek(use.used_ms);
    if (!used || used > now_ms + kSkewMs) {
        return {};
    }
    return {used, peek(use.seq_end), peek(use.ack_win),
            std::min<uint32_t>(peek(use.max_win), UINT16_MAX)};
}

bool OldConns::does_as(uint32_t slot, const ovs_offload_ct &c) const {
    for (size_t d = 0; d < 2; d++) {
        xf_conn &conn = conns_[2 * size_t{slot} + d];
        const ovs_offload_ct_dir &dir = c.dir[d];
        if (peek(uses_[2 * size_t{slot} + d].closing)
            || peek(conn.state) != dir.state
            || peek(conn.nat_state) != dir.nat_state
            || peek(conn.l4_state) != dir.l4_state || peek(conn.mark) != c.mark
            || std::memcmp(conn.label, c.label, sizeof c.label) != 0) {
            return false;
        }
    }
    return true;
}

void OldConns::release(uint32_t slot) const {
    for (size_t d = 0; d < 2; d++) {
        publish(conns_[2 * size_t{slot} + d].l4_state, 0);
        publish(uses_[2 * size_t{slot} + d].closing, 1);
    }
}

void OldConns::doubt(uint16_t zone) const {
    if (!zones_.empty()) {
        std::atomic_ref(zones_[0].incomplete[zone / 64])
            .fetch_or(1ULL << zone % 64);
    }
}

}  // namespace flowxlate
