// SPDX-License-Identifier: Apache-2.0
#include "ct_rivals.h"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <stdexcept>

#include "hash_ct.skel.h"
#include "kfunc_ct.skel.h"
#include "measure.h"
#include "rivals.h"

namespace flowxlate::bench {
namespace {

using test::FlowSpec;

constexpr uint64_t kNsPerMs = 1'000'000;

ct_rival_flow flow_of(const FlowSpec &spec) {
    ct_rival_flow flow{};
    if (spec.action.verdict == XF_RECIRC) {
        flow.recirc = spec.action.to;
    } else {
        flow.out_port = spec.action.to;
    }
    flow.ct_flags = spec.rewrite.ct[0].flags;
    flow.zone = spec.rewrite.ct[0].zone;
    return flow;
}

template <typename T>
T read_as(const uint8_t *from) {
    T value;
    std::memcpy(&value, from, sizeof value);
    return value;
}

ct_rival_tuple tuple_of(const ovs_offload_ct &c, int d) {
    const auto &dir = c.dir[d];
    return {read_as<__be32>(dir.src),
            read_as<__be32>(dir.dst),
            dir.tp_src,
            dir.tp_dst,
            c.zone,
            c.proto,
            0};
}

// What it becomes is the reverse of how the answers come.
ct_rival_conn conn_of(const ovs_offload_ct &c, int d) {
    const auto &dir = c.dir[d], &other = c.dir[1 - d];
    ct_rival_conn conn{};
    conn.used_ns = (c.expires_ms - c.timeout_ms) * kNsPerMs;
    conn.timeout_ns = c.timeout_ms * kNsPerMs;
    conn.state = dir.state;
    conn.nat_state = dir.nat_state;
    conn.mark = c.mark;
    conn.to_src = read_as<__be32>(other.dst);
    conn.to_dst = read_as<__be32>(other.src);
    conn.to_sport = other.tp_dst;
    conn.to_dport = other.tp_src;
    return conn;
}

}  // namespace

// -- CtRival ----------------------------------------------------------------

template <typename Skeleton>
void CtRival<Skeleton>::Deleter::operator()(Skeleton *s) const {
    Skeleton::destroy(s);
}

template <typename Skeleton>
CtRival<Skeleton>::CtRival() : skeleton_(Skeleton::open()) {
    must(skeleton_ != nullptr, "cannot open a rival");
}

template <typename Skeleton>
CtRival<Skeleton>::~CtRival() = default;

template <typename Skeleton>
int CtRival<Skeleton>::fd() const {
    return bpf_program__fd(skeleton_->progs.ct_pipeline);
}

template <typename Skeleton>
void CtRival<Skeleton>::load(const Pipeline &p, int devmap, Keys keys) {
    const uint32_t n_cpus = count_cpus();
    value_size_ = sizeof(ct_rival_flow) + n_cpus * sizeof(rival_stats);
    key_size_ = 8 * (keys == kIpv4Keys ? XF_SHORT_KEY_WORDS : XF_KEY_WORDS);
    skeleton_->rodata->in_port = index(test::kIn);
    skeleton_->rodata->n_cpus = n_cpus;
    skeleton_->rodata->is_ipv4_only = keys == kIpv4Keys;
    auto *flows = bpf_map__inner_map(skeleton_->maps.stages);
    must(!bpf_map__reuse_fd(skeleton_->maps.tx_ports, devmap)
             && !bpf_map__set_key_size(flows, key_size_)
             && !bpf_map__set_value_size(flows, value_size_),
         "cannot prepare a rival");
    must(!Skeleton::load(skeleton_.get()), "cannot load a rival");
    for (auto &spec : specs_of(p)) {
        add(spec);
    }
}

template <typename Skeleton>
void CtRival<Skeleton>::add(const FlowSpec &spec) {
    const uint32_t recirc = spec.key.recirc;
    if (recirc >= CT_RIVAL_STAGES) {
        throw std::logic_error("a pipeline too long for the rivals");
    }
    Fd map(bpf_map_create(BPF_MAP_TYPE_HASH, "stage", key_size_, value_size_,
                          1, nullptr));
    must(static_cast<bool>(map), "cannot create a hash map");
    const int fd = map.get();
    std::vector<uint8_t> value(value_size_);
    const ct_rival_flow flow = flow_of(spec);
    std::memcpy(value.data(), &flow, sizeof flow);
    must(!bpf_map_update_elem(fd, &spec.key, value.data(), BPF_NOEXIST)
             && !bpf_map_update_elem(bpf_map__fd(skeleton_->maps.stages),
                                     &recirc, &fd, BPF_ANY),
         "cannot add a flow to a rival");
    std::memcpy(&skeleton_->bss->masks[recirc], &spec.mask, sizeof spec.mask);
    maps_.push_back(std::move(map));
}

template class CtRival<hash_ct_bpf>;
template class CtRival<kfunc_ct_bpf>;

// -- HashCt -----------------------------------------------------------------

HashCt::HashCt(const Pipeline &p, int devmap, uint32_t max_connections,
               Keys keys) {
    // Twice the room: an LRU map evicts before it is full.
    constexpr uint32_t kDirections = 2, kRoom = 2, kLeast = 1024;
    must(!bpf_map__set_max_entries(
             skeleton_->maps.conns,
             std::max(kDirections * kRoom * max_connections, kLeast)),
         "cannot size the connections of a rival");
    load(p, devmap, keys);
}

void HashCt::add(const std::vector<ovs_offload_ct> &conns) {
    const int map = bpf_map__fd(skeleton_->maps.conns);
    for (auto &c : conns) {
        for (int d : {0, 1}) {
            const auto tuple = tuple_of(c, d);
            const auto conn = conn_of(c, d);
            must(!bpf_map_update_elem(map, &tuple, &conn, BPF_NOEXIST),
                 "cannot add a connection to a rival");
        }
    }
}

// -- KfuncCt ----------------------------------------------------------------

KfuncCt::KfuncCt(const Pipeline &p, int devmap) {
    skeleton_->rodata->n_zones = p.n_cts;
    load(p, devmap, kWholeKeys);
}

int KfuncCt::insert_fd() const {
    return bpf_program__fd(skeleton_->progs.insert);
}

std::string KfuncCt::insert(const test::Frame &in) {
    if (run_once(insert_fd(), in) == XDP_PASS) {
        return {};
    }
    return std::string("bpf_xdp_ct_alloc() in a zone: ")
         + std::strerror(-skeleton_->bss->error);
}

std::string KfuncCt::missing() {
    struct Deleter {
        void operator()(btf *b) const { btf__free(b); }
    };
    const std::unique_ptr<btf, Deleter> kernel(btf__load_vmlinux_btf());
    if (!kernel) {
        return "the kernel has no BTF";
    }
    for (auto name : {"bpf_xdp_ct_lookup", "bpf_xdp_ct_alloc",
                      "bpf_ct_insert_entry", "bpf_ct_change_timeout"}) {
        if (btf__find_by_name_kind(kernel.get(), name, BTF_KIND_FUNC) < 0) {
            return std::string("the kernel has no ") + name + "()";
        }
    }
    return {};
}

}  // namespace flowxlate::bench
