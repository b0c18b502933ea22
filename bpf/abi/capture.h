/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Copies of packets for who looks at a port (ovs-offload-dump). */
#ifndef XF_ABI_CAPTURE_H
#define XF_ABI_CAPTURE_H 1

#include <linux/types.h>

#include "bpf/abi/assert.h"
#include "bpf/abi/flow.h"
#include "bpf/abi/packet.h"

/* A packet that has entered a port while somebody looked (bpf/run/capture.h):
 * as it came, and what has become of it.  Behind it are
 *
 * - 'len' bytes of the packet, and any up to a multiple of eight;
 * - 'n_flows' struct xf_ufid: of the flows that it has passed, in their order;
 * - with a 'verdict' of XF_GROUP, the struct xf_group.
 */
struct xf_captured {
    __u64 time_ns;                   /* When it entered: CLOCK_MONOTONIC. */
    __u32 frame_len;                 /* In bytes, as it came. */
    __u32 len;
    __s32 action;                    /* enum xdp_action, or -1 - enum xf_miss: passed
                                      * to OVS as it came, whatever the rest says. */
    __u16 to;                        /* Of the last flow's action. */
    __u8 verdict;                    /* The same: XF_DROP, XF_OUTPUT, XF_GROUP...
                                      * Both mean nothing without a flow. */
    __u8 n_flows;
    __u32 cpu, queue;                /* Where it was received. */
};

/* OVS's name of a megaflow, by flow slot: only while a port is captured.  All zero
 * if it is not known. */
struct xf_ufid {
    __u64 word[2];
};

/* By CPU: what is put together of a packet.  Its entries are of xf_capture_room()
 * bytes. */
struct xf_capturing {
    __u32 slot;                      /* The flow that was hit first, or 0. */
    __u32 pad;
    struct xf_captured head;         /* 'len' of 0: nobody looks. */
    __u8 data[];
};
#define XF_CAPTURE_FLOWS (XF_MAX_STAGES + 1) /* One more takes it out of a tunnel. */
#define XF_MIN_CAPTURE 14            /* Fewest bytes of a packet that are copied: an
                                      * Ethernet header. */
#define XF_MAX_CAPTURE 65536         /* The most. */

/* Eight bytes are only for the verifier: of a length that was rounded up to a
 * multiple of eight it knows only that it has grown by seven at most. */
static inline __u32 xf_capture_room(__u32 bytes)
{
    return sizeof(struct xf_capturing) + ((bytes + 7) & ~7U) + 8
           + XF_CAPTURE_FLOWS * sizeof(struct xf_ufid) + sizeof(struct xf_group);
}

/* What the reader of a capture and the program tell each other. */
struct xf_lease {
    __u64 until_ns;                  /* CLOCK_MONOTONIC: how long packets are copied.
                                      * The reader moves it on. */
    __u64 lost;                      /* Packets for which there was no room. */
};

XF_ASSERT(sizeof(struct xf_captured) == 32);
XF_ASSERT(__builtin_offsetof(struct xf_capturing, data) == 40);

#endif /* capture.h */
