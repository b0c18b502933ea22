/* SPDX-License-Identifier: GPL-2.0-only */
/* clang-format off */
/* What the rivals share: the ports, and how they parse a packet, which is into
 * the key of our program, but less of it (rivals.bpf.c says what they leave
 * out). */
#ifndef TESTS_BENCH_RIVALS_PARSE_H
#define TESTS_BENCH_RIVALS_PARSE_H 1

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

const volatile __u32 in_port = 0;
const volatile __u32 n_cpus = 1;     /* That there may be. */

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

/* A sum of 16-bit words, as the Internet checksum has it. */
static __always_inline __u16
rival_fold(__u64 sum)
{
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return (sum & 0xffff) + (sum >> 16);
}

#endif /* rivals_parse.h */
