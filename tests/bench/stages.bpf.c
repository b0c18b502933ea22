// SPDX-License-Identifier: GPL-2.0-only
/* The XDP program cut off after each of its steps: what a packet costs up to
 * there.  The steps are the program's own code on the program's own tables; what
 * is left out behind them is replaced by the redirect that all end with. */
#include "bpf/actions.h"
#include "bpf/lookup.h"
#include "bpf/maps.h"
#include "bpf/parse.h"

/* Keeps the compiler from leaving out what nobody reads. */
#define KEEP(POINTER) asm volatile("" : : "r"(POINTER) : "memory")

/* Where the packets of the benchmark go. */
#define OUT_PORT 2

enum { ENTER, PARSE, HASH, FIND };

static __always_inline int
run_until(struct xdp_md *ctx, int stage)
{
    __u32 cpu = bpf_get_smp_processor_id();
    struct xf_cpu *self = bpf_map_lookup_elem(&xf_cpus, &cpu);
    struct xf_packet packet = {0};
    int action;

    if (!self)
        return XDP_ABORTED;
    self->seq++;
    if (stage >= PARSE && parse_packet(ctx, &packet) != XF_PARSED)
        return XDP_ABORTED;
    KEEP(&packet);
    if (stage == HASH) {
        __u64 hash = cache_hash(&packet);

        KEEP(hash);
    }
    if (stage >= FIND && !find_flow(&packet, cpu).flow)
        return XDP_ABORTED;
    action = bpf_redirect_map(&xf_tx_ports, OUT_PORT, XDP_PASS);
    self->seq++;
    return action;
}

SEC("xdp")
int stage_enter(struct xdp_md *ctx)
{
    return run_until(ctx, ENTER);
}

SEC("xdp")
int stage_parse(struct xdp_md *ctx)
{
    return run_until(ctx, PARSE);
}

SEC("xdp")
int stage_hash(struct xdp_md *ctx)
{
    return run_until(ctx, HASH);
}

SEC("xdp")
int stage_find(struct xdp_md *ctx)
{
    return run_until(ctx, FIND);
}

char _license[] SEC("license") = "GPL";
