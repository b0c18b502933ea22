/* SPDX-License-Identifier: GPL-2.0-only */
/* A packet's way through several flows, which is the same at each hook.
 *
 * A recirculated packet passes several flows, its stages.  They are resolved on a copy
 * of the key, and what they do adds up in a struct xf_plan; then the plan is carried
 * out as a whole.  No packet is changed and no stage is counted before the last flow
 * is known.
 */
#ifndef XF_RUN_RESOLVE_H
#define XF_RUN_RESOLVE_H 1

#include "bpf/act/growth.h"
#include "bpf/act/plan.h"
#include "bpf/conn/track.h"
#include "bpf/hook/hook.h"
#include "bpf/maps.h"
#include "bpf/table/account.h"
#include "bpf/table/lookup.h"

/* Does the flow's ct() from 'begin' to 'end' - 1. */
static __always_inline int
plan_connections(xf_ctx *ctx, const struct xf_packet *p,
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

/* Adds what 'act' does to the plan. */
static __always_inline int
plan_action(xf_ctx *ctx, struct xf_plan *plan,
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
    if (!hook_executes(rewrite, act->verdict))
        return XF_MISS_HOOK;
    if (act->verdict == XF_POP)
        return XF_MISS_TUNNEL_HEADER; /* A tunnel in a tunnel. */
    if (rewrite->max_in
        && counted_len(plan, p) + growth(&plan->act) > rewrite->max_in)
        return XF_MISS_PACKET_LENGTH;
    if (rewrite->n_ct_first)
        miss = plan_connections(ctx, p, plan, rewrite, 0, rewrite->n_ct_first);
    if (miss != XF_PARSED)
        return miss;
    if (rewrite->sets) {
        plan_fields(plan, p, rewrite);
        plan->sets |= XF_SETS;
        if (xf_of_tc && sets_tuple(rewrite))
            plan->sets |= XF_SETS_COVERED;
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

/* Follows the packet from its first flow, in 'slot', through all stages.
 * Returns XF_PARSED or an enum xf_miss.
 *
 * Global functions here, so that the verifier checks them once each. */
__noinline int
resolve(xf_ctx *ctx, const struct xf_packet *p, struct xf_plan *plan,
        const struct xf_cpu *self, __u32 slot)
{
    int miss;

    if (!p || !plan || !self)
        return XF_MISS_INTERNAL;     /* Never null; the verifier must see it. */
    plan->hash = cache_hash(p);
    for (__u32 i = 0; i < XF_MAX_STAGES; i++) {
        const struct xf_flow *flow = bpf_map_lookup_elem(&xf_flows, &slot);

        if (!flow)
            return XF_MISS_INTERNAL;
        plan->stage[i].slot = slot;
        plan->stage[i].bytes = p->frame_len + growth(&plan->act) - plan->padding;
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
        slot = predict_next(plan, self);
        if (!slot)
            slot = learn_next(plan, self, search(&plan->key, p->cls, plan->guess, self, in_port(p)));
        if (!slot)
            return XF_MISS_RECIRC;
    }
    return XF_MISS_RECIRC;
}

/* Counts the packet for all stages.  Their slots are those of flows that were
 * found, so their statistics exist. */
static __always_inline void
account_stages(const struct xf_plan *plan, const struct xf_packet *p,
               const struct xf_cpu *self)
{
    for (__u32 i = 0; i < XF_MAX_STAGES && i < plan->n_stages; i++) {
        struct xf_stats *stats = find_stats(self, plan->stage[i].slot);

        if (stats)
            account(self, stats, plan->stage[i].bytes, p->key.tcp_flags);
    }
}

/* Sends the packet as the plan says.  Returns XF_PARSED and a XF_HOOK_* in '*action', or
 * an enum xf_miss with the packet unchanged. */
typedef int xf_output(xf_ctx *ctx, const struct xf_packet *p, struct xf_plan *plan,
                      int *action);

/* Executes the flow in 'slot' and those that follow it, with the hook's 'output'.
 * Returns a XF_HOOK_*, or -1 - an enum xf_miss with packet and counters unchanged. */
static __always_inline int
run_plan(xf_ctx *ctx, struct xf_scratch *scratch, const struct xf_cpu *self,
         __u32 slot, xf_output *output)
{
    const struct xf_packet *p;
    struct xf_plan *plan;
    int action = XF_HOOK_DROP;
    int miss;

    if (!scratch || !self)
        return -1 - XF_MISS_INTERNAL; /* Never null; the verifier must see it. */
    p = &scratch->packet;
    plan = &scratch->plan;
    begin_plan(plan, p);
    miss = resolve(ctx, p, plan, self, slot);
    if (miss == XF_PARSED && plan->act.verdict != XF_DROP)
        miss = output(ctx, p, plan, &action);
    if (miss != XF_PARSED)
        return -1 - miss;
    account_stages(plan, p, self);
    account_connections(plan);
    return action;
}

#endif /* resolve.h */
