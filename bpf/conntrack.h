/* SPDX-License-Identifier: GPL-2.0-only */
/* Connection tracking: ct() for packets that change nothing of a connection but
 * when it was used last and TCP's sequence numbers.
 *
 * Everything else is a miss, with the packet as it came: OVS makes connections,
 * judges what is odd, and ends them.  What is executed must be what OVS's
 * lib/conntrack.c would have done, with which this is compared (tests/oracle/
 * ct_oracle.cc); the names of its functions are given.  The one deviation: TCP, UDP and ICMP
 * checksums are not verified.
 *
 * A ct() works on the copy of the key in a struct xf_plan.  Nothing is written to
 * a connection before the whole plan is certain (account_connections()), but
 * 'closing', which holds back what follows a packet that OVS must see first.
 */
#ifndef XF_CONNTRACK_H
#define XF_CONNTRACK_H 1

#include <linux/openvswitch.h>

#include "checksum.h"
#include "maps.h"
#include "parse.h"

#define XF_ICMP_ECHO_REPLY 0         /* RFC 792. */
#define XF_ICMP_ECHO_REQUEST 8
#define XF_ICMP6_ECHO_REQUEST 128    /* RFC 4443. */
#define XF_ICMP6_ECHO_REPLY 129
#define XF_CS_NAT (OVS_CS_F_SRC_NAT | OVS_CS_F_DST_NAT)

/* OVS takes packets to or from these ports for those of application level
 * gateways, whoever asks (get_alg_ctl_type()). */
#define XF_FTP_PORT 21
#define XF_TFTP_PORT 69

/* How far acknowledgements may be behind or ahead (MAXACKWINDOW in OVS's
 * lib/conntrack-tcp.c): a full window and a bit. */
#define XF_MAX_ACK_SKEW (0xffff + 1500)

/* Sequence numbers that are so far from TCP's window are out of it, whatever
 * other CPUs are about to note. */
#define XF_FAR_OUT (1 << 20)

#define XF_TCP_FIN 0x01
#define XF_TCP_SYN 0x02
#define XF_TCP_RST 0x04
#define XF_TCP_PSH 0x08
#define XF_TCP_ACK 0x10
#define XF_TCP_URG 0x20

static __always_inline __u32
ct_settings(void)
{
    const struct xf_settings *settings;
    __u32 zero = 0;

    settings = bpf_map_lookup_elem(&xf_settings, &zero);
    return settings ? *(const volatile __u32 *)&settings->ct : 0;
}

/* Reads what a connection is found and judged by, where conn_key_extract() finds
 * a packet that is whole and plain. */
static __always_inline int
read_segment(struct xdp_md *ctx, const struct xf_packet *p,
             struct xf_segment *s)
{
    void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
    void *l3 = data + (p->l3_off & 0x1f), *l4 = data + (p->l4_off & 0x7f);
    __u8 proto = p->key.nw_proto;

    if ((p->cls != XF_CLASS_IPV4 && p->cls != XF_CLASS_IPV6) || p->key.nw_frag
        || l3 + sizeof(struct iphdr) > end)
        return XF_MISS_CT_PACKET;
    if (p->cls == XF_CLASS_IPV4 && !is_ipv4_header_valid(l3))
        return XF_MISS_CT_PACKET;
    if (proto == IPPROTO_TCP) {
        struct tcphdr *tcp = l4;

        if ((void *)(tcp + 1) > end)
            return XF_MISS_CT_PACKET;
        s->seq = bpf_ntohl(tcp->seq);
        s->end = s->seq + p->l4_len - tcp->doff * 4;
        s->ack = bpf_ntohl(tcp->ack_seq);
        s->win = bpf_ntohs(tcp->window);
    } else if (proto == IPPROTO_UDP) {
        struct udphdr *udp = l4;

        if ((void *)(udp + 1) > end || bpf_ntohs(udp->len) < sizeof *udp
            || bpf_ntohs(udp->len) > p->l4_len
            || (!udp->check && p->cls == XF_CLASS_IPV6))
            return XF_MISS_CT_PACKET;
    } else if (proto == (p->cls == XF_CLASS_IPV4 ? IPPROTO_ICMP
                                                 : XF_IPPROTO_ICMPV6)) {
        struct xf_icmp *icmp = l4;

        if ((void *)(icmp + 1) > end)
            return XF_MISS_CT_PACKET;
        s->icmp_id = icmp->rest;
    } else {
        return XF_MISS_CT_PACKET;
    }
    s->now_ms = bpf_ktime_get_coarse_ns() / 1000000;
    return XF_PARSED;
}

