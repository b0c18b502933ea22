// SPDX-License-Identifier: Apache-2.0
// Random lists of actions, in OVS's text.
#ifndef TESTS_ORACLE_ACTIONS_H
#define TESTS_ORACLE_ACTIONS_H

#include <string>
#include <vector>

#include "fields.h"
#include "random.h"

namespace oracle {

// Actions for a flow that was made for a packet with the fields 'key', and
// matches those of 'mask'.  Header fields are set only where the packet has
// them.
// '*recirc_id' is the last recirculation id in use.
std::vector<std::string> make_actions(const Fields &key, const Fields &mask,
                                      uint32_t *recirc_id, Random &);

// Those of them that change the packet, and nothing else.
std::vector<std::string> make_changes(const Fields &key, const Fields &mask,
                                      Random &);

}  // namespace oracle

#endif
