// SPDX-License-Identifier: Apache-2.0
#include "actions.h"

#include <arpa/inet.h>

#include <cstdarg>
#include <cstdio>

#include "flows.h"

namespace oracle {
namespace {

[[gnu::format(printf, 1, 2)]] std::string format(const char *text, ...) {
    char buffer[256];
    va_list args;
    va_start(args, text);
    std::vsnprintf(buffer, sizeof buffer, text, args);
    va_end(args);
    return buffer;
}

// -- Members of a set action: "NAME=VALUE" or "NAME=VALUE/MASK" --------------

uint64_t random_mask(unsigned bits, Random &r) {
    const uint64_t ones = (1ULL << bits) - 1;
    const size_t n = r.below(100);
    return n < 65 ? ones
         : n < 80 ? r.word() & ones
         : n < 90 ? ones & ~((1ULL << r.below(bits)) - 1)
                  : 1ULL << r.below(bits);
}

std::string number(const char *name, unsigned bits, Random &r) {
    const uint64_t mask = random_mask(bits, r), value = r.edge(bits) & mask;
    return format("%s=%#jx/%#jx", name, static_cast<uintmax_t>(value),
                  static_cast<uintmax_t>(mask));
}

std::string mac_text(uint64_t v) {
    const auto byte = [v](int i) {
        return static_cast<unsigned>(v >> (8 * i) & 0xff);
    };
    return format("%02x:%02x:%02x:%02x:%02x:%02x", byte(5), byte(4), byte(3),
                  byte(2), byte(1), byte(0));
}

std::string mac(const char *name, Random &r) {
    const uint64_t mask = random_mask(48, r);
    const uint64_t value =
        (r.percent(70) ? 0x020000000100 + r.below(8) : r.edge(48)) & mask;
    return std::string(name) + "=" + mac_text(value) + "/" + mac_text(mask);
}

std::string ipv4_text(uint64_t v) {
    char text[INET_ADDRSTRLEN];
    const in_addr a{htonl(static_cast<uint32_t>(v))};
    return inet_ntop(AF_INET, &a, text, sizeof text);
}

std::string ipv4(const char *name, Random &r) {
    const uint64_t mask = random_mask(32, r);
    const uint64_t value =
        (r.percent(70) ? 0xc0a80000 + r.below(300) : r.edge(32)) & mask;
    return std::string(name) + "=" + ipv4_text(value) + "/" + ipv4_text(mask);
}

std::string ipv6(const char *name, Random &r) {
    in6_addr mask, value;
    char texts[2][INET6_ADDRSTRLEN];
    const bool exact = r.percent(65);
    for (size_t i = 0; i < 16; i++) {
        mask.s6_addr[i] =
            exact ? 0xff : static_cast<uint8_t>(r.percent(50) ? r.edge(8) : 0);
        value.s6_addr[i] = static_cast<uint8_t>(r.edge(8)) & mask.s6_addr[i];
    }
    return std::string(name) + "="
         + inet_ntop(AF_INET6, &value, texts[0], sizeof texts[0]) + "/"
         + inet_ntop(AF_INET6, &mask, texts[1], sizeof texts[1]);
}

// -- Set actions ------------------------------------------------------------

// Some of the members, at least one.
std::string set(const char *attribute, std::vector<std::string> members,
                Random &r) {
    std::string text = r.pick(members), rest;
    const std::string first = text;
    for (auto &m : members) {
        if (m == first || r.percent(50)) {
            rest += (rest.empty() ? "" : ",") + m;
        }
    }
    return std::string("set(") + attribute + "(" + rest + "))";
}

std::string set_ipv4(const Fields &key, Random &r) {
    static constexpr const char *kFrags[] = {"no", "first", "no", "later"};
    if (r.percent(20)) {  // Without masks, all members have to be named.
        return format(
            "set(ipv4(src=%s,dst=%s,proto=%u,tos=%#x,ttl=%u,frag=%s))",
            ipv4_text(r.edge(32)).c_str(), ipv4_text(r.edge(32)).c_str(),
            key.u8(MODEL_nw_proto), static_cast<unsigned>(r.edge(8)),
            static_cast<unsigned>(r.edge(8)),
            kFrags[key.u8(MODEL_nw_frag) & 3]);
    }
    return set("ipv4",
               {ipv4("src", r), ipv4("dst", r), number("tos", 8, r),
                number("ttl", 8, r)},
               r);
}

std::string set_ports(const char *attribute, Random &r) {
    return set(attribute, {number("src", 16, r), number("dst", 16, r)}, r);
}

std::string set_icmp(const char *attribute, Random &r) {
    return format("set(%s(type=%u,code=%u))", attribute,
                  static_cast<unsigned>(r.edge(8)),
                  static_cast<unsigned>(r.percent(70) ? 0 : r.edge(8)));
}

std::string set_transport(const Fields &key, const Fields &mask, Random &r) {
    const bool v6 = key.u16(MODEL_dl_type) == 0x86dd;
    if (key.u8(MODEL_nw_frag) & 2) {
        return {};
    }
    switch (key.u8(MODEL_nw_proto)) {
        case IPPROTO_TCP:
            return set_ports("tcp", r);
        case IPPROTO_UDP:
            return set_ports("udp", r);
        case IPPROTO_SCTP:
            return set_ports("sctp", r);
        case IPPROTO_ICMP:
            return v6 ? "" : set_icmp("icmp", r);
        case IPPROTO_ICMPV6:
            if (key.is_nd() && mask.u16(MODEL_tp_src) == 0xff
                && mask.u16(MODEL_tp_dst) == 0xff) {
                return set("nd",
                           {ipv6("target", r), mac("sll", r), mac("tll", r)},
                           r);
            }
            return v6 ? set_icmp("icmpv6", r) : "";
        default:
            return {};
    }
}

std::string set_network(const Fields &key, Random &r) {
    switch (key.u16(MODEL_dl_type)) {
        case 0x0800:
            return set_ipv4(key, r);
        case 0x86dd:
            return set("ipv6",
                       {ipv6("src", r), ipv6("dst", r), number("label", 20, r),
                        number("tclass", 8, r), number("hlimit", 8, r)},
                       r);
        case 0x0806:
            return set("arp",
                       {ipv4("sip", r), ipv4("tip", r), number("op", 16, r),
                        mac("sha", r), mac("tha", r)},
                       r);
        default:
            return {};
    }
}

// OVS sets a field above Ethernet only of packets that have a protocol, which
// the flow therefore matches (commit_set_nw_action()).
bool has_network_header(const Fields &key, const Fields &mask) {
    return key.u8(MODEL_nw_proto) && mask.u8(MODEL_nw_proto) == 0xff;
}

// -- Lists ------------------------------------------------------------------

class List {
public:
    List(const Fields &key, const Fields &mask, uint32_t *recirc_id, Random &r)
        : key_(key),
          mask_(mask),
          recirc_id_(recirc_id),
          r_(r),
          n_tags_(key.n_tags()) {}

