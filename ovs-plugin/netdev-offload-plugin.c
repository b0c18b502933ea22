/*
 * Licensed under the Apache License, Version 2.0 (the "License");
 * you may not use this file except in compliance with the License.
 * You may obtain a copy of the License at:
 *
 *     http://www.apache.org/licenses/LICENSE-2.0
 *
 * Unless required by applicable law or agreed to in writing, software
 * distributed under the License is distributed on an "AS IS" BASIS,
 * WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
 * See the License for the specific language governing permissions and
 * limitations under the License.
 */

#include <config.h>
#include "netdev-offload-plugin.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conntrack.h"
#include "dp-packet.h"
#include "dpif.h"
#include "dpif-netdev.h"
#include "fatal-signal.h"
#include "flow.h"
#include "netdev-linux-private.h"
#include "netdev-native-tnl.h"
#include "netdev-offload-plugin-api.h"
#include "netdev-offload-plugin-compat.h"
#include "netdev-provider.h"
#include "netdev-vport.h"
#include "netlink.h"
#include "odp-util.h"
#include "openvswitch/dynamic-string.h"
#include "openvswitch/hmap.h"
#include "openvswitch/match.h"
#include "openvswitch/meta-flow.h"
#include "openvswitch/ofp-flow.h"
#include "openvswitch/ofpbuf.h"
#include "openvswitch/vlog.h"
#include "ovs-atomic.h"
#include "ovs-rcu.h"
#include "ovs-thread.h"
#include "ovs_offload_abi.h"
#include "seq.h"
#include "simap.h"
#include "smap.h"
#include "sset.h"
#include "unixctl.h"
#include "util.h"

VLOG_DEFINE_THIS_MODULE(netdev_offload_plugin);

BUILD_ASSERT_DECL(sizeof(ovs_u128) == OVS_OFFLOAD_UFID_LEN);

/* The plugin.  Written once by the main thread, before 'plugin_loaded' becomes
 * true, and constant from then on. */
static const struct ovs_offload_ops *ops;
static void *self;
static struct ovs_offload_ops plugin_ops; /* Where 'ops' points to: what an older
                                           * plugin lacks is NULL. */
static atomic_bool plugin_loaded = false;

/* False makes flow_put refuse.  Written by the main thread only. */
static atomic_bool plugin_enabled = false;

/* Are packets that match no flow handled, and are the ports there that the
 * database had at the start? */
static atomic_bool handles_misses = false;
static atomic_bool configured = false;

/* May all bridges have their OpenFlow rules? */
static atomic_bool has_rules = false;

/* Incremented when the plugin becomes enabled.  Main thread only. */
static unsigned int plugin_seq;

/* The same for the kernel datapath alone, whose flows must be installed anew
 * also when the plugin becomes disabled and when it asks for that. */
static atomic_count system_seq = ATOMIC_COUNT_INIT(0);

/* See netdev_offload_plugin_moves().  'changes' wakes the main thread for that
 * and for 'system_seq'. */
static atomic_count n_moves = ATOMIC_COUNT_INIT(0);
static struct seq *changes;

/* Ports of the userspace datapath that were ever offered to the plugin, and
 * whether ofproto's flows have still to be checked for the last of them. */
static atomic_count n_ports_offered = ATOMIC_COUNT_INIT(0);
static atomic_bool ports_unsettled = false;

/* ofproto's, which this library cannot call by name. */
static netdev_offload_plugin_tracer *tracer;

/* Is this thread learning?  See netdev_offload_plugin_set_learning(). */
DEFINE_STATIC_PER_THREAD_DATA(bool, learning, false);

/* The names of the netdevs that the user leaves out of the offload.  Main thread
 * only. */
static struct sset left_out_ports = SSET_INITIALIZER(&left_out_ports);

bool
netdev_offload_plugin_is_loaded(void)
{
    bool loaded;

    atomic_read_explicit(&plugin_loaded, &loaded, memory_order_acquire);
    return loaded;
}

const char *
offload_plugin_type(void)
{
    return ops->type;
}

bool
offload_plugin_is_enabled(void)
{
    bool enabled;

    atomic_read(&plugin_enabled, &enabled);
    return enabled;
}

static void
stats_to_dpif(const struct ovs_offload_stats *s, struct dpif_flow_stats *stats)
{
    memset(stats, 0, sizeof *stats);
    stats->n_packets = s->n_packets;
    stats->n_bytes = s->n_bytes;
    stats->used = s->used_ms;
    stats->tcp_flags = s->tcp_flags;
}

void
netdev_offload_plugin_fill_attrs(bool offloaded,
                                 struct dpif_flow_attrs *attrs)
{
    attrs->offloaded = offloaded;
    attrs->dp_layer = offloaded ? ops->type : "ovs";
    attrs->dp_extra_info = NULL;
    attrs->offer_again = false;
}

/* Flow operations by ufid alone. */

/* Stores in 'stats' what the flow 'ufid' has counted, taken or not; zeros if the
 * plugin does not execute it. */
int
offload_plugin_get_stats(const ovs_u128 *ufid, struct dpif_flow_stats *stats)
{
    struct ovs_offload_stats s = { .n_packets = 0 };
    int error = ops->flow_stats(self, (const uint8_t *) ufid, &s);

    stats_to_dpif(&s, stats);
    return error;
}

/* Stores in 'delta' what the flow 'ufid' has counted in the plugin's fast path
 * since the previous call, and in 'attrs', if nonnull, where the flow is
 * executed.  Returns 0 if that is the fast path, ENODATA if the plugin knows
 * the flow but does not execute it any more ('delta' is valid as well), ENOENT
 * if the plugin does not know the flow. */
int
netdev_offload_plugin_take(const ovs_u128 *ufid,
                           struct dpif_flow_stats *delta,
                           struct dpif_flow_attrs *attrs)
{
    struct ovs_offload_stats s = { .n_packets = 0 };
    int error;

    if (!netdev_offload_plugin_is_loaded()) {
        return ENOENT;
    }
    error = ops->flow_take(self, (const uint8_t *) ufid, &s);
    if (error && error != ENODATA) {
        return ENOENT;
    }
    stats_to_dpif(&s, delta);
    if (attrs) {
        netdev_offload_plugin_fill_attrs(!error, attrs);
    }
    return error;
}

/* Removes the flow 'ufid' from the plugin and stores in 'remaining' what it
 * has counted since the last netdev_offload_plugin_take().  Returns 0, or
 * ENOENT if the plugin does not know the flow. */
int
netdev_offload_plugin_del(const ovs_u128 *ufid,
                          struct dpif_flow_stats *remaining)
{
    struct ovs_offload_stats s = { .n_packets = 0 };
    int error;

