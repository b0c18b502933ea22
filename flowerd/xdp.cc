// SPDX-License-Identifier: Apache-2.0
#include "flowerd/xdp.h"

#include <sys/eventfd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <regex>
#include <set>
#include <span>

#include "flowxlate/base/resource.h"
#include "flowxlate/front/flowxlate.h"
#include "flowxlate/kernel/features.h"

namespace flowerd {
namespace {

constexpr const char *kDatapath = "tc";
constexpr uint32_t kTags = 2;  // That are looked behind.

// What the host's functions have: see xdp.h.
struct Registry {
    std::mutex mutex;
    std::set<uint32_t> ports;
    flowxlate::Fd event{eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};

    void wake() const { (void)eventfd_write(event.get(), 1); }
};

Registry &registry() {
    static Registry r;
    return r;
}

// Datapath port numbers are device indexes.
int port_ifindex(const char *, uint32_t port) {
    std::lock_guard lock(registry().mutex);
    return registry().ports.contains(port) ? static_cast<int>(port) : -1;
}

// The library speaks of OVS as of who has what it does not execute.
void log_line(ovs_offload_log_level level, const char *line) {
    if (level >= OVS_OFFLOAD_LOG_INFO) {
        static const std::regex ovs("\\bOVS\\b");
        std::fprintf(stderr, "xdp-flowerd: xdp: %s\n",
                     std::regex_replace(line, ovs, "TC").c_str());
    }
}

constexpr ovs_offload_host kHost = [] {
    ovs_offload_host h{};
    h.size = sizeof h;
    h.abi = OVS_OFFLOAD_ABI;
    h.ovs_version = "TC";
    h.log = log_line;
    h.port_ifindex = port_ifindex;
    h.flows_lost = [] { registry().wake(); };
    h.offer_again = [] { registry().wake(); };
    h.handles_misses = [] { return true; };
    h.copies_ready = [] {};
    h.has_rules = [] { return true; };
    h.is_enabled = [] { return true; };
    h.has_port = [](const char *, const char *) { return false; };
    h.compose = [](const char *, uint8_t **, size_t *) {
        return strdup("only OVS makes packets of flows");
    };
    return h;
}();

const ovs_offload_ops &ops() { return *flowxlate_ops(); }

void add(const ovs_offload_stats &from, Stats *to) {
    to->packets += from.n_packets;
    to->bytes += from.n_bytes;
}

}  // namespace

Failure Xdp::open(const Options &options, std::unique_ptr<Xdp> *out) {
    std::vector<ovs_offload_option> given;
    for (const auto &[key, value] : options) {
        given.push_back({key.c_str(), value.c_str()});
    }
    // What is kept in this namespace is ovs-vswitchd's, which may be away.
    given.push_back({"xdp-offload-persist", "false"});
    given.push_back({"xdp-offload-inherit", "false"});
    std::unique_ptr<Xdp> xdp(new Xdp);
    flowxlate::KernelFeatures kernel;
    xdp->can_track_ =
        !flowxlate::KernelFeatures::probe(&kernel) && kernel.has_ct_zones();
    if (!registry().event) {
        return flowxlate::failure(errno, "cannot make an eventfd");
    }
    if (int error =
            ops().init(&kHost, given.data(), given.size(), &xdp->self_)) {
        return flowxlate::failure(error, "cannot set XDP up");
    }
    *out = std::move(xdp);
    return {};
}

Xdp::~Xdp() {
    while (!ports_.empty()) {
        remove_port(ports_.begin()->first);
    }
}

Failure Xdp::add_port(Ifindex ifindex, const std::string &name) {
    ovs_offload_port port{};
    port.size = sizeof port;
    port.ifindex = index(ifindex);
    port.name = name.c_str();
    port.netdev_type = "system";
    port.dpif_type = kDatapath;
    void *handle = nullptr;
    if (int error = ops().port_add(self_, &port, &handle)) {
        return flowxlate::failure(error, name + ": no XDP program");
    }
    ports_[ifindex] = handle;
    std::lock_guard lock(registry().mutex);
    registry().ports.insert(index(ifindex));
    return {};
}

void Xdp::remove_port(Ifindex ifindex) {
    const auto port = ports_.find(ifindex);
    if (port == ports_.end()) {
        return;
    }
    {
        std::lock_guard lock(registry().mutex);
        registry().ports.erase(index(ifindex));
    }
    ops().port_del(self_, port->second);
    ports_.erase(port);
}

int Xdp::put(const Ufid &ufid, const Rule &rule) {
    ovs_offload_flow flow{};
    flow.size = sizeof flow;
    flow.ufid = ufid.bytes.data();
    flow.dpif_type = kDatapath;
    flow.key = rule.key.data();
    flow.key_len = rule.key.size();
    flow.mask = rule.mask.data();
    flow.mask_len = rule.mask.size();
    flow.actions = rule.actions.data();
    flow.actions_len = rule.actions.size();
    flow.vlan_limit = kTags;
    flow.has_twin = true;  // TC's filter.
    return ops().flow_put(self_, &flow);
}

void Xdp::del(const Ufid &ufid, Stats *stats) {
    ovs_offload_stats remaining{};
    if (!ops().flow_del(self_, ufid.bytes.data(), &remaining)) {
        add(remaining, stats);
    }
}

bool Xdp::take(const Ufid &ufid, Stats *stats) {
    ovs_offload_stats delta{};
    const int error = ops().flow_take(self_, ufid.bytes.data(), &delta);
    if (error != ENOENT) {
        add(delta, stats);
    }
    return !error;
}

bool Xdp::wants(const Ufid &ufid) {
    return ops().flow_wanted(self_, ufid.bytes.data());
}

int Xdp::event_fd() const { return registry().event.get(); }

void Xdp::clear_event() {
    eventfd_t n;
    (void)eventfd_read(event_fd(), &n);
}

std::vector<Xdp::Command> Xdp::commands() {
    std::vector<Command> all;
    for (const auto &c : std::span(ops().commands, ops().n_commands)) {
        all.push_back({c.name, c.usage, static_cast<size_t>(c.min_args),
                       static_cast<size_t>(c.max_args)});
    }
    return all;
}

std::string Xdp::tell(const std::string &command,
                      const std::vector<std::string> &args) {
    std::vector<const char *> argv{command.c_str()};
    for (const std::string &arg : args) {
        argv.push_back(arg.c_str());
    }
    for (const auto &c : std::span(ops().commands, ops().n_commands)) {
        if (command == c.name) {
            const std::unique_ptr<char, decltype(&std::free)> text(
                c.run(self_, static_cast<int>(argv.size()), argv.data()),
                &std::free);
            return text ? text.get() : "";
        }
    }
    return "";
}

}  // namespace flowerd
