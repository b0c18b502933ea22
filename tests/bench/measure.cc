// SPDX-License-Identifier: Apache-2.0
#include "measure.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <getopt.h>
#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fstream>
#include <stdexcept>

#include "tests/bpf/program.h"

namespace flowxlate::bench {
namespace {

constexpr int kQuickRounds = 5;

double thread_cpu_ns() {
    timespec ts;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return ts.tv_sec * 1e9 + ts.tv_nsec;
}

// Returns the verdict of the last run.
uint32_t test_run(int fd, const Frame &in, uint32_t repeat) {
    LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = in.data(),
                .data_size_in = static_cast<uint32_t>(in.size()),
                .repeat = static_cast<int>(repeat));
    if (bpf_prog_test_run_opts(fd, &opts)) {
        throw std::runtime_error(std::string("BPF_PROG_TEST_RUN: ")
                                 + std::strerror(errno));
    }
    return opts.retval;
}

[[noreturn]] void usage(const char *program) {
    std::fprintf(stderr, "usage: %s [--quick] [--rounds N] [--out FILE]\n",
                 program);
    std::exit(2);
}

// The CPUs that the process could use when this was first called.
const cpu_set_t &usable_cpus() {
    static const cpu_set_t cpus = [] {
        cpu_set_t set;
        CPU_ZERO(&set);
        sched_getaffinity(0, sizeof set, &set);
        return set;
    }();
    return cpus;
}

int print_libbpf(libbpf_print_level level, const char *format, va_list args) {
    return level == LIBBPF_DEBUG
                || std::strstr(format, "skipping unrecognized data section")
             ? 0
             : std::vfprintf(stderr, format, args);
}

}  // namespace

Options parse_options(int argc, char **argv) {
    const option long_options[] = {{"quick", no_argument, nullptr, 'q'},
                                   {"rounds", required_argument, nullptr, 'r'},
                                   {"out", required_argument, nullptr, 'o'},
                                   {}};
    Options options;
    int rounds = 0;
    for (int c;
         (c = getopt_long(argc, argv, "", long_options, nullptr)) != -1;) {
        if (c == 'q') {
            options.quick = true;
        } else if (c == 'r') {
            rounds = std::atoi(optarg);
            if (rounds < 1) {
                usage(argv[0]);
            }
        } else if (c == 'o') {
            options.out = optarg;
        } else {
            usage(argv[0]);
        }
    }
    if (optind != argc) {
        usage(argv[0]);
    }
    if (rounds) {
        options.rounds = rounds;
    } else if (options.quick) {
        options.rounds = kQuickRounds;
    }
    return options;
}

double percentile(std::vector<double> v, double percent) {
    const size_t n = std::min<size_t>(v.size() * percent / 100, v.size() - 1);
    std::nth_element(v.begin(), v.begin() + n, v.end());
    return v[n];
}

double median(std::vector<double> v) { return percentile(std::move(v), 50); }

// -- Results ----------------------------------------------------------------

void Results::add(const std::string &metric, const char *unit, double sample) {
    auto it = std::find_if(series_.begin(), series_.end(),
                           [&](auto &s) { return s.metric == metric; });
    if (it == series_.end()) {
        it = series_.insert(it, {metric, unit, {}});
    }
    it->samples.push_back(sample);
}

void Results::add_unavailable(const std::string &metric, const char *unit,
                              const std::string &why) {
    series_.push_back({metric, unit, {}, why});
}

double Results::median_of(const std::string &metric) const {
    for (auto &s : series_) {
        if (s.metric == metric) {
            return median(s.samples);
        }
    }
    throw std::logic_error(metric + ": was not measured");
}

