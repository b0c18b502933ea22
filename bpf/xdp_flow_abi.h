/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What the XDP program and user space agree on: the layout of every map.
 *
 * This and maps.def are all that both worlds include.  It compiles as C, C++ and
 * BPF C, and the assertions at its end hold the layouts in place.  The program
 * is embedded in the library, and a process reads no maps of an earlier one but
 * xf_cpus, and its connections, and these only if their entries are as long as
 * ours: otherwise the two sides always are of one version.
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
 * In front of all that are two predictions, which each CPU keeps for itself.
 * The flow cache (hash of the unmasked key -> flow slot) leads to the flow
 * without hashing under a mask and without a bucket, so that the cost of a
 * packet grows neither with the number of masks nor, as long as the flows fit
 * the CPU's caches, with that of flows.  The subtable guess (the same hash ->
 * subtable) helps where the flow cache does not.  Neither is ever trusted: only
 * a full comparison with the key of a live flow hits.
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
 * All but 'xf_stats', 'xf_cpu', 'xf_miss' and the flow cache is written by user
 * space alone, with plain stores into mmap()ed arrays.
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
#ifndef XDP_FLOW_ABI_H
#define XDP_FLOW_ABI_H 1

#include <linux/types.h>

/* Words of a key.  The first ones, which every mask has, share a cache line with
 * the rest of the flow.  The others are in segments, each with the words that go
 * together; a subtable says which of them its mask has (XF_SEGMENT_*). */
#define XF_SHORT_KEY_WORDS 6
#define XF_KEY_WORDS 22
#define XF_REST_WORDS (XF_KEY_WORDS - XF_SHORT_KEY_WORDS)
#define XF_SET_WORDS 16              /* Those that set actions can change. */

/* By segment: its bit and its first word; it ends where the next one begins. */
#define XF_SEGMENT_ADDRESSES 0x1     /* Of more than 32 bits. */
#define XF_SEGMENT_ND 0x2            /* Neighbour Discovery. */
#define XF_SEGMENT_INNER 0x4         /* Second tag, IPv6 label. */
#define XF_SEGMENT_LABEL 0x8         /* Of a connection. */
#define XF_SEGMENT_TUNNEL 0x10       /* That the packet came out of. */
#define XF_ADDRESSES_WORD 6
#define XF_ND_WORD 9
#define XF_INNER_WORD 13
#define XF_LABEL_WORD 14
#define XF_TUNNEL_WORD 16
#define XF_TUNNEL_ID_WORD 20         /* Also of the outer TOS, TTL and flags. */
#define XF_BUCKET_ENTRIES 15
#define XF_MAX_MASKS 512             /* Subtables, to be exact. */
#define XF_MAX_SUBTABLES (XF_MAX_MASKS + 1) /* Slot 0 is unused. */
#define XF_MAX_PORTS 1024            /* Port slots; slot 0 is unused. */
#define XF_MAX_RECIRCS 16384         /* Slot 0: not recirculated. */
#define XF_MAX_REWRITES 4096         /* Slot 0 is unused. */
#define XF_MAX_GROUPS 64             /* Slot 0 is unused. */
#define XF_MAX_TUNNELS 4096          /* Headers to push; slot 0 is unused. */
#define XF_TUNNEL_HEADER 128         /* The longest of them, in bytes. */
#define XF_GROUP_PORTS 28            /* One cache line. */
#define XF_MAX_TAGS 2                /* VLAN tags, as in OVS. */
#define XF_MAX_CT_STEPS 3            /* Of one flow. */
#define XF_MAX_CTS 8                 /* Connections that one packet may use. */
#define XF_MAX_STAGES 8              /* Flows that one packet may pass. */
#define XF_GUESS_BITS 16             /* Subtable guesses per CPU, as log2. */
#define XF_WAY_BITS 12               /* The same of ways to a next flow. */
#define XF_MAX_FRAME_BITS 12
#define XF_MAX_FRAME (1 << XF_MAX_FRAME_BITS) /* Longest frame whose checksum
                                      * can be completed: a page bounds what a driver
                                      * shows to a program without "frags"
                                      * support. */

