// SPDX-License-Identifier: Apache-2.0
// The table of header fields: what whoever adds a row can get wrong.
#include "flowxlate/translate/fields.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <tuple>

#include "tests/unit/field_names.h"

namespace flowxlate::unit {
namespace {

std::string describe(const Field &f) {
    return std::string(f.name) + " at " + std::to_string(f.attr) + "+"
         + std::to_string(f.attr_off);
}

bool overlap(size_t a, size_t a_size, size_t b, size_t b_size) {
    return a < b + b_size && b < a + a_size;
}

// Can a packet have fields of both kinds?  Those above IP are of a protocol
// each; ND is a kind of ICMPv6.  A tunnel is of one family, and any packet may
// come out of it.
bool can_have_both(Has a, Has b) {
    const bool of_two_families =
        std::minmax(a, b) == std::minmax(Has::kTunnelIpv4, Has::kTunnelIpv6);
    const bool of_two_protocols =
        ip_proto(a) && ip_proto(b) && a != b
        && std::minmax(a, b) != std::minmax(Has::kIcmpv6, Has::kNd);
    return !of_two_families && !of_two_protocols;
}

TEST(Fields, SortedByAttributeAndOffset) {
    const auto all = fields();
    EXPECT_TRUE(std::is_sorted(
        all.begin(), all.end(), [](const Field &a, const Field &b) {
            return std::tie(a.attr, a.attr_off) < std::tie(b.attr, b.attr_off);
        }));
}

bool is_of_connection(const Field &f) {
    return f.attr >= OVS_KEY_ATTR_CT_STATE && f.attr <= OVS_KEY_ATTR_CT_LABELS;
}

bool is_of_tunnel(const Field &f) { return f.attr >= in_tunnel(0); }

TEST(Fields, InBounds) {
    for (const Field &f : fields()) {
        EXPECT_GT(f.size, 0) << describe(f);
        if (is_of_tunnel(f)) {
            EXPECT_LE(f.attr, in_tunnel(OVS_TUNNEL_KEY_ATTR_MAX));
            EXPECT_GE(f.key_off, 8 * XF_TUNNEL_WORD) << describe(f);
            EXPECT_FALSE(f.settable) << describe(f);
            EXPECT_FALSE(may_have(f.has, 0)) << describe(f);
            continue;
        }
        ASSERT_LE(f.attr, kMaxAttr) << describe(f);
        const AttrRule &rule = rule_of(f.attr);
        EXPECT_STRNE(rule.name, AttrRule().name) << describe(f);
        if (rule.size) {
            EXPECT_LE(f.attr_off + f.size, rule.size) << describe(f);
        }
        if (f.key_off != kNotInKey) {
            EXPECT_GE(f.key_off, 0) << describe(f);
            EXPECT_LE(f.key_off + size_t{f.size}, sizeof(xf_key))
                << describe(f);
        }
        EXPECT_NE(f.classes, 0u) << describe(f);
        EXPECT_LT(f.classes, 1u << XF_N_CLASSES) << describe(f);
        // What is of a connection is not before ct() has found that.
        EXPECT_EQ(rule.zero_at_ingress, is_of_connection(f)) << describe(f);
    }
}

// Fields above IP are of packets that have IP, of one version if the protocol
// is of that one.
TEST(Fields, ClassesOfProtocols) {
    const unsigned v4 = bit(XF_CLASS_IPV4), v6 = bit(XF_CLASS_IPV6);
    for (const Field &f : fields()) {
        switch (f.has) {
            case Has::kAll:
            case Has::kTunnel:
            case Has::kTunnelIpv4:
            case Has::kTunnelIpv6:
                break;
            case Has::kTcp:
            case Has::kUdp:
            case Has::kSctp:
                EXPECT_EQ(f.classes, v4 | v6) << describe(f);
                break;
            case Has::kIcmp:
                EXPECT_EQ(f.classes, v4) << describe(f);
                break;
            case Has::kIcmpv6:
            case Has::kNd:
                EXPECT_EQ(f.classes, v6) << describe(f);
                break;
        }
    }
}

TEST(Fields, NoTwoInOnePlace) {
    const auto all = fields();
    for (auto a = all.begin(); a != all.end(); a++) {
        for (auto b = a + 1; b != all.end(); b++) {
            const std::string both = describe(*a) + " and " + describe(*b);
            if (a->attr == b->attr) {
                EXPECT_FALSE(
                    overlap(a->attr_off, a->size, b->attr_off, b->size))
                    << both;
            }
            if (a->key_off != kNotInKey && b->key_off != kNotInKey
                && (a->classes & b->classes)
                && can_have_both(a->has, b->has)) {
                EXPECT_FALSE(overlap(a->key_off, a->size, b->key_off, b->size))
                    << both;
            }
        }
    }
}

// Nor where the key has what is not a plain field, or nothing.
TEST(Fields, NotWhereOthersAre) {
#define MEMBER(NAME) \
    { #NAME, offsetof(xf_key, NAME), sizeof(xf_key::NAME), ~0U }
#define ARP_MEMBER(NAME) \
    { #NAME, offsetof(xf_key, NAME), sizeof(xf_key::NAME), bit(XF_CLASS_ARP) }
    const struct {
        const char *name;
        size_t offset, size;
        unsigned classes;
    } taken[] = {
        MEMBER(in_port),  MEMBER(recirc),   MEMBER(eth_type),
        MEMBER(tpids),    MEMBER(vlan_tci), MEMBER(vlan2_tci),
        MEMBER(nw_frag),  MEMBER(dp_hash),  MEMBER(pad0),
        MEMBER(pad4),     MEMBER(pad5),     ARP_MEMBER(pad1),
        ARP_MEMBER(pad2), ARP_MEMBER(pad3),
    };
#undef MEMBER
#undef ARP_MEMBER
    for (const Field &f : fields()) {
        for (const auto &t : taken) {
            if (f.key_off != kNotInKey && (f.classes & t.classes)) {
                EXPECT_FALSE(overlap(f.key_off, f.size, t.offset, t.size))
                    << describe(f) << " and " << t.name;
            }
        }
    }
}

// What is written is in the key, but for the high byte of an ARP opcode, which
// stays zero.
TEST(Fields, SettableOnesAreInTheKey) {
    size_t n_exceptions = 0;
    for (const Field &f : fields()) {
        if (f.settable && f.key_off == kNotInKey) {
            EXPECT_EQ(f.attr, OVS_KEY_ATTR_ARP) << describe(f);
            n_exceptions++;
        }
    }
    EXPECT_EQ(n_exceptions, 1u);
}

TEST(Fields, Names) {
    for (uint16_t attr = 0; attr <= kMaxAttr + 10; attr++) {
        const size_t size = rule_of(attr).size ? rule_of(attr).size : 64;
        for (size_t i = 0; i < size; i++) {
            EXPECT_EQ(name_at(attr, i), field_name(attr, i))
                << attr << " byte " << i;
        }
    }
    EXPECT_STREQ(name_at(UINT16_MAX, 0), "unknown_attribute");
}

TEST(Fields, FieldAt) {
    for (const Field &f : fields()) {
        EXPECT_EQ(field_at(f.attr, f.attr_off), &f);
        EXPECT_EQ(field_at(f.attr, f.attr_off + f.size - 1), &f);
    }
    EXPECT_EQ(field_at(OVS_KEY_ATTR_ARP, 22), nullptr) << "padding";
    EXPECT_EQ(field_at(OVS_KEY_ATTR_MPLS, 4), nullptr) << "entries below";
    EXPECT_EQ(field_at(OVS_KEY_ATTR_TUNNEL, 0), nullptr);
    EXPECT_EQ(field_at(UINT16_MAX, 0), nullptr);
}

}  // namespace
}  // namespace flowxlate::unit
