/* SPDX-License-Identifier: GPL-2.0-only */
/* Acting on an sk_buff: all of a plan, or nothing.
 *
 * As in output.h, whatever can fail is asked first.  What is left then is that the kernel
 * has no memory to put a second tag into the frame, or that the device goes down while
 * the program runs: such a packet is lost, as openvswitch.ko would lose it, and counted.
 */
#ifndef XF_ACT_SKB_OUTPUT_H
#define XF_ACT_SKB_OUTPUT_H 1

#include "bpf/act/growth.h"
#include "bpf/act/skb_fields.h"
#include "bpf/hook/hook.h"
#include "bpf/maps.h"
#include "bpf/packet/parse.h"

#define XF_TCP_DOFF_AT 12

/* How long the frame is, or the longest of those that the kernel will make of it, with
 * all its tags; 0 if that cannot be told: what carries packets may be cut by the headers
 * of what is in it, and UDP may carry some. */
static __always_inline __u32
longest_frame(xf_ctx *ctx, const struct xf_packet *p)
{
    __u32 behind_l4 = gso_size(ctx), in_frame = frame_len(ctx);
    __u8 doff;

    if (!behind_l4)
        return p->frame_len;
    if (p->l4_proto != IPPROTO_TCP
        || load_bytes(ctx, p->l4_off + XF_TCP_DOFF_AT, &doff, sizeof doff))
        return 0;
    return p->l4_off + (doff >> 4) * 4 + behind_l4 + (p->frame_len - in_frame);
}

/* May the packet go out through 'port' now, which is the device 'ifindex', with the tags
 * that 'act' gives it?  As check_output(). */
static __always_inline int
check_device(xf_ctx *ctx, const struct xf_packet *p, const struct xf_action *act,
             const struct xf_port *port, __u32 ifindex)
{
    __u32 n_tags = p->n_tags - act->n_pop + act->n_push;
    __u32 len = longest_frame(ctx, p);

    if (!(*(const volatile __u32 *)&port->flags & xf_tx_flag) || !ifindex)
        return XF_MISS_TX_PORT;
    if (act->n_pop > p->n_tags || act->n_push > XF_MAX_TAGS)
        return XF_MISS_INTERNAL;     /* The flow does not fit its match. */
    return !len || len + growth(act) > port->max_frame + (n_tags ? XF_TAG_LEN : 0)
           ? XF_MISS_TX_LENGTH : XF_PARSED;
}

/* Takes tags off and puts others on, the innermost first.  Returns 0, or the packet is
 * spoilt. */
static __always_inline long
set_skb_tags(xf_ctx *ctx, const struct xf_action *act)
{
    long failed = 0;

    if (act->n_pop >= 1)
        failed |= take_tag(ctx);
    if (act->n_pop >= 2)
        failed |= take_tag(ctx);
    if (act->n_push >= 2)
        failed |= put_tag(ctx, act->tag[1]);
    if (act->n_push >= 1)
        failed |= put_tag(ctx, act->tag[0]);
    return failed;
}

/* Sends the packet as the plan says.  Returns XF_PARSED and a XF_HOOK_* in '*action', or
 * an enum xf_miss with the packet unchanged. */
static __always_inline int
output_skb(xf_ctx *ctx, const struct xf_packet *p, struct xf_plan *plan, int *action)
{
    __u32 slot = plan->act.to, ifindex;
    const struct xf_port *port = bpf_map_lookup_elem(&xf_ports, &slot);
    int miss;

    if (!port)
        return XF_MISS_INTERNAL;
    ifindex = device_of(slot);
    miss = check_device(ctx, p, &plan->act, port, ifindex);
    if (miss != XF_PARSED)
        return miss;
    if (plan->sets)
        miss = set_skb_fields(ctx, p, &plan->key);
    if (miss != XF_PARSED)
        return miss;
    *action = set_skb_tags(ctx, &plan->act) ? XF_HOOK_DROP : redirect_to_device(ifindex);
    return XF_PARSED;
}

#endif /* skb_output.h */
