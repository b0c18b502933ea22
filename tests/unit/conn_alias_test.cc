// SPDX-License-Identifier: Apache-2.0
// Connections with the same tuple.  OVS has two of them if one has expired and
// has not been cleaned up, or if the answers to one with translation come as
// those to one without: then it finds the younger one, and the other one again
// when that has ended.
#include <gtest/gtest.h>

#include <arpa/inet.h>
#include <linux/openvswitch.h>
#include <netinet/in.h>

#include <array>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "bpf/abi/conn.h"
#include "flowxlate/tables/buckets.h"
#include "flowxlate/tables/conn_table.h"
#include "tests/grace.h"

namespace flowxlate::unit {
namespace {

constexpr uint16_t kEst = OVS_CS_F_TRACKED | OVS_CS_F_ESTABLISHED;

// Memory of a table, and a reader that does what bpf/conn/track.h does.
class Conns {
public:
    explicit Conns(size_t max, size_t n_buckets = 16)
        : buckets_(n_buckets),
          conns_(2 * (max + 1)),
          uses_(2 * (max + 1)),
          table({buckets_,
                 conns_,
                 uses_,
                 {&zones_, 1},
                 {&settings_, 1},
                 secret_}) {
        for (uint64_t &word : secret_) {
            word = random_();
        }
        table.open({sizeof(ovs_offload_ct_settings), true, false});
    }

    // Which connections, by their marks, a packet is of; one that is known but
    // that OVS has to see, in brackets.
    std::string find(const ovs_offload_ct_dir &d) {
        std::string s;
        for (size_t i = 2; i < conns_.size(); i++) {
            const xf_conn &conn = conns_[i];
            if (conn.live && !std::memcmp(conn.addr, d.src, 4)
                && !std::memcmp(reinterpret_cast<const char *>(conn.addr) + 4,
                                d.dst, 4)
                && conn.ports == (d.tp_src | uint32_t{d.tp_dst} << 16)
                && is_in_bucket(i)) {
                const std::string mark = std::to_string(conn.mark);
                s += conn.state ? mark : "(" + mark + ")";
            }
        }
        return !s.empty()                       ? s
             : zones_.incomplete[0] & 1ULL << 1 ? "unknown"
                                                : "new";
    }

private:
    bool is_in_bucket(uint32_t index) {
        xf_conn_key key;
        std::memcpy(key.addr, conns_[index].addr, sizeof key.addr);
        std::memcpy(&key.id, &conns_[index].ports, sizeof key.id);
        const uint64_t hash = xf_conn_hash(
            &key, reinterpret_cast<const volatile __u64 *>(secret_.data()));
        const uint32_t mask = slot_mask(conns_.size());
        bool found = false;
        bucket_pair(buckets_, hash).for_each([&](uint32_t entry) {
            found |= (entry & mask) == index;
        });
        return found;
    }

