// SPDX-License-Identifier: Apache-2.0
// A connection table in heap memory, connections for it, and a reader of it
// that does what bpf/conn/track.h does.
#ifndef TESTS_UNIT_CONNS_H
#define TESTS_UNIT_CONNS_H

#include <arpa/inet.h>
#include <linux/openvswitch.h>
#include <netinet/in.h>

#include <array>
#include <atomic>
#include <cstring>
#include <random>
#include <utility>
#include <vector>

#include "bpf/abi/conn.h"
#include "bpf/abi/hash.h"
#include "flowxlate/tables/buckets.h"
#include "flowxlate/tables/conn_table.h"
#include "flowxlate/tables/heap_maps.h"
#include "tests/grace.h"

namespace flowxlate::unit {

constexpr uint16_t kEstablished = OVS_CS_F_TRACKED | OVS_CS_F_ESTABLISHED;
constexpr uint16_t kAnswer = kEstablished | OVS_CS_F_REPLY_DIR;

// From 10.0.0.0 + 'id', port 1000, to 10.1.0.1, port 80.
inline ovs_offload_ct connection(uint32_t id, uint16_t zone = 1,
                                 uint8_t proto = IPPROTO_TCP) {
    ovs_offload_ct c{};
    c.size = sizeof c;
    c.zone = zone;
    c.l3 = 4;
    c.proto = proto;
    c.timeout_ms = 5000;
    const uint32_t client = htonl(0x0a000000 + id), server = htonl(0x0a010001);
    std::memcpy(c.dir[0].src, &client, sizeof client);
    std::memcpy(c.dir[0].dst, &server, sizeof server);
    c.dir[0].tp_src = htons(1000);
    c.dir[0].tp_dst = htons(80);
    std::memcpy(c.dir[1].src, &server, sizeof server);
    std::memcpy(c.dir[1].dst, &client, sizeof client);
    c.dir[1].tp_src = htons(80);
    c.dir[1].tp_dst = htons(1000);
    c.dir[0].state = kEstablished;
    c.dir[1].state = kAnswer;
    return c;
}

// The same, from 192.0.2.0 + 'to' when it arrives.
inline ovs_offload_ct translated(uint32_t id, uint32_t to) {
    ovs_offload_ct c = connection(id);
    const uint32_t address = htonl(0xc0000200 + to);
    std::memcpy(c.dir[1].dst, &address, sizeof address);
    c.dir[0].nat_state = OVS_CS_F_SRC_NAT;
    c.dir[1].nat_state = OVS_CS_F_DST_NAT;
    return c;
}

// What a packet of direction 'd' is looked for by: make_conn_key().
inline xf_conn_key key_of(const ovs_offload_ct &c, int d) {
    const size_t size = c.l3 == 4 ? 4 : 16;
    const auto &dir = c.dir[d];
    xf_conn_key key{};
    auto *bytes = reinterpret_cast<uint8_t *>(key.addr);
    std::memcpy(bytes, dir.src, size);
    std::memcpy(bytes + size, dir.dst, size);
    const uint64_t cls = c.l3 == 4 ? XF_CLASS_IPV4 : XF_CLASS_IPV6;
    key.id = dir.tp_src | uint64_t{dir.tp_dst} << 16 | uint64_t{c.zone} << 32
           | uint64_t{c.proto} << 48 | cls << 56;
    return key;
}

class Conns {
public:
    struct Sizes {
        size_t slots = 8;  // With slot 0, which is not used.
        size_t buckets = 16;
        uint64_t seed = 1;
    };

    Conns() : Conns(Sizes{}) {}
    explicit Conns(const Sizes &sizes)
        : maps_(map_sizes(sizes)),
          table(conn_memory(maps_, make_secret(sizes.seed))) {}

