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
#include "netdev-offload-plugin-api.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dpif.h"
#include "netdev-offload-plugin.h"
#include "netdev-offload-plugin-compat.h"
#include "netdev-offload-plugin-system.h"
#include "netdev-offload-provider.h"
#include "netdev-provider.h"
#include "openvswitch/list.h"
#include "openvswitch/match.h"
#include "openvswitch/vlog.h"
#include "ovs-atomic.h"
#include "ovs-rcu.h"
#include "ovs-thread.h"
#include "util.h"

VLOG_DEFINE_THIS_MODULE(netdev_offload_plugin_netdev);

/* The netdev flow API, which OVS up to 3.6 has for offload providers. */

/* A netdev's 'hw_info.offload_data'. */
struct plugin_port {
    struct ovs_list list_node;      /* In 'plugin_ports'. */
    struct system_port *system;     /* NULL in the userspace datapath. */
    int ifindex;                    /* Of the device that had the netdev's
                                     * name when the port was added.  Another
                                     * device may have that name now. */
    struct offload_plugin_handle handle;
};

/* What TC wants to know of a flow, beyond the flow. */
struct plugin_tc_put {
    struct offload_info *info;
};

/* Acquired before a port's handle. */
static struct ovs_mutex plugin_ports_mutex = OVS_MUTEX_INITIALIZER;
static struct ovs_list plugin_ports OVS_GUARDED_BY(plugin_ports_mutex)
    = OVS_LIST_INITIALIZER(&plugin_ports);

/* netdev_ports_get() compares datapath types by address, and the plugin has
 * only their text.  These are OVS's own pointers for "netdev" and "system", the
 * types that plugin_init_flow_api() lets through. */
static ATOMIC(const char *) netdev_dpif_type = NULL;
static ATOMIC(const char *) system_dpif_type = NULL;

static struct plugin_port *
plugin_port_get(const struct netdev *netdev)
{
    return ovsrcu_get(void *, &netdev->hw_info.offload_data);
}

/* Flows. */

static int
plugin_flow_flush(struct netdev *netdev)
{
    struct plugin_port *p = plugin_port_get(netdev);

    if (p && p->system) {
        return plugin_system_flow_flush(netdev, p->system);
    }
    return p ? offload_plugin_handle_flush(&p->handle) : EOPNOTSUPP;
}

static int
plugin_flow_put(struct netdev *netdev, struct match *match,
                struct nlattr *actions, size_t actions_len,
                const ovs_u128 *ufid, struct offload_info *info,
                struct dpif_flow_stats *stats)
{
    struct plugin_tc_put tc_put = { .info = info };
    struct plugin_port *p = plugin_port_get(netdev);
    int error;

    if (!p) {
        return EOPNOTSUPP;
    } else if (p->system) {
        return plugin_system_flow_put(netdev, p->system, match, actions,
                                      actions_len, ufid, &tc_put, stats);
    }
    error = offload_plugin_put(netdev_get_dpif_type(netdev), match, actions,
                               actions_len, ufid, false);
    if (!error && !offload_plugin_is_enabled()) {
        /* Disabled meanwhile: either plugin_set_enabled() came after the put
         * and flushed this flow with the others, or we do it. */
        offload_plugin_handle_flush(&p->handle);
    }
    if (!error && stats) {
        offload_plugin_get_stats(ufid, stats);
    }
    return error;
}

static int
plugin_flow_get(struct netdev *netdev, struct match *match,
                struct nlattr **actions, const ovs_u128 *ufid,
                struct dpif_flow_stats *stats,
                struct dpif_flow_attrs *attrs, struct ofpbuf *buf)
{
    struct plugin_port *p = plugin_port_get(netdev);
    int error;

    if (p && p->system) {
        return plugin_system_flow_get(netdev, match, actions, ufid, stats,
                                      attrs, buf);
    }
    error = offload_plugin_get_stats(ufid, stats);
    if (!error) {
        netdev_offload_plugin_fill_attrs(true, attrs);
    }
    return error;
}

