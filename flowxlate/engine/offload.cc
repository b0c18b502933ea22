// SPDX-License-Identifier: Apache-2.0
#include "engine/offload.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <utility>

#include "bpf/abi/tunnel.h"
#include "kernel/realtime.h"

namespace flowxlate {
namespace {

// What ovs_offload_host's symmetric_l4_probe is if OVS hashes as
// bpf/packet/dp_hash.h does.
constexpr uint32_t kSymmetricL4Probe = 0x78a08770;

bool is_afxdp(const std::string &type) {
    return type == "afxdp" || type == "afxdp-nonpmd";
}

// A host without this member leaves out none.
bool is_left_out(const ovs_offload_port &p) {
    return p.size >= sizeof p && p.left_out;
}

// What is left out has no program, but for AF_XDP: there OVS's own would take
// its place, which does not complete checksums.
bool needs_program(const Port &port) {
    return !port.is_left_out() || is_afxdp(port.type);
}

// XF_TUNNEL_GENEVE..., if the port is one of the tunnels that the program
// takes packets out of.
uint32_t tunnel_kind(const ovs_offload_port &p) {
    const std::string_view type = p.netdev_type;
    if (p.ifindex >= -1
        || p.dpif_type != std::string_view(kUserspaceDatapath)) {
        return XF_TUNNEL_NONE;
    }
    return type == "geneve" ? XF_TUNNEL_GENEVE
         : type == "vxlan"  ? XF_TUNNEL_VXLAN
                            : XF_TUNNEL_NONE;
}

// A host without these members has no flow that pushes headers.
void set_source_ports(const ovs_offload_flow &flow, xf_tunnel *t) {
    if (flow.size < sizeof flow) {
        return;
    }
    t->port_min = flow.tunnel_port_min;
    t->n_ports = flow.tunnel_port_max > t->port_min
                   ? flow.tunnel_port_max - t->port_min
                   : 1;
}

}  // namespace

// -- Setting up -------------------------------------------------------------

Failure Offload::create(const ovs_offload_host &host,
                        std::span<const ovs_offload_option> options,
                        std::unique_ptr<Offload> *out) {
    Settings settings;
    for (auto &option : options) {
        if (auto r = settings.set(option)) {
            Host(host).notify.log(OVS_OFFLOAD_LOG_WARN,
                                  std::string("other_config:") + option.key
                                      + "=" + option.value + ": " + r.what);
        }
    }
    std::unique_ptr<Offload> o(new Offload(host, settings));
    o->options_changed(options);
    auto f = o->init();
    if (!f) {
        *out = std::move(o);
    }
    return f;
}

Offload::Offload(const ovs_offload_host &host, const Settings &settings)
    : host_(host),
      settings_(settings),
      can_hash_(host.symmetric_l4_probe == kSymmetricL4Probe) {
    handover_.set_sampling(settings.handover);
}

Failure Offload::init() {
    if (auto why = why_programs_overlap(); !why.empty()) {
        return {ENOTSUP, why};
    }
    if (auto f = KernelFeatures::probe(&kernel_)) {
        return f;
    }
    if (auto f = devices_.open(kernel_)) {
        return f;
    }
    if (auto f = shaping_.open()) {
        return f;
    }
    if (auto f =
            maps_.create({.max_flows = settings_.max_flows,
                          .max_connections = settings_.max_connections})) {
        return f;
    }
    if (auto f = clock_.open()) {
        return f;
    }
    if (auto f = redirect_errors_.open(kernel_)) {
        why_losses_unknown_ = f.message;  // The offload does without.
        log(OVS_OFFLOAD_LOG_INFO,
            "it is not known whether redirected frames are lost: "
                + f.message);
    }
    table_ = std::make_unique<FlowTable>(maps_.tables());
    connections_ = std::make_unique<ConnTable>(maps_.connections());
    flows_ =
        std::make_unique<Flows>(table_.get(), &ports_, &binder_, &changes_);
    reclaimer_ = std::make_unique<Reclaimer>(table_.get(), &ports_, &binder_,
                                             connections_.get());
    wake_fd_ = Fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!wake_fd_) {
        return failure(errno, "eventfd");
    }
    open_pins();
    start_worker();
    return {};
}

