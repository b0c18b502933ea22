/* SPDX-License-Identifier: GPL-2.0-only */
/* Acting: all actions of a megaflow, or none.
 *
 * Whatever can fail is asked first, while the packet is as it came; a packet is
 * changed only when every action is certain to complete.
 *
 * Fields are set from a key: the packet's own one with the bits of the flow's
 * struct xf_rewrite put in.  The difference of the two keys is also that of the
 * checksums, and it does not matter in which order fields are written.  The
 * Ethernet addresses and new VLAN tags come last; they are written where the
 * frame begins then.
 */
#ifndef XF_ACTIONS_H
#define XF_ACTIONS_H 1

#include "checksum.h"
#include "inside.h"
#include "maps.h"
#include "parse.h"

#define XF_MACS_LEN 12
#define XF_ICMP_CHECKSUM 2           /* Its offset in the header. */

/* By how much the frame becomes longer at its begin, in bytes. */
static __always_inline int
growth(const struct xf_action *act)
{
    return ((int)act->n_push - (int)act->n_pop) * XF_TAG_LEN;
}

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
    if (max_len && len > max_len)
        len = max_len;
    return len > port->max_frame + (n_tags ? XF_TAG_LEN : 0)
           ? XF_MISS_TX_LENGTH : XF_PARSED;
}

/* Where the transport header of an IP packet has an Internet checksum, 0 =
 * nowhere. */
static __always_inline __u32
transport_checksum(const struct xf_packet *p)
{
    __u8 proto = p->key.nw_proto;

    if (p->key.nw_frag == XF_FRAG_LATER)
        return 0;
    if (proto == IPPROTO_TCP || proto == IPPROTO_UDP)
        return checksum_offset(proto);
    return proto == (p->cls == XF_CLASS_IPV4 ? IPPROTO_ICMP
                                             : XF_IPPROTO_ICMPV6)
           ? XF_ICMP_CHECKSUM : 0;
}

/* The begin of a transport header: two ports, or the type and code of ICMP, as
 * they are on the wire. */
static __always_inline __u32
transport_begin(const struct xf_key *key, bool is_icmp)
{
    __u32 ports = key->word[3] >> 32;

    return is_icmp ? (ports >> 8 & 0xff) | (ports >> 24) << 8 : ports;
}

/* What the fields that the checksum at 'offset' covers add to its sum. */
static __always_inline __u64
covered_change(const struct xf_packet *p, const struct xf_key *to,
               __u32 offset)
{
    bool is_icmp = offset == XF_ICMP_CHECKSUM;
    __u64 change = sum_change(transport_begin(&p->key, is_icmp),
                              transport_begin(to, is_icmp));

    if (is_icmp && p->cls == XF_CLASS_IPV4)
        return change;               /* No pseudo-header. */
#pragma unroll
    for (int i = 5; i < XF_INNER_WORD; i++)
        change += sum_change(p->key.word[i], to->word[i]);
    return change;
}

