// SPDX-License-Identifier: Apache-2.0
// What ct() costs in the XDP program: the cases of program_cost.cc about
//
//   pipeline.PROTO.N_flows.M_ct   a packet of established connections that
//   passes
//            N flows, of which the first M do ct(), each in a zone of its own,
//            and all but the last one recirculate.  Without any ct() this is
//            what recirculation costs.
//   M_ct_nat the first ct() translates the source.  The program that undoes
//   that
//            is part of the figure; 'bare' has it too.
//   connections.N
//            two flows and one ct(), each packet of another one of N
//            connections. The program that chooses it is part of the figure;
//            'bare' has it too.
//
// Rivals are those of ct_rivals.h.
#ifndef TESTS_BENCH_CONNTRACK_COST_H
#define TESTS_BENCH_CONNTRACK_COST_H

#include <memory>
#include <string>
#include <vector>

#include "ct_rivals.h"
#include "pipelines.h"
#include "program_cases.h"

namespace flowxlate::bench {

// Owns what the cases run; must outlive them.
class ConntrackCost {
public:
    ConntrackCost(int bare, int devmap, ProgramCases *cases);
    ~ConntrackCost();
    void add();
    // Says which figures there are not, and why.
    void report_missing(Results *) const;

private:
    // Our program, with the flows of a pipeline, and connections.
    struct Ours;
    struct Missing {
        std::string metric, why;
    };

    Ours &new_ours(const Pipeline &);
    void add_ours(const Pipeline &);
    void add_hash_ct(const Pipeline &, Keys);
    void add_kfunc_ct(const Pipeline &);
    std::string new_kfunc_ct(const Pipeline &);
    void add_translating(const Pipeline &);
    void add_connections(uint32_t n);

    const int bare_, devmap_;
    ProgramCases *const cases_;
    std::vector<std::unique_ptr<Ours>> ours_;
    std::vector<std::unique_ptr<HashCt>> hash_cts_;
    std::vector<std::unique_ptr<KfuncCt>> kfunc_cts_;
    std::vector<std::unique_ptr<Front>> fronts_;
    std::vector<Missing> missing_;
};

}  // namespace flowxlate::bench

#endif
