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
#include "netdev-offload-plugin-system.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "dpif.h"
#include "hash.h"
#include "netdev-offload-plugin.h"
#include "netdev-offload-plugin-api.h"
#include "netdev-provider.h"
#include "netlink.h"
#include "odp-util.h"
#include "openvswitch/hmap.h"
#include "openvswitch/list.h"
#include "openvswitch/match.h"
#include "openvswitch/ofpbuf.h"
#include "openvswitch/vlog.h"
#include "ovs-atomic.h"
#include "ovs-thread.h"
#include "smap.h"
#include "timeval.h"
#include "util.h"
#include "uuid.h"

VLOG_DEFINE_THIS_MODULE(netdev_offload_plugin_system);

/* When a homeless flow was used last, for a revalidator: longer ago than any
 * other_config:max-idle. */
#define AGES_AGO INT_MIN

/* A flow may miss so many packets, each soon after the one before (they may
 * have been on their way when it was installed, at least within a grace
 * period), before it is taken off the plugin for a while. */
#define MAX_MISSES 16
#define MISS_GRACE_MS 1000
#define MISS_GAP_MS 10000
#define AVOID_MS 30000

/* Of a flow's actions in bytes.  A dump has 640 for each flow, see
 * ODPUTIL_FLOW_KEY_BYTES.  What is longer is not for the plugin. */
#define MAX_ACTIONS_LEN 512

enum tc_order { TC_AFTER, TC_BEFORE, TC_NEVER };

/* Written by the main thread. */
static atomic_int tc_order = TC_AFTER;
static atomic_bool tc_enabled = false;

/* A port of the kernel datapath. */
struct system_port {
    bool tc;                        /* It can have flows in TC. */
    bool closed;                    /* No flow enters 'flows' any more. */
    struct ovs_list flows;          /* Of struct system_flow. */
    size_t n_own;                   /* Of these, those that are no twins. */
};

/* A flow that lives in the plugin, is homeless, or lives in TC after it has
 * counted something elsewhere.  Other flows in TC are known to TC alone. */
struct system_flow {
    struct hmap_node ufid_node;     /* In 'flows'. */
    struct hmap_node match_node;    /* In 'matches', if not 'in_tc'. */
    struct ovs_list port_node;      /* In the port's 'flows'. */
    struct system_port *port;       /* NULL after the port has been closed. */
    ovs_u128 ufid;
    bool in_tc;
    struct minimatch match;
    struct nlattr *actions;         /* One attribute around them all. */

    /* All that it has counted so far outside of TC.  What the plugin counts is
     * added when somebody asks. */
    struct dpif_flow_stats stats;

    long long int created;
    unsigned int n_missed;          /* See netdev_offload_plugin_flow_missed(). */
    long long int last_missed;

    /* Of a twin, which is also in the kernel, and not 'in_tc'. */
    bool twin;
    bool barred;                    /* Not for the plugin until it is put. */
    bool in_kernel;                 /* The kernel has told of it. */
    uint64_t version;               /* Of its contents, and of 'barred'. */
    struct dpif_flow_stats kernels; /* What the kernel told last. */
};

/* A ufid that is not offered to the plugin for some time. */
struct avoided {
    struct hmap_node node;          /* In 'avoided', by ufid. */
    struct ovs_list age_node;       /* In 'avoided_by_age', oldest first. */
    ovs_u128 ufid;
    long long int until;
};

/* Protects everything below, and 'closed' and 'flows' of the ports.
 *
 * Acquired after the locks of OVS's own files for offloads and of netdev.c,
 * so nothing of theirs is called with it.  The plugin's
 * operations are, except for flow_put(), which calls back. */
static struct ovs_mutex mutex = OVS_MUTEX_INITIALIZER;
static struct hmap flows OVS_GUARDED_BY(mutex) = HMAP_INITIALIZER(&flows);
static struct hmap matches OVS_GUARDED_BY(mutex) = HMAP_INITIALIZER(&matches);
static struct hmap avoided OVS_GUARDED_BY(mutex) = HMAP_INITIALIZER(&avoided);
static struct ovs_list avoided_by_age OVS_GUARDED_BY(mutex)
    = OVS_LIST_INITIALIZER(&avoided_by_age);
static uint64_t last_version OVS_GUARDED_BY(mutex) = 0;

static void
stats_add(struct dpif_flow_stats *sum, const struct dpif_flow_stats *s)
{
    sum->n_packets += s->n_packets;
    sum->n_bytes += s->n_bytes;
    sum->used = MAX(sum->used, s->used);
    sum->tcp_flags |= s->tcp_flags;
}

