/* SPDX-License-Identifier: GPL-2.0-only */
/* ct() in the kernel datapath, and of TC's flows: connections are nf_conntrack's.
 *
 * Each ct() asks the kernel (bpf_xdp_ct_lookup(), with a zone since Linux 6.11), so a
 * connection that has been deleted, or that has another mark now, is seen before the
 * next packet.  What is executed must be what openvswitch.ko would have done
 * (net/openvswitch/conntrack.c, whose functions are named here): for TCP and UDP of a
 * connection that is confirmed and assured, and whose state the packet does not change.
 * Everything else is a miss, and openvswitch.ko has the same flow.
 *
 * Nothing is written to a connection but the time-out of established TCP
 * (keep_established()).  Others are refreshed by openvswitch.ko,
 * which gets a packet each time that a sixteenth of the time-out has passed
 * (is_refreshed()): so whatever the kernel keeps for a connection it goes on keeping.
 *
 * Deviations: checksums are not verified; TCP's windows are not followed (connections of
 * openvswitch.ko are liberal, ovs_ct_execute()), so that an RST is not what nf_conntrack
 * expects, and it has to be told to pass it on (kernel/conntrack_rst.h in flowxlate); and
 * nf_conntrack's own counters have only what it sees.
 *
 * TC's act_ct (net/sched/act_ct.c) has a table of connections in front of nf_conntrack,
 * and what is in that it takes for established without a look at sequence numbers,
 * checksums or state (tcf_ct_flow_table_lookup()); FIN and RST take a connection out of
 * it.  Where flows are TC's, only packets are executed that it would find there, so that
 * nf_conntrack sees the same packets with and without the program, and nothing has to be
 * written.  A connection leaves the table when TC has not seen it for a while, so TC gets
 * a packet of each from time to time.
 */
#ifndef XF_CONN_KERNEL_H
#define XF_CONN_KERNEL_H 1

#include <bpf/bpf_core_read.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/openvswitch.h>

#include "bpf/conn/segment.h"
#include "bpf/conn/step.h"
#include "bpf/conn/tcp.h"
#include "bpf/hook/hook.h"
#include "bpf/maps.h"
#include "bpf/packet/parse.h"

/* enum tcp_conntrack, <linux/netfilter/nf_conntrack_tcp.h>. */
#define XF_TCP_CONNTRACK_ESTABLISHED 3
/* More than NF_CT_EXT_NUM. */
#define XF_CT_EXTENSIONS 16

/* Where packets are translated to whose answers come with the tuple 't'. */
static __always_inline void
copy_tuple(struct xf_kernel_conn *to, const struct nf_conntrack_tuple *t)
{
    for (int i = 0; i < 4; i++) {
        to->dst[i] = t->src.u3.all[i];
        to->src[i] = t->dst.u3.all[i];
    }
    to->tp_dst = t->src.u.all;
    to->tp_src = t->dst.u.all;
}

/* What ct(nat) makes of a packet of this direction: its addresses are those of the
 * other direction's tuple, turned round (nf_ct_invert_tuple(), nf_nat_manip_pkt()), and
 * its state tells which of them openvswitch.ko takes for translated (nf_ct_nat()). */
static __always_inline void
read_translation(struct xf_kernel_conn *to, const struct nf_conn *conn,
                 unsigned long status, bool is_reply)
{
    bool src = status & IPS_SRC_NAT, dst = status & IPS_DST_NAT;

    to->nat_state = 0;
    if (!src && !dst)
        return;
    to->to_src = is_reply ? dst : src;
    to->to_dst = is_reply ? src : dst;
    if (is_reply) {
        barrier_var(conn);           /* Or clang computes the tuple's offset, and the
                                      * verifier refuses that (all kernels). */
        to->nat_state = (src ? OVS_CS_F_DST_NAT : 0) | (dst ? OVS_CS_F_SRC_NAT : 0);
        copy_tuple(to, &conn->tuplehash[0].tuple);
    } else {
        barrier_var(conn);
        /* With a translated destination the source is taken for translated, too. */
        to->nat_state = OVS_CS_F_SRC_NAT | (dst ? OVS_CS_F_DST_NAT : 0);
        copy_tuple(to, &conn->tuplehash[1].tuple);
    }
}

