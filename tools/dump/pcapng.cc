// SPDX-License-Identifier: Apache-2.0
#include "pcapng.h"

#include <linux/bpf.h>
#include <time.h>

#include <algorithm>
#include <cstring>
#include <vector>

namespace flowxlate {
namespace {

enum BlockType : uint32_t {
    kSectionHeader = 0x0a0d0d0a,
    kInterface = 1,
    kStatistics = 5,
    kPacket = 6,
};
enum Option : uint16_t {
    kEnd = 0,
    kComment = 1,
    kApplication = 4,  // Of a section.
    kName = 2,         // Of an interface.
    kDescription = 3,
    kTimeResolution = 9,
    kFilter = 11,
    kFlags = 2,  // Of a packet.
    kQueue = 6,
    kVerdict = 7,
    kReceived = 4,  // Of statistics.
    kLost = 5,
};
constexpr uint16_t kEthernet = 1;    // LINKTYPE_ETHERNET.
constexpr uint8_t kNanoseconds = 9;  // As a power of 10.
constexpr uint32_t kInbound = 1;
constexpr uint8_t kXdpVerdict =
    2;  // Then a number of enum xdp_action follows.

class Block {
public:
    explicit Block(BlockType type) {
        add(uint32_t{type});
        add(uint32_t{0});  // Its length.
    }
    template <typename T>
    void add(T value) {
        add_bytes(&value, sizeof value);
    }
    void add_bytes(const void *data, size_t n) {
        const auto *p = static_cast<const uint8_t *>(data);
        bytes_.insert(bytes_.end(), p, p + n);
    }
    void pad() { bytes_.resize((bytes_.size() + 3) & ~size_t{3}); }

    void option(Option code, const void *data, size_t n) {
        add(uint16_t{code});
        add(static_cast<uint16_t>(n));
        add_bytes(data, n);
        pad();
    }
    void option(Option code, const std::string &text) {
        option(code, text.data(), std::min<size_t>(text.size(), UINT16_MAX));
    }
    template <typename T>
    void number(Option code, T value) {
        option(code, &value, sizeof value);
    }

    void write(std::FILE *file) {
        add(uint32_t{kEnd});  // The options'.
        const uint32_t len = bytes_.size() + sizeof len;
        add(len);
        std::memcpy(bytes_.data() + sizeof len, &len, sizeof len);
        std::fwrite(bytes_.data(), 1, bytes_.size(), file);
    }

private:
    std::vector<uint8_t> bytes_;
};

// By halves, the upper one first.
void add_time(Block *b, uint64_t ns) {
    b->add(static_cast<uint32_t>(ns >> 32));
    b->add(static_cast<uint32_t>(ns));
}

}  // namespace

Pcapng::Pcapng(std::FILE *file, const std::string &port,
               const std::string &filter, uint32_t packet_bytes)
    : file_(file) {
    Block section(kSectionHeader);
    section.add(uint32_t{0x1a2b3c4d});  // Tells the order of bytes.
    section.add(uint16_t{1});           // Version 1.0.
    section.add(uint16_t{0});
    section.add(int64_t{-1});  // Of any length.
    section.option(kApplication, "ovs-offload-dump " FLOWXLATE_VERSION);
    section.write(file_);

    Block interface(kInterface);
    interface.add(kEthernet);
    interface.add(uint16_t{0});
    interface.add(packet_bytes);
    interface.option(kName, port);
    interface.option(kDescription, "what enters port " + port
                                       + " of Open vSwitch, before XDP");
    interface.number(kTimeResolution, kNanoseconds);
    if (!filter.empty()) {
        interface.option(kFilter, std::string(1, '\0') + filter);
    }
    interface.write(file_);
}

void Pcapng::write(const Packet &p, const std::string &comment) {
    struct [[gnu::packed]] {
        uint8_t type = kXdpVerdict;
        uint64_t action = 0;
    } verdict;
    verdict.action = p.is_passed() ? int{XDP_PASS} : p.action;

    Block b(kPacket);
    b.add(uint32_t{0});  // The interface.
    add_time(&b, p.time_ns);
    b.add(static_cast<uint32_t>(p.data.size()));
    b.add(p.frame_len);
    b.add_bytes(p.data.data(), p.data.size());
    b.pad();
    b.option(kComment, comment);
    b.number(kFlags, kInbound);
    b.number(kQueue, p.queue);
    b.option(kVerdict, &verdict, sizeof verdict);
    b.write(file_);
}

void Pcapng::write_totals(uint64_t received, uint64_t lost) {
    timespec now{};
    clock_gettime(CLOCK_REALTIME, &now);
    Block b(kStatistics);
    b.add(uint32_t{0});
    add_time(&b, now.tv_sec * uint64_t{1'000'000'000} + now.tv_nsec);
    b.number(kReceived, received);
    b.number(kLost, lost);
    b.write(file_);
}

}  // namespace flowxlate