static uint32_t
ufid_hash(const ovs_u128 *ufid)
{
    return ufid->u32[0];
}

static struct system_flow *
find_flow(const ovs_u128 *ufid)
    OVS_REQUIRES(mutex)
{
    struct system_flow *f;

    HMAP_FOR_EACH_WITH_HASH (f, ufid_node, ufid_hash(ufid), &flows) {
        if (ovs_u128_equals(f->ufid, *ufid)) {
            return f;
        }
    }
    return NULL;
}

/* Stores 'match' in '*mini', without what the caller may not have set. */
static void
init_minimatch(struct minimatch *mini, const struct match *match)
{
    struct match m;

    memset(&m, 0, sizeof m);
    m.flow = match->flow;
    m.wc = match->wc;
    /* A datapath flow's key is a packet's: a minimatch compares it by words. */
    match_zero_wildcarded_fields(&m);
    minimatch_init(mini, &m);
}

/* Brings the figures of 'f', which is not in TC, up to date.  Returns true if
 * the plugin executes the flow, false if it is homeless. */
static bool
collect(struct system_flow *f)
    OVS_REQUIRES(mutex)
{
    struct dpif_flow_stats delta;
    int error = netdev_offload_plugin_take(&f->ufid, &delta, NULL);

    if (error != ENOENT) {
        stats_add(&f->stats, &delta);
    }
    return !error;
}

/* Takes 'f' off the plugin and notes its last figures. */
static void
evict(struct system_flow *f)
    OVS_REQUIRES(mutex)
{
    struct dpif_flow_stats delta;

    if (!netdev_offload_plugin_del(&f->ufid, &delta)) {
        stats_add(&f->stats, &delta);
    }
}

/* The live flow of the plugin with the match 'mini' that is not 'ufid'. */
static bool
is_duplicate(const struct minimatch *mini, const ovs_u128 *ufid)
    OVS_REQUIRES(mutex)
{
    struct system_flow *f;

    HMAP_FOR_EACH_WITH_HASH (f, match_node, minimatch_hash(mini, 0),
                             &matches) {
        if (!ovs_u128_equals(f->ufid, *ufid)
            && minimatch_equal(&f->match, mini) && collect(f)) {
            return true;
        }
    }
    return false;
}

/* Avoided flows. */

static void
avoid(const ovs_u128 *ufid)
    OVS_REQUIRES(mutex)
{
    struct avoided *a = xmalloc(sizeof *a);

    a->ufid = *ufid;
    a->until = time_msec() + AVOID_MS;
    hmap_insert(&avoided, &a->node, ufid_hash(ufid));
    ovs_list_push_back(&avoided_by_age, &a->age_node);
}

static bool
is_avoided(const ovs_u128 *ufid)
    OVS_REQUIRES(mutex)
{
    struct avoided *a;

    while (!ovs_list_is_empty(&avoided_by_age)) {
        a = CONTAINER_OF(ovs_list_front(&avoided_by_age), struct avoided,
                         age_node);
        if (a->until > time_msec()) {
            break;
        }
        ovs_list_remove(&a->age_node);
        hmap_remove(&avoided, &a->node);
        free(a);
    }
    HMAP_FOR_EACH_WITH_HASH (a, node, ufid_hash(ufid), &avoided) {
        if (ovs_u128_equals(a->ufid, *ufid)) {
            return true;
        }
    }
    return false;
}

/* Records of flows. */

static struct system_flow *
get_flow(const ovs_u128 *ufid)
    OVS_REQUIRES(mutex)
{
    struct system_flow *f = find_flow(ufid);

    if (!f) {
        f = xzalloc(sizeof *f);
        f->ufid = *ufid;
        f->in_tc = true;            /* No match yet. */
        hmap_insert(&flows, &f->ufid_node, ufid_hash(ufid));
    }
    return f;
}

/* Makes 'f' a flow in TC as far as it is known here. */
static void
drop_contents(struct system_flow *f)
    OVS_REQUIRES(mutex)
{
    if (!f->in_tc) {
        hmap_remove(&matches, &f->match_node);
        minimatch_destroy(&f->match);
        free(f->actions);
        if (f->port) {
            ovs_list_remove(&f->port_node);
            f->port->n_own -= !f->twin;
        }
        f->in_tc = true;
        f->twin = false;
        f->barred = false;
        f->version = ++last_version;
    }
}

