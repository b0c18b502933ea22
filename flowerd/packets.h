// SPDX-License-Identifier: Apache-2.0
// Packets that a user has given to be traced.
#ifndef FLOWERD_PACKETS_H
#define FLOWERD_PACKETS_H

#include <string>
#include <vector>

#include "flowxlate/base/types.h"

namespace flowerd {

constexpr size_t kMaxPackets = 100;  // Of a file that are read.

// Appends, in hexadecimal digits, the packets of a file that tcpdump has
// written (pcap or pcapng).
flowxlate::Failure read_capture(const std::string &path,
                                std::vector<std::string> *packets);

}  // namespace flowerd

#endif