/* Packet classes: which fields of the key mean something.  The Ethernet type
 * decides, and every megaflow matches it exactly, so a packet can only hit
 * flows of its own class: fields that it does not have are never compared. */
enum xf_class {
    XF_CLASS_L2,                     /* Any other Ethernet II frame. */
    XF_CLASS_ARP,                    /* ARP over Ethernet and IPv4. */
    XF_CLASS_IPV4,
    XF_CLASS_IPV6,
    XF_CLASS_MPLS,
    XF_N_CLASSES
};

/* Values of struct xf_key's nw_frag (those of enum ovs_frag_type).  Later
 * fragments have no transport header. */
#define XF_FRAG_NONE 0
#define XF_FRAG_FIRST 1
#define XF_FRAG_LATER 2

/* Bits of struct xf_key's 'tpids': the tag's TPID is 0x88a8 rather than 0x8100. */
#define XF_TPID_OUTER_AD 0x1
#define XF_TPID_INNER_AD 0x2

/* Values of struct xf_key's 'tun_family', and bits of its 'tun_flags'. */
#define XF_TUNNEL_IPV4 4
#define XF_TUNNEL_IPV6 6
#define XF_TUNNEL_CSUM 0x1           /* The UDP header had a checksum. */
#define XF_TUNNEL_OAM 0x2            /* Geneve's "control packet". */

/* Values of struct xf_port's 'tunnel': what a tunnel port takes off. */
#define XF_TUNNEL_NONE 0
#define XF_TUNNEL_GENEVE 1           /* RFC 8926. */
#define XF_TUNNEL_VXLAN 2            /* RFC 7348. */

/* A packet's header fields, in network byte order except in_port, recirc and
 * dp_hash.  Bytes that the class or the protocol does not have are zero.
 *
 * As in OVS, the transport ports of an ICMP or ICMPv6 packet are its type and
 * code, nw_proto of an ARP packet is the low byte of its opcode, and that of a
 * later IPv6 fragment is 44. */
struct xf_key {
    union {
        struct {
            /* Word 0. */
            __u16 in_port;           /* Port slot. */
            __u16 recirc;            /* Recirculation slot; 0 = none yet. */
            __be16 eth_type;         /* Behind the VLAN tags, if any. */
            __be16 vlan_tci;         /* With XF_VLAN_PRESENT; 0 = untagged. */
            /* Word 1. */
            __u8 eth_dst[6];
            __be16 tcp_flags;        /* 12 bits: the reserved bits and flags. */
            /* Word 2. */
            __u8 eth_src[6];
            __u8 nw_frag;            /* XF_FRAG_*. */
            __u8 dp_hash;            /* The low bits of OVS's. */
            /* Word 3. */
            __u8 nw_proto;
            __u8 nw_tos;             /* IPv6: traffic class. */
            __u8 nw_ttl;             /* IPv6: hop limit. */
            __u8 tpids;              /* XF_TPID_*. */
            __be16 tp_src;
            __be16 tp_dst;
            /* Word 4: of the connection that ct() has found, in host order;
             * zero before. */
            __u16 ct_state;          /* OVS_CS_F_*, <linux/openvswitch.h>. */
            __u16 ct_zone;
            __u32 ct_mark;
            /* Words 5 to 8. */
            union {
                struct {
                    __be32 ipv4_src; /* ARP: sender protocol address. */
                    __be32 ipv4_dst; /* ARP: target protocol address. */
                    __u8 arp_sha[6];
                    __u8 pad1[2];
                    __u8 arp_tha[6];
                    __u8 pad2[2];
                    __u8 pad3[8];
                };
                struct {
                    __u8 ipv6_src[16];
                    __u8 ipv6_dst[16];
                };
                __be32 mpls_lse;     /* The outermost label stack entry. */
            };
            /* Words 9 to 12: ICMPv6 neighbour solicitation and
             * advertisement.  An option that is absent is zero, as in OVS. */
            __u8 nd_target[16];
            __u8 nd_sll[6];
            __u8 pad4[2];
            __u8 nd_tll[6];
            __u8 pad5[2];
            /* Word 13. */
            __be16 vlan2_tci;        /* Of the second tag, like vlan_tci. */
            __u8 pad0[2];
            __be32 ipv6_label;       /* 20 bits. */
            /* Words 14 and 15: as word 4. */
            __u8 ct_label[16];       /* As in OVS_KEY_ATTR_CT_LABELS. */
            /* Words 16 to 21: of the tunnel that the packet came out of; zero if
             * of none.  Words 16 to 19 are the outer addresses. */
            union {
                struct {
                    __be32 tun_ipv4_src;
                    __be32 tun_ipv4_dst;
                    __u8 pad6[24];
                };
                struct {
                    __u8 tun_ipv6_src[16];
                    __u8 tun_ipv6_dst[16];
                };
            };
            __be32 tun_id;           /* The network identifier: 24 bits. */
            __u8 tun_tos;
            __u8 tun_ttl;
            __u8 tun_flags;          /* XF_TUNNEL_CSUM... */
            __u8 tun_family;         /* XF_TUNNEL_IPV4...; 0 = no tunnel. */
            __u8 tun_option[8];      /* The Geneve option, whole; zero if there is
                                      * none.  RFC 8926 section 3.5. */
        };
        __u64 word[XF_KEY_WORDS];
    };
};

