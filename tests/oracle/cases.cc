// SPDX-License-Identifier: Apache-2.0
#include "cases.h"

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>
#include <stdexcept>

#include "fields.h"

namespace oracle {
namespace {

// -- Reading ----------------------------------------------------------------

Megaflow parse_flow(const std::string &match,
                    std::vector<std::string> actions) {
    const auto texts = c_strings(actions);
    char *error = nullptr;
    ModelFlow model(
        model_flow_parse(match.c_str(), texts.data(), texts.size(), &error));
    if (!model) {
        const std::string reason = error ? error : "";
        std::free(error);
        throw std::runtime_error("flow: " + match + ": " + reason);
    }
    return {std::move(model), std::move(actions)};
}

void append_bytes(const std::string &text, Frame *frame) {
    std::istringstream in(text);
    for (std::string byte; in >> byte;) {
        frame->push_back(static_cast<uint8_t>(std::stoul(byte, nullptr, 16)));
    }
}

// -- Shrinking --------------------------------------------------------------

// The members of struct flow that may be left out of a match.
constexpr model_field kOptional[] = {
    MODEL_dp_hash,    MODEL_skb_priority, MODEL_pkt_mark,      MODEL_ct_state,
    MODEL_ct_zone,    MODEL_dl_dst,       MODEL_dl_src,        MODEL_mpls_lse,
    MODEL_nw_src,     MODEL_nw_dst,       MODEL_ipv6_src,      MODEL_ipv6_dst,
    MODEL_ipv6_label, MODEL_nw_tos,       MODEL_nw_ttl,        MODEL_nw_proto,
    MODEL_nd_target,  MODEL_arp_sha,      MODEL_arp_tha,       MODEL_tcp_flags,
    MODEL_tp_src,     MODEL_tp_dst,       MODEL_igmp_group_ip4};

class Shrinker {
public:
    Shrinker(const Case &c, Judge *judge) : judge_(*judge) {
        best_ = {c.set.copy(), c.frame};
        kind_ = judge_.check(best_).kind;
    }

    Case run() {
        // Without the packets before it the case may be none.
        for (bool progress = kind_ != nullptr; progress;) {
            progress = drop_flows();
            progress |= drop_actions();
            progress |= clear_masks();
            progress |= cut_frame();
            progress |= clear_frame();
        }
        return std::move(best_);
    }

private:
    // Takes 'c' for the best case if the mismatch is still there.
    bool accept(Case &&c) {
        const Mismatch wrong = judge_.check(c);
        if (!wrong || wrong.kind != kind_) {
            return false;
        }
        best_ = std::move(c);
        return true;
    }

    // Tries the best case with flow 'which' as 'edit' makes it.
    bool try_flow(
        size_t which,
        const std::function<std::optional<Megaflow>(const Megaflow &)> &edit) {
        return accept({best_.set.copy([&](size_t i, const Megaflow &f) {
                           return i == which ? edit(f) : FlowSet::keep(i, f);
                       }),
                       best_.frame});
    }

    bool drop_flows() {
        bool progress = false;
        for (size_t i = best_.set.flows.size(); i-- > 0;) {
            progress |=
                try_flow(i, [](auto &) { return std::optional<Megaflow>(); });
        }
        return progress;
    }

    bool drop_actions() {
        bool progress = false;
        for (size_t i = 0; i < best_.set.flows.size(); i++) {
            for (size_t k = best_.set.flows[i].actions.size(); k-- > 0;) {
                progress |= try_flow(i, [k](auto &f) {
                    auto actions = f.actions;
                    actions.erase(actions.begin() + static_cast<ptrdiff_t>(k));
                    return make_megaflow(f.model->key, f.model->mask,
                                         std::move(actions));
                });
            }
        }
        return progress;
    }

    // Clears bytes of a flow's mask, if any are set.
    bool clear_mask(size_t flow, model_field field, size_t from, size_t n) {
        Fields mask{best_.set.flows[flow].model->mask};
        uint8_t *begin = mask.at(field) + from;
        if (std::all_of(begin, begin + n, [](uint8_t b) { return !b; })) {
            return false;
        }
        std::memset(begin, 0, n);
        return try_flow(flow, [&](auto &f) {
            return make_megaflow(f.model->key, mask.key, f.actions);
        });
    }

