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
#include <stdlib.h>
#include <string.h>

#include "dpif-offload.h"
#include "dpif-offload-provider.h"
#include "dpif-offload-tc-private.h"
#include "dpif-provider.h"
#include "netdev-offload-plugin.h"
#include "netdev-offload-plugin-system.h"
#include "netdev-provider.h"
#include "netlink.h"
#include "netlink-socket.h"
#include "odp-util.h"
#include "openvswitch/match.h"
#include "openvswitch/ofpbuf.h"
#include "ovs-rcu.h"
#include "util.h"

/* The kernel datapath's flows, for OVS from 3.7 on: operations and dumps of
 * dpif-offload, in terms of netdev-offload-plugin-system.h.
 *
 * A port of the plugin's is one of the provider "tc" as well, which finds it as
 * an output and gets its device ready.  But what becomes of the flows that
 * enter through it is decided here, also if that is TC, so that figures follow
 * a flow from one place to the other: nothing that is done with them is left to
 * that provider.  Whatever the order of the providers is, operations come here
 * first. */

/* What TC wants to know of a flow, beyond the flow. */
struct plugin_tc_put {
    struct dpif *dpif;
    struct tc_offload_info info;
};

/* Operations. */

/* Sends the packets among 'ops' on, before the plugin is given their flows: that
 * takes its time, and afterward later packets could overtake them. */
static void
execute_packets(struct dpif *dpif, struct dpif_op **ops, size_t n_ops)
{
    struct dpif_op **packets = xmalloc(n_ops * sizeof *packets);
    size_t n = 0;

    for (size_t i = 0; i < n_ops; i++) {
        if (ops[i]->type == DPIF_OP_EXECUTE) {
            packets[n++] = ops[i];
        }
    }
    if (n && n < n_ops) {
        dpif->dpif_class->operate(dpif, packets, n);
    }
    free(packets);
}

/* Deletes in the kernel a flow that has left it just now. */
static void
delete_in_kernel(struct dpif *dpif, const struct dpif_flow_put *put)
{
    struct dpif_flow_stats stats;
    struct dpif_op op = {
        .type = DPIF_OP_FLOW_DEL,
        .flow_del = {
            .key = put->key,
            .key_len = put->key_len,
            .ufid = put->ufid,
            .pmd_id = put->pmd_id,
            .stats = &stats,
        },
    };
    struct dpif_op *opp = &op;

    dpif->dpif_class->operate(dpif, &opp, 1);
    if (!op.error) {
        netdev_offload_plugin_flow_left_kernel(put->ufid, &stats);
    }
}

/* A flow that is neither for the plugin nor for TC has ENOSPC: it is the kernel's,
 * and not to be offered to the provider "tc" once more.  (So other_config:
 * offload-rebalance does not know of what TC has no room for here.) */
static int
flow_put(struct dpif *dpif, const struct dpif_offload *offload,
         struct dpif_flow_put *put)
{
    struct plugin_tc_put tc_put = { .dpif = dpif };
    const struct dpif_offload_port *port;
    struct system_port *system;
    struct match match;
    int error;

    if (!put->ufid || put->flags & DPIF_FP_PROBE) {
        return EOPNOTSUPP;
    }
    error = parse_key_and_mask_to_match(put->key, put->key_len, put->mask,
                                        put->mask_len, &match);
    if (error) {
        return error;
    }
    port = dpif_offload_port_mgr_find_by_odp_port(offload,
                                                  match.flow.in_port.odp_port);
    system = port ? offload_plugin_system_port(port) : NULL;
    if (!system) {
        return EOPNOTSUPP;
    }
    tc_put.info.recirc_id_shared_with_tc
        = dpif_get_features(dpif) & OVS_DP_F_TC_RECIRC_SHARING;
    error = plugin_system_flow_put(port->netdev, system, &match,
                                   CONST_CAST(struct nlattr *, put->actions),
                                   put->actions_len, put->ufid, &tc_put,
                                   put->stats);
    if (!error && put->flags & DPIF_FP_MODIFY) {
        delete_in_kernel(dpif, put);
    }
    return error && error != EEXIST ? ENOSPC : error;
}

static int
flow_get(const struct dpif_offload *offload, struct dpif_flow_get *get)
{
    struct odputil_keybuf keybuf, maskbuf;
    struct dpif_offload_port *port;
    struct ofpbuf key, mask, buf;
    uint64_t actions_stub[1024 / 8];
    struct dpif_flow_stats stats;
    struct dpif_flow_attrs attrs;
    struct nlattr *actions;
    struct match match;
    int error = ENOENT;

    ofpbuf_use_stub(&buf, actions_stub, sizeof actions_stub);
    DPIF_OFFLOAD_PORT_FOR_EACH (port, offload) {
        if (offload_plugin_system_port(port)) {
            error = plugin_system_flow_get(port->netdev, &match, &actions,
                                           get->ufid, &stats, &attrs, &buf);
            if (!error) {
                break;
            }
        }
    }
    if (!error) {
        ofpbuf_use_stack(&key, &keybuf, sizeof keybuf);
        ofpbuf_use_stack(&mask, &maskbuf, sizeof maskbuf);
        tc_match_to_dpif_flow(&match, &key, &mask, actions, &stats, &attrs,
                              CONST_CAST(ovs_u128 *, get->ufid), get->flow,
                              false);
        tc_keep_dpif_flow(get->flow, get->buffer);
    }
    ofpbuf_uninit(&buf);
    return error;
}

