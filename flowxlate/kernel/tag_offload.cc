// SPDX-License-Identifier: Apache-2.0
#include "kernel/tag_offload.h"

#include <algorithm>
#include <array>

#include "kernel/ethtool.h"

namespace flowxlate {
namespace {

constexpr std::array kFeatures{
    std::array{"rx-vlan-hw-parse", "rx-vlan-stag-hw-parse"},    // kReceive
    std::array{"tx-vlan-hw-insert", "tx-vlan-stag-hw-insert"},  // kSend
};

constexpr size_t n_blocks(size_t n_features) { return (n_features + 31) / 32; }

}  // namespace

Failure TagOffload::names(Features *out) const {
    if (int error = ask_strings(socket_, name_, ETH_SS_FEATURES, out)) {
        return failure(error, name_ + " does not name its features");
    }
    return {};
}

Failure TagOffload::active(Features *out) const {
    Features all;
    if (auto f = names(&all)) {
        return f;
    }
    EthtoolRequest<ethtool_gfeatures> get(
        n_blocks(all.size()) * sizeof(ethtool_get_features_block));
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
    EthtoolRequest<ethtool_sfeatures> set(
        n_blocks(all.size()) * sizeof(ethtool_set_features_block));
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
