// SPDX-License-Identifier: Apache-2.0
#include "kernel/ingress_filter.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <libmnl/libmnl.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <net/if.h>

#include <array>
#include <cerrno>
#include <memory>

#include "kernel/loaded.h"
#include "kernel/netlink.h"

namespace flowxlate {
namespace {

constexpr uint32_t kSeq = 1;  // Of the only request of a socket.
constexpr uint32_t kHandle = 1;
constexpr const char *kKind = "bpf";
constexpr const char *kName = "ovs-offload-xdp";  // For "tc filter show".

using Buffer = std::array<char, kNetlinkBufferSize>;

nlmsghdr *put_filter_header(Buffer *buffer, uint16_t type, uint16_t flags,
                            Ifindex ifindex) {
    tcmsg *tcm;
    auto *nlh =
        put_tc_header(buffer->data(), type, flags, kSeq, ifindex, &tcm);
    tcm->tcm_handle = kHandle;
    tcm->tcm_parent = TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS);
    tcm->tcm_info =
        TC_H_MAKE(uint32_t{kFilterPriority} << 16, uint32_t{htons(ETH_P_ALL)});
    mnl_attr_put_strz(nlh, TCA_KIND, kKind);
    return nlh;
}

int ask(
    nlmsghdr *nlh, const NetlinkHandler &handler = [](auto *) {}) {
    NetlinkSocket socket;
    const auto f = open_netlink(NETLINK_ROUTE, &socket);
    return f ? f.error : request(socket.get(), nlh, handler);
}

// 0 also if there is a qdisc already.
int add_qdisc(Ifindex ifindex) {
    Buffer buffer;
    tcmsg *tcm;
    auto *nlh = put_tc_header(buffer.data(), RTM_NEWQDISC,
                              NLM_F_CREATE | NLM_F_EXCL, kSeq, ifindex, &tcm);
    tcm->tcm_handle = TC_H_MAKE(TC_H_CLSACT, 0);
    tcm->tcm_parent = TC_H_CLSACT;
    mnl_attr_put_strz(nlh, TCA_KIND, "clsact");
    const int error = ask(nlh);
    return error == EEXIST ? 0 : error;
}

bool look_at_filter(Ifindex ifindex, LinkedProgram *out) {
    out->is_at_tc = true;
    out->ifindex = ifindex;
    out->prog_id = filter_program(ifindex);
    if (out->prog_id) {
        out->prog = Fd(bpf_prog_get_fd_by_id(out->prog_id));
    }
    EarlierPrograms none;  // They share nothing.
    return out->prog && is_ours(out, &none) && out->earlier;
}

}  // namespace

uint32_t filter_program(Ifindex ifindex) {
    Buffer buffer;
    uint32_t id = 0;
    auto *nlh = put_filter_header(&buffer, RTM_GETTFILTER, 0, ifindex);
    const int error = ask(nlh, [&](const nlmsghdr *reply) {
        for_each_attr(reply, sizeof(tcmsg), [&](const nlattr *a) {
            if ((mnl_attr_get_type(a) & NLA_TYPE_MASK) != TCA_OPTIONS) {
                return;
            }
            for_each_nested(a, [&](const nlattr *option) {
                if (mnl_attr_get_type(option) == TCA_BPF_ID) {
                    id = mnl_attr_get_u32(option);
                }
            });
        });
    });
    return error ? 0 : id;
}

Failure put_filter(Ifindex ifindex, int prog_fd) {
    if (const int error = add_qdisc(ifindex)) {
        return failure(error,
                       "cannot add a clsact qdisc (CONFIG_NET_SCH_INGRESS)");
    }
    Buffer buffer;
    auto *nlh = put_filter_header(&buffer, RTM_NEWTFILTER,
                                  NLM_F_CREATE | NLM_F_REPLACE, ifindex);
    auto *options = mnl_attr_nest_start(nlh, TCA_OPTIONS);
    mnl_attr_put_u32(nlh, TCA_BPF_FD, prog_fd);
    mnl_attr_put_strz(nlh, TCA_BPF_NAME, kName);
    mnl_attr_put_u32(nlh, TCA_BPF_FLAGS, TCA_BPF_FLAG_ACT_DIRECT);
    mnl_attr_nest_end(nlh, options);
    const int error = ask(nlh);
    return error ? failure(error,
                           "cannot add a filter to TC's ingress "
                           "(CONFIG_NET_CLS_BPF)")
                 : Failure{};
}

bool has_filter_of_ours(Ifindex ifindex) {
    LinkedProgram program;
    return look_at_filter(ifindex, &program);
}

size_t remove_orphaned_filters(const std::function<bool(Ifindex)> &is_port,
                               size_t *n_left) {
    const std::unique_ptr<struct if_nameindex, void (*)(struct if_nameindex *)>
        all(if_nameindex(), if_freenameindex);
    size_t n_removed = 0;
    *n_left = 0;
    for (auto *i = all.get(); i && i->if_index; i++) {
        const Ifindex ifindex{static_cast<int>(i->if_index)};
        LinkedProgram program;
        if (is_port(ifindex) || !look_at_filter(ifindex, &program)) {
            continue;
        }
        if (is_tended(*program.earlier)) {
            ++*n_left;
            continue;
        }
        remove_filter(ifindex);
        n_removed++;
    }
    return n_removed;
}

// The only filter of the priority takes that along.
void remove_filter(Ifindex ifindex) {
    Buffer buffer;
    (void)ask(put_filter_header(&buffer, RTM_DELTFILTER, 0, ifindex));
}

}  // namespace flowxlate