    if (!netdev_offload_plugin_is_loaded()) {
        return ENOENT;
    }
    error = ops->flow_del(self, (const uint8_t *) ufid, &s);
    if (error && error != ENODATA) {
        return ENOENT;
    }
    stats_to_dpif(&s, remaining);
    return 0;
}

/* To be called by the thread that puts flows after a put that took 'usec', when it
 * has unlocked the mutex of the flows' figures.
 *
 * Whoever dumps or deletes flows needs that mutex for an instant, but once for
 * each flow, and the main thread may wait until all of that is done.  A mutex is
 * not fair: the next put would have it again before they have woken up. */
void
netdev_offload_plugin_rest(long long int usec)
{
    if (usec >= 1000) {
        xnanosleep(MIN(usec / 8, 50 * 1000) * 1000);
    }
}

/* What serialising a match leaves out
 * ------------------------------------
 *
 * odp-util does not serialise every match that OVS can have.  Fields of Neighbour
 * Discovery are left out unless ICMPv6 type and code are matched exactly, a match on
 * one of the two bits of fragments, and all that has no attribute, as IGMP's fields.
 * A plugin that does not learn of such bits matches too much.  So what was serialised
 * is parsed back, and compared with what it was made of. */

static bool
excludes(uint16_t value, uint16_t mask, uint16_t wanted)
{
    return (value ^ wanted) & mask;
}

/* Is it certain that no packet with the match 'flow' under 'mask' has a transport
 * header of this protocol?  miniflow_extract() takes ICMP for that over IPv6 as well,
 * and ICMPv6 over IPv4. */
static bool
excludes_proto(const struct flow *flow, const struct flow *mask, uint8_t proto)
{
    return !is_ip_any(flow) || excludes(flow->nw_proto, mask->nw_proto, proto)
           || flow->nw_frag & mask->nw_frag & FLOW_NW_FRAG_LATER;
}

static bool
excludes_nd(const struct flow *flow, const struct flow *mask)
{
    uint16_t type = ntohs(flow->tp_src), type_mask = ntohs(mask->tp_src);

    return excludes_proto(flow, mask, IPPROTO_ICMPV6)
           || flow->tp_dst & mask->tp_dst
           || (excludes(type, type_mask, ND_NEIGHBOR_SOLICIT)
               && excludes(type, type_mask, ND_NEIGHBOR_ADVERT));
}

/* Is it certain that no packet with the match 'flow' under 'mask', which has the
 * Ethernet type exactly, has a field with these prerequisites?  The field is zero in
 * all of them then, and need not be told. */
static bool
is_absent(enum mf_prereqs prereqs, const struct flow *flow,
          const struct flow *mask)
{
    switch (prereqs) {
    case MFP_NONE:
    case MFP_ETHERNET:
    case MFP_VLAN_VID:
        return false;
    case MFP_ARP:
        return (flow->dl_type != htons(ETH_TYPE_ARP)
                && flow->dl_type != htons(ETH_TYPE_RARP));
    case MFP_IPV4:
        return flow->dl_type != htons(ETH_TYPE_IP);
    case MFP_IPV6:
        return flow->dl_type != htons(ETH_TYPE_IPV6);
    case MFP_IP_ANY:
        return !is_ip_any(flow);
    case MFP_MPLS:
        return !eth_type_mpls(flow->dl_type);
    case MFP_NSH:
        return flow->dl_type != htons(ETH_TYPE_NSH);
    case MFP_CT_VALID:
        return mask->recirc_id == UINT32_MAX && !flow->recirc_id;
    case MFP_TCP:
        return excludes_proto(flow, mask, IPPROTO_TCP);
    case MFP_UDP:
        return excludes_proto(flow, mask, IPPROTO_UDP);
    case MFP_SCTP:
        return excludes_proto(flow, mask, IPPROTO_SCTP);
    case MFP_ICMPV4:
        return excludes_proto(flow, mask, IPPROTO_ICMP);
    case MFP_ICMPV6:
        return excludes_proto(flow, mask, IPPROTO_ICMPV6);
    case MFP_ND:
    case MFP_ND_SOLICIT:
    case MFP_ND_ADVERT:
        /* Either message may have either option, whatever OpenFlow says. */
        return excludes_nd(flow, mask);
    }
    return false;
}

/* IGMP's type and group have no fields in OpenFlow, and their places in struct flow
 * are those of fields that have. */
static bool
has_igmp(const struct flow *lost, const struct flow *flow,
         const struct flow *mask)
{
    return (lost->tp_src || lost->tp_dst || lost->igmp_group_ip4)
           && !excludes_proto(flow, mask, IPPROTO_IGMP);
}

static void
clear_field(struct flow *flow, const struct mf_field *mf)
{
    struct flow_wildcards wc;

    flow_wildcards_init_catchall(&wc);
    mf_mask_field(mf, &wc);
    for (size_t i = 0; i < FLOW_U64S; i++) {
        ((uint64_t *) flow)[i] &= ~((uint64_t *) &wc.masks)[i];
    }
}

/* Returns the name of a field that has a bit in 'lost' and that packets with the
 * match 'flow' under 'mask' may have; NULL if there is none. */
static const char *
name_of_lost(const struct flow *lost, const struct flow *flow,
             const struct flow *mask)
{
    struct flow left = *lost;

    if (mask->dl_type != OVS_BE16_MAX) {
        return "eth_type";
    } else if (has_igmp(lost, flow, mask)) {
        return "igmp";
    }
    for (int id = 0; id < MFF_N_IDS; id++) {
        const struct mf_field *mf = mf_from_id(id);
        union mf_value value;

        if (mf_is_tun_metadata(mf)) {
            continue;
        }
        mf_get_value(mf, lost, &value);
        if (!is_all_zeros(&value, mf->n_bytes)) {
            if (!is_absent(mf->prereqs, flow, mask)) {
                return mf->name;
            }
            clear_field(&left, mf);
        }
    }
    return is_all_zeros(&left, sizeof left) ? NULL : "untold_field";
}

/* Returns the name of a field that the match 'flow' under 'mask' matches and of
 * which 'key_buf' and 'mask_buf', which were made of it, do not tell; NULL if they
 * tell all. */
