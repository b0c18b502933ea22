/* SPDX-License-Identifier: GPL-2.0-only */
/* The hook in the stack: TC's ingress (clsact, or tcx), where a packet is an sk_buff.
 * All that knows a struct __sk_buff.
 *
 * A veth keeps its TSO here: what enters may be many segments at once (gso_size()), of
 * which none has been made yet, with a checksum that is left to the device.  Both go on
 * as they are, since the sk_buff knows of them, and what changes it tells the kernel by
 * the functions below, which keep its sums right (but where a packet in the packet has
 * the partial one, see may_mistake_sum()):
 *
 *   sk_buff          field in the packet       what the kernel keeps beside it
 *   CHECKSUM_NONE    follows each change       -
 *   ..._UNNECESSARY  follows each change       -
 *   ..._PARTIAL      follows the addresses     where to put the sum of the rest
 *   ..._COMPLETE     follows each change       the sum of all bytes behind Ethernet
 *
 * So it matters which bytes a checksum of the packet's own makes up for: with those the
 * sum of all bytes stays (store_balanced()), with others it changes (store_summed()).
 *
 * The outermost VLAN tag is beside the frame (the kernel takes it out before this hook),
 * others are in it.  The headers may be elsewhere than the beginning of the frame, so
 * they are pulled before they are read, and before they are written; nothing else is
 * where it matters: of packets that GRO has put in a list (rx-gro-list) kernels before
 * October 2024 make no segments when a byte is taken out of the list.  But GRO pulls the
 * headers of those itself, so they are never pulled to be read.
 *
 * Nothing is written directly: a program that does so has each packet copied that
 * somebody else holds as well, TCP's for one, and drops it where that fails.
 */
#ifndef XF_HOOK_SKB_H
#define XF_HOOK_SKB_H 1

#include <linux/if_packet.h>
#include <linux/pkt_cls.h>

#ifdef XF_KERNEL_CT
#include "bpf/hook/conntrack.h"
#endif
#include "bpf/maps.h"

typedef struct __sk_buff xf_ctx;

/* What becomes of a packet.  One that is passed on goes to the next program or filter,
 * TC flower for one, and then to openvswitch.ko. */
#define XF_HOOK_DROP TC_ACT_SHOT
#define XF_HOOK_PASS TC_ACT_UNSPEC
#define XF_HOOK_REDIRECT TC_ACT_REDIRECT

/* Devices by port slot: what bpf_redirect() is told.  The kernel takes a device out of
 * this map, as out of XDP's, when it goes or leaves its network namespace, before anybody
 * else can have its number there.  A map of their own, since XDP's is for programs of XDP
 * only (bpf_prog_map_compatible()). */
struct {
    __uint(type, BPF_MAP_TYPE_DEVMAP);
    __uint(max_entries, XF_MAX_PORTS);
    __uint(key_size, sizeof(__u32));
    __uint(value_size, sizeof(__u32));
} xf_skb_ports SEC(".maps");

#ifdef XF_KERNEL_CT
extern struct nf_conn *bpf_skb_ct_lookup(struct __sk_buff *, struct bpf_sock_tuple *,
                                         __u32, struct bpf_ct_opts *, __u32) __ksym __weak;

/* The connection that the kernel has for the tuple of 'len' bytes, or null; to be given
 * back. */
static __always_inline struct nf_conn *
hook_ct_lookup(xf_ctx *ctx, struct bpf_sock_tuple *tuple, __u32 len,
               struct bpf_ct_opts *opts)
{
    return bpf_skb_ct_lookup(ctx, tuple, len, opts, sizeof *opts);
}
#endif

/* More than all headers that are read of a packet that parses. */
#define XF_HOOK_HEADERS 128

#define frame_begin(CTX) ((void *)(long)(CTX)->data)
#define frame_end(CTX) ((void *)(long)(CTX)->data_end)

/* The device where the packet has entered. */
static __always_inline __u32
ingress_device(const xf_ctx *ctx)
{
    return ctx->ifindex;
}

/* Without a tag that is beside it. */
static __always_inline __u32
frame_len(const xf_ctx *ctx)
{
    return ctx->len;
}

/* What a flow can say that is not executed here: such packets are a miss. */
static __always_inline bool
hook_executes(const struct xf_rewrite *rewrite, __u32 verdict)
{
    return !rewrite->max_len && !rewrite->max_in && !rewrite->tunnel
           && (xf_kernel_ct || (!rewrite->n_ct_first && !rewrite->ct[0].flags))
           && verdict != XF_POP;
}

/* May bytes be cut off the end?  Not of what may be many segments. */
#define XF_HOOK_CUTS 0

/* Is there a tag beside the frame?  Stores what it is. */
static __always_inline bool
tag_beside(const xf_ctx *ctx, struct xf_tag *tag)
{
    if (!ctx->vlan_present)
        return false;
    tag->tpid = ctx->vlan_proto;
    tag->tci = bpf_htons(ctx->vlan_tci);
    return true;
}

/* The device of the port in 'slot'; 0 = none. */
static __always_inline __u32
device_of(__u32 slot)
{
    const __u32 *ifindex = bpf_map_lookup_elem(&xf_skb_ports, &slot);

    return ifindex ? *ifindex : 0;
}

/* Is the program on its port's device yet, and that in the namespace of the others?  A
 * link goes along with a device that is moved, to where numbers are other devices'. */
static __always_inline bool
is_at_home(const xf_ctx *ctx, const struct xf_packet *p)
{
    return device_of(in_port(p)) == ctx->ifindex;
}

