// SPDX-License-Identifier: Apache-2.0
// The BPF maps that all ports share, and the program that uses them.
//
// BpfMaps creates the maps once and maps the arrays into memory.  A port has a
// program of its own, a copy of the code with its port's constants, on the
// shared maps; or it shares one with others (shared_program.h).
#ifndef FLOWXLATE_BPF_MAPS_H
#define FLOWXLATE_BPF_MAPS_H

#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "base/resource.h"
#include "base/types.h"
#include "bpf/abi/capture.h"
#include "bpf/abi/counters.h"
#include "bpf/abi/handover.h"
#include "bpf/abi/tunnel.h"
#include "kernel/datapath.h"
#include "tables/conn_table.h"
#include "tables/flow_table.h"
#include "tables/maps.h"
#include "tables/recirc.h"

struct ring_buffer;      // libbpf's.
struct xdp_offload_bpf;  // The skeleton of bpf/xdp_offload.bpf.c.
struct skb_offload_bpf;  // That of bpf/skb_offload.bpf.c.

namespace flowxlate {

struct SkeletonDeleter {
    void operator()(xdp_offload_bpf *) const;
    void operator()(skb_offload_bpf *) const;
};
using Skeleton = std::unique_ptr<xdp_offload_bpf, SkeletonDeleter>;
using SkbSkeleton = std::unique_ptr<skb_offload_bpf, SkeletonDeleter>;

struct RingBufferDeleter {
    void operator()(ring_buffer *) const;
};

// The arrays of bpf/abi/maps.def that user space maps into its memory.
struct MappedArrays {
#define XF_SPAN_MAPPED(NAME, VALUE) std::span<VALUE> NAME;
#define XF_SPAN_INNER(NAME, VALUE)
#define XF_MAP(NAME, VALUE, ENTRIES, WRITER, SCOPE, ACCESS) \
    XF_SPAN_##ACCESS(NAME, VALUE)
#include "bpf/abi/maps.def"
#undef XF_MAP
};

// What a capture of a port takes, in bytes.
struct CaptureSizes {
    uint32_t packet =
        XF_MAX_CAPTURE;       // Of each packet, XF_MAX_CAPTURE at most.
    uint32_t ring = 1 << 24;  // A power of 2, and a page at least.
};

// The ufids of flows by slot, which only captures need.
struct FlowNames {
    Fd map;
    Mapping memory;
    std::span<xf_ufid> by_slot;
};

// Says to the programs that use 'cpus', and to other processes, that this one
// lives now (CLOCK_MONOTONIC), and until when flows may be executed without
// another sign of life, in jiffies.
void set_deadline(std::span<xf_cpu> cpus, uint64_t now_ns, uint64_t jiffies);

// What matters of a port for its program, beside where it is.
struct PortTraits {
    bool in_kernel_datapath = false;
    bool kernel_ct = false;  // ct() asks the kernel's connection tracker.
    bool of_tc = false;      // Flows are TC's (xf_of_tc).
    bool operator<(const PortTraits &o) const {
        return std::tie(in_kernel_datapath, kernel_ct, of_tc)
             < std::tie(o.in_kernel_datapath, o.kernel_ct, o.of_tc);
    }
};

// What a port's program is told when it is loaded.
struct PortConstants {
    PortSlot slot{};  // 0: the program is that of several ports.
    uint32_t tx_flag = XF_PORT_TX_NATIVE;  // XF_PORT_TX_* that it sends with.
    PortTraits traits{};
};

class BpfMaps : public Datapath {
public:
    struct Config {
        uint32_t max_flows = 65536;
        uint32_t max_connections = kDefaultConnections;
        // Of arrays, which bounds the rows that CPUs have (CpuRows); 0:
        // default_memory().
        uint64_t memory = 0;
        // By CPU number; empty: as this host has them now.
        std::vector<bool> is_online{};
    };

    // Creates the maps and has the kernel verify the program once.  Needs
    // CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN.
    Failure create(const Config &);

    // Opens, but does not load, a program for the port.  Its AF_XDP sockets
    // are in the map 'xsks_fd', or in a new one if that is -1.
    Failure open_port(const PortConstants &, int xsks_fd, Skeleton *out) const;

    // Opens, but does not load, a program like that of the port for running
    // single packets beside the real traffic: it reads the same tables, but
    // all that a program writes (statistics, flow cache, its scratch memory)
    // is its own.
    Failure open_trace(const PortConstants &, Skeleton *out) const;

