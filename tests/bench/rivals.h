// SPDX-License-Identifier: Apache-2.0
// The programs of rivals.bpf.c, and the work that they and ours get.
//
// All of them redirect into one device map, that of a test::Program or another
// one of XF_MAX_PORTS devices, and ports are those of tests/bpf/program.h.
#ifndef TESTS_BENCH_RIVALS_H
#define TESTS_BENCH_RIVALS_H

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "flowxlate/base/resource.h"
#include "rivals_abi.h"
#include "tests/bpf/program.h"

struct bpf_program;
struct rivals_bpf;  // The skeleton of rivals.bpf.c.

namespace flowxlate::bench {

using test::FlowSpec;
using test::Frame;

struct RivalsDeleter {
    void operator()(rivals_bpf *) const;
};
using Rivals = std::unique_ptr<rivals_bpf, RivalsDeleter>;

// Only redirects, to test::kOut.
class Bare {
public:
    explicit Bare(int devmap);
    int fd() const;

private:
    Rivals rivals_;
};

// A hash map per mask, and a walk over the masks in the order in which they
// were first used.
class HashWalk {
public:
    HashWalk(int devmap, uint32_t max_flows_per_mask);

    void add(const FlowSpec &);
    int fd() const;

    // The hash map of the 'n'th mask, and a value for it: from a masked struct
    // xf_key to a struct rival_flow.
    int map_fd(size_t n) const { return maps_[n].get(); }
    std::vector<uint8_t> value(PortSlot out) const;

private:
    size_t map_of(const xf_key &mask);

    Rivals rivals_;
    uint32_t max_flows_per_mask_;
    uint32_t value_size_;
    std::vector<Fd> maps_;
};

// Throws what errno says of 'what', unless it is 'ok'.
void must(bool ok, const std::string &what);

// That there may be.
uint32_t count_cpus();

// Changes the packet, and goes on with the program under test.
class Front {
public:
    // What is run next by fd().
    void set_program(int fd);
    int fd() const;

protected:
    explicit Front(const char *program);
    rivals_bpf &rivals() { return *rivals_; }

private:
    Rivals rivals_;
    bpf_program *program_;
};

// Makes packets of many flows: each is varied_packet() with the source of the
// next flow in 'sequence'; or any packet, with that address and a right IPv4
// checksum (kAddress).
class Vary : public Front {
public:
    enum Field { kAddressAndPort, kAddress };
    explicit Vary(const std::vector<uint32_t> &sequence,
                  Field field = kAddressAndPort);
};

// Makes the headers what they were in 'frame': a program that changes its
// packet gets it again as it has left it.
class Restore : public Front {
public:
    explicit Restore(const Frame &frame);
};

// -- The work ---------------------------------------------------------------

// The largest number of masks for which a rival is measured.
constexpr int kMostMasks = RIVAL_MAX_MASKS;

// One flow each of 'n' masks, of which hit_packet() matches the last and
// miss_packet() none.
std::vector<FlowSpec> specs_of_masks(int n);
constexpr size_t kShortest = 60;
Frame hit_packet(size_t len = kShortest);
Frame miss_packet();

// The flow with number 'i' of one mask, IPv4 and UDP, and its packet.
FlowSpec flow_spec(uint32_t i);
Frame varied_packet(uint32_t i = 0);

// As many flow numbers below 'n' as Vary takes.  Uniform: each flow as often
// as every other, in random order.  Zipf: the k-th most frequent one k times
// as seldom as the most frequent.  The same for every call.
std::vector<uint32_t> uniform_sequence(uint32_t n);
std::vector<uint32_t> zipf_sequence(uint32_t n);

}  // namespace flowxlate::bench

#endif
