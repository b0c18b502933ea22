// SPDX-License-Identifier: Apache-2.0
#include "flows.h"

#include <arpa/inet.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "actions.h"
#include "fields.h"

namespace oracle {
namespace {

constexpr size_t kMaxFlows = 24;

// -- Masks ------------------------------------------------------------------

// Writes a mask for 'size' bytes: all, a prefix, some bits, one bit.
void put_mask(uint8_t *to, size_t size, Random &r) {
    const size_t n = r.below(100), bits = size * 8;
    if (n < 60) {
        std::memset(to, 0xff, size);
    } else if (n < 80) {
        for (size_t i = r.between(1, bits); i > 0; i--) {
            to[(i - 1) / 8] |= 0x80 >> (i - 1) % 8;
        }
    } else if (n < 90) {
        for (size_t i = 0; i < size; i++) {
            to[i] = static_cast<uint8_t>(r.word());
        }
    } else {
        const size_t bit = r.below(bits);
        to[bit / 8] = 0x80 >> bit % 8;
    }
}

// Of fields that are matched, in percent.
constexpr unsigned kDensities[] = {3, 15, 40, 80, 98};

class MaskMaker {
public:
    MaskMaker(const model_key &key, Random &r)
        : key_(key), r_(r), density_(r.pick(kDensities)) {}

    model_key make() {
        for (auto f : {MODEL_recirc_id, MODEL_in_port, MODEL_packet_type,
                       MODEL_dl_type}) {
            exact(f);
        }
        for (auto f : {MODEL_skb_priority, MODEL_pkt_mark, MODEL_ct_state,
                       MODEL_ct_zone}) {
            if (r_.percent(2)) {
                exact(f);
            }
        }
        dp_hash();
        maybe(MODEL_dl_dst);
        maybe(MODEL_dl_src);
        vlans();
        switch (key_.u16(MODEL_dl_type)) {
            case 0x0800:
                ip({MODEL_nw_src, MODEL_nw_dst});
                break;
            case 0x86dd:
                ip({MODEL_ipv6_src, MODEL_ipv6_dst, MODEL_ipv6_label});
                break;
            case 0x0806:
            case 0x8035:
                for (auto f : {MODEL_nw_src, MODEL_nw_dst, MODEL_nw_proto,
                               MODEL_arp_sha, MODEL_arp_tha}) {
                    maybe(f);
                }
                break;
            case 0x8847:
            case 0x8848:
                maybe(MODEL_mpls_lse);
                break;
            default:
                break;
        }
        if (r_.percent(8)) {
            anything();
        }
        return mask_.key;
    }

private:
    // Bits of a field without its usual companions: OVS may look at a field
    // before it has looked at what tells whether a packet has it.
    void anything() {
        static constexpr model_field kFields[] = {
            MODEL_skb_priority, MODEL_pkt_mark, MODEL_ct_state,
            MODEL_ct_zone,      MODEL_dl_dst,   MODEL_dl_src,
            MODEL_vlans,        MODEL_mpls_lse, MODEL_nw_src,
            MODEL_nw_dst,       MODEL_ipv6_src, MODEL_ipv6_dst,
            MODEL_ipv6_label,   MODEL_nw_frag,  MODEL_nw_tos,
            MODEL_nw_ttl,       MODEL_nw_proto, MODEL_nd_target,
            MODEL_arp_sha,      MODEL_arp_tha,  MODEL_tcp_flags,
            MODEL_tp_src,       MODEL_tp_dst,   MODEL_igmp_group_ip4};
        const model_field f = r_.pick(kFields);
        put_mask(mask_.at(f), size(f), r_);
    }

    void exact(model_field f) { std::memset(mask_.at(f), 0xff, size(f)); }
    void maybe(model_field f) {
        if (r_.percent(density_)) {
            put_mask(mask_.at(f), size(f), r_);
        }
    }

    // A bucket of a group or of a bond.
    void dp_hash() {
        static constexpr uint32_t kMasks[] = {0x1, 0x3, 0xf, 0xff, 0xffffffff};
        if (key_.u32_host(MODEL_dp_hash) && r_.percent(90)) {
            const uint32_t mask = r_.pick(kMasks);
            std::memcpy(mask_.at(MODEL_dp_hash), &mask, sizeof mask);
        }
    }

