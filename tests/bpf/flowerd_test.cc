// SPDX-License-Identifier: Apache-2.0
// TC's filters in XDP's tables: what the program does with packets is what TC's
// walk over the same filters would do, or nothing.
//
// dissect() finds fields as the kernel's flow dissector does for flower, by its
// rules and not by ours: no transport header in any fragment, IPv6 extension
// headers walked through, tags within tags.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "flowerd/rules.h"
#include "flowxlate/translate/actions.h"
#include "flowxlate/translate/match.h"
#include "row.h"
#include "tests/unit/flower_walk.h"

namespace flowerd::test {
namespace {

using flowxlate::FlowSlot;
using flowxlate::test::FlowSpec;
using flowxlate::test::Frame;
using flowxlate::test::kOut;
using flowxlate::test::Packet;
using flowxlate::test::Program;

constexpr Ifindex kInDevice{2}, kOutDevice{3};
constexpr uint8_t kTcp = 6, kUdp = 17, kIcmp = 1, kSctp = 132, kIcmpv6 = 58;
constexpr uint8_t kHopByHop = 0, kFragment = 44, kMplsInIp = 137;
constexpr uint16_t kQ = ETH_P_8021Q, kAd = ETH_P_8021AD;

// The program as the library loads it for TC's flows.
Program &empty_program() {
    static Program *p = [] {
        auto *made = new Program(XF_PORT_TX_NATIVE, nullptr, {.of_tc = true});
        made->maps().set_max_tags(2);
        return made;
    }();
    p->remove_all();
    return *p;
}

// -- Fields of a packet -----------------------------------------------------

class Dissector {
public:
    explicit Dissector(const Frame &frame) : frame_(frame) {}

    Fields run() {
        std::memcpy(f_.eth_dst, &frame_[0], ETH_ALEN);
        std::memcpy(f_.eth_src, &frame_[ETH_ALEN], ETH_ALEN);
        type_ = get16(2 * ETH_ALEN);
        f_.protocol = htons(type_);
        at_ = ETH_HLEN;
        for (int n = 0; (type_ == kQ || type_ == kAd) && has(4); n++) {
            tag(n);
        }
        if (type_ == ETH_P_IP && has(20)) {
            ipv4();
        } else if (type_ == ETH_P_IPV6 && has(40)) {
            ipv6();
        } else if (type_ == ETH_P_ARP && has(28)) {
            arp();
        }
        f_.eth_type = htons(type_);
        return f_;
    }

private:
    bool has(size_t n) const { return at_ + n <= frame_.size(); }
    uint16_t get16(size_t at) const {
        return frame_[at] << 8 | frame_[at + 1];
    }

    void tag(int n) {
        const uint16_t tci = get16(at_);
        type_ = get16(at_ + 2);
        at_ += 4;
        if (n == 1) {
            f_.cvlan_id = tci & 0xfff;
            f_.cvlan_prio = tci >> 13;
            f_.cvlan_eth_type = htons(type_);
        }
        f_.n_tags = n + 1;
        if (n == 0) {
            f_.vlan_id = tci & 0xfff;
            f_.vlan_prio = tci >> 13;
            f_.vlan_eth_type = htons(type_);
        }
    }

    void set_fragment(bool is_first) {
        f_.flags = htonl(is_first ? 3 : 1);
    }

    void arp() {
        static constexpr uint8_t kKinds[] = {0, 1, 8, 0, 6, 4};
        const uint8_t *arp = &frame_[at_];
        const uint16_t op = get16(at_ + 6);
        if (!std::equal(std::begin(kKinds), std::end(kKinds), arp)
            || (op != 1 && op != 2)) {
            return;
        }
        f_.arp_op = op;
        std::memcpy(f_.arp_sha, arp + 8, 6);
        std::memcpy(&f_.arp_sip, arp + 14, 4);
        std::memcpy(f_.arp_tha, arp + 18, 6);
        std::memcpy(&f_.arp_tip, arp + 24, 4);
    }

    void ipv4() {
        const uint8_t *ip = &frame_[at_];
        const size_t header = (ip[0] & 0xf) * 4;
        if (header < 20) {
            return;
        }
        f_.ip_tos = ip[1];
        f_.ip_ttl = ip[8];
        f_.ip_proto = ip[9];
        std::memcpy(f_.ipv4_src.data(), ip + 12, 4);
        std::memcpy(f_.ipv4_dst.data(), ip + 16, 4);
        const uint16_t frag = get16(at_ + 6);
        at_ += header;
        if (frag & 0x3fff) {
            set_fragment(!(frag & 0x1fff));
        } else {
            transport();
        }
    }

    void ipv6() {
        const uint8_t *ip = &frame_[at_];
        f_.ip_tos = get16(at_) >> 4 & 0xff;
        f_.ip_proto = ip[6];
        f_.ip_ttl = ip[7];
        std::memcpy(f_.src.data(), ip + 8, 16);
        std::memcpy(f_.dst.data(), ip + 24, 16);
        at_ += 40;
        while (f_.ip_proto == kHopByHop && has(8)) {
            f_.ip_proto = frame_[at_];
            at_ += 8 * (frame_[at_ + 1] + 1);
        }
        if (f_.ip_proto == kFragment && has(8)) {
            f_.ip_proto = frame_[at_];
            set_fragment(!(get16(at_ + 2) & 0xfff8));
            return;
        }
        transport();
    }

