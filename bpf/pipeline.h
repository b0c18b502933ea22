/* SPDX-License-Identifier: GPL-2.0-only */
/* Flows that do more than change VLAN tags and output to one port: that set
 * fields, truncate, output to several ports, recirculate, or have to do with a tunnel.
 *
 * A recirculated packet passes several flows, its stages.  They are resolved on
 * a copy of the key, and what they do adds up in a struct xf_plan; then the
 * plan is carried out as a whole.  No packet is changed and no stage is counted
 * before the last flow is known.
 */
#ifndef XF_PIPELINE_H
#define XF_PIPELINE_H 1

#include "account.h"
#include "actions.h"
#include "conntrack.h"
#include "decap.h"
#include "dp_hash.h"
#include "encap.h"
#include "lookup.h"

/* Takes the outermost tag off: one that an earlier stage has put there, or one
 * that the packet came with. */
static __always_inline void
plan_pop(struct xf_plan *plan)
{
    struct xf_key *key = &plan->key;

    if (plan->act.n_push) {
        plan->act.n_push--;
        plan->act.tag[0] = plan->act.tag[1];
    } else {
        plan->act.n_pop++;
    }
    key->vlan_tci = key->vlan2_tci;
    key->vlan2_tci = 0;
    key->tpids >>= 1;
}

static __always_inline int
plan_push(struct xf_plan *plan, struct xf_tag tag)
{
    struct xf_key *key = &plan->key;

    if (plan->act.n_push >= XF_MAX_TAGS || key->vlan2_tci)
        return XF_MISS_INTERNAL;     /* Such flows are refused. */
    plan->act.tag[1] = plan->act.tag[0];
    plan->act.tag[0] = tag;
    plan->act.n_push++;
    key->vlan2_tci = key->vlan_tci;
    key->vlan_tci = tag.tci | bpf_htons(XF_VLAN_PRESENT);
    key->tpids = (key->tpids << 1 & XF_TPID_INNER_AD)
                 | (tag.tpid == bpf_htons(ETH_P_8021AD) ? XF_TPID_OUTER_AD : 0);
    return XF_PARSED;
}

/* Sets fields of the plan's key. */
static __always_inline void
plan_fields(struct xf_plan *plan, const struct xf_packet *p,
            const struct xf_rewrite *rewrite)
{
    __u64 tuple = rewrite->mask[3] >> 32;

    for (int i = 0; i < XF_SET_WORDS; i++)
        plan->key.word[i] = (plan->key.word[i] & ~rewrite->mask[i])
                            | rewrite->value[i];
    if (p->nd_option != XF_ND_OPTION_SOURCE)
        plan->key.word[11] = 0;      /* What is not there cannot be set. */
    if (p->nd_option != XF_ND_OPTION_TARGET)
        plan->key.word[12] = 0;
    for (int i = 5; i < XF_ND_WORD; i++)
        tuple |= rewrite->mask[i];
    if (tuple)
        plan->conn = 0;              /* It may be one of another connection. */
}

/* Does the flow's ct() from 'begin' to 'end' - 1. */
static __always_inline int
plan_connections(struct xdp_md *ctx, const struct xf_packet *p,
                 struct xf_plan *plan, const struct xf_rewrite *rewrite,
                 __u32 begin, __u32 end)
{
    for (__u32 i = 0; i < XF_MAX_CT_STEPS; i++) {
        int miss;

        if (i < begin || i >= end || !rewrite->ct[i].flags)
            continue;
        miss = track(ctx, p, plan, &rewrite->ct[i]);
        if (miss != XF_PARSED)
            return miss;
    }
    return XF_PARSED;
}

