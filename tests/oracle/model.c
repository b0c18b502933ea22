/* SPDX-License-Identifier: Apache-2.0 */
#include <config.h>

#include "model_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "csum.h"
#include "dp-packet.h"
#include "flow.h"
#include "ovs-plugin/flow-text.h"
#include "netdev-offload-plugin-compat.h"
#include "netdev-offload-plugin.h"
#include "netlink.h"
#include "odp-execute.h"
#include "odp-util.h"
#include "openvswitch/dynamic-string.h"
#include "openvswitch/match.h"
#include "openvswitch/ofpbuf.h"
#include "openvswitch/vlog.h"
#include "packets.h"
#include "tracker.h"
#include "util.h"

/* As in dpif-netdev.c. */
#define MAX_RECIRC_DEPTH 6

/* Room in front of a frame for what is pushed. */
#define HEADROOM 128

BUILD_ASSERT_DECL(sizeof(struct flow) <= sizeof(struct model_key));

static const struct model_place places[MODEL_N_FIELDS] = {
#define MODEL_FIELD(NAME)                                                     \
    [MODEL_##NAME] = { offsetof(struct flow, NAME),                           \
                       MEMBER_SIZEOF(struct flow, NAME) },
    MODEL_FIELDS
#undef MODEL_FIELD
};

struct model_place
model_place_of(enum model_field field)
{
    return places[field];
}

void
model_init(void)
{
    set_program_name("oracle");
    vlog_set_levels(NULL, VLF_ANY_DESTINATION, VLL_OFF);
    compat_odp_execute_init();
}

bool
model_finds_dont_fragment(void)
{
    return COMPAT_FINDS_DONT_FRAGMENT;
}

void
model_limit_vlans(int limit)
{
    flow_limit_vlans(limit);
}

/* Flows. */

static void examine_actions(struct model_flow *, const struct nlattr *, size_t);

/* Both lists of a check_pkt_len. */
static void
examine_lists(struct model_flow *f, const struct nlattr *check)
{
    const struct nlattr *list;
    size_t left;

    NL_NESTED_FOR_EACH (list, left, check) {
        if (nl_attr_type(list) != OVS_CHECK_PKT_LEN_ATTR_PKT_LEN) {
            examine_actions(f, nl_attr_get(list), nl_attr_get_size(list));
        }
    }
}

static bool
is_ethernet_set(const struct nlattr *set)
{
    return nl_attr_type(nl_attr_get(set)) == OVS_KEY_ATTR_ETHERNET;
}

/* Notes what model_run() has to know of the actions. */
static void
examine_actions(struct model_flow *f, const struct nlattr *actions,
                size_t size)
{
    const struct nlattr *a;
    size_t left;

    NL_ATTR_FOR_EACH (a, left, actions, size) {
        switch (nl_attr_type(a)) {
        case OVS_ACTION_ATTR_OUTPUT:
        case OVS_ACTION_ATTR_PUSH_VLAN:
        case OVS_ACTION_ATTR_POP_VLAN:
        case OVS_ACTION_ATTR_TRUNC:
        case OVS_ACTION_ATTR_HASH:
        case OVS_ACTION_ATTR_RECIRC:
        case OVS_ACTION_ATTR_CT_CLEAR:
            break;
        case OVS_ACTION_ATTR_CT:
            f->tracks = true;
            break;
        case OVS_ACTION_ATTR_SET:
        case OVS_ACTION_ATTR_SET_MASKED:
            f->needs_l3 |= !is_ethernet_set(a);
            break;
        case OVS_ACTION_ATTR_CHECK_PKT_LEN:
            examine_lists(f, a);
            break;
        default:
            f->executable = false;
        }
    }
}

struct model_bytes
model_take_bytes(struct ofpbuf *b)
{
    struct model_bytes bytes = { .size = b->size };

    bytes.data = ofpbuf_steal_data(b);
    return bytes;
}

