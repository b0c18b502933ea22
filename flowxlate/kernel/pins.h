// SPDX-License-Identifier: Apache-2.0
// Links of ports' programs, kept in the BPF file system.
//
// A pinned link, its program and the maps of that live on when ovs-vswitchd
// dies, and flows go on being executed until its successor takes over
// (handover.h).  A pin is all that one process leaves to the next:
//
//     /sys/fs/bpf/ovs-offload-xdp/link-NETNS-IFINDEX
//
// But for a program that ports share (shared_program.h): by
//
//     /sys/fs/bpf/ovs-offload-xdp/shared-NETNS-ID
//
// the array stays filled by which they call it.  ID is the kernel's number of
// that map.  It is removed when no link that is kept needs it any more.
//
// NETNS is the kernel's cookie of the network namespace, which like the pins
// themselves does not survive a reboot.  A link whose device is gone is not
// attached to anything any more, also if another device gets its number.
//
// The directory is that of the user whom OVS runs as, and closed to others:
// whoever can put a link there could have packets sent to his program.  If OVS
// had another user before, root takes it over by itself, and who is not root
// needs root to give it to him (packaging/prepare-pins).  That takes no more
// on trust: what is found there is believed to be a link of ours only if it is
// a link of the device, of XDP or tcx, so who made it could attach programs
// there, and its program looks like ours.
//
// All is read once, when the process starts, and kept open until a port takes
// it.  See open_maps() for why the maps must not be opened again and again;
// libxdp does that too, and what it closes must not be the last descriptor.
//
// Thread-safe.
#ifndef FLOWXLATE_PINS_H
#define FLOWXLATE_PINS_H

#include <map>
#include <optional>
#include <set>
#include <string>

#include "base/guarded.h"
#include "base/resource.h"
#include "base/types.h"
#include "kernel/loaded.h"

namespace flowxlate {

class Pins {
public:
    static constexpr const char *kDirectory = "/sys/fs/bpf/ovs-offload-xdp";

    // A link that an earlier process has left.
    struct Inherited {
        Fd link;
        LinkedProgram program;
    };

    // Why nothing is kept, as a positive errno value and in words, and what to
    // do about it.
    struct NotKept {
        int error = 0;
        std::string reason, remedy;
        explicit operator bool() const { return error != 0; }
    };

    // Makes the directory, or takes the one that is there, and reads what is
    // in it.  On failure nothing is kept, and nothing is found.  ENOENT: there
    // is no BPF file system; others: the directory is not safe, or not ours to
    // enter, or a capability is missing.
    NotKept open(const std::string &directory = kDirectory);
    bool usable() const { return !directory_.empty(); }

    // Gives away what an earlier process has left on the device, if anything.
    std::optional<Inherited> take(Ifindex);

    Failure keep(const Fd &link, Ifindex) const;
    void forget(Ifindex) const;

    // The same for an array by which ports call a program.
    Failure keep_shared(const Fd &array) const;
    void forget_shared(const Fd &array) const;

    // Detaches and forgets what nobody has taken, unless its process, or one
    // that has taken over from it, is alive after all.  Returns how many.
    size_t remove_orphans();

private:
    std::string path(Ifindex) const;
    void inherit() REQUIRES(mutex_);
    void inherit(const std::string &path, Ifindex, Inherited) REQUIRES(mutex_);
    std::string shared_path(uint32_t id) const;
    void remove_unused_arrays() REQUIRES(mutex_);
    bool may_call(const std::string &path, uint32_t array_id) REQUIRES(mutex_);
    bool is_needed(uint32_t array_id) REQUIRES(mutex_);

    std::string directory_;
    Mutex mutex_;
    // By the index that the device had.  It may be in another namespace now,
    // with this index or another.
    std::map<Ifindex, Inherited> inherited_ GUARDED_BY(mutex_);
    EarlierPrograms programs_ GUARDED_BY(mutex_);
    // The pins of arrays that were there at the beginning, by ID, and those of
    // them whose ports this process has taken.
    std::map<uint32_t, std::string> arrays_ GUARDED_BY(mutex_);
    std::set<uint32_t> taken_arrays_ GUARDED_BY(mutex_);
};

}  // namespace flowxlate

#endif
