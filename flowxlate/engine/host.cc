// SPDX-License-Identifier: Apache-2.0
#include "engine/host.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>

namespace flowxlate {
namespace {

// What OVS gives away.
struct FreeDeleter {
    void operator()(void *p) const { std::free(p); }
};
template <typename T>
using FromHost = std::unique_ptr<T, FreeDeleter>;

std::string text_or(const FromHost<char> &text, const char *otherwise) {
    return text ? text.get() : otherwise;
}

}  // namespace

ovs_offload_host Host::completed(const ovs_offload_host &host) {
    ovs_offload_host h{};
    std::memcpy(&h, &host, std::min<size_t>(host.size, sizeof h));
    if (!h.has_port) {
        h.has_port = [](const char *, const char *) { return true; };
    }
    return h;
}

Ifindex Host::Ask::port_ifindex(const char *dpif_type, OdpPort port) const {
    return Ifindex{host_.port_ifindex(dpif_type, index(port))};
}

bool Host::Ask::has_port(const std::string &dpif_type,
                         const std::string &name) const {
    return host_.has_port(dpif_type.c_str(), name.c_str());
}

std::string Host::Ask::flow_text(const ovs_offload_flow &f) const {
    const FromHost<char> text(host_.flow_text ? host_.flow_text(&f) : nullptr);
    return text_or(text, "(no text of it)");
}

std::string Host::Ask::compose(const std::string &flow,
                               std::vector<std::byte> *packet) const {
    uint8_t *bytes = nullptr;
    size_t n = 0;
    const FromHost<char> wrong(host_.compose(flow.c_str(), &bytes, &n));
    const FromHost<uint8_t> frame(bytes);
    if (wrong) {
        return wrong.get();
    }
    const auto *begin = reinterpret_cast<const std::byte *>(bytes);
    packet->assign(begin, begin + n);
    return "";
}

std::string Host::Ask::trace(const std::string &dpif_type,
                             const std::string &port,
                             const std::string &hex) const {
    const FromHost<char> text(
        host_.trace(dpif_type.c_str(), port.c_str(), hex.c_str()));
    return text_or(text, "not known");
}

}  // namespace flowxlate
