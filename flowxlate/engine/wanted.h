// SPDX-License-Identifier: Apache-2.0
// When does the reason end for which a flow is not in XDP?
//
// OVS offers a flow when it installs it, and again when it modifies it.  One
// that was refused then, or has lost its place since, would stay in OVS for as
// long as it has packets.  So OVS asks about such flows of the userspace
// datapath, each time that its revalidators look at them
// (Offload::flow_wanted()), and puts again what is wanted, if it is still
// right.  The flow is taken from OVS anew: nothing is remembered of it that
// could be out of date.
#ifndef FLOWXLATE_WANTED_H
#define FLOWXLATE_WANTED_H

#include <chrono>
#include <cstdint>

#include "base/types.h"

namespace flowxlate {

enum class Ends {
    kNever,     // Before OVS modifies the flow.
    kWithPort,  // When a port is added, or its device comes back.
    kWithRoom,  // When there is room, which can be told.
    kPerhaps,   // Nobody can tell but by trying.
    kAtOnce,    // OVS may put it again at any time.
};

// A default reason is that of a flow which we do not know: kAtOnce.
Ends ends_of(const Reject &);

// So long nobody tries after the 'n'th refusal, for kPerhaps.
std::chrono::seconds pause_after(uint64_t n);

// Limits how often flows are put in vain: so many a second.
class Turns {
public:
    using Time = std::chrono::steady_clock::time_point;
    static constexpr unsigned kPerSecond = 256;

    bool take(Time now) {
        if (now >= next_) {
            next_ = now + std::chrono::seconds(1);
            left_ = kPerSecond;
        }
        return left_ && left_--;
    }

private:
    Time next_;
    unsigned left_ = 0;
};

}  // namespace flowxlate

#endif
