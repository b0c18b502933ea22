// SPDX-License-Identifier: Apache-2.0
// Words of memory that programs read, or write, while we do the same.  On x86
// stores become visible in their order, and loads are done in theirs.
#ifndef FLOWXLATE_SHARED_WORDS_H
#define FLOWXLATE_SHARED_WORDS_H

#include <atomic>
#include <type_traits>

namespace flowxlate {

template <typename T>
void publish(T &word, std::type_identity_t<T> value) {
    std::atomic_ref(word).store(value, std::memory_order_release);
}

template <typename T>
T peek(T &word) {
    return std::atomic_ref(word).load(std::memory_order_acquire);
}

}  // namespace flowxlate

#endif
