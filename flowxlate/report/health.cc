// SPDX-License-Identifier: Apache-2.0
#include "report/health.h"

#include <algorithm>
#include <cinttypes>

#include "report/losses_text.h"
#include "translate/describe.h"

namespace flowxlate {
namespace {

const char *name_of(Level level) {
    switch (level) {
        case Level::kOk:
            return "OK";
        case Level::kWarning:
            return "WARNING";
        case Level::kCritical:
            break;
    }
    return "CRITICAL";
}

// There is one at least.
std::string loses(const std::vector<RedirectError> &errors) {
    const auto &most = errors.front();
    std::string s = std::string("redirected frames ")
                  + (most.to_ovs ? "to OVS " : "")
                  + "are lost: " + grouped(most.frames) + " with errno "
                  + error_name(most.error) + ", " + meaning_of(most);
    return errors.size() > 1 ? s + ", and in other ways (xdp-offload/show)"
                             : s;
}

}  // namespace

std::optional<Problem> problem_of(const Port &port) {
    const auto is = [&](Level level, const std::string &what) {
        return Problem{level, port.name + ": " + what};
    };
    if (port.lost_sockets) {
        return is(Level::kCritical,
                  "its device was away, and OVS receives nothing: remove the "
                  "port from OVS and add it again");
    }
    if (port.is_left_out()) {
        return port.left_out == kUserLeavesOut
                 ? std::nullopt
                 : std::optional(
                     is(Level::kWarning, "not offloaded: " + port.left_out));
    }
    if (!port.device.exists) {
        return is(Level::kWarning, port.why_no_output());
    }
    if (const auto why = port.why_no_entry(); !why.empty()) {
        return is(Level::kWarning, "no flow enters in XDP: " + why);
    }
    const auto why_not = port.why_no_output();
    // A link that is down is not the offload's affair.
    if (!port.is_tunnel() && port.device.up && !why_not.empty()) {
        return is(Level::kWarning, "takes no frames from XDP: " + why_not);
    }
    if (port.device.up && !port.losses.lately().empty()) {
        return is(Level::kWarning, loses(port.losses.lately()));
    }
    const auto limits = port.shaping.to_string();
    return limits.empty()
             ? std::nullopt
             : std::optional(
                 is(Level::kWarning,
                    "packets executed in XDP pass by its " + limits));
}

std::string grouped(uint64_t n) {
    std::string s = std::to_string(n);
    for (size_t i = s.size(); i > 3; i -= 3) {
        s.insert(i - 3, 1, ',');
    }
    return s;
}

std::string share(uint64_t part, uint64_t rest) {
    const double all = static_cast<double>(part) + static_cast<double>(rest);
    if (all == 0) {
        return "-";
    }
    const auto permille =
        rest ? std::min<uint64_t>(
            999,
            static_cast<uint64_t>(1000.0 * static_cast<double>(part) / all))
             : 1000;
    std::string s;
    append(&s, "%" PRIu64 ".%" PRIu64 " %%", permille / 10, permille % 10);
    return s;
}

std::string verdict(const Health &h) {
    const auto worst =
        std::max_element(h.problems.begin(), h.problems.end(),
                         [](auto &a, auto &b) { return a.level < b.level; });
    std::string s = "OK: ";
    if (worst != h.problems.end()) {
        s = std::string(name_of(worst->level)) + ": " + worst->text;
        if (h.problems.size() > 1) {
            append(&s, " (and %zu more)", h.problems.size() - 1);
        }
        s += "; ";
    }
    append(&s, "%zu of %zu port%s, %s flow%s, ", h.n_served, h.n_ports,
           h.n_ports == 1 ? "" : "s", grouped(h.n_flows).c_str(),
           h.n_flows == 1 ? "" : "s");
    s += h.in_xdp || h.passed
           ? share(h.in_xdp, h.passed) + " of packets in XDP since start"
           : "no packets since start";
    return s;
}

}  // namespace flowxlate
