// SPDX-License-Identifier: Apache-2.0
// Netlink attributes for tests, written so that a row of a table is one line.
//
// Values are hex strings in the order of the bytes on the wire, and a match is
// "key/mask": "0a000001/ffffff00".
#ifndef TESTS_UNIT_ATTRS_H
#define TESTS_UNIT_ATTRS_H

#include <linux/openvswitch.h>

#include <cstdlib>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "flowxlate/base/netlink_attr.h"

namespace flowxlate::unit {

using ByteVector = std::vector<std::byte>;

// NLA_TYPE_MASK is an int with all upper bits set.
constexpr uint16_t kMaxAttrType = NLA_TYPE_MASK & 0xffff;

inline ByteVector from_hex(std::string_view hex) {
    ByteVector bytes;
    for (size_t i = 0; i + 1 < hex.size(); i += 2) {
        const std::string digits(hex.substr(i, 2));
        bytes.push_back(std::byte(std::stoi(digits, nullptr, 16)));
    }
    return bytes;
}

inline std::string to_hex(Bytes bytes) {
    std::string hex;
    for (std::byte b : bytes) {
        hex += "0123456789abcdef"[std::to_integer<int>(b >> 4)];
        hex += "0123456789abcdef"[std::to_integer<int>(b & std::byte{15})];
    }
    return hex;
}

template <typename T>
Bytes bytes_of(const T &value) {
    return std::as_bytes(std::span(&value, 1));
}

// A list of attributes, each padded to a multiple of 4 bytes.
class AttrList {
public:
    AttrList &put_bytes(uint16_t type, Bytes payload) {
        return put_raw(static_cast<uint16_t>(NLA_HDRLEN + payload.size()),
                       type, payload);
    }
    // With a length field that need not be that of the payload.
    AttrList &put_raw(uint16_t nla_len, uint16_t type, Bytes payload) {
        const nlattr header{nla_len, type};
        starts_.push_back(bytes_.size());
        append(bytes_of(header));
        append(payload);
        bytes_.resize(NLA_ALIGN(bytes_.size()));
        return *this;
    }
    template <typename T>
    AttrList &put(uint16_t type, const T &value) {
        return put_bytes(type, bytes_of(value));
    }
    AttrList &put_hex(uint16_t type, std::string_view hex) {
        return put_bytes(type, from_hex(hex));
    }
    template <typename F>
    AttrList &nest(uint16_t type, F fill) {
        AttrList inner;
        fill(inner);
        return put_bytes(type, inner.bytes());
    }
    AttrList &append(Bytes more) {
        bytes_.insert(bytes_.end(), more.begin(), more.end());
        return *this;
    }

    Bytes bytes() const { return bytes_; }
    // Where the attributes begin.
    const std::vector<size_t> &starts() const { return starts_; }

private:
    ByteVector bytes_;
    std::vector<size_t> starts_;
};

// A flow to be decoded: its attributes by type, edited by chained calls.
class Flow {
public:
    using Level = std::map<uint16_t, ByteVector>;
    Level key, mask;

