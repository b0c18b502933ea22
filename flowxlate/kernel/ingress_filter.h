// SPDX-License-Identifier: Apache-2.0
// Our program as a filter of TC at the ingress of a device: the way to that
// hook where the kernel has no tcx (before Linux 6.6).
//
// The qdisc, "ingress" or "clsact", may be anybody's; if there is none, a
// clsact is made, and left there in the end, since somebody may have put a
// filter of his own on it meanwhile.  OVS itself takes all filters off a port
// when it adds the port to TC's flows (delete_chains_from_netdev() in
// lib/netdev-offload-tc.c), so whoever puts ours there looks whether it still
// is.
//
// It comes last, with the highest number of all priorities.  The first is that
// of OVS's policing, which OVS empties whatever is there, the next three are
// those of its flows, and before these there is no number.  So who else
// filters there comes before us, and has his say.
#ifndef FLOWXLATE_INGRESS_FILTER_H
#define FLOWXLATE_INGRESS_FILTER_H

#include <cstddef>
#include <cstdint>
#include <functional>

#include "base/types.h"

namespace flowxlate {

constexpr uint16_t kFilterPriority = 0xffff;

// The id of the program that has our priority; 0 if none has.
uint32_t filter_program(Ifindex);

// Puts a program there, in one step if there is one already.
Failure put_filter(Ifindex, int prog_fd);

// Removes what has our priority.  Its qdisc stays.
void remove_filter(Ifindex);

// Is it a program of ours that has our priority there?
bool has_filter_of_ours(Ifindex);

// Removes the filters of earlier processes from devices of this namespace that
// are none of ours.  Returns how many; '*n_left' are those whose process is
// alive, or has been until just now.
size_t remove_orphaned_filters(const std::function<bool(Ifindex)> &is_port,
                               size_t *n_left);

}  // namespace flowxlate

#endif
