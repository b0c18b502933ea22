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

/* May the packet, whose longest_frame() is 'len', go out through the port in 'slot' now,
 * which is the device 'ifindex', with the tags that 'act' gives it?  As check_output(). */
static __always_inline int
check_device(const struct xf_packet *p, const struct xf_action *act, __u32 slot,
             __u32 ifindex, __u32 len)
{
    const struct xf_port *port = bpf_map_lookup_elem(&xf_ports, &slot);
    __u32 n_tags = p->n_tags - act->n_pop + act->n_push;

    if (!port)
        return XF_MISS_INTERNAL;
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

/* The same for all ports of the plan's group, as check_group() in run/pipeline.h. */
__noinline int
check_devices(const struct xf_packet *p, const struct xf_plan *plan, __u32 len)
{
    const struct xf_group *group;
    int result = XF_MISS_INTERNAL;
    __u32 to;

    if (!p || !plan)
        return XF_MISS_INTERNAL;     /* Never null; the verifier must see it. */
    to = plan->act.to;
    group = bpf_map_lookup_elem(&xf_groups, &to);
    if (!group)
        return XF_MISS_INTERNAL;
    for (__u32 i = 0; i < XF_GROUP_PORTS && i < group->n_ports; i++) {
        __u32 slot = group->port[i];

        if (slot == in_port(p) && !group->keep_ingress)
            continue;
        result = check_device(p, &plan->act, slot, device_of(slot), len);
        if (result != XF_PARSED)
            return result;
    }
    return result;
}

/* What output_skb() says instead of a XF_HOOK_*: the rest is send_to_group()'s. */
#define XF_TO_GROUP 0x100

/* Sends the packet to all ports of group 'to' but its own: copies, and itself to the last one.
 * Returns a XF_HOOK_*.  A device that has gone since it was asked gets none.
 *
 * A copy is sent at once, and where it comes out may be an ingress with a program of ours
 * (act_mirred), which has this CPU's scratch then, and after which user space may take
 * this CPU for one that has left.  So this comes last, and the group is copied. */
__noinline int
send_to_group(xf_ctx *ctx, __u32 to, __u32 own_slot)
{
    const struct xf_group *found = bpf_map_lookup_elem(&xf_groups, &to);
    struct xf_group group;
    __u32 last = 0;

    if (!found)
        return XF_HOOK_DROP;         /* Never; the verifier must see it. */
    group = *found;
    for (__u32 i = 0; i < XF_GROUP_PORTS && i < group.n_ports; i++) {
        __u32 slot = group.port[i], ifindex = device_of(slot);

        if (!ifindex || (slot == own_slot && !group.keep_ingress))
            continue;
        if (last)
            send_copy(ctx, last);
        last = ifindex;
    }
    return last ? redirect_to_device(last) : XF_HOOK_DROP;
}

/* Sends the packet as the plan says.  Returns XF_PARSED and a XF_HOOK_* or XF_TO_GROUP in
 * '*action', or an enum xf_miss with the packet unchanged. */
static __always_inline int
output_skb(xf_ctx *ctx, const struct xf_packet *p, struct xf_plan *plan, int *action)
{
    bool to_group = plan->act.verdict == XF_GROUP;
    __u32 len = longest_frame(ctx, p), ifindex = to_group ? 0 : device_of(plan->act.to);
    int miss = to_group ? check_devices(p, plan, len)
                        : check_device(p, &plan->act, plan->act.to, ifindex, len);

    if (miss != XF_PARSED)
        return miss;
    if (plan->sets)
        miss = set_skb_fields(ctx, p, &plan->key);
    if (miss != XF_PARSED)
        return miss;
    *action = set_skb_tags(ctx, &plan->act) ? XF_HOOK_DROP
              : to_group ? XF_TO_GROUP : redirect_to_device(ifindex);
    return XF_PARSED;
}

#endif /* skb_output.h */
