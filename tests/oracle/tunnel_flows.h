// SPDX-License-Identifier: Apache-2.0
// The flows of a set of tunnels: their masks, their actions, and where they
// are.
#ifndef TESTS_ORACLE_TUNNEL_FLOWS_H
#define TESTS_ORACLE_TUNNEL_FLOWS_H

#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "fields.h"
#include "reality.h"
#include "tunnel_peer.h"

namespace oracle {

// -- Masks ------------------------------------------------------------------

class MaskOf {
public:
    explicit MaskOf(const model_key &key) : key_{key} {
        for (auto f : {MODEL_recirc_id, MODEL_in_port, MODEL_packet_type,
                       MODEL_dl_type, MODEL_dl_dst}) {
            exact(f);
        }
        std::memset(mask_.at(MODEL_vlans), 0xff, 4 * key_.n_tags());
    }

    // Of a frame that holds another.
    const model_key &of_tunnel() {
        exact(MODEL_nw_proto);
        exact(MODEL_nw_frag, 3);
        return mask_.key;
    }

    // What set actions need to know...
    const model_key &shape() {
        if (key_.is_ip()) {
            exact(MODEL_nw_frag, 3);
        }
        if (key_.is_ip() || key_.u16(MODEL_dl_type) == 0x0806) {
            exact(MODEL_nw_proto);
        }
        return mask_.key;
    }

    // ...and all that there is.
    const model_key &all() {
        shape();
        exact(MODEL_dl_src);
        switch (key_.u16(MODEL_dl_type)) {
            case 0x0800:
                network({MODEL_nw_src, MODEL_nw_dst});
                break;
            case 0x86dd:
                network({MODEL_ipv6_src, MODEL_ipv6_dst, MODEL_ipv6_label});
                break;
            case 0x0806:
                for (auto f : {MODEL_nw_src, MODEL_nw_dst, MODEL_arp_sha,
                               MODEL_arp_tha}) {
                    exact(f);
                }
                break;
            default:
                break;
        }
        return mask_.key;
    }

private:
    void exact(model_field f) { std::memset(mask_.at(f), 0xff, size(f)); }
    void exact(model_field f, uint8_t bits) { *mask_.at(f) = bits; }

    void network(std::initializer_list<model_field> addresses) {
        for (auto f : addresses) {
            exact(f);
        }
        exact(MODEL_nw_tos);
        exact(MODEL_nw_ttl);
        if (!(key_.u8(MODEL_nw_frag) & 2)) {
            transport();
        }
    }

    void transport() {
        const uint8_t proto = key_.u8(MODEL_nw_proto);
        const bool v6 = key_.u16(MODEL_dl_type) == 0x86dd;
        if (proto == IPPROTO_TCP || proto == IPPROTO_UDP
            || proto == IPPROTO_SCTP) {
            exact(MODEL_tp_src);
            exact(MODEL_tp_dst);
        }
        if (proto == IPPROTO_TCP) {
            exact(MODEL_tcp_flags);
            *mask_.at(MODEL_tcp_flags) = 0x0f;
        }
        if (v6 ? proto == IPPROTO_ICMPV6 : proto == IPPROTO_ICMP) {
            mask_.at(MODEL_tp_src)[1] = mask_.at(MODEL_tp_dst)[1] = 0xff;
        }
        if (key_.is_nd()) {
            exact(MODEL_nd_target);
            exact(MODEL_arp_sha);
            exact(MODEL_arp_tha);
        }
    }

    const Fields key_;
    Fields mask_{};
};

// -- Flows ------------------------------------------------------------------

// A list of actions, as OVS has it and as a plugin gets it.
class ActionList {
public:
    ActionList(const std::vector<std::string> &before, const tunnel_spec *spec,
               const std::vector<std::string> &after)
        : before_(before), pushes_(spec) {
        const auto b = c_strings(before), a = c_strings(after);
        if (!tunnel_actions(b.data(), b.size(), spec, a.data(), a.size(),
                            &own_, &abi_)) {
            throw std::runtime_error("actions that OVS does not parse");
        }
    }
    // Those that take a packet out of a tunnel.
    ActionList(size_t n_tags, uint32_t port)
        : abi_(tunnel_pop_actions(static_cast<unsigned>(n_tags), port)) {}
    ~ActionList() {
        std::free(own_.data);
        std::free(abi_.data);
    }
    ActionList(const ActionList &) = delete;
    ActionList &operator=(const ActionList &) = delete;

    const model_bytes &abi() const { return abi_; }
    bool pushes() const { return pushes_; }
    // What is done to a packet before that.
    const std::vector<std::string> &before() const { return before_; }

    // Nothing, if the packet is dropped.
    Frame execute(const Frame &f, uint32_t in_port) const {
        tunnel_frame out;
        if (!tunnel_execute(&own_, f.data(), f.size(), in_port, &out)) {
            return {};
        }
        return Frame(out.data, out.data + out.len);
    }

private:
    const std::vector<std::string> before_;
    const bool pushes_ = false;
    model_bytes own_{}, abi_{};
};

struct Placed {
    size_t index = 0;  // In what Reality counts.
    Reject reject{};
    std::shared_ptr<ActionList> actions;
};

// The flows of a set, by match.
class Table {
public:
    explicit Table(Reality *reality) : reality_(*reality) {
        reality_.install(FlowSet{});
    }

    using MakeActions = std::function<std::shared_ptr<ActionList>()>;

    // The flow with this match, which is made if it is not there.
    // 'more' is what the flow has to match and key and mask do not show.
    const Placed &find(const model_key &key, const model_key &mask,
                       const MakeActions &make, bool more = false) {
        auto [at, is_new] =
            flows_.try_emplace(text_of(key, mask) + (more ? "+" : ""));
        if (is_new) {
            at->second = add(key, mask, make());
        }
        return at->second;
    }

    // That tells one match from another.
    static std::string text_of(const model_key &key, const model_key &mask) {
        model_key k = key;
        for (size_t i = 0; i < MODEL_KEY_WORDS; i++) {
            k.word[i] &= mask.word[i];
        }
        std::string text(reinterpret_cast<const char *>(&k), sizeof k);
        return text.append(reinterpret_cast<const char *>(&mask), sizeof mask);
    }

private:
    Placed add(const model_key &key, const model_key &mask,
               std::shared_ptr<ActionList> actions) {
        ModelFlow flow(model_flow_create(&key, &mask, nullptr, 0));
        if (!flow) {
            throw std::runtime_error("a flow that OVS cannot have");
        }
        const model_bytes &abi = actions->abi();
        flow->actions.data = std::realloc(flow->actions.data, abi.size + 1);
        flow->actions.size = abi.size;
        std::memcpy(flow->actions.data, abi.data, abi.size);
        return {n_++, reality_.add(*flow), std::move(actions)};
    }

    Reality &reality_;
    std::map<std::string, Placed> flows_;
    size_t n_ = 0;
};

}  // namespace oracle

#endif
