// SPDX-License-Identifier: Apache-2.0
// What ovs-vswitchd's calls cost: flows and ports through the plugin's C ABI.
//
// The plugin runs on veth pairs in a network namespace of this process alone,
// which disappears with it.  The rival gets the same flows: a BPF hash map as
// a megaflow table (rivals.bpf.c), through the system calls that it needs.
// What the plugin does beyond that is part of its figures: decoding netlink
// attributes, its own books, and waiting until a removed flow's counters are
// final.
//
// This thread and the plugin's worker use the first CPU; where packets are
// forwarded at the same time (churn) that happens on the second.
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>

#include <algorithm>
#include <memory>
#include <stdexcept>

#include "churn.h"
#include "measure.h"
#include "memory.h"
#include "plugin_host.h"
#include "rivals.h"
#include "rivals_abi.h"

namespace flowxlate::bench {
namespace {

using test::kOut;
using namespace std::chrono_literals;

constexpr uint32_t kFullTable = 65535;     // Flows; leaves room to modify one.
constexpr uint32_t kResident = 1000;       // Flows that are always there.
constexpr uint32_t kFirstFresh = 1 << 20;  // Others have higher numbers.
constexpr const char *kSpare = "b2";       // A device that is no port.
constexpr int kPorts[] = {2, 8, 64};

// -- Megaflow tables --------------------------------------------------------

FlowTarget plugin_target(Plugin *plugin, int in, int out) {
    auto offer = std::make_shared<Offer>(in, out);
    return {[=](uint32_t i) { plugin->put(offer->flow(i)); },
            [=](uint32_t i) { plugin->put(offer->flow(i, true)); },
            [=](uint32_t i) { plugin->del(i); }};
}

// FlowTable alone, without the decoding of attributes and the plugin's books.
class Library {
public:
    explicit Library(size_t max_flows) { slots_.reserve(max_flows); }

    void put(uint32_t i) {
        spec_.key.ipv4_src = htonl(RIVAL_FLOW_ADDRESS + i);
        spec_.key.tp_src = htons(i);
        FlowSlot slot;
        if (auto r = program_.table().insert(spec_.cls, spec_.key, spec_.mask,
                                             spec_.action, &slot)) {
            fail("FlowTable::insert: " + r.name(), r.error);
        }
        slots_.push_back(slot);
    }
    void remove_all() {
        for (auto slot : slots_) {
            program_.table().remove(slot);
        }
        slots_.clear();
        program_.remove_all();  // Waits, and gives back what was removed.
    }
    int devmap() const { return program_.tx_ports_fd(); }

private:
    test::Program program_;
    FlowSpec spec_ = flow_spec(0);
    std::vector<FlowSlot> slots_;
};

FlowTarget hash_map_target(int map, const HashWalk &walk) {
    auto key = std::make_shared<xf_key>(flow_spec(0).key);
    auto set_key = [key](uint32_t i) {
        key->ipv4_src = htonl(RIVAL_FLOW_ADDRESS + i);
        key->tp_src = htons(i);
        return key.get();
    };
    auto update = [=](uint32_t i, const std::vector<uint8_t> &value) {
        if (bpf_map_update_elem(map, set_key(i), value.data(), BPF_ANY)) {
            fail("bpf_map_update_elem");
        }
    };
    return {[=, v = walk.value(kOut)](uint32_t i) { update(i, v); },
            [=, v = walk.value(test::kDown)](uint32_t i) { update(i, v); },
            [=](uint32_t i) {
                if (bpf_map_delete_elem(map, set_key(i))) {
                    fail("bpf_map_delete_elem");
                }
            }};
}
// -- The benchmark ----------------------------------------------------------

class ControlPlane {
public:
    ControlPlane(const Options &options, Results *results)
        : options_(options), results_(*results) {}
    void run();

private:
    void measure_memory();
    void measure_round();
    void measure_ports();
    void measure_calls();
    void measure_full();
    void measure_until_hit();
    void measure_rivals_calls();
    void measure_fill_and_dump();
    void measure_hash_map_fill_and_dump();
    void measure_churn();
    void measure_churn_of(const std::string &suffix, const FlowTarget &,
                          int program);
    void measure_growth();
    Fd program_with_flow(const PluginPort &, int out, uint32_t number);
    void add_percentiles(const std::string &name, std::vector<double> us);
    void put_all(const FlowTarget &, uint32_t first, uint32_t n);
    void del_all(const FlowTarget &, uint32_t first, uint32_t n);
    std::vector<double> time_each(const std::function<void(uint32_t)> &);

