// SPDX-License-Identifier: GPL-2.0-only
/* On the device of a port that shares xdp_offload.bpf.c with others. */
#include "bpf/run/port.h"

SEC("xdp")
int xsk_def_prog(struct xdp_md *ctx)
{
    call_shared(ctx, ctx->ingress_ifindex);
    return XDP_PASS;
}

char _license[] SEC("license") = "GPL";
