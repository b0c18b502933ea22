// SPDX-License-Identifier: Apache-2.0
#include "engine/handover.h"

#include <algorithm>

namespace flowxlate {

bool Handover::has_sampled_enough(Time now) const {
    const auto longest = std::max<Duration>(sampling_, kLongestSampling);
    return now >= std::max(sampling_since_, last_change_) + sampling_
        || now >= sampling_since_ + longest;
}

std::optional<Handover::Phase> Handover::tick(Time now, Host host) {
    if (!host.has_rules) {
        last_change_ = now;  // The flows of now will be others.
    }
    switch (phase_) {
        case Phase::kHolding:
            if (!host.handles_misses
                || (!hurry_ && (!last_port_ || now < *last_port_ + kQuiet))) {
                return {};
            }
            sampling_since_ = now;
            phase_ = hurry_ ? Phase::kOver : Phase::kSampling;
            return phase_;
        case Phase::kSampling:
            if (!hurry_ && !has_sampled_enough(now)) {
                return {};
            }
            phase_ = Phase::kOver;
            return phase_;
        case Phase::kOver:
            return {};
    }
    return {};
}

}  // namespace flowxlate
