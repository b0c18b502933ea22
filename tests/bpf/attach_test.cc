// SPDX-License-Identifier: Apache-2.0
// A port's program at TC's ingress, on a real device: by a link where the kernel has tcx,
// and as a filter of TC.  Others are there as well; and what a process leaves is found.
#include <bpf/bpf.h>
#include <gtest/gtest.h>
#include <net/if.h>
#include <sched.h>

#include <chrono>
#include <cstdlib>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "flowxlate/kernel/attach.h"
#include "flowxlate/kernel/entrance.h"
#include "flowxlate/kernel/features.h"
#include "flowxlate/kernel/ingress_filter.h"
#include "flowxlate/kernel/tcx.h"

namespace flowxlate::test {
namespace {

constexpr PortSlot kSlot{1};
constexpr const char *kFilter = "tc filter add dev p1 ingress prio 7 bpf bytecode '1,6 0 0 0,'";

// Somebody else's.
Fd program_that_passes() {
    const std::vector<uint64_t> pass = {0xffffffff000000b7, 0x95};
    Fd fd(bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "foreign", "GPL", reinterpret_cast<const bpf_insn *>(pass.data()), pass.size(), nullptr));
    EXPECT_TRUE(fd);
    return fd;
}

class Attached : public testing::Test {
protected:
    explicit Attached(bool by_link) : by_link_(by_link) {}

    // In a network namespace of its own.
    void in_namespace(const std::function<void()> &body) {
        ASSERT_FALSE(KernelFeatures::probe(&kernel_));
        if (by_link_ && !kernel_.has_tcx()) {
            GTEST_SKIP() << "this kernel has no tcx";
        }
        std::thread([&] {
            ASSERT_EQ(unshare(CLONE_NEWNET), 0);
            ASSERT_FALSE(maps_.create({.max_flows = 16, .max_connections = 16}));
            sh("ip link add p1 type veth peer name p2 && ip link set p1 up && ip link set p2 up");
            ifindex_ = Ifindex{static_cast<int>(if_nametoindex("p1"))};
            ASSERT_FALSE(maps_.set_tx_port(kSlot, ifindex_));
            body();
        }).join();
    }

    static void sh(const std::string &command) { EXPECT_EQ(std::system((command + " >/dev/null").c_str()), 0) << command; }

    std::unique_ptr<Attachment> attach(Pins *pins = nullptr, bool at_tc = true) {
        std::unique_ptr<Attachment> a;
        const auto f = Attachment::attach(maps_, kSlot, ifindex_, {.at_tc = at_tc, .has_tcx = by_link_, .pins = pins}, &a);
        EXPECT_FALSE(f) << f.message;
        return a;
    }

    // The id of the only program of ours; 0 if there is none.
    uint32_t program() const {
        std::vector<uint32_t> ids;
        if (!by_link_) {
            return filter_program(ifindex_);
        }
        EXPECT_EQ(find_tcx_programs(ifindex_, &ids), 0);
        EXPECT_LE(ids.size(), 1U);
        return ids.empty() ? 0 : ids[0];
    }

    std::string others(const OwnProgram &own, bool before_tc = false) {
        Entrances entrances;
        Entrance e;
        EXPECT_FALSE(entrances.open(kernel_));
        EXPECT_FALSE(entrances.query(ifindex_, "p1", own, before_tc, &e));
        return e.others;
    }