/* Adds what 'act' does to the packet's tags, and where it goes. */
static __always_inline int
plan_tags(struct xf_plan *plan, const struct xf_packet *p,
          const struct xf_action *act, __u32 hash_basis)
{
    if (act->n_pop >= 1)
        plan_pop(plan);
    if (act->n_pop >= 2)
        plan_pop(plan);
    if (act->n_push >= 2 && plan_push(plan, act->tag[1]) != XF_PARSED)
        return XF_MISS_INTERNAL;
    if (act->n_push >= 1 && plan_push(plan, act->tag[0]) != XF_PARSED)
        return XF_MISS_INTERNAL;
    plan->act.verdict = act->verdict;
    plan->act.to = act->to;
    if (act->verdict >= XF_RECIRC)
        plan->key.recirc = act->to;
    if (act->verdict == XF_HASH_RECIRC)
        plan->key.dp_hash = symmetric_l4_hash(&plan->key, p->cls, hash_basis);
    return XF_PARSED;
}

/* What check_pkt_len counts of a packet as it came: not what is behind its IP
 * packet. */
static __always_inline int
unpadded_len(const struct xf_packet *p)
{
    return p->l4_off ? p->l4_off + p->l4_len : p->frame_len;
}

/* Adds what 'act' does to the plan. */
static __always_inline int
plan_action(struct xdp_md *ctx, struct xf_plan *plan,
            const struct xf_packet *p, const struct xf_action *act)
{
    __u32 index = act->rewrite;
    const struct xf_rewrite *rewrite;
    int miss = XF_PARSED;

    rewrite = bpf_map_lookup_elem(&xf_rewrites, &index);
    if (!rewrite || (rewrite->max_len && rewrite->max_len < ETH_HLEN)
        || act->verdict > XF_POP || act->n_pop > XF_MAX_TAGS
        || act->n_push > XF_MAX_TAGS)
        return XF_MISS_INTERNAL;
    if (act->verdict == XF_POP)
        return XF_MISS_TUNNEL_HEADER; /* A tunnel in a tunnel. */
    if (rewrite->max_in
        && unpadded_len(p) + growth(&plan->act) > rewrite->max_in)
        return XF_MISS_PACKET_LENGTH;
    if (rewrite->n_ct_first)
        miss = plan_connections(ctx, p, plan, rewrite, 0, rewrite->n_ct_first);
    if (miss != XF_PARSED)
        return miss;
    if (rewrite->sets) {
        plan_fields(plan, p, rewrite);
        plan->sets = 1;
    }
    if (rewrite->ct[0].flags)
        miss = plan_connections(ctx, p, plan, rewrite, rewrite->n_ct_first,
                                XF_MAX_CT_STEPS);
    if (miss != XF_PARSED)
        return miss;
    plan->max_len = rewrite->max_len;
    plan->tunnel = rewrite->tunnel;
    return plan_tags(plan, p, act, rewrite->hash_basis);
}

/* Can a packet with the plan's tags be looked up as OVS would parse it?  Tags
 * that OVS does not look behind would be an Ethernet type then. */
static __always_inline bool
tags_are_visible(const struct xf_plan *plan)
{
    __u32 n = !!plan->key.vlan_tci + !!plan->key.vlan2_tci;

    return n <= max_tags()
           && !(is_vlan(plan->key.eth_type)
                && (plan->act.n_pop || plan->act.n_push));
}

/* Is that what ICMPv6's type and code say?  If they are set, so that they say
 * something else, then the key has no longer what OVS would find. */
static __always_inline bool
is_nd(const struct xf_key *key, __u32 cls)
{
    __u8 type = bpf_ntohs(key->tp_src);

    return cls == XF_CLASS_IPV6 && key->nw_proto == XF_IPPROTO_ICMPV6
           && !key->tp_dst && (type == XF_ND_SOLICIT || type == XF_ND_ADVERT);
}

/* Follows the packet from its first flow, in 'slot', through all stages.
 * Returns XF_PARSED or an enum xf_miss.
 *
 * Global functions here, so that the verifier checks them once each. */
