/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Megaflows: where a packet finds its own, and what it says.
 *
 * How a packet finds its flow
 * ===========================
 *
 * The program parses a packet into a 'struct xf_key': XF_KEY_WORDS 64-bit words
 * of which most masks need but the first six.  A megaflow is a masked key plus
 * what to do.  Megaflows with the same class, recirculation slot and mask form a
 * subtable (struct xf_subtable), and the subtables of a class and recirculation
 * slot are a list, the walk: a packet never tries those of other stages of the
 * pipeline.  For a subtable the key is masked and hashed; the hash names a
 * bucket, one cache line of XF_BUCKET_ENTRIES 32-bit entries; an entry has a
 * flow slot in its low bits and a signature, more bits of the hash, above them;
 * and the flow slot holds the masked key to compare with.
 *
 * All megaflows live in one bucket array.  An entry whose bucket is full goes
 * to a second bucket, and 'overflow' of the first counts those entries, so a
 * look-up reads a second cache line only where that can help.
 *
 * In front of all that are two predictions, which each CPU keeps for itself, or
 * with those that share its row (maps.def).
 * The flow cache (hash of the unmasked key -> flow slot) leads to the flow
 * without hashing under a mask and without a bucket, so that the cost of a
 * packet grows neither with the number of masks nor, as long as the flows fit
 * the CPU's caches, with that of flows.  The subtable guess (the same hash ->
 * subtable) helps where the flow cache does not.  Neither is ever trusted: only
 * a full comparison with the key of a live flow hits.  So CPUs of one row need not
 * agree on who writes: whole entries are lost or there twice then, and each is one
 * that some CPU has stored.
 *
 * A flow may recirculate: the key, not the packet, is changed as its actions say
 * and looked up again with another 'recirc'.  Only when the last flow of such a
 * chain is found, and all of them can be executed, is the packet changed.  The
 * next flow is predicted, too: it mostly is the one that others had which came by
 * the same flow and of which ct() has said the same, so that any number of
 * connections share one prediction.  Where it is another, the flow cache leads to
 * it, with a hash of the packet as it came and of that way.
 *
 * What a packet touches is kept small and dense, since with many flows every
 * cache line and every page costs: 64 bytes of a flow, 32 of its statistics, 16
 * of the flow cache.
 *
 * Who writes what, and in which order
 * ===================================
 *
 * User space has one writer (it holds a lock); the program on every CPU reads.
 * maps.def says what the program writes too: figures, predictions, what packets do
 * to connections, and its own memory.  All else is written by user space alone, with
 * plain stores into mmap()ed arrays.
 *
 * - To publish a flow: zero its statistics, fill its slot, store the bucket
 *   entry (one 32-bit store) and raise 'used' if need be, make the subtable
 *   known, then set 'live', which lets the flow cache lead to it.  To remove it:
 *   the reverse.  To modify it: fill another slot, then overwrite the bucket
 *   entry, then switch 'live'.
 * - A slot or subtable that was published is written again only after a grace
 *   period, when every CPU has left the program.
 * - Flows that rewrite header fields in the same way share a struct xf_rewrite,
 *   which is filled before the first of them is published, and written again
 *   only a grace period after the last of them is gone.  So do flows that
 *   output to the same ports, with a struct xf_group and its device map.
 * - An entry of 0 is empty, so flow slot 0 is never used; neither is
 *   subtable 0, which as a guess means "none", nor rewrite 0, which means that
 *   no field is rewritten.
 *
 * The program checks every index it reads from a map, whatever it holds: a
 * corrupted entry leads to the miss path.
 */
#ifndef XF_ABI_FLOW_H
#define XF_ABI_FLOW_H 1

#include <linux/types.h>

#include "bpf/abi/assert.h"
#include "bpf/abi/key.h"
#include "bpf/abi/port.h"

