// SPDX-License-Identifier: Apache-2.0
#include "actions.h"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/openvswitch.h>

#include <algorithm>
#include <cerrno>

#include <boost/container/small_vector.hpp>

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

// The attributes of which some fields can be set, and their sizes.
constexpr struct {
    uint16_t attr;
    uint16_t size;
} kSettable[] = {
    {OVS_KEY_ATTR_ETHERNET, sizeof(ovs_key_ethernet)},
    {OVS_KEY_ATTR_IPV4, sizeof(ovs_key_ipv4)},
    {OVS_KEY_ATTR_IPV6, sizeof(ovs_key_ipv6)},
    {OVS_KEY_ATTR_TCP, sizeof(ovs_key_tcp)},
    {OVS_KEY_ATTR_UDP, sizeof(ovs_key_udp)},
};

#define AT(STRUCT, MEMBER) static_cast<uint16_t>(offsetof(STRUCT, MEMBER))

// Fields by their name in a reason: what begins 'offset' bytes into the
// attribute.  By attribute, then by offset.  'settable' is what the program
// can write; it can if the match guarantees the field.
struct FieldName {
    const char *name;
    uint16_t attr;
    uint16_t offset;
    bool settable = false;
};
constexpr FieldName kFieldNames[] = {
    {"encap", OVS_KEY_ATTR_ENCAP, 0},
    {"skb_priority", OVS_KEY_ATTR_PRIORITY, 0},
    {"in_port", OVS_KEY_ATTR_IN_PORT, 0},
    {"eth", OVS_KEY_ATTR_ETHERNET, 0, true},
    {"vlan", OVS_KEY_ATTR_VLAN, 0},
    {"eth_type", OVS_KEY_ATTR_ETHERTYPE, 0},
    {"ipv4_src", OVS_KEY_ATTR_IPV4, AT(ovs_key_ipv4, ipv4_src), true},
    {"ipv4_dst", OVS_KEY_ATTR_IPV4, AT(ovs_key_ipv4, ipv4_dst), true},
    {"ip_proto", OVS_KEY_ATTR_IPV4, AT(ovs_key_ipv4, ipv4_proto)},
    {"ip_tos", OVS_KEY_ATTR_IPV4, AT(ovs_key_ipv4, ipv4_tos), true},
    {"ip_ttl", OVS_KEY_ATTR_IPV4, AT(ovs_key_ipv4, ipv4_ttl), true},
    {"ip_frag", OVS_KEY_ATTR_IPV4, AT(ovs_key_ipv4, ipv4_frag)},
    {"ipv6_src", OVS_KEY_ATTR_IPV6, AT(ovs_key_ipv6, ipv6_src), true},
    {"ipv6_dst", OVS_KEY_ATTR_IPV6, AT(ovs_key_ipv6, ipv6_dst), true},
    {"ipv6_label", OVS_KEY_ATTR_IPV6, AT(ovs_key_ipv6, ipv6_label)},
    {"ip_proto", OVS_KEY_ATTR_IPV6, AT(ovs_key_ipv6, ipv6_proto)},
    {"ip_tos", OVS_KEY_ATTR_IPV6, AT(ovs_key_ipv6, ipv6_tclass), true},
    {"ip_ttl", OVS_KEY_ATTR_IPV6, AT(ovs_key_ipv6, ipv6_hlimit), true},
    {"ip_frag", OVS_KEY_ATTR_IPV6, AT(ovs_key_ipv6, ipv6_frag)},
    {"tcp_src", OVS_KEY_ATTR_TCP, AT(ovs_key_tcp, tcp_src), true},
    {"tcp_dst", OVS_KEY_ATTR_TCP, AT(ovs_key_tcp, tcp_dst), true},
    {"udp_src", OVS_KEY_ATTR_UDP, AT(ovs_key_udp, udp_src), true},
    {"udp_dst", OVS_KEY_ATTR_UDP, AT(ovs_key_udp, udp_dst), true},
    {"icmp_type", OVS_KEY_ATTR_ICMP, AT(ovs_key_icmp, icmp_type)},
    {"icmp_code", OVS_KEY_ATTR_ICMP, AT(ovs_key_icmp, icmp_code)},
    {"icmpv6_type", OVS_KEY_ATTR_ICMPV6, AT(ovs_key_icmpv6, icmpv6_type)},
    {"icmpv6_code", OVS_KEY_ATTR_ICMPV6, AT(ovs_key_icmpv6, icmpv6_code)},
    {"arp_sip", OVS_KEY_ATTR_ARP, AT(ovs_key_arp, arp_sip)},
    {"arp_tip", OVS_KEY_ATTR_ARP, AT(ovs_key_arp, arp_tip)},
    {"arp_op", OVS_KEY_ATTR_ARP, AT(ovs_key_arp, arp_op)},
    {"arp_sha", OVS_KEY_ATTR_ARP, AT(ovs_key_arp, arp_sha)},
    {"arp_tha", OVS_KEY_ATTR_ARP, AT(ovs_key_arp, arp_tha)},
    {"nd_target", OVS_KEY_ATTR_ND, AT(ovs_key_nd, nd_target)},
    {"nd_sll", OVS_KEY_ATTR_ND, AT(ovs_key_nd, nd_sll)},
    {"nd_tll", OVS_KEY_ATTR_ND, AT(ovs_key_nd, nd_tll)},
    {"skb_mark", OVS_KEY_ATTR_SKB_MARK, 0},
    {"tunnel", OVS_KEY_ATTR_TUNNEL, 0},
    {"sctp_src", OVS_KEY_ATTR_SCTP, AT(ovs_key_sctp, sctp_src)},
    {"sctp_dst", OVS_KEY_ATTR_SCTP, AT(ovs_key_sctp, sctp_dst)},
    {"tcp_flags", OVS_KEY_ATTR_TCP_FLAGS, 0},
    {"dp_hash", OVS_KEY_ATTR_DP_HASH, 0},
    {"recirc_id", OVS_KEY_ATTR_RECIRC_ID, 0},
    {"mpls", OVS_KEY_ATTR_MPLS, 0},
    {"nsh", OVS_KEY_ATTR_NSH, 0},
    {"nd_ext", OVS_KEY_ATTR_ND_EXTENSIONS, 0},
};

