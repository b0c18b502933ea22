/* SPDX-License-Identifier: Apache-2.0 */
/* conntrack_offload_attach() tells of connections that there are already.  Of two
 * whose answers come alike the plugin takes the one that it is told of last for
 * the younger one, which OVS finds, so that must be it. */
#include <config.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tracker_test.h"

#include "conntrack-private.h"
#include "ovs_offload_abi.h"

enum { CLIENT = 0x0a000001, SERVER = 0x0a000002, SERVICE = 0x0a000003 };

static int n_puts, put_translated, put_direct;

static int
ct_open(void *self OVS_UNUSED,
        const struct ovs_offload_ct_settings *s OVS_UNUSED)
{
    return 0;
}

static void
ct_close(void *self OVS_UNUSED)
{
}

static void
ct_settings(void *self OVS_UNUSED,
            const struct ovs_offload_ct_settings *s OVS_UNUSED)
{
}

static int
ct_put(void *self OVS_UNUSED, const struct ovs_offload_ct *c, uint64_t *handle)
{
    if (*handle) {
        return 0;
    }
    *handle = ++n_puts;
    if (c->dir[0].tp_src == htons(1000)) {
        *(c->dir[0].nat_state ? &put_translated : &put_direct) = n_puts;
    }
    return 0;
}

static void
ct_del(void *self OVS_UNUSED, uint64_t handle OVS_UNUSED)
{
}

static bool
ct_use(void *self OVS_UNUSED, uint64_t handle OVS_UNUSED,
       struct ovs_offload_ct_use *use OVS_UNUSED)
{
    return false;
}

int
main(void)
{
    static const struct ovs_offload_ops ops = {
        .size = sizeof ops, .ct_open = ct_open, .ct_close = ct_close,
        .ct_settings = ct_settings, .ct_put = ct_put, .ct_del = ct_del,
        .ct_use = ct_use,
    };
    struct nat_action_info_t to_server = { .nat_action = NAT_ACTION_DST };
    struct nat_action_info_t none = { .nat_action = 0 };
    struct conntrack *ct = conntrack_init();
    struct dp_packet *p;
    uint32_t src;

    to_server.min_addr.ipv4 = to_server.max_addr.ipv4 = htonl(SERVER);
    track(ct, make_packet(CLIENT, 1, SERVER, 53), false, true, NULL);
    track(ct, make_packet(CLIENT, 1000, SERVICE, 53), false, true, &to_server);
    for (uint16_t i = 2; i < N_EXP_LISTS; i++) {
        track(ct, make_packet(CLIENT, i, SERVER, 53), false, true, NULL);
    }
    track(ct, make_packet(CLIENT, 1000, SERVER, 53), false, true, NULL);

    if (conntrack_offload_attach(ct, &ops, NULL)) {
        return 2;
    }
    p = track(ct, make_packet(SERVER, 53, CLIENT, 1000), false, false, &none);
    src = ntohl(get_16aligned_be32(
                    &((struct ip_header *) dp_packet_l3(p))->ip_src));
    printf("OVS finds the %s one; put was the translated one as number %d, the "
           "direct one as number %d\n", src == SERVICE ? "translated" : "direct",
           put_translated, put_direct);
    return (src == SERVICE) == (put_translated > put_direct) ? 0 : 1;
}
