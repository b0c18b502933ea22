/* SPDX-License-Identifier: Apache-2.0 */
/* ct(nat), then ct(commit,force) in the same zone, of a packet of the original
 * direction: OVS 3.1 finds the entry of the translated direction there, whose
 * lock is not initialized.  No plugin is needed. */
#include <config.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tracker_test.h"

static struct dp_packet *
first(void)
{
    return make_packet(0x0a000001, 1000, 0x0a000002, 80);
}

static void
track_and_show(struct conntrack *ct, struct dp_packet *p, bool force,
               bool commit, const struct nat_action_info_t *nat)
{
    track(ct, p, force, commit, nat);
    printf("force %d, commit %d, nat %d: ct_state 0x%x\n", force, commit,
           nat != NULL, p->md.ct_state);
}

int
main(void)
{
    struct nat_action_info_t source = { .nat_action = NAT_ACTION_SRC };
    struct nat_action_info_t none = { .nat_action = 0 };
    struct conntrack *ct = conntrack_init();
    struct dp_packet *p;

    source.min_addr.ipv4 = source.max_addr.ipv4 = htonl(0x0a000009);
    track_and_show(ct, first(), false, true, &source);
    p = first();
    track_and_show(ct, p, false, false, &none);
    fflush(stdout);
    track_and_show(ct, p, true, true, NULL);
    puts("ok");
    return 0;
}