/* OVS sets the former CFI bit of a TCI to say "there is a tag". */
#define XF_VLAN_PRESENT 0x1000

/* The segment of a word of the key; 0 for those that every mask has. */
static inline __u32 xf_segment_of(__u32 word)
{
    return word < XF_ADDRESSES_WORD ? 0
           : word < XF_ND_WORD      ? XF_SEGMENT_ADDRESSES
           : word < XF_INNER_WORD   ? XF_SEGMENT_ND
           : word < XF_LABEL_WORD   ? XF_SEGMENT_INNER
           : word < XF_TUNNEL_WORD  ? XF_SEGMENT_LABEL
                                    : XF_SEGMENT_TUNNEL;
}

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

/* Bits of struct xf_ct_step's flags. */
#define XF_CT_CLEAR 0x1              /* First forgets what ct() has found... */
#define XF_CT_TRACK 0x2              /* ...then looks for the connection: ct(). */
#define XF_CT_NAT 0x4                /* ct(nat). */
#define XF_CT_COMMIT 0x8             /* Only for one that there is already... */
#define XF_CT_MARK 0x10              /* ...and that has this mark... */
#define XF_CT_LABEL 0x20             /* ...and this label: nothing changes. */

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

/* Outer headers that are put before a packet: Ethernet, with a VLAN tag or without,
 * IPv4 or IPv6, UDP, and Geneve or VXLAN.  Lengths, the UDP source port and its
 * checksum are zero; IPv4's checksum is that of the header as it is here. */
