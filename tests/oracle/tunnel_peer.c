/* SPDX-License-Identifier: Apache-2.0 */
#include <config.h>

#include "tunnel_peer.h"

#include <stdlib.h>
#include <string.h>

#include "dp-packet.h"
#include "dpif.h"
#include "flow.h"
#include "hash.h"
#include "model_private.h"
#include "netdev-native-tnl.h"
#include "netdev-offload-plugin.h"
#include "netdev.h"
#include "netlink.h"
#include "odp-execute.h"
#include "odp-util.h"
#include "openvswitch/ofpbuf.h"
#include "ovs-router.h"
#include "packets.h"
#include "seq.h"
#include "smap.h"
#include "unaligned.h"
#include "util.h"

static struct netdev *devices[2];

static struct netdev *
open_device(const char *name, const char *type)
{
    struct smap args = SMAP_INITIALIZER(&args);
    struct netdev *device;
    char *error = NULL;

    if (netdev_open(name, type, &device)) {
        ovs_fatal(0, "%s: cannot be opened", name);
    }
    smap_add(&args, "remote_ip", "flow");
    smap_add(&args, "key", "flow");
    if (netdev_set_config(device, &args, &error)) {
        ovs_fatal(0, "%s: %s", name, error ? error : "cannot be configured");
    }
    smap_destroy(&args);
    return device;
}

void
tunnel_init(void)
{
    /* Configuring a tunnel asks for routes. */
    tnl_conf_seq = seq_create();
    ovs_router_init();
    devices[TUNNEL_GENEVE] = open_device("oracle_geneve", "geneve");
    devices[TUNNEL_VXLAN] = open_device("oracle_vxlan", "vxlan");
}

/* Packets. */

/* One of which OVS knows where its headers are, and its hash. */
static struct dp_packet *
create_packet(const void *frame, size_t len, uint32_t port)
{
    struct dp_packet *p = model_packet_create(frame, len, port);
    struct flow flow;

    model_packet_extract(p, &flow);
    return p;
}

static void
copy_frame(const struct dp_packet *p, struct tunnel_frame *to)
{
    to->len = dp_packet_size(p);
    ovs_assert(to->len <= sizeof to->data);
    memcpy(to->data, dp_packet_data(p), to->len);
}

bool
tunnel_pop(enum tunnel_kind kind, const void *frame, size_t len,
           unsigned n_tags, uint32_t port, struct tunnel_frame *inner,
           struct model_key *key)
{
    struct dp_packet *p = create_packet(frame, len, 1);
    struct dp_packet_batch batch;

    while (n_tags--) {
        eth_pop_vlan(p);
    }
    dp_packet_batch_init_packet(&batch, p);
    netdev_pop_header(devices[kind], &batch);
    if (dp_packet_batch_is_empty(&batch)) {
        return false;
    }
    p = batch.packets[0];
    p->md.in_port.odp_port = u32_to_odp(port);
    copy_frame(p, inner);
    memset(key, 0, sizeof *key);
    model_packet_extract(p, (struct flow *) key);
    dp_packet_delete(p);
    return true;
}

/* Matches. */

void
tunnel_match(const struct model_key *key, struct model_key *mask)
{
    const struct flow_tnl *tnl = &((const struct flow *) key)->tunnel;
    struct flow_tnl *m = &((struct flow *) mask)->tunnel;

    if (tnl->ip_dst) {
        m->ip_dst = m->ip_src = OVS_BE32_MAX;
    } else {
        memset(&m->ipv6_dst, 0xff, sizeof m->ipv6_dst);
        memset(&m->ipv6_src, 0xff, sizeof m->ipv6_src);
    }
    m->tun_id = OVS_BE64_MAX;
    m->flags = FLOW_TNL_F_MASK;
    m->ip_tos = m->ip_ttl = UINT8_MAX;
    memset(m->metadata.opts.gnv, 0xff, tnl->metadata.present.len);
}

size_t
tunnel_options(const struct model_key *key, const uint8_t **options)
{
    const struct flow_tnl *tnl = &((const struct flow *) key)->tunnel;

    *options = (const uint8_t *) tnl->metadata.opts.gnv;
    return tnl->flags & FLOW_TNL_F_UDPIF ? tnl->metadata.present.len : 0;
}

uint32_t
tunnel_hash(const struct model_key *key)
{
    const struct flow_tnl *tnl = &((const struct flow *) key)->tunnel;
    const uint8_t *options;
    size_t n = tunnel_options(key, &options);
    uint32_t hash = hash_bytes(options, n, n);

    hash = hash_bytes(&tnl->ipv6_src, sizeof tnl->ipv6_src, hash);
    hash = hash_bytes(&tnl->ipv6_dst, sizeof tnl->ipv6_dst, hash);
    hash = hash_2words((OVS_FORCE uint32_t) tnl->ip_src, hash);
    hash = hash_2words((OVS_FORCE uint32_t) tnl->ip_dst, hash);
    return hash_uint64_basis((OVS_FORCE uint64_t) tnl->tun_id, hash);
}

void
tunnel_set_options(struct model_key *key, bool one)
{
    struct flow_tnl *tnl = &((struct flow *) key)->tunnel;

    if (tnl->flags & FLOW_TNL_F_UDPIF) {
        memset(&tnl->metadata.opts, 0, sizeof tnl->metadata.opts);
        tnl->metadata.opts.gnv[0].length = 1;
        tnl->metadata.present.len = one ? 8 : 0;
    }
}

