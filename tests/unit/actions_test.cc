// SPDX-License-Identifier: Apache-2.0
// decode_actions(): action lists in, what the program does out.
#include "flowxlate/actions.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <cstdio>
#include <random>

#include "tests/unit/attrs.h"

namespace flowxlate::unit {
namespace {

// A list of actions, in the order of the calls.
class List : public AttrList {
public:
    List &output(uint32_t port) {
        put(OVS_ACTION_ATTR_OUTPUT, port);
        return *this;
    }
    List &push(uint16_t tpid, uint16_t tci) {
        put(OVS_ACTION_ATTR_PUSH_VLAN,
            ovs_action_push_vlan{htons(tpid), htons(tci)});
        return *this;
    }
    List &pop() {
        put_bytes(OVS_ACTION_ATTR_POP_VLAN, {});
        return *this;
    }
    List &other(uint16_t type, std::string_view payload = "") {
        put_hex(type, payload);
        return *this;
    }
};

// From a heap block of exactly the list's size, for ASan.
Reject decode(Bytes list, bool tagged, Actions *out) {
    const ByteVector copy(list.begin(), list.end());
    return decode_actions(copy, tagged, out);
}

// "drop", "output 2", "pop, output 2", "push 8100 0005, output 2", or the
// reason of the refusal.
std::string describe(Bytes list, bool tagged) {
    Actions a;
    // Whatever was there before must not shine through.
    std::memset(static_cast<void *>(&a), 0xee, sizeof a);
    if (auto r = decode(list, tagged, &a)) {
        const bool invalid = std::string_view(r.group) == "malformed";
        EXPECT_EQ(r.error, invalid ? EINVAL : EOPNOTSUPP) << r.name();
        return r.name();
    }
    char tag[32];
    std::snprintf(tag, sizeof tag, "%04x %04x", ntohs(a.vlan_tpid),
                  ntohs(a.vlan_tci));
    std::string s;
    switch (a.vlan_op) {
        case XF_VLAN_NONE:
            break;
        case XF_VLAN_POP:
            s = "pop, ";
            break;
        case XF_VLAN_PUSH:
            s = std::string("push ") + tag + ", ";
            break;
        case XF_VLAN_REPLACE:
            s = std::string("replace ") + tag + ", ";
            break;
        default:
            s = "vlan_op?, ";
    }
    switch (a.verdict) {
        case XF_DROP:
            return s + "drop";
        case XF_OUTPUT:
            return s + "output " + std::to_string(index(a.out_port));
        default:
            return s + "verdict?";
    }
}

struct Row {
    const char *what;
    List list;
    const char *untagged;  // Expected for a flow of untagged packets ...
    const char *tagged;    // ... and of tagged ones.
};

TEST(DecodeActions, Table) {
    const Row rows[] = {
        {"no action drops", List(), "drop", "drop"},
        {"output", List().output(2), "output 2", "output 2"},
        {"highest port", List().output(0xffffffff), "output 4294967295",
         "output 4294967295"},

        {"pop", List().pop().output(2), "malformed/pop_vlan", "pop, output 2"},
        {"push 802.1Q", List().push(0x8100, 0x1005).output(2),
         "push 8100 0005, output 2", "action/second_vlan"},
        {"push 802.1ad", List().push(0x88a8, 0x1fff).output(2),
         "push 88a8 0fff, output 2", "action/second_vlan"},
        {"push keeps the priority", List().push(0x8100, 0xf005).output(2),
         "push 8100 e005, output 2", "action/second_vlan"},
        {"pop and push is replace",
         List().pop().push(0x8100, 0x1007).output(2), "malformed/pop_vlan",
         "replace 8100 0007, output 2"},
        {"push and pop is nothing",
         List().push(0x8100, 0x1007).pop().output(2), "output 2",
         "action/second_vlan"},
        {"the last push counts",
         List().push(0x8100, 0x1007).pop().push(0x88a8, 0x1008).output(2),
         "push 88a8 0008, output 2", "action/second_vlan"},
        {"pop, push, pop is pop",
         List().pop().push(0x8100, 0x1007).pop().output(2),
         "malformed/pop_vlan", "pop, output 2"},
        {"two tags", List().push(0x8100, 0x1007).push(0x8100, 0x1008),
         "action/second_vlan", "action/second_vlan"},
        {"two tags after pop",
         List().pop().push(0x8100, 0x1007).push(0x8100, 0x1008),
         "malformed/pop_vlan", "action/second_vlan"},
        {"second pop", List().pop().pop().output(2), "malformed/pop_vlan",
         "malformed/pop_vlan"},
        {"one pop too many", List().push(0x8100, 0x1007).pop().pop(),
         "malformed/pop_vlan", "action/second_vlan"},
        {"nobody sees a tag that is dropped", List().pop(),
         "malformed/pop_vlan", "drop"},
        {"nor one that was pushed", List().push(0x8100, 0x1007), "drop",
         "action/second_vlan"},

        {"two outputs", List().output(2).output(3), "action/second_output",
         "action/second_output"},
        {"the same output twice", List().output(2).output(2),
         "action/second_output", "action/second_output"},
        {"push after output", List().output(2).push(0x8100, 0x1007),
         "action/after_output", "action/after_output"},
        {"pop after output", List().output(2).pop(), "action/after_output",
         "action/after_output"},
        {"ct_clear after output",
         List().output(2).other(OVS_ACTION_ATTR_CT_CLEAR),
         "action/after_output", "action/after_output"},
        {"unknown after output", List().output(2).other(4000),
         "action/after_output", "action/after_output"},
        {"unsupported before output",
         List().other(OVS_ACTION_ATTR_METER, "01000000").output(2),
         "action/meter", "action/meter"},

        {"TPID of neither kind", List().push(0x9100, 0x1007).output(2),
         "malformed/push_vlan", "malformed/push_vlan"},
        {"TPID 0", List().push(0, 0x1007).output(2), "malformed/push_vlan",
         "malformed/push_vlan"},
        {"TPID in host order", List().push(0x0081, 0x1007).output(2),
         "malformed/push_vlan", "malformed/push_vlan"},

        {"output too short", List().other(OVS_ACTION_ATTR_OUTPUT, "020000"),
         "malformed/output", "malformed/output"},
        {"output too long", List().other(OVS_ACTION_ATTR_OUTPUT, "0200000000"),
         "malformed/output", "malformed/output"},
        {"output empty", List().other(OVS_ACTION_ATTR_OUTPUT),
         "malformed/output", "malformed/output"},
        {"push too short", List().other(OVS_ACTION_ATTR_PUSH_VLAN, "810010"),
         "malformed/push_vlan", "malformed/push_vlan"},
        {"push too long",
         List().other(OVS_ACTION_ATTR_PUSH_VLAN, "8100100700"),
         "malformed/push_vlan", "malformed/push_vlan"},
    };
    for (const Row &row : rows) {
        EXPECT_EQ(describe(row.list.bytes(), false), row.untagged) << row.what;
        EXPECT_EQ(describe(row.list.bytes(), true), row.tagged)
            << row.what << " (tagged)";
    }
}

// Each action that the program cannot do is refused by its name, whatever its
// payload is, even if it would be the only one.
TEST(DecodeActions, RefusesAllOthersByName) {
    const struct {
        uint16_t type;
        const char *name;
    } rows[] = {
        {OVS_ACTION_ATTR_UNSPEC, "action/unspec"},
        {OVS_ACTION_ATTR_USERSPACE, "action/userspace"},
        {OVS_ACTION_ATTR_SET, "action/set"},
        {OVS_ACTION_ATTR_SAMPLE, "action/sample"},
        {OVS_ACTION_ATTR_RECIRC, "action/recirc"},
        {OVS_ACTION_ATTR_HASH, "action/hash"},
        {OVS_ACTION_ATTR_PUSH_MPLS, "action/push_mpls"},
        {OVS_ACTION_ATTR_POP_MPLS, "action/pop_mpls"},
        {OVS_ACTION_ATTR_SET_MASKED, "action/set_masked"},
        {OVS_ACTION_ATTR_CT, "action/ct"},
        {OVS_ACTION_ATTR_TRUNC, "action/trunc"},
        {OVS_ACTION_ATTR_PUSH_ETH, "action/push_eth"},
        {OVS_ACTION_ATTR_POP_ETH, "action/pop_eth"},
        {OVS_ACTION_ATTR_CT_CLEAR, "action/ct_clear"},
        {OVS_ACTION_ATTR_PUSH_NSH, "action/push_nsh"},
        {OVS_ACTION_ATTR_POP_NSH, "action/pop_nsh"},
        {OVS_ACTION_ATTR_METER, "action/meter"},
        {OVS_ACTION_ATTR_CLONE, "action/clone"},
        {OVS_ACTION_ATTR_CHECK_PKT_LEN, "action/check_pkt_len"},
        {OVS_ACTION_ATTR_ADD_MPLS, "action/add_mpls"},
        {OVS_ACTION_ATTR_DEC_TTL, "action/dec_ttl"},
        {OVS_OFFLOAD_ACTION_PRIVATE, "action/ovs_private"},
    };
    std::map<uint16_t, const char *> names;
    for (const auto &row : rows) {
        names[row.type] = row.name;
    }
    for (uint16_t type = 0; type <= kMaxAttrType; type++) {
        if (type == OVS_ACTION_ATTR_OUTPUT || type == OVS_ACTION_ATTR_PUSH_VLAN
            || type == OVS_ACTION_ATTR_POP_VLAN) {
            continue;
        }
        const auto it = names.find(type);
        const std::string expected =
            it == names.end() ? "action/unknown_action" : it->second;
        for (const char *payload : {"", "00000000", "0102030405060708"}) {
            ASSERT_EQ(describe(List().other(type, payload).bytes(), true),
                      expected)
                << "type " << type;
        }
    }
}

TEST(DecodeActions, IgnoresAttributeFlags) {
    const uint32_t port = 2;
    AttrList list;
    list.put(OVS_ACTION_ATTR_OUTPUT | NLA_F_NET_BYTEORDER, port);
    EXPECT_EQ(describe(list.bytes(), false), "output 2");
}

// A list that ends within an action is refused; one that ends between two is
// the shorter list.
TEST(DecodeActions, Truncated) {
    const List list = List().pop().push(0x8100, 0x1007).output(2);
    const std::map<size_t, const char *> whole = {
        {0, "drop"},
        {4, "drop"},
        {12, "drop"},
        {20, "replace 8100 0007, output 2"},
    };
    ASSERT_EQ(list.bytes().size(), 20u);
    for (size_t n = 0; n <= 20; n++) {
        const auto it = whole.find(n);
        EXPECT_EQ(describe(list.bytes().first(n), true),
                  it == whole.end() ? "malformed/action_length" : it->second)
            << n << " bytes";
    }
}

TEST(DecodeActions, BadLengthField) {
    for (unsigned len = 0; len <= 0xffff; len++) {
        AttrList list;
        list.put_raw(static_cast<uint16_t>(len), OVS_ACTION_ATTR_OUTPUT,
                     from_hex("02000000"));
        const char *expected = len < 4 || len > 8 ? "malformed/action_length"
                             : len < 8            ? "malformed/output"
                                                  : "output 2";
        ASSERT_EQ(describe(list.bytes(), false), expected)
            << "nla_len " << len;
    }
}

// Random changes to a good list: no crash, and nothing half decoded.
TEST(DecodeActions, Garbage) {
    std::mt19937 random(1);
    const List list = List().pop().push(0x8100, 0x1007).output(2);
    for (int i = 0; i < 100'000; i++) {
        ByteVector bytes(list.bytes().begin(), list.bytes().end());
        for (unsigned n = 1 + random() % 3; n; n--) {
            bytes[random() % bytes.size()] = std::byte(random());
        }
        const std::string s = describe(bytes, random() % 2);
        ASSERT_EQ(s.find('?'), s.npos) << s << ": " << to_hex(bytes);
    }
}

}  // namespace
}  // namespace flowxlate::unit
