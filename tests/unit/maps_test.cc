// SPDX-License-Identifier: Apache-2.0
// How many entries the arrays have, and docs/design.md's table of them, which
// is written anew by
//
//     UPDATE_DOCS=1 build/release/tests/unit/unit_tests --gtest_filter=Maps.*
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <string>
#include <vector>

#include "flowxlate/report/health.h"
#include "flowxlate/tables/cpu_rows.h"
#include "flowxlate/tables/maps.h"
#include "tests/unit/document.h"

namespace flowxlate::unit {
namespace {

constexpr const char *kDocument = SOURCE_DIR "/docs/design.md";
constexpr const char *kBegin =
    "<!-- Made by tests/unit/maps_test.cc; do not edit. -->\n";
constexpr const char *kEnd = "<!-- End of what is made. -->\n";

// What is set when nobody sets anything, on a machine with two CPUs, which
// have a row each.
constexpr uint32_t kFlows = 65536, kConnections = 65536, kCpus = 2;

TEST(Maps, Sizes) {
    const struct {
        const char *what;
        uint32_t flows, connections, rows;
        uint64_t buckets, cache_sets, conns, conn_buckets, stats;
        bool fit;
    } kRows[] = {
        {"one of each", 1, 1, 1, 1, 1024, 4, 2, 2, true},
        {"defaults", 65536, 65536, 2, 32768, 65536, 131074, 65536, 131074,
         true},
        {"256 rows", 65536, 65536, 256, 32768, 8388608, 131074, 65536,
         16777472, true},
        {"as many statistics as can be", 16777215, 1, 255, 8388608,
         255ULL << 23, 4, 2, 4278190080, true},
        {"one row more", 16777215, 1, 256, 8388608, 256ULL << 23, 4, 2,
         4294967296, false},
        {"most connections", 1, 2147483646, 1, 1, 1024, 4294967294, 1073741824,
         2, true},
        {"one more", 1, 2147483647, 1, 1, 1024, 4294967296, 2147483648, 2,
         false},
    };
    for (const auto &row : kRows) {
        SCOPED_TRACE(row.what);
        const auto s =
            MapSizes::of(row.flows, row.connections, row.rows, row.rows);
        EXPECT_EQ(s.buckets, row.buckets);
        EXPECT_EQ(s.cache_sets, row.cache_sets);
        EXPECT_EQ(s.conns, row.conns);
        EXPECT_EQ(s.conn_buckets, row.conn_buckets);
        EXPECT_EQ(s.stats, row.stats);
        EXPECT_EQ(s.fit(), row.fit);
    }
}

// What maps take by default, and how many rows CPUs have then: the memory is
// bounded by flows, not by CPUs.
TEST(Maps, RowsByMemory) {
    constexpr uint64_t kMiB = 1 << 20;
    const struct {
        const char *what;
        uint32_t flows, connections, possible, online;
        uint32_t rows, sharing;
        uint64_t mib;  // Rounded up.
    } kRows[] = {
        {"defaults", kFlows, kConnections, 2, 2, 2, 0, 53},
        {"five CPUs", kFlows, kConnections, 5, 5, 5, 0, 62},
        {"six", kFlows, kConnections, 6, 6, 6, 0, 65},
        {"a guest that may get more", kFlows, kConnections, 256, 2, 3, 254,
         56},
        {"a larger one", kFlows, kConnections, 256, 4, 5, 252, 62},
        {"a large one", kFlows, kConnections, 256, 16, 17, 240, 97},
        {"all CPUs are there", kFlows, kConnections, 256, 256, 18, 256, 100},
        {"few flows", 1024, kConnections, 64, 64, 64, 0, 62},
        {"a million flows on 16 CPUs", 1 << 20, kConnections, 16, 16, 16, 0,
         904},
        {"of 256", 1 << 20, kConnections, 256, 16, 17, 240, 944},
        {"all there", 1 << 20, kConnections, 256, 256, 18, 256, 985},
        {"many connections cost no row", kFlows, 1 << 20, 256, 16, 17, 240,
         547},
        {"most flows", 1 << 24, kConnections, 8192, 8192, 19, 8192, 15791},
    };
    for (const auto &row : kRows) {
        SCOPED_TRACE(row.what);
        std::vector<bool> is_online(row.possible);
        std::fill_n(is_online.begin(), row.online, true);
        const CpuRows rows(is_online,
                           MapSizes::max_rows(row.flows, row.possible,
                                              default_memory(row.flows)));
        EXPECT_EQ(rows.n_rows(), row.rows);
        EXPECT_EQ(rows.n_sharing(), row.sharing);
        const MapSizes sizes = MapSizes::of(row.flows, row.connections,
                                            row.possible, rows.n_rows());
        EXPECT_TRUE(sizes.fit());
        EXPECT_EQ((map_bytes(sizes) + kMiB - 1) / kMiB, row.mib);
        if (row.connections == kConnections) {
            EXPECT_LE(map_bytes(sizes), default_memory(row.flows));
        }
    }
}

// Programs that ports share may run at once, a trace must change nothing.
TEST(Maps, TracesWriteNothingThatPortsUse) {
    for (const MapRow &row : map_rows(MapSizes::of(1, 1, 1, 1))) {
        if (row.scope == MapScope::kTrace
            && std::string(row.name) != "xf_conn_uses") {
            EXPECT_EQ(row.writer, MapWriter::kUser) << row.name;
        }
    }
}

std::string mebibytes(double bytes) {
    char text[32];
    std::snprintf(text, sizeof text, "%.2f", bytes / (1 << 20));
    return text;
}

std::string table() {
    static constexpr const char *kWriters[] = {"OVS", "programs", "both"};
    const auto one = map_rows(MapSizes::of(kFlows, kConnections, kCpus, 1));
    const auto two = map_rows(MapSizes::of(kFlows, kConnections, kCpus, 2));
    std::string s =
        "\n| array | writer | a trace | entries | bytes each | MiB | MiB for "
        "each row more |\n|---|---|---|---|---|---|---|\n";
    uint64_t bytes = 0, more = 0;
    for (size_t i = 0; i < two.size(); i++) {
        const MapRow &row = two[i];
        const uint64_t grows = row.bytes() - one[i].bytes();
        s += "| `" + std::string(row.name) + "` | "
           + kWriters[static_cast<int>(row.writer)] + " | "
           + (row.scope == MapScope::kTrace ? "reads it" : "has its own")
           + " | " + grouped(row.entries) + " | "
           + std::to_string(row.value_bytes) + " | "
           + mebibytes(static_cast<double>(row.bytes())) + " | "
           + (grows ? mebibytes(static_cast<double>(grows)) : "") + " |\n";
        bytes += row.bytes();
        more += grows;
    }
    return s + "| all | | | | | " + mebibytes(static_cast<double>(bytes))
         + " | " + mebibytes(static_cast<double>(more)) + " |\n\n";
}

TEST(Maps, DocumentIsUpToDate) {
    const std::string before = unit::contents(kDocument);
    const size_t begin = before.find(kBegin), end = before.find(kEnd);
    ASSERT_NE(begin, before.npos);
    ASSERT_NE(end, before.npos);
    const std::string wanted =
        before.substr(0, begin) + kBegin + table() + before.substr(end);
    unit::expect_document(kDocument, wanted);
}

}  // namespace
}  // namespace flowxlate::unit
