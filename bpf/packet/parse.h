/* SPDX-License-Identifier: GPL-2.0-only */
/* Parsing: packet bytes in, struct xf_packet out.
 *
 * The rules are those of OVS's miniflow_extract(), narrowed: whatever is not
 * plainly well-formed is a miss, never a drop and never a guess, so a packet
 * that parses has exactly the header fields that OVS would have found.
 *
 * The key is put together in whole words, from loads that are as wide as the
 * fields allow, and so stays in registers: built member by member it would be
 * read back wider than it was written, which stalls a CPU once per word.
 * bpf/abi/key.h says which field is where; the byte order is x86's.
 */
#ifndef XF_PACKET_PARSE_H
#define XF_PACKET_PARSE_H 1

#include "bpf/hook/hook.h"
#include "bpf/maps.h"
#include "bpf/packet/headers.h"

#define XF_NO_CHECK 0x10000          /* Nothing that could be partial. */
#define XF_NO_CRC 0x20000            /* SCTP, and its CRC32c is missing. */

#define XF_PARSED (-1)

/* Where a word of the key holds a 6-byte address, and what shares it. */
#define XF_LOW_6_BYTES 0xffffffffffffULL
#define XF_HIGH_2_BYTES_SHIFT 48
#define XF_TPIDS_SHIFT 24            /* In word 3. */

/* Wide loads from wherever a header begins; x86 does not mind. */
static __always_inline __u32
load32(const void *p)
{
    return *(const __u32 *)p;
}

static __always_inline __u64
load64(const void *p)
{
    return *(const __u64 *)p;
}

static __always_inline int
parse_arp(struct xf_packet *p, void *l3, void *end)
{
    struct xf_arp *arp = l3;
    __u16 op;

    if ((void *)(arp + 1) > end)
        return XF_MISS_TRUNCATED;
    op = bpf_ntohs(arp->op);
    if (arp->hrd != bpf_htons(1) || arp->pro != bpf_htons(ETH_P_IP)
        || arp->hln != 6 || arp->pln != 4 || op > 0xff)
        return XF_MISS_ARP;

    p->cls = XF_CLASS_ARP;
    p->key.word[3] |= op;
    p->key.word[5] = arp->spa | (__u64)arp->tpa << 32;
    p->key.word[6] = load64(arp->sha) & XF_LOW_6_BYTES;
    p->key.word[7] = load64(arp->tha - 2) >> 16;
    p->digest = xf_hash_word(p->key.word[6], xf_secret[6])
                + xf_hash_word(p->key.word[7], xf_secret[7]);
    return XF_PARSED;
}

/* OVS matches up to three entries; this one is all that is encoded. */
static __always_inline int
parse_mpls(struct xf_packet *p, void *mpls, void *end)
{
    if (mpls + sizeof(__be32) > end)
        return XF_MISS_TRUNCATED;
    p->cls = XF_CLASS_MPLS;
    p->key.word[5] = load32(mpls);
    return XF_PARSED;
}

/* A message with one option that is not a link-layer address has none for OVS
 * either; what has more is left to it. */
static __always_inline int
parse_nd(struct xf_packet *p, struct xf_nd *nd, void *end)
{
    struct xf_nd_option *option = (void *)(nd + 1);
    __u64 mac;

    if (p->key.nw_frag)
        return XF_MISS_ND_OPTIONS;   /* Options may be anywhere. */
    if ((void *)(nd + 1) > end || p->l4_len < XF_ND_LEN)
        return XF_MISS_TRUNCATED;
    p->key.word[9] = load64(nd->target);
    p->key.word[10] = load64(nd->target + 8);
    if (p->l4_len == XF_ND_LEN)
        return XF_PARSED;
    if (p->l4_len != XF_ND_LEN + XF_ND_OPTION_LEN)
        return XF_MISS_ND_OPTIONS;
    if ((void *)(option + 1) > end)
        return XF_MISS_TRUNCATED;    /* It is elsewhere. */
    if (option->len != 1)
        return XF_MISS_ND_OPTIONS;
    mac = load64(option) >> 16;
    p->nd_option = option->type;
    if (option->type == XF_ND_OPTION_SOURCE)
        p->key.word[11] = mac;
    else if (option->type == XF_ND_OPTION_TARGET)
        p->key.word[12] = mac;
    return XF_PARSED;
}

