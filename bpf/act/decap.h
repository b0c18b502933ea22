/* SPDX-License-Identifier: GPL-2.0-only */
/* Tunnels, inwards: a packet of Geneve or VXLAN whose outer headers a megaflow
 * says to take off (XF_POP).
 *
 * The headers are cut off before anybody knows whether there is a megaflow for what
 * is in them: then the inner packet is parsed, looked up and changed like any other.
 * Where that ends in a miss they are given back.  That is no change of the packet:
 * the kernel only moves the frame's beginning, and leaves the bytes before it alone.
 * It would not if there were metadata of the driver there; such packets are a miss.
 *
 * What OVS's netdev-native-tnl.c takes off and this does not is a miss too: more
 * than one option, and options of other lengths.  The outer UDP checksum is verified
 * from headers alone where the inner packet has one.
 */
#ifndef XF_ACT_DECAP_H
#define XF_ACT_DECAP_H 1

#include "bpf/hook/hook.h"
#include "bpf/maps.h"
#include "bpf/packet/checksum.h"
#include "bpf/packet/parse.h"

/* Words of struct xf_outer's key, counted from XF_TUNNEL_WORD. */
#define XF_OUTER_ID (XF_TUNNEL_ID_WORD - XF_TUNNEL_WORD)
#define XF_OUTER_OPTION (XF_OUTER_ID + 1)
#define XF_OUTER_TOS_SHIFT 32
#define XF_OUTER_TTL_SHIFT 40
#define XF_OUTER_FLAGS_SHIFT 48
#define XF_OUTER_FAMILY_SHIFT 56

static __always_inline __u64
vni_of(__be32 field)
{
    return bpf_htonl(bpf_ntohl(field) >> 8);
}

/* Reads the Geneve header at 'h' as netdev_geneve_pop_header() does.  Returns its
 * length, or 0 if it is not a plain one. */
static __always_inline __u32
read_geneve(const struct xf_geneve *h, void *end, struct xf_outer *o)
{
    const struct xf_geneve_option *option = (const void *)(h + 1);
    __u64 flags = h->flags & XF_GENEVE_OAM ? XF_TUNNEL_OAM : 0;

    if (h->type != bpf_htons(XF_ETH_P_TEB))
        return 0;
    o->key[XF_OUTER_ID] |= vni_of(h->vni) | flags << XF_OUTER_FLAGS_SHIFT;
    if (!h->ver_and_len)
        return sizeof *h;
    if (h->ver_and_len != XF_GENEVE_OPTION_LEN / 4
        || (void *)(option + 1) > end || option->len != 1)
        return 0;
    o->key[XF_OUTER_OPTION] = load64(option);
    return sizeof *h + sizeof *option;
}

/* The same for VXLAN, as netdev_vxlan_pop_header() does. */
static __always_inline __u32
read_vxlan(const struct xf_vxlan *h, struct xf_outer *o)
{
    if (h->flags != bpf_htonl(XF_VXLAN_FLAGS) || h->vni & bpf_htonl(0xff))
        return 0;
    o->key[XF_OUTER_ID] |= vni_of(h->vni);
    return sizeof *h;
}

/* The addresses, TOS, TTL and "don't fragment" of the outer packet 'p', whose IP
 * header is 'ip', as words of the tunnel. */
static __always_inline void
set_outer_words(const struct xf_packet *p, const struct iphdr *ip,
                struct xf_outer *o)
{
    bool is_ipv6 = p->cls == XF_CLASS_IPV6;
    __u64 family = is_ipv6 ? XF_TUNNEL_IPV6 : XF_TUNNEL_IPV4;
    __u64 df = !is_ipv6 && ip->frag_off & bpf_htons(XF_IP_DF);

    o->key[0] = p->key.word[5];
    o->key[1] = p->key.word[6];      /* IPv4: zero, like those behind it. */
    o->key[2] = p->key.word[7];
    o->key[3] = p->key.word[8];
    o->key[XF_OUTER_ID] = (__u64)p->key.nw_tos << XF_OUTER_TOS_SHIFT
                          | (__u64)p->key.nw_ttl << XF_OUTER_TTL_SHIFT
                          | df * XF_TUNNEL_DF << XF_OUTER_FLAGS_SHIFT
                          | family << XF_OUTER_FAMILY_SHIFT;
    o->key[XF_OUTER_OPTION] = 0;
}

/* Fills in 'o' from the packet 'p', which is still whole, for a tunnel of 'kind'.
 * Returns XF_PARSED or an enum xf_miss. */
