// SPDX-License-Identifier: Apache-2.0
// Packets as hosts exchange them, and as they should not: conversations of
// TCP, UDP, ICMP and others over a few addresses and ports, in both
// directions, the answers addressed to what the other side has seen.
#ifndef TESTS_ORACLE_CT_PACKETS_H
#define TESTS_ORACLE_CT_PACKETS_H

#include <array>
#include <optional>
#include <vector>

#include "frames.h"
#include "random.h"

namespace oracle {

using Address = std::array<uint8_t, 16>;  // IPv4: the first 4 bytes.

struct Tuple {
    Address src{}, dst{};
    uint16_t sport = 0, dport = 0;  // ICMP: the identifier, twice.

    Tuple reversed() const { return {dst, src, dport, sport}; }
};

// What a packet is made of; checksums are right.
struct Segment {
    bool v6 = false;
    uint8_t proto = 0;
    Tuple tuple;
    uint8_t flags = 0;  // TCP.
    uint32_t seq = 0, ack = 0;
    uint16_t win = 0;
    std::optional<uint8_t> wscale;  // TCP's option.
    uint8_t icmp_type = 0, icmp_code = 0;
    size_t payload = 0;

    Frame frame() const;
};

// The addresses and ports of a frame, as they are on the wire.
std::optional<Tuple> tuple_of(const Frame &, bool v6, uint8_t proto);

class Conversation {
public:
    Conversation(Random *, bool v6, bool tcp);

    // The next packet of either side, mostly as the protocol has it.
    Frame next(Random *);

    // What has become of the packet that next() has made last.
    void sent(const Frame &out);

private:
    void restart(Random *);
    Segment next_tcp(Random *);
    Segment next_icmp(Random *);

    bool v6_;
    uint8_t proto_;
    Tuple tuple_;                  // As the client sends.
    std::optional<Tuple> remote_;  // As the server has seen it.
    bool from_client_ = true;
    int phase_ = 0;  // TCP: of the handshake.
    uint32_t next_seq_[2] = {};
    bool scales_ = false;
};

}  // namespace oracle

#endif
