/* SPDX-License-Identifier: Apache-2.0 */
/* An offload plugin that accepts every flow, executes none, and logs what OVS
 * asks it for.  It serves to test the glue inside OVS without XDP.  Its
 * "traffic" comes from a command:
 *
 *     ovs-appctl fake-offload/count PACKETS     every flow in the fast path
 *                                               counts that many packets
 *     ovs-appctl fake-offload/show              flows: total, not yet taken
 *     ovs-appctl fake-offload/slow MS           each flow_put takes so long
 *
 * cc -shared -fPIC -Iovs-plugin -o ovs-offload-xdp.so fake_plugin.c, and to
 * test how OVS refuses a plugin, one of -DFAKE_WRONG_ABI, -DFAKE_SMALL_TABLE,
 * -DFAKE_MISSING_OP, -DFAKE_MISSING_SYMBOL, -DFAKE_INIT_FAILS.  -DFAKE_TYPE=x
 * sets another type, which must be the NAME in ovs-offload-NAME.so.
 * -DFAKE_ADD_SECONDS=N has it take so long to add a port. */

#include <errno.h>
#include <linux/openvswitch.h>
#include <linux/netlink.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "ovs_offload_abi.h"

#ifndef FAKE_TYPE
#define FAKE_TYPE xdp
#endif
#ifndef FAKE_ADD_SECONDS
#define FAKE_ADD_SECONDS 0
#endif
#define STR__(X) #X
#define STR(X) STR__(X)

#define FRAME_LEN 100

struct port {
    int ifindex;
    char name[32];
};

struct flow {
    struct flow *next;
    uint8_t ufid[OVS_OFFLOAD_UFID_LEN];
    int in_ifindex;
    bool active;                    /* In the "fast path". */
    struct ovs_offload_stats stats; /* Cumulative. */
    uint64_t taken;                 /* Of stats.n_packets. */
};

static const struct ovs_offload_host *host;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct flow *flows;
static atomic_int slow_ms;

__attribute__((format(printf, 1, 2))) static void
say(const char *format, ...)
{
    char line[256];
    va_list args;

    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    host->log(OVS_OFFLOAD_LOG_INFO, line);
}

static const char *
ufid_str(const uint8_t *ufid, char s[9])
{
    snprintf(s, 9, "%02x%02x%02x%02x", ufid[0], ufid[1], ufid[2], ufid[3]);
    return s;
}

static struct flow **
find(const uint8_t *ufid)
{
    struct flow **f = &flows;

    while (*f && memcmp((*f)->ufid, ufid, OVS_OFFLOAD_UFID_LEN)) {
        f = &(*f)->next;
    }
    return f;
}

/* The caller holds 'mutex'. */
static void
take(struct flow *f, struct ovs_offload_stats *delta)
{
    *delta = f->stats;
    delta->n_packets -= f->taken;
    delta->n_bytes = delta->n_packets * FRAME_LEN;
    f->taken = f->stats.n_packets;
}

static int
init(const struct ovs_offload_host *h, const struct ovs_offload_option *o,
     size_t n, void **selfp)
{
    host = h;
    say("fake: init for OVS %s", h->ovs_version);
    for (size_t i = 0; i < n; i++) {
        say("fake: option %s=%s", o[i].key, o[i].value);
    }
    *selfp = &flows;
#ifdef FAKE_INIT_FAILS
    return EPERM;
#endif
    return 0;
}

static int
port_add(void *self, const struct ovs_offload_port *port, void **portp)
{
    struct port *p = calloc(1, sizeof *p);

    (void) self;
    p->ifindex = port->ifindex;
    snprintf(p->name, sizeof p->name, "%s", port->name);
    say("fake: port_add %s ifindex %d type %s on %s", port->name,
        port->ifindex, port->netdev_type, port->dpif_type);
    sleep(FAKE_ADD_SECONDS);
    *portp = p;
    return 0;
}

static int
flow_flush(void *self, void *port)
{
    struct port *p = port;
    int n = 0;

    (void) self;
    pthread_mutex_lock(&mutex);
    for (struct flow *f = flows; f; f = f->next) {
        if (f->active && f->in_ifindex == p->ifindex) {
            f->active = false;
            n++;
        }
    }
    pthread_mutex_unlock(&mutex);
    say("fake: flow_flush %s: %d flows", p->name, n);
    return 0;
}

static void
port_del(void *self, void *port)
{
    struct port *p = port;

    flow_flush(self, port);
    say("fake: port_del %s", p->name);
    free(p);
}

static int
in_ifindex(const struct ovs_offload_flow *flow)
{
    const char *p = flow->key, *end = p + flow->key_len;

    while (end - p >= NLA_HDRLEN) {
        const struct nlattr *a = (const struct nlattr *) p;
        uint32_t port;

        if (a->nla_type == OVS_KEY_ATTR_IN_PORT) {
            memcpy(&port, p + NLA_HDRLEN, sizeof port);
            return host->port_ifindex(flow->dpif_type, port);
        }
        p += NLA_ALIGN(a->nla_len);
    }
    return -1;
}

/* VLAN tags that a key matches. */
static int
n_tags(const char *p, const char *end)
{
    while (end - p >= NLA_HDRLEN) {
        const struct nlattr *a = (const struct nlattr *) p;

        if ((a->nla_type & NLA_TYPE_MASK) == OVS_KEY_ATTR_ENCAP) {
            return 1 + n_tags(p + NLA_HDRLEN, p + a->nla_len);
        }
        p += NLA_ALIGN(a->nla_len);
    }
    return 0;
}

