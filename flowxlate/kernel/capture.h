// SPDX-License-Identifier: Apache-2.0
// Looking at what enters a port: another instance of its program, which also
// copies packets and what becomes of them into a ring (bpf/run/capture.h).
//
// Who reads the ring holds a lease, which it has to renew in the map xf_lease:
// it may be killed, and the copies must end then.  Nobody has to be asked for
// that, so a reader goes on while ovs-vswitchd is busy, or away.
#ifndef FLOWXLATE_CAPTURE_H
#define FLOWXLATE_CAPTURE_H

#include <chrono>
#include <cstdint>
#include <memory>

#include "bpf/abi/capture.h"
#include "kernel/bpf_maps.h"

namespace flowxlate {

class Capture {
public:
    // A reader renews its lease for so long, and more often than that.
    static constexpr auto kLease = std::chrono::seconds(5);

    // Loads the program of the port in 'slot' whose AF_XDP sockets are in the
    // map 'xsks_fd'.  The lease is a new one.
    static Failure load(const BpfMaps &, const PortConstants &, int xsks_fd,
                        const CaptureSizes &, std::shared_ptr<const FlowNames>,
                        std::unique_ptr<Capture> *);

    int prog_fd() const;
    uint32_t prog_id() const { return prog_id_; }
    bool has_reader() const;  // Whose lease has not ended.

private:
    xf_lease &lease() const { return lease_.as<xf_lease>(1)[0]; }

    Skeleton skeleton_;
    Mapping lease_;
    uint32_t prog_id_ = 0;
    std::shared_ptr<const FlowNames> names_;
};

}  // namespace flowxlate

#endif
