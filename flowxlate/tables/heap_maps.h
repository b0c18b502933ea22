// SPDX-License-Identifier: Apache-2.0
// The arrays of bpf/abi/maps.def in heap memory, zeroed: for who has flows
// judged without a program (tools/advise), and for tests.
#ifndef FLOWXLATE_HEAP_MAPS_H
#define FLOWXLATE_HEAP_MAPS_H

#include <vector>

#include "tables/maps.h"

namespace flowxlate {

struct HeapMaps {
    explicit HeapMaps(const MapSizes &s) : sizes(s) {}

    MapSizes sizes;
#define XF_MAP(NAME, VALUE, ENTRIES, WRITER, SCOPE, ACCESS) \
    std::vector<VALUE> NAME = std::vector<VALUE>(sizes.ENTRIES);
#include "bpf/abi/maps.def"
#undef XF_MAP
};

}  // namespace flowxlate

#endif
