// SPDX-License-Identifier: Apache-2.0
#include "kernel/arrivals.h"

namespace flowxlate {

void Arrivals::look(const Figures &now_has, bool takes, bool changed,
                    Time now) {
    const bool begins = takes && !takes_;
    takes_ = takes;
    try_again_ |= lost_ && (begins || changed);
    const bool tries = lost_ && try_again_ && takes && tries_.is_ready(now);
    if (tries) {
        lost_ = try_again_ = false;
    }
    if (begins || tries || now_has.taken != then_.taken) {
        then_ = now_has;
        since_ = now;
    }
    suspect_ = takes && !lost_ && now_has.refused != then_.refused;
}

std::optional<Arrivals::Time> Arrivals::suspect_since() const {
    return suspect_ ? std::optional(since_) : std::nullopt;
}

void Arrivals::condemn(Time now) {
    lost_ = true;
    suspect_ = try_again_ = false;
    tries_.use(now);
}

}  // namespace flowxlate
