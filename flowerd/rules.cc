// SPDX-License-Identifier: Apache-2.0
#include "flowerd/rules.h"

#include <linux/if_arp.h>
#include <linux/if_ether.h>
#include <linux/openvswitch.h>
#include <linux/pkt_cls.h>
#include <netinet/in.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <span>

#include "flowerd/edits.h"

namespace flowerd {
namespace {

constexpr uint8_t kSctp = 132, kIcmpv6 = 58;
constexpr uint16_t kTagPresent = 0x1000;  // OVS's bit of a TCI.
constexpr unsigned kPrioShift = 13;
constexpr uint8_t kAllPrios = 7;

// A list of netlink attributes.
class Attributes {
public:
    explicit Attributes(std::vector<std::byte> *to) : to_(*to) {}

    template <typename T>
    void put(uint16_t type, const T &value) {
        const size_t at = begin(type);
        append(&value, sizeof value);
        end(at);
    }
    void put_bytes(uint16_t type, std::span<const std::byte> bytes) {
        const size_t at = begin(type);
        append(bytes.data(), bytes.size());
        end(at);
    }
    template <typename Fn>
    void nest(uint16_t type, Fn fill) {
        const size_t at = begin(type);
        fill();
        end(at);
    }

private:
    void append(const void *p, size_t n) {
        const auto *bytes = static_cast<const std::byte *>(p);
        to_.insert(to_.end(), bytes, bytes + n);
    }
    size_t begin(uint16_t type) {
        const size_t at = to_.size();
        const nlattr header{0, type};
        append(&header, sizeof header);
        return at;
    }
    void end(size_t at) {
        const auto len = static_cast<uint16_t>(to_.size() - at);
        std::memcpy(to_.data() + at, &len, sizeof len);
        to_.resize(NLA_ALIGN(to_.size()));
    }

    std::vector<std::byte> &to_;
};

bool is_tag(__be16 type) {
    return type == htons(ETH_P_8021Q) || type == htons(ETH_P_8021AD);
}

bool is_tagged(const Match &m) { return is_tag(m.key.protocol); }

// Does the filter compare what only whole packets, or first fragments, have?
bool needs_transport(const Fields &mask) {
    return mask.tp_src || mask.tp_dst || mask.tcp_flags || mask.icmp_type
        || mask.icmp_code;
}

// -- What is matched --------------------------------------------------------

// The types inside which flower's dissector does not look for another one.
bool is_plain_type(__be16 type) {
    return type == htons(ETH_P_IP) || type == htons(ETH_P_IPV6)
        || type == htons(ETH_P_ARP);
}

bool compares_arp(const Fields &mask) {
    const Fields none;
    return mask.arp_sip || mask.arp_tip || mask.arp_op
        || !std::ranges::equal(mask.arp_sha, none.arp_sha)
        || !std::ranges::equal(mask.arp_tha, none.arp_tha);
}

// Of other operations than these flower finds no field, and XDP does.
bool is_request_or_reply(const Match &m) {
    return m.mask.arp_op == 0xff
        && (m.key.arp_op == ARPOP_REQUEST || m.key.arp_op == ARPOP_REPLY);
}

Reject check_match(const Match &m, bool trusts_no_address) {
    if (m.mask.protocol != 0xffff || m.mask.eth_type != 0xffff) {
        return unsupported("key", "any_eth_type");
    }
    if (!is_plain_type(m.key.eth_type)) {
        return unsupported("key", "eth_type");
    }
    const bool has_inner_type = m.mask.vlan_eth_type == 0xffff;
    if (is_tagged(m) ? !has_inner_type || m.key.vlan_eth_type != m.key.eth_type
                     : m.key.protocol != m.key.eth_type) {
        return unsupported("key", "two_eth_types");
    }
    if (m.key.flags) {
        return unsupported("key", "fragments");
    }
    if (compares_arp(m.mask) && !is_request_or_reply(m)) {
        return unsupported("key", "arp");
    }
    const bool is_ip = m.key.eth_type != htons(ETH_P_ARP);
    if (is_ip && !trusts_no_address && m.mask.src == Fields().src
        && m.mask.dst == Fields().dst) {
        return unsupported("key", "no_address");
    }
    return {};
}

// One level of a key, or of a mask.
class Level {
public:
    // 'is_whole': of no fragment.
    Level(const Match &match, bool is_mask, bool is_whole,
          std::vector<std::byte> *to)
        : match_(match),
          fields_(is_mask ? match.mask : match.key),
          is_mask_(is_mask),
          is_whole_(is_whole),
          out_(to) {}

