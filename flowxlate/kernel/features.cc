// SPDX-License-Identifier: Apache-2.0
#include "kernel/features.h"

#include <bpf/btf.h>
#include <libmnl/libmnl.h>
#include <linux/genetlink.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <memory>

#include "kernel/netlink.h"
#include "kernel/tcx.h"

namespace flowxlate {
namespace {

// <linux/netdev.h>, which Linux 6.1's headers do not have yet.
constexpr const char *kNetdevFamily = "netdev";
constexpr const char *kNetdevGroup = "mgmt";
// Each network namespace has its loopback device there (LOOPBACK_IFINDEX,
// <net/flow.h>).
constexpr Ifindex kLoopback{1};

// The id of the group kNetdevGroup, if it is that one; else 0.
uint32_t read_group(const nlattr *group) {
    uint32_t id = 0;
    bool wanted = false;
    for_each_nested(group, [&](const nlattr *a) {
        if (mnl_attr_get_type(a) == CTRL_ATTR_MCAST_GRP_ID) {
            id = mnl_attr_get_u32(a);
        } else if (mnl_attr_get_type(a) == CTRL_ATTR_MCAST_GRP_NAME) {
            wanted = !std::strcmp(mnl_attr_get_str(a), kNetdevGroup);
        }
    });
    return wanted ? id : 0;
}

struct BtfDeleter {
    void operator()(btf *b) const { btf__free(b); }
};
using Btf = std::unique_ptr<btf, BtfDeleter>;

// Has the struct a member of that name?
bool has_member(const btf *types, const char *structure, const char *name) {
    const int id = btf__find_by_name_kind(types, structure, BTF_KIND_STRUCT);
    const auto *t = id > 0 ? btf__type_by_id(types, id) : nullptr;
    for (int i = 0; t && i < btf_vlen(t); i++) {
        if (!std::strcmp(
                btf__name_by_offset(types, btf_members(t)[i].name_off),
                name)) {
            return true;
        }
    }
    return false;
}

// nf_conntrack is a module, or part of the kernel.  One that is not loaded yet
// is not found: openvswitch.ko loads it.
bool finds_ct_zones() {
    const Btf kernel(btf__load_vmlinux_btf());
    if (!kernel) {
        return false;
    }
    const Btf module(btf__load_module_btf("nf_conntrack", kernel.get()));
    return has_member(module ? module.get() : kernel.get(), "bpf_ct_opts",
                      "ct_zone_id");
}

}  // namespace

// A kernel without the family answers with an error, which is no failure.
Failure KernelFeatures::probe_netdev_family() {
    NetlinkSocket generic;
    if (auto f = open_netlink(NETLINK_GENERIC, &generic)) {
        return f;
    }
    std::array<char, kNetlinkBufferSize> buffer;
    auto *nlh =
        put_generic_header(buffer.data(), GENL_ID_CTRL, CTRL_CMD_GETFAMILY, 1);
    mnl_attr_put_strz(nlh, CTRL_ATTR_FAMILY_NAME, kNetdevFamily);
    uint16_t id = 0;
    uint32_t group = 0;
    request(generic.get(), nlh, [&](const nlmsghdr *reply) {
        for_each_attr(reply, sizeof(genlmsghdr), [&](const nlattr *a) {
            if (mnl_attr_get_type(a) == CTRL_ATTR_FAMILY_ID) {
                id = mnl_attr_get_u16(a);
            } else if (mnl_attr_get_type(a) == CTRL_ATTR_MCAST_GROUPS) {
                for_each_nested(a, [&](const nlattr *g) {
                    const uint32_t found = read_group(g);
                    group = found ? found : group;
                });
            }
        });
    });
    if (id && group) {
        netdev_family_ = id;
        netdev_group_ = group;
    }
    return {};
}

Failure KernelFeatures::probe(KernelFeatures *out) {
    *out = {};
    std::vector<uint32_t> ids;
    // Another error says nothing of tcx: then each device is asked, and judged
    // by that.
    out->tcx_ = find_tcx_programs(kLoopback, &ids) != EINVAL;
    // Tracepoints' programs are loaded by the file.
    out->btf_ = !access("/sys/kernel/btf/vmlinux", R_OK);
    out->ct_zones_ = out->btf_ && finds_ct_zones();
    return out->probe_netdev_family();
}

std::array<KernelFeatures::Row, 4> KernelFeatures::rows() const {
    return {{
        {"XDP features of devices", "6.3",
         "drivers are known by name, and one that is not known is no output",
         netdev_family_ != 0},
        {"tcx", "6.6",
         "programs at TC's ingress are filters of it, and end when OVS adds "
         "their port",
         tcx_},
        {"BTF", "CONFIG_DEBUG_INFO_BTF",
         "it is not known whether redirected frames are lost", btf_},
        {"connections by zone", "6.11",
         "flows with ct() are openvswitch.ko's alone, in its datapath",
         ct_zones_},
    }};
}

std::string KernelFeatures::to_string() const {
    std::string there, missing;
    for (auto &row : rows()) {
        std::string &s = row.is_there ? there : missing;
        s += (s.empty() ? "" : ", ") + std::string(row.name);
        if (!row.is_there) {
            s += std::string(" (") + row.since + "; " + row.without + ")";
        }
    }
    return (there.empty() ? "none" : there)
         + (missing.empty() ? "" : "; missing: " + missing);
}

}  // namespace flowxlate
