// SPDX-License-Identifier: Apache-2.0
#include "flowerd/rules.h"

#include <linux/if_arp.h>
#include <linux/if_ether.h>
#include <linux/openvswitch.h>
#include <linux/pkt_cls.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
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
constexpr uint32_t kPorts = 0x10000;
constexpr size_t kMaxTags = 2;
constexpr size_t kMaxParts = 32;  // Of a filter with ranges.

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

// Tags that the filter compares, or their absence.
unsigned n_tags(const Match &m) {
    return !is_tag(m.key.protocol) ? 0 : !is_tag(m.key.vlan_eth_type) ? 1 : 2;
}

// The type behind them all, as they tell of it.
__be16 type_behind_tags(const Match &m) {
    switch (n_tags(m)) {
        case 0:
            return m.key.protocol;
        case 1:
            return m.mask.vlan_eth_type == 0xffff ? m.key.vlan_eth_type : 0;
        default:
            return m.mask.cvlan_eth_type == 0xffff ? m.key.cvlan_eth_type : 0;
    }
}

// Does the filter compare what only whole packets, or first fragments, have?
bool needs_transport(const Fields &mask) {
    return mask.tp_src || mask.tp_dst || mask.ranges || mask.tcp_flags
        || mask.icmp_type || mask.icmp_code;
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

// The mask has bits of a connection, or the key has.
bool compares_connection(const Fields &f) {
    return f.ct_state || f.ct_zone || f.ct_mark
        || f.ct_labels != Fields().ct_labels;
}

// Flower's bits in the order of OVS's.
uint32_t to_ovs_state(uint16_t state) {
    struct Bit {
        uint16_t flowers, ovs;
    };
    static constexpr Bit kBits[] = {
        {TCA_FLOWER_KEY_CT_FLAGS_NEW, OVS_CS_F_NEW},
        {TCA_FLOWER_KEY_CT_FLAGS_ESTABLISHED, OVS_CS_F_ESTABLISHED},
        {TCA_FLOWER_KEY_CT_FLAGS_RELATED, OVS_CS_F_RELATED},
        {TCA_FLOWER_KEY_CT_FLAGS_TRACKED, OVS_CS_F_TRACKED},
        {TCA_FLOWER_KEY_CT_FLAGS_INVALID, OVS_CS_F_INVALID},
        {TCA_FLOWER_KEY_CT_FLAGS_REPLY, OVS_CS_F_REPLY_DIR},
    };
    uint32_t found = 0;
    for (const Bit &bit : kBits) {
        found |= state & bit.flowers ? bit.ovs : 0;
    }
    return found;
}

Reject check_match(const Match &m, const Surroundings &surroundings) {
    if (m.mask.protocol != 0xffff || m.mask.eth_type != 0xffff) {
        return unsupported("key", "any_eth_type");
    }
    if (!is_plain_type(m.key.eth_type)) {
        return unsupported("key", "eth_type");
    }
    if (type_behind_tags(m) != m.key.eth_type) {
        return unsupported("key", "two_eth_types");
    }
    if (m.mask.n_tags && m.key.n_tags != n_tags(m)) {
        return unsupported("key", "num_of_vlans");
    }
    if (m.key.flags) {
        return unsupported("key", "fragments");
    }
    if (compares_arp(m.mask) && !is_request_or_reply(m)) {
        return unsupported("key", "arp");
    }
    if (compares_connection(m.mask) && !surroundings.can_track) {
        return unsupported("key", "ct");
    }
    const bool is_ip = m.key.eth_type != htons(ETH_P_ARP);
    if (compares_connection(m.key) && !(is_ip && m.key.chain)) {
        return unsupported("key", "ct_before_ct");
    }
    if (is_ip && !surroundings.trusts_no_address && m.mask.src == Fields().src
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
        if (compares_connection(match_.mask)) {
            put_connection();
        }
        ovs_key_ethernet eth;
        std::memcpy(eth.eth_src, fields_.eth_src, sizeof eth.eth_src);
        std::memcpy(eth.eth_dst, fields_.eth_dst, sizeof eth.eth_dst);
        out_.put(OVS_KEY_ATTR_ETHERNET, eth);
        put_tags();
    }
    void set_port(Ifindex port) { port_ = index(port); }

private:
    static __be16 tci(uint16_t id, uint8_t prio) {
        return htons(id | prio << kPrioShift | kTagPresent);
    }

    // Puts the tag, and in it what 'inner' puts.
    template <typename Fn>
    void put_tag(__be16 type, __be16 tci, Fn inner) {
        out_.put(OVS_KEY_ATTR_ETHERTYPE, type);
        out_.put(OVS_KEY_ATTR_VLAN, tci);
        out_.nest(OVS_KEY_ATTR_ENCAP, inner);
    }

    void put_tags() {
        const __be16 outer = tci(fields_.vlan_id, fields_.vlan_prio);
        switch (n_tags(match_)) {
            case 0:
                put_payload();
                break;
            case 1:
                put_tag(fields_.protocol, outer, [&] { put_payload(); });
                break;
            default:
                put_tag(fields_.protocol, outer, [&] {
                    put_tag(fields_.vlan_eth_type,
                            tci(fields_.cvlan_id, fields_.cvlan_prio),
                            [&] { put_payload(); });
                });
        }
    }

    uint8_t frag() const {
        return is_mask_ && is_whole_ ? 0xff : OVS_FRAG_TYPE_NONE;
    }

    void put_connection() {
        out_.put(OVS_KEY_ATTR_CT_STATE, to_ovs_state(fields_.ct_state));
        out_.put(OVS_KEY_ATTR_CT_ZONE, fields_.ct_zone);
        out_.put(OVS_KEY_ATTR_CT_MARK, fields_.ct_mark);
        out_.put(OVS_KEY_ATTR_CT_LABELS, fields_.ct_labels);
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
        const Fields &key = f.match.key, &mask = f.match.mask;
        if (n_tags(f.match) > 1) {
            prios_.push_back(known_prio(key.cvlan_prio, mask.cvlan_prio));
        }
        if (n_tags(f.match) > 0) {
            prios_.push_back(known_prio(key.vlan_prio, mask.vlan_prio));
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
            case Action::kTrack:
                return track(a.ct);
            case Action::kUntrack:
                return untrack();
        }
        return unsupported("action", "unknown");
    }

    bool needs_whole() const { return edits_.needs_whole(); }

private:
    static std::optional<uint8_t> known_prio(uint8_t key, uint8_t mask) {
        return mask == kAllPrios ? std::optional(key) : std::nullopt;
    }

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
        if (prios_.size() == kMaxTags) {
            return unsupported("action", "third_vlan");
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

    // With two tags, TC does not find all headers.  Of what ct has translated
    // the match says nothing any more, nor may be written on both sides of ct.
    Reject edit(const Action &a) {
        if (!outputs_.empty()) {
            return unsupported("action", "after_mirror");
        }
        if (prios_.size() > 1) {
            return unsupported("action", "pedit_tags");
        }
        if (are_written_ || (translates_ && !is_of_ethernet(a))) {
            return unsupported("action", "pedit_after_ct");
        }
        return a.kind == Action::kSum ? edits_.sum(a) : edits_.write(a);
    }

    static bool is_of_ethernet(const Action &a) {
        return a.kind != Action::kSum && a.header == Header::kEthernet;
    }

    bool is_ip() const {
        return filter_.match.key.eth_type != htons(ETH_P_ARP);
    }

    // TC drops what is not IP.  With two tags, it takes the second one for IP.
    Reject track(const Tracking &ct) {
        if (!outputs_.empty()) {
            return unsupported("action", "after_mirror");
        }
        if (!surroundings_.can_track) {
            return unsupported("action", "ct");
        }
        if (!is_ip()) {
            return unsupported("action", "ct_protocol");
        }
        if (prios_.size() > 1) {
            return unsupported("action", "ct_tags");
        }
        if (auto r = end_edits()) {
            return r;
        }
        translates_ |= ct.translates;
        out_.nest(OVS_ACTION_ATTR_CT, [&] { put_tracking(ct); });
        return {};
    }

    void put_tracking(const Tracking &ct) {
        out_.put(OVS_CT_ATTR_ZONE, ct.zone);
        if (ct.commits) {
            out_.put_bytes(OVS_CT_ATTR_COMMIT, {});
        }
        if (ct.mark_mask) {
            out_.put(OVS_CT_ATTR_MARK, std::array{ct.mark, ct.mark_mask});
        }
        if (ct.labels_mask != decltype(ct.labels_mask){}) {
            out_.put(OVS_CT_ATTR_LABELS,
                     std::array{ct.labels, ct.labels_mask});
        }
        if (ct.translates) {
            out_.nest(OVS_CT_ATTR_NAT, [] {});
        }
    }

    // ARP never has a connection.
    Reject untrack() {
        if (!outputs_.empty()) {
            return unsupported("action", "after_mirror");
        }
        if (is_ip() && surroundings_.can_track) {
            out_.nest(OVS_ACTION_ATTR_CT_CLEAR, [] {});
        }
        return {};
    }

    Reject end_edits() {
        if (auto r = edits_.finish()) {
            return r;
        }
        if (are_written_) {
            return {};
        }
        are_written_ = !edits_.sets().empty();
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
    // Of the tags, if known; that of the outermost is the last one.
    std::vector<std::optional<uint8_t>> prios_;
    Edits edits_;
    bool are_written_ = false;  // The edits.
    bool translates_ = false;   // A ct has.
    std::vector<Ifindex> outputs_;
    Attributes out_;
};

}  // namespace

// A range as bits that ports have: as few prefixes as there are.
struct PortBits {
    __be16 key = 0, mask = 0;
};
static std::vector<PortBits> prefixes_of(const PortRange &range) {
    std::vector<PortBits> found;
    uint32_t first = range.first;
    while (first <= range.last) {
        uint32_t size = first ? first & -first : kPorts;
        while (first + size - 1 > range.last) {
            size /= 2;
        }
        found.push_back({htons(static_cast<uint16_t>(first)),
                         htons(static_cast<uint16_t>(~(size - 1)))});
        first += size;
    }
    return found;
}

// The match, in parts that have no ranges.
static Reject split_ranges(const Match &m, std::vector<Match> *parts) {
    parts->assign(1, m);
    parts->front().src_ports = parts->front().dst_ports = {};
    if (!m.mask.ranges) {
        return {};
    }
    parts->clear();
    for (const PortBits &src : prefixes_of(m.src_ports)) {
        for (const PortBits &dst : prefixes_of(m.dst_ports)) {
            Match &part = parts->emplace_back(m);
            part.src_ports = part.dst_ports = {};
            part.key.tp_src = src.key;
            part.mask.tp_src = src.mask;
            part.key.tp_dst = dst.key;
            part.mask.tp_dst = dst.mask;
        }
    }
    return parts->size() > kMaxParts ? unsupported("key", "port_range")
                                     : Reject{};
}

static Rule rule_of(const Match &m, Ifindex in, bool is_whole,
                    const std::vector<std::byte> &actions) {
    Rule rule;
    rule.actions = actions;
    Level key(m, false, is_whole, &rule.key),
        mask(m, true, is_whole, &rule.mask);
    key.set_port(in);
    key.put();
    mask.put();
    return rule;
}

Reject translate(const Filter &f, const Surroundings &surroundings,
                 std::vector<Rule> *rules) {
    rules->clear();
    if (f.why_not) {
        return f.why_not;
    }
    if (auto r = check_match(f.match, surroundings)) {
        return r;
    }
    std::vector<Match> parts;
    if (auto r = split_ranges(f.match, &parts)) {
        return r;
    }
    std::vector<std::byte> actions;
    ActionWalk walk(f, surroundings, &actions);
    for (const Action &a : f.actions) {
        if (auto r = walk.step(a)) {
            return r;
        }
    }
    const bool is_whole = needs_transport(f.match.mask)
                       || f.match.mask.flags  // On zero, or it is refused.
                       || walk.needs_whole();
    for (const Match &part : parts) {
        rules->push_back(rule_of(part, f.ifindex, is_whole, actions));
    }
    return {};
}

}  // namespace flowerd