    std::vector<std::string> make() {
        const size_t n = r_.below(100);
        if (n < 9) {
            drop();
        } else if (n < 32) {
            output();
        } else if (n < 79) {
            changes();
            output();
        } else if (n < 84) {
            check_length();
        } else if (n < 89) {
            several_outputs();
        } else if (n < 92) {
            truncated_output();
        } else if (n < 97) {
            recirculate();
        } else {
            datapath_action();
        }
        return std::move(list_);
    }

    std::vector<std::string> make_changes() {
        changes();
        return std::move(list_);
    }

private:
    void add(std::string action) {
        if (!action.empty()) {
            list_.push_back(std::move(action));
        }
    }

    void drop() {
        if (r_.percent(20)) {
            changes();
        }
    }

    void output() {
        const size_t n = r_.below(100);
        add(std::to_string(n < 86   ? r_.pick(kGoodPorts)
                           : n < 92 ? kNarrowPort
                           : n < 95 ? kInPort
                           : n < 98 ? kDownPort
                                    : kUnmappedPort));
    }

    void push_vlan() {
        static constexpr unsigned kVids[] = {0, 1, 100, 200, 4095};
        n_tags_++;
        add(format("push_vlan(tpid=%#x,vid=%u,pcp=%u)",
                   r_.percent(75) ? 0x8100u : 0x88a8u, r_.pick(kVids),
                   static_cast<unsigned>(r_.below(8))));
    }

