// SPDX-License-Identifier: Apache-2.0
// The plugin as ovs-vswitchd has it: ports and flows through its C ABI, on
// devices in a network namespace of this process alone, which disappears with
// it.
//
// An Offer is a flow as OVS offers it: netlink attributes, in place, so that
// to make the next one costs next to nothing.
#ifndef TESTS_BENCH_PLUGIN_HOST_H
#define TESTS_BENCH_PLUGIN_HOST_H

#include <arpa/inet.h>
#include <linux/netlink.h>
#include <linux/openvswitch.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "bpf/abi/hash.h"
#include "flowxlate/base/resource.h"
#include "flowxlate/base/types.h"
#include "flowxlate/front/flowxlate.h"
#include "rivals_abi.h"

namespace flowxlate::bench {

constexpr const char *kDatapath = "netdev";

// Throws "WHAT: the error in words".
[[noreturn]] void fail(const std::string &what, int error = errno);

// Makes 'n' veths PREFIX0, ... that take redirected frames: the peer has GRO.
void make_links(const std::string &prefix, int n);

// Attaches an XDP program; the link holds it.
Fd attach(int program, const char *device);

template <uint16_t Type, typename T>
struct alignas(NLA_ALIGNTO) Attribute {
    nlattr header{NLA_HDRLEN + sizeof(T), Type};
    T value{};
};

// The attributes that OVS sends for an IPv4 and UDP flow, key or mask.
struct MatchAttrs {
    Attribute<OVS_KEY_ATTR_PRIORITY, uint32_t> priority;
    Attribute<OVS_KEY_ATTR_SKB_MARK, uint32_t> skb_mark;
    Attribute<OVS_KEY_ATTR_RECIRC_ID, uint32_t> recirc_id;
    Attribute<OVS_KEY_ATTR_DP_HASH, uint32_t> dp_hash;
    Attribute<OVS_KEY_ATTR_IN_PORT, uint32_t> in_port;
    Attribute<OVS_KEY_ATTR_ETHERNET, ovs_key_ethernet> ethernet;
    Attribute<OVS_KEY_ATTR_ETHERTYPE, __be16> ethertype;
    Attribute<OVS_KEY_ATTR_IPV4, ovs_key_ipv4> ipv4;
    Attribute<OVS_KEY_ATTR_UDP, ovs_key_udp> udp;
};
static_assert(sizeof(MatchAttrs) == 9 * NLA_HDRLEN + 5 * 4 + 12 + 4 + 12 + 4);

// The flow of flow_spec(), from one device to another, as OVS offers it.
class Offer {
public:
    Offer(int in, int out) {
        key_.in_port.value = in;
        mask_.in_port.value = mask_.recirc_id.value = UINT32_MAX;
        key_.ethertype.value = htons(0x0800);
        mask_.ethertype.value = UINT16_MAX;
        key_.ipv4.value.ipv4_proto = IPPROTO_UDP;
        mask_.ipv4.value.ipv4_proto = mask_.ipv4.value.ipv4_frag = 0xff;
        mask_.ipv4.value.ipv4_src = UINT32_MAX;
        mask_.udp.value.udp_src = UINT16_MAX;
        output_.value = out;
    }

    // 'i' is the number of the flow.  The abi points into this Offer.
    ovs_offload_flow flow(uint32_t i, bool drop = false) {
        key_.ipv4.value.ipv4_src = htonl(RIVAL_FLOW_ADDRESS + i);
        key_.udp.value.udp_src = htons(i);
        ufid_ = ufid(i);
        return {sizeof(ovs_offload_flow),
                ufid_.bytes.data(),
                kDatapath,
                &key_,
                sizeof key_,
                &mask_,
                sizeof mask_,
                &output_,
                drop ? 0 : sizeof output_,
                XF_MAX_TAGS,
                32768,
                61000,
                false};
    }

    // OVS's are hashes; so is this.
    static Ufid ufid(uint32_t i) {
        const uint64_t words[] = {xf_hash_finish(i + 1), i};
        Ufid u;
        std::memcpy(u.bytes.data(), words, u.bytes.size());
        return u;
    }

private:
    MatchAttrs key_, mask_;
    Attribute<OVS_ACTION_ATTR_OUTPUT, uint32_t> output_;
    Ufid ufid_;
};

class Plugin;

class PluginPort {
public:
    // Of an OVS interface type, in a datapath of an OVS datapath type.
    PluginPort(Plugin *, const std::string &device, const char *type = "afxdp",
               const char *datapath = kDatapath);
    ~PluginPort();
    PluginPort(const PluginPort &) = delete;
    PluginPort &operator=(const PluginPort &) = delete;

    int ifindex() const { return ifindex_; }
    // The program that is attached to the device now.
    Fd program() const;

private:
    Plugin *plugin_;
    int ifindex_;
    void *handle_ = nullptr;
};

// An instance of the plugin; it lives as long as the process.
class Plugin {
public:
    // With keys of other_config, and their values.
    using Config = std::vector<std::pair<std::string, std::string>>;
    explicit Plugin(const Config & = {});
    const ovs_offload_ops &ops() const { return *ovs_offload_plugin_get(); }
    void *self() const { return self_; }

    void put(const ovs_offload_flow &flow) {
        if (int error = ops().flow_put(self_, &flow)) {
            fail("flow_put", error);
        }
    }
    void del(uint32_t i) {
        ovs_offload_stats remaining;
        if (int error = ops().flow_del(self_, Offer::ufid(i).bytes.data(),
                                       &remaining)) {
            fail("flow_del", error);
        }
    }
    bool in_fast_path(uint32_t i) {
        ovs_offload_stats stats;
        return !ops().flow_stats(self_, Offer::ufid(i).bytes.data(), &stats);
    }

private:
    void *self_ = nullptr;
};

// Until the flow's output port takes frames; throws after some seconds.
void wait_until_in_fast_path(Plugin *, uint32_t flow);

}  // namespace flowxlate::bench

#endif
