/* SPDX-License-Identifier: Apache-2.0 */
/* The contract between ovs-vswitchd and an out-of-tree flow offload plugin.
 *
 * A plugin is a shared object that exports one function,
 * OVS_OFFLOAD_PLUGIN_SYMBOL, which returns a table of operations.  Nothing in
 * this file refers to OVS-internal types, so one plugin file works with every
 * OVS release that carries the glue (netdev-offload-plugin.c), however that
 * OVS was linked or stripped.  Flows travel as the netlink attributes of
 * <linux/openvswitch.h>, the interface that OVS keeps stable already.
 *
 * Rules that hold for every operation:
 *
 * - Results are 0 or a positive errno value.  Nothing throws or longjmps.
 * - Structures that OVS fills in begin with 'size', the sizeof that OVS was
 *   compiled with.  New members are only ever appended, and a plugin must not
 *   read past 'size'.  An incompatible change increments OVS_OFFLOAD_ABI.
 * - Pointers passed in are valid during the call only, except where noted.
 * - Every operation may be called from any thread and concurrently with any
 *   other, except that OVS serializes port_add() and port_del() of one port,
 *   and init() runs before, and alone.
 * - A flow is named by its 16-byte unique id ("ufid") alone.  OVS must not use
 *   the same ufid for two flows at the same time.
 */
#ifndef OVS_OFFLOAD_ABI_H
#define OVS_OFFLOAD_ABI_H 1

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define OVS_OFFLOAD_ABI 1
#define OVS_OFFLOAD_PLUGIN_SYMBOL "ovs_offload_plugin_get"

#define OVS_OFFLOAD_UFID_LEN 16

enum ovs_offload_log_level {
    OVS_OFFLOAD_LOG_DBG,
    OVS_OFFLOAD_LOG_INFO,
    OVS_OFFLOAD_LOG_WARN,
    OVS_OFFLOAD_LOG_ERR,
};

struct ovs_offload_flow;

/* Services of OVS.  Valid for the life of the process. */
struct ovs_offload_host {
    uint32_t size;
    uint32_t abi;                    /* OVS_OFFLOAD_ABI of the glue. */
    const char *ovs_version;         /* For example "3.1.0". */

    /* Logs one line without a trailing new-line.  Thread-safe; OVS applies no
     * rate limit, so the plugin must not log per packet or per flow. */
    void (*log)(enum ovs_offload_log_level, const char *line);

    /* Returns the network device index of datapath port 'odp_port' of the
     * datapaths of type 'dpif_type', or -1 if there is no such port or it has
     * no device (LOCAL, internal and tunnel ports of the userspace datapath).
     * Takes OVS's port map lock: call it without holding any lock of the
     * plugin, or two threads can wait for each other for ever. */
    int (*port_ifindex)(const char *dpif_type, uint32_t odp_port);

    /* OVS's symmetric L3/L4 hash, flow_hash_symmetric_l3l4(), with basis 0, of
     * an IPv4 flow from 10.0.0.1, TCP port 1, to 10.0.0.2, port 2.  It differs
     * between builds of OVS; a plugin that hashes (OVS_ACTION_ATTR_HASH) must
     * find the same or leave it to OVS. */
    uint32_t symmetric_l4_probe;

    /* For the kernel datapath ("system"), which does not keep the flows that
     * it hands over.  Both return at once and may be called with any lock.
     *
     * flows_lost(): flows that were executed are no longer (flow_take()
     * returns ENODATA), without OVS having a part in it.  OVS deletes them,
     * and its next packet installs each of them elsewhere.
     *
     * offer_again(): flows that were refused would be taken now.  OVS removes
     * all flows of the datapath, and packets install them again, so this must
     * not happen often. */
    void (*flows_lost)(void);
    void (*offer_again)(void);

    /* Returns what dpctl/dump-flows prints of a flow, "MATCH, actions:ACTIONS",
     * which the plugin must free(), or NULL.  Takes OVS's port map lock, like
     * port_ifindex().  A flow has two unique ids in the userspace datapath, and
     * the one that the plugin gets cannot be looked up: its text can. */
    char *(*flow_text)(const struct ovs_offload_flow *);

    /* Does OVS handle packets that match no flow as it should?  Not before it
     * has added the ports that are in its database when it starts, and not
     * during other_config:flow-restore-wait.  May be called with any lock. */
    bool (*handles_misses)(void);

    /* take_copy() has something.  May be called with any lock. */
    void (*copies_ready)(void);
};

/* One "KEY=VALUE" of other_config whose KEY begins with "TYPE-offload-". */
struct ovs_offload_option {
    const char *key;
    const char *value;
};

struct ovs_offload_port {
    uint32_t size;
    int ifindex;                     /* Of the network device, > 0. */
    const char *name;                /* Device name, "eth0". */
    const char *netdev_type;         /* OVS interface type, "afxdp". */
    const char *dpif_type;           /* "netdev" or "system". */
};

/* The attributes are numbered as in the kernel's <linux/openvswitch.h>.  OVS has
 * a few actions of its own (tunnel_push, tunnel_pop, lb_output), with numbers
 * that the kernel uses for others and that differ between releases.  At the top
 * level of 'actions' those have the type OVS_OFFLOAD_ACTION_PRIVATE instead,
 * and a sole explicit "drop" is an empty list.
 *
 * If 'dpif_type' is "netdev", OVS keeps the flow and executes it for each packet
 * that the plugin passes on.  If it is "system", the plugin gets the only copy:
 * it must refuse a flow whose packets it would have to pass on now. */
#define OVS_OFFLOAD_ACTION_PRIVATE 0x3fff

