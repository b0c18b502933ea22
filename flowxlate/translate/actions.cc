// SPDX-License-Identifier: Apache-2.0
#include "translate/actions.h"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/openvswitch.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include <boost/container/small_vector.hpp>

#include "translate/fields.h"
#include "translate/tunnel.h"

namespace flowxlate {
namespace {

// By OVS_ACTION_ATTR_*.
constexpr ActionSupport kActions[] = {
    {"unspec", false, ""},
    {"output", true, "to up to 27 XDP ports, as the last actions"},
    {"userspace", false, "the controller and slow-path actions are OVS's"},
    {"set", true, "the fields below"},
    {"push_vlan", true, "up to two tags in all"},
    {"pop_vlan", true, ""},
    {"sample", false, "its probability and sub-list are OVS's"},
    {"recirc", true, "as the last action; up to 8 flows per packet"},
    {"hash", true, "symmetric L3/L4, before recirc"},
    {"push_mpls", false, ""},
    {"pop_mpls", false, ""},
    {"set_masked", true, "the fields below"},
    {"ct", true,
     "of connections that there are; up to 3 in a flow, without force and "
     "alg"},
    {"trunc", true, "before the output to one port"},
    {"push_eth", false, "every XDP packet is an Ethernet frame"},
    {"pop_eth", false, "every XDP packet is an Ethernet frame"},
    {"ct_clear", true, ""},
    {"push_nsh", false, ""},
    {"pop_nsh", false, ""},
    {"meter", false, "a meter's tokens would have to be shared with OVS"},
    {"clone", true, "as the last action: the program does not copy packets"},
    {"check_pkt_len", true,
     "as the last action, of packets that are not longer; longer ones are "
     "OVS's"},
    {"add_mpls", false, ""},
    {"dec_ttl", false, "OVS sets the TTL that it has matched instead"},
};
static_assert(std::size(kActions) == OVS_ACTION_ATTR_DEC_TTL + 1);

// <linux/openvswitch.h> has it from Linux 6.3 on, OVS's own from 2.10 on.
constexpr uint32_t kHashAlgSymL4 = 1;

// So deep are lists of actions in others, in OVS's flows.
constexpr unsigned kMaxDepth = 4;

Reject unsupported_action(const char *what) {
    return {"action", what, EOPNOTSUPP};
}

// What has become of the packet while the list is walked.  Its VLAN tags:
// those it came with that are still there, below those that were pushed.  Its
// fields: what has been set so far.
class Walk {
public:
    Walk(const Match &match, Actions *out) : out_(*out), match_(match) {
        out_ = {};
    }

    Reject step(const Attr &a) {
        if (out_.verdict != XF_DROP
            && (a.type != OVS_ACTION_ATTR_OUTPUT || out_.out_ports.empty())) {
            return unsupported_action("after_output");
        }
        // What these prepare has to follow at once.
        if (out_.rewrite.max_len && a.type != OVS_ACTION_ATTR_OUTPUT) {
            return unsupported_action("trunc");
        }
        if (hashed_ && a.type != OVS_ACTION_ATTR_RECIRC) {
            return unsupported_action("hash");
        }
        // The packet is one of the tunnel's then.
        if (is_in_tunnel() && a.type != OVS_ACTION_ATTR_OUTPUT
            && a.type != OVS_ACTION_ATTR_PUSH_VLAN) {
            return unsupported_action("after_tnl_push");
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
            case OVS_ACTION_ATTR_TRUNC:
                return trunc(a);
            case OVS_ACTION_ATTR_HASH:
                return hash(a);
            case OVS_ACTION_ATTR_RECIRC:
                return recirc(a);
            case OVS_ACTION_ATTR_CT:
                return ct(a);
            case OVS_ACTION_ATTR_CT_CLEAR:
                return ct_clear();
            case OVS_OFFLOAD_ACTION_TUNNEL_PUSH:
                return decode_tunnel_push(a.payload, &out_.tunnel,
                                          &out_.tunnel_port);
            case OVS_OFFLOAD_ACTION_TUNNEL_POP:
                return tunnel_pop(a);
            case OVS_OFFLOAD_ACTION_PRIVATE:
                return unsupported_action("ovs_private");  // lb_output.
            case OVS_ACTION_ATTR_CLONE:
                return unsupported_action("clone");  // Not the last one.
            case OVS_ACTION_ATTR_CHECK_PKT_LEN:
                return unsupported_action(
                    "check_pkt_len");  // Not the last one.
            default:
                return unsupported_action(a.type < std::size(kActions)
                                              ? kActions[a.type].name
                                              : "unknown_action");
        }
    }

