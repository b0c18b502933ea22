// SPDX-License-Identifier: Apache-2.0
// The connections of an earlier process, which its program goes on executing
// until this process has taken over (handover.h): reading them, following what
// the program does to them, and taking them away from it.
//
// The memory is the program's, and was the earlier process's (struct xf_conn
// says what may be expected of its layout).  Nothing in it is trusted: a
// record is copied once, and then judged.  What it says must be possible, all
// of it must fit together, and OVS must have said that there is nothing else
// to the connection (helpers, changed sequence numbers, a time-out policy).
#ifndef FLOWXLATE_OLD_CONNS_H
#define FLOWXLATE_OLD_CONNS_H

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/resource.h"
#include "base/types.h"
#include "bpf/abi/conn.h"

namespace flowxlate {

class OldConns {
public:
    // Why a connection is not brought back.
    enum class LeftOut : uint8_t {
        kNot,
        kUnused,        // There is no connection in this slot.
        kHidden,        // Another one with a tuple of it is found instead.
        kBeingWritten,  // Its process died then.
        kUntold,        // OVS knows more of it than is here, or has ended it.
        kExpired,
        kImplausible,
        kN
    };
    static constexpr auto kN = static_cast<size_t>(LeftOut::kN);
    static const char *name(LeftOut);

    // What packets of one direction have done.
    struct Use {
        uint64_t used_ms = 0;  // 0: nothing that can be believed.
        uint32_t seq_end = 0, ack_win = 0, max_win = 0;
    };

    struct Memory {
        std::span<xf_conn> conns;     // Two to a slot, as in ConnMemory.
        std::span<xf_conn_use> uses;  // The same.
        std::span<xf_zones> zones;    // One, or none if it is not known.
    };

    // 'id' tells tables apart, and is larger for those that are newer.
    // 'mappings', if any, are what is behind 'memory'.
    OldConns(uint32_t id, const Memory &memory,
             std::vector<Mapping> mappings = {});

    uint32_t id() const { return id_; }
    // Slot 0 is not used.
    uint32_t n_slots() const { return static_cast<uint32_t>(n_ / 2); }

    // Stores the connection in '*out', with 'origin' 0.  'now_ms' is
    // CLOCK_MONOTONIC, as are all times.
    LeftOut read(uint32_t slot, uint64_t now_ms, ovs_offload_ct *out) const;

    // What the program has seen of direction 'd', until now.
    Use use(uint32_t slot, int d, uint64_t now_ms) const;

    // Does the program do to packets of the connection what it is to do now,
    // if OVS need not see one first?
    bool does_as(uint32_t slot, const ovs_offload_ct &) const;

    // From now on the program passes all packets of the connection on, and a
    // later process does not find it here.
    void release(uint32_t slot) const;

    // There are connections in the zone of which the program does not know: it
    // is not to take their packets for first ones any more.
    void doubt(uint16_t zone) const;

private:
    struct Record {
        std::array<xf_conn, 2> dir;
        std::array<xf_conn_use, 2> use;
    };
    std::optional<Record> copy(uint32_t slot) const;

    uint32_t id_;
    std::vector<Mapping> mappings_;
    std::span<xf_conn> conns_;
    std::span<xf_conn_use> uses_;
    std::span<xf_zones> zones_;
    size_t n_;
};

}  // namespace flowxlate

#endif
