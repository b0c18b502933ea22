// SPDX-License-Identifier: Apache-2.0
// Numbers to text, for the reports: header fields in OVS's names.
#ifndef FLOWXLATE_DESCRIBE_H
#define FLOWXLATE_DESCRIBE_H

#include <string>
#include <utility>
#include <vector>

#include "base/netlink_attr.h"
#include "base/types.h"
#include "bpf/abi/packet.h"
#include "bpf/abi/tunnel.h"

namespace flowxlate {

// Appends like printf().
__attribute__((format(printf, 2, 3))) void append(std::string *,
                                                  const char *format, ...);

const char *class_name(int cls);  // An enum xf_class.

// "eth_dst=02:00:00:00:00:02,ip_proto=17": the fields of a key of which 'mask'
// has bits, with "/mask" behind those of which it has not all.  'proto' is the
// IP protocol of the packet or flow, which tells whose the ports are.  Without
// in_port and recirc.
std::string describe_fields(int cls, uint8_t proto, const xf_key &key,
                            const xf_key &mask);

// The fields of which a mask has bits, and which: "" for all, "/24" for the
// first 24, "/0x00f0" for others.  Without in_port and recirc.
std::vector<std::pair<std::string, std::string>> describe_mask(
    int cls, uint8_t proto, const xf_key &mask);

// The fields of a packet that the program has parsed.
std::string describe_packet(const xf_packet &);

// "pop_vlan,push_vlan(tpid=0x8100,tci=0x0064),set(ip_ttl=63),trunc(100),":
// what a flow does, but for where the packet goes then.
std::string describe_changes(int cls, uint8_t proto, const xf_action &,
                             const xf_rewrite &);

// "tnl_push(HEX),", or nothing if there is nothing to push.
std::string describe_tunnel_push(const xf_tunnel &);

// "ct_clear,ct(commit,zone=1,nat),": one step of a flow.
std::string describe_ct_step(const xf_ct_step &);

std::string to_hex(Bytes);

// Stores in '*out' the bytes of a text of hexadecimal digits; false if it is
// not one.
bool from_hex(const std::string &text, std::vector<std::byte> *out);

}  // namespace flowxlate

#endif