static void
set_contents(struct system_flow *f, struct system_port *port,
             const struct match *match, const struct nlattr *actions,
             size_t actions_len)
    OVS_REQUIRES(mutex)
{
    drop_contents(f);
    f->in_tc = false;
    init_minimatch(&f->match, match);
    hmap_insert(&matches, &f->match_node, minimatch_hash(&f->match, 0));
    f->actions = xmalloc(NLA_HDRLEN + actions_len);
    f->actions->nla_type = OVS_FLOW_ATTR_ACTIONS;
    f->actions->nla_len = NLA_HDRLEN + actions_len;
    nullable_memcpy(f->actions + 1, actions, actions_len);
    /* Another thread may have closed the port since the plugin took the flow. */
    f->port = port->closed ? NULL : port;
    if (f->port) {
        ovs_list_push_back(&port->flows, &f->port_node);
        port->n_own++;
    }
    f->created = time_msec();
    f->n_missed = 0;
    f->version = ++last_version;
}

/* Takes twin 'f' off the plugin until it is put again. */
static void
bar(struct system_flow *f)
    OVS_REQUIRES(mutex)
{
    evict(f);
    f->barred = true;
    f->version = ++last_version;
}

static void
free_flow(struct system_flow *f)
    OVS_REQUIRES(mutex)
{
    drop_contents(f);
    hmap_remove(&flows, &f->ufid_node);
    free(f);
}

/* Configuration. */

void
plugin_system_configure(const struct smap *other_config)
{
    const char *order = smap_get_def(other_config, "hw-offload-plugin-tc",
                                     "after");
    enum tc_order o = (!strcmp(order, "before") ? TC_BEFORE
                       : !strcmp(order, "never") ? TC_NEVER : TC_AFTER);
    static char *complained;

    if (o == TC_AFTER && strcmp(order, "after")
        && (!complained || strcmp(complained, order))) {
        VLOG_WARN("other_config:hw-offload-plugin-tc=%s: not one of before, "
                  "after and never, using after", order);
        free(complained);
        complained = xstrdup(order);
    }
    atomic_store_relaxed(&tc_order, (int) o);
    atomic_store_relaxed(&tc_enabled,
                         smap_get_bool(other_config, "hw-offload", false));
}

/* Ports. */

struct system_port *
plugin_system_port_open(struct netdev *netdev)
{
    struct system_port *port = xzalloc(sizeof *port);

    ovs_list_init(&port->flows);
    port->tc = !plugin_tc_init(netdev);
    return port;
}

/* The caller frees 'port' after a grace period. */
void
plugin_system_port_close(struct system_port *port)
{
    struct system_flow *f;

    ovs_mutex_lock(&mutex);
    port->closed = true;
    LIST_FOR_EACH_POP (f, port_node, &port->flows) {
        f->port = NULL;
    }
    port->n_own = 0;
    ovs_mutex_unlock(&mutex);
}

/* Twins are left out: the kernel has them, and counts them. */
uint64_t
plugin_system_port_n_flows(struct system_port *port)
{
    uint64_t n;

    ovs_mutex_lock(&mutex);
    n = port->n_own;
    ovs_mutex_unlock(&mutex);
    return n;
}

bool
plugin_system_port_has_tc(const struct system_port *port)
{
    return port->tc;
}

/* Putting flows. */

static int
offer(const struct match *match, const struct nlattr *actions,
      size_t actions_len, const ovs_u128 *ufid, bool has_twin)
{
    int error = offload_plugin_put("system", match, actions, actions_len, ufid,
                                   has_twin);

    if (!error && !offload_plugin_is_enabled()) {
        /* Disabled meanwhile: either that came after the put and flushed this
         * flow with the others, or we do it. */
        offload_plugin_api_flush();
    }
    return error;
}

/* EEXIST: there is another flow with the same match in the plugin, and no need
 * for one. */
static int
put_in_plugin(struct system_port *port, const struct match *match,
              struct nlattr *actions, size_t actions_len,
              const ovs_u128 *ufid)
{
    struct minimatch mini;
    bool unwanted, again;
    int error;

    init_minimatch(&mini, match);
    ovs_mutex_lock(&mutex);
    unwanted = actions_len > MAX_ACTIONS_LEN || is_avoided(ufid);
    again = is_duplicate(&mini, ufid);
    ovs_mutex_unlock(&mutex);
    minimatch_destroy(&mini);

    error = (again && netdev_offload_plugin_is_learning() ? EEXIST
             : again || unwanted ? EOPNOTSUPP
             : offer(match, actions, actions_len, ufid, false));
    if (!error) {
        ovs_mutex_lock(&mutex);
        set_contents(get_flow(ufid), port, match, actions, actions_len);
        ovs_mutex_unlock(&mutex);
    }
    return error;
}

