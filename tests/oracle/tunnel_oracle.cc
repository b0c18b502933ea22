// SPDX-License-Identifier: Apache-2.0
// Open vSwitch's own tunnels as the oracle for those in XDP: random frames of
// Geneve and VXLAN are taken apart, random frames are put into tunnels, and
// what has come out of the second is taken apart again.
//
//   tunnel_oracle [--packets N | --seconds N] [--seed S] [--first SET]
//
// Needs root.  Without --seed, the environment's TEST_SEED counts.  OVS is its
// lib/netdev-native-tnl.c, in tunnel_peer.c.  It gets what the bytes mean:
// with those checksums completed that are partial, as the kernel or the
// program would have.
//
// What XDP executes, OVS must have taken as well, and all bytes and counters
// are the same; what OVS drops, XDP must pass on unchanged.  XDP may pass on
// what OVS takes, but only for a reason that is found here again in the bytes.
// There are two things that XDP may do and OVS does not: the checksum of a
// packet that is in another is not looked at, so the outer one is taken for
// right if it fits a right one inside, and it is written as if that were
// right.  Set K of seed S is always the same.  A mismatch ends the run with
// status 1.
#include <linux/bpf.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <stdexcept>

#include <bpf/libbpf.h>

#include "actions.h"
#include "bpf/abi/counters.h"
#include "bpf/abi/tunnel.h"
#include "bytes.h"
#include "trials.h"
#include "tunnel_flows.h"
#include "tunnel_frames.h"

namespace oracle {
namespace {

using flowxlate::PortSlot;
using flowxlate::test::hex;

constexpr unsigned kPacketsPerSet = 120;
// Datapath ports that stand for tunnels: one whose flows match all of a
// packet, and one whose flows match any.
constexpr uint32_t kTunnelPort = 20, kTunnelPortOfAll = 21;
// Of what OVS takes apart, and of what it puts into tunnels, in percent. Below
// that the comparison says little.
constexpr double kMinShare = 45;

using Counts = std::map<std::string, uint64_t>;

struct Tally {
    uint64_t in = 0, popped = 0, popped_by_ovs = 0, dropped = 0;
    uint64_t out = 0, pushed = 0, back = 0, same_port = 0;
    uint64_t relayed = 0;
    Counts left, refused, only_xdp;
};

// -- One set ----------------------------------------------------------------

// What is known of a frame from outside before it is sent through the program.
struct Incoming {
    tunnel_kind kind;
    TunnelFrame made{};
    Fields outer{};
    TunnelLayout layout{};
    bool popped = false;  // By OVS, which has found this:
    tunnel_frame inner{};
    model_key inner_key{};

    const Frame &frame() const { return made.frame; }
    // As it is in the frame.
    Frame raw_inner() const {
        return layout.inner
                 ? Frame(made.frame.begin() + layout.inner, made.frame.end())
                 : Frame{};
    }
};

class Trial {
public:
    Trial(Reality *reality, Random *r, Tally *tally)
        : reality_(*reality),
          random_(*r),
          tally_(*tally),
          kind_(r->percent(60) ? TUNNEL_GENEVE : TUNNEL_VXLAN),
          match_all_(r->percent(60)),
          relays_(r->percent(25)),
          spec_(make_tunnel_spec(kind_, *r)) {
        static constexpr uint16_t kMins[] = {32768, 32768, 1, 61000, 0};
        static constexpr uint16_t kNumbers[] = {28232, 28232, 1, 0, 2, 4535};
        const int vlan_limit = r->percent(50) ? 1 : 2;
        port_min_ = r->pick(kMins);
        n_ports_ =
            std::min<uint16_t>(r->pick(kNumbers), UINT16_MAX - port_min_);
        tunnel_port_range(port_min_,
                          static_cast<uint16_t>(port_min_ + n_ports_));
        reality_.set_tunnel_ports(port_min_, n_ports_);
        model_limit_vlans(vlan_limit);
        FlowSet none;
        none.vlan_limit = vlan_limit;
        reality_.install(none);
        for (uint32_t port : {kTunnelPort, kTunnelPortOfAll}) {
            reality_.program().maps().port(PortSlot{port}).tunnel =
                kind_ == TUNNEL_GENEVE ? XF_TUNNEL_GENEVE : XF_TUNNEL_VXLAN;
        }
        outer_tag_ = r->percent(30);
        for (int m = 0; m < XF_N_MISSES; m++) {
            misses_[m] = reality_.program().misses(static_cast<xf_miss>(m));
        }
    }

