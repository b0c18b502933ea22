// SPDX-License-Identifier: Apache-2.0
#include "kernel/loaded.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <vector>

#include "bpf/abi/handover.h"
#include "kernel/tcx.h"

namespace flowxlate {
namespace {

// Longer than a living process ever leaves between two signs of life.
constexpr auto kSilence = std::chrono::seconds(10);

}  // namespace

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

// Is it an array for user space to map, with entries of that size?
static bool is_array_of(const Fd &map, size_t size, bpf_map_info *info) {
    uint32_t len = sizeof *info;
    *info = {};
    return map && !bpf_obj_get_info_by_fd(map.get(), info, &len)
        && info->type == BPF_MAP_TYPE_ARRAY && info->map_flags & BPF_F_MMAPABLE
        && info->key_size == 4 && info->value_size == size;
}

std::optional<ConnMaps> find_connections(OpenMaps &maps) {
    bpf_map_info conns, uses, zones;
    if (!is_array_of(maps[kConnMapName], sizeof(xf_conn), &conns)
        || !is_array_of(maps[kConnUseMapName], sizeof(xf_conn_use), &uses)
        || !is_array_of(maps[kZoneMapName], sizeof(xf_zones), &zones)
        || conns.max_entries != uses.max_entries) {
        return {};
    }
    return ConnMaps{.id = conns.id,
                    .n = conns.max_entries,
                    .conns = std::move(maps[kConnMapName]),
                    .uses = std::move(maps[kConnUseMapName]),
                    .zones = std::move(maps[kZoneMapName])};
}

std::optional<OldConns> map_connections(const ConnMaps &maps) {
    std::vector<Mapping> m;
    m.emplace_back(maps.conns.get(), maps.n * sizeof(xf_conn));
    m.emplace_back(maps.uses.get(), maps.n * sizeof(xf_conn_use));
    m.emplace_back(maps.zones.get(), sizeof(xf_zones));
    if (!m[0] || !m[1] || !m[2]) {
        return {};
    }
    const OldConns::Memory memory{.conns = m[0].as<xf_conn>(maps.n),
                                  .uses = m[1].as<xf_conn_use>(maps.n),
                                  .zones = m[2].as<xf_zones>(1)};
    return OldConns(maps.id, memory, std::move(m));
}

Failure look_at_link(const Fd &link, LinkedProgram *out) {
    bpf_link_info info{};
    uint32_t len = sizeof info;
    if (bpf_obj_get_info_by_fd(link.get(), &info, &len)) {
        return failure(errno, "cannot look at a BPF link");
    }
    out->is_at_tc = info.type == kLinkTypeTcx;
    if (info.type != BPF_LINK_TYPE_XDP && !out->is_at_tc) {
        return {EINVAL, "not a link of XDP or tcx"};
    }
    // Of a link of tcx the same member says it.
    out->ifindex = Ifindex{static_cast<int>(info.xdp.ifindex)};
    out->prog_id = info.prog_id;
    out->prog = Fd(bpf_prog_get_fd_by_id(info.prog_id));
    return {};
}

bool is_on(const LinkedProgram &linked, Ifindex ifindex) {
    std::vector<uint32_t> ids;
    LIBBPF_OPTS(bpf_xdp_query_opts, query);
    if (linked.ifindex != ifindex) {
        return false;
    }
    if (linked.is_at_tc) {
        return !find_tcx_programs(ifindex, &ids)
            && std::ranges::find(ids, linked.prog_id) != ids.end();
    }
    return !bpf_xdp_query(index(ifindex), 0, &query)
        && query.prog_id == linked.prog_id;
}

bool is_ours(LinkedProgram *linked) {
    bpf_prog_info info{};
    uint32_t len = sizeof info;
    if (bpf_obj_get_info_by_fd(linked->prog.get(), &info, &len)
        || info.type
               != (linked->is_at_tc ? BPF_PROG_TYPE_SCHED_CLS
                                    : BPF_PROG_TYPE_XDP)
        || std::strcmp(info.name,
                       linked->is_at_tc ? kSkbProgramName : kProgramName)
               != 0) {
        return false;
    }
    linked->maps = open_maps(linked->prog.get());
    return linked->maps.contains(kFlowMapName);
}

bool is_tended(const LinkedProgram &linked) {
    const uint32_t first = 0;
    uint32_t n;
    xf_cpu cpu{};
    if (bpf_map_lookup_elem(cpus_fd(linked.maps, &n), &first, &cpu)) {
        return false;
    }
    const std::chrono::nanoseconds now(
        std::chrono::steady_clock::now().time_since_epoch());
    return now - std::chrono::nanoseconds(cpu.alive_ns) < kSilence;
}

uint64_t netns_cookie() {
    uint64_t cookie = 0;
    socklen_t len = sizeof cookie;
    const Fd any(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    (void)getsockopt(any.get(), SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &len);
    return cookie;
}

}  // namespace flowxlate
