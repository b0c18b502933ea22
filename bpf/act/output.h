/* SPDX-License-Identifier: GPL-2.0-only */
/* Acting: all actions of a megaflow, or none.
 *
 * Whatever can fail is asked first, while the packet is as it came; a packet is
 * changed only when every action is certain to complete.  The Ethernet addresses and
 * new VLAN tags come last (fields.h has the others); they are written where the
 * frame begins then.
 */
#ifndef XF_ACT_OUTPUT_H
#define XF_ACT_OUTPUT_H 1

#include "bpf/act/fields.h"
#include "bpf/act/growth.h"
#include "bpf/act/sums.h"
#include "bpf/hook/hook.h"
#include "bpf/maps.h"
#include "bpf/packet/checksum.h"
#include "bpf/packet/inside.h"
#include "bpf/packet/parse.h"

#define XF_MACS_LEN 12
/* May a packet as 'act' sends it, cut to 'max_len' bytes if that is not 0, and
 * with 'lead' bytes of a tunnel's headers before it, go out through 'port' now?
 * Returns XF_PARSED for yes, or an enum xf_miss. */
static __always_inline int
check_output(const struct xf_packet *p, const struct xf_action *act,
             __u32 max_len, __u32 lead, const struct xf_port *port)
{
    __u32 n_tags = lead ? 0 : p->n_tags - act->n_pop + act->n_push;
    __u32 len = p->frame_len + growth(act) + lead;

    if (!(*(const volatile __u32 *)&port->flags & xf_tx_flag))
        return XF_MISS_TX_PORT;
    if (act->n_pop > p->n_tags || act->n_push > XF_MAX_TAGS)
        return XF_MISS_INTERNAL;     /* The flow does not fit its match. */
    /* generic_xdp_tx() asks nobody else to complete them. */
    if (xf_tx_flag == XF_PORT_TX_GENERIC && !(port->flags & XF_PORT_TX_SUMS)
        && is_partial(p))
        return XF_MISS_TX_CHECKSUM;
    if (max_len && len > max_len)
        len = max_len;
    return len > port->max_frame + (n_tags ? XF_TAG_LEN : 0)
           ? XF_MISS_TX_LENGTH : XF_PARSED;
}

/* Writes the Ethernet addresses of 'to' and the new tags behind 'lead' bytes, where
 * what goes has been cut off.  Cannot fail: the parser has seen what is there. */
static __always_inline int
set_head(xf_ctx *ctx, const struct xf_key *to,
         const struct xf_action *act, __u32 lead)
{
    int grown = growth(act) + (int)lead;
    struct xf_tag *tag;
    void *data, *end;

    if (grown < 0 && move_begin(ctx, -grown))
        return XF_MISS_INTERNAL;
    data = frame_begin(ctx) + (lead & 0xff);
    end = frame_end(ctx);
    tag = data + XF_MACS_LEN;
    if ((void *)tag > end)
        return XF_MISS_INTERNAL;
    __builtin_memcpy(data, to->eth_dst, 6);
    __builtin_memcpy(data + 6, to->eth_src, 6);
    if (act->n_push >= 1 && (void *)(tag + 1) <= end)
        tag[0] = act->tag[0];
    if (act->n_push >= 2 && (void *)(tag + 2) <= end)
        tag[1] = act->tag[1];
    return XF_PARSED;
}

/* Changes the packet: VLAN tags as 'act' says, and if it 'sets' fields (XF_SETS), those of
 * 'to'; and makes room for 'lead' bytes before it.  Returns XF_PARSED, or an enum
 * xf_miss with the packet unchanged. */
