// SPDX-License-Identifier: GPL-2.0-only
/* ct() as most XDP and TC programs do it: connections are in an LRU hash map, an
 * entry for each direction, by 5-tuple and zone. */
#include "tests/bench/ct_rivals.bpf.h"

struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, 1);
    __type(key, struct ct_rival_tuple);
    __type(value, struct ct_rival_conn);
} conns SEC(".maps");

static __always_inline bool
track(struct xdp_md *ctx, struct journey *j, const struct ct_rival_flow *flow)
{
    struct xf_key *key = &j->key;
    struct ct_rival_tuple tuple = {
        .src = key->ipv4_src, .dst = key->ipv4_dst, .sport = key->tp_src,
        .dport = key->tp_dst, .zone = flow->zone, .proto = key->nw_proto};
    struct ct_rival_conn *conn = bpf_map_lookup_elem(&conns, &tuple);

    (void)ctx;
    if (!conn || key->tcp_flags & bpf_htons(TCP_CLOSING)
        || j->now_ns - conn->used_ns > conn->timeout_ns)
        return false;
    conn->used_ns = j->now_ns;
    key->ct_state = conn->state;
    key->ct_zone = flow->zone;
    key->ct_mark = conn->mark;
    if (!(flow->ct_flags & XF_CT_NAT) || !conn->nat_state)
        return true;
    key->ct_state |= conn->nat_state;
    key->ipv4_src = conn->to_src;
    key->ipv4_dst = conn->to_dst;
    key->tp_src = conn->to_sport;
    key->tp_dst = conn->to_dport;
    j->is_translated = true;
    return true;
}

char _license[] SEC("license") = "GPL";
