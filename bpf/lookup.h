/* SPDX-License-Identifier: GPL-2.0-only */
/* Look-up: struct xf_packet in, flow slot out.  xdp_flow_abi.h explains the
 * tables.
 *
 * Nothing here trusts what it reads.  A stale or wrong bucket entry, subtable
 * or prediction fails the comparison with the flow's masked key.
 */
#ifndef XF_LOOKUP_H
#define XF_LOOKUP_H 1

#include "maps.h"
#include "parse.h"

struct xf_walk_state {
    const struct xf_packet *packet;
    const struct xf_walk *walk;
    __u32 tried;                     /* Subtable that has been tried. */
    __u32 subtable;                  /* Where 'slot' was found. */
    __u32 slot;                      /* The flow, 0 = none. */
};

/* True if 'p' under 'mask' is the key of 'flow'.  Words 5 to 7 are only used,
 * and only looked at, by the classes that have them. */
static __always_inline bool
key_matches(const struct xf_packet *p, const __u64 *mask, const __u64 *key)
{
    __u64 diff = 0;

#pragma unroll
    for (int i = 0; i < XF_SHORT_KEY_WORDS; i++)
        diff |= (p->key.word[i] & mask[i]) ^ key[i];
    if (xf_class_words(p->cls) > XF_SHORT_KEY_WORDS) {
#pragma unroll
        for (int i = XF_SHORT_KEY_WORDS; i < XF_KEY_WORDS; i++)
            diff |= (p->key.word[i] & mask[i]) ^ key[i];
    }
    return !diff;
}

/* Must compute what masked_hash() in flowxlate/flow_table.cc computes. */
static __always_inline __u64
masked_hash(const struct xf_packet *p, const __u64 *mask, __u32 subtable)
{
    __u64 sum = xf_hash_word(subtable, xf_secret[XF_KEY_WORDS]);

#pragma unroll
    for (int i = 0; i < XF_SHORT_KEY_WORDS; i++)
        sum += xf_hash_word(p->key.word[i] & mask[i], xf_secret[i]);
    if (xf_class_words(p->cls) > XF_SHORT_KEY_WORDS) {
#pragma unroll
        for (int i = XF_SHORT_KEY_WORDS; i < XF_KEY_WORDS; i++)
            sum += xf_hash_word(p->key.word[i] & mask[i], xf_secret[i]);
    }
    return xf_hash_finish(sum);
}

static __always_inline __u32
probe_bucket(const struct xf_packet *p, const struct xf_bucket *bucket,
             const __u64 *mask, __u32 subtable, __u32 signature)
{
    for (int i = 0; i < XF_BUCKET_ENTRIES; i++) {
        __u64 entry = *(const volatile __u64 *)&bucket->entry[i];
        __u32 slot = entry;
        struct xf_flow *flow;

        if (entry >> 32 != signature)
            continue;
        flow = bpf_map_lookup_elem(&xf_flows, &slot);
        if (flow && flow->subtable == subtable
            && key_matches(p, mask, flow->key))
            return slot;
    }
    return 0;
}

/* Returns the slot of the flow of 'subtable' that 'p' matches, 0 = none.  Global
 * for the verifier's sake, as parse_packet() is. */
__noinline __u32
find_in_subtable(const struct xf_packet *p, __u32 subtable)
{
    const struct xf_bucket *bucket;
    const struct xf_subtable *st;
    __u32 signature, index, slot;
    __u64 hash;

    st = bpf_map_lookup_elem(&xf_subtables, &subtable);
    if (!st || !p)
        return 0;
    hash = masked_hash(p, st->mask, subtable);
    signature = xf_hash_signature(hash);

    index = xf_hash_bucket1(hash) & xf_bucket_mask;
    bucket = bpf_map_lookup_elem(&xf_buckets, &index);
    if (!bucket)
        return 0;
    slot = probe_bucket(p, bucket, st->mask, subtable, signature);
    if (slot || !*(const volatile __u32 *)&bucket->overflow)
        return slot;

    index = xf_hash_bucket2(hash) & xf_bucket_mask;
    bucket = bpf_map_lookup_elem(&xf_buckets, &index);
    if (!bucket)
        return 0;
    return probe_bucket(p, bucket, st->mask, subtable, signature);
}

/* bpf_loop() callback: tries the 'i'th subtable; 1 ends the walk. */
static long
walk_step(__u32 i, struct xf_walk_state *state)
{
    __u32 subtable;

    if (i >= XF_MAX_SUBTABLES)
        return 1;
    subtable = state->walk->subtable[i];
    if (!subtable || subtable == state->tried)
        return 0;
    state->slot = find_in_subtable(state->packet, subtable);
    state->subtable = subtable;
    return state->slot != 0;
}

/* Which mask cache entry predicts for 'p'.  Cheap rather than good: a
 * collision costs one look-up. */
static __always_inline __u32
mask_cache_index(const struct xf_packet *p)
{
    const __u64 *w = p->key.word;
    __u64 sum = w[0] ^ w[1] ^ (w[2] << 7) ^ w[3] ^ (w[4] << 13) ^ w[4];

    if (p->cls == XF_CLASS_IPV6)
        sum ^= w[5] ^ (w[6] << 19) ^ (w[7] << 3) ^ w[7];
    return sum * 0x9e3779b97f4a7c15ULL >> 40 & (XF_MASK_CACHE_SIZE - 1);
}

/* Returns the slot of the flow that 'p' matches, 0 = none. */
static __always_inline __u32
find_flow(const struct xf_packet *p)
{
    struct xf_walk_state state = { .packet = p };
    __u32 cls = p->cls, index, *predicted;
    const struct xf_walk *walk;
    __u32 n;

    walk = bpf_map_lookup_elem(&xf_walks, &cls);
    if (!walk)
        return 0;
    n = *(const volatile __u32 *)&walk->n;
    if (n <= 1)
        return n ? find_in_subtable(p, walk->subtable[0]) : 0;

    index = mask_cache_index(p);
    predicted = bpf_map_lookup_elem(&xf_mask_cache, &index);
    if (!predicted)
        return 0;
    state.tried = *predicted;
    if (state.tried) {
        state.slot = find_in_subtable(p, state.tried);
        if (state.slot)
            return state.slot;
    }
    state.walk = walk;
    bpf_loop(n, walk_step, &state, 0);
    if (state.slot)
        *predicted = state.subtable;
    return state.slot;
}

#endif /* lookup.h */
