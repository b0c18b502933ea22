// SPDX-License-Identifier: Apache-2.0
#include "engine/offload.h"

#include <sys/eventfd.h>

#include <cerrno>
#include <utility>

#include "kernel/realtime.h"

namespace flowxlate {
namespace {

// What ovs_offload_host's symmetric_l4_probe is if OVS hashes as
// bpf/packet/dp_hash.h does.
constexpr uint32_t kSymmetricL4Probe = 0x78a08770;

}  // namespace

// -- Setting up -------------------------------------------------------------

Failure Offload::create(const ovs_offload_host &host,
                        std::span<const ovs_offload_option> options,
                        std::unique_ptr<Offload> *out) {
    Settings settings;
    for (auto &option : options) {
        if (auto r = settings.set(option)) {
            Host(host).notify.log(OVS_OFFLOAD_LOG_WARN,
                                  refused_in_words(option, r));
        }
    }
    std::unique_ptr<Offload> o(new Offload(host, settings));
    o->options_changed(options);
    auto f = o->init();
    if (!f) {
        *out = std::move(o);
    }
    return f;
}

Offload::Offload(const ovs_offload_host &host, const Settings &settings)
    : core_(host, settings),
      flows_(core_, takeover_, evictor_, comeback_,
             host.symmetric_l4_probe == kSymmetricL4Probe) {}

Failure Offload::init() {
    if (auto why = why_programs_overlap(); !why.empty()) {
        return {ENOTSUP, why};
    }
    if (auto f = KernelFeatures::probe(&core_.kernel)) {
        return f;
    }
    if (auto f = core_.devices.open(core_.kernel)) {
        return f;
    }
    if (auto f = shaping_watch_.open()) {
        return f;
    }
    if (auto f = core_.maps.create(
            {.max_flows = core_.settings.max_flows,
             .max_connections = core_.settings.max_connections,
             .memory = uint64_t{core_.settings.max_memory_mib} << 20})) {
        return f;
    }
    if (auto f = core_.clock.open()) {
        return f;
    }
    loss_watch_.open();
    core_.table = std::make_unique<FlowTable>(core_.maps.tables());
    core_.connections = std::make_unique<ConnTable>(core_.maps.connections());
    core_.flows = std::make_unique<Flows>(core_.table.get(), &core_.ports,
                                          &core_.binder, &core_.changes);
    core_.reclaimer =
        std::make_unique<Reclaimer>(core_.table.get(), &core_.ports,
                                    &core_.binder, core_.connections.get());
    core_.wake_fd = Fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!core_.wake_fd) {
        return failure(errno, "eventfd");
    }
    takeover_.open();
    worker_.start();
    return {};
}

void Offload::options_changed(std::span<const ovs_offload_option> options) {
    StateLock lock(core_);
    core_.options_now.clear();
    for (auto &option : options) {
        core_.options_now.emplace_back(option.key, option.value);
    }
    hooks_.follow(options);
    core_.changes.wakes_worker = true;
}

}  // namespace flowxlate
