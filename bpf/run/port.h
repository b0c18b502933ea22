/* SPDX-License-Identifier: GPL-2.0-only */
/* What is on the device of a port that shares the program with others: it says whose
 * packets these are, and calls that.
 *
 * The shared program knows a packet's port by the number of its device alone.  A BPF link
 * follows its device into another network namespace, where the number may be that of
 * another port here, so it is compared with the one that the device had as a port.  What
 * does not fit goes on as it came, and so does all when user space has taken the shared
 * program away.
 */
#ifndef XF_RUN_PORT_H
#define XF_RUN_PORT_H 1

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "bpf/abi/handover.h"

const volatile __u32 xf_device = 0;  /* The index that the device had. */

struct {
    __uint(type, BPF_MAP_TYPE_PROG_ARRAY);
    __uint(max_entries, XF_N_SHARED);
    __uint(key_size, sizeof(__u32));
    __uint(value_size, sizeof(__u32));
} xf_shared SEC(".maps");

/* Calls the shared program with a packet that has entered through 'device'.  Returns if
 * the packet is to go on. */
static __always_inline void
call_shared(void *ctx, __u32 device)
{
    if (device == xf_device)
        bpf_tail_call(ctx, &xf_shared, XF_SHARED_MAIN);
}

#endif /* port.h */