/* Is anything different that the checksum at 'offset' covers? */
static __always_inline bool
covered_differs(const struct xf_packet *p, const struct xf_key *to,
                __u32 offset)
{
    __u64 differs = (p->key.word[3] ^ to->word[3]) >> 32;

#pragma unroll
    for (int i = 5; i < XF_INNER_WORD; i++)
        differs |= p->key.word[i] ^ to->word[i];
    if (offset == XF_ICMP_CHECKSUM && p->cls == XF_CLASS_IPV4)
        differs = (p->key.word[3] ^ to->word[3]) >> 32;
    return differs;
}

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
set_transport(struct xdp_md *ctx, const struct xf_packet *p,
              const struct xf_key *to, __u32 l4_off, bool complete)
{
    void *end = (void *)(long)ctx->data_end, *data = (void *)(long)ctx->data;
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
 * its begin by so many bytes, and completes its checksum if asked to.  Returns
 * XF_PARSED, or an enum xf_miss with the packet unchanged.
 *
 * A global function, so that the verifier checks it once and on its own. */
__noinline int
set_fields(struct xdp_md *ctx, const struct xf_packet *p,
           const struct xf_key *to, __u32 grown, __u32 complete)
{
    void *end = (void *)(long)ctx->data_end, *data = (void *)(long)ctx->data;
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

/* Writes the Ethernet addresses of 'to' and the new tags behind 'lead' bytes, where
 * what goes has been cut off.  Cannot fail: the parser has seen what is there. */
static __always_inline int
set_head(struct xdp_md *ctx, const struct xf_key *to,
         const struct xf_action *act, __u32 lead)
{
    int grown = growth(act) + (int)lead;
    struct xf_tag *tag;
    void *data, *end;

    if (grown < 0 && bpf_xdp_adjust_head(ctx, -grown))
        return XF_MISS_INTERNAL;
    data = (void *)(long)ctx->data + (lead & 0xff);
    end = (void *)(long)ctx->data_end;
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

/* Changes the packet: VLAN tags as 'act' says, and if it 'sets' fields, those of
 * 'to'; and makes room for 'lead' bytes before it.  Returns XF_PARSED, or an enum
 * xf_miss with the packet unchanged. */
static __always_inline int
change_packet(struct xdp_md *ctx, const struct xf_packet *p,
              const struct xf_action *act, const struct xf_key *to, bool sets,
              __u32 complete, __u32 lead)
{
    int grown = growth(act) + (int)lead, miss = XF_PARSED;

    if (grown > 0) {
        if (bpf_xdp_adjust_head(ctx, -grown))
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
            bpf_xdp_adjust_head(ctx, grown);
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
    const struct xf_port *port = own_port();
    __u32 max = port ? port->max_partial : 0;

    return max && p->l4_len > max;
}

/* Does the packet, cut to 'max_len' bytes if that is not 0, leave with its
 * checksum?  Stores in '*partial' whether that has to be completed first.
 * Returns XF_PARSED or an enum xf_miss.
 *
 * Generic XDP redirects the sk_buff, which remembers its checksum; but the
 * kernel would complete that after the cut, or miss the field, and what 'sums'
 * the bytes for a checksum of its own would sum what is there now. */
static __always_inline int
check_checksum(struct xdp_md *ctx, const struct xf_packet *p,
               const struct xf_action *act, __u32 max_len, bool sums,
               __u32 *partial)
{
    bool is_native = xf_tx_flag == XF_PORT_TX_NATIVE;
    bool is_cut = max_len && p->frame_len + growth(act) > max_len;

    *partial = 0;
    if (!is_native && !is_cut && !sums)
        return XF_PARSED;
    if (p->l4_check == XF_NO_CRC)
        return XF_MISS_TX_CHECKSUM;
    *partial = is_partial(p);
    if (*partial && (!is_native || may_be_segments(p)))
        return XF_MISS_TX_CHECKSUM;
    if (may_be_partial_inside(p) && !is_whole_inside(ctx, p))
        return XF_MISS_TX_CHECKSUM;
    return p->frame_len * *partial > XF_MAX_FRAME ? XF_MISS_FRAME_SIZE
                                                  : XF_PARSED;
}

/* Chooses the output port, if a packet as 'act' sends it may go there now.
 * Returns XF_PARSED and XDP_REDIRECT in '*action', or an enum xf_miss.  Nothing
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
    *action = bpf_redirect_map(&xf_tx_ports, slot, XDP_PASS);
    return *action == XDP_REDIRECT ? XF_PARSED : XF_MISS_TX_PORT;
}

/* Sends the packet out as 'act' says.  Returns XF_PARSED and the XDP action in
 * '*action', or an enum xf_miss with the packet unchanged. */
static __always_inline int
output(struct xdp_md *ctx, const struct xf_packet *p,
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

#endif /* actions.h */
