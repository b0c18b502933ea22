// SPDX-License-Identifier: Apache-2.0
// What a device's changes do in XDP, one after the other, and what becomes of
// figures.
#include "flowerd/device.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <linux/if_ether.h>

#include <cerrno>
#include <cstring>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace flowerd::unit {
namespace {

constexpr Ifindex kIn{2}, kOut{3};

// XDP as it is told to be.  Names flows by their filters' preferences.
class FakeFlows : public Flows {
public:
    int put(const Ufid &ufid, const Rule &) override {
        const int preference = preference_of(ufid);
        log += " +" + std::to_string(preference);
        const int error = refused.contains(preference) ? ENOSPC : 0;
        executed[preference] = !error;
        return error;
    }
    void del(const Ufid &ufid, Stats *stats) override {
        log += " -" + std::to_string(preference_of(ufid));
        take(ufid, stats);
        executed[preference_of(ufid)] = false;
    }
    bool take(const Ufid &ufid, Stats *stats) override {
        *stats += std::exchange(counted[preference_of(ufid)], {});
        return executed[preference_of(ufid)];
    }
    bool wants(const Ufid &ufid) override {
        return !refused.contains(preference_of(ufid));
    }

    std::string log;  // Since the test has cleared it.
    std::set<int> refused;
    std::map<int, bool> executed;
    std::map<int, Stats> counted;

private:
    static int preference_of(const Ufid &ufid) {
        uint64_t where;
        std::memcpy(&where, ufid.bytes.data() + sizeof where, sizeof where);
        return static_cast<int>(where >> 32);
    }
};

// To a net of 10.0.0.0/8, or to all of that.
Filter filter(uint16_t preference, uint8_t net, uint8_t mask = 0xff) {
    Filter f;
    f.ifindex = kIn;
    f.id = {preference, 1};
    f.kind = "flower";
    f.has_options = true;
    f.match.key.protocol = f.match.key.eth_type = htons(ETH_P_IP);
    f.match.mask.protocol = f.match.mask.eth_type = 0xffff;
    f.match.key.ipv4_dst = {10, static_cast<uint8_t>(net & mask)};
    f.match.mask.ipv4_dst = {0xff, mask};
    Action a;
    a.kind = Action::kRedirect;
    a.ifindex = kOut;
    f.actions = {a};
    return f;
}

Filter dropping(Filter f) {
    f.actions = {Action{}};
    return f;
}

class FlowerdDevice : public testing::Test {
protected:
    FlowerdDevice() {
        device_.follow({[](Ifindex) { return Reject{}; }, false});
    }

    // What is done in XDP meanwhile.
    template <typename Fn>
    std::string done_by(Fn fn) {
        flows_.log.clear();
        fn();
        return flows_.log;
    }
    std::string put(const Filter &f) {
        return done_by([&] { device_.put(f); });
    }
    std::string remove(const Filter &f) {
        return done_by([&] { device_.remove(f.id); });
    }
    std::string fill(const std::vector<Filter> &filters,
                     const Reject &refused = {}) {
        return done_by([&] { device_.fill(filters, refused); });
    }

