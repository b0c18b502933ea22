// SPDX-License-Identifier: Apache-2.0
#include "kernel/trace_program.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <algorithm>
#include <cerrno>

#include "bpf/abi/counters.h"
#include "bpf/abi/handover.h"
#include "xdp_offload.skel.h"

namespace flowxlate {
namespace {

constexpr size_t kGrowth = 64;  // More than a packet can grow.

Failure cannot_read() {
    return failure(errno, "cannot read what the program has found");
}

}  // namespace

Failure TraceProgram::load(const BpfMaps &maps, const PortConstants &port,
                           TraceProgram *out) {
    TraceProgram t;
    t.slot_ = port.slot;
    if (auto f = maps.open_trace(port, &t.skeleton_)) {
        return f;
    }
    if (int error = xdp_offload_bpf::load(t.skeleton_.get())) {
        return failure(error, "cannot load the XDP program");
    }
    *out = std::move(t);
    return {};
}

Failure TraceProgram::run(const BpfMaps &maps,
                          std::span<const std::byte> frame, Outcome *o) {
    *o = {};
    o->frame.resize(frame.size() + kGrowth);
    LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = frame.data(),
                .data_out = o->frame.data(),
                .data_size_in = static_cast<uint32_t>(frame.size()),
                .data_size_out = static_cast<uint32_t>(o->frame.size()),
                .repeat = 1);
    if (bpf_prog_test_run_opts(bpf_program__fd(skeleton_->progs.xsk_def_prog),
                               &opts)) {
        return failure(errno, "the kernel does not run the program on this");
    }
    o->verdict = opts.retval;
    o->frame.resize(opts.data_size_out);

    uint32_t cpu;
    if (!find_cpu(maps, &cpu)) {
        return {EIO, "the program has left no trace on any CPU"};
    }
    return read(maps, cpu, o);
}

// The CPU on which the program has run.
bool TraceProgram::find_cpu(const BpfMaps &maps, uint32_t *cpu) const {
    const int fd = bpf_map__fd(skeleton_->maps.xf_cpus);
    for (*cpu = 0; *cpu < maps.n_cpus(); ++*cpu) {
        xf_cpu self;
        if (!bpf_map_lookup_elem(fd, cpu, &self) && self.seq) {
            return true;
        }
    }
    return false;
}

// The flow cache was empty, so its entries are those of the flows which were
// found, also if they could not be executed: of one, or of all stages.
Failure TraceProgram::read(const BpfMaps &maps, uint32_t cpu,
                           Outcome *o) const {
    const auto &m = skeleton_->maps;
    const uint32_t row = index(slot_);  // There is one row.
    xf_scratch scratch;
    xf_miss_row misses;
    if (bpf_map_lookup_elem(bpf_map__fd(m.xf_scratches), &cpu, &scratch)
        || bpf_map_lookup_elem(bpf_map__fd(m.xf_misses), &row, &misses)) {
        return cannot_read();
    }
    o->packet = scratch.packet;
    o->plan = scratch.plan;
    o->n_seen = std::max(scratch.packet.frame_len, scratch.outer.frame_len);
    for (int reason = 0; reason < XF_N_MISSES; reason++) {
        if (misses.count[reason]) {
            o->miss = xf_miss(reason);
        }
    }

    const size_t n_sets = size_t{1} << maps.cache_bits();
    const Mapping cache(bpf_map__fd(m.xf_flow_cache),
                        n_sets * sizeof(xf_cache_set));
    if (!cache) {
        return cannot_read();
    }
    auto sets = cache.as<xf_cache_set>(n_sets);
    for (size_t i = 0; i < n_sets; i++) {
        const uint64_t newest = sets[i].ways[0];
        for (auto entry :
             {static_cast<uint32_t>(newest),
              static_cast<uint32_t>(newest >> XF_CACHE_WAY_BITS)}) {
            const uint32_t slot = entry & slot_mask(maps.n_slots());
            const auto &flows = maps.tables().flows;
            if (slot < flows.size() && flows[slot].action.verdict == XF_POP) {
                o->outer = FlowSlot{slot};
            } else if (slot
                       && (!o->plan.n_stages
                           || slot == o->plan.stage[0].slot)) {
                o->cached = {static_cast<uint32_t>(i), entry};
                o->first = FlowSlot{slot};
            }
        }
    }
    return {};
}

}  // namespace flowxlate
