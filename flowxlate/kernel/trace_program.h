// SPDX-License-Identifier: Apache-2.0
// One packet through the real XDP program, beside the real traffic.
//
// The kernel runs the program on a packet that comes from nowhere and goes
// nowhere (BPF_PROG_TEST_RUN).  It is an instance of its own, which reads the
// tables of all and writes nothing that others see (BpfMaps::open_trace()), so
// that no statistics change.  What the program has found is read from the maps
// that are its own.
//
// Made for one packet, because what an earlier one left in the flow cache and
// in the counters would be taken for this one's.
#ifndef FLOWXLATE_TRACE_PROGRAM_H
#define FLOWXLATE_TRACE_PROGRAM_H

#include <optional>
#include <vector>

#include "bpf/abi/counters.h"
#include "bpf/abi/packet.h"
#include "kernel/bpf_maps.h"

namespace flowxlate {

class TraceProgram {
public:
    struct Outcome {
        uint32_t verdict = 0;          // enum xdp_action.
        std::vector<std::byte> frame;  // As it leaves.
        uint32_t n_seen = 0;           // Bytes, as it came.
        std::optional<xf_miss> miss;   // Why it is passed to OVS, if it is.
        xf_packet packet{};            // As parsed.
        xf_plan plan{};                // n_stages == 0: needed none.
        FlowSlot first{};              // The first flow that it hits, but for
                                       // one that takes it out of a tunnel.
        FlowSlot outer{};              // That one.
        BpfMaps::CachePlace cached;    // What the flow cache keeps of 'first'.
    };

    // Loads the program, which takes some 20 ms.
    static Failure load(const BpfMaps &, const PortConstants &,
                        TraceProgram *);

    // Runs it; the tables do not change meanwhile if the caller sees to that.
    Failure run(const BpfMaps &, std::span<const std::byte> frame, Outcome *);

private:
    bool find_cpu(const BpfMaps &, uint32_t *cpu) const;
    Failure read(const BpfMaps &, uint32_t cpu, Outcome *) const;

    PortSlot slot_{};
    Skeleton skeleton_;
};

}  // namespace flowxlate

#endif
