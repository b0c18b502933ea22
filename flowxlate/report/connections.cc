// SPDX-License-Identifier: Apache-2.0
// Connections in words: xdp-offload/connections, and what show, explain and
// trace say of them.
#include "report/connections.h"

#include <arpa/inet.h>
#include <linux/openvswitch.h>
#include <netinet/in.h>

#include <algorithm>
#include <charconv>
#include <cinttypes>
#include <ctime>

#include "bpf/abi/conn.h"
#include "report/report.h"
#include "translate/describe.h"

namespace flowxlate {
namespace {

constexpr size_t kMaxListed = 10'000;

std::string address(const xf_conn &c, bool is_dst) {
    char text[INET6_ADDRSTRLEN];
    const bool v4 = c.cls == XF_CLASS_IPV4;
    const auto *bytes = reinterpret_cast<const uint8_t *>(c.addr)
                      + (is_dst ? (v4 ? 4 : 16) : 0);
    return inet_ntop(v4 ? AF_INET : AF_INET6, bytes, text, sizeof text);
}

// As ovs-appctl dpctl/dump-conntrack has it.
std::string tuple(const xf_conn &c) {
    std::string s = "(src=" + address(c, false) + ",dst=" + address(c, true);
    const auto low = static_cast<uint16_t>(c.ports);
    const auto high = static_cast<uint16_t>(c.ports >> 16);
    if (c.proto == IPPROTO_ICMP || c.proto == IPPROTO_ICMPV6) {
        append(&s, ",id=%u,type=%u)", ntohs(low), high & 0xff);
    } else {
        append(&s, ",sport=%u,dport=%u)", ntohs(low), ntohs(high));
    }
    return s;
}

const char *proto_name(uint8_t proto) {
    switch (proto) {
        case IPPROTO_TCP:
            return "tcp";
        case IPPROTO_UDP:
            return "udp";
        case IPPROTO_ICMP:
            return "icmp";
        case IPPROTO_ICMPV6:
            return "icmpv6";
        case IPPROTO_SCTP:
            return "sctp";
        default:
            return "other";
    }
}

// What happens to the next packet of a direction.
const char *fate(const xf_conn &c, const xf_conn_use &use) {
    return !c.state                       ? "ovs"
         : use.closing                    ? "closing"
         : c.state & OVS_CS_F_ESTABLISHED ? "est"
                                          : "new";
}

uint64_t coarse_now_ms() {
    timespec t{};
    clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
    return static_cast<uint64_t>(t.tv_sec) * 1000 + t.tv_nsec / 1'000'000;
}

std::string describe(const ConnTable::Shown &c, uint64_t now) {
    const xf_conn &o = c.dir[0], &r = c.dir[1];
    const uint64_t used =
        std::max<uint64_t>(c.use[0].used_ms, c.use[1].used_ms);
    const uint64_t expires =
        std::max<uint64_t>(c.use[0].expires_ms, used + o.timeout_ms);
    std::string s = std::string(proto_name(o.proto)) + ",orig=" + tuple(o)
                  + ",reply=" + tuple(r);
    append(&s, ",zone=%u", o.zone);
    if (o.mark) {
        append(&s, ",mark=0x%x", o.mark);
    }
    if (o.label[0] | o.label[1]) {
        append(&s, ",labels=0x%" PRIx64 "%016" PRIx64,
               static_cast<uint64_t>(o.label[1]),
               static_cast<uint64_t>(o.label[0]));
    }
    if (o.nat_state) {
        append(&s, ",nat=%s", o.nat_state & OVS_CS_F_SRC_NAT ? "src" : "dst");
    }
    append(&s, ",xdp=%s/%s", fate(o, c.use[0]), fate(r, c.use[1]));
    if (used) {
        append(&s, ",used=%.3fs",
               static_cast<double>(now - std::min(now, used)) / 1000);
    } else {
        s += ",used=never";
    }
    append(&s, ",expires=%" PRIu64 "s",
           (expires - std::min(now, expires)) / 1000);
    return s;
}

// "zone=N"; false if it is not.
bool parse_zone(std::string_view text, int *zone) {
    constexpr std::string_view kPrefix = "zone=";
    uint16_t n;
    if (!text.starts_with(kPrefix)) {
        return false;
    }
    text.remove_prefix(kPrefix.size());
    const auto [end, error] =
        std::from_chars(text.data(), text.data() + text.size(), n);
    *zone = n;
    return error == std::errc{} && end == text.data() + text.size();
}

}  // namespace

std::string describe_connections(const xf_plan &plan,
                                 const ConnMemory &memory) {
    std::string s;
    for (uint32_t i = 0; i < std::min<uint32_t>(plan.n_cts, XF_MAX_CTS); i++) {
        const uint32_t n = plan.ct[i];
        if (n >= memory.conns.size()) {
            continue;
        }
        const xf_conn &c = memory.conns[n];
        append(&s,
               "connection: zone %u, %s direction, ct_state 0x%02x%s: %s %s\n",
               c.zone, n & 1 ? "reply" : "original", c.state,
               c.nat_state ? ", translated" : "", proto_name(c.proto),
               tuple(c).c_str());
    }
    return s;
}

void show_connections(const ConnTable &table, std::string *s) {
    const auto f = table.figures();
    append(s, "  connections: %zu of %zu", f.n, f.max);
    if (!table.is_open()) {
        *s += " (OVS does not tell of its connections)";
    }
    if (f.n_unplaced) {
        append(s,
               ", %zu more that OVS has alone (a larger "
               "other_config:xdp-offload-max-connections makes room)",
               f.n_unplaced);
    }
    *s += "\n";
}

std::string Report::connections(const std::string &filter) {
    int zone = -1;
    if (!filter.empty() && !parse_zone(filter, &zone)) {
        return "the filter is zone=N, with N from 0 to 65535\n";
    }
    std::string s;
    const uint64_t now = coarse_now_ms();
    const auto listed = from_.core.connections->list(zone, kMaxListed);
    for (auto &c : listed) {
        s += describe(c, now) + "\n";
    }
    if (listed.size() == kMaxListed) {
        append(&s, "(the first %zu; zone=N shows those of one zone)\n",
               kMaxListed);
    }
    append(&s, "%zu connections listed\n", listed.size());
    return s;
}

}  // namespace flowxlate
