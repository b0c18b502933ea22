/* SPDX-License-Identifier: GPL-2.0-only */
/* Counting: what a flow has done, and why packets took the miss path.
 *
 * A CPU that has its row to itself adds with plain loads and stores, which nothing on
 * that CPU interrupts; one that shares it adds atomically.  Either is exact.
 */
#ifndef XF_TABLE_ACCOUNT_H
#define XF_TABLE_ACCOUNT_H 1

#include "bpf/maps.h"

static __always_inline void
add(const struct xf_cpu *self, __u64 *counter, __u64 n)
{
    if (self->shares)
        __sync_fetch_and_add(counter, n);
    else
        *counter += n;
}

static __always_inline struct xf_stats *
find_stats(const struct xf_cpu *self, __u32 slot)
{
    __u32 index = self->row * xf_n_slots + slot;

    return bpf_map_lookup_elem(&xf_stats, &index);
}

/* Of two CPUs that store 'used' at once either may be the last one: both are now. */
static __always_inline void
account(const struct xf_cpu *self, struct xf_stats *stats, __u32 bytes,
        __be16 tcp_flags)
{
    __u64 flags = bpf_ntohs(tcp_flags);

    if (self->shares) {
        __sync_fetch_and_add(&stats->packets, 1);
        __sync_fetch_and_add(&stats->bytes, bytes);
    } else {
        stats->packets++;
        stats->bytes += bytes;
    }
    stats->used = bpf_jiffies64();
    if (!(flags & ~stats->tcp_flags))
        return;
    if (self->shares)
        __sync_fetch_and_or(&stats->tcp_flags, flags);
    else
        stats->tcp_flags |= flags;
}

/* The port's counters of what is not a plain hit. */
static __always_inline struct xf_miss_row *
find_misses(const struct xf_cpu *self, __u32 in_port)
{
    __u32 index = self->row * XF_MAX_PORTS + in_port;

    return bpf_map_lookup_elem(&xf_misses, &index);
}

static __always_inline void
count_search(const struct xf_cpu *self, __u32 in_port)
{
    struct xf_miss_row *row = find_misses(self, in_port);

    if (row)
        add(self, &row->searches, 1);
}

static __always_inline void
count_miss(const struct xf_cpu *self, __u32 in_port, int reason)
{
    struct xf_miss_row *row = find_misses(self, in_port);

    if (row && reason >= 0 && reason < XF_N_MISSES)
        add(self, &row->count[reason], 1);
}

#endif /* account.h */
