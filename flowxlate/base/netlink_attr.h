// SPDX-License-Identifier: Apache-2.0
// A bounded walk over netlink attributes (struct nlattr, <linux/netlink.h>).
//
// The bytes are not trusted: every length is checked against what is left, and
// nothing is read through a pointer that may be unaligned.
#ifndef FLOWXLATE_NETLINK_ATTR_H
#define FLOWXLATE_NETLINK_ATTR_H

#include <linux/netlink.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>

namespace flowxlate {

using Bytes = std::span<const std::byte>;

inline Bytes bytes_of(const void *p, size_t n) {
    return {static_cast<const std::byte *>(p), n};
}

struct Attr {
    uint16_t type;  // Without NLA_F_NESTED and NLA_F_NET_BYTEORDER.
    Bytes payload;
};

class AttrReader {
public:
    explicit AttrReader(Bytes attrs) : left_(attrs) {}

    // Returns the next attribute, or nothing at the end and where the rest is
    // malformed; malformed() tells the two apart.
    std::optional<Attr> next() {
        nlattr a;
        if (left_.empty()) {
            return {};
        }
        if (left_.size() < sizeof a) {
            return fail();
        }
        std::memcpy(&a, left_.data(), sizeof a);
        if (a.nla_len < sizeof a || a.nla_len > left_.size()) {
            return fail();
        }
        Attr attr{static_cast<uint16_t>(a.nla_type & NLA_TYPE_MASK),
                  left_.subspan(sizeof a, a.nla_len - sizeof a)};
        const size_t aligned = NLA_ALIGN(a.nla_len);
        left_ = left_.subspan(aligned < left_.size() ? aligned : left_.size());
        return attr;
    }

    bool at_end() const { return left_.empty(); }
    bool malformed() const { return malformed_; }

private:
    std::optional<Attr> fail() {
        malformed_ = true;
        left_ = {};
        return {};
    }

    Bytes left_;
    bool malformed_ = false;
};

// Copies a payload of exactly sizeof(T) bytes to '*out'.
template <typename T>
bool read_exactly(Bytes payload, T *out) {
    if (payload.size() != sizeof *out) {
        return false;
    }
    std::memcpy(out, payload.data(), sizeof *out);
    return true;
}

}  // namespace flowxlate

#endif
