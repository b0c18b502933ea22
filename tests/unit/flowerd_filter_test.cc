// SPDX-License-Identifier: Apache-2.0
// What the kernel tells of TC's filters, decoded: messages that came of tc's
// commands (flower_messages.txt), and others, attribute by attribute.
#include "flowerd/filter.h"

#include <gtest/gtest.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <linux/tc_act/tc_ct.h>
#include <linux/tc_act/tc_gact.h>
#include <linux/tc_act/tc_mirred.h>
#include <linux/tc_act/tc_vlan.h>
#include <netinet/in.h>

#include <array>
#include <fstream>
#include <functional>
#include <map>
#include <span>
#include <string>

#include "tests/unit/attrs.h"

namespace flowerd::unit {
namespace {

using flowxlate::unit::AttrList;
using flowxlate::unit::ByteVector;
using flowxlate::unit::from_hex;
using flowxlate::unit::to_hex;

// -- Filters in words -------------------------------------------------------

struct Member {
    const char *name;
    size_t at, size;
};
#define MEMBER(NAME) \
    { #NAME, offsetof(Fields, NAME), sizeof(Fields::NAME) }
constexpr Member kMembers[] = {
    MEMBER(protocol),   MEMBER(eth_type),
    MEMBER(eth_dst),    MEMBER(eth_src),
    MEMBER(vlan_id),    MEMBER(vlan_eth_type),
    MEMBER(vlan_prio),  MEMBER(ip_proto),
    MEMBER(ip_tos),     MEMBER(ip_ttl),
    MEMBER(src),        MEMBER(dst),
    MEMBER(tp_src),     MEMBER(tp_dst),
    MEMBER(tcp_flags),  MEMBER(icmp_type),
    MEMBER(icmp_code),  MEMBER(flags),
    MEMBER(arp_sip),    MEMBER(arp_tip),
    MEMBER(arp_sha),    MEMBER(arp_tha),
    MEMBER(arp_op),     MEMBER(ct_state),
    MEMBER(ct_zone),    MEMBER(ct_mark),
    MEMBER(ct_labels),  MEMBER(n_tags),
    MEMBER(ranges),     MEMBER(cvlan_id),
    MEMBER(cvlan_prio), MEMBER(cvlan_eth_type),
};

std::string hex_of(const Fields &f, const Member &m, size_t n) {
    return to_hex({reinterpret_cast<const std::byte *>(&f) + m.at, n});
}

// "protocol=0800/ffff ..."; of addresses, IPv4's two if no more is matched.
std::string to_string(const Match &match) {
    std::string s;
    for (const Member &m : kMembers) {
        const std::string mask = hex_of(match.mask, m, m.size);
        const auto last = mask.find_last_not_of('0');
        if (last == std::string::npos) {
            continue;
        }
        const size_t n = m.size == 16 && last < 16 ? 8 : m.size;
        s += std::string(s.empty() ? "" : " ") + m.name + "="
           + hex_of(match.key, m, n) + "/" + mask.substr(0, 2 * n);
    }
    auto add_range = [&](const char *name, const PortRange &r) {
        if (!(r == PortRange{})) {
            s += std::string(" ") + name + "=" + std::to_string(r.first) + "-"
               + std::to_string(r.last);
        }
    };
    add_range("src_ports", match.src_ports);
    add_range("dst_ports", match.dst_ports);
    return s;
}

std::string tag_of(const Action &a) {
    return std::to_string(ntohs(a.tpid)) + " " + std::to_string(a.vlan_id)
         + " " + (a.keeps_prio ? "-" : std::to_string(a.vlan_prio));
}

// "network+8 05000000/ff000000".
std::string bytes_of(const Action &a) {
    static constexpr const char *kHeaders[] = {"eth", "network", "tcp", "udp"};
    auto hex = [](const std::array<uint8_t, 4> &bytes) {
        return to_hex(std::as_bytes(std::span(bytes)));
    };
    return std::string(kHeaders[static_cast<int>(a.header)]) + "+"
         + std::to_string(a.offset) + " " + hex(a.value) + "/" + hex(a.mask);
}

// "track 7 commit nat 6/7 label 01.../ff...", as far as it is there.
std::string tracking_of(const Tracking &ct) {
    auto hex = [](const std::array<uint8_t, 16> &bytes) {
        return to_hex(std::as_bytes(std::span(bytes)));
    };
    std::string s = "track " + std::to_string(ct.zone);
    s += ct.commits ? " commit" : "";
    s += ct.translates ? " nat" : "";
    if (ct.mark_mask) {
        s +=
            " " + std::to_string(ct.mark) + "/" + std::to_string(ct.mark_mask);
    }
    return ct.labels_mask == decltype(ct.labels_mask){}
             ? s
             : s + " label " + hex(ct.labels) + "/" + hex(ct.labels_mask);
}

std::string to_string(const Action &a) {
    switch (a.kind) {
        case Action::kDrop:
            return "drop";
        case Action::kPass:
            return "pass";
        case Action::kRedirect:
            return "redirect " + std::to_string(index(a.ifindex));
        case Action::kMirror:
            return "mirror " + std::to_string(index(a.ifindex));
        case Action::kPushVlan:
            return "push " + tag_of(a);
        case Action::kModifyVlan:
            return "modify " + tag_of(a);
        case Action::kSetBytes:
            return "set " + bytes_of(a);
        case Action::kAddBytes:
            return "add " + bytes_of(a);
        case Action::kGotoChain:
            return "goto " + std::to_string(a.chain);
        case Action::kSum:
            return "sum " + std::to_string(a.sums);
        case Action::kPopVlan:
            return "pop";
        case Action::kTrack:
            return tracking_of(a.ct);
        case Action::kUntrack:
            return "untrack";
    }
    return "?";
}

std::string to_string(const Filter &f) {
    std::string s = flowerd::to_string(f.id) + ": " + to_string(f.match) + ":";
    for (const Action &a : f.actions) {
        s += " " + to_string(a);
    }
    return s + (f.is_opaque ? " opaque" : "")
         + (f.why_not ? " " + f.why_not.name() : "");
}

// -- Messages of the kernel's -----------------------------------------------

// By command.
std::map<std::string, ByteVector> read_messages() {
    std::map<std::string, ByteVector> messages;
    std::ifstream file(SOURCE_DIR "/tests/unit/flower_messages.txt");
    std::string command;
    for (std::string line; std::getline(file, line);) {
        if (line.starts_with("$ ")) {
            command = line.substr(2);
        } else if (!line.starts_with("#") && !command.empty()) {
            const ByteVector more = from_hex(line);
            auto &message = messages[command];
            message.insert(message.end(), more.begin(), more.end());
        }
    }
    return messages;
}

struct Told {
    std::string command;  // Behind "tc filter".
    const char *filter;
};

const Told kTold[] = {
    {"add dev p1 ingress pref 10 protocol ip flower dst_ip 10.0.0.2 action "
     "mirred egress redirect dev p2",
     "pref 10 handle 0x1: protocol=0800/ffff eth_type=0800/ffff "
     "src=000000000a000002/00000000ffffffff: redirect 3"},
    {"add dev p1 ingress pref 11 protocol ip flower ip_proto tcp dst_port 80 "
     "src_port 1000/0xff00 tcp_flags 2/2 action drop",
     "pref 11 handle 0x1: protocol=0800/ffff eth_type=0800/ffff "
     "ip_proto=06/ff tp_src=0300/ff00 tp_dst=0050/ffff tcp_flags=0002/0002: "
     "drop"},
    {"add dev p1 ingress pref 12 protocol 802.1Q flower vlan_id 5 vlan_prio 3 "
     "vlan_ethtype ip ip_proto udp dst_port 53 action vlan pop pipe action "
     "mirred egress redirect dev p2",
     "pref 12 handle 0x1: protocol=8100/ffff eth_type=0800/ffff "
     "vlan_id=0500/ff0f vlan_eth_type=0800/ffff vlan_prio=03/07 "
     "ip_proto=11/ff tp_dst=0035/ffff: pop redirect 3"},
    {"add dev p1 ingress pref 13 protocol ipv6 flower src_ip fc00::/64 "
     "ip_proto icmpv6 type 128 code 0 action ok",
     "pref 13 handle 0x1: protocol=86dd/ffff eth_type=86dd/ffff "
     "ip_proto=3a/ff src=fc00000000000000/ffffffffffffffff icmp_type=80/ff "
     "icmp_code=00/ff: pass"},
    {"add dev p1 ingress pref 14 protocol ip flower skip_hw ip_flags nofrag "
     "ip_tos 4 ip_ttl 64 dst_mac 02:00:00:00:00:02 action vlan push id 7 "
     "priority 2 protocol 802.1ad pipe action mirred egress mirror dev p2 "
     "pipe action drop",
     "pref 14 handle 0x1: protocol=0800/ffff eth_type=0800/ffff "
     "eth_dst=020000000002/ffffffffffff ip_tos=04/ff ip_ttl=40/ff "
     "flags=00000000/00000001: push 34984 7 2 mirror 3 drop"},
    {"add dev p1 ingress pref 15 protocol ip flower dst_ip 0.0.0.0/0 action "
     "drop",
     "pref 15 handle 0x1: protocol=0800/ffff eth_type=0800/ffff: drop"},
    {"add dev p1 ingress pref 16 protocol ip flower ip_proto tcp dst_port "
     "10-20 action drop",
     "pref 16 handle 0x1: protocol=0800/ffff eth_type=0800/ffff "
     "ip_proto=06/ff ranges=00/02 dst_ports=10-20: drop"},
    {"add dev p1 ingress pref 45 protocol ip flower dst_ip 10.0.0.2 ip_proto "
     "udp dst_port 10-20 src_port 1000-2000 action drop",
     "pref 45 handle 0x1: protocol=0800/ffff eth_type=0800/ffff "
     "ip_proto=11/ff src=000000000a000002/00000000ffffffff ranges=00/03 "
     "src_ports=1000-2000 dst_ports=10-20: drop"},
    {"add dev p1 ingress pref 48 protocol ip flower dst_ip 10.0.0.2 ip_proto "
     "tcp dst_port 10-20 src_port 80 action drop",
     "pref 48 handle 0x1: protocol=0800/ffff: opaque key/port_range"},
    {"add dev p1 ingress pref 46 protocol 802.1ad flower vlan_id 5 "
     "vlan_ethtype 802.1q cvlan_id 6 cvlan_prio 3 cvlan_ethtype ip dst_ip "
     "10.0.0.2 action vlan pop pipe action mirred egress redirect dev p2",
     "pref 46 handle 0x1: protocol=88a8/ffff eth_type=0800/ffff "
     "vlan_id=0500/ff0f vlan_eth_type=8100/ffff "
     "src=000000000a000002/00000000ffffffff cvlan_id=0600/ff0f "
     "cvlan_prio=03/07 cvlan_eth_type=0800/ffff: pop redirect 3"},
    {"add dev p1 ingress pref 49 protocol 802.1q flower num_of_vlans 1 "
     "vlan_id 5 vlan_ethtype ip dst_ip 10.0.0.2 action drop",
     "pref 49 handle 0x1: protocol=8100/ffff eth_type=0800/ffff "
     "vlan_id=0500/ff0f vlan_eth_type=0800/ffff "
     "src=000000000a000002/00000000ffffffff n_tags=01/ff: drop"},
    {"add dev p1 ingress pref 17 protocol all u32 match u32 0 0 action ok",
     "pref 17 handle 0x80000800: : opaque kind/not_flower"},
    {"add dev p1 ingress pref 18 protocol ip flower ct_state +trk action "
     "drop",
     "pref 18 handle 0x1: protocol=0800/ffff eth_type=0800/ffff "
     "ct_state=0800/0800: drop"},
    {"add dev p1 ingress pref 40 protocol ip flower dst_ip 10.0.0.2 ct_state "
     "-trk action ct zone 7 nat pipe action goto chain 8",
     "pref 40 handle 0x1: protocol=0800/ffff eth_type=0800/ffff "
     "src=000000000a000002/00000000ffffffff ct_state=0000/0800: track 7 nat "
     "goto 8"},
    {"add dev p1 ingress pref 41 protocol ip chain 8 flower ct_state "
     "+trk+est-rpl ct_zone 7 ct_mark 5/0xf ct_label "
     "00000000000000000000000000000102/000000000000000000000000000001ff "
     "action mirred egress redirect dev p2",
     "chain 8 pref 41 handle 0x1: protocol=0800/ffff eth_type=0800/ffff "
     "ct_state=0a00/2a00 ct_zone=0700/ffff ct_mark=05000000/0f000000 "
     "ct_labels=00000000000000000000000000000102/"
     "000000000000000000000000000001ff: redirect 3"},
    {"add dev p1 ingress pref 42 protocol ip chain 8 flower dst_ip 10.0.0.2 "
     "ct_state +trk+new action ct commit zone 7 mark 6/7 label "
     "0f000000000000000000000000000001/ff0000000000000000000000000000ff nat "
     "src addr 10.0.0.9 port 5000-5010 pipe action mirred egress redirect "
     "dev p2",
     "chain 8 pref 42 handle 0x1: protocol=0800/ffff eth_type=0800/ffff "
     "src=000000000a000002/00000000ffffffff ct_state=0900/0900: track 7 "
     "commit nat 6/7 label 0f000000000000000000000000000001/"
     "ff0000000000000000000000000000ff redirect 3"},
    {"add dev p1 ingress pref 43 protocol ip flower dst_ip 10.0.0.2 action "
     "ct clear pipe action ct commit force zone 7 pipe action drop",
     "pref 43 handle 0x1: protocol=0800/ffff eth_type=0800/ffff "
     "src=000000000a000002/00000000ffffffff: untrack action/ct_force"},
    {"add dev p1 ingress pref 44 protocol ip flower dst_ip 10.0.0.2 action "
     "ct clear pipe action drop",
     "pref 44 handle 0x1: protocol=0800/ffff eth_type=0800/ffff "
     "src=000000000a000002/00000000ffffffff: untrack drop"},
    {"add dev p1 ingress pref 19 protocol ip flower action goto chain 5",
     "pref 19 handle 0x1: protocol=0800/ffff eth_type=0800/ffff: goto 5"},
    {"add dev p1 ingress pref 21 protocol ip flower action pedit ex munge ip "
     "ttl set 5 pipe action csum ip pipe action mirred egress redirect dev p2",
     "pref 21 handle 0x1: protocol=0800/ffff eth_type=0800/ffff: "
     "set network+8 05000000/ff000000 sum 1 redirect 3"},
    {"add dev p1 ingress pref 30 protocol ip flower dst_ip 10.0.0.2 ip_proto "
     "tcp action pedit ex munge eth dst set 02:00:00:00:00:09 munge eth src "
     "set 02:00:00:00:00:08 munge ip dst set 10.0.0.9 munge ip ttl set 63 "
     "munge ip tos set 4 retain 0xfc munge tcp dport set 81 pipe action csum "
     "ip4h and tcp pipe action mirred egress redirect dev p2",
     "pref 30 handle 0x1: protocol=0800/ffff eth_type=0800/ffff "
     "ip_proto=06/ff src=000000000a000002/00000000ffffffff: "
     "set eth+0 02000000/ffffffff set eth+4 00090000/ffff0000 "
     "set eth+4 00000200/0000ffff set eth+8 00000008/ffffffff "
     "set network+16 0a000009/ffffffff set network+8 3f000000/ff000000 "
     "set network+0 00040000/00fc0000 set tcp+0 00000051/0000ffff sum 9 "
     "redirect 3"},
    {"add dev p1 ingress pref 31 protocol ip flower dst_ip 10.0.0.2 ip_ttl 64 "
     "action pedit ex munge ip ttl dec pipe action csum ip4h pipe action "
     "mirred egress redirect dev p2",
     "pref 31 handle 0x1: protocol=0800/ffff eth_type=0800/ffff "
     "ip_ttl=40/ff src=000000000a000002/00000000ffffffff: add network+8 "
     "ff000000/ff000000 sum 1 redirect 3"},
    {"add dev p1 ingress pref 33 protocol ip flower dst_ip 10.0.0.2 ip_proto "
     "udp action pedit munge ip ttl set 5 munge ip sport set 53 munge ip dst "
     "set 10.0.0.8 pipe action csum ip4h and udp pipe action mirred egress "
     "redirect dev p2",
     "pref 33 handle 0x1: protocol=0800/ffff eth_type=0800/ffff "
     "ip_proto=11/ff src=000000000a000002/00000000ffffffff: set "
     "network+8 05000000/ff000000 set network+20 00350000/ffff0000 set "
     "network+16 0a000008/ffffffff sum 17 redirect 3"},
    {"add dev p1 ingress pref 34 protocol ipv6 flower dst_ip fc00::2 ip_proto "
     "udp action pedit ex munge ip6 dst set fc00::9 munge ip6 hoplimit set 7 "
     "munge ip6 traffic_class set 0x20 munge ip6 flow_lbl set 0x12345 munge "
     "udp sport set 99 pipe action csum udp pipe action mirred egress "
     "redirect dev p2",
     "pref 34 handle 0x1: protocol=86dd/ffff eth_type=86dd/ffff "
     "ip_proto=11/ff "
     "dst=fc000000000000000000000000000002/ffffffffffffffffffffffffffffffff: "
     "set network+24 fc000000/ffffffff set network+28 00000000/ffffffff "
     "set network+32 00000000/ffffffff set network+36 00000009/ffffffff "
     "set network+4 00000007/000000ff set network+0 02000000/0ff00000 "
     "set network+0 00012345/0007ffff set udp+0 00630000/ffff0000 sum "
     "16 redirect 3"},
    {"add dev p1 ingress pref 35 protocol 802.1q flower vlan_id 5 vlan_prio 3 "
     "vlan_ethtype ip dst_ip 10.0.0.2 action vlan modify id 7 pipe action "
     "vlan modify id 8 priority 1 protocol 802.1ad pipe action mirred egress "
     "redirect dev p2",
     "pref 35 handle 0x1: protocol=8100/ffff eth_type=0800/ffff "
     "vlan_id=0500/ff0f vlan_eth_type=0800/ffff vlan_prio=03/07 "
     "src=000000000a000002/00000000ffffffff: modify 33024 7 - modify "
     "34984 8 1 redirect 3"},
    {"del dev p1 ingress pref 10 handle 1 protocol ip flower",
     "pref 10 handle 0x1: protocol=0800/ffff eth_type=0800/ffff "
     "src=000000000a000002/00000000ffffffff: drop"},
    {"del dev p1 ingress pref 12 protocol 802.1Q",
     "pref 12 handle 0x0: protocol=8100/ffff:"},
};

TEST(FlowerdFilter, OfTheKernel) {
    const auto messages = read_messages();
    for (const Told &row : kTold) {
        SCOPED_TRACE(row.command);
        const auto message = messages.find("tc filter " + row.command);
        ASSERT_NE(message, messages.end());
        Filter f;
        ASSERT_FALSE(decode_filter(message->second, &f));
        EXPECT_EQ(to_string(f), row.filter);
        EXPECT_EQ(index(f.ifindex), 2);
        EXPECT_EQ(f.parent, TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS));
        EXPECT_EQ(f.has_options, f.id.handle != 0);
        EXPECT_TRUE(f.in_software);
    }
}

TEST(FlowerdFilter, OfAnotherChain) {
    Filter f;
    ASSERT_FALSE(decode_filter(
        read_messages().at("tc filter add dev p1 ingress pref 22 protocol ip "
                           "chain 3 flower action drop"),
        &f));
    EXPECT_EQ(f.id.chain, 3U);
    EXPECT_EQ(f.match.key.chain, 3U);
    EXPECT_EQ(f.match.mask.chain, UINT32_MAX);
    EXPECT_EQ(flowerd::to_string(f.id), "chain 3 pref 22 handle 0x1");
}

// What is cut off is never taken for a filter that says less.
TEST(FlowerdFilter, CutOff) {
    for (const auto &[command, message] : read_messages()) {
        for (size_t n = 0; n < message.size(); n++) {
            Filter f;
            EXPECT_TRUE(decode_filter(Bytes(message).first(n), &f))
                << command << ", " << n << " bytes";
        }
    }
}

// -- Messages by hand -------------------------------------------------------

struct Header {
    nlmsghdr nlh;
    tcmsg tcm;
};

ByteVector message_of(const std::function<void(AttrList &)> &options,
                      int ifindex = 2, uint16_t protocol = ETH_P_IP) {
    AttrList attrs;
    attrs.put_hex(TCA_KIND, "666c6f77657200");
    attrs.put<uint32_t>(TCA_CHAIN, 0);
    attrs.nest(TCA_OPTIONS, options);
    Header h{};
    h.nlh.nlmsg_len = sizeof h + attrs.bytes().size();
    h.nlh.nlmsg_type = RTM_NEWTFILTER;
    h.tcm.tcm_ifindex = ifindex;
    h.tcm.tcm_handle = 1;
    h.tcm.tcm_info = TC_H_MAKE(1 << 16, htons(protocol));
    const Bytes header = flowxlate::unit::bytes_of(h);
    ByteVector m(header.begin(), header.end());
    m.insert(m.end(), attrs.bytes().begin(), attrs.bytes().end());
    return m;
}

// An action with its options.
void put_action(
    AttrList &list, uint16_t order, std::string_view kind_in_hex,
    const std::function<void(AttrList &)> &options,
    const std::function<void(AttrList &)> &more = [](auto &) {}) {
    list.nest(order, [&](AttrList &action) {
        action.put_hex(TCA_ACT_KIND, kind_in_hex);
        action.nest(TCA_ACT_OPTIONS, options);
        more(action);
    });
}

constexpr const char *kGact = "6761637400", *kMirred = "6d697272656400",
                     *kVlanAction = "766c616e00", *kCtAction = "637400";

void put_gact(
    AttrList &list, uint16_t order, int verdict,
    const std::function<void(AttrList &)> &more = [](auto &) {}) {
    put_action(
        list, order, kGact,
        [&](AttrList &o) {
            tc_gact parms{};
            parms.action = verdict;
            o.put(TCA_GACT_PARMS, parms);
        },
        more);
}

void put_mirred(AttrList &list, uint16_t order, int what, int verdict) {
    put_action(list, order, kMirred, [&](AttrList &o) {
        tc_mirred parms{};
        parms.eaction = what;
        parms.action = verdict;
        parms.ifindex = 3;
        o.put(TCA_MIRRED_PARMS, parms);
    });
}

void put_ct(
    AttrList &list, uint16_t order, uint16_t flags,
    const std::function<void(AttrList &)> &more = [](auto &) {}) {
    put_action(list, order, kCtAction, [&](AttrList &o) {
        tc_ct parms{};
        parms.action = TC_ACT_PIPE;
        o.put(TCA_CT_PARMS, parms);
        o.put(TCA_CT_ACTION, flags);
        more(o);
    });
}

void put_vlan(
    AttrList &list, uint16_t order, int what,
    const std::function<void(AttrList &)> &more = [](auto &) {}) {
    put_action(list, order, kVlanAction, [&](AttrList &o) {
        tc_vlan parms{};
        parms.action = TC_ACT_PIPE;
        parms.v_action = what;
        o.put(TCA_VLAN_PARMS, parms);
        more(o);
    });
}

struct Actions {
    const char *name;
    std::function<void(AttrList &)> list;
    const char *decoded;
};

const Actions kActions[] = {
    {"none", [](AttrList &) {}, " pass"},
    {"drop", [](AttrList &l) { put_gact(l, 1, TC_ACT_SHOT); }, " drop"},
    {"ok", [](AttrList &l) { put_gact(l, 1, TC_ACT_OK); }, " pass"},
    {"pipe, and nothing", [](AttrList &l) { put_gact(l, 1, TC_ACT_PIPE); },
     " pass"},
    {"pipe, and drop",
     [](AttrList &l) {
         put_gact(l, 1, TC_ACT_PIPE);
         put_gact(l, 2, TC_ACT_SHOT);
     },
     " drop"},
    {"ok ends the list",
     [](AttrList &l) {
         put_gact(l, 1, TC_ACT_OK);
         put_gact(l, 2, TC_ACT_SHOT);
     },
     " pass"},
    {"continue", [](AttrList &l) { put_gact(l, 1, TC_ACT_UNSPEC); },
     " action/verdict"},
    {"reclassify", [](AttrList &l) { put_gact(l, 1, TC_ACT_RECLASSIFY); },
     " action/verdict"},
    {"goto chain", [](AttrList &l) { put_gact(l, 1, TC_ACT_GOTO_CHAIN | 7); },
     " goto 7"},
    {"goto chain, of an action that other filters have",
     [](AttrList &l) {
         put_action(l, 1, kGact, [](AttrList &o) {
             tc_gact parms{};
             parms.action = TC_ACT_GOTO_CHAIN | 7;
             parms.bindcnt = 2;
             o.put(TCA_GACT_PARMS, parms);
         });
     },
     " action/goto_chain"},
    {"jump", [](AttrList &l) { put_gact(l, 1, TC_ACT_JUMP | 1); },
     " action/verdict"},
    {"drop, at random",
     [](AttrList &l) {
         put_action(l, 1, kGact, [](AttrList &o) {
             o.put(TCA_GACT_PARMS, tc_gact{0, 0, TC_ACT_SHOT, 0, 0});
             o.put(TCA_GACT_PROB, tc_gact_p{});
         });
     },
     " action/gact_probability"},
    {"drop, in hardware",
     [](AttrList &l) {
         put_gact(l, 1, TC_ACT_SHOT, [](AttrList &a) {
             a.put(TCA_ACT_FLAGS, nla_bitfield32{4, 4});
         });
     },
     " action/flags"},
    {"drop, without counters for each CPU",
     [](AttrList &l) {
         put_gact(l, 1, TC_ACT_SHOT, [](AttrList &a) {
             a.put(TCA_ACT_FLAGS, nla_bitfield32{1, 1});
         });
     },
     " drop"},
    {"redirect",
     [](AttrList &l) { put_mirred(l, 1, TCA_EGRESS_REDIR, TC_ACT_STOLEN); },
     " redirect 3"},
    {"redirect, and go on",
     [](AttrList &l) { put_mirred(l, 1, TCA_EGRESS_REDIR, TC_ACT_PIPE); },
     " action/mirred"},
    {"redirect to the ingress",
     [](AttrList &l) { put_mirred(l, 1, TCA_INGRESS_REDIR, TC_ACT_STOLEN); },
     " action/mirred_ingress"},
    {"mirror, and pass",
     [](AttrList &l) { put_mirred(l, 1, TCA_EGRESS_MIRROR, TC_ACT_PIPE); },
     " mirror 3 pass"},
    {"pop, and redirect",
     [](AttrList &l) {
         put_vlan(l, 1, TCA_VLAN_ACT_POP);
         put_mirred(l, 2, TCA_EGRESS_REDIR, TC_ACT_STOLEN);
     },
     " pop redirect 3"},
    {"push, and drop",
     [](AttrList &l) {
         put_vlan(l, 1, TCA_VLAN_ACT_PUSH, [](AttrList &o) {
             o.put<uint16_t>(TCA_VLAN_PUSH_VLAN_ID, 7);
         });
         put_gact(l, 2, TC_ACT_SHOT);
     },
     " push 33024 7 0 drop"},
    {"push without an id",
     [](AttrList &l) { put_vlan(l, 1, TCA_VLAN_ACT_PUSH); },
     " malformed/vlan"},
    {"modify",
     [](AttrList &l) {
         put_vlan(l, 1, TCA_VLAN_ACT_MODIFY, [](AttrList &o) {
             o.put<uint16_t>(TCA_VLAN_PUSH_VLAN_ID, 7);
         });
     },
     " modify 33024 7 - pass"},
    {"push of a MAC header",
     [](AttrList &l) { put_vlan(l, 1, TCA_VLAN_ACT_PUSH_ETH); },
     " action/vlan_eth"},
    {"ct", [](AttrList &l) { put_ct(l, 1, 0); }, " track 0 pass"},
    {"ct of a zone, with a translation",
     [](AttrList &l) {
         put_ct(l, 1, TCA_CT_ACT_NAT,
                [](AttrList &o) { o.put<uint16_t>(TCA_CT_ZONE, 7); });
     },
     " track 7 nat pass"},
    {"a mark without commit, which sets none",
     [](AttrList &l) {
         put_ct(l, 1, 0, [](AttrList &o) {
             o.put<uint32_t>(TCA_CT_MARK, 6);
             o.put<uint32_t>(TCA_CT_MARK_MASK, 7);
         });
     },
     " track 0 pass"},
    {"a mark with bits that its mask has not, and TC sets",
     [](AttrList &l) {
         put_ct(l, 1, TCA_CT_ACT_COMMIT, [](AttrList &o) {
             o.put<uint32_t>(TCA_CT_MARK, 9);
             o.put<uint32_t>(TCA_CT_MARK_MASK, 3);
         });
     },
     " track 0 commit 9/11 pass"},
    {"a label with such bits, which TC inverts",
     [](AttrList &l) {
         put_ct(l, 1, TCA_CT_ACT_COMMIT, [](AttrList &o) {
             o.put_hex(TCA_CT_LABELS, "02000000000000000000000000000000");
             o.put_hex(TCA_CT_LABELS_MASK, "01000000000000000000000000000000");
         });
     },
     " action/ct_labels"},
    {"a mark of two bytes",
     [](AttrList &l) {
         put_ct(l, 1, TCA_CT_ACT_COMMIT, [](AttrList &o) {
             o.put<uint16_t>(TCA_CT_MARK, 6);
             o.put<uint32_t>(TCA_CT_MARK_MASK, 7);
         });
     },
     " malformed/ct"},
    {"a helper",
     [](AttrList &l) {
         put_ct(l, 1, TCA_CT_ACT_COMMIT,
                [](AttrList &o) { o.put_hex(TCA_CT_PAD + 1, "66747000"); });
     },
     " action/ct_helper"},
    {"ct of a kind that is not known", [](AttrList &l) { put_ct(l, 1, 0x40); },
     " action/ct"},
    {"skbedit",
     [](AttrList &l) { put_action(l, 1, "736b6265646974", [](auto &) {}); },
     " action/skbedit"},
    {"an action that is not known",
     [](AttrList &l) { put_action(l, 1, "6e6577", [](auto &) {}); },
     " action/unknown"},
};

TEST(FlowerdFilter, Actions) {
    for (const Actions &row : kActions) {
        SCOPED_TRACE(row.name);
        Filter f;
        ASSERT_FALSE(decode_filter(
            message_of([&](AttrList &o) { o.nest(TCA_FLOWER_ACT, row.list); }),
            &f));
        const std::string s = to_string(f);
        // What was there before the reason is no matter.
        EXPECT_TRUE(s.ends_with(row.decoded)) << s;
        EXPECT_FALSE(f.is_opaque);
    }
}

struct Options {
    const char *name;
    std::function<void(AttrList &)> put;
    const char *decoded;
    bool in_software = true;
};

// Each attribute that is not known makes the filter opaque.
const Options kOptions[] = {
    {"skip_sw", [](AttrList &o) { o.put<uint32_t>(TCA_FLOWER_FLAGS, 2); },
     ": pass flags/skip_sw", false},
    {"skip_hw", [](AttrList &o) { o.put<uint32_t>(TCA_FLOWER_FLAGS, 9); },
     ": pass"},
    {"a flag that is not known",
     [](AttrList &o) { o.put<uint32_t>(TCA_FLOWER_FLAGS, 0x100); },
     ": opaque flags/unknown"},
    {"that and skip_sw",
     [](AttrList &o) { o.put<uint32_t>(TCA_FLOWER_FLAGS, 0x102); },
     ": pass flags/unknown", false},
    {"an attribute that is not known",
     [](AttrList &o) { o.put<uint32_t>(TCA_FLOWER_MAX + 1, 0); },
     ": opaque key/unknown"},
    {"the device where packets enter",
     [](AttrList &o) { o.put_hex(TCA_FLOWER_INDEV, "703100"); },
     ": opaque key/indev"},
    {"a tunnel",
     [](AttrList &o) { o.put<uint32_t>(TCA_FLOWER_KEY_ENC_KEY_ID, 1); },
     ": opaque key/tunnel"},
    {"number of tags",
     [](AttrList &o) { o.put<uint8_t>(TCA_FLOWER_KEY_NUM_OF_VLANS, 1); },
     " n_tags=01/ff: pass"},
    {"a range of ports without a protocol",
     [](AttrList &o) {
         o.put<uint16_t>(TCA_FLOWER_KEY_PORT_DST_MIN, htons(1));
         o.put<uint16_t>(TCA_FLOWER_KEY_PORT_DST_MAX, htons(2));
     },
     ": opaque key/without_protocol"},
    {"one without an end",
     [](AttrList &o) {
         o.put<uint16_t>(TCA_FLOWER_KEY_PORT_DST_MIN, htons(1));
     },
     ": opaque malformed/key"},
    {"one that ends before it begins",
     [](AttrList &o) {
         o.put<uint16_t>(TCA_FLOWER_KEY_PORT_DST_MIN, htons(2));
         o.put<uint16_t>(TCA_FLOWER_KEY_PORT_DST_MAX, htons(1));
     },
     ": opaque malformed/key"},
    {"a second tag",
     [](AttrList &o) { o.put<uint16_t>(TCA_FLOWER_KEY_CVLAN_ID, 1); },
     ": opaque key/without_protocol"},
    {"ARP in a preference of IP",
     [](AttrList &o) { o.put<uint8_t>(TCA_FLOWER_KEY_ARP_OP, 1); },
     ": opaque key/without_protocol"},
    {"ports without a protocol",
     [](AttrList &o) { o.put<uint16_t>(TCA_FLOWER_KEY_TCP_DST, 1); },
     ": opaque key/without_protocol"},
    {"an address without a type",
     [](AttrList &o) { o.put<uint32_t>(TCA_FLOWER_KEY_IPV4_DST, 1); },
     ": opaque key/without_protocol"},
    {"a tag in a preference without",
     [](AttrList &o) { o.put<uint16_t>(TCA_FLOWER_KEY_VLAN_ID, 1); },
     ": opaque key/without_protocol"},
    {"fragments of a newer kernel",
     [](AttrList &o) {
         o.put<uint32_t>(TCA_FLOWER_KEY_FLAGS, htonl(4));
         o.put<uint32_t>(TCA_FLOWER_KEY_FLAGS_MASK, htonl(4));
     },
     ": opaque key/flags"},
    {"a connection's state of a newer kernel",
     [](AttrList &o) {
         o.put<uint16_t>(TCA_FLOWER_KEY_CT_STATE, 0x48);
         o.put<uint16_t>(TCA_FLOWER_KEY_CT_STATE_MASK, 0x48);
     },
     ": opaque key/ct_state"},
    {"a type of three bytes",
     [](AttrList &o) { o.put_hex(TCA_FLOWER_KEY_ETH_TYPE, "080000"); },
     ": opaque malformed/key"},
    {"a mask without a key",
     [](AttrList &o) {
         o.put_hex(TCA_FLOWER_KEY_ETH_DST_MASK, "ffffffffffff");
     },
     ": opaque malformed/key"},
};

TEST(FlowerdFilter, Options) {
    for (const Options &row : kOptions) {
        SCOPED_TRACE(row.name);
        Filter f;
        ASSERT_FALSE(decode_filter(message_of(row.put), &f));
        EXPECT_EQ(to_string(f),
                  std::string("pref 1 handle 0x1: protocol=0800/ffff")
                      + row.decoded);
        EXPECT_EQ(f.in_software, row.in_software);
    }
}

// Flower compares the bytes of masks, so these are one in its walk.
TEST(FlowerdFilter, MasksOfBothKindsOfAddresses) {
    auto put_types = [](AttrList &o, uint16_t type) {
        o.put<uint16_t>(TCA_FLOWER_KEY_ETH_TYPE, htons(type));
        o.put<uint16_t>(TCA_FLOWER_KEY_VLAN_ETH_TYPE, htons(type));
    };
    Filter v4, v6;
    ASSERT_FALSE(decode_filter(
        message_of(
            [&](AttrList &o) {
                put_types(o, ETH_P_IP);
                o.put_hex(TCA_FLOWER_KEY_IPV4_SRC, "0a000042");
                o.put_hex(TCA_FLOWER_KEY_IPV4_SRC_MASK, "ffffffff");
                o.put_hex(TCA_FLOWER_KEY_IPV4_DST, "0a000002");
                o.put_hex(TCA_FLOWER_KEY_IPV4_DST_MASK, "ffffffff");
            },
            2, ETH_P_8021Q),
        &v4));
    ASSERT_FALSE(
        decode_filter(message_of(
                          [&](AttrList &o) {
                              put_types(o, ETH_P_IPV6);
                              o.put_hex(TCA_FLOWER_KEY_IPV6_SRC,
                                        "20010db8000000000000000000000000");
                              o.put_hex(TCA_FLOWER_KEY_IPV6_SRC_MASK,
                                        "ffffffffffffffff0000000000000000");
                          },
                          2, ETH_P_8021Q),
                      &v6));
    EXPECT_FALSE(v4.is_opaque || v6.is_opaque);
    EXPECT_EQ(v4.match.mask, v6.match.mask) << to_string(v4);
    EXPECT_FALSE(v4.match.overlaps(v6.match));
}

TEST(FlowerdFilter, OfArp) {
    Filter f;
    ASSERT_FALSE(decode_filter(
        message_of(
            [](AttrList &o) {
                o.put<uint16_t>(TCA_FLOWER_KEY_ETH_TYPE, htons(ETH_P_ARP));
                o.put_hex(TCA_FLOWER_KEY_ARP_TIP, "0a000002");
                o.put_hex(TCA_FLOWER_KEY_ARP_TIP_MASK, "ffffff00");
                o.put<uint8_t>(TCA_FLOWER_KEY_ARP_OP, 1);
                o.put<uint8_t>(TCA_FLOWER_KEY_ARP_OP_MASK, 0xff);
                o.put_hex(TCA_FLOWER_KEY_ARP_SHA, "020000000001");
                o.put_hex(TCA_FLOWER_KEY_ARP_SHA_MASK, "ffffffffffff");
            },
            2, ETH_P_ARP),
        &f));
    EXPECT_EQ(to_string(f),
              "pref 1 handle 0x1: protocol=0806/ffff eth_type=0806/ffff "
              "arp_tip=0a000000/ffffff00 arp_sha=020000000001/ffffffffffff "
              "arp_op=01/ff: pass");
}

TEST(FlowerdFilter, OfSharedBlocks) {
    Filter f;
    ASSERT_FALSE(
        decode_filter(message_of([](AttrList &) {},
                                 static_cast<int>(TCM_IFINDEX_MAGIC_BLOCK)),
                      &f));
    EXPECT_TRUE(f.is_shared);
    ASSERT_FALSE(decode_filter(message_of([](AttrList &) {}), &f));
    EXPECT_FALSE(f.is_shared);
}

TEST(FlowerdFilter, OfAllProtocols) {
    Filter f;
    ASSERT_FALSE(
        decode_filter(message_of([](AttrList &) {}, 2, ETH_P_ALL), &f));
    EXPECT_EQ(to_string(f), "pref 1 handle 0x1: : pass");
}

}  // namespace
}  // namespace flowerd::unit
