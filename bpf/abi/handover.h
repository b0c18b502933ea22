/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What one process's programs leave to the next one's, and how they are told that
 * their own has ended.
 *
 * The program is embedded in the library, and a process reads no maps of an earlier
 * one but xf_cpus, and its connections (conn.h), and these only if their entries are as
 * long as ours: otherwise the two sides always are of one version.
 */
#ifndef XF_ABI_HANDOVER_H
#define XF_ABI_HANDOVER_H 1

#include <linux/types.h>

#include "bpf/abi/assert.h"

/* While a program hands over to that of the next process, about one packet in
 * so many that its flows match goes there, on each CPU. */
#define XF_SAMPLE_EVERY 16

/* The programs that are called with a packet while a process takes over from
 * another: indexes of 'xf_next' (bpf/run/handover.h), which generations of the
 * program must agree on.  The kernel empties a program array in this order. */
#define XF_NEXT_SAMPLE 0             /* Sees some packets that old flows match. */
#define XF_NEXT_MISS 1               /* Gets the packets that no old flow matches. */
                                     /* 2 was used by an earlier release. */
#define XF_NEXT_OLD 3                /* Gets the samples back. */
#define XF_N_NEXT 4

/* Where a port's own program finds the one that it shares with others: index of
 * 'xf_shared' (bpf/run/port.h), which generations agree on, too. */
#define XF_SHARED_MAIN 0
#define XF_N_SHARED 1

/* Is the packet a sample for which the CPU's 'seq' is this number?  It is another
 * one for each packet.  Samples are spread as by chance (with the finalizer of
 * MurmurHash3), so that senders who take turns are all met. */
static inline int xf_is_sampled(__u64 seq)
{
    __u32 x = (__u32)seq;

    x = (x ^ x >> 16) * 0x85ebca6b;
    x = (x ^ x >> 13) * 0xc2b2ae35;
    return (x ^ x >> 16) < (1ULL << 32) / XF_SAMPLE_EVERY;
}

/* Per-CPU state of the program. */
struct xf_cpu {
    __u64 seq;                       /* Incremented when the program begins
                                      * and when it ends: odd = in progress. */
    __u64 deadline;                  /* In jiffies; from then on no flow is
                                      * executed.  User space moves it on while
                                      * it lives; 0 = none. */
    __u64 alive_ns;                  /* When user space last moved it on:
                                      * CLOCK_MONOTONIC. */
    __u32 row;                       /* Of all that is by row (maps.def). User
                                      * space writes it once a second, too. */
    __u32 shares;                    /* Other CPUs have that row, too: what is
                                      * counted there is added atomically. */
    __u64 pad[4];
};

/* A packet that an earlier process's flow executes, and no flow of this one
 * matches: how it begins. */
#define XF_COPY_BYTES 256            /* More than all headers that OVS reads of
                                      * a packet that parses. */
struct xf_copy {
    __u64 hash;                      /* Tells one connection from others. */
    __u32 in_port;                   /* Port slot. */
    __u32 frame_len;                 /* In bytes; 'data' may be less. */
    __u8 data[XF_COPY_BYTES];
};

XF_ASSERT(sizeof(struct xf_cpu) == 64);
XF_ASSERT(sizeof(struct xf_copy) == 16 + XF_COPY_BYTES);

#endif /* handover.h */
