// SPDX-License-Identifier: Apache-2.0
#include "tunnel_frames.h"

#include <algorithm>
#include <array>
#include <span>

#include "bytes.h"

namespace oracle {
namespace {

using flowxlate::test::ones_complement_sum;

constexpr uint8_t kIcmp = 1, kTcp = 6, kUdp = 17, kIcmpv6 = 58;
constexpr size_t kUdpHeader = 8, kTunnelHeader = 8, kEthernet = 14;

void put_bytes(Frame &f, std::span<const uint8_t> bytes) {
    for (uint8_t b : bytes) {
        put8(f, b);
    }
}

uint16_t pseudo_header(const Frame &f, size_t l3, bool v6, size_t l4_len,
                       uint8_t proto) {
    return ones_complement_sum(&f[l3 + (v6 ? 8 : 12)], v6 ? 32 : 8,
                               static_cast<uint32_t>(l4_len + proto));
}

// -- Values -----------------------------------------------------------------

void random_address(uint8_t *to, bool v6, Random &r) {
    static constexpr uint8_t kHosts[] = {1, 2, 3, 0xfe};
    const size_t n = v6 ? 16 : 4;
    std::fill_n(to, n, 0);
    if (r.percent(85)) {
        to[0] = v6 ? 0xfd : 172;
        to[n - 1] = r.pick(kHosts);
        return;
    }
    do {
        for (size_t i = 0; i < n; i++) {
            to[i] = static_cast<uint8_t>(r.edge(8));
        }
    } while (std::all_of(to, to + n, [](auto b) { return !b; }));
}

uint8_t random_tos(Random &r) {
    static constexpr uint8_t kTos[] = {0, 0, 0x10, 0xb8, 0x03, 0xff};
    return r.percent(80) ? r.pick(kTos) : static_cast<uint8_t>(r.word());
}

uint8_t random_ttl(Random &r) {
    static constexpr uint8_t kTtl[] = {64, 64, 255, 1, 0};
    return r.percent(80) ? r.pick(kTtl) : static_cast<uint8_t>(r.word());
}

// Options of Geneve: most often none or one of OVN's length.
std::vector<uint8_t> random_options(Random &r) {
    static constexpr size_t kLengths[] = {1, 1, 1, 0, 2, 3, 31};
    std::vector<uint8_t> options;
    const size_t n = r.below(100);
    if (n < 40) {
        return options;
    }
    if (n >= 96) {  // No list of options at all.
        put_random(options, 4 * r.below(64), r);
        return options;
    }
    for (size_t left = n < 78 ? 1
                     : n < 88 ? 2
                              : r.between(1, 3);
         left > 0; left--) {
        const size_t words = n < 78 ? 1 : r.pick(kLengths);
        put16(options, r.percent(70) ? 0x0102 : r.word());
        put8(options, r.edge(8));
        put8(options, words | (r.percent(4) ? r.below(8) << 5 : 0));
        put_random(options, 4 * words, r);
    }
    options.resize(std::min<size_t>(options.size(), 252));
    return options;
}

// -- Headers ----------------------------------------------------------------

// A frame while it is made: the fields that lengths depend on are kept apart.
struct Draft {
    Frame head;  // To the end of the Ethernet header.
    bool v6;
    Frame ip;      // Its header, with a length of zero.
    Frame udp;     // Everything from UDP on, with zeros for what follows.
    bool has_sum;  // Of UDP.
    bool is_partial;
};

void put_head(Draft *d, Random &r) {
    Frame &f = d->head;
    put_bytes(f, kMac);
    put16(f, 0x0600);
    put32(f, r.percent(80) ? 0xaa10 : r.word());
    for (size_t n = r.percent(70) ? 0 : r.percent(80) ? 1 : 2; n > 0; n--) {
        put16(f, r.percent(75) ? 0x8100 : 0x88a8);
        put16(f, r.percent(60) ? 100 : r.word());
    }
    put16(f, d->v6 ? 0x86dd : 0x0800);
}

void put_ip(Draft *d, Random &r) {
    Frame &f = d->ip;
    std::array<uint8_t, 16> src, dst;
    random_address(src.data(), d->v6, r);
    random_address(dst.data(), d->v6, r);
    if (d->v6) {
        put32(f, 6u << 28 | random_tos(r) << 20
                     | (r.percent(50) ? 0 : r.edge(20)));
        put16(f, 0);
        put8(f, kUdp);
        put8(f, random_ttl(r));
    } else {
        put8(f, 0x45);
        put8(f, random_tos(r));
        put16(f, 0);
        put16(f, r.word());
        put16(f, r.percent(50) ? 0x4000 : 0);
        put8(f, random_ttl(r));
        put8(f, kUdp);
        put16(f, 0);
    }
    put_bytes(f, {src.data(), d->v6 ? 16u : 4u});
    put_bytes(f, {dst.data(), d->v6 ? 16u : 4u});
}

void put_udp(Draft *d, tunnel_kind kind, const Frame &inner, Random &r) {
    Frame &f = d->udp;
    put16(f, r.edge(16));
    put16(f, kind == TUNNEL_GENEVE ? 6081 : 4789);
    put32(f, 0);
    const uint64_t vni = r.percent(60) ? r.word() : r.edge(24);
    if (kind == TUNNEL_VXLAN) {
        put32(f, 0x08000000);
        put32(f, vni << 8);
    } else {
        const auto options = random_options(r);
        put8(f, options.size() / 4);
        put8(f, (r.percent(10) ? 0x80 : 0) | (r.percent(10) ? 0x40 : 0)
                    | (r.percent(5) ? r.below(0x40) : 0));
        put16(f, 0x6558);
        put32(f, vni << 8 | (r.percent(10) ? r.below(256) : 0));
        put_bytes(f, options);
    }
    put_bytes(f, inner);
}

// Puts the parts together, with lengths and checksums.
Frame assemble(const Draft &d, tunnel_kind kind) {
    Frame f = d.head;
    const size_t l3 = f.size(), l4 = l3 + d.ip.size();
    put_bytes(f, d.ip);
    put_bytes(f, d.udp);
    store16(f, l4 + 4, d.udp.size());
    if (d.v6) {
        store16(f, l3 + 4, f.size() - l3 - 40);
    } else {
        store16(f, l3 + 2, f.size() - l3);
        store16(f, l3 + 10, ~ones_complement_sum(&f[l3], (f[l3] & 15) * 4u));
    }
    if (!d.has_sum) {
        return f;
    }
    if (d.is_partial) {
        store16(f, l4 + 6, pseudo_header(f, l3, d.v6, d.udp.size(), kUdp));
        return f;
    }
    TunnelLayout layout;
    if (find_tunnel(kind, f, &layout)) {
        // That of what is in it once that is complete.
        Frame whole = completed(kind, f);
        make_udp_sum_right(&whole, layout);
        store16(f, l4 + 6, load16(whole, l4 + 6));
    }
    return f;
}

// -- What may be wrong ------------------------------------------------------

struct Spoil {
    const char *name;
    // Before lengths and checksums are filled in; or null.
    void (*draft)(Draft *, tunnel_kind, Random &);
    // After that.
    void (*frame)(TunnelFrame *, const TunnelLayout &, tunnel_kind, Random &);
};

void flip(Frame *f, size_t from, size_t to, Random &r) {
    for (size_t n = r.between(1, 3); n > 0 && from < to; n--) {
        f->at(r.between(from, to - 1)) ^=
            static_cast<uint8_t>(1 << r.below(8));
    }
}

void flip_sum(Frame *f, size_t at, Random &r) {
    store16(*f, at,
            static_cast<uint16_t>(r.percent(50)
                                      ? r.word()
                                      : load16(*f, at) ^ 1u << r.below(16)));
}

void make_fragment(Draft *d, tunnel_kind, Random &r) {
    if (!d->v6) {
        store16(d->ip, 6,
                static_cast<uint16_t>(r.percent(50) ? 0x2000 : r.edge(14)));
        return;
    }
    d->ip[6] = 44;
    put8(d->ip, kUdp);
    put8(d->ip, 0);
    put16(d->ip, r.percent(50) ? 1 : r.edge(16));
    put32(d->ip, r.word());
}

void put_ip_options(Draft *d, tunnel_kind, Random &r) {
    if (!d->v6) {
        put32(d->ip, 0x01010100);
        d->ip[0]++;
        return;
    }
    d->ip[6] = r.percent(50) ? 0 : 60;
    put8(d->ip, kUdp);
    put_random(d->ip, 7, r);
    d->ip[41] = 0;
}

constexpr Spoil kSpoils[] = {
    {"udp-sum", nullptr,
     [](TunnelFrame *t, const TunnelLayout &l, tunnel_kind, Random &r) {
         flip_sum(&t->frame, l.l4 + 6, r);
     }},
    {"ip-sum", nullptr,
     [](TunnelFrame *t, const TunnelLayout &l, tunnel_kind, Random &r) {
         flip_sum(&t->frame, l.l3 + 10, r);  // IPv6: of an address.
     }},
    {"version",
     [](Draft *d, tunnel_kind, Random &r) {
         d->udp[kUdpHeader] ^= static_cast<uint8_t>(0x40 << r.below(2));
     },
     nullptr},
    {"protocol",
     [](Draft *d, tunnel_kind, Random &r) {
         flip(&d->udp, kUdpHeader + 2, kUdpHeader + 4, r);
     },
     nullptr},
    {"flags",
     [](Draft *d, tunnel_kind, Random &r) {
         flip(&d->udp, kUdpHeader, kUdpHeader + 4, r);
     },
     nullptr},
    {"reserved",
     [](Draft *d, tunnel_kind, Random &r) {
         d->udp[kUdpHeader + 7] = static_cast<uint8_t>(r.word());
     },
     nullptr},
    {"options",
     [](Draft *d, tunnel_kind, Random &r) {
         d->udp[kUdpHeader] = static_cast<uint8_t>(r.below(64));
     },
     nullptr},
    {"cut",
     [](Draft *d, tunnel_kind, Random &r) {
         d->udp.resize(
             r.between(kUdpHeader, std::min<size_t>(d->udp.size(), 60)));
     },
     nullptr},
    {"fragment", make_fragment, nullptr},
    {"ip-options", put_ip_options, nullptr},
    {"truncated", nullptr,
     [](TunnelFrame *t, const TunnelLayout &, tunnel_kind, Random &r) {
         t->frame.resize(r.between(kEthernet, t->frame.size()));
     }},
    {"padding", nullptr,
     [](TunnelFrame *t, const TunnelLayout &, tunnel_kind, Random &r) {
         const size_t n = r.percent(90) ? r.between(1, 50) : r.below(300);
         if (r.percent(50)) {
             t->frame.resize(t->frame.size() + n);
         } else {
             put_random(t->frame, n, r);
         }
     }},
    {"udp-length", nullptr,
     [](TunnelFrame *t, const TunnelLayout &l, tunnel_kind, Random &r) {
         store16(t->frame, l.l4 + 4,
                 static_cast<uint16_t>(r.percent(50) ? r.edge(16)
                                                     : l.l4_len - r.below(9)));
         if (load16(t->frame, l.l4 + 6) && r.percent(70)) {
             make_udp_sum_right(&t->frame, l);
         }
     }},
    {"ip-length", nullptr,
     [](TunnelFrame *t, const TunnelLayout &l, tunnel_kind, Random &r) {
         const size_t at = l.l3 + (l.v6 ? 4 : 2);
         store16(
             t->frame, at,
             static_cast<uint16_t>(load16(t->frame, at) + r.below(60) - 30));
         make_ip_sum_right(&t->frame, l.l3);
     }},
    {"bits", nullptr,
     [](TunnelFrame *t, const TunnelLayout &, tunnel_kind, Random &r) {
         flip(&t->frame, sizeof kMac, std::min<size_t>(t->frame.size(), 120),
              r);
     }},
    {"damaged", nullptr,
     [](TunnelFrame *t, const TunnelLayout &l, tunnel_kind, Random &r) {
         flip(&t->frame, l.l4 + kUdpHeader, t->frame.size(), r);
     }},
    {"raw-sum", nullptr,  // Of one that is partial inside.
     [](TunnelFrame *t, const TunnelLayout &l, tunnel_kind, Random &) {
         if (load16(t->frame, l.l4 + 6)) {
             make_udp_sum_right(&t->frame, l);
         }
     }},
    {"metadata", nullptr,
     [](TunnelFrame *t, const TunnelLayout &, tunnel_kind, Random &r) {
         t->metadata = static_cast<uint32_t>(4 * r.between(1, 8));
     }},
};

}  // namespace

TunnelFrame make_tunnel_frame(tunnel_kind kind, const Frame &inner,
                              Random &r) {
    TunnelFrame t;
    TunnelLayout layout;
    Draft d{};
    d.v6 = r.percent(40);
    d.has_sum = r.percent(65);
    d.is_partial = r.percent(12);
    put_head(&d, r);
    put_ip(&d, r);
    put_udp(&d, kind, inner, r);
    t.frame = t.good = assemble(d, kind);
    if (r.percent(50)) {
        return t;
    }
    const Spoil &spoil = r.pick(kSpoils);
    t.spoilt = spoil.name;
    if (spoil.draft) {
        spoil.draft(&d, kind, r);
        t.frame = assemble(d, kind);
    } else if (find_tunnel(kind, t.frame, &layout)) {
        spoil.frame(&t, layout, kind, r);
    }
    return t;
}

tunnel_spec make_tunnel_spec(tunnel_kind kind, Random &r) {
    tunnel_spec s{};
    s.kind = kind;
    s.v6 = r.percent(40);
    s.checksum = r.percent(50);
    s.oam = kind == TUNNEL_GENEVE && r.percent(10);
    std::ranges::copy(kMac, s.dst_mac);
    s.src_mac[0] = 0x06;
    s.src_mac[5] = static_cast<uint8_t>(r.word());
    random_address(s.src, s.v6, r);
    random_address(s.dst, s.v6, r);
    s.tos = random_tos(r);
    s.ttl = random_ttl(r);
    s.vni = static_cast<uint32_t>(r.edge(24));
    if (kind == TUNNEL_GENEVE) {
        const auto options = random_options(r);
        s.options_len = options.size();
        std::ranges::copy(options, s.options);
    }
    return s;
}

// -- Reading ----------------------------------------------------------------

bool find_tunnel(tunnel_kind kind, const Frame &f, TunnelLayout *l) {
    Fields key{};
    model_extract(f.data(), f.size(), 1, &key.key);
    const model_headers h = model_find_headers(f.data(), f.size());
    if (h.l3 < 0 || h.l4 < 0 || !key.is_ip() || key.u8(MODEL_nw_proto) != kUdp
        || h.l4_len < kUdpHeader) {
        return false;
    }
    *l = {static_cast<size_t>(h.l3), static_cast<size_t>(h.l4), h.l4_len, 0,
          key.u16(MODEL_dl_type) == 0x86dd};
    size_t inner = l->l4 + kUdpHeader + kTunnelHeader;
    if (inner > f.size()) {
        return true;
    }
    if (kind == TUNNEL_GENEVE) {
        inner += (f[l->l4 + kUdpHeader] & 0x3f) * 4u;
    }
    l->inner = inner < f.size() ? inner : 0;
    return true;
}

namespace {

// Where a packet's own checksum is, and what it covers.
struct Covered {
    size_t l4, len, at;
    uint16_t pseudo;
    bool may_be_partial;
};

// Without its VLAN tags, also those that OVS does not look behind.
Frame without_tags(const Frame &f) {
    constexpr size_t kType = 12, kTag = 4;
    Frame plain = f;
    while (plain.size() >= kEthernet
           && (load16(plain, kType) == 0x8100
               || load16(plain, kType) == 0x88a8)) {
        plain.erase(
            plain.begin() + kType,
            plain.begin()
                + std::min<ptrdiff_t>(kType + kTag, std::ssize(plain)));
    }
    return plain;
}

// Where the checksum of a protocol is in its header; 0: it has none.
size_t sum_offset(uint8_t proto, bool v6) {
    return proto == kTcp                   ? 16
         : proto == kUdp                   ? 6
         : proto == (v6 ? kIcmpv6 : kIcmp) ? 2
                                           : 0;
}

// As has_known_sum() of the program, from what OVS finds.
bool find_own_sum(const Frame &tagged, Covered *c) {
    const Frame f = without_tags(tagged);
    Fields key{};
    if (f.size() < kEthernet) {
        return false;
    }
    model_extract(f.data(), f.size(), 1, &key.key);
    const model_headers h = model_find_headers(f.data(), f.size());
    if (!key.is_ip() || h.l3 < 0 || h.l4 < 0 || key.u8(MODEL_nw_frag)) {
        return false;
    }
    const bool v6 = key.u16(MODEL_dl_type) == 0x86dd;
    const uint8_t proto = key.u8(MODEL_nw_proto);
    const size_t offset = sum_offset(proto, v6);
    const auto l4 = static_cast<size_t>(h.l4);
    if (!offset || offset + 2 > h.l4_len || l4 + h.l4_len != f.size()
        || (proto == kUdp
            && (!load16(f, l4 + offset) || load16(f, l4 + 4) != h.l4_len))) {
        return false;
    }
    const size_t tags = tagged.size() - f.size();
    *c = {l4 + tags, h.l4_len, l4 + tags + offset, 0,
          proto == kTcp || proto == kUdp};
    if (proto != kIcmp) {
        c->pseudo =
            pseudo_header(f, static_cast<size_t>(h.l3), v6, c->len, proto);
    }
    return true;
}

}  // namespace

OwnSum own_sum(const Frame &f) {
    Covered c;
    if (!find_own_sum(f, &c)) {
        return OwnSum::kNone;
    }
    return ones_complement_sum(&f[c.l4], c.len, c.pseudo) == 0xffff
             ? OwnSum::kRight
         : c.may_be_partial && load16(f, c.at) == c.pseudo ? OwnSum::kPartial
                                                           : OwnSum::kWrong;
}

void make_own_sum_right(Frame *f) {
    Covered c;
    if (find_own_sum(*f, &c)) {
        store16(*f, c.at, 0);
        store16(*f, c.at, ~ones_complement_sum(&(*f)[c.l4], c.len, c.pseudo));
    }
}

void make_ip_sum_right(Frame *f, size_t l3) {
    if (f->at(l3) == 0x45) {
        store16(*f, l3 + 10, 0);
        store16(*f, l3 + 10, ~ones_complement_sum(&(*f)[l3], 20));
    }
}

uint16_t udp_sum(const Frame &f, const TunnelLayout &l) {
    return ones_complement_sum(&f[l.l4], f.size() - l.l4,
                               pseudo_header(f, l.l3, l.v6, l.l4_len, kUdp));
}

void make_udp_sum_right(Frame *f, const TunnelLayout &l) {
    store16(*f, l.l4 + 6, 0);
    const auto sum = static_cast<uint16_t>(~udp_sum(*f, l));
    store16(*f, l.l4 + 6, sum ? sum : 0xffff);
}

Frame with_right_sums(const Frame &f, const TunnelLayout &l) {
    Frame right = f;
    if (l.inner) {
        Frame inner(f.begin() + static_cast<ptrdiff_t>(l.inner), f.end());
        make_own_sum_right(&inner);
        std::ranges::copy(inner,
                          right.begin() + static_cast<ptrdiff_t>(l.inner));
    }
    make_udp_sum_right(&right, l);
    return right;
}

Frame completed(tunnel_kind kind, const Frame &f) {
    Frame whole = f;
    TunnelLayout l;
    if (find_tunnel(kind, f, &l)) {
        if (l.inner && f.size() - l.inner >= kEthernet) {
            model_complete_checksum(&whole[l.inner], f.size() - l.inner);
        }
        if (load16(f, l.l4 + 6) && udp_sum(f, l) == 0xffff) {
            make_udp_sum_right(&whole, l);
        }
        model_complete_checksum(whole.data(), whole.size());
    }
    return whole;
}

}  // namespace oracle
