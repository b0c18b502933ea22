// SPDX-License-Identifier: Apache-2.0
// Open vSwitch's connection tracker as the oracle for ct() in XDP: random
// pipelines and conversations through OVS alone, and through the XDP program
// with OVS behind it, which sees what the program passes on.
//
//   ct_oracle [--packets N | --seconds N] [--seed S] [--first SET] [--sets N]
//
// Needs root.  After each packet the flows that it has passed (each is for one
// state, zone, mark and label) and its bytes are the same; and every now and
// then so are all connections, with their states, time-outs and TCP sequence
// numbers.  Set K of seed S is always the same.  A mismatch ends the run with
// status 1.
#include <linux/bpf.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <stdexcept>

#include <bpf/libbpf.h>

#include "bpf/abi/conn.h"
#include "bpf/abi/counters.h"
#include "ct_packets.h"
#include "ct_pipelines.h"
#include "reality.h"
#include "tests/grace.h"
#include "tracker.h"
#include "trials.h"

namespace oracle {
namespace {

using flowxlate::ConnTable;
using flowxlate::OldConns;
using flowxlate::test::hex;

constexpr unsigned kPacketsPerSet = 300, kCompareEvery = 50;
constexpr unsigned kConversations = 6;
// Of an executed packet and of one that OVS has seen, clocks differ by a tick.
constexpr long long kClockMs = 100;
// Below this share of hits the comparison says little.
constexpr double kMinHitPercent = 25;

// -- The plugin's operations, on a table alone ------------------------------

ConnTable *table_of(void *self) { return static_cast<ConnTable *>(self); }

const ovs_offload_ops *table_ops() {
    static const ovs_offload_ops ops = [] {
        ovs_offload_ops o{};
        o.size = sizeof o;
        o.abi = OVS_OFFLOAD_ABI;
        o.ct_open = [](void *t, const ovs_offload_ct_settings *s) {
            return table_of(t)->open(*s);
        };
        o.ct_close = [](void *t) { table_of(t)->close(); };
        o.ct_settings = [](void *t, const ovs_offload_ct_settings *s) {
            table_of(t)->set(*s);
        };
        o.ct_put = [](void *t, const ovs_offload_ct *c, uint64_t *handle) {
            return table_of(t)->put(*c, handle);
        };
        o.ct_del = [](void *t, uint64_t handle) { table_of(t)->del(handle); };
        o.ct_use = [](void *t, uint64_t handle, ovs_offload_ct_use *use) {
            return table_of(t)->use(handle, use);
        };
        o.ct_restore = [](void *t, ovs_offload_ct *c) {
            return table_of(t)->restore(c);
        };
        return o;
    }();
    return &ops;
}

struct Tally {
    uint64_t packets = 0, hits = 0, sets = 0, flows = 0, refused = 0,
             compared = 0, ended = 0, restarts = 0, restored = 0, cut = 0,
             late = 0;
    std::map<std::string, uint64_t> misses;
};

// -- One set ----------------------------------------------------------------

class Trial {
public:
    Trial(Reality *reality, Random *r, Tally *tally)
        : reality_(*reality),
          random_(*r),
          tally_(*tally),
          pipeline_(make_pipeline(r)),
          table_(reality->program().maps().connections()),
          seed_(static_cast<uint32_t>(r->word()) | 1),
          checks_windows_(!r->percent(15)),
          alone_(tracker_create(seed_, nullptr, nullptr)),
          behind_(tracker_create(seed_, table_ops(), &table_)) {
        reality_.install(FlowSet{});
        for (unsigned i = 0; i < kConversations; i++) {
            conversations_.emplace_back(r, pipeline_.v6, !pipeline_.identity);
        }
        for (int m = 0; m < XF_N_MISSES; m++) {
            misses_[m] = reality_.program().misses(static_cast<xf_miss>(m));
        }
        tracker_check_windows(alone_, checks_windows_);
        tracker_check_windows(behind_, checks_windows_);
    }
    ~Trial() {
        tracker_destroy(behind_);
        if (!ended_) {
            tracker_destroy(alone_);
        }
        for (auto *f : flows_) {
            model_flow_destroy(f);
        }
    }
    Trial(const Trial &) = delete;
    Trial &operator=(const Trial &) = delete;

