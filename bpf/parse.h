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
 * xdp_flow_abi.h says which field is where; the byte order is x86's.
 */
#ifndef XF_PARSE_H
#define XF_PARSE_H 1

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>

#include "maps.h"

#define XF_ETH_P_MIN 0x600           /* Smaller: an 802.3 length. */
#define XF_MAX_PADDING 255           /* Behind the IP packet, as in OVS. */
#define XF_IP_MF 0x2000
#define XF_IP_OFFSET 0x1fff

/* <linux/in.h> and RFC 8200 section 4; the list is OVS's. */
#define XF_NEXTHDR_HOPOPTS 0
#define XF_NEXTHDR_ROUTING 43
#define XF_NEXTHDR_FRAGMENT 44
#define XF_NEXTHDR_AH 51
#define XF_NEXTHDR_DSTOPTS 60
#define XF_IPPROTO_ICMPV6 58
#define XF_IPPROTO_SCTP 132

struct xf_vlan_header {
    __be16 tci;
    __be16 type;
};

/* RFC 826, for Ethernet and IPv4. */
struct xf_arp {
    __be16 hrd, pro;
    __u8 hln, pln;
    __be16 op;
    __u8 sha[6];
    __be32 spa;
    __u8 tha[6];
    __be32 tpa;
} __attribute__((packed));

/* The common begin of SCTP's (RFC 9260) and of ICMP's header. */
struct xf_sctp {
    __be16 src, dst;
    __be32 vtag, crc;
};
struct xf_icmp {
    __u8 type, code;
    __be16 checksum;
    __be32 rest;
};

struct xf_packet {
    struct xf_key key;
    __u64 digest;                    /* Sum of xf_hash_word() of the words that
                                      * only long keys have: for the flow
                                      * cache. */
    __u32 cls;                       /* enum xf_class. */
    __u32 frame_len;                 /* In bytes, as it came. */

    /* Transport header and payload, where a checksum may have to be completed
     * (checksum.h).  'l4_off' is 0 where there is none to look at. */
    __u32 l4_off;                    /* From the begin of the frame. */
    __u32 l4_len;                    /* In bytes, as IP says. */
    __u32 l4_proto;
    __u32 l4_check;                  /* The checksum field as it came, or
                                      * XF_NO_CHECK or XF_NO_CRC.  Only of
                                      * packets that parse. */
};

#define XF_NO_CHECK 0x10000          /* Nothing that could be partial. */
#define XF_NO_CRC 0x20000            /* SCTP, and its CRC32c is missing. */

#define XF_PARSED (-1)

/* Where a word of the key holds a 6-byte address, and what shares it. */
#define XF_LOW_6_BYTES 0xffffffffffffULL
#define XF_HIGH_2_BYTES_SHIFT 48

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
    p->key.word[3] = op;
    p->key.word[4] = arp->spa | (__u64)arp->tpa << 32;
    p->key.word[5] = load64(arp->sha) & XF_LOW_6_BYTES;
    p->key.word[6] = load64(arp->tha - 2) >> 16;
    p->digest = xf_hash_word(p->key.word[5], xf_secret[5])
                + xf_hash_word(p->key.word[6], xf_secret[6]);
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
    }
    return XF_PARSED;
}

static __always_inline int
parse_ipv4(struct xf_packet *p, void *l3, void *end, __u32 l3_off)
{
    __u32 l3_len = p->frame_len - l3_off;
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
    p->key.word[3] = ip->protocol | ip->tos << 8 | ip->ttl << 16;
    p->key.word[4] = load64(&ip->saddr);
    p->l4_len = tot_len - header_len;

    frag = bpf_ntohs(ip->frag_off);
    if (frag & XF_IP_OFFSET)
        return XF_MISS_LATER_FRAGMENT;
    if (frag & XF_IP_MF) {
        p->key.word[2] |= (__u64)XF_FRAG_FIRST << XF_HIGH_2_BYTES_SHIFT;
    } else {
        p->l4_off = l3_off + header_len;
        p->l4_proto = ip->protocol;
    }
    if (header_len != sizeof *ip)
        return XF_MISS_IP_OPTIONS;
    miss = parse_l4(p, ip + 1, end, ip->protocol);
    if (frag & XF_IP_MF)
        p->l4_check = XF_NO_CHECK;   /* Fragments are never partial. */
    return miss;
}