__noinline int
resolve(struct xdp_md *ctx, const struct xf_packet *p, struct xf_plan *plan,
        __u32 cpu, __u32 slot)
{
    int miss;

    if (!p || !plan)
        return XF_MISS_INTERNAL;     /* Never null; the verifier must see it. */
    plan->hash = cache_hash(p);
    for (__u32 i = 0; i < XF_MAX_STAGES; i++) {
        const struct xf_flow *flow = bpf_map_lookup_elem(&xf_flows, &slot);

        if (!flow)
            return XF_MISS_INTERNAL;
        plan->stage[i].slot = slot;
        plan->stage[i].bytes = p->frame_len + growth(&plan->act);
        plan->n_stages = i + 1;
        miss = plan_action(ctx, plan, p, &flow->action);
        if (miss != XF_PARSED)
            return miss;
        if (plan->act.verdict < XF_RECIRC)
            return XF_PARSED;
        if (!tags_are_visible(plan)
            || is_nd(&plan->key, p->cls) != is_nd(&p->key, p->cls))
            return XF_MISS_RECIRC;
        note_way(plan, slot);
        slot = predict_next(plan, cpu);
        if (!slot)
            slot = learn_next(plan, cpu, search(&plan->key, p->cls, plan->guess));
        if (!slot)
            return XF_MISS_RECIRC;
    }
    return XF_MISS_RECIRC;
}

/* May the packet go out through all ports of the group now?  Not if there are
 * none, as in a group that is not filled in: the kernel would take it and free
 * it. */
__noinline int
check_group(const struct xf_packet *p, const struct xf_plan *plan,
            const struct xf_group *group)
{
    int result = XF_MISS_INTERNAL;

    if (!p || !plan || !group)
        return XF_MISS_INTERNAL;     /* Never null; the verifier must see it. */
    for (__u32 i = 0; i < XF_GROUP_PORTS && i < group->n_ports; i++) {
        __u32 slot = group->port[i];
        const struct xf_port *port = bpf_map_lookup_elem(&xf_ports, &slot);

        if (slot == xf_in_port && !group->keep_ingress)
            continue;
        if (!port)
            return XF_MISS_INTERNAL;
        result = check_output(p, &plan->act, plan->max_len, plan->lead, port);
        if (result != XF_PARSED)
            return result;
    }
    return result;
}

/* Chooses all ports of the plan's group, like choose_port(). */
static __always_inline int
choose_group(const struct xf_packet *p, const struct xf_plan *plan,
             int *action)
{
    __u32 slot = plan->act.to;
    struct xf_group *group = bpf_map_lookup_elem(&xf_groups, &slot);
    void *devs = bpf_map_lookup_elem(&xf_group_tx, &slot);
    int miss;

    if (!group || !devs)
        return XF_MISS_INTERNAL;
    miss = check_group(p, plan, group);
    if (miss != XF_PARSED)
        return miss;
    *action = bpf_redirect_map(devs, 0, group->keep_ingress
                               ? BPF_F_BROADCAST
                               : BPF_F_BROADCAST | BPF_F_EXCLUDE_INGRESS);
    return *action == XDP_REDIRECT ? XF_PARSED : XF_MISS_TX_PORT;
}

/* Cuts off what is longer than the plan says. */
static __always_inline int
truncate(struct xdp_md *ctx, __u32 max_len)
{
    __u32 len = ctx->data_end - ctx->data;

    if (max_len && len > max_len
        && bpf_xdp_adjust_tail(ctx, (int)max_len - (int)len))
        return XF_MISS_INTERNAL;     /* Not reached: it is an Ethernet frame. */
    return XF_PARSED;
}

/* Sends the packet as the plan says, like output(). */
static __always_inline int
output_plan(struct xdp_md *ctx, const struct xf_packet *p,
            struct xf_plan *plan, int *action)
{
    const struct xf_tunnel *t = NULL;
    __u32 partial, room = 0;
    int miss = XF_PARSED;

    plan->lead = 0;
    if (plan->tunnel) {
        t = find_tunnel(plan->tunnel);
        miss = check_tunnel(p, t, p->frame_len + growth(&plan->act),
                            &plan->lead);
    }
    if (miss != XF_PARSED)
        return miss;
    miss = plan->act.verdict == XF_GROUP
           ? choose_group(p, plan, action)
           : choose_port(p, &plan->act, plan->max_len, plan->lead, action);
    if (miss != XF_PARSED)
        return miss;
    miss = check_checksum(ctx, p, &plan->act, plan->max_len,
                          t && t->has_checksum && !has_known_sum(p), &partial);
    if (miss != XF_PARSED)
        return miss;
    if (t)
        room = t->len;
    miss = change_packet(ctx, p, &plan->act, &plan->key, plan->sets, partial,
                         room);
    if (miss != XF_PARSED)
        return miss;
    return room ? push_tunnel(ctx, p, plan) : truncate(ctx, plan->max_len);
}

