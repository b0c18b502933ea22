// SPDX-License-Identifier: Apache-2.0
// One program for many ports.
//
// To load the program takes the kernel tens of milliseconds, as it follows all
// of its ways.  So ports that differ in their devices alone share one.  What
// is on a port's device is a small program of its own (bpf/run/port.h):
// that knows which device it is on, and calls the shared one by a program
// array, 'xf_shared'.  The shared one finds the port by the device's index
// (BpfMaps::knows_port()).
//
// Ports of AF_XDP do not share: libxdp looks for a port's sockets in a map of
// the program on its device, and the kernel has a map's place in a program be
// one map.
//
// The kernel empties a program array when nobody has it open any more, and
// nobody has it pinned, whatever programs use it.  So it has to be pinned for
// the links that are kept (Pins), and if it is lost, all packets are passed
// on.
#ifndef FLOWXLATE_SHARED_PROGRAM_H
#define FLOWXLATE_SHARED_PROGRAM_H

#include <cstdint>
#include <map>
#include <memory>
#include <tuple>

#include "base/guarded.h"
#include "base/resource.h"
#include "base/types.h"
#include "kernel/bpf_maps.h"

struct skb_port_bpf;  // The skeleton of bpf/skb_port.bpf.c.
struct xdp_port_bpf;  // That of bpf/xdp_port.bpf.c.

namespace flowxlate {

class Pins;

// The small program of a port, for the device with that index.
class PortProgram {
public:
    // Loads it for TC's ingress or, if not 'at_tc', for XDP.  It calls what is
    // in the program array 'shared_fd'.
    static Failure load(bool at_tc, Ifindex, int shared_fd, PortProgram *out);

    int fd() const;
    explicit operator bool() const { return xdp_ || skb_; }

private:
    struct Deleter {
        void operator()(xdp_port_bpf *) const;
        void operator()(skb_port_bpf *) const;
    };
    std::unique_ptr<xdp_port_bpf, Deleter> xdp_;
    std::unique_ptr<skb_port_bpf, Deleter> skb_;
};

// What ports have in common that share a program.
struct SharedKind {
    uint32_t tx_flag = XF_PORT_TX_NATIVE;  // XF_PORT_TX_SKB: at TC's ingress.
    PortTraits traits{};
    // Of the 'xf_next' that they are about to take over from.
    uint32_t next_id = 0;
    bool at_tc() const { return tx_flag == XF_PORT_TX_SKB; }
    bool operator<(const SharedKind &o) const {
        return std::tie(tx_flag, traits, next_id)
             < std::tie(o.tx_flag, o.traits, o.next_id);
    }
};

// Loads the program of a port, or of several, of XDP or of TC's ingress.  It
// takes over from the one of an earlier process whose 'xf_next' is 'next_fd',
// unless that is -1.  'sockets_fd': as in BpfMaps::open_port().
Failure load_program(const BpfMaps &, const PortConstants &, int sockets_fd,
                     int next_fd, Skeleton *out);
Failure load_program(const BpfMaps &, const PortConstants &, int next_fd,
                     SkbSkeleton *out);

class SharedProgram {
public:
    // Loads the program, which takes over from the one whose 'xf_next' is
    // 'next_fd', unless that is -1.
    static Failure load(const BpfMaps &, const SharedKind &, int next_fd,
                        std::shared_ptr<SharedProgram> *out);

    explicit SharedProgram(const BpfMaps &maps) : maps_(maps) {}

    // Loads a port's small program, which calls this one.
    Failure load_port(Ifindex, PortProgram *out) const;

    int main_fd() const;
    int sample_fd() const;  // Of one that takes over.

    // A port's link is about to be kept when this process ends, and is kept no
    // longer.
    Failure keep(const Pins &);
    void forget(const Pins &);

private:
    const BpfMaps &maps_;
    Skeleton xdp_;     // Of XDP,
    SkbSkeleton skb_;  // or of TC's ingress.
    Fd array_;         // By which ports call it.
    Mutex mutex_;
    uint32_t n_kept_ GUARDED_BY(mutex_) = 0;
};

// Those of a process.  Thread-safe.
class SharedPrograms {
public:
    explicit SharedPrograms(const BpfMaps &maps) : maps_(maps) {}

    // The program of that kind, loaded if there is none yet; 'next_fd' as
    // above.  It ends with the last port that has it.
    Failure find(const SharedKind &, int next_fd,
                 std::shared_ptr<SharedProgram> *out);

private:
    const BpfMaps &maps_;
    Mutex mutex_;
    std::map<SharedKind, std::weak_ptr<SharedProgram>> programs_
        GUARDED_BY(mutex_);
};

}  // namespace flowxlate

#endif
