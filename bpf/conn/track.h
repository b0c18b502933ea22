/* SPDX-License-Identifier: GPL-2.0-only */
/* Connection tracking: ct() for packets that change nothing of a connection but
 * when it was used last and TCP's sequence numbers.
 *
 * Everything else is a miss, with the packet as it came: OVS makes connections,
 * judges what is odd, and ends them.  What is executed must be what OVS's
 * lib/conntrack.c would have done, with which this is compared
 * (tests/oracle/ct_oracle.cc); the names of its functions are given.  The one
 * deviation: TCP, UDP and ICMP checksums are not verified.
 *
 * A ct() works on the copy of the key in a struct xf_plan.  Nothing is written to
 * a connection before the whole plan is certain (account_connections()), but
 * 'closing', which holds back what follows a packet that OVS must see first.
 */
#ifndef XF_CONN_TRACK_H
#define XF_CONN_TRACK_H 1

#include <linux/openvswitch.h>

#include "bpf/conn/find.h"
#include "bpf/conn/segment.h"
#include "bpf/conn/step.h"
#include "bpf/conn/tcp.h"
#include "bpf/hook/hook.h"
#include "bpf/maps.h"
#include "bpf/packet/parse.h"

/* What may ask the kernel's connection tracker is a program of its own, as it does not load
 * where the kernel has no BTF. */
#ifdef XF_KERNEL_CT
#include "bpf/conn/kernel.h"
#else
#define track_by_kernel(CTX, P, PLAN, CT) XF_MISS_CT_UNKNOWN
#endif

static __always_inline __u32
ct_settings(void)
{
    const struct xf_settings *settings;
    __u32 zero = 0;

    settings = bpf_map_lookup_elem(&xf_settings, &zero);
    return settings ? *(const volatile __u32 *)&settings->ct : 0;
}

/* What packets of this direction have done. */
static __always_inline struct xf_conn_use *
find_use(__u32 index)
{
    return bpf_map_lookup_elem(&xf_conn_uses, &index);
}

/* Keeps the packets that follow from overtaking this one. */
static __always_inline int
leave_to_ovs(struct xf_conn_use *self, struct xf_conn_use *other)
{
    if (!xf_is_trace) {
        *(volatile __u32 *)&self->closing = 1;
        *(volatile __u32 *)&other->closing = 1;
    }
    return XF_MISS_CT_STATE;
}

/* May a packet of this connection pass without OVS having seen it?  Returns
 * XF_PARSED or an enum xf_miss. */
static __always_inline int
judge(const struct xf_plan *plan, __u32 index, const struct xf_conn *conn,
      __u32 settings, bool again)
{
    struct xf_conn_use *self = find_use(index), *other = find_use(index ^ 1);
    const struct xf_segment *s = &plan->segment;
    __u16 flags = bpf_ntohs(plan->key.tcp_flags);
    __u64 used;

    if (!self || !other)
        return XF_MISS_INTERNAL;
    if (conn->proto == IPPROTO_TCP && has_invalid_flags(flags))
        return XF_MISS_CT_PACKET;
    if (conn->proto == IPPROTO_TCP
        && flags & (XF_TCP_SYN | XF_TCP_FIN | XF_TCP_RST))
        return conn->state && (settings & XF_CT_WINDOWS)
               && is_far_out(s, flags, self, other, conn->peer_wscale)
               ? XF_MISS_CT_WINDOW : leave_to_ovs(self, other);
    if (!conn->state || *(const volatile __u32 *)&self->closing)
        return XF_MISS_CT_STATE;
    used = self->used_ms > other->used_ms ? self->used_ms : other->used_ms;
    if (s->now_ms >= self->expires_ms
        && s->now_ms >= used + conn->timeout_ms)
        return XF_MISS_CT_STATE;
    if (conn->proto == IPPROTO_TCP && (settings & XF_CT_WINDOWS)
        && !is_in_window(s, self, other, conn->wscale, conn->peer_wscale,
                         again))
        return XF_MISS_CT_WINDOW;
    return XF_PARSED;
}

/* Judges the packet and adds the connection to those that the plan uses, which
 * it may do already: in the same direction OVS judges it by what it has itself
 * moved; in the other one, OVS may as well do it. */
