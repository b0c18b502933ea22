// SPDX-License-Identifier: Apache-2.0
// Putting a port's program on its device, and taking it off.
//
// At TC's ingress it is attached by a BPF link (tcx), which is kept and taken
// over like XDP's.  Where the kernel has no tcx it is a filter of TC
// (ingress_filter.h): that stays when this process dies, and the next one
// replaces it at once, as OVS takes all filters off anyway when it adds the
// port.
//
// In XDP there are two ways, and what is on the device decides:
//
// - libxdp's dispatcher is there (the kernel lets several programs share a
//   device, and libxdp, say on behalf of netdev-afxdp, has set that up): our
//   program joins it, in front of the AF_XDP one, and leaves it again.  libxdp
//   pins what is in a dispatcher, so it outlives its process; what a process
//   has left behind is removed by the next one that attaches to the device, or
//   to any if the device is gone.  (libxdp before 1.4.1 leaks descriptors of
//   programs that it finds, so their memory is only given back when this
//   process ends.)
// - Otherwise the program is attached alone, by a BPF link.  A link keeps
//   netdev-afxdp, which detaches whatever it finds before it opens sockets,
//   from taking the program off, and it goes away with this process, unless it
//   is pinned (pins.h): then the next process takes it over (handover.h).  If
//   the port is netdev-afxdp's and libxdp's default AF_XDP program is on the
//   device, that gives way; its map of sockets is taken over, so that misses
//   go on reaching them.  So does libxdp's dispatcher if our program cannot
//   join it and nobody else is in it.  Any other program is somebody else's,
//   and the port is refused.
#ifndef FLOWXLATE_ATTACH_H
#define FLOWXLATE_ATTACH_H

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/resource.h"
#include "kernel/bpf_maps.h"
#include "kernel/capture.h"
#include "kernel/entrance.h"
#include "kernel/loaded.h"
#include "kernel/pins.h"
#include "kernel/shared_program.h"

struct xdp_multiprog;
struct xdp_program;

namespace flowxlate {

enum class AttachMode { kNative, kGeneric, kTc };

class Attachment {
public:
    struct Options {
        bool allow_generic = false;  // Where the driver has no native mode.
        bool is_afxdp = false;       // netdev-afxdp drives the device.
        bool only_join = false;  // Do nothing unless there is a dispatcher.
        bool at_tc = false;      // At TC's ingress, not in XDP,
        bool has_tcx = false;    // by a link.
        PortTraits traits{};     // One that is of_tc joins no dispatcher: TC
                                 // comes behind all its programs.
        // Those that ports share; null: the port's is its own.
        SharedPrograms *programs = nullptr;
        Pins *pins = nullptr;  // Where an earlier process may have left
                               // its link; outlives the attachment.
    };

    // Loads and attaches a program for the port.  EBUSY: the device is taken;
    // EAGAIN: 'only_join', and there is no dispatcher.
    static Failure attach(const BpfMaps &, PortSlot, Ifindex, const Options &,
                          std::unique_ptr<Attachment> *);
    ~Attachment();
    Attachment(const Attachment &) = delete;
    Attachment &operator=(const Attachment &) = delete;

    // Has the device still the program of an earlier process?  Then
    // begin_sampling() lets ours see some of the packets, those that it has no
    // flow for as copies (BpfMaps::take_copies()), and finish_take_over() puts
    // ours in its place; else they do nothing.
    bool is_taking_over() const { return taking_over_; }
    Failure begin_sampling();
    Failure finish_take_over();

    // The connections that the earlier process's program executes by; null if
    // there is none, or its are not as ours are.
    const ConnMaps *old_connections() const {
        return old_ && old_->connections ? &*old_->connections : nullptr;
    }

    // Says to the earlier process's program, if that is there still, that
    // somebody tends it (set_deadline()).
    void tend_old(uint64_t now_ns, uint64_t jiffies);

    // Keeps the program on the device when this process ends, however it
    // does.  Not in a dispatcher, where that is libxdp's business.
    Failure persist(const Pins &);
    void do_not_persist();
    bool is_persistent() const { return pins_ != nullptr; }