    // Presence is matched always: with a mask of 0 the datapath interface says
    // that there is no tag.
    void vlans() {
        for (size_t i = 0; i < key_.n_tags(); i++) {
            uint8_t *tag = mask_.at(MODEL_vlans) + 4 * i;
            tag[0] = tag[1] = 0xff;
            if (i > 0 && r_.percent(10)) {
                continue;
            }
            if (r_.percent(70)) {
                put_mask(tag + 2, 2, r_);
            }
            tag[2] |= 0x10;
        }
    }

    void ip(std::initializer_list<model_field> addresses) {
        static constexpr uint8_t kFragBits[] = {1, 2, 0};
        *mask_.at(MODEL_nw_frag) = r_.percent(97) ? 3 : r_.pick(kFragBits);
        for (auto f : addresses) {
            maybe(f);
        }
        maybe(MODEL_nw_tos);
        maybe(MODEL_nw_ttl);
        if (r_.percent(75)) {
            exact(MODEL_nw_proto);
            l4();
        } else if (r_.percent(10)) {
            maybe(MODEL_nw_proto);
            if (r_.percent(30)) {
                l4();
            }
        }
    }

    void l4() {
        const uint8_t proto = key_.u8(MODEL_nw_proto);
        const bool v6 = key_.u16(MODEL_dl_type) == 0x86dd;
        if (key_.u8(MODEL_nw_frag) & 2) {
            return;  // A later fragment.
        }
        if (proto == IPPROTO_TCP || proto == IPPROTO_UDP
            || proto == IPPROTO_SCTP) {
            maybe(MODEL_tp_src);
            maybe(MODEL_tp_dst);
        }
        if (proto == IPPROTO_TCP) {
            maybe(MODEL_tcp_flags);
            *mask_.at(MODEL_tcp_flags) &= 0x0f;
        }
        if (v6 ? proto == IPPROTO_ICMPV6 : proto == IPPROTO_ICMP) {
            icmp();
        }
        if (proto == IPPROTO_IGMP && !v6) {
            maybe(MODEL_tp_src);
            maybe(MODEL_tp_dst);
            maybe(MODEL_igmp_group_ip4);
        }
        const bool is_exact = mask_.at(MODEL_tp_src)[1] == 0xff
                           && mask_.at(MODEL_tp_dst)[1] == 0xff;
        if (key_.is_nd() && (is_exact || r_.percent(50))) {
            maybe(MODEL_nd_target);
            maybe(MODEL_arp_sha);
            maybe(MODEL_arp_tha);
        }
        if (key_.is_nd() && r_.percent(5)) {
            maybe(MODEL_igmp_group_ip4);
            maybe(MODEL_tcp_flags);
        }
    }

    // OVS matches 8 of the 16 bits.
    void icmp() {
        if (r_.percent(40)) {
            exact(MODEL_tp_src);
            exact(MODEL_tp_dst);
        } else {
            maybe(MODEL_tp_src);
            maybe(MODEL_tp_dst);
        }
        *mask_.at(MODEL_tp_src) = *mask_.at(MODEL_tp_dst) = 0;
    }