void
offload_plugin_system_operate(struct dpif *dpif,
                              const struct dpif_offload *offload,
                              struct dpif_op **ops, size_t n_ops)
{
    if (!netdev_offload_plugin_is_loaded()) {
        return;
    }
    execute_packets(dpif, ops, n_ops);
    for (size_t i = 0; i < n_ops; i++) {
        struct dpif_op *op = ops[i];
        int error = EOPNOTSUPP;

        if (op->error >= 0) {
            continue;
        }
        switch (op->type) {
        case DPIF_OP_FLOW_PUT:
            error = flow_put(dpif, offload, &op->flow_put);
            break;

        case DPIF_OP_FLOW_DEL:
            if (op->flow_del.ufid) {
                error = netdev_offload_plugin_del_known(op->flow_del.ufid,
                                                        op->flow_del.stats);
            }
            break;

        case DPIF_OP_FLOW_GET:
            if (op->flow_get.ufid) {
                error = flow_get(offload, &op->flow_get);
            }
            break;

        case DPIF_OP_EXECUTE:
            break;
        }
        if (error != EOPNOTSUPP && error != ENOENT) {
            op->error = error;
        }
    }
}

/* Flushing and dumping. */

int
offload_plugin_system_flow_flush(const struct dpif_offload *offload)
{
    struct dpif_offload_port *port;

    DPIF_OFFLOAD_PORT_FOR_EACH (port, offload) {
        struct system_port *system = offload_plugin_system_port(port);

        if (system) {
            plugin_system_flow_flush(port->netdev, system);
        }
    }
    return 0;
}

struct port_dump {
    odp_port_t port_no;
    struct system_dump *flows;
};

struct plugin_dump {
    struct dpif_offload_flow_dump up;
    size_t n;
    struct port_dump ports[];
};

#define MAX_BATCH 50

/* A thread's part of a dump: it goes through all ports, each of whose dumps gives
 * a flow to one thread only. */
struct plugin_dump_thread {
    struct dpif_offload_flow_dump_thread up;
    size_t next;                    /* In the dump's 'ports'. */
    struct ofpbuf replies;          /* Of TC. */

    /* What the flows of the last batch point to. */
    struct odputil_keybuf keys[MAX_BATCH];
    struct odputil_keybuf masks[MAX_BATCH];
    struct odputil_keybuf actions[MAX_BATCH];
};

struct dpif_offload_flow_dump *
offload_plugin_system_dump_create(const struct dpif_offload *offload,
                                  bool terse)
{
    size_t max = dpif_offload_port_mgr_port_count(offload);
    struct plugin_dump *dump = xmalloc(sizeof *dump
                                       + max * sizeof dump->ports[0]);
    struct dpif_offload_port *port;

    dpif_offload_flow_dump_init(&dump->up, offload, terse);
    dump->n = 0;
    DPIF_OFFLOAD_PORT_FOR_EACH (port, offload) {
        struct system_port *system = offload_plugin_system_port(port);

        if (dump->n == max) {
            break;                  /* Added meanwhile. */
        }
        if (system) {
            dump->ports[dump->n++] = (struct port_dump) {
                .port_no = port->port_no,
                .flows = plugin_system_flow_dump_create(port->netdev, system,
                                                        terse),
            };
        }
    }
    return &dump->up;
}

int
offload_plugin_system_dump_destroy(struct dpif_offload_flow_dump *dump_)
{
    struct plugin_dump *dump = CONTAINER_OF(dump_, struct plugin_dump, up);

    for (size_t i = 0; i < dump->n; i++) {
        plugin_system_flow_dump_destroy(dump->ports[i].flows);
    }
    free(dump);
    return 0;
}

struct dpif_offload_flow_dump_thread *
offload_plugin_system_dump_thread_create(struct dpif_offload_flow_dump *dump)
{
    struct plugin_dump_thread *thread = xmalloc(sizeof *thread);

    dpif_offload_flow_dump_thread_init(&thread->up, dump);
    thread->next = 0;
    ofpbuf_init(&thread->replies, NL_DUMP_BUFSIZE);
    return &thread->up;
}

void
offload_plugin_system_dump_thread_destroy(
    struct dpif_offload_flow_dump_thread *thread_)
{
    struct plugin_dump_thread *thread
        = CONTAINER_OF(thread_, struct plugin_dump_thread, up);

