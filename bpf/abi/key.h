/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What a packet is compared with: its header fields as the program parses them,
 * words of 64 bits that masks, hashes and the sets of fields are made of. */
#ifndef XF_ABI_KEY_H
#define XF_ABI_KEY_H 1

#include <linux/types.h>

#include "bpf/abi/assert.h"

/* Words of a key.  The first ones, which every mask has, share a cache line with
 * the rest of the flow.  The others are in segments, each with the words that go
 * together; a subtable says which of them its mask has (XF_SEGMENT_*). */
#define XF_SHORT_KEY_WORDS 6
#define XF_KEY_WORDS 22
#define XF_REST_WORDS (XF_KEY_WORDS - XF_SHORT_KEY_WORDS)
#define XF_SET_WORDS 16              /* Those that set actions can change. */

/* By segment: its bit and its first word; it ends where the next one begins. */
#define XF_SEGMENT_ADDRESSES 0x1     /* Of more than 32 bits. */
#define XF_SEGMENT_ND 0x2            /* Neighbour Discovery. */
#define XF_SEGMENT_INNER 0x4         /* Second tag, IPv6 label. */
#define XF_SEGMENT_LABEL 0x8         /* Of a connection. */
#define XF_SEGMENT_TUNNEL 0x10       /* That the packet came out of. */
#define XF_ADDRESSES_WORD 6
#define XF_ND_WORD 9
#define XF_INNER_WORD 13
#define XF_LABEL_WORD 14
#define XF_TUNNEL_WORD 16
#define XF_TUNNEL_ID_WORD 20         /* Also of the outer TOS, TTL and flags. */

/* Packet classes: which fields of the key mean something.  The Ethernet type
 * decides, and every megaflow matches it exactly, so a packet can only hit
 * flows of its own class: fields that it does not have are never compared. */
enum xf_class {
    XF_CLASS_L2,                     /* Any other Ethernet II frame. */
    XF_CLASS_ARP,                    /* ARP over Ethernet and IPv4. */
    XF_CLASS_IPV4,
    XF_CLASS_IPV6,
    XF_CLASS_MPLS,
    XF_N_CLASSES
};

/* Values of struct xf_key's nw_frag (those of enum ovs_frag_type).  Later
 * fragments have no transport header. */
#define XF_FRAG_NONE 0
#define XF_FRAG_FIRST 1
#define XF_FRAG_LATER 2

/* Bits of struct xf_key's 'tpids': the tag's TPID is 0x88a8 rather than 0x8100. */
#define XF_TPID_OUTER_AD 0x1
#define XF_TPID_INNER_AD 0x2

/* Values of struct xf_key's 'tun_family', and bits of its 'tun_flags'. */
#define XF_TUNNEL_IPV4 4
#define XF_TUNNEL_IPV6 6
#define XF_TUNNEL_CSUM 0x1           /* The UDP header had a checksum. */
#define XF_TUNNEL_OAM 0x2            /* Geneve's "control packet". */
#define XF_TUNNEL_DF 0x4             /* IPv4 said "don't fragment". */

/* A packet's header fields, in network byte order except in_port, recirc and
 * dp_hash.  Bytes that the class or the protocol does not have are zero.
 *
 * As in OVS, the transport ports of an ICMP or ICMPv6 packet are its type and
 * code, nw_proto of an ARP packet is the low byte of its opcode, and that of a
 * later IPv6 fragment is 44. */
