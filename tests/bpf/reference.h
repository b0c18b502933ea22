// SPDX-License-Identifier: Apache-2.0
// A second implementation of what the program does, written for plainness:
// byte by byte, after OVS 3.1's miniflow_extract(), odp_execute_actions() and
// flow_hash_symmetric_l3l4().  It shares no code with bpf/.
#ifndef TESTS_BPF_REFERENCE_H
#define TESTS_BPF_REFERENCE_H

#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "flowxlate/translate/fields.h"
#include "program.h"

namespace flowxlate::test {

// What the headers of a frame say, and where they are.
struct Parsed {
    xf_class cls = XF_CLASS_L2;
    xf_key key{};       // Of a new packet from kIn.
    size_t l3 = 0;      // Offsets in the frame.
    size_t l4 = 0;      // 0 = no transport header.
    size_t end = 0;     // Of the IP packet.
    uint8_t proto = 0;  // Of the transport header.
    bool is_fragment = false;
    uint8_t nd_option = 0;

    bool is_nd() const;
};

// Nothing if the program passes such a frame on.
std::optional<Parsed> parse(const Frame &, uint32_t max_tags);

// The flow that matches every bit of the frame's headers.
FlowSpec exact(const Parsed &);

// Of a field of flowxlate/translate/fields.h that can be set: is it one of this packet's
// flow's, and where is it in the frame?  Nothing if it is not there, as the
// ports of a later fragment.
bool has_field(const flowxlate::Field &, const Parsed &);
std::optional<size_t> find_field(const flowxlate::Field &, const Parsed &);

// The bits of 'mask' of a field become those of 'value'; checksums stay.
Frame with_field(Frame, const flowxlate::Field &, const Parsed &,
                 const Frame &value, const Frame &mask);

// 'to', which was 'from', with checksums that differ as much as what they
// cover: so one that was wrong stays wrong.
Frame follow_checksums(const Frame &from, Frame to, uint32_t max_tags);

// 'to' as it is sent instead of 'from': partial checksums completed.
Frame complete(Frame, uint32_t max_tags);

// OVS_HASH_ALG_SYM_L4.
uint32_t symmetric_hash(const Parsed &, uint32_t basis);

// Frames of each kind, with 'n' bytes of payload where they may have one.
struct Subject {
    std::string name;
    Frame in;
};
std::vector<Subject> subjects(size_t n);

Frame random_bytes(std::mt19937 &, size_t n);

}  // namespace flowxlate::test

#endif