/* Actions. */

/* OVS makes options of OpenFlow's fields; here they are as they are. */
static void
put_options(struct ovs_action_push_tnl *push, const struct tunnel_spec *spec)
{
    struct genevehdr *gnh = ALIGNED_CAST(struct genevehdr *,
                                         (char *) push->header
                                         + push->header_len - sizeof *gnh);

    gnh->opt_len = spec->options_len / 4;
    memcpy(gnh->options, spec->options, spec->options_len);
    push->header_len += spec->options_len;
}

static void
build_header(const struct tunnel_spec *spec, struct ovs_action_push_tnl *push)
{
    struct netdev_tnl_build_header_params params;
    struct eth_addr dst_mac, src_mac;
    struct in6_addr src;
    struct flow flow;

    memset(&flow, 0, sizeof flow);
    memset(push, 0, sizeof *push);
    if (spec->v6) {
        memcpy(&src, spec->src, sizeof src);
        memcpy(&flow.tunnel.ipv6_dst, spec->dst, sizeof src);
    } else {
        in6_addr_set_mapped_ipv4(&src, get_unaligned_be32(
                                           (const ovs_be32 *) spec->src));
        flow.tunnel.ip_dst = get_unaligned_be32((const ovs_be32 *) spec->dst);
    }
    flow.tunnel.ip_tos = spec->tos;
    flow.tunnel.ip_ttl = spec->ttl;
    flow.tunnel.tun_id = htonll(spec->vni);
    flow.tunnel.flags = (spec->checksum ? FLOW_TNL_F_CSUM : 0)
                        | (spec->oam ? FLOW_TNL_F_OAM : 0)
                        | FLOW_TNL_F_DONT_FRAGMENT;
    memcpy(&dst_mac, spec->dst_mac, sizeof dst_mac);
    memcpy(&src_mac, spec->src_mac, sizeof src_mac);
    netdev_init_tnl_build_header_params(&params, &flow, &src, dst_mac,
                                        src_mac);
    if (netdev_build_header(devices[spec->kind], push, &params)) {
        ovs_fatal(0, "no header of a tunnel");
    }
    push->tnl_port = u32_to_odp(spec->kind);
    if (spec->options_len) {
        put_options(push, spec);
    }
}

static bool
put_texts(const char *const *texts, size_t n, struct ofpbuf *list)
{
    for (size_t i = 0; i < n; i++) {
        if (odp_actions_from_string(texts[i], NULL, list)) {
            return false;
        }
    }
    return true;
}

bool
tunnel_actions(const char *const *before, size_t n_before,
               const struct tunnel_spec *spec, const char *const *after,
               size_t n_after, struct model_bytes *own,
               struct model_bytes *abi)
{
    struct ovs_action_push_tnl push;
    struct ofpbuf list, abi_list;
    bool ok;

    ofpbuf_init(&list, 1024);
    ok = put_texts(before, n_before, &list);
    if (spec) {
        build_header(spec, &push);
        odp_put_tnl_push_action(&list, &push);
    }
    ok = put_texts(after, n_after, &list) && ok;
    ofpbuf_init(&abi_list, 1024);
    netdev_offload_plugin_put_actions(list.data, list.size, &abi_list);
    *own = model_take_bytes(&list);
    *abi = model_take_bytes(&abi_list);
    return ok;
}

struct model_bytes
tunnel_pop_actions(unsigned n_tags, uint32_t port)
{
    struct ofpbuf list, abi_list;

    ofpbuf_init(&list, 64);
    ofpbuf_init(&abi_list, 64);
    while (n_tags--) {
        nl_msg_put_flag(&list, OVS_ACTION_ATTR_POP_VLAN);
    }
    nl_msg_put_odp_port(&list, OVS_ACTION_ATTR_TUNNEL_POP, u32_to_odp(port));
    netdev_offload_plugin_put_actions(list.data, list.size, &abi_list);
    ofpbuf_uninit(&list);
    return model_take_bytes(&abi_list);
}

/* What dp_execute_cb() of dpif-netdev.c does, for one packet with one output. */
static void
execute_cb(void *out_, struct dp_packet_batch *batch, const struct nlattr *a,
           bool should_steal)
{
    const struct ovs_action_push_tnl *push;
    struct tunnel_frame *out = out_;

    switch (nl_attr_type(a)) {
    case OVS_ACTION_ATTR_OUTPUT:
        model_complete_checksums(batch->packets[0]);
        copy_frame(batch->packets[0], out);
        break;
    case OVS_ACTION_ATTR_TUNNEL_PUSH:
        ovs_assert(!should_steal);   /* Something is done with it then. */
        push = nl_attr_get(a);
        netdev_push_header(devices[odp_to_u32(push->tnl_port)],
#if OVS_RELEASE >= 400
                           NULL,     /* Where the packet has entered. */
#endif
                           batch, push);
        return;
    }
    dp_packet_delete_batch(batch, should_steal);
}

bool
tunnel_execute(const struct model_bytes *own, const void *frame, size_t len,
               uint32_t in_port, struct tunnel_frame *out)
{
    struct dp_packet_batch batch;

    out->len = 0;
    dp_packet_batch_init_packet(&batch, create_packet(frame, len, in_port));
    odp_execute_actions(out, &batch, true, own->data, own->size, execute_cb);
    return out->len != 0;
}

void
tunnel_port_range(uint16_t min, uint16_t max)
{
    tnl_udp_port_min = min;
    tnl_udp_port_max = max;
}
