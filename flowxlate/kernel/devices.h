// SPDX-License-Identifier: Apache-2.0
// What the kernel says about network devices: can this one take redirected
// frames now, and how long may they be?
//
// Devices asks by netlink and reports changes.  query() may be called from any
// thread; it locks.  The events are for one thread.
//
// A veth's answer depends on its peer, often in another network namespace. The
// peer takes redirected frames if it has NAPI, which it has while it is up and
// has GRO or a native XDP program (veth_xdp_xmit() in drivers/net/veth.c).
// Since Linux 6.3 the kernel redirects nothing unless our end announces
// NETDEV_XDP_ACT_NDO_XMIT as well.  It brings that up to date when GRO is
// switched while the peer is up, but not when the peer comes up or goes down:
// with GRO switched off in between, it goes on announcing what is not true,
// and with GRO switched on in between, it does not announce what is.  So both
// are asked for: what is announced, and the peer's GRO in its own namespace.
// (tests/system, port-orders, tries the orders.)  If the namespace cannot be
// entered, what is announced must do, and figures must show whether it is true
// (arrivals.h).
//
// A peer also drops what is longer than its own MTU, for which we ask it by
// namespace id.
#ifndef FLOWXLATE_DEVICES_H
#define FLOWXLATE_DEVICES_H

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/guarded.h"
#include "base/resource.h"
#include "base/types.h"
#include "kernel/arrivals.h"
#include "kernel/entrance.h"
#include "kernel/features.h"
#include "kernel/netlink.h"
#include "kernel/tag_offload.h"

namespace flowxlate {

constexpr int kNoNetns = -1;  // No id of another namespace: this one.

struct DeviceState {
    bool exists = false;
    std::string name;         // That it has now.
    bool up = false;          // Administratively up, with carrier.
    bool xdp_xmit = false;    // The driver takes frames from native XDP now.
    uint32_t max_frame = 0;   // Longest untagged frame, in bytes, without FCS.
    bool is_tap = false;      // XF_TAP_MAX_PARTIAL may apply.
    bool makes_sums = false;  // It completes partial checksums that it sends.
    bool is_nic = false;      // What enters has its checksums, see xf_port.
    Ifindex peer{};           // Of a veth, in the peer's own namespace.
    int peer_netns = kNoNetns;   // The id of that namespace here.
    bool is_containers = false;  // A veth, whose peer is in another namespace.
    std::optional<Arrivals::Figures> figures;  // If the device has them.
    std::string why_not;                       // If !xdp_xmit, why, in words.
    // These are known only if they were asked for ('as_the_kernels').
    bool tags_in_frame = false;  // VLAN tags of what enters are where the
                                 // program sees them.
    std::string why_no_tags;     // If they are not, why, in words.
    Entrance entrance;
};

class Devices {
public:
    // Needs CAP_NET_ADMIN for changes in other namespaces.
    Failure open(const KernelFeatures &);

    // What is asked of a device.
    struct Question {
        bool as_the_kernels = false;  // As of a port of the kernel datapath.
        bool before_tc = false;       // What TC does is no matter, nor is what
                                      // comes after it.
        bool at_tc = false;           // Its program is at TC's ingress,
        OwnProgram own{};             // and this one.
    };
    // Stores the device's state in '*state'.  A device that is gone is a state
    // (!exists), not a failure.
    Failure query(Ifindex, const Question &, DeviceState *state);

    // Is it a veth whose peer is in another network namespace?
    bool is_containers(Ifindex);

    // Looks at what is on top of devices, for those that are asked 'as the
    // kernel's'.
    void look_at_entrances();

    // Why nobody knows whether an XDP program on the device sees the frames
    // that the kernel datapath would get; empty if it does.
    std::string why_unsuited(Ifindex);

    // Sees to it that VLAN tags of what enters through the device are in the
    // frame, as far as possible.  Returns what was switched off for that,
    // which put_tags_beside() switches on again.
    TagOffload::Features put_tags_in_frame(Ifindex);
    void put_tags_beside(Ifindex, const TagOffload::Features &);

    // Why the driver takes only generic XDP, as far as that can be told.
    std::string why_generic(Ifindex);

    // Receive queues that the device 'name' uses; 1 if it does not say.
    static uint32_t count_queues(const std::string &name);

    // File descriptors that become readable when a device changes, and what
    // changed: devices of any namespace that has an id here.  Empty with
    // 'lost' set means that messages were lost: anything may have changed.
    // 'gone': those that have left this namespace, though another, or even
    // the same again, may have the index now.
    struct Changed {
        Ifindex ifindex;
        int netns_id;  // kNoNetns: in this namespace.
        bool operator==(const Changed &) const = default;
    };
    std::vector<int> event_fds() const;
    std::vector<Changed> drain_events(bool *lost, std::vector<Ifindex> *gone);

private:
    struct Link;

    int query_link(Ifindex, int netns_id, Link *) REQUIRES(mutex_);
    // Why frames cannot be redirected to the device now; empty if they can
    // be.
    std::string why_no_xmit(Ifindex, const Link &, const Link &peer)
        REQUIRES(mutex_);
    std::string why_no_veth_xmit(const Link &, const Link &peer,
                                 std::optional<uint64_t> features)
        REQUIRES(mutex_);
    int query_features(Ifindex, uint64_t *features) REQUIRES(mutex_);

    // What a veth's peer is asked in its own namespace.
    struct PeerAnswers {
        std::string why_unknown;  // If it cannot be asked.
        bool has_gro = false;
        uint32_t tx_queues = 0;  // 0: not known.
    };
    PeerAnswers ask_peer(const Link &, const Link &peer) REQUIRES(mutex_);
    std::string open_tag_offload(const Link &, const Link &peer,
                                 std::unique_ptr<TagOffload> *)
        REQUIRES(mutex_);
    std::unique_ptr<TagOffload> open_tag_offload(Ifindex) REQUIRES(mutex_);
    std::string why_tags_beside(const Link &, const Link &peer)
        REQUIRES(mutex_);
    std::string open_peer_socket(const Link &, Fd *) REQUIRES(mutex_);
    int query_netns_id(int netns_fd) REQUIRES(mutex_);
    Fd open_netns(int netns_id) REQUIRES(mutex_);

    Mutex mutex_;
    NetlinkSocket route_ GUARDED_BY(mutex_), generic_
        GUARDED_BY(mutex_);                        // Requests.
    NetlinkSocket route_events_, generic_events_;  // Notifications.
    Entrances entrances_ GUARDED_BY(mutex_);
    uint16_t netdev_family_ = 0;  // As in KernelFeatures.
    uint32_t seq_ GUARDED_BY(mutex_) = 0;
    // Where each peer's namespace was found last, by its id here, or when it
    // was not found.  No descriptor is kept: that would keep the namespace.
    std::map<int, std::string> netns_paths_ GUARDED_BY(mutex_);
    std::map<int, std::chrono::steady_clock::time_point> netns_unfound_
        GUARDED_BY(mutex_);
};

}  // namespace flowxlate

#endif
