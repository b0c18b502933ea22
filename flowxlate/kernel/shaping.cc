// SPDX-License-Identifier: Apache-2.0
#include "kernel/shaping.h"

#include <libmnl/libmnl.h>
#include <linux/if_ether.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>

#include <array>
#include <vector>

namespace flowxlate {
namespace {

// Where OVS puts its policing: a classifier at a priority of its own, and
// another one where the kernel does not have the first.
constexpr struct {
    uint16_t priority;
    const char *kind;
} kPolicing[] = {{1, "matchall"}, {49, "basic"}};

std::string kind_of(const nlmsghdr *nlh) {
    std::string kind;
    for_each_attr(nlh, sizeof(tcmsg), [&](const nlattr *a) {
        if (mnl_attr_get_type(a) == TCA_KIND) {
            kind = mnl_attr_get_str(a);
        }
    });
    return kind;
}

const tcmsg *header_of(const nlmsghdr *nlh) {
    return static_cast<const tcmsg *>(mnl_nlmsg_get_payload(nlh));
}

}  // namespace

std::string Shaping::to_string() const {
    std::string qos = qdisc.empty() ? "" : "QoS (" + qdisc + ")";
    if (!polices) {
        return qos;
    }
    return qos.empty() ? "ingress policing" : "ingress policing and " + qos;
}

Failure ShapingQueries::open() {
    return open_netlink(NETLINK_ROUTE, &socket_);
}

// What the kernel has put on a device by itself has no handle.
Failure ShapingQueries::look() {
    std::array<char, kNetlinkBufferSize> buffer;
    auto *nlh = mnl_nlmsg_put_header(buffer.data());
    nlh->nlmsg_type = RTM_GETQDISC;
    nlh->nlmsg_flags = NLM_F_DUMP;
    nlh->nlmsg_seq = ++seq_;
    mnl_nlmsg_put_extra_header(nlh, sizeof(tcmsg));

    std::map<Ifindex, std::string> qdiscs;
    const int error = request(socket_.get(), nlh, [&](const nlmsghdr *reply) {
        const tcmsg *tcm = header_of(reply);
        if (tcm->tcm_parent == TC_H_ROOT && TC_H_MAJ(tcm->tcm_handle)) {
            qdiscs[Ifindex{tcm->tcm_ifindex}] = kind_of(reply);
        }
    });
    if (error) {
        return failure(error, "cannot ask for the queueing disciplines");
    }
    qdiscs_ = std::move(qdiscs);
    return {};
}

bool ShapingQueries::polices(Ifindex ifindex, uint16_t priority,
                             const char *kind) {
    std::array<char, kNetlinkBufferSize> buffer;
    auto *nlh =
        put_ingress_filters_request(buffer.data(), ifindex, priority, ++seq_);
    bool found = false;
    (void)request(socket_.get(), nlh, [&](const nlmsghdr *reply) {
        found |= kind_of(reply) == kind;
    });
    return found;
}

Shaping ShapingQueries::query(Ifindex ifindex) {
    Shaping shaping;
    for (auto &[priority, kind] : kPolicing) {
        shaping.polices |= polices(ifindex, priority, kind);
    }
    if (auto it = qdiscs_.find(ifindex); it != qdiscs_.end()) {
        shaping.qdisc = it->second;
    }
    return shaping;
}

}  // namespace flowxlate
