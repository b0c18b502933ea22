// SPDX-License-Identifier: Apache-2.0
#include "report/losses_text.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iterator>

namespace flowxlate {
namespace {

// As Linux 6.1 to 6.18 give them: xdp_ok_fwd_dev() and the drivers'
// ndo_xdp_xmit() for ports, xsk_rcv() for OVS's sockets.
constexpr struct {
    bool to_ovs;
    int error;
    const char *meaning;
} kMeanings[] = {
    {false, 0,
     "its driver took no more: its queue is full, or the frames are too long "
     "for its other end (the same MTU at both ends, or more queues and CPUs "
     "there, help)"},
    {false, ENETDOWN, "its device was down (\"ip link set DEVICE up\" helps)"},
    {false, ENXIO,
     "its driver has no queue for them: the veth peer is down, or has neither "
     "GRO nor an XDP program (\"ethtool -K PEER gro on\" in its namespace "
     "helps); a NIC has too few queues"},
    {false, EOPNOTSUPP,
     "its driver takes no redirected frames (for a veth \"ethtool -K PEER gro "
     "on\" in its peer's namespace helps)"},
    {false, EMSGSIZE,
     "they are longer than its MTU allows (the same MTU at all ports helps)"},
    {false, ENOSPC, "its queue is full (more queues and CPUs help)"},
    {false, EBUSY, "its queue is full (more queues and CPUs help)"},
    {true, ENOMEM,
     "OVS does not keep up and has left no buffer free (fewer misses, "
     "xdp-offload/explain, or more PMD threads help)"},
    {true, ENOBUFS,
     "OVS does not keep up and its socket is full (fewer misses, "
     "xdp-offload/explain, or more PMD threads help)"},
    {true, ENXIO, "OVS had no socket there, as while it reconfigures a port"},
    {true, ENOSPC, "they are longer than a buffer of OVS's socket"},
};

std::string list(const Losses &losses, bool to_ovs) {
    std::string s;
    for (auto &e : losses.all()) {
        if (e.to_ovs == to_ovs) {
            s += (s.empty() ? "" : ", ") + std::to_string(e.frames) + " "
               + error_name(e.error);
        }
    }
    return s;
}

}  // namespace

std::string error_name(int error) {
    const char *name = error ? strerrorname_np(error) : "none";
    return name ? name : "other";
}

std::string meaning_of(const RedirectError &e) {
    const auto *row = std::ranges::find_if(kMeanings, [&](const auto &m) {
        return m.to_ovs == e.to_ovs && m.error == e.error;
    });
    if (row != std::end(kMeanings)) {
        return row->meaning;
    }
    return std::string(e.to_ovs ? "OVS's socket" : "its driver")
         + " refused them: " + std::strerror(e.error);
}

std::string describe(const Losses &losses) {
    if (!losses.are_known()) {
        return "-";
    }
    const auto to_ports = list(losses, false), to_ovs = list(losses, true);
    if (to_ovs.empty()) {
        return to_ports.empty() ? "none" : to_ports;
    }
    return to_ports + (to_ports.empty() ? "" : "; ") + "to OVS " + to_ovs;
}

}  // namespace flowxlate
