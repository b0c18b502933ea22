// SPDX-License-Identifier: Apache-2.0
// A packet in words.
#ifndef TOOLS_DUMP_TEXT_H
#define TOOLS_DUMP_TEXT_H

#include <string>

#include "port_capture.h"

namespace flowxlate {

// "redirected to p2, ufid:...": what has become of it.
std::string fate_of(const Packet &);

// A line: when it came, how long it is, what it is, and its fate.
std::string line_of(const Packet &);

}  // namespace flowxlate

#endif