Offload::~Offload() {
    if (worker_.joinable()) {
        {
            StateLock lock(this);
            stop_ = true;
        }
        wake_worker();
        worker_.join();
    }
}

Offload::StateLock::~StateLock() {
    const Changes changes = std::exchange(offload_.changes_, {});
    offload_.mutex_.unlock();
    offload_.tell(changes);
}

void Offload::tell(const Changes &changes) {
    for (auto &line : changes.lines) {
        log(line.level, line.text);
    }
    if (changes.wakes_worker) {
        wake_worker();
    }
    if (changes.flows_lost) {
        host_.notify.flows_lost();
    }
    if (changes.offer_again) {
        host_.notify.offer_again();
    }
}

// -- Ports ------------------------------------------------------------------

// Ports whose packets come from, and go to, a network device of their name.
// Others (tap, internal, dpdk) have no place for XDP; tunnels need none.
// Empty if it is wanted.
std::string Offload::why_unwanted(const ovs_offload_port &p) const {
    const bool is_system = !std::strcmp(p.netdev_type, "system");
    const bool in_kernel = !std::strcmp(p.dpif_type, kKernelDatapath);
    if (p.ifindex > 0 && is_system && !in_kernel && !settings_.system_ports) {
        return "type system of the userspace datapath is served only with "
               "other_config:xdp-offload-system-ports=true";
    }
    return p.ifindex > 0
                && (is_system || (!in_kernel && is_afxdp(p.netdev_type)))
             ? ""
             : std::string("ports of type ") + p.netdev_type
                   + " are not for XDP in this datapath";
}

// Remembers why the port is not served, for those who ask.
int Offload::reject_port(const ovs_offload_port &p, const Failure &why) {
    const bool can_be = why_unwanted(p).empty();
    const bool user_will_not = can_be && is_left_out(p);
    StateLock lock(this);
    unserved_.add({.name = p.name,
                   .type = p.netdev_type,
                   .dpif_type = p.dpif_type,
                   .why = user_will_not ? kUserLeavesOut : why.message,
                   .should_be = can_be && !user_will_not});
    return why.error;
}

// A word, and why not better, for OVS's database.
std::string Offload::port_status(std::string_view name, const char **mode) {
    Ifindex asked{};
    {
        StateLock lock(this);
        const Port *port = ports_.find_any(name);
        const Unserved *unserved = unserved_.find(name);
        *mode = port || unserved ? "none" : nullptr;
        if (!port) {
            return unserved ? unserved->why : "";
        }
        if (port->is_left_out()) {
            return port->left_out;
        }
        const bool is_native = port->mode == AttachMode::kNative;
        *mode = port->is_tunnel() ? "tunnel"
              : is_native         ? "native"
                                  : "generic";
        if (port->is_tunnel() || is_native) {
            return "";
        }
        asked = port->ifindex;
    }
    return devices_.why_generic(asked);
}

int Offload::add_tunnel(const ovs_offload_port &p, uint32_t kind, Port **out) {
    auto port = std::make_unique<Port>();
    port->name = p.name;
    port->type = p.netdev_type;
    port->ifindex = Ifindex{p.ifindex};
    port->tunnel = kind;
    port->device.exists = true;
    port->left_out = is_left_out(p) ? kUserLeavesOut : "";
    const auto line =
        port->name
        + (port->is_left_out() ? ": left out of XDP, " + port->left_out
                               : ": executing flows of its tunnels");

    StateLock lock(this);
    if (auto r = ports_.new_slot(&port->slot)) {
        changes_.log(OVS_OFFLOAD_LOG_WARN,
                     port->name + ": not offloaded: too many ports");
        return r.error;
    }
    changes_.log(OVS_OFFLOAD_LOG_INFO, line);
    *out = port.get();
    ports_.add(std::move(port), std::chrono::steady_clock::now());
    return 0;
}

