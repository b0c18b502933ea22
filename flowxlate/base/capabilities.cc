// SPDX-License-Identifier: Apache-2.0
#include "base/capabilities.h"

#include <cap-ng.h>

#include <utility>

namespace flowxlate {
namespace {

bool has(unsigned capability) {
    return !capng_get_caps_process()
        && capng_have_capability(CAPNG_EFFECTIVE, capability);
}

}  // namespace

bool may_administrate() { return has(CAP_SYS_ADMIN); }

std::string missing_capabilities() {
    const bool admin = may_administrate();
    std::string missing;
    for (auto [name, there] :
         {std::pair{"CAP_BPF", admin || has(CAP_BPF)},
          std::pair{"CAP_PERFMON", admin || has(CAP_PERFMON)},
          std::pair{"CAP_NET_ADMIN", has(CAP_NET_ADMIN)}}) {
        if (!there) {
            missing += missing.empty() ? name : std::string(", ") + name;
        }
    }
    return missing;
}

}  // namespace flowxlate