static const char *
find_untold(const struct flow *flow, const struct flow *mask,
            const struct ofpbuf *key_buf, const struct ofpbuf *mask_buf)
{
    /* Look at is_absent() and has_igmp() when there are new fields. */
    BUILD_ASSERT_DECL(FLOW_WC_SEQ == 42         /* 43: more registers. */
                      || FLOW_WC_SEQ == 43);
    const uint64_t *f = (const uint64_t *) flow, *m = (const uint64_t *) mask;
    struct flow key, lost;
    struct flow_wildcards told;
    uint64_t *k = (uint64_t *) &key, *t = (uint64_t *) &told.masks;
    char *error = NULL;
    bool unreadable;

    unreadable = odp_flow_key_to_flow(key_buf->data, key_buf->size, &key,
                                      &error) == ODP_FIT_ERROR;
    free(error);
    if (!unreadable) {
        unreadable = odp_flow_key_to_mask(mask_buf->data, mask_buf->size,
                                          &told, &key, &error)
                     == ODP_FIT_ERROR;
        free(error);
    }
    if (unreadable) {
        return "untold_field";
    }
    for (size_t i = 0; i < FLOW_U64S; i++) {
        ((uint64_t *) &lost)[i] = m[i] & (~t[i] | (f[i] ^ k[i]));
    }
    /* What enters through a device did not come out of a tunnel. */
    if (!flow_tnl_dst_is_set(&flow->tunnel)
        && !flow_tnl_src_is_set(&flow->tunnel)) {
        memset(&lost.tunnel, 0, sizeof lost.tunnel);
    }
    return (is_all_zeros(&lost, sizeof lost) ? NULL
            : name_of_lost(&lost, flow, &told.masks));
}

/* Appends the match of 'flow' under 'mask' to 'key_buf' and 'mask_buf' as
 * netlink attributes, as a plugin gets it: with OVS_OFFLOAD_KEY_UNTOLD if they do not
 * tell all of it. */
void
netdev_offload_plugin_put_match(const struct flow *flow,
                                const struct flow *mask,
                                struct ofpbuf *key_buf,
                                struct ofpbuf *mask_buf)
{
    struct odp_flow_key_parms parms = {
        .flow = flow,
        .mask = mask,
        /* All that OVS can express: what would not be serialized, the plugin
         * could not know to refuse. */
        .support = {
            .max_vlan_headers = SIZE_MAX,
            .max_mpls_depth = SIZE_MAX,
            .recirc = true,
            .ct_state = true,
            .ct_zone = true,
            .ct_mark = true,
            .ct_label = true,
            .ct_state_nat = true,
            .ct_orig_tuple = true,
            .ct_orig_tuple6 = true,
            .nd_ext = true,
        },
    };

    const char *untold;

    odp_flow_key_from_flow(&parms, key_buf);
    parms.key_buf = key_buf;
    odp_flow_key_from_mask(&parms, mask_buf);
    untold = find_untold(flow, mask, key_buf, mask_buf);
    if (untold) {
        nl_msg_put_string(key_buf, OVS_OFFLOAD_KEY_UNTOLD, untold);
    }
}

/* The layouts that ovs_offload_abi.h takes from OVS. */
BUILD_ASSERT_DECL(sizeof(struct ovs_offload_tunnel_push)
                  == offsetof(struct ovs_action_push_tnl, header));
BUILD_ASSERT_DECL(offsetof(struct ovs_offload_tunnel_push, header_len)
                  == offsetof(struct ovs_action_push_tnl, header_len));
BUILD_ASSERT_DECL(offsetof(struct ovs_offload_tunnel_push, type)
                  == offsetof(struct ovs_action_push_tnl, tnl_type));
BUILD_ASSERT_DECL(OVS_OFFLOAD_TUNNEL_VXLAN == OVS_VPORT_TYPE_VXLAN);
BUILD_ASSERT_DECL(OVS_OFFLOAD_TUNNEL_GENEVE == OVS_VPORT_TYPE_GENEVE);

/* OVS's own actions have numbers that mean others to the kernel.  Returns that of
 * 'type' in ovs_offload_abi.h. */
static uint16_t
abi_action(uint16_t type)
{
    switch (type) {
    case OVS_ACTION_ATTR_TUNNEL_PUSH:
        return OVS_OFFLOAD_ACTION_TUNNEL_PUSH;
    case OVS_ACTION_ATTR_TUNNEL_POP:
        return OVS_OFFLOAD_ACTION_TUNNEL_POP;
    default:
        return (type > OVS_ACTION_ATTR_TUNNEL_PUSH
                ? OVS_OFFLOAD_ACTION_PRIVATE : type);
    }
}

/* The reverse. */
static uint16_t
own_action(uint16_t type)
{
    switch (type) {
    case OVS_OFFLOAD_ACTION_TUNNEL_PUSH:
        return OVS_ACTION_ATTR_TUNNEL_PUSH;
    case OVS_OFFLOAD_ACTION_TUNNEL_POP:
        return OVS_ACTION_ATTR_TUNNEL_POP;
    default:
        return type;
    }
}

static void renumber_actions(struct nlattr *, size_t,
                             uint16_t (*number)(uint16_t));

/* Renumbers the list that a clone has, or one of a check_pkt_len. */
static void
renumber_list(struct nlattr *a, uint16_t (*number)(uint16_t))
{
    renumber_actions(CONST_CAST(struct nlattr *, nl_attr_get(a)),
                     nl_attr_get_size(a), number);
}

/* Renumbers both lists of a check_pkt_len. */
static void
renumber_lists(struct nlattr *a, uint16_t (*number)(uint16_t))
{
    struct nlattr *lists = CONST_CAST(struct nlattr *, nl_attr_get(a));
    struct nlattr *list;
    size_t left;

    NL_ATTR_FOR_EACH_UNSAFE (list, left, lists, nl_attr_get_size(a)) {
        if (nl_attr_type(list) != OVS_CHECK_PKT_LEN_ATTR_PKT_LEN) {
            renumber_list(list, number);
        }
    }
}

static void
renumber_actions(struct nlattr *actions, size_t actions_len,
                 uint16_t (*number)(uint16_t))
{
    struct nlattr *a;
    size_t left;

    NL_ATTR_FOR_EACH_UNSAFE (a, left, actions, actions_len) {
        uint16_t type = nl_attr_type(a);

        if (type == OVS_ACTION_ATTR_CLONE) {
            renumber_list(a, number);
        } else if (type == OVS_ACTION_ATTR_CHECK_PKT_LEN) {
            renumber_lists(a, number);
        } else if (number(type) != type) {
            a->nla_type = number(type);
        }
    }
}

/* Appends 'actions' to 'out' as ovs_offload_abi.h says. */
void
netdev_offload_plugin_put_actions(const struct nlattr *actions,
                                  size_t actions_len, struct ofpbuf *out)
{
    if (actions_len && nl_attr_type(actions) == OVS_ACTION_ATTR_DROP
        && NLA_ALIGN(actions->nla_len) >= actions_len) {
        return;
    }
    ofpbuf_put(out, actions, actions_len);
    renumber_actions(out->data, out->size, abi_action);
}

