/* SPDX-License-Identifier: Apache-2.0 */
/* What model.c shares with tunnel_peer.c: OVS's own types, which the C++ side
 * does not see. */
#ifndef TESTS_ORACLE_MODEL_PRIVATE_H
#define TESTS_ORACLE_MODEL_PRIVATE_H 1

#include "model.h"

struct dp_packet;
struct flow;
struct ofpbuf;

/* A packet with room in front of it for what is pushed. */
struct dp_packet *model_packet_create(const void *frame, size_t len,
                                      uint32_t in_port);

/* flow_extract(), and the RSS hash that dpif-netdev gives a packet if its
 * device has not (dpif_netdev_packet_get_rss_hash()). */
void model_packet_extract(struct dp_packet *, struct flow *);

/* What a device without offloads gets of a packet: since 3.2 OVS leaves checksums for
 * later. */
void model_complete_checksums(struct dp_packet *);

/* The buffer's contents are the caller's then. */
struct model_bytes model_take_bytes(struct ofpbuf *);

#endif
