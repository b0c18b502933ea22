// SPDX-License-Identifier: Apache-2.0
// xdp-flowerd: TC flower filters executed in XDP.
//
//   xdp-flowerd run [--config FILE] [--control PATH] [--trust-no-address]
//                   [--receive-buffer BYTES] [DEVICE...]
//   xdp-flowerd stats [--json] [--control PATH]
//   xdp-flowerd explain [--control PATH] [DEVICE]
#include <poll.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <array>

#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <fstream>
#include <sstream>

#include "flowerd/control.h"
#include "flowerd/daemon.h"

namespace flowerd {
namespace {

using flowxlate::Fd;

constexpr const char *kUsage =
    "usage: xdp-flowerd run [--config FILE] [--control PATH]\n"
    "                       [--trust-no-address]\n"
    "                       [--receive-buffer BYTES] [DEVICE...]\n"
    "       xdp-flowerd stats [--json] [--control PATH]\n"
    "       xdp-flowerd explain [--control PATH] [DEVICE]\n";
constexpr int kUsageError = 2;

struct Arguments {
    std::string command, config, control = "/run/xdp-flowerd.sock";
    bool json = false;
    std::vector<std::string> names;
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
            a->names.push_back(word);
        }
    }
    const bool takes_names = a->command == "run"
                          || (a->command == "explain" && a->names.size() < 2);
    return good && (a->names.empty() || takes_names)
        && (a->config.empty() || a->command == "run")
        && (!a->json || a->command == "stats")
        && (a->command == "run" || a->command == "stats"
            || a->command == "explain");
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
            a->names.push_back(key);
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

int complain(const Failure &f) {
    std::fprintf(stderr, "xdp-flowerd: %s\n", f.message.c_str());
    return EXIT_FAILURE;
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

std::string answer(Daemon *daemon, const std::string &line) {
    std::istringstream words(line);
    std::string command, argument;
    words >> command >> argument;
    if (command == "stats") {
        const auto text = daemon->stats(argument == "--json");
        return text.empty() ? "no device\n" : text;
    }
    if (command == "explain") {
        const auto text = daemon->explain(argument);
        return text.empty() ? "no filter\n" : text;
    }
    return "no such command\n";
}

void loop(Daemon *daemon, Control *control, const Fd &signals,
          const Fd &timer) {
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
            control->serve(
                [&](const std::string &line) { return answer(daemon, line); });
        }
    }
}

int run(Arguments a) {
    if (!a.config.empty()) {
        if (auto f = read_config(&a)) {
            return complain(f);
        }
    }
    a.settings.devices = a.names;
    if (a.names.empty()) {
        return complain({EINVAL, "no device is named"});
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
    line += a.names.empty() ? "" : " " + a.names[0];
    if (auto f = ask(a.control, line, &reply)) {
        return complain(f);
    }
    std::fputs(reply.c_str(), stdout);
    return EXIT_SUCCESS;
}

int main_of(int argc, char **argv) {
    Arguments a;
    if (!parse(argc, argv, &a)) {
        std::fputs(kUsage, stderr);
        return kUsageError;
    }
    return a.command == "run" ? run(std::move(a)) : ask_daemon(a);
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
