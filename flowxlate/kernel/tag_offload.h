// SPDX-License-Identifier: Apache-2.0
// VLAN tags beside the frame.
//
// A device that receives with "rx-vlan-hw-parse", or the veth peer that sends
// with "tx-vlan-hw-insert" (each with a twin for 802.1ad), hands a frame over
// without its tag, and the tag beside it.  The kernel's stack puts them
// together; an XDP program sees an untagged frame, and what it redirects has
// lost its tag. Where the kernel datapath matches tags, flows must not be
// executed on such frames.
#ifndef FLOWXLATE_TAG_OFFLOAD_H
#define FLOWXLATE_TAG_OFFLOAD_H

#include <string>
#include <vector>

#include "base/resource.h"
#include "base/types.h"

namespace flowxlate {

class TagOffload {
public:
    enum Side { kReceive, kSend };
    using Features = std::vector<std::string>;  // Names, as ethtool has them.

    // 'socket' belongs to the namespace of the device 'name'.  It keeps the
    // namespace, so this must not live long.
    TagOffload(Fd socket, std::string name, Side side)
        : socket_(std::move(socket)), name_(std::move(name)), side_(side) {}

    // Stores the features that are on and put tags beside the frame.
    Failure active(Features *) const;

    // Switches features on or off; those that the driver does not let go stay.
    void set(const Features &, bool on) const;

private:
    // Reads the names of all features; a feature's number is its index.
    Failure names(Features *) const;

    Fd socket_;
    std::string name_;
    Side side_;
};

// "a and b".
std::string to_string(const TagOffload::Features &);

}  // namespace flowxlate

#endif