int Offload::port_add(const ovs_offload_port &p, Port **out) {
    if (const uint32_t kind = tunnel_kind(p)) {
        return add_tunnel(p, kind, out);
    }
    if (auto why = why_unwanted(p); !why.empty()) {
        return reject_port(p, {EOPNOTSUPP, why});
    }
    auto port = std::make_unique<Port>();
    port->name = p.name;
    port->type = p.netdev_type;
    port->ifindex = Ifindex{p.ifindex};
    port->in_kernel_datapath = !std::strcmp(p.dpif_type, kKernelDatapath);
    port->left_out = is_left_out(p) ? kUserLeavesOut : "";
    Failure failed;
    {
        StateLock lock(this);
        if (ports_.find(port->ifindex)) {
            failed = {EEXIST, "the device is a port already"};
        } else if (auto r = ports_.new_slot(&port->slot)) {
            failed = {r.error, "too many ports"};
        }
    }
    if (!failed && needs_program(*port)) {
        std::unique_ptr<Attachment> attachment;
        failed = attach_device(*port, &attachment);
        if (!failed) {
            port->attach(std::move(attachment));
        }
    }
    if (failed) {
        log(OVS_OFFLOAD_LOG_WARN,
            port->name + ": not offloaded: " + failed.message);
        {
            StateLock lock(this);
            ports_.retire(port->slot);
        }
        return reject_port(p, failed);
    }
    if (port->attachment) {
        if (!port->is_left_out()) {
            log_mode(*port);
        }
        start_port(*port);
    }
    redirect_errors_.watch(port->ifindex);
    DeviceState state;
    if (auto f =
            devices_.query(port->ifindex, port->in_kernel_datapath, &state)) {
        state.why_not = f.message;  // The worker asks again.
    }

    StateLock lock(this);
    apply_device_state(*port, state, {.changed = false, .was_away = true});
    const auto now = std::chrono::steady_clock::now();
    handover_.port_added(now);
    *out = port.get();
    unserved_.remove(port->name);
    ports_.add(std::move(port), now);
    return 0;
}

Attachment::Options Offload::attach_options(const Port &port) {
    return {.allow_generic = settings_.allow_generic,
            .is_afxdp = is_afxdp(port.type),
            .only_join = false,
            .pins = &pins_};
}

// The kernel datapath gets from a device what XDP sees on some only.
Failure Offload::attach_device(const Port &port,
                               std::unique_ptr<Attachment> *attachment) {
    if (port.in_kernel_datapath) {
        if (auto why = devices_.why_unsuited(port.ifindex); !why.empty()) {
            return {EOPNOTSUPP, why};
        }
        devices_.look_at_entrances();
    }
    if (auto f = maps_.set_tx_port(port.slot, port.ifindex)) {
        return f;
    }
    auto f = Attachment::attach(maps_, port.slot, port.ifindex,
                                attach_options(port), attachment);
    if (f) {
        (void)maps_.clear_tx_port(port.slot);
    }
    return f;
}

void Offload::log_mode(const Port &port) {
    log(OVS_OFFLOAD_LOG_INFO,
        port.name + ": executing flows in "
            + (port.attachment->mode() == AttachMode::kNative
                   ? "native XDP"
                   : "generic XDP: " + devices_.why_generic(port.ifindex)));
}

// The port's program has just been attached.
void Offload::start_port(Port &port) {
    if (port.in_kernel_datapath) {
        port.switched_off = devices_.put_tags_in_frame(port.ifindex);
        if (!port.switched_off.empty()) {
            log(OVS_OFFLOAD_LOG_INFO,
                port.name + ": switched off " + to_string(port.switched_off)
                    + " of the device or its veth peer, for XDP to see VLAN "
                      "tags");
        }
    }
    keep_attached(port);
}

