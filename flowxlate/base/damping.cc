// SPDX-License-Identifier: Apache-2.0
#include "base/damping.h"

namespace flowxlate {

void Backoff::use(Time now) {
    const bool is_calm = !next_ || now >= *next_ + delay_;
    delay_ = is_calm ? first_ : std::min(2 * delay_, most_);
    next_ = now + delay_;
}

bool grant(std::span<Request *const> requests, Backoff *pace,
           Backoff::Time now) {
    auto is_due = [=](auto *r) { return r->is_due(now); };
    if (!pace->is_ready(now)
        || std::none_of(requests.begin(), requests.end(), is_due)) {
        return false;
    }
    pace->use(now);
    for (auto *r : requests) {
        if (r->is_due(now)) {
            r->backoff.use(now);
        }
        r->wanted = false;
    }
    return true;
}

std::optional<std::string> News::look(const std::string &state, Time now) {
    while (n_left_ < kBurst && now >= refilled_ + kInterval) {
        refilled_ += kInterval;
        n_left_++;
    }
    if (n_left_ == kBurst) {
        refilled_ = now;
    }
    if (state != state_) {
        state_ = state;
        n_untold_++;
    }
    if (!n_untold_ || !n_left_) {
        return {};
    }
    n_left_--;
    std::string line = state;
    if (n_untold_ > 1) {
        line += " (" + std::to_string(n_untold_)
              + " changes since the last such line)";
    }
    n_untold_ = 0;
    return line;
}

}  // namespace flowxlate
