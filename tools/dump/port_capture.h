// SPDX-License-Identifier: Apache-2.0
// What the program of a port copies while somebody looks (bpf/run/capture.h).
#ifndef TOOLS_DUMP_PORT_CAPTURE_H
#define TOOLS_DUMP_PORT_CAPTURE_H

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "flowxlate/base/resource.h"
#include "flowxlate/base/types.h"

struct ring_buffer;  // libbpf's.

namespace flowxlate {

// A packet that has entered the port, as it came.
struct Packet {
    uint64_t time_ns = 0;  // Since 1970.
    uint32_t frame_len = 0;
    std::span<const uint8_t> data;  // At most as much as was asked for.
    int32_t action = 0;             // As in struct xf_captured.
    uint32_t queue = 0;
    std::vector<Ufid> flows;
    std::vector<std::string> to;  // Names of ports, if it was redirected.

    bool is_passed() const { return action < 0; }
    std::string verdict() const;  // In words.
};

class PortCapture {
public:
    // Begins to capture the port: 'packet_bytes' of each packet, in a ring of
    // 'ring_kib'.
    static Failure begin(const std::string &target, const std::string &port,
                         uint32_t packet_bytes, uint32_t ring_kib,
                         std::unique_ptr<PortCapture> *);
    ~PortCapture();

    // Hands out packets that have come, not for ever, until 'take' returns
    // false.  Returns how many.
    using Take = std::function<bool(const Packet &)>;
    size_t read(const Take &take);

    // To be called each second or so, or no more packets are copied.
    void renew();
    // Why no more packets come; empty if they may.
    std::string why_over() const;
    // Has ovs-vswitchd end it, if that is there.  What has come until then can
    // be read afterwards.
    Failure end();

    uint64_t n_lost() const;  // There was no room for so many.

private:
    struct FreeRing {
        void operator()(ring_buffer *) const;
    };
    static int take_record(void *self, void *data, size_t size) noexcept;
    Failure open();
    bool parse(std::span<const uint8_t> record, Packet *) const;
    std::string port_name(uint32_t slot) const;

    std::string target_, port_;
    uint32_t program_ = 0, link_ = 0;
    Mapping lease_, ports_;
    uint32_t n_ports_ = 0;
    int64_t realtime_ = 0;  // CLOCK_REALTIME - CLOCK_MONOTONIC, in ns.
    std::unique_ptr<ring_buffer, FreeRing> ring_;
    Fd ring_fd_;
    const Take *take_ = nullptr;  // While packets are read:
    size_t n_read_ = 0;
};

}  // namespace flowxlate

#endif
