// SPDX-License-Identifier: Apache-2.0
// An input of match_fuzzer: the length of the key in two bytes, low byte
// first, then the key's attributes, then the mask's.
#ifndef TESTS_FUZZ_MATCH_INPUT_H
#define TESTS_FUZZ_MATCH_INPUT_H

#include <algorithm>

#include "tests/fuzz/fuzz.h"

namespace flowxlate::fuzz {

struct MatchInput {
    ByteVector key, mask;

    // Any bytes are an input: a length that is too high means "all".
    static MatchInput from(Bytes bytes) {
        if (bytes.size() < 2) {
            return {};
        }
        const size_t length = std::to_integer<size_t>(bytes[0])
                            | std::to_integer<size_t>(bytes[1]) << 8;
        const Bytes rest = bytes.subspan(2);
        const size_t key_size = std::min(length, rest.size());
        return {copy_of(rest.first(key_size)),
                copy_of(rest.subspan(key_size))};
    }

    ByteVector bytes() const {
        ByteVector b{std::byte(key.size()), std::byte(key.size() >> 8)};
        b.insert(b.end(), key.begin(), key.end());
        b.insert(b.end(), mask.begin(), mask.end());
        return b;
    }
};

}  // namespace flowxlate::fuzz

#endif
