/* SPDX-License-Identifier: GPL-2.0-only */
/* Flows that do more than change VLAN tags and output to one port: that set
 * fields, truncate, output to several ports, recirculate, or put a packet into a
 * tunnel. */
#ifndef XF_RUN_PIPELINE_H
#define XF_RUN_PIPELINE_H 1

#include "bpf/act/encap.h"
#include "bpf/act/output.h"
#include "bpf/act/plan.h"
#include "bpf/conn/track.h"
#include "bpf/hook/hook.h"
#include "bpf/maps.h"
#include "bpf/run/resolve.h"

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

        if (slot == in_port(p) && !group->keep_ingress)
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
    *action = redirect_to_group(devs, group->keep_ingress);
    return *action == XF_HOOK_REDIRECT ? XF_PARSED : XF_MISS_TX_PORT;
}

/* Cuts off the padding, and what is longer, as the plan says. */
static __always_inline int
truncate(xf_ctx *ctx, const struct xf_plan *plan)
{
    __u32 max_len = plan->max_len, len;

    if (xf_kernel_ct && plan->padding && move_end(ctx, -(int)plan->padding))
        return XF_MISS_INTERNAL;     /* Not reached: its IP packet stays. */
    len = frame_len(ctx);
    if (max_len && len > max_len
        && move_end(ctx, (int)max_len - (int)len))
        return XF_MISS_INTERNAL;     /* Not reached: it is an Ethernet frame. */
    return XF_PARSED;
}

/* Sends the packet as the plan says, like output(). */
static __always_inline int
output_plan(xf_ctx *ctx, const struct xf_packet *p,
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
    return room ? push_tunnel(ctx, p, plan) : truncate(ctx, plan);
}

/* Executes the flow in 'slot' and those that follow it, as run_plan() says.  A global
 * function, as resolve(). */
__noinline int
run_pipeline(xf_ctx *ctx, struct xf_scratch *scratch, const struct xf_cpu *self,
             __u32 slot)
{
    return run_plan(ctx, scratch, self, slot, output_plan);
}

#endif /* pipeline.h */
