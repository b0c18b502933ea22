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
#include "netdev-offload-plugin-dpif.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "dpif-netdev-dpcls.h"
#include "dpif-netdev-flow.h"
#include "dpif-offload.h"
#include "dpif-offload-provider.h"
#include "hash.h"
#include "netdev-linux-private.h"
#include "netdev-offload-plugin.h"
#include "netdev-offload-plugin-api.h"
#include "netdev-offload-plugin-system.h"
#include "netdev-provider.h"
#include "netdev-vport.h"
#include "odp-util.h"
#include "openvswitch/hmap.h"
#include "openvswitch/list.h"
#include "openvswitch/match.h"
#include "openvswitch/poll-loop.h"
#include "ovs-rcu.h"
#include "ovs-thread.h"
#include "seq.h"
#include "timeval.h"
#include "util.h"

/* The class of offload providers of OVS from 3.7 on that stands for a plugin.
 *
 * It is there whether a plugin is loaded or not, because a datapath takes its
 * providers when it is opened, once and for all.  It also keeps ports that no
 * plugin wants: nobody else has a use for them in the userspace datapath, and in
 * the kernel datapath they are given to the provider "tc" as well, unless the
 * interface's hw-offload-priority leaves that out.
 *
 * Ports are here for both datapaths, flows for the userspace datapath: those of
 * the kernel datapath are in netdev-offload-plugin-dpif-system.c. */

/* A datapath. */
struct plugin_offload {
    struct dpif_offload up;
    const char *dpif_type;          /* Outlives everything. */
};

struct plugin_port {
    struct dpif_offload_port up;
    struct hmap_node number_node;   /* In 'ports'. */
    struct hmap_node ifindex_node;  /* In 'served_ports', or null. */
    const char *dpif_type;
    int ifindex;                    /* Of the device that had the netdev's
                                     * name when the plugin got the port, or
                                     * -1.  Another one may have that name now.
                                     * Guarded by 'lookup_mutex'. */
    /* NULL in the userspace datapath, and if the plugin did not want the port.
     * Written by the main thread, or while no thread uses the datapath. */
    OVSRCU_TYPE(struct system_port *) system;
    struct offload_plugin_handle handle;
};

/* The ports of all datapaths by number, and those that the plugin has by the index
 * of their devices.  A flow to many ports takes a look-up for each of them.
 *
 * Whoever adds or removes one has both mutexes: the
 * main thread, and when a datapath has been closed the thread that does what RCU
 * postpones (plugin_close()), for ports that are left then: those of a process that
 * is about to end, and LOCAL of the kernel datapath with its last bridge.
 * The first one may be held when the plugin is called and is acquired before a
 * port's handle.  The second one suffices to look, for the plugin too: unlike a
 * datapath's port manager it is for threads that RCU does not know. */
static struct ovs_mutex ports_mutex = OVS_MUTEX_INITIALIZER;
static struct ovs_mutex lookup_mutex OVS_ACQ_AFTER(ports_mutex)
    = OVS_MUTEX_INITIALIZER;
static struct hmap ports = HMAP_INITIALIZER(&ports);
static struct hmap served_ports OVS_GUARDED_BY(lookup_mutex)
    = HMAP_INITIALIZER(&served_ports);

/* The copies that the plugin has taken, by ufid.  The mutex makes an increment
 * and its addition one step, and orders ends against puts: a put finds that the
 * copy has ended, or the end finds that it was put.  A plugin may take its time
 * with it, so it should never be waited for with a PMD thread's 'flow_mutex'. */
static struct ovs_mutex copies_mutex = OVS_MUTEX_INITIALIZER;
static struct hmap copies OVS_GUARDED_BY(copies_mutex)
    = HMAP_INITIALIZER(&copies);

/* Copies are of the epoch in which they came: a flush begins another one. */
static atomic_uint64_t last_epoch = 0;

/* A request to put a flow, as it is when it comes to that: with the actions that
 * it has then, and with its own match.  (A request has the match that a flow was
 * looked for with, which may find one with another mask.) */
