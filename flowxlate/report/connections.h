// SPDX-License-Identifier: Apache-2.0
// Connections in words, for the reports.
#ifndef FLOWXLATE_CONNECTIONS_H
#define FLOWXLATE_CONNECTIONS_H

#include <string>

#include "bpf/abi/packet.h"
#include "tables/conn_table.h"

namespace flowxlate {

// A line of xdp-offload/show, and what a traced packet has used.
void show_connections(const ConnTable &, std::string *);
std::string describe_connections(const xf_plan &, const ConnMemory &);

}  // namespace flowxlate

#endif
