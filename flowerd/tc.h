// SPDX-License-Identifier: Apache-2.0
// TC and devices, as the kernel tells of them by rtnetlink.
//
// Changes are heard on a socket that nobody asks anything on, so an answer is
// never taken for a notification.  What was lost there (ENOBUFS) is not
// guessed: the caller asks for everything again.
#ifndef FLOWERD_TC_H
#define FLOWERD_TC_H

#include <functional>
#include <vector>

#include "flowerd/filter.h"
#include "flowxlate/base/resource.h"
#include "flowxlate/kernel/netlink.h"

namespace flowerd {

using flowxlate::Failure;

class Tc {
public:
    // 'receive_buffer': bytes of notifications that wait to be read.
    Failure open(int receive_buffer);

    int event_fd() const { return events_.get(); }
    // Runs 'handler' on each message that has come.  False: some were lost.
    bool read_events(const std::function<void(Bytes)> &handler);

    // The filters at the ingress of a device, of all chains, or at its egress.
    // An "ingress" qdisc tells of the former when it is asked for the latter,
    // and any other one that has its handle tells of its own; so ask for
    // qdiscs before.
    Failure dump(Ifindex, bool egress, std::vector<Filter> *);
    struct Qdiscs {
        bool has_clsact = false;
        bool has_other = false;  // Of the handle of clsact and ingress.
    };
    Failure find_qdiscs(Ifindex, Qdiscs *);

private:
    flowxlate::Fd events_;
    flowxlate::NetlinkSocket requests_;
    uint32_t seq_ = 0;
};

}  // namespace flowerd

#endif
