/* SPDX-License-Identifier: GPL-2.0-only */
/* The program's maps and constants.
 *
 * All maps but 'xsks_map', 'xf_next' and 'xf_takeover' are shared by the programs
 * of all ports, and those of a capture by these that are not captured: user space
 * creates them once and lends them to each program it loads.  Their real sizes are set at load time, before the first program is
 * loaded.
 */
#ifndef XF_MAPS_H
#define XF_MAPS_H 1

#include <stdbool.h>

#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "xdp_flow_abi.h"

/* The arrays, whose rows say what each is. */
#define XF_FLAGS_MAPPED BPF_F_MMAPABLE
#define XF_FLAGS_INNER 0
#define XF_MAP(NAME, VALUE, ENTRIES, WRITER, SCOPE, ACCESS)                   \
    struct {                                                                  \
        __uint(type, BPF_MAP_TYPE_ARRAY);                                     \
        __uint(map_flags, XF_FLAGS_##ACCESS);                                 \
        __uint(max_entries, 1);                                               \
        __type(key, __u32);                                                   \
        __type(value, VALUE);                                                 \
    } NAME SEC(".maps");
#include "maps.def"
#undef XF_MAP

/* Devices by port slot. */
struct {
    __uint(type, BPF_MAP_TYPE_DEVMAP);
    __uint(max_entries, XF_MAX_PORTS);
    __uint(key_size, sizeof(__u32));
    __uint(value_size, sizeof(__u32));
} xf_tx_ports SEC(".maps");

/* By group: its devices, in the order of its ports. */
struct xf_group_devs {
    __uint(type, BPF_MAP_TYPE_DEVMAP);
    __uint(max_entries, XF_GROUP_PORTS);
    __uint(key_size, sizeof(__u32));
    __uint(value_size, sizeof(__u32));
};
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
    __uint(max_entries, XF_MAX_GROUPS);
    __type(key, __u32);
    __array(values, struct xf_group_devs);
} xf_group_tx SEC(".maps");

/* AF_XDP sockets of this port by queue.  The name and the sizes are what
 * libxdp's xsk.c looks for. */
struct {
    __uint(type, BPF_MAP_TYPE_XSKMAP);
    __uint(max_entries, 64);
    __uint(key_size, sizeof(__u32));
    __uint(value_size, sizeof(__u32));
} xsks_map SEC(".maps");

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

/* Of struct xf_captured, and what is needed to make them (capture.h).  A program
 * that copies nothing has them too, and they are tiny then. */
struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 4096);
} xf_captured SEC(".maps");
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __uint(key_size, sizeof(__u32));
    __uint(value_size, sizeof(struct xf_capturing));
} xf_capturing SEC(".maps");         /* By CPU. */
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct xf_lease);
} xf_lease SEC(".maps");
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct xf_ufid);
} xf_ufids SEC(".maps");             /* By flow slot. */

/* Set at load time and constant from then on, so the JIT sees immediates. */
const volatile __u32 xf_in_port = 0;        /* Slot of this port. */
const volatile __u32 xf_tx_flag = XF_PORT_TX_NATIVE; /* XF_PORT_TX_* that a
                                             * target of this port needs. */
const volatile __u32 xf_bucket_mask = 0;    /* Number of buckets - 1. */
const volatile __u32 xf_n_slots = 1;        /* Flow slots, slot 0 included. */
const volatile __u32 xf_slot_mask = 0;      /* Bits of an entry for a slot. */
const volatile __u32 xf_is_trace = 0;       /* Leaves connections alone. */
const volatile __u32 xf_capture_bytes = 0; /* That are copied of each packet;
                                             * 0 = none is. */
const volatile __u32 xf_conn_bucket_mask = 0; /* The same for connections. */
const volatile __u32 xf_conn_mask = 0;
const volatile __u32 xf_cache_bits = 1;     /* log2 of its sets per CPU. */
const volatile __u64 xf_secret[XF_KEY_WORDS + 1] = {0};
/* What 2^k zero bytes make of a CRC32c: by k, then by its half-bytes. */
const volatile __u32 xf_crc32c_zeros[XF_MAX_FRAME_BITS][8][16] = {0};

/* The port that this program is of. */
static __always_inline struct xf_port *
own_port(void)
{
    __u32 slot = xf_in_port;

    return bpf_map_lookup_elem(&xf_ports, &slot);
}

#endif /* maps.h */
