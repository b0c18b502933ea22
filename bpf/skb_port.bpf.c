// SPDX-License-Identifier: GPL-2.0-only
/* xdp_port.bpf.c for TC's ingress. */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>

#include <bpf/bpf_helpers.h>

#include "bpf/abi/handover.h"

const volatile __u32 xf_device = 0;  /* The index that the device had. */

struct {
    __uint(type, BPF_MAP_TYPE_PROG_ARRAY);
    __uint(max_entries, XF_N_SHARED);
    __uint(key_size, sizeof(__u32));
    __uint(value_size, sizeof(__u32));
} xf_shared SEC(".maps");

SEC("tc")
int xf_skb(struct __sk_buff *ctx)
{
    if (ctx->ifindex == xf_device)
        bpf_tail_call(ctx, &xf_shared, XF_SHARED_MAIN);
    return TC_ACT_UNSPEC;
}

char _license[] SEC("license") = "GPL";