static struct model_flow *
create(const struct flow *flow, const struct flow_wildcards *wc,
       const char *const *actions, size_t n_actions)
{
    struct model_flow *f = xzalloc(sizeof *f);
    struct ofpbuf abi_key, abi_mask, abi_actions, list;
    bool ok = true;

    ofpbuf_init(&list, 128);
    ofpbuf_init(&abi_key, 512);
    ofpbuf_init(&abi_mask, 512);
    ofpbuf_init(&abi_actions, 128);
    for (size_t i = 0; i < n_actions && ok; i++) {
        ok = flow_text_put_action(actions[i], &list);
    }
    netdev_offload_plugin_put_match(flow, &wc->masks, &abi_key, &abi_mask);
    netdev_offload_plugin_put_actions(list.data, list.size, &abi_actions);
    ofpbuf_uninit(&list);
    memcpy(&f->key, flow, sizeof *flow);
    memcpy(&f->mask, &wc->masks, sizeof wc->masks);
    f->netlink_key = model_take_bytes(&abi_key);
    f->netlink_mask = model_take_bytes(&abi_mask);
    f->actions = model_take_bytes(&abi_actions);
    if (!ok) {
        model_flow_destroy(f);
        return NULL;
    }
    f->executable = true;
    examine_actions(f, f->actions.data, f->actions.size);
    return f;
}

/* As handle_packet_upcall() of dpif-netdev.c makes a flow: what the classifier
 * compares is what ofproto said, whatever of it can be serialised. */
struct model_flow *
model_flow_create(const struct model_key *key, const struct model_key *mask,
                  const char *const *actions, size_t n_actions)
{
    struct flow_wildcards wc;
    struct flow flow;

    memcpy(&flow, key, sizeof flow);
    memcpy(&wc.masks, mask, sizeof wc.masks);
    if (wc.masks.in_port.odp_port != ODPP_NONE) {
        return NULL;
    }
    flow_text_match_missing_tag(&wc);
    return create(&flow, &wc, actions, n_actions);
}

struct model_flow *
model_flow_parse(const char *match, const char *const *actions,
                 size_t n_actions, char **error)
{
    struct model_flow *f = NULL;
    struct flow_wildcards wc;
    struct flow flow;

    *error = flow_text_parse_match(match, &flow, &wc);
    if (!*error) {
        f = create(&flow, &wc, actions, n_actions);
        if (!f) {
            *error = xstrdup("an action that OVS cannot read");
        }
    }
    return f;
}

void
model_flow_destroy(struct model_flow *f)
{
    if (f) {
        free(f->netlink_key.data);
        free(f->netlink_mask.data);
        free(f->actions.data);
        free(f);
    }
}

char *
model_flow_format(const struct model_flow *f)
{
    struct ds ds = DS_EMPTY_INITIALIZER;

    odp_flow_format(f->netlink_key.data, f->netlink_key.size,
                    f->netlink_mask.data, f->netlink_mask.size, NULL, &ds,
                    true
#if OVS_RELEASE >= 305
                    , false
#endif
                    );
    return ds_steal_cstr(&ds);
}

/* Packets. */

struct dp_packet *
model_packet_create(const void *frame, size_t len, uint32_t in_port)
{
    struct dp_packet *p = dp_packet_clone_data_with_headroom(frame, len,
                                                             HEADROOM);

    pkt_metadata_init(&p->md, u32_to_odp(in_port));
    return p;
}

void
model_packet_extract(struct dp_packet *p, struct flow *flow)
{
    struct {
        struct miniflow mf;
        uint64_t buf[FLOW_U64S];
    } m;

    miniflow_extract(p, &m.mf);
    miniflow_expand(&m.mf, flow);
    if (!dp_packet_rss_valid(p)) {
        dp_packet_set_rss_hash(p, miniflow_hash_5tuple(&m.mf, 0));
    }
}

void
model_extract(const void *frame, size_t len, uint32_t in_port,
              struct model_key *key)
{
    struct dp_packet *p = model_packet_create(frame, len, in_port);

    memset(key, 0, sizeof *key);
    model_packet_extract(p, (struct flow *) key);
    dp_packet_delete(p);
}

struct model_headers
model_find_headers(const void *frame, size_t len)
{
    struct dp_packet *p = model_packet_create(frame, len, 1);
    struct model_headers layout;
    struct flow flow;

    model_packet_extract(p, &flow);
    layout.l3 = p->l3_ofs == UINT16_MAX ? -1 : p->l3_ofs;
    layout.l4 = p->l4_ofs == UINT16_MAX ? -1 : p->l4_ofs;
    layout.l4_len = dp_packet_l4_size(p);
    dp_packet_delete(p);
    return layout;
}

/* The checksum field of a TCP or UDP header that may be partial, else null:
 * fragments never are. */
