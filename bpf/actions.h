/* SPDX-License-Identifier: GPL-2.0-only */
/* Acting: all actions of a megaflow, or none.
 *
 * Whatever can fail is asked first, while the packet is as it came; a packet is
 * changed only when every action is certain to complete.
 *
 * Fields are set from a key: the packet's own one with the bits of the flow's
 * struct xf_rewrite put in.  The difference of the two keys is also that of the
 * checksums, and it does not matter in which order fields are written.
 */
#ifndef XF_ACTIONS_H
#define XF_ACTIONS_H 1

#include "checksum.h"
#include "maps.h"
#include "parse.h"

#define XF_VLAN_LEN 4
#define XF_MACS_LEN 12
#define XF_ICMP_CHECKSUM 2           /* Its offset in the header. */

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

/* Where the transport header of an IP packet has the checksum that covers its
 * addresses, 0 = it has none. */
static __always_inline __u32
covering_checksum(const struct xf_packet *p)
{
    __u8 proto = p->key.nw_proto;

    if (proto == IPPROTO_TCP || proto == IPPROTO_UDP)
        return checksum_offset(proto);
    return proto == XF_IPPROTO_ICMPV6 && p->cls == XF_CLASS_IPV6
           ? XF_ICMP_CHECKSUM : 0;
}

/* Writes the ports of 'key', and the checksum that covers them and the
 * addresses.  Returns XF_PARSED, or an enum xf_miss with the packet unchanged.
 *
 * In generic mode, a field that may be partial cannot follow: if the sk_buff
 * says that it is, it grows by the difference, if not, it shrinks, and XDP does
 * not see which.  Completing it is no way out, see checksum.h. */
static __always_inline int
set_transport(struct xdp_md *ctx, const struct xf_packet *p,
              const struct xf_key *key, __u32 l4_off, bool complete)
{
    void *end = (void *)(long)ctx->data_end, *data = (void *)(long)ctx->data;
    __u32 offset = covering_checksum(p), ports = key->word[3] >> 32;
    __u32 old_ports = p->key.word[3] >> 32;
    __u64 differs = 0, change = 0;
    __u32 *l4 = data + (l4_off & 0x3f);
    __u16 *sum = data + ((l4_off + offset) & 0x7f);

#pragma unroll
    for (int i = 4; i < XF_KEY_WORDS; i++) {
        differs |= p->key.word[i] ^ key->word[i];
        change += sum_change(p->key.word[i], key->word[i]);
    }
    if (offset != XF_ICMP_CHECKSUM) {
        differs |= old_ports ^ ports;
        change += sum_change(old_ports, ports);
    }
    if (!offset)
        return XF_PARSED;
    if (differs && xf_tx_flag == XF_PORT_TX_GENERIC && is_partial(p))
        return XF_MISS_TX_CHECKSUM;
    if ((void *)(l4 + 1) > end || (void *)(sum + 1) > end)
        return XF_MISS_INTERNAL;     /* Not reached; for the verifier. */
    if (complete && complete_checksum(ctx, l4_off, p->l4_len, offset))
        return XF_MISS_FRAME_SIZE;

    if (offset != XF_ICMP_CHECKSUM)
        *l4 = ports;
    /* UDP: zero means "none", and one that is computed is sent as all ones. */
    if (differs && (*sum || p->key.nw_proto != IPPROTO_UDP)) {
        __u16 result = update_checksum(*sum, change);

        *sum = result || p->key.nw_proto != IPPROTO_UDP ? result : 0xffff;
    }
    return XF_PARSED;
}

/* The key has TOS and TTL where they are even or odd bytes as in the header, so
 * they change its sum by as much. */
static __always_inline void
set_ipv4(struct iphdr *ip, const struct xf_key *old, const struct xf_key *key)
{
    __u64 change = sum_change((__u32)old->word[3], (__u32)key->word[3])
                   + sum_change(old->word[4], key->word[4]);

    if (!((__u32)(old->word[3] ^ key->word[3])
          | (old->word[4] ^ key->word[4])))
        return;
    ip->check = update_checksum(ip->check, change);
    ip->tos = key->nw_tos;
    ip->ttl = key->nw_ttl;
    __builtin_memcpy(&ip->saddr, &key->word[4], 8);
}

static __always_inline void
set_ipv6(struct ipv6hdr *ip, const struct xf_key *key)
{
    __u8 *begin = (__u8 *)ip;

    begin[0] = 6 << 4 | key->nw_tos >> 4;
    begin[1] = (key->nw_tos & 0xf) << 4 | (begin[1] & 0xf);
    ip->hop_limit = key->nw_ttl;
    __builtin_memcpy(&ip->saddr, &key->word[4], 32);
}

