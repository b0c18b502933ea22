// SPDX-License-Identifier: Apache-2.0
#include "engine/refusals.h"

#include <utility>

namespace flowxlate {

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

}  // namespace flowxlate
