/* SPDX-License-Identifier: GPL-2.0-only */
/* Setting fields above Ethernet.
 *
 * They are set from a key: the packet's own one with the bits of the flow's struct
 * xf_rewrite put in.  The difference of the two keys is also that of the checksums,
 * and it does not matter in which order fields are written.
 */
#ifndef XF_ACT_FIELDS_H
#define XF_ACT_FIELDS_H 1

#include "bpf/act/covered.h"
#include "bpf/hook/hook.h"
#include "bpf/maps.h"
#include "bpf/packet/checksum.h"
#include "bpf/packet/parse.h"

/* Writes the fields of a Neighbour Discovery message at 'nd', if that is what
 * it is: other packets have zeros there in both keys. */
static __always_inline void
set_nd(struct xf_nd *nd, void *end, const struct xf_packet *p,
       const struct xf_key *to)
{
    struct xf_nd_option *option = (void *)(nd + 1);
    __u64 differs = 0;

#pragma unroll
    for (int i = XF_ND_WORD; i < XF_INNER_WORD; i++)
        differs |= p->key.word[i] ^ to->word[i];
    if (!differs || (void *)(nd + 1) > end)
        return;
    __builtin_memcpy(nd->target, to->nd_target, sizeof nd->target);
    if ((void *)(option + 1) > end)
        return;
    if (p->nd_option == XF_ND_OPTION_SOURCE)
        __builtin_memcpy(option->mac, to->nd_sll, sizeof option->mac);
    else if (p->nd_option == XF_ND_OPTION_TARGET)
        __builtin_memcpy(option->mac, to->nd_tll, sizeof option->mac);
}

/* Writes the ports of 'to' into an SCTP header; its CRC follows.  Returns
 * XF_PARSED, or an enum xf_miss with the packet unchanged. */
static __always_inline int
set_sctp(struct xf_sctp *sctp, void *end, const struct xf_packet *p,
         const struct xf_key *to)
{
    __u32 ports = to->word[3] >> 32;
    __u32 change = ports ^ (__u32)(p->key.word[3] >> 32);

    if (!change)
        return XF_PARSED;
    if (p->l4_check == XF_NO_CRC)
        return XF_MISS_TX_CHECKSUM;
    if (p->l4_len >= XF_MAX_FRAME)
        return XF_MISS_FRAME_SIZE;
    if ((void *)(sctp + 1) > end)
        return XF_MISS_INTERNAL;     /* Not reached; for the verifier. */
    *(__u32 *)sctp = ports;
    sctp->crc ^= crc32c_change(change, p->l4_len);
    return XF_PARSED;
}

/* Writes the transport fields of 'to', and the checksum that covers them and the
 * addresses.  Returns XF_PARSED, or an enum xf_miss with the packet unchanged.
 *
 * In generic mode, a field that may be partial cannot follow: if the sk_buff
 * says that it is, it grows by the difference, if not, it shrinks, and XDP does
 * not see which.  Completing it is no way out, see checksum.h. */
static __always_inline int
set_transport(xf_ctx *ctx, const struct xf_packet *p,
              const struct xf_key *to, __u32 l4_off, bool complete)
{
    void *end = frame_end(ctx), *data = frame_begin(ctx);
    __u32 offset = transport_checksum(p);
    bool differs = covered_differs(p, to, offset);
    void *l4 = data + (l4_off & 0xff);
    __u16 *sum = data + ((l4_off + offset) & 0xff);

    if (p->key.nw_proto == XF_IPPROTO_SCTP
        && p->key.nw_frag != XF_FRAG_LATER)
        return set_sctp(l4, end, p, to);
    if (!offset)
        return XF_PARSED;
    if (differs && xf_tx_flag == XF_PORT_TX_GENERIC && is_partial(p))
        return XF_MISS_TX_CHECKSUM;
    if (l4 + sizeof(__u32) > end || (void *)(sum + 1) > end)
        return XF_MISS_INTERNAL;     /* Not reached; for the verifier. */
    if (complete && complete_checksum(ctx, l4_off, p->l4_len, offset))
        return XF_MISS_FRAME_SIZE;
    if (!differs)
        return XF_PARSED;

    if (offset == XF_ICMP_CHECKSUM)
        *(__u16 *)l4 = transport_begin(to, true);
    else
        *(__u32 *)l4 = transport_begin(to, false);
    if (offset == XF_ICMP_CHECKSUM)
        set_nd(l4, end, p, to);
    /* UDP: zero means "none", and one that is computed is sent as all ones. */
    if (*sum || p->key.nw_proto != IPPROTO_UDP) {
        __u16 result = update_checksum(*sum, covered_change(p, to, offset));

        *sum = result || p->key.nw_proto != IPPROTO_UDP ? result : 0xffff;
    }
    return XF_PARSED;
}

