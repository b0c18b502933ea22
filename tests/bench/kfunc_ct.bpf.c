// SPDX-License-Identifier: GPL-2.0-only
/* ct() by the kernel's own connection tracker: each is a look-up by kfunc, with
 * a zone (Linux 6.11), in the network namespace that runs the program. */
#include "tests/bench/ct_rivals.bpf.h"

/* What <linux/netfilter/nf_conntrack_common.h> calls IPS_*. */
#define SEEN_REPLY 0x2
#define ASSURED 0x4
#define CONFIRMED 0x8
#define DYING 0x200

#define CURRENT_NETNS -1
#define BOTH_DIRECTIONS 3
#define TIMEOUT_MS 1000000

struct bpf_ct_opts {
    __s32 netns_id;
    __s32 error;
    __u8 l4proto;
    __u8 dir;
    __u16 ct_zone_id;
    __u8 ct_zone_dir;
    __u8 reserved[3];
};

struct nf_conn {
    unsigned long status;
    __u32 mark;
} __attribute__((preserve_access_index));

struct nf_conn___init {
    unsigned long status;
} __attribute__((preserve_access_index));

extern struct nf_conn___init *
bpf_xdp_ct_alloc(struct xdp_md *, struct bpf_sock_tuple *, __u32,
                 struct bpf_ct_opts *, __u32) __ksym;
extern struct nf_conn *bpf_ct_insert_entry(struct nf_conn___init *) __ksym;
extern void bpf_ct_set_timeout(struct nf_conn___init *, __u32) __ksym;
extern int bpf_ct_set_status(const struct nf_conn___init *, __u32) __ksym;
extern struct nf_conn *
bpf_xdp_ct_lookup(struct xdp_md *, struct bpf_sock_tuple *, __u32,
                  struct bpf_ct_opts *, __u32) __ksym;
extern int bpf_ct_change_timeout(struct nf_conn *, __u32) __ksym;
extern void bpf_ct_release(struct nf_conn *) __ksym;

static __always_inline struct bpf_sock_tuple
tuple_of(const struct xf_key *key)
{
    return (struct bpf_sock_tuple){
        .ipv4 = {.saddr = key->ipv4_src, .daddr = key->ipv4_dst,
                 .sport = key->tp_src, .dport = key->tp_dst}};
}

static __always_inline struct bpf_ct_opts
options_of(const struct xf_key *key, __u16 zone)
{
    return (struct bpf_ct_opts){
        .netns_id = CURRENT_NETNS, .l4proto = key->nw_proto,
        .ct_zone_id = zone, .ct_zone_dir = BOTH_DIRECTIONS};
}

/* No translation: that is not among what a program may read of nf_conn without
 * a look at its other tuple. */
static __always_inline bool
track(struct xdp_md *ctx, struct journey *j, const struct ct_rival_flow *flow)
{
    struct xf_key *key = &j->key;
    struct bpf_sock_tuple tuple = tuple_of(key);
    struct bpf_ct_opts opts = options_of(key, flow->zone);
    const unsigned long wanted = CONFIRMED | ASSURED | SEEN_REPLY;
    unsigned long status;
    struct nf_conn *ct;

    if (key->tcp_flags & bpf_htons(TCP_CLOSING) || flow->ct_flags & XF_CT_NAT)
        return false;
    ct = bpf_xdp_ct_lookup(ctx, &tuple, sizeof tuple.ipv4, &opts, sizeof opts);
    if (!ct)
        return false;
    status = ct->status;
    key->ct_mark = ct->mark;
    bpf_ct_change_timeout(ct, TIMEOUT_MS);
    bpf_ct_release(ct);
    if ((status & (wanted | DYING)) != wanted)
        return false;
    key->ct_state = OVS_CS_F_TRACKED | OVS_CS_F_ESTABLISHED
                    | (opts.dir ? OVS_CS_F_REPLY_DIR : 0);
    key->ct_zone = flow->zone;
    return true;
}

const volatile __u32 n_zones = 1;
__s32 error;                         /* Of the last insert(). */

/* Makes an established connection of the packet in the zones 1 to 'n_zones'. */
SEC("xdp")
int insert(struct xdp_md *ctx)
{
    struct xf_key key = {0};

    if (!parse(ctx, &key))
        return XDP_ABORTED;
    for (__u32 zone = 1; zone < CT_RIVAL_STAGES && zone <= n_zones; zone++) {
        struct bpf_sock_tuple tuple = tuple_of(&key);
        struct bpf_ct_opts opts = options_of(&key, zone);
        struct nf_conn___init *made;
        struct nf_conn *ct;

        made = bpf_xdp_ct_alloc(ctx, &tuple, sizeof tuple.ipv4, &opts,
                                sizeof opts);
        if (!made) {
            error = opts.error;
            return XDP_ABORTED;
        }
        bpf_ct_set_timeout(made, TIMEOUT_MS);
        bpf_ct_set_status(made, ASSURED | SEEN_REPLY);
        ct = bpf_ct_insert_entry(made);
        if (ct)
            bpf_ct_release(ct);
    }
    return XDP_PASS;
}

char _license[] SEC("license") = "GPL";