/* Did act_ct make the connection?  Then it is its table that has it. */
static __always_inline bool
is_act_ct(const __u8 *offset)
{
    __u32 i;

    if (!bpf_core_enum_value_exists(enum nf_ct_ext_id, NF_CT_EXT_ACT_CT))
        return false;
    i = bpf_core_enum_value(enum nf_ct_ext_id, NF_CT_EXT_ACT_CT);
    return i < XF_CT_EXTENSIONS && offset[i];
}

/* Reads the connection's label.  False: somebody looks into its packets, or it has
 * time-outs of its own; or, for TC, act_ct did not make it. */
static __always_inline bool
read_extensions(struct xf_kernel_conn *to, const struct nf_conn *conn)
{
    const void *ext = conn->ext;
    __u8 offset[XF_CT_EXTENSIONS];
    __u32 i;

    to->label[0] = to->label[1] = 0;
    to->has_label = 0;
    if (!ext)
        return !xf_of_tc;
    if (bpf_probe_read_kernel(offset, sizeof offset, ext))
        return false;
    i = bpf_core_enum_value(enum nf_ct_ext_id, NF_CT_EXT_HELPER);
    if (i >= sizeof offset || offset[i])
        return false;
    if (xf_of_tc && !is_act_ct(offset))
        return false;
    if (bpf_core_enum_value_exists(enum nf_ct_ext_id, NF_CT_EXT_TIMEOUT)) {
        i = bpf_core_enum_value(enum nf_ct_ext_id, NF_CT_EXT_TIMEOUT);
        if (i >= sizeof offset || offset[i])
            return false;
    }
    if (!bpf_core_enum_value_exists(enum nf_ct_ext_id, NF_CT_EXT_LABELS))
        return true;
    i = bpf_core_enum_value(enum nf_ct_ext_id, NF_CT_EXT_LABELS);
    if (i >= sizeof offset)
        return false;
    to->has_label = offset[i] != 0;
    return !to->has_label
           || !bpf_probe_read_kernel(to->label, sizeof to->label, ext + offset[i]);
}

/* A number that other connections do not have: where it is.  The verifier lets a pointer
 * become a number by being subtracted from another one, and by nothing else (all
 * kernels); that one is always the same. */
static __always_inline __u64
number_of(const struct nf_conn *conn)
{
    __u32 zero = 0;
    const void *base = bpf_map_lookup_elem(&xf_settings, &zero);
    __u64 number = 0;

    if (base) {
        number = (const char *)conn - (const char *)base;
        barrier_var(number);
    }
    return number;
}

/* Has openvswitch.ko, or TC, seen a packet of the connection of late?  If not, it gets this
 * one.  Of a connection that has no way in its set nobody knows, and it gets one by that.
 * Times are jiffies, or milliseconds for TC. */
static __always_inline bool
is_refreshed(const struct nf_conn *conn, const struct xf_segment *s)
{
    __u32 now = xf_of_tc ? s->now_ms : bpf_jiffies64();
    __u32 tag, set_index, oldest = 0, age = 0;
    __u64 id = number_of(conn) * 0x9e3779b97f4a7c15;
    struct xf_refreshes *set;

    if (xf_is_trace)
        return true;
    id ^= id >> 32;
    tag = id >> 32 | 1;
    set_index = id & xf_conn_bucket_mask;
    set = bpf_map_lookup_elem(&xf_refreshes, &set_index);
    if (!set)
        return false;
    for (__u32 i = 0; i < XF_REFRESH_WAYS; i++) {
        __u64 way = *(volatile __u64 *)&set->way[i];
        __u32 then = way, passed = now - then;

        if (way >> 32 == tag) {
            if (passed < (xf_of_tc ? xf_tc_refresh_ms : (conn->timeout - then) / 16))
                return true;
            oldest = i;
            break;
        }
        if (!way || passed > age) {
            oldest = i;
            age = way ? passed : ~0U;
        }
    }
    *(volatile __u64 *)&set->way[oldest & (XF_REFRESH_WAYS - 1)]
        = (__u64)tag << 32 | now;
    return false;
}

