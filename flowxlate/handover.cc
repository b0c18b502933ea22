// SPDX-License-Identifier: Apache-2.0
#include "handover.h"

#include <algorithm>

namespace flowxlate {

std::optional<Handover::Phase> Handover::tick(Time now, bool ready) {
    switch (phase_) {
        case Phase::kHolding:
            if (!ready
                || (!hurry_ && (!last_port_ || now < *last_port_ + kQuiet))) {
                return {};
            }
            sampling_since_ = now;
            phase_ = hurry_ ? Phase::kOver : Phase::kSampling;
            return phase_;
        case Phase::kSampling:
            if (!hurry_
                && now < std::max(sampling_since_, last_flow_) + sampling_
                && now < sampling_since_
                             + std::max<Duration>(sampling_,
                                                  kLongestSampling)) {
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
