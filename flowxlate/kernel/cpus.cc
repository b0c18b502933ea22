// SPDX-License-Identifier: Apache-2.0
#include "kernel/cpus.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <fstream>
#include <string>

namespace flowxlate {
namespace {

constexpr uint32_t kMaxCpus = 8192;  // CONFIG_NR_CPUS cannot be larger.

// Takes a number off the beginning of 'text'.
bool take_number(std::string_view *text, uint32_t *n) {
    const char *end = text->data() + text->size();
    auto [rest, error] = std::from_chars(text->data(), end, *n);
    text->remove_prefix(rest - text->data());
    return error == std::errc{} && *n < kMaxCpus;
}

std::vector<bool> read_cpu_list(const char *name) {
    std::ifstream file(std::string("/sys/devices/system/cpu/") + name);
    std::string line;
    std::getline(file, line);
    return parse_cpu_list(line);
}

}  // namespace

std::vector<bool> parse_cpu_list(std::string_view text) {
    std::vector<bool> cpus;
    while (!text.empty()) {
        uint32_t first, last;
        if (!take_number(&text, &first)) {
            return {};
        }
        last = first;
        if (text.starts_with('-')) {
            text.remove_prefix(1);
            if (!take_number(&text, &last) || last < first) {
                return {};
            }
        }
        cpus.resize(std::max<size_t>(cpus.size(), last + 1));
        std::fill(cpus.begin() + first, cpus.begin() + last + 1, true);
        if (text.starts_with(',')) {
            text.remove_prefix(1);
        } else if (!text.empty()) {
            return {};
        }
    }
    return cpus;
}

Failure find_cpus(std::vector<bool> *is_online) {
    const std::vector<bool> possible = read_cpu_list("possible");
    *is_online = read_cpu_list("online");
    if (possible.empty() || is_online->empty()) {
        return failure(ENOENT, "cannot count the CPUs");
    }
    is_online->resize(std::max(possible.size(), is_online->size()));
    return {};
}

}  // namespace flowxlate