void Offload::port_del(Port *p) {
    if (leaving_) {
        return;
    }
    std::unique_ptr<Port> port;
    MutexLock attaching(attach_mutex_);
    hurry_handover();  // An old flow may send there, or take packets out.
    {
        StateLock lock(this);
        flows_->park_all_of(p->slot, {"parked", "port_removed", ENODEV});
        flows_->forget_port(p->slot);
        drop_copies_of(*p);
        port = ports_.remove(*p);
    }
    port->attachment.reset();  // A tunnel has none.
    redirect_errors_.forget(port->ifindex);
    forget_names();
    attaching.unlock();
    if (!port->switched_off.empty()) {
        devices_.put_tags_beside(port->ifindex, port->switched_off);
    }
    if (auto f = maps_.clear_tx_port(port->slot)) {
        log(OVS_OFFLOAD_LOG_WARN, port->name + ": " + f.message);
    }
    log(OVS_OFFLOAD_LOG_INFO, port->name + ": no longer offloaded");
    StateLock lock(this);
    const auto misses = misses_of(*port);
    std::transform(misses.begin(), misses.end(), past_misses_.begin(),
                   past_misses_.begin(), std::plus<>());
    maps_.clear_misses(port->slot);
    ports_.retire(port->slot);
}

void Offload::options_changed(std::span<const ovs_offload_option> options) {
    StateLock lock(this);
    options_now_.clear();
    for (auto &option : options) {
        options_now_.emplace_back(option.key, option.value);
    }
}

void Offload::port_set_left_out(Port *port, bool left_out) {
    MutexLock attaching(attach_mutex_);
    if (leaving_ || (!left_out && !port->is_left_out())) {
        return;
    }
    if (left_out) {
        leave_out(*port);  // Or only for another reason than before.
    } else if (auto f = take_in(*port)) {
        log(OVS_OFFLOAD_LOG_WARN,
            port->name + ": not offloaded: " + f.message);
    }
}

void Offload::leave_out(Port &port) {
    hurry_handover();  // An old flow may enter there, or send there.
    std::unique_ptr<Attachment> attachment;
    {
        StateLock lock(this);
        ports_.leave_out(port, kUserLeavesOut,
                         std::chrono::steady_clock::now());
        flows_->park_all_of(port.slot, {"parked", "left_out", ENODEV});
        drop_copies_of(port);
        if (!needs_program(port)) {
            attachment = std::move(port.attachment);
        }
    }
    attachment.reset();
    forget_names();
    if (!port.switched_off.empty()) {
        devices_.put_tags_beside(port.ifindex, port.switched_off);
        port.switched_off = {};
    }
}

// If that fails it stays left out, for that reason.
Failure Offload::take_in(Port &port) {
    const bool has_program = port.is_tunnel() || port.attachment;
    if (!has_program) {
        std::unique_ptr<Attachment> attachment;
        auto f = attach_device(port, &attachment);
        StateLock lock(this);
        if (f) {
            port.left_out = f.message;
            return f;
        }
        port.attach(std::move(attachment));
    }
    // Its tags are in the frame, and its state is known, before flows enter.
    DeviceState state;
    bool is_known = false;
    if (!port.is_tunnel()) {
        log_mode(port);
        start_port(port);
        is_known =
            !devices_.query(port.ifindex, port.in_kernel_datapath, &state);
    }
    StateLock lock(this);
    ports_.take_in(port, std::chrono::steady_clock::now());
    if (is_known) {
        apply_device_state(port, std::move(state),
                           {.changed = false, .was_away = true});
    }
    return {};
}

// Does what a device's new state makes necessary.
void Offload::apply_device_state(Port &port, DeviceState state, Heard heard) {
    if (state.exists && heard.was_away) {
        state.exists = ports_.restore_output(port);
        binder_.refill_groups(port.slot);
    }
    const auto effect = ports_.apply(port, std::move(state), heard.changed,
                                     std::chrono::steady_clock::now());
    // Deleted, or moved to another network namespace with our program on it.
    // What enters there now takes the miss path, as it does without us: to
    // AF_XDP sockets that the kernel has unbound, or to the stack that the
    // device belongs to now.
    if (effect.no_device) {
        flows_->park_entering(port.slot, {"parked", "no_device", ENODEV});
    }
    if (effect.flush) {
        flows_->park_entering(port.slot, {"parked", "flushed", ENODEV});
    }
    if (effect.no_output) {
        handover_.hurry();  // An old program would go on sending there.
    }
}