struct xf_tunnel {
    __u8 header[XF_TUNNEL_HEADER];
    __u16 len;                       /* Of 'header', in bytes; 0 = not in use. */
    __u16 l3_off, l4_off;            /* Where IP and UDP begin. */
    __u8 is_ipv6;
    __u8 has_checksum;               /* The UDP checksum is computed. */
    __u32 sum;                       /* Of the pseudo-header without the length,
                                      * folded. */
    __u16 port_min, n_ports;         /* UDP source ports, host order. */
    __u64 pad[6];                    /* Three cache lines in all. */
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

/* Bits of struct xf_settings's ct. */
#define XF_CT_OPEN 0x1               /* Connections are those that OVS has. */
#define XF_CT_WINDOWS 0x2            /* Out of TCP's window is invalid. */
#define XF_CT_EXPECTS 0x4            /* What is of no connection may be related to
                                      * one. */

/* Settings of all ports. */
struct xf_settings {
    __u32 max_tags;                  /* VLAN tags that are looked behind: OVS's
                                      * vlan-limit, 1 or 2. */
    __u32 ct;                        /* XF_CT_OPEN... */
};

/* Connections
 * ===========
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
 * direction write; OVS writes there what it changes as seldom as a packet comes
 * to it.  A packet that it does not execute but that may change the
 * state sets 'closing' of both directions, and no packet is executed before OVS
 * has seen that one; OVS clears it.
 *
 * The next process reads this, 'xf_conns' and 'xf_conn_uses', and writes to
 * 'xf_zones', and so an earlier release's (old_conns.h in flowxlate): another layout
 * or meaning needs maps of other names.  What was 0 in all releases before may get a
 * meaning. */
struct xf_conn {
    __u64 addr[4];                   /* As words 5 to 8 of struct xf_key. */
    __u32 ports;                     /* As the upper half of word 3; ICMP: the
                                      * identifier, then the type. */
    __u16 zone;
    __u8 proto;
    __u8 cls;                        /* enum xf_class. */
    __u8 live;                       /* May be found. */
    __u8 wscale;                     /* TCP: of this direction's windows... */
    __u16 state;                     /* OVS_CS_F_* that ct() adds; 0: OVS must see
                                      * the packet. */
    __u16 nat_state;                 /* What ct(nat) adds; 0: no translation. */
    __u8 peer_wscale;                /* ...and of the other's. */
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

/* Counters of one flow on one CPU. */
struct xf_stats {
    __u64 packets;
    __u64 bytes;
    __u64 used;                      /* The kernel's jiffies; 0 = never. */
    __u64 tcp_flags;                 /* Host order. */
};

/* One moment on both clocks, what bpf/clock.bpf.c tells. */
struct xf_time {
    __u64 jiffies;
    __u64 monotonic_ns;              /* CLOCK_MONOTONIC. */
};

/* Bits of struct xf_port's flags. */
#define XF_PORT_TX_NATIVE 0x1        /* Takes frames from native XDP now. */
#define XF_PORT_TX_GENERIC 0x2       /* Takes packets from generic XDP now. */

/* A port as the program sees it, when a flow outputs to it. */
struct xf_port {
    __u32 flags;                     /* XF_PORT_*; 0 = cannot transmit. */
    __u32 max_frame;                 /* Longest untagged frame, in bytes. */
    __u32 max_partial;               /* If packets enter here: the longest TCP or
                                      * UDP header and payload with a partial
                                      * checksum that is completed; 0 = any. */
    __u32 tunnel;                    /* XF_TUNNEL_GENEVE...; others have devices. */
    __u32 is_no_nic;                 /* Who sends here may leave any checksum to the
                                      * device. */
    __u32 pad32;
    char name[16];                   /* For who reads a capture; ends with 0. */
    __u64 pad[3];
};

/* What XDP on a tap cannot tell from a whole packet is a short one of several
 * segments, which the kernel splits, and whose checksums it makes, later.  None
 * is as short as the segments of the smallest path MTU that Linux takes (552,
 * net.ipv4.route.min_pmtu) with a TCP header. */
#define XF_TAP_MAX_PARTIAL (512 + 20)

/* While a program hands over to that of the next process, about one packet in
 * so many that its flows match goes there, on each CPU. */
#define XF_SAMPLE_EVERY 16

/* The programs that are called with a packet while a process takes over from
 * another: indexes of 'xf_next' (maps.h), which generations of the program must
 * agree on.  The kernel empties a program array in this order. */
#define XF_NEXT_SAMPLE 0             /* Sees some of what old flows match, */
#define XF_NEXT_MISS 1               /* gets what none does, */
                                     /* (2: was used by an earlier release) */
#define XF_NEXT_OLD 3                /* gets the samples back. */
#define XF_N_NEXT 4

/* Is it the packet that the CPU's 'seq' says, which is another for each that is
 * in the program?  Spread as by chance (with the finalizer of MurmurHash3), so
 * that senders who take turns are all met. */
static inline int xf_is_sampled(__u64 seq)
{
    __u32 x = (__u32)seq;

    x = (x ^ x >> 16) * 0x85ebca6b;
    x = (x ^ x >> 13) * 0xc2b2ae35;
    return (x ^ x >> 16) < (1ULL << 32) / XF_SAMPLE_EVERY;
}

/* Per-CPU state of the program. */
struct xf_cpu {
    __u64 seq;                       /* Incremented when the program begins
                                      * and when it ends: odd = in progress. */
    __u64 deadline;                  /* In jiffies; from then on no flow is
                                      * executed.  User space moves it on while
                                      * it lives; 0 = none. */
    __u64 alive_ns;                  /* When it last did: CLOCK_MONOTONIC. */
    __u64 pad[5];
};

/* Per-CPU predictions, 0 = none: the subtable that a packet with this hash hit
 * last, and the flow that those hit last which came the same way, that is, by
 * the same flow and with the same answer of ct(). */
struct xf_guesses {
    __u16 subtable[1 << XF_GUESS_BITS];
    __u32 next_flow[1 << XF_WAY_BITS];
};

/* Why a packet took the miss path.  In this order, because the names in
 * XF_MISS_NAMES follow it. */
enum xf_miss {
    XF_MISS_NO_FLOW,                 /* Parsed, but no megaflow matches. */
    XF_MISS_TRUNCATED,               /* Shorter than its headers say. */
    XF_MISS_ETHERTYPE,               /* 802.3 length field. */
    XF_MISS_ARP,                     /* ARP, but not Ethernet and IPv4. */
    XF_MISS_IP_HEADER,               /* Bad version, length or padding. */
    XF_MISS_IP_OPTIONS,              /* IPv4 options or IPv6 extensions. */
    XF_MISS_ND_OPTIONS,              /* Other than one link-layer address. */
    XF_MISS_RECIRC,                  /* Recirculated, and then no megaflow
                                      * matches, or too often. */
    XF_MISS_TX_PORT,                 /* The output port cannot take it now. */
    XF_MISS_TX_LENGTH,               /* Too long for the output port. */
    XF_MISS_TX_CHECKSUM,             /* Checksum that cannot be completed. */
    XF_MISS_HEADROOM,                /* No room to push a VLAN tag. */
    XF_MISS_FRAME_SIZE,              /* Partial checksum, and longer than
                                      * XF_MAX_FRAME. */
    XF_MISS_INTERNAL,                /* A map holds an index out of bounds. */
    XF_MISS_CT_PACKET,               /* Not a plain packet of a connection. */
    XF_MISS_CT_UNKNOWN,              /* Of no connection that is known. */
    XF_MISS_CT_STATE,                /* Its state may change. */
    XF_MISS_CT_WINDOW,               /* Out of TCP's window. */
    XF_MISS_CT_CHANGE,               /* Its mark or label would change. */
    XF_MISS_TUNNEL_HEADER,           /* Not a plain one of the tunnel. */
    XF_MISS_TUNNEL_CHECKSUM,         /* The outer one is wrong, or cannot be told
                                      * to be right. */
    XF_MISS_TUNNEL_FLOW,             /* No megaflow matches what was in it. */
    XF_MISS_PACKET_LENGTH,           /* Longer than check_pkt_len says. */
    XF_N_MISSES
};

#define XF_MISS_NAMES                                                         \
    "no-flow", "truncated", "ethertype", "arp", "ip-header", "ip-options",    \
    "nd-options", "recirculation", "tx-port", "tx-length", "tx-checksum",     \
    "headroom", "frame-size", "internal", "ct-packet", "ct-unknown",          \
    "ct-state", "ct-window", "ct-change", "tunnel-header", "tunnel-checksum", \
    "tunnel-flow", "packet-length"

/* Miss counters of one port on one CPU; as many as five bits count, since the
 * verifier knows of a reason's number no more (all kernels).  'searches' is no miss: it counts what the
 * flow cache could not answer, on the way that is slow anyway (also of samples
 * that go back to an old flow, which are no misses). */
struct xf_miss_row {
    __u64 count[31];
    __u64 searches;
};

/* A packet as the parser has found it. */
struct xf_packet {
    struct xf_key key;
    __u64 digest;                    /* Sum of xf_hash_word() of the words that
                                      * only long keys have: for the flow
                                      * cache. */
    __u32 cls;                       /* enum xf_class. */
    __u32 frame_len;                 /* In bytes, as it came. */

