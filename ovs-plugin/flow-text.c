/* SPDX-License-Identifier: Apache-2.0 */
#include <config.h>

#include "flow-text.h"

#include "netlink.h"
#include "odp-util.h"
#include "packets.h"
#include "util.h"

void
flow_text_match_missing_tag(struct flow_wildcards *wc)
{
    if (!wc->masks.vlans[0].tci) {
        wc->masks.vlans[0].tci = htons(VLAN_VID_MASK | VLAN_CFI);
    }
}

/* OVS's texts leave out what is not matched. */
static bool
is_read(enum odp_key_fitness fitness)
{
    return fitness == ODP_FIT_PERFECT || fitness == ODP_FIT_TOO_LITTLE;
}

static bool
parse_match(const struct ofpbuf *key, const struct ofpbuf *mask,
            struct flow *flow, struct flow_wildcards *wc)
{
    if (!is_read(odp_flow_key_to_flow(key->data, key->size, flow, NULL))
        || !is_read(odp_flow_key_to_mask(mask->data, mask->size, wc, flow,
                                         NULL))
        || wc->masks.in_port.odp_port != ODPP_NONE) {
        return false;
    }
    flow_text_match_missing_tag(wc);
    return true;
}

char *
flow_text_parse_match(const char *text, struct flow *flow,
                      struct flow_wildcards *wc)
{
    struct ofpbuf key, mask;
    char *error = NULL;
    bool ok;

    ofpbuf_init(&key, 512);
    ofpbuf_init(&mask, 512);
    ok = !odp_flow_from_string(text, NULL, &key, &mask, &error)
         && parse_match(&key, &mask, flow, wc);
    if (!ok && !error) {
        error = xstrdup("no flow that OVS's datapath could have");
    }
    ofpbuf_uninit(&key);
    ofpbuf_uninit(&mask);
    return error;
}

/* OVS can print a hash action but not parse it. */
bool
flow_text_put_action(const char *text, struct ofpbuf *actions)
{
    struct ovs_action_hash hash = { .hash_basis = 0 };

    if (ovs_scan(text, "hash(l4(%"SCNu32"))", &hash.hash_basis)) {
        hash.hash_alg = OVS_HASH_ALG_L4;
    } else if (ovs_scan(text, "hash(sym_l4(%"SCNu32"))", &hash.hash_basis)) {
        hash.hash_alg = OVS_HASH_ALG_SYM_L4;
    } else {
        return !odp_actions_from_string(text, NULL, actions);
    }
    nl_msg_put_unspec(actions, OVS_ACTION_ATTR_HASH, &hash, sizeof hash);
    return true;
}
