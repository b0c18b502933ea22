// SPDX-License-Identifier: Apache-2.0
// The port kIn of a Program, captured: the same program, which also copies what
// enters (bpf/run/capture.h).
#ifndef TESTS_BPF_CAPTURED_H
#define TESTS_BPF_CAPTURED_H

#include <memory>
#include <vector>

#include "bpf/abi/capture.h"
#include "program.h"

namespace flowxlate::test {

class Captured {
public:
    // What is told of a packet.
    struct Record {
        xf_captured head;
        Frame data;
        std::vector<Ufid> flows;
    };

    // 'program' must outlive this.
    explicit Captured(Program &program, const CaptureSizes & = {.packet = 2048, .ring = 1 << 16});
    ~Captured();

    int fd() const;
    xf_lease &lease() { return lease_.as<xf_lease>(1)[0]; }  // Ends never.
    Run run(const Frame &in) const;
    // What was copied since the last time; throws if it makes no sense.
    std::vector<Record> take();

private:
    Program &program_;
    FlowNames names_;
    Skeleton skeleton_;
    Mapping lease_;
    std::vector<std::vector<uint8_t>> raw_;
    std::unique_ptr<ring_buffer, RingBufferDeleter> ring_;
};

}  // namespace flowxlate::test

#endif
