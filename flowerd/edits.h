// SPDX-License-Identifier: Apache-2.0
// What pedit writes into a filter's packets and csum sums up again, as fields
// that the library sets.
//
// The library lets checksums follow what it sets.  TC does not: pedit writes
// bytes, and csum computes the sums that it names from scratch, whatever they
// were.  The two do the same if each sum that covers a changed byte is named
// after it, no other one is, and all sums were right before; the last the
// program asks of each packet (bpf/act/sums.h), and leaves others to TC.
#ifndef FLOWERD_EDITS_H
#define FLOWERD_EDITS_H

#include <cstddef>
#include <map>
#include <vector>

#include "flowerd/filter.h"

namespace flowerd {

class Edits {
public:
    // Of packets that match 'match', which outlives this.
    explicit Edits(const Match &match) : match_(match) {}

    // Adds an action: of kSetBytes or kAddBytes, or of kSum.
    Reject write(const Action &);
    Reject sum(const Action &);

    // Why the list may not end here, if so: a sum is missing.
    Reject finish() const;
    // Are fragments TC's?  It takes the sum of one for that of a packet.
    bool needs_whole() const;

    // One of OVS_KEY_ATTR_*: bits of 'mask' become those of 'value'.
    struct Set {
        std::vector<std::byte> value, mask;
    };
    const std::map<uint16_t, Set> &sets() const { return sets_; }

private:
    struct Field;
    static const Field kFields[];
    static const Field kTrafficClass, kFlowLabel;

    const Field *find(Header, int64_t at) const;
    Reject add(const Action &);
    bool write_ipv6_word(const Action &);
    void write_byte(const Field &, size_t i, uint8_t value, uint8_t mask);
    uint8_t value_of(const Field &, size_t i) const;
    bool changes(const Field &) const;
    bool changes(unsigned what) const;
    bool is_ipv4() const;
    bool is_ip() const;
    // Sums that packets may have, and those that have to follow.
    uint32_t possible_sums() const;
    uint32_t wanted_sums() const;

    const Match &match_;
    std::map<uint16_t, Set> sets_;
    uint32_t summed_ = 0;  // Since something was written that they cover.
};

}  // namespace flowerd

#endif
