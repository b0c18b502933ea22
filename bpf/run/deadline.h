/* SPDX-License-Identifier: GPL-2.0-only */
/* Until when flows are executed. */
#ifndef XF_RUN_DEADLINE_H
#define XF_RUN_DEADLINE_H 1

#include "bpf/abi/handover.h"
#include "bpf/maps.h"

/* Has user space been gone for so long that its flows mean nothing any more? */
static __always_inline bool
is_orphaned(const struct xf_cpu *self)
{
    const volatile __u64 *deadline = &self->deadline;
    __u64 until = *deadline;

    return until && (__s64)(bpf_jiffies64() - until) > 0;
}

#endif /* deadline.h */