    const Fields key_;
    Fields mask_{};
    Random &r_;
    const unsigned density_;
};

// The mask of another flow of this shape, if there is one: OVS has few masks.
const model_key *known_mask(const std::vector<Megaflow> &flows,
                            const model_key &key, Random &r) {
    const Fields wanted{key};
    std::vector<const model_key *> found;
    for (auto &f : flows) {
        const Fields other{f.model->key};
        if (other.u16(MODEL_dl_type) == wanted.u16(MODEL_dl_type)
            && other.u8(MODEL_nw_proto) == wanted.u8(MODEL_nw_proto)
            && other.u8(MODEL_nw_frag) == wanted.u8(MODEL_nw_frag)
            && other.n_tags() == wanted.n_tags()
            && !wanted.u32_host(MODEL_dp_hash)) {
            found.push_back(&f.model->mask);
        }
    }
    return found.empty() ? nullptr : r.pick(found);
}

bool overlap(const model_flow &a, const model_flow &b) {
    for (size_t i = 0; i < MODEL_KEY_WORDS; i++) {
        if ((a.key.word[i] ^ b.key.word[i]) & a.mask.word[i]
            & b.mask.word[i]) {
            return false;
        }
    }
    return true;
}

bool overlaps_any(const model_flow &f, const std::vector<Megaflow> &flows) {
    return std::any_of(flows.begin(), flows.end(),
                       [&](auto &other) { return overlap(f, *other.model); });
}

// A flow for a packet with the fields 'key', for which there is none.
std::optional<Megaflow> flow_for(const model_key &key,
                                 const std::vector<Megaflow> &flows,
                                 uint32_t *recirc_id, Random &r) {
    const bool may_overlap = r.percent(3);
    for (int tries = 0; tries < 6; tries++) {
        const model_key *known = known_mask(flows, key, r);
        const model_key mask =
            known && r.percent(50) ? *known : MaskMaker(key, r).make();
        auto f = make_megaflow(key, mask, {});
        if (f && (may_overlap || !overlaps_any(*f->model, flows))) {
            return make_megaflow(
                key, mask,
                make_actions(Fields{key}, Fields{mask}, recirc_id, r));
        }
    }
    return {};
}

}  // namespace

std::vector<const char *> c_strings(const std::vector<std::string> &strings) {
    std::vector<const char *> c;
    for (auto &s : strings) {
        c.push_back(s.c_str());
    }
    return c;
}

std::optional<Megaflow> make_megaflow(const model_key &key,
                                      const model_key &mask,
                                      std::vector<std::string> actions) {
    const auto texts = c_strings(actions);
    ModelFlow model(
        model_flow_create(&key, &mask, texts.data(), texts.size()));
    if (!model) {
        return {};
    }
    return Megaflow{std::move(model), std::move(actions)};
}

std::vector<const model_flow *> FlowSet::models() const {
    std::vector<const model_flow *> models;
    for (auto &f : flows) {
        models.push_back(f.model.get());
    }
    return models;
}

FlowSet FlowSet::copy(const Edit &edit) const {
    FlowSet set;
    set.vlan_limit = vlan_limit;
    set.native = native;
    model_limit_vlans(vlan_limit);
    for (size_t i = 0; i < flows.size(); i++) {
        if (auto f = edit(i, flows[i])) {
            set.flows.push_back(std::move(*f));
        }
    }
    return set;
}

std::optional<Megaflow> FlowSet::keep(size_t, const Megaflow &f) {
    return make_megaflow(f.model->key, f.model->mask, f.actions);
}

FlowSet make_flow_set(Random &r, std::vector<Frame> *frames) {
    static model_result result;
    static constexpr size_t kFirstChoice[MODEL_MAX_STEPS] = {};
    const size_t wanted = r.between(1, kMaxFlows);
    uint32_t recirc_id = 0;
    FlowSet set;

    set.vlan_limit = r.percent(60) ? 1 : 2;
    set.native = r.percent(75);
    model_limit_vlans(set.vlan_limit);
    frames->clear();
    for (size_t tries = 0; tries < wanted * 2 && set.flows.size() < wanted;
         tries++) {
        Frame frame = frames->empty() || r.percent(30)
                        ? make_frame(r)
                        : vary(r.pick(*frames), r);
        model_packet packet{};
        packet.frame = frame.data();
        packet.len = frame.size();
        packet.in_port = r.percent(97) ? kInPort : 2;
        for (int lookups = 0; lookups < 4; lookups++) {
            const auto models = set.models();
            model_run(models.data(), models.size(), &packet, kFirstChoice,
                      &result);
            if (result.verdict != MODEL_UPCALL) {
                break;
            }
            auto f = flow_for(result.missed, set.flows, &recirc_id, r);
            if (!f) {
                break;
            }
            set.flows.push_back(std::move(*f));
        }
        frames->push_back(std::move(frame));
    }
    return set;
}

}  // namespace oracle
