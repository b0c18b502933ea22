// SPDX-License-Identifier: Apache-2.0
// What a packet costs in the XDP program: nanoseconds of BPF_PROG_TEST_RUN on
// one packet after the other, which are sent nowhere.
//
// Ours is measured beside a program that only redirects (what nobody can
// undercut) and beside a walk over a hash map per mask (the usual design; see
// rivals.bpf.c), by
//
//   masks    1 to as many as fit, the packet hits the one that came last, or
//            none of them (..._miss)
//   stages   of ours: it ends after its first, second, ... step; and the
//            'shortest' program that does the same, without its code
//   classes  of packets, with one mask
//   flows    of one mask, every packet another flow's.  The program that
//            chooses the flow is part of the figure; bare_flows has it too.
//   capture  of ours: a packet that hits, while nobody looks ("off") and while
//   it
//            is copied ("on"), of 64 and 1500 bytes
//   rows     of ours: a CPU that shares its row with others, and so counts
//            atomically, with one mask
//   ct()     see conntrack_cost.h
//   tunnels  see tunnel_cost.h
//
// memory_ns is what reading one cache line after the other costs, in random
// order, in as much memory: what the many flows' tables cannot go below.
#include <memory>
#include <stdexcept>
#include <vector>

#include <linux/bpf.h>

#include "bpf/abi/capture.h"
#include "chase.h"
#include "conntrack_cost.h"
#include "measure.h"
#include "program_cases.h"
#include "rivals.h"
#include "stages.h"
#include "tests/bpf/captured.h"
#include "tunnel_cost.h"

namespace flowxlate::bench {
namespace {

using test::kOut;
using test::Packet;
using test::Program;

constexpr int kMasks[] = {1, 4, 16, 64, kMostMasks};
constexpr uint32_t kFlows[] = {1, 1000, 65536};

class ProgramCost {
public:
    explicit ProgramCost(const Options &options)
        : options_(options), cases_(options) {}
    void run(Results *);

private:
    Program &new_ours(const std::vector<FlowSpec> &);
    HashWalk &new_hash_walk(const std::vector<FlowSpec> &);
    void add_stages();
    void add_capture(uint32_t frame_len);
    void add_masks(int n);
    void add_class(const std::string &name, const FlowSpec &, const Frame &);
    void add_flows(uint32_t n);
    void add_shared_row();
    void add_memory();
    int devmap() const { return devmap_owner_.tx_ports_fd(); }