    // Returns what is wrong, or nothing.
    std::string run() {
        for (unsigned i = 0; i < kPacketsPerSet; i++) {
            const Frame f = next_frame();
            std::string wrong;
            if (random_.percent(55)) {
                Incoming in{kind_, make_tunnel_frame(kind_, f, random_)};
                wrong = take_in(&in, nullptr);
                if (wrong.empty() && relays_ && in.popped) {
                    mark(&in.made);
                    wrong = take_in(&in, nullptr);
                }
            } else if (f.size() >= kMinFrame) {
                wrong = send_out(f);
            }
            if (!wrong.empty()) {
                return "packet " + std::to_string(i) + ": " + wrong;
            }
        }
        return {};
    }

private:
    // Most are like one that there was.
    Frame next_frame() {
        Frame f = frames_.empty() || random_.percent(40)
                    ? make_frame(random_)
                    : vary(random_.pick(frames_), random_);
        frames_.push_back(f);
        if (random_.percent(4)) {
            f.resize(std::min<size_t>(f.size(), random_.below(24)));
        }
        return f;
    }

    // As a router on the way may do: another hop, congestion.
    void mark(TunnelFrame *t) {
        Frame &f = t->frame;
        const model_headers h = model_find_headers(f.data(), f.size());
        const auto l3 = static_cast<size_t>(h.l3);
        const bool v6 = f[l3] >> 4 == 6;
        const auto bits = static_cast<uint8_t>(random_.below(4));
        f[l3 + 1] ^= static_cast<uint8_t>(v6 ? bits << 4 : bits);
        f[v6 ? l3 + 7 : l3 + 8]--;
        make_ip_sum_right(&f, l3);
        t->good = f;
    }

    // -- Inwards --

    // OVS's part.  Returns whether there is a flow for the frame.
    bool pop(Incoming *in) const {
        const Frame &f = in->frame();
        model_extract(f.data(), f.size(), kInPort, &in->outer.key);
        if (!in->outer.is_ip()
            || in->outer.u8(MODEL_nw_proto) != IPPROTO_UDP) {
            return false;
        }
        if (!find_tunnel(kind_, f, &in->layout)) {
            in->layout = {};
        }
        in->popped = pop_frame(completed(kind_, f), in->outer.n_tags(), in);
        return true;
    }

    bool pop_frame(const Frame &f, size_t n_tags, Incoming *in) const {
        return tunnel_pop(kind_, f.data(), f.size(),
                          static_cast<unsigned>(n_tags), kTunnelPort,
                          &in->inner, &in->inner_key);
    }

    const Placed &outer_flow(const Incoming &in, uint32_t port) {
        const auto &key = in.outer;
        return table_.find(key.key, MaskOf(key.key).of_tunnel(), [&] {
            return std::make_shared<ActionList>(key.n_tags(), port);
        });
    }

    model_key inner_mask(const model_key &key) const {
        return match_all_ ? MaskOf(key).all() : MaskOf(key).shape();
    }

    // What is done to a packet before it goes out, if anything.
    std::vector<std::string> random_changes(const model_key &key,
                                            const model_key &mask) {
        return random_.percent(45)
                 ? make_changes(Fields{key}, Fields{mask}, random_)
                 : std::vector<std::string>{};
    }

    const Placed &inner_flow(const Incoming &in, bool plain) {
        model_key mask = inner_mask(in.inner_key);
        tunnel_match(&in.inner_key, &mask);
        return table_.find(in.inner_key, mask, [&] {
            std::vector<std::string> texts;
            if (!random_.percent(12)) {
                texts = plain ? texts : random_changes(in.inner_key, mask);
                texts.push_back(std::to_string(random_.pick(kGoodPorts)));
            }
            if (relays_ && !plain && !texts.empty()) {
                const std::vector<std::string> out{texts.back()};
                texts.pop_back();
                return std::make_shared<ActionList>(texts, &spec_, out);
            }
            return std::make_shared<ActionList>(texts, nullptr,
                                                std::vector<std::string>{});
        });
    }

