// SPDX-License-Identifier: Apache-2.0
#include "kernel/ethtool.h"

namespace flowxlate {

int ask_strings(const Fd &socket, const std::string &name, uint32_t set,
                std::vector<std::string> *out) {
    EthtoolRequest<ethtool_sset_info> count(sizeof(uint32_t));
    count->cmd = ETHTOOL_GSSET_INFO;
    count->sset_mask = 1ULL << set;
    if (int error = count.send(socket, name)) {
        return error;
    }
    const size_t n = count->sset_mask ? count->data[0] : 0;
    EthtoolRequest<ethtool_gstrings> strings(n * ETH_GSTRING_LEN);
    strings->cmd = ETHTOOL_GSTRINGS;
    strings->string_set = set;
    strings->len = n;
    if (int error = strings.send(socket, name)) {
        return error;
    }
    const auto *text = reinterpret_cast<const char *>(strings->data);
    for (size_t i = 0; i < n; i++, text += ETH_GSTRING_LEN) {
        out->emplace_back(text, strnlen(text, ETH_GSTRING_LEN));
    }
    return 0;
}

}  // namespace flowxlate