/* Counts the packet for all stages.  Their slots are those of flows that were
 * found, so their statistics exist. */
static __always_inline void
account_stages(const struct xf_plan *plan, const struct xf_packet *p,
               __u32 cpu)
{
    for (__u32 i = 0; i < XF_MAX_STAGES && i < plan->n_stages; i++) {
        struct xf_stats *stats = find_stats(cpu, plan->stage[i].slot);

        if (stats)
            account(stats, plan->stage[i].bytes, p->key.tcp_flags);
    }
}

/* The plan of a packet that stays as it is. */
static __always_inline void
begin_plan(struct xf_plan *plan, const struct xf_packet *p)
{
    plan->key = p->key;
    plan->act = (struct xf_action){};
    plan->conn = plan->n_cts = plan->sets = plan->tunnel = 0;
    plan->segment.now_ms = 0;
}

/* Executes the flow in 'slot' and those that follow it.  Returns an XDP action,
 * or -1 - an enum xf_miss with packet and counters unchanged. */
__noinline int
run_pipeline(struct xdp_md *ctx, __u32 cpu, __u32 slot)
{
    struct xf_scratch *scratch = bpf_map_lookup_elem(&xf_scratches, &cpu);
    const struct xf_packet *p;
    struct xf_plan *plan;
    int action = XDP_DROP;
    int miss;

    if (!scratch)
        return -1 - XF_MISS_INTERNAL;
    p = &scratch->packet;
    plan = &scratch->plan;
    begin_plan(plan, p);
    miss = resolve(ctx, p, plan, cpu, slot);
    if (miss == XF_PARSED && plan->act.verdict != XF_DROP)
        miss = output_plan(ctx, p, plan, &action);
    if (miss != XF_PARSED)
        return -1 - miss;
    account_stages(plan, p, cpu);
    account_connections(plan);
    return action;
}

/* Takes the packet out of its tunnel, as the flow in 'slot' says.  Returns the slot
 * of the flow of what is in it, or -1 - an enum xf_miss with the packet as it came.
 *
 * A global function, so that its stack is free again when that flow is executed. */
__noinline int
open_tunnel(struct xdp_md *ctx, __u32 cpu, __u32 slot)
{
    struct xf_scratch *scratch = bpf_map_lookup_elem(&xf_scratches, &cpu);
    const struct xf_flow *flow = bpf_map_lookup_elem(&xf_flows, &slot);
    struct xf_hit inner;
    int miss;

    if (!scratch || !flow)
        return -1 - XF_MISS_INTERNAL;
    if (flow->action.n_pop != scratch->packet.n_tags)
        return -1 - XF_MISS_TUNNEL_HEADER;
    miss = enter_tunnel(ctx, scratch, flow->action.to);
    if (miss != XF_PARSED)
        return -1 - miss;
    inner = find_flow(&scratch->packet, cpu);
    if (inner.flow)
        return inner.slot & XF_MAX_SLOT;
    leave_tunnel(ctx, scratch);
    return -1 - XF_MISS_TUNNEL_FLOW;
}

/* Executes the flow in 'slot', which takes the packet out of its tunnel, and those
 * of what is in it.  Returns like run_pipeline(). */
static __always_inline int
run_tunnel(struct xdp_md *ctx, __u32 cpu, __u32 slot, struct xf_stats *stats)
{
    struct xf_scratch *scratch;
    int action, inner;

    inner = open_tunnel(ctx, cpu, slot);
    if (inner < 0)
        return inner;
    action = run_pipeline(ctx, cpu, inner);
    scratch = bpf_map_lookup_elem(&xf_scratches, &cpu);
    if (!scratch)
        return action;               /* Not reached; for the verifier. */
    if (action < 0)
        leave_tunnel(ctx, scratch);
    else
        account(stats, scratch->outer.frame_len, 0);
    return action;
}

#endif /* pipeline.h */
