// SPDX-License-Identifier: Apache-2.0
// Frames: plain and odd ones, and changes to them.
#ifndef TESTS_ORACLE_FRAMES_H
#define TESTS_ORACLE_FRAMES_H

#include "random.h"
#include "tests/bpf/packet.h"

namespace oracle {

using flowxlate::test::Frame;

constexpr size_t kMinFrame = 14, kMaxFrame = 1600;

// A frame of any kind.  Most are well-formed; addresses and ports come from
// small sets, so that flows meet them.
Frame make_frame(Random &);

// A frame that is 'frame' but for something: a field, some bits, its length,
// padding.  Most keep the fields that a flow matches.
Frame vary(const Frame &frame, Random &);

}  // namespace oracle

#endif
