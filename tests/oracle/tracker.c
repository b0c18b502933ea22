/* SPDX-License-Identifier: Apache-2.0 */
#include <config.h>

#include "tracker.h"

#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "conntrack.h"
#include "conntrack-private.h"
#include "ct-dpif.h"
#include "dp-packet.h"
#include "flow.h"
#include "netlink.h"
#include "odp-util.h"
#include "openvswitch/dynamic-string.h"
#include "ovs-rcu.h"
#include "lib/random.h"           /* Not the one beside this file. */
#include "timeval.h"
#include "util.h"

long long
tracker_now(void)
{
    return time_msec();
}

static void *
do_nothing(void *aux OVS_UNUSED)
{
    return NULL;
}

/* Connections that have expired stay: when the thread that sweeps them would take
 * one away, and its port for translation with it, is a matter of chance.  Who
 * destroys the tracker waits for a thread, so let there be one. */
static void
stop_sweep(struct conntrack *ct)
{
    latch_set(&ct->clean_thread_exit);
    pthread_join(ct->clean_thread, NULL);
    ct->clean_thread = ovs_thread_create("no sweep", do_nothing, NULL);
}

struct conntrack *
tracker_create(uint32_t seed, const struct ovs_offload_ops *ops, void *self)
{
    struct conntrack *ct;

    random_set_seed(seed);           /* For the hash basis. */
    ct = conntrack_init();
    stop_sweep(ct);
    if (ops && conntrack_offload_attach(ct, ops, self)) {
        abort();
    }
    return ct;
}

void
tracker_destroy(struct conntrack *ct)
{
    conntrack_destroy(ct);
    ovsrcu_quiesce();
}

/* The keys of both directions, and what conntrack_execute() is told of ports. */
#if OVS_RELEASE < 305
#define KEY_OF(CONN) ((CONN)->key)
#define REPLY_KEY_OF(CONN) ((CONN)->rev_key)
#define NO_PORTS 0, 0,
#else
#define KEY_OF(CONN) ((CONN)->key_node[CT_DIR_FWD].key)
#define REPLY_KEY_OF(CONN) ((CONN)->key_node[CT_DIR_REV].key)
#define NO_PORTS
#endif

static sigjmp_buf survived;

static void
survive(int sig OVS_UNUSED)
{
    siglongjmp(survived, 1);
}

bool
tracker_survives(void (*function)(void *), void *aux)
{
    struct sigaction action = { .sa_handler = survive }, old;
    bool good = false;

    sigaction(SIGABRT, &action, &old);
    if (!sigsetjmp(survived, 1)) {
        function(aux);
        good = true;
    }
    sigaction(SIGABRT, &old, NULL);
    return good;
}

/* The range of a translation. */
static void
parse_nat(const struct nlattr *nat, struct nat_action_info_t *info)
{
    bool has_min_ip = false, has_max_ip = false;
    bool has_min_port = false, has_max_port = false;
    const struct nlattr *a;
    unsigned int left;

    memset(info, 0, sizeof *info);
    NL_NESTED_FOR_EACH (a, left, nat) {
        switch (nl_attr_type(a)) {
        case OVS_NAT_ATTR_SRC:
            info->nat_action |= NAT_ACTION_SRC;
            break;
        case OVS_NAT_ATTR_DST:
            info->nat_action |= NAT_ACTION_DST;
            break;
        case OVS_NAT_ATTR_IP_MIN:
            memcpy(&info->min_addr, nl_attr_get(a), nl_attr_get_size(a));
            has_min_ip = true;
            break;
        case OVS_NAT_ATTR_IP_MAX:
            memcpy(&info->max_addr, nl_attr_get(a), nl_attr_get_size(a));
            has_max_ip = true;
            break;
        case OVS_NAT_ATTR_PROTO_MIN:
            info->min_port = nl_attr_get_u16(a);
            has_min_port = true;
            break;
        case OVS_NAT_ATTR_PROTO_MAX:
            info->max_port = nl_attr_get_u16(a);
            has_max_port = true;
            break;
        }
    }
    if (has_min_ip && !has_max_ip) {
        info->max_addr = info->min_addr;
    }
    if (has_min_port && !has_max_port) {
        info->max_port = info->min_port;
    }
    if (has_min_port) {
        info->nat_action |= (info->nat_action & NAT_ACTION_SRC
                             ? NAT_ACTION_SRC_PORT : NAT_ACTION_DST_PORT);
    }
}

void
tracker_execute(struct conntrack *ct, struct dp_packet_batch *batch,
                const struct nlattr *action, long long now)
{
    const struct eth_header *eth = dp_packet_eth(batch->packets[0]);
    const struct ovs_key_ct_labels *label = NULL;
    struct nat_action_info_t nat, *natp = NULL;
    bool commit = false, force = false;
    const uint32_t *mark = NULL;
    const struct nlattr *a;
    ovs_be16 dl_type;
    unsigned int left;
    uint16_t zone = 0;

    NL_NESTED_FOR_EACH (a, left, action) {
        switch (nl_attr_type(a)) {
        case OVS_CT_ATTR_FORCE_COMMIT:
            force = commit = true;
            break;
        case OVS_CT_ATTR_COMMIT:
            commit = true;
            break;
        case OVS_CT_ATTR_ZONE:
            zone = nl_attr_get_u16(a);
            break;
        case OVS_CT_ATTR_MARK:
            mark = nl_attr_get(a);
            break;
        case OVS_CT_ATTR_LABELS:
            label = nl_attr_get(a);
            break;
        case OVS_CT_ATTR_NAT:
            parse_nat(a, &nat);
            natp = &nat;
            break;
        }
    }
    /* No VLAN tags here. */
    dl_type = eth->eth_type;
    conntrack_execute(ct, batch, dl_type, force, commit, zone, mark, label,
                      NO_PORTS NULL, natp, now, 0);
}

