// SPDX-License-Identifier: Apache-2.0
#include "rivals.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <net/ethernet.h>
#include <netinet/ip.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <numeric>
#include <random>
#include <stdexcept>

#include "rivals.skel.h"
#include "tests/bench/rivals_abi.h"

namespace flowxlate::bench {

void must(bool ok, const std::string &what) {
    if (!ok) {
        throw std::runtime_error(what + ": " + std::strerror(errno));
    }
}

uint32_t count_cpus() {
    const int n = libbpf_num_possible_cpus();
    must(n > 0, "cannot count the CPUs");
    return n;
}

namespace {

using test::kIn;
using test::kOut;
using test::Packet;

constexpr uint16_t kEthIpv4 = 0x0800;
constexpr uint16_t kService = 53;  // The UDP port that flows match.

Rivals open_rivals() {
    Rivals rivals(rivals_bpf::open());
    must(rivals != nullptr, "cannot open the rivals");
    rivals->rodata->in_port = index(kIn);
    rivals->rodata->out_port = index(kOut);
    return rivals;
}

// Loads 'program' and no other.
void load(const Rivals &rivals, const bpf_program *program) {
    bpf_program *p;
    bpf_object__for_each_program(p, rivals->obj) {
        bpf_program__set_autoload(p, p == program);
    }
    must(!rivals_bpf::load(rivals.get()),
         std::string("cannot load ") + bpf_program__name(program));
}

void use_devmap(const Rivals &rivals, int devmap) {
    must(!bpf_map__reuse_fd(rivals->maps.tx_ports, devmap),
         "cannot share the device map");
}

std::vector<uint32_t> shuffled_numbers(uint32_t n, std::mt19937_64 *random) {
    std::vector<uint32_t> v(n);
    std::iota(v.begin(), v.end(), 0);
    std::shuffle(v.begin(), v.end(), *random);
    return v;
}

// kShortest bytes.
Packet udp4(uint16_t src, uint16_t dst) {
    return Packet().eth(kEthIpv4).ipv4(IPPROTO_UDP).udp(src, dst).payload(18);
}

}  // namespace

void RivalsDeleter::operator()(rivals_bpf *r) const { rivals_bpf::destroy(r); }

// -- Bare -------------------------------------------------------------------

Bare::Bare(int devmap) : rivals_(open_rivals()) {
    use_devmap(rivals_, devmap);
    load(rivals_, rivals_->progs.bare);
}

int Bare::fd() const { return bpf_program__fd(rivals_->progs.bare); }

// -- HashWalk ---------------------------------------------------------------

HashWalk::HashWalk(int devmap, uint32_t max_flows_per_mask)
    : rivals_(open_rivals()),
      max_flows_per_mask_(max_flows_per_mask),
      value_size_(sizeof(rival_flow) + count_cpus() * sizeof(rival_stats)) {
    use_devmap(rivals_, devmap);
    rivals_->rodata->n_cpus = count_cpus();
    must(!bpf_map__set_value_size(bpf_map__inner_map(rivals_->maps.subtables),
                                  value_size_),
         "cannot size the hash maps");
    load(rivals_, rivals_->progs.hash_walk);
}

int HashWalk::fd() const { return bpf_program__fd(rivals_->progs.hash_walk); }

size_t HashWalk::map_of(const xf_key &mask) {
    auto &bss = *rivals_->bss;
    auto is_it = [&](auto &m) { return !std::memcmp(&m, &mask, sizeof m); };
    const size_t n =
        std::find_if(bss.masks, bss.masks + bss.n_masks, is_it) - bss.masks;
    if (n < bss.n_masks) {
        return n;
    }
    if (n == RIVAL_MAX_MASKS) {
        throw std::runtime_error("too many masks for the hash walk");
    }
    Fd map(bpf_map_create(BPF_MAP_TYPE_HASH, "subtable", sizeof(xf_key),
                          value_size_, max_flows_per_mask_, nullptr));
    must(static_cast<bool>(map), "cannot create a hash map");
    const uint32_t key = n;
    const int fd = map.get();
    must(!bpf_map_update_elem(bpf_map__fd(rivals_->maps.subtables), &key, &fd,
                              BPF_ANY),
         "cannot add a hash map");
    maps_.push_back(std::move(map));
    std::memcpy(&bss.masks[n], &mask, sizeof mask);
    bss.n_masks = n + 1;
    return n;
}

std::vector<uint8_t> HashWalk::value(PortSlot out) const {
    std::vector<uint8_t> value(value_size_);
    const rival_flow flow{index(out), 0};
    std::memcpy(value.data(), &flow, sizeof flow);
    return value;
}

void HashWalk::add(const FlowSpec &spec) {
    const int map = map_fd(map_of(spec.mask));
    const auto flow = value(PortSlot{spec.action.to});
    must(!bpf_map_update_elem(map, &spec.key, flow.data(), BPF_NOEXIST),
         "cannot add a flow to the hash walk");
}

// -- Front ------------------------------------------------------------------

Front::Front(const char *program)
    : rivals_(open_rivals()),
      program_(bpf_object__find_program_by_name(rivals_->obj, program)) {
    must(program_ != nullptr, program);
    load(rivals_, program_);
}

void Front::set_program(int fd) {
    const uint32_t key = 0;
    must(!bpf_map_update_elem(bpf_map__fd(rivals_->maps.under_test), &key, &fd,
                              BPF_ANY),
         "cannot chain the programs");
}

int Front::fd() const { return bpf_program__fd(program_); }

Vary::Vary(const std::vector<uint32_t> &sequence, Field field)
    : Front(field == kAddress ? "vary_source" : "vary") {
    std::copy_n(sequence.begin(), RIVAL_SEQUENCE, rivals().bss->sequence);
}

Restore::Restore(const Frame &frame) : Front("restore") {
    std::memcpy(rivals().bss->headers, frame.data(),
                std::min(frame.size(), sizeof rivals().bss->headers));
}

// -- The work ---------------------------------------------------------------

std::vector<FlowSpec> specs_of_masks(int n) {
    std::vector<FlowSpec> specs;
    for (int i = 1; i < n; i++) {
        auto other = FlowSpec::ipv4().proto(IPPROTO_TCP).to(kOut);
        other.mask.ipv4_src = i;
        specs.push_back(other);
    }
    specs.push_back(
        FlowSpec::ipv4().proto(IPPROTO_UDP).tp_dst(kService).to(kOut));
    return specs;
}

Frame hit_packet(size_t len) {
    return udp4(1000, kService).payload(len - kShortest).bytes();
}
Frame miss_packet() { return udp4(1000, kService + 1).bytes(); }

FlowSpec flow_spec(uint32_t i) {
    auto spec = FlowSpec::ipv4().proto(IPPROTO_UDP).tp_src(i).to(kOut);
    spec.key.ipv4_src = htonl(RIVAL_FLOW_ADDRESS + i);
    spec.mask.ipv4_src = UINT32_MAX;
    return spec;
}

Frame varied_packet(uint32_t i) {
    auto packet = udp4(i, kService).no_checksum();
    const uint32_t address = htonl(RIVAL_FLOW_ADDRESS + i);
    for (size_t byte = 0; byte < sizeof address; byte++) {
        packet.poke(ETH_HLEN + offsetof(iphdr, saddr) + byte,
                    reinterpret_cast<const uint8_t *>(&address)[byte]);
    }
    return packet.bytes();
}

std::vector<uint32_t> uniform_sequence(uint32_t n) {
    std::mt19937_64 random(n);
    std::vector<uint32_t> sequence;
    while (sequence.size() < RIVAL_SEQUENCE) {
        const auto lap = shuffled_numbers(n, &random);
        sequence.insert(sequence.end(), lap.begin(), lap.end());
    }
    sequence.resize(RIVAL_SEQUENCE);
    return sequence;
}

std::vector<uint32_t> zipf_sequence(uint32_t n) {
    std::mt19937_64 random(n);
    const auto by_rank = shuffled_numbers(n, &random);
    std::vector<double> weights(n);
    for (uint32_t rank = 0; rank < n; rank++) {
        weights[rank] = 1.0 / (rank + 1);
    }
    std::discrete_distribution<uint32_t> rank(weights.begin(), weights.end());
    std::vector<uint32_t> sequence(RIVAL_SEQUENCE);
    for (auto &flow : sequence) {
        flow = by_rank[rank(random)];
    }
    return sequence;
}

}  // namespace flowxlate::bench
