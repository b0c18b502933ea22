// SPDX-License-Identifier: Apache-2.0
#include "kernel/xdp_query.h"

#include <libmnl/libmnl.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>

#include <array>

#include "kernel/netlink.h"

namespace flowxlate {

int query_xdp(Ifindex ifindex, XdpOnDevice *out) {
    NetlinkSocket socket;
    if (const auto f = open_netlink(NETLINK_ROUTE, &socket)) {
        return f.error;
    }
    std::array<char, kNetlinkBufferSize> buffer;
    auto *nlh = mnl_nlmsg_put_header(buffer.data());
    nlh->nlmsg_type = RTM_GETLINK;
    nlh->nlmsg_seq = 1;
    auto *ifi = static_cast<ifinfomsg *>(
        mnl_nlmsg_put_extra_header(nlh, sizeof(ifinfomsg)));
    ifi->ifi_index = index(ifindex);
    auto read_xdp = [&](const nlattr *a) {
        if (mnl_attr_get_type(a) == IFLA_XDP_ATTACHED) {
            out->mode = mnl_attr_get_u8(a);
        } else if (mnl_attr_get_type(a) == IFLA_XDP_PROG_ID) {
            out->prog_id = mnl_attr_get_u32(a);
        }
    };
    *out = {};
    return request(socket.get(), nlh, [&](const nlmsghdr *reply) {
        for_each_attr(reply, sizeof(ifinfomsg), [&](const nlattr *a) {
            if ((mnl_attr_get_type(a) & NLA_TYPE_MASK) == IFLA_XDP) {
                for_each_nested(a, read_xdp);
            }
        });
    });
}

}  // namespace flowxlate
