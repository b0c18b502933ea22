// SPDX-License-Identifier: Apache-2.0
// Which row each CPU has, and which CPUs there are.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "flowxlate/kernel/cpus.h"
#include "flowxlate/tables/cpu_rows.h"

namespace flowxlate::unit {
namespace {

// The first 'n_online' of them are.
std::vector<bool> host(size_t n_online, size_t n_possible) {
    std::vector<bool> is_online(n_possible);
    std::fill_n(is_online.begin(), n_online, true);
    return is_online;
}

// "0 1s": the row of each CPU, and whether others have it, too.
std::string in_words(const CpuRows &rows) {
    std::string s;
    for (uint32_t cpu = 0; cpu < rows.n_cpus(); cpu++) {
        s += (cpu ? " " : "") + std::to_string(rows.row_of(cpu))
           + (rows.shares(cpu) ? "s" : "");
    }
    return s;
}

TEST(CpuRows, Given) {
    const struct {
        const char *what;
        std::vector<bool> is_online;
        uint32_t max_rows;
        const char *rows;
        uint32_t n_rows, n_sharing;
    } kRows[] = {
        {"one CPU", host(1, 1), 1, "0", 1, 0},
        {"a row each", host(4, 4), 4, "0 1 2 3", 4, 0},
        {"with rows to spare", host(2, 2), 9, "0 1", 2, 0},
        {"one may come", host(2, 3), 9, "0 1 2", 3, 0},
        {"some may come: they share a row", host(2, 5), 9, "0 1 2s 2s 2s", 3,
         3},
        {"and that is the last one", host(2, 4), 3, "0 1 2s 2s", 3, 2},
        {"no row is left for them", host(3, 5), 3, "0 1 2s 2s 2s", 3, 3},
        {"more CPUs than rows take turns", host(5, 5), 2, "0s 1s 0s 1s 0s", 2,
         5},
        {"others join them", host(3, 5), 2, "0s 1s 0s 1s 1s", 2, 5},
        {"one row", host(2, 4), 1, "0s 0s 0s 0s", 1, 4},
        {"none is online", host(0, 3), 8, "0s 0s 0s", 1, 3},
        {"not the first ones are",
         {false, true, false, true},
         8,
         "2s 0 2s 1",
         3,
         2},
    };
    for (const auto &row : kRows) {
        SCOPED_TRACE(row.what);
        const CpuRows rows(row.is_online, row.max_rows);
        EXPECT_EQ(in_words(rows), row.rows);
        EXPECT_EQ(rows.n_rows(), row.n_rows);
        EXPECT_EQ(rows.n_sharing(), row.n_sharing);
    }
}

TEST(Cpus, Lists) {
    using List = std::vector<bool>;
    const struct {
        const char *text;
        List cpus;
    } kRows[] = {
        {"0", {true}},
        {"0-2", {true, true, true}},
        {"0,2", {true, false, true}},
        {"1-2,4-4", {false, true, true, false, true}},
        {"0-255", List(256, true)},
        {"", {}},
        {"0-", {}},
        {"-1", {}},
        {"2-1", {}},
        {"0;1", {}},
        {"0-99999999", {}},
        {"99999999999", {}},
        {"all", {}},
    };
    for (const auto &row : kRows) {
        EXPECT_EQ(parse_cpu_list(row.text), row.cpus) << row.text;
    }
}

}  // namespace
}  // namespace flowxlate::unit