    void put() {
        const auto port = is_mask_ ? UINT32_MAX : port_;
        out_.put(OVS_KEY_ATTR_IN_PORT, port);
        out_.put(OVS_KEY_ATTR_RECIRC_ID,
                 is_mask_ ? UINT32_MAX : fields_.chain);
        ovs_key_ethernet eth;
        std::memcpy(eth.eth_src, fields_.eth_src, sizeof eth.eth_src);
        std::memcpy(eth.eth_dst, fields_.eth_dst, sizeof eth.eth_dst);
        out_.put(OVS_KEY_ATTR_ETHERNET, eth);
        if (is_tagged(match_)) {
            out_.put(OVS_KEY_ATTR_ETHERTYPE, fields_.protocol);
            out_.put(OVS_KEY_ATTR_VLAN, tci());
            out_.nest(OVS_KEY_ATTR_ENCAP, [&] { put_payload(); });
        } else {
            put_payload();
        }
    }
    void set_port(Ifindex port) { port_ = index(port); }

private:
    __be16 tci() const {
        return htons(fields_.vlan_id | fields_.vlan_prio << kPrioShift
                     | kTagPresent);
    }

    uint8_t frag() const {
        return is_mask_ && is_whole_ ? 0xff : OVS_FRAG_TYPE_NONE;
    }

    void put_payload() {
        out_.put(OVS_KEY_ATTR_ETHERTYPE, fields_.eth_type);
        if (match_.key.eth_type == htons(ETH_P_IP)) {
            put_ipv4();
        } else if (match_.key.eth_type == htons(ETH_P_IPV6)) {
            put_ipv6();
        } else if (compares_arp(match_.mask)) {
            put_arp();
        }
        if (needs_transport(match_.mask)) {
            put_transport();
        }
    }

    void put_ipv4() {
        ovs_key_ipv4 ip{};
        std::memcpy(&ip.ipv4_src, fields_.ipv4_src.data(), sizeof ip.ipv4_src);
        std::memcpy(&ip.ipv4_dst, fields_.ipv4_dst.data(), sizeof ip.ipv4_dst);
        ip.ipv4_proto = fields_.ip_proto;
        ip.ipv4_tos = fields_.ip_tos;
        ip.ipv4_ttl = fields_.ip_ttl;
        ip.ipv4_frag = frag();
        out_.put(OVS_KEY_ATTR_IPV4, ip);
    }

    void put_ipv6() {
        ovs_key_ipv6 ip{};
        std::memcpy(ip.ipv6_src, fields_.src.data(), sizeof ip.ipv6_src);
        std::memcpy(ip.ipv6_dst, fields_.dst.data(), sizeof ip.ipv6_dst);
        ip.ipv6_proto = fields_.ip_proto;
        ip.ipv6_tclass = fields_.ip_tos;
        ip.ipv6_hlimit = fields_.ip_ttl;
        ip.ipv6_frag = frag();
        out_.put(OVS_KEY_ATTR_IPV6, ip);
    }

    void put_arp() {
        ovs_key_arp arp{};
        arp.arp_sip = fields_.arp_sip;
        arp.arp_tip = fields_.arp_tip;
        arp.arp_op = is_mask_ ? 0xffff : htons(fields_.arp_op);
        std::ranges::copy(fields_.arp_sha, arp.arp_sha);
        std::ranges::copy(fields_.arp_tha, arp.arp_tha);
        out_.put(OVS_KEY_ATTR_ARP, arp);
    }

    // What 'needs_transport()' is there because the protocol is matched.
    void put_transport() {
        switch (match_.key.ip_proto) {
            case IPPROTO_TCP:
                out_.put(OVS_KEY_ATTR_TCP,
                         ovs_key_tcp{fields_.tp_src, fields_.tp_dst});
                out_.put(OVS_KEY_ATTR_TCP_FLAGS, fields_.tcp_flags);
                break;
            case IPPROTO_UDP:
                out_.put(OVS_KEY_ATTR_UDP,
                         ovs_key_udp{fields_.tp_src, fields_.tp_dst});
                break;
            case kSctp:
                out_.put(OVS_KEY_ATTR_SCTP,
                         ovs_key_sctp{fields_.tp_src, fields_.tp_dst});
                break;
            case IPPROTO_ICMP:
                out_.put(OVS_KEY_ATTR_ICMP,
                         ovs_key_icmp{fields_.icmp_type, fields_.icmp_code});
                break;
            case kIcmpv6:
                out_.put(OVS_KEY_ATTR_ICMPV6,
                         ovs_key_icmpv6{fields_.icmp_type, fields_.icmp_code});
                break;
        }
    }

    const Match &match_;
    const Fields &fields_;
    const bool is_mask_, is_whole_;
    uint32_t port_ = 0;
    Attributes out_;
};

// -- What is done -----------------------------------------------------------

// The tags that a packet has, and what is written into it, while the actions
// are walked.
class ActionWalk {
public:
    ActionWalk(const Filter &f, const Surroundings &surroundings,
               std::vector<std::byte> *to)
        : filter_(f), surroundings_(surroundings), edits_(f.match), out_(to) {
        if (is_tagged(f.match)) {
            const bool is_known = f.match.mask.vlan_prio == kAllPrios;
            prios_ = {is_known ? std::optional(f.match.key.vlan_prio)
                               : std::nullopt};
        }
    }

