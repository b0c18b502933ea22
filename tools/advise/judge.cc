// SPDX-License-Identifier: Apache-2.0
// Prints as JSON what ovs-offload-advise (ovs_offload_advise/) asks for:
//
//   advise-judge devices NAME...
//   advise-judge flows netdev|system < PORTS_AND_FLOWS
#include "tools/advise/judge.h"

#include <exception>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using namespace flowxlate::advise;

nlohmann::json answer(const std::vector<std::string> &args) {
    if (!args.empty() && args[0] == "devices") {
        return judge_devices(std::span(args).subspan(1));
    }
    if (args.size() == 2 && args[0] == "flows"
        && (args[1] == "netdev" || args[1] == "system")) {
        return judge_flows(std::cin, args[1]);
    }
    throw std::invalid_argument(
        "usage: devices NAME... | flows netdev|system");
}

}  // namespace

int main(int argc, char **argv) {
    try {
        std::cout << answer({argv + 1, argv + argc}) << "\n";
    } catch (const std::exception &e) {
        std::cerr << "advise-judge: " << e.what() << "\n";
        return 1;
    }
    return std::cout.flush() ? 0 : 1;
}