    const Options options_;
    Results &results_;
    const uint32_t n_calls_ = options_.quick ? 300 : 2000;

    std::unique_ptr<Plugin> plugin_;
    std::unique_ptr<PluginPort> in_, out_;
    FlowTarget target_;
    Fd program_;
    std::unique_ptr<Library> library_;
    std::unique_ptr<HashWalk> walk_;
    FlowTarget hash_map_;
};

void ControlPlane::run() {
    if (!pin_to_cpu(0)) {
        fail("cannot choose a CPU");
    }
    enter_namespace();
    make_links("b", 3);
    make_links("r", kPorts[std::size(kPorts) - 1] - 2);
    measure_memory();
    library_ = std::make_unique<Library>(n_calls_);
    walk_ = std::make_unique<HashWalk>(library_->devmap(), kFullTable + 1);
    walk_->add(flow_spec(0));
    hash_map_ = hash_map_target(walk_->map_fd(0), *walk_);

    put_all(target_, 0, kResident);
    put_all(hash_map_, 0, kResident);
    wait_until_in_fast_path(plugin_.get(), 0);
    expect_verdict("ours", program_.get(), varied_packet(0), XDP_REDIRECT);
    expect_verdict("hash walk", walk_->fd(), varied_packet(0), XDP_REDIRECT);
    for (int i = 0; i < options_.rounds; i++) {
        measure_round();
    }
}

void ControlPlane::measure_round() {
    measure_ports();
    measure_calls();
    measure_rivals_calls();
    measure_full();
    measure_until_hit();
    measure_fill_and_dump();
    measure_hash_map_fill_and_dump();
    measure_churn();
    measure_growth();
}

void ControlPlane::put_all(const FlowTarget &target, uint32_t first,
                           uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        target.put(first + i);
    }
}

void ControlPlane::del_all(const FlowTarget &target, uint32_t first,
                           uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        target.del(first + i);
    }
}

// Everything that the plugin takes with all flows in place, by flow; and what
// one more port adds.
void ControlPlane::measure_memory() {
    const double before = memory_bytes();
    plugin_ = std::make_unique<Plugin>();
    in_ = std::make_unique<PluginPort>(plugin_.get(), "b0");
    out_ = std::make_unique<PluginPort>(plugin_.get(), "b1");
    program_ = in_->program();
    target_ = plugin_target(plugin_.get(), in_->ifindex(), out_->ifindex());
    const double empty = memory_bytes();
    {
        const PluginPort port(plugin_.get(), kSpare);
        results_.add("port_bytes", "bytes", memory_bytes() - empty);
    }
    put_all(target_, kFirstFresh, kFullTable);
    results_.add("bytes_per_flow", "bytes",
                 (memory_bytes() - before) / kFullTable);
    del_all(target_, kFirstFresh, kFullTable);
}

void ControlPlane::measure_ports() {
    std::unique_ptr<PluginPort> port;
    auto add = [&] {
        port = std::make_unique<PluginPort>(plugin_.get(), kSpare);
    };
    results_.add("port_add_ms", "ms", elapsed_ms(add));
    results_.add("port_del_ms", "ms", elapsed_ms([&] { port.reset(); }));

    // The least that any program needs.
    std::unique_ptr<Bare> bare;
    Fd link;
    auto add_bare = [&] {
        bare = std::make_unique<Bare>(library_->devmap());
        link = attach(bare->fd(), kSpare);
    };
    auto del_bare = [&] {
        link = Fd();
        bare.reset();
    };
    results_.add("port_add_bare_ms", "ms", elapsed_ms(add_bare));
    results_.add("port_del_bare_ms", "ms", elapsed_ms(del_bare));
}

std::vector<double> ControlPlane::time_each(
    const std::function<void(uint32_t)> &call) {
    std::vector<double> us;
    for (uint32_t i = 0; i < n_calls_; i++) {
        us.push_back(elapsed_us([&] { call(kFirstFresh + i); }));
    }
    return us;
}

void ControlPlane::add_percentiles(const std::string &name,
                                   std::vector<double> us) {
    results_.add(name + "p50_us", "us", percentile(us, 50));
    results_.add(name + "p99_us", "us", percentile(us, 99));
}

void ControlPlane::measure_calls() {
    add_percentiles("insert.call_", time_each(target_.put));
    add_percentiles("modify.", time_each(target_.modify));
    add_percentiles("delete.", time_each(target_.del));
}