    // Which list of an action that has some is done here.
    Reject choose_list(const Attr &a, Bytes *list) {
        *list = a.payload;
        return a.type == OVS_ACTION_ATTR_CHECK_PKT_LEN
                 ? check_packet_length(a.payload, list)
                 : Reject{};
    }

    // Whatever was done to a packet that is dropped, nobody sees it; but that
    // it was there, its connection does.
    void finish() {
        const bool is_seen = out_.verdict >= XF_RECIRC;
        if (!is_seen && n_ct_ && !(last_ct().flags & XF_CT_TRACK)) {
            last_ct() = {};
            n_ct_--;
        }
        if (out_.verdict == XF_DROP) {
            leave_only_connections();
        }
        if (out_.verdict == XF_POP) {
            out_.rewrite = {};
        }
        leave_out_what_is_right();
    }

private:
    bool is_in_tunnel() const { return out_.tunnel.len != 0; }

    // Both lists must be there, each in its place.
    static bool read_lists(Bytes payload, uint16_t *size, Bytes *longer,
                           Bytes *others) {
        AttrReader reader(payload);
        const auto a = reader.next(), b = reader.next(), c = reader.next();
        if (!a || !b || !c || reader.next() || reader.malformed()
            || a->type != OVS_CHECK_PKT_LEN_ATTR_PKT_LEN
            || b->type != OVS_CHECK_PKT_LEN_ATTR_ACTIONS_IF_GREATER
            || c->type != OVS_CHECK_PKT_LEN_ATTR_ACTIONS_IF_LESS_EQUAL) {
            return false;
        }
        *longer = b->payload;
        *others = c->payload;
        return read_exactly(a->payload, size);
    }

    // Longer packets are OVS's.  The program asks for the length that a packet
    // has when it comes to the flow.
    Reject check_packet_length(Bytes payload, Bytes *list) {
        uint16_t size;
        Bytes longer;
        if (!read_lists(payload, &size, &longer, list)) {
            return malformed("check_pkt_len");
        }
        if (out_.verdict != XF_DROP && out_.out_ports.empty()) {
            return unsupported_action("after_output");
        }
        if (out_.rewrite.max_len) {
            return unsupported_action("trunc");
        }
        if (is_in_tunnel()) {
            return unsupported_action("after_tnl_push");
        }
        if (std::ranges::equal(longer, *list)) {
            return {};
        }
        const int n_more_tags =
            static_cast<int>(out_.push.size()) - static_cast<int>(out_.n_pop);
        const int max_in = std::min<int>(
            size - n_more_tags * static_cast<int>(sizeof(xf_tag)), UINT16_MAX);
        if (max_in < ETH_HLEN) {
            return unsupported_action(
                "check_pkt_len");  // All packets are longer.
        }
        auto &limit = out_.rewrite.max_in;
        limit = limit ? std::min<int>(limit, max_in) : max_in;
        return {};
    }

    // Takes the whole packet apart, so nothing can have been done to it but
    // that its tags were taken off.
    Reject tunnel_pop(const Attr &a) {
        uint32_t port;
        if (!read_exactly(a.payload, &port)) {
            return malformed("tnl_pop");
        }
        const auto &r = out_.rewrite;
        const bool sets =
            std::ranges::any_of(r.mask, [](auto word) { return word != 0; });
        const bool is_ip =
            match_.cls == XF_CLASS_IPV4 || match_.cls == XF_CLASS_IPV6;
        if (!is_ip || match_.recirc_id || sets || n_ct_ || r.max_in
            || !out_.push.empty() || out_.n_pop != match_.n_tags) {
            return unsupported_action("tnl_pop");
        }
        out_.pop = OdpPort{port};
        out_.verdict = XF_POP;
        return {};
    }

