// SPDX-License-Identifier: Apache-2.0
// The program at TC's ingress between two real containers: TCP with default offload
// settings, of which segments and checksums are made last; and tags, which the kernel puts
// beside the frame on its way.
//
//   c1 (container 1) === p1 [program] - [program] p2 === c2 (container 2)
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <set>
#include <sstream>
#include <thread>

#include "flowxlate/base/resource.h"
#include "namespace.h"
#include "skb_offload.skel.h"
#include "skb_program.h"

namespace flowxlate::test {
namespace {

constexpr size_t kBytes = 2 << 20;
constexpr uint16_t kPort = 8000, kOtherPort = 9000;

class SkbVeth : public testing::Test {
protected:
    void SetUp() override {
        ASSERT_TRUE(Fd(this_namespace()));
        host_.sh("sysctl -qw net.ipv6.conf.all.disable_ipv6=1");
        connect(1, c1_);
        connect(2, c2_);
        c1_.sh("ip neigh add 10.0.0.9 lladdr 02:00:00:00:00:02 dev eth0; ip -6 neigh add fd00::9 lladdr 02:00:00:00:00:02 dev eth0");
        host_.in([this] { start(); });
    }
    void TearDown() override { programs_.clear(); }

    // The n-th port, in front of a container with the n-th addresses.
    void connect(int n, const Namespace &container) {
        const std::string i = std::to_string(n);
        host_.sh("ip link add p" + i + " type veth peer name eth0 netns " + container.path() + " && ip link set p" + i + " up");
        container.sh("ip link set eth0 address 02:00:00:00:00:0" + i + " up && ip addr add 10.0.0." + i + "/24 dev eth0 && ip addr add fd00::" + i + "/64 dev eth0 nodad");
    }

    void start() {
        program_ = std::make_unique<Program>(XF_PORT_TX_SKB);
        attach(kIn, "p1");
        attach(kOut, "p2");
        for (auto [from, to] : {std::pair{kIn, kOut}, {kOut, kIn}}) {
            for (auto flow : {FlowSpec::arp(), FlowSpec::ipv6().proto(kIcmpv6)}) {
                program_->add(flow.from(from).to(to));
            }
        }
    }

    void attach(PortSlot port, const char *device) {
        const int ifindex = static_cast<int>(if_nametoindex(device));
        SkbSkeleton program;
        ASSERT_FALSE(program_->maps().set_tx_port(port, Ifindex{ifindex}));
        ASSERT_FALSE(program_->maps().open_skb({port, XF_PORT_TX_SKB}, &program));
        ASSERT_EQ(skb_offload_bpf::load(program.get()), 0);
        LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = ifindex, .attach_point = BPF_TC_INGRESS);
        LIBBPF_OPTS(bpf_tc_opts, opts, .prog_fd = bpf_program__fd(program->progs.xf_skb));
        ASSERT_EQ(bpf_tc_hook_create(&hook), 0);
        ASSERT_EQ(bpf_tc_attach(&hook, &opts), 0);
        programs_.push_back(std::move(program));
    }

    // Has the devices of the host make checksums, so that receivers verify them.
    void make_checksums() {
        for (const char *port : {"p1", "p2"}) {
            host_.sh(std::string("ethtool -K ") + port + " tx off");
        }
    }

