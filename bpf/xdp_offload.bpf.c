// SPDX-License-Identifier: GPL-2.0-only
/* OVS megaflows in XDP: parse, look up, act, account.
 *
 * A packet that a megaflow matches, and whose actions can all be completed, is
 * dropped or redirected to its output port and counted.  Every other packet
 * takes the miss path unchanged: to the AF_XDP socket of its queue if there is
 * one, else up the kernel's stack.
 */
#include "account.h"
#include "actions.h"
#include "capture.h"
#include "checksum.h"
#include "lookup.h"
#include "maps.h"
#include "parse.h"
#include "pipeline.h"

#include <xdp/xdp_helpers.h>

/* Runs before libxdp's AF_XDP program (priority 20) where the kernel lets
 * several programs share a device, and hands it what is left. */
struct {
    __uint(priority, 10);
    __uint(XDP_PASS, 1);
} XDP_RUN_CONFIG(xsk_def_prog);

/* Hands the packet to OVS or the kernel, as it came.  On the way to AF_XDP a
 * partial checksum is completed: user space could not know that it is. */
static __always_inline int
take_miss_path(struct xdp_md *ctx, const struct xf_packet *p)
{
    int action = bpf_redirect_map(&xsks_map, ctx->rx_queue_index, XDP_PASS);

    if (action == XDP_REDIRECT) {
        if (may_be_partial_inside(p))
            complete_inside(ctx, p);
        complete_if_partial(ctx, p);
    }
    return action;
}

/* Executes the flow that was hit.  Returns XF_PARSED and the XDP action in
 * '*action', or an enum xf_miss with packet and counters unchanged. */
static __always_inline int
execute(struct xdp_md *ctx, const struct xf_packet *p, __u32 cpu,
        struct xf_hit hit, int *action)
{
    const struct xf_action *act = &hit.flow->action;
    struct xf_stats *stats = find_stats(cpu, hit.slot);
    int miss = XF_PARSED;

    if (!stats)
        return XF_MISS_INTERNAL;
    if (act->rewrite || act->verdict > XF_OUTPUT) {
        *action = act->verdict == XF_POP
                  ? run_tunnel(ctx, cpu, hit.slot, stats)
                  : run_pipeline(ctx, cpu, hit.slot);
        return *action < 0 ? -1 - *action : XF_PARSED;
    }
    if (act->verdict == XF_DROP)
        *action = XDP_DROP;
    else
        miss = output(ctx, p, act, action);
    if (miss == XF_PARSED)
        account(stats, p->frame_len, p->key.tcp_flags);
    return miss;
}

/* Has user space been gone for so long that its flows mean nothing any more? */
static __always_inline bool
is_orphaned(const struct xf_cpu *self)
{
    const volatile __u64 *deadline = &self->deadline;
    __u64 until = *deadline;

    return until && (__s64)(bpf_jiffies64() - until) > 0;
}

/* Returns an XDP action, or -1 - enum xf_miss with the packet unchanged.  If
 * there is a next process, a sample does not return here: 'xf_sample' hands it
 * to this program as if it came anew, after the next process has seen it.  It leaves
 * with 'seq' as it is then, which only the process that made this program
 * reads, and that is gone. */
static __always_inline int
run(struct xdp_md *ctx, struct xf_packet *p, __u32 cpu,
    const struct xf_cpu *self)
{
    int action = XDP_PASS;
    int miss;

    *p = (struct xf_packet){};
    miss = parse_packet(ctx, p);
    barrier();                       /* Or the verifier follows each way through
                                      * the parser on to the end, by what it
                                      * has left in registers (all kernels). */
    if (miss == XF_PARSED && is_orphaned(self)) {
        miss = XF_MISS_NO_FLOW;
    } else if (miss == XF_PARSED) {
        struct xf_hit hit = find_flow(p, cpu);

        if (xf_capture_bytes)
            capture_hit(cpu, hit);
        if (hit.flow && xf_is_sampled(self->seq))
            bpf_tail_call(ctx, &xf_next, XF_NEXT_SAMPLE);
        miss = hit.flow ? execute(ctx, p, cpu, hit, &action)
                        : XF_MISS_NO_FLOW;
    }
    return miss == XF_PARSED ? action : -1 - miss;
}

/* libxdp reuses an attached program of this name and version, and its
 * 'xsks_map', for new AF_XDP sockets (xsk_lookup_program() in its xsk.c). */
