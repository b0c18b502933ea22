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

#ifndef NETDEV_OFFLOAD_PLUGIN_API_H
#define NETDEV_OFFLOAD_PLUGIN_API_H 1

/* Between the part of the glue that is the same for all releases of OVS
 * (netdev-offload-plugin.c) and the one that speaks the release's interface for
 * offload providers: netdev-offload-plugin-netdev.c up to 3.6,
 * netdev-offload-plugin-dpif.c from 3.7 on. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "openvswitch/types.h"
#include "ovs-thread.h"

struct dpif_flow_stats;
struct match;
struct netdev;
struct nlattr;
struct smap;

/* The release's part.  All but the first two must find the ports from threads
 * that are not OVS's.
 *
 * A plugin has been loaded.  Main thread only. */
void offload_plugin_api_register(void);

/* Of the database, as of now.  Main thread only. */
void offload_plugin_api_configure(const struct smap *other_config);

/* Takes all flows off the plugin. */
void offload_plugin_api_flush(void);

/* Takes all ports off the plugin, as the process is about to end. */
void offload_plugin_api_close_ports(void);

/* 'netdev' is left out from now on, or not any more: tells the plugin, or if that
 * has refused 'netdev' offers it again, as it may not be refused as it is wanted
 * now.  Returns false if 'netdev' is no port that can be offered, or not yet, so
 * that there is nothing to do.  Main thread only. */
bool offload_plugin_api_set_left_out(struct netdev *netdev, bool left_out);

/* Returns what 'ifindex' was when the port was added, -1 if the plugin has no
 * such port. */
int offload_plugin_api_port_ifindex(const char *dpif_type, odp_port_t);

/* The reverse, of any datapath; 0 if there is none. */
odp_port_t offload_plugin_api_ifindex_to_port(int ifindex);

/* Calls 'cb' for the ports of a datapath until that returns true. */
void offload_plugin_api_for_each_port(const char *dpif_type,
                                      bool (*cb)(const char *name, odp_port_t,
                                                 void *aux),
                                      void *aux);

/* The common part. */
const char *offload_plugin_type(void);
bool offload_plugin_is_enabled(void);
int offload_plugin_put(const char *dpif_type, const struct match *,
                       const struct nlattr *actions, size_t actions_len,
                       const ovs_u128 *ufid, bool has_twin);
int offload_plugin_get_stats(const ovs_u128 *ufid, struct dpif_flow_stats *);

/* What the plugin has of a port. */
struct offload_plugin_handle {
    /* Held for reading while the plugin uses 'port', so that it is not freed
     * under its feet. */
    struct ovs_rwlock rwlock;
    void *port OVS_GUARDED;         /* The plugin's, NULL: it has none. */
};

void offload_plugin_handle_init(struct offload_plugin_handle *);
void offload_plugin_handle_destroy(struct offload_plugin_handle *);

/* Adds 'netdev' to the plugin.  Stores its device's index in '*ifindex'. */
int offload_plugin_handle_open(struct offload_plugin_handle *, struct netdev *,
                               const char *dpif_type, int *ifindex);

/* Takes the port off the plugin, when no thread uses it any more. */
void offload_plugin_handle_close(struct offload_plugin_handle *);

/* Takes all flows off the port. */
int offload_plugin_handle_flush(struct offload_plugin_handle *);
uint64_t offload_plugin_handle_n_flows(struct offload_plugin_handle *);

/* Tells the plugin whether the port is left out.  Returns false if it has none. */
bool offload_plugin_handle_set_left_out(struct offload_plugin_handle *,
                                        bool left_out);

#endif /* netdev-offload-plugin-api.h */
