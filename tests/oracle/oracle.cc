// SPDX-License-Identifier: Apache-2.0
// Open vSwitch as the oracle for the XDP program: random megaflows and packets
// through OVS's own code and through the program, and what they do compared.
//
//   oracle [--packets N | --seconds N] [--seed S] [--jobs N] [--first SET]
//          [--cases DIR]
//   oracle --case FILE...
//
// Needs root.  First replays the cases in DIR.  Flow set K of seed S is always
// the same, so "--seed S --first K --packets 400 --jobs 1" runs it alone.  A
// mismatch is made small, printed, and ends the run with status 1.
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <new>
#include <stdexcept>

#include <bpf/libbpf.h>

#include "cases.h"
#include "trials.h"

namespace oracle {
namespace {

constexpr uint64_t kPacketsPerSet = 400;
// Below this share of hits, of the packets that OVS executes, the flows or the
// program are not what this test is for.  49.4 and 51.2 in runs of 10^7 and
// 10^8.
constexpr uint64_t kMinHitPercent = 40;
constexpr uint64_t kEnoughPackets = 10'000;
constexpr unsigned kMaxJobs = 64;

struct Options : RunOptions {
    Options() : RunOptions{.packets = 1'000'000} {}

    unsigned jobs = 2;
    std::string cases;               // A directory.
    std::vector<std::string> files;  // Run only these.
};

// What jobs share with their parent.
struct Shared {
    std::atomic<bool> mismatch;
    Tally tallies[kMaxJobs];
};

void print_mismatch(const Mismatch &wrong, const Case &c) {
    Judge judge;
    std::printf("\nMISMATCH: %s\nmaking it small ...\n", wrong.kind);
    std::fflush(stdout);
    const Case small = shrink(c, &judge);
    if (const Mismatch again = judge.check(small)) {
        std::printf("\n# %s\n%s\n%s", again.kind, to_text(small).c_str(),
                    again.details.c_str());
        std::printf(
            "\nThe lines from \"vlan-limit\" to the frame, in a file "
            "in tests/oracle/regressions,\nmake it a case.\n");
    } else {
        std::printf("\n# Needs the packets before it.\n%s\n%s",
                    to_text(c).c_str(), wrong.details.c_str());
    }
}

// Runs packets through a flow set.  Returns false if there is a mismatch, and
// no other job has found one.
bool run_packets(const FlowSet &set, const std::vector<Frame> &frames,
                 Random *r, Judge *judge, std::atomic<bool> *mismatch) {
    judge->use(set);
    for (uint64_t i = 0; i < kPacketsPerSet / 2; i++) {
        Frame frame =
            r->percent(15) ? r->pick(frames) : vary(r->pick(frames), *r);
        const Mismatch wrong = judge->check(frame, false);
        if (wrong && !mismatch->exchange(true)) {
            print_mismatch(wrong, {set.copy(), std::move(frame)});
            return false;
        }
        if (*mismatch) {
            break;
        }
    }
    return true;
}

// Takes some flows away and shuffles the others, so that each comes to where
// another was: what the program remembers of them is wrong then.
void disturb(FlowSet *set, Random *r) {
    auto &flows = set->flows;
    for (size_t i = flows.size(); i > 1; i--) {
        std::swap(flows[i - 1], flows[r->below(i)]);
    }
    flows.resize(flows.size() - flows.size() / 4);
}

void run_set(uint64_t seed, uint64_t k, Judge *judge,
             std::atomic<bool> *mismatch) {
    Random r(seed_of_set(seed, k));
    std::vector<Frame> frames;
    FlowSet set = make_flow_set(r, &frames);
    bool good = run_packets(set, frames, &r, judge, mismatch);
    if (good) {
        disturb(&set, &r);
        good = run_packets(set, frames, &r, judge, mismatch);
    }
    if (!good) {
        std::printf("again: --seed %ju --first %ju --packets %ju --jobs 1\n",
                    static_cast<uintmax_t>(seed), static_cast<uintmax_t>(k),
                    static_cast<uintmax_t>(kPacketsPerSet));
    }
}

// Runs the flow sets first, first + step, ... until 'packets' have been run,
// the time is up, or a job has found a mismatch.
void run_sets(const Options &options, uint64_t first, uint64_t packets,
              Shared *shared, Tally *tally) {
    Judge judge;
    const auto end = std::chrono::steady_clock::now() + options.time;
    auto is_over = [&] {
        return options.time.count() ? std::chrono::steady_clock::now() >= end
                                    : judge.tally().packets >= packets;
    };
    for (uint64_t k = first; !is_over() && !shared->mismatch;
         k += options.jobs) {
        run_set(options.seed, k, &judge, &shared->mismatch);
    }
    *tally = judge.tally();
}

// Returns whether all jobs went well, and the sum of their tallies.
bool run_jobs(const Options &options, Tally *sum) {
    void *memory = mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        throw std::runtime_error("mmap");
    }
    auto *shared = new (memory) Shared{};
    std::vector<pid_t> pids;
    std::fflush(nullptr);
    for (size_t i = 0; i < options.jobs; i++) {
        const pid_t pid = fork();
        if (pid == 0) {
            run_sets(options, options.first + i,
                     options.packets / options.jobs, shared,
                     &shared->tallies[i]);
            std::fflush(nullptr);
            _exit(0);
        }
        pids.push_back(pid);
    }
    bool crashed = false;
    for (size_t i = 0; i < options.jobs; i++) {
        int status = 0;
        crashed |= waitpid(pids[i], &status, 0) != pids[i] || status != 0;
        sum->add(shared->tallies[i]);
    }
    if (crashed) {
        std::printf("a job has crashed\n");
    }
    const bool good = !crashed && !shared->mismatch;
    munmap(memory, sizeof(Shared));
    return good;
}

// Returns how many of the cases fail.
size_t replay(const std::vector<std::string> &paths) {
    Judge judge;
    size_t failed = 0;
    for (auto &path : paths) {
        const Case c = read_case(path);
        if (const Mismatch wrong = judge.check(c)) {
            std::printf("%s: %s\n%s%s", path.c_str(), wrong.kind,
                        to_text(c).c_str(), wrong.details.c_str());
            failed++;
        }
    }
    const Tally &t = judge.tally();
    std::printf("cases: %zu, mismatches %zu; %ju of %ju packets hit\n",
                paths.size(), failed, static_cast<uintmax_t>(t.hits),
                static_cast<uintmax_t>(t.executed));
    return failed;
}

std::vector<std::string> files_in(const std::string &directory) {
    std::vector<std::string> paths;
    if (!directory.empty()) {
        for (auto &entry : std::filesystem::directory_iterator(directory)) {
            if (entry.path().extension() == ".txt") {
                paths.push_back(entry.path());
            }
        }
    }
    std::sort(paths.begin(), paths.end());
    return paths;
}

// Returns how many of the two checks fail: no mismatch, and enough hits.
size_t run_random(const Options &options) {
    const auto begin = std::chrono::steady_clock::now();
    Tally t;
    const bool good = run_jobs(options, &t);
    const std::chrono::duration<double> time =
        std::chrono::steady_clock::now() - begin;
    const bool enough = t.packets < kEnoughPackets
                     || t.hits * 100 >= t.executed * kMinHitPercent;

    t.print();
    if (!enough) {
        std::printf(
            "XDP executes less than %ju %% of what OVS does: the "
            "comparison says little\n",
            static_cast<uintmax_t>(kMinHitPercent));
    }
    std::printf(
        "oracle: %ju packets, %ju flow sets (%ju megaflows, %ju "
        "refused), %ju hits (%.1f %%), mismatches %d, seed %ju, "
        "%.0f s\n",
        static_cast<uintmax_t>(t.packets), static_cast<uintmax_t>(t.flow_sets),
        static_cast<uintmax_t>(t.megaflows), static_cast<uintmax_t>(t.refused),
        static_cast<uintmax_t>(t.hits), percent(t.hits, t.packets), !good,
        static_cast<uintmax_t>(options.seed), time.count());
    return !good + !enough;
}

Options parse(int argc, char **argv) {
    Options o;
    for (int i = 1; i < argc; i++) {
        const std::string name = argv[i];
        if (i + 1 == argc) {
            throw std::runtime_error(name + ": unknown, or needs a value");
        }
        const char *value = argv[++i];
        if (name == "--jobs") {
            o.jobs = static_cast<unsigned>(
                std::clamp<uint64_t>(number(value), 1, kMaxJobs));
        } else if (name == "--cases") {
            o.cases = value;
        } else if (name == "--case") {
            o.files.assign(argv + i, argv + argc);
            return o;
        } else if (!o.take(name, value)) {
            throw std::runtime_error(name + ": unknown option");
        }
    }
    return o;
}

int run(int argc, char **argv) {
    const Options options = parse(argc, argv);
    const bool random = options.files.empty();
    const auto paths = random ? files_in(options.cases) : options.files;
    size_t checks = paths.size(), failed = 0;

    libbpf_set_print(nullptr);
    model_init();
    if (!paths.empty()) {
        failed += replay(paths);
    }
    if (random) {
        checks += 2;
        std::printf("seed %ju\n", static_cast<uintmax_t>(options.seed));
        failed += run_random(options);
    }
    std::printf("%zu passed, %zu failed, 0 skipped\n", checks - failed,
                failed);
    return failed ? 1 : 0;
}

}  // namespace
}  // namespace oracle

int main(int argc, char **argv) {
    try {
        return oracle::run(argc, argv);
    } catch (const std::exception &e) {
        std::fprintf(stderr, "oracle: %s\n", e.what());
        return 1;
    }
}
