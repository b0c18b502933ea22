// SPDX-License-Identifier: Apache-2.0
#include "flowerd/edits.h"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/openvswitch.h>
#include <linux/tc_act/tc_csum.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstring>
#include <iterator>

namespace flowerd {
namespace {

constexpr uint8_t kSctp = 132, kIcmpv6 = 58, kUdplite = 136;
constexpr uint32_t kIpHeader = TCA_CSUM_UPDATE_FLAG_IPV4HDR;
// Those that the library lets follow.
constexpr uint32_t kFollowed = kIpHeader | TCA_CSUM_UPDATE_FLAG_ICMP
                             | TCA_CSUM_UPDATE_FLAG_TCP
                             | TCA_CSUM_UPDATE_FLAG_UDP;
constexpr int32_t kIpv4Len = 20, kIpv6Len = 40;  // XDP takes no options.

// What is in which checksum.
enum Covered : unsigned {
    kInNone = 1,
    kInHeader = 2,  // IPv4's.
    kInBoth = 4,    // That, and TCP's, UDP's and ICMPv6's: addresses.
    kInTransport = 8
};
constexpr unsigned kAnything = kInNone | kInHeader | kInBoth | kInTransport;

Reject unsupported_action(const char *what) {
    return unsupported("action", what);
}

// Csum's flag of a protocol, 0 = none.
uint32_t sum_of(uint8_t proto, bool is_ipv4) {
    switch (proto) {
        case IPPROTO_TCP:
            return TCA_CSUM_UPDATE_FLAG_TCP;
        case IPPROTO_UDP:
            return TCA_CSUM_UPDATE_FLAG_UDP;
        case kUdplite:
            return TCA_CSUM_UPDATE_FLAG_UDPLITE;
        case kSctp:
            return TCA_CSUM_UPDATE_FLAG_SCTP;
        case IPPROTO_ICMP:
            return is_ipv4 ? TCA_CSUM_UPDATE_FLAG_ICMP : 0;
        case IPPROTO_IGMP:
            return is_ipv4 ? TCA_CSUM_UPDATE_FLAG_IGMP : 0;
        case kIcmpv6:
            return is_ipv4 ? 0 : TCA_CSUM_UPDATE_FLAG_ICMP;
        default:
            return 0;
    }
}

}  // namespace

struct Edits::Field {
    Header header;
    uint16_t type;  // Ethernet's; 0: any.
    int32_t offset;
    size_t size;
    uint16_t attr;  // Where OVS has it.
    size_t attr_size, attr_at;
    size_t at;  // In Fields; kNotThere: it has none.
    unsigned covered;

