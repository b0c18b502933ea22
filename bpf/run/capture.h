/* SPDX-License-Identifier: GPL-2.0-only */
/* Copies of what enters the port, for who looks (ovs-offload-dump).
 *
 * A port that nobody looks at has a program whose 'xf_capture_bytes' is 0, from
 * which the kernel removes all that is here but the loads of that constant.  A port
 * that is looked at has another instance of the same program for as long.  That changes
 * neither its packets nor what becomes of them.
 *
 * Global functions, so that the verifier checks them once each, and goes on as if
 * nothing had been called.
 */
#ifndef XF_RUN_CAPTURE_H
#define XF_RUN_CAPTURE_H 1

#include <linux/if_ether.h>

#include "bpf/abi/capture.h"
#include "bpf/hook/hook.h"
#include "bpf/maps.h"
#include "bpf/table/lookup.h"

/* Of struct xf_captured, and what is needed to make them.  A program that copies
 * nothing has them too, and they are tiny then. */
struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 4096);
} xf_captured SEC(".maps");
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __uint(key_size, sizeof(__u32));
    __uint(value_size, sizeof(struct xf_capturing));
} xf_capturing SEC(".maps");         /* By CPU. */
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct xf_lease);
} xf_lease SEC(".maps");
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct xf_ufid);
} xf_ufids SEC(".maps");             /* By flow slot. */

static __always_inline struct xf_capturing *
find_capturing(__u32 cpu)
{
    return bpf_map_lookup_elem(&xf_capturing, &cpu);
}

static __always_inline struct xf_lease *
find_lease(void)
{
    __u32 zero = 0;

    return bpf_map_lookup_elem(&xf_lease, &zero);
}

/* Copies the packet as it has come, unless nobody looks any more. */
__noinline int
capture_packet(xf_ctx *ctx, __u32 cpu)
{
    const volatile struct xf_lease *lease;
    struct xf_scratch *scratch;
    struct xf_capturing *c;
    __u32 len;

    if (!xf_capture_bytes)
        return 0;
    c = find_capturing(cpu);
    lease = find_lease();
    scratch = bpf_map_lookup_elem(&xf_scratches, &cpu);
    if (!c || !lease || !scratch)
        return 0;                    /* Not reached; for the verifier. */
    c->head.len = 0;
    c->head.time_ns = bpf_ktime_get_ns();
    if (c->head.time_ns > lease->until_ns)
        return 0;
    len = frame_len(ctx);
    c->slot = 0;
    c->head.frame_len = len;
    c->head.cpu = cpu;
    c->head.queue = queue_of(ctx);
    scratch->plan.n_stages = 0;
    if (len > xf_capture_bytes)
        len = xf_capture_bytes;
    barrier_var(len);                /* As in copy_packet(). */
    if (len < ETH_HLEN)
        return 0;                    /* None is so short. */
    barrier_var(len);
    if (len > xf_capture_bytes)
        return 0;
    if (!load_bytes(ctx, 0, c->data, len))
        c->head.len = len;
    return 0;
}

/* Notes which flow was hit first, if one was. */
static __always_inline void
capture_hit(__u32 cpu, struct xf_hit hit)
{
    struct xf_capturing *c = find_capturing(cpu);

    if (c)
        c->slot = hit.flow ? hit.slot : 0;
}

/* Puts the name of the flow in 'slot', and what it does, behind what is there.
 * Nothing is written to a slot before a grace period after the flow's end, so they
 * are those of the flow that was executed. */
static __always_inline __u32
append_flow(struct xf_capturing *c, __u32 at, __u32 slot)
{
    const struct xf_flow *flow = bpf_map_lookup_elem(&xf_flows, &slot);
    const struct xf_ufid *ufid = bpf_map_lookup_elem(&xf_ufids, &slot);

    if (!flow || !ufid)
        return at;                   /* Not reached; for the verifier. */
    *(struct xf_ufid *)(c->data + at) = *ufid;
    c->head.verdict = flow->action.verdict;
    c->head.to = flow->action.to;
    c->head.n_flows++;
    return at + sizeof *ufid;
}

/* Appends all flows that the packet has passed.  What begins with a rewrite or with
 * a tunnel has been resolved in stages (resolve.h), as far as it came. */
static __always_inline __u32
append_flows(struct xf_capturing *c, __u32 at, const struct xf_plan *plan)
{
    if (!c->slot)
        return at;
    at = append_flow(c, at, c->slot);
    for (__u32 i = 0; i < XF_MAX_STAGES && i < plan->n_stages; i++) {
        __u32 slot = plan->stage[i].slot;

        if (slot != c->slot)
            at = append_flow(c, at, slot);
    }
    return at;
}

/* Hands the packet over with what has become of it: an XDP action, or -1 - enum
 * xf_miss. */
__noinline int
capture_verdict(__u32 cpu, int action)
{
    struct xf_scratch *scratch;
    struct xf_capturing *c;
    struct xf_lease *lease;
    __u32 at;

    if (!xf_capture_bytes)
        return 0;
    c = find_capturing(cpu);
    lease = find_lease();
    scratch = bpf_map_lookup_elem(&xf_scratches, &cpu);
    if (!c || !lease || !scratch || !c->head.len)
        return 0;
    c->head.action = action;
    c->head.verdict = c->head.to = c->head.n_flows = 0;
    at = c->head.len;
    barrier_var(at);
    if (at > xf_capture_bytes)
        return 0;                    /* Not reached; for the verifier. */
    at = (at + 7) & ~7U;
    at = append_flows(c, at, &scratch->plan);
    if (c->head.verdict == XF_GROUP) {
        __u32 slot = c->head.to;
        const struct xf_group *group = bpf_map_lookup_elem(&xf_groups, &slot);

        if (!group)
            return 0;                /* Not reached; for the verifier. */
        *(struct xf_group *)(c->data + at) = *group;
        at += sizeof *group;
    }
    if (bpf_ringbuf_output(&xf_captured, &c->head, sizeof c->head + at,
                           BPF_RB_NO_WAKEUP))
        __sync_fetch_and_add(&lease->lost, 1);
    return 0;
}

#endif /* capture.h */
