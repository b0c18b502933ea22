// SPDX-License-Identifier: Apache-2.0
#include "kernel/conntrack_rst.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "base/resource.h"

namespace flowxlate {
namespace {

constexpr const char *kSetting =
    "/proc/sys/net/netfilter/nf_conntrack_tcp_ignore_invalid_rst";

}  // namespace

Failure let_old_rst_pass(bool *changed) {
    char now = 0;
    *changed = false;
    if (const Fd file(open(kSetting, O_RDONLY | O_CLOEXEC));
        file && read(file.get(), &now, 1) == 1 && now == '1') {
        return {};
    }
    const Fd file(open(kSetting, O_WRONLY | O_CLOEXEC));
    if (!file || write(file.get(), "1", 1) != 1) {
        return failure(errno,
                       "cannot set "
                       "net.netfilter."
                       "nf_conntrack_tcp_ignore_invalid_rst=1");
    }
    *changed = true;
    return {};
}

}  // namespace flowxlate
