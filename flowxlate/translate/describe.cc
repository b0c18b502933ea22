// SPDX-License-Identifier: Apache-2.0
#include "translate/describe.h"

#include <arpa/inet.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <cinttypes>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <sstream>

#include "translate/fields.h"

namespace flowxlate {
namespace {

constexpr const char *kClassNames[] = {"l2", "arp", "ipv4", "ipv6", "mpls"};
static_assert(std::size(kClassNames) == XF_N_CLASSES);

constexpr size_t kMacSize = 6, kIpv6Size = 16;

bool all(Bytes b, std::byte value) {
    return std::all_of(b.begin(), b.end(),
                       [value](std::byte x) { return x == value; });
}

bool is_of(const Field &f, int cls, uint8_t proto, uint8_t tunnel_family) {
    if (f.key_off == kNotInKey || cls < 0 || cls >= XF_N_CLASSES
        || !(f.classes & bit(xf_class(cls)))
        || !may_have(f.has, tunnel_family)) {
        return false;
    }
    return !ip_proto(f.has) || proto == ip_proto(f.has);
}

std::string number(Bytes b) {
    uint32_t n = 0;
    for (auto byte : b) {
        n = n << 8 | std::to_integer<uint32_t>(byte);
    }
    return std::to_string(n);
}

// As one writes a value of this field.
std::string value_text(const Field &f, Bytes b) {
    char text[INET6_ADDRSTRLEN];
    if (b.size() == kIpv6Size) {
        return inet_ntop(AF_INET6, b.data(), text, sizeof text);
    }
    const bool is_ipv4 = f.attr == OVS_KEY_ATTR_IPV4
                      || f.attr == OVS_KEY_ATTR_ARP
                      || f.attr == in_tunnel(OVS_TUNNEL_KEY_ATTR_IPV4_SRC)
                      || f.attr == in_tunnel(OVS_TUNNEL_KEY_ATTR_IPV4_DST);
    if (b.size() == sizeof(in_addr) && is_ipv4) {
        return inet_ntop(AF_INET, b.data(), text, sizeof text);
    }
    if (b.size() == sizeof(xf_key::tun_option)) {
        return "0x" + to_hex(b);
    }
    if (b.size() != kMacSize) {
        return number(b);
    }
    std::string mac;
    for (auto byte : b) {
        append(&mac, mac.empty() ? "%02x" : ":%02x",
               std::to_integer<unsigned>(byte));
    }
    return mac;
}

// A mask that is not all ones: like an address, or in digits.
std::string mask_text(const Field &f, Bytes b) {
    return b.size() >= sizeof(in_addr) ? value_text(f, b) : "0x" + to_hex(b);
}

// Which bits of a field a mask has.
std::string bits_text(Bytes mask) {
    size_t n = 0;
    for (auto byte : mask) {
        n += std::countl_one(std::to_integer<uint8_t>(byte));
        if (byte != std::byte{0xff}) {
            break;
        }
    }
    size_t n_set = 0;
    for (auto byte : mask) {
        n_set += std::popcount(std::to_integer<uint8_t>(byte));
    }
    if (n_set != n) {
        return "/0x" + to_hex(mask);
    }
    return n == mask.size() * 8 ? "" : "/" + std::to_string(n);
}

// What is no row of fields().
void append_special(const xf_key &key, const xf_key &mask, std::string *s) {
    auto put = [s](const char *name, unsigned value, unsigned bits,
                   unsigned full) {
        if (bits) {
            append(s, "%s=0x%04x", name, value);
            if (bits != full) {
                append(s, "/0x%04x", bits);
            }
            *s += ",";
        }
    };
    put("dp_hash", key.dp_hash, mask.dp_hash, 0xff);
    put("eth_type", ntohs(key.eth_type), ntohs(mask.eth_type), 0xffff);
    put("vlan_tci", ntohs(key.vlan_tci), ntohs(mask.vlan_tci), 0xffff);
    if (key.vlan_tci) {
        put("vlan_tci2", ntohs(key.vlan2_tci), ntohs(mask.vlan2_tci), 0xffff);
        constexpr unsigned kBoth = XF_TPID_OUTER_AD | XF_TPID_INNER_AD;
        put("tpids", key.tpids, mask.tpids & kBoth, kBoth);
    }
    put("frag", key.nw_frag, mask.nw_frag, 0xff);
    put("tun_flags", key.tun_flags, mask.tun_flags,
        XF_TUNNEL_CSUM | XF_TUNNEL_OAM | XF_TUNNEL_DF);
    put("ct_state", key.ct_state, mask.ct_state, 0xffff);
    put("ct_zone", key.ct_zone, mask.ct_zone, 0xffff);
    put("ct_mark", key.ct_mark, mask.ct_mark, UINT32_MAX);
    const auto *label = &key.word[XF_LABEL_WORD];
    const auto *bits = &mask.word[XF_LABEL_WORD];
    if (bits[0] | bits[1]) {
        append(s, "ct_label=0x%llx%016llx", label[1], label[0]);
        if ((bits[0] & bits[1]) != UINT64_MAX) {
            append(s, "/0x%llx%016llx", bits[1], bits[0]);
        }
        *s += ",";
    }
}

// Those are in host order.
bool is_special(const Field &f) {
    return f.key_off == offsetof(xf_key, ct_state)
        || f.key_off == offsetof(xf_key, ct_zone)
        || f.key_off == offsetof(xf_key, ct_mark)
        || f.key_off == offsetof(xf_key, ct_label);
}

void end_list(std::string *s) {
    if (!s->empty() && s->back() == ',') {
        s->pop_back();
    }
}

}  // namespace

void append(std::string *s, const char *format, ...) {
    va_list args;
    va_start(args, format);
    char *line = nullptr;
    const int n = vasprintf(&line, format, args);
    va_end(args);
    if (n >= 0) {
        s->append(line, n);
        std::free(line);
    }
}

const char *class_name(int cls) {
    return cls >= 0 && cls < XF_N_CLASSES ? kClassNames[cls] : "unknown";
}

std::string describe_fields(int cls, uint8_t proto, const xf_key &key,
                            const xf_key &mask) {
    const auto *key_bytes = reinterpret_cast<const std::byte *>(&key);
    const auto *mask_bytes = reinterpret_cast<const std::byte *>(&mask);
    std::string s;

    append_special(key, mask, &s);
    for (auto &f : fields()) {
        if (!is_of(f, cls, proto, key.tun_family) || is_special(f)) {
            continue;
        }
        const Bytes value(key_bytes + f.key_off, f.size);
        const Bytes bits(mask_bytes + f.key_off, f.size);
        if (all(bits, std::byte{0})) {
            continue;
        }
        s += std::string(f.name) + "=" + value_text(f, value);
        if (!all(bits, std::byte{0xff})) {
            s += "/" + mask_text(f, bits);
        }
        s += ",";
    }
    end_list(&s);
    return s;
}

std::vector<std::pair<std::string, std::string>> describe_mask(
    int cls, uint8_t proto, const xf_key &mask) {
    std::vector<std::pair<std::string, std::string>> v;
    // What is no row of fields(): here a text.  Without what all masks have.
    xf_key outer = mask;
    outer.eth_type = outer.nw_frag = 0;
    std::string special;
    append_special({}, outer, &special);
    for (std::istringstream list(special); std::getline(list, special, ',');) {
        const auto name = special.substr(0, special.find('='));
        const auto bits = special.find('/');
        v.emplace_back(name, bits == special.npos ? "" : special.substr(bits));
    }
    const auto *bytes = reinterpret_cast<const std::byte *>(&mask);
    for (auto &f : fields()) {
        // A mask does not tell of which family a tunnel's addresses are.
        const bool counts =
            is_of(f, cls, proto, XF_TUNNEL_IPV4) && !is_special(f);
        const Bytes bits(bytes + f.key_off, counts ? f.size : 0);
        if (!all(bits, std::byte{0})) {
            v.emplace_back(f.name, bits_text(bits));
        }
    }
    return v;
}

std::string describe_packet(const xf_packet &p) {
    xf_key all_bits{};
    std::fill(std::begin(all_bits.word), std::end(all_bits.word), UINT64_MAX);
    all_bits.dp_hash = 0;  // Not hashed yet, and of no connection.
    all_bits.ct_state = all_bits.ct_zone = 0;
    all_bits.ct_mark = 0;
    std::fill(all_bits.word + XF_LABEL_WORD,
              p.key.tun_family ? all_bits.word + XF_TUNNEL_WORD
                               : std::end(all_bits.word),
              0);
    if (!(p.cls == XF_CLASS_IPV4 || p.cls == XF_CLASS_IPV6)) {
        all_bits.nw_frag = 0;
    }
    if (!p.nd_option
        && all({reinterpret_cast<const std::byte *>(p.key.nd_target),
                sizeof p.key.nd_target},
               std::byte{0})) {
        std::fill(all_bits.word + XF_ND_WORD, all_bits.word + XF_INNER_WORD,
                  0);
    }
    return describe_fields(static_cast<int>(p.cls), p.key.nw_proto, p.key,
                           all_bits);
}

std::string describe_changes(int cls, uint8_t proto, const xf_action &action,
                             const xf_rewrite &rewrite) {
    std::string s;
    xf_key value{}, mask{};
    std::copy(std::begin(rewrite.value), std::end(rewrite.value), value.word);
    std::copy(std::begin(rewrite.mask), std::end(rewrite.mask), mask.word);

    if (rewrite.max_in) {
        append(&s, "check_pkt_len(size=%u),", rewrite.max_in);
    }
    for (int i = 0; i < action.n_pop; i++) {
        s += "pop_vlan,";
    }
    for (int i = std::min<int>(action.n_push, XF_MAX_TAGS); i-- > 0;) {
        append(&s, "push_vlan(tpid=0x%04x,tci=0x%04x),",
               ntohs(action.tag[i].tpid), ntohs(action.tag[i].tci));
    }
    for (uint32_t i = 0; i < XF_MAX_CT_STEPS && i < rewrite.n_ct_first; i++) {
        s += describe_ct_step(rewrite.ct[i]);
    }
    if (auto sets = describe_fields(cls, proto, value, mask); !sets.empty()) {
        s += "set(" + sets + "),";
    }
    for (uint32_t i = rewrite.n_ct_first; i < XF_MAX_CT_STEPS; i++) {
        s += describe_ct_step(rewrite.ct[i]);
    }
    if (rewrite.max_len) {
        append(&s, "trunc(%u),", rewrite.max_len);
    }
    return s;
}

std::string describe_ct_step(const xf_ct_step &step) {
    std::string s = step.flags & XF_CT_CLEAR ? "ct_clear," : "";
    if (!(step.flags & XF_CT_TRACK)) {
        return s;
    }
    append(&s, "ct(%szone=%u", step.flags & XF_CT_COMMIT ? "commit," : "",
           step.zone);
    if (step.flags & XF_CT_MARK) {
        append(&s, ",mark=0x%x/0x%x", step.mark, step.mark_mask);
    }
    if (step.flags & XF_CT_LABEL) {
        append(&s,
               ",label=0x%" PRIx64 "%016" PRIx64 "/0x%" PRIx64 "%016" PRIx64,
               static_cast<uint64_t>(step.label[1]),
               static_cast<uint64_t>(step.label[0]),
               static_cast<uint64_t>(step.label_mask[1]),
               static_cast<uint64_t>(step.label_mask[0]));
    }
    return s + (step.flags & XF_CT_NAT ? ",nat)," : "),");
}

std::string describe_tunnel_push(const xf_tunnel &t) {
    return t.len ? "tnl_push(" + to_hex(bytes_of(t.header, t.len)) + ")," : "";
}

std::string to_hex(Bytes bytes) {
    std::string s;
    for (auto byte : bytes) {
        append(&s, "%02x", std::to_integer<unsigned>(byte));
    }
    return s;
}

bool from_hex(const std::string &text, std::vector<std::byte> *out) {
    out->clear();
    for (size_t i = 0; i < text.size(); i += 2) {
        const char *begin = text.data() + i, *end = begin + 2;
        uint8_t value = 0;
        if (i + 2 > text.size()
            || std::from_chars(begin, end, value, 16).ptr != end) {
            return false;
        }
        out->push_back(std::byte{value});
    }
    return true;
}

}  // namespace flowxlate
