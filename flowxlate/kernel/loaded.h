// SPDX-License-Identifier: Apache-2.0
// Looking at programs, maps and links that are in the kernel already.
#ifndef FLOWXLATE_LOADED_H
#define FLOWXLATE_LOADED_H

#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "base/resource.h"
#include "base/types.h"
#include "bpf/abi/conn.h"
#include "bpf/abi/handover.h"
#include "tables/old_conns.h"

namespace flowxlate {

// The name of libxdp's AF_XDP program and of its map, and so of ours.
constexpr const char *kProgramName = "xsk_def_prog";
// Ours at TC's ingress.
constexpr const char *kSkbProgramName = "xf_skb";
constexpr const char *kSocketMapName = "xsks_map";
// Only our programs use a map of this name.
constexpr const char *kFlowMapName = "xf_flows";
constexpr const char *kCpuMapName = "xf_cpus";
// By which a port's small program calls the one that it shares
// (shared_program.h).
constexpr const char *kSharedMapName = "xf_shared";
// In programs that have flows: what they hand packets over to.
constexpr const char *kNextMapName = "xf_next";
// Another layout has other names (struct xf_conn).
constexpr const char *kConnMapName = "xf_conns";
constexpr const char *kConnUseMapName = "xf_conn_uses";
constexpr const char *kZoneMapName = "xf_zones";

// The maps that a program uses, by name.  Of two with the same name it is the
// later: a program that has taken over from another uses that one's 'xf_next'
// beside its own.
using OpenMaps = std::map<std::string, Fd>;
OpenMaps open_maps(int prog_fd);

// Returns the map called 'name' that the program 'prog_fd' uses, if any.  For
// programs of ours that are not this process's use open_maps(), once: each
// time when the last descriptor of a program array is closed the kernel
// schedules its emptying, and it never frees one that this happens to twice
// before that is done (prog_array_map_clear() in kernel/bpf/arraymap.c,
// Linux 6.18).
Fd find_map(int prog_fd, const char *name);

// The connections that programs of a process execute by.
struct ConnMaps {
    uint32_t id = 0;  // Of 'conns': the same in all programs of a process.
    uint32_t n = 0;   // Entries in 'conns', and in 'uses'.
    Fd conns, uses, zones;
};
// None if that cannot be.
std::optional<OldConns> map_connections(const ConnMaps &);

// A program of ours that has flows, of an earlier process.  Ports that share
// it share what is open of it.
struct EarlierProgram {
    Fd prog;
    OpenMaps maps;  // But for those below.
    std::optional<ConnMaps> connections;
    Mapping cpus_memory;  // Its 'xf_cpus',
    std::span<xf_cpu> cpus;
    int successor_fd = -1;  // The program in its 'xf_next', if we put one.

    // Empty if it has none of that name.
    const Fd &map(const char *name) const;
};
// By their ids.
using EarlierPrograms = std::map<uint32_t, std::weak_ptr<EarlierProgram>>;

// A link of XDP or tcx, and what it attaches where; or a filter of TC, which
// has none.
struct LinkedProgram {
    bool is_at_tc = false;
    Ifindex ifindex{};  // 0: nowhere, its device is gone.
    uint32_t prog_id = 0;
    Fd prog;                 // May be missing.
    uint32_t shared_id = 0;  // Of the 'xf_shared' by which it calls another.
    // The one with the flows, if it is ours: itself, or what it calls.
    std::shared_ptr<EarlierProgram> earlier;
};
// EINVAL: it is another link.
Failure look_at_link(const Fd &link, LinkedProgram *);

// Is it on the device that has this index here?
bool is_on(const LinkedProgram &, Ifindex);

// Is it a program of ours, of an earlier process?  Then opens the one with the
// flows, unless that is among 'known'; null if there is none any more.
bool is_ours(LinkedProgram *, EarlierPrograms *known);

// The program that ports call by the 'xf_shared' that is 'shared', opened
// unless it is among 'known'; null if there is none.
std::shared_ptr<EarlierProgram> called_by(const Fd &shared,
                                          EarlierPrograms *known);

// Does somebody still move on its deadline (struct xf_cpu)?
bool is_tended(const EarlierProgram &);

// The kernel's number of a map, or 0.
uint32_t map_id(const Fd &);

// The cookie of this process's network namespace (SO_NETNS_COOKIE), or 0.
uint64_t netns_cookie();

}  // namespace flowxlate

#endif
