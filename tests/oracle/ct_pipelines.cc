// SPDX-License-Identifier: Apache-2.0
#include "ct_pipelines.h"

#include <linux/openvswitch.h>

namespace oracle {
namespace {

using Texts = std::vector<std::string>;

constexpr uint32_t kNew = OVS_CS_F_NEW, kTracked = OVS_CS_F_TRACKED,
                   kInvalid = OVS_CS_F_INVALID,
                   kEstablished = OVS_CS_F_ESTABLISHED;

std::string recirc(size_t to) { return "recirc(" + std::to_string(to) + ")"; }

class Maker {
public:
    Maker(Random *r, bool v6, bool identity)
        : r_(*r), v6_(v6), identity_(identity) {}

    std::string zone() { return "zone=" + std::to_string(r_.between(1, 3)); }

    // Hosts are 1 to 5, what they are translated to is 6 to 9: in OVS 3.1 a
    // translation that changes nothing is different (Pipeline::identity).
    std::string address(size_t low, size_t high) {
        const auto host = std::to_string(r_.between(low, high));
        return v6_ ? "fc00::" + host : "10.0.0." + host;
    }
    std::string host() { return address(1, 5); }

    std::string range(const char *what) {
        std::string s = std::string("nat(") + what;
        if (identity_ && r_.percent(60)) {
            return s + ")";
        }
        s += "=" + (v6_ ? "[" + address(6, 9) + "]" : address(6, 9));
        static constexpr const char *kPorts[] = {":80", ":5000-5003",
                                                 ":1000-1001"};
        return s + (r_.percent(40) ? r_.pick(kPorts) : "") + ")";
    }

    std::string commit() {
        std::string s = "ct(commit," + zone();
        if (r_.percent(40)) {
            static constexpr const char *kMarks[] = {
                ",mark=0x1/0x1", ",mark=0/0x1", ",mark=0x2/0x3",
                ",mark=0x5/0xffffffff"};
            s += r_.pick(kMarks);
        }
        if (r_.percent(50)) {
            static constexpr const char *kLabels[] = {
                ",label=0x1/0x1", ",label=0/0x1",
                ",label=0x10000000000000000/0x30000000000000000"};
            s += r_.pick(kLabels);
        }
        if (r_.percent(45)) {
            s += "," + (r_.percent(50) ? range("src") : range("dst"));
        } else if (identity_ && r_.percent(20)) {
            s += ",nat";
        }
        return s + ")";
    }

    std::string look() {
        return "ct(" + zone() + (r_.percent(55) ? ",nat)" : ")");
    }

    // Addresses are set where no ct() has been, or what it has found is
    // forgotten: elsewhere OVS 3.1 ends itself, if what has been translated
    // once is not found by its addresses any more (check_orig_tuple() may find
    // the other half of a connection, and conn_update_state() asserts that it
    // has not).
    std::string set(bool of_tuple = false) {
        const std::string ip = v6_ ? "ipv6" : "ipv4";
        switch (r_.below(5)) {
            case 0:
                if (of_tuple) {
                    return "set(" + ip + "(src=" + host() + "))";
                }
                [[fallthrough]];
            case 1:
                if (of_tuple) {
                    return "set(" + ip + "(dst=" + host() + "))";
                }
                [[fallthrough]];
            case 2:
                return "set(" + ip + (v6_ ? "(hlimit=9))" : "(ttl=9))");
            default:
                return "set(eth(src=02:00:00:00:00:0"
                     + std::to_string(r_.below(10)) + "))";
        }
    }

    // A few of what a flow may do before it outputs or recirculates.
    Texts steps(bool is_new, bool is_first) {
        Texts t;
        for (size_t n = r_.between(0, 3); n > 0; n--) {
            const size_t what = r_.below(10);
            const bool is_free =
                t.empty() ? is_first
                          : t.back() == "ct_clear"
                                || (is_first && t.back().starts_with("set"));
            t.push_back(what < 1                    ? "ct_clear"
                        : what < 3                  ? set(is_free)
                        : what < (is_new ? 7U : 4U) ? commit()
                                                    : look());
        }
        return t;
    }

    Rule rule(size_t i, size_t n, uint32_t state, uint32_t mask) {
        Rule rule{state, mask, steps(state & kNew, i == 0)};
        if (i + 1 < n && !r_.percent(15)) {
            if (rule.actions.empty()) {
                rule.actions.push_back(look());
            }
            rule.actions.push_back(recirc(i + 1));
        } else if (!r_.percent(5)) {
            rule.actions.push_back("2");
        }
        return rule;
    }

