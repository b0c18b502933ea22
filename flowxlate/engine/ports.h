// SPDX-License-Identifier: Apache-2.0
// The ports that are offloaded: their slots, and what is known of their
// devices.
//
// The caller serializes all calls, but for n_events().
#ifndef FLOWXLATE_PORTS_H
#define FLOWXLATE_PORTS_H

#include <array>
#include <atomic>
#include <chrono>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <boost/container/flat_map.hpp>

#include "base/damping.h"
#include "base/types.h"
#include "bpf/abi/tunnel.h"
#include "engine/changes.h"
#include "engine/losses.h"
#include "engine/settings.h"
#include "kernel/attach.h"
#include "kernel/datapath.h"
#include "kernel/devices.h"
#include "kernel/shaping.h"
#include "kernel/tag_offload.h"
#include "tables/flow_table.h"

namespace flowxlate {

// Port::left_out, if the user has said so.
constexpr const char *kUserLeavesOut = "other_config:xdp-offload=false";

// "native", "generic" or "tc".
const char *name_of(AttachMode);

struct Port {
    std::string name;
    std::string type;  // OVS interface type.
    Ifindex ifindex{};
    PortSlot slot{};
    uint32_t tunnel = XF_TUNNEL_NONE;  // The kind of a tunnel port, which has
                                       // flows, but no device.
    bool in_kernel_datapath = false;
    bool of_tc = false;                 // TC has all of its flows too.
    std::string left_out;               // Why no flow enters or leaves there;
                                        // empty if flows may.
    bool was_wanted = false;            // Flows were refused for its state.
    TagOffload::Features switched_off;  // To be switched on again.
    std::unique_ptr<Attachment> attachment;  // Null: a tunnel, or left out.
    AttachMode mode = AttachMode::kNative;   // The attachment's.
    bool has_sockets = false;                // The attachment's.
    std::chrono::steady_clock::time_point attached_at;
    // That cannot be met, which has been logged.
    std::optional<HookWish> refused_wish;
    DeviceState device;
    Arrivals arrivals;          // Do redirected frames arrive?
    Shaping shaping;            // That XDP does not know.
    Losses losses;              // Of redirected frames.
    size_t n_flows = 0;         // In the tables, that enter here.
    FlowStats past;             // Of flows that entered here and are gone.
    Growth past_entered;        // Of these, of those that packets met first.
    bool lost_sockets = false;  // The device was away: OVS receives nothing.
    News news;                  // What is logged about the device.
    std::string last_trouble;   // What was last logged about taking over.
    Request flows_lost, offer;  // What its changes ask of OVS.

    // Gives it an attachment, and the caller the one that it had.
    std::unique_ptr<Attachment> attach(std::unique_ptr<Attachment>);

    bool is_tunnel() const { return tunnel != XF_TUNNEL_NONE; }
    bool is_left_out() const { return !left_out.empty(); }
    // Does what XDP passes on go to the kernel's stack, which puts VLAN tags
    // and frames together?
    bool is_the_kernels() const { return in_kernel_datapath || of_tc; }
    // The command by which the user leaves it out.
    std::string command_to_leave_out() const {
        return "ovs-vsctl set Interface " + name + " " + kUserLeavesOut;
    }

    // Can it be the output of packets that enter through 'in'?
    bool takes_frames_from(const Port &in) const;

    // Would flows that enter here match what they should, and be the first to
    // handle a frame?  Not if VLAN tags may sit where the program does not see
    // them, or if somebody else comes between it and OVS.
    bool shows_tags() const;
    bool comes_first() const;
    // Why flows may not enter, if either is not so.
    std::string why_no_entry() const;

    // Why nobody can send there, in words, or native XDP cannot, unless the
    // port is at TC's ingress; empty if they can.
    std::string why_no_output() const;
    // Why native XDP alone cannot.
    std::string why_not_from_xdp() const;

    bool is_at_tc() const { return mode == AttachMode::kTc && attachment; }
    // What its device is asked.
    Devices::Question question() const;

