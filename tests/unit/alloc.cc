// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/alloc.h"

#include <cstdlib>
#include <new>

namespace {

thread_local bool active;
thread_local size_t fail_at, count;

void *allocate(size_t size) {
    if (active) {
        count++;
        if (fail_at && count >= fail_at) {
            throw std::bad_alloc();
        }
    }
    if (void *p = std::malloc(size ? size : 1)) {
        return p;
    }
    throw std::bad_alloc();
}

}  // namespace

void *operator new(size_t size) { return allocate(size); }
void *operator new[](size_t size) { return allocate(size); }
// A sanitizer would give this one memory of its own, and miss it in free().
void *operator new(size_t size, const std::nothrow_t &) noexcept {
    try {
        return allocate(size);
    } catch (const std::bad_alloc &) {
        return nullptr;
    }
}
void operator delete(void *p) noexcept { std::free(p); }
void operator delete[](void *p) noexcept { std::free(p); }
void operator delete(void *p, size_t) noexcept { std::free(p); }
void operator delete[](void *p, size_t) noexcept { std::free(p); }

namespace flowxlate::unit {

FailAllocation::FailAllocation(size_t nth) {
    fail_at = nth;
    count = 0;
    active = true;
}

FailAllocation::~FailAllocation() { active = false; }

size_t FailAllocation::n_allocations() const { return count; }

}  // namespace flowxlate::unit
