// SPDX-License-Identifier: Apache-2.0
// Sends, forwards or counts frames in XDP, for the end-to-end benchmark.
//
//   traffic send --dev IF [--seconds S] [--size BYTES] [--flows N] [--cpu C]
//                [--src-mac M] [--dst-mac M] [--src-ip A] [--dst-ip A]
//   traffic forward --dev IF --to IF
//   traffic count --dev IF [--pass]
//   traffic connect --dev IF [--seconds S] [--tcp] [--at-once N] [--cpu C]
//                   [--src-mac M] [--dst-mac M] [--src-ip A] [--dst-ip A]
//   traffic answer --dev IF
//
// send: UDP datagrams in frames of BYTES (without FCS) out of IF, as fast as
// one CPU makes them: the kernel runs a program on live frames, which
// redirects them to IF.  Flow i has the destination address A + i.  Prints
// {"packets", "seconds"}: what was offered to IF, which may drop frames.
//
// connect: has N conversations with where 'answer' runs, of which each opens
// one connection after the other, of UDP or TCP.  Prints {"connections",
// "seconds", "alive", "at_once"}: those that were established and in which
// time, and in how many of the conversations no frame was lost, which is the
// end of one.  The frames go on where they were first sent, on CPU C.
//
// forward, count, answer: attach a program to IF, print a line of JSON, print
// another for each line that is read, and end with the input.  The program is
// held by a BPF link, so it goes with the process, however that ends.
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <getopt.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <net/if.h>
#include <netinet/ether.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <sched.h>
#include <sys/time.h>

#include <cerrno>
#include <chrono>
#include <climits>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <iostream>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "traffic.skel.h"