    void pop_vlan() {
        n_tags_--;
        add("pop_vlan");
    }

    void vlan() {
        for (size_t n = r_.between(1, 2); n > 0 && n_tags_ > 0; n--) {
            if (r_.percent(60)) {
                pop_vlan();
            }
        }
        for (size_t n = r_.between(0, 2); n > 0; n--) {
            push_vlan();
        }
    }

    // Sets and tags, in OVS's order or another.
    void changes() {
        const bool vlan_first = r_.percent(15);
        if (vlan_first && r_.percent(50)) {
            vlan();
        }
        if (r_.percent(55)) {
            add(set("eth", {mac("src", r_), mac("dst", r_)}, r_));
        }
        if (has_network_header(key_, mask_)) {
            if (r_.percent(55)) {
                add(set_network(key_, r_));
            }
            if (key_.is_ip() && r_.percent(50)) {
                add(set_transport(key_, mask_, r_));
            }
        }
        if (!vlan_first && r_.percent(45)) {
            vlan();
        }
    }

    void several_outputs() {
        for (size_t n = r_.between(2, 3); n > 0; n--) {
            if (r_.percent(30)) {
                changes();
            }
            output();
        }
    }

    void truncated_output() {
        if (r_.percent(30)) {
            changes();
        }
        add(format("trunc(%zu)", r_.percent(80) ? r_.between(14, 128)
                                                : r_.between(14, 65535)));
        output();
        if (r_.percent(20)) {
            output();
        }
    }

    void recirculate() {
        if (r_.percent(50)) {
            changes();
        }
        if (r_.percent(70)) {
            add(format("hash(%s(%u))", r_.percent(60) ? "l4" : "sym_l4",
                       static_cast<unsigned>(r_.below(3))));
        }
        add(format("recirc(%u)", ++*recirc_id_));
        if (r_.percent(5)) {
            output();
        }
    }

    // Actions of a list in another one, as text.
    std::string inner_list() {
        List inner(*this);
        inner.list_.clear();
        inner.make_inner();
        std::string text;
        for (auto &action : inner.list_) {
            text += (text.empty() ? "" : ",") + action;
        }
        return text.empty() ? "drop" : text;
    }

    // OVS's texts have no hash in such a list.
    void make_inner() {
        const size_t n = r_.below(100);
        if (n < 10) {
            return;
        }
        if (n < 50) {
            changes();
        }
        if (n < 75) {
            output();
        } else if (n < 90) {
            add(format("recirc(%u)", ++*recirc_id_));
        } else if (n < 95) {
            truncated_output();
        } else {
            check_length();
        }
    }

    // Something else for packets that are longer, most often.
    void check_length() {
        if (r_.percent(40)) {
            changes();
        }
        if (r_.percent(5)) {
            output();
        }
        const size_t size =
            r_.percent(90) ? r_.between(14, 200) : r_.between(0, 2000);
        const std::string longer = inner_list();
        const std::string others = r_.percent(10) ? longer : inner_list();
        add(format("check_pkt_len(size=%zu,", size) + "gt(" + longer + "),le("
            + others + "))");
        if (r_.percent(5)) {
            output();
        }
    }

    // What no fast path does.
    void datapath_action() {
        static constexpr const char *kActions[] = {
            "userspace(pid=0)", "ct(commit)", "ct", "meter(1)",
            "sample(sample=50.0%,actions(2))"};
        if (r_.percent(30)) {
            changes();
        }
        add(r_.pick(kActions));
        if (r_.percent(60)) {
            output();
        }
    }

    const Fields &key_, &mask_;
    uint32_t *recirc_id_;
    Random &r_;
    size_t n_tags_;
    std::vector<std::string> list_;
};

}  // namespace

std::vector<std::string> make_actions(const Fields &key, const Fields &mask,
                                      uint32_t *recirc_id, Random &r) {
    return List(key, mask, recirc_id, r).make();
}

std::vector<std::string> make_changes(const Fields &key, const Fields &mask,
                                      Random &r) {
    return List(key, mask, nullptr, r).make_changes();
}

}  // namespace oracle
