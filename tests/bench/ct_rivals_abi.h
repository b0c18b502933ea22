/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What the rivals that do ct() and ct_rivals.cc agree on. */
#ifndef TESTS_BENCH_CT_RIVALS_ABI_H
#define TESTS_BENCH_CT_RIVALS_ABI_H 1

#include "tests/bench/rivals_abi.h"

#define CT_RIVAL_STAGES 8 /* A power of 2. */

/* A megaflow. */
struct ct_rival_flow {
    __u32 recirc; /* Goes on there; 0: to 'out_port'. */
    __u32 out_port;
    __u16 ct_flags; /* As in struct xf_ct_step. */
    __u16 zone;
    __u32 pad;
    struct rival_stats stats[]; /* As many as there are CPUs. */
};

/* What a connection is looked for by. */
struct ct_rival_tuple {
    __be32 src, dst;
    __be16 sport, dport;
    __u16 zone;
    __u8 proto;
    __u8 pad;
};

/* One direction of a connection. */
struct ct_rival_conn {
    __u64 used_ns;
    __u64 timeout_ns; /* After the last packet. */
    __u16 state;      /* OVS_CS_F_*. */
    __u16 nat_state;
    __u32 mark;
    __be32 to_src, to_dst; /* After translation. */
    __be16 to_sport, to_dport;
};

#endif /* ct_rivals_abi.h */
