/* SPDX-License-Identifier: Apache-2.0 */
/* Reads OVS's text of a datapath flow outside of ovs-vswitchd: for tests, and for
 * tools that read saved dumps.  The parsing is OVS's own.
 *
 * What a plugin gets of such a flow is the glue's affair
 * (netdev_offload_plugin_put_match() and _put_actions()). */
#ifndef FLOW_TEXT_H
#define FLOW_TEXT_H 1

#include <stdbool.h>
#include <stddef.h>

#include "flow.h"
#include "openvswitch/ofpbuf.h"

/* Makes a match that says nothing of a VLAN tag match packets without one, as
 * netlink cannot say "with or without a tag". */
void flow_text_match_missing_tag(struct flow_wildcards *);

/* Parses a match as dpif_netdev_flow_put() does.  Returns null, or what is
 * wrong with it, which the caller frees. */
char *flow_text_parse_match(const char *text, struct flow *,
                            struct flow_wildcards *);

/* Appends one action.  Returns whether it could be parsed. */
bool flow_text_put_action(const char *text, struct ofpbuf *actions);

#endif /* flow-text.h */