static int
plugin_flow_del(struct netdev *netdev, const ovs_u128 *ufid,
                struct dpif_flow_stats *stats)
{
    struct plugin_port *p = plugin_port_get(netdev);
    struct dpif_flow_stats remaining;
    int error;

    if (p && p->system) {
        return plugin_system_flow_del(ufid, stats);
    }
    error = netdev_offload_plugin_del(ufid, &remaining);
    if (!error && stats) {
        *stats = remaining;
    }
    return error;
}

static int
plugin_flow_get_n_flows(struct netdev *netdev, uint64_t *n_flows)
{
    struct plugin_port *p = plugin_port_get(netdev);

    if (!p) {
        return EOPNOTSUPP;
    }

    /* An array element per offload thread, but the plugin has just a sum. */
    n_flows[0] = (p->system ? plugin_system_port_n_flows(p->system)
                  : offload_plugin_handle_n_flows(&p->handle));
    if (p->system && plugin_system_port_has_tc(p->system)) {
        uint64_t n_in_tc = 0;

        netdev_offload_tc.flow_get_n_flows(netdev, &n_in_tc);
        n_flows[0] += n_in_tc;
    }
    return 0;
}

struct plugin_dump {
    struct netdev_flow_dump up;
    struct system_dump *system;
};

/* Only the kernel datapath dumps its providers' flows. */
static int
plugin_flow_dump_create(struct netdev *netdev, struct netdev_flow_dump **dumpp,
                        bool terse)
{
    struct plugin_port *p = plugin_port_get(netdev);
    struct plugin_dump *dump;

    if (!p || !p->system) {
        return EOPNOTSUPP;
    }
    dump = xzalloc(sizeof *dump);
    dump->system = plugin_system_flow_dump_create(netdev, p->system, terse);
    dump->up.netdev = netdev_ref(netdev);
    dump->up.terse = terse;
    *dumpp = &dump->up;
    return 0;
}

static bool
plugin_flow_dump_next(struct netdev_flow_dump *dump_, struct match *match,
                      struct nlattr **actions, struct dpif_flow_stats *stats,
                      struct dpif_flow_attrs *attrs, ovs_u128 *ufid,
                      struct ofpbuf *rbuffer, struct ofpbuf *wbuffer)
{
    struct plugin_dump *dump = CONTAINER_OF(dump_, struct plugin_dump, up);

    return plugin_system_flow_dump_next(dump->system, dump->up.port, match,
                                        actions, stats, attrs, ufid, rbuffer,
                                        wbuffer);
}

static int
plugin_flow_dump_destroy(struct netdev_flow_dump *dump_)
{
    struct plugin_dump *dump = CONTAINER_OF(dump_, struct plugin_dump, up);

    plugin_system_flow_dump_destroy(dump->system);
    netdev_close(dump->up.netdev);
    free(dump);
    return 0;
}

/* Ports. */

static void
plugin_port_free(struct plugin_port *p)
{
    offload_plugin_handle_destroy(&p->handle);
    free(p->system);
    free(p);
}

static int
plugin_init_flow_api(struct netdev *netdev)
{
    const char *dpif_type = netdev_get_dpif_type(netdev);
    struct plugin_port *p;
    int error;

    if (!dpif_type) {
        return EOPNOTSUPP;
    } else if (!strcmp(dpif_type, "netdev")) {
        atomic_store_relaxed(&netdev_dpif_type, dpif_type);
    } else if (!strcmp(dpif_type, "system")) {
        atomic_store_relaxed(&system_dpif_type, dpif_type);
    } else {
        return EOPNOTSUPP;
    }

    p = xzalloc(sizeof *p);
    offload_plugin_handle_init(&p->handle);
    error = offload_plugin_handle_open(&p->handle, netdev, dpif_type,
                                       &p->ifindex);
    if (error) {
        plugin_port_free(p);
        return error;
    }
    if (!strcmp(dpif_type, "system")) {
        p->system = plugin_system_port_open(netdev);
        VLOG_INFO("%s: flows that the plugin refuses are %s",
                  netdev_get_name(netdev),
                  plugin_system_port_has_tc(p->system)
                  ? "offered to TC" : "left to the kernel datapath");
    }

    ovs_mutex_lock(&plugin_ports_mutex);
    ovs_list_push_back(&plugin_ports, &p->list_node);
    ovs_mutex_unlock(&plugin_ports_mutex);
    ovsrcu_set(&netdev->hw_info.offload_data, p);
    return 0;
}

