// SPDX-License-Identifier: Apache-2.0
#include "kernel/bpf_maps.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <sys/random.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <new>
#include <utility>

#include <boost/container/small_vector.hpp>

#include "bpf/abi/counters.h"
#include "kernel/cpus.h"
#include "skb_kernel.skel.h"
#include "skb_offload.skel.h"
#include "tables/crc32c_zeros.h"
#include "xdp_kernel.skel.h"
#include "xdp_offload.skel.h"

namespace flowxlate {
namespace {

// A skeleton's maps but for those that every port has its own of.
using MapRefs = boost::container::small_vector<bpf_map *, 32>;

// Those that a trace shares as well, and those that only ports share.
MapRefs maps_of(xdp_offload_bpf *s, MapScope scope) {
    MapRefs maps;
    auto add = [&](bpf_map *map, MapScope its_scope) {
        if (its_scope == scope) {
            maps.push_back(map);
        }
    };
#define XF_SCOPE_TRACE MapScope::kTrace
#define XF_SCOPE_PORTS MapScope::kPorts
#define XF_MAP(NAME, VALUE, ENTRIES, WRITER, SCOPE, ACCESS) \
    add(s->maps.NAME, XF_SCOPE_##SCOPE);
#include "bpf/abi/maps.def"
#undef XF_MAP
    add(s->maps.xf_tx_ports, MapScope::kTrace);
    add(s->maps.xf_group_tx, MapScope::kTrace);
    add(s->maps.xf_copies, MapScope::kPorts);
    add(s->maps.xf_captured, MapScope::kCapture);
    add(s->maps.xf_capturing, MapScope::kCapture);
    add(s->maps.xf_lease, MapScope::kCapture);
    add(s->maps.xf_ufids, MapScope::kCapture);
    return maps;
}

// Lets the program of one skeleton, not loaded yet, use maps of another.
Failure share(xdp_offload_bpf *from, xdp_offload_bpf *to, MapScope scope) {
    const auto theirs = maps_of(from, scope), ours = maps_of(to, scope);
    for (size_t i = 0; i < ours.size(); i++) {
        if (int error = bpf_map__reuse_fd(ours[i], bpf_map__fd(theirs[i]))) {
            return failure(error, "cannot share the BPF maps");
        }
    }
    return {};
}

// The same for the program of the other hook, which has the arrays and the
// copies alone.
Failure share_arrays(xdp_offload_bpf *from, skb_offload_bpf *to) {
    int error = bpf_map__reuse_fd(to->maps.xf_copies,
                                  bpf_map__fd(from->maps.xf_copies));
#define XF_MAP(NAME, VALUE, ENTRIES, WRITER, SCOPE, ACCESS) \
    error = error ? error                                   \
                  : bpf_map__reuse_fd(to->maps.NAME,        \
                                      bpf_map__fd(from->maps.NAME));
#include "bpf/abi/maps.def"
#undef XF_MAP
    return error ? failure(error, "cannot share the BPF maps") : Failure{};
}

// Points 'slot' of a device map at a device, or at nothing.
int set_device(int map_fd, PortSlot slot, Ifindex ifindex) {
    const uint32_t key = index(slot), value = index(ifindex);
    const bool failed = value
                          ? bpf_map_update_elem(map_fd, &key, &value, BPF_ANY)
                          : bpf_map_delete_elem(map_fd, &key);
    return !failed || (!value && errno == ENOENT) ? 0 : errno;
}

// What a program that several ports share finds a port by.
uint64_t in_port_entry(PortSlot slot, Ifindex ifindex) {
    return uint64_t{index(slot)} << XF_IN_PORT_SHIFT
         | static_cast<uint32_t>(index(ifindex));
}

bool has_entry(const xf_cache_set &set, uint32_t entry) {
    return std::ranges::any_of(set.ways, [=](uint64_t ways) {
        return static_cast<uint32_t>(ways) == entry
            || ways >> XF_CACHE_WAY_BITS == entry;
    });
}

// Has a program of ours ever run there?
bool has_run(xf_cpu &cpu) {
    return std::atomic_ref(cpu.seq).load(std::memory_order_relaxed) != 0;
}

// Some 900 copies.
constexpr uint32_t kCopiesBytes = 1 << 18;

size_t round_to_page(size_t n) {
    const size_t page = sysconf(_SC_PAGESIZE);
    return (n + page - 1) / page * page;
}

// Called by libbpf for each copy that is there.  C functions are in between,
// so nothing may throw: what there is no memory for is lost, and copied again.
int append_copy(void *copies, void *data, size_t size) noexcept {
    if (size < sizeof(xf_copy)) {
        return 0;
    }
    try {
        static_cast<std::vector<xf_copy> *>(copies)->push_back(
            *static_cast<const xf_copy *>(data));
    } catch (const std::bad_alloc &) {
        return -ENOMEM;
    }
    return 0;
}

// A time-out of nf_conntrack's in this namespace, in milliseconds.
uint32_t conntrack_timeout_ms(const char *name, uint64_t default_seconds) {
    std::ifstream file(std::string("/proc/sys/net/netfilter/") + name);
    uint64_t seconds = 0;
    if (!(file >> seconds)) {
        seconds = default_seconds;
    }
    return static_cast<uint32_t>(
        std::min<uint64_t>(seconds * 1000, UINT32_MAX));
}

// Of established connections.
uint32_t tcp_timeout_ms() {
    constexpr uint64_t kDefault = 432000;  // 5 days, nf_conntrack_proto_tcp.c
    return conntrack_timeout_ms("nf_conntrack_tcp_timeout_established",
                                kDefault);
}

// A sixteenth of the time after which act_ct takes a connection of which it
// has seen nothing out of its table.
uint32_t tc_refresh_ms() {
    constexpr uint64_t kDefault = 30;  // NF_FLOW_TIMEOUT
    return std::min(conntrack_timeout_ms("nf_flowtable_tcp_timeout", kDefault),
                    conntrack_timeout_ms("nf_flowtable_udp_timeout", kDefault))
         / 16;
}

// The code that a skeleton is opened with: of one of two objects that differ
// in what ct() asks, and in nothing that a skeleton knows.
const void *code_of(const xdp_offload_bpf *, bool kernel_ct, size_t *size) {
    return kernel_ct ? xdp_kernel_bpf::elf_bytes(size)
                     : xdp_offload_bpf::elf_bytes(size);
}
const void *code_of(const skb_offload_bpf *, bool kernel_ct, size_t *size) {
    return kernel_ct ? skb_kernel_bpf::elf_bytes(size)
                     : skb_offload_bpf::elf_bytes(size);
}
int create(xdp_offload_bpf *s) { return xdp_offload_bpf__create_skeleton(s); }
int create(skb_offload_bpf *s) { return skb_offload_bpf__create_skeleton(s); }

// As a skeleton's open(), but for the code.
template <typename S>
Failure open_code(bool kernel_ct, std::unique_ptr<S, SkeletonDeleter> *out) {
    std::unique_ptr<S, SkeletonDeleter> s(
        static_cast<S *>(std::calloc(1, sizeof(S))));
    if (!s || create(s.get())) {
        return failure(ENOMEM, "cannot open the program");
    }
    s->skeleton->data =
        const_cast<void *>(code_of(s.get(), kernel_ct, &s->skeleton->data_sz));
    if (int error = bpf_object__open_skeleton(s->skeleton, nullptr)) {
        return failure(error, "cannot open the program");
    }
    *out = std::move(s);
    return {};
}

// Opens a skeleton whose program 'xf_sample' will not be loaded: only a port
// that is taken over needs it.
template <typename S>
Failure open_skeleton(bool kernel_ct, S *out) {
    if (auto f = open_code(kernel_ct, out)) {
        return f;
    }
    bpf_program__set_autoload((*out)->progs.xf_sample, false);
    return {};
}

}  // namespace

void RingBufferDeleter::operator()(ring_buffer *r) const {
    ring_buffer__free(r);
}

void SkeletonDeleter::operator()(xdp_offload_bpf *s) const {
    xdp_offload_bpf::destroy(s);
}

void SkeletonDeleter::operator()(skb_offload_bpf *s) const {
    skb_offload_bpf::destroy(s);
}

// How large the arrays are, and which row each CPU has.
Failure BpfMaps::lay_out(const Config &config) {
    std::vector<bool> is_online = config.is_online;
    if (is_online.empty()) {
        if (auto f = find_cpus(&is_online)) {
            return f;
        }
    }
    const auto n_cpus = static_cast<uint32_t>(is_online.size());
    const uint64_t memory =
        config.memory ? config.memory : default_memory(config.max_flows);
    rows_ = CpuRows(is_online,
                    MapSizes::max_rows(config.max_flows, n_cpus, memory));
    sizes_ = MapSizes::of(config.max_flows, config.max_connections, n_cpus,
                          rows_.n_rows());
    return sizes_.fit() ? Failure{}
                        : Failure{E2BIG, "too many flows or connections"};
}

Failure BpfMaps::create(const Config &config) {
    if (auto f = lay_out(config)) {
        return f;
    }
    if (getrandom(secret_.data(), sizeof secret_, 0)
        != static_cast<ssize_t>(sizeof secret_)) {
        return failure(errno, "cannot draw random numbers");
    }

    if (auto f = open_skeleton(false, &template_)) {
        return f;
    }
    size_maps(template_.get(), sizes_);
    set_constants(template_.get(), {});
    if (int error = xdp_offload_bpf::load(template_.get())) {
        return failure(error, "cannot load the XDP program");
    }
    if (auto f = map_arrays()) {
        return f;
    }
    skb_ports_ = Fd(bpf_map_create(BPF_MAP_TYPE_DEVMAP, "xf_skb_ports", 4, 4,
                                   XF_MAX_PORTS, nullptr));
    if (!skb_ports_) {
        return failure(errno, "cannot create a device map");
    }
    copies_.reset(ring_buffer__new(bpf_map__fd(template_->maps.xf_copies),
                                   append_copy, &copied_, nullptr));
    if (!copies_) {
        return failure(errno, "cannot map xf_copies");
    }
    return create_grace_maps();
}

std::vector<xf_copy> BpfMaps::take_copies() {
    (void)ring_buffer__consume(copies_.get());
    return std::exchange(copied_, {});
}

void BpfMaps::size_maps(xdp_offload_bpf *s, const MapSizes &sizes) {
#define XF_MAP(NAME, VALUE, ENTRIES, WRITER, SCOPE, ACCESS) \
    bpf_map__set_max_entries(s->maps.NAME, sizes.ENTRIES);
#include "bpf/abi/maps.def"
#undef XF_MAP
    bpf_map__set_max_entries(s->maps.xf_copies, kCopiesBytes);
}

template <typename S>
void BpfMaps::set_constants(S *s, const PortConstants &port) const {
    static_assert(sizeof s->rodata->xf_crc32c_zeros == sizeof kCrc32cZeros);
    std::memcpy(s->rodata->xf_crc32c_zeros, &kCrc32cZeros,
                sizeof kCrc32cZeros);
    s->rodata->xf_in_port = index(port.slot);
    s->rodata->xf_tx_flag = port.tx_flag;
    s->rodata->xf_kernel_datapath = port.traits.in_kernel_datapath;
    s->rodata->xf_kernel_ct = port.traits.kernel_ct;
    s->rodata->xf_of_tc = port.traits.of_tc;
    s->rodata->xf_tcp_timeout_ms =
        port.traits.kernel_ct ? tcp_timeout_ms() : 0;
    s->rodata->xf_tc_refresh_ms =
        port.traits.kernel_ct && port.traits.of_tc ? tc_refresh_ms() : 0;
    s->rodata->xf_bucket_mask = sizes_.buckets - 1;
    s->rodata->xf_n_slots = n_slots();
    s->rodata->xf_n_rows = rows_.n_rows();
    s->rodata->xf_slot_mask = slot_mask(n_slots());
    s->rodata->xf_cache_bits = cache_bits();
    s->rodata->xf_conn_bucket_mask = sizes_.conn_buckets - 1;
    s->rodata->xf_conn_mask = slot_mask(sizes_.conns);
    std::copy(
        secret_.begin(), secret_.end(),
        const_cast<uint64_t *>(reinterpret_cast<const volatile uint64_t *>(
            s->rodata->xf_secret)));
}

Failure BpfMaps::map_arrays() {
    Failure failed;
    auto map = [&]<typename T>(bpf_map *m, std::span<T> *out) {
        const size_t n = bpf_map__max_entries(m);
        Mapping mapping(bpf_map__fd(m), round_to_page(n * sizeof(T)));
        if (!mapping) {
            failed =
                failure(errno, std::string("cannot map ") + bpf_map__name(m));
            return;
        }
        *out = mapping.as<T>(n);
        mappings_.push_back(std::move(mapping));
    };
#define XF_MAP_MAPPED(NAME) map(template_->maps.NAME, &arrays_.NAME);
#define XF_MAP_INNER(NAME)
#define XF_MAP(NAME, VALUE, ENTRIES, WRITER, SCOPE, ACCESS) \
    XF_MAP_##ACCESS(NAME)
#include "bpf/abi/maps.def"
#undef XF_MAP
    tables_ = table_memory(arrays_, rows_, secret_);
    connections_ = conn_memory(arrays_, secret_);
    if (failed) {
        return failed;
    }
    set_max_tags(1);
    give_rows();
    return {};
}

// The kernel promises that user space which replaced an inner map returns only
// when no program can still use the old one (maybe_wait_bpf_programs() in
// kernel/bpf/syscall.c).  A map of maps that nobody uses makes that a wait for
// all programs.
Failure BpfMaps::create_grace_maps() {
    grace_inner_ = Fd(bpf_map_create(BPF_MAP_TYPE_ARRAY, "xf_grace_inner", 4,
                                     4, 1, nullptr));
    if (!grace_inner_) {
        return failure(errno, "cannot create a BPF map");
    }
    LIBBPF_OPTS(bpf_map_create_opts, opts,
                .inner_map_fd = static_cast<uint32_t>(grace_inner_.get()));
    grace_outer_ = Fd(bpf_map_create(BPF_MAP_TYPE_ARRAY_OF_MAPS, "xf_grace", 4,
                                     4, 1, &opts));
    return grace_outer_ ? Failure{}
                        : failure(errno, "cannot create a BPF map of maps");
}

Failure BpfMaps::wait_for_programs() {
    const uint32_t key = 0;
    const int fd = grace_inner_.get();
    if (bpf_map_update_elem(grace_outer_.get(), &key, &fd, BPF_ANY)) {
        return failure(errno, "cannot wait for running programs");
    }
    return {};
}

Failure BpfMaps::open_port(const PortConstants &port, int xsks_fd,
                           Skeleton *out) const {
    if (auto f = open_any_port(port, xsks_fd, out)) {
        return f;
    }
    return share(template_.get(), out->get(), MapScope::kCapture);
}

Failure BpfMaps::create_names(FlowNames *out) const {
    LIBBPF_OPTS(bpf_map_create_opts, opts, .map_flags = BPF_F_MMAPABLE);
    out->map = Fd(bpf_map_create(BPF_MAP_TYPE_ARRAY, "xf_ufids", 4,
                                 sizeof(xf_ufid), n_slots(), &opts));
    if (!out->map) {
        return failure(errno, "cannot create a BPF map");
    }
    out->memory =
        Mapping(out->map.get(), round_to_page(n_slots() * sizeof(xf_ufid)));
    if (!out->memory) {
        return failure(errno, "cannot map xf_ufids");
    }
    out->by_slot = out->memory.as<xf_ufid>(n_slots());
    return {};
}

Failure BpfMaps::open_capture(const PortConstants &port, int xsks_fd,
                              const CaptureSizes &sizes,
                              const FlowNames &names, Skeleton *out) const {
    Skeleton s;
    if (auto f = open_any_port(port, xsks_fd, &s)) {
        return f;
    }
    if (int error = bpf_map__reuse_fd(s->maps.xf_ufids, names.map.get())) {
        return failure(error, "cannot share the BPF maps");
    }
    bpf_map__set_max_entries(s->maps.xf_captured, sizes.ring);
    bpf_map__set_max_entries(s->maps.xf_capturing, n_cpus());
    bpf_map__set_value_size(s->maps.xf_capturing,
                            xf_capture_room(sizes.packet));
    s->rodata->xf_capture_bytes = sizes.packet;
    *out = std::move(s);
    return {};
}

// But for the maps of a capture.
Failure BpfMaps::open_any_port(const PortConstants &port, int xsks_fd,
                               Skeleton *out) const {
    Skeleton s;
    if (auto f = open_skeleton(port.traits.kernel_ct, &s)) {
        return f;
    }
    if (auto f = share(template_.get(), s.get(), MapScope::kTrace)) {
        return f;
    }
    if (auto f = share(template_.get(), s.get(), MapScope::kPorts)) {
        return f;
    }
    if (xsks_fd >= 0) {
        if (int error = bpf_map__reuse_fd(s->maps.xsks_map, xsks_fd)) {
            return failure(error, "cannot share the BPF maps");
        }
    }
    set_constants(s.get(), port);
    *out = std::move(s);
    return {};
}

Failure BpfMaps::open_skb(const PortConstants &port, SkbSkeleton *out) const {
    SkbSkeleton s;
    if (auto f = open_skeleton(port.traits.kernel_ct, &s)) {
        return f;
    }
    if (auto f = share_arrays(template_.get(), s.get())) {
        return f;
    }
    if (int error =
            bpf_map__reuse_fd(s->maps.xf_skb_ports, skb_ports_.get())) {
        return failure(error, "cannot share the BPF maps");
    }
    set_constants(s.get(), port);
    *out = std::move(s);
    return {};
}

// All CPUs have one row, as nobody has told them of any other: only one packet
// runs.
Failure BpfMaps::open_trace(const PortConstants &port, Skeleton *out) const {
    Skeleton s;
    if (auto f = open_skeleton(port.traits.kernel_ct, &s)) {
        return f;
    }
    size_maps(s.get(), sizes_.with_rows(1));
    if (auto f = share(template_.get(), s.get(), MapScope::kTrace)) {
        return f;
    }
    bpf_map__set_map_flags(s->maps.xf_flow_cache, BPF_F_MMAPABLE);
    set_constants(s.get(), port);
    s->rodata->xf_is_trace = 1;
    *out = std::move(s);
    return {};
}

std::vector<uint32_t> BpfMaps::cpus_that_predict(
    const CachePlace &place) const {
    const int fd = bpf_map__fd(template_->maps.xf_flow_cache);
    std::vector<uint32_t> cpus;
    for (uint32_t row = 0; row < rows_.n_rows(); row++) {
        const uint32_t i = (row << cache_bits()) + place.set;
        xf_cache_set set;
        if (bpf_map_lookup_elem(fd, &i, &set)
            || !has_entry(set, place.entry)) {
            continue;
        }
        std::ranges::copy_if(
            rows_.cpus_of(row), std::back_inserter(cpus),
            [this](uint32_t cpu) { return has_run(arrays_.xf_cpus[cpu]); });
    }
    std::ranges::sort(cpus);
    return cpus;
}

std::span<__u64> BpfMaps::in_port_ways(Ifindex ifindex) const {
    return arrays_.xf_in_ports[index(ifindex) % XF_IN_PORT_SETS].ways;
}

// Several threads may add ports at once.
void BpfMaps::note_device(PortSlot slot, Ifindex ifindex) {
    for (__u64 &way : in_port_ways(ifindex)) {
        __u64 none = 0;
        if (std::atomic_ref(way).compare_exchange_strong(
                none, in_port_entry(slot, ifindex))) {
            return;
        }
    }
}

void BpfMaps::forget_device(PortSlot slot) {
    for (xf_in_port_set &set : arrays_.xf_in_ports) {
        for (__u64 &way : set.ways) {
            if (std::atomic_ref(way).load() >> XF_IN_PORT_SHIFT
                == static_cast<uint32_t>(index(slot))) {
                std::atomic_ref(way).store(0);
            }
        }
    }
}

bool BpfMaps::knows_port(PortSlot slot, Ifindex ifindex) const {
    return std::ranges::any_of(in_port_ways(ifindex), [=](__u64 &way) {
        return std::atomic_ref(way).load() == in_port_entry(slot, ifindex);
    });
}

int BpfMaps::fd_of(const char *name) const {
    return bpf_object__find_map_fd_by_name(template_->obj, name);
}

Failure BpfMaps::set_tx_port(PortSlot slot, Ifindex ifindex) {
    if (!knows_port(slot, ifindex)) {
        forget_device(slot);
        note_device(slot, ifindex);
    }
    for (const int map :
         {bpf_map__fd(template_->maps.xf_tx_ports), skb_ports_.get()}) {
        if (const int error = set_device(map, slot, ifindex)) {
            return failure(error, "cannot add the device to the device map");
        }
    }
    return {};
}

bool BpfMaps::has_tx_port(PortSlot slot, Ifindex ifindex) const {
    const uint32_t key = index(slot);
    uint32_t there = 0;
    return !bpf_map_lookup_elem(skb_ports_.get(), &key, &there)
        && there == static_cast<uint32_t>(index(ifindex));
}

Failure BpfMaps::clear_tx_port(PortSlot slot) {
    Failure failed;
    forget_device(slot);
    for (const int map :
         {bpf_map__fd(template_->maps.xf_tx_ports), skb_ports_.get()}) {
        if (const int error = set_device(map, slot, Ifindex{})) {
            failed =
                failure(error, "cannot remove the device from the device map");
        }
    }
    return failed;
}

Failure BpfMaps::create_group(GroupSlot slot, Fd *devices) {
    const uint32_t key = index(slot);
    Fd map(bpf_map_create(BPF_MAP_TYPE_DEVMAP, "xf_group_devs", 4, 4,
                          XF_GROUP_PORTS, nullptr));
    const int fd = map.get();
    if (!map
        || bpf_map_update_elem(bpf_map__fd(template_->maps.xf_group_tx), &key,
                               &fd, BPF_ANY)) {
        return failure(errno, "cannot create a device map");
    }
    *devices = std::move(map);
    return {};
}

Failure BpfMaps::set_group(GroupSlot slot, const Fd &devices,
                           const Group &group,
                           std::span<const Ifindex> ifindexes) {
    xf_group &shared = arrays_.xf_groups[index(slot)];
    for (uint32_t i = 0; i < XF_GROUP_PORTS; i++) {
        const bool used = i < group.ports.size();
        const uint32_t device = used ? index(ifindexes[i]) : 0;
        const int error =
            used ? bpf_map_update_elem(devices.get(), &i, &device, BPF_ANY)
                 : bpf_map_delete_elem(devices.get(), &i);
        if (error && used) {
            return failure(errno, "cannot add a device to a group");
        }
        shared.port[i] = used ? index(group.ports[i]) : 0;
    }
    shared.keep_ingress = group.keep_ingress;
    std::atomic_ref(shared.n_ports)
        .store(group.ports.size(), std::memory_order_release);
    return {};
}

void BpfMaps::set_max_tags(uint32_t n) {
    std::atomic_ref(arrays_.xf_settings[0].max_tags)
        .store(n, std::memory_order_relaxed);
}

void set_deadline(std::span<xf_cpu> cpus, uint64_t now_ns, uint64_t jiffies) {
    for (xf_cpu &cpu : cpus) {
        std::atomic_ref(cpu.deadline)
            .store(jiffies, std::memory_order_relaxed);
        std::atomic_ref(cpu.alive_ns).store(now_ns, std::memory_order_relaxed);
    }
}

void BpfMaps::give_rows() {
    for (uint32_t i = 0; i < n_cpus(); i++) {
        xf_cpu &cpu = arrays_.xf_cpus[i];
        std::atomic_ref(cpu.row).store(rows_.row_of(i),
                                       std::memory_order_relaxed);
        std::atomic_ref(cpu.shares)
            .store(rows_.shares(i), std::memory_order_relaxed);
    }
}

void BpfMaps::set_deadline(uint64_t now_ns, uint64_t jiffies) {
    give_rows();
    flowxlate::set_deadline(arrays_.xf_cpus, now_ns, jiffies);
}

// Adds up one of the port's counters, which 'counter' picks, over all rows.
template <typename Fn>
uint64_t BpfMaps::sum_of_misses(PortSlot slot, Fn counter) const {
    uint64_t sum = 0;
    for (uint32_t row = 0; row < rows_.n_rows(); row++) {
        sum +=
            std::atomic_ref(
                counter(arrays_.xf_misses[row * XF_MAX_PORTS + index(slot)]))
                .load(std::memory_order_relaxed);
    }
    return sum;
}

uint64_t BpfMaps::misses(PortSlot slot, xf_miss reason) const {
    return sum_of_misses(
        slot, [=](auto &row) -> auto & { return row.count[reason]; });
}

uint64_t BpfMaps::searches(PortSlot slot) const {
    return sum_of_misses(
        slot, [](auto &row) -> auto & { return row.searches; });
}

void BpfMaps::clear_misses(PortSlot slot) {
    for (uint32_t row = 0; row < rows_.n_rows(); row++) {
        arrays_.xf_misses[row * XF_MAX_PORTS + index(slot)] = {};
    }
}

size_t BpfMaps::memory_bytes() const {
    return map_bytes(sizes_) + kCopiesBytes;
}

}  // namespace flowxlate