    static constexpr size_t kNotThere = SIZE_MAX;
};

#define IN_ATTR(ATTR, STRUCT, MEMBER) \
    OVS_KEY_ATTR_##ATTR, sizeof(STRUCT), offsetof(STRUCT, MEMBER)
#define IN_FIELDS(MEMBER) offsetof(Fields, MEMBER)

// clang-format off
constexpr Edits::Field Edits::kFields[] = {
    {Header::kEthernet, 0, 0, 6, IN_ATTR(ETHERNET, ovs_key_ethernet, eth_dst),
     IN_FIELDS(eth_dst), kInNone},
    {Header::kEthernet, 0, 6, 6, IN_ATTR(ETHERNET, ovs_key_ethernet, eth_src),
     IN_FIELDS(eth_src), kInNone},
    {Header::kNetwork, ETH_P_IP, 1, 1, IN_ATTR(IPV4, ovs_key_ipv4, ipv4_tos),
     IN_FIELDS(ip_tos), kInHeader},
    {Header::kNetwork, ETH_P_IP, 8, 1, IN_ATTR(IPV4, ovs_key_ipv4, ipv4_ttl),
     IN_FIELDS(ip_ttl), kInHeader},
    {Header::kNetwork, ETH_P_IP, 12, 4, IN_ATTR(IPV4, ovs_key_ipv4, ipv4_src),
     IN_FIELDS(ipv4_src), kInBoth},
    {Header::kNetwork, ETH_P_IP, 16, 4, IN_ATTR(IPV4, ovs_key_ipv4, ipv4_dst),
     IN_FIELDS(ipv4_dst), kInBoth},
    {Header::kNetwork, ETH_P_IPV6, 7, 1,
     IN_ATTR(IPV6, ovs_key_ipv6, ipv6_hlimit), IN_FIELDS(ip_ttl), kInNone},
    {Header::kNetwork, ETH_P_IPV6, 8, 16,
     IN_ATTR(IPV6, ovs_key_ipv6, ipv6_src), IN_FIELDS(src), kInBoth},
    {Header::kNetwork, ETH_P_IPV6, 24, 16,
     IN_ATTR(IPV6, ovs_key_ipv6, ipv6_dst), IN_FIELDS(dst), kInBoth},
    {Header::kTcp, 0, 0, 2, IN_ATTR(TCP, ovs_key_tcp, tcp_src),
     IN_FIELDS(tp_src), kInTransport},
    {Header::kTcp, 0, 2, 2, IN_ATTR(TCP, ovs_key_tcp, tcp_dst),
     IN_FIELDS(tp_dst), kInTransport},
    {Header::kUdp, 0, 0, 2, IN_ATTR(UDP, ovs_key_udp, udp_src),
     IN_FIELDS(tp_src), kInTransport},
    {Header::kUdp, 0, 2, 2, IN_ATTR(UDP, ovs_key_udp, udp_dst),
     IN_FIELDS(tp_dst), kInTransport},
};
// These two are no whole bytes of the header.
constexpr Edits::Field Edits::kTrafficClass = {
    Header::kNetwork, ETH_P_IPV6, 0, 1,
    IN_ATTR(IPV6, ovs_key_ipv6, ipv6_tclass), IN_FIELDS(ip_tos), kInNone};
constexpr Edits::Field Edits::kFlowLabel = {
    Header::kNetwork, ETH_P_IPV6, 0, 4,
    IN_ATTR(IPV6, ovs_key_ipv6, ipv6_label), Field::kNotThere, kInNone};
// clang-format on

bool Edits::is_ipv4() const { return match_.key.eth_type == htons(ETH_P_IP); }

bool Edits::is_ip() const {
    return is_ipv4() || match_.key.eth_type == htons(ETH_P_IPV6);
}

// Ports are found from IP's header on, too.  From TCP's or UDP's they are TC's
// if the packet may be of the other protocol.
const Edits::Field *Edits::find(Header header, int64_t at) const {
    const uint8_t proto =
        match_.mask.ip_proto == 0xff ? match_.key.ip_proto : 0;
    const bool is_tcp = proto == IPPROTO_TCP, is_udp = proto == IPPROTO_UDP;
    const int32_t ip_len = is_ipv4() ? kIpv4Len : kIpv6Len;
    if (header == Header::kNetwork && at >= ip_len && (is_tcp || is_udp)) {
        header = is_tcp ? Header::kTcp : Header::kUdp;
        at -= ip_len;
    }
    if ((header == Header::kTcp && !is_tcp)
        || (header == Header::kUdp && !is_udp)) {
        return nullptr;
    }
    const auto f = std::ranges::find_if(kFields, [&](const Field &field) {
        return field.header == header && field.offset <= at
            && at < field.offset + static_cast<int64_t>(field.size)
            && (!field.type || match_.key.eth_type == htons(field.type));
    });
    return f == std::end(kFields) ? nullptr : f;
}

void Edits::write_byte(const Field &f, size_t i, uint8_t value, uint8_t mask) {
    Set &set = sets_[f.attr];
    set.value.resize(f.attr_size);
    set.mask.resize(f.attr_size);
    const std::byte v{value}, m{mask};
    auto &to = set.value[f.attr_at + i];
    to = (to & ~m) | (v & m);
    set.mask[f.attr_at + i] |= m;
    summed_ &= f.covered == kInHeader    ? ~kIpHeader
             : f.covered == kInBoth      ? 0
             : f.covered == kInTransport ? kIpHeader
                                         : ~0U;
}

// What a byte is that all packets have the same.
uint8_t Edits::value_of(const Field &f, size_t i) const {
    const auto set = sets_.find(f.attr);
    if (set != sets_.end()
        && set->second.mask[f.attr_at + i] == std::byte{0xff}) {
        return static_cast<uint8_t>(set->second.value[f.attr_at + i]);
    }
    return reinterpret_cast<const uint8_t *>(&match_.key)[f.at + i];
}

// The version, the traffic class and the label.
bool Edits::write_ipv6_word(const Action &a) {
    uint32_t value, mask;
    std::memcpy(&value, a.value.data(), sizeof value);
    std::memcpy(&mask, a.mask.data(), sizeof mask);
    value = ntohl(value);
    mask = ntohl(mask);
    if (mask >> 28) {
        return false;
    }
    if (mask >> 20) {
        write_byte(kTrafficClass, 0, value >> 20 & 0xff, mask >> 20 & 0xff);
    }
    for (size_t i = 1; i < a.mask.size() && (mask & 0xfffff); i++) {
        const uint8_t bits = i == 1 ? 0xf : 0xff;
        write_byte(kFlowLabel, i, a.value[i] & bits, a.mask[i] & bits);
    }
    return true;
}

// A TTL is counted down, which all packets have the same.
Reject Edits::add(const Action &a) {
    const auto is_written = [](uint8_t m) { return m != 0; };
    const auto first = std::ranges::find_if(a.mask, is_written);
    const auto i = first - a.mask.begin();
    const Field *f = first == a.mask.end()
                       ? nullptr
                       : find(a.header, int64_t{a.offset} + i);
    if (!f || f->at != offsetof(Fields, ip_ttl) || *first != 0xff
        || std::ranges::count_if(a.mask, is_written) != 1
        || match_.mask.ip_ttl != 0xff) {
        return unsupported_action("pedit_add");
    }
    write_byte(*f, 0, value_of(*f, 0) + a.value[i], 0xff);
    return {};
}

Reject Edits::write(const Action &a) {
    if (a.kind == Action::kAddBytes) {
        return add(a);
    }
    if (a.header == Header::kNetwork && a.offset == 0 && is_ip()
        && !is_ipv4()) {
        return write_ipv6_word(a) ? Reject{}
                                  : unsupported_action("pedit_field");
    }
    for (size_t i = 0; i < a.mask.size(); i++) {
        const int64_t at = int64_t{a.offset} + static_cast<int64_t>(i);
        const Field *f = a.mask[i] ? find(a.header, at) : nullptr;
        if (a.mask[i] && !f) {
            return unsupported_action("pedit_field");
        }
        if (f) {
            const bool in_network = a.header == Header::kNetwork;
            const bool is_port = f->header != Header::kNetwork;
            const int32_t begin =
                in_network && is_port ? (is_ipv4() ? kIpv4Len : kIpv6Len) : 0;
            write_byte(*f, at - begin - f->offset, a.value[i], a.mask[i]);
        }
    }
    return {};
}

// Does a packet have other bits then than the match says?
bool Edits::changes(const Field &f) const {
    const auto set = sets_.find(f.attr);
    if (set == sets_.end()) {
        return false;
    }
    for (size_t i = 0; i < f.size; i++) {
        const auto mask =
            static_cast<uint8_t>(set->second.mask[f.attr_at + i]);
        const auto value =
            static_cast<uint8_t>(set->second.value[f.attr_at + i]);
        uint8_t known = 0, is = 0;
        if (f.at != Field::kNotThere) {
            known = reinterpret_cast<const uint8_t *>(&match_.mask)[f.at + i];
            is = reinterpret_cast<const uint8_t *>(&match_.key)[f.at + i];
        }
        if (mask & (~known | (value ^ is))) {
            return true;
        }
    }
    return false;
}

bool Edits::changes(unsigned what) const {
    auto is_changed = [&](const Field &f) {
        return (f.covered & what) && changes(f);
    };
    return std::ranges::any_of(kFields, is_changed)
        || is_changed(kTrafficClass) || is_changed(kFlowLabel);
}

uint32_t Edits::possible_sums() const {
    if (!is_ip()) {
        return 0;
    }
    const uint32_t all =
        is_ipv4() ? ~0U : ~kIpHeader & ~TCA_CSUM_UPDATE_FLAG_IGMP;
    return match_.mask.ip_proto != 0xff
             ? all
             : all & (kIpHeader | sum_of(match_.key.ip_proto, is_ipv4()));
}

// ICMP's sum is without addresses, but ICMPv6's is with them.
uint32_t Edits::wanted_sums() const {
    uint32_t wanted = changes(kInHeader | kInBoth) ? kIpHeader : 0;
    if (changes(kInBoth | kInTransport)) {
        wanted |= TCA_CSUM_UPDATE_FLAG_TCP | TCA_CSUM_UPDATE_FLAG_UDP
                | (is_ipv4() ? 0 : TCA_CSUM_UPDATE_FLAG_ICMP);
    }
    return wanted & possible_sums();
}

Reject Edits::sum(const Action &a) {
    const uint32_t sums = a.sums & possible_sums();
    const bool is_needless =
        ((sums & kIpHeader) && !changes(kAnything))
        || ((sums & ~kIpHeader) && !changes(kInBoth | kInTransport));
    if ((sums & ~kFollowed) || is_needless) {
        return unsupported_action("csum");
    }
    summed_ |= sums;
    return {};
}

Reject Edits::finish() const {
    const bool is_udplite =
        match_.mask.ip_proto == 0xff && match_.key.ip_proto == kUdplite;
    return (wanted_sums() & ~summed_) || (is_udplite && changes(kInBoth))
             ? unsupported_action("pedit_without_csum")
             : Reject{};
}

bool Edits::needs_whole() const {
    return changes(kInBoth | kInTransport) || (summed_ & ~kIpHeader);
}

}  // namespace flowerd
