// SPDX-License-Identifier: Apache-2.0
// The C face of flowxlate: struct ovs_offload_ops on top of class Offload,
// and what its commands print.
//
// No exception leaves this file.  There is no global state: init() makes an
// instance, which the host hands back with every call.
#include <algorithm>
#include <bit>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <string_view>
#include <utility>

#include "bpf/abi/capture.h"
#include "engine/offload.h"
#include "front/flowxlate.h"
#include "report/report.h"

namespace flowxlate {
namespace {

constexpr uint32_t kMaxCaptureRingKib = 1 << 20;

// What is only as long as an older host's cannot be used.
template <typename T>
bool is_complete(const T *t) {
    return t && t->size >= sizeof *t;
}

// What the host hands back.
struct Instance {
    explicit Instance(std::unique_ptr<Offload> o)
        : offload(std::move(o)), report(offload->sources()) {}

    const std::unique_ptr<Offload> offload;
    Report report;
};

Offload &self_of(void *self) {
    return *static_cast<Instance *>(self)->offload;
}
Report &report_of(void *self) { return static_cast<Instance *>(self)->report; }
Port *port_of(void *port) { return static_cast<Port *>(port); }

template <typename Fn>
int guarded(Fn fn) noexcept {
    try {
        return fn();
    } catch (const std::bad_alloc &) {
        return ENOMEM;
    } catch (const std::exception &) {
        return EINVAL;
    }
}

int init(const ovs_offload_host *host, const ovs_offload_option *options,
         size_t n_options, void **selfp) {
    if (!host || host->size < Host::kMinSize || host->abi != OVS_OFFLOAD_ABI) {
        return EPROTO;
    }
    return guarded([&] {
        std::unique_ptr<Offload> offload;
        if (auto f = Offload::create(*host, {options, n_options}, &offload)) {
            host->log(OVS_OFFLOAD_LOG_ERR, f.message.c_str());
            return f.error;
        }
        // For the life of the process.
        *selfp = std::make_unique<Instance>(std::move(offload)).release();
        return 0;
    });
}

int port_add(void *self, const ovs_offload_port *port, void **portp) {
    // Of an older host, which leaves out no port.
    if (!port || port->size < offsetof(ovs_offload_port, left_out)) {
        return EPROTO;
    }
    return guarded([&] {
        Port *added = nullptr;
        const int error = self_of(self).port_add(*port, &added);
        *portp = added;
        return error;
    });
}

void port_del(void *self, void *port) {
    guarded([&] {
        self_of(self).port_del(port_of(port));
        return 0;
    });
}

void port_set_left_out(void *self, void *port, bool left_out) {
    guarded([&] {
        self_of(self).port_set_left_out(port_of(port), left_out);
        return 0;
    });
}

int flow_put(void *self, const ovs_offload_flow *flow) {
    // Of an older host: what came with tunnels is not there.
    if (!flow || flow->size < offsetof(ovs_offload_flow, tunnel_port_min)) {
        return EPROTO;
    }
    return guarded([&] { return self_of(self).flow_put(*flow); });
}

int flow_del(void *self, const uint8_t *ufid, ovs_offload_stats *remaining) {
    return guarded(
        [&] { return self_of(self).flow_del(Ufid::from(ufid), remaining); });
}

int flow_stats(void *self, const uint8_t *ufid, ovs_offload_stats *stats) {
    return guarded(
        [&] { return self_of(self).flow_stats(Ufid::from(ufid), stats); });
}

int flow_take(void *self, const uint8_t *ufid, ovs_offload_stats *delta) {
    return guarded(
        [&] { return self_of(self).flow_take(Ufid::from(ufid), delta); });
}

int flow_flush(void *self, void *port) {
    return guarded([&] { return self_of(self).flow_flush(port_of(port)); });
}

uint64_t n_flows(void *self, void *port) {
    return self_of(self).n_flows(port_of(port));  // Needs no memory.
}

void leave(void *self) { self_of(self).leave(); }

int take_copy(void *self, const char *dpif_type, ovs_offload_copy *copy) {
    if (!is_complete(copy)) {
        return EPROTO;
    }
    return guarded([&] { return self_of(self).take_copy(dpif_type, copy); });
}

bool flow_wanted(void *self, const uint8_t *ufid) {
    bool wanted = false;  // Without memory for it, OVS keeps it.
    (void)guarded([&] {
        wanted = self_of(self).flow_wanted(Ufid::from(ufid));
        return 0;
    });
    return wanted;
}

ConnTable &connections_of(void *self) { return self_of(self).connections(); }

int ct_open(void *self, const ovs_offload_ct_settings *settings) {
    if (!is_complete(settings)) {
        return EPROTO;
    }
    return guarded([&] { return connections_of(self).open(*settings); });
}

void ct_close(void *self) {
    if (!self_of(self).is_leaving()) {
        connections_of(self).close();
    }
}

void ct_settings(void *self, const ovs_offload_ct_settings *settings) {
    if (is_complete(settings)) {
        connections_of(self).set(*settings);
    }
}

int ct_put(void *self, const ovs_offload_ct *ct, uint64_t *handle) {
    // Of an older host: what came with ct_restore() is not there.
    if (!ct || ct->size < offsetof(ovs_offload_ct, origin)) {
        return EPROTO;
    }
    ovs_offload_ct c{};
    std::memcpy(&c, ct, std::min<size_t>(ct->size, sizeof c));
    return guarded([&] { return connections_of(self).put(c, handle); });
}

void ct_del(void *self, uint64_t handle) { connections_of(self).del(handle); }

bool ct_use(void *self, uint64_t handle, ovs_offload_ct_use *use) {
    return is_complete(use) && connections_of(self).use(handle, use);
}

bool ct_restore(void *self, ovs_offload_ct *ct) {
    return is_complete(ct) && !guarded([&] {
               return self_of(self).restore_connection(ct) ? 0 : ENOENT;
           });
}

template <typename Fn>
char *reply_of(Fn fn) {
    char *reply = nullptr;
    guarded([&] {
        reply = strdup(fn().c_str());
        return 0;
    });
    return reply;
}

char *port_status(void *self, const char *name, const char **mode) {
    char *reason =
        reply_of([=] { return self_of(self).port_status(name, mode); });
    if (reason && !*reason) {
        std::free(reason);
        reason = nullptr;
    }
    return reason;
}

void options_changed(void *self, const ovs_offload_option *options,
                     size_t n_options) {
    guarded([&] {
        self_of(self).options_changed({options, n_options});
        return 0;
    });
}

char *status(void *self, int, const char **) {
    return reply_of([=] { return report_of(self).status(); });
}

char *show(void *self, int, const char **) {
    return reply_of([=] { return report_of(self).show(); });
}

char *stats(void *self, int, const char **) {
    return reply_of([=] { return report_of(self).stats(); });
}

char *top_flows(void *self, int argc, const char *argv[]) {
    return reply_of([=]() -> std::string {
        const std::string_view n = argv[1];
        const std::string_view by = argc > 2 ? argv[2] : "packets";
        size_t count;
        auto [end, error] =
            std::from_chars(n.data(), n.data() + n.size(), count);
        if (error != std::errc{} || end != n.data() + n.size()
            || count > kMaxTopFlows) {
            return "N is a number up to " + std::to_string(kMaxTopFlows)
                 + "\n";
        }
        if (by != "packets" && by != "bytes") {
            return "flows are sorted by packets or bytes\n";
        }
        return report_of(self).top_flows(
            count, by == "bytes" ? Order::kByBytes : Order::kByPackets);
    });
}

char *rejects(void *self, int, const char **) {
    return reply_of([=] { return report_of(self).rejects(); });
}

char *explain(void *self, int argc, const char *argv[]) {
    return reply_of(
        [=] { return report_of(self).explain(argc > 1 ? argv[1] : ""); });
}

char *trace(void *self, int, const char *argv[]) {
    return reply_of([=] { return report_of(self).trace(argv[1], argv[2]); });
}

char *connections(void *self, int argc, const char *argv[]) {
    return reply_of(
        [=] { return report_of(self).connections(argc > 1 ? argv[1] : ""); });
}

// Reads one of the numbers of xdp-offload/capture, if it is there.
bool parse_size(int argc, const char *argv[], int i, uint32_t max,
                uint32_t *size) {
    if (i >= argc) {
        return true;
    }
    const std::string_view n = argv[i];
    const auto [end, error] =
        std::from_chars(n.data(), n.data() + n.size(), *size);
    return error == std::errc{} && end == n.data() + n.size() && *size
        && *size <= max;
}

char *capture(void *self, int argc, const char *argv[]) {
    return reply_of([=]() -> std::string {
        const std::string port = argv[1];
        const std::string_view what = argc > 2 ? argv[2] : "";
        if (what == "off" && argc == 3) {
            return self_of(self).end_capture(port);
        }
        CaptureSizes sizes;
        uint32_t ring_kib = sizes.ring / 1024;
        if (what != "on"
            || !parse_size(argc, argv, 3, XF_MAX_CAPTURE, &sizes.packet)
            || !parse_size(argc, argv, 4, kMaxCaptureRingKib, &ring_kib)) {
            return "PORT off, or PORT on, then up to "
                 + std::to_string(XF_MAX_CAPTURE)
                 + " bytes of each packet, and a ring of up to "
                 + std::to_string(kMaxCaptureRingKib) + " KiB\n";
        }
        sizes.packet = std::max<uint32_t>(sizes.packet, XF_MIN_CAPTURE);
        sizes.ring = 1024 * std::max(4U, std::bit_ceil(ring_kib));
        return self_of(self).begin_capture(port, sizes);
    });
}

constexpr ovs_offload_command kCommands[] = {
    {"xdp-offload/status", "", 0, 0, status},
    {"xdp-offload/show", "", 0, 0, show},
    {"xdp-offload/stats", "", 0, 0, stats},
    {"xdp-offload/top-flows", "N [packets|bytes]", 1, 2, top_flows},
    {"xdp-offload/rejects", "", 0, 0, rejects},
    {"xdp-offload/explain", "[REASON|PORT|UFID]", 0, 1, explain},
    {"xdp-offload/trace", "PORT FLOW|HEX", 2, 2, trace},
    {"xdp-offload/connections", "[zone=N]", 0, 1, connections},
    {"xdp-offload/capture", "PORT on|off [BYTES [RING_KIB]]", 2, 4, capture},
};

constexpr ovs_offload_ops kOps = {
    .size = sizeof(ovs_offload_ops),
    .abi = OVS_OFFLOAD_ABI,
    .type = "xdp",
    .init = init,
    .port_add = port_add,
    .port_del = port_del,
    .flow_put = flow_put,
    .flow_del = flow_del,
    .flow_stats = flow_stats,
    .flow_take = flow_take,
    .flow_flush = flow_flush,
    .n_flows = n_flows,
    .leave = leave,
    .commands = kCommands,
    .n_commands = std::size(kCommands),
    .take_copy = take_copy,
    .flow_wanted = flow_wanted,
    .ct_open = ct_open,
    .ct_close = ct_close,
    .ct_settings = ct_settings,
    .ct_put = ct_put,
    .ct_del = ct_del,
    .ct_use = ct_use,
    .port_set_left_out = port_set_left_out,
    .port_status = port_status,
    .options_changed = options_changed,
    .ct_restore = ct_restore,
};

}  // namespace
}  // namespace flowxlate

const ovs_offload_ops *flowxlate_ops(void) { return &flowxlate::kOps; }
const ovs_offload_ops *ovs_offload_plugin_get(void) {
    return &flowxlate::kOps;
}
