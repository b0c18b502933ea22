// SPDX-License-Identifier: Apache-2.0
#include "kernel/pins.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "base/capabilities.h"
#include "kernel/loaded.h"

namespace flowxlate {
namespace {

// Makes 'path' a directory of this process's user.  Only root can take one of
// another user, as the open() below fails for others.
Pins::NotKept claim(const std::string &path) {
    const std::string give =
        "as root, \"prepare-pins USER\" of the package gives it to "
        "ovs-vswitchd's user (install.md, \"Privileges\")";
    const std::string end =
        "as root, \"rm -r " + path + "\" ends the flows that are kept there";
    if (mkdir(path.c_str(), 0700) && errno != EEXIST) {
        const int error = errno;
        return {error, "cannot make " + path + ": " + std::strerror(error),
                error == EACCES ? give : "mend that file system"};
    }
    struct stat st, now;
    const Fd dir(
        ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!dir || fstat(dir.get(), &st)) {
        const int error = errno;
        return {error, "cannot open " + path + ": " + std::strerror(error),
                error == EACCES ? give : end};
    }
    if (st.st_mode & 077) {
        return {EPERM, path + " is open to other users", end};
    }
    if (st.st_uid != geteuid() && fchown(dir.get(), geteuid(), getegid())) {
        return {errno, path + " is another user's", give};
    }
    // Its owner may have put another in its place meanwhile.
    if (lstat(path.c_str(), &now) || now.st_ino != st.st_ino
        || now.st_uid != geteuid()) {
        return {EPERM, path + " has been replaced", end};
    }
    return {};
}

}  // namespace

Pins::NotKept Pins::open(const std::string &directory) {
    struct statfs fs;
    const auto parent =
        std::filesystem::path(directory).parent_path().string();
    if (statfs(parent.c_str(), &fs) || fs.f_type != BPF_FS_MAGIC) {
        return {ENOENT, "no BPF file system is mounted on " + parent,
                "\"mount -t bpf bpf " + parent
                    + "\" where ovs-vswitchd can see it"};
    }
    if (auto f = claim(directory)) {
        return f;
    }
    directory_ = directory;
    {
        MutexLock lock(mutex_);
        inherit();
    }
    if (!may_administrate()) {
        directory_.clear();  // The next process could not take over, either.
        return {EPERM, "that takes CAP_SYS_ADMIN", "give it to ovs-vswitchd"};
    }
    return {};
}

void Pins::inherit() {
    namespace fs = std::filesystem;
    const uint64_t here = netns_cookie();
    std::error_code error;
    for (fs::directory_iterator i(directory_, error), end; !error && i != end;
         i.increment(error)) {
        uint64_t netns;
        uint32_t array;
        int ifindex;
        if (std::sscanf(i->path().filename().c_str(),
                        "shared-%" SCNu64 "-%" SCNu32, &netns, &array)
            == 2) {
            arrays_.emplace(array, i->path());
            continue;
        }
        if (std::sscanf(i->path().filename().c_str(), "link-%" SCNu64 "-%d",
                        &netns, &ifindex)
            != 2) {
            continue;
        }
        Inherited there;
        there.link = Fd(bpf_obj_get(i->path().c_str()));
        if (!there.link || look_at_link(there.link, &there.program)) {
            continue;
        }
        if (!index(there.program.ifindex)) {  // Its device is gone.
            (void)unlink(i->path().c_str());
        } else if (netns == here) {
            inherit(i->path(), Ifindex{ifindex}, std::move(there));
        }
    }
}

void Pins::inherit(const std::string &path, Ifindex ifindex, Inherited there) {
    if (!may_administrate()) {
        // It cannot be opened, so nobody would tend it.
        (void)bpf_link_detach(there.link.get());
        (void)unlink(path.c_str());
    } else if (there.program.prog && is_ours(&there.program, &programs_)) {
        inherited_.emplace(ifindex, std::move(there));
    }
}

std::string Pins::path(Ifindex ifindex) const {
    return directory_ + "/link-" + std::to_string(netns_cookie()) + "-"
         + std::to_string(index(ifindex));
}

std::optional<Pins::Inherited> Pins::take(Ifindex ifindex) {
    MutexLock lock(mutex_);
    auto node = inherited_.extract(ifindex);
    LinkedProgram now;
    if (node.empty()) {
        return {};
    }
    if (look_at_link(node.mapped().link, &now) || !is_on(now, ifindex)) {
        inherited_.insert(std::move(node));  // Its device is elsewhere.
        return {};
    }
    taken_arrays_.insert(node.mapped().program.shared_id);
    return std::move(node.mapped());
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

std::string Pins::shared_path(uint32_t id) const {
    return directory_ + "/shared-" + std::to_string(netns_cookie()) + "-"
         + std::to_string(id);
}

Failure Pins::keep_shared(const Fd &array) const {
    if (usable()
        && bpf_obj_pin(array.get(), shared_path(map_id(array)).c_str())) {
        return failure(errno, "cannot keep the XDP program in " + directory_);
    }
    return {};
}

void Pins::forget_shared(const Fd &array) const {
    if (usable()) {
        (void)unlink(shared_path(map_id(array)).c_str());
    }
}

// May what is pinned at 'path' be a link whose program calls another one by
// the array?  Also if it cannot be looked at.
bool Pins::may_call(const std::string &path, uint32_t array_id) {
    LinkedProgram there;
    const Fd link(bpf_obj_get(path.c_str()));
    if (!link) {
        return errno != ENOENT;
    }
    if (look_at_link(link, &there) || (there.prog_id && !there.prog)) {
        return true;
    }
    return is_ours(&there, &programs_) && there.shared_id == array_id;
}

// Does a link that is kept, of whatever namespace, call a program by the
// array?
bool Pins::is_needed(uint32_t array_id) {
    namespace fs = std::filesystem;
    std::error_code error;
    for (fs::directory_iterator i(directory_, error), end; !error && i != end;
         i.increment(error)) {
        if (i->path().filename().string().starts_with("link-")
            && may_call(i->path(), array_id)) {
            return true;
        }
    }
    return static_cast<bool>(error);
}

// A process that lives keeps an array before it keeps the first link.
void Pins::remove_unused_arrays() {
    std::erase_if(arrays_, [&](const auto &pinned) REQUIRES(mutex_) {
        const auto &[id, path] = pinned;
        const Fd array(bpf_obj_get(path.c_str()));
        if (!array) {
            return true;
        }
        const auto program = called_by(array, &programs_);
        const bool may_live = program && is_tended(*program);
        if ((may_live && !taken_arrays_.contains(id)) || is_needed(id)) {
            return false;
        }
        (void)unlink(path.c_str());
        return true;
    });
}

size_t Pins::remove_orphans() {
    if (!usable()) {
        return 0;  // There is no telling whose flows would end.
    }
    MutexLock lock(mutex_);
    size_t removed = 0;
    std::erase_if(inherited_, [&](const auto &entry) {
        const auto &[ifindex, left] = entry;
        LinkedProgram now;
        if (look_at_link(left.link, &now) || !index(now.ifindex)
            || now.prog_id != left.program.prog_id) {
            return true;  // Its device is gone, or somebody has taken over.
        }
        if (left.program.earlier && is_tended(*left.program.earlier)) {
            return false;
        }
        // Not the link of another device that has the index now.
        if (const Fd pinned(bpf_obj_get(path(ifindex).c_str()));
            pinned && !look_at_link(pinned, &now)
            && now.prog_id == left.program.prog_id) {
            forget(ifindex);
        }
        (void)bpf_link_detach(left.link.get());
        removed++;
        return true;
    });
    remove_unused_arrays();
    return removed;
}

}  // namespace flowxlate
