// SPDX-License-Identifier: Apache-2.0
// How the plugin grows: memory, times and rates by number of ports and of
// flows, through its C ABI, as OVS calls it.
//
//   scale [--ports N] [--flows N] [--own N]
//
//   --ports  at most so many ports that share a program (1000)
//   --own    at most so many with one of their own, as those of AF_XDP (16)
//   --flows  at most so many flows (1000000)
//
// Prints a line for each number, and in the end "N passed, N failed, N
// skipped": what is judged are the times of ports, which are to be at most 10
// ms each more than the kernel takes to attach the smallest program ("bare"),
// whatever the size of ours.  (It waits for a grace period for each of the
// first 48 programs of XDP that there are.)  Everything is in a network
// namespace of this process alone, which disappears with it.
#include <bpf/bpf.h>
#include <getopt.h>
#include <linux/bpf.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "measure.h"
#include "memory.h"
#include "plugin_host.h"

namespace flowxlate::bench {
namespace {

using namespace std::chrono_literals;

constexpr double kMaxMsEach = 10;
constexpr double kMaxMsInAll = 10000;
constexpr int kFewest = 16;  // With fewer a grace period more or less decides.
constexpr auto kIdle = 3s;
constexpr double kMiB = 1 << 20;

struct Limits {
    int ports = 1000, own = 16;
    uint32_t flows = 1'000'000;
};

struct Counts {
    int passed = 0, failed = 0;
    void judge(bool holds, const std::string &what) {
        (holds ? passed : failed)++;
        std::printf("%s %s\n", holds ? "ok" : "FAILED", what.c_str());
    }
};

// Of this process, by all its threads.
double cpu_ms() {
    rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1e3
         + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e3;
}

using Ports = std::vector<std::unique_ptr<PluginPort>>;

struct PortTimes {
    double first_ms, each_ms, all_ms, del_ms, mib_each, idle_ms;
};

// Adds and removes 'n' ports.  The first one waits for the program, if they
// share it.
PortTimes add_ports(Plugin *plugin, int n, const char *type) {
    const bool own = !std::strcmp(type, "afxdp");
    const char *datapath = own ? "netdev" : "system";
    Ports ports;
    std::vector<double> ms;
    const double before = memory_bytes();
    PortTimes t{};
    for (int i = 0; i < n; i++) {
        ms.push_back(elapsed_ms([&] {
            ports.push_back(std::make_unique<PluginPort>(
                plugin, "s" + std::to_string(i), type, datapath));
        }));
        t.all_ms += ms.back();
    }
    t.first_ms = ms[0];
    t.each_ms = median(ms);
    t.mib_each = (memory_bytes() - before) / n / kMiB;
    const double idle = cpu_ms();
    std::this_thread::sleep_for(kIdle);
    t.idle_ms =
        (cpu_ms() - idle) / std::chrono::duration<double>(kIdle).count();
    t.del_ms = elapsed_ms([&] { ports.clear(); }) / n;
    return t;
}

// How many ms the kernel takes for each of 'n' devices to get a program that
// does nothing.
double attach_bare(int n) {
    const bpf_insn pass[] = {{BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, XDP_PASS},
                             {BPF_JMP | BPF_EXIT, 0, 0, 0, 0}};
    std::vector<Fd> links;
    const double ms = elapsed_ms([&] {
        for (int i = 0; i < n; i++) {
            const Fd program(bpf_prog_load(BPF_PROG_TYPE_XDP, "bare", "GPL",
                                           pass, std::size(pass), nullptr));
            const auto device = "s" + std::to_string(i);
            links.push_back(attach(program.get(), device.c_str()));
        }
    });
    return ms / n;
}

// From 'first' on, 'factor' times as many each time, and 'most'.
template <typename T>
std::vector<T> steps(T first, T factor, T most) {
    std::vector<T> all;
    for (T n = first; n < most; n *= factor) {
        all.push_back(n);
    }
    all.push_back(most);
    return all;
}

void measure_ports(Plugin *plugin, const char *what, const char *type,
                   int most, Counts *counts) {
    for (int n : steps(4, 4, most)) {
        const double bare = attach_bare(n);
        const PortTimes t = add_ports(plugin, n, type);
        std::printf(
            "%-12s %5d ports: first %6.1f ms, others %6.2f ms each (bare "
            "%5.2f), all %8.0f ms; gone in %5.2f ms each; %.3f MiB each; idle "
            "%.1f ms of CPU per s\n",
            what, n, t.first_ms, t.each_ms, bare, t.all_ms, t.del_ms,
            t.mib_each, t.idle_ms);
        std::fflush(stdout);
        if (counts && n >= kFewest) {
            counts->judge(t.each_ms <= kMaxMsEach + bare && t.all_ms <= kMaxMsInAll, std::to_string(n) + " ports, a program for all: at most 10 ms each, 10 s in all");
        }
    }
}

void measure_flows(Plugin *plugin, uint32_t n) {
    const PluginPort in(plugin, "s0", "system", "system"),
        out(plugin, "s1", "system", "system");
    Offer offer(in.ifindex(), out.ifindex());
    const double before = memory_bytes();
    const double put = elapsed_us([&] {
        for (uint32_t i = 0; i < n; i++) {
            plugin->put(offer.flow(i));
        }
    });
    const double mib = (memory_bytes() - before) / kMiB;
    wait_until_in_fast_path(plugin, n - 1);
    uint32_t missing = 0;
    const double dump = elapsed_us([&] {
        for (uint32_t i = 0; i < n; i++) {
            missing += !plugin->in_fast_path(i);
        }
    });
    const double del = elapsed_us([&] {
        for (uint32_t i = 0; i < n; i++) {
            plugin->del(i);
        }
    });
    if (missing) {
        throw std::runtime_error(std::to_string(missing)
                                 + " flows are missing");
    }
    std::printf(
        "%9u flows: put %6.0f thousand/s, read all in %8.2f ms (%.0f ns "
        "each), deleted %6.0f thousand/s; %.1f MiB of OVS's memory\n",
        n, n * 1e3 / put, dump / 1000, dump * 1000 / n, n * 1e3 / del, mib);
    std::fflush(stdout);
    std::this_thread::sleep_for(200ms);  // Removed flows are given back.
}

int run(const Limits &limits) {
    Counts counts;
    quieten_libbpf();
    enter_namespace();
    make_links("s", std::max({limits.ports, limits.own, 2}));
    std::printf("%ld CPUs, %ld of them online\n",
                sysconf(_SC_NPROCESSORS_CONF), sysconf(_SC_NPROCESSORS_ONLN));
    const double before = memory_bytes();
    {
        Plugin plugin;
        std::printf("without ports: %.1f MiB\n",
                    (memory_bytes() - before) / kMiB);
        measure_ports(&plugin, "own programs", "afxdp", limits.own, nullptr);
        measure_ports(&plugin, "one for all", "system", limits.ports, &counts);
    }
    const double small = memory_bytes();
    Plugin plugin({{"xdp-offload-max-flows", std::to_string(limits.flows)}});
    std::printf("for %u flows: %.1f MiB\n", limits.flows,
                (memory_bytes() - small) / kMiB);
    for (uint32_t n : steps(1U, 32U, limits.flows)) {
        measure_flows(&plugin, n);
    }
    std::printf("%d passed, %d failed, 0 skipped\n", counts.passed,
                counts.failed);
    std::fflush(stdout);
    return counts.failed != 0;
}

Limits parse(int argc, char **argv) {
    const option options[] = {{"ports", required_argument, nullptr, 'p'},
                              {"own", required_argument, nullptr, 'o'},
                              {"flows", required_argument, nullptr, 'f'},
                              {}};
    Limits limits;
    for (int c; (c = getopt_long(argc, argv, "", options, nullptr)) != -1;) {
        const int n = optarg ? std::atoi(optarg) : 0;
        if (n < 1) {
            std::fprintf(stderr,
                         "usage: %s [--ports N] [--own N] [--flows N]\n",
                         argv[0]);
            std::exit(2);
        }
        if (c == 'f') {
            limits.flows = n;
        } else {
            (c == 'p' ? limits.ports : limits.own) = n;
        }
    }
    return limits;
}

}  // namespace
}  // namespace flowxlate::bench

int main(int argc, char **argv) {
    using namespace flowxlate::bench;
    try {
        // Without destructors: the plugin lives as long as its process.
        std::_Exit(run(parse(argc, argv)));
    } catch (const std::exception &e) {
        std::fprintf(stderr, "%s: %s\n", argv[0], e.what());
        return 1;
    }
}
