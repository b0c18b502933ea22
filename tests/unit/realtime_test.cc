// SPDX-License-Identifier: Apache-2.0
#include "flowxlate/kernel/realtime.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

namespace flowxlate {
namespace {

namespace fs = std::filesystem;

constexpr const char *kPlain = "#1 SMP PREEMPT_DYNAMIC Debian 7.3.4-1";
constexpr const char *kRealtime = "#1 SMP PREEMPT_RT Debian 7.3.4-1";
constexpr const char *kWith = "CONFIG_PREEMPT_RT_NEEDS_BH_LOCK=y\n";
constexpr const char *kWithout =
    "CONFIG_PREEMPT_RT=y\n# CONFIG_PREEMPT_RT_NEEDS_BH_LOCK is not set\n";

struct Kernel {
    const char *release, *version;
    const char *realtime;  // /sys/kernel/realtime, if it is there.
    const char *boot, *modules;
    const char *why;  // In the reason; nullptr: it may run.
};

constexpr Kernel kKernels[] = {
    {"6.18.5", kPlain, nullptr, nullptr, nullptr, nullptr},
    {"6.18.5", kPlain, nullptr, kWithout, nullptr, nullptr},
    {"6.1.0-56-rt-amd64", kRealtime, "1", nullptr, nullptr, nullptr},
    {"6.17.13+rt", kRealtime, nullptr, kWithout, nullptr, nullptr},
    {"6.18.0", kRealtime, nullptr, kWithout, nullptr, "does not have it"},
    {"6.18.0", kPlain, "1", kWithout, nullptr, "does not have it"},
    {"6.18.0", kPlain, "0", kWithout, nullptr, nullptr},
    {"6.18.0", kRealtime, nullptr, kWith, nullptr, nullptr},
    {"6.18.0", kRealtime, nullptr, nullptr, kWith, nullptr},
    {"6.18.0", kRealtime, nullptr, nullptr, kWithout, "does not have it"},
    {"7.3.4+deb13-rt-amd64", kRealtime, nullptr, nullptr, nullptr,
     "says whether"},
    {"10.0", kRealtime, nullptr, nullptr, nullptr, "says whether"},
    {"unreadable", kRealtime, nullptr, nullptr, nullptr, "says whether"},
};

void write(const fs::path &path, const char *text) {
    if (text) {
        fs::create_directories(path.parent_path());
        std::ofstream(path) << text;
    }
}

TEST(Realtime, RefusesWhereProgramsInterruptEachOther) {
    for (auto &kernel : kKernels) {
        std::string root = fs::temp_directory_path() / "realtime.XXXXXX";
        ASSERT_NE(mkdtemp(root.data()), nullptr);
        const std::string release = kernel.release;
        write(root + "/sys/kernel/realtime", kernel.realtime);
        write(root + "/boot/config-" + release, kernel.boot);
        write(root + "/lib/modules/" + release + "/config", kernel.modules);

        const auto why = why_programs_overlap(release, kernel.version, root);
        fs::remove_all(root);
        SCOPED_TRACE(release + " " + kernel.version + ": " + why);
        EXPECT_EQ(why.empty(), kernel.why == nullptr);
        if (kernel.why) {
            EXPECT_NE(why.find(kernel.why), std::string::npos);
            EXPECT_NE(why.find("CONFIG_PREEMPT_RT_NEEDS_BH_LOCK=y"),
                      std::string::npos);
        }
    }
}

}  // namespace
}  // namespace flowxlate
