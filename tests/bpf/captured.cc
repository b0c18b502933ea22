// SPDX-License-Identifier: Apache-2.0
#include "captured.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <cstring>
#include <stdexcept>
#include <utility>

#include "xdp_offload.skel.h"

namespace flowxlate::test {
namespace {

int append(void *raw, void *data, size_t size) {
    const auto *p = static_cast<const uint8_t *>(data);
    static_cast<std::vector<std::vector<uint8_t>> *>(raw)->emplace_back(p, p + size);
    return 0;
}

Captured::Record parse(const std::vector<uint8_t> &raw) {
    Captured::Record r;
    if (raw.size() < sizeof r.head) {
        throw std::runtime_error("a short record");
    }
    std::memcpy(&r.head, raw.data(), sizeof r.head);
    const size_t data_end = sizeof r.head + ((r.head.len + 7) & ~7U);
    const size_t end = data_end + r.head.n_flows * sizeof(xf_ufid)
                     + (r.head.verdict == XF_GROUP ? sizeof(xf_group) : 0);
    if (raw.size() != end) {
        throw std::runtime_error("a record of another length");
    }
    const auto data = raw.begin() + sizeof r.head;
    r.data.assign(data, data + r.head.len);
    for (int i = 0; i < r.head.n_flows; i++) {
        r.flows.push_back(Ufid::from(raw.data() + data_end + i * sizeof(xf_ufid)));
    }
    return r;
}

}  // namespace

Captured::Captured(Program &program, const CaptureSizes &sizes) : program_(program) {
    BpfMaps &maps = program.maps();
    if (maps.create_names(&names_)
        || maps.open_capture({kIn}, -1, sizes, names_, &skeleton_)
        || xdp_offload_bpf::load(skeleton_.get())) {
        throw std::runtime_error("the program that copies does not load");
    }
    program.table().set_names(names_.by_slot);
    lease_ = Mapping(bpf_map__fd(skeleton_->maps.xf_lease), sysconf(_SC_PAGESIZE));
    ring_.reset(ring_buffer__new(bpf_map__fd(skeleton_->maps.xf_captured), append, &raw_, nullptr));
    if (!lease_ || !ring_) {
        throw std::runtime_error("cannot map what is copied");
    }
    lease().until_ns = UINT64_MAX;
}

Captured::~Captured() { program_.table().set_names({}); }

int Captured::fd() const {
    return bpf_program__fd(skeleton_->progs.xsk_def_prog);
}

Run Captured::run(const Frame &in) const {
    Run run;
    run.out.resize(in.size() + 256);
    LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = in.data(),
                .data_out = run.out.data(),
                .data_size_in = static_cast<uint32_t>(in.size()),
                .data_size_out = static_cast<uint32_t>(run.out.size()),
                .repeat = 1);
    if (bpf_prog_test_run_opts(fd(), &opts)) {
        throw std::runtime_error("BPF_PROG_TEST_RUN");
    }
    run.verdict = opts.retval;
    run.out.resize(opts.data_size_out);
    return run;
}

std::vector<Captured::Record> Captured::take() {
    (void)ring_buffer__consume(ring_.get());
    std::vector<Record> records;
    for (auto &raw : std::exchange(raw_, {})) {
        records.push_back(parse(raw));
    }
    return records;
}

}  // namespace flowxlate::test
