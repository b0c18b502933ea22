// SPDX-License-Identifier: Apache-2.0
// The CPUs of the host.
#ifndef FLOWXLATE_CPUS_H
#define FLOWXLATE_CPUS_H

#include <string_view>
#include <vector>

#include "base/types.h"

namespace flowxlate {

// The CPUs that a list of the kernel's names, "0-3,8": by CPU number, whether
// it does.  Empty if that is no such list.
std::vector<bool> parse_cpu_list(std::string_view);

// Of each CPU that there may be, by its number, whether it is online now.
Failure find_cpus(std::vector<bool> *is_online);

}  // namespace flowxlate

#endif
