/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What is counted: packets of flows, and why others took the miss path. */
#ifndef XF_ABI_COUNTERS_H
#define XF_ABI_COUNTERS_H 1

#include <linux/types.h>

#include "bpf/abi/assert.h"

/* Counters of one flow on the CPUs of one row, most often a single one. */
struct xf_stats {
    __u64 packets;
    __u64 bytes;
    __u64 used;                      /* The kernel's jiffies; 0 = never. */
    __u64 tcp_flags;                 /* Host order. */
};

/* One moment on both clocks, what bpf/clock.bpf.c tells. */
struct xf_time {
    __u64 jiffies;
    __u64 monotonic_ns;              /* CLOCK_MONOTONIC. */
};

/* Why a packet took the miss path.  In this order, because the names in
 * XF_MISS_NAMES follow it. */
enum xf_miss {
    XF_MISS_NO_FLOW,                 /* Parsed, but no megaflow matches. */
    XF_MISS_TRUNCATED,               /* Shorter than its headers say. */
    XF_MISS_ETHERTYPE,               /* 802.3 length field. */
    XF_MISS_ARP,                     /* ARP, but not Ethernet and IPv4. */
    XF_MISS_IP_HEADER,               /* Bad version, length or padding. */
    XF_MISS_IP_OPTIONS,              /* IPv4 options or IPv6 extensions. */
    XF_MISS_ND_OPTIONS,              /* Other than one link-layer address. */
    XF_MISS_RECIRC,                  /* Recirculated, and then no megaflow
                                      * matches, or too often. */
    XF_MISS_TX_PORT,                 /* The output port cannot take it now. */
    XF_MISS_TX_LENGTH,               /* Too long for the output port. */
    XF_MISS_TX_CHECKSUM,             /* Checksum that cannot be completed. */
    XF_MISS_HEADROOM,                /* No room for a VLAN tag or a tunnel's
                                      * headers. */
    XF_MISS_FRAME_SIZE,              /* Partial checksum, and longer than
                                      * XF_MAX_FRAME. */
    XF_MISS_INTERNAL,                /* A map holds an index out of bounds. */
    XF_MISS_CT_PACKET,               /* Not a plain packet of a connection. */
    XF_MISS_CT_UNKNOWN,              /* Of no connection that is known. */
    XF_MISS_CT_STATE,                /* Its state may change. */
    XF_MISS_CT_WINDOW,               /* Out of TCP's window. */
    XF_MISS_CT_CHANGE,               /* Its mark or label would change. */
    XF_MISS_CT_REFRESH,              /* The kernel has not seen it for long. */
    XF_MISS_TUNNEL_HEADER,           /* Not a plain one of the tunnel. */
    XF_MISS_TUNNEL_CHECKSUM,         /* The outer one is wrong, or cannot be told
                                      * to be right. */
    XF_MISS_TUNNEL_FLOW,             /* No megaflow matches what was in it. */
    XF_MISS_PACKET_LENGTH,           /* Longer than check_pkt_len says. */
    XF_MISS_HOOK,                    /* The flow does what this hook does not. */
    XF_N_MISSES
};

#define XF_MISS_NAMES                                                         \
    "no-flow", "truncated", "ethertype", "arp", "ip-header", "ip-options",    \
    "nd-options", "recirculation", "tx-port", "tx-length", "tx-checksum",     \
    "headroom", "frame-size", "internal", "ct-packet", "ct-unknown",          \
    "ct-state", "ct-window", "ct-change", "ct-refresh", "tunnel-header",      \
    "tunnel-checksum", "tunnel-flow", "packet-length", "hook"

/* Miss counters of one port in one row.  There are as many as five bits can number,
 * since that is all that the verifier knows of a reason's number (all kernels).
 * 'searches' counts what the flow cache could not answer, on the way that is slow
 * anyway: of misses, and of samples that go back to an old flow. */
struct xf_miss_row {
    __u64 count[31];
    __u64 searches;
};

XF_ASSERT(sizeof(struct xf_stats) == 32);
XF_ASSERT(sizeof(struct xf_time) == 16);
XF_ASSERT(sizeof(struct xf_miss_row) == 256);
XF_ASSERT(XF_N_MISSES <= 31);

#endif /* counters.h */
