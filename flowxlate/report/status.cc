// SPDX-License-Identifier: Apache-2.0
// xdp-offload/status: one screen, of which the first line says whether all is
// well (health.h).
#include <sys/utsname.h>

#include <algorithm>
#include <cinttypes>
#include <numeric>

#include "bpf/abi/counters.h"
#include "report/health.h"
#include "report/losses_text.h"
#include "report/report.h"
#include "report/view.h"
#include "translate/describe.h"
#include "translate/reasons.h"

namespace flowxlate {
namespace {

std::string release_of_kernel() {
    utsname names{};
    (void)uname(&names);
    return names.release;
}

std::string in_words(std::chrono::steady_clock::duration d) {
    const auto s = std::chrono::duration_cast<std::chrono::seconds>(d).count();
    std::string text;
    append(&text, "%lld d %02lld:%02lld:%02lld",
           static_cast<long long>(s / 86400),
           static_cast<long long>(s / 3600 % 24),
           static_cast<long long>(s / 60 % 60),
           static_cast<long long>(s % 60));
    return text;
}

uint64_t sum(const std::array<uint64_t, XF_N_MISSES> &misses) {
    return std::accumulate(misses.begin(), misses.end(), uint64_t{0});
}

// "native", "left out", ...
std::string mode_of(const Port &port) {
    return port.is_left_out() ? "left out"
         : port.is_tunnel()   ? "tunnel"
                              : name_of(port.mode);
}

std::string line_of(const Port &port) {
    std::string s;
    append(&s, "  %s: %s", port.name.c_str(), mode_of(port).c_str());
    if (port.is_left_out() && !port.lost_sockets) {
        return s + ", " + port.left_out + "\n";
    }
    append(&s, ", %s flow%s", grouped(port.n_flows).c_str(),
           port.n_flows == 1 ? "" : "s");
    if (const auto problem = problem_of(port)) {
        s += ", " + problem->text.substr(port.name.size() + 2);
    } else if (!port.is_tunnel() && !port.device.up) {
        s += ", the link is down";
    }
    return s + "\n";
}

// The reasons for which packets were passed to OVS, most first.
std::string describe_misses(const std::array<uint64_t, XF_N_MISSES> &misses) {
    std::vector<std::pair<uint64_t, std::string>> sorted;
    for (int reason = 0; reason < XF_N_MISSES; reason++) {
        if (misses[reason]) {
            sorted.emplace_back(misses[reason], miss_name(xf_miss(reason)));
        }
    }
    std::sort(sorted.rbegin(), sorted.rend());
    std::string s;
    for (auto &[n, name] : sorted) {
        s += (s.empty() ? " (" : ", ") + name + " " + grouped(n);
    }
    return s.empty() ? s : s + ")";
}

Problem warning(std::string text) {
    return {Level::kWarning, std::move(text)};
}

std::string joined(const std::vector<std::string> &texts) {
    std::string s;
    for (auto &text : texts) {
        s += (s.empty() ? "" : " ") + text;
    }
    return s;
}

// OVS does not say when it removes a port that we have not taken.
void forget_unserved(Core &core) EXCLUDES(state_lock, attach_lock) {
    std::vector<Unserved> known;
    {
        StateLock lock(core);
        known.assign(core.unserved.all().begin(), core.unserved.all().end());
    }
    for (auto &port : known) {
        if (!core.ask().has_port(port.dpif_type, port.name)) {
            StateLock lock(core);
            core.unserved.remove(port.name);
        }
    }
}

// Options of the database that differ from those in force.
std::vector<std::string> pending_options(const Core &core)
    REQUIRES(state_lock) {
    Settings wanted;
    for (auto &[key, value] : core.options_now) {
        (void)wanted.set({key.c_str(), value.c_str()});  // Logged at start.
    }
    auto pending = wanted.in_words();
    const auto in_force = core.settings.in_words();
    std::erase_if(pending, [&](const std::string &s) {
        return std::find(in_force.begin(), in_force.end(), s)
            != in_force.end();
    });
    return pending;
}

// What is wrong with none of the ports alone.
std::vector<Problem> general_problems(const Sources &from)
    REQUIRES(state_lock) {
    std::vector<Problem> problems;
    const bool none = from.core.ports.by_ifindex().empty();
    const bool should_be =
        std::ranges::any_of(from.core.unserved.all(), &Unserved::should_be);
    if (!from.core.host.notify.is_enabled()) {
        problems.push_back(warning(kSwitchedOff));
    }
    if (none) {
        problems.push_back({should_be ? Level::kCritical : Level::kWarning,
                            "no port is in XDP"});
    }
    if (from.core.table->n_flows() >= from.core.table->max_flows()) {
        problems.push_back(warning("there is no room for more flows"));
    }
    if (from.core.table->n_subtables() >= XF_MAX_MASKS) {
        problems.push_back(warning("there is no room for more masks"));
    }
    if (!from.takeover.ports().empty() && !from.core.host.notify.has_rules()) {
        problems.push_back(warning(
            "flows of an earlier ovs-vswitchd are executed, as OpenFlow rules "
            "are missing"));
    }
    if (const auto pending = pending_options(from.core); !pending.empty()) {
        problems.push_back(
            warning(joined(pending) + " needs a restart of ovs-vswitchd"));
    }
    return problems;
}

void show_ports(const Core &core, std::string *s) REQUIRES(state_lock) {
    *s += "ports:\n";
    for (auto &port : core.ports.by_slot()) {
        if (port) {
            *s += line_of(*port);
        }
    }
    for (auto &port : core.unserved.all()) {
        append(s, "  %s: not in XDP, %s\n", port.name.c_str(),
               port.why.c_str());
    }
}

Health health(const Sources &from, uint64_t n_passed) REQUIRES(state_lock) {
    Health h;
    for (auto &port : from.core.ports.by_slot()) {
        if (!port) {
            continue;
        }
        h.n_ports++;
        h.n_served += !port->is_left_out();
        if (auto problem = problem_of(*port)) {
            h.problems.push_back(*problem);
        }
    }
    for (auto &port : from.core.unserved.all()) {
        h.n_ports++;
        if (port.should_be) {
            h.problems.push_back(
                warning(port.name + ": not offloaded: " + port.why));
        }
    }
    const auto general = general_problems(from);
    h.problems.insert(h.problems.end(), general.begin(), general.end());
    h.n_flows = from.core.table->n_flows();
    h.in_xdp = from.core.flows->entered().packets;
    h.passed = n_passed;
    return h;
}

// Also those of ports that are gone.
std::array<uint64_t, XF_N_MISSES> all_misses(const Sources &from)
    REQUIRES(state_lock) {
    auto all = from.ports.past_misses();
    for (auto &port : from.core.ports.by_slot()) {
        if (port) {
            const auto misses = from.core.misses_of(*port);
            std::transform(all.begin(), all.end(), misses.begin(), all.begin(),
                           std::plus<>());
        }
    }
    return all;
}

std::string handover_in_words(const Sources &from) REQUIRES(state_lock) {
    const size_t n = from.takeover.ports().size();
    return n == 0 ? "none"
                  : "taking over " + std::to_string(n)
                        + " ports from an earlier ovs-vswitchd"
                        + (from.core.host.notify.has_rules()
                               ? ""
                               : ", waiting for OpenFlow rules");
}

// Of all ports that there are.
std::string losses_in_words(const Sources &from) REQUIRES(state_lock) {
    if (!from.loss_watch.why_unknown().empty()) {
        return "- (not known: " + from.loss_watch.why_unknown() + ")";
    }
    uint64_t n = 0;
    for (auto &[ifindex, port] : from.core.ports.by_ifindex()) {
        n += port->losses.n_frames();
    }
    return grouped(n) + (n ? " (ovs-appctl xdp-offload/show)" : "");
}

}  // namespace

bool is_tcs(const Core &core) {
    return core.host.notify.ovs_version() == std::string_view("TC");
}

std::string Report::status() {
    forget_unserved(from_.core);
    from_.loss_watch.look();
    StateLock lock(from_.core);
    const auto misses = all_misses(from_);
    const Health h = health(from_, sum(misses));
    std::string s = verdict(h) + "\n";
    for (auto &problem : h.problems) {
        s += "  " + problem.text + "\n";
    }
    append(&s, "versions: plugin %s, Linux %s%s%s\n", FLOWXLATE_VERSION,
           release_of_kernel().c_str(),
           is_tcs(from_.core) ? "" : ", Open vSwitch ",
           is_tcs(from_.core) ? "" : from_.core.host.notify.ovs_version());
    append(
        &s, "running for: %s\n",
        in_words(std::chrono::steady_clock::now() - from_.core.start).c_str());
    show_ports(from_.core, &s);
    append(&s, "packets: %s in XDP, %s passed to %s%s\n",
           grouped(h.in_xdp).c_str(), grouped(h.passed).c_str(),
           owner_name(from_.core), describe_misses(misses).c_str());
    append(&s, "redirect errors: %s\n", losses_in_words(from_).c_str());
    const auto unexecuted = View::of(from_).count_unexecuted();
    const size_t n_unexecuted = std::accumulate(
        unexecuted.begin(), unexecuted.end(), size_t{0},
        [](size_t n, auto &reason) { return n + reason.second; });
    append(&s, "flows: %s of %s in the tables, %s not executed in XDP%s\n",
           grouped(h.n_flows).c_str(),
           grouped(from_.core.table->max_flows()).c_str(),
           grouped(n_unexecuted).c_str(),
           n_unexecuted ? " (ovs-appctl xdp-offload/explain)" : "");
    append(&s, "handover: %s\n", handover_in_words(from_).c_str());
    show_persistence(from_, &s);
    append(&s, "in force: %s\n",
           joined(from_.core.settings.in_words()).c_str());
    const auto pending = pending_options(from_.core);
    append(&s, "needs a restart: %s\n",
           pending.empty() ? "nothing" : joined(pending).c_str());
    return s;
}

}  // namespace flowxlate