/* The ports are the first four bytes of TCP, UDP and SCTP headers. */
static __always_inline void
set_ports(struct xf_packet *p, __u32 ports)
{
    p->key.word[3] |= (__u64)ports << 32;
}

static __always_inline int
parse_l4(struct xf_packet *p, void *l4, void *end, __u8 proto)
{
    __u32 len = p->l4_len;

    if (proto == IPPROTO_TCP) {
        struct tcphdr *tcp = l4;
        __u64 flags;

        if ((void *)(tcp + 1) > end || len < sizeof *tcp
            || tcp->doff * 4 < sizeof *tcp || tcp->doff * 4 > len)
            return XF_MISS_TRUNCATED;
        set_ports(p, load32(tcp));
        flags = ((__be16 *)tcp)[6] & bpf_htons(0x0fff);
        p->key.word[1] |= flags << XF_HIGH_2_BYTES_SHIFT;
        p->l4_check = tcp->check;
    } else if (proto == IPPROTO_UDP) {
        struct udphdr *udp = l4;

        if ((void *)(udp + 1) > end || len < sizeof *udp)
            return XF_MISS_TRUNCATED;
        set_ports(p, load32(udp));
        p->l4_check = udp->check;
        p->udp_differs = udp->len != bpf_htons(len);
    } else if (proto == XF_IPPROTO_SCTP) {
        struct xf_sctp *sctp = l4;

        if ((void *)(sctp + 1) > end || len < sizeof *sctp)
            return XF_MISS_TRUNCATED;
        set_ports(p, load32(sctp));
        if (!sctp->crc)
            p->l4_check = XF_NO_CRC;
    } else if (proto == (p->cls == XF_CLASS_IPV4 ? IPPROTO_ICMP
                                                 : XF_IPPROTO_ICMPV6)) {
        struct xf_icmp *icmp = l4;

        if ((void *)(icmp + 1) > end || len < sizeof *icmp)
            return XF_MISS_TRUNCATED;
        set_ports(p, bpf_htons(icmp->type)
                         | (__u32)bpf_htons(icmp->code) << 16);
        if (proto == XF_IPPROTO_ICMPV6 && !icmp->code
            && (icmp->type == XF_ND_SOLICIT || icmp->type == XF_ND_ADVERT))
            return parse_nd(p, l4, end);
    } else if (xf_of_tc && proto == XF_IPPROTO_MPLS) {
        return XF_MISS_IP_OPTIONS;   /* For TC it is a packet of MPLS. */
    }
    return XF_PARSED;
}

static __always_inline void
set_frag(struct xf_packet *p, __u64 frag)
{
    p->key.word[2] |= frag << XF_HIGH_2_BYTES_SHIFT;
}

static __always_inline int
parse_ipv4(struct xf_packet *p, void *l3, void *end)
{
    __u32 l3_len = p->frame_len - p->l3_off;
    struct iphdr *ip = l3;
    __u32 tot_len, header_len;
    __u16 frag;
    int miss;

    if ((void *)(ip + 1) > end)
        return XF_MISS_TRUNCATED;
    tot_len = bpf_ntohs(ip->tot_len);
    header_len = ip->ihl * 4;
    if (ip->version != 4 || header_len < sizeof *ip || tot_len < header_len)
        return XF_MISS_IP_HEADER;
    if (tot_len > l3_len)
        return XF_MISS_TRUNCATED;
    if (l3_len - tot_len > XF_MAX_PADDING)
        return XF_MISS_IP_HEADER;

    p->cls = XF_CLASS_IPV4;
    p->key.word[3] |= ip->protocol | ip->tos << 8 | ip->ttl << 16;
    p->key.word[5] = load64(&ip->saddr);
    p->l4_off = p->l3_off + header_len;
    p->l4_len = tot_len - header_len;

    frag = bpf_ntohs(ip->frag_off) & (XF_IP_MF | XF_IP_OFFSET);
    if (!frag)
        p->l4_proto = ip->protocol;
    if (header_len != sizeof *ip)
        return XF_MISS_IP_OPTIONS;
    if (frag & XF_IP_OFFSET) {
        set_frag(p, XF_FRAG_LATER);
        return XF_PARSED;
    }
    if (frag)
        set_frag(p, XF_FRAG_FIRST);
    miss = parse_l4(p, ip + 1, end, ip->protocol);
    if (frag)
        p->l4_check = XF_NO_CHECK;
    return miss;
}

