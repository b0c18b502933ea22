// SPDX-License-Identifier: Apache-2.0
// Where ports' programs are to be, and what flows are executed there.
#include <gtest/gtest.h>
#include <linux/openvswitch.h>

#include <utility>
#include <vector>

#include "flowxlate/engine/binder.h"
#include "flowxlate/engine/settings.h"

namespace flowxlate::unit {
namespace {

struct WishRow {
    const char *name;
    std::vector<std::pair<const char *, const char *>> options;
    HookWish p1, p2;
    bool is_refused = false;  // One of the options.
};

const WishRow kWishes[] = {
    {"none", {}, HookWish::kAuto, HookWish::kAuto},
    {"auto", {{"xdp-offload-hook", "auto"}}, HookWish::kAuto, HookWish::kAuto},
    {"all", {{"xdp-offload-hook", "tc"}}, HookWish::kTc, HookWish::kTc},
    {"one", {{"xdp-offload-hook-p1", "xdp"}}, HookWish::kXdp, HookWish::kAuto},
    {"all but one",
     {{"xdp-offload-hook", "tc"}, {"xdp-offload-hook-p2", "auto"}},
     HookWish::kTc,
     HookWish::kAuto},
    {"in the other order",
     {{"xdp-offload-hook-p2", "xdp"}, {"xdp-offload-hook", "tc"}},
     HookWish::kTc,
     HookWish::kXdp},
    {"no word",
     {{"xdp-offload-hook", ""}},
     HookWish::kAuto,
     HookWish::kAuto,
     true},
    {"another word",
     {{"xdp-offload-hook-p1", "TC"}},
     HookWish::kAuto,
     HookWish::kAuto,
     true},
};

TEST(HookWishes, OfPorts) {
    for (auto &row : kWishes) {
        SCOPED_TRACE(row.name);
        HookWishes wishes;
        Settings settings;
        for (auto [key, value] : row.options) {
            EXPECT_TRUE(HookWishes::is_one(key));
            EXPECT_EQ(static_cast<bool>(wishes.set({key, value})),
                      row.is_refused);
            EXPECT_FALSE(settings.set({key, value})) << "said once";
        }
        EXPECT_EQ(wishes.of("p1"), row.p1);
        EXPECT_EQ(wishes.of("p2"), row.p2);
        EXPECT_EQ(settings.in_words(), Settings().in_words())
            << "none needs a restart";
    }
}

TEST(HookWishes, OtherOptions) {
    for (const char *key :
         {"xdp-offload-hook-", "xdp-offload-hooks", "xdp-offload-handover",
          "xdp-offload", "hw-offload"}) {
        EXPECT_FALSE(HookWishes::is_one(key)) << key;
    }
}

Rule output() {
    Rule rule;
    rule.actions.verdict = XF_OUTPUT;
    return rule;
}
Rule with_verdict(xf_verdict verdict) {
    Rule rule;
    rule.actions.verdict = verdict;
    return rule;
}
template <typename T>
Rule with(T xf_rewrite::*limit) {
    Rule rule = output();
    rule.actions.rewrite.*limit = 100;
    return rule;
}
Rule into_tunnel() {
    Rule rule = output();
    rule.into = Ifindex{-2};
    return rule;
}
Rule tracking() {
    Rule rule = output();
    rule.actions.tracks = true;
    return rule;
}

// Those that bpf/hook/skb.h does not execute are refused for ports whose
// packets enter there, and for no others.
Rule of_state() {
    Rule rule = output();
    rule.match.mask.ct_state = OVS_CS_F_TRACKED;
    return rule;
}

TEST(Binder, RefusesWhatTheHookDoesNot) {
    const struct {
        const char *name;
        Rule rule;
        bool is_executed;
    } rows[] = {
        {"output", output(), true},
        {"drop", with_verdict(XF_DROP), true},
        {"several outputs", with_verdict(XF_GROUP), true},
        {"out of a tunnel", with_verdict(XF_POP), false},
        {"truncated", with(&xf_rewrite::max_len), false},
        {"check_pkt_len", with(&xf_rewrite::max_in), false},
        {"into a tunnel", into_tunnel(), false},
        {"ct()", tracking(), true},
    };
    for (auto &row : rows) {
        SCOPED_TRACE(row.name);
        EXPECT_FALSE(check_hook(row.rule, AttachMode::kNative));
        EXPECT_FALSE(check_hook(row.rule, AttachMode::kGeneric));
        EXPECT_EQ(!check_hook(row.rule, AttachMode::kTc), row.is_executed);
    }
}

Rule truncating(unsigned n_tags, unsigned n_pop, size_t n_push) {
    Rule rule = with(&xf_rewrite::max_len);
    rule.match.n_tags = n_tags;
    rule.actions.n_pop = n_pop;
    rule.actions.push.resize(n_push);
    return rule;
}

// openvswitch.ko cuts a packet without counting its outermost tag.
TEST(Binder, TruncatesForTheKernelWithoutTags) {
    const struct {
        const char *name;
        Rule rule;
        const char *refused;
    } rows[] = {
        {"without a tag", truncating(0, 0, 0), ""},
        {"with a tag", truncating(1, 0, 0), "action/trunc"},
        {"with a tag that is taken off", truncating(1, 1, 0), ""},
        {"with two tags, of which one is taken off", truncating(2, 1, 0),
         "action/trunc"},
        {"with a new tag", truncating(0, 0, 1), "action/trunc"},
        {"with another tag", truncating(1, 1, 1), "action/trunc"},
    };
    for (auto &row : rows) {
        const auto r = check_kernel_rule(row.rule);
        EXPECT_EQ(r ? r.name() : "", row.refused) << row.name;
    }
}

// ct() of the kernel datapath.
TEST(Binder, TracksForTheKernel) {
    const struct {
        const char *name;
        Rule rule;
        bool kernel_ct, has_twin;
        const char *refused;
    } rows[] = {
        {"asked, and the kernel has it, too", tracking(), true, true, ""},
        {"the kernel cannot be asked", tracking(), false, true, "action/ct"},
        {"an old host", tracking(), true, false, "action/ct"},
        {"has nothing to do with it", output(), false, false, ""},
        {"matches a state", of_state(), true, true, ""},
        {"matches a state, an old host", of_state(), true, false,
         "match/ct_state"},
    };
    for (auto &row : rows) {
        SCOPED_TRACE(row.name);
        Rule rule = row.rule;
        rule.has_twin = row.has_twin;
        const auto r = check_kernel_tracking(rule, row.kernel_ct);
        EXPECT_EQ(r ? r.name() : "", row.refused);
    }
}

}  // namespace
}  // namespace flowxlate::unit
