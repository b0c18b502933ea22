// SPDX-License-Identifier: Apache-2.0
// One writer and readers that never wait for it, as the XDP program on several
// CPUs.  Run it under ThreadSanitizer, too: what a reader reads plainly
// (slots, masks) is what the protocol promises not to change under it.
//
// The grace period is one that the C++ memory model knows: the writer raises
// 'grace' after it has retired something, and each reader repeats the value
// between two look-ups.  So all that it read before happens before the reuse,
// and all that it reads after sees the removal.  (Subtable guesses are left
// out: a stale one reads a mask that is being written, which is harmless for
// the program but a data race in C++.)
#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <thread>

#include "flowxlate/tables/flow_table.h"
#include "tests/unit/tables.h"

namespace flowxlate::unit {
namespace {

constexpr size_t kReaders = 2;
constexpr auto kDuration = std::chrono::milliseconds(1500);

// The output port of a flow says whose it is, and its tag how often it was
// replaced.
uint32_t version_of(const xf_action &action) {
    uint32_t version;
    static_assert(sizeof action.tag[0] == sizeof version);
    std::memcpy(&version, &action.tag[0], sizeof version);
    return version;
}

// A few rewrites, which come and go with the versions.
uint32_t rewrite_of(uint32_t flow_number, uint32_t version) {
    return 1 + (flow_number + version) % 61;
}
FlowAction action_for(size_t i, uint32_t version) {
    const auto flow_number = static_cast<uint32_t>(i);
    FlowAction a = rewriting(flow_number, rewrite_of(flow_number, version));
    std::memcpy(&a.action.tag[0], &version, sizeof version);
    return a;
}

struct Subject {
    Megaflow flow;
    bool stable;  // Is always there: a reader has to find it.
};

std::vector<Subject> subjects() {
    std::vector<Subject> all;
    for (uint32_t id = 1; id <= 24; id++) {
        // Flows that come and go between flows that stay, in full buckets.
        for (uint32_t variant = 0; variant < 3; variant++) {
            all.push_back({{XF_CLASS_IPV4, variant, id}, id % 2 == 0});
        }
        // Subtables that come and go, in the walk of those that stay and in
        // two other classes, so that a slot changes from one to the other.
        all.push_back({{XF_CLASS_IPV4, 3 + id % 3, id}, false});
        all.push_back({{XF_CLASS_ARP, id % 5, id}, false});
        all.push_back({{XF_CLASS_IPV6, id % 4, id}, false});
    }
    return all;
}

class Race {
public:
    Race() : subjects_(subjects()), packets_(subjects_.size()) {}

    void run() {
        for (size_t i = 0; i < subjects_.size(); i++) {
            if (subjects_[i].stable) {
                ASSERT_TRUE(put(i));
            }
        }
        std::vector<std::thread> readers;
        for (size_t cpu = 0; cpu < kReaders; cpu++) {
            readers.emplace_back([this, cpu] { read(cpu); });
        }
        write();
        stop_ = true;
        for (auto &reader : readers) {
            reader.join();
        }
        reclaim(false);
        check();
    }

private:
    struct alignas(64) Reader {
        std::atomic<uint64_t> grace = 0;  // The last one it knows of.
        // What went wrong, and what was done; read after the thread's end.
        std::string error;
        std::vector<uint64_t> n_hits;
        uint64_t n_lookups = 0;
    };
    struct Live {
        FlowSlot slot;
        uint32_t version;
    };

    // The XDP program on one CPU.
    void read(size_t cpu) {
        Reader &me = readers_[cpu];
        const TableMemory &mem = t_.mem();
        auto seq = std::atomic_ref(mem.cpus[cpu].seq);
        std::mt19937 random(cpu);
        std::vector<uint32_t> versions(subjects_.size());
        std::vector<FlowSlot> cache(subjects_.size());  // The flow cache.
        me.n_hits.resize(subjects_.size());

        while (!stop_ && me.error.empty()) {
            const size_t i = random() % subjects_.size();
            const Subject &s = subjects_[i];
            const xf_key packet = s.flow.packet(random());

            seq.store(seq.load(std::memory_order_relaxed) + 1,
                      std::memory_order_relaxed);
            std::atomic_signal_fence(std::memory_order_seq_cst);
            // A packet's entry may be newer or older than another one's.
            const bool cached = random() % 2;
            const FlowSlot slot = find(mem, s.flow.cls, packet,
                                       cached ? cache[i] : FlowSlot::kNone);
            if (random() % 2) {
                cache[i] = slot;
            }
            me.n_lookups++;
            if (random() % 64 == 0) {
                std::this_thread::yield();  // Hold on to the slot.
            }
            if (slot == FlowSlot::kNone) {
                if (s.stable) {
                    me.error = "does not find flow " + std::to_string(i);
                }
            } else {
                execute(cpu, i, slot, &versions[i]);
            }
            std::atomic_signal_fence(std::memory_order_seq_cst);
            seq.store(seq.load(std::memory_order_relaxed) + 1,
                      std::memory_order_release);

            me.grace.store(grace_.load(std::memory_order_acquire),
                           std::memory_order_release);
        }
        me.grace.store(UINT64_MAX, std::memory_order_release);
    }

