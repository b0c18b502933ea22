// SPDX-License-Identifier: Apache-2.0
#include "engine/refusals.h"

#include <linux/openvswitch.h>

#include <chrono>
#include <cinttypes>
#include <utility>

#include "base/netlink_attr.h"
#include "engine/offload.h"
#include "translate/describe.h"

namespace flowxlate {
namespace {

std::vector<std::byte> copy_of(const void *p, size_t n) {
    const auto b = bytes_of(p, n);
    return {b.begin(), b.end()};
}

}  // namespace

uint64_t RefusalCounts::note(const Reject &why, const Ufid &ufid,
                             Refusal::Time now) {
    auto &count = counts_[{why.group, why.what}];
    count.n++;
    count.last = ufid;
    if (count.n_logged && now < count.logged + kLogInterval) {
        return 0;
    }
    count.logged = now;
    return count.n - std::exchange(count.n_logged, count.n);
}

uint64_t RefusalCounts::total() const {
    uint64_t n = 0;
    for (auto &[reason, count] : counts_) {
        n += count.n;
    }
    return n;
}

void Refusals::add(Refusal r) {
    auto &by_ufid = all_.get<ByUfid>();
    r.n = 1;
    r.seen = r.last;
    if (auto it = by_ufid.find(r.ufid); it != by_ufid.end()) {
        r.n += it->n;
        by_ufid.erase(it);
    }
    all_.push_back(std::move(r));
    if (all_.size() > kMax) {
        all_.pop_front();
        n_dropped_++;
    }
}

void Refusals::see(const Ufid &ufid, Refusal::Time now) {
    auto &by_ufid = all_.get<ByUfid>();
    auto it = by_ufid.find(ufid);
    if (it != by_ufid.end()) {
        by_ufid.modify(it, [now](Refusal &r) { r.seen = now; });
        all_.relocate(all_.end(), all_.project<0>(it));
    }
}

const Refusal *Refusals::find(const Ufid &ufid) const {
    auto &by_ufid = all_.get<ByUfid>();
    auto it = by_ufid.find(ufid);
    return it == by_ufid.end() ? nullptr : &*it;
}

void Refusals::remove(const Ufid &ufid) { all_.get<ByUfid>().erase(ufid); }

void Refusals::forget_old(Refusal::Time now) {
    while (!all_.empty() && all_.front().seen + kForgetAfter < now) {
        all_.pop_front();
    }
}

// -- The offload's part -----------------------------------------------------

Ifindex Offload::entrance_of(const ovs_offload_flow &f) const {
    AttrReader reader(bytes_of(f.key, f.key_len));
    uint32_t port;
    while (auto a = reader.next()) {
        if (a->type == OVS_KEY_ATTR_IN_PORT
            && read_exactly(a->payload, &port)) {
            return core_.ask().port_ifindex(f.dpif_type, OdpPort{port});
        }
    }
    return {};
}

// Returns what RefusalCounts::note() does.
uint64_t Offload::remember_refusal(const ovs_offload_flow &f,
                                   const Reject &why, Ifindex in,
                                   uint64_t port_events) {
    const auto now = std::chrono::steady_clock::now();
    const auto ufid = Ufid::from(f.ufid);
    Refusal refusal;
    refusal.ufid = ufid;
    refusal.reason = why;
    refusal.last = now;
    refusal.in = in;
    refusal.port_events = port_events;
    refusal.flow = {f.dpif_type, copy_of(f.key, f.key_len),
                    copy_of(f.mask, f.mask_len),
                    copy_of(f.actions, f.actions_len)};
    core_.refusals.add(std::move(refusal));

    return core_.refused.note(why, ufid, now);
}

void Offload::log_refusal(const ovs_offload_flow &f, const Reject &why,
                          uint64_t n) const {
    std::string line = "flow ufid:" + Ufid::from(f.ufid).to_string()
                     + " stays in OVS, " + why.name();
    if (n > 1) {
        append(&line, " (and %" PRIu64 " more since the last such line)",
               n - 1);
    }
    core_.log(OVS_OFFLOAD_LOG_INFO, line + ": " + core_.ask().flow_text(f));
}

}  // namespace flowxlate
