// SPDX-License-Identifier: Apache-2.0
#include "kernel/shared_program.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <cerrno>
#include <utility>

#include "bpf/abi/handover.h"
#include "kernel/loaded.h"
#include "kernel/pins.h"
#include "skb_offload.skel.h"
#include "skb_port.skel.h"
#include "xdp_offload.skel.h"
#include "xdp_port.skel.h"

namespace flowxlate {
namespace {

// Loads the small program of either hook: their skeletons have the same
// members.
template <typename S, typename Ptr>
Failure load_small(Ifindex ifindex, int shared_fd, Ptr *out) {
    Ptr s(S::open());
    if (!s) {
        return failure(errno, "cannot open the program");
    }
    s->rodata->xf_device = index(ifindex);
    int error = bpf_map__reuse_fd(s->maps.xf_shared, shared_fd);
    if (!error) {
        error = S::load(s.get());
    }
    if (error) {
        return failure(error, "cannot load the port's program");
    }
    *out = std::move(s);
    return {};
}

// Has a program that is not loaded yet see samples, if there is an 'xf_next'
// to take them from.
template <typename S>
Failure share_next(int next_fd, S *skeleton) {
    if (next_fd < 0) {
        return {};
    }
    bpf_program__set_autoload(skeleton->progs.xf_sample, true);
    const int error = bpf_map__reuse_fd(skeleton->maps.xf_takeover, next_fd);
    return error ? failure(error, "cannot share the BPF maps") : Failure{};
}

}  // namespace

void PortProgram::Deleter::operator()(xdp_port_bpf *s) const {
    xdp_port_bpf::destroy(s);
}

void PortProgram::Deleter::operator()(skb_port_bpf *s) const {
    skb_port_bpf::destroy(s);
}

Failure PortProgram::load(bool at_tc, Ifindex ifindex, int shared_fd,
                          PortProgram *out) {
    return at_tc ? load_small<skb_port_bpf>(ifindex, shared_fd, &out->skb_)
                 : load_small<xdp_port_bpf>(ifindex, shared_fd, &out->xdp_);
}

int PortProgram::fd() const {
    return skb_ ? bpf_program__fd(skb_->progs.xf_skb)
                : bpf_program__fd(xdp_->progs.xsk_def_prog);
}

Failure load_program(const BpfMaps &maps, const PortConstants &constants,
                     int sockets_fd, int next_fd, Skeleton *out) {
    if (auto f = maps.open_port(constants, sockets_fd, out)) {
        return f;
    }
    if (auto f = share_next(next_fd, out->get())) {
        return f;
    }
    const int error = xdp_offload_bpf::load(out->get());
    return error ? failure(error, "cannot load the XDP program") : Failure{};
}

Failure load_program(const BpfMaps &maps, const PortConstants &constants,
                     int next_fd, SkbSkeleton *out) {
    if (auto f = maps.open_skb(constants, out)) {
        return f;
    }
    if (auto f = share_next(next_fd, out->get())) {
        return f;
    }
    const int error = skb_offload_bpf::load(out->get());
    return error ? failure(error, "cannot load the program for TC's ingress")
                 : Failure{};
}

Failure SharedProgram::load(const BpfMaps &maps, const SharedKind &kind,
                            int next_fd, std::shared_ptr<SharedProgram> *out) {
    auto p = std::make_shared<SharedProgram>(maps);
    const PortConstants constants{{}, kind.tx_flag, kind.traits};
    if (auto f = kind.at_tc()
                   ? load_program(maps, constants, next_fd, &p->skb_)
                   : load_program(maps, constants, -1, next_fd, &p->xdp_)) {
        return f;
    }
    const uint32_t key = XF_SHARED_MAIN;
    const int main = p->main_fd();
    p->array_ = Fd(bpf_map_create(BPF_MAP_TYPE_PROG_ARRAY, kSharedMapName, 4,
                                  4, XF_N_SHARED, nullptr));
    if (!p->array_
        || bpf_map_update_elem(p->array_.get(), &key, &main, BPF_ANY)) {
        return failure(errno, "cannot share the program");
    }
    *out = std::move(p);
    return {};
}

// The maps by which the next process, of whatever release, knows the small
// program for one of ours.
Failure SharedProgram::load_port(Ifindex ifindex, PortProgram *out) const {
    if (auto f = PortProgram::load(static_cast<bool>(skb_), ifindex,
                                   array_.get(), out)) {
        return f;
    }
    for (const char *name : {kFlowMapName, kCpuMapName, kConnMapName,
                             kConnUseMapName, kZoneMapName}) {
        if (bpf_prog_bind_map(out->fd(), maps_.fd_of(name), nullptr)) {
            return failure(errno, "cannot name the port's maps");
        }
    }
    return {};
}

int SharedProgram::main_fd() const {
    return skb_ ? bpf_program__fd(skb_->progs.xf_skb)
                : bpf_program__fd(xdp_->progs.xsk_def_prog);
}

int SharedProgram::sample_fd() const {
    return bpf_program__fd(skb_ ? skb_->progs.xf_sample
                                : xdp_->progs.xf_sample);
}

Failure SharedProgram::keep(const Pins &pins) {
    MutexLock lock(mutex_);
    if (n_kept_ == 0) {
        if (auto f = pins.keep_shared(array_)) {
            return f;
        }
    }
    n_kept_++;
    return {};
}

void SharedProgram::forget(const Pins &pins) {
    MutexLock lock(mutex_);
    if (--n_kept_ == 0) {
        pins.forget_shared(array_);
    }
}

Failure SharedPrograms::find(const SharedKind &kind, int next_fd,
                             std::shared_ptr<SharedProgram> *out) {
    MutexLock lock(mutex_);
    auto &known = programs_[kind];
    *out = known.lock();
    if (*out) {
        return {};
    }
    auto f = SharedProgram::load(maps_, kind, next_fd, out);
    known = *out;
    return f;
}

}  // namespace flowxlate
