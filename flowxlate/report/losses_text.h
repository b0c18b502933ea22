// SPDX-License-Identifier: Apache-2.0
// Frames that were lost after they were redirected, in words.
#ifndef FLOWXLATE_LOSSES_TEXT_H
#define FLOWXLATE_LOSSES_TEXT_H

#include <string>

#include "engine/losses.h"

namespace flowxlate {

// "ENETDOWN"; "none" for 0, "other" if it has no name here.
std::string error_name(int error);

// What it means, and what helps.
std::string meaning_of(const RedirectError &);

// "12 ENETDOWN, 3 none; to OVS 5 ENOBUFS", "none", or "-" if that is not
// known.
std::string describe(const Losses &);

}  // namespace flowxlate

#endif
