// SPDX-License-Identifier: Apache-2.0
#include "flowxlate/kernel/shaping.h"

#include <gtest/gtest.h>

namespace flowxlate {
namespace {

TEST(Shaping, SaysWhatLimits) {
    const struct {
        Shaping shaping;
        const char *text;
    } kRows[] = {
        {{}, ""},
        {{true, ""}, "ingress policing"},
        {{false, "htb"}, "QoS (htb)"},
        {{true, "hfsc"}, "ingress policing and QoS (hfsc)"},
    };
    for (auto &row : kRows) {
        EXPECT_EQ(row.shaping.to_string(), row.text);
    }
}

}  // namespace
}  // namespace flowxlate
