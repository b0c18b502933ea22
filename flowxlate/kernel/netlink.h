// SPDX-License-Identifier: Apache-2.0
// Requests to the kernel by netlink, over libmnl.
#ifndef FLOWXLATE_NETLINK_H
#define FLOWXLATE_NETLINK_H

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

#include "base/types.h"

struct mnl_socket;
struct nlattr;
struct nlmsghdr;
struct tcmsg;

namespace flowxlate {

constexpr size_t kNetlinkBufferSize = 32768;

struct NetlinkSocketCloser {
    void operator()(mnl_socket *) const;
};
using NetlinkSocket = std::unique_ptr<mnl_socket, NetlinkSocketCloser>;

// Opens a socket to 'bus' (NETLINK_ROUTE, ...) in this network namespace.
Failure open_netlink(int bus, NetlinkSocket *);

using NetlinkHandler = std::function<void(const nlmsghdr *)>;
using AttrHandler = std::function<void(const nlattr *)>;

// Sends the request 'nlh' and runs 'handler' on each message of the reply.
// Returns 0 or a positive errno value; EINTR if the answer to a dump request
// may be inconsistent.  What is left of an earlier reply, say because memory
// ran out in the middle of it, is not taken for this one's.
int request(mnl_socket *, nlmsghdr *nlh, NetlinkHandler handler);

// Begins, in a buffer of kNetlinkBufferSize, a message about TC on a device,
// and stores where its header is, of which the other members are 0.
nlmsghdr *put_tc_header(char *buffer, uint16_t type, uint16_t flags,
                        uint32_t seq, Ifindex, tcmsg **);

// Begins, in such a buffer, a request for the TC filters at the ingress of a
// device: those of one priority, or all (0).
nlmsghdr *put_ingress_filters_request(char *buffer, Ifindex, uint16_t priority,
                                      uint32_t seq);

// Begins, in such a buffer, a request to a family of generic netlink.
nlmsghdr *put_generic_header(char *buffer, uint16_t family, uint8_t cmd,
                             uint32_t seq);

// The attributes behind a message's header of 'header' bytes, or in 'nest'.
void for_each_attr(const nlmsghdr *, size_t header, AttrHandler);
void for_each_nested(const nlattr *nest, AttrHandler);

// libmnl's callback that runs a NetlinkHandler.
int run_netlink_handler(const nlmsghdr *, void *handler);

}  // namespace flowxlate

#endif
