// SPDX-License-Identifier: Apache-2.0
// An AF_XDP socket, so that the program's map of sockets has an entry.
#ifndef TESTS_BPF_XDP_SOCKET_H
#define TESTS_BPF_XDP_SOCKET_H

#include <linux/if_xdp.h>
#include <net/if.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <cstdint>

#include "flowxlate/base/resource.h"

namespace flowxlate::test {

// On a queue of lo.
class XdpSocket {
public:
    explicit XdpSocket(uint32_t queue) : fd_(socket(AF_XDP, SOCK_RAW, 0)) {
        constexpr uint64_t kSize = 16 * 4096;
        memory_ = mmap(nullptr, kSize, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        xdp_umem_reg reg{};
        reg.addr = reinterpret_cast<uintptr_t>(memory_);
        reg.len = kSize;
        reg.chunk_size = 4096;
        const int n = 16;
        sockaddr_xdp address{};
        address.sxdp_family = AF_XDP;
        address.sxdp_ifindex = if_nametoindex("lo");
        address.sxdp_queue_id = queue;
        address.sxdp_flags = XDP_COPY;
        ok_ = fd_
           && !setsockopt(fd_.get(), SOL_XDP, XDP_UMEM_REG, &reg,
                          sizeof reg)
           && !setsockopt(fd_.get(), SOL_XDP, XDP_UMEM_FILL_RING, &n,
                          sizeof n)
           && !setsockopt(fd_.get(), SOL_XDP, XDP_UMEM_COMPLETION_RING, &n,
                          sizeof n)
           && !setsockopt(fd_.get(), SOL_XDP, XDP_RX_RING, &n, sizeof n)
           && !bind(fd_.get(), reinterpret_cast<sockaddr *>(&address),
                    sizeof address);
    }
    bool ok() const { return ok_; }
    int fd() const { return fd_.get(); }

private:
    Fd fd_;
    void *memory_;
    bool ok_;
};

// On queue 0.  There can be one at a time, and the kernel takes its time to forget
// it.
inline const XdpSocket &the_socket() {
    static const XdpSocket socket(0);
    return socket;
}

}  // namespace flowxlate::test

#endif
