// SPDX-License-Identifier: Apache-2.0
#include "engine/losses.h"

#include <algorithm>
#include <functional>
#include <utility>

namespace flowxlate {

void Losses::look(const std::optional<std::vector<RedirectError>> &now_has,
                  Time now) {
    known_ = now_has.has_value();
    looked_ = now;
    std::vector<Seen> seen;
    for (const auto &error : now_has.value_or(std::vector<RedirectError>{})) {
        const auto old = std::ranges::find_if(seen_, [&](const Seen &s) {
            return s.error.to_ovs == error.to_ovs
                && s.error.error == error.error;
        });
        const bool grows =
            old == seen_.end() || old->error.frames != error.frames;
        seen.push_back({error, grows ? now : old->grown});
    }
    seen_ = std::move(seen);
}

std::vector<RedirectError> Losses::errors_of(const std::vector<Seen> &seen) {
    std::vector<RedirectError> errors;
    errors.reserve(seen.size());
    for (auto &s : seen) {
        errors.push_back(s.error);
    }
    return errors;
}

std::vector<RedirectError> Losses::all() const { return errors_of(seen_); }

uint64_t Losses::n_frames() const {
    uint64_t n = 0;
    for (auto &s : seen_) {
        n += s.error.frames;
    }
    return n;
}

std::vector<RedirectError> Losses::lately() const {
    auto seen = seen_;
    std::erase_if(seen,
                  [&](const Seen &s) { return looked_ - s.grown >= kLately; });
    std::ranges::stable_sort(seen, std::greater<>(), [](const Seen &s) {
        return std::pair(s.grown, s.error.frames);
    });
    return errors_of(seen);
}

}  // namespace flowxlate
