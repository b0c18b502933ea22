// SPDX-License-Identifier: Apache-2.0
// What becomes of the flows of real networks: the files beside this one have
// dumps of OVN's datapath flows by case, and flows from published reports.
//
// OVS's own code reads a flow and makes the netlink attributes that a plugin
// gets (tests/oracle/model.h).  They go the way of Offload::flow_put():
// decode_match(), decode_actions(), and Flows::put() into tables of the file's
// own.  All ports are XDP ports, and those of tunnels are Geneve; the datapath
// is the userspace one, and OVS tells of connections.  A flow is executed
// then, or refused with a reason.
//
// A flow of "established" packets is one that a packet of an established
// connection passes when it is forwarded: of IPv4 or IPv6, without
// userspace(), and
//
// - before ct(): with recirc_id 0, and a ct() among the actions.  What OVN
//   answers itself (ARP, ND, DHCP, BFD, ICMP errors) has userspace(), or no
//   ct();
// - or after ct(): recirculated, with a match of ct_state that a packet with
//   +trk+est-new-rel-inv fulfils, whatever else is in its ct_state; and
//   without dp_hash, since OVN hashes only the first packet of a connection,
//   to choose a backend.
//
// All that of the cases within one chassis have to be executed (kWhole).  What
// is executed is compared by what it does with connections, no further:
// packets are for the oracles (docs/oracle.md).
//
// To write the table in docs/supported.md anew:
//
//     UPDATE_DOCS=1 build/release/tests/flows/real_flows
#include <gtest/gtest.h>
#include <linux/if_ether.h>
#include <linux/openvswitch.h>

#include <algorithm>
#include <iostream>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "flow_file.h"
#include "flowxlate/translate/reasons.h"
#include "tests/unit/document.h"
#include "tests/unit/engine.h"

namespace flowxlate::flows_test {
namespace {

constexpr const char *kTop = SOURCE_DIR;

struct Expected {
    const char *file;
    size_t flows, executed;
    size_t established;   // Executed or not.
    const char *refused;  // How many, by reason.
};

const Expected kExpected[] = {
    {"ovn-acl", 150, 140, 95, "10 action/userspace"},
    {"ovn-lb", 95, 84, 37, "4 action/hash_l4, 7 action/userspace"},
    {"ovn-gateway-router", 75, 70, 48, "5 action/userspace"},
    {"ovn-dgp", 56, 51, 38, "5 action/userspace"},
    {"ovn-router", 35, 28, 0, "7 action/userspace"},
    {"ovn-localnet", 30, 25, 0, "3 action/after_output, 2 action/userspace"},
    {"ovn-geneve", 76, 67, 0, "9 action/userspace"},
    {"ovn-chassis", 146, 139, 95,
     "4 action/hash_l4, 1 action/meter, 2 action/sample"},
    {"reports", 95, 70, 61,
     "1 action/after_output, 1 action/hash_l4, 1 action/meter, 2 "
     "action/userspace, 2 match/ct_state, "
     "1 match/tun_metadata, 10 match/tunnel, 7 set/tunnel"},
};

// Of these all flows of established packets have to be executed.
constexpr const char *kWhole[] = {"ovn-acl", "ovn-lb", "ovn-gateway-router",
                                  "ovn-dgp"};

// -- Established ------------------------------------------------------------

// A number of a flow's match: its bits under the mask.
template <typename T>
struct Matched {
    T value{}, mask{};
};

template <typename T>
T read(Bytes attrs, uint16_t type) {
    AttrReader reader(attrs);
    T value{};
    while (auto a = reader.next()) {
        if (a->type == type) {
            EXPECT_TRUE(read_exactly(a->payload, &value)) << type;
        }
    }
    return value;
}

template <typename T>
Matched<T> matched(const RealFlow &flow, uint16_t type) {
    const T mask = read<T>(flow.mask(), type);
    return {static_cast<T>(read<T>(flow.key(), type) & mask), mask};
}

bool has(Bytes attrs, uint16_t type) {
    AttrReader reader(attrs);
    while (auto a = reader.next()) {
        if (a->type == type) {
            return true;
        }
    }
    return false;
}

bool is_ip(const RealFlow &flow) {
    const auto type = matched<uint16_t>(flow, OVS_KEY_ATTR_ETHERTYPE);
    return type.value == htons(ETH_P_IP) || type.value == htons(ETH_P_IPV6);
}

bool takes_established(const RealFlow &flow) {
    constexpr uint32_t kSet = OVS_CS_F_TRACKED | OVS_CS_F_ESTABLISHED;
    constexpr uint32_t kClear =
        OVS_CS_F_NEW | OVS_CS_F_RELATED | OVS_CS_F_INVALID;
    const auto state = matched<uint32_t>(flow, OVS_KEY_ATTR_CT_STATE);
    return !(state.mask & ~state.value & kSet) && !(state.value & kClear);
}

// -- What is done with connections ------------------------------------------

// One ct(), and whether a ct_clear comes before it.
std::string text_of_ct(bool clears, bool commits, unsigned zone, bool nat) {
    return std::string(clears ? "ct_clear," : "") + "ct("
         + (commits ? "commit," : "") + "zone=" + std::to_string(zone)
         + (nat ? ",nat) " : ") ");
}

// As OVS says, of packets that are not too long for check_pkt_len.
class Asked {
public:
    explicit Asked(bool was_tracked) : was_tracked_(was_tracked) {}