/* Has 'flow' more tags than are serialized while other_config:vlan-limit is
 * 'vlan_limit'?  It was extracted before the limit was lowered, and without the
 * tags that are missing it would match other packets. */
static bool
exceeds_vlan_limit(const struct flow *flow, int vlan_limit)
{
    return flow_count_vlan_headers(flow) > vlan_limit;
}

/* Offers a flow that enters through a port of the plugin in the datapath of type
 * 'dpif_type'.  'has_twin': see struct ovs_offload_flow. */
int
offload_plugin_put(const char *dpif_type, const struct match *match,
                   const struct nlattr *actions, size_t actions_len,
                   const ovs_u128 *ufid, bool has_twin)
{
    uint64_t key_stub[1024 / 8], mask_stub[1024 / 8], actions_stub[1024 / 8];
    struct ofpbuf key, mask, abi_actions;
    int vlan_limit = flow_vlan_limit;
    int error;

    if (!offload_plugin_is_enabled()
        || exceeds_vlan_limit(&match->flow, vlan_limit)) {
        return EOPNOTSUPP;
    }

    ofpbuf_use_stub(&key, key_stub, sizeof key_stub);
    ofpbuf_use_stub(&mask, mask_stub, sizeof mask_stub);
    ofpbuf_use_stub(&abi_actions, actions_stub, sizeof actions_stub);
    netdev_offload_plugin_put_match(&match->flow, &match->wc.masks, &key,
                                    &mask);
    netdev_offload_plugin_put_actions(actions, actions_len, &abi_actions);
    if (vlan_limit != flow_vlan_limit) {
        error = EOPNOTSUPP;     /* Which one counted cannot be told. */
        goto out;
    }

    /* No lock is held that host_port_ifindex() takes: the plugin calls it. */
    error = ops->flow_put(self, &(struct ovs_offload_flow) {
        .size = sizeof(struct ovs_offload_flow),
        .ufid = (const uint8_t *) ufid,
        .dpif_type = dpif_type,
        .key = key.data,
        .key_len = key.size,
        .mask = mask.data,
        .mask_len = mask.size,
        .actions = abi_actions.data,
        .actions_len = abi_actions.size,
        .vlan_limit = vlan_limit,
        .tunnel_port_min = tnl_udp_port_min,
        .tunnel_port_max = tnl_udp_port_max,
        .has_twin = has_twin,
    });
out:
    ofpbuf_uninit(&key);
    ofpbuf_uninit(&mask);
    ofpbuf_uninit(&abi_actions);
    return error;
}

/* Returns the index of the network device that 'netdev' drives, or -1 if it is
 * not a kernel device: tunnel ports have the index of a device of the kernel
 * datapath, and DPDK ports make one up.  For tunnel ports of the userspace
 * datapath returns a number of our own, see struct ovs_offload_port. */
static int
device_ifindex(struct netdev *netdev, const char *dpif_type)
{
    static atomic_count n_tunnels = ATOMIC_COUNT_INIT(0);
    int ifindex;

    if (netdev_vport_is_vport_class(netdev_get_class(netdev))) {
        return (!strcmp(dpif_type, "netdev")
                ? -2 - (int) atomic_count_inc(&n_tunnels) : -1);
    }
    ifindex = (is_netdev_linux_class(netdev_get_class(netdev))
               ? netdev_get_ifindex(netdev) : -1);
    return ifindex > 0 ? ifindex : -1;
}

/* Has the plugin add 'netdev', a port of the datapath of type 'dpif_type', which
 * is "netdev" or "system".  Stores in '*handle' the plugin's and in '*ifindex'
 * the index of the device that has the netdev's name now; another device may
 * have it later.  Returns 0 or EOPNOTSUPP or what the plugin says.
 *
 * The plugin loads a program and puts it on a device,
 * which takes the kernel tens of milliseconds, much longer on a busy machine,
 * and OVS adds all of its ports one after the other when it starts.  No other
 * thread shall wait for that in order to free memory: this thread is quiescent
 * meanwhile.  It is the main thread, which holds on to nothing here that RCU
 * could free: netdevs and datapaths have reference counts, and providers of
 * flow APIs are only added by this thread. */
static int
add_port(struct netdev *netdev, const char *dpif_type, void **port,
         int *ifindex)
{
    int error;

    *ifindex = device_ifindex(netdev, dpif_type);
    if (*ifindex == -1) {
        return EOPNOTSUPP;
    }
    if (!strcmp(dpif_type, "netdev")) {
        atomic_store(&ports_unsettled, true);
        atomic_count_inc(&n_ports_offered);
    }
    ovsrcu_quiesce_start();
    error = ops->port_add(self, &(struct ovs_offload_port) {
        .size = sizeof(struct ovs_offload_port),
        .ifindex = *ifindex,
        .name = netdev_get_name(netdev),
        .netdev_type = netdev_get_type(netdev),
        .dpif_type = dpif_type,
        .left_out = sset_contains(&left_out_ports, netdev_get_name(netdev)),
    }, port);
    ovsrcu_quiesce_end();
    return error;
}

void
offload_plugin_handle_init(struct offload_plugin_handle *h)
{
    ovs_rwlock_init(&h->rwlock);
    ovs_rwlock_wrlock(&h->rwlock);
    h->port = NULL;
    ovs_rwlock_unlock(&h->rwlock);
}

void
offload_plugin_handle_destroy(struct offload_plugin_handle *h)
{
    ovs_rwlock_destroy(&h->rwlock);
}

int
offload_plugin_handle_open(struct offload_plugin_handle *h,
                           struct netdev *netdev, const char *dpif_type,
                           int *ifindex)
{
    void *port;
    int error = add_port(netdev, dpif_type, &port, ifindex);

    if (!error) {
        ovs_rwlock_wrlock(&h->rwlock);
        h->port = port;
        ovs_rwlock_unlock(&h->rwlock);
    }
    return error;
}

void
offload_plugin_handle_close(struct offload_plugin_handle *h)
{
    ovs_rwlock_wrlock(&h->rwlock);
    if (h->port) {
        ops->port_del(self, h->port);
        h->port = NULL;
    }
    ovs_rwlock_unlock(&h->rwlock);
}

int
offload_plugin_handle_flush(struct offload_plugin_handle *h)
{
    int error;

    ovs_rwlock_rdlock(&h->rwlock);
    error = h->port ? ops->flow_flush(self, h->port) : 0;
    ovs_rwlock_unlock(&h->rwlock);
    return error;
}