void ControlPlane::measure_rivals_calls() {
    add_percentiles("insert.hash_map_", time_each(hash_map_.put));
    add_percentiles("modify.hash_map_", time_each(hash_map_.modify));
    add_percentiles("delete.hash_map_", time_each(hash_map_.del));

    add_percentiles("insert.library_",
                    time_each([this](uint32_t i) { library_->put(i); }));
    library_->remove_all();
}

// The longest call while the table is full and each new flow comes just when
// another one goes, whose slot is not free before a grace period: a thread of
// OVS waits for it.
void ControlPlane::measure_full() {
    constexpr uint32_t n = kFullTable + 1 - kResident;
    std::this_thread::sleep_for(200ms);  // Removed flows are given back.
    put_all(target_, kFirstFresh, n);
    Offer offer(in_->ifindex(), out_->ifindex());
    std::vector<double> put_us, del_us;
    uint32_t n_refused = 0;
    for (uint32_t i = 0; i < n_calls_; i++) {
        const auto flow = offer.flow(kFirstFresh + n + i);
        int error = 0;
        del_us.push_back(elapsed_us([&] { target_.del(kFirstFresh + i); }));
        put_us.push_back(elapsed_us(
            [&] { error = plugin_->ops().flow_put(plugin_->self(), &flow); }));
        n_refused += error == ENOSPC;
    }
    if (!n_refused) {
        throw std::runtime_error("the table was not full");
    }
    results_.add("full.put_max_us", "us", *std::ranges::max_element(put_us));
    results_.add("full.delete_max_us", "us",
                 *std::ranges::max_element(del_us));
    for (uint32_t i = n_calls_; i < n + n_calls_; i++) {
        (void)plugin_->ops().flow_del(
            plugin_->self(), Offer::ufid(kFirstFresh + i).bytes.data(),
            nullptr);
    }
}

// From the beginning of flow_put() until a packet has hit the flow.
void ControlPlane::measure_until_hit() {
    constexpr int kTries = 1000;
    std::vector<double> us, floor;
    const Frame resident = varied_packet(0);
    for (uint32_t i = kFirstFresh; i < kFirstFresh + n_calls_; i++) {
        const Frame in = varied_packet(i);
        floor.push_back(
            elapsed_us([&] { run_once(program_.get(), resident); }));
        us.push_back(elapsed_us([&] {
            target_.put(i);
            int n = 0;
            while (run_once(program_.get(), in) != XDP_REDIRECT) {
                if (++n == kTries) {
                    throw std::runtime_error("a flow that was put is not hit");
                }
            }
        }));
    }
    add_percentiles("insert.", us);
    results_.add("insert.test_run_us", "us", median(floor));
    del_all(target_, kFirstFresh, n_calls_);
}

void ControlPlane::measure_fill_and_dump() {
    constexpr uint32_t n = kFullTable - kResident;
    std::this_thread::sleep_for(200ms);  // Removed flows are given back.
    const double us = elapsed_us([&] { put_all(target_, kFirstFresh, n); });
    results_.add("insert.per_s", "1/s", n * 1e6 / us);

    size_t missing = 0;
    auto read = [&](uint32_t first, uint32_t end) {
        for (uint32_t i = first; i < end; i++) {
            missing += !plugin_->in_fast_path(i);
        }
    };
    auto dump = [&] {
        read(0, kResident);
        read(kFirstFresh, kFirstFresh + n);
    };
    results_.add("dump_64k_ms", "ms", elapsed_ms(dump));
    if (missing) {
        throw std::runtime_error("dump: flows are missing");
    }
    del_all(target_, kFirstFresh, n);
}

// Reads the whole map in batches; returns the number of its entries.
size_t dump_hash_map(int map, size_t value_size) {
    constexpr uint32_t kBatch = 4096;
    std::vector<xf_key> keys(kBatch);
    std::vector<uint8_t> values(kBatch * value_size);
    uint32_t position = 0;
    size_t sum = 0;
    for (bool first = true;; first = false) {
        uint32_t n = kBatch;
        const int error =
            bpf_map_lookup_batch(map, first ? nullptr : &position, &position,
                                 keys.data(), values.data(), &n, nullptr);
        if (error && error != -ENOENT) {
            fail("bpf_map_lookup_batch", -error);
        }
        sum += n;
        if (error) {
            return sum;
        }
    }
}

