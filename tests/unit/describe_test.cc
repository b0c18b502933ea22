// SPDX-License-Identifier: Apache-2.0
#include "flowxlate/translate/describe.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>

#include <cstring>

namespace flowxlate::test {
namespace {

TEST(Describe, Hex) {
    struct {
        const char *text;
        bool ok;
        const char *back;
    } const kRows[] = {
        {"", true, ""},      {"00ff7f", true, "00ff7f"},
        {"0A", true, "0a"},  {"0", false, ""},
        {"0g", false, ""},   {"0x12", false, ""},
        {"-1", false, ""},   {" 1", false, ""},
        {"12 3", false, ""}, {"12\n3", false, ""},
        {"+1", false, ""},   {"\xff\xff", false, ""},
    };
    for (auto &row : kRows) {
        std::vector<std::byte> bytes;
        EXPECT_EQ(from_hex(row.text, &bytes), row.ok) << row.text;
        if (row.ok) {
            EXPECT_EQ(to_hex(bytes), row.back);
        }
    }
}

TEST(Describe, AppendHasNoLimit) {
    std::string s = "a";
    append(&s, "%s", std::string(100'000, 'x').c_str());
    EXPECT_EQ(s.size(), 100'001U);
}

TEST(Describe, Fields) {
    xf_key key{}, mask{};
    key.eth_type = htons(0x0800);
    mask.eth_type = 0xffff;
    mask.vlan_tci = 0xffff;
    key.nw_proto = IPPROTO_UDP;
    mask.nw_proto = 0xff;
    key.tp_dst = htons(53);
    mask.tp_dst = 0xffff;
    key.ipv4_dst = htonl(0x0a000000);
    mask.ipv4_dst = htonl(0xff000000);
    key.nw_tos = 4;
    mask.nw_tos = 0xfc;
    EXPECT_EQ(describe_fields(XF_CLASS_IPV4, IPPROTO_UDP, key, mask),
              "eth_type=0x0800,vlan_tci=0x0000,ipv4_dst=10.0.0.0/255.0.0.0,"
              "ip_proto=17,ip_tos=4/0xfc,udp_dst=53");
    // Ports are named after the protocol; unknown classes have no fields.
    EXPECT_NE(describe_fields(XF_CLASS_IPV4, IPPROTO_TCP, key, mask)
                  .find("tcp_dst=53"),
              std::string::npos);
    EXPECT_EQ(describe_fields(-1, 0, key, mask),
              "eth_type=0x0800,vlan_tci=0x0000");
    EXPECT_EQ(describe_fields(XF_CLASS_IPV4, 0, {}, {}), "");
}

TEST(Describe, Changes) {
    xf_action action{};
    xf_rewrite rewrite{};
    EXPECT_EQ(describe_changes(XF_CLASS_IPV4, 0, action, rewrite), "");

    action.n_pop = 1;
    action.n_push = 2;  // The outermost is the first one.
    action.tag[0] = {htons(0x88a8), htons(7)};
    action.tag[1] = {htons(0x8100), htons(100)};
    xf_key value{}, mask{};
    value.nw_ttl = 63;
    mask.nw_ttl = 0xff;
    std::memcpy(rewrite.value, value.word, sizeof rewrite.value);
    std::memcpy(rewrite.mask, mask.word, sizeof rewrite.mask);
    rewrite.max_in = 1414;
    rewrite.max_len = 100;
    EXPECT_EQ(describe_changes(XF_CLASS_IPV4, 0, action, rewrite),
              "check_pkt_len(size=1414),pop_vlan,"
              "push_vlan(tpid=0x8100,tci=0x0064),"
              "push_vlan(tpid=0x88a8,tci=0x0007),set(ip_ttl=63),trunc(100),");
}

}  // namespace
}  // namespace flowxlate::test
