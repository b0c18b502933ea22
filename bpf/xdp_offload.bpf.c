// SPDX-License-Identifier: GPL-2.0-only
/* OVS megaflows in XDP: parse, look up, act, account.
 *
 * A packet that a megaflow matches, and whose actions can all be completed, is
 * dropped or redirected to its output port and counted.  Every other packet
 * takes the miss path unchanged: to the AF_XDP socket of its queue if there is
 * one, else up the kernel's stack.
 */
#include "actions.h"
#include "checksum.h"
#include "lookup.h"
#include "maps.h"
#include "parse.h"

#include <xdp/xdp_helpers.h>

/* Runs before libxdp's AF_XDP program (priority 20) where the kernel lets
 * several programs share a device, and hands it what is left. */
struct {
    __uint(priority, 10);
    __uint(XDP_PASS, 1);
} XDP_RUN_CONFIG(xsk_def_prog);

static __always_inline void
count_miss(__u32 cpu, int reason)
{
    __u32 index = cpu * XF_MAX_PORTS + xf_in_port;
    struct xf_miss_row *row = bpf_map_lookup_elem(&xf_misses, &index);

    if (row && reason >= 0 && reason < XF_N_MISSES)
        row->count[reason]++;
}

/* Hands the packet to OVS or the kernel, as it came.  On the way to AF_XDP a
 * partial checksum is completed: user space could not know that it is. */
static __always_inline int
take_miss_path(struct xdp_md *ctx, const struct xf_packet *p)
{
    int action = bpf_redirect_map(&xsks_map, ctx->rx_queue_index, XDP_PASS);

    if (action == XDP_REDIRECT)
        complete_if_partial(ctx, p);
    return action;
}

static __always_inline void
account(struct xf_stats *stats, const struct xf_packet *p)
{
    __u64 flags = bpf_ntohs(p->key.tcp_flags);

    stats->packets++;
    stats->bytes += p->frame_len;
    stats->used = bpf_jiffies64();
    if (flags & ~stats->tcp_flags)
        stats->tcp_flags |= flags;
}

/* Executes the flow that was hit.  Returns XF_PARSED and the XDP action in
 * '*action', or an enum xf_miss with packet and counters unchanged. */
static __always_inline int
execute(struct xdp_md *ctx, const struct xf_packet *p, __u32 cpu,
        struct xf_hit hit, int *action)
{
    __u32 stats_index = cpu * xf_n_slots + hit.slot;
    const struct xf_action *act = &hit.flow->action;
    struct xf_stats *stats;
    int miss = XF_PARSED;

    stats = bpf_map_lookup_elem(&xf_stats, &stats_index);
    if (!stats)
        return XF_MISS_INTERNAL;
    if (act->verdict == XF_DROP)
        *action = XDP_DROP;
    else if (act->verdict == XF_OUTPUT)
        miss = output(ctx, p, act, action);
    else
        miss = XF_MISS_INTERNAL;
    if (miss == XF_PARSED)
        account(stats, p);
    return miss;
}

static __always_inline int
run(struct xdp_md *ctx, __u32 cpu)
{
    struct xf_packet packet = {0};
    int action = XDP_PASS;
    int miss;

    miss = parse_packet(ctx, &packet);
    if (miss == XF_PARSED) {
        struct xf_hit hit = find_flow(&packet, cpu);

        miss = hit.flow ? execute(ctx, &packet, cpu, hit, &action)
                        : XF_MISS_NO_FLOW;
    }
    if (miss == XF_PARSED)
        return action;
    count_miss(cpu, miss);
    return take_miss_path(ctx, &packet);
}

/* libxdp reuses an attached program of this name and version, and its
 * 'xsks_map', for new AF_XDP sockets (xsk_lookup_program() in its xsk.c). */
SEC("xdp")
int xsk_def_prog(struct xdp_md *ctx)
{
    __u32 cpu = bpf_get_smp_processor_id();
    struct xf_cpu *self = bpf_map_lookup_elem(&xf_cpus, &cpu);
    int action;

    if (!self)                       /* A CPU that was not possible at load. */
        return bpf_redirect_map(&xsks_map, ctx->rx_queue_index, XDP_PASS);
    self->seq++;
    barrier();
    action = run(ctx, cpu);
    barrier();
    self->seq++;
    return action;
}

char _license[] SEC("license") = "GPL";
__uint(xsk_prog_version, 1) SEC("xdp_metadata");