// -- Flows ------------------------------------------------------------------

Reject Offload::translate(const ovs_offload_flow &flow, Rule *w) {
    if (auto r = decode_match(bytes_of(flow.key, flow.key_len),
                              bytes_of(flow.mask, flow.mask_len), &w->match)) {
        return r;
    }
    if (auto r = decode_actions(bytes_of(flow.actions, flow.actions_len),
                                w->match, &w->actions)) {
        return r;
    }
    if (w->actions.verdict == XF_HASH_RECIRC && !can_hash_) {
        return {"action", "hash", EOPNOTSUPP};
    }
    if (auto r = check_connections(flow, *w)) {
        return r;
    }
    find_devices(w, [&](OdpPort port) {
        const auto ifindex = ask().port_ifindex(flow.dpif_type, port);
        if (index(ifindex) == 0 || index(ifindex) == -1) {
            w->unknown.push_back(port);
        }
        return ifindex;
    });
    if (w->actions.tunnel.len) {
        w->into = ask().port_ifindex(flow.dpif_type, w->actions.tunnel_port);
        set_source_ports(flow, &w->actions.tunnel);
    }
    return {};
}

// Connections are those that OVS tells of.
Reject Offload::check_connections(const ovs_offload_flow &flow,
                                  const Rule &rule) const {
    const bool in_kernel =
        flow.dpif_type != std::string_view(kUserspaceDatapath);
    if (auto r = check_tracking(rule, in_kernel)) {
        return r;
    }
    return !needs_connections(rule) || connections_->is_open()
             ? Reject{}
             : Reject{"action", "ct_not_told", EOPNOTSUPP};
}

// Tags that OVS begins or ceases to look behind change what packets match.  No
// flow gets wrong by that, since one for packets with a tag more or less does
// not match them: they take the miss path until OVS has made new flows.
void Offload::follow_vlan_limit(uint32_t limit) {
    if (limit != vlan_limit_) {
        vlan_limit_ = limit;
        maps_.set_max_tags(std::clamp(limit, 1U, uint32_t{XF_MAX_TAGS}));
    }
}

// Makes the device map of one more group, which takes a grace period.
void Offload::prepare_group() {
    Fd devices;
    const auto failed =
        maps_.create_group(GroupSlot{n_groups_prepared_}, &devices);
    StateLock lock(this);
    if (failed) {
        changes_.log(OVS_OFFLOAD_LOG_WARN,
                     "flows with several outputs: " + failed.message);
        n_groups_prepared_ = XF_MAX_GROUPS;
        return;
    }
    binder_.add_devices(GroupSlot{n_groups_prepared_++}, std::move(devices));
}

int Offload::flow_put(const ovs_offload_flow &f) {
    if (leaving_) {
        return EOPNOTSUPP;
    }
    const uint64_t port_events = n_port_events();
    try {
        Rule rule;
        auto refused = translate(f, &rule);
        if (!refused) {
            refused = put(Ufid::from(f.ufid), &rule, f.vlan_limit);
        }
        if (refused) {
            refuse(f, refused, port_events);
            note_what_is_missing(f, rule, refused);
        }
        look_for_missing_ports(f.dpif_type);
        return refused.error;
    } catch (...) {
        // What it was before must not be executed any more.
        StateLock lock(this);
        flows_->park(Ufid::from(f.ufid), {"parked", "no_memory", ENOMEM});
        throw;
    }
}

Reject Offload::put(const Ufid &ufid, Rule *rule, uint32_t vlan_limit) {
    StateLock lock(this);
    follow_vlan_limit(vlan_limit);
    SubtableSlot mask;
    if (auto r = flows_->put(ufid, rule, &mask)) {
        return r;
    }
    if (mask != SubtableSlot::kNone) {
        note_flow();
        idle_masks_.put(mask);
    }
    refusals_.remove(ufid);
    return {};
}

