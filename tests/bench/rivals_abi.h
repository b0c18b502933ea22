/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What rivals.bpf.c and rivals.cc agree on. */
#ifndef TESTS_BENCH_RIVALS_ABI_H
#define TESTS_BENCH_RIVALS_ABI_H 1

#include "bpf/abi/flow.h"
#include "bpf/abi/port.h"

#define RIVAL_MAX_MASKS 128
#define RIVAL_SEQUENCE 131072         /* Packets; a power of 2. */
#define RIVAL_HEADER_WORDS 7          /* Ethernet, IPv4 and TCP, in 8 bytes. */
#define RIVAL_FLOW_ADDRESS 0x0a010000 /* nw_src of flow 0: 10.1.0.0. */

struct rival_stats {
    __u64 packets;
    __u64 bytes;
    __u64 used_ns;
};

/* The value of the hash maps. */
struct rival_flow {
    __u32 out_port;
    __u32 pad;
    struct rival_stats stats[]; /* As many as there are CPUs. */
};

#endif /* rivals_abi.h */
