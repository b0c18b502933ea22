/* SPDX-License-Identifier: GPL-2.0-only */
/* Look-up: struct xf_packet in, flow out.  xdp_flow_abi.h explains the tables.
 *
 * Nothing here trusts what it reads.  A stale or wrong bucket entry, subtable
 * or prediction fails the comparison with the flow's masked key.
 */
#ifndef XF_LOOKUP_H
#define XF_LOOKUP_H 1

#include "maps.h"
#include "parse.h"

#define barrier() asm volatile("" ::: "memory")

/* A megaflow that a packet has hit; 'flow' is null if there is none. */
struct xf_hit {
    struct xf_flow *flow;
    __u32 slot;
};

struct xf_walk_state {
    const struct xf_key *key;
    const struct xf_walk *walk;
    __u32 tried;                     /* Subtable that has been tried. */
    __u32 slot;                      /* The flow, 0 = none. */
};

/* True if 'key' under the subtable's mask is the key of 'flow'.  How many words
 * count is the subtable's to say, not the packet's class: the verifier then
 * need not follow each class on its own.  Those that a packet does not have are
 * zero, and its Ethernet type in word 0 is compared always. */
static __always_inline bool
key_matches(const struct xf_key *key, const struct xf_subtable *st,
            const struct xf_flow *flow)
{
    __u64 diff = 0;

#pragma unroll
    for (int i = 0; i < XF_SHORT_KEY_WORDS; i++)
        diff |= (key->word[i] & st->mask[i]) ^ flow->key[i];
    if (st->n_words > XF_SHORT_KEY_WORDS) {
#pragma unroll
        for (int i = XF_SHORT_KEY_WORDS; i < XF_KEY_WORDS; i++)
            diff |= (key->word[i] & st->mask[i]) ^ flow->key[i];
    }
    return !diff;
}

/* Must compute what FlowTable::hash() computes. */
static __always_inline __u64
masked_hash(const struct xf_key *key, const struct xf_subtable *st,
            __u32 subtable)
{
    __u64 sum = xf_hash_word(subtable, xf_secret[XF_KEY_WORDS]);

#pragma unroll
    for (int i = 0; i < XF_SHORT_KEY_WORDS; i++)
        sum += xf_hash_word(key->word[i] & st->mask[i], xf_secret[i]);
    if (st->n_words > XF_SHORT_KEY_WORDS) {
#pragma unroll
        for (int i = XF_SHORT_KEY_WORDS; i < XF_KEY_WORDS; i++)
            sum += xf_hash_word(key->word[i] & st->mask[i], xf_secret[i]);
    }
    return xf_hash_finish(sum);
}

static __always_inline __u32
probe_bucket(const struct xf_key *key, const struct xf_subtable *st,
             __u32 subtable, const struct xf_bucket *bucket, __u32 signature)
{
    for (int i = 0; i < XF_BUCKET_ENTRIES; i++) {
        __u64 entry = *(const volatile __u64 *)&bucket->entry[i];
        __u32 slot = entry;
        struct xf_flow *flow;

        if (entry >> 32 != signature)
            continue;
        flow = bpf_map_lookup_elem(&xf_flows, &slot);
        if (flow && flow->subtable == subtable
            && key_matches(key, st, flow))
            return slot;
    }
    return 0;
}

/* Returns the slot of the flow of 'subtable' that 'key' matches, 0 = none.
 *
 * This and walk_subtables() are global functions: the verifier checks them once
 * and on their own rather than once per way through the parser. */
__noinline __u32
find_in_subtable(const struct xf_key *key, __u32 subtable)
{
    const struct xf_bucket *bucket;
    const struct xf_subtable *st;
    __u32 signature, index, slot;
    __u64 hash;

    st = bpf_map_lookup_elem(&xf_subtables, &subtable);
    if (!st || !key)                 /* Never null; the verifier must see it. */
        return 0;
    hash = masked_hash(key, st, subtable);
    signature = xf_hash_signature(hash);

    index = xf_hash_bucket1(hash) & xf_bucket_mask;
    bucket = bpf_map_lookup_elem(&xf_buckets, &index);
    if (!bucket)
        return 0;
    slot = probe_bucket(key, st, subtable, bucket, signature);
    if (slot || !*(const volatile __u32 *)&bucket->overflow)
        return slot;

    index = xf_hash_bucket2(hash) & xf_bucket_mask;
    bucket = bpf_map_lookup_elem(&xf_buckets, &index);
    if (!bucket)
        return 0;
    return probe_bucket(key, st, subtable, bucket, signature);
}