static ovs_be16 *
checksum_field(const struct dp_packet *p, const struct flow *flow)
{
    char *l4 = dp_packet_l4(p);
    size_t size = dp_packet_l4_size(p);

    if (!l4 || !is_ip_any(flow) || flow->nw_frag) {
        return NULL;
    }
    if (flow->nw_proto == IPPROTO_TCP && size >= TCP_HEADER_LEN) {
        return &((struct tcp_header *) l4)->tcp_csum;
    }
    if (flow->nw_proto == IPPROTO_UDP && size >= UDP_HEADER_LEN) {
        return &((struct udp_header *) l4)->udp_csum;
    }
    return NULL;
}

/* The sum of the pseudo-header: RFC 9293 section 3.1, RFC 8200 section 8.1. */
static uint32_t
pseudo_header_sum(const struct dp_packet *p, const struct flow *flow)
{
    uint32_t sum = 0;

    if (flow->dl_type == htons(ETH_TYPE_IP)) {
        sum = csum_add32(sum, flow->nw_src);
        sum = csum_add32(sum, flow->nw_dst);
    } else {
        sum = csum_continue(sum, &flow->ipv6_src, sizeof flow->ipv6_src);
        sum = csum_continue(sum, &flow->ipv6_dst, sizeof flow->ipv6_dst);
    }
    sum = csum_add16(sum, htons(flow->nw_proto));
    return csum_add16(sum, htons(dp_packet_l4_size(p)));
}

/* Completes the checksum if it is partial, which the field says by being the
 * sum of the pseudo-header ("Checksums" in docs/design.md). */
static void
complete_checksum(struct dp_packet *p, const struct flow *flow)
{
    ovs_be16 *field = checksum_field(p, flow);
    ovs_be16 sum;

    if (!field
        || *field != (ovs_be16) ~csum_finish(pseudo_header_sum(p, flow))) {
        return;
    }
    sum = csum(dp_packet_l4(p), dp_packet_l4_size(p)); /* With the field. */
    *field = sum ? sum : htons(0xffff);
}

void
model_complete_checksum(void *frame, size_t len)
{
    struct dp_packet *p = model_packet_create(frame, len, 1);
    struct flow flow;

    model_packet_extract(p, &flow);
    complete_checksum(p, &flow);
    memcpy(frame, dp_packet_data(p), len);
    dp_packet_delete(p);
}

/* Running. */

struct run {
    const struct model_flow *const *flows;
    size_t n_flows;
    const struct model_packet *packet;
    const size_t *choice;
    struct model_result *result;
    int depth;
    size_t n_made;                   /* Flows, for want of one. */
};

static void run_packet(struct run *, struct dp_packet *);

static void
give_up(struct run *r, enum model_verdict verdict)
{
    if (r->result->verdict == MODEL_EXECUTED) {
        r->result->verdict = verdict;
    }
}

/* Does a packet with the fields 'flow' match 'f'? */
static bool
matches(const struct flow *flow, const struct model_flow *f)
{
    const uint64_t *fields = (const uint64_t *) flow;

    for (size_t i = 0; i < FLOW_U64S; i++) {
        if ((fields[i] ^ f->key.word[i]) & f->mask.word[i]) {
            return false;
        }
    }
    return true;
}

/* Returns the index of the flow that 'flow' is for, or 'n_flows'. */
static size_t
look_up(struct run *r, const struct flow *flow)
{
    struct model_result *result = r->result;
    size_t found = r->n_flows, n = 0;
    size_t wanted = r->choice[result->n_lookups];

    for (size_t i = 0; i < r->n_flows; i++) {
        const struct model_flow *f = r->flows[i];

        if (matches(flow, f) && n++ == wanted) {
            found = i;
        }
    }
    result->n_candidates[result->n_lookups++] = n;
    return found;
}

void
model_complete_checksums(struct dp_packet *p OVS_UNUSED)
{
#if OVS_RELEASE >= 305
    dp_packet_ol_send_prepare(p, 0);
#endif
}

static void
output(struct run *r, const struct dp_packet_batch *batch, odp_port_t port)
{
    struct dp_packet *p = batch->packets[0];
    size_t len = (batch->trunc ? dp_packet_get_send_len(p)
                  : dp_packet_size(p));
    struct model_output *o;

    if (r->result->n_outputs == MODEL_MAX_OUTPUTS || len > sizeof o->frame) {
        give_up(r, MODEL_DECLINED);
        return;
    }
    o = &r->result->outputs[r->result->n_outputs++];
    o->port = odp_to_u32(port);
    o->len = len;
    model_complete_checksums(p);
    memcpy(o->frame, dp_packet_data(p), len);
}

