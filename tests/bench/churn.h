// SPDX-License-Identifier: Apache-2.0
// Flows that come and go in another thread, and the rate of packets meanwhile.
#ifndef TESTS_BENCH_CHURN_H
#define TESTS_BENCH_CHURN_H

#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>
#include <thread>

#include "measure.h"

namespace flowxlate::bench {

// What is measured: something that flows are put into, by number.
struct FlowTarget {
    std::function<void(uint32_t)> put, modify, del;
};

constexpr int kChurnPerS = 10'000;

// While it exists, another thread puts and deletes kChurnPerS flows a second.
class Churn {
public:
    explicit Churn(const FlowTarget &target)
        : target_(target),
          thread_([this](std::stop_token stop) { run(stop); }) {}

    // Ends it; returns flows put per second.
    double stop() {
        thread_.request_stop();
        thread_.join();
        if (error_) {
            std::rethrow_exception(error_);
        }
        return n_ * 1e6 / us_;
    }

private:
    void run(const std::stop_token &stop) noexcept;
    void work(const std::stop_token &stop);

    FlowTarget target_;
    uint64_t n_ = 0;
    double us_ = 0;
    std::exception_ptr error_;
    std::jthread thread_;  // The last, as it uses the others.
};

// Packets per second of CPU time on the second CPU.
double forwarding_rate(int program, const Frame &in,
                       std::chrono::nanoseconds duration);

}  // namespace flowxlate::bench

#endif
