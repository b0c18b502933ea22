/* SPDX-License-Identifier: GPL-2.0-only */
/* Where flows are TC's: what the program can change as TC does.
 *
 * TC's csum computes checksums from scratch, and so makes right what was wrong. Here
 * they follow what changes; so a packet of which one is wrong is left to TC.
 */
#ifndef XF_ACT_SUMS_H
#define XF_ACT_SUMS_H 1

#include "bpf/act/covered.h"
#include "bpf/hook/hook.h"
#include "bpf/maps.h"
#include "bpf/packet/checksum.h"
#include "bpf/packet/parse.h"

/* Is the transport checksum right?  For TC it is wrong of UDP that has another
 * length than IP says, or none over IPv6.  Returns XF_PARSED or an enum xf_miss. */
static __always_inline int
check_transport_sum(xf_ctx *ctx, const struct xf_packet *p)
{
    __u32 offset = transport_checksum(p);
    __u64 pseudo = pseudo_header_sum(p, &p->key);
    int sum;

    if (!offset || p->key.nw_frag || is_partial(p))
        return XF_PARSED;
    if (p->key.nw_proto == IPPROTO_UDP && p->udp_differs)
        return XF_MISS_TX_CHECKSUM;
    if (p->key.nw_proto == IPPROTO_UDP && !p->l4_check)
        return p->cls == XF_CLASS_IPV4 ? XF_PARSED : XF_MISS_TX_CHECKSUM;
    if (offset == XF_ICMP_CHECKSUM && p->cls == XF_CLASS_IPV4)
        pseudo = 0;
    sum = sum_bytes(ctx, p->l4_off, p->l4_len);
    if (sum < 0)
        return XF_MISS_FRAME_SIZE;
    return fold(sum + pseudo) == 0xffff ? XF_PARSED : XF_MISS_TX_CHECKSUM;
}

/* Are the packet's checksums right, that of the IPv4 header and, if the flows set what
 * it is 'covered' by, that behind it?  Returns XF_PARSED or an enum xf_miss.
 *
 * A global function, so that the verifier checks it once and on its own. */
__noinline int
check_sums(xf_ctx *ctx, const struct xf_packet *p, __u32 covered)
{
    void *end = frame_end(ctx);
    void *l3 = frame_begin(ctx);

    if (!p)
        return XF_MISS_INTERNAL;     /* Never null; the verifier must see it. */
    l3 += p->l3_off & 0xff;
    if (p->cls == XF_CLASS_IPV4) {
        if (l3 + sizeof(struct iphdr) > end)
            return XF_MISS_INTERNAL; /* Not reached; for the verifier. */
        if (!is_ipv4_header_valid(l3))
            return XF_MISS_TX_CHECKSUM;
    }
    return covered && (p->cls == XF_CLASS_IPV4 || p->cls == XF_CLASS_IPV6)
           ? check_transport_sum(ctx, p) : XF_PARSED;
}

/* Has one of the packet's 'n' outermost tags the "drop eligible" bit?  A tag that TC puts
 * in its place keeps that. */
static __always_inline bool
is_drop_eligible(xf_ctx *ctx, const struct xf_packet *p, __u32 n)
{
    struct xf_vlan_header *tag = frame_begin(ctx) + ETH_HLEN;
    __be16 tcis = 0;

    if (p->n_tags >= 1 && (void *)(tag + 1) <= frame_end(ctx))
        tcis = tag[0].tci;
    if (n >= 2 && p->n_tags >= 2 && (void *)(tag + 2) <= frame_end(ctx))
        tcis |= tag[1].tci;
    return tcis & bpf_htons(XF_VLAN_PRESENT);
}

#endif /* sums.h */
