// SPDX-License-Identifier: Apache-2.0
#include "flowxlate/report/mask_usage.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>

#include <vector>

#include "flowxlate/translate/describe.h"

namespace flowxlate::test {
namespace {

xf_key mask_of_ipv4() {
    xf_key mask{};
    mask.in_port = UINT16_MAX;
    mask.eth_type = mask.vlan_tci = mask.vlan2_tci = 0xffff;
    mask.nw_frag = 0xff;
    return mask;
}

UsedMask used(uint32_t src, uint32_t dst, uint16_t port, size_t n_flows) {
    auto mask = mask_of_ipv4();
    mask.ipv4_src = htonl(src);
    mask.ipv4_dst = htonl(dst);
    mask.tp_dst = htons(port);
    mask.nw_proto = port ? 0xff : 0;
    return {XF_CLASS_IPV4, mask, uint8_t(port ? IPPROTO_UDP : 0), n_flows,
            "FLOW" + std::to_string(n_flows)};
}

TEST(MaskUsage, BitsOfAField) {
    struct {
        uint32_t src;
        const char *text;
    } const kRows[] = {
        {0xffffffff, ""},
        {0xffff0000, "/16"},
        {0x80000000, "/1"},
        {0x00ff0000, "/0x00ff0000"},
        {0xff00ff00, "/0xff00ff00"},
    };
    for (auto &row : kRows) {
        auto mask = mask_of_ipv4();
        mask.ipv4_src = htonl(row.src);
        const auto fields = describe_mask(XF_CLASS_IPV4, 0, mask);
        ASSERT_EQ(fields.size(), 2U);
        EXPECT_EQ(fields[0],
                  std::pair(std::string("vlan_tci"), std::string()));
        EXPECT_EQ(fields[1],
                  std::pair(std::string("ipv4_src"), std::string(row.text)));
    }
}

TEST(MaskUsage, TogetherByTheirFields) {
    const std::vector<UsedMask> masks = {
        used(0xffffff00, 0, 0, 1),
        used(0xff000000, 0xffff0000, 0xffff, 2),
        used(0xff000000, 0xffffff00, 0xffff, 3),
        used(0xff000000, 0xffffffff, 0xfff0, 4),
    };
    EXPECT_EQ(describe_masks(masks),
              "  3 of ipv4, 9 flows: vlan_tci,ipv4_src/8,"
              "ipv4_dst in 3 ways (all /16 /24),ip_proto,"
              "udp_dst in 2 ways (all /12)\n"
              "    for example FLOW4\n"
              "  1 of ipv4, 1 flow: vlan_tci,ipv4_src/24\n"
              "    for example FLOW1\n");
    EXPECT_EQ(describe_masks({}), "");
}

TEST(MaskUsage, NoMoreThanOneReads) {
    std::vector<UsedMask> masks;
    for (int kind = 0; kind < 512; kind++) {
        auto mask = mask_of_ipv4();
        mask.ipv4_src = kind & 1 ? 0xffffffff : 0;
        mask.ipv4_dst = kind & 2 ? 0xffffffff : 0;
        mask.nw_tos = kind & 4 ? 0xff : 0;
        mask.nw_ttl = kind & 8 ? 0xff : 0;
        mask.eth_dst[0] = kind >> 4;
        masks.push_back({XF_CLASS_IPV4, mask, 0, 1, "FLOW"});
    }
    const auto s = describe_masks(masks);
    EXPECT_EQ(std::count(s.begin(), s.end(), '\n'), 2 * 8 + 1);
    EXPECT_TRUE(s.ends_with(" others\n")) << s;
    EXPECT_NE(s.find(" ...)"), s.npos) << s;
}

}  // namespace
}  // namespace flowxlate::test