    // Puts a program that copies what enters in the place of ours, and ours
    // back.  No packet is lost, and none is counted otherwise.
    Failure begin_capture(const BpfMaps &, PortSlot, const CaptureSizes &,
                          std::shared_ptr<const FlowNames>);
    Failure end_capture();
    bool is_captured() const { return captured_; }
    const Capture &capture() const { return *capture_; }  // If it is.
    uint32_t link_id() const;                             // 0 in a dispatcher.

    AttachMode mode() const { return mode_; }
    // XF_PORT_TX_* that the ports need to which it sends.
    uint32_t tx_flag() const;
    PortConstants constants(PortSlot slot) const {
        return {slot, tx_flag(), traits_};
    }
    bool in_dispatcher() const { return program_ != nullptr; }
    // Others may take such a filter off; put_back() puts it there again.
    bool is_filter() const { return is_filter_; }
    Failure put_back();
    // For Devices::query().
    OwnProgram own_program() const;
    bool has_sockets() const { return has_sockets_; }

    // Is the program on the device that has the index in this namespace?  Not
    // if another device has it now, and netdev-afxdp replaces a dispatcher
    // whole when it reconfigures.
    bool is_attached();
    // Is it on some device, wherever that may be?  Not known of a dispatcher.
    bool is_on_a_device() const;

private:
    Attachment(Ifindex ifindex, const Options &options)
        : ifindex_(ifindex),
          traits_(options.traits),
          programs_(options.programs) {}
    int prog_fd() const;  // Ours.
    Failure attach_xdp(const BpfMaps &, PortSlot, const Options &,
                       const Fd &sockets);
    Failure attach_at_tc(const BpfMaps &, PortSlot, const Options &);
    Failure load(const BpfMaps &, PortSlot, int sockets_fd);
    Failure load_skb(const BpfMaps &, PortSlot, const Options &);
    bool can_share(const BpfMaps &, PortSlot) const;
    Failure share();
    Failure keep_shared(const Pins &);
    Failure take_over(const BpfMaps &, PortSlot, LinkedProgram &,
                      const Options &);
    Failure take_over_xdp(const BpfMaps &, PortSlot, const Options &);
    int next_fd() const;
    Failure become_next();
    Failure join_dispatcher(const BpfMaps &, PortSlot, xdp_multiprog *,
                            const Options &);
    Failure replace_dispatcher(const BpfMaps &, PortSlot);
    Failure take_place_of(const BpfMaps &, PortSlot, int present_fd,
                          const Fd &sockets);
    Failure attach_alone(const BpfMaps &, PortSlot, const Options &,
                         const Fd &old_sockets);
    Failure load_and_link(const BpfMaps &, PortSlot, int sockets_fd,
                          const std::function<int()> &make_room = {});

    const Ifindex ifindex_;
    const PortTraits traits_;
    SharedPrograms *const programs_;
    AttachMode mode_ = AttachMode::kNative;
    // A program of its own, of XDP or of TC's ingress; or a small one that
    // calls one that ports share.
    Skeleton skeleton_;
    SkbSkeleton at_tc_;
    PortProgram small_;
    std::shared_ptr<SharedProgram> shared_;
    bool keeps_shared_ = false;  // Its array is kept for our link.
    bool is_filter_ = false;
    const Pins *pins_ = nullptr;      // Where the link is kept, if it is.
    xdp_program *program_ = nullptr;  // In a dispatcher; else null.
    uint32_t dispatcher_id_ = 0;      // The one our program was last seen in.
    Fd link_fd_;                      // If attached alone.
    // The program of an earlier process, while the link is still its.
    std::shared_ptr<EarlierProgram> old_;
    bool hands_over_ = false;                // It has an 'xf_next' for us.
    std::atomic<bool> taking_over_ = false;  // There is such a program.
    bool sampling_ = false;                  // Our programs are in next_.
    bool has_sockets_ = false;
    std::atomic<bool> captured_ = false;  // There is a capture_.
    std::unique_ptr<Capture> capture_;    // Its program is on the device.
};

}  // namespace flowxlate

#endif
