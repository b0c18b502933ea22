// SPDX-License-Identifier: Apache-2.0
// The connections of an earlier process, which OVS goes on with
// (tables/old_conns.h).
//
// ConnTable, which has them, has a lock of its own.
#ifndef FLOWXLATE_INHERITED_CONNECTIONS_H
#define FLOWXLATE_INHERITED_CONNECTIONS_H

#include <chrono>

#include "base/guarded.h"
#include "engine/core.h"

namespace flowxlate {

class InheritedConnections {
public:
    explicit InheritedConnections(Core &core) : core_(core) {}

    // The port has just been added, with a program of an earlier process, and
    // OVS asks for its connections before it handles the first miss
    // (ct_restore in ovs_offload_abi.h).
    void inherit(const Port &);

    // The next one; false: there is none any more.
    bool restore(ovs_offload_ct *);

    // What the earlier process's programs still do with them is copied to
    // ours, from time to time; after hurry() at the next call.
    void follow() REQUIRES(worker_role);
    void hurry() REQUIRES(worker_role) { next_follow_ = {}; }

    // Their program is on no port any more.
    void forget() REQUIRES(worker_role);

private:
    Core &core_;
    std::chrono::steady_clock::time_point next_follow_ GUARDED_BY(worker_role);
};

}  // namespace flowxlate

#endif