struct xf_key {
    union {
        struct {
            /* Word 0. */
            __u16 in_port;           /* Port slot. */
            __u16 recirc;            /* Recirculation slot; 0 = none yet. */
            __be16 eth_type;         /* Behind the VLAN tags, if any. */
            __be16 vlan_tci;         /* With XF_VLAN_PRESENT; 0 = untagged. */
            /* Word 1. */
            __u8 eth_dst[6];
            __be16 tcp_flags;        /* 12 bits: the reserved bits and flags. */
            /* Word 2. */
            __u8 eth_src[6];
            __u8 nw_frag;            /* XF_FRAG_*. */
            __u8 dp_hash;            /* The low bits of OVS's. */
            /* Word 3. */
            __u8 nw_proto;
            __u8 nw_tos;             /* IPv6: traffic class. */
            __u8 nw_ttl;             /* IPv6: hop limit. */
            __u8 tpids;              /* XF_TPID_*. */
            __be16 tp_src;
            __be16 tp_dst;
            /* Word 4: of the connection that ct() has found, in host order;
             * zero before. */
            __u16 ct_state;          /* OVS_CS_F_*, <linux/openvswitch.h>. */
            __u16 ct_zone;
            __u32 ct_mark;
            /* Words 5 to 8. */
            union {
                struct {
                    __be32 ipv4_src; /* ARP: sender protocol address. */
                    __be32 ipv4_dst; /* ARP: target protocol address. */
                    __u8 arp_sha[6];
                    __u8 pad1[2];
                    __u8 arp_tha[6];
                    __u8 pad2[2];
                    __u8 pad3[8];
                };
                struct {
                    __u8 ipv6_src[16];
                    __u8 ipv6_dst[16];
                };
                __be32 mpls_lse;     /* The outermost label stack entry. */
            };
            /* Words 9 to 12: ICMPv6 neighbour solicitation and
             * advertisement.  An option that is absent is zero, as in OVS. */
            __u8 nd_target[16];
            __u8 nd_sll[6];
            __u8 pad4[2];
            __u8 nd_tll[6];
            __u8 pad5[2];
            /* Word 13. */
            __be16 vlan2_tci;        /* Of the second tag, like vlan_tci. */
            __u8 pad0[2];
            __be32 ipv6_label;       /* 20 bits. */
            /* Words 14 and 15: as word 4. */
            __u8 ct_label[16];       /* As in OVS_KEY_ATTR_CT_LABELS. */
            /* Words 16 to 21: of the tunnel that the packet came out of; zero if
             * of none.  Words 16 to 19 are the outer addresses. */
            union {
                struct {
                    __be32 tun_ipv4_src;
                    __be32 tun_ipv4_dst;
                    __u8 pad6[24];
                };
                struct {
                    __u8 tun_ipv6_src[16];
                    __u8 tun_ipv6_dst[16];
                };
            };
            __be32 tun_id;           /* The network identifier: 24 bits. */
            __u8 tun_tos;
            __u8 tun_ttl;
            __u8 tun_flags;          /* XF_TUNNEL_CSUM... */
            __u8 tun_family;         /* XF_TUNNEL_IPV4...; 0 = no tunnel. */
            __u8 tun_option[8];      /* The Geneve option, whole; zero if there is
                                      * none.  RFC 8926 section 3.5. */
        };
        __u64 word[XF_KEY_WORDS];
    };
};

/* OVS sets the former CFI bit of a TCI to say "there is a tag". */
#define XF_VLAN_PRESENT 0x1000

/* The segment of a word of the key; 0 for those that every mask has. */
static inline __u32 xf_segment_of(__u32 word)
{
    return word < XF_ADDRESSES_WORD ? 0
           : word < XF_ND_WORD      ? XF_SEGMENT_ADDRESSES
           : word < XF_INNER_WORD   ? XF_SEGMENT_ND
           : word < XF_LABEL_WORD   ? XF_SEGMENT_INNER
           : word < XF_TUNNEL_WORD  ? XF_SEGMENT_LABEL
                                    : XF_SEGMENT_TUNNEL;
}

XF_ASSERT(sizeof(struct xf_key) == 8 * XF_KEY_WORDS);
XF_ASSERT(__builtin_offsetof(struct xf_key, eth_type) == 4);
XF_ASSERT(__builtin_offsetof(struct xf_key, eth_dst) == 8);
XF_ASSERT(__builtin_offsetof(struct xf_key, eth_src) == 16);
XF_ASSERT(__builtin_offsetof(struct xf_key, nw_proto) == 24);
XF_ASSERT(__builtin_offsetof(struct xf_key, ct_state) == 32);
XF_ASSERT(__builtin_offsetof(struct xf_key, ct_mark) == 36);
XF_ASSERT(__builtin_offsetof(struct xf_key, ipv4_src) == 40);
XF_ASSERT(__builtin_offsetof(struct xf_key, arp_tha) == 56);
XF_ASSERT(__builtin_offsetof(struct xf_key, ipv6_dst) == 56);
XF_ASSERT(__builtin_offsetof(struct xf_key, ipv6_src) + 8
          == 8 * XF_ADDRESSES_WORD);
XF_ASSERT(__builtin_offsetof(struct xf_key, nd_target) == 8 * XF_ND_WORD);
XF_ASSERT(__builtin_offsetof(struct xf_key, nd_tll) == 96);
XF_ASSERT(__builtin_offsetof(struct xf_key, vlan2_tci) == 8 * XF_INNER_WORD);
XF_ASSERT(__builtin_offsetof(struct xf_key, ct_label) == 8 * XF_LABEL_WORD);
XF_ASSERT(__builtin_offsetof(struct xf_key, tun_ipv4_src) == 8 * XF_TUNNEL_WORD);
XF_ASSERT(__builtin_offsetof(struct xf_key, tun_id) == 8 * XF_TUNNEL_ID_WORD);
XF_ASSERT(__builtin_offsetof(struct xf_key, tun_option) == 168);
XF_ASSERT(XF_SET_WORDS == XF_TUNNEL_WORD); /* No tunnel's field can be set. */

#endif /* key.h */