struct plugin_put {
    struct ovs_list node;           /* In 'put_queue'. */
    const char *dpif_type;
    struct dp_netdev_flow *flow;    /* dpif-netdev holds a reference. */
    unsigned pmd_id;
    struct dpif_offload_flow_cb_data cb;
    unsigned int ports;             /* netdev_offload_plugin_ports() then. */
};

/* PMD threads wait for this one, for an instant. */
static struct ovs_mutex put_queue_mutex = OVS_MUTEX_INITIALIZER;
static struct ovs_list put_queue OVS_GUARDED_BY(put_queue_mutex)
    = OVS_LIST_INITIALIZER(&put_queue);
static struct seq *put_queue_seq;

static struct plugin_offload *
plugin_offload_cast(const struct dpif_offload *offload)
{
    return CONTAINER_OF(offload, struct plugin_offload, up);
}

static struct plugin_port *
plugin_port_cast(struct dpif_offload_port *port)
{
    return port ? CONTAINER_OF(port, struct plugin_port, up) : NULL;
}

/* Copies of flows. */

static uint32_t
ufid_hash(const ovs_u128 *ufid)
{
    return ufid->u32[0];
}

/* Begins an epoch: copies that are there are of earlier ones.  For flows that a PMD
 * thread is just adding this is so once its 'flow_mutex' has been held. */
uint64_t
offload_plugin_next_epoch(void)
{
    uint64_t last;

    atomic_add(&last_epoch, 1, &last);
    return last + 1;
}

void
offload_plugin_copy_init(struct offload_plugin_copy *copy,
                         const ovs_u128 *mega_ufid)
{
    memset(copy, 0, sizeof *copy);
    atomic_init(&copy->ended, false);
    copy->ufid = *mega_ufid;
    atomic_read(&last_epoch, &copy->epoch);
    copy->dumped = ULLONG_MAX;
}

/* Has the plugin taken another copy of the same megaflow? */
static bool
has_other_copy(const struct offload_plugin_copy *copy)
    OVS_REQUIRES(copies_mutex)
{
    const struct offload_plugin_copy *other;

    HMAP_FOR_EACH_WITH_HASH (other, node, ufid_hash(&copy->ufid), &copies) {
        if (other != copy && ovs_u128_equals(other->ufid, copy->ufid)) {
            return true;
        }
    }
    return false;
}

/* Gives 'copy' what the plugin has counted for its megaflow since the last
 * time, and removes the megaflow from the plugin if 'delete' is true.  Returns
 * false if the plugin does not know the megaflow. */
static bool
copy_collect(struct offload_plugin_copy *copy, bool delete,
             struct dpif_flow_attrs *attrs)
    OVS_REQUIRES(copies_mutex)
{
    struct dpif_flow_stats delta;
    int error;

    error = (delete
             ? netdev_offload_plugin_del(&copy->ufid, &delta)
             : netdev_offload_plugin_take(&copy->ufid, &delta, attrs));
    if (error == ENOENT) {
        return false;
    }
    copy->given.n_packets += delta.n_packets;
    copy->given.n_bytes += delta.n_bytes;
    copy->given.used = MAX(copy->given.used, delta.used);
    copy->given.tcp_flags |= delta.tcp_flags;
    return true;
}

static void
copy_insert(struct offload_plugin_copy *copy)
    OVS_REQUIRES(copies_mutex)
{
    if (!copy->put) {
        copy->put = true;
        hmap_insert(&copies, &copy->node, ufid_hash(&copy->ufid));
    }
}

/* Takes 'copy' off the plugin, if it is there, and with the last copy the
 * megaflow. */
static void
copy_remove(struct offload_plugin_copy *copy)
    OVS_REQUIRES(copies_mutex)
{
    if (copy->put) {
        copy_collect(copy, !has_other_copy(copy), NULL);
        copy->put = false;
        hmap_remove(&copies, &copy->node);
    }
}

/* The plugin has not got what 'copy' does now.  What it has of the megaflow by another
 * PMD thread's copy may be what the flow did before, so it goes as well. */
