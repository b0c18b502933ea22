// SPDX-License-Identifier: Apache-2.0
// The real XDP program, loaded into this kernel, run on one packet at a time
// with BPF_PROG_TEST_RUN, which sends nothing anywhere.
//
// The ports are slots 1 (where packets enter) and 2 to 5 (where they may leave), and
// two tunnels'.
#ifndef TESTS_BPF_PROGRAM_H
#define TESTS_BPF_PROGRAM_H

#include <net/if.h>

#include <memory>
#include <string>
#include <vector>

#include "bpf/abi/counters.h"
#include "flowxlate/kernel/bpf_maps.h"
#include "flowxlate/tables/flow_table.h"
#include "packet.h"

namespace flowxlate::test {

constexpr PortSlot kIn{1}, kOut{2}, kDown{3}, kNarrow{4}, kUnmapped{5};
constexpr PortSlot kGeneve{6}, kVxlan{7};  // Tunnel ports.

// A megaflow for a table row: fields are exact unless a mask is given.
class FlowSpec {
public:
    explicit FlowSpec(xf_class cls, uint16_t eth_type);

    static FlowSpec l2(uint16_t eth_type);
    static FlowSpec arp() { return FlowSpec(XF_CLASS_ARP, 0x0806); }
    static FlowSpec ipv4() { return FlowSpec(XF_CLASS_IPV4, 0x0800); }
    static FlowSpec ipv6() { return FlowSpec(XF_CLASS_IPV6, 0x86dd); }
    static FlowSpec mpls() { return FlowSpec(XF_CLASS_MPLS, 0x8847); }

    FlowSpec &vid(uint16_t vid);  // Else: packets without a tag.
    FlowSpec &any_tag();
    FlowSpec &any_tags();  // Or none.
    FlowSpec &tag(uint16_t tpid, uint16_t vid);
    FlowSpec &tag2(uint16_t tpid, uint16_t vid);  // Else: no second tag.
    FlowSpec &label(uint32_t);
    FlowSpec &recirc(uint16_t);  // Else: packets that are new.
    FlowSpec &from(PortSlot);    // Else: kIn.
    FlowSpec &dp_hash(uint8_t value, uint8_t mask);
    // Matches bits of the field that begins 'key_at' bytes into struct xf_key;
    // without a mask, all of them.
    FlowSpec &match(size_t key_at, const Frame &value, const Frame &mask = {});
    FlowSpec &proto(uint8_t);
    FlowSpec &tp_src(uint16_t);
    FlowSpec &tp_dst(uint16_t);
    FlowSpec &tcp_flags(uint16_t value, uint16_t mask);
    FlowSpec &frag(uint8_t);
    FlowSpec &ttl(uint8_t);
    FlowSpec &tos(uint8_t);
    FlowSpec &ipv4_dst(uint32_t addr, uint32_t mask);

    FlowSpec &drop();
    FlowSpec &to(PortSlot);
    FlowSpec &out_of_tunnel(PortSlot);
    FlowSpec &into_tunnel(uint16_t slot);
    FlowSpec &push(uint16_t tci, uint16_t tpid = 0x8100);
    FlowSpec &pop();
    FlowSpec &replace(uint16_t tci);
    FlowSpec &trunc(uint32_t max_len);
    FlowSpec &up_to(uint16_t max_in);
    FlowSpec &recirc_to(uint16_t);
    FlowSpec &hash_to(uint32_t basis, uint16_t);
    // Sets bits of the field that begins 'key_at' bytes into struct xf_key.
    FlowSpec &set(size_t key_at, const Frame &value, const Frame &mask);

    xf_class cls;
    xf_key key{}, mask{};
    xf_action action{};
    xf_rewrite rewrite{};
};

struct Run {
    uint32_t verdict = 0;
    Frame out;
};

// By the clock that connections expire by: CLOCK_MONOTONIC_COARSE.
int64_t now_ms();

// Runs a loaded program 'repeat' times on 'in'; returns the mean time in ns.
uint32_t time_program(int fd, const Frame &in, int repeat);

// Loads the program once per process; reset() between rows.
class Program {
public:
    explicit Program(uint32_t tx_flag = XF_PORT_TX_NATIVE,
                     const Program *takes_over_from = nullptr,
                     const PortTraits & = {}, const BpfMaps::Config & = {});
    virtual ~Program() = default;

    FlowSlot add(const FlowSpec &);
    void remove_all();
    // Takes a flow that is not in the tables any more off the books.
    void forget(FlowSlot);
    // 'metadata' bytes in front of the frame take room to grow away; false in
    // '*ok' if the kernel does not do that.
    virtual Run run(const Frame &in, uint32_t queue = 0, uint32_t metadata = 0,
                    bool *ok = nullptr);
    // Does it complete a partial checksum?  Else the kernel does, later.
    virtual bool completes() const { return true; }
    virtual const char *hook() const { return "xdp"; }

    FlowTable &table() { return *table_; }
    BpfMaps &maps() { return maps_; }
    uint64_t misses(xf_miss reason) const { return maps_.misses(kIn, reason); }
    uint64_t total_misses() const;
    const xdp_offload_bpf &skeleton() const { return *skeleton_; }
    int fd() const;
    // For a program that takes over from this one, or that it takes over from.
    struct Calls {
        int next, main, sample;  // Its 'xf_next' and its programs.
    };
    virtual Calls calls() const;
    int socket_map_fd() const;
    int tx_ports_fd() const;

private:
    BpfMaps maps_;
    std::unique_ptr<FlowTable> table_;
    Skeleton skeleton_;
    std::vector<FlowSlot> flows_;
    // Asked once: the oracle runs millions of packets.
    const uint32_t lo_ifindex_ = if_nametoindex("lo");
};

}  // namespace flowxlate::test

#endif
