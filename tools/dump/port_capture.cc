// SPDX-License-Identifier: Apache-2.0
#include "port_capture.h"
#include "bpf/abi/capture.h"
#include "bpf/abi/counters.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>
#include <time.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "appctl.h"
#include "flowxlate/kernel/capture.h"
#include "flowxlate/kernel/loaded.h"

namespace flowxlate {
namespace {

constexpr const char *kCommand = "xdp-offload/capture";
// Then the lease may have to be renewed.
constexpr size_t kAtOnce = 4096;

int64_t ns_of(clockid_t clock) {
    timespec t{};
    clock_gettime(clock, &t);
    return t.tv_sec * int64_t{1'000'000'000} + t.tv_nsec;
}

// Reads a T at '*at', which moves on; false if there is none.
template <typename T>
bool read_one(std::span<const uint8_t> from, size_t *at, T *out) {
    if (*at > from.size() || from.size() - *at < sizeof *out) {
        return false;
    }
    std::memcpy(out, from.data() + *at, sizeof *out);
    *at += sizeof *out;
    return true;
}

uint32_t entries_of(const Fd &map) {
    bpf_map_info info{};
    uint32_t len = sizeof info;
    return bpf_obj_get_info_by_fd(map.get(), &info, &len) ? 0
                                                          : info.max_entries;
}

}  // namespace

std::string Packet::verdict() const {
    static constexpr const char *kNames[] = {XF_MISS_NAMES};
    if (is_passed()) {
        const uint32_t miss = -1 - action;
        return std::string("passed to OVS: ")
             + (miss < std::size(kNames) ? kNames[miss] : "not known why");
    }
    if (action == XDP_DROP) {
        return "dropped";
    }
    std::string text = "redirected to ";
    for (auto &port : to) {
        text += (&port == to.data() ? "" : ",") + port;
    }
    return text;
}

void PortCapture::FreeRing::operator()(ring_buffer *r) const {
    ring_buffer__free(r);
}

PortCapture::~PortCapture() = default;

Failure PortCapture::begin(const std::string &target, const std::string &port,
                           uint32_t packet_bytes, uint32_t ring_kib,
                           std::unique_ptr<PortCapture> *out) {
    std::unique_ptr<PortCapture> c(new PortCapture);
    std::string reply;
    c->target_ = target;
    c->port_ = port;
    if (auto f = appctl(target,
                        {kCommand, port, "on", std::to_string(packet_bytes),
                         std::to_string(ring_kib)},
                        &reply)) {
        if (f.message.find("not a valid command") != std::string::npos) {
            f.message +=
                "Is the plugin loaded?  other_config:hw-offload=true and "
                "other_config:hw-offload-plugin=xdp load it.";
        }
        return f;
    }
    const auto ids = reply.find(": program ");
    if (ids == std::string::npos
        || std::sscanf(reply.c_str() + ids, ": program %u, link %u",
                       &c->program_, &c->link_)
               != 2) {
        return {EINVAL, reply};
    }
    if (auto f = c->open()) {
        (void)c->end();
        return f;
    }
    *out = std::move(c);
    return {};
}

Failure PortCapture::open() {
    const Fd program(bpf_prog_get_fd_by_id(program_));
    if (!program) {
        return failure(errno, "cannot open the program of " + port_);
    }
    auto maps = open_maps(program.get());
    ring_fd_ = std::move(maps["xf_captured"]);
    lease_ = Mapping(maps["xf_lease"].get(), sysconf(_SC_PAGESIZE));
    n_ports_ = entries_of(maps["xf_ports"]);
    ports_ = Mapping(maps["xf_ports"].get(), n_ports_ * sizeof(xf_port));
    if (!ring_fd_ || !lease_ || !ports_) {
        return failure(errno, "cannot map what the program of " + port_
                                  + " copies; is ovs-vswitchd's plugin of "
                                    "another version?");
    }
    ring_.reset(ring_buffer__new(ring_fd_.get(), take_record, this, nullptr));
    if (!ring_) {
        return failure(errno, "cannot map the ring of packets");
    }
    renew();
    return {};
}

void PortCapture::renew() {
    const int64_t now = ns_of(CLOCK_MONOTONIC);
    const int64_t until = now + Capture::kLease / std::chrono::nanoseconds(1);
    realtime_ = ns_of(CLOCK_REALTIME) - now;
    std::atomic_ref(lease_.as<xf_lease>(1)[0].until_ns)
        .store(until, std::memory_order_relaxed);
}

uint64_t PortCapture::n_lost() const {
    return std::atomic_ref(lease_.as<xf_lease>(1)[0].lost)
        .load(std::memory_order_relaxed);
}

// The link is opened only for as long: who has it open keeps it.
std::string PortCapture::why_over() const {
    bpf_link_info info{};
    uint32_t len = sizeof info;
    const Fd link(bpf_link_get_fd_by_id(link_));
    if (!link || bpf_obj_get_info_by_fd(link.get(), &info, &len)
        || !info.xdp.ifindex) {
        return port_ + " or its device is gone, or it was left out of XDP";
    }
    return info.prog_id == program_
             ? ""
             : "another program has taken the place on " + port_
                   + ", as when ovs-vswitchd has been restarted";
}

Failure PortCapture::end() {
    if (lease_) {  // Whatever becomes of the program: nothing more comes.
        std::atomic_ref(lease_.as<xf_lease>(1)[0].until_ns)
            .store(0, std::memory_order_relaxed);
    }
    if (!why_over().empty()) {
        return {};
    }
    std::string reply;
    return appctl(target_, {kCommand, port_, "off"}, &reply);
}

// Called by libbpf, C: nothing may throw.
int PortCapture::take_record(void *p, void *data, size_t size) noexcept {
    auto *self = static_cast<PortCapture *>(p);
    Packet packet;
    try {
        self->n_read_++;
        const std::span record(static_cast<const uint8_t *>(data), size);
        if (self->parse(record, &packet) && !(*self->take_)(packet)) {
            return -ECANCELED;
        }
    } catch (const std::exception &) {
        return -ENOMEM;
    }
    return self->n_read_ < kAtOnce ? 0 : -EAGAIN;
}

size_t PortCapture::read(const Take &take) {
    take_ = &take;
    n_read_ = 0;
    (void)ring_buffer__consume(ring_.get());
    return n_read_;
}

// False if it is none, as another version's would be.
bool PortCapture::parse(std::span<const uint8_t> record, Packet *p) const {
    xf_captured head;
    size_t at = 0;
    if (!read_one(record, &at, &head) || record.size() - at < head.len) {
        return false;
    }
    p->time_ns = static_cast<int64_t>(head.time_ns) + realtime_;
    p->frame_len = head.frame_len;
    p->data = record.subspan(at, head.len);
    p->action = head.action;
    p->queue = head.queue;
    at += (head.len + 7) & ~7U;
    for (int i = 0; i < head.n_flows; i++) {
        Ufid ufid;
        if (!read_one(record, &at, &ufid.bytes)) {
            return false;
        }
        p->flows.push_back(ufid);
    }
    xf_group group;
    if (head.verdict == XF_OUTPUT) {
        p->to.push_back(port_name(head.to));
    } else if (head.verdict == XF_GROUP && read_one(record, &at, &group)) {
        for (uint32_t i = 0; i < group.n_ports && i < XF_GROUP_PORTS; i++) {
            auto name = port_name(group.port[i]);
            if (name != port_ || group.keep_ingress) {
                p->to.push_back(std::move(name));
            }
        }
    }
    return true;
}

std::string PortCapture::port_name(uint32_t slot) const {
    if (slot >= n_ports_) {
        return "?";
    }
    const xf_port &port = ports_.as<xf_port>(n_ports_)[slot];
    return {port.name, strnlen(port.name, sizeof port.name)};
}

}  // namespace flowxlate
