// SPDX-License-Identifier: Apache-2.0
#include "pins.h"

#include <bpf/bpf.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <cerrno>
#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <filesystem>
#include <functional>

#include "loaded.h"

namespace flowxlate {
namespace {

constexpr const char *kCpuMapName = "xf_cpus";
// Longer than a living process ever leaves between two signs of life.
constexpr auto kSilence = std::chrono::seconds(10);

// Does somebody still move on the deadline of the program (struct xf_cpu)?
bool is_tended(const LinkedProgram &linked) {
    const auto map = linked.maps.find(kCpuMapName);
    const uint32_t first = 0;
    xf_cpu cpu{};
    if (map == linked.maps.end()
        || bpf_map_lookup_elem(map->second.get(), &first, &cpu)) {
        return false;
    }
    const std::chrono::nanoseconds now(
        std::chrono::steady_clock::now().time_since_epoch());
    return now - std::chrono::nanoseconds(cpu.alive_ns) < kSilence;
}

// Calls fn(path, netns, ifindex, link) for what is kept in the directory.
void for_each_pin(const std::string &directory,
                  const std::function<void(const std::string &, uint64_t,
                                           Ifindex, const Fd &)> &fn) {
    namespace fs = std::filesystem;
    std::error_code error;
    for (fs::directory_iterator i(directory, error), end; !error && i != end;
         i.increment(error)) {
        const std::string path = i->path();
        uint64_t netns;
        int ifindex;
        if (std::sscanf(i->path().filename().c_str(), "link-%" SCNu64 "-%d",
                        &netns, &ifindex)
            == 2) {
            fn(path, netns, Ifindex{ifindex}, Fd(bpf_obj_get(path.c_str())));
        }
    }
}

}  // namespace

Failure Pins::open(const std::string &directory) {
    struct statfs fs;
    const auto parent = std::filesystem::path(directory).parent_path();
    if (statfs(parent.c_str(), &fs) || fs.f_type != BPF_FS_MAGIC) {
        return {ENOENT, "no BPF file system is mounted on " + parent.string()};
    }
    if (mkdir(directory.c_str(), 0700) && errno != EEXIST) {
        return failure(errno, "cannot make " + directory);
    }
    struct stat st;
    if (lstat(directory.c_str(), &st)) {
        return failure(errno, "cannot look at " + directory);
    }
    if (!S_ISDIR(st.st_mode) || (st.st_uid != geteuid() && st.st_uid != 0)
        || (st.st_mode & 077)) {
        return {EPERM, directory + " must be a directory of OVS's own user, "
                                   "and closed to others"};
    }
    directory_ = directory;
    return {};
}

std::string Pins::path(Ifindex ifindex) const {
    return directory_ + "/link-" + std::to_string(netns_cookie()) + "-"
         + std::to_string(index(ifindex));
}

Fd Pins::find(Ifindex ifindex, LinkedProgram *there) const {
    if (!usable()) {
        return {};
    }
    Fd link(bpf_obj_get(path(ifindex).c_str()));
    if (!link || look_at_link(link, there) || there->ifindex != ifindex
        || !there->prog || !is_ours(there)) {
        return {};
    }
    return link;
}

Failure Pins::keep(const Fd &link, Ifindex ifindex) const {
    if (!usable()) {
        return {};
    }
    forget(ifindex);
    if (bpf_obj_pin(link.get(), path(ifindex).c_str())) {
        return failure(errno, "cannot keep the XDP program in " + directory_);
    }
    return {};
}

void Pins::forget(Ifindex ifindex) const {
    if (usable()) {
        (void)unlink(path(ifindex).c_str());
    }
}

void Pins::forget_detached() const {
    for_each_pin(
        directory_, [](const auto &path, uint64_t, Ifindex, const Fd &link) {
            LinkedProgram there;
            if (link && !look_at_link(link, &there) && !index(there.ifindex)) {
                (void)unlink(path.c_str());
            }
        });
}

size_t Pins::remove_orphans(const std::set<Ifindex> &ours) const {
    size_t n = 0;
    const uint64_t here = netns_cookie();
    for_each_pin(directory_, [&](const auto &path, uint64_t netns,
                                 Ifindex ifindex, const Fd &link) {
        LinkedProgram there;
        if (netns != here || ours.contains(ifindex) || !link
            || look_at_link(link, &there) || !there.prog || !is_ours(&there)
            || is_tended(there)) {
            return;
        }
        (void)bpf_link_detach(link.get());
        n += unlink(path.c_str()) == 0;
    });
    return n;
}

}  // namespace flowxlate
