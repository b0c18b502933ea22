// SPDX-License-Identifier: Apache-2.0
// What nf_conntrack does with an RST.
//
// An RST whose sequence number is before the last acknowledgement that
// nf_conntrack has seen is invalid to it, and usual rules drop what is
// invalid. Of a connection whose packets are executed by programs it has seen
// an acknowledgement of long ago, which is "later" than the RST once 2 GiB
// have passed.  Nothing that a program may write repairs that; flowtables,
// which have the same trouble, forget the number in the kernel.
//
// So nf_conntrack of the network namespace is told to take such an RST for one
// that belongs to the connection and does not end it
// (net.netfilter.nf_conntrack_tcp_ignore_invalid_rst, since Linux 5.15),
// before the first ct() is executed.  It stays so when this process ends, as
// flows in XDP do.
#ifndef FLOWXLATE_CONNTRACK_RST_H
#define FLOWXLATE_CONNTRACK_RST_H

#include "base/types.h"

namespace flowxlate {

// Makes it so.  '*changed': it was otherwise.
Failure let_old_rst_pass(bool *changed);

}  // namespace flowxlate

#endif