    std::string in(Bytes actions) {
        AttrReader reader(actions);
        std::string s;
        while (auto a = reader.next()) {
            if (a->type == OVS_ACTION_ATTR_CT_CLEAR) {
                clears_ = was_tracked_;
            } else if (a->type == OVS_ACTION_ATTR_CT) {
                s += of_ct(a->payload);
            } else if (a->type == OVS_ACTION_ATTR_CHECK_PKT_LEN) {
                s += in(of_others(a->payload));
            }
        }
        return s;
    }

private:
    std::string of_ct(Bytes ct) {
        const bool clears = std::exchange(clears_, false);
        was_tracked_ = true;
        return text_of_ct(clears, has(ct, OVS_CT_ATTR_COMMIT),
                          read<uint16_t>(ct, OVS_CT_ATTR_ZONE),
                          has(ct, OVS_CT_ATTR_NAT));
    }

    static Bytes of_others(Bytes check) {
        AttrReader reader(check);
        while (auto a = reader.next()) {
            if (a->type == OVS_CHECK_PKT_LEN_ATTR_ACTIONS_IF_LESS_EQUAL) {
                return a->payload;
            }
        }
        return {};
    }

    bool was_tracked_, clears_ = false;
};

std::string asked_of_connections(const RealFlow &flow) {
    const auto recirc = matched<uint32_t>(flow, OVS_KEY_ATTR_RECIRC_ID);
    return Asked(recirc.value != 0).in(flow.actions());
}

bool is_of_established(const RealFlow &flow) {
    if (!is_ip(flow) || has(flow.actions(), OVS_ACTION_ATTR_USERSPACE)) {
        return false;
    }
    if (!matched<uint32_t>(flow, OVS_KEY_ATTR_RECIRC_ID).value) {
        return !asked_of_connections(flow).empty();
    }
    return takes_established(flow)
        && !matched<uint32_t>(flow, OVS_KEY_ATTR_DP_HASH).mask;
}

// As the program gets it.
std::string done_with_connections(const xf_rewrite &rewrite) {
    std::string s;
    for (auto &step : rewrite.ct) {
        if (step.flags & XF_CT_TRACK) {
            s +=
                text_of_ct(step.flags & XF_CT_CLEAR, step.flags & XF_CT_COMMIT,
                           step.zone, step.flags & XF_CT_NAT);
        }
    }
    return s;
}

// -- Offering them ----------------------------------------------------------

// The ports of a file, and tables in which there is room for its flows.
class Network {
public:
    explicit Network(const FlowFile &file) : file_(file) {
        for (auto &[name, port] : file.ports) {
            engine_.add_port(device_of(port));
        }
        for (auto &[name, port] : file.tunnel_ports) {
            engine_.add_tunnel(device_of(port));
        }
    }

