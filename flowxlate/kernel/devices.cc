// SPDX-License-Identifier: Apache-2.0
#include "kernel/devices.h"

#include <fcntl.h>
#include <libmnl/libmnl.h>
#include <linux/genetlink.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/net_namespace.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <functional>
#include <set>
#include <span>
#include <system_error>
#include <thread>

#include "kernel/ethtool.h"

namespace flowxlate {
namespace {

// <linux/netdev.h>, which Linux 6.1's headers do not have yet.
constexpr uint8_t kNetdevCmdDevGet = 1;
constexpr uint16_t kNetdevDevIfindex = 1;      // u32
constexpr uint16_t kNetdevDevXdpFeatures = 3;  // u64
constexpr uint64_t kXdpFeatureBasic = 1;
constexpr uint64_t kXdpFeatureNdoXmit = 4;

constexpr size_t kBufferSize = kNetlinkBufferSize;
// A namespace that was not found is not searched for again before.
constexpr auto kSearchInterval = std::chrono::seconds(10);

using Handler = NetlinkHandler;

// Receives a notification, if there is one, and the id of the namespace that
// it is about.
ssize_t receive(int fd, std::span<char> buffer, int *netns_id) {
    iovec iov{buffer.data(), buffer.size()};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control;
    msghdr message{};
    message.msg_iov = &iov;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    const ssize_t n = recvmsg(fd, &message, MSG_DONTWAIT);
    *netns_id = kNoNetns;
    const auto *c = n > 0 ? CMSG_FIRSTHDR(&message) : nullptr;
    if (c && c->cmsg_level == SOL_NETLINK
        && c->cmsg_type == NETLINK_LISTEN_ALL_NSID) {
        std::memcpy(netns_id, CMSG_DATA(c), sizeof *netns_id);
    }
    return n;
}

Fd open_ioctl_socket() {
    return Fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
}

// Asks the driver of a device of the socket's namespace.
template <typename T>
bool ask_ethtool(const Fd &socket, const std::string &name, uint32_t command,
                 T *value) {
    ifreq ifr{};
    value->cmd = command;
    std::strncpy(ifr.ifr_name, name.c_str(), sizeof ifr.ifr_name - 1);
    ifr.ifr_data = reinterpret_cast<char *>(value);
    return socket && !ioctl(socket.get(), SIOCETHTOOL, &ifr);
}

// For IPv4 or for all: drivers for IPv4 alone are of the past.
bool makes_sums(const std::string &name) {
    ethtool_value on{};
    return ask_ethtool(open_ioctl_socket(), name, ETHTOOL_GTXCSUM, &on)
        && on.data;
}

uint64_t read_tx_dropped(const nlattr *a) {
    constexpr size_t kOffset = offsetof(rtnl_link_stats64, tx_dropped);
    uint64_t n = 0;
    if (mnl_attr_get_payload_len(a) >= kOffset + sizeof n) {
        std::memcpy(
            &n, static_cast<const char *>(mnl_attr_get_payload(a)) + kOffset,
            sizeof n);
    }
    return n;
}

// How many frames of native XDP a veth's peer has taken, or dropped because
// its queue was full.  What it drops because it has no NAPI is not among them.
bool read_taken(const std::string &name, uint64_t *taken) {
    const Fd socket = open_ioctl_socket();
    std::vector<std::string> names;
    if (ask_strings(socket, name, ETH_SS_STATS, &names)) {
        return false;
    }
    EthtoolRequest<ethtool_stats> stats(names.size() * sizeof(uint64_t));
    stats->cmd = ETHTOOL_GSTATS;
    stats->n_stats = names.size();
    if (stats.send(socket, name)) {
        return false;
    }
    bool found = false;
    for (size_t i = 0; i < std::min<size_t>(names.size(), stats->n_stats);
         i++) {
        if (names[i].starts_with("tx_queue_")
            && (names[i].ends_with("_xdp_xmit")
                || names[i].ends_with("_xdp_xmit_errors"))) {
            found = true;
            *taken += stats->data[i];
        }
    }
    return found;
}

// A socket belongs to the namespace of the thread that opens it.
Failure open_socket_in(const Fd &netns, Fd *out) {
    int error = 0;
    try {
        std::thread([&] {
            if (setns(netns.get(), CLONE_NEWNET)) {
                error = errno;
                return;
            }
            *out = open_ioctl_socket();
            error = *out ? 0 : errno;
        }).join();
    } catch (const std::system_error &e) {
        error = e.code().value();
    }
    return error ? Failure{error, std::strerror(error)} : Failure{};
}

// What is known of drivers before Linux 6.3, read off their ndo_xdp_xmit() in
// Linux 6.1.  Others are refused.
struct Driver {
    const char *name;
    bool needs_program;        // Has queues for it only with a native program.
    bool needs_queue_per_cpu;  // Uses the queue of the CPU's number.
};
constexpr Driver kDrivers[] = {
    {"bnxt_en", true, false}, {"ena", true, false},
    {"i40e", true, true},     {"ice", true, false},
    {"igb", true, false},     {"igc", true, false},
    {"ixgbe", true, false},   {"mlx5_core", true, true},
    {"tun", false, false},    {"virtio_net", true, false},
};

// Our end has lost its XDP features because of its peer's queues.
std::string too_few_queues(uint32_t rx_queues, uint32_t peers_tx_queues) {
    const auto n = std::to_string(rx_queues);
    return "the veth peer has "
         + (peers_tx_queues > rx_queues ? std::to_string(peers_tx_queues)
                                        : std::string("more"))
         + " transmit queues, more than this end has receive queues, " + n
         + " (\"ethtool -L PEER tx " + n + "\" in its namespace helps)";
}

}  // namespace

struct Devices::Link {
    std::string name;
    bool has_native_xdp = false;
    unsigned flags = 0;
    uint32_t mtu = 0;
    uint64_t tx_dropped = 0;
    Ifindex peer{};
    int peer_netns = kNoNetns;
    bool is_veth = false, is_tap = false;
    std::string kind;  // Empty for most NICs.

