/* SPDX-License-Identifier: GPL-2.0-only */
/* Partial checksums of packets that are in packets.
 *
 * A veth and a tap promise the kernel to make any checksum (NETIF_F_HW_CSUM), so
 * whoever sends through one may leave it to them wherever it is: behind the headers
 * of a tunnel, labels, or tags that OVS does not look behind.  checksum.h says why
 * such a frame must not leave as it is.  It is a miss, since the kernel knows where
 * the checksum is; on the way to AF_XDP, which does not, it is completed.
 *
 * The checksum of the outer UDP header, if there is one, is that of the packet as it
 * will be: local checksum offload, as in has_known_sum().
 *
 * look_at_type(), look_at_proto() and look_into_udp() have the formats that are known,
 * those in UDP by their registered ports.  What is known to carry packets in a way that
 * is not read here, and what is not as it should be, is a miss as well.
 */
#ifndef XF_PACKET_INSIDE_H
#define XF_PACKET_INSIDE_H 1

#include "bpf/hook/hook.h"
#include "bpf/maps.h"
#include "bpf/packet/checksum.h"
#include "bpf/packet/parse.h"

#define XF_INSIDE_STEPS 8            /* Headers, one in the other. */

/* Ethernet types that <linux/if_ether.h> does not have or calls otherwise: RFC 8300,
 * batman-adv, RFC 8013, ERSPAN's in GRE. */
#define XF_ETH_P_NSH 0x894f
#define XF_ETH_P_BATMAN 0x4305
#define XF_ETH_P_IFE 0xed3e
#define XF_ETH_P_ERSPAN2 0x22eb

/* <linux/in.h> has the others. */
#define XF_IPPROTO_ETHERIP 97
#define XF_IPPROTO_L2TP 115
#define XF_IPPROTO_ETHERNET 143

/* UDP ports: the IANA's registry, and what Linux took for VXLAN before that. */
#define XF_PORT_VXLAN 4789
#define XF_PORT_VXLAN_OLD 8472
#define XF_PORT_VXLAN_GPE 4790
#define XF_PORT_GENEVE 6081
#define XF_PORT_MPLS 6635
#define XF_PORT_L2TP 1701
#define XF_PORT_GUE 6080

#define XF_VXLAN_RCO 0x20            /* Remote checksum offload, in the second byte. */

#define XF_GRE_ROUTING_AND_VERSION 0x4007 /* RFC 1701, RFC 2784. */
#define XF_GRE_CHECKSUM 0x8000
#define XF_GRE_KEY 0x2000
#define XF_GRE_SEQUENCE 0x1000
#define XF_GRE_CHECKSUM_AT 4

enum xf_inside_result {
    XF_INSIDE_MORE,                  /* Another header follows. */
    XF_INSIDE_WHOLE,                 /* Nothing here is partial. */
    XF_INSIDE_PARTIAL,
    XF_INSIDE_UNKNOWN,
};

/* Where the look into a packet has come to. */
struct xf_inside {
    __u32 off;                       /* The next header, in the frame. */
    __u32 type;                      /* Its Ethernet type, host order; or */
    __u32 proto;                     /* of IP, if that is not 0. */
    __u32 len;                       /* Of IP's payload, from 'off' on. */
    __u32 pseudo;                    /* The sum of its pseudo-header. */
    __u32 sum_at;                    /* Of a partial checksum, from 'off' on. */
    __u32 frame_len;
};

/* RFC 2516 section 4, and what follows it. */
struct xf_pppoe {
    __u8 ver_and_type, code;
    __be16 session, length, protocol;
};
#define XF_PPP_IP 0x0021
#define XF_PPP_IPV6 0x0057

struct xf_gre {
    __be16 flags, type;
};

static __always_inline int
go_on(struct xf_inside *in, __u32 len, __u32 type)
{
    in->off += len;
    in->type = type;
    in->proto = 0;
    return XF_INSIDE_MORE;
}

static __always_inline int
look_at_ipv4(xf_ctx *ctx, struct xf_inside *in)
{
    union {
        struct iphdr ip;
        __u32 word[5];
    } h;
    __u32 len;

    if (load_bytes(ctx, in->off, &h, sizeof h))
        return XF_INSIDE_WHOLE;      /* Cut off, and with it what is in it. */
    len = bpf_ntohs(h.ip.tot_len) - sizeof h;
    /* Behind a label it may be something else. */
    if (h.ip.version != 4 || h.ip.ihl * 4 != sizeof h
        || !is_ipv4_header_valid(h.word)
        || in->off + sizeof h + len > in->frame_len)
        return XF_INSIDE_UNKNOWN;
    if (h.ip.frag_off & bpf_htons(XF_IP_MF | XF_IP_OFFSET))
        return XF_INSIDE_WHOLE;      /* Completed before it was cut. */
    in->len = len;
    in->pseudo = fold((__u64)h.ip.saddr + h.ip.daddr + bpf_htons(len)
                      + bpf_htons(h.ip.protocol));
    go_on(in, sizeof h, ETH_P_IP);
    in->proto = h.ip.protocol;
    return in->proto ? XF_INSIDE_MORE : XF_INSIDE_WHOLE;
}

