// SPDX-License-Identifier: Apache-2.0
#include "appctl.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "flowxlate/base/resource.h"

extern char **environ;

namespace flowxlate {
namespace {

std::string read_all(const Fd &fd) {
    std::string text;
    char buffer[4096];
    for (;;) {
        const ssize_t n = read(fd.get(), buffer, sizeof buffer);
        if (n > 0) {
            text.append(buffer, n);
        } else if (n == 0 || errno != EINTR) {
            return text;
        }
    }
}

int wait_for(pid_t pid) {
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return status;
}

// Starts it with standard output and error in 'out'.
int spawn(std::vector<const char *> argv, int out, pid_t *pid) {
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    argv.push_back(nullptr);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, out, STDERR_FILENO);
    // Ctrl-C is for us: what is on its way must still be ended.
    posix_spawnattr_init(&attr);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP);
    const int error =
        posix_spawnp(pid, argv[0], &actions, &attr,
                     const_cast<char *const *>(argv.data()), environ);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attr);
    return error;
}

}  // namespace

Failure appctl(const std::string &target, const std::vector<std::string> &args,
               std::string *reply) {
    std::vector<const char *> argv{"ovs-appctl", "--timeout=30", "-t",
                                   target.c_str()};
    for (auto &arg : args) {
        argv.push_back(arg.c_str());
    }
    int ends[2];
    if (pipe2(ends, O_CLOEXEC)) {
        return failure(errno, "cannot make a pipe");
    }
    const Fd from(ends[0]);
    Fd to(ends[1]);
    pid_t pid;
    if (int error = spawn(argv, to.get(), &pid)) {
        return failure(error, "cannot run ovs-appctl");
    }
    to = Fd();
    *reply = read_all(from);
    const int status = wait_for(pid);
    if (!WIFEXITED(status) || WEXITSTATUS(status)) {
        return {EIO, "ovs-appctl -t " + target + " " + args.front()
                         + " fails: " + *reply};
    }
    return {};
}

}  // namespace flowxlate