static __always_inline bool
is_ipv6_extension(__u8 nexthdr)
{
    return nexthdr == XF_NEXTHDR_HOPOPTS || nexthdr == XF_NEXTHDR_ROUTING
           || nexthdr == XF_NEXTHDR_FRAGMENT || nexthdr == XF_NEXTHDR_AH
           || nexthdr == XF_NEXTHDR_DSTOPTS;
}

static __always_inline int
parse_ipv6(struct xf_packet *p, void *l3, void *end, __u32 l3_off)
{
    __u32 l3_len = p->frame_len - l3_off;
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
    if (is_ipv6_extension(ip->nexthdr))
        return XF_MISS_IP_OPTIONS;

    p->cls = XF_CLASS_IPV6;
    p->key.word[3] = ip->nexthdr
                     | (bpf_ntohl(load32(ip)) >> 20 & 0xff) << 8
                     | ip->hop_limit << 16;
    p->key.word[4] = load64(&ip->saddr);
    p->key.word[5] = load64((void *)&ip->saddr + 8);
    p->key.word[6] = load64(&ip->daddr);
    p->key.word[7] = load64((void *)&ip->daddr + 8);
    p->digest = xf_hash_word(p->key.word[5], xf_secret[5])
                + xf_hash_word(p->key.word[6], xf_secret[6])
                + xf_hash_word(p->key.word[7], xf_secret[7]);
    p->l4_len = tot_len - sizeof *ip;
    p->l4_off = l3_off + sizeof *ip;
    p->l4_proto = ip->nexthdr;
    return parse_l4(p, ip + 1, end, ip->nexthdr);
}

/* Fills in '*p', which the caller has zeroed, from the packet of 'ctx'.
 * Returns XF_PARSED or an enum xf_miss. */
static __always_inline int
parse_packet(struct xdp_md *ctx, struct xf_packet *p)
{
    void *end = (void *)(long)ctx->data_end;
    void *data = (void *)(long)ctx->data;
    struct ethhdr *eth = data;
    void *l3 = eth + 1;
    __u32 l3_off = sizeof *eth;
    __be16 type, tci = 0;
    __u64 source_and_type;

    p->frame_len = end - data;
    if (l3 > end)
        return XF_MISS_TRUNCATED;
    source_and_type = load64(eth->h_source);
    p->key.word[1] = load64(eth->h_dest) & XF_LOW_6_BYTES;
    p->key.word[2] = source_and_type & XF_LOW_6_BYTES;
    type = source_and_type >> XF_HIGH_2_BYTES_SHIFT;

    if (type == bpf_htons(ETH_P_8021Q)) {
        struct xf_vlan_header *vlan = l3;

        l3 = vlan + 1;
        l3_off += sizeof *vlan;
        if (l3 > end)
            return XF_MISS_TRUNCATED;
        tci = vlan->tci | bpf_htons(XF_VLAN_PRESENT);
        type = vlan->type;
    }
    if (type == bpf_htons(ETH_P_8021Q) || type == bpf_htons(ETH_P_8021AD)
        || bpf_ntohs(type) < XF_ETH_P_MIN)
        return XF_MISS_ETHERTYPE;
    p->key.word[0] = xf_in_port | (__u64)type << 32 | (__u64)tci << 48;

    p->l4_check = XF_NO_CHECK;
    if (type == bpf_htons(ETH_P_IP))
        return parse_ipv4(p, l3, end, l3_off);
    if (type == bpf_htons(ETH_P_IPV6))
        return parse_ipv6(p, l3, end, l3_off);
    if (type == bpf_htons(ETH_P_ARP))
        return parse_arp(p, l3, end);
    p->cls = XF_CLASS_L2;
    return XF_PARSED;
}

#endif /* parse.h */
