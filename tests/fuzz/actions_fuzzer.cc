// SPDX-License-Identifier: Apache-2.0
// decode_actions() on arbitrary bytes, for packets with and without a tag.
//
// A model carries out the list on a packet's stack of tags.  What is accepted
// must leave the packet like that; and everything that the program can do must
// be accepted.  Of lists that set fields the model does not say whether they
// are, only what the result may touch.
#include "flowxlate/actions.h"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <netinet/in.h>

#include <cerrno>
#include <optional>
#include <random>

#include "tests/fuzz/fuzz.h"

namespace flowxlate::fuzz {
namespace {

// The tag that the packet came with has a TPID of 0 here: nobody can push it.
struct Tag {
    uint16_t tpid, tci;  // Host order.
    bool operator==(const Tag &) const = default;
};
using Tags = std::vector<Tag>;

struct Sent {
    Tags tags;
    uint32_t port;
    bool operator==(const Sent &) const = default;
};

Tags tags_before(bool tagged) { return tagged ? Tags{{0, 0}} : Tags{}; }

class Model {
public:
    explicit Model(bool tagged) : tags_(tags_before(tagged)) {}

    // Can the program do this action, after the previous ones?
    bool step(uint16_t type, Bytes payload) {
        if (sent_) {
            return false;
        }
        if (type == OVS_ACTION_ATTR_SET
            || type == OVS_ACTION_ATTR_SET_MASKED) {
            sets_ = true;
            return true;
        }
        if (type == OVS_ACTION_ATTR_OUTPUT) {
            sent_ = Sent{tags_, 0};
            return read_exactly(payload, &sent_->port);
        }
        if (type == OVS_ACTION_ATTR_POP_VLAN) {
            if (tags_.empty()) {
                return false;
            }
            tags_.pop_back();
            return true;
        }
        return type == OVS_ACTION_ATTR_PUSH_VLAN && push(payload);
    }

    const std::optional<Sent> &sent() const { return sent_; }
    bool sets() const { return sets_; }

private:
    bool push(Bytes payload) {
        ovs_action_push_vlan p;
        if (!read_exactly(payload, &p)) {
            return false;
        }
        const Tag tag{
            ntohs(p.vlan_tpid),
            static_cast<uint16_t>(ntohs(p.vlan_tci) & ~XF_VLAN_PRESENT)};
        tags_.push_back(tag);
        return (tag.tpid == ETH_P_8021Q || tag.tpid == ETH_P_8021AD)
            && tags_.size() == 1;
    }

