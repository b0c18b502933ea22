/* SPDX-License-Identifier: GPL-2.0-only */
/* The story of an sk_buff: parse, look up, resolve, act, account.
 *
 * The same tables and the same flows as in XDP.  What is not executed here is said in
 * hook_executes(); nor are packets copied for who looks at the port.
 *
 * A packet counts once, with all its bytes, however many segments it is: so does
 * openvswitch.ko.
 */
#ifndef XF_RUN_SKB_H
#define XF_RUN_SKB_H 1

#include "bpf/act/plan.h"
#include "bpf/act/skb_output.h"
#include "bpf/hook/hook.h"
#include "bpf/maps.h"
#include "bpf/packet/parse.h"
#include "bpf/run/deadline.h"
#include "bpf/run/handover.h"
#include "bpf/run/resolve.h"
#include "bpf/table/account.h"
#include "bpf/table/lookup.h"

/* Parses the packet; if that fails as its headers are elsewhere, once more when they are
 * there.  Its length is that with all tags then. */
static __always_inline int
parse_skb(xf_ctx *ctx, struct xf_packet *p)
{
    struct xf_tag tag;
    bool is_tagged = tag_beside(ctx, &tag);
    int miss = parse_again(ctx, p);

    if (miss == XF_MISS_TRUNCATED && is_scattered(ctx)
        && !pull(ctx, XF_HOOK_HEADERS))
        miss = parse_again(ctx, p);
    if (is_tagged)
        p->frame_len += XF_TAG_LEN;
    return miss;
}

/* May fragments be made of it, of which openvswitch.ko takes it for the first already
 * (key_extract(), SKB_GSO_UDP)?  UDP that is to be datagrams looks the same. */
static __always_inline bool
is_unmade_fragments(const xf_ctx *ctx, const struct xf_packet *p)
{
    return gso_size(ctx) && p->l4_proto == IPPROTO_UDP;
}

/* Executes the flow in 'slot' and those that follow it, as run_plan() says.  A global
 * function, as resolve(). */
__noinline int
run_flows(xf_ctx *ctx, struct xf_scratch *scratch, const struct xf_cpu *self,
          __u32 slot)
{
    int action = run_plan(ctx, scratch, self, slot, output_skb);

    if (action != XF_TO_GROUP || !scratch)
        return action;
    return send_to_group(ctx, scratch->plan.act.to, in_port(&scratch->packet));
}

/* Returns a XF_HOOK_*, or -1 - an enum xf_miss with the packet unchanged.  With a sample
 * it does not return, as in XDP. */
static __always_inline int
run_skb(xf_ctx *ctx, struct xf_scratch *scratch, const struct xf_cpu *self)
{
    struct xf_packet *p = &scratch->packet;
    int miss = parse_skb(ctx, p);
    struct xf_hit hit;

    if (miss == XF_PARSED && is_unmade_fragments(ctx, p))
        miss = XF_MISS_TX_LENGTH;
    if (miss != XF_PARSED)
        return -1 - miss;
    if (is_orphaned(self) || !is_at_home(ctx, p))
        return -1 - XF_MISS_NO_FLOW;
    hit = find_flow(p, self);
    if (hit.flow && xf_is_sampled(self->seq))
        bpf_tail_call(ctx, &xf_next, XF_NEXT_SAMPLE);
    return hit.flow ? run_flows(ctx, scratch, self, hit.slot) : -1 - XF_MISS_NO_FLOW;
}

/* A program of this hook: what it returns. */
static __always_inline int
handle_skb(xf_ctx *ctx)
{
    __u32 cpu = bpf_get_smp_processor_id();
    struct xf_cpu *self = find_cpu(cpu);
    struct xf_scratch *scratch = bpf_map_lookup_elem(&xf_scratches, &cpu);
    int action;

    if (!self || !scratch || !has_row(self) || is_loopback(ctx))
        return XF_HOOK_PASS;
    self->seq++;
    barrier();
    action = run_skb(ctx, scratch, self);
    barrier();
    self->seq++;
    if (action >= 0)
        return action;
    count_miss(self, in_port(&scratch->packet), -1 - action);
    bpf_tail_call(ctx, &xf_next, XF_NEXT_MISS); /* Returns if there is none. */
    return XF_HOOK_PASS;
}

/* Is there a flow for the packet, and for all that follows?  Its device is not asked
 * for: this process's program is on none yet. */
static __always_inline bool
is_known_skb(xf_ctx *ctx, struct xf_scratch *scratch, const struct xf_cpu *self)
{
    struct xf_packet *p = &scratch->packet;
    struct xf_hit hit;

    if (parse_skb(ctx, p) != XF_PARSED)
        return false;
    hit = find_flow(p, self);
    return hit.flow && is_known_behind(ctx, scratch, self, hit.slot);
}

#endif /* skb.h */
