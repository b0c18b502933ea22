// SPDX-License-Identifier: Apache-2.0
// What uses up the masks: told by the fields that rules make OVS look at.
//
// There are as many masks as OVS has combinations of fields, and of bits of
// each: an access list for addresses beside routes of many prefix lengths has
// hundreds.  Masks of the same fields are told together, with the bits of each
// field in which they differ.
#ifndef FLOWXLATE_MASK_USAGE_H
#define FLOWXLATE_MASK_USAGE_H

#include <span>
#include <string>

#include "base/types.h"

namespace flowxlate {

struct UsedMask {
    xf_class cls;
    xf_key mask;
    uint8_t proto;  // The IP protocol of its flows, if it matches that.
    size_t n_flows;
    std::string example;  // One of the flows.
};

// Some lines, those of most masks first; each begins with two blanks.
std::string describe_masks(std::span<const UsedMask>);

}  // namespace flowxlate

#endif
