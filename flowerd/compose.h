// SPDX-License-Identifier: Apache-2.0
// A packet to be traced, of words as tc-flower(8) has them.
#ifndef FLOWERD_COMPOSE_H
#define FLOWERD_COMPOSE_H

#include <span>
#include <string>

#include "flowxlate/base/types.h"

namespace flowerd {

// Stores in '*hex' the packet of IP that words as "dst_ip 10.0.0.2 ip_proto
// udp dst_port 53" describe, with right checksums.  What is not said is as
// common: a TTL of 64, and ports, addresses and a payload of some kind.
flowxlate::Failure compose(std::span<const std::string> words,
                           std::string *hex);

}  // namespace flowerd

#endif
