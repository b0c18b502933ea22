/* SPDX-License-Identifier: GPL-2.0-only */
/* Completing transport checksums, and following what changes under them.
 *
 * A veth peer (or a tap's user) may send TCP and UDP with a "partial" checksum:
 * the field holds only the sum of the pseudo-header, and the kernel remembers
 * beside the frame that the rest is still to be summed.  XDP does not see what
 * is beside the frame, and a redirect to a device or to AF_XDP loses it.  So a
 * frame that leaves either way has to carry the whole sum.
 *
 * A field that equals the folded sum of the pseudo-header says that the frame
 * is partial, or that its payload happens to sum to zero; computing the sum is
 * right for both.  That holds for whole packets: fragments are never partial
 * (the IP layer completes before it fragments) and are left alone.
 *
 * XDP_PASS must not complete: the kernel still knows, and would add the payload
 * a second time.
 *
 * Where header fields change, checksums follow by the difference (RFC 1624), so
 * one that was wrong stays wrong.  What is partial is completed first.
 */
#ifndef XF_PACKET_CHECKSUM_H
#define XF_PACKET_CHECKSUM_H 1

#include "bpf/hook/hook.h"
#include "bpf/maps.h"
#include "bpf/packet/parse.h"

static __always_inline __u16
fold(__u64 sum)
{
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return sum;
}

/* Is the IPv4 header's checksum right?  It has no options, or there were no
 * flow. */
static __always_inline bool
is_ipv4_header_valid(const __u32 *ip)
{
    __u64 sum = 0;

#pragma unroll
    for (int i = 0; i < 5; i++)
        sum += ip[i];
    return fold(sum) == 0xffff;
}

/* What a sum of 16-bit words grows by when they change: RFC 1624's ~m + m', for
 * four of them at once. */
static __always_inline __u64
sum_change(__u64 from, __u64 to)
{
    return (__u32)~from + (~from >> 32) + (__u32)to + (to >> 32);
}

/* RFC 1624, equation 3. */
static __always_inline __u16
update_checksum(__u16 checksum, __u64 change)
{
    return ~fold((__u16)~checksum + change);
}

/* What becomes of a change in the first word of 'len' bytes, in their CRC32c
 * (RFC 9260 appendix A), which is linear: zeros follow the change.
 *
 * A global function, so that the verifier checks it once and on its own. */
__noinline __u32
crc32c_change(__u32 change, __u32 len)
{
    for (int k = 0; k < XF_MAX_FRAME_BITS; k++) {
        __u32 sum = 0;

        if (!(len >> k & 1))
            continue;
        for (int i = 0; i < 8; i++)
            sum ^= xf_crc32c_zeros[k][i][change >> 4 * i & 0xf];
        change = sum;
    }
    return change;
}

/* Offset of a TCP or UDP checksum in its header. */
static __always_inline __u32
checksum_offset(__u32 proto)
{
    return proto == IPPROTO_TCP ? 16 : 6;
}

/* RFC 9293 section 3.1, RFC 8200 section 8.1: the folded pseudo-header, with the
 * addresses of 'key'. */
static __always_inline __u16
pseudo_header_sum(const struct xf_packet *p, const struct xf_key *key)
{
    const __u32 *ip = (const __u32 *)&key->word[5];
    __u64 sum = bpf_htons(p->l4_len) + bpf_htons(p->l4_proto);

    sum += (__u64)ip[0] + ip[1];
    if (p->cls == XF_CLASS_IPV6)
        sum += (__u64)ip[2] + ip[3] + ip[4] + ip[5] + ip[6] + ip[7];
    return fold(sum);
}

/* 1 if a packet that parses has a partial checksum, else 0.  Not as a branch: the
 * verifier would follow both ways to the end. */
static __always_inline __u32
is_partial(const struct xf_packet *p)
{
    __u32 partial = ((__u64)(p->l4_check ^ pseudo_header_sum(p, &p->key)) - 1) >> 63;

    asm volatile("" : "+r"(partial));
    return partial;
}

/* Adds 'SIZE' bytes at 'pos' to 'sum' and moves on.  'pos' is masked so that
 * the verifier knows its range and nothing more, which lets it merge the paths
 * that lead here. */
#define SUM_CHUNK(SIZE)                                                       \
    do {                                                                      \
        void *chunk = data + (pos & (XF_MAX_FRAME - 1));                      \
        if (chunk + (SIZE) > end)                                             \
            return -1;                                                        \
        sum = bpf_csum_diff(0, 0, chunk, SIZE, sum);                          \
        pos += (SIZE);                                                        \
    } while (0)

/* Returns the folded sum of the 'len' bytes at 'pos', or -1 if they are not there
 * or too many.
 *
 * A global function, so that the verifier checks it once and on its own. */