uint64_t
offload_plugin_handle_n_flows(struct offload_plugin_handle *h)
{
    uint64_t n;

    ovs_rwlock_rdlock(&h->rwlock);
    n = h->port ? ops->n_flows(self, h->port) : 0;
    ovs_rwlock_unlock(&h->rwlock);
    return n;
}

/* Quiescent meanwhile, as in add_port(): a program may have to be loaded. */
bool
offload_plugin_handle_set_left_out(struct offload_plugin_handle *h,
                                   bool left_out)
{
    bool has_port;

    ovs_rwlock_rdlock(&h->rwlock);
    has_port = h->port != NULL;
    if (has_port) {
        ovsrcu_quiesce_start();
        ops->port_set_left_out(self, h->port, left_out);
        ovsrcu_quiesce_end();
    }
    ovs_rwlock_unlock(&h->rwlock);
    return has_port;
}

/* A signal ends the process without closing its netdevs.  Hook for
 * fatal_signal_add_hook() that leaves the devices without our programs all the
 * same, unless they are to stay. */
static void
plugin_close_ports(void *aux OVS_UNUSED)
{
    netdev_offload_plugin_leave();
    offload_plugin_api_close_ports();
}

/* What the database says of an interface, and is told. */

/* Leaves 'netdev' out of the offload, or not, as its interface's 'other_config'
 * says.  To be called by the main thread before the netdev is added to a datapath,
 * and whenever 'other_config' may have changed. */
void
netdev_offload_plugin_configure_port(struct netdev *netdev,
                                     const struct smap *other_config)
{
    const char *name = netdev_get_name(netdev);
    bool left_out;
    char *key;

    /* A plugin that is loaded later is told then: the database has changed. */
    if (!netdev_offload_plugin_is_loaded() || !ops->port_set_left_out) {
        return;
    }
    key = xasprintf("%s-offload", ops->type);
    left_out = !smap_get_bool(other_config, key, true);
    free(key);
    if (left_out == sset_contains(&left_out_ports, name)) {
        return;
    } else if (left_out) {
        sset_add(&left_out_ports, name);
    } else {
        sset_find_and_delete(&left_out_ports, name);
    }
    if (offload_plugin_api_set_left_out(netdev, left_out)) {
        netdev_change_seq_changed(netdev);      /* For its status. */
    }
}

/* Adds to 'status' how the plugin serves 'netdev', and why not better. */
void
netdev_offload_plugin_get_status(const struct netdev *netdev,
                                 struct smap *status)
{
    const char *mode = NULL;
    char *reason;

    if (!netdev_offload_plugin_is_loaded() || !ops->port_status) {
        return;
    }
    reason = ops->port_status(self, netdev_get_name(netdev), &mode);
    if (mode) {
        smap_add_nocopy(status, xasprintf("%s_offload", ops->type),
                        xstrdup(mode));
        if (reason) {
            smap_add_nocopy(status, xasprintf("%s_offload_reason", ops->type),
                            xstrdup(reason));
        }
    }
    free(reason);
}

/* Services for the plugin. */

static void
host_log(enum ovs_offload_log_level level, const char *line)
{
    VLOG(level >= OVS_OFFLOAD_LOG_ERR ? VLL_ERR
         : level == OVS_OFFLOAD_LOG_WARN ? VLL_WARN
         : level == OVS_OFFLOAD_LOG_INFO ? VLL_INFO : VLL_DBG,
         "%s", line);
}

static int
host_port_ifindex(const char *dpif_type, uint32_t odp_port)
{
    return offload_plugin_api_port_ifindex(dpif_type, u32_to_odp(odp_port));
}

/* Tells the datapath that flows have become homeless (see
 * netdev-offload-plugin-system.h). */
void
netdev_offload_plugin_flows_moved(void)
{
    atomic_count_inc(&n_moves);
    seq_change(changes);
}

/* Tells the plugin whether packets that match no flow are handled. */
void
netdev_offload_plugin_set_handles_misses(bool enable)
{
    atomic_store_relaxed(&handles_misses, enable);
}

/* Tells the plugin that the configuration in the database is in place. */
void
netdev_offload_plugin_configured(void)
{
    atomic_store_relaxed(&configured, true);
}

/* Tells the plugin whether all bridges may have their OpenFlow rules, as far
 * as is known: not before a controller that they have is connected. */
void
netdev_offload_plugin_set_has_rules(bool complete)
{
    atomic_store_relaxed(&has_rules, complete);
}

/* Tells the plugin that its flows shall survive this process, which is about
 * to end. */
void
netdev_offload_plugin_leave(void)
{
    if (netdev_offload_plugin_is_loaded() && ops->leave) {
        ops->leave(self);
    }
}

static void
host_offer_again(void)
{
    atomic_count_inc(&system_seq);
    seq_change(changes);
}

static bool
add_port_name(const char *name, odp_port_t port, void *names)
{
    odp_portno_names_set(names, port, CONST_CAST(char *, name));
    return false;
}

/* The length of the flow's key without OVS_OFFLOAD_KEY_UNTOLD. */
static size_t
told_len(const struct ovs_offload_flow *f)
{
    const struct nlattr *untold = nl_attr_find__(f->key, f->key_len,
                                                 OVS_OFFLOAD_KEY_UNTOLD);

    return untold ? (const char *) untold - (const char *) f->key : f->key_len;
}

static char *
host_flow_text(const struct ovs_offload_flow *f)
{
    struct hmap names = HMAP_INITIALIZER(&names);
    struct nlattr *actions = xmemdup(f->actions, f->actions_len);
    struct ds ds = DS_EMPTY_INITIALIZER;

    renumber_actions(actions, f->actions_len, own_action);
    offload_plugin_api_for_each_port(f->dpif_type, add_port_name, &names);
    compat_odp_flow_format(f->key, told_len(f), f->mask, f->mask_len, &names,
                           &ds);
    ds_put_cstr(&ds, ", actions:");
    format_odp_actions(&ds, actions, f->actions_len, &names);
    free(actions);
    odp_portno_names_destroy(&names);
    hmap_destroy(&names);
    return ds_steal_cstr(&ds);
}

/* Wakes threads for netdev_offload_plugin_take_copy().  They may wait for it
 * before there is a plugin. */
static struct seq *
copies(void)
{
    static struct ovsthread_once once = OVSTHREAD_ONCE_INITIALIZER;
    static struct seq *seq;

    if (ovsthread_once_start(&once)) {
        seq = seq_create();
        ovsthread_once_done(&once);
    }
    return seq;
}

static bool
add_port_number(const char *name, odp_port_t port, void *names)
{
    simap_put(names, name, odp_to_u32(port));
    return false;
}

