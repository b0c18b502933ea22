// SPDX-License-Identifier: Apache-2.0
// docs/supported.md is what this program makes of the tables by which flows
// are decoded.  To write it anew:
//
//     UPDATE_DOCS=1 build/release/tests/unit/unit_tests
//     --gtest_filter=Supported.*
//
// The end of it is made by tests/flows/real_flows.cc, and left alone here.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "flowxlate/translate/actions.h"
#include "flowxlate/translate/fields.h"
#include "tests/unit/document.h"

namespace flowxlate::unit {
namespace {

// Set by CMake.
constexpr const char *kDocument = SUPPORTED_MD;

constexpr const char *kIntroduction =
    R"(<!-- Made by tests/unit/supported_test.cc; do not edit. -->
# What is executed in XDP

A flow that asks for anything else is refused as a whole and stays in Open vSwitch;
`ovs-appctl xdp-offload/rejects` counts the refusals by reason. A reason is
`match/NAME`, `set/NAME` or `action/NAME` with the names below.
)";

constexpr const char *kFieldsBegin =
    R"(
## Header fields

Any bits of a field can be matched, and set if the table says so. A flow can match or set a field
only if it matches what makes all its packets have it: the Ethernet type, the IP protocol and, for
Neighbour Discovery, the ICMPv6 type and code 0, each exactly, and no later fragments.

)";

constexpr const char *kOtherFields = R"(
These are not in the table, because they are more than bytes of a header:

- `in_port`: matched exactly.
- `eth_type`: matched exactly. 802.3 frames without one stay in OVS.
- VLAN tags: none, one or two (`other_config:vlan-limit` says how many OVS looks
  behind), each 802.1Q or 802.1ad; the TPID exactly, of the TCI any bits besides the one
  that says "there is a tag" (`match/vlan_tpid`, `match/vlan_tci`, `match/third_vlan`).
- `ip_frag`: no fragment, first or later fragment, each exactly. A flow that does not match it
  gets all but later fragments.
- `mpls_lse` is the outermost label stack entry; those below cannot be matched
  (`match/mpls`).
- `recirc_id`: matched exactly.
- `dp_hash`: the low 8 bits, of recirculated packets; all others have hash 0.
- Opcodes of ARP up to 255.

Two are not set, though the field can be: IPv4 addresses of later fragments
(`set/later_fragment`), and the ICMPv6 type and code before recirculation.

)";

const char *name_of(xf_class cls) {
    static constexpr const char *kNames[] = {"other Ethernet types", "ARP",
                                             "IPv4", "IPv6", "MPLS"};
    static_assert(std::size(kNames) == XF_N_CLASSES);
    return kNames[cls];
}

std::string join(const std::vector<std::string> &words, const char *with) {
    std::string s;
    for (const auto &word : words) {
        s += (s.empty() ? "" : with) + word;
    }
    return s;
}

// Which packets have the field.
std::string packets(unsigned classes, Has has) {
    constexpr unsigned kAny = (1U << XF_N_CLASSES) - 1;
    std::vector<std::string> names;
    for (unsigned cls = 0; cls < XF_N_CLASSES; cls++) {
        if (classes & 1U << cls) {
            names.push_back(name_of(static_cast<xf_class>(cls)));
        }
    }
    const std::string over = " over " + join(names, " and ");
    switch (has) {
        case Has::kAll:
            return classes == kAny ? "all" : join(names, ", ");
        case Has::kTcp:
            return "TCP" + over;
        case Has::kUdp:
            return "UDP" + over;
        case Has::kSctp:
            return "SCTP" + over;
        case Has::kIcmp:
            return "ICMP" + over;
        case Has::kIcmpv6:
            return "ICMPv6";
        case Has::kNd:
            return "neighbour solicitation and advertisement";
        case Has::kTunnel:
        case Has::kTunnelIpv4:
        case Has::kTunnelIpv6:
            return "those out of a tunnel";
    }
    return "?";
}

const char *yes_or_no(bool yes) { return yes ? "yes" : "no"; }

// A field of several attributes, such as the TTL of IPv4 and IPv6, is one row.
std::string field_table() {
    struct Row {
        std::string name;
        unsigned classes;
        Has has;
        bool settable;
    };
    std::vector<Row> rows;
    for (const Field &f : fields()) {
        if (f.key_off == kNotInKey) {
            continue;
        }
        const auto same = std::find_if(
            rows.begin(), rows.end(),
            [&](const Row &r) { return r.name == f.name && r.has == f.has; });
        if (same == rows.end()) {
            rows.push_back({f.name, f.classes, f.has, f.settable});
        } else {
            EXPECT_EQ(same->settable, f.settable) << f.name;
            same->classes |= f.classes;
        }
    }
    std::string s =
        "| field | of packets | match | set |\n|---|---|---|---|\n";
    for (const Row &row : rows) {
        s += "| `" + row.name + "` | " + packets(row.classes, row.has)
           + " | yes | " + yes_or_no(row.settable) + " |\n";
    }
    return s;
}

// What is known by name, and not encoded.
std::string other_attributes() {
    std::vector<std::string> zero, refused;
    for (uint16_t attr = 0; attr <= kMaxAttr; attr++) {
        const AttrRule &rule = rule_of(attr);
        const std::string name = "`" + std::string(rule.name) + "`";
        if (rule.zero_at_ingress) {
            zero.push_back(name);
        } else if (attr == OVS_KEY_ATTR_NSH
                   || attr == OVS_KEY_ATTR_ND_EXTENSIONS) {
            refused.push_back(name);
        }
    }
    return "The tunnel that a packet has come out of, `tunnel`, is matched by"
           " its `tun_` fields and\nits flags, but not by its UDP ports.\n\n"
           "These are zero in packets that were not recirculated, so a match"
           " on zero is fulfilled\nthere. Any other match on them is refused,"
           " but for the fields that the table has:\n"
         + join(zero, ",\n")
         + ".\n\nA flow that matches any bit of these is refused:\n"
         + join(refused, ",\n") + ".\n";
}

std::string action_table() {
    std::string s = "\n## Actions\n\n| action | executed | |\n|---|---|---|\n";
    for (const ActionSupport &a : action_support()) {
        if (std::string(a.name) != "unspec") {
            s += std::string("| `") + a.name + "` | " + yes_or_no(a.supported)
               + " | " + a.remark + " |\n";
        }
    }
    return s
         + "\nAn empty list drops the packet, and so does one that ends "
           "without"
           " `output` or\n`recirc`. Tunnels of the userspace datapath, Geneve "
           "and"
           " VXLAN, are executed as well:\n`tnl_pop` as the only action but "
           "for"
           " `pop_vlan`, `tnl_push` before `push_vlan` and\n`output`."
           " `lb_output`, which OVS keeps to itself, is "
           "`action/ovs_private`.\n";
}

std::string document() {
    return kIntroduction + action_table() + kFieldsBegin + field_table()
         + kOtherFields + other_attributes();
}

TEST(Supported, DocumentIsUpToDate) {
    const std::string before = unit::contents(kDocument);
    const size_t others = before.find(unit::kRealFlowsMark);
    const std::string wanted =
        document() + (others == before.npos ? "" : before.substr(others));
    unit::expect_document(kDocument, wanted);
}

}  // namespace
}  // namespace flowxlate::unit
