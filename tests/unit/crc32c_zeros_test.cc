// SPDX-License-Identifier: Apache-2.0
// The table of what zero bytes make of a CRC32c, against published values.
#include "flowxlate/tables/crc32c_zeros.h"

#include <gtest/gtest.h>

namespace flowxlate::unit {
namespace {

// As bpf/packet/checksum.h uses the table.
uint32_t after_zeros(uint32_t crc, uint32_t len) {
    for (int k = 0; k < XF_MAX_FRAME_BITS; k++) {
        if (len >> k & 1) {
            crc = crc32c_after_zeros(kCrc32cZeros[k], crc);
        }
    }
    return crc;
}

TEST(Crc32cZeros, KnownAnswers) {
    const struct {
        const char *what;
        uint32_t crc, len, expected;
    } rows[] = {
        // A CRC32c begins with all ones, and is inverted at the end.
        {"RFC 3720 B.4: 32 bytes of zeros", 0xffffffff, 32, ~0x8a9136aaU},
        {"one zero byte", 0xffffffff, 1, ~0x527d5351U},
        {"nothing", 0x12345678, 0, 0x12345678},
        {"zero", 0, 0xfff, 0},
    };
    for (auto &row : rows) {
        EXPECT_EQ(after_zeros(row.crc, row.len), row.expected) << row.what;
    }
}

// Bit by bit, for lengths that use each row.
TEST(Crc32cZeros, EveryRow) {
    uint32_t slow = 0xdeadbeef;
    for (uint32_t len = 1; len < 1U << XF_MAX_FRAME_BITS; len++) {
        slow = crc32c_after_one_zero(slow);
        ASSERT_EQ(after_zeros(0xdeadbeef, len), slow) << len << " bytes";
    }
}

}  // namespace
}  // namespace flowxlate::unit