/* Returns the match of a line that dpctl/dump-flows prints, without the ufid
 * before it and what comes after it.  The caller must free it. */
static char *
dumped_match(const char *line)
{
    const char *end = strstr(line, ", packets:");

    if (!strncmp(line, "ufid:", 5)) {
        line += strcspn(line, ",");
        line += strspn(line, ", ");
    }
    return end > line ? xmemdup0(line, end - line) : xstrdup(line);
}

/* Stores in '*flow' the flow of a line that dpctl/dump-flows prints.  Returns
 * NULL or what is wrong, which the caller must free. */
static char *
parse_dumped_flow(const char *line, struct flow *flow)
{
    struct simap names = SIMAP_INITIALIZER(&names);
    char *match = dumped_match(line);
    struct ofpbuf key, mask;
    char *error = NULL;

    offload_plugin_api_for_each_port("netdev", add_port_number, &names);
    offload_plugin_api_for_each_port("system", add_port_number, &names);
    ofpbuf_init(&key, 0);
    ofpbuf_init(&mask, 0);
    if (!odp_flow_from_string(match, &names, &key, &mask, &error)) {
        free(error);
        error = NULL;
        if (odp_flow_key_to_flow(key.data, key.size, flow, &error)
            != ODP_FIT_ERROR) {
            free(error);
            error = NULL;
        }
    }
    ofpbuf_uninit(&key);
    ofpbuf_uninit(&mask);
    simap_destroy(&names);
    free(match);
    return error;
}

static char *
host_compose(const char *text, uint8_t **frame, size_t *size)
{
    struct dp_packet packet;
    struct flow flow;
    char *error;

    error = (strchr(text, '(')
             ? parse_dumped_flow(text, &flow)
             : parse_ofp_exact_flow(&flow, NULL, NULL, text, NULL));
    if (error) {
        return error;
    }
    /* A datapath flow that does not look at addresses has none in its text,
     * and would be taken for one of packets without an Ethernet header. */
    flow.packet_type = htonl(PT_ETH);
    dp_packet_init(&packet, 0);
    compat_flow_compose(&packet, &flow, NULL, 64);
    *size = dp_packet_size(&packet);
    *frame = xmemdup(dp_packet_data(&packet), *size);
    dp_packet_uninit(&packet);
    return NULL;
}

static char *
host_trace(const char *dpif_type, const char *port, const char *hex)
{
    return tracer ? tracer(dpif_type, port, hex) : NULL;
}

void
netdev_offload_plugin_set_tracer(netdev_offload_plugin_tracer *f)
{
    tracer = f;
}

static void
host_copies_ready(void)
{
    seq_change(copies());
}

static bool
host_handles_misses(void)
{
    bool enabled, complete;

    atomic_read_relaxed(&handles_misses, &enabled);
    atomic_read_relaxed(&configured, &complete);
    return enabled && complete;
}

static bool
host_has_rules(void)
{
    bool complete;

    atomic_read_relaxed(&has_rules, &complete);
    return complete;
}

struct port_query {
    const char *name;
    bool found;
};

static bool
has_name(const char *name, odp_port_t port OVS_UNUSED, void *query_)
{
    struct port_query *query = query_;

    query->found = !strcmp(name, query->name);
    return query->found;
}

static bool
host_has_port(const char *dpif_type, const char *name)
{
    struct port_query query = { .name = name, .found = false };

    offload_plugin_api_for_each_port(dpif_type, has_name, &query);
    return query.found;
}

/* Complete once plugin_open() has filled in 'symmetric_l4_probe'. */
static struct ovs_offload_host host = {
    .size = sizeof host,
    .abi = OVS_OFFLOAD_ABI,
    .ovs_version = VERSION,
    .log = host_log,
    .port_ifindex = host_port_ifindex,
    .flows_lost = netdev_offload_plugin_flows_moved,
    .offer_again = host_offer_again,
    .flow_text = host_flow_text,
    .handles_misses = host_handles_misses,
    .copies_ready = host_copies_ready,
    .compose = host_compose,
    .trace = host_trace,
    .has_rules = host_has_rules,
    .is_enabled = offload_plugin_is_enabled,
    .has_port = host_has_port,
    .finds_dont_fragment = COMPAT_FINDS_DONT_FRAGMENT,
};

static uint32_t
symmetric_l4_probe(void)
{
    const struct flow flow = {
        .dl_type = htons(ETH_TYPE_IP),
        .nw_proto = IPPROTO_TCP,
        .nw_src = htonl(0x0a000001),
        .nw_dst = htonl(0x0a000002),
        .tp_src = htons(1),
        .tp_dst = htons(2),
    };

    return flow_hash_symmetric_l3l4(&flow, 0, false);
}

static void
plugin_run_command(struct unixctl_conn *conn, int argc, const char *argv[],
                   void *command_)
{
    const struct ovs_offload_command *command = command_;
    char *reply = command->run(self, argc, argv);

    unixctl_command_reply(conn, reply);
    free(reply);
}

/* Loading. */

/* Plugins are found by name: a path from the database would let whoever can
 * write there run code with the privileges of this process. */
static bool
plugin_name_is_valid(const char *name)
{
    return *name && !name[strspn(name, "abcdefghijklmnopqrstuvwxyz"
                                       "0123456789-")];
}

/* Checks that nobody but root and the user we run as could have put a file
 * there.  Returns NULL or what is wrong, which the caller must free. */
static char *
check_owner(const char *path, bool dir)
{
    const char *what = dir ? "directory" : "file";
    struct stat st;

    /* lstat() for the file: the directory that a symbolic link leads to would
     * need the same check. */
    if (dir ? stat(path, &st) : lstat(path, &st)) {
        return xasprintf("cannot examine its %s: %s", what,
                         ovs_strerror(errno));
    } else if (dir ? !S_ISDIR(st.st_mode) : !S_ISREG(st.st_mode)) {
        return xasprintf("it is not a %s", dir ? what : "regular file");
    } else if (st.st_uid && st.st_uid != geteuid()) {
        return xasprintf("its %s belongs to another user (uid %u)", what,
                         (unsigned int) st.st_uid);
    } else if (st.st_mode & (S_IWGRP | S_IWOTH)) {
        return xasprintf("its %s is writable by group or others", what);
    }
    return NULL;
}

static bool
ops_are_complete(const struct ovs_offload_ops *o)
{
    return o->type && o->init && o->port_add && o->port_del && o->flow_put
           && o->flow_del && o->flow_stats && o->flow_take && o->flow_flush
           && o->n_flows && (o->commands || !o->n_commands);
}

