// SPDX-License-Identifier: Apache-2.0
#include "flowerd/action.h"

#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <linux/tc_act/tc_csum.h>
#include <linux/tc_act/tc_ct.h>
#include <linux/tc_act/tc_gact.h>
#include <linux/tc_act/tc_mirred.h>
#include <linux/tc_act/tc_pedit.h>
#include <linux/tc_act/tc_vlan.h>
#include <netinet/in.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <optional>
#include <string_view>

namespace flowerd {
namespace {

using flowxlate::AttrReader;
using flowxlate::malformed;
using flowxlate::read_exactly;

constexpr uint16_t kMaxVlanId = 0xfff;
constexpr uint8_t kMaxVlanPrio = 7;

Reject unsupported(const char *what) { return {"action", what, EOPNOTSUPP}; }

using Attrs = std::map<uint16_t, Bytes>;

bool read_attrs(Bytes payload, Attrs *attrs) {
    AttrReader reader(payload);
    while (auto a = reader.next()) {
        (*attrs)[a->type] = a->payload;
    }
    return !reader.malformed();
}

template <typename T>
bool read(const Attrs &attrs, uint16_t type, T *value) {
    const auto it = attrs.find(type);
    return it != attrs.end() && read_exactly(it->second, value);
}

// Is there nothing but what is known?
bool has_only(const Attrs &attrs, std::initializer_list<uint16_t> known) {
    return std::ranges::all_of(attrs, [&](const auto &a) {
        return std::ranges::find(known, a.first) != known.end();
    });
}

// What one action does, and what TC does then (TC_ACT_*).
struct Step {
    std::vector<Action> does;
    int then = TC_ACT_PIPE;
    bool is_shared = false;  // Other filters have the action, too.
};

// What all kinds of actions tell of.
template <typename Parms>
void set_end(const Parms &parms, Step *step) {
    step->then = parms.action;
    step->is_shared = parms.bindcnt > 1;
}

Reject read_gact(const Attrs &options, Step *step) {
    tc_gact parms;
    if (!read(options, TCA_GACT_PARMS, &parms)) {
        return malformed("gact");
    }
    if (!has_only(options, {TCA_GACT_TM, TCA_GACT_PARMS, TCA_GACT_PAD})) {
        return unsupported("gact_probability");
    }
    set_end(parms, step);
    return {};
}

// A redirect ends the list: TC takes the packet away.
Reject read_mirred(const Attrs &options, Step *step) {
    tc_mirred parms;
    if (!read(options, TCA_MIRRED_PARMS, &parms)) {
        return malformed("mirred");
    }
    if (!has_only(options,
                  {TCA_MIRRED_TM, TCA_MIRRED_PARMS, TCA_MIRRED_PAD})) {
        return unsupported("mirred");
    }
    Action a;
    a.ifindex = Ifindex{static_cast<int>(parms.ifindex)};
    if (parms.eaction == TCA_EGRESS_REDIR && parms.action == TC_ACT_STOLEN) {
        a.kind = Action::kRedirect;
    } else if (parms.eaction == TCA_EGRESS_MIRROR) {
        a.kind = Action::kMirror;
    } else {
        return unsupported(
            parms.eaction == TCA_EGRESS_REDIR ? "mirred" : "mirred_ingress");
    }
    step->does = {a};
    set_end(parms, step);
    return {};
}

// Of a tag that is pushed or modified.
Reject read_tag(const Attrs &options, Action *a) {
    a->tpid = htons(ETH_P_8021Q);
    const bool has_id = read(options, TCA_VLAN_PUSH_VLAN_ID, &a->vlan_id);
    (void)read(options, TCA_VLAN_PUSH_VLAN_PROTOCOL, &a->tpid);
    a->keeps_prio = !read(options, TCA_VLAN_PUSH_VLAN_PRIORITY, &a->vlan_prio);
    return !has_id || a->vlan_id > kMaxVlanId || a->vlan_prio > kMaxVlanPrio
             ? malformed("vlan")
             : Reject{};
}

Reject read_vlan(const Attrs &options, Step *step) {
    tc_vlan parms;
    if (!read(options, TCA_VLAN_PARMS, &parms)) {
        return malformed("vlan");
    }
    Action a;
    const bool modifies = parms.v_action == TCA_VLAN_ACT_MODIFY;
    if (modifies || parms.v_action == TCA_VLAN_ACT_PUSH) {
        if (auto r = read_tag(options, &a)) {
            return r;
        }
        a.kind = modifies ? Action::kModifyVlan : Action::kPushVlan;
        a.keeps_prio &= modifies;
    } else if (parms.v_action == TCA_VLAN_ACT_POP) {
        a.kind = Action::kPopVlan;
    } else {
        return unsupported("vlan_eth");
    }
    if (!has_only(options, {TCA_VLAN_TM, TCA_VLAN_PARMS, TCA_VLAN_PUSH_VLAN_ID,
                            TCA_VLAN_PUSH_VLAN_PROTOCOL, TCA_VLAN_PAD,
                            TCA_VLAN_PUSH_VLAN_PRIORITY})) {
        return unsupported("vlan");
    }
    step->does = {a};
    set_end(parms, step);
    return {};
}

// What pedit's keys count from, and do; a list without these sets bytes that
// count from IP's header.
struct KeyKind {
    uint16_t header = TCA_PEDIT_KEY_EX_HDR_TYPE_NETWORK;
    uint16_t command = TCA_PEDIT_KEY_EX_CMD_SET;
};

Reject read_key_kinds(Bytes list, std::vector<KeyKind> *kinds) {
    AttrReader reader(list);
    while (auto a = reader.next()) {
        Attrs attrs;
        KeyKind k;
        if (!read_attrs(a->payload, &attrs)
            || !read(attrs, TCA_PEDIT_KEY_EX_HTYPE, &k.header)
            || !read(attrs, TCA_PEDIT_KEY_EX_CMD, &k.command)) {
            return malformed("pedit");
        }
        kinds->push_back(k);
    }
    return reader.malformed() ? malformed("pedit") : Reject{};
}

// IPv4's and IPv6's are the network's; TC does not ask which one it is.
std::optional<Header> header_of(uint16_t type) {
    switch (type) {
        case TCA_PEDIT_KEY_EX_HDR_TYPE_ETH:
            return Header::kEthernet;
        case TCA_PEDIT_KEY_EX_HDR_TYPE_NETWORK:
        case TCA_PEDIT_KEY_EX_HDR_TYPE_IP4:
        case TCA_PEDIT_KEY_EX_HDR_TYPE_IP6:
            return Header::kNetwork;
        case TCA_PEDIT_KEY_EX_HDR_TYPE_TCP:
            return Header::kTcp;
        case TCA_PEDIT_KEY_EX_HDR_TYPE_UDP:
            return Header::kUdp;
        default:
            return {};
    }
}

// TC keeps the bits of the key's mask and then inverts those of its value.
Reject read_pedit_key(const tc_pedit_key &key, const KeyKind &kind,
                      Action *a) {
    const auto header = header_of(kind.header);
    if (!header || kind.command > TCA_PEDIT_KEY_EX_CMD_ADD
        || (key.val & key.mask) || key.offmask) {
        return unsupported("pedit");
    }
    const uint32_t written = ~key.mask;
    a->kind = kind.command == TCA_PEDIT_KEY_EX_CMD_ADD ? Action::kAddBytes
                                                       : Action::kSetBytes;
    a->header = *header;
    a->offset = static_cast<int32_t>(key.off);
    std::memcpy(a->value.data(), &key.val, sizeof key.val);
    std::memcpy(a->mask.data(), &written, sizeof written);
    return {};
}

Reject read_pedit(const Attrs &options, Step *step) {
    if (!has_only(options, {TCA_PEDIT_TM, TCA_PEDIT_PARMS, TCA_PEDIT_PARMS_EX,
                            TCA_PEDIT_KEYS_EX, TCA_PEDIT_PAD})) {
        return unsupported("pedit");
    }
    std::vector<KeyKind> kinds;
    const auto extended = options.find(TCA_PEDIT_KEYS_EX);
    const bool is_extended = extended != options.end();
    const auto parms =
        options.find(is_extended ? TCA_PEDIT_PARMS_EX : TCA_PEDIT_PARMS);
    tc_pedit_sel sel;
    if (parms == options.end() || parms->second.size() < sizeof sel) {
        return malformed("pedit");
    }
    if (is_extended) {
        if (auto r = read_key_kinds(extended->second, &kinds)) {
            return r;
        }
    }
    std::memcpy(&sel, parms->second.data(), sizeof sel);
    kinds.resize(is_extended ? kinds.size() : sel.nkeys);
    Bytes keys = parms->second.subspan(sizeof sel);
    if (kinds.size() != sel.nkeys
        || keys.size() != sel.nkeys * sizeof(tc_pedit_key)) {
        return malformed("pedit");
    }
    for (const KeyKind &kind : kinds) {
        tc_pedit_key key;
        std::memcpy(&key, keys.data(), sizeof key);
        keys = keys.subspan(sizeof key);
        if (auto r = read_pedit_key(key, kind, &step->does.emplace_back())) {
            return r;
        }
    }
    set_end(sel, step);
    return {};
}

Reject read_csum(const Attrs &options, Step *step) {
    tc_csum parms;
    if (!read(options, TCA_CSUM_PARMS, &parms)) {
        return malformed("csum");
    }
    if (!has_only(options, {TCA_CSUM_TM, TCA_CSUM_PARMS, TCA_CSUM_PAD})) {
        return unsupported("csum");
    }
    Action a;
    a.kind = Action::kSum;
    a.sums = parms.update_flags;
    step->does = {a};
    set_end(parms, step);
    return {};
}

// What only one side has: a mask without a value is none.
template <typename T>
bool read_masked(const Attrs &options, uint16_t type, uint16_t mask_type,
                 T *value, T *mask) {
    return !options.contains(type)
        || (read(options, type, value) && read(options, mask_type, mask));
}

// Bits of the mark that are not in its mask are set, too, and those of a label
// are inverted, with each packet (nf_connlabels_replace()).
Reject check_what_commit_sets(Tracking *ct) {
    ct->mark_mask |= ct->mark;
    for (size_t i = 0; i < ct->labels.size(); i++) {
        if (ct->labels[i] & ~ct->labels_mask[i]) {
            return unsupported("ct_labels");
        }
    }
    return {};
}

// How a new connection is translated, TC knows.  Without "commit" it sets
// nothing.
Reject read_tracking(const Attrs &options, uint16_t flags, Tracking *ct) {
    if (flags & TCA_CT_ACT_FORCE) {
        return unsupported("ct_force");
    }
    if (!has_only(
            options,
            {TCA_CT_PARMS, TCA_CT_TM, TCA_CT_ACTION, TCA_CT_ZONE, TCA_CT_MARK,
             TCA_CT_MARK_MASK, TCA_CT_LABELS, TCA_CT_LABELS_MASK,
             TCA_CT_NAT_IPV4_MIN, TCA_CT_NAT_IPV4_MAX, TCA_CT_NAT_IPV6_MIN,
             TCA_CT_NAT_IPV6_MAX, TCA_CT_NAT_PORT_MIN, TCA_CT_NAT_PORT_MAX,
             TCA_CT_PAD})) {
        return unsupported("ct_helper");
    }
    ct->commits = flags & TCA_CT_ACT_COMMIT;
    ct->translates = flags & TCA_CT_ACT_NAT;
    if ((options.contains(TCA_CT_ZONE)
         && !read(options, TCA_CT_ZONE, &ct->zone))
        || !read_masked(options, TCA_CT_MARK, TCA_CT_MARK_MASK, &ct->mark,
                        &ct->mark_mask)
        || !read_masked(options, TCA_CT_LABELS, TCA_CT_LABELS_MASK,
                        &ct->labels, &ct->labels_mask)) {
        return malformed("ct");
    }
    if (!ct->commits) {
        ct->mark = ct->mark_mask = 0;
        ct->labels = ct->labels_mask = {};
    }
    return check_what_commit_sets(ct);
}

Reject read_ct(const Attrs &options, Step *step) {
    constexpr uint16_t kKnown = TCA_CT_ACT_COMMIT | TCA_CT_ACT_FORCE
                              | TCA_CT_ACT_CLEAR | TCA_CT_ACT_NAT
                              | TCA_CT_ACT_NAT_SRC | TCA_CT_ACT_NAT_DST;
    tc_ct parms;
    uint16_t flags = 0;
    if (!read(options, TCA_CT_PARMS, &parms)
        || (options.contains(TCA_CT_ACTION)
            && !read(options, TCA_CT_ACTION, &flags))) {
        return malformed("ct");
    }
    if (flags & ~kKnown) {
        return unsupported("ct");
    }
    Action a;
    a.kind = Action::kUntrack;
    if (!(flags & TCA_CT_ACT_CLEAR)) {
        a.kind = Action::kTrack;
        if (auto r = read_tracking(options, flags, &a.ct)) {
            return r;
        }
    }
    step->does = {a};
    set_end(parms, step);
    return {};
}

// Those without a function are refused by their names.
struct Kind {
    const char *name;
    Reject (*read)(const Attrs &options, Step *);
};
constexpr Kind kKinds[] = {
    {"gact", read_gact},     {"mirred", read_mirred}, {"vlan", read_vlan},
    {"pedit", read_pedit},   {"csum", read_csum},     {"ct", read_ct},
    {"tunnel_key", nullptr}, {"skbedit", nullptr},    {"police", nullptr},
    {"sample", nullptr},     {"bpf", nullptr},        {"mpls", nullptr},
    {"nat", nullptr},        {"skbmod", nullptr},     {"connmark", nullptr},
    {"ctinfo", nullptr},     {"gate", nullptr},       {"ife", nullptr},
    {"simple", nullptr},
};

// What is said of an action besides what it does.
constexpr uint16_t kHarmless[] = {
    TCA_ACT_KIND,     TCA_ACT_OPTIONS,       TCA_ACT_INDEX,
    TCA_ACT_STATS,    TCA_ACT_PAD,           TCA_ACT_COOKIE,
    TCA_ACT_HW_STATS, TCA_ACT_USED_HW_STATS, TCA_ACT_IN_HW_COUNT,
    TCA_ACT_FLAGS,
};
// TCA_ACT_FLAGS_SKIP_SW is not among them.
constexpr uint32_t kHarmlessFlags =
    TCA_ACT_FLAGS_NO_PERCPU_STATS | 1 << 1 /* TCA_ACT_FLAGS_SKIP_HW */;

Reject check_flags(const Attrs &action) {
    nla_bitfield32 flags{};
    if (action.contains(TCA_ACT_FLAGS)
        && !read(action, TCA_ACT_FLAGS, &flags)) {
        return malformed("action_flags");
    }
    const bool is_known = std::ranges::all_of(action, [](const auto &a) {
        return std::ranges::find(kHarmless, a.first) != std::end(kHarmless);
    });
    return !is_known || (flags.value & flags.selector & ~kHarmlessFlags)
             ? unsupported("flags")
             : Reject{};
}

Reject read_action(Bytes payload, Step *step) {
    Attrs action, options;
    if (!read_attrs(payload, &action) || !action.contains(TCA_ACT_KIND)
        || !read_attrs(action[TCA_ACT_OPTIONS], &options)) {
        return malformed("action");
    }
    const auto name = text(action[TCA_ACT_KIND]);
    const auto kind = std::ranges::find_if(
        kKinds, [&](const Kind &k) { return k.name == name; });
    if (kind == std::end(kKinds)) {
        return unsupported("unknown");
    }
    if (!kind->read) {
        return unsupported(kind->name);
    }
    if (auto r = check_flags(action)) {
        return r;
    }
    return kind->read(options, step);
}

// The verdict with which the list ends.  An action that says "goto chain"
// leads to the chain of the block where it was made, whichever filter has it.
Reject end_list(const Step &last, std::vector<Action> *out) {
    Action a;
    if (TC_ACT_EXT_CMP(last.then, TC_ACT_GOTO_CHAIN)) {
        a.kind = Action::kGotoChain;
        a.chain = last.then & TC_ACT_EXT_VAL_MASK;
        if (last.is_shared) {
            return unsupported("goto_chain");
        }
    } else if (last.then == TC_ACT_OK || last.then == TC_ACT_PIPE) {
        a.kind = Action::kPass;
    } else if (last.then != TC_ACT_SHOT) {
        return unsupported("verdict");
    }
    out->push_back(a);
    return {};
}

}  // namespace

Reject decode_actions(Bytes list, std::vector<Action> *out) {
    Attrs by_order;
    if (!read_attrs(list, &by_order)) {
        return malformed("actions");
    }
    for (const auto &[order, payload] : by_order) {
        Step step;
        if (auto r = read_action(payload, &step)) {
            return r;
        }
        out->insert(out->end(), step.does.begin(), step.does.end());
        if (!step.does.empty() && step.does.back().kind == Action::kRedirect) {
            return {};
        }
        if (step.then != TC_ACT_PIPE) {
            return end_list(step, out);
        }
    }
    return end_list({}, out);
}

}  // namespace flowerd
