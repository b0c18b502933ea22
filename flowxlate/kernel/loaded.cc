// SPDX-License-Identifier: Apache-2.0
#include "kernel/loaded.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <utility>
#include <vector>

#include "kernel/tcx.h"
#include "kernel/xdp_query.h"

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

// Is it an array for user space to map, with entries of that size?
static bool is_array_of(const Fd &map, size_t size, bpf_map_info *info) {
    uint32_t len = sizeof *info;
    *info = {};
    return map && !bpf_obj_get_info_by_fd(map.get(), info, &len)
        && info->type == BPF_MAP_TYPE_ARRAY && info->map_flags & BPF_F_MMAPABLE
        && info->key_size == 4 && info->value_size == size;
}

// None if its maps are not as ours are.
static std::optional<ConnMaps> find_connections(OpenMaps &maps) {
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
    XdpOnDevice xdp;
    if (linked.ifindex != ifindex) {
        return false;
    }
    if (linked.is_at_tc) {
        return !find_tcx_programs(ifindex, &ids)
            && std::ranges::find(ids, linked.prog_id) != ids.end();
    }
    return !query_xdp(ifindex, &xdp) && xdp.prog_id == linked.prog_id;
}

// Ports ask at the same time, so nothing is made here.
const Fd &EarlierProgram::map(const char *name) const {
    static const Fd none;
    const auto found = maps.find(name);
    return found == maps.end() ? none : found->second;
}

// Nothing if it is another release's.
static void map_cpus(EarlierProgram *p) {
    bpf_map_info info;
    const Fd &map = p->maps[kCpuMapName];
    if (is_array_of(map, sizeof(xf_cpu), &info)) {
        p->cpus_memory = Mapping(map.get(), info.max_entries * sizeof(xf_cpu));
    }
    if (p->cpus_memory) {
        p->cpus = p->cpus_memory.as<xf_cpu>(info.max_entries);
    }
}

// Null if it has no flows.
static std::shared_ptr<EarlierProgram> look_at_program(Fd prog,
                                                       OpenMaps maps) {
    if (!maps.contains(kFlowMapName)) {
        return nullptr;
    }
    auto p = std::make_shared<EarlierProgram>();
    p->prog = std::move(prog);
    p->maps = std::move(maps);
    p->connections = find_connections(p->maps);
    map_cpus(p.get());
    return p;
}

std::shared_ptr<EarlierProgram> called_by(const Fd &shared,
                                          EarlierPrograms *known) {
    const uint32_t key = XF_SHARED_MAIN;
    uint32_t id = 0;
    if (bpf_map_lookup_elem(shared.get(), &key, &id)) {
        return nullptr;
    }
    auto program = (*known)[id].lock();
    if (!program) {
        Fd fd(bpf_prog_get_fd_by_id(id));
        if (fd) {
            auto maps = open_maps(fd.get());
            program = look_at_program(std::move(fd), std::move(maps));
        }
        (*known)[id] = program;
    }
    return program;
}

bool is_ours(LinkedProgram *linked, EarlierPrograms *known) {
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
    auto maps = open_maps(linked->prog.get());
    const auto shared = maps.find(kSharedMapName);
    if (shared == maps.end()) {
        linked->earlier =
            look_at_program(std::move(linked->prog), std::move(maps));
        return linked->earlier != nullptr;
    }
    linked->shared_id = map_id(shared->second);
    linked->earlier = called_by(shared->second, known);
    return maps.contains(kFlowMapName);
}

bool is_tended(const EarlierProgram &program) {
    if (program.cpus.empty()) {
        return false;
    }
    const std::chrono::nanoseconds now(
        std::chrono::steady_clock::now().time_since_epoch());
    const std::chrono::nanoseconds alive(
        std::atomic_ref(program.cpus[0].alive_ns)
            .load(std::memory_order_relaxed));
    return now - alive < kSilence;
}

uint32_t map_id(const Fd &map) {
    bpf_map_info info{};
    uint32_t len = sizeof info;
    return bpf_obj_get_info_by_fd(map.get(), &info, &len) ? 0 : info.id;
}

uint64_t netns_cookie() {
    uint64_t cookie = 0;
    socklen_t len = sizeof cookie;
    const Fd any(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    (void)getsockopt(any.get(), SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &len);
    return cookie;
}

}  // namespace flowxlate
