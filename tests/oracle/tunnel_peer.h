/* SPDX-License-Identifier: Apache-2.0 */
/* OVS's tunnels in user space (lib/netdev-native-tnl.c), by way of the tunnel ports
 * that its datapath would have.
 *
 * A packet goes in and out as it does in dpif-netdev: flow_extract(), actions,
 * netdev_pop_header() or netdev_push_header(), and flow_extract() again.
 *
 * Not thread-safe. */
#ifndef TESTS_ORACLE_TUNNEL_PEER_H
#define TESTS_ORACLE_TUNNEL_PEER_H 1

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "model.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Call once, after model_init(). */
void tunnel_init(void);

enum tunnel_kind { TUNNEL_GENEVE, TUNNEL_VXLAN };

struct tunnel_frame {
    size_t len;
    uint8_t data[MODEL_MAX_FRAME];
};

/* Takes 'n_tags' VLAN tags and then the outer headers off the 'len' bytes at
 * 'frame'.  Stores what is in them in '*inner', and in '*key' the fields that it
 * has as a packet of datapath port 'port'.  Returns false if OVS drops it. */
bool tunnel_pop(enum tunnel_kind, const void *frame, size_t len,
                unsigned n_tags, uint32_t port, struct tunnel_frame *inner,
                struct model_key *key);

/* Has 'mask' match all that a megaflow may of the tunnel in 'key'. */
void tunnel_match(const struct model_key *key, struct model_key *mask);

/* The options of a packet that Geneve has brought. */
size_t tunnel_options(const struct model_key *key, const uint8_t **options);

/* Tells one tunnel from another, and what none has brought: by what stays the same
 * on the way. */
uint32_t tunnel_hash(const struct model_key *key);

/* Gives a key that has options one of four bytes, or none. */
void tunnel_set_options(struct model_key *key, bool one);

/* Outer headers, as OVS makes them for a flow. */
struct tunnel_spec {
    enum tunnel_kind kind;
    bool v6, checksum, oam;
    uint8_t dst_mac[6], src_mac[6];
    uint8_t src[16], dst[16];        /* IPv4: the first four bytes. */
    uint8_t tos, ttl;
    uint32_t vni;
    uint8_t options[256];            /* Of Geneve. */
    size_t options_len;
};

/* A list of actions: those of 'before', then tnl_push() with the headers of
 * 'spec' if it is not null, then those of 'after'.  The actions are in OVS's text,
 * one each.  Stores OVS's list in '*own' and what a plugin gets in '*abi'; the
 * caller frees both.  Returns false if a text does not parse. */
bool tunnel_actions(const char *const *before, size_t n_before,
                    const struct tunnel_spec *spec, const char *const *after,
                    size_t n_after, struct model_bytes *own,
                    struct model_bytes *abi);

/* The plugin's list that takes 'n_tags' VLAN tags off and then the outer headers,
 * for datapath port 'port'.  The caller frees it. */
struct model_bytes tunnel_pop_actions(unsigned n_tags, uint32_t port);

/* Executes a list of OVS's on the 'len' bytes at 'frame'.  Stores what goes out in
 * '*out'; returns false if nothing does. */
bool tunnel_execute(const struct model_bytes *own, const void *frame,
                    size_t len, uint32_t in_port, struct tunnel_frame *out);

/* The UDP source ports that OVS chooses from: from 'min' up to, not with, 'max'. */
void tunnel_port_range(uint16_t min, uint16_t max);

#ifdef __cplusplus
}
#endif

#endif /* tunnel_peer.h */
