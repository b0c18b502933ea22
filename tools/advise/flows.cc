// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>

#include <array>
#include <istream>
#include <map>
#include <memory>
#include <set>
#include <sstream>
#include <stdexcept>
#include <vector>

#include "bpf/abi/tunnel.h"
#include "flowxlate/base/netlink_attr.h"
#include "flowxlate/engine/flows.h"
#include "flowxlate/engine/settings.h"
#include "flowxlate/tables/heap_maps.h"
#include "flowxlate/translate/reasons.h"
#include "tools/advise/judge.h"

namespace flowxlate::advise {
namespace {

using Fields = std::vector<std::string>;

// A kernel in which everything succeeds.
class Memory : public Datapath {
public:
    xf_port &port(PortSlot slot) override { return ports_[index(slot)]; }
    xf_tunnel &tunnel(TunnelSlot slot) override {
        return tunnels_[index(slot)];
    }
    Failure set_tx_port(PortSlot, Ifindex) override { return {}; }
    Failure set_group(GroupSlot, const Fd &, const Group &,
                      std::span<const Ifindex>) override {
        return {};
    }

private:
    std::vector<xf_port> ports_{XF_MAX_PORTS};
    std::vector<xf_tunnel> tunnels_{XF_MAX_TUNNELS};
};

// No secret: nobody here makes collisions.
constexpr std::array<uint64_t, XF_KEY_WORDS + 1> secret() {
    std::array<uint64_t, XF_KEY_WORDS + 1> words{};
    for (size_t i = 0; i < words.size(); i++) {
        words[i] = 0x9e3779b97f4a7c15 * (i + 1);
    }
    return words;
}

// A device on which nothing is wrong.
DeviceState good_device() {
    DeviceState s;
    s.exists = s.up = s.xdp_xmit = s.tags_in_frame = true;
    s.max_frame = 1514;
    return s;
}

uint32_t tunnel_kind(const std::string &type) {
    return type == "geneve" ? XF_TUNNEL_GENEVE
         : type == "vxlan"  ? XF_TUNNEL_VXLAN
                            : XF_TUNNEL_NONE;
}

// What Offload does with ports and flows, without programs.
class Rehearsal {
public:
    explicit Rehearsal(bool in_kernel_datapath)
        : in_kernel_datapath_(in_kernel_datapath) {
        for (uint16_t i = 1; i < XF_MAX_GROUPS; i++) {
            binder_.add_devices(GroupSlot{i}, Fd(open("/dev/null", O_RDONLY)));
        }
    }

    void add_port(OdpPort number, const std::string &type) {
        auto port = std::make_unique<Port>();
        port->tunnel =
            in_kernel_datapath_ ? XF_TUNNEL_NONE : tunnel_kind(type);
        port->ifindex = device_of(number, port->is_tunnel());
        port->in_kernel_datapath = in_kernel_datapath_;
        if (ports_.new_slot(&port->slot)) {
            return;  // There are too many: its flows are not executed.
        }
        if (port->is_tunnel()) {
            port->device.exists = true;
            tunnels_.insert(number);
        } else {
            (void)ports_.apply(*port, good_device(), false, {});
        }
        ports_.add(std::move(port), {});
    }

    Reject put(Bytes key, Bytes mask, Bytes actions) {
        Rule rule;
        SubtableSlot subtable;
        if (auto r = translate(key, mask, actions, &rule)) {
            return r;
        }
        const uint32_t n = n_put_++;
        Ufid ufid;
        std::memcpy(ufid.bytes.data(), &n, sizeof n);
        return flows_.put(ufid, &rule, &subtable);
    }

    size_t n_masks() const { return table_.n_subtables(); }

private:
    static Ifindex device_of(OdpPort number, bool is_tunnel) {
        constexpr int kFirst = 2;  // Tunnels have numbers below -1.
        const int n = kFirst + static_cast<int>(index(number));
        return Ifindex{is_tunnel ? -n : n};
    }

    // As FlowOperations::translate().
    Reject translate(Bytes key, Bytes mask, Bytes actions, Rule *rule) const {
        if (auto r = decode_match(key, mask, &rule->match)) {
            return r;
        }
        if (auto r = decode_actions(actions, rule->match, &rule->actions)) {
            return r;
        }
        if (in_kernel_datapath_) {
            // Whether this kernel's connections can be asked for is not known.
            if (auto r = check_kernel_tracking(*rule, false)) {
                return r;
            }
        }
        find_devices(rule, [this](OdpPort number) {
            return device_of(number, tunnels_.contains(number));
        });
        return {};
    }

    const bool in_kernel_datapath_;
    std::set<OdpPort> tunnels_;
    uint32_t n_put_ = 0;
    HeapMaps maps_{MapSizes::of(Settings{}.max_flows, 1, 1, 1)};
    FlowTable table_{table_memory(maps_, CpuRows(1), secret())};
    Memory memory_;
    Changes changes_;
    Ports ports_{&memory_, true, &changes_};
    Binder binder_{&memory_, &ports_};
    Flows flows_{&table_, &ports_, &binder_, &changes_};
};

std::vector<std::byte> from_hex(const std::string &digits) {
    std::vector<std::byte> bytes;
    for (size_t i = 0; i + 1 < digits.size(); i += 2) {
        bytes.push_back(static_cast<std::byte>(
            std::stoul(digits.substr(i, 2), nullptr, 16)));
    }
    return bytes;
}

// Behind a tab at the end is an empty field.
Fields split(const std::string &line) {
    Fields fields;
    std::istringstream in(line + '\t');
    for (std::string field; std::getline(in, field, '\t');) {
        fields.push_back(field);
    }
    return fields;
}

nlohmann::json meanings(const std::set<std::string> &names) {
    auto all = nlohmann::json::object();
    for (auto &name : names) {
        if (const auto *reason = find_reason(name)) {
            all[name] = {{"meaning", reason->meaning},
                         {"remedy", reason->remedy}};
        }
    }
    return all;
}

}  // namespace

nlohmann::json judge_flows(std::istream &in, const std::string &type) {
    const auto rehearsal = std::make_unique<Rehearsal>(type == "system");
    std::vector<std::string> verdicts;
    std::set<std::string> names;
    for (std::string line; std::getline(in, line);) {
        const auto f = split(line);
        if (f.size() == 3 && f[0] == "port") {
            rehearsal->add_port(
                OdpPort{static_cast<uint32_t>(std::stoul(f[1]))}, f[2]);
        } else if (f.size() == 4 && f[0] == "flow") {
            const auto r =
                rehearsal->put(from_hex(f[1]), from_hex(f[2]), from_hex(f[3]));
            verdicts.push_back(r ? r.name() : "");
            names.insert(verdicts.back());
        } else {
            throw std::invalid_argument("no port and no flow: " + line);
        }
    }
    return {{"flows", verdicts},
            {"reasons", meanings(names)},
            {"masks", rehearsal->n_masks()},
            {"max_masks", XF_MAX_MASKS},
            {"max_flows", Settings{}.max_flows}};
}

}  // namespace flowxlate::advise
