/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Tunnels: headers that are put before a packet, and what ports take off. */
#ifndef XF_ABI_TUNNEL_H
#define XF_ABI_TUNNEL_H 1

#include <linux/types.h>

#include "bpf/abi/assert.h"

#define XF_MAX_TUNNELS 4096          /* Headers to push; slot 0 is unused. */
#define XF_TUNNEL_HEADER 128         /* The longest of them, in bytes. */

/* Values of struct xf_port's 'tunnel': what a tunnel port takes off. */
#define XF_TUNNEL_NONE 0
#define XF_TUNNEL_GENEVE 1           /* RFC 8926. */
#define XF_TUNNEL_VXLAN 2            /* RFC 7348. */

/* Outer headers that are put before a packet: Ethernet, with a VLAN tag or without,
 * IPv4 or IPv6, UDP, and Geneve or VXLAN.  Lengths, the UDP source port and its
 * checksum are zero; IPv4's checksum is that of the header as it is here. */
struct xf_tunnel {
    __u8 header[XF_TUNNEL_HEADER];
    __u16 len;                       /* Of 'header', in bytes; 0 = not in use. */
    __u16 l3_off, l4_off;            /* Where IP and UDP begin. */
    __u8 is_ipv6;
    __u8 has_checksum;               /* The UDP checksum is computed. */
    __u32 sum;                       /* Of the pseudo-header without the length,
                                      * folded. */
    __u16 port_min, n_ports;         /* UDP source ports, host order. */
    __u64 pad[6];                    /* Three cache lines in all. */
};

XF_ASSERT(sizeof(struct xf_tunnel) == 192);
XF_ASSERT(XF_MAX_TUNNELS <= 0x10000); /* struct xf_rewrite's is 16 bits. */

#endif /* tunnel.h */