static int
flow_put(void *self, const struct ovs_offload_flow *flow)
{
    struct timespec pause = { .tv_sec = slow_ms / 1000,
                              .tv_nsec = slow_ms % 1000 * 1000000L };
    const char *key = flow->key;
    int ifindex = in_ifindex(flow);
    struct flow **fp;
    char s[9];

    (void) self;
    nanosleep(&pause, NULL);
    pthread_mutex_lock(&mutex);
    fp = find(flow->ufid);
    say("fake: flow_put %s %s ifindex %d actions_len %zu tags %d",
        *fp ? "replace" : "new", ufid_str(flow->ufid, s), ifindex,
        flow->actions_len, n_tags(key, key + flow->key_len));
    if (!*fp) {
        *fp = calloc(1, sizeof **fp);
        memcpy((*fp)->ufid, flow->ufid, sizeof (*fp)->ufid);
    }
    (*fp)->in_ifindex = ifindex;
    (*fp)->active = true;
    pthread_mutex_unlock(&mutex);
    return 0;
}

static int
flow_del(void *self, const uint8_t *ufid, struct ovs_offload_stats *remaining)
{
    int error = ENOENT;
    struct flow **fp;
    char s[9];

    (void) self;
    pthread_mutex_lock(&mutex);
    fp = find(ufid);
    if (*fp) {
        struct ovs_offload_stats delta;
        struct flow *f = *fp;

        take(f, &delta);
        say("fake: flow_del %s total %llu remaining %llu", ufid_str(ufid, s),
            (unsigned long long) f->stats.n_packets,
            (unsigned long long) delta.n_packets);
        if (remaining) {
            *remaining = delta;
        }
        *fp = f->next;
        free(f);
        error = 0;
    }
    pthread_mutex_unlock(&mutex);
    return error;
}

static int
flow_stats(void *self, const uint8_t *ufid, struct ovs_offload_stats *stats)
{
    struct flow *f;
    int error = ENOENT;

    (void) self;
    pthread_mutex_lock(&mutex);
    f = *find(ufid);
    if (f && f->active) {
        *stats = f->stats;
        error = 0;
    }
    pthread_mutex_unlock(&mutex);
    return error;
}

static int
flow_take(void *self, const uint8_t *ufid, struct ovs_offload_stats *delta)
{
    struct flow *f;
    int error = ENOENT;

    (void) self;
    pthread_mutex_lock(&mutex);
    f = *find(ufid);
    if (f) {
        take(f, delta);
        error = f->active ? 0 : ENODATA;
    }
    pthread_mutex_unlock(&mutex);
    return error;
}

static uint64_t
n_flows(void *self, void *port)
{
    struct port *p = port;
    uint64_t n = 0;

    (void) self;
    pthread_mutex_lock(&mutex);
    for (struct flow *f = flows; f; f = f->next) {
        n += f->active && f->in_ifindex == p->ifindex;
    }
    pthread_mutex_unlock(&mutex);
    return n;
}

static char *
count(void *self, int argc, const char *argv[])
{
    struct timespec now;

    (void) self;
    (void) argc;
    clock_gettime(CLOCK_MONOTONIC, &now);
    pthread_mutex_lock(&mutex);
    for (struct flow *f = flows; f; f = f->next) {
        if (f->active) {
            f->stats.n_packets += strtoull(argv[1], NULL, 10);
            f->stats.n_bytes = f->stats.n_packets * FRAME_LEN;
            f->stats.used_ms = now.tv_sec * 1000LL + now.tv_nsec / 1000000;
        }
    }
    pthread_mutex_unlock(&mutex);
    return NULL;
}

static char *
show(void *self, int argc, const char *argv[])
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    char s[9];

    (void) self;
    (void) argc;
    (void) argv;
    pthread_mutex_lock(&mutex);
    for (struct flow *f = flows; f; f = f->next) {
        fprintf(out, "%s %s total %llu untaken %llu\n", ufid_str(f->ufid, s),
                f->active ? "active" : "parked",
                (unsigned long long) f->stats.n_packets,
                (unsigned long long) (f->stats.n_packets - f->taken));
    }
    pthread_mutex_unlock(&mutex);
    fclose(out);
    return text;
}

static char *
slow(void *self, int argc, const char *argv[])
{
    (void) self;
    (void) argc;
    slow_ms = atoi(argv[1]);
    return NULL;
}

static const struct ovs_offload_command commands[] = {
    { "fake-offload/count", "PACKETS", 1, 1, count },
    { "fake-offload/show", "", 0, 0, show },
    { "fake-offload/slow", "MS", 1, 1, slow },
};

static const struct ovs_offload_ops ops = {
#ifdef FAKE_SMALL_TABLE
    .size = offsetof(struct ovs_offload_ops, ct_use),
#else
    .size = sizeof ops,
#endif
#ifdef FAKE_WRONG_ABI
    .abi = OVS_OFFLOAD_ABI + 1,
#else
    .abi = OVS_OFFLOAD_ABI,
#endif
    .type = STR(FAKE_TYPE),
    .init = init,
    .port_add = port_add,
    .port_del = port_del,
    .flow_put = flow_put,
    .flow_del = flow_del,
    .flow_stats = flow_stats,
#ifndef FAKE_MISSING_OP
    .flow_take = flow_take,
#endif
    .flow_flush = flow_flush,
    .n_flows = n_flows,
    .commands = commands,
    .n_commands = sizeof commands / sizeof commands[0],
};

#ifdef FAKE_MISSING_SYMBOL
#define ovs_offload_plugin_get not_what_ovs_looks_for
#endif

const struct ovs_offload_ops *ovs_offload_plugin_get(void);

const struct ovs_offload_ops *
ovs_offload_plugin_get(void)
{
    return &ops;
}
