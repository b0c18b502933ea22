// SPDX-License-Identifier: Apache-2.0
// An Open vSwitch that is older than the plugin: each member of its services
// may be the first that it does not have.
#include <gtest/gtest.h>

#include <cstddef>
#include <cstring>

#include "engine/host.h"

namespace flowxlate {
namespace {

unsigned n_calls;

// All members that an older one may lack say the contrary of what is assumed
// without them.
ovs_offload_host whole() {
    ovs_offload_host h{};
    h.size = sizeof h;
    h.ovs_version = "3.1.0";
    h.flows_lost = [] { n_calls++; };
    h.offer_again = [] { n_calls++; };
    h.copies_ready = [] { n_calls++; };
    h.handles_misses = [] { return false; };
    h.has_rules = [] { return false; };
    h.is_enabled = [] { return false; };
    h.has_port = [](const char *, const char *) { return false; };
    h.flow_text = [](const ovs_offload_flow *) { return strdup("text"); };
    h.trace = [](const char *, const char *, const char *) {
        return strdup("traced");
    };
    h.compose = [](const char *, uint8_t **, size_t *) {
        return strdup("wrong");
    };
    return h;
}

#define UP_TO(MEMBER) offsetof(ovs_offload_host, MEMBER)
constexpr struct {
    const char *name;
    size_t size;
    unsigned n_calls;
    bool misses, text, composes, rules, enabled, port;
} kRows[] = {
    {"Flow Text", UP_TO(flow_text), 2, true, false, false, true, true, true},
    {"Misses", UP_TO(handles_misses), 2, true, true, false, true, true, true},
    {"Copies", UP_TO(copies_ready), 2, false, true, false, true, true, true},
    {"Compose", UP_TO(compose), 3, false, true, false, true, true, true},
    {"Rules", UP_TO(has_rules), 3, false, true, true, true, true, true},
    {"Enabled", UP_TO(is_enabled), 3, false, true, true, false, true, true},
    {"Port", UP_TO(has_port), 3, false, true, true, false, false, true},
    {"Lost", UP_TO(flows_lost), 0, true, false, false, true, true, true},
    {"Whole", sizeof(ovs_offload_host), 3, false, true, true, false, false,
     false},
    // A newer one.
    {"Longer", sizeof(ovs_offload_host) + 64, 3, false, true, true, false,
     false, false},
};

TEST(Host, OlderOnesHaveLess) {
    for (const auto &row : kRows) {
        SCOPED_TRACE(row.name);
        struct {
            ovs_offload_host host;
            char more[64];
        } theirs{whole(), {}};
        theirs.host.size = static_cast<uint32_t>(row.size);
        const Host host(theirs.host);
        n_calls = 0;
        host.notify.flows_lost();
        host.notify.offer_again();
        host.notify.copies_ready();
        EXPECT_EQ(n_calls, row.n_calls);
        EXPECT_EQ(host.notify.handles_misses(), row.misses);
        EXPECT_EQ(host.notify.has_rules(), row.rules);
        EXPECT_EQ(host.notify.is_enabled(), row.enabled);
        EXPECT_EQ(host.ask.has_port("netdev", "p1"), row.port);
        EXPECT_EQ(host.ask.flow_text({}) == "text", row.text);
        std::vector<std::byte> packet;
        EXPECT_EQ(host.ask.compose("", &packet) == "wrong", row.composes);
        EXPECT_EQ(host.ask.trace("netdev", "p1", "00") == "traced",
                  row.composes);
    }
}

}  // namespace
}  // namespace flowxlate
