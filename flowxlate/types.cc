// SPDX-License-Identifier: Apache-2.0
#include "types.h"

#include <linux/capability.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <utility>

namespace flowxlate {
namespace {

// Those of CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN that this thread does not
// have, ", " between them.
std::string missing_capabilities() {
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3]{};
    (void)syscall(SYS_capget, &header, sets);
    const auto has = [&](unsigned capability) {
        return (sets[CAP_TO_INDEX(capability)].effective
                & CAP_TO_MASK(capability))
            != 0;
    };
    // See bpf_capable() and perfmon_capable() in linux/capability.h.
    const bool admin = has(CAP_SYS_ADMIN);
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

}  // namespace

std::string Ufid::to_string() const {
    // As OVS prints one: UUID format, each group a host-order 32-bit word.
    uint32_t w[4];
    std::memcpy(w, bytes.data(), sizeof w);
    char s[40];
    std::snprintf(s, sizeof s, "%08x-%04x-%04x-%04x-%04x%08x", w[0],
                  w[1] >> 16, w[1] & 0xffff, w[2] >> 16, w[2] & 0xffff, w[3]);
    return s;
}

Failure failure(int error, const std::string &what) {
    error = std::abs(error);
    std::string message = what + ": " + std::strerror(error);
    if (error == EPERM || error == EACCES) {
        const std::string missing = missing_capabilities();
        if (!missing.empty()) {
            message += " (missing: " + missing + ")";
        } else if (error == EPERM) {
            message +=
                " (no capability is missing, but in a user namespace "
                "they do not count)";
        }
    }
    return {error, message};
}

}  // namespace flowxlate