// Leaves the flow to OVS, and remembers why.
void Offload::refuse(const ovs_offload_flow &f, const Reject &why,
                     uint64_t port_events) {
    const auto ufid = Ufid::from(f.ufid);
    const auto in = entrance_of(f);
    uint64_t n_unlogged;
    {
        StateLock lock(this);
        follow_vlan_limit(f.vlan_limit);
        flows_->refuse(ufid, why);
        // It may flood what will be a flow of ours as soon as OVS has learned
        // the address.
        if (!refusals_.has(ufid)) {
            note_flow();
        }
        n_unlogged = remember_refusal(f, why, in, port_events);
    }
    if (n_unlogged) {
        log_refusal(f, why, n_unlogged);
    }
}

void Offload::to_abi(const FlowStats &from, ovs_offload_stats *to) {
    to->n_packets = from.packets;
    to->n_bytes = from.bytes;
    to->used_ms =
        static_cast<int64_t>(clock_.monotonic_ns(from.used) / 1'000'000);
    to->tcp_flags = from.tcp_flags;
}

int Offload::flow_stats(const Ufid &ufid, ovs_offload_stats *stats) {
    StateLock lock(this);
    const Flow *flow = flows_->find(ufid);
    if (!flow || !flows_->is_executed(*flow)) {
        return ENOENT;
    }
    to_abi(flows_->total(*flow), stats);
    return 0;
}

int Offload::flow_take(const Ufid &ufid, ovs_offload_stats *delta) {
    StateLock lock(this);
    FlowStats counted;
    const int error = flows_->take(ufid, &counted);
    if (error) {
        refusals_.see(ufid, std::chrono::steady_clock::now());
    }
    if (error != ENOENT) {
        to_abi(counted, delta);
    }
    return error;
}

int Offload::flow_del(const Ufid &ufid, ovs_offload_stats *remaining) {
    if (leaving_) {
        return ENOENT;
    }
    StateLock lock(this);
    FlowStats counted;
    const int error = flows_->remove(ufid, &counted);
    if (!error && remaining) {
        to_abi(counted, remaining);
    }
    return error;
}

int Offload::flow_flush(Port *port) {
    if (leaving_) {
        return 0;
    }
    {
        MutexLock attaching(attach_mutex_);
        hurry_handover();
    }
    StateLock lock(this);
    flows_->park_entering(port->slot, {"parked", "flushed", ENODEV});
    return 0;
}

uint64_t Offload::n_flows(Port *port) {
    StateLock lock(this);
    return port->n_flows;
}

// -- The worker -------------------------------------------------------------

void Offload::start_worker() {
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);  // Signals are the host's.
    worker_ = std::thread([this] { run_worker(); });
    pthread_sigmask(SIG_SETMASK, &old, nullptr);
    pthread_setname_np(worker_.native_handle(), "xdp-offload");
}

void Offload::wake_worker() {
    const uint64_t one = 1;
    // Cannot fail but for an overflow, which wakes as well.
    (void)!write(wake_fd_.get(), &one, sizeof one);
}

// For poll(): rounded up, so that the moment has come then.
static int ms_until(std::chrono::steady_clock::time_point moment) {
    using std::chrono::ceil, std::chrono::milliseconds;
    const auto left = moment - std::chrono::steady_clock::now();
    return std::max(0, static_cast<int>(ceil<milliseconds>(left).count()));
}