    // A frame through both.  'expected' is what is in it, if that is known.
    std::string take_in(Incoming *in, const Frame *expected) {
        tally_.in++;
        if (!pop(in)) {
            return compare_left(*in, "no tunnel's");
        }
        if (!in->popped) {
            tally_.dropped++;
            return compare_dropped(in);
        }
        tally_.popped_by_ovs++;
        if (has_other_options(*in)) {
            tally_.left["other options than one of 4 bytes"]++;
            return compare_dropped(in);
        }
        if (expected
            && *expected
                   != Frame(in->inner.data, in->inner.data + in->inner.len)) {
            return show(*in, "OVS takes out what it has not put in:\n  "
                                 + hex(Frame(in->inner.data,
                                             in->inner.data + in->inner.len))
                                 + "\n  " + hex(*expected));
        }
        const auto outer = outer_flow(*in, kTunnelPort);
        const auto inner = inner_flow(*in, expected);
        if (outer.reject || inner.reject) {
            tally_.refused[(outer.reject ? outer : inner).reject.name()]++;
            return compare_left(*in, "no flow");
        }
        const Observed &seen =
            reality_.run(in->frame(), kAllPorts, in->made.metadata);
        return seen.n_misses ? compare_missed(*in, inner, seen)
                             : compare_popped(*in, outer, inner, seen);
    }

    std::string compare_popped(const Incoming &in, const Placed &outer,
                               const Placed &inner, const Observed &seen) {
        const Frame body(in.inner.data, in.inner.data + in.inner.len);
        const Frame wanted = inner.actions->execute(body, kTunnelPort);
        if ((seen.run.verdict == XDP_REDIRECT) != !wanted.empty()) {
            return show(in, "XDP sends what OVS drops, or the reverse");
        }
        const std::string wrong = inner.actions->pushes() && !wanted.empty()
                                    ? compare_relayed(in, seen.run.out, wanted)
                                : seen.run.out != wanted && !wanted.empty()
                                    ? "XDP sends other bytes"
                                    : "";
        if (!wrong.empty()) {
            return show(in, wrong + ":\n  " + hex(seen.run.out) + "\n  "
                                + hex(wanted));
        }
        for (size_t i = 0; i < seen.counted.size(); i++) {
            const auto &c = seen.counted[i];
            const bool is_outer = i == outer.index,
                       is_inner = i == inner.index;
            const size_t bytes = is_outer ? in.frame().size()
                               : is_inner ? body.size()
                                          : 0;
            if (c.packets != (is_outer || is_inner) || c.bytes != bytes) {
                return show(in, std::string("the counters of ")
                                    + (is_outer   ? "the outer"
                                       : is_inner ? "the inner"
                                                  : "another")
                                    + " flow are wrong");
            }
        }
        tally_.popped++;
        return {};
    }

    // From one tunnel into the next.
    std::string compare_relayed(const Incoming &in, const Frame &out,
                                const Frame &wanted) {
        const std::string wrong = compare_pushed(out, wanted);
        if (!wrong.empty()) {
            return wrong;
        }
        tally_.relayed++;
        return compare_port(in.inner_key, load16(out, l4_of(out)));
    }

    // OVS drops it, or no flow can be for it; but there are flows for whatever
    // is in it.
    std::string compare_dropped(Incoming *in) {
        Incoming good{kind_, {in->made.good, in->made.good}};
        std::ranges::copy(kMacOfAll, in->made.frame.begin());
        std::ranges::copy(kMacOfAll, in->outer.at(MODEL_dl_dst));
        if (pop(&good) && good.popped) {
            add_flows_of_all(good.inner_key);
        }
        outer_flow(*in, kTunnelPortOfAll);
        const Observed &seen =
            reality_.run(in->frame(), kAllPorts, in->made.metadata);
        if (!seen.n_misses) {
            return compare_damaged(*in, seen);
        }
        note_miss();
        return compare_unchanged(*in, seen);
    }

    // Flows for any packet of this shape, with any option that can be matched.
    void add_flows_of_all(const model_key &inner_key) {
        for (bool one_option : {false, true}) {
            Fields key{inner_key};
            Fields mask{MaskOf(inner_key).shape()};
            const uint32_t port = kTunnelPortOfAll;
            std::memcpy(key.at(MODEL_in_port), &port, sizeof port);
            std::memset(mask.at(MODEL_dl_dst), 0, size(MODEL_dl_dst));
            tunnel_set_options(&key.key, one_option);
            table_.find(
                key.key, mask.key,
                [] {
                    return std::make_shared<ActionList>(
                        std::vector<std::string>{"2"}, nullptr,
                        std::vector<std::string>{});
                },
                one_option);
        }
    }

