// SPDX-License-Identifier: Apache-2.0
// What a flower filter compares packets with: header fields as TC's flow
// dissector finds them, of which those that a packet does not have are zero.
//
// The struct is plain words: masks, hashes and comparisons know no fields.
// IPv4 and IPv6 addresses share their place as they do in the kernel, where
// IPv4's destination is in IPv6's source: two masks that are the same bytes
// there are one mask, and have one place in flower's walk.  Which ones they
// are, 'eth_type' says.
#ifndef FLOWERD_FIELDS_H
#define FLOWERD_FIELDS_H

#include <arpa/inet.h>
#include <linux/types.h>

#include <array>
#include <cstddef>
#include <cstdint>

namespace flowerd {

constexpr size_t kFieldWords = 16;

struct Fields {
    union {
        struct {
            __be16 protocol;  // Of the preference: the outermost type, which
                              // is that of a tag if there is one.
            __be16 eth_type;  // Behind all tags.
            uint8_t eth_dst[6];
            uint8_t eth_src[6];
            uint16_t vlan_id;  // Of the outermost tag, in host order.
            __be16 vlan_eth_type;
            uint8_t vlan_prio;
            uint8_t ip_proto;
            uint8_t ip_tos;
            uint8_t ip_ttl;
            __be16 tp_src, tp_dst;  // TCP, UDP and SCTP; not of fragments.
            __be16 tcp_flags;
            uint8_t icmp_type, icmp_code;  // Of ICMP and ICMPv6.
            union {
                struct {
                    std::array<uint8_t, 16> src, dst;
                };
                struct {
                    std::array<uint8_t, 4> ipv4_src, ipv4_dst;
                };
            };
            __be32 flags;    // TCA_FLOWER_KEY_FLAGS_*: fragments.
            uint32_t chain;  // Where TC is in its walk, in host order.
            // Of requests and replies for IPv4 addresses of Ethernet.
            __be32 arp_sip, arp_tip;
            uint8_t arp_sha[6], arp_tha[6];
            uint8_t arp_op;
            uint8_t n_tags;  // As far as flower counts them.
            // Of a mask: which ports have a range (kSourceRange, ...), since
            // it is another one by that.
            uint8_t ranges;
            uint8_t pad;
            // Of the connection that ct has found: TCA_FLOWER_KEY_CT_FLAGS_*,
            // in host order like zone and mark.
            uint16_t ct_state, ct_zone;
            uint32_t ct_mark;
            std::array<uint8_t, 16> ct_labels;
            // Of the second tag.
            uint16_t cvlan_id;
            __be16 cvlan_eth_type;
            uint8_t cvlan_prio;
            uint8_t pad2[3];
        };
        uint64_t word[kFieldWords];
    };

    Fields() : word{} {}
    bool operator==(const Fields &other) const {
        for (size_t i = 0; i < kFieldWords; i++) {
            if (word[i] != other.word[i]) {
                return false;
            }
        }
        return true;
    }
    Fields operator&(const Fields &other) const {
        Fields both;
        for (size_t i = 0; i < kFieldWords; i++) {
            both.word[i] = word[i] & other.word[i];
        }
        return both;
    }
};
static_assert(sizeof(Fields) == 8 * kFieldWords);

struct FieldsHash {
    size_t operator()(const Fields &f) const noexcept {
        uint64_t hash = 0;
        for (uint64_t word : f.word) {
            hash = (hash ^ word) * 0x9e3779b97f4a7c15;
            hash ^= hash >> 32;
        }
        return hash;
    }
};

constexpr uint8_t kSourceRange = 1, kDestinationRange = 2;

// From the first port up to the last one, in host order.
struct PortRange {
    uint16_t first = 0, last = UINT16_MAX;

    bool operator==(const PortRange &) const = default;
    bool has(__be16 port) const {
        return first <= ntohs(port) && ntohs(port) <= last;
    }
    bool overlaps(const PortRange &other) const {
        return first <= other.last && other.first <= last;
    }
};

struct Match {
    Fields key, mask;  // The key has no bits that the mask has not.
    PortRange src_ports, dst_ports;

    bool operator==(const Match &) const = default;
    bool matches(const Fields &packet) const {
        return (packet & mask) == key && src_ports.has(packet.tp_src)
            && dst_ports.has(packet.tp_dst);
    }
    bool shares_ports(const Match &other) const {
        return src_ports.overlaps(other.src_ports)
            && dst_ports.overlaps(other.dst_ports);
    }
    // Can one packet match both?
    bool overlaps(const Match &other) const {
        const Fields both = mask & other.mask;
        return (key & both) == (other.key & both) && shares_ports(other);
    }
};

}  // namespace flowerd

#endif