    Reject offer(const RealFlow &flow, Rule *rule) {
        if (auto r = decode_match(flow.key(), flow.mask(), &rule->match)) {
            return r;
        }
        if (auto r =
                decode_actions(flow.actions(), rule->match, &rule->actions)) {
            return r;
        }
        rule->in = device_of(rule->match.in_port);
        for (auto port : rule->actions.out_ports) {
            rule->out.push_back(device_of(port));
        }
        if (rule->actions.verdict == XF_POP) {
            rule->out.push_back(device_of(rule->actions.pop));
        }
        SubtableSlot mask;
        return engine_.flows.put(unit::Engine::ufid(++n_offered_), rule,
                                 &mask);
    }

private:
    Ifindex device_of(OdpPort port) const {
        constexpr int kFirst = 1000;  // Above those that an engine has.
        const bool is_tunnel =
            std::any_of(file_.tunnel_ports.begin(), file_.tunnel_ports.end(),
                        [=](auto &p) { return p.second == port; });
        const int number = kFirst + static_cast<int>(index(port));
        return Ifindex{is_tunnel ? -number : number};
    }

    const FlowFile &file_;
    unit::Engine engine_{
        {.buckets = 1024, .flows = 1024, .recircs = 1024, .rewrites = 1024}};
    uint32_t n_offered_ = 0;
};

using Counts = std::map<std::string, size_t>;  // By reason.

struct Result {
    std::string text;    // The flow.
    std::string reason;  // Empty: executed.
    bool is_of_established;
    std::string asked, done;  // With connections.
};

struct File {
    std::string name;
    std::vector<Result> flows;

