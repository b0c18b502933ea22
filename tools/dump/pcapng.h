// SPDX-License-Identifier: Apache-2.0
// Packets to a file in pcapng, which Wireshark reads
// (draft-ietf-opsawg-pcapng): what has become of each is in its comment.
#ifndef TOOLS_DUMP_PCAPNG_H
#define TOOLS_DUMP_PCAPNG_H

#include <cstdint>
#include <cstdio>
#include <string>

#include "port_capture.h"

namespace flowxlate {

class Pcapng {
public:
    // Writes the file's beginning.  'file' is the caller's.
    Pcapng(std::FILE *file, const std::string &port, const std::string &filter,
           uint32_t packet_bytes);

    void write(const Packet &, const std::string &comment);
    // Its end: how many packets have come, and how many have been lost.
    void write_totals(uint64_t received, uint64_t lost);

private:
    std::FILE *file_;
};

}  // namespace flowxlate

#endif
