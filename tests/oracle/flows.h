// SPDX-License-Identifier: Apache-2.0
// Sets of megaflows such as OVS would install.
//
// A set grows as a datapath's does: a frame finds no flow, and a flow is made
// from the frame's own fields and a mask that covers it.  A flow that
// recirculates is followed by flows for what comes back, from the fields that
// the packet then has. The masks keep to what OVS guarantees: a field is only
// matched together with what says that a packet has it, and no packet has two
// flows (with an exception now and then: then either is right).
#ifndef TESTS_ORACLE_FLOWS_H
#define TESTS_ORACLE_FLOWS_H

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "frames.h"
#include "model.h"

namespace oracle {

// The datapath ports, which are also the port slots of tests/bpf/program.h.
// Packets enter through the first.
constexpr uint32_t kInPort = 1, kDownPort = 3, kNarrowPort = 4,
                   kUnmappedPort = 5;
constexpr uint32_t kGoodPorts[] = {2, 6, 7, 8};

struct ModelFlowDeleter {
    void operator()(model_flow *f) const { model_flow_destroy(f); }
};
using ModelFlow = std::unique_ptr<model_flow, ModelFlowDeleter>;

struct Megaflow {
    ModelFlow model;
    std::vector<std::string> actions;  // OVS's text, one action each.
};

// Nothing, if OVS's datapath interface cannot express it.
std::optional<Megaflow> make_megaflow(const model_key &key,
                                      const model_key &mask,
                                      std::vector<std::string> actions);

// What model_flow_parse() takes.
std::vector<const char *> c_strings(const std::vector<std::string> &);

struct FlowSet {
    int vlan_limit = 1;  // OVS's other_config:vlan-limit.
    bool native = true;  // XDP in native or in generic mode.
    std::vector<Megaflow> flows;

    // For model_run().
    std::vector<const model_flow *> models() const;

    // The same, with each flow as 'edit' makes it, and without those for which
    // it returns nothing.
    using Edit =
        std::function<std::optional<Megaflow>(size_t index, const Megaflow &)>;
    FlowSet copy(const Edit &edit = keep) const;
    static std::optional<Megaflow> keep(size_t, const Megaflow &);
};

// Makes a set, and the frames that it was made for.
FlowSet make_flow_set(Random &, std::vector<Frame> *frames);

}  // namespace oracle

#endif
