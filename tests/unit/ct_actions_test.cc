// SPDX-License-Identifier: Apache-2.0
// In which order ct(), ct_clear and sets of addresses and ports happen, and
// what of a ct() is read.
#include <gtest/gtest.h>

#include <linux/openvswitch.h>

#include <functional>

#include "attrs.h"
#include "flowxlate/translate/actions.h"

namespace flowxlate::unit {
namespace {

class List : public AttrList {
public:
    List &ct(uint16_t zone, bool nat = false) {
        nest(OVS_ACTION_ATTR_CT, [&](AttrList &inner) {
            inner.put(OVS_CT_ATTR_ZONE, zone);
            if (nat) {
                inner.put_bytes(OVS_CT_ATTR_NAT, {});
            }
        });
        return *this;
    }
    List &clear() {
        put_bytes(OVS_ACTION_ATTR_CT_CLEAR, {});
        return *this;
    }
    List &source(const char *address) {
        const std::string zeros(16, '0');
        nest(OVS_ACTION_ATTR_SET_MASKED, [&](AttrList &inner) {
            inner.put_hex(OVS_KEY_ATTR_IPV4,
                          address + zeros + "ffffffff" + zeros);
        });
        return *this;
    }
    List &recirc() {
        put(OVS_ACTION_ATTR_RECIRC, uint32_t{5});
        return *this;
    }
    List &output() {
        put(OVS_ACTION_ATTR_OUTPUT, uint32_t{2});
        return *this;
    }
};

// As the program does it: "clear set ct1 ct2nat".
std::string order(const Actions &a) {
    std::string s;
    for (uint32_t i = 0; i <= XF_MAX_CT_STEPS; i++) {
        if (i == a.rewrite.n_ct_first && a.rewrite.mask[5]) {
            s += "set ";
        }
        const uint16_t flags = i < XF_MAX_CT_STEPS ? a.rewrite.ct[i].flags : 0;
        s += flags & XF_CT_CLEAR ? "clear " : "";
        if (flags & XF_CT_TRACK) {
            s += "ct" + std::to_string(a.rewrite.ct[i].zone)
               + (flags & XF_CT_NAT ? "nat " : " ");
        }
    }
    return s;
}

TEST(CtActions, Order) {
    static const struct {
        const char *what;
        List list;
        const char *expected;  // Or why it is refused.
    } kRows[] = {
        {"ct", List().ct(1).recirc(), "ct1 "},
        {"set before", List().source("0a000009").ct(1).recirc(), "set ct1 "},
        {"set behind", List().ct(1).source("0a000009").recirc(), "ct1 set "},
        {"set between", List().ct(1).source("0a000009").ct(2, true).recirc(),
         "ct1 set ct2nat "},
        {"clear before", List().clear().ct(1).recirc(), "clear ct1 "},
        {"set after a clear",
         List().clear().source("0a000009").ct(1, true).recirc(),
         "set clear ct1nat "},
        {"set after two clears",
         List().clear().clear().source("0a000009").ct(1).recirc(),
         "set clear ct1 "},
        {"set, then clear", List().source("0a000009").clear().ct(1).recirc(),
         "set clear ct1 "},
        {"set after a ct and a clear",
         List().ct(1).clear().source("0a000009").ct(2).recirc(),
         "ct1 set clear ct2 "},
        {"set between two ct and a clear",
         List().ct(1).source("0a000009").clear().ct(2).ct(3).recirc(),
         "ct1 set clear ct2 ct3 "},
        {"set after a clear, which nobody sees",
         List().ct(1).clear().source("0a000009").output(), "ct1 set "},
        {"set at two places",
         List().source("0a000009").ct(1).source("0a000008").recirc(),
         "action/set_after_ct"},
        {"set at two places, clears before both",
         List()
             .clear()
             .source("0a000009")
             .ct(1)
             .clear()
             .source("0a000008")
             .ct(2)
             .recirc(),
         "action/set_after_ct"},
    };
    Match match;
    match.cls = XF_CLASS_IPV4;
    match.recirc_id = 7;
    match.mask.nw_frag = 0xff;
    for (auto &row : kRows) {
        Actions a;
        const Reject r = decode_actions(row.list.bytes(), match, &a);
        EXPECT_EQ(r ? r.name() : order(a), row.expected) << row.what;
    }
}

TEST(CtActions, Flags) {
    constexpr uint16_t kCt = XF_CT_TRACK, kNat = XF_CT_TRACK | XF_CT_NAT;
    const auto nat = [](uint16_t type) {
        return [type](AttrList &ct) {
            ct.nest(OVS_CT_ATTR_NAT,
                    [type](AttrList &inner) { inner.put_bytes(type, {}); });
        };
    };
    const struct {
        const char *what;
        std::function<void(AttrList &)> fill;
        uint16_t flags;
    } rows[] = {
        {"ct", [](AttrList &) {}, kCt},
        {"commit", [](AttrList &ct) { ct.put_bytes(OVS_CT_ATTR_COMMIT, {}); },
         kCt | XF_CT_COMMIT},
        {"timeout",
         [](AttrList &ct) { ct.put(OVS_CT_ATTR_TIMEOUT, uint32_t{0}); },
         kCt | XF_CT_TIMEOUT},
        {"nat", [](AttrList &ct) { ct.put_bytes(OVS_CT_ATTR_NAT, {}); }, kNat},
        {"nat(src)", nat(OVS_NAT_ATTR_SRC), kNat | XF_CT_NEW_NAT},
        {"nat(dst)", nat(OVS_NAT_ATTR_DST), kNat | XF_CT_NEW_NAT},
        {"nat(random)", nat(OVS_NAT_ATTR_PROTO_RANDOM), kNat},
    };
    Match match;
    match.cls = XF_CLASS_IPV4;
    for (auto &row : rows) {
        List list;
        list.nest(OVS_ACTION_ATTR_CT, row.fill);
        list.recirc();
        Actions a;
        const Reject r = decode_actions(list.bytes(), match, &a);
        EXPECT_FALSE(r) << row.what << ": " << r.name();
        EXPECT_EQ(a.rewrite.ct[0].flags, row.flags) << row.what;
    }
}

}  // namespace
}  // namespace flowxlate::unit
