/* SPDX-License-Identifier: GPL-2.0-only */
/* From a packet's tuple to its connection. */
#ifndef XF_CONN_FIND_H
#define XF_CONN_FIND_H 1

#include "bpf/maps.h"
#include "bpf/packet/parse.h"

#define XF_ICMP_ECHO_REPLY 0         /* RFC 792. */
#define XF_ICMP_ECHO_REQUEST 8
#define XF_ICMP6_ECHO_REQUEST 128    /* RFC 4443. */
#define XF_ICMP6_ECHO_REPLY 129

/* OVS takes packets to or from these ports for those of application level
 * gateways, whoever asks (get_alg_ctl_type()). */
#define XF_FTP_PORT 21
#define XF_TFTP_PORT 69

/* May OVS be looking at the payload for an application level gateway? */
static __always_inline bool
is_alg_control(const struct xf_key *key)
{
    if (key->nw_proto == IPPROTO_TCP)
        return key->tp_src == bpf_htons(XF_FTP_PORT)
               || key->tp_dst == bpf_htons(XF_FTP_PORT);
    return key->nw_proto == IPPROTO_UDP
           && key->tp_dst == bpf_htons(XF_TFTP_PORT);
}

/* Stores in '*ports' what tells the connection of a packet with 'key' beside its
 * addresses.  Returns false for what OVS finds invalid, or related. */
static __always_inline bool
find_ports(const struct xf_key *key, __u32 cls, const struct xf_segment *s,
           __u32 *ports)
{
    __u8 type = bpf_ntohs(key->tp_src);
    bool is_echo;

    if (key->nw_proto == IPPROTO_TCP || key->nw_proto == IPPROTO_UDP) {
        *ports = key->word[3] >> 32;
        return key->tp_src && key->tp_dst && !is_alg_control(key);
    }
    is_echo = cls == XF_CLASS_IPV4
              ? type == XF_ICMP_ECHO_REQUEST || type == XF_ICMP_ECHO_REPLY
              : type == XF_ICMP6_ECHO_REQUEST || type == XF_ICMP6_ECHO_REPLY;
    *ports = s->icmp_id | (__u32)type << 16;
    return is_echo && !key->tp_dst;
}

/* The type that answers an echo request or reply. */
static __always_inline __u32
reverse_echo(__u32 type, __u32 cls)
{
    return cls == XF_CLASS_IPV4 ? type ^ XF_ICMP_ECHO_REQUEST ^ XF_ICMP_ECHO_REPLY
                                : type ^ XF_ICMP6_ECHO_REQUEST
                                      ^ XF_ICMP6_ECHO_REPLY;
}

/* What a connection is looked for by: the packet's tuple, or the reverse. */
static __always_inline void
make_conn_key(struct xf_conn_key *to, const struct xf_key *key, __u32 cls,
              __u32 ports, __u16 zone, bool reverse)
{
    bool is_icmp = key->nw_proto != IPPROTO_TCP
                   && key->nw_proto != IPPROTO_UDP;

    to->addr[0] = key->word[5];
    to->addr[1] = to->addr[2] = to->addr[3] = 0;
    if (cls == XF_CLASS_IPV6) {
        to->addr[0] = key->word[reverse ? 7 : 5];
        to->addr[1] = key->word[reverse ? 8 : 6];
        to->addr[2] = key->word[reverse ? 5 : 7];
        to->addr[3] = key->word[reverse ? 6 : 8];
    } else if (reverse) {
        to->addr[0] = to->addr[0] << 32 | to->addr[0] >> 32;
    }
    if (reverse)
        ports = is_icmp ? (ports & 0xffff) | reverse_echo(ports >> 16, cls) << 16
                        : ports << 16 | ports >> 16;
    to->id = ports | (__u64)zone << 32 | (__u64)key->nw_proto << 48
             | (__u64)cls << 56;
}

/* A connection that 'key' names is there, but another one of the same tuple is
 * found instead, or is about to be. */
#define XF_CONN_HIDDEN (~0U)

/* Returns the index in the bucket that 'key' names, 0 = none, or XF_CONN_HIDDEN. */
__noinline __u32
probe_connections(const struct xf_conn_key *key, __u32 index,
                  __u32 signature)
{
    const struct xf_bucket *bucket;
    __u32 hidden = 0;

    bucket = bpf_map_lookup_elem(&xf_conn_buckets, &index);
    if (!key || !bucket)             /* Never null; the verifier must see it. */
        return 0;
    for (int i = 0; i < XF_BUCKET_ENTRIES; i++) {
        __u32 entry = *(const volatile __u32 *)&bucket->entry[i];
        __u32 found = entry & xf_conn_mask;
        const struct xf_conn *conn;

        if (i >= *(const volatile __u16 *)&bucket->used)
            break;                   /* Read anew: see probe_bucket(). */
        if ((entry ^ signature) & ~xf_conn_mask)
            continue;
        conn = bpf_map_lookup_elem(&xf_conns, &found);
        if (!conn || *(const __u64 *)&conn->ports != key->id
            || (conn->addr[0] ^ key->addr[0])
               | (conn->addr[1] ^ key->addr[1])
               | (conn->addr[2] ^ key->addr[2])
               | (conn->addr[3] ^ key->addr[3]))
            continue;
        if (*(const volatile __u8 *)&conn->live)
            return found;
        hidden = XF_CONN_HIDDEN;
    }
    return hidden;
}

/* The index of the connection that 'key' names, 0 = none, or XF_CONN_HIDDEN. */
static __always_inline __u32
find_connection(const struct xf_conn_key *key)
{
    __u64 hash = xf_conn_hash(key, xf_secret);
    __u32 signature = xf_hash_signature(hash), found = 0;
    __u32 index = xf_hash_bucket1(hash) & xf_conn_bucket_mask;
    const struct xf_bucket *bucket;

    bucket = bpf_map_lookup_elem(&xf_conn_buckets, &index);
    if (!bucket)
        return 0;
    if (*(const volatile __u16 *)&bucket->used)
        found = probe_connections(key, index, signature);
    if ((!found || found == XF_CONN_HIDDEN)
        && *(const volatile __u16 *)&bucket->overflow)
        found = probe_connections(key, xf_hash_bucket2(hash)
                                           & xf_conn_bucket_mask, signature)
                ?: found;
    return found;
}

#endif /* find.h */