    // XDP has executed what OVS drops: only if the outer checksum is right for
    // one inside that is not.
    std::string compare_damaged(const Incoming &in, const Observed &seen) {
        const auto &l = in.layout;
        const Frame right = l.l4 ? with_right_sums(in.frame(), l) : Frame{};
        Frame outer_right = in.frame();
        if (right.empty() || !load16(in.frame(), l.l4 + 6)
            || load16(right, l.l4 + 6) != load16(in.frame(), l.l4 + 6)
            || own_sum(in.raw_inner()) != OwnSum::kWrong) {
            return show(in, "XDP executes what OVS drops");
        }
        make_udp_sum_right(&outer_right, l);
        Incoming again{kind_, {}};
        if (!pop_frame(outer_right, in.outer.n_tags(), &again)
            || seen.run.out
                   != Frame(again.inner.data,
                            again.inner.data + again.inner.len)) {
            return show(in, "XDP executes what OVS drops, and not even right");
        }
        tally_.only_xdp
            ["taken out of a tunnel though damaged inside, which the "
             "inner checksum tells"]++;
        return {};
    }

    // OVS has taken it apart, and XDP has passed it on.
    std::string compare_missed(const Incoming &in, const Placed &inner,
                               const Observed &seen) {
        const xf_miss reason = note_miss();
        const auto wrong = compare_unchanged(in, seen);
        if (!wrong.empty()) {
            return wrong;
        }
        const std::string why = why_missed(in, inner, reason);
        if (why.empty()) {
            static constexpr const char *kNames[] = {XF_MISS_NAMES};
            return show(in, std::string("XDP misses for no good reason: ")
                                + kNames[reason]);
        }
        tally_.left[why]++;
        return {};
    }

    // Why XDP may pass a packet on, from the bytes.
    std::string why_missed(const Incoming &in, const Placed &inner,
                           xf_miss reason) {
        const auto &l = in.layout;
        const Frame body = in.raw_inner();
        if (l.l4 + l.l4_len != in.frame().size()
            && (reason == XF_MISS_TUNNEL_HEADER
                || reason == XF_MISS_IP_HEADER)) {
            return "padding outside";
        }
        if (reason == XF_MISS_TUNNEL_HEADER) {
            return why_no_plain_header(in);
        }
        if (reason == XF_MISS_IP_HEADER
            && in.frame()[l.l3] >> 4 != (l.v6 ? 6 : 4)) {
            return "another version of IP than Ethernet says";
        }
        if (reason == XF_MISS_IP_OPTIONS && l.v6 && l.l4 - l.l3 != 40) {
            return "extension headers of IPv6 outside";
        }
        if (reason == XF_MISS_TUNNEL_CHECKSUM
            && load16(in.frame(), l.l4 + 6)) {
            if (own_sum(body) == OwnSum::kWrong) {
                return "a wrong checksum inside";
            }
            if (own_sum(body) == OwnSum::kPartial
                && udp_sum(in.frame(), l) == 0xffff) {
                return "a partial checksum inside, and one outside for that";
            }
            if (own_sum(body) == OwnSum::kNone
                && body != Frame(in.inner.data, in.inner.data + body.size())) {
                return "a partial checksum inside, not of all that is there";
            }
        }
        if (reason == XF_MISS_TX_CHECKSUM && is_sctp(in.inner_key)) {
            return "SCTP without a checksum inside";
        }
        return misses_without_tunnel(body, inner, reason)
                 ? "as without a tunnel"
                 : "";
    }

    static bool is_sctp(const model_key &k) {
        const Fields key{k};
        return key.is_ip() && key.u8(MODEL_nw_proto) == IPPROTO_SCTP;
    }

    static bool has_other_options(const Incoming &in) {
        const uint8_t *options;
        const size_t n = tunnel_options(&in.inner_key, &options);
        return n && (n != 8 || options[3] != 1);
    }

    static std::string why_no_plain_header(const Incoming &in) {
        const auto &l = in.layout;
        if (in.made.metadata) {
            return "metadata of a driver";
        }
        if (in.outer.u8(MODEL_nw_frag)) {
            return "a fragment";
        }
        if (load16(in.frame(), l.l4 + 4) != l.l4_len) {
            return "another UDP length";
        }
        if (in.kind == TUNNEL_VXLAN && in.frame()[l.l4 + 8] & 0x04) {
            return "VXLAN with a protocol extension";
        }
        return in.inner.len < kMinFrame ? "no Ethernet header inside" : "";
    }

