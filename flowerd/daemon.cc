// SPDX-License-Identifier: Apache-2.0
#include "flowerd/daemon.h"

#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <net/if.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

namespace flowerd {
namespace {

constexpr int kResyncTries = 5;
constexpr int kLookShare = 100;  // Looking takes 1 % of the time, or less.

void log(const std::string &line) {
    std::fprintf(stderr, "xdp-flowerd: %s\n", line.c_str());
}

// The header behind the netlink header, if it is all there.
template <typename T>
bool read_header(Bytes message, T *header) {
    if (message.size() < NLMSG_HDRLEN + sizeof *header) {
        return false;
    }
    std::memcpy(header, message.data() + NLMSG_HDRLEN, sizeof *header);
    return true;
}

// Of the ingress qdisc, or of clsact, whose handle is "ffff:".
bool is_of_clsact(uint32_t handle) {
    return TC_H_MAJ(handle) == TC_H_MAJ(TC_H_CLSACT);
}

bool is_egress(const Filter &f) {
    return f.parent == TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_EGRESS);
}

// Else it is a preference.
bool is_filter(const Filter &f) { return f.has_options || f.kind != "flower"; }

}  // namespace

Failure Daemon::open(const Settings &settings, std::unique_ptr<Daemon> *out) {
    auto d = std::make_unique<Daemon>();
    d->settings_ = settings;
    if (auto f = d->tc_.open(settings.receive_buffer)) {
        return f;
    }
    if (auto f = Xdp::open(settings.options, &d->xdp_)) {
        return f;
    }
    d->look_for_devices();
    d->resync_wanted();
    *out = std::move(d);
    return {};
}

Device *Daemon::find(Ifindex ifindex) {
    const auto it = devices_.find(ifindex);
    return it == devices_.end() ? nullptr : it->second.get();
}

// -- Devices ----------------------------------------------------------------

// Those that are gone or have another name, of which the kernel may have told
// in vain.
void Daemon::look_for_lost_devices() {
    for (const auto &[ifindex, device] : devices_) {
        std::array<char, IF_NAMESIZE> name{};
        if (!if_indextoname(index(ifindex), name.data())
            || device->name() != name.data()) {
            gone_.insert(ifindex);
        }
    }
}

void Daemon::look_for_devices() {
    for (const std::string &name : settings_.devices) {
        const Ifindex ifindex{static_cast<int>(if_nametoindex(name.c_str()))};
        if (index(ifindex) && !find(ifindex)) {
            add_device(name, ifindex);
        }
    }
}

void Daemon::add_device(const std::string &name, Ifindex ifindex) {
    const bool is_known = std::ranges::any_of(
        devices_, [&](const auto &d) { return d.second->name() == name; });
    if (is_known) {
        return;  // The kernel has yet to tell that it is gone.
    }
    const auto f = xdp_->add_port(ifindex, name);
    if (std::exchange(troubles_[name], f.message) != f.message && f) {
        log(f.message);
    }
    if (f) {
        return;
    }
    devices_[ifindex] = std::make_unique<Device>(name, ifindex, xdp_.get());
    resync_all();  // Filters that redirect to its number may mean another.
    outputs_changed_ = true;
}

void Daemon::remove_device(Ifindex ifindex) {
    Device *device = find(ifindex);
    if (!device) {
        return;
    }
    device->fill({}, {});
    past_ += device->total();
    log(device->name() + ": gone");
    resync_all();  // TC no longer redirects there, and does not say so.
    xdp_->remove_port(ifindex);
    devices_.erase(ifindex);
    to_resync_.erase(ifindex);
    outputs_changed_ = true;
}

// XDP passes by what TC has at the egress of the device where packets leave.
Reject Daemon::check_output(Ifindex ifindex) {
    const Device *out = find(ifindex);
    return !out ? Reject{"output", "not_ours", EOPNOTSUPP}
         : out->has_egress_filters()
             ? Reject{"output", "egress_filters", EOPNOTSUPP}
             : Reject{};
}

void Daemon::update_outputs() {
    outputs_changed_ = false;
    for (auto &[ifindex, device] : devices_) {
        device->follow({[this](Ifindex out) { return check_output(out); },
                        settings_.trusts_no_address, xdp_->can_track()});
    }
}

