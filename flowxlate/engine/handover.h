// SPDX-License-Identifier: Apache-2.0
// Taking over from an earlier ovs-vswitchd without losing a packet.
//
// When ovs-vswitchd ends, in whatever way, its programs and their tables stay
// on the devices (pins.h) and go on executing its flows.  The next process
// loads programs and tables of its own, empty ones, and reads nothing of the
// old but connections (old_conns.h).  For all its ports at once it goes
// through three phases:
//
//   holding   The old programs execute the old flows.  What matches none of
//             them takes the miss path, to the new process, as ever.  This
//             lasts until OVS has added its ports and handles misses (so not
//             during other_config:flow-restore-wait).
//   sampling  One packet in XF_SAMPLE_EVERY or so of those that an old flow
//             matches is shown to the new program, which counts it if it has a
//             flow for it, or leaves a copy for OVS, and gives it back in any
//             case.  OVS makes a flow for the copy as for a packet that
//             misses, and sends nothing.  So no packet of an old flow is ever
//             in OVS, where it would be lost if the process was killed, nor
//             goes where a new flow says that OVS has made without having its
//             rules.  What no old flow matches goes to the new program for
//             good.  This lasts until OVS seems to have its rules, and no flow
//             has been added or changed for some seconds; or for a minute.
//   over      The new programs replace the old ones, in one step for each
//             device.  Flows that were too slow to be sampled miss once.
//
// A port that is removed, or can take no frames any more, ends it for all of
// them as soon as OVS handles misses: an old flow could send to that port.
// (Before that there is nobody else to forward anything.)  If a process dies
// on the way, the old program just stays (the kernel empties 'xf_next'), and
// the next process begins again.
//
// If no process comes, the programs stop to execute flows at a deadline
// (struct xf_cpu), which a living process moves on, for the old programs too.
//
// This is the timing, without the mechanics (attach.h).  Not thread-safe.
#ifndef FLOWXLATE_HANDOVER_H
#define FLOWXLATE_HANDOVER_H

#include <chrono>
#include <optional>

namespace flowxlate {

class Handover {
public:
    using Time = std::chrono::steady_clock::time_point;
    using Duration = std::chrono::steady_clock::duration;
    enum class Phase { kHolding, kSampling, kOver };

    // No port has come for so long: nobody is adding many one by one.
    static constexpr auto kQuiet = std::chrono::milliseconds(250);
    static constexpr auto kDefaultSampling = std::chrono::seconds(5);
    // Sampling ends after so long, or after what set_sampling() says if that
    // is more, also if new flows come all the time, or rules never: then a
    // rule that forbids what an old flow does has its way.
    static constexpr auto kLongestSampling = std::chrono::seconds(60);

    // What OVS says of itself: does it handle misses, and may it have its
    // rules?
    struct Host {
        bool handles_misses, has_rules;
    };

    // For how long no flow must have been added or changed.  0: rules are not
    // waited for either.
    void set_sampling(Duration d) { sampling_ = d; }

    // The phase that a port is in.
    Phase phase() const { return phase_; }

    void port_added(Time now) { last_port_ = now; }
    // OVS has made or changed a flow, be it one that stays in OVS.
    void flow_changed(Time now) { last_change_ = now; }
    // The next tick ends it, if OVS has handled misses by then.
    void hurry() { hurry_ = true; }

    // Called regularly.  Returns the phase that has begun, if one has.
    std::optional<Phase> tick(Time now, Host);

private:
    bool has_sampled_enough(Time now) const;

    Phase phase_ = Phase::kHolding;
    bool hurry_ = false;
    Duration sampling_ = kDefaultSampling;
    std::optional<Time> last_port_;
    Time sampling_since_, last_change_;
};

}  // namespace flowxlate

#endif