    Reject output(const Attr &a) {
        uint32_t port;
        if (!read_exactly(a.payload, &port)) {
            return malformed("output");
        }
        if (out_.out_ports.size() == out_.out_ports.capacity()
            || (out_.rewrite.max_len && !out_.out_ports.empty())) {
            return unsupported_action("too_many_outputs");
        }
        out_.verdict = out_.out_ports.empty() ? XF_OUTPUT : XF_GROUP;
        out_.out_ports.push_back(OdpPort{port});
        return {};
    }

    Reject push_vlan(const Attr &a) {
        ovs_action_push_vlan push;
        if (!read_exactly(a.payload, &push)
            || (push.vlan_tpid != htons(ETH_P_8021Q)
                && push.vlan_tpid != htons(ETH_P_8021AD))) {
            return malformed("push_vlan");
        }
        if (is_in_tunnel()) {
            const __be16 bits = htons(~XF_VLAN_PRESENT & 0xffff);
            return push_outer_vlan(
                {push.vlan_tpid, static_cast<__be16>(push.vlan_tci & bits)},
                &out_.tunnel);
        }
        if (match_.n_tags - out_.n_pop + out_.push.size() >= XF_MAX_TAGS) {
            return unsupported_action("third_vlan");
        }
        // The "present" bit is not part of the tag on the wire.
        const __be16 tci = push.vlan_tci & htons(~XF_VLAN_PRESENT & 0xffff);
        out_.push.push_back({push.vlan_tpid, tci});
        return {};
    }

    Reject pop_vlan() {
        if (!out_.push.empty()) {
            out_.push.pop_back();
        } else if (out_.n_pop < match_.n_tags) {
            out_.n_pop++;
        } else {
            return malformed("pop_vlan");  // Nothing to pop.
        }
        return {};
    }

    // Of the output that follows.
    Reject trunc(const Attr &a) {
        ovs_action_trunc trunc;
        if (!read_exactly(a.payload, &trunc) || trunc.max_len < ETH_HLEN) {
            return malformed("trunc");
        }
        out_.rewrite.max_len = trunc.max_len;
        return {};
    }

    // The other algorithm, hash_l4, is not always the same in OVS either: some
    // of its paths hash the packet and some take a hash that they know.
    Reject hash(const Attr &a) {
        ovs_action_hash hash;
        if (!read_exactly(a.payload, &hash)) {
            return malformed("hash");
        }
        if (hash.hash_alg != kHashAlgSymL4) {
            return unsupported_action(
                hash.hash_alg == OVS_HASH_ALG_L4 ? "hash_l4" : "hash");
        }
        out_.rewrite.hash_basis = hash.hash_basis;
        hashed_ = true;
        return {};
    }

    // A set type or code of ICMPv6 may make a message one of Neighbour
    // Discovery, whose fields OVS would find when it parses the packet again.
    Reject recirc(const Attr &a) {
        if (sets_icmpv6_) {
            return {"set", "icmpv6_type", EOPNOTSUPP};
        }
        if (!read_exactly(a.payload, &out_.recirc_id) || !out_.recirc_id) {
            return malformed("recirc");
        }
        out_.verdict = hashed_ ? XF_HASH_RECIRC : XF_RECIRC;
        return {};
    }

    // Takes the next place for a ct() or a ct_clear.
    Reject add_ct(xf_ct_step **step) {
        if (match_.cls != XF_CLASS_IPV4 && match_.cls != XF_CLASS_IPV6) {
            return unsupported_action("ct");  // OVS finds these invalid.
        }
        if (n_ct_ == XF_MAX_CT_STEPS) {
            return unsupported_action("too_many_ct");
        }
        *step = &out_.rewrite.ct[n_ct_++];
        return {};
    }

    xf_ct_step &last_ct() { return out_.rewrite.ct[n_ct_ - 1]; }

    Reject ct_clear() {
        if (n_ct_ && last_ct().flags == XF_CT_CLEAR) {
            return {};
        }
        // Of a packet that no ct() has seen there is nothing to clear.
        if (!n_ct_ && !match_.recirc_id) {
            return {};
        }
        xf_ct_step *step;
        if (auto r = add_ct(&step)) {
            return r;
        }
        step->flags = XF_CT_CLEAR;
        return {};
    }

