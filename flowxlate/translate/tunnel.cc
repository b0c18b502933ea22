// SPDX-License-Identifier: Apache-2.0
#include "translate/tunnel.h"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/udp.h>

#include <cerrno>

namespace flowxlate {
namespace {

constexpr size_t kMacs = size_t{2} * ETH_ALEN;

Reject of_other_type() { return {"action", "tnl_push_type", EOPNOTSUPP}; }
Reject too_long() { return {"action", "tnl_push_length", EOPNOTSUPP}; }

template <typename T>
T header_at(const xf_tunnel &t, size_t offset) {
    T header;
    std::memcpy(&header, t.header + offset, sizeof header);
    return header;
}

// Of 'n' bytes, an even number, as 16-bit words: not folded.
uint32_t sum_of(const void *bytes, size_t n) {
    uint32_t sum = 0;
    for (size_t i = 0; i < n; i += sizeof(uint16_t)) {
        uint16_t word;
        std::memcpy(&word, static_cast<const char *>(bytes) + i, sizeof word);
        sum += word;
    }
    return sum;
}

uint32_t folded(uint32_t sum) {
    while (sum > UINT16_MAX) {
        sum = (sum & UINT16_MAX) + (sum >> 16);
    }
    return sum;
}

// The header of IPv4, up to UDP.  Its checksum, without the length, is there
// in OVS 3.1, and left to the end in 3.5.
Reject read_ipv4(xf_tunnel *t) {
    auto ip = header_at<iphdr>(*t, t->l3_off);
    if (ip.version != 4 || ip.ihl != sizeof ip / 4 || ip.tot_len) {
        return malformed("tnl_push");
    }
    if (ip.protocol != IPPROTO_UDP) {
        return of_other_type();
    }
    ip.check = 0;
    ip.check = static_cast<uint16_t>(~folded(sum_of(&ip, sizeof ip)));
    std::memcpy(t->header + t->l3_off, &ip, sizeof ip);
    t->l4_off = t->l3_off + sizeof ip;
    t->sum = sum_of(&ip.saddr, 2 * sizeof ip.saddr) + htons(IPPROTO_UDP);
    return {};
}

Reject read_ipv6(xf_tunnel *t) {
    const auto ip = header_at<ip6_hdr>(*t, t->l3_off);
    if (ip.ip6_vfc >> 4 != 6 || ip.ip6_plen) {
        return malformed("tnl_push");
    }
    if (ip.ip6_nxt != IPPROTO_UDP) {
        return of_other_type();
    }
    t->is_ipv6 = 1;
    t->l4_off = t->l3_off + sizeof ip;
    t->sum = sum_of(&ip.ip6_src, 2 * sizeof ip.ip6_src) + htons(IPPROTO_UDP);
    return {};
}

}  // namespace

Reject decode_tunnel_push(Bytes payload, xf_tunnel *t, OdpPort *port) {
    ovs_offload_tunnel_push push;
    *t = {};
    if (payload.size() < sizeof push) {
        return malformed("tnl_push");
    }
    std::memcpy(&push, payload.data(), sizeof push);
    *port = OdpPort{push.tunnel_port};
    const Bytes header = payload.subspan(sizeof push);
    if (header.size() != push.header_len) {
        return malformed("tnl_push");
    }
    if (push.type != OVS_OFFLOAD_TUNNEL_VXLAN
        && push.type != OVS_OFFLOAD_TUNNEL_GENEVE) {
        return of_other_type();
    }
    if (header.size() > sizeof t->header) {
        return too_long();
    }
    std::memcpy(t->header, header.data(), header.size());
    t->len = header.size();
    t->l3_off = ETH_HLEN;
    const auto type = header_at<ethhdr>(*t, 0).h_proto;
    if (type != htons(ETH_P_IP) && type != htons(ETH_P_IPV6)) {
        return malformed("tnl_push");
    }
    if (auto r = type == htons(ETH_P_IP) ? read_ipv4(t) : read_ipv6(t)) {
        return r;
    }
    auto udp = header_at<udphdr>(*t, t->l4_off);
    constexpr size_t kTunnelHeader = 8;  // Of Geneve and VXLAN, at least.
    if (t->len < t->l4_off + sizeof udp + kTunnelHeader || udp.len) {
        return malformed("tnl_push");
    }
    t->has_checksum = udp.check != 0;
    udp.source = udp.check = 0;
    std::memcpy(t->header + t->l4_off, &udp, sizeof udp);
    t->sum = folded(t->sum);
    return {};
}

Reject push_outer_vlan(xf_tag tag, xf_tunnel *t) {
    if (t->l3_off != ETH_HLEN) {
        return {"action", "third_vlan", EOPNOTSUPP};
    }
    if (t->len + sizeof tag > sizeof t->header) {
        return too_long();
    }
    std::memmove(t->header + kMacs + sizeof tag, t->header + kMacs,
                 t->len - kMacs);
    std::memcpy(t->header + kMacs, &tag, sizeof tag);
    t->len += sizeof tag;
    t->l3_off += sizeof tag;
    t->l4_off += sizeof tag;
    return {};
}

}  // namespace flowxlate
