// SPDX-License-Identifier: Apache-2.0
// Building packets byte by byte, for tables of test rows.
//
//   Packet().eth(0x0800).ipv4(IPPROTO_UDP).udp(1000, 53).payload(18)
//
// Lengths and checksums of the enclosing headers are filled in by bytes().
// Everything else can be overwritten with poke().
#ifndef TESTS_BPF_PACKET_H
#define TESTS_BPF_PACKET_H

#include <netinet/in.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace flowxlate::test {

using Frame = std::vector<uint8_t>;

// RFC 1071, the slow and obvious way.
uint16_t ones_complement_sum(const uint8_t *p, size_t n, uint32_t sum = 0);

class Packet {
public:
    // Addresses: 02:00:00:00:00:01 -> 02:00:00:00:00:02 and
    // 10.0.0.1 -> 10.0.0.2 or fc00::1 -> fc00::2.
    Packet &eth(uint16_t type);
    Packet &vlan(uint16_t tci, uint16_t type);
    Packet &arp(uint16_t op);
    Packet &ipv4(uint8_t proto, uint16_t frag = 0, size_t options = 0);
    Packet &ipv6(uint8_t next_header);
    Packet &ipv6_hop_by_hop(uint8_t next_header);
    // 'offset' with the flags, as in the header: 1 = more fragments follow.
    Packet &ipv6_fragment(uint8_t next_header, uint16_t offset);
    Packet &tcp(uint16_t src, uint16_t dst, uint16_t flags = 0x10);
    Packet &udp(uint16_t src, uint16_t dst);
    Packet &sctp(uint16_t src, uint16_t dst, uint32_t crc = 1);
    Packet &icmp(uint8_t type, uint8_t code);
    // ICMPv6: a message about fc00::7, and a link-layer address of 'len' * 8
    // bytes with its header.
    Packet &nd(uint8_t type, uint8_t code = 0);
    Packet &nd_option(uint8_t type, uint8_t len = 1);
    Packet &mpls(uint32_t lse);
    Packet &payload(size_t n);
    Packet &data(const Frame &);
    Packet &padding(size_t n);  // Behind the IP packet.
    Packet &poke(size_t offset, uint8_t value);

    // Leaves the transport checksum at the pseudo-header's sum.
    Packet &partial() {
        partial_ = true;
        return *this;
    }
    // UDP's "no checksum".
    Packet &no_checksum() {
        no_checksum_ = true;
        return *this;
    }

    Frame bytes() const;
    // Offset of the transport header.
    size_t l4() const { return l4_; }

private:
    void put8(uint8_t v) { frame_.push_back(v); }
    void put16(uint16_t v);
    void put32(uint32_t v);
    void put(std::initializer_list<uint8_t> v);
    void finish(Frame &) const;
    uint16_t pseudo_header(const Frame &) const;

    Frame frame_;
    std::vector<std::pair<size_t, uint8_t>> pokes_;
    size_t l3_ = 0, l4_ = 0, l4_end_ = 0;
    size_t checksum_at_ = 0;
    uint8_t proto_ = 0;
    bool v6_ = false, partial_ = false, no_checksum_ = false;
};

std::string hex(const Frame &);

}  // namespace flowxlate::test

#endif
