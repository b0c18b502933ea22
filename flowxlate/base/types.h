// SPDX-License-Identifier: Apache-2.0
// The vocabulary of flowxlate: names for numbers that must not be mixed up,
// the reason for which a flow is refused, and what a failed system call says.
#ifndef FLOWXLATE_TYPES_H
#define FLOWXLATE_TYPES_H

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>

#include "bpf/abi/flow.h"
#include "ovs-plugin/ovs_offload_abi.h"

namespace flowxlate {

// A datapath port number of OVS.
enum class OdpPort : uint32_t {};
// A network device index of this network namespace, > 0; or the number of a
// tunnel port, which has no device, < -1.
enum class Ifindex : int {};
// Index of a port in xf_ports and xf_tx_ports.
enum class PortSlot : uint32_t { kNone = 0 };
// Index of a megaflow in xf_flows.
enum class FlowSlot : uint32_t { kNone = 0 };
// Index of a subtable in xf_subtables.
enum class SubtableSlot : uint32_t { kNone = 0 };

template <typename E>
constexpr auto index(E e) {
    return static_cast<std::underlying_type_t<E>>(e);
}

// The unique id that OVS gives a megaflow.
struct Ufid {
    std::array<uint8_t, OVS_OFFLOAD_UFID_LEN> bytes{};

    static Ufid from(const uint8_t *p) {
        Ufid u;
        std::memcpy(u.bytes.data(), p, u.bytes.size());
        return u;
    }
    bool operator==(const Ufid &) const = default;
    std::string to_string() const;
};

// A ufid is a hash already.
struct UfidHash {
    size_t operator()(const Ufid &u) const noexcept {
        size_t h;
        std::memcpy(&h, u.bytes.data(), sizeof h);
        return h;
    }
};

// What went wrong in words, with the positive errno value.
struct [[nodiscard]] Failure {
    int error = 0;
    std::string message;
    explicit operator bool() const { return error != 0; }
};

// "WHAT: why", for an errno value of either sign; names the capabilities that
// are missing, if that may be the cause.
Failure failure(int error, const std::string &what);

// Why something was refused.  'group' and 'what' point to string literals and
// together are the reason's stable name, "match/ipv6_label".  A default one
// means that nothing was refused.
struct [[nodiscard]] Reject {
    const char *group = nullptr;
    const char *what = nullptr;
    int error = 0;  // Positive errno value.

    explicit operator bool() const { return error != 0; }
    std::string name() const {
        return std::string(group).append("/").append(what);
    }
};

// OVS handed over what is not well-formed: the reason "malformed/WHAT".
inline Reject malformed(const char *what) {
    return {"malformed", what, EINVAL};
}

}  // namespace flowxlate

#endif
