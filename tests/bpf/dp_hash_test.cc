// SPDX-License-Identifier: Apache-2.0
// The hash by which a packet chooses a bucket: the program's is that of the
// reference, for each kind of packet, also after it was changed.
#include <arpa/inet.h>

#include "bpf/abi/counters.h"
#include "reference.h"
#include "row.h"

namespace flowxlate::test {
namespace {

constexpr uint16_t kHashed = 7;

// Every new packet of this class is hashed.
FlowSpec hashing(const Parsed &p, uint32_t basis) {
    return FlowSpec(p.cls, ntohs(p.key.eth_type)).any_tags().hash_to(basis, kHashed);
}
FlowSpec bucket(const Parsed &p, uint8_t value, uint8_t mask) {
    return FlowSpec(p.cls, ntohs(p.key.eth_type)).any_tags().recirc(kHashed).dp_hash(value, mask).drop();
}

void expect_hash(const Frame &in, const FlowSpec &flow, uint32_t hash, uint8_t mask) {
    const auto parsed = parse(in, 2);
    const uint16_t flags = ntohs(parsed->key.tcp_flags);
    const size_t there = in.size() + 4 * flow.action.n_push - 4 * flow.action.n_pop;
    auto other = bucket(*parsed, hash + 1, mask);
    check_many(program(), Row{"", {flow, bucket(*parsed, hash, mask), other}, {}, 0, XDP_DROP, kNone, {}, flags, in}.passing({in.size(), there}).tags(2));
    check_many(program(), Row{"", {flow, other}, {}, kNone, XDP_PASS, XF_MISS_RECIRC, {}, 0, in}.tags(2));
}

// What flowxlate/engine/offload.cc compares with what OVS computes.
TEST(DpHash, Probe) {
    const auto in = Packet().eth(kIpv4).ipv4(IPPROTO_TCP).tcp(1, 2).bytes();
    EXPECT_EQ(symmetric_hash(*parse(in, 1), 0), 0x78a08770U);
}

TEST(DpHash, IsTheReferences) {
    const uint64_t first = seed();
    std::mt19937 random(first);
    for (int i = 0; i < 60; i++) {
        for (auto &s : subjects(random() % 20)) {
            Frame in = s.in;
            // Addresses and ports that differ; the checksums do not matter.
            for (size_t at : {0, 3, 6, 11, 26, 31, 34, 35, 37, 45, 55, 57}) {
                in[at < in.size() ? at : 0] = random();
            }
            for (unsigned n = random() % 3; n > 0; n--) {
                in = with_tag(in, kVlan, random());
            }
            const auto parsed = parse(in, 2);
            if (!parsed) {
                continue;
            }
            SCOPED_TRACE(s.name + ", TEST_SEED=" + std::to_string(first));
            const uint32_t basis = random() % 2 ? random() : 0;
            const uint8_t masks[] = {0xff, 0xf, 0x3, 0x1};
            expect_hash(in, hashing(*parsed, basis), symmetric_hash(*parsed, basis), masks[random() % 4]);
            if (HasFailure()) {
                return;
            }
        }
    }
}

// Both directions of a connection choose the same bucket; UDP ports do not
// matter, those of TCP and SCTP do.
TEST(DpHash, WhatMatters) {
    auto hash = [](const Packet &p) { return symmetric_hash(*parse(p.bytes(), 2), 0); };
    auto udp = [](uint16_t src, uint16_t dst) { return Packet().eth(kIpv4).ipv4(17).udp(src, dst); };
    auto tcp = [](uint16_t src, uint16_t dst, uint16_t frag = 0) { return Packet().eth(kIpv4).ipv4(6, frag).tcp(src, dst); };
    EXPECT_EQ(hash(tcp(1, 2)), hash(tcp(2, 1)));
    EXPECT_NE(hash(tcp(1, 2)), hash(tcp(1, 3)));
    EXPECT_EQ(hash(udp(1, 2)), hash(udp(3, 4)));
    EXPECT_EQ(hash(tcp(1, 2, 0x2000)), hash(tcp(3, 4, 0x2000))) << "fragments have no ports here";
    EXPECT_NE(hash(Packet().eth(kLldp)), hash(Packet().eth(kVlan).vlan(5, kLldp)));
}

// The hash is that of the packet as it is then.
TEST(DpHash, OfWhatWasSetAndPushed) {
    for (auto &s : subjects(10)) {
        const auto parsed = parse(s.in, 2);
        auto flow = hashing(*parsed, 42).push(9);
        Frame there = s.in;
        for (auto &field : fields()) {
            const bool type = std::string_view(field.name).starts_with("icmpv6");
            if (has_field(field, *parsed) && find_field(field, *parsed) && !type && field.key_off != offsetof(xf_key, ipv6_label)) {
                const Frame value(field.size, 0x5a), ones(field.size, 0xff);
                flow.set(field.key_off, value, ones);
                there = with_field(there, field, *parsed, value, ones);
            }
        }
        SCOPED_TRACE(s.name);
        expect_hash(s.in, flow, symmetric_hash(*parse(with_tag(there, kVlan, 9), 2), 42), 0xff);
    }
}

// It stays with the packet until the next one.
TEST(DpHash, Stays) {
    const auto in = tcp4().bytes();
    const auto parsed = parse(in, 1);
    const uint32_t one = symmetric_hash(*parsed, 1), two = symmetric_hash(*parsed, 2);
    ASSERT_NE(one & 0xff, two & 0xff);
    auto flow = [](uint16_t recirc) { return FlowSpec::ipv4().recirc(recirc); };
    check(program(), Row{"", {flow(0).hash_to(1, 1), flow(1).recirc_to(2), flow(2).dp_hash(one, 0xff).hash_to(2, 3), flow(3).dp_hash(two, 0xff).to(kOut)}, tcp4(), 0, XDP_REDIRECT, kNone, {}, 0x10}.passing(std::vector<size_t>(4, in.size())));
}

}  // namespace
}  // namespace flowxlate::test
