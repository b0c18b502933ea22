// SPDX-License-Identifier: Apache-2.0
// Follows TC: what changes there becomes what is executed in XDP.
//
// Notifications are applied one by one, in their order.  Where they do not
// tell all of a change, filters are read again ("resynchronised"): after a
// lost one, when an action is changed by its index, when the ingress qdisc or
// a shared block changes, and for kinds of filters other than flower.
// Notifications that come while filters are read may be older than what was
// read, so it is read again until none has come; in the end, rather than being
// wrong, the device has nothing in XDP, and it is tried once more a second
// later.  Filters are compared with TC's each second, or less often if that
// takes long, since the kernel does not tell of all of them.
//
// A device that goes takes its flows along, and one that comes by a name that
// was given is taken in.
//
// For one thread.
#ifndef FLOWERD_DAEMON_H
#define FLOWERD_DAEMON_H

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "flowerd/device.h"
#include "flowerd/tc.h"
#include "flowerd/xdp.h"

namespace flowerd {

struct Settings {
    std::vector<std::string> devices;  // Names; they need not be there yet.
    Xdp::Options options;              // The library's.
    bool trusts_no_address = false;    // See Surroundings.
    int receive_buffer = 16 << 20;     // See Tc::open().
};

class Daemon {
public:
    static Failure open(const Settings &, std::unique_ptr<Daemon> *);

    int tc_fd() const { return tc_.event_fd(); }
    int xdp_fd() const { return xdp_->event_fd(); }
    void follow_tc();
    void follow_xdp();
    void tick();  // Each second.

    // What there is to tell (commands.h).
    using Devices = std::map<Ifindex, std::unique_ptr<Device>>;
    // What has come of changes, and how long they took to be in XDP, from when
    // this process was woken up.
    struct Followed {
        uint64_t n_messages = 0, n_lost = 0, n_resyncs = 0;
        std::chrono::microseconds last{}, longest{};
    };
    const Devices &devices() const { return devices_; }
    Device *find(const std::string &name) const;  // Null if there is none.
    const Followed &followed() const { return followed_; }
    Stats total();  // With devices that are gone.
    Xdp &xdp() const { return *xdp_; }

private:
    using Clock = std::chrono::steady_clock;

    bool read_events();
    void handle(Bytes message);
    void handle_filter(uint16_t type, Bytes message);
    void handle_qdisc(Bytes message);
    void settle();
    void handle_link(uint16_t type, Bytes message);
    void follow_links();
    void resync_all();
    void resync_wanted();
    bool resync(Device *);
    bool read_filters(Device *, std::vector<Filter> *, Reject *refused);
    void look_for_untold();
    void look_for_lost_devices();
    void look_for_devices();
    void add_device(const std::string &name, Ifindex);
    void remove_device(Ifindex);
    Reject check_output(Ifindex);
    void update_outputs();
    Device *find(Ifindex);

    Settings settings_;
    std::unique_ptr<Xdp> xdp_;
    Tc tc_;
    Devices devices_;
    std::set<Ifindex> to_resync_;
    std::set<Ifindex> gone_;
    bool links_changed_ = false;
    std::map<std::string, std::string> troubles_;  // Logged, by device.
    bool look_again_ = false;  // A message came while filters were read.
    bool outputs_changed_ = false;
    uint64_t n_preferences_gone_ = 0;
    Clock::time_point next_look_;  // For what was not told.
    Followed followed_;
    Stats past_;  // Of devices that are gone.
};

}  // namespace flowerd

#endif
