// SPDX-License-Identifier: Apache-2.0
#include "kernel/netlink.h"

#include <libmnl/libmnl.h>
#include <linux/genetlink.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>

namespace flowxlate {
namespace {

// libmnl's mnl_attr_for_each() macros are not C++.
int run_attr_handler(const nlattr *a, void *handler) {
    (*static_cast<AttrHandler *>(handler))(a);
    return MNL_CB_OK;
}

}  // namespace

void NetlinkSocketCloser::operator()(mnl_socket *s) const {
    mnl_socket_close(s);
}

Failure open_netlink(int bus, NetlinkSocket *out) {
    out->reset(mnl_socket_open2(bus, SOCK_CLOEXEC));
    if (!*out || mnl_socket_bind(out->get(), 0, MNL_SOCKET_AUTOPID)) {
        return failure(errno, "cannot open a netlink socket");
    }
    return {};
}

int run_netlink_handler(const nlmsghdr *nlh, void *handler) {
    (*static_cast<NetlinkHandler *>(handler))(nlh);
    return MNL_CB_OK;
}

nlmsghdr *put_generic_header(char *buffer, uint16_t family, uint8_t cmd,
                             uint32_t seq) {
    auto *nlh = mnl_nlmsg_put_header(buffer);
    nlh->nlmsg_type = family;
    nlh->nlmsg_seq = seq;
    auto *genl = static_cast<genlmsghdr *>(
        mnl_nlmsg_put_extra_header(nlh, sizeof(genlmsghdr)));
    genl->cmd = cmd;
    genl->version = 1;
    return nlh;
}

void for_each_attr(const nlmsghdr *nlh, size_t header, AttrHandler handler) {
    mnl_attr_parse(nlh, header, run_attr_handler, &handler);
}

void for_each_nested(const nlattr *nest, AttrHandler handler) {
    mnl_attr_parse_nested(nest, run_attr_handler, &handler);
}

int request(mnl_socket *socket, nlmsghdr *nlh, NetlinkHandler handler) {
    std::array<char, kNetlinkBufferSize> buffer;
    const int fd = mnl_socket_get_fd(socket);
    nlh->nlmsg_flags |= NLM_F_REQUEST | NLM_F_ACK;
    while (recv(fd, buffer.data(), buffer.size(), MSG_DONTWAIT) > 0
           || errno == ENOBUFS) {
    }
    if (mnl_socket_sendto(socket, nlh, nlh->nlmsg_len) < 0) {
        return errno;
    }
    for (;;) {
        const ssize_t n =
            mnl_socket_recvfrom(socket, buffer.data(), buffer.size());
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return errno;
        }
        const int r = mnl_cb_run(buffer.data(), n, nlh->nlmsg_seq,
                                 mnl_socket_get_portid(socket),
                                 run_netlink_handler, &handler);
        if (r == MNL_CB_STOP) {
            return 0;
        }
        if (r == MNL_CB_ERROR) {
            return errno;
        }
    }
}

nlmsghdr *put_tc_header(char *buffer, uint16_t type, uint16_t flags,
                        uint32_t seq, Ifindex ifindex, tcmsg **tcm) {
    auto *nlh = mnl_nlmsg_put_header(buffer);
    nlh->nlmsg_type = type;
    nlh->nlmsg_flags = flags;
    nlh->nlmsg_seq = seq;
    *tcm =
        static_cast<tcmsg *>(mnl_nlmsg_put_extra_header(nlh, sizeof(tcmsg)));
    (*tcm)->tcm_ifindex = index(ifindex);
    return nlh;
}

nlmsghdr *put_ingress_filters_request(char *buffer, Ifindex ifindex,
                                      uint16_t priority, uint32_t seq) {
    tcmsg *tcm;
    auto *nlh =
        put_tc_header(buffer, RTM_GETTFILTER, NLM_F_DUMP, seq, ifindex, &tcm);
    tcm->tcm_parent = TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS);
    tcm->tcm_info = TC_H_MAKE(priority << 16, 0);
    return nlh;
}

}  // namespace flowxlate