    size_t count(bool (*wanted)(const Result &)) const {
        return static_cast<size_t>(
            std::count_if(flows.begin(), flows.end(), wanted));
    }
    size_t executed() const {
        return count([](auto &f) { return f.reason.empty(); });
    }
    size_t established() const {
        return count([](auto &f) { return f.is_of_established; });
    }
    size_t established_executed() const {
        return count(
            [](auto &f) { return f.is_of_established && f.reason.empty(); });
    }
    Counts refused() const {
        Counts counts;
        for (auto &f : flows) {
            counts[f.reason]++;
        }
        counts.erase("");
        return counts;
    }
};

File offer_all(const std::string &name) {
    const auto in =
        read_flows(std::string(kTop) + "/tests/flows/" + name + ".txt");
    Network network(in);
    File file{name, {}};
    for (auto &flow : in.flows) {
        Rule rule;
        const auto r = network.offer(flow, &rule);
        file.flows.push_back({flow.text, r ? r.name() : "",
                              is_of_established(flow),
                              asked_of_connections(flow),
                              done_with_connections(rule.actions.rewrite)});
    }
    return file;
}

const std::vector<File> &files() {
    static const auto all = [] {
        std::vector<File> made;
        model_init();
        for (auto &expected : kExpected) {
            made.push_back(offer_all(expected.file));
        }
        return made;
    }();
    return all;
}

// -- The tests --------------------------------------------------------------

// "3 match/tunnel", with 'quote' around the name.
std::string piece(const std::string &reason, size_t n, const char *quote) {
    return std::to_string(n) + " " + quote + reason + quote;
}

std::string text_of(const Counts &refused, const char *quote = "") {
    std::string s;
    for (auto &[reason, n] : refused) {
        s += (s.empty() ? "" : ", ") + piece(reason, n, quote);
    }
    return s;
}

// The flows that are refused for reasons of which another number is expected.
std::string unexpected(const File &file, const std::string &expected) {
    const auto refused = file.refused();
    std::string s;
    for (auto &f : file.flows) {
        const auto it = refused.find(f.reason);
        if (it != refused.end()
            && (", " + expected + ",")
                       .find(", " + piece(it->first, it->second, "") + ",")
                   == std::string::npos) {
            s += "\n" + f.reason + ": " + f.text;
        }
    }
    return s;
}

TEST(RealFlows, AsManyAreExecutedAsExpected) {
    for (size_t i = 0; i < std::size(kExpected); i++) {
        const Expected &expected = kExpected[i];
        const File &file = files()[i];
        SCOPED_TRACE(file.name);
        EXPECT_EQ(file.flows.size(), expected.flows);
        EXPECT_EQ(file.executed(), expected.executed);
        EXPECT_EQ(file.established(), expected.established);
        EXPECT_EQ(text_of(file.refused()), expected.refused)
            << unexpected(file, expected.refused);
        std::cout << file.name << ": " << file.flows.size() << " flows, "
                  << file.executed() << " executed, "
                  << file.established_executed() << " of "
                  << file.established() << " established\n";
    }
}

TEST(RealFlows, ThoseOfEstablishedPacketsAreExecuted) {
    for (auto &file : files()) {
        if (std::find(std::begin(kWhole), std::end(kWhole), file.name)
            == std::end(kWhole)) {
            continue;
        }
        EXPECT_GT(file.established(), 0U) << file.name;
        for (auto &f : file.flows) {
            EXPECT_TRUE(!f.is_of_established || f.reason.empty())
                << file.name << ": " << f.reason << ": " << f.text;
        }
    }
}

TEST(RealFlows, AllThatConnectionsAreAskedForIsDone) {
    for (auto &file : files()) {
        for (auto &f : file.flows) {
            EXPECT_TRUE(!f.reason.empty() || f.done == f.asked)
                << f.done << "instead of " << f.asked << ": " << f.text;
        }
    }
}

TEST(RealFlows, ReasonsAreDocumented) {
    const auto text = unit::contents(std::string(kTop) + "/docs/reasons.md");
    for (auto &file : files()) {
        for (auto &[reason, n] : file.refused()) {
            EXPECT_TRUE(find_reason(reason)) << reason;
            EXPECT_NE(text.find("\n| `" + reason + "` |"), text.npos)
                << reason;
        }
    }
}

// -- The document -----------------------------------------------------------

constexpr const char *kIntroduction = R"(
## Flows of real networks

This is what becomes of the flows of OVN 23.03's networks on Open vSwitch 3.1, and of those in
published reports, if all ports are XDP ports, or Geneve's. "Established" says how many are
executed of the flows that packets of established connections pass (tests/flows/real_flows.cc
says which these are).

| flows | all | executed | established | refused |
|---|---|---|---|---|
)";

std::string row(const std::string &name, size_t all, size_t executed,
                const std::string &established, const Counts &refused) {
    return "| " + name + " | " + std::to_string(all) + " | "
         + std::to_string(executed) + " | " + established + " | "
         + text_of(refused, "`") + " |\n";
}

std::string document() {
    std::string s = std::string(unit::kRealFlowsMark) + kIntroduction;
    size_t all = 0, executed = 0, established = 0, of = 0;
    Counts refused;
    auto ratio = [](size_t a, size_t b) {
        return std::to_string(a) + " of " + std::to_string(b);
    };
    for (auto &f : files()) {
        s +=
            row("[" + f.name + "](../tests/flows/" + f.name + ".txt)",
                f.flows.size(), f.executed(),
                ratio(f.established_executed(), f.established()), f.refused());
        all += f.flows.size();
        executed += f.executed();
        established += f.established_executed();
        of += f.established();
        for (auto &[reason, n] : f.refused()) {
            refused[reason] += n;
        }
    }
    return s + row("all", all, executed, ratio(established, of), refused);
}

TEST(RealFlows, DocumentIsUpToDate) {
    const auto path = std::string(kTop) + "/docs/supported.md";
    const auto before = unit::contents(path);
    const auto wanted =
        before.substr(0, before.find(unit::kRealFlowsMark)) + document();
    unit::expect_document(path, wanted);
}

}  // namespace
}  // namespace flowxlate::flows_test