/* What dp_execute_cb() of dpif-netdev.c does, for a batch of one packet. */
static void
execute_cb(void *r_, struct dp_packet_batch *batch, const struct nlattr *a,
           bool should_steal)
{
    struct run *r = r_;
    struct dp_packet *p = batch->packets[0];

    if (dp_packet_batch_is_empty(batch)) {
        return;                      /* A fragment that waits for others. */
    }
    switch (nl_attr_type(a)) {
    case OVS_ACTION_ATTR_OUTPUT:
        output(r, batch, nl_attr_get_odp_port(a));
        if (!should_steal) {
            dp_packet_batch_reset_cutlen(batch);
        }
        break;
    case OVS_ACTION_ATTR_CT:
        tracker_execute(r->packet->conntrack, batch, a, r->packet->now);
        return;
    case OVS_ACTION_ATTR_RECIRC:
        if (r->depth == MAX_RECIRC_DEPTH) {
            give_up(r, MODEL_DECLINED);
            break;
        }
        p = dp_packet_clone_with_headroom(p, dp_packet_headroom(p));
        p->md.recirc_id = nl_attr_get_u32(a);
        r->depth++;
        run_packet(r, p);
        r->depth--;
        break;
    }
    dp_packet_delete_batch(batch, should_steal);
}

/* Does the packet have the headers that a flow's set actions write?  OVS
 * relies on its translation for that. */
static bool
has_headers(const struct dp_packet *p, const struct flow *flow)
{
    return is_ip_any(flow) ? dp_packet_l4(p) != NULL
           : flow->dl_type == htons(ETH_TYPE_ARP) && flow->nw_proto;
}

static const struct model_flow *
ask_for_flow(struct run *r, const struct flow *flow)
{
    struct model_key key = { .word = { 0 } };

    if (!r->packet->upcall) {
        return NULL;
    }
    memcpy(&key, flow, sizeof *flow);
    return r->packet->upcall(r->packet->upcall_aux, &key);
}

/* Takes the packet, which it frees, through the flows. */
static void
run_packet(struct run *r, struct dp_packet *p)
{
    struct model_result *result = r->result;
    const struct model_flow *f;
    struct dp_packet_batch batch;
    struct flow flow;
    size_t index;

    model_packet_extract(p, &flow);
    if (!r->depth) {
        memcpy(&result->key, &flow, sizeof flow);
        if (r->packet->complete_checksums) {
            complete_checksum(p, &flow);
        }
    }
    index = (result->n_lookups < MODEL_MAX_STEPS ? look_up(r, &flow)
             : r->n_flows);
    f = index < r->n_flows ? r->flows[index] : ask_for_flow(r, &flow);
    index += f && index == r->n_flows ? r->n_made++ : 0;
    if (!f) {
        if (result->verdict == MODEL_EXECUTED) {
            memcpy(&result->missed, &flow, sizeof flow);
        }
        give_up(r, MODEL_UPCALL);
        dp_packet_delete(p);
        return;
    }
    result->steps[result->n_steps++] = (struct model_step) {
        .flow = index,
        .bytes = dp_packet_size(p),
        .tcp_flags = (is_ip_any(&flow) && flow.nw_proto == IPPROTO_TCP
                      ? ntohs(flow.tcp_flags) : 0),
    };
    if (!f->executable || (f->needs_l3 && !has_headers(p, &flow))
        || (f->tracks && !r->packet->conntrack)) {
        give_up(r, MODEL_DECLINED);
        dp_packet_delete(p);
        return;
    }
    dp_packet_batch_init_packet(&batch, p);
    odp_execute_actions(r, &batch, true, f->actions.data, f->actions.size,
                        execute_cb);
}

void
model_run(const struct model_flow *const *flows, size_t n_flows,
          const struct model_packet *packet,
          const size_t choice[MODEL_MAX_STEPS], struct model_result *result)
{
    struct run r = {
        .flows = flows,
        .n_flows = n_flows,
        .packet = packet,
        .choice = choice,
        .result = result,
    };

    result->verdict = MODEL_EXECUTED;
    result->n_outputs = result->n_steps = result->n_lookups = 0;
    memset(&result->key, 0, sizeof result->key);
    memset(&result->missed, 0, sizeof result->missed);
    run_packet(&r, model_packet_create(packet->frame, packet->len,
                                       packet->in_port));
}
