// SPDX-License-Identifier: GPL-2.0-only
/* OVS megaflows at TC's ingress: what xdp_offload.bpf.c does in the driver, for ports
 * that would lose more by a program there than they win, as a veth its TSO. */
#include "bpf/hook/skb.h"

#include "bpf/run/skb.h"

SEC("tc")
int xf_skb(struct __sk_buff *ctx)
{
    return handle_skb(ctx);
}

SEC("tc")
int xf_sample(struct __sk_buff *ctx)
{
    take_sample(ctx, is_known_skb);
    return XF_HOOK_PASS;
}

char _license[] SEC("license") = "GPL";
