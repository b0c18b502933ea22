/* SPDX-License-Identifier: GPL-2.0-only */
/* The hook in the driver: XDP.  All that knows a struct xdp_md, so that parsing,
 * looking up and acting need not.
 *
 * Whoever moves the beginning or the end of the frame, or calls what does, asks for
 * frame_begin() and frame_end() anew: the verifier forgets what it knew of the
 * old ones.
 */
#ifndef XF_HOOK_XDP_H
#define XF_HOOK_XDP_H 1

#ifdef XF_KERNEL_CT
#include "bpf/hook/conntrack.h"
#endif
#include "bpf/maps.h"

/* What a program of this hook is called with.  Global functions have to name that
 * type, or the verifier does not let them have it. */
typedef struct xdp_md xf_ctx;

/* What becomes of a packet; others are XDP's. */
#define XF_HOOK_DROP XDP_DROP
#define XF_HOOK_PASS XDP_PASS
#define XF_HOOK_REDIRECT XDP_REDIRECT

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

#ifdef XF_KERNEL_CT
extern struct nf_conn *bpf_xdp_ct_lookup(struct xdp_md *, struct bpf_sock_tuple *, __u32,
                                         struct bpf_ct_opts *, __u32) __ksym __weak;

/* The connection that the kernel has for the tuple of 'len' bytes, or null; to be given
 * back. */
static __always_inline struct nf_conn *
hook_ct_lookup(xf_ctx *ctx, struct bpf_sock_tuple *tuple, __u32 len,
               struct bpf_ct_opts *opts)
{
    return bpf_xdp_ct_lookup(ctx, tuple, len, opts, sizeof *opts);
}
#endif

/* Macros, since clang allots registers otherwise to functions, though they are
 * inlined too: push_tunnel() would be an instruction longer. */
#define frame_begin(CTX) ((void *)(long)(CTX)->data)
#define frame_end(CTX) ((void *)(long)(CTX)->data_end)

/* The device where the packet has entered. */
static __always_inline __u32
ingress_device(const xf_ctx *ctx)
{
    return ctx->ingress_ifindex;
}

static __always_inline __u32
frame_len(const xf_ctx *ctx)
{
    return ctx->data_end - ctx->data;
}

/* All that a flow can say is executed here. */
static __always_inline bool
hook_executes(const struct xf_rewrite *rewrite, __u32 verdict)
{
    (void)rewrite, (void)verdict;
    return true;
}

/* May bytes be cut off the end? */
#define XF_HOOK_CUTS 1

/* Is there a VLAN tag beside the frame?  Where one may be, no flow enters. */
static __always_inline bool
tag_beside(const xf_ctx *ctx, struct xf_tag *tag)
{
    (void)ctx, (void)tag;
    return false;
}

/* Copies 'len' bytes at 'off'.  Returns 0 if they are there. */
static __always_inline long
load_bytes(xf_ctx *ctx, __u32 off, void *to, __u32 len)
{
    return bpf_xdp_load_bytes(ctx, off, to, len);
}

/* The shortest frame that a program gets: its Ethernet header. */
#define XF_HOOK_MIN_FRAME 14

/* Copies the first 'len' bytes of the frame as it was sent. */
static __always_inline long
load_frame(xf_ctx *ctx, __u8 *to, __u32 len)
{
    return load_bytes(ctx, 0, to, len);
}

static __always_inline long
store_bytes(xf_ctx *ctx, __u32 off, const void *from, __u32 len)
{
    return bpf_xdp_store_bytes(ctx, off, (void *)from, len);
}

/* Cuts 'by' bytes off at the beginning of the frame or, if that is negative, makes room
 * for as many before it; the bytes stay where they are.  Returns 0 if there is
 * room. */
static __always_inline long
move_begin(xf_ctx *ctx, int by)
{
    return bpf_xdp_adjust_head(ctx, by);
}

/* The same at its end, where a positive number makes it longer. */
static __always_inline long
move_end(xf_ctx *ctx, int by)
{
    return bpf_xdp_adjust_tail(ctx, by);
}

/* Has the driver left something before the frame, which would move with its
 * beginning? */
static __always_inline bool
has_metadata(const xf_ctx *ctx)
{
    return ctx->data_meta < ctx->data;
}

static __always_inline __u32
queue_of(const xf_ctx *ctx)
{
    return ctx->rx_queue_index;
}

/* Chooses where the frame goes when the program returns what this does:
 * XF_HOOK_REDIRECT, or anything else if it cannot go there. */
static __always_inline int
redirect_to_port(__u32 slot)
{
    return bpf_redirect_map(&xf_tx_ports, slot, XDP_PASS);
}

/* The same for all devices of a group. */
static __always_inline int
redirect_to_group(void *devs, bool keep_ingress)
{
    return bpf_redirect_map(devs, 0, keep_ingress
                            ? BPF_F_BROADCAST
                            : BPF_F_BROADCAST | BPF_F_EXCLUDE_INGRESS);
}

/* The miss path: OVS's socket for the packet's queue (XF_HOOK_REDIRECT), or the
 * kernel's stack if there is none. */
static __always_inline int
pass_on(const xf_ctx *ctx)
{
    return bpf_redirect_map(&xsks_map, ctx->rx_queue_index, XDP_PASS);
}

#endif /* xdp.h */