/* port_del() must run now, not after a grace period, because the device is
 * about to be reconfigured or closed.  So the handle waits for the threads that
 * use it, and RCU for those that have just read the pointer to 'p'. */
static void
plugin_uninit_flow_api(struct netdev *netdev)
{
    struct plugin_port *p = plugin_port_get(netdev);

    if (!p) {
        return;
    }
    ovsrcu_set(&netdev->hw_info.offload_data, NULL);

    ovs_mutex_lock(&plugin_ports_mutex);
    ovs_list_remove(&p->list_node);
    ovs_mutex_unlock(&plugin_ports_mutex);

    offload_plugin_handle_close(&p->handle);
    if (p->system) {
        plugin_system_port_close(p->system);
    }
    ovsrcu_postpone(plugin_port_free, p);
}

static struct netdev_flow_api plugin_flow_api = {
    .flow_flush = plugin_flow_flush,
    .flow_dump_create = plugin_flow_dump_create,
    .flow_dump_destroy = plugin_flow_dump_destroy,
    .flow_dump_next = plugin_flow_dump_next,
    .flow_put = plugin_flow_put,
    .flow_get = plugin_flow_get,
    .flow_del = plugin_flow_del,
    .flow_get_n_flows = plugin_flow_get_n_flows,
    .init_flow_api = plugin_init_flow_api,
    .uninit_flow_api = plugin_uninit_flow_api,
};

bool
netdev_offload_plugin_is_provider(const struct netdev_flow_api *api)
{
    return api == &plugin_flow_api;
}

/* Returns true if the flows that enter through 'netdev' go to the plugin. */
bool
netdev_offload_plugin_owns(const struct netdev *netdev)
{
    return netdev_offload_plugin_is_provider(
        ovsrcu_get(const struct netdev_flow_api *, &netdev->flow_api));
}

/* What netdev-offload-plugin-system.h says of TC. */

int
plugin_tc_init(struct netdev *netdev)
{
    return (ovsrcu_get(const struct netdev_flow_api *, &netdev->flow_api)
            == &netdev_offload_tc
            ? 0 : netdev_offload_tc.init_flow_api(netdev));
}

int
plugin_tc_flow_put(struct netdev *netdev, struct match *match,
                   struct nlattr *actions, size_t actions_len,
                   const ovs_u128 *ufid, struct plugin_tc_put *tc_put)
{
    return netdev_offload_tc.flow_put(netdev, match, actions, actions_len,
                                      ufid, tc_put->info, NULL);
}

int
plugin_tc_flow_get(struct netdev *netdev, struct match *match,
                   struct nlattr **actions, const ovs_u128 *ufid,
                   struct dpif_flow_stats *stats,
                   struct dpif_flow_attrs *attrs, struct ofpbuf *buf)
{
    return netdev_offload_tc.flow_get(netdev, match, actions, ufid, stats,
                                      attrs, buf);
}

int
plugin_tc_flow_del(const ovs_u128 *ufid, struct dpif_flow_stats *stats)
{
    return netdev_offload_tc.flow_del(NULL, ufid, stats);
}

int
plugin_tc_flow_flush(struct netdev *netdev)
{
    return netdev_offload_tc.flow_flush(netdev);
}

/* A 'struct plugin_tc_dump' is a 'struct netdev_flow_dump' of TC's. */

struct plugin_tc_dump *
plugin_tc_dump_create(struct netdev *netdev, bool terse)
{
    struct netdev_flow_dump *dump;

    return (netdev_offload_tc.flow_dump_create(netdev, &dump, terse)
            ? NULL : (struct plugin_tc_dump *) dump);
}