// -- Changes ----------------------------------------------------------------

void Daemon::handle_filter(uint16_t type, Bytes message) {
    Filter f;
    if (decode_filter(message, &f) || f.is_shared) {
        resync_all();
        return;
    }
    Device *device = find(f.ifindex);
    if (!device || to_resync_.contains(f.ifindex) || !is_of_clsact(f.parent)) {
        return;
    }
    const bool is_new = type == RTM_NEWTFILTER;
    const bool tells_all =
        f.kind == "flower" && !is_egress(f) && (is_new ? f.has_options : true);
    if (!tells_all) {
        to_resync_.insert(f.ifindex);
    } else if (is_new) {
        device->put(std::move(f));
    } else if (f.id.handle) {
        device->remove(f.id);
    } else {
        device->remove_preference(f.id.chain, f.id.preference);
        n_preferences_gone_++;
    }
}

// The ingress, or clsact, of a device.
void Daemon::handle_qdisc(Bytes message) {
    tcmsg tcm;
    if (read_header(message, &tcm) && is_of_clsact(tcm.tcm_handle)
        && find(Ifindex{tcm.tcm_ifindex})) {
        to_resync_.insert(Ifindex{tcm.tcm_ifindex});
    }
}

void Daemon::handle_link(uint16_t type, Bytes message) {
    ifinfomsg link;
    if (!read_header(message, &link)) {
        return;
    }
    // Of another family, it has left a bridge.
    if (type == RTM_DELLINK && link.ifi_family == AF_UNSPEC) {
        gone_.insert(Ifindex{link.ifi_index});
    }
    links_changed_ = true;
}

// Not while a device's filters are read.
void Daemon::follow_links() {
    if (links_changed_) {
        look_for_lost_devices();
    }
    for (Ifindex ifindex : std::exchange(gone_, {})) {
        remove_device(ifindex);
    }
    if (std::exchange(links_changed_, false)) {
        look_for_devices();
    }
}

void Daemon::handle(Bytes message) {
    nlmsghdr nlh;
    std::memcpy(&nlh, message.data(), sizeof nlh);
    followed_.n_messages++;
    look_again_ |= nlh.nlmsg_type != RTM_NEWLINK;
    switch (nlh.nlmsg_type) {
        case RTM_NEWTFILTER:
        case RTM_DELTFILTER:
            handle_filter(nlh.nlmsg_type, message);
            break;
        case RTM_NEWACTION:
        case RTM_DELACTION:  // Filters that have it are not told of.
            resync_all();
            break;
        case RTM_NEWQDISC:
        case RTM_DELQDISC:
            handle_qdisc(message);
            break;
        case RTM_NEWLINK:
        case RTM_DELLINK:
            handle_link(nlh.nlmsg_type, message);
            break;
    }
}

// False: some were lost, of whatever device.
bool Daemon::read_events() {
    if (tc_.read_events([this](Bytes message) { handle(message); })) {
        return true;
    }
    followed_.n_lost++;
    resync_all();
    links_changed_ = true;
    return false;
}

// Of preferences that go at once TC tells before they do, with its lock held;
// when it has answered a question that takes the lock, they are gone, and have
// all been told of.
void Daemon::settle() {
    auto is_settled = [](const auto &d) { return d.second->is_settled(); };
    for (int i = 0; !std::ranges::all_of(devices_, is_settled); i++) {
        const auto n_before = n_preferences_gone_;
        Tc::Qdiscs ignored;
        const bool failed = static_cast<bool>(
            tc_.find_qdiscs(devices_.begin()->first, &ignored));
        if (!read_events() || failed || i == kResyncTries) {
            resync_all();
            return;
        }
        if (n_preferences_gone_ == n_before) {
            for (auto &[ifindex, device] : devices_) {
                device->settle();
            }
        }
    }
}

void Daemon::follow_tc() {
    const auto start = Clock::now();
    read_events();
    follow_links();
    resync_wanted();
    followed_.last = std::chrono::duration_cast<std::chrono::microseconds>(
        Clock::now() - start);
    followed_.longest = std::max(followed_.longest, followed_.last);
}

// -- Reading again ----------------------------------------------------------