    // Sends kBytes from container 1 to 'address' and 'port'; container 2 listens on
    // kPort.  Returns how many bytes have come.
    size_t transfer(int family, const char *address, uint16_t port) {
        sockaddr_storage here{}, there{};
        const socklen_t len = make_address(&here, family, nullptr, kPort);
        make_address(&there, family, address, port);
        const Fd listener = c2_.in([&] { return Fd(socket(family, SOCK_STREAM, 0)); });
        const Fd sender = c1_.in([&] { return Fd(socket(family, SOCK_STREAM, 0)); });
        const timeval wait{5, 0};
        const int on = 1;
        setsockopt(listener.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        for (auto *fd : {&listener, &sender}) {
            setsockopt(fd->get(), SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
            setsockopt(fd->get(), SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
        }
        EXPECT_EQ(bind(listener.get(), reinterpret_cast<sockaddr *>(&here), len), 0);
        return send_tcp(sender, listener, reinterpret_cast<sockaddr *>(&there), len, kBytes);
    }

    static socklen_t make_address(sockaddr_storage *to, int family, const char *address, uint16_t port) {
        if (family == AF_INET) {
            auto *in = reinterpret_cast<sockaddr_in *>(to);
            in->sin_family = AF_INET;
            in->sin_port = htons(port);
            if (address) {
                inet_pton(family, address, &in->sin_addr);
            }
            return sizeof *in;
        }
        auto *in6 = reinterpret_cast<sockaddr_in6 *>(to);
        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons(port);
        if (address) {
            inet_pton(family, address, &in6->sin6_addr);
        }
        return sizeof *in6;
    }

    // TCP segments with a wrong checksum that a container has had.
    static uint64_t wrong_checksums(const Namespace &ns) {
        return ns.in([] {
            std::ifstream snmp("/proc/thread-self/net/snmp");
            std::string names, values, line;
            while (std::getline(snmp, line)) {
                if (line.starts_with("Tcp: ")) {
                    (names.empty() ? names : values) = line;
                }
            }
            std::istringstream n(names), v(values);
            std::string name, value;
            while (n >> name && v >> value) {
                if (name == "InCsumErrors") {
                    return std::stoull(value);
                }
            }
            return ~0ULL;
        });
    }

    // Ports and addresses of one direction become others.
    static FlowSpec translated(FlowSpec flow, bool back) {
        const bool v6 = flow.cls == XF_CLASS_IPV6;
        const Frame port = back ? Frame{kOtherPort >> 8, kOtherPort & 0xff} : Frame{kPort >> 8, kPort & 0xff};
        const uint8_t host = back ? 9 : 2;
        const size_t v4_at = back ? offsetof(xf_key, ipv4_src) : offsetof(xf_key, ipv4_dst);
        const size_t v6_at = back ? offsetof(xf_key, ipv6_src) : offsetof(xf_key, ipv6_dst);
        flow.set((v6 ? v6_at + 15 : v4_at + 3), {host}, {0xff});
        return flow.set(back ? offsetof(xf_key, tp_src) : offsetof(xf_key, tp_dst), port, {0xff, 0xff});
    }

    // One transfer with the fields of each packet set, or not.  Returns the flow's figures.
    FlowStats check_transfer(int family, bool translate) {
        auto there = (family == AF_INET ? FlowSpec::ipv4() : FlowSpec::ipv6()).proto(IPPROTO_TCP).from(kIn).to(kOut);
        auto back = (family == AF_INET ? FlowSpec::ipv4() : FlowSpec::ipv6()).proto(IPPROTO_TCP).from(kOut).to(kIn);
        if (translate) {
            there = translated(there, false);
            back = translated(back, true);
        }
        const FlowSlot slot = program_->add(there), other = program_->add(back);
        const char *address = family == AF_INET ? (translate ? "10.0.0.9" : "10.0.0.2") : translate ? "fd00::9"
                                                                                                    : "fd00::2";
        EXPECT_EQ(transfer(family, address, translate ? kOtherPort : kPort), kBytes);
        EXPECT_EQ(wrong_checksums(c1_), 0U);
        EXPECT_EQ(wrong_checksums(c2_), 0U);
        EXPECT_GT(program_->table().stats(other).packets, 0U);
        return program_->table().stats(slot);
    }

    Namespace host_, c1_, c2_;
    std::unique_ptr<Program> program_;
    std::vector<SkbSkeleton> programs_;
};

// Packets are much longer than the MTU, whether the receiver gets them so or the host's
// device cuts them.
TEST_F(SkbVeth, TcpKeepsItsSegments) {
    for (int family : {AF_INET, AF_INET6}) {
        SCOPED_TRACE(family == AF_INET ? "IPv4" : "IPv6");
        const auto stats = check_transfer(family, false);
        EXPECT_GE(stats.bytes, kBytes);
        EXPECT_GT(stats.bytes / stats.packets, 5000U) << stats.packets << " packets";
    }
}

TEST_F(SkbVeth, TranslatedTcpKeepsItsSegments) {
    for (int family : {AF_INET, AF_INET6}) {
        SCOPED_TRACE(family == AF_INET ? "IPv4" : "IPv6");
        const auto stats = check_transfer(family, true);
        EXPECT_GT(stats.bytes / stats.packets, 5000U) << stats.packets << " packets";
    }
}

// The kernel completes what was partial behind us, by what we have set, and who receives it
// verifies that.
TEST_F(SkbVeth, PartialChecksumsAreCompletedRight) {
    make_checksums();
    for (int family : {AF_INET, AF_INET6}) {
        for (bool translate : {false, true}) {
            SCOPED_TRACE(std::string(family == AF_INET ? "IPv4" : "IPv6") + (translate ? ", translated" : ""));
            const auto stats = check_transfer(family, translate);
            EXPECT_GE(stats.bytes, kBytes);
            host_.in([this] { program_->remove_all(); });
            for (auto [from, to] : {std::pair{kIn, kOut}, {kOut, kIn}}) {
                program_->add(FlowSpec::arp().from(from).to(to));
                program_->add(FlowSpec::ipv6().proto(kIcmpv6).from(from).to(to));
            }
        }
    }
}

// -- Tags -------------------------------------------------------------------

Fd packet_socket(const Namespace &ns) {
    return ns.in([] {
        Fd fd(socket(AF_PACKET, SOCK_RAW, htons(0x0003)));  // ETH_P_ALL
        sockaddr_ll at{};
        at.sll_family = AF_PACKET;
        at.sll_protocol = htons(0x0003);
        at.sll_ifindex = static_cast<int>(if_nametoindex("eth0"));
        const int on = 1;
        const timeval wait{2, 0};
        EXPECT_EQ(bind(fd.get(), reinterpret_cast<sockaddr *>(&at), sizeof at), 0);
        setsockopt(fd.get(), SOL_PACKET, PACKET_AUXDATA, &on, sizeof on);
        setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
        return fd;
    });
}

// The next frame that container 2 gets of 'sender', with the tag that is beside it in it.
// What containers say of their own goes to groups.
Frame receive(const Fd &fd, const Frame &sender) {
    for (;;) {
        Frame frame(9000);
        alignas(cmsghdr) std::array<char, 256> control;
        iovec data{frame.data(), frame.size()};
        msghdr m{};
        m.msg_iov = &data;
        m.msg_iovlen = 1;
        m.msg_control = control.data();
        m.msg_controllen = control.size();
        const ssize_t n = recvmsg(fd.get(), &m, 0);
        if (n < 0) {
            return {};
        }
        frame.resize(n);
        const bool to_group = frame[0] & 1;
        if (to_group || !std::equal(sender.begin(), sender.end(), frame.begin() + 6)) {
            continue;
        }
        for (cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
            const auto *aux = reinterpret_cast<const tpacket_auxdata *>(CMSG_DATA(c));
            if (c->cmsg_level == SOL_PACKET && c->cmsg_type == PACKET_AUXDATA && aux->tp_status & TP_STATUS_VLAN_VALID) {
                return with_tag(frame, aux->tp_vlan_tpid, aux->tp_vlan_tci);
            }
        }
        return frame;
    }
}

TEST_F(SkbVeth, TagsBesideTheFrame) {
    const Frame untagged = udp4().bytes(), tagged = tagged_udp4(0x6005).bytes();
    const Frame two = with_tag(tagged, kQinq, 0x4007);
    const struct {
        const char *name;
        FlowSpec flow;
        Frame in, out;
    } rows[] = {
        {"untagged", FlowSpec::ipv4(), untagged, untagged},
        {"tagged", FlowSpec::ipv4().vid(5), tagged, tagged},
        {"popped", FlowSpec::ipv4().vid(5).pop(), tagged, untagged},
        {"pushed", FlowSpec::ipv4().push(0x2009), untagged, with_tag(untagged, kVlan, 0x2009)},
        {"pushed 802.1ad", FlowSpec::ipv4().push(9, kQinq), untagged, with_tag(untagged, kQinq, 9)},
        {"replaced", FlowSpec::ipv4().vid(5).replace(6), tagged, with_tag(untagged, kVlan, 6)},
        {"pushed on a tag", FlowSpec::ipv4().vid(5).push(6), tagged, with_tag(tagged, kVlan, 6)},
        {"two kept", FlowSpec::ipv4().tag(kQinq, 7).tag2(kVlan, 5), two, two},
        {"one of two popped", FlowSpec::ipv4().tag(kQinq, 7).tag2(kVlan, 5).pop(), two, tagged},
        {"two popped", FlowSpec::ipv4().tag(kQinq, 7).tag2(kVlan, 5).pop().pop(), two, untagged},
    };
    const Fd sender = packet_socket(c1_), receiver = packet_socket(c2_);
    program_->maps().set_max_tags(2);
    for (auto row : rows) {
        SCOPED_TRACE(row.name);
        host_.in([this] { program_->remove_all(); });
        const FlowSlot slot = program_->add(row.flow.from(kIn).to(kOut));
        ASSERT_EQ(send(sender.get(), row.in.data(), row.in.size(), 0), static_cast<ssize_t>(row.in.size()));
        EXPECT_EQ(hex(receive(receiver, Frame(row.in.begin() + 6, row.in.begin() + 12))), hex(row.out));
        EXPECT_EQ(program_->table().stats(slot).packets, 1U);
        EXPECT_EQ(program_->table().stats(slot).bytes, row.in.size());
    }
}

// -- Several outputs --------------------------------------------------------

class SkbGroup : public SkbVeth {
protected:
    static constexpr GroupSlot kGroup{1};
    static constexpr PortSlot kThird = kNarrow;

    void SetUp() override {
        SkbVeth::SetUp();
        connect(3, c3_);
        host_.in([this] {
            const Ifindex devices[] = {device("p1"), device("p2"), device("p3")};
            program_->maps().port(kThird).max_frame = program_->maps().port(kOut).max_frame;
            ASSERT_FALSE(program_->maps().set_tx_port(kThird, devices[2]));
            ASSERT_FALSE(program_->maps().create_group(kGroup, &devices_));
            ASSERT_FALSE(program_->maps().set_group(kGroup, devices_, {{kIn, kOut, kThird}, false}, devices));
        });
    }

    static Ifindex device(const char *name) { return Ifindex{static_cast<int>(if_nametoindex(name))}; }

    static FlowSpec to_group(FlowSpec flow) {
        flow.action.verdict = XF_GROUP;
        flow.action.to = index(kGroup);
        return flow.from(kIn);
    }

    Namespace c3_;
    Fd devices_;
};

TEST_F(SkbGroup, AllGetIt) {
    const Frame in = udp4().bytes(), tagged = tagged_udp4(0x6005).bytes();
    Frame routed = in;
    routed[22] = 63;
    routed[24]++;  // RFC 1624: what goes from one word goes to the other.
    const struct {
        const char *name;
        FlowSpec flow;
        Frame in, out;
    } rows[] = {
        {"as it is", FlowSpec::ipv4(), in, in},
        {"tagged", FlowSpec::ipv4().vid(5), tagged, tagged},
        {"pushed", FlowSpec::ipv4().push(0x2009), in, with_tag(in, kVlan, 0x2009)},
        {"popped", FlowSpec::ipv4().vid(5).pop(), tagged, in},
        {"fields set", FlowSpec::ipv4().set(offsetof(xf_key, nw_ttl), {63}, {0xff}), in, routed},
    };
    const Fd sender = packet_socket(c1_);
    const Fd receivers[] = {packet_socket(c2_), packet_socket(c3_)};
    for (auto &row : rows) {
        SCOPED_TRACE(row.name);
        host_.in([this] { program_->remove_all(); });
        const FlowSlot slot = program_->add(to_group(row.flow));
        const uint64_t back = device_figures(host_, "p1").tx_packets;
        ASSERT_EQ(send(sender.get(), row.in.data(), row.in.size(), 0), static_cast<ssize_t>(row.in.size()));
        for (auto &receiver : receivers) {
            EXPECT_EQ(hex(receive(receiver, Frame(row.in.begin() + 6, row.in.begin() + 12))), hex(row.out));
        }
        EXPECT_EQ(device_figures(host_, "p1").tx_packets, back);
        EXPECT_EQ(program_->table().stats(slot).packets, 1U);
        EXPECT_EQ(program_->table().stats(slot).bytes, row.in.size());
    }
}

// Or nobody does: OVS sends it then.
TEST_F(SkbGroup, OrNobodyGetsIt) {
    const Frame in = udp4().bytes();
    const Fd sender = packet_socket(c1_);
    const struct {
        const char *name;
        std::function<void(BpfMaps &)> change;
        xf_miss miss;
    } rows[] = {
        {"too long for the last one", [](BpfMaps &m) { m.port(kThird).max_frame = 20; }, XF_MISS_TX_LENGTH},
        {"the last one takes nothing", [](BpfMaps &m) { m.port(kThird).flags = 0; }, XF_MISS_TX_PORT},
        {"the first one takes nothing", [](BpfMaps &m) { m.port(kOut).flags = 0; }, XF_MISS_TX_PORT},
        {"one has no device", [](BpfMaps &m) { (void)m.clear_tx_port(kThird); }, XF_MISS_TX_PORT},
    };
    host_.in([this] { program_->remove_all(); });
    const FlowSlot slot = program_->add(to_group(FlowSpec::ipv4()));
    for (auto &row : rows) {
        SCOPED_TRACE(row.name);
        const xf_port out = program_->maps().port(kOut), third = program_->maps().port(kThird);
        const uint64_t sent = device_figures(host_, "p2").tx_packets, seen = program_->misses(row.miss);
        host_.in([&] { row.change(program_->maps()); });
        ASSERT_EQ(send(sender.get(), in.data(), in.size(), 0), static_cast<ssize_t>(in.size()));
        for (int i = 0; i < 100 && program_->misses(row.miss) == seen; i++) {
            usleep(10000);
        }
        EXPECT_EQ(program_->misses(row.miss), seen + 1);
        EXPECT_EQ(device_figures(host_, "p2").tx_packets, sent);
        program_->maps().port(kOut) = out;
        program_->maps().port(kThird) = third;
        host_.in([&] { ASSERT_FALSE(program_->maps().set_tx_port(kThird, device("p3"))); });
    }
    EXPECT_EQ(program_->table().stats(slot).packets, 0U);
}

// A copy may come in again at once, by a filter of somebody's, while this CPU's memory is
// still the packet's.
TEST_F(SkbGroup, ACopyMayComeBackIn) {
    if (host_.in([] { return std::system("tc qdisc add dev p2 clsact 2> /dev/null; tc filter add dev p2 egress matchall action mirred ingress redirect dev p3 2> /dev/null"); })) {
        GTEST_SKIP() << "this kernel has no act_mirred or cls_matchall";
    }
    const Frame in = udp4().bytes(), all(6, 0xff);
    const Fd sender = packet_socket(c1_), receiver = packet_socket(c3_);
    host_.in([this] {
        program_->remove_all();
        attach(kThird, "p3");
    });
    const FlowSlot slot = program_->add(to_group(FlowSpec::ipv4().push(9)));
    // What comes back goes to where the packet itself is going, with another address.
    const FlowSlot again = program_->add(FlowSpec::ipv4().vid(9).from(kThird).set(offsetof(xf_key, eth_dst), {2, 0, 0, 0, 0, 9}, all).to(kThird));
    const Frame out = with_tag(in, kVlan, 9);
    Frame back = out;
    back[5] = 9;
    constexpr int kPackets = 20;
    for (int i = 0; i < kPackets; i++) {
        ASSERT_EQ(send(sender.get(), in.data(), in.size(), 0), static_cast<ssize_t>(in.size()));
        std::set<std::string> got;  // In any order.
        for (int n = 0; n < 2; n++) {
            got.insert(hex(receive(receiver, Frame(in.begin() + 6, in.begin() + 12))));
        }
        EXPECT_EQ(got, (std::set{hex(back), hex(out)}));
    }
    for (auto s : {slot, again}) {
        EXPECT_EQ(program_->table().stats(s).packets, static_cast<uint64_t>(kPackets));
    }
    EXPECT_EQ(program_->table().stats(slot).bytes, kPackets * in.size());
}

// A mirror of TCP: what goes to several is still many segments.
TEST_F(SkbGroup, SegmentsAreKept) {
    program_->add(FlowSpec::ipv4().proto(IPPROTO_TCP).from(kOut).to(kIn));
    const FlowSlot slot = program_->add(to_group(FlowSpec::ipv4().proto(IPPROTO_TCP)));
    const uint64_t before = device_figures(c3_, "eth0").rx_bytes;
    EXPECT_EQ(transfer(AF_INET, "10.0.0.2", kPort), kBytes);
    const auto stats = program_->table().stats(slot);
    EXPECT_GE(stats.bytes, kBytes);
    EXPECT_GT(stats.bytes / stats.packets, 5000U) << stats.packets << " packets";
    EXPECT_GE(device_figures(c3_, "eth0").rx_bytes - before, kBytes);
    EXPECT_EQ(wrong_checksums(c2_), 0U);
}

// Of a long frame a packet socket puts as much at its begin as it is told to.
TEST_F(SkbVeth, HeadersElsewhereArePulled) {
    const Frame in = tcp6().payload(5000).bytes();
    const Fd sender = packet_socket(c1_), receiver = packet_socket(c2_);
    const int on = 1;
    ASSERT_EQ(setsockopt(sender.get(), SOL_PACKET, PACKET_VNET_HDR, &on, sizeof on), 0);
    host_.sh("ip link set p1 mtu 9000 && ip link set p2 mtu 9000");
    c1_.sh("ip link set eth0 mtu 9000");
    c2_.sh("ip link set eth0 mtu 9000");
    program_->maps().port(kOut).max_frame = 9014;
    for (uint16_t linear : {14, 15, 54, 73, 74, 200}) {
        SCOPED_TRACE(linear);
        host_.in([this] { program_->remove_all(); });
        const FlowSlot slot = program_->add(FlowSpec::ipv6().tp_dst(80).set(offsetof(xf_key, nw_ttl), {63}, {0xff}).from(kIn).to(kOut));
        Frame sent(10);  // struct virtio_net_hdr, whose header is no C++.
        std::memcpy(&sent[2], &linear, sizeof linear);
        sent.insert(sent.end(), in.begin(), in.end());
        ASSERT_EQ(send(sender.get(), sent.data(), sent.size(), 0), static_cast<ssize_t>(sent.size()));
        Frame out = in;
        out[21] = 63;
        EXPECT_EQ(hex(receive(receiver, Frame(in.begin() + 6, in.begin() + 12))), hex(out));
        EXPECT_EQ(program_->table().stats(slot).bytes, in.size());
    }
}

// A tap whose driver leaves each part that it is given where it is.
Fd tap_of_parts(const char *name) {
    Fd fd(open("/dev/net/tun", O_RDWR | O_CLOEXEC));
    ifreq ifr{};
    std::strcpy(ifr.ifr_name, name);
    ifr.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_NAPI | IFF_NAPI_FRAGS;
    EXPECT_EQ(ioctl(fd.get(), TUNSETIFF, &ifr), 0);
    return fd;
}

// Such as Neighbour Discovery's option, the last header that is read.
TEST_F(SkbVeth, AnyHeaderElsewhereIsPulled) {
    const Frame all(6, 0xff);
    const Frame in = Packet().eth(kIpv6).ipv6(kIcmpv6).nd(135).nd_option(1).bytes();
    const Fd tap = host_.in([] { return tap_of_parts("t0"); });
    const Fd receiver = packet_socket(c2_);
    host_.sh("ip link set t0 up");
    host_.in([this] { attach(kIn, "t0"); });
    for (size_t begin : {14, 15, 53, 54, 77, 78, 79, 85}) {
        SCOPED_TRACE(begin);
        host_.in([this] { program_->remove_all(); });
        const FlowSlot slot = program_->add(FlowSpec::ipv6().proto(kIcmpv6).set(offsetof(xf_key, nd_sll), {2, 0, 0, 0, 0, 7}, all).from(kIn).to(kOut));
        Frame sent = in;
        iovec parts[] = {{sent.data(), begin}, {sent.data() + begin, sent.size() - begin}};
        ASSERT_EQ(writev(tap.get(), parts, 2), static_cast<ssize_t>(sent.size()));
        const Frame out = receive(receiver, Frame(in.begin() + 6, in.begin() + 12));
        EXPECT_EQ(program_->table().stats(slot).packets, 1U);
        ASSERT_EQ(out.size(), in.size());
        EXPECT_EQ(out.back(), 7);
    }
}

// The program does not send to a device that is no port any more, whoever has its number,
// though nobody has told it yet.
TEST_F(SkbVeth, DevicesThatGoAreForgottenAtOnce) {
    const Frame in = udp4().bytes();
    const Fd sender = packet_socket(c1_);
    host_.in([this] { program_->remove_all(); });
    const FlowSlot slot = program_->add(FlowSpec::ipv4().from(kIn).to(kOut));
    uint64_t seen = 0;
    for (const std::string &away : {"ip link set p2 netns " + c2_.path(), std::string("ip link del p2")}) {
        SCOPED_TRACE(away);
        (seen ? c2_ : host_).sh(away);
        ASSERT_EQ(send(sender.get(), in.data(), in.size(), 0), static_cast<ssize_t>(in.size()));
        for (int i = 0; i < 100 && program_->misses(XF_MISS_TX_PORT) == seen; i++) {
            usleep(10000);
        }
        EXPECT_GT(program_->misses(XF_MISS_TX_PORT), seen);
        EXPECT_EQ(program_->table().stats(slot).packets, 0U);
        seen = program_->misses(XF_MISS_TX_PORT);
    }
}

// What no flow matches goes to the stack, as it came.
TEST_F(SkbVeth, MissesGoOnToTheStack) {
    host_.sh("ip link set p1 address 02:00:00:00:00:0a && ip addr add 10.0.0.10/24 dev p1 && sysctl -qw net.ipv4.conf.p1.arp_filter=0");
    host_.in([this] { program_->remove_all(); });
    c1_.sh("ping -c 1 -W 2 10.0.0.10");
    EXPECT_GT(program_->misses(XF_MISS_NO_FLOW), 0U);
}

}  // namespace
}  // namespace flowxlate::test