bool
plugin_tc_dump_next(struct plugin_tc_dump *dump_, odp_port_t in_port,
                    struct match *match, struct nlattr **actions,
                    struct dpif_flow_stats *stats,
                    struct dpif_flow_attrs *attrs, ovs_u128 *ufid,
                    struct ofpbuf *rbuffer, struct ofpbuf *wbuffer)
{
    struct netdev_flow_dump *dump = (struct netdev_flow_dump *) dump_;

    dump->port = in_port;
    return netdev_offload_tc.flow_dump_next(dump, match, actions, stats, attrs,
                                            ufid, rbuffer, wbuffer);
}

void
plugin_tc_dump_destroy(struct plugin_tc_dump *dump)
{
    netdev_offload_tc.flow_dump_destroy((struct netdev_flow_dump *) dump);
}

/* What netdev-offload-plugin-api.h says. */

void
offload_plugin_api_register(void)
{
    plugin_flow_api.type = CONST_CAST(char *, offload_plugin_type());
    netdev_register_flow_api_provider(&plugin_flow_api);
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

    ovs_mutex_lock(&plugin_ports_mutex);
    LIST_FOR_EACH (p, list_node, &plugin_ports) {
        offload_plugin_handle_flush(&p->handle);
    }
    ovs_mutex_unlock(&plugin_ports_mutex);
}

void
offload_plugin_api_close_ports(void)
{
    struct plugin_port *p;

    ovs_mutex_lock(&plugin_ports_mutex);
    LIST_FOR_EACH (p, list_node, &plugin_ports) {
        offload_plugin_handle_close(&p->handle);
    }
    ovs_mutex_unlock(&plugin_ports_mutex);
}

/* Only this thread, the main thread, frees a netdev's port. */
bool
offload_plugin_api_set_left_out(struct netdev *netdev, bool left_out)
{
    if (netdev_offload_plugin_owns(netdev)) {
        struct plugin_port *p = plugin_port_get(netdev);

        offload_plugin_handle_set_left_out(&p->handle, left_out);
    } else if (netdev_get_dpif_type(netdev)) {
        netdev_offer_to_plugin(netdev);
    } else {
        return false;                           /* It is about to be added. */
    }
    return true;
}

/* Returns OVS's own pointer for 'dpif_type', which is what it compares, or NULL
 * if no datapath of that type has a port of ours. */
static const char *
own_dpif_type(const char *dpif_type)
{
    const char *type;

    if (!strcmp(dpif_type, "system")) {
        atomic_read_relaxed(&system_dpif_type, &type);
    } else {
        atomic_read_relaxed(&netdev_dpif_type, &type);
    }
    return type && !strcmp(type, dpif_type) ? type : NULL;
}

int
offload_plugin_api_port_ifindex(const char *dpif_type, odp_port_t odp_port)
{
    const char *type = own_dpif_type(dpif_type);
    struct plugin_port *p;
    struct netdev *netdev;
    int ifindex;

    if (!type) {
        return -1;
    }
    netdev = netdev_ports_get(odp_port, type);
    p = (netdev && netdev_offload_plugin_owns(netdev)
         ? plugin_port_get(netdev) : NULL);
    ifindex = p ? p->ifindex : -1;
    netdev_close(netdev);
    return ifindex;
}

odp_port_t
offload_plugin_api_ifindex_to_port(int ifindex)
{
    return netdev_ifindex_to_odp_port(ifindex);
}

struct port_visit {
    bool (*cb)(const char *name, odp_port_t, void *aux);
    void *aux;
};

static bool
visit_port(struct netdev *netdev, odp_port_t port, void *visit_)
{
    const struct port_visit *visit = visit_;

    return visit->cb(netdev_get_name(netdev), port, visit->aux);
}

void
offload_plugin_api_for_each_port(const char *dpif_type,
                                 bool (*cb)(const char *, odp_port_t, void *),
                                 void *aux)
{
    struct port_visit visit = { .cb = cb, .aux = aux };
    const char *type = own_dpif_type(dpif_type);

    if (type) {
        netdev_ports_traverse(type, visit_port, &visit);
    }
}