/* Has the stack itself sent it, to who listens on the device?  OVS does not take it. */
static __always_inline bool
is_loopback(const xf_ctx *ctx)
{
    return ctx->pkt_type == PACKET_LOOPBACK;
}

/* The payload of each segment that will be made of the packet; 0 = it is one. */
static __always_inline __u32
gso_size(const xf_ctx *ctx)
{
    return ctx->gso_size;
}

/* Are there headers elsewhere, as far as the frame is that long? */
static __always_inline bool
is_scattered(const xf_ctx *ctx)
{
    __u32 there = ctx->data_end - ctx->data;

    return there < ctx->len && there < XF_HOOK_HEADERS;
}

/* Has the first 'len' bytes of the frame, or all of it, where they can be read and, as
 * nobody else has them then, written.  Returns 0, or the packet is as it was. */
static __always_inline long
pull(xf_ctx *ctx, __u32 len)
{
    return bpf_skb_pull_data(ctx, len < ctx->len ? len : ctx->len);
}

/* Copies 'len' bytes at 'off'.  Returns 0 if they are there. */
static __always_inline long
load_bytes(xf_ctx *ctx, __u32 off, void *to, __u32 len)
{
    return bpf_skb_load_bytes(ctx, off, to, len);
}

/* The shortest frame that is copied: Ethernet's header and a tag.  A shorter one has
 * nothing to match. */
#define XF_HOOK_MIN_FRAME 18
#define XF_HOOK_ADDRESSES 12

/* Copies the first 'len' bytes, at least XF_HOOK_MIN_FRAME, of the frame as it was sent,
 * with the tag that is beside it. */
static __always_inline long
load_frame(xf_ctx *ctx, __u8 *to, __u32 len)
{
    struct xf_tag tag;

    if (!tag_beside(ctx, &tag))
        return load_bytes(ctx, 0, to, len);
    *(struct xf_tag *)(to + XF_HOOK_ADDRESSES) = tag;
    return load_bytes(ctx, 0, to, XF_HOOK_ADDRESSES)
           || load_bytes(ctx, XF_HOOK_ADDRESSES, to + XF_HOOK_ADDRESSES + sizeof tag,
                         len - XF_HOOK_ADDRESSES - sizeof tag);
}

/* Writes bytes for which a checksum of the packet makes up, or that are Ethernet's. */
static __always_inline long
store_balanced(xf_ctx *ctx, __u32 off, const void *from, __u32 len)
{
    return bpf_skb_store_bytes(ctx, off, from, len, 0);
}

/* Writes others. */
static __always_inline long
store_summed(xf_ctx *ctx, __u32 off, const void *from, __u32 len)
{
    return bpf_skb_store_bytes(ctx, off, from, len, BPF_F_RECOMPUTE_CSUM);
}

/* Has the IPv4 header's checksum at 'off' follow a change of the sum. */
static __always_inline long
follow_ip(xf_ctx *ctx, __u32 off, __u32 change)
{
    return bpf_l3_csum_replace(ctx, off, 0, change, 0);
}

/* Has a transport checksum at 'off' follow a change of what it covers in the packet that
 * is not of the pseudo-header.  'or_none': 0 says that there is none. */
static __always_inline long
follow_transport(xf_ctx *ctx, __u32 off, __u32 change, bool or_none)
{
    return bpf_l4_csum_replace(ctx, off, 0, change,
                               or_none ? BPF_F_MARK_MANGLED_0 : 0);
}

/* The same for a change of the pseudo-header, which a partial checksum is the sum of.
 *
 * The kernel takes it for one that nothing else in the packet makes up for, as IPv4's own
 * checksum does for the addresses.  In IPv6 it is this one that does; who says so with
 * BPF_F_IPV6 is refused by kernels that do not know that, so it is said another way: what
 * has a sum of all bytes (bpf_csum_update() tells) is not partial. */
static __always_inline long
follow_pseudo(xf_ctx *ctx, __u32 off, __u32 change, bool or_none, bool is_ipv6)
{
    __u64 flags = or_none ? BPF_F_MARK_MANGLED_0 : 0;

    if (!is_ipv6 || bpf_csum_update(ctx, 0) < 0)
        flags |= BPF_F_PSEUDO_HDR;
    return bpf_l4_csum_replace(ctx, off, 0, change, flags);
}

/* What was hashed for the choice of a queue has changed. */
static __always_inline void
forget_hash(xf_ctx *ctx)
{
    bpf_set_hash_invalid(ctx);
}

/* Takes the outermost tag off, wherever it is; puts one on. */
static __always_inline long
take_tag(xf_ctx *ctx)
{
    return bpf_skb_vlan_pop(ctx);
}

static __always_inline long
put_tag(xf_ctx *ctx, struct xf_tag tag)
{
    return bpf_skb_vlan_push(ctx, tag.tpid, bpf_ntohs(tag.tci));
}

/* Sends the packet out through a device when the program returns what this does.  It
 * passes the device's qdisc, as what openvswitch.ko sends.
 *
 * Not bpf_redirect_peer() for a veth: it would pass by that qdisc, by the counters of our
 * end, and by who listens there. */
static __always_inline int
redirect_to_device(__u32 ifindex)
{
    return bpf_redirect(ifindex, 0);
}

/* Sends a copy at once, the same way.  Returns 0; or there is no memory for one, so there is
 * none, as openvswitch.ko has none then. */
static __always_inline long
send_copy(xf_ctx *ctx, __u32 ifindex)
{
    return bpf_clone_redirect(ctx, ifindex, 0);
}

#endif /* skb.h */
