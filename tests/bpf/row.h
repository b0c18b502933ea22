// SPDX-License-Identifier: Apache-2.0
// Rows of the tables: what goes in, which flows there are, and the verdict, the
// bytes and the statistics that must come out.
//
// What holds for every row is checked in check(): a hit counts the packet and
// its length once and counts no miss; a miss counts one miss for its reason,
// counts nothing else, and leaves every byte as it was.
#ifndef TESTS_BPF_ROW_H
#define TESTS_BPF_ROW_H

#include <gtest/gtest.h>
#include <linux/bpf.h>

#include <ostream>
#include <vector>

#include "bpf/abi/counters.h"
#include "program.h"

namespace flowxlate::test {

constexpr uint16_t kIpv4 = 0x0800, kIpv6 = 0x86dd, kArp = 0x0806,
                   kVlan = 0x8100, kQinq = 0x88a8, kLldp = 0x88cc,
                   kMpls = 0x8847;
constexpr uint8_t kIcmpv6 = 58, kSctp = 132, kFragment = 44;
constexpr uint8_t kSolicit = 135, kAdvert = 136;  // Neighbour Discovery ...
constexpr uint8_t kSll = 1, kTll = 2;             // ... and its options.
constexpr int kNone = -1;

struct Row {
    const char *name;
    std::vector<FlowSpec> flows;
    Packet packet;
    int hit;  // Index of the flow, or kNone.
    uint32_t verdict;
    int miss;        // enum xf_miss, or kNone.
    Frame out = {};  // Empty: the bytes that went in.
    uint16_t tcp_flags = 0;
    Frame raw = {};  // What goes in, if not 'packet'.
    // A packet that recirculates passes the first flows; its length in each.
    std::vector<size_t> lengths = {};
    uint32_t max_tags = 1;
    size_t flags_from = 0;  // The first flow that counts TCP flags.

    Frame in() const { return raw.empty() ? packet.bytes() : raw; }
    // The bytes that the flow counts, 0 = no packet.
    size_t counted(size_t flow) const;
    Row tags(uint32_t n) const;
    Row passing(const std::vector<size_t> &in_each) const;
};

// A row of a packet that is passed on.
Row missing(const char *name, const std::vector<FlowSpec> &flows,
            const Packet &packet, xf_miss miss = XF_MISS_NO_FLOW);

// Prints a row's name where the test fails.
void PrintTo(const Row &row, std::ostream *os);  // NOLINT: gtest's name
std::string row_name(const testing::TestParamInfo<Row> &info);
// A row's name in the letters that GoogleTest takes.
std::string as_test_name(const char *name);

// Of all rows in native mode.
Program &program();
Program &empty_program();  // Without flows.

// Runs a row on tables without a flow, and leaves them so.  check_row() leaves
// what it has used to a grace period that somebody else waits for; check_many()
// waits after some.
void check(Program &p, const Row &row);
void check_row(Program &p, const Row &row);
void check_many(Program &p, const Row &row);

class ProgramTest : public testing::TestWithParam<Row> {};

// TEST_SEED in the environment, else a random number; printed.
uint64_t seed();

// -- Packets and flows ------------------------------------------------------

Packet udp4();
Packet udp6();
Packet tcp4(uint16_t flags = 0x10);
Packet tcp6();
Packet tagged_udp4(uint16_t tci);
FlowSpec to_udp4();

// 'f' with a tag behind its addresses, or without it.
Frame with_tag(Frame f, uint16_t tpid, uint16_t tci);
Frame without_tag(Frame f);
Frame cut(Frame f, size_t n);

}  // namespace flowxlate::test

#endif
