// SPDX-License-Identifier: Apache-2.0
#include "skb_program.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/pkt_cls.h>

#include <cstring>
#include <stdexcept>

#include "flowxlate/kernel/shared_program.h"
#include "reference.h"
#include "skb_offload.skel.h"
#include "skb_shown.skel.h"

namespace flowxlate::test {
namespace {

// Has 'to' the maps and constants of 'from', which is made of the same code?
bool is_lent(skb_offload_bpf *from, skb_shown_bpf *to) {
    int error = bpf_map__reuse_fd(to->maps.xf_skb_ports, bpf_map__fd(from->maps.xf_skb_ports));
    error |= bpf_map__reuse_fd(to->maps.xf_next, bpf_map__fd(from->maps.xf_next));
#define XF_MAP(NAME, VALUE, ENTRIES, WRITER, SCOPE, ACCESS) \
    error |= bpf_map__reuse_fd(to->maps.NAME, bpf_map__fd(from->maps.NAME));
#include "bpf/abi/maps.def"
#undef XF_MAP
    static_assert(sizeof *from->rodata == sizeof *to->rodata);
    std::memcpy(to->rodata, from->rodata, sizeof *to->rodata);
    return !error;
}

uint32_t as_xdp(int action) {
    switch (action) {
        case TC_ACT_UNSPEC:
            return XDP_PASS;
        case TC_ACT_SHOT:
            return XDP_DROP;
        case TC_ACT_REDIRECT:
            return XDP_REDIRECT;
        default:
            return XDP_ABORTED;
    }
}

}  // namespace

void SkbShownDeleter::operator()(skb_shown_bpf *s) const { skb_shown_bpf::destroy(s); }

SkbProgram::SkbProgram(bool kernel_ct, const BpfMaps::Config &config, const SkbProgram *takes_over_from)
    : Program(XF_PORT_TX_SKB, nullptr, {.in_kernel_datapath = kernel_ct, .kernel_ct = kernel_ct}, config) {
    shown_.reset(skb_shown_bpf::open());
    const int next = takes_over_from ? takes_over_from->calls().next : -1;
    if (load_program(maps(), {kIn, XF_PORT_TX_SKB, {kernel_ct, kernel_ct}}, next, &real_) || !shown_ || !is_lent(real_.get(), shown_.get())
        || skb_shown_bpf::load(shown_.get())) {
        throw std::runtime_error("the program for sk_buffs does not load");
    }
}

Program::Calls SkbProgram::calls() const { return {bpf_map__fd(real_->maps.xf_next), skb_fd(), bpf_program__fd(real_->progs.xf_sample)}; }

int SkbProgram::skb_fd() const { return bpf_program__fd(real_->progs.xf_skb); }

uint32_t SkbProgram::verified() const {
    bpf_prog_info info{};
    __u32 len = sizeof info;
    return bpf_obj_get_info_by_fd(skb_fd(), &info, &len) ? UINT32_MAX : info.verified_insns;
}

Run SkbProgram::run(const Frame &in, uint32_t, uint32_t, bool *) { return run_with(in, {}); }

Run SkbProgram::run_with(const Frame &in, const Beside &beside) {
    __sk_buff ctx{};
    Run run;
    run.out.resize(in.size() + 64);
    ctx.cb[0] = beside.keep_tag;
    ctx.gso_size = beside.gso_size;
    ctx.gso_segs = beside.gso_size ? in.size() / beside.gso_size + 1 : 0;
    LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = in.data(), .data_out = run.out.data(),
                .data_size_in = static_cast<uint32_t>(in.size()),
                .data_size_out = static_cast<uint32_t>(run.out.size()), .ctx_in = &ctx,
                .ctx_size_in = sizeof ctx, .repeat = 1);
    if (bpf_prog_test_run_opts(bpf_program__fd(shown_->progs.skb_shown), &opts)) {
        throw std::runtime_error(std::string("BPF_PROG_TEST_RUN: ") + std::strerror(errno));
    }
    run.verdict = as_xdp(static_cast<int>(opts.retval));
    run.out.resize(opts.data_size_out);
    return run;
}

SkbProgram &skb_program() {
    static SkbProgram p;
    return p;
}

std::vector<Row> at_skb(std::span<const Row> rows) {
    std::vector<Row> all;
    for (auto &row : rows) {
        const Frame in = row.in();
        const bool is_partial = parse(in, 2) && complete(in, 2) != in;
        if (row.verdict != XDP_REDIRECT || !is_partial) {
            all.push_back(row);
        }
    }
    return all;
}

}  // namespace flowxlate::test
