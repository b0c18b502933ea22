// SPDX-License-Identifier: Apache-2.0
// Documents that tests write and compare with the code.
#ifndef TESTS_UNIT_DOCUMENT_H
#define TESTS_UNIT_DOCUMENT_H

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

namespace flowxlate::unit {

// In docs/supported.md: what comes before is tests/unit/supported_test.cc's,
// what begins with it tests/flows/real_flows.cc's.
constexpr const char *kRealFlowsMark =
    "\n<!-- Made by tests/flows/real_flows.cc; do not edit. -->\n";

inline std::string contents(const std::filesystem::path &path) {
    std::ifstream file(path);
    std::stringstream s;
    s << file.rdbuf();
    return s.str();
}

// The document must be 'wanted'.  With UPDATE_DOCS in the environment it is
// written anew before.
inline void expect_document(const std::filesystem::path &path,
                            const std::string &wanted) {
    if (std::getenv("UPDATE_DOCS")) {
        std::ofstream out(path);
        out << wanted;
        out.close();
        ASSERT_TRUE(out) << path;
    }
    EXPECT_EQ(contents(path), wanted)
        << path
        << " is not what the code says; run this test again with "
           "UPDATE_DOCS=1 in the environment";
}

}  // namespace flowxlate::unit

#endif
