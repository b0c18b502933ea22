// SPDX-License-Identifier: Apache-2.0
#include "kernel/realtime.h"

#include <sys/utsname.h>

#include <cstdio>
#include <fstream>
#include <utility>

namespace flowxlate {
namespace {

constexpr std::pair kFirstWithoutLock{6, 18};
constexpr const char *kOption = "CONFIG_PREEMPT_RT_NEEDS_BH_LOCK";

bool is_realtime(const std::string &version, const std::string &root) {
    int realtime = 0;
    std::ifstream(root + "/sys/kernel/realtime") >> realtime;
    return realtime || version.find("PREEMPT_RT") != std::string::npos;
}

// A release that cannot be read is a new one.
bool has_dropped_lock(const std::string &release) {
    std::pair version = kFirstWithoutLock;
    (void)std::sscanf(release.c_str(), "%d.%d", &version.first,
                      &version.second);
    return version >= kFirstWithoutLock;
}

}  // namespace

std::string why_programs_overlap(const std::string &release,
                                 const std::string &version,
                                 const std::string &root) {
    if (!is_realtime(version, root) || !has_dropped_lock(release)) {
        return {};
    }
    const std::string needs =
        std::string("Linux ") + release
        + " with CONFIG_PREEMPT_RT is supported only with " + kOption
        + "=y, without which XDP programs interrupt each other on a CPU";
    const std::string files[] = {"/boot/config-" + release,
                                 "/lib/modules/" + release + "/config"};
    for (auto &file : files) {
        std::ifstream config(root + file);
        for (std::string line; std::getline(config, line);) {
            if (line == std::string(kOption) + "=y") {
                return {};
            }
        }
        if (config.eof()) {
            return std::string(needs).append(", and ").append(file).append(
                " does not have it");
        }
    }
    return needs + ", and neither " + files[0] + " nor " + files[1]
         + " says whether it has it";
}

std::string why_programs_overlap() {
    utsname names{};
    (void)uname(&names);
    return why_programs_overlap(names.release, names.version);
}

}  // namespace flowxlate
