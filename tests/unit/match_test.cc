// SPDX-License-Identifier: Apache-2.0
// decode_match(): attributes in, class and masked key out.
#include "flowxlate/translate/match.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>

#include <bit>
#include <cerrno>
#include <optional>
#include <random>
#include <set>

#include "tests/unit/attrs.h"
#include "tests/unit/field_names.h"

namespace flowxlate::unit {
namespace {

// From heap blocks of exactly the right size, for ASan.
Reject decode(Bytes key, Bytes mask, Match *match,
              DontFragment dont_fragment = DontFragment::kIsIgnored) {
    const ByteVector k(key.begin(), key.end());
    const ByteVector m(mask.begin(), mask.end());
    std::memset(static_cast<void *>(match), 0xee, sizeof *match);
    const Reject r = decode_match(k, m, match, dont_fragment);
    if (r) {
        const bool invalid = std::string_view(r.group) == "malformed";
        EXPECT_EQ(r.error, invalid ? EINVAL : EOPNOTSUPP) << r.name();
    } else {
        for (size_t i = 0; i < XF_KEY_WORDS; i++) {
            EXPECT_EQ(match->key.word[i] & ~match->mask.word[i], 0u)
                << "the key is not masked: word " << i;
        }
    }
    return r;
}

Reject decode(const Flow &f, Match *match,
              DontFragment dont_fragment = DontFragment::kIsIgnored) {
    return decode(Flow::encode(f.key).bytes(), Flow::encode(f.mask).bytes(),
                  match, dont_fragment);
}

// The bytes of struct xf_key, by name; what has no name is padding.
struct Member {
    const char *name;
    size_t offset, size;
};
#define MEMBER(NAME) \
    { #NAME, offsetof(xf_key, NAME), sizeof(xf_key::NAME) }
constexpr Member kCommonMembers[] = {
    MEMBER(eth_type),     MEMBER(vlan_tci),     MEMBER(vlan2_tci),
    MEMBER(tpids),        MEMBER(nw_frag),      MEMBER(dp_hash),
    MEMBER(eth_dst),      MEMBER(tcp_flags),    MEMBER(eth_src),
    MEMBER(nw_proto),     MEMBER(nw_tos),       MEMBER(nw_ttl),
    MEMBER(tp_src),       MEMBER(tp_dst),       MEMBER(ct_state),
    MEMBER(ct_zone),      MEMBER(ct_mark),      MEMBER(ct_label),
    MEMBER(tun_ipv6_src), MEMBER(tun_ipv6_dst), MEMBER(tun_id),
    MEMBER(tun_tos),      MEMBER(tun_ttl),      MEMBER(tun_flags),
    MEMBER(tun_family),   MEMBER(tun_option),
};
constexpr Member kArpMembers[] = {MEMBER(ipv4_src), MEMBER(ipv4_dst),
                                  MEMBER(arp_sha), MEMBER(arp_tha)};
constexpr Member kIpv4Members[] = {MEMBER(ipv4_src), MEMBER(ipv4_dst)};
constexpr Member kIpv6Members[] = {MEMBER(ipv6_label), MEMBER(ipv6_src),
                                   MEMBER(ipv6_dst),   MEMBER(nd_target),
                                   MEMBER(nd_sll),     MEMBER(nd_tll)};
constexpr Member kMplsMembers[] = {MEMBER(mpls_lse)};

std::vector<Member> members_of(xf_class cls) {
    std::vector<Member> members(std::begin(kCommonMembers),
                                std::end(kCommonMembers));
    std::span<const Member> more;
    if (cls == XF_CLASS_ARP) {
        more = kArpMembers;
    } else if (cls == XF_CLASS_IPV4) {
        more = kIpv4Members;
    } else if (cls == XF_CLASS_IPV6) {
        more = kIpv6Members;
    } else if (cls == XF_CLASS_MPLS) {
        more = kMplsMembers;
    }
    members.insert(members.end(), more.begin(), more.end());
    return members;
}

constexpr const char *kClasses[] = {"l2", "arp", "ipv4", "ipv6", "mpls"};
static_assert(std::size(kClasses) == XF_N_CLASSES);

// Each byte that is not zero in key or mask, as "member=key/mask", or as
// "byte<offset>=key/mask" where the class has no member.  How many tags there
// are is said by vlan_tci and vlan2_tci.
std::string describe(const Match &m) {
    std::string s = kClasses[m.cls];
    s += " port=" + std::to_string(index(m.in_port));
    if (m.recirc_id) {
        s += " recirc=" + std::to_string(m.recirc_id);
    }
    const auto present = htons(XF_VLAN_PRESENT);
    EXPECT_EQ(m.n_tags, ((m.key.vlan_tci & present) != 0)
                            + ((m.key.vlan2_tci & present) != 0));

    const Bytes key = bytes_of(m.key), mask = bytes_of(m.mask);
    std::set<size_t> seen;
    auto add = [&](const std::string &name, size_t offset, size_t size) {
        const auto k = to_hex(key.subspan(offset, size));
        const auto v = to_hex(mask.subspan(offset, size));
        if ((k + v).find_first_not_of('0') != k.npos) {
            s += " " + name + "=" + k + "/" + v;
        }
        for (size_t i = offset; i < offset + size; i++) {
            seen.insert(i);
        }
    };
    for (const Member &member : members_of(m.cls)) {
        add(member.name, member.offset, member.size);
    }
    for (size_t i = 0; i < sizeof m.key; i++) {
        if (!seen.contains(i)) {
            add("byte" + std::to_string(i), i, 1);
        }
    }
    return s;
}

std::string describe(const Flow &f,
                     DontFragment dont_fragment = DontFragment::kIsIgnored) {
    Match m;
    if (auto r = decode(f, &m, dont_fragment)) {
        return r.name();
    }
    return describe(m);
}

struct Row {
    const char *what;
    Flow flow;
    std::string expected;
};

void check(std::span<const Row> rows) {
    for (const Row &row : rows) {
        EXPECT_EQ(describe(row.flow), row.expected) << row.what;
    }
}

// What every flow of the class matches.
#define UNTAGGED " vlan_tci=0000/ffff"
#define L2 "l2 port=1 eth_type=88b5/ffff" UNTAGGED
#define ARP "arp port=1 eth_type=0806/ffff" UNTAGGED
#define IPV4_FRAG(FRAG) \
    "ipv4 port=1 eth_type=0800/ffff" UNTAGGED " nw_frag=" FRAG
#define IPV6_FRAG(FRAG) \
    "ipv6 port=1 eth_type=86dd/ffff" UNTAGGED " nw_frag=" FRAG
#define NOT_LATER "00/02"  // What a flow that does not care gets.
#define IPV4 IPV4_FRAG(NOT_LATER)
#define IPV6 IPV6_FRAG(NOT_LATER)
#define MPLS "mpls port=1 eth_type=8847/ffff" UNTAGGED
// ... and of an IP protocol.
#define TCP4 IPV4 " nw_proto=06/ff"
#define TCP6 IPV6 " nw_proto=06/ff"
// A flow of packets with one tag: class and type, TCI and mask.
#define ONE_TAG(CLASS, TYPE, TCI)                        \
    CLASS " port=1 eth_type=" TYPE "/ffff vlan_tci=" TCI \
          " vlan2_tci=0000/ffff tpids=00/01"

constexpr uint16_t kEthernet = OVS_KEY_ATTR_ETHERNET;
constexpr uint16_t kEthertype = OVS_KEY_ATTR_ETHERTYPE;
constexpr uint16_t kInPort = OVS_KEY_ATTR_IN_PORT;
constexpr uint16_t kVlan = OVS_KEY_ATTR_VLAN;
constexpr uint16_t kEncap = OVS_KEY_ATTR_ENCAP;
constexpr uint16_t kArp = OVS_KEY_ATTR_ARP;
constexpr uint16_t kIpv4 = OVS_KEY_ATTR_IPV4;
constexpr uint16_t kIpv6 = OVS_KEY_ATTR_IPV6;
constexpr uint16_t kTcp = OVS_KEY_ATTR_TCP;
constexpr uint16_t kTcpFlags = OVS_KEY_ATTR_TCP_FLAGS;
constexpr uint16_t kUdp = OVS_KEY_ATTR_UDP;
constexpr uint16_t kSctp = OVS_KEY_ATTR_SCTP;
constexpr uint16_t kIcmp = OVS_KEY_ATTR_ICMP;
constexpr uint16_t kIcmpv6 = OVS_KEY_ATTR_ICMPV6;
constexpr uint16_t kTunnel = OVS_KEY_ATTR_TUNNEL;
constexpr uint16_t kNd = OVS_KEY_ATTR_ND;
constexpr uint16_t kMpls = OVS_KEY_ATTR_MPLS;
constexpr uint16_t kRecircId = OVS_KEY_ATTR_RECIRC_ID;
constexpr uint16_t kDpHash = OVS_KEY_ATTR_DP_HASH;

TEST(DecodeMatch, Classes) {
    const Row rows[] = {
        {"experimental Ethernet type", l2(), L2},
        {"ARP", arp(), ARP},
        {"IPv4", ipv4(), IPV4},
        {"IPv6", ipv6(), IPV6},
        {"RARP is none of ours", on_port1("8035"),
         "l2 port=1 eth_type=8035/ffff" UNTAGGED},
        {"MPLS", on_port1("8847"), MPLS},
        {"MPLS, multicast", on_port1("8848"),
         "mpls port=1 eth_type=8848/ffff" UNTAGGED},
        {"LLDP", on_port1("88cc"), "l2 port=1 eth_type=88cc/ffff" UNTAGGED},
        {"another port", l2().match(kInPort, "00010000/ffffffff"),
         "l2 port=256 eth_type=88b5/ffff" UNTAGGED},
    };
    check(rows);
}

TEST(DecodeMatch, Ethernet) {
    const auto src = &ovs_key_ethernet::eth_src;
    const auto dst = &ovs_key_ethernet::eth_dst;
    const Row rows[] = {
        {"source", l2().match(kEthernet, src, "020000000001/ffffffffffff"),
         L2 " eth_src=020000000001/ffffffffffff"},
        {"destination",
         arp().match(kEthernet, dst, "020000000002/ffffffffffff"),
         ARP " eth_dst=020000000002/ffffffffffff"},
        {"both",
         ipv4()
             .match(kEthernet, src, "020000000001/ffffffffffff")
             .match(kEthernet, dst, "020000000002/ffffffffffff"),
         IPV4 " eth_dst=020000000002/ffffffffffff"
              " eth_src=020000000001/ffffffffffff"},
        {"multicast bit",
         ipv6().match(kEthernet, dst, "333300000001/010000000000"),
         IPV6 " eth_dst=010000000000/010000000000"},
        {"not multicast",
         ipv6().match(kEthernet, dst, "020000000001/010000000000"),
         IPV6 " eth_dst=000000000000/010000000000"},
        {"vendor part of the source",
         l2().match(kEthernet, src, "020304050607/ffffff000000"),
         L2 " eth_src=020304000000/ffffff000000"},
        {"no Ethernet attribute", l2().without(kEthernet), L2},
    };
    check(rows);
}

TEST(DecodeMatch, Vlan) {
    const auto src = &ovs_key_ipv4::ipv4_src;
    const Row rows[] = {
        {"whole tag", l2().in_vlan("1005/ffff"),
         ONE_TAG("l2", "88b5", "1005/ffff")},
        {"VID only", arp().in_vlan("b005/1fff"),
         ONE_TAG("arp", "0806", "1005/1fff")},
        {"priority only", ipv4().in_vlan("b005/f000"),
         ONE_TAG("ipv4", "0800", "b000/f000") " nw_frag=" NOT_LATER},
        {"part of the VID", ipv4().in_vlan("1ff5/100f"),
         ONE_TAG("ipv4", "0800", "1005/100f") " nw_frag=" NOT_LATER},
        {"any tag", ipv6().in_vlan("1005/1000"),
         ONE_TAG("ipv6", "86dd", "1000/1000") " nw_frag=" NOT_LATER},
        {"VID 0", ipv6().in_vlan("1000/1fff"),
         ONE_TAG("ipv6", "86dd", "1000/1fff") " nw_frag=" NOT_LATER},
        {"fields behind the tag",
         ipv4("06")
             .match(kIpv4, src, "0a000001/ffffff00")
             .match(kTcp, "00500000/ffff0000")
             .in_vlan("1005/1fff"),
         ONE_TAG("ipv4", "0800",
                 "1005/1fff") " nw_frag=" NOT_LATER
                              " nw_proto=06/ff tp_src=0050/ffff"
                              " ipv4_src=0a000000/ffffff00"},
        {"Ethernet addresses stay outside",
         ipv4("06")
             .match(kEthernet, &ovs_key_ethernet::eth_dst,
                    "020000000002/ffffffffffff")
             .in_vlan("1005/1fff"),
         ONE_TAG(
             "ipv4", "0800",
             "1005/1fff") " nw_frag=" NOT_LATER
                          " eth_dst=020000000002/ffffffffffff nw_proto=06/ff"},

        {"802.1ad", l2().in_vlan("1005/1fff", "88a8/ffff"),
         "l2 port=1 eth_type=88b5/ffff vlan_tci=1005/1fff"
         " vlan2_tci=0000/ffff tpids=01/01"},
        {"TPID of neither kind", l2().in_vlan("1005/1fff", "9100/ffff"),
         "match/vlan_tpid"},
        {"no TPID", l2().in_vlan("1005/1fff").without(kEthertype),
         "match/vlan_tpid"},
        {"any TPID", l2().in_vlan("1005/1fff").match(kEthertype, "8100/0000"),
         "match/vlan_tpid"},
        {"TPID not in the mask",
         l2().in_vlan("1005/1fff").key_only(kEthertype, "8100"),
         "match/vlan_tpid"},
        {"part of the TPID",
         l2().in_vlan("1005/1fff").match(kEthertype, "8100/ff00"),
         "match/vlan_tpid"},
        {"TCI 0: the tag was cut off", l2().in_vlan("0000/ffff"),
         "match/vlan_tci"},
        {"VID without the present bit", l2().in_vlan("0005/0fff"),
         "match/vlan_tci"},
        {"present bit not matched: it is all the same",
         l2().in_vlan("1005/0fff"),
         "l2 port=1 eth_type=88b5/ffff vlan_tci=1005/1fff"
         " vlan2_tci=0000/ffff tpids=00/01"},
        {"TCI not in the mask",
         l2().in_vlan("1005/1fff").key_only(kVlan, "1005"),
         "l2 port=1 eth_type=88b5/ffff vlan_tci=1000/1000"
         " vlan2_tci=0000/ffff tpids=00/01"},
        {"no ENCAP", l2().in_vlan("1005/1fff").without(kEncap),
         "match/vlan_tci"},
        {"no ENCAP in the key",
         l2().in_vlan("1005/1fff").mask_only(kEncap, ""), "match/vlan_tci"},
        {"no ENCAP in the mask",
         l2().in_vlan("1005/1fff").key_only(kEncap, ""), "match/vlan_tci"},
        {"empty ENCAP", l2().in_vlan("1005/1fff").match(kEncap, ""),
         "match/eth_type"},
        {"no Ethernet type in ENCAP",
         l2().without(kEthertype).in_vlan("1005/1fff"), "match/eth_type"},
        {"second tag in the mask only",
         l2().mask_only(kVlan, "ffff").in_vlan("1005/1fff"), "match/vlan"},
        {"a tag without its attributes", on_port1("8100"), "match/eth_type"},
        {"a tag of the other kind without", on_port1("88a8"),
         "match/eth_type"},
        // OVS does not look behind the first tag (vlan-limit=1).
        {"Ethernet type of a second tag",
         on_port1("8100").in_vlan("1005/1fff"),
         ONE_TAG("l2", "8100", "1005/1fff")},
        {"... of the other kind", on_port1("88a8").in_vlan("1005/1fff"),
         ONE_TAG("l2", "88a8", "1005/1fff")},

        {"untagged: VLAN mask without key is empty",
         l2().mask_only(kVlan, "0000"), L2},
        {"VLAN mask without key", l2().mask_only(kVlan, "ffff"), "match/vlan"},
        {"one bit of it", l2().mask_only(kVlan, "0001"), "match/vlan"},
        {"ENCAP without VLAN", l2().key_only(kEncap, ""), "match/vlan"},
        {"ENCAP without VLAN, in both", l2().match(kEncap, ""), "match/vlan"},
    };
    check(rows);
}

TEST(DecodeMatch, TwoTags) {
    const auto ttl = &ovs_key_ipv4::ipv4_ttl;
    // A tag is put before those that are there, so the last one is the outer.
    const Row rows[] = {
        {"two tags", l2().in_vlan("1005/1fff").in_vlan("1006/ffff"),
         "l2 port=1 eth_type=88b5/ffff vlan_tci=1006/ffff"
         " vlan2_tci=1005/1fff tpids=00/03"},
        {"802.1ad",
         arp().in_vlan("1005/1fff").in_vlan("1006/1fff", "88a8/ffff"),
         "arp port=1 eth_type=0806/ffff vlan_tci=1006/1fff"
         " vlan2_tci=1005/1fff tpids=01/03"},
        {"802.1ad inside",
         arp().in_vlan("1005/1fff", "88a8/ffff").in_vlan("1006/1fff"),
         "arp port=1 eth_type=0806/ffff vlan_tci=1006/1fff"
         " vlan2_tci=1005/1fff tpids=02/03"},
        {"802.1ad twice",
         arp()
             .in_vlan("1005/1fff", "88a8/ffff")
             .in_vlan("1006/1fff", "88a8/ffff"),
         "arp port=1 eth_type=0806/ffff vlan_tci=1006/1fff"
         " vlan2_tci=1005/1fff tpids=03/03"},
        {"TCIs in part",
         ipv6().in_vlan("ffff/100f").in_vlan("ffff/b000", "88a8/ffff"),
         "ipv6 port=1 eth_type=86dd/ffff vlan_tci=b000/b000"
         " vlan2_tci=100f/100f tpids=01/03 nw_frag=00/02"},
        {"fields behind both",
         ipv4("06")
             .match(kIpv4, ttl, "40/ff")
             .in_vlan("1005/1fff")
             .in_vlan("1006/1fff"),
         "ipv4 port=1 eth_type=0800/ffff vlan_tci=1006/1fff"
         " vlan2_tci=1005/1fff tpids=00/03 nw_frag=00/02 nw_proto=06/ff"
         " nw_ttl=40/ff"},
        // OVS looks behind two tags at most.
        {"a third one is an Ethernet type",
         on_port1("8100").in_vlan("1005/1fff").in_vlan("1006/1fff"),
         "l2 port=1 eth_type=8100/ffff vlan_tci=1006/1fff"
         " vlan2_tci=1005/1fff tpids=00/03"},

        {"three tags",
         l2().in_vlan("1005/1fff").in_vlan("1006/1fff").in_vlan("1007/1fff"),
         "match/third_vlan"},
        {"inner TCI 0: the tag was cut off",
         l2().in_vlan("0000/ffff").in_vlan("1006/1fff"), "match/vlan_tci"},
        {"outer TCI 0", l2().in_vlan("1005/1fff").in_vlan("0000/ffff"),
         "match/vlan_tci"},
        {"a second tag that does not matter",
         l2().in_vlan("1005/0000").in_vlan("1006/1fff"),
         "l2 port=1 eth_type=88b5/ffff vlan_tci=1006/1fff"
         " vlan2_tci=1000/1000 tpids=00/03"},
        {"inner TPID in part",
         l2().in_vlan("1005/1fff", "8100/ff00").in_vlan("1006/1fff"),
         "match/vlan_tpid"},
        {"outer TPID in part",
         l2().in_vlan("1005/1fff").in_vlan("1006/1fff", "8100/feff"),
         "match/vlan_tpid"},
        {"inner TPID of neither kind",
         l2().in_vlan("1005/1fff", "9100/ffff").in_vlan("1006/1fff"),
         "match/vlan_tpid"},
        {"nothing behind the inner tag",
         l2().in_vlan("1005/1fff").match(kEncap, "").in_vlan("1006/1fff"),
         "match/eth_type"},
        {"no inner ENCAP",
         l2().in_vlan("1005/1fff").without(kEncap).in_vlan("1006/1fff"),
         "match/vlan_tci"},
        {"Ethernet type behind both in part",
         l2().match(kEthertype, "88b5/fffe")
             .in_vlan("1005/1fff")
             .in_vlan("1006/1fff"),
         "match/eth_type"},
        {"an attribute behind one tag and behind two",
         ipv4("06")
             .in_vlan("1005/1fff")
             .match(kIpv4, ttl, "40/ff")
             .in_vlan("1006/1fff"),
         "malformed/duplicate_attribute"},
        {"VLAN mask behind both",
         l2().mask_only(kVlan, "ffff")
             .in_vlan("1005/1fff")
             .in_vlan("1006/1fff"),
         "match/vlan"},
    };
    check(rows);
}

// A mask that constrains what is behind a tag, of a flow without a tag: this
// cannot be expressed, so it has to be refused.
TEST(DecodeMatch, EncapInTheMaskOnly) {
    AttrList inner;
    inner.put_hex(kIpv4, "ffffffff00000000ff000000");
    const Row rows[] = {
        {"ENCAP in the mask only",
         ipv4().mask_only(kEncap, to_hex(inner.bytes())), "match/vlan"},
    };
    check(rows);
}

TEST(DecodeMatch, Arp) {
    const std::string zeros(2 * sizeof(ovs_key_arp), '0');
    const Row rows[] = {
        {"request", arp().match(kArp, &ovs_key_arp::arp_op, "0001/ffff"),
         ARP " nw_proto=01/ff"},
        {"low byte of the opcode",
         arp().match(kArp, &ovs_key_arp::arp_op, "0002/00ff"),
         ARP " nw_proto=02/ff"},
        {"high byte of the opcode: is always zero",
         arp().match(kArp, &ovs_key_arp::arp_op, "0002/ff00"), ARP},
        {"opcode above 255",
         arp().match(kArp, &ovs_key_arp::arp_op, "0101/ffff"), "match/arp_op"},
        {"sender protocol address",
         arp().match(kArp, &ovs_key_arp::arp_sip, "0a000001/ffffffff"),
         ARP " ipv4_src=0a000001/ffffffff"},
        {"target network",
         arp().match(kArp, &ovs_key_arp::arp_tip, "0a0000fe/ffffff00"),
         ARP " ipv4_dst=0a000000/ffffff00"},
        {"sender hardware address",
         arp().match(kArp, &ovs_key_arp::arp_sha, "020000000001/ffffffffffff"),
         ARP " arp_sha=020000000001/ffffffffffff"},
        {"target hardware address",
         arp().match(kArp, &ovs_key_arp::arp_tha, "020000000002/ffffffffffff"),
         ARP " arp_tha=020000000002/ffffffffffff"},
        {"no field", arp().match(kArp, &ovs_key_arp::arp_op, "0001/0000"),
         ARP},
        {"ARP fields of RARP",
         on_port1("8035").match(kArp, &ovs_key_arp::arp_op, "0003/00ff"),
         "match/arp_op"},
        {"ARP fields of IPv4",
         ipv4().match(kArp, &ovs_key_arp::arp_sip, "0a000001/ffffffff"),
         "match/arp_spa"},
        {"IPv4 fields of ARP",
         arp().match(kIpv4, &ovs_key_ipv4::ipv4_src, "0a000001/ffffffff"),
         "match/ipv4_src"},
        {"mask without key", arp().mask_only(kArp, std::string(48, 'f')),
         "match/arp_spa"},
        {"padding", arp().match(kArp, zeros + "/" + zeros.substr(1) + "1"),
         "match/arp"},
    };
    check(rows);
}

TEST(DecodeMatch, Ipv4) {
    const auto frag = &ovs_key_ipv4::ipv4_frag;
    const Row rows[] = {
        {"source",
         ipv4().match(kIpv4, &ovs_key_ipv4::ipv4_src, "0a000001/ffffffff"),
         IPV4 " ipv4_src=0a000001/ffffffff"},
        {"source network",
         ipv4().match(kIpv4, &ovs_key_ipv4::ipv4_src, "0a0102ff/fffffe00"),
         IPV4 " ipv4_src=0a010200/fffffe00"},
        {"destination",
         ipv4().match(kIpv4, &ovs_key_ipv4::ipv4_dst, "0a000002/ffffffff"),
         IPV4 " ipv4_dst=0a000002/ffffffff"},
        {"default route",
         ipv4().match(kIpv4, &ovs_key_ipv4::ipv4_dst, "0a000002/00000000"),
         IPV4},
        {"first bit",
         ipv4().match(kIpv4, &ovs_key_ipv4::ipv4_dst, "e0000001/80000000"),
         IPV4 " ipv4_dst=80000000/80000000"},
        {"protocol", ipv4().match(kIpv4, &ovs_key_ipv4::ipv4_proto, "2f/ff"),
         IPV4 " nw_proto=2f/ff"},
        {"protocol 0", ipv4().match(kIpv4, &ovs_key_ipv4::ipv4_proto, "00/ff"),
         IPV4 " nw_proto=00/ff"},
        {"part of the protocol",
         ipv4().match(kIpv4, &ovs_key_ipv4::ipv4_proto, "11/f0"),
         IPV4 " nw_proto=10/f0"},
        {"tos", ipv4().match(kIpv4, &ovs_key_ipv4::ipv4_tos, "b8/ff"),
         IPV4 " nw_tos=b8/ff"},
        {"dscp", ipv4().match(kIpv4, &ovs_key_ipv4::ipv4_tos, "bb/fc"),
         IPV4 " nw_tos=b8/fc"},
        {"ecn", ipv4().match(kIpv4, &ovs_key_ipv4::ipv4_tos, "bb/03"),
         IPV4 " nw_tos=03/03"},
        {"ttl", ipv4().match(kIpv4, &ovs_key_ipv4::ipv4_ttl, "40/ff"),
         IPV4 " nw_ttl=40/ff"},

        {"no fragment", ipv4().match(kIpv4, frag, "00/ff"),
         IPV4_FRAG("00/ff")},
        {"first fragment", ipv4().match(kIpv4, frag, "01/ff"),
         IPV4_FRAG("01/ff")},
        {"later fragment", ipv4().match(kIpv4, frag, "02/ff"),
         IPV4_FRAG("02/ff")},
        {"fragment or not: all but later ones",
         ipv4().match(kIpv4, frag, "01/00"), IPV4},
        {"... whatever the key says", ipv4().match(kIpv4, frag, "02/00"),
         IPV4},
        {"no such fragment type", ipv4().match(kIpv4, frag, "03/ff"),
         "match/ip_frag"},
        {"any fragment", ipv4().match(kIpv4, frag, "01/01"), "match/ip_frag"},
        {"not a later one", ipv4().match(kIpv4, frag, "00/02"),
         "match/ip_frag"},

        {"mask without key",
         ipv4().mask_only(kIpv4, "ffffffff0000000000000000"),
         "match/ipv4_src"},
        {"fragment mask without key",
         ipv4().mask_only(kIpv4, "0000000000000000000000ff"), "match/ip_frag"},
        {"empty mask without key",
         ipv4().mask_only(kIpv4, "000000000000000000000000"), IPV4},
        {"IPv6 fields of IPv4",
         ipv4().match(kIpv6, &ovs_key_ipv6::ipv6_hlimit, "40/ff"),
         "match/ip_ttl"},
        {"Ethernet type in part", ipv4().match(kEthertype, "0800/ff00"),
         "match/eth_type"},
        {"Ethernet type not in the mask", ipv4().key_only(kEthertype, "0800"),
         "match/eth_type"},
        {"fields without Ethernet type", ipv4("11").without(kEthertype),
         "match/eth_type"},
        {"802.2: Ethernet type in the mask only",
         ipv4().mask_only(kEthertype, "ffff"), "match/eth_type"},
    };
    check(rows);
}

TEST(DecodeMatch, Ipv6) {
    const auto frag = &ovs_key_ipv6::ipv6_frag;
    const auto src = &ovs_key_ipv6::ipv6_src;
    const auto dst = &ovs_key_ipv6::ipv6_dst;
    const auto label = &ovs_key_ipv6::ipv6_label;
    const std::string ones(32, 'f'), zeros(32, '0');
    const std::string a = "20010db8000000000000000000000001";
    const std::string net = "20010db8000000000000000000000000";
    const std::string prefix64 = "ffffffffffffffff0000000000000000";
    const Row rows[] = {
        {"source", ipv6().match(kIpv6, src, a + "/" + ones),
         IPV6 " ipv6_src=" + a + "/" + ones},
        {"destination", ipv6().match(kIpv6, dst, a + "/" + ones),
         IPV6 " ipv6_dst=" + a + "/" + ones},
        {"destination network", ipv6().match(kIpv6, dst, a + "/" + prefix64),
         IPV6 " ipv6_dst=" + net + "/" + prefix64},
        {"any address", ipv6().match(kIpv6, dst, a + "/" + zeros), IPV6},
        {"next header",
         ipv6().match(kIpv6, &ovs_key_ipv6::ipv6_proto, "3b/ff"),
         IPV6 " nw_proto=3b/ff"},
        {"traffic class",
         ipv6().match(kIpv6, &ovs_key_ipv6::ipv6_tclass, "bb/fc"),
         IPV6 " nw_tos=b8/fc"},
        {"hop limit", ipv6().match(kIpv6, &ovs_key_ipv6::ipv6_hlimit, "ff/ff"),
         IPV6 " nw_ttl=ff/ff"},
        {"label", ipv6().match(kIpv6, label, "00012345/000fffff"),
         IPV6 " ipv6_label=00012345/000fffff"},
        {"one bit of the label",
         ipv6().match(kIpv6, label, "00000000/00000001"),
         IPV6 " ipv6_label=00000000/00000001"},
        {"part of the label", ipv6().match(kIpv6, label, "000fffff/000ff000"),
         IPV6 " ipv6_label=000ff000/000ff000"},
        {"a label that no packet has",
         ipv6().match(kIpv6, label, "00100000/00100000"),
         IPV6 " ipv6_label=00100000/00100000"},
        {"label not matched", ipv6().match(kIpv6, label, "00012345/00000000"),
         IPV6},

        {"no fragment", ipv6().match(kIpv6, frag, "00/ff"),
         IPV6_FRAG("00/ff")},
        {"first fragment", ipv6().match(kIpv6, frag, "01/ff"),
         IPV6_FRAG("01/ff")},
        {"later fragment", ipv6().match(kIpv6, frag, "02/ff"),
         IPV6_FRAG("02/ff")},
        {"later fragment, and its next header",
         ipv6("2c").match(kIpv6, frag, "02/ff"),
         IPV6_FRAG("02/ff") " nw_proto=2c/ff"},
        {"no such fragment type", ipv6().match(kIpv6, frag, "03/ff"),
         "match/ip_frag"},
        {"not a later one", ipv6().match(kIpv6, frag, "00/02"),
         "match/ip_frag"},
        {"any fragment", ipv6().match(kIpv6, frag, "01/01"), "match/ip_frag"},
        {"fragment or not: all but later ones",
         ipv6().match(kIpv6, frag, "01/00"), IPV6},
        {"IPv4 fields of IPv6",
         ipv6().match(kIpv4, &ovs_key_ipv4::ipv4_ttl, "40/ff"),
         "match/ip_ttl"},
        {"mask without key", ipv6().mask_only(kIpv6, std::string(80, 'f')),
         "match/ipv6_src"},
    };
    check(rows);
}

TEST(DecodeMatch, Transport) {
    const Row rows[] = {
        {"TCP ports", ipv4("06").match(kTcp, "00501f90/ffffffff"),
         TCP4 " tp_src=0050/ffff tp_dst=1f90/ffff"},
        {"TCP source port", ipv6("06").match(kTcp, "00501f90/ffff0000"),
         TCP6 " tp_src=0050/ffff"},
        {"range of TCP ports", ipv4("06").match(kTcp, "00501f95/0000fff0"),
         TCP4 " tp_dst=1f90/fff0"},
        {"TCP flags", ipv4("06").match(kTcpFlags, "0012/0fff"),
         IPV4 " tcp_flags=0012/0fff nw_proto=06/ff"},
        {"TCP SYN, IPv6", ipv6("06").match(kTcpFlags, "0012/0002"),
         IPV6 " tcp_flags=0002/0002 nw_proto=06/ff"},
        {"UDP ports", ipv4("11").match(kUdp, "003512b5/ffffffff"),
         IPV4 " nw_proto=11/ff tp_src=0035/ffff tp_dst=12b5/ffff"},
        {"UDP destination port", ipv6("11").match(kUdp, "003512b5/0000ffff"),
         IPV6 " nw_proto=11/ff tp_dst=12b5/ffff"},
        {"SCTP ports", ipv4("84").match(kSctp, "00010002/ffffffff"),
         IPV4 " nw_proto=84/ff tp_src=0001/ffff tp_dst=0002/ffff"},
        {"SCTP ports, IPv6", ipv6("84").match(kSctp, "00010002/ffffffff"),
         IPV6 " nw_proto=84/ff tp_src=0001/ffff tp_dst=0002/ffff"},
        {"ICMP type and code", ipv4("01").match(kIcmp, "0301/ffff"),
         IPV4 " nw_proto=01/ff tp_src=0003/00ff tp_dst=0001/00ff"},
        {"ICMP type", ipv4("01").match(kIcmp, "0801/ff00"),
         IPV4 " nw_proto=01/ff tp_src=0008/00ff"},
        {"ICMPv6 type and code", ipv6("3a").match(kIcmpv6, "8700/ffff"),
         IPV6 " nw_proto=3a/ff tp_src=0087/00ff tp_dst=0000/00ff"},
        {"ports not matched", ipv4("06").match(kTcp, "00501f90/00000000"),
         TCP4},

        {"TCP ports without protocol", ipv4().match(kTcp, "00501f90/ffffffff"),
         "match/tcp_src"},
        {"TCP ports, protocol in part",
         ipv4()
             .match(kIpv4, &ovs_key_ipv4::ipv4_proto, "06/fe")
             .match(kTcp, "00501f90/ffffffff"),
         "match/tcp_src"},
        {"TCP ports, protocol not in the mask",
         ipv4()
             .match(kIpv4, &ovs_key_ipv4::ipv4_proto, "06/00")
             .match(kTcp, "00501f90/0000ffff"),
         "match/tcp_dst"},
        {"TCP ports of UDP", ipv4("11").match(kTcp, "00501f90/ffffffff"),
         "match/tcp_src"},
        {"UDP ports of TCP", ipv6("06").match(kUdp, "00501f90/ffffffff"),
         "match/udp_src"},
        {"UDP ports without protocol", ipv6().match(kUdp, "00501f90/ffff0000"),
         "match/udp_src"},
        {"SCTP ports of TCP", ipv4("06").match(kSctp, "00501f90/ffffffff"),
         "match/sctp_src"},
        {"TCP flags without protocol", ipv4().match(kTcpFlags, "0012/0fff"),
         "match/tcp_flags"},
        {"TCP flags of UDP", ipv4("11").match(kTcpFlags, "0012/0fff"),
         "match/tcp_flags"},
        {"ICMP in IPv6", ipv6("01").match(kIcmp, "0801/ffff"),
         "match/icmp_type"},
        {"ICMPv6 in IPv4", ipv4("3a").match(kIcmpv6, "8000/ffff"),
         "match/icmpv6_type"},
        {"ICMP without protocol", ipv4().match(kIcmp, "0801/ff00"),
         "match/icmp_type"},
        {"ICMPv6 without protocol", ipv6().match(kIcmpv6, "8000/ff00"),
         "match/icmpv6_type"},
        {"TCP ports of ARP",
         arp()
             .match(kArp, &ovs_key_arp::arp_op, "0006/ffff")
             .match(kTcp, "00501f90/ffffffff"),
         "match/tcp_src"},
        {"TCP ports of an L2 frame", l2().match(kTcp, "00501f90/ffffffff"),
         "match/tcp_src"},
        {"ports in the mask only", ipv4("06").mask_only(kTcp, "ffffffff"),
         "match/tcp_src"},
    };
    check(rows);
}

// Later fragments have no transport header; first ones have.
TEST(DecodeMatch, TransportOfFragments) {
    const auto frag4 = &ovs_key_ipv4::ipv4_frag;
    const auto frag6 = &ovs_key_ipv6::ipv6_frag;
    const auto fragment4 = [&](const char *proto, const char *frag) {
        return ipv4(proto).match(kIpv4, frag4, frag);
    };
    const auto fragment6 = [&](const char *proto, const char *frag) {
        return ipv6(proto).match(kIpv6, frag6, frag);
    };
    const std::string nd(2 * sizeof(ovs_key_nd), 'f');
    const Row rows[] = {
        {"TCP, none",
         fragment4("06", "00/ff").match(kTcp, "00500000/ffff0000"),
         IPV4_FRAG("00/ff") " nw_proto=06/ff tp_src=0050/ffff"},
        {"TCP, first",
         fragment4("06", "01/ff").match(kTcp, "00500000/ffff0000"),
         IPV4_FRAG("01/ff") " nw_proto=06/ff tp_src=0050/ffff"},
        {"UDP over IPv6, first",
         fragment6("11", "01/ff").match(kUdp, "00500000/ffff0000"),
         IPV6_FRAG("01/ff") " nw_proto=11/ff tp_src=0050/ffff"},
        {"TCP, any but later",
         fragment4("06", "02/00").match(kTcp, "00500000/ffff0000"),
         TCP4 " tp_src=0050/ffff"},

        {"TCP, later",
         fragment4("06", "02/ff").match(kTcp, "00500000/ffff0000"),
         "match/tcp_src"},
        {"TCP flags, later",
         fragment4("06", "02/ff").match(kTcpFlags, "0002/0002"),
         "match/tcp_flags"},
        {"UDP, later",
         fragment4("11", "02/ff").match(kUdp, "00000050/0000ffff"),
         "match/udp_dst"},
        {"SCTP, later",
         fragment4("84", "02/ff").match(kSctp, "00500000/ffff0000"),
         "match/sctp_src"},
        {"ICMP, later", fragment4("01", "02/ff").match(kIcmp, "0800/ff00"),
         "match/icmp_type"},
        {"TCP over IPv6, later",
         fragment6("06", "02/ff").match(kTcp, "00500000/ffff0000"),
         "match/tcp_src"},
        {"ICMPv6, later", fragment6("3a", "02/ff").match(kIcmpv6, "8700/00ff"),
         "match/icmpv6_code"},
        {"ND, later", fragment6("3a", "02/ff").match(kNd, nd + "/" + nd),
         "match/nd_target"},
        {"nothing of what is not there, later",
         fragment4("06", "02/ff").match(kTcp, "00500000/00000000"),
         IPV4_FRAG("02/ff") " nw_proto=06/ff"},
    };
    check(rows);
}

// Neighbour Discovery: the two messages that have a target, of code 0 alone.
TEST(DecodeMatch, Nd) {
    const auto target = &ovs_key_nd::nd_target;
    const auto sll = &ovs_key_nd::nd_sll, tll = &ovs_key_nd::nd_tll;
    const std::string a = "fe800000000000000000000000000001", ones(32, 'f');
    const auto icmpv6 = [](const char *type_and_code) {
        return ipv6("3a").match(kIcmpv6, type_and_code);
    };
#define ND(TYPE) IPV6 " nw_proto=3a/ff tp_src=00" TYPE "/00ff tp_dst=0000/00ff"
    const Row rows[] = {
        {"target of a solicitation",
         icmpv6("8700/ffff").match(kNd, target, a + "/" + ones),
         ND("87") " nd_target=" + a + "/" + ones},
        {"target of an advertisement",
         icmpv6("8800/ffff").match(kNd, target, a + "/" + ones),
         ND("88") " nd_target=" + a + "/" + ones},
        {"prefix of the target",
         icmpv6("8700/ffff")
             .match(kNd, target, a + "/ffff" + std::string(28, '0')),
         ND("87") " nd_target=fe80" + std::string(28, '0') + "/ffff"
             + std::string(28, '0')},
        {"source link-layer address",
         icmpv6("8700/ffff").match(kNd, sll, "020000000001/ffffffffffff"),
         ND("87") " nd_sll=020000000001/ffffffffffff"},
        {"no such option",
         icmpv6("8700/ffff").match(kNd, sll, "000000000000/ffffffffffff"),
         ND("87") " nd_sll=000000000000/ffffffffffff"},
        {"target link-layer address",
         icmpv6("8800/ffff").match(kNd, tll, "020000000001/fffffe000000"),
         ND("88") " nd_tll=020000000000/fffffe000000"},
        {"not matched",
         ipv6("3a").match(kNd, target, a + "/" + std::string(32, '0')),
         IPV6 " nw_proto=3a/ff"},
        // Of packets with another code OVS decides.
        {"any code",
         icmpv6("8700/ff00").match(kNd, sll, "020000000001/ffffffffffff"),
         ND("87") " nd_sll=020000000001/ffffffffffff"},
        {"any code, not matched",
         icmpv6("8700/ff00")
             .match(kNd, target, a + "/" + std::string(32, '0')),
         IPV6 " nw_proto=3a/ff tp_src=0087/00ff"},

        {"another message",
         icmpv6("8500/ffff").match(kNd, target, a + "/" + ones),
         "match/nd_target"},
        {"redirect", icmpv6("8900/ffff").match(kNd, target, a + "/" + ones),
         "match/nd_target"},
        {"another code",
         icmpv6("8701/ffff").match(kNd, tll, "020000000001/ffffffffffff"),
         "match/nd_tll"},
        {"code in part",
         icmpv6("8700/fffe").match(kNd, target, a + "/" + ones),
         "match/nd_target"},
        {"any type", icmpv6("8700/00ff").match(kNd, target, a + "/" + ones),
         "match/nd_target"},
        {"type in part",
         icmpv6("8700/f0ff").match(kNd, target, a + "/" + ones),
         "match/nd_target"},
        {"type and code not matched",
         ipv6("3a").match(kNd, target, a + "/" + ones), "match/nd_target"},
        {"any protocol", ipv6().match(kNd, target, a + "/" + ones),
         "match/nd_target"},
        {"of IPv4", ipv4("3a").match(kNd, target, a + "/" + ones),
         "match/nd_target"},
        {"of TCP",
         ipv6("06")
             .match(kTcp, "00870000/ffffffff")
             .match(kNd, target, a + "/" + ones),
         "match/nd_target"},
    };
#undef ND
    check(rows);
}

// The outermost entry of a label stack.
TEST(DecodeMatch, Mpls) {
    const auto mpls = [] { return on_port1("8847"); };
    const Row rows[] = {
        {"label", mpls().match(kMpls, "00064140/fffff000"),
         MPLS " mpls_lse=00064000/fffff000"},
        {"all of the entry", mpls().match(kMpls, "00064140/ffffffff"),
         MPLS " mpls_lse=00064140/ffffffff"},
        {"bottom of stack", mpls().match(kMpls, "00064140/00000100"),
         MPLS " mpls_lse=00000100/00000100"},
        {"not matched", mpls().match(kMpls, "00064140/00000000"), MPLS},
        {"behind a tag",
         mpls().match(kMpls, "00064140/fffff000").in_vlan("1005/1fff"),
         ONE_TAG("mpls", "8847", "1005/1fff") " mpls_lse=00064000/fffff000"},
        {"entries below are not matched",
         mpls().match(kMpls,
                      "000640400001114000000000/"
                      "fffff0000000000000000000"),
         MPLS " mpls_lse=00064000/fffff000"},
        {"no entry", mpls().match(kMpls, "/"), MPLS},
        {"half an entry is not matched", mpls().match(kMpls, "0006/0000"),
         MPLS},

        {"entry below",
         mpls().match(kMpls,
                      "0006404000011140/"
                      "00000000fffff000"),
         "match/mpls"},
        {"the last bit of the third one",
         mpls().match(kMpls,
                      "000640400001114000000000/"
                      "fffff0000000000000000001"),
         "match/mpls"},
        {"half an entry", mpls().match(kMpls, "0006/ffff"), "match/mpls_lse"},
        {"an entry and a half",
         mpls().match(kMpls,
                      "000640400001/"
                      "ffffffff0001"),
         "match/mpls"},
        {"in the mask only", mpls().mask_only(kMpls, "ffffffff"),
         "match/mpls_lse"},
        {"of an L2 frame", l2().match(kMpls, "00064140/fffff000"),
         "match/mpls_lse"},
        {"of IPv4", ipv4().match(kMpls, "00064140/fffff000"),
         "match/mpls_lse"},
        {"IPv4 of MPLS", mpls().match(kIpv4, &ovs_key_ipv4::ipv4_ttl, "40/ff"),
         "match/ip_ttl"},
        {"ARP of MPLS", mpls().match(kArp, &ovs_key_arp::arp_op, "0001/ffff"),
         "match/arp_op"},
    };
    check(rows);
}

// Recirculation: its id is matched exactly, or the flow gets packets that have
// not been recirculated.  Ids and hashes are in host order.
TEST(DecodeMatch, Recirculation) {
    const auto id = [](const char *match) {
        return l2().match(kRecircId, match);
    };
    const auto hash = [](const char *match) {
        return l2().match(kDpHash, match);
    };
    const auto both = [](const char *id_match, const char *hash_match) {
        return l2().match(kRecircId, id_match).match(kDpHash, hash_match);
    };
#define RECIRC "l2 port=1 recirc=1 eth_type=88b5/ffff" UNTAGGED
    const Row rows[] = {
        {"recirculated", id("01000000/ffffffff"), RECIRC},
        {"highest id", id("ffffffff/ffffffff"),
         "l2 port=1 recirc=4294967295 eth_type=88b5/ffff" UNTAGGED},
        {"not recirculated", id("00000000/ffffffff"), L2},
        {"recirculated or not: only those that are not",
         id("01000000/00000000"), L2},
        {"zero in part, the same", id("01000000/feffffff"), L2},
        {"in the key only", l2().key_only(kRecircId, "01000000"), L2},
        {"in the mask only", l2().mask_only(kRecircId, "ffffffff"), L2},
        {"behind a tag",
         l2().match(kRecircId, "01000000/ffffffff").in_vlan("1005/1fff"),
         "l2 port=1 recirc=1 eth_type=88b5/ffff vlan_tci=1005/1fff"
         " vlan2_tci=0000/ffff tpids=00/01"},
        {"one bit", id("01000000/01000000"), "match/recirc_id"},
        {"all but one bit", id("03000000/feffffff"), "match/recirc_id"},

        {"hash", both("01000000/ffffffff", "25000000/ff000000"),
         "l2 port=1 recirc=1 eth_type=88b5/ffff" UNTAGGED " dp_hash=25/ff"},
        {"bits of the hash", both("01000000/ffffffff", "25000000/0f000000"),
         "l2 port=1 recirc=1 eth_type=88b5/ffff" UNTAGGED " dp_hash=05/0f"},
        {"hash in the mask only",
         id("01000000/ffffffff").mask_only(kDpHash, "0f000000"),
         "l2 port=1 recirc=1 eth_type=88b5/ffff" UNTAGGED " dp_hash=00/0f"},
        {"bits that the program does not know",
         both("01000000/ffffffff", "25000000/ff010000"), "match/dp_hash"},
        {"... though they are zero",
         both("01000000/ffffffff", "00000000/00000080"), "match/dp_hash"},
        {"all of the hash", both("01000000/ffffffff", "25000000/ffffffff"),
         "match/dp_hash"},

        // What has not been hashed has hash 0.
        {"no hash", hash("00000000/ffffffff"), L2 " dp_hash=00/ff"},
        {"no hash, in the mask only", l2().mask_only(kDpHash, "ffffffff"),
         L2 " dp_hash=00/ff"},
        {"a hash without recirculation: no packet", hash("25000000/ff000000"),
         L2 " dp_hash=25/ff"},
        {"... of more bits than the program knows", hash("25010000/ffff0000"),
         "match/dp_hash"},
        {"the highest bit", hash("00000080/00000080"), "match/dp_hash"},
        {"any hash", hash("25010000/00000000"), L2},
        {"in the key only", l2().key_only(kDpHash, "25010000"), L2},
    };
#undef RECIRC
    check(rows);
}

// What concerns the whole packet is not read where OVS does not put it.
TEST(DecodeMatch, MetadataInsideOfEncap) {
    const auto inside = [](uint16_t type, std::string_view match) {
        Flow f = l2().in_vlan("1005/1fff");
        Flow in;
        in.match(kEthertype, "88b5/ffff").match(type, match);
        for (auto side : {&Flow::key, &Flow::mask}) {
            const AttrList list = Flow::encode(in.*side);
            (f.*side)[kEncap].assign(list.bytes().begin(), list.bytes().end());
        }
        return f;
    };
    const Row rows[] = {
        {"recirculation id", inside(kRecircId, "01000000/ffffffff"),
         "match/recirc_id"},
        {"hash", inside(kDpHash, "25000000/ff000000"), "match/dp_hash"},
        {"port", inside(kInPort, "01000000/ffffffff"),
         "malformed/duplicate_attribute"},
        {"port inside only",
         inside(kInPort, "01000000/ffffffff").without(kInPort),
         "match/in_port"},
        {"nothing asked", inside(kRecircId, "01000000/00000000"),
         ONE_TAG("l2", "88b5", "1005/1fff")},
    };
    check(rows);
}

// Fields that are decoded apart from the others, where the flow does not have
// them.
TEST(DecodeMatch, FieldsOfAnotherClass) {
    const auto frag4 = &ovs_key_ipv4::ipv4_frag;
    const auto frag6 = &ovs_key_ipv6::ipv6_frag;
    Flow outside = ipv4("06").in_vlan("1005/1fff");
    AttrList inner;
    inner.put_hex(kEthertype, "0800");
    outside.key[kEncap].assign(inner.bytes().begin(), inner.bytes().end());
    inner = {};
    inner.put_hex(kEthertype, "ffff");
    outside.mask[kEncap].assign(inner.bytes().begin(), inner.bytes().end());
    Flow outside_2 = outside;
    outside.match(kIpv4, frag4, "00/ff");
    outside_2.match(kIpv4, frag4, "02/02");
    const Row rows[] = {
        {"IPv4 fragments of L2", l2().match(kIpv4, frag4, "00/ff"),
         "match/ip_frag"},
        {"IPv4 fragments of ARP", arp().match(kIpv4, frag4, "01/ff"),
         "match/ip_frag"},
        {"IPv4 fragments of IPv6", ipv6().match(kIpv4, frag4, "00/ff"),
         "match/ip_frag"},
        {"IPv6 fragments of IPv4", ipv4().match(kIpv6, frag6, "02/ff"),
         "match/ip_frag"},
        {"ARP opcode of IPv4",
         ipv4().match(kArp, &ovs_key_arp::arp_op, "0100/ff00"),
         "match/arp_op"},
        {"fragments outside of ENCAP", outside, "match/ip_frag"},
        {"... with the bit that a flow gets that does not care", outside_2,
         "match/ip_frag"},
    };
    check(rows);
}

TEST(DecodeMatch, InPort) {
    const Row rows[] = {
        {"none", l2().without(kInPort), "match/in_port"},
        {"in the key only", l2().key_only(kInPort, "01000000"),
         "match/in_port"},
        {"in the mask only", l2().mask_only(kInPort, "ffffffff"),
         "match/in_port"},
        {"in part", l2().match(kInPort, "01000000/feffffff"), "match/in_port"},
        {"any", l2().match(kInPort, "01000000/00000000"), "match/in_port"},
        {"nothing at all", Flow(), "match/in_port"},
    };
    check(rows);
}

// Fields that the program does not know.
TEST(DecodeMatch, Refused) {
    const Row rows[] = {
        {"ND options",
         ipv6("3a").match(OVS_KEY_ATTR_ND_EXTENSIONS, "0000000000/ffffffff01"),
         "match/nd_ext"},
        {"NSH",
         on_port1("894f").match(OVS_KEY_ATTR_NSH,
                                "0c00010000000000/0c000100ff000000"),
         "match/nsh"},
        {"a tunnel of no end point",
         l2().match(kTunnel,
                    "0c00000000000000000000ff/"
                    "0c000000ffffffffffffffff"),
         "match/tunnel"},
        {"tunnel in the key only", l2().key_only(kTunnel, "0500040000000000"),
         L2},
        {"packet that is not Ethernet",
         l2().match(OVS_KEY_ATTR_PACKET_TYPE, "00010800/ffffffff"),
         "match/packet_type"},
        {"not Ethernet, not matched",
         l2().key_only(OVS_KEY_ATTR_PACKET_TYPE, "00010800"),
         "match/packet_type"},
        {"attribute 0", l2().match(OVS_KEY_ATTR_UNSPEC, "00/01"),
         "match/unknown_attribute"},
        {"tunnel info of the kernel",
         l2().match(OVS_KEY_ATTR_TUNNEL_INFO, "00000000/00000001"),
         "match/unknown_attribute"},
        {"IPv6 extension headers",
         ipv6().match(OVS_KEY_ATTR_IPV6_EXTHDRS, "0000/ffff"),
         "match/unknown_attribute"},
    };
    check(rows);
}

// The attributes of a tunnel, key and mask side by side.
class Tunnel {
public:
    Tunnel &both(uint16_t type, std::string_view key, std::string_view mask) {
        key_.put_hex(type, key);
        mask_.put_hex(type, mask);
        return *this;
    }
    Tunnel &key_only(uint16_t type, std::string_view key = "") {
        key_.put_hex(type, key);
        return *this;
    }
    Tunnel &mask_only(uint16_t type, std::string_view mask = "") {
        mask_.put_hex(type, mask);
        return *this;
    }
    Tunnel &id() {
        return both(OVS_TUNNEL_KEY_ATTR_ID, "0000000000012345",
                    "ffffffffffffffff");
    }
    Tunnel &ipv4() {
        return both(OVS_TUNNEL_KEY_ATTR_IPV4_SRC, "c0a80002", "ffffffff")
            .both(OVS_TUNNEL_KEY_ATTR_IPV4_DST, "c0a80001", "ffffffff");
    }
    Tunnel &option(std::string_view key, std::string_view mask) {
        return both(OVS_TUNNEL_KEY_ATTR_GENEVE_OPTS, key, mask);
    }
    Flow of(Flow flow) const {
        return flow.match(kTunnel,
                          to_hex(key_.bytes()) + "/" + to_hex(mask_.bytes()));
    }

private:
    AttrList key_, mask_;
};

#define TUN4                                             \
    L2 " tun_ipv6_src=c0a80002c0a800010000000000000000/" \
       "ffffffffffffffff0000000000000000"
#define TUN4_REST " tun_id=00012345/ffffffff"
#define NO_OPTION " tun_option=0000000000000000/ffffffffffffffff"

// Of packets that came out of a tunnel.
TEST(DecodeMatch, Tunnel) {
    constexpr auto kCsum = OVS_TUNNEL_KEY_ATTR_CSUM;
    constexpr auto kOam = OVS_TUNNEL_KEY_ATTR_OAM;
    constexpr auto kDf = OVS_TUNNEL_KEY_ATTR_DONT_FRAGMENT;
    constexpr auto kIpv6Dst = OVS_TUNNEL_KEY_ATTR_IPV6_DST;
    const std::string v6 = "fd000000000000000000000000000001";
    const std::string ones(32, 'f'), zeros(32, '0');
    const Row rows[] = {
        {"identifier and addresses", Tunnel().id().ipv4().of(l2()),
         TUN4 TUN4_REST " tun_family=04/ff" NO_OPTION},
        {"an option in part",
         Tunnel()
             .id()
             .ipv4()
             .option("0102800100030002", "ffffff1f7fffffff")
             .of(l2()),
         TUN4 TUN4_REST
         " tun_family=04/ff tun_option=0102800100030002/ffffffff7fffffff"},
        {"an option that is not matched but for its length",
         Tunnel()
             .id()
             .ipv4()
             .key_only(OVS_TUNNEL_KEY_ATTR_GENEVE_OPTS, "0102800100030002")
             .of(l2()),
         TUN4 TUN4_REST
         " tun_family=04/ff tun_option=0000000100000000/000000ff00000000"},
        {"checksum, not OAM",
         Tunnel()
             .id()
             .ipv4()
             .both(kCsum, "", "")
             .mask_only(kOam)
             .mask_only(kDf)
             .of(l2()),
         TUN4 TUN4_REST " tun_flags=01/03 tun_family=04/ff" NO_OPTION},
        {"TOS and TTL",
         Tunnel()
             .id()
             .ipv4()
             .both(OVS_TUNNEL_KEY_ATTR_TOS, "04", "ff")
             .both(OVS_TUNNEL_KEY_ATTR_TTL, "40", "00")
             .of(l2()),
         TUN4 TUN4_REST " tun_tos=04/ff tun_family=04/ff" NO_OPTION},
        {"TOS of zero",
         Tunnel()
             .id()
             .ipv4()
             .mask_only(OVS_TUNNEL_KEY_ATTR_TOS, "ff")
             .of(l2()),
         TUN4 TUN4_REST " tun_tos=00/ff tun_family=04/ff" NO_OPTION},
        {"the other family is zero",
         Tunnel().id().ipv4().mask_only(kIpv6Dst, ones).of(l2()),
         TUN4 TUN4_REST " tun_family=04/ff" NO_OPTION},
        {"IPv6",
         Tunnel()
             .id()
             .both(kIpv6Dst, v6, ones)
             .mask_only(OVS_TUNNEL_KEY_ATTR_IPV4_DST, "ffffffff")
             .of(l2()),
         L2 " tun_ipv6_dst=" + v6 + "/" + ones
             + TUN4_REST " tun_family=06/ff" NO_OPTION},
        {"ports that are not matched",
         Tunnel()
             .id()
             .ipv4()
             .both(OVS_TUNNEL_KEY_ATTR_TP_SRC, "1234", "0000")
             .of(l2()),
         TUN4 TUN4_REST " tun_family=04/ff" NO_OPTION},
        {"a port",
         Tunnel()
             .id()
             .ipv4()
             .both(OVS_TUNNEL_KEY_ATTR_TP_SRC, "1234", "0001")
             .of(l2()),
         "match/tunnel"},
        {"an identifier of 64 bits",
         Tunnel()
             .ipv4()
             .both(OVS_TUNNEL_KEY_ATTR_ID, "0000000100012345",
                   "ffffffffffffffff")
             .of(l2()),
         "match/tunnel"},
        {"an identifier that is too short",
         Tunnel()
             .ipv4()
             .mask_only(OVS_TUNNEL_KEY_ATTR_ID, "000000000001")
             .of(l2()),
         "match/tun_id"},
        {"don't fragment", Tunnel().id().ipv4().both(kDf, "", "").of(l2()),
         "match/tun_flags"},
        {"two options",
         Tunnel()
             .id()
             .ipv4()
             .option("01028001000300020102800100030002",
                     "ffffff1fffffffffffffff1fffffffff")
             .of(l2()),
         "match/tun_metadata"},
        {"a longer option",
         Tunnel()
             .id()
             .ipv4()
             .option("010280020003000200000000", "ffffff1fffffffffffffffff")
             .of(l2()),
         "match/tun_metadata"},
        {"both families",
         Tunnel().id().ipv4().both(kIpv6Dst, v6, ones).of(l2()),
         "match/tunnel"},
        {"a source of the other family",
         Tunnel()
             .id()
             .both(kIpv6Dst, v6, ones)
             .both(OVS_TUNNEL_KEY_ATTR_IPV4_SRC, "c0a80002", "00000000")
             .of(l2()),
         "match/tunnel"},
        {"VXLAN's group policy",
         Tunnel()
             .id()
             .ipv4()
             .both(OVS_TUNNEL_KEY_ATTR_VXLAN_OPTS, "0800010005000000",
                   "08000100ffffffff")
             .of(l2()),
         "match/tunnel"},
        {"twice", Tunnel().id().id().ipv4().of(l2()),
         "malformed/duplicate_attribute"},
        {"an address too short",
         Tunnel().id().ipv4().both(kIpv6Dst, "fd00", "ffffffff").of(l2()),
         "match/tunnel"},
        {"recirculated",
         Tunnel().id().ipv4().of(
             ipv4("06").match(kRecircId, "05000000/ffffffff")),
         "ipv4 port=1 recirc=5 eth_type=0800/ffff" UNTAGGED
         " nw_frag=00/02 nw_proto=06/ff"
         " tun_ipv6_src=c0a80002c0a800010000000000000000/"
         "ffffffffffffffff0000000000000000" TUN4_REST
         " tun_family=04/ff" NO_OPTION},
    };
    check(rows);
}

// "Don't fragment" of the outer header, which not every OVS finds.
TEST(DecodeMatch, TunnelDontFragment) {
    constexpr auto kDf = OVS_TUNNEL_KEY_ATTR_DONT_FRAGMENT;
    constexpr auto kOam = OVS_TUNNEL_KEY_ATTR_OAM;
    const struct {
        const char *what;
        Tunnel tunnel;
        std::string ignored, found;
    } rows[] = {
        {"set", Tunnel().both(kDf, "", ""), "match/tun_flags",
         " tun_flags=04/04"},
        {"not set", Tunnel().mask_only(kDf), "", " tun_flags=00/04"},
        {"not matched", Tunnel().key_only(kDf), "", ""},
        {"beside another", Tunnel().mask_only(kDf).both(kOam, "", ""),
         " tun_flags=02/02", " tun_flags=02/06"},
    };
    for (auto row : rows) {
        const Flow flow = row.tunnel.id().ipv4().of(l2());
        auto whole = [](const std::string &flags) {
            return flags.starts_with("match/")
                     ? flags
                     : TUN4 TUN4_REST + flags + " tun_family=04/ff" NO_OPTION;
        };
        EXPECT_EQ(describe(flow, DontFragment::kIsIgnored), whole(row.ignored))
            << row.what;
        EXPECT_EQ(describe(flow, DontFragment::kIsFound), whole(row.found))
            << row.what;
    }
}

// What every packet brings as zero: matched on zero is fulfilled, on anything
// else is refused.
TEST(DecodeMatch, ZeroAtIngress) {
    const struct {
        uint16_t type;
        size_t size;
        const char *reason;
    } rows[] = {
        {OVS_KEY_ATTR_PRIORITY, 4, "match/skb_priority"},
        {OVS_KEY_ATTR_SKB_MARK, 4, "match/skb_mark"},
        {OVS_KEY_ATTR_CT_STATE, 4, "match/ct_state"},
        {OVS_KEY_ATTR_CT_ZONE, 2, "match/ct_zone"},
        {OVS_KEY_ATTR_CT_MARK, 4, "match/ct_mark"},
        {OVS_KEY_ATTR_CT_LABELS, 16, "match/ct_labels"},
        {OVS_KEY_ATTR_CT_ORIG_TUPLE_IPV4, sizeof(ovs_key_ct_tuple_ipv4),
         "match/ct_tuple4"},
        {OVS_KEY_ATTR_CT_ORIG_TUPLE_IPV6, sizeof(ovs_key_ct_tuple_ipv6),
         "match/ct_tuple6"},
    };
    for (const auto &row : rows) {
        const std::string zero(2 * row.size, '0'), ones(2 * row.size, 'f');
        std::string last = zero, first = zero, not_last = ones;
        last.back() = '1';
        not_last.back() = 'e';
        first.front() = '8';
        auto with = [&](const std::string &s) {
            return describe(ipv4().match(row.type, s));
        };
        EXPECT_EQ(with(zero + "/" + ones), IPV4) << row.reason;
        EXPECT_EQ(with(zero + "/" + last), IPV4) << row.reason;
        EXPECT_EQ(with(ones + "/" + zero), IPV4) << row.reason;
        EXPECT_EQ(with(last + "/" + not_last), IPV4) << row.reason;
        EXPECT_EQ(with(last + "/" + last), row.reason);
        EXPECT_EQ(with(last + "/" + ones), row.reason);
        EXPECT_EQ(with(first + "/" + ones), row.reason);
        EXPECT_EQ(describe(ipv4().mask_only(row.type, ones)), IPV4)
            << row.reason;
        EXPECT_EQ(describe(ipv4().key_only(row.type, ones)), IPV4)
            << row.reason;
    }
    const Row more[] = {
        {"Ethernet packet type",
         l2().match(OVS_KEY_ATTR_PACKET_TYPE, "00000000/ffffffff"), L2},
        {"packet type in the mask only",
         l2().mask_only(OVS_KEY_ATTR_PACKET_TYPE, "ffffffff"), L2},
        {"tunnel in the mask only: not from a tunnel",
         l2().mask_only(kTunnel, "0c000000ffffffffffffffff"), L2},
        {"empty tunnel in the mask only", l2().mask_only(kTunnel, ""), L2},
        {"tracked packet",
         ipv4("06").match(OVS_KEY_ATTR_CT_STATE, "22000000/23000000"),
         "match/ct_state"},
        {"untracked packet",
         ipv4("06").match(OVS_KEY_ATTR_CT_STATE, "00000000/20000000"), TCP4},
    };
    check(more);
}

// A packet that was recirculated may have been seen by ct().  What it has
// found is in host order.
TEST(DecodeMatch, Connections) {
    constexpr auto kState = OVS_KEY_ATTR_CT_STATE;
    constexpr auto kZone = OVS_KEY_ATTR_CT_ZONE;
    constexpr auto kMark = OVS_KEY_ATTR_CT_MARK;
    constexpr auto kLabels = OVS_KEY_ATTR_CT_LABELS;
    constexpr auto kTuple4 = OVS_KEY_ATTR_CT_ORIG_TUPLE_IPV4;
    constexpr auto kTuple6 = OVS_KEY_ATTR_CT_ORIG_TUPLE_IPV6;
    const auto again = [](Flow f) {
        return f.match(kRecircId, "05000000/ffffffff");
    };
    const std::string label = "0102030405060708090a0b0c0d0e0f10";
    const std::string zeros(32, '0'), ones(32, 'f');
    const std::string low = "03" + zeros.substr(2);
    const std::string zeros4(2 * sizeof(ovs_key_ct_tuple_ipv4), '0');
    const std::string zeros6(2 * sizeof(ovs_key_ct_tuple_ipv6), '0');
    const std::string tuple4 = "0a000001" + zeros4.substr(8);
    const std::string proto6 =
        zeros6.substr(0, zeros6.size() - 8) + "06000000";
#define AGAIN4 \
    "ipv4 port=1 recirc=5 eth_type=0800/ffff" UNTAGGED " nw_frag=" NOT_LATER
#define AGAIN6 \
    "ipv6 port=1 recirc=5 eth_type=86dd/ffff" UNTAGGED " nw_frag=" NOT_LATER
#define AGAIN_ARP "arp port=1 recirc=5 eth_type=0806/ffff" UNTAGGED
    const Row rows[] = {
        {"established", again(ipv4()).match(kState, "22000000/23000000"),
         AGAIN4 " ct_state=2200/2300"},
        {"untracked", again(ipv4()).match(kState, "00000000/20000000"),
         AGAIN4 " ct_state=0000/2000"},
        {"all of the state", again(ipv6()).match(kState, "a1000000/ffffffff"),
         AGAIN6 " ct_state=a100/ffff"},
        {"a state that there is not",
         again(ipv4()).match(kState, "00000100/00000100"), "match/ct_state"},
        {"zone", again(ipv4()).match(kZone, "0700/ffff"),
         AGAIN4 " ct_zone=0700/ffff"},
        {"zone 0", again(ipv6()).match(kZone, "0000/ffff"),
         AGAIN6 " ct_zone=0000/ffff"},
        {"mark", again(ipv4()).match(kMark, "15000000/0f000000"),
         AGAIN4 " ct_mark=05000000/0f000000"},
        {"label", again(ipv6()).match(kLabels, label + "/" + ones),
         AGAIN6 " ct_label=" + label + "/" + ones},
        {"bits of it", again(ipv4()).match(kLabels, zeros + "/" + low),
         AGAIN4 " ct_label=" + zeros + "/" + low},
        {"all four",
         again(ipv4("06"))
             .match(kState, "22000000/3b000000")
             .match(kZone, "0700/ffff")
             .match(kMark, "01000000/01000000")
             .match(kLabels, low + "/" + low),
         AGAIN4 " nw_proto=06/ff ct_state=2200/3b00 ct_zone=0700/ffff"
                " ct_mark=01000000/01000000 ct_label="
             + low + "/" + low},
        {"behind a tag",
         again(ipv4()).match(kMark, "01000000/01000000").in_vlan("1005/1fff"),
         "ipv4 port=1 recirc=5 eth_type=0800/ffff vlan_tci=1005/1fff"
         " vlan2_tci=0000/ffff tpids=00/01 nw_frag=00/02"
         " ct_mark=01000000/01000000"},

        // Of a field that the key does not have, zero is matched.
        {"state in the mask only", again(ipv4()).mask_only(kState, "20000000"),
         AGAIN4 " ct_state=0000/2000"},
        {"zone in the mask only", again(ipv4()).mask_only(kZone, "ffff"),
         AGAIN4 " ct_zone=0000/ffff"},
        {"mark in the mask only", again(ipv6()).mask_only(kMark, "01000000"),
         AGAIN6 " ct_mark=00000000/01000000"},
        {"label in the mask only", again(ipv6()).mask_only(kLabels, low),
         AGAIN6 " ct_label=" + zeros + "/" + low},
        {"in the key only", again(ipv4()).key_only(kMark, "01000000"), AGAIN4},
        {"not matched", again(ipv4()).match(kState, "22000000/00000000"),
         AGAIN4},

        // The original tuple is not in the key, zero or not.
        {"tuple", again(ipv4()).match(kTuple4, tuple4 + "/" + tuple4),
         "match/ct_tuple4"},
        {"zero bits of the tuple",
         again(ipv4()).match(kTuple4, zeros4 + "/" + tuple4),
         "match/ct_tuple4"},
        {"tuple in the mask only", again(ipv4()).mask_only(kTuple4, tuple4),
         "match/ct_tuple4"},
        {"tuple, not matched",
         again(ipv4()).match(kTuple4, tuple4 + "/" + zeros4), AGAIN4},
        {"tuple of IPv6", again(ipv6()).match(kTuple6, zeros6 + "/" + proto6),
         "match/ct_tuple6"},
        {"tuple of the other version",
         again(ipv4()).match(kTuple6, zeros6 + "/" + proto6),
         "match/ct_tuple6"},

        // There is no ct() of what is not IP.
        {"no state of ARP", again(arp()).match(kState, "00000000/23000000"),
         AGAIN_ARP},
        {"no mark of ARP", again(arp()).mask_only(kMark, "ffffffff"),
         AGAIN_ARP},
        {"no tuple of ARP", again(arp()).match(kTuple4, zeros4 + "/" + tuple4),
         AGAIN_ARP},
        {"state of ARP", again(arp()).match(kState, "30000000/30000000"),
         "match/ct_state"},

        // Recirculated or not is not matched, or as not: see ZeroAtIngress.
        {"maybe recirculated",
         ipv4()
             .match(kRecircId, "05000000/00000000")
             .match(kState, "22000000/20000000"),
         "match/ct_state"},
        {"not recirculated",
         ipv4()
             .match(kRecircId, "00000000/ffffffff")
             .match(kMark, "01000000/01000000"),
         "match/ct_mark"},
    };
#undef AGAIN4
#undef AGAIN6
#undef AGAIN_ARP
    check(rows);
}

// Invariant 1, bit by bit
// -----------------------
// The layouts below say once more, in another form than match.cc does, where
// each byte of each attribute goes in a flow of each kind.  Given them,
//
// - each bit of each attribute's mask that is switched on in a minimal flow
//   either adds exactly the one bit of the encoded mask that the layout names,
//   and the key's bit with it, or refuses the flow with the field's name,
// - each bit that is switched off in a flow that matches everything takes away
//   exactly that one bit, or refuses the flow, and
// - only bits of 'kZeroAtIngress' attributes, whose key is zero, and the high
//   byte of an ARP opcode, may be accepted without being encoded.
//
// The flow's key holds every attribute there is, also those that make no sense
// together, so that a field can not be taken from the wrong one.

// Pseudo members.
constexpr std::string_view kRefuse = "refuse", kZero = "zero", kFrag = "frag";

struct Part {
    std::string_view member;  // Of struct xf_key.
    size_t offset, size;      // In the attribute.
    size_t skip = 0;          // Bytes of the member before.
};
using Layout = std::vector<Part>;

const Layout kEthernetLayout = {{"eth_src", 0, 6}, {"eth_dst", 6, 6}};
const Layout kDpHashLayout = {{"dp_hash", 0, 1}, {kZero, 1, 3}};
const Layout kArpLayout = {{"ipv4_src", 0, 4}, {"ipv4_dst", 4, 4},
                           {kZero, 8, 1},      {"nw_proto", 9, 1},
                           {"arp_sha", 10, 6}, {"arp_tha", 16, 6},
                           {kRefuse, 22, 2}};
const Layout kIpv4Layout = {{"ipv4_src", 0, 4}, {"ipv4_dst", 4, 4},
                            {"nw_proto", 8, 1}, {"nw_tos", 9, 1},
                            {"nw_ttl", 10, 1},  {kFrag, 11, 1}};
const Layout kIpv6Layout = {{"ipv6_src", 0, 16},   {"ipv6_dst", 16, 16},
                            {"ipv6_label", 32, 4}, {"nw_proto", 36, 1},
                            {"nw_tos", 37, 1},     {"nw_ttl", 38, 1},
                            {kFrag, 39, 1}};
const Layout kPortsLayout = {{"tp_src", 0, 2}, {"tp_dst", 2, 2}};
const Layout kFlagsLayout = {{"tcp_flags", 0, 2}};
const Layout kIcmpLayout = {{"tp_src", 0, 1, 1}, {"tp_dst", 1, 1, 1}};
const Layout kNdLayout = {
    {"nd_target", 0, 16}, {"nd_sll", 16, 6}, {"nd_tll", 22, 6}};
// Of recirculated packets.
const std::map<uint16_t, Layout> kConnectionLayouts = {
    {OVS_KEY_ATTR_CT_STATE, {{"ct_state", 0, 2}, {kZero, 2, 2}}},
    {OVS_KEY_ATTR_CT_ZONE, {{"ct_zone", 0, 2}}},
    {OVS_KEY_ATTR_CT_MARK, {{"ct_mark", 0, 4}}},
    {OVS_KEY_ATTR_CT_LABELS, {{"ct_label", 0, 16}}},
    {OVS_KEY_ATTR_CT_ORIG_TUPLE_IPV4, {{kRefuse, 0, 16}}},
    {OVS_KEY_ATTR_CT_ORIG_TUPLE_IPV6, {{kRefuse, 0, 40}}},
};
const Layout kMplsLayout = {{"mpls_lse", 0, 4}, {kRefuse, 4, 4}};

// A kind of flow: the attributes that mean something to it.
struct Kind {
    const char *name;
    xf_class cls;
    const char *eth_type;
    uint8_t proto;    // 0: any.
    uint8_t nd_type;  // Of an ICMPv6 message of code 0; 0: any.
    int frag;         // Value of enum ovs_frag_type; -1: any.
    std::map<uint16_t, Layout> layouts;
};
constexpr int kAnyFragment = -1;

std::vector<Kind> kinds() {
    std::vector<Kind> all = {
        {"L2", XF_CLASS_L2, "88b5", 0, 0, kAnyFragment, {}},
        {"ARP",
         XF_CLASS_ARP,
         "0806",
         0,
         0,
         kAnyFragment,
         {{kArp, kArpLayout}}},
        {"MPLS",
         XF_CLASS_MPLS,
         "8847",
         0,
         0,
         kAnyFragment,
         {{kMpls, kMplsLayout}}},
    };
    enum { kV4 = 1, kV6 = 2, kBoth = 3 };
    const std::map<uint16_t, Layout> tcp = {{kTcp, kPortsLayout},
                                            {kTcpFlags, kFlagsLayout}};
    const std::map<uint16_t, Layout> icmpv6 = {{kIcmpv6, kIcmpLayout}};
    const std::map<uint16_t, Layout> nd = {{kIcmpv6, kIcmpLayout},
                                           {kNd, kNdLayout}};
    const struct {
        const char *name;
        uint8_t proto, nd_type;
        int frag, versions;
        std::map<uint16_t, Layout> layouts;
    } protocols[] = {
        {"any protocol", 0, 0, kAnyFragment, kBoth, {}},
        {"TCP", 6, 0, kAnyFragment, kBoth, tcp},
        {"TCP, not a fragment", 6, 0, XF_FRAG_NONE, kBoth, tcp},
        {"TCP, first fragment", 6, 0, XF_FRAG_FIRST, kBoth, tcp},
        {"TCP, later fragment", 6, 0, XF_FRAG_LATER, kBoth, {}},
        {"UDP", 17, 0, kAnyFragment, kBoth, {{kUdp, kPortsLayout}}},
        {"SCTP", 132, 0, kAnyFragment, kBoth, {{kSctp, kPortsLayout}}},
        {"ICMP", 1, 0, kAnyFragment, kV4, {{kIcmp, kIcmpLayout}}},
        {"ICMPv6", 58, 0, kAnyFragment, kV6, icmpv6},
        {"ICMPv6, later fragment", 58, 0, XF_FRAG_LATER, kV6, {}},
        {"ND solicitation", 58, 135, kAnyFragment, kV6, nd},
        {"ND advertisement", 58, 136, XF_FRAG_NONE, kV6, nd},
        {"ND redirect", 58, 137, kAnyFragment, kV6, icmpv6},
        {"ICMP in IPv6", 1, 0, kAnyFragment, kV6, {}},
        {"ICMPv6 in IPv4", 58, 0, kAnyFragment, kV4, {}},
    };
    for (const auto &p : protocols) {
        if (p.versions & kV4) {
            Kind k{p.name,    XF_CLASS_IPV4, "0800",   p.proto,
                   p.nd_type, p.frag,        p.layouts};
            k.layouts[kIpv4] = kIpv4Layout;
            all.push_back(k);
        }
        if (p.versions & kV6) {
            Kind k{p.name,    XF_CLASS_IPV6, "86dd",   p.proto,
                   p.nd_type, p.frag,        p.layouts};
            k.layouts[kIpv6] = kIpv6Layout;
            all.push_back(k);
        }
    }
    for (Kind &k : all) {
        k.layouts[kEthernet] = kEthernetLayout;
        k.layouts[kDpHash] = kDpHashLayout;
    }
    return all;
}

struct AttrInfo {
    uint16_t type;
    size_t size;
};
// All but the structural ones: IN_PORT, ETHERTYPE, VLAN and ENCAP.
constexpr AttrInfo kAttrs[] = {
    {OVS_KEY_ATTR_UNSPEC, 4},
    {OVS_KEY_ATTR_PRIORITY, 4},
    {OVS_KEY_ATTR_ETHERNET, 12},
    {OVS_KEY_ATTR_IPV4, 12},
    {OVS_KEY_ATTR_IPV6, 40},
    {OVS_KEY_ATTR_TCP, 4},
    {OVS_KEY_ATTR_UDP, 4},
    {OVS_KEY_ATTR_ICMP, 2},
    {OVS_KEY_ATTR_ICMPV6, 2},
    {OVS_KEY_ATTR_ARP, 24},
    {OVS_KEY_ATTR_ND, 28},
    {OVS_KEY_ATTR_SKB_MARK, 4},
    {OVS_KEY_ATTR_TUNNEL, 8},
    {OVS_KEY_ATTR_SCTP, 4},
    {OVS_KEY_ATTR_TCP_FLAGS, 2},
    {OVS_KEY_ATTR_DP_HASH, 4},
    {OVS_KEY_ATTR_RECIRC_ID, 4},
    {OVS_KEY_ATTR_MPLS, 8},
    {OVS_KEY_ATTR_CT_STATE, 4},
    {OVS_KEY_ATTR_CT_ZONE, 2},
    {OVS_KEY_ATTR_CT_MARK, 4},
    {OVS_KEY_ATTR_CT_LABELS, 16},
    {OVS_KEY_ATTR_CT_ORIG_TUPLE_IPV4, 16},
    {OVS_KEY_ATTR_CT_ORIG_TUPLE_IPV6, 40},
    {OVS_KEY_ATTR_NSH, 8},
    {OVS_KEY_ATTR_PACKET_TYPE, 4},
    {OVS_KEY_ATTR_ND_EXTENSIONS, 8},
    {OVS_KEY_ATTR_TUNNEL_INFO, 4},
    {OVS_KEY_ATTR_IPV6_EXTHDRS, 2},
};
// A single bit of a recirculation id is like them: zero, or refused.
const std::set<uint16_t> kZeroAtIngress = {
    OVS_KEY_ATTR_PRIORITY,
    OVS_KEY_ATTR_SKB_MARK,
    OVS_KEY_ATTR_RECIRC_ID,
    OVS_KEY_ATTR_CT_STATE,
    OVS_KEY_ATTR_CT_ZONE,
    OVS_KEY_ATTR_CT_MARK,
    OVS_KEY_ATTR_CT_LABELS,
    OVS_KEY_ATTR_CT_ORIG_TUPLE_IPV4,
    OVS_KEY_ATTR_CT_ORIG_TUPLE_IPV6,
    OVS_KEY_ATTR_PACKET_TYPE,
};
bool is_zero_at_ingress(uint16_t type, size_t byte) {
    return kZeroAtIngress.contains(type) || (type == kDpHash && byte > 0);
}

// A flow of one level and one per VLAN tag.
struct Levels {
    std::vector<Flow> levels;
    std::string tci;

    explicit Levels(size_t n_tags, const char *tags_tci)
        : levels(n_tags + 1), tci(tags_tci) {}

    size_t n_tags() const { return levels.size() - 1; }
    size_t index_of(uint16_t type) const {
        return Flow::is_outer(type) ? 0 : n_tags();
    }
    Flow &level_of(uint16_t type) { return levels[index_of(type)]; }
    Flow joined() const {
        Flow inner = levels.back();
        for (size_t i = n_tags(); i-- > 0;) {
            Flow outer = levels[i];
            for (auto side : {&Flow::key, &Flow::mask}) {
                const AttrList list = Flow::encode(inner.*side);
                const Bytes b = list.bytes();
                (outer.*side)[kEncap] = ByteVector(b.begin(), b.end());
            }
            outer.match(kVlan, tci).match(kEthertype, "8100/ffff");
            inner = outer;
        }
        return inner;
    }
};

// The least that a flow of the kind has to match, with every attribute in the
// key.  'metadata' is what the bytes of the zero-at-ingress ones are.
Levels minimal(const Kind &kind, size_t n_tags, std::byte metadata) {
    Levels levels(n_tags, "1005/1000");
    levels.levels[0].match(kInPort, "01000000/ffffffff");
    levels.level_of(kEthertype)
        .match(kEthertype, std::string(kind.eth_type) + "/ffff");
    for (const AttrInfo &a : kAttrs) {
        ByteVector payload(a.size);
        for (size_t i = 0; i < a.size; i++) {
            payload[i] = is_zero_at_ingress(a.type, i)
                           ? metadata
                           : std::byte(0x35 + 17 * i + 29 * a.type);
        }
        if (a.type == OVS_KEY_ATTR_PACKET_TYPE) {
            payload.assign(a.size, std::byte{0});
        }
        levels.level_of(a.type).key[a.type] = payload;
    }
    auto &ip = levels.level_of(kIpv4);
    ip.key[kArp][offsetof(ovs_key_arp, arp_op)] = std::byte{0};
    for (auto [type, proto, frag] :
         {std::tuple{kIpv4, offsetof(ovs_key_ipv4, ipv4_proto),
                     offsetof(ovs_key_ipv4, ipv4_frag)},
          std::tuple{kIpv6, offsetof(ovs_key_ipv6, ipv6_proto),
                     offsetof(ovs_key_ipv6, ipv6_frag)}}) {
        ip.key[type][proto] = std::byte{kind.proto};
        ip.key[type][frag] = std::byte(std::max(kind.frag, 0));
        if (!kind.layouts.contains(type)) {
            continue;
        }
        ip.mask[type].resize(ip.key[type].size());
        if (kind.proto) {
            ip.mask[type][proto] = std::byte{0xff};
        }
        if (kind.frag != kAnyFragment) {
            ip.mask[type][frag] = std::byte{0xff};
        }
    }
    if (kind.nd_type) {
        ip.key[kIcmpv6] = {std::byte{kind.nd_type}, std::byte{0}};
        ip.mask[kIcmpv6] = from_hex("ffff");
    }
    return levels;
}

// The byte of struct xf_key where byte 'i' of attribute 'type' goes.
struct Place {
    enum { kRefused, kNowhere, kFragment, kByte } what;
    size_t byte = 0;
    std::string_view member = {};
};
Place place_of(const Kind &kind, uint16_t type, size_t i) {
    const auto it = kind.layouts.find(type);
    if (is_zero_at_ingress(type, i)
        && (it == kind.layouts.end() || type == kDpHash)) {
        return {Place::kNowhere};
    }
    if (it == kind.layouts.end()) {
        return {Place::kRefused};
    }
    for (const Part &part : it->second) {
        if (i < part.offset || i >= part.offset + part.size) {
            continue;
        }
        if (part.member == kRefuse) {
            break;
        } else if (part.member == kZero) {
            return {Place::kNowhere};
        } else if (part.member == kFrag) {
            return {Place::kFragment};
        }
        for (const Member &m : members_of(kind.cls)) {
            if (m.name == part.member) {
                return {Place::kByte, m.offset + part.skip + i - part.offset,
                        part.member};
            }
        }
        ADD_FAILURE() << "no member " << part.member;
    }
    return {Place::kRefused};
}

// "mask +13.7=1": the bits of the encoded mask that are in 'b' and not in 'a'
// with their bits of the key, then those that are in 'a' and not in 'b'.
std::string difference(const Match &a, const Match &b) {
    std::string s;
    if (a.cls != b.cls || a.in_port != b.in_port || a.recirc_id != b.recirc_id
        || a.n_tags != b.n_tags) {
        s += "class, port, recirculation or tags ";
    }
    auto bit_of = [](const xf_key &k, size_t i) {
        return std::to_integer<int>(bytes_of(k)[i / 8] >> (i % 8)) & 1;
    };
    for (size_t i = 0; i < 8 * sizeof a.mask; i++) {
        if (a.mask.word[i / 64] == b.mask.word[i / 64]
            && a.key.word[i / 64] == b.key.word[i / 64]) {
            continue;
        }
        const int was = bit_of(a.mask, i), is = bit_of(b.mask, i);
        const int key_was = bit_of(a.key, i), key_is = bit_of(b.key, i);
        const auto name = std::to_string(i / 8) + "." + std::to_string(i % 8);
        if (was != is) {
            s += (is ? "+" : "-") + name + "="
               + std::to_string(is ? key_is : key_was) + " ";
        } else if (key_was != key_is) {
            s += "key" + name + " ";
        }
    }
    return s;
}
std::string bit_change(char sign, size_t byte, int bit, std::byte key) {
    return sign + std::to_string(byte) + "." + std::to_string(bit) + "="
         + std::to_string(std::to_integer<int>(key >> bit) & 1) + " ";
}

// A flow whose mask is changed bit by bit.
class Probe {
public:
    // Of the attribute 'type', which is behind 'n_tags' tags.
    Probe(const Flow &flow, uint16_t type, size_t n_tags)
        : key_(copy(Flow::encode(flow.key))),
          mask_(copy(Flow::encode(flow.mask))) {
        Bytes level = mask_;
        for (size_t i = 0; i < n_tags; i++) {
            level = payload(level, kEncap);
        }
        const Bytes found = payload(level, type);
        offset_ = found.data() - mask_.data();
    }
    bool is_on(size_t bit) const {
        return (mask_[offset_ + bit / 8] >> bit % 8 & std::byte{1})
            != std::byte{0};
    }
    // What decoding gives with the bit changed: the difference to 'base', or
    // the reason of the refusal.
    std::string flip(size_t bit, const Match &base) {
        mask_[offset_ + bit / 8] ^= std::byte{1} << bit % 8;
        Match m;
        const Reject r = decode(key_, mask_, &m);
        mask_[offset_ + bit / 8] ^= std::byte{1} << bit % 8;
        return r ? r.name() : difference(base, m);
    }

private:
    static ByteVector copy(const AttrList &list) {
        return {list.bytes().begin(), list.bytes().end()};
    }
    static Bytes payload(Bytes level, uint16_t type) {
        AttrReader reader(level);
        while (auto a = reader.next()) {
            if (a->type == type) {
                return a->payload;
            }
        }
        ADD_FAILURE() << "no attribute " << type;
        return level;
    }

    const ByteVector key_;
    ByteVector mask_;
    size_t offset_;
};

// Collects what is wrong: one line per class and byte, not one per bit.
class Wrong {
public:
    void expect(const std::string &got, const std::string &expected,
                const Kind &kind, size_t n_tags, uint16_t type, size_t bit) {
        if (got != expected) {
            wrong_.try_emplace(std::tuple(kind.cls, n_tags, type, bit / 8),
                               "'" + got + "' instead of '" + expected
                                   + "', for " + kind.name + ", bit "
                                   + std::to_string(bit % 8));
        }
    }
    ~Wrong() {
        for (const auto &[where, what] : wrong_) {
            const auto &[cls, n_tags, type, byte] = where;
            ADD_FAILURE() << kClasses[cls] << ", " << n_tags
                          << " tags, attribute " << type << " byte " << byte
                          << ": " << what;
        }
    }

private:
    std::map<std::tuple<xf_class, size_t, uint16_t, size_t>, std::string>
        wrong_;
};

// What switching one bit of an attribute's mask on must do.
std::string expected_on(const Kind &kind, uint16_t type, size_t bit,
                        std::byte key) {
    const Place place = place_of(kind, type, bit / 8);
    const bool key_is_zero = (key >> bit % 8 & std::byte{1}) == std::byte{0};
    if (place.what == Place::kByte) {
        return bit_change('+', place.byte, bit % 8, key);
    }
    if (place.what == Place::kNowhere && key_is_zero) {
        return "";
    }
    return "match/" + field_name(type, bit / 8);
}

TEST(MaskBits, SwitchedOn) {
    Wrong wrong;
    for (const Kind &kind : kinds()) {
        for (const auto &[n_tags, metadata] :
             {std::pair{0, 0x00}, {0, 0xff}, {1, 0x00}, {1, 0xff}, {2, 0}}) {
            const Levels base = minimal(kind, n_tags, std::byte(metadata));
            Match m0;
            const Reject r0 = decode(base.joined(), &m0);
            ASSERT_FALSE(r0) << kind.name << ": " << r0.name();
            ASSERT_EQ(m0.cls, kind.cls);

            for (const AttrInfo &a : kAttrs) {
                if (metadata && !is_zero_at_ingress(a.type, a.size - 1)) {
                    continue;  // Is the same as without.
                }
                Levels flow = base;
                Flow &level = flow.level_of(a.type);
                level.mask[a.type].resize(a.size);
                Probe probe(flow.joined(), a.type, flow.index_of(a.type));
                for (size_t i = 0; i < 8 * a.size; i++) {
                    if (probe.is_on(i)) {
                        continue;  // What makes it a flow of this kind.
                    }
                    wrong.expect(
                        probe.flip(i, m0),
                        expected_on(kind, a.type, i, level.key[a.type][i / 8]),
                        kind, n_tags, a.type, i);
                }
            }
        }
    }
}

// What ct() finds, in flows of packets that it may have seen.
TEST(MaskBits, OfConnections) {
    Wrong wrong;
    for (Kind kind : kinds()) {
        if (kind.cls == XF_CLASS_IPV4 || kind.cls == XF_CLASS_IPV6) {
            kind.layouts.insert(kConnectionLayouts.begin(),
                                kConnectionLayouts.end());
        }
        for (const auto &[n_tags, metadata] :
             {std::pair{0, 0x00}, {0, 0xff}, {1, 0x5a}, {2, 0xa5}}) {
            Levels base = minimal(kind, n_tags, std::byte(metadata));
            base.levels[0].match(kRecircId, "05000000/ffffffff");
            Match m0;
            ASSERT_FALSE(decode(base.joined(), &m0)) << kind.name;
            for (const AttrInfo &a : kAttrs) {
                if (!kConnectionLayouts.contains(a.type)) {
                    continue;
                }
                Levels flow = base;
                flow.levels[0].mask[a.type].resize(a.size);
                const ByteVector key = flow.levels[0].key[a.type];
                Probe probe(flow.joined(), a.type, 0);
                for (size_t i = 0; i < 8 * a.size; i++) {
                    wrong.expect(probe.flip(i, m0),
                                 expected_on(kind, a.type, i, key[i / 8]),
                                 kind, n_tags, a.type, i);
                }
            }
        }
    }
}

// An attribute at the wrong level of a tagged flow: to encode it or to refuse
// it, both is safe.  To ignore it is not.
size_t probe_at(const Kind &kind, const Levels &base, const AttrInfo &a,
                size_t level, Wrong *wrong) {
    Levels flow = base;
    Flow &from = flow.level_of(a.type), &to = flow.levels[level];
    from.mask[a.type].resize(a.size);
    to.key.insert(from.key.extract(a.type));
    to.mask.insert(from.mask.extract(a.type));
    Match m0;
    if (decode(flow.joined(), &m0)) {
        return 0;
    }
    size_t n_probed = 0;
    Probe probe(flow.joined(), a.type, level);
    for (size_t i = 0; i < 8 * a.size; i++) {
        if (probe.is_on(i)) {
            continue;
        }
        const std::string got = probe.flip(i, m0);
        n_probed++;
        if (!got.starts_with("match/")) {
            wrong->expect(got,
                          expected_on(kind, a.type, i, to.key[a.type][i / 8]),
                          kind, flow.n_tags(), a.type, i);
        }
    }
    return n_probed;
}

TEST(MaskBits, AtTheWrongLevel) {
    Wrong wrong;
    size_t n_probed = 0;
    for (const Kind &kind : kinds()) {
        for (const auto &[n_tags, metadata] :
             {std::pair{1, 0x00}, {1, 0xff}, {2, 0x00}, {2, 0xff}}) {
            const Levels base = minimal(kind, n_tags, std::byte(metadata));
            for (const AttrInfo &a : kAttrs) {
                if (metadata && !is_zero_at_ingress(a.type, a.size - 1)) {
                    continue;  // Is the same as without.
                }
                for (size_t level = 0; level < base.levels.size(); level++) {
                    if (level != base.index_of(a.type)) {
                        n_probed += probe_at(kind, base, a, level, &wrong);
                    }
                }
            }
        }
    }
    EXPECT_GT(n_probed, 1000u);
}

// All bits that a flow of this kind can match.
Levels maximal(const Kind &kind, size_t n_tags) {
    Levels all = minimal(kind, n_tags, std::byte{0});
    all.tci = "b005/ffff";
    for (const AttrInfo &a : kAttrs) {
        auto &mask = all.level_of(a.type).mask[a.type];
        mask.assign(a.size, std::byte{0});
        for (size_t i = 0; i < a.size; i++) {
            if (place_of(kind, a.type, i).what != Place::kRefused) {
                mask[i] = std::byte{0xff};
            }
        }
    }
    return all;
}

// Why a flow of this kind is refused if it does not match its IP protocol, or
// its ICMPv6 type and code, exactly; empty if it is not.
struct Dependent {
    std::string proto, icmpv6;
};
Dependent dependent_on(const Kind &kind) {
    Dependent d;
    for (const uint16_t type :
         {kTcp, kUdp, kIcmp, kIcmpv6, kNd, kSctp, kTcpFlags}) {
        if (d.proto.empty() && kind.layouts.contains(type)) {
            d.proto = "match/" + field_name(type, 0);
        }
    }
    if (kind.layouts.contains(kNd)) {
        d.icmpv6 = "match/nd_target";
    }
    return d;
}

// The attributes that decide of which kind a flow is.
void switch_structure_off(const Kind &kind, const Levels &all,
                          const Match &base, Wrong *wrong) {
    const Flow flow = all.joined();
    Probe in_port(flow, kInPort, 0);
    for (size_t i = 0; i < 32; i++) {
        wrong->expect(in_port.flip(i, base), "match/in_port", kind,
                      all.n_tags(), kInPort, i);
    }
    Probe eth_type(flow, kEthertype, all.n_tags());
    for (size_t i = 0; i < 16; i++) {
        wrong->expect(eth_type.flip(i, base), "match/eth_type", kind,
                      all.n_tags(), kEthertype, i);
    }
    const size_t tcis[] = {offsetof(xf_key, vlan_tci),
                           offsetof(xf_key, vlan2_tci)};
    for (size_t tag = 0; tag < all.n_tags(); tag++) {
        Probe tpid(flow, kEthertype, tag), tci(flow, kVlan, tag);
        for (size_t i = 0; i < 16; i++) {
            wrong->expect(tpid.flip(i, base), "match/vlan_tpid", kind,
                          all.n_tags(), kEthertype, i);
            const bool present = i == 4;  // 0x1000 in network order.
            const std::string minus = bit_change('-', tcis[tag] + i / 8, i % 8,
                                                 flow.key.at(kVlan)[i / 8]);
            wrong->expect(tci.flip(i, base), present ? "" : minus, kind,
                          all.n_tags(), kVlan, i);
        }
    }
}

TEST(MaskBits, SwitchedOff) {
    Wrong wrong;
    for (const Kind &kind : kinds()) {
        const Dependent dependent = dependent_on(kind);
        for (const size_t n_tags : {0, 1, 2}) {
            Levels all = maximal(kind, n_tags);
            Match m1;
            const Reject r1 = decode(all.joined(), &m1);
            ASSERT_FALSE(r1) << kind.name << ": " << r1.name();

            for (const AttrInfo &a : kAttrs) {
                Flow &level = all.level_of(a.type);
                Probe probe(all.joined(), a.type, all.index_of(a.type));
                for (size_t i = 0; i < 8 * a.size; i++) {
                    const Place place = place_of(kind, a.type, i / 8);
                    std::string expected;
                    if (place.what == Place::kRefused) {
                        continue;  // Is off.
                    } else if (place.what == Place::kFragment) {
                        expected = "match/ip_frag";
                    } else if (place.member == "nw_proto"
                               && !dependent.proto.empty()) {
                        expected = dependent.proto;
                    } else if (a.type == kIcmpv6
                               && !dependent.icmpv6.empty()) {
                        expected = dependent.icmpv6;
                    } else if (place.what == Place::kByte) {
                        expected = bit_change('-', place.byte, i % 8,
                                              level.key[a.type][i / 8]);
                    }
                    wrong.expect(probe.flip(i, m1), expected, kind, n_tags,
                                 a.type, i);
                }
            }
            switch_structure_off(kind, all, m1, &wrong);
        }
    }
}

// Malformed attributes
// --------------------

bool is_malformed(const Reject &r) {
    return r && std::string_view(r.group) == "malformed";
}

std::vector<Flow> samples() {
    std::vector<Flow> flows = {
        l2(),
        arp().match(kArp, &ovs_key_arp::arp_op, "0001/ffff"),
        ipv4("06")
            .match(kTcp, "00500000/ffff0000")
            .match(kTcpFlags, "0002/0fff"),
        ipv6("3a").match(kIcmpv6, "8700/ffff"),
        ipv4("11").match(OVS_KEY_ATTR_CT_LABELS,
                         std::string(32, '0') + "/" + std::string(32, 'f')),
        ipv4("06").match(kTcp, "00500000/ffff0000").in_vlan("1005/1fff"),
        ipv6("11").match(kUdp, "00500000/ffff0000").in_vlan("1005/ffff"),
    };
    for (const Flow &f : flows) {
        Match m;
        EXPECT_FALSE(decode(f, &m));
    }
    return flows;
}

// Cut within an attribute, a flow is malformed.  Between two, it is another
// flow, which is not to be accepted with more than the whole one has.
TEST(Malformed, Truncated) {
    for (const Flow &flow : samples()) {
        const AttrList key = Flow::encode(flow.key);
        const AttrList mask = Flow::encode(flow.mask);
        Match whole;
        ASSERT_FALSE(decode(key.bytes(), mask.bytes(), &whole));
        for (const bool cut_key : {true, false}) {
            const AttrList &list = cut_key ? key : mask;
            for (size_t n = 0; n < list.bytes().size(); n++) {
                const Bytes cut = list.bytes().first(n);
                Match m;
                const Reject r = cut_key ? decode(cut, mask.bytes(), &m)
                                         : decode(key.bytes(), cut, &m);
                // Is 'n' inside of an attribute, not counting its padding?
                bool inside = false;
                for (size_t start : list.starts()) {
                    nlattr a;
                    std::memcpy(&a, list.bytes().data() + start, sizeof a);
                    inside |= n > start && n < start + a.nla_len;
                }
                if (inside) {
                    EXPECT_EQ(r ? r.name() : "", "malformed/attribute_length")
                        << n << " of " << to_hex(list.bytes());
                } else if (!r) {
                    for (size_t i = 0; i < XF_KEY_WORDS; i++) {
                        EXPECT_EQ(m.mask.word[i] & ~whole.mask.word[i], 0u);
                    }
                } else {
                    EXPECT_FALSE(is_malformed(r)) << r.name();
                }
            }
        }
    }
}

// The same within ENCAP, whose own length is right.
TEST(Malformed, TruncatedEncap) {
    const Flow whole = ipv4("06").match(kTcp, "00500000/ffff0000");
    for (auto side : {&Flow::key, &Flow::mask}) {
        Flow flow = whole;
        flow.in_vlan("1005/1fff");
        const ByteVector inner = (flow.*side)[kEncap];
        size_t n_inside = 0;
        for (size_t n = 0; n < inner.size(); n++) {
            (flow.*side)[kEncap].assign(inner.begin(), inner.begin() + n);
            // The attributes, without padding: ETHERTYPE at 0 to 6, IPV4 at 8
            // to 24, TCP at 24 to 32.
            const bool inside =
                (n > 0 && n < 6) || (n > 8 && n < 24) || (n > 24 && n < 32);
            n_inside += inside;
            const std::string got = describe(flow);
            EXPECT_EQ(got == "malformed/attribute_length", inside)
                << n << ": " << got;
        }
        EXPECT_EQ(n_inside, 5u + 15 + 7);
    }
}

TEST(Malformed, LengthField) {
    const AttrList good = Flow::encode(l2().key);
    const AttrList good_mask = Flow::encode(l2().mask);
    for (unsigned len = 0; len <= 0xffff; len++) {
        // The last of the key and of the mask, 4 bytes after its header.
        AttrList bad;
        bad.put_raw(static_cast<uint16_t>(len), OVS_KEY_ATTR_CT_MARK,
                    from_hex("00000000"));
        const std::string expected = len < 4 || len > 8
                                       ? "malformed/attribute_length"
                                   : len < 8 ? "malformed/ct_mark"
                                             : "";
        AttrList key = good, mask = good_mask;
        Match m;
        key.append(bad.bytes());
        Reject r = decode(key.bytes(), good_mask.bytes(), &m);
        ASSERT_EQ(r ? r.name() : "", expected) << "nla_len " << len;
        mask.append(bad.bytes());
        r = decode(good.bytes(), mask.bytes(), &m);
        ASSERT_EQ(r ? r.name() : "", expected) << "nla_len " << len;
    }
}

// Attributes of a fixed size, one byte shorter, longer, and empty.
TEST(Malformed, PayloadSize) {
    const struct {
        uint16_t type;
        size_t size;
        const char *name;
    } rows[] = {
        {OVS_KEY_ATTR_PRIORITY, 4, "malformed/skb_priority"},
        {OVS_KEY_ATTR_IN_PORT, 4, "malformed/in_port"},
        {OVS_KEY_ATTR_ETHERNET, 12, "malformed/eth"},
        {OVS_KEY_ATTR_VLAN, 2, "malformed/vlan"},
        {OVS_KEY_ATTR_ETHERTYPE, 2, "malformed/eth_type"},
        {OVS_KEY_ATTR_IPV4, 12, "malformed/ipv4"},
        {OVS_KEY_ATTR_IPV6, 40, "malformed/ipv6"},
        {OVS_KEY_ATTR_TCP, 4, "malformed/tcp"},
        {OVS_KEY_ATTR_UDP, 4, "malformed/udp"},
        {OVS_KEY_ATTR_ICMP, 2, "malformed/icmp"},
        {OVS_KEY_ATTR_ICMPV6, 2, "malformed/icmpv6"},
        {OVS_KEY_ATTR_ARP, 24, "malformed/arp"},
        {OVS_KEY_ATTR_ND, 28, "malformed/nd"},
        {OVS_KEY_ATTR_SKB_MARK, 4, "malformed/skb_mark"},
        {OVS_KEY_ATTR_SCTP, 4, "malformed/sctp"},
        {OVS_KEY_ATTR_TCP_FLAGS, 2, "malformed/tcp_flags"},
        {OVS_KEY_ATTR_DP_HASH, 4, "malformed/dp_hash"},
        {OVS_KEY_ATTR_RECIRC_ID, 4, "malformed/recirc_id"},
        {OVS_KEY_ATTR_CT_STATE, 4, "malformed/ct_state"},
        {OVS_KEY_ATTR_CT_ZONE, 2, "malformed/ct_zone"},
        {OVS_KEY_ATTR_CT_MARK, 4, "malformed/ct_mark"},
        {OVS_KEY_ATTR_CT_LABELS, 16, "malformed/ct_labels"},
        {OVS_KEY_ATTR_PACKET_TYPE, 4, "malformed/packet_type"},
    };
    for (const auto &row : rows) {
        for (const size_t size : {row.size - 1, row.size + 1, size_t{0}}) {
            for (auto side : {&Flow::key, &Flow::mask}) {
                Flow flow = ipv4("06");
                (flow.*side)[row.type].resize(size);
                EXPECT_EQ(describe(flow), row.name) << size << " bytes";
                if (row.type == kVlan) {
                    continue;
                }
                // Behind a tag, too.
                Flow inner = ipv4("06");
                (inner.*side)[row.type].resize(size);
                EXPECT_EQ(describe(inner.in_vlan("1005/1fff")), row.name)
                    << size << " bytes, behind a tag";
            }
        }
    }
}

// Those of any size have the same one in key and mask.
TEST(Malformed, SizesDiffer) {
    const Row rows[] = {
        {"MPLS",
         on_port1("8847").match(OVS_KEY_ATTR_MPLS,
                                "00064140/0000000000000000"),
         "match/mpls"},
        {"NSH", l2().match(OVS_KEY_ATTR_NSH, "0000/000000"), "match/nsh"},
        {"ND extensions", l2().match(OVS_KEY_ATTR_ND_EXTENSIONS, "0000/00"),
         "match/nd_ext"},
        {"original tuple",
         l2().match(OVS_KEY_ATTR_CT_ORIG_TUPLE_IPV4, "00000000/00000000ff"),
         "match/ct_tuple4"},
        {"original tuple, IPv6",
         l2().match(OVS_KEY_ATTR_CT_ORIG_TUPLE_IPV6, "0000/ff"),
         "match/ct_tuple6"},
        {"empty in the key",
         l2().match(OVS_KEY_ATTR_CT_ORIG_TUPLE_IPV6, "/ff"),
         "match/ct_tuple6"},
    };
    check(rows);
}

TEST(Malformed, Duplicates) {
    for (auto side : {&Flow::key, &Flow::mask}) {
        const Flow flow = ipv4("06").match(kTcp, "00500000/ffff0000");
        for (const auto &[type, payload] : flow.*side) {
            // At the outer level.
            AttrList key = Flow::encode(flow.key);
            AttrList mask = Flow::encode(flow.mask);
            (side == &Flow::key ? key : mask).put_bytes(type, payload);
            Match m;
            const Reject r = decode(key.bytes(), mask.bytes(), &m);
            EXPECT_EQ(r ? r.name() : "", "malformed/duplicate_attribute")
                << type;
            if (Flow::is_outer(type)) {
                continue;
            }

            // In ENCAP.
            AttrList again;
            again.put_bytes(type, payload);
            Flow tagged = flow;
            ByteVector &encap = (tagged.in_vlan("1005/1fff").*side)[kEncap];
            for (std::byte b : again.bytes()) {
                encap.push_back(b);
            }
            EXPECT_EQ(describe(tagged), "malformed/duplicate_attribute")
                << type;

            // At both levels.
            if (type != kEthertype) {
                tagged = flow;
                tagged.in_vlan("1005/1fff");
                (tagged.*side)[type] = payload;
                EXPECT_EQ(describe(tagged), "malformed/duplicate_attribute")
                    << type;
            }
        }
    }
    // One level in the key, the other in the mask.
    Flow crossed = ipv4("06").in_vlan("1005/1fff");
    crossed.mask[kIpv4] = from_hex("ffffffff0000000000000000");
    EXPECT_EQ(describe(crossed), "malformed/duplicate_attribute");
}

// What OVS says that it does not tell, by the name that OpenFlow has for it.
TEST(DecodeMatch, Untold) {
    const auto untold = [](const std::string &name) {
        Flow flow = ipv6("3a").match(kIcmpv6, "8800/ff00");
        flow.key[OVS_OFFLOAD_KEY_UNTOLD] = from_hex(name);
        return flow;
    };
    const std::string nd_target = "6e645f74617267657400";
    auto in_part = untold(nd_target);
    in_part.match(kTcp, "00500000/ffff0000");
    const Row rows[] = {
        {"a field that is known", untold(nd_target), "match/nd_target"},
        {"one that only has a name here", untold("69676d7000"), "match/igmp"},
        {"one that is not known", untold("6d6574616461746100"),
         "match/untold_field"},
        {"not terminated", untold("6e645f746172676574"), "match/untold_field"},
        {"more than a name", untold(nd_target + "00"), "match/untold_field"},
        {"a beginning", untold("6e6400"), "match/untold_field"},
        {"empty", untold(""), "match/untold_field"},
        {"another reason says more", in_part, "match/tcp_src"},
    };
    check(rows);
}

// Attributes behind it do not count: the flow is refused anyway.
TEST(DecodeMatch, UntoldIsLast) {
    Flow flow = ipv6("3a");
    flow.key[OVS_OFFLOAD_KEY_UNTOLD] = from_hex("69676d7000");
    flow.key[OVS_OFFLOAD_KEY_UNTOLD + 1] = from_hex("00");
    EXPECT_EQ(describe(flow), "match/igmp");
}

TEST(Malformed, UnknownAttributes) {
    for (uint16_t type = OVS_KEY_ATTR_MAX + 1; type <= kMaxAttrType; type++) {
        if (type == OVS_OFFLOAD_KEY_UNTOLD) {
            continue;  // In a key it is known, see Untold.
        }
        for (auto side : {&Flow::key, &Flow::mask}) {
            Flow flow = l2();
            (flow.*side)[type] = from_hex(type % 2 ? "00000000" : "");
            ASSERT_EQ(describe(flow), "match/unknown_attribute") << type;
            ASSERT_EQ(describe(flow.in_vlan("1005/1fff")),
                      "match/unknown_attribute")
                << type;
        }
    }
}

TEST(Malformed, AttributeFlagsAreIgnored) {
    Flow flow = l2();
    flow.key[kInPort | NLA_F_NET_BYTEORDER] = flow.key[kInPort];
    flow.key.erase(kInPort);
    EXPECT_EQ(describe(flow), L2);

    flow = l2().in_vlan("1005/1fff");
    for (auto *level : {&flow.key, &flow.mask}) {
        (*level)[kEncap | NLA_F_NESTED] = (*level)[kEncap];
        level->erase(kEncap);
    }
    EXPECT_EQ(describe(flow), ONE_TAG("l2", "88b5", "1005/1fff"));
}

// Random changes to good flows: no crash, and decode() above checks what is
// accepted.
TEST(Malformed, Garbage) {
    std::mt19937 random(1);
    const auto flows = samples();
    size_t n_accepted = 0;
    for (int i = 0; i < 100'000; i++) {
        const Flow &flow = flows[random() % flows.size()];
        const AttrList lists[] = {Flow::encode(flow.key),
                                  Flow::encode(flow.mask)};
        ByteVector bytes[2];
        for (int side : {0, 1}) {
            const Bytes b = lists[side].bytes();
            bytes[side].assign(b.begin(), b.end());
            for (unsigned n = random() % 3; n; n--) {
                bytes[side][random() % b.size()] ^= std::byte{1}
                                                 << random() % 8;
            }
        }
        Match m;
        n_accepted += !decode(bytes[0], bytes[1], &m);
    }
    EXPECT_GT(n_accepted, 1000u);
}

}  // namespace
}  // namespace flowxlate::unit
