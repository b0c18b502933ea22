/* SPDX-License-Identifier: GPL-2.0-only */
/* Setting fields of an sk_buff, from a key as in fields.h.
 *
 * The headers are pulled before, so writing them does not fail; what can is asked first.
 * Which checksum makes up for which bytes is said at each of them, see hook/skb.h.
 */
#ifndef XF_ACT_SKB_FIELDS_H
#define XF_ACT_SKB_FIELDS_H 1

#include "bpf/act/covered.h"
#include "bpf/hook/hook.h"
#include "bpf/maps.h"
#include "bpf/packet/checksum.h"
#include "bpf/packet/inside.h"
#include "bpf/packet/parse.h"

/* Where fields are in their headers. */
#define XF_IP_TOS_AT 1
#define XF_IP_TTL_AT 8
#define XF_IP_CHECK_AT 10
#define XF_IP_ADDRESSES_AT 12
#define XF_IP6_HOP_LIMIT_AT 7
#define XF_IP6_ADDRESSES_AT 8
#define XF_ARP_OP_AT 7               /* Its low byte. */
#define XF_ARP_ADDRESSES_AT 8
#define XF_SCTP_CRC_AT 8
#define XF_ND_TARGET_AT 8
#define XF_ND_MAC_AT (XF_ND_LEN + 2)

/* Are these words of the keys different? */
static __always_inline bool
words_differ(const struct xf_key *a, const struct xf_key *b, int from, int to)
{
    __u64 differs = 0;

#pragma unroll
    for (int i = from; i < to; i++)
        differs |= a->word[i] ^ b->word[i];
    return differs;
}

/* By how much the sum of the pseudo-header grows. */
static __always_inline __u64
pseudo_change(const struct xf_key *from, const struct xf_key *to)
{
    __u64 change = 0;

#pragma unroll
    for (int i = 5; i < XF_ND_WORD; i++)
        change += sum_change(from->word[i], to->word[i]);
    return change;
}

/* By how much that of what else a checksum at 'offset' covers does. */
static __always_inline __u64
payload_change(const struct xf_key *from, const struct xf_key *to, __u32 offset)
{
    bool is_icmp = offset == XF_ICMP_CHECKSUM;
    __u64 change = sum_change(transport_begin(from, is_icmp),
                              transport_begin(to, is_icmp));

#pragma unroll
    for (int i = XF_ND_WORD; i < XF_INNER_WORD; i++)
        change += sum_change(from->word[i], to->word[i]);
    return change;
}

/* SCTP's CRC32c does not make up for anything in a sum.  Where it is missing, the device
 * is to compute it, or whoever sent the packet has forgotten it: nobody knows. */
static __always_inline bool
can_set_sctp(const struct xf_packet *p, const struct xf_key *to)
{
    return !((p->key.word[3] ^ to->word[3]) >> 32)
           || (p->l4_check != XF_NO_CRC && p->l4_len < XF_MAX_FRAME);
}

static __always_inline void
set_skb_sctp(xf_ctx *ctx, const struct xf_packet *p, const struct xf_key *to)
{
    __u32 ports = to->word[3] >> 32;
    __u32 change = ports ^ (__u32)(p->key.word[3] >> 32);
    __u32 crc;

    if (!change || load_bytes(ctx, p->l4_off + XF_SCTP_CRC_AT, &crc, sizeof crc))
        return;
    crc ^= crc32c_change(change, p->l4_len);
    store_summed(ctx, p->l4_off, &ports, sizeof ports);
    store_summed(ctx, p->l4_off + XF_SCTP_CRC_AT, &crc, sizeof crc);
}

/* Other packets have zeros there in both keys. */
static __always_inline void
set_skb_nd(xf_ctx *ctx, const struct xf_packet *p, const struct xf_key *to)
{
    if (!words_differ(&p->key, to, XF_ND_WORD, XF_INNER_WORD))
        return;
    store_balanced(ctx, p->l4_off + XF_ND_TARGET_AT, to->nd_target,
                   sizeof to->nd_target);
    if (p->nd_option == XF_ND_OPTION_SOURCE)
        store_balanced(ctx, p->l4_off + XF_ND_MAC_AT, to->nd_sll, 6);
    else if (p->nd_option == XF_ND_OPTION_TARGET)
        store_balanced(ctx, p->l4_off + XF_ND_MAC_AT, to->nd_tll, 6);
}

