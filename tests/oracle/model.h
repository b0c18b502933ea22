/* SPDX-License-Identifier: Apache-2.0 */
/* What Open vSwitch itself does with a packet: the side of the oracle that is
 * linked with libopenvswitch.
 *
 * A flow is made from a match and a list of actions in OVS's text.  The match is what
 * the classifier compares, as dpif-netdev has it from ofproto.  What a plugin gets is
 * that, serialised to netlink attributes by the code that does it for real, so that
 * what gets lost there is lost here.
 *
 * model_run() takes a packet through a set of flows as dpif-netdev does, but
 * plainly: flow_extract(), a comparison with every flow,
 * odp_execute_actions(), and the same again at each recirculation.
 *
 * Not thread-safe: OVS's VLAN limit and the state of a run are global.
 */
#ifndef TESTS_ORACLE_MODEL_H
#define TESTS_ORACLE_MODEL_H 1

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MODEL_MAX_FRAME 2048         /* Longest frame, in bytes. */
#define MODEL_MAX_OUTPUTS 8
#define MODEL_MAX_STEPS 8

/* OVS's struct flow: the fields of a packet, or a mask of them.  As long as in the release
 * where it is longest, 4.0. */
#define MODEL_KEY_WORDS 92
struct model_key {
    uint64_t word[MODEL_KEY_WORDS];
};

/* The members of struct flow that a megaflow may match, by the name there. */
#define MODEL_FIELDS                                                          \
    MODEL_FIELD(recirc_id) MODEL_FIELD(dp_hash) MODEL_FIELD(in_port)          \
    MODEL_FIELD(packet_type) MODEL_FIELD(skb_priority)                        \
    MODEL_FIELD(pkt_mark) MODEL_FIELD(ct_state) MODEL_FIELD(ct_zone)          \
    MODEL_FIELD(dl_dst) MODEL_FIELD(dl_src) MODEL_FIELD(dl_type)              \
    MODEL_FIELD(vlans) MODEL_FIELD(mpls_lse) MODEL_FIELD(nw_src)              \
    MODEL_FIELD(nw_dst) MODEL_FIELD(ipv6_src) MODEL_FIELD(ipv6_dst)           \
    MODEL_FIELD(ipv6_label) MODEL_FIELD(nw_frag) MODEL_FIELD(nw_tos)          \
    MODEL_FIELD(nw_ttl) MODEL_FIELD(nw_proto) MODEL_FIELD(nd_target)          \
    MODEL_FIELD(arp_sha) MODEL_FIELD(arp_tha) MODEL_FIELD(tcp_flags)          \
    MODEL_FIELD(tp_src) MODEL_FIELD(tp_dst) MODEL_FIELD(igmp_group_ip4)

enum model_field {
#define MODEL_FIELD(NAME) MODEL_##NAME,
    MODEL_FIELDS
#undef MODEL_FIELD
    MODEL_N_FIELDS
};

/* Where a field is in struct model_key, in bytes. */
struct model_place {
    size_t offset, size;
};
struct model_place model_place_of(enum model_field);

/* Call once, before everything else. */
void model_init(void);

/* Does OVS find "don't fragment" in what comes out of a tunnel? */
bool model_finds_dont_fragment(void);

/* OVS's other_config:vlan-limit: how many tags it looks at, 1 or 2. */
void model_limit_vlans(int limit);

/* A megaflow.  The byte strings are what a plugin gets. */
struct model_bytes {
    void *data;
    size_t size;
};
struct model_flow {
    struct model_key key, mask;      /* 'key' has bits outside of 'mask'. */
    struct model_bytes netlink_key, netlink_mask, actions;
    bool executable;                 /* False: an action that only a datapath
                                      * can do, as userspace(). */
    bool tracks;                     /* Has a ct(). */
    bool needs_l3;                   /* Sets fields above Ethernet. */
};

/* Returns null if dpif-netdev has no such flow, or if the actions do not parse.  'actions' is a list of texts, one action each. */
struct model_flow *model_flow_create(const struct model_key *key,
                                     const struct model_key *mask,
                                     const char *const *actions,
                                     size_t n_actions);
/* The same from OVS's text of the match.  On failure stores a text in
 * '*error', which the caller frees. */
struct model_flow *model_flow_parse(const char *match,
                                    const char *const *actions,
                                    size_t n_actions, char **error);
void model_flow_destroy(struct model_flow *);

/* OVS's text of the flow's match; the caller frees it. */
char *model_flow_format(const struct model_flow *);

/* The fields of a packet that comes in through datapath port 'in_port'. */
void model_extract(const void *frame, size_t len, uint32_t in_port,
                   struct model_key *key);

/* Where the headers of a packet begin: offsets into the frame, -1 for none. */
struct model_headers {
    int l3, l4;
    size_t l4_len;                   /* As IP says. */
};
struct model_headers model_find_headers(const void *frame, size_t len);

/* Completes the checksum of a packet, if it is partial. */
void model_complete_checksum(void *frame, size_t len);

enum model_verdict {
    MODEL_EXECUTED,                  /* Sent as 'outputs' says; none: drop. */
    MODEL_UPCALL,                    /* No flow for the fields 'missed'. */
    MODEL_DECLINED,                  /* Not for a fast path. */
};

struct model_output {
    uint32_t port;
    size_t len;
    uint8_t frame[MODEL_MAX_FRAME];
};

/* A flow that was executed, and what it counts. */
struct model_step {
    size_t flow;                     /* Index into the set. */
    size_t bytes;
    uint16_t tcp_flags;
};

struct model_result {
    enum model_verdict verdict;
    struct model_key key;            /* Of the packet as it came. */
    struct model_key missed;
    size_t n_outputs, n_steps, n_lookups;
    struct model_step steps[MODEL_MAX_STEPS];
    size_t n_candidates[MODEL_MAX_STEPS]; /* Per look-up: flows that match. */
    struct model_output outputs[MODEL_MAX_OUTPUTS];
};

struct model_packet {
    const void *frame;
    size_t len;
    uint32_t in_port;
    bool complete_checksums;         /* A partial one leaves completed. */

    /* What ct() needs: OVS's struct conntrack, and its time in ms.  Null: ct()
     * is not for a fast path. */
    void *conntrack;
    long long now;
    /* Makes a flow for the fields of a packet that none is for; the first one is
     * number 'n_flows'.  Null, or it returns null: MODEL_UPCALL. */
    const struct model_flow *(*upcall)(void *aux, const struct model_key *);
    void *upcall_aux;
};

/* Takes 'packet' through the flows.  Where several flows match, 'choice' says
 * which one is taken, by look-up; its value must be below 'n_candidates'. */
void model_run(const struct model_flow *const *flows, size_t n_flows,
               const struct model_packet *packet,
               const size_t choice[MODEL_MAX_STEPS],
               struct model_result *result);

#ifdef __cplusplus
}
#endif

#endif /* model.h */
