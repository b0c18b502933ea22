// SPDX-License-Identifier: GPL-2.0-only
/* OVS megaflows in XDP: parse, look up, act, account.
 *
 * A packet that a megaflow matches, and whose actions can all be completed, is
 * dropped or redirected to its output port and counted.  Every other packet
 * takes the miss path unchanged: to the AF_XDP socket of its queue if there is
 * one, else up the kernel's stack.
 */
#include "bpf/hook/xdp.h"

#include "bpf/act/output.h"
#include "bpf/maps.h"
#include "bpf/packet/checksum.h"
#include "bpf/packet/inside.h"
#include "bpf/packet/parse.h"
#include "bpf/run/capture.h"
#include "bpf/run/deadline.h"
#include "bpf/run/handover.h"
#include "bpf/run/pipeline.h"
#include "bpf/run/sample.h"
#include "bpf/run/tunnel.h"
#include "bpf/table/account.h"
#include "bpf/table/lookup.h"

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
take_miss_path(xf_ctx *ctx, const struct xf_packet *p)
{
    int action = pass_on(ctx);

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
execute(xf_ctx *ctx, struct xf_scratch *scratch, const struct xf_cpu *self,
        struct xf_hit hit, int *action)
{
    const struct xf_packet *p = &scratch->packet;
    const struct xf_action *act = &hit.flow->action;
    struct xf_stats *stats = find_stats(self, hit.slot);
    int miss = XF_PARSED;

    if (!stats)
        return XF_MISS_INTERNAL;
    if (act->rewrite || act->verdict > XF_OUTPUT) {
        *action = act->verdict == XF_POP
                  ? run_tunnel(ctx, scratch, self, hit.slot, stats)
                  : run_pipeline(ctx, scratch, self, hit.slot);
        return *action < 0 ? -1 - *action : XF_PARSED;
    }
    if (act->verdict == XF_DROP)
        *action = XDP_DROP;
    else
        miss = output(ctx, p, act, action);
    if (miss == XF_PARSED)
        account(self, stats, p->frame_len, p->key.tcp_flags);
    return miss;
}

/* Returns an XDP action, or -1 - enum xf_miss with the packet unchanged.
 *
 * With a sample this does not return: the tail call leads to 'xf_sample' of the next
 * process, which calls this program anew with the packet.  So a sample increments
 * 'seq' three times instead of two.  That harms nobody, since 'seq' is read only by
 * the process that made this program, and that has ended. */
static __always_inline int
run(xf_ctx *ctx, struct xf_scratch *scratch, __u32 cpu,
    const struct xf_cpu *self)
{
    struct xf_packet *p = &scratch->packet;
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
        struct xf_hit hit = find_flow(p, self);

        if (xf_capture_bytes)
            capture_hit(cpu, hit);
        if (hit.flow && xf_is_sampled(self->seq))
            bpf_tail_call(ctx, &xf_next, XF_NEXT_SAMPLE);
        miss = hit.flow ? execute(ctx, scratch, self, hit, &action)
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
    struct xf_cpu *self = find_cpu(cpu);
    struct xf_scratch *scratch = bpf_map_lookup_elem(&xf_scratches, &cpu);
    int action;

    if (!self || !scratch || !has_row(self))
        return pass_on(ctx);
    self->seq++;
    barrier();
    if (xf_capture_bytes)
        capture_packet(ctx, cpu);
    action = run(ctx, scratch, cpu, self);
    if (xf_capture_bytes)
        capture_verdict(cpu, action);
    barrier();
    self->seq++;
    if (action >= 0)
        return action;
    count_miss(self, in_port(&scratch->packet), -1 - action);
    bpf_tail_call(ctx, &xf_next, XF_NEXT_MISS); /* Returns if there is none. */
    return take_miss_path(ctx, &scratch->packet);
}

SEC("xdp")
int xf_sample(struct xdp_md *ctx)
{
    take_sample(ctx, is_known);
    return pass_on(ctx);
}

char _license[] SEC("license") = "GPL";
__uint(xsk_prog_version, 1) SEC("xdp_metadata");