static void
copy_refuse(struct offload_plugin_copy *copy)
    OVS_REQUIRES(copies_mutex)
{
    if (has_other_copy(copy)) {
        copy_collect(copy, true, NULL);
    }
    copy_remove(copy);
}

/* Adds to 'stats' what the plugin has ever counted for 'copy'.  Returns true and
 * fills in 'attrs', if nonnull, if the plugin knows the flow. */
bool
offload_plugin_copy_stats(struct offload_plugin_copy *copy,
                          struct dpif_flow_stats *stats,
                          struct dpif_flow_attrs *attrs)
{
    bool found = false;

    if (!netdev_offload_plugin_is_loaded()) {
        return false;
    }
    ovs_mutex_lock(&copies_mutex);
    /* After its end the megaflow's figures may belong to a successor. */
    if (!offload_plugin_copy_has_ended(copy)) {
        found = copy_collect(copy, false, attrs);
    }
    stats->n_packets += copy->given.n_packets;
    stats->n_bytes += copy->given.n_bytes;
    stats->used = MAX(stats->used, copy->given.used);
    stats->tcp_flags |= copy->given.tcp_flags;
    ovs_mutex_unlock(&copies_mutex);
    return found;
}

/* 'copy' is about to leave the classifier.  Returns true if there is a plugin, so
 * that what the flow has counted is best read after that. */
bool
offload_plugin_copy_end(struct offload_plugin_copy *copy)
{
    if (!offload_plugin_copy_has_ended(copy)) {
        ovs_mutex_lock(&copies_mutex);
        copy_remove(copy);
        atomic_store_relaxed(&copy->ended, true);
        ovs_mutex_unlock(&copies_mutex);
    }
    return netdev_offload_plugin_is_loaded();
}

/* Is there nothing to be waited for in offload_plugin_copy_end()?  True if this
 * thread has been there with 'copy', and perhaps if another one has. */
bool
offload_plugin_copy_has_ended(const struct offload_plugin_copy *copy)
{
    bool ended;

    atomic_read_relaxed(&CONST_CAST(struct offload_plugin_copy *, copy)->ended,
                        &ended);
    return ended;
}

/* Would a plugin take 'copy', which has 'n_packets' packets of its own, if it was
 * put again now?  And has it had packets since the last time it was asked? */
bool
offload_plugin_copy_offer_again(struct offload_plugin_copy *copy,
                                const char *dpif_type, odp_port_t in_port,
                                unsigned long long n_packets)
{
    bool used;

    if (!netdev_offload_plugin_is_loaded()) {
        return false;
    }
    ovs_mutex_lock(&copies_mutex);
    used = !offload_plugin_copy_has_ended(copy) && n_packets > copy->dumped;
    copy->dumped = n_packets;
    ovs_mutex_unlock(&copies_mutex);
    return (used && offload_plugin_api_port_ifindex(dpif_type, in_port) != -1
            && netdev_offload_plugin_wants(&copy->ufid));
}

/* Putting flows. */

static struct plugin_put *
pop_put(void)
{
    struct plugin_put *put = NULL;

    ovs_mutex_lock(&put_queue_mutex);
    if (!ovs_list_is_empty(&put_queue)) {
        put = CONTAINER_OF(ovs_list_pop_front(&put_queue), struct plugin_put,
                           node);
    }
    ovs_mutex_unlock(&put_queue_mutex);
    return put;
}

/* Offers 'flow', whose copy has not ended: so it is in the classifier, and its
 * mask is there. */
static int
put_flow(const char *dpif_type, const struct dp_netdev_flow *flow)
    OVS_REQUIRES(copies_mutex)
{
    const struct dp_netdev_actions *actions
        = ovsrcu_get(struct dp_netdev_actions *, &flow->actions);
    struct match match;

    memset(&match, 0, sizeof match);
    match.flow = flow->flow;
    miniflow_expand(&flow->cr.mask->mf, &match.wc.masks);
    /* Exact match, but left out from the mask, see dp_netdev_flow_add(). */
    match.wc.masks.in_port.odp_port = ODPP_NONE;
    return offload_plugin_put(dpif_type, &match, actions->actions,
                              actions->size, &flow->mega_ufid, false);
}

