// SPDX-License-Identifier: Apache-2.0
// Looking at programs, maps and links that are in the kernel already.
#ifndef FLOWXLATE_LOADED_H
#define FLOWXLATE_LOADED_H

#include <map>
#include <optional>
#include <string>

#include "base/resource.h"
#include "base/types.h"
#include "bpf/abi/conn.h"
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

// The map of a program of ours with what it knows of each CPU; stores in '*n'
// how many CPUs that are.  -1 if there is none, or another release's.
int cpus_fd(const OpenMaps &, uint32_t *n);

// The connections that programs of a process execute by.
struct ConnMaps {
    uint32_t id = 0;  // Of 'conns': the same in all programs of a process.
    uint32_t n = 0;   // Entries in 'conns', and in 'uses'.
    Fd conns, uses, zones;
};
// Of a program of ours; none if its maps are not as ours are.
std::optional<ConnMaps> find_connections(OpenMaps &);
// None if that cannot be.
std::optional<OldConns> map_connections(const ConnMaps &);

// A link of XDP or tcx, and what it attaches where; or a filter of TC, which
// has none.
struct LinkedProgram {
    bool is_at_tc = false;
    Ifindex ifindex{};  // 0: nowhere, its device is gone.
    uint32_t prog_id = 0;
    Fd prog;  // May be missing.
    OpenMaps maps;
};
// EINVAL: it is another link.
Failure look_at_link(const Fd &link, LinkedProgram *);

// Is it on the device that has this index here?
bool is_on(const LinkedProgram &, Ifindex);

// Is it a program of ours, of an earlier process?  Then opens its maps.
bool is_ours(LinkedProgram *);

// Does somebody still move on its deadline (struct xf_cpu)?
bool is_tended(const LinkedProgram &);

// The cookie of this process's network namespace (SO_NETNS_COOKIE), or 0.
uint64_t netns_cookie();

}  // namespace flowxlate

#endif