static __always_inline int
look_at_ipv6(xf_ctx *ctx, struct xf_inside *in)
{
    struct ipv6hdr ip;
    const __u32 *a = (const __u32 *)&ip.saddr;

    if (load_bytes(ctx, in->off, &ip, sizeof ip))
        return XF_INSIDE_WHOLE;
    in->len = bpf_ntohs(ip.payload_len);
    if (ip.version != 6 || in->off + sizeof ip + in->len > in->frame_len
        || ip.nexthdr == XF_NEXTHDR_HOPOPTS)
        return XF_INSIDE_UNKNOWN;
    in->pseudo = fold((__u64)a[0] + a[1] + a[2] + a[3] + a[4] + a[5] + a[6]
                      + a[7] + ip.payload_len + bpf_htons(ip.nexthdr));
    go_on(in, sizeof ip, ETH_P_IPV6);
    in->proto = ip.nexthdr;
    return XF_INSIDE_MORE;
}

/* Linux puts it around what it sends through ip6tnl and ip6gre (RFC 2473 section
 * 5.1). */
static __always_inline int
look_at_destination_options(xf_ctx *ctx, struct xf_inside *in)
{
    struct {
        __u8 next, units;            /* Of 8 bytes, but for the first. */
    } h;
    __u32 len;

    if (load_bytes(ctx, in->off, &h, sizeof h))
        return XF_INSIDE_WHOLE;
    len = (h.units + 1) * 8;
    if (!h.next || len > in->len)
        return XF_INSIDE_UNKNOWN;
    in->pseudo = fold(in->pseudo
                      + sum_change(bpf_htons(in->len), bpf_htons(in->len - len))
                      + sum_change(bpf_htons(in->proto), bpf_htons(h.next)));
    in->off += len;
    in->len -= len;
    in->proto = h.next;
    return XF_INSIDE_MORE;
}

/* The bottom of a stack of labels says nothing of what follows it. */
static __always_inline int
look_at_mpls(xf_ctx *ctx, struct xf_inside *in)
{
    __u8 label[5];

    if (load_bytes(ctx, in->off, label, sizeof label))
        return XF_INSIDE_WHOLE;
    if (!(label[2] & 1))
        return go_on(in, 4, ETH_P_MPLS_UC);
    if (label[4] >> 4 != 4 && label[4] >> 4 != 6)
        return XF_INSIDE_UNKNOWN;    /* A pseudowire. */
    return go_on(in, 4, label[4] >> 4 == 4 ? ETH_P_IP : ETH_P_IPV6);
}

static __always_inline int
look_at_pppoe(xf_ctx *ctx, struct xf_inside *in)
{
    struct xf_pppoe h;

    if (load_bytes(ctx, in->off, &h, sizeof h))
        return XF_INSIDE_WHOLE;
    if (h.protocol == bpf_htons(XF_PPP_IP))
        return go_on(in, sizeof h, ETH_P_IP);
    return h.protocol == bpf_htons(XF_PPP_IPV6)
           ? go_on(in, sizeof h, ETH_P_IPV6) : XF_INSIDE_WHOLE;
}

/* If what is in it is whole, GRE's own checksum may be the one that is left to the
 * device, and is 0 then (gre_build_header() in the kernel's include/net/gre.h). */
static __always_inline int
look_at_gre(xf_ctx *ctx, struct xf_inside *in)
{
    struct xf_gre h;
    __u32 len = sizeof h;
    __be16 sum;

    if (load_bytes(ctx, in->off, &h, sizeof h))
        return XF_INSIDE_WHOLE;
    if (h.flags & bpf_htons(XF_GRE_CHECKSUM)) {
        in->sum_at = XF_GRE_CHECKSUM_AT;
        if (load_bytes(ctx, in->off + in->sum_at, &sum, sizeof sum))
            return XF_INSIDE_WHOLE;
        if (!sum)
            return XF_INSIDE_PARTIAL;
    }
    if (h.flags & bpf_htons(XF_GRE_ROUTING_AND_VERSION)
        || h.type == bpf_htons(ETH_P_ERSPAN)
        || h.type == bpf_htons(XF_ETH_P_ERSPAN2))
        return XF_INSIDE_UNKNOWN;
    len += h.flags & bpf_htons(XF_GRE_CHECKSUM) ? 4 : 0;
    len += h.flags & bpf_htons(XF_GRE_KEY) ? 4 : 0;
    len += h.flags & bpf_htons(XF_GRE_SEQUENCE) ? 4 : 0;
    return go_on(in, len, bpf_ntohs(h.type));
}

