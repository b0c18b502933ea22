// SPDX-License-Identifier: Apache-2.0
#include "flowxlate/base/types.h"

#include <gtest/gtest.h>

#include <bit>
#include <cerrno>
#include <numeric>

namespace flowxlate {
namespace {

Ufid counting_ufid() {
    Ufid u;
    std::iota(u.bytes.begin(), u.bytes.end(), uint8_t{0});
    return u;
}

// OVS prints the four words in host order: see odp_format_ufid().
TEST(Ufid, PrintsAsOvsDoes) {
    if constexpr (std::endian::native == std::endian::little) {
        EXPECT_EQ(counting_ufid().to_string(),
                  "03020100-0706-0504-0b0a-09080f0e0d0c");
    } else {
        EXPECT_EQ(counting_ufid().to_string(),
                  "00010203-0405-0607-0809-0a0b0c0d0e0f");
    }
    EXPECT_EQ(Ufid{}.to_string(), "00000000-0000-0000-0000-000000000000");
    Ufid ones;
    ones.bytes.fill(0xff);
    EXPECT_EQ(ones.to_string(), "ffffffff-ffff-ffff-ffff-ffffffffffff");
}

TEST(Ufid, EveryByteCounts) {
    const Ufid u = counting_ufid();
    EXPECT_EQ(Ufid::from(u.bytes.data()), u);
    for (size_t i = 0; i < u.bytes.size(); i++) {
        Ufid other = u;
        other.bytes[i] ^= 1;
        EXPECT_NE(other, u) << "byte " << i;
        EXPECT_NE(other.to_string(), u.to_string()) << "byte " << i;
    }
}

TEST(Reject, IsTrueOnlyForAnError) {
    EXPECT_FALSE(Reject{});
    const Reject r{"match", "ipv6_label", EOPNOTSUPP};
    EXPECT_TRUE(r);
    EXPECT_EQ(r.name(), "match/ipv6_label");
}

}  // namespace
}  // namespace flowxlate