    Tags tags_;
    std::optional<Sent> sent_;
    bool sets_ = false;
};

// What the program sends for 'a'; nothing if it drops the packet.
std::optional<Sent> carry_out(const Actions &a, bool tagged) {
    if (a.verdict == XF_DROP) {
        CHECK(a.vlan_op == XF_VLAN_NONE && index(a.out_port) == 0);
        return {};
    }
    CHECK(a.verdict == XF_OUTPUT);
    Tags tags = tags_before(tagged);
    if (a.vlan_op == XF_VLAN_POP || a.vlan_op == XF_VLAN_REPLACE) {
        CHECK(tagged);
        tags.pop_back();
    }
    if (a.vlan_op == XF_VLAN_PUSH || a.vlan_op == XF_VLAN_REPLACE) {
        CHECK(tags.empty());
        tags.push_back({ntohs(a.vlan_tpid), ntohs(a.vlan_tci)});
    }
    CHECK(a.vlan_op <= XF_VLAN_REPLACE);
    CHECK(tags != tags_before(tagged) || (!a.vlan_tpid && !a.vlan_tci));
    return Sent{tags, index(a.out_port)};
}

// A flow of IPv4 and UDP: Ethernet and IP addresses, TOS, TTL and ports may be
// set.
Match match_of(bool tagged) {
    Match m;
    m.cls = XF_CLASS_IPV4;
    m.key.eth_type = htons(ETH_P_IP);
    m.mask.eth_type = 0xffff;
    m.key.nw_proto = IPPROTO_UDP;
    m.mask.nw_proto = 0xff;
    m.mask.vlan_tci = 0xffff;
    m.key.vlan_tci = tagged ? htons(XF_VLAN_PRESENT) : 0;
    return m;
}

void check_rewrite(const Actions &a) {
    xf_key may{};
    std::memset(may.eth_dst, 0xff, sizeof may.eth_dst);
    std::memset(may.eth_src, 0xff, sizeof may.eth_src);
    may.nw_tos = may.nw_ttl = 0xff;
    may.tp_src = may.tp_dst = 0xffff;
    may.ipv4_src = may.ipv4_dst = 0xffffffff;
    for (int i = 0; i < XF_KEY_WORDS; i++) {
        CHECK(!(a.rewrite.value[i] & ~a.rewrite.mask[i]));
        CHECK(!(a.rewrite.mask[i] & ~may.word[i]));
        CHECK(a.verdict == XF_OUTPUT || !a.rewrite.mask[i]);
    }
}

void check(const ByteVector &list, bool tagged) {
    Model model(tagged);
    bool possible = true;
    AttrReader reader(list);
    for (auto a = reader.next(); a && possible; a = reader.next()) {
        possible = model.step(a->type, a->payload);
    }
    possible = possible && !reader.malformed();

    Actions out, again;
    // Whatever was there before must not shine through.
    std::memset(static_cast<void *>(&out), 0xee, sizeof out);
    const Match match = match_of(tagged);
    const Reject r = decode_actions(list, match, &out);
    const Reject r2 = decode_actions(list, match, &again);
    CHECK(r.error == r2.error && r.group == r2.group && r.what == r2.what);
    CHECK(model.sets() ? r || possible : !r == possible);
    if (r) {
        const std::string_view group = r.group;
        const bool invalid = group == "malformed";
        CHECK(invalid || group == "action" || group == "set");
        CHECK(r.error == (invalid ? EINVAL : EOPNOTSUPP));
    } else {
        CHECK(carry_out(out, tagged) == model.sent());
        CHECK(carry_out(again, tagged) == model.sent());
        check_rewrite(out);
        CHECK(!std::memcmp(&out.rewrite, &again.rewrite, sizeof out.rewrite));
    }
}

// -- Mutations: half of them of whole actions, the others of bytes. ----------

// A set of any field of an attribute; of others, too.
void put_set(unit::AttrList *list, std::minstd_rand *random) {
    constexpr struct {
        uint16_t type;
        size_t size;
    } kAttrs[] = {{OVS_KEY_ATTR_ETHERNET, 12},
                  {OVS_KEY_ATTR_IPV4, 12},
                  {OVS_KEY_ATTR_UDP, 4},
                  {OVS_KEY_ATTR_TCP, 4}};
    const auto &attr = kAttrs[(*random)() % std::size(kAttrs)];
    const bool masked = (*random)() % 4;
    ByteVector payload(attr.size * (1 + masked));
    for (auto &byte : payload) {
        byte = static_cast<std::byte>((*random)() % 3 ? 0 : (*random)());
    }
    unit::AttrList nested;
    nested.put_bytes(attr.type, payload);
    list->put_bytes(masked ? OVS_ACTION_ATTR_SET_MASKED : OVS_ACTION_ATTR_SET,
                    nested.bytes());
}

void put_any(unit::AttrList *list, std::minstd_rand *random) {
    const auto word = static_cast<uint32_t>((*random)());
    const bool fits = word & 0x700;
    const uint16_t tpid = word & 0x800 ? ETH_P_8021Q : ETH_P_8021AD;
    switch (word % 8) {
        case 0:
        case 1:
            list->put(OVS_ACTION_ATTR_OUTPUT, word >> 16);
            break;
        case 2:
        case 3:
            list->put(OVS_ACTION_ATTR_PUSH_VLAN,
                      ovs_action_push_vlan{
                          htons(fits ? tpid : word >> 16),
                          htons(static_cast<uint16_t>(word >> 12))});
            break;
        case 4:
            list->put_bytes(OVS_ACTION_ATTR_POP_VLAN, {});
            break;
        case 5:
            put_set(list, random);
            break;
        default:
            list->put_raw(fits ? 8 : word >> 28, (word >> 16) % 32,
                          unit::bytes_of(word));
    }
}

size_t mutate(uint8_t *data, size_t size, size_t max_size, unsigned seed) {
    std::minstd_rand random(seed);
    if (random() % 2) {
        return LLVMFuzzerMutate(data, size, max_size);
    }
    // Leaves one action out, or puts one in, or both.
    std::vector<Attr> actions;
    const ByteVector before = copy_of(bytes_at(data, size));
    AttrReader reader(before);
    while (auto a = reader.next()) {
        actions.push_back(*a);
    }
    const size_t place = random() % (actions.size() + 1);
    const bool leave_out = random() % 2, put_in = !leave_out || random() % 2;
    unit::AttrList list;
    for (size_t i = 0; i <= actions.size(); i++) {
        if (i == place && put_in) {
            put_any(&list, &random);
        }
        if (i < actions.size() && !(i == place && leave_out)) {
            list.put_bytes(actions[i].type, actions[i].payload);
        }
    }
    if (list.bytes().size() > max_size) {
        return size;
    }
    std::copy_n(reinterpret_cast<const uint8_t *>(list.bytes().data()),
                list.bytes().size(), data);
    return list.bytes().size();
}

}  // namespace
}  // namespace flowxlate::fuzz

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    using namespace flowxlate::fuzz;
    const ByteVector list = copy_of(bytes_at(data, size));
    check(list, false);
    check(list, true);
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size,
                               unsigned seed) {
    return flowxlate::fuzz::mutate(data, size, max_size, seed);
}
