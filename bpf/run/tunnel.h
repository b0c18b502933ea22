/* SPDX-License-Identifier: GPL-2.0-only */
/* Flows that take a packet out of its tunnel, and those of what is in it. */
#ifndef XF_RUN_TUNNEL_H
#define XF_RUN_TUNNEL_H 1

#include "bpf/act/decap.h"
#include "bpf/hook/hook.h"
#include "bpf/maps.h"
#include "bpf/run/pipeline.h"
#include "bpf/table/account.h"
#include "bpf/table/lookup.h"

/* Takes the packet out of its tunnel, as the flow in 'slot' says.  Returns the slot
 * of the flow of what is in it, or -1 - an enum xf_miss with the packet as it came.
 *
 * A global function, so that its stack is free again when that flow is executed. */
__noinline int
open_tunnel(xf_ctx *ctx, struct xf_scratch *scratch, const struct xf_cpu *self,
            __u32 slot)
{
    const struct xf_flow *flow = bpf_map_lookup_elem(&xf_flows, &slot);
    struct xf_hit inner;
    int miss;

    if (!scratch || !flow || !self)
        return -1 - XF_MISS_INTERNAL;
    if (flow->action.n_pop != scratch->packet.n_tags)
        return -1 - XF_MISS_TUNNEL_HEADER;
    miss = enter_tunnel(ctx, scratch, flow->action.to);
    if (miss != XF_PARSED)
        return -1 - miss;
    inner = find_flow(&scratch->packet, self);
    if (inner.flow)
        return inner.slot & XF_MAX_SLOT;
    leave_tunnel(ctx, scratch);
    return -1 - XF_MISS_TUNNEL_FLOW;
}

/* Executes the flow in 'slot', which takes the packet out of its tunnel, and those
 * of what is in it.  Returns like run_pipeline(). */
static __always_inline int
run_tunnel(xf_ctx *ctx, struct xf_scratch *scratch, const struct xf_cpu *self,
           __u32 slot, struct xf_stats *stats)
{
    int action, inner;

    inner = open_tunnel(ctx, scratch, self, slot);
    if (inner < 0)
        return inner;
    action = run_pipeline(ctx, scratch, self, inner);
    if (action < 0)
        leave_tunnel(ctx, scratch);
    else
        account(self, stats, scratch->outer.frame_len, 0);
    return action;
}

#endif /* tunnel.h */