static __always_inline int
judge_and_note(struct xf_plan *plan, __u32 index, const struct xf_conn *conn,
               __u32 settings)
{
    bool again = false, reverse = false;
    int miss;

    for (__u32 i = 0; i < XF_MAX_CTS && i < plan->n_cts; i++) {
        again |= plan->ct[i] == index;
        reverse |= plan->ct[i] == (index ^ 1);
    }
    if (reverse)
        return XF_MISS_CT_STATE;
    miss = judge(plan, index, conn, settings, again);
    if (miss != XF_PARSED || again)
        return miss;
    if (plan->n_cts >= XF_MAX_CTS)
        return XF_MISS_RECIRC;
    plan->ct[plan->n_cts++ & (XF_MAX_CTS - 1)] = index;
    return XF_PARSED;
}

/* May a packet of no connection be the first one of a new one (valid_new())? */
static __always_inline bool
may_be_new(const struct xf_key *key, __u32 cls)
{
    __u16 flags = bpf_ntohs(key->tcp_flags);
    __u8 type = bpf_ntohs(key->tp_src);

    if (key->nw_proto == IPPROTO_UDP)
        return true;
    if (key->nw_proto != IPPROTO_TCP)
        return type == (cls == XF_CLASS_IPV4 ? XF_ICMP_ECHO_REQUEST
                                             : XF_ICMP6_ECHO_REQUEST);
    return !has_invalid_flags(flags)
           && !(flags & XF_TCP_SYN && flags & XF_TCP_ACK);
}

/* Are all connections of the zone here, if these are the settings?  To be asked
 * before the look-up: one for which there was no room may get it after a look-up
 * has passed its place, and the zone is complete then. */
static __always_inline bool
is_complete(__u32 settings, __u16 zone)
{
    const struct xf_zones *zones;
    __u32 zero = 0;

    zones = bpf_map_lookup_elem(&xf_zones, &zero);
    return zones && !(settings & XF_CT_EXPECTS)
           && !(*(const volatile __u64 *)&zones->incomplete[zone / 64]
                >> zone % 64 & 1);
}

/* ct() of a packet for which there is no connection. */
static __always_inline int
track_unknown(struct xf_plan *plan, __u32 cls, const struct xf_ct_step *ct)
{
    struct xf_key *key = &plan->key;

    if (ct->flags & XF_CT_COMMIT || key->ct_state & XF_CS_NAT
        || !may_be_new(key, cls))
        return XF_MISS_CT_UNKNOWN;
    key->word[4] = OVS_CS_F_NEW | OVS_CS_F_TRACKED | (__u64)ct->zone << 16;
    key->word[XF_LABEL_WORD] = key->word[XF_LABEL_WORD + 1] = 0;
    plan->conn = 0;
    return XF_PARSED;
}

/* Translates addresses and ports of the plan's key. */
static __always_inline void
translate(struct xf_key *key, const struct xf_conn *conn)
{
    key->word[5] = conn->to_addr[0];
    if (conn->cls == XF_CLASS_IPV6) {
        key->word[6] = conn->to_addr[1];
        key->word[7] = conn->to_addr[2];
        key->word[8] = conn->to_addr[3];
    }
    if (conn->proto == IPPROTO_TCP || conn->proto == IPPROTO_UDP)
        key->word[3] = (__u32)key->word[3] | (__u64)conn->to_ports << 32;
}

/* ct() of a packet of the connection 'index'; 'is_known': it was found by an
 * earlier ct(), which has judged the packet. */
static __always_inline int
track_known(struct xf_plan *plan, __u32 index, const struct xf_ct_step *ct,
            __u32 settings, bool is_known)
{
    const struct xf_conn *conn = bpf_map_lookup_elem(&xf_conns, &index);
    struct xf_key *key = &plan->key;
    __u64 label0 = 0, label1 = 0;
    __u32 change, mark;
    __u16 nat_state, state;
    int miss;

    if (!conn)
        return XF_MISS_INTERNAL;
    change = *(const volatile __u32 *)&conn->change;
    if (!is_known) {
        miss = judge_and_note(plan, index, conn, settings);
        if (miss != XF_PARSED)
            return miss;
    }
    state = is_known ? 0 : *(const volatile __u16 *)&conn->state;
    nat_state = conn->nat_state;
    mark = conn->mark;
    if (conn->has_label) {
        label0 = conn->label[0];
        label1 = conn->label[1];
    }
    if (change & 1 || *(const volatile __u32 *)&conn->change != change)
        return XF_MISS_CT_STATE;     /* Is being written. */
    if (!state && !is_known)
        return XF_MISS_CT_STATE;     /* Has ended since it was judged. */
    if (!changes_nothing(ct, mark, label0, label1))
        return XF_MISS_CT_CHANGE;

    if (state & OVS_CS_F_ESTABLISHED)
        key->ct_state &= ~OVS_CS_F_NEW;
    key->ct_state |= state;
    key->ct_zone = ct->zone;
    key->ct_mark = mark;
    key->word[XF_LABEL_WORD] = label0;
    key->word[XF_LABEL_WORD + 1] = label1;
    plan->conn = ct->flags & XF_CT_NAT ? 0 : index;
    if (ct->flags & XF_CT_NAT && nat_state && !(key->ct_state & XF_CS_NAT)) {
        key->ct_state |= nat_state;
        translate(key, conn);
        plan->sets = XF_SETS;
    }
    return XF_PARSED;
}

