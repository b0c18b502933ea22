// SPDX-License-Identifier: Apache-2.0
// The ports' programs: how they are attached, what the device needs for them,
// and that they stay where they are.
//
// A port owns its Attachment; attach_lock keeps both in place.  Attaching is
// slow, so it is done without state_lock.
#ifndef FLOWXLATE_ATTACHMENTS_H
#define FLOWXLATE_ATTACHMENTS_H

#include <atomic>
#include <memory>
#include <string_view>
#include <utility>

#include "base/guarded.h"
#include "engine/core.h"
#include "engine/takeover.h"
#include "kernel/attach.h"

namespace flowxlate {

// An OVS interface type.
bool is_afxdp(std::string_view type);

class Attachments {
public:
    Attachments(Core &core, Takeover &takeover)
        : core_(core), takeover_(takeover) {}

    // At which hooks the user wishes the ports' programs (hooks.h).
    void set_wishes(HookWishes wishes) REQUIRES(state_lock) {
        wishes_ = std::move(wishes);
    }
    HookWish wish_for(const Port &port) const REQUIRES(state_lock) {
        return wishes_.of(port.name);
    }
    bool wants_tc(const Port &) const REQUIRES(state_lock);

    // Attaches a program for the port, which gets it from the caller.
    Failure attach(Port &, std::unique_ptr<Attachment> *);
    Attachment::Options options_for(const Port &);
    // The port's program has just been attached.
    void start(Port &);
    void log_mode(const Port &);

    // XDP sees VLAN tags that are in the frame only.
    void put_tags_in_frame(Port &);
    void put_tags_beside(Port &);  // Undoes that.

    // Puts programs back that others have taken off.
    void restore(bool all) REQUIRES(worker_role);
    // Programs may be taken off that have just been put on.
    bool watches_filters() const REQUIRES(worker_role) {
        return watches_filters_;
    }

private:
    void prepare_kernel_ct(const Port &port);
    void restore_one(Ifindex) REQUIRES(worker_role);

    Core &core_;
    Takeover &takeover_;
    std::atomic<bool> has_complained_ = false;  // Of nf_conntrack.
    HookWishes wishes_ GUARDED_BY(state_lock);
    bool watches_filters_ GUARDED_BY(worker_role) = false;
};

}  // namespace flowxlate

#endif
