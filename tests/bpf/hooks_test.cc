// SPDX-License-Identifier: Apache-2.0
// The offload as a whole between two real containers, for a kernel datapath that is a
// Linux bridge: programs in XDP and at TC's ingress, changed at run time.  What they do
// not execute the bridge forwards, as openvswitch.ko would, so nothing may be lost.
//
//   c1 (container 1) === p1 [program] - bridge - [program] p2 === c2 (container 2)
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/openvswitch.h>
#include <net/if.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <iterator>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "flowxlate/engine/offload.h"
#include "flowxlate/kernel/features.h"
#include "flowxlate/report/report.h"
#include "namespace.h"
#include "tests/unit/attrs.h"

namespace flowxlate::test {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;
using unit::AttrList;

constexpr uint16_t kPort = 8000;
constexpr const char *kAddress[] = {"", "10.0.0.1", "10.0.0.2"};

// -- The host: a datapath whose ports have the numbers 1 and 2 ---------------

std::array<int, 3> ifindexes;
std::atomic<bool> flows_are_lost;
std::mutex log_mutex;
std::string log_text;

void log_line(ovs_offload_log_level, const char *line) {
    const std::lock_guard lock(log_mutex);
    log_text += std::string(line) + "\n";
}

bool logged(const char *text) {
    const std::lock_guard lock(log_mutex);
    return log_text.find(text) != std::string::npos;
}

ovs_offload_host fake_host() {
    ovs_offload_host h{};
    h.size = sizeof h;
    h.abi = OVS_OFFLOAD_ABI;
    h.ovs_version = "3.1.0";
    h.log = log_line;
    h.port_ifindex = [](const char *, uint32_t port) { return port < ifindexes.size() ? ifindexes[port] : -1; };
    h.flows_lost = [] { flows_are_lost = true; };
    h.offer_again = [] {};
    h.flow_text = [](const ovs_offload_flow *) -> char * { return nullptr; };
    h.handles_misses = [] { return true; };
    h.copies_ready = [] {};
    h.compose = [](const char *, uint8_t **, size_t *) -> char * { return nullptr; };
    h.trace = [](const char *, const char *, const char *) -> char * { return nullptr; };
    h.has_rules = h.is_enabled = [] { return true; };
    h.has_port = [](const char *, const char *) { return true; };
    return h;
}

class Hooks : public testing::Test {
protected:
    void SetUp() override {
        host_.sh("ip link add br0 type bridge && ip link set br0 up");
        for (int n : {1, 2}) {
            connect(n, n == 1 ? c1_ : c2_);
        }
        begin({{"xdp-offload-persist", "false"}, {"xdp-offload-max-flows", "64"}, {"xdp-offload-max-connections", "16"}, {"xdp-offload-hook", "tc"}});
    }
    void TearDown() override {
        host_.in([this] {
            for (auto *port : ports_) {
                offload_->port_del(port);
            }
            offload_.reset();
        });
        for (const pid_t child : inhabitants_) {
            kill(child, SIGKILL);
            waitpid(child, nullptr, 0);
        }
    }

    // A namespace is found by its processes.
    void live_in(const Namespace &container) {
        container.in([this] {
            const pid_t child = fork();
            if (!child) {
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                for (;;) {
                    pause();
                }
            }
            inhabitants_.push_back(child);
        });
    }

    void connect(int n, const Namespace &container) {
        live_in(container);
        const std::string i = std::to_string(n), other = std::to_string(3 - n);
        host_.sh("ip link add p" + i + " type veth peer name eth0 netns " + container.path() + " && ip link set p" + i + " master br0 up");
        container.sh("sysctl -qw net.ipv6.conf.all.disable_ipv6=1; ip link set eth0 address 02:00:00:00:00:0" + i + " up && ip addr add 10.0.0." + i + "/24 dev eth0 && ip neigh add 10.0.0." + other + " lladdr 02:00:00:00:00:0" + other + " dev eth0 && ethtool -K eth0 gro on");
    }

    void begin(const std::vector<ovs_offload_option> &options) {
        host_.in([&] {
            const auto f = Offload::create(fake_host(), options, &offload_);
            ASSERT_FALSE(f) << f.message;
            for (int n : {1, 2}) {
                const std::string name = "p" + std::to_string(n);
                ifindexes[n] = static_cast<int>(if_nametoindex(name.c_str()));
                const ovs_offload_port p{sizeof p, ifindexes[n], name.c_str(), "system", "system", false};
                Port *port = nullptr;
                ASSERT_EQ(offload_->port_add(p, &port), 0) << log_text;
                ports_.push_back(port);
            }
        });
        put_flows();
    }