namespace {

constexpr size_t kMinFrame = ETH_ZLEN;
// A live frame lives in one page, with headroom and what the kernel keeps.
constexpr size_t kMaxFrame = 3000;
constexpr unsigned kMaxFlows = 65536;
constexpr unsigned kMaxAtOnce = 1024;
constexpr size_t kL4 = ETH_HLEN + sizeof(iphdr);
constexpr uint16_t kUdpSource = 4000, kUdpDestination = 4001;
constexpr uint16_t kWindow = 60000;
struct Options {
    std::string command, dev, to;
    double seconds = 1;
    size_t size = 64;
    unsigned flows = 1;
    int cpu = -1;
    bool pass = false, tcp = false;
    unsigned at_once = 64;
    std::string src_mac = "02:00:00:00:00:01", dst_mac = "02:00:00:00:00:02";
    std::string src_ip = "10.88.0.1", dst_ip = "10.89.0.0";
};

struct Counter {
    uint64_t packets, bytes;
};

struct SkeletonDeleter {
    void operator()(traffic_bpf *s) const { traffic_bpf::destroy(s); }
};
using Skeleton = std::unique_ptr<traffic_bpf, SkeletonDeleter>;

struct LinkDeleter {
    void operator()(bpf_link *l) const { bpf_link__destroy(l); }
};
using Link = std::unique_ptr<bpf_link, LinkDeleter>;

[[noreturn]] void fail(int error, const std::string &what) {
    throw std::system_error(std::abs(error), std::generic_category(), what);
}

uint32_t ifindex(const std::string &name) {
    const uint32_t index = if_nametoindex(name.c_str());
    if (!index) {
        fail(errno, "device " + name);
    }
    return index;
}

// -- Programs ---------------------------------------------------------------

Skeleton open_programs() {
    Skeleton s(traffic_bpf::open());
    if (!s) {
        fail(errno, "cannot open the programs");
    }
    return s;
}

void load(traffic_bpf *s) {
    if (const int error = traffic_bpf::load(s)) {
        fail(error, "cannot load the programs");
    }
}

void set_output(traffic_bpf *s, const std::string &dev) {
    const uint32_t zero = 0, index = ifindex(dev);
    if (bpf_map_update_elem(bpf_map__fd(s->maps.out_dev), &zero, &index, 0)) {
        fail(errno, "cannot redirect to " + dev);
    }
}

Link attach(bpf_program *program, const std::string &dev) {
    Link link(
        bpf_program__attach_xdp(program, static_cast<int>(ifindex(dev))));
    if (!link) {
        fail(errno, "cannot attach a program to " + dev);
    }
    return link;
}

// -- Frames -----------------------------------------------------------------

ether_addr parse_mac(const std::string &text) {
    ether_addr mac;
    if (!ether_aton_r(text.c_str(), &mac)) {
        throw std::runtime_error(text + ": not a MAC address");
    }
    return mac;
}

uint32_t parse_ip(const std::string &text) {
    in_addr ip;
    if (inet_pton(AF_INET, text.c_str(), &ip) != 1) {
        throw std::runtime_error(text + ": not an IPv4 address");
    }
    return ip.s_addr;
}

// The IPv4 header's sum as 16-bit words in host order, not complemented.
uint32_t sum_of(const iphdr &ip) {
    uint16_t words[sizeof ip / 2];
    std::memcpy(words, &ip, sizeof ip);
    uint32_t sum = 0;
    for (const uint16_t word : words) {
        sum += ntohs(word);
    }
    return (sum & 0xffff) + (sum >> 16);
}

// A frame that begins with an Ethernet and an IPv4 header, the latter without
// its checksum; 'length' is of IP's payload.
std::vector<uint8_t> make_headers(const Options &o, uint8_t protocol,
                                  size_t length) {
    ethhdr eth = {};
    const ether_addr dst = parse_mac(o.dst_mac), src = parse_mac(o.src_mac);
    std::memcpy(eth.h_dest, &dst, ETH_ALEN);
    std::memcpy(eth.h_source, &src, ETH_ALEN);
    eth.h_proto = htons(ETH_P_IP);

    iphdr ip = {};
    ip.version = 4;
    ip.ihl = sizeof ip / 4;
    ip.tot_len = htons(sizeof ip + length);
    ip.ttl = 64;
    ip.protocol = protocol;
    ip.saddr = parse_ip(o.src_ip);
    ip.daddr = parse_ip(o.dst_ip);

    std::vector<uint8_t> frame(o.size);
    std::memcpy(&frame[0], &eth, sizeof eth);
    std::memcpy(&frame[ETH_HLEN], &ip, sizeof ip);
    return frame;
}

// The frame of flow 0.
std::vector<uint8_t> make_frame(const Options &o) {
    const size_t length = o.size - ETH_HLEN - sizeof(iphdr);
    udphdr udp = {};
    udp.source = htons(kUdpSource);
    udp.dest = htons(kUdpDestination);
    udp.len = htons(length);
    auto frame = make_headers(o, IPPROTO_UDP, length);
    std::memcpy(&frame[kL4], &udp, sizeof udp);
    return frame;
}

// What conversations are made of, with the IPv4 checksum; the program fills in
// ports and the rest.
std::vector<uint8_t> make_opening(const Options &o) {
    tcphdr tcp = {};
    tcp.doff = sizeof tcp / 4;
    tcp.window = htons(kWindow);
    udphdr udp = {};
    udp.len = htons(sizeof tcp);  // As long as TCP: the program checks that.

    auto frame =
        make_headers(o, o.tcp ? IPPROTO_TCP : IPPROTO_UDP, sizeof tcp);
    if (o.tcp) {
        std::memcpy(&frame[kL4], &tcp, sizeof tcp);
    } else {
        std::memcpy(&frame[kL4], &udp, sizeof udp);
    }
    iphdr ip;
    std::memcpy(&ip, &frame[ETH_HLEN], sizeof ip);
    ip.check = htons(~sum_of(ip));
    std::memcpy(&frame[ETH_HLEN], &ip, sizeof ip);
    return frame;
}

// -- Commands ---------------------------------------------------------------

void pin(int cpu) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    if (sched_setaffinity(0, sizeof set, &set)) {
        fail(errno, "cannot run on CPU " + std::to_string(cpu));
    }
}

