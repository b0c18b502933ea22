/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Hashing.  One multiplication per word, none of which waits for another: the
 * NH family (J. Black et al., UMAC, CRYPTO '99), which is almost universal
 * under random 'secret' words, then a finalizer that spreads the sum over all bits.
 * 'secret' is drawn at random per start, so nobody outside can aim at a bucket. */
#ifndef XF_ABI_HASH_H
#define XF_ABI_HASH_H 1

#include <linux/types.h>

#define XF_GOLDEN_RATIO 0x9e3779b97f4a7c15ULL /* 2^64 divided by it. */

static inline __u64 xf_hash_word(__u64 word, __u64 secret)
{
    __u32 lo = (__u32)word + (__u32)secret;
    __u32 hi = (__u32)(word >> 32) + (__u32)(secret >> 32);

    return (__u64)lo * hi;
}

static inline __u64 xf_hash_finish(__u64 sum)
{
    sum ^= sum >> 32;
    sum *= XF_GOLDEN_RATIO;
    return sum ^ (sum >> 29);
}

/* The parts of a masked key's hash: signature (its upper bits, as many as an
 * entry has), first and second bucket, each to be masked with the number of
 * buckets - 1. */
static inline __u32 xf_hash_signature(__u64 hash)
{
    return (__u32)(hash >> 32);
}

static inline __u32 xf_hash_bucket1(__u64 hash)
{
    return (__u32)hash;
}

static inline __u32 xf_hash_bucket2(__u64 hash)
{
    return (__u32)hash ^ ((__u32)(hash >> 33) * 0x5bd1e995U | 1);
}

#endif /* hash.h */