FieldName field_at(uint16_t attr, size_t offset) {
    FieldName found{"unknown_field", attr, 0};
    for (auto &f : kFieldNames) {
        if (f.attr == attr && f.offset <= offset) {
            found = f;
        }
    }
    return found;
}

Reject unsupported(const char *what) { return {"action", what, EOPNOTSUPP}; }
Reject malformed(const char *what) { return {"malformed", what, EINVAL}; }

// What has become of the packet while the list is walked.  Its VLAN tags: the
// tag it came with, if it is still there, below at most one that was pushed.
// Its fields: what has been set so far.
class Walk {
public:
    Walk(const Match &match, Actions *out)
        : out_(*out),
          match_(match),
          tagged_(match.tagged()),
          original_(tagged_) {
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
            case OVS_ACTION_ATTR_SET:
            case OVS_ACTION_ATTR_SET_MASKED:
                return set(a);
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
            out_ = {};  // Whatever was done to the packet, nobody sees it.
            return;
        }
        leave_out_what_is_right();
        if (!pushed_) {
            out_.vlan_tpid = out_.vlan_tci = 0;  // Of a tag that was popped.
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

    Reject set(const Attr &action) {
        AttrReader reader(action.payload);
        const auto a = reader.next();
        if (!a || reader.next() || reader.malformed()) {
            return malformed("set");
        }
        if (action.type == OVS_ACTION_ATTR_SET) {
            boost::container::small_vector<std::byte, 64> mask(
                a->payload.size(), std::byte{0xff});
            skip_what_set_leaves(a->type, {mask.data(), mask.size()});
            return set_field(a->type, a->payload, {mask.data(), mask.size()});
        }
        const size_t half = a->payload.size() / 2;
        return set_field(a->type, a->payload.first(half),
                         a->payload.subspan(half));
    }

    // A set without a mask has to name the IP protocol and the fragment type,
    // but OVS does not write them.
    static void skip_what_set_leaves(uint16_t attr,
                                     std::span<std::byte> mask) {
        if (attr == OVS_KEY_ATTR_IPV4 && mask.size() == sizeof(ovs_key_ipv4)) {
            mask[offsetof(ovs_key_ipv4, ipv4_proto)] = std::byte{0};
            mask[offsetof(ovs_key_ipv4, ipv4_frag)] = std::byte{0};
        }
        if (attr == OVS_KEY_ATTR_IPV6 && mask.size() == sizeof(ovs_key_ipv6)) {
            mask[offsetof(ovs_key_ipv6, ipv6_proto)] = std::byte{0};
            mask[offsetof(ovs_key_ipv6, ipv6_frag)] = std::byte{0};
        }
    }

    Reject set_field(uint16_t attr, Bytes key, Bytes mask) {
        boost::container::small_vector<std::byte, 64> left(mask.begin(),
                                                           mask.end());
        xf_key value{}, bits{};
        const auto *rule =
            std::find_if(std::begin(kSettable), std::end(kSettable),
                         [attr](auto &r) { return r.attr == attr; });

        if (mask.empty() || key.size() != mask.size()) {
            return malformed("set");
        }
        if (rule != std::end(kSettable)) {
            if (mask.size() != rule->size) {
                return malformed("set");
            }
            encode_fields(match_, attr, key, mask, &value, &bits,
                          {left.data(), left.size()});
        }
        for (size_t i = 0; i < mask.size(); i++) {
            const FieldName field = field_at(attr, i);
            if (left[i] != std::byte{0}
                || (mask[i] != std::byte{0} && !field.settable)) {
                return {"set", field.name, EOPNOTSUPP};
            }
        }
        for (size_t i = 0; i < XF_KEY_WORDS; i++) {
            auto &to = out_.rewrite;
            to.value[i] = (to.value[i] & ~bits.word[i]) | value.word[i];
            to.mask[i] |= bits.word[i];
        }
        return {};
    }

    void leave_out_what_is_right() {
        auto &r = out_.rewrite;
        for (size_t i = 0; i < XF_KEY_WORDS; i++) {
            r.mask[i] &=
                ~match_.mask.word[i] | (r.value[i] ^ match_.key.word[i]);
            r.value[i] &= r.mask[i];
        }
    }

    Actions &out_;
    const Match &match_;
    const bool tagged_;
    bool original_;
    bool pushed_ = false;
};

}  // namespace

Reject decode_actions(Bytes actions, const Match &match, Actions *out) {
    Walk walk(match, out);
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