    void transport() {
        const uint8_t proto = f_.ip_proto;
        if ((proto == kTcp || proto == kUdp || proto == kSctp) && has(4)) {
            f_.tp_src = htons(get16(at_));
            f_.tp_dst = htons(get16(at_ + 2));
        }
        if (proto == kTcp && has(20)) {
            f_.tcp_flags = htons(get16(at_ + 12) & 0xfff);
        }
        if ((proto == kIcmp || proto == kIcmpv6) && has(8)) {
            f_.icmp_type = frame_[at_];
            f_.icmp_code = frame_[at_ + 1];
        }
        if (proto == kMplsInIp) {
            type_ = ETH_P_MPLS_UC;
        }
    }

    const Frame &frame_;
    Fields f_;
    uint16_t type_ = 0;
    size_t at_ = 0;
};

Fields dissect(const Frame &frame) { return Dissector(frame).run(); }

// -- What a filter does with a packet ---------------------------------------

bool is_tag(uint16_t type) { return type == kQ || type == kAd; }

struct Done {
    uint32_t verdict = XDP_PASS;
    Frame out;
    uint32_t chain = 0;  // Not 0: it goes on there.
};

uint16_t get16(const Frame &frame, size_t at) {
    return frame[at] << 8 | frame[at + 1];
}

void put16(Frame *frame, size_t at, uint16_t value) {
    (*frame)[at] = value >> 8;
    (*frame)[at + 1] = value;
}

// The Internet checksum, of which 'sum' is there already.
uint16_t checksum(const Frame &f, size_t at, size_t n, uint32_t sum = 0) {
    for (size_t i = 0; i < n; i++) {
        sum += i % 2 ? f[at + i] : f[at + i] << 8;
    }
    while (sum >> 16) {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return ~sum;
}

// pedit and csum.  (TC does not find all headers behind two tags; nor does XDP
// change those.)
class Editor {
public:
    explicit Editor(Frame *frame) : f_(*frame) {
        network_ = ETH_HLEN;
        while (is_tag(get16(f_, network_ - 2))) {
            network_ += 4;
        }
        is_ipv4_ = get16(f_, network_ - 2) == ETH_P_IP;
        transport_ = network_ + (is_ipv4_ ? (f_[network_] & 0xf) * 4 : 40);
        proto_ = f_[network_ + (is_ipv4_ ? 9 : 6)];
    }

    void write(const Action &a) {
        const size_t begin = a.header == Header::kEthernet ? 0
                           : a.header == Header::kNetwork  ? network_
                                                           : transport_;
        for (size_t i = 0; i < a.mask.size(); i++) {
            uint8_t &to = f_[begin + a.offset + i];
            const uint8_t value =
                a.kind == Action::kAddBytes ? to + a.value[i] : a.value[i];
            to = (to & ~a.mask[i]) | (value & a.mask[i]);
        }
    }

    void sum(uint32_t flags) {
        if ((flags & 1) && is_ipv4_) {
            put16(&f_, network_ + 10, 0);
            put16(&f_, network_ + 10,
                  checksum(f_, network_, transport_ - network_));
        }
        const uint8_t icmp = is_ipv4_ ? kIcmp : kIcmpv6;
        if (proto_ == kTcp && (flags & 8)) {
            sum_transport(16);
        } else if (proto_ == kUdp && (flags & 16)) {
            sum_transport(6);
        } else if (proto_ == icmp && (flags & 2)) {
            sum_transport(2);
        }
    }

private:
    // UDP without a sum stays so in IPv4, and gets none if its length is not
    // IP's.
    void sum_transport(size_t at) {
        const size_t len = is_ipv4_
                             ? get16(f_, network_ + 2) - (transport_ - network_)
                             : get16(f_, network_ + 4);
        const size_t field = transport_ + at;
        if (proto_ == kUdp && is_ipv4_ && !get16(f_, field)) {
            return;
        }
        put16(&f_, field, 0);
        if (proto_ == kUdp && get16(f_, transport_ + 4) != len) {
            return;
        }
        const uint16_t sum =
            checksum(f_, transport_, len, is_ipv4_ && proto_ == kIcmp ? 0 : pseudo_header(len));
        put16(&f_, field, !sum && proto_ == kUdp ? 0xffff : sum);
    }

    uint32_t pseudo_header(size_t len) const {
        const size_t at = network_ + (is_ipv4_ ? 12 : 8);
        const uint16_t addresses = checksum(f_, at, is_ipv4_ ? 8 : 32);
        return uint16_t(~addresses) + len + proto_;
    }

    Frame &f_;
    size_t network_, transport_;
    bool is_ipv4_;
    uint8_t proto_;
};

// TC's actions, byte by byte.
Done execute(const Filter &f, const Frame &in) {
    Done done{XDP_PASS, in, 0};
    for (const Action &a : f.actions) {
        if (a.kind == Action::kSetBytes || a.kind == Action::kAddBytes) {
            Editor(&done.out).write(a);
        } else if (a.kind == Action::kSum) {
            Editor(&done.out).sum(a.sums);
        }
        const auto tags = done.out.begin() + 2 * ETH_ALEN;
        const uint16_t type = tags[0] << 8 | tags[1];
        if (a.kind == Action::kGotoChain) {
            done.chain = a.chain;
        } else if (a.kind == Action::kDrop) {
            done.verdict = XDP_DROP;
        } else if (a.kind == Action::kRedirect) {
            done.verdict = XDP_REDIRECT;
        } else if (a.kind == Action::kPopVlan && is_tag(type)) {
            done.out.erase(tags, tags + 4);
        } else if (a.kind == Action::kModifyVlan && is_tag(type)) {
            const uint16_t old = get16(done.out, 14);
            const uint16_t kept = a.keeps_prio ? 0xf000 : 0x1000;
            put16(&done.out, 12, ntohs(a.tpid));
            put16(&done.out, 14,
                  (old & kept) | a.vlan_id
                      | (a.keeps_prio ? 0 : a.vlan_prio << 13));
        } else if (a.kind == Action::kPushVlan) {
            const uint16_t tpid = ntohs(a.tpid);
            const uint16_t tci = a.vlan_prio << 13 | a.vlan_id;
            const uint8_t tag[] = {
                uint8_t(tpid >> 8), uint8_t(tpid), uint8_t(tci >> 8),
                uint8_t(tci)};
            done.out.insert(tags, std::begin(tag), std::end(tag));
        }
    }
    return done;
}

// Is there a tag whose "drop eligible" bit TC may have to keep in the one that
// takes its place?
bool may_keep_drop_eligible(const Filter &f, const Frame &in) {
    const bool has_two = is_tag(get16(in, 12)) && is_tag(get16(in, 16));
    return is_tag(get16(in, 12))
        && ((in[14] & 0x10) || (has_two && (in[18] & 0x10)))
        && std::ranges::any_of(f.actions, [](const Action &a) {
               return a.kind == Action::kModifyVlan
                   || a.kind == Action::kPopVlan
                   || a.kind == Action::kPushVlan;
           });
}

// What becomes of the packet, TC's connections say then, of which there are
// none here.
bool tracks(const Filter &f) {
    return std::ranges::any_of(f.actions, [](const Action &a) {
        return a.kind == Action::kTrack;
    });
}

// -- The filters in XDP -----------------------------------------------------

Surroundings surroundings() {
    return {[](Ifindex out) {
                return out == kOutDevice ? Reject{}
                                         : Reject{"output", "not_ours",
                                                  EOPNOTSUPP};
            },
            true, true};
}

// As the engine would put it.
FlowSpec flow_of(const Rule &rule) {
    flowxlate::Match match;
    flowxlate::Actions actions;
    EXPECT_FALSE(flowxlate::decode_match(rule.key, rule.mask, &match));
    EXPECT_FALSE(flowxlate::decode_actions(rule.actions, match, &actions));
    FlowSpec flow(match.cls, 0);
    flow.key = match.key;
    flow.mask = match.mask;
    flow.key.in_port = index(flowxlate::test::kIn);
    flow.mask.in_port = flow.mask.recirc = 0xffff;
    flow.key.recirc = match.recirc_id;
    const bool goes_on = actions.verdict == XF_RECIRC;
    flow.action = flowxlate::to_xf_action(
        actions, goes_on ? actions.recirc_id : index(kOut));
    flow.rewrite = actions.rewrite;
    return flow;
}

using Slots = std::map<FilterId, std::vector<FlowSlot>>;

// Puts those that may run; by their slots.
Slots put_all(const FilterTable &table, Program *p) {
    Slots slots;
    for (const auto &[id, f] : table.all()) {
        std::vector<Rule> rules;
        if (!table.may_run(id) || translate(f, surroundings(), &rules)) {
            continue;
        }
        for (const Rule &rule : rules) {
            slots[id].push_back(p->add(flow_of(rule)));
        }
    }
    return slots;
}

// -- Random filters and packets ---------------------------------------------

Action action(Action::Kind kind) {
    Action a;
    a.kind = kind;
    a.ifindex = kind == Action::kRedirect ? kOutDevice : Ifindex{};
    return a;
}

class Draw {
public:
    explicit Draw(uint64_t seed) : random_(seed) {}

    uint32_t below(uint32_t n) {
        return std::uniform_int_distribution<uint32_t>(0, n - 1)(random_);
    }
    bool one_in(uint32_t n) { return below(n) == 0; }

    Filter filter() {
        Filter f;
        f.ifindex = kInDevice;
        f.id = {static_cast<uint16_t>(1 + below(12)), 1 + below(3),
                one_in(2) ? below(3) : 0};
        f.kind = "flower";
        f.has_options = true;
        f.match.key.chain = f.id.chain;
        f.match.mask.chain = UINT32_MAX;
        set_types(&f.match);
        if (one_in(15)) {
            f.match.key.eth_type = f.match.mask.eth_type = 0;
            f.is_opaque = true;
            f.why_not = {"key", "ct", EOPNOTSUPP};
            return f;
        }
        set_link(&f.match);
        if (f.match.key.eth_type == htons(ETH_P_ARP) && one_in(2)) {
            f.match.mask.arp_op = one_in(5) ? 0 : 0xff;
            f.match.key.arp_op = one_in(5) ? 3 : 1 + below(2);
            f.match.mask.arp_tip = one_in(2) ? 0xffffffff : 0;
            f.match.key.arp_tip = htonl(0x0a000002 + one_in(3));
            f.match.mask.arp_sha[5] = one_in(3) ? 0xff : 0;
            f.match.key.arp_sha[5] = 1;
        }
        const bool is_wide = f.id.chain && !one_in(3);
        if (f.match.key.eth_type != htons(ETH_P_ARP) && !is_wide) {
            set_ip(&f.match);
        }
        if (one_in(6)) {  // No packet here has a connection.
            f.match.mask.ct_state = TCA_FLOWER_KEY_CT_FLAGS_TRACKED;
            f.match.key.ct_state = one_in(4) ? f.match.mask.ct_state : 0;
        }
        f.match.key = f.match.key & f.match.mask;
        set_actions(&f);
        if (one_in(12)) {
            f.actions.insert(f.actions.begin(),
                             action(one_in(3) ? Action::kTrack
                                              : Action::kUntrack));
        }
        return f;
    }

    // 'is_plain': such as XDP executes if it has a flow.
    Frame packet(bool *is_plain) {
        Packet p;
        uint16_t type = kTypes[below(3)];
        const unsigned n_tags = one_in(2) ? 0 : 1 + one_in(4);
        const uint16_t tpid = one_in(2) ? kQ : kAd;
        *is_plain = true;
        p.eth(n_tags ? tpid : type);
        for (unsigned i = 0; i < n_tags; i++) {
            p.vlan(below(8) << 13 | one_in(2) << 12 | (5 + below(2)),
                   i + 1 < n_tags ? kQ : type);
        }
        if (type == ETH_P_ARP) {
            return p.arp(one_in(8) ? 3 : 1 + below(2)).padding(18).bytes();
        }
        const size_t l3 = ETH_HLEN + 4 * n_tags;
        put_ip(type, &p, is_plain);
        if (type == ETH_P_IP) {
            p.poke(l3 + 1, 4 * below(2)).poke(l3 + 8, 63 + below(2));
            p.poke(l3 + 15, 1 + below(2)).poke(l3 + 19, 2 + below(2));
        } else {
            p.poke(l3 + 7, 63 + below(2));
            p.poke(l3 + 23, 1 + below(2)).poke(l3 + 39, 2 + below(2));
        }
        const bool has_no_sum = one_in(8);
        if (has_no_sum) {
            p.no_checksum();
        }
        Frame frame = p.bytes();
        Editor(&frame).sum(~0U);  // The addresses are others now.
        if (has_no_sum && type == ETH_P_IPV6 && frame[l3 + 6] == kUdp) {
            put16(&frame, l3 + 46, 0);  // TC makes one.
            *is_plain = false;
        }
        if (one_in(8)) {  // Checksums that are wrong.
            const size_t at = one_in(2) ? l3 + 10 : frame.size() - 1;
            frame[at] ^= 1 << below(8);
            *is_plain = false;
        }
        return frame;
    }

private:
    static constexpr uint16_t kTypes[] = {ETH_P_IP, ETH_P_IPV6, ETH_P_ARP};
    static constexpr uint16_t kPorts[] = {0, 53, 80};
    static constexpr uint16_t kFlags[] = {0x10, 0x02, 0x12};

    void set_types(Match *m) {
        m->key.eth_type = htons(kTypes[below(3)]);
        m->key.protocol = m->key.eth_type;
        m->mask.eth_type = m->mask.protocol = 0xffff;
        if (one_in(2)) {
            m->key.protocol = htons(one_in(2) ? kQ : kAd);
        }
        if (one_in(40)) {
            m->key.protocol = m->mask.protocol = 0;
        }
    }

    void set_link(Match *m) {
        if (m->key.protocol == htons(kQ) || m->key.protocol == htons(kAd)) {
            m->key.vlan_eth_type = m->key.eth_type;
            m->mask.vlan_eth_type = 0xffff;
            m->mask.vlan_id = one_in(2) ? 0xfff : 0;
            m->key.vlan_id = 5 + below(2);
            m->mask.vlan_prio = one_in(3) ? 7 : 0;
            m->key.vlan_prio = below(8);
            if (one_in(4)) {
                m->key.vlan_eth_type = htons(one_in(4) ? kAd : kQ);
                m->key.cvlan_eth_type = m->key.eth_type;
                m->mask.cvlan_eth_type = 0xffff;
                m->mask.cvlan_id = one_in(2) ? 0xfff : 0;
                m->key.cvlan_id = 5 + below(2);
                m->mask.cvlan_prio = one_in(4) ? 7 : 0;
                m->key.cvlan_prio = below(8);
            }
        }
        if (one_in(4)) {
            m->mask.eth_dst[5] = 0xff;
            m->key.eth_dst[5] = 2 + one_in(4);
        }
    }

    void set_ip(Match *m) {
        const bool v4 = m->key.eth_type == htons(ETH_P_IP);
        const size_t len = v4 ? 4 : 16;
        for (size_t i : {0, 1}) {
            uint8_t *key = &m->key.src[i * len], *mask = &m->mask.src[i * len];
            mask[0] = one_in(2) ? 0xff : 0;
            key[0] = v4 ? 10 : 0xfc;
            mask[len - 1] = one_in(2) ? 0xff : 0;
            key[len - 1] = i + 1 + below(2);
        }
        m->mask.ip_tos = one_in(6) ? 0xff : 0;
        m->key.ip_tos = 4 * below(2);
        m->mask.ip_ttl = one_in(6) ? 0xff : 0;
        m->key.ip_ttl = 63 + below(2);
        m->mask.flags = one_in(6) ? htonl(1) : 0;
        m->key.flags = one_in(3) ? htonl(1) : 0;
        if (!one_in(3)) {
            set_transport(v4, m);
        }
    }

    void set_transport(bool v4, Match *m) {
        const uint8_t icmp = v4 ? kIcmp : kIcmpv6;
        const uint8_t protos[] = {kTcp, kUdp, kSctp, icmp};
        const uint8_t proto = protos[below(4)];
        m->key.ip_proto = proto;
        m->mask.ip_proto = 0xff;
        if (proto == icmp) {
            m->mask.icmp_type = m->mask.icmp_code = one_in(2) ? 0xff : 0;
            m->key.icmp_type = one_in(2) ? 0 : (v4 ? 8 : 128);
            return;
        }
        if (one_in(4)) {
            m->mask.ranges = one_in(3) ? kSourceRange : kDestinationRange;
            const uint16_t first = 40 + below(20);
            (m->mask.ranges == kSourceRange ? m->src_ports : m->dst_ports) =
                {first, static_cast<uint16_t>(first + 1 + below(50))};
            return;
        }
        m->mask.tp_src = one_in(4) ? 0xffff : 0;
        m->mask.tp_dst = one_in(2) ? htons(one_in(3) ? 0xfff0 : 0xffff) : 0;
        m->key.tp_src = htons(kPorts[below(3)]);
        m->key.tp_dst = htons(kPorts[below(3)]);
        if (proto == kTcp && one_in(3)) {
            m->mask.tcp_flags = htons(kFlags[below(3)]);
            m->key.tcp_flags = htons(kFlags[below(3)]);
        }
    }

    void set_actions(Filter *f) {
        switch (below(9)) {
            case 6:
            case 7:
                set_edits(f);
                break;
            case 8: {
                Action modify = action(Action::kModifyVlan);
                modify.tpid = htons(one_in(2) ? kQ : kAd);
                modify.vlan_id = 7;
                modify.vlan_prio = below(8);
                modify.keeps_prio = one_in(2);
                f->actions = {modify};
                break;
            }
            case 0:
                f->actions = {action(Action::kDrop)};
                return;
            case 1:
                f->actions = {action(Action::kPass)};
                return;
            case 2:
                f->actions = {action(Action::kPopVlan)};
                break;
            case 3: {
                Action push = action(Action::kPushVlan);
                push.tpid = htons(one_in(2) ? kQ : kAd);
                push.vlan_id = 7;
                push.vlan_prio = below(8);
                f->actions = {push};
                break;
            }
        }
        f->actions.push_back(
            action(one_in(3) ? Action::kGotoChain : Action::kRedirect));
        f->actions.back().chain = 1 + below(2);
    }

    // A list of pedit's that TC takes, and mostly the sums that it needs.
    void set_edits(Filter *f) {
        const bool v4 = f->match.key.eth_type == htons(ETH_P_IP);
        const uint8_t proto = f->match.key.ip_proto & f->match.mask.ip_proto;
        const Header transport = proto == kUdp ? Header::kUdp : Header::kTcp;
        auto write = [&](Header header, int32_t offset, unsigned first,
                         unsigned n) {
            Action a = action(Action::kSetBytes);
            a.header = header;
            a.offset = offset;
            for (unsigned i = first; i < first + n; i++) {
                a.value[i] = below(256);
                a.mask[i] = 0xff;
            }
            f->actions.push_back(a);
        };
        uint32_t sums = 0;
        if (one_in(2)) {
            write(Header::kEthernet, one_in(2) ? 0 : 8, 0, 4);
        }
        if (one_in(2)) {  // TTL, or hop limit.
            write(Header::kNetwork, v4 ? 8 : 4, v4 ? 0 : 3, 1);
            sums |= 1;
        } else if (one_in(3)) {
            write(Header::kNetwork, v4 ? 8 : 4, v4 ? 0 : 3, 1);
            f->actions.back().kind = Action::kAddBytes;
            sums |= 1;
        }
        if (one_in(3)) {  // TOS, or the traffic class.
            write(Header::kNetwork, 0, 1, 1);
            f->actions.back().mask[1] = v4 ? 0xfc : 0xf0;
            sums |= 1;
        }
        if (one_in(3)) {
            write(Header::kNetwork, v4 ? 12 + 4 * below(2) : 20 + 16 * below(2),
                  0, 4);
            sums |= 1 | 2 | 8 | 16;
        }
        if (one_in(2) && (proto == kTcp || proto == kUdp)) {
            write(transport, 0, 2 * below(2), 2);
            sums |= 8 | 16;
        }
        if (!one_in(6) && sums) {
            f->actions.push_back(action(Action::kSum));
            f->actions.back().sums = sums;
        }
    }

    void put_ip(uint16_t type, Packet *p, bool *is_plain) {
        const bool v4 = type == ETH_P_IP;
        const uint8_t protos[] = {kTcp, kUdp, kSctp, v4 ? kIcmp : kIcmpv6,
                                  kMplsInIp};
        const uint8_t proto = protos[one_in(8) ? 4 : below(4)];
        const uint16_t kinds[] = {0x2000, 100, 0x2000 | 100};
        const bool is_fragment = one_in(6), has_options = one_in(8);
        *is_plain &= !is_fragment && !has_options && proto != kMplsInIp;
        if (v4) {
            p->ipv4(proto, is_fragment ? kinds[below(3)] : 0,
                    has_options ? 4 : 0);
        } else if (is_fragment) {
            p->ipv6(kFragment).ipv6_fragment(proto, one_in(2) ? 1 : 0x100);
        } else if (has_options) {
            p->ipv6(kHopByHop).ipv6_hop_by_hop(proto);
        } else {
            p->ipv6(proto);
        }
        put_transport(proto, p);
    }

    void put_transport(uint8_t proto, Packet *p) {
        const uint16_t src = kPorts[below(3)], dst = kPorts[below(3)];
        switch (proto) {
            case kTcp:
                p->tcp(src, dst, kFlags[below(3)]);
                break;
            case kUdp:
                p->udp(src, dst);
                break;
            case kSctp:
                p->sctp(src, dst);
                break;
            case kMplsInIp:
                break;
            default:
                p->icmp(one_in(2) ? 0 : (proto == kIcmp ? 8 : 128), 0);
        }
        p->payload(24);
    }

    std::mt19937_64 random_;
};

class Comparison {
public:
    explicit Comparison(uint64_t seed) : draw_(seed) {}
    ~Comparison() { program_.remove_all(); }

    // Some filters, and packets through them.
    void round() {
        FlowWalkPair both;
        FilterTable::Touched touched;
        for (int i = 0; i < 20; i++) {
            const Filter f = draw_.filter();
            if (both.truth.put(f)) {
                both.table.put(f, &touched);
            }
        }
        program_.remove_all();
        slots_ = put_all(both.table, &program_);
        executed_.clear();
        for (int i = 0; i < 60; i++) {
            run_packet(both.truth);
        }
        for (const auto &[id, slots] : slots_) {
            size_t n = 0;
            for (const FlowSlot slot : slots) {
                n += program_.table().stats(slot).packets;
            }
            EXPECT_EQ(n, executed_[id]) << to_string(id);
        }
    }

    size_t n_executed = 0, n_changed = 0, n_chained = 0;

private:
    static constexpr size_t kMaxFilters = 8, kEndless = 16;

    struct FlowWalkPair {
        unit::FlowerWalk truth;
        FilterTable table;
    };

    void run_packet(const unit::FlowerWalk &truth) {
        bool is_plain;
        const Frame in = draw_.packet(&is_plain);
        const Way way = walk(truth, in);
        const auto run = program_.run(in);
        const std::string what = flowxlate::test::hex(in);
        const bool all_in_xdp =
            std::ranges::all_of(way.filters, [&](const Filter *f) {
                return f && slots_.contains(f->id);
            });
        const bool may_be_left =
            !is_plain || way.filters.size() > kMaxFilters
            || std::ranges::any_of(way.filters, [&](const Filter *f) {
                   return f && (may_keep_drop_eligible(*f, in) || tracks(*f));
               });
        if (run.verdict == XDP_PASS) {
            EXPECT_EQ(run.out, in) << what;
            EXPECT_TRUE(!all_in_xdp || may_be_left) << what << " was left to TC";
            return;
        }
        ASSERT_TRUE(way.filters.back()) << what << ": TC has no filter for it";
        EXPECT_TRUE(std::ranges::none_of(
            way.filters, [](const Filter *f) { return tracks(*f); }));
        EXPECT_TRUE(all_in_xdp) << what;
        EXPECT_EQ(run.verdict, way.end.verdict) << what;
        if (way.end.verdict == XDP_REDIRECT) {
            EXPECT_EQ(flowxlate::test::hex(run.out),
                      flowxlate::test::hex(way.end.out));
        }
        for (const Filter *f : way.filters) {
            executed_[f->id]++;
        }
        n_executed++;
        n_changed += way.end.out != in;
        n_chained += way.filters.size() > 1;
    }

    // From chain to chain, until none says "goto chain" or there is no filter
    // (null).
    struct Way {
        std::vector<const Filter *> filters;
        Done end;
    };
    static Way walk(const unit::FlowerWalk &truth, const Frame &in) {
        Way way{{}, {XDP_PASS, in, 0}};
        do {
            Fields fields = dissect(way.end.out);
            fields.chain = way.end.chain;
            way.filters.push_back(truth.first(fields));
            if (!way.filters.back()) {
                way.end.verdict = XDP_PASS;
                return way;
            }
            way.end = execute(*way.filters.back(), way.end.out);
        } while (way.end.chain && way.filters.size() < kEndless);
        return way;
    }

    Draw draw_;
    Program &program_ = empty_program();
    Slots slots_;
    std::map<FilterId, size_t> executed_;
};

TEST(Flowerd, RandomFilters) {
    Comparison comparison(flowxlate::test::seed());
    for (int i = 0; i < 300 && !testing::Test::HasFailure(); i++) {
        SCOPED_TRACE("round " + std::to_string(i));
        comparison.round();
    }
    std::cout << comparison.n_executed << " of 18000 packets executed, "
              << comparison.n_changed << " of them changed, "
              << comparison.n_chained << " in several chains\n";
    EXPECT_GT(comparison.n_executed, 500U);
    EXPECT_GT(comparison.n_changed, 50U);
    EXPECT_GT(comparison.n_chained, 5U);
}

// -- One filter, one packet -------------------------------------------------

struct Row {
    const char *name;
    std::function<void(Filter *)> edit;  // Of one to 10.0.0.2, redirecting.
    Packet packet;
    uint32_t verdict;
};

Packet tcp() {
    return Packet().eth(ETH_P_IP).ipv4(kTcp).tcp(1000, 80).payload(20);
}

void match_port(Filter *f, uint8_t proto, uint16_t port) {
    f->match.key.ip_proto = proto;
    f->match.mask.ip_proto = 0xff;
    f->match.key.tp_dst = htons(port);
    f->match.mask.tp_dst = 0xffff;
}

// UDP over IPv6 to fc00::2, which goes on to another address.
void translate_ipv6(Filter *f) {
    f->match.key.protocol = f->match.key.eth_type = htons(ETH_P_IPV6);
    f->match.key.src = f->match.mask.src = {};
    f->match.key.dst[15] = 2;
    f->match.mask.dst[15] = 0xff;
    f->match.key.ip_proto = kUdp;
    f->match.mask.ip_proto = 0xff;
    Action set = action(Action::kSetBytes), sum = action(Action::kSum);
    set.header = Header::kNetwork;
    set.offset = 36;
    set.value[3] = 9;
    set.mask[3] = 0xff;
    sum.sums = 16;
    f->actions = {set, sum, action(Action::kRedirect)};
}

Packet udp6() {
    return Packet().eth(ETH_P_IPV6).ipv6(kUdp).udp(1000, 80).payload(20);
}

void match_tag(Filter *f, uint16_t tpid) {
    f->match.key.protocol = htons(tpid);
    f->match.key.vlan_eth_type = htons(ETH_P_IP);
    f->match.mask.vlan_eth_type = 0xffff;
}

void match_two_tags(Filter *f, uint16_t outer, uint16_t inner) {
    match_tag(f, outer);
    f->match.key.vlan_eth_type = htons(inner);
    f->match.key.cvlan_eth_type = htons(ETH_P_IP);
    f->match.mask.cvlan_eth_type = 0xffff;
}

Action modified_tag() {
    Action a = action(Action::kModifyVlan);
    a.tpid = htons(kQ);
    a.vlan_id = 7;
    a.vlan_prio = 1;
    return a;
}

const Row kRows[] = {
    {"to the address", [](Filter *) {}, tcp(), XDP_REDIRECT},
    {"to another one", [](Filter *) {},
     tcp().poke(ETH_HLEN + 19, 3), XDP_PASS},
    {"drop", [](Filter *f) { f->actions = {action(Action::kDrop)}; }, tcp(),
     XDP_DROP},
    {"protocol ip is of packets without a tag", [](Filter *) {},
     Packet().eth(kQ).vlan(5, ETH_P_IP).ipv4(kTcp).tcp(1, 2).payload(20),
     XDP_PASS},
    {"nor of priority-tagged ones", [](Filter *) {},
     Packet().eth(kQ).vlan(0, ETH_P_IP).ipv4(kTcp).tcp(1, 2).payload(20),
     XDP_PASS},
    {"protocol 802.1Q is of packets with one",
     [](Filter *f) { match_tag(f, kQ); },
     Packet().eth(kQ).vlan(5, ETH_P_IP).ipv4(kTcp).tcp(1, 2).payload(20),
     XDP_REDIRECT},
    {"and not with none", [](Filter *f) { match_tag(f, kQ); }, tcp(),
     XDP_PASS},
    {"nor with one of 802.1ad", [](Filter *f) { match_tag(f, kQ); },
     Packet().eth(kAd).vlan(5, ETH_P_IP).ipv4(kTcp).tcp(1, 2).payload(20),
     XDP_PASS},
    {"nor with two", [](Filter *f) { match_tag(f, kQ); },
     Packet()
         .eth(kQ)
         .vlan(5, kQ)
         .vlan(6, ETH_P_IP)
         .ipv4(kTcp)
         .tcp(1, 2)
         .payload(20),
     XDP_PASS},
    {"with two, where two are compared",
     [](Filter *f) { match_two_tags(f, kAd, kQ); },
     Packet().eth(kAd).vlan(5, kQ).vlan(6, ETH_P_IP).ipv4(kTcp).tcp(1, 2).payload(20), XDP_REDIRECT},
    {"and not of another type inside",
     [](Filter *f) { match_two_tags(f, kAd, kQ); },
     Packet().eth(kAd).vlan(5, kAd).vlan(6, ETH_P_IP).ipv4(kTcp).tcp(1, 2).payload(20), XDP_PASS},
    {"nor with one", [](Filter *f) { match_two_tags(f, kAd, kQ); },
     Packet().eth(kAd).vlan(5, ETH_P_IP).ipv4(kTcp).tcp(1, 2).payload(20),
     XDP_PASS},
    {"another tag in the second one's place",
     [](Filter *f) {
         match_two_tags(f, kAd, kQ);
         f->actions = {action(Action::kPopVlan), modified_tag(),
                       action(Action::kRedirect)};
     },
     Packet().eth(kAd).vlan(5, kQ).vlan(6, ETH_P_IP).ipv4(kTcp).tcp(1, 2).payload(20), XDP_REDIRECT},
    {"of which TC keeps the drop eligible bit",
     [](Filter *f) {
         match_two_tags(f, kAd, kQ);
         f->actions = {action(Action::kPopVlan), modified_tag(),
                       action(Action::kRedirect)};
     },
     Packet().eth(kAd).vlan(5, kQ).vlan(0x1006, ETH_P_IP).ipv4(kTcp).tcp(1, 2).payload(20), XDP_PASS},
    {"a port", [](Filter *f) { match_port(f, kTcp, 80); }, tcp(),
     XDP_REDIRECT},
    {"a port of a first fragment, where TC sees none",
     [](Filter *f) { match_port(f, kTcp, 80); },
     Packet().eth(ETH_P_IP).ipv4(kTcp, 0x2000).tcp(1000, 80).payload(20),
     XDP_PASS},
    {"port 0 of a later fragment, which is TC's",
     [](Filter *f) { match_port(f, kTcp, 0); },
     Packet().eth(ETH_P_IP).ipv4(kTcp, 100).payload(20), XDP_PASS},
    {"a first fragment", [](Filter *) {},
     Packet().eth(ETH_P_IP).ipv4(kTcp, 0x2000).tcp(1000, 80).payload(20),
     XDP_REDIRECT},
    {"a first fragment, where none is wanted",
     [](Filter *f) { f->match.mask.flags = htonl(1); },
     Packet().eth(ETH_P_IP).ipv4(kTcp, 0x2000).tcp(1000, 80).payload(20),
     XDP_PASS},
    {"options", [](Filter *) {},
     Packet().eth(ETH_P_IP).ipv4(kTcp, 0, 4).tcp(1000, 80).payload(20),
     XDP_PASS},
    {"to another address", translate_ipv6, udp6(), XDP_REDIRECT},
    {"the same without a checksum, for which TC makes one", translate_ipv6,
     udp6().no_checksum(), XDP_PASS},
    {"the same with a wrong one, which TC makes right", translate_ipv6,
     udp6().poke(ETH_HLEN + 46, 1), XDP_PASS},
    {"MPLS in IP, which for TC is no IP", [](Filter *) {},
     Packet().eth(ETH_P_IP).ipv4(kMplsInIp).payload(20), XDP_PASS},
    {"a fragment of it is, and goes to TC all the same", [](Filter *) {},
     Packet().eth(ETH_P_IP).ipv4(kMplsInIp, 0x2000).payload(20), XDP_PASS},
};

TEST(Flowerd, Rows) {
    Program &p = empty_program();
    for (const Row &row : kRows) {
        SCOPED_TRACE(row.name);
        Filter f;
        f.ifindex = kInDevice;
        f.match.key.protocol = f.match.key.eth_type = htons(ETH_P_IP);
        f.match.mask.protocol = f.match.mask.eth_type = 0xffff;
        f.match.key.ipv4_dst = {10, 0, 0, 2};
        f.match.mask.ipv4_dst = {0xff, 0xff, 0xff, 0xff};
        f.actions = {action(Action::kRedirect)};
        row.edit(&f);
        std::vector<Rule> rules;
        ASSERT_FALSE(translate(f, surroundings(), &rules));
        ASSERT_EQ(rules.size(), 1U);
        const FlowSlot slot = p.add(flow_of(rules[0]));
        const auto run = p.run(row.packet.bytes());
        EXPECT_EQ(run.verdict, row.verdict);
        EXPECT_EQ(p.table().stats(slot).packets, row.verdict != XDP_PASS);
        // What XDP executes TC would have, too.
        EXPECT_TRUE(run.verdict == XDP_PASS
                    || f.match.matches(dissect(row.packet.bytes())));
        p.remove_all();
    }
}

}  // namespace
}  // namespace flowerd::test