    // The handle; 0 if it is refused.
    uint64_t put(const ovs_offload_ct &c, uint64_t handle = 0) {
        return table.put(c, &handle) ? 0 : handle;
    }
    // XF_CONN_HIDDEN: only such that OVS does not find, or not yet.
    static constexpr uint32_t kHidden = ~0U;
    static bool is_none(uint32_t index) { return !index || index == kHidden; }
    // The index that such a packet finds; 0 = none, or kHidden.
    uint32_t find(const ovs_offload_ct &c, int d) {
        return find(key_of(c, d));
    }
    uint32_t find(const xf_conn_key &key) {
        const uint64_t hash =
            xf_conn_hash(&key, reinterpret_cast<__u64 *>(secret_.data()));
        xf_bucket &first = bucket(xf_hash_bucket1(hash));
        uint32_t found = probe(first, key, hash);
        if (is_none(found) && load(first.overflow)) {
            const uint32_t second =
                probe(bucket(xf_hash_bucket2(hash)), key, hash);
            found = second ? second : found;
        }
        return found;
    }
    bool finds_both(const ovs_offload_ct &c) {
        const uint32_t original = find(c, 0);
        return original && original % 2 == 0 && find(c, 1) == original + 1;
    }
    bool finds_none(const ovs_offload_ct &c) {
        return is_none(find(c, 0)) && is_none(find(c, 1));
    }
    // A packet of direction 'd' is executed.
    void execute(const ovs_offload_ct &c, int d, uint64_t now) {
        store(uses[find(c, d)].used_ms, now);
    }

    bool is_incomplete(uint16_t zone) {
        return load(zones[0].incomplete[zone / 64]) >> zone % 64 & 1;
    }
    // A grace period.
    void reclaim() { pass_grace(&table); }

    // Of all entries: those there are, and those that are in their second
    // bucket; the latter as 'overflow' says, too.
    struct Entries {
        size_t n = 0, elsewhere = 0, overflow = 0;
        bool operator==(const Entries &) const = default;
    };
    Entries entries() {
        Entries e;
        for (xf_bucket &b : buckets) {
            e.overflow += b.overflow;
            for (const uint32_t entry : b.entry) {
                if (entry) {
                    e.n++;
                    e.elsewhere += &b != &first_bucket(entry);
                }
            }
        }
        return e;
    }

    template <typename T>
    static T load(T &word) {
        return std::atomic_ref(word).load(std::memory_order_acquire);
    }
    template <typename T>
    static void store(T &word, std::type_identity_t<T> value) {
        std::atomic_ref(word).store(value, std::memory_order_release);
    }

private:
    std::array<uint64_t, 5> secret_;
    HeapMaps maps_;

    static MapSizes map_sizes(const Sizes &sizes) {
        MapSizes m;
        m.conn_buckets = sizes.buckets;
        m.conns = 2 * sizes.slots;
        return m;
    }
    std::span<const uint64_t> make_secret(uint64_t seed) {
        std::mt19937_64 random(seed);
        for (uint64_t &word : secret_) {
            word = seed ? random() : 0;
        }
        return secret_;
    }
    uint32_t mask() const { return slot_mask(conns.size()); }
    xf_bucket &bucket(uint32_t i) { return buckets[i & (buckets.size() - 1)]; }
    xf_bucket &first_bucket(uint32_t entry) {
        const xf_conn &c = conns[entry & mask()];
        xf_conn_key key;
        std::memcpy(key.addr, c.addr, sizeof key.addr);
        std::memcpy(&key.id, &c.ports, sizeof key.id);
        return bucket(xf_hash_bucket1(
            xf_conn_hash(&key, reinterpret_cast<__u64 *>(secret_.data()))));
    }

    uint32_t probe(xf_bucket &b, const xf_conn_key &key, uint64_t hash) {
        uint32_t hidden = 0;
        for (uint32_t i = 0; i < XF_BUCKET_ENTRIES && i < load(b.used); i++) {
            const uint32_t entry = load(b.entry[i]), found = entry & mask();
            if (((entry ^ xf_hash_signature(hash)) & ~mask())
                || found >= conns.size()
                || std::memcmp(conns[found].addr, key.addr, sizeof key.addr)
                || std::memcmp(&conns[found].ports, &key.id, sizeof key.id)) {
                continue;
            }
            if (load(conns[found].live)) {
                return found;
            }
            hidden = kHidden;
        }
        return hidden;
    }

public:
    std::vector<xf_bucket> &buckets = maps_.xf_conn_buckets;
    std::vector<xf_conn> &conns = maps_.xf_conns;
    std::vector<xf_conn_use> &uses = maps_.xf_conn_uses;
    std::vector<xf_zones> &zones = maps_.xf_zones;
    std::vector<xf_settings> &settings = maps_.xf_settings;
    ConnTable table;
};

}  // namespace flowxlate::unit

#endif