    Reject step(const Action &a) {
        switch (a.kind) {
            case Action::kDrop:
                return {};
            case Action::kPass:
                return unsupported("action", "pass");
            case Action::kRedirect:
            case Action::kMirror:
                return output(a.ifindex);
            case Action::kPushVlan:
                return push(a);
            case Action::kPopVlan:
                return pop();
            case Action::kModifyVlan:
                return modify(a);
            case Action::kGotoChain:
                return go_to(a.chain);
            case Action::kSetBytes:
            case Action::kAddBytes:
            case Action::kSum:
                return edit(a);
        }
        return unsupported("action", "unknown");
    }

    bool needs_whole() const { return edits_.needs_whole(); }

private:
    // Copies are the same packet, so nothing is changed between them.
    Reject output(Ifindex ifindex) {
        if (ifindex == filter_.ifindex) {
            return unsupported("output", "same_device");
        }
        if (auto r = surroundings_.check_output(ifindex)) {
            return r;
        }
        if (std::ranges::find(outputs_, ifindex) != outputs_.end()) {
            return unsupported("output", "twice");
        }
        if (outputs_.empty()) {
            if (auto r = end_edits()) {
                return r;
            }
        }
        outputs_.push_back(ifindex);
        out_.put(OVS_ACTION_ATTR_OUTPUT,
                 static_cast<uint32_t>(index(ifindex)));
        return {};
    }

    Reject push(const Action &a) {
        if (!outputs_.empty()) {
            return unsupported("action", "after_mirror");
        }
        if (!is_tag(a.tpid)) {
            return unsupported("action", "vlan_protocol");
        }
        prios_.push_back(a.vlan_prio);
        const ovs_action_push_vlan push{
            a.tpid,
            htons(a.vlan_id | a.vlan_prio << kPrioShift | kTagPresent)};
        out_.put(OVS_ACTION_ATTR_PUSH_VLAN, push);
        return {};
    }

    // TC leaves a packet without a tag as it is.
    Reject pop() {
        if (!outputs_.empty()) {
            return unsupported("action", "after_mirror");
        }
        if (prios_.empty()) {
            return {};
        }
        prios_.pop_back();
        out_.nest(OVS_ACTION_ATTR_POP_VLAN, [] {});
        return {};
    }

    // To the library, a chain is a recirculation: it looks the packet up again
    // as it is then, and executes all that it passes or nothing.  It has none
    // of number 0.
    Reject go_to(uint32_t chain) {
        if (chain == 0 || !outputs_.empty()) {
            return unsupported("action", "goto_chain");
        }
        if (auto r = end_edits()) {
            return r;
        }
        out_.put(OVS_ACTION_ATTR_RECIRC, chain);
        return {};
    }

    // TC keeps the "drop eligible" bit, too: the program leaves packets that
    // have it to TC if a tag takes another one's place.
    Reject modify(const Action &a) {
        if (prios_.empty()) {
            return {};
        }
        Action tag = a;
        if (a.keeps_prio) {
            if (!prios_.back()) {
                return unsupported("action", "vlan_modify");
            }
            tag.vlan_prio = *prios_.back();
        }
        if (auto r = pop()) {
            return r;
        }
        return push(tag);
    }

    // With two tags, TC does not find all headers.
    Reject edit(const Action &a) {
        if (!outputs_.empty()) {
            return unsupported("action", "after_mirror");
        }
        if (prios_.size() > 1) {
            return unsupported("action", "pedit_tags");
        }
        return a.kind == Action::kSum ? edits_.sum(a) : edits_.write(a);
    }

    Reject end_edits() {
        if (auto r = edits_.finish()) {
            return r;
        }
        for (const auto &[attr, set] : edits_.sets()) {
            std::vector<std::byte> both = set.value;
            both.insert(both.end(), set.mask.begin(), set.mask.end());
            out_.nest(OVS_ACTION_ATTR_SET_MASKED,
                      [&] { out_.put_bytes(attr, both); });
        }
        return {};
    }

    const Filter &filter_;
    const Surroundings &surroundings_;
    std::vector<std::optional<uint8_t>> prios_;  // Of the tags, if known.
    Edits edits_;
    std::vector<Ifindex> outputs_;
    Attributes out_;
};

}  // namespace

Reject translate(const Filter &f, const Surroundings &surroundings,
                 Rule *rule) {
    *rule = {};
    if (f.why_not) {
        return f.why_not;
    }
    if (auto r = check_match(f.match, surroundings.trusts_no_address)) {
        return r;
    }
    ActionWalk walk(f, surroundings, &rule->actions);
    for (const Action &a : f.actions) {
        if (auto r = walk.step(a)) {
            return r;
        }
    }
    const bool is_whole = needs_transport(f.match.mask)
                       || f.match.mask.flags  // On zero, or it is refused.
                       || walk.needs_whole();
    Level key(f.match, false, is_whole, &rule->key),
        mask(f.match, true, is_whole, &rule->mask);
    key.set_port(f.ifindex);
    key.put();
    mask.put();
    return {};
}

}  // namespace flowerd
