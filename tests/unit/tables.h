// SPDX-License-Identifier: Apache-2.0
// A flow table in heap memory, and a reader of it that does what
// bpf/table/lookup.h does.
#ifndef TESTS_UNIT_TABLES_H
#define TESTS_UNIT_TABLES_H

#include <arpa/inet.h>

#include <atomic>
#include <cstdlib>
#include <iostream>
#include <random>
#include <vector>

#include "bpf/abi/counters.h"
#include "bpf/abi/handover.h"
#include "bpf/abi/hash.h"
#include "flowxlate/tables/flow_table.h"
#include "flowxlate/tables/heap_maps.h"
#include "tests/grace.h"

namespace flowxlate::unit {

// TEST_SEED in the environment, else a random number; printed.
inline uint64_t test_seed() {
    const char *s = std::getenv("TEST_SEED");
    const uint64_t seed =
        s ? std::strtoull(s, nullptr, 0) : std::random_device()();
    std::cout << "TEST_SEED=" << seed << "\n";
    return seed;
}

struct Sizes {
    size_t buckets = 64;
    size_t flows = 128;  // With slot 0, which is not used.
    size_t subtables = XF_MAX_SUBTABLES;
    size_t recircs = 4;    // With slot 0: not recirculated.
    size_t rewrites = 16;  // With slot 0, which is not used.
    size_t cpus = 2;
    uint64_t seed = 1;          // 0: a secret of zeros.
    bool cpus_have_run = true;  // The program, on all of them.
    size_t max_rows = 64;       // Fewer than CPUs: some share.
};

class Tables {
public:
    explicit Tables(const Sizes &sizes = {})
        : maps_(map_sizes(sizes)),
          table(table_memory(maps_, rows_of(sizes), make_secret(sizes.seed))) {
        for (xf_cpu &cpu : maps_.xf_cpus) {
            cpu.seq = sizes.cpus_have_run ? 2 : 0;
        }
    }

private:
    static MapSizes map_sizes(const Sizes &sizes) {
        MapSizes m;
        m.buckets = sizes.buckets;
        m.flows = sizes.flows;
        m.subtables = sizes.subtables;
        m.recircs = sizes.recircs;
        m.rewrites = sizes.rewrites;
        m.cpus = sizes.cpus;
        m.stats = rows_of(sizes).n_rows() * sizes.flows;
        return m;
    }
    static CpuRows rows_of(const Sizes &sizes) {
        return CpuRows(std::vector<bool>(sizes.cpus, true), sizes.max_rows);
    }
    static std::array<uint64_t, XF_KEY_WORDS + 1> make_secret(uint64_t seed) {
        std::array<uint64_t, XF_KEY_WORDS + 1> secret{};
        std::mt19937_64 random(seed);
        for (uint64_t &word : secret) {
            word = seed ? random() : 0;
        }
        return secret;
    }

    HeapMaps maps_;

public:
    FlowTable table;

