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
        DontFragment dont_fragment;
    } kRows[] = {
        {"the oldest", Host::kMinSize, true, DontFragment::kIsIgnored},
        {"an older one", offsetof(ovs_offload_host, finds_dont_fragment),
         false, DontFragment::kIsIgnored},
        {"ours", sizeof(ovs_offload_host), false, DontFragment::kIsFound},
        {"a newer one", sizeof(ovs_offload_host) + 64, false,
         DontFragment::kIsFound},
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
        theirs.host.finds_dont_fragment = true;
        const Host host(theirs.host);
        EXPECT_TRUE(host.notify.is_enabled());
        EXPECT_EQ(host.ask.has_port("netdev", "p1"), row.has_port);
        EXPECT_EQ(host.dont_fragment(), row.dont_fragment);
    }
}

}  // namespace
}  // namespace flowxlate