static __always_inline bool
is_ipv6_extension(__u8 nexthdr)
{
    return nexthdr == XF_NEXTHDR_HOPOPTS || nexthdr == XF_NEXTHDR_ROUTING
           || nexthdr == XF_NEXTHDR_FRAGMENT || nexthdr == XF_NEXTHDR_AH
           || nexthdr == XF_NEXTHDR_DSTOPTS;
}

/* One that says that the packet is whole after all is an option. */
static __always_inline int
parse_ipv6_fragment(struct xf_packet *p, struct xf_ip6_fragment *f, void *end)
{
    __u16 offset;
    int miss;

    if ((void *)(f + 1) > end || p->l4_len < sizeof *f)
        return XF_MISS_TRUNCATED;
    offset = bpf_ntohs(f->offset);
    p->l4_off += sizeof *f;
    p->l4_len -= sizeof *f;
    if (offset & XF_IP6_OFFSET) {
        p->key.word[3] |= XF_NEXTHDR_FRAGMENT;
        set_frag(p, XF_FRAG_LATER);
        return XF_PARSED;
    }
    if (!(offset & XF_IP6_MF) || is_ipv6_extension(f->nexthdr))
        return XF_MISS_IP_OPTIONS;
    p->key.word[3] |= f->nexthdr;
    set_frag(p, XF_FRAG_FIRST);
    miss = parse_l4(p, f + 1, end, f->nexthdr);
    p->l4_check = XF_NO_CHECK;
    return miss;
}

static __always_inline int
parse_ipv6(struct xf_packet *p, void *l3, void *end)
{
    __u32 l3_len = p->frame_len - p->l3_off;
    struct ipv6hdr *ip = l3;
    __u32 tot_len;

    if ((void *)(ip + 1) > end)
        return XF_MISS_TRUNCATED;
    if (ip->version != 6)
        return XF_MISS_IP_HEADER;
    tot_len = sizeof *ip + bpf_ntohs(ip->payload_len);
    if (tot_len > l3_len)
        return XF_MISS_TRUNCATED;
    if (l3_len - tot_len > XF_MAX_PADDING)
        return XF_MISS_IP_HEADER;

    p->cls = XF_CLASS_IPV6;
    p->key.word[3] |= (bpf_ntohl(load32(ip)) >> 20 & 0xff) << 8
                      | ip->hop_limit << 16;
    p->key.word[XF_INNER_WORD] |= (__u64)(load32(ip) & bpf_htonl(0xfffff))
                                  << 32;
    p->key.word[5] = load64(&ip->saddr);
    p->key.word[6] = load64((void *)&ip->saddr + 8);
    p->key.word[7] = load64(&ip->daddr);
    p->key.word[8] = load64((void *)&ip->daddr + 8);
    p->digest = xf_hash_word(p->key.word[6], xf_secret[6])
                + xf_hash_word(p->key.word[7], xf_secret[7])
                + xf_hash_word(p->key.word[8], xf_secret[8]);
    p->l4_len = tot_len - sizeof *ip;
    p->l4_off = p->l3_off + sizeof *ip;
    if (ip->nexthdr == XF_NEXTHDR_FRAGMENT)
        return parse_ipv6_fragment(p, (void *)(ip + 1), end);
    if (is_ipv6_extension(ip->nexthdr))
        return XF_MISS_IP_OPTIONS;
    p->key.word[3] |= ip->nexthdr;
    p->l4_proto = ip->nexthdr;
    return parse_l4(p, ip + 1, end, ip->nexthdr);
}

static __always_inline bool
is_vlan(__be16 type)
{
    return type == bpf_htons(ETH_P_8021Q) || type == bpf_htons(ETH_P_8021AD);
}

/* Takes a tag off 'l3' and its Ethernet type, '*type', and puts its TCI in
 * '*tci'.  Returns where the next header begins, or null if the frame ends
 * before. */
static __always_inline void *
parse_tag(struct xf_vlan_header *vlan, void *end, __be16 *type, __be16 *tci)
{
    if ((void *)(vlan + 1) > end)
        return NULL;
    *type = vlan->type;
    *tci = vlan->tci | bpf_htons(XF_VLAN_PRESENT);
    return vlan + 1;
}

