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
//   stages   of ours: it ends after its first, second, ... step
//   classes  of packets, with one mask
//   flows    of one mask, every packet another flow's.  The program that
//            chooses the flow is part of the figure; bare_flows has it too.
//
// memory_ns is what reading one cache line after the other costs, in random
// order, in as much memory: what the many flows' tables cannot go below.
#include <memory>
#include <vector>

#include <linux/bpf.h>

#include "chase.h"
#include "measure.h"
#include "rivals.h"
#include "rivals_abi.h"
#include "stages.h"

namespace flowxlate::bench {
namespace {

using test::kOut;
using test::Packet;
using test::Program;
using namespace std::chrono_literals;

constexpr int kMasks[] = {1, 4, 16, 64, kMostMasks};
constexpr uint32_t kFlows[] = {1, 1000, 65536};

class ProgramCost {
public:
    explicit ProgramCost(const Options &options) : options_(options) {}
    void run(Results *);

private:
    Program &new_ours(const std::vector<FlowSpec> &);
    HashWalk &new_hash_walk(const std::vector<FlowSpec> &);
    void add(const std::string &name, int fd, const Frame &, uint32_t verdict);
    void add_stages();
    void add_masks(int n);
    void add_class(const std::string &name, const FlowSpec &, const Frame &);
    void add_flows(uint32_t n);
    void add_memory();
    void add_varied(const std::string &name, Vary *, int fd);
    int devmap() const { return devmap_owner_.tx_ports_fd(); }

    const Options options_;
    Program devmap_owner_;
    Bare bare_{devmap()};
    std::vector<std::unique_ptr<Program>> ours_;
    std::unique_ptr<Stages> stages_;
    std::vector<std::unique_ptr<HashWalk>> hash_walks_;
    std::vector<std::unique_ptr<Vary>> varies_;
    std::vector<Case> cases_;
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

// Adds a case, after a look at whether the program does what is measured.
void ProgramCost::add(const std::string &name, int fd, const Frame &in,
                      uint32_t verdict) {
    const std::string metric = "program_ns." + name;
    expect_verdict(metric, fd, in, verdict);
    const ProgramTimer timer(fd, in);
    const auto repeat = timer.runs_in(options_.quick ? 5ms : 30ms);
    cases_.push_back({metric, "ns", [=] { return timer.ns_per_run(repeat); }});
}

void ProgramCost::add_stages() {
    stages_ = std::make_unique<Stages>(new_ours(specs_of_masks(1)));
    const std::pair<const char *, int> stages[] = {
        {"enter", stages_->enter_fd()},
        {"parse", stages_->parse_fd()},
        {"hash", stages_->hash_fd()},
        {"find", stages_->find_fd()}};
    for (auto [name, fd] : stages) {
        add(std::string("stage.") + name, fd, hit_packet(), XDP_REDIRECT);
    }
}

void ProgramCost::add_masks(int n) {
    const auto specs = specs_of_masks(n);
    const std::string masks = "." + std::to_string(n);
    const int ours = new_ours(specs).fd();
    const int walk = new_hash_walk(specs).fd();
    add("ours" + masks, ours, hit_packet(), XDP_REDIRECT);
    add("hash_walk" + masks, walk, hit_packet(), XDP_REDIRECT);
    add("ours_miss" + masks, ours, miss_packet(), XDP_PASS);
    add("hash_walk_miss" + masks, walk, miss_packet(), XDP_PASS);
}

void ProgramCost::add_class(const std::string &name, const FlowSpec &spec,
                            const Frame &in) {
    add("class." + name + ".ours", new_ours({spec}).fd(), in, XDP_REDIRECT);
    add("class." + name + ".hash_walk", new_hash_walk({spec}).fd(), in,
        XDP_REDIRECT);
}

void ProgramCost::add_varied(const std::string &name, Vary *vary, int fd) {
    const std::string metric = "program_ns." + name;
    const auto in = varied_packet();
    vary->set_program(fd);
    for (int i = 0; i < 1000; i++) {
        expect_verdict(metric, vary->fd(), in, XDP_REDIRECT);
    }
    const uint32_t repeat = RIVAL_SEQUENCE * (options_.quick ? 1 : 2);
    const ProgramTimer timer(vary->fd(), in);
    auto sample = [=] {
        vary->set_program(fd);
        // What the case before has left in the caches goes.
        timer.ns_per_run(RIVAL_SEQUENCE);
        return timer.ns_per_run(repeat);
    };
    cases_.push_back({metric, "ns", sample});
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
        add_varied("bare" + suffix, vary, bare_.fd());
        add_varied("ours" + suffix, vary, ours);
        add_varied("hash_walk" + suffix, vary, walk);
    }
}

void ProgramCost::add_memory() {
    for (size_t kib : {512, 2048, 4096, 8192}) {
        auto chase = std::make_shared<Chase>(kib * 1024);
        cases_.push_back({"memory_ns." + std::to_string(kib) + "_kib", "ns",
                          [=] { return chase->ns_per_step(); }});
    }
}

void ProgramCost::run(Results *results) {
    add("bare", bare_.fd(), hit_packet(), XDP_REDIRECT);
    add_stages();
    for (int n : kMasks) {
        add_masks(n);
    }
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
    add_memory();
    interleave(cases_, options_.rounds, results);
}

}  // namespace
}  // namespace flowxlate::bench

int main(int argc, char **argv) {
    using namespace flowxlate::bench;
    return run_main(argc, argv, [](const Options &options, Results *results) {
        ProgramCost(options).run(results);
    });
}
