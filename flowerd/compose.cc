// SPDX-License-Identifier: Apache-2.0
#include "flowerd/compose.h"

#include <arpa/inet.h>
#include <net/ethernet.h>
#include <netinet/ether.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdint>
#include <cstring>
#include <map>
#include <optional>
#include <string_view>
#include <vector>

#include "flowxlate/translate/describe.h"

namespace flowerd {
namespace {

using flowxlate::Failure;
using Octets = std::vector<uint8_t>;

constexpr size_t kPayload = 32;
constexpr size_t kMinFrame = 60;
constexpr uint8_t kAck = 0x10;
// Of each header, where its checksum is.
constexpr size_t kIpSum = 10, kTcpSum = 16, kUdpSum = 6, kIcmpSum = 2;

struct Packet {
    ether_addr src_mac{{2, 0, 0, 0, 0, 1}}, dst_mac{{2, 0, 0, 0, 0, 2}};
    std::optional<uint16_t> vlan_id, vlan_prio;
    int family = 0;  // Of the addresses that were given; 0: of none.
    std::array<uint8_t, 16> src_ip{}, dst_ip{};
    bool has_src = false, has_dst = false;
    uint8_t proto = IPPROTO_UDP, tos = 0, ttl = 64, tcp_flags = kAck;
    uint8_t type = 0, code = 0;
    uint16_t src_port = 1000, dst_port = 2000;
};

template <typename T>
bool read_number(std::string_view text, unsigned long max, T *number) {
    const bool is_hex = text.starts_with("0x");
    text.remove_prefix(is_hex ? 2 : 0);
    unsigned long n = 0;
    const auto [end, error] = std::from_chars(
        text.data(), text.data() + text.size(), n, is_hex ? 16 : 10);
    if (error != std::errc{} || end != text.data() + text.size() || n > max) {
        return false;
    }
    *number = static_cast<T>(n);
    return true;
}

bool read_mac(const std::string &text, ether_addr *mac) {
    return ether_aton_r(text.c_str(), mac) != nullptr;
}

bool read_ip(const std::string &text, int *family,
             std::array<uint8_t, 16> *ip) {
    const int own = text.find(':') == std::string::npos ? AF_INET : AF_INET6;
    if (*family && *family != own) {
        return false;
    }
    *family = own;
    return inet_pton(own, text.c_str(), ip->data()) == 1;
}

bool read_proto(const std::string &text, uint8_t *proto) {
    static const std::map<std::string_view, uint8_t> names{
        {"tcp", IPPROTO_TCP},
        {"udp", IPPROTO_UDP},
        {"sctp", IPPROTO_SCTP},
        {"icmp", IPPROTO_ICMP},
        {"icmpv6", IPPROTO_ICMPV6}};
    const auto name = names.find(text);
    if (name != names.end()) {
        *proto = name->second;
        return true;
    }
    return read_number(text, 255, proto);
}

using Setter = bool (*)(const std::string &, Packet *);
const std::map<std::string_view, Setter> &setters() {
    using S = const std::string &;
    static const std::map<std::string_view, Setter> all{
        {"src_mac", [](S s, Packet *p) { return read_mac(s, &p->src_mac); }},
        {"dst_mac", [](S s, Packet *p) { return read_mac(s, &p->dst_mac); }},
        {"vlan_id",
         [](S s, Packet *p) { return read_number(s, 4095, &p->vlan_id); }},
        {"vlan_prio",
         [](S s, Packet *p) { return read_number(s, 7, &p->vlan_prio); }},
        {"src_ip",
         [](S s, Packet *p) {
             p->has_src = true;
             return read_ip(s, &p->family, &p->src_ip);
         }},
        {"dst_ip",
         [](S s, Packet *p) {
             p->has_dst = true;
             return read_ip(s, &p->family, &p->dst_ip);
         }},
        {"ip_proto", [](S s, Packet *p) { return read_proto(s, &p->proto); }},
        {"ip_tos",
         [](S s, Packet *p) { return read_number(s, 255, &p->tos); }},
        {"ip_ttl",
         [](S s, Packet *p) { return read_number(s, 255, &p->ttl); }},
        {"src_port",
         [](S s, Packet *p) { return read_number(s, 65535, &p->src_port); }},
        {"dst_port",
         [](S s, Packet *p) { return read_number(s, 65535, &p->dst_port); }},
        {"tcp_flags",
         [](S s, Packet *p) { return read_number(s, 255, &p->tcp_flags); }},
        {"type", [](S s, Packet *p) { return read_number(s, 255, &p->type); }},
        {"code", [](S s, Packet *p) { return read_number(s, 255, &p->code); }},
    };
    return all;
}

// -- Octets -----------------------------------------------------------------

void put16(uint16_t value, Octets *to) {
    to->push_back(static_cast<uint8_t>(value >> 8));
    to->push_back(static_cast<uint8_t>(value));
}

void put(std::span<const uint8_t> bytes, Octets *to) {
    to->insert(to->end(), bytes.begin(), bytes.end());
}

void set16(uint16_t value, size_t at, Octets *in) {
    (*in)[at] = static_cast<uint8_t>(value >> 8);
    (*in)[at + 1] = static_cast<uint8_t>(value);
}

uint16_t checksum(const Octets &bytes) {
    uint32_t sum = 0;
    for (size_t i = 0; i < bytes.size(); i++) {
        sum += uint32_t{bytes[i]} << (i % 2 ? 0 : 8);
    }
    while (sum >> 16) {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return static_cast<uint16_t>(~sum);
}

std::span<const uint8_t> address(const Packet &p,
                                 const std::array<uint8_t, 16> &ip) {
    return {ip.data(), p.family == AF_INET6 ? size_t{16} : size_t{4}};
}

// What is behind the IP header.  SCTP and others are passed on or executed
// whatever they carry.
Octets transport(const Packet &p) {
    Octets t;
    size_t sum_at = 0;
    const bool has_ports = p.proto == IPPROTO_TCP || p.proto == IPPROTO_UDP
                        || p.proto == IPPROTO_SCTP;
    if (has_ports) {
        put16(p.src_port, &t);
        put16(p.dst_port, &t);
    }
    switch (p.proto) {
        case IPPROTO_TCP:
            put(std::array<uint8_t, 16>{0, 0, 0, 1, 0, 0, 0, 1, 0x50,
                                        p.tcp_flags, 0x20},
                &t);
            sum_at = kTcpSum;
            break;
        case IPPROTO_UDP:
            put16(8 + kPayload, &t);
            put16(0, &t);
            sum_at = kUdpSum;
            break;
        case IPPROTO_ICMP:
        case IPPROTO_ICMPV6:
            put(std::array<uint8_t, 8>{p.type, p.code}, &t);
            sum_at = kIcmpSum;
            break;
    }
    t.resize(t.size() + kPayload);
    if (!sum_at) {
        return t;
    }
    Octets summed;
    if (p.proto != IPPROTO_ICMP) {
        put(address(p, p.src_ip), &summed);
        put(address(p, p.dst_ip), &summed);
        put16(p.proto, &summed);
        put16(static_cast<uint16_t>(t.size()), &summed);
    }
    put(t, &summed);
    set16(checksum(summed), sum_at, &t);
    return t;
}

Octets network(const Packet &p) {
    const Octets t = transport(p);
    const auto length = static_cast<uint16_t>(t.size());
    Octets n;
    if (p.family == AF_INET6) {
        put16(static_cast<uint16_t>(0x6000 | p.tos << 4), &n);
        put16(0, &n);
        put16(length, &n);
        put(std::array<uint8_t, 2>{p.proto, p.ttl}, &n);
    } else {
        put(std::array<uint8_t, 2>{0x45, p.tos}, &n);
        put16(static_cast<uint16_t>(20 + length), &n);
        put(std::array<uint8_t, 8>{0, 1, 0, 0, p.ttl, p.proto}, &n);
    }
    put(address(p, p.src_ip), &n);
    put(address(p, p.dst_ip), &n);
    if (p.family != AF_INET6) {
        set16(checksum(n), kIpSum, &n);
    }
    put(t, &n);
    return n;
}

Octets frame(const Packet &p) {
    Octets f;
    put(p.dst_mac.ether_addr_octet, &f);
    put(p.src_mac.ether_addr_octet, &f);
    if (p.vlan_id || p.vlan_prio) {
        put16(ETHERTYPE_VLAN, &f);
        put16(static_cast<uint16_t>(p.vlan_prio.value_or(0) << 13
                                    | p.vlan_id.value_or(0)),
              &f);
    }
    put16(p.family == AF_INET6 ? ETHERTYPE_IPV6 : ETHERTYPE_IP, &f);
    put(network(p), &f);
    f.resize(std::max(f.size(), kMinFrame));
    return f;
}

void set_missing(Packet *p) {
    p->family = p->family ? p->family : AF_INET;
    const bool is_v6 = p->family == AF_INET6;
    if (!p->has_src) {
        inet_pton(p->family, is_v6 ? "fc00::1" : "10.0.0.1", p->src_ip.data());
    }
    if (!p->has_dst) {
        inet_pton(p->family, is_v6 ? "fc00::2" : "10.0.0.2", p->dst_ip.data());
    }
}

}  // namespace

Failure compose(std::span<const std::string> words, std::string *hex) {
    Packet p;
    for (size_t i = 0; i < words.size(); i += 2) {
        const auto setter = setters().find(words[i]);
        if (setter == setters().end()) {
            std::string known;
            for (const auto &[name, fn] : setters()) {
                known += (known.empty() ? "" : ", ") + std::string(name);
            }
            return {EINVAL, words[i] + ": not one of " + known};
        }
        if (i + 1 == words.size()) {
            return {EINVAL, words[i] + ": no value"};
        }
        if (!setter->second(words[i + 1], &p)) {
            return {EINVAL, words[i] + " " + words[i + 1]
                                + ": not a value of that, or the addresses "
                                  "are of two kinds"};
        }
    }
    set_missing(&p);
    const Octets octets = frame(p);
    *hex = flowxlate::to_hex(std::as_bytes(std::span(octets)));
    return {};
}

}  // namespace flowerd