/* One ct() or ct_clear.  Returns XF_PARSED or an enum xf_miss.
 *
 * A global function, so that the verifier checks it once. */
__noinline int
track(xf_ctx *ctx, const struct xf_packet *p, struct xf_plan *plan,
      const struct xf_ct_step *ct)
{
    struct xf_key *key;
    __u32 ports, index, settings = ct_settings();
    bool natted, complete;
    int miss;

    if (!p || !plan || !ct)
        return XF_MISS_INTERNAL;     /* Never null; the verifier must see it. */
    key = &plan->key;
    if (ct->flags & XF_CT_CLEAR) {
        key->word[4] = 0;
        key->word[XF_LABEL_WORD] = key->word[XF_LABEL_WORD + 1] = 0;
        plan->conn = 0;
    }
    if (!(ct->flags & XF_CT_TRACK))
        return XF_PARSED;
    if (xf_kernel_ct)
        return track_by_kernel(ctx, p, plan, ct);
    if (xf_kernel_datapath || !(settings & XF_CT_OPEN))
        return XF_MISS_CT_UNKNOWN;   /* The table is of the userspace datapath. */
    if (!plan->segment.now_ms) {
        miss = read_segment(ctx, p, &plan->segment);
        if (miss != XF_PARSED)
            return miss;
    }
    if (!find_ports(key, p->cls, &plan->segment, &ports))
        return XF_MISS_CT_PACKET;
    if (key->ct_state && key->ct_zone != ct->zone) {
        key->ct_state = 0;           /* process_one() begins so. */
        plan->conn = 0;
    }
    if (plan->conn)
        return track_known(plan, plan->conn, ct, settings, true);
    natted = key->ct_state & XF_CS_NAT;
    make_conn_key(&plan->conn_key, key, p->cls, ports, ct->zone, natted);
    complete = is_complete(settings, ct->zone);
    index = find_connection(&plan->conn_key);
    if (!index && complete)
        return track_unknown(plan, p->cls, ct);
    if (!index || index == XF_CONN_HIDDEN)
        return XF_MISS_CT_UNKNOWN;
    index ^= natted;                 /* initial_conn_lookup(). */
    return track_known(plan, index, ct, settings, false);
}

/* Notes in all connections of the plan that the packet has used them, as
 * tcp_conn_update() does. */
static __always_inline void
account_connections(const struct xf_plan *plan)
{
    const struct xf_segment *s = &plan->segment;

    if (xf_is_trace)
        return;
    for (__u32 i = 0; i < XF_MAX_CTS && i < plan->n_cts; i++) {
        __u32 index = plan->ct[i], ack_win;
        const struct xf_conn *conn = bpf_map_lookup_elem(&xf_conns, &index);
        struct xf_conn_use *use = find_use(index);

        if (!conn || !use)
            continue;
        if (use->used_ms != s->now_ms)
            use->used_ms = s->now_ms;
        if (conn->proto != IPPROTO_TCP)
            continue;
        if (s->end != s->seq && (__s32)(s->end - use->seq_end) > 0)
            use->seq_end = s->end;
        if (use->max_win < s->win)
            use->max_win = s->win;
        ack_win = (__u32)s->win << (conn->wscale & 0xf);
        if ((__s32)(s->ack + ack_win - use->ack_win) >= 0)
            use->ack_win = s->ack + (ack_win ? ack_win : 1);
    }
}

#endif /* track.h */