/* What is behind a UDP header that is sent to 'port'. */
static __always_inline int
look_into_udp(xf_ctx *ctx, struct xf_inside *in, __u32 port)
{
    struct xf_geneve h;              /* As long as VXLAN's. */
    __u8 *vxlan = (__u8 *)&h;

    if (port == XF_PORT_MPLS)
        return go_on(in, sizeof(struct udphdr), ETH_P_MPLS_UC);
    if (port == XF_PORT_L2TP || port == XF_PORT_VXLAN_GPE || port == XF_PORT_GUE)
        return XF_INSIDE_UNKNOWN;
    if (load_bytes(ctx, in->off + sizeof(struct udphdr), &h, sizeof h))
        return XF_INSIDE_WHOLE;
    if (port == XF_PORT_GENEVE)
        return go_on(in, sizeof(struct udphdr) + sizeof h
                         + (h.ver_and_len & 0x3f) * 4, bpf_ntohs(h.type));
    if (vxlan[1] & XF_VXLAN_RCO)
        return XF_INSIDE_WHOLE;      /* It stays partial up to the far end. */
    if (vxlan[0] & 0x04)             /* Says what follows: VXLAN-GPE. */
        return XF_INSIDE_UNKNOWN;
    return vxlan[0] & 0x08
           ? go_on(in, sizeof(struct udphdr) + sizeof h, XF_ETH_P_TEB)
           : XF_INSIDE_WHOLE;
}

static __always_inline bool
is_udp_tunnel(__u32 port)
{
    return port == XF_PORT_VXLAN || port == XF_PORT_VXLAN_OLD
           || port == XF_PORT_GENEVE || port == XF_PORT_VXLAN_GPE
           || port == XF_PORT_MPLS || port == XF_PORT_L2TP
           || port == XF_PORT_GUE;
}

static __always_inline int
look_at_transport(xf_ctx *ctx, struct xf_inside *in)
{
    struct udphdr udp;
    __be16 sum;

    in->sum_at = checksum_offset(in->proto);
    if (in->sum_at + sizeof sum > in->len
        || load_bytes(ctx, in->off + in->sum_at, &sum, sizeof sum))
        return XF_INSIDE_WHOLE;
    if (sum == in->pseudo)
        return XF_INSIDE_PARTIAL;
    if (in->proto == IPPROTO_TCP
        || load_bytes(ctx, in->off, &udp, sizeof udp)
        || !is_udp_tunnel(bpf_ntohs(udp.dest)))
        return XF_INSIDE_WHOLE;
    return look_into_udp(ctx, in, bpf_ntohs(udp.dest));
}

static __always_inline int
look_at_sctp(xf_ctx *ctx, const struct xf_inside *in)
{
    struct xf_sctp h;

    return load_bytes(ctx, in->off, &h, sizeof h) || h.crc
           ? XF_INSIDE_WHOLE : XF_INSIDE_UNKNOWN;
}

static __always_inline int
look_at_proto(xf_ctx *ctx, struct xf_inside *in)
{
    switch (in->proto) {
    case IPPROTO_TCP:
    case IPPROTO_UDP:
        return look_at_transport(ctx, in);
    case IPPROTO_IPIP:
        return go_on(in, 0, ETH_P_IP);
    case IPPROTO_IPV6:
        return go_on(in, 0, ETH_P_IPV6);
    case IPPROTO_GRE:
        return look_at_gre(ctx, in);
    case IPPROTO_MPLS:
        return go_on(in, 0, ETH_P_MPLS_UC);
    case XF_IPPROTO_ETHERNET:
        return go_on(in, 0, XF_ETH_P_TEB);
    case XF_IPPROTO_SCTP:
        return look_at_sctp(ctx, in);
    case XF_NEXTHDR_DSTOPTS:
        return look_at_destination_options(ctx, in);
    case XF_NEXTHDR_ROUTING:
    case XF_IPPROTO_ETHERIP:
    case XF_IPPROTO_L2TP:
        return XF_INSIDE_UNKNOWN;
    }
    return XF_INSIDE_WHOLE;
}

