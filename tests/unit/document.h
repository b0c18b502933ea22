// SPDX-License-Identifier: Apache-2.0
// Documents that tests write and compare with the code.
#ifndef TESTS_UNIT_DOCUMENT_H
#define TESTS_UNIT_DOCUMENT_H

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

}  // namespace flowxlate::unit

#endif
