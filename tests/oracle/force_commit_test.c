/* SPDX-License-Identifier: Apache-2.0 */
/* ct(nat), then ct(commit,force) in the same zone, of a packet of the original
 * direction: OVS 3.1 finds the entry of the translated direction there, whose
 * lock is not initialized.  No plugin is needed. */
#include <config.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conntrack.h"
#include "csum.h"
#include "dp-packet.h"
#include "flow.h"
#include "packets.h"
#include "timeval.h"

static struct dp_packet *
make_packet(void)
{
    struct dp_packet *p = dp_packet_new(128);
    struct eth_header *eth = dp_packet_put_zeros(p, sizeof *eth);
    struct udp_header *udp;
    struct ip_header *ip;
    struct flow flow;

    eth->eth_type = htons(ETH_TYPE_IP);
    ip = dp_packet_put_zeros(p, sizeof *ip);
    ip->ip_ihl_ver = 0x45;
    ip->ip_tot_len = htons(sizeof *ip + sizeof *udp);
    ip->ip_ttl = 64;
    ip->ip_proto = IPPROTO_UDP;
    put_16aligned_be32(&ip->ip_src, htonl(0x0a000001));
    put_16aligned_be32(&ip->ip_dst, htonl(0x0a000002));
    ip->ip_csum = csum(ip, sizeof *ip);
    udp = dp_packet_put_zeros(p, sizeof *udp);
    udp->udp_src = htons(1000);
    udp->udp_dst = htons(80);
    udp->udp_len = htons(sizeof *udp);
    flow_extract(p, &flow);
    return p;
}

static void
track(struct conntrack *ct, struct dp_packet *p, bool force, bool commit,
      const struct nat_action_info_t *nat)
{
    struct dp_packet_batch batch;

    dp_packet_batch_init_packet(&batch, p);
    conntrack_execute(ct, &batch, htons(ETH_TYPE_IP), force, commit, 1, NULL,
                      NULL, 0, 0, NULL, nat, time_msec(), 0);
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
    track(ct, make_packet(), false, true, &source);
    p = make_packet();
    track(ct, p, false, false, &none);
    fflush(stdout);
    track(ct, p, true, true, NULL);   /* Aborted. */
    puts("ok");
    return 0;
}