    // IPv4 to the other container, from each.
    void put_flows() {
        flows_are_lost = false;
        for (uint8_t n : {1, 2}) {
            EXPECT_EQ(put_flow(n, {n == 1 ? 2U : 1U}), 0) << Report(offload_->sources()).rejects() << log_text;
        }
    }

    // Cut to 'max_len' bytes, if that is not 0.
    int put_flow(uint8_t in, const std::vector<uint32_t> &out, uint32_t max_len = 0) {
        ovs_key_ethernet eth{}, eth_mask{};
        ovs_key_ipv4 ip{}, ip_mask{};
        std::array<uint8_t, OVS_OFFLOAD_UFID_LEN> ufid{in};
        const uint32_t port = in;
        eth.eth_dst[0] = 2;
        eth.eth_dst[5] = 3 - in;
        std::ranges::fill(eth_mask.eth_dst, 0xff);
        ip_mask.ipv4_frag = 0xff;
        AttrList key, mask, actions;
        key.put(OVS_KEY_ATTR_IN_PORT, port).put(OVS_KEY_ATTR_ETHERNET, eth).put(OVS_KEY_ATTR_ETHERTYPE, htons(0x0800)).put(OVS_KEY_ATTR_IPV4, ip);
        mask.put(OVS_KEY_ATTR_IN_PORT, UINT32_MAX).put(OVS_KEY_ATTR_ETHERNET, eth_mask).put(OVS_KEY_ATTR_ETHERTYPE, uint16_t{0xffff}).put(OVS_KEY_ATTR_IPV4, ip_mask);
        if (max_len) {
            actions.put(OVS_ACTION_ATTR_TRUNC, ovs_action_trunc{max_len});
        }
        for (uint32_t o : out) {
            actions.put(OVS_ACTION_ATTR_OUTPUT, o);
        }
        ovs_offload_flow flow{};
        flow.size = sizeof flow;
        flow.ufid = ufid.data();
        flow.dpif_type = "system";
        flow.key = key.bytes().data();
        flow.key_len = key.bytes().size();
        flow.mask = mask.bytes().data();
        flow.mask_len = mask.bytes().size();
        flow.actions = actions.bytes().data();
        flow.actions_len = actions.bytes().size();
        flow.vlan_limit = 1;
        return offload_->flow_put(flow);
    }

    // What a flow has counted since the last time.
    ovs_offload_stats taken(uint8_t in) {
        Ufid ufid{};
        ovs_offload_stats stats{};
        ufid.bytes[0] = in;
        (void)offload_->flow_take(ufid, &stats);
        return stats;
    }

    void set_hook(const char *all, const char *p1 = nullptr) {
        std::vector<ovs_offload_option> options{{"xdp-offload-hook", all}};
        if (p1) {
            options.push_back({"xdp-offload-hook-p1", p1});
        }
        offload_->options_changed(options);
    }

    std::string mode(const char *port) {
        const char *mode = "";
        (void)offload_->port_status(port, &mode);
        return mode;
    }

    // As OVS would put flows again that are lost.
    template <typename Done>
    bool wait_for(Done done, milliseconds limit = milliseconds(60000)) {
        const auto end = Clock::now() + limit;
        while (!done()) {
            if (Clock::now() > end) {
                return false;
            }
            if (flows_are_lost) {
                put_flows();
            }
            std::this_thread::sleep_for(milliseconds(1));
        }
        return true;
    }
    void change_hook(const char *hook) {
        const std::string wanted = std::string(hook) == "tc" ? "tc" : "native";
        set_hook(hook);
        EXPECT_TRUE(wait_for([&] { return mode("p1") == wanted && mode("p2") == wanted; })) << log_text;
        renew_flows();
    }
    // A hook has changed: flows are lost soon.
    void renew_flows() {
        (void)wait_for([] { return false; }, milliseconds(50));
        put_flows();
    }

    Namespace host_, c1_, c2_;
    std::unique_ptr<Offload> offload_;
    std::vector<Port *> ports_;
    std::vector<pid_t> inhabitants_;
};

sockaddr_in address_of(const char *address) {
    sockaddr_in there{};
    there.sin_family = AF_INET;
    there.sin_port = htons(kPort);
    inet_pton(AF_INET, address, &there.sin_addr);
    return there;
}

Fd open_socket(const Namespace &ns, int type, const char *address) {
    return ns.in([&] {
        Fd fd(socket(AF_INET, type | SOCK_CLOEXEC, 0));
        const int on = 1, bytes = 16 << 20;
        const timeval wait{5, 0};
        const sockaddr_in here = address_of(address);
        setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
        setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes);
        EXPECT_EQ(bind(fd.get(), reinterpret_cast<const sockaddr *>(&here), sizeof here), 0);
        return fd;
    });
}

