/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Connections.
 *
 * OVS has them; here is what ct() needs to know of each (conn_table.h in flowxlate
 * is the writer's side).  A connection has a slot, and two directions, each with
 * the tuple that its packets come with: index 2 * slot is the original direction,
 * 2 * slot + 1 the reply.  Buckets lead to an index as those of flows lead to a
 * slot, and entries are published and removed in the same order.  Slot 0 is not
 * used.
 *
 * 'change' is odd while 'state' and what follows is written: whoever reads it
 * before and after has read what belongs together.
 *
 * What the program knows better than OVS is in a line that only packets of that
 * direction write; OVS writes there only when a packet has come to it, which is
 * seldom.  A packet that the program does not execute but that may change the
 * state sets 'closing' of both directions, and no packet is executed before OVS
 * has seen that one; OVS clears it.
 *
 * The next process reads 'xf_conns' and 'xf_conn_uses' and writes to 'xf_zones', and
 * may be of another release (old_conns.h in flowxlate): so another layout or meaning
 * needs maps of other names.  What was 0 in all releases before may get a meaning. */
#ifndef XF_ABI_CONN_H
#define XF_ABI_CONN_H 1

#include <linux/types.h>

#include "bpf/abi/assert.h"
#include "bpf/abi/hash.h"
#include "bpf/abi/key.h"

struct xf_conn {
    __u64 addr[4];                   /* As words 5 to 8 of struct xf_key. */
    __u32 ports;                     /* As the upper half of word 3; ICMP: the
                                      * identifier, then the type. */
    __u16 zone;
    __u8 proto;
    __u8 cls;                        /* enum xf_class. */
    __u8 live;                       /* May be found. */
    __u8 wscale;                     /* TCP: scale of this direction's windows. */
    __u16 state;                     /* OVS_CS_F_* that ct() adds; 0: OVS must see
                                      * the packet. */
    __u16 nat_state;                 /* What ct(nat) adds; 0: no translation. */
    __u8 peer_wscale;                /* The same of the other direction. */
    __u8 has_label;                  /* 'label' has a bit. */
    __u32 mark;
    __u32 timeout_ms;                /* After the last packet. */
    __u32 change;
    __u8 l4_state, l4_wscale;        /* For the next process, as in struct
                                      * ovs_offload_ct_dir; it clears 'l4_state' of
                                      * what it has changed or ended. */
    __u16 pad1;
    /* The second cache line, which most connections do not need. */
    __u64 label[2];
    __u64 to_addr[4];                /* After translation. */
    __u32 to_ports;
    __u32 pad2;
    __u64 pad3;
};

struct xf_conn_use {
    __u64 used_ms;                   /* CLOCK_MONOTONIC_COARSE; 0 = never. */
    __u32 seq_end, ack_win, max_win; /* As in struct ovs_offload_ct_dir. */
    __u32 closing;
    __u64 expires_ms;                /* As far as OVS knows, CLOCK_MONOTONIC: of
                                      * both directions. */
    __u64 pad[4];                    /* A cache line. */
};

/* Zones of whose connections not all are here: one bit each. */
#define XF_ZONE_WORDS (65536 / 64)
struct xf_zones {
    __u64 incomplete[XF_ZONE_WORDS];
};

/* Of connections that the kernel has: when openvswitch.ko has got a packet of each
 * (bpf/conn/kernel.h).  A way has a tag of the connection in its upper half, which is
 * never 0, and jiffies in its lower one. */
#define XF_REFRESH_WAYS 4
struct xf_refreshes {
    __u64 way[XF_REFRESH_WAYS];
};

/* What a connection is looked for by. */
struct xf_conn_key {
    __u64 addr[4];
    __u64 id;                        /* 'ports' to 'cls' of struct xf_conn. */
};

/* The hash of a connection's tuple.  'secret' is that of flows: what one table
 * tells of it is not seen from outside either. */
static inline __u64 xf_conn_hash(const struct xf_conn_key *key,
                                 const volatile __u64 *secret)
{
    __u64 sum = xf_hash_word(key->addr[0], secret[0])
                + xf_hash_word(key->id, secret[1]);

    if (key->addr[1] | key->addr[2] | key->addr[3])
        sum += xf_hash_word(key->addr[1], secret[2])
               + xf_hash_word(key->addr[2], secret[3])
               + xf_hash_word(key->addr[3], secret[4]);
    return xf_hash_finish(sum);
}

XF_ASSERT(sizeof(struct xf_refreshes) == 32);
XF_ASSERT(sizeof(struct xf_conn) == 128);
XF_ASSERT(__builtin_offsetof(struct xf_conn, ports) == 32);
XF_ASSERT(__builtin_offsetof(struct xf_conn, live) == 40);
XF_ASSERT(__builtin_offsetof(struct xf_conn, change) == 56);
XF_ASSERT(__builtin_offsetof(struct xf_conn, l4_state) == 60);
XF_ASSERT(__builtin_offsetof(struct xf_conn, label) == 64);
XF_ASSERT(__builtin_offsetof(struct xf_conn, to_addr) == 80);
XF_ASSERT(__builtin_offsetof(struct xf_conn, to_ports) == 112);
XF_ASSERT(sizeof(struct xf_conn_use) == 64);
XF_ASSERT(__builtin_offsetof(struct xf_conn_use, closing) == 20);
XF_ASSERT(__builtin_offsetof(struct xf_conn_use, expires_ms) == 24);

#endif /* conn.h */
