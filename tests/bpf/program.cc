// SPDX-License-Identifier: Apache-2.0
#include "program.h"
#include "bpf/abi/counters.h"
#include "bpf/abi/tunnel.h"
#include "flowxlate/kernel/shared_program.h"
#include "tests/grace.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <cstring>
#include <ctime>
#include <stdexcept>

#include "xdp_offload.skel.h"

namespace flowxlate::test {
namespace {

constexpr uint32_t kMtuFrame = 1514;

void must(const Failure &f) {
    if (f) {
        throw std::runtime_error(f.message);
    }
}

}  // namespace

// -- FlowSpec ---------------------------------------------------------------

FlowSpec::FlowSpec(xf_class c, uint16_t eth_type) : cls(c) {
    key.in_port = index(kIn);
    mask.in_port = mask.recirc = UINT16_MAX;
    key.eth_type = htons(eth_type);
    mask.eth_type = 0xffff;
    mask.vlan_tci = 0xffff;
    action.verdict = XF_DROP;
}

FlowSpec FlowSpec::l2(uint16_t eth_type) {
    return FlowSpec(XF_CLASS_L2, eth_type);
}

FlowSpec &FlowSpec::vid(uint16_t vid) {
    key.vlan_tci = htons(vid | XF_VLAN_PRESENT);
    mask.vlan_tci = htons(0x0fff | XF_VLAN_PRESENT);
    mask.vlan2_tci = 0xffff;
    return *this;
}

FlowSpec &FlowSpec::any_tag() {
    key.vlan_tci = mask.vlan_tci = htons(XF_VLAN_PRESENT);
    mask.vlan2_tci = 0xffff;
    return *this;
}

FlowSpec &FlowSpec::any_tags() {
    mask.vlan_tci = mask.vlan2_tci = 0;
    return *this;
}

FlowSpec &FlowSpec::tag(uint16_t tpid, uint16_t id) {
    mask.tpids |= XF_TPID_OUTER_AD;
    key.tpids |= tpid == 0x88a8 ? XF_TPID_OUTER_AD : 0;
    return vid(id);
}

FlowSpec &FlowSpec::tag2(uint16_t tpid, uint16_t id) {
    mask.tpids |= XF_TPID_INNER_AD;
    key.tpids |= tpid == 0x88a8 ? XF_TPID_INNER_AD : 0;
    key.vlan2_tci = htons(id | XF_VLAN_PRESENT);
    mask.vlan2_tci = htons(0x0fff | XF_VLAN_PRESENT);
    return *this;
}

FlowSpec &FlowSpec::label(uint32_t l) {
    key.ipv6_label = htonl(l);
    mask.ipv6_label = htonl(0xfffff);
    return *this;
}

FlowSpec &FlowSpec::recirc(uint16_t slot) {
    key.recirc = slot;
    return *this;
}

FlowSpec &FlowSpec::from(PortSlot port) {
    key.in_port = index(port);
    return *this;
}

FlowSpec &FlowSpec::dp_hash(uint8_t value, uint8_t m) {
    key.dp_hash = value & m;
    mask.dp_hash = m;
    return *this;
}

FlowSpec &FlowSpec::match(size_t key_at, const Frame &value, const Frame &m) {
    auto *keys = reinterpret_cast<uint8_t *>(&key) + key_at;
    auto *masks = reinterpret_cast<uint8_t *>(&mask) + key_at;
    for (size_t i = 0; i < value.size(); i++) {
        masks[i] = m.empty() ? 0xff : m.at(i);
        keys[i] = value[i] & masks[i];
    }
    return *this;
}

FlowSpec &FlowSpec::proto(uint8_t p) {
    key.nw_proto = p;
    mask.nw_proto = 0xff;
    return *this;
}

FlowSpec &FlowSpec::tp_src(uint16_t port) {
    key.tp_src = htons(port);
    mask.tp_src = 0xffff;
    return *this;
}

FlowSpec &FlowSpec::tp_dst(uint16_t port) {
    key.tp_dst = htons(port);
    mask.tp_dst = 0xffff;
    return *this;
}

FlowSpec &FlowSpec::tcp_flags(uint16_t value, uint16_t m) {
    key.tcp_flags = htons(value);
    mask.tcp_flags = htons(m);
    return *this;
}

FlowSpec &FlowSpec::frag(uint8_t f) {
    key.nw_frag = f;
    mask.nw_frag = 0xff;
    return *this;
}

FlowSpec &FlowSpec::ttl(uint8_t t) {
    key.nw_ttl = t;
    mask.nw_ttl = 0xff;
    return *this;
}

FlowSpec &FlowSpec::tos(uint8_t t) {
    key.nw_tos = t;
    mask.nw_tos = 0xff;
    return *this;
}

FlowSpec &FlowSpec::ipv4_dst(uint32_t addr, uint32_t m) {
    key.ipv4_dst = htonl(addr & m);
    mask.ipv4_dst = htonl(m);
    return *this;
}

FlowSpec &FlowSpec::drop() {
    action.verdict = XF_DROP;
    return *this;
}

FlowSpec &FlowSpec::to(PortSlot port) {
    action.verdict = XF_OUTPUT;
    action.to = index(port);
    return *this;
}

FlowSpec &FlowSpec::out_of_tunnel(PortSlot port) {
    action.verdict = XF_POP;
    action.to = index(port);
    return *this;
}

FlowSpec &FlowSpec::into_tunnel(uint16_t slot) {
    rewrite.tunnel = slot;
    return *this;
}

FlowSpec &FlowSpec::push(uint16_t tci, uint16_t tpid) {
    action.tag[1] = action.tag[0];
    action.tag[0] = {htons(tpid), htons(tci)};
    action.n_push++;
    return *this;
}

FlowSpec &FlowSpec::pop() {
    action.n_pop++;
    return *this;
}

FlowSpec &FlowSpec::replace(uint16_t tci) { return pop().push(tci); }

FlowSpec &FlowSpec::trunc(uint32_t max_len) {
    rewrite.max_len = max_len;
    return *this;
}

FlowSpec &FlowSpec::up_to(uint16_t max_in) {
    rewrite.max_in = max_in;
    return *this;
}

FlowSpec &FlowSpec::recirc_to(uint16_t slot) {
    action.verdict = XF_RECIRC;
    action.to = slot;
    return *this;
}

FlowSpec &FlowSpec::hash_to(uint32_t basis, uint16_t slot) {
    rewrite.hash_basis = basis;
    recirc_to(slot);
    action.verdict = XF_HASH_RECIRC;
    return *this;
}

FlowSpec &FlowSpec::set(size_t key_at, const Frame &value, const Frame &m) {
    auto *values = reinterpret_cast<uint8_t *>(rewrite.value) + key_at;
    auto *masks = reinterpret_cast<uint8_t *>(rewrite.mask) + key_at;
    for (size_t i = 0; i < value.size(); i++) {
        masks[i] = m.at(i);
        values[i] = value[i] & m[i];
    }
    return *this;
}

// -- Program ----------------------------------------------------------------

Program::Program(uint32_t tx_flag, const Program *takes_over_from,
                 const PortTraits &traits, const BpfMaps::Config &config) {
    must(maps_.create(config));
    table_ = std::make_unique<FlowTable>(maps_.tables());

    const Ifindex lo{static_cast<int>(lo_ifindex_)};
    for (auto slot : {kIn, kOut, kUnmapped}) {
        maps_.port(slot) = {XF_PORT_TX_NATIVE | XF_PORT_TX_GENERIC | XF_PORT_TX_SKB | XF_PORT_TX_SUMS, kMtuFrame, 0, 0, 0, 0, {}, {}};
    }
    maps_.port(kDown) = {0, kMtuFrame, 0, 0, 0, 0, {}, {}};
    maps_.port(kGeneve) = {0, 0, 0, XF_TUNNEL_GENEVE, 0, 0, {}, {}};
    maps_.port(kVxlan) = {0, 0, 0, XF_TUNNEL_VXLAN, 0, 0, {}, {}};
    maps_.port(kNarrow) = {XF_PORT_TX_NATIVE | XF_PORT_TX_SKB, 100, 0, 0, 0, 0, {}, {}};
    for (auto slot : {kIn, kOut, kDown, kNarrow}) {
        must(maps_.set_tx_port(slot, lo));
    }

    const int next = takes_over_from ? takes_over_from->calls().next : -1;
    must(load_program(maps_, {kIn, tx_flag, traits}, -1, next, &skeleton_));
}

Program::Calls Program::calls() const {
    return {bpf_map__fd(skeleton_->maps.xf_next), fd(),
            bpf_program__fd(skeleton_->progs.xf_sample)};
}

FlowSlot Program::add(const FlowSpec &spec) {
    FlowSlot slot;
    if (auto r = table_->insert(spec.cls, spec.key, spec.mask,
                                {spec.action, spec.rewrite}, &slot)) {
        throw std::runtime_error(r.name());
    }
    flows_.push_back(slot);
    return slot;
}

void Program::remove_all() {
    for (auto slot : flows_) {
        table_->remove(slot);
    }
    flows_.clear();
    must(maps_.wait_for_programs());
    pass_grace(table_.get());
    maps_.clear_misses(kIn);
}

void Program::forget(FlowSlot slot) { std::erase(flows_, slot); }

int Program::fd() const {
    return bpf_program__fd(skeleton_->progs.xsk_def_prog);
}

int Program::socket_map_fd() const {
    return bpf_map__fd(skeleton_->maps.xsks_map);
}

int Program::tx_ports_fd() const {
    return bpf_map__fd(skeleton_->maps.xf_tx_ports);
}

Run Program::run(const Frame &in, uint32_t queue, uint32_t metadata,
                 bool *ok) {
    Frame data(metadata);
    data.insert(data.end(), in.begin(), in.end());
    xdp_md ctx{};
    Run run;
    run.out.resize(data.size() + 256);
    ctx.data = metadata;
    ctx.data_end = data.size();
    ctx.rx_queue_index = queue;
    ctx.ingress_ifindex = lo_ifindex_;
    LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = data.data(),
                .data_out = run.out.data(),
                .data_size_in = static_cast<uint32_t>(data.size()),
                .data_size_out = static_cast<uint32_t>(run.out.size()),
                .ctx_in = &ctx, .ctx_size_in = sizeof ctx, .repeat = 1);
    const int error = bpf_prog_test_run_opts(fd(), &opts);
    if (ok) {
        *ok = !error;
    }
    if (error) {
        if (ok && errno == EINVAL) {
            return run;
        }
        throw std::runtime_error(std::string("BPF_PROG_TEST_RUN: ")
                                 + std::strerror(errno));
    }
    run.verdict = opts.retval;
    run.out.resize(opts.data_size_out);
    run.out.erase(run.out.begin(), run.out.begin() + metadata);
    return run;
}

int64_t now_ms() {
    timespec t;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
    return t.tv_sec * 1000LL + t.tv_nsec / 1'000'000;
}

uint32_t time_program(int fd, const Frame &in, int repeat) {
    LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = in.data(),
                .data_size_in = static_cast<uint32_t>(in.size()),
                .repeat = repeat);
    if (bpf_prog_test_run_opts(fd, &opts)) {
        throw std::runtime_error("BPF_PROG_TEST_RUN");
    }
    return opts.duration;
}

uint64_t Program::total_misses() const {
    uint64_t sum = 0;
    for (int r = 0; r < XF_N_MISSES; r++) {
        sum += misses(static_cast<xf_miss>(r));
    }
    return sum;
}

}  // namespace flowxlate::test
