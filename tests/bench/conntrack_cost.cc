// SPDX-License-Identifier: Apache-2.0
#include "conntrack_cost.h"

#include <linux/bpf.h>
#include <netinet/in.h>

#include <stdexcept>

#include "flowxlate/tables/conn_table.h"
#include "rivals_abi.h"

namespace flowxlate::bench {
namespace {

using test::Program;

constexpr uint8_t kTcp = IPPROTO_TCP, kUdp = IPPROTO_UDP;
// One flow, and what a recirculation adds; then ct().
constexpr Pipeline kPlain[] = {{kTcp, 1, 0}, {kTcp, 2, 0}, {kTcp, 4, 0}};
constexpr Pipeline kTracking[] = {{kTcp, 2, 1}, {kTcp, 3, 1}, {kTcp, 4, 2},
                                  {kTcp, 4, 3}, {kTcp, 5, 4}, {kUdp, 4, 3}};
constexpr Pipeline kByKernel[] = {{kTcp, 2, 1}, {kTcp, 4, 3}, {kUdp, 4, 3}};
constexpr Pipeline kThreeCts = {kTcp, 4, 3};
constexpr Pipeline kTranslating = {kTcp, 4, 3, true};
constexpr Pipeline kOneCt = {kTcp, 2, 1};
constexpr uint32_t kConnections[] = {1, 65536};

std::string metric_of(const Pipeline &p, const char *whose) {
    return "pipeline." + p.name() + "." + whose;
}

}  // namespace

struct ConntrackCost::Ours {
    Ours() : table(program.maps().connections()) {
        table.open({sizeof(ovs_offload_ct_settings), true, false});
    }
    void add(const std::vector<ovs_offload_ct> &conns) {
        for (auto &c : conns) {
            uint64_t handle = 0;
            table.put(c, &handle);
        }
    }

    Program program;
    ConnTable table;
};

ConntrackCost::ConntrackCost(int bare, int devmap, ProgramCases *cases)
    : bare_(bare), devmap_(devmap), cases_(cases) {}

ConntrackCost::~ConntrackCost() = default;

ConntrackCost::Ours &ConntrackCost::new_ours(const Pipeline &p) {
    auto &ours = *ours_.emplace_back(std::make_unique<Ours>());
    for (auto &spec : specs_of(p)) {
        ours.program.add(spec);
    }
    return ours;
}

void ConntrackCost::add_ours(const Pipeline &p) {
    Ours &ours = new_ours(p);
    ours.add(connections_of(p));
    cases_->add(metric_of(p, "ours"), ours.program.fd(), pipeline_packet(p),
                XDP_REDIRECT);
}

void ConntrackCost::add_hash_ct(const Pipeline &p, Keys keys) {
    auto &rival = *hash_cts_.emplace_back(
        std::make_unique<HashCt>(p, devmap_, p.n_cts, keys));
    rival.add(connections_of(p));
    cases_->add(metric_of(p, keys == kIpv4Keys ? "hash_ct_ipv4" : "hash_ct"),
                rival.fd(), pipeline_packet(p), XDP_REDIRECT);
}

void ConntrackCost::add_translating(const Pipeline &p) {
    const auto in = pipeline_packet(p);
    Ours &ours = new_ours(p);
    ours.add(connections_of(p));
    auto &rival =
        *hash_cts_.emplace_back(std::make_unique<HashCt>(p, devmap_, p.n_cts));
    rival.add(connections_of(p));
    auto *front = fronts_.emplace_back(std::make_unique<Restore>(in)).get();
    cases_->add_behind(front, metric_of(p, "bare"), bare_, in);
    cases_->add_behind(front, metric_of(p, "ours"), ours.program.fd(), in);
    cases_->add_behind(front, metric_of(p, "hash_ct"), rival.fd(), in);
}

void ConntrackCost::add_kfunc_ct(const Pipeline &p) {
    const auto metric = metric_of(p, "kfunc_ct"), why = new_kfunc_ct(p);
    if (!why.empty()) {
        missing_.push_back({metric, why});
        return;
    }
    cases_->add(metric, kfunc_cts_.back()->fd(), pipeline_packet(p),
                XDP_REDIRECT);
}

// Returns why there is none; empty if there is.
std::string ConntrackCost::new_kfunc_ct(const Pipeline &p) {
    auto why = KfuncCt::missing();
    if (!why.empty()) {
        return why;
    }
    try {
        auto &rival =
            *kfunc_cts_.emplace_back(std::make_unique<KfuncCt>(p, devmap_));
        return rival.insert(pipeline_packet(p));
    } catch (const std::runtime_error &e) {
        return e.what();
    }
}

void ConntrackCost::add_connections(uint32_t n) {
    Ours &ours = new_ours(kOneCt);
    auto &rival =
        *hash_cts_.emplace_back(std::make_unique<HashCt>(kOneCt, devmap_, n));
    for (uint32_t i = 0; i < n; i++) {
        const auto conns = connections_of(kOneCt, RIVAL_FLOW_ADDRESS + i);
        ours.add(conns);
        rival.add(conns);
    }
    auto *vary = fronts_
                     .emplace_back(std::make_unique<Vary>(uniform_sequence(n),
                                                          Vary::kAddress))
                     .get();
    const std::string prefix = "connections." + std::to_string(n) + ".";
    const auto in = pipeline_packet(kOneCt);
    cases_->add_behind(vary, prefix + "bare", bare_, in);
    cases_->add_behind(vary, prefix + "ours", ours.program.fd(), in);
    cases_->add_behind(vary, prefix + "hash_ct", rival.fd(), in);
}

void ConntrackCost::add() {
    for (auto &p : kPlain) {
        add_ours(p);
    }
    for (auto &p : kTracking) {
        add_ours(p);
        add_hash_ct(p, kWholeKeys);
    }
    add_hash_ct(kThreeCts, kIpv4Keys);
    for (auto &p : kByKernel) {
        add_kfunc_ct(p);
    }
    add_translating(kTranslating);
    for (uint32_t n : kConnections) {
        add_connections(n);
    }
}

void ConntrackCost::report_missing(Results *results) const {
    for (auto &m : missing_) {
        results->add_unavailable("program_ns." + m.metric, "ns", m.why);
    }
}

}  // namespace flowxlate::bench
