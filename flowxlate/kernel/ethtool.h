// SPDX-License-Identifier: Apache-2.0
// ethtool commands whose structure ends with an array.
#ifndef FLOWXLATE_ETHTOOL_H
#define FLOWXLATE_ETHTOOL_H

#include <linux/ethtool.h>
#include <linux/if.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "base/resource.h"

namespace flowxlate {

template <typename Header>
struct EthtoolRequest {
    explicit EthtoolRequest(size_t array_size)
        : bytes(sizeof(Header) + array_size) {}
    Header *operator->() { return reinterpret_cast<Header *>(bytes.data()); }

    // Asks the driver of the device 'name' of the socket's namespace.  Returns
    // 0 or a positive errno value.
    int send(const Fd &socket, const std::string &name) {
        ifreq ifr{};
        std::strncpy(ifr.ifr_name, name.c_str(), sizeof ifr.ifr_name - 1);
        ifr.ifr_data = bytes.data();
        return ioctl(socket.get(), SIOCETHTOOL, &ifr) < 0 ? errno : 0;
    }

    std::vector<char> bytes;
};

// Stores the strings of a set (ETH_SS_*).  Returns 0 or a positive errno
// value.
int ask_strings(const Fd &socket, const std::string &name, uint32_t set,
                std::vector<std::string> *out);

}  // namespace flowxlate

#endif