    const TableMemory &mem() const { return table.memory(); }
    xf_stats &stats(size_t cpu, FlowSlot slot) {
        return maps_.xf_stats[mem().rows.row_of(cpu) * maps_.sizes.flows
                              + index(slot)];
    }
};

// The reader
// ----------

template <typename T>
T load(T &word) {
    return std::atomic_ref(word).load(std::memory_order_acquire);
}

inline __u64 key_word(const TableMemory &mem, uint32_t slot, uint32_t i) {
    return i < XF_SHORT_KEY_WORDS
             ? mem.flows[slot].key[i]
             : mem.key_rests[slot].word[i - XF_SHORT_KEY_WORDS];
}

// Is a word hashed and compared?
inline bool has_word(const xf_subtable &st, uint32_t i) {
    return i < XF_SHORT_KEY_WORDS || (st.segments & xf_segment_of(i));
}

inline bool key_matches(const TableMemory &mem, const xf_key &packet,
                        const xf_subtable &st, uint32_t slot) {
    for (uint32_t i = 0; i < XF_KEY_WORDS; i++) {
        if (has_word(st, i)
            && (packet.word[i] & st.mask[i]) != key_word(mem, slot, i)) {
            return false;
        }
    }
    return true;
}

inline uint64_t packet_hash(const TableMemory &mem, const xf_key &packet,
                            uint32_t subtable) {
    const xf_subtable &st = mem.subtables[subtable];
    uint64_t sum = xf_hash_word(subtable, mem.secret[XF_KEY_WORDS]);
    for (uint32_t i = 0; i < XF_KEY_WORDS; i++) {
        if (has_word(st, i)) {
            sum += xf_hash_word(packet.word[i] & st.mask[i], mem.secret[i]);
        }
    }
    return xf_hash_finish(sum);
}

inline FlowSlot find_in_subtable(const TableMemory &mem, const xf_key &packet,
                                 uint32_t subtable) {
    if (subtable >= mem.subtables.size()) {
        return FlowSlot::kNone;
    }
    const xf_subtable &st = mem.subtables[subtable];
    const uint64_t hash = packet_hash(mem, packet, subtable);
    const uint32_t slots = slot_mask(mem.flows.size());
    auto probe = [&](xf_bucket &bucket) {
        for (uint32_t i = 0; i < XF_BUCKET_ENTRIES; i++) {
            const uint32_t entry = load(bucket.entry[i]), slot = entry & slots;
            if (i >= load(bucket.used)) {
                break;
            }
            if (((entry ^ xf_hash_signature(hash)) & ~slots)
                || slot >= mem.flows.size()) {
                continue;
            }
            if ((load(mem.flows[slot].subtable) & ~XF_FLOW_LIVE) == subtable
                && key_matches(mem, packet, st, slot)) {
                return FlowSlot{slot};
            }
        }
        return FlowSlot::kNone;
    };
    auto bucket = [&](uint32_t i) -> xf_bucket & {
        return mem.buckets[i & (mem.buckets.size() - 1)];
    };

    xf_bucket &first = bucket(xf_hash_bucket1(hash));
    const FlowSlot slot = probe(first);
    if (slot != FlowSlot::kNone || !load(first.overflow)) {
        return slot;
    }
    return probe(bucket(xf_hash_bucket2(hash)));
}

// Whether 'packet' hits the flow in 'slot', which the flow cache predicts.
inline bool prediction_hits(const TableMemory &mem, const xf_key &packet,
                            FlowSlot slot) {
    xf_flow &flow = mem.flows[index(slot)];
    const uint32_t subtable = load(flow.subtable);
    return (subtable & XF_FLOW_LIVE)
        && key_matches(mem, packet, mem.subtables[subtable & ~XF_FLOW_LIVE],
                       index(slot));
}

// The subtables of a walk, as a reader finds them.
inline std::vector<uint32_t> walk_of(const TableMemory &mem, xf_class cls,
                                     uint16_t recirc = 0) {
    std::vector<uint32_t> walk;
    for (uint32_t s = load(mem.walks[recirc].first[cls]);
         s && s < mem.subtables.size() && walk.size() < XF_MAX_MASKS;
         s = load(mem.subtables[s].next)) {
        walk.push_back(s);
    }
    return walk;
}

// The slot that 'packet' finds.
inline FlowSlot find(const TableMemory &mem, xf_class cls,
                     const xf_key &packet,
                     FlowSlot predicted = FlowSlot::kNone) {
    if (prediction_hits(mem, packet, predicted)) {
        return predicted;
    }
    FlowSlot slot = FlowSlot::kNone;
    uint32_t subtable = load(mem.walks[packet.recirc].first[cls]);
    for (uint32_t i = 0; i < XF_MAX_MASKS && slot == FlowSlot::kNone
                         && subtable && subtable < mem.subtables.size();
         i++) {
        slot = find_in_subtable(mem, packet, subtable);
        subtable = load(mem.subtables[subtable].next);
    }
    return slot;
}

// Megaflows
// ---------
// Megaflow (cls, variant, id) has the 'variant'th mask of its class and
// matches the packets of this id and variant, no others.  There are masks of
// all lengths, in each table of IPv6 flows of several variants as well.

struct Megaflow {
    xf_class cls;
    uint32_t variant, id;

    auto operator<=>(const Megaflow &) const = default;

    xf_key mask() const {
        xf_key m{};
        m.in_port = m.recirc = 0xffff;
        m.eth_type = 0xffff;
        m.vlan_tci = 0xffff;
        m.nw_tos = 0xff;  // The variant.
        m.eth_dst[5] = static_cast<__u8>(variant + 1);
        m.eth_dst[4] = static_cast<__u8>((variant + 1) >> 8);
        std::memset(place_of_id(&m), 0xff, sizeof id);
        return m;
    }
    // The bits that no mask covers are from 'noise'.
    xf_key packet(uint64_t noise = 0) const {
        static constexpr uint16_t kTypes[] = {0x88b5, 0x0806, 0x0800, 0x86dd,
                                              0x8847};
        std::mt19937_64 random(noise);
        const xf_key m = mask();
        xf_key k{};
        for (uint32_t i = 0; i < XF_KEY_WORDS; i++) {
            k.word[i] = noise ? random() & ~m.word[i] : 0;
        }
        k.in_port = 1;
        k.eth_type = htons(kTypes[cls]);
        k.nw_tos = static_cast<__u8>(variant);
        k.eth_dst[5] |= m.eth_dst[5];
        k.eth_dst[4] |= m.eth_dst[4];
        std::memcpy(place_of_id(&k), &id, sizeof id);
        return k;
    }
    xf_key key() const {
        xf_key k = packet();
        const xf_key m = mask();
        for (size_t i = 0; i < XF_KEY_WORDS; i++) {
            k.word[i] &= m.word[i];
        }
        return k;
    }

private:
    void *place_of_id(xf_key *k) const {
        switch (cls) {
            case XF_CLASS_ARP:
                return k->arp_tha + 2;  // Word 7.
            case XF_CLASS_IPV6:
                return (variant % 2 ? k->nd_target : k->ipv6_dst) + 12;
            case XF_CLASS_MPLS:
                return &k->mpls_lse;
            default:
                return &k->ipv4_dst;  // Word 5.
        }
    }
};

inline xf_action output_to(uint32_t port) {
    xf_action a{};
    a.verdict = XF_OUTPUT;
    a.to = port;
    return a;
}

// Writes header fields as well: 'id' of them.
inline FlowAction rewriting(uint32_t port, uint32_t id) {
    FlowAction a(output_to(port));
    a.rewrite.mask[4] = 0xffffffff;
    a.rewrite.value[4] = id;
    return a;
}

inline Reject insert(FlowTable *table, const Megaflow &m, uint32_t port,
                     FlowSlot *slot) {
    return table->insert(m.cls, m.key(), m.mask(), output_to(port), slot);
}

}  // namespace flowxlate::unit

#endif