static int
put_in_tc(struct netdev *netdev, struct system_port *port,
          const struct match *match, struct nlattr *actions,
          size_t actions_len, const ovs_u128 *ufid,
          struct plugin_tc_put *tc_put)
{
    struct match scratch = *match;  /* TC clears what it has understood. */
    struct system_flow *f;
    bool enabled;
    int error;

    atomic_read_relaxed(&tc_enabled, &enabled);
    /* TC takes a match on a mark of 0 for none, and would execute the flow for
     * packets with any mark. */
    if (!port->tc || !enabled || match->wc.masks.pkt_mark) {
        return EOPNOTSUPP;
    }
    error = plugin_tc_flow_put(netdev, &scratch, actions, actions_len, ufid,
                               tc_put);
    if (!error) {
        ovs_mutex_lock(&mutex);
        f = find_flow(ufid);
        if (f && !f->in_tc) {
            evict(f);
            drop_contents(f);
        }
        ovs_mutex_unlock(&mutex);
    }
    return error;
}

/* May the flow have packets that only the kernel can execute?  One that matches what
 * ct() has found is refused otherwise. */
static bool
needs_twin(const struct match *match, const struct nlattr *actions,
           size_t actions_len)
{
    const struct flow *masks = &match->wc.masks;
    const struct nlattr *a;
    size_t left;

    NL_ATTR_FOR_EACH_UNSAFE (a, left, actions, actions_len) {
        switch ((enum ovs_action_attr) nl_attr_type(a)) {
        case OVS_ACTION_ATTR_RECIRC:
        case OVS_ACTION_ATTR_CT:
        case OVS_ACTION_ATTR_CT_CLEAR:
        case OVS_ACTION_ATTR_CHECK_PKT_LEN:
            return true;
        default:
            break;
        }
    }
    return (match->flow.recirc_id
            || masks->ct_state || masks->ct_zone || masks->ct_mark
            || !ovs_u128_is_zero(masks->ct_label));
}

/* Is flow 'ufid' to be a twin?  One that is known is what it was. */
static bool
is_twin(const ovs_u128 *ufid, const struct match *match,
        const struct nlattr *actions, size_t actions_len)
{
    struct system_flow *f;
    bool twin;

    ovs_mutex_lock(&mutex);
    f = find_flow(ufid);
    twin = f ? f->twin : needs_twin(match, actions, actions_len);
    ovs_mutex_unlock(&mutex);
    return twin;
}

/* Offers a flow to the plugin that the kernel gets, too.  Returns 0 or why the
 * plugin has not taken it.  The record comes first: who offers an older version
 * of the flow at the same time (offer_twin_again()) sees it. */
static int
put_twin(struct system_port *port, const struct match *match,
         const struct nlattr *actions, size_t actions_len,
         const ovs_u128 *ufid)
{
    struct system_flow *f;
    bool known;
    int error;

    ovs_mutex_lock(&mutex);
    known = find_flow(ufid) != NULL;
    f = get_flow(ufid);
    set_contents(f, port, match, actions, actions_len);
    f->twin = true;
    if (f->port) {
        f->port->n_own--;
    }
    ovs_mutex_unlock(&mutex);

    error = offer(match, actions, actions_len, ufid, true);
    if (error) {
        ovs_mutex_lock(&mutex);
        f = find_flow(ufid);
        if (f && !f->in_tc) {
            evict(f);               /* As it was before it was modified. */
        }
        if (f && !known) {
            free_flow(f);
        }
        ovs_mutex_unlock(&mutex);
    }
    return error;
}

/* Adds 'stats', which flow 'ufid' has counted in a place that it has left. */
static void
add_past(const ovs_u128 *ufid, const struct dpif_flow_stats *stats)
{
    ovs_mutex_lock(&mutex);
    stats_add(&get_flow(ufid)->stats, stats);
    ovs_mutex_unlock(&mutex);
}

/* Nobody has taken flow 'ufid'.  If it lived here before, it is homeless now
 * and stays until a revalidator deletes it: at this place it would be
 * installed in the kernel, and its figures would be lost. */
static bool
keep_homeless(struct system_port *port, const ovs_u128 *ufid,
              const struct match *match, const struct nlattr *actions,
              size_t actions_len)
{
    struct system_flow *f;

    ovs_mutex_lock(&mutex);
    f = find_flow(ufid);
    if (f) {
        if (!f->in_tc) {
            evict(f);
        }
        set_contents(f, port, match, actions,
                     MIN(actions_len, MAX_ACTIONS_LEN) == actions_len
                     ? actions_len : 0);
    }
    ovs_mutex_unlock(&mutex);
    return f != NULL;
}