/* How many VLAN tags are looked behind; others are payload. */
static __always_inline __u32
max_tags(void)
{
    const struct xf_settings *settings;
    __u32 zero = 0;

    settings = bpf_map_lookup_elem(&xf_settings, &zero);
    return settings ? *(const volatile __u32 *)&settings->max_tags : 0;
}

/* parse_tag() for the second tag, if there is one and it is looked behind. */
static __always_inline void *
parse_second_tag(struct xf_packet *p, void *l3, void *end, __be16 *type,
                 __be16 *tci, __u64 *tpids)
{
    if (!is_vlan(*type) || max_tags() < XF_MAX_TAGS)
        return l3;
    *tpids |= *type == bpf_htons(ETH_P_8021AD) ? XF_TPID_INNER_AD : 0;
    p->n_tags = 2;
    p->l3_off += sizeof(struct xf_vlan_header);
    return parse_tag(l3, end, type, tci);
}

/* Fills in '*p', which the caller has zeroed, from the packet of 'ctx'.
 * Returns XF_PARSED or an enum xf_miss. */
static __always_inline int
parse_packet(xf_ctx *ctx, struct xf_packet *p)
{
    void *end = frame_end(ctx);
    void *data = frame_begin(ctx);
    struct ethhdr *eth = data;
    void *l3 = eth + 1;
    __be16 type, tci = 0, tci2 = 0;
    struct xf_tag beside;
    __u64 source_and_type, tpids = 0;

    if (!xf_in_port)
        p->in_port = port_of_device(ingress_device(ctx));
    p->frame_len = frame_len(ctx);
    if (l3 > end)
        return XF_MISS_TRUNCATED;
    source_and_type = load64(eth->h_source);
    p->key.word[1] = load64(eth->h_dest) & XF_LOW_6_BYTES;
    p->key.word[2] = source_and_type & XF_LOW_6_BYTES;
    type = source_and_type >> XF_HIGH_2_BYTES_SHIFT;
    p->l3_off = sizeof *eth;

    if (tag_beside(ctx, &beside)) {
        tpids = beside.tpid == bpf_htons(ETH_P_8021AD) ? XF_TPID_OUTER_AD : 0;
        tci = beside.tci | bpf_htons(XF_VLAN_PRESENT);
        p->n_tags = 1;
        l3 = parse_second_tag(p, l3, end, &type, &tci2, &tpids);
    } else if (is_vlan(type)) {
        tpids = type == bpf_htons(ETH_P_8021AD) ? XF_TPID_OUTER_AD : 0;
        l3 = parse_tag(l3, end, &type, &tci);
        if (!l3)
            return XF_MISS_TRUNCATED;
        p->n_tags = 1;
        p->l3_off += sizeof(struct xf_vlan_header);
        l3 = parse_second_tag(p, l3, end, &type, &tci2, &tpids);
    }
    if (!l3)
        return XF_MISS_TRUNCATED;
    if (bpf_ntohs(type) < XF_ETH_P_MIN)
        return XF_MISS_ETHERTYPE;
    p->key.word[0] = in_port(p) | (__u64)type << 32 | (__u64)tci << 48;
    p->key.word[3] = tpids << XF_TPIDS_SHIFT;
    p->key.word[XF_INNER_WORD] = tci2;

    p->l4_check = XF_NO_CHECK;
    if (type == bpf_htons(ETH_P_IP))
        return parse_ipv4(p, l3, end);
    if (type == bpf_htons(ETH_P_IPV6))
        return parse_ipv6(p, l3, end);
    if (type == bpf_htons(ETH_P_ARP))
        return parse_arp(p, l3, end);
    if (type == bpf_htons(ETH_P_MPLS_UC) || type == bpf_htons(ETH_P_MPLS_MC))
        return parse_mpls(p, l3, end);
    p->cls = XF_CLASS_L2;
    return XF_PARSED;
}

/* Parses the frame as it is now.  A global function, so that the verifier checks
 * it once and on its own. */
__noinline int
parse_again(xf_ctx *ctx, struct xf_packet *p)
{
    if (!p)
        return XF_MISS_INTERNAL;     /* Never null; the verifier must see it. */
    *p = (struct xf_packet){};
    return parse_packet(ctx, p);
}

#endif /* parse.h */
