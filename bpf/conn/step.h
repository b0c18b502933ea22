/* SPDX-License-Identifier: GPL-2.0-only */
/* What a ct() asks of a connection, whoever has that. */
#ifndef XF_CONN_STEP_H
#define XF_CONN_STEP_H 1

#include <linux/openvswitch.h>

#include "bpf/maps.h"

#define XF_CS_NAT (OVS_CS_F_SRC_NAT | OVS_CS_F_DST_NAT)

/* Does the connection have the mark and label that the step would give it? */
static __always_inline bool
changes_nothing(const struct xf_ct_step *ct, __u32 mark, __u64 label0,
                __u64 label1)
{
    return (!(ct->flags & XF_CT_MARK)
            || ((mark ^ ct->mark) & ct->mark_mask) == 0)
           && (!(ct->flags & XF_CT_LABEL)
               || (((label0 ^ ct->label[0]) & ct->label_mask[0])
                   | ((label1 ^ ct->label[1]) & ct->label_mask[1])) == 0);
}

#endif /* step.h */
