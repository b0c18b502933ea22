// SPDX-License-Identifier: Apache-2.0
// Ports and flows on a flow table in heap memory, and a kernel that does as it
// is told.
#ifndef TESTS_UNIT_ENGINE_H
#define TESTS_UNIT_ENGINE_H

#include <fcntl.h>
#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <memory>
#include <vector>

#include "bpf/abi/counters.h"
#include "bpf/abi/tunnel.h"
#include "flowxlate/engine/flows.h"
#include "tests/unit/tables.h"

namespace flowxlate::unit {

class FakeDatapath : public Datapath {
public:
    bool has_devices = true;   // Or set_tx_port() fails.
    bool takes_groups = true;  // Or set_group() fails.

    xf_port &port(PortSlot slot) override { return ports_[index(slot)]; }
    xf_tunnel &tunnel(TunnelSlot slot) override {
        return tunnels_[index(slot)];
    }
    Failure set_tx_port(PortSlot, Ifindex) override {
        return has_devices ? Failure{} : Failure{ENODEV, "no device"};
    }
    Failure set_group(GroupSlot, const Fd &, const Group &,
                      std::span<const Ifindex>) override {
        return takes_groups ? Failure{} : Failure{ENOMEM, "no memory"};
    }

private:
    std::array<xf_port, XF_MAX_PORTS> ports_{};
    std::vector<xf_tunnel> tunnels_{XF_MAX_TUNNELS};
};

inline DeviceState device_that_transmits() {
    DeviceState s;
    s.exists = s.up = s.xdp_xmit = s.tags_in_frame = s.is_nic = true;
    s.max_frame = 1514;
    return s;
}

// The devices of the ports that there are, where packets enter and leave.
constexpr Ifindex kIn{10}, kOut{11}, kOther{12};

// What a flow does, and thereby what it needs.
enum class Shape {
    kOutput,
    kOtherOutput,
    kRewrite,
    kGroup,
    kRecirc,     // Goes on with a recirculation id.
    kOtherMask,  // Outputs, and has another match.
};

class Engine {
public:
    explicit Engine(const Sizes &sizes = {}) : tables(sizes) {
        for (auto ifindex : {kIn, kOut, kOther}) {
            add_port(ifindex);
        }
        for (uint16_t i = 1; i < XF_MAX_GROUPS; i++) {
            binder.add_devices(GroupSlot{i}, Fd(open("/dev/null", O_RDONLY)));
        }
    }

    Port *add_port(Ifindex ifindex) {
        auto port = std::make_unique<Port>();
        Port *p = port.get();
        p->name = "p" + std::to_string(index(ifindex));
        p->ifindex = ifindex;
        EXPECT_FALSE(ports.new_slot(&p->slot));
        (void)ports.apply(*p, device_that_transmits(), false, {});
        ports.add(std::move(port), {});
        return p;
    }

    Port *add_tunnel(Ifindex number) {
        auto port = std::make_unique<Port>();
        Port *p = port.get();
        p->name = "tunnel" + std::to_string(-index(number));
        p->ifindex = number;
        p->tunnel = XF_TUNNEL_GENEVE;
        p->device.exists = true;
        EXPECT_FALSE(ports.new_slot(&p->slot));
        ports.add(std::move(port), {});
        return p;
    }

    static Ufid ufid(uint32_t id) {
        Ufid u;
        std::memcpy(u.bytes.data(), &id, sizeof id);
        return u;
    }

    static Rule rule(uint32_t id, Shape shape) {
        const bool other = shape == Shape::kOtherMask;
        const Megaflow m{XF_CLASS_IPV4, other ? 1U : 0U, id};
        Rule r;
        r.match.cls = m.cls;
        r.match.key = m.key();
        r.match.mask = m.mask();
        r.in = kIn;
        r.actions.verdict = shape == Shape::kGroup  ? XF_GROUP
                          : shape == Shape::kRecirc ? XF_RECIRC
                                                    : XF_OUTPUT;
        if (shape == Shape::kRecirc) {
            r.actions.recirc_id = id;
            return r;
        }
        r.out = {shape == Shape::kOtherOutput ? kOther : kOut};
        if (shape == Shape::kGroup) {
            r.out.push_back(kOther);
        }
        if (shape == Shape::kRewrite) {
            r.actions.rewrite = rewriting(0, id).rewrite;
        }
        return r;
    }

    Reject put(uint32_t id, Shape shape) {
        Rule r = rule(id, shape);
        SubtableSlot mask;
        return flows.put(ufid(id), &r, &mask);
    }

    // The slot that the program finds for a packet of this flow.
    FlowSlot find(uint32_t id, Shape shape) const {
        Rule r = rule(id, shape);
        r.match.key.in_port = index(ports.find(kIn)->slot);
        return unit::find(tables.mem(), r.match.cls, r.match.key);
    }

    // The program executes 'n' packets of this flow.  Returns whether it has
    // found it.
    bool execute(uint32_t id, Shape shape, uint64_t n) {
        const auto slot = find(id, shape);
        if (slot == FlowSlot::kNone) {
            return false;
        }
        xf_stats &s = tables.stats(id % 2, slot);
        s.packets += n;
        s.bytes += n * 100;
        return true;
    }

    // A grace period.
    void reclaim() {
        pass_grace(&tables.table);
        pass_grace(&binder);
    }

    Tables tables;
    FakeDatapath datapath;
    Changes changes;
    Ports ports{&datapath, true, &changes};
    Binder binder{&datapath, &ports};
    Flows flows{&tables.table, &ports, &binder, &changes};
    std::vector<std::unique_ptr<Binding>> others;  // Who use slots as well.
};

}  // namespace flowxlate::unit

#endif
