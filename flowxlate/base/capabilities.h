// SPDX-License-Identifier: Apache-2.0
// What the calling thread may do.  See capabilities(7); CAP_SYS_ADMIN includes
// CAP_BPF and CAP_PERFMON (bpf_capable() and perfmon_capable() in the kernel's
// linux/capability.h).  In a user namespace capabilities do not count for BPF.
#ifndef FLOWXLATE_CAPABILITIES_H
#define FLOWXLATE_CAPABILITIES_H

#include <string>

namespace flowxlate {

// Programs and maps can be opened by their ids with CAP_SYS_ADMIN only.
bool may_administrate();

// Those of CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN that are missing, with ", "
// between them.
std::string missing_capabilities();

}  // namespace flowxlate

#endif
