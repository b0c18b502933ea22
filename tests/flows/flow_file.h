// SPDX-License-Identifier: Apache-2.0
// Files of datapath flows in the text of dpctl/dump-flows, and the netlink
// attributes that a plugin gets of them.
//
// A line is a flow, "MATCH, [STATISTICS, ]actions:ACTIONS", or begins with
// '#'.  Two of these have a meaning:
//
//   # ports: NAME...         those of the flows; a number is that port's own
//   # tunnel ports: NAME...  those that stand for tunnels
#ifndef TESTS_FLOWS_FLOW_FILE_H
#define TESTS_FLOWS_FLOW_FILE_H

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "flowxlate/base/netlink_attr.h"
#include "flowxlate/base/types.h"
#include "tests/oracle/model.h"

namespace flowxlate::flows_test {

struct ModelFlowDeleter {
    void operator()(model_flow *f) const { model_flow_destroy(f); }
};

struct RealFlow {
    std::string text;  // The line.
    std::unique_ptr<model_flow, ModelFlowDeleter> attributes;

    static Bytes bytes(const model_bytes &b) {
        return bytes_of(b.data, b.size);
    }
    Bytes key() const { return bytes(attributes->netlink_key); }
    Bytes mask() const { return bytes(attributes->netlink_mask); }
    Bytes actions() const { return bytes(attributes->actions); }
};

struct FlowFile {
    std::map<std::string, OdpPort> ports, tunnel_ports;  // By name.
    std::vector<RealFlow> flows;
};

// Throws an exception if it cannot be read or a line is none that OVS can
// read.
FlowFile read_flows(const std::string &path);

}  // namespace flowxlate::flows_test

#endif
