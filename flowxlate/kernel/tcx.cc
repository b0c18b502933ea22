// SPDX-License-Identifier: Apache-2.0
#include "kernel/tcx.h"

#include <linux/bpf.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

namespace flowxlate {

// BPF_TCX_INGRESS of <linux/bpf.h>, since Linux 6.6.
constexpr uint32_t kTcxIngress = 46;

int count_tcx_programs(Ifindex ifindex, uint32_t *n) {
    bpf_attr attr{};
    attr.query.target_fd = index(ifindex);  // An index of a device, here.
    attr.query.attach_type = kTcxIngress;
    *n = 0;
    if (syscall(__NR_bpf, BPF_PROG_QUERY, &attr, sizeof attr)) {
        return errno;
    }
    *n = attr.query.prog_cnt;
    return 0;
}

}  // namespace flowxlate
