// SPDX-License-Identifier: Apache-2.0
// What kernels can do, in words.  That the kernel is asked rightly, system
// tests see: "redirect-errors-unknown", and "kernel-hooks" under three
// kernels.
#include "flowxlate/kernel/features.h"

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <string>

namespace flowxlate::unit {
namespace {

TEST(KernelFeatures, NamesWhatIsMissing) {
    const KernelFeatures none;
    EXPECT_EQ(none.netdev_family(), 0);
    EXPECT_FALSE(none.has_tcx());
    EXPECT_FALSE(none.has_btf());
    const std::string text = none.to_string();
    EXPECT_TRUE(text.starts_with("none; missing: ")) << text;
    for (auto &row : none.rows()) {
        EXPECT_FALSE(row.is_there) << row.name;
        for (const char *part : {row.name, row.since, row.without}) {
            EXPECT_NE(text.find(part), std::string::npos) << text;
        }
    }
}

// docs/kernels.md has a row for each.
TEST(KernelFeatures, AreInTheDocument) {
    std::ifstream file(SOURCE_DIR "/docs/kernels.md");
    const std::string text(std::istreambuf_iterator<char>(file), {});
    for (auto &row : KernelFeatures().rows()) {
        const std::string line = std::string("| ") + row.name + " | "
                               + row.since + " | " + row.without + " |";
        EXPECT_NE(text.find(line), std::string::npos) << line;
    }
}

}  // namespace
}  // namespace flowxlate::unit