/* The flow is put also if another copy of it is offloaded already: that copy may
 * still have outdated actions.
 *
 * If a port has been added since the request was made, a port number in it may
 * mean another device now, so nothing is put.  A dump asks again
 * (offload_plugin_copy_offer_again()), after the flow has been revalidated. */
static void
run_put(const struct plugin_put *put)
{
    struct offload_plugin_copy *copy = &put->flow->offload_copy;
    long long int begin;
    int error = ENOENT;

    ovs_mutex_lock(&copies_mutex);
    begin = time_usec();
    if (!offload_plugin_copy_has_ended(copy)
        && put->ports == netdev_offload_plugin_ports()) {
        error = put_flow(put->dpif_type, put->flow);
    }
    if (!error) {
        copy_insert(copy);
    } else if (!offload_plugin_copy_has_ended(copy)) {
        copy_refuse(copy);      /* It may be a modification. */
    }
    ovs_mutex_unlock(&copies_mutex);
    netdev_offload_plugin_rest(time_usec() - begin);

    if (!error && !offload_plugin_is_enabled()) {
        /* Disabled meanwhile: either that came after the put and flushed this
         * flow with the others, or we do it. */
        offload_plugin_api_flush();
    }
}

static void *
put_thread(void *arg OVS_UNUSED)
{
    for (;;) {
        uint64_t seen = seq_read(put_queue_seq);
        struct plugin_put *put = pop_put();

        if (put) {
            run_put(put);
            dpif_offload_datapath_flow_op_continue(
                &put->cb, NULL, put->pmd_id, put->flow, NULL, EOPNOTSUPP);
            free(put);
            ovsrcu_quiesce();
        } else {
            seq_wait(put_queue_seq, seen);
            poll_block();
        }
    }
    return NULL;
}

static int
plugin_flow_put(const struct dpif_offload *offload,
                struct netdev *netdev OVS_UNUSED,
                struct dpif_offload_flow_put *request, void **previous)
{
    const char *dpif_type = plugin_offload_cast(offload)->dpif_type;
    struct plugin_put *put;

    *previous = NULL;
    if (!netdev_offload_plugin_is_loaded() || !offload_plugin_is_enabled()
        || offload_plugin_api_port_ifindex(dpif_type, request->in_port) == -1) {
        return EOPNOTSUPP;
    }
    put = xmalloc(sizeof *put);
    put->dpif_type = dpif_type;
    put->flow = request->flow_reference;
    put->pmd_id = request->pmd_id;
    put->cb = request->cb_data;
    put->ports = netdev_offload_plugin_ports();

    ovs_mutex_lock(&put_queue_mutex);
    ovs_list_push_back(&put_queue, &put->node);
    ovs_mutex_unlock(&put_queue_mutex);
    seq_change(put_queue_seq);
    return EINPROGRESS;
}

/* Ports. */

static uint32_t
number_hash(odp_port_t port_no)
{
    return hash_int(odp_to_u32(port_no), 0);
}

static void
plugin_port_set_ifindex(struct plugin_port *p, int ifindex)
{
    ovs_mutex_lock(&lookup_mutex);
    if (p->ifindex != -1) {
        hmap_remove(&served_ports, &p->ifindex_node);
    }
    p->ifindex = ifindex;
    if (p->ifindex != -1) {
        hmap_insert(&served_ports, &p->ifindex_node, hash_int(ifindex, 0));
    }
    ovs_mutex_unlock(&lookup_mutex);
}

static bool
is_system(const struct dpif_offload *offload)
{
    return !strcmp(plugin_offload_cast(offload)->dpif_type, "system");
}

/* Has the plugin, if there is one, add a port that it does not have. */
static void
plugin_port_offer(struct plugin_port *p)
{
    int ifindex;

    if (netdev_offload_plugin_is_loaded()
        && !offload_plugin_handle_open(&p->handle, p->up.netdev, p->dpif_type,
                                       &ifindex)) {
        plugin_port_set_ifindex(p, ifindex);
        if (!strcmp(p->dpif_type, "system")) {
            ovsrcu_set(&p->system, plugin_system_port_open(p->up.netdev));
        }
    }
}

