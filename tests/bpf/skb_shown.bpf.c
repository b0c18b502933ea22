// SPDX-License-Identifier: GPL-2.0-only
/* What bpf/skb_offload.bpf.c does with a packet, with its tags where a test sees them:
 * BPF_PROG_TEST_RUN takes and gives frames without what is beside them.
 *
 * Before, the outermost tag goes beside the frame, as the kernel has it do before TC's
 * ingress, unless the test says that it stays.  After, a tag that is beside the frame goes
 * into it. */
#define XF_KERNEL_CT 1
#include "bpf/hook/skb.h"

#include "bpf/run/skb.h"

static __always_inline void
put_beside(struct __sk_buff *ctx)
{
    struct xf_tag tag;

    if (bpf_skb_load_bytes(ctx, 12, &tag, sizeof tag) || !is_vlan(tag.tpid)
        || bpf_skb_vlan_pop(ctx))
        return;
    bpf_skb_vlan_push(ctx, tag.tpid, bpf_ntohs(tag.tci));
}

SEC("tc")
int skb_shown(struct __sk_buff *ctx)
{
    int action;

    if (!ctx->cb[0])
        put_beside(ctx);
    action = handle_skb(ctx);
    /* Another one pushes it in. */
    if (ctx->vlan_present)
        bpf_skb_vlan_push(ctx, bpf_htons(ETH_P_8021Q), 0);
    return action;
}

char _license[] SEC("license") = "GPL";