#define FOR_EACH_CONN(CONN, CT)                                               \
    for (size_t list_ = 0; list_ < N_EXP_LISTS; list_++)                      \
        RCULIST_FOR_EACH (CONN, node, &(CT)->exp_lists[list_])

void
tracker_age(struct conntrack *ct, long long ms)
{
    struct conn *conn;

    FOR_EACH_CONN (conn, ct) {
        long long expires;

        atomic_read(&conn->expiration, &expires);
        if (expires) {
            atomic_store(&conn->expiration, expires - ms);
        }
    }
}

void
tracker_flush(struct conntrack *ct, uint16_t zone)
{
    conntrack_flush(ct, &zone);
}

size_t
tracker_count(struct conntrack *ct)
{
    uint32_t n;

    conntrack_get_nconns(ct, &n);
    return n;
}

void
tracker_restore(struct conntrack *ct)
{
    conntrack_offload_restore(ct);
}

void
tracker_check_windows(struct conntrack *ct, bool check)
{
    conntrack_set_tcp_seq_chk(ct, check);
}

/* What a plugin has seen, in what OVS knows: as conn_update() and
 * conn_expired() do. */
static void
learn(struct conntrack *ct, struct conn *conn)
{
    struct ovs_offload_ct_use use = { .size = sizeof use };
    const struct ovs_offload_ops *ops;
    long long expires;
    uint64_t handle;

    atomic_read(&ct->offload, &ops);
    atomic_read(&conn->offload_handle, &handle);
    atomic_read(&conn->expiration, &expires);
    if (!ops || !handle || !ops->ct_use(ct->offload_self, handle, &use)) {
        return;
    }
    if (expires && use.expires_ms > expires) {
        atomic_store(&conn->expiration, use.expires_ms);
    }
    if (KEY_OF(conn).nw_proto == IPPROTO_TCP) {
        ct_proto_tcp.offload_learn(conn, &use);
    }
}

static void
describe(const struct conn *conn, long long now, struct tracked *t)
{
    struct ct_dpif_entry entry = { .zone = KEY_OF(conn).zone };
    struct ds ds = DS_EMPTY_INITIALIZER;
    struct ovs_offload_ct c = { .size = sizeof c };

    memset(t, 0, sizeof *t);
    /* What else there is to a translation is of no use once there is a
     * connection. */
    ds_put_format(&ds, "zone=%u,proto=%u,nat=%x,mark=0x%x,label=%"PRIx64
                  ":%"PRIx64, KEY_OF(conn).zone, KEY_OF(conn).nw_proto,
                  conn->nat_action & (NAT_ACTION_SRC | NAT_ACTION_DST),
                  conn->mark, conn->label.u64.hi, conn->label.u64.lo);
    ds_put_cstr(&ds, ",key=");
    ds_put_hex(&ds, &KEY_OF(conn), sizeof KEY_OF(conn));
    ds_put_cstr(&ds, ",reply=");
    ds_put_hex(&ds, &REPLY_KEY_OF(conn),
               sizeof REPLY_KEY_OF(conn));
    if (KEY_OF(conn).nw_proto == IPPROTO_TCP) {
        ct_proto_tcp.conn_get_protoinfo(conn, &entry.protoinfo);
        ds_put_format(&ds, ",state=%u/%u", entry.protoinfo.tcp.state_orig,
                      entry.protoinfo.tcp.state_reply);
        ct_proto_tcp.offload_get(conn, &c);
    }
    for (int i = 0; i < 2; i++) {
        t->seq[i] = c.dir[i].seq_end;
        t->ack_win[i] = c.dir[i].ack_win;
        t->max_win[i] = c.dir[i].max_win;
    }
    t->expires = conn->expiration - now;
    t->timeout = conn->offload_timeout;
    ovs_strlcpy(t->text, ds_cstr(&ds), sizeof t->text);
    ds_destroy(&ds);
}

static int
compare(const void *a, const void *b)
{
    return strcmp(((const struct tracked *) a)->text,
                  ((const struct tracked *) b)->text);
}

size_t
tracker_list(struct conntrack *ct, long long now, struct tracked **list)
{
    size_t n = 0, allocated = 0;
    struct conn *conn;

    *list = NULL;
    FOR_EACH_CONN (conn, ct) {
        learn(ct, conn);
        if (conn->expiration <= now) {
            continue;
        }
        if (n == allocated) {
            *list = x2nrealloc(*list, &allocated, sizeof **list);
        }
        describe(conn, now, &(*list)[n++]);
    }
    if (n) {
        qsort(*list, n, sizeof **list, compare);
    }
    return n;
}

struct model_flow *
tracker_make_flow(const struct model_key *key, const char *const *actions,
                  size_t n)
{
    struct model_key mask = { .word = { 0 } };
    struct flow *m = (struct flow *) &mask;

    m->in_port.odp_port = ODPP_NONE;
    m->recirc_id = UINT32_MAX;
    m->dl_type = OVS_BE16_MAX;
    m->nw_proto = UINT8_MAX;
    m->nw_frag = FLOW_NW_FRAG_MASK;
    if (((const struct flow *) key)->recirc_id) {
        m->ct_state = UINT8_MAX;
        m->ct_zone = UINT16_MAX;
        m->ct_mark = UINT32_MAX;
        m->ct_label = OVS_U128_MAX;
    }
    return model_flow_create(key, &mask, actions, n);
}

uint32_t
tracker_recirc_id(const struct model_key *key)
{
    return ((const struct flow *) key)->recirc_id;
}

uint32_t
tracker_ct_state(const struct model_key *key)
{
    return ((const struct flow *) key)->ct_state; /* The same bits. */
}