static void
plugin_port_close(struct plugin_port *p)
{
    offload_plugin_handle_close(&p->handle);
    plugin_port_set_ifindex(p, -1);
}

/* Tunnel ports are for the provider "dpdk" as well, and those of the kernel datapath
 * for "tc" alone. */
static bool
plugin_can_offload(struct dpif_offload *offload, struct netdev *netdev)
{
    const struct netdev_class *class = netdev_get_class(netdev);

    if (netdev_vport_is_vport_class(class) && !is_system(offload)) {
#ifdef DPDK_NETDEV
        return netdev_offload_plugin_is_loaded();
#else
        return true;
#endif
    }
    return is_netdev_linux_class(class);
}

static int
plugin_port_add(struct dpif_offload *offload, struct netdev *netdev,
                odp_port_t port_no)
{
    struct plugin_port *p = xzalloc(sizeof *p);

    if (!dpif_offload_port_mgr_add(offload, &p->up, netdev, port_no, false)) {
        free(p);
        return EEXIST;
    }
    p->dpif_type = plugin_offload_cast(offload)->dpif_type;
    p->ifindex = -1;
    ovsrcu_init(&p->system, NULL);
    offload_plugin_handle_init(&p->handle);
    plugin_port_offer(p);

    ovs_mutex_lock(&ports_mutex);
    ovs_mutex_lock(&lookup_mutex);
    hmap_insert(&ports, &p->number_node, number_hash(port_no));
    ovs_mutex_unlock(&lookup_mutex);
    ovs_mutex_unlock(&ports_mutex);
    if (!is_system(offload)) {
        dpif_offload_set_netdev_offload(netdev, offload);
    }
    return 0;
}

static void
plugin_port_free(struct plugin_port *p)
{
    free(ovsrcu_get_protected(struct system_port *, &p->system));
    offload_plugin_handle_destroy(&p->handle);
    netdev_close(p->up.netdev);
    free(p);
}

/* Takes the port off the datapath's ports and off the plugin, which must let go of
 * the device before it is closed.  Returns NULL if there is none. */
static struct plugin_port *
plugin_port_remove(struct dpif_offload *offload, odp_port_t port_no)
{
    struct plugin_port *p
        = plugin_port_cast(dpif_offload_port_mgr_remove(offload, port_no));

    if (p) {
        struct system_port *system
            = ovsrcu_get_protected(struct system_port *, &p->system);

        if (!is_system(offload)) {
            dpif_offload_set_netdev_offload(p->up.netdev, NULL);
        }
        ovs_mutex_lock(&ports_mutex);
        ovs_mutex_lock(&lookup_mutex);
        hmap_remove(&ports, &p->number_node);
        ovs_mutex_unlock(&lookup_mutex);
        ovs_mutex_unlock(&ports_mutex);
        plugin_port_close(p);
        if (system) {
            plugin_system_port_close(system);
        }
    }
    return p;
}

/* The port has left the datapath, but its device is still open: in the userspace
 * datapath it is this reference that keeps it.  The next port may have the same
 * device, and cannot have its queues before it is closed.  So with queues, or with a
 * plugin, this waits for RCU, as the main thread does anyway when ofproto's ports
 * change (xlate_txn_commit()). */
static int
plugin_port_del(struct dpif_offload *offload, odp_port_t port_no)
{
    struct plugin_port *p = plugin_port_remove(offload, port_no);

    if (!p) {
        return 0;
    }
    if (!is_system(offload)
        && (netdev_offload_plugin_is_loaded()
            || !strncmp(netdev_get_type(p->up.netdev), "afxdp", 5))) {
        ovsrcu_synchronize();
        plugin_port_free(p);
    } else {
        ovsrcu_postpone(plugin_port_free, p);
    }
    return 0;
}

static struct netdev *
plugin_get_netdev(const struct dpif_offload *offload, odp_port_t port_no)
{
    struct dpif_offload_port *port
        = dpif_offload_port_mgr_find_by_odp_port(offload, port_no);

    /* In the kernel datapath others have it, too. */
    return (port && (!is_system(offload) || offload_plugin_system_port(port))
            ? port->netdev : NULL);
}

