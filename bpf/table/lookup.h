/* SPDX-License-Identifier: GPL-2.0-only */
/* Look-up: struct xf_packet in, flow out.  bpf/abi/flow.h explains the tables.
 *
 * Nothing here trusts what it reads.  A stale or wrong bucket entry, subtable
 * or prediction fails the comparison with the flow's masked key.
 */
#ifndef XF_TABLE_LOOKUP_H
#define XF_TABLE_LOOKUP_H 1

#include "bpf/maps.h"
#include "bpf/packet/parse.h"
#include "bpf/table/account.h"

/* A megaflow that a packet has hit; 'flow' is null if there is none. */
struct xf_hit {
    struct xf_flow *flow;
    __u32 slot;
};

#define XF_WALK_STRIDE 4             /* Subtables per call of the callback. */

struct xf_walk_state {
    const struct xf_key *key;
    __u32 next;                      /* Subtable to try next, 0 = none. */
    __u32 tried;                     /* Subtable that has been tried. */
    __u32 slot;                      /* The flow, 0 = none. */
};

/* Of the words FROM to TO - 1: 'diff' gets a bit where 'key' under the mask is not
 * the masked key in 'rest'. */
#define XF_COMPARE(FROM, TO)                                                  \
    _Pragma("unroll")                                                         \
    for (int i = FROM; i < TO; i++)                                           \
        diff |= (key->word[i] & st->mask[i])                                  \
                ^ rest->word[i - XF_SHORT_KEY_WORDS]

/* True if 'key' under the subtable's mask is the key of the flow in 'slot'. */
static __always_inline bool
key_matches(const struct xf_key *key, const struct xf_subtable *st,
            const struct xf_flow *flow, __u32 slot)
{
    const struct xf_key_rest *rest;
    __u32 segments = st->segments;
    __u64 diff = 0;

#pragma unroll
    for (int i = 0; i < XF_SHORT_KEY_WORDS; i++)
        diff |= (key->word[i] & st->mask[i]) ^ flow->key[i];
    if (diff || !segments)
        return !diff;

    rest = bpf_map_lookup_elem(&xf_key_rests, &slot);
    if (!rest)
        return false;
    if (segments & XF_SEGMENT_ADDRESSES) {
        XF_COMPARE(XF_ADDRESSES_WORD, XF_ND_WORD);
    }
    if (segments & XF_SEGMENT_ND) {
        XF_COMPARE(XF_ND_WORD, XF_INNER_WORD);
    }
    if (segments & XF_SEGMENT_INNER) {
        XF_COMPARE(XF_INNER_WORD, XF_LABEL_WORD);
    }
    if (segments & XF_SEGMENT_LABEL) {
        XF_COMPARE(XF_LABEL_WORD, XF_TUNNEL_WORD);
    }
    if (segments & XF_SEGMENT_TUNNEL) {
        XF_COMPARE(XF_TUNNEL_WORD, XF_KEY_WORDS);
    }
    return !diff;
}

/* Does an entry of a bucket or of the flow cache have this signature? */
static __always_inline bool
has_signature(__u32 entry, __u32 signature)
{
    return !((entry ^ signature) & ~xf_slot_mask);
}

/* Of the words FROM to TO - 1 under the mask: 'sum' grows by their hashes. */
#define XF_HASH(FROM, TO)                                                     \
    _Pragma("unroll")                                                         \
    for (int i = FROM; i < TO; i++)                                           \
        sum += xf_hash_word(key->word[i] & st->mask[i], xf_secret[i])

/* Must compute what FlowTable::hash() computes. */
static __always_inline __u64
masked_hash(const struct xf_key *key, const struct xf_subtable *st,
            __u32 subtable)
{
    __u64 sum = xf_hash_word(subtable, xf_secret[XF_KEY_WORDS]);
    __u32 segments = st->segments;

    XF_HASH(0, XF_SHORT_KEY_WORDS);
    if (segments & XF_SEGMENT_ADDRESSES) {
        XF_HASH(XF_ADDRESSES_WORD, XF_ND_WORD);
    }
    if (segments & XF_SEGMENT_ND) {
        XF_HASH(XF_ND_WORD, XF_INNER_WORD);
    }
    if (segments & XF_SEGMENT_INNER) {
        XF_HASH(XF_INNER_WORD, XF_LABEL_WORD);
    }
    if (segments & XF_SEGMENT_LABEL) {
        XF_HASH(XF_LABEL_WORD, XF_TUNNEL_WORD);
    }
    if (segments & XF_SEGMENT_TUNNEL) {
        XF_HASH(XF_TUNNEL_WORD, XF_KEY_WORDS);
    }
    return xf_hash_finish(sum);
}

