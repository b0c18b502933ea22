/* SPDX-License-Identifier: GPL-2.0-only */
/* Acting: all actions of a megaflow, or none.
 *
 * Whatever can fail is asked first, while the packet is as it came; a packet is
 * changed only when every action is certain to complete.
 */
#ifndef XF_ACTIONS_H
#define XF_ACTIONS_H 1

#include "checksum.h"
#include "maps.h"
#include "parse.h"

#define XF_VLAN_LEN 4
#define XF_MACS_LEN 12

struct xf_tagged {
    __u8 macs[XF_MACS_LEN];
    __be16 tpid;
    __be16 tci;
};

/* Makes room and pushes a tag.  False: no room, packet unchanged. */
static __always_inline bool
vlan_push(struct xdp_md *ctx, __be16 tpid, __be16 tci)
{
    struct xf_tagged *eth;
    __u8 macs[XF_MACS_LEN];

    eth = (void *)(long)ctx->data;
    if ((void *)(eth + 1) > (void *)(long)ctx->data_end)
        return false;
    __builtin_memcpy(macs, eth->macs, sizeof macs);
    if (bpf_xdp_adjust_head(ctx, -XF_VLAN_LEN))
        return false;

    eth = (void *)(long)ctx->data;
    if ((void *)(eth + 1) > (void *)(long)ctx->data_end)
        return false;                /* Not reached; for the verifier. */
    __builtin_memcpy(eth->macs, macs, sizeof macs);
    eth->tpid = tpid;
    eth->tci = tci;
    return true;
}

/* Takes back a push that is not to be. */
static __always_inline void
vlan_unpush(struct xdp_md *ctx)
{
    struct xf_tagged *eth = (void *)(long)ctx->data;
    __u8 macs[XF_MACS_LEN];

    if ((void *)(eth + 1) > (void *)(long)ctx->data_end)
        return;
    __builtin_memcpy(macs, eth->macs, sizeof macs);
    bpf_xdp_adjust_head(ctx, XF_VLAN_LEN);
    eth = (void *)(long)ctx->data;
    if ((void *)(eth + 1) <= (void *)(long)ctx->data_end)
        __builtin_memcpy(eth->macs, macs, sizeof macs);
}

static __always_inline bool
vlan_pop(struct xdp_md *ctx)
{
    struct xf_tagged *eth;
    __u8 macs[XF_MACS_LEN];

    eth = (void *)(long)ctx->data;
    if ((void *)(eth + 1) > (void *)(long)ctx->data_end)
        return false;
    __builtin_memcpy(macs, eth->macs, sizeof macs);
    if (bpf_xdp_adjust_head(ctx, XF_VLAN_LEN))
        return false;

    eth = (void *)(long)ctx->data;
    if ((void *)eth + XF_MACS_LEN > (void *)(long)ctx->data_end)
        return false;                /* Not reached; for the verifier. */
    __builtin_memcpy(eth->macs, macs, sizeof macs);
    return true;
}

static __always_inline bool
vlan_replace(struct xdp_md *ctx, __be16 tpid, __be16 tci)
{
    struct xf_tagged *eth = (void *)(long)ctx->data;

    if ((void *)(eth + 1) > (void *)(long)ctx->data_end)
        return false;
    eth->tpid = tpid;
    eth->tci = tci;
    return true;
}

/* May a packet as 'act' sends it go out through 'port' now?  Returns XF_PARSED
 * for yes, or an enum xf_miss. */
static __always_inline int
check_output(const struct xf_packet *p, const struct xf_action *act,
             const struct xf_port *port)
{
    __u32 len = p->frame_len;
    bool tagged = p->key.vlan_tci;

    if (!(*(const volatile __u32 *)&port->flags & xf_tx_flag))
        return XF_MISS_TX_PORT;
    if (act->vlan_op == XF_VLAN_PUSH && !tagged) {
        len += XF_VLAN_LEN;
        tagged = true;
    } else if (act->vlan_op == XF_VLAN_POP && tagged) {
        len -= XF_VLAN_LEN;
        tagged = false;
    } else if (act->vlan_op == XF_VLAN_PUSH || act->vlan_op == XF_VLAN_POP
               || (act->vlan_op == XF_VLAN_REPLACE && !tagged)) {
        return XF_MISS_INTERNAL;     /* The flow does not fit its match. */
    }
    return len > port->max_frame + (tagged ? XF_VLAN_LEN : 0)
           ? XF_MISS_TX_LENGTH : XF_PARSED;
}

/* Changes the packet as 'act' says.  False: packet unchanged. */
static __always_inline bool
rewrite(struct xdp_md *ctx, const struct xf_packet *p,
        const struct xf_action *act, bool complete)
{
    __u32 l4_off = p->l4_off;

    if (act->vlan_op == XF_VLAN_PUSH) {
        if (!vlan_push(ctx, act->vlan_tpid, act->vlan_tci))
            return false;
        l4_off += XF_VLAN_LEN;
    }
    if (complete
        && complete_checksum(ctx, l4_off, p->l4_len,
                             checksum_offset(p->l4_proto))) {
        if (act->vlan_op == XF_VLAN_PUSH)
            vlan_unpush(ctx);
        return false;
    }
    if (act->vlan_op == XF_VLAN_POP)
        return vlan_pop(ctx);
    if (act->vlan_op == XF_VLAN_REPLACE)
        return vlan_replace(ctx, act->vlan_tpid, act->vlan_tci);
    return true;
}

/* Sends the packet out as 'act' says.  Returns XF_PARSED and the XDP action in
 * '*action', or an enum xf_miss with the packet unchanged. */
static __always_inline int
output(struct xdp_md *ctx, const struct xf_packet *p,
       const struct xf_action *act, int *action)
{
    bool partial = false;
    __u32 slot = act->out_port;
    struct xf_port *port;
    int miss;

    port = bpf_map_lookup_elem(&xf_ports, &slot);
    if (!port)
        return XF_MISS_INTERNAL;
    miss = check_output(p, act, port);
    if (miss != XF_PARSED)
        return miss;
    /* Generic XDP redirects the sk_buff, which remembers its checksum. */
    if (xf_tx_flag == XF_PORT_TX_NATIVE) {
        if (p->l4_check == XF_NO_CRC)
            return XF_MISS_TX_CHECKSUM;
        partial = is_partial(p);
        if (partial && p->frame_len > XF_MAX_FRAME)
            return XF_MISS_FRAME_SIZE;
    }
    /* Finds the device; nothing moves before the program returns. */
    *action = bpf_redirect_map(&xf_tx_ports, slot, XDP_PASS);
    if (*action != XDP_REDIRECT)
        return XF_MISS_TX_PORT;
    if (!rewrite(ctx, p, act, partial))
        return XF_MISS_HEADROOM;
    return XF_PARSED;
}

#endif /* actions.h */