// Runs the generator until the alarm.  One system call makes all frames: its
// end takes tens of milliseconds, in which nothing is sent.
void send_for(double seconds, int program, const std::vector<uint8_t> &frame) {
    struct sigaction action = {};
    action.sa_handler = [](int) {};
    sigaction(SIGALRM, &action, nullptr);
    const auto whole = static_cast<time_t>(seconds);
    itimerval timer = {};
    timer.it_value = {whole,
                      static_cast<suseconds_t>((seconds - whole) * 1e6)};
    setitimer(ITIMER_REAL, &timer, nullptr);

    LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = frame.data(),
                .data_size_in = static_cast<uint32_t>(frame.size()),
                .repeat = INT_MAX, .flags = BPF_F_TEST_XDP_LIVE_FRAMES);
    const int error = bpf_prog_test_run_opts(program, &run);
    if (error && error != -EINTR) {
        fail(error, "cannot send frames");
    }
}

void send(const Options &o) {
    if (o.cpu >= 0) {
        pin(o.cpu);
    }
    std::vector<uint8_t> frame = make_frame(o);
    iphdr ip;
    std::memcpy(&ip, &frame[ETH_HLEN], sizeof ip);

    Skeleton s = open_programs();
    s->rodata->n_flows = o.flows;
    s->rodata->first_dst = ntohl(ip.daddr);
    s->rodata->ip_sum = sum_of(ip);
    load(s.get());
    set_output(s.get(), o.dev);

    send_for(o.seconds, bpf_program__fd(s->progs.traffic_generate), frame);
    const auto *result = s->bss;
    std::printf("{\"packets\": %llu, \"seconds\": %.6f}\n",
                static_cast<unsigned long long>(result->n_sent),
                (result->last_ns - result->first_ns) / 1e9);
}

// Prints reports on request until the input ends.
void serve(const std::function<std::string()> &report) {
    std::string line;
    do {
        std::cout << report() << std::endl;
    } while (std::getline(std::cin, line));
}

void forward(const Options &o) {
    Skeleton s = open_programs();
    load(s.get());
    set_output(s.get(), o.to);
    const Link link = attach(s->progs.traffic_forward, o.dev);
    serve([] { return "{\"forwarding\": true}"; });
}

std::string report_counters(const bpf_map *map) {
    std::vector<Counter> counters(libbpf_num_possible_cpus());
    const uint32_t zero = 0;
    if (bpf_map_lookup_elem(bpf_map__fd(map), &zero, counters.data())) {
        fail(errno, "cannot read the counters");
    }
    Counter total = {};
    std::ostringstream by_cpu;
    for (const Counter &c : counters) {
        by_cpu << (&c == &counters[0] ? "" : ", ") << c.packets;
        total.packets += c.packets;
        total.bytes += c.bytes;
    }
    std::ostringstream out;
    out << "{\"packets\": " << total.packets << ", \"bytes\": " << total.bytes
        << ", \"packets_by_cpu\": [" << by_cpu.str() << "]}";
    return out.str();
}

void answer(const Options &o) {
    Skeleton s = open_programs();
    load(s.get());
    const Link link = attach(s->progs.traffic_server, o.dev);
    serve([] { return "{\"answering\": true}"; });
}

// Sends the first frame of each conversation.
void open_connections(const traffic_bpf *s, const Options &o) {
    const auto frame = make_opening(o);
    LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = frame.data(),
                .data_size_in = static_cast<uint32_t>(frame.size()),
                .repeat = static_cast<int>(o.at_once),
                .flags = BPF_F_TEST_XDP_LIVE_FRAMES);
    const int program = bpf_program__fd(s->progs.traffic_open);
    if (const int error = bpf_prog_test_run_opts(program, &run)) {
        fail(error, "cannot send frames");
    }
}

// By conversation.
std::vector<uint64_t> established(const traffic_bpf &s, unsigned n) {
    const volatile auto *counters = s.bss->established;
    return {counters, counters + n};
}

void connect(const Options &o) {
    if (o.cpu >= 0) {
        pin(o.cpu);
    }
    using Clock = std::chrono::steady_clock;
    using Seconds = std::chrono::duration<double>;
    Skeleton s = open_programs();
    load(s.get());
    set_output(s.get(), o.dev);
    const Link link = attach(s->progs.traffic_client, o.dev);

    open_connections(s.get(), o);
    const auto begin = Clock::now();
    const auto first = established(*s, o.at_once);
    std::this_thread::sleep_for(Seconds(o.seconds * 3 / 4));
    const auto late = established(*s, o.at_once);
    std::this_thread::sleep_for(Seconds(o.seconds / 4));
    const auto last = established(*s, o.at_once);
    const Seconds took = Clock::now() - begin;
    uint64_t n = 0;
    unsigned alive = 0;
    for (size_t i = 0; i < last.size(); i++) {
        n += last[i] - first[i];
        alive += last[i] != late[i];
    }
    std::printf(
        "{\"connections\": %llu, \"seconds\": %.6f, "
        "\"alive\": %u, \"at_once\": %u}\n",
        static_cast<unsigned long long>(n), took.count(), alive, o.at_once);
}

