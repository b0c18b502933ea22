// SPDX-License-Identifier: Apache-2.0
// The program's arrays, of the rows in bpf/abi/maps.def: how many entries each
// has, and the memory that FlowTable and ConnTable write.
//
// Who has the arrays (BpfMaps, or vectors in tests) has a member for each row,
// with the row's name, that becomes a std::span.
#ifndef FLOWXLATE_MAPS_H
#define FLOWXLATE_MAPS_H

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "bpf/abi/capture.h"
#include "bpf/abi/conn.h"
#include "bpf/abi/counters.h"
#include "bpf/abi/flow.h"
#include "bpf/abi/handover.h"
#include "bpf/abi/packet.h"
#include "bpf/abi/port.h"
#include "bpf/abi/tunnel.h"
#include "tables/conn_table.h"
#include "tables/cpu_rows.h"
#include "tables/flow_table.h"

namespace flowxlate {

// Entries of the arrays, by the names that bpf/abi/maps.def has for them.
struct MapSizes {
    // For so many megaflows and connections on so many possible CPUs, which
    // have so many rows (tables/cpu_rows.h).
    static MapSizes of(uint32_t max_flows, uint32_t max_connections,
                       uint32_t n_cpus, uint32_t n_rows);
    // How many rows there is room for in so many bytes, one at least.  Of the
    // connections only as many count as there are unless somebody asks for
    // more: whoever does shall not get fewer rows by it.
    static uint32_t max_rows(uint32_t max_flows, uint32_t n_cpus,
                             uint64_t bytes);
    MapSizes with_rows(uint32_t n_rows) const;
    // Does every array have fewer than 2^32 entries?
    bool fit() const;

    uint64_t one = 1;
    uint64_t cpus = 0;
    uint64_t rows = 0;
    uint64_t flows = 0;    // With slot 0, which is not used.
    uint64_t buckets = 0;  // A power of 2.
    uint64_t subtables = 0;
    uint64_t recircs = 0;
    uint64_t rewrites = 0;
    uint64_t groups = 0;
    uint64_t tunnels = 0;
    uint64_t ports = 0;
    uint64_t in_port_sets = 0;
    uint64_t stats = 0;
    uint64_t misses = 0;
    uint64_t cache_bits = 0;  // log2 of the flow cache's sets per row.
    uint64_t cache_sets = 0;  // Of all rows.
    uint64_t conns = 0;       // Two for each connection, and slot 0.
    uint64_t conn_buckets = 0;
};

constexpr uint32_t kDefaultConnections = 65536;

// What all arrays may take for so many megaflows, and the default number of
// connections, on however many CPUs: 1 KiB for each, 100 MiB at least, with
// which 16 CPUs that are online have rows of their own for 65,536 flows.
constexpr uint64_t default_memory(uint32_t max_flows) {
    return std::max<uint64_t>(uint64_t{max_flows} << 10, 100 << 20);
}

// Who writes an array, while packets come; and who shares it.
enum class MapWriter : uint8_t { kUser, kProgram, kBoth };
// kTrace: one for all ports and for traces.  kPorts: one for all ports, while
// a trace has its own.  kCapture: a port that is captured has its own.
enum class MapScope : uint8_t { kTrace, kPorts, kCapture };

struct MapRow {
    const char *name;
    MapWriter writer;
    MapScope scope;
    size_t value_bytes;  // Of an entry.
    uint64_t entries;

    uint64_t bytes() const { return entries * value_bytes; }
};

// All arrays, in the order of bpf/abi/maps.def.
std::vector<MapRow> map_rows(const MapSizes &);

// Bytes of the arrays that ports share.
uint64_t map_bytes(const MapSizes &);

template <typename Arrays, typename Secret>
TableMemory table_memory(Arrays &a, const CpuRows &rows,
                         const Secret &secret) {
    TableMemory m{
        a.xf_buckets,  a.xf_flows, a.xf_key_rests, a.xf_subtables, a.xf_walks,
        a.xf_rewrites, a.xf_stats, a.xf_cpus,      rows,           {}};
    std::copy(secret.begin(), secret.end(), m.secret.begin());
    return m;
}

// 'secret' must outlive what is returned.
template <typename Arrays, typename Secret>
ConnMemory conn_memory(Arrays &a, const Secret &secret) {
    return {a.xf_conn_buckets, a.xf_conns,    a.xf_conn_uses,
            a.xf_zones,        a.xf_settings, secret};
}

}  // namespace flowxlate

#endif