    // Returns what is wrong, or nothing.
    std::string run() {
        for (unsigned i = 0; i < kPacketsPerSet; i++) {
            Conversation &c = random_.pick(conversations_);
            frame_ = c.next(&random_);
            auto wrong = run_packet();
            if (ended_) {
                tally_.ended++;
                return {};
            }
            if (is_late()) {
                return {};
            }
            if (wrong.empty() && i % kCompareEvery == kCompareEvery - 1) {
                wrong = compare_connections();
            }
            if (!wrong.empty()) {
                return "packet " + std::to_string(i) + ": " + wrong
                     + "\npipeline:\n" + pipeline_.text();
            }
            if (alone_result_.n_outputs) {
                const auto &o = alone_result_.outputs[0];
                c.sent(Frame(o.frame, o.frame + o.len));
            }
            disturb();
            if (random_.percent(2)) {
                wrong = restart();
            }
            if (is_late()) {
                return {};
            }
            if (!wrong.empty()) {
                return "after a restart: " + wrong;
            }
            if (is_cut_) {
                break;
            }
        }
        tally_.sets++;
        return {};
    }

private:
    static const model_flow *upcall(void *self, const model_key *key) {
        return static_cast<Trial *>(self)->make_flow(key);
    }

    const model_flow *make_flow(const model_key *key) {
        const auto &actions =
            pipeline_.actions(tracker_recirc_id(key), tracker_ct_state(key));
        const auto texts = c_strings(actions);
        model_flow *f = tracker_make_flow(key, texts.data(), texts.size());
        if (!f) {
            throw std::runtime_error("no flow of:\n" + pipeline_.text());
        }
        flows_.push_back(f);
        return f;
    }

    // Through OVS.  Which flows the packet has passed is in the result, by the
    // index of those that there were before, or is made.
    void run_model(conntrack *ct, model_result *result) {
        static constexpr size_t kFirst[MODEL_MAX_STEPS] = {};
        model_ptrs_.assign(flows_.begin(), flows_.end());
        const model_packet packet = {
            frame_.data(), frame_.size(), kInPort, false, ct,
            now_,          upcall,        this};
        model_run(model_ptrs_.data(), model_ptrs_.size(), &packet, kFirst,
                  result);
    }

    // Has this process waited for a CPU for so long that the program, which
    // has a clock of its own, may have taken the packet for a later one?
    bool is_late() {
        const bool late = tracker_now() - now_ > kClockMs / 2;
        tally_.late += late;
        return late;
    }

    std::string run_packet() {
        now_ = tracker_now();
        const size_t n_known = flows_.size();
        const auto &seen = reality_.run(frame_);
        const bool hit = !seen.n_misses;
        tally_.packets++;
        tally_.hits += hit;
        ended_ = !tracker_survives(
            [](void *self) {
                auto *t = static_cast<Trial *>(self);
                t->run_model(t->alone_, &t->alone_result_);
            },
            this);
        if (ended_) {
            return {};
        }
        std::string wrong;
        if (hit) {
            wrong = compare_hit(seen, n_known);
        } else {
            count_miss();
            run_model(behind_, &behind_result_);
            wrong = compare_results();
        }
        for (size_t i = n_known; i < flows_.size(); i++) {
            tally_.flows++;
            tally_.refused += !!reality_.add(*flows_[i]);
        }
        return wrong;
    }

    void count_miss() {
        for (int m = 0; m < XF_N_MISSES; m++) {
            const auto reason = static_cast<xf_miss>(m);
            const uint64_t n = reality_.program().misses(reason);
            if (n != misses_[m]) {
                static constexpr const char *kNames[] = {XF_MISS_NAMES};
                tally_.misses[kNames[m]] += n - misses_[m];
                misses_[m] = n;
            }
        }
    }

    std::string compare_hit(const Observed &seen, size_t n_known) const {
        if (flows_.size() != n_known) {
            return "XDP executes what OVS has no flow for";
        }
        std::vector<uint64_t> passed(n_known);
        for (size_t i = 0; i < alone_result_.n_steps; i++) {
            passed[alone_result_.steps[i].flow]++;
        }
        for (size_t i = 0; i < n_known; i++) {
            if (seen.counted[i].packets != passed[i]) {
                return "XDP passes other flows: "
                     + std::to_string(seen.counted[i].packets) + " instead of "
                     + std::to_string(passed[i]) + " through "
                     + text_of(flows_[i]);
            }
        }
        const bool sent = seen.run.verdict == XDP_REDIRECT;
        if (sent != (alone_result_.n_outputs == 1)) {
            return "XDP sends what OVS drops, or the reverse";
        }
        const auto &o = alone_result_.outputs[0];
        if (sent && seen.run.out != Frame(o.frame, o.frame + o.len)) {
            return "XDP sends other bytes:\n  " + hex(seen.run.out) + "\n  "
                 + hex(Frame(o.frame, o.frame + o.len));
        }
        return {};
    }