/* Returns the slot of the flow of 'subtable' in the bucket that 'key' matches,
 * 0 = none.
 *
 * A global function, as those below: the verifier checks it once and on its own
 * rather than once per subtable and way through the parser. */
__noinline __u32
probe_bucket(const struct xf_key *key, __u32 subtable, __u32 index,
             __u32 signature)
{
    const struct xf_bucket *bucket = bpf_map_lookup_elem(&xf_buckets, &index);
    const struct xf_subtable *st = bpf_map_lookup_elem(&xf_subtables,
                                                       &subtable);

    if (!key || !bucket || !st)      /* Never null; the verifier must see it. */
        return 0;
    for (int i = 0; i < XF_BUCKET_ENTRIES; i++) {
        __u32 entry = *(const volatile __u32 *)&bucket->entry[i];
        __u32 slot = entry & xf_slot_mask;
        struct xf_flow *flow;

        /* Read anew each time, or the verifier remembers what it was compared
         * with, and follows each number of entries on its own. */
        if (i >= *(const volatile __u16 *)&bucket->used)
            break;
        if (!has_signature(entry, signature))
            continue;
        flow = bpf_map_lookup_elem(&xf_flows, &slot);
        if (flow && xf_subtable_of(flow) == subtable
            && key_matches(key, st, flow, slot))
            return slot;
    }
    return 0;
}

/* Returns the slot of the flow of 'subtable' that 'key' matches, 0 = none. */
static __always_inline __u32
search_subtable(const struct xf_key *key, __u32 subtable)
{
    __u32 signature, index, slot = 0;
    const struct xf_bucket *bucket;
    const struct xf_subtable *st;
    __u64 hash;

    st = bpf_map_lookup_elem(&xf_subtables, &subtable);
    if (!st)
        return 0;
    hash = masked_hash(key, st, subtable);
    signature = xf_hash_signature(hash);
    index = xf_hash_bucket1(hash) & xf_bucket_mask;
    bucket = bpf_map_lookup_elem(&xf_buckets, &index);
    if (!bucket)
        return 0;
    if (*(const volatile __u16 *)&bucket->used)
        slot = probe_bucket(key, subtable, index, signature);
    if (!slot && *(const volatile __u16 *)&bucket->overflow)
        slot = probe_bucket(key, subtable,
                            xf_hash_bucket2(hash) & xf_bucket_mask, signature);
    return slot;
}

/* The same.  Not inlined where it is called before a walk, whose callback has all this once
 * more: clang 19 keeps so much of it on the stack that six calls need more than the 512
 * bytes which the kernel gives them ("combined stack size of 6 calls is 528"). */
__noinline __u32
search_guessed(const struct xf_key *key, __u32 subtable)
{
    return key ? search_subtable(key, subtable) : 0;
}

/* bpf_loop() callback: tries the next few subtables; 1 ends the walk.  A few,
 * because on many CPUs a call costs as much as a look-up.
 *
 * A subtable is put before the others, and taken out by what leads past it, so
 * a reader meets all that were there when it began; a list that somebody else
 * has closed to a ring ends after XF_MAX_MASKS. */
static long
walk_step(__u32 step, struct xf_walk_state *state)
{
    (void)step;
    for (__u32 i = 0; i < XF_WALK_STRIDE; i++) {
        __u32 subtable = state->next;
        const struct xf_subtable *st;

        st = bpf_map_lookup_elem(&xf_subtables, &subtable);
        if (!subtable || !st)
            return 1;
        state->next = *(const volatile __u16 *)&st->next;
        if (subtable == state->tried)
            continue;
        state->slot = search_subtable(state->key, subtable);
        if (state->slot)
            return 1;
    }
    return 0;
}

/* Returns the slot of the flow that 'key' of class 'cls' matches, 0 = none.
 * Tries the guessed subtable, if there is one, then the others in turn.  The packet
 * has entered through 'in_port'. */
