// SPDX-License-Identifier: GPL-2.0-only
/* The programs that ours is measured beside.
 *
 * bare       redirects and does nothing else: what no program can undercut.
 * hash_walk  executes megaflows the way that was usual before: a BPF hash map
 *            per mask in an array of maps, and a walk over the masks until one
 *            of the maps has the masked packet.  It gets the same packets,
 *            keys and masks as our program.
 * vary       writes the next flow's source address and port into the packet
 *            and goes on with the program under test: BPF_PROG_TEST_RUN repeats
 *            one packet.
 * vary_source
 *            writes the source address only, and IPv4's checksum: what ct()
 *            looks at is valid.
 * restore    writes all headers as they were, since BPF_PROG_TEST_RUN repeats
 *            the packet as the program has left it.
 *
 * In what hash_walk has it easier than ours: no ARP, no fragments, options,
 * ICMP or SCTP; it believes IP's lengths; it has one action, output, and asks
 * nothing about the output port (can it transmit, how long a frame does it
 * take); it cares for no partial checksum; it counts no misses and has no
 * AF_XDP socket to hand them to; it collects no TCP flags; and a deletion has
 * no way to learn when a flow's figures are final.
 */
#include "tests/bench/rivals_parse.h"

/* The flows of a mask, by masked key. */
struct subtable {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 1);
    __uint(key_size, sizeof(struct xf_key));
    __uint(value_size, sizeof(struct rival_flow));
};

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
    __uint(max_entries, RIVAL_MAX_MASKS);
    __type(key, __u32);
    __array(values, struct subtable);
} subtables SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PROG_ARRAY);
    __uint(max_entries, 1);
    __uint(key_size, sizeof(__u32));
    __uint(value_size, sizeof(__u32));
} under_test SEC(".maps");

const volatile __u32 out_port = 0;   /* Of 'bare'. */

__u32 n_masks;
struct xf_key masks[RIVAL_MAX_MASKS]; /* In the order of the walk. */

__u32 position;
__u32 sequence[RIVAL_SEQUENCE];      /* Which flow's packet comes when. */
__u64 headers[RIVAL_HEADER_WORDS];   /* Of 'restore'. */

SEC("xdp")
int bare(struct xdp_md *ctx)
{
    (void)ctx;
    return bpf_redirect_map(&tx_ports, out_port, XDP_PASS);
}

static __always_inline struct rival_flow *
find(const struct xf_key *key)
{
    for (__u32 i = 0; i < RIVAL_MAX_MASKS && i < n_masks; i++) {
        struct rival_flow *flow;
        struct xf_key masked;
        __u32 index = i;
        void *subtable;

        subtable = bpf_map_lookup_elem(&subtables, &index);
        if (!subtable)
            return NULL;
#pragma unroll
        for (int w = 0; w < XF_KEY_WORDS; w++)
            masked.word[w] = key->word[w] & masks[i].word[w];
        flow = bpf_map_lookup_elem(subtable, &masked);
        if (flow)
            return flow;
    }
    return NULL;
}

SEC("xdp")
int hash_walk(struct xdp_md *ctx)
{
    __u32 cpu = bpf_get_smp_processor_id();
    struct xf_key key = {0};
    struct rival_flow *flow;

    if (cpu >= n_cpus || !parse(ctx, &key))
        return XDP_PASS;
    flow = find(&key);
    if (!flow)
        return XDP_PASS;
    flow->stats[cpu].packets++;
    flow->stats[cpu].bytes += ctx->data_end - ctx->data;
    flow->stats[cpu].used_ns = bpf_ktime_get_coarse_ns();
    return bpf_redirect_map(&tx_ports, flow->out_port, XDP_PASS);
}

SEC("xdp")
int vary(struct xdp_md *ctx)
{
    void *end = (void *)(long)ctx->data_end;
    struct ethhdr *eth = (void *)(long)ctx->data;
    struct iphdr *ip = (void *)(eth + 1);
    struct udphdr *udp = (void *)(ip + 1);
    __u32 flow = sequence[position++ & (RIVAL_SEQUENCE - 1)];

    if ((void *)(udp + 1) > end)
        return XDP_ABORTED;
    ip->saddr = bpf_htonl(RIVAL_FLOW_ADDRESS + flow);
    udp->source = bpf_htons(flow);
    bpf_tail_call(ctx, &under_test, 0);
    return XDP_ABORTED;
}

SEC("xdp")
int vary_source(struct xdp_md *ctx)
{
    void *end = (void *)(long)ctx->data_end;
    struct ethhdr *eth = (void *)(long)ctx->data;
    struct iphdr *ip = (void *)(eth + 1);
    __u32 flow = sequence[position++ & (RIVAL_SEQUENCE - 1)];
    __u64 sum = 0;

    if ((void *)(ip + 1) > end)
        return XDP_ABORTED;
    ip->saddr = bpf_htonl(RIVAL_FLOW_ADDRESS + flow);
    ip->check = 0;
#pragma unroll
    for (int i = 0; i < 5; i++)
        sum += ((__u32 *)ip)[i];
    ip->check = ~rival_fold(sum);
    bpf_tail_call(ctx, &under_test, 0);
    return XDP_ABORTED;
}

SEC("xdp")
int restore(struct xdp_md *ctx)
{
    __u64 *words = (void *)(long)ctx->data;

    if ((void *)(words + RIVAL_HEADER_WORDS) > (void *)(long)ctx->data_end)
        return XDP_ABORTED;
#pragma unroll
    for (int i = 0; i < RIVAL_HEADER_WORDS; i++)
        words[i] = headers[i];
    bpf_tail_call(ctx, &under_test, 0);
    return XDP_ABORTED;
}

char _license[] SEC("license") = "GPL";