    Reject ct(const Attr &a) {
        xf_ct_step step{};
        step.flags = XF_CT_TRACK;
        if (auto r = read_ct(a.payload, &step)) {
            return r;
        }
        if (n_ct_ && last_ct().flags == XF_CT_CLEAR) {
            step.flags |= XF_CT_CLEAR;
            last_ct() = step;
        } else {
            xf_ct_step *place;
            if (auto r = add_ct(&place)) {
                return r;
            }
            *place = step;
        }
        translates_ |= (step.flags & XF_CT_NAT) != 0;
        out_.tracks = true;
        return {};
    }

    // The time-out policy, the events and the ranges of a translation are for
    // a new connection, which OVS makes.
    static Reject read_ct(Bytes payload, xf_ct_step *step) {
        AttrReader reader(payload);
        while (auto a = reader.next()) {
            bool good = true;
            switch (a->type) {
                case OVS_CT_ATTR_COMMIT:
                    step->flags |= XF_CT_COMMIT;
                    break;
                case OVS_CT_ATTR_ZONE:
                    good = read_exactly(a->payload, &step->zone);
                    break;
                case OVS_CT_ATTR_MARK:
                    good = read_mark(a->payload, step);
                    break;
                case OVS_CT_ATTR_LABELS:
                    good = read_label(a->payload, step);
                    break;
                case OVS_CT_ATTR_NAT:
                    step->flags |= XF_CT_NAT;
                    good = read_nat(a->payload, step);
                    break;
                case OVS_CT_ATTR_TIMEOUT:
                    step->flags |= XF_CT_TIMEOUT;
                    break;
                case OVS_CT_ATTR_EVENTMASK:
                    break;
                case OVS_CT_ATTR_HELPER:
                    return unsupported_action("ct_alg");
                case OVS_CT_ATTR_FORCE_COMMIT:
                    return unsupported_action("ct_force");
                default:
                    return unsupported_action("ct");
            }
            if (!good) {
                return malformed("ct");
            }
        }
        return reader.malformed() ? malformed("ct") : Reject{};
    }

    static bool read_nat(Bytes payload, xf_ct_step *step) {
        AttrReader reader(payload);
        while (auto a = reader.next()) {
            if (a->type == OVS_NAT_ATTR_SRC || a->type == OVS_NAT_ATTR_DST) {
                step->flags |= XF_CT_NEW_NAT;
            }
        }
        return !reader.malformed();
    }

    static bool read_mark(Bytes payload, xf_ct_step *step) {
        std::array<uint32_t, 2> mark;
        if (!read_exactly(payload, &mark) || (mark[0] & ~mark[1])) {
            return false;
        }
        step->flags |= XF_CT_MARK;
        step->mark = mark[0];
        step->mark_mask = mark[1];
        return true;
    }

    static bool read_label(Bytes payload, xf_ct_step *step) {
        std::array<uint64_t, 4> label;
        if (!read_exactly(payload, &label) || (label[0] & ~label[2])
            || (label[1] & ~label[3])) {
            return false;
        }
        step->flags |= XF_CT_LABEL;
        std::copy_n(label.begin(), 2, step->label);
        std::copy_n(label.begin() + 2, 2, step->label_mask);
        return true;
    }

    // What ct() finds a connection by is set at one place of the list, before
    // the ct() that follow.
    Reject place_sets(const xf_key &bits) {
        const bool is_of_tuple =
            bits.tp_src || bits.tp_dst
            || std::any_of(bits.word + 5, bits.word + XF_ND_WORD,
                           [](__u64 w) { return w != 0; });
        if (!is_of_tuple) {
            return {};
        }
        // A ct_clear may become one with the ct() that follows the set, and
        // does not ask what is set.
        const bool is_cleared = n_ct_ && last_ct().flags == XF_CT_CLEAR;
        const uint32_t place = n_ct_ - is_cleared;
        if (sets_tuple_ && out_.rewrite.n_ct_first != place) {
            return unsupported_action("set_after_ct");
        }
        sets_tuple_ = true;
        out_.rewrite.n_ct_first = place;
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
        const AttrRule &rule = rule_of(attr);
        xf_key value{}, bits{};

        if (mask.empty() || key.size() != mask.size()
            || (rule.size && key.size() != rule.size)) {
            return malformed("set");
        }
        encode_fields(match_, attr, key, mask, &value, &bits,
                      {left.data(), left.size()});
        clear_special_bits(attr, key, left.data());
        for (size_t i = 0; i < mask.size(); i++) {
            const Field *field = field_at(attr, i);
            if (left[i] != std::byte{0}
                || (mask[i] != std::byte{0} && !(field && field->settable))) {
                return {"set", name_at(attr, i), EOPNOTSUPP};
            }
        }
        // The checksum of an address is one that later fragments do not have,
        // but OVS 3.1 changes their payload.
        if (attr == OVS_KEY_ATTR_IPV4 && (bits.ipv4_src || bits.ipv4_dst)
            && !is_not_later_fragment()) {
            return {"set", "later_fragment", EOPNOTSUPP};
        }
        if (value.ipv6_label & ~htonl(0xfffff)) {
            return malformed("set");
        }
        if (auto r = place_sets(bits)) {
            return r;
        }
        sets_icmpv6_ |=
            attr == OVS_KEY_ATTR_ICMPV6 && (bits.tp_src || bits.tp_dst);
        for (size_t i = 0; i < XF_SET_WORDS; i++) {
            auto &to = out_.rewrite;
            to.value[i] = (to.value[i] & ~bits.word[i]) | value.word[i];
            to.mask[i] |= bits.word[i];
        }
        return {};
    }

