// SPDX-License-Identifier: Apache-2.0
// Owners of file descriptors and memory mappings.
#ifndef FLOWXLATE_RESOURCE_H
#define FLOWXLATE_RESOURCE_H

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <span>
#include <utility>

namespace flowxlate {

class Fd {
public:
    Fd() = default;
    explicit Fd(int fd) : fd_(fd) {}
    Fd(Fd &&o) noexcept : fd_(std::exchange(o.fd_, -1)) {}
    Fd &operator=(Fd &&o) noexcept {
        std::swap(fd_, o.fd_);
        return *this;
    }
    ~Fd() {
        if (fd_ >= 0) {
            close(fd_);
        }
    }
    int get() const { return fd_; }
    explicit operator bool() const { return fd_ >= 0; }

private:
    int fd_ = -1;
};

// 'size' bytes of shared memory behind a file descriptor.
class Mapping {
public:
    Mapping() = default;
    Mapping(int fd, size_t size)
        : base_(
            mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)),
          size_(size) {}
    Mapping(Mapping &&o) noexcept
        : base_(std::exchange(o.base_, MAP_FAILED)), size_(o.size_) {}
    Mapping &operator=(Mapping &&o) noexcept {
        std::swap(base_, o.base_);
        std::swap(size_, o.size_);
        return *this;
    }
    ~Mapping() {
        if (base_ != MAP_FAILED) {
            munmap(base_, size_);
        }
    }
    explicit operator bool() const { return base_ != MAP_FAILED; }
    size_t size() const { return size_; }

    template <typename T>
    std::span<T> as(size_t n) const {
        return {static_cast<T *>(base_), n};
    }

private:
    void *base_ = MAP_FAILED;
    size_t size_ = 0;
};

}  // namespace flowxlate

#endif