    // Is the inner frame missed for the same reason if it comes without a
    // tunnel, with a flow that does the same?
    bool misses_without_tunnel(const Frame &body, const Placed &inner,
                               xf_miss reason) {
        model_key key;
        if (body.size() < kMinFrame) {
            return false;
        }
        model_extract(body.data(), body.size(), kInPort, &key);
        table_.find(key, inner_mask(key), [&] { return inner.actions; });
        return reality_.run(body).n_misses && note_miss() == reason;
    }

    // -- Outwards --

    std::string send_out(const Frame &f) {
        model_key key;
        model_extract(f.data(), f.size(), kInPort, &key);
        const model_key mask = inner_mask(key);
        const Placed flow = table_.find(key, mask, [&] {
            const auto changes = random_changes(key, mask);
            std::vector<std::string> after;
            if (outer_tag_) {
                after.push_back("push_vlan(vid=7,pcp=3)");
            }
            after.push_back(std::to_string(
                random_.percent(8) ? kNarrowPort : random_.pick(kGoodPorts)));
            return std::make_shared<ActionList>(changes, &spec_, after);
        });
        if (!flow.actions->pushes()) {
            return {};  // One of misses_without_tunnel().
        }
        tally_.out++;
        if (flow.reject) {
            tally_.refused[flow.reject.name()]++;
            return {};
        }
        Frame whole = f;
        model_complete_checksum(whole.data(), whole.size());
        const Frame wanted = flow.actions->execute(whole, kInPort);
        const Observed &seen = reality_.run(f);
        if (seen.n_misses) {
            return compare_not_pushed(f, wanted, seen);
        }
        const Frame out = seen.run.out;
        const std::string wrong = compare_sent(f, key, flow, wanted, seen);
        if (!wrong.empty()) {
            return wrong + "\n  frame " + hex(f) + "\n  XDP " + hex(out)
                 + "\n  OVS " + hex(wanted);
        }
        Frame body = ActionList(flow.actions->before(), nullptr, {"2"})
                         .execute(whole, kInPort);
        // If it looks as if it were partial now, it will be completed.
        model_complete_checksum(body.data(), body.size());
        Incoming back{kind_, {out, wanted}};
        tally_.back++;
        const std::string lost = take_in(&back, &body);
        return lost.empty() ? lost : lost + "\n  was put in as " + hex(f);
    }

    // All bytes, but for the UDP source port, and the checksum because of it.
    std::string compare_pushed(const Frame &out, const Frame &wanted) {
        TunnelLayout l;
        if (out.size() != wanted.size() || !find_tunnel(kind_, wanted, &l)) {
            return "XDP does not send what OVS sends";
        }
        const uint16_t port = load16(out, l.l4);
        const bool has_sum = load16(wanted, l.l4 + 6);
        if (has_sum && udp_sum(wanted, l) != 0xffff) {
            return "OVS's checksum is wrong";
        }
        if (port < port_min_
            || port > port_min_ + (n_ports_ ? n_ports_ - 1 : 0)) {
            return "the UDP source port is out of range";
        }
        Frame expected = wanted;
        store16(expected, l.l4, port);
        if (has_sum) {
            make_udp_sum_right(&expected, l);
        }
        if (out == expected) {
            return {};
        }
        const Frame body(expected.begin() + static_cast<ptrdiff_t>(l.inner),
                         expected.end());
        if (!has_sum || !is_damaged(body)
            || !only_differs_in_sum(out, expected, l)) {
            return "XDP sends other bytes";
        }
        tally_.only_xdp
            ["put into a tunnel with a checksum outside for a right "
             "one inside"]++;
        return {};
    }

    std::string compare_sent(const Frame &f, const model_key &key,
                             const Placed &flow, const Frame &wanted,
                             const Observed &seen) {
        if (seen.run.verdict != XDP_REDIRECT) {
            return "XDP does not send it";
        }
        const std::string wrong = compare_pushed(seen.run.out, wanted);
        if (!wrong.empty()) {
            return wrong;
        }
        for (size_t i = 0; i < seen.counted.size(); i++) {
            const bool is_it = i == flow.index;
            if (seen.counted[i].packets != is_it
                || seen.counted[i].bytes != (is_it ? f.size() : 0)) {
                return "the counters are wrong";
            }
        }
        tally_.pushed++;
        return compare_port(key, load16(seen.run.out, l4_of(wanted)));
    }

