// SPDX-License-Identifier: Apache-2.0
#include "base/capabilities.h"

#include <linux/capability.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <utility>

namespace flowxlate {
namespace {

bool has(unsigned capability) {
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3]{};
    return !syscall(SYS_capget, &header, sets)
        && (sets[CAP_TO_INDEX(capability)].effective
            & CAP_TO_MASK(capability));
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