/* May OVS be looking at the payload for an application level gateway? */
static __always_inline bool
is_alg_control(const struct xf_key *key)
{
    if (key->nw_proto == IPPROTO_TCP)
        return key->tp_src == bpf_htons(XF_FTP_PORT)
               || key->tp_dst == bpf_htons(XF_FTP_PORT);
    return key->nw_proto == IPPROTO_UDP
           && key->tp_dst == bpf_htons(XF_TFTP_PORT);
}

/* Stores in '*ports' what tells the connection of a packet with 'key' beside its
 * addresses.  Returns false for what OVS finds invalid, or related. */
static __always_inline bool
find_ports(const struct xf_key *key, __u32 cls, const struct xf_segment *s,
           __u32 *ports)
{
    __u8 type = bpf_ntohs(key->tp_src);
    bool is_echo;

    if (key->nw_proto == IPPROTO_TCP || key->nw_proto == IPPROTO_UDP) {
        *ports = key->word[3] >> 32;
        return key->tp_src && key->tp_dst && !is_alg_control(key);
    }
    is_echo = cls == XF_CLASS_IPV4
              ? type == XF_ICMP_ECHO_REQUEST || type == XF_ICMP_ECHO_REPLY
              : type == XF_ICMP6_ECHO_REQUEST || type == XF_ICMP6_ECHO_REPLY;
    *ports = s->icmp_id | (__u32)type << 16;
    return is_echo && !key->tp_dst;
}

/* The type that answers an echo request or reply. */
static __always_inline __u32
reverse_echo(__u32 type, __u32 cls)
{
    return cls == XF_CLASS_IPV4 ? type ^ XF_ICMP_ECHO_REQUEST ^ XF_ICMP_ECHO_REPLY
                                : type ^ XF_ICMP6_ECHO_REQUEST
                                      ^ XF_ICMP6_ECHO_REPLY;
}

/* What a connection is looked for by: the packet's tuple, or the reverse. */
static __always_inline void
make_conn_key(struct xf_conn_key *to, const struct xf_key *key, __u32 cls,
              __u32 ports, __u16 zone, bool reverse)
{
    bool is_icmp = key->nw_proto != IPPROTO_TCP
                   && key->nw_proto != IPPROTO_UDP;

    to->addr[0] = key->word[5];
    to->addr[1] = to->addr[2] = to->addr[3] = 0;
    if (cls == XF_CLASS_IPV6) {
        to->addr[0] = key->word[reverse ? 7 : 5];
        to->addr[1] = key->word[reverse ? 8 : 6];
        to->addr[2] = key->word[reverse ? 5 : 7];
        to->addr[3] = key->word[reverse ? 6 : 8];
    } else if (reverse) {
        to->addr[0] = to->addr[0] << 32 | to->addr[0] >> 32;
    }
    if (reverse)
        ports = is_icmp ? (ports & 0xffff) | reverse_echo(ports >> 16, cls) << 16
                        : ports << 16 | ports >> 16;
    to->id = ports | (__u64)zone << 32 | (__u64)key->nw_proto << 48
             | (__u64)cls << 56;
}

/* A connection that 'key' names is there, but another one of the same tuple is
 * found instead, or is about to be. */
#define XF_CONN_HIDDEN (~0U)

/* Returns the index in the bucket that 'key' names, 0 = none, or XF_CONN_HIDDEN. */
__noinline __u32
probe_connections(const struct xf_conn_key *key, __u32 index,
                  __u32 signature)
{
    const struct xf_bucket *bucket;
    __u32 hidden = 0;

    bucket = bpf_map_lookup_elem(&xf_conn_buckets, &index);
    if (!key || !bucket)             /* Never null; the verifier must see it. */
        return 0;
    for (int i = 0; i < XF_BUCKET_ENTRIES; i++) {
        __u32 entry = *(const volatile __u32 *)&bucket->entry[i];
        __u32 found = entry & xf_conn_mask;
        const struct xf_conn *conn;

        if (i >= *(const volatile __u16 *)&bucket->used)
            break;                   /* Read anew: see probe_bucket(). */
        if ((entry ^ signature) & ~xf_conn_mask)
            continue;
        conn = bpf_map_lookup_elem(&xf_conns, &found);
        if (!conn || *(const __u64 *)&conn->ports != key->id
            || (conn->addr[0] ^ key->addr[0])
               | (conn->addr[1] ^ key->addr[1])
               | (conn->addr[2] ^ key->addr[2])
               | (conn->addr[3] ^ key->addr[3]))
            continue;
        if (*(const volatile __u8 *)&conn->live)
            return found;
        hidden = XF_CONN_HIDDEN;
    }
    return hidden;
}

