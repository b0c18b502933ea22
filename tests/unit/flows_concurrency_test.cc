// SPDX-License-Identifier: Apache-2.0
// Programs count, while flows are put, modified and parked by one thread and
// asked and deleted by another: each packet is told once.  Run it under
// ThreadSanitizer, too.
//
// No slot is used again, so readers need no grace period here (see
// flow_table_concurrency_test.cc for that).
#include <gtest/gtest.h>

#include <chrono>
#include <mutex>
#include <thread>

#include "tests/unit/engine.h"

namespace flowxlate::unit {
namespace {

using enum Shape;

constexpr uint32_t kFlows = 32;
constexpr size_t kSlots = 1 << 16;
constexpr size_t kReaders = 2;
constexpr auto kDuration = std::chrono::milliseconds(1000);
constexpr Shape kShapes[] = {kOutput, kOtherOutput, kOtherMask};

class Race {
public:
    Race() {
        // Their masks stay.
        EXPECT_FALSE(engine_.put(kFlows, kOutput));
        EXPECT_FALSE(engine_.put(kFlows + 1, kOtherMask));
        in_ = index(engine_.ports.find(kIn)->slot);
    }

    void run() {
        std::vector<std::thread> threads;
        for (size_t cpu = 0; cpu < kReaders; cpu++) {
            threads.emplace_back([this, cpu] { execute(cpu); });
        }
        threads.emplace_back([this] { put_and_park(); });
        threads.emplace_back([this] { take_and_remove(); });
        std::this_thread::sleep_for(kDuration);
        stop_ = true;
        for (auto &thread : threads) {
            thread.join();
        }
        check();
    }

private:
    // The XDP program on one CPU.
    void execute(size_t cpu) {
        auto seq = std::atomic_ref(engine_.tables.mem().cpus[cpu].seq);
        std::mt19937 random(cpu);
        while (!stop_) {
            const uint32_t id = random() % kFlows;
            auto match =
                Engine::rule(id, kShapes[random() % std::size(kShapes)]).match;
            match.key.in_port = in_;
            seq.store(seq.load(std::memory_order_relaxed) + 1,
                      std::memory_order_relaxed);
            std::atomic_signal_fence(std::memory_order_seq_cst);
            const auto slot = find(engine_.tables.mem(), match.cls, match.key);
            if (slot != FlowSlot::kNone) {
                auto packets =
                    std::atomic_ref(engine_.tables.stats(cpu, slot).packets);
                packets.store(packets.load(std::memory_order_relaxed) + 1,
                              std::memory_order_relaxed);
                counted_[cpu][id]++;
            }
            std::atomic_signal_fence(std::memory_order_seq_cst);
            seq.store(seq.load(std::memory_order_relaxed) + 1,
                      std::memory_order_release);
        }
    }

    void put_and_park() {
        std::mt19937 random(10);
        while (!stop_) {
            const uint32_t id = random() % kFlows;
            const Shape shape = kShapes[random() % std::size(kShapes)];
            const std::lock_guard lock(mutex_);
            if (random() % 4 == 0) {
                engine_.flows.park(Engine::ufid(id),
                                   {"parked", "flushed", ENODEV});
            } else if (n_put_ < kSlots / 2 && !engine_.put(id, shape)) {
                n_put_++;
            }
        }
    }

    void take_and_remove() {
        std::mt19937 random(11);
        while (!stop_) {
            const uint32_t id = random() % kFlows;
            FlowStats told;
            const std::lock_guard lock(mutex_);
            if (random() % 4) {
                (void)engine_.flows.take(Engine::ufid(id), &told);
            } else {
                (void)engine_.flows.remove(Engine::ufid(id), &told);
            }
            told_[id] += told.packets;
        }
    }

    void check() {
        uint64_t all = 0;
        for (uint32_t id = 0; id < kFlows; id++) {
            FlowStats told;
            (void)engine_.flows.remove(Engine::ufid(id), &told);
            told_[id] += told.packets;
            uint64_t counted = 0;
            for (auto &counters : counted_) {
                counted += counters[id];
            }
            all += counted;
            // Figures are final unless a reader was held up for too long.
            if (engine_.flows.n_late_removals()) {
                EXPECT_LE(told_[id], counted) << "flow " << id;
            } else {
                EXPECT_EQ(told_[id], counted) << "flow " << id;
            }
        }
        EXPECT_GT(all, 1000u);  // Or nothing was tested.
        EXPECT_GT(n_put_, 100u);
    }

    Engine engine_{{.buckets = 64, .flows = kSlots, .cpus = kReaders}};
    uint16_t in_;
    std::atomic<bool> stop_ = false;
    std::mutex mutex_;  // "The caller serializes all calls."
    uint64_t n_put_ = 0;
    std::array<uint64_t, kFlows> told_{};
    std::array<std::array<uint64_t, kFlows>, kReaders> counted_{};
};

TEST(FlowsConcurrency, EachPacketIsToldOnce) {
    Race race;
    race.run();
}

}  // namespace
}  // namespace flowxlate::unit
