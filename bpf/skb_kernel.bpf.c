// SPDX-License-Identifier: GPL-2.0-only
/* skb_offload.bpf.c for ports of the kernel datapath, whose ct() asks nf_conntrack.  A program
 * of its own: what it needs to know of the kernel's types, not every kernel tells. */
#define XF_KERNEL_CT 1
#include "bpf/skb_offload.bpf.c"