    std::mt19937_64 random_{1};
    std::vector<xf_bucket> buckets_;
    std::vector<xf_conn> conns_;
    std::vector<xf_conn_use> uses_;
    xf_zones zones_{};
    xf_settings settings_{};
    std::array<uint64_t, XF_KEY_WORDS> secret_{};

public:
    ConnTable table;
};

// 10.0.0.1 has sent to 10.0.0.9, which is translated to 10.0.0.2, or to that
// itself; 'mark' tells connections apart.
ovs_offload_ct translated(uint32_t mark) {
    ovs_offload_ct c{};
    c.size = sizeof c;
    c.zone = 1;
    c.l3 = 4;
    c.proto = IPPROTO_TCP;
    c.mark = mark;
    const uint8_t client[] = {10, 0, 0, 1}, virt[] = {10, 0, 0, 9},
                  server[] = {10, 0, 0, 2};
    std::memcpy(c.dir[0].src, client, 4);
    std::memcpy(c.dir[0].dst, virt, 4);
    std::memcpy(c.dir[1].src, server, 4);
    std::memcpy(c.dir[1].dst, client, 4);
    c.dir[0].tp_src = c.dir[1].tp_dst = htons(1000);
    c.dir[0].tp_dst = c.dir[1].tp_src = htons(80);
    c.dir[0].state = kEst;
    c.dir[1].state = kEst | OVS_CS_F_REPLY_DIR;
    c.dir[0].nat_state = OVS_CS_F_DST_NAT;
    c.dir[1].nat_state = OVS_CS_F_SRC_NAT;
    return c;
}

ovs_offload_ct direct(uint32_t mark) {
    ovs_offload_ct c = translated(mark);
    std::memcpy(c.dir[0].dst, c.dir[1].src, 4);
    c.dir[0].nat_state = c.dir[1].nat_state = 0;
    return c;
}

uint64_t put(Conns *c, const ovs_offload_ct &ct, uint64_t handle = 0) {
    EXPECT_EQ(c->table.put(ct, &handle), 0);
    return handle;
}

TEST(ConnAlias, AnswersAreThoseOfTheYounger) {
    Conns c(8);
    const auto a = translated(1), b = direct(2);
    const uint64_t handle_a = put(&c, a);
    EXPECT_EQ(c.find(a.dir[1]), "1");

    const uint64_t handle_b = put(&c, b);
    EXPECT_EQ(c.find(b.dir[0]), "2");
    EXPECT_EQ(c.find(a.dir[1]), "2");
    EXPECT_EQ(c.find(a.dir[0]), "(1)");
    put(&c, a, handle_a);
    EXPECT_EQ(c.find(a.dir[0]), "1");
    EXPECT_EQ(c.find(a.dir[1]), "2");

    c.table.del(handle_b);
    EXPECT_EQ(c.find(b.dir[0]), "new");
    EXPECT_EQ(c.find(a.dir[1]), "1");
    c.table.del(handle_a);
    EXPECT_EQ(c.find(a.dir[1]), "new");
}

TEST(ConnAlias, OlderEndsFirst) {
    Conns c(8);
    const auto a = translated(1), b = direct(2);
    const uint64_t handle_a = put(&c, a), handle_b = put(&c, b);
    c.table.del(handle_a);
    EXPECT_EQ(c.find(b.dir[1]), "2");
    c.table.del(handle_b);
    EXPECT_EQ(c.find(b.dir[1]), "new");
}

// As when a plugin is attached, which is told of all in any order.
TEST(ConnAlias, ThreeOfTheSame) {
    Conns c(8);
    const uint64_t handles[] = {put(&c, direct(1)), put(&c, direct(2)),
                                put(&c, direct(3))};
    EXPECT_EQ(c.find(direct(0).dir[0]), "3");
    c.table.del(handles[2]);
    put(&c, direct(2), handles[1]);
    EXPECT_EQ(c.find(direct(0).dir[0]), "2");
    EXPECT_EQ(c.find(direct(0).dir[1]), "2");
    c.table.del(handles[0]);
    c.table.del(handles[1]);
    EXPECT_EQ(c.find(direct(0).dir[0]), "new");
}

// More than one bucket holds.
TEST(ConnAlias, YoungestIsInTheSecondBucket) {
    constexpr uint32_t kLast = XF_BUCKET_ENTRIES + 3;
    Conns c(kLast);
    std::vector<uint64_t> handles;
    for (uint32_t mark = 1; mark <= kLast; mark++) {
        handles.push_back(put(&c, direct(mark)));
        EXPECT_EQ(c.find(direct(0).dir[0]), std::to_string(mark));
    }
    while (handles.size() > 1) {
        c.table.del(handles.back());
        handles.pop_back();
        put(&c, direct(handles.size()), handles.back());
        for (const auto &d : direct(0).dir) {
            EXPECT_EQ(c.find(d), std::to_string(handles.size()));
        }
    }
}

TEST(ConnAlias, NoRoomForTheYounger) {
    Conns c(1);
    const auto a = translated(1), b = direct(2);
    const uint64_t handle_a = put(&c, a), handle_b = put(&c, b);
    EXPECT_EQ(c.find(a.dir[1]), "unknown");  // It is that of 2.
    EXPECT_EQ(c.find(a.dir[0]), "(1)");
    c.table.del(handle_b);
    EXPECT_EQ(c.find(a.dir[1]), "unknown");  // It is that of 1 now.
    c.table.del(handle_a);
    EXPECT_EQ(c.find(a.dir[1]), "new");
    EXPECT_EQ(c.table.figures().n_zones_incomplete, 0u);
}

// A place for the older one is found when the younger one has one.
TEST(ConnAlias, OlderIsPlacedLater) {
    Conns c(2);
    const auto a = translated(1), b = direct(2);
    ovs_offload_ct x = direct(7), y = direct(8);
    x.dir[0].tp_src = x.dir[1].tp_dst = htons(7);
    y.dir[0].tp_src = y.dir[1].tp_dst = htons(8);
    const uint64_t handle_x = put(&c, x), handle_y = put(&c, y),
                   handle_a = put(&c, a);
    c.table.del(handle_x);
    c.table.del(handle_y);
    pass_grace(&c.table);
    put(&c, b);
    EXPECT_EQ(c.find(a.dir[0]), "unknown");
    EXPECT_NE(put(&c, a, handle_a), handle_a);
    EXPECT_EQ(c.find(a.dir[0]), "1");
    EXPECT_EQ(c.find(a.dir[1]), "2");
}

// OVS goes on finding a younger one that has no place here, whatever comes and
// goes meanwhile.
TEST(ConnAlias, HiddenStaysHidden) {
    Conns c(3);
    ovs_offload_ct x = direct(7);
    x.dir[0].tp_src = x.dir[1].tp_dst = htons(7);
    const uint64_t handle_x = put(&c, x);
    put(&c, translated(1));
    put(&c, direct(2));
    const uint64_t unplaced = put(&c, direct(3));
    EXPECT_EQ(c.find(direct(0).dir[0]), "unknown");
    c.table.del(handle_x);
    pass_grace(&c.table);
    const uint64_t youngest = put(&c, direct(4));
    EXPECT_EQ(c.find(direct(0).dir[0]), "4");
    EXPECT_EQ(c.find(direct(0).dir[1]), "4");
    c.table.del(youngest);
    EXPECT_EQ(c.find(direct(0).dir[0]), "unknown");
    EXPECT_EQ(c.find(direct(0).dir[1]), "unknown");
    c.table.del(unplaced);
    EXPECT_EQ(c.find(direct(0).dir[0]), "unknown");
}

TEST(ConnAlias, AllEndAtOnce) {
    Conns c(1);
    put(&c, translated(1));
    put(&c, direct(2));
    c.table.close();
    EXPECT_EQ(c.find(direct(0).dir[1]), "new");
    EXPECT_EQ(c.table.figures().n_zones_incomplete, 0u);
}

}  // namespace
}  // namespace flowxlate::unit
