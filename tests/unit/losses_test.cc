// SPDX-License-Identifier: Apache-2.0
// Frames that were lost after they were redirected: which, and which lately.
#include "flowxlate/engine/losses.h"

#include <gtest/gtest.h>

#include <cerrno>

#include "flowxlate/report/losses_text.h"

namespace flowxlate::unit {
namespace {

using Errors = std::vector<RedirectError>;
using std::chrono::seconds;

Losses::Time at(int s) { return Losses::Time() + seconds(s); }

TEST(Losses, InWords) {
    const struct {
        std::optional<Errors> errors;
        const char *text;
        uint64_t n;
    } rows[] = {
        {std::nullopt, "-", 0},
        {Errors{}, "none", 0},
        {Errors{{false, ENETDOWN, 12}}, "12 ENETDOWN", 12},
        {Errors{{false, 0, 3}, {false, EDOM, 1}, {false, 134, 4}},
         "3 none, 1 EDOM, 4 other", 8},
        {Errors{{true, ENOMEM, 5}}, "to OVS 5 ENOMEM", 5},
        {Errors{{false, ENXIO, 2}, {true, ENOMEM, 5}, {true, ENOBUFS, 1}},
         "2 ENXIO; to OVS 5 ENOMEM, 1 ENOBUFS", 8},
    };
    for (auto &row : rows) {
        Losses losses;
        losses.look(row.errors, at(0));
        EXPECT_EQ(describe(losses), row.text);
        EXPECT_EQ(losses.n_frames(), row.n) << row.text;
        EXPECT_EQ(losses.are_known(), row.errors.has_value()) << row.text;
        EXPECT_EQ(losses.all(), row.errors.value_or(Errors{})) << row.text;
    }
    EXPECT_EQ(describe(Losses()), "-") << "before the first look";
}

// What a look at that second has found, and what was lost lately then.
TEST(Losses, Lately) {
    const int last = Losses::kLately.count();
    const RedirectError down{false, ENETDOWN, 5}, full{false, 0, 7},
        ovs{true, ENETDOWN, 5};
    RedirectError more = down;
    more.frames = 6;
    const struct {
        const char *name;
        int second;
        std::optional<Errors> found;
        Errors lately;
    } looks[] = {
        {"nothing", 0, Errors{}, {}},
        {"the first", 1, Errors{down}, {down}},
        {"no more", last, Errors{down}, {down}},
        {"for long", last + 1, Errors{down}, {}},
        {"one more", last + 2, Errors{more}, {more}},
        {"the latest first", last + 3, Errors{more, ovs}, {ovs, more}},
        {"of two the most",
         last + 4,
         Errors{full, more, ovs},
         {full, ovs, more}},
        {"long after", 3 * last, Errors{full, more, ovs}, {}},
        {"nobody counts", 3 * last + 1, std::nullopt, {}},
        {"the port is new", 3 * last + 2, Errors{down}, {down}},
    };
    Losses losses;
    for (auto &look : looks) {
        losses.look(look.found, at(look.second));
        EXPECT_EQ(losses.lately(), look.lately) << look.name;
    }
}

// Each that is explained says what helps, and those that are not say why.
TEST(Losses, Meanings) {
    const struct {
        RedirectError error;
        const char *part;
    } rows[] = {
        {{false, 0, 1}, "its queue is full"},
        {{false, ENETDOWN, 1}, "\"ip link set DEVICE up\" helps"},
        {{false, ENXIO, 1}, "\"ethtool -K PEER gro on\""},
        {{false, EOPNOTSUPP, 1}, "its driver takes no redirected frames"},
        {{false, EMSGSIZE, 1}, "the same MTU at all ports helps"},
        {{true, ENOBUFS, 1}, "OVS does not keep up"},
        {{true, ENXIO, 1}, "OVS had no socket there"},
        {{false, EIO, 1}, "its driver refused them: Input/output error"},
        {{true, EIO, 1}, "OVS's socket refused them: Input/output error"},
    };
    for (auto &row : rows) {
        EXPECT_NE(meaning_of(row.error).find(row.part), std::string::npos)
            << row.part << " is not in " << meaning_of(row.error);
    }
}

}  // namespace
}  // namespace flowxlate::unit
