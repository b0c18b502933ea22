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

#ifndef NETDEV_OFFLOAD_PLUGIN_H
#define NETDEV_OFFLOAD_PLUGIN_H 1

/* Out-of-tree flow offload provider
 * =================================
 *
 * A netdev flow API provider whose work is done by a shared object that is
 * loaded at run time (see ovs_offload_abi.h for the contract with it).  The
 * name of the plugin comes from other_config:hw-offload-plugin, its directory
 * never from the database.  At most one plugin is loaded, and it stays for the
 * life of the process.
 *
 * A plugin is "enabled" while other_config:hw-offload is true and
 * other_config:hw-offload-plugin names it.  While it is disabled it keeps its
 * ports, but no flow.
 *
 * Unlike other providers, a plugin keeps the statistics of a flow that it had
 * to give up, because its port disappeared for example, until the flow is
 * deleted, and finds them by the flow's ufid alone.  The functions that take
 * just a ufid exploit that: they need neither a netdev nor a lock of the
 * datapath.
 *
 * The kernel datapath does not keep the flows that it offloads, which takes
 * more: see netdev-offload-plugin-system.h. */

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>

#include "openvswitch/types.h"

#ifdef  __cplusplus
extern "C" {
#endif

struct conntrack;
struct dp_packet;
struct dpif_flow;
struct dpif_flow_attrs;
struct dpif_flow_stats;
struct dpif_op;
struct flow;
struct match;
struct netdev;
struct netdev_flow_api;
struct nlattr;
struct ofpbuf;
struct smap;

/* Returns what ofproto/trace prints of a packet in hex that enters the datapath of
 * the type through the port, or NULL.  The caller must free it. */
typedef char *netdev_offload_plugin_tracer(const char *dpif_type,
                                           const char *port, const char *hex);

/* Of netdev-offload.c. */
void netdev_offer_to_plugin(struct netdev *);

#ifdef __linux__
bool netdev_offload_plugin_configure(const struct smap *other_config);
bool netdev_offload_plugin_is_loaded(void);
bool netdev_offload_plugin_is_provider(const struct netdev_flow_api *);
bool netdev_offload_plugin_owns(const struct netdev *);
unsigned int netdev_offload_plugin_seq(const char *dpif_type);
unsigned int netdev_offload_plugin_moves(const char *dpif_type);
unsigned int netdev_offload_plugin_ports(void);
void netdev_offload_plugin_ports_settled(const char *dpif_type);
bool netdev_offload_plugin_wants(const ovs_u128 *ufid);
uint64_t netdev_offload_plugin_changes(void);
void netdev_offload_plugin_wait(uint64_t seen);
void netdev_offload_plugin_set_handles_misses(bool enable);
void netdev_offload_plugin_configured(void);
void netdev_offload_plugin_set_has_rules(bool complete);
void netdev_offload_plugin_leave(void);
void netdev_offload_plugin_configure_port(struct netdev *,
                                          const struct smap *other_config);
void netdev_offload_plugin_get_status(const struct netdev *, struct smap *);

struct dp_packet *netdev_offload_plugin_take_copy(const char *dpif_type);
uint64_t netdev_offload_plugin_copies(void);
void netdev_offload_plugin_copies_wait(uint64_t seen);
void netdev_offload_plugin_set_learning(bool);
bool netdev_offload_plugin_is_learning(void);

void netdev_offload_plugin_attach_conntrack(struct conntrack *);

void netdev_offload_plugin_set_tracer(netdev_offload_plugin_tracer *);

int netdev_offload_plugin_take(const ovs_u128 *ufid,
                               struct dpif_flow_stats *delta,
                               struct dpif_flow_attrs *);
int netdev_offload_plugin_del(const ovs_u128 *ufid,
                              struct dpif_flow_stats *remaining);
void netdev_offload_plugin_rest(long long int usec);

/* For flows of the kernel datapath. */
void netdev_offload_plugin_flow_missed(const ovs_u128 *ufid);
void netdev_offload_plugin_flow_left_kernel(const ovs_u128 *ufid,
                                            const struct dpif_flow_stats *);
int netdev_offload_plugin_del_known(const ovs_u128 *ufid,
                                    struct dpif_flow_stats *);
bool netdev_offload_plugin_keeps_figures(const ovs_u128 *ufid);
void netdev_offload_plugin_operated(const char *dpif_type, struct dpif_op **,
                                    size_t n_ops);
void netdev_offload_plugin_dumped(const char *dpif_type, struct dpif_flow *,
                                  int n);

/* What a plugin gets of a match and of actions.  For tools and tests, too. */
void netdev_offload_plugin_put_match(const struct flow *,
                                     const struct flow *mask,
                                     struct ofpbuf *key_buf,
                                     struct ofpbuf *mask_buf);
void netdev_offload_plugin_put_actions(const struct nlattr *actions,
                                       size_t actions_len, struct ofpbuf *);

/* For netdev-offload-plugin-system.c. */
void netdev_offload_plugin_fill_attrs(bool offloaded,
                                      struct dpif_flow_attrs *);
void netdev_offload_plugin_flows_moved(void);
#else
static inline bool
netdev_offload_plugin_configure(const struct smap *other_config OVS_UNUSED)
{
    return false;
}

static inline bool
netdev_offload_plugin_is_loaded(void)
{
    return false;
}

static inline bool
netdev_offload_plugin_is_provider(const struct netdev_flow_api *a OVS_UNUSED)
{
    return false;
}

static inline bool
netdev_offload_plugin_owns(const struct netdev *netdev OVS_UNUSED)
{
    return false;
}

static inline unsigned int
netdev_offload_plugin_seq(const char *dpif_type OVS_UNUSED)
{
    return 0;
}

static inline unsigned int
netdev_offload_plugin_moves(const char *dpif_type OVS_UNUSED)
{
    return 0;
}

static inline unsigned int
netdev_offload_plugin_ports(void)
{
    return 0;
}

static inline void
netdev_offload_plugin_ports_settled(const char *dpif_type OVS_UNUSED)
{
}

static inline bool
netdev_offload_plugin_wants(const ovs_u128 *ufid OVS_UNUSED)
{
    return false;
}

static inline uint64_t
netdev_offload_plugin_changes(void)
{
    return 0;
}

static inline void
netdev_offload_plugin_wait(uint64_t seen OVS_UNUSED)
{
}

static inline void
netdev_offload_plugin_set_handles_misses(bool enable OVS_UNUSED)
{
}

static inline void
netdev_offload_plugin_configured(void)
{
}

static inline void
netdev_offload_plugin_set_has_rules(bool complete OVS_UNUSED)
{
}

static inline void
netdev_offload_plugin_leave(void)
{
}

static inline void
netdev_offload_plugin_configure_port(struct netdev *netdev OVS_UNUSED,
                                     const struct smap *other_config
                                         OVS_UNUSED)
{
}

static inline void
netdev_offload_plugin_get_status(const struct netdev *netdev OVS_UNUSED,
                                 struct smap *status OVS_UNUSED)
{
}

static inline struct dp_packet *
netdev_offload_plugin_take_copy(const char *dpif_type OVS_UNUSED)
{
    return NULL;
}

static inline uint64_t
netdev_offload_plugin_copies(void)
{
    return 0;
}

static inline void
netdev_offload_plugin_copies_wait(uint64_t seen OVS_UNUSED)
{
}

static inline void
netdev_offload_plugin_set_learning(bool enable OVS_UNUSED)
{
}

static inline bool
netdev_offload_plugin_is_learning(void)
{
    return false;
}

static inline void
netdev_offload_plugin_attach_conntrack(struct conntrack *ct OVS_UNUSED)
{
}

static inline void
netdev_offload_plugin_set_tracer(netdev_offload_plugin_tracer *f OVS_UNUSED)
{
}

static inline int
netdev_offload_plugin_take(const ovs_u128 *ufid OVS_UNUSED,
                           struct dpif_flow_stats *delta OVS_UNUSED,
                           struct dpif_flow_attrs *attrs OVS_UNUSED)
{
    return ENOENT;
}

static inline int
netdev_offload_plugin_del(const ovs_u128 *ufid OVS_UNUSED,
                          struct dpif_flow_stats *remaining OVS_UNUSED)
{
    return ENOENT;
}

static inline void
netdev_offload_plugin_rest(long long int usec OVS_UNUSED)
{
}

static inline void
netdev_offload_plugin_flow_missed(const ovs_u128 *ufid OVS_UNUSED)
{
}

static inline void
netdev_offload_plugin_flow_left_kernel(const ovs_u128 *ufid OVS_UNUSED,
                                       const struct dpif_flow_stats *stats
                                           OVS_UNUSED)
{
}

static inline int
netdev_offload_plugin_del_known(const ovs_u128 *ufid OVS_UNUSED,
                                struct dpif_flow_stats *stats OVS_UNUSED)
{
    return ENOENT;
}

static inline bool
netdev_offload_plugin_keeps_figures(const ovs_u128 *ufid OVS_UNUSED)
{
    return false;
}

static inline void
netdev_offload_plugin_operated(const char *dpif_type OVS_UNUSED,
                               struct dpif_op **ops OVS_UNUSED,
                               size_t n_ops OVS_UNUSED)
{
}

static inline void
netdev_offload_plugin_dumped(const char *dpif_type OVS_UNUSED,
                             struct dpif_flow *flows OVS_UNUSED,
                             int n OVS_UNUSED)
{
}
#endif

#ifdef  __cplusplus
}
#endif

#endif /* netdev-offload-plugin.h */
