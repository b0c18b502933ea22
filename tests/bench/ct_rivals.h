// SPDX-License-Identifier: Apache-2.0
// What ct() is measured beside: connections in an LRU hash map
// (hash_ct.bpf.c), and those of the kernel's own connection tracker
// (kfunc_ct.bpf.c).  Both execute the flows of a pipeline by a hash map per
// recirculation id.
#ifndef TESTS_BENCH_CT_RIVALS_H
#define TESTS_BENCH_CT_RIVALS_H

#include <memory>
#include <string>
#include <vector>

#include "ct_rivals_abi.h"
#include "flowxlate/base/resource.h"
#include "pipelines.h"

struct hash_ct_bpf;  // The skeletons.
struct kfunc_ct_bpf;

namespace flowxlate::bench {

// Of flows: as ours, or no longer than IPv4 needs.
enum Keys { kWholeKeys, kIpv4Keys };

// The flows of the rival with this skeleton.
template <typename Skeleton>
class CtRival {
public:
    int fd() const;

protected:
    CtRival();
    ~CtRival();
    // Loads the program, which redirects into 'devmap', with the flows of 'p'.
    void load(const Pipeline &p, int devmap, Keys);

    struct Deleter {
        void operator()(Skeleton *) const;
    };
    const std::unique_ptr<Skeleton, Deleter> skeleton_;

private:
    void add(const test::FlowSpec &);

    uint32_t key_size_ = 0, value_size_ = 0;
    std::vector<Fd> maps_;
};

class HashCt : public CtRival<hash_ct_bpf> {
public:
    // For as many connections at most, in both directions.
    HashCt(const Pipeline &p, int devmap, uint32_t max_connections,
           Keys keys = kWholeKeys);
    void add(const std::vector<ovs_offload_ct> &);
};

// Its connections are those of the network namespace in which it runs.
class KfuncCt : public CtRival<kfunc_ct_bpf> {
public:
    KfuncCt(const Pipeline &p, int devmap);
    // A program that makes a connection of each packet that it gets.
    int insert_fd() const;
    // Why the kernel has no connection of 'in'; empty if it has, now.
    std::string insert(const test::Frame &in);

    // Why this kernel does not offer it; empty if it does.
    static std::string missing();
};

}  // namespace flowxlate::bench

#endif
