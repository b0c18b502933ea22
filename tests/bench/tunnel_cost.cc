// SPDX-License-Identifier: Apache-2.0
#include "tunnel_cost.h"
#include "bpf/abi/tunnel.h"

#include <arpa/inet.h>
#include <linux/bpf.h>
#include <netinet/in.h>

#include <cstring>
#include <stdexcept>

#include "flowxlate/translate/tunnel.h"
#include "rivals_abi.h"

namespace flowxlate::bench {
namespace {

using test::FlowSpec;
using test::Frame;
using test::Packet;

constexpr uint16_t kGenevePort = 6081;
constexpr size_t kUdpAt = 34, kHeader = 50;  // Ethernet, IPv4, UDP, Geneve.
constexpr uint16_t kRemotes[] = {1, 1000, XF_MAX_TUNNELS - 1};
constexpr uint16_t kMinPort = 32768, kNPorts = 28232;

Frame inner_packet() {
    return Packet()
        .eth(0x0800)
        .ipv4(IPPROTO_TCP)
        .tcp(1, 2)
        .payload(18)
        .bytes();
}

Packet outer_packet() {
    Frame in_udp = {0, 0, 0x65, 0x58, 0, 0, 5, 0};
    const Frame inner = inner_packet();
    in_udp.insert(in_udp.end(), inner.begin(), inner.end());
    return Packet()
        .eth(0x0800)
        .ipv4(IPPROTO_UDP)
        .udp(40000, kGenevePort)
        .data(in_udp);
}

// The same headers as OVS gives them: lengths of zero, and IPv4's checksum for
// that (RFC 1624).
xf_tunnel headers(bool has_checksum) {
    Frame h = outer_packet().bytes();
    const uint32_t len = h[16] << 8 | h[17];
    uint32_t sum = (h[24] << 8 | h[25]) + len;
    sum = (sum & 0xffff) + (sum >> 16);
    h.resize(kHeader);
    h[16] = h[17] = 0;
    h[24] = sum >> 8;
    h[25] = sum;
    h[kUdpAt + 4] = h[kUdpAt + 5] = 0;
    h[kUdpAt + 6] = h[kUdpAt + 7] = has_checksum ? 0xff : 0;
    const ovs_offload_tunnel_push push{0, 0, kHeader,
                                       OVS_OFFLOAD_TUNNEL_GENEVE};
    Frame payload(sizeof push);
    std::memcpy(payload.data(), &push, sizeof push);
    payload.insert(payload.end(), h.begin(), h.end());
    xf_tunnel t;
    OdpPort port{};
    if (auto r = decode_tunnel_push(bytes_of(payload.data(), payload.size()),
                                    &t, &port)) {
        throw std::runtime_error(r.name());
    }
    t.port_min = kMinPort;
    t.n_ports = kNPorts;
    return t;
}

}  // namespace

void TunnelCost::add_relay(const char *metric, bool has_checksum,
                           ProgramCases *cases) {
    auto &ours = *ours_.emplace_back(std::make_unique<test::Program>());
    constexpr TunnelSlot kHeaders{1};
    ours.maps().tunnel(kHeaders) = headers(has_checksum);
    ours.add(FlowSpec::ipv4()
                 .proto(IPPROTO_UDP)
                 .tp_dst(kGenevePort)
                 .out_of_tunnel(test::kGeneve));
    ours.add(FlowSpec::ipv4()
                 .from(test::kGeneve)
                 .match(offsetof(xf_key, tun_id), {0, 0, 0, 5})
                 .into_tunnel(index(kHeaders))
                 .to(test::kOut));
    Packet packet = outer_packet();
    cases->add(metric, ours.fd(),
               has_checksum ? packet.bytes() : packet.no_checksum().bytes(),
               XDP_REDIRECT);
}

void TunnelCost::add_remotes(uint16_t n, ProgramCases *cases) {
    auto &ours = *ours_.emplace_back(std::make_unique<test::Program>());
    ours.add(FlowSpec::ipv4()
                 .proto(IPPROTO_UDP)
                 .tp_dst(kGenevePort)
                 .out_of_tunnel(test::kGeneve));
    for (uint16_t i = 0; i < n; i++) {
        const uint32_t source = htonl(RIVAL_FLOW_ADDRESS + i);
        Frame address(sizeof source);
        std::memcpy(address.data(), &source, sizeof source);
        ours.maps().tunnel(TunnelSlot(i + 1)) = headers(false);
        ours.add(FlowSpec::ipv4()
                     .from(test::kGeneve)
                     .match(offsetof(xf_key, tun_ipv4_src), address)
                     .into_tunnel(i + 1)
                     .to(test::kOut));
    }
    auto *vary = varies_
                     .emplace_back(std::make_unique<Vary>(uniform_sequence(n),
                                                          Vary::kAddress))
                     .get();
    const Frame in = outer_packet().no_checksum().bytes();
    cases->add_behind(vary, "bare_tunnels." + std::to_string(n), bare_, in);
    cases->add_behind(vary, "tunnel.relay_of." + std::to_string(n), ours.fd(),
                      in);
}

void TunnelCost::add(ProgramCases *cases) {
    add_relay("tunnel.relay", false, cases);
    add_relay("tunnel.relay_checksum", true, cases);
    for (uint16_t n : kRemotes) {
        add_remotes(n, cases);
    }
}

}  // namespace flowxlate::bench
