// SPDX-License-Identifier: Apache-2.0
// OVS's threads put, delete and ask for connections, programs find them and
// write what they have seen, at the same time.  Run it under ThreadSanitizer,
// too: a program reads tuples plainly, since those of a connection that is
// found do not change before a grace period (see
// flow_table_concurrency_test.cc).
#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "bpf/abi/conn.h"
#include "tests/unit/conns.h"

namespace flowxlate::unit {
namespace {

constexpr uint32_t kConnections = 48;  // More than there is room for.
constexpr uint32_t kStable = 8;        // Of them always there.
constexpr size_t kSlots = 33;
constexpr size_t kPrograms = 2, kWriters = 2, kAskers = 1;
constexpr auto kDuration = std::chrono::milliseconds(1000);

// What a connection has says whose it is, and how often it has changed.
uint32_t word_of(uint32_t id, uint32_t version) {
    return id << 20 | (version & 0xfffff);
}
uint32_t id_of(uint64_t word) { return static_cast<uint32_t>(word >> 20); }

ovs_offload_ct version_of(uint32_t id, uint32_t version) {
    ovs_offload_ct c = connection(id);
    c.mark = c.timeout_ms = word_of(id, version);
    const uint64_t label[] = {c.mark, c.mark};
    std::memcpy(c.label, label, sizeof label);
    for (auto &dir : c.dir) {
        dir.seq_end = dir.ack_win = dir.max_win = word_of(id, 0);
    }
    return c;
}

class Race {
public:
    Race() {
        EXPECT_EQ(conns_.table.open({}), 0);
        for (uint32_t id = 0; id < kStable; id++) {
            handles_[id] = conns_.put(version_of(id, 0));
        }
    }

    void run() {
        std::vector<std::thread> threads;
        for (size_t i = 0; i < kPrograms; i++) {
            threads.emplace_back([this, i] { execute(i); });
        }
        for (size_t i = 0; i < kWriters; i++) {
            threads.emplace_back([this, i] { put_and_delete(i); });
        }
        for (size_t i = 0; i < kAskers; i++) {
            threads.emplace_back([this] { ask(); });
        }
        threads.emplace_back([this] { reclaim(); });
        std::this_thread::sleep_for(kDuration);
        stop_ = true;
        for (auto &thread : threads) {
            thread.join();
        }
        EXPECT_GT(n_found_, 0u);
        EXPECT_GT(n_used_, 0u);
        EXPECT_GT(n_reclaimed_, kSlots) << "slots were used again";
    }

private:
    void execute(size_t cpu) {
        std::mt19937 random(cpu);
        while (!stop_) {
            const uint64_t grace = grace_;
            const uint32_t id = random() % kConnections;
            const int d = random() % 2;
            const uint32_t index = conns_.find(connection(id), d);
            if (!Conns::is_none(index)) {
                execute(id, index);
            }
            ASSERT_TRUE(index || id >= kStable) << id;
            seen_[cpu] = grace;
        }
        seen_[cpu] = UINT64_MAX;
    }

    // What belongs together, or nothing.
    void execute(uint32_t id, uint32_t index) {
        xf_conn &c = conns_.conns[index];
        const uint32_t change = Conns::load(c.change);
        const uint32_t mark = Conns::load(c.mark);
        const uint32_t timeout = Conns::load(c.timeout_ms);
        const uint64_t label = Conns::load(c.label[1]);
        if (!(change & 1) && Conns::load(c.change) == change) {
            ASSERT_EQ(mark, timeout);
            ASSERT_EQ(mark, label);
            ASSERT_EQ(id_of(mark), id);
        }
        n_found_++;
        xf_conn_use &use = conns_.uses[index];
        Conns::store(use.used_ms, word_of(id, 1));
        Conns::store(use.seq_end, word_of(id, mark));
    }

    // Each writer has connections of its own, as OVS holds a lock of each.
    void put_and_delete(size_t writer) {
        std::mt19937 random(100 + writer);
        for (uint32_t version = 1; !stop_; version++) {
            const uint32_t id =
                random() % (kConnections / kWriters) * kWriters + writer;
            uint64_t handle = handles_[id];
            if (handle && id >= kStable && random() % 2) {
                conns_.table.del(handle);
                handles_[id] = 0;
            } else {
                ASSERT_EQ(conns_.table.put(version_of(id, version), &handle),
                          0);
                handles_[id] = handle;
            }
        }
    }

    // What is said of a connection is of that one.
    void ask() {
        std::mt19937 random(200);
        while (!stop_) {
            const uint32_t id = random() % kConnections;
            ovs_offload_ct_use use{};
            if (conns_.table.use(handles_[id], &use)) {
                n_used_++;
                ASSERT_EQ(id_of(use.used_ms), id);
                ASSERT_EQ(id_of(use.expires_ms - use.used_ms), id);
                for (const auto &dir : use.dir) {
                    ASSERT_EQ(id_of(dir.seq_end), id);
                    ASSERT_EQ(id_of(dir.max_win), id);
                }
            }
        }
    }

    void reclaim() {
        while (!stop_) {
            const size_t n = conns_.table.begin_grace();
            const uint64_t grace = ++grace_;
            for (const auto &seen : seen_) {
                while (seen < grace && !stop_) {
                    std::this_thread::yield();
                }
            }
            if (!stop_) {
                conns_.table.end_grace();
                n_reclaimed_ += n;
            }
        }
    }

    Conns conns_{{.slots = kSlots, .buckets = 8}};
    std::array<std::atomic<uint64_t>, kConnections> handles_{};
    std::atomic<uint64_t> grace_ = 1;
    std::array<std::atomic<uint64_t>, kPrograms> seen_{};
    std::atomic<bool> stop_ = false;
    std::atomic<size_t> n_found_ = 0, n_used_ = 0;
    size_t n_reclaimed_ = 0;
};

TEST(ConnTableConcurrency, PutDeleteAskAndExecute) { Race().run(); }

// Answers come as those of two connections, of which one is there all the
// time, and OVS finds one of them, whichever it is.  So does the program, or
// it took them for packets of no connection.
TEST(ConnTableConcurrency, OneOfTwoIsAlwaysFound) {
    Conns conns;
    ASSERT_EQ(conns.table.open({}), 0);
    const ovs_offload_ct younger = connection(1);
    ovs_offload_ct older = younger;
    older.dir[0].dst[3] = 2;  // To another address, which is translated.
    older.dir[0].nat_state = OVS_CS_F_DST_NAT;
    older.dir[1].nat_state = OVS_CS_F_SRC_NAT;
    // The older one's entry may be the first in the bucket, or the second.
    for (const bool is_first : {true, false}) {
        const uint64_t before = is_first ? 0 : conns.put(younger);
        ASSERT_NE(conns.put(older), 0u);
        conns.table.del(before);
        conns.reclaim();
        std::atomic<bool> done = false;
        std::atomic<uint64_t> n_looked = 0, n_lost = 0;
        std::thread program([&] {
            while (!done) {
                n_lost += !conns.find(younger, 1);
                n_looked++;
            }
        });
        const auto end = std::chrono::steady_clock::now() + kDuration;
        while (std::chrono::steady_clock::now() < end) {
            conns.table.del(conns.put(younger));
            for (const uint64_t now = n_looked; n_looked < now + 2;) {
            }
            conns.reclaim();
        }
        done = true;
        program.join();
        EXPECT_EQ(n_lost, 0u) << "of " << n_looked;
    }
}

}  // namespace
}  // namespace flowxlate::unit