SEC("xdp")
int xsk_def_prog(struct xdp_md *ctx)
{
    __u32 cpu = bpf_get_smp_processor_id();
    struct xf_cpu *self = bpf_map_lookup_elem(&xf_cpus, &cpu);
    struct xf_scratch *scratch = bpf_map_lookup_elem(&xf_scratches, &cpu);
    int action;

    if (!self || !scratch)
        return bpf_redirect_map(&xsks_map, ctx->rx_queue_index, XDP_PASS);
    self->seq++;
    barrier();
    if (xf_capture_bytes)
        capture_packet(ctx, cpu);
    action = run(ctx, &scratch->packet, cpu, self);
    if (xf_capture_bytes)
        capture_verdict(cpu, action);
    barrier();
    self->seq++;
    if (action >= 0)
        return action;
    count_miss(cpu, -1 - action);
    bpf_tail_call(ctx, &xf_next, XF_NEXT_MISS); /* Returns if there is none. */
    return take_miss_path(ctx, &scratch->packet);
}

/* Has user space make a flow for the packet, which goes another way. */
static __always_inline void
copy_packet(struct xdp_md *ctx, const struct xf_packet *p)
{
    __u32 len = p->frame_len < XF_COPY_BYTES ? p->frame_len : XF_COPY_BYTES;
    struct xf_copy *copy;

    /* Both bounds of 'len' itself, each by a comparison of its own, or Linux 6.1
     * does not see them: "invalid access to memory, mem_size=264 off=8 size=0". */
    barrier_var(len);
    if (len < ETH_HLEN)
        return;
    barrier_var(len);
    if (len > XF_COPY_BYTES)
        return;
    copy = bpf_ringbuf_reserve(&xf_copies, sizeof *copy, 0);
    if (!copy)
        return;
    copy->hash = cache_hash(p);
    copy->in_port = xf_in_port;
    copy->frame_len = p->frame_len;
    if (!bpf_xdp_load_bytes(ctx, 0, copy->data, len))
        bpf_ringbuf_submit(copy, 0);
    else
        bpf_ringbuf_discard(copy, 0);
}

/* Is there a flow for all that the packet recirculates to from the flow in 'slot'?
 * Then they count it, as they would if OVS had it. */
static __always_inline bool
is_known_behind(struct xdp_md *ctx, struct xf_scratch *scratch, __u32 cpu,
                __u32 slot)
{
    struct xf_packet *p = &scratch->packet;
    struct xf_plan *plan = &scratch->plan;

    begin_plan(plan, p);
    if (resolve(ctx, p, plan, cpu, slot) != XF_PARSED)
        return false;
    account_stages(plan, p, cpu);
    return true;
}

/* The same for what is in the tunnel that the flow in 'slot' takes it out of.  The
 * packet is as it came then. */
static __always_inline bool
is_known_in_tunnel(struct xdp_md *ctx, struct xf_scratch *scratch, __u32 cpu,
                   __u32 slot)
{
    struct xf_stats *stats = find_stats(cpu, slot);
    int inner = open_tunnel(ctx, cpu, slot);
    bool known;

    if (inner < 0)
        return false;
    known = is_known_behind(ctx, scratch, cpu, inner);
    leave_tunnel(ctx, scratch);
    if (known && stats)
        account(stats, scratch->outer.frame_len, 0);
    return known;
}

/* Is there a flow for the packet, and for all that follows? */
static __always_inline bool
is_known(struct xdp_md *ctx, struct xf_scratch *scratch, __u32 cpu)
{
    struct xf_packet *p = &scratch->packet;
    struct xf_hit hit;
    int miss;

    *p = (struct xf_packet){};
    miss = parse_packet(ctx, p);
    barrier();                       /* As in run(). */
    if (miss != XF_PARSED)
        return false;
    hit = find_flow(p, cpu);
    if (!hit.flow)
        return false;
    if (hit.flow->action.verdict == XF_POP)
        return is_known_in_tunnel(ctx, scratch, cpu, hit.slot);
    return is_known_behind(ctx, scratch, cpu, hit.slot);
}

/* Gets the samples of an earlier process's program, has OVS make flows for those
 * that have none, and gives all of them back: until this process has taken over
 * they go where the earlier one's flows say, since OVS may not have all of its
 * rules yet. */
SEC("xdp")
int xf_sample(struct xdp_md *ctx)
{
    __u32 cpu = bpf_get_smp_processor_id();
    struct xf_cpu *self = bpf_map_lookup_elem(&xf_cpus, &cpu);
    struct xf_scratch *scratch = bpf_map_lookup_elem(&xf_scratches, &cpu);
    bool known;

    if (self && scratch) {
        self->seq++;
        barrier();
        known = is_known(ctx, scratch, cpu);
        barrier();
        self->seq++;
        if (!known)
            copy_packet(ctx, &scratch->packet);
    }
    bpf_tail_call(ctx, &xf_takeover, XF_NEXT_OLD);
    return bpf_redirect_map(&xsks_map, ctx->rx_queue_index, XDP_PASS);
}

char _license[] SEC("license") = "GPL";
__uint(xsk_prog_version, 1) SEC("xdp_metadata");
