// SPDX-License-Identifier: Apache-2.0
#include "ct_packets.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstring>

#include "bytes.h"
#include "tests/bpf/packet.h"

namespace oracle {
namespace {

using flowxlate::test::ones_complement_sum;

constexpr uint8_t kFin = 1, kSyn = 2, kRst = 4, kPsh = 8, kAck = 16, kUrg = 32;
constexpr size_t kEth = 14;

Frame transport(const Segment &s) {
    Frame f;
    if (s.proto == IPPROTO_TCP) {
        put16(f, s.tuple.sport);
        put16(f, s.tuple.dport);
        put32(f, s.seq);
        put32(f, s.ack);
        f.push_back(s.wscale ? 6 << 4 : 5 << 4);
        f.push_back(s.flags);
        put16(f, s.win);
        put32(f, 0);
        if (s.wscale) {
            f.insert(f.end(), {1, 3, 3, *s.wscale});
        }
    } else if (s.proto == IPPROTO_UDP) {
        put16(f, s.tuple.sport);
        put16(f, s.tuple.dport);
        put16(f, static_cast<uint16_t>(8 + s.payload));
        put16(f, 0);
    } else if (s.proto == IPPROTO_ICMP || s.proto == IPPROTO_ICMPV6) {
        f.insert(f.end(), {s.icmp_type, s.icmp_code, 0, 0});
        put16(f, s.tuple.sport);
        put16(f, 1);
    }
    for (size_t i = 0; i < s.payload; i++) {
        f.push_back(static_cast<uint8_t>(i * 7 + 1));
    }
    return f;
}

// Where the checksum of a transport header is, 0 = nowhere.
size_t checksum_at(uint8_t proto) {
    switch (proto) {
        case IPPROTO_TCP:
            return 16;
        case IPPROTO_UDP:
            return 6;
        case IPPROTO_ICMP:
        case IPPROTO_ICMPV6:
            return 2;
        default:
            return 0;
    }
}

uint32_t pseudo_sum(const Segment &s, size_t len) {
    const size_t n = s.v6 ? 16 : 4;
    Frame pseudo(s.tuple.src.begin(), s.tuple.src.begin() + n);
    pseudo.insert(pseudo.end(), s.tuple.dst.begin(), s.tuple.dst.begin() + n);
    put32(pseudo, static_cast<uint32_t>(len));
    put32(pseudo, s.proto);
    return ones_complement_sum(pseudo.data(), pseudo.size());
}

}  // namespace

Frame Segment::frame() const {
    Frame l4 = transport(*this);
    if (const size_t at = checksum_at(proto)) {
        const uint32_t begin =
            proto == IPPROTO_ICMP ? 0 : pseudo_sum(*this, l4.size());
        const auto sum = static_cast<uint16_t>(
            ~ones_complement_sum(l4.data(), l4.size(), begin));
        store16(l4, at, sum || proto != IPPROTO_UDP ? sum : 0xffff);
    }
    Frame f{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1};
    put16(f, v6 ? 0x86dd : 0x0800);
    if (v6) {
        put32(f, 6U << 28);
        put16(f, static_cast<uint16_t>(l4.size()));
        f.insert(f.end(), {proto, 64});
        f.insert(f.end(), tuple.src.begin(), tuple.src.end());
        f.insert(f.end(), tuple.dst.begin(), tuple.dst.end());
    } else {
        f.insert(f.end(), {0x45, 0});
        put16(f, static_cast<uint16_t>(20 + l4.size()));
        put32(f, 0x4000);
        f.insert(f.end(), {64, proto, 0, 0});
        f.insert(f.end(), tuple.src.begin(), tuple.src.begin() + 4);
        f.insert(f.end(), tuple.dst.begin(), tuple.dst.begin() + 4);
        store16(f, kEth + 10,
                static_cast<uint16_t>(~ones_complement_sum(&f[kEth], 20)));
    }
    f.insert(f.end(), l4.begin(), l4.end());
    return f;
}

std::optional<Tuple> tuple_of(const Frame &f, bool v6, uint8_t proto) {
    const size_t l3 = kEth, l4 = kEth + (v6 ? 40 : 20);
    if (f.size() < l4 + 8) {
        return {};
    }
    Tuple t;
    const size_t n = v6 ? 16 : 4, at = l3 + (v6 ? 8 : 12);
    std::copy_n(f.begin() + at, n, t.src.begin());
    std::copy_n(f.begin() + at + n, n, t.dst.begin());
    const bool is_icmp = proto == IPPROTO_ICMP || proto == IPPROTO_ICMPV6;
    t.sport = load16(f, is_icmp ? l4 + 4 : l4);
    t.dport = load16(f, is_icmp ? l4 + 4 : l4 + 2);
    return t;
}

Conversation::Conversation(Random *r, bool v6, bool tcp) : v6_(v6) {
    static constexpr uint8_t kProtos[] = {
        IPPROTO_TCP, IPPROTO_TCP, IPPROTO_TCP,  IPPROTO_TCP,  IPPROTO_UDP,
        IPPROTO_UDP, IPPROTO_UDP, IPPROTO_ICMP, IPPROTO_ICMP, IPPROTO_GRE};
    constexpr size_t kFirstOther = 4;
    proto_ =
        kProtos[r->between(tcp ? 0 : kFirstOther, std::size(kProtos) - 1)];
    if (proto_ == IPPROTO_ICMP && v6) {
        proto_ = IPPROTO_ICMPV6;
    }
    auto address = [&](uint8_t host) {
        return v6 ? Address{0xfc, 0, 0, 0, 0, 0, 0, 0,
                            0,    0, 0, 0, 0, 0, 0, host}
                  : Address{10, 0, 0, host};
    };
    static constexpr uint16_t kPorts[] = {80,   80,   53,    1000,
                                          1001, 1002, 40000, 65535};
    static constexpr uint16_t kOddPorts[] = {0, 21, 69};
    auto port = [&] {
        return r->percent(2) ? r->pick(kOddPorts) : r->pick(kPorts);
    };
    tuple_ = {address(static_cast<uint8_t>(r->between(1, 3))),
              address(static_cast<uint8_t>(r->between(3, 5))), port(), port()};
    restart(r);
}

void Conversation::restart(Random *r) {
    phase_ = 0;
    from_client_ = true;
    next_seq_[0] = static_cast<uint32_t>(r->edge(32));
    next_seq_[1] = static_cast<uint32_t>(r->edge(32));
    scales_ = r->percent(60);
}

Segment Conversation::next_tcp(Random *r) {
    static constexpr uint16_t kWindows[] = {0, 1, 500, 8192, 29200, 65535};
    static constexpr size_t kPayloads[] = {0, 0, 1, 100, 700, 1400};
    Segment s;
    if (phase_ < 3) {
        from_client_ = phase_ != 1;
        s.flags = phase_ == 0 ? kSyn : phase_ == 1 ? kSyn | kAck : kAck;
        phase_++;
    } else {
        from_client_ = r->percent(50);
        s.flags = r->percent(30) ? kPsh | kAck : kAck;
        s.flags |= r->percent(4) ? kFin : 0;
        s.payload = r->pick(kPayloads);
    }
    const int self = from_client_ ? 0 : 1;
    s.win = r->percent(80) ? 29200 : r->pick(kWindows);
    if ((s.flags & kSyn) && scales_) {
        s.wscale = static_cast<uint8_t>(r->below(16));
    }
    if (scales_ && r->percent(3)) {
        next_seq_[self] += 400'000'000;  // As if so much had passed before.
    }
    s.seq = next_seq_[self];
    s.ack = s.flags & kAck ? next_seq_[1 - self] : 0;
    next_seq_[self] += s.payload + !!(s.flags & (kSyn | kFin));

    // What goes wrong, or is not meant well.
    if (r->percent(3)) {
        static constexpr uint8_t kOdd[] = {
            kRst, kRst | kAck, kSyn,        kSyn | kAck,
            kFin, kFin | kAck, kSyn | kRst, 0,
            kPsh, kUrg | kAck, kRst | kPsh};
        s.flags = r->pick(kOdd);
    }
    static constexpr int32_t kOff[] = {1,      -1,    100,    -100,   29200,
                                       -30000, 65535, -65536, 100000, 1 << 30};
    if (r->percent(4)) {
        s.seq += r->pick(kOff);
    }
    if (r->percent(4)) {
        s.ack += r->pick(kOff);
    }
    return s;
}

Segment Conversation::next_icmp(Random *r) {
    Segment s;
    from_client_ = r->percent(60);
    if (proto_ == IPPROTO_ICMP) {
        s.icmp_type = from_client_ ? 8 : 0;
    } else {
        s.icmp_type = from_client_ ? 128 : 129;
    }
    if (r->percent(3)) {
        static constexpr uint8_t kTypes[] = {0,  3,   5,   8,  11,
                                             13, 128, 129, 135};
        s.icmp_type = r->pick(kTypes);
        s.icmp_code = r->percent(30);
    }
    s.payload = r->below(64);
    return s;
}

Frame Conversation::next(Random *r) {
    if (r->percent(2)) {
        restart(r);
    }
    Segment s;
    if (proto_ == IPPROTO_TCP) {
        s = next_tcp(r);
    } else if (proto_ == IPPROTO_UDP || proto_ == IPPROTO_GRE) {
        from_client_ = r->percent(60);
        s.payload = r->between(8, 300);
    } else {
        s = next_icmp(r);
    }
    s.v6 = v6_;
    s.proto = proto_;
    s.tuple = from_client_ ? tuple_ : remote_.value_or(tuple_).reversed();
    Frame f = s.frame();
    const size_t l4 = kEth + (v6_ ? 40 : 20);
    if (!v6_ && r->percent(1)) {
        f[kEth + 11] ^= 1;  // The IPv4 header's checksum.
    } else if (!v6_ && r->percent(1)) {
        f[kEth + 6] = 0x20;  // A first fragment; its checksum is wrong.
        f[kEth + 4] = static_cast<uint8_t>(r->below(256));
    } else if (proto_ == IPPROTO_UDP && r->percent(2)) {
        store16(f, l4 + 6, 0);  // No checksum.
    }
    return f;
}

void Conversation::sent(const Frame &out) {
    if (from_client_) {
        if (const auto t = tuple_of(out, v6_, proto_)) {
            remote_ = t;
        }
    }
}

}  // namespace oracle
