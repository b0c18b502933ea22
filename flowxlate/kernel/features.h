// SPDX-License-Identifier: Apache-2.0
// What this kernel can do that not every supported one (Linux 6.1 and newer)
// can.  The kernel is asked, not its version: distributions take features back
// to older ones, and whoever configures a kernel leaves some out.
//
// Who needs a feature gets this table instead of asking again; what the
// offload does without one is said here, in xdp-offload/show, and in
// docs/kernels.md.
#ifndef FLOWXLATE_FEATURES_H
#define FLOWXLATE_FEATURES_H

#include <array>
#include <cstdint>
#include <string>

#include "base/types.h"

namespace flowxlate {

class KernelFeatures {
public:
    struct Row {
        const char *name;
        const char *since;    // The Linux that has it first, or the
                              // configuration that it takes.
        const char *without;  // What the offload does where it is missing.
        bool is_there;
    };

    // Asks the kernel; takes some milliseconds.  Needs CAP_NET_ADMIN.
    static Failure probe(KernelFeatures *);

    // The generic netlink family "netdev", and its group of notifications:
    // both 0 if there is no such family.
    uint16_t netdev_family() const { return netdev_family_; }
    uint32_t netdev_group() const { return netdev_group_; }
    // Programs beside TC's filters, by BPF links.
    bool has_tcx() const { return tcx_; }
    // Types of the kernel, which programs of tracepoints are loaded by.
    bool has_btf() const { return btf_; }
    // Programs may ask nf_conntrack for connections of a zone, and read them.
    bool has_ct_zones() const { return ct_zones_; }

    std::array<Row, 4> rows() const;
    // "XDP features of devices, tcx, BTF", and what is missing.
    std::string to_string() const;

private:
    Failure probe_netdev_family();

    uint16_t netdev_family_ = 0;
    uint32_t netdev_group_ = 0;
    bool tcx_ = false, btf_ = false, ct_zones_ = false;
};

}  // namespace flowxlate

#endif