    // The whole payload of an attribute.
    Flow &match(uint16_t type, std::string_view key_and_mask) {
        const size_t slash = key_and_mask.find('/');
        key[type] = from_hex(key_and_mask.substr(0, slash));
        mask[type] = from_hex(key_and_mask.substr(slash + 1));
        return *this;
    }
    // One member of the attribute's structure; the others are left as they
    // are, 0/0 at first.
    template <typename S, typename M>
    Flow &match(uint16_t type, M S::*member, std::string_view key_and_mask) {
        const size_t slash = key_and_mask.find('/');
        set(&key[type], member, from_hex(key_and_mask.substr(0, slash)));
        set(&mask[type], member, from_hex(key_and_mask.substr(slash + 1)));
        return *this;
    }
    Flow &key_only(uint16_t type, std::string_view hex) {
        key[type] = from_hex(hex);
        mask.erase(type);
        return *this;
    }
    Flow &mask_only(uint16_t type, std::string_view hex) {
        mask[type] = from_hex(hex);
        key.erase(type);
        return *this;
    }
    Flow &without(uint16_t type) {
        key.erase(type);
        mask.erase(type);
        return *this;
    }
    // Puts the Ethernet type and what is above it, or a tag that is there
    // already, behind a VLAN tag.  Later edits concern the outer level.
    Flow &in_vlan(std::string_view tci, std::string_view tpid = "8100/ffff") {
        for (Level *level : {&key, &mask}) {
            AttrList inner;
            for (auto it = level->begin(); it != level->end();) {
                if (is_outer(it->first)) {
                    ++it;
                } else {
                    inner.put_bytes(it->first, it->second);
                    it = level->erase(it);
                }
            }
            const Bytes b = inner.bytes();
            (*level)[OVS_KEY_ATTR_ENCAP] = ByteVector(b.begin(), b.end());
        }
        match(OVS_KEY_ATTR_VLAN, tci);
        return match(OVS_KEY_ATTR_ETHERTYPE, tpid);
    }

    // Attributes that stay outside of ENCAP.
    static bool is_outer(uint16_t type) {
        switch (type) {
            case OVS_KEY_ATTR_PRIORITY:
            case OVS_KEY_ATTR_IN_PORT:
            case OVS_KEY_ATTR_ETHERNET:
            case OVS_KEY_ATTR_SKB_MARK:
            case OVS_KEY_ATTR_TUNNEL:
            case OVS_KEY_ATTR_DP_HASH:
            case OVS_KEY_ATTR_RECIRC_ID:
            case OVS_KEY_ATTR_CT_STATE:
            case OVS_KEY_ATTR_CT_ZONE:
            case OVS_KEY_ATTR_CT_MARK:
            case OVS_KEY_ATTR_CT_LABELS:
            case OVS_KEY_ATTR_CT_ORIG_TUPLE_IPV4:
            case OVS_KEY_ATTR_CT_ORIG_TUPLE_IPV6:
            case OVS_KEY_ATTR_PACKET_TYPE:
                return true;
            default:
                return false;
        }
    }

    static AttrList encode(const Level &level) {
        AttrList list;
        for (const auto &[type, payload] : level) {
            list.put_bytes(type, payload);
        }
        return list;
    }

private:
    template <typename S, typename M>
    static void set(ByteVector *payload, M S::*member,
                    const ByteVector &value) {
        const S s{};
        const auto offset = reinterpret_cast<const std::byte *>(&(s.*member))
                          - reinterpret_cast<const std::byte *>(&s);
        payload->resize(sizeof s);
        if (value.size() != sizeof(M)) {
            std::abort();  // A typo in a row.
        }
        std::copy(value.begin(), value.end(), payload->begin() + offset);
    }
};

// Typical flows on port 1.  The MAC addresses are in the key, but not matched,
// as in what OVS sends.
inline Flow on_port1(std::string_view eth_type) {
    Flow f;
    f.match(OVS_KEY_ATTR_IN_PORT, "01000000/ffffffff");  // Host order.
    f.match(OVS_KEY_ATTR_ETHERNET,
            "020000000001020000000002/000000000000000000000000");
    return f.match(OVS_KEY_ATTR_ETHERTYPE, std::string(eth_type) + "/ffff");
}
inline Flow l2() { return on_port1("88b5"); }
inline Flow arp() { return on_port1("0806"); }
inline Flow ipv4() { return on_port1("0800"); }
inline Flow ipv6() { return on_port1("86dd"); }
inline Flow ipv4(std::string_view proto) {
    return ipv4().match(OVS_KEY_ATTR_IPV4, &ovs_key_ipv4::ipv4_proto,
                        std::string(proto) + "/ff");
}
inline Flow ipv6(std::string_view proto) {
    return ipv6().match(OVS_KEY_ATTR_IPV6, &ovs_key_ipv6::ipv6_proto,
                        std::string(proto) + "/ff");
}

}  // namespace flowxlate::unit

#endif