    bool is_not_later_fragment() const {
        return (match_.mask.nw_frag & XF_FRAG_LATER)
            && !(match_.key.nw_frag & XF_FRAG_LATER);
    }

    // The high byte of an ARP opcode, which is and stays zero.
    void clear_special_bits(uint16_t attr, Bytes key, std::byte *left) const {
        const size_t high = offsetof(ovs_key_arp, arp_op);
        if (attr == OVS_KEY_ATTR_ARP && match_.cls == XF_CLASS_ARP
            && key[high] == std::byte{0}) {
            left[high] = std::byte{0};
        }
    }

    void leave_only_connections() {
        const xf_rewrite all = out_.rewrite;
        out_ = {};
        out_.rewrite.max_in = all.max_in;
        if (n_ct_) {
            out_.tracks = true;
            out_.rewrite = all;
            out_.rewrite.max_len = out_.rewrite.hash_basis = 0;
        }
    }

    // After a translation the match says nothing of addresses and ports any
    // more.
    void leave_out_what_is_right() {
        auto &r = out_.rewrite;
        for (size_t i = 0; i < XF_SET_WORDS; i++) {
            if (translates_ && (i == 3 || (i >= 5 && i < XF_ND_WORD))) {
                continue;
            }
            r.mask[i] &=
                ~match_.mask.word[i] | (r.value[i] ^ match_.key.word[i]);
            r.value[i] &= r.mask[i];
        }
    }

    Actions &out_;
    const Match &match_;
    bool hashed_ = false;
    bool sets_icmpv6_ = false;
    bool sets_tuple_ = false;
    bool translates_ = false;
    uint32_t n_ct_ = 0;
};

}  // namespace

static bool has_list(const Attr &a) {
    return a.type == OVS_ACTION_ATTR_CLONE
        || a.type == OVS_ACTION_ATTR_CHECK_PKT_LEN;
}

// One list, which is in 'depth' others.  Where the last action of the flow's
// has a list, the flow ends with that.
static Reject walk_list(Bytes actions, unsigned depth, Walk *walk) {
    AttrReader reader(actions);
    while (auto a = reader.next()) {
        if (!has_list(*a) || !reader.at_end()) {
            if (auto r = walk->step(*a)) {
                return r;
            }
            continue;
        }
        if (depth == kMaxDepth) {
            return unsupported_action("nested");
        }
        Bytes list;
        if (auto r = walk->choose_list(*a, &list)) {
            return r;
        }
        return walk_list(list, depth + 1, walk);
    }
    return reader.malformed() ? malformed("action_length") : Reject{};
}

Reject decode_actions(Bytes actions, const Match &match, Actions *out) {
    Walk walk(match, out);
    if (auto r = walk_list(actions, 0, &walk)) {
        return r;
    }
    walk.finish();
    return {};
}

xf_action to_xf_action(const Actions &actions, uint16_t to) {
    xf_action a{};
    a.verdict = actions.verdict;
    a.to = to;
    a.n_pop = actions.n_pop;
    a.n_push = actions.push.size();
    std::copy(actions.push.rbegin(), actions.push.rend(), a.tag);
    return a;
}

std::span<const ActionSupport> action_support() { return kActions; }

}  // namespace flowxlate
