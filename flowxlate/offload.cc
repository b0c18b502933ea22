// SPDX-License-Identifier: Apache-2.0
#include "offload.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <atomic>
#include <boost/container/static_vector.hpp>
#include <cerrno>
#include <cstring>
#include <utility>

#include "realtime.h"

namespace flowxlate {
namespace {

constexpr const char *kFramesAreLost =
    "redirected frames do not arrive, as the veth peer has neither GRO nor an "
    "XDP program, though the kernel announces that it has (\"ethtool -K PEER "
    "gro on\", then \"ethtool -K PEER gro off\" and \"ethtool -K PEER gro "
    "on\" again in its namespace help)";

// What ovs_offload_host's symmetric_l4_probe is if OVS hashes as
// bpf/dp_hash.h does.
constexpr uint32_t kSymmetricL4Probe = 0x78a08770;

bool is_afxdp(const std::string &type) {
    return type == "afxdp" || type == "afxdp-nonpmd";
}

}  // namespace

bool Port::takes_frames_from(const Port &in) const {
    return device.up
        && (device.xdp_xmit || in.attachment->mode() == AttachMode::kGeneric);
}

bool Port::shows_tags() const {
    // In the userspace datapath OVS itself sees no more than XDP does, or the
    // user has been told (xdp-offload-system-ports).
    return !in_kernel_datapath || device.tags_in_frame;
}

std::string Port::state_in_words() const {
    const auto why_not = why_no_output();
    std::string s = why_not.empty()
                      ? "takes redirected frames"
                      : "flows to this port stay in OVS: " + why_not;
    if (auto why = why_no_entry(); !why.empty()) {
        s += "; flows from this port stay in OVS: " + why;
    }
    if (!device.entrance.vlans.empty()) {
        s += "; flows of VLANs that devices on top of it take stay in OVS: "
           + to_string(device.entrance.vlans);
    }
    return s;
}

std::string Port::why_no_output() const {
    if (!device.exists) {
        return device.why_not.empty() ? "there is no such device"
                                      : device.why_not;
    }
    if (!device.up) {
        return "the link is down";
    }
    return device.xdp_xmit ? std::string() : device.why_not;
}

bool Port::comes_first() const {
    return !in_kernel_datapath || device.entrance.others.empty();
}

std::string Port::why_no_entry() const {
    return !shows_tags()  ? device.why_no_tags
         : !comes_first() ? device.entrance.others + ", and comes before OVS"
                          : std::string();
}

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
    retired_ports_.reserve(XF_MAX_PORTS);
    if (auto f = devices_.open()) {
        return f;
    }
    if (auto f = shaping_.open()) {
        return f;
    }
    if (auto f = maps_.create({.max_flows = settings_.max_flows})) {
        return f;
    }
    if (auto f = clock_.open()) {
        return f;
    }
    table_ = std::make_unique<FlowTable>(maps_.tables());
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

Port *Offload::find_port(Ifindex ifindex) {
    auto it = by_ifindex_.find(ifindex);
    return it == by_ifindex_.end() ? nullptr : it->second;
}

Reject Offload::new_slot(PortSlot *slot) {
    auto *free = std::find(slot_used_.begin() + 1, slot_used_.end(), false);
    if (free == slot_used_.end()) {
        return {"table", "ports", ENOSPC};
    }
    *free = true;
    *slot = PortSlot(free - slot_used_.begin());
    return {};
}

// Ports whose packets come from, and go to, a network device of their name.
// Others (tap, internal, tunnels, dpdk) have no place for XDP.
bool Offload::wants(const ovs_offload_port &p) const {
    const bool is_system = !std::strcmp(p.netdev_type, "system");
    if (p.ifindex <= 0) {
        return false;
    }
    if (!std::strcmp(p.dpif_type, kKernelDatapath)) {
        return is_system;
    }
    return !std::strcmp(p.dpif_type, kUserspaceDatapath)
        && (is_afxdp(p.netdev_type) || (settings_.system_ports && is_system));
}

int Offload::port_add(const ovs_offload_port &p, Port **out) {
    if (!wants(p)) {
        return EOPNOTSUPP;
    }
    auto port = std::make_unique<Port>();
    port->name = p.name;
    port->type = p.netdev_type;
    port->ifindex = Ifindex{p.ifindex};
    port->in_kernel_datapath = !std::strcmp(p.dpif_type, kKernelDatapath);
    Failure failed;
    {
        StateLock lock(this);
        if (find_port(port->ifindex)) {
            failed = {EEXIST, "the device is a port already"};
        } else if (auto r = new_slot(&port->slot)) {
            failed = {r.error, "too many ports"};
        }
    }
    if (!failed && port->in_kernel_datapath) {
        failed = check_device(*port);
    }
    if (!failed) {
        failed = add_device(*port);
    }
    if (failed) {
        log(OVS_OFFLOAD_LOG_WARN,
            port->name + ": not offloaded: " + failed.message);
        StateLock lock(this);
        retire_slot(port->slot);
        return failed.error;
    }
    log(OVS_OFFLOAD_LOG_INFO,
        port->name + ": executing flows in "
            + (port->attachment->mode() == AttachMode::kNative
                   ? "native XDP"
                   : "generic XDP: " + devices_.why_generic(port->ifindex)));
    if (port->in_kernel_datapath) {
        port->switched_off = devices_.put_tags_in_frame(port->ifindex);
        if (!port->switched_off.empty()) {
            log(OVS_OFFLOAD_LOG_INFO,
                port->name + ": switched off "
                    + to_string(port->switched_off)
                    + " of the device or its veth peer, for XDP to see VLAN "
                      "tags");
        }
    }
    keep_attached(*port);
    DeviceState state;
    if (auto f =
            devices_.query(port->ifindex, port->in_kernel_datapath, &state)) {
        state.why_not = f.message;  // The worker asks again.
    }

    StateLock lock(this);
    apply_device_state(*port, state, {.changed = false, .was_away = true});
    handover_.port_added(std::chrono::steady_clock::now());
    *out = port.get();
    by_ifindex_[port->ifindex] = port.get();
    note_port_event();
    ports_[index(port->slot)] = std::move(port);
    return 0;
}

void Offload::retire_slot(PortSlot slot) {
    if (slot != PortSlot::kNone) {
        retired_ports_.push_back(slot);
        changes_.wakes_worker = true;
    }
}

Attachment::Options Offload::attach_options(const Port &port) {
    return {.allow_generic = settings_.allow_generic,
            .is_afxdp = is_afxdp(port.type),
            .only_join = false,
            .pins = &pins_};
}

// The kernel datapath gets from a device what XDP sees on some only.
Failure Offload::check_device(const Port &port) {
    if (auto why = devices_.why_unsuited(port.ifindex); !why.empty()) {
        return {EOPNOTSUPP, why};
    }
    devices_.look_at_entrances();
    return {};
}

Failure Offload::add_device(Port &port) {
    if (auto f = maps_.set_tx_port(port.slot, port.ifindex)) {
        return f;
    }
    auto f = Attachment::attach(maps_, port.slot, port.ifindex,
                                attach_options(port), &port.attachment);
    if (f) {
        (void)maps_.clear_tx_port(port.slot);
    }
    return f;
}

void Offload::port_del(Port *p) {
    if (leaving_) {
        return;
    }
    std::unique_ptr<Port> port;
    MutexLock attaching(attach_mutex_);
    hurry_handover();  // An old flow may send to this port.
    {
        StateLock lock(this);
        remove_flows_of(*p, false, {"parked", "port_removed", ENODEV});
        for (auto &[ufid, flow] : flows_) {
            if (flow.in == p->slot) {
                flow.in = PortSlot::kNone;  // The slot will be another's.
            }
        }
        maps_.port(p->slot).flags = 0;
        by_ifindex_.erase(p->ifindex);
        drop_copies_of(*p);
        port = std::move(ports_[index(p->slot)]);
    }
    port->attachment.reset();
    attaching.unlock();
    if (!port->switched_off.empty()) {
        devices_.put_tags_beside(port->ifindex, port->switched_off);
    }
    if (auto f = maps_.clear_tx_port(port->slot)) {
        log(OVS_OFFLOAD_LOG_WARN, port->name + ": " + f.message);
    }
    log(OVS_OFFLOAD_LOG_INFO, port->name + ": no longer offloaded");
    StateLock lock(this);
    maps_.clear_misses(port->slot);
    retire_slot(port->slot);
}

void Offload::remove_flows_of(const Port &port, bool entering_only,
                              const Reject &why) {
    // Some at a time: this must not need memory.
    boost::container::static_vector<Flow *, 256> doomed;
    for (auto &[ufid, flow] : flows_) {
        const bool leaves =
            std::find(flow.out.begin(), flow.out.end(), port.slot)
            != flow.out.end();
        if (flow.in == port.slot || (!entering_only && leaves)) {
            doomed.push_back(&flow);
        }
        if (doomed.size() == doomed.capacity()) {
            park({doomed.data(), doomed.size()}, why);
            doomed.clear();
        }
    }
    park({doomed.data(), doomed.size()}, why);
}

// The device has been deleted, or moved to another network namespace, with our
// program on it.  What enters there now takes the miss path, as it does
// without us: to AF_XDP sockets that the kernel has unbound, or to the stack
// that the device belongs to now.
void Offload::device_left(Port &port) {
    remove_flows_of(port, true, {"parked", "no_device", ENODEV});
    port.lost_sockets = port.attachment->has_sockets();
}

// The device of a port is there, for the first time or again.
void Offload::device_came(Port &port) {
    note_port_event();
    if (port.lost_sockets) {
        changes_.log(OVS_OFFLOAD_LOG_WARN,
            port.name + ": the device is back, but OVS's AF_XDP sockets are "
                        "not: remove the port from OVS and add it again");
    }
}

// A port goes on with the device that it was added with.
void Offload::follow_name(const Port &port, const DeviceState &state) {
    const std::string &old = port.device.exists ? port.device.name : port.name;
    if (state.exists && state.name != old) {
        changes_.log(OVS_OFFLOAD_LOG_INFO,
                     port.name + ": its device (ifindex "
                         + std::to_string(index(port.ifindex)) + ") is called "
                         + state.name + " now");
    }
}

// Tells the program what the device can take now, and logs what has changed.
void Offload::apply_device_state(Port &port, DeviceState state, Heard heard) {
    auto &shared = maps_.port(port.slot);
    const auto now = std::chrono::steady_clock::now();
    const uint32_t old_flags = shared.flags;
    const DeviceState old = port.device;
    bool present = state.exists;
    if (present && heard.was_away) {
        // The kernel forgets a device that goes, also if it comes back.
        present = !maps_.set_tx_port(port.slot, port.ifindex);
        refill_groups(port.slot);
    }
    if (port.device.exists && !present) {
        device_left(port);
    } else if (!port.device.exists && present) {
        device_came(port);
    }
    follow_name(port, state);
    const bool up = present && state.up;
    if (state.figures) {
        port.arrivals.look(*state.figures, up && state.xdp_xmit, heard.changed,
                           now);
    }
    if (state.xdp_xmit && port.arrivals.are_lost()) {
        state.xdp_xmit = false;
        state.why_not = kFramesAreLost;
    }
    std::atomic_ref(shared.max_partial)
        .store(state.is_tap && settings_.tap_tso ? XF_TAP_MAX_PARTIAL : 0,
               std::memory_order_relaxed);
    std::atomic_ref(shared.max_frame)
        .store(state.max_frame, std::memory_order_relaxed);
    std::atomic_ref(shared.flags)
        .store((up && state.xdp_xmit ? XF_PORT_TX_NATIVE : 0)
                   | (up ? XF_PORT_TX_GENERIC : 0),
               std::memory_order_release);
    if (old_flags & ~shared.flags) {
        handover_.hurry();  // An old program would go on sending there.
    }
    port.device = std::move(state);
    port.device.exists = present;
    port.device.up = up;
    if (port.in_kernel_datapath) {
        tell_kernel_datapath(port, old_flags, old);
    }
    if (auto line = port.news.look(port.state_in_words(), now)) {
        changes_.log(OVS_OFFLOAD_LOG_INFO, port.name + ": " + *line);
    }
}

// The port's state has changed, from 'old' and 'old_flags' (XF_PORT_TX_*).
// Which flows may enter now is asked again of each.
void Offload::tell_kernel_datapath(Port &port, uint32_t old_flags,
                                   const DeviceState &old) {
    const uint32_t flags = maps_.port(port.slot).flags;
    const bool entrance_changed =
        old.tags_in_frame != port.device.tags_in_frame
        || old.entrance != port.device.entrance;
    const bool lost = entrance_changed && port.n_flows;
    if (lost) {
        remove_flows_of(port, true, {"parked", "flushed", ENODEV});
    }
    if (old_flags & ~flags || lost) {
        port.flows_lost.wanted = true;
        port.was_wanted |= std::exchange(port.offer.wanted, false);
    }
    if (port.was_wanted && (flags & ~old_flags || entrance_changed)) {
        port.was_wanted = false;
        port.offer.wanted = true;
    }
    if (port.flows_lost.wanted || port.offer.wanted) {
        changes_.wakes_worker = true;
    }
}

// -- Flows ------------------------------------------------------------------

Reject Offload::translate(const ovs_offload_flow &flow, Wanted *w) {
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
    auto device_of = [&](OdpPort port) {
        const auto ifindex = ask().port_ifindex(flow.dpif_type, port);
        if (index(ifindex) <= 0) {
            w->unknown.push_back(port);
        }
        return ifindex;
    };
    w->in = device_of(w->match.in_port);
    for (auto port : w->actions.out_ports) {
        w->out.push_back(device_of(port));
    }
    return {};
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

Reject Offload::find_ports(const Wanted &w, Uses *uses) {
    uses->in = find_port(w.in);
    if (!uses->in) {
        return {"input", "not_an_xdp_port", EOPNOTSUPP};
    }
    for (auto ifindex : w.out) {
        const Port *port = find_port(ifindex);
        if (!port) {
            return {"output", "not_an_xdp_port", EOPNOTSUPP};
        }
        uses->out.push_back(port->slot);
    }
    if (!uses->in->device.exists) {
        return {"input", "no_device", EOPNOTSUPP};
    }
    if (!uses->in->shows_tags()) {
        uses->in->was_wanted = true;
        return {"input", "vlan_tags_beside_the_frame", EOPNOTSUPP};
    }
    if (!uses->in->in_kernel_datapath) {
        return {};
    }
    if (auto r = check_entrance(
            uses->in->device.entrance,
            uses->in->attachment->mode() == AttachMode::kGeneric, w.match)) {
        uses->in->was_wanted = true;
        return r;
    }
    return check_kernel_datapath(w, *uses);
}

// A flow that is taken exists nowhere else, so XDP must be sure to execute it.
// It is not where the next flow of a recirculated packet may be refused; and
// the kernel's hash differs from the one that is known here.
Reject Offload::check_kernel_datapath(const Wanted &w, const Uses &uses) {
    if (w.match.recirc_id) {
        return {"match", "recirc_id", EOPNOTSUPP};
    }
    if (w.actions.recirc_id) {
        return {"action", "recirc", EOPNOTSUPP};
    }
    for (auto slot : uses.out) {
        Port &out = *ports_[index(slot)];
        if (!out.takes_frames_from(*uses.in)) {
            out.was_wanted = true;
            return {"output", "cannot_transmit_now", EOPNOTSUPP};
        }
    }
    return {};
}

Reject Offload::get_group(const Uses &uses, Groups::Use *use) {
    const Group group =
        make_group({uses.out.data(), uses.out.size()}, uses.in->slot);
    bool is_new;
    if (auto r = groups_.get(group, use, &is_new)) {
        return r;
    }
    return is_new && fill_group(use->slot(), group)
             ? Reject{"table", "groups", ENOSPC}
             : Reject{};
}

Failure Offload::fill_group(GroupSlot slot, const Group &group) {
    const Fd &devices = group_devices_[index(slot)];
    std::vector<Ifindex> ifindexes;
    if (!devices) {
        return {EAGAIN, "not prepared yet"};
    }
    for (auto port : group.ports) {
        ifindexes.push_back(ports_[index(port)]->ifindex);
    }
    return maps_.set_group(slot, devices, group, ifindexes);
}

// After a device has come back.
void Offload::refill_groups(PortSlot port) {
    for (auto &[group, slot] : groups_) {
        if (std::find(group.ports.begin(), group.ports.end(), port)
            != group.ports.end()) {
            (void)fill_group(slot, group);  // Gone again.
        }
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
    group_devices_[n_groups_prepared_++] = std::move(devices);
}

// Puts the flow in the tables, in place of what it was before.
Reject Offload::place(Wanted &w, Flow *flow) {
    Uses uses;
    if (auto r = find_ports(w, &uses)) {
        return r;
    }
    if (auto r = recirc_ids_.get(w.match.recirc_id, &uses.recirc)) {
        return r;
    }
    if (auto r = recirc_ids_.get(w.actions.recirc_id, &uses.next)) {
        return r;
    }
    if (w.actions.verdict == XF_GROUP) {
        if (auto r = get_group(uses, &uses.group)) {
            return r;
        }
    }
    const Port *in = uses.in;
    const uint16_t to =
        w.actions.verdict == XF_GROUP    ? index(uses.group.slot())
        : w.actions.verdict == XF_OUTPUT ? index(uses.out[0])
                                         : index(uses.next.slot());
    const FlowAction does(to_xf_action(w.actions, to), w.actions.rewrite);
    w.match.key.in_port = index(in->slot);
    w.match.mask.in_port = UINT16_MAX;
    w.match.key.recirc = index(uses.recirc.slot());
    w.match.mask.recirc = UINT16_MAX;

    FlowSlot slot = flow->slot;
    const bool same_match =
        slot != FlowSlot::kNone
        && table_->has_match(slot, w.match.cls, w.match.key, w.match.mask);
    if (same_match && table_->has_action(slot, does)) {
        return {};  // OVS offers each PMD thread's copy of a megaflow.
    }
    if (auto r = same_match ? table_->replace(&slot, does)
                            : table_->insert(w.match.cls, w.match.key,
                                             w.match.mask, does, &slot)) {
        return r;
    }
    if (same_match) {
        n_late_removals_ += !table_->quiesce();
        flow->past += table_->stats(flow->slot);
        changes_.wakes_worker = true;
    } else {
        if (flow->slot != FlowSlot::kNone) {  // Its match has changed.
            // Programs that have not seen the new one find the old one still.
            n_late_removals_ += !table_->quiesce();
            park({{flow}}, {});
        }
        ports_[index(in->slot)]->n_flows++;
        n_placed_++;
    }
    note_flow();
    flow->slot = slot;
    flow->ovs_forwards_too = !in->in_kernel_datapath;
    idle_masks_.put(mask_of(*flow));
    flow->parked = {};
    flow->in = in->slot;
    flow->out = std::move(uses.out);
    flow->recirc = std::move(uses.recirc);
    flow->next = std::move(uses.next);
    flow->group = std::move(uses.group);
    return {};
}

// Takes the flows out of the tables and keeps their final figures.
void Offload::park(std::span<Flow *const> flows, const Reject &why) {
    auto is_placed = [](auto *f) { return f->slot != FlowSlot::kNone; };
    if (std::none_of(flows.begin(), flows.end(), is_placed)) {
        return;
    }
    for (auto *flow : flows) {
        if (is_placed(flow)) {
            table_->remove(flow->slot);
        }
    }
    n_late_removals_ += !table_->quiesce();
    for (auto *flow : flows) {
        if (is_placed(flow)) {
            flow->past += table_->stats(flow->slot);
            flow->slot = FlowSlot::kNone;
            flow->parked = why;
            flow->port_events = port_events_;
            flow->recirc = {};
            flow->next = {};
            flow->group = {};
            ports_[index(flow->in)]->n_flows--;
        }
    }
    changes_.wakes_worker = true;
}

int Offload::flow_put(const ovs_offload_flow &f) {
    if (leaving_) {
        return EOPNOTSUPP;
    }
    const uint64_t port_events = port_events_;
    try {
        Wanted wanted;
        auto refused = translate(f, &wanted);
        if (!refused) {
            refused = put(Ufid::from(f.ufid), wanted, f.vlan_limit);
        }
        if (refused) {
            refuse(f, refused, port_events);
            note_what_is_missing(f, wanted, refused);
        }
        look_for_missing_ports(f.dpif_type);
        return refused.error;
    } catch (...) {
        park_one(Ufid::from(f.ufid), {"parked", "no_memory", ENOMEM});
        throw;
    }
}

// What a flow was before it was modified must not be executed any more.
void Offload::park_one(const Ufid &ufid, const Reject &why) {
    StateLock lock(this);
    auto it = flows_.find(ufid);
    if (it != flows_.end()) {
        Flow *flow = &it->second;
        park({{flow}}, why);
    }
}

Reject Offload::put(const Ufid &ufid, Wanted &wanted, uint32_t vlan_limit) {
    StateLock lock(this);
    follow_vlan_limit(vlan_limit);
    if (auto r = place(wanted, &flows_.try_emplace(ufid).first->second)) {
        return r;
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
        auto it = flows_.find(ufid);
        if (it != flows_.end()) {
            Flow *flow = &it->second;
            park({{flow}}, why);
            if (!total(*flow).packets && !flow->taken.packets) {
                flows_.erase(it);  // Nothing to remember.
            }
        }
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

FlowStats Offload::total(const Flow &flow) const {
    FlowStats sum = flow.past;
    if (flow.slot != FlowSlot::kNone) {
        sum += table_->stats(flow.slot);
    }
    return sum;
}

bool Offload::in_fast_path(const Flow &flow) const {
    if (flow.slot == FlowSlot::kNone) {
        return false;
    }
    const Port &in = *ports_[index(flow.in)];
    return std::all_of(flow.out.begin(), flow.out.end(),
                       [&](PortSlot out) REQUIRES(mutex_) {
                           return ports_[index(out)]->takes_frames_from(in);
                       });
}

int Offload::flow_stats(const Ufid &ufid, ovs_offload_stats *stats) {
    StateLock lock(this);
    auto it = flows_.find(ufid);
    if (it == flows_.end() || !in_fast_path(it->second)) {
        return ENOENT;
    }
    to_abi(total(it->second), stats);
    return 0;
}

int Offload::flow_take(const Ufid &ufid, ovs_offload_stats *delta) {
    StateLock lock(this);
    auto it = flows_.find(ufid);
    if (it == flows_.end() || it->second.slot == FlowSlot::kNone) {
        refusals_.see(ufid, std::chrono::steady_clock::now());
    }
    if (it == flows_.end()) {
        return ENOENT;
    }
    auto &flow = it->second;
    const auto now = total(flow);
    to_abi(now, delta);
    delta->n_packets -= flow.taken.packets;
    delta->n_bytes -= flow.taken.bytes;
    flow.taken = now;
    return in_fast_path(flow) ? 0 : ENODATA;
}

int Offload::flow_del(const Ufid &ufid, ovs_offload_stats *remaining) {
    if (leaving_) {
        return ENOENT;
    }
    StateLock lock(this);
    auto it = flows_.find(ufid);
    if (it == flows_.end()) {
        return ENOENT;
    }
    Flow &flow = it->second;
    park({{&flow}}, {});
    if (remaining) {
        to_abi(flow.past, remaining);
        remaining->n_packets -= flow.taken.packets;
        remaining->n_bytes -= flow.taken.bytes;
    }
    past_ += flow.past;
    if (auto &in = ports_[index(flow.in)]) {
        in->past += flow.past;
    }
    flows_.erase(it);
    return 0;
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
    remove_flows_of(*port, true, {"parked", "flushed", ENODEV});
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
                             : kPollIntervalMs);
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
        evict_idle_masks();
        look_at_shaping();
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
        port = find_port(ifindex);
    }
    if (port && !(state->exists && port->attachment->is_attached())) {
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
        for (auto &[ifindex, port] : by_ifindex_) {
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
        if (auto *port = find_port(ifindex)) {
            apply_device_state(*port, std::move(state), heard);
        }
    }
}

// Stops sending to ports where nothing arrives (arrivals.h).
void Offload::find_lost_frames() {
    {
        StateLock lock(this);
        if (std::none_of(by_ifindex_.begin(), by_ifindex_.end(), [](auto &p) {
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
    if (ports_[index(flow.in)]->attachment->mode() != AttachMode::kNative) {
        return;  // The kernel's stack sends its frames.
    }
    for (auto slot : flow.out) {
        Port &port = *ports_[index(slot)];
        const auto since = port.arrivals.suspect_since();
        if (!since) {
            continue;
        }
        const nanoseconds used(clock_.monotonic_ns(total(flow).used));
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
        for (auto &[ifindex, port] : by_ifindex_) {
            if (port->attachment->in_dispatcher()) {
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
        port = find_port(ifindex);
    }
    if (!port || port->attachment->is_attached()) {
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
    std::swap(port->attachment, again);
}

// Asks of OVS what ports' changes make necessary, as often as that may be.
void Offload::make_requests() {
    const auto now = std::chrono::steady_clock::now();
    std::vector<Request *> lost, offers;
    StateLock lock(this);
    for (auto &[ifindex, port] : by_ifindex_) {
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

// Takes what waits for a grace period.  Returns false if nothing does.
bool Offload::take_retired(Retired *r) {
    StateLock lock(this);
    try {
        r->recircs = recirc_ids_.take_retired();
        r->groups = groups_.take_retired();
        r->flows = table_->take_retired();
        r->ports = retired_ports_;
        retired_ports_.clear();  // Keeps its room.
    } catch (...) {
        retire_again(*r);
        throw;
    }
    if (r->flows.empty() && r->ports.empty() && r->recircs.empty()
        && r->groups.empty()) {
        return false;
    }
    return true;
}

// Called with mutex_.  Needs no memory: they keep their room.
void Offload::retire_again(const Retired &r) {
    table_->retire_again(r.flows);
    recirc_ids_.retire_again(r.recircs);
    groups_.retire_again(r.groups);
    retired_ports_.insert(retired_ports_.end(), r.ports.begin(),
                          r.ports.end());
}

// Gives back what was retired before a grace period.
void Offload::reclaim() {
    Retired retired;
    if (!take_retired(&retired)) {
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
        retire_again(retired);
        changes_.log(OVS_OFFLOAD_LOG_WARN, failed.message);
        return;
    }
    table_->release(retired.flows);
    recirc_ids_.release(retired.recircs);
    groups_.release(retired.groups);
    for (auto slot : retired.ports) {
        slot_used_[index(slot)] = false;
    }
}

void Offload::log(ovs_offload_log_level level, const std::string &line) const {
    host_.notify.log(level, line);
}

}  // namespace flowxlate