/* Does the packet have a UDP header that says that it has no checksum?  Of a first
 * fragment the parser does not tell. */
static __always_inline bool
has_no_sum(xf_ctx *ctx, const struct xf_packet *p, __u32 offset)
{
    __u16 sum = 1;

    if (p->key.nw_proto == IPPROTO_UDP)
        load_bytes(ctx, p->l4_off + offset, &sum, sizeof sum);
    return !sum;
}

/* Writes ports, or ICMP's type and code, and what Neighbour Discovery has; the checksum
 * follows these and the addresses.  Not if there is no change: what makes up for one of
 * zero makes 0 of 0xffff. */
static __always_inline void
set_skb_transport(xf_ctx *ctx, const struct xf_packet *p, const struct xf_key *to,
                  __u32 offset)
{
    bool is_ipv6 = p->cls == XF_CLASS_IPV6;
    bool is_udp = p->key.nw_proto == IPPROTO_UDP;
    bool is_icmp = offset == XF_ICMP_CHECKSUM;
    __u32 begin = transport_begin(to, is_icmp);
    __u32 check = p->l4_off + offset;

    if (has_no_sum(ctx, p, offset)) {
        store_summed(ctx, p->l4_off, &begin, sizeof begin);
        return;
    }
    if ((!is_icmp || is_ipv6) && words_differ(&p->key, to, 5, XF_ND_WORD))
        follow_pseudo(ctx, check, fold(pseudo_change(&p->key, to)), is_udp, is_ipv6);
    if (((p->key.word[3] ^ to->word[3]) >> 32)
        || words_differ(&p->key, to, XF_ND_WORD, XF_INNER_WORD))
        follow_transport(ctx, check, fold(payload_change(&p->key, to, offset)),
                         is_udp);
    store_balanced(ctx, p->l4_off, &begin, is_icmp ? 2 : 4);
    if (is_icmp)
        set_skb_nd(ctx, p, to);
}

static __always_inline void
set_skb_ipv4(xf_ctx *ctx, const struct xf_packet *p, const struct xf_key *to)
{
    const __u64 tos_and_ttl = 0xffff00;
    __u64 change = sum_change(p->key.word[3] & tos_and_ttl,
                              to->word[3] & tos_and_ttl)
                   + sum_change(p->key.word[5], to->word[5]);

    if (!(((p->key.word[3] ^ to->word[3]) & tos_and_ttl)
          | (p->key.word[5] ^ to->word[5])))
        return;
    follow_ip(ctx, p->l3_off + XF_IP_CHECK_AT, fold(change));
    store_balanced(ctx, p->l3_off + XF_IP_TOS_AT, &to->nw_tos, 1);
    store_balanced(ctx, p->l3_off + XF_IP_TTL_AT, &to->nw_ttl, 1);
    store_balanced(ctx, p->l3_off + XF_IP_ADDRESSES_AT, &to->word[5], 8);
}

/* The addresses' sum is made up for by the transport checksum, if there is one that is
 * not zero; of a later fragment the one of the first is meant, so it is not here. */
static __always_inline void
set_skb_ipv6(xf_ctx *ctx, const struct xf_packet *p, const struct xf_key *to,
             bool balanced)
{
    __be32 first = bpf_htonl(6U << 28 | (__u32)to->nw_tos << 20) | to->ipv6_label;

    store_summed(ctx, p->l3_off, &first, sizeof first);
    store_summed(ctx, p->l3_off + XF_IP6_HOP_LIMIT_AT, &to->nw_ttl, 1);
    if (balanced)
        store_balanced(ctx, p->l3_off + XF_IP6_ADDRESSES_AT, to->ipv6_src, 32);
    else
        store_summed(ctx, p->l3_off + XF_IP6_ADDRESSES_AT, to->ipv6_src, 32);
}