void Results::write(const std::string &path) const {
    std::ofstream out(path);
    out.precision(10);
    for (auto &s : series_) {
        out << "{\"metric\": \"" << s.metric << "\", \"unit\": \"" << s.unit;
        if (s.samples.empty()) {
            out << "\", \"unavailable\": \"" << s.unavailable << "\"}\n";
            continue;
        }
        out << "\", \"samples\": [";
        for (size_t i = 0; i < s.samples.size(); i++) {
            out << (i ? ", " : "") << s.samples[i];
        }
        out << "]}\n";
    }
    out.close();
    if (!out) {
        throw std::runtime_error(path + ": cannot be written");
    }
}

void Results::print() const {
    for (auto &s : series_) {
        if (s.samples.empty()) {
            std::fprintf(stderr, "%-36s not available: %s\n", s.metric.c_str(),
                         s.unavailable.c_str());
            continue;
        }
        const auto [min, max] =
            std::minmax_element(s.samples.begin(), s.samples.end());
        std::fprintf(stderr, "%-36s %12.4g %-7s (%.4g to %.4g)\n",
                     s.metric.c_str(), median(s.samples), s.unit, *min, *max);
    }
}

void interleave(const std::vector<Case> &cases, int rounds, Results *results) {
    for (int round = 0; round < rounds; round++) {
        for (auto &c : cases) {
            results->add(c.metric, c.unit, c.sample());
        }
    }
}

// -- Programs ---------------------------------------------------------------

uint32_t run_once(int fd, const Frame &in) { return test_run(fd, in, 1); }

void expect_verdict(const std::string &what, int fd, const Frame &in,
                    uint32_t expected, uint32_t repeat) {
    const uint32_t verdict = test_run(fd, in, repeat);
    if (verdict != expected) {
        throw std::runtime_error(what + ": the program returns "
                                 + std::to_string(verdict) + ", not "
                                 + std::to_string(expected));
    }
}

ProgramTimer::ProgramTimer(int fd, Frame in) : fd_(fd), in_(std::move(in)) {
    constexpr int kTries = 5;
    static double least = cpu_ns(kFewRuns);
    static int tries_left = kTries;
    do {
        least = std::min(least, cpu_ns(kFewRuns));
    } while (--tries_left > 0);
    overhead_ns_ = least;
}

double ProgramTimer::cpu_ns(uint32_t repeat) const {
    const double begin = thread_cpu_ns();
    test_run(fd_, in_, repeat);
    return thread_cpu_ns() - begin;
}

double ProgramTimer::ns_per_run(uint32_t repeat) const {
    return (cpu_ns(repeat) - overhead_ns_) / (repeat - kFewRuns);
}

uint32_t ProgramTimer::runs_in(std::chrono::nanoseconds duration) const {
    constexpr uint32_t kTrial = 2000;
    const uint32_t ns = std::max(test::time_program(fd_, in_, kTrial), 1U);
    return std::max<uint32_t>(duration.count() / ns, kTrial);
}

bool pin_to_cpu(int nth) {
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (CPU_ISSET(cpu, &usable_cpus()) && nth-- == 0) {
            cpu_set_t set;
            CPU_ZERO(&set);
            CPU_SET(cpu, &set);
            return !pthread_setaffinity_np(pthread_self(), sizeof set, &set);
        }
    }
    return false;
}

void enter_namespace() {
    if (unshare(CLONE_NEWNET)) {
        throw std::runtime_error(
            std::string("cannot create a network namespace: ")
            + std::strerror(errno));
    }
    std::ofstream("/proc/sys/net/ipv6/conf/default/disable_ipv6") << 1;
}

void quieten_libbpf() { libbpf_set_print(print_libbpf); }

int run_main(int argc, char **argv,
             const std::function<void(const Options &, Results *)> &run) {
    const Options options = parse_options(argc, argv);
    quieten_libbpf();
    try {
        Results results;
        run(options, &results);
        results.print();
        if (!options.out.empty()) {
            results.write(options.out);
        }
    } catch (const std::exception &e) {
        std::fprintf(stderr, "%s: %s\n", argv[0], e.what());
        return 1;
    }
    return 0;
}

}  // namespace flowxlate::bench