    const Options options_;
    Program devmap_owner_;
    Bare bare_{devmap()};
    std::vector<std::unique_ptr<Program>> ours_;
    std::unique_ptr<Stages> stages_;
    std::vector<std::unique_ptr<test::Captured>> captures_;
    std::vector<std::unique_ptr<HashWalk>> hash_walks_;
    std::vector<std::unique_ptr<Vary>> varies_;
    ProgramCases cases_;
};

Program &ProgramCost::new_ours(const std::vector<FlowSpec> &specs) {
    auto &ours = *ours_.emplace_back(std::make_unique<Program>());
    for (auto &spec : specs) {
        ours.add(spec);
    }
    return ours;
}

HashWalk &ProgramCost::new_hash_walk(const std::vector<FlowSpec> &specs) {
    auto &walk = *hash_walks_.emplace_back(
        std::make_unique<HashWalk>(devmap(), specs.size()));
    for (auto &spec : specs) {
        walk.add(spec);
    }
    return walk;
}

void ProgramCost::add_stages() {
    stages_ = std::make_unique<Stages>(new_ours(specs_of_masks(1)));
    const std::pair<const char *, int> stages[] = {
        {"enter", stages_->enter_fd()},
        {"parse", stages_->parse_fd()},
        {"hash", stages_->hash_fd()},
        {"find", stages_->find_fd()},
        {"shortest", stages_->shortest_fd()}};
    for (auto [name, fd] : stages) {
        cases_.add(std::string("stage.") + name, fd, hit_packet(),
                   XDP_REDIRECT);
    }
}

void ProgramCost::add_capture(uint32_t frame_len) {
    constexpr uint32_t kRuns = 20000;  // The ring has room for so many.
    Program &ours = new_ours(specs_of_masks(1));
    auto *captured =
        captures_
            .emplace_back(std::make_unique<test::Captured>(
                ours, CaptureSizes{.packet = XF_MAX_CAPTURE, .ring = 1 << 26}))
            .get();
    const Frame in = hit_packet(frame_len);
    const std::string len = std::to_string(frame_len);
    cases_.add("capture.off." + len, ours.fd(), in, XDP_REDIRECT);
    const ProgramTimer timer(captured->fd(), in);
    auto sample = [=] {
        captured->take();
        const double ns = timer.ns_per_run(kRuns);
        if (captured->lease().lost) {
            throw std::runtime_error("the ring is too small");
        }
        return ns;
    };
    cases_.add({"program_ns.capture.on." + len, "ns", sample});
}

// No other CPU uses it meanwhile: what atomic additions cost.
void ProgramCost::add_shared_row() {
    const BpfMaps::Config config{.is_online = std::vector<bool>(256)};
    auto &ours = *ours_.emplace_back(std::make_unique<Program>(
        XF_PORT_TX_NATIVE, nullptr, PortTraits{}, config));
    ours.add(specs_of_masks(1).front());
    cases_.add("ours_shared_row.1", ours.fd(), hit_packet(), XDP_REDIRECT);
}

void ProgramCost::add_masks(int n) {
    const auto specs = specs_of_masks(n);
    const std::string masks = "." + std::to_string(n);
    const int ours = new_ours(specs).fd();
    const int walk = new_hash_walk(specs).fd();
    cases_.add("ours" + masks, ours, hit_packet(), XDP_REDIRECT);
    cases_.add("hash_walk" + masks, walk, hit_packet(), XDP_REDIRECT);
    cases_.add("ours_miss" + masks, ours, miss_packet(), XDP_PASS);
    cases_.add("hash_walk_miss" + masks, walk, miss_packet(), XDP_PASS);
}

void ProgramCost::add_class(const std::string &name, const FlowSpec &spec,
                            const Frame &in) {
    cases_.add("class." + name + ".ours", new_ours({spec}).fd(), in,
               XDP_REDIRECT);
    cases_.add("class." + name + ".hash_walk", new_hash_walk({spec}).fd(), in,
               XDP_REDIRECT);
}

void ProgramCost::add_flows(uint32_t n) {
    std::vector<FlowSpec> specs;
    for (uint32_t i = 0; i < n; i++) {
        specs.push_back(flow_spec(i));
    }
    const int ours = new_ours(specs).fd();
    const int walk = new_hash_walk(specs).fd();
    const std::pair<const char *, std::vector<uint32_t>> sequences[] = {
        {"_flows.", uniform_sequence(n)}, {"_flows_zipf.", zipf_sequence(n)}};
    for (auto &[name, sequence] : sequences) {
        auto *vary =
            varies_.emplace_back(std::make_unique<Vary>(sequence)).get();
        const auto suffix = name + std::to_string(n);
        const auto in = varied_packet();
        cases_.add_behind(vary, "bare" + suffix, bare_.fd(), in);
        cases_.add_behind(vary, "ours" + suffix, ours, in);
        cases_.add_behind(vary, "hash_walk" + suffix, walk, in);
    }
}

void ProgramCost::add_memory() {
    for (size_t kib : {512, 2048, 4096, 8192}) {
        auto chase = std::make_shared<Chase>(kib * 1024);
        cases_.add({"memory_ns." + std::to_string(kib) + "_kib", "ns",
                    [=] { return chase->ns_per_step(); }});
    }
}

void ProgramCost::run(Results *results) {
    cases_.add("bare", bare_.fd(), hit_packet(), XDP_REDIRECT);
    add_stages();
    add_capture(64);
    add_capture(1500);
    for (int n : kMasks) {
        add_masks(n);
    }
    add_shared_row();
    add_class("ipv4_udp", FlowSpec::ipv4().proto(IPPROTO_UDP).to(kOut),
              Packet().eth(0x0800).ipv4(IPPROTO_UDP).udp(1, 2).bytes());
    add_class("ipv6_tcp", FlowSpec::ipv6().proto(IPPROTO_TCP).to(kOut),
              Packet().eth(0x86dd).ipv6(IPPROTO_TCP).tcp(1, 2).bytes());
    add_class("vlan_ipv4", FlowSpec::ipv4().vid(5).to(kOut),
              Packet()
                  .eth(0x8100)
                  .vlan(5, 0x0800)
                  .ipv4(IPPROTO_UDP)
                  .udp(1, 2)
                  .bytes());
    for (uint32_t n : kFlows) {
        add_flows(n);
    }
    ConntrackCost conntrack(bare_.fd(), devmap(), &cases_);
    conntrack.add();
    TunnelCost tunnels(bare_.fd());
    tunnels.add(&cases_);
    add_memory();
    interleave(cases_.all(), options_.rounds, results);
    conntrack.report_missing(results);
}

}  // namespace
}  // namespace flowxlate::bench

int main(int argc, char **argv) {
    using namespace flowxlate::bench;
    return run_main(argc, argv, [](const Options &options, Results *results) {
        // What the kernel's tracker is told of ends with the namespace.
        enter_namespace();
        ProgramCost(options).run(results);
    });
}
