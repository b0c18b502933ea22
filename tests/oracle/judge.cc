// SPDX-License-Identifier: Apache-2.0
#include "judge.h"

#include <linux/bpf.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "fields.h"

namespace oracle {
namespace {

using flowxlate::test::hex;

// Packets that match several flows, and recirculate, may have many outcomes.
constexpr size_t kMaxOutcomes = 32;
// Every how many hits a port is held down.
constexpr size_t kHoldDownEvery = 16;

// -- Kinds ------------------------------------------------------------------

// By the beginning of an action's text; what comes first is about the whole
// chain.
constexpr const char *kKinds[] = {
    "untagged",   "one tag",  "two tags",     "Ethernet",   "ARP",
    "IPv4",       "IPv6",     "MPLS",         "fragment",   "drop",
    "one output", "outputs",  "recirculated", "push_vlan",  "pop_vlan",
    "set(eth",    "set(arp",  "set(ipv4",     "set(ipv6",   "set(tcp",
    "set(udp",    "set(sctp", "set(icmp(",    "set(icmpv6", "set(nd",
    "trunc",      "hash(l4",  "hash(sym_l4",  "recirc",     "check_pkt_len"};
static_assert(std::size(kKinds) <= kMaxKinds);
enum {
    kUntagged,
    kEthernet = 3,
    kArp,
    kIpv4,
    kIpv6,
    kMpls,
    kFragment,
    kDrop,
    kOutput,
    kOutputs,
    kRecirculated,
    kFirstAction
};

size_t class_of(const Fields &f) {
    switch (f.u16(MODEL_dl_type)) {
        case 0x0806:
            return kArp;
        case 0x0800:
            return kIpv4;
        case 0x86dd:
            return kIpv6;
        case 0x8847:
        case 0x8848:
            return kMpls;
        default:
            return kEthernet;
    }
}

// One bit for each kind that this packet is of.
uint64_t kinds_of(const FlowSet &set, const model_result &r) {
    const Fields fields{r.key};
    uint64_t kinds = 1ULL << (kUntagged + fields.n_tags())
                   | 1ULL << class_of(fields)
                   | 1ULL << (r.n_outputs == 0   ? kDrop
                              : r.n_outputs == 1 ? kOutput
                                                 : kOutputs);
    kinds |= fields.u8(MODEL_nw_frag) ? 1ULL << kFragment : 0;
    kinds |= r.n_steps > 1 ? 1ULL << kRecirculated : 0;
    for (size_t i = 0; i < r.n_steps; i++) {
        for (auto &action : set.flows[r.steps[i].flow].actions) {
            for (size_t k = kFirstAction; k < std::size(kKinds); k++) {
                kinds |= action.starts_with(kKinds[k]) ? 1ULL << k : 0;
            }
        }
    }
    return kinds;
}

// -- Descriptions -----------------------------------------------------------

std::string describe_outcome(const model_result &r) {
    static constexpr const char *kVerdicts[] = {
        "executes", "has no flow (upcall)", "leaves the fast path"};
    std::string text = std::string("OVS ") + kVerdicts[r.verdict] + ":";
    for (size_t i = 0; i < r.n_steps; i++) {
        text += " flow " + std::to_string(r.steps[i].flow) + " counts "
              + std::to_string(r.steps[i].bytes) + " bytes, flags "
              + std::to_string(r.steps[i].tcp_flags) + ";";
    }
    text += r.n_outputs ? "\n" : " nothing is sent\n";
    for (size_t i = 0; i < r.n_outputs; i++) {
        auto &o = r.outputs[i];
        text += "port " + std::to_string(o.port) + ", " + std::to_string(o.len)
              + " bytes:\n" + hex(Frame(o.frame, o.frame + o.len)) + "\n";
    }
    return text;
}

bool same_bytes(const Frame &frame, const model_output &o) {
    return frame.size() == o.len && !std::memcmp(frame.data(), o.frame, o.len);
}

}  // namespace

// -- Tally ------------------------------------------------------------------

void Tally::count_reject(const Reject &reject, uint64_t n) {
    for (auto &r : reasons) {
        if (!r.n) {
            r = {reject.group, reject.what, 0};
        }
        if (r.group == reject.group && r.what == reject.what) {
            r.n += n;
            return;
        }
    }
}

void Tally::add(const Tally &t) {
    packets += t.packets;
    flow_sets += t.flow_sets;
    megaflows += t.megaflows;
    refused += t.refused;
    executed += t.executed;
    hits += t.hits;
    for (size_t i = 0; i < kinds.size(); i++) {
        kinds[i].executed += t.kinds[i].executed;
        kinds[i].hits += t.kinds[i].hits;
    }
    for (auto &r : t.reasons) {
        if (r.n) {
            count_reject({r.group, r.what, 1}, r.n);
        }
    }
}

void Tally::print() const {
    auto sorted = reasons;
    std::sort(sorted.begin(), sorted.end(),
              [](auto &a, auto &b) { return a.n > b.n; });
    std::printf("refused:");
    for (size_t i = 0; i < sorted.size() && sorted[i].n; i++) {
        std::printf(" %s/%s %ju", sorted[i].group, sorted[i].what,
                    static_cast<uintmax_t>(sorted[i].n));
    }
    std::printf("\n%-14s %12s %12s\n", "packets with", "OVS executes",
                "XDP too");
    for (size_t i = 0; i < std::size(kKinds); i++) {
        std::string name = kKinds[i];
        name.resize(name.find_last_not_of('(') + 1);
        std::printf("%-14s %12ju %12ju\n",
                    (name + (name.find('(') < name.size() ? ")" : "")).c_str(),
                    static_cast<uintmax_t>(kinds[i].executed),
                    static_cast<uintmax_t>(kinds[i].hits));
    }
}

// -- Judge ------------------------------------------------------------------

void Judge::use(const FlowSet &set) {
    auto &reality = set.native ? native_ : generic_;
    if (!reality) {
        reality = std::make_unique<Reality>(set.native);
    }
    reality_ = reality.get();
    set_ = &set;
    models_ = set.models();
    model_limit_vlans(set.vlan_limit);
    reality_->install(set);
    tally_.flow_sets++;
    tally_.megaflows += set.flows.size();
    for (auto &reject : reality_->rejects()) {
        if (reject) {
            tally_.refused++;
            tally_.count_reject(reject);
        }
    }
}

// Fills in what OVS may do with the packet: each choice where several flows
// match.
void Judge::foresee(const Frame &frame) {
    model_packet packet{};
    packet.frame = frame.data();
    packet.len = frame.size();
    packet.in_port = kInPort;
    packet.complete_checksums = set_->native;
    size_t choice[MODEL_MAX_STEPS] = {};
    for (n_outcomes_ = 0; n_outcomes_ < kMaxOutcomes;) {
        if (n_outcomes_ == outcomes_.size()) {
            outcomes_.push_back(std::make_unique<model_result>());
        }
        model_result &r = *outcomes_[n_outcomes_++];
        model_run(models_.data(), models_.size(), &packet, choice, &r);
        size_t i = r.n_lookups;
        while (i > 0 && choice[i - 1] + 1 >= r.n_candidates[i - 1]) {
            choice[--i] = 0;
        }
        if (i == 0) {
            return;
        }
        choice[i - 1]++;
    }
}

Ports Judge::expected_ports() const {
    Ports ports = 0;
    for (size_t i = 0; i < n_outcomes_; i++) {
        const model_result &r = *outcomes_[i];
        if (r.verdict != MODEL_EXECUTED) {
            return kAllPorts;
        }
        for (size_t k = 0; k < r.n_outputs; k++) {
            ports |= port_bit(r.outputs[k].port);
        }
    }
    return ports;
}

std::string Judge::describe(const Observed &o) const {
    std::string text;
    for (size_t i = 0; i < n_outcomes_; i++) {
        text += describe_outcome(*outcomes_[i]);
    }
    text += "XDP's verdict: " + std::to_string(o.run.verdict) + " ("
          + std::to_string(XDP_DROP) + " drop, " + std::to_string(XDP_PASS)
          + " miss, " + std::to_string(XDP_REDIRECT) + " sent), "
          + std::to_string(o.n_misses) + " misses counted;";
    for (size_t i = 0; i < o.counted.size(); i++) {
        if (o.counted[i].packets || o.counted[i].bytes) {
            text += " flow " + std::to_string(i) + " counts "
                  + std::to_string(o.counted[i].packets) + " packets, "
                  + std::to_string(o.counted[i].bytes) + " bytes;";
        }
    }
    return text + "\n" + hex(o.run.out) + "\n";
}

Mismatch Judge::check_miss(const Frame &frame, const Observed &o) const {
    const bool counted =
        std::any_of(o.counted.begin(), o.counted.end(),
                    [](auto &s) { return s.packets || s.bytes; });
    const Ports ports = expected_ports();
    if (o.run.out != frame) {
        return {"a miss that changes the packet", describe(o)};
    }
    if (counted) {
        return {"a miss that a flow has counted", describe(o)};
    }
    if (o.n_misses != 1) {
        return {"a miss that is not counted as one", describe(o)};
    }
    if (o.tx_port_misses && !(ports & ~Reality::working_ports())) {
        return {"to a port that OVS does not send to", describe(o)};
    }
    return {};
}

// Flows on the way count once each, others nothing.
Mismatch Judge::check_counts(const Observed &o, const model_result &r) const {
    if (o.n_misses) {
        return {"a hit that is counted as a miss", describe(o)};
    }
    for (size_t i = 0; i < o.counted.size(); i++) {
        uint64_t packets = 0, bytes = 0;
        uint16_t flags = 0;
        for (size_t k = 0; k < r.n_steps; k++) {
            if (r.steps[k].flow == i) {
                packets++;
                bytes += r.steps[k].bytes;
                flags |= r.steps[k].tcp_flags;
            }
        }
        if (o.counted[i].packets != packets || o.counted[i].bytes != bytes) {
            return {"packets or bytes are counted wrongly", describe(o)};
        }
        if (packets
            && (flags & ~o.counted[i].tcp_flags || !o.counted[i].used)) {
            return {"TCP flags or last use are wrong", describe(o)};
        }
    }
    return {};
}

// Finds the outcome that XDP came to, if it is one of those that OVS may come
// to.
Mismatch Judge::check_hit(const Observed &o, const model_result **used) const {
    Mismatch found{"a hit where OVS has none", {}};
    for (size_t i = 0; i < n_outcomes_; i++) {
        const model_result &r = *outcomes_[i];
        if (r.verdict != MODEL_EXECUTED) {
            continue;
        }
        if ((o.run.verdict == XDP_DROP) != (r.n_outputs == 0)) {
            found.kind = "dropped or sent, but OVS does the other";
            continue;
        }
        if (!std::all_of(r.outputs, r.outputs + r.n_outputs, [&](auto &out) {
                return same_bytes(o.run.out, out);
            })) {
            found.kind = "other bytes than OVS sends";
            continue;
        }
        found = check_counts(o, r);
        if (!found) {
            *used = &r;
            return {};
        }
    }
    if (found.details.empty()) {
        found.details = describe(o);
    }
    return found;
}

// With one of its ports held down the packet must be a miss.
Mismatch Judge::check_held_down(const Frame &frame, const model_result &r) {
    for (size_t i = 0; i < r.n_outputs; i++) {
        const Ports rest = expected_ports() & ~port_bit(r.outputs[i].port);
        const Observed &o = reality_->run(frame, rest);
        if (n_outcomes_ == 1 && o.run.verdict != XDP_PASS) {
            return {"sent while a port that OVS sends to is down",
                    describe(o)};
        }
    }
    return {};
}

void Judge::count(const model_result *used) {
    const model_result &r = used ? *used : *outcomes_[0];
    if (r.verdict != MODEL_EXECUTED) {
        return;
    }
    tally_.executed++;
    tally_.hits += used != nullptr;
    for (uint64_t k = kinds_of(*set_, r); k; k &= k - 1) {
        auto &kind = tally_.kinds[__builtin_ctzll(k)];
        kind.executed++;
        kind.hits += used != nullptr;
    }
}

Mismatch Judge::check(const Frame &frame, bool thorough) {
    const model_result *used = nullptr;
    Mismatch wrong;

    foresee(frame);
    const Observed &o = reality_->run(frame, expected_ports());
    switch (o.run.verdict) {
        case XDP_PASS:
            wrong = check_miss(frame, o);
            break;
        case XDP_DROP:
        case XDP_REDIRECT:
            wrong = check_hit(o, &used);
            break;
        default:
            wrong = {"a verdict that is none", describe(o)};
    }
    tally_.packets++;
    count(used);
    if (!wrong && used && (thorough || n_checked_++ % kHoldDownEvery == 0)) {
        wrong = check_held_down(frame, *used);
    }
    return wrong;
}

Mismatch Judge::check(const Case &c) {
    Mismatch wrong;
    use(c.set);
    for (int i = 0; i < 2 && !wrong; i++) {
        wrong = check(c.frame, true);
    }
    return wrong;
}

}  // namespace oracle