/* Gives a flow that is to be a twin to TC, or the plugin has its part.  Returns 0 if
 * TC has it; else the kernel must have it in any case. */
static int
place_twin(struct netdev *netdev, struct system_port *port,
           const struct match *match, struct nlattr *actions,
           size_t actions_len, const ovs_u128 *ufid,
           struct plugin_tc_put *tc_put, int order)
{
    if (order == TC_BEFORE
        && !put_in_tc(netdev, port, match, actions, actions_len, ufid,
                      tc_put)) {
        return 0;
    }
    /* What recirculates comes back to TC from TC only. */
    return (put_twin(port, match, actions, actions_len, ufid)
            && order == TC_AFTER && !match->flow.recirc_id
            ? put_in_tc(netdev, port, match, actions, actions_len, ufid,
                        tc_put)
            : EOPNOTSUPP);
}

/* Gives a flow that is no twin to the plugin or to TC, or it is homeless.  Returns 0,
 * or why the kernel must have it. */
static int
place_flow(struct netdev *netdev, struct system_port *port,
           const struct match *match, struct nlattr *actions,
           size_t actions_len, const ovs_u128 *ufid,
           struct plugin_tc_put *tc_put, int order)
{
    struct dpif_flow_stats past;
    int error = EOPNOTSUPP;

    if (order != TC_BEFORE) {
        error = put_in_plugin(port, match, actions, actions_len, ufid);
    }
    /* TC replaces a flow by deleting it first, too.  It does not count what it
     * handles meanwhile, which is nothing if the plugin has the flow now. */
    if (port->tc && !plugin_tc_flow_del(ufid, &past)) {
        add_past(ufid, &past);
    }
    if (order == TC_BEFORE) {
        error = put_in_tc(netdev, port, match, actions, actions_len, ufid,
                          tc_put);
        if (error && error != EEXIST) {
            error = put_in_plugin(port, match, actions, actions_len, ufid);
        }
    } else if (error && error != EEXIST && order == TC_AFTER) {
        error = put_in_tc(netdev, port, match, actions, actions_len, ufid,
                          tc_put);
    }
    if (error && keep_homeless(port, ufid, match, actions, actions_len)) {
        netdev_offload_plugin_flows_moved();
        error = 0;
    }
    return error;
}

int
plugin_system_flow_put(struct netdev *netdev, struct system_port *port,
                       const struct match *match, struct nlattr *actions,
                       size_t actions_len, const ovs_u128 *ufid,
                       struct plugin_tc_put *tc_put,
                       struct dpif_flow_stats *stats)
{
    bool twin = is_twin(ufid, match, actions, actions_len);
    struct dpif_flow_stats past;
    struct system_flow *f;
    int error, order;

    atomic_read_relaxed(&tc_order, &order);
    if (twin && port->tc && !plugin_tc_flow_del(ufid, &past)) {
        add_past(ufid, &past);      /* It lived in TC alone until now. */
        twin = false;
    }
    error = (twin ? place_twin : place_flow)(netdev, port, match, actions,
                                             actions_len, ufid, tc_put, order);
    if (!error && stats) {
        ovs_mutex_lock(&mutex);
        f = find_flow(ufid);
        memset(stats, 0, sizeof *stats);
        if (f) {
            *stats = f->stats;
        }
        ovs_mutex_unlock(&mutex);
    }
    return error;
}

/* Getting, dumping and deleting flows. */

/* Appends the actions of 'f' to 'buf' and fills in the rest. */
static void
report_flow(struct system_flow *f, struct match *match,
            struct nlattr **actions, struct dpif_flow_stats *stats,
            struct dpif_flow_attrs *attrs, struct ofpbuf *buf)
    OVS_REQUIRES(mutex)
{
    bool live = collect(f);

    minimatch_expand(&f->match, match);
    match->wc.masks.in_port.odp_port = ODPP_NONE;
    *actions = ofpbuf_put(buf, f->actions, f->actions->nla_len);
    *stats = f->stats;
    netdev_offload_plugin_fill_attrs(live, attrs);
    if (!live) {
        stats->used = AGES_AGO;
    }
}

int
plugin_system_flow_get(struct netdev *netdev, struct match *match,
                       struct nlattr **actions, const ovs_u128 *ufid,
                       struct dpif_flow_stats *stats,
                       struct dpif_flow_attrs *attrs, struct ofpbuf *buf)
{
    struct dpif_flow_stats past = { .n_packets = 0 };
    struct system_flow *f;
    bool found;
    int error;

