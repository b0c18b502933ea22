// SPDX-License-Identifier: Apache-2.0
// Grace periods in tests, where they are over as soon as they begin.
#ifndef TESTS_GRACE_H
#define TESTS_GRACE_H

#include <vector>

#include "flowxlate/tables/slot_pool.h"

namespace flowxlate {

// Of something with a begin_grace() and an end_grace().
template <typename T>
void pass_grace(T *t) {
    (void)t->begin_grace();
    t->end_grace();
}

// The same.  Returns the slots that are free by it.
template <typename Slot>
std::vector<Slot> pass_grace(SlotPool<Slot> *pool) {
    const auto waiting = pool->begin_grace();
    const std::vector<Slot> freed(waiting.begin(), waiting.end());
    pool->end_grace();
    return freed;
}

}  // namespace flowxlate

#endif
