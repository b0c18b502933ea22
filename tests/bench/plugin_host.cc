// SPDX-License-Identifier: Apache-2.0
#include "plugin_host.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <net/if.h>

#include <chrono>
#include <cstdio>
#include <memory>
#include <stdexcept>
#include <thread>

namespace flowxlate::bench {
namespace {

using namespace std::chrono_literals;

void shell(const std::string &script) {
    struct Closer {
        void operator()(FILE *f) const { pclose(f); }
    };
    std::unique_ptr<FILE, Closer> sh(popen("sh -e", "w"));
    if (!sh) {
        fail("sh");
    }
    std::fputs(script.c_str(), sh.get());
    if (pclose(sh.release())) {
        throw std::runtime_error(
            "cannot create the veths (needs ip, ethtool)");
    }
}

void host_log(ovs_offload_log_level level, const char *line) {
    if (level >= OVS_OFFLOAD_LOG_WARN) {
        std::fprintf(stderr, "plugin: %s\n", line);
    }
}

// Datapath port numbers are device indexes here.
void host_nothing() {}

int host_port_ifindex(const char *, uint32_t odp_port) {
    return static_cast<int>(odp_port);
}

constexpr ovs_offload_host kHost = [] {
    ovs_offload_host h{};
    h.size = sizeof h;
    h.abi = OVS_OFFLOAD_ABI;
    h.ovs_version = "3.1.0";
    h.log = host_log;
    h.port_ifindex = host_port_ifindex;
    h.flows_lost = host_nothing;
    h.offer_again = host_nothing;
    h.handles_misses = [] { return true; };
    h.copies_ready = host_nothing;
    h.has_rules = [] { return true; };
    h.is_enabled = [] { return true; };
    return h;
}();

}  // namespace

void fail(const std::string &what, int error) {
    throw std::runtime_error(what + ": " + std::strerror(error));
}

// -- Devices ----------------------------------------------------------------

void make_links(const std::string &prefix, int n) {
    std::string script;
    for (int i = 0; i < n; i++) {
        const auto port = prefix + std::to_string(i), peer = port + "p";
        script += "ip link add " + port + " type veth peer name " + peer
                + "\nethtool -K " + peer + " gro on\nip link set " + peer
                + " up\nip link set " + port + " up\n";
    }
    shell(script);
}

Fd attach(int program, const char *device) {
    Fd link(
        bpf_link_create(program, if_nametoindex(device), BPF_XDP, nullptr));
    if (!link) {
        fail(std::string("cannot attach to ") + device);
    }
    return link;
}

// -- The plugin -------------------------------------------------------------

Plugin::Plugin(const Config &config) {
    std::vector<ovs_offload_option> options;
    for (auto &[key, value] : config) {
        options.push_back({key.c_str(), value.c_str()});
    }
    if (int error =
            ops().init(&kHost, options.data(), options.size(), &self_)) {
        fail("the plugin's init", error);
    }
}

PluginPort::PluginPort(Plugin *plugin, const std::string &device,
                       const char *type, const char *datapath)
    : plugin_(plugin), ifindex_(if_nametoindex(device.c_str())) {
    ovs_offload_port port{};
    port.size = sizeof port;
    port.ifindex = ifindex_;
    port.name = device.c_str();
    port.netdev_type = type;
    port.dpif_type = datapath;
    if (int error = plugin->ops().port_add(plugin->self(), &port, &handle_)) {
        fail("port_add", error);
    }
}

PluginPort::~PluginPort() {
    plugin_->ops().port_del(plugin_->self(), handle_);
}

Fd PluginPort::program() const {
    uint32_t id = 0;
    if (int error = bpf_xdp_query_id(ifindex_, 0, &id)) {
        fail("cannot ask for the device's program", -error);
    }
    Fd fd(bpf_prog_get_fd_by_id(id));
    if (!fd) {
        fail("cannot open the device's program");
    }
    return fd;
}

void wait_until_in_fast_path(Plugin *plugin, uint32_t flow) {
    const auto deadline = std::chrono::steady_clock::now() + 5s;
    while (!plugin->in_fast_path(flow)) {
        if (std::chrono::steady_clock::now() > deadline) {
            throw std::runtime_error("a port does not take redirected frames");
        }
        std::this_thread::sleep_for(10ms);
    }
}

}  // namespace flowxlate::bench