void count(const Options &o) {
    Skeleton s = open_programs();
    s->rodata->count_verdict = o.pass ? XDP_PASS : XDP_DROP;
    load(s.get());
    const Link link = attach(s->progs.traffic_count, o.dev);
    serve([&] { return report_counters(s->maps.counters); });
}

// -- Command line -----------------------------------------------------------

Options parse(int argc, char *argv[]) {
    Options o;
    const std::vector<std::pair<option, std::function<void()>>> table = {
        {{"dev", 1, nullptr, 0}, [&] { o.dev = optarg; }},
        {{"to", 1, nullptr, 0}, [&] { o.to = optarg; }},
        {{"seconds", 1, nullptr, 0}, [&] { o.seconds = std::stod(optarg); }},
        {{"size", 1, nullptr, 0}, [&] { o.size = std::stoul(optarg); }},
        {{"flows", 1, nullptr, 0}, [&] { o.flows = std::stoul(optarg); }},
        {{"cpu", 1, nullptr, 0}, [&] { o.cpu = std::stoi(optarg); }},
        {{"pass", 0, nullptr, 0}, [&] { o.pass = true; }},
        {{"tcp", 0, nullptr, 0}, [&] { o.tcp = true; }},
        {{"at-once", 1, nullptr, 0}, [&] { o.at_once = std::stoul(optarg); }},
        {{"src-mac", 1, nullptr, 0}, [&] { o.src_mac = optarg; }},
        {{"dst-mac", 1, nullptr, 0}, [&] { o.dst_mac = optarg; }},
        {{"src-ip", 1, nullptr, 0}, [&] { o.src_ip = optarg; }},
        {{"dst-ip", 1, nullptr, 0}, [&] { o.dst_ip = optarg; }}};
    std::vector<option> options;
    for (const auto &[opt, _] : table) {
        options.push_back(opt);
    }
    options.push_back({});

    int index = 0, c;
    while ((c = getopt_long(argc, argv, "", options.data(), &index)) == 0) {
        table[index].second();
    }
    if (c != -1 || optind + 1 != argc || o.dev.empty()) {
        throw std::runtime_error("see the head of traffic.cc for its usage");
    }
    o.command = argv[optind];
    return o;
}

void check(const Options &o) {
    if (o.size < kMinFrame || o.size > kMaxFrame) {
        throw std::runtime_error("--size must be from 60 to 3000");
    }
    if (!(o.seconds >= 0.001)) {
        throw std::runtime_error("--seconds must be 0.001 or more");
    }
    if (o.flows < 1 || o.flows > kMaxFlows) {
        throw std::runtime_error("--flows must be from 1 to 65536");
    }
    if (o.at_once < 1 || o.at_once > kMaxAtOnce) {
        throw std::runtime_error("--at-once must be from 1 to 1024");
    }
    // Flow numbers are added without a carry.
    if (ntohl(parse_ip(o.dst_ip)) % kMaxFlows != 0) {
        throw std::runtime_error("--dst-ip must end in .0.0");
    }
}

}  // namespace

int main(int argc, char *argv[]) try {
    const Options o = parse(argc, argv);
    check(o);
    if (o.command == "send") {
        send(o);
    } else if (o.command == "forward") {
        forward(o);
    } else if (o.command == "count") {
        count(o);
    } else if (o.command == "connect") {
        connect(o);
    } else if (o.command == "answer") {
        answer(o);
    } else {
        throw std::runtime_error(o.command + ": no such command");
    }
    return 0;
} catch (const std::exception &e) {
    std::fprintf(stderr, "traffic: %s\n", e.what());
    return 1;
}
