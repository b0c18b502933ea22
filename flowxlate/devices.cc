// SPDX-License-Identifier: Apache-2.0
#include "devices.h"

#include <libmnl/libmnl.h>
#include <linux/ethtool.h>
#include <linux/genetlink.h>
#include <linux/if.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <functional>

namespace flowxlate {
namespace {

// <linux/netdev.h>, which Linux 6.1's headers do not have yet.
constexpr const char *kNetdevFamily = "netdev";
constexpr const char *kNetdevGroup = "mgmt";
constexpr uint8_t kNetdevCmdDevGet = 1;
constexpr uint16_t kNetdevDevIfindex = 1;      // u32
constexpr uint16_t kNetdevDevXdpFeatures = 3;  // u64
constexpr uint64_t kXdpFeatureNdoXmit = 4;

constexpr size_t kBufferSize = 32768;
constexpr int kNoNetns = -1;

Failure failure(const char *what) {
    return {errno, std::string(what) + ": " + std::strerror(errno)};
}

using Handler = std::function<void(const nlmsghdr *)>;

int run_handler(const nlmsghdr *nlh, void *handler) {
    (*static_cast<Handler *>(handler))(nlh);
    return MNL_CB_OK;
}

// libmnl's mnl_attr_for_each() macros are not C++.
using AttrHandler = std::function<void(const nlattr *)>;

int run_attr_handler(const nlattr *a, void *handler) {
    (*static_cast<AttrHandler *>(handler))(a);
    return MNL_CB_OK;
}

void for_each_attr(const nlmsghdr *nlh, size_t header, AttrHandler handler) {
    mnl_attr_parse(nlh, header, run_attr_handler, &handler);
}

void for_each_nested(const nlattr *nest, AttrHandler handler) {
    mnl_attr_parse_nested(nest, run_attr_handler, &handler);
}

// Sends the request 'nlh' and runs 'handler' on the reply.  Returns 0 or a
// positive errno value.  What is left of an earlier reply, say because memory
// ran out in the middle of it, is not taken for this one's.
int request(mnl_socket *socket, nlmsghdr *nlh, Handler handler) {
    std::array<char, kBufferSize> buffer;
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
        const int r =
            mnl_cb_run(buffer.data(), n, nlh->nlmsg_seq,
                       mnl_socket_get_portid(socket), run_handler, &handler);
        if (r == MNL_CB_STOP) {
            return 0;
        }
        if (r == MNL_CB_ERROR) {
            return errno;
        }
    }
}

nlmsghdr *generic_header(char *buffer, uint16_t family, uint8_t cmd,
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

}  // namespace

struct Devices::Link {
    unsigned flags = 0;
    uint32_t mtu = 0;
    Ifindex peer{};
    int peer_netns = kNoNetns;
    bool is_veth = false;
};

struct Devices::Family {
    uint16_t id = 0;
    uint32_t group = 0;
};

void Devices::SocketCloser::operator()(mnl_socket *s) const {
    mnl_socket_close(s);
}

Failure Devices::open_socket(int bus, Socket *out) {
    out->reset(mnl_socket_open2(bus, SOCK_CLOEXEC));
    if (!*out || mnl_socket_bind(out->get(), 0, MNL_SOCKET_AUTOPID)) {
        return failure("cannot open a netlink socket");
    }
    return {};
}

Failure Devices::open() {
    for (auto *s : {&route_, &route_events_}) {
        if (auto f = open_socket(NETLINK_ROUTE, s)) {
            return f;
        }
    }
    for (auto *s : {&generic_, &generic_events_}) {
        if (auto f = open_socket(NETLINK_GENERIC, s)) {
            return f;
        }
    }

    int group = RTNLGRP_LINK;
    if (mnl_socket_setsockopt(route_events_.get(), NETLINK_ADD_MEMBERSHIP,
                              &group, sizeof group)) {
        return failure("cannot listen to changes of devices");
    }
    // Changes of veth peers.  Without, the regular query finds them later.
    int on = 1;
    mnl_socket_setsockopt(route_events_.get(), NETLINK_LISTEN_ALL_NSID, &on,
                          sizeof on);

    Family family;
    if (query_family(&family)) {
        netdev_family_ = family.id;
        group = static_cast<int>(family.group);
        if (mnl_socket_setsockopt(generic_events_.get(),
                                  NETLINK_ADD_MEMBERSHIP, &group,
                                  sizeof group)) {
            return failure("cannot listen to changes of XDP features");
        }
    }
    return {};
}

bool Devices::query_family(Family *out) {
    std::array<char, kBufferSize> buffer;
    auto *nlh = generic_header(buffer.data(), GENL_ID_CTRL, CTRL_CMD_GETFAMILY,
                               ++seq_);
    mnl_attr_put_strz(nlh, CTRL_ATTR_FAMILY_NAME, kNetdevFamily);

    auto parse_group = [&](const nlattr *group) {
        uint32_t id = 0;
        bool wanted = false;
        for_each_nested(group, [&](const nlattr *a) {
            if (mnl_attr_get_type(a) == CTRL_ATTR_MCAST_GRP_ID) {
                id = mnl_attr_get_u32(a);
            } else if (mnl_attr_get_type(a) == CTRL_ATTR_MCAST_GRP_NAME) {
                wanted = !std::strcmp(mnl_attr_get_str(a), kNetdevGroup);
            }
        });
        out->group = wanted ? id : out->group;
    };
    request(generic_.get(), nlh, [&](const nlmsghdr *reply) {
        for_each_attr(reply, sizeof(genlmsghdr), [&](const nlattr *a) {
            if (mnl_attr_get_type(a) == CTRL_ATTR_FAMILY_ID) {
                out->id = mnl_attr_get_u16(a);
            } else if (mnl_attr_get_type(a) == CTRL_ATTR_MCAST_GROUPS) {
                for_each_nested(a, parse_group);
            }
        });
    });
    return out->id && out->group;
}

int Devices::query_link(Ifindex ifindex, int netns_id, Link *out) {
    std::array<char, kBufferSize> buffer;
    auto *nlh = mnl_nlmsg_put_header(buffer.data());
    nlh->nlmsg_type = RTM_GETLINK;
    nlh->nlmsg_seq = ++seq_;
    auto *ifi = static_cast<ifinfomsg *>(
        mnl_nlmsg_put_extra_header(nlh, sizeof(ifinfomsg)));
    ifi->ifi_index = index(ifindex);
    if (netns_id != kNoNetns) {
        mnl_attr_put_u32(nlh, IFLA_TARGET_NETNSID, netns_id);
    }

    auto parse_info = [&](const nlattr *a) {
        if (mnl_attr_get_type(a) == IFLA_INFO_KIND) {
            out->is_veth = !std::strcmp(mnl_attr_get_str(a), "veth");
        }
    };
    auto parse_attr = [&](const nlattr *a) {
        switch (mnl_attr_get_type(a)) {
            case IFLA_MTU:
                out->mtu = mnl_attr_get_u32(a);
                break;
            case IFLA_LINK:
                out->peer = Ifindex(mnl_attr_get_u32(a));
                break;
            case IFLA_LINK_NETNSID:
                out->peer_netns = static_cast<int>(mnl_attr_get_u32(a));
                break;
            case IFLA_LINKINFO:
                for_each_nested(a, parse_info);
                break;
        }
    };
    return request(route_.get(), nlh, [&](const nlmsghdr *reply) {
        const auto *info =
            static_cast<const ifinfomsg *>(mnl_nlmsg_get_payload(reply));
        out->flags = info->ifi_flags;
        for_each_attr(reply, sizeof(ifinfomsg), parse_attr);
    });
}

int Devices::query_features(Ifindex ifindex, uint64_t *features) {
    std::array<char, kBufferSize> buffer;
    auto *nlh = generic_header(buffer.data(), netdev_family_, kNetdevCmdDevGet,
                               ++seq_);
    mnl_attr_put_u32(nlh, kNetdevDevIfindex, index(ifindex));
    return request(generic_.get(), nlh, [&](const nlmsghdr *reply) {
        for_each_attr(reply, sizeof(genlmsghdr), [&](const nlattr *a) {
            if (mnl_attr_get_type(a) == kNetdevDevXdpFeatures) {
                *features = mnl_attr_get_u64(a);
            }
        });
    });
}

Failure Devices::query(Ifindex ifindex, DeviceState *state) {
    std::lock_guard lock(mutex_);
    DeviceState s;
    Link link, peer;

    const int error = query_link(ifindex, kNoNetns, &link);
    if (error == ENODEV) {
        s.why_not = "there is no such device";
        *state = s;
        return {};
    }
    if (error) {
        return {error, std::string("cannot ask for the device's state: ")
                           + std::strerror(error)};
    }
    s.exists = true;
    s.up = (link.flags & IFF_UP) && (link.flags & IFF_LOWER_UP);
    s.max_frame = link.mtu + ETH_HLEN;
    s.peer = link.peer;
    if (link.is_veth && query_link(link.peer, link.peer_netns, &peer)) {
        s.why_not = "the MTU of the veth peer cannot be read";
        *state = s;
        return {};
    }
    if (link.is_veth) {
        s.max_frame = std::min(link.mtu, peer.mtu) + ETH_HLEN;
    }
    find_xmit(ifindex, link, &s);
    *state = s;
    return {};
}

// Finds out whether the driver takes frames from native XDP.
void Devices::find_xmit(Ifindex ifindex, const Link &link, DeviceState *s) {
    uint64_t features = 0;
    if (!netdev_family_) {
        s->why_not =
            "the kernel (before Linux 6.3) cannot say whether the "
            "device takes redirected frames";
    } else if (query_features(ifindex, &features)) {
        s->why_not = "the kernel does not tell the device's XDP features";
    } else if (features & kXdpFeatureNdoXmit) {
        s->xdp_xmit = true;
    } else if (link.is_veth) {
        s->why_not =
            "the veth peer has neither GRO nor an XDP program "
            "(\"ethtool -K PEER gro on\" in its namespace helps), or "
            "more transmit queues than this end has receive queues";
    } else {
        s->why_not = "the driver takes no redirected frames now";
    }
}

uint32_t Devices::count_queues(const std::string &name) {
    const Fd fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    ethtool_channels channels{};
    ifreq ifr{};
    channels.cmd = ETHTOOL_GCHANNELS;
    std::strncpy(ifr.ifr_name, name.c_str(), sizeof ifr.ifr_name - 1);
    ifr.ifr_data = reinterpret_cast<char *>(&channels);
    if (!fd || ioctl(fd.get(), SIOCETHTOOL, &ifr)) {
        return 1;
    }
    return std::max(1U, channels.rx_count + channels.combined_count);
}

std::vector<int> Devices::event_fds() const {
    return {mnl_socket_get_fd(route_events_.get()),
            mnl_socket_get_fd(generic_events_.get())};
}

std::vector<Ifindex> Devices::drain_events(bool *lost) {
    std::vector<Ifindex> changed;
    std::array<char, kBufferSize> buffer;
    Handler on_link = [&](const nlmsghdr *nlh) {
        const auto *info =
            static_cast<const ifinfomsg *>(mnl_nlmsg_get_payload(nlh));
        changed.push_back(Ifindex{info->ifi_index});
    };
    Handler on_features = [&](const nlmsghdr *nlh) {
        for_each_attr(nlh, sizeof(genlmsghdr), [&](const nlattr *a) {
            if (mnl_attr_get_type(a) == kNetdevDevIfindex) {
                changed.push_back(Ifindex(mnl_attr_get_u32(a)));
            }
        });
    };
    auto drain = [&](mnl_socket *s, Handler &handler) {
        const int fd = mnl_socket_get_fd(s);
        ssize_t n;
        while ((n = recv(fd, buffer.data(), buffer.size(), MSG_DONTWAIT))
               > 0) {
            mnl_cb_run(buffer.data(), n, 0, 0, run_handler, &handler);
        }
        *lost |= n < 0 && errno == ENOBUFS;
    };
    *lost = false;
    drain(route_events_.get(), on_link);
    drain(generic_events_.get(), on_features);
    return changed;
}

}  // namespace flowxlate
