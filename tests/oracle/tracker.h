/* SPDX-License-Identifier: Apache-2.0 */
/* OVS's connection tracker: one that is left alone, and one that tells a plugin of
 * its connections, as dpif-netdev's does.
 *
 * Time is the caller's: tracker_age() makes connections as old as if so much of it
 * had passed.  Not thread-safe but for what OVS's own threads do. */
#ifndef TESTS_ORACLE_TRACKER_H
#define TESTS_ORACLE_TRACKER_H 1

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "model.h"
#include "ovs-plugin/ovs_offload_abi.h"

#ifdef __cplusplus
extern "C" {
#endif

struct conntrack;
struct dp_packet_batch;
struct nlattr;

/* Trackers of one seed, which is not 0, choose ports for translation alike.  'ops'
 * may be null. */
struct conntrack *tracker_create(uint32_t seed, const struct ovs_offload_ops *,
                                 void *self);
void tracker_destroy(struct conntrack *);

/* ct(), as dp_execute_cb() of dpif-netdev.c does it. */
void tracker_execute(struct conntrack *, struct dp_packet_batch *,
                     const struct nlattr *ct, long long now);

/* Calls 'function'.  Returns false if OVS ended itself there by an assertion that
 * failed: its trackers must then be left as they are. */
bool tracker_survives(void (*function)(void *), void *aux);

/* Now, in OVS's ms. */
long long tracker_now(void);

void tracker_age(struct conntrack *, long long ms);
void tracker_flush(struct conntrack *, uint16_t zone);
size_t tracker_count(struct conntrack *); /* Also those that have expired. */
/* Asks the plugin for connections of an earlier process. */
void tracker_restore(struct conntrack *);
void tracker_check_windows(struct conntrack *, bool);

/* What is known of a connection, with what a plugin has seen. */
struct tracked {
    char text[512];                  /* Tuples, zone, state, mark, label. */
    long long expires;               /* In ms from 'now'. */
    uint32_t timeout;                /* In ms, after the last packet. */
    uint32_t seq[2], ack_win[2], max_win[2]; /* TCP. */
    bool is_executable;
};
/* Stores those of the tracker that have not expired, sorted, in '*list', which
 * the caller frees; returns how many. */
size_t tracker_list(struct conntrack *, long long now, struct tracked **list);

/* A flow for exactly this state of a connection, and the protocol. */
struct model_flow *tracker_make_flow(const struct model_key *,
                                     const char *const *actions, size_t n);
/* Of a packet's fields. */
uint32_t tracker_recirc_id(const struct model_key *);
uint32_t tracker_ct_state(const struct model_key *); /* OVS_CS_F_*. */

#ifdef __cplusplus
}
#endif

#endif /* tracker.h */