    // What the log says of it.
    std::string state_in_words() const;
};

// A port that OVS has offered and that is not served.
struct Unserved {
    std::string name;
    std::string type;       // OVS interface type.
    std::string dpif_type;  // OVS datapath type.
    std::string why;
    bool should_be = false;  // It is of a kind that can be served.
};

// Those that were offered last.  OVS does not tell of their end.
class UnservedPorts {
public:
    static constexpr size_t kMax = 1024;

    void add(Unserved);
    void remove(std::string_view name);
    const Unserved *find(std::string_view name) const;  // Or null.
    const std::deque<Unserved> &all() const { return all_; }

private:
    std::deque<Unserved> all_;
};

class Ports {
public:
    using Time = std::chrono::steady_clock::time_point;
    using BySlot = std::array<std::unique_ptr<Port>, XF_MAX_PORTS>;
    using ByIfindex = boost::container::flat_map<Ifindex, Port *>;

    // 'tap_tso': Settings::tap_tso.
    Ports(Datapath *, bool tap_tso, Changes *);

    Port *find(Ifindex) const;  // Null if there is none, also below.
    Port *find(std::string_view name) const;      // Of a device.
    Port *find_any(std::string_view name) const;  // Or of a tunnel.
    Port *at(PortSlot slot) const {
        return index(slot) < by_slot_.size() ? by_slot_[index(slot)].get()
                                             : nullptr;
    }
    const BySlot &by_slot() const { return by_slot_; }
    const ByIfindex &by_ifindex() const { return by_ifindex_; }  // Devices.

    // A slot is taken before its port is added.  What had it can be used by
    // programs until a grace period after retire().
    Reject new_slot(PortSlot *);
    void add(std::unique_ptr<Port>, Time now);
    std::unique_ptr<Port> remove(const Port &);
    void retire(PortSlot);  // Never fails; kNone is nothing.
    // Grace periods of slots (slot_pool.h): does one wait for it?
    bool begin_grace() { return !slots_.begin_grace().empty(); }
    void end_grace() { slots_.end_grace(); }

    // Can packets that enter at 'in' leave at each of 'out' now?
    bool reaches(PortSlot in, std::span<const PortSlot> out) const;

    // Lets programs send to the device again, which the kernel forgets when it
    // goes, also if it comes back.  Returns whether it is there.
    bool restore_output(const Port &port) {
        return !datapath_.set_tx_port(port.slot, port.ifindex);
    }

    // No flow may enter or leave there any more; its flows have to go.
    void leave_out(Port &, std::string why, Time now);
    // The reverse.
    void take_in(Port &, Time now);

    // Its program is at another hook now, where flows that entered before
    // may not be executed, and others may; its flows have to go.
    void change_hook(Port &, Time now);

    // What a device's new state means for flows.
    struct Effect {
        bool no_device = false;  // Flows can enter no longer.
        bool flush = false;      // Which may enter has to be asked again.
        bool no_output = false;  // Frames are not sent there any more.
    };
    // Tells the program what the device can take now, and the log what is
    // news.  'changed': the kernel has said that the device has changed.
    Effect apply(Port &, DeviceState, bool changed, Time now);

    // How often one was added, or came back, and when it was last.  The first
    // may be asked for at any time.
    uint64_t n_events() const { return n_events_; }
    Time last_event() const { return last_event_; }

private:
    void note_event(Time now);
    void came(const Port &, Time now);
    void follow_name(const Port &, const DeviceState &);
    void publish(const Port &, const DeviceState &);
    void log_state(Port &, Time now);
    bool tell_kernel_datapath(Port &, uint32_t old_flags,
                              const DeviceState &old);

    Datapath &datapath_;
    const bool tap_tso_;
    Changes &changes_;
    BySlot by_slot_;
    ByIfindex by_ifindex_;
    ByIfindex tunnels_;
    SlotPool<PortSlot> slots_{XF_MAX_PORTS - 1};
    std::atomic<uint64_t> n_events_ = 0;
    Time last_event_;
};

}  // namespace flowxlate

#endif
