// SPDX-License-Identifier: Apache-2.0
// Ports that share a program (flowxlate/kernel/shared_program.h): whose packets are whose,
// and what stays when a process ends.
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <cap-ng.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <linux/if_link.h>
#include <linux/pkt_cls.h>
#include <net/if.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "flowxlate/kernel/attach.h"
#include "flowxlate/kernel/features.h"
#include "flowxlate/kernel/loaded.h"
#include "flowxlate/kernel/tcx.h"
#include "flowxlate/kernel/xdp_query.h"
#include "packet.h"
#include "program.h"

namespace flowxlate::test {
namespace {

using namespace std::chrono_literals;

constexpr PortSlot kOne{1}, kTwo{2};
constexpr uint32_t kSmall = 512;  // Bytes of a program that only calls another.
constexpr const char *kPinned = "/sys/fs/bpf/ovs-offload-xdp";

const Frame kUdp = Packet().eth(0x0800).ipv4(IPPROTO_UDP).udp(1000, 53).payload(18).bytes();

// A process's maps and programs, for the devices p1 and p2.
struct Engine {
    BpfMaps maps;
    SharedPrograms programs{maps};
    std::unique_ptr<FlowTable> table;
    Pins pins;

    void start() {
        ASSERT_FALSE(maps.create({.max_flows = 16, .max_connections = 16}));
        table = std::make_unique<FlowTable>(maps.tables());
        for (auto [slot, name] : {std::pair{kOne, "p1"}, {kTwo, "p2"}}) {
            maps.port(slot).flags = XF_PORT_TX_NATIVE | XF_PORT_TX_SKB;
            maps.port(slot).max_frame = 1514;
            ASSERT_FALSE(maps.set_tx_port(slot, device(name)));
        }
    }
    // What enters there is dropped.
    void drop_from(PortSlot port) {
        FlowSlot slot;
        const FlowSpec spec = FlowSpec::ipv4().proto(IPPROTO_UDP).from(port).drop();
        ASSERT_FALSE(table->insert(spec.cls, spec.key, spec.mask, {spec.action, spec.rewrite}, &slot));
    }
    // There is no room for it among the devices whose numbers are like its own.
    void fill_set_of(const char *name) {
        const int number = index(device(name));
        const std::string add = "ip link add index " + std::to_string(number + XF_IN_PORT_SETS) + " name far type veth";
        EXPECT_EQ(std::system(add.c_str()), 0);
        ASSERT_FALSE(maps.clear_tx_port(kOne));
        for (int i = 1; i <= XF_IN_PORT_WAYS; i++) {
            ASSERT_FALSE(maps.set_tx_port(PortSlot{static_cast<uint16_t>(10 + i)}, device("far")));
        }
        EXPECT_FALSE(maps.knows_port(kOne, device(name)));
        ASSERT_FALSE(maps.set_tx_port(kOne, device(name)));
        EXPECT_FALSE(maps.knows_port(kOne, device(name)));
    }
    std::unique_ptr<Attachment> attach(PortSlot port, const char *name, bool at_tc = false, Pins *from = nullptr) {
        std::unique_ptr<Attachment> a;
        const auto f = Attachment::attach(maps, port, device(name), {.at_tc = at_tc, .has_tcx = true, .programs = &programs, .pins = from}, &a);
        EXPECT_FALSE(f) << f.message;
        return a;
    }
    static Ifindex device(const char *name) { return Ifindex{static_cast<int>(if_nametoindex(name))}; }
};

uint32_t run(int fd, bool at_tc, const char *enters) {
    std::array<uint8_t, 2048> out;
    xdp_md md{};
    __sk_buff skb{};
    md.data_end = kUdp.size();
    md.ingress_ifindex = skb.ifindex = if_nametoindex(enters);
    LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = kUdp.data(), .data_out = out.data(), .data_size_in = static_cast<uint32_t>(kUdp.size()), .data_size_out = out.size(), .repeat = 1);
    if (at_tc) {
        opts.ctx_in = &skb;
        opts.ctx_size_in = sizeof skb;
    } else {
        opts.ctx_in = &md;
        opts.ctx_size_in = sizeof md;
    }
    EXPECT_EQ(bpf_prog_test_run_opts(fd, &opts), 0) << enters;
    return opts.retval;
}

// What is on the device.
Fd program_on(const char *name, bool at_tc) {
    XdpOnDevice xdp;
    std::vector<uint32_t> ids;
    if (at_tc) {
        EXPECT_EQ(find_tcx_programs(Engine::device(name), &ids), 0);
        return Fd(ids.size() == 1 ? bpf_prog_get_fd_by_id(ids[0]) : -1);
    }
    EXPECT_EQ(query_xdp(Engine::device(name), &xdp), 0);
    return Fd(bpf_prog_get_fd_by_id(xdp.prog_id));
}

uint32_t size_of(const Fd &program) {
    bpf_prog_info info{};
    uint32_t len = sizeof info;
    EXPECT_EQ(bpf_obj_get_info_by_fd(program.get(), &info, &len), 0);
    return info.xlated_prog_len;
}

// By hook: true is TC's ingress.
class SharedProgramTest : public testing::TestWithParam<bool> {
protected:
    // In a network namespace, and with a BPF file system, of its own.
    void in_namespace(const std::function<void()> &body) {
        KernelFeatures kernel;
        ASSERT_FALSE(KernelFeatures::probe(&kernel));
        if (at_tc_ && !kernel.has_tcx()) {
            GTEST_SKIP() << "this kernel has no tcx";
        }
        std::thread([&] {
            ASSERT_EQ(unshare(CLONE_NEWNET | CLONE_NEWNS), 0);
            ASSERT_EQ(mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
            ASSERT_EQ(mount("bpf", "/sys/fs/bpf", "bpf", 0, nullptr), 0);
            for (const char *name : {"p1", "p2"}) {
                sh(std::string("ip link add ") + name + " type veth peer name " + name + "c && ip link set " + name + " up");
            }
            body();
        }).join();
    }
    static void sh(const std::string &command) { EXPECT_EQ(std::system((command + " >/dev/null").c_str()), 0) << command; }

    uint32_t drop() const { return at_tc_ ? uint32_t{TC_ACT_SHOT} : uint32_t{XDP_DROP}; }
    uint32_t pass() const { return at_tc_ ? static_cast<uint32_t>(TC_ACT_UNSPEC) : uint32_t{XDP_PASS}; }
    SharedKind kind() const { return {.tx_flag = at_tc_ ? uint32_t{XF_PORT_TX_SKB} : uint32_t{XF_PORT_TX_NATIVE}}; }

    // A process that attaches to both devices, or begins to take them over, and dies.
    void live_and_die() {
        const pid_t child = fork();
        if (child == 0) {
            Engine e;
            e.start();
            e.drop_from(kOne);
            EXPECT_FALSE(e.pins.open());
            auto one = e.attach(kOne, "p1", at_tc_, &e.pins), two = e.attach(kTwo, "p2", at_tc_, &e.pins);
            EXPECT_FALSE(one->persist(e.pins));
            EXPECT_FALSE(two->persist(e.pins));
            _exit(HasFailure());
        }
        int status = -1;
        ASSERT_EQ(waitpid(child, &status, 0), child);
        ASSERT_EQ(status, 0);
    }

    static size_t n_pinned(const char *prefix) {
        size_t n = 0;
        for (auto &entry : std::filesystem::directory_iterator(kPinned)) {
            n += entry.path().filename().string().starts_with(prefix);
        }
        return n;
    }

    const bool at_tc_ = GetParam();
};

TEST_P(SharedProgramTest, APacketIsOfThePortOfItsDevice) {
    in_namespace([&] {
        Engine e;
        e.start();
        e.drop_from(kOne);
        std::shared_ptr<SharedProgram> shared;
        PortProgram one, two;
        ASSERT_FALSE(e.programs.find(kind(), -1, &shared));
        ASSERT_FALSE(shared->load_port(Engine::device("p1"), &one));
        ASSERT_FALSE(shared->load_port(Engine::device("p2"), &two));
        const struct {
            const char *what;
            const PortProgram &program;
            const char *enters;
            uint32_t verdict;
            uint64_t misses_1, misses_2;
        } rows[] = {
            {"its flow is executed", one, "p1", drop(), 0, 0},
            {"the other port has none", two, "p2", pass(), 0, 1},
            {"moved to where another port has its number", one, "p2", pass(), 0, 0},
            {"the same", two, "p1", pass(), 0, 0},
        };
        for (auto &row : rows) {
            SCOPED_TRACE(row.what);
            EXPECT_EQ(run(row.program.fd(), at_tc_, row.enters), row.verdict);
            EXPECT_EQ(e.maps.misses(kOne, XF_MISS_NO_FLOW), row.misses_1);
            EXPECT_EQ(e.maps.misses(kTwo, XF_MISS_NO_FLOW), row.misses_2);
            e.maps.clear_misses(kOne);
            e.maps.clear_misses(kTwo);
        }
        ASSERT_FALSE(e.maps.clear_tx_port(kOne));
        EXPECT_EQ(run(one.fd(), at_tc_, "p1"), pass()) << "it is no port any more";
    });
}

// Whatever is in the table of devices, a packet is of a port that there may be.
TEST_P(SharedProgramTest, AForeignWriterDoesNotLeadOut) {
    in_namespace([&] {
        Engine e;
        e.start();
        e.drop_from(kOne);
        std::shared_ptr<SharedProgram> shared;
        PortProgram one;
        ASSERT_FALSE(e.programs.find(kind(), -1, &shared));
        ASSERT_FALSE(shared->load_port(Engine::device("p1"), &one));
        const auto ifindex = static_cast<uint32_t>(index(Engine::device("p1")));
        const uint32_t set = ifindex % XF_IN_PORT_SETS;
        for (uint64_t slot : {uint64_t{0}, uint64_t{XF_MAX_PORTS}, uint64_t{XF_MAX_PORTS} + 7, uint64_t{UINT32_MAX}}) {
            SCOPED_TRACE(slot);
            const xf_in_port_set ways = {{slot << XF_IN_PORT_SHIFT | ifindex, 0, 0, 0}};
            ASSERT_EQ(bpf_map_update_elem(e.maps.fd_of("xf_in_ports"), &set, &ways, BPF_ANY), 0);
            EXPECT_EQ(run(one.fd(), at_tc_, "p1"), pass());
            EXPECT_EQ(e.maps.misses(kOne, XF_MISS_NO_FLOW) + e.maps.misses(kTwo, XF_MISS_NO_FLOW), 0U) << "counted as another port's";
        }
    });
}

TEST_P(SharedProgramTest, IsLoadedOnce) {
    in_namespace([&] {
        Engine e;
        e.start();
        auto one = e.attach(kOne, "p1", at_tc_), two = e.attach(kTwo, "p2", at_tc_);
        ASSERT_TRUE(one && two);
        EXPECT_TRUE(one->is_attached());
        EXPECT_TRUE(two->is_attached());
        const Fd first = program_on("p1", at_tc_), second = program_on("p2", at_tc_);
        EXPECT_LT(size_of(first), kSmall);
        EXPECT_LT(size_of(second), kSmall);
        EXPECT_EQ(map_id(find_map(first.get(), kSharedMapName)), map_id(find_map(second.get(), kSharedMapName)));
        e.drop_from(kTwo);
        EXPECT_EQ(run(first.get(), at_tc_, "p1"), pass());
        EXPECT_EQ(run(second.get(), at_tc_, "p2"), drop());
        one.reset();
        EXPECT_EQ(run(second.get(), at_tc_, "p2"), drop()) << "the other one goes on";
        two.reset();
        EXPECT_FALSE(program_on("p2", at_tc_));
    });
}

// The set of p1's number is full.
TEST_P(SharedProgramTest, WhoFindsNoRoomHasAProgramOfItsOwn) {
    in_namespace([&] {
        Engine e;
        e.start();
        e.fill_set_of("p1");
        e.drop_from(kOne);
        auto one = e.attach(kOne, "p1", at_tc_);
        const Fd program = program_on("p1", at_tc_);
        EXPECT_GT(size_of(program), kSmall);
        EXPECT_EQ(run(program.get(), at_tc_, "p1"), drop());
    });
}

TEST_P(SharedProgramTest, StaysWhenItsProcessIsKilled) {
    in_namespace([&] {
        live_and_die();
        EXPECT_EQ(n_pinned("link-"), 2U);
        EXPECT_EQ(n_pinned("shared-"), 1U);
        const Fd program = program_on("p1", at_tc_);
        EXPECT_EQ(run(program.get(), at_tc_, "p1"), drop());
        sh(std::string("rm ") + kPinned + "/shared-*");
        uint32_t verdict = drop();
        for (int i = 0; i < 100 && verdict == drop(); i++) {
            std::this_thread::sleep_for(10ms);
            verdict = run(program.get(), at_tc_, "p1");
        }
        EXPECT_EQ(verdict, pass()) << "without what it calls it passes everything on";

        Engine next;
        next.start();
        ASSERT_FALSE(next.pins.open());
        auto one = next.attach(kOne, "p1", at_tc_, &next.pins);
        ASSERT_TRUE(one);
        EXPECT_FALSE(one->is_taking_over()) << "there is nobody to take over from";
    });
}

TEST_P(SharedProgramTest, LeavesNothingWhenItEnds) {
    in_namespace([&] {
        Engine e;
        e.start();
        ASSERT_FALSE(e.pins.open());
        auto one = e.attach(kOne, "p1", at_tc_), two = e.attach(kTwo, "p2", at_tc_);
        EXPECT_FALSE(one->persist(e.pins));
        EXPECT_FALSE(two->persist(e.pins));
        EXPECT_EQ(n_pinned("shared-"), 1U);
        one.reset();
        EXPECT_EQ(n_pinned("shared-"), 1U) << "the other port needs it";
        two.reset();
        EXPECT_TRUE(std::filesystem::is_empty(kPinned));
    });
}

// Both ports go on until the next process has flows of its own; that of one which did not
// live to have all ports is removed as well.
TEST_P(SharedProgramTest, IsTakenOver) {
    in_namespace([&] {
        live_and_die();
        live_and_die();
        EXPECT_EQ(n_pinned("shared-"), 1U) << "the second one has not taken over";
        const Fd old = program_on("p1", at_tc_);

        Engine next;
        next.start();
        ASSERT_FALSE(next.pins.open());
        auto one = next.attach(kOne, "p1", at_tc_, &next.pins), two = next.attach(kTwo, "p2", at_tc_, &next.pins);
        ASSERT_TRUE(one && two);
        EXPECT_TRUE(one->is_taking_over() && two->is_taking_over());
        EXPECT_TRUE(one->old_connections());
        EXPECT_EQ(run(old.get(), at_tc_, "p1"), drop());
        for (auto *a : {&one, &two}) {
            EXPECT_FALSE((*a)->begin_sampling());
        }
        EXPECT_EQ(run(old.get(), at_tc_, "p1"), drop());
        next.drop_from(kTwo);
        // What has no old flow is for the new ones.
        EXPECT_EQ(run(program_on("p2", at_tc_).get(), at_tc_, "p2"), drop());
        for (auto *a : {&one, &two}) {
            EXPECT_FALSE((*a)->finish_take_over());
        }
        EXPECT_EQ(run(program_on("p1", at_tc_).get(), at_tc_, "p1"), pass());
        EXPECT_EQ(run(program_on("p2", at_tc_).get(), at_tc_, "p2"), drop());
        EXPECT_EQ(map_id(find_map(program_on("p1", at_tc_).get(), kSharedMapName)), map_id(find_map(program_on("p2", at_tc_).get(), kSharedMapName)));
        next.pins.remove_orphans();
        EXPECT_EQ(n_pinned("shared-"), 1U);
        EXPECT_EQ(n_pinned("link-"), 2U);
    });
}

// What takes each packet for one of its own port takes none that the old program has
// from all devices.
TEST_P(SharedProgramTest, HandsNothingToAProgramOfOnePort) {
    in_namespace([&] {
        live_and_die();
        const Fd old = program_on("p2", at_tc_);
        Engine next;
        next.start();
        next.fill_set_of("p1");
        ASSERT_FALSE(next.pins.open());
        auto one = next.attach(kOne, "p1", at_tc_, &next.pins);
        ASSERT_TRUE(one);
        EXPECT_TRUE(one->is_taking_over());
        EXPECT_FALSE(one->begin_sampling());
        next.drop_from(kOne);
        EXPECT_EQ(run(old.get(), at_tc_, "p2"), pass()) << "p2 is no port of the next one yet";
        EXPECT_EQ(run(program_on("p1", at_tc_).get(), at_tc_, "p1"), drop());
    });
}

// An operator has removed the directory, as operating.md says, in the middle of it.
TEST_P(SharedProgramTest, IsTakenOverWithoutPins) {
    in_namespace([&] {
        live_and_die();
        Engine next;
        next.start();
        ASSERT_FALSE(next.pins.open());
        auto one = next.attach(kOne, "p1", at_tc_, &next.pins);
        ASSERT_TRUE(one);
        EXPECT_FALSE(one->begin_sampling());
        next.drop_from(kOne);
        sh(std::string("rm -r ") + kPinned);
        EXPECT_TRUE(one->finish_take_over()) << "it says that nothing is kept";
        EXPECT_FALSE(one->is_taking_over());
        EXPECT_FALSE(one->finish_take_over()) << "and says it once";
        EXPECT_LT(size_of(program_on("p1", at_tc_)), kSmall);
        EXPECT_EQ(run(program_on("p1", at_tc_).get(), at_tc_, "p1"), drop());
    });
}

// Who may not look at what is kept removes none of it.
TEST_P(SharedProgramTest, StaysWithoutTheRightToLook) {
    in_namespace([&] {
        live_and_die();
        std::thread([&] {  // Of a namespace of its own.
            ASSERT_EQ(unshare(CLONE_NEWNET), 0);
            ASSERT_EQ(capng_get_caps_process(), 0);
            ASSERT_EQ(capng_update(CAPNG_DROP, CAPNG_EFFECTIVE, CAP_SYS_ADMIN), 0);
            ASSERT_EQ(capng_apply(CAPNG_SELECT_CAPS), 0);
            Pins pins;
            EXPECT_TRUE(pins.open());
            EXPECT_EQ(pins.remove_orphans(), 0U);
        })
            .join();
        EXPECT_EQ(n_pinned("link-"), 2U);
        EXPECT_EQ(n_pinned("shared-"), 1U);
        EXPECT_EQ(run(program_on("p1", at_tc_).get(), at_tc_, "p1"), drop());
    });
}

INSTANTIATE_TEST_SUITE_P(Hook, SharedProgramTest, testing::Bool(), [](auto &info) { return info.param ? "tc" : "xdp"; });

}  // namespace
}  // namespace flowxlate::test
