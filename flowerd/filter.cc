// SPDX-License-Identifier: Apache-2.0
#include "flowerd/filter.h"

#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <optional>
#include <tuple>

#include "flowerd/action.h"

namespace flowerd {
namespace {

using flowxlate::AttrReader;
using flowxlate::malformed;
using flowxlate::read_exactly;

constexpr uint8_t kSctp = 132, kIcmpv6 = 58;
constexpr uint32_t kKnownFragments =
    TCA_FLOWER_KEY_FLAGS_IS_FRAGMENT | TCA_FLOWER_KEY_FLAGS_FRAG_IS_FIRST;
constexpr uint16_t kKnownStates =
    TCA_FLOWER_KEY_CT_FLAGS_NEW | TCA_FLOWER_KEY_CT_FLAGS_ESTABLISHED
    | TCA_FLOWER_KEY_CT_FLAGS_RELATED | TCA_FLOWER_KEY_CT_FLAGS_TRACKED
    | TCA_FLOWER_KEY_CT_FLAGS_INVALID | TCA_FLOWER_KEY_CT_FLAGS_REPLY;
constexpr uint32_t kKnownFlags = TCA_CLS_FLAGS_SKIP_HW | TCA_CLS_FLAGS_SKIP_SW
                               | TCA_CLS_FLAGS_IN_HW | TCA_CLS_FLAGS_NOT_IN_HW
                               | TCA_CLS_FLAGS_VERBOSE;

// -- Keys -------------------------------------------------------------------

// What else a filter must match for flower to compare a field.
enum class Needs {
    kNothing,
    kVlan,
    kTwoVlans,
    kArp,
    kIp,
    kIpv4,
    kIpv6,
    kTcp,
    kUdp,
    kSctp,
    kIcmp,
    kIcmpv6
};

bool is_tag(__be16 type) {
    return type == htons(ETH_P_8021Q) || type == htons(ETH_P_8021AD);
}

bool fulfils(const Match &m, Needs needs) {
    const uint16_t type = ntohs(m.key.eth_type);
    const uint8_t proto = m.key.ip_proto;
    const bool v4 = type == ETH_P_IP, v6 = type == ETH_P_IPV6, ip = v4 || v6;
    switch (needs) {
        case Needs::kNothing:
            return true;
        case Needs::kVlan:
            return is_tag(m.key.protocol);
        case Needs::kTwoVlans:
            return is_tag(m.key.protocol) && is_tag(m.key.vlan_eth_type);
        case Needs::kArp:
            return type == ETH_P_ARP;
        case Needs::kIp:
            return ip;
        case Needs::kIpv4:
            return v4;
        case Needs::kIpv6:
            return v6;
        case Needs::kTcp:
            return ip && proto == IPPROTO_TCP;
        case Needs::kUdp:
            return ip && proto == IPPROTO_UDP;
        case Needs::kSctp:
            return ip && proto == kSctp;
        case Needs::kIcmp:
            return v4 && proto == IPPROTO_ICMP;
        case Needs::kIcmpv6:
            return v6 && proto == kIcmpv6;
    }
    return false;
}

struct Key {
    uint16_t attr, mask_attr;  // The latter 0: all bits are compared.
    uint16_t at, size;         // In Fields.
    Needs needs;
    uint16_t exact_bits = 0xffff;  // Of a field that has fewer.
};

#define IN_FIELDS(MEMBER)                            \
    static_cast<uint16_t>(offsetof(Fields, MEMBER)), \
        static_cast<uint16_t>(sizeof(Fields::MEMBER))
#define WITH_MASK(NAME) TCA_FLOWER_KEY_##NAME, TCA_FLOWER_KEY_##NAME##_MASK
#define EXACTLY(NAME) TCA_FLOWER_KEY_##NAME, 0

// In the order in which one may need another.
// clang-format off
constexpr Key kKeys[] = {
    {WITH_MASK(ETH_DST), IN_FIELDS(eth_dst), Needs::kNothing},
    {WITH_MASK(ETH_SRC), IN_FIELDS(eth_src), Needs::kNothing},
    {EXACTLY(ETH_TYPE), IN_FIELDS(eth_type), Needs::kNothing},
    {EXACTLY(VLAN_ID), IN_FIELDS(vlan_id), Needs::kVlan, 0xfff},
    {EXACTLY(VLAN_PRIO), IN_FIELDS(vlan_prio), Needs::kVlan, 7},
    {EXACTLY(NUM_OF_VLANS), IN_FIELDS(n_tags), Needs::kNothing},
    {EXACTLY(VLAN_ETH_TYPE), IN_FIELDS(vlan_eth_type), Needs::kVlan},
    {EXACTLY(CVLAN_ID), IN_FIELDS(cvlan_id), Needs::kTwoVlans, 0xfff},
    {EXACTLY(CVLAN_PRIO), IN_FIELDS(cvlan_prio), Needs::kTwoVlans, 7},
    {EXACTLY(CVLAN_ETH_TYPE), IN_FIELDS(cvlan_eth_type), Needs::kTwoVlans},
    {EXACTLY(IP_PROTO), IN_FIELDS(ip_proto), Needs::kIp},
    {WITH_MASK(IP_TOS), IN_FIELDS(ip_tos), Needs::kIp},
    {WITH_MASK(IP_TTL), IN_FIELDS(ip_ttl), Needs::kIp},
    {WITH_MASK(IPV4_SRC), IN_FIELDS(ipv4_src), Needs::kIpv4},
    {WITH_MASK(IPV4_DST), IN_FIELDS(ipv4_dst), Needs::kIpv4},
    {WITH_MASK(IPV6_SRC), IN_FIELDS(src), Needs::kIpv6},
    {WITH_MASK(IPV6_DST), IN_FIELDS(dst), Needs::kIpv6},
    {WITH_MASK(TCP_SRC), IN_FIELDS(tp_src), Needs::kTcp},
    {WITH_MASK(TCP_DST), IN_FIELDS(tp_dst), Needs::kTcp},
    {WITH_MASK(TCP_FLAGS), IN_FIELDS(tcp_flags), Needs::kTcp},
    {WITH_MASK(UDP_SRC), IN_FIELDS(tp_src), Needs::kUdp},
    {WITH_MASK(UDP_DST), IN_FIELDS(tp_dst), Needs::kUdp},
    {WITH_MASK(SCTP_SRC), IN_FIELDS(tp_src), Needs::kSctp},
    {WITH_MASK(SCTP_DST), IN_FIELDS(tp_dst), Needs::kSctp},
    {WITH_MASK(ICMPV4_TYPE), IN_FIELDS(icmp_type), Needs::kIcmp},
    {WITH_MASK(ICMPV4_CODE), IN_FIELDS(icmp_code), Needs::kIcmp},
    {WITH_MASK(ICMPV6_TYPE), IN_FIELDS(icmp_type), Needs::kIcmpv6},
    {WITH_MASK(ICMPV6_CODE), IN_FIELDS(icmp_code), Needs::kIcmpv6},
    {WITH_MASK(ARP_SIP), IN_FIELDS(arp_sip), Needs::kArp},
    {WITH_MASK(ARP_TIP), IN_FIELDS(arp_tip), Needs::kArp},
    {WITH_MASK(ARP_OP), IN_FIELDS(arp_op), Needs::kArp},
    {WITH_MASK(ARP_SHA), IN_FIELDS(arp_sha), Needs::kArp},
    {WITH_MASK(ARP_THA), IN_FIELDS(arp_tha), Needs::kArp},
    {WITH_MASK(FLAGS), IN_FIELDS(flags), Needs::kNothing},
    {WITH_MASK(CT_STATE), IN_FIELDS(ct_state), Needs::kNothing},
    {WITH_MASK(CT_ZONE), IN_FIELDS(ct_zone), Needs::kNothing},
    {WITH_MASK(CT_MARK), IN_FIELDS(ct_mark), Needs::kNothing},
    {WITH_MASK(CT_LABELS), IN_FIELDS(ct_labels), Needs::kNothing},
};
// clang-format on

// What is compared and not known here, by ranges of attributes.
struct Unknown {
    uint16_t first, last;
    const char *name;
};
constexpr Unknown kUnknown[] = {
    {TCA_FLOWER_INDEV, TCA_FLOWER_INDEV, "indev"},
    {TCA_FLOWER_KEY_ENC_KEY_ID, TCA_FLOWER_KEY_ENC_IPV6_DST_MASK, "tunnel"},
    {TCA_FLOWER_KEY_ENC_UDP_SRC_PORT, TCA_FLOWER_KEY_ENC_UDP_DST_PORT_MASK,
     "tunnel"},
    {TCA_FLOWER_KEY_MPLS_TTL, TCA_FLOWER_KEY_MPLS_LABEL, "mpls"},
    {TCA_FLOWER_KEY_ENC_IP_TOS, TCA_FLOWER_KEY_ENC_OPTS_MASK, "tunnel"},
    {TCA_FLOWER_KEY_MPLS_OPTS, TCA_FLOWER_KEY_MPLS_OPTS, "mpls"},
    {TCA_FLOWER_KEY_HASH, TCA_FLOWER_KEY_HASH_MASK, "hash"},
};

using Attrs = std::array<std::optional<Bytes>, TCA_FLOWER_MAX + 1>;

bool is_no_key(uint16_t type) {
    return type == TCA_FLOWER_CLASSID || type == TCA_FLOWER_ACT
        || type == TCA_FLOWER_FLAGS || type == TCA_FLOWER_IN_HW_COUNT;
}

bool is_of_range(uint16_t type) {
    return type >= TCA_FLOWER_KEY_PORT_SRC_MIN
        && type <= TCA_FLOWER_KEY_PORT_DST_MAX;
}

bool is_known(uint16_t type) {
    return is_no_key(type) || is_of_range(type)
        || std::ranges::any_of(kKeys, [=](const Key &k) {
               return type == k.attr || type == k.mask_attr;
           });
}

Reject unknown_key(uint16_t type) {
    const auto u = std::ranges::find_if(kUnknown, [=](const Unknown &range) {
        return range.first <= type && type <= range.last;
    });
    return unsupported("key", u == std::end(kUnknown) ? "unknown" : u->name);
}

Reject read_attrs(Bytes options, Attrs *attrs) {
    AttrReader reader(options);
    while (auto a = reader.next()) {
        if (a->type > TCA_FLOWER_MAX || !is_known(a->type)) {
            return unknown_key(a->type);
        }
        (*attrs)[a->type] = a->payload;
    }
    return reader.malformed() ? malformed("options") : Reject{};
}

// Stores the key, whose attribute is there.
Reject read_key(const Key &k, const Attrs &attrs, Match *m) {
    const auto &mask = attrs[k.mask_attr];
    auto *key_to = reinterpret_cast<std::byte *>(&m->key) + k.at;
    auto *mask_to = reinterpret_cast<std::byte *>(&m->mask) + k.at;
    if (!fulfils(*m, k.needs)) {
        return unsupported("key", "without_protocol");
    }
    if (attrs[k.attr]->size() != k.size || (mask && mask->size() != k.size)) {
        return malformed("key");
    }
    std::memcpy(key_to, attrs[k.attr]->data(), k.size);
    if (mask) {
        std::memcpy(mask_to, mask->data(), k.size);
    } else if (k.exact_bits == 0xffff) {
        std::memset(mask_to, 0xff, k.size);
    } else {
        std::memcpy(mask_to, &k.exact_bits, k.size);  // In host order.
    }
    return {};
}

// Stores the range of which these tell, if they are there.
Reject read_range(const Attrs &attrs, uint16_t first, uint16_t last,
                  uint8_t which, Match *m) {
    if (!attrs[first] && !attrs[last]) {
        return {};
    }
    __be16 from, to;
    if (!attrs[first] || !attrs[last] || !read_exactly(*attrs[first], &from)
        || !read_exactly(*attrs[last], &to) || ntohs(to) < ntohs(from)) {
        return malformed("key");
    }
    auto &ports = which == kSourceRange ? m->src_ports : m->dst_ports;
    ports.first = ntohs(from);
    ports.last = ntohs(to);
    m->mask.ranges |= which;
    return {};
}

// Of a filter with a range and another port, kernels before 2025 find only one
// of them in packets.
Reject read_ranges(const Attrs &attrs, Match *m) {
    if (auto r = read_range(attrs, TCA_FLOWER_KEY_PORT_SRC_MIN,
                            TCA_FLOWER_KEY_PORT_SRC_MAX, kSourceRange, m)) {
        return r;
    }
    if (auto r =
            read_range(attrs, TCA_FLOWER_KEY_PORT_DST_MIN,
                       TCA_FLOWER_KEY_PORT_DST_MAX, kDestinationRange, m)) {
        return r;
    }
    if (!m->mask.ranges) {
        return {};
    }
    if (m->mask.tp_src || m->mask.tp_dst) {
        return unsupported("key", "port_range");
    }
    return fulfils(*m, Needs::kTcp) || fulfils(*m, Needs::kUdp)
                || fulfils(*m, Needs::kSctp)
             ? Reject{}
             : unsupported("key", "without_protocol");
}

Reject read_keys(const Attrs &attrs, Match *m) {
    for (const Key &k : kKeys) {
        if (attrs[k.attr]) {
            if (auto r = read_key(k, attrs, m)) {
                return r;
            }
        } else if (k.mask_attr && attrs[k.mask_attr]) {
            return malformed("key");
        }
    }
    if (m->mask.flags & ~htonl(kKnownFragments)) {
        return unsupported("key", "flags");
    }
    if (m->mask.ct_state & ~kKnownStates) {
        return unsupported("key", "ct_state");
    }
    m->key = m->key & m->mask;
    return read_ranges(attrs, m);
}

// -- Filters ----------------------------------------------------------------

Reject read_flags(const Attrs &attrs, Filter *f) {
    uint32_t flags = 0;
    if (attrs[TCA_FLOWER_FLAGS]
        && !read_exactly(*attrs[TCA_FLOWER_FLAGS], &flags)) {
        return malformed("flags");
    }
    f->in_software = !(flags & TCA_CLS_FLAGS_SKIP_SW);
    return flags & ~kKnownFlags ? unsupported("flags", "unknown")
         : !f->in_software      ? unsupported("flags", "skip_sw")
                                : Reject{};
}

// Only TC knows what it matches.
void make_opaque(const Reject &why, Filter *f) {
    Match any;
    any.key.protocol = f->match.key.protocol;
    any.mask.protocol = f->match.mask.protocol;
    any.key.chain = f->match.key.chain;
    any.mask.chain = f->match.mask.chain;
    f->match = any;
    f->is_opaque = true;
    f->in_software = true;
    f->why_not = why;
}

void read_flower(Bytes options, Filter *f) {
    Attrs attrs;
    Reject why = read_attrs(options, &attrs);
    if (!why) {
        why = read_keys(attrs, &f->match);
    }
    if (why) {
        make_opaque(why, f);
        return;
    }
    f->why_not = read_flags(attrs, f);
    if (f->why_not && f->in_software) {
        make_opaque(f->why_not, f);
        return;
    }
    const auto actions = attrs[TCA_FLOWER_ACT].value_or(Bytes{});
    if (auto r = decode_actions(actions, &f->actions); r && !f->why_not) {
        f->why_not = r;
    }
}

void set_protocol(__be16 protocol, Match *m) {
    const bool any = protocol == htons(ETH_P_ALL);
    m->key.protocol = any ? 0 : protocol;
    m->mask.protocol = any ? 0 : 0xffff;
}

Reject read_header(Bytes message, Filter *f, Bytes *attrs) {
    nlmsghdr nlh;
    tcmsg tcm;
    constexpr size_t kHeaders = NLMSG_HDRLEN + NLMSG_ALIGN(sizeof tcm);
    if (message.size() < kHeaders) {
        return malformed("message");
    }
    std::memcpy(&nlh, message.data(), sizeof nlh);
    if (nlh.nlmsg_len < kHeaders || nlh.nlmsg_len > message.size()) {
        return malformed("message");
    }
    std::memcpy(&tcm, message.data() + NLMSG_HDRLEN, sizeof tcm);
    f->is_shared =
        tcm.tcm_ifindex == static_cast<int>(TCM_IFINDEX_MAGIC_BLOCK);
    f->ifindex = f->is_shared ? Ifindex{} : Ifindex{tcm.tcm_ifindex};
    f->parent = f->is_shared ? 0 : tcm.tcm_parent;
    f->id.preference = TC_H_MAJ(tcm.tcm_info) >> 16;
    f->id.handle = tcm.tcm_handle;
    set_protocol(static_cast<__be16>(TC_H_MIN(tcm.tcm_info)), &f->match);
    *attrs = message.subspan(kHeaders, nlh.nlmsg_len - kHeaders);
    return {};
}

}  // namespace

Reject decode_filter(Bytes message, Filter *f) {
    Bytes attrs;
    *f = {};
    if (auto r = read_header(message, f, &attrs)) {
        return r;
    }
    Bytes options;
    AttrReader reader(attrs);
    while (auto a = reader.next()) {
        if (a->type == TCA_KIND) {
            f->kind = text(a->payload);
        } else if (a->type == TCA_OPTIONS) {
            options = a->payload;
            f->has_options = true;
        } else if (a->type == TCA_CHAIN
                   && !read_exactly(a->payload, &f->id.chain)) {
            return malformed("chain");
        }
    }
    if (reader.malformed() || f->kind.empty()) {
        return malformed("message");
    }
    f->match.key.chain = f->id.chain;
    f->match.mask.chain = UINT32_MAX;
    if (f->kind != "flower") {
        make_opaque(unsupported("kind", "not_flower"), f);
    } else if (f->has_options) {
        read_flower(options, f);
    }
    return {};
}

bool Filter::operator==(const Filter &other) const {
    auto all = [](const Filter &f) {
        return std::tie(f.ifindex, f.parent, f.id, f.kind, f.is_shared,
                        f.has_options, f.in_software, f.is_opaque, f.match,
                        f.actions);
    };
    return all(*this) == all(other)
        && (why_not ? why_not.name() : "")
               == (other.why_not ? other.why_not.name() : "");
}

std::string_view text(Bytes payload) {
    const auto *s = reinterpret_cast<const char *>(payload.data());
    return {s, strnlen(s, payload.size())};
}

std::string to_string(const FilterId &id) {
    char text[60];
    std::snprintf(text, sizeof text, "pref %u handle 0x%x", id.preference,
                  id.handle);
    return (id.chain ? "chain " + std::to_string(id.chain) + " " : "") + text;
}

}  // namespace flowerd
