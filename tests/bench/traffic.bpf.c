// SPDX-License-Identifier: GPL-2.0-only
/* The benchmark's traffic: frames are made, forwarded and counted by these
 * programs, so that no socket or sk_buff of ours limits what is measured.
 * traffic.cc says how they are used. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

const volatile __u32 n_flows = 1;
const volatile __u32 first_dst;      /* Host order; the low half is 0. */
const volatile __u32 ip_sum;         /* Of the IPv4 header to 'first_dst'. */
const volatile __u32 count_verdict = XDP_DROP;

/* Of the generator, which runs on one CPU only.  The clock is read once per
 * TICK frames, so that it costs nothing. */
#define TICK 64
__u32 next_flow;
__u64 n_sent;                        /* Frames before the last tick. */
__u64 first_ns, last_ns;             /* First and last tick. */
__u32 since_tick = TICK;

struct {
    __uint(type, BPF_MAP_TYPE_DEVMAP);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, __u32);
} out_dev SEC(".maps");

struct counter {
    __u64 packets;
    __u64 bytes;
};

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct counter);
} counters SEC(".maps");

static void tick(void)
{
    last_ns = bpf_ktime_get_ns();
    if (!first_ns) {
        first_ns = last_ns;
    } else {
        n_sent += TICK;
    }
    since_tick = 0;
}

/* Run on a frame that may have been sent before: the destination address and
 * the checksum are written anew, whatever is there. */
SEC("xdp")
int traffic_generate(struct xdp_md *ctx)
{
    struct iphdr *ip = (void *)(long)ctx->data + ETH_HLEN;
    __u32 flow = next_flow;
    __u32 sum;

    if ((void *)(ip + 1) > (void *)(long)ctx->data_end) {
        return XDP_DROP;
    }
    if (since_tick == TICK) {
        tick();
    }
    since_tick++;
    next_flow = flow + 1 < n_flows ? flow + 1 : 0;
    sum = ip_sum + flow;
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    ip->daddr = bpf_htonl(first_dst + flow);
    ip->check = bpf_htons(~sum & 0xffff);
    return bpf_redirect_map(&out_dev, 0, XDP_DROP);
}

/* The least that forwarding in XDP can be. */
SEC("xdp")
int traffic_forward(struct xdp_md *ctx)
{
    (void)ctx;
    return bpf_redirect_map(&out_dev, 0, XDP_DROP);
}

SEC("xdp")
int traffic_count(struct xdp_md *ctx)
{
    __u32 zero = 0;
    struct counter *c = bpf_map_lookup_elem(&counters, &zero);

    if (c) {
        c->packets++;
        c->bytes += ctx->data_end - ctx->data;
    }
    return count_verdict;
}
