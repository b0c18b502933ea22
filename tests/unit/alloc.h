// SPDX-License-Identifier: Apache-2.0
// Allocations that fail on purpose.
#ifndef TESTS_UNIT_ALLOC_H
#define TESTS_UNIT_ALLOC_H

#include <cstddef>

namespace flowxlate::unit {

// While it exists, the 'nth' operator new of this thread (1 = the next one)
// and all after it throw std::bad_alloc; 0 only counts.
class FailAllocation {
public:
    explicit FailAllocation(size_t nth);
    ~FailAllocation();
    FailAllocation(const FailAllocation &) = delete;
    FailAllocation &operator=(const FailAllocation &) = delete;

    size_t n_allocations() const;
};

}  // namespace flowxlate::unit

#endif
