// SPDX-License-Identifier: GPL-2.0-only
/* The benchmark's traffic: frames are made, forwarded and counted by these
 * programs, so that no socket or sk_buff of ours limits what is measured.
 * traffic.cc says how they are used. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <linux/udp.h>

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

/* Connections, each opened when the one before it is: some such conversations at
 * once, so that whoever forwards them is never idle, and no queue overflows.
 *
 *   TCP   SYN, SYN and ACK, ACK; the server's first words open the next one.
 *   UDP   A datagram and its answer.
 *
 * Neither side keeps a state: the frame says what comes next, and becomes it.
 * Behind the IP packet it has the number of its conversation. */
#define FIRST_PORT 1024
#define N_PORTS 60000
#define SERVER_PORT 5000
#define SERVER_SEQ 1000

#define MAX_CONVERSATIONS 1024        /* A power of 2. */

__u32 n_opened;
__u32 n_conversations;
__u64 established[MAX_CONVERSATIONS]; /* By conversation. */

struct frame {
    struct ethhdr eth;
    struct iphdr ip;
    union {
        struct tcphdr tcp;
        struct udphdr udp;
    };
    __u8 pad[6];
    __u32 conversation;
} __attribute__((packed));

#define FLAG_SYN 0x02
#define FLAG_PSH 0x08
#define FLAG_ACK 0x10

static __always_inline __u8 *flags_of(struct frame *f)
{
    return (__u8 *)&f->tcp + 13;
}

/* There is no payload; the IPv4 header's checksum is not changed by anything here.  UDP
 * has no checksum. */
static __always_inline void finish(struct frame *f)
{
    __u32 *words = (void *)&f->tcp;
    __u64 sum = (__u64)f->ip.saddr + f->ip.daddr + bpf_htons(IPPROTO_TCP)
                + bpf_htons(sizeof f->tcp);

    if (f->ip.protocol != IPPROTO_TCP) {
        return;
    }
    f->tcp.check = 0;
#pragma unroll
    for (int i = 0; i < 5; i++) {
        sum += words[i];
    }
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    f->tcp.check = ~sum;
}

/* Back to where it came from. */
static __always_inline void turn(struct frame *f)
{
    unsigned char mac[ETH_ALEN];
    __be32 address = f->ip.saddr;
    __be16 port = f->udp.source;

    __builtin_memcpy(mac, f->eth.h_source, ETH_ALEN);
    __builtin_memcpy(f->eth.h_source, f->eth.h_dest, ETH_ALEN);
    __builtin_memcpy(f->eth.h_dest, mac, ETH_ALEN);
    f->ip.saddr = f->ip.daddr;
    f->ip.daddr = address;
    f->udp.source = f->udp.dest;
    f->udp.dest = port;
}

/* The frame becomes the first one of a new connection. */
static __always_inline void open_next(struct frame *f)
{
    __u32 n = __sync_fetch_and_add(&n_opened, 1);

    f->udp.source = bpf_htons(FIRST_PORT + n % N_PORTS);
    f->udp.dest = bpf_htons(SERVER_PORT + n / N_PORTS);
    if (f->ip.protocol == IPPROTO_TCP) {
        f->tcp.seq = bpf_htonl(n);
        f->tcp.ack_seq = 0;
        *flags_of(f) = FLAG_SYN;
    }
    finish(f);
}

/* The frame becomes the answer to what it was. */
static __always_inline void answer(struct frame *f, __u8 flags, __be32 seq)
{
    __u32 is_syn = *flags_of(f) & FLAG_SYN ? 1 : 0;

    turn(f);
    f->tcp.ack_seq = bpf_htonl(bpf_ntohl(f->tcp.seq) + is_syn);
    f->tcp.seq = seq;
    *flags_of(f) = flags;
    finish(f);
}

/* Is it a frame of a conversation? */
static __always_inline int is_ours(struct frame *f, void *end)
{
    return (void *)(f + 1) <= end && f->eth.h_proto == bpf_htons(ETH_P_IP)
           && (f->ip.protocol == IPPROTO_TCP || f->ip.protocol == IPPROTO_UDP);
}

SEC("xdp")
int traffic_open(struct xdp_md *ctx)
{
    struct frame *f = (void *)(long)ctx->data;

    if (!is_ours(f, (void *)(long)ctx->data_end)) {
        return XDP_DROP;
    }
    f->conversation = __sync_fetch_and_add(&n_conversations, 1);
    open_next(f);
    return bpf_redirect_map(&out_dev, 0, XDP_DROP);
}

SEC("xdp")
int traffic_client(struct xdp_md *ctx)
{
    struct frame *f = (void *)(long)ctx->data;

    if (!is_ours(f, (void *)(long)ctx->data_end)) {
        return XDP_PASS;
    }
    if (f->ip.protocol == IPPROTO_TCP
        && *flags_of(f) == (FLAG_SYN | FLAG_ACK)) {
        answer(f, FLAG_ACK, f->tcp.ack_seq);
        return XDP_TX;
    }
    established[f->conversation & (MAX_CONVERSATIONS - 1)]++;
    turn(f);
    open_next(f);
    return XDP_TX;
}

SEC("xdp")
int traffic_server(struct xdp_md *ctx)
{
    struct frame *f = (void *)(long)ctx->data;

    if (!is_ours(f, (void *)(long)ctx->data_end)) {
        return XDP_PASS;
    }
    if (f->ip.protocol == IPPROTO_UDP) {
        turn(f);
    } else if (*flags_of(f) == FLAG_SYN) {
        answer(f, FLAG_SYN | FLAG_ACK, bpf_htonl(SERVER_SEQ));
    } else {
        answer(f, FLAG_PSH | FLAG_ACK, f->tcp.ack_seq);
    }
    return XDP_TX;
}
