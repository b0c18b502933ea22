// SPDX-License-Identifier: Apache-2.0
// Decoding the actions of a filter (linux/tc_act/*.h).
#ifndef FLOWERD_ACTION_H
#define FLOWERD_ACTION_H

#include "flowerd/filter.h"

namespace flowerd {

// Appends what 'list', the payload of TCA_FLOWER_ACT, does.  The list is taken
// as a whole or refused with the name of what is not executed in XDP.
//
// TC goes from one action to the next while each says "pipe".  A list that
// ends without a verdict, as an empty one does, lets the packet pass.
Reject decode_actions(Bytes list, std::vector<Action> *);

}  // namespace flowerd

#endif
