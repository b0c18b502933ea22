// SPDX-License-Identifier: Apache-2.0
#include "tables/maps.h"

#include <bit>

namespace flowxlate {
namespace {

constexpr int kMinCacheBits = 10;

constexpr MapWriter kWriterUSER = MapWriter::kUser;
constexpr MapWriter kWriterPROGRAM = MapWriter::kProgram;
constexpr MapWriter kWriterBOTH = MapWriter::kBoth;
constexpr MapScope kScopeTRACE = MapScope::kTrace;
constexpr MapScope kScopePORTS = MapScope::kPorts;

}  // namespace

MapSizes MapSizes::of(uint32_t max_flows, uint32_t max_connections,
                      uint32_t n_cpus, uint32_t n_rows) {
    MapSizes s;
    s.cpus = n_cpus;
    s.flows = uint64_t{max_flows} + 1;
    // Two to four flows in a bucket of 15 when all are there, so that hardly
    // any overflows.
    s.buckets = std::bit_ceil(s.flows / 4 + 1);
    s.subtables = XF_MAX_SUBTABLES;
    s.recircs = XF_MAX_RECIRCS;
    s.rewrites = XF_MAX_REWRITES;
    s.groups = XF_MAX_GROUPS;
    s.tunnels = XF_MAX_TUNNELS;
    s.ports = XF_MAX_PORTS;
    s.in_port_sets = XF_IN_PORT_SETS;
    // Two of the flow cache's entries per flow: with twice as many, the sets
    // that are asked for more than they hold get rare, but the cache is then
    // too large for a CPU's own.
    const int bits = static_cast<int>(std::bit_width(s.flows - 2)) - 1;
    s.cache_bits = std::max(kMinCacheBits, bits);
    s.conns = 2 * (uint64_t{max_connections} + 1);
    s.conn_buckets = std::bit_ceil(s.conns / 4 + 1);
    return s.with_rows(n_rows);
}

uint32_t MapSizes::max_rows(uint32_t max_flows, uint32_t n_cpus,
                            uint64_t bytes) {
    const MapSizes none = of(max_flows, kDefaultConnections, n_cpus, 0);
    const uint64_t fixed = map_bytes(none);
    const uint64_t row = map_bytes(none.with_rows(1)) - fixed;
    const uint64_t n = bytes > fixed ? (bytes - fixed) / row : 0;
    return static_cast<uint32_t>(std::clamp<uint64_t>(n, 1, n_cpus));
}

MapSizes MapSizes::with_rows(uint32_t n_rows) const {
    MapSizes s = *this;
    s.rows = n_rows;
    s.stats = s.flows * s.rows;
    s.misses = s.ports * s.rows;
    s.cache_sets = s.rows << s.cache_bits;
    return s;
}

bool MapSizes::fit() const {
    auto rows = map_rows(*this);
    return std::all_of(rows.begin(), rows.end(), [](const MapRow &row) {
        return row.entries <= UINT32_MAX;
    });
}

std::vector<MapRow> map_rows(const MapSizes &sizes) {
#define XF_MAP(NAME, VALUE, ENTRIES, WRITER, SCOPE, ACCESS) \
    {#NAME, kWriter##WRITER, kScope##SCOPE, sizeof(VALUE), sizes.ENTRIES},
    return {
#include "bpf/abi/maps.def"
#include "bpf/abi/tunnel.h"
    };
#undef XF_MAP
}

uint64_t map_bytes(const MapSizes &sizes) {
    uint64_t sum = 0;
    for (const MapRow &row : map_rows(sizes)) {
        sum += row.bytes();
    }
    return sum;
}

}  // namespace flowxlate