void Daemon::resync_all() {
    for (const auto &[ifindex, device] : devices_) {
        to_resync_.insert(ifindex);
    }
}

// False: TC could not be asked.
bool Daemon::read_filters(Device *device, std::vector<Filter> *filters,
                          Reject *refused) {
    std::vector<Filter> all, egress;
    if (auto f = tc_.dump(device->ifindex(), false, &all)) {
        log(device->name() + ": " + f.message);
        return false;
    }
    Tc::Qdiscs qdiscs;
    auto f = tc_.find_qdiscs(device->ifindex(), &qdiscs);
    if (!f && qdiscs.has_clsact) {
        f = tc_.dump(device->ifindex(), true, &egress);
    }
    if (f) {
        log(device->name() + ": " + f.message);
        return false;
    }
    if (qdiscs.has_other) {
        *refused = {"qdisc", "handle", EOPNOTSUPP};
    }
    for (Filter &filter : all) {
        if (filter.is_shared) {
            *refused = {"block", "shared", EOPNOTSUPP};
        } else if (is_filter(filter)) {
            filters->push_back(std::move(filter));
        }
    }
    const bool has_egress = !egress.empty();
    outputs_changed_ |= has_egress != device->has_egress_filters();
    device->set_egress_filters(has_egress);
    return true;
}

bool Daemon::resync(Device *device) {
    followed_.n_resyncs++;
    for (int i = 0; i < kResyncTries; i++) {
        std::vector<Filter> filters;
        Reject refused;
        // What has come before is in the answer.
        (void)read_events();
        look_again_ = false;
        if (read_filters(device, &filters, &refused) && read_events()
            && !look_again_) {
            device->fill(std::move(filters), refused);
            return true;
        }
    }
    log(device->name() + ": TC changes too fast to be read; trying again");
    device->fill({}, {});
    return false;
}

// Devices stay among 'to_resync_' while that is done, so that notifications
// leave them alone.  What comes meanwhile may want others to be read, that
// have been read already.
void Daemon::resync_wanted() {
    std::set<Ifindex> failed;
    for (int i = 0; i < kResyncTries; i++) {
        settle();
        if (to_resync_ == failed) {
            break;
        }
        const std::set<Ifindex> wanted = to_resync_;
        for (Ifindex ifindex : wanted) {
            if (failed.contains(ifindex)) {
                continue;
            }
            Device *device = find(ifindex);
            if (!device || resync(device)) {
                to_resync_.erase(ifindex);
            } else {
                failed.insert(ifindex);
            }
        }
        follow_links();
    }
    if (outputs_changed_) {
        update_outputs();
    }
}

// Linux before 6.15 tells nobody of a filter for which a message of 4 KiB is
// too short, as one with 20 actions is.
void Daemon::look_for_untold() {
    const auto start = Clock::now();
    if (start < next_look_) {
        return;
    }
    for (const auto &[ifindex, device] : devices_) {
        std::vector<Filter> filters;
        Reject refused;
        look_again_ = false;
        if (!read_filters(device.get(), &filters, &refused)) {
            continue;
        }
        if (read_events() && !look_again_ && !device->has(filters)) {
            to_resync_.insert(ifindex);
        }
    }
    next_look_ = start + kLookShare * (Clock::now() - start);
}

void Daemon::follow_xdp() {
    xdp_->clear_event();
    for (auto &[ifindex, device] : devices_) {
        device->take_stats();
        device->put_missing(true);
    }
}

void Daemon::tick() {
    links_changed_ = true;
    follow_links();
    look_for_untold();
    resync_wanted();
    for (auto &[ifindex, device] : devices_) {
        device->take_stats();
        device->put_missing(false);
    }
}

// -- For commands -----------------------------------------------------------

Device *Daemon::find(const std::string &name) const {
    const auto it = std::ranges::find_if(
        devices_, [&](const auto &d) { return d.second->name() == name; });
    return it == devices_.end() ? nullptr : it->second.get();
}

Stats Daemon::total() {
    Stats sum = past_;
    for (const auto &[ifindex, device] : devices_) {
        device->take_stats();
        sum += device->total();
    }
    return sum;
}

}  // namespace flowerd