/* Reads what a packet of the connection needs.  Returns XF_PARSED or an enum xf_miss. */
static __always_inline int
read_connection(struct xf_kernel_conn *to, const struct nf_conn *conn, __u8 proto,
                bool is_reply, const struct xf_segment *s)
{
    const unsigned long in_table = xf_of_tc ? IPS_OFFLOAD : 0;
    const unsigned long wanted = IPS_CONFIRMED | IPS_ASSURED | IPS_SEEN_REPLY | in_table;
    const unsigned long asked = wanted | IPS_DYING | IPS_EXPECTED | IPS_SEQ_ADJUST
                                | IPS_HELPER | IPS_OFFLOAD | IPS_HW_OFFLOAD
                                | IPS_UNTRACKED | IPS_TEMPLATE;
    unsigned long status = conn->status;

    if ((status & asked) != wanted || conn->master
        || (proto == IPPROTO_TCP
            && conn->proto.tcp.state != XF_TCP_CONNTRACK_ESTABLISHED))
        return XF_MISS_CT_STATE;
    if (!read_extensions(to, conn))
        return XF_MISS_CT_STATE;
    to->mark = bpf_core_field_exists(conn->mark) ? conn->mark : 0;
    to->state = OVS_CS_F_TRACKED | OVS_CS_F_ESTABLISHED
                | (is_reply ? OVS_CS_F_REPLY_DIR : 0);
    read_translation(to, conn, status, is_reply);
    return is_refreshed(conn, s) ? XF_PARSED : XF_MISS_CT_REFRESH;
}

/* The kernel has seen data of which it sees no acknowledgement, as that is executed here,
 * so from then on it takes the connection for one that waits for its peer (300 s,
 * TCP_CONNTRACK_UNACK).  A packet without data says that it does not. */
static __always_inline void
keep_established(struct nf_conn *conn, const struct xf_segment *s)
{
    if (s->end == s->seq && !xf_is_trace)
        bpf_ct_change_timeout(conn, xf_tcp_timeout_ms);
}

static __always_inline void
make_tuple(struct bpf_sock_tuple *to, const struct xf_key *key, __u32 cls)
{
    if (cls == XF_CLASS_IPV4) {
        to->ipv4.saddr = key->ipv4_src;
        to->ipv4.daddr = key->ipv4_dst;
        to->ipv4.sport = key->tp_src;
        to->ipv4.dport = key->tp_dst;
        return;
    }
    *(__u64 *)&to->ipv6.saddr[0] = key->word[5];
    *(__u64 *)&to->ipv6.saddr[2] = key->word[6];
    *(__u64 *)&to->ipv6.daddr[0] = key->word[7];
    *(__u64 *)&to->ipv6.daddr[2] = key->word[8];
    to->ipv6.sport = key->tp_src;
    to->ipv6.dport = key->tp_dst;
}

/* Looks for the connection of a packet with the plan's key.  Returns XF_PARSED or an
 * enum xf_miss. */
static __always_inline int
ask_kernel(xf_ctx *ctx, struct xf_plan *plan, __u32 cls, __u16 zone)
{
    struct bpf_ct_opts opts = {
        .netns_id = XF_CURRENT_NETNS, .l4proto = plan->key.nw_proto,
        .ct_zone_id = zone, .ct_zone_dir = XF_BOTH_DIRECTIONS};
    struct bpf_sock_tuple tuple __attribute__((aligned(8))) = {};
    struct nf_conn *conn;
    int miss;

    make_tuple(&tuple, &plan->key, cls);
    conn = cls == XF_CLASS_IPV4
           ? hook_ct_lookup(ctx, &tuple, sizeof tuple.ipv4, &opts)
           : hook_ct_lookup(ctx, &tuple, sizeof tuple.ipv6, &opts);
    if (!conn)
        return XF_MISS_CT_UNKNOWN;
    miss = read_connection(&plan->kernel_conn, conn, plan->key.nw_proto, opts.dir,
                           &plan->segment);
    if (miss == XF_PARSED && plan->key.nw_proto == IPPROTO_TCP && !xf_of_tc)
        keep_established(conn, &plan->segment);
    bpf_ct_release(conn);
    return miss;
}

/* Translates the plan's key. */
static __always_inline void
translate_by_kernel(struct xf_key *key, const struct xf_kernel_conn *conn, __u32 cls)
{
    bool is_ipv4 = cls == XF_CLASS_IPV4;

    if (conn->to_src && is_ipv4) {
        key->ipv4_src = conn->src[0];
    } else if (conn->to_src) {
        key->word[5] = conn->src[0] | (__u64)conn->src[1] << 32;
        key->word[6] = conn->src[2] | (__u64)conn->src[3] << 32;
    }
    if (conn->to_dst && is_ipv4) {
        key->ipv4_dst = conn->dst[0];
    } else if (conn->to_dst) {
        key->word[7] = conn->dst[0] | (__u64)conn->dst[1] << 32;
        key->word[8] = conn->dst[2] | (__u64)conn->dst[3] << 32;
    }
    if (conn->to_src)
        key->tp_src = conn->tp_src;
    if (conn->to_dst)
        key->tp_dst = conn->tp_dst;
}

