// SPDX-License-Identifier: Apache-2.0
// Asking ovs-vswitchd, as its own tools do.
#ifndef TOOLS_DUMP_APPCTL_H
#define TOOLS_DUMP_APPCTL_H

#include <string>
#include <vector>

#include "flowxlate/base/types.h"

namespace flowxlate {

// Runs "ovs-appctl -t TARGET ARGS..." and stores what it prints in '*reply'.
// If it fails, what it complains about is in the result.
Failure appctl(const std::string &target, const std::vector<std::string> &args,
               std::string *reply);

}  // namespace flowxlate

#endif