#define XF_BUCKET_ENTRIES 15
#define XF_MAX_MASKS 512             /* Subtables, to be exact. */
#define XF_MAX_SUBTABLES (XF_MAX_MASKS + 1) /* Slot 0 is unused. */
#define XF_MAX_RECIRCS 16384         /* Slot 0: not recirculated. */
#define XF_MAX_REWRITES 4096         /* Slot 0 is unused. */
#define XF_MAX_GROUPS 64             /* Slot 0 is unused. */
#define XF_GROUP_PORTS 28            /* One cache line. */
#define XF_MAX_TAGS 2                /* VLAN tags, as in OVS. */
#define XF_MAX_CT_STEPS 3            /* Of one flow. */
#define XF_GUESS_BITS 16             /* Subtable guesses per row, as log2. */
#define XF_WAY_BITS 12               /* Next flows by way, per row, as log2. */

/* A bucket: one cache line.  The low bits of an entry, as many as the highest
 * slot needs ('xf_slot_mask'), are a flow slot, the others its signature. */
struct xf_bucket {
    __u32 entry[XF_BUCKET_ENTRIES];
    __u16 used;                      /* Entries from here on are 0. */
    __u16 overflow;                  /* Entries of this bucket that live in
                                      * their second one. */
};

enum xf_verdict {
    XF_DROP,
    XF_OUTPUT,                       /* To port slot 'to'. */
    XF_GROUP,                        /* To all ports of group 'to'. */
    XF_RECIRC,                       /* Look up again with recirculation slot
                                      * 'to'. */
    XF_HASH_RECIRC,                  /* The same, with a new dp_hash. */
    XF_POP,                          /* Take the outer headers off, and look up
                                      * what is in them as a packet that enters
                                      * through tunnel port 'to'. */
};

/* A VLAN tag as on the wire. */
struct xf_tag {
    __be16 tpid;
    __be16 tci;
};

/* What a megaflow does: takes 'n_pop' of the packet's outermost VLAN tags off,
 * puts 'n_push' others on ('tag', outermost first), sets fields, and then does
 * as 'verdict' says. */
struct xf_action {
    __u8 verdict;                    /* enum xf_verdict. */
    __u8 n_pop : 4;
    __u8 n_push : 4;
    __u16 to;
    __u16 rewrite;                   /* Index into xf_rewrites; 0 = none. */
    struct xf_tag tag[XF_MAX_TAGS];
};

/* Ports that get the same frame (a mirror, a flood).  All of them can take it, or
 * none gets it from XDP. */
struct xf_group {
    __u32 n_ports;
    __u32 keep_ingress;              /* Also to the port where it came from, if
                                      * that is one of them. */
    __u16 port[XF_GROUP_PORTS];      /* Port slots. */
};

/* Bits of struct xf_ct_step's flags.  A commit is executed only if there is the
 * connection and nothing of it would change. */
#define XF_CT_CLEAR 0x1              /* Forgets what ct() has found, before all
                                      * else. */
#define XF_CT_TRACK 0x2              /* Looks for the connection: ct(). */
#define XF_CT_NAT 0x4                /* ct(nat). */
#define XF_CT_COMMIT 0x8             /* ct(commit). */
#define XF_CT_MARK 0x10              /* 'mark' is to be the connection's. */
#define XF_CT_LABEL 0x20             /* So is 'label'. */
#define XF_CT_NEW_NAT 0x40           /* ct(nat(src)) or ct(nat(dst)): how a new
                                      * connection is translated. */
#define XF_CT_TIMEOUT 0x80           /* ct(timeout). */

/* A ct() or ct_clear among the actions of a flow; 'flags' of 0 ends the list. */
struct xf_ct_step {
    __u16 flags;                     /* XF_CT_*. */
    __u16 zone;
    __u32 mark, mark_mask;
    __u32 pad;
    __u64 label[2], label_mask[2];
};

/* What only some flows do.  Header fields are set in the layout of struct
 * xf_key: the bits of 'mask' become those of 'value', which has no others; the
 * fields that count are those which translate/fields.cc (in flowxlate) calls
 * settable. */
struct xf_rewrite {
    __u64 value[XF_SET_WORDS];
    __u64 mask[XF_SET_WORDS];
    __u32 max_len;                   /* Cut off what is longer; 0 = nothing. */
    __u32 hash_basis;                /* For XF_HASH_RECIRC. */
    __u16 n_ct_first;                /* Steps that come before fields are set. */
    __u16 max_in;                    /* Longer packets, as they come to the flow and
                                      * without padding, are OVS's; 0 = none. */
    __u16 sets;                      /* 'mask' has a bit; the flow table fills it
                                      * in. */
    __u16 tunnel;                    /* Index into xf_tunnels: what is put before
                                      * the packet at last; 0 = nothing. */
    struct xf_ct_step ct[XF_MAX_CT_STEPS];
};

