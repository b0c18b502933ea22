// SPDX-License-Identifier: Apache-2.0
// The frames that were lost at a port after they were redirected, as far as
// that is known (kernel/redirect_errors.h), and which of them lately.
//
// The caller serializes all calls, and says what time it is.
#ifndef FLOWXLATE_LOSSES_H
#define FLOWXLATE_LOSSES_H

#include <chrono>
#include <cstdint>
#include <optional>
#include <vector>

#include "kernel/redirect_errors.h"

namespace flowxlate {

class Losses {
public:
    using Time = std::chrono::steady_clock::time_point;
    // What a monitoring system that asks once a minute must not miss.
    static constexpr auto kLately = std::chrono::seconds(90);

    // What is counted now; none: nobody counts.
    void look(const std::optional<std::vector<RedirectError>> &now_has,
              Time now);

    bool are_known() const { return known_; }
    // Since the port was added; nothing if they are not known.
    std::vector<RedirectError> all() const;
    uint64_t n_frames() const;

    // Those that had become more at the last look or shortly before, the
    // latest first, and of these the most frames.
    std::vector<RedirectError> lately() const;

private:
    struct Seen {
        RedirectError error;
        Time grown;
    };
    static std::vector<RedirectError> errors_of(const std::vector<Seen> &);

    bool known_ = false;
    Time looked_{};
    std::vector<Seen> seen_;  // Few.
};

}  // namespace flowxlate

#endif
