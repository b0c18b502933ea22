// SPDX-License-Identifier: Apache-2.0
// Which frames the kernel has lost after a program had redirected them, by
// port and errno (bpf/redirect_errors.bpf.c).
//
// Not every kernel can be asked: it needs BTF and tracing by BPF.  Where it
// cannot, nobody knows whether frames are lost, which is not the same as that
// none are.
//
// After open(), all functions may be called from any thread.
#ifndef FLOWXLATE_REDIRECT_ERRORS_H
#define FLOWXLATE_REDIRECT_ERRORS_H

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/types.h"
#include "kernel/features.h"

struct redirect_errors_bpf;  // The skeleton of bpf/redirect_errors.bpf.c.

namespace flowxlate {

struct RedirectError {
    bool to_ovs = false;  // To its AF_XDP sockets, not to a port.
    int error = 0;        // Positive errno value, or 0: the kernel gave none.
    uint64_t frames = 0;  // How many were lost.

    bool operator==(const RedirectError &) const = default;
};

class RedirectErrors {
public:
    RedirectErrors();
    ~RedirectErrors();

    // Counts from now on, while this exists, for ports that are watched.
    Failure open(const KernelFeatures &);

    // A device of this network namespace is a port, for which nothing is
    // counted yet, or is none any more.
    void watch(Ifindex);
    void forget(Ifindex);

    // None if they are not counted.
    std::optional<std::vector<RedirectError>> read(Ifindex) const;

private:
    struct Deleter {
        void operator()(redirect_errors_bpf *) const;
    };
    std::unique_ptr<redirect_errors_bpf, Deleter> skeleton_;
    int ports_fd_ = -1;  // The skeleton's.
};

}  // namespace flowxlate

#endif
