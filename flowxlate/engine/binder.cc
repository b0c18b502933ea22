// SPDX-License-Identifier: Apache-2.0
#include "engine/binder.h"

#include <arpa/inet.h>
#include <linux/if_ether.h>

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <utility>

namespace flowxlate {
namespace {

// What daemons hear on packet sockets, next to OVS: LLDP, PTP (ptp4l), the
// slow protocols (LACP, OAM) and CFM.
constexpr uint16_t kLinkProtocols[] = {0x88cc, 0x88f7, 0x8809, 0x8902};

bool takes(const Entrance::Vlan &vlan, const Match &m) {
    const __be16 tpid =
        htons(m.key.tpids & XF_TPID_OUTER_AD ? ETH_P_8021AD : ETH_P_8021Q);
    const uint16_t mask = ntohs(m.mask.vlan_tci) & 0xfff;
    return m.n_tags && vlan.tpid == tpid
        && !((ntohs(m.key.vlan_tci) ^ vlan.id) & mask);
}

}  // namespace

Reject check_entrance(const Entrance &e, bool generic, const Match &m) {
    const auto refuse = [](const char *group, const char *what) {
        return Reject{group, what, EOPNOTSUPP};
    };
    if (!e.others.empty()) {
        return refuse("input", "handled_before_ovs");
    }
    if ((m.skb_mark && (generic || e.keeps_mark))
        || (m.skb_priority && generic)) {
        return refuse("input", "may_be_marked");
    }
    if (std::find(std::begin(kLinkProtocols), std::end(kLinkProtocols),
                  ntohs(m.key.eth_type))
        != std::end(kLinkProtocols)) {
        return refuse("match", "link_protocol");
    }
    return std::any_of(e.vlans.begin(), e.vlans.end(),
                       [&](auto &vlan) { return takes(vlan, m); })
             ? refuse("input", "vlan_device")
             : Reject{};
}

bool needs_connections(const Rule &rule) {
    const xf_key &mask = rule.match.mask;
    return rule.actions.tracks || mask.word[4] || mask.word[XF_LABEL_WORD]
        || mask.word[XF_LABEL_WORD + 1];
}

// Most connections have packets that only openvswitch.ko can judge.
Reject check_kernel_tracking(const Rule &rule, bool kernel_ct) {
    if (!needs_connections(rule) || (kernel_ct && rule.has_twin)) {
        return {};
    }
    return rule.actions.tracks ? Reject{"action", "ct", EOPNOTSUPP}
                               : Reject{"match", "ct_state", EOPNOTSUPP};
}

// As hook_executes() in bpf/hook/skb.h.
Reject check_hook(const Rule &rule, AttachMode in) {
    const xf_rewrite &rewrite = rule.actions.rewrite;
    const auto verdict = rule.actions.verdict;
    return in == AttachMode::kTc
                && (rewrite.max_len || rewrite.max_in || index(rule.into)
                    || verdict == XF_POP)
             ? Reject{"action", "not_at_tc", EOPNOTSUPP}
             : Reject{};
}

static size_t n_tags_at_output(const Rule &rule) {
    const Actions &a = rule.actions;
    return rule.match.n_tags + a.push.size() - a.n_pop;
}

// A flow that has no twin exists nowhere else, so XDP must be sure to execute
// it.  It is not where the next flow of a recirculated packet may be refused.
// And the kernel's hash differs from the one that is known here.
Reject check_kernel_rule(const Rule &rule) {
    if (rule.match.mask.dp_hash) {
        return {"match", "dp_hash", EOPNOTSUPP};
    }
    if (rule.actions.verdict == XF_HASH_RECIRC) {
        return {"action", "hash", EOPNOTSUPP};
    }
    if (rule.match.recirc_id && !rule.has_twin) {
        return {"match", "recirc_id", EOPNOTSUPP};
    }
    if (rule.actions.recirc_id && !rule.has_twin) {
        return {"action", "recirc", EOPNOTSUPP};
    }
    if (rule.actions.rewrite.max_in && !rule.has_twin) {
        return {"action", "check_pkt_len", EOPNOTSUPP};
    }
    // openvswitch.ko does not count the outermost tag, which is beside its
    // sk_buff.
    if (rule.actions.rewrite.max_len && n_tags_at_output(rule)) {
        return {"action", "trunc", EOPNOTSUPP};
    }
    return {};
}

Reject Binder::bind(Rule *rule, Binding *b) {
    if (auto r = find_ports(*rule, b)) {
        return r;
    }
    if (auto r = recirc_ids_.get(rule->match.recirc_id, &b->recirc)) {
        return r;
    }
    if (auto r = recirc_ids_.get(rule->actions.recirc_id, &b->next)) {
        return r;
    }
    if (rule->actions.verdict == XF_GROUP) {
        if (auto r = get_group(*b, &b->group)) {
            return r;
        }
    }
    if (auto r = get_tunnel({rule->actions.tunnel}, &b->tunnel)) {
        return r;
    }
    rule->match.key.in_port = index(b->in->slot);
    rule->match.mask.in_port = UINT16_MAX;
    rule->match.key.recirc = index(b->recirc.slot());
    rule->match.mask.recirc = UINT16_MAX;
    return {};
}

FlowAction Binder::action_of(const Rule &rule, const Binding &b) {
    const auto verdict = rule.actions.verdict;
    const bool is_to_port = verdict == XF_OUTPUT || verdict == XF_POP;
    const uint16_t to = verdict == XF_GROUP ? index(b.group.slot())
                      : is_to_port          ? index(b.out[0])
                                            : index(b.next.slot());
    xf_rewrite rewrite = rule.actions.rewrite;
    rewrite.tunnel = index(b.tunnel.slot());
    return {to_xf_action(rule.actions, to), rewrite};
}

Reject Binder::find_ports(const Rule &rule, Binding *b) {
    b->in = ports_.find(rule.in);
    if (!b->in) {
        return {"input", "not_an_xdp_port", EOPNOTSUPP};
    }
    for (auto ifindex : rule.out) {
        const Port *port = ports_.find(ifindex);
        if (!port) {
            return {"output", "not_an_xdp_port", EOPNOTSUPP};
        }
        if (port->is_tunnel() != (rule.actions.verdict == XF_POP)) {
            return {"output", "not_an_xdp_port", EOPNOTSUPP};
        }
        b->out.push_back(port->slot);
    }
    if (const Port *tunnel = ports_.find(rule.into)) {
        b->into = tunnel->slot;
    }
    if (auto r = check_left_out(*b)) {
        return r;
    }
    if (!b->in->device.exists) {
        return {"input", "no_device", EOPNOTSUPP};
    }
    if (!b->in->shows_tags()) {
        b->in->was_wanted = true;
        return {"input", "vlan_tags_beside_the_frame", EOPNOTSUPP};
    }
    if (b->in->of_tc && !b->in->comes_first()) {
        b->in->was_wanted = true;
        return {"input", "handled_before_ovs", EOPNOTSUPP};
    }
    if (!b->in->in_kernel_datapath) {
        return {};
    }
    if (auto r =
            check_entrance(b->in->device.entrance,
                           b->in->mode != AttachMode::kNative, rule.match)) {
        b->in->was_wanted = true;
        return r;
    }
    if (auto r = check_hook(rule, b->in->mode)) {
        return r;
    }
    return check_kernel_datapath(rule, *b);
}

Reject Binder::check_left_out(const Binding &b) const {
    if (b.in->is_left_out()) {
        return {"input", "left_out", EOPNOTSUPP};
    }
    auto is_left_out = [&](PortSlot slot) {
        return slot != PortSlot::kNone && ports_.at(slot)->is_left_out();
    };
    const bool leaves_there =
        is_left_out(b.into)
        || std::any_of(b.out.begin(), b.out.end(), is_left_out);
    return leaves_there ? Reject{"output", "left_out", EOPNOTSUPP} : Reject{};
}

Reject Binder::check_kernel_datapath(const Rule &rule, const Binding &b) {
    if (auto r = check_kernel_rule(rule)) {
        return r;
    }
    for (auto slot : b.out) {
        Port &out = *ports_.at(slot);
        if (!out.takes_frames_from(*b.in)) {
            out.was_wanted = true;
            return {"output", "cannot_transmit_now", EOPNOTSUPP};
        }
    }
    return {};
}

// -- Groups -----------------------------------------------------------------

Reject Binder::get_group(const Binding &b, Groups::Use *use) {
    const Group group = make_group({b.out.data(), b.out.size()}, b.in->slot,
                                   b.in->is_tunnel());
    bool is_new;
    if (auto r = groups_.get(group, use, &is_new)) {
        return r;
    }
    return is_new && fill_group(use->slot(), group)
             ? Reject{"table", "groups", ENOSPC}
             : Reject{};
}

Failure Binder::fill_group(GroupSlot slot, const Group &group) {
    const Fd &devices = group_devices_[index(slot)];
    std::vector<Ifindex> ifindexes;
    if (!devices) {
        return {EAGAIN, "not prepared yet"};
    }
    for (auto port : group.ports) {
        ifindexes.push_back(ports_.at(port)->ifindex);
    }
    return datapath_.set_group(slot, devices, group, ifindexes);
}

void Binder::add_devices(GroupSlot slot, Fd devices) {
    group_devices_[index(slot)] = std::move(devices);
}

void Binder::refill_groups(PortSlot port) {
    for (auto &[group, slot] : groups_) {
        if (std::find(group.ports.begin(), group.ports.end(), port)
            != group.ports.end()) {
            (void)fill_group(slot, group);  // Gone again.
        }
    }
}

// -- Tunnels ----------------------------------------------------------------

// No program reads the entry before the flow is there.
Reject Binder::get_tunnel(const TunnelHeaders &headers, Tunnels::Use *use) {
    bool is_new;
    if (auto r = tunnels_.get(headers, use, &is_new)) {
        return r;
    }
    if (is_new) {
        datapath_.tunnel(use->slot()) = headers.tunnel;
    }
    return {};
}

// -- Reclamation ------------------------------------------------------------

bool Binder::begin_grace() {
    const size_t n = recirc_ids_.pool().begin_grace().size()
                   + groups_.pool().begin_grace().size()
                   + tunnels_.pool().begin_grace().size();
    return n != 0;
}

void Binder::end_grace() {
    recirc_ids_.pool().end_grace();
    groups_.pool().end_grace();
    tunnels_.pool().end_grace();
}

}  // namespace flowxlate
