// SPDX-License-Identifier: Apache-2.0
// What the kernel does with a frame between a device and the kernel datapath.
//
// An XDP program comes before all of that, so what it executes misses it: TC's
// filters at ingress, BPF programs there and nftables' chains of the netdev
// family may drop, redirect or mark packets, and a VLAN device on top of a
// port takes the frames of its VLAN.  All this is asked of the kernel; what
// changes is noticed within a second.
//
// A program of ours at TC's ingress comes behind those of tcx that were there
// before it, and as a filter behind all others.  They have had their say then.
//
// Packet sockets hear frames before OVS as well.  Those of tcpdump cannot be
// told from a daemon's, so they miss what XDP executes; but protocols of the
// link itself, which daemons hear that way, are left to OVS.
//
// OVS's own flows in TC and its policing are nobody else's: a flow's filter
// has the ufid as a cookie of its actions, and policing is a filter that only
// polices.
//
// Not thread-safe.
#ifndef FLOWXLATE_ENTRANCE_H
#define FLOWXLATE_ENTRANCE_H

#include <linux/types.h>

#include <chrono>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "base/types.h"
#include "kernel/features.h"
#include "kernel/netlink.h"

namespace flowxlate {

struct Entrance {
    struct Vlan {
        uint16_t id;
        __be16 tpid;
        bool operator==(const Vlan &) const = default;
        bool operator<(const Vlan &other) const {
            return std::tie(id, tpid) < std::tie(other.id, other.tpid);
        }
    };

    std::vector<Vlan> vlans;  // That devices on top take.
    std::string others;       // Who else handles frames first; may be empty.
    std::string lower;  // Devices below it, as of a master; may be empty.
    bool keeps_mark = false;  // A sender's mark comes through.

    bool operator==(const Entrance &) const = default;
};

// Our own program at TC's ingress, if the port has one.
struct OwnProgram {
    bool is_filter = false;   // The last of TC's (ingress_filter.h).
    uint32_t tcx_id = 0;      // Or one of tcx.
    bool is_leaving = false;  // For XDP: it is nobody's, and others come
                              // behind what there is then.
};

// "10, 20 and 4 more".
std::string to_string(const std::vector<Entrance::Vlan> &);

class Entrances {
public:
    Failure open(const KernelFeatures &);

    // Looks at all devices and at nftables, unless it has done so just now,
    // for what query() answers from then on.  If they change meanwhile that
    // remains as it was.
    void look();

    // Stores what is known of the device 'name', all but 'keeps_mark'.
    // 'before_tc': of what comes before TC's filters alone.
    Failure query(Ifindex, const std::string &name, const OwnProgram &,
                  bool before_tc, Entrance *);

private:
    Failure query_before_tc(Ifindex, const OwnProgram &, Entrance *) const;
    struct Device {
        std::vector<Entrance::Vlan> vlans;
        std::string lower;
    };
    using Devices = std::map<Ifindex, Device>;
    struct Chain {
        std::string device;
        bool is_prefix;
        std::string text;
    };
    using Chains = std::vector<Chain>;

    static void note_link(const nlmsghdr *, Devices *);
    static void note_chain(const nlmsghdr *, Chains *);
    Failure look_now();
    Failure find_chains(Chains *);
    Failure find_filters(Ifindex, bool terse, bool has_ours, std::string *who);
    Failure find_tcx(Ifindex, const OwnProgram &, bool *found) const;

    NetlinkSocket route_, netfilter_;
    uint32_t seq_ = 0;
    bool has_tcx_ = false;
    bool has_nftables_ = false;  // Built into the kernel.
    std::chrono::steady_clock::time_point looked_;
    Devices devices_;
    Chains chains_;
    std::string why_unknown_;  // If look() has failed.
};

}  // namespace flowxlate

#endif
