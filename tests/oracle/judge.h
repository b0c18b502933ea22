// SPDX-License-Identifier: Apache-2.0
// Model and reality compared, packet by packet.
//
// The rules.  A miss is always allowed, if the packet is untouched, no flow
// has counted anything and one miss was counted.  A hit must be what OVS does:
// the same bytes out of the same ports or a drop, and each flow on the way has
// counted one packet, its bytes at that point and its TCP flags; no other flow
// has counted anything.  Which port it was is seen by letting only those
// transmit that OVS uses, and then, for some packets, by holding one of these
// down: then the packet must be a miss.
//
// How many packets hit is counted by kind, so that a program that passes
// everything on is noticed.
#ifndef TESTS_ORACLE_JUDGE_H
#define TESTS_ORACLE_JUDGE_H

#include <memory>

#include "reality.h"

namespace oracle {

// A flow set and a packet for it.
struct Case {
    FlowSet set;
    Frame frame;
};

// Kinds of packets and of actions; in judge.cc are their names.
constexpr size_t kMaxKinds = 48;
constexpr size_t kMaxReasons = 128;

// Plain memory: jobs share it with their parent.
struct Tally {
    uint64_t packets = 0, flow_sets = 0, megaflows = 0, refused = 0;
    uint64_t executed = 0;  // Packets that OVS would execute in its fast path.
    uint64_t hits = 0;      // Of these, in XDP.
    struct Kind {
        uint64_t executed = 0, hits = 0;
    };
    std::array<Kind, kMaxKinds> kinds{};
    struct Reason {
        const char *group = nullptr, *what = nullptr;
        uint64_t n = 0;
    };
    std::array<Reason, kMaxReasons> reasons{};

    void add(const Tally &);
    void count_reject(const Reject &, uint64_t n = 1);
    void print() const;
};

// What is wrong.  'kind' is a literal: shrinking must not lead to something
// else.
struct Mismatch {
    const char *kind = nullptr;
    std::string details;
    explicit operator bool() const { return kind != nullptr; }
};

class Judge {
public:
    // Makes 'set', which must stay, the one that packets are run against.
    void use(const FlowSet &set);

    // Runs a packet.  'thorough': with each of its ports held down as well.
    Mismatch check(const Frame &, bool thorough);

    // Installs the case's flows and runs its packet, before and after the
    // program has learnt where it goes.
    Mismatch check(const Case &);

    Tally &tally() { return tally_; }

private:
    struct Outcomes;

    void foresee(const Frame &);
    Mismatch check_miss(const Frame &, const Observed &) const;
    Mismatch check_hit(const Observed &, const model_result **used) const;
    Mismatch check_counts(const Observed &, const model_result &) const;
    Mismatch check_held_down(const Frame &, const model_result &);
    Ports expected_ports() const;
    std::string describe(const Observed &) const;
    void count(const model_result *used);

    std::unique_ptr<Reality> native_, generic_;
    Reality *reality_ = nullptr;
    const FlowSet *set_ = nullptr;
    std::vector<const model_flow *> models_;
    std::vector<std::unique_ptr<model_result>> outcomes_;  // Reused.
    size_t n_outcomes_ = 0;
    size_t n_checked_ = 0;
    Tally tally_;
};

}  // namespace oracle

#endif
