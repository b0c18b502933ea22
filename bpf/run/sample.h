/* SPDX-License-Identifier: GPL-2.0-only */
/* Samples of what an earlier process's program executes in XDP: has this process a flow
 * for them? */
#ifndef XF_RUN_SAMPLE_H
#define XF_RUN_SAMPLE_H 1

#include "bpf/packet/parse.h"
#include "bpf/run/handover.h"
#include "bpf/run/tunnel.h"
#include "bpf/table/account.h"
#include "bpf/table/lookup.h"

/* Is there a flow for what is in the tunnel that the flow in 'slot' takes it out of,
 * and for all that follows?  The packet is as it came then. */
static __always_inline bool
is_known_in_tunnel(xf_ctx *ctx, struct xf_scratch *scratch,
                   const struct xf_cpu *self, __u32 slot)
{
    struct xf_stats *stats = find_stats(self, slot);
    int inner = open_tunnel(ctx, scratch, self, slot);
    bool known;

    if (inner < 0)
        return false;
    known = is_known_behind(ctx, scratch, self, inner);
    leave_tunnel(ctx, scratch);
    if (known && stats)
        account(self, stats, scratch->outer.frame_len, 0);
    return known;
}

/* Is there a flow for the packet, and for all that follows? */
static __always_inline bool
is_known(xf_ctx *ctx, struct xf_scratch *scratch, const struct xf_cpu *self)
{
    struct xf_packet *p = &scratch->packet;
    struct xf_hit hit;
    int miss;

    *p = (struct xf_packet){};
    miss = parse_packet(ctx, p);
    barrier();                       /* As in run(). */
    if (miss != XF_PARSED)
        return false;
    hit = find_flow(p, self);
    if (!hit.flow)
        return false;
    if (hit.flow->action.verdict == XF_POP)
        return is_known_in_tunnel(ctx, scratch, self, hit.slot);
    return is_known_behind(ctx, scratch, self, hit.slot);
}

#endif /* sample.h */
