// SPDX-License-Identifier: Apache-2.0
#include "pipelines.h"

#include <arpa/inet.h>
#include <linux/openvswitch.h>

#include <cstring>

namespace flowxlate::bench {
namespace {

using test::FlowSpec;
using test::Frame;
using test::Packet;

constexpr uint32_t kDestination = 0x0a000002;  // 10.0.0.2, as in Packet.
constexpr uint32_t kTranslated = 0xc0000201;   // 192.0.2.1.
constexpr uint16_t kSourcePort = 1000, kDestinationPort = 80,
                   kTranslatedPort = 5000;
constexpr uint16_t kEstablished = OVS_CS_F_TRACKED | OVS_CS_F_ESTABLISHED;
constexpr uint16_t kStateBits = OVS_CS_F_NEW | OVS_CS_F_RELATED
                              | OVS_CS_F_REPLY_DIR | OVS_CS_F_INVALID
                              | kEstablished;
constexpr uint32_t kTimeoutMs = 1'000'000;  // Longer than any benchmark.

const Frame kSourceMac = {2, 0, 0, 0, 0, 1},
            kDestinationMac = {2, 0, 0, 0, 0, 2};

uint16_t zone_of(int ct) { return static_cast<uint16_t>(ct + 1); }

// What flow number 'n' looks at, beside the recirculation id, the protocol and
// the connection's state.
FlowSpec match_of(int n, uint8_t proto) {
    FlowSpec f = FlowSpec::ipv4().proto(proto).recirc(n);
    switch (n) {
        case 2:
            return f.match(offsetof(xf_key, eth_dst), kDestinationMac);
        case 3:
            return f.ipv4_dst(kDestination, 0xffffff00);
        case 4:
            return f.match(offsetof(xf_key, eth_src), kSourceMac);
        default:
            return f;
    }
}

Frame bytes_of(uint16_t value) {
    Frame bytes(sizeof value);
    std::memcpy(bytes.data(), &value, sizeof value);
    return bytes;
}

xf_ct_step step_of(const Pipeline &p, int n) {
    xf_ct_step step{};
    step.flags = XF_CT_TRACK;
    if (p.has_nat && n == 0) {
        step.flags |= XF_CT_NAT;
    }
    step.zone = zone_of(n);
    return step;
}

void put_tuple(ovs_offload_ct_dir *dir, uint32_t src, uint16_t sport,
               uint32_t dst, uint16_t dport) {
    const uint32_t addresses[] = {htonl(src), htonl(dst)};
    std::memcpy(dir->src, &addresses[0], sizeof addresses[0]);
    std::memcpy(dir->dst, &addresses[1], sizeof addresses[1]);
    dir->tp_src = htons(sport);
    dir->tp_dst = htons(dport);
}

// Established, with TCP windows that are wide open.
ovs_offload_ct connection(uint8_t proto, uint16_t zone, uint32_t source,
                          uint16_t source_port) {
    ovs_offload_ct c{};
    c.size = sizeof c;
    c.zone = zone;
    c.l3 = 4;
    c.proto = proto;
    c.timeout_ms = kTimeoutMs;
    c.expires_ms = test::now_ms() + kTimeoutMs;
    put_tuple(&c.dir[0], source, source_port, kDestination, kDestinationPort);
    put_tuple(&c.dir[1], kDestination, kDestinationPort, source, source_port);
    c.dir[0].state = kEstablished;
    c.dir[1].state = kEstablished | OVS_CS_F_REPLY_DIR;
    for (auto &dir : c.dir) {
        dir.seq_end = 1;
        dir.ack_win = 100'000;
        dir.max_win = 60'000;
    }
    return c;
}

// To where its answers go.
ovs_offload_ct translated(ovs_offload_ct c) {
    put_tuple(&c.dir[1], kDestination, kDestinationPort, kTranslated,
              kTranslatedPort);
    c.dir[0].nat_state = OVS_CS_F_SRC_NAT;
    c.dir[1].nat_state = OVS_CS_F_DST_NAT;
    return c;
}

}  // namespace

std::string Pipeline::name() const {
    return std::string(proto == IPPROTO_TCP ? "tcp." : "udp.")
         + std::to_string(n_flows) + (n_flows == 1 ? "_flow." : "_flows.")
         + std::to_string(n_cts) + (has_nat ? "_ct_nat" : "_ct");
}

std::vector<FlowSpec> specs_of(const Pipeline &p) {
    std::vector<FlowSpec> specs;
    for (int n = 0; n < p.n_flows; n++) {
        FlowSpec f = match_of(n, p.proto);
        if (n > 0 && p.n_cts) {
            f.match(offsetof(xf_key, ct_state), bytes_of(kEstablished),
                    bytes_of(kStateBits));
        }
        if (n < p.n_cts) {
            f.rewrite.ct[0] = step_of(p, n);
        }
        const bool is_last = n + 1 == p.n_flows;
        specs.push_back(is_last ? f.to(test::kOut) : f.recirc_to(n + 1));
    }
    return specs;
}

Frame pipeline_packet(const Pipeline &p) {
    Packet packet = Packet().eth(0x0800).ipv4(p.proto);
    return (p.proto == IPPROTO_TCP ? packet.tcp(kSourcePort, kDestinationPort)
                                   : packet.udp(kSourcePort, kDestinationPort))
        .payload(18)
        .bytes();
}

std::vector<ovs_offload_ct> connections_of(const Pipeline &p,
                                           uint32_t source) {
    std::vector<ovs_offload_ct> conns;
    uint16_t port = kSourcePort;
    for (int i = 0; i < p.n_cts; i++) {
        conns.push_back(connection(p.proto, zone_of(i), source, port));
        if (p.has_nat && i == 0) {
            conns.back() = translated(conns.back());
            source = kTranslated;
            port = kTranslatedPort;
        }
    }
    return conns;
}

}  // namespace flowxlate::bench
