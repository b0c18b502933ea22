// SPDX-License-Identifier: Apache-2.0
// Pipelines with ct(), as OVN and others make them, and as nobody does:
// stages, each of which says for some states of a connection what is done.
#ifndef TESTS_ORACLE_CT_PIPELINES_H
#define TESTS_ORACLE_CT_PIPELINES_H

#include <cstdint>
#include <string>
#include <vector>

#include "random.h"

namespace oracle {

// The first rule whose bits of ct_state are those that the packet has.
struct Rule {
    uint32_t state = 0, mask = 0;      // OVS_CS_F_*.
    std::vector<std::string> actions;  // OVS's text, one action each.
};
struct Stage {
    std::vector<Rule> rules;
};

struct Pipeline {
    bool v6 = false;
    std::vector<Stage> stages;  // By recirculation id.
    // Translates to what is there already, as "nat(src)" does.  Where such a
    // connection has expired and is still there, the next packet of it ends
    // OVS 3.1: process_one() then finds its other half for it, and
    // conn_update_state() asserts that it has not.  So none expires, nor does
    // TCP end any.
    bool identity = false;

    const std::vector<std::string> &actions(uint32_t stage,
                                            uint32_t state) const;
    std::string text() const;
};

Pipeline make_pipeline(Random *);

}  // namespace oracle

#endif
