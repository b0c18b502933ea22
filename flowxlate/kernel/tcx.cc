// SPDX-License-Identifier: Apache-2.0
#include "kernel/tcx.h"

#include <bpf/bpf.h>
#include <linux/bpf.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

namespace flowxlate {

// BPF_TCX_INGRESS of <linux/bpf.h>, since Linux 6.6.
constexpr auto kTcxIngress = static_cast<bpf_attach_type>(46);
constexpr uint32_t kMostPrograms = 64;  // BPF_MPROG_MAX of the kernel.

int find_tcx_programs(Ifindex ifindex, std::vector<uint32_t> *ids) {
    bpf_attr attr{};
    ids->resize(kMostPrograms);
    attr.query.target_fd = index(ifindex);  // An index of a device, here.
    attr.query.attach_type = kTcxIngress;
    attr.query.prog_ids = reinterpret_cast<uintptr_t>(ids->data());
    attr.query.prog_cnt = kMostPrograms;
    const int error =
        syscall(__NR_bpf, BPF_PROG_QUERY, &attr, sizeof attr) ? errno : 0;
    ids->resize(error ? 0 : attr.query.prog_cnt);
    return error;
}

Failure link_at_tcx(int prog_fd, Ifindex ifindex, Fd *link) {
    *link = Fd(bpf_link_create(prog_fd, index(ifindex), kTcxIngress, nullptr));
    return *link ? Failure{}
                 : failure(errno, "cannot attach the program to TC's ingress");
}

}  // namespace flowxlate
