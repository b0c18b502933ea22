// SPDX-License-Identifier: Apache-2.0
// Cases as text, and made small.
//
//   # What this is about.
//   vlan-limit: 1
//   mode: native
//   flow: recirc_id(0),in_port(1),...       as odp_flow_from_string() reads it
//   action: set(eth(dst=02:00:00:00:00:01))   one per line; none: drop
//   action: 2
//   frame: 02 00 ...                        further lines of bytes may follow
#ifndef TESTS_ORACLE_CASES_H
#define TESTS_ORACLE_CASES_H

#include "judge.h"

namespace oracle {

std::string to_text(const Case &);

// Throws std::runtime_error with the line that cannot be read.
Case read_case(const std::string &path);

// Takes away from a case what its mismatch does not need.
Case shrink(const Case &, Judge *);

}  // namespace oracle

#endif