/* Writes the fields of xf_rewrites' entry 'index' into a packet of whose VLAN tag
 * 'pushed' bytes are new, and completes its checksum if asked to.  Returns
 * XF_PARSED, or an enum xf_miss with the packet unchanged.
 *
 * A global function, so that the verifier checks it once and on its own. */
__noinline int
set_fields(struct xdp_md *ctx, const struct xf_packet *p, __u32 index,
           __u32 pushed, __u32 complete)
{
    const struct xf_rewrite *rewrite = bpf_map_lookup_elem(&xf_rewrites,
                                                           &index);
    void *end = (void *)(long)ctx->data_end, *data = (void *)(long)ctx->data;
    struct xf_key key;
    __u32 l3_off;
    void *l3;

    if (!p || !rewrite || data + XF_MACS_LEN > end)
        return XF_MISS_INTERNAL;
#pragma unroll
    for (int i = 0; i < XF_KEY_WORDS; i++)
        key.word[i] = (p->key.word[i] & ~rewrite->mask[i])
                      | rewrite->value[i];

    l3_off = sizeof(struct ethhdr) + pushed
             + (p->key.vlan_tci ? sizeof(struct xf_vlan_header) : 0);
    l3 = data + (l3_off & 0x1f);
    if (p->cls == XF_CLASS_IPV4 || p->cls == XF_CLASS_IPV6) {
        __u32 ip_len = sizeof(struct iphdr) << (p->cls == XF_CLASS_IPV6);
        int miss = set_transport(ctx, p, &key, l3_off + ip_len, complete);

        if (miss != XF_PARSED)
            return miss;
    }
    /* The parser has seen the headers; the verifier has not. */
    if (p->cls == XF_CLASS_IPV4 && l3 + sizeof(struct iphdr) <= end)
        set_ipv4(l3, &p->key, &key);
    else if (p->cls == XF_CLASS_IPV6 && l3 + sizeof(struct ipv6hdr) <= end)
        set_ipv6(l3, &key);
    __builtin_memcpy(data, key.eth_dst, 6);
    __builtin_memcpy(data + 6, key.eth_src, 6);
    return XF_PARSED;
}

/* Changes the packet as 'act' says.  Returns XF_PARSED, or an enum xf_miss with
 * the packet unchanged. */
static __always_inline int
rewrite(struct xdp_md *ctx, const struct xf_packet *p,
        const struct xf_action *act, __u32 complete)
{
    __u32 pushed = 0;
    int miss = XF_PARSED;

    if (act->vlan_op == XF_VLAN_PUSH) {
        if (!vlan_push(ctx, act->vlan_tpid, act->vlan_tci))
            return XF_MISS_HEADROOM;
        pushed = XF_VLAN_LEN;
    }
    if (act->rewrite)
        miss = set_fields(ctx, p, act->rewrite, pushed, complete);
    else if (complete
             && complete_checksum(ctx, p->l4_off + pushed, p->l4_len,
                                  checksum_offset(p->l4_proto)))
        miss = XF_MISS_FRAME_SIZE;
    if (miss != XF_PARSED) {
        if (pushed)
            vlan_unpush(ctx);
        return miss;
    }
    if ((act->vlan_op == XF_VLAN_POP && !vlan_pop(ctx))
        || (act->vlan_op == XF_VLAN_REPLACE
            && !vlan_replace(ctx, act->vlan_tpid, act->vlan_tci)))
        return XF_MISS_INTERNAL;     /* Not reached: the tag was parsed. */
    return XF_PARSED;
}

/* Sends the packet out as 'act' says.  Returns XF_PARSED and the XDP action in
 * '*action', or an enum xf_miss with the packet unchanged. */
static __always_inline int
output(struct xdp_md *ctx, const struct xf_packet *p,
       const struct xf_action *act, int *action)
{
    __u32 partial = 0;
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
        if (p->frame_len * partial > XF_MAX_FRAME)
            return XF_MISS_FRAME_SIZE;
    }
    /* Finds the device; nothing moves before the program returns. */
    *action = bpf_redirect_map(&xf_tx_ports, slot, XDP_PASS);
    if (*action != XDP_REDIRECT)
        return XF_MISS_TX_PORT;
    return rewrite(ctx, p, act, partial);
}

#endif /* actions.h */
