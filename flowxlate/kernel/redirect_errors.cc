// SPDX-License-Identifier: Apache-2.0
#include "kernel/redirect_errors.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <unistd.h>

#include <cerrno>

#include "bpf/abi/redirect_errors.h"
#include "kernel/loaded.h"
#include "redirect_errors.skel.h"

namespace flowxlate {
RedirectErrors::RedirectErrors() = default;
RedirectErrors::~RedirectErrors() = default;

void RedirectErrors::Deleter::operator()(redirect_errors_bpf *s) const {
    redirect_errors_bpf::destroy(s);
}

Failure RedirectErrors::open(const KernelFeatures &kernel) {
    if (!kernel.has_btf()) {  // libbpf's errno value would not say that.
        return {ENOTSUP, "the kernel has no BTF (CONFIG_DEBUG_INFO_BTF)"};
    }
    skeleton_.reset(redirect_errors_bpf::open());
    if (!skeleton_) {
        return failure(errno, "cannot open the program that counts them");
    }
    skeleton_->rodata->xr_netns_cookie = netns_cookie();
    if (int error = redirect_errors_bpf::load(skeleton_.get())) {
        skeleton_.reset();
        return failure(error, "cannot load the program that counts them");
    }
    if (int error = redirect_errors_bpf::attach(skeleton_.get())) {
        skeleton_.reset();
        return failure(error, "cannot attach to the kernel's tracepoints");
    }
    ports_fd_ = bpf_map__fd(skeleton_->maps.xr_ports);
    return {};
}

void RedirectErrors::watch(Ifindex ifindex) {
    const uint32_t key = index(ifindex);
    const xr_losses none{};
    // Without memory for it, it is not known what is lost there.
    (void)bpf_map_update_elem(ports_fd_, &key, &none, BPF_ANY);
}

void RedirectErrors::forget(Ifindex ifindex) {
    const uint32_t key = index(ifindex);
    (void)bpf_map_delete_elem(ports_fd_, &key);
}

std::optional<std::vector<RedirectError>> RedirectErrors::read(
    Ifindex ifindex) const {
    const uint32_t key = index(ifindex);
    xr_losses losses;
    if (bpf_map_lookup_elem(ports_fd_, &key, &losses)) {
        return std::nullopt;
    }
    std::vector<RedirectError> errors;
    for (bool to_ovs : {false, true}) {
        for (int error = 0; error < XR_N_ERRORS; error++) {
            const auto n =
                losses.frames[to_ovs ? XR_TO_OVS : XR_TO_PORT][error];
            if (n) {
                errors.push_back({to_ovs, error, n});
            }
        }
    }
    return errors;
}

}  // namespace flowxlate