void Offload::run_worker() {
    worker_role_.assume();
    // Notifications may be missing (for peers in other namespaces) or lost.
    constexpr int kPollIntervalMs = 1000;
    constexpr int kHandoverIntervalMs = 10;  // Copies wait so long.
    std::vector<pollfd> fds{{wake_fd_.get(), POLLIN, 0}};
    for (int fd : devices_.event_fds()) {
        fds.push_back({fd, POLLIN, 0});
    }
    auto next_full = std::chrono::steady_clock::now();

    for (;;) {
        const bool preparing = n_groups_prepared_ < XF_MAX_GROUPS;
        poll(fds.data(), fds.size(),
             preparing       ? 0
             : handing_over_ ? kHandoverIntervalMs
                             : ms_until(next_full));
        {
            StateLock lock(this);
            if (stop_) {
                return;
            }
        }
        uint64_t count;
        (void)!read(wake_fd_.get(), &count, sizeof count);
        const auto now = std::chrono::steady_clock::now();
        const bool full = now >= next_full;
        if (full) {
            next_full = now + std::chrono::milliseconds(kPollIntervalMs);
        }
        try {
            if (preparing) {
                prepare_group();
            }
            work(full);
        } catch (const std::exception &e) {
            log(OVS_OFFLOAD_LOG_ERR, e.what());  // Out of memory; try later.
        }
    }
}

void Offload::work(bool full) {
    if (full) {
        say_that_we_live();  // First: what follows may take long.
    }
    bool lost;
    std::vector<Ifindex> gone;
    const auto changed = devices_.drain_events(&lost, &gone);
    refresh_devices(full, lost, changed, gone);
    if (full) {
        find_lost_frames();
    }
    make_requests();
    continue_handover();
    collect_copies();
    if (full) {
        remove_orphans();
        restore_attachments();
        end_captures();
        evict_idle_masks();
        look_at_shaping();
        look_at_losses();
        StateLock lock(this);
        refusals_.forget_old(std::chrono::steady_clock::now());
    }
    reclaim();
}

// A port is the device that it was added with, whatever has its index now: the
// one with our program on it.
void Offload::check_identity(Ifindex ifindex, DeviceState *state) {
    MutexLock attaching(attach_mutex_);
    Port *port;
    {
        StateLock lock(this);
        port = ports_.find(ifindex);
    }
    if (!port || !port->attachment) {
        return;  // One that is left out: its index is all that is known.
    }
    if (!(state->exists && port->attachment->is_attached())) {
        *state = {};
        state->why_not = port->attachment->is_on_a_device()
                           ? "the device is in another network namespace"
                           : "there is no such device";
    }
}

void Offload::refresh_devices(bool all, bool lost,
                              const std::vector<Devices::Changed> &changed,
                              const std::vector<Ifindex> &gone) {
    std::vector<Query> queries;
    bool in_kernel_datapath = false;
    {
        StateLock lock(this);
        auto has_changed = [&](Ifindex ifindex, int netns_id) {
            return std::find(changed.begin(), changed.end(),
                             Devices::Changed{ifindex, netns_id})
                != changed.end();
        };
        for (auto &[ifindex, port] : ports_.by_ifindex()) {
            const auto &device = port->device;
            const bool news = has_changed(ifindex, kNoNetns)
                           || has_changed(device.peer, device.peer_netns);
            const bool was_away =
                lost || !device.exists
                || std::find(gone.begin(), gone.end(), ifindex) != gone.end();
            if (all || lost || news) {
                queries.push_back(
                    {ifindex, port->in_kernel_datapath, {news, was_away}});
                in_kernel_datapath |= port->in_kernel_datapath;
            }
        }
    }
    if (in_kernel_datapath) {
        devices_.look_at_entrances();
    }
    query_devices(queries);
}

void Offload::query_devices(const std::vector<Query> &queries) {
    for (auto [ifindex, with_tags, heard] : queries) {
        DeviceState state;
        if (auto f = devices_.query(ifindex, with_tags, &state)) {
            continue;  // What was last known is better than nothing.
        }
        if (heard.was_away || !state.exists) {
            check_identity(ifindex, &state);
        }
        StateLock lock(this);
        if (auto *port = ports_.find(ifindex)) {
            apply_device_state(*port, std::move(state), heard);
        }
    }
}

// Stops sending to ports where nothing arrives (arrivals.h).
void Offload::find_lost_frames() {
    {
        StateLock lock(this);
        const auto &ports = ports_.by_ifindex();
        if (std::none_of(ports.begin(), ports.end(), [](auto &p) {
                return p.second->arrivals.suspect_since();
            })) {
            return;
        }
    }
    std::vector<Query> found;
    (void)visit_placed([&](auto flows) REQUIRES(mutex_) {
        for (const Flow *flow : flows) {
            condemn_outputs(*flow, &found);
        }
    });
    query_devices(found);
}

