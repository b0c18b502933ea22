// SPDX-License-Identifier: Apache-2.0
#include "kernel/loaded.h"

#include <bpf/bpf.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

namespace flowxlate {

OpenMaps open_maps(int prog_fd) {
    OpenMaps maps;
    bpf_prog_info info{};
    uint32_t len = sizeof info;
    if (bpf_obj_get_info_by_fd(prog_fd, &info, &len)) {
        return maps;
    }
    std::vector<uint32_t> ids(info.nr_map_ids);
    info = {};
    info.nr_map_ids = ids.size();
    info.map_ids = reinterpret_cast<uintptr_t>(ids.data());
    len = sizeof info;
    if (bpf_obj_get_info_by_fd(prog_fd, &info, &len)) {
        return maps;
    }
    std::ranges::sort(ids);
    for (uint32_t id : ids) {
        Fd fd(bpf_map_get_fd_by_id(id));
        bpf_map_info map{};
        len = sizeof map;
        if (fd && !bpf_obj_get_info_by_fd(fd.get(), &map, &len)) {
            maps.insert_or_assign(map.name, std::move(fd));
        }
    }
    return maps;
}

Fd find_map(int prog_fd, const char *name) {
    auto maps = open_maps(prog_fd);
    const auto it = maps.find(name);
    return it == maps.end() ? Fd() : std::move(it->second);
}

int cpus_fd(const OpenMaps &maps, uint32_t *n) {
    const auto map = maps.find(kCpuMapName);
    bpf_map_info info{};
    uint32_t len = sizeof info;
    if (map == maps.end()
        || bpf_obj_get_info_by_fd(map->second.get(), &info, &len)
        || info.value_size != sizeof(xf_cpu)) {
        return -1;
    }
    *n = info.max_entries;
    return map->second.get();
}

Failure look_at_link(const Fd &link, LinkedProgram *out) {
    bpf_link_info info{};
    uint32_t len = sizeof info;
    if (bpf_obj_get_info_by_fd(link.get(), &info, &len)) {
        return failure(errno, "cannot look at a BPF link");
    }
    if (info.type != BPF_LINK_TYPE_XDP) {
        return {EINVAL, "not a link of an XDP program"};
    }
    out->ifindex = Ifindex{static_cast<int>(info.xdp.ifindex)};
    out->prog_id = info.prog_id;
    out->prog = Fd(bpf_prog_get_fd_by_id(info.prog_id));
    return {};
}

bool is_ours(LinkedProgram *linked) {
    bpf_prog_info info{};
    uint32_t len = sizeof info;
    if (bpf_obj_get_info_by_fd(linked->prog.get(), &info, &len)
        || info.type != BPF_PROG_TYPE_XDP
        || std::strcmp(info.name, kProgramName) != 0) {
        return false;
    }
    linked->maps = open_maps(linked->prog.get());
    return linked->maps.contains(kFlowMapName);
}

uint64_t netns_cookie() {
    uint64_t cookie = 0;
    socklen_t len = sizeof cookie;
    const Fd any(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    (void)getsockopt(any.get(), SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &len);
    return cookie;
}

}  // namespace flowxlate