    ofpbuf_uninit(&thread->replies);
    free(thread);
}

/* Stores the port's next flow in '*flow', with the 'i'th of the buffers. */
static bool
dump_next(struct plugin_dump_thread *thread, const struct port_dump *port,
          size_t i, struct dpif_flow *flow)
{
    struct ofpbuf key, mask, actions_buf;
    struct dpif_flow_stats stats;
    struct dpif_flow_attrs attrs;
    struct nlattr *actions;
    struct match match;
    ovs_u128 ufid;

    ofpbuf_use_stack(&key, &thread->keys[i], sizeof thread->keys[i]);
    ofpbuf_use_stack(&mask, &thread->masks[i], sizeof thread->masks[i]);
    ofpbuf_use_stack(&actions_buf, &thread->actions[i],
                     sizeof thread->actions[i]);
    if (!plugin_system_flow_dump_next(port->flows, port->port_no, &match,
                                      &actions, &stats, &attrs, &ufid,
                                      &thread->replies, &actions_buf)) {
        return false;
    }
    tc_match_to_dpif_flow(&match, &key, &mask, actions, &stats, &attrs, &ufid,
                          flow, thread->up.dump->terse);
    return true;
}

int
offload_plugin_system_dump_next(struct dpif_offload_flow_dump_thread *thread_,
                                struct dpif_flow *flows, int max_flows)
{
    struct plugin_dump_thread *thread
        = CONTAINER_OF(thread_, struct plugin_dump_thread, up);
    struct plugin_dump *dump = CONTAINER_OF(thread->up.dump,
                                            struct plugin_dump, up);
    int n = 0;

    while (thread->next < dump->n && n < MIN(max_flows, MAX_BATCH)) {
        if (dump_next(thread, &dump->ports[thread->next], n, &flows[n])) {
            n++;
        } else {
            thread->next++;
        }
    }
    return n;
}

/* What netdev-offload-plugin-system.h says of TC. */

/* Has the provider "tc" the port?  It gets it after us, and loses it first.  Where
 * the interface's hw-offload-priority leaves that provider out, it never has. */
static bool
tc_has(const struct netdev *netdev)
{
    return ovsrcu_get(const struct dpif_offload *, &netdev->dpif_offload);
}

int
plugin_tc_init(struct netdev *netdev OVS_UNUSED)
{
    return 0;
}

int
plugin_tc_flow_put(struct netdev *netdev, struct match *match,
                   struct nlattr *actions, size_t actions_len,
                   const ovs_u128 *ufid, struct plugin_tc_put *tc_put)
{
    return (tc_has(netdev)
            ? tc_netdev_flow_put(tc_put->dpif, netdev, match, actions,
                                 actions_len, ufid, &tc_put->info, NULL)
            : EOPNOTSUPP);
}

int
plugin_tc_flow_get(struct netdev *netdev, struct match *match,
                   struct nlattr **actions, const ovs_u128 *ufid,
                   struct dpif_flow_stats *stats,
                   struct dpif_flow_attrs *attrs, struct ofpbuf *buf)
{
    return (tc_has(netdev)
            ? tc_netdev_flow_get(netdev, match, actions, ufid, stats, attrs,
                                 buf)
            : ENOENT);
}

int
plugin_tc_flow_del(const ovs_u128 *ufid, struct dpif_flow_stats *stats)
{
    return tc_netdev_flow_del(ufid, stats);
}

int
plugin_tc_flow_flush(struct netdev *netdev)
{
    return tc_has(netdev) ? tc_netdev_flow_flush(netdev) : 0;
}

/* A 'struct plugin_tc_dump' is a 'struct netdev_tc_flow_dump'. */

struct plugin_tc_dump *
plugin_tc_dump_create(struct netdev *netdev, bool terse)
{
    struct netdev_tc_flow_dump *dump;

    return (tc_has(netdev) && !tc_netdev_flow_dump_create(netdev, &dump, terse)
            ? (struct plugin_tc_dump *) dump : NULL);
}

bool
plugin_tc_dump_next(struct plugin_tc_dump *dump_, odp_port_t in_port,
                    struct match *match, struct nlattr **actions,
                    struct dpif_flow_stats *stats,
                    struct dpif_flow_attrs *attrs, ovs_u128 *ufid,
                    struct ofpbuf *rbuffer, struct ofpbuf *wbuffer)
{
    struct netdev_tc_flow_dump *dump = (struct netdev_tc_flow_dump *) dump_;

    dump->port = in_port;
    return tc_netdev_flow_dump_next(dump, match, actions, stats, attrs, ufid,
                                    rbuffer, wbuffer);
}

void
plugin_tc_dump_destroy(struct plugin_tc_dump *dump)
{
    tc_netdev_flow_dump_destroy((struct netdev_tc_flow_dump *) dump);
}
