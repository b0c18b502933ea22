// SPDX-License-Identifier: GPL-2.0-only
/* The XDP program cut off after each of its steps: what a packet costs up to
 * there.  The steps are the program's own code on the program's own tables; what
 * is left out behind them is replaced by the redirect that all end with. */
#include <stddef.h>

#include "bpf/hook/xdp.h"

#include "bpf/act/output.h"
#include "bpf/maps.h"
#include "bpf/packet/parse.h"
#include "bpf/run/pipeline.h"
#include "bpf/table/lookup.h"

/* Keeps the compiler from leaving out what nobody reads. */
#define KEEP(VALUE) asm volatile("" : : "r"(VALUE) : "memory")

/* Where the packets of the benchmark go. */
#define OUT_PORT 2

enum { ENTER, PARSE, HASH, FIND };

static __always_inline int
run_until(struct xdp_md *ctx, int stage)
{
    struct xf_cpu *self = find_cpu(bpf_get_smp_processor_id());
    struct xf_packet packet = {0};
    int action;

    if (!self)
        return XDP_ABORTED;
    self->seq++;
    if (stage >= PARSE && parse_packet(ctx, &packet) != XF_PARSED)
        return XDP_ABORTED;
    KEEP(&packet);
    if (stage == HASH) {
        __u64 hash = cache_hash(&packet);

        KEEP(hash);
    }
    if (stage >= FIND && !find_flow(&packet, self).flow)
        return XDP_ABORTED;
    action = bpf_redirect_map(&xf_tx_ports, OUT_PORT, XDP_PASS);
    self->seq++;
    return action;
}

SEC("xdp")
int stage_enter(struct xdp_md *ctx)
{
    return run_until(ctx, ENTER);
}

SEC("xdp")
int stage_parse(struct xdp_md *ctx)
{
    return run_until(ctx, PARSE);
}

SEC("xdp")
int stage_hash(struct xdp_md *ctx)
{
    return run_until(ctx, HASH);
}

SEC("xdp")
int stage_find(struct xdp_md *ctx)
{
    return run_until(ctx, FIND);
}

/* The yardstick of the test Cost: what the program does for a packet of IPv4 and
 * UDP that the flow cache knows, once more and in a straight line.  It has the
 * same look-ups, loads, stores and arithmetic, and none of the branches for
 * everything else, so it is slow where ours is slow and fast where ours is fast.
 * Nothing of the program's code is in it, or it would become slower together with
 * that. */
struct frame {
    struct ethhdr eth;
    struct iphdr ip;
    struct udphdr udp;
} __attribute__((packed));

static __always_inline __u64
word_at(const void *p)
{
    return *(const __u64 *)p;
}

/* False: not the packet that this is about. */
static __always_inline bool
read_frame(const struct frame *f, const void *end, struct xf_packet *p)
{
    __u64 *w = p->key.word;
    __u64 source_and_type;

    if ((void *)(f + 1) > end)
        return false;
    source_and_type = word_at(f->eth.h_source);
    if (source_and_type >> 48 != bpf_htons(ETH_P_IP) || f->ip.ihl != 5
        || f->ip.version != 4 || f->ip.protocol != IPPROTO_UDP
        || f->ip.frag_off & bpf_htons(0x3fff)
        || bpf_ntohs(f->ip.tot_len) > end - (void *)&f->ip
        || end - (void *)&f->ip - bpf_ntohs(f->ip.tot_len) > 255)
        return false;
    w[0] = xf_in_port | (__u64)bpf_htons(ETH_P_IP) << 32;
    w[1] = word_at(f->eth.h_dest) & 0xffffffffffff;
    w[2] = source_and_type & 0xffffffffffff;
    w[3] = f->ip.protocol | f->ip.tos << 8 | f->ip.ttl << 16
           | word_at((const void *)f + offsetof(struct frame, udp)) << 32;
    w[4] = 0;
    w[5] = word_at((const void *)f + offsetof(struct frame, ip.saddr));
    p->cls = XF_CLASS_IPV4;
    p->frame_len = end - (void *)f;
    p->l3_off = sizeof f->eth;
    p->l4_off = sizeof f->eth + sizeof f->ip;
    p->l4_len = bpf_ntohs(f->ip.tot_len) - sizeof f->ip;
    p->l4_proto = f->ip.protocol;
    p->l4_check = f->udp.check;
    return true;
}

