// SPDX-License-Identifier: Apache-2.0
// What every fuzzer needs: a check that ends the program, and bytes of exactly
// the right size.
//
// A fuzzer's LLVMFuzzerTestOneInput() must do the same each time it gets the
// same input: all its choices come from the input.
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "tests/unit/attrs.h"

// libFuzzer catches the abort and saves the input.
#define CHECK(EXPR)                                                           \
    do {                                                                      \
        if (!(EXPR)) {                                                        \
            std::fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, \
                         #EXPR);                                              \
            std::abort();                                                     \
        }                                                                     \
    } while (0)

// The entry points that libFuzzer looks for.
extern "C" {
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size,
                               unsigned seed);
// libFuzzer's own mutation of bytes.
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
}

namespace flowxlate::fuzz {

using unit::ByteVector;

inline Bytes bytes_at(const uint8_t *data, size_t size) {
    return std::as_bytes(std::span(data, size));
}

// A heap block of exactly this size, past the ends of which ASan looks.
inline ByteVector copy_of(Bytes bytes) { return {bytes.begin(), bytes.end()}; }

}  // namespace flowxlate::fuzz

#endif
