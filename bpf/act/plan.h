/* SPDX-License-Identifier: GPL-2.0-only */
/* What all flows of a packet do together: tags, fields, and where it goes, added up in
 * a struct xf_plan before the packet is changed. */
#ifndef XF_ACT_PLAN_H
#define XF_ACT_PLAN_H 1

#include "bpf/act/growth.h"
#include "bpf/maps.h"
#include "bpf/packet/dp_hash.h"
#include "bpf/packet/parse.h"

/* The plan of a packet that stays as it is. */
static __always_inline void
begin_plan(struct xf_plan *plan, const struct xf_packet *p)
{
    plan->key = p->key;
    plan->act = (struct xf_action){};
    plan->conn = plan->n_cts = plan->sets = plan->tunnel = plan->padding = 0;
    plan->segment.now_ms = 0;
}

/* Takes the outermost tag off: one that an earlier stage has put there, or one
 * that the packet came with. */
static __always_inline void
plan_pop(struct xf_plan *plan)
{
    struct xf_key *key = &plan->key;

    if (plan->act.n_push) {
        plan->act.n_push--;
        plan->act.tag[0] = plan->act.tag[1];
    } else {
        plan->act.n_pop++;
    }
    key->vlan_tci = key->vlan2_tci;
    key->vlan2_tci = 0;
    key->tpids >>= 1;
}

static __always_inline int
plan_push(struct xf_plan *plan, struct xf_tag tag)
{
    struct xf_key *key = &plan->key;

    if (plan->act.n_push >= XF_MAX_TAGS || key->vlan2_tci)
        return XF_MISS_INTERNAL;     /* Such flows are refused. */
    plan->act.tag[1] = plan->act.tag[0];
    plan->act.tag[0] = tag;
    plan->act.n_push++;
    key->vlan2_tci = key->vlan_tci;
    key->vlan_tci = tag.tci | bpf_htons(XF_VLAN_PRESENT);
    key->tpids = (key->tpids << 1 & XF_TPID_INNER_AD)
                 | (tag.tpid == bpf_htons(ETH_P_8021AD) ? XF_TPID_OUTER_AD : 0);
    return XF_PARSED;
}

/* Does the rewrite set addresses or ports: what a connection is found by, and what a
 * transport checksum covers? */
static __always_inline bool
sets_tuple(const struct xf_rewrite *rewrite)
{
    __u64 bits = rewrite->mask[3] >> 32;

    for (int i = 5; i < XF_ND_WORD; i++)
        bits |= rewrite->mask[i];
    return bits;
}

/* Sets fields of the plan's key. */
static __always_inline void
plan_fields(struct xf_plan *plan, const struct xf_packet *p,
            const struct xf_rewrite *rewrite)
{
    for (int i = 0; i < XF_SET_WORDS; i++)
        plan->key.word[i] = (plan->key.word[i] & ~rewrite->mask[i])
                            | rewrite->value[i];
    if (p->nd_option != XF_ND_OPTION_SOURCE)
        plan->key.word[11] = 0;      /* What is not there cannot be set. */
    if (p->nd_option != XF_ND_OPTION_TARGET)
        plan->key.word[12] = 0;
    if (sets_tuple(rewrite))
        plan->conn = 0;              /* It may be one of another connection. */
}

/* Adds what 'act' does to the packet's tags, and where it goes. */
static __always_inline int
plan_tags(struct xf_plan *plan, const struct xf_packet *p,
          const struct xf_action *act, __u32 hash_basis)
{
    if (act->n_pop >= 1)
        plan_pop(plan);
    if (act->n_pop >= 2)
        plan_pop(plan);
    if (act->n_push >= 2 && plan_push(plan, act->tag[1]) != XF_PARSED)
        return XF_MISS_INTERNAL;
    if (act->n_push >= 1 && plan_push(plan, act->tag[0]) != XF_PARSED)
        return XF_MISS_INTERNAL;
    plan->act.verdict = act->verdict;
    plan->act.to = act->to;
    if (act->verdict >= XF_RECIRC)
        plan->key.recirc = act->to;
    if (act->verdict == XF_HASH_RECIRC)
        plan->key.dp_hash = symmetric_l4_hash(&plan->key, p->cls, hash_basis);
    return XF_PARSED;
}

/* What check_pkt_len counts of a packet as it came: not what is behind its IP packet,
 * as dp-netdev, or all of it that a ct() has left, as openvswitch.ko
 * (execute_check_pkt_len()). */
static __always_inline int
counted_len(const struct xf_plan *plan, const struct xf_packet *p)
{
    if (xf_kernel_datapath)
        return p->frame_len - plan->padding;
    return p->l4_off ? p->l4_off + p->l4_len : p->frame_len;
}

/* Can a packet with the plan's tags be looked up as OVS would parse it?  Tags
 * that OVS does not look behind would be an Ethernet type then. */
static __always_inline bool
tags_are_visible(const struct xf_plan *plan)
{
    __u32 n = !!plan->key.vlan_tci + !!plan->key.vlan2_tci;

    return n <= max_tags()
           && !(is_vlan(plan->key.eth_type)
                && (plan->act.n_pop || plan->act.n_push));
}

/* Is that what ICMPv6's type and code say?  If they are set, so that they say
 * something else, then the key has no longer what OVS would find. */
static __always_inline bool
is_nd(const struct xf_key *key, __u32 cls)
{
    __u8 type = bpf_ntohs(key->tp_src);

    return cls == XF_CLASS_IPV6 && key->nw_proto == XF_IPPROTO_ICMPV6
           && !key->tp_dst && (type == XF_ND_SOLICIT || type == XF_ND_ADVERT);
}

#endif /* plan.h */
