// SPDX-License-Identifier: Apache-2.0
// Flows with ct(), what comes behind it, and their packets, for rows of tables.
#ifndef TESTS_BPF_CT_FLOWS_H
#define TESTS_BPF_CT_FLOWS_H

#include <linux/openvswitch.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "program.h"
#include "tests/oracle/ct_packets.h"

namespace flowxlate::test {

#define AT(MEMBER) offsetof(xf_key, MEMBER)

constexpr uint16_t kTrk = OVS_CS_F_TRACKED, kNew = kTrk | OVS_CS_F_NEW,
                   kEst = kTrk | OVS_CS_F_ESTABLISHED,
                   kRpl = kEst | OVS_CS_F_REPLY_DIR, kSrc = OVS_CS_F_SRC_NAT,
                   kDst = OVS_CS_F_DST_NAT;

constexpr uint8_t kFin = 1, kSyn = 2, kRst = 4, kPsh = 8, kAck = 16, kUrg = 32;

using oracle::Address;
using oracle::Segment;

// -- Packets ----------------------------------------------------------------

inline Address host(bool v6, uint8_t n) {
    return v6 ? Address{0xfc, 0, 0, 0, 0, 0, 0, n, 0, 0, 0, 0, 0, 0, 0, n} : Address{10, 0, 0, n};
}

inline Segment with_flags(Segment s, uint8_t flags) { return s.flags = flags, s; }
// What arrives as 's' with another source, or another destination.
inline Segment from(Segment s, uint8_t n, uint16_t port) { return s.tuple.src = host(s.v6, n), s.tuple.sport = port, s; }
inline Segment to(Segment s, uint8_t n, uint16_t port) { return s.tuple.dst = host(s.v6, n), s.tuple.dport = port, s; }

// -- Flows ------------------------------------------------------------------

inline xf_ct_step ct(uint16_t zone, uint16_t flags = 0) {
    xf_ct_step step{};
    step.flags = XF_CT_TRACK | flags;
    step.zone = zone;
    return step;
}
inline xf_ct_step nat(uint16_t zone) { return ct(zone, XF_CT_NAT); }
inline xf_ct_step commit(uint16_t zone) { return ct(zone, XF_CT_COMMIT); }
inline xf_ct_step marking(xf_ct_step s, uint32_t mark, uint32_t mask) {
    s.flags |= XF_CT_MARK;
    s.mark = mark;
    s.mark_mask = mask;
    return s;
}
inline xf_ct_step labelling(xf_ct_step s, uint64_t lo, uint64_t lo_mask, uint64_t hi = 0, uint64_t hi_mask = 0) {
    s.flags |= XF_CT_LABEL;
    s.label[0] = lo;
    s.label_mask[0] = lo_mask;
    s.label[1] = hi;
    s.label_mask[1] = hi_mask;
    return s;
}
inline xf_ct_step cleared(xf_ct_step s = {}) { return s.flags |= XF_CT_CLEAR, s; }

inline FlowSpec doing(FlowSpec f, const std::vector<xf_ct_step> &steps, uint32_t n_first = 0) {
    std::copy(steps.begin(), steps.end(), f.rewrite.ct);
    f.rewrite.n_ct_first = n_first;
    return f;
}
inline FlowSpec v(bool v6) { return v6 ? FlowSpec::ipv6() : FlowSpec::ipv4(); }
inline FlowSpec first(const std::vector<xf_ct_step> &steps, bool v6 = false) { return doing(v(v6).recirc_to(1), steps); }
// The flow number 'n' of a packet with exactly this ct_state, zone and mark.
inline FlowSpec then(uint16_t n, uint16_t state, uint16_t zone = 1, uint32_t mark = 0, bool v6 = false) {
    const uint64_t word = state | uint64_t{zone} << 16 | uint64_t{mark} << 32;
    Frame bytes(8);
    std::memcpy(bytes.data(), &word, 8);
    return v(v6).recirc(n).match(AT(ct_state), bytes).match(AT(ct_label), Frame(16, 0)).to(kOut);
}
inline FlowSpec any(FlowSpec f) { return f.mask.word[4] = f.mask.word[14] = f.mask.word[15] = 0, f.key.word[4] = 0, f; }
inline FlowSpec on(FlowSpec f, uint16_t n) { return f.recirc_to(n); }
inline FlowSpec with_label(FlowSpec f, uint8_t at, uint8_t value) { return f.match(AT(ct_label) + at, {value}); }
inline FlowSpec setting_source(FlowSpec f, uint8_t n) { return f.set(AT(ipv4_src), {10, 0, 0, n}, {255, 255, 255, 255}); }
inline FlowSpec setting_ttl(FlowSpec f) { return f.set(AT(nw_ttl), {64}, {0xff}); }

}  // namespace flowxlate::test

#endif