static __always_inline __u32
predicted_slot(const __u64 *w, const struct xf_cpu *self)
{
    __u64 hash = xf_hash_word(w[3] + w[0], xf_secret[3])
                 + xf_hash_word(w[5] + w[4], xf_secret[5])
                 + xf_hash_word(w[2] + (w[1] << 16), xf_secret[2]);
    __u32 index, signature, newer, older;
    const struct xf_cache_set *set;

    hash = (hash ^ hash >> 32) * 0x9e3779b97f4a7c15ULL;
    index = (self->row << xf_cache_bits) + (hash >> (64 - xf_cache_bits));
    signature = hash << xf_cache_bits >> 32;
    set = bpf_map_lookup_elem(&xf_flow_cache, &index);
    if (!set)
        return 0;
    newer = set->ways[0];
    older = set->ways[0] >> 32;
    if ((newer ^ signature) & ~xf_slot_mask)
        newer = older;
    return (newer ^ signature) & ~xf_slot_mask ? 0 : newer & xf_slot_mask;
}

/* The flow in 'slot', if it is that of the key 'w'. */
static __always_inline struct xf_flow *
verified_flow(const __u64 *w, __u32 slot)
{
    struct xf_flow *flow = bpf_map_lookup_elem(&xf_flows, &slot);
    const struct xf_subtable *st;
    __u32 subtable;
    __u64 diff = 0;

    if (!flow || !(flow->subtable & XF_FLOW_LIVE))
        return NULL;
    subtable = xf_subtable_of(flow);
    st = bpf_map_lookup_elem(&xf_subtables, &subtable);
    if (!st)
        return NULL;
#pragma unroll
    for (int i = 0; i < XF_SHORT_KEY_WORDS; i++)
        diff |= (w[i] & st->mask[i]) ^ flow->key[i];
    return diff ? NULL : flow;
}

/* Is the checksum the pseudo-header's alone? */
static __always_inline bool
has_partial_sum(const struct xf_packet *p)
{
    __u64 sum = bpf_htons(p->l4_len) + bpf_htons(p->l4_proto)
                + (__u64)p->key.ipv4_src + p->key.ipv4_dst;

    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return p->l4_check == sum;
}

static __always_inline int
send_on(const struct xf_packet *p, struct xf_flow *flow, const struct xf_cpu *self,
        __u32 slot)
{
    __u32 len = p->frame_len, to = flow->action.to;
    __u32 index = self->row * xf_n_slots + slot;
    struct xf_port *port = bpf_map_lookup_elem(&xf_ports, &to);
    struct xf_stats *stats = bpf_map_lookup_elem(&xf_stats, &index);
    int action;

    if (!port || !stats || !(port->flags & xf_tx_flag)
        || len > port->max_frame)
        return XDP_ABORTED;
    action = bpf_redirect_map(&xf_tx_ports, to, XDP_PASS);
    if (has_partial_sum(p))
        return XDP_ABORTED;
    stats->packets++;
    stats->bytes += len;
    stats->used = bpf_jiffies64();
    return action;
}

SEC("xdp")
int shortest(struct xdp_md *ctx)
{
    const void *end = (void *)(long)ctx->data_end;
    const struct frame *f = (void *)(long)ctx->data;
    __u32 cpu = bpf_get_smp_processor_id(), slot;
    struct xf_cpu *self = bpf_map_lookup_elem(&xf_cpus, &cpu);
    struct xf_scratch *scratch = bpf_map_lookup_elem(&xf_scratches, &cpu);
    struct xf_packet *p;
    struct xf_flow *flow;
    int action;

    if (!self || !scratch)
        return XDP_ABORTED;
    self->seq++;
    p = &scratch->packet;
    *p = (struct xf_packet){};
    if (!read_frame(f, end, p))
        return XDP_ABORTED;
    slot = predicted_slot(p->key.word, self);
    flow = verified_flow(p->key.word, slot);
    if (!flow || self->deadline)
        return XDP_ABORTED;
    action = send_on(p, flow, self, slot);
    self->seq++;
    return action;
}

/* A program that is slower than the one in 'detour_to', by as much as 'detour_steps'
 * make: a planted fault, for the test that the guard sees one. */
struct {
    __uint(type, BPF_MAP_TYPE_PROG_ARRAY);
    __uint(max_entries, 1);
    __uint(key_size, sizeof(__u32));
    __uint(value_size, sizeof(__u32));
} detour_to SEC(".maps");

#define MAX_DETOUR 1024
__u32 detour_steps;

SEC("xdp")
int detour(struct xdp_md *ctx)
{
    __u32 x = detour_steps;

    for (__u32 i = 0; i < MAX_DETOUR && i < detour_steps; i++) {
        x = (x ^ x >> 15) * 0x85ebca6b;
        KEEP(x);
    }
    bpf_tail_call(ctx, &detour_to, 0);
    return XDP_ABORTED;
}

char _license[] SEC("license") = "GPL";