static uint64_t
plugin_flow_count(const struct dpif_offload *offload)
{
    struct dpif_offload_port *port;
    uint64_t n = 0;

    DPIF_OFFLOAD_PORT_FOR_EACH (port, offload) {
        struct plugin_port *p = plugin_port_cast(port);
        struct system_port *system
            = ovsrcu_get_protected(struct system_port *, &p->system);

        n += (system ? plugin_system_port_n_flows(system)
              : offload_plugin_handle_n_flows(&p->handle));
    }
    return n;
}

/* Is the provider's port given to the next one, too? */
bool
offload_plugin_shares_ports(const struct dpif_offload *offload)
{
    return offload->class->operate == offload_plugin_system_operate;
}

/* Is this a provider for a plugin, and there is none? */
bool
offload_plugin_is_idle(const struct dpif_offload *offload)
{
    return (!strcmp(offload->class->type, dpif_offload_plugin_class.type)
            && !netdev_offload_plugin_is_loaded());
}

struct system_port *
offload_plugin_system_port(const struct dpif_offload_port *port)
{
    const struct plugin_port *p = CONTAINER_OF(port, struct plugin_port, up);

    return ovsrcu_get(struct system_port *, &p->system);
}

/* Datapaths. */

static struct dpif_offload_class plugin_system_class;

static int
plugin_open(const struct dpif_offload_class *class, struct dpif *dpif,
            struct dpif_offload **offloadp)
{
    struct plugin_offload *offload = xzalloc(sizeof *offload);

    offload->dpif_type = dpif_normalize_type(dpif_type(dpif));
    if (!strcmp(offload->dpif_type, "system")) {
        class = &plugin_system_class;
    }
    dpif_offload_init(&offload->up, class, dpif);
    *offloadp = &offload->up;
    return 0;
}

static void
plugin_close(struct dpif_offload *offload)
{
    struct dpif_offload_port *port;

    DPIF_OFFLOAD_PORT_FOR_EACH (port, offload) {
        ovsrcu_postpone(plugin_port_free,
                        plugin_port_remove(offload, port->port_no));
    }
    dpif_offload_destroy(offload);
    ovsrcu_postpone(free, plugin_offload_cast(offload));
}

/* A datapath keeps the flows of its ports, or it does not, so there are two of these
 * for one "type".  The first is registered, and chosen by plugin_open() for the
 * userspace datapath. */
struct dpif_offload_class dpif_offload_plugin_class = {
    .type = "xdp",
    .impl_type = DPIF_OFFLOAD_IMPL_FLOWS_DPIF_SYNCED,
    .supported_dpif_types = (const char *const[]) {"netdev", "system", NULL},
    .open = plugin_open,
    .close = plugin_close,
    .can_offload = plugin_can_offload,
    .port_add = plugin_port_add,
    .port_del = plugin_port_del,
    .flow_count = plugin_flow_count,
    .get_netdev = plugin_get_netdev,
    .netdev_flow_put = plugin_flow_put,
};

static struct dpif_offload_class plugin_system_class = {
    .type = "xdp",
    .impl_type = DPIF_OFFLOAD_IMPL_FLOWS_PROVIDER_ONLY,
    .supported_dpif_types = (const char *const[]) {"system", NULL},
    .open = plugin_open,
    .close = plugin_close,
    .can_offload = plugin_can_offload,
    .port_add = plugin_port_add,
    .port_del = plugin_port_del,
    .flow_flush = offload_plugin_system_flow_flush,
    .flow_dump_create = offload_plugin_system_dump_create,
    .flow_dump_next = offload_plugin_system_dump_next,
    .flow_dump_destroy = offload_plugin_system_dump_destroy,
    .flow_dump_thread_create = offload_plugin_system_dump_thread_create,
    .flow_dump_thread_destroy = offload_plugin_system_dump_thread_destroy,
    .operate = offload_plugin_system_operate,
    .flow_count = plugin_flow_count,
    .get_netdev = plugin_get_netdev,
};