/* The key has TOS and TTL where they are even or odd bytes as in the header, so
 * they change its sum by as much. */
static __always_inline void
set_ipv4(struct iphdr *ip, const struct xf_key *old, const struct xf_key *to)
{
    const __u64 tos_and_ttl = 0xffff00;
    __u64 change = sum_change(old->word[3] & tos_and_ttl,
                              to->word[3] & tos_and_ttl)
                   + sum_change(old->word[5], to->word[5]);

    if (!(((old->word[3] ^ to->word[3]) & tos_and_ttl)
          | (old->word[5] ^ to->word[5])))
        return;
    ip->check = update_checksum(ip->check, change);
    ip->tos = to->nw_tos;
    ip->ttl = to->nw_ttl;
    __builtin_memcpy(&ip->saddr, &to->word[5], 8);
}

static __always_inline void
set_ipv6(struct ipv6hdr *ip, const struct xf_key *to)
{
    *(__be32 *)ip = bpf_htonl(6U << 28 | (__u32)to->nw_tos << 20)
                    | to->ipv6_label;
    ip->hop_limit = to->nw_ttl;
    __builtin_memcpy(&ip->saddr, to->ipv6_src, 32);
}

static __always_inline void
set_arp(struct xf_arp *arp, const struct xf_key *to)
{
    arp->op = bpf_htons(to->nw_proto);
    __builtin_memcpy(arp->sha, to->arp_sha, 6);
    arp->spa = to->ipv4_src;
    __builtin_memcpy(arp->tha, to->arp_tha, 6);
    arp->tpa = to->ipv4_dst;
}

/* Writes the fields of 'to' above Ethernet into a packet that has 'grown' at
 * its beginning by so many bytes, and completes its checksum if asked to.  Returns
 * XF_PARSED, or an enum xf_miss with the packet unchanged.
 *
 * A global function, so that the verifier checks it once and on its own. */
__noinline int
set_fields(xf_ctx *ctx, const struct xf_packet *p,
           const struct xf_key *to, __u32 grown, __u32 complete)
{
    void *end = frame_end(ctx), *data = frame_begin(ctx);
    void *l3;
    int miss;

    if (!p || !to)
        return XF_MISS_INTERNAL;     /* Never null; the verifier must see it. */
    l3 = data + ((p->l3_off + grown) & 0xff);
    if (p->cls == XF_CLASS_IPV4 || p->cls == XF_CLASS_IPV6) {
        miss = set_transport(ctx, p, to, p->l4_off + grown, complete);
        if (miss != XF_PARSED)
            return miss;
    }
    /* The parser has seen the headers; the verifier has not. */
    if (p->cls == XF_CLASS_IPV4 && l3 + sizeof(struct iphdr) <= end)
        set_ipv4(l3, &p->key, to);
    else if (p->cls == XF_CLASS_IPV6 && l3 + sizeof(struct ipv6hdr) <= end)
        set_ipv6(l3, to);
    else if (p->cls == XF_CLASS_ARP && l3 + sizeof(struct xf_arp) <= end)
        set_arp(l3, to);
    return XF_PARSED;
}

#endif /* fields.h */
