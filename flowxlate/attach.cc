// SPDX-License-Identifier: Apache-2.0
#include "attach.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/if_link.h>
#include <xdp/libxdp.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "xdp_offload.skel.h"

namespace flowxlate {
namespace {

// The name of libxdp's AF_XDP program and of its map, and so of ours.
constexpr const char *kProgramName = "xsk_def_prog";
constexpr const char *kSocketMapName = "xsks_map";
constexpr const char *kSection = "xdp";

Failure failure(int error, const std::string &what) {
    error = std::abs(error);
    return {error, what + ": " + std::strerror(error)};
}

struct MultiprogCloser {
    void operator()(xdp_multiprog *mp) const { xdp_multiprog__close(mp); }
};
using Multiprog = std::unique_ptr<xdp_multiprog, MultiprogCloser>;

// What is on the device; null if nothing is.
Multiprog what_is_attached(Ifindex ifindex) {
    auto *mp = xdp_multiprog__get_from_ifindex(index(ifindex));
    return Multiprog(libxdp_get_error(mp) ? nullptr : mp);
}

// Returns the map of AF_XDP sockets of the program 'prog_fd', if it has one.
Fd find_socket_map(int prog_fd) {
    bpf_prog_info info{};
    uint32_t len = sizeof info;
    if (bpf_obj_get_info_by_fd(prog_fd, &info, &len)) {
        return {};
    }
    std::vector<uint32_t> ids(info.nr_map_ids);
    info = {};
    info.nr_map_ids = ids.size();
    info.map_ids = reinterpret_cast<uintptr_t>(ids.data());
    len = sizeof info;
    if (bpf_obj_get_info_by_fd(prog_fd, &info, &len)) {
        return {};
    }
    for (uint32_t id : ids) {
        Fd fd(bpf_map_get_fd_by_id(id));
        bpf_map_info map{};
        len = sizeof map;
        if (fd && !bpf_obj_get_info_by_fd(fd.get(), &map, &len)
            && map.type == BPF_MAP_TYPE_XSKMAP
            && !std::strcmp(map.name, kSocketMapName)) {
            return fd;
        }
    }
    return {};
}

}  // namespace

Failure Attachment::attach(const BpfMaps &maps, PortSlot slot, Ifindex ifindex,
                           bool allow_generic,
                           std::unique_ptr<Attachment> *out) {
    std::unique_ptr<Attachment> a(new Attachment);
    a->ifindex_ = ifindex;

    auto present = what_is_attached(ifindex);
    auto f = present && !xdp_multiprog__is_legacy(present.get())
               ? a->join_dispatcher(maps, slot)
               : a->attach_alone(maps, slot, allow_generic);
    if (!f) {
        *out = std::move(a);
    }
    return f;
}

Failure Attachment::join_dispatcher(const BpfMaps &maps, PortSlot slot) {
    auto present = what_is_attached(ifindex_);
    Fd sockets;
    for (xdp_program *p = nullptr;
         (p = xdp_multiprog__next_prog(p, present.get()));) {
        if (!std::strcmp(xdp_program__name(p), kProgramName)) {
            sockets = find_socket_map(xdp_program__fd(p));
        }
    }
    const auto mode = xdp_multiprog__attach_mode(present.get());
    mode_ = mode == XDP_MODE_SKB ? AttachMode::kGeneric : AttachMode::kNative;
    has_sockets_ = static_cast<bool>(sockets);
    present.reset();

    if (auto f =
            maps.open_port(slot,
                           mode_ == AttachMode::kGeneric ? XF_PORT_TX_GENERIC
                                                         : XF_PORT_TX_NATIVE,
                           sockets.get(), &skeleton_)) {
        return f;
    }
    auto *program = xdp_program__from_bpf_obj(skeleton_->obj, kSection);
    if (int error = static_cast<int>(libxdp_get_error(program))) {
        return failure(error, "cannot hand the program to libxdp");
    }
    if (int error = xdp_program__attach(program, index(ifindex_), mode, 0)) {
        xdp_program__close(program);
        return failure(error, "cannot join libxdp's dispatcher");
    }
    program_ = program;
    return {};
}

Failure Attachment::attach_alone(const BpfMaps &maps, PortSlot slot,
                                 bool allow_generic) {
    LIBBPF_OPTS(bpf_xdp_query_opts, query);
    if (int error = bpf_xdp_query(index(ifindex_), 0, &query)) {
        return failure(error, "cannot ask for the device's XDP program");
    }
    const bool generic = query.attach_mode == XDP_ATTACHED_SKB;
    mode_ = generic ? AttachMode::kGeneric : AttachMode::kNative;

    Fd present, sockets;
    if (query.attach_mode != XDP_ATTACHED_NONE) {
        bpf_prog_info info{};
        uint32_t len = sizeof info;
        present = Fd(bpf_prog_get_fd_by_id(query.prog_id));
        if (!present || bpf_obj_get_info_by_fd(present.get(), &info, &len)) {
            return failure(errno, "cannot look at the device's XDP program");
        }
        sockets = find_socket_map(present.get());
        if (std::strcmp(info.name, kProgramName) != 0 || !sockets) {
            return {EBUSY, std::string("another XDP program (") + info.name
                               + ", id " + std::to_string(query.prog_id)
                               + ") is attached, and it does not share the "
                                 "device through libxdp's dispatcher"};
        }
    }
    has_sockets_ = static_cast<bool>(sockets);
    if (auto f = maps.open_port(
            slot, generic ? XF_PORT_TX_GENERIC : XF_PORT_TX_NATIVE,
            sockets.get(), &skeleton_)) {
        return f;
    }
    if (int error = xdp_offload_bpf::load(skeleton_.get())) {
        return failure(error, "cannot load the XDP program");
    }

    // A link cannot replace a program that netlink attached.  In between
    // packets take the kernel's stack.
    const uint32_t flags = generic ? XDP_FLAGS_SKB_MODE : XDP_FLAGS_DRV_MODE;
    if (present && bpf_xdp_detach(index(ifindex_), flags, nullptr)) {
        return failure(errno, "cannot detach libxdp's AF_XDP program");
    }
    auto f = link(flags);
    if (f && present) {
        bpf_xdp_attach(index(ifindex_), present.get(), flags, nullptr);
    }
    if (!f || present || f.error != EOPNOTSUPP || !allow_generic) {
        return f;
    }
    mode_ = AttachMode::kGeneric;
    if (auto again =
            maps.open_port(slot, XF_PORT_TX_GENERIC, -1, &skeleton_)) {
        return again;
    }
    if (int error = xdp_offload_bpf::load(skeleton_.get())) {
        return failure(error, "cannot load the XDP program");
    }
    return link(XDP_FLAGS_SKB_MODE);
}

Failure Attachment::link(uint32_t flags) {
    LIBBPF_OPTS(bpf_link_create_opts, opts, .flags = flags);
    const int prog_fd = bpf_program__fd(skeleton_->progs.xsk_def_prog);
    link_fd_ = Fd(bpf_link_create(prog_fd, index(ifindex_), BPF_XDP, &opts));
    return link_fd_ ? Failure{}
                    : failure(errno, "cannot attach the XDP program");
}

Attachment::~Attachment() {
    if (program_) {
        const auto mode =
            mode_ == AttachMode::kGeneric ? XDP_MODE_SKB : XDP_MODE_NATIVE;
        // Fails if the dispatcher, or the device, is gone already.
        xdp_program__detach(program_, index(ifindex_), mode, 0);
        xdp_program__close(program_);
    }
}

bool Attachment::is_attached() const {
    if (program_) {
        return xdp_program__is_attached(program_, index(ifindex_))
            != XDP_MODE_UNSPEC;
    }
    bpf_link_info info{};
    uint32_t len = sizeof info;
    return !bpf_obj_get_info_by_fd(link_fd_.get(), &info, &len)
        && info.xdp.ifindex == static_cast<uint32_t>(index(ifindex_));
}

}  // namespace flowxlate