    // OVS alone and OVS behind XDP.
    std::string compare_results() const {
        const auto &a = alone_result_, &b = behind_result_;
        bool same = a.n_steps == b.n_steps && a.n_outputs == b.n_outputs
                 && a.verdict == b.verdict;
        for (size_t i = 0; same && i < a.n_steps; i++) {
            same = a.steps[i].flow == b.steps[i].flow;
        }
        for (size_t i = 0; same && i < a.n_outputs; i++) {
            same = a.outputs[i].len == b.outputs[i].len
                && !std::memcmp(a.outputs[i].frame, b.outputs[i].frame,
                                a.outputs[i].len);
        }
        return same ? ""
                    : "OVS behind XDP does something else with " + hex(frame_)
                          + "\n alone:\n" + steps_of(a) + " behind:\n"
                          + steps_of(b);
    }

    std::string steps_of(const model_result &r) const {
        std::string s;
        for (size_t i = 0; i < r.n_steps; i++) {
            s += "  " + text_of(flows_[r.steps[i].flow]) + "\n";
        }
        for (size_t i = 0; i < r.n_outputs; i++) {
            const auto &o = r.outputs[i];
            s += "  sends " + hex(Frame(o.frame, o.frame + o.len)) + "\n";
        }
        return s;
    }

    std::string compare_connections() {
        tracked *a, *b;
        const size_t n = tracker_list(alone_, now_, &a);
        const size_t m = tracker_list(behind_, now_, &b);
        std::string wrong;
        if (n != m) {
            wrong = std::to_string(n) + " connections, " + std::to_string(m)
                  + " behind XDP";
        }
        for (size_t i = 0; wrong.empty() && i < n; i++) {
            wrong = compare_connection(a[i], b[i]);
            tally_.compared++;
        }
        std::free(a);
        std::free(b);
        return wrong;
    }

    static std::string compare_connection(const tracked &a, const tracked &b) {
        if (std::strcmp(a.text, b.text) != 0 || a.timeout != b.timeout) {
            return std::string("connection:\n  ") + a.text + "\n  " + b.text
                 + "\ntime-outs: " + std::to_string(a.timeout) + ", "
                 + std::to_string(b.timeout);
        }
        if (std::abs(a.expires - b.expires) > kClockMs) {
            return "expires in " + std::to_string(a.expires) + " ms, "
                 + std::to_string(b.expires) + " behind XDP:\n  " + a.text;
        }
        if (std::memcmp(a.seq, b.seq, sizeof a.seq)
            || std::memcmp(a.ack_win, b.ack_win, sizeof a.ack_win)
            || std::memcmp(a.max_win, b.max_win, sizeof a.max_win)) {
            std::string s = "TCP windows differ:";
            for (int d = 0; d < 2; d++) {
                s += " " + std::to_string(a.seq[d]) + "/"
                   + std::to_string(b.seq[d]) + " "
                   + std::to_string(a.ack_win[d]) + "/"
                   + std::to_string(b.ack_win[d]) + " "
                   + std::to_string(a.max_win[d]) + "/"
                   + std::to_string(b.max_win[d]);
            }
            return s + "\n  " + a.text;
        }
        return {};
    }

    // Time passes, or connections are ended.
    void disturb() {
        static constexpr long long kAges[] = {500,   500,   3500,
                                              31500, 61500, 301500};
        if (random_.percent(2)) {
            age(pipeline_.identity ? kAges[0] : random_.pick(kAges));
        } else if (random_.percent(1)) {
            const auto zone = static_cast<uint16_t>(random_.between(1, 3));
            tracker_flush(alone_, zone);
            tracker_flush(behind_, zone);
        }
    }

    // OVS behind XDP ends, and is there again with the connections that it
    // had. Not if it had one that cannot come back: OVS alone goes on with
    // that.
    std::string restart() {
        constexpr uint32_t kSlots = 256;
        const auto &mem = reality_.program().maps().connections();
        std::vector<xf_conn> conns(mem.conns.begin(),
                                   mem.conns.begin() + 2 * kSlots);
        std::vector<xf_conn_use> uses(mem.uses.begin(),
                                      mem.uses.begin() + 2 * kSlots);
        const OldConns old(++n_restarts_, {conns, uses, {}});
        size_t n = 0;
        for (uint32_t slot = 1; slot < kSlots; slot++) {
            ovs_offload_ct c;
            n += old.read(slot, static_cast<uint64_t>(now_), &c)
              == OldConns::LeftOut::kNot;
        }
        if (n != tracker_count(behind_)) {
            return {};
        }
        tracker_destroy(behind_);
        pass_grace(&table_);
        behind_ = tracker_create(seed_, table_ops(), &table_);
        tracker_check_windows(behind_, checks_windows_);
        table_.inherit(OldConns(n_restarts_, {conns, uses, {}}));
        tracker_restore(behind_);
        table_.forget_old();
        tally_.restarts++;
        tally_.restored += n;
        return compare_restored();
    }

