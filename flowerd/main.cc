// SPDX-License-Identifier: Apache-2.0
// xdp-flowerd: TC flower filters executed in XDP.
//
//   xdp-flowerd run [--config FILE] [--control PATH] [--trust-no-address]
//                   [--receive-buffer BYTES] [DEVICE...]
//   xdp-flowerd stats [--json] [--control PATH]
//   xdp-flowerd explain [--control PATH] [DEVICE [pref P]]
//   xdp-flowerd trace [--control PATH] DEVICE HEX|FILE|KEY VALUE...
//   xdp-flowerd status|show [--control PATH]
#include <poll.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <fstream>
#include <span>
#include <sstream>

#include "flowerd/commands.h"
#include "flowerd/compose.h"
#include "flowerd/control.h"
#include "flowerd/daemon.h"
#include "flowerd/packets.h"

namespace flowerd {
namespace {

using flowxlate::Fd;

constexpr const char *kUsage =
    "usage: xdp-flowerd run [--config FILE] [--control PATH]\n"
    "                       [--trust-no-address]\n"
    "                       [--receive-buffer BYTES] [DEVICE...]\n"
    "       xdp-flowerd stats [--json] [--control PATH]\n"
    "       xdp-flowerd explain [--control PATH] [DEVICE [pref P]]\n"
    "       xdp-flowerd trace [--control PATH] DEVICE HEX|FILE|KEY VALUE...\n"
    "       xdp-flowerd status|show [--control PATH]\n";
// Of each command, how many words may follow it.
constexpr size_t kAny = SIZE_MAX;
constexpr struct {
    const char *name;
    size_t min_words, max_words;
} kCommands[] = {
    {"run", 0, kAny},   {"stats", 0, 0},  {"explain", 0, 3},
    {"trace", 2, kAny}, {"status", 0, 0}, {"show", 0, 0},
};
constexpr int kUsageError = 2;  // Of the configuration as well: debian/.

struct Arguments {
    std::string command, config, control = "/run/xdp-flowerd.sock";
    bool json = false;
    std::vector<std::string> words;  // That follow it.
    Settings settings;
};

bool parse_number(const std::string &text, int *number) {
    const auto [end, error] =
        std::from_chars(text.data(), text.data() + text.size(), *number);
    return error == std::errc{} && end == text.data() + text.size()
        && *number > 0;
}

bool parse(int argc, char **argv, Arguments *a) {
    bool good = true;
    for (int i = 1; i < argc && good; i++) {
        const std::string word = argv[i];
        const bool has_value = i + 1 < argc;
        if (word == "--config" && has_value) {
            a->config = argv[++i];
        } else if (word == "--control" && has_value) {
            a->control = argv[++i];
        } else if (word == "--receive-buffer" && has_value) {
            good = parse_number(argv[++i], &a->settings.receive_buffer);
        } else if (word == "--trust-no-address") {
            a->settings.trusts_no_address = true;
        } else if (word == "--json") {
            a->json = true;
        } else if (word.starts_with("-")) {
            good = false;
        } else if (a->command.empty()) {
            a->command = word;
        } else {
            a->words.push_back(word);
        }
    }
    return good && (a->config.empty() || a->command == "run")
        && (!a->json || a->command == "stats")
        && std::ranges::any_of(kCommands, [&](const auto &c) {
               return a->command == c.name && a->words.size() >= c.min_words
                   && a->words.size() <= c.max_words;
           });
}

// Lines "device NAME", "option KEY VALUE" and "trust-no-address"; "#" begins a
// comment.
Failure read_config(Arguments *a) {
    std::ifstream file(a->config);
    if (!file) {
        return flowxlate::failure(errno, a->config);
    }
    int number = 0;
    for (std::string line; std::getline(file, line);) {
        number++;
        std::istringstream words(line.substr(0, line.find('#')));
        std::string what, key, value, more;
        words >> what >> key >> value >> more;
        if (what == "device" && !key.empty() && value.empty()) {
            a->words.push_back(key);
        } else if (what == "option" && !value.empty() && more.empty()) {
            a->settings.options.emplace_back("xdp-offload-" + key, value);
        } else if (what == "trust-no-address" && key.empty()) {
            a->settings.trusts_no_address = true;
        } else if (!what.empty()) {
            return {EINVAL, a->config + ":" + std::to_string(number)
                                + ": not \"device NAME\", \"option KEY VALUE\" or "
                                  "\"trust-no-address\""};
        }
    }
    return {};
}

int complain(const Failure &f, int status = EXIT_FAILURE) {
    std::fprintf(stderr, "xdp-flowerd: %s\n", f.message.c_str());
    return status;
}

// Blocked, so that they are read instead; threads inherit that.
Fd open_signals() {
    sigset_t set;
    sigemptyset(&set);
    for (int signal : {SIGTERM, SIGINT, SIGHUP}) {
        sigaddset(&set, signal);
    }
    pthread_sigmask(SIG_BLOCK, &set, nullptr);
    return Fd(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
}

Fd open_timer() {
    Fd timer(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
    const itimerspec each_second{{1, 0}, {1, 0}};
    timerfd_settime(timer.get(), 0, &each_second, nullptr);
    return timer;
}

void loop(Daemon *daemon, Control *control, const Fd &signals,
          const Fd &timer) {
    Commands commands(daemon);
    std::array<pollfd, 5> fds{{{signals.get(), POLLIN, 0},
                               {daemon->tc_fd(), POLLIN, 0},
                               {daemon->xdp_fd(), POLLIN, 0},
                               {timer.get(), POLLIN, 0},
                               {control->fd(), POLLIN, 0}}};
    for (;;) {
        if (poll(fds.data(), fds.size(), -1) < 0) {
            continue;
        }
        if (fds[0].revents) {
            return;
        }
        if (fds[1].revents) {
            daemon->follow_tc();
        }
        if (fds[2].revents) {
            daemon->follow_xdp();
        }
        uint64_t n_ticks;
        if (fds[3].revents
            && read(timer.get(), &n_ticks, sizeof n_ticks) > 0) {
            daemon->tick();
        }
        if (fds[4].revents) {
            control->serve(Commands::is_whole, [&](const std::string &asked) {
                return commands.answer(asked);
            });
        }
    }
}

int run(Arguments a) {
    if (!a.config.empty()) {
        if (auto f = read_config(&a)) {
            return complain(f, kUsageError);
        }
    }
    a.settings.devices = a.words;
    if (a.words.empty()) {
        return complain(
            {EINVAL, "no device is named"
                         + (a.config.empty() ? "" : " in " + a.config)},
            kUsageError);
    }
    const Fd signals = open_signals(), timer = open_timer();
    Control control;
    if (auto f = control.open(a.control)) {
        return complain(f);
    }
    std::unique_ptr<Daemon> daemon;
    if (auto f = Daemon::open(a.settings, &daemon)) {
        return complain(f);
    }
    std::fprintf(stderr, "xdp-flowerd: following TC\n");
    loop(daemon.get(), &control, signals, timer);
    std::fprintf(stderr, "xdp-flowerd: ends, TC is alone again\n");
    return EXIT_SUCCESS;
}

int ask_daemon(const Arguments &a) {
    std::string line = a.command, reply;
    line += a.json ? " --json" : "";
    for (const std::string &word : a.words) {
        line += " " + word;
    }
    if (auto f = ask(a.control, line, &reply)) {
        return complain(f);
    }
    if (reply.starts_with(kRefused)) {
        std::fprintf(stderr, "xdp-flowerd: %s",
                     reply.c_str() + kRefused.size());
        return EXIT_FAILURE;
    }
    std::fputs(reply.c_str(), stdout);
    return EXIT_SUCCESS;
}

// What is given as words, as a file, or as it goes to the daemon.
Failure read_packets(const Arguments &a, std::vector<std::string> *packets) {
    const std::string &given = a.words[1];
    if (a.words.size() > 2) {
        return compose(std::span(a.words).subspan(1),
                       &packets->emplace_back());
    }
    if (!access(given.c_str(), F_OK)) {
        return read_capture(given, packets);
    }
    packets->push_back(given);
    return {};
}

int trace(Arguments a) {
    std::vector<std::string> packets;
    if (auto f = read_packets(a, &packets)) {
        return complain(f);
    }
    a.words.resize(2);
    for (size_t i = 0; i < packets.size(); i++) {
        if (packets.size() > 1) {
            std::printf("%spacket %zu:\n", i ? "\n" : "", i + 1);
        }
        a.words[1] = packets[i];
        if (const int status = ask_daemon(a)) {
            return status;
        }
    }
    return EXIT_SUCCESS;
}

int main_of(int argc, char **argv) {
    Arguments a;
    if (!parse(argc, argv, &a)) {
        std::fputs(kUsage, stderr);
        return kUsageError;
    }
    return a.command == "run"   ? run(std::move(a))
         : a.command == "trace" ? trace(std::move(a))
                                : ask_daemon(a);
}

}  // namespace
}  // namespace flowerd

int main(int argc, char **argv) {
    try {
        return flowerd::main_of(argc, argv);
    } catch (const std::exception &e) {
        std::fprintf(stderr, "xdp-flowerd: %s\n", e.what());
        return EXIT_FAILURE;
    }
}
