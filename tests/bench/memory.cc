// SPDX-License-Identifier: Apache-2.0
#include "memory.h"

#include <bpf/bpf.h>
#include <malloc.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <string>

namespace flowxlate::bench {
size_t bpf_object_bytes(int fd, std::string *name) {
    std::ifstream info("/proc/self/fdinfo/" + std::to_string(fd));
    std::string word;
    size_t bytes = 0;
    while (info >> word) {
        if (word == "memlock:") {
            info >> bytes;
        } else if (word == "map_id:" || word == "prog_id:") {
            *name = word;
            info >> word;
            *name += word;
        }
    }
    bpf_prog_info prog{};
    uint32_t len = sizeof prog;
    if (name->starts_with("prog_id:")
        && !bpf_obj_get_info_by_fd(fd, &prog, &len)) {
        bytes += prog.jited_prog_len;
    }
    return name->empty() ? 0 : bytes;
}

double memory_bytes() {
    namespace fs = std::filesystem;
    std::map<std::string, size_t> objects;
    for (auto &entry : fs::directory_iterator("/proc/self/fd")) {
        std::string name;
        const size_t bytes =
            bpf_object_bytes(std::stoi(entry.path().filename()), &name);
        if (!name.empty()) {
            objects[name] = bytes;
        }
    }
    const auto heap = mallinfo2();
    double sum = heap.uordblks + heap.hblkhd;
    for (auto &[name, bytes] : objects) {
        sum += bytes;
    }
    return sum;
}

}  // namespace flowxlate::bench
