/* SPDX-License-Identifier: GPL-2.0-only */
/* OVS's symmetric L3/L4 hash (OVS_HASH_ALG_SYM_L4), by which the groups of an
 * OpenFlow pipeline choose a bucket.
 *
 * It has to be the very value that OVS computes for the same packet, or the
 * packets of one connection would choose different buckets here and there.  It
 * is MurmurHash3 (A. Appleby, public domain) over the exclusive or of source
 * and destination.  An OVS that was compiled for CPUs with SSE 4.2 uses CRC32c
 * instead; user space finds out (ovs_offload_abi.h) and refuses such flows.
 */
#ifndef XF_PACKET_DP_HASH_H
#define XF_PACKET_DP_HASH_H 1

#include "bpf/packet/parse.h"

#define XF_VLAN_VID 0x0fff

static __always_inline __u32
rotate_left(__u32 x, int n)
{
    return x << n | x >> (32 - n);
}

static __always_inline __u32
murmur_add(__u32 hash, __u32 data)
{
    hash ^= rotate_left(data * 0xcc9e2d51, 15) * 0x1b873593;
    return rotate_left(hash, 13) * 5 + 0xe6546b64;
}

static __always_inline __u32
murmur_finish(__u32 hash, __u32 final)
{
    hash ^= final;
    hash = (hash ^ hash >> 16) * 0x85ebca6b;
    hash = (hash ^ hash >> 13) * 0xc2b2ae35;
    return hash ^ hash >> 16;
}

/* Of other packets than IPv4 and IPv6. */
static __always_inline __u32
symmetric_l2_hash(const struct xf_key *key, __u32 basis)
{
    __u64 macs = (key->word[1] ^ key->word[2]) & XF_LOW_6_BYTES;
    __u32 vids = (key->vlan_tci ^ key->vlan2_tci) & bpf_htons(XF_VLAN_VID);
    __u32 hash = murmur_add(basis, key->eth_type | vids << 16);

    hash = murmur_add(hash, macs);
    return murmur_finish(murmur_add(hash, macs >> 32), basis);
}

/* UDP ports are left out, as in OVS. */
static __always_inline __u32
symmetric_l4_hash(const struct xf_key *key, __u32 cls, __u32 basis)
{
    __u32 hash = basis;
    __u64 a, b;

    if (cls == XF_CLASS_IPV4) {
        hash = murmur_add(hash, key->ipv4_src ^ key->ipv4_dst);
    } else if (cls == XF_CLASS_IPV6) {
        a = key->word[5] ^ key->word[7];
        b = key->word[6] ^ key->word[8];
        hash = murmur_add(murmur_add(hash, a), a >> 32);
        hash = murmur_add(murmur_add(hash, b), b >> 32);
    } else {
        return symmetric_l2_hash(key, basis);
    }
    hash = murmur_add(hash, key->nw_proto);
    if (key->nw_frag == XF_FRAG_NONE
        && (key->nw_proto == IPPROTO_TCP || key->nw_proto == XF_IPPROTO_SCTP))
        hash = murmur_add(hash, (__be16)(key->tp_src ^ key->tp_dst));
    return murmur_finish(hash, basis);
}

#endif /* dp_hash.h */
