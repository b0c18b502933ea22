// SPDX-License-Identifier: Apache-2.0
// Which flows must not be executed, given what the kernel does with a frame
// before the kernel datapath gets it.
#include "flowxlate/engine/binder.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <linux/if_ether.h>

#include <string>

#include "tests/unit/attrs.h"

namespace flowxlate::unit {
namespace {

struct Row {
    const char *what;
    Entrance entrance;
    bool generic;
    Flow flow;
    const char *reason;  // Empty: it may be executed.
};

Entrance plain() { return {}; }

Entrance marked() {
    Entrance e;
    e.keeps_mark = true;
    return e;
}

Entrance with_vlans() {
    Entrance e;
    e.vlans = {{10, htons(ETH_P_8021Q)}, {20, htons(ETH_P_8021AD)}};
    return e;
}

Entrance filtered() {
    Entrance e;
    e.others = "somebody is there";
    return e;
}

Flow mark(const char *match) {
    return ipv4().match(OVS_KEY_ATTR_SKB_MARK, match);
}

Flow priority(const char *match) {
    return ipv4().match(OVS_KEY_ATTR_PRIORITY, match);
}

Flow vlan(const char *tci, const char *tpid = "8100/ffff") {
    return ipv4().in_vlan(tci, tpid);
}

void check(std::span<const Row> rows) {
    for (auto &row : rows) {
        Match m;
        const auto bad = decode_match(Flow::encode(row.flow.key).bytes(),
                                      Flow::encode(row.flow.mask).bytes(), &m);
        ASSERT_FALSE(bad) << row.what << ": " << bad.name();
        const auto r = check_entrance(row.entrance, row.generic, m);
        EXPECT_EQ(r ? r.name() : "", row.reason) << row.what;
    }
}

TEST(Entrance, Marks) {
    const Row rows[] = {
        {"nobody sets it", plain(), false, mark("00000000/ffffffff"), ""},
        {"matched", marked(), false, mark("00000000/ffffffff"),
         "input/may_be_marked"},
        {"one bit", marked(), false, mark("00000000/00000001"),
         "input/may_be_marked"},
        {"a bit that is not matched is set", marked(), false,
         mark("01000000/00000080"), "input/may_be_marked"},
        {"not matched", marked(), false, mark("00000000/00000000"), ""},
        {"not there", marked(), false, ipv4(), ""},
        {"key only", marked(), false,
         ipv4().key_only(OVS_KEY_ATTR_SKB_MARK, "00000000"), ""},
        {"mask only", marked(), false,
         ipv4().mask_only(OVS_KEY_ATTR_SKB_MARK, "ffffffff"),
         "input/may_be_marked"},
        {"generic", plain(), true, mark("00000000/ffffffff"),
         "input/may_be_marked"},
        {"a veth clears the priority", marked(), false,
         priority("00000000/ffffffff"), ""},
        {"priority, generic", plain(), true, priority("00000000/ffffffff"),
         "input/may_be_marked"},
        {"priority not matched", plain(), true, priority("00000000/00000000"),
         ""},
    };
    check(rows);
}

TEST(Entrance, VlanDevices) {
    const Row rows[] = {
        {"untagged", with_vlans(), false, ipv4(), ""},
        {"its VLAN", with_vlans(), false, vlan("100a/1fff"),
         "input/vlan_device"},
        {"with any priority", with_vlans(), false, vlan("f00a/ffff"),
         "input/vlan_device"},
        {"another VLAN", with_vlans(), false, vlan("100b/1fff"), ""},
        {"any VLAN", with_vlans(), false, vlan("1000/1000"),
         "input/vlan_device"},
        {"a priority", with_vlans(), false, vlan("3000/f000"),
         "input/vlan_device"},
        {"some VLANs, not it", with_vlans(), false, vlan("1000/1002"), ""},
        {"some VLANs, and it", with_vlans(), false, vlan("1002/1002"),
         "input/vlan_device"},
        {"its VLAN, of 802.1ad", with_vlans(), false,
         vlan("1014/1fff", "88a8/ffff"), "input/vlan_device"},
        {"that id, of 802.1Q", with_vlans(), false, vlan("1014/1fff"), ""},
        {"behind another tag", with_vlans(), false,
         vlan("100a/1fff").in_vlan("1005/1fff", "88a8/ffff"), ""},
        {"in front of another tag", with_vlans(), false,
         vlan("1005/1fff").in_vlan("100a/1fff"), "input/vlan_device"},
        {"no device", plain(), false, vlan("1000/1000"), ""},
    };
    check(rows);
}

TEST(Entrance, OthersAndLinkProtocols) {
    const Row rows[] = {
        {"filtered", filtered(), false, ipv4(), "input/handled_before_ovs"},
        {"IPv4", plain(), false, ipv4(), ""},
        {"LLDP", plain(), false, on_port1("88cc"), "match/link_protocol"},
        {"PTP", plain(), false, on_port1("88f7"), "match/link_protocol"},
        {"PTP in a VLAN", plain(), false,
         on_port1("88f7").in_vlan("100a/1fff"), "match/link_protocol"},
        {"LACP", plain(), false, on_port1("8809"), "match/link_protocol"},
        {"CFM", plain(), false, on_port1("8902"), "match/link_protocol"},
        {"PPPoE", plain(), false, on_port1("8864"), ""},
    };
    check(rows);
}

TEST(Entrance, NamesSomeVlans) {
    std::vector<Entrance::Vlan> vlans;
    for (uint16_t id = 1; id <= 8; id++) {
        vlans.push_back({id, htons(ETH_P_8021Q)});
    }
    EXPECT_EQ(to_string(vlans), "1, 2, 3, 4, 5, 6, 7, 8");
    vlans.push_back({9, htons(ETH_P_8021Q)});
    EXPECT_EQ(to_string(vlans), "1, 2, 3, 4, 5, 6, 7, 8 and 1 more");
}

}  // namespace
}  // namespace flowxlate::unit
