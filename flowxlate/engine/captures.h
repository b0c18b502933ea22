// SPDX-License-Identifier: Apache-2.0
// Ports whose packets somebody looks at: what enters them is copied for
// ovs-offload-dump, by another instance of their programs (kernel/capture.h).
//
// attach_lock guards what belongs to all captures together, as it does the
// captures themselves, which are the ports' attachments'.
#ifndef FLOWXLATE_CAPTURES_H
#define FLOWXLATE_CAPTURES_H

#include <memory>
#include <string>

#include "base/guarded.h"
#include "engine/core.h"

namespace flowxlate {

class Captures {
public:
    explicit Captures(Core &core) : core_(core) {}

    // xdp-offload/capture: the program that copies what enters the port, until
    // nobody renews its lease or it is ended.  Return what the command prints.
    std::string begin(const std::string &port, const CaptureSizes &);
    std::string end(const std::string &port);

    // Ends those that nobody reads any more.
    void end_unread() REQUIRES(worker_role);

    // Ends that of a port whose program is about to go.
    void end_before_change(Port &) REQUIRES(attach_lock);
    // A port's attachment has gone, and a capture with it, perhaps: the names
    // of flows go if it was the last one.
    void forget_names() REQUIRES(attach_lock);

private:
    std::string find(const std::string &name, Port **) REQUIRES(attach_lock);
    Failure name_flows(std::shared_ptr<const FlowNames> *)
        REQUIRES(attach_lock);
    std::string stop(Port &) REQUIRES(attach_lock);

    Core &core_;
    std::shared_ptr<const FlowNames> names_
        GUARDED_BY(attach_lock);  // While a port is captured.
};

}  // namespace flowxlate

#endif