    // OVS lets the time-out of the state before stand where a packet was valid
    // though out of the window.  What came back has that of its state, and
    // lives no longer than it would have; a set that has such a connection
    // ends there.
    std::string compare_restored() {
        tracked *a, *b;
        const size_t n = tracker_list(alone_, now_, &a);
        const size_t m = tracker_list(behind_, now_, &b);
        std::string wrong = n == m ? "" : "other connections";
        for (size_t i = 0; wrong.empty() && i < n; i++) {
            if (b[i].timeout != a[i].timeout
                && b[i].expires <= a[i].expires + kClockMs) {
                is_cut_ = true;
                b[i].timeout = a[i].timeout;
                b[i].expires = a[i].expires;
            }
            wrong = compare_connection(a[i], b[i]);
        }
        tally_.cut += is_cut_;
        std::free(a);
        std::free(b);
        return wrong;
    }

    // Not to before the machine was started: the program's clock is its own.
    void age(long long ms) {
        if (aged_ + ms + 10'000 > now_) {
            return;
        }
        aged_ += ms;
        const auto &mem = reality_.program().maps().connections();
        for (auto &use : mem.uses) {
            use.expires_ms -= use.expires_ms ? ms : 0;
            use.used_ms -= use.used_ms ? ms : 0;
        }
        tracker_age(behind_, ms);
        tracker_age(alone_, ms);
    }

    static std::string text_of(const model_flow *f) {
        char *text = model_flow_format(f);
        std::string s = text;
        std::free(text);
        return s;
    }

    Reality &reality_;
    Random &random_;
    Tally &tally_;
    const Pipeline pipeline_;
    ConnTable table_;
    const uint32_t seed_;
    const bool checks_windows_;
    conntrack *alone_, *behind_;
    std::vector<Conversation> conversations_;
    std::vector<model_flow *> flows_;
    std::vector<const model_flow *> model_ptrs_;
    model_result alone_result_{}, behind_result_{};
    std::array<uint64_t, XF_N_MISSES> misses_{};
    Frame frame_;
    long long now_ = 0, aged_ = 0;
    bool ended_ = false;  // OVS alone, by itself.
    uint32_t n_restarts_ = 0;
    bool is_cut_ = false;
};

// -- The run ----------------------------------------------------------------

int run(const RunOptions &o) {
    Tally t;
    Reality reality(true);
    const bool good = run_trials(
        o, kPacketsPerSet, [&] { return t.packets; },
        [&](Random *random) { return Trial(&reality, random, &t).run(); });
    const double share = percent(t.hits, t.packets);
    for (auto &[name, n] : t.misses) {
        std::printf("  passed on, %s: %ju\n", name.c_str(),
                    static_cast<uintmax_t>(n));
    }
    const bool enough = t.packets < 10'000 || share >= kMinHitPercent;
    std::printf(
        "ct_oracle: %ju packets, %ju sets (%ju megaflows, %ju refused), "
        "%ju hits (%.1f %%), %ju connections compared, OVS alone ended itself "
        "%ju times, %ju restarts (%ju connections came back, %ju sets cut "
        "short), %ju sets ended by a busy machine, mismatches %d, seed "
        "%ju\n%d passed, %d failed, 0 "
        "skipped\n",
        static_cast<uintmax_t>(t.packets), static_cast<uintmax_t>(t.sets),
        static_cast<uintmax_t>(t.flows), static_cast<uintmax_t>(t.refused),
        static_cast<uintmax_t>(t.hits), share,
        static_cast<uintmax_t>(t.compared), static_cast<uintmax_t>(t.ended),
        static_cast<uintmax_t>(t.restarts), static_cast<uintmax_t>(t.restored),
        static_cast<uintmax_t>(t.cut), static_cast<uintmax_t>(t.late), !good,
        static_cast<uintmax_t>(o.seed), good + enough, !good + !enough);
    return good && enough ? 0 : 1;
}

}  // namespace
}  // namespace oracle

int main(int argc, char **argv) {
    try {
        libbpf_set_print(nullptr);
        model_init();
        return oracle::run(oracle::parse({.packets = 300'000}, argc, argv));
    } catch (const std::exception &e) {
        std::fprintf(stderr, "ct_oracle: %s\n", e.what());
        return 1;
    }
}