    __u32 n_tags;                    /* VLAN tags that the key tells of. */
    __u32 l3_off;                    /* From the begin of the frame. */
    __u32 l4_off;                    /* Where the IP payload begins. */
    __u32 l4_len;                    /* In bytes, as IP says. */
    __u32 l4_proto;                  /* Where a checksum may have to be
                                      * completed (checksum.h), else 0:
                                      * fragments never are partial. */
    __u32 nd_option;                 /* Type of the one there is, or 0. */
    __u32 l4_check;                  /* The checksum field as it came, or
                                      * XF_NO_CHECK or XF_NO_CRC.  Only of
                                      * packets that parse. */
    __u32 udp_differs;               /* UDP's own length is another than 'l4_len':
                                      * what it does not count is not summed
                                      * (RFC 9868). */
};

/* What connection tracking needs of a packet beside its key (bpf/conntrack.h). */
struct xf_segment {
    __u64 now_ms;                    /* CLOCK_MONOTONIC, as OVS has it; 0: nothing
                                      * has been read yet. */
    __u32 seq, end, ack;             /* TCP, in host order; 'end' is that of the
                                      * payload. */
    __u16 win;
    __u16 icmp_id;                   /* In network order. */
};

/* What a connection is looked for by. */
struct xf_conn_key {
    __u64 addr[4];
    __u64 id;                        /* 'ports' to 'cls' of struct xf_conn. */
};

/* What all stages of a packet do together (bpf/pipeline.h). */
struct xf_plan {
    struct xf_key key;               /* As the packet is to be. */
    struct xf_action act;            /* Of all stages together. */
    __u32 n_stages;
    __u32 max_len;                   /* As in struct xf_rewrite. */
    struct {
        __u32 slot;
        __u32 bytes;                 /* Length of the packet there. */
    } stage[XF_MAX_STAGES];
    __u64 hash;                      /* Of the packet as it came, for the flow
                                      * cache. */
    __u64 way, next_hash;            /* How it came to the next flow: without
                                      * what the packet was, and with that. */
    __u16 sets;                      /* The key is not the packet's any more. */
    __u16 tunnel;                    /* As in struct xf_rewrite. */
    __u32 guess;                     /* Subtable that the next flow may be of. */
    __u32 conn;                      /* Index of the connection that the packet
                                      * is known to be of; 0 = look for it. */
    __u32 lead;                      /* Bytes of the tunnel's headers but for a VLAN
                                      * tag. */
    __u32 n_cts;
    __u32 ct[XF_MAX_CTS];            /* Indexes of those that it has used. */
    struct xf_segment segment;
    struct xf_conn_key conn_key;     /* Of the last look-up. */
};

/* What is off a packet that is being taken out of a tunnel (bpf/decap.h). */
struct xf_outer {
    __u32 len;                       /* Of the headers, in bytes. */
    __u32 frame_len;                 /* Of the packet with them. */
    __u64 sum;                       /* Of the UDP pseudo-header and the headers from
                                      * UDP on; 0 = there is no checksum. */
    __u64 key[XF_KEY_WORDS - XF_TUNNEL_WORD]; /* The tunnel's words of the key. */
};

/* By CPU: what is known of the packet, which is too large for the stack. */
struct xf_scratch {
    struct xf_packet packet;
    struct xf_plan plan;
    struct xf_outer outer;
};

/* A packet that an earlier process's flow executes, and no flow of this one
 * matches: how it begins. */
#define XF_COPY_BYTES 256            /* More than all headers that OVS reads of
                                      * a packet that parses. */
struct xf_copy {
    __u64 hash;                      /* Tells one connection from others. */
    __u32 in_port;                   /* Port slot. */
    __u32 frame_len;                 /* In bytes; 'data' may be less. */
    __u8 data[XF_COPY_BYTES];
};

/* A packet that has entered a port while somebody looked (bpf/capture.h): as it
 * came, and what has become of it.  Behind it are
 *
 * - 'len' bytes of the packet, and any up to a multiple of eight;
 * - 'n_flows' struct xf_ufid: of the flows that it has passed, in their order;
 * - with a 'verdict' of XF_GROUP, the struct xf_group.
 */
struct xf_captured {
    __u64 time_ns;                   /* When it entered: CLOCK_MONOTONIC. */
    __u32 frame_len;                 /* In bytes, as it came. */
    __u32 len;
    __s32 action;                    /* enum xdp_action, or -1 - enum xf_miss: passed
                                      * to OVS as it came, whatever the rest says. */
    __u16 to;                        /* As the last flow's action has it, */
    __u8 verdict;                    /* and this: XF_DROP, XF_OUTPUT, XF_GROUP...
                                      * Means nothing without a flow. */
    __u8 n_flows;
    __u32 cpu, queue;                /* Where it was received. */
};

/* OVS's name of a megaflow, by flow slot: only while a port is captured.  All zero
 * if it is not known. */
struct xf_ufid {
    __u64 word[2];
};

/* By CPU: what is put together of a packet.  Its entries are of xf_capture_room()
 * bytes. */
struct xf_capturing {
    __u32 slot;                      /* The flow that was hit first, or 0. */
    __u32 pad;
    struct xf_captured head;         /* 'len' of 0: nobody looks. */
    __u8 data[];
};
#define XF_CAPTURE_FLOWS (XF_MAX_STAGES + 1) /* One more takes it out of a tunnel. */
#define XF_MIN_CAPTURE 14            /* Bytes of a packet: an Ethernet header */
#define XF_MAX_CAPTURE 65536         /* at least. */

/* Seven bytes are only for the verifier, which does not see that a length was
 * rounded up to a multiple of eight, but that it was to at most seven more. */
static inline __u32 xf_capture_room(__u32 bytes)
{
    return sizeof(struct xf_capturing) + ((bytes + 7) & ~7U) + 8
           + XF_CAPTURE_FLOWS * sizeof(struct xf_ufid) + sizeof(struct xf_group);
}

/* What who reads a capture and the program tell each other. */
struct xf_lease {
    __u64 until_ns;                  /* CLOCK_MONOTONIC: how long packets are copied.
                                      * The reader moves it on. */
    __u64 lost;                      /* There was no room for so many. */
};

/* Hashing.  One multiplication per word, none of which waits for another: the
 * NH family (J. Black et al., UMAC, CRYPTO '99), which is almost universal
 * under random 'secret' words, then a finalizer that spreads the sum over all
 * bits.  'secret' is drawn at random per start,
 * so nobody outside can aim at a bucket. */
#define XF_GOLDEN_RATIO 0x9e3779b97f4a7c15ULL /* 2^64 divided by it. */

static inline __u64 xf_hash_word(__u64 word, __u64 secret)
{
    __u32 lo = (__u32)word + (__u32)secret;
    __u32 hi = (__u32)(word >> 32) + (__u32)(secret >> 32);

    return (__u64)lo * hi;
}

static inline __u64 xf_hash_finish(__u64 sum)
{
    sum ^= sum >> 32;
    sum *= XF_GOLDEN_RATIO;
    return sum ^ (sum >> 29);
}

/* The parts of a masked key's hash: signature (its upper bits, as many as an
 * entry has), first and second bucket, each to be masked with the number of
 * buckets - 1. */
static inline __u32 xf_hash_signature(__u64 hash)
{
    return (__u32)(hash >> 32);
}

static inline __u32 xf_hash_bucket1(__u64 hash)
{
    return (__u32)hash;
}

static inline __u32 xf_hash_bucket2(__u64 hash)
{
    return (__u32)hash ^ ((__u32)(hash >> 33) * 0x5bd1e995U | 1);
}

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

#ifdef __cplusplus
#define XF_ASSERT(EXPR) static_assert(EXPR, #EXPR)
#else
#define XF_ASSERT(EXPR) _Static_assert(EXPR, #EXPR)
#endif

XF_ASSERT(sizeof(struct xf_key) == 8 * XF_KEY_WORDS);
XF_ASSERT(__builtin_offsetof(struct xf_key, eth_type) == 4);
XF_ASSERT(__builtin_offsetof(struct xf_key, eth_dst) == 8);
XF_ASSERT(__builtin_offsetof(struct xf_key, eth_src) == 16);
XF_ASSERT(__builtin_offsetof(struct xf_key, nw_proto) == 24);
XF_ASSERT(__builtin_offsetof(struct xf_key, ct_state) == 32);
XF_ASSERT(__builtin_offsetof(struct xf_key, ct_mark) == 36);
XF_ASSERT(__builtin_offsetof(struct xf_key, ipv4_src) == 40);
XF_ASSERT(__builtin_offsetof(struct xf_key, arp_tha) == 56);
XF_ASSERT(__builtin_offsetof(struct xf_key, ipv6_dst) == 56);
XF_ASSERT(__builtin_offsetof(struct xf_key, ipv6_src) + 8
          == 8 * XF_ADDRESSES_WORD);
XF_ASSERT(__builtin_offsetof(struct xf_key, nd_target) == 8 * XF_ND_WORD);
XF_ASSERT(__builtin_offsetof(struct xf_key, nd_tll) == 96);
XF_ASSERT(__builtin_offsetof(struct xf_key, vlan2_tci) == 8 * XF_INNER_WORD);
XF_ASSERT(__builtin_offsetof(struct xf_key, ct_label) == 8 * XF_LABEL_WORD);
XF_ASSERT(__builtin_offsetof(struct xf_key, tun_ipv4_src) == 8 * XF_TUNNEL_WORD);
XF_ASSERT(__builtin_offsetof(struct xf_key, tun_id) == 8 * XF_TUNNEL_ID_WORD);
XF_ASSERT(__builtin_offsetof(struct xf_key, tun_option) == 168);
XF_ASSERT(XF_SET_WORDS == XF_TUNNEL_WORD); /* No tunnel's field can be set. */
XF_ASSERT(sizeof(struct xf_bucket) == 64);
XF_ASSERT(__builtin_offsetof(struct xf_bucket, used) == 60);
XF_ASSERT(sizeof(struct xf_flow) == 64);
XF_ASSERT(sizeof(struct xf_key_rest) == 128);
XF_ASSERT(sizeof(struct xf_action) == 14);
XF_ASSERT(sizeof(struct xf_group) == 64);
XF_ASSERT(sizeof(struct xf_ct_step) == 48);
XF_ASSERT(sizeof(struct xf_rewrite)
          == 16 * XF_SET_WORDS + 16 + 48 * XF_MAX_CT_STEPS);
XF_ASSERT(sizeof(struct xf_tunnel) == 192);
XF_ASSERT(XF_MAX_TUNNELS <= 0x10000); /* struct xf_rewrite's is 16 bits. */
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
XF_ASSERT(XF_MAX_REWRITES <= 0x10000); /* struct xf_action's is 16 bits. */
XF_ASSERT(XF_MAX_PORTS <= 0x10000);  /* So is a port slot there. */
XF_ASSERT(__builtin_offsetof(struct xf_flow, action) == 2);
XF_ASSERT(__builtin_offsetof(struct xf_flow, key) == 16);
XF_ASSERT(XF_MAX_SUBTABLES <= XF_FLOW_LIVE); /* Its number is below that bit. */
XF_ASSERT(XF_MAX_RECIRCS <= 0x10000); /* A recirculation slot is 16 bits. */
XF_ASSERT(XF_N_CLASSES <= XF_WALK_CLASSES);
XF_ASSERT(sizeof(struct xf_subtable) == 192);
XF_ASSERT(sizeof(struct xf_settings) == 8);
XF_ASSERT(__builtin_offsetof(struct xf_subtable, next) == 180);
XF_ASSERT(sizeof(struct xf_walk) == 16);
XF_ASSERT(sizeof(struct xf_cache_set) == 16);
XF_ASSERT(sizeof(struct xf_stats) == 32);
XF_ASSERT(sizeof(struct xf_time) == 16);
XF_ASSERT(sizeof(struct xf_port) == 64);
XF_ASSERT(sizeof(struct xf_cpu) == 64);
XF_ASSERT(sizeof(struct xf_miss_row) == 256);
XF_ASSERT(sizeof(struct xf_copy) == 16 + XF_COPY_BYTES);
XF_ASSERT(sizeof(struct xf_captured) == 32);
XF_ASSERT(__builtin_offsetof(struct xf_capturing, data) == 40);
XF_ASSERT(XF_N_MISSES <= 31);

#endif /* xdp_flow_abi.h */
