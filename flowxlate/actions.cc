// SPDX-License-Identifier: Apache-2.0
#include "actions.h"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/openvswitch.h>

#include <cerrno>

namespace flowxlate {
namespace {

constexpr const char *kNames[] = {
    "unspec",   "output",        "userspace", "set",     "push_vlan",
    "pop_vlan", "sample",        "recirc",    "hash",    "push_mpls",
    "pop_mpls", "set_masked",    "ct",        "trunc",   "push_eth",
    "pop_eth",  "ct_clear",      "push_nsh",  "pop_nsh", "meter",
    "clone",    "check_pkt_len", "add_mpls",  "dec_ttl",
};
static_assert(std::size(kNames) == OVS_ACTION_ATTR_DEC_TTL + 1);

Reject unsupported(const char *what) { return {"action", what, EOPNOTSUPP}; }
Reject malformed(const char *what) { return {"malformed", what, EINVAL}; }

// The VLAN tags of the packet while the list is walked: the tag it came with,
// if it is still there, below at most one that was pushed.
class Walk {
public:
    Walk(bool tagged, Actions *out)
        : out_(*out), tagged_(tagged), original_(tagged) {
        out_ = {};
    }

    Reject step(const Attr &a) {
        if (out_.verdict == XF_OUTPUT) {
            return unsupported(a.type == OVS_ACTION_ATTR_OUTPUT
                                   ? "second_output"
                                   : "after_output");
        }
        switch (a.type) {
            case OVS_ACTION_ATTR_OUTPUT:
                return output(a);
            case OVS_ACTION_ATTR_PUSH_VLAN:
                return push_vlan(a);
            case OVS_ACTION_ATTR_POP_VLAN:
                return pop_vlan();
            case OVS_OFFLOAD_ACTION_PRIVATE:
                return unsupported("ovs_private");  // Tunnels, lb_output.
            default:
                return unsupported(a.type < std::size(kNames)
                                       ? kNames[a.type]
                                       : "unknown_action");
        }
    }

    void finish() {
        if (out_.verdict == XF_DROP) {
            return;  // Whatever was done to the packet, nobody sees it.
        }
        if (pushed_) {
            out_.vlan_op = tagged_ ? XF_VLAN_REPLACE : XF_VLAN_PUSH;
        } else {
            out_.vlan_op = tagged_ && !original_ ? XF_VLAN_POP : XF_VLAN_NONE;
        }
    }

private:
    Reject output(const Attr &a) {
        uint32_t port;
        if (!read_exactly(a.payload, &port)) {
            return malformed("output");
        }
        out_.verdict = XF_OUTPUT;
        out_.out_port = OdpPort{port};
        return {};
    }

    Reject push_vlan(const Attr &a) {
        ovs_action_push_vlan push;
        if (!read_exactly(a.payload, &push)) {
            return malformed("push_vlan");
        }
        if (push.vlan_tpid != htons(ETH_P_8021Q)
            && push.vlan_tpid != htons(ETH_P_8021AD)) {
            return malformed("push_vlan");
        }
        if (original_ || pushed_) {
            return unsupported("second_vlan");
        }
        pushed_ = true;
        out_.vlan_tpid = push.vlan_tpid;
        // The "present" bit is not part of the tag on the wire.
        out_.vlan_tci = push.vlan_tci & htons(~XF_VLAN_PRESENT & 0xffff);
        return {};
    }

    Reject pop_vlan() {
        if (pushed_) {
            pushed_ = false;
        } else if (original_) {
            original_ = false;
        } else {
            return malformed("pop_vlan");  // Nothing to pop.
        }
        return {};
    }

    Actions &out_;
    const bool tagged_;
    bool original_;
    bool pushed_ = false;
};

}  // namespace

Reject decode_actions(Bytes actions, bool tagged, Actions *out) {
    Walk walk(tagged, out);
    AttrReader reader(actions);

    while (auto a = reader.next()) {
        if (auto r = walk.step(*a)) {
            return r;
        }
    }
    if (reader.malformed()) {
        return malformed("action_length");
    }
    walk.finish();
    return {};
}

}  // namespace flowxlate
