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
 *
 * In what hash_walk has it easier than ours: no ARP, no fragments, options,
 * ICMP or SCTP; it believes IP's lengths; it has one action, output, and asks
 * nothing about the output port (can it transmit, how long a frame does it
 * take); it cares for no partial checksum; it counts no misses and has no
 * AF_XDP socket to hand them to; it collects no TCP flags; and a deletion has
 * no way to learn when a flow's figures are final.
 */
#include <stdbool.h>

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "tests/bench/rivals_abi.h"

struct {
    __uint(type, BPF_MAP_TYPE_DEVMAP);
    __uint(max_entries, XF_MAX_PORTS);
    __uint(key_size, sizeof(__u32));
    __uint(value_size, sizeof(__u32));
} tx_ports SEC(".maps");

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

const volatile __u32 in_port = 0;
const volatile __u32 out_port = 0;   /* Of 'bare'. */
const volatile __u32 n_cpus = 1;

__u32 n_masks;
struct xf_key masks[RIVAL_MAX_MASKS]; /* In the order of the walk. */

__u32 position;
__u32 sequence[RIVAL_SEQUENCE];      /* Which flow's packet comes when. */

SEC("xdp")
int bare(struct xdp_md *ctx)
{
    (void)ctx;
    return bpf_redirect_map(&tx_ports, out_port, XDP_PASS);
}

struct vlan_header {
    __be16 tci;
    __be16 type;
};

static __always_inline bool
parse_l4(struct xf_key *key, void *l4, void *end)
{
    if (key->nw_proto == IPPROTO_TCP) {
        struct tcphdr *tcp = l4;

        if ((void *)(tcp + 1) > end)
            return false;
        key->tp_src = tcp->source;
        key->tp_dst = tcp->dest;
        key->tcp_flags = ((__be16 *)tcp)[6] & bpf_htons(0x0fff);
    } else if (key->nw_proto == IPPROTO_UDP) {
        struct udphdr *udp = l4;

        if ((void *)(udp + 1) > end)
            return false;
        key->tp_src = udp->source;
        key->tp_dst = udp->dest;
    }
    return true;
}

static __always_inline bool
parse_ipv4(struct xf_key *key, void *l3, void *end)
{
    struct iphdr *ip = l3;

    if ((void *)(ip + 1) > end || ip->ihl != 5)
        return false;
    key->nw_proto = ip->protocol;
    key->nw_tos = ip->tos;
    key->nw_ttl = ip->ttl;
    key->ipv4_src = ip->saddr;
    key->ipv4_dst = ip->daddr;
    return parse_l4(key, ip + 1, end);
}

static __always_inline bool
parse_ipv6(struct xf_key *key, void *l3, void *end)
{
    struct ipv6hdr *ip = l3;

    if ((void *)(ip + 1) > end)
        return false;
    key->nw_proto = ip->nexthdr;
    key->nw_tos = bpf_ntohl(*(__be32 *)ip) >> 20;
    key->nw_ttl = ip->hop_limit;
    __builtin_memcpy(key->ipv6_src, &ip->saddr, 16);
    __builtin_memcpy(key->ipv6_dst, &ip->daddr, 16);
    return parse_l4(key, ip + 1, end);
}

/* Fills in '*key', which is zeroed.  False: not to be looked up. */
static __always_inline bool
parse(struct xdp_md *ctx, struct xf_key *key)
{
    void *end = (void *)(long)ctx->data_end;
    struct ethhdr *eth = (void *)(long)ctx->data;
    void *l3 = eth + 1;

    if (l3 > end)
        return false;
    key->in_port = in_port;
    __builtin_memcpy(key->eth_dst, eth->h_dest, 6);
    __builtin_memcpy(key->eth_src, eth->h_source, 6);
    key->eth_type = eth->h_proto;
    if (key->eth_type == bpf_htons(ETH_P_8021Q)) {
        struct vlan_header *vlan = l3;

        l3 = vlan + 1;
        if (l3 > end)
            return false;
        key->vlan_tci = vlan->tci | bpf_htons(XF_VLAN_PRESENT);
        key->eth_type = vlan->type;
    }
    if (key->eth_type == bpf_htons(ETH_P_IP))
        return parse_ipv4(key, l3, end);
    if (key->eth_type == bpf_htons(ETH_P_IPV6))
        return parse_ipv6(key, l3, end);
    return true;
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

char _license[] SEC("license") = "GPL";
