// SPDX-License-Identifier: Apache-2.0
// Reading and writing the fields of OVS's struct flow by name.
#ifndef TESTS_ORACLE_FIELDS_H
#define TESTS_ORACLE_FIELDS_H

#include <netinet/in.h>

#include <cstring>

#include "model.h"

namespace oracle {

inline size_t size(model_field f) { return model_place_of(f).size; }

struct Fields {
    model_key key;

    uint8_t *at(model_field f) {
        return reinterpret_cast<uint8_t *>(key.word)
             + model_place_of(f).offset;
    }
    const uint8_t *at(model_field f) const {
        return const_cast<Fields *>(this)->at(f);
    }
    uint8_t u8(model_field f) const { return *at(f); }
    uint16_t u16(model_field f) const {
        return static_cast<uint16_t>(at(f)[0] << 8 | at(f)[1]);
    }
    uint32_t u32_host(model_field f) const {
        uint32_t v;
        std::memcpy(&v, at(f), sizeof v);
        return v;
    }

    // VLAN tags that OVS sees: each a TPID and a TCI with the "present" bit.
    size_t n_tags() const {
        size_t n = 0;
        while (n < 2 && at(MODEL_vlans)[4 * n + 2] & 0x10) {
            n++;
        }
        return n;
    }
    bool is_ip() const {
        return u16(MODEL_dl_type) == 0x0800 || u16(MODEL_dl_type) == 0x86dd;
    }
    // Neighbour discovery.
    bool is_nd() const {
        return u16(MODEL_dl_type) == 0x86dd
            && u8(MODEL_nw_proto) == IPPROTO_ICMPV6
            && (u16(MODEL_tp_src) == 135 || u16(MODEL_tp_src) == 136)
            && !u16(MODEL_tp_dst);
    }
};

}  // namespace oracle

#endif
