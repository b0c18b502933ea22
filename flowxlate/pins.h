// SPDX-License-Identifier: Apache-2.0
// Links of ports' programs, kept in the BPF file system.
//
// A pinned link, its program and the maps of that live on when ovs-vswitchd
// dies, and flows go on being executed until its successor takes over
// (handover.h).  A pin is all that one process leaves to the next:
//
//     /sys/fs/bpf/ovs-offload-xdp/link-NETNS-IFINDEX
//
// NETNS is the kernel's cookie of the network namespace, which like the pins
// themselves does not survive a reboot.  A link whose device is gone is not
// attached to anything any more, also if another device gets its number.
//
// The directory must be root's (or the user's whom OVS runs as) and closed to
// others: whoever can put a link there could have packets sent to his program.
// What is found there is believed to be a link of ours only if it is an XDP
// link of the device and its program looks like ours.
//
// Thread-safe: nothing is kept but the path.
#ifndef FLOWXLATE_PINS_H
#define FLOWXLATE_PINS_H

#include <set>
#include <string>

#include "loaded.h"
#include "resource.h"
#include "types.h"

namespace flowxlate {

class Pins {
public:
    static constexpr const char *kDirectory = "/sys/fs/bpf/ovs-offload-xdp";

    // Makes the directory, or checks the one that is there.  On failure
    // nothing is kept, and nothing is found.
    Failure open(const std::string &directory = kDirectory);
    bool usable() const { return !directory_.empty(); }

    // The link that is kept for the device and attached to it, if any, and its
    // program.
    Fd find(Ifindex, LinkedProgram *) const;
    Failure keep(const Fd &link, Ifindex) const;
    void forget(Ifindex) const;

    // Forgets links whose device is gone.
    void forget_detached() const;

    // Detaches and forgets the links of this namespace whose process is
    // neither alive nor this one, which has 'ours'.  Returns how many.
    size_t remove_orphans(const std::set<Ifindex> &ours) const;

private:
    std::string path(Ifindex) const;

    std::string directory_;
};

}  // namespace flowxlate

#endif
