// SPDX-License-Identifier: Apache-2.0
// An Open vSwitch that is older than the plugin, or newer.
#include <gtest/gtest.h>

#include <cstddef>

#include "engine/host.h"

namespace flowxlate {
namespace {

TEST(Host, OlderOnesHaveLess) {
    constexpr struct {
        const char *name;
        size_t size;
        bool has_port;  // It says that there is none.
    } kRows[] = {
        {"the oldest", Host::kMinSize, true},
        {"ours", sizeof(ovs_offload_host), false},
        {"a newer one", sizeof(ovs_offload_host) + 64, false},
    };
    for (const auto &row : kRows) {
        SCOPED_TRACE(row.name);
        struct {
            ovs_offload_host host;
            char more[64];
        } theirs{};
        theirs.host.size = static_cast<uint32_t>(row.size);
        theirs.host.is_enabled = [] { return true; };
        theirs.host.has_port = [](const char *, const char *) {
            return false;
        };
        const Host host(theirs.host);
        EXPECT_TRUE(host.notify.is_enabled());
        EXPECT_EQ(host.ask.has_port("netdev", "p1"), row.has_port);
    }
}

}  // namespace
}  // namespace flowxlate