// Sends 'bytes' of TCP to the other container; returns bytes per second, 0 if they have not
// come.
double transfer(const Namespace &from, const Namespace &to, const char *address, size_t bytes) {
    const Fd listener = open_socket(to, SOCK_STREAM, address);
    const Fd sender = from.in([] { return Fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)); });
    const auto there = address_of(address);
    const auto begin = Clock::now();
    const size_t got = send_tcp(sender, listener, reinterpret_cast<const sockaddr *>(&there), sizeof there, bytes);
    const std::chrono::duration<double> passed = Clock::now() - begin;
    return got == bytes ? static_cast<double>(bytes) / passed.count() : 0;
}

// What a container has sent, by its own device.
uint64_t sent_packets(const Namespace &container) { return device_figures(container, "eth0").tx_packets; }

// Containers keep TSO at TC's ingress: packets are much longer than the MTU, and each is
// counted once.
TEST_F(Hooks, BulkKeepsItsSegments) {
    EXPECT_EQ(mode("p1"), "tc");
    const uint64_t before = sent_packets(c1_);
    EXPECT_GT(transfer(c1_, c2_, kAddress[2], 16 << 20), 0);
    const auto stats = taken(1);
    EXPECT_EQ(stats.n_packets, sent_packets(c1_) - before);
    EXPECT_GT(stats.n_bytes / stats.n_packets, 5000U);
    EXPECT_GT(stats.n_bytes, uint64_t{16 << 20});
}

// Packets enter at one hook and leave through a port of the other.
TEST_F(Hooks, ArePassedFromOneToTheOther) {
    set_hook("tc", "xdp");
    ASSERT_TRUE(wait_for([&] { return mode("p1") == "native" && mode("p2") == "tc"; })) << log_text;
    renew_flows();
    for (int n : {1, 2}) {
        (void)taken(n);
    }
    EXPECT_GT(transfer(c1_, c2_, kAddress[2], 4 << 20), 0);
    const auto there = taken(1), back = taken(2);
    ASSERT_GT(there.n_bytes, uint64_t{4 << 20}) << "all in XDP";
    EXPECT_LT(there.n_bytes / there.n_packets, 1515U) << "and in segments";
    EXPECT_GT(back.n_packets, 10U);
    EXPECT_GT(transfer(c2_, c1_, kAddress[1], 4 << 20), 0);
    EXPECT_GT(taken(2).n_bytes, uint64_t{4 << 20});
}

// What only XDP does is refused for packets that enter at the other hook, and they alone.
TEST_F(Hooks, TruncationIsXdps) {
    constexpr uint32_t kLength = 100;
    EXPECT_EQ(put_flow(1, {2}, kLength), EOPNOTSUPP);
    change_hook("xdp");
    EXPECT_EQ(put_flow(1, {2}, kLength), 0) << log_text;
    set_hook("xdp", "tc");
    ASSERT_TRUE(wait_for([&] { return mode("p1") == "tc"; })) << log_text;
    EXPECT_EQ(put_flow(1, {2}, kLength), EOPNOTSUPP);
}

