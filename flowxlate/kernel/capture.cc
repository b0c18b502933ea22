// SPDX-License-Identifier: Apache-2.0
#include "kernel/capture.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <utility>

#include "xdp_offload.skel.h"

namespace flowxlate {
namespace {

// By the clock of bpf_ktime_get_ns().
uint64_t now_ns() {
    return std::chrono::steady_clock::now().time_since_epoch()
         / std::chrono::nanoseconds(1);
}

}  // namespace

Failure Capture::load(const BpfMaps &maps, const PortConstants &port,
                      int xsks_fd, const CaptureSizes &sizes,
                      std::shared_ptr<const FlowNames> names,
                      std::unique_ptr<Capture> *out) {
    auto c = std::make_unique<Capture>();
    if (auto f =
            maps.open_capture(port, xsks_fd, sizes, *names, &c->skeleton_)) {
        return f;
    }
    if (int error = xdp_offload_bpf::load(c->skeleton_.get())) {
        return failure(error, "cannot load the XDP program");
    }
    bpf_prog_info info{};
    uint32_t len = sizeof info;
    if (bpf_obj_get_info_by_fd(c->prog_fd(), &info, &len)) {
        return failure(errno, "cannot look at the XDP program");
    }
    c->prog_id_ = info.id;
    c->lease_ = Mapping(bpf_map__fd(c->skeleton_->maps.xf_lease),
                        sysconf(_SC_PAGESIZE));
    if (!c->lease_) {
        return failure(errno, "cannot map xf_lease");
    }
    c->lease().until_ns = now_ns() + kLease / std::chrono::nanoseconds(1);
    c->names_ = std::move(names);
    *out = std::move(c);
    return {};
}

int Capture::prog_fd() const {
    return bpf_program__fd(skeleton_->progs.xsk_def_prog);
}

bool Capture::has_reader() const {
    return now_ns()
        <= std::atomic_ref(lease().until_ns).load(std::memory_order_relaxed);
}

}  // namespace flowxlate
