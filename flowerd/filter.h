// SPDX-License-Identifier: Apache-2.0
// A filter of TC as a value, decoded from the message by which the kernel
// tells of it (RTM_NEWTFILTER and RTM_DELTFILTER).
//
// Nothing is guessed.  Every attribute of flower's has a row in a table of
// filter.cc.  What a filter compares that is not known here makes it opaque:
// it stays in its place, and is taken to match any packet of its protocol.
// What it does that is not known makes it one that only TC executes, but says
// as exactly as before which packets are its own.  'why_not' has the reason.
//
// What the kernel does not tell is not known here either.  A filter with an
// IPv4 or IPv6 address of prefix length 0, and no other one, matches nothing
// in TC: its mask has the kind of address, but no bit of one, so that packets
// have no kind.  Netlink tells of it as if it compared no address at all.  So
// none of those may run in XDP, unless the user says that there are no such
// filters.  (The same of outer addresses cannot be told apart from anything.)
#ifndef FLOWERD_FILTER_H
#define FLOWERD_FILTER_H

#include <linux/netlink.h>

#include <array>
#include <cerrno>
#include <compare>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "flowerd/fields.h"
#include "flowxlate/base/netlink_attr.h"
#include "flowxlate/base/types.h"

namespace flowerd {

using flowxlate::Bytes;
using flowxlate::Ifindex;
using flowxlate::index;
using flowxlate::Reject;

inline Reject unsupported(const char *group, const char *what) {
    return {group, what, EOPNOTSUPP};
}

// Where pedit counts bytes from.
enum class Header { kEthernet, kNetwork, kTcp, kUdp };

// How ct looks for a connection.  How it makes one is TC's.
struct Tracking {
    uint16_t zone = 0;  // In host order, like the mark.
    bool commits = false, translates = false;
    uint32_t mark = 0, mark_mask = 0;  // What commit sets, as the label.
    std::array<uint8_t, 16> labels{}, labels_mask{};

    bool operator==(const Tracking &) const = default;
};

struct Action {
    enum Kind {
        kDrop,
        kPass,
        kRedirect,
        kMirror,
        kPushVlan,
        kPopVlan,
        kModifyVlan,
        kSetBytes,  // Of pedit, like kAddBytes.
        kAddBytes,
        kSum,  // csum.
        kGotoChain,
        kTrack,   // ct.
        kUntrack  // ct clear.
    };
    Kind kind = kDrop;
    Ifindex ifindex{};     // Of kRedirect and kMirror.
    __be16 tpid = 0;       // Of kPushVlan and kModifyVlan, like the contents.
    uint16_t vlan_id = 0;  // In host order.
    uint8_t vlan_prio = 0;
    bool keeps_prio = false;  // Of kModifyVlan: that of the tag.
    Header header{};          // Of kSetBytes and kAddBytes ...
    int32_t offset = 0;       // ... are there; bits of 'mask' become 'value'.
    std::array<uint8_t, 4> value{}, mask{};
    uint32_t sums = 0;   // Of kSum: TCA_CSUM_UPDATE_FLAG_*.
    uint32_t chain = 0;  // Of kGotoChain.
    Tracking ct;         // Of kTrack.

    bool operator==(const Action &) const = default;
};

// Names a filter of a device.  The handles of a chain's preference are unique.
struct FilterId {
    uint16_t preference = 0;
    uint32_t handle = 0;
    uint32_t chain = 0;

    auto operator<=>(const FilterId &) const = default;
};

struct Filter {
    Ifindex ifindex{};
    uint32_t parent = 0;  // TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS)...
    FilterId id;
    std::string kind;          // "flower".
    bool is_shared = false;    // Of a block that devices share.
    bool has_options = false;  // Else it is about all of its preference.
    bool in_software = true;   // Not skip_sw.
    bool is_opaque = false;    // May match any packet of its protocol.
    Match match;
    std::vector<Action> actions;  // As far as they are known.
    Reject why_not;               // Why only TC executes it.

    bool operator==(const Filter &) const;
};

// Decodes the message, which is of type RTM_NEWTFILTER or RTM_DELTFILTER.
// Refused is what is not even well-formed.
Reject decode_filter(Bytes message, Filter *);

// The text in a netlink attribute, which need not end with a NUL.
std::string_view text(Bytes payload);

// "pref 10 handle 0x1", with the chain before that if it is not the first.
std::string to_string(const FilterId &);

}  // namespace flowerd

#endif
