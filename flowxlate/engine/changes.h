// SPDX-License-Identifier: Apache-2.0
// What a change of the offload's state asks of others: of the log, of the
// worker, of OVS.  It is collected while the state is locked, and done after
// that (StateLock).
#ifndef FLOWXLATE_CHANGES_H
#define FLOWXLATE_CHANGES_H

#include <string>
#include <utility>
#include <vector>

#include "base/types.h"

namespace flowxlate {

struct Changes {
    struct Line {
        ovs_offload_log_level level;
        std::string text;
    };

    void log(ovs_offload_log_level level, std::string text) {
        lines.push_back({level, std::move(text)});
    }

    std::vector<Line> lines;    // For the log.
    bool wakes_worker = false;  // It has something to do now.
    // OVS shall do what ovs_offload_host says of these.
    bool flows_lost = false;
    bool offer_again = false;
};

}  // namespace flowxlate

#endif