    bool is_containers() const { return is_veth && peer_netns != kNoNetns; }
};

Failure Devices::open(const KernelFeatures &kernel) {
    MutexLock lock(mutex_);
    for (auto *s : {&route_, &route_events_}) {
        if (auto f = open_netlink(NETLINK_ROUTE, s)) {
            return f;
        }
    }
    for (auto *s : {&generic_, &generic_events_}) {
        if (auto f = open_netlink(NETLINK_GENERIC, s)) {
            return f;
        }
    }

    if (auto f = entrances_.open(kernel)) {
        return f;
    }

    int group = RTNLGRP_LINK;
    if (mnl_socket_setsockopt(route_events_.get(), NETLINK_ADD_MEMBERSHIP,
                              &group, sizeof group)) {
        return failure(errno, "cannot listen to changes of devices");
    }
    // Changes of veth peers.  Without, the regular query finds them later.
    int on = 1;
    mnl_socket_setsockopt(route_events_.get(), NETLINK_LISTEN_ALL_NSID, &on,
                          sizeof on);

    netdev_family_ = kernel.netdev_family();
    group = static_cast<int>(kernel.netdev_group());
    if (netdev_family_
        && mnl_socket_setsockopt(generic_events_.get(), NETLINK_ADD_MEMBERSHIP,
                                 &group, sizeof group)) {
        return failure(errno, "cannot listen to changes of XDP features");
    }
    return {};
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
            out->kind = mnl_attr_get_str(a);
            out->is_veth = !std::strcmp(mnl_attr_get_str(a), "veth");
            out->is_tap = !std::strcmp(mnl_attr_get_str(a), "tun");
        }
    };
    auto parse_xdp = [&](const nlattr *a) {
        out->has_native_xdp |= mnl_attr_get_type(a) == IFLA_XDP_DRV_PROG_ID;
    };
    auto parse_attr = [&](const nlattr *a) {
        switch (mnl_attr_get_type(a)) {
            case IFLA_IFNAME:
                out->name = mnl_attr_get_str(a);
                break;
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
            case IFLA_XDP:
                for_each_nested(a, parse_xdp);
                break;
            case IFLA_STATS64:
                out->tx_dropped = read_tx_dropped(a);
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
    auto *nlh = put_generic_header(buffer.data(), netdev_family_,
                                   kNetdevCmdDevGet, ++seq_);
    mnl_attr_put_u32(nlh, kNetdevDevIfindex, index(ifindex));
    return request(generic_.get(), nlh, [&](const nlmsghdr *reply) {
        for_each_attr(reply, sizeof(genlmsghdr), [&](const nlattr *a) {
            if (mnl_attr_get_type(a) == kNetdevDevXdpFeatures) {
                *features = mnl_attr_get_u64(a);
            }
        });
    });
}

// The id here of the namespace, or kNoNetns.
int Devices::query_netns_id(int netns_fd) {
    std::array<char, kBufferSize> buffer;
    auto *nlh = mnl_nlmsg_put_header(buffer.data());
    nlh->nlmsg_type = RTM_GETNSID;
    nlh->nlmsg_seq = ++seq_;
    mnl_nlmsg_put_extra_header(nlh, sizeof(rtgenmsg));
    mnl_attr_put_u32(nlh, NETNSA_FD, netns_fd);
    int id = kNoNetns;
    request(route_.get(), nlh, [&](const nlmsghdr *reply) {
        for_each_attr(reply, sizeof(rtgenmsg), [&](const nlattr *a) {
            if (mnl_attr_get_type(a) == NETNSA_NSID) {
                id = static_cast<int>(mnl_attr_get_u32(a));
            }
        });
    });
    return id;
}

// The kernel names namespaces by id, but opens them by path only.
Fd Devices::open_netns(int netns_id) {
    namespace fs = std::filesystem;
    const auto now = std::chrono::steady_clock::now();
    if (auto unfound = netns_unfound_.find(netns_id);
        unfound != netns_unfound_.end()) {
        if (now < unfound->second + kSearchInterval) {
            return {};
        }
        netns_unfound_.erase(unfound);
    }
    std::set<ino_t> seen;
    auto open_if_it = [&](const std::string &path) REQUIRES(mutex_) {
        struct stat st;
        if (stat(path.c_str(), &st) || !seen.insert(st.st_ino).second) {
            return Fd();
        }
        Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
        if (!fd || query_netns_id(fd.get()) != netns_id) {
            return Fd();
        }
        netns_paths_[netns_id] = path;
        return fd;
    };
    if (auto known = netns_paths_.find(netns_id);
        known != netns_paths_.end()) {
        if (auto fd = open_if_it(std::string(known->second))) {
            return fd;
        }
    }
    for (const char *dir : {"/run/netns", "/proc"}) {
        const char *suffix = std::strcmp(dir, "/proc") ? "" : "/ns/net";
        std::error_code error;
        for (fs::directory_iterator i(dir, error), end; !error && i != end;
             i.increment(error)) {
            const auto name = i->path().filename().string();
            if (*suffix && !std::isdigit(name[0])) {
                continue;
            }
            if (auto fd = open_if_it(i->path().string() + suffix)) {
                return fd;
            }
        }
    }
    netns_paths_.erase(netns_id);
    netns_unfound_[netns_id] = now;
    return {};
}

// Opens a socket in the namespace of the veth's peer.  Returns why that fails,
// or an empty string.
std::string Devices::open_peer_socket(const Link &link, Fd *out) {
    if (link.peer_netns == kNoNetns) {
        *out = open_ioctl_socket();
        return {};
    }
    const Fd netns = open_netns(link.peer_netns);
    if (!netns) {
        return "its network namespace is neither in /run/netns nor that of a "
               "process that can be seen";
    }
    if (auto f = open_socket_in(netns, out)) {
        return "its network namespace cannot be entered: " + f.message
             + " (needs CAP_SYS_ADMIN)";
    }
    return {};
}

// Who may put VLAN tags beside the frames that enter: the device itself when
// it receives, or the veth's peer when it sends.  Returns why that cannot be
// asked, or an empty string.
std::string Devices::open_tag_offload(const Link &link, const Link &peer,
                                      std::unique_ptr<TagOffload> *out) {
    Fd socket;
    if (!link.is_veth) {
        *out = std::make_unique<TagOffload>(open_ioctl_socket(), link.name,
                                            TagOffload::kReceive);
        return {};
    }
    auto why = open_peer_socket(link, &socket);
    if (why.empty()) {
        *out = std::make_unique<TagOffload>(std::move(socket), peer.name,
                                            TagOffload::kSend);
    }
    return why;
}

std::unique_ptr<TagOffload> Devices::open_tag_offload(Ifindex ifindex) {
    Link link, peer;
    std::unique_ptr<TagOffload> offload;
    if (!query_link(ifindex, kNoNetns, &link)
        && (!link.is_veth || !query_link(link.peer, link.peer_netns, &peer))) {
        (void)open_tag_offload(link, peer, &offload);
    }
    return offload;
}

bool Devices::is_containers(Ifindex ifindex) {
    MutexLock lock(mutex_);
    Link link;
    return !query_link(ifindex, kNoNetns, &link) && link.is_containers();
}

void Devices::look_at_entrances() {
    MutexLock lock(mutex_);
    entrances_.look();
}

// A device on top of others gets frames whose tags the kernel has already put
// beside them, whatever its own features say, or hands the program on to those
// below it, which have features of their own and may be inactive.
std::string Devices::why_unsuited(Ifindex ifindex) {
    MutexLock lock(mutex_);
    Link link;
    if (int error = query_link(ifindex, kNoNetns, &link)) {
        return std::string("cannot ask for its kind: ") + std::strerror(error);
    }
    if (link.is_veth || link.is_tap) {
        return {};
    }
    if (!link.kind.empty()) {
        return "VLAN tags of what enters through a device of kind \""
             + link.kind
             + "\" may be beside the frame, where XDP does not see them (only "
               "NICs, veths and taps are known not to be so)";
    }
    return index(link.peer) && link.peer != ifindex
             ? "it is on top of another device, so VLAN tags of what enters "
               "may be beside the frame, where XDP does not see them"
             : std::string();
}

// Empty if tags are in the frame.
std::string Devices::why_tags_beside(const Link &link, const Link &peer) {
    const std::string unknown =
        "cannot tell whether VLAN tags are put beside the frame: ";
    std::unique_ptr<TagOffload> offload;
    if (auto why = open_tag_offload(link, peer, &offload); !why.empty()) {
        return unknown + why;
    }
    TagOffload::Features active;
    if (auto f = offload->active(&active)) {
        return unknown + f.message;
    }
    return active.empty() ? std::string()
                          : std::string(link.is_veth ? "the veth peer" : "it")
                                + " puts VLAN tags beside the frame "
                                  "(switched on: "
                                + to_string(active) + ")";
}

TagOffload::Features Devices::put_tags_in_frame(Ifindex ifindex) {
    MutexLock lock(mutex_);
    const auto offload = open_tag_offload(ifindex);
    TagOffload::Features on, left;
    if (!offload || offload->active(&on) || on.empty()) {
        return {};
    }
    offload->set(on, false);
    if (offload->active(&left)) {
        return {};
    }
    std::erase_if(on, [&](auto &feature) {
        return std::find(left.begin(), left.end(), feature) != left.end();
    });
    return on;
}

void Devices::put_tags_beside(Ifindex ifindex,
                              const TagOffload::Features &features) {
    MutexLock lock(mutex_);
    if (const auto offload = open_tag_offload(ifindex)) {
        offload->set(features, true);
    }
}

Devices::PeerAnswers Devices::ask_peer(const Link &link, const Link &peer) {
    PeerAnswers answers;
    Fd socket;
    if (auto why = open_peer_socket(link, &socket); !why.empty()) {
        answers.why_unknown = why;
        return answers;
    }
    ethtool_value gro{};
    if (!ask_ethtool(socket, peer.name, ETHTOOL_GGRO, &gro)) {
        answers.why_unknown =
            std::string("it does not say whether it has GRO: ")
            + std::strerror(errno);
    }
    answers.has_gro = gro.data;
    ethtool_channels channels{};
    if (ask_ethtool(socket, peer.name, ETHTOOL_GCHANNELS, &channels)) {
        answers.tx_queues = channels.tx_count + channels.combined_count;
    }
    return answers;
}

// 'features' as the kernel announces them, if it does.
std::string Devices::why_no_veth_xmit(const Link &link, const Link &peer,
                                      std::optional<uint64_t> features) {
    const bool announced = !features || *features & kXdpFeatureNdoXmit;
    if (peer.name.empty()) {
        return "the kernel does not tell of the veth peer";
    }
    if (!(peer.flags & IFF_UP)) {
        return "the veth peer is down";
    }
    if (announced && peer.has_native_xdp) {
        return {};
    }
    const auto asked = ask_peer(link, peer);
    if (!announced && !(*features & kXdpFeatureBasic)) {
        return too_few_queues(count_queues(link.name), asked.tx_queues);
    }
    if (asked.why_unknown.empty() && !asked.has_gro && !peer.has_native_xdp) {
        return "the veth peer has neither GRO nor an XDP program (\"ethtool "
               "-K PEER gro on\" in its namespace helps)";
    }
    if (!announced) {
        return std::string(
                   asked.why_unknown.empty()
                       ? "the veth peer has GRO, but the kernel has not "
                         "noticed, as it was"
                       : "the kernel knows of no GRO of the veth peer: it is "
                         "off, or was")
             + " switched on while the link was down (\"ethtool -K PEER gro "
               "off\" and then \"ethtool -K PEER gro on\" in its namespace "
               "help)";
    }
    if (!features && !asked.why_unknown.empty()) {
        return "cannot tell whether the veth peer takes redirected frames (on "
               "Linux before 6.3): "
             + asked.why_unknown;
    }
    return {};  // If it is not known, figures must show (arrivals.h).
}

std::string Devices::why_no_xmit(Ifindex ifindex, const Link &link,
                                 const Link &peer) {
    uint64_t features = 0;
    if (netdev_family_ && query_features(ifindex, &features)) {
        return "the kernel does not tell the device's XDP features";
    }
    if (link.is_veth) {
        return why_no_veth_xmit(
            link, peer,
            netdev_family_ ? std::optional(features) : std::nullopt);
    }
    if (netdev_family_) {
        return features & kXdpFeatureNdoXmit
                 ? std::string()
                 : "the driver takes no redirected frames now";
    }
    const Fd socket = open_ioctl_socket();
    ethtool_drvinfo info{};
    if (!ask_ethtool(socket, link.name, ETHTOOL_GDRVINFO, &info)) {
        return "the device does not name its driver, and the kernel (before "
               "Linux 6.3) cannot say whether it takes redirected frames";
    }
    const auto *driver = std::find_if(
        std::begin(kDrivers), std::end(kDrivers),
        [&](auto &d) { return !std::strcmp(d.name, info.driver); });
    if (driver == std::end(kDrivers)) {
        return std::string("it is not known whether the driver (")
             + info.driver
             + ") takes redirected frames, and the kernel (before Linux 6.3) "
               "cannot say";
    }
    if (driver->needs_program && !link.has_native_xdp) {
        return "the driver takes redirected frames only with a native XDP "
               "program on the device";
    }
    const uint32_t cpus = sysconf(_SC_NPROCESSORS_CONF);
    if (driver->needs_queue_per_cpu && count_queues(link.name) < cpus) {
        return "the driver needs a queue for each CPU to take redirected "
               "frames (try \"ethtool -L "
             + link.name + " combined " + std::to_string(cpus) + "\")";
    }
    return {};
}

Failure Devices::query(Ifindex ifindex, const Question &question,
                       DeviceState *state) {
    MutexLock lock(mutex_);
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
    s.name = link.name;
    s.up = (link.flags & IFF_UP) && (link.flags & IFF_LOWER_UP);
    s.max_frame = link.mtu + ETH_HLEN;
    s.is_tap = link.is_tap;
    s.is_nic = link.kind.empty();
    s.makes_sums = makes_sums(link.name);
    s.peer = link.peer;
    s.peer_netns = link.peer_netns;
    s.is_containers = link.is_containers();
    Arrivals::Figures figures{link.tx_dropped, 0};
    if (link.is_veth && read_taken(link.name, &figures.taken)) {
        s.figures = figures;
    }
    if (link.is_veth && query_link(link.peer, link.peer_netns, &peer)) {
        s.why_not = "the MTU of the veth peer cannot be read";
        *state = s;
        return {};
    }
    if (link.is_veth) {
        s.max_frame = std::min(link.mtu, peer.mtu) + ETH_HLEN;
    }
    s.why_not = why_no_xmit(ifindex, link, peer);
    s.xdp_xmit = s.why_not.empty();
    if (question.as_the_kernels) {
        if (auto f = entrances_.query(ifindex, link.name, question.own,
                                      question.before_tc, &s.entrance)) {
            return f;
        }
        s.entrance.keeps_mark = link.is_veth && link.peer_netns == kNoNetns;
        s.why_no_tags =
            !s.entrance.lower.empty()
                ? "cannot tell whether VLAN tags are put beside the frame: it "
                  "is on top of "
                      + s.entrance.lower
            : question.at_tc ? std::string()  // It sees them beside it, too.
                             : why_tags_beside(link, peer);
        s.tags_in_frame = s.why_no_tags.empty();
    }
    *state = s;
    return {};
}

std::string Devices::why_generic(Ifindex ifindex) {
    // More or less: what fits in a page with XDP's headroom.
    constexpr uint32_t kMaxMtuOfVeth = 3500;
    MutexLock lock(mutex_);
    Link link, peer;
    if (!query_link(ifindex, kNoNetns, &link) && link.is_veth
        && !query_link(link.peer, link.peer_netns, &peer)) {
        const uint32_t n = count_queues(link.name);
        uint64_t features = kXdpFeatureBasic;
        if (netdev_family_) {
            (void)query_features(ifindex, &features);
        }
        const auto asked = ask_peer(link, peer);
        if (asked.tx_queues > n || !(features & kXdpFeatureBasic)) {
            return too_few_queues(n, asked.tx_queues)
                 + "; after that, add the port anew";
        }
        if (peer.mtu > kMaxMtuOfVeth) {
            return "the veth peer's MTU of " + std::to_string(peer.mtu)
                 + " is too large for native XDP";
        }
    }
    return "the driver has no native XDP, or OVS was told not to use it "
           "(options:xdp-mode)";
}

uint32_t Devices::count_queues(const std::string &name) {
    ethtool_channels channels{};
    if (!ask_ethtool(open_ioctl_socket(), name, ETHTOOL_GCHANNELS,
                     &channels)) {
        return 1;
    }
    return std::max(1U, channels.rx_count + channels.combined_count);
}

std::vector<int> Devices::event_fds() const {
    return {mnl_socket_get_fd(route_events_.get()),
            mnl_socket_get_fd(generic_events_.get())};
}

std::vector<Devices::Changed> Devices::drain_events(
    bool *lost, std::vector<Ifindex> *gone) {
    std::vector<Changed> changed;
    std::array<char, kBufferSize> buffer;
    int netns_id;
    auto note = [&](Ifindex ifindex) {
        changed.push_back({ifindex, netns_id});
    };
    Handler on_link = [&](const nlmsghdr *nlh) {
        const auto *info =
            static_cast<const ifinfomsg *>(mnl_nlmsg_get_payload(nlh));
        note(Ifindex{info->ifi_index});
        if (nlh->nlmsg_type == RTM_DELLINK && netns_id == kNoNetns
            && info->ifi_family == AF_UNSPEC) {  // Else it left a bridge.
            gone->push_back(Ifindex{info->ifi_index});
        }
    };
    Handler on_features = [&](const nlmsghdr *nlh) {
        for_each_attr(nlh, sizeof(genlmsghdr), [&](const nlattr *a) {
            if (mnl_attr_get_type(a) == kNetdevDevIfindex) {
                note(Ifindex(mnl_attr_get_u32(a)));
            }
        });
    };
    auto drain = [&](mnl_socket *s, Handler &handler) {
        ssize_t n;
        while ((n = receive(mnl_socket_get_fd(s), buffer, &netns_id)) > 0) {
            mnl_cb_run(buffer.data(), n, 0, 0, run_netlink_handler, &handler);
        }
        *lost |= n < 0 && errno == ENOBUFS;
    };
    *lost = false;
    drain(route_events_.get(), on_link);
    drain(generic_events_.get(), on_features);
    return changed;
}

}  // namespace flowxlate
