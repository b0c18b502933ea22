/* SPDX-License-Identifier: GPL-2.0-only */
/* While a process takes over from another: its programs see some of what the old ones
 * execute, and have OVS make flows for that (handover.h in flowxlate). */
#ifndef XF_RUN_HANDOVER_H
#define XF_RUN_HANDOVER_H 1

#include "bpf/abi/handover.h"
#include "bpf/hook/hook.h"
#include "bpf/maps.h"
#include "bpf/run/resolve.h"
#include "bpf/table/lookup.h"

/* The programs of the next process, on this port, while this one's flows go on
 * being executed (handover.h in flowxlate): by XF_NEXT_*.  The name, the indexes
 * and what the kernel asks of programs that call each other are all that
 * generations of the program must agree on.  The kernel empties it when the
 * process that has filled it ends. */
struct {
    __uint(type, BPF_MAP_TYPE_PROG_ARRAY);
    __uint(max_entries, XF_N_NEXT);
    __uint(key_size, sizeof(__u32));
    __uint(value_size, sizeof(__u32));
} xf_next SEC(".maps");

/* The 'xf_next' of the program that this one takes over from. */
struct {
    __uint(type, BPF_MAP_TYPE_PROG_ARRAY);
    __uint(max_entries, XF_N_NEXT);
    __uint(key_size, sizeof(__u32));
    __uint(value_size, sizeof(__u32));
} xf_takeover SEC(".maps");

/* Of struct xf_copy. */
struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 4096);
} xf_copies SEC(".maps");

/* Has user space make a flow for the packet, which goes another way. */
static __always_inline void
copy_packet(xf_ctx *ctx, const struct xf_packet *p)
{
    __u32 len = p->frame_len < XF_COPY_BYTES ? p->frame_len : XF_COPY_BYTES;
    struct xf_copy *copy;

    /* Both bounds of 'len' itself, each by a comparison of its own, or Linux 6.1
     * does not see them: "invalid access to memory, mem_size=264 off=8 size=0". */
    barrier_var(len);
    if (len < XF_HOOK_MIN_FRAME)
        return;
    barrier_var(len);
    if (len > XF_COPY_BYTES)
        return;
    copy = bpf_ringbuf_reserve(&xf_copies, sizeof *copy, 0);
    if (!copy)
        return;
    copy->hash = cache_hash(p);
    copy->in_port = in_port(p);
    copy->frame_len = p->frame_len;
    if (!load_frame(ctx, copy->data, len))
        bpf_ringbuf_submit(copy, 0);
    else
        bpf_ringbuf_discard(copy, 0);
}

/* Is there a flow for all that the packet recirculates to from the flow in 'slot'?
 * Then they count it, as they would if OVS had it. */
static __always_inline bool
is_known_behind(xf_ctx *ctx, struct xf_scratch *scratch,
                const struct xf_cpu *self, __u32 slot)
{
    struct xf_packet *p = &scratch->packet;
    struct xf_plan *plan = &scratch->plan;

    begin_plan(plan, p);
    if (resolve(ctx, p, plan, self, slot) != XF_PARSED)
        return false;
    account_stages(plan, p, self);
    return true;
}

/* Is there a flow for the packet, and for all that follows, at this hook? */
typedef bool xf_knows(xf_ctx *ctx, struct xf_scratch *scratch,
                      const struct xf_cpu *self);

/* A sample of an earlier process's program: has OVS make flows for one that has none, and
 * gives it back.  Until this process has taken over it goes where the earlier one's
 * flows say, since OVS may not have all of its rules yet.  Returns if there is nobody
 * to give it back to. */
static __always_inline void
take_sample(xf_ctx *ctx, xf_knows *is_known)
{
    __u32 cpu = bpf_get_smp_processor_id();
    struct xf_cpu *self = find_cpu(cpu);
    struct xf_scratch *scratch = bpf_map_lookup_elem(&xf_scratches, &cpu);
    bool known;

    if (self && scratch && has_row(self)) {
        self->seq++;
        barrier();
        known = is_known(ctx, scratch, self);
        barrier();
        self->seq++;
        if (!known)
            copy_packet(ctx, &scratch->packet);
    }
    bpf_tail_call(ctx, &xf_takeover, XF_NEXT_OLD);
}

#endif /* handover.h */