    // Where UDP begins.
    static size_t l4_of(const Frame &f) {
        return static_cast<size_t>(model_find_headers(f.data(), f.size()).l4);
    }

    // What was sent into the tunnel is whole: a checksum of it that looks as
    // if it were partial is a wrong one, changed with its fields.
    static bool is_damaged(const Frame &body) {
        const OwnSum own = own_sum(body);
        return own == OwnSum::kWrong || own == OwnSum::kPartial;
    }

    static bool only_differs_in_sum(const Frame &out, Frame expected,
                                    const TunnelLayout &l) {
        const uint16_t sum = load16(with_right_sums(expected, l), l.l4 + 6);
        store16(expected, l.l4 + 6, sum);
        return out == expected;
    }

    // All packets of a connection have one UDP source port.
    std::string compare_port(const model_key &k, uint16_t port) {
        const Fields key{k};
        const uint8_t proto = key.u8(MODEL_nw_proto);
        if (!key.is_ip() || key.u8(MODEL_nw_frag)
            || (proto != IPPROTO_TCP && proto != IPPROTO_UDP)) {
            return {};
        }
        std::string connection = std::to_string(tunnel_hash(&k));
        for (auto m : {MODEL_dl_src, MODEL_dl_dst, MODEL_nw_proto,
                       MODEL_nw_src, MODEL_nw_dst, MODEL_ipv6_src,
                       MODEL_ipv6_dst, MODEL_tp_src, MODEL_tp_dst}) {
            connection.append(reinterpret_cast<const char *>(key.at(m)),
                              size(m));
        }
        const auto [at, is_new] = ports_.try_emplace(connection, port);
        tally_.same_port += !is_new;
        return at->second == port
                 ? ""
                 : "another UDP source port for the same connection";
    }

    std::string compare_not_pushed(const Frame &f, const Frame &wanted,
                                   const Observed &seen) {
        const xf_miss reason = note_miss();
        if (seen.run.verdict != XDP_PASS || seen.run.out != f
            || seen.n_misses != 1) {
            return "a frame that is passed on is not as it was:\n  " + hex(f)
                 + "\n  " + hex(seen.run.out);
        }
        for (auto &c : seen.counted) {
            if (c.packets) {
                return "a frame that is passed on is counted:\n  " + hex(f);
            }
        }
        const std::string why = why_not_pushed(f, wanted, reason);
        if (why.empty()) {
            static constexpr const char *kNames[] = {XF_MISS_NAMES};
            return std::string("XDP misses for no good reason, ")
                 + kNames[reason] + ":\n  " + hex(f);
        }
        tally_.left[why]++;
        return {};
    }

    std::string why_not_pushed(const Frame &f, const Frame &wanted,
                               xf_miss reason) const {
        constexpr size_t kNarrowLength = 100, kTag = 4;
        model_key key;
        model_extract(f.data(), f.size(), kInPort, &key);
        switch (reason) {
            case XF_MISS_TRUNCATED:
            case XF_MISS_ETHERTYPE:
            case XF_MISS_ARP:
            case XF_MISS_IP_HEADER:
            case XF_MISS_IP_OPTIONS:
            case XF_MISS_ND_OPTIONS:
                return "out: nothing that is parsed";
            case XF_MISS_TX_LENGTH:
                return wanted.size() - (outer_tag_ ? kTag : 0) > kNarrowLength
                         ? "out: longer than the port takes"
                         : "";
            case XF_MISS_TX_CHECKSUM:
                return is_sctp(key) ? "out: SCTP without a checksum" : "";
            default:
                return "";
        }
    }

    // -- What both have --

    // Returns why a frame was missed that has just been.
    xf_miss note_miss() {
        xf_miss reason = XF_N_MISSES;
        for (int m = 0; m < XF_N_MISSES; m++) {
            const auto counter = static_cast<xf_miss>(m);
            const uint64_t n = reality_.program().misses(counter);
            if (n != misses_[m]) {
                reason = counter;
            }
            misses_[m] = n;
        }
        return reason;
    }