/* Whether the plugin has a port of the kernel datapath, so that its flows are not
 * to be looked for in TC: those that are there are told by the plugin's dump. */
bool
offload_plugin_has_system_port(odp_port_t port_no)
{
    struct plugin_port *p;
    bool found = false;

    ovs_mutex_lock(&lookup_mutex);
    HMAP_FOR_EACH_WITH_HASH (p, number_node, number_hash(port_no), &ports) {
        if (p->up.port_no == port_no && offload_plugin_system_port(&p->up)) {
            found = true;
            break;
        }
    }
    ovs_mutex_unlock(&lookup_mutex);
    return found;
}

/* To be called by the main thread when a plugin has been loaded: offers the ports
 * that are there. */
void
offload_plugin_offer_ports(void)
{
    struct plugin_port *p;

    ovs_mutex_lock(&ports_mutex);
    HMAP_FOR_EACH (p, number_node, &ports) {
        plugin_port_offer(p);
    }
    ovs_mutex_unlock(&ports_mutex);
}

/* What netdev-offload-plugin-api.h says. */

void
offload_plugin_api_register(void)
{
    put_queue_seq = seq_create();
    ovs_thread_create("offload_plugin", put_thread, NULL);
}

void
offload_plugin_api_configure(const struct smap *other_config)
{
    plugin_system_configure(other_config);
}

void
offload_plugin_api_flush(void)
{
    struct plugin_port *p;

    ovs_mutex_lock(&ports_mutex);
    HMAP_FOR_EACH (p, number_node, &ports) {
        offload_plugin_handle_flush(&p->handle);
    }
    ovs_mutex_unlock(&ports_mutex);
}

void
offload_plugin_api_close_ports(void)
{
    struct plugin_port *p;

    ovs_mutex_lock(&ports_mutex);
    HMAP_FOR_EACH (p, number_node, &ports) {
        plugin_port_close(p);
    }
    ovs_mutex_unlock(&ports_mutex);
}

bool
offload_plugin_api_set_left_out(struct netdev *netdev, bool left_out)
{
    struct plugin_port *p;
    bool found = false;

    ovs_mutex_lock(&ports_mutex);
    HMAP_FOR_EACH (p, number_node, &ports) {
        if (p->up.netdev == netdev) {
            if (!offload_plugin_handle_set_left_out(&p->handle, left_out)) {
                plugin_port_offer(p);
            }
            found = true;
            break;
        }
    }
    ovs_mutex_unlock(&ports_mutex);
    return found;
}

int
offload_plugin_api_port_ifindex(const char *dpif_type, odp_port_t port_no)
{
    struct plugin_port *p;
    int ifindex = -1;

    ovs_mutex_lock(&lookup_mutex);
    HMAP_FOR_EACH_WITH_HASH (p, number_node, number_hash(port_no), &ports) {
        if (p->up.port_no == port_no && !strcmp(p->dpif_type, dpif_type)) {
            ifindex = p->ifindex;
            break;
        }
    }
    ovs_mutex_unlock(&lookup_mutex);
    return ifindex;
}

odp_port_t
offload_plugin_api_ifindex_to_port(int ifindex)
{
    odp_port_t port_no = 0;
    struct plugin_port *p;

    ovs_mutex_lock(&lookup_mutex);
    HMAP_FOR_EACH_WITH_HASH (p, ifindex_node, hash_int(ifindex, 0),
                             &served_ports) {
        if (p->ifindex == ifindex) {
            port_no = p->up.port_no;
            break;
        }
    }
    ovs_mutex_unlock(&lookup_mutex);
    return port_no;
}

void
offload_plugin_api_for_each_port(const char *dpif_type,
                                 bool (*cb)(const char *, odp_port_t, void *),
                                 void *aux)
{
    struct plugin_port *p;

    ovs_mutex_lock(&lookup_mutex);
    HMAP_FOR_EACH (p, number_node, &ports) {
        if (!strcmp(p->dpif_type, dpif_type)
            && cb(netdev_get_name(p->up.netdev), p->up.port_no, aux)) {
            break;
        }
    }
    ovs_mutex_unlock(&lookup_mutex);
}
