// SPDX-License-Identifier: Apache-2.0
#include "kernel/attach.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <xdp/libxdp.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <utility>
#include <vector>

#include "bpf/abi/handover.h"
#include "kernel/ingress_filter.h"
#include "kernel/loaded.h"
#include "kernel/tcx.h"
#include "kernel/xdp_query.h"
#include "skb_offload.skel.h"
#include "xdp_offload.skel.h"

namespace flowxlate {
namespace {

constexpr const char *kSection = "xdp";
constexpr const char *kDispatcherName = "xdp_dispatcher";
// Where libxdp pins the programs of a dispatcher ("dispatch-IFINDEX-ID/progN-
// prog" and "-link", up to 10 of them: its protocol.org).
constexpr const char *kPinDirectory = "/sys/fs/bpf/xdp";
constexpr int kMaxDispatched = 10;

struct MultiprogCloser {
    void operator()(xdp_multiprog *mp) const { xdp_multiprog__close(mp); }
};
using Multiprog = std::unique_ptr<xdp_multiprog, MultiprogCloser>;

// What is on the device; null if nothing is.
Multiprog what_is_attached(Ifindex ifindex) {
    XdpOnDevice xdp;
    if (!query_xdp(ifindex, &xdp) && xdp.mode == XDP_ATTACHED_NONE) {
        return nullptr;  // libxdp would look at all devices.
    }
    auto *mp = xdp_multiprog__get_from_ifindex(index(ifindex));
    return Multiprog(libxdp_get_error(mp) ? nullptr : mp);
}

// Where a program is, in a map of one entry that is bound to it: pins do not
// tell network namespaces apart.
struct Place {
    uint64_t netns;  // The kernel's cookie.
    uint32_t ifindex;
    uint32_t padding;
    bool operator==(const Place &) const = default;
};
constexpr const char *kPlaceMapName = "xf_place";

Place place_of(Ifindex ifindex) {
    return {netns_cookie(), static_cast<uint32_t>(index(ifindex)), 0};
}

Failure bind_place(int prog_fd, Ifindex ifindex) {
    const uint32_t key = 0;
    const Place place = place_of(ifindex);
    const Fd map(bpf_map_create(BPF_MAP_TYPE_ARRAY, kPlaceMapName, sizeof key,
                                sizeof place, 1, nullptr));
    if (!map || bpf_map_update_elem(map.get(), &key, &place, BPF_ANY)
        || bpf_prog_bind_map(prog_fd, map.get(), nullptr)) {
        return failure(errno, "cannot note where the program is");
    }
    return {};
}

// A program that libxdp has pinned for a dispatcher.
struct Pinned {
    int prog_fd;
    uint32_t prog_id;
    Ifindex ifindex;
    uint32_t dispatcher_id;
};
using IsDoomed = std::function<bool(const Pinned &)>;

void remove_pins_in(const std::filesystem::path &dir, Pinned pinned,
                    const IsDoomed &is_doomed) {
    namespace fs = std::filesystem;
    std::error_code ignored;
    for (int i = 0; i < kMaxDispatched; i++) {
        const auto stem = (dir / ("prog" + std::to_string(i))).string();
        const Fd fd(bpf_obj_get((stem + "-prog").c_str()));
        bpf_prog_info info{};
        uint32_t len = sizeof info;
        if (!fd || bpf_obj_get_info_by_fd(fd.get(), &info, &len)) {
            continue;
        }
        pinned.prog_fd = fd.get();
        pinned.prog_id = info.id;
        if (is_doomed(pinned)) {
            fs::remove(stem + "-prog", ignored);
            fs::remove(stem + "-link", ignored);
        }
    }
    fs::remove(dir, ignored);  // Unless others are in it.
}

// libxdp pins a dispatcher's programs in the BPF file system, and the pins
// stay when somebody takes the dispatcher off by netlink, as netdev-afxdp
// does.  Removes those that are doomed, which would keep a program and its
// maps for ever.
void remove_pins(const IsDoomed &is_doomed) {
    namespace fs = std::filesystem;
    std::error_code error;  // Nothing may throw: a destructor calls this.
    for (fs::directory_iterator dir(kPinDirectory, error), end;
         !error && dir != end; dir.increment(error)) {
        int ifindex;
        uint32_t dispatcher_id;
        if (std::sscanf(dir->path().filename().c_str(), "dispatch-%d-%u",
                        &ifindex, &dispatcher_id)
            == 2) {
            remove_pins_in(dir->path(),
                           {-1, 0, Ifindex{ifindex}, dispatcher_id},
                           is_doomed);
        }
    }
}

// Is it ours, of an earlier run, and out of use?  The dispatcher of a device
// that is here can be about to be put on it, unless we are about to do that.
bool is_left_behind(const Pinned &pinned, Ifindex attaching) {
    char name[IF_NAMESIZE];
    const bool exists = if_indextoname(index(pinned.ifindex), name);
    if (exists && pinned.ifindex != attaching) {
        return false;
    }
    XdpOnDevice query;
    if (exists
        && (query_xdp(attaching, &query)
            || query.prog_id == pinned.dispatcher_id)) {
        return false;
    }
    const uint32_t key = 0;
    Place place{};
    const Fd map = find_map(pinned.prog_fd, kPlaceMapName);
    return map && !bpf_map_lookup_elem(map.get(), &key, &place)
        && place == place_of(pinned.ifindex);
}

// ERANGE is what veth says of its peer's MTU.
Failure why_not_linked(int error) {
    if (error == ERANGE) {
        return {
            error,
            "the MTU, for a veth that of its peer, is too large for native "
            "XDP, where a frame has to fit into a page (some 3,500 bytes); "
            "a smaller one helps, or other_config:xdp-offload-generic=true"};
    }
    return failure(error, "cannot attach the XDP program");
}

uint32_t xdp_flags(AttachMode mode) {
    return mode == AttachMode::kGeneric ? XDP_FLAGS_SKB_MODE
                                        : XDP_FLAGS_DRV_MODE;
}

}  // namespace

Failure Attachment::attach(const BpfMaps &maps, PortSlot slot, Ifindex ifindex,
                           const Options &options,
                           std::unique_ptr<Attachment> *out) {
    std::unique_ptr<Attachment> a(new Attachment(ifindex, options));
    remove_pins([&](const Pinned &p) { return is_left_behind(p, ifindex); });

    Fd sockets;
    if (options.pins && !options.only_join) {
        if (auto left = options.pins->take(ifindex)) {
            if (left->program.is_at_tc == options.at_tc
                && !a->take_over(maps, slot, left->program, options)) {
                a->link_fd_ = std::move(left->link);
                a->pins_ = options.pins;
                *out = std::move(a);
                return {};
            }
            // Nobody would tend it.  It gives way to a program of our own,
            // which needs the sockets that libxdp has put into its map.
            (void)bpf_link_detach(left->link.get());
            options.pins->forget(ifindex);
            if (left->program.earlier) {
                sockets = Fd(fcntl(
                    left->program.earlier->map(kSocketMapName).get(),
                    F_DUPFD_CLOEXEC, 0));  // Ports that share it have it yet.
            }
            a.reset(new Attachment(ifindex, options));
        }
    }
    // An earlier process's; without pins it may be this one's.
    if (!options.at_tc && options.pins && has_filter_of_ours(ifindex)) {
        remove_filter(ifindex);
    }
    auto f = options.at_tc ? a->attach_at_tc(maps, slot, options)
                           : a->attach_xdp(maps, slot, options, sockets);
    if (!f) {
        *out = std::move(a);
    }
    return f;
}

Failure Attachment::attach_xdp(const BpfMaps &maps, PortSlot slot,
                               const Options &options, const Fd &sockets) {
    auto present = what_is_attached(ifindex_);
    if (present && !xdp_multiprog__is_legacy(present.get())) {
        if (traits_.of_tc) {
            return {EBUSY,
                    "others' XDP programs are there, which would no "
                    "longer see all packets"};
        }
        auto f = join_dispatcher(maps, slot, present.get(), options);
        return f && options.is_afxdp && !options.only_join
                    && !replace_dispatcher(maps, slot)
                 ? Failure{}
                 : f;
    }
    return options.only_join
             ? Failure{EAGAIN, "there is no dispatcher to join"}
             : attach_alone(maps, slot, options, sockets);
}

// Loads what calls a program that ports share; or, while that is to take over
// from the old one, only that, since its place will be another's.
Failure Attachment::share() {
    SharedKind kind{tx_flag(), traits_};
    if (next_fd() >= 0) {
        kind.next_id = map_id(old_->map(kNextMapName));
        return programs_->find(kind, next_fd(), &shared_);
    }
    std::shared_ptr<SharedProgram> shared;
    auto f = programs_->find(kind, -1, &shared);
    if (!f) {
        f = shared->load_port(ifindex_, &small_);
    }
    if (!f) {
        shared_ = std::move(shared);
    }
    return f;
}

Failure Attachment::keep_shared(const Pins &pins) {
    if (!shared_ || keeps_shared_) {
        return {};
    }
    auto f = shared_->keep(pins);
    keeps_shared_ = !f;
    return f;
}

bool Attachment::can_share(const BpfMaps &maps, PortSlot slot) const {
    return programs_ && maps.knows_port(slot, ifindex_);
}

// Loads a program of XDP that takes over from the old one, if that is there.
Failure Attachment::load(const BpfMaps &maps, PortSlot slot, int sockets_fd) {
    if (can_share(maps, slot)) {
        return share();
    }
    return load_program(maps, constants(slot), sockets_fd, next_fd(),
                        &skeleton_);
}

// A filter outlives its process without being kept (ingress_filter.h), which
// the array by which ports share a program would not.
Failure Attachment::load_skb(const BpfMaps &maps, PortSlot slot,
                             const Options &options) {
    mode_ = AttachMode::kTc;
    if (options.has_tcx && can_share(maps, slot)) {
        return share();
    }
    return load_program(maps, constants(slot), next_fd(), &at_tc_);
}

Failure Attachment::attach_at_tc(const BpfMaps &maps, PortSlot slot,
                                 const Options &options) {
    if (auto f = load_skb(maps, slot, options)) {
        return f;
    }
    if (options.has_tcx) {
        return link_at_tcx(prog_fd(), ifindex_, &link_fd_);
    }
    if (filter_program(ifindex_) && !has_filter_of_ours(ifindex_)) {
        return {EBUSY, "another filter at TC's ingress has priority "
                           + std::to_string(kFilterPriority)};
    }
    auto f = put_filter(ifindex_, prog_fd());
    is_filter_ = !f;
    return f;
}

Failure Attachment::put_back() { return put_filter(ifindex_, prog_fd()); }

int Attachment::prog_fd() const {
    return small_ ? small_.fd()
         : at_tc_ ? bpf_program__fd(at_tc_->progs.xf_skb)
                  : bpf_program__fd(skeleton_->progs.xsk_def_prog);
}

OwnProgram Attachment::own_program() const {
    bpf_link_info info{};
    uint32_t len = sizeof info;
    if (mode_ != AttachMode::kTc || is_filter_
        || bpf_obj_get_info_by_fd(link_fd_.get(), &info, &len)) {
        return {.is_filter = is_filter_};
    }
    return {.tcx_id = info.prog_id};  // An earlier process's, perhaps.
}

// The link of an earlier process stays where it is, with the old program,
// which is given ours as its successor.
Failure Attachment::take_over(const BpfMaps &maps, PortSlot slot,
                              LinkedProgram &old, const Options &options) {
    if (!old.earlier) {
        return {ENOENT, "what it calls is gone"};
    }
    old_ = std::move(old.earlier);
    const auto load_successor = [&] {
        return options.at_tc ? load_skb(maps, slot, options)
                             : take_over_xdp(maps, slot, options);
    };
    // What hands over packets of all devices is no place for a program that
    // takes each for one of its own port.
    hands_over_ =
        old_->map(kNextMapName) && (!old.shared_id || can_share(maps, slot));
    auto f = load_successor();
    if (f && hands_over_) {
        // The kernel may let none of them call the other.
        hands_over_ = false;
        f = load_successor();
    }
    if (f) {
        old.earlier = std::move(old_);
        return f;
    }
    taking_over_ = true;
    return {};
}

Failure Attachment::take_over_xdp(const BpfMaps &maps, PortSlot slot,
                                  const Options &options) {
    XdpOnDevice query;
    if (int error = query_xdp(ifindex_, &query)) {
        return failure(error, "cannot ask for the device's XDP program");
    }
    const bool generic = query.mode == XDP_ATTACHED_SKB;
    // netdev-afxdp chooses the mode of its devices.
    if (generic && !options.allow_generic && !options.is_afxdp) {
        return {EOPNOTSUPP, "generic mode is not wanted any more"};
    }
    mode_ = generic ? AttachMode::kGeneric : AttachMode::kNative;
    // libxdp has put the new sockets into the old program's map.
    const Fd none;
    const Fd &sockets = options.is_afxdp ? old_->map(kSocketMapName) : none;
    has_sockets_ = static_cast<bool>(sockets);
    return load(maps, slot, sockets.get());
}

void Attachment::tend_old(uint64_t now_ns, uint64_t jiffies) {
    if (taking_over_) {
        set_deadline(old_->cpus, now_ns, jiffies);
    }
}

// The old program's 'xf_next', if it is to hand packets over; or -1.
int Attachment::next_fd() const {
    return hands_over_ ? old_->map(kNextMapName).get() : -1;
}

// Puts our programs where the old one looks for them, and it where they look
// for it.  The way back comes first, and when this process ends the kernel
// takes it away last: from one array, in the order of its indexes
// (fd_array_map_clear(), Linux 6.18).  So no sample comes to a program that
// could not give it back.  Ports that share the old one share ours.
Failure Attachment::become_next() {
    const int main = shared_ ? shared_->main_fd() : prog_fd();
    const int sample = shared_ ? shared_->sample_fd()
                     : at_tc_  ? bpf_program__fd(at_tc_->progs.xf_sample)
                               : bpf_program__fd(skeleton_->progs.xf_sample);
    if (old_->successor_fd >= 0) {
        return old_->successor_fd == main
                 ? Failure{}
                 : Failure{EBUSY, "another program takes its packets"};
    }
    const std::pair<uint32_t, int> calls[] = {{XF_NEXT_OLD, old_->prog.get()},
                                              {XF_NEXT_MISS, main},
                                              {XF_NEXT_SAMPLE, sample}};
    for (auto [key, prog_fd] : calls) {
        if (bpf_map_update_elem(next_fd(), &key, &prog_fd, BPF_ANY)) {
            return failure(errno,
                           "cannot take packets from the program of the "
                           "earlier ovs-vswitchd");
        }
    }
    old_->successor_fd = main;
    return {};
}

Failure Attachment::begin_sampling() {
    if (!taking_over_ || sampling_) {
        return {};
    }
    // It may not have the map, or be so different that the kernel lets none
    // of them call the other.
    if (!hands_over_ || become_next()) {
        return finish_take_over();
    }
    sampling_ = true;
    return {};
}

// The program that has taken packets over gives way to that of all ports, or
// those of an earlier release would never share one.
Failure Attachment::finish_take_over() {
    if (!taking_over_) {
        return {};
    }
    const int next = next_fd();
    const auto taking = shared_;  // Until the link has been updated.
    hands_over_ = false;
    // Without room for another one, that which takes packets already goes on.
    if (auto f = shared_ && !small_ ? share() : Failure{};
        f && taking->load_port(ifindex_, &small_)) {
        hands_over_ = next >= 0;
        return f;
    }
    // If it is not kept, its flows end with this process, no more.
    auto not_kept = pins_ ? keep_shared(*pins_) : Failure{};
    // ENOLINK: the device is gone, and the old program with it.
    if (bpf_link_update(link_fd_.get(), prog_fd(), nullptr)
        && errno != ENOLINK) {
        return failure(errno,
                       "cannot replace the program of the earlier "
                       "ovs-vswitchd");
    }
    taking_over_ = false;
    if (std::exchange(old_->successor_fd, -1) >= 0) {
        for (uint32_t i = 0; i < XF_N_NEXT; i++) {
            (void)bpf_map_delete_elem(old_->map(kNextMapName).get(), &i);
        }
    }
    old_ = {};
    return not_kept;
}

Failure Attachment::begin_capture(const BpfMaps &maps, PortSlot slot,
                                  const CaptureSizes &sizes,
                                  std::shared_ptr<const FlowNames> names) {
    if (mode_ == AttachMode::kTc) {
        return {EOPNOTSUPP,
                "its program is at TC's ingress, where tcpdump hears each "
                "packet before it: tcpdump -i DEVICE"};
    }
    if (program_) {
        return {EOPNOTSUPP,
                "its program is in libxdp's dispatcher, where one cannot "
                "take its place without a gap; xdpdump of xdp-tools can look "
                "at it there: xdpdump -i DEVICE -p xsk_def_prog"};
    }
    if (taking_over_) {
        return {EBUSY,
                "flows of the earlier ovs-vswitchd are executed there yet; "
                "try again in some seconds"};
    }
    std::unique_ptr<Capture> capture;
    const int sockets_fd =
        skeleton_ ? bpf_map__fd(skeleton_->maps.xsks_map) : -1;
    if (auto f = Capture::load(maps, constants(slot), sockets_fd, sizes,
                               std::move(names), &capture)) {
        return f;
    }
    if (bpf_link_update(link_fd_.get(), capture->prog_fd(), nullptr)) {
        return failure(errno, "cannot replace the XDP program");
    }
    capture_ = std::move(capture);
    captured_ = true;
    return {};
}

Failure Attachment::end_capture() {
    // ENOLINK: the device is gone, and the program with it.
    if (captured_ && bpf_link_update(link_fd_.get(), prog_fd(), nullptr)
        && errno != ENOLINK) {
        return failure(errno, "cannot replace the XDP program");
    }
    captured_ = false;
    capture_.reset();
    return {};
}

uint32_t Attachment::link_id() const {
    bpf_link_info info{};
    uint32_t len = sizeof info;
    return link_fd_ && !bpf_obj_get_info_by_fd(link_fd_.get(), &info, &len)
             ? info.id
             : 0;
}

Failure Attachment::join_dispatcher(const BpfMaps &maps, PortSlot slot,
                                    xdp_multiprog *present,
                                    const Options &options) {
    const auto mode = xdp_multiprog__attach_mode(present);
    mode_ = mode == XDP_MODE_SKB ? AttachMode::kGeneric : AttachMode::kNative;

    Fd sockets;
    std::vector<xdp_program *> stale;
    for (xdp_program *p = nullptr;
         (p = xdp_multiprog__next_prog(p, present));) {
        if (std::strcmp(xdp_program__name(p), kProgramName) != 0) {
            continue;
        }
        auto its_maps = open_maps(xdp_program__fd(p));
        if (its_maps.contains(kFlowMapName)) {
            stale.push_back(p);
        } else if (options.is_afxdp) {
            sockets = std::move(its_maps[kSocketMapName]);
        }
    }
    // libxdp keeps a dispatcher's programs when their process dies.  One of
    // ours that is there already would go on executing flows of the past.
    for (auto *p : stale) {
        if (int error = xdp_program__detach(p, index(ifindex_), mode, 0)) {
            return failure(error,
                           "cannot remove our program of an earlier "
                           "run from libxdp's dispatcher");
        }
    }

    has_sockets_ = static_cast<bool>(sockets);
    if (auto f = maps.open_port(constants(slot), sockets.get(), &skeleton_)) {
        return f;
    }
    auto *program = xdp_program__from_bpf_obj(skeleton_->obj, kSection);
    if (int error = static_cast<int>(libxdp_get_error(program))) {
        return failure(error, "cannot hand the program to libxdp");
    }
    if (int error = xdp_program__attach(program, index(ifindex_), mode, 0)) {
        xdp_program__close(program);
        return failure(error,
                       "cannot join libxdp's dispatcher (from Linux "
                       "6.12 on that takes libxdp 1.5.5)");
    }
    program_ = program;  // From here on, our destructor takes it off.
    return bind_place(xdp_program__fd(program), ifindex_);
}

Failure Attachment::attach_alone(const BpfMaps &maps, PortSlot slot,
                                 const Options &options,
                                 const Fd &old_sockets) {
    XdpOnDevice query;
    if (int error = query_xdp(ifindex_, &query)) {
        return failure(error, "cannot ask for the device's XDP program");
    }
    if (query.mode == XDP_ATTACHED_NONE) {
        has_sockets_ = options.is_afxdp && old_sockets;
        const int sockets_fd = has_sockets_ ? old_sockets.get() : -1;
        auto f = load_and_link(maps, slot, sockets_fd);
        const bool may_be_generic = options.allow_generic || has_sockets_;
        if ((f.error == EOPNOTSUPP || f.error == ERANGE) && may_be_generic) {
            mode_ = AttachMode::kGeneric;
            f = load_and_link(maps, slot, sockets_fd);
        }
        return f;
    }

    bpf_prog_info info{};
    uint32_t len = sizeof info;
    const Fd present(bpf_prog_get_fd_by_id(query.prog_id));
    if (!present || bpf_obj_get_info_by_fd(present.get(), &info, &len)) {
        return failure(errno, "cannot look at the device's XDP program");
    }
    auto its_maps = open_maps(present.get());
    if (its_maps.contains(kFlowMapName)) {
        return {EBUSY,
                "the program of another ovs-vswitchd is attached.  If "
                "that is gone, \"rm -r "
                    + std::string(Pins::kDirectory)
                    + "\" as root takes it off"};
    }
    const Fd sockets = std::move(its_maps[kSocketMapName]);
    if (!options.is_afxdp || std::strcmp(info.name, kProgramName) != 0
        || !sockets) {
        const bool is_dispatcher =
            std::strcmp(info.name, kDispatcherName) == 0;
        return {EBUSY,
                std::string("another XDP program (") + info.name + ", id "
                    + std::to_string(query.prog_id) + ") is attached, and "
                    + (is_dispatcher
                           ? "libxdp cannot read it: is it a later version's, "
                             "or /sys/fs/bpf not visible to OVS?"
                           : "it does not share the device through libxdp's "
                             "dispatcher")};
    }
    mode_ = query.mode == XDP_ATTACHED_SKB ? AttachMode::kGeneric
                                           : AttachMode::kNative;
    return take_place_of(maps, slot, present.get(), sockets);
}

// The dispatcher gives way if netdev-afxdp is alone in it.  That is for
// kernels which let no program that changes packets into a function that does
// not, and a libxdp whose dispatcher has no other functions.
Failure Attachment::replace_dispatcher(const BpfMaps &maps, PortSlot slot) {
    const auto present = what_is_attached(ifindex_);
    if (!present || xdp_multiprog__program_count(present.get()) != 1) {
        return {EBUSY, "others are in libxdp's dispatcher"};
    }
    auto *only = xdp_multiprog__next_prog(nullptr, present.get());
    const Fd sockets = find_map(xdp_program__fd(only), kSocketMapName);
    if (std::strcmp(xdp_program__name(only), kProgramName) != 0 || !sockets) {
        return {EBUSY, "another is in libxdp's dispatcher"};
    }
    auto *dispatcher = xdp_multiprog__main_prog(present.get());
    auto f = take_place_of(maps, slot, xdp_program__fd(dispatcher), sockets);
    if (!f) {
        const auto id = xdp_program__id(dispatcher);
        remove_pins([&](const Pinned &p) { return p.dispatcher_id == id; });
    }
    return f;
}

// A link cannot replace a program that netlink attached.  In between packets
// take the kernel's stack.
Failure Attachment::take_place_of(const BpfMaps &maps, PortSlot slot,
                                  int present_fd, const Fd &sockets) {
    has_sockets_ = true;
    LIBBPF_OPTS(bpf_xdp_attach_opts, only_this, .old_prog_fd = present_fd);
    auto f = load_and_link(maps, slot, sockets.get(), [&] {
        return bpf_xdp_detach(index(ifindex_), xdp_flags(mode_), &only_this);
    });
    if (f) {
        // Back to how it was; it may not have been taken off at all.
        bpf_xdp_attach(index(ifindex_), present_fd,
                       xdp_flags(mode_) | XDP_FLAGS_UPDATE_IF_NOEXIST,
                       nullptr);
    }
    return f;
}

// 'make_room' runs when all that can fail for other reasons has been done.
Failure Attachment::load_and_link(const BpfMaps &maps, PortSlot slot,
                                  int sockets_fd,
                                  const std::function<int()> &make_room) {
    if (auto f = load(maps, slot, sockets_fd)) {
        return f;
    }
    if (int error = make_room ? make_room() : 0) {
        return failure(error, "cannot detach libxdp's AF_XDP program");
    }
    LIBBPF_OPTS(bpf_link_create_opts, opts, .flags = xdp_flags(mode_));
    link_fd_ = Fd(bpf_link_create(prog_fd(), index(ifindex_), BPF_XDP, &opts));
    return link_fd_ ? Failure{} : why_not_linked(errno);
}

Failure Attachment::persist(const Pins &pins) {
    if (program_ || is_filter_ || pins_ || !pins.usable()) {
        return {};
    }
    auto f = keep_shared(pins);
    if (!f) {
        f = pins.keep(link_fd_, ifindex_);
    }
    if (!f) {
        pins_ = &pins;
    } else if (std::exchange(keeps_shared_, false)) {
        shared_->forget(pins);
    }
    return f;
}

void Attachment::do_not_persist() {
    if (auto *pins = std::exchange(pins_, nullptr)) {
        pins->forget(ifindex_);
        if (std::exchange(keeps_shared_, false)) {
            shared_->forget(*pins);
        }
    }
}

uint32_t Attachment::tx_flag() const {
    return mode_ == AttachMode::kTc      ? XF_PORT_TX_SKB
         : mode_ == AttachMode::kGeneric ? XF_PORT_TX_GENERIC
                                         : XF_PORT_TX_NATIVE;
}

Attachment::~Attachment() {
    do_not_persist();
    if (link_fd_) {
        (void)bpf_link_detach(link_fd_.get());  // Others may have it open.
    }
    if (is_filter_ && is_attached()) {
        remove_filter(ifindex_);
    }
    if (program_) {
        const auto mode =
            mode_ == AttachMode::kGeneric ? XDP_MODE_SKB : XDP_MODE_NATIVE;
        // Fails if the dispatcher, or the device, is gone already.
        if (xdp_program__detach(program_, index(ifindex_), mode, 0)) {
            const auto id = xdp_program__id(program_);
            remove_pins([&](const Pinned &p) { return p.prog_id == id; });
        }
        xdp_program__close(program_);
    }
}

bool Attachment::is_attached() {
    if (is_filter_) {
        bpf_prog_info info{};
        uint32_t len = sizeof info;
        return !bpf_obj_get_info_by_fd(prog_fd(), &info, &len)
            && filter_program(ifindex_) == info.id;
    }
    if (program_) {
        // A dispatcher never changes: who joins or leaves replaces it.  Ask
        // libxdp only then, as each of its answers costs file descriptors that
        // it never closes (libxdp before 1.4.1).
        XdpOnDevice query;
        if (query_xdp(ifindex_, &query)) {
            return false;
        }
        if (query.prog_id != dispatcher_id_
            && xdp_program__is_attached(program_, index(ifindex_))
                   != XDP_MODE_UNSPEC) {
            dispatcher_id_ = query.prog_id;
        }
        return query.prog_id && query.prog_id == dispatcher_id_;
    }
    // A link follows its device into another namespace, where that may have
    // the same index as before.
    bpf_link_info info{};
    uint32_t len = sizeof info;
    if (bpf_obj_get_info_by_fd(link_fd_.get(), &info, &len)) {
        return false;
    }
    LinkedProgram linked;
    linked.is_at_tc = mode_ == AttachMode::kTc;
    linked.ifindex = Ifindex{static_cast<int>(info.xdp.ifindex)};
    linked.prog_id = info.prog_id;
    return is_on(linked, ifindex_);
}

bool Attachment::is_on_a_device() const {
    bpf_link_info info{};
    uint32_t len = sizeof info;
    return link_fd_ && !bpf_obj_get_info_by_fd(link_fd_.get(), &info, &len)
        && info.xdp.ifindex != 0;
}

}  // namespace flowxlate