__noinline __u32
search(const struct xf_key *key, __u32 cls, __u32 guess,
       const struct xf_cpu *self, __u32 in_port)
{
    struct xf_walk_state state = { .key = key, .tried = guess };
    const struct xf_walk *walk;
    __u32 recirc;

    if (!key || !self)
        return 0;
    count_search(self, in_port);
    if (guess)
        state.slot = search_guessed(key, guess);
    if (state.slot)
        return state.slot;
    recirc = key->recirc;
    walk = bpf_map_lookup_elem(&xf_walks, &recirc);
    if (!walk)
        return 0;
    cls &= XF_WALK_CLASSES - 1;
    state.next = *(const volatile __u16 *)&walk->first[cls];
    bpf_loop(XF_MAX_MASKS / XF_WALK_STRIDE, walk_step, &state, 0);
    return state.slot;
}

/* The hash of the fields that tell one packet of a flow from those of another
 * flow, well mixed in its upper bits.  TCP flags (the upper bytes of word 1)
 * differ within a flow and are left out.  With secrets, or a sender could have
 * the flow cache predict wrongly all the time. */
static __always_inline __u64
cache_hash(const struct xf_packet *p)
{
    const __u64 *w = p->key.word;
    __u64 sum = p->digest + xf_hash_word(w[3] + w[0], xf_secret[3])
                + xf_hash_word(w[5] + w[XF_INNER_WORD], xf_secret[5])
                + xf_hash_word(w[2] + (w[1] << 16), xf_secret[2]);

    return (sum ^ sum >> 32) * XF_GOLDEN_RATIO;
}

/* The one of two entries that has the signature; any one if none has.  Without a
 * branch, which could not be predicted. */
static __always_inline __u32
choose_way(__u64 ways, __u32 signature)
{
    __u32 newer = ways, older = ways >> XF_CACHE_WAY_BITS;
    __u64 differs = (newer ^ signature) & ~xf_slot_mask;

    return newer ^ ((newer ^ older) & -(__u32)(-differs >> 63));
}

/* The flow that the cache predicts for 'key', if that matches it.  The slot may
 * be any flow's by now, or no flow's: that of a flow which was removed is not
 * written again before this program ends. */
static __always_inline struct xf_hit
check_prediction(const struct xf_key *key, __u32 slot)
{
    struct xf_hit hit = { .slot = slot };
    const struct xf_subtable *st;
    struct xf_flow *flow;
    __u32 subtable;

    flow = bpf_map_lookup_elem(&xf_flows, &slot);
    if (!flow)
        return hit;
    subtable = *(const volatile __u16 *)&flow->subtable;
    if (!(subtable & XF_FLOW_LIVE))
        return hit;
    barrier();                       /* The rest is read after it is live. */
    subtable &= ~XF_FLOW_LIVE;
    st = bpf_map_lookup_elem(&xf_subtables, &subtable);
    if (st && key_matches(key, st, flow, slot))
        hit.flow = flow;
    return hit;
}

/* Puts an entry in place of the set's oldest one.  With two stores of whole words, so
 * that what another CPU of the row reads or stores meanwhile are whole entries. */
static __always_inline void
remember(struct xf_cache_set *set, __u32 entry)
{
    volatile __u64 *ways = set->ways;
    __u64 newest = ways[0];

    ways[1] = ways[1] << XF_CACHE_WAY_BITS | newest >> XF_CACHE_WAY_BITS;
    ways[0] = newest << XF_CACHE_WAY_BITS | entry;
}

/* The set of the flow cache for keys with this hash. */
static __always_inline struct xf_cache_set *
find_set(const struct xf_cpu *self, __u64 hash)
{
    __u32 index = (self->row << xf_cache_bits) + (hash >> (64 - xf_cache_bits));

    return bpf_map_lookup_elem(&xf_flow_cache, &index);
}

/* The signature of a hash in the flow cache, in the upper bits of an entry. */
static __always_inline __u32
cache_signature(__u64 hash)
{
    return hash << xf_cache_bits >> 32;
}

/* The flow that the flow cache knows for keys with this hash, if 'key' matches
 * it. */
