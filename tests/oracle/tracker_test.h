/* SPDX-License-Identifier: Apache-2.0 */
/* Packets for the tests of OVS's connection tracker and its patch: UDP over IPv4,
 * in zone 1. */
#ifndef TRACKER_TEST_H
#define TRACKER_TEST_H 1

#include "conntrack.h"
#include "csum.h"
#include "dp-packet.h"
#include "flow.h"
#include "packets.h"
#include "timeval.h"

/* What conntrack_execute() is told of ports. */
#if OVS_RELEASE < 305
#define NO_PORTS 0, 0,
#else
#define NO_PORTS
#endif

/* Addresses and ports in host order. */
static struct dp_packet *
make_packet(uint32_t src, uint16_t sport, uint32_t dst, uint16_t dport)
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
    put_16aligned_be32(&ip->ip_src, htonl(src));
    put_16aligned_be32(&ip->ip_dst, htonl(dst));
    ip->ip_csum = csum(ip, sizeof *ip);
    udp = dp_packet_put_zeros(p, sizeof *udp);
    udp->udp_src = htons(sport);
    udp->udp_dst = htons(dport);
    udp->udp_len = htons(sizeof *udp);
    flow_extract(p, &flow);
    return p;
}

/* ct(zone=1,...) of 'p', which it returns. */
static struct dp_packet *
track(struct conntrack *ct, struct dp_packet *p, bool force, bool commit,
      const struct nat_action_info_t *nat)
{
    struct dp_packet_batch batch;

    dp_packet_batch_init_packet(&batch, p);
    conntrack_execute(ct, &batch, htons(ETH_TYPE_IP), force, commit, 1, NULL,
                      NULL, NO_PORTS NULL, nat, time_msec(), 0);
    return p;
}

#endif /* tracker_test.h */
