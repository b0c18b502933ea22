/* SPDX-License-Identifier: GPL-2.0-only */
/* clang-format off */
/* A pipeline of megaflows with ct(), executed the usual way: a BPF hash map for
 * the flows of each recirculation id, by masked key, and a look-up of the
 * connection for each ct().  The file that includes this says how connections
 * are looked up (track()).
 *
 * In what this has it easier than ours, beside what rivals.bpf.c says: there is
 * one mask to each recirculation id, which it knows; a ct() commits nothing and
 * compares no mark or label; flows are counted before it is known that the
 * whole pipeline can be executed; TCP's window is not looked at; and only
 * IPv4 is translated.
 *
 * Most of its time goes into hashing keys, which are as long as ours.  With
 * 'is_ipv4_only' they end where IPv4 does: no program for IPv6, a second VLAN
 * tag or labels can have that, but one for less can.
 */
#ifndef TESTS_BENCH_CT_RIVALS_BPF_H
#define TESTS_BENCH_CT_RIVALS_BPF_H 1

#include <stddef.h>

#include <linux/openvswitch.h>

#include "tests/bench/ct_rivals_abi.h"
#include "tests/bench/rivals_parse.h"

/* The flows of a recirculation id, by masked key. */
struct stage {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 1);
    __uint(key_size, sizeof(struct xf_key));
    __uint(value_size, sizeof(struct ct_rival_flow));
};

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
    __uint(max_entries, CT_RIVAL_STAGES);
    __type(key, __u32);
    __array(values, struct stage);
} stages SEC(".maps");

const volatile __u32 is_ipv4_only = 0; /* Keys have the words that IPv4 has. */

struct xf_key masks[CT_RIVAL_STAGES]; /* By recirculation id. */

/* A packet on its way through the pipeline. */
struct journey {
    struct xf_key key;
    __u64 now_ns;
    __u32 len;
    __u32 is_translated;
};

#define TCP_CLOSING 0x07             /* FIN, SYN and RST. */

/* Finds the connection of the packet in 'zone', notes that the packet has used
 * it, and puts what is known of it into the key.  False: there is none, or
 * something that OVS has to see. */
static __always_inline bool
track(struct xdp_md *ctx, struct journey *j, const struct ct_rival_flow *flow);

static __always_inline struct ct_rival_flow *
find(const struct xf_key *key)
{
    __u32 index = key->recirc, recirc = index;
    struct xf_key masked;
    void *flows;

    flows = bpf_map_lookup_elem(&stages, &index);
    barrier_var(recirc);             /* Or the verifier loses its bounds. */
    if (!flows || recirc >= CT_RIVAL_STAGES)
        return NULL;
#pragma unroll
    for (int w = 0; w < XF_KEY_WORDS; w++)
        if (w < XF_SHORT_KEY_WORDS || !is_ipv4_only)
            masked.word[w] = key->word[w] & masks[recirc].word[w];
    return bpf_map_lookup_elem(flows, &masked);
}

/* Writes translated addresses and ports into the packet (RFC 1624).  UDP's "no
 * checksum" stays none. */
static __always_inline bool
translate(struct xdp_md *ctx, const struct xf_key *key)
{
    void *end = (void *)(long)ctx->data_end;
    struct ethhdr *eth = (void *)(long)ctx->data;
    struct iphdr *ip = (void *)(eth + 1);
    struct udphdr *udp = (void *)(ip + 1);
    struct tcphdr *tcp = (void *)(ip + 1);
    __be16 *check;
    __u64 diff;

    if ((void *)(udp + 1) > end)
        return false;
    check = &udp->check;
    if (key->nw_proto == IPPROTO_TCP) {
        if ((void *)(tcp + 1) > end)
            return false;
        check = &tcp->check;
    }
    diff = (__u64)key->ipv4_src + key->ipv4_dst + (__u32)~ip->saddr
           + (__u32)~ip->daddr;
    ip->check = ~rival_fold((__u16)~ip->check + diff);
    diff += (__u64)key->tp_src + key->tp_dst + (__u16)~udp->source
            + (__u16)~udp->dest;
    if (*check)
        *check = ~rival_fold((__u16)~*check + diff);
    ip->saddr = key->ipv4_src;
    ip->daddr = key->ipv4_dst;
    udp->source = key->tp_src;
    udp->dest = key->tp_dst;
    return true;
}

static __always_inline void
count(struct ct_rival_flow *flow, __u32 cpu, const struct journey *j)
{
    flow->stats[cpu].packets++;
    flow->stats[cpu].bytes += j->len;
    flow->stats[cpu].used_ns = j->now_ns;
}

SEC("xdp")
int ct_pipeline(struct xdp_md *ctx)
{
    __u32 cpu = bpf_get_smp_processor_id();
    struct journey j = {0};

    if (cpu >= n_cpus || !parse(ctx, &j.key))
        return XDP_PASS;
    j.now_ns = bpf_ktime_get_coarse_ns();
    j.len = ctx->data_end - ctx->data;
    for (int i = 0; i < CT_RIVAL_STAGES; i++) {
        struct ct_rival_flow *flow;

        /* Keeps the key in memory: else clang has it in pieces in registers,
         * and puts them together again for each stage. */
        asm volatile("" : : "r"(&j) : "memory");
        flow = find(&j.key);
        if (!flow)
            return XDP_PASS;
        count(flow, cpu, &j);
        if (flow->ct_flags && !track(ctx, &j, flow))
            return XDP_PASS;
        j.key.recirc = flow->recirc;
        if (flow->recirc)
            continue;
        if (j.is_translated && !translate(ctx, &j.key))
            return XDP_PASS;
        return bpf_redirect_map(&tx_ports, flow->out_port, XDP_PASS);
    }
    return XDP_PASS;
}

#endif /* ct_rivals.bpf.h */
