// SPDX-License-Identifier: GPL-2.0-only
/* Counts the frames that the kernel has lost after a program has redirected them,
 * which the program is not told: by port and errno, at the tracepoints that the
 * kernel has for that.
 *
 *   xdp_redirect_err  xdp_do_redirect() has refused a frame: its output is down, takes
 *                     no frames or only shorter ones, or OVS's socket has no room.
 *   xdp_devmap_xmit   The driver of the output has taken fewer frames of a batch than
 *                     it was given.  It is called for each batch, also if all is well.
 *
 * (xdp_redirect_map_err is an old name of the first: no kernel since 5.6 calls it,
 * newer ones do not have it.)
 *
 * The kernel's structures are found by its BTF: this does not load without it. */
#include <linux/bpf.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "bpf/abi/port.h"
#include "bpf/abi/redirect_errors.h"

/* A tracepoint has the arguments that it has. */
#pragma clang diagnostic ignored "-Wunused-parameter"

/* The kernel's, with the members that are of use here. */
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct net {
    __u64 net_cookie;
};
typedef struct {
    struct net *net;
} possible_net_t;
struct net_device {
    int ifindex;
    possible_net_t nd_net;
};
struct bpf_dtab_netdev {
    struct net_device *dev;
};
#pragma clang attribute pop

/* Ports, by the index of their device in the network namespace with this cookie. */
const volatile __u64 xr_netns_cookie = 0;
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __uint(max_entries, XF_MAX_PORTS);
    __type(key, __u32);
    __type(value, struct xr_losses);
} xr_ports SEC(".maps");

/* Null for devices that are no ports. */
static __always_inline struct xr_losses *port_of(__u64 netns_cookie, __u32 ifindex)
{
    return netns_cookie == xr_netns_cookie ? bpf_map_lookup_elem(&xr_ports, &ifindex)
                                           : NULL;
}

static __always_inline void count(struct xr_losses *port, enum xr_target target,
                                  int err, __u64 n)
{
    /* In 64 bits: verifiers lose sight of a 32-bit value that is negated. */
    __u64 error = -(__s64)err;

    if (error >= XR_N_ERRORS)
        error = XR_N_ERRORS - 1;
    __sync_fetch_and_add(&port->frames[target][error], n);
}

static __always_inline struct xr_losses *port_of_pointer(const struct net_device *dev)
{
    return port_of(BPF_CORE_READ(dev, nd_net.net, net_cookie), BPF_CORE_READ(dev, ifindex));
}

/* Frames are lost at the port where they should leave, or where they have entered if
 * that is not known.  Arguments as since Linux 5.13, which nobody compares: with BTF,
 * Linux 6.1 does not let a program have one that is a "const void *". */
SEC("raw_tp/xdp_redirect_err")
int BPF_PROG(xr_redirect_err, const struct net_device *dev, const void *prog,
             const struct bpf_dtab_netdev *target, int err, enum bpf_map_type map_type)
{
    struct xr_losses *in = port_of_pointer(dev), *out = NULL;

    if (!in)
        return 0;
    if (target && (map_type == BPF_MAP_TYPE_DEVMAP
                   || map_type == BPF_MAP_TYPE_DEVMAP_HASH))
        out = port_of_pointer(BPF_CORE_READ(target, dev));
    count(out ?: in, map_type == BPF_MAP_TYPE_XSKMAP ? XR_TO_OVS : XR_TO_PORT, err, 1);
    return 0;
}

SEC("tp_btf/xdp_devmap_xmit")
int BPF_PROG(xr_devmap_xmit, const struct net_device *from, const struct net_device *to,
             int sent, int drops, int err)
{
    struct xr_losses *in, *out;

    if (drops <= 0)
        return 0;
    in = port_of(from->nd_net.net->net_cookie, from->ifindex);
    if (!in)
        return 0;
    out = port_of(to->nd_net.net->net_cookie, to->ifindex);
    count(out ?: in, XR_TO_PORT, err, drops);
    return 0;
}

char _license[] SEC("license") = "GPL";