/* bpf_loop() callback: tries the 'i'th subtable; 1 ends the walk. */
static long
walk_step(__u32 i, struct xf_walk_state *state)
{
    __u32 subtable;

    if (i >= XF_MAX_MASKS)
        return 1;
    subtable = state->walk->subtable[i];
    if (!subtable || subtable == state->tried)
        return 0;
    state->slot = find_in_subtable(state->key, subtable);
    return state->slot != 0;
}

/* Returns the slot of the flow that 'key' of class 'cls' matches, 0 = none:
 * tries all subtables in turn, except 'tried'. */
__noinline __u32
walk_subtables(const struct xf_key *key, __u32 cls, __u32 tried)
{
    struct xf_walk_state state = { .key = key, .tried = tried };

    if (!key)
        return 0;
    state.walk = bpf_map_lookup_elem(&xf_walks, &cls);
    if (!state.walk)
        return 0;
    bpf_loop(*(const volatile __u32 *)&state.walk->n, walk_step, &state, 0);
    return state.slot;
}

/* Spreads the fields that tell one packet of a flow from those of another flow
 * over the upper bits.  Cheap rather than good: a collision costs a look-up.
 * TCP flags (the upper bytes of word 1) differ within a flow and are left out.
 * The constants are 2^64 / golden ratio and 2^64 * (sqrt(2) - 1), both odd. */
static __always_inline __u64
cache_hash(const struct xf_packet *p)
{
    const __u64 *w = p->key.word;

    return (w[3] + w[0] + w[2] + p->digest) * 0x9e3779b97f4a7c15ULL
           + (w[4] + (w[1] << 16)) * 0x6a09e667f3bcc909ULL;
}

/* The flow that the cache entry predicts for 'p', if 'p' matches it.  The slot
 * may be any flow's by now, or no flow's: that of a flow which was removed is
 * not written again before this program ends. */
static __always_inline struct xf_hit
check_prediction(const struct xf_packet *p, __u64 entry)
{
    struct xf_hit hit = { .slot = entry };
    const struct xf_subtable *st;
    struct xf_flow *flow;
    __u32 subtable;

    flow = bpf_map_lookup_elem(&xf_flows, &hit.slot);
    if (!flow || !*(const volatile __u32 *)&flow->live)
        return hit;
    barrier();                       /* The rest is read after 'live'. */
    subtable = flow->subtable;
    st = bpf_map_lookup_elem(&xf_subtables, &subtable);
    if (st && key_matches(&p->key, st, flow))
        hit.flow = flow;
    return hit;
}

/* Finds the flow that 'p' matches. */
static __always_inline struct xf_hit
find_flow(const struct xf_packet *p, struct xf_cpu *self)
{
    __u64 hash = cache_hash(p), tag = hash & XF_CACHE_TAG;
    __u64 *cached = &self->cache[hash >> (64 - XF_CACHE_BITS)];
    struct xf_hit hit = {};
    __u32 subtable;

    if ((*cached & XF_CACHE_TAG) == tag) {
        hit = check_prediction(p, *cached);
        if (hit.flow)
            return hit;
    }
    subtable = *cached >> XF_CACHE_SUBTABLE_SHIFT & XF_CACHE_SUBTABLE;
    hit.slot = subtable ? find_in_subtable(&p->key, subtable) : 0;
    if (!hit.slot)
        hit.slot = walk_subtables(&p->key, p->cls, subtable);
    hit.flow = bpf_map_lookup_elem(&xf_flows, &hit.slot);
    if (!hit.slot || !hit.flow)
        return (struct xf_hit){};
    *cached = tag | hit.slot
              | (__u64)hit.flow->subtable << XF_CACHE_SUBTABLE_SHIFT;
    return hit;
}

#endif /* lookup.h */
