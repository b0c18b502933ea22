// SPDX-License-Identifier: Apache-2.0
// ConnTable: what OVS says of its connections, and what the program finds.
#include "flowxlate/tables/conn_table.h"
#include "bpf/abi/conn.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <map>

#include "tests/unit/alloc.h"
#include "tests/unit/conns.h"
#include "tests/unit/tables.h"

namespace flowxlate::unit {
namespace {

constexpr ovs_offload_ct_settings kStrict{sizeof(ovs_offload_ct_settings),
                                          true, false};

class ConnTables : public testing::Test {
protected:
    void SetUp() override { ASSERT_EQ(conns_.table.open(kStrict), 0); }

    // As many connections as there is room for: 100, 101 and so on.
    void fill_up() {
        for (uint32_t id = 100; conns_.table.figures().n < kRoom; id++) {
            ASSERT_NE(conns_.put(connection(id)), 0u);
        }
        ASSERT_EQ(conns_.table.figures().n_unplaced, 0u);
    }
    const xf_conn &conn(const ovs_offload_ct &c, int d) {
        return conns_.conns[conns_.find(c, d)];
    }
    xf_conn_use &use(const ovs_offload_ct &c, int d) {
        return conns_.uses[conns_.find(c, d)];
    }

    static constexpr size_t kRoom = 7;
    Conns conns_{{.slots = kRoom + 1}};
};

// -- Settings ---------------------------------------------------------------

TEST(ConnTable, Settings) {
    const struct {
        bool tcp_seq_chk, expects;
        uint32_t bits;
    } rows[] = {
        {false, false, XF_CT_OPEN},
        {true, false, XF_CT_OPEN | XF_CT_WINDOWS},
        {false, true, XF_CT_OPEN | XF_CT_EXPECTS},
        {true, true, XF_CT_OPEN | XF_CT_WINDOWS | XF_CT_EXPECTS},
    };
    for (const auto &row : rows) {
        const ovs_offload_ct_settings s{sizeof s, row.tcp_seq_chk,
                                        row.expects};
        Conns opened, set;
        opened.table.set(s);
        EXPECT_EQ(opened.settings[0].ct, 0u) << "before it is open";
        EXPECT_FALSE(opened.table.is_open());
        EXPECT_EQ(opened.table.open(s), 0);
        EXPECT_EQ(opened.settings[0].ct, row.bits);
        EXPECT_TRUE(opened.table.is_open());
        EXPECT_EQ(set.table.open(kStrict), 0);
        set.table.set(s);
        EXPECT_EQ(set.settings[0].ct, row.bits);
        set.table.close();
        EXPECT_EQ(set.settings[0].ct, 0u);
        set.table.set(s);
        EXPECT_EQ(set.settings[0].ct, 0u) << "after it was closed";
        EXPECT_FALSE(set.table.is_open());
    }
}

// The settings of others beside 'ct' are not ours.
TEST(ConnTable, OtherSettingsStay) {
    Conns conns;
    conns.settings[0].max_tags = 2;
    EXPECT_EQ(conns.table.open(kStrict), 0);
    conns.table.close();
    EXPECT_EQ(conns.settings[0].max_tags, 2u);
}

TEST(ConnTable, NothingBeforeOpen) {
    Conns conns;
    uint64_t handle = 0;
    EXPECT_EQ(conns.table.put(connection(1), &handle), ENOENT);
    EXPECT_EQ(handle, 0u);
    EXPECT_TRUE(conns.finds_none(connection(1)));
    EXPECT_EQ(conns.entries(), Conns::Entries());
}

TEST_F(ConnTables, CloseAndOpenAgain) {
    fill_up();
    const auto last = connection(99, 5);
    const uint64_t unplaced = conns_.put(last);
    const uint64_t handle = conns_.table.list(-1, 1).size();
    EXPECT_EQ(handle, 1u);
    EXPECT_TRUE(conns_.is_incomplete(5));

    conns_.table.close();
    EXPECT_EQ(conns_.entries(), Conns::Entries());
    EXPECT_FALSE(conns_.is_incomplete(5));
    EXPECT_EQ(conns_.table.figures().n, 0u);
    EXPECT_EQ(conns_.table.figures().n_unplaced, 0u);
    EXPECT_EQ(conns_.table.figures().n_zones_incomplete, 0u);
    EXPECT_EQ(conns_.put(connection(1)), 0u);
    EXPECT_EQ(conns_.put(last, unplaced), 0u);

    EXPECT_EQ(conns_.table.open(kStrict), 0);
    EXPECT_EQ(conns_.settings[0].ct, uint32_t{XF_CT_OPEN | XF_CT_WINDOWS});
    EXPECT_EQ(conns_.put(last, unplaced), 0u) << "a handle from before";
    conns_.table.del(unplaced);
    conns_.reclaim();
    fill_up();
}

TEST_F(ConnTables, HandlesFromBeforeItWasClosed) {
    const auto c = connection(1);
    const uint64_t old = conns_.put(c);
    conns_.table.close();
    EXPECT_EQ(conns_.table.open(kStrict), 0);
    conns_.reclaim();
    const uint64_t handle = conns_.put(c);
    EXPECT_NE(handle, old);
    EXPECT_EQ(conns_.put(c, old), 0u);
    conns_.table.del(old);
    EXPECT_TRUE(conns_.finds_both(c));
}

// Flows do not say of which tracker they are: not even after one has gone.
TEST_F(ConnTables, SecondTracker) {
    EXPECT_EQ(conns_.table.open(kStrict), EBUSY);
    EXPECT_EQ(conns_.settings[0].ct, 0u);
    EXPECT_FALSE(conns_.table.is_open());
    conns_.table.set(kStrict);
    EXPECT_EQ(conns_.settings[0].ct, 0u);
    for (int i = 0; i < 2; i++) {
        conns_.table.close();
        EXPECT_EQ(conns_.table.open(kStrict), EBUSY);
        EXPECT_EQ(conns_.settings[0].ct, 0u);
        EXPECT_FALSE(conns_.table.is_open());
    }
}

// -- Placing ----------------------------------------------------------------

TEST_F(ConnTables, BothDirections) {
    ovs_offload_ct c = connection(1, 7);
    c.mark = 0x1234;
    c.label[0] = 1;
    c.label[15] = 2;
    c.expires_ms = 99'000;
    c.dir[0].wscale = 3;
    c.dir[1].wscale = 0xf7;  // Its low bits.
    EXPECT_NE(conns_.put(c), 0u);
    ASSERT_TRUE(conns_.finds_both(c));
    for (int d = 0; d < 2; d++) {
        const xf_conn &found = conn(c, d);
        EXPECT_EQ(found.zone, 7);
        EXPECT_EQ(found.proto, IPPROTO_TCP);
        EXPECT_EQ(found.cls, XF_CLASS_IPV4);
        EXPECT_EQ(found.state, d ? kAnswer : kEstablished);
        EXPECT_EQ(found.nat_state, 0);
        EXPECT_EQ(found.mark, 0x1234u);
        EXPECT_EQ(std::memcmp(found.label, c.label, sizeof c.label), 0);
        EXPECT_EQ(found.timeout_ms, 5000u);
        EXPECT_EQ(use(c, d).expires_ms, 99'000u);
        EXPECT_EQ(found.wscale, d ? 7 : 3);
        EXPECT_EQ(found.peer_wscale, d ? 3 : 7);
        EXPECT_EQ(found.has_label, 1);
        // Not translated: it goes as it has come.
        EXPECT_EQ(std::memcmp(found.to_addr, found.addr, sizeof found.addr),
                  0);
        EXPECT_EQ(found.to_ports, found.ports);
    }
}

TEST_F(ConnTables, OthersAreNotFound) {
    const auto c = connection(1);
    conns_.put(c);
    auto other = [&](auto change) {
        ovs_offload_ct o = c;
        change(&o);
        return conns_.find(o, 0);
    };
    EXPECT_EQ(other([](auto *o) { o->zone = 2; }), 0u);
    EXPECT_EQ(other([](auto *o) { o->proto = IPPROTO_UDP; }), 0u);
    EXPECT_EQ(other([](auto *o) { o->dir[0].src[3]++; }), 0u);
    EXPECT_EQ(other([](auto *o) { o->dir[0].dst[0]++; }), 0u);
    EXPECT_EQ(other([](auto *o) { o->dir[0].tp_src++; }), 0u);
    EXPECT_EQ(other([](auto *o) { o->dir[0].tp_dst++; }), 0u);
    EXPECT_EQ(other([](auto *o) { o->l3 = 6; }), 0u);
    EXPECT_NE(other([](auto *) {}), 0u);
}

TEST_F(ConnTables, Ipv6) {
    ovs_offload_ct c = connection(1);
    c.l3 = 6;
    for (uint8_t i = 0; i < 16; i++) {
        c.dir[0].src[i] = c.dir[1].dst[i] = 0x20 + i;
        c.dir[0].dst[i] = c.dir[1].src[i] = 0x40 + i;
    }
    conns_.put(c);
    ASSERT_TRUE(conns_.finds_both(c));
    EXPECT_EQ(conn(c, 0).cls, XF_CLASS_IPV6);
    ovs_offload_ct other = c;
    other.dir[0].dst[15]++;
    EXPECT_EQ(conns_.find(other, 0), 0u);
}

TEST_F(ConnTables, Icmp) {
    ovs_offload_ct c = connection(1, 1, IPPROTO_ICMP);
    c.dir[0].tp_src = c.dir[1].tp_src = htons(0x4711);
    c.dir[0].tp_dst = 8;
    c.dir[1].tp_dst = 0;
    conns_.put(c);
    ASSERT_TRUE(conns_.finds_both(c));
    EXPECT_EQ(conn(c, 0).ports, uint32_t{htons(0x4711)} | 8u << 16);
    EXPECT_EQ(conn(c, 1).ports, uint32_t{htons(0x4711)});
}

TEST_F(ConnTables, Translation) {
    ovs_offload_ct c = translated(1, 2);
    c.dir[1].tp_dst = htons(2000);
    conns_.put(c);
    ASSERT_TRUE(conns_.finds_both(c));
    const xf_conn &original = conn(c, 0), &reply = conn(c, 1);
    EXPECT_EQ(original.nat_state, OVS_CS_F_SRC_NAT);
    EXPECT_EQ(reply.nat_state, OVS_CS_F_DST_NAT);
    // "From, to" in one word.
    const auto word = [](uint32_t src, uint32_t dst) {
        return htonl(src) | uint64_t{htonl(dst)} << 32;
    };
    EXPECT_EQ(original.addr[0], word(0x0a000001, 0x0a010001));
    EXPECT_EQ(original.to_addr[0], word(0xc0000202, 0x0a010001));
    EXPECT_EQ(original.to_ports, htons(2000) | uint32_t{htons(80)} << 16);
    EXPECT_EQ(reply.addr[0], word(0x0a010001, 0xc0000202));
    EXPECT_EQ(reply.to_addr[0], word(0x0a010001, 0x0a000001));
    EXPECT_EQ(reply.to_ports, htons(80) | uint32_t{htons(1000)} << 16);
}

// From a port of a host to the same one.
TEST_F(ConnTables, OwnReply) {
    ovs_offload_ct c = connection(1);
    c.dir[0].tp_src = c.dir[0].tp_dst;
    std::memcpy(c.dir[0].src, c.dir[0].dst, sizeof c.dir[0].src);
    c.dir[1] = c.dir[0];
    c.dir[1].state = kAnswer;
    const uint64_t handle = conns_.put(c);
    ASSERT_NE(conns_.find(c, 0), 0u);
    EXPECT_EQ(conns_.find(c, 0) % 2, 0u) << "not the original direction";
    EXPECT_EQ(conns_.find(c, 1), conns_.find(c, 0));
    EXPECT_EQ(conns_.entries().n, 1u);
    EXPECT_EQ(conns_.put(c, handle), handle);
    conns_.table.del(handle);
    EXPECT_TRUE(conns_.finds_none(c));
    EXPECT_EQ(conns_.entries(), Conns::Entries());
    conns_.reclaim();
    fill_up();
}

// -- Changes ----------------------------------------------------------------

TEST_F(ConnTables, Changes) {
    ovs_offload_ct c = connection(1);
    const uint64_t handle = conns_.put(c);
    const uint32_t first[] = {conn(c, 0).change, conn(c, 1).change};
    EXPECT_EQ(first[0] % 2, 0u);
    EXPECT_EQ(first[1] % 2, 0u);
    c.mark = 5;
    c.label[8] = 6;  // The upper half alone.
    c.timeout_ms = 30'000;
    c.expires_ms = 77;
    c.dir[0].state = 0;
    c.dir[1].nat_state = OVS_CS_F_DST_NAT;
    EXPECT_EQ(conns_.put(c, handle), handle);
    for (int d = 0; d < 2; d++) {
        EXPECT_EQ(conn(c, d).change, first[d] + 2);
        EXPECT_EQ(conn(c, d).mark, 5u);
        EXPECT_EQ(std::memcmp(conn(c, d).label, c.label, sizeof c.label), 0);
        EXPECT_EQ(conn(c, d).timeout_ms, 30'000u);
        EXPECT_EQ(use(c, d).expires_ms, 77u);
        EXPECT_EQ(conn(c, d).has_label, 1);
    }
    EXPECT_EQ(conn(c, 0).state, 0);
    EXPECT_EQ(conn(c, 1).state, kAnswer);
    EXPECT_EQ(conn(c, 1).nat_state, OVS_CS_F_DST_NAT);
    EXPECT_EQ(conns_.table.figures().n, 1u);
}

// What the program holds back until OVS has seen it.
TEST_F(ConnTables, ClosingUntilPut) {
    const auto c = connection(1);
    const uint64_t handle = conns_.put(c);
    use(c, 0).closing = use(c, 1).closing = 1;
    conns_.put(c, handle);
    EXPECT_EQ(use(c, 0).closing, 0u);
    EXPECT_EQ(use(c, 1).closing, 0u);
}

TEST_F(ConnTables, Use) {
    const auto c = connection(1);
    const uint64_t handle = conns_.put(c);
    ovs_offload_ct_use u{};
    EXPECT_FALSE(conns_.table.use(handle, &u)) << "not used yet";
    conns_.execute(c, 1, 1000);
    EXPECT_TRUE(conns_.table.use(handle, &u));
    EXPECT_EQ(u.used_ms, 1000);
    EXPECT_EQ(u.expires_ms, 6000);
    conns_.execute(c, 0, 2000);
    conns_.execute(c, 1, 1500);
    EXPECT_TRUE(conns_.table.use(handle, &u));
    EXPECT_EQ(u.used_ms, 2000) << "the later of both directions";
    EXPECT_EQ(u.expires_ms, 7000);
    conns_.put(c, handle);
    EXPECT_TRUE(conns_.table.use(handle, &u)) << "OVS has seen one, too";
    EXPECT_EQ(u.used_ms, 2000);
    conns_.table.del(handle);
    EXPECT_FALSE(conns_.table.use(handle, &u));
    for (const uint64_t none : {uint64_t{0}, handle + 1, handle + kRoom,
                                uint64_t{UINT32_MAX}, UINT64_MAX}) {
        EXPECT_FALSE(conns_.table.use(none, &u)) << none;
    }
}

// A slot's next connection has not been used.
TEST_F(ConnTables, UseOfTheNextOne) {
    const auto c = connection(1);
    const uint64_t old = conns_.put(c);
    conns_.execute(c, 0, 1000);
    use(c, 0).closing = 1;
    use(c, 0).max_win = 0xffff;
    conns_.table.del(old);
    conns_.reclaim();
    const uint64_t handle = conns_.put(c);
    ovs_offload_ct_use u{};
    EXPECT_FALSE(conns_.table.use(handle, &u));
    EXPECT_FALSE(conns_.table.use(old, &u));
    EXPECT_EQ(use(c, 0).closing, 0u);
    EXPECT_EQ(use(c, 0).max_win, 0u);
}

// -- TCP's windows ----------------------------------------------------------

struct Windows {
    uint32_t seq_end, ack_win, max_win;
    bool operator==(const Windows &) const = default;
};

// Of what the program has, and what OVS puts, while packets are executed (in
// one direction at least) or not: what is there then.
TEST_F(ConnTables, Windows) {
    const struct {
        const char *what;
        Windows had, put, executable, not_executable;
    } rows[] = {
        {"the same", {10, 20, 5}, {10, 20, 5}, {10, 20, 5}, {10, 20, 5}},
        {"OVS is ahead", {10, 20, 5}, {11, 22, 6}, {11, 22, 6}, {11, 22, 6}},
        {"XDP is ahead", {10, 20, 5}, {9, 19, 4}, {10, 20, 5}, {9, 19, 4}},
        {"each for itself",
         {10, 20, 5},
         {12, 19, 5},
         {12, 20, 5},
         {12, 19, 5}},
        {"OVS is around",
         {UINT32_MAX, UINT32_MAX, 5},
         {1, 2, 5},
         {1, 2, 5},
         {1, 2, 5}},
        {"XDP is around",
         {1, 2, 5},
         {UINT32_MAX, UINT32_MAX, 5},
         {1, 2, 5},
         {UINT32_MAX, UINT32_MAX, 5}},
        {"the largest window",
         {0, 0, 0},
         {0, 0, 0xffff},
         {0, 0, 0xffff},
         {0, 0, 0xffff}},
    };
    const auto check = [&](const auto &row, uint16_t state0, uint16_t state1,
                           const Windows &expected) {
        ovs_offload_ct c = connection(1);
        c.dir[0].state = state0;
        c.dir[1].state = state1;
        const uint64_t handle = conns_.put(c);
        for (int d = 0; d < 2; d++) {
            use(c, d).seq_end = row.had.seq_end;
            use(c, d).ack_win = row.had.ack_win;
            use(c, d).max_win = row.had.max_win;
            c.dir[d].seq_end = row.put.seq_end;
            c.dir[d].ack_win = row.put.ack_win;
            c.dir[d].max_win = row.put.max_win;
        }
        conns_.put(c, handle);
        ovs_offload_ct_use u{};
        conns_.execute(c, 0, 1);
        EXPECT_TRUE(conns_.table.use(handle, &u));
        for (const auto &dir : u.dir) {
            EXPECT_EQ((Windows{dir.seq_end, dir.ack_win, dir.max_win}),
                      expected)
                << row.what << " " << state0 << " " << state1;
        }
        conns_.table.del(handle);
        conns_.reclaim();
    };
    for (const auto &row : rows) {
        check(row, kEstablished, kAnswer, row.executable);
        check(row, kEstablished, 0, row.executable);
        check(row, 0, kAnswer, row.executable);
        check(row, 0, 0, row.not_executable);
    }
}

// The state that was there decides: packets were executed until now, or are
// from now on.
TEST_F(ConnTables, WindowsWhenTheStateChanges) {
    ovs_offload_ct c = connection(1);
    c.dir[0].seq_end = 10;
    const uint64_t handle = conns_.put(c);
    EXPECT_EQ(use(c, 0).seq_end, 10u);
    c.dir[0].state = c.dir[1].state = 0;
    c.dir[0].seq_end = 9;
    conns_.put(c, handle);
    EXPECT_EQ(use(c, 0).seq_end, 10u) << "was executable";
    c.dir[0].state = kEstablished;
    c.dir[0].seq_end = 8;
    conns_.put(c, handle);
    EXPECT_EQ(use(c, 0).seq_end, 8u) << "was not";
}

TEST_F(ConnTables, OthersHaveNoWindows) {
    ovs_offload_ct c = connection(1, 1, IPPROTO_UDP);
    c.dir[0].seq_end = c.dir[0].ack_win = c.dir[0].max_win = 10;
    conns_.put(c, conns_.put(c));
    EXPECT_EQ(use(c, 0).seq_end, 0u);
    EXPECT_EQ(use(c, 0).ack_win, 0u);
    EXPECT_EQ(use(c, 0).max_win, 0u);
}

// -- Ends -------------------------------------------------------------------

TEST_F(ConnTables, Deleted) {
    const auto c = connection(1), other = connection(2);
    const uint64_t handle = conns_.put(c), stays = conns_.put(other);
    const uint32_t slot = conns_.find(c, 0);
    conns_.table.del(handle);
    EXPECT_TRUE(conns_.finds_none(c));
    EXPECT_EQ(conns_.conns[slot].state, 0) << "of who has found it before";
    EXPECT_EQ(conns_.conns[slot + 1].state, 0);
    EXPECT_EQ(conns_.put(c, handle), 0u) << "put after del";
    EXPECT_TRUE(conns_.finds_none(c));
    // Twice, and of what never was.
    for (const uint64_t none : {handle, uint64_t{0}, handle + kRoom,
                                uint64_t{UINT32_MAX}, UINT64_MAX}) {
        conns_.table.del(none);
    }
    EXPECT_EQ(conns_.table.figures().n, 1u);
    EXPECT_TRUE(conns_.finds_both(other));
    conns_.table.del(stays);
    EXPECT_EQ(conns_.table.n_retired(), 2u) << "each slot once";
}

// Also after the slot has got another connection.
TEST_F(ConnTables, OldHandles) {
    const auto c = connection(1), next = connection(2);
    const uint64_t old = conns_.put(c);
    const uint32_t index = conns_.find(c, 0);
    conns_.table.del(old);
    conns_.reclaim();
    const uint64_t handle = conns_.put(next);
    EXPECT_EQ(conns_.find(next, 0), index);
    EXPECT_NE(handle, old);
    conns_.table.del(old);
    EXPECT_EQ(conns_.put(c, old), 0u);
    EXPECT_TRUE(conns_.finds_both(next));
    EXPECT_TRUE(conns_.finds_none(c));
}

// A slot is used again after a grace period, not before.
TEST_F(ConnTables, Reclamation) {
    fill_up();
    const auto c = connection(1);
    const uint64_t unplaced = conns_.put(c);
    EXPECT_TRUE(conns_.finds_none(c));
    const auto all = conns_.table.list(-1, kRoom);
    ASSERT_EQ(all.size(), kRoom);
    // The first of those that fill_up() has made.
    const auto first = connection(100);
    const uint32_t index = conns_.find(first, 0);
    conns_.table.del(uint64_t{1} << 32 | index / 2);
    ASSERT_TRUE(conns_.finds_none(first));

    EXPECT_EQ(conns_.put(c, unplaced), unplaced) << "retired";
    EXPECT_EQ(conns_.table.n_retired(), 1u);
    EXPECT_EQ(conns_.table.begin_grace(), 1u);
    EXPECT_EQ(conns_.table.n_retired(), 0u);
    EXPECT_EQ(conns_.put(c, unplaced), unplaced) << "waits";
    EXPECT_EQ(conns_.table.begin_grace(), 1u) << "it could not be waited for";
    EXPECT_EQ(conns_.put(c, unplaced), unplaced) << "waits again";
    conns_.table.end_grace();
    EXPECT_NE(conns_.put(c, unplaced), unplaced);
    EXPECT_EQ(conns_.find(c, 0), index);
}

// -- No room ----------------------------------------------------------------

TEST_F(ConnTables, Full) {
    fill_up();
    ovs_offload_ct c = connection(1, 5);
    const uint64_t unplaced = conns_.put(c);
    ASSERT_NE(unplaced, 0u);
    EXPECT_TRUE(conns_.finds_none(c));
    EXPECT_TRUE(conns_.is_incomplete(5));
    EXPECT_FALSE(conns_.is_incomplete(1)) << "all of its connections are here";
    const auto figures = conns_.table.figures();
    EXPECT_EQ(figures.n, kRoom);
    EXPECT_EQ(figures.max, kRoom);
    EXPECT_EQ(figures.n_unplaced, 1u);
    EXPECT_EQ(figures.n_zones_incomplete, 1u);
    ovs_offload_ct_use u{};
    EXPECT_FALSE(conns_.table.use(unplaced, &u));
    EXPECT_EQ(conns_.put(c, unplaced), unplaced) << "still no room";

    conns_.table.close();  // All the others.
    ASSERT_EQ(conns_.table.open(kStrict), 0);
    EXPECT_EQ(conns_.put(c, unplaced), 0u) << "put after close";
}

// OVS goes on with a connection of which there is no memory to take note, so
// the program must not say of any packet that there is none.
TEST_F(ConnTables, FullWithoutMemory) {
    size_t n_failed = 0;
    for (int error = ENOMEM; error; n_failed++) {
        conns_.table.close();
        conns_.reclaim();
        ASSERT_EQ(conns_.table.open(kStrict), 0);
        fill_up();
        uint64_t handle = 0;
        {
            FailAllocation fail(n_failed + 1);
            error = conns_.table.put(connection(1, 10 + n_failed), &handle);
        }
        const bool says_new = !(conns_.settings[0].ct & XF_CT_EXPECTS);
        EXPECT_EQ(error, says_new ? 0 : ENOMEM);
        conns_.table.set(kStrict);
        EXPECT_EQ(says_new, !(conns_.settings[0].ct & XF_CT_EXPECTS))
            << "until it is closed";
        conns_.table.del(handle);
    }
    EXPECT_GT(n_failed, 2u);
}

TEST_F(ConnTables, RoomComes) {
    const auto first = connection(99);
    const uint64_t handle = conns_.put(first);
    fill_up();
    ovs_offload_ct c = connection(1, 5);
    const uint64_t unplaced = conns_.put(c);
    conns_.table.del(handle);
    conns_.reclaim();
    EXPECT_TRUE(conns_.is_incomplete(5)) << "until OVS puts it again";
    c.mark = 8;
    const uint64_t placed = conns_.put(c, unplaced);
    EXPECT_NE(placed, unplaced);
    ASSERT_TRUE(conns_.finds_both(c));
    EXPECT_EQ(conn(c, 0).mark, 8u);
    EXPECT_FALSE(conns_.is_incomplete(5));
    EXPECT_EQ(conns_.table.figures().n_unplaced, 0u);
    EXPECT_EQ(conns_.put(c, unplaced), 0u) << "its former name";
    conns_.table.del(unplaced);
    EXPECT_TRUE(conns_.finds_both(c));
    EXPECT_EQ(conns_.put(c, placed), placed);
}

TEST_F(ConnTables, UnplacedAreDeleted) {
    fill_up();
    const auto c = connection(1, 5);
    const uint64_t unplaced = conns_.put(c);
    conns_.table.del(unplaced);
    EXPECT_FALSE(conns_.is_incomplete(5));
    conns_.table.del(unplaced);
    EXPECT_FALSE(conns_.is_incomplete(5));
    EXPECT_EQ(conns_.put(c, unplaced), 0u) << "put after del";
    EXPECT_FALSE(conns_.is_incomplete(5));
    EXPECT_EQ(conns_.table.n_retired(), 0u);
    EXPECT_NE(conns_.put(c), unplaced) << "a name is not given twice";
}

// Without memory to note one, nothing of it is left.
TEST_F(ConnTables, UnplacedWithoutMemory) {
    fill_up();
    const auto c = connection(1, 5);
    size_t nth = 1;
    for (int error = ENOMEM; error; nth++) {
        ASSERT_LT(nth, 20u);
        uint64_t handle = 0;
        FailAllocation fail(nth);
        error = conns_.table.put(c, &handle);
        if (error) {
            EXPECT_EQ(error, ENOMEM);
            EXPECT_FALSE(conns_.is_incomplete(5));
        } else {
            EXPECT_TRUE(conns_.is_incomplete(5));
            conns_.table.del(handle);
        }
    }
    EXPECT_GT(nth, 2u) << "nothing has failed";
    EXPECT_FALSE(conns_.is_incomplete(5));
}

// As long as one connection of the zone is not here.
TEST_F(ConnTables, Zones) {
    fill_up();
    const uint16_t zones[] = {0, 1, 63, 64, 127, 65535};
    std::vector<uint64_t> handles;
    for (const uint16_t zone : zones) {
        for (uint32_t id : {1, 2}) {
            handles.push_back(conns_.put(connection(id, zone)));
            EXPECT_TRUE(conns_.is_incomplete(zone)) << zone;
        }
    }
    EXPECT_FALSE(conns_.is_incomplete(2));
    EXPECT_FALSE(conns_.is_incomplete(62));
    EXPECT_FALSE(conns_.is_incomplete(65534));
    EXPECT_EQ(conns_.table.figures().n_zones_incomplete, std::size(zones));
    EXPECT_EQ(std::ranges::count(conns_.zones[0].incomplete, 0u),
              XF_ZONE_WORDS - 3);
    for (size_t i = 0; i < handles.size(); i++) {
        conns_.table.del(handles[i]);
        EXPECT_EQ(conns_.is_incomplete(zones[i / 2]), i % 2 == 0) << i;
    }
    EXPECT_EQ(std::ranges::count(conns_.zones[0].incomplete, 0u),
              XF_ZONE_WORDS);
}

// One bucket has place for seven connections and a direction.
TEST(ConnTable, FullBucket) {
    Conns conns({.slots = 16, .buckets = 1});
    ASSERT_EQ(conns.table.open(kStrict), 0);
    for (uint32_t id = 0; id < XF_BUCKET_ENTRIES / 2; id++) {
        conns.put(connection(id));
        EXPECT_TRUE(conns.finds_both(connection(id)));
    }
    const Conns::Entries before = conns.entries();
    const uint64_t unplaced = conns.put(connection(99));
    EXPECT_NE(unplaced, 0u);
    EXPECT_EQ(conns.entries(), before) << "half a connection is none";
    EXPECT_TRUE(conns.finds_none(connection(99)));
    EXPECT_TRUE(conns.is_incomplete(1));
    EXPECT_EQ(conns.table.figures().n, size_t{XF_BUCKET_ENTRIES / 2});
    EXPECT_EQ(conns.put(connection(99), unplaced), unplaced);
}

TEST(ConnTable, SecondBuckets) {
    Conns conns({.slots = 128, .buckets = 8, .seed = 3});
    ASSERT_EQ(conns.table.open(kStrict), 0);
    std::map<uint32_t, uint64_t> handles;
    for (uint32_t id = 0; conns.table.figures().n_unplaced == 0; id++) {
        ASSERT_LT(id, 128u);
        handles[id] = conns.put(connection(id));
    }
    EXPECT_GT(conns.entries().elsewhere, 0u);
    while (!handles.empty()) {
        for (const auto &[id, handle] : handles) {
            const auto c = connection(id);
            EXPECT_EQ(conns.finds_both(c), !(handle >> 63)) << id;
        }
        const Conns::Entries e = conns.entries();
        EXPECT_EQ(e.n, 2 * conns.table.figures().n);
        EXPECT_EQ(e.overflow, e.elsewhere);
        conns.table.del(handles.begin()->second);
        handles.erase(handles.begin());
    }
    EXPECT_EQ(conns.entries(), Conns::Entries());
}

// -- Successors -------------------------------------------------------------

// OVS may keep an expired connection beside a new one of the same tuple.
TEST_F(ConnTables, Successor) {
    ovs_offload_ct c = connection(1);
    c.mark = 1;
    const uint64_t expired = conns_.put(c);
    c.mark = 2;
    const uint64_t handle = conns_.put(c);
    EXPECT_NE(handle, expired);
    ASSERT_TRUE(conns_.finds_both(c));
    EXPECT_EQ(conn(c, 0).mark, 2u);
    EXPECT_EQ(conn(c, 1).mark, 2u);
    conns_.table.del(expired);
    ASSERT_TRUE(conns_.finds_both(c));
    EXPECT_EQ(conn(c, 0).mark, 2u);
    EXPECT_EQ(conns_.entries().n, 2u);
    conns_.table.del(handle);
    EXPECT_TRUE(conns_.finds_none(c));
    EXPECT_EQ(conns_.entries(), Conns::Entries());
}

// Its answers come by another tuple: they are still found, and left to OVS.
TEST_F(ConnTables, SuccessorWithAnotherTranslation) {
    const auto old = translated(1, 2), c = translated(1, 3);
    const uint64_t expired = conns_.put(old);
    conns_.put(c);
    ASSERT_TRUE(conns_.finds_both(c));
    ASSERT_NE(conns_.find(old, 1), 0u);
    EXPECT_NE(conns_.find(old, 1), conns_.find(c, 1));
    EXPECT_EQ(conn(old, 1).state, 0);
    conns_.table.del(expired);
    EXPECT_EQ(conns_.find(old, 1), 0u);
    EXPECT_TRUE(conns_.finds_both(c));
}

// The answers of the new one are as packets of the old one were.
TEST_F(ConnTables, SuccessorTheOtherWay) {
    const auto old = connection(1);
    ovs_offload_ct c = old;
    std::swap(c.dir[0], c.dir[1]);
    c.dir[0].state = kEstablished;
    c.dir[1].state = kAnswer;
    const uint64_t expired = conns_.put(old);
    conns_.put(c);
    ASSERT_TRUE(conns_.finds_both(c));
    conns_.table.del(expired);
    EXPECT_TRUE(conns_.finds_both(c));
}

// The zone says that not all are here, and the old one must not be found.
TEST_F(ConnTables, SuccessorWithoutRoom) {
    const auto c = connection(1);
    const uint64_t expired = conns_.put(c);
    fill_up();
    const uint64_t unplaced = conns_.put(c);
    EXPECT_TRUE(conns_.finds_none(c));
    EXPECT_TRUE(conns_.is_incomplete(1));
    conns_.table.del(expired);
    conns_.reclaim();
    EXPECT_NE(conns_.put(c, unplaced), unplaced);
    EXPECT_TRUE(conns_.finds_both(c));
}

// -- For who looks ----------------------------------------------------------

TEST_F(ConnTables, List) {
    for (uint32_t id = 1; id <= 5; id++) {
        ovs_offload_ct c = connection(id, id % 2);
        c.mark = id;
        const uint64_t handle = conns_.put(c);
        conns_.execute(c, 1, 100 + id);
        if (id == 3) {
            conns_.table.del(handle);
        }
    }
    const auto marks = [&](int zone, size_t max) {
        std::vector<uint32_t> all;
        for (const auto &shown : conns_.table.list(zone, max)) {
            EXPECT_EQ(shown.dir[0].mark, shown.dir[1].mark);
            EXPECT_EQ(shown.use[1].used_ms, 100 + shown.dir[0].mark);
            all.push_back(shown.dir[0].mark);
        }
        return all;
    };
    using Marks = std::vector<uint32_t>;
    EXPECT_EQ(marks(-1, 9), (Marks{1, 2, 4, 5}));
    EXPECT_EQ(marks(1, 9), (Marks{1, 5}));
    EXPECT_EQ(marks(0, 9), (Marks{2, 4}));
    EXPECT_EQ(marks(7, 9), Marks());
    EXPECT_EQ(marks(-1, 2), (Marks{1, 2}));
    EXPECT_EQ(marks(-1, 0), Marks());
}

// -- At random --------------------------------------------------------------

// A model beside it: which connections there are, and under which names.
class Story {
public:
    explicit Story(uint64_t seed) : random_(seed) {
        EXPECT_EQ(conns_.table.open(kStrict), 0);
    }

    void step() {
        const uint32_t id = below(24);
        const auto it = handles_.find(id);
        switch (below(5)) {
            case 0:
                conns_.reclaim();
                break;
            case 1:
                if (it != handles_.end()) {
                    conns_.table.del(it->second);
                    old_.push_back(it->second);
                    handles_.erase(it);
                }
                break;
            default:
                put(id, it == handles_.end() ? 0 : it->second);
        }
        check();
    }

private:
    uint32_t below(uint32_t n) { return random_() % n; }
    static ovs_offload_ct of(uint32_t id) { return connection(id, id % 3); }

    void put(uint32_t id, uint64_t handle) {
        const uint64_t was = handle;
        ASSERT_EQ(conns_.table.put(of(id), &handle), 0);
        ASSERT_TRUE(!was || handle == was || was >> 63);
        ASSERT_EQ(std::ranges::count(old_, handle), 0);
        if (was && was != handle) {
            old_.push_back(was);
        }
        handles_[id] = handle;
    }

    void check() {
        size_t n_placed = 0;
        std::map<uint16_t, bool> incomplete;
        for (uint32_t id = 0; id < 24; id++) {
            const auto it = handles_.find(id);
            const bool placed = it != handles_.end() && !(it->second >> 63);
            n_placed += placed;
            incomplete[of(id).zone] |= it != handles_.end() && !placed;
            ASSERT_EQ(conns_.finds_both(of(id)), placed) << id;
            ASSERT_EQ(conns_.finds_none(of(id)), !placed) << id;
        }
        for (const auto &[zone, is] : incomplete) {
            ASSERT_EQ(conns_.is_incomplete(zone), is) << zone;
        }
        const auto figures = conns_.table.figures();
        ASSERT_EQ(figures.n, n_placed);
        ASSERT_EQ(figures.n_unplaced, handles_.size() - n_placed);
        const Conns::Entries e = conns_.entries();
        ASSERT_EQ(e.n, 2 * n_placed);
        ASSERT_EQ(e.overflow, e.elsewhere);
        for (const uint64_t old : old_) {
            uint64_t handle = old;
            ASSERT_EQ(conns_.table.put(of(0), &handle), ENOENT);
            conns_.table.del(old);
        }
    }

    std::mt19937_64 random_;
    Conns conns_{{.slots = 16, .buckets = 2}};
    std::map<uint32_t, uint64_t> handles_;
    std::vector<uint64_t> old_;
};

TEST(ConnTable, Random) {
    Story story(test_seed());
    for (int i = 0; i < 2000 && !testing::Test::HasFatalFailure(); i++) {
        story.step();
    }
}

}  // namespace
}  // namespace flowxlate::unit