/* The bytes of its table of operations that a plugin must have: an older one may
 * lack what was appended since. */
#define NEEDED_OPS OFFSETOFEND(struct ovs_offload_ops, ct_use)

/* Checks that 'o' can be used as plugin 'name'.  Returns NULL or what is
 * wrong, which the caller must free. */
static char *
check_ops(const struct ovs_offload_ops *o, const char *name)
{
    if (!o) {
        return xasprintf("%s() returned nothing", OVS_OFFLOAD_PLUGIN_SYMBOL);
    } else if (o->abi != OVS_OFFLOAD_ABI) {
        return xasprintf("it has ABI version %"PRIu32", but this program "
                         "needs %d", o->abi, OVS_OFFLOAD_ABI);
    } else if (o->size < NEEDED_OPS) {
        return xasprintf("its table of operations has %"PRIu32" bytes, but "
                         "this program needs %"PRIuSIZE, o->size,
                         (size_t) NEEDED_OPS);
    } else if (!ops_are_complete(o)) {
        return xstrdup("its table of operations is incomplete");
    } else if (strcmp(o->type, name)) {
        return xasprintf("it is of type '%s'", o->type);
    }
    return NULL;
}

/* The options of a plugin in the database, as of the last look. */
static struct smap options_seen = SMAP_INITIALIZER(&options_seen);

static bool
is_option_of(const struct ovs_offload_ops *o, const char *key)
{
    size_t n = strlen(o->type);

    return !strncmp(key, o->type, n) && !strncmp(key + n, "-offload-", 9);
}

static bool
options_have_changed(const struct ovs_offload_ops *o,
                     const struct smap *other_config)
{
    const struct smap_node *node;
    size_t n = 0;

    SMAP_FOR_EACH (node, other_config) {
        if (is_option_of(o, node->key)) {
            const char *seen = smap_get(&options_seen, node->key);

            if (!seen || strcmp(seen, node->value)) {
                return true;
            }
            n++;
        }
    }
    return n != smap_count(&options_seen);
}

/* Notes the options of plugin 'o' and returns them, '*n' of them.  The caller must
 * free the array, but not what is in it. */
static struct ovs_offload_option *
see_options(const struct ovs_offload_ops *o, const struct smap *other_config,
            size_t *n)
{
    struct ovs_offload_option *options;
    const struct smap_node *node;

    smap_clear(&options_seen);
    SMAP_FOR_EACH (node, other_config) {
        if (is_option_of(o, node->key)) {
            smap_add(&options_seen, node->key, node->value);
        }
    }
    options = xmalloc(smap_count(&options_seen) * sizeof *options);
    *n = 0;
    SMAP_FOR_EACH (node, &options_seen) {
        options[*n].key = node->key;
        options[(*n)++].value = node->value;
    }
    return options;
}

/* Calls the plugin's init() with the options meant for it. */
static int
plugin_init(const struct ovs_offload_ops *o, const struct smap *other_config,
            void **selfp)
{
    size_t n;
    struct ovs_offload_option *options = see_options(o, other_config, &n);
    int error = o->init(&host, options, n, selfp);

    free(options);
    return error;
}

/* Tells the plugin of options that are not those any more which it knows. */
static void
plugin_tell_options(const struct smap *other_config)
{
    if (ops->options_changed && options_have_changed(ops, other_config)) {
        size_t n;
        struct ovs_offload_option *options
            = see_options(ops, other_config, &n);

        ops->options_changed(self, options, n);
        free(options);
    }
}

/* Returns a copy of 'error', a message of the dynamic linker, without the
 * 'path' that most begin with. */
static char *
strip_path(const char *error, const char *path)
{
    size_t n = strlen(path);

    return xstrdup(!strncmp(error, path, n) && !strncmp(error + n, ": ", 2)
                   ? error + n + 2 : error);
}

/* Opens the plugin 'name' in 'path' and sets it up.  Returns NULL or why that
 * failed, which the caller must free. */
static char *
plugin_open(const char *name, const char *path,
            const struct smap *other_config)
{
    void *dl = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    const struct ovs_offload_ops *o;
    ovs_offload_plugin_get_fn *get;
    char *reason;
    int error;

    if (!dl) {
        return strip_path(dlerror(), path);
    }
    get = (ovs_offload_plugin_get_fn *) dlsym(dl, OVS_OFFLOAD_PLUGIN_SYMBOL);
    if (!get) {
        reason = strip_path(dlerror(), path);
        dlclose(dl);
        return reason;
    }
    if (!changes) {
        changes = seq_create();
    }
    o = get();
    reason = check_ops(o, name);
    if (reason) {
        dlclose(dl);
        return reason;
    }
    host.symmetric_l4_probe = symmetric_l4_probe();
    error = plugin_init(o, other_config, &self);
    if (error) {
        /* Stays open: whatever it has started may still be running. */
        return xasprintf("initialization failed (%s)", ovs_strerror(error));
    }
    memcpy(&plugin_ops, o, MIN(o->size, sizeof plugin_ops));
    ops = &plugin_ops;
    return NULL;
}

/* Makes the plugin in 'ops' and 'self' available to OVS. */
static void
plugin_register(void)
{
    size_t i;

    offload_plugin_api_register();
    for (i = 0; i < ops->n_commands; i++) {
        const struct ovs_offload_command *c = &ops->commands[i];

        unixctl_command_register(c->name, c->usage, c->min_args, c->max_args,
                                 plugin_run_command,
                                 CONST_CAST(struct ovs_offload_command *, c));
    }
    fatal_signal_add_hook(plugin_close_ports, NULL, NULL, true);
    atomic_store_explicit(&plugin_loaded, true, memory_order_release);
}

/* Loads the plugin 'name'.  On failure logs one line that says why. */
static bool
plugin_load(const char *name, const struct smap *other_config)
{
    const char *dir = secure_getenv("OVS_OFFLOAD_PLUGIN_DIR");
    char *reason, *path;

    if (!plugin_name_is_valid(name)) {
        VLOG_ERR("other_config:hw-offload-plugin \"%s\" is not a plugin name "
                 "(lower-case letters, digits and '-')", name);
        return false;
    }

    dir = dir && *dir ? dir : OVS_OFFLOAD_PLUGIN_DIR;
    path = xasprintf("%s/ovs-offload-%s.so", dir, name);
    reason = check_owner(dir, true);
    if (!reason) {
        reason = check_owner(path, false);
    }
    if (!reason) {
        reason = plugin_open(name, path, other_config);
    }
    if (!reason) {
        plugin_register();
        VLOG_INFO("loaded offload plugin '%s' from %s", name, path);
    } else {
        VLOG_ERR("cannot use offload plugin '%s' (%s): %s",
                 name, path, reason);
    }
    free(reason);
    free(path);
    return ops != NULL;
}