    ovs_mutex_lock(&mutex);
    f = find_flow(ufid);
    found = f && !f->in_tc && !f->twin;
    if (found) {
        report_flow(f, match, actions, stats, attrs, buf);
    } else if (f) {
        past = f->stats;
    }
    ovs_mutex_unlock(&mutex);
    if (found) {
        return 0;
    }
    error = plugin_tc_flow_get(netdev, match, actions, ufid, stats, attrs,
                               buf);
    if (!error) {
        stats_add(stats, &past);
    }
    return error;
}

int
plugin_system_flow_del(const ovs_u128 *ufid, struct dpif_flow_stats *stats)
{
    return (netdev_offload_plugin_del_known(ufid, stats)
            ? plugin_tc_flow_del(ufid, stats) : 0);
}

/* The plugin's flows become homeless, so that OVS learns of it. */
int
plugin_system_flow_flush(struct netdev *netdev, struct system_port *port)
{
    struct system_flow *f;

    ovs_mutex_lock(&mutex);
    LIST_FOR_EACH (f, port_node, &port->flows) {
        if (f->twin) {
            bar(f);                 /* Who dumps the kernel's just now waits. */
        } else {
            evict(f);
        }
    }
    ovs_mutex_unlock(&mutex);
    netdev_offload_plugin_flows_moved();
    return port->tc ? plugin_tc_flow_flush(netdev) : 0;
}

struct system_dump {
    struct plugin_tc_dump *tc;      /* NULL without TC. */
    ovs_u128 *ufids;                /* Of the flows when the dump began. */
    size_t n, next;                 /* 'next' is guarded by 'mutex'. */
};

struct system_dump *
plugin_system_flow_dump_create(struct netdev *netdev, struct system_port *port,
                               bool terse)
{
    struct system_dump *dump = xzalloc(sizeof *dump);
    struct system_flow *f;

    dump->tc = port->tc ? plugin_tc_dump_create(netdev, terse) : NULL;
    ovs_mutex_lock(&mutex);
    dump->ufids = xmalloc(ovs_list_size(&port->flows) * sizeof *dump->ufids);
    LIST_FOR_EACH (f, port_node, &port->flows) {
        dump->ufids[dump->n++] = f->ufid;
    }
    ovs_mutex_unlock(&mutex);
    return dump;
}

static bool
dump_next_of_tc(struct system_dump *dump, odp_port_t in_port,
                struct match *match, struct nlattr **actions,
                struct dpif_flow_stats *stats,
                struct dpif_flow_attrs *attrs, ovs_u128 *ufid,
                struct ofpbuf *rbuffer, struct ofpbuf *wbuffer)
{
    struct system_flow *f;

    if (!plugin_tc_dump_next(dump->tc, in_port, match, actions, stats, attrs,
                             ufid, rbuffer, wbuffer)) {
        return false;
    }
    ovs_mutex_lock(&mutex);
    f = find_flow(ufid);
    if (f && f->in_tc) {
        long long int used = stats->used;

        stats_add(stats, &f->stats);
        stats->used = used;         /* A terse dump does not have it: 0. */
    }
    ovs_mutex_unlock(&mutex);
    return true;
}

bool
plugin_system_flow_dump_next(struct system_dump *dump, odp_port_t in_port,
                             struct match *match, struct nlattr **actions,
                             struct dpif_flow_stats *stats,
                             struct dpif_flow_attrs *attrs, ovs_u128 *ufid,
                             struct ofpbuf *rbuffer, struct ofpbuf *wbuffer)
{
    struct system_flow *f = NULL;

    ovs_mutex_lock(&mutex);
    while (!f && dump->next < dump->n) {
        f = find_flow(&dump->ufids[dump->next++]);
        if (f && !f->in_tc && !f->twin) {
            *ufid = f->ufid;
            report_flow(f, match, actions, stats, attrs, wbuffer);
        } else {
            f = NULL;
        }
    }
    ovs_mutex_unlock(&mutex);
    return f || (dump->tc && dump_next_of_tc(dump, in_port, match, actions,
                                             stats, attrs, ufid, rbuffer,
                                             wbuffer));
}

void
plugin_system_flow_dump_destroy(struct system_dump *dump)
{
    if (dump->tc) {
        plugin_tc_dump_destroy(dump->tc);
    }
    free(dump->ufids);
    free(dump);
}

/* Twins. */

static struct system_flow *
find_twin(const ovs_u128 *ufid)
    OVS_REQUIRES(mutex)
{
    struct system_flow *f = find_flow(ufid);

    return f && f->twin ? f : NULL;
}

