// SPDX-License-Identifier: Apache-2.0
// What the kernel says of frames that it has lost after a redirect.
#include "flowxlate/kernel/redirect_errors.h"

#include <bpf/bpf.h>
#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <iterator>
#include <vector>

#include "flowxlate/base/resource.h"

namespace flowxlate {
namespace {

constexpr Ifindex kLoopback{1};  // Takes no redirected frames, on any kernel.
constexpr int kFrames = 100;

// A program that redirects all frames by a device map.
int load_redirecting(const Fd &devices) {
    const bpf_insn program[] = {
        {BPF_LD | BPF_DW | BPF_IMM, BPF_REG_1, BPF_PSEUDO_MAP_FD, 0,
         devices.get()},
        {},
        {BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_2, 0, 0, 0},
        {BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_3, 0, 0, 0},
        {BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_redirect_map},
        {BPF_JMP | BPF_EXIT, 0, 0, 0, 0},
    };
    return bpf_prog_load(BPF_PROG_TYPE_XDP, "redirects", "GPL", program,
                         std::size(program), nullptr);
}

// Has the kernel redirect frames from the loopback device to itself.
void redirect_in_vain() {
    const uint32_t key = 0, value = index(kLoopback);
    const Fd devices(bpf_map_create(BPF_MAP_TYPE_DEVMAP, "devices", sizeof key,
                                    sizeof value, 1, nullptr));
    ASSERT_EQ(bpf_map_update_elem(devices.get(), &key, &value, BPF_ANY), 0);
    const Fd program(load_redirecting(devices));
    ASSERT_TRUE(program);
    std::array<char, 64> frame{};
    LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = frame.data(),
                .data_size_in = frame.size(), .repeat = kFrames,
                .flags = BPF_F_TEST_XDP_LIVE_FRAMES);
    ASSERT_EQ(bpf_prog_test_run_opts(program.get(), &opts), 0);
}

TEST(RedirectErrors, AreCountedForPorts) {
    using Errors = std::vector<RedirectError>;
    RedirectErrors errors;
    EXPECT_EQ(errors.read(kLoopback), std::nullopt) << "before it is open";
    KernelFeatures kernel;
    ASSERT_FALSE(KernelFeatures::probe(&kernel));
    const auto failed = errors.open(kernel);
    ASSERT_FALSE(failed) << failed.message;
    redirect_in_vain();
    EXPECT_EQ(errors.read(kLoopback), std::nullopt) << "it is no port yet";
    errors.watch(kLoopback);
    EXPECT_EQ(errors.read(kLoopback), Errors{});
    for (int i = 1; i < 3; i++) {
        redirect_in_vain();
        EXPECT_EQ(errors.read(kLoopback),
                  (Errors{{false, EOPNOTSUPP,
                           static_cast<uint64_t>(i) * kFrames}}));
    }
    errors.watch(kLoopback);
    EXPECT_EQ(errors.read(kLoopback), Errors{}) << "it is added again";
    errors.forget(kLoopback);
    redirect_in_vain();
    EXPECT_EQ(errors.read(kLoopback), std::nullopt) << "it is a port no more";
}

}  // namespace
}  // namespace flowxlate