    // What is in the slot is flow 'i' still.
    void execute(size_t cpu, size_t i, FlowSlot slot, uint32_t *version) {
        Reader &me = readers_[cpu];
        const xf_flow &flow = t_.mem().flows[index(slot)];
        const xf_key key = subjects_[i].flow.key();
        bool same_key = true;
        for (uint32_t w = 0; w < XF_KEY_WORDS; w++) {
            same_key =
                same_key && key.word[w] == key_word(t_.mem(), index(slot), w);
        }
        const uint32_t seen = version_of(flow.action);
        if (!same_key || flow.action.to != i
            || flow.action.verdict != XF_OUTPUT) {
            me.error = "finds a recycled slot for flow " + std::to_string(i);
        } else if (seen + 1 < *version) {
            // The one before the newest may be predicted for an instant more.
            me.error = "goes back to an old flow " + std::to_string(i);
        } else if (t_.mem().rewrites[flow.action.rewrite].value[4]
                   != rewrite_of(flow.action.to, seen)) {
            me.error = "finds a recycled rewrite in " + std::to_string(i);
        } else {
            *version = std::max(*version, seen);
            me.n_hits[i]++;
            auto packets = std::atomic_ref(t_.stats(cpu, slot).packets);
            packets.store(packets.load(std::memory_order_relaxed) + 1,
                          std::memory_order_relaxed);
        }
    }

    bool put(size_t i) {
        FlowSlot slot;
        const uint32_t version = ++versions_[i];
        const Megaflow &m = subjects_[i].flow;
        if (t_.table.insert(m.cls, m.key(), m.mask(), action_for(i, version),
                            &slot)) {
            return false;
        }
        live_[i] = {slot, version};
        return true;
    }

    void write() {
        std::mt19937 random(99);
        const auto end = std::chrono::steady_clock::now() + kDuration;
        while (std::chrono::steady_clock::now() < end) {
            for (int n = 0; n < 16; n++) {
                const size_t i = random() % subjects_.size();
                const auto it = live_.find(i);
                if (it == live_.end()) {
                    n_inserted_ += put(i);
                } else if (subjects_[i].stable || random() % 4 == 0) {
                    Live &live = it->second;
                    const FlowSlot old = live.slot;
                    const uint32_t version = ++versions_[i];
                    if (!t_.table.replace(&live.slot,
                                          action_for(i, version))) {
                        retired_.push_back({i, old, 0, false});
                        n_replaced_++;
                    }
                } else {
                    t_.table.remove(it->second.slot);
                    retired_.push_back({i, it->second.slot, 0, false});
                    live_.erase(it);
                }
            }
            // Figures that are final according to quiesce() have to be so
            // after the grace period.
            if (random() % 4 == 0 && t_.table.quiesce()) {
                n_quiet_++;
                for (auto &r : retired_) {
                    if (!r.final) {
                        r.final = true;
                        r.packets = t_.table.stats(r.slot).packets;
                    }
                }
            }
            if (random() % 2) {
                reclaim(true);
            }
        }
    }

    void reclaim(bool wait) {
        (void)t_.table.begin_grace();
        const uint64_t now = grace_.fetch_add(1) + 1;
        for (size_t cpu = 0; wait && cpu < kReaders; cpu++) {
            while (readers_[cpu].grace.load(std::memory_order_acquire) < now) {
                std::this_thread::yield();
            }
        }
        for (const auto &r : retired_) {
            const uint64_t packets = t_.table.stats(r.slot).packets;
            if (r.final) {
                EXPECT_EQ(packets, r.packets) << "after quiesce()";
            }
            packets_[r.flow] += packets;
        }
        retired_.clear();
        t_.table.end_grace();
    }

    void check() {
        uint64_t n_lookups = 0, n_hits = 0;
        std::vector<uint64_t> hits(subjects_.size());
        for (const Reader &reader : readers_) {
            EXPECT_EQ(reader.error, "");
            n_lookups += reader.n_lookups;
            for (size_t i = 0; i < reader.n_hits.size(); i++) {
                hits[i] += reader.n_hits[i];
                n_hits += reader.n_hits[i];
            }
        }
        for (const auto &[i, live] : live_) {
            packets_[i] += t_.table.stats(live.slot).packets;
        }
        // Statistics are exact, over all slots that a flow ever had.
        for (size_t i = 0; i < subjects_.size(); i++) {
            EXPECT_EQ(packets_[i], hits[i]) << "flow " << i;
        }
        // Or nothing was tested.
        EXPECT_GT(n_hits, 1000u);
        EXPECT_GT(n_lookups, n_hits);
        EXPECT_GT(n_inserted_, 100u);
        EXPECT_GT(n_replaced_, 100u);
        EXPECT_GT(n_quiet_, 0u);
        EXPECT_GT(grace_, 10u);
    }

    struct Retired {
        size_t flow;
        FlowSlot slot;
        uint64_t packets;  // If 'final'.
        bool final;
    };

    Tables t_{{.buckets = 8,
               .flows = 256,
               .subtables = 14,
               .rewrites = 512,
               .cpus = kReaders,
               .cpus_have_run = false}};
    const std::vector<Subject> subjects_;
    std::array<Reader, kReaders> readers_;
    std::atomic<uint64_t> grace_ = 0;
    std::atomic<bool> stop_ = false;

    // The writer's.
    std::map<size_t, Live> live_;
    std::map<size_t, uint32_t> versions_;
    std::vector<Retired> retired_;
    std::vector<uint64_t> packets_;
    size_t n_inserted_ = 0, n_replaced_ = 0, n_quiet_ = 0;
};

TEST(FlowTableConcurrency, ReadersSeeWholeFlows) {
    Race race;
    race.run();
}

}  // namespace
}  // namespace flowxlate::unit
