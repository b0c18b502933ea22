/* SPDX-License-Identifier: GPL-2.0-only */
/* What an action makes of the length of a frame. */
#ifndef XF_ACT_GROWTH_H
#define XF_ACT_GROWTH_H 1

#include "bpf/abi/flow.h"
#include "bpf/packet/headers.h"

/* By how much the frame becomes longer at its beginning, in bytes. */
static __always_inline int
growth(const struct xf_action *act)
{
    return ((int)act->n_push - (int)act->n_pop) * XF_TAG_LEN;
}

#endif /* growth.h */