/* A megaflow: one cache line. */
#define XF_MAX_SLOT 0x7fffffff       /* An int that is not negative. */
#define XF_FLOW_LIVE 0x8000          /* May be hit by way of the flow cache. */
struct xf_flow {
    __u16 subtable;                  /* Index into xf_subtables; XF_FLOW_LIVE. */
    struct xf_action action;
    __u64 key[XF_SHORT_KEY_WORDS];   /* Masked. */
};

/* The other words of a megaflow's masked key, if its mask has any. */
struct xf_key_rest {
    __u64 word[XF_REST_WORDS];       /* Two cache lines. */
};

static inline __u32 xf_subtable_of(const struct xf_flow *flow)
{
    return flow->subtable & ~XF_FLOW_LIVE;
}

/* A mask.  All flows of a subtable are of one class and one recirculation slot.
 * One that was taken out of its walk still leads to those behind it. */
struct xf_subtable {
    __u64 mask[XF_KEY_WORDS];
    __u32 segments;                  /* XF_SEGMENT_*. */
    __u16 next;                      /* In the walk; 0 = none. */
    __u8 cls;                        /* enum xf_class. */
    __u8 pad0;
    __u64 pad1;
};

/* By enum xf_class: the first subtable that is tried for a packet of this
 * recirculation slot, the one that was made last; 0 = none. */
#define XF_WALK_CLASSES 8
struct xf_walk {
    __u16 first[XF_WALK_CLASSES];
};

/* A set of the flow cache: the four flows that packets with this hash have hit
 * last, from the low half of the first word to the high half of the second.
 * Each is like a bucket's entry, with a signature of the hash of the unmasked
 * key. */
struct xf_cache_set {
    __u64 ways[2];
};
#define XF_CACHE_WAY_BITS 32

/* Predictions of a row, 0 = none: the subtable that a packet with this hash hit
 * last, and the flow that those hit last which came the same way, that is, by
 * the same flow and with the same answer of ct(). */
struct xf_guesses {
    __u16 subtable[1 << XF_GUESS_BITS];
    __u32 next_flow[1 << XF_WAY_BITS];
};

XF_ASSERT(sizeof(struct xf_bucket) == 64);
XF_ASSERT(__builtin_offsetof(struct xf_bucket, used) == 60);
XF_ASSERT(sizeof(struct xf_flow) == 64);
XF_ASSERT(sizeof(struct xf_key_rest) == 128);
XF_ASSERT(sizeof(struct xf_action) == 14);
XF_ASSERT(sizeof(struct xf_group) == 64);
XF_ASSERT(sizeof(struct xf_ct_step) == 48);
XF_ASSERT(sizeof(struct xf_rewrite)
          == 16 * XF_SET_WORDS + 16 + 48 * XF_MAX_CT_STEPS);
XF_ASSERT(XF_MAX_REWRITES <= 0x10000); /* struct xf_action's is 16 bits. */
XF_ASSERT(XF_MAX_PORTS <= 0x10000);  /* So is a port slot there. */
XF_ASSERT(__builtin_offsetof(struct xf_flow, action) == 2);
XF_ASSERT(__builtin_offsetof(struct xf_flow, key) == 16);
XF_ASSERT(XF_MAX_SUBTABLES <= XF_FLOW_LIVE); /* Its number is below that bit. */
XF_ASSERT(XF_MAX_RECIRCS <= 0x10000); /* A recirculation slot is 16 bits. */
XF_ASSERT(XF_N_CLASSES <= XF_WALK_CLASSES);
XF_ASSERT(sizeof(struct xf_subtable) == 192);
XF_ASSERT(__builtin_offsetof(struct xf_subtable, next) == 180);
XF_ASSERT(sizeof(struct xf_walk) == 16);
XF_ASSERT(sizeof(struct xf_cache_set) == 16);

#endif /* flow.h */
