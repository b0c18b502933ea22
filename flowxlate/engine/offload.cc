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
    : host_(host),
      settings_(settings),
      can_hash_(host.symmetric_l4_probe == kSymmetricL4Probe) {
    handover_.set_sampling(settings.handover);
}

Failure Offload::init() {
    if (auto why = why_programs_overlap(); !why.empty()) {
        return {ENOTSUP, why};
    }
    if (auto f = KernelFeatures::probe(&kernel_)) {
        return f;
    }
    if (auto f = devices_.open(kernel_)) {
        return f;
    }
    if (auto f = shaping_.open()) {
        return f;
    }
    if (auto f =
            maps_.create({.max_flows = settings_.max_flows,
                          .max_connections = settings_.max_connections})) {
        return f;
    }
    if (auto f = clock_.open()) {
        return f;
    }
    if (auto f = redirect_errors_.open(kernel_)) {
        why_losses_unknown_ = f.message;  // The offload does without.
        log(OVS_OFFLOAD_LOG_INFO,
            "it is not known whether redirected frames are lost: "
                + f.message);
    }
    table_ = std::make_unique<FlowTable>(maps_.tables());
    connections_ = std::make_unique<ConnTable>(maps_.connections());
    flows_ =
        std::make_unique<Flows>(table_.get(), &ports_, &binder_, &changes_);
    reclaimer_ = std::make_unique<Reclaimer>(table_.get(), &ports_, &binder_,
                                             connections_.get());
    wake_fd_ = Fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!wake_fd_) {
        return failure(errno, "eventfd");
    }
    open_pins();
    start_worker();
    return {};
}

Offload::~Offload() {
    if (worker_.joinable()) {
        {
            StateLock lock(this);
            stop_ = true;
        }
        wake_worker();
        worker_.join();
    }
}

Offload::StateLock::~StateLock() {
    const Changes changes = std::exchange(offload_.changes_, {});
    offload_.mutex_.unlock();
    offload_.tell(changes);
}

// What others wait for comes first: without memory, lines of the log may be
// missing, and nothing else.
void Offload::tell(const Changes &changes) noexcept {
    if (changes.wakes_worker) {
        wake_worker();
    }
    try {
        for (auto &line : changes.lines) {
            log(line.level, line.text);
        }
    } catch (const std::bad_alloc &) {
    }
    if (changes.flows_lost) {
        host_.notify.flows_lost();
    }
    if (changes.offer_again) {
        host_.notify.offer_again();
    }
}

void Offload::log(ovs_offload_log_level level, const std::string &line) const {
    host_.notify.log(level, line);
}

}  // namespace flowxlate