// Ports that are suspect, and that the flow has sent frames to, lose them.
void Offload::condemn_outputs(const Flow &flow, std::vector<Query> *found) {
    constexpr auto kTicks = std::chrono::milliseconds(50);  // clock.h, twice.
    using std::chrono::nanoseconds;
    if (ports_.at(flow.in)->mode != AttachMode::kNative) {
        return;  // The kernel's stack sends its frames.
    }
    for (auto slot : flow.out) {
        Port &port = *ports_.at(slot);
        const auto since = port.arrivals.suspect_since();
        if (!since) {
            continue;
        }
        const nanoseconds used(clock_.monotonic_ns(flows_->total(flow).used));
        if (used >= since->time_since_epoch() + kTicks) {
            port.arrivals.condemn(std::chrono::steady_clock::now());
            found->push_back({port.ifindex, port.in_kernel_datapath, {}});
        }
    }
}

// netdev-afxdp takes libxdp's dispatcher off the device, and ours with it,
// when it reconfigures a port.  Joins the new one when it is there; before
// that the device must be left to netdev-afxdp.
void Offload::restore_attachments() {
    std::vector<Ifindex> joined;
    {
        StateLock lock(this);
        for (auto &[ifindex, port] : ports_.by_ifindex()) {
            if (port->attachment && port->attachment->in_dispatcher()) {
                joined.push_back(ifindex);
            }
        }
    }
    for (auto ifindex : joined) {
        restore_attachment(ifindex);
    }
}

// Attaching is slow, so it is done without mutex_; attach_mutex_ keeps the
// port and its attachment in place.
void Offload::restore_attachment(Ifindex ifindex) {
    MutexLock attaching(attach_mutex_);
    Port *port;
    {
        StateLock lock(this);
        port = ports_.find(ifindex);
    }
    if (!port || !port->attachment || port->attachment->is_attached()) {
        return;
    }
    auto options = attach_options(*port);
    options.only_join = true;
    std::unique_ptr<Attachment> again;
    if (auto f =
            Attachment::attach(maps_, port->slot, ifindex, options, &again)) {
        log(OVS_OFFLOAD_LOG_DBG, port->name + ": " + f.message);
        return;
    }
    log(OVS_OFFLOAD_LOG_INFO, port->name + ": XDP program attached again");
    StateLock lock(this);
    again = port->attach(std::move(again));
}

// Asks of OVS what ports' changes make necessary, as often as that may be.
void Offload::make_requests() {
    const auto now = std::chrono::steady_clock::now();
    std::vector<Request *> lost, offers;
    StateLock lock(this);
    for (auto &[ifindex, port] : ports_.by_ifindex()) {
        lost.push_back(&port->flows_lost);
        offers.push_back(&port->offer);
    }
    if (refused_for_room_ && has_room_again()) {
        refused_for_room_ = false;
        offer_.wanted = true;
    }
    offers.push_back(&offer_);
    changes_.flows_lost = grant(lost, &flows_lost_pace_, now);
    changes_.offer_again = grant(offers, &offer_pace_, now);
}

// Returns false if nothing waits for a grace period.
bool Offload::begin_grace() {
    StateLock lock(this);
    return reclaimer_->begin();
}

// Gives back what was retired before a grace period.
void Offload::reclaim() {
    if (!begin_grace()) {
        return;
    }
    Failure failed;
    try {
        failed = maps_.wait_for_programs();
    } catch (const std::bad_alloc &) {
        failed.error = ENOMEM;
    }
    StateLock lock(this);
    if (failed) {  // Once more at the next tick.
        changes_.log(OVS_OFFLOAD_LOG_WARN, failed.message);
        return;
    }
    reclaimer_->end();
}

void Offload::log(ovs_offload_log_level level, const std::string &line) const {
    host_.notify.log(level, line);
}

}  // namespace flowxlate
