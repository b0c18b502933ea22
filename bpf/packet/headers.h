/* SPDX-License-Identifier: GPL-2.0-only */
/* Headers as they are on the wire, which the system's headers do not have or call
 * otherwise. */
#ifndef XF_PACKET_HEADERS_H
#define XF_PACKET_HEADERS_H 1

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/types.h>
#include <linux/udp.h>

#define XF_ETH_P_MIN 0x600           /* Smaller: an 802.3 length. */
#define XF_MAX_PADDING 255           /* Behind the IP packet, as in OVS. */
#define XF_IP_DF 0x4000
#define XF_IP_MF 0x2000
#define XF_IP_OFFSET 0x1fff
#define XF_IP6_MF 0x0001             /* RFC 8200 section 4.5. */
#define XF_IP6_OFFSET 0xfff8

/* <linux/in.h> and RFC 8200 section 4; the list is OVS's. */
#define XF_NEXTHDR_HOPOPTS 0
#define XF_NEXTHDR_ROUTING 43
#define XF_NEXTHDR_FRAGMENT 44
#define XF_NEXTHDR_AH 51
#define XF_NEXTHDR_DSTOPTS 60
#define XF_IPPROTO_ICMPV6 58
#define XF_IPPROTO_SCTP 132
#define XF_IPPROTO_MPLS 137

#define XF_TAG_LEN 4

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

/* What headers of SCTP (RFC 9260) and of ICMP begin with. */
struct xf_sctp {
    __be16 src, dst;
    __be32 vtag, crc;
};
struct xf_icmp {
    __u8 type, code;
    __be16 checksum;
    __be32 rest;
};

/* RFC 8200 section 4.5. */
struct xf_ip6_fragment {
    __u8 nexthdr, reserved;
    __be16 offset;
    __be32 id;
};

/* RFC 4861: the two messages with a target, and what follows the target. */
#define XF_ND_SOLICIT 135
#define XF_ND_ADVERT 136
#define XF_ND_LEN 24                 /* Without options. */
#define XF_ND_OPTION_LEN 8           /* A link-layer address of Ethernet. */
#define XF_ND_OPTION_SOURCE 1
#define XF_ND_OPTION_TARGET 2

struct xf_nd {
    __u8 type, code;
    __be16 checksum;
    __be32 flags;
    __u8 target[16];
};
struct xf_nd_option {
    __u8 type, len;                  /* In units of 8 bytes. */
    __u8 mac[6];
};

/* Tunnels. */
#define XF_ETH_P_TEB 0x6558          /* Transparent Ethernet bridging, RFC 1701. */
#define XF_GENEVE_OAM 0x80           /* In 'flags'. */
#define XF_GENEVE_OPTION_LEN 8       /* With four bytes of data. */
#define XF_VXLAN_FLAGS 0x08000000    /* The network identifier is valid. */

/* RFC 8926 section 3.4. */
struct xf_geneve {
    __u8 ver_and_len;                /* 2 and 6 bits; of the options, in units of
                                      * 4 bytes. */
    __u8 flags;
    __be16 type;
    __be32 vni;                      /* 24 bits, then 8 reserved ones. */
};

/* Section 3.5. */
struct xf_geneve_option {
    __be16 class;
    __u8 type, len;                  /* 3 reserved bits; in units of 4 bytes. */
    __be32 data;
};

/* RFC 7348 section 5. */
struct xf_vxlan {
    __be32 flags;
    __be32 vni;
};

#endif /* headers.h */
