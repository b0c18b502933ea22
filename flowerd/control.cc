// SPDX-License-Identifier: Apache-2.0
#include "flowerd/control.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace flowerd {
namespace {

using flowxlate::Fd;

// The daemon does nothing else meanwhile.
constexpr timeval kPatience{0, 250'000};
constexpr size_t kLongestRequest = 65536;  // A packet has up to 9000 bytes.
constexpr size_t kLongestReply = SIZE_MAX;
constexpr int kWaiting = 8;

Failure open_socket(const std::string &path, Fd *fd, sockaddr_un *address) {
    *address = {};
    address->sun_family = AF_UNIX;
    if (path.size() >= sizeof address->sun_path) {
        return {ENAMETOOLONG, path + ": too long for a socket"};
    }
    std::memcpy(address->sun_path, path.c_str(), path.size() + 1);
    *fd = Fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    return *fd ? Failure{} : flowxlate::failure(errno, "cannot open a socket");
}

int connect_to(const Fd &fd, const sockaddr_un &address) {
    return connect(fd.get(), reinterpret_cast<const sockaddr *>(&address),
                   sizeof address)
             ? errno
             : 0;
}

void send_all(int fd, std::string_view text) {
    while (!text.empty()) {
        const ssize_t n = send(fd, text.data(), text.size(), MSG_NOSIGNAL);
        if (n <= 0) {
            return;  // Whoever asked has gone, or does not read.
        }
        text.remove_prefix(n);
    }
}

std::string receive(int fd, size_t longest,
                    const std::function<bool(const std::string &)> &is_whole) {
    std::string text;
    std::array<char, 65536> buffer;
    for (;;) {
        const ssize_t n = recv(fd, buffer.data(), buffer.size(), 0);
        if (n <= 0) {
            return text;
        }
        text.append(buffer.data(), n);
        if (text.size() > longest) {
            return {};
        }
        if (is_whole(text)) {
            return text;
        }
    }
}

}  // namespace

Control::~Control() {
    if (socket_) {
        unlink(path_.c_str());
    }
}

Failure Control::open(const std::string &path) {
    sockaddr_un address;
    Fd fd, probe;
    if (auto f = open_socket(path, &fd, &address)) {
        return f;
    }
    if (auto f = open_socket(path, &probe, &address)) {
        return f;
    }
    if (!connect_to(probe, address)) {
        return {EEXIST, path + ": another xdp-flowerd serves it"};
    }
    unlink(path.c_str());
    const mode_t old = umask(0077);
    const int error =
        bind(fd.get(), reinterpret_cast<sockaddr *>(&address), sizeof address)
            ? errno
            : 0;
    umask(old);
    if (error || listen(fd.get(), kWaiting)) {
        return flowxlate::failure(error ? error : errno, path);
    }
    path_ = path;
    socket_ = std::move(fd);
    return {};
}

void Control::serve(const IsWhole &is_whole, const Answer &answer) {
    const Fd peer(accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!peer) {
        return;
    }
    for (int option : {SO_RCVTIMEO, SO_SNDTIMEO}) {
        (void)setsockopt(peer.get(), SOL_SOCKET, option, &kPatience,
                         sizeof kPatience);
    }
    const std::string request = receive(peer.get(), kLongestRequest, is_whole);
    if (is_whole(request)) {
        send_all(peer.get(), answer(request));
    }
}

Failure ask(const std::string &path, const std::string &line,
            std::string *reply) {
    sockaddr_un address;
    Fd fd;
    if (auto f = open_socket(path, &fd, &address)) {
        return f;
    }
    if (int error = connect_to(fd, address)) {
        return flowxlate::failure(error, "no xdp-flowerd at " + path);
    }
    send_all(fd.get(), line + "\n");
    *reply = receive(fd.get(), kLongestReply,
                     [](const std::string &) { return false; });
    return reply->empty() ? Failure{EIO, "no answer from xdp-flowerd"}
                          : Failure{};
}

}  // namespace flowerd
