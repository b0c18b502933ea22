// SPDX-License-Identifier: Apache-2.0
// Network namespaces of tests, in which threads and commands run.
#ifndef TESTS_BPF_NAMESPACE_H
#define TESTS_BPF_NAMESPACE_H

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <thread>

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

}  // namespace flowxlate::test

#endif