/* The kernel tells that it has counted 'stats' of twin 'f': adds what the plugin has.
 * Returns true if the plugin executes the flow. */
static bool
complete_stats(struct system_flow *f, struct dpif_flow_stats *stats)
    OVS_REQUIRES(mutex)
{
    bool live = collect(f);

    f->in_kernel = true;
    f->kernels = *stats;
    stats_add(stats, &f->stats);
    return live;
}

/* Offers again what a flow says that the plugin has lost, and would have. */
static void
offer_twin_again(const ovs_u128 *ufid)
{
    struct dpif_flow_stats nobodys;
    struct nlattr *actions = NULL;
    struct system_flow *f;
    struct match match;
    uint64_t version = 0;

    ovs_mutex_lock(&mutex);
    f = find_twin(ufid);
    if (f && f->port && !f->barred) {
        minimatch_expand(&f->match, &match);
        actions = xmemdup(f->actions, f->actions->nla_len);
        version = f->version;
    }
    ovs_mutex_unlock(&mutex);
    if (!actions) {
        return;
    }
    if (!offer(&match, nl_attr_get(actions), nl_attr_get_size(actions), ufid,
               true)) {
        ovs_mutex_lock(&mutex);
        f = find_flow(ufid);
        if (!f) {
            netdev_offload_plugin_del(ufid, &nobodys);
        } else if (f->version != version) {
            evict(f);               /* Put, barred or in TC meanwhile. */
        }
        ovs_mutex_unlock(&mutex);
    }
    free(actions);
}

/* The kernel tells of flow 'ufid', of which it has counted 'stats'.  If the plugin
 * has it as well, adds what that has counted, and fills in 'attrs'. */
static void
add_twin(const ovs_u128 *ufid, struct dpif_flow_stats *stats,
         struct dpif_flow_attrs *attrs)
{
    bool is_lost = false;
    struct system_flow *f;

    ovs_mutex_lock(&mutex);
    f = find_twin(ufid);
    if (f) {
        is_lost = !complete_stats(f, stats);
        netdev_offload_plugin_fill_attrs(!is_lost, attrs);
    }
    ovs_mutex_unlock(&mutex);
    if (is_lost && netdev_offload_plugin_wants(ufid)) {
        offer_twin_again(ufid);
    }
}

/* The kernel has done 'put'. */
static void
twin_put(const struct dpif_flow_put *put)
{
    struct system_flow *f;

    ovs_mutex_lock(&mutex);
    f = find_twin(put->ufid);
    if (f) {
        f->in_kernel = true;
        if (put->stats) {
            complete_stats(f, put->stats);
        }
        if (put->actions_len != nl_attr_get_size(f->actions)
            || memcmp(put->actions, nl_attr_get(f->actions),
                      put->actions_len)) {
            bar(f);                 /* It was not put here. */
        }
    }
    ovs_mutex_unlock(&mutex);
}

/* The kernel has refused to put flow 'ufid': so does the plugin.  If the kernel
 * has had it, what it has counted is asked for later. */
static void
twin_not_put(const ovs_u128 *ufid)
{
    struct system_flow *f;

    ovs_mutex_lock(&mutex);
    f = find_twin(ufid);
    if (f) {
        bar(f);
        if (!f->in_kernel) {
            free_flow(f);
        }
    }
    ovs_mutex_unlock(&mutex);
}

/* The kernel has deleted a flow: so does the plugin.  If it had gone from the
 * kernel already, it has counted there what was told of it last. */
static void
twin_deleted(struct dpif_op *op)
{
    struct dpif_flow_del *del = &op->flow_del;
    struct system_flow *f;

    ovs_mutex_lock(&mutex);
    f = find_twin(del->ufid);
    if (f) {
        evict(f);
        if (op->error == ENOENT) {
            op->error = 0;
            if (del->stats) {
                *del->stats = f->kernels;
            }
        }
        if (del->stats) {
            stats_add(del->stats, &f->stats);
        }
        free_flow(f);
    }
    ovs_mutex_unlock(&mutex);
}

static void
twin_operated(struct dpif_op *op)
{
    switch (op->type) {
    case DPIF_OP_FLOW_PUT:
        if (op->flow_put.ufid && op->error) {
            twin_not_put(op->flow_put.ufid);
        } else if (op->flow_put.ufid) {
            twin_put(&op->flow_put);
        }
        break;

    case DPIF_OP_FLOW_GET:
        if (!op->error && op->flow_get.ufid) {
            add_twin(op->flow_get.ufid, &op->flow_get.flow->stats,
                     &op->flow_get.flow->attrs);
        }
        break;

    case DPIF_OP_FLOW_DEL:
        /* Without a ufid the kernel deletes no flow that has one. */
        if (op->flow_del.ufid) {
            twin_deleted(op);
        }
        break;

    case DPIF_OP_EXECUTE:
        break;
    }
}