    FakeFlows flows_;
    Device device_{"p1", kIn, &flows_};
};

// What is wrong goes before what is right comes.
TEST_F(FlowerdDevice, RemovesFirst) {
    const Filter host = filter(10, 1), net = filter(5, 0, 0);
    EXPECT_EQ(put(host), " +10");
    EXPECT_EQ(put(net), " -10 +5");
    EXPECT_EQ(device_.verdict_of(host.id).why_not,
              "order/overlap: pref 5 handle 0x1 comes first");
    EXPECT_EQ(remove(net), " -5 +10");
    EXPECT_TRUE(device_.verdict_of(host.id).in_xdp);
}

TEST_F(FlowerdDevice, Replaces) {
    EXPECT_EQ(put(filter(10, 1)), " +10");
    EXPECT_EQ(put(filter(10, 1)), "") << "as it was";
    EXPECT_EQ(put(dropping(filter(10, 1))), " +10") << "in one step";
    EXPECT_EQ(put(dropping(filter(10, 2))), " -10 +10") << "another match";
    Filter unknown = filter(10, 2);
    unknown.why_not = {"action", "ct", EOPNOTSUPP};
    EXPECT_EQ(put(unknown), " -10");
}

TEST_F(FlowerdDevice, IsReadAgain) {
    const std::vector<Filter> all{filter(10, 1), filter(11, 2)};
    EXPECT_EQ(fill(all), " +10 +11");
    EXPECT_EQ(fill(all), "") << "what has not changed is left alone";
    EXPECT_EQ(fill({all[0], filter(12, 3)}), " -11 +12");
    EXPECT_EQ(fill(all, {"block", "shared", EOPNOTSUPP}), " -10 -12");
    EXPECT_EQ(device_.verdict_of(all[0].id).why_not, "block/shared");
    EXPECT_EQ(fill(all), " +10 +11");
}

// Those that TC takes off together are told of one by one.
TEST_F(FlowerdDevice, IsFlushed) {
    const Filter net = filter(5, 0, 0), host = filter(10, 1),
                 other = filter(11, 2);
    EXPECT_EQ(fill({net, host, other}), " +5");
    auto flush = [&](uint16_t preference) {
        return done_by([&] { device_.remove_preference(0, preference); });
    };
    EXPECT_EQ(flush(5), " -5") << "the others may go, too";
    EXPECT_FALSE(device_.is_settled());
    EXPECT_EQ(flush(10), "");
    EXPECT_EQ(put(filter(12, 3)), "");
    EXPECT_EQ(done_by([&] { device_.settle(); }), " +11 +12");
    EXPECT_TRUE(device_.is_settled());
    EXPECT_EQ(flush(11), " -11");
    EXPECT_EQ(fill({host}), " -12 +10") << "read again";
    EXPECT_TRUE(device_.is_settled());
    EXPECT_EQ(done_by([&] { device_.remove_preference(3, 10); }), "")
        << "of another chain";
}

TEST_F(FlowerdDevice, Compares) {
    const std::vector<Filter> all{filter(10, 1), filter(11, 2)};
    fill(all);
    EXPECT_TRUE(device_.has(all));
    EXPECT_TRUE(device_.has({all[1], all[0]}));
    EXPECT_FALSE(device_.has({all[0]}));
    EXPECT_FALSE(device_.has({all[0], filter(12, 2)}));
    EXPECT_FALSE(device_.has({all[0], filter(11, 3)}));
    EXPECT_FALSE(device_.has({all[0], dropping(all[1])}));
    Filter refused = all[1];
    refused.why_not = {"flags", "unknown", EOPNOTSUPP};
    EXPECT_FALSE(device_.has({all[0], refused}));
}

TEST_F(FlowerdDevice, FollowsOutputs) {
    EXPECT_EQ(put(filter(10, 1)), " +10");
    EXPECT_EQ(put(dropping(filter(11, 2))), " +11");
    EXPECT_EQ(done_by([&] { device_.follow({}); }), " -10");
    EXPECT_EQ(device_.verdict_of({10, 1}).why_not, "output/not_ours");
}

TEST_F(FlowerdDevice, PutsAgainWhatIsWanted) {
    flows_.refused = {10};
    EXPECT_EQ(put(filter(10, 1)), " +10");
    EXPECT_EQ(device_.verdict_of({10, 1}).why_not,
              "xdp/refused: No space left on device");
    EXPECT_EQ(put(filter(11, 2)), " +11");
    EXPECT_EQ(device_.n_in_xdp(), 1U);
    flows_.executed[11] = false;  // It has lost its place.
    device_.take_stats();
    EXPECT_EQ(device_.n_in_xdp(), 0U);
    EXPECT_EQ(device_.verdict_of({11, 1}).why_not, "xdp/waiting");
    EXPECT_EQ(done_by([&] { device_.put_missing(false); }), " +11");
    EXPECT_EQ(done_by([&] { device_.put_missing(true); }), " +10");
    flows_.refused = {};
    EXPECT_EQ(done_by([&] { device_.put_missing(false); }), " +10");
    EXPECT_EQ(device_.n_in_xdp(), 2U);
}

// A packet that goes to another chain is counted there, and once in all.
TEST_F(FlowerdDevice, CountsWhatEntersOnce) {
    Filter first = filter(10, 1), second = filter(20, 1);
    second.id.chain = second.match.key.chain = 3;
    second.match.mask.chain = first.match.mask.chain = UINT32_MAX;
    put(first);
    put(second);
    flows_.counted[10] = flows_.counted[20] = {3, 300};
    device_.take_stats();
    EXPECT_EQ(device_.stats_of(second.id).packets, 3U);
    EXPECT_EQ(device_.total().packets, 3U);
    remove(first);
    remove(second);
    EXPECT_EQ(device_.total().packets, 3U);
}

// Whatever leaves XDP, each packet is told once.
TEST_F(FlowerdDevice, KeepsFigures) {
    const Filter host = filter(10, 1), net = filter(5, 0, 0);
    put(host);
    flows_.counted[10] = {3, 300};
    device_.take_stats();
    flows_.counted[10] = {2, 200};
    put(net);
    EXPECT_EQ(device_.stats_of(host.id).packets, 5U);
    flows_.counted[5] = {7, 700};
    remove(net);
    flows_.counted[10] = {1, 100};
    device_.take_stats();
    EXPECT_EQ(device_.stats_of(host.id).packets, 6U);
    EXPECT_EQ(device_.stats_of(net.id).packets, 0U);
    EXPECT_EQ(device_.total().packets, 13U);
    EXPECT_EQ(device_.total().bytes, 1300U);
    remove(host);
    EXPECT_EQ(device_.total().packets, 13U);
}

}  // namespace
}  // namespace flowerd::unit