/* May a packet with these flags pass without the kernel having seen it? */
static __always_inline bool
may_change_state(const struct xf_key *key)
{
    __u16 flags = bpf_ntohs(key->tcp_flags);

    return key->nw_proto == IPPROTO_TCP
           && (flags & (XF_TCP_SYN | XF_TCP_FIN | XF_TCP_RST)
               || has_invalid_flags(flags));
}

/* What ct(nat) does to the packet.  Of a connection that is not translated,
 * openvswitch.ko nevertheless says in the packet's state that it is, if the action has
 * a translation for new ones (nf_ct_nat()).  Returns XF_PARSED or an enum xf_miss. */
static __always_inline int
translate_as_kernel(struct xf_plan *plan, __u32 cls, const struct xf_ct_step *ct)
{
    struct xf_kernel_conn *conn = &plan->kernel_conn;
    struct xf_key *key = &plan->key;

    if (!(ct->flags & XF_CT_NAT) || key->ct_state & XF_CS_NAT)
        return XF_PARSED;
    if (!conn->nat_state)
        return ct->flags & XF_CT_NEW_NAT ? XF_MISS_CT_STATE : XF_PARSED;
    key->ct_state |= conn->nat_state;
    translate_by_kernel(key, conn, cls);
    plan->sets |= XF_SETS;
    return XF_PARSED;
}

/* Cuts off what is behind the IP packet (nf_ct_skb_network_trim()), or it is a miss. */
static __always_inline int
plan_trim(xf_ctx *ctx, const struct xf_packet *p, struct xf_plan *plan)
{
    __u32 len = p->l4_off + p->l4_len, there = frame_len(ctx);

    if (len > there || (len < there && !XF_HOOK_CUTS))
        return XF_MISS_CT_PACKET;
    plan->padding = there - len;
    return XF_PARSED;
}

/* One ct() of the kernel datapath.  Returns XF_PARSED or an enum xf_miss.
 *
 * A connection that is known is not looked for again in the same zone, even if the packet
 * has been translated since (skb_nfct_cached()).  But openvswitch.ko looks for it again
 * after a set of an address or a port, by which the packet has lost it (ovs_ct_clear() in
 * set_ip_addr() and others); and for ct(timeout), as connections that are executed here
 * have no time-outs of their own.  These are misses. */
static __always_inline int
track_by_kernel(xf_ctx *ctx, const struct xf_packet *p, struct xf_plan *plan,
                const struct xf_ct_step *ct)
{
    struct xf_kernel_conn *conn = &plan->kernel_conn;
    struct xf_key *key = &plan->key;
    int miss;

    if (key->nw_proto != IPPROTO_TCP && key->nw_proto != IPPROTO_UDP)
        return XF_MISS_CT_PACKET;
    if (may_change_state(key))
        return XF_MISS_CT_STATE;
    if (xf_of_tc && key->nw_ttl <= 1)
        return XF_MISS_CT_PACKET;    /* act_ct does not look for it in its table. */
    if (!plan->segment.now_ms) {
        miss = read_segment(ctx, p, &plan->segment);
        if (miss != XF_PARSED)
            return miss;
        miss = plan_trim(ctx, p, plan);
        if (miss != XF_PARSED)
            return miss;
    }
    if (!key->ct_state || key->ct_zone != ct->zone) {
        miss = ask_kernel(ctx, plan, p->cls, ct->zone);
        if (miss != XF_PARSED)
            return miss;
        key->word[4] = conn->state | (__u64)ct->zone << 16 | (__u64)conn->mark << 32;
        key->word[XF_LABEL_WORD] = conn->label[0];
        key->word[XF_LABEL_WORD + 1] = conn->label[1];
        plan->conn = 1;
    } else if (!plan->conn || ct->flags & XF_CT_TIMEOUT) {
        return XF_MISS_CT_STATE;
    }
    /* Without room for a label the packet is dropped, also if that is to be 0
     * (ovs_ct_set_labels()). */
    if (ct->flags & XF_CT_LABEL && (ct->label_mask[0] | ct->label_mask[1])
        && !conn->has_label)
        return XF_MISS_CT_CHANGE;
    if (!changes_nothing(ct, conn->mark, conn->label[0], conn->label[1]))
        return XF_MISS_CT_CHANGE;
    return translate_as_kernel(plan, p->cls, ct);
}

#endif /* kernel.h */
