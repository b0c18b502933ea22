/* SPDX-License-Identifier: GPL-2.0-only */
/* What the checksum of a transport header covers. */
#ifndef XF_ACT_COVERED_H
#define XF_ACT_COVERED_H 1

#include "bpf/packet/checksum.h"
#include "bpf/packet/parse.h"

#define XF_ICMP_CHECKSUM 2           /* Its offset in the header. */

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

/* What a transport header begins with: two ports, or the type and code of ICMP, as
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

#endif /* covered.h */