static void
plugin_set_enabled(bool enabled)
{
    if (enabled == offload_plugin_is_enabled()) {
        return;
    }
    VLOG_INFO("flow offload by plugin '%s' is %s", ops->type,
              enabled ? "enabled" : "disabled");
    atomic_store(&plugin_enabled, enabled);
    if (enabled) {
        plugin_seq++;
    } else {
        atomic_count_inc(&system_seq);
        offload_plugin_api_flush();
    }
}

/* Loads, enables or disables a plugin as 'other_config' says.  To be called by
 * the main thread whenever 'other_config' may have changed.  Returns true if a
 * plugin was loaded by this call: the ports have not been offered to it. */
bool
netdev_offload_plugin_configure(const struct smap *other_config)
{
    bool hw_offload = smap_get_bool(other_config, "hw-offload", false);
    const char *name = smap_get_def(other_config, "hw-offload-plugin", "");
    static char *last_name = NULL;   /* As of the last look, "" if none. */
    bool newly_loaded = false;

    if (!last_name) {
        last_name = xstrdup("");
    }
    offload_plugin_api_configure(other_config);
    /* A failure is not retried until the name changes. */
    if ((hw_offload || !*name) && strcmp(name, last_name)) {
        free(last_name);
        last_name = xstrdup(name);
        if (*name && !ops) {
            newly_loaded = plugin_load(name, other_config);
        } else if (*name && strcmp(name, ops->type)) {
            VLOG_WARN("plugin '%s' stays loaded, disabled: using '%s' "
                      "instead takes a restart", ops->type, name);
        }
    }
    if (ops) {
        plugin_set_enabled(hw_offload && !strcmp(name, ops->type));
        plugin_tell_options(other_config);
    }
    return newly_loaded;
}

/* Returns a number that changes each time when all flows of the datapaths of
 * type 'dpif_type' must be offered (again).  To be called by the main
 * thread. */
unsigned int
netdev_offload_plugin_seq(const char *dpif_type)
{
    return (!strcmp(dpif_type, "netdev") ? plugin_seq
            : !strcmp(dpif_type, "system")
            ? plugin_seq + atomic_count_get(&system_seq) : 0);
}

/* Returns a number that changes before a port number of the userspace datapath
 * means a device that it did not mean before. */
unsigned int
netdev_offload_plugin_ports(void)
{
    return atomic_count_get(&n_ports_offered);
}

/* To be called by the main thread, which adds the ports, when it has told the
 * revalidators to check all flows of the datapaths of type 'dpif_type' if a
 * port has been added. */
void
netdev_offload_plugin_ports_settled(const char *dpif_type)
{
    if (!strcmp(dpif_type, "netdev")) {
        atomic_store(&ports_unsettled, false);
    }
}

/* Would the plugin take flow 'ufid' of the userspace datapath, which it does
 * not execute, if it was put again now?
 *
 * Never between the addition of a port and the request to revalidate: a flow
 * that sends to its number may be meant for its predecessor. */
bool
netdev_offload_plugin_wants(const ovs_u128 *ufid)
{
    bool unsettled;

    if (!netdev_offload_plugin_is_loaded() || !offload_plugin_is_enabled()
        || !ops->flow_wanted) {
        return false;
    }
    atomic_read(&ports_unsettled, &unsettled);
    return !unsettled && ops->flow_wanted(self, (const uint8_t *) ufid);
}

/* Returns a number that changes each time when flows of the datapaths of type
 * 'dpif_type' have become homeless, so that revalidators should look at them
 * soon. */
unsigned int
netdev_offload_plugin_moves(const char *dpif_type)
{
    return strcmp(dpif_type, "system") ? 0 : atomic_count_get(&n_moves);
}

/* To be called by the main thread before it reads the numbers above; returns
 * what netdev_offload_plugin_wait() takes to wake it when they change. */
uint64_t
netdev_offload_plugin_changes(void)
{
    return changes ? seq_read(changes) : 0;
}

void
netdev_offload_plugin_wait(uint64_t seen)
{
    if (changes) {
        seq_wait(changes, seen);
    }
}

/* Returns a copy of a packet that the plugin executes as an earlier process told
 * it, and for which it has no flow of this one's, or NULL.  Where it is not
 * known how the packet continues there are zeros.  The caller owns it. */
struct dp_packet *
netdev_offload_plugin_take_copy(const char *dpif_type)
{
    struct ovs_offload_copy copy = { .size = sizeof copy };
    struct dp_packet *packet;
    odp_port_t port;

    if (!netdev_offload_plugin_is_loaded() || !ops->take_copy) {
        return NULL;
    }
    do {
        if (ops->take_copy(self, dpif_type, &copy)) {
            return NULL;
        }
        port = offload_plugin_api_ifindex_to_port(copy.ifindex);
    } while (!port);                 /* It may be gone. */

    packet = dp_packet_new_with_headroom(copy.frame_len, DP_NETDEV_HEADROOM);
    dp_packet_put(packet, copy.data, copy.data_len);
    dp_packet_put_zeros(packet, copy.frame_len - copy.data_len);
    pkt_metadata_init(&packet->md, port);
    return packet;
}

/* Like netdev_offload_plugin_changes() and netdev_offload_plugin_wait(), for
 * copies. */
uint64_t
netdev_offload_plugin_copies(void)
{
    return seq_read(copies());
}

void
netdev_offload_plugin_copies_wait(uint64_t seen)
{
    seq_wait(copies(), seen);
}

/* Until it is told otherwise, this thread puts flows for copies of packets.  If
 * there is a flow with the same match already, such a packet is no sign that
 * this flow is not executed where it is. */
void
netdev_offload_plugin_set_learning(bool enable)
{
    *learning_get() = enable;
}

bool
netdev_offload_plugin_is_learning(void)
{
    return *learning_get();
}

/* Has the plugin, which must be loaded, execute ct() for packets of the
 * connections in 'ct', those of a userspace datapath, until 'ct' is
 * destroyed. */
void
netdev_offload_plugin_attach_conntrack(struct conntrack *ct)
{
    int error = conntrack_offload_attach(ct, ops, self);

    if (error == EBUSY) {
        VLOG_WARN("there is more than one userspace datapath: plugin '%s' "
                  "executes ct() in none of them", ops->type);
    } else if (error && error != EOPNOTSUPP) {
        VLOG_WARN("plugin '%s' does not execute ct() (%s)", ops->type,
                  ovs_strerror(error));
    }
}
