// SPDX-License-Identifier: Apache-2.0
#include "reality.h"
#include "bpf/abi/counters.h"

#include <net/if.h>

#include <stdexcept>

#include "flowxlate/translate/actions.h"
#include "flowxlate/translate/match.h"
#include "tests/grace.h"

namespace oracle {
namespace {

using namespace flowxlate;

// Longer than all frames, and a small one.
constexpr uint32_t kMaxLength = 2048, kNarrowLength = 100;

Bytes bytes_of(const model_bytes &b) {
    return {static_cast<const std::byte *>(b.data), b.size};
}

void must(const Failure &f) {
    if (f) {
        throw std::runtime_error(f.message);
    }
}

PortSlot slot_of(OdpPort port) { return PortSlot{index(port)}; }

}  // namespace

Reality::Reality(bool native)
    : tx_flag_(native ? XF_PORT_TX_NATIVE : XF_PORT_TX_GENERIC),
      program_(tx_flag_) {
    for (uint32_t port = kInPort; port < 32; port++) {
        const PortSlot slot{port};
        if ((working_ports() & port_bit(port)) || port == kDownPort) {
            must(program_.maps().set_tx_port(
                slot, Ifindex{static_cast<int>(if_nametoindex("lo"))}));
        }
        program_.maps().port(slot) = {
            0,  port == kNarrowPort ? kNarrowLength : kMaxLength,
            0,  0,
            0,  0,
            {}, {}};
    }
}

Ports Reality::working_ports() {
    Ports ports = port_bit(kInPort) | port_bit(kNarrowPort);
    for (uint32_t port : kGoodPorts) {
        ports |= port_bit(port);
    }
    return ports;
}

Reject Reality::get_group(const Actions &actions, PortSlot in,
                          Groups::Use *use) {
    const Ifindex lo{static_cast<int>(if_nametoindex("lo"))};
    std::vector<PortSlot> out;
    bool is_new;
    for (auto port : actions.out_ports) {
        out.push_back(slot_of(port));
    }
    const Group group = make_group(out, in);
    if (auto r = groups_.get(group, use, &is_new)) {
        return r;
    }
    Fd &devices = group_devices_[index(use->slot())];
    if (!devices) {
        must(program_.maps().create_group(use->slot(), &devices));
    }
    if (is_new) {
        const std::vector<Ifindex> ifindexes(group.ports.size(), lo);
        must(
            program_.maps().set_group(use->slot(), devices, group, ifindexes));
    }
    return {};
}

Reject Reality::get_tunnel(TunnelHeaders headers, Tunnels::Use *use) {
    bool is_new;
    if (headers.tunnel.len) {
        headers.tunnel.port_min = tunnel_port_min_;
        headers.tunnel.n_ports = n_tunnel_ports_;
    }
    if (auto r = tunnels_.get(headers, use, &is_new)) {
        return r;
    }
    if (is_new) {
        program_.maps().tunnel(use->slot()) = headers.tunnel;
    }
    return {};
}

// Puts a decoded flow into the tables, as Flows::put() does.
Reject Reality::place(Match match, const Actions &actions, Placed *placed) {
    const PortSlot in = slot_of(match.in_port);
    if (auto r = recirc_ids_.get(match.recirc_id, &placed->recirc)) {
        return r;
    }
    if (auto r = recirc_ids_.get(actions.recirc_id, &placed->next)) {
        return r;
    }
    if (auto r = get_tunnel({actions.tunnel}, &placed->tunnel)) {
        return r;
    }
    uint16_t to = index(placed->next.slot());
    if (actions.verdict == XF_OUTPUT) {
        to = index(slot_of(actions.out_ports[0]));
    } else if (actions.verdict == XF_POP) {
        to = index(slot_of(actions.pop));
    } else if (actions.verdict == XF_GROUP) {
        if (auto r = get_group(actions, in, &placed->group)) {
            return r;
        }
        to = index(placed->group.slot());
    }
    match.key.in_port = index(in);
    match.mask.in_port = UINT16_MAX;
    match.key.recirc = index(placed->recirc.slot());
    match.mask.recirc = UINT16_MAX;
    xf_rewrite rewrite = actions.rewrite;
    rewrite.tunnel = index(placed->tunnel.slot());
    return program_.table().insert(match.cls, match.key, match.mask,
                                   {to_xf_action(actions, to), rewrite},
                                   &placed->slot);
}

Reject Reality::decode_and_place(const model_flow &f, Placed *placed) {
    Match match;
    Actions actions;
    if (auto r = decode_match(
            bytes_of(f.netlink_key), bytes_of(f.netlink_mask), &match,
            model_finds_dont_fragment() ? DontFragment::kIsFound
                                        : DontFragment::kIsIgnored)) {
        return r;
    }
    if (auto r = decode_actions(bytes_of(f.actions), match, &actions)) {
        return r;
    }
    return place(match, actions, placed);
}

// The port kUnmappedPort is up, but leads nowhere.
void Reality::set_up(Ports up) {
    up &= working_ports() | port_bit(kUnmappedPort);
    for (Ports changed = up ^ up_; changed; changed &= changed - 1) {
        const PortSlot slot{static_cast<uint32_t>(__builtin_ctz(changed))};
        program_.maps().port(slot).flags =
            up & port_bit(index(slot)) ? tx_flag_ : 0;
    }
    up_ = up;
}

// No grace period is needed: the program runs only when run() calls it.
void Reality::remove_all() {
    FlowTable &table = program_.table();
    for (auto &placed : placed_) {
        if (placed.slot != FlowSlot::kNone) {
            table.remove(placed.slot);
        }
    }
    placed_.clear();
    pass_grace(&table);
    pass_grace(&recirc_ids_.pool());
    pass_grace(&groups_.pool());
    pass_grace(&tunnels_.pool());
}

void Reality::install(const FlowSet &set) {
    remove_all();
    rejects_.assign(set.flows.size(), {});
    placed_.resize(set.flows.size());
    program_.maps().set_max_tags(set.vlan_limit);
    totals_.assign(set.flows.size(), {});
    observed_.counted.assign(set.flows.size(), {});
    for (size_t i = 0; i < set.flows.size(); i++) {
        Placed placed;
        rejects_[i] = decode_and_place(*set.flows[i].model, &placed);
        if (!rejects_[i]) {
            placed_[i] = std::move(placed);
        }
    }
}

Reject Reality::add(const model_flow &flow) {
    Placed placed;
    rejects_.push_back(decode_and_place(flow, &placed));
    placed_.push_back(rejects_.back() ? Placed{} : std::move(placed));
    totals_.emplace_back();
    observed_.counted.emplace_back();
    return rejects_.back();
}

const Observed &Reality::run(const Frame &frame, Ports up, uint32_t metadata) {
    set_up(up);
    observed_.run = program_.run(frame, 0, metadata);
    for (size_t i = 0; i < placed_.size(); i++) {
        if (placed_[i].slot == FlowSlot::kNone) {
            continue;
        }
        const FlowStats now = program_.table().stats(placed_[i].slot);
        FlowStats &counted = observed_.counted[i];
        counted = now;
        counted.packets -= totals_[i].packets;
        counted.bytes -= totals_[i].bytes;
        totals_[i] = now;
    }
    const uint64_t misses = program_.total_misses();
    const uint64_t tx_port = program_.misses(XF_MISS_TX_PORT);
    observed_.n_misses = misses - misses_;
    observed_.tx_port_misses = tx_port - tx_port_misses_;
    misses_ = misses;
    tx_port_misses_ = tx_port;
    return observed_;
}

}  // namespace oracle
