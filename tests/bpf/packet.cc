// SPDX-License-Identifier: Apache-2.0
#include "packet.h"

#include <cstdio>

namespace flowxlate::test {

uint16_t ones_complement_sum(const uint8_t *p, size_t n, uint32_t sum) {
    for (size_t i = 0; i < n; i++) {
        sum += i % 2 ? p[i] : p[i] << 8;
    }
    while (sum >> 16) {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return sum;
}

void Packet::put16(uint16_t v) {
    put8(v >> 8);
    put8(v);
}

void Packet::put32(uint32_t v) {
    put16(v >> 16);
    put16(v);
}

void Packet::put(std::initializer_list<uint8_t> v) {
    frame_.insert(frame_.end(), v);
}

Packet &Packet::eth(uint16_t type) {
    put({2, 0, 0, 0, 0, 2});
    put({2, 0, 0, 0, 0, 1});
    put16(type);
    return *this;
}

Packet &Packet::vlan(uint16_t tci, uint16_t type) {
    put16(tci);
    put16(type);
    return *this;
}

Packet &Packet::arp(uint16_t op) {
    put16(1);
    put16(0x0800);
    put({6, 4});
    put16(op);
    put({2, 0, 0, 0, 0, 1, 10, 0, 0, 1});
    put({0, 0, 0, 0, 0, 0, 10, 0, 0, 2});
    return *this;
}

Packet &Packet::ipv4(uint8_t proto, uint16_t frag, size_t options) {
    l3_ = frame_.size();
    put8(0x40 | (5 + options / 4));
    put8(0x10);
    put16(0);  // Length: finish().
    put16(0x1234);
    put16(frag);
    put8(64);
    put8(proto);
    put16(0);  // Checksum: finish().
    put({10, 0, 0, 1, 10, 0, 0, 2});
    frame_.insert(frame_.end(), options, 1);  // No-operation.
    proto_ = proto;
    l4_ = l4_end_ = frame_.size();
    return *this;
}

Packet &Packet::ipv6(uint8_t next_header) {
    l3_ = frame_.size();
    put32(0x60000000 | 0x10 << 20 | 0x12345);
    put16(0);  // Length: finish().
    put8(next_header);
    put8(64);
    put({0xfc, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1});
    put({0xfc, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2});
    proto_ = next_header;
    v6_ = true;
    l4_ = l4_end_ = frame_.size();
    return *this;
}

Packet &Packet::ipv6_hop_by_hop(uint8_t next_header) {
    put({next_header, 0, 1, 4, 0, 0, 0, 0});
    proto_ = next_header;
    l4_ = l4_end_ = frame_.size();
    return *this;
}

Packet &Packet::ipv6_fragment(uint8_t next_header, uint16_t offset) {
    put({next_header, 0});
    put16(offset);
    put32(0x1234);
    proto_ = next_header;
    l4_ = l4_end_ = frame_.size();
    return *this;
}

Packet &Packet::tcp(uint16_t src, uint16_t dst, uint16_t flags) {
    put16(src);
    put16(dst);
    put32(1);
    put32(2);
    put16(0x5000 | flags);
    put16(1000);
    checksum_at_ = frame_.size();
    put32(0);
    l4_end_ = frame_.size();
    return *this;
}

Packet &Packet::udp(uint16_t src, uint16_t dst) {
    put16(src);
    put16(dst);
    put16(0);  // Length: finish().
    checksum_at_ = frame_.size();
    put16(0);
    l4_end_ = frame_.size();
    return *this;
}

Packet &Packet::sctp(uint16_t src, uint16_t dst, uint32_t crc) {
    put16(src);
    put16(dst);
    put32(7);
    put32(crc);
    l4_end_ = frame_.size();
    return *this;
}

Packet &Packet::icmp(uint8_t type, uint8_t code) {
    checksum_at_ = frame_.size() + 2;
    put({type, code, 0, 0, 0, 0, 0, 1});
    l4_end_ = frame_.size();
    return *this;
}

Packet &Packet::nd(uint8_t type, uint8_t code) {
    checksum_at_ = frame_.size() + 2;
    put({type, code, 0, 0, 0x60, 0, 0, 0});
    put({0xfc, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7});
    l4_end_ = frame_.size();
    return *this;
}

Packet &Packet::nd_option(uint8_t type, uint8_t len) {
    put({type, len, 2, 0, 0, 0, 0, 9});
    frame_.resize(frame_.size() + (len > 1 ? 8 * (len - 1) : 0));
    l4_end_ = frame_.size();
    return *this;
}

Packet &Packet::mpls(uint32_t lse) {
    put32(lse);
    return *this;
}

Packet &Packet::payload(size_t n) {
    for (size_t i = 0; i < n; i++) {
        put8(i * 7 + 1);
    }
    l4_end_ = frame_.size();
    return *this;
}

Packet &Packet::data(const Frame &bytes) {
    frame_.insert(frame_.end(), bytes.begin(), bytes.end());
    l4_end_ = frame_.size();
    return *this;
}

Packet &Packet::padding(size_t n) {
    frame_.insert(frame_.end(), n, 0xee);
    return *this;
}

Packet &Packet::poke(size_t offset, uint8_t value) {
    pokes_.emplace_back(offset, value);
    return *this;
}

uint16_t Packet::pseudo_header(const Frame &f) const {
    if (proto_ == IPPROTO_ICMP) {
        return 0;
    }
    const uint32_t len_and_proto = (l4_end_ - l4_) + proto_;
    return v6_ ? ones_complement_sum(&f[l3_ + 8], 32, len_and_proto)
               : ones_complement_sum(&f[l3_ + 12], 8, len_and_proto);
}

void Packet::finish(Frame &f) const {
    auto set16 = [&](size_t at, uint16_t v) {
        f[at] = v >> 8;
        f[at + 1] = v;
    };
    if (!l3_) {
        return;
    }
    if (v6_) {
        set16(l3_ + 4, l4_end_ - l3_ - 40);
    } else {
        set16(l3_ + 2, l4_end_ - l3_);
        set16(l3_ + 10, ~ones_complement_sum(&f[l3_], l4_ - l3_));
    }
    if (!checksum_at_) {
        return;
    }
    if (proto_ == IPPROTO_UDP) {
        set16(l4_ + 4, l4_end_ - l4_);
    }
    const uint16_t pseudo = pseudo_header(f);
    uint16_t sum = ~ones_complement_sum(&f[l4_], l4_end_ - l4_, pseudo);
    sum = sum ? sum : 0xffff;
    set16(checksum_at_, no_checksum_ ? 0 : partial_ ? pseudo
                                                    : sum);
}

Frame Packet::bytes() const {
    Frame f = frame_;
    finish(f);
    for (auto [offset, value] : pokes_) {
        f.at(offset) = value;
    }
    return f;
}

std::string hex(const Frame &f) {
    std::string s;
    char byte[4];
    for (size_t i = 0; i < f.size(); i++) {
        std::snprintf(byte, sizeof byte, "%02x%s", f[i],
                      i % 16 == 15 ? "\n" : " ");
        s += byte;
    }
    return s;
}

}  // namespace flowxlate::test
