// SPDX-License-Identifier: Apache-2.0
// Connections of an earlier process: which of them come back and why others do
// not, what is followed until the takeover, and what the old program lets go
// of.
#include "flowxlate/tables/old_conns.h"
#include "bpf/abi/conn.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <ctime>
#include <functional>
#include <random>

#include "tests/unit/conns.h"
#include "tests/unit/tables.h"

namespace flowxlate::unit {
namespace {

using LeftOut = OldConns::LeftOut;

constexpr ovs_offload_ct_settings kStrict{sizeof(ovs_offload_ct_settings),
                                          true, false};
constexpr uint8_t kClosed = 1, kSynSent = 3, kOpen = 5, kClosing = 8,
                  kFinWait2 = 10, kTimeWait = 11;

uint64_t now_ms() {
    timespec t{};
    clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<uint64_t>(t.tv_sec) * 1000 + t.tv_nsec / 1'000'000;
}

// As after a packet now: the rows of a table are older.
ovs_offload_ct used(ovs_offload_ct c) {
    c.expires_ms = static_cast<int64_t>(now_ms() + c.timeout_ms);
    return c;
}

ovs_offload_ct with_states(ovs_offload_ct c, uint8_t original, uint8_t reply,
                           uint16_t first, uint16_t second) {
    c = used(c);
    c.dir[0].l4_state = original;
    c.dir[1].l4_state = reply;
    c.dir[0].state = first;
    c.dir[1].state = second;
    return c;
}

ovs_offload_ct tcp(uint8_t original = kOpen, uint8_t reply = kOpen) {
    const bool is_steady =
        (original == kOpen && (reply == kOpen || reply == kFinWait2))
        || (original == kFinWait2 && reply == kOpen);
    auto c =
        with_states(connection(1), original, reply,
                    is_steady ? kEstablished : 0, is_steady ? kAnswer : 0);
    c.mark = 0x1234;
    c.label[3] = 7;
    c.dir[0].seq_end = 1000;
    c.dir[0].ack_win = 70'000;
    c.dir[0].max_win = 500;
    c.dir[0].wscale = 7;
    c.dir[0].l4_wscale = 0x87;
    c.dir[1].seq_end = 0xfffffff0;
    c.dir[1].max_win = 600;
    return c;
}

ovs_offload_ct udp(uint8_t seen) {
    constexpr uint16_t kNew = OVS_CS_F_TRACKED | OVS_CS_F_NEW;
    return with_states(connection(2, 1, IPPROTO_UDP), seen, seen,
                       seen == 1   ? 0
                       : seen == 2 ? kNew
                                   : kEstablished,
                       seen == 3 ? kAnswer : 0);
}

ovs_offload_ct echo(uint8_t seen, bool v6 = false) {
    const int proto = v6 ? int{IPPROTO_ICMPV6} : int{IPPROTO_ICMP};
    auto c = connection(3, 1, static_cast<uint8_t>(proto));
    c.l3 = v6 ? 6 : 4;
    c.dir[0].tp_src = c.dir[1].tp_src = htons(99);
    c.dir[0].tp_dst = v6 ? 128 : 8;
    c.dir[1].tp_dst = v6 ? 129 : 0;
    return with_states(
        c, seen, seen,
        seen == 1 ? OVS_CS_F_TRACKED | OVS_CS_F_NEW : kEstablished,
        seen == 2 ? kAnswer : 0);
}

// To 10.1.0.1, which answers from 10.2.0.1, port 8080.
ovs_offload_ct balanced() {
    auto c = tcp();
    const uint32_t backend = htonl(0x0a020001);
    std::memcpy(c.dir[1].src, &backend, sizeof backend);
    c.dir[1].tp_src = htons(8080);
    c.dir[0].nat_state = OVS_CS_F_DST_NAT;
    c.dir[1].nat_state = OVS_CS_F_SRC_NAT;
    return c;
}

ovs_offload_ct masqueraded(bool v6 = false) {
    auto c =
        with_states(translated(4, 9), kOpen, kOpen, kEstablished, kAnswer);
    c.dir[1].tp_dst = htons(40'000);
    if (v6) {
        c.l3 = 6;
        c.dir[0].src[15] = 1;
        c.dir[1].dst[15] = 2;
    }
    return c;
}

// What OVS and the plugin of an earlier process have left.
class Earlier : public Conns {
public:
    explicit Earlier(uint32_t id = 1, const Sizes &sizes = {.seed = 77})
        : Conns(sizes), id_(id) {
        EXPECT_EQ(table.open(kStrict), 0);
    }
    OldConns old() { return OldConns(id_, {conns, uses, zones}); }
    // The slot; 0 = it does not find it.
    uint32_t slot_of(const ovs_offload_ct &c) { return find(c, 0) / 2; }
    LeftOut read(uint32_t slot, ovs_offload_ct *out) {
        return old().read(slot, now_ms(), out);
    }

private:
    const uint32_t id_;
};

// -- Which come back --------------------------------------------------------

struct Row {
    const char *name;
    ovs_offload_ct c;
};

const Row kComeBack[] = {
    {"TCP", tcp()},
    {"TCP, half closed", tcp(kFinWait2, kOpen)},
    {"TCP, half closed by the other side", tcp(kOpen, kFinWait2)},
    {"TCP, not answered yet", tcp(kSynSent, kClosed)},
    {"TCP, closing", tcp(kOpen, kClosing)},
    {"TCP, closed", tcp(kTimeWait, kTimeWait)},
    {"UDP, one packet", udp(1)},
    {"UDP, no answer", udp(2)},
    {"UDP", udp(3)},
    {"echo, no answer", echo(1)},
    {"echo", echo(2)},
    {"IPv6 echo", echo(2, true)},
    {"destination translated", balanced()},
    {"source translated", masqueraded()},
    {"IPv6, source translated", masqueraded(true)},
};

TEST(OldConns, ComeBackAsTheyWere) {
    for (const Row &row : kComeBack) {
        SCOPED_TRACE(row.name);
        const ovs_offload_ct was = used(row.c);
        Earlier earlier;
        ASSERT_NE(earlier.put(was), 0u);
        ovs_offload_ct c;
        ASSERT_EQ(earlier.read(earlier.slot_of(was), &c), LeftOut::kNot);
        EXPECT_EQ(std::memcmp(&c, &was, sizeof c), 0);
        EXPECT_TRUE(earlier.old().does_as(earlier.slot_of(was), c));
    }
}

// What is put into a record that is right, and what becomes of it.
struct Corrupt {
    const char *name;
    std::function<void(xf_conn *, xf_conn_use *)> corrupt;
    LeftOut expected = LeftOut::kImplausible;
};

const Corrupt kCorrupt[] = {
    {"nobody there",
     [](xf_conn *c, xf_conn_use *) { c[0].live = c[1].live = 0; },
     LeftOut::kUnused},
    {"hidden", [](xf_conn *c, xf_conn_use *) { c[0].live = 0; },
     LeftOut::kHidden},
    {"answers hidden", [](xf_conn *c, xf_conn_use *) { c[1].live = 0; },
     LeftOut::kHidden},
    {"half written", [](xf_conn *c, xf_conn_use *) { c[1].change++; },
     LeftOut::kBeingWritten},
    {"helper, or another time-out policy",
     [](xf_conn *c, xf_conn_use *) { c[0].l4_state = c[1].l4_state = 0; },
     LeftOut::kUntold},
    {"of one side nothing is told",
     [](xf_conn *c, xf_conn_use *) { c[1].l4_state = 0; }, LeftOut::kUntold},
    {"expired",
     [](xf_conn *, xf_conn_use *u) {
         u[0].expires_ms = u[1].expires_ms = now_ms() - 1;
     },
     LeftOut::kExpired},
    {"expired after its last use",
     [](xf_conn *, xf_conn_use *u) {
         u[0].expires_ms = u[1].expires_ms = 1;
         u[1].used_ms = now_ms() - 5001;
     },
     LeftOut::kExpired},
    {"expired by OVS",
     [](xf_conn *, xf_conn_use *u) { u[0].expires_ms = u[1].expires_ms = 0; },
     LeftOut::kExpired},
    {"expires later than after a packet now",
     [](xf_conn *, xf_conn_use *u) { u[1].expires_ms = now_ms() + 7000; }},
    {"used in the future",
     [](xf_conn *, xf_conn_use *u) { u[0].used_ms = now_ms() + 60'000; }},
    {"two time-outs", [](xf_conn *c, xf_conn_use *) { c[1].timeout_ms++; }},
    {"no class", [](xf_conn *c, xf_conn_use *) { c[0].cls = c[1].cls = 9; }},
    {"two classes",
     [](xf_conn *c, xf_conn_use *) { c[1].cls = XF_CLASS_IPV6; }},
    {"two zones", [](xf_conn *c, xf_conn_use *) { c[0].zone++; }},
    {"two protocols",
     [](xf_conn *c, xf_conn_use *) { c[0].proto = IPPROTO_UDP; }},
    {"SCTP", [](xf_conn *c,
                xf_conn_use *) { c[0].proto = c[1].proto = IPPROTO_SCTP; }},
    {"ICMP of IPv6 in IPv4",
     [](xf_conn *c, xf_conn_use *) {
         c[0].proto = c[1].proto = IPPROTO_ICMPV6;
     }},
    {"long IPv4 address", [](xf_conn *c, xf_conn_use *) { c[0].addr[3] = 1; }},
    {"port 0",
     [](xf_conn *c, xf_conn_use *) {
         c[0].ports &= 0xffff;
         c[1].to_ports &= 0xffff0000;
         c[1].ports &= 0xffff0000;
         c[0].to_ports &= 0xffff;
     }},
    {"another address",
     [](xf_conn *c, xf_conn_use *) { c[0].addr[0] ^= 1ULL << 40; }},
    {"translates elsewhere",
     [](xf_conn *c, xf_conn_use *) { c[0].to_addr[0] ^= 1; }},
    {"translates to another port",
     [](xf_conn *c, xf_conn_use *) { c[1].to_ports ^= 1; }},
    {"translated though it says it is not",
     [](xf_conn *c, xf_conn_use *) {
         c[1].addr[0] ^= 1;
         c[0].to_addr[0] ^= 1ULL << 32;
     }},
    {"translated one way",
     [](xf_conn *c, xf_conn_use *) { c[0].nat_state = OVS_CS_F_SRC_NAT; }},
    {"no translation that there is",
     [](xf_conn *c, xf_conn_use *) { c[0].nat_state = c[1].nat_state = 1; }},
    {"unknown state",
     [](xf_conn *c, xf_conn_use *) { c[0].l4_state = kTimeWait + 1; }},
    {"executed though it is closing",
     [](xf_conn *c, xf_conn_use *) { c[0].l4_state = kClosing; }},
    {"answers in the wrong direction",
     [](xf_conn *c, xf_conn_use *) { c[1].state = kEstablished; }},
    {"unknown ct_state",
     [](xf_conn *c, xf_conn_use *) { c[0].state |= 0x100; }},
    {"two marks", [](xf_conn *c, xf_conn_use *) { c[1].mark++; }},
    {"two labels", [](xf_conn *c, xf_conn_use *) { c[1].label[1]++; }},
    {"window too large",
     [](xf_conn *, xf_conn_use *u) { u[1].max_win = 0x10000; }},
    {"scale too large", [](xf_conn *c, xf_conn_use *) { c[0].wscale = 16; }},
    {"passed on for once, which is right",
     [](xf_conn *c, xf_conn_use *) { c[0].state = 0; }, LeftOut::kNot},
    {"OVS has not seen all of it, which is right",
     [](xf_conn *, xf_conn_use *u) { u[0].closing = u[1].closing = 1; },
     LeftOut::kNot},
};

TEST(OldConns, WhatMakesNoSenseIsLeftOut) {
    for (const Corrupt &row : kCorrupt) {
        SCOPED_TRACE(row.name);
        Earlier earlier;
        ASSERT_NE(earlier.put(tcp()), 0u);
        const uint32_t slot = earlier.slot_of(tcp());
        row.corrupt(&earlier.conns[2 * slot], &earlier.uses[2 * slot]);
        ovs_offload_ct c;
        EXPECT_EQ(earlier.read(slot, &c), row.expected)
            << OldConns::name(earlier.read(slot, &c));
    }
}

// Translation that changes the other side's address as well, and echoes that
// are none: their tuples fit together.
TEST(OldConns, TuplesThatCannotBe) {
    auto both = masqueraded();
    both.dir[1].src[0] ^= 1;
    auto no_answer = echo(2);
    no_answer.dir[1].tp_dst = 8;
    auto timestamp = echo(2);
    timestamp.dir[0].tp_dst = 13;
    timestamp.dir[1].tp_dst = 14;
    auto other_id = echo(2);
    other_id.dir[1].tp_src++;
    auto half = udp(3);
    half.dir[1].l4_state = 2;
    auto too_much = echo(2);
    too_much.dir[0].l4_state = too_much.dir[1].l4_state = 3;
    for (const auto &c :
         {both, no_answer, timestamp, other_id, half, too_much}) {
        Earlier earlier;
        ASSERT_NE(earlier.put(c), 0u);
        ovs_offload_ct read;
        EXPECT_EQ(earlier.read(1, &read), LeftOut::kImplausible);
    }
}

// Any bytes: nothing but what fits together comes back, and that is whole.
TEST(OldConns, RandomBytes) {
    const uint64_t seed = test_seed();
    SCOPED_TRACE("TEST_SEED=" + std::to_string(seed));
    std::mt19937_64 random(seed);
    size_t n_back = 0;
    for (int round = 0; round < 20'000; round++) {
        Earlier earlier;
        const Row &row = kComeBack[random() % std::size(kComeBack)];
        ASSERT_NE(earlier.put(used(row.c)), 0u);
        auto *bytes = reinterpret_cast<uint8_t *>(&earlier.conns[2]);
        auto *use_bytes = reinterpret_cast<uint8_t *>(&earlier.uses[2]);
        for (auto n = random() % 3; n > 0; n--) {
            bytes[random() % (2 * sizeof(xf_conn))] = random();
            use_bytes[random() % (2 * sizeof(xf_conn_use))] = random();
        }
        ovs_offload_ct c;
        if (earlier.read(1, &c) != LeftOut::kNot) {
            continue;
        }
        n_back++;
        Earlier again;
        ASSERT_NE(again.put(c), 0u);
        ovs_offload_ct same;
        ASSERT_EQ(again.read(1, &same), LeftOut::kNot);
        EXPECT_EQ(std::memcmp(&c, &same, sizeof c), 0);
    }
    EXPECT_GT(n_back, 1000u);
}

// -- The next process -------------------------------------------------------

class Restored : public testing::Test {
protected:
    // OVS asks for connections, and makes those that 'wants' says.
    void restore(const std::function<bool(const ovs_offload_ct &)> &wants) {
        ovs_offload_ct c{};
        c.size = sizeof c;
        while (now_.table.restore(&c)) {
            offered_.push_back(c);
            if (wants(c)) {
                handle_ = now_.put(c);
            }
        }
    }
    void restore_all() {
        restore([](auto &) { return true; });
    }
    void take_over(Earlier &earlier) {
        now_.table.inherit(earlier.old());
        restore_all();
    }
    ovs_offload_ct_use use() {
        ovs_offload_ct_use u{};
        u.size = sizeof u;
        EXPECT_TRUE(now_.table.use(handle_, &u));
        return u;
    }
    // The old program executes a packet of direction 'd'.
    static void execute(Earlier &earlier, const ovs_offload_ct &c, int d,
                        uint64_t when, uint32_t seq_end) {
        xf_conn_use &u = earlier.uses[earlier.find(c, d)];
        u.seq_end = seq_end;
        u.ack_win = seq_end + 1;
        u.max_win = 999;
        u.used_ms = when;
    }
    void SetUp() override { ASSERT_EQ(now_.table.open(kStrict), 0); }

    Earlier earlier_;
    Conns now_{{.seed = 5}};
    std::vector<ovs_offload_ct> offered_;
    uint64_t handle_ = 0;
};

TEST_F(Restored, AllAreFound) {
    for (const auto &c : {tcp(), udp(3), echo(2), masqueraded()}) {
        ASSERT_NE(earlier_.put(c), 0u);
    }
    auto expired = udp(3);
    expired.zone = 9;
    expired.expires_ms = 1;
    ASSERT_NE(earlier_.put(expired), 0u);
    take_over(earlier_);
    for (const auto &c : {tcp(), udp(3), echo(2), masqueraded()}) {
        EXPECT_TRUE(now_.finds_both(c));
    }
    EXPECT_TRUE(now_.finds_none(expired));
    const auto r = now_.table.take_restored();
    ASSERT_TRUE(r);
    EXPECT_EQ(r->n, 4u);
    EXPECT_EQ(r->n_refused, 0u);
    EXPECT_EQ(r->left_out[static_cast<size_t>(LeftOut::kExpired)], 1u);
    EXPECT_FALSE(now_.table.take_restored());
    EXPECT_FALSE(now_.table.restore(&offered_[0])) << "none is told of twice";
    EXPECT_EQ(earlier_.entries().n, 10u) << "the old program finds all";
}

TEST_F(Restored, NotBeforeOvsTells) {
    ASSERT_NE(earlier_.put(tcp()), 0u);
    Conns closed;
    closed.table.inherit(earlier_.old());
    ovs_offload_ct c{};
    EXPECT_FALSE(closed.table.restore(&c));
    EXPECT_EQ(closed.table.open(kStrict), 0);
    EXPECT_TRUE(closed.table.restore(&c));
}

TEST_F(Restored, OvsHasMadeOneItself) {
    ASSERT_NE(earlier_.put(tcp()), 0u);
    ASSERT_NE(earlier_.put(udp(3)), 0u);
    const uint64_t own = now_.put(tcp());
    now_.table.inherit(earlier_.old());
    restore([](auto &) { return false; });
    ASSERT_EQ(offered_.size(), 1u) << "of the other";
    EXPECT_EQ(offered_[0].proto, IPPROTO_UDP);
    EXPECT_EQ(now_.table.take_restored()->n_refused, 1u);
    EXPECT_FALSE(earlier_.uses[earlier_.find(tcp(), 0)].closing)
        << "it goes on as before";
    execute(earlier_, tcp(), 0, now_ms(), 2000);
    ovs_offload_ct_use u{};
    EXPECT_FALSE(now_.table.use(own, &u)) << "it is not the same one";
}

// The old program would take its packets for first ones.
TEST_F(Restored, OldProgramDoesNotKnowNewOnes) {
    ASSERT_NE(earlier_.put(tcp()), 0u);
    take_over(earlier_);
    EXPECT_FALSE(earlier_.is_incomplete(1)) << "of a restored one";
    ASSERT_NE(now_.put(connection(7, 3)), 0u);
    EXPECT_TRUE(earlier_.is_incomplete(3));
    EXPECT_FALSE(earlier_.is_incomplete(2));
    now_.table.forget_old();
    ASSERT_NE(now_.put(connection(7, 4)), 0u);
    EXPECT_FALSE(earlier_.is_incomplete(4));
}

TEST_F(Restored, NoRoom) {
    Conns small({.slots = 2});
    ASSERT_EQ(small.table.open(kStrict), 0);
    ASSERT_NE(earlier_.put(tcp()), 0u);
    ASSERT_NE(earlier_.put(udp(3)), 0u);
    small.table.inherit(earlier_.old());
    ovs_offload_ct c{};
    ASSERT_TRUE(small.table.restore(&c));
    ASSERT_NE(small.put(c), 0u);
    EXPECT_FALSE(small.table.restore(&c));
    EXPECT_EQ(small.table.take_restored()->n_no_room, 1u);
    EXPECT_EQ(small.table.figures().n_unplaced, 0u);
}

TEST_F(Restored, WhatTheOldProgramSeesCounts) {
    ASSERT_NE(earlier_.put(tcp()), 0u);
    take_over(earlier_);
    ovs_offload_ct_use u{};
    EXPECT_FALSE(now_.table.use(handle_, &u)) << "nothing yet";

    const uint64_t when = now_ms() - 10;
    execute(earlier_, tcp(), 0, when, 2000);
    u = use();
    EXPECT_EQ(u.used_ms, static_cast<int64_t>(when));
    EXPECT_EQ(u.expires_ms, static_cast<int64_t>(when + 5000));
    EXPECT_EQ(u.dir[0].seq_end, 2000u);
    EXPECT_EQ(u.dir[0].ack_win, 70'000u) << "of the restored one";
    EXPECT_EQ(u.dir[0].max_win, 999u);
    EXPECT_EQ(u.dir[1].seq_end, 0xfffffff0) << "of the restored one";

    // Sequence numbers wrap around.
    execute(earlier_, tcp(), 1, when + 1, 5);
    u = use();
    EXPECT_EQ(u.used_ms, static_cast<int64_t>(when + 1));
    EXPECT_EQ(u.dir[1].seq_end, 5u);

    // Time passes while the table is read.
    execute(earlier_, tcp(), 0, now_ms() + 100, 1500);
    EXPECT_EQ(use().dir[0].seq_end, 1500u);

    // What cannot be is not believed.
    execute(earlier_, tcp(), 0, now_ms() + 60'000, 90'000);
    EXPECT_EQ(use().dir[0].seq_end, 1000u);
    EXPECT_EQ(use().used_ms, static_cast<int64_t>(when + 1));
}

// When more than 2 GiB have passed since, what the old program has seen last
// looks like more than is now.
constexpr uint32_t kFar = 2000 + (1U << 31) + 1;

TEST_F(Restored, NotFollowedWhenOursSeesThePackets) {
    ASSERT_NE(earlier_.put(tcp()), 0u);
    take_over(earlier_);
    const uint64_t when = now_ms() - 1000;
    execute(earlier_, tcp(), 0, when, 2000);
    now_.table.follow_old();
    xf_conn_use &own = now_.uses[now_.find(tcp(), 0)];
    EXPECT_EQ(own.seq_end, 2000u);
    own.used_ms = when + 500;
    own.seq_end = kFar;
    now_.table.follow_old();
    EXPECT_EQ(own.seq_end, kFar);
    EXPECT_EQ(use().dir[0].seq_end, kFar);

    // Until it sees one again.
    execute(earlier_, tcp(), 0, when + 400, kFar + 1);
    EXPECT_EQ(use().dir[0].seq_end, kFar + 1);
    now_.table.forget_old();
    EXPECT_EQ(own.seq_end, kFar + 1);
}

TEST_F(Restored, NotFollowedWhenItWasReleased) {
    ASSERT_NE(earlier_.put(tcp()), 0u);
    take_over(earlier_);
    execute(earlier_, tcp(), 0, now_ms() - 1000, 2000);
    auto marked = tcp();
    marked.mark++;
    ASSERT_EQ(now_.put(marked, handle_), handle_);
    for (int i = 0; i < 3; i++) {
        now_.table.follow_old();
    }
    xf_conn_use &own = now_.uses[now_.find(tcp(), 0)];
    EXPECT_EQ(own.seq_end, 2000u) << "of the packet that it was executing";
    own.seq_end = kFar;
    now_.table.follow_old();
    EXPECT_EQ(own.seq_end, kFar);
    EXPECT_EQ(use().dir[0].seq_end, kFar);
    now_.table.forget_old();
    EXPECT_EQ(own.seq_end, kFar);
}

TEST_F(Restored, FollowAndForget) {
    ASSERT_NE(earlier_.put(tcp()), 0u);
    take_over(earlier_);
    const uint64_t when = now_ms() - 10;
    execute(earlier_, tcp(), 0, when, 2000);
    const xf_conn_use &own = now_.uses[now_.find(tcp(), 0)];
    EXPECT_EQ(own.seq_end, 1000u);
    now_.table.follow_old();
    EXPECT_EQ(own.seq_end, 2000u);
    EXPECT_EQ(own.used_ms, when);

    // Ours has seen more meanwhile, or the old one has.
    now_.uses[now_.find(tcp(), 0)].seq_end = 4000;
    execute(earlier_, tcp(), 0, when + 1, 3000);
    EXPECT_TRUE(now_.table.has_old());
    now_.table.forget_old();
    EXPECT_FALSE(now_.table.has_old());
    EXPECT_EQ(own.seq_end, 4000u);
    EXPECT_EQ(own.used_ms, when + 1);

    // Who comes late does not change it any more.
    EXPECT_TRUE(earlier_.uses[earlier_.find(tcp(), 0)].closing);
    execute(earlier_, tcp(), 0, when + 2, 9000);
    EXPECT_EQ(use().dir[0].seq_end, 4000u);
    now_.table.inherit(earlier_.old());
    EXPECT_TRUE(now_.table.has_inherited(1));
    EXPECT_FALSE(now_.table.has_old()) << "once";
}

TEST_F(Restored, TheOldProgramLetsGo) {
    const struct {
        const char *name;
        bool released;
        std::function<void(Earlier *, ovs_offload_ct *)> change;
    } rows[] = {
        {"a packet that changes nothing", false,
         [](Earlier *, ovs_offload_ct *c) { c->dir[0].seq_end += 100; }},
        {"the state", true,
         [](Earlier *, ovs_offload_ct *c) {
             c->dir[0].state = c->dir[1].state = 0;
             c->dir[0].l4_state = kClosing;
         }},
        {"the state within the protocol", true,
         [](Earlier *, ovs_offload_ct *c) { c->dir[1].l4_state = kFinWait2; }},
        {"the mark", true, [](Earlier *, ovs_offload_ct *c) { c->mark++; }},
        {"the label", true,
         [](Earlier *, ovs_offload_ct *c) { c->label[9]++; }},
        {"a packet that the old one has passed on", true,
         [](Earlier *e, ovs_offload_ct *c) {
             e->uses[e->find(*c, 1)].closing = 1;
         }},
    };
    for (const auto &row : rows) {
        SCOPED_TRACE(row.name);
        Earlier earlier;
        Conns now({.seed = 6});
        ASSERT_EQ(now.table.open(kStrict), 0);
        ASSERT_NE(earlier.put(tcp()), 0u);
        now.table.inherit(earlier.old());
        ovs_offload_ct c{};
        ASSERT_TRUE(now.table.restore(&c));
        const uint64_t handle = now.put(c);
        row.change(&earlier, &c);
        ASSERT_EQ(now.put(c, handle), handle);
        const uint32_t slot = earlier.slot_of(tcp());
        EXPECT_EQ(earlier.uses[2 * slot].closing
                      && earlier.uses[2 * slot + 1].closing,
                  row.released);
        EXPECT_EQ(earlier.read(slot, &c),
                  row.released ? LeftOut::kUntold : LeftOut::kNot);
    }
}

TEST_F(Restored, Ended) {
    ASSERT_NE(earlier_.put(tcp()), 0u);
    take_over(earlier_);
    const uint32_t slot = earlier_.slot_of(tcp());
    now_.table.del(handle_);
    EXPECT_TRUE(now_.finds_none(tcp()));
    ovs_offload_ct c;
    EXPECT_EQ(earlier_.read(slot, &c), LeftOut::kUntold);
    EXPECT_TRUE(earlier_.uses[2 * slot].closing);
    now_.table.follow_old();
    now_.table.forget_old();
}

// The second process died before it had taken over all ports: programs of both
// execute packets of a connection, and the older table comes first, whichever
// port was added first.
TEST_F(Restored, OfTwoProcesses) {
    Earlier second(2);
    auto newer = udp(3);
    newer.zone = 8;
    ASSERT_NE(earlier_.put(tcp()), 0u);
    ASSERT_NE(second.put(tcp()), 0u);
    ASSERT_NE(second.put(newer), 0u);
    now_.table.inherit(second.old());
    now_.table.inherit(earlier_.old());
    restore_all();
    ASSERT_EQ(offered_.size(), 2u);
    EXPECT_EQ(offered_[0].origin >> 32, 1u);
    EXPECT_EQ(offered_[0].proto, IPPROTO_TCP);
    EXPECT_EQ(offered_[1].origin >> 32, 2u);
    EXPECT_EQ(offered_[1].proto, IPPROTO_UDP);

    const uint64_t when = now_ms() - 10;
    execute(earlier_, tcp(), 0, when, 2000);
    execute(second, tcp(), 1, when + 1, 77);
    now_.table.follow_old();
    EXPECT_EQ(now_.uses[now_.find(tcp(), 0)].seq_end, 2000u);
    EXPECT_EQ(now_.uses[now_.find(tcp(), 1)].seq_end, 77u);
    now_.table.close();
    EXPECT_TRUE(earlier_.uses[2].closing);
    EXPECT_TRUE(second.uses[2].closing);
    EXPECT_TRUE(second.uses[4].closing);
}

// One that the second process had changed is its own alone.
TEST_F(Restored, ChangedByTheSecond) {
    Earlier second(2);
    ASSERT_NE(earlier_.put(tcp()), 0u);
    second.table.inherit(earlier_.old());
    ovs_offload_ct c{};
    ASSERT_TRUE(second.table.restore(&c));
    const uint64_t handle = second.put(c);
    c.mark = 5;
    ASSERT_EQ(second.put(c, handle), handle);

    now_.table.inherit(earlier_.old());
    now_.table.inherit(second.old());
    restore_all();
    ASSERT_EQ(offered_.size(), 1u);
    EXPECT_EQ(offered_[0].mark, 5u);
}

}  // namespace
}  // namespace flowxlate::unit