static __always_inline int
change_packet(xf_ctx *ctx, const struct xf_packet *p,
              const struct xf_action *act, const struct xf_key *to, __u32 sets,
              __u32 complete, __u32 lead)
{
    int grown = growth(act) + (int)lead, miss = XF_PARSED;

    if (xf_of_tc && act->n_pop && act->n_push && is_drop_eligible(ctx, p, act->n_pop))
        return XF_MISS_HOOK;
    if (xf_of_tc && sets)
        miss = check_sums(ctx, p, sets & XF_SETS_COVERED);
    if (miss != XF_PARSED)
        return miss;
    if (grown > 0) {
        if (move_begin(ctx, -grown))
            return XF_MISS_HEADROOM;
    } else {
        grown = 0;
    }
    if (sets)
        miss = set_fields(ctx, p, to, grown, complete);
    else if (complete
             && complete_checksum(ctx, p->l4_off + grown, p->l4_len,
                                  checksum_offset(p->l4_proto)))
        miss = XF_MISS_FRAME_SIZE;
    if (miss != XF_PARSED) {
        if (grown)
            move_begin(ctx, grown);
        return miss;
    }
    if (!sets && !act->n_pop && !act->n_push)
        return XF_PARSED;
    return set_head(ctx, to, act, lead);
}

/* A tap hands over what its guest wants to be segmented, without a sign of it. */
static __always_inline bool
may_be_segments(const struct xf_packet *p)
{
    const struct xf_port *port = own_port(p);
    __u32 max = port ? port->max_partial : 0;

    return max && p->l4_len > max;
}

/* Does the packet, cut to 'max_len' bytes if that is not 0, leave with its
 * checksum?  Stores in '*partial' whether that has to be completed first.
 * Returns XF_PARSED or an enum xf_miss.
 *
 * Generic XDP redirects the sk_buff, which remembers its checksum; but the
 * kernel would complete that after the cut, or miss the field, and what 'sums'
 * the bytes for a checksum of its own would sum what is there now.  Nobody asks
 * there whether the device can complete what it has to: check_output() does so
 * for TCP and UDP, and what few devices can, a CRC or the checksum of a packet
 * inside another one, is not sent. */
static __always_inline int
check_checksum(xf_ctx *ctx, const struct xf_packet *p,
               const struct xf_action *act, __u32 max_len, bool sums,
               __u32 *partial)
{
    bool is_native = xf_tx_flag == XF_PORT_TX_NATIVE;
    bool is_cut = max_len && p->frame_len + growth(act) > max_len;

    *partial = 0;
    if (xf_tx_flag == XF_PORT_TX_SKB && !is_cut && !sums)
        return XF_PARSED;
    if (p->l4_check == XF_NO_CRC)
        return XF_MISS_TX_CHECKSUM;
    if (is_native || is_cut || sums)
        *partial = is_partial(p);
    if (*partial && (!is_native || may_be_segments(p)))
        return XF_MISS_TX_CHECKSUM;
    if (may_be_partial_inside(p) && !is_whole_inside(ctx, p))
        return XF_MISS_TX_CHECKSUM;
    return p->frame_len * *partial > XF_MAX_FRAME ? XF_MISS_FRAME_SIZE
                                                  : XF_PARSED;
}

/* Chooses the output port, if a packet as 'act' sends it may go there now.
 * Returns XF_PARSED and XF_HOOK_REDIRECT in '*action', or an enum xf_miss.  Nothing
 * moves before the program returns. */
static __always_inline int
choose_port(const struct xf_packet *p, const struct xf_action *act,
            __u32 max_len, __u32 lead, int *action)
{
    __u32 slot = act->to;
    struct xf_port *port = bpf_map_lookup_elem(&xf_ports, &slot);
    int miss;

    if (!port)
        return XF_MISS_INTERNAL;
    miss = check_output(p, act, max_len, lead, port);
    if (miss != XF_PARSED)
        return miss;
    *action = redirect_to_port(slot);
    return *action == XF_HOOK_REDIRECT ? XF_PARSED : XF_MISS_TX_PORT;
}

/* Sends the packet out as 'act' says.  Returns XF_PARSED and the XDP action in
 * '*action', or an enum xf_miss with the packet unchanged. */
static __always_inline int
output(xf_ctx *ctx, const struct xf_packet *p,
       const struct xf_action *act, int *action)
{
    __u32 partial;
    int miss;

    miss = choose_port(p, act, 0, 0, action);
    if (miss != XF_PARSED)
        return miss;
    miss = check_checksum(ctx, p, act, 0, false, &partial);
    if (miss != XF_PARSED)
        return miss;
    return change_packet(ctx, p, act, &p->key, false, partial, 0);
}

#endif /* output.h */
