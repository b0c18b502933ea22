// SPDX-License-Identifier: Apache-2.0
// What the offload tells operators and programs: the replies to the commands
// xdp-offload/status, show, stats, top-flows, rejects, explain, trace and
// connections.
//
// All functions may be called from any thread.  What is told is read with the
// state locked; OVS and the kernel are asked without, but for a trace, whose
// program must see tables that stand still.
#ifndef FLOWXLATE_REPORT_H
#define FLOWXLATE_REPORT_H

#include <chrono>
#include <cstddef>
#include <string>

#include "base/guarded.h"
#include "engine/core.h"
#include "engine/sources.h"
#include "report/stats.h"

namespace flowxlate {

class Report {
public:
    explicit Report(const Sources &from)
        : from_(from), last_look_(from.core.start) {}

    // Arguments are not trusted.
    std::string status();
    std::string show();
    std::string stats();
    std::string top_flows(size_t n, Order);
    std::string rejects();
    std::string explain(const std::string &filter);
    std::string trace(const std::string &port, const std::string &packet);
    std::string connections(const std::string &filter);

private:
    const Sources from_;
    // Of top_flows().
    std::chrono::steady_clock::time_point last_look_ GUARDED_BY(state_lock);
};

// Are we xdp-flowerd's?
bool is_tcs(const Core &);
// Who has the packets that are passed on.
inline const char *owner_name(const Core &core) {
    return is_tcs(core) ? "TC" : "OVS";
}

// A line of status and show: what becomes of flows when ovs-vswitchd ends.
void show_persistence(const Sources &, std::string *) REQUIRES(state_lock);

}  // namespace flowxlate

#endif
