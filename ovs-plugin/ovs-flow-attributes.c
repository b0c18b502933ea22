/* SPDX-License-Identifier: Apache-2.0 */
/* Reads datapath flows in OVS's text and prints the netlink attributes that a
 * plugin would get of them: how ovs-offload-advise has OVS read a dump.
 *
 * A line of the input is a match and its actions, one each, with a tab before
 * each.  One of the output is "ok", key, mask and actions as hexadecimal
 * digits, or "error" and what is wrong, with a tab between. */
#include <config.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "flow-text.h"
#include "netdev-offload-plugin.h"
#include "netdev-offload-plugin-compat.h"
#include "openvswitch/dynamic-string.h"
#include "openvswitch/vlog.h"
#include "util.h"

static void
print_hex(const struct ofpbuf *b)
{
    const uint8_t *bytes = b->data;

    putchar('\t');
    for (size_t i = 0; i < b->size; i++) {
        printf("%02x", bytes[i]);
    }
}

static void
print_flow(const struct flow *flow, const struct flow_wildcards *wc,
           const struct ofpbuf *actions)
{
    struct ofpbuf key, mask, abi_actions;

    ofpbuf_init(&key, 512);
    ofpbuf_init(&mask, 512);
    ofpbuf_init(&abi_actions, 128);
    netdev_offload_plugin_put_match(flow, &wc->masks, &key, &mask);
    netdev_offload_plugin_put_actions(actions->data, actions->size,
                                      &abi_actions);
    fputs("ok", stdout);
    print_hex(&key);
    print_hex(&mask);
    print_hex(&abi_actions);
    putchar('\n');
    ofpbuf_uninit(&key);
    ofpbuf_uninit(&mask);
    ofpbuf_uninit(&abi_actions);
}

static void
translate(char *line)
{
    struct flow_wildcards wc;
    struct ofpbuf actions;
    struct flow flow;
    char *rest = line;
    const char *match = strsep(&rest, "\t");
    char *error = flow_text_parse_match(match, &flow, &wc);
    const char *action;

    ofpbuf_init(&actions, 128);
    while (!error && (action = strsep(&rest, "\t"))) {
        if (!flow_text_put_action(action, &actions)) {
            error = xasprintf("%s: no action that OVS can read", action);
        }
    }
    if (error) {
        printf("error\t%s\n", error);
    } else {
        print_flow(&flow, &wc, &actions);
    }
    ofpbuf_uninit(&actions);
    free(error);
}

int
main(int argc OVS_UNUSED, char *argv[])
{
    struct ds line = DS_EMPTY_INITIALIZER;

    set_program_name(argv[0]);
    vlog_set_levels(NULL, VLF_ANY_DESTINATION, VLL_OFF);
    compat_odp_execute_init();
    while (!ds_get_line(&line, stdin)) {
        translate(ds_cstr(&line));
    }
    ds_destroy(&line);
    return fflush(stdout) ? EXIT_FAILURE : EXIT_SUCCESS;
}
