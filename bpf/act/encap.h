/* SPDX-License-Identifier: GPL-2.0-only */
/* Tunnels, outwards: puts the headers of a struct xf_tunnel before a packet, as
 * OVS's netdev_tnl_push_udp_header() does.
 *
 * OVS gives the bytes; what depends on the packet is written here: lengths, the UDP
 * source port, checksums.  The port is another than OVS's, which hashes otherwise,
 * but the same for all packets of a connection.  The UDP checksum needs no pass over
 * the payload where the inner packet has a checksum of its own.
 */
#ifndef XF_ACT_ENCAP_H
#define XF_ACT_ENCAP_H 1

#include "bpf/act/growth.h"
#include "bpf/hook/hook.h"
#include "bpf/maps.h"
#include "bpf/packet/checksum.h"
#include "bpf/packet/parse.h"

static __always_inline const struct xf_tunnel *
find_tunnel(__u32 slot)
{
    return bpf_map_lookup_elem(&xf_tunnels, &slot);
}

/* Can the packet, which is 'len' bytes long without outer headers, get them?
 * Stores by how much they make it longer in '*lead', without a VLAN tag. */
static __always_inline int
check_tunnel(const struct xf_packet *p, const struct xf_tunnel *t, __u32 len,
             __u32 *lead)
{
    if (!t || !t->len || t->len > XF_TUNNEL_HEADER)
        return XF_MISS_INTERNAL;
    *lead = t->len - (t->l3_off - sizeof(struct ethhdr));
    return t->has_checksum && !has_known_sum(p) && len + t->len > XF_MAX_FRAME
           ? XF_MISS_FRAME_SIZE : XF_PARSED;
}

/* A UDP source port that is the same for all packets of a connection (RFC 8926
 * section 3.3, RFC 7348 section 5), in network order.  Of a packet that has come out
 * of another tunnel the digest tells the outer TOS and TTL, which routers change. */
static __always_inline __be16
source_port(const struct xf_packet *p, const struct xf_tunnel *t)
{
    const __u64 *w = p->key.word;
    const __u64 proto_and_ports = 0xffffffff000000ffULL;
    const __u32 id = XF_TUNNEL_ID_WORD;
    __u64 sum = p->digest - xf_hash_word(w[id], xf_secret[id])
                + xf_hash_word(w[1] << 16, xf_secret[1])
                + xf_hash_word(w[2] << 16, xf_secret[2])
                + xf_hash_word(w[3] & proto_and_ports, xf_secret[3])
                + xf_hash_word(w[5], xf_secret[5]);
    __u64 hash = (sum ^ sum >> 32) * XF_GOLDEN_RATIO >> 32;

    return bpf_htons(t->port_min + (hash * t->n_ports >> 32));
}

/* Writes the length of the IP packet that begins at 'l3' with 'len' bytes. */
static __always_inline int
set_outer_length(void *l3, void *end, const struct xf_tunnel *t, __u32 len)
{
    struct ipv6hdr *ip6 = l3;
    struct iphdr *ip = l3;

    if ((void *)(ip + 1) > end)
        return XF_MISS_INTERNAL;     /* Not reached; for the verifier. */
    if (!t->is_ipv6) {
        ip->tot_len = bpf_htons(len);
        ip->check = update_checksum(ip->check, ip->tot_len);
        return XF_PARSED;
    }
    if ((void *)(ip6 + 1) > end)
        return XF_MISS_INTERNAL;
    ip6->payload_len = bpf_htons(len - sizeof *ip6);
    return XF_PARSED;
}

/* The outer UDP checksum of the packet, whose inner one has become as 'plan' says
 * and begins behind the headers of 't'. */
static __always_inline int
outer_checksum(xf_ctx *ctx, const struct xf_packet *p,
               const struct xf_plan *plan, const struct xf_tunnel *t,
               __u32 udp_len)
{
    __u64 total = t->sum + bpf_htons(udp_len);
    __u32 len = udp_len;
    int sum;

    if (has_known_sum(p)) {
        len -= p->l4_len;
        total += known_sum(p, &plan->key);
    }
    sum = sum_bytes(ctx, t->l4_off, len);
    return sum < 0 ? sum : (int)(__u16)~fold(total + sum);
}

/* Puts the headers of the plan's tunnel where change_packet() has made room for
 * them.  Cannot fail: check_tunnel() has said so.
 *
 * A global function, so that the verifier checks it once and on its own. */
__noinline int
push_tunnel(xf_ctx *ctx, const struct xf_packet *p,
            const struct xf_plan *plan)
{
    __u32 frame_len, len, udp_len;
    const struct xf_tunnel *t;
    struct udphdr *udp;
    void *data, *end;
    int sum = 0;

    if (!p || !plan)
        return XF_MISS_INTERNAL;     /* Never null; the verifier must see it. */
    t = find_tunnel(plan->tunnel);
    if (!t)
        return XF_MISS_INTERNAL;
    len = t->len;
    frame_len = p->frame_len + growth(&plan->act) + len;
    barrier_var(len);                /* As in copy_packet(). */
    if (len < ETH_HLEN)
        return XF_MISS_INTERNAL;
    barrier_var(len);
    if (len > XF_TUNNEL_HEADER)
        return XF_MISS_INTERNAL;
    if (store_bytes(ctx, 0, t->header, len))
        return XF_MISS_INTERNAL;
    data = frame_begin(ctx);
    end = frame_end(ctx);
    udp_len = frame_len - t->l4_off;
    udp = data + (t->l4_off & 0x7f);
    if ((void *)(udp + 1) > end
        || set_outer_length(data + (t->l3_off & 0x1f), end, t,
                            frame_len - t->l3_off) != XF_PARSED)
        return XF_MISS_INTERNAL;
    udp->source = source_port(p, t);
    udp->len = bpf_htons(udp_len);
    if (!t->has_checksum)
        return XF_PARSED;
    sum = outer_checksum(ctx, p, plan, t, udp_len);
    data = frame_begin(ctx);
    end = frame_end(ctx);
    udp = data + (t->l4_off & 0x7f);
    if (sum < 0 || (void *)(udp + 1) > end)
        return XF_MISS_INTERNAL;
    udp->check = sum ? sum : 0xffff; /* Zero would mean "none". */
    return XF_PARSED;
}

#endif /* encap.h */