__noinline int
sum_bytes(xf_ctx *ctx, __u32 pos, __u32 len)
{
    void *end = frame_end(ctx);
    void *data = frame_begin(ctx);
    __u32 sum = 0;

    if (pos + len > XF_MAX_FRAME)
        return -1;
    /* bpf_csum_diff() takes up to 512 bytes (MAX_BPF_STACK). */
    for (int i = 0; i < XF_MAX_FRAME / 512 && len >= 512; i++, len -= 512)
        SUM_CHUNK(512);
    if (len & 256)
        SUM_CHUNK(256);
    if (len & 128)
        SUM_CHUNK(128);
    if (len & 64)
        SUM_CHUNK(64);
    if (len & 32)
        SUM_CHUNK(32);
    if (len & 16)
        SUM_CHUNK(16);
    if (len & 8)
        SUM_CHUNK(8);
    if (len & 4)
        SUM_CHUNK(4);
    if (len & 3) {                   /* The rest, padded with zeros. */
        __u8 *rest = data + (pos & (XF_MAX_FRAME - 1));
        __u8 last[4] = {0};

        if ((void *)rest + 1 > end)
            return -1;
        last[0] = rest[0];
        if ((len & 2) && (void *)rest + 2 <= end)
            last[1] = rest[1];
        if ((len & 3) == 3 && (void *)rest + 3 <= end)
            last[2] = rest[2];
        sum = bpf_csum_diff(0, 0, (__be32 *)last, 4, sum);
    }
    return fold(sum);
}

/* Replaces the partial checksum 'offset' bytes into the 'len' bytes at 'pos' by
 * the whole one.  Returns 0, or -1 with the packet unchanged.
 *
 * A global function for the verifier's sake, too. */
__noinline int
complete_checksum(xf_ctx *ctx, __u32 pos, __u32 len, __u32 offset)
{
    void *end, *data;
    int sum;
    __u16 result;

    if (offset > 16)
        return -1;
    sum = sum_bytes(ctx, pos, len);
    if (sum < 0)
        return -1;
    result = ~sum;
    if (!result)                     /* UDP: zero would mean "none". */
        result = 0xffff;
    end = frame_end(ctx);
    data = frame_begin(ctx);
    data += (pos + offset) & (XF_MAX_FRAME - 1);
    if (data + sizeof result > end)
        return -1;
    *(__u16 *)data = result;
    return 0;
}

/* Is it known from headers what the IP payload of a packet that parses sums to?
 * That of a whole TCP, UDP or ICMP packet does to the complement of its
 * pseudo-header, if its checksum is right or partial: local checksum offload, as
 * in the kernel's Documentation/networking/checksum-offloads.rst.  Not if there is
 * padding behind it. */
static __always_inline bool
has_known_sum(const struct xf_packet *p)
{
    __u32 proto = p->l4_proto;       /* 0 for fragments. */

    if (p->l4_off + p->l4_len != p->frame_len)
        return false;
    if (proto == IPPROTO_UDP)
        return p->l4_check && p->l4_check != XF_NO_CHECK && !p->udp_differs;
    return proto == IPPROTO_TCP
           || proto == (p->cls == XF_CLASS_IPV4 ? IPPROTO_ICMP
                                                : XF_IPPROTO_ICMPV6);
}

/* What the payload of such a packet, with the addresses of 'key', sums to. */
static __always_inline __u16
known_sum(const struct xf_packet *p, const struct xf_key *key)
{
    if (p->cls == XF_CLASS_IPV4 && p->l4_proto == IPPROTO_ICMP)
        return 0;                    /* No pseudo-header. */
    return ~pseudo_header_sum(p, key);
}

/* Completes a partial checksum of any packet, also of one that does not parse,
 * if its TCP or UDP header is whole.  A global function for the verifier's sake,
 * too. */
__noinline int
complete_if_partial(xf_ctx *ctx, const struct xf_packet *p)
{
    void *end = frame_end(ctx);
    void *l4 = frame_begin(ctx);
    __u16 sum;

    if (!p)
        return 0;
    l4 += p->l4_off & 0xff;
    if (p->l4_proto == IPPROTO_TCP) {
        if (l4 + sizeof(struct tcphdr) > end)
            return 0;
        sum = ((struct tcphdr *)l4)->check;
    } else if (p->l4_proto == IPPROTO_UDP) {
        if (l4 + sizeof(struct udphdr) > end)
            return 0;
        sum = ((struct udphdr *)l4)->check;
    } else {
        return 0;
    }
    if (sum != pseudo_header_sum(p, &p->key))
        return 0;
    return complete_checksum(ctx, p->l4_off, p->l4_len,
                             checksum_offset(p->l4_proto));
}

#endif /* checksum.h */
