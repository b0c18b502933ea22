// SPDX-License-Identifier: Apache-2.0
#include "flowerd/tc.h"

#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>

namespace flowerd {
namespace {

constexpr size_t kMessageBuffer = 65536;

Failure join(int fd, int group) {
    return setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group,
                      sizeof group)
             ? flowxlate::failure(errno, "cannot listen to rtnetlink")
             : Failure{};
}

}  // namespace

Failure Tc::open(int receive_buffer) {
    events_ = flowxlate::Fd(socket(
        AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE));
    sockaddr_nl address{};
    address.nl_family = AF_NETLINK;
    if (!events_
        || bind(events_.get(), reinterpret_cast<sockaddr *>(&address),
                sizeof address)) {
        return flowxlate::failure(errno, "cannot open a netlink socket");
    }
    // Without the capability, it is as large as it may be.
    (void)setsockopt(events_.get(), SOL_SOCKET, SO_RCVBUFFORCE,
                     &receive_buffer, sizeof receive_buffer);
    for (int group : {RTNLGRP_TC, RTNLGRP_LINK}) {
        if (auto f = join(events_.get(), group)) {
            return f;
        }
    }
    return flowxlate::open_netlink(NETLINK_ROUTE, &requests_);
}

bool Tc::read_events(const std::function<void(Bytes)> &handler) {
    alignas(nlmsghdr) std::array<std::byte, kMessageBuffer> buffer;
    for (;;) {
        const ssize_t n =
            recv(events_.get(), buffer.data(), buffer.size(), MSG_TRUNC);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return errno == EAGAIN;
        }
        if (static_cast<size_t>(n) > buffer.size()) {
            return false;
        }
        auto left = static_cast<unsigned>(n);
        for (auto *nlh = reinterpret_cast<nlmsghdr *>(buffer.data());
             NLMSG_OK(nlh, left); nlh = NLMSG_NEXT(nlh, left)) {
            handler(flowxlate::bytes_of(nlh, nlh->nlmsg_len));
        }
    }
}

Failure Tc::dump(Ifindex ifindex, bool egress, std::vector<Filter> *out) {
    alignas(nlmsghdr) std::array<char, flowxlate::kNetlinkBufferSize> buffer;
    tcmsg *tcm;
    auto *nlh = flowxlate::put_tc_header(buffer.data(), RTM_GETTFILTER,
                                         NLM_F_DUMP, ++seq_, ifindex, &tcm);
    tcm->tcm_parent =
        TC_H_MAKE(TC_H_CLSACT, egress ? TC_H_MIN_EGRESS : TC_H_MIN_INGRESS);
    Reject broken;
    const int error =
        flowxlate::request(requests_.get(), nlh, [&](const nlmsghdr *reply) {
            Filter f;
            if (auto r = decode_filter(
                    flowxlate::bytes_of(reply, reply->nlmsg_len), &f)) {
                broken = r;
            } else {
                out->push_back(std::move(f));
            }
        });
    if (error) {
        return flowxlate::failure(error, "cannot ask for TC's filters");
    }
    return broken ? Failure{broken.error, "TC's answer: " + broken.name()}
                  : Failure{};
}

Failure Tc::find_qdiscs(Ifindex ifindex, Qdiscs *found) {
    alignas(nlmsghdr) std::array<char, flowxlate::kNetlinkBufferSize> buffer;
    tcmsg *tcm;
    auto *nlh = flowxlate::put_tc_header(buffer.data(), RTM_GETQDISC,
                                         NLM_F_DUMP, ++seq_, ifindex, &tcm);
    *found = {};
    const int error =
        flowxlate::request(requests_.get(), nlh, [&](const nlmsghdr *reply) {
            tcmsg qdisc;
            std::memcpy(&qdisc, NLMSG_DATA(reply), sizeof qdisc);
            if (qdisc.tcm_ifindex != index(ifindex)
                || TC_H_MAJ(qdisc.tcm_handle) != TC_H_MAJ(TC_H_CLSACT)) {
                return;
            }
            found->has_other |= qdisc.tcm_parent != TC_H_INGRESS;
            flowxlate::AttrReader attrs(
                flowxlate::bytes_of(reply, reply->nlmsg_len)
                    .subspan(NLMSG_LENGTH(sizeof qdisc)));
            while (auto a = attrs.next()) {
                found->has_clsact |=
                    a->type == TCA_KIND && text(a->payload) == "clsact";
            }
        });
    return error ? flowxlate::failure(error, "cannot ask for TC's qdiscs")
                 : Failure{};
}

}  // namespace flowerd
