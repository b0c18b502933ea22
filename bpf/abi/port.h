/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Ports, and what holds for all of them. */
#ifndef XF_ABI_PORT_H
#define XF_ABI_PORT_H 1

#include <linux/types.h>

#include "bpf/abi/assert.h"

#define XF_MAX_PORTS 1024            /* Port slots; slot 0 is unused. */

#define XF_MAX_FRAME_BITS 12
#define XF_MAX_FRAME (1 << XF_MAX_FRAME_BITS) /* Longest frame whose checksum
                                      * can be completed: a page bounds what a driver
                                      * shows to a program without "frags"
                                      * support. */

/* Bits of struct xf_port's flags. */
#define XF_PORT_TX_NATIVE 0x1        /* Takes frames from native XDP now. */
#define XF_PORT_TX_GENERIC 0x2       /* Takes packets from generic XDP now. */
#define XF_PORT_TX_SKB 0x4           /* Takes sk_buffs now. */
#define XF_PORT_TX_SUMS 0x8          /* The device makes checksums of what it sends. */

/* A port as the program sees it, when a flow outputs to it. */
struct xf_port {
    __u32 flags;                     /* XF_PORT_*; 0 = cannot transmit. */
    __u32 max_frame;                 /* Longest untagged frame, in bytes. */
    __u32 max_partial;               /* If packets enter here: the longest TCP or
                                      * UDP header and payload with a partial
                                      * checksum that is completed; 0 = any. */
    __u32 tunnel;                    /* XF_TUNNEL_GENEVE...; others have devices. */
    __u32 is_no_nic;                 /* Who sends here may leave any checksum to the
                                      * device. */
    __u32 pad0;
    char name[16];                   /* For who reads a capture; ends with 0. */
    __u64 pad[3];
};

/* The ports of devices, by the lowest bits of their indexes, which are consecutive
 * mostly; a port that finds no room has a program of its own.  An entry is one word,
 * read and written as a whole: the device's index, and above it the port's slot. */
#define XF_IN_PORT_SETS 4096
#define XF_IN_PORT_WAYS 4
#define XF_IN_PORT_SHIFT 32
struct xf_in_port_set {
    __u64 ways[XF_IN_PORT_WAYS];     /* 0 = none. */
};

/* A packet from a tap may be several segments, which the kernel splits later, when
 * it makes their checksums, too; XDP cannot tell it from a whole packet.  But none of
 * these is as short as this, one segment for the smallest path MTU that Linux takes
 * (552, net.ipv4.route.min_pmtu) with a TCP header. */
#define XF_TAP_MAX_PARTIAL (512 + 20)

/* Bits of struct xf_settings's ct. */
#define XF_CT_OPEN 0x1               /* Connections are those that OVS has. */
#define XF_CT_WINDOWS 0x2            /* Out of TCP's window is invalid. */
#define XF_CT_EXPECTS 0x4            /* What is of no connection may be related to
                                      * one. */

/* Settings of all ports. */
struct xf_settings {
    __u32 max_tags;                  /* VLAN tags that are looked behind: OVS's
                                      * vlan-limit, 1 or 2. */
    __u32 ct;                        /* XF_CT_OPEN... */
};

XF_ASSERT(sizeof(struct xf_settings) == 8);
XF_ASSERT(sizeof(struct xf_port) == 64);
XF_ASSERT(sizeof(struct xf_in_port_set) == 32);

#endif /* port.h */
