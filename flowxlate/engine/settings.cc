// SPDX-License-Identifier: Apache-2.0
#include "engine/settings.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <iterator>
#include <string_view>
#include <utility>

namespace flowxlate {
namespace {

constexpr uint32_t kMinFlows = 16;
constexpr uint32_t kMaxFlows = 1U << 24;
constexpr uint32_t kMaxConnections = 1U << 20;
constexpr uint32_t kMaxMemoryMib = 1U << 20;
constexpr uint32_t kMinOrphanTimeout = 10;
constexpr uint32_t kMaxSeconds = 86400;

Reject parse_number(std::string_view text, uint32_t min, uint32_t max,
                    const char *wrong, uint32_t *out) {
    uint32_t n;
    const char *all = text.data() + text.size();
    auto [end, error] = std::from_chars(text.data(), all, n);
    if (error != std::errc{} || end != all || n < min || n > max) {
        return {"option", wrong, EINVAL};
    }
    *out = n;
    return {};
}

Reject parse_seconds(std::string_view text, uint32_t min, const char *wrong,
                     std::chrono::seconds *out) {
    uint32_t seconds;
    if (auto r = parse_number(text, min, kMaxSeconds, wrong, &seconds)) {
        return r;
    }
    *out = std::chrono::seconds(seconds);
    return {};
}

Reject parse_bool(std::string_view text, bool *out) {
    if (text != "true" && text != "false") {
        return {"option", "neither true nor false, ignored", EINVAL};
    }
    *out = text == "true";
    return {};
}

constexpr std::string_view kHook = "xdp-offload-hook";

}  // namespace

std::string refused_in_words(const ovs_offload_option &option,
                             const Reject &r) {
    return std::string("other_config:") + option.key + "=" + option.value
         + ": " + r.what;
}

bool HookWishes::is_one(std::string_view key) {
    return key == kHook
        || (key.starts_with(kHook) && key.size() > kHook.size() + 1
            && key[kHook.size()] == '-');
}

Reject HookWishes::set(const ovs_offload_option &option) {
    const std::string_view key = option.key, value = option.value;
    using Word = std::pair<std::string_view, HookWish>;
    const Word words[] = {{"auto", HookWish::kAuto},
                          {"xdp", HookWish::kXdp},
                          {"tc", HookWish::kTc}};
    const auto word = std::ranges::find(words, value, &Word::first);
    if (word == std::end(words)) {
        return {"option", "none of auto, xdp and tc, ignored", EINVAL};
    }
    if (key == kHook) {
        all_ = word->second;
    } else {
        ports_[std::string(key.substr(kHook.size() + 1))] = word->second;
    }
    return {};
}

HookWish HookWishes::of(std::string_view port) const {
    const auto it = ports_.find(port);
    return it == ports_.end() ? all_ : it->second;
}

Reject Settings::set(const ovs_offload_option &option) {
    const std::string_view key = option.key, value = option.value;
    if (HookWishes::is_one(key)) {
        return {};  // Not constant: Hooks::follow().
    }
    if (key == "xdp-offload-max-flows") {
        return parse_number(value, kMinFlows, kMaxFlows,
                            "not a number from 16 to 16777216, ignored",
                            &max_flows);
    }
    if (key == "xdp-offload-max-connections") {
        return parse_number(value, 1, kMaxConnections,
                            "not a number from 1 to 1048576, ignored",
                            &max_connections);
    }
    if (key == "xdp-offload-max-memory") {
        return parse_number(value, 0, kMaxMemoryMib,
                            "not a number of MiB from 0 to 1048576, ignored",
                            &max_memory_mib);
    }
    if (key == "xdp-offload-handover") {
        return parse_seconds(value, 0,
                             "not a number of seconds from 0 to 86400, "
                             "ignored",
                             &handover);
    }
    if (key == "xdp-offload-orphan-timeout") {
        return parse_seconds(value, kMinOrphanTimeout,
                             "not a number of seconds from 10 to 86400, "
                             "ignored",
                             &orphan_timeout);
    }
    for (auto [name, to] : {std::pair{"xdp-offload-generic", &allow_generic},
                            {"xdp-offload-system-ports", &system_ports},
                            {"xdp-offload-persist", &persist},
                            {"xdp-offload-inherit", &inherit},
                            {"xdp-offload-tap-tso", &tap_tso}}) {
        if (key == name) {
            return parse_bool(value, to);
        }
    }
    return {"option", "no such option, ignored", EINVAL};
}

std::vector<std::string> Settings::in_words() const {
    const auto number = [](const char *key, auto n) {
        return "xdp-offload-" + std::string(key) + "=" + std::to_string(n);
    };
    const auto flag = [](const char *key, bool on) {
        return "xdp-offload-" + std::string(key) + (on ? "=true" : "=false");
    };
    return {number("max-flows", max_flows),
            number("max-connections", max_connections),
            number("max-memory", max_memory_mib),
            flag("generic", allow_generic),
            flag("system-ports", system_ports),
            flag("tap-tso", tap_tso),
            flag("persist", persist),
            flag("inherit", inherit),
            number("handover", handover.count()),
            number("orphan-timeout", orphan_timeout.count())};
}

}  // namespace flowxlate
