// SPDX-License-Identifier: Apache-2.0
#include "text.h"

#include <time.h>

#include <cstdio>

namespace flowxlate {
namespace {

constexpr uint64_t kSecond = 1'000'000'000;
constexpr size_t kEthernet = 14;

std::string mac(const uint8_t *p) {
    char text[18];
    std::snprintf(text, sizeof text, "%02x:%02x:%02x:%02x:%02x:%02x", p[0],
                  p[1], p[2], p[3], p[4], p[5]);
    return text;
}

}  // namespace

std::string fate_of(const Packet &p) {
    std::string text = p.verdict();
    for (auto &ufid : p.flows) {
        text +=
            ufid == Ufid{} ? ", flow not known" : ", ufid:" + ufid.to_string();
    }
    return text;
}

std::string line_of(const Packet &p) {
    const auto seconds = static_cast<time_t>(p.time_ns / kSecond);
    tm local{};
    localtime_r(&seconds, &local);
    char text[64];
    std::snprintf(text, sizeof text, "%02d:%02d:%02d.%09u", local.tm_hour,
                  local.tm_min, local.tm_sec,
                  static_cast<unsigned>(p.time_ns % kSecond));
    std::string line = text;
    if (p.data.size() >= kEthernet) {
        const uint8_t *d = p.data.data();
        std::snprintf(text, sizeof text, ", type 0x%02x%02x", d[12], d[13]);
        line += " " + mac(d + 6) + " > " + mac(d) + text;
    }
    return line + ", " + std::to_string(p.frame_len) + " bytes, " + fate_of(p)
         + "\n";
}

}  // namespace flowxlate
