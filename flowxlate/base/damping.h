// SPDX-License-Identifier: Apache-2.0
// How often we do what others can make us do.
//
// Whoever has a port's veth peer, a container say, can change the port's state
// as often as he likes: its link, its GRO, where its VLAN tags are.  What that
// means for packets takes effect at once, each time.  What it costs the
// others, a line in the log or a round of OVS's revalidators, is damped here.
//
// The caller serializes all calls, and says what time it is.
#ifndef FLOWXLATE_DAMPING_H
#define FLOWXLATE_DAMPING_H

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

namespace flowxlate {

// Something that may be done at once the first time, then not for 'first',
// then not for twice as long, and so on up to 'most'.  After a pause that is
// as long as twice the last one it begins anew.
class Backoff {
public:
    using Time = std::chrono::steady_clock::time_point;
    using Duration = std::chrono::steady_clock::duration;

    Backoff(Duration first, Duration most) : first_(first), most_(most) {}

    bool is_ready(Time now) const { return !next_ || now >= *next_; }
    void use(Time now);

private:
    Duration first_, most_;
    Duration delay_{};
    std::optional<Time> next_;
};

// Something that a port's changes ask of OVS.
struct Request {
    // Longer than the pace at which OVS is asked for all requests together:
    // else the time that a request waits for that would be taken for calm, and
    // the backoff would begin anew.
    static constexpr auto kFirstPause = std::chrono::seconds(10);
    static constexpr auto kLongestPause = std::chrono::minutes(5);

    bool is_due(Backoff::Time now) const {
        return wanted && backoff.is_ready(now);
    }

    bool wanted = false;
    Backoff backoff{kFirstPause, kLongestPause};
};

// Is it time to ask OVS?  It is if one of the requests is due, and not too
// soon after the last time, which 'pace' knows.  Then OVS is asked for all of
// them.
bool grant(std::span<Request *const>, Backoff *pace, Backoff::Time now);

// Lines in the log that say how something is now.  kBurst changes are told at
// once, then one each kInterval, with how it is by then and how many changes
// have not been told.
class News {
public:
    using Time = Backoff::Time;
    static constexpr int kBurst = 5;
    static constexpr auto kInterval = std::chrono::seconds(30);

    // To be called when it may have changed, and from time to time.  Returns
    // what is to be logged now, if something is.
    std::optional<std::string> look(const std::string &state, Time now);

private:
    std::string state_;
    uint64_t n_untold_ = 0;  // Changes.
    int n_left_ = kBurst;    // Lines that may be logged at once.
    Time refilled_{};
};

}  // namespace flowxlate

#endif
