// SPDX-License-Identifier: Apache-2.0
#include "row.h"

#include <cctype>
#include <cstdlib>
#include <iostream>
#include <map>
#include <random>

namespace flowxlate::test {

size_t Row::counted(size_t flow) const {
    if (!lengths.empty()) {
        return flow < lengths.size() ? lengths[flow] : 0;
    }
    return static_cast<int>(flow) == hit ? in().size() : 0;
}

Row Row::tags(uint32_t n) const {
    Row row = *this;
    row.max_tags = n;
    return row;
}

Row Row::passing(const std::vector<size_t> &in_each) const {
    Row row = *this;
    row.lengths = in_each;
    return row;
}

Row missing(const char *name, const std::vector<FlowSpec> &flows,
            const Packet &packet, xf_miss miss) {
    return {name, flows, packet, kNone, XDP_PASS, miss};
}

void PrintTo(const Row &row, std::ostream *os) { *os << row.name; }

std::string as_test_name(const char *name) {
    std::string s;
    for (const char *c = name; *c; c++) {
        s += std::isalnum(static_cast<unsigned char>(*c)) ? *c : '_';
    }
    return s;
}

std::string row_name(const testing::TestParamInfo<Row> &info) { return as_test_name(info.param.name); }

Program &program() {
    static Program p;
    return p;
}

Program &empty_program() {
    program().remove_all();
    return program();
}

void check_row(Program &p, const Row &row) {
    const Frame in = row.in();
    std::vector<FlowSlot> slots;

    p.maps().clear_misses(kIn);
    p.maps().set_max_tags(row.max_tags);
    for (auto &f : row.flows) {
        slots.push_back(p.add(f));
    }
    const Run run = p.run(in);

    EXPECT_EQ(run.verdict, row.verdict);
    const Frame &expected = row.out.empty() ? in : row.out;
    if (row.verdict != XDP_DROP) {
        EXPECT_EQ(hex(run.out), hex(expected));
    }
    for (size_t i = 0; i < slots.size(); i++) {
        const auto stats = p.table().stats(slots[i]);
        const size_t bytes = row.counted(i);
        EXPECT_EQ(stats.packets, bytes ? 1U : 0U) << "flow " << i;
        EXPECT_EQ(stats.bytes, bytes) << "flow " << i;
        EXPECT_EQ(stats.used != 0, bytes != 0) << "flow " << i;
        const bool has_flags = bytes && i >= row.flags_from;
        EXPECT_EQ(stats.tcp_flags, has_flags ? row.tcp_flags : 0)
            << "flow " << i;
    }
    for (int r = 0; r < XF_N_MISSES; r++) {
        EXPECT_EQ(p.misses(static_cast<xf_miss>(r)), r == row.miss ? 1U : 0U)
            << "miss reason " << r;
    }
    for (auto slot : slots) {
        p.table().remove(slot);
        p.forget(slot);
    }
    p.maps().set_max_tags(1);
}

void check(Program &p, const Row &row) {
    p.remove_all();
    check_row(p, row);
}

void check_many(Program &p, const Row &row) {
    constexpr int kSome = 25;  // Each may use four of 128 subtables up.
    static std::map<Program *, int> n;
    if (n[&p]++ % kSome == 0) {
        p.remove_all();
    }
    check_row(p, row);
}

uint64_t seed() {
    const char *s = std::getenv("TEST_SEED");
    const uint64_t value = s ? std::strtoull(s, nullptr, 0)
                             : std::random_device()();
    std::cout << "TEST_SEED=" << value << "\n";
    return value;
}

Packet udp4() { return Packet().eth(kIpv4).ipv4(IPPROTO_UDP).udp(1000, 53).payload(22); }
Packet udp6() { return Packet().eth(kIpv6).ipv6(IPPROTO_UDP).udp(1000, 53).payload(22); }
Packet tcp4(uint16_t flags) { return Packet().eth(kIpv4).ipv4(IPPROTO_TCP).tcp(1000, 80, flags).payload(30); }
Packet tcp6() { return Packet().eth(kIpv6).ipv6(IPPROTO_TCP).tcp(1000, 80).payload(30); }
Packet tagged_udp4(uint16_t tci) { return Packet().eth(kVlan).vlan(tci, kIpv4).ipv4(IPPROTO_UDP).udp(1000, 53).payload(22); }
FlowSpec to_udp4() { return FlowSpec::ipv4().proto(IPPROTO_UDP).tp_dst(53).to(kOut); }

Frame with_tag(Frame f, uint16_t tpid, uint16_t tci) {
    f.insert(f.begin() + 12, {uint8_t(tpid >> 8), uint8_t(tpid), uint8_t(tci >> 8), uint8_t(tci)});
    return f;
}

Frame without_tag(Frame f) {
    f.erase(f.begin() + 12, f.begin() + 16);
    return f;
}

Frame cut(Frame f, size_t n) {
    f.resize(std::min(n, f.size()));
    return f;
}

}  // namespace flowxlate::test
