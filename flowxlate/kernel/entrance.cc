// SPDX-License-Identifier: Apache-2.0
#include "kernel/entrance.h"

#include <arpa/inet.h>
#include <libmnl/libmnl.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <fstream>
#include <string_view>

#include "kernel/ingress_filter.h"
#include "kernel/tcx.h"

namespace flowxlate {
namespace {

// <linux/netfilter/nf_tables.h>, since Linux 6.16: "eth*".
constexpr uint16_t kDevicePrefix = 2;
// What is less old need not be asked again.
constexpr auto kFresh = std::chrono::milliseconds(500);
constexpr size_t kUfidCookie = OVS_OFFLOAD_UFID_LEN;
constexpr const char *kHasTcx = "a BPF program (tcx, ingress) is on it";
constexpr const char *kCannotTell =
    "cannot tell whether somebody handles frames before OVS: ";

// What one message of a dump says of a filter.
struct Filter {
    std::string kind;
    uint32_t priority = 0;
    bool has_options = false;  // Else it is about all of this priority.
    bool has_cookie = false;
    bool only_polices = false;
};

void read_action(const nlattr *action, Filter *f) {
    for_each_nested(action, [&](const nlattr *a) {
        if (mnl_attr_get_type(a) == TCA_ACT_KIND) {
            f->only_polices &= !std::strcmp(mnl_attr_get_str(a), "police");
        } else if (mnl_attr_get_type(a) == TCA_ACT_COOKIE) {
            f->has_cookie |= mnl_attr_get_payload_len(a) == kUfidCookie;
        }
    });
}

void read_options(const nlattr *options, Filter *f) {
    const int actions = f->kind == "flower"   ? int{TCA_FLOWER_ACT}
                      : f->kind == "matchall" ? int{TCA_MATCHALL_ACT}
                                              : int{TCA_BASIC_ACT};
    f->has_options = true;
    for_each_nested(options, [&](const nlattr *a) {
        if ((mnl_attr_get_type(a) & NLA_TYPE_MASK) != actions) {
            return;
        }
        f->only_polices = true;
        for_each_nested(a, [&](const nlattr *act) { read_action(act, f); });
    });
}

Filter read_filter(const nlmsghdr *nlh) {
    Filter f;
    const auto *tcm = static_cast<const tcmsg *>(mnl_nlmsg_get_payload(nlh));
    f.priority = tcm->tcm_info >> 16;
    const nlattr *options = nullptr;
    for_each_attr(nlh, sizeof(tcmsg), [&](const nlattr *a) {
        if (mnl_attr_get_type(a) == TCA_KIND) {
            f.kind = mnl_attr_get_str(a);
        } else if ((mnl_attr_get_type(a) & NLA_TYPE_MASK) == TCA_OPTIONS) {
            options = a;
        }
    });
    if (options) {
        read_options(options, &f);
    }
    return f;
}

bool polices(const std::string &kind) {
    return kind == "matchall" || kind == "basic";
}

bool is_foreign(const Filter &f) {
    if (f.kind != "flower" && !polices(f.kind)) {
        return true;
    }
    return f.has_options
        && !(f.kind == "flower" ? f.has_cookie : f.only_polices);
}

std::string read_name(const nlattr *a) {
    const auto *s = static_cast<const char *>(mnl_attr_get_payload(a));
    return {s, strnlen(s, mnl_attr_get_payload_len(a))};
}

// A module that is loaded later has a directory in /sys/module.
bool has_nftables_built_in() {
    constexpr std::string_view kFunction = " nft_do_chain";
    std::ifstream symbols("/proc/kallsyms");
    for (std::string line; std::getline(symbols, line);) {
        if (line.ends_with(kFunction)) {  // No "[nf_tables]" behind it.
            return true;
        }
    }
    return false;
}

// What one message of a dump says of a device.
struct LinkInfo {
    std::string name;
    Ifindex below{}, above{};  // As of a VLAN device, and of a bond's link.
    bool elsewhere = false;    // 'below' is of another namespace.
    bool is_vlan = false;
    Entrance::Vlan vlan{0, htons(ETH_P_8021Q)};
};

void read_kind(const nlattr *info, LinkInfo *link) {
    for_each_nested(info, [&](const nlattr *a) {
        if (mnl_attr_get_type(a) == IFLA_INFO_KIND) {
            link->is_vlan = !std::strcmp(mnl_attr_get_str(a), "vlan");
        } else if (mnl_attr_get_type(a) == IFLA_INFO_DATA && link->is_vlan) {
            for_each_nested(a, [&](const nlattr *v) {
                if (mnl_attr_get_type(v) == IFLA_VLAN_ID) {
                    link->vlan.id = mnl_attr_get_u16(v);
                } else if (mnl_attr_get_type(v) == IFLA_VLAN_PROTOCOL) {
                    link->vlan.tpid = mnl_attr_get_u16(v);
                }
            });
        }
    });
}

}  // namespace

std::string to_string(const std::vector<Entrance::Vlan> &vlans) {
    constexpr size_t kMost = 8;
    std::string s;
    for (size_t i = 0; i < vlans.size() && i < kMost; i++) {
        s += (i ? ", " : "") + std::to_string(vlans[i].id);
    }
    return vlans.size() > kMost
             ? s + " and " + std::to_string(vlans.size() - kMost) + " more"
             : s;
}

Failure Entrances::open(const KernelFeatures &kernel) {
    has_tcx_ = kernel.has_tcx();
    if (auto f = open_netlink(NETLINK_ROUTE, &route_)) {
        return f;
    }
    // Without netfilter there are no chains.
    if (open_netlink(NETLINK_NETFILTER, &netfilter_)) {
        netfilter_.reset();
    }
    has_nftables_ = has_nftables_built_in();
    return {};
}

// A VLAN device that was moved to another namespace is not in the answer.
void Entrances::note_link(const nlmsghdr *nlh, Devices *devices) {
    LinkInfo link;
    for_each_attr(nlh, sizeof(ifinfomsg), [&](const nlattr *a) {
        switch (mnl_attr_get_type(a)) {
            case IFLA_IFNAME:
                link.name = mnl_attr_get_str(a);
                break;
            case IFLA_LINK:
                link.below = Ifindex(mnl_attr_get_u32(a));
                break;
            case IFLA_LINK_NETNSID:
                link.elsewhere = true;
                break;
            case IFLA_MASTER:
                link.above = Ifindex(mnl_attr_get_u32(a));
                break;
            case IFLA_LINKINFO:
                read_kind(a, &link);
                break;
        }
    });
    if (link.is_vlan && !link.elsewhere) {
        (*devices)[link.below].vlans.push_back(link.vlan);
    }
    if (index(link.above)) {
        auto &lower = (*devices)[link.above].lower;
        lower += (lower.empty() ? "" : ", ") + link.name;
    }
}

void Entrances::note_chain(const nlmsghdr *nlh, Chains *chains) {
    const auto *nfg =
        static_cast<const nfgenmsg *>(mnl_nlmsg_get_payload(nlh));
    std::string table, name;
    uint32_t hook = 0;
    Chains found;
    auto read_device = [&](const nlattr *a) {
        found.push_back(
            {read_name(a), mnl_attr_get_type(a) == kDevicePrefix, {}});
    };
    auto read_hook = [&](const nlattr *a) {
        if (mnl_attr_get_type(a) == NFTA_HOOK_HOOKNUM) {
            hook = ntohl(mnl_attr_get_u32(a));
        } else if (mnl_attr_get_type(a) == NFTA_HOOK_DEV) {
            found.push_back({read_name(a), false, {}});
        } else if (mnl_attr_get_type(a) == NFTA_HOOK_DEVS) {
            for_each_nested(a, read_device);
        }
    };
    for_each_attr(nlh, sizeof(nfgenmsg), [&](const nlattr *a) {
        switch (mnl_attr_get_type(a)) {
            case NFTA_CHAIN_TABLE:
                table = read_name(a);
                break;
            case NFTA_CHAIN_NAME:
                name = read_name(a);
                break;
            case NFTA_CHAIN_HOOK:
                for_each_nested(a, read_hook);
                break;
        }
    });
    if (nfg->nfgen_family == NFPROTO_NETDEV && hook != NF_NETDEV_INGRESS) {
        return;
    }
    for (auto &chain : found) {
        chain.text = "nftables has the chain ";
        chain.text.append(table).append(" ").append(name).append(" on it");
        chains->push_back(chain);
    }
}

// To ask for what is not loaded would load it, so that is not done.
Failure Entrances::find_chains(Chains *out) {
    if (!netfilter_
        || (!has_nftables_ && access("/sys/module/nf_tables", F_OK))) {
        return {};
    }
    for (uint8_t family : {NFPROTO_NETDEV, NFPROTO_INET}) {
        std::array<char, kNetlinkBufferSize> buffer;
        auto *nlh = mnl_nlmsg_put_header(buffer.data());
        nlh->nlmsg_type = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETCHAIN;
        nlh->nlmsg_flags = NLM_F_DUMP;
        nlh->nlmsg_seq = ++seq_;
        auto *nfg = static_cast<nfgenmsg *>(
            mnl_nlmsg_put_extra_header(nlh, sizeof(nfgenmsg)));
        nfg->nfgen_family = family;
        nfg->version = NFNETLINK_V0;
        if (int error = request(
                netfilter_.get(), nlh,
                [&](const nlmsghdr *reply) { note_chain(reply, out); })) {
            return failure(error, "cannot ask for nftables' chains");
        }
    }
    return {};
}

void Entrances::look() {
    const auto now = std::chrono::steady_clock::now();
    if (now < looked_ + kFresh) {
        return;
    }
    const auto f = look_now();
    if (!f) {
        looked_ = now;
        why_unknown_.clear();
    } else if (f.error != EINTR) {
        why_unknown_ = kCannotTell + f.message;
    }
}

Failure Entrances::look_now() {
    std::array<char, kNetlinkBufferSize> buffer;
    auto *nlh = mnl_nlmsg_put_header(buffer.data());
    nlh->nlmsg_type = RTM_GETLINK;
    nlh->nlmsg_flags = NLM_F_DUMP;
    nlh->nlmsg_seq = ++seq_;
    mnl_nlmsg_put_extra_header(nlh, sizeof(ifinfomsg));
    mnl_attr_put_u32(nlh, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);

    Devices devices;
    Chains chains;
    if (int error = request(route_.get(), nlh, [&](const nlmsghdr *reply) {
            note_link(reply, &devices);
        })) {
        return failure(error, "cannot ask for the devices");
    }
    if (auto f = find_chains(&chains)) {
        return f;
    }
    for (auto &[ifindex, device] : devices) {
        std::sort(device.vlans.begin(), device.vlans.end());
    }
    devices_ = std::move(devices);
    chains_ = std::move(chains);
    return {};
}

// Stores in '*who' the kind of a filter at the device's ingress that is not
// OVS's, nor ours if that is there.  'terse' spares the kernel what flows
// match, of which there may be many.  Filters that police it does not describe
// that way.
Failure Entrances::find_filters(Ifindex ifindex, bool terse, bool has_ours,
                                std::string *who) {
    std::array<char, kNetlinkBufferSize> buffer;
    auto *nlh = put_ingress_filters_request(buffer.data(), ifindex, 0, ++seq_);
    if (terse) {
        const nla_bitfield32 flags{TCA_DUMP_FLAGS_TERSE, TCA_DUMP_FLAGS_TERSE};
        mnl_attr_put(nlh, TCA_DUMP_FLAGS, sizeof flags, &flags);
    }

    bool has_policing = false;
    const int error = request(route_.get(), nlh, [&](const nlmsghdr *reply) {
        const Filter f = read_filter(reply);
        has_policing |= polices(f.kind);
        const bool is_ours = has_ours && f.priority == kFilterPriority;
        if (is_foreign(f) && !is_ours && !(terse && polices(f.kind))) {
            *who = f.kind;
        }
    });
    if (error == EOPNOTSUPP || error == ENODEV) {  // No TC, or no device.
        return {};
    }
    // What comes behind one that cannot be described tersely is missing.
    if (terse && has_policing && who->empty()) {
        return find_filters(ifindex, false, has_ours, who);
    }
    return error ? failure(error, kCannotTell + std::string("TC")) : Failure{};
}

// Programs that a packet meets when ours, or XDP, has passed it on.
Failure Entrances::find_tcx(Ifindex ifindex, const OwnProgram &program,
                            bool *found) const {
    std::vector<uint32_t> ids;
    const int error = has_tcx_ ? find_tcx_programs(ifindex, &ids) : 0;
    if (error && error != ENODEV) {
        return failure(error, kCannotTell + std::string("tcx"));
    }
    const auto own = std::find(ids.begin(), ids.end(), program.tcx_id);
    *found = own == ids.end()   ? !ids.empty()
           : program.is_leaving ? ids.size() > 1
                                : own + 1 != ids.end();
    return {};
}

// A VLAN device, and nftables, get what TC has let pass.
Failure Entrances::query_before_tc(Ifindex ifindex, const OwnProgram &own,
                                   Entrance *out) const {
    bool has_tcx = false;
    if (auto d = devices_.find(ifindex); d != devices_.end()) {
        out->lower = d->second.lower;
    }
    if (auto f = find_tcx(ifindex, own, &has_tcx)) {
        return f;
    }
    out->others = has_tcx ? kHasTcx : why_unknown_;
    return {};
}

Failure Entrances::query(Ifindex ifindex, const std::string &name,
                         const OwnProgram &own, bool before_tc,
                         Entrance *out) {
    std::string filter;
    *out = {};
    if (before_tc) {
        return query_before_tc(ifindex, own, out);
    }
    if (auto d = devices_.find(ifindex); d != devices_.end()) {
        out->vlans = d->second.vlans;
        out->lower = d->second.lower;
    }
    bool has_tcx = false;
    if (!own.is_filter || own.is_leaving) {
        if (auto f = find_filters(ifindex, true, own.is_filter, &filter)) {
            return f;
        }
        if (auto f = find_tcx(ifindex, own, &has_tcx)) {
            return f;
        }
    }
    const auto chain =
        std::find_if(chains_.begin(), chains_.end(), [&](auto &c) {
            return c.is_prefix ? name.starts_with(c.device) : name == c.device;
        });
    if (!why_unknown_.empty()) {
        out->others = why_unknown_;
    } else if (chain != chains_.end()) {
        out->others = chain->text;
    } else if (!filter.empty()) {
        out->others = "TC has a filter on it (" + filter
                    + ", ingress) that is not OVS's";
    } else if (has_tcx) {
        out->others = kHasTcx;
    }
    return {};
}

}  // namespace flowxlate
