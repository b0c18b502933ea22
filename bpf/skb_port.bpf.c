// SPDX-License-Identifier: GPL-2.0-only
/* On the device of a port that shares skb_offload.bpf.c with others, at TC's ingress. */
#include <linux/pkt_cls.h>

#include "bpf/run/port.h"

SEC("tc")
int xf_skb(struct __sk_buff *ctx)
{
    call_shared(ctx, ctx->ifindex);
    return TC_ACT_UNSPEC;
}

char _license[] SEC("license") = "GPL";
