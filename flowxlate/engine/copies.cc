// SPDX-License-Identifier: Apache-2.0
#include "engine/copies.h"

#include <linux/if_ether.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace flowxlate {
namespace {

// More than OVS handles while it is busy with others would be old.
constexpr size_t kMaxCopies = 4096;
constexpr auto kCopyInterval = std::chrono::milliseconds(250);

// What a program writes is not trusted: it may be another's, that has got hold
// of the map.
bool is_plausible(const xf_copy &copy) {
    constexpr uint32_t kMaxFrame = 65535;
    return copy.in_port < XF_MAX_PORTS && copy.frame_len >= ETH_HLEN
        && copy.frame_len <= kMaxFrame;
}

}  // namespace

// A connection's packets would all be copied until it has a flow, which it may
// never get.
bool Copies::was_copied_lately(const xf_copy &copy) {
    const auto now = std::chrono::steady_clock::now();
    if (now >= forget_copied_) {
        copied_.clear();
        forget_copied_ = now + kCopyInterval;
    }
    return !copied_.insert(copy.hash ^ copy.in_port).second;
}

void Copies::leave_out_repeated(std::vector<xf_copy> *copies) {
    std::erase_if(*copies, [&](const xf_copy &copy) REQUIRES(worker_role) {
        return was_copied_lately(copy);
    });
}

void Copies::add(const std::vector<xf_copy> &copies) {
    for (const xf_copy &copy : copies) {
        if (is_plausible(copy) && core_.ports.at(PortSlot{copy.in_port})
            && waiting_.size() < kMaxCopies) {
            waiting_.push_back(copy);
        }
    }
}

void Copies::drop_of(const Port &port) {
    std::erase_if(waiting_, [&](const xf_copy &copy) {
        return copy.in_port == index(port.slot);
    });
}

int Copies::take(std::string_view dpif_type, ovs_offload_copy *out) {
    const bool of_kernel = dpif_type == kKernelDatapath;
    StateLock lock(core_);
    const auto it = std::ranges::find_if(
        waiting_, [&](const xf_copy &copy) REQUIRES(state_lock) {
            return core_.ports.at(PortSlot{copy.in_port})->in_kernel_datapath
                == of_kernel;
        });
    if (it == waiting_.end()) {
        return ENOENT;
    }
    out->ifindex = index(core_.ports.at(PortSlot{it->in_port})->ifindex);
    out->frame_len = it->frame_len;
    out->data_len = std::min<uint32_t>(it->frame_len, sizeof it->data);
    std::memcpy(out->data, it->data, out->data_len);
    waiting_.erase(it);
    return 0;
}

}  // namespace flowxlate
