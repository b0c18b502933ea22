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

#ifndef NETDEV_OFFLOAD_PLUGIN_DPIF_H
#define NETDEV_OFFLOAD_PLUGIN_DPIF_H 1

/* Flows of the userspace datapath that an offload plugin executes
 * ===============================================================
 *
 * For OVS from 3.7 on, which has dpif-offload.  (Those of the kernel datapath:
 * netdev-offload-plugin-system.h.)
 *
 * The fast path counts a megaflow once, however many PMD threads have a copy
 * of it.  So statistics are taken from the plugin as increments, and each
 * increment is given to just one of the copies, the one that is being looked
 * at.  What a copy reports is the sum of what it has counted and what it has
 * been given, which never decreases, also when the flow leaves the fast path.
 *
 * Deletion is synchronous: it takes the flow off the plugin first
 * (offload_plugin_copy_end()), then out of the classifier, and then reports, so
 * that no packet is missing.
 *
 * dpif-offload has no words for either, and calls with a PMD thread's
 * 'flow_mutex', which that thread needs for each packet that matches no flow,
 * while a plugin may take its time.  So all it is used for is to put flows.
 * They are queued, and dpif-netdev is told in the end that the flow was not
 * offloaded, whatever the plugin said: it then neither asks for its figures nor
 * deletes it in ways of its own. */

#include <stdbool.h>

#include "dpif.h"
#include "openvswitch/hmap.h"
#include "openvswitch/types.h"
#include "ovs-atomic.h"

#ifdef  __cplusplus
extern "C" {
#endif

struct dpif_offload;
struct dpif_offload_flow_dump;
struct dpif_offload_flow_dump_thread;
struct dpif_offload_port;
struct system_port;

/* What the plugin has of one PMD thread's copy of a megaflow. */
struct offload_plugin_copy {
    struct hmap_node node;          /* In 'copies', while 'put'. */
    ovs_u128 ufid;                  /* The megaflow's.  Constant. */
    uint64_t epoch;                 /* In which it came.  Constant. */
    bool put;                       /* Has the plugin taken this copy? */
    atomic_bool ended;              /* It never will again.  Written with the
                                     * mutex of copies. */
    unsigned long long dumped;      /* Packets that the copy had itself at the
                                     * last dump, ULLONG_MAX before. */
    struct dpif_flow_stats given;
};

#ifdef __linux__
uint64_t offload_plugin_next_epoch(void);
void offload_plugin_copy_init(struct offload_plugin_copy *,
                              const ovs_u128 *mega_ufid);
bool offload_plugin_copy_stats(struct offload_plugin_copy *,
                               struct dpif_flow_stats *,
                               struct dpif_flow_attrs *);
bool offload_plugin_copy_end(struct offload_plugin_copy *);
bool offload_plugin_copy_has_ended(const struct offload_plugin_copy *);
bool offload_plugin_copy_offer_again(struct offload_plugin_copy *,
                                     const char *dpif_type, odp_port_t in_port,
                                     unsigned long long n_packets);
void offload_plugin_offer_ports(void);
bool offload_plugin_shares_ports(const struct dpif_offload *);
bool offload_plugin_is_idle(const struct dpif_offload *);

/* For ports of the kernel datapath.  Returns NULL if the plugin does not have
 * 'port', otherwise what remains until the next grace period. */
struct system_port *offload_plugin_system_port(
    const struct dpif_offload_port *port);
bool offload_plugin_has_system_port(odp_port_t);

/* Of netdev-offload-plugin-dpif-system.c; what they do is in
 * dpif-offload-provider.h. */
void offload_plugin_system_operate(struct dpif *, const struct dpif_offload *,
                                   struct dpif_op **, size_t n_ops);
int offload_plugin_system_flow_flush(const struct dpif_offload *);
struct dpif_offload_flow_dump *offload_plugin_system_dump_create(
    const struct dpif_offload *, bool terse);
int offload_plugin_system_dump_next(struct dpif_offload_flow_dump_thread *,
                                    struct dpif_flow *, int max_flows);
int offload_plugin_system_dump_destroy(struct dpif_offload_flow_dump *);
struct dpif_offload_flow_dump_thread *offload_plugin_system_dump_thread_create(
    struct dpif_offload_flow_dump *);
void offload_plugin_system_dump_thread_destroy(
    struct dpif_offload_flow_dump_thread *);
#else
static inline uint64_t
offload_plugin_next_epoch(void)
{
    return 0;
}

static inline void
offload_plugin_copy_init(struct offload_plugin_copy *copy OVS_UNUSED,
                         const ovs_u128 *mega_ufid OVS_UNUSED)
{
}

static inline bool
offload_plugin_copy_stats(struct offload_plugin_copy *copy OVS_UNUSED,
                          struct dpif_flow_stats *stats OVS_UNUSED,
                          struct dpif_flow_attrs *attrs OVS_UNUSED)
{
    return false;
}

static inline bool
offload_plugin_copy_end(struct offload_plugin_copy *copy OVS_UNUSED)
{
    return false;
}

static inline bool
offload_plugin_copy_has_ended(const struct offload_plugin_copy *copy
                                  OVS_UNUSED)
{
    return true;
}

static inline bool
offload_plugin_copy_offer_again(struct offload_plugin_copy *copy OVS_UNUSED,
                                const char *dpif_type OVS_UNUSED,
                                odp_port_t in_port OVS_UNUSED,
                                unsigned long long n_packets OVS_UNUSED)
{
    return false;
}

static inline void
offload_plugin_offer_ports(void)
{
}

static inline bool
offload_plugin_shares_ports(const struct dpif_offload *offload OVS_UNUSED)
{
    return false;
}

static inline bool
offload_plugin_is_idle(const struct dpif_offload *offload OVS_UNUSED)
{
    return false;
}
#endif

#ifdef  __cplusplus
}
#endif

#endif /* netdev-offload-plugin-dpif.h */