void ControlPlane::measure_hash_map_fill_and_dump() {
    constexpr uint32_t n = kFullTable - kResident;
    const double us = elapsed_us([&] { put_all(hash_map_, kFirstFresh, n); });
    results_.add("insert.hash_map_per_s", "1/s", n * 1e6 / us);

    const size_t value_size = walk_->value(kOut).size();
    size_t found = 0;
    auto dump = [&] { found = dump_hash_map(walk_->map_fd(0), value_size); };
    results_.add("dump_64k_hash_map_ms", "ms", elapsed_ms(dump));
    if (found != kFullTable) {
        throw std::runtime_error("dump: entries of the hash map are missing");
    }
    std::string name;
    results_.add("bytes_per_flow_hash_map", "bytes",
                 static_cast<double>(bpf_object_bytes(walk_->map_fd(0), &name))
                     / kFullTable);
    del_all(hash_map_, kFirstFresh, n);
}

void ControlPlane::measure_churn_of(const std::string &suffix,
                                    const FlowTarget &target, int program) {
    const auto duration = options_.quick ? 100ms : 300ms;
    const Frame in = varied_packet(0);
    const double quiet = forwarding_rate(program, in, duration);
    Churn churn(target);
    const double busy = forwarding_rate(program, in, duration);
    results_.add("churn_per_s" + suffix, "1/s", churn.stop());
    results_.add("churn_ratio" + suffix, "ratio", busy / quiet);
    results_.add("churn_pps" + suffix, "1/s", busy);
}

void ControlPlane::measure_churn() {
    measure_churn_of("", target_, program_.get());
    // Else every batch pays for patching the kernel's XDP dispatcher.
    const Fd link = attach(walk_->fd(), kSpare);
    measure_churn_of("_hash_walk", hash_map_, walk_->fd());
}

// -- Growth with ports ------------------------------------------------------

// Mean cost of a packet while packets come in through the programs in turn, 64
// at a time, as a driver hands them over.
double time_in_turn(const std::vector<Fd> &programs, int n_batches) {
    const Frame in = varied_packet(0);
    double sum = 0;
    for (int i = 0; i < n_batches; i++) {
        sum += test::time_program(programs[i % programs.size()].get(), in, 64);
    }
    return sum / n_batches;
}

// Puts a flow from 'port' to device 'out'.  All ports get the same packet, so
// their flows differ only in the port.
Fd ControlPlane::program_with_flow(const PluginPort &port, int out,
                                   uint32_t number) {
    Offer offer(port.ifindex(), out);
    auto flow = offer.flow(0);
    const Ufid ufid = Offer::ufid(number);
    flow.ufid = ufid.bytes.data();
    plugin_->put(flow);
    wait_until_in_fast_path(plugin_.get(), number);
    Fd program = port.program();
    expect_verdict("ours_ports", program.get(), varied_packet(0),
                   XDP_REDIRECT);
    return program;
}

// Every port has a program of its own, and the kernel's XDP dispatcher tells
// them apart, so both are in the figure.  One program that only redirects is
// measured beside them.
void ControlPlane::measure_growth() {
    const int n_batches = options_.quick ? 1280 : 6400;
    std::vector<std::unique_ptr<PluginPort>> more;
    std::vector<Fd> programs, bare_programs;
    uint32_t next_flow = kFirstFresh;
    const Bare bare(library_->devmap());
    const Fd link = attach(bare.fd(), kSpare);
    bare_programs.emplace_back(dup(bare.fd()));
    programs.push_back(in_->program());
    programs.push_back(program_with_flow(*out_, in_->ifindex(), next_flow++));
    for (int n : kPorts) {
        const auto suffix = "_ports." + std::to_string(n);
        while (programs.size() < static_cast<size_t>(n)) {
            auto &port = more.emplace_back(std::make_unique<PluginPort>(
                plugin_.get(), "r" + std::to_string(more.size())));
            programs.push_back(
                program_with_flow(*port, out_->ifindex(), next_flow++));
        }
        results_.add("program_ns.bare" + suffix, "ns",
                     time_in_turn(bare_programs, n_batches));
        results_.add("program_ns.ours" + suffix, "ns",
                     time_in_turn(programs, n_batches));
    }
    more.clear();
    del_all(target_, kFirstFresh, next_flow - kFirstFresh);
}

}  // namespace
}  // namespace flowxlate::bench

int main(int argc, char **argv) {
    using namespace flowxlate::bench;
    return run_main(argc, argv, [](const Options &options, Results *results) {
        ControlPlane(options, results).run();
    });
}