    bool clear_masks() {
        bool progress = false;
        for (size_t i = 0; i < best_.set.flows.size(); i++) {
            for (auto field : kOptional) {
                if (clear_mask(i, field, 0, size(field))) {
                    progress = true;
                    continue;
                }
                for (size_t byte = 0; byte < size(field); byte++) {
                    progress |= clear_mask(i, field, byte, 1);
                }
            }
        }
        return progress;
    }

    bool try_frame(Frame frame) {
        return accept({best_.set.copy(), std::move(frame)});
    }

    // Takes 'n' bytes from the end; if 'inside', from the IP packet, too.
    Frame cut(size_t n, bool inside) const {
        Frame f = best_.frame;
        const model_headers h = model_find_headers(f.data(), f.size());
        f.resize(f.size() - n);
        if (inside && h.l4 >= 0) {
            const auto l3 = static_cast<size_t>(h.l3);
            uint8_t *len = &f[l3 + (f[l3] >> 4 == 6 ? 4 : 2)];
            const size_t less = (len[0] << 8 | len[1]) - n;
            len[0] = static_cast<uint8_t>(less >> 8);
            len[1] = static_cast<uint8_t>(less);
        }
        return f;
    }

    bool cut_frame() {
        bool progress = false;
        for (size_t n = best_.frame.size(); n > 0;) {
            if (best_.frame.size() >= kMinFrame + 20 + n
                && (try_frame(cut(n, true)) || try_frame(cut(n, false)))) {
                progress = true;
            } else {
                n /= 2;
            }
        }
        return progress;
    }

    bool clear_frame() {
        bool progress = false;
        for (size_t i = 0; i < best_.frame.size(); i++) {
            if (best_.frame[i]) {
                Frame f = best_.frame;
                f[i] = 0;
                progress |= try_frame(f);
            }
        }
        return progress;
    }

    Judge &judge_;
    Case best_;
    const char *kind_;
};

}  // namespace

std::string to_text(const Case &c) {
    std::string text = "vlan-limit: " + std::to_string(c.set.vlan_limit)
                     + "\nmode: " + (c.set.native ? "native" : "generic")
                     + "\n";
    for (auto &f : c.set.flows) {
        char *match = model_flow_format(f.model.get());
        text += std::string("flow: ") + match + "\n";
        std::free(match);
        for (auto &action : f.actions) {
            text += "action: " + action + "\n";
        }
    }
    return text + "frame:\n" + flowxlate::test::hex(c.frame) + "\n";
}

Case read_case(const std::string &path) {
    std::ifstream in(path);
    std::string match;
    std::vector<std::string> actions;
    bool in_frame = false;
    Case c;

    auto finish_flow = [&] {
        if (!match.empty()) {
            c.set.flows.push_back(parse_flow(match, std::move(actions)));
        }
        match.clear();
        actions.clear();
    };
    for (std::string line; std::getline(in, line);) {
        const size_t colon = line.find(": ");
        const std::string name = line.substr(0, line.find(':'));
        const std::string value =
            colon == line.npos ? "" : line.substr(colon + 2);
        if (line.empty() || line[0] == '#') {
            continue;
        } else if (name == "vlan-limit") {
            c.set.vlan_limit = std::stoi(value);
            model_limit_vlans(c.set.vlan_limit);
        } else if (name == "mode") {
            c.set.native = value == "native";
        } else if (name == "flow") {
            finish_flow();
            match = value;
        } else if (name == "action") {
            actions.push_back(value);
        } else if (name == "frame" || in_frame) {
            finish_flow();
            append_bytes(in_frame ? line : value, &c.frame);
            in_frame = true;
        } else {
            throw std::runtime_error(path + ": " + line);
        }
    }
    if (c.set.flows.empty() || c.frame.size() < kMinFrame) {
        throw std::runtime_error(path + ": no flow or no frame");
    }
    return c;
}

Case shrink(const Case &c, Judge *judge) { return Shrinker(c, judge).run(); }

}  // namespace oracle
