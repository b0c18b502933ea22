// SPDX-License-Identifier: Apache-2.0
#include "base/types.h"

#include <cerrno>
#include <cstdio>
#include <cstdlib>

#include "base/capabilities.h"

namespace flowxlate {
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