/* What other parts of OVS tell and ask. */

/* The datapath has done 'ops'. */
void
netdev_offload_plugin_operated(const char *dpif_type, struct dpif_op **ops,
                               size_t n_ops)
{
    if (netdev_offload_plugin_is_loaded() && !strcmp(dpif_type, "system")) {
        for (size_t i = 0; i < n_ops; i++) {
            twin_operated(ops[i]);
        }
    }
}

/* The datapath has dumped these flows. */
void
netdev_offload_plugin_dumped(const char *dpif_type, struct dpif_flow *dumped,
                             int n)
{
    if (netdev_offload_plugin_is_loaded() && !strcmp(dpif_type, "system")) {
        for (int i = 0; i < n; i++) {
            if (dumped[i].ufid_present) {
                add_twin(&dumped[i].ufid, &dumped[i].stats, &dumped[i].attrs);
            }
        }
    }
}

/* The kernel datapath had flow 'ufid' until it was modified just now, and it
 * counted 'stats' there. */
void
netdev_offload_plugin_flow_left_kernel(const ovs_u128 *ufid,
                                       const struct dpif_flow_stats *stats)
{
    if (netdev_offload_plugin_is_loaded() && stats->n_packets) {
        add_past(ufid, stats);
    }
}

/* A packet was passed up that had given rise to flow 'ufid' already. */
void
netdev_offload_plugin_flow_missed(const ovs_u128 *ufid)
{
    long long int now = time_msec();
    struct system_flow *f;
    bool too_often = false;

    if (!netdev_offload_plugin_is_loaded()) {
        return;
    }
    ovs_mutex_lock(&mutex);
    f = find_flow(ufid);
    if (f && !f->in_tc && !f->twin && now >= f->created + MISS_GRACE_MS) {
        f->n_missed = now < f->last_missed + MISS_GAP_MS ? f->n_missed + 1 : 1;
        f->last_missed = now;
        too_often = f->n_missed == MAX_MISSES && collect(f);
    }
    if (too_often) {
        evict(f);
        avoid(ufid);
    }
    ovs_mutex_unlock(&mutex);
    if (too_often) {
        static struct vlog_rate_limit rl = VLOG_RATE_LIMIT_INIT(1, 5);

        VLOG_INFO_RL(&rl, "ufid:"UUID_FMT": the plugin passes its packets "
                     "up, so it is not offered to it for at least %d s",
                     UUID_ARGS((const struct uuid *) ufid), AVOID_MS / 1000);
        netdev_offload_plugin_flows_moved();
    }
}

/* Deletes flow 'ufid' if there is a record of it, wherever it lives.  ENOENT:
 * there is none, or TC does not have the flow any more, so that its figures
 * are not known. */
int
netdev_offload_plugin_del_known(const ovs_u128 *ufid,
                                struct dpif_flow_stats *stats)
{
    struct dpif_flow_stats sum = { .n_packets = 0 };
    struct dpif_flow_stats in_tc;
    struct system_flow *f;
    bool known, found;

    if (!netdev_offload_plugin_is_loaded()) {
        return ENOENT;
    }
    ovs_mutex_lock(&mutex);
    f = find_flow(ufid);
    if (f && f->twin) {
        f = NULL;                   /* After the kernel's, forget_twin(). */
    }
    known = f != NULL;
    found = f && !f->in_tc;
    if (f) {
        evict(f);
        sum = f->stats;
        free_flow(f);
    }
    ovs_mutex_unlock(&mutex);
    /* TC finds it by the ufid: the port may have been removed. */
    if (known && !plugin_tc_flow_del(ufid, &in_tc)) {
        stats_add(&sum, &in_tc);
        found = true;
    }
    if (found && stats) {
        *stats = sum;
    }
    return found ? 0 : ENOENT;
}

/* Returns true if flow 'ufid' keeps its figures when it moves, false if it
 * begins at zero in its new place. */
bool
netdev_offload_plugin_keeps_figures(const ovs_u128 *ufid)
{
    bool known;

    if (!netdev_offload_plugin_is_loaded()) {
        return false;
    }
    ovs_mutex_lock(&mutex);
    known = find_flow(ufid) != NULL;
    ovs_mutex_unlock(&mutex);
    return known;
}
