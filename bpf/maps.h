/* SPDX-License-Identifier: GPL-2.0-only */
/* The arrays and constants that programs of all hooks have.
 *
 * User space creates most maps once and lends them to all programs.  'xsks_map',
 * 'xf_next' and 'xf_takeover' are each program's own, which is that of one port or that
 * of several, and so are the maps of a capture where a port is captured.  Their real
 * sizes are set at load time, before the first program is loaded.
 *
 * This is below all else: a parser has settings, and a hook has ports.
 */
#ifndef XF_MAPS_H
#define XF_MAPS_H 1

#include <stdbool.h>

#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "bpf/abi/conn.h"
#include "bpf/abi/counters.h"
#include "bpf/abi/flow.h"
#include "bpf/abi/handover.h"
#include "bpf/abi/packet.h"
#include "bpf/abi/port.h"
#include "bpf/abi/tunnel.h"

#define barrier() asm volatile("" ::: "memory")

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
#include "bpf/abi/maps.def"
#undef XF_MAP

/* Set at load time and constant from then on, so the JIT sees immediates. */
const volatile __u32 xf_in_port = 0;        /* Slot of this port; 0 = the program is
                                             * that of all ports in 'xf_in_ports'. */
const volatile __u32 xf_tx_flag = XF_PORT_TX_NATIVE; /* XF_PORT_TX_* that a
                                             * target of this port needs. */
const volatile __u32 xf_bucket_mask = 0;    /* Number of buckets - 1. */
const volatile __u32 xf_n_slots = 1;        /* Flow slots, slot 0 included. */
const volatile __u32 xf_n_rows = 1;         /* Rows that CPUs have. */
const volatile __u32 xf_slot_mask = 0;      /* Bits of an entry for a slot. */
const volatile __u32 xf_is_trace = 0;       /* Leaves connections alone. */
const volatile __u32 xf_capture_bytes = 0;  /* Copied of each packet; 0 = no
                                             * packet is copied. */
const volatile __u32 xf_conn_bucket_mask = 0; /* xf_bucket_mask of connections; also
                                             * for xf_refreshes. */
const volatile __u32 xf_conn_mask = 0;      /* Their xf_slot_mask. */
const volatile __u32 xf_kernel_datapath = 0; /* OVS has the port in that. */
const volatile __u32 xf_kernel_ct = 0;      /* ct() asks the kernel, as in its own
                                             * datapath. */
const volatile __u32 xf_of_tc = 0;          /* Flows are TC's, which finds fields as the
                                             * kernel's flow dissector does. */
const volatile __u32 xf_tcp_timeout_ms = 0; /* Of nf_conntrack, established. */
const volatile __u32 xf_tc_refresh_ms = 0;  /* After so long TC gets a packet of a
                                             * connection, where flows are TC's. */
const volatile __u32 xf_cache_bits = 1;     /* log2 of the flow cache's sets per
                                             * row. */
const volatile __u64 xf_secret[XF_KEY_WORDS + 1] = {0};
/* What 2^k zero bytes make of a CRC32c: by k, then by its half-bytes. */
const volatile __u32 xf_crc32c_zeros[XF_MAX_FRAME_BITS][8][16] = {0};

/* The slot of the port whose device has this index, if the program is that of several
 * ports; 0 = none. */
static __always_inline __u32
port_of_device(__u32 ifindex)
{
    __u32 set = ifindex & (XF_IN_PORT_SETS - 1);
    const volatile struct xf_in_port_set *ports;

    ports = bpf_map_lookup_elem(&xf_in_ports, &set);
    if (!ports)
        return 0;                    /* Not reached; for the verifier. */
    for (int i = 0; i < XF_IN_PORT_WAYS; i++) {
        __u64 way = ports->ways[i];

        if ((__u32)way == ifindex)
            return way >> XF_IN_PORT_SHIFT & (XF_MAX_PORTS - 1);
    }
    return 0;
}

/* The slot of the port where the packet has entered. */
static __always_inline __u32
in_port(const struct xf_packet *p)
{
    return xf_in_port ? xf_in_port : p->in_port;
}

/* That port. */
static __always_inline struct xf_port *
own_port(const struct xf_packet *p)
{
    __u32 slot = in_port(p);

    return bpf_map_lookup_elem(&xf_ports, &slot);
}

/* What there is of the CPU with this number. */
static __always_inline struct xf_cpu *
find_cpu(__u32 cpu)
{
    return bpf_map_lookup_elem(&xf_cpus, &cpu);
}

/* Is the CPU's row one that there is?  If it is not, some index that is computed of it
 * may be another flow's in another row. */
static __always_inline bool
has_row(const struct xf_cpu *self)
{
    return self->row < xf_n_rows;
}

#endif /* maps.h */
