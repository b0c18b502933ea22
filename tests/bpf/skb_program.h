// SPDX-License-Identifier: Apache-2.0
// The program at TC's ingress, on the tables of an XDP program's test, so that rows of the
// one are rows of the other.
#ifndef TESTS_BPF_SKB_PROGRAM_H
#define TESTS_BPF_SKB_PROGRAM_H

#include <memory>
#include <span>
#include <vector>

#include "program.h"
#include "row.h"

struct skb_shown_bpf;

namespace flowxlate::test {

struct SkbShownDeleter {
    void operator()(skb_shown_bpf *) const;
};

class SkbProgram : public Program {
public:
    // What a frame has beside it.
    struct Beside {
        bool keep_tag = false;  // The outermost tag stays in the frame.
        uint32_t gso_size = 0;  // It is several segments.
    };

    explicit SkbProgram(bool kernel_ct = false, const BpfMaps::Config & = {},
                        const SkbProgram *takes_over_from = nullptr);

    // Tells XDP's verdicts, for rows: passed on, dropped, redirected.
    Run run(const Frame &in, uint32_t queue = 0, uint32_t metadata = 0, bool *ok = nullptr) override;
    Run run_with(const Frame &in, const Beside &);
    bool completes() const override { return false; }
    const char *hook() const override { return "skb"; }
    Calls calls() const override;

    // The program as it is installed.
    int skb_fd() const;
    uint32_t verified() const;

private:
    SkbSkeleton real_;
    std::unique_ptr<skb_shown_bpf, SkbShownDeleter> shown_;
};

SkbProgram &skb_program();

// Does the same with the program of each hook, whose name is told where it fails; from
// empty tables, as others may have left flows there.
template <typename Fn>
void at_each_hook(Fn check) {
    for (Program *p : {&program(), static_cast<Program *>(&skb_program())}) {
        SCOPED_TRACE(p->hook());
        p->remove_all();
        check(*p);
    }
}

// Rows as they are at TC's ingress, where nothing partial is completed: those of which that
// is expected are left out.
std::vector<Row> at_skb(std::span<const Row>);

class SkbTest : public testing::TestWithParam<Row> {};

}  // namespace flowxlate::test

#endif
