// SPDX-License-Identifier: Apache-2.0
// What the XDP program does with a packet, with flows as the decoders
// understand them.
#ifndef TESTS_ORACLE_REALITY_H
#define TESTS_ORACLE_REALITY_H

#include <array>
#include <span>

#include "bpf/abi/tunnel.h"
#include "flows.h"
#include "flowxlate/tables/recirc.h"
#include "flowxlate/tables/tunnels.h"
#include "flowxlate/translate/actions.h"
#include "tests/bpf/program.h"

namespace oracle {

using flowxlate::FlowSlot;
using flowxlate::FlowStats;
using flowxlate::Reject;

// A set of datapath ports, one bit each.
using Ports = uint32_t;
constexpr Ports port_bit(uint32_t port) { return 1U << port; }
constexpr Ports kAllPorts = ~0U;

struct Observed {
    flowxlate::test::Run run;
    std::vector<FlowStats> counted;  // By flow of the set.
    uint64_t n_misses = 0;
    uint64_t tx_port_misses = 0;
};

class Reality {
public:
    // Loads the program, for ports in native or in generic mode.
    explicit Reality(bool native);

    // Decodes the flows and puts those that are not refused into the tables,
    // in place of the flows that were there.
    void install(const FlowSet &);
    // Adds one; returns why it was refused.
    Reject add(const model_flow &);
    // Why the flows were refused, by flow; none for those that are in the
    // tables.
    std::span<const Reject> rejects() const { return rejects_; }

    // Runs the program once while no port but 'up' can transmit, on a frame
    // that has so many bytes of metadata.
    const Observed &run(const Frame &, Ports up = kAllPorts,
                        uint32_t metadata = 0);

    // UDP source ports of tunnels: 'n' from 'min' on.
    void set_tunnel_ports(uint16_t min, uint16_t n) {
        tunnel_port_min_ = min;
        n_tunnel_ports_ = n;
    }

    flowxlate::test::Program &program() { return program_; }

    // The ports that can transmit, if they are not held down.
    static Ports working_ports();

private:
    // A flow in the tables, and what it uses there.
    struct Placed {
        FlowSlot slot{};  // kNone: refused.
        flowxlate::RecircIds::Use recirc, next;
        flowxlate::Groups::Use group;
        flowxlate::Tunnels::Use tunnel;
    };

    void remove_all();
    Reject decode_and_place(const model_flow &, Placed *);
    Reject place(flowxlate::Match, const flowxlate::Actions &, Placed *);
    Reject get_group(const flowxlate::Actions &, flowxlate::PortSlot in,
                     flowxlate::Groups::Use *);
    Reject get_tunnel(flowxlate::TunnelHeaders, flowxlate::Tunnels::Use *);
    void set_up(Ports);

    uint32_t tx_flag_;
    flowxlate::test::Program program_;
    std::vector<Reject> rejects_;
    flowxlate::RecircIds recirc_ids_{1000, "recirc_ids"};
    flowxlate::Groups groups_{XF_MAX_GROUPS - 1, "groups"};
    std::array<flowxlate::Fd, XF_MAX_GROUPS> group_devices_;
    flowxlate::Tunnels tunnels_{XF_MAX_TUNNELS - 1, "tunnels"};
    uint16_t tunnel_port_min_ = 0, n_tunnel_ports_ = 0;
    std::vector<Placed> placed_;
    std::vector<FlowStats> totals_;
    uint64_t misses_ = 0, tx_port_misses_ = 0;
    Ports up_ = 0;
    Observed observed_;
};

}  // namespace oracle

#endif