static __always_inline struct xf_hit
recall(const struct xf_key *key, const struct xf_cache_set *set, __u64 hash)
{
    __u32 signature = cache_signature(hash), entry;
    struct xf_hit hit = {};

    entry = choose_way(set->ways[0], signature);
    if (!has_signature(entry, signature))
        entry = choose_way(set->ways[1], signature);
    if (has_signature(entry, signature))
        hit = check_prediction(key, entry & xf_slot_mask);
    return hit;
}

/* The predictions of a CPU's row. */
static __always_inline struct xf_guesses *
find_guesses(const struct xf_cpu *self)
{
    __u32 row = self->row;

    return bpf_map_lookup_elem(&xf_guesses, &row);
}

/* Finds the flow that 'p' matches. */
static __always_inline struct xf_hit
find_flow(const struct xf_packet *p, const struct xf_cpu *self)
{
    __u64 hash = cache_hash(p);
    struct xf_cache_set *set = find_set(self, hash);
    struct xf_guesses *guesses;
    struct xf_hit hit = {};
    __u16 *guess;

    if (!set)
        return hit;
    hit = recall(&p->key, set, hash);
    if (hit.flow)
        return hit;
    guesses = find_guesses(self);
    if (!guesses)
        return hit;
    guess = &guesses->subtable[hash >> (64 - XF_GUESS_BITS)];
    hit.slot = search(&p->key, p->cls, *guess, self, in_port(p));
    hit.flow = bpf_map_lookup_elem(&xf_flows, &hit.slot);
    if (!hit.slot || !hit.flow)
        return (struct xf_hit){};
    *guess = xf_subtable_of(hit.flow);
    remember(set, (cache_signature(hash) & ~xf_slot_mask) | hit.slot);
    return hit;
}

/* Notes by which way the packet has come to its next flow: behind the flow in
 * 'slot', and with what ct() has said of it. */
static __always_inline void
note_way(struct xf_plan *plan, __u32 slot)
{
    __u64 way = xf_hash_word(plan->key.word[4], xf_secret[4])
                + slot * XF_GOLDEN_RATIO;
    __u64 hash;

    plan->way = (way ^ way >> 32) * XF_GOLDEN_RATIO;
    hash = plan->hash + plan->way;
    plan->next_hash = (hash ^ hash >> 32) * XF_GOLDEN_RATIO;
}

/* Returns the slot of the plan's next flow, if it is the one that the last
 * packet of this way had, or one that the flow cache knows; else 0.
 *
 * A global function, so that the verifier checks it once; search() is not called
 * from here, since that needs all of the stack that there is. */
__noinline __u32
predict_next(struct xf_plan *plan, const struct xf_cpu *self)
{
    const struct xf_cache_set *set;
    struct xf_guesses *guesses;
    struct xf_hit hit;
    __u32 *guess;

    if (!plan || !self)
        return 0;                    /* Never null; the verifier must see it. */
    guesses = find_guesses(self);
    if (!guesses)
        return 0;
    guess = &guesses->next_flow[plan->way >> (64 - XF_WAY_BITS)];
    hit = check_prediction(&plan->key, *guess);
    if (hit.flow)
        return hit.slot;
    set = find_set(self, plan->next_hash);
    if (!set)
        return 0;
    plan->guess = guesses->subtable[plan->way >> (64 - XF_GUESS_BITS)];
    hit = recall(&plan->key, set, plan->next_hash);
    if (!hit.flow)
        return 0;
    *guess = hit.slot;
    return hit.slot;
}

/* Has predict_next() know the flow in 'slot' the next time. */
__noinline __u32
learn_next(const struct xf_plan *plan, const struct xf_cpu *self, __u32 slot)
{
    const struct xf_flow *flow = bpf_map_lookup_elem(&xf_flows, &slot);
    struct xf_guesses *guesses;
    struct xf_cache_set *set;

    if (!plan || !self || !flow)
        return 0;                    /* Never null; the verifier must see it. */
    guesses = find_guesses(self);
    if (!guesses)
        return 0;
    set = find_set(self, plan->next_hash);
    if (!set)
        return 0;
    remember(set, (cache_signature(plan->next_hash) & ~xf_slot_mask) | slot);
    guesses->next_flow[plan->way >> (64 - XF_WAY_BITS)] = slot;
    guesses->subtable[plan->way >> (64 - XF_GUESS_BITS)] = xf_subtable_of(flow);
    return slot;
}

#endif /* lookup.h */
