// SPDX-License-Identifier: Apache-2.0
// What zero bytes make of a CRC32c (RFC 9260 appendix A; bits reversed, and
// neither begun with nor ended by an inversion): the table by which the
// program lets an SCTP packet's checksum follow its ports (crc32c_change() in
// bpf/packet/checksum.h).
//
// It is linear: what becomes of a value is the sum of what becomes of its
// half-bytes.  So row [k][i][v] is what 2^k zero bytes make of the value that
// is 'v' in half-byte 'i' and zero elsewhere, and the row of 2^(k+1) bytes
// follows from that of 2^k.
#ifndef FLOWXLATE_CRC32C_ZEROS_H
#define FLOWXLATE_CRC32C_ZEROS_H

#include <array>
#include <cstdint>

#include "bpf/abi/port.h"

namespace flowxlate {

using CrcRow = std::array<std::array<uint32_t, 16>, 8>;
using CrcTable = std::array<CrcRow, XF_MAX_FRAME_BITS>;

constexpr uint32_t crc32c_after_one_zero(uint32_t crc) {
    constexpr uint32_t kPolynomial = 0x82f63b78;
    for (int bit = 0; bit < 8; bit++) {
        crc = crc >> 1 ^ (crc & 1 ? kPolynomial : 0);
    }
    return crc;
}

// What the zero bytes of 'row' make of 'crc'.
constexpr uint32_t crc32c_after_zeros(const CrcRow &row, uint32_t crc) {
    uint32_t sum = 0;
    for (int i = 0; i < 8; i++) {
        sum ^= row[i][crc >> 4 * i & 0xf];
    }
    return sum;
}

constexpr CrcTable make_crc32c_zeros() {
    CrcTable table{};
    for (int k = 0; k < XF_MAX_FRAME_BITS; k++) {
        for (int i = 0; i < 8; i++) {
            for (uint32_t v = 0; v < 16; v++) {
                const uint32_t crc = v << 4 * i;
                table[k][i][v] =
                    k ? crc32c_after_zeros(
                        table[k - 1], crc32c_after_zeros(table[k - 1], crc))
                      : crc32c_after_one_zero(crc);
            }
        }
    }
    return table;
}

inline constexpr CrcTable kCrc32cZeros = make_crc32c_zeros();

}  // namespace flowxlate

#endif
