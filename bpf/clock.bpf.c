// SPDX-License-Identifier: GPL-2.0-only
/* Tells user space how late it is in jiffies, the time in which the XDP program
 * notes a flow's last use: reading them costs a load, a call of
 * bpf_ktime_get_coarse_ns() costs as much as the look-up of a flow. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "bpf/abi/counters.h"

SEC("syscall")
int xf_read_clock(struct xf_time *now)
{
    /* Whoever interrupts this between the two readings spoils them. */
    for (int i = 0; i < 8; i++) {
        now->jiffies = bpf_jiffies64();
        now->monotonic_ns = bpf_ktime_get_ns();
        if (bpf_jiffies64() == now->jiffies)
            break;
    }
    return 0;
}

char _license[] SEC("license") = "GPL";
