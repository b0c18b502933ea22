// SPDX-License-Identifier: Apache-2.0
// The library, driven as Open vSwitch would: ports and flows by its C face.
//
// We are the host (struct ovs_offload_host).  Its functions have no argument
// for whom they serve, so the ports are in a registry of the process, with a
// lock of its own: the library asks from its threads as well.  All else is for
// one thread.
//
// The datapath type is "tc": what XDP passes on goes to the kernel, whose TC
// has the filters of all flows.  The library keeps nothing for another process
// (xdp-offload-persist=false): when this one ends, however it does, the kernel
// takes the programs off, and TC is alone again.
#ifndef FLOWERD_XDP_H
#define FLOWERD_XDP_H

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "flowerd/rules.h"
#include "flowxlate/base/types.h"

namespace flowerd {

using flowxlate::Failure;
using flowxlate::Ufid;

struct Stats {
    uint64_t packets = 0;
    uint64_t bytes = 0;  // Ethernet frames without FCS.

    Stats &operator+=(const Stats &other) {
        packets += other.packets;
        bytes += other.bytes;
        return *this;
    }
};

// Where flows are executed.  Xdp is the real place; unit tests have one of
// their own.
class Flows {
public:
    virtual ~Flows() = default;

    // Adds a flow or replaces the one of this name.  Returns 0 or a positive
    // errno value; then there is none.
    virtual int put(const Ufid &, const Rule &) = 0;
    // Removes it, and adds what it has counted since take().
    virtual void del(const Ufid &, Stats *) = 0;
    // Adds what the flow has counted since the last time.  Returns whether it
    // is executed.
    virtual bool take(const Ufid &, Stats *) = 0;
    // Would one that is not executed be taken now?
    virtual bool wants(const Ufid &) = 0;
};

class Xdp : public Flows {
public:
    using Options = std::vector<std::pair<std::string, std::string>>;

    static Failure open(const Options &, std::unique_ptr<Xdp> *);
    ~Xdp() override;
    Xdp(const Xdp &) = delete;
    Xdp &operator=(const Xdp &) = delete;

    Failure add_port(Ifindex, const std::string &name);
    void remove_port(Ifindex);
    bool is_port(Ifindex ifindex) const { return ports_.contains(ifindex); }
    // Flows may ask nf_conntrack for connections: Linux 6.11, where it was
    // loaded before this was made.
    bool can_track() const { return can_track_; }

    int put(const Ufid &, const Rule &) override;
    void del(const Ufid &, Stats *) override;
    bool take(const Ufid &, Stats *) override;
    bool wants(const Ufid &) override;

    // Becomes readable when flows have lost their place, or those that were
    // refused would be taken now.
    int event_fd() const;
    void clear_event();

    // What the library tells operators ("xdp-offload/show").
    struct Command {
        const char *name, *usage;
        size_t min_args, max_args;
    };
    static std::vector<Command> commands();
    // One of these, with as many arguments as it takes.
    std::string tell(const std::string &command,
                     const std::vector<std::string> &args);

private:
    Xdp() = default;

    void *self_ = nullptr;
    bool can_track_ = false;
    std::map<Ifindex, void *> ports_;  // The library's names.
};

}  // namespace flowerd

#endif
