/* SPDX-License-Identifier: GPL-2.0-only */
/* TCP's window and flags, as OVS's lib/conntrack-tcp.c judges them. */
#ifndef XF_CONN_TCP_H
#define XF_CONN_TCP_H 1

#include "bpf/maps.h"
#include "bpf/packet/parse.h"

/* How far acknowledgements may be behind or ahead (MAXACKWINDOW in OVS's
 * lib/conntrack-tcp.c): a full window and a bit. */
#define XF_MAX_ACK_SKEW (0xffff + 1500)

/* Sequence numbers that are so far from TCP's window are out of it, whatever
 * other CPUs are about to note. */
#define XF_FAR_OUT (1 << 20)

#define XF_TCP_FIN 0x01
#define XF_TCP_SYN 0x02
#define XF_TCP_RST 0x04
#define XF_TCP_PSH 0x08
#define XF_TCP_ACK 0x10
#define XF_TCP_URG 0x20

/* Is the segment in the window, as tcp_conn_update() has it?  'again': it has
 * been judged once and has moved the window since. */
static __always_inline bool
is_in_window(const struct xf_segment *s, const struct xf_conn_use *self,
             const struct xf_conn_use *other, __u32 self_scale,
             __u32 other_scale, bool again)
{
    bool is_empty = s->seq == s->end;
    __u32 begin = is_empty ? self->seq_end : s->seq;
    __u32 end = is_empty ? self->seq_end : s->end;
    __u32 highest = again && (__s32)(end - self->seq_end) > 0
                    ? end : self->seq_end;
    __s32 skew = other->seq_end - s->ack;

    return (__s32)(other->ack_win - end) >= 0
           && (__s32)(begin - (highest
                               - (other->max_win << (other_scale & 0xf)))) >= 0
           && skew >= -XF_MAX_ACK_SKEW
           && skew <= XF_MAX_ACK_SKEW << (self_scale & 0xf);
}

/* Is a segment that may change the state, if it is valid, so far out of the
 * window that OVS will not find it valid?  Then nothing need wait for it, or
 * whoever knows the tuple could keep the connection out of XDP, by RSTs with
 * forged numbers. */
static __always_inline bool
is_far_out(const struct xf_segment *s, __u16 flags,
           const struct xf_conn_use *self, const struct xf_conn_use *other,
           __u32 other_scale)
{
    __u32 end = s->end + !!(flags & XF_TCP_SYN) + !!(flags & XF_TCP_FIN);
    __s32 off = s->seq - self->seq_end;
    __s32 behind = -off - (other->max_win << (other_scale & 0xf));
    __s32 ahead = end - other->ack_win;

    if (flags & XF_TCP_RST)          /* It has to be exact. */
        return off > XF_FAR_OUT || off < -XF_FAR_OUT;
    return ahead > XF_FAR_OUT || behind > XF_FAR_OUT;
}

/* Flags that OVS finds invalid whatever the numbers and the state are
 * (tcp_invalid_flags()), so nothing need wait for such a segment. */
static __always_inline bool
has_invalid_flags(__u16 flags)
{
    if (flags & XF_TCP_SYN ? flags & (XF_TCP_RST | XF_TCP_FIN)
                           : !(flags & (XF_TCP_ACK | XF_TCP_RST)))
        return true;
    return !(flags & XF_TCP_ACK)
           && flags & (XF_TCP_FIN | XF_TCP_PSH | XF_TCP_URG);
}

#endif /* tcp.h */