// A stream of numbered datagrams.
class Stream {
public:
    Stream(const Namespace &from, const Namespace &to, const char *source, const char *address)
        : sender_(open_socket(from, SOCK_DGRAM, source)), receiver_(open_socket(to, SOCK_DGRAM, address)), there_(address_of(address)), thread_([this] { send(); }) {}
    // Returns how many are lost, or came twice.
    uint64_t end() {
        stop_ = true;
        thread_.join();
        const timeval wait{0, 300000};
        setsockopt(receiver_.get(), SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
        std::vector<uint8_t> seen(sent_);
        uint64_t number;
        while (recv(receiver_.get(), &number, sizeof number, 0) == sizeof number) {
            seen[number]++;
        }
        return std::ranges::count_if(seen, [](uint8_t n) { return n != 1; });
    }
    uint64_t sent() const { return sent_; }

private:
    void send() {
        for (uint64_t number = 0; !stop_; number++) {
            sendto(sender_.get(), &number, sizeof number, 0, reinterpret_cast<const sockaddr *>(&there_), sizeof there_);
            sent_ = number + 1;
            std::this_thread::sleep_for(std::chrono::microseconds(500));
        }
    }

    Fd sender_, receiver_;
    sockaddr_in there_;
    std::atomic<bool> stop_ = false;
    std::atomic<uint64_t> sent_ = 0;
    std::thread thread_;
};

TEST_F(Hooks, AreChangedWithoutALoss) {
    Stream there(c1_, c2_, kAddress[1], kAddress[2]);
    for (const char *hook : {"xdp", "tc", "xdp", "tc"}) {
        change_hook(hook);
        (void)taken(1);
        EXPECT_TRUE(wait_for([&] { return taken(1).n_packets > 0; })) << hook << "\n"
                                                                      << log_text;
    }
    EXPECT_EQ(there.end(), 0U) << "of " << there.sent();
    EXPECT_GT(there.sent(), 100U);
}

// "auto": TC's ingress while the peer is in another namespace than the port.
TEST_F(Hooks, AutoFollowsThePeer) {
    KernelFeatures kernel;
    if (KernelFeatures::probe(&kernel) || !kernel.has_tcx()) {
        GTEST_SKIP() << "\"auto\" is XDP where the kernel has no tcx";
    }
    auto is_at = [&](const char *port, const char *hook) { return wait_for([&] { return mode(port) == hook; }); };
    change_hook("xdp");
    set_hook("auto");
    EXPECT_TRUE(is_at("p1", "tc") && is_at("p2", "tc")) << log_text;
    c1_.sh("ip link set eth0 netns " + host_.path() + " name peer");
    EXPECT_TRUE(is_at("p1", "native")) << log_text;
    EXPECT_EQ(mode("p2"), "tc");
    host_.sh("ip link set peer netns " + c1_.path() + " name eth0");
    EXPECT_TRUE(is_at("p1", "tc")) << log_text;
    host_.sh("ip link add q1 type veth peer name q2 && ip link set q1 up && ip link set q2 up");
    host_.in([&] {
        const ovs_offload_port q{sizeof q, static_cast<int>(if_nametoindex("q1")), "q1", "system", "system", false};
        Port *port = nullptr;
        ASSERT_EQ(offload_->port_add(q, &port), 0);
        ports_.push_back(port);
    });
    EXPECT_EQ(mode("q1"), "native");
}

// Somebody's program in XDP keeps ours from coming there, and nothing else changes.
TEST_F(Hooks, StaysWhereItIsIfTheOtherIsTaken) {
    constexpr const char *kTags = "ethtool -k eth0 | grep -q 'tx-vlan-offload: on'";
    const bpf_insn pass[] = {{BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, XDP_PASS}, {BPF_JMP | BPF_EXIT, 0, 0, 0, 0}};
    const Fd theirs(bpf_prog_load(BPF_PROG_TYPE_XDP, "somebodys", "GPL", pass, std::size(pass), nullptr));
    ASSERT_GE(theirs.get(), 0);
    c1_.sh(kTags);
    host_.in([&] { ASSERT_EQ(bpf_xdp_attach(ifindexes[1], theirs.get(), 0, nullptr), 0); });
    set_hook("xdp");
    ASSERT_TRUE(wait_for([&] { return mode("p2") == "native"; })) << log_text;
    ASSERT_TRUE(wait_for([&] { return logged("p1: stays at TC's ingress"); })) << log_text;
    EXPECT_EQ(mode("p1"), "tc");
    c1_.sh(kTags);
    host_.in([&] { EXPECT_EQ(bpf_xdp_detach(ifindexes[1], 0, nullptr), 0); });
}

// What the containers' bulk TCP makes, for docs/performance.md: medians, in one run.
TEST_F(Hooks, BulkRates) {
    constexpr size_t kBytes = 32 << 20;
    std::map<std::string, std::vector<double>> rates;
    for (int round = 0; round < 3; round++) {
        for (const char *way : {"bridge", "tc", "xdp"}) {
            const bool is_bridge = !std::strcmp(way, "bridge");
            change_hook(is_bridge ? "tc" : way);
            if (is_bridge) {
                for (auto *port : ports_) {
                    EXPECT_EQ(offload_->flow_flush(port), 0);
                }
                flows_are_lost = false;
            }
            rates[way].push_back(transfer(c1_, c2_, kAddress[2], kBytes));
        }
    }
    for (auto &[way, samples] : rates) {
        std::ranges::sort(samples);
        std::printf("bulk TCP by %s: %.2f Gb/s\n", way.c_str(), samples[samples.size() / 2] * 8 / 1e9);
        EXPECT_GT(samples[0], 0);
    }
}

}  // namespace
}  // namespace flowxlate::test