    // The same for a program that also copies what enters (bpf/run/capture.h).
    Failure create_names(FlowNames *) const;
    Failure open_capture(const PortConstants &, int xsks_fd,
                         const CaptureSizes &, const FlowNames &,
                         Skeleton *out) const;

    // The same as open_port() for the hook at TC's ingress.
    Failure open_skb(const PortConstants &, SkbSkeleton *out) const;

    // An entry of the flow cache and the set where it belongs.
    struct CachePlace {
        uint32_t set = 0;    // In each row.
        uint32_t entry = 0;  // 0: none.
    };
    // The CPUs that have it, of those that have run a program.
    std::vector<uint32_t> cpus_that_predict(const CachePlace &) const;
    uint32_t n_cpus() const { return sizes_.cpus; }
    const CpuRows &rows() const { return rows_; }
    uint32_t cache_bits() const { return sizes_.cache_bits; }
    uint32_t n_slots() const { return sizes_.flows; }

    xf_port &port(PortSlot slot) override {
        return arrays_.xf_ports[index(slot)];
    }
    xf_tunnel &tunnel(TunnelSlot slot) override {
        return arrays_.xf_tunnels[index(slot)];
    }

    Failure set_tx_port(PortSlot slot, Ifindex ifindex) override;
    // Is the device there that 'slot' was pointed at?  The kernel forgets one
    // that has gone, whatever has come back.
    bool has_tx_port(PortSlot slot, Ifindex) const;
    // Points 'slot' of the device map at nothing.
    Failure clear_tx_port(PortSlot slot);
    // Does a program that several ports share find 'slot' by this index?  Not
    // if there was no room left for it in the set.
    bool knows_port(PortSlot slot, Ifindex) const;
    // A map that all ports share, by its name.
    int fd_of(const char *name) const;

    // Makes the device map of the group in 'slot'.  Slow: waits for a grace
    // period.
    Failure create_group(GroupSlot slot, Fd *devices);

    Failure set_group(GroupSlot slot, const Fd &devices, const Group &,
                      std::span<const Ifindex>) override;

    // How many VLAN tags the programs look behind: OVS's vlan-limit, 1 or 2.
    void set_max_tags(uint32_t);

    // The same for the programs of this process, which are told of their
    // rows anew, too: nothing that a foreign writer puts there stays.
    void set_deadline(uint64_t now_ns, uint64_t jiffies);

    // Takes the packets that programs have copied since the last time.  For
    // one thread at a time.
    std::vector<xf_copy> take_copies();

    // Returns after every CPU has left all programs that were running.
    Failure wait_for_programs();

    const TableMemory &tables() const { return tables_; }
    const ConnMemory &connections() const { return connections_; }
    uint64_t misses(PortSlot slot, xf_miss reason) const;
    uint64_t searches(PortSlot slot) const;  // Past the flow cache.
    void clear_misses(PortSlot slot);

    // Bytes of memory that ports share.
    size_t memory_bytes() const;

private:
    Failure open_any_port(const PortConstants &, int xsks_fd,
                          Skeleton *out) const;
    Failure lay_out(const Config &);
    static void size_maps(xdp_offload_bpf *, const MapSizes &);
    template <typename S>
    void set_constants(S *, const PortConstants &) const;
    Failure map_arrays();
    std::span<__u64> in_port_ways(Ifindex) const;
    void note_device(PortSlot, Ifindex);
    void forget_device(PortSlot);
    template <typename Fn>
    uint64_t sum_of_misses(PortSlot, Fn counter) const;
    Failure create_grace_maps();
    void give_rows();

    Skeleton template_;  // Never attached; owns the shared maps.
    MapSizes sizes_;
    CpuRows rows_;
    std::array<uint64_t, XF_KEY_WORDS + 1> secret_{};
    std::vector<Mapping> mappings_;
    MappedArrays arrays_;
    TableMemory tables_;
    ConnMemory connections_;
    Fd skb_ports_;  // The device map of programs at TC's ingress.
    Fd grace_outer_, grace_inner_;
    std::vector<xf_copy> copied_;  // While copies_ is being read.
    std::unique_ptr<ring_buffer, RingBufferDeleter> copies_;
};

}  // namespace flowxlate

#endif
