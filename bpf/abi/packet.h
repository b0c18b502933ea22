/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What the program knows of a packet while it has it.  User space reads it in the
 * memory of a trace alone. */
#ifndef XF_ABI_PACKET_H
#define XF_ABI_PACKET_H 1

#include <linux/types.h>

#include "bpf/abi/conn.h"
#include "bpf/abi/flow.h"
#include "bpf/abi/key.h"

#define XF_MAX_CTS 8                 /* Connections that one packet may use. */
#define XF_MAX_STAGES 8              /* Flows that one packet may pass. */

/* A packet as the parser has found it. */
struct xf_packet {
    struct xf_key key;
    __u64 digest;                    /* Sum of xf_hash_word() of the words that
                                      * only long keys have: for the flow
                                      * cache. */
    __u32 cls;                       /* enum xf_class. */
    __u32 frame_len;                 /* In bytes, as it came. */

    __u32 n_tags;                    /* VLAN tags that the key tells of. */
    __u32 l3_off;                    /* From the beginning of the frame. */
    __u32 l4_off;                    /* Where the IP payload begins. */
    __u32 l4_len;                    /* In bytes, as IP says. */
    __u32 l4_proto;                  /* Where a checksum may have to be
                                      * completed (packet/checksum.h), else 0:
                                      * fragments never are partial. */
    __u32 nd_option;                 /* Type of the one there is, or 0. */
    __u32 l4_check;                  /* The checksum field as it came, or
                                      * XF_NO_CHECK or XF_NO_CRC.  Only of
                                      * packets that parse. */
    __u32 udp_differs;               /* UDP's own length is another than 'l4_len':
                                      * what it does not count is not summed
                                      * (RFC 9868). */
    __u32 in_port;                   /* The slot of the port where it has entered, if
                                      * the program is that of several. */
    __u32 pad0;
};

/* What connection tracking needs of a packet beside its key (bpf/conn/track.h). */
struct xf_segment {
    __u64 now_ms;                    /* CLOCK_MONOTONIC, as OVS has it; 0: nothing
                                      * has been read yet. */
    __u32 seq, end, ack;             /* TCP, in host order; 'end' is that of the
                                      * payload. */
    __u16 win;
    __u16 icmp_id;                   /* In network order. */
};

/* What the kernel has said of the packet's connection (bpf/conn/kernel.h), in the zone
 * that the plan's key has. */
struct xf_kernel_conn {
    __u32 src[4], dst[4];            /* After ct(nat), in network order. */
    __be16 tp_src, tp_dst;
    __u16 state;                     /* OVS_CS_F_*. */
    __u16 nat_state;                 /* What ct(nat) adds; 0: no translation. */
    __u32 mark;
    __u8 to_src, to_dst;             /* ct(nat) changes that side. */
    __u8 has_label;                  /* There is room for one. */
    __u8 pad0;
    __u64 label[2];
};

/* Bits of struct xf_plan's sets. */
#define XF_SETS 0x1                  /* The key is not the packet's any more. */
#define XF_SETS_COVERED 0x2          /* Nor is what a transport checksum covers:
                                      * known where flows are TC's. */

/* What all stages of a packet do together (bpf/act/plan.h). */
struct xf_plan {
    struct xf_key key;               /* As the packet is to be. */
    struct xf_action act;            /* Of all stages together. */
    __u32 n_stages;
    __u32 max_len;                   /* As in struct xf_rewrite. */
    struct {
        __u32 slot;
        __u32 bytes;                 /* Length of the packet there. */
    } stage[XF_MAX_STAGES];
    __u64 hash;                      /* Of the packet as it came, for the flow
                                      * cache. */
    __u64 way, next_hash;            /* Hashes of how it came to the next flow:
                                      * of that alone, and of the packet as it
                                      * came as well. */
    __u16 sets;                      /* XF_SETS... */
    __u16 tunnel;                    /* As in struct xf_rewrite. */
    __u32 guess;                     /* Subtable that the next flow may be of. */
    __u32 conn;                      /* Index of the connection that the packet
                                      * is known to be of; 0 = look for it.  Of the
                                      * kernel's: 1 or 0. */
    __u32 lead;                      /* Bytes of the tunnel's headers but for a VLAN
                                      * tag. */
    __u32 padding;                   /* Bytes behind the IP packet that are cut off. */
    __u32 n_cts;
    __u32 ct[XF_MAX_CTS];            /* Indexes of those that it has used. */
    struct xf_segment segment;
    struct xf_conn_key conn_key;     /* Of the last look-up. */
    struct xf_kernel_conn kernel_conn;
};

/* What is off a packet that is being taken out of a tunnel (bpf/act/decap.h). */
struct xf_outer {
    __u32 len;                       /* Of the headers, in bytes. */
    __u32 frame_len;                 /* Of the packet with them. */
    __u64 sum;                       /* Of the UDP pseudo-header and the headers from
                                      * UDP on; 0 = there is no checksum. */
    __u64 key[XF_KEY_WORDS - XF_TUNNEL_WORD]; /* The tunnel's words of the key. */
};

/* By CPU: what is known of the packet, which is too large for the stack. */
struct xf_scratch {
    struct xf_packet packet;
    struct xf_plan plan;
    struct xf_outer outer;
};

#endif /* packet.h */