static __always_inline int
read_outer(xf_ctx *ctx, const struct xf_packet *p, __u32 kind,
           struct xf_outer *o)
{
    void *data = frame_begin(ctx), *end = frame_end(ctx);
    void *l3 = data + (p->l3_off & 0x1f), *l4 = data + (p->l4_off & 0x7f);
    struct udphdr *udp = l4;
    void *header = udp + 1;
    __u32 len;

    /* Geneve's header is as long as VXLAN's. */
    if (p->l4_proto != IPPROTO_UDP || header + sizeof(struct xf_geneve) > end
        || p->l4_off + p->l4_len != p->frame_len
        || bpf_ntohs(udp->len) != p->l4_len
        || l3 + sizeof(struct iphdr) > end)
        return XF_MISS_TUNNEL_HEADER;
    if (p->cls == XF_CLASS_IPV4 && !is_ipv4_header_valid(l3))
        return XF_MISS_TUNNEL_HEADER;
    set_outer_words(p, l3, o);
    len = kind == XF_TUNNEL_GENEVE ? read_geneve(header, end, o)
                                   : read_vxlan(header, o);
    if (!len)
        return XF_MISS_TUNNEL_HEADER;
    o->len = p->l4_off + sizeof *udp + len;
    o->frame_len = p->frame_len;
    o->sum = 0;
    if (!udp->check)
        return XF_PARSED;
    o->key[XF_OUTER_ID] |= (__u64)XF_TUNNEL_CSUM << XF_OUTER_FLAGS_SHIFT;
    /* The kernel vouches for it.  But in generic XDP it completes the sum later, where
     * the outer headers were. */
    if (is_partial(p))
        return xf_tx_flag == XF_PORT_TX_GENERIC ? XF_MISS_TUNNEL_CHECKSUM : XF_PARSED;
    o->sum = (__u64)pseudo_header_sum(p, &p->key) + load32(udp)
             + load32((void *)udp + 4) + load32(header) + load32(header + 4)
             + (__u32)o->key[XF_OUTER_OPTION]
             + (o->key[XF_OUTER_OPTION] >> 32);
    return XF_PARSED;
}

/* Is the outer UDP checksum right, for the inner packet 'p'? */
static __always_inline bool
is_outer_sum_right(xf_ctx *ctx, const struct xf_packet *p,
                   const struct xf_outer *o)
{
    bool is_known = has_known_sum(p);
    int sum;

    if (!o->sum)
        return true;
    sum = sum_bytes(ctx, 0, is_known ? p->l4_off : p->frame_len);
    if (sum < 0)
        return false;
    return fold(o->sum + sum + (is_known ? known_sum(p, &p->key) : 0))
           == 0xffff;
}

/* Gives the outer headers back, and 'packet' what it was. */
static __always_inline void
leave_tunnel(xf_ctx *ctx, struct xf_scratch *scratch)
{
    move_begin(ctx, -(int)scratch->outer.len);
    parse_again(ctx, &scratch->packet);
}

/* Makes the packet one that has entered through the tunnel port in 'slot'.
 * Returns XF_PARSED, or an enum xf_miss with the packet as it came. */
__noinline int
enter_tunnel(xf_ctx *ctx, struct xf_scratch *scratch, __u32 slot)
{
    struct xf_port *port = bpf_map_lookup_elem(&xf_ports, &slot);
    struct xf_packet *p;
    struct xf_outer *o;
    int miss;

    if (!scratch || !port || !port->tunnel)
        return XF_MISS_INTERNAL;
    p = &scratch->packet;
    o = &scratch->outer;
    if (has_metadata(ctx))
        return XF_MISS_TUNNEL_HEADER;
    miss = read_outer(ctx, p, port->tunnel, o);
    if (miss != XF_PARSED)
        return miss;
    if (move_begin(ctx, o->len))
        return XF_MISS_TUNNEL_HEADER; /* No Ethernet header is left. */
    miss = parse_again(ctx, p);
    if (miss == XF_PARSED && !is_outer_sum_right(ctx, p, o))
        miss = XF_MISS_TUNNEL_CHECKSUM;
    if (miss != XF_PARSED) {
        leave_tunnel(ctx, scratch);
        return miss;
    }
    p->key.word[0] = (p->key.word[0] & ~0xffffULL) | (slot & 0xffff);
    for (int i = 0; i < XF_KEY_WORDS - XF_TUNNEL_WORD; i++) {
        p->key.word[XF_TUNNEL_WORD + i] = o->key[i];
        p->digest += xf_hash_word(o->key[i], xf_secret[XF_TUNNEL_WORD + i]);
    }
    return XF_PARSED;
}

#endif /* decap.h */
