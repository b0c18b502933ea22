// SPDX-License-Identifier: Apache-2.0
// Network namespaces of tests, in which threads and commands run, and traffic between
// them.
#ifndef TESTS_BPF_NAMESPACE_H
#define TESTS_BPF_NAMESPACE_H

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "flowxlate/base/resource.h"

namespace flowxlate::test {

inline int this_namespace() { return open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC); }

// A network namespace without a name, which ends with it.
class Namespace {
public:
    Namespace() {
        std::thread([this] {
            if (!unshare(CLONE_NEWNET)) {
                fd_ = Fd(this_namespace());
            }
        }).join();
    }
    // What 'ip' knows it by.
    std::string path() const { return "/proc/" + std::to_string(getpid()) + "/fd/" + std::to_string(fd_.get()); }
    void enter() const { ASSERT_EQ(setns(fd_.get(), CLONE_NEWNET), 0); }
    template <typename Fn>
    auto in(Fn fn) const {
        const Fd here(this_namespace());
        struct Back {
            int fd;
            ~Back() { setns(fd, CLONE_NEWNET); }
        } back{here.get()};
        setns(fd_.get(), CLONE_NEWNET);
        return fn();
    }
    void sh(const std::string &command) const {
        EXPECT_EQ(in([&] { return std::system((command + " >/dev/null 2>&1").c_str()); }), 0) << command;
    }

private:
    Fd fd_;
};

// What a device has received and sent, by its own figures.
struct DeviceFigures {
    uint64_t rx_bytes = 0, tx_packets = 0;
};
inline DeviceFigures device_figures(const Namespace &ns, const std::string &device) {
    return ns.in([&] {
        std::ifstream file("/proc/thread-self/net/dev");
        for (std::string line; std::getline(file, line);) {
            const auto at = line.find(device + ":");
            if (at != std::string::npos) {
                uint64_t field[10] = {};
                std::istringstream words(line.substr(at + device.size() + 1));
                for (auto &f : field) {
                    words >> f;
                }
                return DeviceFigures{field[0], field[9]};
            }
        }
        return DeviceFigures{};
    });
}

// Sends 'bytes' of TCP from one socket to another, which has an address.  Returns how many
// have come.
inline size_t send_tcp(const Fd &sender, const Fd &listener, const sockaddr *there, socklen_t len, size_t bytes) {
    size_t n = 0;
    EXPECT_EQ(listen(listener.get(), 1), 0);
    std::thread receiver([&] {
        const Fd peer(accept(listener.get(), nullptr, nullptr));
        std::vector<char> buffer(1 << 18);
        for (ssize_t got; (got = read(peer.get(), buffer.data(), buffer.size())) > 0;) {
            n += got;
        }
    });
    if (!::connect(sender.get(), there, len)) {
        const std::vector<char> block(1 << 18);
        for (size_t sent = 0; sent < bytes;) {
            const ssize_t some = write(sender.get(), block.data(), std::min(block.size(), bytes - sent));
            if (some <= 0) {
                break;
            }
            sent += some;
        }
        shutdown(sender.get(), SHUT_WR);
    }
    receiver.join();
    return n;
}

}  // namespace flowxlate::test

#endif