struct ovs_offload_flow {
    uint32_t size;
    const uint8_t *ufid;             /* OVS_OFFLOAD_UFID_LEN bytes. */
    const char *dpif_type;           /* As in struct ovs_offload_port. */
    const void *key;                 /* OVS_KEY_ATTR_* attributes. */
    size_t key_len;                  /* In bytes, like the lengths below. */
    const void *mask;                /* OVS_KEY_ATTR_* attributes. */
    size_t mask_len;
    const void *actions;             /* OVS_ACTION_ATTR_*; empty = drop. */
    size_t actions_len;
    uint32_t vlan_limit;             /* VLAN tags that OVS looks behind now, at
                                      * least 1: other_config:vlan-limit. */
};

struct ovs_offload_stats {
    uint64_t n_packets;
    uint64_t n_bytes;                /* Ethernet frames without FCS. */
    int64_t used_ms;                 /* CLOCK_MONOTONIC ms, 0 = never. */
    uint16_t tcp_flags;              /* Host order, OR of all seen. */
};

/* How a packet begins that no flow of this process matches, but one that the
 * plugin has from an earlier process executes. */
#define OVS_OFFLOAD_COPY_LEN 256
struct ovs_offload_copy {
    uint32_t size;
    int ifindex;                     /* Of the device where it came in. */
    uint32_t frame_len;              /* In bytes, without FCS... */
    uint32_t data_len;               /* ...of which 'data' has these. */
    uint8_t data[OVS_OFFLOAD_COPY_LEN];
};

/* An ovs-appctl command.  'run' returns a malloc()ed text that OVS frees, or
 * NULL for an empty reply.  'argv[0]' is the command's name. */
struct ovs_offload_command {
    const char *name;                /* "xdp-offload/show". */
    const char *usage;               /* "[PORT]", "" for none. */
    int min_args, max_args;
    char *(*run)(void *self, int argc, const char *argv[]);
};

/* The plugin's operations.  The table and all it points to must stay valid for
 * the life of the process: OVS never unloads a plugin. */
struct ovs_offload_ops {
    uint32_t size;
    uint32_t abi;                    /* OVS_OFFLOAD_ABI of the plugin. */
    const char *type;                /* Short name, also the "dp:" layer that
                                      * dpctl/dump-flows shows: "xdp". */

    /* Sets the plugin up and stores its instance in '*selfp', which OVS hands
     * to every other operation.  On failure the plugin has already logged why,
     * and OVS works without it. */
    int (*init)(const struct ovs_offload_host *,
                const struct ovs_offload_option *, size_t n_options,
                void **selfp);

    /* Offers a port.  EOPNOTSUPP: not a port for this plugin, which is no
     * error; OVS then asks the next provider.  Other errors have been logged.
     * On success '*portp' names the port until port_del(). */
    int (*port_add)(void *self, const struct ovs_offload_port *,
                    void **portp);

    /* Takes the plugin's program off the device and removes every flow that
     * enters or leaves through the port.  The flows stay known, so that
     * flow_take() and flow_del() still return their last figures. */
    void (*port_del)(void *self, void *port);

    /* Adds a flow, or replaces the one with the same ufid: packets follow the
     * old flow until the new one is in place, and the statistics go on.
     * Failure leaves no flow with that ufid in the fast path (an old one's
     * statistics remain readable until flow_del()).  EOPNOTSUPP: the flow or
     * its output cannot be executed here; ENOSPC: a table is full; EINVAL: the
     * attributes are malformed. */
    int (*flow_put)(void *self, const struct ovs_offload_flow *);

    /* Removes a flow.  When this returns, no packet is in the middle of it
     * (unless a CPU was held up there for 10 ms, which is counted and shown).
     * If 'remaining' is nonnull stores in it what flow_take() would have
     * returned.  ENOENT: unknown. */
    int (*flow_del)(void *self, const uint8_t *ufid,
                    struct ovs_offload_stats *remaining);

    /* Stores the flow's cumulative statistics in 'stats'.  ENOENT: unknown or
     * no longer in the fast path. */
    int (*flow_stats)(void *self, const uint8_t *ufid,
                      struct ovs_offload_stats *stats);

    /* Like flow_stats(), but 'n_packets' and 'n_bytes' count only what came
     * after the previous flow_take() of this flow: several copies of one
     * megaflow (one per PMD thread) can share its counters without counting a
     * packet twice.  Also works, returning ENODATA, for a flow that is known
     * but no longer in the fast path.  ENOENT: unknown. */
    int (*flow_take)(void *self, const uint8_t *ufid,
                     struct ovs_offload_stats *delta);

    /* Removes the flows that enter through 'port' from the fast path; like
     * port_del() it keeps their figures. */
    int (*flow_flush)(void *self, void *port);

    /* Number of flows in the fast path that enter through 'port'. */
    uint64_t (*n_flows)(void *self, void *port);

    /* OVS is about to end, and its flows shall go on being executed until the
     * next process takes over: what is done after this does not reach them.  NULL:
     * they end with the process. */
    void (*leave)(void *self);

    const struct ovs_offload_command *commands;
    size_t n_commands;

    /* Stores in 'copy' the next copy of a packet that entered a datapath of type
     * 'dpif_type'.  OVS makes a flow for it as for one that misses, but does not
     * execute it: it is on its way already.  ENOENT: there is none now.  NULL:
     * never is. */
    int (*take_copy)(void *self, const char *dpif_type,
                     struct ovs_offload_copy *copy);
};

typedef const struct ovs_offload_ops *ovs_offload_plugin_get_fn(void);

#ifdef __cplusplus
}
#endif

#endif /* ovs_offload_abi.h */
