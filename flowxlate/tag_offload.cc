// SPDX-License-Identifier: Apache-2.0
#include "tag_offload.h"

#include <linux/ethtool.h>
#include <linux/if.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace flowxlate {
namespace {

constexpr std::array kFeatures{
    std::array{"rx-vlan-hw-parse", "rx-vlan-stag-hw-parse"},    // kReceive
    std::array{"tx-vlan-hw-insert", "tx-vlan-stag-hw-insert"},  // kSend
};

// An ethtool command whose structure ends with an array.
template <typename Header>
struct Request {
    explicit Request(size_t array_size) : bytes(sizeof(Header) + array_size) {}
    Header *operator->() { return reinterpret_cast<Header *>(bytes.data()); }

    int send(const Fd &socket, const std::string &name) {
        ifreq ifr{};
        std::strncpy(ifr.ifr_name, name.c_str(), sizeof ifr.ifr_name - 1);
        ifr.ifr_data = bytes.data();
        return ioctl(socket.get(), SIOCETHTOOL, &ifr) < 0 ? errno : 0;
    }

    std::vector<char> bytes;
};

constexpr size_t n_blocks(size_t n_features) { return (n_features + 31) / 32; }

}  // namespace

Failure TagOffload::names(Features *out) const {
    Request<ethtool_sset_info> count(sizeof(uint32_t));
    count->cmd = ETHTOOL_GSSET_INFO;
    count->sset_mask = 1ULL << ETH_SS_FEATURES;
    if (int error = count.send(socket_, name_)) {
        return failure(error, name_ + " does not tell its features");
    }
    const size_t n = count->sset_mask ? count->data[0] : 0;
    Request<ethtool_gstrings> strings(n * ETH_GSTRING_LEN);
    strings->cmd = ETHTOOL_GSTRINGS;
    strings->string_set = ETH_SS_FEATURES;
    strings->len = n;
    if (int error = strings.send(socket_, name_)) {
        return failure(error, name_ + " does not name its features");
    }
    const auto *name = reinterpret_cast<const char *>(strings->data);
    for (size_t i = 0; i < n; i++, name += ETH_GSTRING_LEN) {
        out->emplace_back(name, strnlen(name, ETH_GSTRING_LEN));
    }
    return {};
}

Failure TagOffload::active(Features *out) const {
    Features all;
    if (auto f = names(&all)) {
        return f;
    }
    Request<ethtool_gfeatures> get(n_blocks(all.size())
                                   * sizeof(ethtool_get_features_block));
    get->cmd = ETHTOOL_GFEATURES;
    get->size = n_blocks(all.size());
    if (int error = get.send(socket_, name_)) {
        return failure(error, name_ + " does not tell its features");
    }
    for (const auto *feature : kFeatures[side_]) {
        const size_t i =
            std::find(all.begin(), all.end(), feature) - all.begin();
        if (i < all.size() && get->features[i / 32].active & 1U << i % 32) {
            out->emplace_back(feature);
        }
    }
    return {};
}

void TagOffload::set(const Features &features, bool on) const {
    Features all;
    if (names(&all)) {
        return;
    }
    Request<ethtool_sfeatures> set(n_blocks(all.size())
                                   * sizeof(ethtool_set_features_block));
    set->cmd = ETHTOOL_SFEATURES;
    set->size = n_blocks(all.size());
    for (const auto &feature : features) {
        const size_t i =
            std::find(all.begin(), all.end(), feature) - all.begin();
        if (i < all.size()) {
            set->features[i / 32].valid |= 1U << i % 32;
            set->features[i / 32].requested |= on ? 1U << i % 32 : 0;
        }
    }
    set.send(socket_, name_);  // Who wants to know asks active().
}

std::string to_string(const TagOffload::Features &features) {
    std::string s;
    for (const auto &feature : features) {
        s += (s.empty() ? "" : " and ") + feature;
    }
    return s;
}

}  // namespace flowxlate
