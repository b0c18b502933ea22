// SPDX-License-Identifier: Apache-2.0
#include "flowxlate/engine/settings.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <string>

namespace flowxlate::unit {
namespace {

struct Row {
    const char *key, *value;
    bool taken;
    std::function<bool(const Settings &)> check;  // If it was taken.
};

const Row kRows[] = {
    {"max-flows", "16", true, [](auto &s) { return s.max_flows == 16; }},
    {"max-flows", "16777216", true,
     [](auto &s) { return s.max_flows == 16777216; }},
    {"max-flows", "15", false, {}},
    {"max-flows", "16777217", false, {}},
    {"max-flows", "99999999999", false, {}},
    {"max-flows", "-1", false, {}},
    {"max-flows", "64k", false, {}},
    {"max-flows", " 64", false, {}},
    {"max-flows", "", false, {}},
    {"max-connections", "1", true,
     [](auto &s) { return s.max_connections == 1; }},
    {"max-connections", "1048576", true,
     [](auto &s) { return s.max_connections == 1048576; }},
    {"max-connections", "0", false, {}},
    {"max-connections", "1048577", false, {}},
    {"max-connections", "4294967297", false, {}},
    {"max-connections", "-1", false, {}},
    {"max-connections", "1e3", false, {}},
    {"max-connections", "", false, {}},
    {"max-memory", "256", true,
     [](auto &s) { return s.max_memory_mib == 256; }},
    {"max-memory", "1048576", true,
     [](auto &s) { return s.max_memory_mib == 1048576; }},
    {"max-memory", "1048577", false, {}},
    {"max-memory", "1G", false, {}},
    {"handover", "0", true, [](auto &s) { return s.handover.count() == 0; }},
    {"handover", "86400", true,
     [](auto &s) { return s.handover.count() == 86400; }},
    {"handover", "86401", false, {}},
    {"orphan-timeout", "10", true,
     [](auto &s) { return s.orphan_timeout.count() == 10; }},
    {"orphan-timeout", "9", false, {}},
    {"generic", "true", true, [](auto &s) { return s.allow_generic; }},
    {"generic", "yes", false, {}},
    {"generic", "TRUE", false, {}},
    {"system-ports", "true", true, [](auto &s) { return s.system_ports; }},
    {"persist", "false", true, [](auto &s) { return !s.persist; }},
    {"persist", "", false, {}},
    {"tap-tso", "false", true, [](auto &s) { return !s.tap_tso; }},
    {"tap_tso", "false", false, {}},
    {"", "true", false, {}},
};

bool has_defaults(const Settings &s) {
    const Settings d;
    return s.max_flows == d.max_flows && s.allow_generic == d.allow_generic
        && s.system_ports == d.system_ports && s.persist == d.persist
        && s.tap_tso == d.tap_tso && s.handover == d.handover
        && s.orphan_timeout == d.orphan_timeout
        && s.max_connections == d.max_connections
        && s.max_memory_mib == d.max_memory_mib;
}

TEST(Settings, Options) {
    for (const Row &row : kRows) {
        SCOPED_TRACE(std::string(row.key) + "=" + row.value);
        const std::string key = std::string("xdp-offload-") + row.key;
        Settings s;
        const Reject r = s.set({key.c_str(), row.value});
        EXPECT_EQ(!r, row.taken);
        EXPECT_TRUE(row.taken ? row.check(s) : has_defaults(s));
        EXPECT_EQ(row.taken, r.what == nullptr);
    }
}

// What is in force, and what a restart would change, are told by these.
TEST(Settings, InWords) {
    Settings s;
    const auto before = s.in_words();
    EXPECT_EQ(before[0], "xdp-offload-max-flows=65536");
    for (auto &words : before) {  // Each can be set so.
        const auto at = words.find('=');
        const std::string key = words.substr(0, at);
        const std::string value = words.substr(at + 1);
        EXPECT_FALSE(s.set({key.c_str(), value.c_str()})) << words;
    }
    EXPECT_EQ(s.in_words(), before);
    ASSERT_FALSE(s.set({"xdp-offload-persist", "false"}));
    auto after = s.in_words();
    EXPECT_NE(after, before);
    EXPECT_NE(
        std::find(after.begin(), after.end(), "xdp-offload-persist=false"),
        after.end());
}

}  // namespace
}  // namespace flowxlate::unit
