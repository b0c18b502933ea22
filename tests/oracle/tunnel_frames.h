// SPDX-License-Identifier: Apache-2.0
// Frames of tunnels, plain and spoilt ones, and what their checksums say.
#ifndef TESTS_ORACLE_TUNNEL_FRAMES_H
#define TESTS_ORACLE_TUNNEL_FRAMES_H

#include "fields.h"
#include "frames.h"
#include "tunnel_peer.h"

namespace oracle {

// The host's own Ethernet address.  Frames to the second one are for the same
// tunnels, with flows that match whatever is in them.
constexpr uint8_t kMac[6] = {0x06, 0, 0, 0, 0xaa, 0x01};
constexpr uint8_t kMacOfAll[6] = {0x06, 0, 0, 0, 0xaa, 0x02};

struct TunnelFrame {
    Frame frame;
    Frame good;  // As it was before it was spoilt, which OVS takes apart.
    const char *spoilt = "";  // How, in a word.
    uint32_t metadata = 0;    // Bytes that a driver has put before it.
};

TunnelFrame make_tunnel_frame(tunnel_kind, const Frame &inner, Random &);

// What a flow for it makes of an inner frame.
tunnel_spec make_tunnel_spec(tunnel_kind, Random &);

// Where the headers of a UDP packet of a tunnel are.
struct TunnelLayout {
    size_t l3, l4;
    size_t l4_len;     // As IP says.
    size_t inner = 0;  // 0: nothing is in it.
    bool v6;
};
// Fails if OVS finds no UDP header.
bool find_tunnel(tunnel_kind, const Frame &, TunnelLayout *);

// The checksum of a packet, as its own header has it.
enum class OwnSum {
    kNone,  // There is none, or it is not of the whole packet.
    kRight,
    kPartial,
    kWrong
};
OwnSum own_sum(const Frame &);
// Of any packet that has one: makes it right.
void make_own_sum_right(Frame *);

// Of IPv4, without options.
void make_ip_sum_right(Frame *, size_t l3);
// The sum of all bytes from the UDP header on and of the pseudo-header, all
// ones if the checksum is right.
uint16_t udp_sum(const Frame &, const TunnelLayout &);
// Makes the UDP checksum right.
void make_udp_sum_right(Frame *, const TunnelLayout &);
// The same, if inside of it were one that is right.
Frame with_right_sums(const Frame &, const TunnelLayout &);

// The frame with checksums that are partial completed, as whoever knows that
// they are would do.  The outer one may have been right before or is right
// then.
Frame completed(tunnel_kind, const Frame &);

}  // namespace oracle

#endif