    const bool by_link_;  // Or as a filter.
    KernelFeatures kernel_;
    BpfMaps maps_;
    Ifindex ifindex_{};
};

class AttachAtTc : public Attached, public testing::WithParamInterface<bool> {
protected:
    AttachAtTc() : Attached(GetParam()) {}
};

class AttachAsLink : public Attached {
protected:
    AttachAsLink() : Attached(true) {}
};

class AttachAsFilter : public Attached {
protected:
    AttachAsFilter() : Attached(false) {}
};

TEST_P(AttachAtTc, ComesAndGoes) {
    in_namespace([&] {
        auto a = attach();
        ASSERT_TRUE(a);
        EXPECT_EQ(a->mode(), AttachMode::kTc);
        EXPECT_EQ(a->tx_flag(), uint32_t{XF_PORT_TX_SKB});
        EXPECT_EQ(a->is_filter(), !by_link_);
        EXPECT_TRUE(a->is_attached());
        EXPECT_NE(program(), 0U);
        EXPECT_EQ(others(a->own_program()), "") << "ours is nobody else's";
        EXPECT_NE(others({}), "") << "it is to XDP";
        EXPECT_EQ(others({}, true).empty(), !by_link_)
            << "before TC there is only tcx";
        OwnProgram leaving = a->own_program();
        leaving.is_leaving = true;
        EXPECT_EQ(others(leaving), "") << "but not when it is about to go";
        sh("tc qdisc add dev p1 clsact 2>/dev/null || true");
        sh(kFilter);
        EXPECT_NE(others(leaving), "");
        sh("tc filter del dev p1 ingress prio 7");
        a.reset();
        EXPECT_EQ(program(), 0U);
        EXPECT_EQ(others({}), "");
    });
}

// Whoever has made the qdisc, or filters there, keeps it.
TEST_P(AttachAtTc, LeavesOthersAlone) {
    for (const char *qdisc : {"ingress", "clsact"}) {
        in_namespace([&] {
            SCOPED_TRACE(qdisc);
            sh(std::string("tc qdisc add dev p1 ") + qdisc);
            sh(kFilter);
            auto a = attach();
            ASSERT_TRUE(a);
            EXPECT_TRUE(a->is_attached());
            // A filter of ours comes behind it, a link before it.
            EXPECT_EQ(others(a->own_program()).empty(), !by_link_);
            a.reset();
            sh(std::string("tc qdisc show dev p1 | grep ") + qdisc);
            sh("tc filter show dev p1 ingress | grep bytecode");
        });
    }
}

// OVS does that when it adds the port.
TEST_P(AttachAtTc, IsPutBack) {
    in_namespace([&] {
        auto a = attach();
        ASSERT_TRUE(a);
        sh("tc qdisc add dev p1 clsact 2>/dev/null || true; tc filter del dev p1 ingress");
        EXPECT_EQ(a->is_attached(), by_link_) << "a link stays";
        if (a->is_filter()) {
            EXPECT_FALSE(a->put_back());
        }
        EXPECT_TRUE(a->is_attached());
        EXPECT_NE(program(), 0U);
    });
}

// One behind ours misses what ours executes.
TEST_F(AttachAsLink, KnowsWhoComesBehind) {
    in_namespace([&] {
        const Fd one = program_that_passes(), another = program_that_passes();
        Fd before, behind;
        ASSERT_FALSE(link_at_tcx(one.get(), ifindex_, &before));
        auto a = attach();
        ASSERT_TRUE(a);
        EXPECT_EQ(others(a->own_program()), "");
        ASSERT_FALSE(link_at_tcx(another.get(), ifindex_, &behind));
        EXPECT_NE(others(a->own_program()), "");
        behind = {};
        EXPECT_EQ(others(a->own_program()), "");
    });
}

// It follows its device into another namespace, or ends, and is on no port then.
TEST_P(AttachAtTc, IsNotOnADeviceThatHasMoved) {
    in_namespace([&] {
        auto a = attach();
        ASSERT_TRUE(a);
        EXPECT_TRUE(maps_.has_tx_port(kSlot, ifindex_));
        sh("ip netns add moved$PPID && ip link set p1 netns moved$PPID");
        EXPECT_FALSE(maps_.has_tx_port(kSlot, ifindex_)) << "the kernel has forgotten it";
        EXPECT_FALSE(a->is_attached());
        sh("ip netns del moved$PPID");
    });
}

// What a killed process leaves is replaced by the next one, at once or when it has taken
// over, or removed by it where the port has another hook or is none any more.
TEST_P(AttachAtTc, FindsWhatIsLeft) {
    const std::string directory = "/sys/fs/bpf/attach-test" + std::to_string(getpid());
    in_namespace([&] {
        Pins pins, next_pins, last_pins;
        const auto not_kept = pins.open(directory);
        if (by_link_ && not_kept) {
            GTEST_SKIP() << not_kept.reason;
        }
        auto killed = attach(&pins);
        ASSERT_TRUE(killed);
        EXPECT_FALSE(killed->persist(pins));
        const uint32_t old = program();

        (void)next_pins.open(directory);
        auto next = attach(&next_pins);
        ASSERT_TRUE(next);
        EXPECT_EQ(next->is_taking_over(), by_link_);
        EXPECT_EQ(program() == old, by_link_);
        EXPECT_EQ(others(next->own_program()), "");
        EXPECT_FALSE(next->begin_sampling());
        EXPECT_FALSE(next->finish_take_over());
        EXPECT_NE(program(), old);
        EXPECT_NE(program(), 0U);

        (void)last_pins.open(directory);
        auto last = attach(&last_pins, false);
        ASSERT_TRUE(last);
        EXPECT_EQ(last->mode(), AttachMode::kNative);
        EXPECT_EQ(program(), 0U);
    });
    (void)rmdir(directory.c_str());
}

// Those of links are in Pins.
TEST_F(AttachAsFilter, RemovesOrphanedFilters) {
    in_namespace([&] {
        size_t n_left = 0;
        const uint64_t now = std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count();
        auto a = attach();
        ASSERT_TRUE(a);
        maps_.set_deadline(now, 0);
        EXPECT_EQ(remove_orphaned_filters([](Ifindex) { return false; }, &n_left), 0U) << "somebody tends it";
        EXPECT_EQ(n_left, 1U);
        maps_.set_deadline(1, 0);
        EXPECT_EQ(remove_orphaned_filters([](Ifindex) { return true; }, &n_left), 0U) << "it is ours";
        EXPECT_EQ(remove_orphaned_filters([](Ifindex) { return false; }, &n_left), 1U);
        EXPECT_EQ(n_left, 0U);
        EXPECT_EQ(program(), 0U);
    });
}

// The program does not say that it takes frames of several pieces.
TEST_F(AttachAsLink, JumboFramesAreGenericXdps) {
    in_namespace([&] {
        sh("ip link set p2 mtu 9000");
        for (bool allow_generic : {false, true}) {
            std::unique_ptr<Attachment> a;
            const auto f = Attachment::attach(maps_, kSlot, ifindex_, {.allow_generic = allow_generic}, &a);
            EXPECT_EQ(f.error, allow_generic ? 0 : ERANGE);
            EXPECT_EQ(f.message.find("MTU") != std::string::npos, !allow_generic) << f.message;
            if (a) {
                EXPECT_EQ(a->mode(), AttachMode::kGeneric);
            }
        }
    });
}

INSTANTIATE_TEST_SUITE_P(Tc, AttachAtTc, testing::Bool(), [](auto &info) { return info.param ? "link" : "filter"; });

}  // namespace
}  // namespace flowxlate::test
