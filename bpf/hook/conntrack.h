/* SPDX-License-Identifier: GPL-2.0-only */
/* The kernel's connection tracker, as programs may ask it: its types, as far as they
 * are read, found by BTF, and the functions that all hooks have.  They are weak, since
 * nf_conntrack may not be there; who calls them knows that it is. */
#ifndef XF_HOOK_CONNTRACK_H
#define XF_HOOK_CONNTRACK_H 1

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

/* What the kernel's headers call BPF_F_CURRENT_NETNS and NF_CT_DEFAULT_ZONE_DIR. */
#define XF_CURRENT_NETNS -1
#define XF_BOTH_DIRECTIONS 3

/* Of net/netfilter/nf_conntrack_bpf.c since Linux 6.11: what is before the zone is all
 * that there was until then. */
struct bpf_ct_opts {
    __s32 netns_id;
    __s32 error;
    __u8 l4proto;
    __u8 dir;                        /* Of the packet, where the look-up succeeds. */
    __u16 ct_zone_id;
    __u8 ct_zone_dir;
    __u8 reserved[3];
};

/* Of the kernel's, <net/netfilter/nf_conntrack.h>: what is read of them. */
union nf_inet_addr {
    __u32 all[4];
} __attribute__((preserve_access_index));
union nf_conntrack_man_proto {
    __be16 all;
} __attribute__((preserve_access_index));
struct nf_conntrack_man {
    union nf_inet_addr u3;
    union nf_conntrack_man_proto u;
} __attribute__((preserve_access_index));
struct nf_conntrack_tuple {
    struct nf_conntrack_man src;
    struct {
        union nf_inet_addr u3;
        union {
            __be16 all;
        } u;
    } dst;
} __attribute__((preserve_access_index));
struct nf_conntrack_tuple_hash {
    struct nf_conntrack_tuple tuple;
} __attribute__((preserve_access_index));
struct ip_ct_tcp {
    __u8 state;
} __attribute__((preserve_access_index));
union nf_conntrack_proto {
    struct ip_ct_tcp tcp;
} __attribute__((preserve_access_index));
struct nf_ct_ext {
    __u8 offset[1];
} __attribute__((preserve_access_index));
enum nf_ct_ext_id {
    NF_CT_EXT_HELPER = 0,
    NF_CT_EXT_TIMEOUT = 6,           /* The kernel's configuration decides. */
    NF_CT_EXT_LABELS = 7,
    NF_CT_EXT_ACT_CT = 9,            /* As well. */
};
struct nf_conn {
    __u32 timeout;
    struct nf_conntrack_tuple_hash tuplehash[2];
    unsigned long status;
    struct nf_conn *master;
    __u32 mark;
    struct nf_ct_ext *ext;
    union nf_conntrack_proto proto;
} __attribute__((preserve_access_index));

extern int bpf_ct_change_timeout(struct nf_conn *, __u32) __ksym __weak;
extern void bpf_ct_release(struct nf_conn *) __ksym __weak;

#endif /* conntrack.h */
