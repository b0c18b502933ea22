/* SPDX-License-Identifier: GPL-2.0-only */
/* What connection tracking reads of a packet, beside what is in its key. */
#ifndef XF_CONN_SEGMENT_H
#define XF_CONN_SEGMENT_H 1

#include "bpf/hook/hook.h"
#include "bpf/maps.h"
#include "bpf/packet/checksum.h"
#include "bpf/packet/parse.h"

/* Reads what a connection is found and judged by, where conn_key_extract() finds
 * a packet that is whole and plain. */
static __always_inline int
read_segment(xf_ctx *ctx, const struct xf_packet *p, struct xf_segment *s)
{
    void *data = frame_begin(ctx), *end = frame_end(ctx);
    void *l3 = data + (p->l3_off & 0x1f), *l4 = data + (p->l4_off & 0x7f);
    __u8 proto = p->key.nw_proto;

    if ((p->cls != XF_CLASS_IPV4 && p->cls != XF_CLASS_IPV6) || p->key.nw_frag
        || l3 + sizeof(struct iphdr) > end)
        return XF_MISS_CT_PACKET;
    if (p->cls == XF_CLASS_IPV4 && !is_ipv4_header_valid(l3))
        return XF_MISS_CT_PACKET;
    if (proto == IPPROTO_TCP) {
        struct tcphdr *tcp = l4;

        if ((void *)(tcp + 1) > end)
            return XF_MISS_CT_PACKET;
        s->seq = bpf_ntohl(tcp->seq);
        s->end = s->seq + p->l4_len - tcp->doff * 4;
        s->ack = bpf_ntohl(tcp->ack_seq);
        s->win = bpf_ntohs(tcp->window);
    } else if (proto == IPPROTO_UDP) {
        struct udphdr *udp = l4;

        if ((void *)(udp + 1) > end || bpf_ntohs(udp->len) < sizeof *udp
            || bpf_ntohs(udp->len) > p->l4_len
            || (!udp->check && p->cls == XF_CLASS_IPV6))
            return XF_MISS_CT_PACKET;
    } else if (proto == (p->cls == XF_CLASS_IPV4 ? IPPROTO_ICMP
                                                 : XF_IPPROTO_ICMPV6)) {
        struct xf_icmp *icmp = l4;

        if ((void *)(icmp + 1) > end)
            return XF_MISS_CT_PACKET;
        s->icmp_id = icmp->rest;
    } else {
        return XF_MISS_CT_PACKET;
    }
    s->now_ms = bpf_ktime_get_coarse_ns() / 1000000;
    return XF_PARSED;
}

#endif /* segment.h */
