// SPDX-License-Identifier: Apache-2.0
// Numbers in frames, in wire order.
#ifndef TESTS_ORACLE_BYTES_H
#define TESTS_ORACLE_BYTES_H

#include "random.h"
#include "tests/bpf/packet.h"

namespace oracle {

using flowxlate::test::Frame;

// Appended, the low bits of 'v'.
inline void put8(Frame &f, uint64_t v) {
    f.push_back(static_cast<uint8_t>(v));
}
inline void put16(Frame &f, uint64_t v) {
    put8(f, v >> 8);
    put8(f, v);
}
inline void put32(Frame &f, uint64_t v) {
    put16(f, v >> 16);
    put16(f, v);
}
inline void put_random(Frame &f, size_t n, Random &r) {
    while (n--) {
        put8(f, r.word());
    }
}

// In place; they throw where the frame has ended.
inline uint16_t load16(const Frame &f, size_t at) {
    return static_cast<uint16_t>(f.at(at) << 8 | f.at(at + 1));
}
inline void store16(Frame &f, size_t at, uint64_t v) {
    f.at(at) = static_cast<uint8_t>(v >> 8);
    f.at(at + 1) = static_cast<uint8_t>(v);
}

}  // namespace oracle

#endif
