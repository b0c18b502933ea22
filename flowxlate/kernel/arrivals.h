// SPDX-License-Identifier: Apache-2.0
// Do the frames arrive that programs redirect to a port?
//
// What the kernel says of that can be wrong (devices.h), and it tells a
// program nothing when a frame is lost in the driver.  But a veth counts: what
// its peer takes from XDP, and what it drops because the peer takes nothing.
//
// The rule: frames were redirected since a moment at which the device could
// take them, it has refused some since, and has taken none.  Then none of them
// has arrived, and the port is not sent any until something changes, at the
// device or at its peer.  Then it is tried again; how often is damped, since
// each time the frames of a second or so are lost.
//
// The caller serializes all calls, and says what time it is.
#ifndef FLOWXLATE_ARRIVALS_H
#define FLOWXLATE_ARRIVALS_H

#include <optional>

#include "base/damping.h"

namespace flowxlate {

class Arrivals {
public:
    using Time = Backoff::Time;
    static constexpr auto kFirstPause = std::chrono::seconds(5);
    static constexpr auto kLongestPause = std::chrono::minutes(10);

    // What a device has counted.
    struct Figures {
        uint64_t refused =
            0;               // Frames that it has dropped, redirected or not.
        uint64_t taken = 0;  // Redirected ones that it has not refused.
    };

    // A look at the device, of once in a second and more.  'takes': as far as
    // the kernel says, it takes redirected frames; 'changed': the kernel has
    // said that something has changed about it or its peer.
    void look(const Figures &, bool takes, bool changed, Time now);

    // Since when it has refused frames and taken none, if so.  If some were
    // redirected since then, they are lost: condemn().
    std::optional<Time> suspect_since() const;
    void condemn(Time now);

    // No frames shall be sent there.
    bool are_lost() const { return lost_; }

private:
    bool takes_ = false;  // As of the last look.
    bool lost_ = false;
    bool try_again_ = false;
    bool suspect_ = false;
    // When it was seen last that it could take frames, or had taken some, and
    // what it had counted then.
    Time since_{};
    Figures then_;
    Backoff tries_{kFirstPause, kLongestPause};
};

}  // namespace flowxlate

#endif
