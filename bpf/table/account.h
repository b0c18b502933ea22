/* SPDX-License-Identifier: GPL-2.0-only */
/* Counting: what a flow has done, and why packets took the miss path. */
#ifndef XF_TABLE_ACCOUNT_H
#define XF_TABLE_ACCOUNT_H 1

#include "bpf/maps.h"

static __always_inline struct xf_stats *
find_stats(__u32 cpu, __u32 slot)
{
    __u32 index = cpu * xf_n_slots + slot;

    return bpf_map_lookup_elem(&xf_stats, &index);
}

static __always_inline void
account(struct xf_stats *stats, __u32 bytes, __be16 tcp_flags)
{
    __u64 flags = bpf_ntohs(tcp_flags);

    stats->packets++;
    stats->bytes += bytes;
    stats->used = bpf_jiffies64();
    if (flags & ~stats->tcp_flags)
        stats->tcp_flags |= flags;
}

/* This port's counters of what is not a plain hit. */
static __always_inline struct xf_miss_row *
find_misses(__u32 cpu)
{
    __u32 index = cpu * XF_MAX_PORTS + xf_in_port;

    return bpf_map_lookup_elem(&xf_misses, &index);
}

static __always_inline void
count_search(__u32 cpu)
{
    struct xf_miss_row *row = find_misses(cpu);

    if (row)
        row->searches++;
}

static __always_inline void
count_miss(__u32 cpu, int reason)
{
    struct xf_miss_row *row = find_misses(cpu);

    if (row && reason >= 0 && reason < XF_N_MISSES)
        row->count[reason]++;
}

#endif /* account.h */
