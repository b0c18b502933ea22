// SPDX-License-Identifier: Apache-2.0
#include "frames.h"

#include <algorithm>

#include "bytes.h"
#include "model.h"

namespace oracle {
namespace {

using flowxlate::test::ones_complement_sum;

constexpr uint8_t kTcp = 6, kUdp = 17, kIcmp = 1, kIgmp = 2, kIcmpv6 = 58,
                  kSctp = 132;

void put48(Frame &f, uint64_t v) {
    put16(f, v >> 32);
    put32(f, v);
}
void put128(Frame &f, uint64_t high, uint64_t low) {
    put32(f, high >> 32);
    put32(f, high);
    put32(f, low >> 32);
    put32(f, low);
}

// -- Values that occur often ------------------------------------------------

uint64_t mac(Random &r) {
    static constexpr uint64_t kMacs[] = {0x020000000001, 0x020000000002,
                                         0x02000000ff03, 0xffffffffffff,
                                         0x01005e000001, 0x000000000000};
    return r.percent(90) ? r.pick(kMacs) : r.edge(48);
}

uint32_t ipv4(Random &r) {
    static constexpr uint32_t kAddresses[] = {
        0x0a000001, 0x0a000002, 0x0a0000ff, 0x0a010001,
        0xc0a80101, 0xe0000001, 0xffffffff, 0x00000000};
    return r.percent(90) ? r.pick(kAddresses)
                         : static_cast<uint32_t>(r.edge(32));
}

void put_ipv6(Frame &f, Random &r) {
    static constexpr uint64_t kPrefixes[] = {
        0xfc00000000000000, 0xfe80000000000000, 0xff02000000000000, 0,
        0x20010db800010002};
    static constexpr uint64_t kHosts[] = {1, 2,     0xff,
                                          0, ~0ULL, 0x00000001ff000002};
    put128(f, r.percent(90) ? r.pick(kPrefixes) : r.edge(64),
           r.percent(90) ? r.pick(kHosts) : r.edge(64));
}

uint16_t port(Random &r) {
    static constexpr uint16_t kPorts[] = {80, 443, 53, 4789, 1, 0, 65535};
    return r.percent(85) ? r.pick(kPorts) : static_cast<uint16_t>(r.edge(16));
}

uint8_t tos(Random &r) {
    static constexpr uint8_t kTos[] = {0, 0, 0x10, 0xb8, 0x03, 0xff};
    return r.pick(kTos);
}

uint8_t ttl(Random &r) {
    static constexpr uint8_t kTtl[] = {64, 64, 255, 1, 0, 128};
    return r.pick(kTtl);
}

// -- Checksums --------------------------------------------------------------

enum class Sum { kRight, kPartial, kZero, kWrong };

Sum random_sum(Random &r) {
    const size_t n = r.below(100);
    return n < 55 ? Sum::kRight
         : n < 80 ? Sum::kPartial
         : n < 90 ? Sum::kZero
                  : Sum::kWrong;
}

// Where the transport header has its checksum, 0 = nowhere.
size_t sum_offset(uint8_t proto) {
    switch (proto) {
        case kTcp:
            return 16;
        case kUdp:
            return 6;
        case kIcmp:
        case kIcmpv6:
        case kIgmp:
            return 2;
        default:
            return 0;
    }
}

uint16_t pseudo_header(const Frame &f, size_t l3, size_t l4_len,
                       uint8_t proto) {
    const bool v6 = f[l3] >> 4 == 6;
    if (proto == kIcmp || proto == kIgmp) {
        return 0;
    }
    return ones_complement_sum(&f[l3 + (v6 ? 8 : 12)], v6 ? 32 : 8,
                               static_cast<uint32_t>(l4_len + proto));
}

// Fills in the checksums of the IPv4 header and of the transport header of the
// packet at 'l3', if OVS takes it for one.
void fill_sums(Frame &f, uint8_t proto, Sum sum, Random &r) {
    const model_headers layout = model_find_headers(f.data(), f.size());
    if (layout.l3 < 0 || layout.l4 < 0) {
        return;
    }
    const auto l3 = static_cast<size_t>(layout.l3);
    const auto l4 = static_cast<size_t>(layout.l4);
    if (f[l3] >> 4 == 4) {
        const size_t header = (f[l3] & 15) * 4;
        store16(f, l3 + 10, 0);
        store16(f, l3 + 10,
                sum == Sum::kWrong ? r.word()
                                   : static_cast<uint16_t>(
                                       ~ones_complement_sum(&f[l3], header)));
    }
    const size_t offset = sum_offset(proto);
    if (!offset || offset + 2 > layout.l4_len
        || l4 + layout.l4_len > f.size()) {
        return;
    }
    const uint16_t pseudo = pseudo_header(f, l3, layout.l4_len, proto);
    store16(f, l4 + offset, 0);
    const uint16_t whole = ~ones_complement_sum(&f[l4], layout.l4_len, pseudo);
    store16(f, l4 + offset,
            sum == Sum::kRight     ? (whole || proto != kUdp ? whole : 0xffff)
            : sum == Sum::kPartial ? pseudo
            : sum == Sum::kZero    ? 0
                                   : r.word());
}

// -- Transport headers ------------------------------------------------------

size_t payload_length(Random &r) {
    return r.percent(60) ? r.below(24)
         : r.percent(90) ? r.below(200)
                         : r.below(kMaxFrame - 120);
}

void put_tcp(Frame &f, Random &r) {
    const size_t options = r.percent(20) ? r.below(11) : 0;
    put16(f, port(r));
    put16(f, port(r));
    put32(f, r.word());
    put32(f, r.word());
    const size_t offset = r.percent(96) ? 5 + options : r.below(16);
    static constexpr uint16_t kFlags[] = {0x10, 0x02, 0x12, 0x18,
                                          0x11, 0x04, 0xfff};
    put16(f, offset << 12 | (r.percent(85) ? r.pick(kFlags) : r.edge(12)));
    put16(f, r.word());
    put32(f, 0);
    put_random(f, options * 4, r);
}

void put_nd(Frame &f, Random &r) {
    put8(f, r.percent(50) ? 135 : 136);
    put8(f, r.percent(95) ? 0 : r.word());
    put16(f, 0);
    put32(f, r.percent(70) ? 0 : r.edge(32));
    put_ipv6(f, r);
    for (size_t n = r.below(3); n > 0; n--) {
        put8(f, r.percent(90) ? 1 + r.below(2) : r.below(20));
        put8(f, r.percent(90) ? 1 : r.below(3));
        put48(f, mac(r));
    }
}

constexpr uint8_t kIcmpTypes[] = {8, 0, 3, 128, 129};

void put_l4(Frame &f, uint8_t proto, bool v6, Random &r) {
    switch (proto) {
        case kTcp:
            put_tcp(f, r);
            break;
        case kUdp:
            put16(f, port(r));
            put16(f, port(r));
            put32(f, r.edge(16) << 16);  // The length does not matter to OVS.
            break;
        case kSctp:
            put16(f, port(r));
            put16(f, port(r));
            put32(f, r.word());
            put32(f, r.percent(10) ? 0 : r.word());
            break;
        case kIcmpv6:
            if (v6 && r.percent(50)) {
                put_nd(f, r);
                return;
            }
            [[fallthrough]];
        case kIcmp:
        case kIgmp:
            put8(f, r.percent(60) ? r.pick(kIcmpTypes) : r.word());
            put8(f, r.percent(80) ? 0 : r.word());
            put16(f, 0);
            put32(f, r.word());
            break;
        default:
            break;
    }
    put_random(f, payload_length(r), r);
}

uint8_t protocol(bool v6, Random &r) {
    const size_t n = r.below(100);
    return n < 38 ? kTcp
         : n < 60 ? kUdp
         : n < 78 ? (v6 ? kIcmpv6 : kIcmp)
         : n < 93 ? kSctp
         : n < 96 ? (v6 ? kIcmp : kIcmpv6)
         : n < 98 ? kIgmp
                  : static_cast<uint8_t>(r.edge(8));
}

// -- Network headers --------------------------------------------------------

// The length of a header field that is 'right', or not.
uint64_t length(size_t right, Random &r) {
    return r.percent(97) ? right
         : r.percent(50) ? r.edge(16)
                         : right + r.between(0, 6) - 3;
}

void put_ipv4_packet(Frame &f, Random &r) {
    const size_t l3 = f.size();
    const uint8_t proto = protocol(false, r);
    const size_t options = r.percent(8) ? 4 * r.between(1, 10) : 0;
    uint16_t frag = r.percent(30) ? 0x4000 : 0;  // Do not fragment.
    if (r.percent(8)) {
        frag = r.percent(50) ? 0x2000 : static_cast<uint16_t>(r.edge(14));
    }
    put8(f, (r.percent(98) ? 0x40 : r.edge(4) << 4)
                | (r.percent(98) ? 5 + options / 4 : r.below(16)));
    put8(f, tos(r));
    put16(f, 0);
    put16(f, r.word());
    put16(f, frag);
    put8(f, ttl(r));
    put8(f, proto);
    put16(f, 0);
    put32(f, ipv4(r));
    put32(f, ipv4(r));
    put_random(f, options, r);
    put_l4(f, proto, false, r);
    store16(f, l3 + 2, length(f.size() - l3, r));
    fill_sums(f, proto, random_sum(r), r);
}

// An extension header of 'type', which says that 'next' follows.
void put_extension(Frame &f, uint8_t type, uint8_t next, Random &r) {
    put8(f, next);
    if (type == 44) {
        put8(f, 0);
        put16(f, r.percent(40) ? 0x0001 : r.percent(50) ? 0x0000 : r.edge(16));
        put32(f, r.word());
        return;
    }
    const size_t units = r.percent(80) ? 0 : r.below(3);
    put8(f, units);
    put_random(f, type == 51 ? units * 4 + 6 : units * 8 + 6, r);
}

void put_ipv6_packet(Frame &f, Random &r) {
    static constexpr uint8_t kExtensions[] = {0, 43, 44, 44, 51, 60};
    const size_t l3 = f.size();
    const uint8_t proto = protocol(true, r);
    std::vector<uint8_t> chain;
    while (r.percent(9)) {
        chain.push_back(r.pick(kExtensions));
    }
    chain.push_back(proto);
    const uint64_t version = r.percent(99) ? 6 : r.below(16);
    put32(f, version << 28 | static_cast<uint64_t>(tos(r)) << 20
                 | (r.percent(50) ? 0 : r.edge(20)));
    put16(f, 0);
    put8(f, chain[0]);
    put8(f, ttl(r));
    put_ipv6(f, r);
    put_ipv6(f, r);
    for (size_t i = 0; i + 1 < chain.size(); i++) {
        put_extension(f, chain[i], chain[i + 1], r);
    }
    put_l4(f, proto, true, r);
    store16(f, l3 + 4, length(f.size() - l3 - 40, r));
    fill_sums(f, proto, random_sum(r), r);
}

void put_arp(Frame &f, Random &r) {
    put16(f, r.percent(98) ? 1 : r.edge(16));
    put16(f, r.percent(98) ? 0x0800 : r.edge(16));
    put8(f, r.percent(98) ? 6 : r.edge(8));
    put8(f, r.percent(98) ? 4 : r.edge(8));
    put16(f, r.percent(75) ? r.between(1, 2) : r.edge(16));
    put48(f, mac(r));
    put32(f, ipv4(r));
    put48(f, mac(r));
    put32(f, ipv4(r));
    put_random(f, r.percent(50) ? 18 : r.below(30), r);
}

void put_mpls(Frame &f, Random &r) {
    for (size_t n = r.between(1, 4); n > 0; n--) {
        put32(f, (r.percent(50) ? r.below(20) : r.edge(20)) << 12
                     | r.below(8) << 9 | (n == 1 ? 0x100 : 0) | ttl(r));
    }
    put_random(f, payload_length(r), r);
}

// Logical link control: with a SNAP header for Ethernet, or not.
void put_llc(Frame &f, Random &r) {
    if (r.percent(50)) {
        put48(f, 0xaaaa03000000);
        put16(f, r.percent(50) ? 0x88b5 : r.edge(16));
    }
    put_random(f, payload_length(r), r);
}

void put_ethertype_and_payload(Frame &f, Random &r) {
    static constexpr uint16_t kOthers[] = {0x88b5, 0x0600, 0x88cc,
                                           0xffff, 0x05ff, 0x894f};
    const size_t n = r.below(100);
    if (n < 46) {
        put16(f, 0x0800);
        put_ipv4_packet(f, r);
    } else if (n < 78) {
        put16(f, 0x86dd);
        put_ipv6_packet(f, r);
    } else if (n < 87) {
        put16(f, r.percent(90) ? 0x0806 : 0x8035);
        put_arp(f, r);
    } else if (n < 91) {
        put16(f, r.percent(80) ? 0x8847 : 0x8848);
        put_mpls(f, r);
    } else if (n < 94) {
        put16(f, r.below(0x600));
        put_llc(f, r);
    } else {
        put16(f, r.percent(70) ? r.pick(kOthers) : r.edge(16));
        put_random(f, payload_length(r), r);
    }
}

void put_tags(Frame &f, Random &r) {
    static constexpr uint16_t kVids[] = {0, 1, 100, 100, 4095};
    const size_t n = r.percent(55) ? 0
                   : r.percent(65) ? 1
                   : r.percent(85) ? 2
                                   : 3;
    for (size_t i = 0; i < n; i++) {
        put16(f, r.percent(i + 1 < n ? 50 : 80) ? 0x8100 : 0x88a8);
        put16(f, (r.percent(80) ? r.pick(kVids) : r.below(4096))
                     | r.below(8) << 13 | (r.percent(10) ? 0x1000 : 0));
    }
}

// -- Changes ----------------------------------------------------------------

void flip_bits(Frame &f, Random &r) {
    for (size_t n = r.between(1, 3); n > 0; n--) {
        const size_t reach = std::min<size_t>(f.size(), 90);
        f[r.below(reach)] ^= static_cast<uint8_t>(1 << r.below(8));
    }
}

void overwrite(Frame &f, Random &r) {
    const size_t reach = std::min<size_t>(f.size(), 90);
    f[r.below(reach)] = static_cast<uint8_t>(r.edge(8));
}

// What flows do not match: payload, identification, checksums.
void change_rest(Frame &f, Random &r) {
    const model_headers layout = model_find_headers(f.data(), f.size());
    model_key key;
    if (layout.l4 < 0) {
        return;
    }
    model_extract(f.data(), f.size(), 1, &key);
    const size_t begin = static_cast<size_t>(layout.l4) + 20;
    for (size_t i = begin; i < f.size() && i < begin + 40; i++) {
        f[i] = static_cast<uint8_t>(r.word());
    }
    const auto *fields = reinterpret_cast<const uint8_t *>(key.word);
    fill_sums(f, fields[model_place_of(MODEL_nw_proto).offset], random_sum(r),
              r);
}

}  // namespace

Frame make_frame(Random &r) {
    Frame f;
    put48(f, mac(r));
    put48(f, mac(r));
    put_tags(f, r);
    put_ethertype_and_payload(f, r);
    if (r.percent(10)) {
        put_random(f, r.percent(80) ? r.below(50) : r.below(300), r);
    }
    if (f.size() > kMaxFrame) {
        f.resize(kMaxFrame);
    }
    return f;
}

Frame vary(const Frame &frame, Random &r) {
    Frame f = frame;
    const size_t n = r.below(100);
    if (n < 30) {
        change_rest(f, r);
    } else if (n < 45) {
        flip_bits(f, r);
        if (r.percent(50)) {
            change_rest(f, r);
        }
    } else if (n < 52) {
        overwrite(f, r);
    } else if (n < 58) {
        f.resize(r.between(kMinFrame, std::min<size_t>(f.size(), 120)));
    } else if (n < 64) {
        put_random(f, r.percent(90) ? r.below(64) : r.below(300), r);
    }
    if (f.size() > kMaxFrame) {
        f.resize(kMaxFrame);
    }
    return f;
}

}  // namespace oracle
