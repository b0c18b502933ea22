// SPDX-License-Identifier: Apache-2.0
// Setting fields: each that flowxlate/translate/fields.h calls settable, in each kind of
// packet that has it, against the reference: bytes and checksums.
#include <arpa/inet.h>

#include <algorithm>
#include <functional>

#include "bpf/abi/counters.h"
#include "reference.h"
#include "row.h"
#include "skb_program.h"

namespace flowxlate::test {
namespace {

using flowxlate::Field;

struct Setting {
    const Field *field;
    Frame value, mask;
};

// A frame's visible tags, and what a flow does about them.
struct Tags {
    const char *name;
    int n_tags, n_pop, n_push;
};
constexpr Tags kTags[] = {
    {"untagged", 0, 0, 0},
    {"kept", 1, 0, 0},
    {"two kept", 2, 0, 0},
    {"pushed", 0, 0, 1},
    {"two pushed", 0, 0, 2},
    {"pushed on one", 1, 0, 1},
    {"popped", 1, 1, 0},
    {"two popped", 2, 2, 0},
    {"one of two popped", 2, 1, 0},
    {"replaced", 1, 1, 1},
    {"two replaced", 2, 2, 2},
    {"one for two", 2, 2, 1},
    {"two for one", 1, 1, 2},
};

Frame with_tags(Frame f, int n, uint16_t first_tci) {
    for (int i = 0; i < n; i++) {
        f = with_tag(f, kVlan, first_tci + i);
    }
    return f;
}

// What 's' becomes if a flow sets 'settings' and does as 'tags' says, at a hook that
// 'completes' what is partial.
Row set_row(const Subject &s, const Tags &tags, const std::vector<Setting> &settings, bool completes = true) {
    const auto parsed = parse(s.in, 2);
    FlowSpec flow(parsed->cls, ntohs(parsed->key.eth_type));
    flow.any_tags().to(kOut);
    const Frame whole = completes ? complete(s.in, 2) : s.in;
    Frame out = whole;
    for (const auto &[field, value, mask] : settings) {
        flow.set(field->key_off, value, mask);
        out = with_field(out, *field, *parsed, value, mask);
    }
    out = follow_checksums(whole, out, 2);
    for (int i = 0; i < tags.n_pop; i++) {
        flow.pop();
    }
    for (int i = 0; i < tags.n_push; i++) {
        flow.push(0x7007 + i - XF_VLAN_PRESENT);
    }
    out = with_tags(out, tags.n_tags - tags.n_pop, 5);
    out = with_tags(out, tags.n_push, 0x7007 - XF_VLAN_PRESENT);
    return Row{s.name.c_str(), {flow}, {}, 0, XDP_REDIRECT, kNone, out, ntohs(parsed->key.tcp_flags), with_tags(s.in, tags.n_tags, 5)}.tags(2);
}

// A label has 20 bits.
Setting whole_field(const Field &field, uint8_t byte) {
    Setting s{&field, Frame(field.size, byte), Frame(field.size, 0xff)};
    if (field.key_off == offsetof(xf_key, ipv6_label)) {
        s.mask = {0, 0xf, 0xff, 0xff};
    }
    return s;
}

void check_each_field(Program &p) {
    for (auto &field : fields()) {
        int n = 0;
        for (auto &s : subjects(31)) {
            if (!has_field(field, *parse(s.in, 2))) {
                continue;
            }
            for (auto &tags : kTags) {
                SCOPED_TRACE(std::string(field.name) + " of " + s.name + ", " + tags.name);
                check_many(p, set_row(s, tags, {whole_field(field, 0xa7)}, p.completes()));
                n++;
            }
            if (testing::Test::HasFailure()) {
                return;
            }
        }
        if (field.settable && field.key_off != kNotInKey) {
            EXPECT_GT(n, 0) << field.name << " is in no packet";
        }
    }
}

TEST(SetField, EachFieldOfEachPacket) { at_each_hook(check_each_field); }

// A mask writes its bits; the value that is there already changes nothing, not
// even the checksum.
void check_masked_and_same(Program &p) {
    p.remove_all();  // Others leave flows that would match, too.
    for (auto &s : subjects(30)) {
        const auto parsed = parse(s.in, 2);
        for (auto &field : fields()) {
            if (!has_field(field, *parsed)) {
                continue;
            }
            SCOPED_TRACE(std::string(field.name) + " of " + s.name);
            Setting masked = whole_field(field, 0xff), same = masked;
            for (auto &m : masked.mask) {
                m &= 0x81;
            }
            check_many(p, set_row(s, kTags[0], {masked}, p.completes()));
            std::copy_n(reinterpret_cast<const uint8_t *>(&parsed->key) + field.key_off, field.size, same.value.begin());
            const Row row = set_row(s, kTags[0], {same}, p.completes());
            EXPECT_EQ(hex(row.out), hex(p.completes() ? complete(s.in, 2) : s.in));
            check_many(p, row);
        }
    }
}

TEST(SetField, MaskedAndSame) { at_each_hook(check_masked_and_same); }

// Any fields of any packet, and any wrong checksum.
void check_random(Program &p) {
    const uint64_t first = seed();
    std::mt19937 random(first);
    for (int i = 0; i < 6000; i++) {
        const auto all = subjects(random() % 1200);
        Subject s = all[random() % all.size()];
        const auto parsed = parse(s.in, 2);
        if (parsed->l4 && random() % 8 == 0) {
            s.in[s.in.size() - 1] ^= 0x55;  // In the padding, sometimes.
        }
        std::vector<Setting> settings;
        for (auto &field : fields()) {
            if (has_field(field, *parsed) && random() % 2) {
                auto setting = whole_field(field, 0);
                setting.value = random_bytes(random, field.size);
                if (random() % 2) {
                    const Frame bits = random_bytes(random, field.size);
                    std::transform(bits.begin(), bits.end(), setting.mask.begin(), setting.mask.begin(), std::bit_and<>());
                }
                settings.push_back(setting);
            }
        }
        SCOPED_TRACE(s.name + " of round " + std::to_string(i) + ", TEST_SEED=" + std::to_string(first));
        if (parse(s.in, 2)) {
            check_many(p, set_row(s, kTags[random() % std::size(kTags)], settings, p.completes()));
        }
        if (testing::Test::HasFailure()) {
            return;
        }
    }
}

TEST(SetField, Random) { at_each_hook(check_random); }

const Field &field_named(std::string_view name) {
    return *std::find_if(fields().begin(), fields().end(), [&](auto &f) { return f.name == name; });
}

Subject subject_named(std::string_view name) {
    const auto all = subjects(20);
    return *std::find_if(all.begin(), all.end(), [&](auto &s) { return s.name == name; });
}

// Fixed rows, for readers: what comes out of a few packets.
TEST(SetField, LabelAndTrafficClassShareAWord) {
    auto expect = [](const std::vector<Setting> &settings, const Frame &first_bytes) {
        const Frame in = udp6().bytes();
        const Row row = set_row({"UDP", in}, kTags[0], settings);
        EXPECT_EQ(hex(Frame(&row.out[14], &row.out[18])), hex(first_bytes));
        Frame out = in;
        std::copy(first_bytes.begin(), first_bytes.end(), &out[14]);
        at_each_hook([&](Program &p) { check(p, Row{"", row.flows, {}, 0, XDP_REDIRECT, kNone, out, 0, in}); });
    };
    const Setting label{&field_named("ipv6_label"), {0, 0xa, 0xbc, 0xde}, {0, 0xf, 0xff, 0xff}};
    const Setting tclass{&fields()[&field_named("ipv6_label") - fields().data() + 2], {0xef}, {0xff}};
    ASSERT_STREQ(tclass.field->name, "ip_tos");
    expect({label}, {0x61, 0x0a, 0xbc, 0xde});
    expect({tclass}, {0x6e, 0xf1, 0x23, 0x45});
    expect({label, tclass}, {0x6e, 0xfa, 0xbc, 0xde});
}

TEST(SetField, AbsentNdOptionIsNotWritten) {
    const Frame mac = {2, 1, 2, 3, 4, 5};
    for (const char *name : {"nd_sll", "nd_tll"}) {
        for (const char *packet : {"ND without option", "ND with other option", "ND with source", "ND with target"}) {
            const Subject s = subject_named(packet);
            const bool is_there = s.name == (std::string_view(name) == "nd_sll" ? "ND with source" : "ND with target");
            const Row row = set_row(s, kTags[0], {{&field_named(name), mac, Frame(6, 0xff)}});
            SCOPED_TRACE(std::string(name) + " of " + packet);
            EXPECT_EQ(row.out == s.in, !is_there);
            at_each_hook([&](Program &p) { check(p, row); });
        }
    }
}

// What looks like ports in a later fragment is not; neither is a checksum.
TEST(SetField, LaterFragmentsHaveNoTransportHeader) {
    for (const char *name : {"later fragment of TCP in IPv4", "last fragment of UDP in IPv4", "later fragment of TCP in IPv6", "last fragment of UDP in IPv6"}) {
        SCOPED_TRACE(name);
        const Subject s = subject_named(name);
        const bool v6 = parse(s.in, 2)->cls == XF_CLASS_IPV6;
        Row row = set_row(s, kTags[0], {whole_field(field_named(v6 ? "ipv6_dst" : "ipv4_dst"), 9)});
        row.flows[0].set(offsetof(xf_key, tp_src), {1, 2, 3, 4}, Frame(4, 0xff));
        EXPECT_TRUE(std::equal(row.out.begin() + 54, row.out.end(), s.in.begin() + 54));
        at_each_hook([&](Program &p) { check(p, row); });
    }
}

// A checksum that comes out as zero is sent as zero in TCP, as all ones in UDP.
TEST(SetField, ChecksumOfZero) {
    for (const char *proto : {"UDP", "TCP"}) {
        const bool is_udp = std::string_view(proto) == "UDP";
        const Subject s = subject_named(std::string(proto) + " in IPv4");
        const size_t at = 34 + (is_udp ? 6 : 16);
        const uint32_t sum = s.in[at] << 8 | s.in[at + 1];
        const Field &port = field_named(is_udp ? "udp_src" : "tcp_src");
        size_t n_zero = 0;
        // The port that makes up for all the rest, among others.
        for (uint32_t value = sum + 1000 - 2; value <= sum + 1000 + 2; value++) {
            const uint32_t folded = value % 0xffff;
            const Row row = set_row(s, kTags[0], {{&port, {uint8_t(folded >> 8), uint8_t(folded)}, {0xff, 0xff}}});
            at_each_hook([&](Program &p) { check(p, row); });
            const int got = row.out[at] << 8 | row.out[at + 1];
            n_zero += got == (is_udp ? 0xffff : 0);
        }
        EXPECT_EQ(n_zero, 1U) << "no such packet";
    }
}

// What was wrong stays wrong: the packet is not blessed on its way.
TEST(SetField, WrongChecksumsStayWrong) {
    for (const char *name : {"UDP in IPv4", "TCP in IPv4", "UDP in IPv6", "ICMP in IPv6", "ND with source"}) {
        SCOPED_TRACE(name);
        Subject s = subject_named(name);
        const auto parsed = parse(s.in, 2);
        const bool v6 = parsed->cls == XF_CLASS_IPV6;
        const Setting set = whole_field(field_named(v6 ? "ipv6_dst" : "ipv4_dst"), 9);
        const Frame good = set_row(s, kTags[0], {set}).out;
        const size_t last = parsed->end - 1;
        s.in[last] ^= 1;
        Row row = set_row(s, kTags[0], {set});
        Frame expected = good;
        expected[last] ^= 1;
        EXPECT_EQ(hex(row.out), hex(expected)) << "the same checksum";
        at_each_hook([&](Program &p) { check(p, row); });
    }
}

TEST(SetField, NotWithoutAWayOut) {
    for (auto &s : subjects(20)) {
        for (auto &tags : kTags) {
            auto row = set_row(s, tags, {whole_field(field_named("eth_dst"), 9)});
            row.flows[0].to(kDown);
            SCOPED_TRACE(s.name + ", " + tags.name);
            at_each_hook([&](Program &p) { check_many(p, Row{"", row.flows, {}, kNone, XDP_PASS, XF_MISS_TX_PORT, {}, 0, row.in()}.tags(2)); });
        }
    }
}

// An index that no array has.
TEST(SetField, CorruptedIndex) {
    for (auto &s : subjects(20)) {
        const auto row = set_row(s, kTags[0], {whole_field(field_named("eth_dst"), 9)});
        auto &p = program();
        p.remove_all();
        auto &flow = p.table().memory().flows[index(p.add(row.flows[0]))];
        const auto good = flow.action.rewrite;
        flow.action.rewrite = XF_MAX_REWRITES;
        const flowxlate::test::Run run = p.run(row.in());
        flow.action.rewrite = good;
        EXPECT_EQ(run.verdict, XDP_PASS);
        EXPECT_EQ(hex(run.out), hex(row.in()));
        EXPECT_EQ(p.misses(XF_MISS_INTERNAL), 1U);
    }
}

// The kernel completes a partial checksum later, or there is none: nobody knows.
// What is not summed up can be set all the same.
TEST(SetField, GenericMode) {
    Program p(XF_PORT_TX_GENERIC);
    for (auto &s : subjects(30)) {
        const bool partial = s.in != complete(s.in, 2);
        for (auto &field : fields()) {
            if (!has_field(field, *parse(s.in, 2))) {
                continue;
            }
            for (auto &tags : {kTags[0], kTags[3]}) {
                SCOPED_TRACE(std::string(field.name) + " of " + s.name + ", " + tags.name);
                const std::string_view name = field.name;
                const bool summed = name.starts_with("tcp") || name.starts_with("udp") || name.ends_with("_src") || name.ends_with("_dst");
                const bool ethernet = name.starts_with("eth");
                const Setting setting = whole_field(field, 0xa7);
                Row row = set_row(s, tags, {setting});
                if (partial && summed && !ethernet) {
                    row = Row{"", row.flows, {}, kNone, XDP_PASS, XF_MISS_TX_CHECKSUM, {}, 0, row.in()}.tags(2);
                } else if (partial) {
                    // All but the checksum.
                    row.out = with_tags(follow_checksums(s.in, with_field(s.in, field, *parse(s.in, 2), setting.value, setting.mask), 2), tags.n_push, 0x7007 - XF_VLAN_PRESENT);
                }
                check_many(p, row);
            }
        }
    }
}

}  // namespace
}  // namespace flowxlate::test