static __always_inline void
set_skb_arp(xf_ctx *ctx, const struct xf_packet *p, const struct xf_key *to)
{
    struct {
        __u8 sha[6];
        __be32 spa;
        __u8 tha[6];
        __be32 tpa;
    } __attribute__((packed)) a;

    __builtin_memcpy(a.sha, to->arp_sha, 6);
    a.spa = to->ipv4_src;
    __builtin_memcpy(a.tha, to->arp_tha, 6);
    a.tpa = to->ipv4_dst;
    store_summed(ctx, p->l3_off + XF_ARP_OP_AT, &to->nw_proto, 1);
    store_summed(ctx, p->l3_off + XF_ARP_ADDRESSES_AT, &a, sizeof a);
}

/* Would a checksum follow that is not the partial one, though the kernel takes it for
 * that?  It knows that one of the packet is partial, not which: it may be that of a
 * packet in it, and the outer one, of UDP, complete (inside.h). */
static __always_inline bool
may_mistake_sum(xf_ctx *ctx, const struct xf_packet *p, const struct xf_key *to,
                __u32 offset)
{
    return offset
           && ((p->key.word[3] ^ to->word[3]) >> 32
               || words_differ(&p->key, to, 5, XF_ND_WORD))
           && may_be_partial_inside(p) && !has_no_sum(ctx, p, offset)
           && !is_whole_inside(ctx, p);
}

/* Where what is written ends. */
static __always_inline __u32
written_end(const struct xf_packet *p)
{
    if (p->cls == XF_CLASS_ARP)
        return p->l3_off + sizeof(struct xf_arp);
    if (p->cls != XF_CLASS_IPV4 && p->cls != XF_CLASS_IPV6)
        return ETH_HLEN;
    if (p->key.nw_frag == XF_FRAG_LATER)
        return p->l4_off;
    switch (p->key.nw_proto) {
    case IPPROTO_TCP:
        return p->l4_off + sizeof(struct tcphdr);
    case IPPROTO_UDP:
        return p->l4_off + sizeof(struct udphdr);
    case XF_IPPROTO_SCTP:
        return p->l4_off + sizeof(struct xf_sctp);
    case IPPROTO_ICMP:
        return p->l4_off + sizeof(struct xf_icmp);
    case XF_IPPROTO_ICMPV6:
        return p->l4_off + XF_ND_LEN + XF_ND_OPTION_LEN;
    }
    return p->l4_off;
}

/* Writes the fields of 'to', whose packet is still as 'p' says.  Returns XF_PARSED, or an
 * enum xf_miss with the packet unchanged.
 *
 * A global function, so that the verifier checks it once and on its own. */
__noinline int
set_skb_fields(xf_ctx *ctx, const struct xf_packet *p, const struct xf_key *to)
{
    __u32 offset;
    bool is_sctp;

    if (!p || !to)
        return XF_MISS_INTERNAL;     /* Never null; the verifier must see it. */
    is_sctp = p->key.nw_proto == XF_IPPROTO_SCTP && p->key.nw_frag != XF_FRAG_LATER
              && (p->cls == XF_CLASS_IPV4 || p->cls == XF_CLASS_IPV6);
    if (is_sctp && !can_set_sctp(p, to))
        return XF_MISS_TX_CHECKSUM;
    offset = transport_checksum(p);
    if (may_mistake_sum(ctx, p, to, offset))
        return XF_MISS_TX_CHECKSUM;
    if (pull(ctx, written_end(p)))
        return XF_MISS_HEADROOM;
    store_balanced(ctx, 0, to->eth_dst, 6);
    store_balanced(ctx, 6, to->eth_src, 6);
    if (p->cls == XF_CLASS_ARP)
        set_skb_arp(ctx, p, to);
    if (p->cls != XF_CLASS_IPV4 && p->cls != XF_CLASS_IPV6)
        return XF_PARSED;
    forget_hash(ctx);
    if (p->cls == XF_CLASS_IPV4)
        set_skb_ipv4(ctx, p, to);
    else
        set_skb_ipv6(ctx, p, to, offset && !has_no_sum(ctx, p, offset));
    if (is_sctp)
        set_skb_sctp(ctx, p, to);
    else if (offset)
        set_skb_transport(ctx, p, to, offset);
    return XF_PARSED;
}

#endif /* skb_fields.h */