/* The index of the connection that 'key' names, 0 = none, or XF_CONN_HIDDEN. */
static __always_inline __u32
find_connection(const struct xf_conn_key *key)
{
    __u64 hash = xf_conn_hash(key, xf_secret);
    __u32 signature = xf_hash_signature(hash), found = 0;
    __u32 index = xf_hash_bucket1(hash) & xf_conn_bucket_mask;
    const struct xf_bucket *bucket;

    bucket = bpf_map_lookup_elem(&xf_conn_buckets, &index);
    if (!bucket)
        return 0;
    if (*(const volatile __u16 *)&bucket->used)
        found = probe_connections(key, index, signature);
    if ((!found || found == XF_CONN_HIDDEN)
        && *(const volatile __u16 *)&bucket->overflow)
        found = probe_connections(key, xf_hash_bucket2(hash)
                                           & xf_conn_bucket_mask, signature)
                ?: found;
    return found;
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

/* Is the segment in the window, as tcp_conn_update() has it?  'again': it has
 * been judged once and has moved the window since. */
static __always_inline bool
is_in_window(const struct xf_segment *s, const struct xf_conn_use *self,
             const struct xf_conn_use *other, __u32 self_scale,
             __u32 other_scale, bool again)
{
    bool is_empty = s->seq == s->end;
    __u32 begin = is_empty ? self->seq_end : s->seq;
    __u32 end = is_empty ? self->seq_end : s->end;
    __u32 highest = again && (__s32)(end - self->seq_end) > 0
                    ? end : self->seq_end;
    __s32 skew = other->seq_end - s->ack;

    return (__s32)(other->ack_win - end) >= 0
           && (__s32)(begin - (highest
                               - (other->max_win << (other_scale & 0xf)))) >= 0
           && skew >= -XF_MAX_ACK_SKEW
           && skew <= XF_MAX_ACK_SKEW << (self_scale & 0xf);
}

/* Is a segment that may change the state, if it is valid, so far out of the
 * window that OVS will not find it valid?  Then nothing need wait for it, or
 * whoever knows the tuple could keep the connection out of XDP, by RSTs with
 * forged numbers. */
static __always_inline bool
is_far_out(const struct xf_segment *s, __u16 flags,
           const struct xf_conn_use *self, const struct xf_conn_use *other,
           __u32 other_scale)
{
    __u32 end = s->end + !!(flags & XF_TCP_SYN) + !!(flags & XF_TCP_FIN);
    __s32 off = s->seq - self->seq_end;
    __s32 behind = -off - (other->max_win << (other_scale & 0xf));
    __s32 ahead = end - other->ack_win;

    if (flags & XF_TCP_RST)          /* It has to be exact. */
        return off > XF_FAR_OUT || off < -XF_FAR_OUT;
    return ahead > XF_FAR_OUT || behind > XF_FAR_OUT;
}

/* Flags that OVS finds invalid whatever the numbers and the state are
 * (tcp_invalid_flags()), so nothing need wait for such a segment. */
static __always_inline bool
has_invalid_flags(__u16 flags)
{
    if (flags & XF_TCP_SYN ? flags & (XF_TCP_RST | XF_TCP_FIN)
                           : !(flags & (XF_TCP_ACK | XF_TCP_RST)))
        return true;
    return !(flags & XF_TCP_ACK)
           && flags & (XF_TCP_FIN | XF_TCP_PSH | XF_TCP_URG);
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

/* Does the connection have the mark and label that the step would give it? */
static __always_inline bool
changes_nothing(const struct xf_ct_step *ct, __u32 mark, __u64 label0,
                __u64 label1)
{
    return (!(ct->flags & XF_CT_MARK)
            || ((mark ^ ct->mark) & ct->mark_mask) == 0)
           && (!(ct->flags & XF_CT_LABEL)
               || (((label0 ^ ct->label[0]) & ct->label_mask[0])
                   | ((label1 ^ ct->label[1]) & ct->label_mask[1])) == 0);
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
        plan->sets = 1;
    }
    return XF_PARSED;
}

/* One ct() or ct_clear.  Returns XF_PARSED or an enum xf_miss.
 *
 * A global function, so that the verifier checks it once. */
__noinline int
track(struct xdp_md *ctx, const struct xf_packet *p, struct xf_plan *plan,
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
    if (!(settings & XF_CT_OPEN))
        return XF_MISS_CT_UNKNOWN;
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

#endif /* conntrack.h */