    std::string compare_unchanged(const Incoming &in, const Observed &seen) {
        if (seen.run.verdict != XDP_PASS || seen.n_misses != 1) {
            return show(in, "what is missed is not passed on");
        }
        if (seen.run.out != in.frame()) {
            return show(in, "what is passed on is not as it was:\n  "
                                + hex(seen.run.out));
        }
        for (auto &c : seen.counted) {
            if (c.packets || c.bytes) {
                return show(in, "what is passed on is counted");
            }
        }
        return {};
    }

    // There is no flow for it.
    std::string compare_left(const Incoming &in, const char *why) {
        const Observed &seen =
            reality_.run(in.frame(), kAllPorts, in.made.metadata);
        if (!seen.n_misses) {
            return show(in, "XDP executes it without a flow");
        }
        note_miss();
        tally_.left[why]++;
        return compare_unchanged(in, seen);
    }

    std::string show(const Incoming &in, const std::string &wrong) const {
        return wrong + "\n  " + (kind_ == TUNNEL_GENEVE ? "Geneve" : "VXLAN")
             + ", spoilt: \"" + in.made.spoilt + "\", "
             + std::to_string(in.made.metadata) + " bytes of metadata\n  "
             + hex(in.frame());
    }

    Reality &reality_;
    Random &random_;
    Tally &tally_;
    const tunnel_kind kind_;
    const bool match_all_;  // Flows match all fields, or few.
    const bool relays_;     // From one tunnel into another.
    const tunnel_spec spec_;
    uint16_t port_min_ = 0, n_ports_ = 0;
    bool outer_tag_ = false;  // Is pushed.
    Table table_{&reality_};
    std::vector<Frame> frames_;
    std::map<std::string, uint16_t> ports_;
    std::array<uint64_t, XF_N_MISSES> misses_{};
};

// -- The run ----------------------------------------------------------------

RunOptions defaults() {
    RunOptions o{.time = std::chrono::seconds(20)};
    if (const char *seed = std::getenv("TEST_SEED")) {
        o.seed = number(seed);
    }
    return o;
}

uintmax_t sum(const Counts &counts) {
    uintmax_t n = 0;
    for (auto &[name, count] : counts) {
        n += count;
    }
    return n;
}

void print(const char *what, const Counts &counts) {
    for (auto &[name, n] : counts) {
        std::printf("  %s, %s: %ju\n", what, name.c_str(),
                    static_cast<uintmax_t>(n));
    }
}

// Prints what was done; returns whether it was enough to say something.
bool report(const Tally &t, bool good, uint64_t seed) {
    const double in = percent(t.popped, t.popped_by_ovs);
    const double out = percent(t.pushed, t.out);
    const bool enough = t.in < 10'000 || (in >= kMinShare && out >= kMinShare);
    print("left to OVS", t.left);
    print("refused", t.refused);
    print("only XDP", t.only_xdp);
    std::printf(
        "tunnel oracle: %ju packets in, %ju popped by both (%.1f %% of "
        "OVS's), "
        "%ju dropped by OVS; %ju packets out, %ju pushed by both (%.1f %%), "
        "%ju of them popped again, %ju relayed, %ju of a connection seen "
        "before; %ju left to OVS, %ju of refused flows, %ju only by XDP; seed "
        "%ju; %d mismatches\n"
        "%d passed, %d failed, 0 skipped\n",
        static_cast<uintmax_t>(t.in), static_cast<uintmax_t>(t.popped), in,
        static_cast<uintmax_t>(t.dropped), static_cast<uintmax_t>(t.out),
        static_cast<uintmax_t>(t.pushed), out, static_cast<uintmax_t>(t.back),
        static_cast<uintmax_t>(t.relayed), static_cast<uintmax_t>(t.same_port),
        sum(t.left), sum(t.refused), sum(t.only_xdp),
        static_cast<uintmax_t>(seed), !good, good + enough, !good + !enough);
    return enough;
}

int run(const RunOptions &o) {
    Tally t;
    Reality reality(true);
    const bool good = run_trials(
        o, kPacketsPerSet, [&] { return t.in + t.out; },
        [&](Random *random) { return Trial(&reality, random, &t).run(); });
    return report(t, good, o.seed) && good ? 0 : 1;
}

}  // namespace
}  // namespace oracle

int main(int argc, char **argv) {
    try {
        libbpf_set_print(nullptr);
        model_init();
        tunnel_init();
        return oracle::run(oracle::parse(oracle::defaults(), argc, argv));
    } catch (const std::exception &e) {
        std::fprintf(stderr, "tunnel_oracle: %s\n", e.what());
        return 1;
    }
}