    Pipeline random() {
        Pipeline p{v6_, {}, false};
        const size_t n = r_.between(1, 5);
        for (size_t i = 0; i < n; i++) {
            Stage stage;
            if (i > 0 && r_.percent(75)) {
                stage.rules.push_back(
                    rule(i, n, kNew | kTracked, kNew | kTracked));
            }
            if (i > 0 && r_.percent(25)) {
                stage.rules.push_back(rule(i, n, kInvalid, kInvalid));
            }
            if (i > 0 && r_.percent(25)) {
                stage.rules.push_back(rule(i, n, kEstablished | kTracked,
                                           kEstablished | kTracked));
            }
            stage.rules.push_back(rule(i, n, 0, 0));
            p.stages.push_back(stage);
        }
        return p;
    }

    // As security groups: look, commit what is new, pass what is known.
    Pipeline access_list() {
        const std::string a = zone(), b = zone();
        return {v6_,
                {{{{0, 0, {"ct(" + a + ")", recirc(1)}}}},
                 {{{kNew | kTracked,
                    kNew | kTracked,
                    {"ct(commit," + a + ",mark=0/0x1)", "ct(" + b + ")",
                     recirc(2)}},
                   {kInvalid, kInvalid, {}},
                   {0, 0, {"ct(" + b + ")", recirc(2)}}}},
                 {{{kNew | kTracked,
                    kNew | kTracked,
                    {"ct(commit," + b + ",mark=0/0x1,label=0/0x1)", "2"}},
                   {0, 0, {"ct_clear", "2"}}}}},
                false};
    }

    // As a gateway: translate back, route, and translate what is new.
    Pipeline gateway() {
        const std::string a = zone(), b = zone();
        return {v6_,
                {{{{0, 0, {"ct(" + a + ",nat)", recirc(1)}}}},
                 {{{0, 0, {set(), "ct(" + b + ",nat)", recirc(2)}}}},
                 {{{kNew | kTracked,
                    kNew | kTracked,
                    {"ct(commit," + a + "," + range("src") + ")", recirc(3)}},
                   {0, 0, {set(), recirc(3)}}}},
                 {{{0, 0, {"2"}}}}},
                false};
    }

    // As a load balancer, which commits each packet.
    Pipeline balancer() {
        const std::string a = zone(), b = zone();
        return {
            v6_,
            {{{{0, 0, {"ct(" + a + ",nat)", recirc(1)}}}},
             {{{kNew | kTracked,
                kNew | kTracked,
                {"ct(commit," + a + ",mark=0x2/0x2," + range("dst") + ")",
                 recirc(2)}},
               {0, 0, {"ct(" + b + ",nat)", recirc(2)}}}},
             {{{0,
                0,
                {"ct(commit," + b + "," + range("src") + ")", recirc(3)}}}},
             {{{0, 0, {"2"}}}}},
            false};
    }

private:
    Random &r_;
    bool v6_, identity_;
};

Pipeline make(Maker *maker, Random *r) {
    switch (r->below(6)) {
        case 0:
            return maker->access_list();
        case 1:
            return maker->gateway();
        case 2:
            return maker->balancer();
        default:
            return maker->random();
    }
}

}  // namespace

const std::vector<std::string> &Pipeline::actions(uint32_t stage,
                                                  uint32_t state) const {
    static const Texts kNone;
    if (stage >= stages.size()) {
        return kNone;
    }
    for (const Rule &rule : stages[stage].rules) {
        if ((state & rule.mask) == rule.state) {
            return rule.actions;
        }
    }
    return kNone;
}

std::string Pipeline::text() const {
    std::string s;
    for (size_t i = 0; i < stages.size(); i++) {
        for (const Rule &rule : stages[i].rules) {
            s += "  recirc " + std::to_string(i) + " state "
               + std::to_string(rule.state) + "/" + std::to_string(rule.mask)
               + ":";
            for (auto &a : rule.actions) {
                s += " " + a;
            }
            s += "\n";
        }
    }
    return s;
}

Pipeline make_pipeline(Random *r) {
    const bool identity = r->percent(30);
    Maker maker(r, r->percent(40), identity);
    Pipeline p = make(&maker, r);
    p.identity = identity;
    return p;
}

}  // namespace oracle
