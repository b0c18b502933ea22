/* SPDX-License-Identifier: Apache-2.0 */
/* ct(commit,nat) without an address translates nothing of a new connection.  OVS 3.1
 * chooses port 0 of 0.0.0.0 for its replies; later releases, without our patch, keep
 * the key of these when the connection is gone, in memory that has been freed, and
 * refuse the next connection of the client to that port.  No plugin is needed. */
#include <config.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tracker_test.h"

enum { CLIENT = 0x0a000001, SERVER = 0x0a000002, OTHER_SERVER = 0x0a000003 };

static uint32_t
connections(struct conntrack *ct)
{
    uint32_t n = 0;

    return conntrack_get_nconns(ct, &n) ? UINT32_MAX : n;
}

int
main(void)
{
    struct nat_action_info_t none = { .nat_action = 0 };
    struct conntrack *ct = conntrack_init();
    uint32_t reply_state, n_flushed, n_again;

    track(ct, make_packet(CLIENT, 1000, SERVER, 53), false, true, &none);
    reply_state = track(ct, make_packet(SERVER, 53, CLIENT, 1000), false, false,
                        &none)->md.ct_state;
    conntrack_flush(ct, NULL);
    n_flushed = connections(ct);
    track(ct, make_packet(CLIENT, 1001, OTHER_SERVER, 53), false, true, &none);
    n_again = connections(ct);
    printf("ct_state of a reply 0x%x; connections after a flush: %u, and one more: "
           "%u\n", reply_state, n_flushed, n_again);
#if OVS_RELEASE >= 305
    if (!(reply_state & CS_REPLY_DIR)) {
        return 1;
    }
#endif
    return n_flushed == 0 && n_again == 1 ? 0 : 1;
}
