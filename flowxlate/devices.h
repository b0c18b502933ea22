// SPDX-License-Identifier: Apache-2.0
// What the kernel says about network devices: can this one take redirected
// frames now, and how long may they be?
//
// Devices asks by netlink and reports changes.  query() may be called from any
// thread; it locks.  The events are for one thread.
//
// A veth's answer depends on its peer, often in another network namespace: the
// peer takes frames only with GRO or an XDP program (it needs NAPI), and drops
// what is longer than its own MTU.  Since Linux 6.3 the kernel keeps the first
// in the XDP features of our end; before, the peer's GRO is asked for in its
// own namespace.  For the second we ask for the peer by namespace id.
#ifndef FLOWXLATE_DEVICES_H
#define FLOWXLATE_DEVICES_H

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "bpf_maps.h"
#include "tag_offload.h"
#include "types.h"

struct mnl_socket;

namespace flowxlate {

struct DeviceState {
    bool exists = false;
    bool up = false;         // Administratively up, with carrier.
    bool xdp_xmit = false;   // The driver takes frames from native XDP now.
    uint32_t max_frame = 0;  // Longest untagged frame, in bytes, without FCS.
    bool is_tap = false;     // XF_TAP_MAX_PARTIAL may apply.
    Ifindex peer{};          // Of a veth; in its own namespace.
    std::string why_not;     // If !xdp_xmit, why, in words.
    // If asked for: VLAN tags of what enters are in the frame, not beside it.
    bool tags_in_frame = false;
    std::string why_no_tags;  // If not, why, in words.
};

class Devices {
public:
    // Needs CAP_NET_ADMIN for changes in other namespaces.
    Failure open();

    // Stores the device's state in '*state'.  A device that is gone is a state
    // (!exists), not a failure.
    Failure query(Ifindex, bool with_tags, DeviceState *state);

    // Sees to it that VLAN tags of what enters through the device are in the
    // frame, as far as possible.  Returns what was switched off for that,
    // which put_tags_beside() switches on again.
    TagOffload::Features put_tags_in_frame(Ifindex);
    void put_tags_beside(Ifindex, const TagOffload::Features &);

    // Receive queues that the device 'name' uses; 1 if it does not say.
    static uint32_t count_queues(const std::string &name);

    // File descriptors that become readable when a device changes, and what
    // changed: device indexes, of any namespace that has an id here.  Empty
    // with 'lost' set means that messages were lost: anything may have
    // changed.
    std::vector<int> event_fds() const;
    std::vector<Ifindex> drain_events(bool *lost);

private:
    struct SocketCloser {
        void operator()(mnl_socket *) const;
    };
    using Socket = std::unique_ptr<mnl_socket, SocketCloser>;
    struct Link;
    struct Family;

    static Failure open_socket(int bus, Socket *);
    int query_link(Ifindex, int netns_id, Link *);
    bool query_family(Family *);
    void find_xmit(Ifindex, const Link &, const Link &peer, DeviceState *);
    int query_features(Ifindex, uint64_t *features);

    // Without the kernel's XDP features: why frames cannot be redirected to
    // the device now; empty if they can be.
    std::string why_no_xmit(const Link &, const Link &peer);
    std::string why_no_veth_xmit(const Link &, const Link &peer);
    std::string open_tag_offload(const Link &, const Link &peer,
                                 std::unique_ptr<TagOffload> *);
    std::unique_ptr<TagOffload> open_tag_offload(Ifindex);
    std::string why_tags_beside(const Link &, const Link &peer);
    std::string open_peer_socket(const Link &, Fd *);
    int query_netns_id(int netns_fd);
    Fd open_netns(int netns_id);

    std::mutex mutex_;
    Socket route_, generic_;                // Requests.
    Socket route_events_, generic_events_;  // Notifications.
    uint16_t netdev_family_ = 0;  // 0: Linux before 6.3, has no such family.
    uint32_t seq_ = 0;
    // Where each peer's namespace was found last, by its id here.  No
    // descriptor is kept: that would keep the namespace.
    std::map<int, std::string> netns_paths_;
};

}  // namespace flowxlate

#endif