static __always_inline int
look_at_type(xf_ctx *ctx, struct xf_inside *in)
{
    __be16 type;

    switch (in->type) {
    case XF_ETH_P_TEB:
    case ETH_P_8021Q:
    case ETH_P_8021AD: {
        __u32 len = in->type == XF_ETH_P_TEB ? ETH_HLEN : XF_TAG_LEN;

        if (load_bytes(ctx, in->off + len - sizeof type, &type,
                               sizeof type))
            return XF_INSIDE_WHOLE;
        return go_on(in, len, bpf_ntohs(type));
    }
    case ETH_P_IP:
        return look_at_ipv4(ctx, in);
    case ETH_P_IPV6:
        return look_at_ipv6(ctx, in);
    case ETH_P_MPLS_UC:
    case ETH_P_MPLS_MC:
        return look_at_mpls(ctx, in);
    case ETH_P_PPP_SES:
        return look_at_pppoe(ctx, in);
    case XF_ETH_P_NSH:
    case XF_ETH_P_BATMAN:
    case XF_ETH_P_IFE:
    case ETH_P_8021AH:
    case ETH_P_HSR:
    case ETH_P_PRP:
        return XF_INSIDE_UNKNOWN;
    }
    return XF_INSIDE_WHOLE;
}

/* Looks at one header.  A global function, so that the verifier checks it once and
 * on its own. */
__noinline int
look_deeper(xf_ctx *ctx, struct xf_inside *in)
{
    if (!in)
        return XF_INSIDE_UNKNOWN;    /* Never null; the verifier must see it. */
    return in->proto ? look_at_proto(ctx, in) : look_at_type(ctx, in);
}

/* Is the packet of a kind that carries others?  Only its own header is asked.  What
 * does not parse because of IP's options may be one as well. */
static __always_inline bool
is_carrier(const struct xf_packet *p)
{
    __u32 proto = p->l4_proto;       /* 0 for fragments, and behind options of IPv6. */

    if (p->cls == XF_CLASS_MPLS || p->cls == XF_CLASS_L2)
        return true;
    if (p->cls == XF_CLASS_IPV6 && !proto)
        return !p->key.nw_frag;
    if (proto == IPPROTO_UDP)
        return is_udp_tunnel(bpf_ntohs(p->key.tp_dst)) || !p->key.tp_dst;
    return proto == IPPROTO_IPIP || proto == IPPROTO_IPV6 || proto == IPPROTO_GRE
           || proto == IPPROTO_MPLS || proto == XF_IPPROTO_ETHERNET
           || proto == XF_IPPROTO_ETHERIP || proto == XF_IPPROTO_L2TP;
}

/* May there be a partial checksum in what the packet carries?  Not behind a NIC, whose
 * packets pay no more than this. */
static __always_inline bool
may_be_partial_inside(const struct xf_packet *p)
{
    const struct xf_port *port;

    if (!is_carrier(p))
        return false;
    port = own_port(p);
    return port && port->is_no_nic;
}

/* Behind the packet's own UDP header, whose checksum is not what is looked for. */
static __always_inline int
look_behind_udp(xf_ctx *ctx, struct xf_inside *in)
{
    struct udphdr udp;

    if (load_bytes(ctx, in->off, &udp, sizeof udp)
        || !is_udp_tunnel(bpf_ntohs(udp.dest)))
        return XF_INSIDE_WHOLE;
    return look_into_udp(ctx, in, bpf_ntohs(udp.dest));
}

/* Looks for a partial checksum behind the packet's own headers, if there may be one.
 * Returns an enum xf_inside_result, and where it is in '*in'. */
static __always_inline int
look_inside(xf_ctx *ctx, const struct xf_packet *p, struct xf_inside *in)
{
    int result = XF_INSIDE_MORE;

    *in = (struct xf_inside){
        .off = p->l3_off,
        .type = bpf_ntohs(p->key.eth_type),
        .len = p->l4_len,
        .frame_len = p->frame_len,
    };
    if (p->l4_proto) {
        in->off = p->l4_off;
        in->proto = p->l4_proto;
    }
    if (p->l4_proto == IPPROTO_UDP)
        result = look_behind_udp(ctx, in);
    for (int i = 0; i < XF_INSIDE_STEPS && result == XF_INSIDE_MORE; i++)
        result = look_deeper(ctx, in);
    return result == XF_INSIDE_MORE ? XF_INSIDE_UNKNOWN : result;
}

/* Are all checksums whole that the packet carries, as far as can be told?  A global
 * function for the verifier's sake, too. */
__noinline int
is_whole_inside(xf_ctx *ctx, const struct xf_packet *p)
{
    struct xf_inside in;

    return p && look_inside(ctx, p, &in) == XF_INSIDE_WHOLE;
}

/* Completes one that is not, as complete_if_partial() does. */
__noinline int
complete_inside(xf_ctx *ctx, const struct xf_packet *p)
{
    struct xf_inside in;

    if (!p || look_inside(ctx, p, &in) != XF_INSIDE_PARTIAL)
        return 0;
    return complete_checksum(ctx, in.off, in.len, in.sum_at);
}

#endif /* inside.h */
